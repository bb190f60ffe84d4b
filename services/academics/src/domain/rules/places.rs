//! `DUPLICATE_COURSE` for rosters: a student has one place in a part of a course, whatever staff permit. The record
//! would be wrong otherwise, and the enrollment service refuses it.

use matricula_kit::answer::{Reason, Refusal};

use crate::domain::catalog::Section;
use crate::domain::context::{Named, RuleContext};

pub(super) fn one_place_in_a_part(context: &RuleContext<'_>) -> Vec<Refusal> {
    let refusals = context.adds.iter().enumerate().filter_map(|(index, add)| {
        let others = context.staying_sections().chain(context.adds[..index].iter().copied());
        let other = others.into_iter().find(|other| is_same_part(add, other))?;
        let message =
            format!("{} is the same part of its course as {}, which the student has.", Named(add), Named(other));
        let next_step = format!("Drop {} first, if the roster is right.", other.id);
        Some(Refusal::section(Reason::DuplicateCourse, &add.id, message, next_step).against(other.id.as_str()))
    });
    refusals.collect()
}

fn is_same_part(one: &Section, other: &Section) -> bool {
    (&one.course.id, &one.component) == (&other.course.id, &other.component)
}
