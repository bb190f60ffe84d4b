//! The gate of admission: who is let in, against the bounds of the queue, of time, of memory and of each student; and
//! where everybody stands who was.
//!
//! | module | one job |
//! |---|---|
//! | here | the bounds, and what the executor and the log writer tell of those who were let in |
//! | `line` | how many wait before each, and how long it will take |
//! | `meter` | how many are decided a second |
//! | `quota` | what one student may take, and has taken |
//! | `hint` | when those who are turned away should come back |
//!
//! Promises: whoever is let in is counted until the executor counts it off, whatever becomes of the caller; those who are
//! turned away cost no wait and no database.

mod hint;
mod line;
mod meter;
mod quota;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use matricula_kit::id::SagaId;

use self::hint::{HINT_MAX, HINT_MIN, Hints};
pub use self::line::InLine;
use self::line::Line;
pub(crate) use self::quota::Entry;
use self::quota::{OverQuota, Quota};
use crate::RuntimeConfig;

/// Decisions a second that a start reckons with until it has measured them: less than most machines do. A rush that comes
/// before the first measurement fills the queue by this; some are turned away for half a second who could have been let in,
/// and nobody is let in who would wait for long.
const RATE_ASSUMED: f64 = 700.0;

/// How one is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entered {
    /// It has a place from now on.
    New,
    /// It was let in before, durably, and is still open.
    Known {
        /// What it has become.
        id: SagaId,
        /// Whether it asked for the same.
        same_request: bool,
    },
}

/// The least part of `in_flight_max` that is put to work, however slow it goes: where one service takes long to answer, and
/// takes many at a time, fewer would be decided by it and none sooner.
const AT_WORK_LEAST_PART: usize = 4;
/// Beside those at work a quarter as many are let in at least: the rate is measured while some wait or are turned away, and
/// a bound by a rate that was too low would else keep everybody from waiting.
const WAITING_LEAST_PART: usize = 4;

/// Why one is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// There are too many. Come back after this time.
    Full(Duration),
    /// The student has too many. Come back after this time.
    OverQuota(Duration),
}

pub(crate) struct Gate {
    /// Sagas whose outcome is open: let in, or adopted.
    open: AtomicUsize,
    /// As many as may be open now: what can be decided in the time that one may wait.
    limit: AtomicUsize,
    /// As many as may be at work now.
    at_work: AtomicUsize,
    /// Sagas that the executor holds, those with a decided outcome too.
    in_memory: AtomicUsize,
    in_memory_max: usize,
    bounds: Bounds,
    inner: Mutex<Inner>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    open_max: usize,
    at_work_max: usize,
    wait_max: Duration,
    work_max: Duration,
}

struct Inner {
    line: Line,
    quota: Quota,
    hints: Hints,
}

impl Gate {
    pub(crate) fn new(config: &RuntimeConfig) -> Self {
        let bounds = Bounds {
            open_max: config.admission_queue_max,
            at_work_max: config.in_flight_max,
            wait_max: Duration::from_millis(config.admission_wait_max_ms),
            work_max: Duration::from_millis(config.in_flight_time_max_ms),
        };
        let inner = Inner { line: Line::new(config.in_flight_max), quota: Quota::new(config), hints: Hints::default() };
        Self {
            open: AtomicUsize::new(0),
            limit: AtomicUsize::new(bounds.limit(RATE_ASSUMED)),
            at_work: AtomicUsize::new(bounds.at_work(RATE_ASSUMED)),
            in_memory: AtomicUsize::new(0),
            in_memory_max: config.sagas_in_memory_max,
            bounds,
            inner: Mutex::new(inner),
        }
    }

