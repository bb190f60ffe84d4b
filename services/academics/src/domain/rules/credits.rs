//! `MAX_CREDITS_EXCEEDED`: no more credits in a term than the student's own limit, or the term's. Who is over the limit
//! already may change to what is no more.

use matricula_kit::answer::{Reason, Refusal};

use super::shown_credits;
use crate::domain::case::Case;
use crate::domain::catalog::Term;
use crate::domain::student::RecordedCourse;

pub(super) fn max_credits_exceeded(case: &Case<'_>) -> Vec<Refusal> {
    let mut terms: Vec<&Term> = Vec::new();
    for add in &case.adds {
        if !terms.iter().any(|term| term.id == add.term.id) {
            terms.push(&add.term);
        }
    }
    terms.into_iter().filter_map(|term| check_term(case, term)).collect()
}

fn check_term(case: &Case<'_>, term: &Term) -> Option<Refusal> {
    let limit = match case.student.profile.max_credits_hundredths {
        0 => term.max_credits_hundredths,
        own => own,
    };
    let sum = |courses: &[&RecordedCourse]| -> i64 {
        let of_term = courses.iter().filter(|course| course.term == term.id);
        of_term.map(|course| i64::from(course.credits_hundredths)).sum()
    };
    let adds = || case.adds.iter().filter(|add| add.term.id == term.id);
    let added: i64 = adds().map(|add| i64::from(case.carried_credits_hundredths(add))).sum();
    let (stays, drops) = (sum(&case.stays), sum(&case.drops));
    let is_over = limit != 0 && stays + added > i64::from(limit) && added > drops;
    if !is_over || adds().all(|add| case.permits(Reason::MaxCreditsExceeded, &add.id)) {
        return None;
    }
    let message = format!(
        "This would make {} credits in {}, and your limit is {}: you have {} and add {}.",
        shown_credits(stays + added),
        term.title,
        shown_credits(i64::from(limit)),
        shown_credits(stays),
        shown_credits(added),
    );
    let next_step = "Drop a course in the same registration, or ask your advisor for a higher limit.";
    Some(Refusal::whole(Reason::MaxCreditsExceeded, message, next_step).against(term.id.as_str()))
}
