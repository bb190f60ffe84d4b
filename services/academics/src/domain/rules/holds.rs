//! `HOLD`: a hold on the record forbids registration; one reason a hold.

use matricula_kit::answer::{Reason, Refusal};

use crate::domain::context::RuleContext;

pub(super) fn hold(context: &RuleContext<'_>) -> Vec<Refusal> {
    if context.student.profile.holds.is_empty() || context.permits_whole(Reason::Hold) {
        return Vec::new();
    }
    let holds = context.student.profile.holds.iter().map(|hold| {
        let message = format!("A hold on your record forbids registration: {}", hold.description);
        Refusal::whole(Reason::Hold, message, "Clear the hold, then register again.").against(hold.id.as_str())
    });
    holds.collect()
}
