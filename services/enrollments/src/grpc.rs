//! The wire of enrollments: requests to commands, with the contract's bounds; answers and enrollments to messages. No
//! rules.

use futures::{Stream, StreamExt, TryStreamExt, stream};
use matricula_kit::answer::{DroppedCourse, ReservedCourse};
use matricula_kit::database::{Database, DbError, Tx};
use matricula_kit::id::{RosterRowId, SagaId, SectionId, StudentId};
use matricula_kit::participant::{Leg, Operation, Writer};
use matricula_kit::rpc::{self, FieldError};
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1 as common;
use matricula_proto::common::v1::OperationResult;
use matricula_proto::enrollments::v1 as wire;
use matricula_proto::enrollments::v1::enrollment_service_server::EnrollmentService;
use tonic::{Request, Response, Status};

use crate::domain::{Add, Command, Enrollment, EnrollmentKey, EnrollmentStatus};
use crate::store::{self, Enrollments, Position};

/// Sections of one registration, adds and drops together.
const SECTIONS_MAX: usize = 20;
/// Longest name of a part of a course: two ids and the stroke between them.
const COMPONENT_BYTES_MAX: usize = 129;
/// Stands between the parts of a page token. Only the last part, the id of a section, may have it, too.
const TOKEN_SEPARATOR: char = '~';

/// The enrollment service on the wire.
pub struct EnrollmentsGrpc {
    writer: Writer<Enrollments>,
    database: Database,
}

impl EnrollmentsGrpc {
    /// Writes through `writer`, reads from `database`.
    pub fn new(writer: Writer<Enrollments>, database: Database) -> Self {
        Self { writer, database }
    }

    async fn write<W>(
        &self,
        operations: Vec<W>,
        convert: impl Fn(W) -> Result<Operation<Command>, FieldError>,
    ) -> Result<Vec<OperationResult>, Status> {
        let operations = rpc::operations(operations, convert)?;
        Ok(rpc::results(self.writer.write(operations).await?))
    }
}

#[tonic::async_trait]
impl EnrollmentService for EnrollmentsGrpc {
    type ExportLedgerStream = stream::BoxStream<'static, Result<wire::ExportLedgerResponse, Status>>;

    async fn enroll(&self, request: Request<wire::EnrollRequest>) -> Result<Response<wire::EnrollResponse>, Status> {
        let results = self.write(request.into_inner().operations, enroll).await?;
        Ok(Response::new(wire::EnrollResponse { results }))
    }

    async fn create_enrollments(
        &self,
        request: Request<wire::CreateEnrollmentsRequest>,
    ) -> Result<Response<wire::CreateEnrollmentsResponse>, Status> {
        let results = self.write(request.into_inner().operations, create).await?;
        Ok(Response::new(wire::CreateEnrollmentsResponse { results }))
    }

    async fn cancel_enrollments(
        &self,
        request: Request<wire::CancelEnrollmentsRequest>,
    ) -> Result<Response<wire::CancelEnrollmentsResponse>, Status> {
        let results = self.write(request.into_inner().operations, cancel).await?;
        Ok(Response::new(wire::CancelEnrollmentsResponse { results }))
    }

    async fn commit_enrollments(
        &self,
        request: Request<wire::CommitEnrollmentsRequest>,
    ) -> Result<Response<wire::CommitEnrollmentsResponse>, Status> {
        let results = self.write(request.into_inner().operations, commit).await?;
        Ok(Response::new(wire::CommitEnrollmentsResponse { results }))
    }

    async fn withdraw_commit(
        &self,
        request: Request<wire::WithdrawCommitRequest>,
    ) -> Result<Response<wire::WithdrawCommitResponse>, Status> {
        let results = self.write(request.into_inner().operations, withdraw).await?;
        Ok(Response::new(wire::WithdrawCommitResponse { results }))
    }

