//! The handle of an orchestrator: starts its tasks, takes submissions and cancels, and ends in order.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use matricula_engine::{DecideError, Recorded, SagaState};
use matricula_kit::database::DbError;
use matricula_kit::id::SagaId;
use matricula_kit::telemetry::{self, TraceContext};
use matricula_kit::time;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::destination::{Answered, Destination, DestinationStatus, Waiting};
use crate::executor::{Cancel, Entrant, Executor, Inbox, Outbox};
use crate::gate::Gate;
use crate::lease::{self, Adoption};
use crate::others;
use crate::store::{Admission, InstanceId, NewSaga, SagaStore, StoreError};
use crate::watch::{Watcher, Watchers};
use crate::writer::{self, Log, Write};
use crate::{RuntimeConfig, Workload};

/// Chunks of adopted sagas and cancels that may wait for the executor.
const HANDED_OVER_MAX: usize = 4;
const CANCELS_WAITING_MAX: usize = 1_024;
/// Retry hints are spread between these, so that those who were turned away don't all come back at once.
const RETRY_HINT_MS: std::ops::Range<u64> = 500..2_500;
/// What shutdown waits for on top of the timeout of a call: commits of the last answers.
const LAST_COMMITS: Duration = Duration::from_secs(1);

/// What is submitted.
#[derive(Debug, Clone)]
pub struct Submission<R> {
    /// A new id.
    pub id: SagaId,
    /// Whom it is about.
    pub subject: String,
    /// Unique for each subject.
    pub idempotency_key: String,
    /// The request in one canonical form.
    pub fingerprint: String,
    /// What the saga works from.
    pub request: R,
    /// The trace that it belongs to.
    pub trace: TraceContext,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is accepted, durably.
    Accepted,
    /// The same was submitted before: this is its saga.
    Existing(SagaId),
}

/// Why a submission was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many are waiting. Nothing was accepted.
    #[error("too many registrations are waiting")]
    QueueFull {
        /// When to come back.
        retry_after: Duration,
    },
    /// The key was used for another request.
    #[error("the idempotency key was used before, for another request (registration {existing})")]
    KeyReused {
        /// The registration of that time.
        existing: SagaId,
    },
    /// It is not known whether it was accepted: the orchestrator is shutting down.
    #[error("the orchestrator is shutting down")]
    ShuttingDown,
    /// The request can't be stored, or is none of this saga's. Nothing was accepted.
    #[error("the request can't be stored: {0}")]
    Unstorable(String),
}

/// Why a saga was not cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// This instance does not drive it: it is finished, unknown, or another's.
    #[error("this orchestrator does not drive the saga")]
    NotHere,
    /// The engine refused.
    #[error(transparent)]
    Refused(DecideError),
}

/// A running orchestrator.
pub struct Runtime<W: Workload> {
    workload: Arc<W>,
    store: SagaStore,
    instance: InstanceId,
    writes: mpsc::UnboundedSender<Write<Entrant<W::Request>>>,
    cancels: mpsc::Sender<Cancel>,
    watchers: Watchers,
    gate: Arc<Gate>,
    destinations: Vec<Arc<Mutex<DestinationStatus>>>,
    stopping: CancellationToken,
}

