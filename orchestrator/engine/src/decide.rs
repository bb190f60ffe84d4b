//! Decides what an input changes in a saga. No other function decides anything new.
//!
//! | input | possible effect |
//! |---|---|
//! | an answer of the call that is due | its record; after the last one, the next stage, the compensation or the end |
//! | an error | its record with the time of the next attempt; never a compensation |
//! | a wake, a resume | the compensation, when the deadline has passed; all calls that are due |
//! | a cancel | the compensation, before the pivot is reached, or answered where it can be withdrawn |
//! | an operator's command | its record, where it is safe (see `operator`) |
//!
//! Promises: effects follow from the state after the events, so the runtime runs them once the events are persisted.
//! Two kinds of calls may start earlier (below). A decision never depends on the calls that are in flight. A saga that
//! gets no further input after a resume has every call under way that it needs to end.
//!
//! Calls of actions that can be undone, and of a pivot with a compensation, may go ahead of the log while nothing is
//! decided. If the process dies before the log has a record of them, another instance adopts the saga:
//!
//! 1. Either it goes on and makes the same calls again. Participants answer a repeat with the answer that they have on
//!    record.
//! 2. Or it starts the compensation. [`Event::Adopted`] says that the log may lack calls, so the saga undoes every such
//!    action without a recorded refusal, called or not. It undoes the pivot first: that makes sure that the pivot never
//!    happens, or is refused because the pivot has happened. Then the saga reverts its compensation, and the cause of
//!    the compensation came too late.
//!
//! A saga whose pivot can be withdrawn compensates after a cancel or its deadline until the pivot is answered. The call
//! of the pivot may be under way, so the saga undoes the pivot first here too, and nothing else before that is
//! answered.
//!
//! Every other effect waits for the log. Without the start of the compensation or the outcome in its log, an adopter
//! could decide otherwise.

use crate::definition::{Definition, Kind, StepIndex};
use crate::event::{Cause, Direction, Event, Recorded};
use crate::operator::{OperatorCommand, OperatorCommandError, intervene, is_of};
use crate::retry::{CallError, Code, Jitter, Verdict, delay_ms, verdict};
use crate::state::{CallState, CallStatus, FoldError, Outcome, Phase, SagaState};

/// An input of a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// No call is in flight: the saga was just admitted, or its owner has read it back.
    Resume,
    /// No call is in flight here: the saga was read back from the log of another instance, which may lack calls.
    Adopt {
        /// The instance that drives it now.
        by: String,
    },
    /// A call has ended.
    Answered {
        /// The value in the [`Effect::Call`].
        step: StepIndex,
        /// The value in the [`Effect::Call`].
        direction: Direction,
        /// The value in the [`Effect::Call`].
        attempt: u32,
        /// When the call left.
        started_at_ms: i64,
        /// How the call ended.
        answer: CallAnswer,
    },
    /// The time of [`Decision::wake_at_ms`] has come, or the runtime checks whether anything is due.
    Wake,
    /// A client or an operator cancels the saga.
    Cancel {
        /// The name of the client or operator.
        by: String,
        /// The reason, in their words.
        reason: String,
    },
    /// An operator gives a command.
    Operator {
        /// The command.
        command: OperatorCommand,
        /// The name of the operator.
        by: String,
        /// The reason, in their words.
        reason: String,
        /// Id of this command. A command that comes again after it was taken is answered as taken.
        command_id: Option<String>,
    },
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallAnswer {
    /// The call is done, with its output in the words of the domain.
    Done(String),
    /// The call was refused, with the reason in the words of the domain.
    Refused(String),
    /// There was no answer, so the effect of the call is unknown.
    Unknown(CallError),
}

/// An action of the runtime that follows from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// This call ought to be under way: the runtime starts it unless a call of the same (saga, step, direction) is
    /// already in flight. The effect is emitted when the call becomes due. Until the end of the call is recorded, each
    /// resume and wake emits it again, and any other decision may, because the engine does not know the calls in
    /// flight.
    Call {
        /// The step.
        step: StepIndex,
        /// The direction of the call.
        direction: Direction,
        /// The number of the attempt, counted from 1 for each direction.
        attempt: u32,
    },
    /// The outcome is decided. Emitted when it is decided, and again by a resume.
    Decided(Outcome),
    /// Nothing is left to do: the saga may leave memory. Emitted at the end, and again by a resume.
    Finished,
}

/// The decision about an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Events to be appended, in this order; often empty.
    pub events: Vec<Recorded>,
    /// Effects that may run at once, before the events are durable: calls that an adopter would make again or undo.
    pub ahead: Vec<Effect>,
    /// Effects that run when these events, and all before them, are durable.
    pub effects: Vec<Effect>,
    /// When to send [`Input::Wake`]. It replaces the only timer of the saga; `None` stops the timer. A wake may come
    /// before the events are durable.
    pub wake_at_ms: Option<i64>,
    /// The state after the events, so that they need not be folded again.
    pub state: SagaState,
}

