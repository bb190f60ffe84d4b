//! Both directions of each step as operations on the wire, made from the request and from what earlier steps answered.

use matricula_engine::{CallError, Direction, Outcome};
use matricula_kit::id::SectionId;
use matricula_proto::{academics, common, enrollments, fees, notifications, seats};
use matricula_runtime::Call;

use crate::answer::{done, internal};
use crate::request::RegistrationRequest;
use crate::saga::step;
use crate::view;

type Made<O> = Result<O, CallError>;
type RegistrationCall = Call<RegistrationRequest>;

/// The saga's step and the trace, as every operation carries them.
fn operation(call: &RegistrationCall) -> Option<common::v1::Operation> {
    Some(common::v1::Operation {
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
fn reserved(call: &RegistrationCall) -> Made<common::v1::Done> {
    done(&call.state, step::RESERVE_COURSES)
}

pub(crate) fn reserve_courses(call: &RegistrationCall) -> Made<academics::v1::ReserveCoursesOperation> {
    Ok(academics::v1::ReserveCoursesOperation {
        operation: operation(call),
        student_id: student(call),
        adds: ids(&call.request.adds),
        drops: ids(&call.request.drops),
        submitted_at: Some(call.request.submitted_at.to_wire()),
        of_roster: call.request.roster.is_some(),
    })
}

pub(crate) fn remove_courses(call: &RegistrationCall) -> Made<academics::v1::RemoveCoursesOperation> {
    Ok(academics::v1::RemoveCoursesOperation { operation: operation(call), student_id: student(call) })
}

pub(crate) fn settle_courses(call: &RegistrationCall) -> Made<academics::v1::SettleCoursesOperation> {
    Ok(academics::v1::SettleCoursesOperation { operation: operation(call), student_id: student(call) })
}

pub(crate) fn hold_seats(call: &RegistrationCall) -> Made<seats::v1::HoldSeatsOperation> {
    Ok(seats::v1::HoldSeatsOperation {
        operation: operation(call),
        student_id: student(call),
        sections: reserved(call)?.added,
    })
}

/// One RPC, two uses: it undoes `hold_seats`, and it gives back the seats of dropped sections.
pub(crate) fn release_seats(call: &RegistrationCall) -> Made<seats::v1::ReleaseSeatsOperation> {
    use seats::v1::release_seats_operation::Target;
    let target = match call.direction {
        Direction::Compensation => Target::HeldByStep(seats::v1::HeldByStep {}),
        Direction::Forward => Target::Dropped(seats::v1::DroppedSections { sections: reserved(call)?.dropped }),
    };
    Ok(seats::v1::ReleaseSeatsOperation { operation: operation(call), student_id: student(call), target: Some(target) })
}

pub(crate) fn create_enrollments(call: &RegistrationCall) -> Made<enrollments::v1::CreateEnrollmentsOperation> {
    let reserved = reserved(call)?;
    Ok(enrollments::v1::CreateEnrollmentsOperation {
        operation: operation(call),
        student_id: student(call),
        adds: reserved.added,
        drops: reserved.dropped,
        roster_row_id: call.request.roster.as_ref().map(|roster| roster.row.to_string()).unwrap_or_default(),
    })
}

pub(crate) fn cancel_enrollments(call: &RegistrationCall) -> Made<enrollments::v1::CancelEnrollmentsOperation> {
    Ok(enrollments::v1::CancelEnrollmentsOperation { operation: operation(call), student_id: student(call) })
}

pub(crate) fn commit_enrollments(call: &RegistrationCall) -> Made<enrollments::v1::CommitEnrollmentsOperation> {
    Ok(enrollments::v1::CommitEnrollmentsOperation { operation: operation(call), student_id: student(call) })
}

pub(crate) fn withdraw_commit(call: &RegistrationCall) -> Made<enrollments::v1::WithdrawCommitOperation> {
    Ok(enrollments::v1::WithdrawCommitOperation { operation: operation(call), student_id: student(call) })
}

pub(crate) fn assess_fees(call: &RegistrationCall) -> Made<fees::v1::AssessFeesOperation> {
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

pub(crate) fn void_fees(call: &RegistrationCall) -> Made<fees::v1::VoidFeesOperation> {
    Ok(fees::v1::VoidFeesOperation { operation: operation(call), student_id: student(call) })
}

pub(crate) fn refund_fees(call: &RegistrationCall) -> Made<fees::v1::RefundFeesOperation> {
    Ok(fees::v1::RefundFeesOperation {
        operation: operation(call),
        student_id: student(call),
        drops: reserved(call)?.dropped,
        effective_at: Some(call.request.submitted_at.to_wire()),
    })
}

pub(crate) fn send_notification(call: &RegistrationCall) -> Made<notifications::v1::SendNotificationOperation> {
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
        charged: view::charged(&call.state),
        not_wanted: call.request.roster.is_some(),
    })
}
