//! Runs a matrix and reports broken promises: outcome, reasons, order, verdicts on errors, and the exact count of every
//! effect.

use std::fmt::Write as _;

use futures::StreamExt as _;
use matricula_engine::{
    Code, Direction, Event, Kind, Phase, Recorded, SagaState, StepIndex, Verdict, delay_ms, describe,
};

use crate::case::{Case, Fault, OperatorDecision};
use crate::driver::{JITTER, Run, run};
use crate::shape::Shape;
use crate::world::{Effects, World};

/// Environment variable that selects cases: only those whose name contains its value are run.
pub const CASE: &str = "MATRICULA_CASE";

/// The most broken cases that are shown completely: a missing guard breaks hundreds of cases in the same way.
const SHOWN_MAX: usize = 5;

/// The design's verdict table, written down a second time: for these codes no retry is likely to succeed.
const SLOW_CODES: [Code; 4] =
    [Code::InvalidArgument, Code::Unimplemented, Code::Unauthenticated, Code::PermissionDenied];

/// The promises that a case broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The case.
    pub case: String,
    /// Each promise that was broken.
    pub promises: Vec<String>,
    /// The saga's log, one line for each event.
    pub history: String,
}

/// The result of a matrix.
#[derive(Debug)]
pub struct Report<S> {
    /// Every run, in the order of the cases.
    pub runs: Vec<Run<S>>,
    /// The cases that broke a promise.
    pub broken: Vec<Broken>,
}

/// Runs every case that [`CASE`] selects, several at a time, and checks each.
///
/// # Panics
/// When [`CASE`] selects no case.
pub async fn run_matrix<W: World>(world: &W, cases: Vec<Case>, at_a_time: usize) -> Report<W::Subject> {
    let cases = picked(cases);
    let subjects = world.prepare(&cases).await;
    let mut runs = Vec::with_capacity(cases.len());
    let running: Vec<_> = cases.into_iter().zip(subjects).map(|(case, subject)| run(world, case, subject)).collect();
    let mut running = futures::stream::iter(running).buffered(at_a_time);
    while let Some(run) = running.next().await {
        runs.push(run);
    }
    drop(running);
    let subjects: Vec<&W::Subject> = runs.iter().map(|run| &run.subject).collect();
    let effects = world.effects(&subjects).await;
    let broken = runs.iter().zip(&effects).filter_map(|(run, effects)| broken(world.shape(), run, effects));
    let broken = broken.collect();
    Report { runs, broken }
}

fn picked(cases: Vec<Case>) -> Vec<Case> {
    let Ok(wanted) = std::env::var(CASE) else { return cases };
    let picked: Vec<Case> = cases.into_iter().filter(|case| case.name.contains(&wanted)).collect();
    assert!(!picked.is_empty(), "{CASE}: no case has {wanted:?} in its name");
    picked
}

impl<S> Report<S> {
    /// The broken cases in words, and how to run one of them alone; none if nothing broke. `command` runs the test.
    pub fn complaint(&self, command: &str) -> Option<String> {
        let first = self.broken.first()?;
        let mut text = format!("{} of {} cases broke a promise:\n", self.broken.len(), self.runs.len());
        for Broken { case, promises, history } in self.broken.iter().take(SHOWN_MAX) {
            let _ = writeln!(text, "\n{case}\n  - {}\n{history}", promises.join("\n  - "));
        }
        if self.broken.len() > SHOWN_MAX {
            let _ = writeln!(text, "and {} more", self.broken.len() - SHOWN_MAX);
        }
        let _ = write!(text, "\nOne alone: {CASE}='{}' {command}", first.case);
        Some(text)
    }

    /// Panics with [`Report::complaint`] when a case broke a promise.
    ///
    /// # Panics
    /// When a case broke a promise.
    #[track_caller]
    pub fn assert_holds(&self, command: &str) {
        if let Some(complaint) = self.complaint(command) {
            panic!("{complaint}");
        }
    }

    /// Whether a case broke a promise whose words contain these.
    pub fn has_broken(&self, case: &str, promise: &str) -> bool {
        let of_case = self.broken.iter().filter(|broken| broken.case == case);
        of_case.flat_map(|broken| &broken.promises).any(|broken| broken.contains(promise))
    }
}

