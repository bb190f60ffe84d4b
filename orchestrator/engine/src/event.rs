//! The persisted log of a saga: what happened, in the words that stay readable for as long as the data lives.
//!
//! Promises: tags and field names never change, though the names in the code do. Steps are written by name, so a log
//! can be read without the definition. The log has no event for a call that leaves, only for a call that has ended. The
//! calls that may have left follow from the stage, and from [`Event::Adopted`] where another instance has taken the
//! saga over.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::retry::CallError;

/// One direction of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// The action of the step.
    #[serde(rename = "action")]
    Forward,
    /// The call that undoes the action.
    #[serde(rename = "undo")]
    Compensation,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forward => "action",
            Self::Compensation => "undo",
        })
    }
}

/// Why a saga started its compensation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A step was refused; the refusals have the reasons.
    Refused,
    /// A client or an operator cancelled it.
    Cancelled {
        /// The name of the client or operator.
        by: String,
        /// The reason, in their words.
        reason: String,
    },
    /// The saga had not reached its pivot in time, or the answer of its pivot where that can be withdrawn.
    DeadlinePassed,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Cancelled { by, reason } if reason.is_empty() => write!(f, "cancelled by {by}"),
            Self::Cancelled { by, reason } => write!(f, "cancelled by {by}: {reason}"),
            Self::DeadlinePassed => f.write_str("deadline passed"),
        }
    }
}

/// A decision of an operator about a saga, in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Intervention {
    /// The calls that wait for their next attempt are made at once.
    Retry {
        /// The only step that is retried; `None` for all that wait.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<String>,
    },
    /// A call counts as over, though it was not done.
    Skip {
        /// Name of the step.
        step: String,
        /// The direction of the call.
        #[serde(rename = "leg")]
        direction: Direction,
    },
    /// A call counts as answered: an operator has found how it ended, or made it so.
    Resolve {
        /// Name of the step.
        step: String,
        /// The direction of the call.
        #[serde(rename = "leg")]
        direction: Direction,
        /// How it ended.
        answer: Resolution,
    },
    /// The saga makes no more calls.
    Abandon,
}

/// How a call ended, as an operator has found or made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Resolution {
    /// The call is done.
    Done,
    /// The call has not happened and never will.
    Refused {
        /// The reason, in the words of the domain.
        refusal: String,
    },
}

/// An event of a saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The saga was accepted.
    Admitted {
        /// Name of its definition.
        definition: String,
        /// Version of its definition.
        version: u32,
        /// Names of the steps that have something to do.
        applies: Vec<String>,
        /// When the saga starts its compensation by itself, unless it has reached its pivot, or the answer of its pivot
        /// where that can be withdrawn.
        deadline_at_ms: i64,
    },
    /// Another instance drives the saga from here on. The log may lack the last answers and calls of the instance
    /// before.
    Adopted {
        /// The instance that drives it now.
        by: String,
    },
    /// A call was done.
    #[serde(rename = "step_succeeded")]
    Succeeded {
        /// Name of the step.
        step: String,
        /// The direction of the call.
        #[serde(rename = "leg")]
        direction: Direction,
        /// The number of the attempt, counted from 1 for each direction.
        attempt: u32,
        /// When the call left.
        started_at_ms: i64,
        /// The answer, in the words of the domain.
        output: String,
    },
    /// An action was refused.
    #[serde(rename = "step_refused")]
    Refused {
        /// Name of the step.
        step: String,
        /// The number of the attempt, counted from 1.
        attempt: u32,
        /// When the call left.
        started_at_ms: i64,
        /// The reason, in the words of the domain.
        refusal: String,
    },
    /// A call ended without an answer, so its effect is unknown.
    #[serde(rename = "step_failed")]
    Failed {
        /// Name of the step.
        step: String,
        /// The direction of the call.
        #[serde(rename = "leg")]
        direction: Direction,
        /// The number of the attempt, counted from 1 for each direction.
        attempt: u32,
        /// When the call left.
        started_at_ms: i64,
        /// The error that came instead of an answer.
        error: CallError,
        /// When the call is made again.
        next_attempt_at_ms: i64,
        /// Whether the call has failed for longer than its policy allows, or in a way that no retry can mend.
        needs_attention: bool,
    },
    /// The saga started its compensation: from here on, every step that may have been done is undone.
    #[serde(rename = "turned")]
    CompensationStarted {
        /// The cause.
        cause: Cause,
    },
    /// The compensation of the pivot was refused, because the pivot had happened, by a call of an earlier owner or one
    /// without an answer. The saga takes its compensation back, and goes on to the answer of its pivot.
    #[serde(rename = "turned_back")]
    CompensationReverted {
        /// Name of the pivot.
        step: String,
        /// The number of the attempt, counted from 1 in the compensation of the pivot.
        attempt: u32,
        /// When the call left.
        started_at_ms: i64,
    },
    /// An operator intervened.
    Intervened {
        /// The name of the operator.
        by: String,
        /// The reason, in their words.
        reason: String,
        /// The decision.
        intervention: Intervention,
        /// Id of the command. A command that is repeated because its answer was lost has the same id.
        #[serde(rename = "command", default, skip_serializing_if = "Option::is_none")]
        command_id: Option<String>,
    },
    /// Nothing is left to do.
    Finished,
}

impl Event {
    /// The machine-readable name, as it is persisted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Admitted { .. } => "admitted",
            Self::Adopted { .. } => "adopted",
            Self::Succeeded { .. } => "step_succeeded",
            Self::Refused { .. } => "step_refused",
            Self::Failed { .. } => "step_failed",
            Self::CompensationStarted { .. } => "turned",
            Self::CompensationReverted { .. } => "turned_back",
            Self::Intervened { .. } => "intervened",
            Self::Finished => "finished",
        }
    }

    /// Name and version of the definition that the saga was admitted with; `None` of every later event.
    pub fn definition(&self) -> Option<(&str, u32)> {
        if let Self::Admitted { definition, version, .. } = self { Some((definition, *version)) } else { None }
    }

    /// The attempt that this event ends, if it ends one.
    pub fn attempt(&self) -> Option<Attempt<'_>> {
        let (step, direction, number, started_at_ms) = match self {
            Self::Succeeded { step, direction, attempt, started_at_ms, .. }
            | Self::Failed { step, direction, attempt, started_at_ms, .. } => {
                (step, *direction, attempt, started_at_ms)
            }
            Self::Refused { step, attempt, started_at_ms, .. } => (step, Direction::Forward, attempt, started_at_ms),
            Self::CompensationReverted { step, attempt, started_at_ms } => {
                (step, Direction::Compensation, attempt, started_at_ms)
            }
            Self::Admitted { .. }
            | Self::Adopted { .. }
            | Self::CompensationStarted { .. }
            | Self::Intervened { .. }
            | Self::Finished => return None,
        };
        Some(Attempt { step, direction, number: *number, started_at_ms: *started_at_ms })
    }
}

/// A call whose end was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// Name of the step.
    pub step: &'a str,
    /// The direction of the call.
    pub direction: Direction,
    /// The number of the attempt, counted from 1 for each direction.
    pub number: u32,
    /// When the call left.
    pub started_at_ms: i64,
}

/// An event in its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Counted from 1 without gaps.
    pub sequence: u64,
    /// When it was decided, by the clock of the process that decided it.
    pub at_ms: i64,
    /// The event.
    pub event: Event,
}

impl Recorded {
    /// The first event of a log.
    pub fn first(at_ms: i64, event: Event) -> Self {
        Self { sequence: 1, at_ms, event }
    }
}
