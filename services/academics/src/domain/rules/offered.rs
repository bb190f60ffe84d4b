//! `COURSE_NOT_OFFERED`: an import has closed the course.

use matricula_kit::answer::{Reason, Refusal};

use crate::domain::context::{Named, RuleContext};

pub(super) fn course_not_offered(context: &RuleContext<'_>) -> Vec<Refusal> {
    let closed = context.adds.iter().filter(|section| section.course.closed);
    let refusals = closed.map(|section| {
        let message = format!("{} can't be added: the course is not offered any more.", Named(section));
        Refusal::section(Reason::CourseNotOffered, &section.id, message, "Choose a section of another course.")
    });
    refusals.collect()
}
