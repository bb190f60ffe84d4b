//! The persisted log of a saga: what happened, in the words that stay readable for as long as the data lives.
//!
//! Promises: tags and field names never change; steps are written by name, so a log can be read without the definition.
//! A call is not logged before it leaves, only when it ended: what may have been called follows from the stage, and,
//! where somebody took the saga over, from that.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::retry::CallError;

/// One direction of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// What the step does.
    Action,
    /// What takes it back.
    Undo,
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Action => "action",
            Self::Undo => "undo",
        })
    }
}

/// Why a saga turned round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A step said no; the refusals say why.
    Refused,
    /// Somebody cancelled it.
    Cancelled {
        /// Who.
        by: String,
        /// Why, in their words.
        reason: String,
    },
    /// It had not reached its pivot in time.
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

/// What an operator decided about a saga, as its log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Intervention {
    /// What waits for its next attempt is called at once.
    Retry {
        /// Only this step; none: all that wait.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<String>,
    },
    /// One leg counts as over, though it was not done.
    Skip {
        /// Name of the step.
        step: String,
        /// Which direction.
        leg: Leg,
    },
    /// One leg counts as answered: a person has seen to it.
    Resolve {
        /// Name of the step.
        step: String,
        /// Which direction.
        leg: Leg,
        /// How it ended.
        answer: Resolution,
    },
    /// Nothing more is done.
    Abandon,
}

/// How a person found, or made, a call to have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Resolution {
    /// What it is for is done.
    Done,
    /// It has not happened and never will.
    Refused {
        /// Why, in the words of the domain.
        refusal: String,
    },
}

/// What happened to a saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It was accepted.
    Admitted {
        /// Name of its definition.
        definition: String,
        /// Version of its definition.
        version: u32,
        /// Names of the steps that have something to do.
        applies: Vec<String>,
        /// It turns round by itself unless it has reached its pivot by then.
        deadline_at_ms: i64,
    },
    /// Another process drives it from here on. What the one before had learned last, and what it called then, may be
    /// missing from the log.
    Adopted {
        /// The instance that drives it now.
        by: String,
    },
    /// A call did what it is for.
    #[serde(rename = "step_succeeded")]
    Succeeded {
        /// Name of the step.
        step: String,
        /// Which direction.
        leg: Leg,
        /// Counted from 1 in its leg.
        attempt: u32,
        /// When the call left.
        started_at_ms: i64,
        /// What it answered, in the words of the domain.
        output: String,
    },
    /// An action said no.
    #[serde(rename = "step_refused")]
    Refused {
        /// Name of the step.
        step: String,
        /// Counted from 1.
        attempt: u32,
        /// When the call left.
        started_at_ms: i64,
        /// Why, in the words of the domain.
        refusal: String,
    },
    /// A call ended without an answer: what it did is unknown.
    #[serde(rename = "step_failed")]
    Failed {
        /// Name of the step.
        step: String,
        /// Which direction.
        leg: Leg,
        /// Counted from 1 in its leg.
        attempt: u32,
        /// When the call left.
        started_at_ms: i64,
        /// What came instead of an answer.
        error: CallError,
        /// When it is called again.
        next_attempt_at_ms: i64,
        /// Whether it has failed for longer than its policy allows, or in a way that no retry can mend.
        needs_attention: bool,
    },
    /// It turned round: from here on, what may have been done is undone.
    Turned {
        /// Why.
        cause: Cause,
    },
    /// What makes sure that the pivot never happens found that it had, by a call of whoever drove the saga before: the turn
    /// is taken back, and the saga goes on to the answer of its pivot.
    TurnedBack {
        /// Name of the pivot.
        step: String,
        /// Counted from 1 in the undo of the pivot.
        attempt: u32,
        /// When the call left.
        started_at_ms: i64,
    },
    /// An operator steered it.
    Intervened {
        /// Who.
        by: String,
        /// Why, in their words.
        reason: String,
        /// What they decided.
        intervention: Intervention,
        /// Id of the command, so that one whose answer was lost is known when it comes again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<String>,
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
            Self::Turned { .. } => "turned",
            Self::TurnedBack { .. } => "turned_back",
            Self::Intervened { .. } => "intervened",
            Self::Finished => "finished",
        }
    }

    /// The attempt that this event is the end of, if it is one.
    pub fn attempt(&self) -> Option<Attempt<'_>> {
        match self {
            Self::Succeeded { step, leg, attempt, started_at_ms, .. }
            | Self::Failed { step, leg, attempt, started_at_ms, .. } => {
                Some(Attempt { step, leg: *leg, number: *attempt, started_at_ms: *started_at_ms })
            }
            Self::Refused { step, attempt, started_at_ms, .. } => {
                Some(Attempt { step, leg: Leg::Action, number: *attempt, started_at_ms: *started_at_ms })
            }
            Self::TurnedBack { step, attempt, started_at_ms } => {
                Some(Attempt { step, leg: Leg::Undo, number: *attempt, started_at_ms: *started_at_ms })
            }
            Self::Admitted { .. }
            | Self::Adopted { .. }
            | Self::Turned { .. }
            | Self::Intervened { .. }
            | Self::Finished => None,
        }
    }
}

/// A call whose end was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// Name of the step.
    pub step: &'a str,
    /// Which direction.
    pub leg: Leg,
    /// Counted from 1 in its leg.
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
    /// What happened.
    pub event: Event,
}

impl Recorded {
    /// The first event of a log.
    pub fn first(at_ms: i64, event: Event) -> Self {
        Self { sequence: 1, at_ms, event }
    }
}