    async fn list_enrollments(
        &self,
        request: Request<wire::ListEnrollmentsRequest>,
    ) -> Result<Response<wire::ListEnrollmentsResponse>, Status> {
        let request = request.into_inner();
        let student = rpc::required_id("student_id", request.student_id, StudentId::try_new)?;
        let size = rpc::page_size(request.page_size)?;
        let after = position(&request.page_token)?;
        // One more than asked for tells whether this is the last page.
        let mut page = store::of_student(&self.database, &student, after, size + 1).await?;
        let is_last = i64::try_from(page.len()).is_ok_and(|count| count <= size);
        if !is_last {
            page.pop();
        }
        let next_page_token = page.last().filter(|_| !is_last).map(page_token).unwrap_or_default();
        let enrollments = page.into_iter().map(message).collect();
        Ok(Response::new(wire::ListEnrollmentsResponse { enrollments, next_page_token }))
    }

    async fn export_ledger(
        &self,
        _: Request<wire::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let snapshot = self.database.snapshot().await?;
        Ok(Response::new(ledger(snapshot).map_err(Status::from).boxed()))
    }
}

/// Every enrollment, as `snapshot` sees them, page by page.
fn ledger(snapshot: Tx) -> impl Stream<Item = Result<wire::ExportLedgerResponse, DbError>> {
    let pages = stream::try_unfold((snapshot, None), |(mut snapshot, after)| async move {
        let page = store::page_of_ledger(&mut snapshot, after.as_ref()).await?;
        let last = page.last().map(|enrollment| enrollment.key.clone());
        Ok::<_, DbError>(last.map(|last| (page, (snapshot, Some(last)))))
    });
    let enrollments = pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten();
    enrollments.map_ok(|row| wire::ExportLedgerResponse { enrollment: Some(message(row)) })
}

/// What a registration adds and drops, checked.
struct ChangeSet {
    adds: Vec<Add>,
    drops: Vec<EnrollmentKey>,
    roster_row: Option<RosterRowId>,
}

/// The pivot of a registration that enrolls in one step.
fn enroll(operation: wire::EnrollOperation) -> Result<Operation<Command>, FieldError> {
    let (registration, student) = whose(operation.operation.as_ref(), operation.student_id)?;
    let ChangeSet { adds, drops, roster_row } = change_set(operation.adds, operation.drops, operation.roster_row_id)?;
    let command = Command::Enroll { registration, student, adds, drops, roster_row };
    rpc::saga_operation(operation.operation, Leg::Action, command)
}

/// An operation that creates enrollments.
fn create(operation: wire::CreateEnrollmentsOperation) -> Result<Operation<Command>, FieldError> {
    let (registration, student) = whose(operation.operation.as_ref(), operation.student_id)?;
    let ChangeSet { adds, drops, roster_row } = change_set(operation.adds, operation.drops, operation.roster_row_id)?;
    let command = Command::Create { registration, student, adds, drops, roster_row };
    rpc::saga_operation(operation.operation, Leg::Action, command)
}

fn change_set(
    adds: Vec<common::ReservedCourse>,
    drops: Vec<common::DroppedCourse>,
    roster_row_id: String,
) -> Result<ChangeSet, FieldError> {
    let count = adds.len() + drops.len();
    if !(1..=SECTIONS_MAX).contains(&count) {
        let problem = format!("adds and drops must be 1 to {SECTIONS_MAX} together, got {count}");
        return Err(FieldError::new("adds", problem));
    }
    let adds = rpc::each("adds", adds, SECTIONS_MAX, add)?;
    let drops = rpc::each("drops", drops, SECTIONS_MAX, drop_key)?;
    rpc::distinct("adds", "section_id", adds.iter().map(|add| &add.section))?;
    rpc::distinct("drops", "section_id", drops.iter().map(|(_, section)| section))?;
    let roster_row = match roster_row_id {
        id if id.is_empty() => None,
        id => Some(rpc::required_id("roster_row_id", id, RosterRowId::try_new)?),
    };
    Ok(ChangeSet { adds, drops, roster_row })
}

/// The undo of a create.
fn cancel(operation: wire::CancelEnrollmentsOperation) -> Result<Operation<Command>, FieldError> {
    let (registration, student) = whose(operation.operation.as_ref(), operation.student_id)?;
    rpc::saga_operation(operation.operation, Leg::Undo, Command::Cancel { registration, student })
}

