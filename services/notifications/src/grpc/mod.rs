//! `NotificationService` on the wire: what comes in is checked and becomes domain values, what goes out is written as
//! the contract says. No rules.

use futures::stream::BoxStream;
use matricula_kit::answer::Refusal;
use matricula_kit::database::Database;
use matricula_kit::id::{SagaId, SectionId, StudentId};
use matricula_kit::money::Money;
use matricula_kit::pages;
use matricula_kit::participant::{Direction, Operation, Writer};
use matricula_kit::rpc::{self, FieldError};
use matricula_kit::time::UnixMs;
use matricula_proto::notifications::v1 as proto;
use matricula_proto::notifications::v1::notification_service_server::NotificationService;
use tonic::{Request, Response, Status};

use crate::delivery::Waker;
use crate::domain::retry::Undeliverable;
use crate::domain::{Outcome, RegistrationResult};
use crate::participant::Notifications;
use crate::store::{self, ListKey, StoredMessage};

mod imports;

/// Most sections that one registration adds, or drops; the contract's bound.
const SECTIONS_MAX: usize = 20;
/// Most reasons of one registration: for each section of both lists every kind of reason would fit.
const REASONS_MAX: usize = 1_000;

/// The gRPC service.
pub struct NotificationGrpc {
    /// New messages go through it.
    pub writer: Writer<Notifications>,
    /// Reads are from here, and imports.
    pub database: Database,
    /// Wakes the dispatcher after an import: there may be something to deliver.
    pub waker: Waker,
}

#[tonic::async_trait]
impl NotificationService for NotificationGrpc {
    async fn send_notification(
        &self,
        request: Request<proto::SendNotificationRequest>,
    ) -> Result<Response<proto::SendNotificationResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, send).await?;
        Ok(Response::new(proto::SendNotificationResponse { results }))
    }

    async fn list_notifications(
        &self,
        request: Request<proto::ListNotificationsRequest>,
    ) -> Result<Response<proto::ListNotificationsResponse>, Status> {
        let request = request.into_inner();
        let student = rpc::required_id("student_id", request.student_id, StudentId::try_new)?;
        let size = rpc::page_size(request.page_size)?;
        let after = rpc::page_after(&request.page_token, list_key)?;
        let rows = store::list(&self.database, &student, after, size + 1).await?;
        let (page, next_page_token) = rpc::page(rows, size, page_token);
        let notifications = page.into_iter().map(notification).collect();
        Ok(Response::new(proto::ListNotificationsResponse { notifications, next_page_token }))
    }

    type ExportLedgerStream = BoxStream<'static, Result<proto::ExportLedgerResponse, Status>>;

    async fn export_ledger(
        &self,
        _request: Request<proto::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let snapshot = self.database.snapshot().await?;
        let entry = |message| proto::ExportLedgerResponse { notification: Some(notification(message)) };
        Ok(Response::new(pages::export(snapshot, [store::LEDGER.part(entry)])))
    }
}

/// An operation of `SendNotification`.
fn send(wire: proto::SendNotificationOperation) -> Result<Operation<RegistrationResult>, FieldError> {
    let sections = |field: &str, ids| rpc::distinct_ids(field, ids, SECTIONS_MAX, SectionId::try_new);
    rpc::saga_operation(wire.operation, Direction::Forward, wire.student_id, |key, student| {
        let charged = wire.charged.map(Money::checked).transpose();
        Ok(RegistrationResult {
            registration: key.saga.clone(),
            student,
            outcome: outcome(wire.outcome)?,
            added: sections("added_section_ids", wire.added_section_ids)?,
            dropped: sections("dropped_section_ids", wire.dropped_section_ids)?,
            reasons: rpc::each("reasons", wire.reasons, 0..=REASONS_MAX, Refusal::try_from)?,
            charged: charged.map_err(|problem| problem.within("charged"))?,
            is_wanted: !wire.not_wanted,
        })
    })
}

/// The message that the parts of a page token stand for.
fn list_key([recorded_at, registration]: [&str; 2]) -> Option<ListKey> {
    let registration = SagaId::try_new(registration).ok()?;
    Some(ListKey { recorded_at: UnixMs(recorded_at.parse().ok()?), registration })
}

/// The token of the page after a message.
fn page_token(last: &StoredMessage) -> String {
    rpc::page_token(&[&last.message.recorded_at.0, &last.message.registration])
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

#[cfg(test)]
mod tests;
