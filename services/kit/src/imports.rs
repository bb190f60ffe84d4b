//! Imports: what a campus says comes into a service. A client reads what is there, makes a plan, stages the rows that
//! are to change, and has them applied all at once.
//!
//! ```text
//! ReadImported --rows of version v--> plan --> StageRows (part 0, 1, ...) --> ApplyImport(v) --> version v + 1
//! ```
//!
//! Why each call may be repeated: reading changes nothing; a part replaces itself; and an import that was applied has
//! made the next version, so that a repeat is refused as outdated, and the plan that is made anew is empty.
//!
//! A service brings an [`Imported`]: its rows, their checks, and how they are written.

use std::fmt;
use std::hash::Hash;

use async_trait::async_trait;
use matricula_proto::imports::v1 as wire;

use crate::database::{Args, Database, DbError, Row, Tx};
use crate::participant::WriteError;
use crate::rpc::{FieldError, first_twice};

mod grpc;
mod staged;
#[cfg(test)]
mod tests;

pub(crate) use grpc::server;

const VERSION: &str = "SELECT version FROM import_version";
const VERSION_FOR_UPDATE: &str = "SELECT version FROM import_version {for_update}";
const NEXT_VERSION: &str = "UPDATE import_version SET version = version + 1";

/// A service's part in imports.
#[async_trait]
pub trait Imported: Send + Sync + 'static {
    /// Every row that an import can change, and the version of them ([`version`]), of one snapshot.
    async fn read(&self) -> Result<(i64, Vec<wire::ImportRow>), DbError>;

    /// Checks the bounds of a row by itself. A row of another service is refused ([`foreign_row`]).
    fn check(&self, row: &wire::ImportRow) -> Result<(), FieldError>;

    /// Writes all rows, which were checked, or nothing, and makes the next version ([`begin`]).
    async fn apply(&self, base_version: i64, rows: Vec<wire::ImportRow>) -> Result<(), ImportError>;
}

/// Why an import was not applied; nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The plan was made of another version.
    #[error("the plan was made of version {base}, and version {version} is in force: read again and make a new plan")]
    Outdated {
        /// The version of the plan.
        base: i64,
        /// The version in force.
        version: i64,
    },
    /// A row would leave the whole broken.
    #[error("{0}")]
    Row(#[from] FieldError),
    /// What is there forbids it.
    #[error("{message}")]
    Refused {
        /// Machine-readable cause in capitals.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// The database failed.
    #[error("the import could not be stored")]
    Database(#[from] DbError),
    /// The one writer of the service, by which some services apply imports, has no answer.
    #[error("the import has no answer")]
    Write(#[from] WriteError),
}

/// The problem of a row that is another service's, or that has nothing in it.
pub fn foreign_row() -> FieldError {
    FieldError::new("row", "is not a row of this service")
}

/// Refuses an import in which two rows have the same id in a field.
pub fn check_named_once<'a, I: Hash + Eq + fmt::Display + 'a>(
    field: &str,
    ids: impl Iterator<Item = &'a I>,
) -> Result<(), FieldError> {
    match first_twice(ids) {
        Some((_, id)) => Err(FieldError::new(field, format!("{id} is named twice in the import: name it once"))),
        None => Ok(()),
    }
}

/// The version in force, for a snapshot.
pub async fn version(tx: &mut Tx) -> Result<i64, DbError> {
    version_of(&tx.fetch(VERSION, Args::new()).await?)
}

/// Begins the transaction that applies an import: from here on no other import is applied, and its commit makes the
/// next version. Refused when the version in force is not the one of the plan.
pub async fn begin(database: &Database, base_version: i64) -> Result<Tx, ImportError> {
    let mut tx = database.begin().await?;
    let version = lock(&mut tx).await?;
    check_base(base_version, version)?;
    next(&mut tx);
    Ok(tx)
}

/// Locks the version in force until the transaction ends.
pub async fn lock(tx: &mut Tx) -> Result<i64, DbError> {
    version_of(&tx.fetch(VERSION_FOR_UPDATE, Args::new()).await?)
}

/// Refuses a plan of another version than the one in force.
pub fn check_base(base: i64, version: i64) -> Result<(), ImportError> {
    if base == version { Ok(()) } else { Err(ImportError::Outdated { base, version }) }
}

/// Has the commit make the next version.
pub fn next(tx: &mut Tx) {
    tx.send(NEXT_VERSION, Args::new());
}

fn version_of(rows: &[Row]) -> Result<i64, DbError> {
    rows.first().ok_or_else(|| DbError::corrupt("imports have no version"))?.int("version")
}
