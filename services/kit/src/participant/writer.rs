//! The one writer of a service: gathers what waits, commits it, answers each caller.
//!
//! Promises: an operation that the database refuses, or that panics, keeps no other out, whatever it is batched with;
//! the writer itself never ends before its last handle.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
#[cfg(any(test, feature = "testing"))]
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::answer::{Answer, Done, NotYet, Refusal};
use crate::database::{Database, DbError};
use crate::participant::transaction::{self, Failure};
use crate::participant::{Operation, Participant};
use crate::tasks::Tasks;
use crate::telemetry::{self, spans};

/// When an operation that could not be done should be sent again: no sooner than somebody can have mended it.
const RETRY_FAILED_MS: i64 = 2_000;
/// Operations of one batch that may fail by themselves. When there are more, the fault is not theirs, and looking for
/// each would only keep the database busy.
const FAILED_MAX: usize = 20;
/// Time between two looks whether a commit in doubt is decided.
const SETTLE_AGAIN: Duration = Duration::from_millis(100);

/// Bounds of the queue and of a batch.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// Requests that may wait. Beyond it callers are told to come back: the orchestrator sends a few large requests at
    /// a time, so a longer queue would only hide that the service is behind.
    pub requests_waiting_max: usize,
    /// Operations in one commit, unless a single request has more. Beyond some hundred rows a commit gains nothing
    /// more from being larger, and those who wait for it lose.
    pub operations_in_batch_max: usize,
    /// A batch, or its commit, that takes longer is given up: a half-open connection would be waited for for ever, and
    /// by then no caller waits any more. The largest import is far below it.
    pub answer_timeout: Duration,
}

impl Default for WriterLimits {
    fn default() -> Self {
        Self { requests_waiting_max: 1_024, operations_in_batch_max: 1_000, answer_timeout: Duration::from_secs(15) }
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
    /// It was not done, by a fault of this service.
    #[error("the operation could not be decided: a fault of the service, whose log has the cause")]
    Panicked,
}

type Answers = Result<Vec<Answer>, WriteError>;

/// Why a staff command was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StaffError {
    /// The rules say no.
    #[error("the command is refused")]
    Refused(Vec<Refusal>),
    /// It could not be done now, and nothing of it was: staff send it again.
    #[error("not done: {}", .0.message)]
    NotYet(NotYet),
    /// It has no answer.
    #[error("the command has no answer")]
    Write(#[from] WriteError),
}

struct Request<C> {
    operations: Vec<Operation<C>>,
    reply: oneshot::Sender<Answers>,
    queued_at: Instant,
}

/// The handle by which requests reach the writer. When the last one is dropped, the writer finishes what waits and
/// ends.
pub struct Writer<P: Participant> {
    queue: mpsc::Sender<Request<P::Command>>,
}

impl<P: Participant> Clone for Writer<P> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<P: Participant> Writer<P> {
    /// Starts the writer of a service among its tasks. It must run: what a panic left in its memory is not to be
    /// trusted.
    pub fn start(participant: Arc<P>, database: Database, limits: WriterLimits, tasks: &Tasks) -> Self {
        let (writer, running) = Self::new(participant, database, limits);
        tasks.must_run("writer", running);
        writer
    }

    /// A writer, and what runs it.
    pub fn new(participant: Arc<P>, database: Database, limits: WriterLimits) -> (Self, impl Future<Output = ()>) {
        let (queue, requests) = mpsc::channel(limits.requests_waiting_max);
        (Self { queue }, run(participant, database, limits, requests))
    }

    /// A writer that nobody watches, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn alone(participant: Arc<P>, database: Database, limits: WriterLimits) -> (Self, JoinHandle<()>) {
        let (writer, running) = Self::new(participant, database, limits);
        (writer, crate::tasks::detached("writer", running))
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

    /// Has one staff command decided and committed. Every answer but "done" is an error, so that nobody takes a command
    /// for done that was refused or put off.
    pub async fn write_staff(&self, command: P::Command) -> Result<Done, StaffError> {
        match self.write(vec![Operation::staff(command)]).await?.pop() {
            Some(Answer::Done(done)) => Ok(done),
            Some(Answer::Refused(reasons)) => Err(StaffError::Refused(reasons)),
            Some(Answer::NotYet(not_yet)) => Err(StaffError::NotYet(not_yet)),
            // The writer answers every operation.
            None => Err(StaffError::Write(WriteError::Panicked)),
        }
    }
}

async fn run<P: Participant>(
    participant: Arc<P>,
    database: Database,
    limits: WriterLimits,
    mut requests: mpsc::Receiver<Request<P::Command>>,
) {
    let mut committer = Committer { participant, database, answer_timeout: limits.answer_timeout, in_doubt: false };
    loop {
        let first = tokio::select! {
            first = requests.recv() => first,
            () = decided(&committer.database), if committer.in_doubt => {
                committer.settled();
                continue;
            }
        };
        let Some(first) = first else { return };
        let mut batch = vec![first];
        let mut operations = batch[0].operations.len();
        while operations < limits.operations_in_batch_max {
            let Ok(next) = requests.try_recv() else { break };
            operations += next.operations.len();
            batch.push(next);
        }
        // A caller whose deadline has passed hears no answer; the operation's next attempt will be a request of its
        // own.
        batch.retain(|request| !request.reply.is_closed());
        metrics::gauge!("matricula_writer_requests_waiting", "service" => P::NAME).set(requests.len() as f64);
        if !batch.is_empty() {
            committer.commit(batch).await;
        }
    }
}

/// Waits until the database takes a transaction: then the one before it has ended, one way or the other.
async fn decided(database: &Database) {
    while database.begin().await.is_err() {
        tokio::time::sleep(SETTLE_AGAIN).await;
    }
}

struct Committer<P: Participant> {
    participant: Arc<P>,
    database: Database,
    answer_timeout: Duration,
    /// Whether a commit has ended without an answer, and nothing was committed since.
    in_doubt: bool,
}

impl<P: Participant> Committer<P> {
    /// Commits a batch and answers each caller. If it fails by what is in it, its operations are taken apart.
    async fn commit(&mut self, batch: Vec<Request<P::Command>>) {
        let mut operations = Vec::new();
        let mut callers = Vec::with_capacity(batch.len());
        for request in batch {
            metrics::histogram!("matricula_writer_wait_seconds", "service" => P::NAME)
                .record(request.queued_at.elapsed());
            callers.push((request.operations.len(), request.reply));
            operations.extend(request.operations);
        }
        let mut answers = self.commit_apart(&operations).await;
        for (count, reply) in callers {
            let rest = answers.split_off(count);
            let _ = reply.send(of_request(std::mem::replace(&mut answers, rest)));
        }
    }

