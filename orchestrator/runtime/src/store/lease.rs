//! Instances and their leases, by the database's clock: who lives, and whose sagas are to be adopted.
//!
//! A lease that has lapsed is not yet an end: the end is the mark `dead`, set in a transaction of its own by whoever
//! sees the lapse. Every commit of an instance reads its own row with a lock that the mark has to wait for, so after the
//! mark nothing of it can be committed any more, and its sagas can be given away.

use matricula_kit::database::{Args, DbError};

use super::{InstanceId, SagaStore, StoreError};

const REGISTER: &str =
    "INSERT INTO instances (instance_id, started_at, lease_until, dead) VALUES ($1, {now_ms}, {now_ms} + $2, 0)";
const RENEW: &str = "UPDATE instances SET lease_until = {now_ms} + $2 WHERE instance_id = $1 AND dead = 0";
const RELEASE: &str = "UPDATE instances SET dead = 1 WHERE instance_id = $1";
const MARK_LAPSED: &str = "UPDATE instances SET dead = 1 WHERE dead = 0 AND lease_until < {now_ms}";
const MARK_OTHERS: &str = "UPDATE instances SET dead = 1 WHERE dead = 0 AND instance_id <> $1";
const ADOPT: &str = "UPDATE sagas SET owner = $1 WHERE saga_id IN ( \
     SELECT s.saga_id FROM sagas s JOIN instances i ON i.instance_id = s.owner \
     WHERE s.finished = 0 AND i.dead = 1 ORDER BY s.saga_id LIMIT $2 {for_update_skip_locked}) \
     RETURNING saga_id";

impl SagaStore {
    /// Enters a new instance.
    pub async fn register(&self, instance: &InstanceId, lease_ttl_ms: i64) -> Result<(), DbError> {
        let mut tx = self.database.begin().await?;
        tx.execute(REGISTER, Args::new().text(instance.as_str()).int(lease_ttl_ms)).await?;
        if !self.database.is_shared() {
            // This process holds the file's lock, so whoever had it before is gone.
            tx.execute(MARK_OTHERS, Args::new().text(instance.as_str())).await?;
        }
        tx.commit().await
    }

    /// Prolongs the lease from now on, and marks other instances whose lease has lapsed.
    pub async fn renew(&self, instance: &InstanceId, lease_ttl_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        let renewed = tx.execute(RENEW, Args::new().text(instance.as_str()).int(lease_ttl_ms)).await?;
        if renewed == 0 {
            return Err(StoreError::Fenced);
        }
        tx.commit().await?;
        // By itself, so that a lock on a lapsed instance's row never holds up our own renewal.
        let mut tx = self.database.begin().await?;
        tx.execute(MARK_LAPSED, Args::new()).await?;
        Ok(tx.commit().await?)
    }

    /// Ends the instance of its own accord, so that others need not wait for its lease.
    pub async fn release(&self, instance: &InstanceId) -> Result<(), DbError> {
        let mut tx = self.database.begin().await?;
        tx.execute(RELEASE, Args::new().text(instance.as_str())).await?;
        tx.commit().await
    }

    /// Takes over at most `limit` unfinished sagas of dead instances, the oldest first, and returns their ids.
    pub async fn adopt(&self, instance: &InstanceId, limit: usize) -> Result<Vec<String>, DbError> {
        let mut tx = self.database.begin().await?;
        let rows = tx.fetch(ADOPT, Args::new().text(instance.as_str()).int(limit as i64)).await?;
        let mut ids = rows.iter().map(|row| row.text("saga_id")).collect::<Result<Vec<_>, _>>()?;
        tx.commit().await?;
        ids.sort_unstable();
        Ok(ids)
    }
}
