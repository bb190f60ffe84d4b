//! `ADD_DEADLINE_PASSED` and `DROP_DEADLINE_PASSED`: the deadlines of the term, judged by when the registration was
//! submitted.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::time::shown;

use crate::domain::context::{Named, RuleContext, named_record};

pub(super) fn add_deadline_passed(context: &RuleContext<'_>) -> Vec<Refusal> {
    let refusals = context.adds.iter().filter_map(|section| {
        let deadline = section.term.add_deadline.filter(|deadline| context.change.submitted_at > *deadline)?;
        if context.permits(Reason::AddDeadlinePassed, &section.id) {
            return None;
        }
        let message = format!(
            "{} can't be added any more: the deadline of {} was {}.",
            Named(section),
            section.term.title,
            shown(deadline, &section.term.time_zone)
        );
        Some(Refusal::section(Reason::AddDeadlinePassed, &section.id, message, "Ask the registrar for a late add."))
    });
    refusals.collect()
}

pub(super) fn drop_deadline_passed(context: &RuleContext<'_>) -> Vec<Refusal> {
    let refusals = context.drops.iter().filter_map(|course| {
        let term = context.term_of(course)?;
        let deadline = term.drop_deadline.filter(|deadline| context.change.submitted_at > *deadline)?;
        if context.permits(Reason::DropDeadlinePassed, &course.section) {
            return None;
        }
        let message = format!(
            "{} can't be dropped any more: the deadline of {} was {}.",
            named_record(context.catalog, course),
            term.title,
            shown(deadline, &term.time_zone)
        );
        Some(Refusal::section(
            Reason::DropDeadlinePassed,
            &course.section,
            message,
            "Ask the registrar to withdraw you.",
        ))
    });
    refusals.collect()
}
