//! The database's clock, this instance's lease, and the adoption of sagas whose instance has ended.
//!
//! ```text
//! every heartbeat:      Renew ──► Renewed: the clock is set, the lease is continuous
//! every heartbeat, too: Look ──► Choose ──► Adopt ──► sagas enter ──► Choose ... until none is left
//! ```
//!
//! Promises:
//!
//! - Sagas use the database's clock, so all instances agree even if the clock of a machine is wrong. Between two
//!   readings, the monotonic clock of the process carries it on.
//! - An instance declares another one dead only if its own renewals had no gap. After an outage of the database, in
//!   which no instance could renew, every instance gets one lease duration to renew.
//! - If the answer of an adoption is lost, the same adoption is requested again. The sagas may already belong to this
//!   instance, and then no other instance would adopt them.

use std::time::Duration;

use crate::config::CoreConfig;
use crate::ready::{Registered, StoreAnswer, StoreRequest, StoredSaga};
use crate::{Moment, SagaId, fraction};

/// Longest round trip of a renewal that sets the clock. The error of the reading is at most half of it.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// The range of the time between two looks for ended instances, in heartbeats. It is random, so that instances that
/// were started together do not all look at the same moment.
const LOOK_HEARTBEATS: (f64, f64) = (0.75, 1.25);

/// One instant by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockReading {
    /// The instant by the monotonic clock of the process.
    pub now: Moment,
    /// The instant by the database's clock, in milliseconds since 1970.
    pub now_ms: i64,
}

impl ClockReading {
    /// Converts a moment to the database's clock.
    pub(crate) fn ms_at(self, at: Moment) -> i64 {
        let (ago_ms, ahead_ms) = (to_ms(self.now.saturating_sub(at)), to_ms(at.saturating_sub(self.now)));
        self.now_ms.saturating_sub(ago_ms).saturating_add(ahead_ms)
    }

    /// Converts a time of the database's clock to a moment. A past time becomes now.
    pub(crate) fn moment_of(self, at_ms: i64) -> Moment {
        self.now + Duration::from_millis(u64::try_from(at_ms.saturating_sub(self.now_ms)).unwrap_or(0))
    }
}

/// The most likely moment at which the database has read its clock: the middle of the round trip.
fn middle(sent_at: Moment, answered_at: Moment) -> Moment {
    sent_at + answered_at.saturating_sub(sent_at) / 2
}

fn to_ms(span: Moment) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// The lease of this instance.
pub(crate) struct Lease {
    ttl: Duration,
    /// The last reading that has set the clock.
    reading: ClockReading,
    /// The database's time in its last answer, even if the answer came too late to set the clock.
    alive_at_ms: i64,
    renew_at: Moment,
    /// When the last answered renewal was sent. The sending counts, because a suspended process may get the answer much
    /// later.
    renewed_at: Moment,
    /// When the renewal came that ended the last gap between renewals.
    gap_ended_at: Option<Moment>,
}

impl Lease {
    /// Begins with the lease that the registration has given.
    pub(crate) fn new(config: &CoreConfig, registered: Registered) -> Self {
        let Registered { sent_at, answered_at, database_now_ms } = registered;
        let ttl = Duration::from_millis(config.lease_ttl_ms.unsigned_abs());
        Self {
            ttl,
            reading: ClockReading { now: middle(sent_at, answered_at), now_ms: database_now_ms },
            alive_at_ms: database_now_ms,
            renew_at: answered_at + ttl / 3,
            renewed_at: sent_at,
            gap_ended_at: None,
        }
    }

    /// The time now, by both clocks.
    pub(crate) fn clock(&self, now: Moment) -> ClockReading {
        ClockReading { now, now_ms: self.reading.ms_at(now) }
    }

    /// The database's time when it last renewed this lease. The database renews no lease of an instance that is marked
    /// dead, so this is always before the mark, whatever the local clock does.
    pub(crate) fn alive_at_ms(&self) -> i64 {
        self.alive_at_ms
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        self.ttl / 3
    }

