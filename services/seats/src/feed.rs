//! The feed of seats: every committed change to everyone who watches, in the order of commits.
//!
//! ```text
//! SQLite:     commit --> publish ------------------------------> broadcast --> watch (one a client)
//! PostgreSQL: commit --> NOTIFY --> follow, in every replica --> broadcast --> watch
//! ```
//!
//! Each message carries the moment up to which it is complete: everything that was committed before that moment is in
//! it or in a message before it. The moment is fixed when the message is published, so that it is true however late a
//! watcher reads the message. Three events move it:
//!
//! | what | complete up to |
//! |---|---|
//! | a state | just before it was read |
//! | SQLite: a publication, a heartbeat | now, or the begin of the commit that is under way |
//! | PostgreSQL: an answer of the server on the connection that listens | when the query was sent |
//!
//! While PostgreSQL does not answer, watchers get no heartbeat, and call what they have old.
//!
//! A watcher subscribes first and reads the whole state then, so it misses nothing; it may receive a version that it
//! has, and keeps the highest. Changes of a section that were committed together come as one, with the last version.
//! When the feed can't promise that nothing was missed, it ends and the watcher begins anew: it never guesses. The
//! state of the new watch replaces the old one: a section that it does not have is gone.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use futures::stream;
use matricula_kit::database::{Database, DbError, Notifications, Received, Tx};
use matricula_kit::pages::{Cursor, Page};
use matricula_kit::tasks::Tasks;
use matricula_kit::telemetry;
use matricula_kit::time::{self, UnixMs};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::domain::{Section, World};
use crate::store;

/// Batches of changes that a watcher may be behind before it has to begin anew: some seconds of full load.
const CHANGES_BEHIND_MAX: usize = 4_096;
/// How often the feed of a SQLite file sends the moment up to which it is complete. The portal calls the feed lost when
/// some of these are missing.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// How long to wait before listening again after the database was gone.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The channel on which replicas send each other their changes.
const CHANNEL: &str = "matricula_seats";
/// Sections in one notification: each is at most 500 bytes, and a payload less than 8,000.
const SECTIONS_IN_NOTIFICATION: usize = 16;

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
    Open(Channel),
    /// The service ends; it is never open again.
    Ended,
}

struct Channel {
    sender: broadcast::Sender<Changes>,
    /// SQLite: the begin of a commit that is under way. What it changes may be committed and is not published yet.
    committing: Option<UnixMs>,
}

#[derive(Clone)]
struct Changes {
    sections: Arc<[Section]>,
    complete_until: UnixMs,
}

/// A message to a watcher.
#[derive(Debug, PartialEq, Eq)]
pub struct Update {
    /// Sections as committed; none is a heartbeat.
    pub sections: Vec<Section>,
    /// Whether this is the last part of the state that a watch begins with.
    pub snapshot_complete: bool,
    /// Everything that was committed before this moment is in this update or in one before it. Of the parts of a state:
    /// in all of them.
    pub complete_until: UnixMs,
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
    /// A commit begins: until it is published, or has failed, the feed is not complete beyond this moment.
    pub fn committing(&self) {
        if let State::Open(channel) = &mut *self.state() {
            channel.committing.get_or_insert_with(time::now);
        }
    }

    /// The commit that began has failed: nothing of it is to be published.
    pub fn not_committed(&self) {
        if let State::Open(channel) = &mut *self.state() {
            channel.committing = None;
        }
    }

    /// Sends what a commit of this process has changed to all watchers. A watch that begins from now on reads a state
    /// that has these changes.
    pub fn publish(&self, changes: Vec<Section>) {
        if let State::Open(channel) = &mut *self.state() {
            // The next commit begins after this one is published.
            channel.committing = None;
            if !changes.is_empty() {
                channel.send(changes.into(), time::now());
            }
        }
    }

    /// Sends what a commit of any process has changed to all watchers.
    fn republish(&self, changes: Vec<Section>, complete_until: UnixMs) {
        if let State::Open(channel) = &*self.state() {
            channel.send(changes.into(), complete_until);
        }
    }

    /// SQLite: sends all watchers the moment up to which they have everything.
    pub fn beat(&self) {
        if let State::Open(channel) = &*self.state() {
            channel.send(Arc::default(), channel.committing.unwrap_or_else(time::now));
        }
    }

    /// The state of every section in parts, then every committed change, and a heartbeat several times a second.
    pub fn watch(&self, database: Database) -> Result<Watch, FeedError> {
        let State::Open(channel) = &*self.state() else { return Err(FeedError::NotConnected) };
        let changes = channel.sender.subscribe();
        Ok(Box::pin(stream::try_unfold(Watching::Begun { changes, database }, |watching| async move {
            watching.step().await.map(Some)
        })))
    }

    /// Opens the feed. A watcher that begins from now on misses nothing.
    pub fn open(&self) {
        let mut state = self.state();
        if !matches!(*state, State::Ended) {
            *state = State::Open(Channel { sender: broadcast::Sender::new(CHANGES_BEHIND_MAX), committing: None });
        }
    }

