//! The one table of what may follow what.
//!
//! Promises: every pair of (phase, event) that the table does not list is [`FoldError::Illegal`]; an error changes
//! nothing.

use std::sync::Arc;

use super::{Intervened, LegState, LegStatus, Phase, SagaState, StepState};
use crate::definition::{Definition, Kind, Step, StepIndex};
use crate::event::{Cause, Event, Intervention, Leg, Recorded, Resolution};

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
    /// An event is missing, or there twice.
    #[error("event {found} stands where {expected} should")]
    Sequence {
        /// What should come.
        expected: u64,
        /// What came.
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
    /// The table has no such pair.
    #[error("{event} can't happen while {}", phase.as_str())]
    Illegal {
        /// Where the saga stands.
        phase: Phase,
        /// What came.
        event: &'static str,
    },
    /// The leg is not being tried: not reached, already decided, or given over to the undo.
    #[error("the {leg} of {step} is not being tried")]
    NotTrying {
        /// Name of the step.
        step: String,
        /// Which direction.
        leg: Leg,
    },
    /// An operator can't decide this leg: it has not failed, or something else must be decided instead.
    #[error("the {leg} of {step} is not to be decided by hand")]
    NotByHand {
        /// Name of the step.
        step: String,
        /// Which direction.
        leg: Leg,
    },
    /// The attempt is not the next of its leg.
    #[error("attempt {found} of the {leg} of {step}, where {expected} is due")]
    Attempt {
        /// Name of the step.
        step: String,
        /// Which direction.
        leg: Leg,
        /// Which is due.
        expected: u32,
        /// Which came.
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
                action: LegState::NEW,
                undo: LegState::NEW,
                output: None,
                refusal: None,
                is_refused_by_hand: false,
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
                Event::Succeeded { step, leg, attempt, output, .. },
            ) => {
                let index = self.attempted(def, step, *leg, *attempt)?;
                let state = &mut self.steps[index.get()];
                state.leg_mut(*leg).end(LegStatus::Done);
                if *leg == Leg::Action {
                    state.output = Some(output.as_str().into());
                }
            }
            (Phase::Running, Event::Refused { step, attempt, refusal, .. }) if !self.is_turned_back(def) => {
                let index = self.attempted(def, step, Leg::Action, *attempt)?;
                let state = &mut self.steps[index.get()];
                state.action.end(LegStatus::Refused);
                state.refusal = Some(refusal.as_str().into());
            }
            (
                Phase::Running | Phase::Compensating | Phase::Completing,
                Event::Failed { step, leg, attempt, error, next_attempt_at_ms, needs_attention, .. },
            ) => {
                let index = self.attempted(def, step, *leg, *attempt)?;
                let leg = self.steps[index.get()].leg_mut(*leg);
                leg.attempts += 1;
                leg.last_error = Some(error.clone());
                leg.next_attempt_at_ms = Some(*next_attempt_at_ms);
                leg.first_failed_at_ms.get_or_insert(at_ms);
                leg.needs_attention = *needs_attention;
            }
            (Phase::Running, Event::Turned { cause }) => {
                let may_turn = match cause {
                    Cause::Refused => self.refusals().next().is_some(),
                    Cause::Cancelled { .. } | Cause::DeadlinePassed => self.may_turn(def),
                };
                if !may_turn {
                    return Err(illegal);
                }
                self.turn(cause.clone());
            }
            (Phase::Compensating, Event::TurnedBack { step, attempt, .. }) if self.may_turn_back() => {
                let index = self.attempted(def, step, Leg::Undo, *attempt)?;
                if index != def.pivot() {
                    return Err(illegal);
                }
                let state = &mut self.steps[index.get()];
                state.undo.end(LegStatus::Refused);
                if std::mem::take(&mut state.is_refused_by_hand) {
                    // It is called again, for the answer on record.
                    state.refusal = None;
                    state.action.status = LegStatus::NotStarted;
                }
                self.phase = Phase::Running;
                self.cause = None;
            }
            (
                Phase::Running | Phase::Compensating | Phase::Completing,
                Event::Intervened { by, reason, intervention, command },
            ) => {
                self.intervene(def, intervention, at_ms)?;
                let (by, reason, intervention) = (by.clone(), reason.clone(), intervention.clone());
                self.commands.extend(command.as_deref().map(|id| (Arc::from(id), intervention.clone())));
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

    /// The place of the step whose leg the attempt belongs to, if that is the attempt that is due.
    pub(crate) fn attempted(
        &self,
        def: &Definition,
        step: &str,
        leg: Leg,
        attempt: u32,
    ) -> Result<StepIndex, FoldError> {
        let index = def.index(step).ok_or_else(|| FoldError::UnknownStep { step: step.to_owned() })?;
        let given_over =
            self.phase == Phase::Compensating && leg == Leg::Action && def.step(index).kind != Kind::Closing;
        let state = self.steps[index.get()].leg(leg);
        if state.status != LegStatus::Trying || given_over || self.phase.is_finished() {
            return Err(FoldError::NotTrying { step: step.to_owned(), leg });
        }
        let expected = state.attempts + 1;
        if attempt != expected {
            return Err(FoldError::Attempt { step: step.to_owned(), leg, expected, found: attempt });
        }
        Ok(index)
    }

    /// Takes in what an operator decided. A leg must have failed: what is only slow is not decided by hand.
    fn intervene(&mut self, def: &Definition, intervention: &Intervention, at_ms: i64) -> Result<(), FoldError> {
        match intervention {
            Intervention::Retry { step } => {
                let steps = self.steps.iter_mut().filter(|state| step.as_ref().is_none_or(|name| state.name == name));
                for state in steps {
                    state.action.next_attempt_at_ms = None;
                    state.undo.next_attempt_at_ms = None;
                }
            }
            Intervention::Skip { step, leg } => {
                let (index, kind) = self.failing(def, step, *leg)?;
                if kind == Kind::Pivot || *leg == Leg::Action && kind.may_refuse() {
                    return Err(FoldError::NotByHand { step: step.clone(), leg: *leg });
                }
                self.steps[index.get()].leg_mut(*leg).settle(LegStatus::Skipped);
            }
            Intervention::Resolve { step, leg, answer } => {
                let (index, kind) = self.failing(def, step, *leg)?;
                let may_be_refused = kind == Kind::Pivot && *leg == Leg::Action && !self.is_turned_back(def);
                let state = &mut self.steps[index.get()];
                match answer {
                    Resolution::Done if *leg == Leg::Undo || kind != Kind::Compensatable => {
                        state.leg_mut(*leg).settle(LegStatus::Done);
                    }
                    Resolution::Refused { refusal } if may_be_refused => {
                        state.action.settle(LegStatus::Refused);
                        state.refusal = Some(refusal.as_str().into());
                        state.is_refused_by_hand = true;
                    }
                    Resolution::Done | Resolution::Refused { .. } => {
                        return Err(FoldError::NotByHand { step: step.clone(), leg: *leg });
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

    /// The place and kind of the step whose leg is being tried and has failed.
    fn failing(&self, def: &Definition, step: &str, leg: Leg) -> Result<(StepIndex, Kind), FoldError> {
        let index = def.index(step).ok_or_else(|| FoldError::UnknownStep { step: step.to_owned() })?;
        let attempts = self.steps[index.get()].leg(leg).attempts;
        self.attempted(def, step, leg, attempts + 1)?;
        if attempts == 0 {
            return Err(FoldError::NotByHand { step: step.to_owned(), leg });
        }
        Ok((index, def.step(index).kind))
    }

    fn finish(&mut self) {
        let skipped =
            |state: &StepState| [&state.action, &state.undo].map(|leg| leg.status).contains(&LegStatus::Skipped);
        self.phase = match self.phase {
            _ if self.steps.iter().any(skipped) => Phase::Abandoned,
            Phase::Completing => Phase::Completed,
            _ => Phase::Compensated,
        };
    }

    fn turn(&mut self, cause: Cause) {
        self.phase = Phase::Compensating;
        self.cause = Some(cause);
        for step in &mut self.steps {
            step.action.stop();
        }
    }

    /// Starts what the event has made due.
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
                    self.start(def, Leg::Undo, due);
                } else {
                    self.decided_at_ms.get_or_insert(at_ms);
                    self.start_stage(def, |step| step.kind == Kind::Closing);
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
            self.start(def, Leg::Action, |step, state| step.stage == stage && left(step, state));
        }
    }

    fn is_past_pivot(&self, def: &Definition) -> bool {
        self.pivot(def).action.status == LegStatus::Done
    }

    fn start(&mut self, def: &Definition, leg: Leg, due: impl Fn(&Step, &StepState) -> bool) {
        for (step, state) in def.steps().iter().zip(&mut self.steps) {
            if due(step, state) && state.leg(leg).status == LegStatus::NotStarted {
                state.leg_mut(leg).status = LegStatus::Trying;
            }
        }
    }
}

impl LegState {
    /// A call of it ended with an answer.
    fn end(&mut self, status: LegStatus) {
        self.attempts += 1;
        self.settle(status);
    }

    /// It is decided, by an answer or by a person.
    fn settle(&mut self, status: LegStatus) {
        self.status = status;
        self.stop();
    }

    fn stop(&mut self) {
        self.next_attempt_at_ms = None;
        self.needs_attention = false;
    }
}