    /// The renewal, when it is time. An earlier renewal may still be in flight: if it hangs, it must not block this
    /// one.
    pub(crate) fn renew(&mut self, now: Moment) -> Option<StoreRequest> {
        if now < self.renew_at {
            return None;
        }
        self.renew_at = now + self.heartbeat();
        Some(StoreRequest::Renew { sent_at: now })
    }

    pub(crate) fn wake_at(&self) -> Moment {
        self.renew_at
    }

    /// The database has renewed the lease. An answer after a long round trip proves that the lease was alive then, but
    /// it does not set the clock.
    pub(crate) fn renewed(&mut self, database_now_ms: i64, sent_at: Moment, now: Moment) {
        self.alive_at_ms = database_now_ms;
        if now.saturating_sub(sent_at) <= ROUND_TRIP_MAX {
            self.reading = ClockReading { now: middle(sent_at, now), now_ms: database_now_ms };
        }
        if sent_at.saturating_sub(self.renewed_at) > self.ttl {
            self.gap_ended_at = Some(now);
        }
        self.renewed_at = self.renewed_at.max(sent_at);
    }

    /// Whether this instance has renewed its lease without a gap, and so may declare other instances dead. After a gap
    /// it cannot distinguish a dead instance from one that could not renew either.
    pub(crate) fn is_continuous(&self, now: Moment) -> bool {
        let is_recent = |at: Moment| now.saturating_sub(at) <= self.ttl;
        is_recent(self.renewed_at) && !self.gap_ended_at.is_some_and(is_recent)
    }
}

/// The takeover of sagas whose instance has ended.
pub(crate) struct Adoption {
    chunk: usize,
    seed: u64,
    stage: Stage,
    /// The sagas to adopt. They stay after an error, because the adoption may have taken effect.
    chosen: Vec<SagaId>,
    /// Another instance has ended since the last look began.
    is_woken: bool,
    looks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing to do until `look_at`.
    Idle { look_at: Moment },
    /// A request is in flight.
    InFlight,
    /// There may be more sagas to adopt, once there is room.
    MayContinue,
}

impl Adoption {
    pub(crate) fn new(config: &CoreConfig, seed: u64, now: Moment) -> Self {
        let stage = Stage::Idle { look_at: now };
        Self { chunk: config.adoption_chunk, seed, stage, chosen: Vec::new(), is_woken: false, looks: 0 }
    }

    /// Another instance has ended in order.
    pub(crate) fn wake(&mut self) {
        self.is_woken = true;
    }

    /// The next request. Without room in memory nothing is adopted: other instances do it.
    pub(crate) fn next_request(&mut self, lease: &Lease, has_room: bool, now: Moment) -> Option<StoreRequest> {
        let request = match self.stage {
            Stage::Idle { look_at } if now >= look_at || self.is_woken => {
                self.is_woken = false;
                StoreRequest::Look { may_mark: lease.is_continuous(now) }
            }
            Stage::MayContinue if !has_room => return None,
            Stage::MayContinue if self.chosen.is_empty() => StoreRequest::Choose { limit: self.chunk },
            Stage::MayContinue => StoreRequest::Adopt { sagas: self.chosen.clone() },
            Stage::Idle { .. } | Stage::InFlight => return None,
        };
        self.stage = Stage::InFlight;
        Some(request)
    }

    /// Processes an answer. Returns the sagas that this instance owns now.
    pub(crate) fn answered<R>(&mut self, answer: StoreAnswer<R>, lease: &Lease, now: Moment) -> Vec<StoredSaga<R>> {
        match answer {
            StoreAnswer::Chosen(sagas) if sagas.is_empty() => self.rest(lease, now),
            StoreAnswer::Chosen(sagas) => {
                self.chosen = sagas;
                self.stage = Stage::MayContinue;
            }
            StoreAnswer::Adopted(sagas) => {
                self.chosen.clear();
                self.stage = Stage::MayContinue;
                return sagas;
            }
            StoreAnswer::Looked => self.stage = Stage::MayContinue,
            StoreAnswer::Failed
            | StoreAnswer::Fenced
            | StoreAnswer::Flagged
            | StoreAnswer::Renewed { .. }
            | StoreAnswer::Line { .. } => {
                self.rest(lease, now);
            }
        }
        Vec::new()
    }

