//! `NotificationService` on the wire: what comes in is checked and becomes domain values, what goes out is written as
//! the contract says. No rules.

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use matricula_kit::answer::{Money, Refusal};
use matricula_kit::database::{Database, DbError, Tx};
use matricula_kit::id::{SagaId, SectionId, StudentId};
use matricula_kit::participant::{Leg, Operation, Writer};
use matricula_kit::rpc::{FieldError, distinct_ids, each, operations, page_size, required_id, results, saga_operation};
use matricula_kit::time::UnixMs;
use matricula_proto::notifications::v1 as proto;
use matricula_proto::notifications::v1::notification_service_server::NotificationService;
use tonic::{Request, Response, Status};

use crate::domain::retry::Undeliverable;
use crate::domain::{Outcome, RegistrationResult};
use crate::store::{self, ListKey, Notifications, StoredMessage};

/// Most sections that one registration adds, or drops; the contract's bound.
const SECTIONS_MAX: usize = 20;
/// Most reasons of one registration: for each section of both lists every kind of reason would fit.
const REASONS_MAX: usize = 1_000;

/// The gRPC service.
pub struct NotificationGrpc {
    writer: Writer<Notifications>,
    database: Database,
}

impl NotificationGrpc {
    /// Serves what the writer writes and the database holds.
    pub fn new(writer: Writer<Notifications>, database: Database) -> Self {
        Self { writer, database }
    }
}

#[tonic::async_trait]
impl NotificationService for NotificationGrpc {
    async fn send_notification(
        &self,
        request: Request<proto::SendNotificationRequest>,
    ) -> Result<Response<proto::SendNotificationResponse>, Status> {
        let operations = operations(request.into_inner().operations, send)?;
        let results = results(self.writer.write(operations).await?);
        Ok(Response::new(proto::SendNotificationResponse { results }))
    }

    async fn list_notifications(
        &self,
        request: Request<proto::ListNotificationsRequest>,
    ) -> Result<Response<proto::ListNotificationsResponse>, Status> {
        let request = request.into_inner();
        let student = required_id("student_id", request.student_id, StudentId::try_new)?;
        let count = page_size(request.page_size)?;
        let after = page_key(&request.page_token)?;
        // One more than asked for tells whether there is a next page.
        let mut page = store::list(&self.database, &student, after, count + 1).await?;
        let has_more = page.len() as i64 > count;
        if has_more {
            page.pop();
        }
        let next_page_token = page.last().filter(|_| has_more).map(page_token).unwrap_or_default();
        let notifications = page.into_iter().map(notification).collect();
        Ok(Response::new(proto::ListNotificationsResponse { notifications, next_page_token }))
    }

    type ExportLedgerStream = stream::BoxStream<'static, Result<proto::ExportLedgerResponse, Status>>;

    async fn export_ledger(
        &self,
        _request: Request<proto::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let snapshot = self.database.snapshot().await?;
        Ok(Response::new(ledger(snapshot).map_err(Status::from).boxed()))
    }
}

/// Every message, as `snapshot` sees them, page by page.
fn ledger(snapshot: Tx) -> impl Stream<Item = Result<proto::ExportLedgerResponse, DbError>> {
    let pages = stream::try_unfold((snapshot, String::new()), |(mut snapshot, after)| async move {
        let page = store::ledger_page(&mut snapshot, &after).await?;
        let last = page.last().map(|last| last.message.registration.as_str().to_owned());
        Ok::<_, DbError>(last.map(|last| (page, (snapshot, last))))
    });
    let messages = pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten();
    messages.map_ok(|told| proto::ExportLedgerResponse { notification: Some(notification(told)) })
}

/// An operation of `SendNotification`.
fn send(wire: proto::SendNotificationOperation) -> Result<Operation<RegistrationResult>, FieldError> {
    let registration = wire.operation.as_ref().map(|operation| operation.saga_id.clone()).unwrap_or_default();
    let result = RegistrationResult {
        registration: required_id("operation.saga_id", registration, SagaId::try_new)?,
        student: required_id("student_id", wire.student_id, StudentId::try_new)?,
        outcome: outcome(wire.outcome)?,
        added: distinct_ids("added_section_ids", wire.added_section_ids, SECTIONS_MAX, SectionId::try_new)?,
        dropped: distinct_ids("dropped_section_ids", wire.dropped_section_ids, SECTIONS_MAX, SectionId::try_new)?,
        reasons: each("reasons", wire.reasons, REASONS_MAX, Refusal::try_from)?,
        charged: wire.charged.map(money).transpose()?,
        is_wanted: !wire.not_wanted,
    };
    saga_operation(wire.operation, Leg::Action, result)
}

/// Where a page begins; an empty token is the first page.
fn page_key(token: &str) -> Result<ListKey, FieldError> {
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
fn page_token(last: &StoredMessage) -> String {
    format!("{} {}", last.message.recorded_at.0, last.message.registration)
}

/// A message.
fn notification(stored: StoredMessage) -> proto::Notification {
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

fn money(wire: matricula_proto::common::v1::Money) -> Result<Money, FieldError> {
    let money = Money::from(wire);
    if money.currency.len() == 3 && money.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(money);
    }
    Err(FieldError::new("charged.currency", "must be an ISO 4217 code of three capital letters"))
}

#[cfg(test)]
mod tests;
