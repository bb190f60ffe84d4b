//! Who waits for a saga: each gets its state after every durable change, and none has to ask the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use matricula_engine::SagaState;
use matricula_kit::id::SagaId;
use tokio::sync::watch;

/// The last durable state of a saga that this process drives; `None` before the first one since the watch began.
pub type Progress = Option<Arc<SagaState>>;

/// All watches of a process.
#[derive(Clone, Default)]
pub(crate) struct Watchers {
    sagas: Arc<Mutex<HashMap<SagaId, watch::Sender<Progress>>>>,
}

/// One watch of one saga.
pub struct Watcher {
    saga: SagaId,
    progress: watch::Receiver<Progress>,
    watchers: Watchers,
}

impl Watcher {
    /// Waits for the next change and returns the state after it. Never returns when this process does not drive the
    /// saga, so callers bound the wait.
    pub async fn changed(&mut self) -> Arc<SagaState> {
        loop {
            if self.progress.changed().await.is_err() {
                // The sender lives as long as a watcher does.
                std::future::pending::<()>().await;
            }
            if let Some(state) = self.progress.borrow_and_update().clone() {
                return state;
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut sagas = self.watchers.lock();
        // This receiver is still counted.
        if sagas.get(&self.saga).is_some_and(|sender| sender.receiver_count() <= 1) {
            sagas.remove(&self.saga);
        }
    }
}

impl Watchers {
    /// Begins a watch; changes from now on are seen.
    pub(crate) fn watch(&self, saga: &SagaId) -> Watcher {
        let mut sagas = self.lock();
        let sender = sagas.entry(saga.clone()).or_insert_with(|| watch::Sender::new(None));
        Watcher { saga: saga.clone(), progress: sender.subscribe(), watchers: self.clone() }
    }

    /// Tells those who watch a saga where it stands.
    pub(crate) fn tell(&self, saga: &SagaId, state: &Arc<SagaState>) {
        if let Some(sender) = self.lock().get(saga) {
            sender.send_replace(Some(state.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SagaId, watch::Sender<Progress>>> {
        self.sagas.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
