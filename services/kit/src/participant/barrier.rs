//! The barrier: for every (saga, step) at most one effect, whatever is repeated, late or out of order.
//!
//! | comes in | recorded: nothing | recorded: answered | answered, undone | tombstone |
//! |---|---|---|---|---|
//! | action | decide, record the answer | the recorded answer | the recorded answer | refused |
//! | undo | record a tombstone, done | undo if it was done, record; or refused, and nothing recorded | done | done |
//!
//! A batch is first tried as if its actions were new, as almost all are: then nothing is read for them, and the primary
//! key refuses the whole batch when one of them was recorded before. Then it is tried again with what is recorded.
//!
//! Rows are deleted when the orchestrator says that their saga has ended long ago, never by age. Promises: no call of a
//! saga is decided anew when its rows are gone. Every call says when its orchestrator last knew that it drives the
//! saga, which is before the saga's end. A call for which that is longer ago than [`STALE_AFTER_MS`] is not decided
//! without a barrier row, however long it lay in a queue, in a socket or in a process that was stopped. The
//! orchestrator purges a saga only when its end is hours longer ago than that. All participants serve the purge beside
//! their own service, so that none can leave it out.

use std::collections::HashMap;

use matricula_proto::participant::v1 as wire;
use matricula_proto::participant::v1::participant_service_server::{ParticipantService, ParticipantServiceServer};
use tonic::{Request, Response, Status};

use crate::answer::{Answer, NotYet, Reason, Refusal};
use crate::database::{Args, Database, DbError, PendingQuery, Row, Rows, Tx};
use crate::id::{SagaId, StepName};
use crate::participant::{Direction, Key, Operation};
use crate::rpc::{self, FieldError};
use crate::time::{self, UnixMs};

/// An operation without a barrier row is not decided when its orchestrator last knew so long ago that it drives the
/// saga, in milliseconds: two hours. So the clocks of two machines may differ by an hour, and far more than that,
/// before a fresh call is kept out.
pub const STALE_AFTER_MS: i64 = 2 * 60 * 60 * 1_000;

/// When a stale operation should be sent again: at once would be the same.
const RETRY_STALE_MS: i64 = 1_000;

/// Sagas whose rows go in one transaction: some milliseconds, for which a writer on SQLite waits.
const SAGAS_IN_COMMIT_MAX: usize = 200;

/// What is on record for one (saga, step).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    /// `None`: the action never came.
    answer: Option<Answer>,
    undone: bool,
}

/// The barrier rows that a batch touches.
#[derive(Default)]
pub(super) struct Barrier {
    records: HashMap<Key, Record>,
    /// Keys whose row is new, and keys whose row has changed, in order of their first change.
    inserted: Vec<Key>,
    updated: Vec<Key>,
}

/// What a batch reads before it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// What is on record of its undos, and of what is so late that an answer may be on record. Its actions are taken to
    /// be new; an answer that is recorded then meets the primary key, and for any other the record is read after all.
    Undos,
    /// What is on record of every operation.
    All,
}

/// Rows that are there are locked, so that of two replicas with the same undo the second sees what the first has done.
/// Of two that are both new one meets the primary key, and is decided again.
const LOAD: &str = "SELECT b.saga_id, b.step, b.answer, b.undone FROM {rows} \
                    JOIN barrier b ON b.saga_id = r.saga_id AND b.step = r.step \
                    ORDER BY b.saga_id, b.step {for_update}";
const INSERT: &str = "INSERT INTO barrier (saga_id, step, answer, undone, recorded_at) \
                      SELECT saga_id, step, answer, undone, $1 FROM {rows}";
const PURGE: &str = "DELETE FROM barrier WHERE saga_id IN (SELECT r.saga_id FROM {rows})";
const UPDATE: &str = "UPDATE barrier SET undone = 1 FROM {rows} \
                      WHERE barrier.saga_id = r.saga_id AND barrier.step = r.step";

