//! What an operator may decide about a saga, and when.
//!
//! | verb | about | allowed |
//! |---|---|---|
//! | retry | what waits for its next attempt | always |
//! | cancel | the saga (an input of its own) | until its pivot is known to have been called |
//! | skip | an undo; a step after the pivot | once it has failed |
//! | resolve | the same, and the pivot | once it has failed |
//! | abandon | the saga | while it needs attention, and its outcome is not the question |
//!
//! Promises: nothing that is only slow is decided by hand; before the pivot nothing is, because a cancel is safe there;
//! what came of a pivot is never skipped, nor is the question whether it has happened, and of a pivot "done" always means
//! that it has happened and "refused" that it never will; a saga with something skipped never reads completed or
//! compensated; a verb that comes again after it took effect changes nothing and is no error.

use serde::{Deserialize, Serialize};

use crate::definition::{Definition, Kind, StepIndex};
use crate::event::{Intervention, Leg, Resolution};
use crate::state::{Intervened, LegState, LegStatus, Phase, SagaState};

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Verb {
    /// Call at once what waits for its next attempt.
    Retry {
        /// Only this step; none: all that wait.
        step: Option<String>,
    },
    /// Count what is being tried of a step as over, though it was not done.
    Skip {
        /// Name of the step.
        step: String,
    },
    /// Count what is being tried of a step as answered.
    Resolve {
        /// Name of the step.
        step: String,
        /// How it ended.
        answer: Resolution,
    },
    /// Do nothing more.
    Abandon,
}

/// Why an operator's decision was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerbError {
    /// The definition has no such step.
    #[error("the saga has no step {step:?}")]
    UnknownStep {
        /// What was given.
        step: String,
    },
    /// Nothing is left to do.
    #[error("the saga is {}: nothing is left to do", phase.as_str())]
    Finished {
        /// How it ended.
        phase: Phase,
    },
    /// Nothing that failed waits for its next attempt.
    #[error("nothing waits for its next attempt: what is due has been called, or waits for its service")]
    NothingWaits,
    /// The step is not reached, or is decided.
    #[error("{step} is not being tried")]
    NotTried {
        /// Name of the step.
        step: &'static str,
    },
    /// Its call has not failed.
    #[error("the {leg} of {step} has not failed; wait for its answer")]
    NotFailed {
        /// Name of the step.
        step: &'static str,
        /// Which direction.
        leg: Leg,
    },
    /// Later steps build on what it answers.
    #[error("{step} stands before the pivot, and later steps build on its answer: cancel the saga instead")]
    BeforePivot {
        /// Name of the step.
        step: &'static str,
    },
    /// What came of the pivot decides the outcome.
    #[error("{step} decides the outcome and can't be skipped: find out what came of it, and resolve it")]
    PivotSkipped {
        /// Name of the step.
        step: &'static str,
    },
    /// Its service answers that by itself, and the saga turns back then.
    #[error(
        "whether {step} has happened is being asked: if it has, mend what keeps its service from answering, and the saga turns \
         back by itself; if it has not and never will, resolve it as refused"
    )]
    PivotAsked {
        /// Name of the step.
        step: &'static str,
    },
    /// Nothing but the pivot can be resolved as refused.
    #[error("the {leg} of {step} can't be refused any more: it can be resolved as done")]
    NotRefusable {
        /// Name of the step.
        step: &'static str,
        /// Which direction.
        leg: Leg,
    },
    /// It goes on by itself.
    #[error("the saga does not need attention: it goes on by itself")]
    NoAttention,
    /// Nobody could tell what came of it.
    #[error("the outcome is open: cancel the saga, or resolve its pivot once you know what came of it")]
    OutcomeOpen,
    /// The id of the command is that of another decision.
    #[error("another decision about this saga has the same command id: send this one with an id of its own")]
    CommandReused,
}

/// A verb that would be taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// "retry", "skip", "resolve", "abandon" or "cancel".
    pub verb: &'static str,
    /// The step that it is about; none for the whole saga.
    pub step: Option<&'static str>,
    /// Of a resolve: which of "done" and "refused" would be taken.
    pub answers: &'static [&'static str],
    /// What it would do.
    pub effect: &'static str,
}

