//! The bounds of what portals send, each refused with the name of its field.

use std::collections::HashSet;
use std::time::Duration;

use matricula_kit::id::StudentId;
use matricula_kit::rpc::{FieldError, checked_id, free_text, required_id};
use matricula_kit::status;
use matricula_kit::time::UnixMs;
use matricula_proto::registration::v1 as wire;
use matricula_registration::RegistrationRequest;
use matricula_runtime::SagaId;
use tonic::Status;

/// Longest idempotency key: a UUID fits three times.
const KEY_BYTES_MAX: usize = 128;
/// Longest wait for an outcome: below the minute after which proxies give up on a call.
const WAIT_MS_MAX: i32 = 30_000;
/// Registrations in one cart.
const CART_ITEMS_MAX: usize = 20;
/// Longest reason of a cancel: some sentences, recorded and shown.
const REASON_BYTES_MAX: usize = 500;

/// One registration to submit.
#[derive(Debug)]
pub(crate) struct Item {
    /// Unique for the student.
    pub key: String,
    /// What is asked for.
    pub request: RegistrationRequest,
}

/// A registration from the wire.
pub(crate) fn item(wire: wire::SubmitRegistrationRequest, now: UnixMs) -> Result<Item, FieldError> {
    let wire::SubmitRegistrationRequest { idempotency_key, student_id, adds, drops, seen_versions, wait_ms: _ } = wire;
    let key = key(idempotency_key)?;
    let student = student(student_id)?;
    let request = RegistrationRequest::try_new(student, adds, drops, seen_versions, now)?;
    Ok(Item { key, request })
}

/// All registrations of a cart from the wire, or the first that is out of bounds.
pub(crate) fn cart(wire: wire::SubmitCartRequest, now: UnixMs) -> Result<Vec<Item>, FieldError> {
    let count = wire.items.len();
    if count == 0 || count > CART_ITEMS_MAX {
        return Err(FieldError::new("items", format!("must be 1 to {CART_ITEMS_MAX}, got {count}")));
    }
    let student = student(wire.student_id)?;
    let mut keys = HashSet::new();
    let mut items = Vec::with_capacity(count);
    for (index, cart_item) in wire.items.into_iter().enumerate() {
        let at = format!("items[{index}]");
        let wire::CartItem { idempotency_key, adds, drops, seen_versions } = cart_item;
        let within = |problem: FieldError| problem.within(&at);
        let key = key(idempotency_key).map_err(within)?;
        let request = RegistrationRequest::try_new(student.clone(), adds, drops, seen_versions, now);
        let request = request.map_err(within)?;
        if !keys.insert(key.clone()) {
            return Err(FieldError::new("idempotency_key", "is used by an earlier item of the cart").within(&at));
        }
        items.push(Item { key, request });
    }
    Ok(items)
}

/// How long to wait for an outcome.
pub(crate) fn wait(wait_ms: i32) -> Result<Duration, FieldError> {
    match u64::try_from(wait_ms) {
        Ok(ms) if wait_ms <= WAIT_MS_MAX => Ok(Duration::from_millis(ms)),
        _ => Err(FieldError::new("wait_ms", format!("must be 0 to {WAIT_MS_MAX}, got {wait_ms}"))),
    }
}

/// The id of a registration.
///
/// An id within the bounds of the wire may be no UUID: then no registration has it.
pub(crate) fn registration_id(text: String) -> Result<Result<SagaId, Status>, FieldError> {
    let text = checked_id("registration_id", text)?;
    Ok(text.parse().map_err(|_| status::not_found("registration", &text)))
}

/// Why somebody cancels.
pub(crate) fn cancel_reason(text: String) -> Result<String, FieldError> {
    free_text("reason", text, REASON_BYTES_MAX)
}

fn student(text: String) -> Result<StudentId, FieldError> {
    required_id("student_id", text, StudentId::try_new)
}

fn key(text: String) -> Result<String, FieldError> {
    let shown = match text.len() {
        0 => "an empty value".to_owned(),
        1..=KEY_BYTES_MAX if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => return Ok(text),
        1..=KEY_BYTES_MAX => format!("{text:?}"),
        bytes => format!("{bytes} bytes"),
    };
    let problem = format!("must be 1-{KEY_BYTES_MAX} bytes of printable ASCII, got {shown}");
    Err(FieldError::new("idempotency_key", problem))
}

#[cfg(test)]
mod tests;
