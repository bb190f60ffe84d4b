//! Portals that show the line: streams of `WatchLine` on some connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use matricula_harness::{PATIENCE, Portals, is_retryable};
use matricula_proto::registration::v1::registration_service_client::RegistrationServiceClient;
use matricula_proto::registration::v1::{WatchLineRequest, WatchLineResponse};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Connections over which the streams are spread.
const CONNECTIONS: usize = 100;
/// Between two tries to reach an orchestrator that starts.
const PAUSE: Duration = Duration::from_millis(20);

/// Open streams; they end when this is dropped.
pub(super) struct Streams {
    pub(super) connections: usize,
    /// A task for each stream; it ends with the stream.
    following: JoinSet<()>,
    messages: Arc<AtomicU64>,
}

impl Streams {
    /// Opens this many, and returns when each had its first message.
    pub(super) async fn open(address: &str, count: usize) -> Self {
        let connections = CONNECTIONS.min(count);
        let portals = Portals::at((0..connections).map(|_| address));
        let mut opening = JoinSet::new();
        for connection in 0..connections {
            let channel = portals.channel(connection);
            // The streams that are left over are on the first connections.
            let number = count / connections + usize::from(connection < count % connections);
            opening.spawn(async move {
                let mut open = Vec::new();
                for _ in 0..number {
                    let (stream, _) = begin(&channel).await.expect("a stream begins with the line as it is");
                    open.push(stream);
                }
                open
            });
        }
        let opened = timeout(PATIENCE, opening.join_all()).await.expect("every stream has its first message");
        let messages = Arc::new(AtomicU64::new(0));
        let mut following = JoinSet::new();
        for stream in opened.into_iter().flatten() {
            following.spawn(follow(stream, messages.clone()));
        }
        assert_eq!(following.len(), count, "streams with a first message");
        Self { connections, following, messages }
    }

    /// Messages of all of them since the last call.
    pub(super) fn take_messages(&self) -> u64 {
        self.messages.swap(0, Ordering::Relaxed)
    }

    /// Streams that have ended.
    pub(super) fn ended(&mut self) -> usize {
        std::iter::from_fn(|| self.following.try_join_next()).count()
    }
}

/// The first message of a new stream. Waits for an orchestrator that has just been started.
pub(super) async fn line_now(portals: &Portals) -> WatchLineResponse {
    let asking = async {
        loop {
            match begin(&portals.channel(portals.turn())).await {
                Ok((_, line)) => return line,
                Err(status) => assert!(is_retryable(&status), "the line can be watched: {status:?}"),
            }
            sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, asking).await.expect("the line is shown")
}

/// Opens a stream and waits for its first message.
async fn begin(channel: &Channel) -> Result<(Streaming<WatchLineResponse>, WatchLineResponse), Status> {
    let answer = RegistrationServiceClient::new(channel.clone()).watch_line(WatchLineRequest {}).await?;
    let mut stream = answer.into_inner();
    let first = stream.message().await?;
    Ok((stream, first.ok_or_else(|| Status::unavailable("the stream ended before its first message"))?))
}

async fn follow(mut stream: Streaming<WatchLineResponse>, messages: Arc<AtomicU64>) {
    while let Ok(Some(_)) = stream.message().await {
        messages.fetch_add(1, Ordering::Relaxed);
    }
}
