//! The slots: which sagas are at work, and how many may be at work.
//!
//! ```text
//!  adopted ──► waits, oldest first ──next_turn──┐
//!  admitted or claimed ──reserve──► reserved ───┴begin──► at work ──decided──► free
//! ```
//!
//! ```text
//!  at work ──its service is away──► parked ──its call leaves──► at work
//! ```
//!
//! Promises: acceptance has priority. While submissions are accepted too slowly, fewer slots may be taken, down to a
//! quarter. Adopted sagas were accepted before all sagas in line, and get slots first. Hash maps are never iterated in
//! their own order.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::front::Front;
use crate::{CoreConfig, Moment, SagaId};

/// At least one slot in this many may always be taken.
const LEAST_ONE_IN: usize = 4;
/// If an acceptance takes longer, fewer slots may be taken. It is half of the promised 99th percentile (ADR 0023).
const ACCEPTANCE_AIM: Duration = Duration::from_millis(125);
/// Time between two changes of the number of slots.
const ADJUST_EVERY: Duration = Duration::from_millis(100);
/// The latency of an acceptance is out of date after this time without another one.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// A slow acceptance multiplies the usable part of the slots by `DECREASE`; a fast one adds `INCREASE` of all slots.
/// (Additive increase and multiplicative decrease, as in TCP.)
const DECREASE: f64 = 0.5;
const INCREASE: f64 = 1.0 / 16.0;
/// Weight of the latest saga in the exponential moving average of the working time.
const WORK_WEIGHT: f64 = 1.0 / 32.0;

/// The slots of one orchestrator.
#[derive(Debug)]
pub(crate) struct Slots {
    slots_max: usize,
    taken: HashMap<SagaId, Slot>,
    /// How many of the taken slots are reserved.
    reserved: usize,
    /// Sagas that wait for a service that is away, or for another saga, and hold no slot meanwhile. The value is that
    /// of [`Slot::AtWork`].
    parked: HashMap<SagaId, Option<Moment>>,
    parked_max: usize,
    /// Adopted sagas without a slot. Their ids are in the order of acceptance, to within some milliseconds.
    waiting: BTreeSet<SagaId>,
    front: Front,
    limiter: SlotLimiter,
    /// Mean time from a turn to the outcome, in seconds.
    work_s: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// The saga's first event is in a commit that is not answered.
    Reserved,
    /// The saga began at `since`; none if it took its slot before its turn, so that it does not count for the mean.
    AtWork { since: Option<Moment> },
}

impl Slots {
    pub(crate) fn new(config: &CoreConfig) -> Self {
        Self {
            slots_max: config.in_flight_max,
            taken: HashMap::new(),
            reserved: 0,
            parked: HashMap::new(),
            parked_max: config.parked_max,
            waiting: BTreeSet::new(),
            front: Front::default(),
            limiter: SlotLimiter::default(),
            work_s: None,
        }
    }

    /// How many sagas may begin now; 0 while an adopted saga waits for a slot.
    pub(crate) fn free(&self, now: Moment) -> usize {
        let limit = if self.waiting.is_empty() { self.limiter.limit(self.slots_max, now) } else { 0 };
        limit.saturating_sub(self.taken.len())
    }

    /// Reserves a slot for a saga that is about to begin.
    pub(crate) fn reserve(&mut self, id: SagaId) {
        self.take(id, Slot::Reserved);
    }

    /// Reserves a slot for a saga in line whose turn has come.
    pub(crate) fn claim(&mut self, id: SagaId, accepted_at_ms: i64) {
        self.reserve(id);
        self.front.enter(id, accepted_at_ms);
    }

    /// Other instances claim no saga that was accepted later than this, by the database's clock in milliseconds.
    pub(crate) fn others_claim_to_ms(&self) -> i64 {
        self.front.others_claim_to_ms()
    }

    fn take(&mut self, id: SagaId, slot: Slot) {
        self.reserved += usize::from(slot == Slot::Reserved);
        let before = self.taken.insert(id, slot);
        self.reserved -= usize::from(before == Some(Slot::Reserved));
    }

    fn give_back(&mut self, id: SagaId) -> Option<Slot> {
        let before = self.taken.remove(&id);
        self.reserved -= usize::from(before == Some(Slot::Reserved));
        before
    }

    /// A saga begins in its reserved slot.
    pub(crate) fn begin(&mut self, id: SagaId, now: Moment) {
        self.take(id, Slot::AtWork { since: Some(now) });
    }

    /// An adopted saga waits for a slot. If a slot was reserved for it here, the saga had already begun at the other
    /// instance: it loses the reservation.
    pub(crate) fn adopted(&mut self, id: SagaId) {
        if !self.parked.contains_key(&id) && !matches!(self.taken.get(&id), Some(Slot::AtWork { .. })) {
            self.give_back(id);
            self.front.leave(id);
            self.waiting.insert(id);
        }
    }

