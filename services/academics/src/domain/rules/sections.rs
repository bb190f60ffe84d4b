//! `SECTION_NOT_FOUND` and `SECTION_CANCELLED`: what is named must be there, and what is added must take place.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::id::SectionId;

use crate::domain::context::{Named, RuleContext};

pub(super) fn not_found(context: &RuleContext<'_>) -> Vec<Refusal> {
    let on_record = |section: &SectionId| context.student.in_force().any(|course| course.section == *section);
    let named = context.change.adds.iter().chain(&context.change.drops);
    let unknown = named.filter(|section| context.catalog.section(section).is_none() && !on_record(section));
    let refusals = unknown.map(|section| {
        let message = format!("There is no section {section}.");
        Refusal::section(Reason::SectionNotFound, section, message, "Look the section up in the catalogue.")
    });
    refusals.collect()
}

pub(super) fn cancelled(context: &RuleContext<'_>) -> Vec<Refusal> {
    let cancelled = context.adds.iter().filter(|section| section.cancelled);
    let refusals = cancelled.map(|section| {
        let message = format!("{} was cancelled.", Named(section));
        let next_step = format!("Choose another section of {}.", section.course.code);
        Refusal::section(Reason::SectionCancelled, &section.id, message, next_step)
    });
    refusals.collect()
}
