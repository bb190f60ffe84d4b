//! The archive: sagas whose log has left the database, in files that can be read without a database.
//!
//! ```text
//! DIR/2026-11-25/01a20394-7ebb-7176-8acb-23285aac80e3.jsonl      the day and the order in which they were written
//!     one JSON object in each line: a saga with its request and its whole log
//! ```
//!
//! | module | one job |
//! |---|---|
//! | `write` | writes a file completely or not at all |
//! | `read` | reads the sagas of many files, each once; reports damaged lines and reads on |
//!
//! Promises: field names never change. A file never changes after it has its name. After a crash a saga can be in two
//! files, with the same log in both: readers take either.

mod read;
mod write;

#[cfg(test)]
mod tests;

use matricula_core::{SagaId, Ticket};
use matricula_engine::{Recorded, SagaState};
use matricula_kit::telemetry::TraceContext;
use matricula_kit::time::UnixMs;
use serde::{Deserialize, Serialize};

use crate::store::SagaRow;

pub use read::{Archive, Found, Problem};
pub(crate) use write::write;

/// The extension of the files.
const EXTENSION: &str = "jsonl";

/// One line of a file. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    saga_id: SagaId,
    definition: String,
    version: u32,
    subject: String,
    idempotency_key: String,
    phase: String,
    outcome: String,
    created_at_ms: UnixMs,
    finished_at_ms: UnixMs,
    owner: String,
    traceparent: String,
    tracestate: String,
    request: serde_json::Value,
    events: Vec<Recorded>,
}

impl Line {
    /// A finished saga, whose log folds to this state.
    pub(crate) fn new(row: &SagaRow, log: &[Recorded], state: &SagaState) -> serde_json::Result<Self> {
        Ok(Self {
            saga_id: row.id,
            definition: row.definition.clone(),
            version: row.version,
            subject: row.subject.clone(),
            idempotency_key: row.idempotency_key.clone(),
            phase: row.phase.clone(),
            outcome: state.outcome().as_str().to_owned(),
            created_at_ms: row.created_at,
            finished_at_ms: row.updated_at,
            owner: row.owner.clone(),
            traceparent: row.trace.traceparent.clone(),
            tracestate: row.trace.tracestate.clone(),
            request: serde_json::from_str(&row.request)?,
            events: log.to_vec(),
        })
    }

    /// The saga as the store had it.
    fn into_row(self) -> SagaRow {
        let sequence = self.events.len() as i64;
        SagaRow {
            id: self.saga_id,
            ticket: Ticket::default(),
            is_queued: false,
            subject: self.subject,
            idempotency_key: self.idempotency_key,
            definition: self.definition,
            version: self.version,
            request: self.request.to_string(),
            trace: TraceContext { traceparent: self.traceparent, tracestate: self.tracestate },
            created_at: self.created_at_ms,
            updated_at: self.finished_at_ms,
            owner: self.owner,
            owner_alive: false,
            phase: self.phase,
            needs_attention: false,
            sequence,
            log: Ok(self.events),
            archived: None,
        }
    }
}
