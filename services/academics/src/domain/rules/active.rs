//! `STUDENT_NOT_ACTIVE`: a student whom an import has closed, or whose role has not begun or is over, adds nothing.
//! Such a student can drop sections.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::time::shown;

use crate::domain::context::RuleContext;

/// Role dates are judged at the decision: a student whose role ended while the registration waited is not active.
pub(super) fn student_not_active(context: &RuleContext<'_>) -> Vec<Refusal> {
    let (change, profile) = (&context.change, &context.student.profile);
    let only_drops = change.adds.is_empty() && !change.drops.is_empty();
    if only_drops {
        return Vec::new();
    }
    let (now, zone) = (context.at.now, &context.at.zone);
    let message = match (profile.active_from, profile.active_until) {
        _ if profile.closed || profile.disabled => {
            "You are not an active student, so you can't add sections.".to_owned()
        }
        (Some(from), _) if now < from => {
            format!("You are a student from {} on, so you can't add sections yet.", shown(from, zone))
        }
        (_, Some(until)) if now >= until => {
            format!("You were a student until {}, so you can't add sections any more.", shown(until, zone))
        }
        _ => return Vec::new(),
    };
    let next_step = "Ask the registrar to correct your status. You can still drop sections.";
    vec![Refusal::whole(Reason::StudentNotActive, message, next_step)]
}
