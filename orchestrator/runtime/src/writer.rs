//! The one writer of an instance: what waits, admissions and appends together, becomes one commit.
//!
//! When the database does not answer, the writer keeps what it holds and tries again until it is written: an admission
//! that may have been committed is never forgotten, and an append is never out of order. An append that the database
//! refuses is found in the batch by halves, so that one poisoned saga holds up no other; it is flagged, and tried again by
//! itself, because what refuses it may be mended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backoff::{BackoffBuilder, ExponentialBuilder};
use matricula_kit::telemetry::{self, spans};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::store::{Admission, Append, AppendOutcome, InstanceId, NewSaga, SagaStore, StoreError};

/// Admissions and appends in one commit. Beyond some hundred, commits gain nothing from being larger.
const BATCH_MAX: usize = 1_000;
/// First and longest delay between tries of a commit that failed.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Conflicts in a row after which a commit counts as refused: others are long done by then, and what is left is a row
/// that should not be there.
const CONFLICTS_MAX: u32 = 20;

/// Time until a refused append is tried again.
const TRY_REFUSED: Duration = Duration::from_secs(5);

/// A commit that takes longer is given up and tried again: a half-open connection would be waited for for ever.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of an admission, or why the database can't store it.
pub(crate) type Admitted = Result<Admission, String>;

/// What became of an append; none when the database refuses it.
type Appended = Option<AppendOutcome>;

/// What is to be written.
pub(crate) enum Write<T> {
    /// A new saga, what enters the executor with it, and whom to tell when it is durable.
    Admit { saga: Box<NewSaga>, entrant: T, reply: oneshot::Sender<Admitted> },
    /// Events of a running one.
    Append(Append),
}

/// What has become durable, in the order of the writes. One message a commit.
pub(crate) struct Written<T> {
    /// Sagas that were admitted.
    pub admitted: Vec<T>,
    /// How many admissions came to nothing: they exist already, or can't be stored.
    pub not_admitted: usize,
    /// Appends, with their outcome.
    pub appended: Vec<(Append, AppendOutcome)>,
}

/// Writes until every sender is gone, or until `closing` and all that was sent before; ends with an error when the
/// instance is fenced.
///
/// The queues on both sides are unbounded channels with a bound by construction: a saga has at most one append under
/// way, and there are at most as many sagas as the admission limits allow.
pub(crate) async fn run<T: Send>(
    log: Log,
    mut writes: mpsc::UnboundedReceiver<Write<T>>,
    written: mpsc::UnboundedSender<Written<T>>,
    closing: CancellationToken,
) -> Result<(), StoreError> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut refused = Vec::new();
    let mut try_at = Instant::now();
    loop {
        let received = tokio::select! {
            received = writes.recv_many(&mut batch, BATCH_MAX) => received,
            () = tokio::time::sleep_until(try_at.into()), if !refused.is_empty() => {
                let Some(appended) = log.try_refused(&mut refused).await? else { return Ok(()) };
                let _ = written.send(Written { admitted: Vec::new(), not_admitted: 0, appended });
                try_at = Instant::now() + TRY_REFUSED;
                continue;
            }
            // Nobody waits for them at the end: whoever adopts their sagas makes the same calls again.
            () = log.shutdown.cancelled(), if !refused.is_empty() => {
                let left = refused.drain(..).map(|append| (append, AppendOutcome::Conflict)).collect();
                let _ = written.send(Written { admitted: Vec::new(), not_admitted: 0, appended: left });
                continue;
            }
            () = closing.cancelled(), if !writes.is_closed() => {
                writes.close();
                continue;
            }
        };
        if received == 0 {
            return Ok(());
        }
        metrics::gauge!("matricula_log_writes_waiting").set(writes.len() as f64);
        let (mut admissions, mut waiting, mut appends) = (Vec::new(), Vec::new(), Vec::new());
        for write in batch.drain(..) {
            match write {
                Write::Admit { saga, entrant, reply } => {
                    admissions.push(*saga);
                    waiting.push((entrant, reply));
                }
                Write::Append(append) => appends.push(append),
            }
        }
        let Some((admitted, appended)) = log.write(&admissions, &appends).await? else { return Ok(()) };
        let answers = admissions.iter().zip(&admitted);
        log.gate.answered(answers.map(|(saga, answer)| (&saga.id, matches!(answer, Ok(Admission::Admitted)))));
        let mut result = Written { admitted: Vec::new(), not_admitted: 0, appended: Vec::with_capacity(appends.len()) };
        for (append, outcome) in appends.into_iter().zip(appended) {
            match outcome {
                Some(outcome) => result.appended.push((append, outcome)),
                None => {
                    if refused.is_empty() {
                        try_at = Instant::now() + TRY_REFUSED;
                    }
                    refused.push(append);
                }
            }
        }
        let mut answers = Vec::with_capacity(waiting.len());
        for ((entrant, reply), admission) in waiting.into_iter().zip(admitted) {
            match admission {
                Ok(Admission::Admitted) => result.admitted.push(entrant),
                Ok(Admission::Existing { .. }) | Err(_) => result.not_admitted += 1,
            }
            answers.push((reply, admission));
        }
        // The executor hears of a saga before its caller does, so that a cancel can't come too early.
        let _ = written.send(result);
        for (reply, admission) in answers {
            let _ = reply.send(admission);
        }
    }
}

