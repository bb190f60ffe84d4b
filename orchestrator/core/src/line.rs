//! An instance's copy of the waiting line. The line itself is in the database, one for all instances. The copy is as
//! old as the last answer of the database.
//!
//! ```text
//! tickets   1 ───────── served ──────────────────────────────── last
//!           had their turn    │ next: read ahead │ not read here │
//!                             └─ claimed from the front, as slots become free
//! ```
//!
//! | type | one job |
//! |---|---|
//! | [`Line`] | the state of the line, the sagas that are next, and the claim in flight |
//! | [`TurnRate`] | how many turns come a second |
//! | [`LineView`] | what portals show of the line |
//!
//! Promises: sagas are claimed in the order of their tickets, and none is skipped, except one whose claim the database
//! refuses. A waiting saga takes no memory here until it is among the next to be claimed. The door here is only a hint:
//! the database checks the door again in each commit.
//!
//! If the database refuses a claim, the next claim has half as many sagas, down to one. If it refuses one saga alone,
//! that saga is set aside, and is retried alone every [`CLAIM_AGAIN`]. After a claim that succeeds, the next one may be
//! twice as large. If [`SET_ASIDE_MAX`] sagas are set aside, the database probably refuses every claim. Then only these
//! are retried, and the line stands still.

use std::collections::VecDeque;
use std::time::Duration;

use crate::front::NO_BOUND;
use crate::ready::{DoorState, LineState, QueuedSaga, StoreRequest};
use crate::{CoreConfig, Door, Moment, SagaId, Ticket};

/// The most sagas in one read of the line.
const READ_MAX: usize = 256;
/// Time between two reads of the line when no instance has reported a change.
const LOOK: Duration = Duration::from_secs(1);
/// A read that failed is tried again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Time to the next read of the line while the bound of another instance blocks the next claim. One batch of that
/// instance takes about this long.
const LOOK_AT_OTHERS: Duration = Duration::from_millis(25);
/// A saga whose claim the database refuses is tried again after this time.
const CLAIM_AGAIN: Duration = Duration::from_secs(5);
/// The most sagas that are set aside, so that a database that refuses every claim does not get one for the whole line.
const SET_ASIDE_MAX: usize = 8;

/// The rate is measured over this time: long enough to even out batches, short enough to follow the load.
const MEASURED: Duration = Duration::from_secs(3);
/// Time between two samples of the served ticket.
const SAMPLED: Duration = Duration::from_millis(100);
/// With less time or fewer turns the rate is unknown, because one batch more or less would change it too much.
const TIME_MIN: Duration = Duration::from_millis(500);
const TURNS_MIN: u64 = 20;
/// Without a turn for this time the line stands still. Its later rate is then measured anew.
const STANDSTILL: Duration = Duration::from_secs(1);

/// The line as portals show it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineView {
    /// The ticket whose turn has come last. The position of a saga in line is its ticket minus this one.
    pub served: Ticket,
    /// The ticket that was given last.
    pub last: Ticket,
    /// Turns in 1,000 seconds, at the rate of the last seconds of a line; none while it is unknown.
    pub turns_per_1000_s: Option<u64>,
    /// Mean time from a turn to the outcome; none while it is unknown.
    pub work: Option<Duration>,
    /// Whether registration is open.
    pub door: Door,
}

impl LineView {
    /// How many tickets are before this one; none if its turn has come.
    pub fn ahead(&self, ticket: Ticket) -> Option<u64> {
        ticket.0.checked_sub(self.served.0)?.checked_sub(1)
    }

    /// The expected time from now to the outcome; none while it is unknown, or if the turn of the ticket has come.
    pub fn expected_wait(&self, ticket: Ticket) -> Option<Duration> {
        let places = self.ahead(ticket)? + 1;
        let rate = self.turns_per_1000_s.filter(|rate| *rate > 0)? as f64 / 1_000.0;
        Some(Duration::try_from_secs_f64(places as f64 / rate).ok()? + self.work.unwrap_or_default())
    }
}

