//! A row lock a request: each request waits until the one before has committed.

use async_trait::async_trait;
use sqlx::PgPool;

use super::{Decided, Decision, Design, SeatRequest};
use crate::store;

/// Five round trips, four of them under the lock.
pub struct RowLock(pub PgPool);

#[async_trait]
impl Design for RowLock {
    async fn request(&self, request: &SeatRequest) -> anyhow::Result<Decided> {
        let mut tx = self.0.begin().await?;
        let seats = store::lock(&mut tx, &request.section).await?;
        if !seats.is_free() {
            tx.rollback().await?;
            return Ok(Decided { decision: Decision::Refused, retries: 0 });
        }
        store::insert_hold(&mut tx, request).await?;
        store::take(&mut tx, &request.section).await?;
        tx.commit().await?;
        Ok(Decided { decision: Decision::Granted, retries: 0 })
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
