//! The pure saga engine: no I/O, no clock, no randomness.
//!
//! A saga is a [`Definition`] (the table of its steps) and a log of [`Recorded`] events. Its [`SagaState`] is only the
//! fold of that log, and [`decide`] is the only place where something new is decided:
//!
//! ```text
//!            Input (answer, wake, cancel, resume), now, jitter
//!                               |
//!   log --replay--> SagaState --decide--> events --(made durable by the runtime)--> log
//!                                   \---> effects --(then, or ahead where that is safe, acted on by the runtime)--> calls, timers
//! ```
//!
//! Promises: the same arguments give the same decision; every event that [`decide`] returns folds; a saga turns round
//! only for a refusal, a cancel or its deadline, and only before it knows its pivot to have been called; whatever may have
//! been done is undone then, unless the pivot turns out to have happened; after the pivot nothing is.

mod decide;
mod definition;
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
pub use event::{Attempt, Cause, Event, Intervention, Leg, Recorded, Resolution};
pub use operator::{Advice, Verb, VerbError, advice};
pub use recovery::{LeaveReason, Plan, Row, plan};
pub use render::{LegWait, Sight, Wait, describe, distance, explain, wait_in_words};
pub use retry::{CallError, Code, Jitter, RetryPolicy, RetryPolicyError, Verdict, delay_ms, verdict};
pub use state::{FoldError, LegState, LegStatus, Outcome, Phase, SagaState, StepState};
