//! The waiting line as one orchestrator knows it. The line itself is in the database, one for all instances; what is
//! known here is as old as the last answer.
//!
//! ```text
//! tickets   1 ───────── served ──────────────────────────────── last
//!           had their turn    │ next: read ahead │ not read here │
//!                             └─ claimed from the front, as slots become free
//! ```
//!
//! | type | one job |
//! |---|---|
//! | [`Line`] | what is known of the line, the sagas that are next, and the claim that is under way |
//! | [`Speed`] | how many turns come a second |
//! | [`LineView`] | what portals are told |
//!
//! Promises: sagas are claimed in the order of their tickets, and none is passed over, except one whose claim the
//! database refuses. A saga that waits costs nothing here until it is nearly its turn. The door is as the last answer
//! had it: the database has the last word.
//!
//! A claim that the database refuses is tried with half as many sagas, down to one. If the database refuses one saga
//! alone, that saga is set aside, and tried by itself from time to time. Each claim that succeeds is followed by one of
//! twice as many. If the database refuses several alone, it would refuse any, and the line stands until the next try.

use std::collections::VecDeque;
use std::time::Duration;

use crate::front::NO_BOUND;
use crate::ready::{DoorState, LineState, QueuedSaga, StoreRequest};
use crate::{CoreConfig, Door, Moment, SagaId, Ticket};

/// Sagas that one read of the line takes.
const READ_MAX: usize = 256;
/// Time between two reads of the line when nobody says that it has changed.
const LOOK: Duration = Duration::from_secs(1);
/// A read that failed is tried again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Time to the next read of the line while its front must wait for what other instances have at work: a batch of theirs
/// takes about as long.
const LOOK_AT_OTHERS: Duration = Duration::from_millis(25);
/// A saga whose claim the database refuses is tried again after this time.
const CLAIM_AGAIN: Duration = Duration::from_secs(5);
/// Sagas that are set aside at most, so that a database that refuses any claim is not asked about the whole line.
const SET_ASIDE_MAX: usize = 8;

/// The rate is that of the turns in this time: batches even out, and a change of the load is seen soon.
const MEASURED: Duration = Duration::from_secs(3);
/// Between two samples of it.
const SAMPLED: Duration = Duration::from_millis(100);
/// With less time or fewer turns the rate is not known: one batch more or less would make all the difference.
const TIME_MIN: Duration = Duration::from_millis(500);
const TURNS_MIN: u64 = 20;
/// Without a turn for so long the line stands still. That says nothing about how fast it moves when it goes on.
const STANDSTILL: Duration = Duration::from_secs(1);

/// The line as portals are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineView {
    /// The ticket whose turn has come last: a place in line is a ticket minus this one.
    pub served: Ticket,
    /// The ticket that was given last.
    pub last: Ticket,
    /// Turns a thousand seconds, as fast as they came in the last seconds of a line; none while that is not known.
    pub turns_per_1000_s: Option<u64>,
    /// Mean time from a turn to the outcome; none while that is not known.
    pub work: Option<Duration>,
    /// Whether registration is open.
    pub door: Door,
}

impl LineView {
    /// How many have their turn before this ticket's; none when it has had its own.
    pub fn ahead(&self, ticket: Ticket) -> Option<u64> {
        ticket.0.checked_sub(self.served.0)?.checked_sub(1)
    }

    /// How long a ticket takes to its outcome; none while that is not known, or when its turn has come.
    pub fn expected_wait(&self, ticket: Ticket) -> Option<Duration> {
        let places = self.ahead(ticket)? + 1;
        let rate = self.turns_per_1000_s.filter(|rate| *rate > 0)? as f64 / 1_000.0;
        Some(Duration::try_from_secs_f64(places as f64 / rate).ok()? + self.work.unwrap_or_default())
    }
}

