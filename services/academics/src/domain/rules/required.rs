//! What courses ask for, and what counts: completed courses by their grade; a course in progress, reserved or added,
//! whatever the minimum grade, when its term lies right.
//!
//! | asked for as | counts when its term |
//! |---|---|
//! | prerequisite | has ended when the term of the course begins |
//! | corequisite | begins before the term of the course has ended |
//!
//! Where the dates of a term are not known, any other term counts; for corequisites the same one does, too.

use matricula_kit::answer::{Reason, Refusal};

use crate::domain::case::{Case, named_record};
use crate::domain::catalog::{Course, Section, Term};
use crate::domain::grade::Letter;
use crate::domain::requirement::Requirement;
use crate::domain::student::RecordedCourse;

/// When the courses of a requirement must be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// Prerequisites.
    Before,
    /// Corequisites.
    BeforeOrWith,
}

impl Timing {
    /// The reason of a refusal.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Before => Reason::PrerequisiteNotMet,
            Self::BeforeOrWith => Reason::CorequisiteRequired,
        }
    }

    /// What a course asks for.
    pub(super) fn requirement(self, course: &Course) -> Option<&Requirement> {
        match self {
            Self::Before => course.prerequisites.as_ref(),
            Self::BeforeOrWith => course.corequisites.as_ref(),
        }
    }

    /// Whether a course that is taken in the term `other` counts for a course of `term`.
    fn counts(self, other: &Term, term: &Term) -> bool {
        match self {
            Self::Before => other.id != term.id && other.precedes(term) != Some(false),
            Self::BeforeOrWith => term.precedes(other) != Some(true),
        }
    }
}

/// What the student has, apart from completed courses.
pub(super) struct Taken<'a> {
    /// Courses on the record.
    pub(super) records: Vec<&'a RecordedCourse>,
    /// Sections that are added.
    pub(super) adds: Vec<&'a Section>,
}

impl<'a> Taken<'a> {
    /// What the student has when the change set is done.
    pub(super) fn after(case: &Case<'a>) -> Self {
        Self { records: case.stays.clone(), adds: case.adds.clone() }
    }

    /// Whether this meets what a course of `term` asks for.
    pub(super) fn meets(&self, case: &Case<'_>, required: &Requirement, timing: Timing, term: &Term) -> bool {
        required.is_met(&|name: &str, minimum: Option<Letter>| {
            let mut records = self.records.iter().filter(|course| case.catalog.is_named(&course.course, name));
            let mut adds = self.adds.iter().filter(|add| case.catalog.is_named(&add.course.id, name));
            case.has_completed(name, minimum)
                || records.any(|course| record_counts(case, course, timing, term))
                || adds.any(|add| timing.counts(&add.term, term))
        })
    }
}

fn record_counts(case: &Case<'_>, course: &RecordedCourse, timing: Timing, term: &Term) -> bool {
    case.is_in_progress(course) && case.term_of(course).is_some_and(|other| timing.counts(other, term))
}

/// The first added section of each course and term that the student is not in. A student who only changes sections of a
/// course within a term has met its requirements before.
pub(super) fn new_courses<'c, 'a>(case: &'c Case<'a>) -> impl Iterator<Item = &'a Section> + 'c {
    let adds = case.adds.iter().enumerate();
    let firsts = adds.filter(|(index, add)| case.adds[..*index].iter().all(|other| !other.is_of_same_offering(add)));
    let is_in = |add: &Section| {
        let mut courses = case.stays.iter().chain(&case.drops);
        courses.any(|course| course.course == add.course.id && course.term == add.term.id)
    };
    firsts.map(|(_, add)| *add).filter(move |add| !is_in(add))
}

/// Whether staff let the student past a reason for any part of a course that is added.
pub(super) fn permits_course(case: &Case<'_>, section: &Section, reason: Reason) -> bool {
    let mut parts = case.adds.iter().filter(|other| other.is_of_same_offering(section));
    parts.any(|part| case.permits(reason, &part.id))
}

/// What a drop would break: a course that stays asks for one that is dropped, and nothing else that the student has
/// takes its place.
pub(super) fn broken_by_drops(case: &Case<'_>, timing: Timing) -> Vec<Refusal> {
    if case.drops.is_empty() {
        return Vec::new();
    }
    let after = Taken::after(case);
    let before = Taken { records: case.stays.iter().chain(&case.drops).copied().collect(), adds: Vec::new() };
    let stays = case.stays.iter().enumerate().filter(|(_, course)| course.dropped_by.is_none());
    let firsts = stays.filter(|(index, course)| !case.stays[..*index].iter().any(|other| is_same(other, course)));
    let refusals = firsts.filter_map(|(_, stays)| {
        let required = timing.requirement(case.catalog.course(&stays.course)?)?;
        let term = case.term_of(stays)?;
        if !before.meets(case, required, timing, term) || after.meets(case, required, timing, term) {
            return None;
        }
        let counted = |dropped: &&&RecordedCourse| {
            required.names().iter().any(|name| case.catalog.is_named(&dropped.course, name))
                && record_counts(case, dropped, timing, term)
        };
        let dropped = case.drops.iter().find(counted)?;
        let mut parts = case
            .drops
            .iter()
            .filter(|other| is_same(other, dropped))
            .chain(case.stays.iter().filter(|other| is_same(other, stays)));
        if parts.any(|part| case.permits(timing.reason(), &part.section)) {
            return None;
        }
        Some(broken(case, timing, stays, required, dropped))
    });
    refusals.collect()
}

/// Whether both are classes of one course in one term.
fn is_same(course: &RecordedCourse, other: &RecordedCourse) -> bool {
    course.course == other.course && course.term == other.term
}

fn broken(
    case: &Case<'_>,
    timing: Timing,
    stays: &RecordedCourse,
    required: &Requirement,
    dropped: &RecordedCourse,
) -> Refusal {
    let when = match timing {
        Timing::Before => "after",
        Timing::BeforeOrWith => "together with",
    };
    let (dropped_name, stays_name) = (named_record(case.catalog, dropped), named_record(case.catalog, stays));
    let message = format!("{stays_name} is taken {when} {required}, so {dropped_name} can't go alone.");
    let next_step = format!("Drop {} too, or keep {}.", stays.section, dropped.section);
    let refusal = Refusal::section(timing.reason(), &dropped.section, message, next_step);
    refusal.against(stays.section.as_str())
}
