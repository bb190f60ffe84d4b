//! The services as one instance sees them: for each, the queued calls, the RPCs in flight, and whether it answers.
//!
//! ```text
//! queue ──► one queue for each RPC name ──send──► in flight (at most `in_flight_max`) ──ended──► answers
//!                                         ▲                │ a batch that the service rejects as invalid
//!                                      breaker             └──► sent again in halves, one after the other
//! ```
//!
//! Calls of the same RPC leave together when the limit has room. There is usually no timer: an idle destination is
//! called at once, and a busy one gets large batches. Only calls that no client waits for gather for [`GATHER_MAX`].
//! Among the queues, the one whose first call has waited longest goes next.
//!
//! Promises: each call that has left gets exactly one answer, unless the instance stops. A timeout and a wrong number
//! of answers are errors. An operation that a service rejects as invalid does not affect the other calls of its batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{CallAnswer, CallError, CallWait, Code, Definitions, Direction, StepIndex, Wait};

use crate::lease::ClockReading;
use crate::{Call, CoreConfig, Moment, Notice, Rpc, RpcNo, SagaId};

/// A service without an answer for this time is away: sagas that wait for it give up their slots. A busy service
/// answers sooner, and other sagas must be decided within a second.
const AWAY_AFTER: Duration = Duration::from_millis(500);
/// How long a call that no client waits for is delayed until it shares an RPC with calls of its kind. Then one commit
/// of the service has the notifications of many registrations. A student does not notice the delay.
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

/// The status of a service, for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DestinationStatus {
    /// The service.
    pub name: &'static str,
    /// Queued calls.
    pub waiting: usize,
    /// How long the oldest queued call has waited; zero without one.
    pub longest_wait: Duration,
    /// RPCs in flight.
    pub in_flight: usize,
    /// The most RPCs at a time.
    pub in_flight_max: usize,
    /// "closed", "open" or "probing".
    pub breaker: &'static str,
    /// When an open breaker lets the next call through; none while that call is in flight, or if the breaker is closed.
    pub probe_at_ms: Option<i64>,
    /// The error of the last RPC; empty if it succeeded.
    pub last_error: String,
    /// When the service began to fail: when the first RPC left that has failed or is long unanswered, without a success
    /// since. None while the service answers.
    pub failing_since_ms: Option<i64>,
}

/// All services that the steps call.
#[derive(Debug)]
pub(crate) struct Destinations<R> {
    /// In the order of the tables of steps.
    all: Vec<Destination<R>>,
    /// How many RPCs were sent, for their numbers.
    sent: u64,
    is_closed: bool,
}

impl<R: Clone> Destinations<R> {
    pub(crate) fn new(definitions: &Definitions, config: &CoreConfig) -> Self {
        let names = definitions.destinations().into_iter();
        Self { all: names.map(|name| Destination::new(name, config)).collect(), sent: 0, is_closed: false }
    }

    /// Queues a call for the RPC of this name.
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

    /// Whether a destination does not answer, or an operator has parked its calls.
    pub(crate) fn is_away(&self, destination: &'static str) -> bool {
        self.all.iter().any(|found| found.name == destination && found.is_away)
    }

    /// Updates which services are away. Returns the sagas whose calls wait for a service that has just become away.
    pub(crate) fn sagas_of_newly_away(&mut self, now: Moment) -> Vec<SagaId> {
        let mut waiting = Vec::new();
        for destination in &mut self.all {
            if destination.becomes_away(now) {
                waiting.extend(destination.sagas());
            }
        }
        waiting
    }

    /// Removes a call that its saga does not need any more from its queue. Returns whether it was queued. A call in
    /// flight ends with its batch; if the batch is sent again in halves, the call is left out.
    pub(crate) fn withdraw(&mut self, saga: SagaId, step: StepIndex, direction: Direction) -> bool {
        let is_this_call = |call: &Call<R>| (call.saga, call.step, call.direction) == (saga, step, direction);
        let waiting = |queues: &[Queue<R>]| queues.iter().map(|queue| queue.calls.len()).sum::<usize>();
        let mut has_waited = false;
        for Destination { queues, in_flight, .. } in &mut self.all {
            in_flight.iter_mut().for_each(|batch| batch.withdraw(is_this_call));
            let before = waiting(queues);
            queues.iter_mut().for_each(|queue| queue.calls.retain(|queued| !is_this_call(&queued.call)));
            has_waited |= waiting(queues) < before;
        }
        has_waited
    }

