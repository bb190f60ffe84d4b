//! What staff and imports send, checked field by field. An error has the path of the first field that is out of its
//! bounds.

use std::ops::RangeInclusive;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use matricula_kit::id::{CourseId, HoldId, SectionId, StudentId, TermId};
use matricula_kit::rpc::{FieldError, bounded, each, each_distinct, moment, optional_id, required_id};
use matricula_kit::source::Source;
use matricula_kit::time;
use matricula_proto::academics::v1 as wire;

use crate::domain::catalog::{Course, SectionEntry, Term, TermKind};
use crate::domain::component::Component;
use crate::domain::student::{Completed, Hold, Profile};
use matricula_grammar::Meetings;
use matricula_grammar::Requirement;

/// Longest text for people: a title or a sentence or two, not a document.
const TEXT_CHARS_MAX: usize = 500;
/// Credits of a course, and of a term: no student has a hundred.
const CREDITS_HUNDREDTHS: RangeInclusive<i32> = 0..=10_000;
/// Most completed courses and most holds of a student: more than a life of study brings.
const OF_STUDENT_MAX: usize = 500;

/// A hold of this source; what the message says of it is only for output.
pub(super) fn hold(hold: wire::Hold, source: Source) -> Result<Hold, FieldError> {
    Ok(Hold { id: hold_id(hold.hold_id)?, description: required_text("description", hold.description)?, source })
}

pub(super) fn hold_id(id: String) -> Result<HoldId, FieldError> {
    required_id("hold_id", id, HoldId::try_new)
}

pub(super) fn required_text(field: &str, text: String) -> Result<String, FieldError> {
    if text.trim().is_empty() { Err(FieldError::new(field, "is required")) } else { optional_text(field, text) }
}

/// Control characters are refused: no title has any, and one database can't store all of them.
pub(super) fn optional_text(field: &str, text: String) -> Result<String, FieldError> {
    let chars = text.chars().count();
    if chars > TEXT_CHARS_MAX {
        return Err(FieldError::new(field, format!("must have at most {TEXT_CHARS_MAX} characters, got {chars}")));
    }
    match text.chars().find(|char| char.is_control()) {
        Some(control) => Err(FieldError::new(field, format!("must have no control characters, got {control:?}"))),
        None => Ok(text),
    }
}

pub(super) fn term(term: wire::Term) -> Result<Term, FieldError> {
    let (starts_on, ends_on) = (day("starts_on", &term.starts_on)?, day("ends_on", &term.ends_on)?);
    match (starts_on, ends_on) {
        (None, None) => {}
        (Some(start), Some(end)) if start < end => {}
        (Some(start), Some(_)) => {
            let problem = format!("must be after starts_on, which is {start}: it is the day after the last one");
            return Err(FieldError::new("ends_on", problem));
        }
        (Some(_), None) => return Err(FieldError::new("ends_on", "is required where starts_on is given")),
        (None, Some(_)) => return Err(FieldError::new("starts_on", "is required where ends_on is given")),
    }
    Ok(Term {
        kind: kind(term.kind)?,
        id: required_id("term_id", term.term_id, TermId::try_new)?,
        title: required_text("title", term.title)?,
        add_deadline: moment("add_deadline", term.add_deadline)?,
        drop_deadline: moment("drop_deadline", term.drop_deadline)?,
        max_credits_hundredths: bounded("max_credits_hundredths", term.max_credits_hundredths, CREDITS_HUNDREDTHS)?,
        starts_on,
        ends_on,
        time_zone: zone("time_zone", &term.time_zone)?,
        parent: optional_id("parent_term_id", term.parent_term_id, TermId::try_new)?,
        closed: term.closed,
    })
}

/// A day such as `2028-08-24`, in this form only; empty: not known.
fn day(field: &str, text: &str) -> Result<Option<Date>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    let day = text.parse().ok().filter(|day: &Date| day.to_string() == text);
    let problem = || FieldError::new(field, format!("must be a day such as 2028-08-24, got {text:?}"));
    day.map(Some).ok_or_else(problem)
}

