//! The pool of the connections that write: each is kept with the statements that it has prepared, and serves one
//! transaction at a time.
//!
//! The driver's pool opens and closes them. It does not hand them out: with each return it would ask the server whether
//! it is still there, which is a round trip for every batch.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, Pool, Postgres, Sqlite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::DbError;

/// A plan that was made while a table was all but empty reads the whole table, and the server keeps it until its
/// statistics catch up, on just the morning when the table fills. So plans are made anew after 1, 2, 4, 8, ... uses of
/// the connections, and then at each multiple of this: seldom enough to cost nothing, and soon enough that no table has
/// grown by more than some thousand rows. It is a prime, so that connections which take turns are all met.
const PLANNED_ANEW_EVERY: u32 = 61;
/// A connection that was used so short a time ago is taken to be there. When it is not, the batch fails that uses it,
/// and is sent again.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// A connection is given up at this age, so that what a server's process gathers in its life does not stay for ever.
const AGE_MAX: Duration = Duration::from_secs(1_800);
/// How long a transaction that came to nothing may take to be undone before its connection is given up.
const UNDO_TIMEOUT: Duration = Duration::from_secs(5);

/// Which database it is, as far as the pool is concerned.
pub(super) trait Engine: sqlx::Database {
    /// Whether a connection may break or grow old by itself.
    const IS_REMOTE: bool;

    /// Runs what has no arguments and no answer.
    fn run(
        connection: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

impl Engine for Sqlite {
    const IS_REMOTE: bool = false;

    async fn run(connection: &mut Self::Connection, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(connection).await.map(drop)
    }
}

impl Engine for Postgres {
    const IS_REMOTE: bool = true;

    async fn run(connection: &mut Self::Connection, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(connection).await.map(drop)
    }
}

/// A connection of the driver's pool. The driver's way to it is a future of 14 KB: on the heap, it does not make every
/// future so large that may come to read or write, and thousands of requests wait in such futures.
pub(super) async fn opened<DB: sqlx::Database>(pool: &Pool<DB>) -> Result<PoolConnection<DB>, sqlx::Error> {
    Box::pin(pool.acquire()).await
}

/// All connections of a database that write.
pub(super) struct WriterPool<DB: Engine> {
    pool: Pool<DB>,
    acquire_timeout: Duration,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection<DB>>>>,
    uses: Arc<AtomicU32>,
}

/// One connection, and what is known of it. It is closed when this is dropped, and never goes back to the driver's
/// pool: what it has prepared would be forgotten here, and not there.
pub(super) struct Connection<DB: Engine> {
    pub(super) inner: PoolConnection<DB>,
    /// Numbers of the statements that it has prepared by name.
    pub(super) prepared: HashSet<usize>,
    /// Whether it may have prepared more than that.
    pub(super) is_preparing: bool,
    /// Whether its plans are to be made anew before anything else.
    pub(super) plans_are_old: bool,
    born: Instant,
    used: Instant,
}

/// A connection out of the pool. It goes back when it is dropped: at once when no transaction is open on it, otherwise
/// when that was undone.
pub(super) struct PooledConnection<DB: Engine> {
    connection: Option<Connection<DB>>,
    permit: Option<OwnedSemaphorePermit>,
    idle: Arc<Mutex<Vec<Connection<DB>>>>,
    pool: Pool<DB>,
    pub(super) state: State,
}

/// What is open on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    Ready,
    /// A transaction.
    Open,
    /// It is not known: something was sent, and no answer has come, or an error.
    Unknown,
}

impl<DB: Engine> Drop for Connection<DB> {
    fn drop(&mut self) {
        self.inner.close_on_drop();
    }
}

impl<DB: Engine> Clone for WriterPool<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            acquire_timeout: self.acquire_timeout,
            permits: self.permits.clone(),
            idle: self.idle.clone(),
            uses: self.uses.clone(),
        }
    }
}

impl<DB: Engine> WriterPool<DB> {
    /// As many as the pool may have; a caller waits for one as long as the pool lets it.
    pub(super) fn of(pool: Pool<DB>) -> Self {
        let (number, acquire_timeout) = (pool.options().get_max_connections(), pool.options().get_acquire_timeout());
        Self {
            pool,
            acquire_timeout,
            permits: Arc::new(Semaphore::new(number as usize)),
            idle: Arc::default(),
            uses: Arc::default(),
        }
    }

