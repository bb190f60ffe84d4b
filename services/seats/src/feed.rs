//! The feed of seats: every committed change to everyone who watches, in the order of commits.
//!
//! ```text
//! SQLite:     commit --> publish ------------------------------> broadcast --> watch (one a client)
//! PostgreSQL: commit --> NOTIFY --> follow, in every replica --> broadcast --> watch
//! ```
//!
//! On PostgreSQL a heartbeat is an answer of the server that comes by the same way: while there is none, watchers hear
//! nothing, and call what they know old.
//!
//! A watcher subscribes first and reads the whole state then, so it misses nothing; it may hear of a version that it has
//! seen, and keeps the highest. Changes of a section that were committed together come as one, with the last version.
//! When the feed can't promise that nothing was missed, it ends and the watcher begins anew: it never guesses.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use futures::stream;
use matricula_kit::database::{Database, DbError, Heard, Notifications, Tx};
use matricula_kit::tasks::Tasks;
use matricula_kit::telemetry;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::domain::{Fate, Section, World};
use crate::store::{self, PAGE_ROWS};

/// Batches of changes that a watcher may be behind before it has to begin anew: some seconds of full load.
const CHANGES_BEHIND_MAX: usize = 4_096;
/// How long the feed of a SQLite file is silent at most. The portal calls it lost after some of these.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// How long to wait before listening again after the database was gone.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The channel on which replicas tell each other of changes.
const CHANNEL: &str = "matricula_seats";
/// Sections in one notification: each is at most 230 bytes, and a payload less than 8,000.
const SECTIONS_IN_NOTIFICATION: usize = 32;

/// Where changes are published and watched.
#[derive(Default)]
pub struct Feed {
    state: Mutex<State>,
}

/// Whether the feed can be watched.
#[derive(Default)]
enum State {
    /// Changes could be missed: at the beginning, and while the database is gone.
    #[default]
    Closed,
    Open(broadcast::Sender<Changes>),
    /// The service ends; it is never open again.
    Ended,
}

type Changes = Arc<[Section]>;

/// What a watcher hears.
#[derive(Debug, PartialEq, Eq)]
pub struct Update {
    /// Sections as committed; none is a heartbeat.
    pub sections: Vec<Section>,
    /// Whether this is the last part of the state that a watch begins with.
    pub snapshot_complete: bool,
}

/// Why a watch ended, or can't begin.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The watcher is too slow.
    #[error("the watcher could not keep up and has missed changes; watch again")]
    Lagged,
    /// Changes can't be followed at present.
    #[error("the feed is not connected; watch again")]
    NotConnected,
    /// The state could not be read.
    #[error("the state of the seats could not be read")]
    State(#[source] DbError),
}

/// A watch: endless, until it fails.
pub type Watch = Pin<Box<dyn Stream<Item = Result<Update, FeedError>> + Send>>;

impl Feed {
    /// Tells all watchers. Whoever watches from now on reads a state that has these changes.
    pub fn publish(&self, changes: Vec<Section>) {
        match &*self.state() {
            // Without a watcher there is nobody to tell.
            State::Open(sender) if !changes.is_empty() => drop(sender.send(changes.into())),
            _ => {}
        }
    }

    /// Tells all watchers that there was nothing to tell.
    fn beat(&self) {
        if let State::Open(sender) = &*self.state() {
            // Without a watcher there is nobody to tell.
            let _ = sender.send(Changes::default());
        }
    }

    /// The state of every section in parts, then every committed change, and a heartbeat whenever it would be silent for longer.
    pub fn watch(&self, database: Database) -> Result<Watch, FeedError> {
        let State::Open(sender) = &*self.state() else { return Err(FeedError::NotConnected) };
        let heartbeat = (!database.is_shared()).then_some(HEARTBEAT);
        let changes = Changing { receiver: sender.subscribe(), heartbeat };
        Ok(Box::pin(stream::unfold(Watching::Begun { changes, database }, |watching| async move {
            match watching.step().await {
                Ok(None) => None,
                Ok(Some((update, next))) => Some((Ok(update), next)),
                Err(error) => Some((Err(error), Watching::Ended)),
            }
        })))
    }

    /// Lets it be watched. Whoever watches from now on misses nothing.
    pub fn open(&self) {
        let mut state = self.state();
        if !matches!(*state, State::Ended) {
            *state = State::Open(broadcast::Sender::new(CHANGES_BEHIND_MAX));
        }
    }

    /// Ends every watch, until it is open again.
    pub fn close(&self) {
        let mut state = self.state();
        if !matches!(*state, State::Ended) {
            *state = State::Closed;
        }
    }

