//! The commands that an operator may give about a saga, and when each is allowed.
//!
//! | command | about | allowed |
//! |---|---|---|
//! | retry | the calls that wait for their next attempt | always |
//! | cancel | the saga (an input of its own) | until its log has a call of its pivot, or its answer if it can be withdrawn |
//! | skip | a compensation; a step after the pivot | once the call has failed |
//! | resolve | the same, and the pivot | once the call has failed |
//! | abandon | the saga | while it needs attention, and its outcome is not open; a withdrawal that is owed counts |
//!
//! Promises:
//!
//! 1. No call that is only slow is decided manually.
//! 2. Before the pivot no step is decided manually, because a cancel is safe there.
//! 3. Neither the pivot nor its compensation is skipped. Resolved as "done", the pivot has happened. Resolved as
//!    "refused", the pivot never will. If its service does not answer either, the saga ends on the operator's word, and
//!    not before the service has answered or the operator gives the saga up.
//! 4. A saga with a skipped call never reads completed or compensated.
//! 5. A command that is repeated after it took effect changes nothing, and is not an error.

use serde::{Deserialize, Serialize};

use crate::definition::{Definition, Kind, StepIndex};
use crate::event::{Direction, Intervention, Resolution};
use crate::state::{Intervened, Phase, SagaState};

/// A command of an operator about a saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum OperatorCommand {
    /// Make the calls at once that wait for their next attempt.
    Retry {
        /// The only step that is retried; `None` for all that wait.
        step: Option<String>,
    },
    /// Count the call of a step that is being tried as over, though it was not done.
    Skip {
        /// Name of the step.
        step: String,
    },
    /// Count the call of a step that is being tried as answered.
    Resolve {
        /// Name of the step.
        step: String,
        /// How the call ended.
        answer: Resolution,
    },
    /// Make no more calls.
    Abandon,
}

/// Why an operator's command was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorCommandError {
    /// The definition has no such step.
    #[error("the saga has no step {step:?}")]
    UnknownStep {
        /// The name that was given.
        step: String,
    },
    /// Nothing is left to do.
    #[error("the saga is {}: nothing is left to do", phase.as_str())]
    Finished {
        /// How the saga ended.
        phase: Phase,
    },
    /// No failed call waits for its next attempt.
    #[error("nothing waits for its next attempt: what is due has been called, or waits for its service")]
    NothingWaits,
    /// The step is not reached, or is already decided.
    #[error("{step} is not being tried")]
    NotTried {
        /// Name of the step.
        step: &'static str,
    },
    /// The call of the step has not failed.
    #[error("the {direction} of {step} has not failed; wait for its answer")]
    NotFailed {
        /// Name of the step.
        step: &'static str,
        /// The direction of the call.
        direction: Direction,
    },
    /// Later steps build on the answer of the step.
    #[error("{step} stands before the pivot, and later steps build on its answer: cancel the saga instead")]
    BeforePivot {
        /// Name of the step.
        step: &'static str,
    },
    /// The answer of the pivot decides the outcome.
    #[error("{step} decides the outcome and can't be skipped: find out what came of it, and resolve it")]
    PivotSkipped {
        /// Name of the step.
        step: &'static str,
    },
    /// The compensation of the pivot is being tried. If the pivot has happened, its service refuses the compensation,
    /// and the saga reverts its compensation.
    #[error(
        "whether {step} has happened is being asked: if it has, mend what keeps its service from answering, and the saga turns \
         back by itself; if it has not and never will, resolve it as refused"
    )]
    PivotAsked {
        /// Name of the step.
        step: &'static str,
    },
    /// The pivot is found not to have happened, and its service has not answered that it never will.
    #[error(
        "{step} is resolved as refused already, and its service is called until it rejects a late call of it: mend the \
         service, or abandon the saga once all else is undone, if a late call can do no harm"
    )]
    WithdrawalOwed {
        /// Name of the step.
        step: &'static str,
    },
    /// Only the pivot can be resolved as refused.
    #[error("the {direction} of {step} can't be refused any more: it can be resolved as done")]
    NotRefusable {
        /// Name of the step.
        step: &'static str,
        /// The direction of the call.
        direction: Direction,
    },
    /// The saga goes on by itself.
    #[error("the saga does not need attention: it goes on by itself")]
    NoAttention,
    /// An end now would leave the outcome unknown.
    #[error("the outcome is open: cancel the saga, or resolve its pivot once you know what came of it")]
    OutcomeOpen,
    /// The log has another decision with the same command id.
    #[error("another decision about this saga has the same command id: send this one with an id of its own")]
    CommandReused,
}

