//! The one writer of an instance: what waits, admissions and appends together, becomes one commit.
//!
//! When the database does not answer, the writer keeps what it holds and tries again until it is written: an admission
//! that may have been committed is never forgotten, and an append is never out of order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::{BackoffBuilder, ExponentialBuilder};
use matricula_kit::telemetry;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::store::{Admission, Append, AppendOutcome, InstanceId, NewSaga, SagaStore, StoreError};

/// Admissions and appends in one commit. Beyond some hundred, commits gain nothing from being larger.
const BATCH_MAX: usize = 1_000;
/// First and longest delay between tries of a commit that failed.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// What is to be written.
pub(crate) enum Write<T> {
    /// A new saga, and what to tell when it is durable.
    Admit { saga: Box<NewSaga>, context: T, reply: oneshot::Sender<Admission> },
    /// Events of a running one.
    Append(Append),
}

/// What has become durable, in the order of the writes. One message a commit.
pub(crate) struct Written<T> {
    /// Sagas that were admitted.
    pub admitted: Vec<(Box<NewSaga>, T)>,
    /// How many admissions turned out to exist already.
    pub existing: usize,
    /// Appends, with their outcome.
    pub appended: Vec<(Append, AppendOutcome)>,
}

/// Runs until every sender is gone or the instance is fenced; returns whether it was fenced.
///
/// The queues on both sides are unbounded channels with a bound by construction: a saga has at most one append under
/// way, and there are at most as many sagas as the admission limit allows.
pub(crate) async fn run<T: Send>(
    store: SagaStore,
    instance: InstanceId,
    mut writes: mpsc::UnboundedReceiver<Write<T>>,
    written: mpsc::UnboundedSender<Written<T>>,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while writes.recv_many(&mut batch, BATCH_MAX).await > 0 {
        metrics::gauge!("matricula_log_writes_waiting").set(writes.len() as f64);
        let mut admissions = Vec::new();
        let mut replies = Vec::new();
        let mut appends = Vec::new();
        for write in batch.drain(..) {
            match write {
                Write::Admit { saga, context, reply } => {
                    admissions.push(*saga);
                    replies.push((context, reply));
                }
                Write::Append(append) => appends.push(append),
            }
        }
        let outcome = commit(&store, &instance, &admissions, &appends, &shutdown).await?;
        let Some((admitted, appended)) = outcome else { return Ok(()) };
        let mut result = Written { admitted: Vec::new(), existing: 0, appended: appends.into_iter().zip(appended).collect() };
        let mut answers = Vec::with_capacity(replies.len());
        for ((saga, (context, reply)), admission) in admissions.into_iter().zip(replies).zip(admitted) {
            if admission == Admission::Admitted {
                result.admitted.push((Box::new(saga), context));
            } else {
                result.existing += 1;
            }
            answers.push((reply, admission));
        }
        // The executor hears of a saga before its caller does, so that a cancel can't come too early.
        let _ = written.send(result);
        for (reply, admission) in answers {
            let _ = reply.send(admission);
        }
    }
    Ok(())
}

type Outcome = (Vec<Admission>, Vec<AppendOutcome>);

/// Writes a batch, however often it takes; `None` when the process ends first.
async fn commit(
    store: &SagaStore,
    instance: &InstanceId,
    admissions: &[NewSaga],
    appends: &[Append],
    shutdown: &CancellationToken,
) -> Result<Option<Outcome>, StoreError> {
    let schedule = ExponentialBuilder::new().with_min_delay(RETRY_FIRST).with_max_delay(RETRY_MAX).with_jitter();
    let mut delays = schedule.without_max_times().build();
    loop {
        let started = Instant::now();
        let error = match store.write(instance, admissions, appends).await {
            Ok(outcome) => {
                metrics::histogram!("matricula_log_commit_seconds").record(started.elapsed());
                metrics::histogram!("matricula_log_commit_operations").record((admissions.len() + appends.len()) as f64);
                return Ok(Some(outcome));
            }
            Err(StoreError::Fenced) => return Err(StoreError::Fenced),
            Err(error) => Arc::new(error),
        };
        metrics::counter!("matricula_log_commit_failures_total").increment(1);
        tracing::warn!(error = telemetry::chain(&error), "the saga log could not be written; trying again");
        let delay = delays.next().unwrap_or(RETRY_MAX);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            // What is not written is not lost: clients ask again, and whoever adopts the sagas resumes them.
            () = shutdown.cancelled() => return Ok(None),
        }
    }
}
