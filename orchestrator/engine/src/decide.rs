//! The one place where something new is decided about a saga.
//!
//! | what comes in | what it may lead to |
//! |---|---|
//! | an answer of the call that is due | its record; the next stage, the turn or the end, where it was the last one |
//! | an error | its record with the time of the next attempt; never the cause of a turn |
//! | a wake, a resume | the turn, when the deadline has passed; all calls that are due |
//! | a cancel | the turn, before the pivot is reached |
//! | an operator's verb | its record, where it is safe (see `operator`) |
//!
//! Promises: effects are those of the state after the events, so they may be acted on once the events are durable and
//! not before, but for those that may go ahead (below); a decision never depends on what is in flight. A saga that is left
//! alone after a resume has everything under way that it needs to end.
//!
//! What may go ahead of the log: calls of actions that can be undone, and of a pivot that somebody can be asked about,
//! while nothing is decided. If the process dies before the log tells of them, whoever adopts the saga makes the same calls
//! again, and participants answer repeats with the answer they have on record; or it turns the saga round, and then undoes
//! every such action that is not known to have refused, called or not, because [`Event::Adopted`] says that the log may be
//! behind. First of all it undoes the pivot: that makes sure that it never happens, or is refused because it has; then the saga turns back, and what it was
//! turned for came too late. Everything else waits for the log: an adopter that did not know of the turn or of the outcome
//! could decide otherwise.

use crate::definition::{Definition, Kind, StepIndex};
use crate::event::{Cause, Event, Leg, Recorded};
use crate::operator::{Verb, VerbError, is_of, steer};
use crate::retry::{CallError, Code, Jitter, Verdict, delay_ms, verdict};
use crate::state::{FoldError, LegState, LegStatus, Outcome, Phase, SagaState};

/// What the runtime tells a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nothing is under way: just admitted, or read back by who has driven it all along.
    Resume,
    /// Nothing is under way here: read back from the log of another process, which may have called more than it tells.
    Adopt {
        /// The instance that drives it now.
        by: String,
    },
    /// A call has ended.
    Answered {
        /// As in the [`Effect::Call`].
        step: StepIndex,
        /// As in the [`Effect::Call`].
        leg: Leg,
        /// As in the [`Effect::Call`].
        attempt: u32,
        /// When the call left.
        started_at_ms: i64,
        /// How it ended.
        answer: CallAnswer,
    },
    /// The time of [`Decision::wake_at_ms`] has come, or somebody wants to see whether anything is due.
    Wake,
    /// Somebody wants it undone.
    Cancel {
        /// Who.
        by: String,
        /// Why, in their words.
        reason: String,
    },
    /// An operator steers it.
    Steer {
        /// What they want.
        verb: Verb,
        /// Who.
        by: String,
        /// Why, in their words.
        reason: String,
        /// Id of this command: one that comes again after it was taken is answered as taken.
        command: Option<String>,
    },
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallAnswer {
    /// It did what it is for; its output in the words of the domain.
    Done(String),
    /// It said no; why, in the words of the domain.
    Refused(String),
    /// There was no answer: what it did is not known.
    Unknown(CallError),
}

/// What the runtime does because of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// This call ought to be under way: start it unless a call of the same (saga, step, leg) already is. It is emitted
    /// when it becomes due, and may be again by any later decision until its end is recorded (by each resume and wake
    /// it is), because the engine does not know what is in flight.
    Call {
        /// Which step.
        step: StepIndex,
        /// Which direction.
        leg: Leg,
        /// Counted from 1 in its leg.
        attempt: u32,
    },
    /// The outcome stands. Emitted when it is decided, and again by a resume.
    Decided(Outcome),
    /// Nothing is left to do: the saga may leave memory. Emitted at the end, and again by a resume.
    Finished,
}

/// What follows from an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// To be appended, in this order; often none.
    pub events: Vec<Recorded>,
    /// May be acted on at once, before the events are durable: calls that whoever reads the log would make again or undo.
    pub ahead: Vec<Effect>,
    /// To be acted on when these events, and all before them, are durable.
    pub effects: Vec<Effect>,
    /// When to send [`Input::Wake`]: the only timer of the saga, in place of the one before; none takes it away. A wake
    /// may come before the events are durable.
    pub wake_at_ms: Option<i64>,
    /// The state after the events, so that they need not be folded again.
    pub state: SagaState,
}

