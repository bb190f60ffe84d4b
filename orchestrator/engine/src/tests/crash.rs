//! A crash at every boundary of the log: a saga that is resumed from a prefix ends as a saga that was not interrupted.
//! `orchestrator/testkit` has the same with all faults and with participants.

use std::collections::BTreeMap;

use super::audit::audit;
use super::sample;
use super::world::{Script, World, run};
use crate::*;

/// The end of each attempt. The same script must lead to the same ends, with or without a crash.
fn attempts(log: &[Recorded]) -> BTreeMap<(String, Direction, u32), &'static str> {
    let ends = log.iter().filter_map(|recorded| {
        let attempt = recorded.event.attempt()?;
        Some(((attempt.step.to_owned(), attempt.direction, attempt.number), recorded.event.name()))
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
        // The calls that the owner before may have made beyond its log are undone, too.
        let expected = attempts(&whole.log);
        made.retain(|attempt, end| {
            expected.contains_key(attempt) || (attempt.1, *end) != (Direction::Compensation, "step_succeeded")
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

/// A wake repeats the calls in flight. An answer does not, because its stage has already begun.
#[test]
fn calls_are_repeated_by_resume_and_wake_only() {
    let def = sample();
    let names = def.steps().iter().map(|step| step.name);
    let mut world = World::admit(&def, names);
    let done = || CallAnswer::Done(String::new());
    world.answer(0, done());
    world.answer(0, done());
    let create = Effect::Call { step: StepIndex(2), direction: Direction::Forward, attempt: 1 };
    let assess = Effect::Call { step: StepIndex(3), direction: Direction::Forward, attempt: 1 };
    for input in [Input::Resume, Input::Wake] {
        let decision = decide(&def, &world.state, input, 0, Jitter(0)).unwrap();
        assert_eq!((decision.ahead, decision.effects), (vec![create, assess], vec![]));
        assert_eq!(decision.wake_at_ms, Some(10_000), "its deadline");
    }
    let (step, direction, attempt) = (StepIndex(2), Direction::Forward, 1);
    let answered = Input::Answered { step, direction, attempt, started_at_ms: 0, answer: done() };
    let decision = decide(&def, &world.state, answered, 0, Jitter(0)).unwrap();
    assert_eq!((decision.ahead, decision.effects, decision.wake_at_ms), (vec![], vec![], Some(10_000)));
}

/// Calls of actions that can be undone go ahead of the log. Compensations, the steps after the pivot, and a pivot
/// without a compensation wait for the log.
#[test]
fn only_compensatable_calls_go_ahead_of_the_log() {
    #[track_caller]
    fn check(script: &str, ahead: &[&str], waiting: &[&str]) {
        let def = sample();
        let world = run(&def, script);
        let decision = decide(&def, &world.state, Input::Wake, world.now_ms, Jitter(0)).unwrap();
        let names = |effects: Vec<Effect>| {
            let calls = effects.into_iter().filter_map(|effect| match effect {
                Effect::Call { step, direction, .. } => Some(format!("{direction} {}", def.step(step).name)),
                Effect::Decided(_) | Effect::Finished => None,
            });
            calls.collect::<Vec<_>>()
        };
        assert_eq!((names(decision.ahead), names(decision.effects)), (owned(ahead), owned(waiting)), "{script}");
    }
    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }
    // A call that is never answered runs into the deadline, except from the pivot on.
    check("commit_enrollments=never", &[], &["action commit_enrollments"]);
    check("notify=never", &[], &["action notify"]);
    check("hold_seats=no undo:reserve_courses=never", &[], &["undo reserve_courses"]);
    let def = sample();
    let mut world = World::admit(&def, def.steps().iter().map(|step| step.name));
    assert_eq!((world.durable, world.in_flight.len()), (1, 1), "the first call left");
    for _ in 0..4 {
        assert_eq!(world.durable, 1, "none of these calls waits for more than the admission");
        world.answer(0, CallAnswer::Done(String::new()));
    }
    assert_eq!((world.durable, world.log.len()), (5, 5), "the pivot's does");
}

/// A process dies whose calls went ahead of its log. An adopter that starts the compensation undoes them all.
#[test]
fn calls_that_may_have_gone_ahead_are_undone() {
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

/// The sample, with a pivot that has a compensation.
fn asked() -> Definition {
    let mut steps = super::table();
    steps[4].undo = Some("WithdrawCommit");
    Definition::try_new("registration", 1, 10_000, steps).unwrap()
}

const NAMES: [&str; 5] = ["reserve_courses", "hold_seats", "create_enrollments", "commit_enrollments", "notify"];

/// A saga that was adopted with a log that has only the admission, and was cancelled.
fn cancelled_behind(def: &Definition) -> World<'_> {
    let mut adopted = World::replay(def, vec![Recorded::first(0, def.admit(NAMES, 0))]);
    adopted.adopt();
    adopted.input(Input::Cancel { by: "ada".to_owned(), reason: String::new() }).unwrap();
    adopted
}

#[test]
fn a_pivot_with_a_compensation_goes_ahead() {
    let def = asked();
    let mut world = World::admit(&def, NAMES);
    for _ in 0..4 {
        assert_eq!(world.durable, 1, "none of these calls waits for more than the admission");
        world.answer(0, CallAnswer::Done(String::new()));
    }
    assert_eq!((world.state.phase(), world.durable), (Phase::Completing, world.log.len()), "the tail waits");
}

#[test]
fn the_compensation_of_an_adopted_saga_begins_with_its_pivot() {
    let def = asked();
    let world = cancelled_behind(&def).run(&Script::default());
    audit(&world);
    assert_eq!(
        world.history(),
        "adopted; turned: cancelled by ada; undo commit_enrollments; undo create_enrollments; undo hold_seats; \
         undo reserve_courses; notify; finished => compensated, cancelled"
    );
    let script = "undo:commit_enrollments=unavailable,no reserve_courses=done,unavailable";
    let world = cancelled_behind(&def).run(&Script::parse(script));
    audit(&world);
    assert_eq!(
        world.history(),
        "adopted; turned: cancelled by ada; undo commit_enrollments unavailable; turned back; reserve_courses; hold_seats; \
         create_enrollments; commit_enrollments; notify; finished => completed, committed"
    );
}

/// Only the answers of the services count any more: not the deadline, not a cancel, not a refusal that contradicts the
/// pivot.
#[test]
fn a_reverted_compensation_is_not_started_again() {
    let def = asked();
    let mut world = cancelled_behind(&def);
    let ask = world.in_flight.iter().position(|(_, direction, _)| *direction == Direction::Compensation).unwrap();
    world.answer(ask, CallAnswer::Refused("it has happened".to_owned()));
    assert_eq!(world.state.outcome(), Outcome::Pending);
    let cancel = Input::Cancel { by: "ada".to_owned(), reason: String::new() };
    assert_eq!(world.input(cancel), Err(DecideError::TooLateToCancel { phase: Phase::Running }));
    world.now_ms = 1_000_000;
    world.input(Input::Wake).unwrap();
    assert_eq!(world.state.cause(), None, "its deadline has passed");
    world.answer(0, CallAnswer::Refused("by the rules".to_owned()));
    assert!(world.state.needs_attention(), "a refusal that contradicts the pivot is for a person");
    let refused =
        OperatorCommand::Resolve { step: NAMES[0].to_owned(), answer: Resolution::Refused { refusal: String::new() } };
    assert!(matches!(world.intervene(refused), Err(DecideError::Operator(OperatorCommandError::BeforePivot { .. }))));
    audit(&world.run(&Script::default()));
}

/// A call of the pivot may be under way, or wait for its service, when an operator finds that the pivot has not
/// happened. So the pivot is undone before any other step.
#[test]
fn the_pivot_is_withdrawn_first_after_a_resolution() {
    let def = asked();
    let found = |script: &str| {
        let mut world = World::admit(&def, NAMES);
        for _ in 0..3 {
            world.answer(0, CallAnswer::Done(String::new()));
        }
        world.answer(0, CallAnswer::Unknown(CallError::new(Code::Unavailable, "lost", None)));
        let answer = Resolution::Refused { refusal: "nothing is enrolled".to_owned() };
        world.intervene(OperatorCommand::Resolve { step: "commit_enrollments".to_owned(), answer }).unwrap();
        assert_eq!(
            world.intervene(OperatorCommand::Abandon),
            Err(DecideError::Operator(OperatorCommandError::OutcomeOpen))
        );
        let world = world.run(&Script::parse(script));
        audit(&world);
        let history = world.history();
        history.split_once("found refused; ").expect("it was resolved").1.to_owned()
    };
    assert_eq!(
        found(""),
        "turned: refused; undo commit_enrollments; undo create_enrollments; undo hold_seats; undo reserve_courses; notify; \
         finished => compensated, refused"
    );
    assert_eq!(
        found("undo:commit_enrollments=unavailable,no"),
        "turned: refused; undo commit_enrollments unavailable; turned back; commit_enrollments; notify; finished \
         => completed, committed"
    );
}

/// No operator may leave open whether the pivot has happened.
#[test]
fn the_compensation_of_the_pivot_is_not_skipped_nor_abandoned() {
    let def = asked();
    let mut world = cancelled_behind(&def);
    let pivot = || "commit_enrollments".to_owned();
    let denied = || CallAnswer::Unknown(CallError::new(Code::PermissionDenied, "", None));
    let ask = world.in_flight.iter().position(|(_, direction, _)| *direction == Direction::Compensation).unwrap();
    world.answer(ask, denied());
    assert!(world.state.needs_attention());
    let skipped = world.intervene(OperatorCommand::Skip { step: pivot() });
    assert_eq!(skipped, Err(DecideError::Operator(OperatorCommandError::PivotSkipped { step: "commit_enrollments" })));
    assert_eq!(
        world.intervene(OperatorCommand::Abandon),
        Err(DecideError::Operator(OperatorCommandError::OutcomeOpen))
    );
    let happened = world.intervene(OperatorCommand::Resolve { step: pivot(), answer: Resolution::Done });
    let asked = OperatorCommandError::PivotAsked { step: "commit_enrollments" };
    assert_eq!(happened, Err(DecideError::Operator(asked)), "a pivot that has happened must not end as undone");
    let advised: Vec<_> = advice(&def, &world.state).iter().map(|advice| (advice.command, advice.answers)).collect();
    assert_eq!(advised, [("retry", &[][..]), ("resolve", &["refused"])]);
    let never = || OperatorCommand::Resolve { step: pivot(), answer: Resolution::Refused { refusal: String::new() } };
    world.intervene(never()).unwrap();
    let log = world.log.clone();
    world.intervene(never()).unwrap();
    assert_eq!(world.log, log, "a command that comes again changes nothing");
    let other = world.input(Input::Operator {
        command: never(),
        by: "grace".to_owned(),
        reason: "once more".to_owned(),
        command_id: None,
    });
    let owed = OperatorCommandError::WithdrawalOwed { step: "commit_enrollments" };
    assert_eq!(other, Err(DecideError::Operator(owed)));
    let world = world.run(&Script::default());
    audit(&world);
    assert_eq!(world.state.phase(), Phase::Compensated);
}

/// The operator's word ends the wait of the client. The saga ends when the service has answered, so that a late call of
/// the pivot meets its tombstone.
#[test]
fn a_withdrawal_on_an_operators_word_is_called_until_it_is_answered() {
    let def = asked();
    let found = |script: &str| {
        let mut world = cancelled_behind(&def);
        let ask = world.in_flight.iter().position(|(_, direction, _)| *direction == Direction::Compensation).unwrap();
        world.answer(ask, CallAnswer::Unknown(CallError::new(Code::Unavailable, "away", None)));
        let answer = Resolution::Refused { refusal: String::new() };
        world.intervene(OperatorCommand::Resolve { step: "commit_enrollments".to_owned(), answer }).unwrap();
        world.run(&Script::parse(script))
    };
    let failures = ["unavailable"; 9].join(",");
    let world = found(&format!("undo:commit_enrollments={failures}"));
    audit(&world);
    let history = world.history();
    let undone = [
        "undo commit_enrollments found refused; undo create_enrollments; undo hold_seats; undo reserve_courses; notify",
        "undo commit_enrollments; finished => compensated, cancelled",
    ];
    assert!(undone.iter().all(|part| history.contains(part)), "{history}");
    assert_eq!(history.matches("undo commit_enrollments unavailable!").count(), 7, "a person still has to look");
    // The pivot has happened after all, when the other steps are already undone: the saga needs attention and does not
    // end.
    let mut world = cancelled_behind(&def);
    let ask = |world: &World<'_>| {
        let is_it = |(step, direction, _): &(StepIndex, Direction, u32)| {
            (*step, *direction) == (def.pivot(), Direction::Compensation)
        };
        world.in_flight.iter().position(is_it)
    };
    let first = ask(&world).unwrap();
    world.answer(first, CallAnswer::Unknown(CallError::new(Code::Unavailable, "away", None)));
    let answer = Resolution::Refused { refusal: String::new() };
    world.intervene(OperatorCommand::Resolve { step: "commit_enrollments".to_owned(), answer }).unwrap();
    world.now_ms += 1_000;
    world.input(Input::Wake).unwrap();
    let again = ask(&world).expect("it is called on");
    world.answer(again, CallAnswer::Refused("it has happened".to_owned()));
    assert!(world.state.needs_attention());
    assert_eq!(world.state.phase(), Phase::Compensating);
    while let Some(place) = world.in_flight.iter().position(|(step, _, _)| *step != def.pivot()) {
        world.answer(place, CallAnswer::Done(String::new()));
    }
    assert_eq!((world.state.phase(), world.state.outcome()), (Phase::Compensating, Outcome::Cancelled));
    let advised: Vec<_> = advice(&def, &world.state).iter().map(|advice| advice.command).collect();
    assert_eq!(advised, ["retry", "abandon"]);
    let headline = explain(&def, &world.state, None, world.now_ms);
    assert!(headline.starts_with("compensating: all is undone, and the service of its pivot is called"), "{headline}");
    assert!(headline.contains("has happened, though it was resolved as refused; undo it there"), "{headline}");
    world.intervene(OperatorCommand::Abandon).unwrap();
    assert_eq!(world.state.phase(), Phase::Abandoned);
}

/// In logs from before, the finding was kept as done, and nothing was called any more.
#[test]
fn an_old_resolution_of_a_withdrawal_still_folds() {
    let def = asked();
    let mut world = cancelled_behind(&def);
    let ask = world.in_flight.iter().position(|(_, direction, _)| *direction == Direction::Compensation).unwrap();
    world.answer(ask, CallAnswer::Unknown(CallError::new(Code::Unavailable, "away", None)));
    let (step, direction) = ("commit_enrollments".to_owned(), Direction::Compensation);
    let event = Event::Intervened {
        by: "ada".to_owned(),
        reason: "before".to_owned(),
        intervention: Intervention::Resolve { step, direction, answer: Resolution::Done },
        command_id: None,
    };
    world.log.push(Recorded { sequence: world.state.sequence() + 1, at_ms: world.now_ms, event });
    let mut old = World::replay(&def, world.log);
    assert_eq!(old.state.steps()[def.pivot().get()].undo.status, CallStatus::Done);
    old.input(Input::Resume).unwrap();
    let old = old.run(&Script::default());
    assert!(old.history().ends_with(
        "undo commit_enrollments found done; undo create_enrollments; undo hold_seats; undo reserve_courses; notify; \
         finished => compensated, cancelled"
    ));
}
