//! Throw-away databases for tests: real SQLite files and real PostgreSQL databases, each test its own; and the suite
//! that every participant runs on them.

mod conformance;
mod imports;
mod plans;
mod proxy;
mod upgrade;

use std::path::Path;

use crate::database::{Database, Schema};

pub use conformance::barrier_holds;
pub use imports::{import, imported};
pub use matricula_postgres::{BACKENDS, Backend};
pub use plans::{RowsRead, scans_of_sqlite};
pub use proxy::Proxy;
pub use upgrade::{UPGRADES, Upgrade, upgraded};

/// A database that goes away with this value.
pub struct TestDatabase {
    /// The open database.
    pub database: Database,
    /// Its URL, for a process that opens it too (PostgreSQL) or after it is closed (SQLite).
    pub url: String,
    _folder: tempfile::TempDir,
}

/// A new, migrated database.
///
/// # Panics
/// When it can't be made, saying how to.
pub async fn database(backend: Backend, schema: &Schema<'_>) -> TestDatabase {
    let test = empty_database(backend).await;
    test.database.migrate(schema).await.expect("the migrations run on an empty database");
    test
}

/// A new database without any table.
///
/// # Panics
/// When it can't be made, saying how to.
pub async fn empty_database(backend: Backend) -> TestDatabase {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = match backend {
        Backend::Sqlite => sqlite_url(folder.path()),
        Backend::Postgres => create_postgres().await,
    };
    let database = Database::open(&url).await.expect("an empty database opens");
    TestDatabase { database, url, _folder: folder }
}

/// The URL of a new, empty database on the PostgreSQL test server.
///
/// # Panics
/// When there is no test server, or when the database can't be created.
pub async fn create_postgres() -> String {
    Database::create_on(&matricula_postgres::test_server()).await.expect("a new database on the test server")
}

fn sqlite_url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("test.db").display())
}
