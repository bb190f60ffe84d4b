//! The services as one instance sees them: which calls wait for each, what is in flight, and whether it answers.
//!
//! ```text
//! queue ──► a queue an RPC ──send──► in flight (at most `in_flight_max` RPCs) ──ended──► answers
//!                            ▲                │ a batch that is found invalid
//!                         breaker             └──► sent again in halves, one after the other
//! ```
//!
//! Calls that wait for the same RPC leave together when the limit has room. A call that somebody waits for has no
//! timer, so an idle destination is called at once, and a busy one gets large batches. Other calls gather for
//! [`GATHER_MAX`]. The RPC whose first call has waited longest goes next.
//!
//! Promises: each call that has left gets one answer, whatever happens, unless the instance stops. A timeout and a
//! wrong number of answers are errors like others. An operation that a service finds invalid spoils no other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{CallAnswer, CallError, CallWait, Code, Definitions, Direction, StepIndex, Wait};

use crate::lease::ClockReading;
use crate::{Call, CoreConfig, Moment, Notice, Rpc, RpcNo, SagaId};

/// A service that answers nothing for so long is away: sagas that wait for it give their slots to others. Longer than any
/// answer takes of a service that is only busy, and well within the second in which others are to be decided.
const AWAY_AFTER: Duration = Duration::from_millis(500);
/// How long a call that nobody waits for waits for others of its kind: so one call has the notifications of many
/// registrations, and with it one commit and one statement; to a student it is no time.
const GATHER_MAX: Duration = Duration::from_millis(50);

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    pub saga: SagaId,
    pub step: StepIndex,
    pub direction: Direction,
    pub attempt: u32,
    /// When its RPC left.
    pub started_at: Moment,
    pub answer: CallAnswer,
}

/// How a service answers, and what waits for it, for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DestinationStatus {
    /// The service.
    pub name: &'static str,
    /// Calls that wait.
    pub waiting: usize,
    /// How long the call has waited that waits longest; zero when none waits.
    pub longest_wait: Duration,
    /// RPCs in flight.
    pub in_flight: usize,
    /// The most RPCs at a time.
    pub in_flight_max: usize,
    /// "closed", "open" or "probing".
    pub breaker: &'static str,
    /// When an open breaker lets the next call through; none while that one is under way, or it is closed.
    pub probe_at_ms: Option<i64>,
    /// How the last RPC failed; empty when it did not.
    pub last_error: String,
    /// When the first RPC left that failed, or has no answer for long, without a success since; none while it answers.
    pub failing_since_ms: Option<i64>,
}

/// All services that the steps call.
#[derive(Debug)]
pub(crate) struct Destinations<R> {
    /// In the order of the tables of steps.
    all: Vec<Destination<R>>,
    /// RPCs so far.
    sent: u64,
    is_closed: bool,
}

impl<R: Clone> Destinations<R> {
    pub(crate) fn new(definitions: &Definitions, config: &CoreConfig) -> Self {
        let names = definitions.destinations().into_iter();
        Self { all: names.map(|name| Destination::new(name, config)).collect(), sent: 0, is_closed: false }
    }

    /// A call to a destination waits from now on for the RPC of this name.
    pub(crate) fn queue(
        &mut self,
        destination: &'static str,
        call: Call<R>,
        rpc: &'static str,
        may_gather: bool,
        now: Moment,
    ) {
        let found = self.all.iter_mut().find(|found| found.name == destination);
        if let Some(found) = found.filter(|_| !self.is_closed) {
            found.queue(call, rpc, may_gather, now);
        }
    }

    /// Whether a destination answers no calls, or an operator has parked them.
    pub(crate) fn is_away(&self, destination: &'static str) -> bool {
        self.all.iter().any(|found| found.name == destination && found.is_away)
    }

    /// Looks which services answer; the sagas whose calls wait for one that has just ceased to.
    pub(crate) fn left_waiting(&mut self, now: Moment) -> Vec<SagaId> {
        let mut waiting = Vec::new();
        for destination in &mut self.all {
            if destination.has_gone(now) {
                waiting.extend(destination.sagas());
            }
        }
        waiting
    }

