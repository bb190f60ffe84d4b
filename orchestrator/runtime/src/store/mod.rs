//! The saga log in a database: the only SQL of the orchestrator.
//!
//! | module | one job |
//! |---|---|
//! | `write` | admissions, a claim and appends in one commit |
//! | `line` | the waiting line: its state, the sagas in it, the door |
//! | `entry` | an entry of the log: the text of its events |
//! | `packed` | the compression of such a text |
//! | `read` | sagas by id and by key, and lists |
//! | `lease` | instances, their leases, adoption |
//! | `peer` | messages, requests and outages that instances exchange |
//! | `archive` | the move of finished sagas out of the hot tables |
//!
//! Promises: a commit that `write` has answered is durable. Every write of an instance that has been marked dead is
//! refused as a whole (`Fenced`). An append whose expected sequence is not the stored one is refused alone
//! (`Conflict`).

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

/// The fence of every commit of an instance: it returns no row if the instance has been marked dead. Its lock delays
/// the mark until the commit has ended.
const FENCE: &str = "SELECT instance_id FROM instances WHERE instance_id = $1 AND dead = 0 {for_share}";

/// On PostgreSQL only.
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

/// The id of one start of an orchestrator.
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

/// An admission with the data of the runtime.
pub(crate) type NewSaga<R> = Admission<Arc<Carried<R>>>;

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// This instance has been marked dead: other instances own its sagas, and it must stop.
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
    /// Makes the first event of a queued saga, so that it can be shown.
    begin: Option<FirstEvent>,
    /// Whether the database is converted to the compact form, so that no instance of an earlier build can use it.
    is_compact: Arc<AtomicBool>,
}

/// Makes the first event of a saga from its request as JSON; or returns why the request can't be read.
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

    /// Lists that may be somewhat old are read from this replica of the database, if it answers.
    pub fn with_lists_from(self, replica: Database) -> Self {
        let (begin, is_compact) = (self.begin.clone(), self.is_compact.clone());
        let replica = Self { database: replica, replica: None, begin, is_compact };
        Self { replica: Some(Arc::new(replica)), ..self }
    }

    /// Queued sagas have no events yet. They are read as if they had just begun, with this first event.
    pub(crate) fn with_first_events(self, begin: FirstEvent) -> Self {
        let replica = self.replica.map(|replica| Arc::new((*replica).clone().with_first_events(begin.clone())));
        Self { replica, begin: Some(begin), ..self }
    }

    /// Checks whether the database has been converted to the compact form, which requires that all instances are of
    /// this build or a later one. A SQLite file is always in this form: it has only one process, and an earlier build
    /// refuses its migrations. The form never changes back.
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

    /// The span of a commit with these admissions. A commit without admissions has no span.
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

/// The saga id of a row; it must be a UUID.
fn saga_id(row: &Row) -> Result<SagaId, DbError> {
    let text = row.id("saga_id")?;
    text.parse().map_err(|error| DbError::corrupt(format!("the id {text:?} of a saga {error}")))
}

/// The saga id of a row; `None` and an error in the log if it is not a UUID. Such a saga is left alone, and must not
/// hide the other ones.
fn readable_id(row: &Row) -> Result<Option<SagaId>, DbError> {
    let text = row.id("saga_id")?;
    let id = text.parse().ok();
    if id.is_none() {
        tracing::error!(saga_id = text, "the id of a saga in the database is not a UUID; the saga is left alone");
    }
    Ok(id)
}

/// The readable saga ids of these rows.
fn readable_ids(rows: &[Row]) -> Result<Vec<SagaId>, DbError> {
    rows.iter().filter_map(|row| readable_id(row).transpose()).collect()
}

/// The ids as rows of a statement.
fn id_rows(ids: &[SagaId]) -> Rows {
    Rows::new().id("saga_id", ids.iter().map(SagaId::to_string))
}