/// The pivot of a registration whose enrollments were created before.
fn commit(operation: wire::CommitEnrollmentsOperation) -> Result<Operation<Command>, FieldError> {
    let (registration, student) = whose(operation.operation.as_ref(), operation.student_id)?;
    rpc::saga_operation(operation.operation, Leg::Action, Command::Commit { registration, student })
}

/// The question whether the pivot has happened, and the end of it if not.
fn withdraw(operation: wire::WithdrawCommitOperation) -> Result<Operation<Command>, FieldError> {
    let (registration, student) = whose(operation.operation.as_ref(), operation.student_id)?;
    rpc::saga_operation(operation.operation, Leg::Undo, Command::Withdraw { registration, student })
}

/// An enrollment on the wire.
fn message(enrollment: Enrollment) -> wire::Enrollment {
    let (registration, section) = enrollment.key;
    let status = match enrollment.status {
        EnrollmentStatus::Pending => common::EnrollmentStatus::Pending,
        EnrollmentStatus::Enrolled => common::EnrollmentStatus::Enrolled,
        EnrollmentStatus::Cancelled => common::EnrollmentStatus::Cancelled,
        EnrollmentStatus::Dropped => common::EnrollmentStatus::Dropped,
    };
    wire::Enrollment {
        student_id: enrollment.student.into(),
        section_id: section.into(),
        course_id: enrollment.course.into(),
        component: enrollment.component,
        registration_id: registration.into(),
        status: status as i32,
        dropped_by_registration_id: enrollment.dropped_by.map(String::from).unwrap_or_default(),
        dropped_by_import: enrollment.dropped_by_import,
        roster_row_id: enrollment.roster_row.map(String::from).unwrap_or_default(),
        created_at: Some(enrollment.created_at.to_wire()),
        changed_at: Some(enrollment.changed_at.to_wire()),
    }
}

/// Where the page after this enrollment begins.
fn page_token(last: &Enrollment) -> String {
    let (registration, section) = &last.key;
    format!("{}{TOKEN_SEPARATOR}{registration}{TOKEN_SEPARATOR}{section}", last.created_at.0)
}

/// The position that a page token stands for; an empty one is the newest.
fn position(token: &str) -> Result<Option<Position>, FieldError> {
    if token.is_empty() {
        return Ok(None);
    }
    let position = || {
        let mut parts = token.splitn(3, TOKEN_SEPARATOR);
        let created_at = parts.next()?.parse().ok()?;
        let registration = SagaId::try_new(parts.next()?).ok()?;
        let section = SectionId::try_new(parts.next()?).ok()?;
        Some(Position { created_at: UnixMs(created_at), key: (registration.into(), section.into()) })
    };
    let problem = || FieldError::new("page_token", "must be empty, or the next_page_token of an answer");
    position().map(Some).ok_or_else(problem)
}

fn whose(operation: Option<&common::Operation>, student: String) -> Result<(SagaId, StudentId), FieldError> {
    let operation = operation.ok_or_else(|| FieldError::new("operation", "is required"))?;
    let registration = rpc::required_id("operation.saga_id", operation.saga_id.clone(), SagaId::try_new)?;
    Ok((registration, rpc::required_id("student_id", student, StudentId::try_new)?))
}

fn add(course: common::ReservedCourse) -> Result<Add, FieldError> {
    let ReservedCourse { section, course, component, .. } = course.try_into()?;
    let printable = component.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if component.len() > COMPONENT_BYTES_MAX || !printable {
        let problem = format!("must be at most {COMPONENT_BYTES_MAX} bytes of printable ASCII");
        return Err(FieldError::new("component", problem));
    }
    Ok(Add { section, course, component })
}

fn drop_key(course: common::DroppedCourse) -> Result<EnrollmentKey, FieldError> {
    let DroppedCourse { section, registration, .. } = course.try_into()?;
    Ok((registration, section))
}

#[cfg(test)]
mod tests;
