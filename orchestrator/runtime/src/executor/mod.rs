//! Drives the sagas of this instance: one task that owns their states, asks the engine what follows from each input,
//! and acts on it when the log is durable.
//!
//! Inputs of a saga that has an append under way wait for it, so a saga is decided one input after the other, and the
//! log's order is the order of decisions.
//!
//! On shutdown it starts nothing more, and ends when what is in flight has been answered and appended.
//!
//! | module | one job |
//! |---|---|
//! | here | takes inputs, asks the engine, hands events to the log writer |
//! | `effects` | acts on what is durable: calls, timers, places given back |

mod effects;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt as _;
use matricula_engine::{DecideError, Effect, Input, Jitter, Leg, SagaState, StepIndex, decide};
use matricula_kit::id::SagaId;
use matricula_kit::telemetry::TraceContext;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::time::{DelayQueue, delay_queue};

use crate::clock::Clock;
use crate::destination::{Answered, Waiting};
use crate::gate::Gate;
use crate::store::{Append, AppendOutcome, StoreError, Summary};
use crate::watch::Watchers;
use crate::writer::{Write, Written};
use crate::{RuntimeConfig, Workload};

/// A saga that enters this executor: just admitted, or adopted.
pub(crate) struct Entrant<R> {
    pub id: SagaId,
    pub request: Arc<R>,
    pub trace: TraceContext,
    pub state: SagaState,
}

/// Somebody steers a saga: a cancel, or an operator's verb.
pub(crate) struct Command {
    pub saga: SagaId,
    pub input: Input,
    pub reply: Reply,
}

/// Told when what was asked for is durable, or why it is not done. `None`: this instance does not drive the saga.
pub(crate) type Reply = oneshot::Sender<Option<Result<(), DecideError>>>;

pub(crate) struct Inbox<R> {
    pub written: mpsc::UnboundedReceiver<Written<Entrant<R>>>,
    pub answers: mpsc::UnboundedReceiver<Vec<Answered>>,
    pub adopted: mpsc::Receiver<Vec<Entrant<R>>>,
    pub commands: mpsc::Receiver<Command>,
}

/// Where the executor's decisions go.
pub(crate) struct Outbox<R> {
    pub writes: mpsc::UnboundedSender<Write<Entrant<R>>>,
    pub destinations: HashMap<&'static str, mpsc::UnboundedSender<Waiting<R>>>,
    pub watchers: Watchers,
    /// Told of sagas whose summary has changed.
    pub moved: broadcast::Sender<SagaId>,
    pub clock: Clock,
    pub gate: Arc<Gate>,
    /// Tells those who end after the executor that it has ended, whichever way.
    pub _ended: DropGuard,
}

struct Saga<R> {
    request: Arc<R>,
    trace: TraceContext,
    state: Arc<SagaState>,
    /// Legs that have a call under way, or an answer that waits to be decided.
    calling: Vec<(StepIndex, Leg)>,
    timer: Option<delay_queue::Key>,
    /// While an append is under way: what it leads to, and what came in meanwhile.
    appending: Option<Appending>,
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
    reply: Option<Reply>,
}

struct Appending {
    /// How lists showed the saga before.
    before: Summary,
    effects: Vec<Effect>,
    reply: Option<Reply>,
}

pub(crate) struct Executor<W: Workload> {
    workload: Arc<W>,
    outbox: Outbox<W::Request>,
    sagas: HashMap<SagaId, Saga<W::Request>>,
    /// Sagas that wait for a place, in order of arrival. Adopted ones are older, and go first.
    queued: VecDeque<SagaId>,
    queued_adopted: VecDeque<SagaId>,
    at_work: usize,
    at_work_max: usize,
    in_memory_max: usize,
    appends_under_way: usize,
    timers: DelayQueue<SagaId>,
}

impl<W: Workload> Executor<W> {
    pub(crate) fn new(workload: Arc<W>, config: &RuntimeConfig, outbox: Outbox<W::Request>) -> Self {
        Self {
            workload,
            outbox,
            sagas: HashMap::new(),
            queued: VecDeque::new(),
            queued_adopted: VecDeque::new(),
            at_work: 0,
            at_work_max: config.in_flight_max,
            in_memory_max: config.sagas_in_memory_max,
            appends_under_way: 0,
            timers: DelayQueue::new(),
        }
    }