impl<W: Workload> Runtime<W> {
    /// Registers a new instance and starts its tasks. The task returned ends after `shutdown`, or with `Fenced` when
    /// the instance was given up by others; then the process must end. Aborting it stops everything at once.
    pub async fn start(
        workload: Arc<W>,
        store: SagaStore,
        config: RuntimeConfig,
        shutdown: CancellationToken,
    ) -> Result<(Arc<Self>, JoinHandle<Result<(), StoreError>>), DbError> {
        let instance = InstanceId::generate();
        store.register(&instance, config.lease_ttl_ms).await?;
        tracing::info!(instance = instance.as_str(), "the orchestrator's instance is registered");

        let (writes, write_queue) = mpsc::unbounded_channel();
        let (written_out, written) = mpsc::unbounded_channel();
        let (answers_out, answers) = mpsc::unbounded_channel();
        let (adopted_out, adopted) = mpsc::channel(HANDED_OVER_MAX);
        let (cancels, cancel_queue) = mpsc::channel(CANCELS_WAITING_MAX);
        let watchers = Watchers::default();
        let gate = Arc::new(Gate::new(&config));
        let stopping = shutdown.child_token();
        let closing = CancellationToken::new();

        let mut tasks = JoinSet::new();
        let (destinations, statuses) = start_destinations(&workload, &config, answers_out, &mut tasks);
        let outbox = Outbox {
            writes: writes.clone(),
            destinations,
            watchers: watchers.clone(),
            gate: gate.clone(),
            _ended: closing.clone().drop_guard(),
        };
        let inbox = Inbox { written, answers, adopted, cancels: cancel_queue };
        tasks.spawn(Executor::new(workload.clone(), &config, outbox).run(inbox, stopping.clone()));
        let log = Log { store: store.clone(), instance: instance.clone(), shutdown: stopping.clone() };
        tasks.spawn(writer::run(log, write_queue, written_out, closing.clone()));
        tasks.spawn(lease::keep(store.clone(), instance.clone(), config.clone(), closing));
        let adoption = Adoption {
            store: store.clone(),
            instance: instance.clone(),
            workload: workload.clone(),
            config: config.clone(),
            adopted: adopted_out,
        };
        tasks.spawn(adoption.run(stopping.clone()));
        tasks.spawn(others::follow(store.clone(), workload.clone(), watchers.clone(), stopping.clone()));
        let grace = Duration::from_millis(config.call_timeout_ms) + LAST_COMMITS;
        let task = tokio::spawn(end(tasks, store.clone(), instance.clone(), stopping.clone(), grace));
        let destinations = statuses;
        let runtime = Self { workload, store, instance, writes, cancels, watchers, gate, destinations, stopping };
        Ok((Arc::new(runtime), task))
    }

    /// Accepts a submission durably, or says why not. Watch the id first to miss nothing.
    pub async fn submit(&self, submission: Submission<W::Request>) -> Result<Submitted, SubmitError> {
        if self.stopping.is_cancelled() {
            return Err(SubmitError::ShuttingDown);
        }
        let (saga, entrant) = self.new_saga(submission)?;
        if !self.gate.enter() {
            metrics::counter!("matricula_submissions_turned_away_total").increment(1);
            let retry_after = Duration::from_millis(rand::random_range(RETRY_HINT_MS));
            return Err(SubmitError::QueueFull { retry_after });
        }
        // From here on the executor counts it off: when it is decided, or turns out to exist.
        let (reply, admission) = oneshot::channel();
        let write = Write::Admit { saga: Box::new(saga), entrant, reply };
        self.writes.send(write).map_err(|_| SubmitError::ShuttingDown)?;
        match admission.await.map_err(|_| SubmitError::ShuttingDown)? {
            Ok(Admission::Admitted) => Ok(Submitted::Accepted),
            Ok(Admission::Existing { id, same_request: true }) => Ok(Submitted::Existing(id)),
            Ok(Admission::Existing { id, same_request: false }) => Err(SubmitError::KeyReused { existing: id }),
            Err(problem) => Err(SubmitError::Unstorable(problem)),
        }
    }

    fn new_saga(&self, submission: Submission<W::Request>) -> Result<(NewSaga, Entrant<W::Request>), SubmitError> {
        let Submission { id, subject, idempotency_key, fingerprint, request, trace } = submission;
        let definition = self.workload.definition();
        let now_ms = time::now().0;
        let admitted = Recorded::first(now_ms, definition.admit(self.workload.applies(&request), now_ms));
        // What does not fold must not become durable: nobody could ever drive it.
        let state = SagaState::replay(definition, [&admitted]);
        let state = state.map_err(|error| SubmitError::Unstorable(error.to_string()))?;
        let text = serde_json::to_string(&request).map_err(|error| SubmitError::Unstorable(error.to_string()))?;
        let entrant = Entrant { id: id.clone(), request: Arc::new(request), trace: trace.clone(), state };
        let definition = (definition.name(), definition.version());
        let saga = NewSaga { id, subject, idempotency_key, fingerprint, request: text, trace, admitted, definition };
        Ok((saga, entrant))
    }

