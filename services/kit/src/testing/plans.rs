//! Detects statements that read whole tables: with a million rows, they must not be read again for each batch.

use std::time::Duration;

use crate::database::{Args, Database, run_on_sqlite};

/// The polling interval for facts without a notification.
const LOOK: Duration = Duration::from_millis(10);

/// The statements that ran on SQLite in this process and that scan one of these tables on this database, each with the
/// line of its plan that shows the scan. Tables are given with their aliases. Indexes in `partial` have few rows, and
/// may be scanned.
///
/// # Panics
/// If a plan can't be read.
pub async fn scans_of_sqlite(database: &Database, tables: &[&str], partial: &[&str]) -> Vec<(&'static str, String)> {
    let mut scans = Vec::new();
    for statement in run_on_sqlite().into_iter().filter(|statement| !statement.starts_with("EXPLAIN")) {
        let sql: &'static str = Box::leak(format!("EXPLAIN QUERY PLAN {statement}").into_boxed_str());
        // A statement of another test in this process, on a database with other tables.
        let Ok(plan) = database.fetch(sql, Args::new()).await else { continue };
        for row in plan {
            let line = row.text("detail").expect("a plan has details");
            let table = line.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
            let is_scan = table.is_some_and(|table| tables.contains(&table));
            if is_scan && !partial.iter().any(|index| line.contains(index)) {
                scans.push((statement, line));
            }
        }
    }
    scans
}

/// The number of rows that PostgreSQL has read from some tables, by index or by scan.
#[derive(Debug)]
pub struct RowsRead {
    url: String,
    tables: String,
    before: i64,
}

const READ: &str = "SELECT \
     (SELECT COALESCE(SUM(seq_tup_read), 0)::bigint FROM pg_stat_user_tables WHERE $1 LIKE '%,' || relname || ',%') + \
     (SELECT COALESCE(SUM(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE $1 LIKE '%,' || relname || ',%') \
     AS rows_read";
/// The server publishes the statistics of a connection at its end, if not before.
const OTHERS: &str = "SELECT COUNT(*) AS others FROM pg_stat_activity \
     WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";

impl RowsRead {
    /// Begins to count. Waits until all connections to the database are closed.
    pub async fn count_from_now(url: &str, tables: &[&str]) -> Self {
        let tables = format!(",{},", tables.join(","));
        let before = rows_read(url, &tables).await;
        Self { url: url.to_owned(), tables, before }
    }

    /// The rows read since the begin. Waits until all connections to the database are closed.
    pub async fn until_now(&self) -> i64 {
        rows_read(&self.url, &self.tables).await - self.before
    }
}

async fn rows_read(url: &str, tables: &str) -> i64 {
    let database = Database::open(url).await.expect("the database opens");
    let others = async || {
        let rows = database.fetch(OTHERS, Args::new()).await.expect("the server tells");
        rows[0].int("others").expect("a number")
    };
    // The writing connection is opened beside the querying one.
    while others().await > 1 {
        tokio::time::sleep(LOOK).await;
    }
    let rows = database.fetch(READ, Args::new().text(tables)).await.expect("the server tells");
    let rows_read = rows[0].int("rows_read").expect("a number");
    database.close().await;
    rows_read
}
