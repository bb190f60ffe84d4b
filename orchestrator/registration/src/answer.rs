//! The answers of the services: from the wire to the log as JSON, and from the log back.
//!
//! ```text
//! OperationResult --to_log--> CallAnswer (JSON) --log--> done, refusals --> later operations, student's answer
//! ```
//!
//! Promises: the log has an answer in the form of the kit, as the barriers of the services have it. An answer that
//! can't be read is unknown, never a refusal.

use matricula_engine::{CallAnswer, CallError, Code, SagaState};
use matricula_kit::answer::{Done, Refusal};
use matricula_kit::id::check_id;
use matricula_kit::rpc::FieldError;
use matricula_proto::common::v1 as wire;
use matricula_proto::common::v1::operation_result::Outcome;
use serde::Serialize;

/// The engine's answer to one operation.
pub(crate) fn to_log(result: wire::OperationResult) -> CallAnswer {
    let understood = match result.outcome {
        Some(Outcome::Done(done)) => understood_done(done).and_then(|done| to_json(&done)).map(CallAnswer::Done),
        Some(Outcome::Refused(refused)) => {
            let reasons: Result<Vec<Refusal>, _> = each(refused.reasons);
            reasons.and_then(|reasons| to_json(&reasons)).map(CallAnswer::Refused)
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

/// The result of a step that has succeeded.
pub(crate) fn done(state: &SagaState, step: &str) -> Result<Done, CallError> {
    let text = state.output(step).ok_or_else(|| internal(format!("{step} has not answered")))?;
    serde_json::from_str(text).map_err(|error| internal(format!("the answer of {step} can't be read: {error}")))
}

/// The reasons of a refusal in the log.
pub(crate) fn refusals(text: &str) -> Result<Vec<Refusal>, serde_json::Error> {
    serde_json::from_str(text)
}

pub(crate) fn internal(message: impl Into<String>) -> CallError {
    CallError::new(Code::Internal, message, None)
}

fn understood_done(done: wire::Done) -> Result<Done, CallError> {
    let wire::Done { added, dropped, amount } = done;
    Ok(Done { added: each(added)?, dropped: each(dropped)?, amount: amount.map(Into::into) })
}

fn each<W, T: TryFrom<W, Error = FieldError>>(messages: Vec<W>) -> Result<Vec<T>, CallError> {
    messages.into_iter().map(T::try_from).collect::<Result<_, _>>().map_err(unreadable)
}

fn to_json(value: &impl Serialize) -> Result<String, CallError> {
    serde_json::to_string(value).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> CallError {
    internal(format!("the answer can't be read: {error}"))
}

#[cfg(test)]
mod tests;
