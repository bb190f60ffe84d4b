//! The table of the events that may follow each other, and invalid definitions.

use super::world::run;
use super::{sample, step, table};
use crate::*;

/// A name, the script of a run, and how many events of it are kept.
const MOMENTS: [(&str, &str, usize); 9] = [
    ("running", "hold_seats=never", 2),
    ("refused", "hold_seats=no", 3),
    ("at pivot", "commit_enrollments=never", usize::MAX),
    ("undoing", "create_enrollments=no undo:hold_seats=never", usize::MAX),
    ("undone", "hold_seats=no notify=never", usize::MAX),
    ("past pivot", "notify=never", usize::MAX),
    ("all done", "", 10),
    ("completed", "", usize::MAX),
    ("compensated", "hold_seats=no", usize::MAX),
];

fn events(step: &str) -> Vec<(&'static str, Event)> {
    let step = || step.to_owned();
    let (attempt, started_at_ms, next_attempt_at_ms, needs_attention) = (1, 0, 0, false);
    let error = || CallError::new(Code::Unavailable, "", None);
    let succeeded =
        |direction| Event::Succeeded { step: step(), direction, attempt, started_at_ms, output: String::new() };
    let failed = |direction| Event::Failed {
        step: step(),
        direction,
        attempt,
        started_at_ms,
        error: error(),
        next_attempt_at_ms,
        needs_attention,
    };
    let cancelled = Cause::Cancelled { by: String::new(), reason: String::new() };
    vec![
        ("admitted", sample().admit(["commit_enrollments"], 0)),
        ("adopted", Event::Adopted { by: String::new() }),
        ("action succeeded", succeeded(Direction::Forward)),
        ("action refused", Event::Refused { step: step(), attempt, started_at_ms, refusal: String::new() }),
        ("action failed", failed(Direction::Forward)),
        ("undo succeeded", succeeded(Direction::Compensation)),
        ("undo failed", failed(Direction::Compensation)),
        ("turned refused", Event::CompensationStarted { cause: Cause::Refused }),
        ("turned cancelled", Event::CompensationStarted { cause: cancelled }),
        ("turned late", Event::CompensationStarted { cause: Cause::DeadlinePassed }),
        ("finished", Event::Finished),
    ]
}

