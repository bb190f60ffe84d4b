//! The row lock at its best: the conditional update and the hold are one statement, which commits itself.

use async_trait::async_trait;
use sqlx::PgPool;

use super::{Decided, Decision, Design, SeatRequest};
use crate::store;

/// One round trip; the lock is held while the server commits.
pub struct OneStatement(pub PgPool);

#[async_trait]
impl Design for OneStatement {
    async fn request(&self, request: &SeatRequest) -> anyhow::Result<Decided> {
        let granted = store::take_in_one_statement(&self.0, request).await?;
        Ok(Decided { decision: if granted { Decision::Granted } else { Decision::Refused }, retries: 0 })
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
