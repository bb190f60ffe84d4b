//! The designs: their request, and their answer.

mod one_statement;
mod one_writer;
mod optimistic;
mod redis_lock;
mod retry;
mod row_lock;
mod seat_service;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use matricula_kit::id::{SagaId, SectionId, StudentId};
use serde::Serialize;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::redis_server::RedisServer;
use crate::store;

/// With more clients than connections, some clients wait for a connection, but at most this long.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// One request for one seat.
#[derive(Debug, Clone)]
pub struct SeatRequest {
    /// The registration; every request is a registration of its own.
    pub registration: SagaId,
    /// The student.
    pub student: StudentId,
    /// The section.
    pub section: SectionId,
}

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The seat is held, durably.
    Granted,
    /// The section is full.
    Refused,
    /// It lost every race that it was in, so it is unknown whether a seat is free.
    GaveUp,
}

/// A decision and its cost.
#[derive(Debug, Clone, Copy)]
pub struct Decided {
    /// The result.
    pub decision: Decision,
    /// Attempts beyond the first.
    pub retries: u32,
}

/// A design, with the tables of one cell.
#[async_trait]
pub trait Design: Send + Sync {
    /// Requests a seat. An error ends the run: nothing here is expected to fail.
    async fn request(&self, request: &SeatRequest) -> anyhow::Result<Decided>;

    /// Closes its connections.
    async fn close(&self);
}

/// The designs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// BEGIN, SELECT ... FOR UPDATE, check, INSERT, UPDATE, COMMIT.
    RowLock,
    /// The same in one statement: the row is locked for one round trip less than in a transaction.
    OneStatement,
    /// Read the version; write if it is unchanged; otherwise try again.
    Optimistic,
    /// SET NX PX in Redis, then read and write without a row lock.
    RedisLock,
    /// The kit's writer with the same two tables: all waiting requests are one transaction.
    OneWriter,
    /// The seat service as it runs, called in memory: the same writer, with its barrier, its ledger and its feed.
    SeatService,
}

/// The needs of a design: the tables of a new database, and the number of its connections.
pub struct Place<'a> {
    /// URL of an empty database.
    pub url: &'a str,
    /// The sections, all of one capacity.
    pub sections: &'a [SectionId],
    /// Seats in each.
    pub capacity: i32,
    /// Connections to PostgreSQL of a design with a connection for each request.
    pub connections: u32,
    /// The Redis server, when there is one.
    pub redis: Option<&'a RedisServer>,
}

impl SeatRequest {
    /// A new registration of this student.
    pub fn new(student: StudentId, section: SectionId) -> Self {
        Self { registration: SagaId::generate(), student, section }
    }
}

impl Kind {
    /// All of them; ratios are to the first.
    pub const ALL: [Self; 6] =
        [Self::RowLock, Self::OneStatement, Self::Optimistic, Self::RedisLock, Self::OneWriter, Self::SeatService];

    /// Its name in a table.
    pub fn title(self) -> &'static str {
        match self {
            Self::RowLock => "row lock a request",
            Self::OneStatement => "  the same in one statement",
            Self::Optimistic => "optimistic version",
            Self::RedisLock => "lock in Redis",
            Self::OneWriter => "one writer a batch",
            Self::SeatService => "  the seat service",
        }
    }

    /// Makes the tables and starts the design.
    ///
    /// # Errors
    /// When the database fails, or the design needs a Redis server and there is none.
    pub async fn open(self, place: &Place<'_>) -> anyhow::Result<Arc<dyn Design>> {
        if self == Self::SeatService {
            return Ok(Arc::new(seat_service::SeatService::open(place).await?));
        }
        let pool = pool(place.url, place.connections).await?;
        store::create(&pool, place.sections, place.capacity).await?;
        Ok(match self {
            Self::RowLock => Arc::new(row_lock::RowLock(pool)),
            Self::OneStatement => Arc::new(one_statement::OneStatement(pool)),
            Self::Optimistic => Arc::new(optimistic::Optimistic(pool)),
            Self::RedisLock => {
                let redis = place.redis.context("a lock in Redis needs a Redis server")?;
                Arc::new(redis_lock::RedisLock::open(pool, redis).await?)
            }
            Self::OneWriter | Self::SeatService => {
                pool.close().await;
                Arc::new(one_writer::OneWriter::open(place.url).await?)
            }
        })
    }
}

/// This many connections, all open. A connection is not tested before each use, which would be one more round trip.
pub async fn pool(url: &str, connections: u32) -> Result<PgPool, sqlx::Error> {
    let options = PgPoolOptions::new().min_connections(connections).max_connections(connections);
    options.acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false).connect(url).await
}