    /// A connection of the pool, as soon as there is a free one.
    pub(super) async fn acquire(&self) -> Result<PooledConnection<DB>, DbError> {
        let waiting = tokio::time::timeout(self.acquire_timeout, self.permits.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = waiting else { return Err(sqlx::Error::PoolTimedOut.into()) };
        let mut connection = self.open().await?;
        let uses = self.uses.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        connection.plans_are_old = DB::IS_REMOTE && (uses.is_power_of_two() || uses.is_multiple_of(PLANNED_ANEW_EVERY));
        let (idle, pool) = (self.idle.clone(), self.pool.clone());
        Ok(PooledConnection { connection: Some(connection), permit: Some(permit), idle, pool, state: State::Ready })
    }

    async fn open(&self) -> Result<Connection<DB>, DbError> {
        loop {
            let idle = locked(&self.idle).pop();
            let Some(mut connection) = idle else { break };
            if !DB::IS_REMOTE || connection.used.elapsed() < TRUSTED_FOR {
                return Ok(connection);
            }
            let answered = tokio::time::timeout(self.acquire_timeout, connection.inner.ping()).await;
            if matches!(answered, Ok(Ok(()))) {
                return Ok(connection);
            }
        }
        let connection = opened(&self.pool).await?;
        let now = Instant::now();
        Ok(Connection {
            inner: connection,
            prepared: HashSet::new(),
            is_preparing: false,
            plans_are_old: false,
            born: now,
            used: now,
        })
    }

    /// The driver's pool, with room for callers that use none of these.
    pub(super) fn pool(&self) -> &Pool<DB> {
        locked(&self.idle).clear();
        &self.pool
    }

    /// Closes them; one in use is closed when it comes back.
    pub(super) async fn close(&self) {
        let closing = self.pool.close();
        locked(&self.idle).clear();
        closing.await;
    }
}

impl<DB: Engine> PooledConnection<DB> {
    /// The connection.
    ///
    /// # Panics
    /// Never: it is taken out by the drop alone.
    pub(super) fn connection(&mut self) -> &mut Connection<DB> {
        self.connection.as_mut().expect("a pooled connection is there until it is dropped")
    }
}

impl<DB: Engine> Drop for PooledConnection<DB> {
    fn drop(&mut self) {
        let (Some(connection), Some(permit)) = (self.connection.take(), self.permit.take()) else { return };
        let (idle, pool) = (self.idle.clone(), self.pool.clone());
        if self.state == State::Ready {
            put_back(connection, &idle, &pool);
            return;
        }
        // Without a runtime, and where it is not known what the connection has prepared, it ends: the database undoes
        // what is open then.
        if let (Ok(runtime), false) = (tokio::runtime::Handle::try_current(), connection.is_preparing) {
            runtime.spawn(undo(connection, permit, idle, pool));
        }
    }
}

async fn undo<DB: Engine>(
    mut connection: Connection<DB>,
    permit: OwnedSemaphorePermit,
    idle: Arc<Mutex<Vec<Connection<DB>>>>,
    pool: Pool<DB>,
) {
    // An error: SQLite has rolled back by itself, or there is no way to know.
    if let Ok(Ok(())) = tokio::time::timeout(UNDO_TIMEOUT, DB::run(&mut connection.inner, "ROLLBACK")).await {
        put_back(connection, &idle, &pool);
    }
    drop(permit);
}

fn put_back<DB: Engine>(mut connection: Connection<DB>, idle: &Mutex<Vec<Connection<DB>>>, pool: &Pool<DB>) {
    connection.used = Instant::now();
    let is_old = DB::IS_REMOTE && connection.born.elapsed() > AGE_MAX;
    if !is_old && !pool.is_closed() {
        locked(idle).push(connection);
    }
}

fn locked<DB: Engine>(idle: &Mutex<Vec<Connection<DB>>>) -> MutexGuard<'_, Vec<Connection<DB>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
