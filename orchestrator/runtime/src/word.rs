//! The word that goes round between the instances of one PostgreSQL: which sagas have moved, that somebody asks, has
//! answered, or has ended. It wakes; nothing is true only because of it, and what is missed is found by a slower look.
//!
//! ```text
//! executor ──► announce ──NOTIFY──► listen ──┬─ moved ────► `others`, WatchSagas
//!                                            ├─ asked ────► `requests` of the saga's owner
//!                                            ├─ answered ─► whoever has asked
//!                                            ├─ left ─────► adoption
//!                                            └─ outages ──► `outages`
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use matricula_kit::database::Heard;
use matricula_kit::id::SagaId;
use matricula_kit::telemetry;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::store::{InstanceId, SagaStore, StoreError};

/// The channel of the database that the instances listen to.
pub(crate) const CHANNEL: &str = "matricula_sagas";
/// Ids in one payload: PostgreSQL takes less than 8,000 bytes, an id has 36, and a space.
const MOVED_MAX: usize = 200;
/// News that may wait to be told. Beyond it "all may have moved" is told instead.
const NEWS_WAITING_MAX: usize = 8_192;
/// Between two tries to listen, or to tell, while the database does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// One payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// Sagas of an instance have moved; none named: any may have.
    Moved { instance: String, sagas: Vec<SagaId> },
    /// A request waits for the owner of its saga.
    Asked,
    /// A request has been answered.
    Answered,
    /// An instance has ended in order: what it drove is to be adopted.
    Left,
    /// What an instance has recorded of services that do not answer it has changed.
    Outages,
}

impl Word {
    pub(crate) fn to_payload(&self) -> String {
        match self {
            Self::Asked => "asked".to_owned(),
            Self::Answered => "answered".to_owned(),
            Self::Left => "left".to_owned(),
            Self::Outages => "outages".to_owned(),
            Self::Moved { instance, sagas } => {
                let ids: Vec<&str> = sagas.iter().map(SagaId::as_str).collect();
                format!("moved {instance} {}", ids.join(" ")).trim_end().to_owned()
            }
        }
    }

    /// None for a word of another version.
    fn parse(payload: &str) -> Option<Self> {
        let mut words = payload.split_whitespace();
        match words.next()? {
            "asked" => Some(Self::Asked),
            "answered" => Some(Self::Answered),
            "left" => Some(Self::Left),
            "outages" => Some(Self::Outages),
            "moved" => {
                let instance = words.next()?.to_owned();
                let sagas = words.map(SagaId::try_new).collect::<Result<_, _>>().ok()?;
                Some(Self::Moved { instance, sagas })
            }
            _ => None,
        }
    }
}

/// What has moved: one saga, or any may have.
pub(crate) type Moved = Option<SagaId>;

/// Where the tasks of an instance hear of each other and of other instances.
#[derive(Clone)]
pub(crate) struct Wakes {
    /// Sagas that this instance has moved.
    pub here: broadcast::Sender<SagaId>,
    /// Sagas that other instances have moved.
    pub elsewhere: broadcast::Sender<Moved>,
    /// Sagas that any instance has moved.
    pub anywhere: broadcast::Sender<Moved>,
    /// A request may wait for this instance.
    pub asked: Arc<Notify>,
    /// A request may have been answered.
    pub answered: Arc<Notify>,
    /// An instance has ended.
    pub left: Arc<Notify>,
    /// What other instances have recorded of services that do not answer may have changed.
    pub outages: Arc<Notify>,
    /// Whether other instances live: if not, nobody has to be told.
    pub has_others: Arc<AtomicBool>,
}

impl Wakes {
    pub(crate) fn new() -> Self {
        Self {
            here: broadcast::Sender::new(NEWS_WAITING_MAX),
            elsewhere: broadcast::Sender::new(NEWS_WAITING_MAX),
            anywhere: broadcast::Sender::new(NEWS_WAITING_MAX),
            asked: Arc::default(),
            answered: Arc::default(),
            left: Arc::default(),
            outages: Arc::default(),
            has_others: Arc::default(),
        }
    }

    /// Tells of what another instance has moved. Nobody may be listening.
    fn moved_elsewhere(&self, saga: Moved) {
        let _ = self.elsewhere.send(saga.clone());
        let _ = self.anywhere.send(saga);
    }

