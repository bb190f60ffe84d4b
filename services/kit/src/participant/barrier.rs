//! The barrier: for every (saga, step) at most one effect, whatever is repeated, late or out of order.
//!
//! | comes in | recorded: nothing | recorded: answered | answered, undone | tombstone |
//! |---|---|---|---|---|
//! | action | decide, record the answer | the recorded answer | the recorded answer | refused |
//! | undo | record a tombstone, done | undo if it was done, record; or refused, and nothing recorded | done | done |
//!
//! A batch is first tried as if its actions were new, as almost all are: then nothing is read for them, and the primary
//! key refuses the whole batch when one of them was heard of before. Then it is tried again with what is recorded.
//!
//! Rows are taken away when the orchestrator says that their saga has ended long ago. What comes after that is
//! not decided at all: see `stale`.

use std::collections::HashMap;

use crate::answer::{Answer, Reason, Refusal};
use crate::database::{Args, DbError, PendingQuery, Row, Rows, Tx};
use crate::id::SagaId;
use crate::participant::{Key, Leg, Operation, stale};
use crate::time::{self, UnixMs};

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
pub(super) enum Reading {
    /// What is on record of its undos, and of what is so late that an answer may be on record. Its actions are taken to
    /// be new; an answer that is recorded then meets the primary key, and for any other the record is read after all.
    Undos,
    /// What is on record of every operation.
    All,
}

/// What the barrier says of an operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing stands against it: the domain decides.
    Pass,
    /// The answer, without asking the domain.
    Answered(Answer),
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
    /// Asks for the rows of the operations that have a key.
    pub(super) fn queue<C>(tx: &mut Tx, operations: &[Operation<C>], reading: Reading) -> PendingQuery {
        let now = time::now();
        let is_read = |operation: &&Operation<C>| {
            reading == Reading::All || operation.leg == Leg::Undo || stale::is_stale(operation.owner_alive_at, now)
        };
        let read = operations.iter().filter(is_read);
        tx.queue(LOAD, key_rows(read.filter_map(|operation| operation.key.as_ref())).into())
    }

    /// Of the rows that were asked for.
    pub(super) fn of(rows: Vec<Row>) -> Result<Self, DbError> {
        let mut barrier = Self::default();
        for row in rows {
            let key = Key {
                saga: SagaId::stored(row.text("saga_id")?),
                step: crate::id::StepName::stored(row.text("step")?),
            };
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

    /// What is on record against an operation; what passes must be followed by [`Barrier::record`].
    pub(super) fn verdict(&mut self, key: &Key, leg: Leg) -> Verdict {
        match (leg, self.records.get(key)) {
            (Leg::Action, None) => Verdict::Pass,
            (Leg::Action, Some(Record { answer: Some(answer), .. })) => Verdict::Answered(answer.clone()),
            (Leg::Action, Some(Record { answer: None, .. })) => Verdict::Answered(refused_by_tombstone()),
            (Leg::Undo, Some(Record { answer: Some(Answer::Done(_)), undone: false })) => Verdict::Pass,
            (Leg::Undo, _) => {
                self.mark_undone(key);
                Verdict::Answered(Answer::done())
            }
        }
    }

    /// Records what the domain answered to an operation that passed.
    pub(super) fn record(&mut self, key: &Key, leg: Leg, answer: &Answer) {
        match leg {
            Leg::Action if answer.is_final() => {
                self.records.insert(key.clone(), Record { answer: Some(answer.clone()), undone: false });
                self.inserted.push(key.clone());
            }
            Leg::Action => {}
            Leg::Undo if matches!(answer, Answer::Done(_)) => self.mark_undone(key),
            // What can't be undone stays done, and is asked about again.
            Leg::Undo => {}
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
            .text("saga_id", inserted.iter().map(|(key, _)| key.saga.as_str()))
            .text("step", inserted.iter().map(|(key, _)| key.step.as_str()))
            .opt_text("answer", answers)
            .int("undone", inserted.iter().map(|(_, record)| i64::from(record.undone)));
        tx.send(INSERT, Args::new().int(now.0).rows(rows));
        let rows = Rows::new()
            .text("saga_id", self.updated.iter().map(|key| key.saga.as_str()))
            .text("step", self.updated.iter().map(|key| key.step.as_str()));
        tx.send(UPDATE, rows.into());
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
        .text("saga_id", keys.iter().map(|key| key.saga.as_str()))
        .text("step", keys.iter().map(|key| key.step.as_str()))
}

/// Takes away all rows of these sagas, and returns how many there were.
pub(super) async fn purge(tx: &mut Tx, sagas: &[SagaId]) -> Result<u64, DbError> {
    tx.execute(PURGE, Rows::new().text("saga_id", sagas.iter().map(SagaId::as_str)).into()).await
}

fn refused_by_tombstone() -> Answer {
    Answer::Refused(vec![Refusal::whole(
        Reason::RegistrationCancelled,
        "The registration was cancelled before this step was done.",
        "Register again.",
    )])
}
