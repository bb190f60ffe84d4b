//! The calls of the five services: both directions of each step as operations on the wire, made from the request and
//! from what earlier steps answered, and one RPC for each row of the table, with a batch of them.

use std::collections::HashMap;
use std::future::Future;

use async_trait::async_trait;
use matricula_engine::{
    CallAnswer, CallError, Code, DefinitionError, Definitions, Direction, NotDefined, Outcome, Recorded, SagaState,
    Step,
};
use matricula_kit::id::SectionId;
use matricula_kit::telemetry::spans::Peer;
use matricula_kit::time::TimeZone;
use matricula_proto::academics::v1::academic_service_client::AcademicServiceClient;
use matricula_proto::academics::v1::academic_service_server;
use matricula_proto::common::v1::{Done, Operation, OperationResult};
use matricula_proto::enrollments::v1::enrollment_service_client::EnrollmentServiceClient;
use matricula_proto::enrollments::v1::enrollment_service_server;
use matricula_proto::fees::v1::fee_service_client::FeeServiceClient;
use matricula_proto::fees::v1::fee_service_server;
use matricula_proto::notifications::v1::notification_service_client::NotificationServiceClient;
use matricula_proto::notifications::v1::notification_service_server;
use matricula_proto::participant::v1::ForgetSagasRequest;
use matricula_proto::participant::v1::participant_service_client::ParticipantServiceClient;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use matricula_proto::seats::v1::seat_service_server;
use matricula_proto::{academics, enrollments, fees, notifications, seats};
use matricula_runtime::{Call, SagaId, Workload};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::answer::{self, internal};
use crate::request::RegistrationRequest;
use crate::saga::{self, step};
use crate::view::{self, Receipt};

/// Largest message that is sent or taken: a thousand operations of twenty sections.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What stands for the address of a service of this process.
const IN_PROCESS: &str = "in-process";

/// Where the services are.
#[derive(Clone)]
pub struct Channels {
    /// Seats.
    pub seats: Channel,
    /// Enrollments.
    pub enrollments: Channel,
    /// Academics.
    pub academics: Channel,
    /// Fees.
    pub fees: Channel,
    /// Notifications.
    pub notifications: Channel,
    /// The URL of each, for traces; none for a service of this process.
    pub urls: HashMap<&'static str, String>,
}

/// The workload: registrations over five services.
pub struct Registrations {
    definitions: Definitions,
    /// The services.
    pub channels: Channels,
    /// The time zone in which students are told moments.
    pub zone: TimeZone,
}

type RegistrationCall = Call<RegistrationRequest>;
type Calls<'a> = &'a [RegistrationCall];
type Made<O> = Result<O, CallError>;
type Answers = Result<Vec<CallAnswer>, CallError>;

impl Channels {
    /// A service of the table: its name on the wire, and the way to it.
    fn of(&self, destination: &str) -> Option<(&'static str, &Channel)> {
        Some(match destination {
            "seats" => (seat_service_server::SERVICE_NAME, &self.seats),
            "enrollments" => (enrollment_service_server::SERVICE_NAME, &self.enrollments),
            "academics" => (academic_service_server::SERVICE_NAME, &self.academics),
            "fees" => (fee_service_server::SERVICE_NAME, &self.fees),
            "notifications" => (notification_service_server::SERVICE_NAME, &self.notifications),
            _ => return None,
        })
    }
}

impl Registrations {
    /// Registrations over these services. Students are told moments in UTC.
    pub fn try_new(channels: Channels) -> Result<Self, DefinitionError> {
        Ok(Self { definitions: saga::definitions()?, channels, zone: TimeZone::UTC })
    }

    /// The same; its registrations begin with this version. It still knows all others.
    pub fn beginning_with(self, version: u32) -> Result<Self, NotDefined> {
        Ok(Self { definitions: self.definitions.beginning_with(version)?, ..self })
    }

    /// The same; its registrations begin with another definition, and it knows no version that is not in this set: an
    /// orchestrator of another release.
    pub fn with_definitions(self, definitions: Definitions) -> Self {
        Self { definitions, ..self }
    }

    /// The same; students are told moments as they are in the time zone of the campus.
    pub fn in_zone(self, zone: TimeZone) -> Self {
        Self { zone, ..self }
    }
}

