//! SQLite and PostgreSQL behind one set of statements. No code outside this module depends on the database.
//!
//! A statement is written once, in the SQL that both databases support. A few marks are replaced:
//!
//! | mark | PostgreSQL | SQLite |
//! |---|---|---|
//! | `{rows}` | `unnest($1::text[], ...) AS r(a, ...)` | a subselect over `jsonb_each($1)`, named `r` |
//! | `{for_update}` | `FOR UPDATE` | nothing: the only writer holds the database's lock |
//! | `{for_share}` | `FOR SHARE` | nothing |
//! | `{for_update_skip_locked}` | `FOR UPDATE SKIP LOCKED` | nothing |
//! | `{now_ms}` | the server's clock, as Unix milliseconds | the clock of this machine |
//!
//! `{rows}` passes any number of rows to one prepared statement, and a [`Tx`] combines its statements into as few
//! messages as possible: most batches need two round trips. Columns that a role lists as ids in its [`Schema`] are
//! bound and read with `id`, in either stored form (`ids`). In an upsert, SQLite requires `WHERE true` between the rows
//! and `ON CONFLICT`.
//!
//! Public functions return boxed futures. The compiler generates the code of an `async fn` again in each crate that
//! awaits it, here with the drivers and TLS inside it. The code of a boxed future is generated once, in this crate.

mod compact;
mod connect;
mod error;
mod identity;
mod ids;
mod login;
mod notify;
mod pool;
mod schema;
mod session;
mod snapshot;
mod statement;
mod tx;
mod url;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, SqlitePool};
use tokio::time::timeout;

pub use compact::{CompactError, CompactStep, Compacted, OtherSession};
pub use error::{CommitError, DbError};
use ids::{IdForm, SharedForm};
use login::Login;
pub use notify::{Notifications, Received};
use pool::WriterPool;
pub use schema::{IdColumns, Schema};
pub use snapshot::SNAPSHOT_MAX;
use snapshot::{PostgresSnapshot, Snapshot};
pub use sqlx::migrate::Migrator;
#[cfg(any(test, feature = "testing"))]
pub(crate) use statement::run_on_sqlite;
pub use statement::{Args, Row, Rows};
use tx::Backend;
pub use tx::{Answers, PendingQuery, Tx};
pub use url::{DatabasePlace, DatabaseUrl, DatabaseUrlError};

const PING: &str = "SELECT 1 AS one";
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/// Used while ids may still be converted. A converted table looks empty to an older snapshot, so the conversion waits
/// for this lock, and the snapshot is taken after the lock.
const BEGIN_SNAPSHOT_OF_TEXT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
                                      LOCK TABLE _sqlx_migrations IN ACCESS SHARE MODE";
/// How long PostgreSQL may take to answer a message. After that the connection counts as dead; the operating system
/// would take a quarter of an hour to detect it. The largest import needs far less.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A service's database.
#[derive(Clone)]
pub enum Database {
    /// A file in WAL mode; every commit is synced to disk.
    Sqlite(SqliteDatabase),
    /// A PostgreSQL database, shared by the replicas of the service.
    Postgres(PostgresDatabase),
}

/// One connection writes, so that writers queue in this process and never get `SQLITE_BUSY`; several connections read.
#[derive(Clone)]
pub struct SqliteDatabase {
    writer: WriterPool<SqlitePool>,
    readers: SqlitePool,
    /// Locked while the database is open: a second process is refused, because it would break the order of writes.
    _lock: Arc<std::fs::File>,
}

/// A few connections write and others read, so that many readers can't delay the writer.
#[derive(Clone)]
pub struct PostgresDatabase {
    writers: WriterPool<Login>,
    readers: PgPool,
    /// The form in which the reading connections send ids.
    form_of_readers: Arc<SharedForm>,
}

impl PostgresDatabase {
    /// A reading connection, and the form of the ids, which the first connection queries.
    async fn reader(&self) -> Result<(PoolConnection<sqlx::Postgres>, IdForm), DbError> {
        let mut connection = pool::opened(&self.readers).await?;
        let known = self.form_of_readers.get();
        if known != IdForm::Unknown {
            return Ok((connection, known));
        }
        let Ok(form) = timeout(ANSWER_MAX, session::id_form(&mut connection)).await else {
            connection.close_on_drop();
            return Err(DbError::no_answer_within(ANSWER_MAX));
        };
        let form = form?;
        self.form_of_readers.set(form);
        Ok((connection, form))
    }