/// The copy of the line.
#[derive(Debug)]
pub(crate) struct Line<R> {
    waiting_max: u64,
    wait_max: Duration,
    state: LineState,
    /// The queued sagas that are next, in the order of their tickets, without a gap.
    next: VecDeque<QueuedSaga<R>>,
    /// All queued sagas up to this ticket were read.
    read_to: Ticket,
    is_reading: bool,
    look_at: Moment,
    /// Tickets of the claim in flight; empty without a claim.
    claiming: Vec<Ticket>,
    /// The most sagas in a claim.
    claim_max: usize,
    /// Sagas whose claim the database refuses, in the order in which they are tried again.
    set_aside: VecDeque<QueuedSaga<R>>,
    /// When the first of them is tried again.
    try_at: Moment,
    /// The ticket that the claim in flight follows.
    claims_after: Ticket,
    /// The claim in flight retries a saga that was set aside.
    is_retry: bool,
    turn_rate: TurnRate,
}

impl<R> Line<R> {
    pub(crate) fn new(config: &CoreConfig, now: Moment) -> Self {
        Self {
            waiting_max: config.admission_queue_max as u64,
            wait_max: Duration::from_millis(config.admission_wait_max_ms),
            state: LineState::default(),
            next: VecDeque::new(),
            read_to: Ticket::default(),
            is_reading: false,
            look_at: now,
            claiming: Vec::new(),
            claim_max: usize::MAX,
            set_aside: VecDeque::new(),
            try_at: Moment::ZERO,
            claims_after: Ticket::default(),
            is_retry: false,
            turn_rate: TurnRate::default(),
        }
    }

    /// How many sagas are in line. A ticket without a saga counts until the line is read up to it.
    pub(crate) fn waiting(&self) -> u64 {
        let is_read_out = self.next.is_empty() && self.set_aside.is_empty() && self.claiming.is_empty();
        let empty_to = if is_read_out { self.read_to } else { self.state.served };
        self.state.last.0.saturating_sub(empty_to.0)
    }

