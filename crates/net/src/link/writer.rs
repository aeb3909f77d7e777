//! Writes the frames of one lane to its outbound substream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::AsyncWrite;
use libp2p::swarm::Stream;
use tokio::time::Instant;

use super::queue::SendQueue;
use super::{Counters, Lane};

/// Most frames written before the other lane and the readers have their turn.
const FRAME_BUDGET: usize = 64;

/// Bytes of frames that are gathered and written in one go, as much as yamux does not cut. Writing
/// head and payload where they lie saves this copy and costs more: every write becomes a frame of
/// its own in yamux and an allocation in QUIC. Measured, nine peers at 10 Mbit/s, CPU-s per GB:
/// 5.7 for 9.7 over TCP, 8.7 for 9.4 over QUIC.
const STAGE: usize = 16 * 1024;

/// The sending half of a lane.
#[derive(Debug)]
pub(crate) struct Writer {
    lane: Lane,
    substream: Substream,
    /// Frames on their way.
    staged: Vec<u8>,
    /// Bytes of `staged` that are written.
    offset: usize,
    needs_flush: bool,
}

#[derive(Debug)]
enum Substream {
    /// Nothing was to be sent so far.
    Unopened,
    Opening,
    Open(Stream),
}

impl Writer {
    pub(crate) const fn new(lane: Lane) -> Self {
        Self {
            lane,
            substream: Substream::Unopened,
            staged: Vec::new(),
            offset: 0,
            needs_flush: false,
        }
    }

    /// Whether the substream must be asked for now; says so once.
    pub(crate) fn wants_substream(&mut self, has_waiting: bool) -> bool {
        let wants = has_waiting && matches!(self.substream, Substream::Unopened);
        if wants {
            self.substream = Substream::Opening;
        }
        wants
    }

    pub(crate) fn on_substream(&mut self, mut stream: Stream) {
        stream.ignore_for_keep_alive();
        self.substream = Substream::Open(stream);
    }

    /// Whether nothing is half written or unflushed.
    pub(crate) const fn is_flushed(&self) -> bool {
        self.offset == self.staged.len() && !self.needs_flush
    }

    /// Whether anything was ever sent.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.substream, Substream::Open(_))
    }

    /// Writes until the queue is empty, the substream is full or the budget is spent.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        queue: &SendQueue,
        counters: &Counters,
    ) -> io::Result<()> {
        let Substream::Open(stream) = &mut self.substream else {
            return Ok(());
        };
        let now = Instant::now();
        let mut written = 0;
        let mut budget = FRAME_BUDGET;
        let outcome = loop {
            if self.offset == self.staged.len() {
                self.staged.clear();
                self.offset = 0;
                if budget == 0 {
                    cx.waker().wake_by_ref();
                    break Ok(());
                }
                while self.staged.len() < STAGE
                    && budget > 0
                    && let Some(frame) = queue.pop(self.lane, now)
                {
                    self.staged.extend_from_slice(&frame.head);
                    self.staged.extend_from_slice(&frame.payload);
                    budget -= 1;
                }
                if self.staged.is_empty() {
                    break flush(stream, &mut self.needs_flush, cx);
                }
                self.needs_flush = true;
            }
            match Pin::new(&mut *stream).poll_write(cx, &self.staged[self.offset..]) {
                Poll::Ready(Ok(0)) => break Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.offset += count;
                    written += count;
                }
                Poll::Ready(Err(error)) => break Err(error),
                Poll::Pending => break Ok(()),
            }
        };
        if written > 0 {
            queue.written(self.lane, written);
            Counters::add(&counters.sent[self.lane.index()], written);
        }
        outcome
    }
}

fn flush(stream: &mut Stream, needs_flush: &mut bool, cx: &mut Context<'_>) -> io::Result<()> {
    if *needs_flush {
        match Pin::new(stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => *needs_flush = false,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => {}
        }
    }
    Ok(())
}
