//! The time of sagas: the database's clock, kept in step by the heartbeat, so that all replicas of a database agree
//! however wrong the clock of one of their machines is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use matricula_kit::time::{self, UnixMs};

/// This machine's clock, and by how much the database's is ahead of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock {
    ahead_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The time by the database's clock, as of its last word.
    pub(crate) fn now(&self) -> UnixMs {
        UnixMs(time::now().0.saturating_add(self.ahead_ms.load(Ordering::Relaxed)))
    }

    /// Takes in what the database has just said.
    pub(crate) fn set(&self, database_now_ms: i64) {
        self.ahead_ms.store(database_now_ms.saturating_sub(time::now().0), Ordering::Relaxed);
    }
}
