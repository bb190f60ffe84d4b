//! The slots: which sagas are at work, and how many may be.
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
//! Promises: acceptance goes first. While it is slower than its aim, fewer sagas are at work, down to a quarter. Adopted
//! sagas were accepted before all that wait in line, and go before them. Hash maps are never read in their own order.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::front::Front;
use crate::{CoreConfig, Moment, SagaId};

/// The smallest part of the slots that is always in use.
const LEAST_PART: usize = 4;
/// Acceptance that takes longer holds back the start of sagas: half of what is promised at most to one in a hundred.
const ACCEPTANCE_AIM: Duration = Duration::from_millis(125);
/// Time between two changes of the number of slots.
const CHANGE: Duration = Duration::from_millis(100);
/// Without an acceptance for so long its last latency says nothing.
const VOID: Duration = Duration::from_secs(1);
/// The part of the slots that stays after a slow acceptance, and the part of all that comes back after a fast one.
const FEWER: f64 = 0.5;
const MORE: f64 = 1.0 / 16.0;
/// Weight of the latest saga in the mean time of work: some dozens count.
const WORK_WEIGHT: f64 = 1.0 / 32.0;

/// The slots of one orchestrator.
#[derive(Debug)]
pub(crate) struct Slots {
    most: usize,
    taken: HashMap<SagaId, Slot>,
    /// Slots of sagas whose first event is not persisted yet.
    reserved: usize,
    /// Sagas that wait for a service that is away, or for another saga, and hold no slot meanwhile; since when they are at
    /// work.
    parked: HashMap<SagaId, Option<Moment>>,
    parked_max: usize,
    /// Adopted sagas without a slot. Their ids are in the order of acceptance, to within some milliseconds.
    waiting: BTreeSet<SagaId>,
    front: Front,
    pressure: Pressure,
    /// Mean time from a turn to the outcome, in seconds.
    work_s: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Its first event is on its way to the database.
    Reserved,
    /// None: it took its slot before its turn.
    AtWork { since: Option<Moment> },
}

impl Slots {
    pub(crate) fn new(config: &CoreConfig) -> Self {
        Self {
            most: config.in_flight_max,
            taken: HashMap::new(),
            reserved: 0,
            parked: HashMap::new(),
            parked_max: config.parked_max,
            waiting: BTreeSet::new(),
            front: Front::default(),
            pressure: Pressure::default(),
            work_s: None,
        }
    }

    /// How many sagas may begin now. None while an adopted one waits.
    pub(crate) fn free(&self, now: Moment) -> usize {
        let limit = if self.waiting.is_empty() { self.pressure.limit(self.most, now) } else { 0 };
        limit.saturating_sub(self.taken.len())
    }

    /// Keeps a slot for a saga that is about to begin.
    pub(crate) fn reserve(&mut self, id: SagaId) {
        self.take(id, Slot::Reserved);
    }

    /// Keeps a slot for a saga out of the line whose turn has come.
    pub(crate) fn claim(&mut self, id: SagaId, accepted_at_ms: i64) {
        self.reserve(id);
        self.front.enter(id, accepted_at_ms);
    }

    /// Other instances claim nothing that was accepted later than this, by the database's clock in milliseconds.
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

    /// A saga begins in the slot that was kept for it.
    pub(crate) fn begin(&mut self, id: SagaId, now: Moment) {
        self.take(id, Slot::AtWork { since: Some(now) });
    }

    /// A saga comes from another instance. If a slot was kept for it, it had begun there, and waits with the others.
    pub(crate) fn adopted(&mut self, id: SagaId) {
        if !self.parked.contains_key(&id) && !matches!(self.taken.get(&id), Some(Slot::AtWork { .. })) {
            self.give_back(id);
            self.front.leave(id);
            self.waiting.insert(id);
        }
    }