/// A row for each event, a column for each moment: `ok`, `-` not in the table, `x` in the table but not for this call
/// now.
fn matrix(of_step: &str) -> String {
    let def = sample();
    let columns: Vec<_> = MOMENTS.iter().map(|(moment, ..)| format!("{moment:<11}")).collect();
    let mut lines = vec![format!("{of_step:<18}  {}", columns.join(" "))];
    for (name, event) in events(of_step) {
        let answers = MOMENTS.iter().map(|(_, script, keep)| {
            let mut log = run(&def, script).log;
            log.truncate(*keep);
            let mut state = SagaState::replay(&def, &log).unwrap();
            let before = state.clone();
            let recorded = Recorded { sequence: state.sequence() + 1, at_ms: 1, event: event.clone() };
            let answer = match state.apply(&def, &recorded) {
                Ok(()) => "ok",
                Err(FoldError::Illegal { .. }) => "-",
                Err(FoldError::NotTrying { .. }) => "x",
                Err(error) => panic!("{error}"),
            };
            assert!(answer == "ok" || state == before, "an error changed the state");
            format!("{answer:<11}")
        });
        lines.push(format!("{name:<18}  {}", answers.collect::<Vec<_>>().join(" ")));
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn every_pair_of_moment_and_event() {
    insta::assert_snapshot!(matrix("hold_seats"), @r#"
    hold_seats          running     refused     at pivot    undoing     undone      past pivot  all done    completed   compensated
    admitted            -           -           -           -           -           -           -           -           -
    adopted             ok          ok          ok          -           -           -           -           -           -
    action succeeded    ok          x           x           x           x           x           x           -           -
    action refused      ok          x           x           -           -           -           -           -           -
    action failed       ok          x           x           x           x           x           x           -           -
    undo succeeded      x           x           x           ok          x           x           x           -           -
    undo failed         x           x           x           ok          x           x           x           -           -
    turned refused      -           ok          -           -           -           -           -           -           -
    turned cancelled    ok          ok          -           -           -           -           -           -           -
    turned late         ok          ok          -           -           -           -           -           -           -
    finished            -           -           -           -           -           -           ok          -           -
    "#);
    insta::assert_snapshot!(matrix("commit_enrollments"), @r#"
    commit_enrollments  running     refused     at pivot    undoing     undone      past pivot  all done    completed   compensated
    admitted            -           -           -           -           -           -           -           -           -
    adopted             ok          ok          ok          -           -           -           -           -           -
    action succeeded    x           x           ok          x           x           x           x           -           -
    action refused      x           x           ok          -           -           -           -           -           -
    action failed       x           x           ok          x           x           x           x           -           -
    undo succeeded      x           x           x           x           x           x           x           -           -
    undo failed         x           x           x           x           x           x           x           -           -
    turned refused      -           ok          -           -           -           -           -           -           -
    turned cancelled    ok          ok          -           -           -           -           -           -           -
    turned late         ok          ok          -           -           -           -           -           -           -
    finished            -           -           -           -           -           -           ok          -           -
    "#);
    insta::assert_snapshot!(matrix("notify"), @r#"
    notify              running     refused     at pivot    undoing     undone      past pivot  all done    completed   compensated
    admitted            -           -           -           -           -           -           -           -           -
    adopted             ok          ok          ok          -           -           -           -           -           -
    action succeeded    x           x           x           x           ok          ok          x           -           -
    action refused      x           x           x           -           -           -           -           -           -
    action failed       x           x           x           x           ok          ok          x           -           -
    undo succeeded      x           x           x           x           x           x           x           -           -
    undo failed         x           x           x           x           x           x           x           -           -
    turned refused      -           ok          -           -           -           -           -           -           -
    turned cancelled    ok          ok          -           -           -           -           -           -           -
    turned late         ok          ok          -           -           -           -           -           -           -
    finished            -           -           -           -           -           -           ok          -           -
    "#);
}

#[test]
fn invalid_logs_are_rejected() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<Recorded>), expect: FoldError) {
        let def = sample();
        let mut log = run(&def, "").log;
        change(&mut log);
        assert_eq!(SagaState::replay(&def, &log), Err(expect));
    }
    fn admission(applies: &[&str], name: &str, version: u32) -> Event {
        Event::Admitted {
            definition: name.to_owned(),
            version,
            applies: applies.iter().map(|&name| name.to_owned()).collect(),
            deadline_at_ms: 0,
        }
    }
    check(|log| log.clear(), FoldError::Empty);
    check(|log| drop(log.remove(0)), FoldError::NotAdmitted { event: "step_succeeded" });
    check(|log| drop(log.remove(1)), FoldError::Sequence { expected: 2, found: 3 });
    check(|log| log[0].sequence = 0, FoldError::Sequence { expected: 1, found: 0 });
    check(|log| log[2].sequence = 2, FoldError::Sequence { expected: 3, found: 2 });
    check(|log| log[0].event = admission(&["notify"], "registration", 1), FoldError::PivotSkipped);
    check(
        |log| log[0].event = admission(&["commit_enrollments", "dance"], "registration", 1),
        FoldError::UnknownStep { step: "dance".to_owned() },
    );
    check(
        |log| log[0].event = admission(&["commit_enrollments"], "registration", 7),
        FoldError::OtherDefinition { definition: "registration".to_owned(), version: 7 },
    );
    let done = |name: &str, attempt| Event::Succeeded {
        step: name.to_owned(),
        direction: Direction::Forward,
        attempt,
        started_at_ms: 0,
        output: String::new(),
    };
    check(|log| log[1].event = done("dance", 1), FoldError::UnknownStep { step: "dance".to_owned() });
    let step = || "reserve_courses".to_owned();
    check(
        |log| log[1].event = done("reserve_courses", 2),
        FoldError::Attempt { step: step(), direction: Direction::Forward, expected: 1, found: 2 },
    );
    check(
        |log| log[2].event = done("reserve_courses", 2),
        FoldError::NotTrying { step: step(), direction: Direction::Forward },
    );
}

#[test]
fn a_state_of_another_definition_is_refused() {
    let (def, state) = (sample(), run(&sample(), "").state);
    let other = Definition::try_new("registration", 2, 10_000, table()).unwrap();
    let error = FoldError::OtherDefinition { definition: "registration".to_owned(), version: 1 };
    assert_eq!(decide(&other, &state, Input::Wake, 0, Jitter(0)), Err(DecideError::Fold(error)));
    assert!(decide(&def, &state, Input::Wake, 0, Jitter(0)).is_ok());
}

#[test]
fn invalid_tables_are_rejected() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<Step>), expect: DefinitionError) {
        let mut steps = table();
        change(&mut steps);
        assert_eq!(Definition::try_new("registration", 1, 1, steps), Err(expect));
    }
    use DefinitionError::{Name, NotOnePivot, Place, StageOrder, TooManySteps, Undo};
    check(|steps| steps.clear(), NotOnePivot);
    check(|steps| steps.retain(|step| step.kind != Kind::Pivot), NotOnePivot);
    check(|steps| steps.push(step(6, "again", "fees", ["Pay", ""], Kind::Pivot)), NotOnePivot);
    check(|steps| steps[1].name = "reserve_courses", Name { step: "reserve_courses" });
    check(|steps| steps[1].name = "", Name { step: "" });
    check(|steps| steps[1].stage = 0, StageOrder { step: "hold_seats" });
    check(|steps| steps[3].stage = 4, Place { step: "assess_fees", kind: Kind::Compensatable });
    check(|steps| steps[5].stage = 4, Place { step: "settle_courses", kind: Kind::Retriable });
    check(|steps| steps[8].kind = Kind::Compensatable, Place { step: "notify", kind: Kind::Compensatable });
    check(|steps| steps[0].kind = Kind::Finalizer, Place { step: "reserve_courses", kind: Kind::Finalizer });
    check(|steps| steps[0].undo = None, Undo { step: "reserve_courses", kind: Kind::Compensatable });
    check(|steps| steps[8].undo = Some("Undo"), Undo { step: "notify", kind: Kind::Finalizer });
    check(|steps| *steps = vec![steps[0].clone(); 65], TooManySteps { steps: 65 });
    let error = DefinitionError::Deadline { deadline_ms: 0 };
    assert_eq!(Definition::try_new("registration", 1, 0, table()), Err(error));
}
