//! Reads the rows of registrations out of any of the system's databases, and writes them into copies of its tables.

use matricula_harness::Sql;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection as _, Postgres, Sqlite, SqliteConnection};

use crate::tables::{ColumnOf, Kind, bytes_of, describe};

/// Numbers of rows of one statement on SQLite: few different ones, so that most statements are already prepared.
const SQLITE_ROWS: usize = 100;
/// Prepared statements that a connection to SQLite keeps: each table has one for every length.
const SQLITE_STATEMENTS: usize = 1_000;
/// Tables before their indexes.
const SQLITE_DEFINITIONS: &str = "SELECT tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC";

/// All rows of some registrations in one table, in the order of the registrations.
pub(super) struct Table {
    name: String,
    key: &'static str,
    columns: Vec<(String, Column)>,
}

enum Column {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Id(Vec<Option<Vec<u8>>>),
}

/// Empty copies of some tables, and the rows to be written into them.
pub(super) struct Copy {
    connection: Sql,
    /// The prefix of their names.
    schema: String,
    tables: Vec<Table>,
}

/// The ids of the last finished sagas, in their order.
pub(super) async fn last_sagas(url: &str, limit: i64) -> Vec<String> {
    let query = format!("SELECT saga_id FROM sagas WHERE finished = 1 ORDER BY saga_id DESC LIMIT {limit}");
    let rows = Sql::open(url).await.rows(&query).await;
    rows.iter().rev().map(|row| row.id("saga_id").expect("an id")).collect()
}

/// The rows that a range of registrations has left in a database.
pub(super) async fn read(url: &str, first: &str, last: &str) -> Vec<Table> {
    let mut connection = Sql::open(url).await;
    let tables = describe(&mut connection).await;
    let mut read = Vec::new();
    for (name, described) in tables {
        let Some(key) = described.key else { continue };
        let names = described.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        let is_asked = described.is_between(key, first, last);
        let rows = connection.rows(&format!("SELECT {names} FROM {name} WHERE {is_asked} ORDER BY {key}")).await;
        let columns = described.columns.into_iter().map(|ColumnOf { name, kind }| {
            let values = match kind {
                Kind::Int => Column::Int(rows.iter().map(|row| row.opt_int(&name).expect("an integer")).collect()),
                Kind::Text => Column::Text(rows.iter().map(|row| row.opt_text(&name).expect("a text")).collect()),
                Kind::Id => {
                    let ids = rows.iter().map(|row| row.opt_id(&name).expect("an id"));
                    Column::Id(ids.map(|id| id.as_deref().map(bytes_of)).collect())
                }
            };
            (name, values)
        });
        read.push(Table { name, key, columns: columns.collect() });
    }
    read
}

impl Table {
    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.len())
    }

    /// Where the rows of the registrations after this one begin.
    fn after(&self, id: &str) -> usize {
        let mut columns = self.columns.iter().filter(|(name, _)| name == self.key);
        match columns.next() {
            Some((_, Column::Text(keys))) => keys.partition_point(|key| key.as_deref() <= Some(id)),
            Some((_, Column::Id(keys))) => {
                let id = bytes_of(id);
                keys.partition_point(|key| key.as_ref() <= Some(&id))
            }
            _ => panic!("{}: the key is no id", self.name),
        }
    }

    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Id(values) => values.len(),
        }
    }
}