/// The saga log as one instance writes it.
pub(crate) struct Log {
    pub store: SagaStore,
    pub instance: InstanceId,
    /// Told of every admission before anybody else.
    pub gate: Arc<Gate>,
    /// Whether the last try of a commit failed.
    pub failing: Arc<AtomicBool>,
    pub shutdown: CancellationToken,
}

enum Commit {
    Written(Vec<Admission>, Vec<AppendOutcome>),
    /// Tries of the same will never succeed.
    Refused(String),
}

impl Log {
    /// Writes a batch, however often it takes; `None` when the process ends first. An admission that the database
    /// refuses for good is answered so by itself, and holds up no other.
    async fn write(
        &self,
        admissions: &[NewSaga],
        appends: &[Append],
    ) -> Result<Option<(Vec<Admitted>, Vec<Appended>)>, StoreError> {
        match self.commit(admissions, appends).await? {
            Some(Commit::Written(admitted, appended)) => {
                let appended = appended.into_iter().map(Some).collect();
                return Ok(Some((admitted.into_iter().map(Ok).collect(), appended)));
            }
            Some(Commit::Refused(_)) => {}
            None => return Ok(None),
        }
        let Some(appended) = self.append_in_parts(appends).await? else { return Ok(None) };
        let mut admitted = Vec::with_capacity(admissions.len());
        for saga in admissions {
            match self.commit(std::slice::from_ref(saga), &[]).await? {
                Some(Commit::Written(outcomes, _)) => admitted.extend(outcomes.into_iter().map(Ok)),
                Some(Commit::Refused(problem)) => {
                    tracing::error!(saga_id = saga.id.as_str(), problem, "a submission can't be stored");
                    admitted.push(Err(problem));
                }
                None => return Ok(None),
            }
        }
        Ok(Some((admitted, appended)))
    }

    async fn append_in_parts(&self, appends: &[Append]) -> Result<Option<Vec<Appended>>, StoreError> {
        let mut outcomes = Vec::with_capacity(appends.len());
        // The first part is at the end, so that outcomes come in order.
        let mut parts = vec![appends];
        while let Some(part) = parts.pop() {
            match self.commit(&[], part).await? {
                Some(Commit::Written(_, of_part)) => outcomes.extend(of_part.into_iter().map(Some)),
                Some(Commit::Refused(problem)) => match part {
                    [append] => {
                        tracing::error!(saga_id = append.saga.as_str(), problem, "the log of a saga can't be written");
                        // The flag is for people; without it, the log line above still is.
                        let _ = self.store.flag(&self.instance, &[append.saga.as_str().to_owned()]).await;
                        outcomes.push(None);
                    }
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
                None => return Ok(None),
            }
        }
        Ok(Some(outcomes))
    }

    /// Tries each refused append again, and returns those that have an outcome now; `None` when the process ends first.
    async fn try_refused(&self, refused: &mut Vec<Append>) -> Result<Option<Vec<(Append, AppendOutcome)>>, StoreError> {
        let mut appended = Vec::new();
        for append in std::mem::take(refused) {
            match self.commit(&[], std::slice::from_ref(&append)).await? {
                Some(Commit::Written(_, outcomes)) => {
                    appended.extend(outcomes.into_iter().map(|outcome| (append.clone(), outcome)));
                }
                Some(Commit::Refused(_)) => refused.push(append),
                None => return Ok(None),
            }
        }
        Ok(Some(appended))
    }

    async fn commit(&self, admissions: &[NewSaga], appends: &[Append]) -> Result<Option<Commit>, StoreError> {
        if admissions.is_empty() && appends.is_empty() {
            return Ok(Some(Commit::Written(Vec::new(), Vec::new())));
        }
        let mut conflicts = 0;
        let schedule = ExponentialBuilder::new().with_min_delay(RETRY_FIRST).with_max_delay(RETRY_MAX).with_jitter();
        let mut delays = schedule.without_max_times().build();
        loop {
            let started = Instant::now();
            let span = self.store.commit_span(admissions);
            let writing = self.store.write(&self.instance, admissions, appends);
            let mut is_conflict = false;
            let problem = match tokio::time::timeout(COMMIT_TIMEOUT, writing).await {
                Ok(Ok((admitted, appended))) => {
                    self.failing.store(false, Ordering::Relaxed);
                    let operations = (admissions.len() + appends.len()) as f64;
                    metrics::histogram!("matricula_log_commit_seconds").record(started.elapsed());
                    metrics::histogram!("matricula_log_commit_operations").record(operations);
                    return Ok(Some(Commit::Written(admitted, appended)));
                }
                Ok(Err(StoreError::Fenced)) => return Err(StoreError::Fenced),
                Ok(Err(StoreError::Database(error))) => {
                    spans::not_committed(&span, &error);
                    is_conflict = error.is_conflict();
                    conflicts += u32::from(is_conflict);
                    if error.is_permanent() || conflicts > CONFLICTS_MAX {
                        return Ok(Some(Commit::Refused(telemetry::chain(&error))));
                    }
                    telemetry::chain(&error)
                }
                Err(_) => format!("no answer within {} s", COMMIT_TIMEOUT.as_secs()),
            };
            // A conflict is an answer: the log can be written.
            self.failing.store(!is_conflict, Ordering::Relaxed);
            metrics::counter!("matricula_log_commit_failures_total").increment(1);
            tracing::warn!(problem, "the saga log could not be written; trying again");
            let delay = delays.next().unwrap_or(RETRY_MAX);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                // What is not written is not lost: clients ask again, and whoever adopts the sagas resumes them.
                () = self.shutdown.cancelled() => return Ok(None),
            }
        }
    }
}
