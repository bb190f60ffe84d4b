//! The pure saga engine: no I/O, no clock, no randomness.
//!
//! A saga is a [`Definition`] (the table of its steps) and a log of [`Recorded`] events. Its [`SagaState`] is the fold
//! of that log. [`decide`] is the only function that decides something new. A process has a set of [`Definitions`],
//! because a stored saga keeps the version that it began with.
//!
//! ```text
//!            Input (answer, wake, cancel, command), now, jitter
//!                               |
//!   log --replay--> SagaState --decide--> events --(the runtime persists them)--> log
//!                                   \---> effects --(the runtime runs them then, or earlier if safe)--> calls
//! ```
//!
//! Promises: the same arguments give the same decision. Every event that [`decide`] returns folds. A saga starts its
//! compensation only for a refusal, a cancel or its deadline, and only before its log has a call of its pivot. A
//! compensation undoes every step that may have been done, unless the pivot has happened. After the pivot no step is
//! undone.

mod decide;
mod definition;
mod definitions;
mod event;
mod operator;
mod recovery;
mod render;
mod retry;
mod state;

#[cfg(test)]
mod tests;

pub use decide::{CallAnswer, DecideError, Decision, Effect, Input, decide};
pub use definition::{Definition, DefinitionError, Kind, Step, StepIndex};
pub use definitions::{DefinedTwice, Definitions, NotDefined};
pub use event::{Attempt, Cause, Direction, Event, Intervention, Recorded, Resolution};
pub use operator::{Advice, OperatorCommand, OperatorCommandError, advice};
pub use recovery::{LeaveReason, Row};
pub use render::{CallWait, Wait, describe, distance, explain, wait_in_words};
pub use retry::{CallError, Code, Jitter, RetryPolicy, RetryPolicyError, Verdict, delay_ms, verdict};
pub use state::{CallState, CallStatus, FoldError, Outcome, Phase, SagaState, StepState};
