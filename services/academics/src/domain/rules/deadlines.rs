//! `ADD_DEADLINE_PASSED` and `DROP_DEADLINE_PASSED`: the deadlines of the term, judged by when the registration was
//! submitted.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::time::shown;

use crate::domain::case::{Case, Named, named_record};

pub(super) fn add_deadline_passed(case: &Case<'_>) -> Vec<Refusal> {
    let refusals = case.adds.iter().filter_map(|section| {
        let deadline = section.term.add_deadline.filter(|deadline| case.change.submitted_at > *deadline)?;
        if case.permits(Reason::AddDeadlinePassed, &section.id) {
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

pub(super) fn drop_deadline_passed(case: &Case<'_>) -> Vec<Refusal> {
    let refusals = case.drops.iter().filter_map(|course| {
        let term = case.term_of(course)?;
        let deadline = term.drop_deadline.filter(|deadline| case.change.submitted_at > *deadline)?;
        if case.permits(Reason::DropDeadlinePassed, &course.section) {
            return None;
        }
        let message = format!(
            "{} can't be dropped any more: the deadline of {} was {}.",
            named_record(case.catalog, course),
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
