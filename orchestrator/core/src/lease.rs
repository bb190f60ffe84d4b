//! The database's clock, this instance's lease, and the sagas of instances that have ended.
//!
//! ```text
//! every heartbeat:      Renew ──► Renewed: the clock is set, the lease is continuous
//! every heartbeat, too: Look ──► Choose ──► Adopt ──► sagas enter ──► Choose ... until none is left
//! ```
//!
//! Promises: the time of sagas is the database's, carried on by a clock that nobody sets, so all instances agree,
//! however wrong the clock of one machine is. An instance declares another one dead only when its own renewals had no
//! gap: after an outage of the database nobody could renew, and everybody gets the time of a lease to show that they
//! live. Sagas that an adoption may have given to this instance are asked for again until that is known, because no
//! other instance would.

use std::time::Duration;

use crate::config::CoreConfig;
use crate::ready::{Registered, StoreAnswer, StoreRequest, StoredSaga};
use crate::{Moment, SagaId, fraction};

/// Longest round trip of a renewal whose reading of the clock counts: the reading was true at some moment of it.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// Time between two looks for instances that have ended, in heartbeats, from and to: instances that were started
/// together should not all look at the same moment.
const LOOK_HEARTBEATS: (f64, f64) = (0.75, 1.25);

/// One reading of the database's clock, with the moment of this process at which it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockReading {
    /// The moment of the reading.
    pub now: Moment,
    /// The same by the database's clock, in milliseconds since 1970.
    pub now_ms: i64,
}

impl ClockReading {
    /// Another moment by the database's clock.
    pub(crate) fn ms_at(self, at: Moment) -> i64 {
        let (ago_ms, ahead_ms) = (to_ms(self.now.saturating_sub(at)), to_ms(at.saturating_sub(self.now)));
        self.now_ms.saturating_sub(ago_ms).saturating_add(ahead_ms)
    }

    /// The moment of this process at a time of the database's clock: now, where that is past.
    pub(crate) fn moment_of(self, at_ms: i64) -> Moment {
        self.now + Duration::from_millis(u64::try_from(at_ms.saturating_sub(self.now_ms)).unwrap_or(0))
    }
}

/// When the database has most likely read its clock: in the middle of the round trip.
fn middle(asked_at: Moment, answered_at: Moment) -> Moment {
    asked_at + answered_at.saturating_sub(asked_at) / 2
}

fn to_ms(span: Moment) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// The lease of this instance.
pub(crate) struct Lease {
    ttl: Duration,
    /// The last reading of the database's clock that counts.
    reading: ClockReading,
    /// The time of its last answer, also of one that came too late to count.
    alive_at_ms: i64,
    renew_at: Moment,
    /// When the last renewal was asked for that was answered. A process that was stopped may take in its answer much
    /// later, and then it says nothing about the time between.
    renewed: Moment,
    /// When the renewal came that ended the last gap between renewals.
    back: Option<Moment>,
}

impl Lease {
    /// Begins with the lease that the database has just given.
    pub(crate) fn new(config: &CoreConfig, registered: Registered) -> Self {
        let Registered { asked_at, answered_at, database_now_ms } = registered;
        let ttl = Duration::from_millis(config.lease_ttl_ms.unsigned_abs());
        Self {
            ttl,
            reading: ClockReading { now: middle(asked_at, answered_at), now_ms: database_now_ms },
            alive_at_ms: database_now_ms,
            renew_at: answered_at + ttl / 3,
            renewed: asked_at,
            back: None,
        }
    }

    /// The database's clock now.
    pub(crate) fn clock(&self, now: Moment) -> ClockReading {
        ClockReading { now, now_ms: self.reading.ms_at(now) }
    }

    /// When the database last said that this instance lives. It says so to no instance that is marked dead, so for one
    /// that was given up this stays before the mark, whatever its own clock does.
    pub(crate) fn alive_at_ms(&self) -> i64 {
        self.alive_at_ms
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        self.ttl / 3
    }

    /// The renewal, when it is time. It is sent though an earlier one may hang: that one must not use up its time.
    pub(crate) fn renew(&mut self, now: Moment) -> Option<StoreRequest> {
        if now < self.renew_at {
            return None;
        }
        self.renew_at = now + self.heartbeat();
        Some(StoreRequest::Renew { asked_at: now })
    }

    pub(crate) fn wake_at(&self) -> Moment {
        self.renew_at
    }

    /// The lease was prolonged. The answer to a process that was stopped meanwhile tells the time of long ago: the
    /// instance lived then, but the clock is not set by it.
    pub(crate) fn renewed(&mut self, database_now_ms: i64, asked_at: Moment, now: Moment) {
        self.alive_at_ms = database_now_ms;
        if now.saturating_sub(asked_at) <= ROUND_TRIP_MAX {
            self.reading = ClockReading { now: middle(asked_at, now), now_ms: database_now_ms };
        }
        if asked_at.saturating_sub(self.renewed) > self.ttl {
            self.back = Some(now);
        }
        self.renewed = self.renewed.max(asked_at);
    }

