//! Errors of a database.

use std::time::Duration;

use crate::secret;

/// Why a statement or a commit failed. The effect of a failed commit is unknown.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Another writer was first (unique key, serialization, deadlock): the whole transaction can be repeated.
    #[error("another writer was first")]
    Conflict(#[source] sqlx::Error),
    /// The ids of the database were converted after the connection was opened: the whole transaction can be repeated on
    /// a new connection.
    #[error("the ids of the database were converted during the statement; repeat it")]
    IdsConverted(#[source] sqlx::Error),
    /// The database can't be reached or is busy; a later attempt may succeed.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// The disk is full; an attempt succeeds when there is space again.
    #[error("the database has no space left")]
    Full(#[source] sqlx::Error),
    /// The database rejected the statement: a fault of this program or of the data.
    #[error("the database refused a statement")]
    Refused(#[source] sqlx::Error),
    /// Stored data can't be read.
    #[error("stored data can't be read: {0}")]
    Corrupt(String),
    /// The URL or the file can't be used.
    #[error("{0}")]
    Setup(String),
    /// A read of one state of the database exceeded its time limit.
    #[error(
        "the read took longer than {} s, and its snapshot of the database was ended; begin again, and read faster",
        .0.as_secs()
    )]
    SnapshotExpired(Duration),
    /// The database has a newer migration than this build.
    #[error(
        "the database was migrated by a newer build: it has migration {has}, this build has migrations up to {knows}; \
         start the newer build"
    )]
    SchemaNewer {
        /// The newest applied migration.
        has: i64,
        /// The newest migration of this build.
        knows: i64,
    },
    /// The database has a migration of another role or program.
    #[error(
        "the database belongs to another role or program: its migration {migration} differs from this role's, and it has \
         the tables {tables}; give each role a database of its own"
    )]
    SchemaOfAnother {
        /// The migration.
        migration: i64,
        /// Some of its tables.
        tables: String,
    },
    /// The schema could not be updated.
    #[error("the migration failed")]
    Migration(#[source] sqlx::migrate::MigrateError),
}

/// SQLSTATEs after which the repeated transaction may succeed: serialization failure, deadlock, unique violation.
const CONFLICTS: [&str; 3] = ["40001", "40P01", "23505"];
/// SQLite's result codes for a violated unique or primary key.
const SQLITE_CONFLICTS: [&str; 2] = ["1555", "2067"];
/// SQLite: busy, locked, out of memory, read-only, I/O error, cannot open, lock protocol. The low byte is the primary
/// code.
const SQLITE_UNAVAILABLE: [i64; 7] = [5, 6, 7, 8, 10, 14, 15];
/// SQLite: disk full.
const SQLITE_FULL: i64 = 13;
/// PostgreSQL: classes of connection, resource, operator and system errors, and of a read-only primary.
const POSTGRES_UNAVAILABLE: [&str; 5] = ["08", "53", "57", "58", "25"];
/// PostgreSQL: disk full.
const POSTGRES_FULL: &str = "53100";

impl DbError {
    /// Stored data that violates its own rules.
    pub fn corrupt(what: impl std::fmt::Display) -> Self {
        Self::Corrupt(what.to_string())
    }

    pub(super) fn encode(error: serde_json::Error) -> Self {
        Self::Corrupt(format!("a value can't be encoded: {error}"))
    }

    /// Whether the same work may succeed if it is repeated at once.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::IdsConverted(_))
    }

    /// Whether the database is unavailable, busy or full: a later attempt may succeed.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_))
    }

    /// A value that PostgreSQL can't store, such as a text with a NUL byte.
    pub(super) fn unsendable(error: sqlx::error::BoxDynError) -> Self {
        Self::Refused(sqlx::Error::Encode(error))
    }

    /// A stored value with another type than expected.
    pub(super) fn undecodable(column: &str, source: sqlx::error::BoxDynError) -> Self {
        sqlx::Error::ColumnDecode { index: format!("{column:?}"), source }.into()
    }

    /// A NULL in a column that must have a value.
    pub(super) fn unexpected_null(column: &str) -> Self {
        Self::undecodable(column, Box::new(sqlx::error::UnexpectedNullError))
    }

    /// An error as for an unreachable database: no answer came within a sufficient time.
    pub(crate) fn no_answer_within(time: Duration) -> Self {
        let problem = format!("no answer within {} s", time.as_secs());
        Self::Unavailable(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, problem)))
    }

    /// Whether the statement or the data is at fault, so that a repetition fails too.
    pub fn is_permanent(&self) -> bool {
        !self.is_conflict() && !self.is_passing() && !matches!(self, Self::SnapshotExpired(_))
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                let sqlite = database.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some();
                match (sqlite, code.as_ref()) {
                    (true, code) if SQLITE_CONFLICTS.contains(&code) => Self::Conflict(error),
                    (true, code) => match code.parse::<i64>() {
                        Ok(number) if number & 0xff == SQLITE_FULL => Self::Full(error),
                        Ok(number) if SQLITE_UNAVAILABLE.contains(&(number & 0xff)) => Self::Unavailable(error),
                        _ => Self::Refused(error),
                    },
                    (false, code) if CONFLICTS.contains(&code) => Self::Conflict(error),
                    (false, POSTGRES_FULL) => Self::Full(error),
                    (false, code) if POSTGRES_UNAVAILABLE.iter().any(|class| code.starts_with(class)) => {
                        Self::Unavailable(error)
                    }
                    (false, _) => Self::Refused(error),
                }
            }
            sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::Corrupt(error.to_string())
            }
            sqlx::Error::Configuration(_) => Self::Setup(secret::masked(&error.to_string())),
            _ => Self::Unavailable(error),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for DbError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        match error {
            // A passing error of the database, not of the migration.
            sqlx::migrate::MigrateError::Execute(error) => match Self::from(error) {
                Self::Refused(error) => Self::Migration(sqlx::migrate::MigrateError::Execute(error)),
                passing => passing,
            },
            error => Self::Migration(error),
        }
    }
}

impl From<crate::id::InvalidId> for DbError {
    fn from(error: crate::id::InvalidId) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// Why a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing of the transaction took effect.
    #[error("the transaction was not committed")]
    NotDone(#[source] DbError),
    /// Whether it took effect is unknown.
    #[error("it is unknown whether the transaction was committed")]
    InDoubt(#[source] DbError),
}

impl From<CommitError> for DbError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NotDone(error) | CommitError::InDoubt(error) => error,
        }
    }
}
