//! The connections of a port: hyper serves them, and this module takes them and ends them. What they answer:
//!
//! - A client connects again and again: the port takes `connections_max`, and closes the next connection at once. The
//!   listeners of axum and tonic have no limit. The limit of tower makes clients wait, and they should try elsewhere.
//! - No file is left for a connection: axum's `Listener` logs it, waits for a second and tries again.
//! - A connection sends nothing, or a byte now and then: its first bytes must come within `opening`. hyper waits
//!   for the preface of HTTP/2 without a bound.
//! - The head of a request of HTTP/1 is never whole, or is huge: `header_read_timeout` and `max_buf_size` of hyper.
//! - HTTP/2 has huge headers, or streams without end, or streams that are reset at once: `max_header_list_size`,
//!   `max_concurrent_streams`, `max_pending_accept_reset_streams` and `max_local_error_reset_streams` of hyper.
//! - The peer is gone without a word: `keep_alive_interval` and `keep_alive_timeout` of hyper, by pings of HTTP/2.
//! - A connection takes nothing of what is sent to it: the writer of tokio-io-timeout ends it after `stall`.
//! - A call hangs when the server ends: the task of its connection is aborted with the task of the server.
//!
//! tonic's own server sets no bounds for HTTP/1, and its connections can't be ended.

use std::convert::Infallible;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use futures::FutureExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::ServiceExt as _;
use tower::util::BoxCloneService;

use super::limits::Limits;
use crate::tasks;

/// Concurrent requests on one connection; beyond it HTTP/2 holds the client back.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;
/// A connection that does not answer a ping within this time is gone, so that its streams are ended.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Largest sum of a request's headers: trace context, credentials for the proxy before, and room.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a client may open and reset before the server has looked at them, and resets that its faults may cause.
/// Beyond it the connection is closed, so that no client makes the server work for calls that are given up at once.
const RESETS_WAITING_MAX: usize = 20;
const RESETS_BY_FAULT_MAX: usize = 256;
/// Bytes with which every connection begins: the preface of HTTP/2, and less than any request of HTTP/1 that has a
/// host.
const OPENING_BYTES: usize = 24;
/// Shortest time between two log lines about connections that were refused.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What answers requests, of whatever layers it is made: hyper's code is compiled once for all of them.
pub(super) type Service = BoxCloneService<Request<Body>, Response<Body>, Infallible>;

/// HTTP/1 and HTTP/2 as every port speaks them. `head` is the time for the head of a request of HTTP/1. It is also the
/// time that a connection of HTTP/1 may be idle between two requests.
pub(super) fn http(head: Duration) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(HEADER_BYTES_MAX as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_WAITING_MAX)
        .max_local_error_reset_streams(RESETS_BY_FAULT_MAX);
    http
}

/// The connections of a port that are open. When this is dropped, they end.
pub(super) struct Connections {
    role: &'static str,
    http: Arc<Builder<TokioExecutor>>,
    service: Service,
    open: JoinSet<()>,
    ending: GracefulShutdown,
}

impl Connections {
    /// None yet.
    pub(super) fn new(role: &'static str, http: Builder<TokioExecutor>, service: Service) -> Self {
        Self { role, http: Arc::new(http), service, open: JoinSet::new(), ending: GracefulShutdown::new() }
    }

    /// Serves a connection once it is `opened`.
    pub(super) fn serve<C>(&mut self, opened: impl Future<Output = Option<C>> + Send + 'static)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (http, ending) = (self.http.clone(), self.ending.watcher());
        let service = self.service.clone().map_request(|request: Request<_>| request.map(Body::new));
        self.open.spawn(tasks::observed(self.role, "connection", async move {
            let Some(connection) = opened.await else { return };
            let serving = http.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service));
            if let Err(error) = ending.watch(serving).await {
                tracing::debug!(error, "a connection ended");
            }
        }));
    }

    /// Waits until one has ended; none if none is open.
    pub(super) async fn one_ended(&mut self) -> Option<()> {
        // A panic was reported where it happened.
        self.open.join_next().await.map(drop)
    }

    /// Lets the calls in flight finish, and no new one begin.
    pub(super) async fn end(self) {
        self.ending.shutdown().await;
    }
}

/// A port of TCP.
pub(super) struct Port {
    pub(super) role: &'static str,
    /// In metrics and in the log.
    pub(super) protocol: &'static str,
    pub(super) limits: Limits,
}

impl Port {
    /// Takes connections until `no_new_calls`; then waits until the calls in flight have finished.
    pub(super) async fn serve(
        self,
        mut listener: TcpListener,
        mut connections: Connections,
        no_new_calls: CancellationToken,
    ) {
        let (role, protocol, limits) = (self.role, self.protocol, self.limits);
        let open = metrics::gauge!("matricula_connections", "role" => role, "protocol" => protocol);
        let refused = metrics::counter!("matricula_connections_refused_total", "role" => role, "protocol" => protocol);
        let mut log = RateLimitedLog::default();
        loop {
            tokio::select! {
                // In this order: the place of a connection that has ended is free for the next.
                biased;
                () = no_new_calls.cancelled() => break,
                Some(()) = connections.one_ended() => {}
                (stream, _) = Listener::accept(&mut listener) => {
                    if connections.open.len() < limits.connections_max {
                        let opened = no_new_calls.clone().run_until_cancelled_owned(opened(stream, limits));
                        connections.serve(opened.map(Option::flatten));
                    } else {
                        drop(stream);
                        refused.increment(1);
                        log.refused(&self);
                    }
                }
            }
            open.set(connections.open.len() as f64);
        }
        drop(listener);
        connections.end().await;
        open.set(0.0);
    }
}

/// A connection whose first bytes have come; none if they do not come in time.
async fn opened(stream: TcpStream, limits: Limits) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send> {
    // Answers are small and awaited; the socket works without it, too.
    let _ = stream.set_nodelay(true);
    let (mut read, write) = stream.into_split();
    let mut opening = [0; OPENING_BYTES];
    tokio::time::timeout(limits.opening, read.read_exact(&mut opening)).await.ok()?.ok()?;
    let mut write = TimeoutWriter::new(write);
    write.set_timeout(Some(limits.stall));
    Some(tokio::io::join(Cursor::new(opening).chain(read), Box::pin(write)))
}

/// Counts the connections that are refused, and logs them once in a while.
#[derive(Default)]
struct RateLimitedLog {
    last: Option<Instant>,
    since: u64,
}

impl RateLimitedLog {
    fn refused(&mut self, port: &Port) {
        if let Some(count) = self.again() {
            let Port { role, protocol, limits: Limits { connections_max: limit, .. } } = port;
            tracing::warn!(role, protocol, limit, count, "connections were refused: the port has as many as it takes");
        }
    }

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