    /// The adopted saga that gets the next slot; none when no saga waits or all slots are taken.
    pub(crate) fn next_turn(&mut self, now: Moment) -> Option<SagaId> {
        if self.taken.len() >= self.limiter.limit(self.slots_max, now) {
            return None;
        }
        let id = self.waiting.pop_first()?;
        self.begin(id, now);
        Some(id)
    }

    /// A waiting adopted saga takes a slot before its turn, regardless of the limit. Returns false if it did not wait.
    pub(crate) fn begin_early(&mut self, id: SagaId) -> bool {
        let waited = self.waiting.remove(&id);
        if waited {
            self.take(id, Slot::AtWork { since: None });
        }
        waited
    }

    /// The next call of a saga at work can't leave for long: the saga gives up its slot, unless too many are parked.
    pub(crate) fn park(&mut self, id: SagaId) {
        if self.parked.len() < self.parked_max
            && let Some(&Slot::AtWork { since }) = self.taken.get(&id)
        {
            self.give_back(id);
            self.front.leave(id);
            self.parked.insert(id, since);
        }
    }

    /// A call of a parked saga leaves: the saga is at work again, regardless of the limit, because it has had its turn.
    pub(crate) fn unpark(&mut self, id: SagaId) {
        if let Some(since) = self.parked.remove(&id) {
            self.take(id, Slot::AtWork { since });
        }
    }

    /// Sagas that have begun and hold no slot.
    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// A saga has its outcome and gives its slot back. Does nothing if it has none.
    pub(crate) fn decided(&mut self, id: SagaId, now: Moment) {
        self.parked.remove(&id);
        self.front.leave(id);
        if let Some(Slot::AtWork { since: Some(since) }) = self.give_back(id) {
            let took = now.saturating_sub(since).as_secs_f64();
            self.work_s = Some(self.work_s.map_or(took, |mean| mean + (took - mean) * WORK_WEIGHT));
        }
    }

    /// The saga does not begin after all, or this instance does not drive it any more.
    pub(crate) fn release(&mut self, id: SagaId) {
        self.give_back(id);
        self.front.leave(id);
        self.parked.remove(&id);
        self.waiting.remove(&id);
    }

    /// Whether it is adopted and waits for a slot.
    pub(crate) fn is_waiting(&self, id: SagaId) -> bool {
        self.waiting.contains(&id)
    }

    /// Adopted sagas that wait for a slot.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Adopted sagas that get a slot before this one.
    pub(crate) fn ahead(&self, id: SagaId) -> u64 {
        self.waiting.range(..id).count() as u64
    }

    /// Sagas with a slot whose first event is not persisted yet.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// A submission was accepted `latency` after its arrival.
    pub(crate) fn accepted(&mut self, latency: Duration, now: Moment) {
        self.limiter.accepted(latency, now);
    }

    /// A submission has already waited for `waited` to be written. If that is too long, it counts as a slow acceptance.
    pub(crate) fn unwritten(&mut self, waited: Duration, now: Moment) {
        if waited > ACCEPTANCE_AIM {
            self.limiter.accepted(waited, now);
        }
    }

    /// Mean time from a turn to the outcome; none before the first.
    pub(crate) fn mean_work(&self) -> Option<Duration> {
        self.work_s.and_then(|mean| Duration::try_from_secs_f64(mean).ok())
    }
}

/// Limits the slots that may be taken by the latency of acceptance.
#[derive(Debug)]
struct SlotLimiter {
    /// The part of the slots that may be taken.
    usable: f64,
    changed_at: Moment,
    accepted_at: Option<Moment>,
}

impl Default for SlotLimiter {
    fn default() -> Self {
        Self { usable: 1.0, changed_at: Moment::ZERO, accepted_at: None }
    }
}

impl SlotLimiter {
    fn limit(&self, slots_max: usize, now: Moment) -> usize {
        let is_stale = self.accepted_at.is_none_or(|at| at + STALE_AFTER <= now);
        let limit = if is_stale { slots_max } else { (slots_max as f64 * self.usable) as usize };
        limit.clamp(slots_max.div_ceil(LEAST_ONE_IN), slots_max)
    }

    fn accepted(&mut self, latency: Duration, now: Moment) {
        if self.accepted_at.is_none_or(|at| at + STALE_AFTER <= now) {
            self.usable = 1.0;
        }
        self.accepted_at = Some(now);
        if self.changed_at + ADJUST_EVERY <= now {
            self.changed_at = now;
            let part = if latency > ACCEPTANCE_AIM { self.usable * DECREASE } else { self.usable + INCREASE };
            self.usable = part.clamp(1.0 / LEAST_ONE_IN as f64, 1.0);
        }
    }
}

#[cfg(test)]
mod tests;
