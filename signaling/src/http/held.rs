//! A connection as HTTP is served on it, for as long as it lives.
//!
//! In: a stream, and what is held meanwhile. Out: the same stream, which fails once its client has read
//! nothing for too long, or has sent more than it may. A WebSocket that comes of it goes on with it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may read nothing at all of what waits for it: as long as it may say nothing.
pub(super) const MAX_STALL: Duration = Duration::from_secs(30);

/// How many bytes of a connection may still be read: any number, unless it is limited.
#[derive(Debug)]
pub(crate) struct Allowance(AtomicU64);

impl Default for Allowance {
    fn default() -> Self {
        Allowance(AtomicU64::new(u64::MAX))
    }
}

impl Allowance {
    /// So many from now on, and then the connection fails.
    pub(crate) fn limit(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn lift(&self) {
        self.limit(u64::MAX);
    }

    /// Whether that many bytes may be read, which then have been.
    fn take(&self, bytes: usize) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left == u64::MAX {
            return true;
        }
        let Some(rest) = left.checked_sub(bytes as u64) else {
            return false;
        };
        // Whoever has changed it meanwhile knows better.
        let _ = self
            .0
            .compare_exchange(left, rest, Ordering::Relaxed, Ordering::Relaxed);
        true
    }
}

/// Why a connection has failed that has sent more than it may.
#[derive(Debug, thiserror::Error)]
#[error("more came before `hello` than may")]
pub(crate) struct TooMuch;

/// A stream, and what is dropped with it.
#[derive(Debug)]
pub(super) struct Held<S, P> {
    stream: S,
    allowance: Arc<Allowance>,
    _place: P,
    /// Until when the client has to read something.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S, P> Held<S, P> {
    pub(super) fn new(stream: S, allowance: Arc<Allowance>, place: P) -> Self {
        Held {
            stream,
            allowance,
            _place: place,
            stalled: None,
        }
    }

    /// Waits no longer than it may.
    fn patiently<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(MAX_STALL)));
        match stalled.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let error = "the client does not read what it is sent";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, error)))
            }
        }
    }
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for Held<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if read.is_ready() && !self.allowance.take(bytes) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, TooMuch)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for Held<S, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patiently(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.patiently(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.patiently(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.patiently(context, shut)
    }
}
