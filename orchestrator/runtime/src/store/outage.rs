//! Services that do not answer an instance, as operators at other instances read it.

use matricula_kit::database::{Args, DbError, Rows};

use super::{InstanceId, SagaStore};
use crate::outages::Outage;
use crate::peers::{CHANNEL, PeerMessage};

const FORGET: &str = "DELETE FROM outages WHERE instance_id = $1";
const PUT: &str = "INSERT INTO outages (instance_id, destination, outage) SELECT $1, destination, outage FROM {rows}";
const OF_OTHERS: &str = "SELECT o.outage FROM outages o JOIN instances i ON i.instance_id = o.instance_id \
     WHERE o.instance_id <> $1 AND i.dead = 0 AND i.lease_until > {now_ms} ORDER BY o.instance_id, o.destination";
const SWEEP: &str = "DELETE FROM outages WHERE instance_id IN (SELECT instance_id FROM instances WHERE dead = 1)";

impl SagaStore {
    /// Records which services do not answer an instance, in place of what it recorded before. Wakes the others when they
    /// are to see it at once.
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
