//! One service as the executor sees it: what waits for it, what is in flight, whether it answers.
//!
//! Calls that wait for the same RPC leave together when a place is free; what somebody waits for has no timer, so an idle
//! destination is called at once and a busy one gets large batches. What nobody waits for gathers for [`GATHER_MAX`]. The
//! RPC whose first call has waited longest goes next.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use matricula_engine::{CallAnswer, CallError, CallWait, Direction, StepIndex, Wait};
use matricula_kit::id::SagaId;
use matricula_kit::telemetry::spans::{self, Attempt, AttemptOutcome};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::Span;

use crate::breaker::{Breaker, Permit};
use crate::clock::Clock;
use crate::rpc::Rpc;
use crate::{Call, RuntimeConfig, Workload};

/// How long a call that nobody waits for waits for others of its kind: so one call has the notifications of many
/// registrations, and with it one commit and one statement; to a student it is no time.
const GATHER_MAX: Duration = Duration::from_millis(50);

/// What the executor tells a destination.
pub(crate) enum Told<R> {
    /// A call is to be made.
    Call(Waiting<R>),
    /// Somebody has decided by hand what a call was for: it is not to be made any more, if it still waits.
    Withdrawn { rpc: &'static str, saga: SagaId, step: StepIndex },
    /// An operator wants to see where the calls of a saga are.
    Look { saga: SagaId, reply: oneshot::Sender<Vec<CallWait>> },
}

/// A call that waits: the RPC and what it is about.
pub(crate) struct Waiting<R> {
    pub rpc: &'static str,
    pub call: Call<R>,
    /// Nobody waits for its answer: it may wait for others of its kind.
    pub may_gather: bool,
}

/// How a call ended.
pub(crate) struct Answered {
    pub saga: SagaId,
    pub step: StepIndex,
    pub direction: Direction,
    pub attempt: u32,
    /// How long it took, by the clock of this process that nobody sets.
    pub took: Duration,
    pub answer: CallAnswer,
}

/// What stands between the orchestrator and a service, for operators.
#[derive(Debug, Clone, Default)]
pub struct DestinationStatus {
    /// The service.
    pub name: &'static str,
    /// Calls that wait.
    pub waiting: usize,
    /// RPCs in flight, and the most that may be.
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

/// What a destination shares with the rest of its process.
#[derive(Clone)]
pub(crate) struct Shared {
    pub clock: Clock,
    pub status: Arc<Mutex<DestinationStatus>>,
    /// Woken when the destination begins to fail, and when it answers again.
    pub changed: Arc<Notify>,
}

struct Queued<C> {
    since: Instant,
    call: C,
}

/// Calls that wait for one RPC, in order of arrival.
struct Queue<C> {
    rpc: &'static str,
    /// From when on they may leave, all of them: the earliest that one of them asks for.
    ready_at: Instant,
    calls: VecDeque<Queued<C>>,
}

impl<C> Queue<C> {
    fn new(rpc: &'static str, now: Instant) -> Self {
        Self { rpc, ready_at: now, calls: VecDeque::new() }
    }

    fn push(&mut self, call: C, may_gather: bool, now: Instant) {
        let ready_at = if may_gather { now + GATHER_MAX } else { now };
        self.ready_at = if self.calls.is_empty() { ready_at } else { ready_at.min(self.ready_at) };
        self.calls.push_back(Queued { since: now, call });
    }

    /// Takes the first of them; none before they may leave.
    fn take(&mut self, size: usize, now: Instant) -> Vec<C> {
        let size = if self.is_ready(now) { size.min(self.calls.len()) } else { 0 };
        self.calls.drain(..size).map(|queued| queued.call).collect()
    }

    fn is_ready(&self, now: Instant) -> bool {
        !self.calls.is_empty() && self.ready_at <= now
    }

    /// When they may leave; none when nothing waits.
    fn ready_at(&self) -> Option<Instant> {
        (!self.calls.is_empty()).then_some(self.ready_at)
    }

