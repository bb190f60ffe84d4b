//! Counts of hand-written clicks.

use matricula_proto::common::v1::{Reason, Refusal};

use super::*;

/// A click due at `due_ms`, sent 1 ms later and ended 10 ms after that.
pub fn answered(key: &str, due_ms: u64, followed: Followed) -> Answered {
    Answered {
        student_id: "S1".to_owned(),
        key: key.to_owned(),
        followed,
        due: Duration::from_millis(due_ms),
        sent: Duration::from_millis(due_ms + 1),
        admitted: Duration::from_millis(due_ms + 1),
        first_answer: None,
        acknowledged: None,
        ended: Duration::from_millis(due_ms + 11),
    }
}

/// A decided registration; a refused one has two sections closed and a hold.
pub fn decided(id: &str, outcome: Outcome) -> Followed {
    let refusal = |reason: Reason| Refusal { reason: reason.into(), ..Refusal::default() };
    let reasons = match outcome {
        Outcome::Refused => [Reason::ClosedSection, Reason::Hold, Reason::ClosedSection].map(refusal).to_vec(),
        _ => Vec::new(),
    };
    let registration =
        Registration { registration_id: id.to_owned(), outcome: outcome.into(), reasons, ..Registration::default() };
    Followed { end: Ok(registration), rejected: 0, lost: 0 }
}

/// A click that was rejected twice, lost an answer and was given up.
pub fn lost(error: &str) -> Followed {
    Followed { end: Err(error.to_owned()), rejected: 2, lost: 1 }
}

/// The player's counts after this many clicks.
pub fn sent(clicks: u64) -> Sent {
    let sent = Sent::default();
    for _ in 0..clicks {
        sent.begin(Duration::ZERO);
        sent.end(Duration::ZERO, true);
    }
    sent
}

#[test]
fn a_stall_is_time_without_outcomes_while_clicks_are_outstanding() {
    let ms = Duration::from_millis;
    let sent = Sent::default();
    // Alone, and answered after 20 ms.
    sent.begin(ms(1_000));
    sent.end(ms(1_020), true);
    // No click is outstanding for a minute: that is no stall. Then two are outstanding; one is given up, which is no
    // outcome.
    sent.begin(ms(61_000));
    sent.begin(ms(61_010));
    sent.end(ms(61_050), false);
    sent.end(ms(61_090), true);
    let mut tally = Tally::default();
    tally.close(&sent);
    assert_eq!((tally.stall_longest, tally.clicks, tally.outstanding_max), (ms(90), 3, 2));
}

/// Adds answers to one key, and checks (registrations, repeated with the same answer, repeated with a different
/// answer).
#[track_caller]
fn check(answers: &[(&str, Outcome)], expected: (u64, u64, u64)) {
    let mut tally = Tally::default();
    for (id, outcome) in answers {
        tally.add(answered("k", 0, decided(id, *outcome)));
    }
    assert_eq!((tally.registrations(), tally.repeats.same, tally.repeats.different), expected);
}

#[test]
fn a_repeated_key_has_one_answer() {
    use Outcome::{Cancelled, Enrolled, Refused};
    check(&[("r1", Enrolled)], (1, 0, 0));
    check(&[("r1", Enrolled), ("r1", Enrolled)], (1, 1, 0));
    check(&[("r1", Refused), ("r1", Refused), ("r1", Refused)], (1, 2, 0));
    check(&[("r1", Enrolled), ("r2", Enrolled)], (1, 0, 1));
    check(&[("r1", Enrolled), ("r1", Cancelled)], (1, 0, 1));
}

#[test]
fn the_same_key_of_another_student_is_another_one() {
    let mut tally = Tally::default();
    tally.add(answered("k", 0, decided("r1", Outcome::Enrolled)));
    tally.add(Answered { student_id: "S2".to_owned(), ..answered("k", 0, decided("r2", Outcome::Refused)) });
    assert_eq!((tally.registrations(), tally.repeats.different), (2, 0));
}

#[test]
fn a_reason_counts_once_a_registration() {
    let mut tally = Tally::default();
    tally.add(answered("k1", 0, decided("r1", Outcome::Refused)));
    tally.add(answered("k2", 0, decided("r2", Outcome::Refused)));
    tally.add(answered("k2", 5, decided("r2", Outcome::Refused)));
    assert_eq!(tally.refusals, BTreeMap::from([("CLOSED_SECTION", 2), ("HOLD", 2)]));
    assert_eq!(tally.outcomes, BTreeMap::from([("REFUSED", 2)]));
}

#[test]
fn clicks_that_never_ended_are_missed() {
    let mut tally = Tally::default();
    tally.add(answered("k1", 0, decided("r1", Outcome::Enrolled)));
    tally.add(answered("k2", 0, lost("gone")));
    tally.close(&sent(3));
    assert_eq!((tally.clicks, tally.decided, tally.without_outcome()), (3, 1, 2));
    assert_eq!(tally.rejected, Troubled { clicks: 1, calls: 2, decided: 0 });
    assert_eq!(tally.errors, BTreeMap::from([("gone".to_owned(), 1)]));
}

#[test]
fn latency_counts_from_when_the_click_was_due() {
    let mut tally = Tally::default();
    tally.add(answered("k1", 500, decided("r1", Outcome::Enrolled)));
    let ms = |latency: &Latency| latency.max_ms().round();
    assert_eq!((ms(&tally.since_due), ms(&tally.since_sent), ms(&tally.lateness)), (11.0, 10.0, 1.0));
    assert_eq!(tally.active, Some((Duration::from_millis(501), Duration::from_millis(511))));
}

#[test]
fn first_answers_are_counted_by_kind() {
    let kinds: [AnswerKind; 3] = [Ok(()), Err(Status::resource_exhausted("full")), Err(Status::unavailable("gone"))]
        .each_ref()
        .map(AnswerKind::of);
    assert_eq!(kinds, [AnswerKind::Accepted, AnswerKind::RetryLater, AnswerKind::Other]);
    let mut tally = Tally::default();
    for (kind, took_ms) in kinds.into_iter().zip([20, 3, 500]) {
        let click = answered("k", 0, decided("r-1", Outcome::Enrolled));
        let at = click.sent + Duration::from_millis(took_ms);
        let acknowledged = (kind == AnswerKind::Accepted).then_some(at);
        tally.add(Answered { first_answer: Some(FirstAnswer { at, kind }), acknowledged, ..click });
    }
    assert_eq!(tally.acceptance.max_ms().round(), 21.0, "late sends count");
    let FirstAnswers { all, accepted, retry_later } = tally.first_answers.expect("they were measured");
    assert_eq!([all, accepted, retry_later].map(|latency| latency.max_ms().round()), [500.0, 20.0, 3.0]);
}
