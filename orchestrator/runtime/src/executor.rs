//! Drives the sagas of this instance: one task that owns their states, asks the engine what follows from each input,
//! and acts on it when the log is durable.
//!
//! Inputs of a saga that has an append under way wait for it, so a saga is decided one input after the other, and the
//! log's order is the order of decisions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use matricula_engine::{DecideError, Effect, Input, Jitter, Leg, Outcome, SagaState, StepIndex, decide};
use matricula_kit::id::SagaId;
use matricula_kit::telemetry::TraceContext;
use matricula_kit::time;
use tokio::sync::{mpsc, oneshot};
use tokio_util::time::{DelayQueue, delay_queue};

use crate::destination::{Answered, Waiting};
use crate::store::{Append, AppendOutcome, Summary};
use crate::watch::Watchers;
use crate::writer::{Write, Written};
use crate::{Call, Workload};

/// Longest sleep of a saga's timer. A wake too many does no harm, and the wheel of timers has a bound of its own.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// A saga that enters this executor: just admitted, or adopted.
pub(crate) struct Entrant<R> {
    pub id: SagaId,
    pub request: Arc<R>,
    pub trace: TraceContext,
    pub state: SagaState,
}

/// Somebody wants a saga undone.
pub(crate) struct Cancel {
    pub saga: SagaId,
    pub by: String,
    pub reason: String,
    /// `None`: this instance does not drive the saga.
    pub reply: oneshot::Sender<Option<Result<(), DecideError>>>,
}

pub(crate) struct Inbox<R> {
    pub written: mpsc::UnboundedReceiver<Written<Arc<R>>>,
    pub answers: mpsc::UnboundedReceiver<Vec<Answered>>,
    pub adopted: mpsc::Receiver<Vec<Entrant<R>>>,
    pub cancels: mpsc::Receiver<Cancel>,
}

struct Saga<R> {
    request: Arc<R>,
    trace: TraceContext,
    state: Arc<SagaState>,
    /// Legs that have a call under way.
    calling: Vec<(StepIndex, Leg)>,
    timer: Option<delay_queue::Key>,
    /// While an append is under way: what it leads to, and what came in meanwhile.
    appending: Option<Vec<Effect>>,
    waiting: VecDeque<Pending>,
    place: Place,
}

/// Whether a saga takes one of the places for sagas at work. From its decision on it takes none: a tail that waits for
/// a service must not keep students out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Queued,
    Taken,
    GivenBack,
}

struct Pending {
    input: Input,
    reply: Option<oneshot::Sender<Option<Result<(), DecideError>>>>,
}

pub(crate) struct Executor<W: Workload> {
    workload: Arc<W>,
    sagas: HashMap<SagaId, Saga<W::Request>>,
    /// Sagas that wait for a place, in order of arrival.
    queued: VecDeque<SagaId>,
    at_work: usize,
    at_work_max: usize,
    timers: DelayQueue<SagaId>,
    writes: mpsc::UnboundedSender<Write<Arc<W::Request>>>,
    destinations: HashMap<&'static str, mpsc::UnboundedSender<Waiting<W::Request>>>,
    watchers: Watchers,
    /// Sagas whose outcome is open, shared with admission.
    open: Arc<AtomicUsize>,
}

