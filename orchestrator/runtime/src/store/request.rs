//! Requests on their way to the instance that drives their saga, and their answers.

use matricula_core::SagaId;
use matricula_kit::database::{Args, DbError, Row, Rows};

use super::peer::{CHANNEL, PeerMessage};
use super::{InstanceId, SagaStore, readable_id};

const ASK: &str = "INSERT INTO saga_requests (request_id, saga_id, wanted, created_at) VALUES ($1, $2, $3, {now_ms})";
const UNANSWERED: &str = "SELECT r.request_id, r.saga_id, r.wanted FROM saga_requests r \
     JOIN sagas s ON s.saga_id = r.saga_id WHERE r.answer IS NULL AND s.owner = $1 ORDER BY r.created_at LIMIT $2";
const ANSWER: &str = "UPDATE saga_requests SET answer = r.answer FROM {rows} \
     WHERE saga_requests.request_id = r.request_id AND saga_requests.answer IS NULL";
const TAKE: &str = "DELETE FROM saga_requests WHERE request_id = $1 AND answer IS NOT NULL RETURNING answer";
const WITHDRAW: &str = "DELETE FROM saga_requests WHERE request_id = $1";
const SWEEP: &str = "DELETE FROM saga_requests WHERE created_at < {now_ms} - $1";

/// Requests older than this have no asker any more that waits for the answer.
const SWEEP_AFTER_MS: i64 = 60_000;

/// A request that its owner has not answered.
#[derive(Debug)]
pub struct StoredRequest {
    /// Its id.
    pub id: String,
    /// The saga that it is about.
    pub saga: SagaId,
    /// What is wanted, as JSON.
    pub wanted: String,
}

impl SagaStore {
    /// Whether several instances may share this database.
    pub fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    /// Leaves a request for whoever drives the saga, and wakes all instances.
    pub async fn ask(&self, request: &str, saga: SagaId, wanted: &str) -> Result<(), DbError> {
        let mut tx = self.database.begin().await?;
        tx.execute(ASK, Args::new().text(request).text(saga.to_string()).text(wanted)).await?;
        tx.notify(CHANNEL, vec![PeerMessage::Asked.to_payload()]);
        tx.commit().await
    }

    /// Requests about sagas of this instance that are not answered, the oldest first.
    pub async fn unanswered(&self, instance: &InstanceId, limit: i64) -> Result<Vec<StoredRequest>, DbError> {
        let rows = self.database.fetch(UNANSWERED, Args::new().text(instance.as_str()).int(limit)).await?;
        let request = |row: &Row| {
            let Some(saga) = readable_id(row)? else { return Ok(None) };
            Ok(Some(StoredRequest { id: row.text("request_id")?, saga, wanted: row.text("wanted")? }))
        };
        rows.iter().filter_map(|row| request(row).transpose()).collect()
    }

    /// Answers requests, (id, answer), and wakes those who wait.
    pub async fn answer(&self, answers: &[(String, String)]) -> Result<(), DbError> {
        let rows = Rows::new()
            .text("request_id", answers.iter().map(|(id, _)| id.as_str()))
            .text("answer", answers.iter().map(|(_, answer)| answer.as_str()));
        let mut tx = self.database.begin().await?;
        tx.execute(ANSWER, rows.into()).await?;
        tx.notify(CHANNEL, vec![PeerMessage::Answered.to_payload()]);
        tx.commit().await
    }

    /// Takes the answer of a request, if it has come.
    pub async fn take_answer(&self, request: &str) -> Result<Option<String>, DbError> {
        let mut tx = self.database.begin().await?;
        let rows = tx.fetch(TAKE, Args::new().text(request)).await?;
        tx.commit().await?;
        rows.first().map(|row| row.text("answer")).transpose()
    }

    /// Takes a request away, answered or not.
    pub async fn withdraw(&self, request: &str) -> Result<(), DbError> {
        let mut tx = self.database.begin().await?;
        tx.execute(WITHDRAW, Args::new().text(request)).await?;
        tx.commit().await
    }

    /// Removes the requests of processes that crashed while they asked.
    pub(crate) async fn sweep_requests(&self) -> Result<(), DbError> {
        let mut tx = self.database.begin().await?;
        tx.execute(SWEEP, Args::new().int(SWEEP_AFTER_MS)).await?;
        tx.commit().await
    }
}
