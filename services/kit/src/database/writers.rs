//! The connections that write: each is kept with the statements that it has prepared, and lent to one transaction at a time.
//!
//! The driver's pool opens and closes them. It does not lend them: with each return it would ask the server whether it is
//! still there, which is a round trip for every batch.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, Pool, Postgres, Sqlite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::DbError;

/// A plan that was made while a table was all but empty reads the whole table, and the server keeps it until its
/// statistics catch up, on just the morning when the table fills. So plans are made anew after 1, 2, 4, 8, ... uses of the
/// connections, and then at each multiple of this: seldom enough to cost nothing, and soon enough that no table has grown by
/// more than some thousand rows. It is a prime, so that connections which take turns are all met.
const PLANNED_ANEW_EVERY: u32 = 61;
/// A connection that was used so short a time ago is taken to be there. When it is not, the batch fails that uses it, and is
/// sent again.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// A connection is given up at this age, so that what a server's process gathers in its life does not stay for ever.
const AGE_MAX: Duration = Duration::from_secs(1_800);
/// How long a transaction that came to nothing may take to be undone before its connection is given up.
const UNDO_TIMEOUT: Duration = Duration::from_secs(5);

/// Which database it is, as far as lending connections goes.
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

/// All of a database.
pub(super) struct Writers<DB: Engine> {
    pool: Pool<DB>,
    acquire_timeout: Duration,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Link<DB>>>>,
    uses: Arc<AtomicU32>,
}

/// One connection, and what is known of it. It is closed when this is dropped, and never goes back to the driver's pool: what
/// it has prepared would be forgotten here, and not there.
pub(super) struct Link<DB: Engine> {
    pub(super) connection: PoolConnection<DB>,
    /// Numbers of the statements that it has prepared by name.
    pub(super) prepared: HashSet<usize>,
    /// Whether it may have prepared more than that.
    pub(super) is_preparing: bool,
    /// Whether its plans are to be made anew before anything else.
    pub(super) plans_are_old: bool,
    born: Instant,
    used: Instant,
}

/// A connection that is lent. It goes back when it is dropped: at once, when no transaction is open on it, and else when
/// that was undone.
pub(super) struct Lent<DB: Engine> {
    link: Option<Link<DB>>,
    permit: Option<OwnedSemaphorePermit>,
    idle: Arc<Mutex<Vec<Link<DB>>>>,
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

impl<DB: Engine> Drop for Link<DB> {
    fn drop(&mut self) {
        self.connection.close_on_drop();
    }
}

impl<DB: Engine> Clone for Writers<DB> {
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

impl<DB: Engine> Writers<DB> {
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

    /// Lends a connection.
    pub(super) async fn lend(&self) -> Result<Lent<DB>, DbError> {
        let waiting = tokio::time::timeout(self.acquire_timeout, self.permits.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = waiting else { return Err(sqlx::Error::PoolTimedOut.into()) };
        let mut link = self.link().await?;
        let uses = self.uses.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        link.plans_are_old = DB::IS_REMOTE && (uses.is_power_of_two() || uses.is_multiple_of(PLANNED_ANEW_EVERY));
        let (idle, pool) = (self.idle.clone(), self.pool.clone());
        Ok(Lent { link: Some(link), permit: Some(permit), idle, pool, state: State::Ready })
    }

    async fn link(&self) -> Result<Link<DB>, DbError> {
        loop {
            let idle = locked(&self.idle).pop();
            let Some(mut link) = idle else { break };
            if !DB::IS_REMOTE || link.used.elapsed() < TRUSTED_FOR {
                return Ok(link);
            }
            let answered = tokio::time::timeout(self.acquire_timeout, link.connection.ping()).await;
            if matches!(answered, Ok(Ok(()))) {
                return Ok(link);
            }
        }
        let connection = self.pool.acquire().await?;
        let now = Instant::now();
        Ok(Link {
            connection,
            prepared: HashSet::new(),
            is_preparing: false,
            plans_are_old: false,
            born: now,
            used: now,
        })
    }

    /// The driver's pool, with room for who takes none of these.
    pub(super) fn pool(&self) -> &Pool<DB> {
        locked(&self.idle).clear();
        &self.pool
    }

    /// Closes them; what is lent is closed when it comes back.
    pub(super) async fn close(&self) {
        let closing = self.pool.close();
        locked(&self.idle).clear();
        closing.await;
    }
}

impl<DB: Engine> Lent<DB> {
    /// The connection.
    ///
    /// # Panics
    /// Never: it is taken out by the drop alone.
    pub(super) fn link(&mut self) -> &mut Link<DB> {
        self.link.as_mut().expect("a lent connection is there until it is dropped")
    }
}

impl<DB: Engine> Drop for Lent<DB> {
    fn drop(&mut self) {
        let (Some(link), Some(permit)) = (self.link.take(), self.permit.take()) else { return };
        let (idle, pool) = (self.idle.clone(), self.pool.clone());
        if self.state == State::Ready {
            put_back(link, &idle, &pool);
            return;
        }
        // Without a runtime, and where it is not known what the connection has prepared, it ends: the database undoes what
        // is open then.
        if let (Ok(runtime), false) = (tokio::runtime::Handle::try_current(), link.is_preparing) {
            runtime.spawn(undo(link, permit, idle, pool));
        }
    }
}

async fn undo<DB: Engine>(
    mut link: Link<DB>,
    permit: OwnedSemaphorePermit,
    idle: Arc<Mutex<Vec<Link<DB>>>>,
    pool: Pool<DB>,
) {
    // An error: SQLite has rolled back by itself, or there is no way to know.
    if let Ok(Ok(())) = tokio::time::timeout(UNDO_TIMEOUT, DB::run(&mut link.connection, "ROLLBACK")).await {
        put_back(link, &idle, &pool);
    }
    drop(permit);
}

fn put_back<DB: Engine>(mut link: Link<DB>, idle: &Mutex<Vec<Link<DB>>>, pool: &Pool<DB>) {
    link.used = Instant::now();
    let is_old = DB::IS_REMOTE && link.born.elapsed() > AGE_MAX;
    if !is_old && !pool.is_closed() {
        locked(idle).push(link);
    }
}

fn locked<DB: Engine>(idle: &Mutex<Vec<Link<DB>>>) -> MutexGuard<'_, Vec<Link<DB>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
