//! What staff send, checked field by field: the path of the first one that is out of its bounds is told.

use std::collections::HashSet;

use matricula_kit::id::{CourseId, SectionId, StudentId, TermId};
use matricula_kit::rpc::{FieldError, required_id};
use matricula_kit::time::UnixMs;
use matricula_proto::academics::v1 as wire;

use crate::domain::catalog::{CatalogChanges, Course, SectionEntry, Term};
use crate::domain::component::Component;
use crate::domain::meetings::Meetings;
use crate::domain::requirement::Requirement;
use crate::domain::student::{Completed, Hold, HoldId, Profile};

/// Most entries of a kind in one import; the contract's bound.
const ENTRIES_MAX: usize = 10_000;
/// Longest text for people: a title or a sentence or two, not a document.
const TEXT_CHARS_MAX: usize = 500;
/// Most credits of a course, and of a term: no student has a hundred.
const CREDITS_HUNDREDTHS_MAX: i32 = 10_000;
/// Most completed courses and most holds of a student: more than a life of study brings.
const OF_STUDENT_MAX: usize = 500;

pub(super) fn catalog(request: wire::ImportCatalogRequest) -> Result<CatalogChanges, FieldError> {
    Ok(CatalogChanges {
        terms: list("terms", request.terms, ENTRIES_MAX, term)?,
        courses: list("courses", request.courses, ENTRIES_MAX, course)?,
        sections: list("sections", request.sections, ENTRIES_MAX, section)?,
    })
}

pub(super) fn students(request: wire::ImportStudentsRequest) -> Result<Vec<Profile>, FieldError> {
    let profiles = list("students", request.students, ENTRIES_MAX, profile)?;
    let mut seen = HashSet::new();
    match profiles.iter().position(|profile| !seen.insert(&profile.id)) {
        None => Ok(profiles),
        Some(index) => {
            let problem = format!("{} is named twice", profiles[index].id);
            Err(FieldError::new(format!("students[{index}].student_id"), problem))
        }
    }
}

pub(super) fn hold(hold: wire::Hold) -> Result<Hold, FieldError> {
    Ok(Hold { id: hold_id(hold.hold_id)?, description: required_text("description", hold.description)? })
}

pub(super) fn hold_id(id: String) -> Result<HoldId, FieldError> {
    required_id("hold_id", id, HoldId::try_new)
}

pub(super) fn moment(field: &str, wire: Option<prost_types::Timestamp>) -> Result<Option<UnixMs>, FieldError> {
    let Some(wire) = wire else { return Ok(None) };
    let moment = UnixMs::from_wire(&wire);
    moment.map(Some).ok_or_else(|| FieldError::new(field, "must be in the years 1 to 9999"))
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

fn list<W, T>(
    field: &str,
    wire: Vec<W>,
    max: usize,
    convert: impl Fn(W) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    if wire.len() > max {
        return Err(FieldError::new(field, format!("at most {max}, got {}", wire.len())));
    }
    let entries = wire.into_iter().enumerate();
    entries.map(|(index, it)| convert(it).map_err(|problem| problem.within(&format!("{field}[{index}]")))).collect()
}

fn term(term: wire::Term) -> Result<Term, FieldError> {
    Ok(Term {
        id: required_id("term_id", term.term_id, TermId::try_new)?,
        title: required_text("title", term.title)?,
        add_deadline: moment("add_deadline", term.add_deadline)?,
        drop_deadline: moment("drop_deadline", term.drop_deadline)?,
        max_credits_hundredths: credits("max_credits_hundredths", term.max_credits_hundredths)?,
    })
}

fn course(course: wire::Course) -> Result<Course, FieldError> {
    let requirement = |field: &str, text: &str| {
        Requirement::parse(text).map_err(|problem| FieldError::new(field, problem.to_string()))
    };
    Ok(Course {
        id: required_id("course_id", course.course_id, CourseId::try_new)?,
        code: required_text("code", course.code)?,
        title: required_text("title", course.title)?,
        credits_hundredths: credits("credits_hundredths", course.credits_hundredths)?,
        prerequisites: requirement("prerequisites", &course.prerequisites)?,
        corequisites: requirement("corequisites", &course.corequisites)?,
    })
}

fn section(section: wire::Section) -> Result<SectionEntry, FieldError> {
    let component = Component::parse(&section.component);
    let meetings = Meetings::parse(&section.meetings);
    Ok(SectionEntry {
        id: required_id("section_id", section.section_id, SectionId::try_new)?,
        course: required_id("course_id", section.course_id, CourseId::try_new)?,
        term: required_id("term_id", section.term_id, TermId::try_new)?,
        title: optional_text("title", section.title)?,
        component: component.map_err(|problem| FieldError::new("component", problem.to_string()))?,
        meetings: meetings.map_err(|problem| FieldError::new("meetings", problem.to_string()))?,
        cancelled: section.cancelled,
        permission_required: section.permission_required,
    })
}

fn profile(student: wire::Student) -> Result<Profile, FieldError> {
    let profile = Profile {
        id: required_id("student_id", student.student_id, StudentId::try_new)?,
        name: optional_text("name", student.name)?,
        appointment_start: moment("appointment_start", student.appointment_start)?,
        appointment_end: moment("appointment_end", student.appointment_end)?,
        max_credits_hundredths: credits("max_credits_hundredths", student.max_credits_hundredths)?,
        completed: list("completed", student.completed, OF_STUDENT_MAX, completed)?,
        holds: list("holds", student.holds, OF_STUDENT_MAX, hold)?,
    };
    if let (Some(start), Some(end)) = (profile.appointment_start, profile.appointment_end)
        && start > end
    {
        return Err(FieldError::new("appointment_end", "must not be before appointment_start"));
    }
    let mut seen = HashSet::new();
    if let Some(index) = profile.holds.iter().position(|hold| !seen.insert(&hold.id)) {
        let problem = format!("{} is named twice", profile.holds[index].id);
        return Err(FieldError::new(format!("holds[{index}].hold_id"), problem));
    }
    Ok(profile)
}

fn completed(completed: wire::CompletedCourse) -> Result<Completed, FieldError> {
    let course = required_id("course_id", completed.course_id, CourseId::try_new)?;
    let grade = completed.grade.parse();
    let grade =
        grade.map_err(|problem: crate::domain::grade::InvalidGrade| FieldError::new("grade", problem.to_string()))?;
    Ok(Completed { course, grade })
}

fn credits(field: &str, hundredths: i32) -> Result<i32, FieldError> {
    match hundredths {
        0..=CREDITS_HUNDREDTHS_MAX => Ok(hundredths),
        _ => Err(FieldError::new(field, format!("must be 0 to {CREDITS_HUNDREDTHS_MAX}, got {hundredths}"))),
    }
}
