//! A client that watches seats: first it gets the state, then the changes since the message before.
//!
//! Promises: the next message is made when the client can take it, from the state of that moment. A slow client misses
//! intermediate versions, but never the last version or the removal of a section, and costs no memory. `as_of` is a
//! moment up to which the client has everything; of changes in several messages only the last message moves it.

use std::sync::Arc;
use std::time::Duration;

use matricula_kit::id::SectionId;
use matricula_kit::status;
use matricula_kit::time::UnixMs;
use matricula_proto::catalog::v1::WatchAvailabilityResponse;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::availability::{AvailabilityCache, Cursor, Freshness};
use crate::shutting_down;

/// Shortest time between two reads of the cache: no person reads faster, and thousands of clients stay cheap while
/// thousands of seats change a second. A change after a silence is sent at once.
const READ_INTERVAL: Duration = Duration::from_millis(100);

/// The watch of one client.
pub(super) struct Watch {
    cache: Arc<AvailabilityCache>,
    /// None: all sections.
    of: Option<Vec<SectionId>>,
    changed: watch::Receiver<()>,
    shutdown: CancellationToken,
    /// The position of the client; none before the feed has begun.
    cursor: Option<Cursor>,
    /// Whether the last message said that the feed is live; none before the first message.
    sent_live: Option<bool>,
    /// Up to when the client has everything; none before it has the whole state.
    as_of: Option<UnixMs>,
    has_more: bool,
    read_at: Instant,
}

impl Watch {
    pub(super) fn new(cache: Arc<AvailabilityCache>, of: Option<Vec<SectionId>>, shutdown: CancellationToken) -> Self {
        let changed = cache.subscribe();
        let (cursor, sent_live, as_of, read_at) = (None, None, None, Instant::now());
        Self { cache, of, changed, shutdown, cursor, sent_live, as_of, has_more: false, read_at }
    }

    /// The next message; an error when the process shuts down, or when the client has to begin anew.
    pub(super) async fn next(&mut self) -> Result<WatchAvailabilityResponse, Status> {
        loop {
            if self.sent_live.is_some() && !self.has_more {
                self.wait_for_change().await?;
            }
            if let Some(response) = self.changes()? {
                return Ok(response);
            }
        }
    }

    async fn wait_for_change(&mut self) -> Result<(), Status> {
        let changing = async {
            let changed = self.changed.changed().await;
            tokio::time::sleep_until(self.read_at + READ_INTERVAL).await;
            changed
        };
        match self.shutdown.run_until_cancelled(changing).await {
            Some(Ok(())) => Ok(()),
            // The cache lives as long as this watch: only the shutdown comes here.
            Some(Err(_)) | None => Err(shutting_down()),
        }
    }

    /// A message with the changes, if there are any.
    fn changes(&mut self) -> Result<Option<WatchAvailabilityResponse>, Status> {
        // A change from here on wakes the next wait.
        self.changed.mark_unchanged();
        self.read_at = Instant::now();
        let changes = self.cache.since(self.cursor, self.of.as_deref()).ok_or_else(too_slow)?;
        let live = changes.freshness.live;
        let live_has_changed = self.sent_live.replace(live) != Some(live);
        let snapshot_complete = self.as_of.is_none() && changes.cursor.is_some() && !changes.has_more;
        if !changes.has_more {
            self.as_of = changes.freshness.as_of;
        }
        (self.cursor, self.has_more) = (changes.cursor, changes.has_more);
        let is_empty = changes.sections.is_empty() && changes.unknown.is_empty();
        Ok((live_has_changed || snapshot_complete || !is_empty).then(|| WatchAvailabilityResponse {
            sections: changes.sections,
            freshness: Some(Freshness { as_of: self.as_of, live }.to_wire()),
            unknown_section_ids: changes.unknown,
            snapshot_complete,
        }))
    }
}

fn too_slow() -> Status {
    let message = "more sections were removed than are kept for a slow watch; watch again";
    status::error(Code::DataLoss, "WATCH_LAGGED", message)
}

#[cfg(test)]
mod tests;