    /// Lets one in and counts it, unless a bound is reached. The bounds of all come first and the student's own last: a
    /// submission that is rejected for want of room costs the student nothing.
    pub(crate) fn enter(&self, entry: Entry<'_>) -> Result<Entered, TurnedAway> {
        let mut inner = self.lock();
        if let Some((id, same_request)) = inner.quota.known(entry) {
            return Ok(Entered::Known { id, same_request });
        }
        let has_memory = self.in_memory.load(Ordering::Relaxed) < self.in_memory_max;
        let limit = self.limit.load(Ordering::Relaxed);
        let count = |open| (has_memory && open < limit).then_some(open + 1);
        if let Err(open) = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) {
            let now = Instant::now();
            if has_memory {
                inner.line.meter.turned_away(now);
            }
            // Nothing is known of when there is memory again: it is a service that is away.
            let rate = inner.line.meter.rate(now).filter(|_| has_memory);
            return Err(TurnedAway::Full(inner.hints.next(now, open, rate, rand::random())));
        }
        if let Err(over) = inner.quota.enter(entry) {
            // The place is given back. A token that the quota has taken could not be.
            self.leave(1);
            return Err(TurnedAway::OverQuota(self.quota_hint(&mut inner, over)));
        }
        Ok(Entered::New)
    }

    /// Takes what the log says to those who were let in: accepted ones wait in line, in this order; the others are not
    /// new, and [`Gate::leave`] counts them off.
    pub(crate) fn answered<'a>(&self, answers: impl Iterator<Item = (&'a SagaId, bool)>) {
        let (mut inner, now) = (self.lock(), Instant::now());
        for (id, is_accepted) in answers {
            if is_accepted {
                inner.quota.accepted(id);
                inner.line.join(id.clone(), false, now);
            } else {
                inner.quota.leave(id);
            }
        }
    }

    /// Counts sagas that come from another instance: they were let in there, so no bound holds them.
    pub(crate) fn adopted<'a>(&self, sagas: impl ExactSizeIterator<Item = &'a SagaId>) {
        self.open.fetch_add(sagas.len(), Ordering::Relaxed);
        let (mut inner, now) = (self.lock(), Instant::now());
        sagas.for_each(|id| inner.line.join(id.clone(), true, now));
    }

    /// The executor has taken it from the front of its queue.
    pub(crate) fn turn_of(&self, id: &SagaId) {
        self.lock().line.turn_of(id, Instant::now());
    }

    /// How many the executor may have at work now.
    pub(crate) fn at_work_limit(&self) -> usize {
        self.at_work.load(Ordering::Relaxed)
    }

    /// It has its outcome: counts it off.
    pub(crate) fn decided(&self, id: &SagaId) {
        let mut inner = self.lock();
        inner.line.decided(id, Instant::now());
        inner.quota.leave(id);
        let rate = inner.line.meter.capacity().unwrap_or(RATE_ASSUMED);
        self.limit.store(self.bounds.limit(rate), Ordering::Relaxed);
        self.at_work.store(self.bounds.at_work(rate), Ordering::Relaxed);
        self.leave(1);
    }

    /// It is given up before its outcome: counts it off.
    pub(crate) fn forgot(&self, id: &SagaId) {
        let mut inner = self.lock();
        inner.line.forgot(id);
        inner.quota.leave(id);
        self.leave(1);
    }

    /// Counts off what was never new.
    pub(crate) fn leave(&self, sagas: usize) {
        self.open.fetch_sub(sagas, Ordering::Relaxed);
    }

    pub(crate) fn set_in_memory(&self, sagas: usize) {
        self.in_memory.store(sagas, Ordering::Relaxed);
    }

    /// Where a saga stands in line; `None` when it is not open here.
    pub(crate) fn place(&self, id: &SagaId) -> Option<InLine> {
        self.lock().line.place(id, Instant::now())
    }

    /// Counts off one that was let in and never handed to the log.
    pub(crate) fn withdraw(&self, id: &SagaId) {
        self.lock().quota.leave(id);
        self.leave(1);
    }

    /// When one of the student's own is decided, or comes no faster than it may.
    fn quota_hint(&self, inner: &mut Inner, over: OverQuota) -> Duration {
        match over {
            OverQuota::Rate(wait) => wait.clamp(HINT_MIN, HINT_MAX),
            OverQuota::Open => {
                let (now, open) = (Instant::now(), self.open.load(Ordering::Relaxed));
                let rate = inner.line.meter.rate(now);
                hint::all_decided(open, rate)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What the lock holds is whole after each statement: a panic of one caller must not end all others.
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Bounds {
    /// As many as may be open, when so many are decided a second: what the time allows, but some more than may be at work, and
    /// never more than the fixed bound.
    fn limit(&self, rate: f64) -> usize {
        let in_time = (rate * self.wait_max.as_secs_f64()) as usize;
        let at_work = self.at_work(rate);
        in_time.max(at_work + at_work.div_ceil(WAITING_LEAST_PART)).min(self.open_max)
    }

    /// As many as may be at work, when so many are decided a second.
    fn at_work(&self, rate: f64) -> usize {
        let in_time = (rate * self.work_max.as_secs_f64()) as usize;
        in_time.clamp(self.at_work_max.div_ceil(AT_WORK_LEAST_PART), self.at_work_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(change: impl FnOnce(&mut RuntimeConfig)) -> Gate {
        // The default depends on the machine.
        let mut config = RuntimeConfig { in_flight_max: 1_024, ..RuntimeConfig::default() };
        change(&mut config);
        Gate::new(&config)
    }

    /// Lets one more of its own student in; its id.
    fn enter(gate: &Gate) -> Result<SagaId, TurnedAway> {
        let id = SagaId::generate();
        enter_as(gate, &id, id.as_str()).map(|_| id)
    }

    fn enter_as(gate: &Gate, id: &SagaId, subject: &str) -> Result<Entered, TurnedAway> {
        gate.enter(Entry { id, subject, key: id.as_str(), fingerprint: "" })
    }

    #[test]
    fn the_limit_is_what_can_be_decided_in_time() {
        let bounds = |open_max, at_work_max, wait_max_ms| Bounds {
            open_max,
            at_work_max,
            wait_max: Duration::from_millis(wait_max_ms),
            work_max: Duration::from_millis(1_125),
        };
        assert_eq!(bounds(20_000, 1_024, 1_500).limit(3_000.0), 4_500);
        assert_eq!(bounds(4_000, 1_024, 1_500).limit(3_000.0), 4_000, "never more than the fixed bound");
        assert_eq!(bounds(20_000, 1_024, 1_500).limit(10.0), 320, "as many as are at work at a time, and a quarter");
        assert_eq!([10.0, 400.0, 9_000.0].map(|rate| bounds(20_000, 1_024, 1_500).at_work(rate)), [256, 450, 1_024]);
        assert_eq!(bounds(20_000, 1, 1_500).at_work(10.0), 1);
        assert_eq!(bounds(16, 1_024, 1_500).limit(10.0), 16);
    }

    /// Else the rate would be measured no more, and a bound by a rate that was too low would stay.
    #[test]
    fn somebody_may_always_wait() {
        for (wait_max_ms, rate) in
            [10, 900, 60_000].into_iter().flat_map(|wait| [0.0, 50.0, 1e4].map(|rate| (wait, rate)))
        {
            for at_work_max in [1, 16, 1_024] {
                let wait_max = Duration::from_millis(wait_max_ms);
                let bounds = Bounds { open_max: usize::MAX, at_work_max, wait_max, work_max: wait_max.mul_f64(0.75) };
                let (limit, at_work) = (bounds.limit(rate), bounds.at_work(rate));
                assert!(limit > at_work, "{limit} are let in, and {at_work} are at work: {bounds:?}, {rate}/s");
            }
        }
    }

    #[test]
    fn who_is_turned_away_takes_nothing() {
        let gate = gate(|config| (config.admission_queue_max, config.subject_open_max) = (2, 1));
        let first = enter(&gate).expect("there is room");
        assert!(matches!(enter_as(&gate, &SagaId::generate(), first.as_str()), Err(TurnedAway::OverQuota(_))));
        let second = enter(&gate).expect("the quota of another takes no place");
        let turned_away = SagaId::generate();
        assert!(matches!(enter_as(&gate, &turned_away, "late"), Err(TurnedAway::Full(_))));
        gate.answered([(&first, true), (&second, false)].into_iter());
        gate.leave(1);
        enter_as(&gate, &turned_away, "late").expect("its quota was given back, and a place too");
        let again = Entry { id: &turned_away, subject: first.as_str(), key: first.as_str(), fingerprint: "" };
        let known = Entered::Known { id: first.clone(), same_request: true };
        assert_eq!(gate.enter(again), Ok(known), "whoever clicks again needs no place");
        assert_eq!(gate.place(&first).map(|place| place.ahead), Some(Some(0)));
        gate.turn_of(&first);
        gate.decided(&first);
        gate.withdraw(&turned_away);
        assert_eq!(gate.open.load(Ordering::Relaxed), 0);
        assert_eq!(gate.place(&first), None);
    }

    /// The allowance is only for what is let in: a student whose submissions found no room has all of it when there is room.
    #[test]
    fn what_finds_no_room_costs_no_token() {
        for (queue_max, memory_max) in [(1, 10), (10, 1)] {
            let gate = gate(|config| {
                (config.admission_queue_max, config.sagas_in_memory_max) = (queue_max, memory_max);
                (config.subject_per_second_max, config.subject_burst_max) = (1, 2);
            });
            let first = enter(&gate).expect("there is room");
            gate.set_in_memory(1);
            for _ in 0..20 {
                let full = enter_as(&gate, &SagaId::generate(), "eager");
                assert!(matches!(full, Err(TurnedAway::Full(_))), "{full:?}");
            }
            gate.set_in_memory(0);
            gate.decided(&first);
            let mine = SagaId::generate();
            assert_eq!(enter_as(&gate, &mine, "eager"), Ok(Entered::New), "the burst is whole");
            gate.decided(&mine);
            assert_eq!(enter_as(&gate, &SagaId::generate(), "eager"), Ok(Entered::New), "the burst is whole");
        }
    }

    /// What the quota rejects gives back the place that it had.
    #[test]
    fn what_is_over_the_quota_takes_no_place() {
        let gate = gate(|config| {
            (config.admission_queue_max, config.subject_open_max) = (2, 1);
        });
        let first = enter(&gate).expect("there is room");
        for _ in 0..20 {
            let over = enter_as(&gate, &SagaId::generate(), first.as_str());
            assert!(matches!(over, Err(TurnedAway::OverQuota(_))), "{over:?}");
        }
        assert_eq!(gate.open.load(Ordering::Relaxed), 1);
        enter(&gate).expect("there is room for another student");
    }

    #[test]
    fn memory_is_a_bound_of_its_own() {
        let gate = gate(|config| config.sagas_in_memory_max = 5);
        gate.set_in_memory(5);
        assert!(matches!(enter(&gate), Err(TurnedAway::Full(_))));
        gate.set_in_memory(4);
        assert!(enter(&gate).is_ok());
    }
}
