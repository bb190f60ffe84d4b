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
        resumed.input(Input::Resume).unwrap();
        let resumed = resumed.run(&script);
        audit(&resumed);
        assert_eq!(attempts(&resumed.log), attempts(&whole.log), "cut after {cut}");
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
    let deadline = Effect::WakeAt { at_ms: 10_000 };
    for input in [Input::Resume, Input::Wake] {
        let decision = decide(&def, &world.state, input, 0, Jitter(0)).unwrap();
        assert_eq!(decision.effects, [create, assess, deadline]);
    }
    let (step, leg, attempt) = (StepIndex(2), Leg::Action, 1);
    let answered = Input::Answered { step, leg, attempt, started_at_ms: 0, answer: done() };
    let decision = decide(&def, &world.state, answered, 0, Jitter(0)).unwrap();
    assert_eq!(decision.effects, [deadline]);
}
