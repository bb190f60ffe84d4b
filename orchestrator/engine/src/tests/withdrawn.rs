//! A cancel or the deadline comes while the pivot is called and not answered: the compensation of the pivot decides.

use super::audit::audit;
use super::sample;
use super::world::{Script, World};
use crate::*;

/// The sample, with a pivot that can be withdrawn.
fn withdrawable() -> Definition {
    let mut steps = super::table();
    steps[4].undo = Some("WithdrawCommit");
    Definition::try_new("registration", 2, 10_000, steps).unwrap().with_withdrawable_pivot().unwrap()
}

const NAMES: [&str; 5] = ["reserve_courses", "hold_seats", "create_enrollments", "commit_enrollments", "notify"];

fn cancel() -> Input {
    Input::Cancel { by: "ada".to_owned(), reason: String::new() }
}

/// A saga whose pivot is in flight.
fn at_its_pivot(def: &Definition) -> World<'_> {
    let mut world = World::admit(def, NAMES);
    for _ in 0..3 {
        world.answer(0, CallAnswer::Done(String::new()));
    }
    assert_eq!(world.in_flight, [(def.pivot(), Direction::Forward, 1)]);
    world
}

/// Runs by the script, and returns the history after the pivot was called.
fn ends(world: World<'_>, script: &str) -> String {
    let world = world.run(&Script::parse(script));
    audit(&world);
    let history = world.history();
    history.split_once("create_enrollments; ").expect("it was called").1.to_owned()
}

const UNDONE: &str = "undo create_enrollments; undo hold_seats; undo reserve_courses; notify; finished";

#[test]
fn a_cancel_while_the_pivot_is_called_takes_effect_when_the_pivot_is_withdrawn() {
    let def = withdrawable();
    let mut world = at_its_pivot(&def);
    assert!(world.state.may_compensate(&def));
    world.input(cancel()).unwrap();
    assert_eq!(world.state.outcome(), Outcome::Pending);
    assert_eq!(world.in_flight.len(), 2, "the pivot and its compensation are in flight, and nothing else");
    assert!(world.state.is_pivot_unknown(&def));
    // The pivot's own answer comes after the turn and changes nothing, whatever it is.
    let log = world.log.clone();
    world.answer(0, CallAnswer::Done(String::new()));
    assert_eq!(world.log, log);
    assert_eq!(
        ends(world, "undo:commit_enrollments=unavailable,done"),
        format!(
            "turned: cancelled by ada; undo commit_enrollments unavailable; undo commit_enrollments; {UNDONE} \
             => compensated, cancelled"
        )
    );
}

#[test]
fn a_cancel_after_the_pivot_has_happened_is_reverted() {
    let def = withdrawable();
    let mut world = at_its_pivot(&def);
    world.input(cancel()).unwrap();
    world.input(cancel()).unwrap();
    world.answer(1, CallAnswer::Refused("it has happened".to_owned()));
    assert_eq!(world.in_flight, [(def.pivot(), Direction::Forward, 1)], "the call from before is under way still");
    assert_eq!(world.input(cancel()), Err(DecideError::TooLateToCancel { phase: Phase::Running }));
    world.now_ms = 1_000_000;
    world.input(Input::Wake).unwrap();
    assert_eq!(world.state.cause(), None, "the deadline does not count any more either");
    let end = "turned: cancelled by ada; turned back; commit_enrollments; notify; finished => completed, committed";
    assert_eq!(ends(world, ""), end);
}

/// A pivot whose service is away is called again and again. The saga compensates at its deadline, and the
/// compensation of the pivot is called until the service is back.
#[test]
fn the_deadline_counts_until_the_pivot_is_answered() {
    let def = withdrawable();
    let failed =
        |attempt: u32| if attempt < 3 { "commit_enrollments unavailable" } else { "commit_enrollments unavailable!" };
    let failures: Vec<_> = (1..=12).map(failed).collect();
    let script = format!(
        "commit_enrollments={} undo:commit_enrollments=unavailable,unavailable,unavailable,done",
        ["unavailable"; 30].join(",")
    );
    let asked = "undo commit_enrollments unavailable; undo commit_enrollments unavailable; undo commit_enrollments \
        unavailable!; undo commit_enrollments";
    assert_eq!(
        ends(at_its_pivot(&def), &script),
        format!("{}; turned: deadline passed; {asked}; {UNDONE} => compensated, timed_out", failures.join("; "))
    );
    // The pivot has happened, and its answer is lost until long after the deadline.
    let lost = format!("commit_enrollments={} undo:commit_enrollments=no", ["unavailable"; 15].join(","));
    let history = ends(at_its_pivot(&def), &lost);
    assert!(history.contains("turned: deadline passed; turned back; commit_enrollments unavailable!"), "{history}");
    assert!(history.ends_with("commit_enrollments; notify; finished => completed, committed"), "{history}");
}

