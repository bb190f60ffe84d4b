//! Messages to commands, with the contract's bounds, and sections and holds to messages.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use matricula_kit::answer::{DroppedCourse, ReservedCourse};
use matricula_kit::id::{SagaId, SectionId, StepName, StudentId};
use matricula_kit::participant::{Key, Leg, Operation};
use matricula_kit::rpc::{self, FieldError};
use matricula_kit::source::Source;
use matricula_kit::time::UnixMs;
use matricula_proto::common::v1 as common;
use matricula_proto::seats::v1 as wire;
use wire::release_seats_operation::Target;

use crate::domain::{Command, Hold, Section, Wanted};

/// Sections of one registration.
const SECTIONS_MAX: usize = 20;
/// Sections that are read at once.
const SECTIONS_IN_READ_MAX: usize = 1_000;
/// Capacities that can be set; 0 freezes a section.
const CAPACITY: RangeInclusive<i32> = 0..=1_000_000;

/// An operation that takes seats.
pub fn hold(operation: wire::HoldSeatsOperation) -> Result<Operation<Command>, FieldError> {
    let holder = key(operation.operation.as_ref())?;
    let student = rpc::required_id("student_id", operation.student_id, StudentId::try_new)?;
    let sections = each("sections", operation.sections, ReservedCourse::try_from)?;
    distinct("sections", sections.iter().map(|course| &course.section))?;
    let wanted = sections.into_iter();
    let wanted = wanted.map(|course| Wanted { section: course.section, override_id: course.closed_section_override });
    let command = Command::Hold { holder, student, wanted: wanted.collect() };
    rpc::saga_operation(operation.operation, Leg::Action, command)
}

/// An operation that gives seats back: the undo of a hold, or the action of a drop.
pub fn release(operation: wire::ReleaseSeatsOperation) -> Result<Operation<Command>, FieldError> {
    let key = key(operation.operation.as_ref())?;
    rpc::required_id("student_id", operation.student_id, StudentId::try_new)?;
    let (leg, command) = match operation.target {
        None => return Err(FieldError::new("target", "is required")),
        Some(Target::HeldByStep(_)) => (Leg::Undo, Command::ReleaseStep(key)),
        Some(Target::Dropped(dropped)) => {
            let dropped = each("dropped.sections", dropped.sections, DroppedCourse::try_from)?;
            distinct("dropped.sections", dropped.iter().map(|course| &course.section))?;
            let seats = dropped.into_iter().map(|course| (course.registration, course.section)).collect();
            (Leg::Action, Command::ReleaseDropped { by: key.saga, seats })
        }
    };
    rpc::saga_operation(operation.operation, leg, command)
}

/// A section and its new capacity, within the bounds.
pub fn capacity(section_id: String, capacity: i32) -> Result<(SectionId, i32), FieldError> {
    let section = rpc::required_id("section_id", section_id, SectionId::try_new)?;
    let (min, max) = (CAPACITY.start(), CAPACITY.end());
    let problem = || FieldError::new("capacity", format!("must be {min} to {max}, got {capacity}"));
    let capacity = CAPACITY.contains(&capacity).then_some(capacity).ok_or_else(problem)?;
    Ok((section, capacity))
}

/// The sections that are asked for.
pub fn section_ids(ids: Vec<String>) -> Result<Vec<SectionId>, FieldError> {
    rpc::distinct_ids("section_ids", ids, SECTIONS_IN_READ_MAX, SectionId::try_new)
}

/// A section on the wire.
pub fn section(section: Section) -> wire::SectionSeats {
    wire::SectionSeats {
        section_id: section.id.into(),
        capacity: section.capacity,
        taken: section.taken,
        version: section.version,
        changed_at: Some(section.changed_at.to_wire()),
        closed_at: section.closed_at.map(UnixMs::to_wire),
        capacity_source: source(section.capacity_source),
    }
}

/// The source of a capacity.
pub fn source(source: Option<Source>) -> i32 {
    source.map_or(common::Source::Unspecified, Source::to_wire).into()
}

/// A grant on the wire.
pub fn seat_hold(hold: Hold) -> wire::SeatHold {
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
    at_most(field, messages.len(), SECTIONS_MAX)?;
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

fn at_most(field: &str, count: usize, max: usize) -> Result<(), FieldError> {
    if count > max { Err(FieldError::new(field, format!("at most {max}, got {count}"))) } else { Ok(()) }
}
