//! A connection that can be cut from outside: at the end of the time for calls in flight, what still hangs on it ends
//! with it, so that what those calls hold (a writer, a snapshot of the database) is given back in time.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// The cut of all connections of a role.
#[derive(Clone, Default)]
pub(super) struct Cut {
    token: CancellationToken,
    /// Set before the token: it is looked at with every read and write, and costs no lock.
    is_made: Arc<AtomicBool>,
}

impl Cut {
    pub(super) fn make(&self) {
        self.is_made.store(true, Ordering::Release);
        self.token.cancel();
    }
}

/// A connection until the cut.
pub(super) struct Severable<S> {
    stream: S,
    is_cut: Arc<AtomicBool>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The task that the cut wakes.
    waker: Option<Waker>,
}

impl<S> Severable<S> {
    pub(super) fn new(stream: S, cut: Cut) -> Self {
        Self { stream, is_cut: cut.is_made, cut: Box::pin(cut.token.cancelled_owned()), waker: None }
    }

    /// Fails after the cut. A server waits for a read or for a write: both notice it.
    fn whole(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            let _ = self.cut.as_mut().poll(cx);
        }
        if self.is_cut.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::ConnectionAborted, "the time for calls in flight is over"));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Severable<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.whole(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Severable<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.whole(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.whole(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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

impl<S: Connected> Connected for Severable<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}
