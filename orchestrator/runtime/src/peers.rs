//! Messages between the instances of one PostgreSQL database: which sagas have changed, that a request or an answer
//! waits, that an instance has ended. A message only wakes a task, which then reads the database. A lost message costs
//! time only, because each task also reads the database at intervals.
//!
//! ```text
//! news ──► announce ──NOTIFY──► listen ──┬─ changed ──► `remote_watch`, WatchSagas
//!                                        ├─ asked ────► `answer_others` of the saga's owner
//!                                        ├─ answered ─► the instance that has sent the request
//!                                        ├─ left ─────► the core
//!                                        ├─ queued ───► the core
//!                                        └─ outages ──► `outages`
//! ```

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use matricula_core::{Input, SagaId};
use matricula_kit::database::Received;
use matricula_kit::telemetry;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use crate::store::{PeerMessage, StoreError};
use crate::{Runtime, Workload};

/// The most changed sagas that wait to be sent. If there are more, the message is that any saga may have changed.
const CHANGED_WAITING_MAX: usize = 8_192;
/// Time between two messages with changed sagas, so that one message has many of them.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(20);
/// Time between two tries to listen, while the database does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// A saga that has changed; none: any saga may have changed.
pub type Changed = Option<SagaId>;

/// Receives changed sagas. A slow receiver misses some: then any saga may have changed.
pub struct Changes(broadcast::Receiver<Changed>);

impl Changes {
    pub(crate) fn of(sender: &broadcast::Sender<Changed>) -> Self {
        Self(sender.subscribe())
    }