/// What an instance knows of the line.
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
    /// Tickets of the claim that is under way; none without a claim.
    claiming: Vec<Ticket>,
    /// Sagas in a claim at most.
    claim_max: usize,
    /// Sagas whose claim the database refuses, in the order in which they are tried again.
    set_aside: VecDeque<QueuedSaga<R>>,
    /// When the first of them is tried again.
    try_at: Moment,
    /// The ticket that the claim under way follows, and whether it tries again what was set aside.
    claims_after: Ticket,
    is_retry: bool,
    speed: Speed,
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
            speed: Speed::default(),
        }
    }

    /// How many are in line, as far as it is known. Tickets that belong to no saga count until that is read.
    pub(crate) fn waiting(&self) -> u64 {
        let is_read_out = self.next.is_empty() && self.set_aside.is_empty() && self.claiming.is_empty();
        let empty_to = if is_read_out { self.read_to } else { self.state.served };
        self.state.last.0.saturating_sub(empty_to.0)
    }

    /// Whether no saga is queued, as far as it is known. The tickets that are left then belong to no saga.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.last <= self.read_to && self.next.is_empty() && self.set_aside.is_empty() && self.claiming.is_empty()
    }

    /// Whether a saga that begins now goes past nobody who is known of.
    pub(crate) fn lets_through(&self, is_by_staff: bool) -> bool {
        self.is_empty() && (is_by_staff || self.state.door.state == DoorState::Open)
    }

    /// Whether it is as long as it may be: by number, or by the time at the last rate at which turns came.
    /// Those that are on their way into it count.
    pub(crate) fn is_full(&self, coming: u64) -> bool {
        let waiting = self.waiting() + coming;
        waiting >= self.waiting_max
            || self.speed.last.is_some_and(|rate| waiting as f64 / rate > self.wait_max.as_secs_f64())
    }

    /// Turns a second now; none while that is not known, and when no turn comes any more.
    pub(crate) fn rate(&self, now: Moment) -> Option<f64> {
        self.speed.rate(now)
    }

    /// Takes in the state of the line, by an answer of the database. Answers may come in another order than the
    /// database gave them.
    pub(crate) fn seen(&mut self, state: LineState, now: Moment) {
        let had_line = self.waiting() > 0;
        // A bound of before the last claims says nothing of what those have at work.
        if state.served >= self.state.served {
            (self.state.served, self.state.claims_to_ms) = (state.served, state.claims_to_ms);
        }
        self.state.last = self.state.last.max(state.last).max(self.state.served);
        self.state.door = state.door;
        while self.next.pop_front_if(|saga| saga.ticket <= self.state.served).is_some() {}
        self.set_aside.retain(|saga| saga.ticket > self.state.served);
        self.read_to = self.read_to.max(self.state.served);
        self.speed.seen(self.state.served, had_line, self.waiting() > 0, now);
    }

    /// Another instance says that there is a line now.
    pub(crate) fn wake(&mut self, now: Moment) {
        self.look_at = self.look_at.min(now);
    }

    /// What to read now, with so many slots free.
    pub(crate) fn ask(&mut self, free: usize, now: Moment) -> Option<StoreRequest> {
        let may_claim = self.state.door.state != DoorState::Paused && free > self.next.len();
        let has_more = self.state.last > self.read_to;
        if self.is_reading || !(now >= self.look_at || (may_claim && has_more)) {
            return None;
        }
        (self.is_reading, self.look_at) = (true, now + LOOK);
        Some(StoreRequest::ReadLine { after: self.read_to, limit: if may_claim { READ_MAX } else { 0 } })
    }

    /// Takes in what was read behind a ticket.
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
            // Meanwhile the line is to be read again from an earlier ticket.
            return self.seen(state, now);
        }
        let all_to = match sagas.last() {
            None if limit == 0 => after,
            Some(last) if sagas.len() >= limit => last.ticket,
            // The sagas are read after the state: some may have come since.
            last => last.map_or(state.last, |last| state.last.max(last.ticket)),
        };
        let read_to = self.read_to;
        self.put_next(sagas.into_iter().filter(|saga| saga.ticket > read_to).collect());
        self.read_to = self.read_to.max(all_to);
        self.seen(state, now);
    }

    pub(crate) fn read_failed(&mut self, now: Moment) {
        (self.is_reading, self.look_at) = (false, now + LOOK_AGAIN);
    }

    pub(crate) fn wake_at(&self) -> Option<Moment> {
        (!self.is_reading).then_some(self.look_at)
    }

    /// The sagas whose turn it is, as many as there are free slots, and the ticket that they follow. None that was
    /// accepted too long after something that another instance has at work.
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
            // An empty line is read when it changes.
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

    /// The claim was answered, and the state of the line with it. What it has missed is next again, unless its turn has
    /// come elsewhere.
    pub(crate) fn claim_ended(&mut self, missed: Vec<QueuedSaga<R>>, has_claimed: bool, now: Moment) {
        self.claim_max = self.claim_max.saturating_mul(2);
        if std::mem::take(&mut self.is_retry) {
            self.try_at = now;
        }
        let has_missed = missed.iter().any(|saga| saga.ticket > self.state.served);
        self.claiming.clear();
        self.put_next(missed);
        // The claim has followed the right ticket, so what it has missed is queued no more. A saga before that, which
        // can't be claimed, keeps the served ticket from saying so.
        let is_right = has_claimed || self.claims_after == self.state.served;
        if is_right && has_missed && self.state.door.state != DoorState::Paused {
            self.next.clear();
            (self.read_to, self.look_at) = (self.state.served, now);
        }
    }

    /// The database refuses the claim. The saga that is set aside, if the claim had only one.
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

    /// Puts sagas among those that are next, in the order of their tickets, and each saga once. A saga that is set
    /// aside or in the claim under way is not next: the line may have been read again from a ticket before it.
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

    /// What portals are told.
    pub(crate) fn view(&self, work: Option<Duration>, now: Moment) -> LineView {
        let LineState { served, last, door, .. } = self.state.clone();
        let served = if self.is_empty() { last } else { served };
        let turns_per_1000_s = self.speed.rate(now).map(|rate| (rate * 1_000.0) as u64);
        LineView { served, last, turns_per_1000_s, work, door }
    }
}

