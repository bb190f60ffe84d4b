//! One connection of an outsider: it holds its place, and gives it back when the other side says nothing at the
//! beginning, or takes nothing of what is sent to it.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::limits::Limits;

/// Bytes with which every connection begins: the preface of HTTP/2, and less than any request of HTTP/1 that has a
/// host. What comes after it is watched by the HTTP server: headers of HTTP/1 have a time limit, HTTP/2 answers pings.
const OPENING_BYTES: usize = 24;

/// A place among the connections of a port.
pub(super) struct Admitted {
    _place: OwnedSemaphorePermit,
    connected: metrics::Gauge,
}

impl Admitted {
    pub(super) fn new(place: OwnedSemaphorePermit, connected: metrics::Gauge) -> Self {
        connected.increment(1.0);
        Self { _place: place, connected }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connected.decrement(1.0);
    }
}

/// A connection within its limits.
pub(super) struct Connection {
    stream: TcpStream,
    opening: Option<Opening>,
    stall: Duration,
    /// Runs while the other side takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    _admitted: Admitted,
}

/// What has yet to come of the beginning.
struct Opening {
    bytes_missing: usize,
    until: Pin<Box<Sleep>>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, admitted: Admitted, limits: &Limits) -> Self {
        let until = Box::pin(tokio::time::sleep(limits.opening));
        let opening = Some(Opening { bytes_missing: OPENING_BYTES, until });
        Self { stream, opening, stall: limits.stall, stalled: None, _admitted: admitted }
    }

    /// Lets a write wait, but not for ever.
    fn patiently<T>(&mut self, cx: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the other side takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let Some(opening) = &mut self.opening else { return read };
        opening.bytes_missing = opening.bytes_missing.saturating_sub(buffer.filled().len() - before);
        if opening.bytes_missing == 0 {
            self.opening = None;
        } else if opening.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the other side does not begin")));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.patiently(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.patiently(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}
