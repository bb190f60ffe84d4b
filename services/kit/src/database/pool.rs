//! The pool of writing connections. Each connection keeps its prepared statements, and serves one transaction at a
//! time.
//!
//! On SQLite the driver's pool opens and closes the only connection, but this pool keeps it: the driver's pool would
//! ping it at each return. On PostgreSQL the connections are our own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Pool, Postgres, Sqlite, SqlitePool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::DbError;
use super::login::Login;
use super::session;
use super::wire::Wire;
use crate::telemetry;

/// A connection that was used this recently is not checked. If it is broken, the batch that uses it fails and is sent
/// again.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// A connection is closed at this age, so that the memory of its server process does not grow for ever.
const AGE_MAX: Duration = Duration::from_secs(1_800);
/// How long the rollback of an abandoned transaction may take before its connection is closed.
const UNDO_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest pause before the next attempt to connect.
const CONNECT_PAUSE_FIRST: Duration = Duration::from_millis(10);
const CONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// SQLSTATEs of a server that has no free connection, or is still starting.
const TRANSIENT_WHEN_CONNECTING: [&str; 2] = ["53300", "57P03"];

/// The kind of database, as the driver's pool needs it.
pub(super) trait Engine: sqlx::Database {
    /// Whether a connection may break or age.
    const IS_REMOTE: bool;

    /// Runs a statement without arguments and rows.
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

/// A connection of the driver's pool. The driver's future is 14 KB. It is boxed, because thousands of waiting requests
/// have futures that contain this one.
pub(super) async fn opened<DB: sqlx::Database>(pool: &Pool<DB>) -> Result<PoolConnection<DB>, sqlx::Error> {
    Box::pin(pool.acquire()).await
}

/// Opens writing connections.
pub(super) trait Opener: Send + Sync + 'static {
    type Connection: Writer;

    /// Opens a connection.
    fn open(&self, acquire_timeout: Duration) -> impl Future<Output = Result<Self::Connection, DbError>> + Send;

    /// Closes the source of the connections.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A writing connection. It is closed when it is dropped.
pub(super) trait Writer: Send + Sized + 'static {
    /// Whether it may break or age.
    const IS_REMOTE: bool;

    /// Whether it still works.
    fn is_there(&mut self) -> impl Future<Output = bool> + Send;

    /// Whether an open transaction can be rolled back.
    fn can_undo(&self) -> bool;

    /// Rolls back an open transaction.
    fn undo(&mut self) -> impl Future<Output = Result<(), DbError>> + Send;
}

/// The only connection of SQLite. It never returns to the driver's pool.
pub(super) struct SqliteWriter(pub(super) PoolConnection<Sqlite>);

impl Drop for SqliteWriter {
    fn drop(&mut self) {
        self.0.close_on_drop();
    }
}

impl Opener for SqlitePool {
    type Connection = SqliteWriter;

    async fn open(&self, _acquire_timeout: Duration) -> Result<SqliteWriter, DbError> {
        Ok(SqliteWriter(opened(self).await?))
    }

    async fn close(&self) {
        Pool::close(self).await;
    }
}

impl Writer for SqliteWriter {
    const IS_REMOTE: bool = false;

    async fn is_there(&mut self) -> bool {
        true
    }

    fn can_undo(&self) -> bool {
        true
    }

    async fn undo(&mut self) -> Result<(), DbError> {
        Ok(Sqlite::run(&mut self.0, "ROLLBACK").await?)
    }
}

impl Opener for Login {
    type Connection = Wire;

    /// Tries again until the timeout if the server is starting or has no free connection.
    async fn open(&self, acquire_timeout: Duration) -> Result<Wire, DbError> {
        let opening = async {
            let mut pause = CONNECT_PAUSE_FIRST;
            loop {
                match Wire::connect(self).await {
                    Ok(mut wire) => match session::begin_writer(&mut wire, session::OF_WRITERS).await {
                        Ok(()) => return Ok(wire),
                        Err(error) => {
                            let problem = telemetry::chain(&error);
                            tracing::error!(problem, "the settings of a connection could not be set");
                        }
                    },
                    Err(error) if may_pass(&error) => {}
                    Err(error) => return Err(error.into()),
                }
                tokio::time::sleep(pause).await;
                pause = CONNECT_PAUSE_MAX.min(pause * 2);
            }
        };
        // Boxed, so that futures that contain this one stay small.
        timeout(acquire_timeout, Box::pin(opening)).await.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
    }

    async fn close(&self) {}
}

/// Whether a later attempt to connect may succeed.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| TRANSIENT_WHEN_CONNECTING.contains(&&*code)),
        _ => false,
    }
}

impl Writer for Wire {
    const IS_REMOTE: bool = true;

    async fn is_there(&mut self) -> bool {
        self.ping().await.is_ok()
    }

    fn can_undo(&self) -> bool {
        !self.is_preparing
    }

