//! Drives the sagas of this instance: one task that owns their states, asks the engine what follows from each input,
//! and acts on it: at once where the engine says that it may go ahead of the log, else when the log is durable.
//!
//! A saga is decided one input after the other, and the log's order is the order of decisions. It has at most one append
//! under way; what is decided meanwhile goes into the next.
//!
//! On shutdown it starts nothing more, and ends when what is in flight has been answered and appended.
//!
//! | module | one job |
//! |---|---|
//! | here | takes inputs, asks the engine, hands events to the log writer |
//! | `behind` | what of a saga's log is not durable yet, and what waits for it |
//! | `effects` | acts: calls, timers, places given back |
//! | `look` | what operators see of the sagas here |

mod behind;
mod effects;
mod look;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt as _;
use matricula_engine::{DecideError, Direction, Input, Jitter, SagaState, StepIndex, decide};
use matricula_kit::id::SagaId;
use matricula_kit::telemetry::{TraceContext, spans};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::time::{DelayQueue, delay_queue};
use tracing::Span;

use self::behind::{Behind, Overdue};
pub(crate) use self::look::{Look, SagasWaiting};
use crate::clock::Clock;
use crate::destination::{Answered, Told};
use crate::gate::Gate;
use crate::store::{Append, AppendOutcome, InstanceId, StoreError};
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

/// A request about a saga: a cancel, or an operator's command.
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
    pub looks: mpsc::Receiver<Look>,
}

/// Where the executor's decisions go.
pub(crate) struct Outbox<R> {
    pub writes: mpsc::UnboundedSender<Write<Entrant<R>>>,
    pub destinations: HashMap<&'static str, mpsc::UnboundedSender<Told<R>>>,
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
    /// The context of `span`; of the submission, when the saga has no span.
    trace: TraceContext,
    span: Span,
    state: Arc<SagaState>,
    /// Calls that are under way.
    calling: Vec<(StepIndex, Direction)>,
    timer: Option<delay_queue::Key>,
    behind: Behind,
    place: Place,
    /// It comes from another instance, and nothing was decided about it here.
    is_to_be_adopted: bool,
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

pub(crate) struct Executor<W: Workload> {
    workload: Arc<W>,
    instance: InstanceId,
    outbox: Outbox<W::Request>,
    sagas: HashMap<SagaId, Saga<W::Request>>,
    /// Sagas that wait for a place, in order of arrival. Adopted ones are older, and go first.
    queued: VecDeque<SagaId>,
    queued_adopted: VecDeque<SagaId>,
    at_work: usize,
    at_work_max: usize,
    in_memory_max: usize,
    appends_under_way: usize,
    /// Sagas with events that nothing waits for.
    overdue: Overdue,
    is_stopping: bool,
    timers: DelayQueue<SagaId>,
}

impl<W: Workload> Executor<W> {
    pub(crate) fn new(
        workload: Arc<W>,
        instance: InstanceId,
        config: &RuntimeConfig,
        outbox: Outbox<W::Request>,
    ) -> Self {
        Self {
            workload,
            instance,
            outbox,
            sagas: HashMap::new(),
            queued: VecDeque::new(),
            queued_adopted: VecDeque::new(),
            at_work: 0,
            at_work_max: config.in_flight_max,
            in_memory_max: config.sagas_in_memory_max,
            appends_under_way: 0,
            overdue: Overdue::default(),
            is_stopping: false,
            timers: DelayQueue::new(),
        }
    }

    /// Runs until the log writer has ended, or the shutdown and all that is in flight then.
    pub(crate) async fn run(
        mut self,
        mut inbox: Inbox<W::Request>,
        shutdown: CancellationToken,
    ) -> Result<(), StoreError> {
        let mut answered = false;
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
                Some(entrants) = inbox.adopted.recv(), if may_adopt && !self.is_stopping => self.adopted(entrants),
                Some(command) = inbox.commands.recv() => {
                    // The caller may have heard of its saga while the message about it was still on its way here.
                    while let Ok(written) = inbox.written.try_recv() {
                        self.written(written);
                    }
                    self.command(command);
                }
                Some(look) = inbox.looks.recv() => self.look(look),
                Some(expired) = self.timers.next(), if !self.is_stopping => self.expired(&expired.into_inner()),
                id = self.overdue.next() => self.write(&id),
                () = shutdown.cancelled(), if !self.is_stopping => {
                    self.is_stopping = true;
                    self.outbox.destinations.clear();
                    for id in self.overdue.take_all() {
                        self.write(&id);
                    }
                }
            }
            if !self.is_stopping {
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
            self.enter(entrant, false);
        }
        for (append, outcome) in written.appended {
            self.appended(append, outcome);
        }
    }

