//! `TERM_CLOSED`: the term has ended when the registration is submitted, or an import has closed the term or a session
//! around it.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::time::shown;

use crate::domain::catalog::Section;
use crate::domain::context::{Named, RuleContext};

pub(super) fn term_closed(context: &RuleContext<'_>) -> Vec<Refusal> {
    let refusals = context.adds.iter().filter_map(|section| {
        let message = format!("{} can't be added: {}.", Named(section), why_closed(context, section)?);
        Some(Refusal::section(Reason::TermClosed, &section.id, message, "Choose a section of a term that is open."))
    });
    refusals.collect()
}

fn why_closed(context: &RuleContext<'_>, section: &Section) -> Option<String> {
    let term = &section.term;
    if let Some(closed) = context.catalog.closed_session(&term.id) {
        return Some(format!("{} is closed", closed.title));
    }
    let end = term.ends_at().filter(|end| context.change.submitted_at >= *end)?;
    Some(format!("{} ended on {}", term.title, shown(end, &term.time_zone)))
}