    /// Runs until the log writer has ended, or the shutdown and all that is in flight then.
    pub(crate) async fn run(
        mut self,
        mut inbox: Inbox<W::Request>,
        shutdown: CancellationToken,
    ) -> Result<(), StoreError> {
        let (mut stopping, mut answered) = (false, false);
        while !(answered && self.appends_under_way == 0) {
            // No more is adopted than will soon have a place: the rest is left to other instances, and out of memory.
            let may_adopt = self.queued_adopted.len() < self.at_work_max && self.sagas.len() < self.in_memory_max;
            tokio::select! {
                written = inbox.written.recv() => {
                    let Some(written) = written else { break };
                    self.written(written);
                }
                answers = inbox.answers.recv(), if !answered => match answers {
                    Some(answers) => answers.into_iter().for_each(|answer| self.answered(answer)),
                    // The destinations have ended: nothing is in flight any more.
                    None => answered = true,
                },
                Some(entrants) = inbox.adopted.recv(), if may_adopt && !stopping => self.adopted(entrants),
                Some(command) = inbox.commands.recv() => {
                    // The caller may have heard of its saga while the message about it was still on its way here.
                    while let Ok(written) = inbox.written.try_recv() {
                        self.written(written);
                    }
                    self.command(command);
                }
                Some(expired) = self.timers.next(), if !stopping => self.expired(&expired.into_inner()),
                () = shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    self.outbox.destinations.clear();
                }
            }
            if !stopping {
                self.fill_places();
            }
            self.outbox.gate.set_in_memory(self.sagas.len());
            metrics::gauge!("matricula_sagas_in_memory").set(self.sagas.len() as f64);
            metrics::gauge!("matricula_sagas_queued").set((self.queued.len() + self.queued_adopted.len()) as f64);
        }
        Ok(())
    }

    fn written(&mut self, written: Written<Entrant<W::Request>>) {
        self.outbox.gate.leave(written.not_admitted);
        for entrant in written.admitted {
            self.queued.push_back(entrant.id.clone());
            self.enter(entrant);
        }
        for (append, outcome) in written.appended {
            self.appended(append, outcome);
        }
    }

    fn adopted(&mut self, entrants: Vec<Entrant<W::Request>>) {
        self.outbox.gate.adopted(entrants.iter().map(|entrant| &entrant.id));
        for entrant in entrants {
            self.queued_adopted.push_back(entrant.id.clone());
            self.enter(entrant);
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
        self.outbox.watchers.tell(&id, &saga.state);
        self.sagas.insert(id, saga);
    }

    fn expired(&mut self, id: &SagaId) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        saga.timer = None;
        self.input(id, Pending { input: Input::Wake, reply: None });
    }

    fn fill_places(&mut self) {
        while self.at_work < self.at_work_max {
            let Some(id) = self.queued_adopted.pop_front().or_else(|| self.queued.pop_front()) else { return };
            self.outbox.gate.turn_of(&id);
            if self.take_place(&id) {
                self.input(&id, Pending { input: Input::Resume, reply: None });
            }
        }
    }

    /// Gives a queued saga its place; false for one that has it already.
    fn take_place(&mut self, id: &SagaId) -> bool {
        let Some(saga) = self.sagas.get_mut(id).filter(|saga| saga.place == Place::Queued) else { return false };
        saga.place = Place::Taken;
        self.at_work += 1;
        true
    }

    fn answered(&mut self, answered: Answered) {
        let Answered { saga: id, step, leg, attempt, started_at_ms, answer } = answered;
        let input = Input::Answered { step, leg, attempt, started_at_ms, answer };
        self.input(&id, Pending { input, reply: None });
    }

    fn command(&mut self, command: Command) {
        let Command { saga, input, reply } = command;
        if !self.sagas.contains_key(&saga) {
            let _ = reply.send(None);
            return;
        }
        // A queued one that is cancelled is turned round before anything of it is called. It does not wait for a place:
        // there are more of them for a moment, which costs less than the steps that are now not taken.
        let was_queued = matches!(input, Input::Cancel { .. }) && self.take_place(&saga);
        self.input(&saga, Pending { input, reply: Some(reply) });
        if was_queued {
            self.input(&saga, Pending { input: Input::Resume, reply: None });
        }
    }

    fn input(&mut self, id: &SagaId, pending: Pending) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        if saga.appending.is_some() {
            saga.waiting.push_back(pending);
            return;
        }
        if let Input::Answered { step, leg, .. } = pending.input {
            // Not before: a wake that is decided between would make the same call again, and the next attempt of the
            // leg would then find a call in its way.
            saga.calling.retain(|calling| *calling != (step, leg));
        }
        let jitter = Jitter(rand::random());
        let now_ms = self.outbox.clock.now().0;
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
        if decision.events.is_empty() {
            confirm(pending.reply);
            self.act(id, decision.effects);
            return;
        }
        let (before, summary) = (Summary::of(&saga.state), Summary::of(&decision.state));
        saga.state = Arc::new(decision.state);
        saga.appending = Some(Appending { before, effects: decision.effects, reply: pending.reply });
        let append = Append { saga: id.clone(), events: decision.events, summary };
        // The writer is gone only when the process ends or was fenced; then nothing may be done any more.
        if self.outbox.writes.send(Write::Append(append)).is_ok() {
            self.appends_under_way += 1;
        }
    }

    fn appended(&mut self, append: Append, outcome: AppendOutcome) {
        self.appends_under_way -= 1;
        let id = append.saga;
        let Some(saga) = self.sagas.get_mut(&id) else { return };
        if outcome == AppendOutcome::Conflict {
            tracing::warn!(saga_id = id.as_str(), "the saga has another owner now; leaving it");
            self.outbox.watchers.given_away(&id);
            self.forget(&id);
            return;
        }
        let appending = saga.appending.take();
        self.outbox.watchers.tell(&id, &saga.state);
        if let Some(Appending { before, effects, reply }) = appending {
            self.tell_of_change(&id, before, append.summary);
            confirm(reply);
            self.act(&id, effects);
        }
        while let Some(saga) = self.sagas.get_mut(&id).filter(|saga| saga.appending.is_none()) {
            let Some(pending) = saga.waiting.pop_front() else { break };
            self.input(&id, pending);
        }
    }
}

fn confirm(reply: Option<Reply>) {
    if let Some(reply) = reply {
        let _ = reply.send(Some(Ok(())));
    }
}