    /// Ends every watch for good.
    fn end(&self) {
        *self.state() = State::Ended;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What the lock holds is never half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a watcher waits for.
struct Changing {
    receiver: broadcast::Receiver<Changes>,
    /// Where nothing else beats: how long it waits at most.
    heartbeat: Option<Duration>,
}

impl Changing {
    async fn next(&mut self) -> Result<Changes, RecvError> {
        let Some(heartbeat) = self.heartbeat else { return self.receiver.recv().await };
        let silent = |_| Ok(Changes::default());
        tokio::time::timeout(heartbeat, self.receiver.recv()).await.unwrap_or_else(silent)
    }
}

/// How far a watch is.
enum Watching {
    Begun { changes: Changing, database: Database },
    State { changes: Changing, snapshot: Tx, after: String },
    Live { changes: Changing },
    Ended,
}

impl Watching {
    async fn step(self) -> Result<Option<(Update, Self)>, FeedError> {
        match self {
            Self::Begun { changes, database } => {
                let snapshot = database.snapshot().await.map_err(FeedError::State)?;
                Self::read(changes, snapshot, "").await.map(Some)
            }
            Self::State { changes, snapshot, after } => Self::read(changes, snapshot, &after).await.map(Some),
            Self::Live { mut changes } => {
                let sections = match changes.next().await {
                    Ok(sections) => sections.to_vec(),
                    Err(RecvError::Lagged(_)) => return Err(FeedError::Lagged),
                    Err(RecvError::Closed) => return Err(FeedError::NotConnected),
                };
                Ok(Some((Update { sections, snapshot_complete: false }, Self::Live { changes })))
            }
            Self::Ended => Ok(None),
        }
    }

    async fn read(changes: Changing, mut snapshot: Tx, after: &str) -> Result<(Update, Self), FeedError> {
        let sections = store::page_of_sections(&mut snapshot, after).await.map_err(FeedError::State)?;
        let after = sections.last().map(|section| section.id.as_str().to_owned());
        let is_full = i64::try_from(sections.len()).is_ok_and(|count| count == PAGE_ROWS);
        Ok(match after.filter(|_| is_full) {
            Some(after) => (Update { sections, snapshot_complete: false }, Self::State { changes, snapshot, after }),
            None => (Update { sections, snapshot_complete: true }, Self::Live { changes }),
        })
    }
}

/// Has the transaction tell all replicas of the sections that it changes.
pub fn announce(tx: &mut Tx, world: &World) -> Result<(), DbError> {
    let changed: Vec<&Section> =
        world.sections().filter(|(_, fate)| *fate != Fate::Kept).map(|(section, _)| section).collect();
    let payloads = changed.chunks(SECTIONS_IN_NOTIFICATION).map(serde_json::to_string).collect::<Result<_, _>>();
    tx.notify(CHANNEL, payloads.map_err(DbError::corrupt)?);
    Ok(())
}

/// Opens the feed and keeps it open until `shutdown`, which ends every watch.
pub async fn follow(
    feed: Arc<Feed>,
    database: &Database,
    shutdown: CancellationToken,
    tasks: &Tasks,
) -> Result<(), DbError> {
    let mut notifications = database.listen(CHANNEL).await?;
    feed.open();
    let database = database.clone();
    tasks.restarted("feed", move || {
        let (feed, database, shutdown) = (feed.clone(), database.clone(), shutdown.clone());
        let notifications = notifications.take();
        async move {
            let followed = async {
                // This process publishes what it commits, and no other one commits.
                if !database.is_shared() {
                    std::future::pending::<()>().await;
                }
                follow_notifications(&feed, &database, notifications).await;
            };
            // Should the task panic: what it would have published is missing.
            let closing = ClosedOnDrop(&feed);
            shutdown.run_until_cancelled(followed).await;
            feed.end();
            drop(closing);
        }
    });
    Ok(())
}

struct ClosedOnDrop<'a>(&'a Feed);

impl Drop for ClosedOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Follows what is heard; without notifications it begins by listening.
async fn follow_notifications(feed: &Feed, database: &Database, mut notifications: Option<Notifications>) {
    loop {
        match &mut notifications {
            Some(notifications) => {
                let cause = republish(feed, notifications).await;
                feed.close();
                tracing::warn!(cause, "the feed of seats has lost the database; watchers begin anew when it is back");
            }
            None => tracing::warn!("the feed of seats begins anew"),
        }
        notifications = loop {
            match database.listen(CHANNEL).await {
                Ok(Some(again)) => break Some(again),
                Ok(None) | Err(_) => tokio::time::sleep(LISTEN_AGAIN_AFTER).await,
            }
        };
        feed.open();
    }
}

/// Publishes what is heard, until something may have been missed; returns why.
async fn republish(feed: &Feed, notifications: &mut Notifications) -> String {
    loop {
        match notifications.next().await {
            Ok(Some(Heard::Silence)) => feed.beat(),
            Ok(Some(Heard::Payload(payload))) => match serde_json::from_str(&payload) {
                Ok(changes) => feed.publish(changes),
                Err(error) => return format!("a notification can't be read: {error}"),
            },
            Ok(None) => return "the connection was closed".to_owned(),
            Err(error) => return telemetry::chain(&error),
        }
    }
}
