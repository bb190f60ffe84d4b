//! A saga as a table: its steps in stages, what undoes each, and what each may do to the saga.
//!
//! Promises: a [`Definition`] that exists is sound (see [`DefinitionError`] for what it can't be), so nothing that uses
//! one has to check its shape again.

use std::fmt;

use crate::event::{Event, Leg};
use crate::retry::RetryPolicy;

/// Steps of one definition: far above any saga that a person can follow, and well within a [`StepIndex`].
const STEPS_MAX: usize = 64;

/// The place of a step in its definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepIndex(pub u8);

impl StepIndex {
    /// As an index into the steps of the definition.
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// What a step may do to its saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Before the pivot: may refuse, and is undone when the saga turns round, unless it has refused.
    Compensatable,
    /// The point of no return: may refuse; once it has succeeded, nothing is undone. Where the log may not tell whether it
    /// was called, its undo finds out.
    Pivot,
    /// After the pivot: retried until it succeeds.
    Retriable,
    /// Runs at the end of every saga, whichever way it went: with the steps of its stage after the pivot, or when a
    /// saga that turned round has undone everything. Retried until it succeeds.
    Closing,
}

impl Kind {
    /// Whether an answer of this step's action can turn the saga round.
    pub fn may_refuse(self) -> bool {
        matches!(self, Self::Compensatable | Self::Pivot)
    }

    /// For people and for the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compensatable => "compensatable",
            Self::Pivot => "pivot",
            Self::Retriable => "retriable",
            Self::Closing => "closing",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Unique in its definition, and persisted: a definition that renames a step needs a new version.
    pub name: &'static str,
    /// Stages run in order, the steps of a stage at the same time.
    pub stage: u8,
    /// The service that is called.
    pub destination: &'static str,
    /// The RPC that does it.
    pub action: &'static str,
    /// The RPC that undoes it. Of the pivot, which nothing undoes: the RPC that makes sure that it never happens, or refuses
    /// because it has. A pivot that has one is called ahead of the log.
    pub undo: Option<&'static str>,
    /// What it may do to its saga.
    pub kind: Kind,
    /// When each of its two legs is tried again.
    pub retry: RetryPolicy,
}

impl Step {
    /// The RPC of one of its legs; none when nothing undoes it.
    pub fn rpc(&self, leg: Leg) -> Option<&'static str> {
        match leg {
            Leg::Action => Some(self.action),
            Leg::Undo => self.undo,
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
            let placed = match step.kind {
                Kind::Compensatable => step.stage < pivot.stage,
                Kind::Pivot => true,
                Kind::Retriable | Kind::Closing => step.stage > pivot.stage,
            };
            if !placed {
                return Err(DefinitionError::Place { step: step.name, kind: step.kind });
            }
            let undo_is_right = match step.kind {
                Kind::Compensatable => step.undo.is_some(),
                Kind::Pivot => true,
                Kind::Retriable | Kind::Closing => step.undo.is_none(),
            };
            if !undo_is_right {
                return Err(DefinitionError::Undo { step: step.name, kind: step.kind });
            }
        }
        Ok(Self { name, version, deadline_ms, pivot: pivot_index, steps })
    }

    /// The name that its sagas carry.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The version that its sagas carry.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Time from admission within which a saga must have reached its pivot.
    pub fn deadline_ms(&self) -> i64 {
        self.deadline_ms
    }

    /// The place of its pivot.
    pub fn pivot(&self) -> StepIndex {
        self.pivot
    }

    /// The table, in order of stages.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps with their places.
    pub fn indexed(&self) -> impl Iterator<Item = (StepIndex, &Step)> {
        // `STEPS_MAX` keeps every position within a u8.
        (0..=u8::MAX).map(StepIndex).zip(&self.steps)
    }

    /// The step at a place that came from this definition; panics for a place beyond its table.
    pub fn step(&self, index: StepIndex) -> &Step {
        &self.steps[index.get()]
    }

    /// The place of the step of this name.
    pub fn index(&self, name: &str) -> Option<StepIndex> {
        self.indexed().find(|(_, step)| step.name == name).map(|(index, _)| index)
    }

    /// The first event of a saga: which steps have something to do in it, and until when it may turn round by itself.
    /// Names that the table does not have are left for the fold to refuse.
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
        let mut text = format!("{} v{}, to its pivot within {} ms\n", self.name, self.version, self.deadline_ms);
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
        /// What was given.
        deadline_ms: i64,
    },
    /// More than 64 steps.
    #[error("{steps} steps are more than {STEPS_MAX}")]
    TooManySteps {
        /// How many were given.
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
    /// A compensatable step that nothing undoes, or a step after the pivot that something undoes.
    #[error("step {step} is {kind}: compensatable steps have an undo, a pivot may have one, others have none")]
    Undo {
        /// Its name.
        step: &'static str,
        /// Its kind.
        kind: Kind,
    },
}
