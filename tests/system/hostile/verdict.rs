//! The allowed answers to a hostile message: success, or one of the documented errors with its details; never an
//! internal error, an unknown one, or silence.

use std::time::Duration;

use bytes::Bytes;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::rpcs::Rpc;

/// Longest time for an answer, which limits a broken build on a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Codes of the contract for errors of the caller, or for a call that should be repeated later.
const DOCUMENTED: [Code; 6] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::FailedPrecondition,
    Code::ResourceExhausted,
    Code::OutOfRange,
];
/// Reasons for which a valid call may have to be repeated.
const COME_AGAIN: [&str; 3] = ["NOT_CANCELLED_YET", "AVAILABILITY_NOT_READY", "PLAN_OUTDATED"];

/// The violation in the answer to a message, if there is one.
pub fn complaint(
    rpc: &Rpc,
    sent: Option<&DynamicMessage>,
    answer: &Result<Vec<Bytes>, Status>,
    took: Duration,
) -> Option<String> {
    if took > ANSWERED_WITHIN {
        return Some(format!("answered after {took:?}"));
    }
    match answer {
        Ok(messages) => messages.iter().find_map(|message| {
            let message = DynamicMessage::decode(rpc.output.clone(), message.clone());
            message.map_or_else(|error| Some(format!("the answer can't be read: {error}")), |it| error_within(&it))
        }),
        Err(status) => wrong_status(sent, status),
    }
}

/// An operation with an error that the caller has not caused.
fn error_within(message: &DynamicMessage) -> Option<String> {
    if message.descriptor().name() == "OperationError" {
        let code = message.get_field_by_name("code").and_then(|code| code.as_i32()).unwrap_or_default();
        return (Code::from(code) != Code::Aborted).then(|| format!("an operation has {message}"));
    }
    message.fields().find_map(|(_, value)| match value {
        Value::Message(inner) => error_within(inner),
        Value::List(elements) => elements.iter().filter_map(Value::as_message).find_map(error_within),
        _ => None,
    })
}

fn wrong_status(sent: Option<&DynamicMessage>, status: &Status) -> Option<String> {
    let info = status.get_details_error_info();
    let reason = info.as_ref().map(|info| info.reason.as_str()).unwrap_or_default();
    // The library answers a message that can't be decoded, without details.
    let undecodable = sent.is_none() && matches!(status.code(), Code::Internal | Code::Unimplemented);
    let may_come_again = matches!(status.code(), Code::Unavailable | Code::Aborted) && COME_AGAIN.contains(&reason);
    if undecodable || may_come_again {
        return None;
    }
    if !DOCUMENTED.contains(&status.code()) {
        return Some(format!("{status:?}"));
    }
    if status.code() == Code::OutOfRange {
        return None;
    }
    if info.as_ref().is_none_or(|info| info.domain != "matricula" || info.reason.is_empty()) {
        return Some(format!("no ErrorInfo of ours: {status:?}"));
    }
    if status.code() != Code::InvalidArgument {
        return None;
    }
    let fields = named_fields(status);
    let wrong = |field: &String| sent.is_some_and(|sent| !exists(sent, field));
    if fields.is_empty() || fields.iter().any(wrong) {
        return Some(format!("names no field of the message: {fields:?}: {}", status.message()));
    }
    None
}

/// The fields that a refusal names.
pub fn named_fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request();
    details.into_iter().flat_map(|bad| bad.field_violations).map(|violation| violation.field).collect()
}

/// Whether a path such as `operations[3].student_id` exists in this message, with lists of this length.
fn exists(message: &DynamicMessage, path: &str) -> bool {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, index) = match first.strip_suffix(']').and_then(|first| first.split_once('[')) {
        Some((name, index)) => match index.parse::<usize>() {
            Ok(index) => (name, Some(index)),
            Err(_) => return false,
        },
        None => (first, None),
    };
    // A choice without a field is named itself.
    if message.descriptor().oneofs().any(|choice| choice.name() == name) {
        return index.is_none() && rest.is_none();
    }
    let Some(value) = message.get_field_by_name(name) else { return false };
    let value = match (value.as_ref(), index) {
        (Value::List(elements), Some(index)) => match elements.get(index) {
            Some(element) => element,
            None => return false,
        },
        (Value::List(_), None) => return rest.is_none(),
        (_, Some(_)) => return false,
        (value, None) => value,
    };
    match (value, rest) {
        (_, None) => true,
        (Value::Message(inner), Some(rest)) => exists(inner, rest),
        (_, Some(_)) => false,
    }
}
