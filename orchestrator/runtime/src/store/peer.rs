//! The data that instances exchange through the database: messages that wake, requests to the owner of a saga with
//! their answers, and the services that do not answer an instance.

use std::fmt::Write as _;

use matricula_core::SagaId;
use matricula_kit::database::{Args, DbError, Notifications, Row, Rows};
use serde::{Deserialize, Serialize};

use super::{InstanceId, SagaStore, readable_id};

/// The channel of NOTIFY and LISTEN.
pub(super) const CHANNEL: &str = "matricula_sagas";

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerMessage {
    /// Sagas of an instance have changed; an empty list: any of its sagas may have changed.
    Changed { instance: String, sagas: Vec<SagaId> },
    /// A request waits for the owner of its saga.
    Requested,
    /// A request has been answered.
    Answered,
    /// Sagas wait in a line that was empty, or the door has changed.
    Queued,
    /// An instance has shut down: its sagas can be adopted.
    Left,
    /// The outages that an instance has recorded have changed.
    Outages,
}

impl PeerMessage {
    /// The most ids in one payload: PostgreSQL takes less than 8,000 bytes, and an id has 36 and a space.
    pub(crate) const IDS_MAX: usize = 200;

    pub(super) fn to_payload(&self) -> String {
        match self {
            Self::Requested => "asked".to_owned(),
            Self::Answered => "answered".to_owned(),
            Self::Queued => "queued".to_owned(),
            Self::Left => "left".to_owned(),
            Self::Outages => "outages".to_owned(),
            Self::Changed { instance, sagas } => {
                let mut payload = format!("moved {instance}");
                for saga in sagas {
                    // Writing to a string does not fail.
                    let _ = write!(payload, " {saga}");
                }
                payload
            }
        }
    }

    /// None for a message of another version.
    pub(crate) fn parse(payload: &str) -> Option<Self> {
        let mut words = payload.split_whitespace();
        match words.next()? {
            "asked" => Some(Self::Requested),
            "answered" => Some(Self::Answered),
            "queued" => Some(Self::Queued),
            "left" => Some(Self::Left),
            "outages" => Some(Self::Outages),
            "moved" => {
                let instance = words.next()?.to_owned();
                let sagas = words.map(str::parse).collect::<Result<_, _>>().ok()?;
                Some(Self::Changed { instance, sagas })
            }
            _ => None,
        }
    }
}

impl SagaStore {
    /// Sends messages to all instances, in one commit.
    pub(crate) async fn send(&self, messages: &[PeerMessage]) -> Result<(), DbError> {
        let mut tx = self.database.write().await?;
        tx.notify(CHANNEL, messages.iter().map(PeerMessage::to_payload).collect());
        tx.commit().await
    }

    /// Begins to receive the messages of other instances; none on SQLite, which has only one instance.
    pub(crate) async fn listen(&self) -> Result<Option<Notifications>, DbError> {
        self.database.listen(CHANNEL).await
    }
}

const REQUEST: &str =
    "INSERT INTO saga_requests (request_id, saga_id, wanted, created_at) VALUES ($1, $2, $3, {now_ms})";
const UNANSWERED: &str = "SELECT r.request_id, r.saga_id, r.wanted FROM saga_requests r \
     JOIN sagas s ON s.saga_id = r.saga_id WHERE r.answer IS NULL AND s.owner = $1 ORDER BY r.created_at LIMIT $2";
const ANSWER: &str = "UPDATE saga_requests SET answer = r.answer FROM {rows} \
     WHERE saga_requests.request_id = r.request_id AND saga_requests.answer IS NULL";
const TAKE_ANSWER: &str = "DELETE FROM saga_requests WHERE request_id = $1 AND answer IS NOT NULL RETURNING answer";
const WITHDRAW: &str = "DELETE FROM saga_requests WHERE request_id = $1";
const SWEEP_REQUESTS: &str = "DELETE FROM saga_requests WHERE created_at < {now_ms} - $1";

/// No sender waits longer than this for an answer.
const REQUESTS_AGE_MAX_MS: i64 = 60_000;

/// A request that its owner has not answered.
#[derive(Debug)]
pub struct StoredRequest {
    /// Its id.
    pub id: String,
    /// The saga that it is about.
    pub saga: SagaId,
    /// The command or look, as JSON.
    pub wanted: String,
}

impl SagaStore {
    /// Whether several instances may share this database.
    pub fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    /// Stores a request for the instance that drives the saga, and wakes all instances.
    pub async fn request(&self, request: &str, saga: SagaId, wanted: &str) -> Result<(), DbError> {
        let mut tx = self.database.write().await?;
        tx.send(REQUEST, Args::new().id(request).id(saga.to_string()).text(wanted));
        tx.notify(CHANNEL, vec![PeerMessage::Requested.to_payload()]);
        tx.commit().await
    }

    /// Requests about sagas of this instance that are not answered, the oldest first.
    pub async fn unanswered(&self, instance: &InstanceId, limit: i64) -> Result<Vec<StoredRequest>, DbError> {
        let rows = self.database.fetch(UNANSWERED, Args::new().id(instance.as_str()).int(limit)).await?;
        let request = |row: &Row| {
            let Some(saga) = readable_id(row)? else { return Ok(None) };
            Ok(Some(StoredRequest { id: row.id("request_id")?, saga, wanted: row.text("wanted")? }))
        };
        rows.iter().filter_map(|row| request(row).transpose()).collect()
    }

