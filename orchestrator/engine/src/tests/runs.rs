//! Whole runs: the history that a script of answers leads to.

use super::audit::audit;
use super::sample;
use super::world::{Script, World, run};
use crate::*;

#[track_caller]
fn check(script: &str, expect: &str) {
    let def = sample();
    let world = run(&def, script);
    assert_eq!(world.history().replace("; ", "\n"), expect.replace("; ", "\n"), "script {script:?}");
    audit(&world);
}

const TAIL: &str = "settle_courses; release_dropped_seats; refund_fees; notify; finished => completed, committed";

#[test]
fn forward() {
    check("", &format!("reserve_courses; hold_seats; create_enrollments; assess_fees; commit_enrollments; {TAIL}"));
}

#[test]
fn steps_and_stages_with_nothing_to_do_are_skipped() {
    check(
        "skip:hold_seats skip:assess_fees skip:settle_courses",
        "reserve_courses; create_enrollments; commit_enrollments; release_dropped_seats; refund_fees; notify; finished \
         => completed, committed",
    );
    check(
        "skip:hold_seats assess_fees=no",
        "reserve_courses; create_enrollments; assess_fees no; turned: refused; \
        undo create_enrollments; undo reserve_courses; notify; finished => compensated, refused",
    );
    let only_pivot = "skip:reserve_courses skip:hold_seats skip:create_enrollments skip:assess_fees skip:settle_courses \
        skip:release_dropped_seats skip:refund_fees skip:notify";
    check(only_pivot, "commit_enrollments; finished => completed, committed");
    check(
        &format!("{only_pivot} commit_enrollments=no"),
        "commit_enrollments no; turned: refused; finished => compensated, refused",
    );
}

#[test]
fn a_refusal_undoes_all_that_may_have_been_done() {
    check("reserve_courses=no", "reserve_courses no; turned: refused; notify; finished => compensated, refused");
    check(
        "hold_seats=no",
        "reserve_courses; hold_seats no; turned: refused; undo reserve_courses; notify; finished \
         => compensated, refused",
    );
    check(
        "create_enrollments=no",
        "reserve_courses; hold_seats; create_enrollments no; assess_fees; turned: refused; \
         undo assess_fees; undo hold_seats; undo reserve_courses; notify; finished => compensated, refused",
    );
    // The effect of a call without an answer is unknown. A later attempt that is refused settles all attempts.
    check(
        "hold_seats=unavailable,no",
        "reserve_courses; hold_seats unavailable; hold_seats no; turned: refused; undo reserve_courses; notify; finished \
         => compensated, refused",
    );
    check(
        "commit_enrollments=no",
        "reserve_courses; hold_seats; create_enrollments; assess_fees; commit_enrollments no; turned: refused; \
         undo create_enrollments; undo assess_fees; undo hold_seats; undo reserve_courses; notify; finished \
         => compensated, refused",
    );
}

#[test]
fn parallel_refusals_are_all_kept() {
    check(
        "create_enrollments=no assess_fees=no",
        "reserve_courses; hold_seats; create_enrollments no; assess_fees no; turned: refused; \
         undo hold_seats; undo reserve_courses; notify; finished => compensated, refused",
    );
    let def = sample();
    let world = run(&def, "create_enrollments=no assess_fees=no");
    let refusals: Vec<_> = world.state.refusals().collect();
    assert_eq!(
        refusals,
        [("create_enrollments", "create_enrollments says no"), ("assess_fees", "assess_fees says no")]
    );
}

#[test]
fn a_refusal_waits_for_first_answers_but_not_for_retries() {
    // The failure comes after the refusal. It was the first answer, so the saga does not wait for the call again.
    check(
        "create_enrollments=no assess_fees=unavailable",
        "reserve_courses; hold_seats; create_enrollments no; assess_fees unavailable; turned: refused; \
         undo assess_fees; undo hold_seats; undo reserve_courses; notify; finished => compensated, refused",
    );
    check(
        "create_enrollments=unavailable assess_fees=no",
        "reserve_courses; hold_seats; create_enrollments unavailable; assess_fees no; turned: refused; \
         undo create_enrollments; undo hold_seats; undo reserve_courses; notify; finished => compensated, refused",
    );
    // Waiting ends with the deadline, and the refusal is still the reason.
    check(
        "create_enrollments=no assess_fees=never",
        "reserve_courses; hold_seats; create_enrollments no; turned: refused; \
         undo assess_fees; undo hold_seats; undo reserve_courses; notify; finished => compensated, refused",
    );
}

#[test]
fn a_failure_is_not_a_refusal() {
    check(
        "create_enrollments=unavailable assess_fees=internal,aborted",
        &format!(
            "reserve_courses; hold_seats; create_enrollments unavailable; assess_fees internal; create_enrollments; \
             assess_fees aborted; assess_fees; commit_enrollments; {TAIL}"
        ),
    );
}

#[test]
fn cancel_before_the_pivot() {
    check(
        "cancel@reserve_courses",
        "turned: cancelled by ada: changed my mind; undo reserve_courses; notify; finished => compensated, cancelled",
    );
    check(
        "cancel@assess_fees",
        "reserve_courses; hold_seats; create_enrollments; turned: cancelled by ada: changed my mind; \
         undo create_enrollments; undo assess_fees; undo hold_seats; undo reserve_courses; notify; finished \
         => compensated, cancelled",
    );
}