fn zone(field: &str, name: &str) -> Result<TimeZone, FieldError> {
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    time::zone(name).map_err(|problem| FieldError::new(field, problem))
}

fn kind(kind: i32) -> Result<TermKind, FieldError> {
    match wire::TermKind::try_from(kind) {
        // A session without a kind is a term.
        Ok(wire::TermKind::Unspecified | wire::TermKind::Term) => Ok(TermKind::Term),
        Ok(wire::TermKind::Semester) => Ok(TermKind::Semester),
        Ok(wire::TermKind::GradingPeriod) => Ok(TermKind::GradingPeriod),
        Ok(wire::TermKind::SchoolYear) => Ok(TermKind::SchoolYear),
        Err(_) => Err(FieldError::new("kind", format!("unknown kind {kind}; use one of TermKind"))),
    }
}

pub(super) fn course(course: wire::Course) -> Result<Course, FieldError> {
    let requirement =
        |field: &str, text: &str| Requirement::parse(text).map_err(|problem| FieldError::new(field, problem));
    Ok(Course {
        id: required_id("course_id", course.course_id, CourseId::try_new)?,
        code: required_text("code", course.code)?,
        title: required_text("title", course.title)?,
        credits_hundredths: bounded("credits_hundredths", course.credits_hundredths, CREDITS_HUNDREDTHS)?,
        prerequisites: requirement("prerequisites", &course.prerequisites)?,
        corequisites: requirement("corequisites", &course.corequisites)?,
        closed: course.closed,
    })
}

pub(super) fn section(section: wire::Section) -> Result<SectionEntry, FieldError> {
    let component = Component::parse(&section.component);
    let meetings = Meetings::parse(&section.meetings);
    Ok(SectionEntry {
        id: required_id("section_id", section.section_id, SectionId::try_new)?,
        course: required_id("course_id", section.course_id, CourseId::try_new)?,
        term: required_id("term_id", section.term_id, TermId::try_new)?,
        title: optional_text("title", section.title)?,
        component: component.map_err(|problem| FieldError::new("component", problem))?,
        meetings: meetings.map_err(|problem| FieldError::new("meetings", problem))?,
        cancelled: section.cancelled,
        permission_required: section.permission_required,
    })
}

/// A student with the holds that a bundle names, in order.
pub(super) fn profile(student: wire::Student) -> Result<Profile, FieldError> {
    let of_bundle = |it| hold(it, Source::Bundle);
    let profile = Profile {
        id: required_id("student_id", student.student_id, StudentId::try_new)?,
        name: optional_text("name", student.name)?,
        appointment_start: moment("appointment_start", student.appointment_start)?,
        appointment_end: moment("appointment_end", student.appointment_end)?,
        max_credits_hundredths: bounded("max_credits_hundredths", student.max_credits_hundredths, CREDITS_HUNDREDTHS)?,
        completed: each("completed", student.completed, 0..=OF_STUDENT_MAX, completed)?,
        holds: each_distinct("holds", student.holds, 0..=OF_STUDENT_MAX, of_bundle, "hold_id", |hold| &hold.id)?,
        closed: student.closed,
        disabled: student.disabled,
        active_from: moment("active_from", student.active_from)?,
        active_until: moment("active_until", student.active_until)?,
    };
    let spans = [
        ("appointment_start", profile.appointment_start, "appointment_end", profile.appointment_end),
        ("active_from", profile.active_from, "active_until", profile.active_until),
    ];
    for (start_field, start, end_field, end) in spans {
        if start.zip(end).is_some_and(|(start, end)| start > end) {
            return Err(FieldError::new(end_field, format!("must not be before {start_field}")));
        }
    }
    Ok(profile.in_order())
}

fn completed(completed: wire::CompletedCourse) -> Result<Completed, FieldError> {
    let course = required_id("course_id", completed.course_id, CourseId::try_new)?;
    let grade = completed.grade.parse();
    let grade = grade.map_err(|problem: matricula_grammar::InvalidGrade| FieldError::new("grade", problem))?;
    Ok(Completed { course, grade, term: optional_id("term_id", completed.term_id, TermId::try_new)? })
}
