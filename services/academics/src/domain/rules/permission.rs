//! `PERMISSION_REQUIRED`: into some sections staff let each student by name.

use matricula_kit::answer::{Reason, Refusal};

use crate::domain::case::{Case, Named};

pub(super) fn permission_required(case: &Case<'_>) -> Vec<Refusal> {
    let closed = case.adds.iter().filter(|section| section.permission_required);
    let closed = closed.filter(|section| !case.permits(Reason::PermissionRequired, &section.id));
    let refusals = closed.map(|section| {
        let message = format!("{} takes students by permission only, and you have none.", Named(section));
        Refusal::section(Reason::PermissionRequired, &section.id, message, "Ask the instructor for permission.")
    });
    refusals.collect()
}
