//! Instances and their leases, by the database's clock: who lives, and whose sagas are to be adopted.
//!
//! A lease that has lapsed is not yet an end: the end is the mark `dead`, set in a transaction of its own by whoever
//! sees the lapse. Every commit of an instance reads its own row with a lock that the mark has to wait for, so after
//! the mark nothing of it can be committed any more, and its sagas can be given away. An instance that comes back
//! before anybody has marked it goes on: a database that was away, or a machine that slept, ends nobody.

use matricula_core::SagaId;
use matricula_kit::database::{Args, DbError, Rows};

use super::{HAS_COMPACT_FORM, InstanceId, SagaRow, SagaStore, StoreError, id_rows, readable_ids};

const REGISTER: &str = "INSERT INTO instances (instance_id, started_at, lease_until, dead) VALUES ($1, {now_ms}, {now_ms} + $2, 0) \
     RETURNING started_at AS now_ms";
const RENEW: &str = "UPDATE instances SET lease_until = {now_ms} + $2 WHERE instance_id = $1 AND dead = 0 \
     RETURNING lease_until - $2 AS now_ms";
const RELEASE: &str = "UPDATE instances SET dead = 1 WHERE instance_id = $1";
/// Only by an instance that holds a lease: a machine that was asleep finds all others lapsed when it wakes, though it
/// was away and not they.
const MARK_LAPSED: &str = "UPDATE instances SET dead = 1 \
     WHERE dead = 0 AND lease_until < {now_ms} AND instance_id <> $1 AND EXISTS \
     (SELECT 1 FROM instances me WHERE me.instance_id = $1 AND me.dead = 0 AND me.lease_until >= {now_ms})";
const LIVING_OTHERS: &str = "SELECT instance_id FROM instances WHERE dead = 0 AND instance_id <> $1 LIMIT 1";
const MARK_OTHERS: &str = "UPDATE instances SET dead = 1 WHERE dead = 0 AND instance_id <> $1";

macro_rules! ownerless {
    () => {
        "s.finished = 0 AND s.queued = 0 AND s.owner IN (SELECT instance_id FROM instances WHERE dead = 1)"
    };
}

/// Whether a saga is of one of the definitions in `{rows}`.
macro_rules! is_known {
    () => {
        "EXISTS (SELECT 1 FROM {rows} WHERE r.definition = s.definition AND r.version = s.version)"
    };
}

/// Found first and ordered then: a server that wants the first few in order would else go through all sagas that there
/// ever were, oldest first, to find none.
const ADOPTABLE: &str = concat!(
    "WITH ownerless AS MATERIALIZED (SELECT s.saga_id FROM sagas s WHERE ",
    is_known!(),
    " AND ",
    ownerless!(),
    ") SELECT saga_id FROM ownerless ORDER BY saga_id LIMIT $1"
);
/// In the order of ids: two instances that adopt the same sagas wait for each other, and never in a circle. A cross
/// join, because SQLite keeps its order: it would else go through all that the dead instance has left, for each chunk,
/// and read the list of the chunk anew for every one.
const ADOPT: &str = concat!(
    "UPDATE sagas SET owner = $1 WHERE saga_id IN (SELECT s.saga_id FROM {rows} \
     CROSS JOIN sagas s WHERE s.saga_id = r.saga_id AND ",
    ownerless!(),
    " ORDER BY s.saga_id {for_update})"
);
const FLAG: &str = "UPDATE sagas SET needs_attention = 1 \
                    WHERE owner = $1 AND finished = 0 AND queued = 0 AND saga_id IN (SELECT r.saga_id FROM {rows})";
const FLAG_UNKNOWN: &str = concat!(
    "UPDATE sagas SET needs_attention = 1 WHERE saga_id IN (SELECT s.saga_id FROM sagas s \
     WHERE NOT ",
    is_known!(),
    " AND s.needs_attention = 0 AND ",
    ownerless!(),
    ")"
);

