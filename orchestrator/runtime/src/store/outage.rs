//! Services that do not answer an instance, as operators at other instances read it.

use matricula_core::SagaId;
use matricula_kit::database::{Args, DbError, Rows};
use serde::{Deserialize, Serialize};

use super::peer::{CHANNEL, PeerMessage};
use super::{InstanceId, SagaStore};

const FORGET: &str = "DELETE FROM outages WHERE instance_id = $1";
const PUT: &str = "INSERT INTO outages (instance_id, destination, outage) SELECT $1, destination, outage FROM {rows}";
const OF_OTHERS: &str = "SELECT o.outage FROM outages o JOIN instances i ON i.instance_id = o.instance_id \
     WHERE o.instance_id <> $1 AND i.dead = 0 AND i.lease_until > {now_ms} ORDER BY o.instance_id, o.destination";
const SWEEP: &str = "DELETE FROM outages WHERE instance_id IN (SELECT instance_id FROM instances WHERE dead = 1)";

/// A service that does not answer an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// The instance that sees it.
    pub instance: String,
    /// The service.
    pub destination: String,
    /// When the first call left that has failed, or has no answer, without a success since.
    pub since_ms: i64,
    /// How the last call failed; empty when none has ended.
    pub last_error: String,
    /// "closed", "open" or "probing".
    pub breaker: String,
    /// When an open breaker lets the next call through.
    pub probe_at_ms: Option<i64>,
    /// Sagas whose next call is of this service.
    pub sagas_waiting: usize,
    /// Sagas that wait for one of those.
    pub sagas_behind: usize,
    /// The oldest of those whose next call is of this service.
    pub oldest: Option<SagaId>,
}

impl SagaStore {
    /// Records which services do not answer an instance, in place of what it recorded before. Wakes the others when
    /// they are to see it at once.
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
        let mut tx = self.database.begin().await?;
        tx.execute(FORGET, Args::new().text(instance.as_str())).await?;
        if !outages.is_empty() {
            tx.execute(PUT, Args::new().text(instance.as_str()).rows(rows)).await?;
        }
        if is_news {
            tx.notify(CHANNEL, vec![PeerMessage::Outages.to_payload()]);
        }
        tx.commit().await
    }

    /// What other instances that live have recorded. What another version has written otherwise is left out.
    pub(crate) async fn outages_of_others(&self, instance: &InstanceId) -> Result<Vec<Outage>, DbError> {
        let rows = self.database.fetch(OF_OTHERS, Args::new().text(instance.as_str())).await?;
        let texts = rows.iter().map(|row| row.text("outage")).collect::<Result<Vec<_>, _>>()?;
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// Takes away what instances that have ended have left.
    pub(crate) async fn sweep_outages(&self) -> Result<(), DbError> {
        let mut tx = self.database.begin().await?;
        tx.execute(SWEEP, Args::new()).await?;
        tx.commit().await
    }
}
