//! A saga as a table: its steps in stages, the compensation of each, and the effect of each on the saga.
//!
//! Promises: every [`Definition`] is sound ([`DefinitionError`] lists the tables that are not), so no code that uses a
//! definition has to check its shape again.

use std::fmt;

use crate::event::{Direction, Event};
use crate::retry::RetryPolicy;

/// Most steps of a definition: far more than a person can follow, and well within a [`StepIndex`].
const STEPS_MAX: usize = 64;

/// The index of a step in its definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepIndex(pub u8);

impl StepIndex {
    /// As an index into the steps of the definition.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// The effect that a step may have on its saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Before the pivot: may be refused. A compensation of the saga undoes it, unless it was refused.
    Compensatable,
    /// The point of no return: may be refused. Once it has succeeded, no step is undone. Where the log may lack a call
    /// of the pivot, or the saga compensates before the pivot is answered, the compensation of the pivot finds out
    /// whether it has happened.
    Pivot,
    /// After the pivot: the step is retried until it succeeds.
    Retriable,
    /// Runs at the end of every saga, whichever way the saga went: with the steps of its stage after the pivot, or when
    /// a compensation has undone everything. Retried until it succeeds.
    Finalizer,
}

impl Kind {
    /// Whether a refusal of this step's action starts the compensation of the saga.
    pub fn may_refuse(self) -> bool {
        matches!(self, Self::Compensatable | Self::Pivot)
    }

    /// The name that people see and the wire has.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compensatable => "compensatable",
            Self::Pivot => "pivot",
            Self::Retriable => "retriable",
            Self::Finalizer => "closing",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One step of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The name: unique in its definition, and persisted. A definition that renames a step needs a new version.
    pub name: &'static str,
    /// The stage. Stages run in order, the steps of a stage at the same time.
    pub stage: u8,
    /// The service that is called.
    pub destination: &'static str,
    /// The RPC that does the step.
    pub action: &'static str,
    /// The RPC that undoes the step. That of the pivot makes sure that the pivot never happens, or is refused because
    /// the pivot has happened. A pivot that has such an RPC is called ahead of the log.
    pub undo: Option<&'static str>,
    /// The effect that the step may have on its saga.
    pub kind: Kind,
    /// When the calls of both directions are tried again.
    pub retry: RetryPolicy,
}

impl Step {
    /// The RPC of one of its directions; `None` when nothing undoes the step.
    pub fn rpc(&self, direction: Direction) -> Option<&'static str> {
        match direction {
            Direction::Forward => Some(self.action),
            Direction::Compensation => self.undo,
        }
    }
}

/// A sound table of steps, with the name and version that its sagas carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    name: &'static str,
    version: u32,
    deadline_ms: i64,
    pivot: StepIndex,
    is_pivot_withdrawable: bool,
    steps: Vec<Step>,
}

impl Definition {
    /// Checks the table. `deadline_ms` is the time from admission within which a saga must have reached its pivot.
    pub fn try_new(
        name: &'static str,
        version: u32,
        deadline_ms: i64,
        steps: Vec<Step>,
    ) -> Result<Self, DefinitionError> {
        if deadline_ms < 1 {
            return Err(DefinitionError::Deadline { deadline_ms });
        }
        if steps.len() > STEPS_MAX {
            return Err(DefinitionError::TooManySteps { steps: steps.len() });
        }
        let mut pivots = (0..=u8::MAX).map(StepIndex).zip(&steps).filter(|(_, step)| step.kind == Kind::Pivot);
        let (Some((pivot_index, pivot)), None) = (pivots.next(), pivots.next()) else {
            return Err(DefinitionError::NotOnePivot);
        };
        let mut stage_before = 0;
        for (position, step) in steps.iter().enumerate() {
            if step.name.is_empty() || steps[..position].iter().any(|other| other.name == step.name) {
                return Err(DefinitionError::Name { step: step.name });
            }
            if step.stage < stage_before {
                return Err(DefinitionError::StageOrder { step: step.name });
            }
            stage_before = step.stage;
            let (is_placed, undo_is_right) = match step.kind {
                Kind::Compensatable => (step.stage < pivot.stage, step.undo.is_some()),
                Kind::Pivot => (true, true),
                Kind::Retriable | Kind::Finalizer => (step.stage > pivot.stage, step.undo.is_none()),
            };
            if !is_placed {
                return Err(DefinitionError::Place { step: step.name, kind: step.kind });
            }
            if !undo_is_right {
                return Err(DefinitionError::Undo { step: step.name, kind: step.kind });
            }
        }
        Ok(Self { name, version, deadline_ms, pivot: pivot_index, is_pivot_withdrawable: false, steps })
    }

