//! Reads the frames of one lane from its inbound substream.
//!
//! Bytes are read straight into a buffer of which every chunk then is a slice: no byte of a
//! payload is copied, unless its frame lies across two buffers.

use std::pin::Pin;
use std::task::{Context, Poll};

use banyan_wire::frame::{LENGTH_BYTES, decode, split_frame};
use banyan_wire::{DecodeError, Message};
use bytes::BytesMut;
use futures::AsyncRead;
use libp2p::swarm::Stream;

use super::{Counters, Lane};

/// Most messages of one report.
const MAX_BATCH: usize = 64;
/// Most bytes of frames of one report: bounds what waits in the inbox.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// A buffer with less room than this is replaced: reads of a few bytes cost as much as large ones.
const MIN_ROOM: usize = 2 * 1024;

/// Messages on their way to the driver.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<(u64, Message)>,
    pub(crate) undecodable: Option<DecodeError>,
    bytes: usize,
}

impl Batch {
    pub(crate) const fn is_full(&self) -> bool {
        self.messages.len() >= MAX_BATCH
            || self.bytes >= MAX_BATCH_BYTES
            || self.undecodable.is_some()
    }

    /// Empties it. The bytes of skipped frames count too, so that a flood of them is no free ride.
    pub(crate) fn take(&mut self) -> (Vec<(u64, Message)>, Option<DecodeError>) {
        let Self { messages, undecodable, .. } = std::mem::take(self);
        (messages, undecodable)
    }
}

/// Why a substream is read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer finished it, or the connection is gone.
    Finished,
    /// The next frame cannot be found.
    LostSync,
}

/// The receiving half of a lane.
#[derive(Debug)]
pub(crate) struct Reader {
    lane: Lane,
    stream: Stream,
    /// All of it is initialised; the first `filled` bytes were received.
    buffer: BytesMut,
    filled: usize,
}

impl Reader {
    pub(crate) fn new(lane: Lane, mut stream: Stream) -> Self {
        stream.ignore_for_keep_alive();
        Self { lane, stream, buffer: BytesMut::new(), filled: 0 }
    }

    /// Reads until nothing more is there or the batch is full. Ready once the substream has ended.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
        counters: &Counters,
    ) -> Poll<End> {
        loop {
            if self.filled >= LENGTH_BYTES && self.parse(batch, counters).is_err() {
                return Poll::Ready(End::LostSync);
            }
            if batch.is_full() {
                return Poll::Pending;
            }
            self.make_room();
            let room = &mut self.buffer[self.filled..];
            match Pin::new(&mut self.stream).poll_read(cx, room) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(End::Finished),
                Poll::Ready(Ok(count)) => {
                    self.filled += count;
                    Counters::add(&counters.received[self.lane.index()], count);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Moves complete frames into the batch, until it is full.
    fn parse(&mut self, batch: &mut Batch, counters: &Counters) -> Result<(), ()> {
        let mut received = self.buffer.split_to(self.filled);
        let outcome = loop {
            if batch.is_full() {
                break Ok(());
            }
            let body = match split_frame(&mut received, self.lane.max_frame()) {
                Ok(Some(body)) => body,
                Ok(None) => break Ok(()),
                Err(error) => {
                    Counters::add(&counters.undecodable, 1);
                    batch.undecodable = Some(error);
                    break Err(());
                }
            };
            batch.bytes += body.len();
            match decode(body) {
                Ok((tag, message)) if message.is_data() == (self.lane == Lane::Data) => {
                    batch.messages.push((tag, message));
                }
                Ok(_) => {
                    Counters::add(&counters.undecodable, 1);
                    batch.undecodable = Some(DecodeError::WrongSubstream);
                }
                Err(DecodeError::UnknownMessage) => Counters::add(&counters.unknown, 1),
                Err(error) => {
                    Counters::add(&counters.undecodable, 1);
                    batch.undecodable = Some(error);
                }
            }
        };
        // The two halves are neighbours, so this moves nothing.
        self.filled = received.len();
        received.unsplit(std::mem::take(&mut self.buffer));
        self.buffer = received;
        outcome
    }

    fn make_room(&mut self) {
        if self.buffer.len() - self.filled >= MIN_ROOM {
            return;
        }
        let next_frame = self.buffer[..self.filled].first_chunk::<LENGTH_BYTES>().map_or(0, |n| {
            let length = usize::try_from(u32::from_be_bytes(*n)).unwrap_or(usize::MAX);
            length.min(self.lane.max_frame()) + LENGTH_BYTES
        });
        let wanted = (next_frame + MIN_ROOM).max(self.lane.read_buffer());
        let mut buffer = BytesMut::zeroed(wanted);
        buffer[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
        self.buffer = buffer;
    }
}
