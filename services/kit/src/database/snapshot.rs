//! A read of one state of the database that takes several statements, with a time limit.
//!
//! Meanwhile it occupies one of the few reading connections; PostgreSQL can't remove the old rows that it may see, and
//! SQLite can't checkpoint its log. So a timer ends it, even if its reader has stopped reading.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::pool::PoolConnection;
use tokio::sync::Mutex;
use tokio::time::{timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::ANSWER_MAX;
use super::error::DbError;
use super::ids::{IdForm, SharedForm};
use super::pool::Engine;
use super::statement::{self, Args, Row};
use crate::tasks;

/// The time limit of a snapshot. The ledger of a large university, 2 million rows, takes a minute; the space that is
/// not cleaned up meanwhile is small.
pub const SNAPSHOT_MAX: Duration = Duration::from_secs(300);
/// How long its end may take before its connection is closed.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A snapshot of PostgreSQL, with the form of its ids.
pub(super) struct PostgresSnapshot {
    pub(super) snapshot: Snapshot<sqlx::Postgres>,
    pub(super) form: IdForm,
    pub(super) shared_form: Arc<SharedForm>,
}

impl PostgresSnapshot {
    /// Runs a query. If the ids were converted before the snapshot began, the query fails, and the next snapshot
    /// queries the form.
    pub(super) async fn fetch(&mut self, sql: &'static str, args: Args) -> Result<Vec<Row>, DbError> {
        let (query, form) = (statement::postgres(sql, args, self.form), self.form);
        let fetched = self.snapshot.run(|connection| {
            Box::pin(async move {
                match query.fetch_all(connection).await {
                    Err(error) if form.is_outdated_by(&error) => Ok(Err(error)),
                    rows => rows.map(Ok),
                }
            })
        });
        match fetched.await? {
            Ok(rows) => Ok(rows.into_iter().map(Row::from).collect()),
            Err(error) => {
                self.shared_form.set(IdForm::Unknown);
                Err(DbError::IdsConverted(error))
            }
        }
    }
}

/// A snapshot, until its time limit.
pub(super) struct Snapshot<DB: Engine> {
    open: Arc<Mutex<Option<Open<DB>>>>,
    until: Instant,
    limit: Duration,
    _timer: AbortOnDropHandle<()>,
}

/// The connection of a snapshot; it returns to its pool when this is dropped.
struct Open<DB: Engine> {
    connection: Option<PoolConnection<DB>>,
    state: State,
}

enum State {
    /// The transaction is open.
    Reading,
    /// It has ended.
    Ended,
    /// An answer timed out: the connection is no longer used.
    Silent,
}

impl<DB: Engine> Snapshot<DB> {
    /// Begins a snapshot by a statement, on its own connection.
    pub(super) async fn begin(
        connection: PoolConnection<DB>,
        sql: &'static str,
        limit: Duration,
    ) -> Result<Self, DbError> {
        let connection = Some(connection);
        let mut open = Open { connection, state: State::Reading };
        open.answer(Instant::now() + ANSWER_MAX, |connection| Box::pin(DB::run(connection, sql)))
            .await
            .unwrap_or_else(|| Err(DbError::no_answer_within(ANSWER_MAX)))?;
        let open = Arc::new(Mutex::new(Some(open)));
        let (until, held) = (Instant::now() + limit, Arc::downgrade(&open));
        let timer = tasks::detached("snapshot_timer", async move {
            tokio::time::sleep_until(until.into()).await;
            let Some(open) = held.upgrade() else { return };
            // A running query ends at the same time.
            if open.lock().await.take().is_some() {
                metrics::counter!("matricula_snapshots_expired_total").increment(1);
                tracing::warn!(
                    seconds = limit.as_secs(),
                    "a read of one state of the database took too long; it was given up"
                );
            }
        });
        Ok(Self { open, until, limit, _timer: AbortOnDropHandle::new(timer) })
    }

    /// Runs a query on its connection, within the remaining time.
    pub(super) async fn run<T>(
        &mut self,
        run: impl for<'c> FnOnce(&'c mut DB::Connection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, DbError> {
        let mut open = self.open.lock().await;
        let Some(reading) = open.as_mut() else { return Err(DbError::SnapshotExpired(self.limit)) };
        // SQLite has no timeout: a file answers, however long a read takes.
        let answer_by = if DB::IS_REMOTE { self.until.min(Instant::now() + ANSWER_MAX) } else { self.until };
        let answer = reading.answer(answer_by, run).await;
        answer.unwrap_or_else(|| {
            let is_over = Instant::now() >= self.until;
            Err(if is_over { DbError::SnapshotExpired(self.limit) } else { DbError::no_answer_within(ANSWER_MAX) })
        })
    }

    /// Ends the snapshot.
    pub(super) async fn end(mut self) -> Result<(), DbError> {
        self.run(|connection| Box::pin(DB::run(connection, "COMMIT"))).await?;
        if let Some(open) = self.open.lock().await.as_mut() {
            open.state = State::Ended;
        }
        Ok(())
    }
}

impl<DB: Engine> Open<DB> {
    /// `None` if no answer comes in time.
    async fn answer<T>(
        &mut self,
        by: Instant,
        run: impl for<'c> FnOnce(&'c mut DB::Connection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Option<Result<T, DbError>> {
        let connection = self.connection.as_mut()?;
        let answer = timeout_at(by.into(), run(connection)).await;
        if answer.is_err() {
            self.state = State::Silent;
        }
        Some(answer.ok()?.map_err(DbError::from))
    }
}

impl<DB: Engine> Drop for Open<DB> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        match (&self.state, tokio::runtime::Handle::try_current()) {
            (State::Ended, _) => {}
            (State::Reading, Ok(runtime)) => drop(runtime.spawn(async move {
                let ended = timeout(END_TIMEOUT, DB::run(&mut connection, "ROLLBACK")).await;
                if !matches!(ended, Ok(Ok(()))) {
                    connection.close_on_drop();
                }
            })),
            // In the pool it would be pinged, and its answer awaited.
            (State::Reading | State::Silent, _) => connection.close_on_drop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::database::{Args, Database, DbError};
    use crate::testing::{BACKENDS, Backend, Proxy, empty_database};

    use super::*;

    const SHORT: Duration = Duration::from_millis(200);
    const PATIENCE: Duration = Duration::from_secs(60);
    const ONE: &str = "SELECT 1 AS one";
    /// More than any pool has.
    const READERS: usize = 8;

    #[tokio::test]
    async fn a_reader_that_stops_gives_its_connection_back() {
        for backend in BACKENDS {
            let test = empty_database(backend).await;
            let mut stopped = Vec::new();
            for _ in 0..READERS {
                // There are fewer connections than that: the later readers get one when the first snapshots end.
                let mut snapshot = test.database.snapshot_within(SHORT).await.expect("a snapshot");
                assert_eq!(snapshot.fetch(ONE, Args::new()).await.expect("a row").len(), 1);
                stopped.push(snapshot);
            }
            let reading = test.database.fetch(ONE, Args::new());
            tokio::time::timeout(PATIENCE, reading).await.expect("there is a connection").expect("it reads");
            tokio::time::sleep(SHORT).await;
            for snapshot in &mut stopped {
                let error = snapshot.fetch(ONE, Args::new()).await.expect_err("its time is over");
                assert!(matches!(error, DbError::SnapshotExpired(limit) if limit == SHORT), "{backend:?}: {error}");
                let status = tonic::Status::from(error);
                assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
                assert!(status.message().ends_with("begin again, and read faster"), "{status:?}");
            }
        }
    }

    /// A reader within the limit sees the state of its beginning.
    #[tokio::test]
    async fn a_reader_in_time_reads_one_state() {
        for backend in BACKENDS {
            let test = empty_database(backend).await;
            for _ in 0..READERS {
                let mut snapshot = test.database.snapshot().await.expect("a snapshot");
                snapshot.fetch(ONE, Args::new()).await.expect("a row");
                // Half of them are simply dropped.
                snapshot.commit().await.expect("it ends");
                let mut dropped = test.database.snapshot().await.expect("a snapshot");
                dropped.fetch(ONE, Args::new()).await.expect("a row");
            }
        }
    }

    #[tokio::test]
    async fn a_database_that_hangs_does_not_keep_a_reader() {
        let test = empty_database(Backend::Postgres).await;
        let proxy = Proxy::before(&test.url).await;
        let database = Database::open(proxy.url()).await.expect("a way through the proxy");
        for _ in 0..READERS {
            let mut snapshot = database.snapshot_within(SHORT).await.expect("a snapshot");
            snapshot.fetch(ONE, Args::new()).await.expect("a row");
            proxy.hang();
            let reading = tokio::time::timeout(PATIENCE, snapshot.fetch(ONE, Args::new()));
            let error = reading.await.expect("it does not hang").expect_err("no answer comes");
            assert!(matches!(error, DbError::SnapshotExpired(_)), "{error}");
        }
        database.fetch(ONE, Args::new()).await.expect("hanging readers keep no connection");
    }
}
