//! The state of a saga: the fold of its log, and nothing else.
//!
//! Promises: the same log gives the same state. `may_follow` has the one table of what may follow what: every pair
//! of (phase, event) that it does not list is [`FoldError::Illegal`]. An event that can't follow leaves the state as it
//! was. The state says which calls may have left: a call is [`CallStatus::Trying`] from the event that made it due.
//! After a takeover the log may end before these events. Then every action that can be undone, and a pivot that goes
//! ahead of the log, may have been called.
//!
//! ```text
//! Running --pivot succeeded--> Completing --finished--> Completed
//!    \---compensation started---> Compensating --finished--> Compensated
//!    ^---compensation reverted--------/   the pivot had happened, and the log had no record of it
//!
//! Completing or Compensating --an operator skipped a call of it, or gave it up--> Abandoned
//! ```

use std::sync::Arc;

use crate::definition::{Definition, Kind, Step, StepIndex};
use crate::event::{Attempt, Cause, Direction, Event, Intervention, Recorded, Resolution};
use crate::retry::CallError;

/// The phase of a saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before its pivot has succeeded.
    Running,
    /// Its steps are being undone, or all are undone and its finalizers are left.
    Compensating,
    /// After its pivot: its other steps are retried until they are done.
    Completing,
    /// Finished, and committed.
    Completed,
    /// Finished, and everything that may have been done is undone.
    Compensated,
    /// Finished by an operator's decision, with something left undone.
    Abandoned,
}

impl Phase {
    /// Whether nothing is left to do.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated | Self::Abandoned)
    }

    /// The name that people see and the store has.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Completing => "completing",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The outcome of a saga, for the client that submitted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Not decided: the saga is running, or is still being undone.
    Pending,
    /// The pivot has succeeded, which nothing takes back.
    Committed,
    /// A step was refused, and everything is undone.
    Refused,
    /// The saga was cancelled, and everything is undone.
    Cancelled,
    /// The deadline of the saga passed, and everything is undone.
    TimedOut,
}

impl Outcome {
    /// The name that people see and the store has.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Committed => "committed",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }
}

/// The status of the call of one direction of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CallStatus {
    /// The log has nothing of the call: the saga has not reached it.
    #[default]
    NotStarted,
    /// The call may have left, and no answer is recorded. An action keeps this status when its saga starts its
    /// compensation before the answer: the compensation of the step settles it.
    Trying,
    /// The call succeeded.
    Done,
    /// The call was refused. A compensation is refused only for the pivot: the pivot has happened.
    Refused,
    /// The call was not done and, by an operator's decision, will not be.
    Skipped,
}

impl CallStatus {
    /// Whether the saga does nothing more about the call.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }
}

/// The state of the call of one direction of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallState {
    /// The status of the call.
    pub status: CallStatus,
    /// The number of attempts whose end is recorded.
    pub attempts: u32,
    /// How the last failed attempt ended.
    pub last_error: Option<CallError>,
    /// When the call is tried again after a failure.
    pub next_attempt_at_ms: Option<i64>,
    /// When the first failure was recorded.
    pub first_failed_at_ms: Option<i64>,
    /// Whether a person must look at the call.
    pub needs_attention: bool,
}

impl CallState {
    /// The saga that must end first, if the last attempt was answered so.
    pub fn waits_for(&self) -> Option<&str> {
        self.last_error.as_ref()?.waits_for.as_deref().filter(|_| self.status == CallStatus::Trying)
    }
}

/// The state of one step of a saga.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepState {
    /// The name of the step in the definition.
    pub name: &'static str,
    /// Whether the step has anything to do in this saga.
    pub applies: bool,
    /// The state of its action.
    pub action: CallState,
    /// The state of its compensation; never started where the definition has no compensation.
    pub undo: CallState,
    /// The answer of its action. Shared, because each decision begins with a copy of the state.
    pub output: Option<Arc<str>>,
    /// Why its action was refused.
    pub refusal: Option<Arc<str>>,
    /// Whether an operator has found the refusal; otherwise the participant answered it.
    pub(crate) is_refused_manually: bool,
    /// Whether an operator has found that the pivot never happens, while its compensation had no answer. The saga goes
    /// on, and calls the compensation until it is answered: a call of the pivot may arrive later.
    pub(crate) is_withdrawn_manually: bool,
}

