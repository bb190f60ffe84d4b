//! One service as the executor sees it: what waits for it, what is in flight, whether it answers.
//!
//! Calls that wait for the same RPC leave together when a place is free; what somebody waits for has no timer, so an idle
//! destination is called at once and a busy one gets large batches. What nobody waits for gathers for [`GATHER_MAX`]. The
//! RPC whose first call has waited longest goes next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use matricula_engine::{CallAnswer, CallError, Leg, StepIndex};
use matricula_kit::id::SagaId;
use matricula_kit::telemetry::spans::{self, Attempt, AttemptOutcome, Direction};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::Span;

use crate::breaker::{Breaker, Permit};
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
    pub leg: Leg,
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
    /// How the last RPC failed; empty when it did not.
    pub last_error: String,
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
    in_flight: JoinSet<(Vec<Answered>, Option<CallError>)>,
    /// The most RPCs at a time; operators change it.
    in_flight_max: watch::Receiver<usize>,
    breaker: Breaker,
    answers: mpsc::UnboundedSender<Vec<Answered>>,
    status: Arc<Mutex<DestinationStatus>>,
    last_error: String,
}

impl<W: Workload> Destination<W> {
    pub(crate) fn new(
        name: &'static str,
        workload: Arc<W>,
        config: RuntimeConfig,
        in_flight_max: watch::Receiver<usize>,
        answers: mpsc::UnboundedSender<Vec<Answered>>,
        status: Arc<Mutex<DestinationStatus>>,
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
            in_flight_max,
            breaker,
            answers,
            status,
            last_error: String::new(),
        }
    }

    /// Runs until every sender of calls is gone. What waits then is dropped, to be called again by whoever resumes its
    /// saga; what is in flight may still end.
    pub(crate) async fn run(mut self, mut told: mpsc::UnboundedReceiver<Told<W::Request>>) {
        loop {
            let wake = self.send();
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
        }
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
        self.in_flight.spawn(async move {
            let started = Instant::now();
            let (answers, error) = rpc.call(workload.as_ref(), &calls).await;
            let took = started.elapsed();
            for (span, answer) in spans.iter().zip(&answers) {
                spans::answered(span, outcome(answer));
            }
            drop(spans);
            let answered = calls.into_iter().zip(answers).map(|(call, answer)| Answered {
                saga: call.saga,
                step: call.step,
                leg: call.leg,
                attempt: call.attempt,
                took,
                answer,
            });
            (answered.collect(), error)
        });
    }

    fn ended(&mut self, ended: Result<(Vec<Answered>, Option<CallError>), tokio::task::JoinError>) {
        let (answered, error) = match ended {
            Ok(ended) => ended,
            // Not of the call, whose panics are answers: the orchestrator can't go on.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        match error {
            None => {
                if self.breaker.name() != "closed" {
                    tracing::info!(destination = self.name, "the destination answers again");
                }
                self.breaker.succeeded();
                self.last_error.clear();
            }
            Some(error) => {
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
        let mut status = self.status.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
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
    let direction = match call.leg {
        Leg::Action => Direction::Forward,
        Leg::Undo => Direction::Compensation,
    };
    let attempt = Attempt { saga: &call.saga, step: call.step_name, direction, number: call.attempt };
    let span = spans::call(&workload.peer(destination), rpc, attempt, &call.trace);
    call.trace = call.trace.for_call(&span);
    span
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
