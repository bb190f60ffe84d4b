//! An account of all sagas of a rush: which ones wait, which ones are at work, and what follows from the rate for
//! slots, bounds, promised waits and the hints of rejected clients.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use matricula_core::{CoreConfig, Moment, SagaId};

use super::rate::Rate;

/// The rate that is planned with until one is measured.
const RATE_ASSUMED: f64 = 700.0;
const HINT_MAX: Duration = Duration::from_secs(10);
const HINT_MIN: Duration = Duration::from_millis(100);
const HINT_UNKNOWN: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_millis(2_500);

pub(super) struct Account {
    config: CoreConfig,
    rate: Rate,
    pub entering: usize,
    pub waiting: VecDeque<SagaId>,
    /// Since when, and whether its turn had come.
    pub at_work: HashMap<SagaId, (Moment, bool)>,
    /// Mean seconds from a turn to the outcome.
    work_s: Option<f64>,
    /// When the next rejected client may come.
    next: Moment,
}

impl Account {
    pub fn new(config: CoreConfig) -> Self {
        Self {
            rate: Rate::new(config.in_flight_max),
            config,
            entering: 0,
            waiting: VecDeque::new(),
            at_work: HashMap::new(),
            work_s: None,
            next: Moment::ZERO,
        }
    }

    pub fn open(&self) -> usize {
        self.entering + self.waiting.len() + self.at_work.len()
    }

    /// A client has come: none when it is let in, otherwise the range of its hint.
    pub fn submitted(&mut self, now: Moment) -> Option<RangeInclusive<Duration>> {
        if self.open() < self.open_max() {
            self.entering += 1;
            return None;
        }
        self.rate.rejected(now);
        Some(self.hint(now))
    }

    /// Each client comes one decision later than the one before, when all that are open are decided.
    fn hint(&mut self, now: Moment) -> RangeInclusive<Duration> {
        let Some(rate) = self.rate.now(now) else { return HINT_UNKNOWN };
        let room = Duration::from_secs_f64(self.open() as f64 / rate).min(HINT_MAX);
        let turn = self.next.max(now + room);
        let wait = turn - now;
        if wait >= HINT_MAX {
            return room.min(HINT_MAX / 2)..=HINT_MAX;
        }
        self.next = turn + Duration::from_secs_f64(1.0 / rate);
        wait.mul_f64(0.949).max(HINT_MIN)..=wait.mul_f64(1.051).max(HINT_MIN)
    }

    pub fn accepted(&mut self, saga: SagaId, now: Moment) {
        self.entering -= 1;
        self.waiting.push_back(saga);
        self.rate.set_waiting(now, true);
    }

    /// A cancelled saga that waits is at work before its turn.
    pub fn cancelled(&mut self, saga: SagaId, now: Moment) {
        let Some(place) = self.waiting.iter().position(|other| *other == saga) else { return };
        self.waiting.remove(place);
        self.at_work.insert(saga, (now, false));
        self.rate.set_waiting(now, !self.waiting.is_empty());
    }

    /// Its outcome is persisted.
    pub fn decided(&mut self, saga: SagaId, now: Moment) {
        let Some((since, had_turn)) = self.at_work.remove(&saga) else { return };
        self.rate.decided(now);
        if had_turn {
            let took = (now - since).as_secs_f64();
            self.work_s = Some(self.work_s.map_or(took, |mean| mean + (took - mean) / 32.0));
        }
    }

    /// Gives the free slots to those that have waited longest.
    pub fn fill_slots(&mut self, now: Moment) {
        while !self.waiting.is_empty() && self.at_work.len() < self.slots() {
            self.at_work.extend(self.waiting.pop_front().map(|saga| (saga, (now, true))));
            self.rate.set_waiting(now, !self.waiting.is_empty());
        }
        if self.waiting.is_empty() {
            self.rate.set_waiting(now, false);
        }
    }

    /// As many as are decided in the time that a saga may be at work, and a quarter of the bound at least.
    pub fn slots(&self) -> usize {
        let in_time = (self.planned() * self.config.in_flight_time_max_ms as f64 / 1_000.0) as usize;
        in_time.clamp(self.config.in_flight_max.div_ceil(4), self.config.in_flight_max)
    }

    /// As many as are decided in the time that a client may wait, and some more than are at work.
    pub fn open_max(&self) -> usize {
        let in_time = (self.planned() * self.config.admission_wait_max_ms as f64 / 1_000.0) as usize;
        in_time.max(self.slots() + self.slots().div_ceil(4)).min(self.config.admission_queue_max)
    }

    fn planned(&self) -> f64 {
        self.rate.capacity().unwrap_or(RATE_ASSUMED)
    }

    /// The wait of a saga with so many ahead of it.
    pub fn wait(&self, ahead: usize, now: Moment) -> Option<Duration> {
        let turn = Duration::try_from_secs_f64((ahead + 1) as f64 / self.rate.now(now)?).ok()?;
        Some(turn + Duration::from_secs_f64(self.work_s?))
    }

    /// How long it will go on with a saga that is at work.
    pub fn rest(&self, since: Moment, now: Moment) -> Option<Duration> {
        Some(Duration::from_secs_f64(self.work_s?).saturating_sub(now - since))
    }
}
