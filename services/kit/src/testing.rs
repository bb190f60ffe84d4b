//! Throw-away databases for tests: real SQLite files and real PostgreSQL databases, one per test; and the test suite of
//! participants.

mod conformance;
mod imports;
mod plans;
mod proxy;
mod upgrade;

use std::path::Path;

use crate::database::{Args, Database, DbError, Schema};

pub use conformance::barrier_holds;
pub use imports::{import, imported};
pub use plans::{RowsRead, scans_of_sqlite};
pub use proxy::Proxy;
pub use upgrade::{UPGRADES, Upgrade, upgraded};

/// Environment variable with the URL of a PostgreSQL server on which tests may create databases, without a database
/// name: `postgres://user@127.0.0.1:5433`. `cargo xtask test` starts such a server and sets it.
pub const POSTGRES_URL: &str = "MATRICULA_TEST_POSTGRES_URL";

/// The database of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file in a temporary folder.
    Sqlite,
    /// A separate database on the test server.
    Postgres,
}

/// Both, the faster one first.
pub const BACKENDS: [Backend; 2] = [Backend::Sqlite, Backend::Postgres];

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
        Backend::Sqlite => sqlite_url(folder.path()),
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
    let server = std::env::var(POSTGRES_URL).unwrap_or_else(|_| {
        panic!("{POSTGRES_URL} is not set: run the tests with `cargo xtask test`, which starts a PostgreSQL server")
    });
    create_postgres_on(server.trim_end_matches('/')).await
}

/// The URL of a new, empty database on a PostgreSQL server; `server` is the server's URL without a database.
///
/// # Panics
/// When it can't be created.
pub async fn create_postgres_on(server: &str) -> String {
    let name = format!("test_{}", uuid::Uuid::now_v7().simple());
    create(server, &name).await.unwrap_or_else(|error| panic!("{server}: can't create a database: {error:?}"));
    format!("{server}/{name}")
}

async fn create(server: &str, name: &str) -> Result<(), DbError> {
    let admin = Database::open(&format!("{server}/postgres")).await?;
    // Statements are `'static` to prevent SQL injection; this generated name has only letters and digits.
    let sql: &'static str = Box::leak(format!("CREATE DATABASE {name}").into_boxed_str());
    admin.fetch(sql, Args::new()).await?;
    admin.close().await;
    Ok(())
}

fn sqlite_url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("test.db").display())
}
