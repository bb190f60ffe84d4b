//! Wire to domain and back.

use matricula_kit::answer::{Money, Refusal};
use matricula_kit::id::{SagaId, SectionId, StudentId};
use matricula_kit::participant::{Leg, Operation};
use matricula_kit::rpc::{FieldError, distinct_ids, required_id, saga_operation};
use matricula_kit::time::UnixMs;
use matricula_proto::notifications::v1 as proto;

use crate::domain::retry::Undeliverable;
use crate::domain::{Outcome, RegistrationResult};
use crate::store::{ListKey, StoredMessage};

/// Most sections that one registration adds, or drops; the contract's bound.
const SECTIONS_MAX: usize = 20;
/// Most reasons of one registration: for each section of both lists every kind of reason would fit.
const REASONS_MAX: usize = 1_000;

/// An operation of `SendNotification`.
pub fn send(wire: proto::SendNotificationOperation) -> Result<Operation<RegistrationResult>, FieldError> {
    let registration = wire.operation.as_ref().map(|operation| operation.saga_id.clone()).unwrap_or_default();
    let result = RegistrationResult {
        registration: required_id("operation.saga_id", registration, SagaId::try_new)?,
        student: required_id("student_id", wire.student_id, StudentId::try_new)?,
        outcome: outcome(wire.outcome)?,
        added: distinct_ids("added_section_ids", wire.added_section_ids, SECTIONS_MAX, SectionId::try_new)?,
        dropped: distinct_ids("dropped_section_ids", wire.dropped_section_ids, SECTIONS_MAX, SectionId::try_new)?,
        reasons: reasons(wire.reasons)?,
        charged: wire.charged.map(money).transpose()?,
        is_wanted: !wire.not_wanted,
    };
    saga_operation(wire.operation, Leg::Action, result)
}

/// Where a page begins; an empty token is the first page.
pub fn page_key(token: &str) -> Result<ListKey, FieldError> {
    if token.is_empty() {
        return Ok(ListKey::newest());
    }
    let key = token.split_once(' ').and_then(|(recorded_at, registration)| {
        let registration = SagaId::try_new(registration).ok()?;
        Some(ListKey { recorded_at: UnixMs(recorded_at.parse().ok()?), registration: Some(registration) })
    });
    key.ok_or_else(|| FieldError::new("page_token", "must be empty or the next_page_token of an earlier page"))
}

/// The token of the page after a message.
pub fn page_token(last: &StoredMessage) -> String {
    format!("{} {}", last.message.recorded_at.0, last.message.registration)
}

/// A message.
pub fn notification(stored: StoredMessage) -> proto::Notification {
    let outcome = match stored.message.outcome {
        Outcome::Enrolled => proto::NotifiedOutcome::Enrolled,
        Outcome::Refused => proto::NotifiedOutcome::Refused,
        Outcome::Cancelled => proto::NotifiedOutcome::Cancelled,
    };
    let undeliverable = match stored.undeliverable {
        None => proto::Undeliverable::Unspecified,
        Some(Undeliverable::NoContact) => proto::Undeliverable::NoContact,
        Some(Undeliverable::Rejected) => proto::Undeliverable::Rejected,
        Some(Undeliverable::NotWanted) => proto::Undeliverable::NotWanted,
    };
    proto::Notification {
        student_id: stored.message.student.into(),
        registration_id: stored.message.registration.into(),
        outcome: outcome as i32,
        subject: stored.message.subject,
        body: stored.message.body,
        recorded_at: Some(stored.message.recorded_at.to_wire()),
        delivered_at: stored.delivered_at.map(UnixMs::to_wire),
        delivery_failures: i32::try_from(stored.failures).unwrap_or(i32::MAX),
        undeliverable: undeliverable.into(),
    }
}

fn outcome(number: i32) -> Result<Outcome, FieldError> {
    match proto::NotifiedOutcome::try_from(number) {
        Ok(proto::NotifiedOutcome::Enrolled) => Ok(Outcome::Enrolled),
        Ok(proto::NotifiedOutcome::Refused) => Ok(Outcome::Refused),
        Ok(proto::NotifiedOutcome::Cancelled) => Ok(Outcome::Cancelled),
        Ok(proto::NotifiedOutcome::Unspecified) | Err(_) => {
            Err(FieldError::new("outcome", format!("must be an outcome, got {number}")))
        }
    }
}

fn reasons(wire: Vec<matricula_proto::common::v1::Refusal>) -> Result<Vec<Refusal>, FieldError> {
    if wire.len() > REASONS_MAX {
        return Err(FieldError::new("reasons", format!("at most {REASONS_MAX}, got {}", wire.len())));
    }
    let convert = |(index, reason): (usize, matricula_proto::common::v1::Refusal)| {
        Refusal::try_from(reason).map_err(|problem| problem.within(&format!("reasons[{index}]")))
    };
    wire.into_iter().enumerate().map(convert).collect()
}

fn money(wire: matricula_proto::common::v1::Money) -> Result<Money, FieldError> {
    let money = Money::from(wire);
    if money.currency.len() == 3 && money.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(money);
    }
    Err(FieldError::new("charged.currency", "must be an ISO 4217 code of three capital letters"))
}
