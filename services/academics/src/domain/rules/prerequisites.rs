//! `PREREQUISITE_NOT_MET`: what must have been taken before. A drop must not take away what a course that stays needs.

use matricula_kit::answer::{Reason, Refusal};

use super::required::{Taken, Timing, broken_by_drops, new_courses, permits_course};
use crate::domain::case::{Case, Named};
use crate::domain::catalog::Section;
use crate::domain::requirement::Requirement;

pub(super) fn prerequisite_not_met(case: &Case<'_>) -> Vec<Refusal> {
    let mut reasons = of_adds(case);
    reasons.extend(broken_by_drops(case, Timing::Before));
    reasons
}

fn of_adds(case: &Case<'_>) -> Vec<Refusal> {
    let refusals = not_met(case).into_iter().map(|(section, required)| {
        let message = format!(
            "{} asks for {required}, which you have neither completed nor in progress before {} begins.",
            Named(section),
            section.term.title
        );
        let next_step = "Take the missing course first, or ask the department for an override.";
        let refusal = Refusal::section(Reason::PrerequisiteNotMet, &section.id, message, next_step);
        refusal.against(required.to_string())
    });
    refusals.collect()
}

/// The adds whose prerequisites are not met, with these. An add counts for another one only if it could have been
/// registered alone before it, so that two courses can't open each other.
fn not_met<'a>(case: &Case<'a>) -> Vec<(&'a Section, &'a Requirement)> {
    let asking = new_courses(case).filter_map(|section| Some((section, section.course.prerequisites.as_ref()?)));
    let asking = asking.filter(|(section, _)| !permits_course(case, section, Reason::PrerequisiteNotMet));
    let mut waiting: Vec<(&Section, &Requirement)> = asking.collect();
    while !waiting.is_empty() {
        let mut taken = Taken::after(case);
        taken.adds.retain(|add| !waiting.iter().any(|(section, _)| section.is_of_same_offering(add)));
        let count = waiting.len();
        waiting.retain(|(section, required)| !taken.meets(case, required, Timing::Before, &section.term));
        if waiting.len() == count {
            break;
        }
    }
    // A course that only waits for one that is refused has no reason of its own.
    let with_all = Taken::after(case);
    let is_met =
        |&(section, required): &(&Section, &Requirement)| with_all.meets(case, required, Timing::Before, &section.term);
    if !waiting.iter().all(is_met) {
        waiting.retain(|asking| !is_met(asking));
    }
    waiting
}