    /// A call is not to be made any more, if it still waits: its saga does not wait for it. Returns whether it
    /// waited in a queue. Any other call ends with its batch; if the batch is sent again in halves, it is left out.
    pub(crate) fn withdraw(&mut self, saga: SagaId, step: StepIndex, direction: Direction) -> bool {
        let is_it = |call: &Call<R>| (call.saga, call.step, call.direction) == (saga, step, direction);
        let waiting = |queues: &[Queue<R>]| queues.iter().map(|queue| queue.calls.len()).sum::<usize>();
        let mut has_waited = false;
        for Destination { queues, in_flight, .. } in &mut self.all {
            in_flight.iter_mut().for_each(|batch| batch.withdraw(is_it));
            let before = waiting(queues);
            queues.iter_mut().for_each(|queue| queue.calls.retain(|queued| !is_it(&queued.call)));
            has_waited |= waiting(queues) < before;
        }
        has_waited
    }

    /// From now on at most so many RPCs to a destination are in flight; 0 parks its calls.
    pub(crate) fn set_limit(&mut self, destination: &str, in_flight_max: usize) {
        for found in self.all.iter_mut().filter(|found| found.name == destination) {
            found.in_flight_max = in_flight_max;
        }
    }

    /// The instance stops: it drops the calls that wait, and the next owners of their sagas make them. Nothing is sent
    /// any more, no half of a batch either. RPCs that are in flight may end.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        for destination in &mut self.all {
            destination.queues.clear();
            destination.in_flight.retain(|batch| batch.number.is_some());
        }
    }

    /// An RPC has ended. Returns the answers of its calls; none when the RPC is not known any more, and none yet while
    /// its batch is sent again in halves.
    pub(crate) fn ended(
        &mut self,
        number: RpcNo,
        answer: Result<Vec<CallAnswer>, CallError>,
        now: Moment,
        notices: &mut Vec<Notice>,
    ) -> Vec<Answered> {
        for destination in &mut self.all {
            if let Some(place) = destination.in_flight.iter().position(|batch| batch.number == Some(number)) {
                let has_ended = destination.in_flight[place].part_ended(destination.name, answer);
                if !has_ended && !self.is_closed {
                    return Vec::new();
                }
                let batch = destination.in_flight.remove(place);
                destination.batch_ended(&batch, now, notices);
                return batch.answered();
            }
        }
        Vec::new()
    }

    /// Takes the RPCs that may leave now, and notices which destinations have begun to fail or answer again. `clock` is
    /// read now.
    pub(crate) fn send(&mut self, clock: ClockReading, notices: &mut Vec<Notice>) -> Vec<Rpc<R>> {
        let mut rpcs = Vec::new();
        for destination in &mut self.all {
            destination.send(clock.now, &mut self.sent, &mut rpcs);
            destination.observe(clock, notices);
        }
        rpcs
    }

    /// When to send again though nothing has happened: calls have gathered, a breaker lets a probe through, or a
    /// service has been silent for too long.
    pub(crate) fn wake_at(&self, now: Moment) -> Option<Moment> {
        let wake_at = |destination: &Destination<R>| {
            destination.sends_at(now).into_iter().chain(destination.silent_at(now)).min()
        };
        self.all.iter().filter_map(wake_at).min()
    }

    /// RPCs that have not ended.
    pub(crate) fn in_flight(&self) -> usize {
        self.all.iter().map(|destination| destination.in_flight.len()).sum()
    }

    /// Of each destination, in the order of the table. `clock` is read now.
    pub(crate) fn statuses(&self, clock: ClockReading) -> Vec<DestinationStatus> {
        self.all.iter().map(|destination| destination.status(clock)).collect()
    }

    /// Where the calls of a saga are. `clock` is read now.
    pub(crate) fn waits_of(&self, saga: SagaId, clock: ClockReading) -> Vec<CallWait> {
        self.all.iter().flat_map(|destination| destination.waits_of(saga, clock)).collect()
    }
}

/// One service.
#[derive(Debug)]
struct Destination<R> {
    name: &'static str,
    /// The most calls in one RPC.
    batch_max: usize,
    call_timeout: Duration,
    /// How long it may answer no call until it counts as failing.
    silence_max: Duration,
    /// The most RPCs at a time; operators change it.
    in_flight_max: usize,
    /// A queue an RPC.
    queues: Vec<Queue<R>>,
    /// In the order in which they left.
    in_flight: Vec<Batch<R>>,
    breaker: Breaker,
    /// It answered no call when it was last looked at, or its calls were parked.
    is_away: bool,
    /// How the last RPC failed; empty when it did not.
    last_error: String,
    /// When the first RPC left that failed without a success since.
    failing_since: Option<Moment>,
    succeeded_at: Option<Moment>,
    /// When it began to fail, silence included, as it was first seen: by the database's clock, so that it stays when
    /// that clock is read again.
    failing_since_ms: Option<i64>,
}

