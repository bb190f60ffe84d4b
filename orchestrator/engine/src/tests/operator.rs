//! The commands that operators may give, their effects, and the errors of those that are rejected.

use super::audit::audit;
use super::sample;
use super::world::{Script, World, run};
use crate::*;

/// `script` has the operator's command, and the attempt at which it is given.
#[track_caller]
fn check(script: &str, expect: &str) {
    let def = sample();
    let world = run(&def, script);
    let history = world.history();
    let end = history.split_once("create_enrollments; ").map_or(history.as_str(), |(_, end)| end);
    assert_eq!(end.replace("; ", "\n"), expect.replace("; ", "\n"), "script {script:?}");
    audit(&world);
}

#[test]
fn a_retry_calls_at_once_what_waits() {
    let def = sample();
    let mut world = World::admit(&def, ["reserve_courses", "commit_enrollments"]);
    world.answer(0, unavailable());
    assert!(world.in_flight.is_empty(), "it waits for its next attempt");
    world.intervene(OperatorCommand::Retry { step: Some("reserve_courses".to_owned()) }).unwrap();
    assert_eq!(world.in_flight, [(StepIndex(0), Direction::Forward, 2)]);
    assert_eq!(world.now_ms, 0, "no time has passed");
    assert_eq!(refused(&mut world, OperatorCommand::Retry { step: None }), OperatorCommandError::NothingWaits);
    audit(&world.run(&Script::default()));
}

#[test]
fn an_undo_that_is_skipped_leaves_the_saga_abandoned() {
    check(
        "assess_fees=no undo:hold_seats=unavailable,skipped",
        "assess_fees no; turned: refused; undo create_enrollments; undo hold_seats unavailable; \
         undo hold_seats skipped; undo reserve_courses; notify; finished => abandoned, refused",
    );
}

#[test]
fn an_undo_that_was_done_manually_counts() {
    check(
        "assess_fees=no undo:hold_seats=unavailable,found-done",
        "assess_fees no; turned: refused; undo create_enrollments; undo hold_seats unavailable; \
         undo hold_seats found done; undo reserve_courses; notify; finished => compensated, refused",
    );
}

#[test]
fn a_pivot_is_resolved_either_way() {
    check(
        "commit_enrollments=unavailable,found-done",
        "assess_fees; commit_enrollments unavailable; commit_enrollments found done; settle_courses; \
         release_dropped_seats; refund_fees; notify; finished => completed, committed",
    );
    check(
        "commit_enrollments=unavailable,found-refused",
        "assess_fees; commit_enrollments unavailable; commit_enrollments found refused; turned: refused; \
         undo create_enrollments; undo assess_fees; undo hold_seats; undo reserve_courses; notify; finished \
         => compensated, refused",
    );
}

#[test]
fn the_tail_may_be_skipped_or_given_up() {
    check(
        "notify=unavailable,skipped",
        "assess_fees; commit_enrollments; settle_courses; release_dropped_seats; refund_fees; notify unavailable; \
         notify skipped; finished => abandoned, committed",
    );
    check(
        "settle_courses=permission_denied,abandoned",
        "assess_fees; commit_enrollments; settle_courses permission_denied!; release_dropped_seats; refund_fees; notify; \
         abandoned => abandoned, committed",
    );
    check(
        "assess_fees=no undo:hold_seats=permission_denied,abandoned",
        "assess_fees no; turned: refused; undo create_enrollments; \
         undo hold_seats permission_denied!; abandoned => abandoned, refused",
    );
}

fn unavailable() -> CallAnswer {
    CallAnswer::Unknown(CallError::new(Code::Unavailable, "lost", None))
}

#[track_caller]
fn refused(world: &mut World<'_>, command: OperatorCommand) -> OperatorCommandError {
    let events = world.log.len();
    match world.intervene(command) {
        Err(DecideError::Operator(error)) => {
            assert_eq!(world.log.len(), events, "a rejected command changes nothing");
            error
        }
        other => panic!("{other:?}"),
    }
}

fn skip(step: &str) -> OperatorCommand {
    OperatorCommand::Skip { step: step.to_owned() }
}

fn resolve(step: &str, answer: Resolution) -> OperatorCommand {
    OperatorCommand::Resolve { step: step.to_owned(), answer }
}

fn never() -> Resolution {
    Resolution::Refused { refusal: String::new() }
}

#[test]
fn before_the_pivot_a_cancel_is_the_safe_way() {
    let def = sample();
    let mut world = World::admit(&def, ["reserve_courses", "commit_enrollments"]);
    assert!(advice(&def, &world.state).is_empty(), "all is well");
    let not_failed = OperatorCommandError::NotFailed { step: "reserve_courses", direction: Direction::Forward };
    assert_eq!(refused(&mut world, skip("reserve_courses")), not_failed);
    world.answer(0, unavailable());
    let before = OperatorCommandError::BeforePivot { step: "reserve_courses" };
    assert_eq!(refused(&mut world, skip("reserve_courses")), before);
    assert_eq!(refused(&mut world, resolve("reserve_courses", Resolution::Done)), before);
    assert_eq!(refused(&mut world, OperatorCommand::Abandon), OperatorCommandError::OutcomeOpen);
    assert_eq!(
        refused(&mut world, skip("commit_enrollments")),
        OperatorCommandError::NotTried { step: "commit_enrollments" }
    );
    assert_eq!(refused(&mut world, skip("none")), OperatorCommandError::UnknownStep { step: "none".to_owned() });
    let commands: Vec<_> = advice(&def, &world.state).iter().map(|advice| (advice.command, advice.step)).collect();
    assert_eq!(commands, [("retry", Some("reserve_courses")), ("cancel", None)]);
}

