//! The write path that all participants share: what waits becomes one batch, one transaction, one commit.
//!
//! ```text
//! gRPC request --operations--> queue --+                      one transaction
//! gRPC request --operations--> queue --+--> batch --> undos' barrier rows, load and lock --> decide each in order of arrival
//! gRPC request --operations--> queue --+             --> write set-wise, barrier rows --> commit --> answers
//! ```
//!
//! There are no timers: a batch is what gathered while the last one was committing. An idle service answers at once,
//! and a flooded one commits a thousand operations at a time. A service brings a [`Participant`]: what to load, how to
//! decide, what to write. The barrier is not its business, so no service can forget it.
//!
//! Promises: an operation that the database refuses, or that panics, keeps no other out, whatever it is batched with;
//! the writer itself never ends before its last handle.

mod barrier;
mod rows;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
#[cfg(any(test, feature = "testing"))]
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};

use self::barrier::Barrier;
pub(crate) use self::barrier::server;
pub use self::barrier::{Reading, STALE_AFTER_MS};
pub use self::rows::{LoadedRows, RowState};
use crate::answer::{Answer, Done, NotYet, Refusal};
use crate::database::{CommitError, Database, DbError, Tx};
use crate::id::{SagaId, StepName};
use crate::tasks::Tasks;
use crate::telemetry::spans;
pub use crate::telemetry::spans::Direction;
use crate::telemetry::{self, TraceContext};
use crate::time::{self, UnixMs};

/// When an operation that could not be done should be sent again: no sooner than somebody can have mended it.
const RETRY_FAILED_MS: i64 = 2_000;
/// Operations of one batch that may fail by themselves. When there are more, the fault is not theirs, and looking for
/// each would only keep the database busy.
const FAILED_MAX: usize = 20;
/// Time between two looks whether a commit in doubt is decided.
const SETTLE_AGAIN: Duration = Duration::from_millis(100);
/// How often a batch that met another writer is run again before its callers get the error "not known".
const CONFLICT_RETRIES_MAX: u32 = 5;

/// Names the step of a saga that an operation belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The saga.
    pub saga: SagaId,
    /// The step; of an undo, the step that it undoes.
    pub step: StepName,
}

/// One operation, as it waits to be written.
#[derive(Debug, Clone)]
pub struct Operation<C> {
    /// The saga's step; `None` for a staff operation, which has no barrier.
    pub key: Option<Key>,
    /// Which way it goes.
    pub direction: Direction,
    /// The trace that it belongs to.
    pub trace: TraceContext,
    /// When its caller last knew that it drives the saga; `None` when that is not told.
    pub owner_alive_at: Option<UnixMs>,
    /// What to do, in the words of the service.
    pub command: C,
}

impl<C> Operation<C> {
    /// A staff operation: no saga, no barrier.
    pub fn staff(command: C) -> Self {
        Self { key: None, direction: Direction::Forward, trace: TraceContext::default(), owner_alive_at: None, command }
    }

    /// Records in a span that it is about this operation alone. A staff operation is of no saga.
    pub(crate) fn describe_in(&self, span: &Span) {
        if let Some(Key { saga, step }) = &self.key {
            spans::is_about(span, saga, step, self.direction);
        }
    }
}

/// A service's part in the write path.
#[async_trait]
pub trait Participant: Send + Sync + 'static {
    /// The command of an operation.
    type Command: Send + Sync + 'static;
    /// What a batch has loaded, and what its operations change.
    type World: Send;

    /// Name of the service, for metrics and logs.
    const NAME: &'static str;

    /// Loads and locks, in one order, every row that the operations may touch; some of them the barrier may answer. An
    /// undo is loaded by its saga and step. Queries that are queued together go in one message. With [`Reading::Undos`]
    /// rows may be left out that only an earlier action of the same saga can have written, if a primary key refuses
    /// them when they are written again: then the batch is tried again with [`Reading::All`].
    async fn load(
        &self,
        tx: &mut Tx,
        operations: &[Operation<Self::Command>],
        reading: Reading,
    ) -> Result<Self::World, DbError>;

    /// Decides one operation and changes the world accordingly. Pure; called in order of arrival. An answer that is
    /// not `Done` must leave the world as it was. An undo is called only when its action was done, and must answer
    /// `Done`; only where nothing can undo the action it refuses.
    fn decide(&self, world: &mut Self::World, operation: &Operation<Self::Command>, now: UnixMs) -> Answer;

    /// Sends what has changed, set-wise: it is written in this order, with the commit.
    fn write(&self, tx: &mut Tx, world: &Self::World, now: UnixMs) -> Result<(), DbError>;

    /// Called once after the commit, in the order of commits, to publish what has changed.
    fn committed(&self, world: Self::World, now: UnixMs) {
        let _ = (world, now);
    }

    /// Called when a batch has failed: nothing of it was committed, and nothing will be.
    fn not_committed(&self) {}

    /// Called when a commit has ended without an answer: it may have taken effect, and nobody has published it.
    fn in_doubt(&self) {}

    /// Called when what was in doubt is decided: the database shows from now on what was decided.
    fn settled(&self) {}
}

