//! Finds a saga by the key of its submission, without admitting anything.

use matricula_kit::database::{Args, DbError};
use matricula_kit::id::SagaId;

use super::SagaStore;

const OF_KEY: &str = "SELECT saga_id, fingerprint FROM sagas WHERE subject = $1 AND idempotency_key = $2 \
     UNION ALL SELECT saga_id, fingerprint FROM receipts WHERE subject = $1 AND idempotency_key = $2";

impl SagaStore {
    /// The saga that a subject has submitted with a key, one in the archive too, and the fingerprint of what it asked for.
    pub async fn of_key(&self, subject: &str, key: &str) -> Result<Option<(SagaId, String)>, DbError> {
        let rows = self.database.fetch(OF_KEY, Args::new().text(subject).text(key)).await?;
        let found = rows.first().map(|row| Ok((SagaId::stored(row.text("saga_id")?), row.text("fingerprint")?)));
        found.transpose()
    }
}