impl<R: Clone> Destination<R> {
    fn new(name: &'static str, config: &CoreConfig) -> Self {
        let breaker = Breaker::new(
            config.breaker_failures,
            Duration::from_millis(config.breaker_open_ms),
            Duration::from_millis(config.breaker_open_max_ms),
        );
        Self {
            name,
            batch_max: config.call_batch_max,
            call_timeout: Duration::from_millis(config.call_timeout_ms),
            silence_max: Duration::from_millis(config.destination_attention_after_ms),
            in_flight_max: config.destination_in_flight_max,
            queues: Vec::new(),
            in_flight: Vec::new(),
            breaker,
            is_away: false,
            last_error: String::new(),
            failing_since: None,
            succeeded_at: None,
            failing_since_ms: None,
        }
    }

    /// Looks whether it answers; whether it has just ceased to. No timer is set for it: without other inputs no saga needs
    /// a slot.
    fn has_gone(&mut self, now: Moment) -> bool {
        let is_silent = self.oldest_unanswered().is_some_and(|at| at + AWAY_AFTER <= now);
        let is_away = is_silent || self.in_flight_max == 0 || self.breaker.name() != "closed";
        let was_away = std::mem::replace(&mut self.is_away, is_away);
        is_away && !was_away
    }

    /// The sagas whose calls are in flight to it, or wait for it.
    fn sagas(&self) -> impl Iterator<Item = SagaId> {
        let called = self.in_flight.iter().flat_map(|batch| batch.calls.iter());
        let waiting = self.queues.iter().flat_map(|queue| &queue.calls).map(|queued| &queued.call);
        called.chain(waiting).map(|call| call.saga)
    }

    fn queue(&mut self, call: Call<R>, rpc: &'static str, may_gather: bool, now: Moment) {
        let place = self.queues.iter().position(|queue| queue.rpc == rpc).unwrap_or_else(|| {
            self.queues.push(Queue::new(rpc));
            self.queues.len() - 1
        });
        self.queues[place].push(call, may_gather, now);
    }

    /// Takes the RPCs that may leave now. Halves keep the place of their batch in the limit, and ask no breaker: the
    /// service has answered.
    fn send(&mut self, now: Moment, sent: &mut u64, rpcs: &mut Vec<Rpc<R>>) {
        for batch in self.in_flight.iter_mut().filter(|batch| batch.number.is_none()) {
            rpcs.push(batch.send_part(self.name, sent));
        }
        while self.in_flight.len() < self.in_flight_max {
            // Of those that are ready, the one whose first call has waited longest, so that a single undo is not passed
            // over while a flood of other calls goes on.
            let ready = self.queues.iter_mut().filter(|queue| queue.is_ready(now));
            let Some(queue) = ready.min_by_key(|queue| queue.since()) else { return };
            let size = self.breaker.permit(now, self.batch_max);
            if size == 0 {
                return;
            }
            let mut batch = Batch::new(queue.rpc, queue.take(size), now);
            rpcs.push(batch.send_part(self.name, sent));
            self.in_flight.push(batch);
        }
    }

    /// When something may leave, where only time is missing.
    fn sends_at(&self, now: Moment) -> Option<Moment> {
        if self.in_flight.iter().any(|batch| batch.number.is_none()) {
            return Some(now);
        }
        if self.in_flight.len() >= self.in_flight_max {
            return None;
        }
        let ready_at = self.queues.iter().filter_map(Queue::ready_at).min()?;
        Some(ready_at.max(self.breaker.opens_at()?).max(now))
    }

    fn batch_ended(&mut self, batch: &Batch<R>, now: Moment, notices: &mut Vec<Notice>) {
        let (destination, before) = (self.name, self.breaker.name());
        let Some(error) = batch.failure() else {
            if before != "closed" {
                notices.push(Notice::BreakerClosed { destination });
            }
            self.breaker.succeeded();
            self.last_error.clear();
            self.failing_since = None;
            self.succeeded_at = Some(now);
            return;
        };
        // A batch that left before the last success says nothing about the time before that.
        let since = self.succeeded_at.map_or(batch.sent_at, |success| batch.sent_at.max(success));
        self.failing_since.get_or_insert(since);
        self.breaker.failed(now);
        self.last_error = error.to_string();
        notices.push(Notice::CallFailed { destination });
        if before == "closed" && self.breaker.name() == "open" {
            notices.push(Notice::BreakerOpened { destination, error: self.last_error.clone() });
        }
    }

