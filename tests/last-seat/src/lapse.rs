//! The effect of a Redis lock that lapses while its owner is paused: another client gets the lock, and both write.
//!
//! ```text
//! late owner   acquire  read: 1 free  ······ paused past the TTL ······        write
//! new owner                             acquire  read: 1 free    write              (or the two writes swapped)
//! ```
//!
//! No step depends on time: the pause lasts until the new owner has the lock, and the test decides the order of the
//! writes.

use std::time::Duration;

use anyhow::Context as _;
use backoff::{ConstantBuilder, Retryable as _};
use matricula_kit::id::{SectionId, StudentId};
use serde::Serialize;
use sqlx::PgPool;
use tokio::task::JoinSet;

use crate::designs::{self, SeatRequest};
use crate::lock::{Held, Locks};
use crate::redis_server::RedisServer;
use crate::store::{self, Seats};

pub use crate::store::Guard;

/// Short, so that a round is short.
const LOCK_TTL: Duration = Duration::from_millis(10);
/// Between two checks for the lapse, 5 s at most.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const LOOKS_MAX: usize = 2_500;
/// Rounds that run at once, each with a connection.
const CONNECTIONS: u32 = 16;

/// The owner that writes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The owner whose lock is in force.
    NewOwnerFirst,
    /// The owner whose lock has lapsed, between the other's read and its write.
    LateOwnerFirst,
}

/// The result of one case.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Lapse {
    /// The owner that wrote first.
    pub order: Order,
    /// The guard of the write.
    pub guard: Guard,
    /// Sections with one seat, each played once.
    pub rounds: u64,
    /// Sections whose one seat was sold twice.
    pub sold_twice: u64,
    /// Seats sold once, or twice.
    pub holds: u64,
}

/// Plays every order against every guard, `rounds` times each, on an empty database.
pub async fn run(url: &str, redis: &RedisServer, rounds: usize) -> anyhow::Result<Vec<Lapse>> {
    let pool = designs::pool(url, CONNECTIONS).await?;
    let mut lapses = Vec::new();
    for order in [Order::NewOwnerFirst, Order::LateOwnerFirst] {
        for guard in [Guard::Nothing, Guard::Token, Guard::TokenAndState] {
            lapses.push(case(&pool, redis, rounds, order, guard).await?);
        }
    }
    pool.close().await;
    Ok(lapses)
}

async fn case(pool: &PgPool, redis: &RedisServer, rounds: usize, order: Order, guard: Guard) -> anyhow::Result<Lapse> {
    let ids = (0..rounds).map(|round| SectionId::try_new(format!("{order:?}-{guard:?}-{round}")));
    let sections: Vec<SectionId> = ids.collect::<Result<_, _>>()?;
    store::create(pool, &sections, 1).await?;
    let locks = std::sync::Arc::new(Locks::open(redis, LOCK_TTL).await?);
    let mut playing = JoinSet::new();
    for section in sections {
        let (pool, locks) = (pool.clone(), locks.clone());
        playing.spawn(async move { round(&pool, &locks, section, order, guard).await });
    }
    while let Some(played) = playing.join_next().await {
        played.context("a round panicked")??;
    }
    let tally = store::tally(pool).await?;
    Ok(Lapse { order, guard, rounds: rounds as u64, sold_twice: tally.sections_oversold, holds: tally.holds })
}

async fn round(pool: &PgPool, locks: &Locks, section: SectionId, order: Order, guard: Guard) -> anyhow::Result<()> {
    let late = locks.acquire(&section).await?.context("another client has the lock of a new section")?;
    let late_read = store::read(pool, &section).await?;
    let new = after_lapse(locks, &section).await?;
    let new_read = store::read(pool, &section).await?;
    let (late, new) = ((late, late_read, "S-late"), (new, new_read, "S-new"));
    let in_order = match order {
        Order::NewOwnerFirst => [new, late],
        Order::LateOwnerFirst => [late, new],
    };
    for (held, read, student) in in_order {
        write(pool, &section, student, guard, &read, &held).await?;
    }
    Ok(())
}

/// Both owners have read that the seat is free, and act as if they had the lock.
async fn write(
    pool: &PgPool,
    section: &SectionId,
    student: &str,
    guard: Guard,
    read: &Seats,
    held: &Held,
) -> anyhow::Result<()> {
    anyhow::ensure!(read.is_free(), "the seat of {section} was gone before anybody wrote");
    let request = SeatRequest::new(StudentId::try_new(student)?, section.clone());
    store::take_under_lock(pool, &request, guard, read, held.fence).await?;
    Ok(())
}

/// Takes the lock as soon as it has lapsed for its owner.
async fn after_lapse(locks: &Locks, section: &SectionId) -> anyhow::Result<Held> {
    let pause = ConstantBuilder::new().with_delay(LOOK_AGAIN).with_max_times(LOOKS_MAX);
    let acquire = || async { locks.acquire(section).await?.context("the lock does not lapse") };
    acquire.retry(pause).await
}
