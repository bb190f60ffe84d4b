//! The saga log in a database: the only SQL of the orchestrator.
//!
//! | module | one job |
//! |---|---|
//! | `write` | admissions, a claim and appends in one commit |
//! | `line` | the waiting line: its state, the sagas in it, the door |
//! | `read` | sagas by id and by key, and lists |
//! | `lease` | instances, their leases, adoption |
//! | `peer` | what instances leave for each other |
//! | `archive` | the way of finished sagas out of the hot tables |
//!
//! Promises: what `write` has answered is durable; a write by an instance that has been marked dead is refused whole
//! (`Fenced`); an append whose expected sequence is not the stored one is refused by itself (`Conflict`).

mod archive;
mod lease;
mod line;
mod peer;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use matricula_core::{Admission, SagaId};
use matricula_engine::{Event, Recorded};
use matricula_kit::database::{Args, Database, DbError, Migrator, Row, Rows, Schema, Tx};
use matricula_kit::telemetry::spans;
use matricula_kit::time::UnixMs;
use tracing::Span;

use crate::workflow::Carried;

pub use line::DoorChange;
pub(crate) use peer::PeerMessage;
pub use peer::{Outage, StoredRequest};
pub use read::{Archived, KeyedSaga, SagaFilter, SagaRow};
pub(crate) use write::{WriteAs, Written};

/// The fence of every commit of an instance: no row when it has been marked dead. The lock keeps the mark from being
/// set before the commit has ended.
const FENCE: &str = "SELECT instance_id FROM instances WHERE instance_id = $1 AND dead = 0 {for_share}";

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// The schema of the orchestrator.
pub static SCHEMA: Schema = Schema::plain(&MIGRATIONS, &[]);

/// A process start of an orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(String);

impl InstanceId {
    /// A new one.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A saga as it is admitted.
pub(crate) type NewSaga<R> = Admission<Arc<Carried<R>>>;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// This instance has been marked dead: its sagas belong to others, and it must stop.
    #[error("this instance's lease has lapsed, and its sagas were given to another")]
    Fenced,
    /// The database.
    #[error("the saga store")]
    Database(#[from] DbError),
}

/// The saga log of one database.
#[derive(Clone)]
pub struct SagaStore {
    database: Database,
    /// Where [`SagaStore::list_somewhat_old`] reads first.
    replica: Option<Arc<SagaStore>>,
    /// How a saga that waits in line is shown.
    begin: Option<FirstEvent>,
}

/// The first event of a saga that would begin now, of its request as JSON; or why that can't be read.
pub(crate) type FirstEvent = Arc<dyn Fn(&str, UnixMs) -> Result<Recorded, String> + Send + Sync>;

impl SagaStore {
    /// Opens the log and brings its schema up to date.
    pub async fn open(database: Database) -> Result<Self, DbError> {
        database.migrate(&SCHEMA).await?;
        database.set_fillfactor(&["sagas"]).await?;
        Ok(Self { database, replica: None, begin: None })
    }

    /// Has the lists that may be somewhat old read from a replica of the database, as long as it answers.
    pub fn with_lists_from(self, replica: Database) -> Self {
        let replica = Self { database: replica, replica: None, begin: self.begin.clone() };
        Self { replica: Some(Arc::new(replica)), ..self }
    }

    /// Has sagas that wait in line read as if they had just begun: they are accepted, and have no events yet.
    pub(crate) fn with_first_events(self, begin: FirstEvent) -> Self {
        let replica = self.replica.map(|replica| Arc::new((*replica).clone().with_first_events(begin.clone())));
        Self { replica, begin: Some(begin), ..self }
    }

    /// The span of a commit with these admissions: appends have none.
    pub(crate) fn commit_span<R>(&self, admissions: &[NewSaga<R>]) -> Span {
        let traces = admissions.iter().map(|saga| &saga.request.submitted);
        let span = spans::commit(&self.database, traces, admissions.len());
        if let [saga] = admissions
            && !span.is_disabled()
        {
            spans::is_of_saga(&span, &saga.id.to_string());
        }
        span
    }

    /// Runs one statement in a transaction of its own; returns how many rows it changed.
    async fn execute(&self, sql: &'static str, args: impl Into<Args>) -> Result<u64, DbError> {
        let mut tx = self.database.write().await?;
        let changed = tx.execute(sql, args.into()).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Begins a transaction of an instance that has not been marked dead.
    async fn begin_fenced(&self, instance: &InstanceId) -> Result<Tx, StoreError> {
        let mut tx = self.database.write().await?;
        if tx.fetch(FENCE, Args::new().text(instance.as_str())).await?.is_empty() {
            return Err(StoreError::Fenced);
        }
        Ok(tx)
    }
}

/// The id of a row that must have one.
fn saga_id(row: &Row) -> Result<SagaId, DbError> {
    let text = row.text("saga_id")?;
    text.parse().map_err(|error| DbError::corrupt(format!("the id {text:?} of a saga {error}")))
}

/// The id of a row, or `None` for a text that is no UUID: nothing can be done with such a saga, and it must not hide
/// the others. It is left alone, and the log of this process says so.
fn readable_id(row: &Row) -> Result<Option<SagaId>, DbError> {
    let text = row.text("saga_id")?;
    let id = text.parse().ok();
    if id.is_none() {
        tracing::error!(saga_id = text, "the id of a saga in the database is no UUID; the saga is left alone");
    }
    Ok(id)
}

/// The ids of these rows that can be read.
fn readable_ids(rows: &[Row]) -> Result<Vec<SagaId>, DbError> {
    rows.iter().filter_map(|row| readable_id(row).transpose()).collect()
}

/// The ids as rows of a statement.
fn id_rows(ids: &[SagaId]) -> Rows {
    Rows::new().text("saga_id", ids.iter().map(SagaId::to_string))
}

/// The text of the row of these events of a saga. There is a row for each append, and not for each event, because the rows
/// are what it costs. It has the sequence and the time of its first event. One event is an object; several are an array of
/// (time, event) pairs, with sequences that follow the first without a gap.
fn entry_text(saga: SagaId, events: &[Recorded]) -> Result<String, DbError> {
    let text = match events {
        [one] => serde_json::to_string(&one.event),
        several => {
            let pairs: Vec<(i64, &Event)> = several.iter().map(|recorded| (recorded.at_ms, &recorded.event)).collect();
            serde_json::to_string(&pairs)
        }
    };
    text.map_err(|error| DbError::corrupt(format!("events of saga {saga}: {error}")))
}

/// The events of a row; what can't be read is told, not thrown: one bad saga must not hide the others.
fn entries(row: &Row) -> Result<Vec<Recorded>, String> {
    let first = row.int("sequence").map_err(|error| error.to_string())?;
    let first = u64::try_from(first).map_err(|_| format!("event {first}"))?;
    let text = row.text("event").map_err(|error| error.to_string())?;
    let at_ms = row.int("at").map_err(|error| error.to_string())?;
    parsed(first, at_ms, &text).map_err(|error| format!("event {first}: {error}"))
}

fn parsed(first: u64, at_ms: i64, text: &str) -> Result<Vec<Recorded>, serde_json::Error> {
    if !text.starts_with('[') {
        let event = serde_json::from_str(text)?;
        return Ok(vec![Recorded { sequence: first, at_ms, event }]);
    }
    let pairs: Vec<(i64, Event)> = serde_json::from_str(text)?;
    let recorded = (first..).zip(pairs).map(|(sequence, (at_ms, event))| Recorded { sequence, at_ms, event });
    Ok(recorded.collect())
}
