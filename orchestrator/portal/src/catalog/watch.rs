//! One client that watches seats: the state first, then what has changed since the message before.
//!
//! Promises: the next message is made when the client can take it, from what holds then; a slow client misses
//! intermediate versions, never the last one nor that a section is gone, and costs no memory. `as_of` is a moment up to
//! which the client has everything, so what comes in several messages has it in the last of them.

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

/// Shortest time between two looks at the cache: nobody reads faster, and thousands of clients stay cheap while
/// thousands of seats go a second. A change after a silence is told at once.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The watch of one client.
pub(super) struct Watch {
    cache: Arc<AvailabilityCache>,
    /// None: all sections.
    of: Option<Vec<SectionId>>,
    changed: watch::Receiver<()>,
    shutdown: CancellationToken,
    /// What the client has; none before the feed has begun.
    cursor: Option<Cursor>,
    /// Whether the client was told that the feed is live; none before the first look.
    told_live: Option<bool>,
    /// Up to when the client has everything; none before it has the whole state.
    as_of: Option<UnixMs>,
    has_more: bool,
    looked_at: Instant,
}

impl Watch {
    pub(super) fn new(cache: Arc<AvailabilityCache>, of: Option<Vec<SectionId>>, shutdown: CancellationToken) -> Self {
        let changed = cache.subscribe();
        let (cursor, told_live, as_of, looked_at) = (None, None, None, Instant::now());
        Self { cache, of, changed, shutdown, cursor, told_live, as_of, has_more: false, looked_at }
    }

    /// The next message; an error when the process shuts down, or when the client has to begin anew.
    pub(super) async fn next(&mut self) -> Result<WatchAvailabilityResponse, Status> {
        loop {
            if self.told_live.is_some() && !self.has_more {
                self.wait_for_change().await?;
            }
            if let Some(response) = self.look()? {
                return Ok(response);
            }
        }
    }

    async fn wait_for_change(&mut self) -> Result<(), Status> {
        let changing = async {
            let changed = self.changed.changed().await;
            tokio::time::sleep_until(self.looked_at + LOOK_INTERVAL).await;
            changed
        };
        match self.shutdown.run_until_cancelled(changing).await {
            Some(Ok(())) => Ok(()),
            // The cache lives as long as this watch: only the shutdown comes here.
            Some(Err(_)) | None => Err(shutting_down()),
        }
    }

    /// What the client does not know yet, if there is anything.
    fn look(&mut self) -> Result<Option<WatchAvailabilityResponse>, Status> {
        // What changes from here on wakes the next wait.
        self.changed.mark_unchanged();
        self.looked_at = Instant::now();
        let changes = self.cache.since(self.cursor, self.of.as_deref()).ok_or_else(too_slow)?;
        let live = changes.freshness.live;
        let is_news = self.told_live.replace(live) != Some(live);
        let snapshot_complete = self.as_of.is_none() && changes.cursor.is_some() && !changes.has_more;
        if !changes.has_more {
            self.as_of = changes.freshness.as_of;
        }
        (self.cursor, self.has_more) = (changes.cursor, changes.has_more);
        let is_empty = changes.sections.is_empty() && changes.unknown.is_empty();
        Ok((is_news || snapshot_complete || !is_empty).then(|| WatchAvailabilityResponse {
            sections: changes.sections,
            freshness: Some(Freshness { as_of: self.as_of, live }.to_wire()),
            unknown_section_ids: changes.unknown,
            snapshot_complete,
        }))
    }
}

fn too_slow() -> Status {
    let message = "more sections were removed than the server remembers for a slow watch; watch again";
    status::error(Code::DataLoss, "WATCH_LAGGED", message)
}

#[cfg(test)]
mod tests;
