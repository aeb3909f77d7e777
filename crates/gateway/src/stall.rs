//! A connection that does not wait for ever for a peer that does not read.
//!
//! Decides one thing: a connection to which nothing could be written for [`STALL_TIMEOUT`] is broken.
//! Reading is left to HTTP, which has a deadline for request heads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Time within which a client that is behind has to take [`MIN_PROGRESS`].
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What counts as progress, in bytes: less than the slowest programme, more than the trickle of a
/// client that only wants to hold its place.
const MIN_PROGRESS: usize = 16 << 10;

/// A stream whose writes fail once its peer has stalled.
#[derive(Debug)]
pub(crate) struct StallGuard<S> {
    inner: S,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Written since the deadline was set.
    written: usize,
}

impl<S> StallGuard<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self { inner, deadline: None, written: 0 }
    }

    /// Passes on what a write gave, and keeps the deadline.
    fn check(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(count)) => {
                self.written = self.written.saturating_add(count);
                if self.written >= MIN_PROGRESS {
                    self.deadline = None;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let written = &mut self.written;
                let deadline = self.deadline.get_or_insert_with(|| {
                    *written = 0;
                    Box::pin(sleep_until(Instant::now() + STALL_TIMEOUT))
                });
                ready!(deadline.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.check(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.check(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(context);
        // HTTP flushes once all it had is written: the client is not behind.
        if result.is_ready() {
            self.deadline = None;
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_breaks_the_connection() {
        let (near, _far) = duplex(1024);
        let start = Instant::now();
        let error = StallGuard::new(near).write_all(&[0; 100_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), STALL_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_no_progress() {
        let (near, mut far) = duplex(1024);
        let reader = tokio::spawn(async move {
            while far.read_exact(&mut [0; 100]).await.is_ok() {
                sleep(Duration::from_secs(5)).await;
            }
        });
        let error = StallGuard::new(near).write_all(&[0; 100_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_and_a_long_silence_are_borne() {
        let (near, mut far) = duplex(32 << 10);
        let mut near = StallGuard::new(near);
        let reader = tokio::spawn(async move {
            let mut total = 0;
            while far.read_exact(&mut [0; 20_000]).await.is_ok() {
                total += 20_000;
                sleep(Duration::from_secs(20)).await;
            }
            total
        });
        for _ in 0..3 {
            near.write_all(&[0; 200_000]).await.unwrap();
            near.flush().await.unwrap();
            sleep(STALL_TIMEOUT * 10).await;
        }
        drop(near);
        assert_eq!(reader.await.unwrap(), 600_000);
    }
}
