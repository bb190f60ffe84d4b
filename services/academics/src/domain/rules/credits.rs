//! `MAX_CREDITS_EXCEEDED`: no more credits than a session allows. A student who is over the limit already may change to
//! what is no more.
//!
//! | session | limit |
//! |---|---|
//! | the outermost term or semester of what is added | the student's own, or the session's |
//! | a part of it that has a limit | the part's |
//!
//! Credits that staff permit do not count against the limit for others: a student would register them last.

use matricula_kit::answer::{Reason, Refusal};

use super::required::permits_course;
use super::shown_credits;
use crate::domain::case::Case;
use crate::domain::catalog::Term;
use crate::domain::student::RecordedCourse;

pub(super) fn max_credits_exceeded(case: &Case<'_>) -> Vec<Refusal> {
    let mut limited: Vec<(&Term, i32)> = Vec::new();
    for add in &case.adds {
        for (session, limit) in limits(case, &add.term) {
            if !limited.iter().any(|(other, _)| other.id == session.id) {
                limited.push((session, limit));
            }
        }
    }
    limited.into_iter().filter_map(|(session, limit)| check_session(case, session, limit)).collect()
}

/// The sessions whose limits hold for a term, the outermost one first.
fn limits<'a>(case: &Case<'a>, term: &'a Term) -> impl Iterator<Item = (&'a Term, i32)> {
    let outermost = case.catalog.credit_session(term);
    let limit = match case.student.profile.max_credits_hundredths {
        0 => outermost.max_credits_hundredths,
        own => own,
    };
    let parts = case.catalog.sessions(&term.id).take_while(|part| part.id != outermost.id);
    let parts = parts.map(|part| (part, part.max_credits_hundredths));
    std::iter::once((outermost, limit)).chain(parts).filter(|(_, limit)| *limit != 0)
}

fn check_session(case: &Case<'_>, session: &Term, limit: i32) -> Option<Refusal> {
    let sum = |courses: &[&RecordedCourse]| -> i64 {
        let within = courses.iter().filter(|course| case.catalog.is_within(&course.term, session));
        within.map(|course| i64::from(course.credits_hundredths)).sum()
    };
    let adds = case.adds.iter().filter(|add| case.catalog.is_within(&add.term.id, session));
    let asked = adds.filter(|add| !permits_course(case, add, Reason::MaxCreditsExceeded));
    let added: i64 = asked.map(|add| i64::from(case.carried_credits_hundredths(add))).sum();
    let (stays, drops, limit) = (sum(&case.stays), sum(&case.drops), i64::from(limit));
    if stays + added <= limit || added <= drops {
        return None;
    }
    let message = format!(
        "This would make {} credits in {}, and your limit is {}: you have {} and add {}.",
        shown_credits(stays + added),
        session.title,
        shown_credits(limit),
        shown_credits(stays),
        shown_credits(added),
    );
    let next_step = "Drop a course in the same registration, or ask your advisor for a higher limit.";
    Some(Refusal::whole(Reason::MaxCreditsExceeded, message, next_step).against(session.id.as_str()))
}