    /// Whether this instance may declare others dead: it has renewed its lease without a gap. After a gap it can't tell
    /// an instance that has ended from one that could not renew either.
    pub(crate) fn is_unbroken(&self, now: Moment) -> bool {
        let is_recent = |at: Moment| now.saturating_sub(at) <= self.ttl;
        is_recent(self.renewed) && !self.back.is_some_and(is_recent)
    }
}

/// The takeover of sagas whose instance has ended.
pub(crate) struct Adoption {
    chunk: usize,
    seed: u64,
    stage: Stage,
    /// Chosen, and not known to be adopted or not. It outlives an error.
    chosen: Vec<SagaId>,
    /// Another instance has ended since the last look began.
    is_woken: bool,
    looks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing to do until then.
    Idle { look_at: Moment },
    /// The database is being asked.
    Asking,
    /// There may be more to adopt, once there is room.
    Between,
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

    /// What to ask now. `has_room`: whether more sagas may enter; the rest is left to other instances.
    pub(crate) fn ask(&mut self, lease: &Lease, has_room: bool, now: Moment) -> Option<StoreRequest> {
        let request = match self.stage {
            Stage::Idle { look_at } if now >= look_at || self.is_woken => {
                self.is_woken = false;
                StoreRequest::Look { may_mark: lease.is_unbroken(now) }
            }
            Stage::Between if !has_room => return None,
            Stage::Between if self.chosen.is_empty() => StoreRequest::Choose { limit: self.chunk },
            Stage::Between => StoreRequest::Adopt { sagas: self.chosen.clone() },
            Stage::Idle { .. } | Stage::Asking => return None,
        };
        self.stage = Stage::Asking;
        Some(request)
    }

    /// Takes in an answer; sagas that are this instance's now.
    pub(crate) fn answered<R>(&mut self, answer: StoreAnswer<R>, lease: &Lease, now: Moment) -> Vec<StoredSaga<R>> {
        match answer {
            StoreAnswer::Chosen(sagas) if sagas.is_empty() => self.rest(lease, now),
            StoreAnswer::Chosen(sagas) => {
                self.chosen = sagas;
                self.stage = Stage::Between;
            }
            StoreAnswer::Adopted(sagas) => {
                self.chosen.clear();
                self.stage = Stage::Between;
                return sagas;
            }
            StoreAnswer::Looked => self.stage = Stage::Between,
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
            Stage::Asking | Stage::Between => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Of 10 s.
    fn lease() -> Lease {
        let registered = Registered { asked_at: Moment::ZERO, answered_at: Moment::ZERO, database_now_ms: 0 };
        Lease::new(&CoreConfig { lease_ttl_ms: 10_000, ..CoreConfig::default() }, registered)
    }

    /// After an outage of the database every instance is late. The first that is back must not end the others.
    #[test]
    fn after_a_gap_others_get_a_lease_to_show_that_they_live() {
        let mut lease = lease();
        assert!(lease.is_unbroken(S), "one that has just started marks instances that it finds lapsed");
        assert!(!lease.is_unbroken(11 * S), "it has a gap itself");
        lease.renewed(0, 11 * S, 11 * S);
        assert!(!lease.is_unbroken(11 * S), "it is back, and the others may be about to be");
        lease.renewed(0, 16 * S, 16 * S);
        assert!(!lease.is_unbroken(21 * S));
        lease.renewed(0, 22 * S, 22 * S);
        assert!(lease.is_unbroken(22 * S));
    }

    /// A process is stopped with the answer of a renewal on its way, and the database is away meanwhile.
    #[test]
    fn an_answer_that_waited_closes_no_gap() {
        let mut lease = lease();
        lease.renewed(0, 3 * S, 15 * S);
        assert!(!lease.is_unbroken(15 * S), "it says that the instance lived 12 s ago");
        lease.renewed(0, 21 * S, 21 * S);
        assert!(!lease.is_unbroken(26 * S), "the others may be about to be back");
        lease.renewed(0, 30 * S, 30 * S);
        assert!(lease.is_unbroken(32 * S));
    }

    #[test]
    fn the_time_is_the_databases() {
        let config = CoreConfig::default();
        let registered = Registered { asked_at: 4 * S, answered_at: 6 * S, database_now_ms: 1_000_000 };
        let mut lease = Lease::new(&config, registered);
        assert_eq!(lease.clock(7 * S).now_ms, 1_002_000);
        lease.renewed(9_000_000, 7 * S, 7 * S + S);
        assert_eq!(lease.clock(8 * S).now_ms, 1_003_000, "an answer of long ago does not set the clock");
        assert_eq!(lease.alive_at_ms(), 9_000_000, "but it says that the instance lived then");
        lease.renewed(9_000_000, 8 * S, 8 * S + S / 50);
        assert_eq!(
            lease.clock(9 * S + S / 100).now_ms,
            9_001_000,
            "the reading was made in the middle of the round trip"
        );
        let clock = lease.clock(9 * S + S / 100);
        assert_eq!(clock.ms_at(8 * S + S / 100), 9_000_000);
        assert_eq!(clock.moment_of(9_002_000), 10 * S + S / 100);
        assert_eq!(clock.moment_of(0), clock.now, "what is past is now");
    }
}
