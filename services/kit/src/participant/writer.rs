//! The one writer of a service: gathers what waits, commits it, answers each caller.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::answer::Answer;
use crate::database::{Database, DbError};
use crate::participant::{Operation, Participant, transaction};
use crate::telemetry;

/// Bounds of the queue and of a batch.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// Requests that may wait. Beyond it callers are told to come back: the orchestrator sends a few large requests at
    /// a time, so a longer queue would only hide that the service is behind.
    pub requests_waiting_max: usize,
    /// Operations in one commit, unless a single request has more. Beyond some hundred rows a commit gains nothing
    /// more from being larger, and those who wait for it lose.
    pub operations_in_batch_max: usize,
}

impl Default for WriterLimits {
    fn default() -> Self {
        Self { requests_waiting_max: 1_024, operations_in_batch_max: 1_000 }
    }
}

/// Why operations have no answers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// Nothing was done: the queue is full.
    #[error("too many requests are waiting to be written")]
    QueueFull,
    /// Nothing will be done any more: the service is shutting down.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// It is not known whether it was done.
    #[error("the batch could not be committed")]
    NotCommitted(#[source] Arc<DbError>),
}

type Answers = Result<Vec<Answer>, WriteError>;

struct Request<C> {
    operations: Vec<Operation<C>>,
    reply: oneshot::Sender<Answers>,
    queued_at: Instant,
}

/// The handle by which requests reach the writer. When the last one is dropped, the writer finishes what waits and ends.
pub struct Writer<P: Participant> {
    queue: mpsc::Sender<Request<P::Command>>,
}

impl<P: Participant> Clone for Writer<P> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<P: Participant> Writer<P> {
    /// Starts the writer of a service.
    pub fn start(participant: Arc<P>, database: Database, limits: WriterLimits) -> (Self, JoinHandle<()>) {
        let (queue, requests) = mpsc::channel(limits.requests_waiting_max);
        let task = tokio::spawn(run(participant, database, limits, requests));
        (Self { queue }, task)
    }

    /// Has operations decided and committed; their answers come in their order. Never waits for a place in the queue.
    pub async fn write(&self, operations: Vec<Operation<P::Command>>) -> Answers {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answers) = oneshot::channel();
        let request = Request { operations, reply, queued_at: Instant::now() };
        self.queue.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => WriteError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => WriteError::ShuttingDown,
        })?;
        answers.await.unwrap_or(Err(WriteError::ShuttingDown))
    }
}

async fn run<P: Participant>(
    participant: Arc<P>,
    database: Database,
    limits: WriterLimits,
    mut requests: mpsc::Receiver<Request<P::Command>>,
) {
    while let Some(first) = requests.recv().await {
        let mut batch = vec![first];
        let mut operations = batch[0].operations.len();
        while operations < limits.operations_in_batch_max {
            let Ok(next) = requests.try_recv() else { break };
            operations += next.operations.len();
            batch.push(next);
        }
        // A caller whose deadline has passed hears no answer; the operation's next attempt will be a request of its own.
        batch.retain(|request| !request.reply.is_closed());
        metrics::gauge!("matricula_writer_requests_waiting", "service" => P::NAME).set(requests.len() as f64);
        commit(&participant, &database, batch).await;
    }
}

/// Commits a batch. If the database refuses it for good, or as often as a conflict can be tried again, each request is
/// tried by itself, so that one bad row can't keep the others out.
async fn commit<P: Participant>(participant: &Arc<P>, database: &Database, batch: Vec<Request<P::Command>>) {
    if batch.is_empty() {
        return;
    }
    let mut operations = Vec::new();
    let mut callers = Vec::with_capacity(batch.len());
    for request in batch {
        metrics::histogram!("matricula_writer_wait_seconds", "service" => P::NAME).record(request.queued_at.elapsed());
        callers.push((request.operations.len(), request.reply));
        operations.extend(request.operations);
    }
    match commit_once(participant, database, &operations).await {
        Ok(mut answers) => {
            for (count, reply) in callers {
                let rest = answers.split_off(count);
                let _ = reply.send(Ok(std::mem::replace(&mut answers, rest)));
            }
        }
        Err(error) if (error.is_permanent() || error.is_conflict()) && callers.len() > 1 => {
            tracing::error!(error = telemetry::chain(&error), "a batch was refused; trying its requests one by one");
            let mut rest = operations;
            for (count, reply) in callers {
                let next = rest.split_off(count);
                let own = std::mem::replace(&mut rest, next);
                let answers = commit_once(participant, database, &own).await;
                let _ = reply.send(answers.map_err(|error| WriteError::NotCommitted(Arc::new(error))));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for (_, reply) in callers {
                let _ = reply.send(Err(WriteError::NotCommitted(error.clone())));
            }
        }
    }
}

async fn commit_once<P: Participant>(
    participant: &Arc<P>,
    database: &Database,
    operations: &[Operation<P::Command>],
) -> Result<Vec<Answer>, DbError> {
    let started = Instant::now();
    let span = telemetry::commit_span(P::NAME, operations.iter().map(|operation| &operation.trace));
    let outcome = transaction::run(participant.as_ref(), database, operations).instrument(span).await;
    metrics::histogram!("matricula_commit_seconds", "service" => P::NAME).record(started.elapsed());
    metrics::histogram!("matricula_commit_operations", "service" => P::NAME).record(operations.len() as f64);
    if let Err(error) = &outcome {
        metrics::counter!("matricula_commit_failures_total", "service" => P::NAME).increment(1);
        tracing::warn!(error = telemetry::chain(error), operations = operations.len(), "a commit failed");
    }
    outcome
}