impl StepState {
    /// The state of the call of one direction.
    pub fn call(&self, direction: Direction) -> &CallState {
        match direction {
            Direction::Forward => &self.action,
            Direction::Compensation => &self.undo,
        }
    }

    fn call_mut(&mut self, direction: Direction) -> &mut CallState {
        match direction {
            Direction::Forward => &mut self.action,
            Direction::Compensation => &mut self.undo,
        }
    }

    /// Whether a compensating saga still has to undo this step, because the step may have been done.
    ///
    /// 1. A step that was called may have been done, unless it was refused. The participant keeps a refusal, and
    ///    answers every repeat with it.
    /// 2. In a saga that was adopted, every step without a recorded refusal may have been done. The pivot may have been
    ///    done too, unless the log has reached it.
    /// 3. A pivot that was called and not answered is undone: the call may have been done, or may arrive later.
    /// 4. A pivot that an operator has found not to have happened is undone too: a call of it may arrive later.
    fn owes_undo(&self, step: &Step, is_adopted: bool) -> bool {
        let may_be_done = match (step.kind, self.action.status) {
            (Kind::Compensatable, CallStatus::Refused) => false,
            (Kind::Compensatable, CallStatus::NotStarted) => is_adopted && self.applies,
            (Kind::Compensatable, _) => true,
            (Kind::Pivot, _) if step.undo.is_none() => false,
            (Kind::Pivot, CallStatus::NotStarted) => is_adopted,
            (Kind::Pivot, CallStatus::Trying) => true,
            (Kind::Pivot, status) => status == CallStatus::Refused && self.is_refused_manually,
            (Kind::Retriable | Kind::Finalizer, _) => false,
        };
        may_be_done && !self.undo.status.is_over()
    }
}

/// The fold of a saga's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SagaState {
    definition: &'static str,
    version: u32,
    phase: Phase,
    sequence: u64,
    deadline_at_ms: i64,
    decided_at_ms: Option<i64>,
    /// Whether calls may have left of which its log has no record.
    is_adopted: bool,
    cause: Option<Cause>,
    last_intervention: Option<Intervened>,
    /// The operators' commands that the saga has taken, by their ids. They are few: a person decides each.
    commands: Vec<(Arc<str>, Intervention)>,
    steps: Vec<StepState>,
}

/// A decision of an operator, with its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intervened {
    pub by: String,
    pub reason: String,
    pub intervention: Intervention,
}

impl SagaState {
    /// Name and version of its definition.
    pub fn definition(&self) -> (&'static str, u32) {
        (self.definition, self.version)
    }

    /// Its phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The sequence number of the last event of its log.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When the saga starts its compensation by itself, unless it has reached its pivot, or the answer of its pivot
    /// where that can be withdrawn.
    pub fn deadline_at_ms(&self) -> i64 {
        self.deadline_at_ms
    }

    /// When its outcome was decided; `None` while the outcome is pending.
    pub fn decided_at_ms(&self) -> Option<i64> {
        self.decided_at_ms
    }

    /// Why it started its compensation.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Its outcome. A compensating saga is pending until everything is undone. So a client whose saga ended without a
    /// change holds nothing any more.
    pub fn outcome(&self) -> Outcome {
        match (self.decided_at_ms, &self.cause) {
            (None, _) => Outcome::Pending,
            (Some(_), None) => Outcome::Committed,
            (Some(_), Some(Cause::Refused)) => Outcome::Refused,
            (Some(_), Some(Cause::Cancelled { .. })) => Outcome::Cancelled,
            (Some(_), Some(Cause::DeadlinePassed)) => Outcome::TimedOut,
        }
    }

    /// Its steps, as in the definition.
    pub fn steps(&self) -> &[StepState] {
        &self.steps
    }

    /// The answer of the action of a step.
    pub fn output(&self, step: &str) -> Option<&str> {
        self.steps.iter().find(|state| state.name == step)?.output.as_deref()
    }