#[test]
fn cancel_at_or_after_the_pivot_changes_nothing() {
    let forward = format!("reserve_courses; hold_seats; create_enrollments; assess_fees; commit_enrollments; {TAIL}");
    check("cancel@commit_enrollments", &forward);
    check("cancel@notify", &forward);
}

#[test]
fn the_deadline_starts_a_compensation_only_before_the_pivot() {
    check(
        "hold_seats=never",
        "reserve_courses; turned: deadline passed; undo hold_seats; undo reserve_courses; notify; finished \
         => compensated, timed_out",
    );
    let def = sample();
    let mut world = World::admit(&def, ["commit_enrollments"]);
    world.now_ms = 60_000;
    world.input(Input::Wake).unwrap();
    assert_eq!(world.run(&Script::default()).history(), "commit_enrollments; finished => completed, committed");
}

#[test]
fn the_tail_and_the_undos_are_retried_for_ever() {
    check(
        "skip:settle_courses skip:refund_fees notify=unavailable,unavailable,unavailable,unavailable",
        "reserve_courses; hold_seats; create_enrollments; assess_fees; commit_enrollments; release_dropped_seats; \
         notify unavailable; notify unavailable; notify unavailable!; notify unavailable!; notify; finished \
         => completed, committed",
    );
    // No compensation, no step after the pivot and no finalizer may be refused. A person must look, and the saga goes
    // on.
    check(
        "hold_seats=no undo:reserve_courses=no,done notify=no,done",
        "reserve_courses; hold_seats no; turned: refused; undo reserve_courses failed_precondition!; \
         undo reserve_courses; notify failed_precondition!; notify; finished => compensated, refused",
    );
    check(
        "settle_courses=no skip:release_dropped_seats skip:refund_fees",
        "reserve_courses; hold_seats; create_enrollments; assess_fees; commit_enrollments; \
         settle_courses failed_precondition!; notify; settle_courses; finished => completed, committed",
    );
}

#[test]
fn the_outcome_stands_before_the_end() {
    let def = sample();
    let world = run(&def, "hold_seats=no notify=never");
    assert_eq!((world.state.phase(), world.state.outcome()), (Phase::Compensating, Outcome::Refused));
    assert_eq!((world.decided.as_slice(), world.finished), ([Outcome::Refused].as_slice(), 0));

    let world = run(&def, "hold_seats=no undo:reserve_courses=never");
    assert_eq!((world.state.phase(), world.state.outcome()), (Phase::Compensating, Outcome::Pending));
    assert!(world.decided.is_empty());

    let world = run(&def, "notify=never");
    assert_eq!((world.state.phase(), world.state.outcome()), (Phase::Completing, Outcome::Committed));
    assert_eq!(world.state.output("hold_seats"), Some("hold_seats done"));
}

#[test]
fn answers_that_are_not_waited_for_change_nothing() {
    let def = sample();
    let done = || CallAnswer::Done(String::new());
    let mut world = World::admit(&def, def.steps().iter().map(|step| step.name));
    let answered =
        |step, direction, attempt| Input::Answered { step, direction, attempt, started_at_ms: 0, answer: done() };
    let (first, second) = (StepIndex(0), StepIndex(1));
    let stale = |world: &mut World<'_>, step: StepIndex, direction, attempt| {
        let before = world.state.clone();
        let name = def.step(step).name;
        let expected = Err(DecideError::Stale { step: name, direction, attempt });
        assert_eq!(world.input(answered(step, direction, attempt)), expected);
        assert_eq!(world.state, before);
    };
    stale(&mut world, first, Direction::Forward, 2);
    stale(&mut world, first, Direction::Compensation, 1);
    stale(&mut world, second, Direction::Forward, 1);
    world.input(answered(first, Direction::Forward, 1)).unwrap();
    stale(&mut world, first, Direction::Forward, 1);
    world.input(Input::Cancel { by: "ada".to_owned(), reason: String::new() }).unwrap();
    stale(&mut world, second, Direction::Forward, 1);
    assert_eq!(
        world.input(answered(StepIndex(99), Direction::Forward, 1)),
        Err(DecideError::UnknownStep { step: StepIndex(99) })
    );
}

#[test]
fn a_cancel_answers_by_where_the_saga_stands() {
    let def = sample();
    let cancel = |script: &str| {
        let mut world = run(&def, script);
        let events = world.log.len();
        let answer = world.input(Input::Cancel { by: "bob".to_owned(), reason: String::new() });
        (answer, world.log.len() - events)
    };
    assert_eq!(cancel("cancel@hold_seats undo:hold_seats=never"), (Ok(()), 0));
    assert_eq!(cancel("cancel@hold_seats"), (Ok(()), 0));
    let compensating = Err(DecideError::AlreadyCompensating { cause: Cause::Refused });
    assert_eq!(cancel("hold_seats=no undo:hold_seats=never"), (compensating.clone(), 0));
    assert_eq!(cancel("hold_seats=no"), (compensating, 0));
    let late = |phase| Err(DecideError::TooLateToCancel { phase });
    assert_eq!(cancel("commit_enrollments=never"), (late(Phase::Running), 0));
    assert_eq!(cancel("notify=never"), (late(Phase::Completing), 0));
    assert_eq!(cancel(""), (late(Phase::Completed), 0));
}
