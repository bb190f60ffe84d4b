//! What is known of a saga: the fold of its log, and nothing else.
//!
//! Promises: the same log gives the same state; an event that can't follow is a typed error and leaves the state as it
//! was. Which calls may have left is part of the fold: a leg is [`LegStatus::Trying`] from the event that made it due. After
//! a takeover the log may end before them: then every action that can be undone, and a pivot that goes ahead of the log, may
//! have been called.
//!
//! ```text
//! Running --pivot succeeded--> Completing --finished--> Completed
//!    \------turned round-----> Compensating --finished--> Compensated
//!    ^------turned back------------/   the pivot had happened, and the log did not tell of it
//!                               either one --an operator skipped something of it, or gave it up--> Abandoned
//! ```

use std::sync::Arc;

use crate::definition::{Definition, Kind, Step, StepIndex};
use crate::event::{Cause, Intervention, Leg};
use crate::retry::CallError;

mod fold;

pub use fold::FoldError;

/// Where a saga stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before its pivot has succeeded.
    Running,
    /// Turned round: steps are being undone, or all are and its closing steps are left.
    Compensating,
    /// Past its pivot: its tail is retried until it is done.
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

    /// For people and for the store.
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

/// What came of a saga, for the one who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Not decided: on its way, or still being undone.
    Pending,
    /// The pivot has succeeded; nothing takes that back.
    Committed,
    /// A step refused, and everything is undone.
    Refused,
    /// It was cancelled, and everything is undone.
    Cancelled,
    /// Its deadline passed, and everything is undone.
    TimedOut,
}

impl Outcome {
    /// For people and for the store.
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

/// Where one direction of a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LegStatus {
    /// Not reached, as far as the log tells.
    NotStarted,
    /// It may have been called, and no answer is recorded. An action stays so when its saga turns round before the
    /// answer: its undo is what settles it.
    Trying,
    /// It succeeded.
    Done,
    /// It refused. Of an undo, which only that of a pivot may: the pivot has happened.
    Refused,
    /// It was not done, and by an operator's decision it won't be.
    Skipped,
}

impl LegStatus {
    /// Whether nothing more is to be done about it.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }
}

/// One direction of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegState {
    /// Where it stands.
    pub status: LegStatus,
    /// Attempts whose end is recorded.
    pub attempts: u32,
    /// How the last failed attempt ended.
    pub last_error: Option<CallError>,
    /// When it is tried again after a failure.
    pub next_attempt_at_ms: Option<i64>,
    /// When its first failure was recorded.
    pub first_failed_at_ms: Option<i64>,
    /// Whether a person must look.
    pub needs_attention: bool,
}

impl LegState {
    const NEW: Self = Self {
        status: LegStatus::NotStarted,
        attempts: 0,
        last_error: None,
        next_attempt_at_ms: None,
        first_failed_at_ms: None,
        needs_attention: false,
    };

    /// The saga that must end first, where the last attempt was answered so.
    pub fn waits_for(&self) -> Option<&str> {
        self.last_error.as_ref()?.waits_for.as_deref().filter(|_| self.status == LegStatus::Trying)
    }
}

/// One step of a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepState {
    /// As in the definition.
    pub name: &'static str,
    /// Whether it has anything to do in this saga.
    pub applies: bool,
    /// Its action.
    pub action: LegState,
    /// What takes it back; never started where the definition has none.
    pub undo: LegState,
    /// What its action answered. Shared, because each decision begins with a copy of the state.
    pub output: Option<Arc<str>>,
    /// Why its action refused.
    pub refusal: Option<Arc<str>>,
    /// Whether that is what an operator has found, and not what its participant answered.
    pub(crate) is_refused_by_hand: bool,
}

impl StepState {
    /// One direction.
    pub fn leg(&self, leg: Leg) -> &LegState {
        match leg {
            Leg::Action => &self.action,
            Leg::Undo => &self.undo,
        }
    }

    fn leg_mut(&mut self, leg: Leg) -> &mut LegState {
        match leg {
            Leg::Action => &mut self.action,
            Leg::Undo => &mut self.undo,
        }
    }

    /// Whether a saga that turned round still has to undo this step: whatever may have been done. That is what was called,
    /// unless it refused, because a refusal is on record with the participant and answers every repeat. In a saga that was
    /// adopted, it is every step that is not known to have refused; the pivot too, unless the log tells what came of it. A pivot
    /// that somebody has found not to have happened is asked: a call of it may be under way, and come later.
    fn owes_undo(&self, step: &Step, is_adopted: bool) -> bool {
        let may_be_done = match (step.kind, self.action.status) {
            (Kind::Compensatable, LegStatus::Refused) => false,
            (Kind::Compensatable, LegStatus::NotStarted) => is_adopted && self.applies,
            (Kind::Compensatable, _) => true,
            (Kind::Pivot, _) if step.undo.is_none() => false,
            (Kind::Pivot, LegStatus::NotStarted) => is_adopted,
            (Kind::Pivot, status) => status == LegStatus::Refused && self.is_refused_by_hand,
            (Kind::Retriable | Kind::Closing, _) => false,
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
    admitted_at_ms: i64,
    updated_at_ms: i64,
    deadline_at_ms: i64,
    decided_at_ms: Option<i64>,
    /// Whether calls may have left that its log does not tell of.
    is_adopted: bool,
    cause: Option<Cause>,
    last_intervention: Option<Intervened>,
    /// The commands that it has taken, by their ids. They are few: each is a decision of a person.
    commands: Vec<(Arc<str>, Intervention)>,
    steps: Vec<StepState>,
}

/// Who decided what about a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intervened {
    pub by: String,
    pub reason: String,
    pub intervention: Intervention,
}

impl SagaState {
    /// Name of its definition.
    pub fn definition(&self) -> &'static str {
        self.definition
    }

