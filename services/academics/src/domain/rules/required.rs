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
use matricula_kit::id::{CourseId, TermId};

use crate::domain::catalog::{Course, Section, Term};
use crate::domain::context::{Named, RuleContext, named_record};
use crate::domain::student::RecordedCourse;
use matricula_grammar::Letter;
use matricula_grammar::Requirement;

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
    pub(super) fn after(context: &RuleContext<'a>) -> Self {
        Self { records: context.stays.clone(), adds: context.adds.clone() }
    }

    /// Whether this meets what a course of `term` asks for.
    pub(super) fn meets(&self, context: &RuleContext<'_>, required: &Requirement, timing: Timing, term: &Term) -> bool {
        required.is_met(&|name: &str, minimum: Option<Letter>| {
            let mut records = self.records.iter().filter(|course| context.catalog.is_named(&course.course, name));
            let mut adds = self.adds.iter().filter(|add| context.catalog.is_named(&add.course.id, name));
            context.has_completed(name, minimum)
                || records.any(|course| record_counts(context, course, timing, term))
                || adds.any(|add| timing.counts(&add.term, term))
        })
    }
}

fn record_counts(context: &RuleContext<'_>, course: &RecordedCourse, timing: Timing, term: &Term) -> bool {
    context.is_in_progress(course) && context.term_of(course).is_some_and(|other| timing.counts(other, term))
}

/// The first added section of each course and term that the student is not in. A student who only changes sections of a
/// course within a term has met its requirements before.
pub(super) fn new_courses<'c, 'a>(context: &'c RuleContext<'a>) -> impl Iterator<Item = &'a Section> + 'c {
    let adds = context.adds.iter().enumerate();
    let firsts = adds.filter(|(index, add)| context.adds[..*index].iter().all(|other| !other.is_of_same_offering(add)));
    let is_in = |add: &Section| {
        let mut courses = context.stays.iter().chain(&context.drops);
        courses.any(|course| is_same(course, &add.course.id, &add.term.id))
    };
    firsts.map(|(_, add)| *add).filter(move |add| !is_in(add))
}

/// Whether staff let the student past a reason for any part of a course that is added.
pub(super) fn permits_course(context: &RuleContext<'_>, section: &Section, reason: Reason) -> bool {
    let mut parts = context.adds.iter().filter(|other| other.is_of_same_offering(section));
    parts.any(|part| context.permits(reason, &part.id))
}

/// What a drop would break: a course that the student keeps asks for one that is dropped, and nothing else that the
/// student has takes its place.
pub(super) fn broken_by_drops(context: &RuleContext<'_>, timing: Timing) -> Vec<Refusal> {
    if context.drops.is_empty() {
        return Vec::new();
    }
    let after = Taken::after(context);
    let before = Taken { records: context.stays.iter().chain(&context.drops).copied().collect(), adds: Vec::new() };
    let kept = kept(context);
    let firsts = kept.iter().enumerate().filter(|(index, section)| {
        let mut earlier = kept[..*index].iter();
        !earlier.any(|other| other.is_of_same_offering(section))
    });
    let refusals = firsts.filter_map(|(_, section)| {
        let required = timing.requirement(&section.course)?;
        let meets = |taken: &Taken<'_>| taken.meets(context, required, timing, &section.term);
        if !meets(&before) || meets(&after) {
            return None;
        }
        let is_missed = |dropped: &&&RecordedCourse| {
            let mut names = required.names().into_iter();
            names.any(|name| context.catalog.is_named(&dropped.course, name))
                && record_counts(context, dropped, timing, &section.term)
        };
        let dropped = context.drops.iter().find(is_missed)?;
        let dropped_parts = context.drops.iter().filter(|other| is_same(other, &dropped.course, &dropped.term));
        let kept_parts = kept.iter().filter(|other| other.is_of_same_offering(section)).map(|part| &part.id);
        let mut parts = dropped_parts.map(|part| &part.section).chain(kept_parts);
        let is_permitted = parts.any(|part| context.permits(timing.reason(), part));
        (!is_permitted).then(|| broken(context, timing, section, required, dropped))
    });
    refusals.collect()
}

/// The sections of courses that the student has before and after the change set: what stays, and what a section of the
/// same course and term is changed to.
fn kept<'a>(context: &RuleContext<'a>) -> Vec<&'a Section> {
    let stays = context.stays.iter().filter(|course| course.dropped_by.is_none());
    let stays = stays.filter_map(|course| context.catalog.section(&course.section));
    let is_changed = |add: &&Section| context.drops.iter().any(|course| is_same(course, &add.course.id, &add.term.id));
    stays.chain(context.adds.iter().copied().filter(is_changed)).collect()
}

/// Whether a recorded course is a class of this course in this term.
fn is_same(record: &RecordedCourse, course: &CourseId, term: &TermId) -> bool {
    record.course == *course && record.term == *term
}

fn broken(
    context: &RuleContext<'_>,
    timing: Timing,
    kept: &Section,
    required: &Requirement,
    dropped: &RecordedCourse,
) -> Refusal {
    let when = match timing {
        Timing::Before => "after",
        Timing::BeforeOrWith => "together with",
    };
    let (dropped_name, kept_name) = (named_record(context.catalog, dropped), Named(kept));
    let message = format!("{kept_name} is taken {when} {required}, so {dropped_name} can't go alone.");
    let next_step = format!("Drop {} too, or keep {}.", kept.id, dropped.section);
    Refusal::section(timing.reason(), &dropped.section, message, next_step).against(kept.id.as_str())
}
