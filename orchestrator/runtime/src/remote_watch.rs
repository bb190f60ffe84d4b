//! Watches of sagas that another instance drives, or that no instance drives yet: after a crash, thousands of clients
//! wait for sagas that are still to be adopted.
//!
//! One task asks for all of them at once which have changed, and reads those alone. A reader for each watch would take
//! from the database just the capacity that the takeover needs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use matricula_core::SagaId;
use matricula_engine::SagaState;
use matricula_kit::database::DbError;
use matricula_kit::telemetry;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Workload;
use crate::peers::Changed;
use crate::store::{SagaStore, StoreError};
use crate::watch::Watchers;

/// Time between two looks at all of them. Other instances send the sagas that they have changed. This is for missed
/// messages, and for sagas that no instance drives yet.
const PAUSE: Duration = Duration::from_secs(1);
/// Sagas that one statement asks for.
const CHUNK: usize = 1_000;

/// Looks until the shutdown.
pub(crate) async fn follow<W: Workload>(
    store: SagaStore,
    workload: Arc<W>,
    watchers: Watchers,
    mut changed: broadcast::Receiver<Changed>,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let following = async {
        let mut look_at = Instant::now() + PAUSE;
        loop {
            let first = tokio::time::timeout_at(look_at, next(&mut changed)).await;
            let Ok(named) = first.map(|first| gather(first, &mut changed)) else {
                look(&store, workload.as_ref(), &watchers, watchers.of_others()).await;
                look_at = Instant::now() + PAUSE;
                continue;
            };
            let mut watched = watchers.of_others();
            watched.retain(|(saga, _)| named.as_ref().is_none_or(|named| named.contains(saga)));
            look(&store, workload.as_ref(), &watchers, watched).await;
        }
    };
    shutdown.run_until_cancelled(following).await;
    Ok(())
}

/// The next saga that has changed; none: any may have.
async fn next(changed: &mut broadcast::Receiver<Changed>) -> Changed {
    match changed.recv().await {
        Ok(saga) => saga,
        Err(RecvError::Lagged(_)) => None,
        // The sender is held by the runtime, which this task does not outlive.
        Err(RecvError::Closed) => std::future::pending().await,
    }
}

/// All sagas that have been named by now; none: any may have changed.
fn gather(first: Changed, changed: &mut broadcast::Receiver<Changed>) -> Option<HashSet<SagaId>> {
    let mut named = first.map(|saga| HashSet::from([saga]));
    loop {
        match changed.try_recv() {
            Ok(Some(saga)) => {
                if let Some(named) = named.as_mut() {
                    named.insert(saga);
                }
            }
            Ok(None) | Err(TryRecvError::Lagged(_)) => named = None,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return named,
        }
    }
}

async fn look<W: Workload>(store: &SagaStore, workload: &W, watchers: &Watchers, watched: Vec<(SagaId, u64)>) {
    for chunk in watched.chunks(CHUNK) {
        if let Err(error) = tell(store, workload, watchers, chunk).await {
            tracing::warn!(error = telemetry::chain(&error), "sagas that are waited for could not be read");
            break;
        }
    }
}

async fn tell<W: Workload>(
    store: &SagaStore,
    workload: &W,
    watchers: &Watchers,
    known: &[(SagaId, u64)],
) -> Result<(), DbError> {
    for row in store.changed(known).await? {
        let state = row.log.ok().and_then(|log| SagaState::replay(workload.definition(), &log).ok());
        if let Some(state) = state {
            watchers.tell_of_other(row.id, &Arc::new(state));
        }
    }
    Ok(())
}