    /// Since when the first of them waits; none when nothing waits.
    fn since(&self) -> Option<Instant> {
        self.calls.front().map(|queued| queued.since)
    }
}

pub(crate) struct Destination<W: Workload> {
    name: &'static str,
    workload: Arc<W>,
    config: RuntimeConfig,
    /// A queue an RPC.
    queues: Vec<Queue<Call<W::Request>>>,
    in_flight: JoinSet<Ended>,
    /// The same RPCs by their numbers.
    sent: HashMap<u64, Sent<W::Request>>,
    sent_count: u64,
    /// The most RPCs at a time; operators change it.
    in_flight_max: watch::Receiver<usize>,
    breaker: Breaker,
    answers: mpsc::UnboundedSender<Vec<Answered>>,
    shared: Shared,
    last_error: String,
    /// When the first RPC left that failed without a success since.
    failing_since: Option<Instant>,
    succeeded_at: Option<Instant>,
}

/// An RPC that is in flight. Its task has the calls: here they are only looked at.
struct Sent<R> {
    at: Instant,
    calls: Weak<Vec<Call<R>>>,
}

/// How an RPC has ended.
struct Ended {
    number: u64,
    answered: Vec<Answered>,
    error: Option<CallError>,
}

impl<W: Workload> Destination<W> {
    pub(crate) fn new(
        name: &'static str,
        workload: Arc<W>,
        config: RuntimeConfig,
        in_flight_max: watch::Receiver<usize>,
        answers: mpsc::UnboundedSender<Vec<Answered>>,
        shared: Shared,
    ) -> Self {
        let breaker = Breaker::new(
            config.breaker_failures,
            Duration::from_millis(config.breaker_open_ms),
            Duration::from_millis(config.breaker_open_max_ms),
        );
        let in_flight = JoinSet::new();
        Self {
            name,
            workload,
            config,
            queues: Vec::new(),
            in_flight,
            sent: HashMap::new(),
            sent_count: 0,
            in_flight_max,
            breaker,
            answers,
            shared,
            last_error: String::new(),
            failing_since: None,
            succeeded_at: None,
        }
    }

    /// Runs until every sender of calls is gone. What waits then is dropped, to be called again by whoever resumes its
    /// saga; what is in flight may still end.
    pub(crate) async fn run(mut self, mut told: mpsc::UnboundedReceiver<Told<W::Request>>) {
        loop {
            let wake = earliest(self.send(), self.silent_at());
            self.publish();
            tokio::select! {
                first = told.recv() => {
                    let Some(first) = first else { break };
                    self.hear(first);
                    while let Ok(next) = told.try_recv() {
                        self.hear(next);
                    }
                }
                Some(ended) = self.in_flight.join_next() => self.ended(ended),
                () = sleep_until(wake) => {}
                Ok(()) = self.in_flight_max.changed() => {}
            }
        }
        while let Some(ended) = self.in_flight.join_next().await {
            self.ended(ended);
        }
    }

    fn hear(&mut self, told: Told<W::Request>) {
        match told {
            Told::Call(waiting) => self.enqueue(waiting),
            Told::Withdrawn { rpc, saga, step } => {
                for queue in self.queues.iter_mut().filter(|queue| queue.rpc == rpc) {
                    queue.calls.retain(|queued| queued.call.saga != saga || queued.call.step != step);
                }
            }
            // The caller may have gone.
            Told::Look { saga, reply } => drop(reply.send(self.waits_of(&saga))),
        }
    }

    /// Where the calls of a saga are.
    fn waits_of(&self, saga: &SagaId) -> Vec<CallWait> {
        let failing_since_ms = self.failing_since().map(|since| self.moment(since));
        let wait = |call: &Call<W::Request>, wait: Wait| CallWait {
            step: call.step_name.to_owned(),
            direction: call.direction,
            wait,
            failing_since_ms,
            last_error: self.last_error.clone(),
        };
        let mut waits = Vec::new();
        let timeout = Duration::from_millis(self.config.call_timeout_ms);
        for sent in self.sent.values() {
            let (since_ms, until_ms) = (self.moment(sent.at), self.moment(sent.at + timeout));
            let Some(calls) = sent.calls.upgrade() else { continue };
            let calls = calls.iter().filter(|call| call.saga == *saga);
            waits.extend(calls.map(|call| wait(call, Wait::Call { since_ms, until_ms })));
        }
        for queue in &self.queues {
            let places = queue.calls.iter().enumerate();
            for (ahead, queued) in places.filter(|(_, queued)| queued.call.saga == *saga) {
                let (ahead, since_ms) = (ahead as u64, self.moment(queued.since));
                let probe_at_ms = self.probe_at_ms();
                waits.push(wait(
                    &queued.call,
                    if *self.in_flight_max.borrow() == 0 {
                        Wait::Limit { since_ms, ahead }
                    } else if self.breaker.name() == "closed" {
                        Wait::Queue { since_ms, ahead }
                    } else {
                        Wait::Breaker { since_ms, ahead, probe_at_ms }
                    },
                ));
            }
        }
        waits
    }

    fn probe_at_ms(&self) -> Option<i64> {
        match self.breaker.permit(Instant::now()) {
            Permit::NotBefore(moment) => Some(self.moment(moment)),
            Permit::Probe => Some(self.shared.clock.now().0),
            Permit::All | Permit::AfterProbe => None,
        }
    }

