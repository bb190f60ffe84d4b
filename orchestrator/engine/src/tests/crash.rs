//! A crash at every boundary of the log: what is resumed from a prefix ends as what was not interrupted. With all faults
//! and with participants: `orchestrator/testkit`.

use std::collections::BTreeMap;

use super::audit::audit;
use super::sample;
use super::world::{Script, World, run};
use crate::*;

/// The end of each attempt. The same script must bring the same ones, with or without a crash.
fn attempts(log: &[Recorded]) -> BTreeMap<(String, Leg, u32), &'static str> {
    let ends = log.iter().filter_map(|recorded| {
        let attempt = recorded.event.attempt()?;
        Some(((attempt.step.to_owned(), attempt.leg, attempt.number), recorded.event.name()))
    });
    ends.collect()
}

#[track_caller]
fn check(script: &str) {
    let def = sample();
    let whole = run(&def, script);
    let script = Script::parse(script);
    for cut in 1..=whole.log.len() {
        let mut resumed = World::replay(&def, whole.log[..cut].to_vec());
        resumed.adopt();
        let resumed = resumed.run(&script);
        audit(&resumed);
        let mut made = attempts(&resumed.log);
        // What the one before may have called beyond its log is undone, too.
        let expected = attempts(&whole.log);
        made.retain(|attempt, end| {
            expected.contains_key(attempt) || (attempt.1, *end) != (Leg::Undo, "step_succeeded")
        });
        assert_eq!(made, expected, "cut after {cut}");
        assert_eq!(resumed.state.outcome(), whole.state.outcome(), "cut after {cut}");
    }
}

#[test]
fn every_prefix_resumes_to_the_same_end() {
    check("");
    check("skip:hold_seats skip:assess_fees");
    check("reserve_courses=no");
    check("hold_seats=no");
    check("create_enrollments=no assess_fees=no");
    check("create_enrollments=no assess_fees=unavailable");
    check("create_enrollments=unavailable,unavailable assess_fees=unavailable,no");
    check("commit_enrollments=unavailable,no undo:hold_seats=internal,unimplemented");
    check("commit_enrollments=deadline_exceeded settle_courses=no notify=unknown,unknown,unknown,unknown");
    check("cancel@assess_fees undo:create_enrollments=unavailable notify=unavailable");
    check("hold_seats=never");
    check("reserve_courses=unavailable,unavailable,unavailable,never");
}

#[test]
fn an_ended_saga_resumes_to_its_end() {
    let def = sample();
    for (script, outcome) in [("", Outcome::Committed), ("hold_seats=no", Outcome::Refused)] {
        let ended = run(&def, script);
        let decision = decide(&def, &ended.state, Input::Resume, ended.now_ms, Jitter(0)).unwrap();
        assert_eq!((decision.events, decision.effects), (vec![], vec![Effect::Decided(outcome), Effect::Finished]));
        let adopt = Input::Adopt { by: "another".to_owned() };
        let decision = decide(&def, &ended.state, adopt, ended.now_ms, Jitter(0)).unwrap();
        assert_eq!((decision.events, decision.effects), (vec![], vec![Effect::Decided(outcome), Effect::Finished]));
        let decision = decide(&def, &ended.state, Input::Wake, ended.now_ms, Jitter(0)).unwrap();
        assert_eq!((decision.events, decision.effects), (vec![], vec![]));
    }
}

/// A wake repeats what is in flight, an answer does not: its stage is under way.
#[test]
fn calls_are_repeated_by_resume_and_wake_only() {
    let def = sample();
    let names = def.steps().iter().map(|step| step.name);
    let mut world = World::admit(&def, names);
    let done = || CallAnswer::Done(String::new());
    world.answer(0, done());
    world.answer(0, done());
    let create = Effect::Call { step: StepIndex(2), leg: Leg::Action, attempt: 1 };
    let assess = Effect::Call { step: StepIndex(3), leg: Leg::Action, attempt: 1 };
    for input in [Input::Resume, Input::Wake] {
        let decision = decide(&def, &world.state, input, 0, Jitter(0)).unwrap();
        assert_eq!((decision.ahead, decision.effects), (vec![create, assess], vec![]));
        assert_eq!(decision.wake_at_ms, Some(10_000), "its deadline");
    }
    let (step, leg, attempt) = (StepIndex(2), Leg::Action, 1);
    let answered = Input::Answered { step, leg, attempt, started_at_ms: 0, answer: done() };
    let decision = decide(&def, &world.state, answered, 0, Jitter(0)).unwrap();
    assert_eq!((decision.ahead, decision.effects, decision.wake_at_ms), (vec![], vec![], Some(10_000)));
}

/// Calls of actions that can be undone go ahead of the log; the pivot, undos and the tail wait for it.
#[test]
fn only_what_can_be_undone_goes_ahead() {
    #[track_caller]
    fn check(script: &str, ahead: &[&str], waiting: &[&str]) {
        let def = sample();
        let world = run(&def, script);
        let decision = decide(&def, &world.state, Input::Wake, world.now_ms, Jitter(0)).unwrap();
        let names = |effects: Vec<Effect>| {
            let calls = effects.into_iter().filter_map(|effect| match effect {
                Effect::Call { step, leg, .. } => Some(format!("{leg} {}", def.step(step).name)),
                Effect::Decided(_) | Effect::Finished => None,
            });
            calls.collect::<Vec<_>>()
        };
        assert_eq!((names(decision.ahead), names(decision.effects)), (owned(ahead), owned(waiting)), "{script}");
    }
    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }
    // What never answers runs into its deadline, except from the pivot on.
    check("commit_enrollments=never", &[], &["action commit_enrollments"]);
    check("notify=never", &[], &["action notify"]);
    check("hold_seats=no undo:hold_seats=never", &[], &["undo hold_seats"]);
    let def = sample();
    let mut world = World::admit(&def, def.steps().iter().map(|step| step.name));
    assert_eq!((world.durable, world.in_flight.len()), (1, 1), "the first call left");
    for _ in 0..4 {
        assert_eq!(world.durable, 1, "none of these calls waits for more than the admission");
        world.answer(0, CallAnswer::Done(String::new()));
    }
    assert_eq!((world.durable, world.log.len()), (5, 5), "the pivot's does");
}

/// A process dies whose calls went ahead of its log; who adopts the saga and turns it round undoes them all.
#[test]
fn what_may_have_gone_ahead_is_undone() {
    let def = sample();
    let names = ["reserve_courses", "hold_seats", "create_enrollments", "commit_enrollments", "notify"];
    let mut adopted = World::replay(&def, vec![Recorded::first(0, def.admit(names, 0))]);
    adopted.adopt();
    adopted.input(Input::Cancel { by: "ada".to_owned(), reason: String::new() }).unwrap();
    let adopted = adopted.run(&Script::default());
    assert_eq!(
        adopted.history(),
        "adopted; turned: cancelled by ada; undo create_enrollments; undo hold_seats; undo reserve_courses; notify; \
         finished => compensated, cancelled"
    );
}
