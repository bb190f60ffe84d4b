//! `DUPLICATE_COURSE`: nobody takes a course twice at a time. Two classes of a course that comes in parts are the
//! business of `LINK_REQUIRED`, unless they are in different terms. Enrollments are unique a student and course, so
//! that a course of a term that has ended counts, too, until it is dropped.

use matricula_kit::answer::{Reason, Refusal};

use crate::domain::catalog::{Catalog, Section};
use crate::domain::context::{Named, RuleContext};

pub(super) fn duplicate_course(context: &RuleContext<'_>) -> Vec<Refusal> {
    let refusals = context.adds.iter().enumerate().filter_map(|(index, add)| {
        let others = context.staying_sections().chain(context.adds[..index].iter().copied());
        let other = others.into_iter().find(|other| {
            is_duplicate(context.catalog, add, other)
                && !context.permits(Reason::DuplicateCourse, &add.id)
                && !context.permits(Reason::DuplicateCourse, &other.id)
        })?;
        let message = format!("{} is the same course as {}, which you have or add.", Named(add), Named(other));
        let next_step = format!("Take one of them; to change sections, drop {} in the same registration.", other.id);
        Some(Refusal::section(Reason::DuplicateCourse, &add.id, message, next_step).against(other.id.as_str()))
    });
    refusals.collect()
}

fn is_duplicate(catalog: &Catalog, add: &Section, other: &Section) -> bool {
    if add.course.id != other.course.id {
        return false;
    }
    let is_single = catalog.offering(add).is_none_or(|offering| offering.is_single());
    add.term.id != other.term.id || (is_single && add.component == other.component)
}