    /// Every refusal, in order of steps: (name, reason).
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.steps.iter().filter_map(|state| Some((state.name, state.refusal.as_deref()?)))
    }

    /// The last decision of an operator.
    pub(crate) fn last_intervention(&self) -> Option<&Intervened> {
        self.last_intervention.as_ref()
    }

    /// The decision that the command of this id led to; `None` when its log has no such command.
    pub(crate) fn taken(&self, command_id: &str) -> Option<&Intervention> {
        self.commands.iter().find(|(id, _)| **id == *command_id).map(|(_, intervention)| intervention)
    }

    /// Whether a person must look at the saga: at a call that is being tried, or because only a withdrawal is owed. Its
    /// service may stay away for good, and then only an operator ends the saga.
    pub fn needs_attention(&self) -> bool {
        let calls = |step: &StepState| step.action.needs_attention || step.undo.needs_attention;
        let owes = self.decided_at_ms.is_some() && self.steps.iter().any(|step| self.is_withdrawing(step));
        owes || self.steps.iter().any(calls)
    }

    /// Whether an operator has found that the step never happens, and its compensation is being tried still.
    fn is_withdrawing(&self, step: &StepState) -> bool {
        self.phase == Phase::Compensating && step.undo.status == CallStatus::Trying && step.is_withdrawn_manually
    }

    /// Whether its pivot was found to have happened before its log had a record of it. Such a saga never compensates
    /// again.
    pub fn is_compensation_reverted(&self, def: &Definition) -> bool {
        self.pivot(def).undo.status == CallStatus::Refused
    }

    /// Whether a compensation may be reverted: no refusal of a participant contradicts that the pivot has happened, and
    /// nothing was undone on an operator's word.
    pub(crate) fn may_revert(&self) -> bool {
        let contradicts = |step: &StepState| step.refusal.is_some() && !step.is_refused_manually;
        !self.steps.iter().any(|step| contradicts(step) || step.is_withdrawn_manually)
    }

    /// Whether the saga is compensating, and it is not known yet whether its pivot has happened.
    pub(crate) fn is_pivot_unknown(&self, def: &Definition) -> bool {
        let pivot = self.pivot(def);
        self.phase == Phase::Compensating && pivot.undo.status == CallStatus::Trying && !pivot.is_withdrawn_manually
    }

    /// Whether an operator has found that the pivot never happens, and its service has not answered that it never will.
    pub(crate) fn owes_withdrawal(&self, def: &Definition) -> bool {
        self.is_withdrawing(self.pivot(def))
    }

    /// Whether the saga can still be cancelled or run out of time: its log has no call of its pivot. Where the pivot
    /// can be withdrawn, its log has no answer of the pivot.
    pub fn may_compensate(&self, def: &Definition) -> bool {
        let is_in_time = match self.pivot(def).action.status {
            CallStatus::NotStarted => true,
            CallStatus::Trying => def.is_pivot_withdrawable(),
            CallStatus::Done | CallStatus::Refused | CallStatus::Skipped => false,
        };
        self.phase == Phase::Running && is_in_time && !self.is_compensation_reverted(def)
    }

    /// Whether its log has no call of its pivot: an instance that adopts it must expect calls that the log lacks.
    pub(crate) fn is_before_pivot(&self, def: &Definition) -> bool {
        self.may_compensate(def) && self.pivot(def).action.status == CallStatus::NotStarted
    }

    fn pivot(&self, def: &Definition) -> &StepState {
        &self.steps[def.pivot().get()]
    }

    /// The calls that should be in flight or waiting for their next attempt.
    pub fn trying<'a>(&'a self, def: &'a Definition) -> impl Iterator<Item = (StepIndex, Direction, &'a CallState)> {
        let phase = self.phase;
        // Once a step was refused, the saga waits only for first answers: they may be refusals too.
        let refused = phase == Phase::Running && self.refusals().next().is_some();
        self.with(def).flat_map(move |(index, step, state)| {
            let calls = [Direction::Forward, Direction::Compensation].map(|way| (index, way, state.call(way)));
            calls.into_iter().filter(move |(_, direction, call)| {
                let live = match phase {
                    Phase::Running | Phase::Completing => true,
                    Phase::Compensating => *direction == Direction::Compensation || step.kind == Kind::Finalizer,
                    Phase::Completed | Phase::Compensated | Phase::Abandoned => false,
                };
                live && call.status == CallStatus::Trying && !(refused && call.attempts > 0)
            })
        })
    }

    /// The saga that must end before this one can go on, by the last answer of a service.
    pub fn waits_for<'a>(&'a self, def: &'a Definition) -> Option<&'a str> {
        self.trying(def).find_map(|(_, _, call)| call.waits_for())
    }

    /// Whether the saga has nothing left to do in its phase. Never true before its outcome is decided.
    pub(crate) fn is_settled(&self, def: &Definition) -> bool {
        let done = |step: &Step, state: &StepState| match self.phase {
            Phase::Running => false,
            Phase::Completing => state.action.status.is_over(),
            Phase::Compensating => step.kind != Kind::Finalizer || state.action.status.is_over(),
            Phase::Completed | Phase::Compensated | Phase::Abandoned => true,
        };
        if self.owes_withdrawal(def) {
            return false;
        }
        self.decided_at_ms.is_some() && self.with(def).all(|(_, step, state)| !state.applies || done(step, state))
    }

    /// Whether a step was refused, and every step of its stage has been answered or has failed once, so that no reason
    /// is lost.
    pub(crate) fn is_refused(&self, def: &Definition) -> bool {
        self.phase == Phase::Running && self.refusals().next().is_some() && self.trying(def).next().is_none()
    }

    fn with<'a>(&'a self, def: &'a Definition) -> impl Iterator<Item = (StepIndex, &'a Step, &'a StepState)> {
        def.indexed().zip(&self.steps).map(|((index, step), state)| (index, step, state))
    }
}