/// A command that the saga would take now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// "retry", "skip", "resolve", "abandon" or "cancel".
    pub command: &'static str,
    /// The step that it is about; `None` for the whole saga.
    pub step: Option<&'static str>,
    /// For a resolve: the answers among "done" and "refused" that the saga would take.
    pub answers: &'static [&'static str],
    /// The effect that the command would have.
    pub effect: &'static str,
}

/// The decision that goes into the log because of a command; `None` when the command has taken effect already.
pub(crate) fn intervene(
    def: &Definition,
    state: &SagaState,
    command: OperatorCommand,
    (by, reason): (&str, &str),
) -> Result<Option<Intervention>, OperatorCommandError> {
    let is_repeated =
        |last: &Intervened| last.by == by && last.reason == reason && is_same(def, &last.intervention, &command);
    if state.last_intervention().is_some_and(is_repeated) {
        return Ok(None);
    }
    if state.phase().is_finished() {
        return Err(OperatorCommandError::Finished { phase: state.phase() });
    }
    let intervention = match command {
        OperatorCommand::Retry { step } => {
            if let Some(step) = &step {
                index(def, step)?;
            }
            let name = |index: StepIndex| def.step(index).name;
            let mut waiting = state.trying(def).filter(|(_, _, call)| call.next_attempt_at_ms.is_some());
            let is_any = waiting.any(|(index, _, _)| step.as_ref().is_none_or(|step| *step == name(index)));
            if is_any { Ok(Intervention::Retry { step }) } else { Err(OperatorCommandError::NothingWaits) }
        }
        OperatorCommand::Skip { step } => {
            let (name, direction, kind) = failing(def, state, &step)?;
            match (direction, kind) {
                (Direction::Forward, Kind::Compensatable) => Err(OperatorCommandError::BeforePivot { step: name }),
                (_, Kind::Pivot) => Err(OperatorCommandError::PivotSkipped { step: name }),
                _ => Ok(Intervention::Skip { step, direction }),
            }
        }
        OperatorCommand::Resolve { step, answer } => {
            let (name, direction, kind) = failing(def, state, &step)?;
            match (direction, kind, &answer) {
                (Direction::Forward, Kind::Compensatable, _) => Err(OperatorCommandError::BeforePivot { step: name }),
                (Direction::Compensation, Kind::Pivot, _) if state.owes_withdrawal(def) => {
                    Err(OperatorCommandError::WithdrawalOwed { step: name })
                }
                (Direction::Compensation, Kind::Pivot, Resolution::Done) => {
                    Err(OperatorCommandError::PivotAsked { step: name })
                }
                (Direction::Compensation, Kind::Pivot, _) => Ok(Intervention::Resolve { step, direction, answer }),
                (_, Kind::Pivot, Resolution::Refused { .. }) if !state.is_compensation_reverted(def) => {
                    Ok(Intervention::Resolve { step, direction, answer })
                }
                (_, _, Resolution::Done) => Ok(Intervention::Resolve { step, direction, answer }),
                (_, _, Resolution::Refused { .. }) => Err(OperatorCommandError::NotRefusable { step: name, direction }),
            }
        }
        OperatorCommand::Abandon if state.phase() == Phase::Running || state.is_pivot_unknown(def) => {
            Err(OperatorCommandError::OutcomeOpen)
        }
        OperatorCommand::Abandon if !state.needs_attention() => Err(OperatorCommandError::NoAttention),
        OperatorCommand::Abandon => Ok(Intervention::Abandon),
    };
    intervention.map(Some)
}

