//! The commands: reserve a change set by the rules, or take it over from a roster; take it back; settle it.
//!
//! | record of the registration | reserve, take over | remove | settle |
//! |---|---|---|---|
//! | add | becomes `PENDING` | `CANCELLED` | `ENROLLED` |
//! | drop, `ENROLLED` by an earlier one | marked | mark off | `DROPPED` |

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use matricula_kit::answer::{Answer, Done, DroppedCourse, NotYet, Reason, Refusal, ReservedCourse};
use matricula_kit::enrollment::EnrollmentStatus;
use matricula_kit::id::{OverrideId, SagaId, StudentId};
use matricula_kit::participant::RowState;
use matricula_kit::source::Source;
use matricula_kit::time::UnixMs;

use super::catalog::{Catalog, Section};
use super::context::{ChangeSet, Context, RuleContext, named_record, standing};
use super::rules;
use super::student::{Override, RecordedCourse, Student};

#[cfg(test)]
mod tests;

/// When to send an operation again that waits for an earlier registration: a saga takes some tens of milliseconds.
const RETRY_AFTER_MS: i64 = 100;
/// The author of the overrides of a roster, and their reason.
const GRANTED_BY: &str = "import";
const JUSTIFICATION: &str = "A roster that was imported has the student in this section.";

/// The command of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The registration.
    pub registration: SagaId,
    /// Whose it is.
    pub student: StudentId,
    /// What to do with it.
    pub action: Action,
}

/// What to do with a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Decide its change set, and reserve it.
    Reserve(ChangeSet),
    /// Reserve the change set of an import of rosters, without the rules of registration.
    TakeOver(ChangeSet),
    /// Take back what it reserved.
    Remove,
    /// Make final what it reserved.
    Settle,
}

/// What a batch has loaded: the catalogue, and its students under lock. A student who is not here is not on record.
#[derive(Debug)]
pub struct World {
    /// The catalogue.
    pub catalog: Arc<Catalog>,
    /// The students.
    pub students: HashMap<StudentId, Student>,
    /// The time zone of the campus.
    pub zone: TimeZone,
}

impl World {
    /// Decides a command at a moment and changes the world accordingly, unless the answer is not `Done`.
    pub fn decide(&mut self, command: &Command, now: UnixMs) -> Answer {
        let Command { registration, student, action } = command;
        let Some(file) = self.students.get_mut(student) else {
            return match action {
                Action::Reserve(_) | Action::TakeOver(_) => Answer::Refused(vec![rules::student_not_found(student)]),
                Action::Remove | Action::Settle => Answer::done(),
            };
        };
        match action {
            Action::Reserve(change) => {
                let context = Context { now, zone: self.zone.clone() };
                reserve(&self.catalog, file, registration, change, &context, rules::check)
            }
            Action::TakeOver(change) => {
                let context = Context { now, zone: self.zone.clone() };
                take_over(&self.catalog, file, registration, change, &context)
            }
            Action::Remove => {
                end(file, registration, EnrollmentStatus::Cancelled, EnrollmentStatus::Enrolled);
                Answer::done()
            }
            Action::Settle => {
                end(file, registration, EnrollmentStatus::Enrolled, EnrollmentStatus::Dropped);
                Answer::done()
            }
        }
    }
}

/// Reserves what a roster says, and lets the student into full sections.
fn take_over(
    catalog: &Catalog,
    student: &mut Student,
    registration: &SagaId,
    change: &ChangeSet,
    context: &Context,
) -> Answer {
    let mut answer = reserve(catalog, student, registration, change, context, rules::check_roster);
    if let Answer::Done(done) = &mut answer {
        student.granted.extend(admit_past_full(&student.profile.id, registration, change.submitted_at, done));
    }
    answer
}