    /// The same table for sagas that a cancel or the deadline may compensate until their pivot is answered, and not
    /// only until it is called. The compensation of the pivot decides whether they came in time. A log in which that
    /// happened does not fold under the table without it, so a stored definition never loses this.
    pub fn with_withdrawable_pivot(self) -> Result<Self, DefinitionError> {
        let pivot = self.step(self.pivot);
        if pivot.undo.is_none() {
            return Err(DefinitionError::NotWithdrawable { step: pivot.name });
        }
        Ok(Self { is_pivot_withdrawable: true, ..self })
    }

    /// The name that its sagas carry.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The version that its sagas carry.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Time from admission within which a saga must have reached its pivot, or the answer of its pivot where that can
    /// be withdrawn.
    pub fn deadline_ms(&self) -> i64 {
        self.deadline_ms
    }

    /// The index of its pivot.
    pub fn pivot(&self) -> StepIndex {
        self.pivot
    }

    /// Whether a cancel or the deadline may compensate a saga whose pivot was called and has no answer.
    pub fn is_pivot_withdrawable(&self) -> bool {
        self.is_pivot_withdrawable
    }

    /// The table, in order of stages.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps with their indexes.
    pub fn indexed(&self) -> impl Iterator<Item = (StepIndex, &Step)> {
        // `STEPS_MAX` keeps every position within a u8.
        (0..=u8::MAX).map(StepIndex).zip(&self.steps)
    }

    /// The step at an index that came from this definition. Panics for an index beyond its table.
    pub fn step(&self, index: StepIndex) -> &Step {
        &self.steps[index.get()]
    }

    /// The index of the step of this name.
    pub fn index(&self, name: &str) -> Option<StepIndex> {
        self.indexed().find(|(_, step)| step.name == name).map(|(index, _)| index)
    }

    /// The first event of a saga: the steps that have something to do in it, and its deadline. The fold rejects names
    /// that the table does not have.
    pub fn admit<'a>(&self, applies: impl IntoIterator<Item = &'a str>, now_ms: i64) -> Event {
        Event::Admitted {
            definition: self.name.to_owned(),
            version: self.version,
            applies: applies.into_iter().map(str::to_owned).collect(),
            deadline_at_ms: now_ms.saturating_add(self.deadline_ms),
        }
    }

    /// The table as text.
    pub fn render(&self) -> String {
        let to = if self.is_pivot_withdrawable { "to the answer of its pivot" } else { "to its pivot" };
        let mut text = format!("{} v{}, {to} within {} ms\n", self.name, self.version, self.deadline_ms);
        let mut stage_before = None;
        for step in &self.steps {
            let stage = if stage_before == Some(step.stage) { String::from("|") } else { format!("{}", step.stage) };
            stage_before = Some(step.stage);
            let undo = step.undo.map(|undo| format!("<- {undo}")).unwrap_or_default();
            let line = format!(
                "{stage:>3}  {:<22} {:<14} {:<18} {undo:<21} {}",
                step.name, step.destination, step.action, step.kind
            );
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// Why a table of steps is not a saga.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// A saga needs time to reach its pivot.
    #[error("the deadline of {deadline_ms} ms leaves no time")]
    Deadline {
        /// The deadline that was given.
        deadline_ms: i64,
    },
    /// More than 64 steps.
    #[error("{steps} steps are more than {STEPS_MAX}")]
    TooManySteps {
        /// The number of steps that were given.
        steps: usize,
    },
    /// No pivot, or more than one.
    #[error("a saga has exactly one pivot")]
    NotOnePivot,
    /// A step without a name, or with the name of another.
    #[error("the step name {step:?} is empty or not unique")]
    Name {
        /// The name.
        step: &'static str,
    },
    /// A step stands after one of a later stage.
    #[error("step {step} stands after a step of a later stage")]
    StageOrder {
        /// Its name.
        step: &'static str,
    },
    /// A step on the wrong side of the pivot, or in its stage.
    #[error("step {step} is {kind}: wrong side of the pivot, or in its stage")]
    Place {
        /// Its name.
        step: &'static str,
        /// Its kind.
        kind: Kind,
    },
    /// Nothing can withdraw a pivot without a compensation.
    #[error("step {step}, the pivot, has no undo, so it can't be withdrawn")]
    NotWithdrawable {
        /// Name of the pivot.
        step: &'static str,
    },
    /// A compensatable step without a compensation, or a step after the pivot with a compensation.
    #[error("step {step} is {kind}: compensatable steps have an undo, a pivot may have one, others have none")]
    Undo {
        /// Its name.
        step: &'static str,
        /// Its kind.
        kind: Kind,
    },
}