/// Why an input changes nothing. None of these is a fault of the saga.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// An answer that the saga does not wait for: of an earlier attempt, of a call that is decided, or of an action
    /// after the saga started its compensation. It is harmless: its effect is recorded already or will be undone.
    #[error("attempt {attempt} of the {direction} of {step} is not waited for")]
    Stale {
        /// Name of the step.
        step: &'static str,
        /// The direction of the call.
        direction: Direction,
        /// The number of the attempt.
        attempt: u32,
    },
    /// The definition has no step at this index.
    #[error("there is no step at place {}", step.0)]
    UnknownStep {
        /// The index that was given.
        step: StepIndex,
    },
    /// The call of the pivot may have left, or has been answered where the pivot can be withdrawn.
    #[error("too late to cancel: the saga is {}, and its pivot may have been called", phase.as_str())]
    TooLateToCancel {
        /// The phase of the saga.
        phase: Phase,
    },
    /// The saga is compensating, or has compensated, for another cause.
    #[error("nothing to cancel: the saga is compensating already ({cause})")]
    AlreadyCompensating {
        /// Why the saga started its compensation.
        cause: Cause,
    },
    /// The operator's command is not safe, or there is nothing to do.
    #[error(transparent)]
    Operator(#[from] OperatorCommandError),
    /// The state is of another definition.
    #[error("the decision does not fold")]
    Fold(#[from] FoldError),
}

/// Decides what follows from an input, at a time and with a jitter that the caller gives.
pub fn decide(
    def: &Definition,
    state: &SagaState,
    input: Input,
    now_ms: i64,
    jitter: Jitter,
) -> Result<Decision, DecideError> {
    state.check(def)?;
    let mut draft = Draft { def, state: state.clone(), now_ms, events: Vec::new() };
    let repeat = match input {
        Input::Resume => Repeat::Everything,
        Input::Adopt { by } => {
            // Once the pivot is reached, the log has every action before it, and every call waits for the log.
            if draft.state.is_before_pivot(def) {
                draft.push(Event::Adopted { by })?;
            }
            Repeat::Everything
        }
        Input::Wake => Repeat::Calls,
        Input::Answered { step, direction, attempt, started_at_ms, answer } => {
            let event = draft.answered((step, direction, attempt), started_at_ms, answer, jitter)?;
            // The calls that the compensation had stopped are made again.
            let is_compensation_reverted = matches!(event, Event::CompensationReverted { .. });
            draft.push(event)?;
            if is_compensation_reverted { Repeat::Calls } else { Repeat::Nothing }
        }
        Input::Cancel { by, reason } => {
            if draft.may_cancel()? {
                draft.push(Event::CompensationStarted { cause: Cause::Cancelled { by, reason } })?;
            }
            Repeat::Nothing
        }
        Input::Operator { command, by, reason, command_id } => {
            let taken = command_id.as_deref().and_then(|id| state.taken(id));
            if let Some(taken) = taken {
                if !is_of(def, taken, &command) {
                    return Err(OperatorCommandError::CommandReused.into());
                }
            } else if let Some(intervention) = intervene(def, state, command, (&by, &reason))? {
                draft.push(Event::Intervened { by, reason, intervention, command_id })?;
            }
            Repeat::Calls
        }
    };
    draft.settle()?;
    let (effects, wake_at_ms) = draft.effects(state, repeat);
    let (ahead, effects) = effects.into_iter().partition(|effect| draft.may_go_ahead(effect));
    Ok(Decision { events: draft.events, ahead, effects, wake_at_ms, state: draft.state })
}

/// The effects that are emitted again though an earlier decision had them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// No effects: the runtime has run them.
    Nothing,
    /// Calls that have no recorded end.
    Calls,
    /// All effects: the runtime has only read the log.
    Everything,
}

struct Draft<'a> {
    def: &'a Definition,
    state: SagaState,
    now_ms: i64,
    events: Vec<Recorded>,
}

