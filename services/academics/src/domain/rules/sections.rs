//! `SECTION_NOT_FOUND` and `SECTION_CANCELLED`: what is named must be there, and what is added must take place.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::id::SectionId;

use crate::domain::case::{Case, Named};

pub(super) fn not_found(case: &Case<'_>) -> Vec<Refusal> {
    let on_record = |section: &SectionId| case.student.in_force().any(|course| course.section == *section);
    let named = case.change.adds.iter().chain(&case.change.drops);
    let unknown = named.filter(|section| case.catalog.section(section).is_none() && !on_record(section));
    let refusals = unknown.map(|section| {
        let message = format!("There is no section {section}.");
        Refusal::section(Reason::SectionNotFound, section, message, "Look the section up in the catalogue.")
    });
    refusals.collect()
}

pub(super) fn cancelled(case: &Case<'_>) -> Vec<Refusal> {
    let cancelled = case.adds.iter().filter(|section| section.cancelled);
    let refusals = cancelled.map(|section| {
        let message = format!("{} was cancelled.", Named(section));
        let next_step = format!("Choose another section of {}.", section.course.code);
        Refusal::section(Reason::SectionCancelled, &section.id, message, next_step)
    });
    refusals.collect()
}
