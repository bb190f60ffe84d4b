//! Takes connections, as many as the limit allows. One too many is closed at once: whoever connects hears "no" instead
//! of waiting, and those who are connected keep what they have.

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::connection::{Admitted, Connection};
use super::limits::Limits;

/// How long to wait when the system can't give out another connection: until some are closed there is nothing to do.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Shortest time between two lines in the log about the same trouble.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The connections of a port, each within its limits.
pub(super) fn connections(
    listener: TcpListener,
    role: &'static str,
    protocol: &'static str,
    limits: Limits,
) -> impl Stream<Item = Result<Connection, Error>> {
    let port = Port {
        listener,
        places: Arc::new(Semaphore::new(limits.connections_max)),
        connected: metrics::gauge!("matricula_connections", "role" => role, "protocol" => protocol),
        refused: metrics::counter!("matricula_connections_refused_total", "role" => role, "protocol" => protocol),
        role,
        protocol,
        limits,
        log: RateLimitedLog::default(),
    };
    // Never ends by itself: what can go wrong with one connection says nothing of the next.
    Box::pin(stream::unfold(port, |mut port| async move {
        let connection = port.next().await;
        Some((Ok(connection), port))
    }))
}

struct Port {
    listener: TcpListener,
    places: Arc<Semaphore>,
    connected: metrics::Gauge,
    refused: metrics::Counter,
    role: &'static str,
    protocol: &'static str,
    limits: Limits,
    log: RateLimitedLog,
}

impl Port {
    async fn next(&mut self) -> Connection {
        let (role, protocol) = (self.role, self.protocol);
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match self.places.clone().try_acquire_owned() {
                    Ok(place) => {
                        // Answers are small and awaited; the socket works without it, too.
                        let _ = stream.set_nodelay(true);
                        return Connection::new(stream, Admitted::new(place, self.connected.clone()), &self.limits);
                    }
                    Err(_) => {
                        drop(stream);
                        self.refused.increment(1);
                        if let Some(count) = self.log.again() {
                            let limit = self.limits.connections_max;
                            tracing::warn!(
                                role,
                                protocol,
                                limit,
                                count,
                                "connections were refused: the port has as many as it takes"
                            );
                        }
                    }
                },
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if let Some(count) = self.log.again() {
                        tracing::warn!(role, protocol, %error, count, "no connection can be taken at present");
                    }
                    // The listener stays ready: without a pause this would take a whole core.
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// A connection that was gone before it was taken; anything else is about this process.
fn is_of_one_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// Counts what happens, and says when a log line is due.
#[derive(Default)]
struct RateLimitedLog {
    last: Option<Instant>,
    since: u64,
}

impl RateLimitedLog {
    /// It happened again: how often since the last log line, when a line is due.
    fn again(&mut self) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_is_logged_once_a_second() {
        let mut log = RateLimitedLog::default();
        assert_eq!((log.again(), log.again(), log.again()), (Some(1), None, None));
        tokio::time::advance(LOG_INTERVAL).await;
        assert_eq!((log.again(), log.again()), (Some(3), None));
    }
}
