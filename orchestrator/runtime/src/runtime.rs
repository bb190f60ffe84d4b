//! The handle of an orchestrator: starts its tasks, takes submissions and cancels, and ends in order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use matricula_engine::{DecideError, Recorded};
use matricula_kit::database::DbError;
use matricula_kit::id::SagaId;
use matricula_kit::telemetry::{self, TraceContext};
use matricula_kit::time;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::destination::{Destination, DestinationStatus};
use crate::executor::{Cancel, Executor, Inbox};
use crate::store::{Admission, InstanceId, NewSaga, SagaStore, StoreError};
use crate::watch::{Watcher, Watchers};
use crate::writer::{self, Write};
use crate::{RuntimeConfig, Workload, lease};

/// Chunks of adopted sagas and cancels that may wait for the executor.
const HANDED_OVER_MAX: usize = 4;
const CANCELS_WAITING_MAX: usize = 1_024;
/// Retry hints are spread between these, so that those who were turned away don't all come back at once.
const RETRY_HINT_MS: std::ops::Range<u64> = 500..2_500;

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
    /// The request can't be stored.
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
    config: RuntimeConfig,
    writes: mpsc::UnboundedSender<Write<Arc<W::Request>>>,
    cancels: mpsc::Sender<Cancel>,
    watchers: Watchers,
    open: Arc<AtomicUsize>,
    destinations: Vec<Arc<Mutex<DestinationStatus>>>,
    stopping: CancellationToken,
}

impl<W: Workload> Runtime<W> {
    /// Registers a new instance and starts its tasks. The task returned ends after `shutdown`, or with `Fenced` when
    /// the instance was given up by others; then the process must end.
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
        let open = Arc::new(AtomicUsize::new(0));

        let mut destinations = HashMap::new();
        let mut statuses = Vec::new();
        for step in workload.definition().steps() {
            let name = step.destination;
            if destinations.contains_key(name) {
                continue;
            }
            let status = Arc::new(Mutex::new(DestinationStatus { name, ..Default::default() }));
            let (calls_out, calls) = mpsc::unbounded_channel();
            let destination =
                Destination::new(name, workload.clone(), config.clone(), answers_out.clone(), status.clone());
            tokio::spawn(destination.run(calls));
            destinations.insert(name, calls_out);
            statuses.push(status);
        }
        let executor = Executor::new(
            workload.clone(),
            config.in_flight_max,
            writes.clone(),
            destinations,
            watchers.clone(),
            open.clone(),
        );
        let executing = tokio::spawn(executor.run(Inbox { written, answers, adopted, cancels: cancel_queue }));
        let stopping = shutdown.child_token();
        let writing =
            tokio::spawn(writer::run(store.clone(), instance.clone(), write_queue, written_out, stopping.clone()));
        let leasing = tokio::spawn(lease::run(
            store.clone(),
            instance.clone(),
            workload.clone(),
            config.clone(),
            adopted_out,
            stopping.clone(),
        ));
        let task = tokio::spawn(end(
            Tasks { writing, leasing, executing },
            store.clone(),
            instance.clone(),
            stopping.clone(),
        ));
        let runtime = Self {
            workload,
            store,
            instance,
            config,
            writes,
            cancels,
            watchers,
            open,
            destinations: statuses,
            stopping,
        };
        Ok((Arc::new(runtime), task))
    }

    /// Accepts a submission durably, or says why not. Watch the id first to miss nothing.
    pub async fn submit(&self, submission: Submission<W::Request>) -> Result<Submitted, SubmitError> {
        if self.stopping.is_cancelled() {
            return Err(SubmitError::ShuttingDown);
        }
        let (saga, request) = self.new_saga(submission)?;
        let admitted_max = self.config.admission_queue_max;
        let counted = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < admitted_max).then_some(open + 1)
        });
        if counted.is_err() {
            metrics::counter!("matricula_submissions_turned_away_total").increment(1);
            let retry_after = Duration::from_millis(rand::random_range(RETRY_HINT_MS));
            return Err(SubmitError::QueueFull { retry_after });
        }
        // From here on the executor counts it off: when it is decided, or turns out to exist.
        let (reply, admission) = oneshot::channel();
        let write = Write::Admit { saga: Box::new(saga), context: request, reply };
        self.writes.send(write).map_err(|_| SubmitError::ShuttingDown)?;
        match admission.await.map_err(|_| SubmitError::ShuttingDown)? {
            Admission::Admitted => Ok(Submitted::Accepted),
            Admission::Existing { id, same_request: true } => Ok(Submitted::Existing(id)),
            Admission::Existing { id, same_request: false } => Err(SubmitError::KeyReused { existing: id }),
        }
    }

    fn new_saga(&self, submission: Submission<W::Request>) -> Result<(NewSaga, Arc<W::Request>), SubmitError> {
        let Submission { id, subject, idempotency_key, fingerprint, request, trace } = submission;
        let definition = self.workload.definition();
        let now_ms = time::now().0;
        let admitted = Recorded::first(now_ms, definition.admit(self.workload.applies(&request), now_ms));
        let text = serde_json::to_string(&request).map_err(|error| SubmitError::Unstorable(error.to_string()))?;
        let definition = (definition.name(), definition.version());
        let saga =
            NewSaga { id, subject, idempotency_key, fingerprint, request: text, trace, admitted, definition };
        Ok((saga, Arc::new(request)))
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

struct Tasks {
    writing: JoinHandle<Result<(), StoreError>>,
    leasing: JoinHandle<Result<(), StoreError>>,
    executing: JoinHandle<()>,
}

/// Waits for the shutdown or the loss of the lease, stops all tasks, and gives the sagas that are left to others.
async fn end(
    mut tasks: Tasks,
    store: SagaStore,
    instance: InstanceId,
    stopping: CancellationToken,
) -> Result<(), StoreError> {
    let first = tokio::select! {
        ended = &mut tasks.writing => Some(ended),
        ended = &mut tasks.leasing => Some(ended),
        () = stopping.cancelled() => None,
    };
    stopping.cancel();
    if let Some(Ok(Err(error))) = first {
        tracing::error!(error = telemetry::chain(&error), "the orchestrator must stop");
        tasks.writing.abort();
        tasks.executing.abort();
        return Err(error);
    }
    if let Some(Err(error)) = first {
        tracing::error!(%error, "a task of the orchestrator panicked");
    }
    // Nothing is lost by stopping here: what is decided is in the log, and the rest is called again by whoever adopts it.
    tasks.executing.abort();
    tasks.writing.abort();
    let _ = tasks.executing.await;
    if let Err(error) = store.release(&instance).await {
        tracing::warn!(error = telemetry::chain(&error), "the lease could not be given back; it will lapse");
    }
    Ok(())
}
