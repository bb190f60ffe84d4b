//! `TIME_CONFLICT`: nobody is in two places at a time. One reason for each pair that clashes.

use matricula_kit::answer::{Reason, Refusal};

use crate::domain::catalog::Section;
use crate::domain::clash::Clash;
use crate::domain::context::{Named, RuleContext};

pub(super) fn time_conflict(context: &RuleContext<'_>) -> Vec<Refusal> {
    let mut reasons = Vec::new();
    for (index, add) in context.adds.iter().enumerate() {
        for other in context.staying_sections().chain(context.adds[..index].iter().copied()) {
            let Some(clash) = Clash::of(add, other) else { continue };
            if context.permits(Reason::TimeConflict, &add.id) || context.permits(Reason::TimeConflict, &other.id) {
                continue;
            }
            let with_zones = add.term.time_zone != other.term.time_zone;
            let message = format!(
                "{} meets {}, at the same time as {}, which meets {}: {clash}.",
                Named(add),
                meetings(add, with_zones),
                Named(other),
                meetings(other, with_zones)
            );
            let next_step = format!("Choose a section at another time, or drop {} in the same registration.", other.id);
            let refusal = Refusal::section(Reason::TimeConflict, &add.id, message, next_step);
            reasons.push(refusal.against(other.id.as_str()));
        }
    }
    reasons
}

/// When a section meets, and in which time zone, where that must be said.
fn meetings(section: &Section, with_zone: bool) -> String {
    match section.term.time_zone.iana_name() {
        Some(zone) if with_zone => format!("{} ({zone})", section.meetings),
        _ => section.meetings.to_string(),
    }
}