    /// Turns a saga round, if that is still possible.
    pub async fn cancel(&self, saga: &SagaId, by: &str, reason: &str) -> Result<(), CancelError> {
        let (reply, answer) = oneshot::channel();
        let cancel = Cancel { saga: saga.clone(), by: by.to_owned(), reason: reason.to_owned(), reply };
        self.cancels.send(cancel).await.map_err(|_| CancelError::NotHere)?;
        match answer.await {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(error))) => Err(CancelError::Refused(error)),
            Ok(None) | Err(_) => Err(CancelError::NotHere),
        }
    }

    /// Begins to watch a saga.
    pub fn watch(&self, saga: &SagaId) -> Watcher {
        self.watchers.watch(saga)
    }

    /// The saga log, to read.
    pub fn store(&self) -> &SagaStore {
        &self.store
    }

    /// What the sagas do.
    pub fn workload(&self) -> &W {
        &self.workload
    }

    /// This process start.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// How each destination stands.
    pub fn destinations(&self) -> Vec<DestinationStatus> {
        let status = |status: &Arc<Mutex<DestinationStatus>>| {
            status.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
        };
        self.destinations.iter().map(status).collect()
    }
}

type CallQueues<R> = HashMap<&'static str, mpsc::UnboundedSender<Waiting<R>>>;
type Statuses = Vec<Arc<Mutex<DestinationStatus>>>;

/// Starts a task for each service that the steps call.
fn start_destinations<W: Workload>(
    workload: &Arc<W>,
    config: &RuntimeConfig,
    answers: mpsc::UnboundedSender<Vec<Answered>>,
    tasks: &mut JoinSet<Result<(), StoreError>>,
) -> (CallQueues<W::Request>, Statuses) {
    let mut queues = HashMap::new();
    let mut statuses = Vec::new();
    for step in workload.definition().steps() {
        let name = step.destination;
        if queues.contains_key(name) {
            continue;
        }
        let status = Arc::new(Mutex::new(DestinationStatus { name, ..Default::default() }));
        let (queue, calls) = mpsc::unbounded_channel();
        let destination = Destination::new(name, workload.clone(), config.clone(), answers.clone(), status.clone());
        tasks.spawn(async move {
            destination.run(calls).await;
            Ok(())
        });
        queues.insert(name, queue);
        statuses.push(status);
    }
    (queues, statuses)
}

/// Waits until all tasks have ended after the shutdown, and gives the sagas that are left to others. Fails as soon as
/// one of them does; then the others are stopped where they are.
async fn end(
    mut tasks: JoinSet<Result<(), StoreError>>,
    store: SagaStore,
    instance: InstanceId,
    stopping: CancellationToken,
    grace: Duration,
) -> Result<(), StoreError> {
    let _submissions_end_with_this = stopping.clone().drop_guard();
    let out_of_grace = async {
        stopping.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    let ended = async {
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(result) => result?,
                // Recovery is another process's: what a panic left in memory is not to be trusted.
                Err(error) => resume_unwind(error.into_panic()),
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = ended => if let Err(error) = ended {
            tracing::error!(error = telemetry::chain(&error), "the orchestrator must stop");
            return Err(error);
        },
        () = out_of_grace => tracing::warn!("calls are still in flight after the grace period; they will be made again"),
    }
    // Nothing is lost by stopping here: what is decided is in the log, and the rest is called again by whoever adopts it.
    tasks.shutdown().await;
    if let Err(error) = store.release(&instance).await {
        tracing::warn!(error = telemetry::chain(&error), "the lease could not be given back; it will lapse");
    }
    Ok(())
}
