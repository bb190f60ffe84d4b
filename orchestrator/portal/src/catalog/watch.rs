//! One client that watches seats: the state first, then what has changed since the message before.
//!
//! Promises: the next message is made when the client can take it, from what holds then; a slow client misses
//! intermediate versions, never the last one, and costs no memory.

use std::sync::Arc;
use std::time::Duration;

use matricula_kit::id::SectionId;
use matricula_proto::catalog::v1::WatchAvailabilityResponse;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::availability::Board;
use crate::shutting_down;

/// Shortest time between two looks at the board: nobody reads faster, and thousands of clients stay cheap while
/// thousands of seats go a second. A change after a silence is told at once.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The watch of one client.
pub(super) struct Watch {
    board: Arc<Board>,
    /// None: all sections.
    of: Option<Vec<SectionId>>,
    changed: watch::Receiver<()>,
    shutdown: CancellationToken,
    /// What the client knows: the revision, and whether it was told that the feed is live. None before the first look.
    told: Option<(u64, bool)>,
    has_more: bool,
    looked_at: Instant,
}

impl Watch {
    pub(super) fn new(board: Arc<Board>, of: Option<Vec<SectionId>>, shutdown: CancellationToken) -> Self {
        let changed = board.subscribe();
        Self { board, of, changed, shutdown, told: None, has_more: false, looked_at: Instant::now() }
    }

    /// The next message; an error when the process shuts down.
    pub(super) async fn next(&mut self) -> Result<WatchAvailabilityResponse, Status> {
        loop {
            if self.told.is_some() && !self.has_more {
                self.wait_for_change().await?;
            }
            if let Some(response) = self.look() {
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
            // The board lives as long as this watch: only the shutdown comes here.
            Some(Err(_)) | None => Err(shutting_down()),
        }
    }

    /// What the client does not know yet, if there is anything.
    fn look(&mut self) -> Option<WatchAvailabilityResponse> {
        // What changes from here on wakes the next wait.
        self.changed.mark_unchanged();
        self.looked_at = Instant::now();
        let revision = self.told.map_or(0, |(revision, _)| revision);
        let changes = self.board.since(revision, self.of.as_deref());
        let is_news = self.told.is_none_or(|(_, live)| live != changes.freshness.live);
        self.told = Some((changes.revision, changes.freshness.live));
        self.has_more = changes.has_more;
        (is_news || !changes.sections.is_empty()).then(|| WatchAvailabilityResponse {
            sections: changes.sections,
            freshness: Some(changes.freshness.to_wire()),
        })
    }
}

#[cfg(test)]
mod tests;
