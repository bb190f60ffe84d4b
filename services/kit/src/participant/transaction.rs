//! One batch in one transaction: barrier, load, decide in order, write, commit.

use std::time::Duration;

use crate::answer::Answer;
use crate::database::{CommitError, Database, DbError, Tx};
use crate::participant::barrier::{Barrier, Verdict};
use crate::participant::{Operation, Participant, forget};
use crate::time::{self, UnixMs};

/// How often a batch that met another writer is run again before its callers hear "not known".
const CONFLICT_RETRIES_MAX: u32 = 5;

/// Why a batch has no answers. The same operations again are answered rightly in every case.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing of it took effect.
    #[error("the batch was not committed")]
    NotDone(#[source] DbError),
    /// Its commit was sent, and it is not known whether it took effect.
    #[error("it is not known whether the batch was committed")]
    InDoubt(#[source] DbError),
}

/// Decides and commits a batch. The answers are in the order of the operations.
pub(super) async fn run<P: Participant>(
    participant: &P,
    database: &Database,
    operations: &[Operation<P::Command>],
    answer_timeout: Duration,
) -> Result<Vec<Answer>, Failure> {
    let mut attempt = 0;
    loop {
        match run_once(participant, database, operations, answer_timeout).await {
            // Another replica wrote the same key first; its rows are there now and will be loaded.
            Err(Failure::NotDone(error)) if error.is_conflict() && attempt < CONFLICT_RETRIES_MAX => attempt += 1,
            Ok((answers, world, now)) => {
                participant.committed(world, now);
                return Ok(answers);
            }
            Err(failure) => return Err(failure),
        }
    }
}

async fn run_once<P: Participant>(
    participant: &P,
    database: &Database,
    operations: &[Operation<P::Command>],
    answer_timeout: Duration,
) -> Result<(Vec<Answer>, P::World, UnixMs), Failure> {
    let prepared = in_time(answer_timeout, prepare(participant, database, operations)).await;
    let (tx, answers, world, now) = prepared.map_err(Failure::NotDone)?;
    let committed = tokio::time::timeout(answer_timeout, tx.conclude()).await;
    match committed.unwrap_or_else(|_| Err(CommitError::InDoubt(DbError::no_answer_within(answer_timeout)))) {
        Ok(()) => Ok((answers, world, now)),
        Err(CommitError::NotDone(error)) => Err(Failure::NotDone(error)),
        Err(CommitError::InDoubt(error)) => Err(Failure::InDoubt(error)),
    }
}

async fn in_time<T>(time: Duration, work: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| Err(DbError::no_answer_within(time)))
}

/// Everything but what is written, which goes with the commit.
async fn prepare<P: Participant>(
    participant: &P,
    database: &Database,
    operations: &[Operation<P::Command>],
) -> Result<(Tx, Vec<Answer>, P::World, UnixMs), DbError> {
    let mut tx = database.write().await?;
    let stored = Barrier::ask(&mut tx, operations);
    // Those too that the barrier will answer: repeats are few, and a message of their own for the others would cost more.
    let mut world = participant.load(&mut tx, operations).await?;
    let mut barrier = Barrier::of(tx.rows(stored).await?)?;
    // After the locks, so that moments recorded for one row never go backwards by waiting.
    let now = time::now();
    let mut answers = Vec::with_capacity(operations.len());
    for operation in operations {
        answers.push(decide(participant, &mut barrier, &mut world, operation, now));
    }
    participant.write(&mut tx, &world, now)?;
    barrier.write(&mut tx, now)?;
    Ok((tx, answers, world, now))
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
    if !barrier.knows(key) && forget::is_stale(operation.owner_alive_at, now) {
        return forget::stale();
    }
    match barrier.verdict(key, operation.leg) {
        Verdict::Answered(answer) => answer,
        Verdict::Pass => {
            let answer = participant.decide(world, operation, now);
            barrier.record(key, operation.leg, &answer);
            answer
        }
    }
}