/// Bounds of the queue and of a batch.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// Requests that may wait. Beyond it callers get an error that says when to come back: the orchestrator sends a few
    /// large requests at a time, so a longer queue would only hide that the service is behind.
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

    /// Has one staff command decided and committed. Every answer except "done" is an error, so that nobody takes a
    /// command for done that was refused or put off.
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
        // A caller whose deadline has passed gets no answer; the operation's next attempt will be a request of its
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

    /// Commits operations together if possible. Otherwise it commits them in halves, down to those that fail by
    /// themselves.
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
        let committing = commit_together(self.participant.as_ref(), &self.database, operations, self.answer_timeout);
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
                    CommitError::NotDone(error) => (error, false),
                    CommitError::InDoubt(error) => (error, true),
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
/// others have their answers. Any other error is the answer of all.
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

/// Decides and commits a batch. The answers are in the order of the operations. After an error the same operations are
/// answered rightly, in every case.
async fn commit_together<P: Participant>(
    participant: &P,
    database: &Database,
    operations: &[Operation<P::Command>],
    answer_timeout: Duration,
) -> Result<Vec<Answer>, CommitError> {
    let (mut attempt, mut reading) = (0, Reading::Undos);
    loop {
        match try_together(participant, database, operations, reading, answer_timeout).await {
            Ok(Some((answers, world, now))) => {
                participant.committed(world, now);
                return Ok(answers);
            }
            Ok(None) => reading = Reading::All,
            // Whatever the error: an action that was recorded before may be the cause.
            Err(CommitError::NotDone(error)) if reading == Reading::Undos && !error.is_passing() => {
                reading = Reading::All
            }
            // Another replica wrote the same key first; its rows are there now and will be loaded.
            Err(CommitError::NotDone(error)) if error.is_conflict() && attempt < CONFLICT_RETRIES_MAX => attempt += 1,
            Err(failure) => return Err(failure),
        }
    }
}

/// None when what is on record would answer otherwise, and was not read.
async fn try_together<P: Participant>(
    participant: &P,
    database: &Database,
    operations: &[Operation<P::Command>],
    reading: Reading,
    answer_timeout: Duration,
) -> Result<Option<(Vec<Answer>, P::World, UnixMs)>, CommitError> {
    let prepared = in_time(answer_timeout, prepare(participant, database, operations, reading)).await;
    let Some((tx, answers, world, now)) = prepared.map_err(CommitError::NotDone)? else { return Ok(None) };
    let committed = tokio::time::timeout(answer_timeout, tx.commit_checked()).await;
    committed.unwrap_or_else(|_| Err(CommitError::InDoubt(DbError::no_answer_within(answer_timeout))))?;
    Ok(Some((answers, world, now)))
}

async fn in_time<T>(time: Duration, work: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| Err(DbError::no_answer_within(time)))
}

/// Everything except what is written, which goes with the commit. None when what is on record would answer otherwise.
async fn prepare<P: Participant>(
    participant: &P,
    database: &Database,
    operations: &[Operation<P::Command>],
    reading: Reading,
) -> Result<Option<(Tx, Vec<Answer>, P::World, UnixMs)>, DbError> {
    let mut tx = database.write().await?;
    let stored = Barrier::queue(&mut tx, operations, reading);
    // Those too that the barrier will answer: repeats are few, and a message of their own for the others would cost
    // more.
    let mut world = participant.load(&mut tx, operations, reading).await?;
    let mut barrier = Barrier::of(tx.rows(stored).await?)?;
    // After the locks, so that moments recorded for one row never go backwards by waiting.
    let now = time::now();
    let mut answers = Vec::with_capacity(operations.len());
    for operation in operations {
        answers.push(decide(participant, &mut barrier, &mut world, operation, now));
    }
    if reading == Reading::Undos && barrier::has_any(&mut tx, unrecorded(operations, &answers)).await? {
        return Ok(None);
    }
    participant.write(&mut tx, &world, now)?;
    barrier.write(&mut tx, now)?;
    Ok(Some((tx, answers, world, now)))
}

/// The actions whose answer leaves nothing that the primary key could meet: they may have been decided before.
fn unrecorded<'a, C>(operations: &'a [Operation<C>], answers: &'a [Answer]) -> impl Iterator<Item = &'a Key> {
    let answered = operations.iter().zip(answers);
    let unrecorded =
        answered.filter(|(operation, answer)| operation.direction == Direction::Forward && !answer.is_final());
    unrecorded.filter_map(|(operation, _)| operation.key.as_ref())
}

fn decide<P: Participant>(
    participant: &P,
    barrier: &mut Barrier,
    world: &mut P::World,
    operation: &Operation<P::Command>,
    now: UnixMs,
) -> Answer {
    let Some(key) = &operation.key else {
        return participant.decide(world, operation, now);
    };
    if !barrier.knows(key) && barrier::is_stale(operation.owner_alive_at, now) {
        return barrier::stale();
    }
    barrier.answer(key, operation.direction).unwrap_or_else(|| {
        let answer = participant.decide(world, operation, now);
        barrier.record(key, operation.direction, &answer);
        answer
    })
}
