//! `COREQUISITE_REQUIRED`: what must have been taken before or is taken at the same time. A drop must not take away
//! what a course that stays needs.

use matricula_kit::answer::{Reason, Refusal};

use super::required::{Taken, Timing, broken_by_drops, new_courses, permits_course};
use crate::domain::context::{Named, RuleContext};

pub(super) fn corequisite_required(context: &RuleContext<'_>) -> Vec<Refusal> {
    let mut reasons = of_adds(context);
    reasons.extend(broken_by_drops(context, Timing::BeforeOrWith));
    reasons
}

fn of_adds(context: &RuleContext<'_>) -> Vec<Refusal> {
    let refusals = new_courses(context).filter_map(|section| {
        let required = section.course.corequisites.as_ref()?;
        let is_met = Taken::after(context).meets(context, required, Timing::BeforeOrWith, &section.term);
        if is_met || permits_course(context, section, Reason::CorequisiteRequired) {
            return None;
        }
        let message = format!("{} is taken together with or after {required}.", Named(section));
        let next_step = format!("Add {required} in the same registration.");
        let refusal = Refusal::section(Reason::CorequisiteRequired, &section.id, message, next_step);
        Some(refusal.against(required.to_string()))
    });
    refusals.collect()
}
