//! The result in the services: their ledgers, the effects of each saga in them, and the audit.

use std::collections::HashMap;

use matricula_audit::{Ledgers, Report, audit};
use matricula_engine::SagaState;
use matricula_proto::academics::v1::academic_service_client::AcademicServiceClient;
use matricula_proto::common::v1::EnrollmentStatus;
use matricula_proto::enrollments::v1::enrollment_service_client::EnrollmentServiceClient;
use matricula_proto::fees::v1::PostingKind;
use matricula_proto::fees::v1::fee_service_client::FeeServiceClient;
use matricula_proto::notifications::v1::notification_service_client::NotificationServiceClient;
use matricula_proto::ops::v1::{ExportLedgerResponse, SagaPhase};
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use matricula_proto::{academics, enrollments, fees, notifications, seats};
use matricula_registration::saga::step;
use matricula_registration::{Channels, RegistrationRequest, RegistrationView};
use matricula_runtime::{SagaId, Ticket};
use matricula_testkit::Effects;
use tonic::{Response, Status, Streaming};

/// Reads the ledgers of the services. The ledger of registrations belongs to the orchestrator.
pub async fn read(channels: &Channels) -> Ledgers {
    let mut ledgers = Ledgers::default();
    let opened = SeatServiceClient::new(channels.seats.clone()).export_ledger(seats::v1::ExportLedgerRequest {}).await;
    each(opened, |entry| ledgers.add_seats(entry)).await;
    let opened = EnrollmentServiceClient::new(channels.enrollments.clone())
        .export_ledger(enrollments::v1::ExportLedgerRequest {})
        .await;
    each(opened, |entry| ledgers.add_enrollments(entry)).await;
    let opened = AcademicServiceClient::new(channels.academics.clone())
        .export_ledger(academics::v1::ExportLedgerRequest {})
        .await;
    each(opened, |entry| ledgers.add_academics(entry)).await;
    let opened = FeeServiceClient::new(channels.fees.clone()).export_ledger(fees::v1::ExportLedgerRequest {}).await;
    each(opened, |entry| ledgers.add_fees(entry)).await;
    let opened = NotificationServiceClient::new(channels.notifications.clone())
        .export_ledger(notifications::v1::ExportLedgerRequest {})
        .await;
    each(opened, |entry| ledgers.add_notifications(entry)).await;
    ledgers
}

async fn each<T>(opened: Result<Response<Streaming<T>>, Status>, mut take: impl FnMut(T)) {
    let mut stream = opened.expect("a ledger").into_inner();
    while let Some(entry) = stream.message().await.expect("an entry") {
        take(entry);
    }
}

/// The ledgers by registration.
pub struct Traces<'a>(HashMap<&'a str, Trace<'a>>);

/// The entries of the ledgers for one registration: its adds, and its drops of other registrations' adds.
#[derive(Default)]
struct Trace<'a> {
    courses: Vec<&'a academics::v1::RecordedCourse>,
    dropped_courses: Vec<&'a academics::v1::RecordedCourse>,
    holds: Vec<&'a seats::v1::SeatHold>,
    enrollments: Vec<&'a enrollments::v1::Enrollment>,
    dropped_enrollments: Vec<&'a enrollments::v1::Enrollment>,
    postings: Vec<&'a fees::v1::Posting>,
    refunds: usize,
    notifications: usize,
}

impl<'a> Traces<'a> {
    pub fn of(ledgers: &'a Ledgers) -> Self {
        let mut traces: HashMap<&str, Trace<'_>> = HashMap::new();
        for course in &ledgers.courses {
            traces.entry(&course.registration_id).or_default().courses.push(course);
            traces.entry(&course.dropped_by_registration_id).or_default().dropped_courses.push(course);
        }
        for hold in &ledgers.holds {
            traces.entry(&hold.registration_id).or_default().holds.push(hold);
        }
        for enrollment in &ledgers.enrollments {
            traces.entry(&enrollment.registration_id).or_default().enrollments.push(enrollment);
            traces.entry(&enrollment.dropped_by_registration_id).or_default().dropped_enrollments.push(enrollment);
        }
        for posting in &ledgers.postings {
            match posting.kind() {
                PostingKind::Refund => traces.entry(&posting.caused_by_registration_id).or_default().refunds += 1,
                _ => traces.entry(&posting.registration_id).or_default().postings.push(posting),
            }
        }
        for notification in &ledgers.notifications {
            traces.entry(&notification.registration_id).or_default().notifications += 1;
        }
        Self(traces)
    }

    /// How often each step has its effect, for a registration with one section to add, or one to drop that an earlier
    /// registration had added, or both.
    pub fn effects(&self, saga: SagaId, earlier: Option<SagaId>, adds: bool) -> Effects {
        use EnrollmentStatus::{Dropped, Enrolled, Pending};
        let none = Trace::default();
        let own = self.0.get(saga.to_string().as_str()).unwrap_or(&none);
        let earlier = earlier.and_then(|saga| self.0.get(saga.to_string().as_str())).unwrap_or(&none);
        let courses = |of: &[EnrollmentStatus]| match adds {
            true => own.courses.iter().filter(|course| of.contains(&course.status())).count(),
            false => own.dropped_courses.iter().filter(|course| of.contains(&course.status())).count(),
        };
        let enrollments = |of: &[EnrollmentStatus]| match adds {
            true => own.enrollments.iter().filter(|enrollment| of.contains(&enrollment.status())).count(),
            false => own.dropped_enrollments.iter().filter(|enrollment| of.contains(&enrollment.status())).count(),
        };
        let last = if adds { Enrolled } else { Dropped };
        let charges = |kind| own.postings.iter().filter(|posting| posting.kind() == kind).count();
        let counts = [
            (step::RESERVE_COURSES, courses(&[Pending, Enrolled, Dropped])),
            (step::HOLD_SEATS, own.holds.iter().filter(|hold| hold.released_at.is_none()).count()),
            (step::CREATE_ENROLLMENTS, enrollments(&[Pending, Enrolled, Dropped])),
            (step::ASSESS_FEES, charges(PostingKind::Charge).abs_diff(charges(PostingKind::Void))),
            (step::COMMIT_ENROLLMENTS, enrollments(&[last])),
            (step::ENROLL, enrollments(&[Pending, last])),
            (step::SETTLE_COURSES, courses(&[last])),
            (step::RELEASE_DROPPED_SEATS, earlier.holds.iter().filter(|hold| hold.released_at.is_some()).count()),
            (step::REFUND_FEES, own.refunds),
            (step::NOTIFY, own.notifications),
        ];
        counts.into_iter().map(|(step, count)| (step, i64::try_from(count).expect("a small number"))).collect()
    }
}

/// A registration for the audit, as the orchestrator would export it.
pub fn registration(id: SagaId, request: &RegistrationRequest, state: &SagaState) -> ExportLedgerResponse {
    let name = format!("SAGA_PHASE_{}", state.phase().as_str().to_uppercase());
    let phase = SagaPhase::from_str_name(&name).expect("every phase has its name on the wire");
    let (ticket, idempotency_key) = (Ticket::default(), id.to_string());
    let view = RegistrationView { id, ticket, idempotency_key: &idempotency_key, request, state: Some(state) };
    ExportLedgerResponse { registration: Some(view.to_wire()), phase: phase.into(), ..Default::default() }
}

/// Proves the invariants when no saga is under way.
pub fn prove(mut ledgers: Ledgers, registrations: Vec<ExportLedgerResponse>) -> Report {
    ledgers.registrations_before.clone_from(&registrations);
    ledgers.registrations_after = registrations;
    audit(&ledgers)
}
