//! On which of the two databases a test runs, and where its PostgreSQL server is.

/// Environment variable with the URL of a PostgreSQL server on which tests may create databases, without a database
/// name: `postgres://user@127.0.0.1:5433`. `cargo xtask test` starts one and sets it.
pub const POSTGRES_URL: &str = "MATRICULA_TEST_POSTGRES_URL";

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file in a temporary folder.
    Sqlite,
    /// A database of its own on the test server.
    Postgres,
}

/// Both, in the order in which tests should run: the quick one first.
pub const BACKENDS: [Backend; 2] = [Backend::Sqlite, Backend::Postgres];

/// The URL of the PostgreSQL server on which tests may create databases, without a database name.
///
/// # Panics
/// When there is no test server. The message says how to start one.
pub fn test_server() -> String {
    let server = std::env::var(POSTGRES_URL).unwrap_or_else(|_| {
        panic!("{POSTGRES_URL} is not set: run the tests with `cargo xtask test`, which starts a PostgreSQL server")
    });
    server.trim_end_matches('/').to_owned()
}