    /// Notices whether it fails, and since when.
    fn observe(&mut self, clock: ClockReading, notices: &mut Vec<Notice>) {
        let silent = self.oldest_unanswered().filter(|at| clock.now.saturating_sub(*at) >= self.silence_max);
        let failing_since = self.failing_since.into_iter().chain(silent).min();
        if failing_since.is_some() != self.failing_since_ms.is_some() {
            self.failing_since_ms = failing_since.map(|since| clock.ms_at(since));
            notices.push(Notice::DestinationChanged { destination: self.name });
        }
    }

    /// When the oldest batch in flight left after which nothing has succeeded. A batch that left at the moment of the
    /// last success left after it.
    fn oldest_unanswered(&self) -> Option<Moment> {
        let sent = self.in_flight.iter().map(|batch| batch.sent_at);
        sent.filter(|at| self.succeeded_at.is_none_or(|success| *at >= success)).min()
    }

    /// When to look at a batch that hangs, where it may hang for longer than a service may be silent.
    fn silent_at(&self, now: Moment) -> Option<Moment> {
        if self.call_timeout <= self.silence_max {
            return None;
        }
        let at = self.oldest_unanswered()? + self.silence_max;
        (at > now).then_some(at)
    }

    fn probe_at_ms(&self, clock: ClockReading) -> Option<i64> {
        let opens_at = self.breaker.opens_at().filter(|_| self.breaker.name() != "closed");
        opens_at.map(|at| clock.ms_at(at.max(clock.now)))
    }

    fn status(&self, clock: ClockReading) -> DestinationStatus {
        let oldest = self.queues.iter().flat_map(|queue| &queue.calls).map(|queued| queued.since).min();
        DestinationStatus {
            name: self.name,
            waiting: self.queues.iter().map(|queue| queue.calls.len()).sum(),
            longest_wait: oldest.map_or(Duration::ZERO, |since| clock.now.saturating_sub(since)),
            in_flight: self.in_flight.len(),
            in_flight_max: self.in_flight_max,
            breaker: self.breaker.name(),
            probe_at_ms: self.failing_since_ms.and_then(|_| self.probe_at_ms(clock)),
            last_error: self.last_error.clone(),
            failing_since_ms: self.failing_since_ms,
        }
    }

    fn waits_of(&self, saga: SagaId, clock: ClockReading) -> Vec<CallWait> {
        let mut waits = Vec::new();
        let wait = |call: &Call<R>, wait: Wait| CallWait {
            step: call.step_name.to_owned(),
            direction: call.direction,
            wait,
            failing_since_ms: self.failing_since_ms,
            last_error: self.last_error.clone(),
        };
        for batch in &self.in_flight {
            let (since_ms, until_ms) = (clock.ms_at(batch.sent_at), clock.ms_at(batch.sent_at + self.call_timeout));
            let calls = batch.calls.iter().filter(|call| call.saga == saga);
            waits.extend(calls.map(|call| wait(call, Wait::Call { since_ms, until_ms })));
        }
        for queue in &self.queues {
            let places = queue.calls.iter().enumerate();
            for (ahead, queued) in places.filter(|(_, queued)| queued.call.saga == saga) {
                let (ahead, since_ms) = (ahead as u64, clock.ms_at(queued.since));
                let waits_for = if self.in_flight_max == 0 {
                    Wait::Limit { since_ms, ahead }
                } else if self.breaker.name() == "closed" {
                    Wait::Queue { since_ms, ahead }
                } else {
                    Wait::Breaker { since_ms, ahead, probe_at_ms: self.probe_at_ms(clock) }
                };
                waits.push(wait(&queued.call, waits_for));
            }
        }
        waits
    }
}

/// Calls that wait for one RPC, in the order of the ids of their sagas: that of acceptance, to within some milliseconds.
#[derive(Debug)]
struct Queue<R> {
    rpc: &'static str,
    /// From when on they may leave, all of them: the earliest moment that one of them asks for.
    ready_at: Moment,
    calls: VecDeque<Queued<R>>,
}

