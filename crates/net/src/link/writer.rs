//! Writes the frames of one lane to its outbound substream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use banyan_wire::frame::Frame;
use futures::AsyncWrite;
use libp2p::swarm::Stream;
use tokio::time::Instant;

use super::queue::SendQueue;
use super::{Counters, Lane};

/// Most frames written before the other lane and the readers have their turn.
const FRAME_BUDGET: usize = 64;

/// The sending half of a lane.
#[derive(Debug)]
pub(crate) struct Writer {
    lane: Lane,
    substream: Substream,
    current: Option<Frame>,
    /// Bytes of `current` that are written.
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
        Self { lane, substream: Substream::Unopened, current: None, offset: 0, needs_flush: false }
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
        self.current.is_none() && !self.needs_flush
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
            let Some(frame) = &self.current else {
                if budget == 0 {
                    cx.waker().wake_by_ref();
                    break Ok(());
                }
                budget -= 1;
                self.current = queue.pop(self.lane, now);
                self.offset = 0;
                if self.current.is_none() {
                    break flush(stream, &mut self.needs_flush, cx);
                }
                continue;
            };
            let rest = match frame.head.get(self.offset..) {
                Some(head) if !head.is_empty() => head,
                _ => &frame.payload[self.offset - frame.head.len()..],
            };
            if rest.is_empty() {
                self.current = None;
                self.needs_flush = true;
                continue;
            }
            match Pin::new(&mut *stream).poll_write(cx, rest) {
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
