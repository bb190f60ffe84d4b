//! Instances and their leases, by the database's clock: which instances live, and which sagas can be adopted.
//!
//! A lapsed lease alone does not end an instance. An instance ends when another one, which has seen the lapse, marks it
//! `dead` in a transaction of its own. Every commit of an instance locks its row in `instances`, and the mark has to
//! wait for that lock. So after the mark the instance can commit nothing, and its sagas can be adopted. An instance
//! that renews before it is marked goes on: an outage of the database, or a machine that slept, ends no instance.

use matricula_core::SagaId;
use matricula_kit::database::{Args, DbError, Rows};

use super::{HAS_COMPACT_FORM, InstanceId, SagaRow, SagaStore, StoreError, id_rows, readable_ids};

const REGISTER: &str = "INSERT INTO instances (instance_id, started_at, lease_until, dead) VALUES ($1, {now_ms}, {now_ms} + $2, 0) \
     RETURNING started_at AS now_ms";
const RENEW: &str = "UPDATE instances SET lease_until = {now_ms} + $2 WHERE instance_id = $1 AND dead = 0 \
     RETURNING lease_until - $2 AS now_ms";
const RELEASE: &str = "UPDATE instances SET dead = 1 WHERE instance_id = $1";
/// Only an instance with a valid lease may mark others. A machine that wakes after a sleep sees all other leases as
/// lapsed, although only its own process was away.
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

/// The sagas are found first and sorted then. Otherwise PostgreSQL might scan all sagas in the order of their ids, to
/// find the first few, or none.
const ADOPTABLE: &str = concat!(
    "WITH ownerless AS MATERIALIZED (SELECT s.saga_id FROM sagas s WHERE ",
    is_known!(),
    " AND ",
    ownerless!(),
    ") SELECT saga_id FROM ownerless ORDER BY saga_id LIMIT $1"
);
/// The sagas are locked in the order of their ids, so that two instances that adopt the same sagas do not deadlock.
/// SQLite keeps the order of a cross join. Otherwise it would scan all sagas of the dead instance for each chunk.
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
    /// Registers a new instance; returns the time by the database's clock.
    pub async fn register(&self, instance: &InstanceId, lease_ttl_ms: i64) -> Result<i64, DbError> {
        let mut tx = self.database.write().await?;
        let rows = tx.fetch(REGISTER, Args::new().id(instance.as_str()).int(lease_ttl_ms)).await?;
        let now_ms = rows.first().ok_or_else(|| DbError::corrupt("no instance was registered"))?.int("now_ms")?;
        if !self.database.is_shared() {
            // This process holds the lock of the SQLite file, so all earlier instances have ended.
            tx.execute(MARK_OTHERS, Args::new().id(instance.as_str())).await?;
        }
        tx.commit().await?;
        Ok(now_ms)
    }

    /// Renews the lease from now on; returns the time by the database's clock.
    pub async fn renew(&self, instance: &InstanceId, lease_ttl_ms: i64) -> Result<i64, StoreError> {
        let mut tx = self.database.write().await?;
        let renewed = tx.queue(RENEW, Args::new().id(instance.as_str()).int(lease_ttl_ms));
        let rows = tx.commit_answered().await.map_err(DbError::from)?.rows(renewed);
        Ok(rows.first().ok_or(StoreError::Fenced)?.int("now_ms")?)
    }

    /// Marks the other instances whose lease has lapsed, and returns whether other instances live. May wait for a
    /// commit of a lapsed instance.
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

    /// Marks this instance as dead at its shutdown, so that others can adopt its sagas before the lease lapses.
    pub async fn release(&self, instance: &InstanceId) -> Result<(), DbError> {
        self.execute(RELEASE, Args::new().id(instance.as_str())).await.map(drop)
    }

    /// At most `limit` unfinished sagas of these definitions whose instance is dead, the oldest first.
    pub async fn adoptable(&self, definitions: &[(&str, u32)], limit: usize) -> Result<Vec<SagaId>, DbError> {
        let args = Args::new().int(limit as i64).rows(definition_rows(definitions));
        readable_ids(&self.database.fetch(ADOPTABLE, args).await?)
    }

    /// Adopts those of these sagas whose instance is dead, and returns them. Sagas that another instance has adopted
    /// meanwhile are left out. After an error, a repeated call returns the sagas that the first one has adopted.
    pub async fn adopt(&self, instance: &InstanceId, ids: &[SagaId]) -> Result<Vec<SagaRow>, StoreError> {
        let mut tx = self.begin_fenced(instance).await?;
        tx.execute(ADOPT, Args::new().id(instance.as_str()).rows(id_rows(ids))).await?;
        tx.commit().await?;
        let mut sagas = self.get_many(ids.to_vec()).await?;
        sagas.retain(|saga| saga.owner == instance.as_str());
        Ok(sagas)
    }

    /// Marks sagas of this instance that it can't drive as needing attention.
    pub async fn flag(&self, instance: &InstanceId, ids: &[SagaId]) -> Result<(), DbError> {
        self.execute(FLAG, Args::new().id(instance.as_str()).rows(id_rows(ids))).await.map(drop)
    }

    /// Marks the unfinished sagas of dead instances that have none of these definitions as needing attention. Returns
    /// how many were not marked before. An instance that has their definition adopts them, and their next event removes
    /// the mark.
    pub async fn flag_unknown(&self, definitions: &[(&str, u32)]) -> Result<u64, DbError> {
        self.execute(FLAG_UNKNOWN, Args::from(definition_rows(definitions))).await
    }
}

/// The definitions as rows of a statement.
fn definition_rows(definitions: &[(&str, u32)]) -> Rows {
    Rows::new()
        .text("definition", definitions.iter().map(|(name, _)| name))
        .int("version", definitions.iter().map(|(_, version)| i64::from(*version)))
}
