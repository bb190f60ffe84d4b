//! `NotificationService` on the wire: what comes in is checked and becomes domain values, what goes out is written as
//! the contract says. No rules.

#[cfg(test)]
mod tests;
mod wire;

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use matricula_kit::database::{Database, DbError, Tx};
use matricula_kit::id::StudentId;
use matricula_kit::participant::Writer;
use matricula_kit::rpc::{operations, page_size, required_id, results};
use matricula_proto::notifications::v1 as proto;
use matricula_proto::notifications::v1::notification_service_server::NotificationService;
use tonic::{Request, Response, Status};

use crate::store::{self, Notifications};

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
        let operations = operations(request.into_inner().operations, wire::send)?;
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
        let after = wire::page_key(&request.page_token)?;
        // One more than asked for tells whether there is a next page.
        let mut page = store::list(&self.database, &student, after, count + 1).await?;
        let has_more = page.len() as i64 > count;
        if has_more {
            page.pop();
        }
        let next_page_token = page.last().filter(|_| has_more).map(wire::page_token).unwrap_or_default();
        let notifications = page.into_iter().map(wire::notification).collect();
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
    messages.map_ok(|told| proto::ExportLedgerResponse { notification: Some(wire::notification(told)) })
}