    /// A moment of this process by the clock that all replicas agree on.
    fn moment(&self, at: Instant) -> i64 {
        let now = Instant::now();
        let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let (ago_ms, ahead_ms) = (ms(now.saturating_duration_since(at)), ms(at.saturating_duration_since(now)));
        self.shared.clock.now().0.saturating_sub(ago_ms).saturating_add(ahead_ms)
    }

    /// When the first RPC left that failed, or has no answer for longer than a service may be silent, without a success
    /// since.
    fn failing_since(&self) -> Option<Instant> {
        let silent = self.oldest_unanswered().filter(|at| at.elapsed() >= self.silence_max());
        self.failing_since.into_iter().chain(silent).min()
    }

    /// When the oldest RPC in flight left after which nothing has succeeded.
    fn oldest_unanswered(&self) -> Option<Instant> {
        let sent = self.sent.values().map(|sent| sent.at);
        sent.filter(|at| self.succeeded_at.is_none_or(|success| *at > success)).min()
    }

    /// When to look at an RPC that hangs, where it may hang for longer than a service may be silent.
    fn silent_at(&self) -> Option<Instant> {
        if self.config.call_timeout_ms <= self.config.destination_attention_after_ms {
            return None;
        }
        let at = self.oldest_unanswered()? + self.silence_max();
        (at > Instant::now()).then_some(at)
    }

    fn silence_max(&self) -> Duration {
        Duration::from_millis(self.config.destination_attention_after_ms)
    }

    fn enqueue(&mut self, Waiting { rpc, call, may_gather }: Waiting<W::Request>) {
        let now = Instant::now();
        let place = self.queues.iter().position(|queue| queue.rpc == rpc).unwrap_or_else(|| {
            self.queues.push(Queue::new(rpc, now));
            self.queues.len() - 1
        });
        self.queues[place].push(call, may_gather, now);
    }

    /// Sends what may be sent now; returns when to look again, if a timer is needed.
    fn send(&mut self) -> Option<Instant> {
        while self.in_flight.len() < *self.in_flight_max.borrow() {
            let now = Instant::now();
            let ready_at = self.queues.iter().filter_map(Queue::ready_at).min()?;
            if now < ready_at {
                return Some(ready_at);
            }
            let size = match self.breaker.permit(now) {
                Permit::All => self.config.call_batch_max,
                Permit::Probe => {
                    self.breaker.probing();
                    1
                }
                Permit::NotBefore(moment) => return Some(moment),
                Permit::AfterProbe => return None,
            };
            self.send_one(size, now);
        }
        None
    }

    /// Sends one RPC with what waits for it: of those that are ready the one whose first call has waited longest, so that a
    /// single undo is not passed over while a flood of other calls goes on.
    fn send_one(&mut self, size: usize, now: Instant) {
        let ready = self.queues.iter_mut().filter(|queue| queue.is_ready(now));
        let Some(queue) = ready.min_by_key(|queue| queue.since()) else { return };
        let (rpc, mut calls) = (queue.rpc, queue.take(size, now));
        let workload = self.workload.clone();
        let spans: Vec<Span> = calls.iter_mut().map(|call| attempt_span(workload.as_ref(), rpc, call)).collect();
        let timeout = Duration::from_millis(self.config.call_timeout_ms);
        let rpc = Rpc { destination: self.name, name: rpc, timeout };
        let (number, calls) = (self.sent_count, Arc::new(calls));
        self.sent_count += 1;
        self.sent.insert(number, Sent { at: now, calls: Arc::downgrade(&calls) });
        self.in_flight.spawn(async move {
            let started = Instant::now();
            let (answers, error) = rpc.call(workload.as_ref(), &calls).await;
            let took = started.elapsed();
            for (span, answer) in spans.iter().zip(&answers) {
                spans::answered(span, outcome(answer));
            }
            drop(spans);
            let answered = match Arc::try_unwrap(calls) {
                Ok(calls) => {
                    let answered = calls.into_iter().zip(answers).map(|(call, answer)| {
                        let Call { saga, step, direction, attempt, .. } = call;
                        Answered { saga, step, direction, attempt, took, answer }
                    });
                    answered.collect()
                }
                // An operator looks at them in this moment.
                Err(calls) => {
                    let answered = calls.iter().zip(answers).map(|(call, answer)| {
                        let (saga, step) = (call.saga.clone(), call.step);
                        Answered { saga, step, direction: call.direction, attempt: call.attempt, took, answer }
                    });
                    answered.collect()
                }
            };
            Ended { number, answered, error }
        });
    }

    fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ended { number, answered, error } = match ended {
            Ok(ended) => ended,
            // Not of the call, whose panics are answers: the orchestrator can't go on.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let sent_at = self.sent.remove(&number).map_or_else(Instant::now, |sent| sent.at);
        match error {
            None => {
                if self.breaker.name() != "closed" {
                    tracing::info!(destination = self.name, "the destination answers again");
                }
                self.breaker.succeeded();
                self.last_error.clear();
                self.failing_since = None;
                self.succeeded_at = Some(Instant::now());
            }
            Some(error) => {
                // One that left before the last success says nothing of the time before that.
                let since = self.succeeded_at.map_or(sent_at, |success| sent_at.max(success));
                self.failing_since.get_or_insert(since);
                let before = self.breaker.name();
                self.breaker.failed(Instant::now());
                metrics::counter!("matricula_call_failures_total", "destination" => self.name).increment(1);
                self.last_error = error.to_string();
                if before == "closed" && self.breaker.name() == "open" {
                    tracing::warn!(
                        destination = self.name,
                        error = self.last_error,
                        "the destination's breaker opened"
                    );
                }
            }
        }
        let _ = self.answers.send(answered);
    }

    fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.calls.len()).sum()
    }

    fn publish(&self) {
        let oldest = self.queues.iter().filter_map(Queue::since).min();
        let oldest_seconds = oldest.map_or(0.0, |since| since.elapsed().as_secs_f64());
        metrics::gauge!("matricula_calls_oldest_seconds", "destination" => self.name).set(oldest_seconds);
        metrics::gauge!("matricula_calls_waiting", "destination" => self.name).set(self.waiting() as f64);
        metrics::gauge!("matricula_calls_in_flight", "destination" => self.name).set(self.in_flight.len() as f64);
        let failing_since = self.failing_since();
        let mut status = self.shared.status.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if failing_since.is_some() != status.failing_since_ms.is_some() {
            status.failing_since_ms = failing_since.map(|since| self.moment(since));
            self.shared.changed.notify_one();
        }
        status.probe_at_ms = if status.failing_since_ms.is_some() { self.probe_at_ms() } else { None };
        status.name = self.name;
        status.waiting = self.waiting();
        status.in_flight = self.in_flight.len();
        status.in_flight_max = *self.in_flight_max.borrow();
        status.breaker = self.breaker.name();
        if status.last_error != self.last_error {
            status.last_error.clone_from(&self.last_error);
        }
    }
}

/// The span of one attempt, when its trace is recorded; the call carries its context on.
fn attempt_span<W: Workload>(workload: &W, rpc: &'static str, call: &mut Call<W::Request>) -> Span {
    if !call.trace.is_wanted() {
        return Span::none();
    }
    let destination = workload.definition().step(call.step).destination;
    let direction = match call.direction {
        Direction::Forward => spans::Direction::Forward,
        Direction::Compensation => spans::Direction::Compensation,
    };
    let attempt = Attempt { saga: &call.saga, step: call.step_name, direction, number: call.attempt };
    let span = spans::call(&workload.peer(destination), rpc, attempt, &call.trace);
    call.trace = call.trace.for_call(&span);
    span
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

fn outcome(answer: &CallAnswer) -> AttemptOutcome<'_> {
    match answer {
        CallAnswer::Done(_) => AttemptOutcome::Done,
        CallAnswer::Refused(_) => AttemptOutcome::Refused,
        CallAnswer::Unknown(error) => AttemptOutcome::Unknown((error.code as i32).into(), &error.message),
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_gathers_until_somebody_waits() {
        let start = Instant::now();
        let later = start + GATHER_MAX / 2;
        let none: [u32; 0] = [];
        let mut queue = Queue::new("Notify", start);
        assert_eq!(queue.ready_at(), None);
        queue.push(1, true, start);
        queue.push(2, true, later);
        assert_eq!(queue.ready_at(), Some(start + GATHER_MAX), "the first waits longest, and takes the others along");
        assert_eq!(queue.take(10, later), none);
        assert_eq!(queue.take(1, start + GATHER_MAX), [1]);
        assert_eq!(queue.take(10, start + GATHER_MAX), [2], "what a batch had no room for goes next");
        queue.push(3, true, start + GATHER_MAX);
        assert_eq!(queue.take(10, start + GATHER_MAX), none, "the next gather again");
        queue.push(4, false, start + GATHER_MAX);
        assert_eq!(queue.take(10, start + GATHER_MAX), [3, 4]);
    }
}
