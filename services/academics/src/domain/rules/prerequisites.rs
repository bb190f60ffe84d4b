//! `PREREQUISITE_NOT_MET`: what must have been taken before. A drop must not take away what a course that stays needs.

use matricula_kit::answer::{Reason, Refusal};

use super::required::{Taken, Timing, broken_by_drops, new_courses, permits_course};
use crate::domain::catalog::Section;
use crate::domain::context::{Named, RuleContext};
use matricula_grammar::Requirement;

pub(super) fn prerequisite_not_met(context: &RuleContext<'_>) -> Vec<Refusal> {
    let mut reasons = of_adds(context);
    reasons.extend(broken_by_drops(context, Timing::Before));
    reasons
}

fn of_adds(context: &RuleContext<'_>) -> Vec<Refusal> {
    let refusals = not_met(context).into_iter().map(|(section, required)| {
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

/// The adds whose prerequisites are not met, with these.
fn not_met<'a>(context: &RuleContext<'a>) -> Vec<(&'a Section, &'a Requirement)> {
    let mut locked = locked(context, |_| true);
    if locked.is_empty() {
        return locked;
    }
    // A course that only waits for one that is refused has no reason of its own.
    let with_all = Taken::after(context);
    let is_met = |&(section, required): &(&Section, &Requirement)| {
        with_all.meets(context, required, Timing::Before, &section.term)
    };
    if !locked.iter().all(is_met) {
        locked.retain(|asking| !is_met(asking));
    }
    locked
}

/// Whether one of the other added courses could be registered only after this one.
pub(super) fn must_precede(context: &RuleContext<'_>, first: &Section, others: &[&Section]) -> bool {
    let locked = locked(context, |add| !add.is_of_same_offering(first));
    locked.iter().any(|(section, _)| others.iter().any(|other| other.is_of_same_offering(section)))
}

/// The adds that could not be registered one after the other, in any order, with their prerequisites. An add counts for
/// another one only if it could come before it, so that two courses can't open each other.
fn locked<'a>(context: &RuleContext<'a>, is_added: impl Fn(&Section) -> bool) -> Vec<(&'a Section, &'a Requirement)> {
    let asking = new_courses(context).filter_map(|section| Some((section, section.course.prerequisites.as_ref()?)));
    let asking = asking.filter(|(section, _)| !permits_course(context, section, Reason::PrerequisiteNotMet));
    let mut locked: Vec<(&Section, &Requirement)> = asking.collect();
    while !locked.is_empty() {
        let mut taken = Taken::after(context);
        taken.adds.retain(|add| is_added(add) && !locked.iter().any(|(section, _)| section.is_of_same_offering(add)));
        let count = locked.len();
        locked.retain(|(section, required)| !taken.meets(context, required, Timing::Before, &section.term));
        if locked.len() == count {
            break;
        }
    }
    locked
}