    /// The next change.
    pub async fn next(&mut self) -> Changed {
        match self.0.recv().await {
            Ok(changed) => changed,
            Err(RecvError::Lagged(_)) => None,
            // The sender is held by the runtime, which no receiver outlives.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// A change that has arrived already.
    pub fn arrived(&mut self) -> Option<Changed> {
        match self.0.try_recv() {
            Ok(changed) => Some(changed),
            Err(TryRecvError::Lagged(_)) => Some(None),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    /// This change, and all that have arrived.
    pub(crate) fn gathered(&mut self, first: Changed) -> Vec<Changed> {
        let arrived = std::iter::from_fn(|| self.arrived());
        std::iter::once(first).chain(arrived).take(CHANGED_WAITING_MAX).collect()
    }
}

/// Signals by which the tasks of an instance wake each other, also because of messages of other instances.
pub(crate) struct Signals {
    /// Sagas that this instance has changed, for the other instances.
    pub here: broadcast::Sender<Changed>,
    /// Sagas that other instances have changed.
    pub elsewhere: broadcast::Sender<Changed>,
    /// Sagas that any instance has changed.
    pub anywhere: broadcast::Sender<Changed>,
    /// There may be a request for this instance.
    pub requested: Notify,
    /// A request may have been answered.
    pub answered: Notify,
    /// The outages that other instances have recorded may have changed.
    pub outages: Notify,
    /// A service has begun to fail, or has answered again.
    pub destinations: Notify,
    /// This instance has queued sagas in a line that was empty.
    pub line_begun: Notify,
    /// Whether other instances live. If not, no message is sent.
    pub has_others: AtomicBool,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            here: broadcast::Sender::new(CHANGED_WAITING_MAX),
            elsewhere: broadcast::Sender::new(CHANGED_WAITING_MAX),
            anywhere: broadcast::Sender::new(CHANGED_WAITING_MAX),
            requested: Notify::new(),
            answered: Notify::new(),
            outages: Notify::new(),
            destinations: Notify::new(),
            line_begun: Notify::new(),
            has_others: AtomicBool::new(false),
        }
    }

    /// Signals that this instance has changed a saga. There may be no receiver.
    pub(crate) fn changed_here(&self, saga: SagaId) {
        let _ = self.here.send(Some(saga));
        let _ = self.anywhere.send(Some(saga));
    }

    /// Signals that another instance has changed a saga. There may be no receiver.
    fn changed_elsewhere(&self, saga: Changed) {
        let _ = self.elsewhere.send(saga);
        let _ = self.anywhere.send(saga);
    }

    fn any_may_have_changed(&self) {
        self.changed_elsewhere(None);
        self.requested.notify_one();
        self.outages.notify_one();
        self.answered.notify_waiters();
    }
}

impl<W: Workload> Runtime<W> {
    /// Sends the sagas that this instance has changed to the other instances, if there are any. Sagas that change while
    /// a message is being sent go with the next one.
    pub(crate) async fn announce(self: Arc<Self>) -> Result<(), StoreError> {
        let mut changed = Changes::of(&self.signals.here);
        let (mut unsent, mut send_at) = (false, Instant::now());
        loop {
            let Some(first) = self.stopping.run_until_cancelled(changed.next()).await else { return Ok(()) };
            let has_missed = std::mem::take(&mut unsent);
            tokio::time::sleep_until(send_at).await;
            send_at = Instant::now() + ANNOUNCE_PAUSE;
            let sagas: Option<HashSet<SagaId>> = changed.gathered(first).into_iter().collect();
            if !self.signals.has_others.load(Ordering::Relaxed) {
                continue;
            }
            let sagas: Option<Vec<SagaId>> = sagas.filter(|_| !has_missed).map(|sagas| sagas.into_iter().collect());
            let messages = match sagas {
                None => vec![self.changed_message(&[])],
                Some(sagas) => sagas.chunks(PeerMessage::IDS_MAX).map(|sagas| self.changed_message(sagas)).collect(),
            };
            if let Err(error) = self.store.send(&messages).await {
                // The next message will be that any saga may have changed.
                unsent = true;
                tracing::debug!(error = telemetry::chain(&error), "changed sagas could not be sent to other instances");
            }
        }
    }

    /// Wakes the other instances when a line begins, so that they do not wait for their next read of the line.
    pub(crate) async fn announce_line(self: Arc<Self>) {
        loop {
            self.signals.line_begun.notified().await;
            if self.signals.has_others.load(Ordering::Relaxed)
                && let Err(error) = self.store.send(&[PeerMessage::Queued]).await
            {
                tracing::debug!(error = telemetry::chain(&error), "the new line could not be sent to other instances");
            }
        }
    }

    /// The message that this instance has changed these sagas; an empty list: any saga may have changed.
    pub(crate) fn changed_message(&self, sagas: &[SagaId]) -> PeerMessage {
        PeerMessage::Changed { instance: self.instance.as_str().to_owned(), sagas: sagas.to_vec() }
    }

    /// Receives the messages of the other instances. While it can't, every try signals that anything may have changed.
    pub(crate) async fn listen(self: Arc<Self>) {
        loop {
            match self.store.listen().await {
                // A SQLite file has only one instance.
                Ok(None) => std::future::pending().await,
                Ok(Some(mut payloads)) => {
                    self.signals.any_may_have_changed();
                    while let Ok(Some(received)) = payloads.receive().await {
                        if let Received::Payload(payload) = received {
                            self.receive(PeerMessage::parse(&payload));
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(error = telemetry::chain(&error), "can't listen to other instances; trying again");
                }
            }
            self.signals.any_may_have_changed();
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn receive(&self, message: Option<PeerMessage>) {
        match message {
            Some(PeerMessage::Requested) => self.signals.requested.notify_one(),
            Some(PeerMessage::Answered) => self.signals.answered.notify_waiters(),
            Some(PeerMessage::Queued) => self.mailbox.input(Input::LineBegun),
            Some(PeerMessage::Left) => self.mailbox.input(Input::PeerLeft),
            Some(PeerMessage::Outages) => self.signals.outages.notify_one(),
            Some(PeerMessage::Changed { instance, .. }) if instance == self.instance.as_str() => {}
            Some(PeerMessage::Changed { sagas, .. }) if !sagas.is_empty() => {
                sagas.into_iter().for_each(|saga| self.signals.changed_elsewhere(Some(saga)));
            }
            Some(PeerMessage::Changed { .. }) | None => self.signals.any_may_have_changed(),
        }
    }
}
