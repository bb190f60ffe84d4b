//! One change set of one student, laid out for the rules: what is added, what goes, what stays, what staff permit.

use std::fmt;

use jiff::tz::TimeZone;
use matricula_kit::answer::Reason;
use matricula_kit::enrollment::EnrollmentStatus;
use matricula_kit::id::SectionId;
use matricula_kit::time::UnixMs;

use super::catalog::{Catalog, Section, Term};
use super::student::{Override, RecordedCourse, Student};
use matricula_grammar::Letter;

/// What a registration asks for: all of it or nothing. No section is named twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSet {
    /// Sections to be added.
    pub adds: Vec<SectionId>,
    /// Sections to be dropped.
    pub drops: Vec<SectionId>,
    /// When the registration was accepted; appointments, deadlines and overrides are judged by it.
    pub submitted_at: UnixMs,
}

/// What a decision takes from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// The moment of the decision; whether the student is active is judged by it.
    pub now: UnixMs,
    /// The time zone of the campus, in which students read moments.
    pub zone: TimeZone,
}

/// A change set beside the student's record, as every rule reads it.
#[derive(Debug)]
pub struct RuleContext<'a> {
    /// The catalogue.
    pub catalog: &'a Catalog,
    /// The student that registers.
    pub student: &'a Student,
    /// The requested change set.
    pub change: &'a ChangeSet,
    /// When and where it is decided.
    pub at: &'a Context,
    /// The adds that exist and that the student is not in.
    pub adds: Vec<&'a Section>,
    /// What is on the record and dropped.
    pub drops: Vec<&'a RecordedCourse>,
    /// What is on the record and not dropped by this change set.
    pub stays: Vec<&'a RecordedCourse>,
}

impl<'a> RuleContext<'a> {
    /// Lays out a change set.
    pub fn new(catalog: &'a Catalog, student: &'a Student, change: &'a ChangeSet, context: &'a Context) -> Self {
        let (drops, stays): (Vec<_>, Vec<_>) =
            student.in_force().partition(|course| change.drops.contains(&course.section));
        let is_in = |section: &SectionId| student.in_force().any(|course| course.section == *section);
        let adds = change.adds.iter().filter(|section| !is_in(section));
        let adds = adds.filter_map(|section| catalog.section(section)).collect();
        Self { catalog, student, change, at: context, adds, drops, stays }
    }

    /// The sections that stay, as far as the catalogue has them.
    pub fn staying_sections(&self) -> impl Iterator<Item = &'a Section> + '_ {
        self.stays.iter().filter_map(|course| self.catalog.section(&course.section))
    }

    /// The override by which staff let the student past a reason for a section; one for this section goes before one
    /// for all.
    pub fn permit(&self, reason: Reason, section: &SectionId) -> Option<&'a Override> {
        let mut for_all = None;
        for permit in self.permits_in_force(reason) {
            match &permit.section {
                Some(own) if own == section => return Some(permit),
                Some(_) => {}
                None => for_all = for_all.or(Some(permit)),
            }
        }
        for_all
    }

    /// Whether staff let the student past a reason for a section.
    pub fn permits(&self, reason: Reason, section: &SectionId) -> bool {
        self.permit(reason, section).is_some()
    }

    /// Whether staff let the student past a reason for everything that is asked for.
    pub fn permits_whole(&self, reason: Reason) -> bool {
        let mut sections = self.change.adds.iter().chain(&self.change.drops).peekable();
        match sections.peek() {
            Some(_) => sections.all(|section| self.permits(reason, section)),
            None => self.permits_in_force(reason).any(|permit| permit.section.is_none()),
        }
    }

    fn permits_in_force(&self, reason: Reason) -> impl Iterator<Item = &'a Override> {
        let at = self.change.submitted_at;
        let permits = self.student.overrides.iter().filter(move |permit| permit.reason == reason);
        permits.filter(move |permit| permit.valid_until.is_none_or(|until| at <= until))
    }

    /// The term of a recorded course.
    pub fn term_of(&self, course: &RecordedCourse) -> Option<&'a Term> {
        self.catalog.term(&course.term)
    }

    /// Whether the student has completed a course with at least this grade, or with any pass.
    pub fn has_completed(&self, name: &str, minimum: Option<Letter>) -> bool {
        let mut completed = self.student.profile.completed.iter();
        completed.any(|done| self.catalog.is_named(&done.course, name) && done.grade.meets(minimum))
    }

    /// Whether a recorded course counts as in progress: no registration is about to drop it, and its grade has not
    /// come.
    pub fn is_in_progress(&self, course: &RecordedCourse) -> bool {
        course.dropped_by.is_none() && !self.is_graded(course)
    }

    /// Whether the term of a recorded course has ended and its grade has come. A grade whose term is not known is one
    /// of every term.
    fn is_graded(&self, course: &RecordedCourse) -> bool {
        let mut completed = self.student.profile.completed.iter().filter(|done| done.course == course.course);
        completed.any(|done| done.term.as_ref().is_none_or(|term| *term == course.term)) && self.has_ended(course)
    }

    /// Whether the term of a recorded course had ended when the change set was submitted.
    pub fn has_ended(&self, course: &RecordedCourse) -> bool {
        self.term_of(course).is_some_and(|term| term.has_ended(self.change.submitted_at))
    }

    /// The credits that an added section carries. The parts of a course share its credits: the first added one carries
    /// them, unless a part that stays does already.
    pub fn carried_credits_hundredths(&self, add: &Section) -> i32 {
        let parts = self.adds.iter().filter(|other| other.is_of_same_offering(add));
        let is_first = parts.map(|other| &other.id).min() == Some(&add.id);
        let carried = self.stays.iter().any(|course| {
            course.course == add.course.id && course.term == add.term.id && course.credits_hundredths > 0
        });
        if is_first && !carried { add.course.credits_hundredths } else { 0 }
    }

    /// The first section of the change set that a registration which is not settled yet has its hand on.
    pub fn unsettled(&self) -> Option<&'a RecordedCourse> {
        let named = |course: &&RecordedCourse| {
            self.change.adds.contains(&course.section) || self.change.drops.contains(&course.section)
        };
        self.student.in_force().filter(|course| course.is_unsettled()).find(named)
    }
}

/// A section as a student knows it: `MATH101 Calculus (section 4711)`.
pub struct Named<'a>(pub &'a Section);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(section) = self;
        write!(f, "{} {} (section {})", section.course.code, section.course.title, section.id)
    }
}

/// A recorded course as a student knows it, also when the catalogue has lost it.
pub fn named_record(catalog: &Catalog, course: &RecordedCourse) -> String {
    match catalog.section(&course.section) {
        Some(section) => Named(section).to_string(),
        None => format!("section {}", course.section),
    }
}

/// How a recorded course stands, in a word for the student.
pub fn standing(course: &RecordedCourse) -> &'static str {
    match (course.status, &course.dropped_by) {
        (EnrollmentStatus::Pending, _) => "being added by another registration of yours",
        (_, Some(_)) => "being dropped by another registration of yours",
        _ => "on your record",
    }
}
