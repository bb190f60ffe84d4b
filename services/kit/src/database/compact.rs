//! Converts the ids of a PostgreSQL database to the compact form (`ids`): all of them in one transaction, or none.
//!
//! | step | why |
//! |---|---|
//! | sessions of other builds are searched | an earlier build sends ids as text, and would fail |
//! | `_sqlx_migrations` is locked | only one conversion or migration runs; snapshots of this build hold the shared side of the lock |
//! | the tables are locked, with a timeout | a long reader must not block the conversion and all sessions behind it |
//! | each table is rewritten with its indexes | the types of all its ids change in one statement |
//! | the conversion is recorded | connections detect the new form, and an earlier build does not start |
//!
//! A database without migrations gets compact ids with its tables. SQLite keeps ids as text, because rows are sent to
//! it as JSON, which has no bytes.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::schema::{self, IdColumns, Progress, Schema};
use super::{Database, DbError, PostgresDatabase, ids, session};

/// Timeout for the lock of a table; other sessions wait behind the conversion for this time.
const LOCK_TIMEOUT_MS: u32 = 3_000;
/// SQLSTATEs of a lock timeout and of a deadlock.
const LOCKED: [&str; 2] = ["55P03", "40P01"];

const ROWS_ABOUT: &str = "SELECT GREATEST(reltuples, 0)::bigint AS count FROM pg_class WHERE oid = to_regclass($1)";
const MARK: &str = "CREATE TABLE compact_ids (since BIGINT NOT NULL PRIMARY KEY); \
     INSERT INTO compact_ids (since) VALUES ((extract(epoch FROM clock_timestamp()) * 1000)::bigint)";

/// Progress of a conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompactStep {
    /// It begins: all sessions wait until it ends.
    Begins {
        /// The tables with approximate numbers of rows.
        tables: Vec<(&'static str, i64)>,
    },
    /// A table is converted.
    Converted {
        /// Its name.
        table: &'static str,
        /// Its number of rows.
        rows: i64,
        /// The duration.
        took: Duration,
    },
}

/// The result of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compacted {
    /// The ids are compact now.
    Now,
    /// They were compact before.
    Before,
    /// The database is a SQLite file, or has no ids.
    NotNeeded,
}

/// A session of another program, or of another build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherSession {
    /// The server process.
    pub pid: i64,
    /// The application name, or empty.
    pub program: String,
    /// The client's address.
    pub address: String,
}

/// Why ids were not converted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// Sessions are open that may be of an earlier build.
    #[error("sessions are open that are not of this build")]
    OtherSessions(Vec<OtherSession>),
    /// A lock timed out.
    #[error(
        "a table could not be locked within {} s, because another session reads or changes it; nothing was changed, try again",
        LOCK_TIMEOUT_MS / 1_000
    )]
    Locked(#[source] sqlx::Error),
    /// The database does not have the tables of this build yet.
    #[error("the database does not have all tables of this build; start this build on it first")]
    NotMigrated,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl From<sqlx::Error> for CompactError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code());
        if code.is_some_and(|code| LOCKED.contains(&&*code)) {
            Self::Locked(error)
        } else {
            Self::Database(error.into())
        }
    }
}

impl Database {
    /// Converts the ids of a database. Sessions of other programs or builds are an error, unless `beside_others` is
    /// set: then the caller guarantees that none of them is of an earlier build. All sessions wait while tables are
    /// rewritten, and continue afterwards.
    pub async fn compact(
        &self,
        schema: &Schema<'_>,
        beside_others: bool,
        on_step: impl FnMut(CompactStep),
    ) -> Result<Compacted, CompactError> {
        let Self::Postgres(postgres) = self else { return Ok(Compacted::NotNeeded) };
        if schema::check(self, &schema.migrations()).await? != Progress::UpToDate {
            return Err(CompactError::NotMigrated);
        }
        self.convert(postgres, schema, beside_others, on_step).await
    }

    /// Converts the ids of a database whose tables were just created.
    pub(super) async fn begin_compact(&self, schema: &Schema<'_>) -> Result<(), DbError> {
        let Self::Postgres(postgres) = self else { return Ok(()) };
        match self.convert(postgres, schema, true, |_| {}).await {
            Ok(_) => Ok(()),
            Err(CompactError::Database(error)) => Err(error),
            Err(CompactError::Locked(error)) => Err(DbError::Unavailable(error)),
            Err(error) => Err(DbError::Setup(error.to_string())),
        }
    }

    /// Closes the unused connections of this process, which have the old form of the ids.
    pub(super) fn close_outdated_connections(&self) {
        if let Self::Postgres(postgres) = self {
            postgres.writers.close_idle();
            postgres.form_of_readers.set(ids::IdForm::Unknown);
        }
    }