#[test]
fn the_pivot_is_resolved_and_not_skipped() {
    let def = sample();
    let mut world = World::admit(&def, ["commit_enrollments", "notify"]);
    world.answer(0, unavailable());
    assert_eq!(
        refused(&mut world, skip("commit_enrollments")),
        OperatorCommandError::PivotSkipped { step: "commit_enrollments" }
    );
    assert_eq!(refused(&mut world, OperatorCommand::Abandon), OperatorCommandError::OutcomeOpen);
    world.intervene(resolve("commit_enrollments", Resolution::Done)).unwrap();
    world.answer(0, unavailable());
    let settled = OperatorCommandError::NotRefusable { step: "notify", direction: Direction::Forward };
    assert_eq!(refused(&mut world, resolve("notify", never())), settled);
    assert_eq!(refused(&mut world, OperatorCommand::Abandon), OperatorCommandError::NoAttention);
    world.intervene(skip("notify")).unwrap();
    assert_eq!(refused(&mut world, skip("other")), OperatorCommandError::Finished { phase: Phase::Abandoned });
}

#[test]
fn a_repeated_command_changes_nothing_and_is_not_an_error() {
    let def = sample();
    let mut world = World::admit(&def, ["commit_enrollments", "notify"]);
    world.answer(0, CallAnswer::Done(String::new()));
    world.answer(0, unavailable());
    world.intervene(skip("notify")).unwrap();
    let log = world.log.clone();
    world.intervene(skip("notify")).unwrap();
    assert_eq!(world.log, log);
}

#[test]
fn an_answer_that_comes_after_the_decision_changes_nothing() {
    let def = sample();
    let mut world = World::admit(&def, ["commit_enrollments", "notify", "settle_courses"]);
    world.answer(0, CallAnswer::Done(String::new()));
    world.answer(0, unavailable());
    world
        .input(Input::Operator {
            command: OperatorCommand::Retry { step: None },
            by: "ada".to_owned(),
            reason: "now".to_owned(),
            command_id: None,
        })
        .unwrap();
    let late = world.in_flight.iter().position(|(step, _, _)| def.step(*step).name == "settle_courses").unwrap();
    world.intervene(skip("settle_courses")).unwrap();
    let events = world.log.len();
    world.answer(late, CallAnswer::Done(String::new()));
    assert_eq!(world.log.len(), events, "a late answer was recorded");
    audit(&world.run(&Script::default()));
}

/// A retry that comes again has the same id. Another retry in the same words has another id.
#[test]
fn a_command_that_was_taken_is_known_by_its_id() {
    let def = sample();
    let mut world = World::admit(&def, ["reserve_courses", "commit_enrollments"]);
    world.answer(0, unavailable());
    let retry = |id: &str| Input::Operator {
        command: OperatorCommand::Retry { step: None },
        by: "ada".to_owned(),
        reason: "now".to_owned(),
        command_id: Some(id.to_owned()),
    };
    world.input(retry("one")).unwrap();
    let events = world.log.len();
    world.input(retry("one")).expect("it was taken");
    assert_eq!(world.log.len(), events);
    assert_eq!(world.input(retry("two")), Err(DecideError::Operator(OperatorCommandError::NothingWaits)));
    world.answer(0, unavailable());
    world.input(retry("one")).expect("it was taken, and does not call again");
    assert_eq!(world.log.len(), events + 1);
    world.input(retry("two")).unwrap();
    assert_eq!(world.in_flight.len(), 1);
    let text = serde_json::to_string(&world.log[events + 1].event).unwrap();
    assert!(text.contains("\"command\":\"two\""), "the log keeps it: {text}");
    world.answer(0, CallAnswer::Done(String::new()));
    world.answer(0, CallAnswer::Done(String::new()));
    let world = world.run(&Script::default());
    let again = decide(&def, &world.state, retry("two"), world.now_ms, Jitter(0)).expect("it was taken");
    assert_eq!((again.events.len(), world.state.phase()), (0, Phase::Completed));
    let (by, reason, command_id) = ("ada".to_owned(), "now".to_owned(), Some("two".to_owned()));
    let other = Input::Operator { command: OperatorCommand::Abandon, by, reason, command_id };
    let refused = decide(&def, &world.state, other, world.now_ms, Jitter(0)).err();
    assert_eq!(refused, Some(DecideError::Operator(OperatorCommandError::CommandReused)), "nothing of it is done");
}
