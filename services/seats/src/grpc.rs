//! The wire of seats: requests to commands, with the contract's bounds; answers, sections and holds to messages; the
//! ledger. No rules.

use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use matricula_kit::answer::{DroppedCourse, Reason, Refusal, ReservedCourse};
use matricula_kit::database::{Database, DbError, Tx};
use matricula_kit::id::{SagaId, SectionId, StepName, StudentId};
use matricula_kit::participant::{Key, Leg, Operation, StaffError, Writer};
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

/// Sections of one registration.
const SECTIONS_MAX: usize = 20;
/// Sections that are read at once.
const SECTIONS_IN_READ_MAX: usize = 1_000;
/// Capacities that can be set; 0 freezes a section.
const CAPACITY: RangeInclusive<i32> = 0..=1_000_000;

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
        let operations = rpc::operations(request.into_inner().operations, hold_operation)?;
        let results = rpc::results(self.writer.write(operations).await?);
        Ok(Response::new(wire::HoldSeatsResponse { results }))
    }

    async fn release_seats(
        &self,
        request: Request<wire::ReleaseSeatsRequest>,
    ) -> Result<Response<wire::ReleaseSeatsResponse>, Status> {
        let operations = rpc::operations(request.into_inner().operations, release_operation)?;
        let results = rpc::results(self.writer.write(operations).await?);
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
        let ids = section_ids(request.into_inner().section_ids)?;
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
        Ok(Response::new(ledger(snapshot).map_err(Status::from).boxed()))
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

/// Where the next page begins.
enum Cursor {
    Sections { after: String },
    Holds { after: (String, String) },
    End,
}

/// Streams the ledger as `snapshot` sees it.
fn ledger(snapshot: Tx) -> impl Stream<Item = Result<wire::ExportLedgerResponse, DbError>> {
    let begin = Cursor::Sections { after: String::new() };
    let pages = stream::try_unfold((snapshot, begin), |(mut snapshot, cursor)| async move {
        let page = next_page(&mut snapshot, cursor).await?;
        Ok::<_, DbError>(page.map(|(entries, next)| (entries, (snapshot, next))))
    });
    let entries = pages.map_ok(|entries| stream::iter(entries.into_iter().map(Ok))).try_flatten();
    entries.map_ok(|entry| wire::ExportLedgerResponse { entry: Some(entry) })
}

async fn next_page(snapshot: &mut Tx, cursor: Cursor) -> Result<Option<(Vec<Entry>, Cursor)>, DbError> {
    Ok(match cursor {
        Cursor::Sections { after } => {
            let page = store::page_of_sections(snapshot, &after).await?;
            let next = match page.last() {
                Some(last) => Cursor::Sections { after: last.id.as_str().to_owned() },
                None => Cursor::Holds { after: (String::new(), String::new()) },
            };
            Some((page.into_iter().map(|section| Entry::Section(section_message(section))).collect(), next))
        }
        Cursor::Holds { after } => {
            let page = store::page_of_holds(snapshot, (&after.0, &after.1)).await?;
            let next = match page.last() {
                Some(last) => Cursor::Holds { after: (last.key.0.as_str().to_owned(), last.key.1.as_str().to_owned()) },
                None => Cursor::End,
            };
            Some((page.into_iter().map(|hold| Entry::Hold(hold_message(hold))).collect(), next))
        }
        Cursor::End => None,
    })
}

/// An operation that takes seats.
fn hold_operation(operation: wire::HoldSeatsOperation) -> Result<Operation<Command>, FieldError> {
    let holder = key(operation.operation.as_ref())?;
    let student = rpc::required_id("student_id", operation.student_id, StudentId::try_new)?;
    let sections = each("sections", operation.sections, ReservedCourse::try_from)?;
    rpc::distinct("sections", "section_id", sections.iter().map(|course| &course.section))?;
    let wanted = sections.into_iter();
    let wanted = wanted.map(|course| Wanted { section: course.section, override_id: course.closed_section_override });
    let command = Command::Hold { holder, student, wanted: wanted.collect() };
    rpc::saga_operation(operation.operation, Leg::Action, command)
}

/// An operation that gives seats back: the undo of a hold, or the action of a drop.
fn release_operation(operation: wire::ReleaseSeatsOperation) -> Result<Operation<Command>, FieldError> {
    let key = key(operation.operation.as_ref())?;
    rpc::required_id("student_id", operation.student_id, StudentId::try_new)?;
    let (leg, command) = match operation.target {
        None => return Err(FieldError::new("target", "is required")),
        Some(Target::HeldByStep(_)) => (Leg::Undo, Command::ReleaseStep(key)),
        Some(Target::Dropped(dropped)) => {
            let dropped = each("dropped.sections", dropped.sections, DroppedCourse::try_from)?;
            rpc::distinct("dropped.sections", "section_id", dropped.iter().map(|course| &course.section))?;
            let seats = dropped.into_iter().map(|course| (course.registration, course.section)).collect();
            (Leg::Action, Command::ReleaseDropped { by: key.saga, seats })
        }
    };
    rpc::saga_operation(operation.operation, leg, command)
}

/// A section and its new capacity, within the bounds.
pub(crate) fn new_capacity(section_id: String, capacity: i32) -> Result<(SectionId, i32), FieldError> {
    let section = rpc::required_id("section_id", section_id, SectionId::try_new)?;
    let (min, max) = (CAPACITY.start(), CAPACITY.end());
    let problem = || FieldError::new("capacity", format!("must be {min} to {max}, got {capacity}"));
    let capacity = CAPACITY.contains(&capacity).then_some(capacity).ok_or_else(problem)?;
    Ok((section, capacity))
}

/// The sections that are asked for.
fn section_ids(ids: Vec<String>) -> Result<Vec<SectionId>, FieldError> {
    rpc::distinct_ids("section_ids", ids, SECTIONS_IN_READ_MAX, SectionId::try_new)
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
pub(crate) fn source_number(source: Option<Source>) -> i32 {
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

/// The saga's step, which the command needs too: holds are found by it.
fn key(operation: Option<&common::Operation>) -> Result<Key, FieldError> {
    let operation = operation.ok_or_else(|| FieldError::new("operation", "is required"))?;
    Ok(Key {
        saga: rpc::required_id("operation.saga_id", operation.saga_id.clone(), SagaId::try_new)?,
        step: rpc::required_id("operation.step", operation.step.clone(), StepName::try_new)?,
    })
}

/// The sections of one operation: at least one, not too many.
fn each<W, T>(
    field: &str,
    messages: Vec<W>,
    convert: impl Fn(W) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    if messages.is_empty() {
        return Err(FieldError::new(field, "at least 1"));
    }
    rpc::each(field, messages, SECTIONS_MAX, convert)
}

#[cfg(test)]
mod tests;
