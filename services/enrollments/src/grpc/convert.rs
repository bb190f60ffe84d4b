//! Messages to commands, with the contract's bounds, and enrollments to messages.

use std::collections::HashSet;

use matricula_kit::answer::{DroppedCourse, ReservedCourse};
use matricula_kit::id::{RosterRowId, SagaId, SectionId, StudentId};
use matricula_kit::participant::{Leg, Operation};
use matricula_kit::rpc::{self, FieldError};
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1 as common;
use matricula_proto::enrollments::v1 as wire;

use crate::domain::{Add, Command, Enrollment, EnrollmentKey, EnrollmentStatus};
use crate::store::Position;

/// Sections of one registration, adds and drops together.
const SECTIONS_MAX: usize = 20;
/// Longest name of a part of a course: two ids and the stroke between them.
const COMPONENT_BYTES_MAX: usize = 129;
/// Stands between the parts of a page token. Only the last part, the id of a section, may have it, too.
const TOKEN_SEPARATOR: char = '~';

/// An operation that creates enrollments.
pub fn create(operation: wire::CreateEnrollmentsOperation) -> Result<Operation<Command>, FieldError> {
    let (registration, student) = whose(operation.operation.as_ref(), operation.student_id)?;
    let count = operation.adds.len() + operation.drops.len();
    if !(1..=SECTIONS_MAX).contains(&count) {
        let problem = format!("adds and drops must be 1 to {SECTIONS_MAX} together, got {count}");
        return Err(FieldError::new("adds", problem));
    }
    let adds = each("adds", operation.adds, add)?;
    let drops = each("drops", operation.drops, drop_key)?;
    distinct("adds", adds.iter().map(|add| &add.section))?;
    distinct("drops", drops.iter().map(|(_, section)| section))?;
    let roster_row = match operation.roster_row_id {
        id if id.is_empty() => None,
        id => Some(rpc::required_id("roster_row_id", id, RosterRowId::try_new)?),
    };
    let command = Command::Create { registration, student, adds, drops, roster_row };
    rpc::saga_operation(operation.operation, Leg::Action, command)
}

/// The undo of a create.
pub fn cancel(operation: wire::CancelEnrollmentsOperation) -> Result<Operation<Command>, FieldError> {
    let (registration, student) = whose(operation.operation.as_ref(), operation.student_id)?;
    rpc::saga_operation(operation.operation, Leg::Undo, Command::Cancel { registration, student })
}

/// The pivot.
pub fn commit(operation: wire::CommitEnrollmentsOperation) -> Result<Operation<Command>, FieldError> {
    let (registration, student) = whose(operation.operation.as_ref(), operation.student_id)?;
    rpc::saga_operation(operation.operation, Leg::Action, Command::Commit { registration, student })
}

/// The question whether the pivot has happened, and the end of it if not.
pub fn withdraw(operation: wire::WithdrawCommitOperation) -> Result<Operation<Command>, FieldError> {
    let (registration, student) = whose(operation.operation.as_ref(), operation.student_id)?;
    rpc::saga_operation(operation.operation, Leg::Undo, Command::Withdraw { registration, student })
}

/// An enrollment on the wire.
pub fn enrollment(enrollment: Enrollment) -> wire::Enrollment {
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
pub fn page_token(last: &Enrollment) -> String {
    let (registration, section) = &last.key;
    format!("{}{TOKEN_SEPARATOR}{registration}{TOKEN_SEPARATOR}{section}", last.created_at.0)
}

/// The position that a page token stands for; an empty one is the newest.
pub fn position(token: &str) -> Result<Option<Position>, FieldError> {
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

fn each<W, T>(
    field: &str,
    messages: Vec<W>,
    convert: impl Fn(W) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    let convert = |(index, message)| convert(message).map_err(|problem| problem.within(&format!("{field}[{index}]")));
    messages.into_iter().enumerate().map(convert).collect()
}

fn distinct<'a>(field: &str, sections: impl Iterator<Item = &'a SectionId>) -> Result<(), FieldError> {
    let mut seen = HashSet::with_capacity(SECTIONS_MAX);
    for (index, section) in sections.enumerate() {
        if !seen.insert(section) {
            return Err(FieldError::new(format!("{field}[{index}].section_id"), format!("{section} is named twice")));
        }
    }
    Ok(())
}