impl Draft<'_> {
    fn push(&mut self, event: Event) -> Result<(), FoldError> {
        let recorded = Recorded { sequence: self.state.sequence() + 1, at_ms: self.now_ms, event };
        self.state.apply(self.def, &recorded)?;
        self.events.push(recorded);
        Ok(())
    }

    fn answered(
        &mut self,
        (index, direction, attempt): (StepIndex, Direction, u32),
        started_at_ms: i64,
        answer: CallAnswer,
        jitter: Jitter,
    ) -> Result<Event, DecideError> {
        let step = self.def.steps().get(index.get()).ok_or(DecideError::UnknownStep { step: index })?;
        if let Err(error) = self.state.attempted(self.def, step.name, direction, attempt) {
            return Err(match error {
                FoldError::NotTrying { .. } | FoldError::Attempt { .. } => {
                    DecideError::Stale { step: step.name, direction, attempt }
                }
                other => DecideError::Fold(other),
            });
        }
        let name = step.name.to_owned();
        let (error, verdict) = match answer {
            CallAnswer::Done(output) => {
                return Ok(Event::Succeeded { step: name, direction, attempt, started_at_ms, output });
            }
            CallAnswer::Refused(_)
                if direction == Direction::Compensation && step.kind == Kind::Pivot && self.state.may_revert() =>
            {
                return Ok(Event::CompensationReverted { step: name, attempt, started_at_ms });
            }
            CallAnswer::Refused(refusal)
                if direction == Direction::Forward
                    && step.kind.may_refuse()
                    && !self.state.is_compensation_reverted(self.def) =>
            {
                return Ok(Event::Refused { step: name, attempt, started_at_ms, refusal });
            }
            CallAnswer::Refused(refusal) => {
                let message = if self.state.owes_withdrawal(self.def) && step.kind == Kind::Pivot {
                    format!("{name} has happened, though it was resolved as refused; undo it there: {refusal}")
                } else {
                    format!("refused, which this call may not: {refusal}")
                };
                (CallError::new(Code::FailedPrecondition, message, None), Verdict::SlowRetry)
            }
            CallAnswer::Unknown(error) => {
                let verdict = verdict(error.code);
                (error, verdict)
            }
        };
        let needs_attention = verdict == Verdict::SlowRetry || step.retry.is_exhausted(attempt);
        let pace = if needs_attention { Verdict::SlowRetry } else { Verdict::Retry };
        let wait_ms = delay_ms(&step.retry, attempt, pace, error.retry_after_ms, jitter);
        let next_attempt_at_ms = self.now_ms.saturating_add(wait_ms);
        Ok(Event::Failed { step: name, direction, attempt, started_at_ms, error, next_attempt_at_ms, needs_attention })
    }

    /// Whether a cancel starts the compensation: not when an earlier cancel has.
    fn may_cancel(&self) -> Result<bool, DecideError> {
        match self.state.cause() {
            Some(Cause::Cancelled { .. }) => Ok(false),
            Some(cause) => Err(DecideError::AlreadyCompensating { cause: cause.clone() }),
            None if self.state.may_compensate(self.def) => Ok(true),
            None => Err(DecideError::TooLateToCancel { phase: self.state.phase() }),
        }
    }

    /// Starts the compensation or finishes the saga, when that is due.
    fn settle(&mut self) -> Result<(), FoldError> {
        let late = self.now_ms >= self.state.deadline_at_ms() && self.state.may_compensate(self.def);
        if self.state.is_refused(self.def) {
            self.push(Event::CompensationStarted { cause: Cause::Refused })?;
        } else if late {
            // A refusal that is waiting for the other answers of its stage is the better answer.
            let refused = self.state.refusals().next().is_some();
            self.push(Event::CompensationStarted {
                cause: if refused { Cause::Refused } else { Cause::DeadlinePassed },
            })?;
        }
        if !self.state.phase().is_finished() && self.state.is_settled(self.def) {
            self.push(Event::Finished)?;
        }
        Ok(())
    }

    fn may_go_ahead(&self, effect: &Effect) -> bool {
        let Effect::Call { step, direction: Direction::Forward, .. } = effect else { return false };
        let step = self.def.step(*step);
        self.state.phase() == Phase::Running && step.kind.may_refuse() && step.undo.is_some()
    }

    /// The effects of the state, and when to wake the saga.
    fn effects(&self, before: &SagaState, repeat: Repeat) -> (Vec<Effect>, Option<i64>) {
        let mut effects = Vec::new();
        let outcome = self.state.outcome();
        if outcome != Outcome::Pending && (repeat == Repeat::Everything || before.outcome() == Outcome::Pending) {
            effects.push(Effect::Decided(outcome));
        }
        let may_compensate = self.state.may_compensate(self.def);
        let mut wake_at_ms = may_compensate.then(|| self.state.deadline_at_ms());
        for (step, direction, state) in self.state.trying(self.def) {
            match self.retry_at_ms(step, state) {
                Some(at_ms) => wake_at_ms = Some(wake_at_ms.map_or(at_ms, |earliest: i64| earliest.min(at_ms))),
                None => {
                    let was_trying = before.steps()[step.get()].call(direction).status == CallStatus::Trying;
                    if repeat != Repeat::Nothing || !was_trying || state.next_attempt_at_ms.is_some() {
                        effects.push(Effect::Call { step, direction, attempt: state.attempts + 1 });
                    }
                }
            }
        }
        if self.state.phase().is_finished() && (repeat == Repeat::Everything || !before.phase().is_finished()) {
            effects.push(Effect::Finished);
        }
        (effects, wake_at_ms)
    }

    /// When a call is tried again, if not now. A time further ahead than any delay of its policy was written by a
    /// process whose clock was ahead of this one. That time counts as come, because the saga would otherwise wait for
    /// that clock.
    fn retry_at_ms(&self, step: StepIndex, state: &CallState) -> Option<i64> {
        let wait_ms = state.next_attempt_at_ms?.saturating_sub(self.now_ms);
        let longest_ms = self.def.step(step).retry.delay_longest_ms();
        (0 < wait_ms && wait_ms <= longest_ms).then(|| self.now_ms + wait_ms)
    }
}
