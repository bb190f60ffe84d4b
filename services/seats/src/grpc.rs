//! The wire of seats: requests to commands, answers and sections to messages. No rules.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::database::Database;
use matricula_kit::participant::{StaffError, Writer};
use matricula_kit::{rpc, status};
use matricula_proto::seats::v1 as wire;
use matricula_proto::seats::v1::seat_service_server::SeatService;
use tonic::{Code, Request, Response, Status};

use crate::domain::Command;
use crate::feed::{Feed, FeedError, Update};
use crate::participant::Seats;
use crate::store;

pub(crate) mod convert;
mod ledger;
#[cfg(test)]
mod tests;

/// The seat service on the wire.
pub struct SeatsGrpc {
    writer: Writer<Seats>,
    database: Database,
    feed: Arc<Feed>,
}

impl SeatsGrpc {
    /// Writes through `writer`, reads from `database`, and lets clients watch `feed`.
    pub fn new(writer: Writer<Seats>, database: Database, feed: Arc<Feed>) -> Self {
        Self { writer, database, feed }
    }

    /// Has a staff command written. Whatever is not done is an error.
    async fn write_staff(&self, command: Command) -> Result<(), Status> {
        let reasons = match self.writer.write_staff(command).await {
            Ok(_) => return Ok(()),
            Err(StaffError::Refused(reasons)) => reasons,
            Err(StaffError::NotYet(not_yet)) => return Err(not_yet.into()),
            Err(StaffError::Write(error)) => return Err(error.into()),
        };
        Err(match reasons.into_iter().next() {
            Some(Refusal { reason: Reason::SectionNotFound, section: Some(section), .. }) => {
                status::not_found("section", section.as_str())
            }
            Some(other) => status::error(Code::FailedPrecondition, other.reason.name(), other.message),
            None => status::error(Code::FailedPrecondition, "REFUSED", "the command is refused"),
        })
    }
}

#[tonic::async_trait]
impl SeatService for SeatsGrpc {
    type WatchSeatsStream = futures::stream::BoxStream<'static, Result<wire::WatchSeatsResponse, Status>>;
    type ExportLedgerStream = futures::stream::BoxStream<'static, Result<wire::ExportLedgerResponse, Status>>;

    async fn hold_seats(
        &self,
        request: Request<wire::HoldSeatsRequest>,
    ) -> Result<Response<wire::HoldSeatsResponse>, Status> {
        let operations = rpc::operations(request.into_inner().operations, convert::hold)?;
        let results = rpc::results(self.writer.write(operations).await?);
        Ok(Response::new(wire::HoldSeatsResponse { results }))
    }

    async fn release_seats(
        &self,
        request: Request<wire::ReleaseSeatsRequest>,
    ) -> Result<Response<wire::ReleaseSeatsResponse>, Status> {
        let operations = rpc::operations(request.into_inner().operations, convert::release)?;
        let results = rpc::results(self.writer.write(operations).await?);
        Ok(Response::new(wire::ReleaseSeatsResponse { results }))
    }

    async fn set_capacity(
        &self,
        request: Request<wire::SetCapacityRequest>,
    ) -> Result<Response<wire::SetCapacityResponse>, Status> {
        let wire::SetCapacityRequest { section_id, capacity } = request.into_inner();
        let (section, capacity) = convert::capacity(section_id, capacity)?;
        self.write_staff(Command::SetCapacity { section: section.clone(), capacity }).await?;
        let sections = store::sections(&self.database, std::slice::from_ref(&section)).await?;
        let section = sections.into_iter().next().map(convert::section);
        Ok(Response::new(wire::SetCapacityResponse { section }))
    }

    async fn get_sections(
        &self,
        request: Request<wire::GetSectionsRequest>,
    ) -> Result<Response<wire::GetSectionsResponse>, Status> {
        let ids = convert::section_ids(request.into_inner().section_ids)?;
        let sections = store::sections(&self.database, &ids).await?;
        let sections = sections.into_iter().map(convert::section).collect();
        Ok(Response::new(wire::GetSectionsResponse { sections }))
    }

    async fn watch_seats(
        &self,
        _: Request<wire::WatchSeatsRequest>,
    ) -> Result<Response<Self::WatchSeatsStream>, Status> {
        let watch = self.feed.watch(self.database.clone()).map_err(feed_status)?;
        let sent = watch.map(|update| update.map(sent).map_err(feed_status));
        Ok(Response::new(sent.boxed()))
    }

    async fn export_ledger(
        &self,
        _: Request<wire::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let snapshot = self.database.snapshot().await?;
        Ok(Response::new(ledger::export(snapshot).map_err(Status::from).boxed()))
    }
}

fn sent(update: Update) -> wire::WatchSeatsResponse {
    wire::WatchSeatsResponse {
        sections: update.sections.into_iter().map(convert::section).collect(),
        snapshot_complete: update.snapshot_complete,
        // When it was published, not when this client could take it.
        sent_at: Some(update.complete_until.to_wire()),
    }
}

fn feed_status(error: FeedError) -> Status {
    match error {
        FeedError::Lagged => status::error(Code::DataLoss, "FEED_LAGGED", error.to_string()),
        FeedError::NotConnected => status::error(Code::Unavailable, "FEED_NOT_CONNECTED", error.to_string()),
        FeedError::State(cause) => cause.into(),
    }
}