impl SagaStore {
    /// Enters a new instance; returns the time by the database's clock.
    pub async fn register(&self, instance: &InstanceId, lease_ttl_ms: i64) -> Result<i64, DbError> {
        let mut tx = self.database.write().await?;
        let rows = tx.fetch(REGISTER, Args::new().id(instance.as_str()).int(lease_ttl_ms)).await?;
        let now_ms = rows.first().ok_or_else(|| DbError::corrupt("no instance was entered"))?.int("now_ms")?;
        if !self.database.is_shared() {
            // This process holds the file's lock, so whoever had it before is gone.
            tx.execute(MARK_OTHERS, Args::new().id(instance.as_str())).await?;
        }
        tx.commit().await?;
        Ok(now_ms)
    }

    /// Prolongs the lease from now on; returns the time by the database's clock.
    pub async fn renew(&self, instance: &InstanceId, lease_ttl_ms: i64) -> Result<i64, StoreError> {
        let mut tx = self.database.write().await?;
        let renewed = tx.queue(RENEW, Args::new().id(instance.as_str()).int(lease_ttl_ms));
        let rows = tx.commit_answered().await.map_err(DbError::from)?.rows(renewed);
        Ok(rows.first().ok_or(StoreError::Fenced)?.int("now_ms")?)
    }

    /// Marks the other instances whose lease has lapsed, and returns whether any other is left. May wait for one that
    /// is in the middle of a commit.
    pub async fn mark_lapsed(&self, instance: &InstanceId) -> Result<bool, DbError> {
        let mut tx = self.database.write().await?;
        tx.send(MARK_LAPSED, Args::new().id(instance.as_str()));
        let others = tx.queue(LIVING_OTHERS, Args::new().id(instance.as_str()));
        let form = (!self.is_compact()).then(|| tx.queue(HAS_COMPACT_FORM, Args::new()));
        let mut answers = tx.commit_answered().await.map_err(DbError::from)?;
        if form.is_some_and(|form| !answers.rows(form).is_empty()) {
            self.found_compact();
        }
        Ok(!answers.rows(others).is_empty())
    }

    /// Ends the instance of its own accord, so that others need not wait for its lease.
    pub async fn release(&self, instance: &InstanceId) -> Result<(), DbError> {
        self.execute(RELEASE, Args::new().id(instance.as_str())).await.map(drop)
    }

    /// At most `limit` unfinished sagas of these definitions whose instance is dead, the oldest first.
    pub async fn adoptable(&self, definitions: &[(&str, u32)], limit: usize) -> Result<Vec<SagaId>, DbError> {
        let args = Args::new().int(limit as i64).rows(definition_rows(definitions));
        readable_ids(&self.database.fetch(ADOPTABLE, args).await?)
    }

    /// Takes over those of these sagas whose instance is dead, and returns them. Sagas that another instance took in
    /// between are left out. After an error, the same call again returns what the first one took.
    pub async fn adopt(&self, instance: &InstanceId, ids: &[SagaId]) -> Result<Vec<SagaRow>, StoreError> {
        let mut tx = self.begin_fenced(instance).await?;
        tx.execute(ADOPT, Args::new().id(instance.as_str()).rows(id_rows(ids))).await?;
        tx.commit().await?;
        let mut sagas = self.get_many(ids.to_vec()).await?;
        sagas.retain(|saga| saga.owner == instance.as_str());
        Ok(sagas)
    }

    /// Marks sagas of this instance that it can't drive: a person must look.
    pub async fn flag(&self, instance: &InstanceId, ids: &[SagaId]) -> Result<(), DbError> {
        self.execute(FLAG, Args::new().id(instance.as_str()).rows(id_rows(ids))).await.map(drop)
    }

    /// Marks the unfinished sagas of dead instances that are of none of these definitions, and returns how many there
    /// are that were not marked before. An instance that knows their definition adopts them, and its next event takes
    /// the mark away.
    pub async fn flag_unknown(&self, definitions: &[(&str, u32)]) -> Result<u64, DbError> {
        self.execute(FLAG_UNKNOWN, Args::from(definition_rows(definitions))).await
    }
}

/// Definitions by name and version.
fn definition_rows(definitions: &[(&str, u32)]) -> Rows {
    Rows::new()
        .text("definition", definitions.iter().map(|(name, _)| name))
        .int("version", definitions.iter().map(|(_, version)| i64::from(*version)))
}
