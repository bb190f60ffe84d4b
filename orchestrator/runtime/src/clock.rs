//! The time of sagas: the database's clock, asked for with every heartbeat and carried on from there by a clock that
//! nobody sets. So all replicas of a database agree, however wrong the clock of one of their machines is, or becomes.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use matricula_kit::time::{self, UnixMs};

/// What a word of the database may take to be believed: it was true at some moment of that time.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// A machine whose clock is off by more than this is worth a warning.
const OFF_MS: i64 = 5_000;

/// The database's clock, as of its last word.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    word: Arc<Mutex<Word>>,
}

#[derive(Debug)]
struct Word {
    now_ms: i64,
    heard: Instant,
    /// The time of its last word, also of one that came too late to be believed.
    alive_at_ms: i64,
    is_machine_off: bool,
}

impl Clock {
    /// Begins with what the database has just said.
    pub(crate) fn new(database_now_ms: i64) -> Self {
        let word = Word {
            now_ms: database_now_ms,
            heard: Instant::now(),
            alive_at_ms: database_now_ms,
            is_machine_off: false,
        };
        let clock = Self { word: Arc::new(Mutex::new(word)) };
        clock.set(database_now_ms, Duration::ZERO);
        clock
    }

    /// The time by the database's clock.
    pub(crate) fn now(&self) -> UnixMs {
        let word = self.word();
        UnixMs(word.now_ms.saturating_add(i64::try_from(word.heard.elapsed().as_millis()).unwrap_or(i64::MAX)))
    }

    /// When the database last said that this instance lives. It says so to none that is marked dead, so for one that was
    /// given up this stays before the mark, whatever its own clocks do.
    pub(crate) fn alive_at(&self) -> UnixMs {
        UnixMs(self.word().alive_at_ms)
    }

    /// Takes in what the database has just said. A process that was stopped in the middle of a question has an answer
    /// of long ago, which is no news.
    pub(crate) fn set(&self, database_now_ms: i64, round_trip: Duration) {
        let mut word = self.word();
        word.alive_at_ms = database_now_ms;
        if round_trip > ROUND_TRIP_MAX {
            return;
        }
        let ahead_ms = time::now().0.saturating_sub(database_now_ms);
        let is_machine_off = ahead_ms.abs() > OFF_MS;
        if is_machine_off && !word.is_machine_off {
            tracing::warn!(ahead_ms, "this machine's clock is not the database's; sagas go by the database's");
        }
        let alive_at_ms = word.alive_at_ms;
        *word = Word { now_ms: database_now_ms, heard: Instant::now(), alive_at_ms, is_machine_off };
    }

    fn word(&self) -> MutexGuard<'_, Word> {
        self.word.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_by_the_database_and_not_by_the_machine() {
        let hour_ms = 3_600_000;
        let clock = Clock::new(time::now().0 - hour_ms);
        let now_ms = clock.now().0;
        assert!((time::now().0 - now_ms - hour_ms).abs() < 60_000, "it is an hour behind this machine");
        clock.set(now_ms + hour_ms, Duration::from_secs(5));
        assert!(clock.now().0 < now_ms + hour_ms, "an answer of long ago is no news");
        assert_eq!(clock.alive_at().0, now_ms + hour_ms, "but it says that the instance lived then");
        clock.set(now_ms + hour_ms, Duration::from_millis(1));
        assert!(clock.now().0 >= now_ms + hour_ms);
    }
}