impl Barrier {
    /// Queries the rows of the operations that have a key.
    pub(super) fn queue<C>(tx: &mut Tx, operations: &[Operation<C>], reading: Reading) -> PendingQuery {
        let now = time::now();
        let is_read = |operation: &&Operation<C>| {
            reading == Reading::All
                || operation.direction == Direction::Compensation
                || is_stale(operation.owner_alive_at, now)
        };
        let read = operations.iter().filter(is_read);
        tx.queue(LOAD, key_rows(read.filter_map(|operation| operation.key.as_ref())).into())
    }

    /// Made of the queried rows.
    pub(super) fn of(rows: Vec<Row>) -> Result<Self, DbError> {
        let mut barrier = Self::default();
        for row in rows {
            let key = Key { saga: SagaId::stored(row.id("saga_id")?), step: StepName::stored(row.text("step")?) };
            let answer = match row.opt_text("answer")? {
                Some(text) => Some(serde_json::from_str(&text).map_err(|error| {
                    DbError::corrupt(format!("barrier row of saga {}, step {}: {error}", key.saga, key.step))
                })?),
                None => None,
            };
            barrier.records.insert(key, Record { answer, undone: row.int("undone")? == 1 });
        }
        Ok(barrier)
    }

    /// Whether anything is on record for a step.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.records.contains_key(key)
    }

    /// The answer to an operation by what is on record. `None`: the domain decides, and [`Barrier::record`] must
    /// follow.
    pub(super) fn answer(&mut self, key: &Key, direction: Direction) -> Option<Answer> {
        match (direction, self.records.get(key)) {
            (Direction::Forward, None) => None,
            (Direction::Forward, Some(Record { answer: Some(answer), .. })) => Some(answer.clone()),
            (Direction::Forward, Some(Record { answer: None, .. })) => Some(refused_by_tombstone()),
            (Direction::Compensation, Some(Record { answer: Some(Answer::Done(_)), undone: false })) => None,
            (Direction::Compensation, _) => {
                self.mark_undone(key);
                Some(Answer::done())
            }
        }
    }

    /// Records what the domain answered to an operation that passed.
    pub(super) fn record(&mut self, key: &Key, direction: Direction, answer: &Answer) {
        match direction {
            Direction::Forward if answer.is_final() => {
                self.records.insert(key.clone(), Record { answer: Some(answer.clone()), undone: false });
                self.inserted.push(key.clone());
            }
            Direction::Forward => {}
            Direction::Compensation if matches!(answer, Answer::Done(_)) => self.mark_undone(key),
            // What can't be undone stays done, and its undo is decided again.
            Direction::Compensation => {}
        }
    }

    /// Writes what is new or changed.
    pub(super) fn write(&self, tx: &mut Tx, now: UnixMs) -> Result<(), DbError> {
        let mut inserted: Vec<(&Key, &Record)> = self.inserted.iter().map(|key| (key, &self.records[key])).collect();
        // In one order, so that two replicas with the same keys don't wait for each other.
        inserted.sort_unstable_by_key(|(key, _)| *key);
        let mut answers = Vec::with_capacity(inserted.len());
        for (key, record) in &inserted {
            let text = record.answer.as_ref().map(serde_json::to_string).transpose();
            answers.push(text.map_err(|error| DbError::corrupt(format!("answer of saga {}: {error}", key.saga)))?);
        }
        let rows = Rows::new()
            .id("saga_id", inserted.iter().map(|(key, _)| key.saga.as_str()))
            .text("step", inserted.iter().map(|(key, _)| key.step.as_str()))
            .opt_text("answer", answers)
            .int("undone", inserted.iter().map(|(_, record)| i64::from(record.undone)));
        tx.send(INSERT, Args::new().int(now.0).rows(rows));
        tx.send(UPDATE, key_rows(self.updated.iter()).into());
        Ok(())
    }

    fn mark_undone(&mut self, key: &Key) {
        match self.records.get_mut(key) {
            None => {
                self.records.insert(key.clone(), Record { answer: None, undone: true });
                self.inserted.push(key.clone());
            }
            Some(record) if !record.undone => {
                record.undone = true;
                if !self.inserted.contains(key) {
                    self.updated.push(key.clone());
                }
            }
            Some(_) => {}
        }
    }
}