/// Why an input changes nothing. None of these is a fault of the saga.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// An answer that is not waited for: of an earlier attempt, of a leg that is decided, or of an action after the
    /// saga turned round. Harmless: what it did is recorded already or will be undone.
    #[error("attempt {attempt} of the {leg} of {step} is not waited for")]
    Stale {
        /// Name of the step.
        step: &'static str,
        /// Which direction.
        leg: Leg,
        /// Which attempt.
        attempt: u32,
    },
    /// The definition has no step at this place.
    #[error("there is no step at place {}", step.0)]
    UnknownStep {
        /// What was given.
        step: StepIndex,
    },
    /// The call of the pivot may have left.
    #[error("too late to cancel: the saga is {}, and its pivot may have been called", phase.as_str())]
    TooLateToCancel {
        /// Where it stands.
        phase: Phase,
    },
    /// It is being undone, or is undone, for another cause.
    #[error("nothing to cancel: the saga has turned round already ({cause})")]
    AlreadyTurned {
        /// Why it turned round.
        cause: Cause,
    },
    /// The operator's verb is not safe, or has nothing to do.
    #[error(transparent)]
    Verb(#[from] VerbError),
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
            // Later the log tells of every action before the pivot, and whatever is called waits for it.
            if draft.state.may_turn(def) {
                draft.push(Event::Adopted { by })?;
            }
            Repeat::Everything
        }
        Input::Wake => Repeat::Calls,
        Input::Answered { step, leg, attempt, started_at_ms, answer } => {
            let event = draft.answered((step, leg, attempt), started_at_ms, answer, jitter)?;
            // What the turn had stopped is called again.
            let is_turned_back = matches!(event, Event::TurnedBack { .. });
            draft.push(event)?;
            if is_turned_back { Repeat::Calls } else { Repeat::Nothing }
        }
        Input::Cancel { by, reason } => {
            if draft.may_cancel()? {
                draft.push(Event::Turned { cause: Cause::Cancelled { by, reason } })?;
            }
            Repeat::Nothing
        }
        Input::Steer { verb, by, reason, command } => {
            let taken = command.as_deref().and_then(|command| state.taken(command));
            if let Some(taken) = taken {
                if !is_of(def, taken, &verb) {
                    return Err(VerbError::CommandReused.into());
                }
            } else if let Some(intervention) = steer(def, state, verb, (&by, &reason))? {
                draft.push(Event::Intervened { by, reason, intervention, command })?;
            }
            Repeat::Calls
        }
    };
    draft.settle()?;
    let (effects, wake_at_ms) = draft.effects(state, repeat);
    let (ahead, effects) = effects.into_iter().partition(|effect| draft.may_go_ahead(effect));
    Ok(Decision { events: draft.events, ahead, effects, wake_at_ms, state: draft.state })
}

