//! A lock in Redis: its owner reads and writes the section, and no row is locked before the write.
//!
//! A lock can lapse while its owner is paused, and the owner then continues without it. So the write is guarded by
//! [`Guard::TokenAndState`], and a seat is sold once even then.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgPool;

use super::retry::{Missed, until_decided};
use super::{Decided, Decision, Design, SeatRequest};
use crate::lock::{Held, Locks};
use crate::redis_server::RedisServer;
use crate::store::{self, Guard};

/// Long enough for a slow commit. A client that dies with the lock blocks a section for this long.
const LOCK_TTL: Duration = Duration::from_secs(2);

/// The lock of a section is a key in Redis.
pub struct RedisLock {
    pool: PgPool,
    locks: Locks,
}

impl RedisLock {
    /// Connects to Redis.
    pub async fn open(pool: PgPool, redis: &RedisServer) -> anyhow::Result<Self> {
        Ok(Self { pool, locks: Locks::open(redis, LOCK_TTL).await? })
    }

    async fn attempt(&self, request: &SeatRequest) -> Result<Decision, Missed> {
        let Some(held) = self.locks.acquire(&request.section).await? else { return Err(Missed::Race) };
        let decided = self.decide(request, &held).await;
        self.locks.release(&held).await?;
        decided
    }

    async fn decide(&self, request: &SeatRequest, held: &Held) -> Result<Decision, Missed> {
        let seats = store::read(&self.pool, &request.section).await?;
        if !seats.is_free() {
            return Ok(Decision::Refused);
        }
        match store::take_under_lock(&self.pool, request, Guard::TokenAndState, &seats, held.fence).await? {
            true => Ok(Decision::Granted),
            false => Err(Missed::Race),
        }
    }
}

#[async_trait]
impl Design for RedisLock {
    async fn request(&self, request: &SeatRequest) -> anyhow::Result<Decided> {
        until_decided(|| self.attempt(request)).await
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
