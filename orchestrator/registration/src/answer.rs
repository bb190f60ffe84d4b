//! The answers of the services: from the wire to the log as JSON, and from the log back to the wire.
//!
//! ```text
//! OperationResult --to_log--> CallAnswer (JSON) --log--> done, refusals --> operations of later steps, the student's answer
//! ```
//!
//! Promises: an answer is decoded once in each direction, with nothing between the wire and JSON; the JSON has the
//! fields that the log has always had; an answer that can't be understood is unknown, never a refusal.

use matricula_engine::{CallAnswer, CallError, Code, SagaState};
use matricula_kit::id::{InvalidId, check_id, check_imported_id};
use matricula_kit::rpc::FieldError;
use matricula_proto::common::v1 as wire;
use matricula_proto::common::v1::operation_result::Outcome;
use serde::Serialize;

use self::stored::InForm;
pub(crate) use self::stored::{list, optional};

mod stored;

/// The engine's answer to one operation.
pub(crate) fn to_log(result: wire::OperationResult) -> CallAnswer {
    let understood = match result.outcome {
        Some(Outcome::Done(done)) => check_done(&done).and_then(|()| to_json(&InForm(&done))).map(CallAnswer::Done),
        Some(Outcome::Refused(refused)) => {
            check_refused(&refused).and_then(|()| refusals_to_json(&refused.reasons)).map(CallAnswer::Refused)
        }
        Some(Outcome::Error(error)) => {
            let retry_after_ms = (error.retry_after_ms > 0).then_some(error.retry_after_ms);
            let message = format!("{}: {}", error.reason, error.message);
            let failed = CallError::new(Code::from_number(error.code), message, retry_after_ms);
            let waits_for = Some(error.waits_for_saga_id).filter(|saga| check_id(saga).is_ok());
            Err(CallError { waits_for, ..failed })
        }
        None => Err(internal("the result is empty")),
    };
    understood.unwrap_or_else(CallAnswer::Unknown)
}

/// What a step has done.
pub(crate) fn done(state: &SagaState, step: &str) -> Result<wire::Done, CallError> {
    let text = state.output(step).ok_or_else(|| internal(format!("{step} has not answered")))?;
    let done = serde_json::from_str(text).map(|InForm(done)| done);
    done.map_err(|error| internal(format!("the answer of {step} can't be read: {error}")))
}

/// The reasons of a refusal of the log.
pub(crate) fn refusals(text: &str) -> Result<Vec<wire::Refusal>, serde_json::Error> {
    serde_json::from_str::<Vec<InForm<_>>>(text).map(stored::unwrapped)
}

/// The reasons of a refusal, as the log has them.
fn refusals_to_json(reasons: &[wire::Refusal]) -> Result<String, CallError> {
    to_json(&reasons.iter().map(InForm).collect::<Vec<_>>())
}

fn to_json(form: &impl Serialize) -> Result<String, CallError> {
    serde_json::to_string(form).map_err(unreadable)
}

pub(crate) fn internal(message: impl Into<String>) -> CallError {
    CallError::new(Code::Internal, message, None)
}

fn unreadable(error: impl std::fmt::Display) -> CallError {
    internal(format!("the answer can't be read: {error}"))
}

fn check_done(done: &wire::Done) -> Result<(), CallError> {
    for course in &done.added {
        match course.closed_section_override_id.as_str() {
            "" => {}
            id => check("closed_section_override_id", check_id(id))?,
        }
        check("section_id", check_imported_id(&course.section_id))?;
        check("course_id", check_imported_id(&course.course_id))?;
        check("term_id", check_imported_id(&course.term_id))?;
    }
    for course in &done.dropped {
        check("section_id", check_imported_id(&course.section_id))?;
        check("course_id", check_imported_id(&course.course_id))?;
        check("registration_id", check_id(&course.registration_id))?;
    }
    Ok(())
}

fn check_refused(refused: &wire::Refused) -> Result<(), CallError> {
    for refusal in &refused.reasons {
        if stored::reason::of(refusal.reason).is_none() {
            let unknown = format!("unknown reason {}", refusal.reason);
            return Err(unreadable(FieldError::new("reason", unknown)));
        }
        if !refusal.section_id.is_empty() {
            check("section_id", check_imported_id(&refusal.section_id))?;
        }
    }
    Ok(())
}

fn check(field: &str, checked: Result<(), InvalidId>) -> Result<(), CallError> {
    checked.map_err(|problem| unreadable(FieldError::new(field, problem.to_string())))
}

#[cfg(test)]
mod tests;
