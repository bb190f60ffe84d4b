//! Keeps this instance alive in the database, and takes over the sagas of instances that are not.

use std::sync::Arc;
use std::time::Duration;

use matricula_engine::{Row, plan};
use matricula_kit::database::DbError;
use matricula_kit::telemetry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::executor::Entrant;
use crate::store::{InstanceId, SagaStore, StoreError};
use crate::{RuntimeConfig, Workload};

/// Renews the lease three times in its time, and adopts what has no living owner, until the shutdown. Returns
/// `Fenced` when this instance was given up by the others.
pub(crate) async fn run<W: Workload>(
    store: SagaStore,
    instance: InstanceId,
    workload: Arc<W>,
    config: RuntimeConfig,
    adopted: mpsc::Sender<Vec<Entrant<W::Request>>>,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let heartbeat = Duration::from_millis(config.lease_ttl_ms.unsigned_abs() / 3);
    loop {
        match adopt(&store, &instance, workload.as_ref(), config.adoption_chunk, &adopted).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(error = telemetry::chain(&error), "sagas could not be adopted; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(heartbeat) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        match store.renew(&instance, config.lease_ttl_ms).await {
            Ok(()) => {}
            Err(StoreError::Fenced) => return Err(StoreError::Fenced),
            Err(error) => tracing::warn!(error = telemetry::chain(&error), "the lease could not be renewed"),
        }
    }
}

/// Adopts in chunks until nothing is left. A chunk is handed over before the next is taken, so that memory grows with
/// the executor and not ahead of it.
async fn adopt<W: Workload>(
    store: &SagaStore,
    instance: &InstanceId,
    workload: &W,
    chunk: usize,
    adopted: &mpsc::Sender<Vec<Entrant<W::Request>>>,
) -> Result<(), DbError> {
    loop {
        let ids = store.adopt(instance, chunk).await?;
        if ids.is_empty() {
            return Ok(());
        }
        tracing::info!(sagas = ids.len(), "adopted sagas of an instance that has ended");
        let entrants = load(store, workload, ids).await?;
        if adopted.send(entrants).await.is_err() {
            return Ok(());
        }
    }
}

async fn load<W: Workload>(
    store: &SagaStore,
    workload: &W,
    ids: Vec<String>,
) -> Result<Vec<Entrant<W::Request>>, DbError> {
    let rows = store.get_many(ids).await?;
    let mut facts = Vec::with_capacity(rows.len());
    let mut plan_rows = Vec::with_capacity(rows.len());
    for row in rows {
        let request = serde_json::from_str::<W::Request>(&row.request);
        let log = match &request {
            Ok(_) => row.log,
            Err(error) => Err(format!("request: {error}")),
        };
        plan_rows.push(Row { id: facts.len(), definition: row.definition, version: row.version, log });
        facts.push((row.id, request.ok().map(Arc::new), row.trace));
    }
    let plan = plan(plan_rows, [workload.definition()]);
    for (index, reason) in plan.leave {
        // It is shown in lists, and all others run.
        tracing::error!(saga_id = facts[index].0.as_str(), %reason, "a saga is left alone");
    }
    let entrants = plan.resume.into_iter().filter_map(|(index, state)| {
        let (id, request, trace) = &facts[index];
        Some(Entrant { id: id.clone(), request: request.clone()?, trace: trace.clone(), state })
    });
    Ok(entrants.collect())
}