    /// Version of its definition.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Sequence of the last event of its log.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it was admitted.
    pub fn admitted_at_ms(&self) -> i64 {
        self.admitted_at_ms
    }

    /// When its last event was recorded.
    pub fn updated_at_ms(&self) -> i64 {
        self.updated_at_ms
    }

    /// It turns round by itself unless it has reached its pivot by then.
    pub fn deadline_at_ms(&self) -> i64 {
        self.deadline_at_ms
    }

    /// When its outcome was decided; none while it is pending.
    pub fn decided_at_ms(&self) -> Option<i64> {
        self.decided_at_ms
    }

    /// Why it turned round.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// What came of it. One who is told that nothing was changed holds nothing any more: a saga that turned round is
    /// pending until all is undone.
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

    /// What the action of a step answered.
    pub fn output(&self, step: &str) -> Option<&str> {
        self.steps.iter().find(|state| state.name == step)?.output.as_deref()
    }

    /// Every refusal, in order of steps: (name, why).
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.steps.iter().filter_map(|state| Some((state.name, state.refusal.as_deref()?)))
    }

    /// What an operator decided last.
    pub(crate) fn last_intervention(&self) -> Option<&Intervened> {
        self.last_intervention.as_ref()
    }

    /// What the command of this id has done; none when it is not in its log.
    pub(crate) fn taken(&self, command: &str) -> Option<&Intervention> {
        self.commands.iter().find(|(id, _)| **id == *command).map(|(_, intervention)| intervention)
    }

    /// Whether a person must look at any leg that is being tried.
    pub fn needs_attention(&self) -> bool {
        self.steps.iter().any(|step| step.action.needs_attention || step.undo.needs_attention)
    }

    /// Whether its pivot was found to have happened before the log told of it: nothing turns it round any more.
    pub fn is_turned_back(&self, def: &Definition) -> bool {
        self.pivot(def).undo.status == LegStatus::Refused
    }

    /// Whether nothing but a decision by hand contradicts that its pivot has happened.
    pub(crate) fn may_turn_back(&self) -> bool {
        !self.steps.iter().any(|step| step.refusal.is_some() && !step.is_refused_by_hand)
    }

    /// Whether it has turned round and may have to turn back: it is not known yet whether its pivot has happened.
    pub(crate) fn is_pivot_unknown(&self, def: &Definition) -> bool {
        self.phase == Phase::Compensating && self.pivot(def).undo.status == LegStatus::Trying
    }

    /// Whether it can still be cancelled or run out of time: it does not know its pivot to have been called.
    pub fn may_turn(&self, def: &Definition) -> bool {
        let is_called = self.pivot(def).action.status != LegStatus::NotStarted;
        self.phase == Phase::Running && !is_called && !self.is_turned_back(def)
    }

    fn pivot(&self, def: &Definition) -> &StepState {
        &self.steps[def.pivot().get()]
    }

    /// The legs that ought to be under way or waiting for their next attempt.
    pub fn trying<'a>(&'a self, def: &'a Definition) -> impl Iterator<Item = (StepIndex, Leg, &'a LegState)> {
        let phase = self.phase;
        // Once a step has refused, only first answers are waited for: they may be refusals too.
        let refused = phase == Phase::Running && self.refusals().next().is_some();
        let legs = self.with(def).flat_map(|(index, step, state)| {
            [(index, step.kind, Leg::Action, &state.action), (index, step.kind, Leg::Undo, &state.undo)]
        });
        legs.filter(move |(_, kind, leg, state)| {
            let live = match phase {
                Phase::Running | Phase::Completing => true,
                Phase::Compensating => *leg == Leg::Undo || *kind == Kind::Closing,
                Phase::Completed | Phase::Compensated | Phase::Abandoned => false,
            };
            live && state.status == LegStatus::Trying && !(refused && state.attempts > 0)
        })
        .map(|(index, _, leg, state)| (index, leg, state))
    }

    /// The saga that must end before this one can go on, by what a service has answered last.
    pub fn waits_for<'a>(&'a self, def: &'a Definition) -> Option<&'a str> {
        self.trying(def).find_map(|(_, _, leg)| leg.waits_for())
    }

    /// Whether all that the saga does in its phase is done. Never true before its outcome is decided.
    pub(crate) fn is_settled(&self, def: &Definition) -> bool {
        let done = |step: &Step, state: &StepState| match self.phase {
            Phase::Running => false,
            Phase::Completing => state.action.status.is_over(),
            Phase::Compensating => step.kind != Kind::Closing || state.action.status.is_over(),
            Phase::Completed | Phase::Compensated | Phase::Abandoned => true,
        };
        self.decided_at_ms.is_some() && self.with(def).all(|(_, step, state)| !state.applies || done(step, state))
    }

    /// Whether a refusal has come and every step of its stage has answered or failed once, so that no reason is lost.
    pub(crate) fn is_refused(&self, def: &Definition) -> bool {
        self.phase == Phase::Running && self.refusals().next().is_some() && self.trying(def).next().is_none()
    }

    fn with<'a>(&'a self, def: &'a Definition) -> impl Iterator<Item = (StepIndex, &'a Step, &'a StepState)> {
        def.indexed().zip(&self.steps).map(|((index, step), state)| (index, step, state))
    }
}
