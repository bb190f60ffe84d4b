//! The time of sagas: the database's clock, kept in step by the heartbeat, so that all replicas of a database agree
//! however wrong the clock of one of their machines is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use matricula_kit::time::{self, UnixMs};

/// What a word of the database may take to be believed: it was true at some moment of that time.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// A clock that is off by more than this is worth a warning.
const OFF_MS: i64 = 5_000;

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

    /// Takes in what the database has just said. A process that was stopped in the middle of a question has an answer
    /// of long ago, which is no news.
    pub(crate) fn set(&self, database_now_ms: i64, round_trip: Duration) {
        if round_trip > ROUND_TRIP_MAX {
            return;
        }
        let ahead_ms = database_now_ms.saturating_sub(time::now().0);
        let before_ms = self.ahead_ms.swap(ahead_ms, Ordering::Relaxed);
        if ahead_ms.abs() > OFF_MS && before_ms.abs() <= OFF_MS {
            tracing::warn!(
                ahead_ms,
                "the database's clock is ahead of this machine's by so much; sagas go by the database's"
            );
        }
    }
}
