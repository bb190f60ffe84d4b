//! The rules of registration, one a file. Every rule is checked, and the answer has every reason that applies.

use matricula_kit::answer::Refusal;

use super::context::RuleContext;

mod active;
mod appointment;
mod corequisites;
mod credits;
mod deadlines;
mod duplicates;
mod holds;
mod links;
mod offered;
mod permission;
mod places;
mod prerequisites;
mod record;
mod required;
mod sections;
mod terms;
#[cfg(test)]
mod tests;
mod times;

pub use record::student_not_found;

/// A rule: the reasons that it has against a change set.
type Rule = fn(&RuleContext<'_>) -> Vec<Refusal>;

/// All rules, in the order in which their reasons are told: what concerns the student, the sections, the record, what
/// sections ask for, and what they do to one another.
const RULES: [Rule; 18] = [
    active::student_not_active,
    appointment::outside_appointment,
    holds::hold,
    sections::not_found,
    sections::cancelled,
    offered::course_not_offered,
    terms::term_closed,
    permission::permission_required,
    deadlines::add_deadline_passed,
    deadlines::drop_deadline_passed,
    record::already_enrolled,
    record::not_enrolled,
    duplicates::duplicate_course,
    links::link_required,
    prerequisites::prerequisite_not_met,
    corequisites::corequisite_required,
    times::time_conflict,
    credits::max_credits_exceeded,
];

/// The rules of rosters: those without which the record would be wrong.
const RULES_OF_ROSTERS: [Rule; 4] =
    [sections::not_found, record::already_enrolled, record::not_enrolled, places::one_place_in_a_part];

/// Every reason against a change set that an import makes of a roster; none: it is allowed.
pub fn check_roster(context: &RuleContext<'_>) -> Vec<Refusal> {
    RULES_OF_ROSTERS.iter().flat_map(|rule| rule(context)).collect()
}

/// Every reason against a change set, in a stable order; none: it is allowed.
pub fn check(context: &RuleContext<'_>) -> Vec<Refusal> {
    RULES.iter().flat_map(|rule| rule(context)).collect()
}

/// Credits as students read them: `3`, `1.5`.
fn shown_credits(hundredths: i64) -> String {
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
