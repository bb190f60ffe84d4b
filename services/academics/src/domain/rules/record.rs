//! `STUDENT_NOT_FOUND`, `ALREADY_ENROLLED` and `NOT_ENROLLED`: the record that a change set starts from.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::id::{SectionId, StudentId};

use crate::domain::context::{Named, RuleContext, named_record, standing};

/// The refusal of a student who is not on record. No other rule can be asked about one.
pub fn student_not_found(student: &StudentId) -> Refusal {
    let message = format!("There is no student {student} on record.");
    Refusal::whole(Reason::StudentNotFound, message, "Check the student id, or ask the registrar.")
}

pub(super) fn already_enrolled(context: &RuleContext<'_>) -> Vec<Refusal> {
    let again = context.stays.iter().filter(|course| context.change.adds.contains(&course.section));
    let refusals = again.map(|course| {
        let message = format!("{} is already {}.", named_record(context.catalog, course), standing(course));
        Refusal::section(Reason::AlreadyEnrolled, &course.section, message, "There is nothing to do for this section.")
    });
    refusals.collect()
}

pub(super) fn not_enrolled(context: &RuleContext<'_>) -> Vec<Refusal> {
    let on_record = |section: &SectionId| context.drops.iter().any(|course| course.section == *section);
    let absent = context.change.drops.iter().filter(|section| !on_record(section));
    let refusals = absent.filter_map(|section| context.catalog.section(section)).map(|section| {
        let message = format!("{} is not on your record, so it can't be dropped.", Named(section));
        Refusal::section(Reason::NotEnrolled, &section.id, message, "Look at your record for what you can drop.")
    });
    refusals.collect()
}
