//! Throw-away databases for tests: real SQLite files and real PostgreSQL databases, one per test; and the test suite of
//! participants.

mod conformance;
mod imports;
mod plans;
mod proxy;
mod upgrade;

use crate::database::{Database, DatabaseUrl, Schema};

pub use conformance::barrier_holds;
pub use imports::{import, imported};
pub use matricula_postgres::{BACKENDS, Backend};
pub use plans::{RowsRead, scans_of_sqlite};
pub use proxy::Proxy;
pub use upgrade::{UPGRADES, Upgrade, upgraded};

/// A database that is removed when this value is dropped.
pub struct TestDatabase {
    /// The open database.
    pub database: Database,
    /// Its URL, to open it in another process: on PostgreSQL at any time, on SQLite after it is closed.
    pub url: String,
    _folder: tempfile::TempDir,
}

/// A new, migrated database.
///
/// # Panics
/// If it can't be created; the message says what to do.
pub async fn database(backend: Backend, schema: &Schema<'_>) -> TestDatabase {
    let test = empty_database(backend).await;
    test.database.migrate(schema).await.expect("the migrations run on an empty database");
    test
}

/// A new database without any table.
///
/// # Panics
/// If it can't be created; the message says what to do.
pub async fn empty_database(backend: Backend) -> TestDatabase {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = match backend {
        Backend::Sqlite => DatabaseUrl::of_file(&folder.path().join("test.db")),
        Backend::Postgres => create_postgres().await,
    };
    let database = Database::open(&url).await.expect("an empty database opens");
    TestDatabase { database, url, _folder: folder }
}

/// The URL of a new, empty database on the PostgreSQL test server.
///
/// # Panics
/// If there is no test server; the message says how to start one.
pub async fn create_postgres() -> String {
    Database::create_on(&matricula_postgres::test_server()).await.expect("a new database on the test server")
}