fn reserve(
    catalog: &Catalog,
    student: &mut Student,
    registration: &SagaId,
    change: &ChangeSet,
    context: &Context,
    check: fn(&RuleContext<'_>) -> Vec<Refusal>,
) -> Answer {
    let context = RuleContext::new(catalog, student, change, context);
    if let Some(course) = context.unsettled() {
        return Answer::NotYet(NotYet {
            reason: "EARLIER_REGISTRATION_PENDING".to_owned(),
            message: format!("{} is {}.", named_record(catalog, course), standing(course)),
            retry_after_ms: RETRY_AFTER_MS,
            waits_for: Some(course.hand_on_it().clone()),
        });
    }
    let reasons = check(&context);
    if !reasons.is_empty() {
        return Answer::Refused(reasons);
    }
    let done = effect(&context);
    for added in &done.added {
        student.courses.push(RecordedCourse {
            student: student.profile.id.clone(),
            registration: registration.clone(),
            section: added.section.clone(),
            course: added.course.clone(),
            term: added.term.clone(),
            credits_hundredths: added.credits_hundredths,
            status: EnrollmentStatus::Pending,
            dropped_by: None,
            row_state: RowState::New,
        });
    }
    for course in student.courses.iter_mut().filter(|course| course.status == EnrollmentStatus::Enrolled) {
        if change.drops.contains(&course.section) {
            course.change(EnrollmentStatus::Enrolled, Some(registration.clone()));
        }
    }
    Answer::Done(done)
}

/// What an allowed change set does.
fn effect(context: &RuleContext<'_>) -> Done {
    let added = context.adds.iter().map(|section| reserved(context, section)).collect();
    let dropped = context.drops.iter().map(|course| DroppedCourse {
        section: course.section.clone(),
        course: course.course.clone(),
        registration: course.registration.clone(),
    });
    Done { added, dropped: dropped.collect(), amount: None }
}

fn reserved(context: &RuleContext<'_>, section: &Section) -> ReservedCourse {
    ReservedCourse {
        section: section.id.clone(),
        course: section.course.id.clone(),
        component: section.component.as_ref().map(ToString::to_string).unwrap_or_default(),
        credits_hundredths: context.carried_credits_hundredths(section),
        term: section.term.id.clone(),
        closed_section_override: context.permit(Reason::ClosedSection, &section.id).map(|permit| permit.id.clone()),
    }
}

/// Ends the reservation of a registration: its pending adds and its marked drops get these statuses.
fn end(student: &mut Student, registration: &SagaId, adds: EnrollmentStatus, drops: EnrollmentStatus) {
    for course in &mut student.courses {
        if course.status == EnrollmentStatus::Pending && course.registration == *registration {
            course.change(adds, None);
        } else if course.status == EnrollmentStatus::Enrolled && course.dropped_by.as_ref() == Some(registration) {
            let mark = (drops == EnrollmentStatus::Dropped).then(|| registration.clone());
            course.change(drops, mark);
        }
    }
}

/// Grants an override for each added section for which staff have granted none, and names it there: so a row of a
/// roster gets past a full section. Only its registration can use the override. Whether the section is full is known to
/// the seat service alone, so that the override is always recorded.
fn admit_past_full(student: &StudentId, registration: &SagaId, submitted_at: UnixMs, done: &mut Done) -> Vec<Override> {
    let mut granted = Vec::new();
    for (index, added) in done.added.iter_mut().enumerate() {
        if added.closed_section_override.is_some() {
            continue;
        }
        // The same again is the same override; ids of registrations grow with time, as those of overrides do.
        let id = OverrideId::stored(format!("{registration}:{index}"));
        added.closed_section_override = Some(id.clone());
        granted.push(Override {
            id,
            student: student.clone(),
            section: Some(added.section.clone()),
            reason: Reason::ClosedSection,
            granted_by: GRANTED_BY.to_owned(),
            justification: JUSTIFICATION.to_owned(),
            granted_at: submitted_at,
            // No later registration of the student can use it.
            valid_until: Some(submitted_at),
            source: Source::Bundle,
        });
    }
    granted
}
