//! SQLite and PostgreSQL behind one set of statements. The only place that knows which of them it is.
//!
//! A statement is written once, in the SQL that both understand, with a few marks that differ:
//!
//! | mark | PostgreSQL | SQLite |
//! |---|---|---|
//! | `{rows}` | `unnest($1::text[], ...) AS r(a, ...)` | a subselect over `json_each($1)`, named `r` |
//! | `{for_update}` | `FOR UPDATE` | nothing: the one writer holds the database's lock |
//! | `{for_share}` | `FOR SHARE` | nothing |
//! | `{for_update_skip_locked}` | `FOR UPDATE SKIP LOCKED` | nothing |
//! | `{now_ms}` | the server's clock, as Unix milliseconds | the same, of this machine |
//!
//! `{rows}` carries any number of rows in one prepared statement: that is how every write of a batch is one round trip.
//! In an upsert, SQLite wants `WHERE true` between the rows and `ON CONFLICT`.

mod args;
mod connect;
mod error;
mod notify;
mod row;
mod statement;

use sqlx::{PgPool, SqlitePool};

pub use args::{Args, Rows};
pub use error::DbError;
pub use notify::Notifications;
pub use row::Row;
pub use sqlx::migrate::Migrator;
#[cfg(any(test, feature = "testing"))]
pub(crate) use statement::run_on_sqlite;

const PING: &str = "SELECT 1 AS one";

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
    writer: SqlitePool,
    readers: SqlitePool,
    /// Held as long as the database is open: a second process is refused instead of corrupting the order of writes.
    _lock: std::sync::Arc<std::fs::File>,
}

/// A few connections write and others read, so that no crowd of readers keeps the writer waiting.
#[derive(Clone)]
pub struct PostgresDatabase {
    writers: PgPool,
    readers: PgPool,
}

/// A transaction. Dropped without [`Tx::commit`], it is rolled back.
pub enum Tx {
    /// Of SQLite.
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    /// Of PostgreSQL.
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

impl Database {
    /// Begins a transaction that writes. On SQLite it takes the write lock at once; on PostgreSQL it is ended by the
    /// server when nothing comes of it for 4 s.
    pub async fn begin(&self) -> Result<Tx, DbError> {
        Ok(match self {
            Self::Sqlite(sqlite) => Tx::Sqlite(sqlite.writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres(postgres) => Tx::Postgres(postgres.writers.begin().await?),
        })
    }

    /// Begins a transaction that reads one state of the database, however long it takes.
    pub async fn snapshot(&self) -> Result<Tx, DbError> {
        Ok(match self {
            Self::Sqlite(sqlite) => Tx::Sqlite(sqlite.readers.begin().await?),
            Self::Postgres(postgres) => {
                Tx::Postgres(postgres.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?)
            }
        })
    }

    /// Reads committed rows outside of any transaction.
    pub async fn fetch(&self, sql: &'static str, args: Args) -> Result<Vec<Row>, DbError> {
        match self {
            Self::Sqlite(sqlite) => {
                let query = statement::sqlite(sql, args)?;
                Ok(query.fetch_all(&sqlite.readers).await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(postgres) => {
                let query = statement::postgres(sql, args);
                Ok(query.fetch_all(&postgres.readers).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Whether several processes may share it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Whether it answers. On PostgreSQL by the way of the writers, which no crowd of readers can block.
    pub async fn ping(&self) -> Result<(), DbError> {
        match self {
            Self::Sqlite(_) => self.fetch(PING, Args::new()).await.map(drop),
            Self::Postgres(postgres) => Ok(sqlx::query(PING).execute(&postgres.writers).await.map(|_| ())?),
        }
    }

    /// Closes every connection; what is in flight ends first.
    pub async fn close(&self) {
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
    }
}

impl Tx {
    /// Runs a statement and returns how many rows it changed.
    pub async fn execute(&mut self, sql: &'static str, args: Args) -> Result<u64, DbError> {
        if args.is_no_rows() {
            return Ok(0);
        }
        match self {
            Self::Sqlite(tx) => Ok(statement::sqlite(sql, args)?.execute(&mut **tx).await?.rows_affected()),
            Self::Postgres(tx) => Ok(statement::postgres(sql, args).execute(&mut **tx).await?.rows_affected()),
        }
    }

    /// Runs a statement and returns its rows.
    pub async fn fetch(&mut self, sql: &'static str, args: Args) -> Result<Vec<Row>, DbError> {
        if args.is_no_rows() {
            return Ok(Vec::new());
        }
        match self {
            Self::Sqlite(tx) => {
                let rows = statement::sqlite(sql, args)?.fetch_all(&mut **tx).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(tx) => {
                let rows = statement::postgres(sql, args).fetch_all(&mut **tx).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Commits. An error here means that it is not known whether the transaction took effect.
    pub async fn commit(self) -> Result<(), DbError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}