    async fn convert(
        &self,
        postgres: &PostgresDatabase,
        schema: &Schema<'_>,
        beside_others: bool,
        on_step: impl FnMut(CompactStep),
    ) -> Result<Compacted, CompactError> {
        let columns = schema.ids();
        if columns.is_empty() {
            return Ok(Compacted::NotNeeded);
        }
        let driver = postgres.driver_of_migrations();
        let converted = async {
            let mut tx = driver.begin().await?;
            let converted = in_transaction(&mut tx, &columns, beside_others, on_step).await?;
            tx.commit().await?;
            Ok(converted)
        };
        let converted = converted.await;
        driver.close().await;
        self.close_outdated_connections();
        converted
    }
}

async fn in_transaction(
    connection: &mut PgConnection,
    columns: &[IdColumns],
    beside_others: bool,
    mut on_step: impl FnMut(CompactStep),
) -> Result<Compacted, CompactError> {
    run(connection, format!("SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")).await?;
    run(connection, "LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE".to_owned()).await?;
    if session::id_form(connection).await? == ids::IdForm::Compact {
        return Ok(Compacted::Before);
    }
    let others = if beside_others { Vec::new() } else { other_sessions(connection).await? };
    if !others.is_empty() {
        return Err(CompactError::OtherSessions(others));
    }
    let tables: Vec<&str> = columns.iter().map(|columns| columns.table).collect();
    run(connection, format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.join(", "))).await?;
    run(connection, "SET LOCAL lock_timeout = 0".to_owned()).await?;
    let mut about = Vec::with_capacity(columns.len());
    for IdColumns { table, .. } in columns {
        about.push((*table, sqlx::query_scalar(ROWS_ABOUT).bind(table).fetch_one(&mut *connection).await?));
    }
    on_step(CompactStep::Begins { tables: about });
    for columns in columns {
        let started = Instant::now();
        run(connection, rewriting(columns)).await?;
        let table = columns.table;
        // The conversion has removed the statistics. An empty table must not be analyzed: the planner would choose a
        // full scan for it, and keep that plan when it fills.
        if has_rows(connection, table).await? {
            run(connection, format!("ANALYZE {table}")).await?;
        }
        let rows = sqlx::query_scalar(ROWS_ABOUT).bind(table).fetch_one(&mut *connection).await?;
        on_step(CompactStep::Converted { table, rows, took: started.elapsed() });
    }
    run(connection, MARK.to_owned()).await?;
    run(connection, on_record()).await?;
    Ok(Compacted::Now)
}

async fn run(connection: &mut PgConnection, statements: String) -> Result<(), sqlx::Error> {
    // The texts are made of constants.
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await.map(drop)
}

async fn has_rows(connection: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    let any = sqlx::raw_sql(AssertSqlSafe(format!("SELECT 1 FROM {table} LIMIT 1")));
    Ok(any.fetch_optional(connection).await?.is_some())
}

/// Converts all ids of a table in one statement, so that it is rewritten once.
fn rewriting(IdColumns { table, columns }: &IdColumns) -> String {
    let columns = columns.iter();
    let changes =
        columns.map(|column| format!("ALTER COLUMN {column} TYPE bytea USING ({})", ids::sql_of_encoded(column)));
    format!("ALTER TABLE {table} {}", changes.collect::<Vec<_>>().join(", "))
}

/// The row among the migrations that keeps an earlier build from starting.
fn on_record() -> String {
    format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES ({}, 'compact ids', true, '\\x00', 0)",
        schema::CONVERSION
    )
}

/// The other sessions of the database that do not hold the advisory lock of this build.
async fn other_sessions(connection: &mut PgConnection) -> Result<Vec<OtherSession>, sqlx::Error> {
    let (class, object) = session::SUPPORTS_BOTH_FORMS;
    let others = format!(
        "SELECT a.pid::bigint AS pid, COALESCE(a.application_name, '') AS program, \
         COALESCE(host(a.client_addr), 'this machine') AS address FROM pg_stat_activity a \
         WHERE a.datname = current_database() AND a.backend_type = 'client backend' \
         AND a.pid <> pg_backend_pid() AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted \
         AND l.locktype = 'advisory' AND l.classid::bigint = {class} AND l.objid::bigint = {object} AND l.objsubid = 2) \
         ORDER BY a.pid"
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(others)).fetch_all(connection).await?;
    let session = |row: &sqlx::postgres::PgRow| {
        let (program, address) = (row.try_get("program")?, row.try_get("address")?);
        Ok(OtherSession { pid: row.try_get("pid")?, program, address })
    };
    rows.iter().map(session).collect()
}

#[cfg(test)]
mod tests;
