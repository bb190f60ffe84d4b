//! Which statements read whole tables: a morning with a million rows behind it must not read them again for each batch.

use std::time::Duration;

use crate::database::{Args, Database, run_on_sqlite};

/// How often a fact is looked for that nobody tells.
const LOOK: Duration = Duration::from_millis(10);

/// The statements that this process has run on SQLite by now and that, on this database, read one of these tables,
/// given with their aliases, from end to end: each with the line of its plan that says so. An index that is named in
/// `partial` holds few rows, and may be read whole.
///
/// # Panics
/// When a plan can't be read.
pub async fn scans_of_sqlite(database: &Database, tables: &[&str], partial: &[&str]) -> Vec<(&'static str, String)> {
    let mut scans = Vec::new();
    for statement in run_on_sqlite().into_iter().filter(|statement| !statement.starts_with("EXPLAIN")) {
        let sql: &'static str = Box::leak(format!("EXPLAIN QUERY PLAN {statement}").into_boxed_str());
        // Of other tests of this process, on databases with other tables.
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

/// How many rows PostgreSQL has read of some tables, along an index or from end to end.
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
/// A server tells of what a connection has done when it ends, if not before.
const OTHERS: &str = "SELECT COUNT(*) AS others FROM pg_stat_activity \
     WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";

impl RowsRead {
    /// Begins to count. Waits until all connections to the database are closed.
    pub async fn count_from_now(url: &str, tables: &[&str]) -> Self {
        let tables = format!(",{},", tables.join(","));
        let before = rows_read(url, &tables).await;
        Self { url: url.to_owned(), tables, before }
    }

    /// So many since then. Waits until all connections to the database are closed.
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
    // The one that writes is opened beside the one that asks.
    while others().await > 1 {
        tokio::time::sleep(LOOK).await;
    }
    let rows = database.fetch(READ, Args::new().text(tables)).await.expect("the server tells");
    let rows_read = rows[0].int("rows_read").expect("a number");
    database.close().await;
    rows_read
}