#[derive(Debug)]
struct Queued<R> {
    since: Moment,
    call: Call<R>,
}

impl<R> Queue<R> {
    fn new(rpc: &'static str) -> Self {
        Self { rpc, ready_at: Moment::ZERO, calls: VecDeque::new() }
    }

    fn push(&mut self, call: Call<R>, may_gather: bool, now: Moment) {
        let ready_at = if may_gather { now + GATHER_MAX } else { now };
        self.ready_at = if self.calls.is_empty() { ready_at } else { ready_at.min(self.ready_at) };
        // Mostly at the end: the later its turn was, the later it comes here.
        let place = self.calls.iter().rposition(|queued| queued.call.saga <= call.saga).map_or(0, |place| place + 1);
        self.calls.insert(place, Queued { since: now, call });
    }

    /// Takes the first of them.
    fn take(&mut self, size: usize) -> Arc<[Call<R>]> {
        let size = size.min(self.calls.len());
        self.calls.drain(..size).map(|queued| queued.call).collect()
    }

    fn is_ready(&self, now: Moment) -> bool {
        self.ready_at().is_some_and(|at| at <= now)
    }

    /// When they may leave; none when nothing waits.
    fn ready_at(&self) -> Option<Moment> {
        (!self.calls.is_empty()).then_some(self.ready_at)
    }

    /// Since when the first of them waits; none when nothing waits.
    fn since(&self) -> Option<Moment> {
        self.calls.front().map(|queued| queued.since)
    }
}

/// Calls that left together: as one RPC, or as the parts of a batch that was found invalid.
#[derive(Debug)]
struct Batch<R> {
    /// The RPC of the current part; none until the part has left.
    number: Option<RpcNo>,
    rpc: &'static str,
    /// When the first part left.
    sent_at: Moment,
    calls: Arc<[Call<R>]>,
    /// The current part, as places in `calls`.
    part: Vec<usize>,
    /// The parts after it; the next is the last here.
    rest: Vec<Vec<usize>>,
    /// The calls that are left out of all parts that leave from now on.
    withdrawn: Vec<usize>,
    /// Of each call, as far as they have come.
    answers: Vec<Option<CallAnswer>>,
    /// The service has answered some part. To find a single operation invalid is an answer.
    is_answered: bool,
    /// How a part failed.
    error: Option<CallError>,
}

impl<R: Clone> Batch<R> {
    fn new(rpc: &'static str, calls: Arc<[Call<R>]>, now: Moment) -> Self {
        Self {
            number: None,
            rpc,
            sent_at: now,
            part: (0..calls.len()).collect(),
            rest: Vec::new(),
            withdrawn: Vec::new(),
            answers: vec![None; calls.len()],
            is_answered: false,
            error: None,
            calls,
        }
    }

    /// The current part as an RPC that leaves now.
    fn send_part(&mut self, destination: &'static str, sent: &mut u64) -> Rpc<R> {
        *sent += 1;
        let number = RpcNo(*sent);
        self.number = Some(number);
        let is_whole = self.part.len() == self.calls.len();
        let calls = match is_whole {
            true => self.calls.clone(),
            false => self.part.iter().map(|place| self.calls[*place].clone()).collect(),
        };
        Rpc { number, destination, name: self.rpc, calls }
    }

    /// The current part has ended; true when it was the last one.
    fn part_ended(&mut self, destination: &str, answer: Result<Vec<CallAnswer>, CallError>) -> bool {
        self.number = None;
        let size = self.part.len();
        let answer = answer.and_then(|answers| {
            let is_complete = answers.len() == size;
            let problem = || format!("{destination} gave {} answers to {size} operations", answers.len());
            if is_complete { Ok(answers) } else { Err(CallError::new(Code::Internal, problem(), None)) }
        });
        match answer {
            Ok(answers) => {
                self.is_answered = true;
                for (place, answer) in self.part.drain(..).zip(answers) {
                    self.answers[place] = Some(answer);
                }
            }
            Err(error) if error.code == Code::InvalidArgument && size > 1 => {
                leave_out(&mut self.part, &self.withdrawn, &mut self.answers);
                // Of what is left in this part, two halves; nothing may be left, or one call.
                let second = self.part.split_off(self.part.len() / 2);
                self.rest.extend(Some(second).filter(|second| !second.is_empty()));
            }
            Err(error) => {
                for place in self.part.drain(..) {
                    self.answers[place] = Some(CallAnswer::Unknown(error.clone()));
                }
                self.is_answered |= error.code == Code::InvalidArgument;
                self.error = Some(error);
            }
        }
        if self.part.is_empty() {
            self.part = self.rest.pop().unwrap_or_default();
        }
        self.part.is_empty()
    }