    /// Whether no saga is queued. Any remaining tickets belong to no saga.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.last <= self.read_to && self.next.is_empty() && self.set_aside.is_empty() && self.claiming.is_empty()
    }

    /// Whether a new saga may begin at once: the line is empty, and the door is open or does not apply.
    pub(crate) fn may_begin_at_once(&self, is_by_staff: bool) -> bool {
        self.is_empty() && (is_by_staff || self.state.door.state == DoorState::Open)
    }

    /// Whether the line is full: by number, or by the time that it takes at the last known rate. `coming` submissions
    /// that are to be queued count too.
    pub(crate) fn is_full(&self, coming: u64) -> bool {
        let waiting = self.waiting() + coming;
        waiting >= self.waiting_max
            || self.turn_rate.last_known.is_some_and(|rate| waiting as f64 / rate > self.wait_max.as_secs_f64())
    }

    /// Turns a second; none while the rate is unknown, and after a standstill.
    pub(crate) fn rate(&self, now: Moment) -> Option<f64> {
        self.turn_rate.rate(now)
    }

    /// Updates the copy from an answer of the database. Answers may arrive out of order.
    pub(crate) fn update(&mut self, state: LineState, now: Moment) {
        let had_line = self.waiting() > 0;
        // A bound from before the last claims does not contain the sagas of these claims.
        if state.served >= self.state.served {
            (self.state.served, self.state.claims_to_ms) = (state.served, state.claims_to_ms);
        }
        self.state.last = self.state.last.max(state.last).max(self.state.served);
        self.state.door = state.door;
        while self.next.pop_front_if(|saga| saga.ticket <= self.state.served).is_some() {}
        self.set_aside.retain(|saga| saga.ticket > self.state.served);
        self.read_to = self.read_to.max(self.state.served);
        self.turn_rate.sample(self.state.served, had_line, self.waiting() > 0, now);
    }

    /// Another instance has reported that there is a line now.
    pub(crate) fn wake(&mut self, now: Moment) {
        self.look_at = self.look_at.min(now);
    }

    /// The next read of the line, when it is due. Without a free slot it reads only the state.
    pub(crate) fn next_read(&mut self, free: usize, now: Moment) -> Option<StoreRequest> {
        let may_claim = self.state.door.state != DoorState::Paused && free > self.next.len();
        let has_more = self.state.last > self.read_to;
        if self.is_reading || !(now >= self.look_at || (may_claim && has_more)) {
            return None;
        }
        (self.is_reading, self.look_at) = (true, now + LOOK);
        Some(StoreRequest::ReadLine { after: self.read_to, limit: if may_claim { READ_MAX } else { 0 } })
    }

    /// Adds the sagas that were read after a ticket.
    pub(crate) fn read(
        &mut self,
        after: Ticket,
        limit: usize,
        state: LineState,
        sagas: Vec<QueuedSaga<R>>,
        now: Moment,
    ) {
        self.is_reading = false;
        if after > self.read_to {
            // Since this read was sent, a claim has reset `read_to` to an earlier ticket.
            return self.update(state, now);
        }
        let all_to = match sagas.last() {
            None if limit == 0 => after,
            Some(last) if sagas.len() >= limit => last.ticket,
            // The sagas are read after the state, so some may be newer than `state.last`.
            last => last.map_or(state.last, |last| state.last.max(last.ticket)),
        };
        let read_to = self.read_to;
        self.put_next(sagas.into_iter().filter(|saga| saga.ticket > read_to).collect());
        self.read_to = self.read_to.max(all_to);
        self.update(state, now);
    }

    pub(crate) fn read_failed(&mut self, now: Moment) {
        (self.is_reading, self.look_at) = (false, now + LOOK_AGAIN);
    }

    pub(crate) fn wake_at(&self) -> Option<Moment> {
        (!self.is_reading).then_some(self.look_at)
    }

    /// The sagas to claim now, at most as many as there are free slots, and the ticket that they follow. Sagas beyond
    /// the bound of another instance are not claimed (see [`front`](crate::front)).
    pub(crate) fn claim(&mut self, free: usize, now: Moment) -> Option<(Ticket, Vec<QueuedSaga<R>>)> {
        if !self.claiming.is_empty() || self.state.door.state == DoorState::Paused || free == 0 {
            return None;
        }
        let claims_to_ms = self.state.claims_to_ms.unwrap_or(NO_BOUND);
        let is_near = |saga: &QueuedSaga<R>| saga.accepted_at_ms <= claims_to_ms;
        let retries = now >= self.try_at && !self.set_aside.is_empty();
        if retries
            && let Some(at) = self.set_aside.iter().position(is_near)
            && let Some(saga) = self.set_aside.remove(at)
        {
            return Some(self.claims(vec![saga], true));
        }
        let may_claim = if self.set_aside.len() < SET_ASIDE_MAX { free.min(self.claim_max) } else { 0 };
        let ready = self.next.iter().take(may_claim).take_while(|saga| is_near(saga)).count();
        if ready == 0 {
            // The bound of another instance blocks the claim. (An empty line is read when it changes.)
            if retries || (may_claim > 0 && !self.next.is_empty()) {
                self.look_at = self.look_at.min(now + LOOK_AT_OTHERS);
            }
            return None;
        }
        let ready = self.next.drain(..ready).collect();
        Some(self.claims(ready, false))
    }

    fn claims(&mut self, sagas: Vec<QueuedSaga<R>>, is_retry: bool) -> (Ticket, Vec<QueuedSaga<R>>) {
        self.claiming = sagas.iter().map(|saga| saga.ticket).collect();
        (self.is_retry, self.claims_after) = (is_retry, self.state.served);
        (self.state.served, sagas)
    }

    /// The claim was answered. The state of the line came with the answer. A saga that was not claimed is next again,
    /// unless another instance has claimed it.
    pub(crate) fn claim_ended(&mut self, missed: Vec<QueuedSaga<R>>, has_claimed: bool, now: Moment) {
        self.claim_max = self.claim_max.saturating_mul(2);
        if std::mem::take(&mut self.is_retry) {
            self.try_at = now;
        }
        let has_missed = missed.iter().any(|saga| saga.ticket > self.state.served);
        self.claiming.clear();
        self.put_next(missed);
        // The claim followed the right ticket, so a saga that it has missed is not queued any more. The served ticket
        // does not show this if a saga that can't be claimed is before it. Therefore the line is read again.
        let is_right = has_claimed || self.claims_after == self.state.served;
        if is_right && has_missed && self.state.door.state != DoorState::Paused {
            self.next.clear();
            (self.read_to, self.look_at) = (self.state.served, now);
        }
    }

    /// The database refuses the claim. Returns the saga that is set aside, if the claim had only one.
    pub(crate) fn claim_refused(&mut self, mut missed: Vec<QueuedSaga<R>>, now: Moment) -> Option<SagaId> {
        self.is_retry = false;
        self.claiming.clear();
        if missed.len() > 1 {
            self.claim_max = missed.len() / 2;
            self.put_next(missed);
            return None;
        }
        self.try_at = now + CLAIM_AGAIN;
        let saga = missed.pop().filter(|saga| saga.ticket > self.state.served)?;
        let id = saga.id;
        self.set_aside.push_back(saga);
        Some(id)
    }

    /// Adds sagas to `next`, in the order of their tickets, each saga once. After the line is read again, the sagas may
    /// contain some that are set aside or in the claim in flight; these are skipped.
    fn put_next(&mut self, mut sagas: Vec<QueuedSaga<R>>) {
        sagas.retain(|saga| {
            saga.ticket > self.state.served
                && !self.claiming.contains(&saga.ticket)
                && self.set_aside.iter().all(|other| other.ticket != saga.ticket)
                && self.next.binary_search_by_key(&saga.ticket, |other| other.ticket).is_err()
        });
        self.next.extend(sagas);
        if !self.next.iter().is_sorted_by_key(|saga| saga.ticket) {
            self.next.make_contiguous().sort_by_key(|saga| saga.ticket);
        }
    }

    /// The line as portals show it.
    pub(crate) fn view(&self, work: Option<Duration>, now: Moment) -> LineView {
        let LineState { served, last, door, .. } = self.state.clone();
        let served = if self.is_empty() { last } else { served };
        let turns_per_1000_s = self.turn_rate.rate(now).map(|rate| (rate * 1_000.0) as u64);
        LineView { served, last, turns_per_1000_s, work, door }
    }
}