    fn adopted(&mut self, entrants: Vec<Entrant<W::Request>>) {
        self.outbox.gate.adopted(entrants.iter().map(|entrant| &entrant.id));
        for entrant in entrants {
            self.queued_adopted.push_back(entrant.id.clone());
            self.enter(entrant, true);
        }
    }

    fn enter(&mut self, entrant: Entrant<W::Request>, is_to_be_adopted: bool) {
        let Entrant { id, request, trace, state } = entrant;
        let span = spans::saga(self.workload.definition().name(), &id, &trace);
        let saga = Saga {
            request,
            trace: if span.is_disabled() { trace } else { TraceContext::of_span(&span, &trace) },
            span,
            calling: Vec::new(),
            timer: None,
            behind: Behind::new(&state),
            place: Place::Queued,
            is_to_be_adopted,
            state: Arc::new(state),
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
        while self.at_work < self.outbox.gate.at_work_limit() {
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
        let Answered { saga: id, step, direction, attempt, took, answer } = answered;
        // From one reading of one clock, so that the two moments are as far apart as the call has taken, whatever this
        // machine's wall clock says, and however the database's clock was set meanwhile.
        let now_ms = self.outbox.clock.now().0;
        let started_at_ms = now_ms.saturating_sub(i64::try_from(took.as_millis()).unwrap_or(i64::MAX));
        let input = Input::Answered { step, direction, attempt, started_at_ms, answer };
        self.input_at(&id, Pending { input, reply: None }, now_ms);
    }

    fn command(&mut self, command: Command) {
        let Command { saga, input, reply } = command;
        if !self.sagas.contains_key(&saga) {
            let _ = reply.send(None);
            return;
        }
        // A queued saga that is cancelled starts its compensation before anything of it is called; of an adopted one
        // what is due leaves first, and is undone. It does not wait for a place: there are more of them for a moment,
        // which costs less than the steps that are now not taken.
        let was_queued = matches!(input, Input::Cancel { .. }) && self.take_place(&saga);
        self.input(&saga, Pending { input, reply: Some(reply) });
        if was_queued {
            self.input(&saga, Pending { input: Input::Resume, reply: None });
        }
    }

    fn input(&mut self, id: &SagaId, pending: Pending) {
        let now_ms = self.outbox.clock.now().0;
        self.input_at(id, pending, now_ms);
    }

    fn input_at(&mut self, id: &SagaId, pending: Pending, now_ms: i64) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        if std::mem::take(&mut saga.is_to_be_adopted) {
            // Before anything else is decided: what its last owner did may be missing from its log.
            let input = Input::Adopt { by: self.instance.as_str().to_owned() };
            self.input_at(id, Pending { input, reply: None }, now_ms);
        }
        let Some(saga) = self.sagas.get_mut(id) else { return };
        if let Input::Answered { step, direction, .. } = pending.input {
            saga.calling.retain(|calling| *calling != (step, direction));
        }
        let is_by_operator = matches!(pending.input, Input::Operator { .. });
        let jitter = Jitter(rand::random());
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
        saga.state = Arc::new(decision.state);
        let due = saga.behind.decided(decision.events, decision.effects, pending.reply, &saga.state);
        if is_by_operator {
            self.withdraw(id);
        }
        self.set_timer(id, decision.wake_at_ms);
        self.act(id, decision.ahead);
        self.follow(id, due);
    }

    /// Does what is due of a saga's log after a decision.
    fn follow(&mut self, id: &SagaId, due: behind::Due) {
        match due {
            behind::Due::Now(waiting) => self.done_waiting(id, waiting),
            behind::Due::Write => self.write(id),
            behind::Due::Later if self.is_stopping => self.write(id),
            behind::Due::Later => self.overdue.push(id.clone()),
            behind::Due::Nothing => {}
        }
    }

    /// Hands what a saga has decided to the log writer, unless an append of it is under way.
    fn write(&mut self, id: &SagaId) {
        let Some(saga) = self.sagas.get_mut(id) else { return };
        let Some((events, summary)) = saga.behind.send(&saga.state) else { return };
        let append = Append { saga: id.clone(), events, summary };
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
        let Some((durable, due)) = saga.behind.appended(&saga.state) else { return };
        self.outbox.watchers.tell(&id, &durable.state);
        self.tell_of_change(&id, durable.before, append.summary);
        self.done_waiting(&id, durable.waiting);
        self.follow(&id, due);
    }

    fn done_waiting(&mut self, id: &SagaId, waiting: behind::Waiting) {
        for reply in waiting.replies {
            let _ = reply.send(Some(Ok(())));
        }
        self.act(id, waiting.effects);
    }
}