/// Every RPC: its name in the table of steps, its client, its method, which is also the name of what makes its
/// operation, and its request.
macro_rules! rpcs {
    ($($name:ident = $text:literal => $client:ident.$method:ident($area:ident::$request:ident),)*) => {
        /// RPCs, as the table names them.
        pub(crate) mod rpc {
            $(pub(crate) const $name: &str = $text;)*
        }

        /// Calls the RPC of a name with a batch: makes the operations, sends those that could be made, and puts each
        /// answer in its place. None for a name that is not here.
        async fn call_rpc(channels: &Channels, calls: Calls<'_>, name: &str) -> Option<Answers> {
            Some(match name {
                $(rpc::$name => {
                    let send_all = |operations| async move {
                        let mut client = $client::new(channels.$area.clone())
                            .max_decoding_message_size(MESSAGE_BYTES_MAX)
                            .max_encoding_message_size(MESSAGE_BYTES_MAX);
                        let answer = client.$method(request($area::v1::$request { operations }, calls)).await;
                        answer.map(|answer| answer.into_inner().results)
                    };
                    send(calls, $method, send_all).await
                })*
                _ => return None,
            })
        }
    };
}

rpcs! {
    RESERVE_COURSES = "ReserveCourses" => AcademicServiceClient.reserve_courses(academics::ReserveCoursesRequest),
    REMOVE_COURSES = "RemoveCourses" => AcademicServiceClient.remove_courses(academics::RemoveCoursesRequest),
    SETTLE_COURSES = "SettleCourses" => AcademicServiceClient.settle_courses(academics::SettleCoursesRequest),
    HOLD_SEATS = "HoldSeats" => SeatServiceClient.hold_seats(seats::HoldSeatsRequest),
    RELEASE_SEATS = "ReleaseSeats" => SeatServiceClient.release_seats(seats::ReleaseSeatsRequest),
    ENROLL = "Enroll" => EnrollmentServiceClient.enroll(enrollments::EnrollRequest),
    CREATE_ENROLLMENTS = "CreateEnrollments"
        => EnrollmentServiceClient.create_enrollments(enrollments::CreateEnrollmentsRequest),
    CANCEL_ENROLLMENTS = "CancelEnrollments"
        => EnrollmentServiceClient.cancel_enrollments(enrollments::CancelEnrollmentsRequest),
    COMMIT_ENROLLMENTS = "CommitEnrollments"
        => EnrollmentServiceClient.commit_enrollments(enrollments::CommitEnrollmentsRequest),
    WITHDRAW_COMMIT = "WithdrawCommit" => EnrollmentServiceClient.withdraw_commit(enrollments::WithdrawCommitRequest),
    ASSESS_FEES = "AssessFees" => FeeServiceClient.assess_fees(fees::AssessFeesRequest),
    VOID_FEES = "VoidFees" => FeeServiceClient.void_fees(fees::VoidFeesRequest),
    REFUND_FEES = "RefundFees" => FeeServiceClient.refund_fees(fees::RefundFeesRequest),
    SEND_NOTIFICATION = "SendNotification"
        => NotificationServiceClient.send_notification(notifications::SendNotificationRequest),
}

#[async_trait]
impl Workload for Registrations {
    type Request = RegistrationRequest;

    fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    fn applies(&self, request: &RegistrationRequest) -> Vec<&'static str> {
        saga::applies(self.definitions.current(), request)
    }

    fn is_waited_for(&self, step: &Step, request: &RegistrationRequest) -> bool {
        saga::is_waited_for(step, request)
    }

    fn peer(&self, destination: &'static str) -> Peer {
        let service = self.channels.of(destination).map_or("", |(name, _)| name);
        match self.channels.urls.get(destination) {
            Some(url) => Peer::at(service, url),
            None => Peer { service, address: IN_PROCESS.to_owned(), port: None },
        }
    }

    async fn call(&self, destination: &'static str, rpc: &'static str, calls: Calls<'_>) -> Answers {
        let answers = call_rpc(&self.channels, calls, rpc).await;
        answers.unwrap_or_else(|| {
            let message = format!("the table names {destination}.{rpc}, which nothing here calls");
            Err(CallError::new(Code::Unimplemented, message, None))
        })
    }

    async fn forget(&self, destination: &'static str, sagas: &[SagaId]) -> Result<(), CallError> {
        let Some((_, channel)) = self.channels.of(destination) else {
            let message = format!("the table names {destination}, which nothing here knows");
            return Err(CallError::new(Code::Unimplemented, message, None));
        };
        let saga_ids = sagas.iter().map(SagaId::to_string).collect();
        let mut client = ParticipantServiceClient::new(channel.clone());
        let forgotten = client.forget_sagas(Request::new(ForgetSagasRequest { saga_ids })).await;
        forgotten.map(|_| ()).map_err(|status| call_error(&status))
    }

    fn receipt(&self, _: &RegistrationRequest, state: &SagaState, log: &[Recorded]) -> Result<String, String> {
        serde_json::to_string(&Receipt::new(state, log)).map_err(|error| error.to_string())
    }
}