#[test]
fn an_answered_pivot_is_not_withdrawn() {
    let def = withdrawable();
    let mut world = at_its_pivot(&def);
    world.answer(0, CallAnswer::Done(String::new()));
    assert_eq!(world.input(cancel()), Err(DecideError::TooLateToCancel { phase: Phase::Completing }));
    let mut world = at_its_pivot(&def);
    world.answer(0, CallAnswer::Refused("no".to_owned()));
    let refused = DecideError::AlreadyCompensating { cause: Cause::Refused };
    assert_eq!(world.input(cancel()), Err(refused));
    assert!(ends(world, "").ends_with("finished => compensated, refused"));
}

/// The log has every call before the pivot, so an adopter does not mark the saga. It may be cancelled as before.
#[test]
fn an_adopter_may_withdraw_the_pivot() {
    let def = withdrawable();
    let mut world = World::replay(&def, at_its_pivot(&def).log);
    world.adopt();
    world.input(cancel()).unwrap();
    assert_eq!(
        ends(world, ""),
        format!("turned: cancelled by ada; undo commit_enrollments; {UNDONE} => compensated, cancelled")
    );
}

/// The withdrawal has failed once, and its service is not called any more. The operator's word undoes all else, and
/// then only an operator can end the saga.
#[test]
fn a_saga_that_owes_only_its_withdrawal_can_be_abandoned() {
    let def = withdrawable();
    let mut world = at_its_pivot(&def);
    world.input(cancel()).unwrap();
    world.answer(1, CallAnswer::Unknown(CallError::new(Code::Unavailable, "away", None)));
    let answer = Resolution::Refused { refusal: String::new() };
    world.intervene(OperatorCommand::Resolve { step: "commit_enrollments".to_owned(), answer }).unwrap();
    let abandon = |world: &mut World<'_>| world.intervene(OperatorCommand::Abandon);
    let refused = Err(DecideError::Operator(OperatorCommandError::NoAttention));
    assert_eq!(abandon(&mut world), refused, "it goes on by itself until all else is undone");
    while world.state.outcome() == Outcome::Pending {
        let place = world.in_flight.iter().position(|(step, _, _)| *step != def.pivot()).expect("all else is undone");
        world.answer(place, CallAnswer::Done(String::new()));
    }
    let undo = &world.state.steps()[def.pivot().get()].undo;
    assert_eq!((undo.attempts, undo.needs_attention), (1, false), "the call itself has failed only once");
    assert!(world.state.needs_attention(), "and a person must look at the saga");
    let advised: Vec<_> = advice(&def, &world.state).iter().map(|advice| advice.command).collect();
    assert!(advised.contains(&"abandon"), "{advised:?}");
    let explained = explain(&def, &world.state, None, world.now_ms);
    assert!(explained.lines().next().unwrap().ends_with("needs attention"), "{explained}");
    abandon(&mut world).unwrap();
    assert_eq!((world.state.phase(), world.state.outcome()), (Phase::Abandoned, Outcome::Cancelled));
    audit(&world.run(&Script::default()));
}

/// A table whose pivot can't be withdrawn folds no such log: it is an error, and no other state.
#[test]
fn a_log_with_a_withdrawn_pivot_folds_under_no_other_table() {
    let def = withdrawable();
    let mut world = at_its_pivot(&def);
    world.input(cancel()).unwrap();
    let log = world.run(&Script::default()).log;
    let without = Definition::try_new("registration", 2, 10_000, def.steps().to_vec()).unwrap();
    let illegal = FoldError::Illegal { phase: Phase::Running, event: "turned" };
    assert_eq!(SagaState::replay(&without, &log), Err(illegal));
    let error = sample().with_withdrawable_pivot().unwrap_err();
    assert_eq!(error, DefinitionError::NotWithdrawable { step: "commit_enrollments" });
}

#[test]
fn the_words_of_a_withdrawn_pivot() {
    let def = withdrawable();
    let mut world = at_its_pivot(&def);
    let headline = |world: &World<'_>| explain(&def, &world.state, None, 0).lines().next().unwrap().to_owned();
    assert_eq!(
        headline(&world),
        "running: its pivot has no answer; a cancel takes effect if the pivot has not happened"
    );
    world.input(cancel()).unwrap();
    assert_eq!(
        headline(&world),
        "compensating: its service is asked whether its pivot has happened, nothing else is undone before (cancelled by ada)"
    );
}
