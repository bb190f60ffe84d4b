//! `PERMISSION_REQUIRED`: into some sections staff let each student by name.

use matricula_kit::answer::{Reason, Refusal};

use crate::domain::context::{Named, RuleContext};

pub(super) fn permission_required(context: &RuleContext<'_>) -> Vec<Refusal> {
    let closed = context.adds.iter().filter(|section| section.permission_required);
    let closed = closed.filter(|section| !context.permits(Reason::PermissionRequired, &section.id));
    let refusals = closed.map(|section| {
        let message = format!("{} takes students by permission only, and you have none.", Named(section));
        Refusal::section(Reason::PermissionRequired, &section.id, message, "Ask the instructor for permission.")
    });
    refusals.collect()
}
