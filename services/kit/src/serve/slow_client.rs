//! The limits for slow clients, around all services of a port.
//!
//! ```text
//! request body --> RequestBodyGuard: counts bytes, times the next frame --> handler
//! client <-- one frame ahead <-- pump task: times the reader <-- stream of the handler
//! ```
//!
//! The attacks, and why no library answers them:
//!
//! - A client begins a request and sends nothing more of it. `RequestBodyTimeoutLayer` of tower-http registers a timer
//!   for every frame of every call. `RequestBodyGuard` registers one only when it has to wait.
//! - Many clients begin requests, each within the limit of one message: all that are arriving fit `arriving_bytes_max`.
//!   `RequestBodyLimitLayer` counts the bytes of each request alone.
//! - A reader takes nothing of its stream: the stream is ended after `stall`, and gives back what it holds, such as a
//!   snapshot of the database. `ResponseBodyTimeoutLayer` times the handler; hyper waits for a reader without a bound.
//! - Clients export ledgers again and again: a port exports two at a time. `ConcurrencyLimitLayer` of tower gives its
//!   permit back with the head of an answer, and a ledger is read after it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Context, Poll};
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::{BoxFuture, Either, ready};
use futures::{FutureExt as _, StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::codegen::{Bytes, http};
use tonic::{Code, Status};
use tower::Service;

use super::limits::Limits;
use crate::methods::METHODS;
use crate::{status, tasks};

/// When to come back while too much is arriving, or while others export.
const RETRY_BUSY: Duration = Duration::from_secs(1);
/// Ledgers that a port exports at once. Each holds a snapshot: a connection of the few that read, and on SQLite what
/// was written since can't be folded into the file. An audit reads one.
const EXPORTS_MAX: usize = 2;
/// Every service has its ledger under this name.
const EXPORT: &str = "/ExportLedger";

/// The limits for slow clients of one port, around all its services.
#[derive(Clone)]
pub(super) struct SlowClientLimits {
    arriving: Arc<Budget>,
    exports: Arc<Semaphore>,
    stall: Duration,
}

/// Memory for what is arriving.
struct Budget {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// A service behind these limits.
#[derive(Clone)]
pub(super) struct SlowClientService<S> {
    inner: S,
    limits: SlowClientLimits,
}

impl SlowClientLimits {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            arriving: Arc::new(Budget { bytes: AtomicUsize::new(0), bytes_max: limits.arriving_bytes_max }),
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            stall: limits.stall,
        }
    }

    /// A service behind these limits.
    pub(super) fn around<S>(&self, inner: S) -> SlowClientService<S> {
        SlowClientService { inner, limits: self.clone() }
    }

    /// The request, watched as it arrives.
    fn with_request(&self, request: http::Request<Body>) -> http::Request<Body> {
        request.map(|body| {
            let budget = self.arriving.clone();
            Body::new(RequestBodyGuard { body, budget, bytes: 0, stall: self.stall, waiting: None })
        })
    }

    /// A stream, watched as it is read.
    fn with_stream(self, response: http::Response<Body>, export: Option<OwnedSemaphorePermit>) -> http::Response<Body> {
        response.map(|body| {
            // Each sender has a place of its own, so there is room for one frame. A channel of tokio reserves memory
            // for 32 frames, and tens of thousands of streams wait for one frame each.
            let (frames, waiting) = mpsc::channel(0);
            let (mut end, ended) = oneshot::channel();
            tasks::detached("stream", async move {
                tokio::select! {
                    ended = pump(body, frames, self.stall) => {
                        // The reader may be gone.
                        let _ = end.send(ended);
                    }
                    () = end.closed() => {}
                }
                drop(export);
            });
            let last = stream::once(last_frame(ended)).filter_map(ready);
            Body::new(StreamBody::new(waiting.chain(last)))
        })
    }
}

impl<S> Service<http::Request<Body>> for SlowClientService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if METHODS.get(path) != Some(&true) {
            return Either::Left(self.inner.call(self.limits.with_request(request)));
        }
        let export = path.ends_with(EXPORT).then(|| self.limits.exports.clone().try_acquire_owned());
        let Ok(export) = export.transpose() else {
            let message = format!("{EXPORTS_MAX} ledgers are being exported");
            let refused = status::retry(Code::ResourceExhausted, "TOO_MANY_EXPORTS", message, RETRY_BUSY);
            return Either::Right(ready(Ok(refused.into_http())).boxed());
        };
        let limits = self.limits.clone();
        let answering = self.inner.call(self.limits.with_request(request));
        let answering = answering.map(|answer| answer.map(|response| limits.with_stream(response, export)));
        Either::Right(answering.boxed())
    }
}