    fn all_may_have_moved(&self) {
        self.moved_elsewhere(None);
        self.asked.notify_one();
        self.outages.notify_one();
        self.answered.notify_waiters();
    }
}

/// Tells the other tasks, and the other instances while there are any, what this instance has moved. What comes while
/// one word is on its way goes with the next.
pub(crate) async fn announce(
    store: SagaStore,
    instance: InstanceId,
    wakes: Wakes,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let mut news = wakes.here.subscribe();
    let mut untold = false;
    loop {
        let mut sagas = Vec::new();
        let mut missed = std::mem::take(&mut untold);
        match shutdown.run_until_cancelled(news.recv()).await {
            Some(Ok(saga)) => sagas.push(saga),
            Some(Err(RecvError::Lagged(_))) => missed = true,
            Some(Err(RecvError::Closed)) | None => return Ok(()),
        }
        while sagas.len() < NEWS_WAITING_MAX {
            match news.try_recv() {
                Ok(saga) => sagas.push(saga),
                Err(broadcast::error::TryRecvError::Lagged(_)) => missed = true,
                Err(_) => break,
            }
        }
        for saga in &sagas {
            let _ = wakes.anywhere.send(Some(saga.clone()));
        }
        if missed {
            let _ = wakes.anywhere.send(None);
            sagas.clear();
        }
        if !store.is_shared() || !wakes.has_others.load(Ordering::Relaxed) {
            continue;
        }
        let moved = |sagas: &[SagaId]| Word::Moved { instance: instance.as_str().to_owned(), sagas: sagas.to_vec() };
        let words: Vec<Word> = if missed { vec![moved(&[])] } else { sagas.chunks(MOVED_MAX).map(moved).collect() };
        if let Err(error) = store.tell(&words).await {
            // The next word says that any may have moved.
            untold = true;
            tracing::debug!(error = telemetry::chain(&error), "other instances could not be told what moved");
        }
    }
}

/// Listens to the other instances until the shutdown. While it can't, everything counts as moved now and then.
pub(crate) async fn listen(
    store: SagaStore,
    instance: InstanceId,
    wakes: Wakes,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let listening = async {
        loop {
            match store.listen(CHANNEL).await {
                // Nobody else can write: what moves is told by `announce`.
                Ok(None) => std::future::pending().await,
                Ok(Some(mut words)) => {
                    wakes.all_may_have_moved();
                    while let Ok(Some(heard)) = words.next().await {
                        if let Heard::Payload(payload) = heard {
                            hear(&wakes, &instance, &payload);
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(error = telemetry::chain(&error), "can't listen to other instances; trying again");
                }
            }
            wakes.all_may_have_moved();
            tokio::time::sleep(PAUSE).await;
        }
    };
    shutdown.run_until_cancelled(listening).await;
    Ok(())
}

fn hear(wakes: &Wakes, instance: &InstanceId, payload: &str) {
    match Word::parse(payload) {
        Some(Word::Asked) => wakes.asked.notify_one(),
        Some(Word::Answered) => wakes.answered.notify_waiters(),
        Some(Word::Left) => wakes.left.notify_one(),
        Some(Word::Outages) => wakes.outages.notify_one(),
        Some(Word::Moved { instance: of, .. }) if of == instance.as_str() => {}
        Some(Word::Moved { sagas, .. }) if !sagas.is_empty() => {
            for saga in sagas {
                wakes.moved_elsewhere(Some(saga));
            }
        }
        Some(Word::Moved { .. }) | None => wakes.all_may_have_moved(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: Word) {
        let payload = word.to_payload();
        assert!(payload.len() < 8_000, "PostgreSQL refuses a payload of {} bytes", payload.len());
        assert_eq!(Word::parse(&payload), Some(word));
    }

    #[test]
    fn words_are_read_as_they_are_told() {
        let instance = InstanceId::generate().as_str().to_owned();
        check(Word::Asked);
        check(Word::Answered);
        check(Word::Left);
        check(Word::Outages);
        check(Word::Moved { instance: instance.clone(), sagas: Vec::new() });
        check(Word::Moved { instance, sagas: (0..MOVED_MAX).map(|_| SagaId::generate()).collect() });
        assert_eq!(Word::parse("sung by the next version"), None);
    }
}