    /// Sets the most RPCs in flight to a destination; 0 parks its calls.
    pub(crate) fn set_limit(&mut self, destination: &str, in_flight_max: usize) {
        for found in self.all.iter_mut().filter(|found| found.name == destination) {
            found.in_flight_max = in_flight_max;
        }
    }

    /// Stops sending, for a shutdown. Queued calls and unsent halves of batches are dropped: the next owners of the
    /// sagas make these calls. RPCs in flight may end.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        for destination in &mut self.all {
            destination.queues.clear();
            destination.in_flight.retain(|batch| batch.number.is_some());
        }
    }

    /// An RPC has ended. Returns the answers of its calls: none if the RPC is unknown, or while its batch is sent again
    /// in halves.
    pub(crate) fn ended(
        &mut self,
        number: RpcNo,
        answer: Result<Vec<CallAnswer>, CallError>,
        now: Moment,
        notices: &mut Vec<Notice>,
    ) -> Vec<Answered> {
        for destination in &mut self.all {
            if let Some(index) = destination.in_flight.iter().position(|batch| batch.number == Some(number)) {
                let has_ended = destination.in_flight[index].part_ended(destination.name, answer);
                if !has_ended && !self.is_closed {
                    return Vec::new();
                }
                let batch = destination.in_flight.remove(index);
                destination.batch_ended(&batch, now, notices);
                return batch.answered();
            }
        }
        Vec::new()
    }

    /// Returns the RPCs that may leave now, and reports destinations that have begun to fail or answer again.
    pub(crate) fn send(&mut self, clock: ClockReading, notices: &mut Vec<Notice>) -> Vec<Rpc<R>> {
        let mut rpcs = Vec::new();
        for destination in &mut self.all {
            destination.send(clock.now, &mut self.sent, &mut rpcs);
            destination.update_failing(clock, notices);
        }
        rpcs
    }

    /// When to send again without an input: gathered calls leave, a breaker lets a probe through, or a service has been
    /// silent for too long.
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

    /// The status of each destination, in the order of the tables.
    pub(crate) fn statuses(&self, clock: ClockReading) -> Vec<DestinationStatus> {
        self.all.iter().map(|destination| destination.status(clock)).collect()
    }

    /// The waits of a saga's calls.
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
    /// The longest time without an answer until the service counts as failing.
    silence_max: Duration,
    /// The most RPCs at a time; operators change it.
    in_flight_max: usize,
    /// One queue for each RPC name.
    queues: Vec<Queue<R>>,
    /// In the order in which they left.
    in_flight: Vec<Batch<R>>,
    breaker: Breaker,
    /// At the last check it did not answer, or its calls were parked.
    is_away: bool,
    /// The error of the last RPC; empty if it succeeded.
    last_error: String,
    /// When the first RPC left that failed without a success since.
    failing_since: Option<Moment>,
    succeeded_at: Option<Moment>,
    /// When it began to fail or to be silent. It is converted to the database's clock once, so that a later reading of
    /// that clock does not change it.
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

    /// Updates `is_away`. Returns whether it has just become true. This needs no timer: without an input no saga needs
    /// a slot.
    fn becomes_away(&mut self, now: Moment) -> bool {
        let is_silent = self.oldest_unanswered().is_some_and(|at| at + AWAY_AFTER <= now);
        let is_away = is_silent || self.in_flight_max == 0 || self.breaker.name() != "closed";
        let was_away = std::mem::replace(&mut self.is_away, is_away);
        is_away && !was_away
    }

    /// The sagas whose calls are in flight or queued.
    fn sagas(&self) -> impl Iterator<Item = SagaId> {
        let called = self.in_flight.iter().flat_map(|batch| batch.calls.iter());
        let waiting = self.queues.iter().flat_map(|queue| &queue.calls).map(|queued| &queued.call);
        called.chain(waiting).map(|call| call.saga)
    }

    fn queue(&mut self, call: Call<R>, rpc: &'static str, may_gather: bool, now: Moment) {
        let index = self.queues.iter().position(|queue| queue.rpc == rpc).unwrap_or_else(|| {
            self.queues.push(Queue::new(rpc));
            self.queues.len() - 1
        });
        self.queues[index].push(call, may_gather, now);
    }

    /// Adds the RPCs that may leave now. Halves of a batch use the batch's room in the limit and need no permit of the
    /// breaker, because the service has answered.
    fn send(&mut self, now: Moment, sent: &mut u64, rpcs: &mut Vec<Rpc<R>>) {
        for batch in self.in_flight.iter_mut().filter(|batch| batch.number.is_none()) {
            rpcs.push(batch.send_part(self.name, sent));
        }
        while self.in_flight.len() < self.in_flight_max {
            // The ready queue whose first call has waited longest goes first, so that a flood of other calls does not
            // starve a single compensation.
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

    /// When the next RPC may leave; none if it waits for more than time.
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
        // The service worked at the last success, even if the batch left earlier.
        let since = self.succeeded_at.map_or(batch.sent_at, |success| batch.sent_at.max(success));
        self.failing_since.get_or_insert(since);
        self.breaker.failed(now);
        self.last_error = error.to_string();
        notices.push(Notice::CallFailed { destination });
        if before == "closed" && self.breaker.name() == "open" {
            notices.push(Notice::BreakerOpened { destination, error: self.last_error.clone() });
        }
    }

    /// Updates `failing_since_ms`, and reports when the service begins or ceases to fail.
    fn update_failing(&mut self, clock: ClockReading, notices: &mut Vec<Notice>) {
        let silent = self.oldest_unanswered().filter(|at| clock.now.saturating_sub(*at) >= self.silence_max);
        let failing_since = self.failing_since.into_iter().chain(silent).min();
        if failing_since.is_some() != self.failing_since_ms.is_some() {
            self.failing_since_ms = failing_since.map(|since| clock.ms_at(since));
            notices.push(Notice::DestinationChanged { destination: self.name });
        }
    }

    /// When the oldest batch in flight left, among those that left after the last success or at the same moment.
    fn oldest_unanswered(&self) -> Option<Moment> {
        let sent = self.in_flight.iter().map(|batch| batch.sent_at);
        sent.filter(|at| self.succeeded_at.is_none_or(|success| *at >= success)).min()
    }

    /// When the oldest unanswered batch makes the service count as failing; none if the batch times out earlier.
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
            let indexed = queue.calls.iter().enumerate();
            for (ahead, queued) in indexed.filter(|(_, queued)| queued.call.saga == saga) {
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

/// The queued calls of one RPC name, by the ids of their sagas. That is the order of acceptance to within milliseconds.
#[derive(Debug)]
struct Queue<R> {
    rpc: &'static str,
    /// When all of them may leave: the earliest moment at which one of them may.
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
        // The search starts at the end, because calls arrive mostly in the order of the ids.
        let index = self.calls.iter().rposition(|queued| queued.call.saga <= call.saga).map_or(0, |index| index + 1);
        self.calls.insert(index, Queued { since: now, call });
    }

    /// Takes the first calls, at most `size`.
    fn take(&mut self, size: usize) -> Arc<[Call<R>]> {
        let size = size.min(self.calls.len());
        self.calls.drain(..size).map(|queued| queued.call).collect()
    }

    fn is_ready(&self, now: Moment) -> bool {
        self.ready_at().is_some_and(|at| at <= now)
    }

    /// When they may leave; none if the queue is empty.
    fn ready_at(&self) -> Option<Moment> {
        (!self.calls.is_empty()).then_some(self.ready_at)
    }

    /// Since when the first call waits; none if the queue is empty.
    fn since(&self) -> Option<Moment> {
        self.calls.front().map(|queued| queued.since)
    }
}

/// Calls that left together: as one RPC, or after an error of the kind "invalid", in parts.
#[derive(Debug)]
struct Batch<R> {
    /// The RPC of the current part; none until the part has left.
    number: Option<RpcNo>,
    rpc: &'static str,
    /// When the first part left.
    sent_at: Moment,
    calls: Arc<[Call<R>]>,
    /// The current part, as indexes into `calls`.
    part: Vec<usize>,
    /// The parts after it; the next one is the last in the list.
    rest: Vec<Vec<usize>>,
    /// The calls that are left out of later parts, as indexes into `calls`.
    withdrawn: Vec<usize>,
    /// The answer of each call, as far as it has come.
    answers: Vec<Option<CallAnswer>>,
    /// The service has answered some part. Rejecting a single operation as invalid is an answer.
    is_answered: bool,
    /// The error of a part.
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

    /// The RPC of the current part.
    fn send_part(&mut self, destination: &'static str, sent: &mut u64) -> Rpc<R> {
        *sent += 1;
        let number = RpcNo(*sent);
        self.number = Some(number);
        let is_whole = self.part.len() == self.calls.len();
        let calls = match is_whole {
            true => self.calls.clone(),
            false => self.part.iter().map(|index| self.calls[*index].clone()).collect(),
        };
        Rpc { number, destination, name: self.rpc, calls }
    }

    /// The current part has ended. Returns whether it was the last one.
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
                for (index, answer) in self.part.drain(..).zip(answers) {
                    self.answers[index] = Some(answer);
                }
            }
            Err(error) if error.code == Code::InvalidArgument && size > 1 => {
                leave_out(&mut self.part, &self.withdrawn, &mut self.answers);
                // Split the remaining calls into halves. After the withdrawals there may be one or none.
                let second = self.part.split_off(self.part.len() / 2);
                self.rest.extend(Some(second).filter(|second| !second.is_empty()));
            }
            Err(error) => {
                for index in self.part.drain(..) {
                    self.answers[index] = Some(CallAnswer::Unknown(error.clone()));
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

    /// Leaves a call out of the later parts, and out of the halves of the current part if it is sent again.
    fn withdraw(&mut self, is_this_call: impl Fn(&Call<R>) -> bool) {
        let open = (0..self.calls.len()).filter(|index| self.answers[*index].is_none());
        self.withdrawn.extend(open.filter(|index| is_this_call(&self.calls[*index])));
        let Self { rest, withdrawn, answers, .. } = self;
        rest.iter_mut().for_each(|part| leave_out(part, withdrawn, answers));
        rest.retain(|part| !part.is_empty());
    }

    /// The error, if the service has answered no part.
    fn failure(&self) -> Option<&CallError> {
        self.error.as_ref().filter(|_| !self.is_answered)
    }

    /// The answers in the order of the calls. After the last part, every call has one.
    fn answered(self) -> Vec<Answered> {
        let answered = |(call, answer): (&Call<R>, Option<CallAnswer>)| {
            let Call { saga, step, direction, attempt, .. } = *call;
            Some(Answered { saga, step, direction, attempt, started_at: self.sent_at, answer: answer? })
        };
        self.calls.iter().zip(self.answers).filter_map(answered).collect()
    }
}

/// Removes withdrawn calls from a part that has not left, and answers them.
fn leave_out(part: &mut Vec<usize>, withdrawn: &[usize], answers: &mut [Option<CallAnswer>]) {
    for index in part.extract_if(.., |index| withdrawn.contains(index)) {
        let error = CallError::new(Code::Cancelled, "the saga does not wait for it any more", None);
        answers[index] = Some(CallAnswer::Unknown(error));
    }
}

/// A circuit breaker. While it is open, calls to the destination wait in their queues and use no attempts.
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

    /// How many of `most` calls may leave together now. When the time of an open breaker is over, one call may: the
    /// probe.
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

    /// When calls may leave, possibly in the past; none while a probe is in flight.
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
            // The failed call had left before the breaker opened.
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
