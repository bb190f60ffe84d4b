//! The row lock at its best: the conditional update and the hold are one statement, which commits itself.

use async_trait::async_trait;
use sqlx::PgPool;

use super::{Ask, Asked, Decision, Way};
use crate::store;

/// One round trip; the lock is held while the server commits.
pub struct OneStatement(pub PgPool);

#[async_trait]
impl Way for OneStatement {
    async fn ask(&self, ask: &Ask) -> anyhow::Result<Asked> {
        let granted = store::take_in_one_statement(&self.0, ask).await?;
        Ok(Asked { decision: if granted { Decision::Granted } else { Decision::Refused }, retries: 0 })
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
