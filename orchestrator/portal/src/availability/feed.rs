//! Follows the seat service and keeps the cache up to date.
//!
//! ```text
//! connect --> snapshot, built aside --> cache.replace --> changes, heartbeats --> cache.apply
//!    ^                                                          |
//!    +------ backoff <------ cache.lose <------ error, end, silence or too far behind
//! ```

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use matricula_kit::id::SectionId;
use matricula_kit::tasks::{Tasks, pauses};
use matricula_kit::telemetry;
use matricula_kit::time::UnixMs;
use matricula_proto::seats::v1::seat_service_client::SeatServiceClient;
use matricula_proto::seats::v1::{WatchSeatsRequest, WatchSeatsResponse};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use super::{AvailabilityCache, SILENCE_MAX, Seats};

/// Largest message of the feed; the seat service sends thousands of sections in one.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest pause in the snapshot. Nothing is live meanwhile, and a service that has just started is busy.
const OPENING_MAX: Duration = Duration::from_secs(3);
/// How long the messages may be too old to count as live. After that a new snapshot is quicker than the messages on
/// their way.
const BEHIND_MAX: Duration = Duration::from_secs(3);
/// First and longest delay before the next connection: quick after a restart, and never a burden.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Why the feed was lost.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("it failed")]
    Failed(#[source] Box<Status>),
    #[error("it ended")]
    Ended,
    #[error("it was silent for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("its messages were too old for {} ms", .0.as_millis())]
    Behind(Duration),
}

/// Follows the feed until `shutdown`, and again after a failure: the next snapshot has everything.
pub(crate) fn start(cache: Arc<AvailabilityCache>, seats: Channel, shutdown: CancellationToken, tasks: &Tasks) {
    tasks.restarted("availability", move || {
        let (cache, seats, shutdown) = (cache.clone(), seats.clone(), shutdown.clone());
        async move { run(&cache, seats, shutdown).await }
    });
}

struct LostOnDrop<'a>(&'a AvailabilityCache);

impl Drop for LostOnDrop<'_> {
    fn drop(&mut self) {
        self.0.lose();
        metrics::gauge!("matricula_availability_live").set(0.0);
    }
}

async fn run(cache: &AvailabilityCache, seats: Channel, shutdown: CancellationToken) {
    let following = async {
        let mut delays = pauses(RETRY_FIRST, RETRY_MAX);
        loop {
            // If the task panics, nothing is live until it is started again.
            let until_lost = LostOnDrop(cache);
            let lost = match open(cache, seats.clone()).await {
                Ok(stream) => {
                    tracing::info!("the feed of seats is live");
                    metrics::gauge!("matricula_availability_live").set(1.0);
                    delays = pauses(RETRY_FIRST, RETRY_MAX);
                    follow(cache, stream).await
                }
                Err(lost) => lost,
            };
            drop(until_lost);
            tracing::warn!(error = telemetry::chain(&lost), "the feed of seats is lost; availability is not live");
            tokio::time::sleep(delays.next().unwrap_or(RETRY_MAX)).await;
        }
    };
    shutdown.run_until_cancelled(following).await;
}

/// Opens the feed and takes its snapshot.
async fn open(cache: &AvailabilityCache, seats: Channel) -> Result<tonic::Streaming<WatchSeatsResponse>, Lost> {
    let mut client = SeatServiceClient::new(seats).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let opened = within(client.watch_seats(WatchSeatsRequest {}), OPENING_MAX).await?;
    let mut stream = opened.into_inner();
    let mut snapshot: HashMap<SectionId, Seats> = HashMap::new();
    let mut first = None;
    loop {
        let message = next(&mut stream, OPENING_MAX).await?;
        // Commits during the snapshot come after it, so the snapshot is as old as its first part.
        let (as_of, received) = *first.get_or_insert_with(|| (sent_at(&message), Instant::now()));
        for (id, seats) in message.sections.into_iter().map(Seats::from_wire) {
            if snapshot.get(&id).is_none_or(|known| known.version < seats.version) {
                snapshot.insert(id, seats);
            }
        }
        if message.snapshot_complete {
            cache.replace(snapshot, as_of, received);
            return Ok(stream);
        }
    }
}

/// Takes changes until the feed is lost.
async fn follow(cache: &AvailabilityCache, mut stream: tonic::Streaming<WatchSeatsResponse>) -> Lost {
    let mut behind_since = None;
    loop {
        let message = match next(&mut stream, SILENCE_MAX).await {
            Ok(message) => message,
            Err(lost) => return lost,
        };
        let sent_at = sent_at(&message);
        let freshness = cache.apply(message.sections.into_iter().map(Seats::from_wire).collect(), sent_at);
        if freshness.live {
            behind_since = None;
        } else if behind_since.get_or_insert_with(Instant::now).elapsed() > BEHIND_MAX {
            return Lost::Behind(BEHIND_MAX);
        }
    }
}

async fn next(
    stream: &mut tonic::Streaming<WatchSeatsResponse>,
    silence_max: Duration,
) -> Result<WatchSeatsResponse, Lost> {
    within(stream.message(), silence_max).await?.ok_or(Lost::Ended)
}

/// Waits for the service, but not longer than it may be silent.
async fn within<T>(answer: impl Future<Output = Result<T, Status>>, silence_max: Duration) -> Result<T, Lost> {
    let answer = tokio::time::timeout(silence_max, answer).await.map_err(|_| Lost::Silent(silence_max))?;
    answer.map_err(|status| Lost::Failed(Box::new(status)))
}

fn sent_at(message: &WatchSeatsResponse) -> Option<UnixMs> {
    message.sent_at.as_ref().and_then(UnixMs::from_wire)
}