    /// Opens it again after a failure of the task that keeps it open.
    fn open_if_closed(&self) {
        if matches!(*self.state(), State::Closed) {
            self.open();
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

impl Channel {
    fn send(&self, sections: Arc<[Section]>, complete_until: UnixMs) {
        // It fails when there is no watcher.
        let _ = self.sender.send(Changes { sections, complete_until });
    }
}

/// How far a watch is.
enum Watching {
    Begun { changes: Receiver, database: Database },
    State { changes: Receiver, snapshot: Box<Tx>, after: Cursor, complete_until: UnixMs },
    Live { changes: Receiver, complete_until: UnixMs },
}

type Receiver = broadcast::Receiver<Changes>;

impl Watching {
    async fn step(self) -> Result<(Update, Self), FeedError> {
        match self {
            Self::Begun { changes, database } => {
                let complete_until = time::now();
                let snapshot = Box::new(database.snapshot().await.map_err(FeedError::State)?);
                Self::read(changes, snapshot, &Cursor::default(), complete_until).await
            }
            Self::State { changes, snapshot, after, complete_until } => {
                Self::read(changes, snapshot, &after, complete_until).await
            }
            Self::Live { mut changes, complete_until } => {
                let next = match changes.recv().await {
                    Ok(next) => next,
                    Err(RecvError::Lagged(_)) => return Err(FeedError::Lagged),
                    Err(RecvError::Closed) => return Err(FeedError::NotConnected),
                };
                // What was published while the state was read is in the state. A clock that was set back does not leave
                // a moment that is still to come.
                let complete_until = next.complete_until.max(complete_until).min(time::now());
                let update = Update { sections: next.sections.to_vec(), snapshot_complete: false, complete_until };
                Ok((update, Self::Live { changes, complete_until }))
            }
        }
    }

    async fn read(
        changes: Receiver,
        mut snapshot: Box<Tx>,
        after: &Cursor,
        complete_until: UnixMs,
    ) -> Result<(Update, Self), FeedError> {
        let Page { rows: sections, next } =
            store::SECTIONS.page(&mut snapshot, after).await.map_err(FeedError::State)?;
        let update = Update { sections, snapshot_complete: next.is_none(), complete_until };
        Ok(match next {
            Some(after) => (update, Self::State { changes, snapshot, after, complete_until }),
            None => (update, Self::Live { changes, complete_until }),
        })
    }
}

/// Has the transaction send the sections that it changes to all replicas.
pub fn announce(tx: &mut Tx, world: &World) -> Result<(), DbError> {
    let changed: Vec<&Section> = world.sections.to_write().collect();
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
    let mut listening = Listening::begin(database).await?;
    feed.open();
    let database = database.clone();
    tasks.restarted("feed", move || {
        let (feed, database, shutdown) = (feed.clone(), database.clone(), shutdown.clone());
        let listening = listening.take();
        async move {
            let followed = async {
                if database.is_shared() {
                    follow_notifications(&feed, &database, listening).await;
                }
                // This process publishes what it commits, and no other one commits.
                feed.open_if_closed();
                loop {
                    tokio::time::sleep(HEARTBEAT).await;
                    feed.beat();
                }
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

/// The notifications of what the other replicas commit.
struct Listening {
    notifications: Notifications,
    /// Everything that was committed before this moment has been received, or is in any state that is read from now on.
    complete_until: UnixMs,
}

impl Listening {
    /// None where no other process can write.
    async fn begin(database: &Database) -> Result<Option<Self>, DbError> {
        let complete_until = time::now();
        let notifications = database.listen(CHANNEL).await?;
        Ok(notifications.map(|notifications| Self { notifications, complete_until }))
    }

    /// Publishes what is received, until something may have been missed. Returns why.
    async fn republish(mut self, feed: &Feed) -> String {
        loop {
            let changes = match self.notifications.receive().await {
                Ok(Some(Received::Complete(moment))) => {
                    self.complete_until = moment;
                    Vec::new()
                }
                Ok(Some(Received::Payload(payload))) => match serde_json::from_str(&payload) {
                    Ok(changes) => changes,
                    Err(error) => return format!("a notification can't be read: {error}"),
                },
                Ok(None) => return "the connection was closed".to_owned(),
                Err(error) => return telemetry::chain(&error),
            };
            feed.republish(changes, self.complete_until);
        }
    }
}

/// Follows the notifications, for ever. Without a connection that listens it opens one first.
async fn follow_notifications(feed: &Feed, database: &Database, mut listening: Option<Listening>) {
    loop {
        if let Some(listening) = listening.take() {
            let cause = listening.republish(feed).await;
            feed.close();
            tracing::warn!(cause, "the feed of seats has lost the database; watchers begin anew when it is back");
        } else {
            tracing::warn!("the feed of seats begins anew");
        }
        listening = loop {
            match Listening::begin(database).await {
                Ok(Some(again)) => break Some(again),
                Ok(None) | Err(_) => tokio::time::sleep(LISTEN_AGAIN_AFTER).await,
            }
        };
        feed.open();
    }
}

#[cfg(test)]
mod tests {
    use matricula_kit::id::SectionId;
    use matricula_kit::source::Source;

    use super::*;

    /// PostgreSQL takes payloads of less than 8,000 bytes.
    #[test]
    fn the_largest_sections_fit_a_notification() {
        let section = Section {
            // JSON escapes every character of it.
            id: SectionId::try_new("\\".repeat(128)).expect("an id"),
            capacity: i32::MAX,
            taken: i32::MAX,
            version: i64::MAX,
            changed_at: UnixMs(i64::MIN),
            closed_at: Some(UnixMs(i64::MIN)),
            capacity_set_at: Some(UnixMs(i64::MIN)),
            capacity_source: Some(Source::Bundle),
            bundle_capacity: Some(i32::MAX),
        };
        let payload = serde_json::to_string(&vec![section; SECTIONS_IN_NOTIFICATION]).expect("it is written");
        assert!((6_000..8_000).contains(&payload.len()), "{} bytes", payload.len());
    }
}