impl Copy {
    /// Makes empty copies: in a schema of their own, or in a file beside the database's.
    pub(super) async fn make(url: &str, number: usize, tables: Vec<Table>) -> Self {
        let mut connection = Sql::open(url).await;
        match &mut connection {
            Sql::Postgres(_) => {
                let schema = format!("floor_{number}.");
                let mut statements = format!("CREATE SCHEMA floor_{number};");
                for Table { name, .. } in &tables {
                    statements.push_str(&format!("CREATE TABLE {schema}{name} (LIKE public.{name} INCLUDING ALL);"));
                }
                connection.run(&statements).await;
                Self { connection, schema, tables }
            }
            Sql::Sqlite(_) => {
                let mut statements = String::new();
                for row in connection.rows(SQLITE_DEFINITIONS).await {
                    let [table, sql] = ["tbl_name", "sql"].map(|name| row.text(name).expect("a text"));
                    if tables.iter().any(|copied| copied.name == table) {
                        statements.push_str(&format!("{sql};\n"));
                    }
                }
                let path = format!("{}.floor-{number}", url.trim_start_matches("sqlite:"));
                let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
                let options = options.statement_cache_capacity(SQLITE_STATEMENTS);
                let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
                let copy = SqliteConnection::connect_with(&options).await.expect("a file can be made there");
                let mut connection = Sql::Sqlite(copy);
                connection.run(&statements).await;
                Self { connection, schema: String::new(), tables }
            }
        }
    }

    /// Writes everything, a commit for the rows up to each of these registrations.
    pub(super) async fn write(&mut self, ends: &[String]) {
        let mut from = vec![0; self.tables.len()];
        for end in ends {
            let to: Vec<usize> = self.tables.iter().map(|table| table.after(end)).collect();
            let parts = self.tables.iter().zip(from.iter().zip(&to)).filter(|(_, (from, to))| from < to);
            let parts: Vec<(&Table, Range)> = parts.map(|(table, (from, to))| (table, *from..*to)).collect();
            let done = match &mut self.connection {
                Sql::Postgres(connection) => commit_to_postgres(connection, &self.schema, parts).await,
                Sql::Sqlite(connection) => commit_to_sqlite(connection, parts).await,
            };
            done.expect("a copy takes the rows of its origin");
            from = to;
        }
    }

    pub(super) fn into_tables(self) -> Vec<Table> {
        self.tables
    }
}

type Range = std::ops::Range<usize>;

async fn commit_to_postgres(
    connection: &mut sqlx::PgConnection,
    schema: &str,
    parts: Vec<(&Table, Range)>,
) -> sqlx::Result<()> {
    let mut tx = connection.begin().await?;
    for (table, range) in parts {
        let arrays = table.columns.iter().enumerate().map(|(at, (_, column))| match column {
            Column::Text(_) => format!("${}::text[]", at + 1),
            Column::Int(_) => format!("${}::bigint[]", at + 1),
            Column::Id(_) => format!("${}::bytea[]", at + 1),
        });
        let arrays = arrays.collect::<Vec<_>>().join(", ");
        let (name, columns) = (&table.name, table.names());
        let sql = format!("INSERT INTO {schema}{name} ({columns}) SELECT * FROM unnest({arrays})");
        let mut query: Query<'_, Postgres, PgArguments> = sqlx::query(AssertSqlSafe(sql));
        for (_, column) in &table.columns {
            query = match column {
                Column::Text(values) => query.bind(&values[range.clone()]),
                Column::Int(values) => query.bind(&values[range.clone()]),
                Column::Id(values) => query.bind(&values[range.clone()]),
            };
        }
        query.execute(&mut *tx).await?;
    }
    tx.commit().await
}

async fn commit_to_sqlite(connection: &mut SqliteConnection, parts: Vec<(&Table, Range)>) -> sqlx::Result<()> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    for (table, range) in parts {
        let rows: Vec<usize> = range.collect();
        for rows in rows.chunks(SQLITE_ROWS) {
            let row = format!("({})", vec!["?"; table.columns.len()].join(","));
            let values = vec![row; rows.len()].join(",");
            let sql = format!("INSERT INTO {} ({}) VALUES {values}", table.name, table.names());
            let mut query: Query<'_, Sqlite, SqliteArguments> = sqlx::query(AssertSqlSafe(sql));
            for at in rows {
                for (_, column) in &table.columns {
                    query = match column {
                        Column::Text(values) => query.bind(values[*at].as_deref()),
                        Column::Int(values) => query.bind(values[*at]),
                        Column::Id(values) => query.bind(values[*at].as_deref()),
                    };
                }
            }
            query.execute(&mut *tx).await?;
        }
    }
    tx.commit().await
}