/// A request with a batch. It is part of the first trace that is recorded, so that the service's part of that trace can
/// be found by what knows nothing of operations; each operation has its own.
fn request<M>(message: M, calls: Calls<'_>) -> Request<M> {
    let mut request = Request::new(message);
    if let Some(call) = calls.iter().find(|call| call.trace.is_wanted()) {
        call.trace.to_metadata(request.metadata_mut());
    }
    request
}

async fn send<O, F>(
    calls: Calls<'_>,
    make: impl Fn(&RegistrationCall) -> Made<O>,
    rpc: impl FnOnce(Vec<O>) -> F,
) -> Answers
where
    F: Future<Output = Result<Vec<OperationResult>, Status>>,
{
    let mut operations = Vec::with_capacity(calls.len());
    // An operation that can't be made is its own saga's problem, and no other's.
    let made: Vec<Made<()>> = calls.iter().map(|call| make(call).map(|operation| operations.push(operation))).collect();
    let sent = operations.len();
    let results = match sent {
        0 => Vec::new(),
        _ => rpc(operations).await.map_err(|status| call_error(&status))?,
    };
    if results.len() != sent {
        return Err(internal(format!("{} results for {sent} operations", results.len())));
    }
    let mut results = results.into_iter();
    let answers = made.into_iter().map(|made| {
        let result = made.and_then(|()| results.next().ok_or_else(|| internal("a result is missing")));
        result.map_or_else(CallAnswer::Unknown, answer::to_log)
    });
    Ok(answers.collect())
}

