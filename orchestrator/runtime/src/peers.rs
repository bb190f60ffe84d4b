//! Messages between the instances of one PostgreSQL: which sagas have changed, that a request or an answer waits, that
//! an instance has ended. A message only wakes: nothing is true because of it alone, and a slower look finds what was
//! missed.
//!
//! ```text
//! news ──► announce ──NOTIFY──► listen ──┬─ changed ──► `remote_watch`, WatchSagas
//!                                        ├─ asked ────► `requests` of the saga's owner
//!                                        ├─ answered ─► the instance that has asked
//!                                        ├─ left ─────► the core
//!                                        └─ outages ──► `outages`
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use matricula_core::SagaId;
use matricula_kit::database::Heard;
use matricula_kit::telemetry;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::store::{InstanceId, PeerMessage, SagaStore, StoreError};

/// Changed sagas that may wait to be sent. Beyond it "any may have changed" is sent instead.
const CHANGED_WAITING_MAX: usize = 8_192;
/// Between two tries to listen, while the database does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// A saga that has changed; none: any may have.
pub(crate) type Changed = Option<SagaId>;

/// How the tasks of an instance wake each other, and are woken by other instances.
#[derive(Clone)]
pub(crate) struct Signals {
    /// Sagas that this instance has changed.
    pub here: broadcast::Sender<SagaId>,
    /// Sagas that other instances have changed.
    pub elsewhere: broadcast::Sender<Changed>,
    /// Sagas that any instance has changed.
    pub anywhere: broadcast::Sender<Changed>,
    /// A request may wait for this instance.
    pub asked: Arc<Notify>,
    /// A request may have been answered.
    pub answered: Arc<Notify>,
    /// The outages that other instances have recorded may have changed.
    pub outages: Arc<Notify>,
    /// Whether other instances live: if not, no message is sent.
    pub has_others: Arc<AtomicBool>,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            here: broadcast::Sender::new(CHANGED_WAITING_MAX),
            elsewhere: broadcast::Sender::new(CHANGED_WAITING_MAX),
            anywhere: broadcast::Sender::new(CHANGED_WAITING_MAX),
            asked: Arc::default(),
            answered: Arc::default(),
            outages: Arc::default(),
            has_others: Arc::default(),
        }
    }

    /// Another instance has changed something. Nobody may be listening.
    fn changed_elsewhere(&self, saga: Changed) {
        let _ = self.elsewhere.send(saga);
        let _ = self.anywhere.send(saga);
    }

    fn any_may_have_changed(&self) {
        self.changed_elsewhere(None);
        self.asked.notify_one();
        self.outages.notify_one();
        self.answered.notify_waiters();
    }
}

/// Sends the sagas that this instance has changed to the other tasks, and to the other instances while there are any.
/// Sagas that change while one message is on its way go with the next.
pub(crate) async fn announce(
    store: SagaStore,
    instance: InstanceId,
    signals: Signals,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let mut changed = signals.here.subscribe();
    let mut unsent = false;
    loop {
        let mut sagas = Vec::new();
        let mut missed = std::mem::take(&mut unsent);
        match shutdown.run_until_cancelled(changed.recv()).await {
            Some(Ok(saga)) => sagas.push(saga),
            Some(Err(RecvError::Lagged(_))) => missed = true,
            Some(Err(RecvError::Closed)) | None => return Ok(()),
        }
        while sagas.len() < CHANGED_WAITING_MAX {
            match changed.try_recv() {
                Ok(saga) => sagas.push(saga),
                Err(broadcast::error::TryRecvError::Lagged(_)) => missed = true,
                Err(_) => break,
            }
        }
        for saga in &sagas {
            let _ = signals.anywhere.send(Some(*saga));
        }
        if missed {
            let _ = signals.anywhere.send(None);
            sagas.clear();
        }
        if !store.is_shared() || !signals.has_others.load(Ordering::Relaxed) {
            continue;
        }
        let message =
            |sagas: &[SagaId]| PeerMessage::Changed { instance: instance.as_str().to_owned(), sagas: sagas.to_vec() };
        let messages: Vec<PeerMessage> =
            if missed { vec![message(&[])] } else { sagas.chunks(PeerMessage::IDS_MAX).map(message).collect() };
        if let Err(error) = store.send(&messages).await {
            // The next message says that any may have changed.
            unsent = true;
            tracing::debug!(error = telemetry::chain(&error), "other instances could not be told what moved");
        }
    }
}

/// Listens to the other instances until the shutdown, and calls `left` when one has ended in order. While it can't
/// listen, everything counts as changed now and then.
pub(crate) async fn listen(
    store: SagaStore,
    instance: InstanceId,
    signals: Signals,
    left: impl Fn(),
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let listening = async {
        loop {
            match store.listen().await {
                // No other instance can write: `announce` has all that changes.
                Ok(None) => std::future::pending().await,
                Ok(Some(mut payloads)) => {
                    signals.any_may_have_changed();
                    while let Ok(Some(heard)) = payloads.next().await {
                        if let Heard::Payload(payload) = heard {
                            receive(&signals, &instance, &payload, &left);
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(error = telemetry::chain(&error), "can't listen to other instances; trying again");
                }
            }
            signals.any_may_have_changed();
            tokio::time::sleep(PAUSE).await;
        }
    };
    shutdown.run_until_cancelled(listening).await;
    Ok(())
}

fn receive(signals: &Signals, instance: &InstanceId, payload: &str, left: impl Fn()) {
    match PeerMessage::parse(payload) {
        Some(PeerMessage::Asked) => signals.asked.notify_one(),
        Some(PeerMessage::Answered) => signals.answered.notify_waiters(),
        Some(PeerMessage::Left) => left(),
        Some(PeerMessage::Outages) => signals.outages.notify_one(),
        Some(PeerMessage::Changed { instance: of, .. }) if of == instance.as_str() => {}
        Some(PeerMessage::Changed { sagas, .. }) if !sagas.is_empty() => {
            for saga in sagas {
                signals.changed_elsewhere(Some(saga));
            }
        }
        Some(PeerMessage::Changed { .. }) | None => signals.any_may_have_changed(),
    }
}
