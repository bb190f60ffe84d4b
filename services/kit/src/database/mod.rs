//! SQLite and PostgreSQL behind one set of statements. The only place that knows which of them it is.
//!
//! A statement is written once, in the SQL that both understand, with a few marks that differ:
//!
//! | mark | PostgreSQL | SQLite |
//! |---|---|---|
//! | `{rows}` | `unnest($1::text[], ...) AS r(a, ...)` | a subselect over `jsonb_each($1)`, named `r` |
//! | `{for_update}` | `FOR UPDATE` | nothing: the one writer holds the database's lock |
//! | `{for_share}` | `FOR SHARE` | nothing |
//! | `{for_update_skip_locked}` | `FOR UPDATE SKIP LOCKED` | nothing |
//! | `{now_ms}` | the server's clock, as Unix milliseconds | the same, of this machine |
//!
//! `{rows}` carries any number of rows in one prepared statement, and a [`Tx`] puts its statements into as few messages
//! as it can: most batches are two round trips. Columns that a role names as ids in its [`Schema`] are bound and read by
//! `id`, whichever form the database has (`ids`). In an upsert, SQLite wants `WHERE true` between the rows and `ON
//! CONFLICT`.
//!
//! Public functions return boxed futures. The compiler generates the code of an `async fn` again in each crate that awaits
//! it, here with the drivers and TLS inside it. The code of a boxed future is generated once, in this crate.

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
pub use notify::{Heard, Notifications};
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
/// Where ids may still be converted. A table that is converted looks empty to a snapshot that was taken before, so the
/// conversion waits for this lock, and the snapshot is taken when the lock is there.
const BEGIN_SNAPSHOT_OF_TEXT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
                                      LOCK TABLE _sqlx_migrations IN ACCESS SHARE MODE";
/// How long PostgreSQL may take to answer a message. After that the connection is taken for dead: the system would give
/// it up a quarter of an hour later. The largest import is far below it.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A service's database.
#[derive(Clone)]
pub enum Database {
    /// One file in WAL mode, every commit synced to disk.
    Sqlite(SqliteDatabase),
    /// A PostgreSQL database, shared by the replicas of the service.
    Postgres(PostgresDatabase),
}

/// One connection writes, so that writers queue in this process and never meet `SQLITE_BUSY`; several read.
#[derive(Clone)]
pub struct SqliteDatabase {
    writer: WriterPool<SqlitePool>,
    readers: SqlitePool,
    /// Held as long as the database is open: a second process is refused instead of corrupting the order of writes.
    _lock: Arc<std::fs::File>,
}

/// A few connections write and others read, so that no crowd of readers keeps the writer waiting.
#[derive(Clone)]
pub struct PostgresDatabase {
    writers: WriterPool<Login>,
    readers: PgPool,
    /// How the connections that read send ids.
    form_of_readers: Arc<SharedForm>,
}

impl PostgresDatabase {
    /// A connection that reads, and the form of the ids, which the first one asks for.
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
            // In the pool it would be asked whether it is there, and waited for.
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
    /// Begins a transaction that writes. On SQLite it takes the write lock at once; on PostgreSQL it is ended by the
    /// server when nothing comes of it for 4 s.
    pub fn begin(&self) -> BoxFuture<'_, Result<Tx, DbError>> {
        Box::pin(async move {
            let mut tx = self.write().await?;
            tx.begin().await?;
            Ok(tx)
        })
    }

    /// The same, but it begins with the first that is sent: what is queued before needs no message of its own.
    pub fn write(&self) -> BoxFuture<'_, Result<Tx, DbError>> {
        Box::pin(async move {
            Ok(Tx::new(match self {
                Self::Sqlite(sqlite) => Backend::Sqlite(sqlite.writer.acquire().await?),
                Self::Postgres(postgres) => Backend::Postgres(postgres.writers.acquire().await?),
            }))
        })
    }

    /// Begins a transaction that reads one state of the database, for 300 s at most: then it is given up, whether its
    /// reader goes on or not.
    pub fn snapshot(&self) -> BoxFuture<'_, Result<Tx, DbError>> {
        Box::pin(async move { self.snapshot_within(SNAPSHOT_MAX).await })
    }

    /// The same, for as long as given.
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

    /// Reads committed rows outside of any transaction. PostgreSQL has 15 s to answer.
    pub fn fetch(&self, sql: &'static str, args: Args) -> BoxFuture<'_, Result<Vec<Row>, DbError>> {
        Box::pin(async move {
            match self {
                Self::Sqlite(sqlite) => {
                    let query = statement::sqlite(sql, args)?;
                    let mut connection = pool::opened(&sqlite.readers).await?;
                    Ok(query.fetch_all(&mut *connection).await?.into_iter().map(Row::from).collect())
                }
                Self::Postgres(postgres) => match postgres.fetch(sql, args.clone()).await {
                    // The second asks for the form.
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

    /// Whether it answers. On PostgreSQL by the way of the writers, which no crowd of readers can block.
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

    /// Closes every connection; what is in flight ends first.
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