/// Which effects are repeated though an earlier decision had them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// None: the runtime has acted on them.
    Nothing,
    /// Calls that have no recorded end.
    Calls,
    /// All: the runtime has only read the log.
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
        (index, leg, attempt): (StepIndex, Leg, u32),
        started_at_ms: i64,
        answer: CallAnswer,
        jitter: Jitter,
    ) -> Result<Event, DecideError> {
        let step = self.def.steps().get(index.get()).ok_or(DecideError::UnknownStep { step: index })?;
        if let Err(error) = self.state.attempted(self.def, step.name, leg, attempt) {
            return Err(match error {
                FoldError::NotTrying { .. } | FoldError::Attempt { .. } => {
                    DecideError::Stale { step: step.name, leg, attempt }
                }
                other => DecideError::Fold(other),
            });
        }
        let name = step.name.to_owned();
        let (error, verdict) = match answer {
            CallAnswer::Done(output) => {
                return Ok(Event::Succeeded { step: name, leg, attempt, started_at_ms, output });
            }
            CallAnswer::Refused(_) if leg == Leg::Undo && step.kind == Kind::Pivot && self.state.may_turn_back() => {
                return Ok(Event::TurnedBack { step: name, attempt, started_at_ms });
            }
            CallAnswer::Refused(refusal)
                if leg == Leg::Action && step.kind.may_refuse() && !self.state.is_turned_back(self.def) =>
            {
                return Ok(Event::Refused { step: name, attempt, started_at_ms, refusal });
            }
            CallAnswer::Refused(refusal) => {
                let message = format!("refused, which this call may not: {refusal}");
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
        Ok(Event::Failed { step: name, leg, attempt, started_at_ms, error, next_attempt_at_ms, needs_attention })
    }

    /// Whether a cancel turns the saga round; not when an earlier one has.
    fn may_cancel(&self) -> Result<bool, DecideError> {
        match self.state.cause() {
            Some(Cause::Cancelled { .. }) => Ok(false),
            Some(cause) => Err(DecideError::AlreadyTurned { cause: cause.clone() }),
            None if self.state.may_turn(self.def) => Ok(true),
            None => Err(DecideError::TooLateToCancel { phase: self.state.phase() }),
        }
    }

    /// Turns round or finishes, when that is due.
    fn settle(&mut self) -> Result<(), FoldError> {
        let late = self.now_ms >= self.state.deadline_at_ms() && self.state.may_turn(self.def);
        if self.state.is_refused(self.def) {
            self.push(Event::Turned { cause: Cause::Refused })?;
        } else if late {
            // A refusal that is waiting for the other answers of its stage is the better answer.
            let refused = self.state.refusals().next().is_some();
            self.push(Event::Turned { cause: if refused { Cause::Refused } else { Cause::DeadlinePassed } })?;
        }
        if !self.state.phase().is_finished() && self.state.is_settled(self.def) {
            self.push(Event::Finished)?;
        }
        Ok(())
    }

    fn may_go_ahead(&self, effect: &Effect) -> bool {
        let Effect::Call { step, leg: Leg::Action, .. } = effect else { return false };
        let step = self.def.step(*step);
        self.state.phase() == Phase::Running && step.kind.may_refuse() && step.undo.is_some()
    }

    /// What is to be done, and when to wake the saga.
    fn effects(&self, before: &SagaState, repeat: Repeat) -> (Vec<Effect>, Option<i64>) {
        let mut effects = Vec::new();
        let outcome = self.state.outcome();
        if outcome != Outcome::Pending && (repeat == Repeat::Everything || before.outcome() == Outcome::Pending) {
            effects.push(Effect::Decided(outcome));
        }
        let may_turn = self.state.may_turn(self.def);
        let mut wake_at_ms = may_turn.then(|| self.state.deadline_at_ms());
        for (step, leg, state) in self.state.trying(self.def) {
            match self.retry_at_ms(step, state) {
                Some(at_ms) => wake_at_ms = Some(wake_at_ms.map_or(at_ms, |earliest: i64| earliest.min(at_ms))),
                None => {
                    let was_trying = before.steps()[step.get()].leg(leg).status == LegStatus::Trying;
                    if repeat != Repeat::Nothing || !was_trying || state.next_attempt_at_ms.is_some() {
                        effects.push(Effect::Call { step, leg, attempt: state.attempts + 1 });
                    }
                }
            }
        }
        if self.state.phase().is_finished() && (repeat == Repeat::Everything || !before.phase().is_finished()) {
            effects.push(Effect::Finished);
        }
        (effects, wake_at_ms)
    }

    /// When a leg is tried again, if not now. A time further ahead than any delay of its policy was written by a
    /// process whose clock ran ahead of this one: it counts as come, or the saga would wait for that clock.
    fn retry_at_ms(&self, step: StepIndex, state: &LegState) -> Option<i64> {
        let wait_ms = state.next_attempt_at_ms?.saturating_sub(self.now_ms);
        let longest_ms = self.def.step(step).retry.delay_longest_ms();
        (0 < wait_ms && wait_ms <= longest_ms).then(|| self.now_ms + wait_ms)
    }
}
