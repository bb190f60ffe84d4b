//! The move of finished sagas out of the hot tables: which are old enough, their receipts, their removal.
//!
//! The receipt of a saga is committed before its row is removed, and between the two, all writes that had begun earlier
//! end. So an admission always finds the key in one of the two tables, and a key never gets a second saga. See ADR
//! 0010.

use matricula_core::SagaId;
use matricula_kit::database::{Args, DbError, Rows};
use matricula_kit::time::UnixMs;

use super::{InstanceId, SagaStore, StoreError, id_rows, readable_ids};

/// Along the primary key, from the oldest id: a saga that ended long ago was created long ago, and its id begins with
/// the time of its creation. Few other sagas are that old.
const DUE: &str = "SELECT s.saga_id FROM sagas s WHERE s.saga_id > $1 AND s.saga_id < $2 AND s.finished = 1 \
     AND s.updated_at <= $3 ORDER BY s.saga_id LIMIT $4";
const KEEP: &str = "INSERT INTO receipts (saga_id, definition, version, subject, idempotency_key, fingerprint, request, \
     created_at, finished_at, ticket, phase, outcome, receipt, archived_in) \
     SELECT s.saga_id, s.definition, s.version, s.subject, s.idempotency_key, s.fingerprint, s.request, s.created_at, \
     s.updated_at, s.ticket, s.phase, s.outcome, r.receipt, $1 FROM {rows} JOIN sagas s ON s.saga_id = r.saga_id \
     WHERE s.finished = 1 ON CONFLICT (saga_id) DO NOTHING";
const REMOVE_EVENTS: &str = "DELETE FROM saga_events WHERE saga_id IN \
     (SELECT a.saga_id FROM {rows} JOIN receipts a ON a.saga_id = r.saga_id)";
const REMOVE: &str = "DELETE FROM sagas WHERE finished = 1 AND saga_id IN \
     (SELECT a.saga_id FROM {rows} JOIN receipts a ON a.saga_id = r.saga_id)";

const LIVING: &str = "SELECT instance_id FROM instances WHERE dead = 0 ORDER BY instance_id";
const ELDEST: &str =
    "SELECT instance_id FROM instances WHERE dead = 0 AND lease_until > {now_ms} ORDER BY instance_id LIMIT 1";
const PASS: &str = "SELECT instance_id FROM instances WHERE instance_id = $1 {for_update}";
/// Dead instances without sagas to adopt.
const SWEEP_INSTANCES: &str = "DELETE FROM instances WHERE dead = 1 AND lease_until < $1 AND NOT EXISTS \
     (SELECT 1 FROM sagas s WHERE s.finished = 0 AND s.queued = 0 AND s.owner = instances.instance_id)";

const OLDEST: &str =
    "SELECT s.updated_at FROM sagas s WHERE s.saga_id > '' AND s.finished = 1 ORDER BY s.saga_id LIMIT 1";
const COUNT: &str = "SELECT count(*) AS sagas FROM sagas";

/// Finished sagas that are old enough for the archive.
#[derive(Debug)]
pub(crate) struct Due {
    /// The sagas with a readable id, the oldest first.
    pub sagas: Vec<SagaId>,
    /// How many have an id that is not a UUID: they stay.
    pub without_id: u64,
    /// The id of the last saga, as it is stored; `None` without a saga.
    pub last: Option<String>,
}

impl SagaStore {
    /// Whether this is the eldest living instance, which does the work that only one instance has to do. For a moment
    /// two instances may do it. The result is still right.
    pub(crate) async fn is_eldest(&self, instance: &InstanceId) -> Result<bool, DbError> {
        let rows = self.database.fetch(ELDEST, Args::new()).await?;
        Ok(rows.first().map(|row| row.id("instance_id")).transpose()?.is_some_and(|id| id == instance.as_str()))
    }