fn broken<S>(shape: &Shape, run: &Run<S>, effects: &Effects) -> Option<Broken> {
    let mut promises = run.broken.clone();
    // A call that is retried for ever breaks the same promise a thousand times.
    promises.dedup();
    let mut require = |holds: bool, promise: &dyn Fn() -> String| {
        if !holds {
            promises.push(promise());
        }
    };
    let Run { case, log, state, .. } = run;
    let def = shape.definition();
    require(SagaState::replay(def, log).as_ref() == Ok(state), &|| "the log does not fold to the state".to_owned());
    require(state.phase().is_finished(), &|| format!("it has not ended, it is {}", state.phase().as_str()));
    require(!state.needs_attention(), &|| "it has ended and needs attention".to_owned());
    let (expected, outcome) = (case.outcome(), state.outcome());
    require(outcome == expected, &|| format!("its outcome is {}, not {}", outcome.as_str(), expected.as_str()));
    let ended_as = match (case.operator_decision(), state.cause()) {
        (Some(OperatorDecision::Skipped | OperatorDecision::Abandoned), _) => Phase::Abandoned,
        (_, None) => Phase::Completed,
        (_, Some(_)) => Phase::Compensated,
    };
    require(state.phase() == ended_as, &|| format!("it reads {}, not {}", state.phase().as_str(), ended_as.as_str()));
    let found_out =
        case.decided.filter(|(.., decision)| *decision == OperatorDecision::ResolvedAsRefused).map(|(step, ..)| step);
    let mut refusing: Vec<_> = case.refuses().chain(found_out).map(|step| def.step(step).name).collect();
    refusing.sort_unstable_by_key(|name| def.index(name));
    let reasons: Vec<_> = state.refusals().map(|(step, _)| step).collect();
    require(reasons == refusing, &|| format!("it has the reasons of {reasons:?}, not of {refusing:?}"));
    for direction in [Direction::Forward, Direction::Compensation] {
        require(in_order(shape, log, direction), &|| {
            format!("a stage began before the one before it was done ({direction})")
        });
    }
    for failure in log.iter().filter_map(|recorded| wrong_verdict(shape, case, recorded)) {
        require(false, &|| failure.clone());
    }
    for (index, step) in def.indexed() {
        let due = match step.kind {
            _ if !shape.has(index) => 0,
            _ if case.decided.is_some() => i64::from(stands(case, log, index, step.name)),
            Kind::Finalizer => 1,
            Kind::Compensatable | Kind::Pivot | Kind::Retriable => i64::from(state.cause().is_none()),
        };
        let found = effects.get(step.name).copied().unwrap_or_default();
        require(found == due, &|| format!("{}: its effect stands {found} times, not {due}", step.name));
    }
    let history: Vec<_> =
        log.iter().map(|recorded| format!("  {:>3} {}", recorded.sequence, describe(recorded))).collect();
    (!promises.is_empty()).then(|| Broken { case: case.name.clone(), promises, history: history.join("\n") })
}

/// Whether a step's effect stands in a saga that an operator's decision may have ended at any point: it stands if the
/// log has it as done, or if the case let it happen without an answer.
fn stands(case: &Case, log: &[Recorded], index: StepIndex, name: &str) -> bool {
    let is_done = |direction: Direction| {
        let is_success = |event: &Event| match event {
            Event::Succeeded { step, direction: of, .. } => step == name && *of == direction,
            _ => false,
        };
        let answered = log.iter().any(|recorded| is_success(&recorded.event));
        answered || matches!(case.fault(index, direction, 1), Some(Fault::AnswerLost { .. }))
    };
    let is_cancelled = case.cancel.is_some_and(|cancel| cancel.step == Some(index));
    (is_done(Direction::Forward) || is_cancelled) && !is_done(Direction::Compensation)
}

/// Whether actions succeeded in order of stages, and undos in reverse.
fn in_order(shape: &Shape, log: &[Recorded], direction: Direction) -> bool {
    let def = shape.definition();
    let stages = log.iter().filter_map(|recorded| match &recorded.event {
        Event::Succeeded { step, direction: of, .. } if *of == direction => Some(def.step(def.index(step)?).stage),
        _ => None,
    });
    let mut stages: Vec<u8> = stages.collect();
    if direction == Direction::Compensation {
        stages.reverse();
    }
    stages.is_sorted()
}

/// The deviation of a recorded failure from the design's table, if there is one.
fn wrong_verdict(shape: &Shape, case: &Case, recorded: &Recorded) -> Option<String> {
    let Event::Failed { step, direction, attempt, error, next_attempt_at_ms, needs_attention, .. } = &recorded.event
    else {
        return None;
    };
    let index = shape.definition().index(step)?;
    let policy = shape.definition().step(index).retry;
    let is_misread = case.fault(index, *direction, *attempt) == Some(Fault::Misread);
    let is_slow = is_misread || SLOW_CODES.contains(&error.code) || policy.is_exhausted(*attempt);
    let pace = if is_slow { Verdict::SlowRetry } else { Verdict::Retry };
    let expected = (is_slow, delay_ms(&policy, *attempt, pace, error.retry_after_ms, JITTER));
    let found = (*needs_attention, next_attempt_at_ms - recorded.at_ms);
    (found != expected).then(|| {
        let title = shape.title(index, *direction);
        format!("{title} failed with {}: (attention, delay in ms) is {found:?}, not {expected:?}", error.code)
    })
}
