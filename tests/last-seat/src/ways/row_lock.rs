//! A row lock a request: each request waits until the one before has committed.

use async_trait::async_trait;
use sqlx::PgPool;

use super::{Ask, Asked, Decision, Way};
use crate::store;

/// Five round trips, four of them under the lock.
pub struct RowLock(pub PgPool);

#[async_trait]
impl Way for RowLock {
    async fn ask(&self, ask: &Ask) -> anyhow::Result<Asked> {
        let mut tx = self.0.begin().await?;
        let seats = store::lock(&mut tx, &ask.section).await?;
        if !seats.is_free() {
            tx.rollback().await?;
            return Ok(Asked { decision: Decision::Refused, retries: 0 });
        }
        store::insert_hold(&mut tx, ask).await?;
        store::take(&mut tx, &ask.section).await?;
        tx.commit().await?;
        Ok(Asked { decision: Decision::Granted, retries: 0 })
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
