//! Finds sagas by the keys of their submissions, without admitting anything.

use std::collections::HashMap;

use matricula_core::SagaId;
use matricula_kit::database::{Args, DbError, Row, Rows};

use super::{SagaStore, readable_id, saga_id};

const OF_KEY: &str = "SELECT saga_id, fingerprint FROM sagas WHERE subject = $1 AND idempotency_key = $2 \
     UNION ALL SELECT saga_id, fingerprint FROM receipts WHERE subject = $1 AND idempotency_key = $2";

/// The `CROSS JOIN` has SQLite go from the subjects to their sagas. A subject has few, so the prefix needs no index.
const OF_PREFIX: &str = "SELECT s.saga_id, s.subject, s.idempotency_key, s.request, s.outcome \
     FROM {rows} CROSS JOIN sagas s WHERE s.subject = r.subject AND s.idempotency_key LIKE $1";
const RECEIPTS_OF_PREFIX: &str = "SELECT a.saga_id, a.subject, a.idempotency_key, a.request, a.outcome \
     FROM {rows} CROSS JOIN receipts a WHERE a.subject = r.subject AND a.idempotency_key LIKE $1";

/// A saga as it is found by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedSaga {
    /// Its id.
    pub id: SagaId,
    /// Whom it is about.
    pub subject: String,
    /// The caller's key.
    pub idempotency_key: String,
    /// The request, as JSON.
    pub request: String,
    /// `Outcome::as_str` after its last event.
    pub outcome: String,
}

impl SagaStore {
    /// The sagas of these subjects whose keys begin with `prefix`, those in the archive too, in the order of their ids.
    pub async fn of_prefix(&self, subjects: &[&str], prefix: &str) -> Result<Vec<KeyedSaga>, DbError> {
        let mut found = HashMap::new();
        // A saga that is taken to the archive between the two is in one of them.
        for sql in [OF_PREFIX, RECEIPTS_OF_PREFIX] {
            let rows = Rows::new().text("subject", subjects.iter().copied());
            for row in self.database.fetch(sql, Args::new().text(format!("{prefix}%")).rows(rows)).await? {
                if let Some(id) = readable_id(&row)? {
                    found.insert(id, keyed_saga(id, &row)?);
                }
            }
        }
        let mut found: Vec<KeyedSaga> = found.into_values().collect();
        found.sort_by_key(|saga| saga.id);
        Ok(found)
    }

    /// The saga that a subject has submitted with a key, one in the archive too, and the fingerprint of what it asked
    /// for.
    pub async fn of_key(&self, subject: &str, key: &str) -> Result<Option<(SagaId, String)>, DbError> {
        let rows = self.database.fetch(OF_KEY, Args::new().text(subject).text(key)).await?;
        let found = rows.first().map(|row| Ok((saga_id(row)?, row.text("fingerprint")?)));
        found.transpose()
    }
}

fn keyed_saga(id: SagaId, row: &Row) -> Result<KeyedSaga, DbError> {
    Ok(KeyedSaga {
        id,
        subject: row.text("subject")?,
        idempotency_key: row.text("idempotency_key")?,
        request: row.text("request")?,
        outcome: row.text("outcome")?,
    })
}
