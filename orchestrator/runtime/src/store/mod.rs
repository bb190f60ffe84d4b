//! The saga log in a database: the only SQL of the orchestrator.
//!
//! | module | one job |
//! |---|---|
//! | `write` | admissions, a claim and appends in one commit |
//! | `line` | the waiting line: its state, the sagas in it, the door |
//! | `entry` | a row of the log: the text of its events |
//! | `packed` | such a text in less room |
//! | `read` | sagas by id and by key, and lists |
//! | `lease` | instances, their leases, adoption |
//! | `peer` | what instances leave for each other |
//! | `archive` | the way of finished sagas out of the hot tables |
//!
//! Promises: what `write` has answered is durable; a write by an instance that has been marked dead is refused whole
//! (`Fenced`); an append whose expected sequence is not the stored one is refused by itself (`Conflict`).

mod archive;
mod entry;
mod lease;
mod line;
mod packed;
mod peer;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use matricula_core::{Admission, SagaId};
use matricula_engine::Recorded;
use matricula_kit::database::{Args, Database, DbError, IdColumns, Migrator, Row, Rows, Schema, Tx};
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

/// Of PostgreSQL only.
const HAS_COMPACT_FORM: &str = "SELECT 1 AS one WHERE to_regclass('compact_ids') IS NOT NULL";

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// The schema of the orchestrator.
pub static SCHEMA: Schema = Schema::plain(&MIGRATIONS, IDS);
const IDS: &[IdColumns] = &[
    IdColumns { table: "instances", columns: &["instance_id"] },
    IdColumns { table: "sagas", columns: &["saga_id", "owner"] },
    IdColumns { table: "saga_events", columns: &["saga_id"] },
    IdColumns { table: "saga_requests", columns: &["request_id", "saga_id"] },
    IdColumns { table: "receipts", columns: &["saga_id"] },
    IdColumns { table: "outages", columns: &["instance_id"] },
    IdColumns { table: "line_front", columns: &["instance_id"] },
];

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
    /// Whether no replica of an earlier build can be left on the database.
    is_compact: Arc<AtomicBool>,
}

/// The first event of a saga that would begin now, of its request as JSON; or why that can't be read.
pub(crate) type FirstEvent = Arc<dyn Fn(&str, UnixMs) -> Result<Recorded, String> + Send + Sync>;

impl SagaStore {
    /// Opens the log and brings its schema up to date.
    pub async fn open(database: Database) -> Result<Self, DbError> {
        database.migrate(&SCHEMA).await?;
        database.set_fillfactor(&["sagas"]).await?;
        let is_compact = Arc::new(AtomicBool::new(!database.is_shared()));
        let store = Self { database, replica: None, begin: None, is_compact };
        store.look_at_form().await?;
        Ok(store)
    }

    /// Has the lists that may be somewhat old read from a replica of the database, as long as it answers.
    pub fn with_lists_from(self, replica: Database) -> Self {
        let (begin, is_compact) = (self.begin.clone(), self.is_compact.clone());
        let replica = Self { database: replica, replica: None, begin, is_compact };
        Self { replica: Some(Arc::new(replica)), ..self }
    }

    /// Has sagas that wait in line read as if they had just begun: they are accepted, and have no events yet.
    pub(crate) fn with_first_events(self, begin: FirstEvent) -> Self {
        let replica = self.replica.map(|replica| Arc::new((*replica).clone().with_first_events(begin.clone())));
        Self { replica, begin: Some(begin), ..self }
    }

    /// Looks whether the database has been converted to the compact form, which says that all replicas are of this build
    /// or a later one. A file has only one process, and an earlier build refuses its migrations. The answer never turns
    /// back.
    async fn look_at_form(&self) -> Result<(), DbError> {
        if !self.is_compact() && !self.database.fetch(HAS_COMPACT_FORM, Args::new()).await?.is_empty() {
            self.found_compact();
        }
        Ok(())
    }

    fn found_compact(&self) {
        self.is_compact.store(true, Ordering::Relaxed);
    }

    /// Whether the log may be written in forms that earlier builds can't read.
    fn is_compact(&self) -> bool {
        self.is_compact.load(Ordering::Relaxed)
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
        if tx.fetch(FENCE, Args::new().id(instance.as_str())).await?.is_empty() {
            return Err(StoreError::Fenced);
        }
        Ok(tx)
    }
}

/// The id of a row that must have one.
fn saga_id(row: &Row) -> Result<SagaId, DbError> {
    let text = row.id("saga_id")?;
    text.parse().map_err(|error| DbError::corrupt(format!("the id {text:?} of a saga {error}")))
}

/// The id of a row, or `None` for a text that is no UUID: nothing can be done with such a saga, and it must not hide
/// the others. It is left alone, and the log of this process says so.
fn readable_id(row: &Row) -> Result<Option<SagaId>, DbError> {
    let text = row.id("saga_id")?;
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
    Rows::new().id("saga_id", ids.iter().map(SagaId::to_string))
}
