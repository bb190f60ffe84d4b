//! The line, read directly from the orchestrator's database, so that it works while the orchestrator is away.

use matricula_harness::Sql;

/// The ticket up to which all have had their turn.
const SERVED: &str = "SELECT COALESCE(MAX(ticket), 0) FROM line_turns";
const QUEUED: &str = "SELECT COUNT(*) FROM sagas WHERE queued = 1";
const AT_WORK: &str = "SELECT COUNT(*) FROM sagas WHERE finished = 0 AND queued = 0";
/// Sagas that had their turn before an older one that still waits.
const OUT_OF_ORDER: &str =
    "SELECT COUNT(*) FROM sagas WHERE queued = 0 AND ticket > (SELECT MIN(ticket) FROM sagas WHERE queued = 1)";
/// Sessions of PostgreSQL on this database, except the one that runs the query.
const OTHERS: &str = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
     AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
/// The next statement takes the snapshot.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";

/// A reader of the line.
pub(super) struct Turns(Sql);

impl Turns {
    /// Connects to the orchestrator's database.
    pub(super) async fn open(url: &str) -> Self {
        Self(Sql::open(url).await)
    }

    /// The ticket that had its turn last.
    pub(super) async fn served(&mut self) -> i64 {
        self.0.number(SERVED).await
    }

    /// Registrations in line.
    pub(super) async fn queued(&mut self) -> i64 {
        self.0.number(QUEUED).await
    }

    /// Registrations that had their turn and are not finished.
    pub(super) async fn at_work(&mut self) -> i64 {
        self.0.number(AT_WORK).await
    }

    /// Registrations that had their turn before an older one.
    pub(super) async fn out_of_order(&mut self) -> i64 {
        self.0.number(OUT_OF_ORDER).await
    }

    /// Sessions of other clients. SQLite has none that outlives its process.
    pub(super) async fn others(&mut self) -> i64 {
        match self.0 {
            Sql::Postgres(_) => self.0.number(OTHERS).await,
            Sql::Sqlite(_) => 0,
        }
    }
}

/// A transaction that keeps a snapshot of a PostgreSQL database open, as a backup does.
pub(super) struct Snapshot {
    sql: Sql,
    served: i64,
}

impl Snapshot {
    /// Takes it.
    pub(super) async fn open(url: &str) -> Self {
        let mut sql = Sql::open(url).await;
        sql.run(BEGIN).await;
        let served = sql.number(SERVED).await;
        Self { sql, served }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When it was not open until now: then it shows later turns.
    pub(super) async fn close(mut self) {
        assert_eq!(self.sql.number(SERVED).await, self.served, "the snapshot was open all the time");
        self.sql.run("ROLLBACK").await;
    }
}