/// A gRPC error as the engine knows it, with the time after which the service wants to be called again.
fn call_error(status: &Status) -> CallError {
    let retry_after = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    let retry_after_ms = retry_after.map(|delay| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
    CallError::new(Code::from_number(status.code() as i32), status.message(), retry_after_ms)
}

/// The saga's step and the trace, as every operation carries them.
fn operation(call: &RegistrationCall) -> Option<Operation> {
    Some(Operation {
        saga_id: call.saga.to_string(),
        step: call.step_name.to_owned(),
        traceparent: call.trace.traceparent.clone(),
        tracestate: call.trace.tracestate.clone(),
        owner_alive_at: Some(call.owner_alive_at.to_wire()),
    })
}

fn student(call: &RegistrationCall) -> String {
    call.request.student.as_str().to_owned()
}

fn ids(sections: &[SectionId]) -> Vec<String> {
    sections.iter().map(|section| section.as_str().to_owned()).collect()
}

/// What the academic service put on the record: courses, credits, and where dropped sections came from.
fn reserved(call: &RegistrationCall) -> Made<Done> {
    answer::done(&call.state, step::RESERVE_COURSES).map(Done::from)
}

/// Operations that name their saga and its student: the service knows the rest from an earlier step.
macro_rules! of_saga_alone {
    ($($operation:ident: $message:ty,)*) => {$(
        fn $operation(call: &RegistrationCall) -> Made<$message> {
            type Message = $message;
            Ok(Message { operation: operation(call), student_id: student(call) })
        }
    )*};
}

of_saga_alone! {
    remove_courses: academics::v1::RemoveCoursesOperation,
    settle_courses: academics::v1::SettleCoursesOperation,
    cancel_enrollments: enrollments::v1::CancelEnrollmentsOperation,
    commit_enrollments: enrollments::v1::CommitEnrollmentsOperation,
    withdraw_commit: enrollments::v1::WithdrawCommitOperation,
    void_fees: fees::v1::VoidFeesOperation,
}

fn reserve_courses(call: &RegistrationCall) -> Made<academics::v1::ReserveCoursesOperation> {
    Ok(academics::v1::ReserveCoursesOperation {
        operation: operation(call),
        student_id: student(call),
        adds: ids(&call.request.adds),
        drops: ids(&call.request.drops),
        submitted_at: Some(call.request.submitted_at.to_wire()),
        of_roster: call.request.roster.is_some(),
    })
}

fn hold_seats(call: &RegistrationCall) -> Made<seats::v1::HoldSeatsOperation> {
    Ok(seats::v1::HoldSeatsOperation {
        operation: operation(call),
        student_id: student(call),
        sections: reserved(call)?.added,
    })
}

/// One RPC, two uses: it undoes `hold_seats`, and it gives back the seats of dropped sections.
fn release_seats(call: &RegistrationCall) -> Made<seats::v1::ReleaseSeatsOperation> {
    use seats::v1::release_seats_operation::Target;
    let target = match call.direction {
        Direction::Compensation => Target::HeldByStep(seats::v1::HeldByStep {}),
        Direction::Forward => Target::Dropped(seats::v1::DroppedSections { sections: reserved(call)?.dropped }),
    };
    Ok(seats::v1::ReleaseSeatsOperation { operation: operation(call), student_id: student(call), target: Some(target) })
}

fn enroll(call: &RegistrationCall) -> Made<enrollments::v1::EnrollOperation> {
    let reserved = reserved(call)?;
    Ok(enrollments::v1::EnrollOperation {
        operation: operation(call),
        student_id: student(call),
        adds: reserved.added,
        drops: reserved.dropped,
        roster_row_id: roster_row(call),
    })
}

fn create_enrollments(call: &RegistrationCall) -> Made<enrollments::v1::CreateEnrollmentsOperation> {
    let reserved = reserved(call)?;
    Ok(enrollments::v1::CreateEnrollmentsOperation {
        operation: operation(call),
        student_id: student(call),
        adds: reserved.added,
        drops: reserved.dropped,
        roster_row_id: roster_row(call),
    })
}

fn roster_row(call: &RegistrationCall) -> String {
    call.request.roster.as_ref().map(|roster| roster.row.to_string()).unwrap_or_default()
}

fn assess_fees(call: &RegistrationCall) -> Made<fees::v1::AssessFeesOperation> {
    use fees::v1::ChargeBasis;
    let basis = match &call.request.roster {
        None => ChargeBasis::Unspecified,
        Some(roster) if roster.charge => ChargeBasis::RatesWithoutLimit,
        Some(_) => ChargeBasis::Waived,
    };
    Ok(fees::v1::AssessFeesOperation {
        operation: operation(call),
        student_id: student(call),
        adds: reserved(call)?.added,
        basis: basis.into(),
    })
}

fn refund_fees(call: &RegistrationCall) -> Made<fees::v1::RefundFeesOperation> {
    Ok(fees::v1::RefundFeesOperation {
        operation: operation(call),
        student_id: student(call),
        drops: reserved(call)?.dropped,
        effective_at: Some(call.request.submitted_at.to_wire()),
    })
}

fn send_notification(call: &RegistrationCall) -> Made<notifications::v1::SendNotificationOperation> {
    use notifications::v1::NotifiedOutcome;
    let outcome = match call.state.outcome() {
        Outcome::Committed => NotifiedOutcome::Enrolled,
        Outcome::Refused => NotifiedOutcome::Refused,
        Outcome::Cancelled | Outcome::TimedOut => NotifiedOutcome::Cancelled,
        Outcome::Pending => return Err(internal("the outcome is open")),
    };
    Ok(notifications::v1::SendNotificationOperation {
        operation: operation(call),
        student_id: student(call),
        outcome: outcome.into(),
        added_section_ids: ids(&call.request.adds),
        dropped_section_ids: ids(&call.request.drops),
        reasons: view::told(&call.state, &call.request),
        charged: view::charged(&call.state).map(Into::into),
        not_wanted: call.request.roster.is_some(),
    })
}
