//! The calls of the services: each service with its RPCs, and the operation of a call in either direction, made from
//! the request and from the answers of earlier steps.

use std::collections::HashMap;
use std::pin::Pin;

use matricula_engine::{CallAnswer, CallError, Code, Direction, Outcome};
use matricula_kit::id::SectionId;
use matricula_proto::common::v1::{Done, Operation, OperationResult};
use matricula_proto::{academics, enrollments, fees, notifications, seats};
use matricula_runtime::Call;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::answer::{self, internal};
use crate::request::RegistrationRequest;
use crate::saga::step;
use crate::view;

/// Largest message in either direction: a thousand operations of twenty sections.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

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
    /// The URL of each, for traces. A service of this process has none.
    pub urls: HashMap<&'static str, String>,
}

/// An RPC of a service, for a batch of calls.
#[derive(Clone, Copy)]
pub(crate) struct Rpc {
    /// The service in the definition of the saga.
    pub service: &'static str,
    /// The name in the definition of the saga, in metrics and in traces.
    pub name: &'static str,
    /// Makes the operations, sends those that could be made, and returns an answer for each call, in their order.
    pub call: for<'a> fn(&'a Channels, Calls<'a>) -> Answering<'a>,
}

pub(crate) type RegistrationCall = Call<RegistrationRequest>;
pub(crate) type Calls<'a> = &'a [RegistrationCall];
pub(crate) type Answers = Result<Vec<CallAnswer>, CallError>;
type Answering<'a> = Pin<Box<dyn Future<Output = Answers> + Send + 'a>>;
type Made<O> = Result<O, CallError>;

/// A service: its channel and package, its client, its server; then its RPCs: the constant, the name, the method, which
/// is also the function that makes the operation, and the request.
macro_rules! services {
    ($($area:ident: $client_module:ident::$client:ident, $server:ident {
        $($rpc:ident = $name:literal: $method:ident($request:ident);)*
    })*) => {
        /// The RPCs of each service.
        pub(crate) mod rpc {
            $(pub(crate) mod $area {
                use matricula_proto::$area::v1::$client_module::$client;

                use crate::calls::{self, Rpc};

                $(pub(crate) const $rpc: Rpc = Rpc {
                    service: stringify!($area),
                    name: $name,
                    call: |channels, calls| Box::pin(async move {
                        let (operations, made) = calls::operations(calls, calls::$method);
                        let mut results = Vec::new();
                        if !operations.is_empty() {
                            let request = matricula_proto::$area::v1::$request { operations };
                            let mut client = $client::new(channels.$area.clone())
                                .max_decoding_message_size(calls::MESSAGE_BYTES_MAX)
                                .max_encoding_message_size(calls::MESSAGE_BYTES_MAX);
                            let sent = client.$method(calls::request(request, calls)).await;
                            results = sent.map_err(|status| calls::call_error(&status))?.into_inner().results;
                        }
                        calls::answers(made, results)
                    }),
                };)*
            })*
        }

        impl Channels {
            /// The gRPC name of a service of the table, and its channel.
            pub(crate) fn of(&self, service: &str) -> Option<(&'static str, &Channel)> {
                $(if service == stringify!($area) {
                    return Some((matricula_proto::$area::v1::$server::SERVICE_NAME, &self.$area));
                })*
                None
            }
        }
    };
}

services! {
    academics: academic_service_client::AcademicServiceClient, academic_service_server {
        RESERVE_COURSES = "ReserveCourses": reserve_courses(ReserveCoursesRequest);
        REMOVE_COURSES = "RemoveCourses": remove_courses(RemoveCoursesRequest);
        SETTLE_COURSES = "SettleCourses": settle_courses(SettleCoursesRequest);
    }
    seats: seat_service_client::SeatServiceClient, seat_service_server {
        HOLD_SEATS = "HoldSeats": hold_seats(HoldSeatsRequest);
        RELEASE_SEATS = "ReleaseSeats": release_seats(ReleaseSeatsRequest);
    }
    enrollments: enrollment_service_client::EnrollmentServiceClient, enrollment_service_server {
        ENROLL = "Enroll": enroll(EnrollRequest);
        CREATE_ENROLLMENTS = "CreateEnrollments": create_enrollments(CreateEnrollmentsRequest);
        CANCEL_ENROLLMENTS = "CancelEnrollments": cancel_enrollments(CancelEnrollmentsRequest);
        COMMIT_ENROLLMENTS = "CommitEnrollments": commit_enrollments(CommitEnrollmentsRequest);
        WITHDRAW_COMMIT = "WithdrawCommit": withdraw_commit(WithdrawCommitRequest);
    }
    fees: fee_service_client::FeeServiceClient, fee_service_server {
        ASSESS_FEES = "AssessFees": assess_fees(AssessFeesRequest);
        VOID_FEES = "VoidFees": void_fees(VoidFeesRequest);
        REFUND_FEES = "RefundFees": refund_fees(RefundFeesRequest);
    }
    notifications: notification_service_client::NotificationServiceClient, notification_service_server {
        SEND_NOTIFICATION = "SendNotification": send_notification(SendNotificationRequest);
    }
}

/// The operations of the calls, and for each call whether its operation could be made. A call whose operation can't be
/// made must not keep the other sagas of the batch from going on.
fn operations<O>(calls: Calls<'_>, make: fn(&RegistrationCall) -> Made<O>) -> (Vec<O>, Vec<Made<()>>) {
    let mut operations = Vec::with_capacity(calls.len());
    let made = calls.iter().map(|call| make(call).map(|operation| operations.push(operation))).collect();
    (operations, made)
}

/// A request with a batch. The request belongs to the first trace of the batch that is recorded, so that a tool that
/// knows no operations finds the service's part of it. Each operation has its own trace.
fn request<M>(message: M, calls: Calls<'_>) -> Request<M> {
    let mut request = Request::new(message);
    if let Some(call) = calls.iter().find(|call| call.trace.is_wanted()) {
        call.trace.to_metadata(request.metadata_mut());
    }
    request
}

/// An answer for each call: its result, or why its operation could not be made.
fn answers(made: Vec<Made<()>>, results: Vec<OperationResult>) -> Answers {
    let sent = made.iter().filter(|made| made.is_ok()).count();
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

/// A gRPC error as the engine has it, with the delay that the service has requested.
pub(crate) fn call_error(status: &Status) -> CallError {
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

/// The answer of the academic service: courses, credits, and the registrations that added the dropped sections.
fn reserved(call: &RegistrationCall) -> Made<Done> {
    answer::done(&call.state, step::RESERVE_COURSES).map(Done::from)
}

/// Operations that name their saga and its student. The service has the rest from an earlier step.
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

/// The compensation of `hold_seats`, and the action that gives back the seats of dropped sections.
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
        reasons: view::reasons_with_seen(view::reasons(&call.state), &call.request),
        charged: view::charged(&call.state).map(Into::into),
        not_wanted: call.request.roster.is_some(),
    })
}
