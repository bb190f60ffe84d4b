//! `LINK_REQUIRED`: a course that comes in parts is taken as exactly one class of each part of one configuration.
//! PendingQuery of every course that the change set touches, as it would be afterwards: complete, or gone.

use std::collections::BTreeMap;

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::id::SectionId;

use crate::domain::catalog::{Offering, Section};
use crate::domain::component::Component;
use crate::domain::context::{Named, RuleContext};

/// How many sections that would do are named: enough to choose from, few enough to read.
const SUGGESTIONS_MAX: usize = 5;

pub(super) fn link_required(context: &RuleContext<'_>) -> Vec<Refusal> {
    let mut reasons = Vec::new();
    for touched in touched(context) {
        let Some(offering) = context.catalog.offering(touched).filter(|offering| !offering.is_single()) else {
            continue;
        };
        let after: Vec<&Section> = context
            .staying_sections()
            .chain(context.adds.iter().copied())
            .filter(|section| section.is_of_same_offering(touched))
            .collect();
        let dropped = context.drops.iter().filter(|course| course.course == touched.course.id);
        let mut concerned = after.iter().map(|section| &section.id).chain(dropped.map(|course| &course.section));
        if after.is_empty() || concerned.any(|section| context.permits(Reason::LinkRequired, section)) {
            continue;
        }
        check_set(touched, &after, offering, &mut reasons);
    }
    reasons
}

/// One section of each course and term that the change set touches: the first one that it names.
fn touched<'a>(context: &RuleContext<'a>) -> Vec<&'a Section> {
    let dropped = context.drops.iter().filter_map(|course| context.catalog.section(&course.section));
    let mut touched: Vec<&Section> = Vec::new();
    for section in context.adds.iter().copied().chain(dropped) {
        if !touched.iter().any(|other| other.is_of_same_offering(section)) {
            touched.push(section);
        }
    }
    touched
}

/// Checks the classes of one course that the student would have afterwards.
fn check_set(touched: &Section, after: &[&Section], offering: &Offering, reasons: &mut Vec<Refusal>) {
    let mut taken: BTreeMap<&Component, Vec<&SectionId>> = BTreeMap::new();
    for section in after {
        if let Some(component) = &section.component {
            taken.entry(component).or_default().push(&section.id);
        }
    }
    let Some((first, _)) = taken.first_key_value() else { return };
    if let Some(other) = taken.keys().find(|component| component.configuration != first.configuration) {
        let message = format!(
            "{} is taken in one configuration: component {other} does not go with component {first}.",
            touched.course.code
        );
        let next_step = format!("Choose all parts of {} from one configuration.", touched.course.code);
        reasons.push(refusal(touched, message, next_step).against(other.to_string()));
        return;
    }
    for (component, sections) in &taken {
        if let [one, two, ..] = sections.as_slice() {
            let message = format!(
                "{} is taken with one class of component {component}, not with {one} and {two}.",
                touched.course.code
            );
            let next_step = format!("Take one of {one} and {two}; to change between them, drop the other one.");
            reasons.push(refusal(touched, message, next_step).against(component.to_string()));
        }
    }
    for (component, sections) in offering.parts_of(&first.configuration) {
        if !taken.contains_key(component) {
            let message =
                format!("{} is taken with a class of component {component}, which is missing.", Named(touched));
            let next_step = format!("In the same registration, add {}, or leave the whole course.", one_of(sections));
            reasons.push(refusal(touched, message, next_step).against(component.to_string()));
        }
    }
}

fn refusal(touched: &Section, message: String, next_step: String) -> Refusal {
    Refusal::section(Reason::LinkRequired, &touched.id, message, next_step)
}

/// "S1", "S1 or S2", "one of S1, S2, S3".
fn one_of(sections: &[SectionId]) -> String {
    let names: Vec<&str> = sections.iter().take(SUGGESTIONS_MAX).map(SectionId::as_str).collect();
    let and_others = if sections.len() > SUGGESTIONS_MAX { " and others" } else { "" };
    match names.as_slice() {
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} or {two}"),
        many => format!("one of {}{and_others}", many.join(", ")),
    }
}