    /// Stores answers, as (request id, answer), and wakes the instances that wait for them.
    pub async fn answer(&self, answers: &[(String, String)]) -> Result<(), DbError> {
        let rows = Rows::new()
            .id("request_id", answers.iter().map(|(id, _)| id.as_str()))
            .text("answer", answers.iter().map(|(_, answer)| answer.as_str()));
        let mut tx = self.database.write().await?;
        tx.send(ANSWER, rows.into());
        tx.notify(CHANNEL, vec![PeerMessage::Answered.to_payload()]);
        tx.commit().await
    }

    /// Deletes an answered request and returns its answer; none if it is not answered yet.
    pub async fn take_answer(&self, request: &str) -> Result<Option<String>, DbError> {
        let mut tx = self.database.write().await?;
        let taken = tx.queue(TAKE_ANSWER, Args::new().id(request));
        let rows = tx.commit_answered().await.map_err(DbError::from)?.rows(taken);
        rows.first().map(|row| row.text("answer")).transpose()
    }

    /// Deletes a request, answered or not.
    pub async fn withdraw(&self, request: &str) -> Result<(), DbError> {
        self.execute(WITHDRAW, Args::new().id(request)).await.map(drop)
    }

    /// Deletes the requests of processes that crashed while they waited.
    pub(crate) async fn sweep_requests(&self) -> Result<(), DbError> {
        self.execute(SWEEP_REQUESTS, Args::new().int(REQUESTS_AGE_MAX_MS)).await.map(drop)
    }
}

const CLEAR_OUTAGES: &str = "DELETE FROM outages WHERE instance_id = $1";
const PUT_OUTAGES: &str =
    "INSERT INTO outages (instance_id, destination, outage) SELECT $1, destination, outage FROM {rows}";
const OUTAGES_OF_OTHERS: &str = "SELECT o.outage FROM outages o JOIN instances i ON i.instance_id = o.instance_id \
     WHERE o.instance_id <> $1 AND i.dead = 0 AND i.lease_until > {now_ms} ORDER BY o.instance_id, o.destination";
const SWEEP_OUTAGES: &str =
    "DELETE FROM outages WHERE instance_id IN (SELECT instance_id FROM instances WHERE dead = 1)";

/// A service that does not answer one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// The instance that it does not answer.
    pub instance: String,
    /// The service.
    pub destination: String,
    /// When the first call left that has failed or has no answer, without a success since.
    pub since_ms: i64,
    /// The error of the last call; empty if none has ended.
    pub last_error: String,
    /// "closed", "open" or "probing".
    pub breaker: String,
    /// When an open breaker lets the next call through.
    pub probe_at_ms: Option<i64>,
    /// Sagas whose next call goes to this service.
    pub sagas_waiting: usize,
    /// Sagas that wait for one of these sagas.
    pub sagas_behind: usize,
    /// The oldest saga whose next call goes to this service.
    pub oldest: Option<SagaId>,
}

impl SagaStore {
    /// Replaces the outages that an instance has recorded. With `is_news` it wakes the other instances.
    pub(crate) async fn put_outages(
        &self,
        instance: &InstanceId,
        outages: &[Outage],
        is_news: bool,
    ) -> Result<(), DbError> {
        let mut texts = Vec::with_capacity(outages.len());
        for outage in outages {
            texts.push(serde_json::to_string(outage).map_err(|error| DbError::corrupt(error.to_string()))?);
        }
        let rows = Rows::new()
            .text("destination", outages.iter().map(|outage| outage.destination.as_str()))
            .text("outage", texts.iter().map(String::as_str));
        let mut tx = self.database.write().await?;
        tx.send(CLEAR_OUTAGES, Args::new().id(instance.as_str()));
        if !outages.is_empty() {
            tx.send(PUT_OUTAGES, Args::new().id(instance.as_str()).rows(rows));
        }
        if is_news {
            tx.notify(CHANNEL, vec![PeerMessage::Outages.to_payload()]);
        }
        tx.commit().await
    }

    /// The outages that other living instances have recorded. An entry in the form of another version is left out.
    pub(crate) async fn outages_of_others(&self, instance: &InstanceId) -> Result<Vec<Outage>, DbError> {
        let rows = self.database.fetch(OUTAGES_OF_OTHERS, Args::new().id(instance.as_str())).await?;
        let texts = rows.iter().map(|row| row.text("outage")).collect::<Result<Vec<_>, _>>()?;
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// Deletes the outages that dead instances have recorded.
    pub(crate) async fn sweep_outages(&self) -> Result<(), DbError> {
        self.execute(SWEEP_OUTAGES, Args::new()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: PeerMessage) {
        let payload = message.to_payload();
        assert!(payload.len() < 8_000, "PostgreSQL refuses a payload of {} bytes", payload.len());
        assert_eq!(PeerMessage::parse(&payload), Some(message));
    }

    #[test]
    fn messages_are_read_as_they_are_sent() {
        let instance = crate::new_saga_id().to_string();
        check(PeerMessage::Requested);
        check(PeerMessage::Answered);
        check(PeerMessage::Queued);
        check(PeerMessage::Left);
        check(PeerMessage::Outages);
        check(PeerMessage::Changed { instance: instance.clone(), sagas: Vec::new() });
        let sagas = (0..PeerMessage::IDS_MAX).map(|_| crate::new_saga_id()).collect();
        check(PeerMessage::Changed { instance, sagas });
        assert_eq!(PeerMessage::parse("a message of a later version"), None);
    }
}