/// Why a log is not one of the definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// There is no event.
    #[error("the log is empty")]
    Empty,
    /// A log begins with the admission.
    #[error("the log begins with {event}, not with the admission")]
    NotAdmitted {
        /// Its first event.
        event: &'static str,
    },
    /// The log was written under another definition.
    #[error("the log is of {definition} v{version}")]
    OtherDefinition {
        /// Name in the log.
        definition: String,
        /// Version in the log.
        version: u32,
    },
    /// An event is missing, or is there twice.
    #[error("event {found} stands where {expected} should")]
    Sequence {
        /// The sequence number that is due.
        expected: u64,
        /// The sequence number that came.
        found: u64,
    },
    /// The definition has no such step.
    #[error("there is no step {step:?}")]
    UnknownStep {
        /// Name in the log.
        step: String,
    },
    /// A saga without its pivot could not end.
    #[error("the pivot does not apply")]
    PivotSkipped,
    /// The table has no such pair of phase and event.
    #[error("{event} can't happen while {}", phase.as_str())]
    Illegal {
        /// The phase of the saga.
        phase: Phase,
        /// The event that came.
        event: &'static str,
    },
    /// The call is not being tried: it is not reached, is already decided, or its step is being undone.
    #[error("the {direction} of {step} is not being tried")]
    NotTrying {
        /// Name of the step.
        step: String,
        /// The direction of the call.
        direction: Direction,
    },
    /// An operator can't decide this call: it has not failed, or something else must be decided instead.
    #[error("the {direction} of {step} can't be decided manually")]
    NotManual {
        /// Name of the step.
        step: String,
        /// The direction of the call.
        direction: Direction,
    },
    /// The attempt is not the next one of its call.
    #[error("attempt {found} of the {direction} of {step}, where {expected} is due")]
    Attempt {
        /// Name of the step.
        step: String,
        /// The direction of the call.
        direction: Direction,
        /// The number of the attempt that is due.
        expected: u32,
        /// The number of the attempt that came.
        found: u32,
    },
}