/// The body of a request.
struct RequestBodyGuard {
    body: Body,
    budget: Arc<Budget>,
    /// What it has taken of the budget.
    bytes: usize,
    stall: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for RequestBodyGuard {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let stall = self.stall;
                let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
                task::ready!(waiting.as_mut().poll(cx));
                let message = format!("nothing more of the request came for {} ms", stall.as_millis());
                return Poll::Ready(Some(Err(status::error(Code::DeadlineExceeded, "REQUEST_STALLED", message))));
            }
        };
        self.waiting = None;
        let count = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        self.bytes += count;
        if self.budget.bytes.fetch_add(count, Ordering::Relaxed) + count > self.budget.bytes_max {
            let message = "more requests are arriving than there is memory for";
            let refused = status::retry(Code::ResourceExhausted, "TOO_MUCH_ARRIVING", message, RETRY_BUSY);
            return Poll::Ready(Some(Err(refused)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBodyGuard {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Takes frames from the handler's stream to its reader, until either ends. An error if the reader stalls.
async fn pump(
    mut body: Body,
    mut frames: mpsc::Sender<Result<Frame<Bytes>, Status>>,
    stall: Duration,
) -> Result<(), Status> {
    while let Some(frame) = body.frame().await {
        let has_room = poll_fn(|cx| frames.poll_ready(cx));
        match tokio::time::timeout(stall, has_room).await.map(|room| room.and_then(|()| frames.start_send(frame))) {
            Ok(Ok(())) => {}
            // The reader is gone.
            Ok(Err(_)) => break,
            Err(_) => {
                metrics::counter!("matricula_readers_stalled_total").increment(1);
                let message = "the stream was ended because its reader took nothing for too long; begin again";
                return Err(status::error(Code::DeadlineExceeded, "READER_STALLED", message));
            }
        }
    }
    Ok(())
}

/// The trailers of a stream that did not end by itself. Without them a reader would take what it has for all there is.
async fn last_frame(ended: oneshot::Receiver<Result<(), Status>>) -> Option<Result<Frame<Bytes>, Status>> {
    let status = match ended.await {
        Ok(Ok(())) => return None,
        Ok(Err(status)) => status,
        // The handler has panicked.
        Err(_) => {
            let message = "the stream broke off; the log of the service has the cause";
            status::error(Code::Internal, "STREAM_BROKEN", message)
        }
    };
    let mut trailers = http::HeaderMap::new();
    Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
}

#[cfg(test)]
mod tests {
    use tonic::codegen::http::{Request, Response};
    use tower::service_fn;

    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    /// A stream without end that shows whether it lives.
    struct Endless {
        _alive: Arc<()>,
    }

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
        }
    }

    /// Requests a stream; it holds `alive` as long as it lives.
    async fn request(limits: &SlowClientLimits, path: &str, alive: &Arc<()>) -> Response<Body> {
        let alive = alive.clone();
        let inner = service_fn(move |_: Request<Body>| {
            let body = Body::new(Endless { _alive: alive.clone() });
            async move { Ok::<_, Status>(Response::new(body)) }
        });
        let request = Request::post(path).body(Body::empty()).expect("a request");
        limits.around(inner).call(request).await.expect("an answer")
    }

    fn limits() -> SlowClientLimits {
        SlowClientLimits::new(&Limits { stall: STALL, ..Limits::default() })
    }

    const LEDGER: &str = "/matricula.seats.v1.SeatService/ExportLedger";

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_gives_back_what_it_holds() {
        let (limits, alive) = (limits(), Arc::new(()));
        let mut body = request(&limits, LEDGER, &alive).await.into_body();
        // A slow reader is no stalled one.
        for _ in 0..5 {
            tokio::time::sleep(STALL / 2).await;
            let frame = body.frame().await;
            assert!(frame.expect("more").expect("a frame").is_data());
        }
        assert!(Arc::strong_count(&alive) > 1, "the stream lives");
        tokio::time::sleep(STALL * 2).await;
        assert_eq!(Arc::strong_count(&alive), 1, "the stream is given up");
        // When it reads again, it gets the reason why there is no more.
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            trailers = frame.expect("a frame").into_trailers().ok();
        }
        let status = Status::from_header_map(&trailers.expect("trailers")).expect("a status");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_leaves_ends_the_stream() {
        let (limits, alive) = (limits(), Arc::new(()));
        drop(request(&limits, LEDGER, &alive).await);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    /// A stream that breaks in the middle.
    struct Broken(bool);

    impl http_body::Body for Broken {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            assert!(!std::mem::replace(&mut self.0, true), "the second entry can't be read");
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"entry")))))
        }
    }

    /// A part of a ledger must not look like all of it.
    #[tokio::test]
    async fn a_stream_that_panics_ends_with_an_error() {
        let inner = service_fn(|_: Request<Body>| async { Ok::<_, Status>(Response::new(Body::new(Broken(false)))) });
        let request = Request::post(LEDGER).body(Body::empty()).expect("a request");
        let answer = limits().around(inner).call(request).await.expect("an answer");
        let mut body = answer.into_body();
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.expect("a frame"));
        }
        let trailers = frames.pop().expect("trailers").into_trailers().expect("trailers");
        assert_eq!(frames.len(), 1);
        let status = Status::from_header_map(&trailers).expect("a status");
        assert_eq!(status.code(), Code::Internal, "{status:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn two_ledgers_are_exported_at_once() {
        let (limits, alive) = (limits(), Arc::new(()));
        let kept = [request(&limits, LEDGER, &alive).await, request(&limits, LEDGER, &alive).await];
        let third = request(&limits, LEDGER, &alive).await;
        let status = Status::from_header_map(third.headers()).expect("a status");
        assert_eq!(status.code(), Code::ResourceExhausted);
        // Other streams are no ledgers.
        let watch = request(&limits, "/matricula.seats.v1.SeatService/WatchSeats", &alive).await;
        assert!(Status::from_header_map(watch.headers()).is_none());
        drop(kept);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let fourth = request(&limits, LEDGER, &alive).await;
        assert!(Status::from_header_map(fourth.headers()).is_none());
    }
}