    async fn undo(&mut self) -> Result<(), DbError> {
        self.rollback().await
    }
}

/// All writing connections of a database.
pub(super) struct WriterPool<O: Opener>(Arc<Inner<O>>);

struct Inner<O: Opener> {
    opener: O,
    acquire_timeout: Duration,
    connections_max: u32,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle<O::Connection>>>,
    is_closed: AtomicBool,
}

/// A connection that is not in use.
struct Idle<C> {
    connection: C,
    born: Instant,
    used: Instant,
}

/// A connection that was taken from the pool. It returns when it is dropped: at once if no transaction is open,
/// otherwise after the rollback.
pub(super) struct PooledConnection<O: Opener> {
    connection: Option<O::Connection>,
    born: Instant,
    permit: Option<OwnedSemaphorePermit>,
    pub(super) pool: WriterPool<O>,
    pub(super) state: State,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No transaction is open.
    Ready,
    /// A transaction is open.
    Open,
    /// Unknown: a message was sent, and was not answered or failed.
    Unknown,
}

impl<O: Opener> Clone for WriterPool<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<O: Opener> WriterPool<O> {
    /// A pool of at most this many connections; a caller waits for one at most `acquire_timeout`.
    pub(super) fn of(opener: O, connections_max: u32, acquire_timeout: Duration) -> Self {
        let (permits, idle) = (Arc::new(Semaphore::new(connections_max as usize)), Mutex::default());
        Self(Arc::new(Inner {
            opener,
            acquire_timeout,
            connections_max,
            permits,
            idle,
            is_closed: AtomicBool::new(false),
        }))
    }

    /// Waits for a free connection of the pool.
    pub(super) async fn acquire(&self) -> Result<PooledConnection<O>, DbError> {
        let waiting = timeout(self.0.acquire_timeout, self.0.permits.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = waiting else { return Err(sqlx::Error::PoolTimedOut.into()) };
        if self.0.is_closed.load(Ordering::Acquire) {
            return Err(sqlx::Error::PoolClosed.into());
        }
        let (connection, born) = match self.idle().await {
            Some(idle) => (idle.connection, idle.born),
            None => (self.0.opener.open(self.0.acquire_timeout).await?, Instant::now()),
        };
        let (connection, permit) = (Some(connection), Some(permit));
        Ok(PooledConnection { connection, born, permit, pool: self.clone(), state: State::Ready })
    }

    async fn idle(&self) -> Option<Idle<O::Connection>> {
        loop {
            let mut idle = self.locked().pop()?;
            if !O::Connection::IS_REMOTE || idle.used.elapsed() < TRUSTED_FOR {
                return Some(idle);
            }
            if timeout(self.0.acquire_timeout, idle.connection.is_there()).await == Ok(true) {
                return Some(idle);
            }
        }
    }

    /// The opener, with room for callers that use no pooled connection.
    pub(super) fn opener(&self) -> &O {
        self.close_idle();
        &self.0.opener
    }

    /// Closes the connections that are not in use.
    pub(super) fn close_idle(&self) {
        self.locked().clear();
    }

    /// Closes all connections after their transactions have ended.
    pub(super) async fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.locked().clear();
        // An error means that all are closed already.
        drop(self.0.permits.acquire_many(self.0.connections_max).await);
        self.0.opener.close().await;
    }

    fn put_back(&self, connection: O::Connection, born: Instant) {
        let is_old = O::Connection::IS_REMOTE && born.elapsed() > AGE_MAX;
        if !is_old && !self.0.is_closed.load(Ordering::Acquire) {
            self.locked().push(Idle { connection, born, used: Instant::now() });
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Idle<O::Connection>>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Opener> PooledConnection<O> {
    /// The connection.
    ///
    /// # Panics
    /// Never: only the drop takes it out.
    pub(super) fn connection(&mut self) -> &mut O::Connection {
        self.connection.as_mut().expect("a pooled connection is there until it is dropped")
    }
}

impl<O: Opener> Drop for PooledConnection<O> {
    fn drop(&mut self) {
        let (Some(connection), Some(permit)) = (self.connection.take(), self.permit.take()) else { return };
        if self.state == State::Ready && connection.can_undo() {
            self.pool.put_back(connection, self.born);
            return;
        }
        // Without a runtime, or if its prepared statements are unknown, the connection is closed, and the database
        // rolls back.
        if let (Ok(runtime), true) = (tokio::runtime::Handle::try_current(), connection.can_undo()) {
            runtime.spawn(undo(connection, self.born, permit, self.pool.clone()));
        }
    }
}

async fn undo<O: Opener>(
    mut connection: O::Connection,
    born: Instant,
    permit: OwnedSemaphorePermit,
    pool: WriterPool<O>,
) {
    // An error: SQLite has rolled back by itself, or the state is unknown.
    if let Ok(Ok(())) = timeout(UNDO_TIMEOUT, connection.undo()).await {
        pool.put_back(connection, born);
    }
    drop(permit);
}