    /// The adopted saga that gets the next slot; none when no saga waits or all slots are taken.
    pub(crate) fn next_turn(&mut self, now: Moment) -> Option<SagaId> {
        if self.taken.len() >= self.pressure.limit(self.most, now) {
            return None;
        }
        let id = self.waiting.pop_first()?;
        self.begin(id, now);
        Some(id)
    }

    /// A saga takes a slot before its turn, whatever the limit is. False when it has one.
    pub(crate) fn begin_early(&mut self, id: SagaId) -> bool {
        let waited = self.waiting.remove(&id);
        if waited {
            self.take(id, Slot::AtWork { since: None });
        }
        waited
    }

    /// The next call of a saga at work can't leave for long: its slot is free for others, as long as not too many wait so.
    pub(crate) fn park(&mut self, id: SagaId) {
        if self.parked.len() < self.parked_max
            && let Some(&Slot::AtWork { since }) = self.taken.get(&id)
        {
            self.give_back(id);
            self.front.leave(id);
            self.parked.insert(id, since);
        }
    }

    /// A call of a saga leaves: it is at work again, whatever the limit is. It had its turn, so others wait.
    pub(crate) fn unpark(&mut self, id: SagaId) {
        if let Some(since) = self.parked.remove(&id) {
            self.take(id, Slot::AtWork { since });
        }
    }

    /// Sagas without a slot that had their turn.
    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// A saga at work has its outcome: it gives its slot back. More than once does no harm.
    pub(crate) fn decided(&mut self, id: SagaId, now: Moment) {
        self.parked.remove(&id);
        self.front.leave(id);
        if let Some(Slot::AtWork { since: Some(since) }) = self.give_back(id) {
            let took = now.saturating_sub(since).as_secs_f64();
            self.work_s = Some(self.work_s.map_or(took, |mean| mean + (took - mean) * WORK_WEIGHT));
        }
    }

    /// It does not begin after all, or this instance does not drive it any more.
    pub(crate) fn release(&mut self, id: SagaId) {
        self.give_back(id);
        self.front.leave(id);
        self.parked.remove(&id);
        self.waiting.remove(&id);
    }

    /// Whether it waits for a slot.
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

    /// A submission was accepted, so long after it came.
    pub(crate) fn accepted(&mut self, latency: Duration, now: Moment) {
        self.pressure.accepted(latency, now);
    }

    /// A submission has waited for so long to be written: it will be accepted late, if that is already too long.
    pub(crate) fn unwritten(&mut self, waited: Duration, now: Moment) {
        if waited > ACCEPTANCE_AIM {
            self.pressure.accepted(waited, now);
        }
    }

    /// Mean time from a turn to the outcome; none before the first.
    pub(crate) fn work(&self) -> Option<Duration> {
        self.work_s.and_then(|mean| Duration::try_from_secs_f64(mean).ok())
    }
}

/// How far acceptance holds back the start of sagas.
#[derive(Debug)]
struct Pressure {
    /// The part of the slots that may be taken.
    part: f64,
    changed_at: Moment,
    accepted_at: Option<Moment>,
}

impl Default for Pressure {
    fn default() -> Self {
        Self { part: 1.0, changed_at: Moment::ZERO, accepted_at: None }
    }
}

impl Pressure {
    fn limit(&self, most: usize, now: Moment) -> usize {
        let is_void = self.accepted_at.is_none_or(|at| at + VOID <= now);
        let limit = if is_void { most } else { (most as f64 * self.part) as usize };
        limit.clamp(most.div_ceil(LEAST_PART), most)
    }

    fn accepted(&mut self, latency: Duration, now: Moment) {
        if self.accepted_at.is_none_or(|at| at + VOID <= now) {
            self.part = 1.0;
        }
        self.accepted_at = Some(now);
        if self.changed_at + CHANGE <= now {
            self.changed_at = now;
            let part = if latency > ACCEPTANCE_AIM { self.part * FEWER } else { self.part + MORE };
            self.part = part.clamp(1.0 / LEAST_PART as f64, 1.0);
        }
    }
}

#[cfg(test)]
mod tests;
