//! One batch in one transaction: barrier, load, decide in order, write, commit.

use crate::answer::Answer;
use crate::database::{Database, DbError};
use crate::participant::barrier::{Barrier, Verdict};
use crate::participant::{Operation, Participant};
use crate::time::{self, UnixMs};

/// How often a batch that met another writer is run again before its callers hear "not known".
const CONFLICT_RETRIES_MAX: u32 = 5;

/// Decides and commits a batch. The answers are in the order of the operations. An error means that it is not known
/// whether the batch took effect; the same operations again are answered rightly either way.
pub(super) async fn run<P: Participant>(
    participant: &P,
    database: &Database,
    operations: &[Operation<P::Command>],
) -> Result<Vec<Answer>, DbError> {
    let mut attempt = 0;
    loop {
        match run_once(participant, database, operations).await {
            // Another replica wrote the same key first; its rows are there now and will be loaded.
            Err(error) if error.is_conflict() && attempt < CONFLICT_RETRIES_MAX => attempt += 1,
            Ok((answers, world, now)) => {
                participant.committed(world, now);
                return Ok(answers);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn run_once<P: Participant>(
    participant: &P,
    database: &Database,
    operations: &[Operation<P::Command>],
) -> Result<(Vec<Answer>, P::World, UnixMs), DbError> {
    let mut tx = database.begin().await?;
    let mut barrier = Barrier::load(&mut tx, operations).await?;
    let open: Vec<&Operation<P::Command>> = (0..operations.len())
        .filter(|index| barrier.may_pass(*index, operations))
        .map(|index| &operations[index])
        .collect();
    let mut world = participant.load(&mut tx, &open).await?;
    // After the locks, so that moments recorded for one row never go backwards by waiting.
    let now = time::now();
    let mut answers = Vec::with_capacity(operations.len());
    for operation in operations {
        answers.push(decide(participant, &mut barrier, &mut world, operation, now));
    }
    participant.write(&mut tx, &world, now).await?;
    barrier.write(&mut tx, now).await?;
    tx.commit().await?;
    Ok((answers, world, now))
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
    match barrier.verdict(key, operation.leg) {
        Verdict::Answered(answer) => answer,
        Verdict::Pass => {
            let answer = participant.decide(world, operation, now);
            barrier.record(key, operation.leg, &answer);
            answer
        }
    }
}
