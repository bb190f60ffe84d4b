//! `COREQUISITE_REQUIRED`: what must have been taken before or is taken at the same time. A drop must not take away
//! what a course that stays needs.

use matricula_kit::answer::{Reason, Refusal};

use super::prerequisites::{new_courses, permits_course};
use crate::domain::case::{Case, Named, named_record};
use crate::domain::grade::Letter;
use crate::domain::requirement::Requirement;
use crate::domain::student::RecordedCourse;

pub(super) fn corequisite_required(case: &Case<'_>) -> Vec<Refusal> {
    let mut reasons = of_adds(case);
    reasons.extend(of_drops(case));
    reasons
}

fn of_adds(case: &Case<'_>) -> Vec<Refusal> {
    let refusals = new_courses(case).filter_map(|section| {
        let required = section.course.corequisites.as_ref()?;
        let is_met = required.is_met(&has_after(case));
        if is_met || permits_course(case, section, Reason::CorequisiteRequired) {
            return None;
        }
        let message = format!("{} is taken together with or after {required}.", Named(section));
        let next_step = format!("Add {required} in the same registration.");
        Some(
            Refusal::section(Reason::CorequisiteRequired, &section.id, message, next_step)
                .against(required.to_string()),
        )
    });
    refusals.collect()
}

fn of_drops(case: &Case<'_>) -> Vec<Refusal> {
    let mut reasons: Vec<Refusal> = Vec::new();
    for stays in case.stays.iter().filter(|course| course.dropped_by.is_none()) {
        let Some(course) = case.catalog.course(&stays.course) else { continue };
        let Some(required) = &course.corequisites else { continue };
        let drops_course = |code: &str| case.drops.iter().any(|dropped| case.catalog.code(&dropped.course) == code);
        let met_before = required.is_met(&|code, minimum| has_after(case)(code, minimum) || drops_course(code));
        if !met_before || required.is_met(&has_after(case)) {
            continue;
        }
        let Some(dropped) = case.drops.iter().find(|dropped| is_named(case, required, dropped)) else { continue };
        let permitted = [&dropped.section, &stays.section];
        if permitted.into_iter().any(|section| case.permits(Reason::CorequisiteRequired, section)) {
            continue;
        }
        let (dropped_name, stays_name) = (named_record(case.catalog, dropped), named_record(case.catalog, stays));
        let message = format!("{stays_name} is taken together with {required}, so {dropped_name} can't go alone.");
        let next_step = format!("Drop {} too, or keep {}.", stays.section, dropped.section);
        let refusal = Refusal::section(Reason::CorequisiteRequired, &dropped.section, message, next_step);
        reasons.push(refusal.against(stays.section.as_str()));
    }
    reasons
}

/// What the student has done or will have, when the change set is done.
fn has_after(case: &Case<'_>) -> impl Fn(&str, Option<Letter>) -> bool {
    move |code, minimum| case.completed(code, minimum) || case.stays_in(code) || case.adds_course(code)
}

fn is_named(case: &Case<'_>, required: &Requirement, dropped: &RecordedCourse) -> bool {
    required.codes().contains(&case.catalog.code(&dropped.course))
}