    /// At most `limit` sagas with a later id than `after` that had ended by `ended_by`, the oldest first.
    pub(crate) async fn due(&self, after: &str, ended_by: UnixMs, limit: i64) -> Result<Due, DbError> {
        let args = Args::new().id(after).id(first_id_after(ended_by)).int(ended_by.0).int(limit);
        let rows = self.database.fetch(DUE, args).await?;
        let sagas = readable_ids(&rows)?;
        let last = rows.last().map(|row| row.id("saga_id")).transpose()?;
        Ok(Due { without_id: (rows.len() - sagas.len()) as u64, sagas, last })
    }

    /// Commits the receipts, (saga, receipt), of finished sagas whose logs are durable in a file.
    pub(crate) async fn keep_receipts(
        &self,
        instance: &InstanceId,
        file: &str,
        receipts: &[(SagaId, String)],
    ) -> Result<(), StoreError> {
        let rows = Rows::new()
            .id("saga_id", receipts.iter().map(|(saga, _)| saga.to_string()))
            .text("receipt", receipts.iter().map(|(_, receipt)| receipt.as_str()));
        let mut tx = self.begin_fenced(instance).await?;
        tx.execute(KEEP, Args::new().text(file).rows(rows)).await?;
        Ok(tx.commit().await?)
    }

    /// Waits until every write in progress of every living instance has ended. It locks one instance after the other,
    /// so that no instance waits for another one. On SQLite writes are sequential anyway.
    pub(crate) async fn pass_writes(&self) -> Result<(), DbError> {
        if !self.database.is_shared() {
            return Ok(());
        }
        for row in self.database.fetch(LIVING, Args::new()).await? {
            self.execute(PASS, Args::new().id(row.id("instance_id")?)).await?;
        }
        Ok(())
    }

    /// Removes finished sagas that have a receipt, with their logs; returns how many. Call [`SagaStore::pass_writes`]
    /// between the receipts and this.
    pub(crate) async fn remove(&self, instance: &InstanceId, sagas: &[SagaId]) -> Result<u64, StoreError> {
        let mut tx = self.begin_fenced(instance).await?;
        tx.execute(REMOVE_EVENTS, id_rows(sagas).into()).await?;
        let removed = tx.execute(REMOVE, id_rows(sagas).into()).await?;
        tx.commit().await?;
        Ok(removed)
    }

    /// Deletes dead instances without unfinished sagas whose lease ended before this time; returns how many.
    pub(crate) async fn sweep_instances(&self, ended_by: UnixMs) -> Result<u64, DbError> {
        self.execute(SWEEP_INSTANCES, Args::new().int(ended_by.0)).await
    }

    /// When the oldest finished saga of the hot tables ended.
    pub(crate) async fn oldest_end(&self) -> Result<Option<UnixMs>, DbError> {
        let rows = self.database.fetch(OLDEST, Args::new()).await?;
        Ok(rows.first().map(|row| row.int("updated_at")).transpose()?.map(UnixMs))
    }

    /// The number of sagas in the hot tables. It scans a whole index, so it must not run often.
    pub(crate) async fn count(&self) -> Result<i64, DbError> {
        let rows = self.database.fetch(COUNT, Args::new()).await?;
        rows.first().map_or(Ok(0), |row| row.int("sagas"))
    }
}

/// The lowest id of a saga that is created after this time: a UUIDv7 begins with its time.
fn first_id_after(moment: UnixMs) -> String {
    let ms = u64::try_from(moment.0.saturating_add(1)).unwrap_or_default() & 0xffff_ffff_ffff;
    format!("{:08x}-{:04x}-0000-0000-000000000000", ms >> 16, ms & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_id_after_a_time_separates_older_and_newer_ids() {
        let before = matricula_kit::time::now();
        let saga = crate::new_saga_id();
        let after = matricula_kit::time::now();
        assert!(saga.to_string() < first_id_after(after));
        assert!(saga.to_string() >= first_id_after(before.plus_ms(-1)));
        assert_eq!(first_id_after(UnixMs(-5)), "00000000-0000-0000-0000-000000000000");
    }
}
