//! The wire of enrollments: requests to commands, with the contract's bounds; answers and enrollments to messages. No
//! rules.

use futures::stream::BoxStream;
use matricula_kit::answer::{DroppedCourse, ReservedCourse};
use matricula_kit::database::Database;
use matricula_kit::id::{RosterRowId, SagaId, SectionId, StudentId};
use matricula_kit::pages;
use matricula_kit::participant::{Direction, Operation, Writer};
use matricula_kit::rpc::{self, FieldError};
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1 as common;
use matricula_proto::enrollments::v1 as wire;
use matricula_proto::enrollments::v1::enrollment_service_server::EnrollmentService;
use tonic::{Request, Response, Status};

use crate::domain::{Action, Add, ChangeSet, Command, Enrollment, EnrollmentKey};
use crate::participant::Enrollments;
use crate::store::{self, Position};

/// Sections of one registration, adds and drops together.
const SECTIONS_MAX: usize = 20;
/// Longest name of a part of a course: two ids and the stroke between them.
const COMPONENT_BYTES_MAX: usize = 129;

/// The enrollment service on the wire.
pub struct EnrollmentsGrpc {
    /// What registrations change goes through it.
    pub writer: Writer<Enrollments>,
    /// Reads are from here.
    pub database: Database,
}

#[tonic::async_trait]
impl EnrollmentService for EnrollmentsGrpc {
    type ExportLedgerStream = BoxStream<'static, Result<wire::ExportLedgerResponse, Status>>;

    async fn enroll(&self, request: Request<wire::EnrollRequest>) -> Result<Response<wire::EnrollResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, enroll).await?;
        Ok(Response::new(wire::EnrollResponse { results }))
    }

    async fn create_enrollments(
        &self,
        request: Request<wire::CreateEnrollmentsRequest>,
    ) -> Result<Response<wire::CreateEnrollmentsResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, create).await?;
        Ok(Response::new(wire::CreateEnrollmentsResponse { results }))
    }

    async fn cancel_enrollments(
        &self,
        request: Request<wire::CancelEnrollmentsRequest>,
    ) -> Result<Response<wire::CancelEnrollmentsResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, cancel).await?;
        Ok(Response::new(wire::CancelEnrollmentsResponse { results }))
    }

    async fn commit_enrollments(
        &self,
        request: Request<wire::CommitEnrollmentsRequest>,
    ) -> Result<Response<wire::CommitEnrollmentsResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, commit).await?;
        Ok(Response::new(wire::CommitEnrollmentsResponse { results }))
    }

    async fn withdraw_commit(
        &self,
        request: Request<wire::WithdrawCommitRequest>,
    ) -> Result<Response<wire::WithdrawCommitResponse>, Status> {
        let results = rpc::write(&self.writer, request.into_inner().operations, withdraw).await?;
        Ok(Response::new(wire::WithdrawCommitResponse { results }))
    }

    async fn list_enrollments(
        &self,
        request: Request<wire::ListEnrollmentsRequest>,
    ) -> Result<Response<wire::ListEnrollmentsResponse>, Status> {
        let request = request.into_inner();
        let student = rpc::required_id("student_id", request.student_id, StudentId::try_new)?;
        let size = rpc::page_size(request.page_size)?;
        let after = rpc::page_after(&request.page_token, position)?;
        let rows = store::of_student(&self.database, &student, after, size + 1).await?;
        let (page, next_page_token) = rpc::page(rows, size, page_token);
        let enrollments = page.into_iter().map(message).collect();
        Ok(Response::new(wire::ListEnrollmentsResponse { enrollments, next_page_token }))
    }

    async fn export_ledger(
        &self,
        _: Request<wire::ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let snapshot = self.database.snapshot().await?;
        let entry = |row| wire::ExportLedgerResponse { enrollment: Some(message(row)) };
        Ok(Response::new(pages::export(snapshot, [store::LEDGER.part(entry)])))
    }
}

/// The pivot of a registration that enrolls in one step.
fn enroll(operation: wire::EnrollOperation) -> Result<Operation<Command>, FieldError> {
    let wire::EnrollOperation { operation, student_id, adds, drops, roster_row_id } = operation;
    of_student(operation, Direction::Forward, student_id, || {
        Ok(Action::Enroll(change_set(adds, drops, roster_row_id)?))
    })
}

/// An operation that creates enrollments.
fn create(operation: wire::CreateEnrollmentsOperation) -> Result<Operation<Command>, FieldError> {
    let wire::CreateEnrollmentsOperation { operation, student_id, adds, drops, roster_row_id } = operation;
    of_student(operation, Direction::Forward, student_id, || {
        Ok(Action::Create(change_set(adds, drops, roster_row_id)?))
    })
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
    let bounds = 0..=SECTIONS_MAX;
    let adds = rpc::each_distinct("adds", adds, bounds.clone(), add, "section_id", |add| &add.section)?;
    let drops = rpc::each_distinct("drops", drops, bounds, drop_key, "section_id", |(_, section)| section)?;
    let roster_row = rpc::optional_id("roster_row_id", roster_row_id, RosterRowId::try_new)?;
    Ok(ChangeSet { adds, drops, roster_row })
}

/// The undo of a create.
fn cancel(operation: wire::CancelEnrollmentsOperation) -> Result<Operation<Command>, FieldError> {
    of_student(operation.operation, Direction::Compensation, operation.student_id, || Ok(Action::Cancel))
}

/// The pivot of a registration whose enrollments were created before.
fn commit(operation: wire::CommitEnrollmentsOperation) -> Result<Operation<Command>, FieldError> {
    of_student(operation.operation, Direction::Forward, operation.student_id, || Ok(Action::Commit))
}

/// The question whether the pivot has happened, and the end of it if not.
fn withdraw(operation: wire::WithdrawCommitOperation) -> Result<Operation<Command>, FieldError> {
    of_student(operation.operation, Direction::Compensation, operation.student_id, || Ok(Action::Withdraw))
}

/// An operation of a student's registration.
fn of_student(
    operation: Option<common::Operation>,
    direction: Direction,
    student_id: String,
    action: impl FnOnce() -> Result<Action, FieldError>,
) -> Result<Operation<Command>, FieldError> {
    rpc::saga_operation(operation, direction, student_id, |key, student| {
        Ok(Command { registration: key.saga.clone(), student, action: action()? })
    })
}

/// An enrollment on the wire.
fn message(enrollment: Enrollment) -> wire::Enrollment {
    let (registration, section) = enrollment.key;
    wire::Enrollment {
        student_id: enrollment.student.into(),
        section_id: section.into(),
        course_id: enrollment.course.into(),
        component: enrollment.component,
        registration_id: registration.into(),
        status: enrollment.status.to_wire().into(),
        dropped_by_registration_id: enrollment.dropped_by.map(String::from).unwrap_or_default(),
        dropped_by_import: enrollment.dropped_by_import,
        roster_row_id: enrollment.roster_row.map(String::from).unwrap_or_default(),
        created_at: Some(enrollment.created_at.to_wire()),
        changed_at: Some(enrollment.changed_at.to_wire()),
    }
}

/// The token of the page after this enrollment.
fn page_token(last: &Enrollment) -> String {
    let (registration, section) = &last.key;
    rpc::page_token(&[&last.created_at.0, registration, section])
}

/// The position that the parts of a page token stand for.
fn position([created_at, registration, section]: [&str; 3]) -> Option<Position> {
    let registration = SagaId::try_new(registration).ok()?;
    let section = SectionId::try_new(section).ok()?;
    Some(Position { created_at: UnixMs(created_at.parse().ok()?), key: (registration.into(), section.into()) })
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