    /// Commits operations together if possible, else in halves, down to the ones that fail by themselves.
    async fn commit_apart(&mut self, operations: &[Operation<P::Command>]) -> Vec<Result<Answer, WriteError>> {
        let mut answers = Vec::with_capacity(operations.len());
        let mut failed = 0;
        // The first part is at the end, so that answers come in order.
        let mut parts = vec![operations];
        while let Some(part) = parts.pop() {
            match self.commit_once(part).await {
                Ok(of_part) => answers.extend(of_part.into_iter().map(Ok)),
                Err(error) if error.is_of_operation() && part.len() > 1 && failed < FAILED_MAX => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) => {
                    failed += usize::from(error.is_of_operation());
                    answers.extend(part.iter().map(|_| Err(error.clone())));
                }
            }
        }
        if failed > 0 {
            tracing::error!(failed, of = operations.len(), "operations could not be done; the others were");
        }
        answers
    }

    async fn commit_once(&mut self, operations: &[Operation<P::Command>]) -> Result<Vec<Answer>, WriteError> {
        let started = Instant::now();
        let traces = operations.iter().map(|operation| &operation.trace);
        let span = spans::commit(&self.database, traces, operations.len());
        if let [operation] = operations {
            operation.describe_in(&span);
        }
        let committing = transaction::run(self.participant.as_ref(), &self.database, operations, self.answer_timeout);
        let outcome = AssertUnwindSafe(committing.instrument(span.clone())).catch_unwind().await;
        metrics::histogram!("matricula_commit_seconds", "service" => P::NAME).record(started.elapsed());
        metrics::histogram!("matricula_commit_operations", "service" => P::NAME).record(operations.len() as f64);
        let (error, in_doubt) = match outcome {
            Ok(Ok(answers)) => {
                if self.in_doubt {
                    self.settled();
                }
                return Ok(answers);
            }
            Ok(Err(failure)) => {
                tracing::warn!(error = telemetry::chain(&failure), operations = operations.len(), "a commit failed");
                let (error, in_doubt) = match failure {
                    Failure::NotDone(error) => (error, false),
                    Failure::InDoubt(error) => (error, true),
                };
                spans::not_committed(&span, &error);
                (WriteError::NotCommitted(Arc::new(error)), in_doubt)
            }
            Err(_) => {
                tracing::error!(operations = operations.len(), "a commit panicked");
                (WriteError::Panicked, true)
            }
        };
        metrics::counter!("matricula_commit_failures_total", "service" => P::NAME).increment(1);
        if in_doubt {
            self.in_doubt = true;
            self.participant.in_doubt();
        } else {
            self.participant.not_committed();
        }
        Err(error)
    }

    fn settled(&mut self) {
        self.in_doubt = false;
        self.participant.settled();
    }
}

impl WriteError {
    /// Whether the operation is the cause, and not the state of the database.
    fn is_of_operation(&self) -> bool {
        match self {
            Self::NotCommitted(error) => error.is_permanent() || error.is_conflict(),
            Self::Panicked => true,
            Self::QueueFull | Self::ShuttingDown => false,
        }
    }
}

/// The answers of one caller. When some of its operations failed by themselves, each of them is answered so, and the
/// others have their answers; else an error is one for all.
fn of_request(answers: Vec<Result<Answer, WriteError>>) -> Answers {
    let is_apart = answers.iter().all(|answer| answer.as_ref().map_or_else(WriteError::is_of_operation, |_| true));
    if answers.len() == 1 || !is_apart {
        return answers.into_iter().collect();
    }
    if let Some(Err(error)) =
        answers.iter().find(|answer| answer.is_err()).filter(|_| answers.iter().all(Result::is_err))
    {
        return Err(error.clone());
    }
    Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|_| failed())).collect())
}

fn failed() -> Answer {
    Answer::NotYet(NotYet {
        reason: "OPERATION_FAILED".to_owned(),
        message: "the service could not do this operation; its log has the cause".to_owned(),
        retry_after_ms: RETRY_FAILED_MS,
        waits_for: None,
    })
}
