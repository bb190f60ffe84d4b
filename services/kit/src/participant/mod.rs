//! The write path that all participants share: what waits becomes one batch, one transaction, one commit.
//!
//! ```text
//! gRPC request --operations--> queue --+                      one transaction
//! gRPC request --operations--> queue --+--> batch --> undos' barrier rows, load and lock --> decide each in order of arrival
//! gRPC request --operations--> queue --+             --> write set-wise, barrier rows --> commit --> answers
//! ```
//!
//! There are no timers: a batch is what gathered while the last one was committing. An idle service answers at once,
//! and a flooded one commits a thousand operations at a time. A service brings a [`Participant`]: what to load, how to
//! decide, what to write. The barrier is not its business, so no service can forget it.

mod barrier;
mod purge;
mod stale;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

use async_trait::async_trait;
use tracing::Span;

use crate::answer::Answer;
use crate::database::{DbError, Tx};
use crate::id::{SagaId, StepName};
use crate::telemetry::TraceContext;
use crate::telemetry::spans::{self, Direction};
use crate::time::UnixMs;

pub(crate) use purge::{SERVICE_NAME, server};
pub use stale::STALE_AFTER_MS;
pub use writer::{StaffError, WriteError, Writer, WriterLimits};

/// Names the step of a saga that an operation belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The saga.
    pub saga: SagaId,
    /// The step; of an undo, the step that it undoes.
    pub step: StepName,
}

/// Which way an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// It does the step.
    Action,
    /// It undoes the step.
    Undo,
}

impl From<Leg> for Direction {
    fn from(leg: Leg) -> Self {
        match leg {
            Leg::Action => Self::Forward,
            Leg::Undo => Self::Compensation,
        }
    }
}

/// One operation, as it waits to be written.
#[derive(Debug, Clone)]
pub struct Operation<C> {
    /// The saga's step; `None` for a staff operation, which has no barrier.
    pub key: Option<Key>,
    /// Which way it goes.
    pub leg: Leg,
    /// The trace that it belongs to.
    pub trace: TraceContext,
    /// When its caller last knew that it drives the saga; `None` when that is not told.
    pub owner_alive_at: Option<UnixMs>,
    /// What to do, in the words of the service.
    pub command: C,
}

impl<C> Operation<C> {
    /// A staff operation: no saga, no barrier.
    pub fn staff(command: C) -> Self {
        Self { key: None, leg: Leg::Action, trace: TraceContext::default(), owner_alive_at: None, command }
    }

    /// Records in a span that it is about this operation alone. A staff operation is of no saga.
    pub(crate) fn describe_in(&self, span: &Span) {
        if let Some(Key { saga, step }) = &self.key {
            spans::is_about(span, saga, step, self.leg.into());
        }
    }
}

/// A service's part in the write path.
#[async_trait]
pub trait Participant: Send + Sync + 'static {
    /// What an operation asks for.
    type Command: Send + Sync + 'static;
    /// What a batch has loaded, and what its operations change.
    type World: Send;

    /// Name of the service, for metrics and logs.
    const NAME: &'static str;

    /// Loads and locks, in one order, every row that the operations may touch; some of them the barrier may answer. An
    /// undo is loaded by its saga and step. What is asked together goes in one message.
    async fn load(&self, tx: &mut Tx, operations: &[Operation<Self::Command>]) -> Result<Self::World, DbError>;

    /// Decides one operation and changes the world accordingly. Pure; called in order of arrival. An answer that is
    /// not `Done` must leave the world as it was. An undo is called only when its action was done, and must answer
    /// `Done`; only where nothing can undo the action it refuses.
    fn decide(&self, world: &mut Self::World, operation: &Operation<Self::Command>, now: UnixMs) -> Answer;

    /// Posts what has changed, set-wise: it is written in this order, with the commit.
    fn write(&self, tx: &mut Tx, world: &Self::World, now: UnixMs) -> Result<(), DbError>;

    /// Called once after the commit, in the order of commits, to publish what has changed.
    fn committed(&self, world: Self::World, now: UnixMs) {
        let _ = (world, now);
    }

    /// Called when a batch has failed: nothing of it was committed, and nothing will be.
    fn not_committed(&self) {}

    /// Called when a commit has ended without an answer: it may have taken effect, and nobody has published it.
    fn in_doubt(&self) {}

    /// Called when what was in doubt is decided: whoever reads the database from now on reads the truth.
    fn settled(&self) {}
}
