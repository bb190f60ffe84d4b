//! `NotificationService` on the wire: what comes in is checked and becomes domain values, what goes out is written as
//! the contract says. No rules.

#[cfg(test)]
mod tests;
mod wire;

use matricula_kit::database::{Database, DbError};
use matricula_kit::id::StudentId;
use matricula_kit::participant::Writer;
use matricula_kit::rpc::{operations, page_size, required_id, results};
use matricula_proto::notifications::v1 as proto;
use matricula_proto::notifications::v1::notification_service_server::NotificationService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::delivery::Waker;
use crate::store::{self, Notifications};

/// Entries of the ledger that may wait for a slow reader; the next page is read when there is room.
const ENTRIES_WAITING_MAX: usize = 256;

/// The gRPC service.
pub struct NotificationGrpc {
    writer: Writer<Notifications>,
    database: Database,
    waker: Waker,
}

impl NotificationGrpc {
    /// Serves what the writer writes and the database holds.
    pub fn new(writer: Writer<Notifications>, database: Database, waker: Waker) -> Self {
        Self { writer, database, waker }
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

    async fn import_contacts(
        &self,
        request: Request<proto::ImportContactsRequest>,
    ) -> Result<Response<proto::ImportContactsResponse>, Status> {
        let contacts = wire::contacts(request.into_inner().contacts)?;
        store::import_contacts(&self.database, contacts).await?;
        self.waker.wake();
        Ok(Response::new(proto::ImportContactsResponse {}))
    }

    type ExportLedgerStream = ReceiverStream<Result<proto::ExportLedgerResponse, Status>>;

    async fn export_ledger(
        &self,
        _request: Request<proto::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let (entries, reader) = mpsc::channel(ENTRIES_WAITING_MAX);
        let database = self.database.clone();
        tokio::spawn(async move {
            if let Err(error) = export(&database, &entries).await {
                let _ = entries.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(reader)))
    }
}

/// Streams every message from one state of the database, until the end or until the reader leaves.
async fn export(
    database: &Database,
    entries: &mpsc::Sender<Result<proto::ExportLedgerResponse, Status>>,
) -> Result<(), DbError> {
    let mut tx = database.snapshot().await?;
    let mut after = String::new();
    loop {
        let page = store::ledger_page(&mut tx, &after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.message.registration.as_str().to_owned();
        for told in page {
            let entry = proto::ExportLedgerResponse { notification: Some(wire::notification(told)) };
            if entries.send(Ok(entry)).await.is_err() {
                return Ok(());
            }
        }
    }
}