    async fn fetch(&self, sql: &'static str, args: Args) -> Result<Vec<Row>, DbError> {
        let (mut connection, form) = self.reader().await?;
        let rows = statement::postgres(sql, args, form).fetch_all(&mut *connection);
        let Ok(rows) = timeout(ANSWER_MAX, rows).await else {
            // In the pool it would be pinged, and its answer awaited.
            connection.close_on_drop();
            return Err(DbError::no_answer_within(ANSWER_MAX));
        };
        match rows {
            Err(error) if form.is_outdated_by(&error) => {
                self.form_of_readers.set(IdForm::Unknown);
                Err(DbError::IdsConverted(error))
            }
            rows => Ok(rows?.into_iter().map(Row::from).collect()),
        }
    }
}

impl Database {
    /// Begins a writing transaction. On SQLite it takes the write lock at once; on PostgreSQL the server ends it when
    /// it is idle for 4 s.
    pub fn begin(&self) -> BoxFuture<'_, Result<Tx, DbError>> {
        Box::pin(async move {
            let mut tx = self.write().await?;
            tx.begin().await?;
            Ok(tx)
        })
    }

    /// Like [`Self::begin`], but the transaction begins with the first message: statements queued before need no extra
    /// message.
    pub fn write(&self) -> BoxFuture<'_, Result<Tx, DbError>> {
        Box::pin(async move {
            Ok(Tx::new(match self {
                Self::Sqlite(sqlite) => Backend::Sqlite(sqlite.writer.acquire().await?),
                Self::Postgres(postgres) => Backend::Postgres(postgres.writers.acquire().await?),
            }))
        })
    }

    /// Begins a transaction that reads one state of the database. It ends after 300 s, whether it is in use or not.
    pub fn snapshot(&self) -> BoxFuture<'_, Result<Tx, DbError>> {
        Box::pin(async move { self.snapshot_within(SNAPSHOT_MAX).await })
    }

    /// Like [`Self::snapshot`], with this time limit.
    pub(crate) async fn snapshot_within(&self, limit: Duration) -> Result<Tx, DbError> {
        Ok(Tx::new(match self {
            Self::Sqlite(sqlite) => {
                let connection = pool::opened(&sqlite.readers).await?;
                Backend::SqliteSnapshot(Snapshot::begin(connection, "BEGIN", limit).await?)
            }
            Self::Postgres(postgres) => {
                let (connection, form) = postgres.reader().await?;
                let begin = if form == IdForm::Text { BEGIN_SNAPSHOT_OF_TEXT } else { BEGIN_SNAPSHOT };
                let snapshot = Snapshot::begin(connection, begin, limit).await?;
                Backend::PostgresSnapshot(PostgresSnapshot {
                    snapshot,
                    form,
                    shared_form: postgres.form_of_readers.clone(),
                })
            }
        }))
    }

    /// Reads committed rows outside of any transaction. PostgreSQL must answer within 15 s.
    pub fn fetch(&self, sql: &'static str, args: Args) -> BoxFuture<'_, Result<Vec<Row>, DbError>> {
        Box::pin(async move {
            match self {
                Self::Sqlite(sqlite) => {
                    let query = statement::sqlite(sql, args)?;
                    let mut connection = pool::opened(&sqlite.readers).await?;
                    Ok(query.fetch_all(&mut *connection).await?.into_iter().map(Row::from).collect())
                }
                Self::Postgres(postgres) => match postgres.fetch(sql, args.clone()).await {
                    // The second attempt queries the form.
                    Err(DbError::IdsConverted(_)) => postgres.fetch(sql, args).await,
                    fetched => fetched,
                },
            }
        })
    }

    /// Whether several processes may share it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Checks that the database answers; on PostgreSQL through the writers' connections, which readers can't exhaust.
    pub fn ping(&self) -> BoxFuture<'_, Result<(), DbError>> {
        Box::pin(async move {
            match self {
                Self::Sqlite(_) => self.fetch(PING, Args::new()).await.map(drop),
                Self::Postgres(_) => {
                    let mut tx = self.write().await?;
                    tx.send(PING, Args::new());
                    tx.commit().await
                }
            }
        })
    }

    /// Closes every connection after the running statements have ended.
    pub fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            match self {
                Self::Sqlite(sqlite) => {
                    sqlite.readers.close().await;
                    sqlite.writer.close().await;
                }
                Self::Postgres(postgres) => {
                    postgres.readers.close().await;
                    postgres.writers.close().await;
                }
            }
        })
    }
}