/// The commands that an operator can give about a saga with a failed call, the mildest first.
pub fn advice(def: &Definition, state: &SagaState) -> Vec<Advice> {
    let mut all = Vec::new();
    let mut advise = |command, step, answers, effect| all.push(Advice { command, step, answers, effect });
    let failing = || state.trying(def).filter(|(_, _, call)| call.attempts > 0);
    for (index, direction, progress) in failing() {
        let step = Some(def.step(index).name);
        let kind = def.step(index).kind;
        if progress.next_attempt_at_ms.is_some() {
            advise("retry", step, &[][..], "calls it at once");
        }
        if kind == Kind::Pivot && state.owes_withdrawal(def) {
            // Only its service can still answer.
        } else if kind == Kind::Pivot {
            let (answers, effect): (&[_], _) = match direction {
                Direction::Forward if state.is_compensation_reverted(def) => {
                    (&["done"], "counts it as done: for when somebody has found that it happened")
                }
                Direction::Forward => (
                    &["done", "refused"],
                    "counts it as done or as refused: for when somebody has found out what came of it",
                ),
                Direction::Compensation => (
                    &["refused"],
                    "counts it as refused: the rest is undone, and its service is called on until it rejects a late call",
                ),
            };
            advise("resolve", step, answers, effect);
        } else if direction == Direction::Compensation || !kind.may_refuse() {
            let effect = "counts it as done: for a step that a person has carried out manually";
            advise("resolve", step, &["done"], effect);
            advise("skip", step, &[], "leaves it undone for good; the saga goes on, and ends as abandoned");
        }
    }
    if state.phase() != Phase::Running && !state.is_pivot_unknown(def) && state.needs_attention() {
        let effect = "ends the saga as it is: the open steps stay open, and the student gets no message";
        advise("abandon", None, &[], effect);
    }
    if state.may_compensate(def) && failing().next().is_some() {
        advise("cancel", None, &[], "turns it round: all that may have been done is undone");
    }
    all
}

/// Whether an intervention is the effect of the command. A retry is never the same: each retry calls anew.
fn is_same(def: &Definition, intervention: &Intervention, command: &OperatorCommand) -> bool {
    match (intervention, command) {
        (Intervention::Skip { step, .. }, OperatorCommand::Skip { step: wanted }) => step == wanted,
        (
            Intervention::Resolve { step, direction, answer },
            OperatorCommand::Resolve { step: wanted, answer: found },
        ) => {
            let is_question = *direction == Direction::Compensation
                && def.index(step).is_some_and(|at| def.step(at).kind == Kind::Pivot);
            let is_answer = if is_question { matches!(found, Resolution::Refused { .. }) } else { answer == found };
            step == wanted && is_answer
        }
        (Intervention::Abandon, OperatorCommand::Abandon) => true,
        _ => false,
    }
}

/// Whether the decision in the log is the effect of the command.
pub(crate) fn is_of(def: &Definition, intervention: &Intervention, command: &OperatorCommand) -> bool {
    match (intervention, command) {
        (Intervention::Retry { step }, OperatorCommand::Retry { step: wanted }) => step == wanted,
        _ => is_same(def, intervention, command),
    }
}

fn index(def: &Definition, step: &str) -> Result<StepIndex, OperatorCommandError> {
    def.index(step).ok_or_else(|| OperatorCommandError::UnknownStep { step: step.to_owned() })
}

/// The name, direction and kind of a step whose call is being tried and has failed.
fn failing(
    def: &Definition,
    state: &SagaState,
    step: &str,
) -> Result<(&'static str, Direction, Kind), OperatorCommandError> {
    let index = index(def, step)?;
    let spec = def.step(index);
    let mut tried = state.trying(def).filter(|(at, _, _)| *at == index);
    match tried.next() {
        None => Err(OperatorCommandError::NotTried { step: spec.name }),
        Some((_, direction, call)) if call.attempts == 0 => {
            Err(OperatorCommandError::NotFailed { step: spec.name, direction })
        }
        Some((_, direction, _)) => Ok((spec.name, direction, spec.kind)),
    }
}
