//! The wire of seats: requests to commands, with the contract's bounds; answers, sections and holds to messages; the
//! ledger. No rules.

use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use matricula_kit::answer::{DroppedCourse, Reason, Refusal, ReservedCourse};
use matricula_kit::database::Database;
use matricula_kit::id::SectionId;
use matricula_kit::pages;
use matricula_kit::participant::{Direction, Operation, StaffError, Writer};
use matricula_kit::rpc::{self, FieldError};
use matricula_kit::source::Source;
use matricula_kit::status;
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1 as common;
use matricula_proto::seats::v1 as wire;
use matricula_proto::seats::v1::seat_service_server::SeatService;
use tonic::{Code, Request, Response, Status};
use wire::export_ledger_response::Entry;
use wire::release_seats_operation::Target;

use crate::domain::{Command, Hold, Section, Wanted};
use crate::feed::{Feed, FeedError, Update};
use crate::participant::Seats;
use crate::store;

mod imports;

/// Sections of one operation; the contract's bounds.
const SECTIONS: RangeInclusive<usize> = 1..=20;
/// Sections that are read at once.
const SECTIONS_IN_READ_MAX: usize = 1_000;
/// Capacities that can be set; 0 freezes a section.
const CAPACITY: RangeInclusive<i32> = 0..=1_000_000;

/// The seat service on the wire.
pub struct SeatsGrpc {
    /// All changes go through it.
    pub writer: Writer<Seats>,
    /// Reads are from here.
    pub database: Database,
    /// What clients watch.
    pub feed: Arc<Feed>,
}

impl SeatsGrpc {
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
    type WatchSeatsStream = BoxStream<'static, Result<wire::WatchSeatsResponse, Status>>;
    type ExportLedgerStream = BoxStream<'static, Result<wire::ExportLedgerResponse, Status>>;

    async fn hold_seats(
        &self,
        request: Request<wire::HoldSeatsRequest>,
    ) -> Result<Response<wire::HoldSeatsResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, hold_operation).await?;
        Ok(Response::new(wire::HoldSeatsResponse { results }))
    }

    async fn release_seats(
        &self,
        request: Request<wire::ReleaseSeatsRequest>,
    ) -> Result<Response<wire::ReleaseSeatsResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, release_operation).await?;
        Ok(Response::new(wire::ReleaseSeatsResponse { results }))
    }

    async fn set_capacity(
        &self,
        request: Request<wire::SetCapacityRequest>,
    ) -> Result<Response<wire::SetCapacityResponse>, Status> {
        let wire::SetCapacityRequest { section_id, capacity } = request.into_inner();
        let (section, capacity) = new_capacity(section_id, capacity)?;
        self.write_staff(Command::SetCapacity { section: section.clone(), capacity }).await?;
        let sections = store::sections(&self.database, std::slice::from_ref(&section)).await?;
        let section = sections.into_iter().next().map(section_message);
        Ok(Response::new(wire::SetCapacityResponse { section }))
    }

    async fn get_sections(
        &self,
        request: Request<wire::GetSectionsRequest>,
    ) -> Result<Response<wire::GetSectionsResponse>, Status> {
        let ids = request.into_inner().section_ids;
        let ids = rpc::distinct_ids("section_ids", ids, SECTIONS_IN_READ_MAX, SectionId::try_new)?;
        let sections = store::sections(&self.database, &ids).await?;
        let sections = sections.into_iter().map(section_message).collect();
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
        let entry = |entry| wire::ExportLedgerResponse { entry: Some(entry) };
        let sections = store::SECTIONS.part(move |section| entry(Entry::Section(section_message(section))));
        let holds = store::HOLDS.part(move |hold| entry(Entry::Hold(hold_message(hold))));
        Ok(Response::new(pages::export(snapshot, [sections, holds])))
    }
}

fn sent(update: Update) -> wire::WatchSeatsResponse {
    wire::WatchSeatsResponse {
        sections: update.sections.into_iter().map(section_message).collect(),
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

/// An operation that takes seats.
fn hold_operation(operation: wire::HoldSeatsOperation) -> Result<Operation<Command>, FieldError> {
    let wire::HoldSeatsOperation { operation, student_id, sections } = operation;
    rpc::saga_operation(operation, Direction::Forward, student_id, |holder, student| {
        let convert = ReservedCourse::try_from;
        let sections =
            rpc::each_distinct("sections", sections, SECTIONS, convert, "section_id", |course| &course.section)?;
        let wanted = sections.into_iter();
        let wanted =
            wanted.map(|course| Wanted { section: course.section, override_id: course.closed_section_override });
        Ok(Command::Hold { holder: holder.clone(), student, wanted: wanted.collect() })
    })
}

/// An operation that gives seats back: the undo of a hold, or the action of a drop.
fn release_operation(operation: wire::ReleaseSeatsOperation) -> Result<Operation<Command>, FieldError> {
    let wire::ReleaseSeatsOperation { operation, student_id, target } = operation;
    let target = target.ok_or_else(|| FieldError::new("target", "is required"))?;
    let direction = match &target {
        Target::HeldByStep(_) => Direction::Compensation,
        Target::Dropped(_) => Direction::Forward,
    };
    rpc::saga_operation(operation, direction, student_id, |key, _| {
        let Target::Dropped(dropped) = target else { return Ok(Command::ReleaseStep(key.clone())) };
        let (field, convert) = ("dropped.sections", DroppedCourse::try_from);
        let dropped =
            rpc::each_distinct(field, dropped.sections, SECTIONS, convert, "section_id", |course| &course.section)?;
        let seats = dropped.into_iter().map(|course| (course.registration, course.section)).collect();
        Ok(Command::ReleaseDropped { by: key.saga.clone(), seats })
    })
}

/// A section and its new capacity, within the bounds.
fn new_capacity(section_id: String, capacity: i32) -> Result<(SectionId, i32), FieldError> {
    let section = rpc::required_id("section_id", section_id, SectionId::try_new)?;
    Ok((section, rpc::bounded("capacity", capacity, CAPACITY)?))
}

/// A section on the wire.
fn section_message(section: Section) -> wire::SectionSeats {
    wire::SectionSeats {
        section_id: section.id.into(),
        capacity: section.capacity,
        taken: section.taken,
        version: section.version,
        changed_at: Some(section.changed_at.to_wire()),
        closed_at: section.closed_at.map(UnixMs::to_wire),
        capacity_source: source_number(section.capacity_source),
    }
}

/// The source of a capacity.
fn source_number(source: Option<Source>) -> i32 {
    source.map_or(common::Source::Unspecified, Source::to_wire).into()
}

/// A grant on the wire.
fn hold_message(hold: Hold) -> wire::SeatHold {
    let (registration, section) = hold.key;
    wire::SeatHold {
        section_id: section.into(),
        student_id: hold.student.into(),
        registration_id: registration.into(),
        granted_at: Some(hold.granted_at.to_wire()),
        released_at: hold.released.map(|(moment, _)| moment.to_wire()),
        taken_after: hold.taken_after,
        capacity_at_grant: hold.capacity_at_grant,
        override_id: hold.override_id.map(String::from).unwrap_or_default(),
        section_version: hold.section_version,
    }
}

#[cfg(test)]
mod tests;
