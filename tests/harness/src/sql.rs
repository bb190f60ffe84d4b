//! Direct access to a process's database, beside the process: to read, to lock, to corrupt.

use matricula_kit::database::{Migrator, Row};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};

/// A connection to a database of either kind.
pub enum Sql {
    /// To a SQLite file.
    Sqlite(SqliteConnection),
    /// To a PostgreSQL database.
    Postgres(PgConnection),
}

impl Sql {
    /// Connects, or returns the error.
    pub async fn try_open(url: &str) -> Result<Self, sqlx::Error> {
        Ok(if url.starts_with("sqlite:") {
            Self::Sqlite(SqliteConnection::connect(url).await?)
        } else {
            Self::Postgres(PgConnection::connect(url).await?)
        })
    }

    /// Connects.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn open(url: &str) -> Self {
        Self::try_open(url).await.unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// Runs statements and returns how many rows they changed.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn run(&mut self, statements: &str) -> u64 {
        let query = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        let done = match self {
            Self::Sqlite(connection) => query.execute(connection).await.map(|done| done.rows_affected()),
            Self::Postgres(connection) => query.execute(connection).await.map(|done| done.rows_affected()),
        };
        done.unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// Brings the schema up to date.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn migrate(&mut self, migrations: &Migrator) {
        let done = match self {
            Self::Sqlite(connection) => migrations.run(connection).await,
            Self::Postgres(connection) => migrations.run(connection).await,
        };
        done.expect("the migrations are good");
    }

    /// The rows that a query returns.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn rows(&mut self, query: &str) -> Vec<Row> {
        let answer = match self {
            Self::Sqlite(connection) => {
                let asked = sqlx::query(AssertSqlSafe(query.to_owned()));
                asked.fetch_all(connection).await.map(|rows| rows.into_iter().map(Row::from).collect())
            }
            Self::Postgres(connection) => {
                let asked = sqlx::query(AssertSqlSafe(query.to_owned()));
                asked.fetch_all(connection).await.map(|rows| rows.into_iter().map(Row::from).collect())
            }
        };
        answer.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The number that a query returns.
    ///
    /// # Panics
    /// When it does not return one.
    pub async fn number(&mut self, query: &str) -> i64 {
        let asked = sqlx::raw_sql(AssertSqlSafe(query.to_owned()));
        let answer = match self {
            Self::Sqlite(connection) => asked.fetch_one(connection).await.and_then(|row| row.try_get(0)),
            Self::Postgres(connection) => asked.fetch_one(connection).await.and_then(|row| row.try_get(0)),
        };
        answer.unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}
