//! `MAX_CREDITS_EXCEEDED`: no more credits than a session allows. A student who is over the limit already may change to
//! what is no more.
//!
//! | session | limit |
//! |---|---|
//! | the outermost term or semester of what is added | the student's own, or the session's |
//! | a part of it that has a limit | the part's |
//!
//! Credits that staff permit do not count against the limit for others, because the student could register them last;
//! except where another added course asks for theirs as a prerequisite.

use matricula_kit::answer::{Reason, Refusal};
use matricula_kit::id::TermId;

use super::prerequisites::must_precede;
use super::required::permits_course;
use super::shown_credits;
use crate::domain::catalog::{Section, Term};
use crate::domain::context::RuleContext;
use crate::domain::student::RecordedCourse;

pub(super) fn max_credits_exceeded(context: &RuleContext<'_>) -> Vec<Refusal> {
    let mut limited: Vec<(&Term, i32)> = Vec::new();
    for add in &context.adds {
        for (session, limit) in limits(context, &add.term) {
            if !limited.iter().any(|(other, _)| other.id == session.id) {
                limited.push((session, limit));
            }
        }
    }
    limited.into_iter().filter_map(|(session, limit)| check_session(context, session, limit)).collect()
}

/// The sessions whose limits hold for a term, the outermost one first.
fn limits<'a>(context: &RuleContext<'a>, term: &Term) -> impl Iterator<Item = (&'a Term, i32)> {
    let mut sessions: Vec<&Term> = context.catalog.credit_sessions(&term.id).collect();
    sessions.reverse();
    let own = Some(context.student.profile.max_credits_hundredths).filter(|own| *own != 0);
    let limit = move |(index, session): (usize, &'a Term)| match own {
        Some(own) if index == 0 => (session, own),
        _ => (session, session.max_credits_hundredths),
    };
    sessions.into_iter().enumerate().map(limit).filter(|(_, limit)| *limit != 0)
}

fn check_session(context: &RuleContext<'_>, session: &Term, limit: i32) -> Option<Refusal> {
    let adds_up = |term: &TermId| context.catalog.credit_sessions(term).any(|around| around.id == session.id);
    let sum = |courses: &[&RecordedCourse]| -> i64 {
        let within = courses.iter().filter(|course| adds_up(&course.term));
        within.map(|course| i64::from(course.credits_hundredths)).sum()
    };
    let credits =
        |adds: &[&Section]| -> i64 { adds.iter().map(|add| i64::from(context.carried_credits_hundredths(add))).sum() };
    let adds = context.adds.iter().copied().filter(|add| adds_up(&add.term.id));
    let (mut permitted, asked): (Vec<&Section>, Vec<&Section>) =
        adds.partition(|add| permits_course(context, add, Reason::MaxCreditsExceeded));
    permitted.retain(|add| must_precede(context, add, &asked));
    let (has, added) = (sum(&context.stays) + credits(&permitted), credits(&asked));
    let limit = i64::from(limit);
    if has + added <= limit || added <= sum(&context.drops) {
        return None;
    }
    let message = format!(
        "This would make {} credits in {}, and your limit is {}: you have {} and add {}.",
        shown_credits(has + added),
        session.title,
        shown_credits(limit),
        shown_credits(has),
        shown_credits(added),
    );
    let next_step = "Drop a course in the same registration, or ask your advisor for a higher limit.";
    Some(Refusal::whole(Reason::MaxCreditsExceeded, message, next_step).against(session.id.as_str()))
}
