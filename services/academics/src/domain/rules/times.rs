//! `TIME_CONFLICT`: nobody is in two places at a time. One reason for each pair that clashes.

use matricula_kit::answer::{Reason, Refusal};

use crate::domain::case::{Case, Named};

pub(super) fn time_conflict(case: &Case<'_>) -> Vec<Refusal> {
    let mut reasons = Vec::new();
    for (index, add) in case.adds.iter().enumerate() {
        for other in case.staying_sections().chain(case.adds[..index].iter().copied()) {
            if other.term.id != add.term.id {
                continue;
            }
            let Some(clash) = add.meetings.clash(&other.meetings) else { continue };
            if case.permits(Reason::TimeConflict, &add.id) || case.permits(Reason::TimeConflict, &other.id) {
                continue;
            }
            let message = format!(
                "{} meets {}, at the same time as {}, which meets {}: {clash}.",
                Named(add),
                add.meetings,
                Named(other),
                other.meetings
            );
            let next_step = format!("Choose a section at another time, or drop {} in the same registration.", other.id);
            let refusal = Refusal::section(Reason::TimeConflict, &add.id, message, next_step);
            reasons.push(refusal.against(other.id.as_str()));
        }
    }
    reasons
}