/// How many turns come a second while there is a line. Without a line the rate of turns is only the rate of
/// submissions, which does not show how fast a line would move.
#[derive(Debug, Default)]
struct TurnRate {
    /// Samples of the served ticket, the oldest first. There was a line from each sample to the next.
    samples: VecDeque<(Moment, Ticket)>,
    /// When the served ticket last changed.
    changed_at: Moment,
    /// The rate when the served ticket last changed. It is kept after the line, and during a standstill.
    last_known: Option<f64>,
}

impl TurnRate {
    fn sample(&mut self, served: Ticket, had_line: bool, has_line: bool, now: Moment) {
        if !had_line {
            self.samples.clear();
        }
        let is_old = |(at, _): &mut (Moment, Ticket)| *at + MEASURED < now;
        // One older sample stays, so that the samples cover all of the measured time.
        while self.samples.len() > 2 && self.samples.get_mut(1).is_some_and(is_old) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(at, _)| *at + SAMPLED <= now) && (had_line || has_line) {
            let has_changed = self.samples.back().is_some_and(|(_, before)| *before < served);
            if has_changed && self.changed_at + STANDSTILL < now {
                self.samples.clear();
            }
            self.samples.push_back((now, served));
            if has_changed {
                self.changed_at = now;
                self.last_known = self.rate(now).or(self.last_known);
            }
        }
    }

    fn rate(&self, now: Moment) -> Option<f64> {
        let ((since, first), (_, served)) = self.samples.front().copied().zip(self.samples.back().copied())?;
        let (time, turns) = (now.saturating_sub(since), served.0 - first.0);
        let is_known = time >= TIME_MIN && turns >= TURNS_MIN;
        if !is_known {
            // With too few samples, the rate of the previous line is the best estimate.
            return self.last_known.filter(|_| time < MEASURED);
        }
        Some(turns as f64 / time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