/// What of a verb goes into the log; nothing when it has taken effect already.
pub(crate) fn steer(
    def: &Definition,
    state: &SagaState,
    verb: Verb,
    (by, reason): (&str, &str),
) -> Result<Option<Intervention>, VerbError> {
    let is_repeated =
        |last: &Intervened| last.by == by && last.reason == reason && is_same(def, &last.intervention, &verb);
    if state.last_intervention().is_some_and(is_repeated) {
        return Ok(None);
    }
    if state.phase().is_finished() {
        return Err(VerbError::Finished { phase: state.phase() });
    }
    let intervention = match verb {
        Verb::Retry { step } => {
            if let Some(step) = &step {
                index(def, step)?;
            }
            let name = |index: StepIndex| def.step(index).name;
            let mut waiting = state.trying(def).filter(|(_, _, leg)| leg.next_attempt_at_ms.is_some());
            if !waiting.any(|(index, _, _)| step.as_ref().is_none_or(|step| *step == name(index))) {
                return Err(VerbError::NothingWaits);
            }
            Intervention::Retry { step }
        }
        Verb::Skip { step } => {
            let (name, leg, kind) = failing(def, state, &step)?;
            match (leg, kind) {
                (Leg::Action, Kind::Compensatable) => return Err(VerbError::BeforePivot { step: name }),
                (_, Kind::Pivot) => return Err(VerbError::PivotSkipped { step: name }),
                (Leg::Undo, _) | (Leg::Action, Kind::Retriable | Kind::Closing) => Intervention::Skip { step, leg },
            }
        }
        Verb::Resolve { step, answer } => {
            let (name, leg, kind) = failing(def, state, &step)?;
            match (leg, kind, &answer) {
                (Leg::Action, Kind::Compensatable, _) => return Err(VerbError::BeforePivot { step: name }),
                (Leg::Undo, Kind::Pivot, Resolution::Done) => return Err(VerbError::PivotAsked { step: name }),
                (Leg::Undo, Kind::Pivot, Resolution::Refused { .. }) => {
                    Intervention::Resolve { step, leg, answer: Resolution::Done }
                }
                (_, _, Resolution::Done) => Intervention::Resolve { step, leg, answer },
                (Leg::Action, Kind::Pivot, _) if !state.is_turned_back(def) => {
                    Intervention::Resolve { step, leg, answer }
                }
                (_, _, Resolution::Refused { .. }) => return Err(VerbError::NotRefusable { step: name, leg }),
            }
        }
        Verb::Abandon if state.phase() == Phase::Running || state.is_pivot_unknown(def) => {
            return Err(VerbError::OutcomeOpen);
        }
        Verb::Abandon if !state.needs_attention() => return Err(VerbError::NoAttention),
        Verb::Abandon => Intervention::Abandon,
    };
    Ok(Some(intervention))
}

/// What an operator can do about a saga in which something has failed, the mildest first.
pub fn advice(def: &Definition, state: &SagaState) -> Vec<Advice> {
    let mut advice = Vec::new();
    let failing = || state.trying(def).filter(|(_, _, leg)| leg.attempts > 0);
    for (index, leg, progress) in failing() {
        let step = Some(def.step(index).name);
        let kind = def.step(index).kind;
        let may_skip = kind != Kind::Pivot && (leg == Leg::Undo || !kind.may_refuse());
        if progress.next_attempt_at_ms.is_some() {
            advice.push(Advice { verb: "retry", step, answers: &[], effect: "calls it at once" });
        }
        if may_skip {
            let effect = "counts it as done: for when somebody has done by hand what it is for";
            advice.push(Advice { verb: "resolve", step, answers: &["done"], effect });
            advice.push(Advice {
                verb: "skip",
                step,
                answers: &[],
                effect: "leaves it undone for good; the saga goes on, and ends as abandoned",
            });
        } else if kind == Kind::Pivot {
            let (answers, effect): (&[_], _) = match leg {
                Leg::Action if state.is_turned_back(def) => {
                    (&["done"], "counts it as done: for when somebody has found that it happened")
                }
                Leg::Action => (
                    &["done", "refused"],
                    "counts it as done or as refused: for when somebody has found out what came of it",
                ),
                Leg::Undo => {
                    (&["refused"], "counts it as refused: for when somebody has made sure that it never happens")
                }
            };
            advice.push(Advice { verb: "resolve", step, answers, effect });
        }
    }
    if state.phase() != Phase::Running && !state.is_pivot_unknown(def) && state.needs_attention() {
        let effect = "ends the saga as it stands: whatever is left stays undone, and nobody is told";
        advice.push(Advice { verb: "abandon", step: None, answers: &[], effect });
    }
    if state.may_turn(def) && failing().next().is_some() {
        let effect = "turns it round: all that may have been done is undone";
        advice.push(Advice { verb: "cancel", step: None, answers: &[], effect });
    }
    advice
}

/// Whether an intervention is what the verb asks for. A retry is never the same: each calls anew.
fn is_same(def: &Definition, intervention: &Intervention, verb: &Verb) -> bool {
    match (intervention, verb) {
        (Intervention::Skip { step, .. }, Verb::Skip { step: wanted }) => step == wanted,
        (Intervention::Resolve { step, leg, answer }, Verb::Resolve { step: wanted, answer: found }) => {
            let is_question = *leg == Leg::Undo && def.index(step).is_some_and(|at| def.step(at).kind == Kind::Pivot);
            let is_answer = if is_question { matches!(found, Resolution::Refused { .. }) } else { answer == found };
            step == wanted && is_answer
        }
        (Intervention::Abandon, Verb::Abandon) => true,
        _ => false,
    }
}

/// Whether the decision in the log is what the verb asks for.
pub(crate) fn is_of(def: &Definition, intervention: &Intervention, verb: &Verb) -> bool {
    match (intervention, verb) {
        (Intervention::Retry { step }, Verb::Retry { step: wanted }) => step == wanted,
        _ => is_same(def, intervention, verb),
    }
}

fn index(def: &Definition, step: &str) -> Result<StepIndex, VerbError> {
    def.index(step).ok_or_else(|| VerbError::UnknownStep { step: step.to_owned() })
}

/// The leg of a step that is being tried and has failed.
fn failing(def: &Definition, state: &SagaState, step: &str) -> Result<(&'static str, Leg, Kind), VerbError> {
    let index = index(def, step)?;
    let line = def.step(index);
    let mut tried = state.trying(def).filter(|(place, _, _)| *place == index);
    match tried.next() {
        None => Err(VerbError::NotTried { step: line.name }),
        Some((_, leg, LegState { status: LegStatus::Trying, attempts: 0, .. })) => {
            Err(VerbError::NotFailed { step: line.name, leg })
        }
        Some((_, leg, _)) => Ok((line.name, leg, line.kind)),
    }
}
