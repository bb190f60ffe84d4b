//! Tells watchers of sagas that another instance drives, or that nobody drives yet: after a crash, thousands wait for
//! sagas that are still to be adopted.
//!
//! One task asks for all of them at once which have moved, and reads those alone. A reader for each who waits would
//! take from the database just what the takeover needs.

use std::sync::Arc;
use std::time::Duration;

use matricula_engine::SagaState;
use matricula_kit::database::DbError;
use matricula_kit::id::SagaId;
use matricula_kit::telemetry;
use tokio_util::sync::CancellationToken;

use crate::Workload;
use crate::store::{SagaStore, StoreError};
use crate::watch::Watchers;

/// Time between two looks: soon enough for somebody who waits for another replica's answer.
const PAUSE: Duration = Duration::from_millis(250);
/// Sagas that one statement asks for.
const CHUNK: usize = 1_000;

/// Looks until the shutdown.
pub(crate) async fn follow<W: Workload>(
    store: SagaStore,
    workload: Arc<W>,
    watchers: Watchers,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    while shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        for chunk in watchers.of_others().chunks(CHUNK) {
            if let Err(error) = tell(&store, workload.as_ref(), &watchers, chunk).await {
                tracing::warn!(error = telemetry::chain(&error), "sagas that are waited for could not be read");
                break;
            }
        }
    }
    Ok(())
}

async fn tell<W: Workload>(
    store: &SagaStore,
    workload: &W,
    watchers: &Watchers,
    known: &[(SagaId, u64)],
) -> Result<(), DbError> {
    for row in store.moved(known).await? {
        let state = row.log.ok().and_then(|log| SagaState::replay(workload.definition(), &log).ok());
        if let Some(state) = state {
            watchers.tell_of_other(&row.id, &Arc::new(state));
        }
    }
    Ok(())
}