/// How many turns come a second while there is a line. Without a line turns come as fast as clicks, which says nothing
/// about how long a line would take.
#[derive(Debug, Default)]
struct Speed {
    /// The oldest first; each was seen while there was a line since the one before.
    samples: VecDeque<(Moment, Ticket)>,
    /// When the last turn was seen.
    moved_at: Moment,
    /// The rate when a turn last came: it outlives the line, and a standstill.
    last: Option<f64>,
}

impl Speed {
    fn seen(&mut self, served: Ticket, had_line: bool, has_line: bool, now: Moment) {
        if !had_line {
            self.samples.clear();
        }
        let is_old = |(at, _): &mut (Moment, Ticket)| *at + MEASURED < now;
        // One that is older stays, so that the samples cover all of the time.
        while self.samples.len() > 2 && self.samples.get_mut(1).is_some_and(is_old) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(at, _)| *at + SAMPLED <= now) && (had_line || has_line) {
            let has_moved = self.samples.back().is_some_and(|(_, before)| *before < served);
            if has_moved && self.moved_at + STANDSTILL < now {
                self.samples.clear();
            }
            self.samples.push_back((now, served));
            if has_moved {
                self.moved_at = now;
                self.last = self.rate(now).or(self.last);
            }
        }
    }

    fn rate(&self, now: Moment) -> Option<f64> {
        let ((since, first), (_, served)) = self.samples.front().copied().zip(self.samples.back().copied())?;
        let (time, turns) = (now.saturating_sub(since), served.0 - first.0);
        let is_known = time >= TIME_MIN && turns >= TURNS_MIN;
        if !is_known {
            // Before enough is seen of this line, the one before says most.
            return self.last.filter(|_| time < MEASURED);
        }
        Some(turns as f64 / time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