    fn rest(&mut self, lease: &Lease, now: Moment) {
        self.looks += 1;
        let (from, to) = LOOK_HEARTBEATS;
        let heartbeats = from + (to - from) * fraction(self.seed, self.looks, 0);
        self.stage = Stage::Idle { look_at: now + lease.heartbeat().mul_f64(heartbeats) };
    }

    pub(crate) fn wake_at(&self) -> Option<Moment> {
        match self.stage {
            Stage::Idle { look_at } => Some(look_at),
            Stage::InFlight | Stage::MayContinue => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// A lease of 10 s.
    fn lease() -> Lease {
        let registered = Registered { sent_at: Moment::ZERO, answered_at: Moment::ZERO, database_now_ms: 0 };
        Lease::new(&CoreConfig { lease_ttl_ms: 10_000, ..CoreConfig::default() }, registered)
    }

    /// After an outage of the database every lease has lapsed. The first instance that is back must not declare the
    /// others dead.
    #[test]
    fn after_a_gap_other_instances_get_one_lease_duration_to_renew() {
        let mut lease = lease();
        assert!(lease.is_continuous(S), "an instance that has just started marks lapsed instances");
        assert!(!lease.is_continuous(11 * S), "it has a gap itself");
        lease.renewed(0, 11 * S, 11 * S);
        assert!(!lease.is_continuous(11 * S), "it is back, and the others may be about to be");
        lease.renewed(0, 16 * S, 16 * S);
        assert!(!lease.is_continuous(21 * S));
        lease.renewed(0, 22 * S, 22 * S);
        assert!(lease.is_continuous(22 * S));
    }

    /// The process is suspended while the answer of a renewal arrives, and the database is away meanwhile.
    #[test]
    fn a_late_answer_closes_no_gap() {
        let mut lease = lease();
        lease.renewed(0, 3 * S, 15 * S);
        assert!(!lease.is_continuous(15 * S), "it proves only that the lease was alive 12 s ago");
        lease.renewed(0, 21 * S, 21 * S);
        assert!(!lease.is_continuous(26 * S), "the others may be about to be back");
        lease.renewed(0, 30 * S, 30 * S);
        assert!(lease.is_continuous(32 * S));
    }

    #[test]
    fn renewals_set_the_clock_to_the_databases_time() {
        let config = CoreConfig::default();
        let registered = Registered { sent_at: 4 * S, answered_at: 6 * S, database_now_ms: 1_000_000 };
        let mut lease = Lease::new(&config, registered);
        assert_eq!(lease.clock(7 * S).now_ms, 1_002_000);
        lease.renewed(9_000_000, 7 * S, 7 * S + S);
        assert_eq!(lease.clock(8 * S).now_ms, 1_003_000, "a late answer does not set the clock");
        assert_eq!(lease.alive_at_ms(), 9_000_000, "but it proves that the lease was alive then");
        lease.renewed(9_000_000, 8 * S, 8 * S + S / 50);
        assert_eq!(
            lease.clock(9 * S + S / 100).now_ms,
            9_001_000,
            "the reading was made in the middle of the round trip"
        );
        let clock = lease.clock(9 * S + S / 100);
        assert_eq!(clock.ms_at(8 * S + S / 100), 9_000_000);
        assert_eq!(clock.moment_of(9_002_000), 10 * S + S / 100);
        assert_eq!(clock.moment_of(0), clock.now, "a past time becomes now");
    }
}