/// Whether anything is on record for one of these steps.
pub(super) async fn has_any<'a>(tx: &mut Tx, keys: impl Iterator<Item = &'a Key>) -> Result<bool, DbError> {
    Ok(!tx.fetch(LOAD, key_rows(keys).into()).await?.is_empty())
}

/// Each key once, in order.
fn key_rows<'a>(keys: impl Iterator<Item = &'a Key>) -> Rows {
    let mut keys: Vec<&Key> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    Rows::new()
        .id("saga_id", keys.iter().map(|key| key.saga.as_str()))
        .text("step", keys.iter().map(|key| key.step.as_str()))
}

fn refused_by_tombstone() -> Answer {
    Answer::Refused(vec![Refusal::whole(
        Reason::RegistrationCancelled,
        "The registration was cancelled before this step was done.",
        "Register again.",
    )])
}

/// Whether an operation is too old to be decided without a barrier row.
pub(super) fn is_stale(owner_alive_at: Option<UnixMs>, now: UnixMs) -> bool {
    owner_alive_at.is_some_and(|alive_at| now.0.saturating_sub(alive_at.0) > STALE_AFTER_MS)
}

/// What is answered to it. Nothing is recorded.
pub(super) fn stale() -> Answer {
    metrics::counter!("matricula_stale_operations_total").increment(1);
    Answer::NotYet(NotYet {
        reason: "STALE_OPERATION".to_owned(),
        message: format!(
            "by the clock of this service the call is more than {} minutes old, and is not decided any more; when every call \
             is answered so, the clocks of the machines differ",
            STALE_AFTER_MS / 60_000
        ),
        retry_after_ms: RETRY_STALE_MS,
        waits_for: None,
    })
}

/// What all participants serve alike.
pub(crate) struct Purge {
    pub(super) database: Database,
}

/// The service over a participant's database.
pub(crate) fn server(database: Database) -> ParticipantServiceServer<Purge> {
    ParticipantServiceServer::new(Purge { database })
}

impl Purge {
    async fn purge(&self, sagas: &[SagaId]) -> Result<u64, DbError> {
        let mut rows = 0;
        for sagas in sagas.chunks(SAGAS_IN_COMMIT_MAX) {
            let mut tx = self.database.begin().await?;
            let ids = Rows::new().id("saga_id", sagas.iter().map(SagaId::as_str));
            rows += tx.execute(PURGE, ids.into()).await?;
            tx.commit().await?;
        }
        Ok(rows)
    }
}

#[tonic::async_trait]
impl ParticipantService for Purge {
    async fn forget_sagas(
        &self,
        request: Request<wire::ForgetSagasRequest>,
    ) -> Result<Response<wire::ForgetSagasResponse>, Status> {
        let sagas = saga_ids(request.into_inner().saga_ids)?;
        let rows = self.purge(&sagas).await?;
        metrics::counter!("matricula_barrier_rows_forgotten_total").increment(rows);
        Ok(Response::new(wire::ForgetSagasResponse { rows: i64::try_from(rows).unwrap_or(i64::MAX) }))
    }
}

fn saga_ids(ids: Vec<String>) -> Result<Vec<SagaId>, FieldError> {
    if ids.len() > rpc::OPERATIONS_MAX {
        return Err(FieldError::new("saga_ids", format!("at most {}, got {}", rpc::OPERATIONS_MAX, ids.len())));
    }
    let checked = ids.into_iter().enumerate();
    checked.map(|(index, id)| rpc::required_id(&format!("saga_ids[{index}]"), id, SagaId::try_new)).collect()
}
