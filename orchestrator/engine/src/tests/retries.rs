//! Delays, codes, and when a person must look. `orchestrator/testkit` has the verdict on each code for each call.

use super::world::{Script, World, run};
use super::{retry, sample};
use crate::*;

fn schedule(def: &Definition, script: &str, jitter: Jitter) -> Vec<i64> {
    let script = Script::parse(script);
    let mut world = World::replay(def, vec![Recorded::first(0, def.admit(script.applies(def), 0))]);
    world.jitter = jitter;
    world.input(Input::Resume).unwrap();
    let log = world.run(&script).log;
    let waits = log.iter().filter_map(|recorded| match &recorded.event {
        Event::Failed { next_attempt_at_ms, .. } => Some(next_attempt_at_ms - recorded.at_ms),
        _ => None,
    });
    waits.collect()
}

#[test]
fn delays_double_to_the_cap_and_slow_down_with_attention() {
    let def = Definition::try_new(
        "patient",
        1,
        10_000,
        vec![Step {
            name: "pay",
            stage: 1,
            destination: "fees",
            action: "Pay",
            undo: None,
            kind: Kind::Pivot,
            retry: RetryPolicy::try_new(100, 400, 1_000, 5).unwrap(),
        }],
    )
    .unwrap();
    let failing = "pay=unavailable,unavailable,unavailable,unavailable,unavailable,unavailable";
    assert_eq!(schedule(&def, failing, Jitter(u32::MAX)), [100, 200, 400, 400, 1_000, 1_000]);
    assert_eq!(schedule(&def, failing, Jitter(0)), [50, 100, 200, 200, 500, 500]);
    assert_eq!(schedule(&def, failing, Jitter(1 << 31)), [75, 150, 300, 300, 750, 750]);
}

#[test]
fn one_delay() {
    #[track_caller]
    fn check(attempt: u32, verdict: Verdict, retry_after_ms: Option<i64>, jitter: u32, expect_ms: i64) {
        assert_eq!(delay_ms(&retry(), attempt, verdict, retry_after_ms, Jitter(jitter)), expect_ms);
    }
    use Verdict::{Retry, SlowRetry};
    check(0, Retry, None, u32::MAX, 100);
    check(u32::MAX, Retry, None, u32::MAX, 400);
    check(1, SlowRetry, None, u32::MAX, 1_000);
    // The delay that the service asked for is the floor. Jitter comes on top.
    check(1, Retry, Some(5_000), 0, 5_000);
    check(1, Retry, Some(5_000), u32::MAX, 5_050);
    check(1, Retry, Some(10), 0, 50);
    check(1, Retry, Some(-1), 0, 50);
    check(1, Retry, Some(i64::MAX), 0, 60_000);
    let longest_ms = delay_ms(&retry(), 1, SlowRetry, Some(i64::MAX), Jitter(u32::MAX));
    assert_eq!(longest_ms, retry().delay_longest_ms());
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let delays = |first, max, slow| {
        let error = RetryPolicyError::Delays { delay_first_ms: first, delay_max_ms: max, delay_slow_ms: slow };
        assert_eq!(RetryPolicy::try_new(first, max, slow, 1), Err(error));
    };
    delays(0, 1, 1);
    delays(2, 1, 2);
    delays(1, 2, 1);
    delays(1, 1, i64::MAX);
    assert_eq!(RetryPolicy::try_new(1, 1, 1, 0), Err(RetryPolicyError::NoAttempts));
}

#[test]
fn codes_have_the_numbers_and_names_of_grpc() {
    for (number, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!((code as usize, Code::from_number(number as i32)), (number, code));
        assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
    }
    assert_eq!([Code::from_number(-1), Code::from_number(17)], [Code::Unknown; 2]);
}

#[test]
fn attention_comes_with_failures_and_goes_with_success() {
    let def = sample();
    let failing = "hold_seats=unavailable,unavailable";
    let twice = run(&def, &format!("{failing},never"));
    assert!(!twice.log.iter().any(|recorded| matches!(recorded.event, Event::Failed { needs_attention: true, .. })));

    let mut world = World::admit(&def, ["commit_enrollments", "notify"]);
    let unknown = || CallAnswer::Unknown(CallError::new(Code::Unavailable, "lost", None));
    let mut seen = Vec::new();
    for _ in 0..4 {
        world.answer(0, unknown());
        seen.push(world.state.needs_attention());
        world.now_ms = world.wake_at_ms.unwrap();
        world.input(Input::Wake).unwrap();
    }
    assert_eq!(seen, [false, false, true, true]);
    world.answer(0, CallAnswer::Done(String::new()));
    assert!(!world.state.needs_attention());
    let pivot = &world.state.steps()[4].action;
    assert_eq!((pivot.attempts, pivot.first_failed_at_ms, pivot.next_attempt_at_ms), (5, Some(0), None));
}

#[test]
fn a_compensation_clears_the_attention_of_its_actions() {
    let def = sample();
    let world = run(&def, "hold_seats=unimplemented,never undo:hold_seats=never");
    assert_eq!(world.state.cause(), Some(&Cause::DeadlinePassed));
    assert!(!world.state.needs_attention());
}

/// The last failure was recorded by a process whose clock was an hour ahead. The saga does not wait for that clock.
#[test]
fn a_retry_of_a_clock_that_ran_ahead_is_due() {
    let def = sample();
    let mut world = World::admit(&def, ["commit_enrollments"]);
    world.now_ms = 3_600_000;
    world.answer(0, CallAnswer::Unknown(CallError::new(Code::Unavailable, "lost", None)));
    let mut adopted = World::replay(&def, world.log);
    adopted.now_ms = 0;
    adopted.adopt();
    assert_eq!(adopted.in_flight, [(StepIndex(4), Direction::Forward, 2)]);
}

#[test]
fn long_messages_are_cut_between_characters() {
    let error = CallError::new(Code::Internal, "ü".repeat(10_000), None);
    assert_eq!(error.message, "ü".repeat(250));
    let error = CallError::new(Code::Internal, format!("x{}", "ü".repeat(10_000)), None);
    assert_eq!(error.message.len(), 499);
}
