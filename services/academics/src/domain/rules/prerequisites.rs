//! `PREREQUISITE_NOT_MET`: what must have been taken before. Completed courses count by their grade; a course in
//! progress or reserved counts, and counts as the minimum grade; a course of the same change set does not.

use matricula_kit::answer::{Reason, Refusal};

use crate::domain::case::{Case, Named};
use crate::domain::catalog::Section;

pub(super) fn prerequisite_not_met(case: &Case<'_>) -> Vec<Refusal> {
    let refusals = new_courses(case).filter_map(|section| {
        let required = section.course.prerequisites.as_ref()?;
        if required.is_met(&|code, minimum| case.completed(code, minimum) || case.stays_in(code)) {
            return None;
        }
        if permits_course(case, section, Reason::PrerequisiteNotMet) {
            return None;
        }
        let message =
            format!("{} asks for {required}, which you have neither completed nor in progress.", Named(section));
        let next_step = "Take the missing course first, or ask the department for an override.";
        Some(
            Refusal::section(Reason::PrerequisiteNotMet, &section.id, message, next_step).against(required.to_string()),
        )
    });
    refusals.collect()
}

/// The first added section of each course that the student is not in. Who only changes sections of a course has met its
/// requirements before.
pub(super) fn new_courses<'c, 'a>(case: &'c Case<'a>) -> impl Iterator<Item = &'a Section> + 'c {
    let adds = case.adds.iter().enumerate();
    let firsts = adds.filter(|(index, add)| case.adds[..*index].iter().all(|other| other.course.id != add.course.id));
    let sections = firsts.map(|(_, add)| *add);
    sections.filter(|add| !case.stays.iter().chain(&case.drops).any(|course| course.course == add.course.id))
}

/// Whether staff let the student past a reason for any part of a course that is added.
pub(super) fn permits_course(case: &Case<'_>, section: &Section, reason: Reason) -> bool {
    let mut parts = case.adds.iter().filter(|other| other.course.id == section.course.id);
    parts.any(|part| case.permits(reason, &part.id))
}
