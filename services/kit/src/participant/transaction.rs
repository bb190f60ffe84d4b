//! One batch in one transaction: barrier, load, decide in order, write, commit.

use std::time::Duration;

use crate::answer::Answer;
use crate::database::{CommitError, Database, DbError, Tx};
use crate::participant::barrier::{self, Barrier, Reading, Verdict};
use crate::participant::{Key, Leg, Operation, Participant, stale};
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
    let (mut attempt, mut reading) = (0, Reading::Undos);
    loop {
        match run_once(participant, database, operations, reading, answer_timeout).await {
            Ok(Some((answers, world, now))) => {
                participant.committed(world, now);
                return Ok(answers);
            }
            Ok(None) => reading = Reading::All,
            // Whatever it says: an action that was heard of before may be the cause.
            Err(Failure::NotDone(error)) if reading == Reading::Undos && !error.is_passing() => reading = Reading::All,
            // Another replica wrote the same key first; its rows are there now and will be loaded.
            Err(Failure::NotDone(error)) if error.is_conflict() && attempt < CONFLICT_RETRIES_MAX => attempt += 1,
            Err(failure) => return Err(failure),
        }
    }
}

/// None when what is on record would answer otherwise, and was not read.
async fn run_once<P: Participant>(
    participant: &P,
    database: &Database,
    operations: &[Operation<P::Command>],
    reading: Reading,
    answer_timeout: Duration,
) -> Result<Option<(Vec<Answer>, P::World, UnixMs)>, Failure> {
    let prepared = in_time(answer_timeout, prepare(participant, database, operations, reading)).await;
    let Some((tx, answers, world, now)) = prepared.map_err(Failure::NotDone)? else { return Ok(None) };
    let committed = tokio::time::timeout(answer_timeout, tx.commit_checked()).await;
    match committed.unwrap_or_else(|_| Err(CommitError::InDoubt(DbError::no_answer_within(answer_timeout)))) {
        Ok(()) => Ok(Some((answers, world, now))),
        Err(CommitError::NotDone(error)) => Err(Failure::NotDone(error)),
        Err(CommitError::InDoubt(error)) => Err(Failure::InDoubt(error)),
    }
}

async fn in_time<T>(time: Duration, work: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| Err(DbError::no_answer_within(time)))
}

/// Everything but what is written, which goes with the commit. None when what is on record would answer otherwise.
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
    let mut world = participant.load(&mut tx, operations).await?;
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
    let unrecorded = answered.filter(|(operation, answer)| operation.leg == Leg::Action && !answer.is_final());
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
    if !barrier.knows(key) && stale::is_stale(operation.owner_alive_at, now) {
        return stale::stale();
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
