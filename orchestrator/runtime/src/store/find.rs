//! Ids by their range: how a saga is found by the beginning of its id.

use std::collections::BTreeSet;

use matricula_core::SagaId;
use matricula_kit::database::{Args, DbError};

use super::{SagaStore, readable_ids};

const OF_SAGAS: &str = "SELECT s.saga_id FROM sagas s WHERE s.saga_id BETWEEN $1 AND $2 ORDER BY s.saga_id LIMIT $3";
const OF_RECEIPTS: &str =
    "SELECT a.saga_id FROM receipts a WHERE a.saga_id BETWEEN $1 AND $2 ORDER BY a.saga_id LIMIT $3";

impl SagaStore {
    /// The ids from `first` to `last`, both included, in order: of sagas whose log is here, and of those in the
    /// archive.
    pub async fn ids_between(&self, first: &str, last: &str, limit: i64) -> Result<Vec<SagaId>, DbError> {
        let mut ids = BTreeSet::new();
        // What is taken to the archive between the two is in one of them.
        for sql in [OF_SAGAS, OF_RECEIPTS] {
            let rows = self.database.fetch(sql, Args::new().text(first).text(last).int(limit)).await?;
            ids.extend(readable_ids(&rows)?);
        }
        Ok(ids.into_iter().take(usize::try_from(limit).unwrap_or_default()).collect())
    }
}