    /// Leaves a call out of the parts after the current one, and of the halves of the current one if it is sent again.
    fn withdraw(&mut self, is_it: impl Fn(&Call<R>) -> bool) {
        let open = (0..self.calls.len()).filter(|place| self.answers[*place].is_none());
        self.withdrawn.extend(open.filter(|place| is_it(&self.calls[*place])));
        let Self { rest, withdrawn, answers, .. } = self;
        rest.iter_mut().for_each(|part| leave_out(part, withdrawn, answers));
        rest.retain(|part| !part.is_empty());
    }

    /// The error, when the service has answered no part.
    fn failure(&self) -> Option<&CallError> {
        self.error.as_ref().filter(|_| !self.is_answered)
    }

    /// The answers, in the order of the calls: of all of them when the last part has ended.
    fn answered(self) -> Vec<Answered> {
        let answered = |(call, answer): (&Call<R>, Option<CallAnswer>)| {
            let Call { saga, step, direction, attempt, .. } = *call;
            Some(Answered { saga, step, direction, attempt, started_at: self.sent_at, answer: answer? })
        };
        self.calls.iter().zip(self.answers).filter_map(answered).collect()
    }
}

/// Takes withdrawn calls out of a part that has not left.
fn leave_out(part: &mut Vec<usize>, withdrawn: &[usize], answers: &mut [Option<CallAnswer>]) {
    for place in part.extract_if(.., |place| withdrawn.contains(place)) {
        let error = CallError::new(Code::Cancelled, "the saga does not wait for it any more", None);
        answers[place] = Some(CallAnswer::Unknown(error));
    }
}

/// A circuit breaker: when calls to a destination may leave. While it is open they wait, and spend no attempts.
///
/// ```text
/// closed --failures in a row--> open --time--> probing --success--> closed
///                                 ^                |
///                                 +----failure-----+   (and the time doubles)
/// ```
#[derive(Debug)]
struct Breaker {
    failures_max: u32,
    open_first: Duration,
    open_max: Duration,
    state: BreakerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerState {
    Closed { failures: u32 },
    Open { until: Moment, for_next: Duration },
    Probing { for_next: Duration },
}

impl Breaker {
    fn new(failures_max: u32, open_first: Duration, open_max: Duration) -> Self {
        Self { failures_max, open_first, open_max, state: BreakerState::Closed { failures: 0 } }
    }

    /// How many calls may leave together now, of so many. When an open breaker has waited, one may: the probe.
    fn permit(&mut self, now: Moment, most: usize) -> usize {
        match self.state {
            BreakerState::Closed { .. } => most,
            BreakerState::Open { until, for_next } if until <= now => {
                self.state = BreakerState::Probing { for_next };
                1
            }
            BreakerState::Open { .. } | BreakerState::Probing { .. } => 0,
        }
    }

    /// When calls may leave, the past included; none before the probe has ended.
    fn opens_at(&self) -> Option<Moment> {
        match self.state {
            BreakerState::Closed { .. } => Some(Moment::ZERO),
            BreakerState::Open { until, .. } => Some(until),
            BreakerState::Probing { .. } => None,
        }
    }

    fn succeeded(&mut self) {
        self.state = BreakerState::Closed { failures: 0 };
    }

    fn failed(&mut self, now: Moment) {
        self.state = match self.state {
            BreakerState::Closed { failures } if failures + 1 < self.failures_max => {
                BreakerState::Closed { failures: failures + 1 }
            }
            BreakerState::Closed { .. } => self.open(now, self.open_first),
            BreakerState::Probing { for_next } => self.open(now, for_next),
            // A call that left before it opened.
            open @ BreakerState::Open { .. } => open,
        };
    }

    fn name(&self) -> &'static str {
        match self.state {
            BreakerState::Closed { .. } => "closed",
            BreakerState::Open { .. } => "open",
            BreakerState::Probing { .. } => "probing",
        }
    }

    fn open(&self, now: Moment, for_now: Duration) -> BreakerState {
        BreakerState::Open { until: now + for_now, for_next: (for_now * 2).min(self.open_max) }
    }
}

#[cfg(test)]
mod tests;