impl<W: Workload> Executor<W> {
    pub(crate) fn new(
        workload: Arc<W>,
        at_work_max: usize,
        writes: mpsc::UnboundedSender<Write<Arc<W::Request>>>,
        destinations: HashMap<&'static str, mpsc::UnboundedSender<Waiting<W::Request>>>,
        watchers: Watchers,
        open: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            workload,
            sagas: HashMap::new(),
            queued: VecDeque::new(),
            at_work: 0,
            at_work_max,
            timers: DelayQueue::new(),
            writes,
            destinations,
            watchers,
            open,
        }
    }

    /// Runs until the log writer has ended.
    pub(crate) async fn run(mut self, mut inbox: Inbox<W::Request>) {
        loop {
            tokio::select! {
                written = inbox.written.recv() => {
                    let Some(written) = written else { return };
                    self.written(written);
                }
                Some(answers) = inbox.answers.recv() => {
                    for answer in answers {
                        self.answered(answer);
                    }
                }
                Some(entrants) = inbox.adopted.recv() => {
                    for entrant in entrants {
                        self.open.fetch_add(1, Ordering::Relaxed);
                        self.enter(entrant);
                    }
                }
                Some(cancel) = inbox.cancels.recv() => self.cancel(cancel),
                Some(expired) = self.timers.next() => {
                    let id = expired.into_inner();
                    if let Some(saga) = self.sagas.get_mut(&id) {
                        saga.timer = None;
                    }
                    self.input(&id, Pending { input: Input::Wake, reply: None });
                }
            }
            self.fill_places();
            metrics::gauge!("matricula_sagas_in_memory").set(self.sagas.len() as f64);
            metrics::gauge!("matricula_sagas_queued").set(self.queued.len() as f64);
        }
    }

    fn written(&mut self, written: Written<Arc<W::Request>>) {
        let definition = self.workload.definition();
        let mut entrants = Vec::with_capacity(written.admitted.len());
        for (saga, request) in written.admitted {
            match SagaState::replay(definition, [&saga.admitted]) {
                Ok(state) => entrants.push(Entrant { id: saga.id, request, trace: saga.trace, state }),
                // Unreachable by construction: the event was made by this definition.
                Err(error) => tracing::error!(saga_id = saga.id.as_str(), %error, "an admitted saga does not fold"),
            }
        }
        for entrant in entrants {
            self.enter(entrant);
        }
        self.open.fetch_sub(written.existing, Ordering::Relaxed);
        for (append, outcome) in written.appended {
            self.appended(append, outcome);
        }
    }

    fn enter(&mut self, entrant: Entrant<W::Request>) {
        let Entrant { id, request, trace, state } = entrant;
        let saga = Saga {
            request,
            trace,
            state: Arc::new(state),
            calling: Vec::new(),
            timer: None,
            appending: None,
            waiting: VecDeque::new(),
            place: Place::Queued,
        };
        self.queued.push_back(id.clone());
        self.sagas.insert(id, saga);
    }

    fn fill_places(&mut self) {
        while self.at_work < self.at_work_max {
            let Some(id) = self.queued.pop_front() else { return };
            self.start(&id);
        }
    }

    /// Gives a queued saga its place and sets it going.
    fn start(&mut self, id: &SagaId) {
        let Some(saga) = self.sagas.get_mut(id).filter(|saga| saga.place == Place::Queued) else { return };
        saga.place = Place::Taken;
        self.at_work += 1;
        self.input(id, Pending { input: Input::Resume, reply: None });
    }

    fn answered(&mut self, answered: Answered) {
        let Answered { saga: id, step, leg, attempt, started_at_ms, answer } = answered;
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        saga.calling.retain(|calling| *calling != (step, leg));
        let input = Input::Answered { step, leg, attempt, started_at_ms, answer };
        self.input(&id, Pending { input, reply: None });
    }

    fn cancel(&mut self, cancel: Cancel) {
        let Cancel { saga, by, reason, reply } = cancel;
        if !self.sagas.contains_key(&saga) {
            let _ = reply.send(None);
            return;
        }
        self.start(&saga);
        self.input(&saga, Pending { input: Input::Cancel { by, reason }, reply: Some(reply) });
    }

    fn input(&mut self, id: &SagaId, pending: Pending) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        if saga.appending.is_some() {
            saga.waiting.push_back(pending);
            return;
        }
        let jitter = Jitter(rand::random());
        let now_ms = time::now().0;
        let decided = decide(self.workload.definition(), &saga.state, pending.input, now_ms, jitter);
        let decision = match decided {
            Ok(decision) => decision,
            Err(error) => {
                match pending.reply {
                    Some(reply) => drop(reply.send(Some(Err(error)))),
                    None => tracing::debug!(saga_id = id.as_str(), %error, "an input changed nothing"),
                }
                return;
            }
        };
        if let Some(reply) = pending.reply {
            // The turn is answered when it is decided; the caller watches for the outcome, which is durable first.
            let _ = reply.send(Some(Ok(())));
        }
        if decision.events.is_empty() {
            self.act(id, decision.effects);
            return;
        }
        let summary = Summary::of(&decision.state);
        saga.state = Arc::new(decision.state);
        saga.appending = Some(decision.effects);
        let append = Append { saga: id.clone(), events: decision.events, summary };
        // The writer is gone only when the process ends or was fenced; then nothing may be done any more.
        let _ = self.writes.send(Write::Append(append));
    }

    fn appended(&mut self, append: Append, outcome: AppendOutcome) {
        let id = append.saga;
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        if outcome == AppendOutcome::Conflict {
            tracing::warn!(saga_id = id.as_str(), "the saga has another owner now; leaving it");
            self.forget(&id);
            return;
        }
        let effects = saga.appending.take().unwrap_or_default();
        self.watchers.tell(&id, &saga.state);
        self.act(&id, effects);
        while let Some(saga) = self.sagas.get_mut(&id).filter(|saga| saga.appending.is_none()) {
            let Some(pending) = saga.waiting.pop_front() else { break };
            self.input(&id, pending);
        }
    }

    fn act(&mut self, id: &SagaId, effects: Vec<Effect>) {
        let mut wake_at_ms = None;
        for effect in effects {
            match effect {
                Effect::Call { step, leg, attempt } => self.call(id, step, leg, attempt),
                Effect::WakeAt { at_ms } => wake_at_ms = Some(at_ms),
                Effect::Decided(outcome) => self.decided(id, outcome),
                Effect::Finished => {
                    metrics::counter!("matricula_sagas_finished_total").increment(1);
                    self.forget(id);
                }
            }
        }
        self.set_timer(id, wake_at_ms);
    }

    fn call(&mut self, id: &SagaId, step: StepIndex, leg: Leg, attempt: u32) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        if saga.calling.contains(&(step, leg)) {
            return;
        }
        let line = self.workload.definition().step(step);
        let (Some(rpc), Some(destination)) = (line.rpc(leg), self.destinations.get(line.destination)) else { return };
        saga.calling.push((step, leg));
        let call = Call {
            saga: id.clone(),
            step,
            step_name: line.name,
            leg,
            attempt,
            request: saga.request.clone(),
            state: saga.state.clone(),
            trace: saga.trace.clone(),
        };
        let _ = destination.send(Waiting { rpc, call });
    }

    fn decided(&mut self, id: &SagaId, outcome: Outcome) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        metrics::counter!("matricula_sagas_decided_total", "outcome" => outcome.as_str()).increment(1);
        self.watchers.tell(id, &saga.state);
        if saga.place == Place::Taken {
            saga.place = Place::GivenBack;
            self.at_work -= 1;
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn set_timer(&mut self, id: &SagaId, wake_at_ms: Option<i64>) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        match (wake_at_ms, saga.timer.take()) {
            (None, None) => {}
            (None, Some(timer)) => drop(self.timers.try_remove(&timer)),
            (Some(at_ms), timer) => {
                let wait_ms = u64::try_from(at_ms.saturating_sub(time::now().0)).unwrap_or(0);
                let wait = Duration::from_millis(wait_ms).min(SLEEP_MAX);
                saga.timer = Some(match timer {
                    Some(timer) => {
                        self.timers.reset(&timer, wait);
                        timer
                    }
                    None => self.timers.insert(id.clone(), wait),
                });
            }
        }
    }

    fn forget(&mut self, id: &SagaId) {
        let Some(saga) = self.sagas.remove(id) else { return };
        if let Some(timer) = saga.timer {
            self.timers.try_remove(&timer);
        }
        match saga.place {
            Place::Taken => {
                self.at_work -= 1;
                self.open.fetch_sub(1, Ordering::Relaxed);
            }
            Place::Queued => drop(self.open.fetch_sub(1, Ordering::Relaxed)),
            Place::GivenBack => {}
        }
    }
}