impl SagaState {
    /// The state after a whole log.
    pub fn replay<'a>(def: &Definition, log: impl IntoIterator<Item = &'a Recorded>) -> Result<Self, FoldError> {
        let mut log = log.into_iter();
        let mut state = Self::admitted(def, log.next().ok_or(FoldError::Empty)?)?;
        for recorded in log {
            state.apply(def, recorded)?;
        }
        Ok(state)
    }

    /// The state after the first event.
    fn admitted(def: &Definition, first: &Recorded) -> Result<Self, FoldError> {
        let Event::Admitted { definition, version, applies, deadline_at_ms } = &first.event else {
            return Err(FoldError::NotAdmitted { event: first.event.name() });
        };
        if definition != def.name() || *version != def.version() {
            return Err(FoldError::OtherDefinition { definition: definition.clone(), version: *version });
        }
        if first.sequence != 1 {
            return Err(FoldError::Sequence { expected: 1, found: first.sequence });
        }
        if let Some(step) = applies.iter().find(|name| def.index(name).is_none()) {
            return Err(FoldError::UnknownStep { step: step.clone() });
        }
        let steps: Vec<_> = def
            .steps()
            .iter()
            .map(|step| StepState {
                name: step.name,
                applies: applies.iter().any(|name| name == step.name),
                ..StepState::default()
            })
            .collect();
        if !steps[def.pivot().get()].applies {
            return Err(FoldError::PivotSkipped);
        }
        let mut state = Self {
            definition: def.name(),
            version: def.version(),
            phase: Phase::Running,
            sequence: 1,
            deadline_at_ms: *deadline_at_ms,
            decided_at_ms: None,
            is_adopted: false,
            cause: None,
            last_intervention: None,
            commands: Vec::new(),
            steps,
        };
        state.advance(def, first.at_ms);
        Ok(state)
    }

    /// Folds the next event of the log.
    pub fn apply(&mut self, def: &Definition, recorded: &Recorded) -> Result<(), FoldError> {
        self.check(def)?;
        let Recorded { sequence, at_ms, ref event } = *recorded;
        let expected = self.sequence + 1;
        if sequence != expected {
            return Err(FoldError::Sequence { expected, found: sequence });
        }
        if !self.may_follow(def, event) {
            return Err(FoldError::Illegal { phase: self.phase, event: event.name() });
        }
        if let Some(attempt) = event.attempt() {
            self.ended(def, attempt, event, at_ms)?;
        }
        match event {
            Event::Adopted { .. } => self.is_adopted = true,
            Event::CompensationStarted { cause } => self.compensate(cause.clone()),
            Event::Intervened { by, reason, intervention, command_id } => {
                self.intervene(def, intervention, at_ms)?;
                let (by, reason, intervention) = (by.clone(), reason.clone(), intervention.clone());
                self.commands.extend(command_id.as_deref().map(|id| (Arc::from(id), intervention.clone())));
                self.last_intervention = Some(Intervened { by, reason, intervention });
            }
            Event::Finished => self.finish(),
            _ => {}
        }
        self.sequence = sequence;
        self.advance(def, at_ms);
        Ok(())
    }

    /// The table of what may follow what.
    fn may_follow(&self, def: &Definition, event: &Event) -> bool {
        match (self.phase, event) {
            (Phase::Completed | Phase::Compensated | Phase::Abandoned, _) => false,
            (_, Event::Succeeded { .. } | Event::Failed { .. } | Event::Intervened { .. }) => true,
            (Phase::Running, Event::Adopted { .. }) => true,
            (Phase::Running, Event::Refused { .. }) => !self.is_compensation_reverted(def),
            (Phase::Running, Event::CompensationStarted { cause: Cause::Refused }) => self.refusals().next().is_some(),
            (Phase::Running, Event::CompensationStarted { .. }) => self.may_compensate(def),
            (Phase::Compensating, Event::CompensationReverted { step, .. }) => {
                self.may_revert() && def.index(step) == Some(def.pivot())
            }
            (Phase::Completing | Phase::Compensating, Event::Finished) => self.is_settled(def),
            _ => false,
        }
    }

    /// Folds the end of an attempt of a call.
    fn ended(&mut self, def: &Definition, of: Attempt<'_>, event: &Event, at_ms: i64) -> Result<(), FoldError> {
        let index = self.attempted(def, of.step, of.direction, of.number)?;
        let state = &mut self.steps[index.get()];
        match event {
            Event::Succeeded { output, .. } => {
                state.call_mut(of.direction).end(CallStatus::Done);
                if of.direction == Direction::Forward {
                    state.output = Some(output.as_str().into());
                }
            }
            Event::Refused { refusal, .. } => {
                state.action.end(CallStatus::Refused);
                state.refusal = Some(refusal.as_str().into());
            }
            Event::Failed { error, next_attempt_at_ms, needs_attention, .. } => {
                let call = state.call_mut(of.direction);
                call.attempts += 1;
                call.last_error = Some(error.clone());
                call.next_attempt_at_ms = Some(*next_attempt_at_ms);
                call.first_failed_at_ms.get_or_insert(at_ms);
                call.needs_attention = *needs_attention;
            }
            Event::CompensationReverted { .. } => {
                state.undo.end(CallStatus::Refused);
                if std::mem::take(&mut state.is_refused_manually) {
                    // The pivot is called again, for the answer that its participant has on record.
                    state.refusal = None;
                    state.action.status = CallStatus::NotStarted;
                }
                self.phase = Phase::Running;
                self.cause = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether this is the definition that the state was folded with.
    pub(crate) fn check(&self, def: &Definition) -> Result<(), FoldError> {
        if self.definition != def.name() || self.version != def.version() || self.steps.len() != def.steps().len() {
            return Err(FoldError::OtherDefinition { definition: self.definition.to_owned(), version: self.version });
        }
        Ok(())
    }

    /// The index of the step that was attempted, if this attempt of the call is the one that is due.
    pub(crate) fn attempted(
        &self,
        def: &Definition,
        step: &str,
        direction: Direction,
        attempt: u32,
    ) -> Result<StepIndex, FoldError> {
        let index = def.index(step).ok_or_else(|| FoldError::UnknownStep { step: step.to_owned() })?;
        let is_being_undone = self.phase == Phase::Compensating
            && direction == Direction::Forward
            && def.step(index).kind != Kind::Finalizer;
        let state = self.steps[index.get()].call(direction);
        if state.status != CallStatus::Trying || is_being_undone || self.phase.is_finished() {
            return Err(FoldError::NotTrying { step: step.to_owned(), direction });
        }
        let expected = state.attempts + 1;
        if attempt != expected {
            return Err(FoldError::Attempt { step: step.to_owned(), direction, expected, found: attempt });
        }
        Ok(index)
    }

    /// Folds an operator's decision. A decided call must have failed: no call that is only slow is decided manually.
    fn intervene(&mut self, def: &Definition, intervention: &Intervention, at_ms: i64) -> Result<(), FoldError> {
        match intervention {
            Intervention::Retry { step } => {
                let steps = self.steps.iter_mut().filter(|state| step.as_ref().is_none_or(|name| state.name == name));
                for state in steps {
                    state.action.next_attempt_at_ms = None;
                    state.undo.next_attempt_at_ms = None;
                }
            }
            Intervention::Skip { step, direction } => {
                let (index, kind) = self.failing(def, step, *direction)?;
                if kind == Kind::Pivot || *direction == Direction::Forward && kind.may_refuse() {
                    return Err(FoldError::NotManual { step: step.clone(), direction: *direction });
                }
                self.steps[index.get()].call_mut(*direction).settle(CallStatus::Skipped);
            }
            Intervention::Resolve { step, direction, answer } => {
                let (index, kind) = self.failing(def, step, *direction)?;
                let may_be_refused =
                    kind == Kind::Pivot && *direction == Direction::Forward && !self.is_compensation_reverted(def);
                let state = &mut self.steps[index.get()];
                match answer {
                    Resolution::Done if *direction == Direction::Compensation || kind != Kind::Compensatable => {
                        state.call_mut(*direction).settle(CallStatus::Done);
                    }
                    // A log from before this kept the finding as done, and called nothing any more.
                    Resolution::Refused { .. } if *direction == Direction::Compensation && kind == Kind::Pivot => {
                        state.is_withdrawn_manually = true;
                    }
                    Resolution::Refused { refusal } if may_be_refused => {
                        state.action.settle(CallStatus::Refused);
                        state.refusal = Some(refusal.as_str().into());
                        state.is_refused_manually = true;
                    }
                    Resolution::Done | Resolution::Refused { .. } => {
                        return Err(FoldError::NotManual { step: step.clone(), direction: *direction });
                    }
                }
            }
            Intervention::Abandon => {
                if self.phase == Phase::Running || self.is_pivot_unknown(def) {
                    return Err(FoldError::Illegal { phase: self.phase, event: "abandon" });
                }
                self.decided_at_ms.get_or_insert(at_ms);
                self.phase = Phase::Abandoned;
                for state in &mut self.steps {
                    state.action.stop();
                    state.undo.stop();
                }
            }
        }
        Ok(())
    }

    /// The index and kind of the step whose call is being tried and has failed.
    fn failing(&self, def: &Definition, step: &str, direction: Direction) -> Result<(StepIndex, Kind), FoldError> {
        let attempts = def.index(step).map_or(0, |index| self.steps[index.get()].call(direction).attempts);
        let index = self.attempted(def, step, direction, attempts + 1)?;
        if attempts == 0 {
            return Err(FoldError::NotManual { step: step.to_owned(), direction });
        }
        Ok((index, def.step(index).kind))
    }

    fn finish(&mut self) {
        let skipped =
            |state: &StepState| [&state.action, &state.undo].map(|call| call.status).contains(&CallStatus::Skipped);
        self.phase = match self.phase {
            _ if self.steps.iter().any(skipped) => Phase::Abandoned,
            Phase::Completing => Phase::Completed,
            _ => Phase::Compensated,
        };
    }

    fn compensate(&mut self, cause: Cause) {
        self.phase = Phase::Compensating;
        self.cause = Some(cause);
        for step in &mut self.steps {
            step.action.stop();
        }
    }

    /// Starts the calls that the last event has made due.
    fn advance(&mut self, def: &Definition, at_ms: i64) {
        match self.phase {
            Phase::Running | Phase::Completing => {
                if self.phase == Phase::Running && self.is_past_pivot(def) {
                    self.phase = Phase::Completing;
                    self.decided_at_ms = Some(at_ms);
                }
                self.start_stage(def, |_| true);
            }
            Phase::Compensating => {
                let is_adopted = self.is_adopted;
                // A withdrawal on an operator's word is called on, and holds up no other compensation.
                let owes =
                    |step: &Step, state: &StepState| state.owes_undo(step, is_adopted) && !state.is_withdrawn_manually;
                let owing = self.with(def).filter(|(_, step, state)| owes(step, state));
                if let Some(stage) = owing.map(|(_, step, _)| step.stage).max() {
                    self.start(def, Direction::Compensation, |step, state| step.stage == stage && owes(step, state));
                } else {
                    self.decided_at_ms.get_or_insert(at_ms);
                    self.start_stage(def, |step| step.kind == Kind::Finalizer);
                }
            }
            Phase::Completed | Phase::Compensated | Phase::Abandoned => {}
        }
    }

    /// Starts the actions of the first stage, among these steps, that is not done.
    fn start_stage(&mut self, def: &Definition, among: impl Fn(&Step) -> bool) {
        let left = |step: &Step, state: &StepState| among(step) && state.applies && !state.action.status.is_over();
        let stages = self.with(def).filter(|(_, step, state)| left(step, state)).map(|(_, step, _)| step.stage);
        if let Some(stage) = stages.min() {
            self.start(def, Direction::Forward, |step, state| step.stage == stage && left(step, state));
        }
    }

    fn is_past_pivot(&self, def: &Definition) -> bool {
        self.pivot(def).action.status == CallStatus::Done
    }

    fn start(&mut self, def: &Definition, direction: Direction, due: impl Fn(&Step, &StepState) -> bool) {
        for (step, state) in def.steps().iter().zip(&mut self.steps) {
            if due(step, state) && state.call(direction).status == CallStatus::NotStarted {
                state.call_mut(direction).status = CallStatus::Trying;
            }
        }
    }
}

impl CallState {
    /// An attempt ended with an answer.
    fn end(&mut self, status: CallStatus) {
        self.attempts += 1;
        self.settle(status);
    }

    /// The call is decided, by an answer or by a person.
    fn settle(&mut self, status: CallStatus) {
        self.status = status;
        self.stop();
    }

    fn stop(&mut self) {
        self.next_attempt_at_ms = None;
        self.needs_attention = false;
    }
}
