//! The one table of what may follow what.
//!
//! Promises: every pair of (phase, event) that the table does not list is [`FoldError::Illegal`]. An error changes
//! nothing.

use std::sync::Arc;

use super::{CallState, CallStatus, Intervened, Phase, SagaState, StepState};
use crate::definition::{Definition, Kind, Step, StepIndex};
use crate::event::{Cause, Direction, Event, Intervention, Recorded, Resolution};

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
    #[error("the {direction} of {step} is not to be decided by hand")]
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
                action: CallState::NEW,
                undo: CallState::NEW,
                output: None,
                refusal: None,
                is_refused_manually: false,
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
            admitted_at_ms: first.at_ms,
            updated_at_ms: first.at_ms,
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
        let expected = self.sequence + 1;
        if recorded.sequence != expected {
            return Err(FoldError::Sequence { expected, found: recorded.sequence });
        }
        let at_ms = recorded.at_ms;
        let illegal = FoldError::Illegal { phase: self.phase, event: recorded.event.name() };
        match (self.phase, &recorded.event) {
            (Phase::Running, Event::Adopted { .. }) => self.is_adopted = true,
            (
                Phase::Running | Phase::Compensating | Phase::Completing,
                Event::Succeeded { step, direction, attempt, output, .. },
            ) => {
                let index = self.attempted(def, step, *direction, *attempt)?;
                let state = &mut self.steps[index.get()];
                state.call_mut(*direction).end(CallStatus::Done);
                if *direction == Direction::Forward {
                    state.output = Some(output.as_str().into());
                }
            }
            (Phase::Running, Event::Refused { step, attempt, refusal, .. }) if !self.is_compensation_reverted(def) => {
                let index = self.attempted(def, step, Direction::Forward, *attempt)?;
                let state = &mut self.steps[index.get()];
                state.action.end(CallStatus::Refused);
                state.refusal = Some(refusal.as_str().into());
            }
            (
                Phase::Running | Phase::Compensating | Phase::Completing,
                Event::Failed { step, direction, attempt, error, next_attempt_at_ms, needs_attention, .. },
            ) => {
                let index = self.attempted(def, step, *direction, *attempt)?;
                let call = self.steps[index.get()].call_mut(*direction);
                call.attempts += 1;
                call.last_error = Some(error.clone());
                call.next_attempt_at_ms = Some(*next_attempt_at_ms);
                call.first_failed_at_ms.get_or_insert(at_ms);
                call.needs_attention = *needs_attention;
            }
            (Phase::Running, Event::CompensationStarted { cause }) => {
                let may_compensate = match cause {
                    Cause::Refused => self.refusals().next().is_some(),
                    Cause::Cancelled { .. } | Cause::DeadlinePassed => self.may_compensate(def),
                };
                if !may_compensate {
                    return Err(illegal);
                }
                self.compensate(cause.clone());
            }
            (Phase::Compensating, Event::CompensationReverted { step, attempt, .. }) if self.may_revert() => {
                let index = self.attempted(def, step, Direction::Compensation, *attempt)?;
                if index != def.pivot() {
                    return Err(illegal);
                }
                let state = &mut self.steps[index.get()];
                state.undo.end(CallStatus::Refused);
                if std::mem::take(&mut state.is_refused_manually) {
                    // The pivot is called again, for the answer that its participant has on record.
                    state.refusal = None;
                    state.action.status = CallStatus::NotStarted;
                }
                self.phase = Phase::Running;
                self.cause = None;
            }
            (
                Phase::Running | Phase::Compensating | Phase::Completing,
                Event::Intervened { by, reason, intervention, command_id },
            ) => {
                self.intervene(def, intervention, at_ms)?;
                let (by, reason, intervention) = (by.clone(), reason.clone(), intervention.clone());
                self.commands.extend(command_id.as_deref().map(|id| (Arc::from(id), intervention.clone())));
                self.last_intervention = Some(Intervened { by, reason, intervention });
            }
            (Phase::Completing | Phase::Compensating, Event::Finished) if self.is_settled(def) => self.finish(),
            _ => return Err(illegal),
        }
        self.sequence = recorded.sequence;
        self.updated_at_ms = at_ms;
        self.advance(def, at_ms);
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
        let index = def.index(step).ok_or_else(|| FoldError::UnknownStep { step: step.to_owned() })?;
        let attempts = self.steps[index.get()].call(direction).attempts;
        self.attempted(def, step, direction, attempts + 1)?;
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
                let owing = self.with(def).filter(|(_, step, state)| state.owes_undo(step, self.is_adopted));
                if let Some(stage) = owing.map(|(_, step, _)| step.stage).max() {
                    let is_adopted = self.is_adopted;
                    let due = |step: &Step, state: &StepState| step.stage == stage && state.owes_undo(step, is_adopted);
                    self.start(def, Direction::Compensation, due);
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
