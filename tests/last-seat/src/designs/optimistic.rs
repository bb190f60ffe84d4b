//! An optimistic version: read; write if the row is unchanged, otherwise begin again.

use async_trait::async_trait;
use sqlx::PgPool;

use super::retry::{Missed, until_decided};
use super::{Decided, Decision, Design, SeatRequest};
use crate::store;

/// The hold is inserted before the update: the row is locked only from the update to the commit.
pub struct Optimistic(pub PgPool);

impl Optimistic {
    async fn attempt(&self, request: &SeatRequest) -> Result<Decision, Missed> {
        let seats = store::read(&self.0, &request.section).await?;
        if !seats.is_free() {
            return Ok(Decision::Refused);
        }
        let mut tx = self.0.begin().await?;
        store::insert_hold(&mut tx, request).await?;
        if !store::take_of_version(&mut tx, &request.section, seats.version).await? {
            tx.rollback().await?;
            return Err(Missed::Race);
        }
        tx.commit().await?;
        Ok(Decision::Granted)
    }
}

#[async_trait]
impl Design for Optimistic {
    async fn request(&self, request: &SeatRequest) -> anyhow::Result<Decided> {
        until_decided(|| self.attempt(request)).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
