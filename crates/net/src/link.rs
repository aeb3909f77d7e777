//! The data plane: Banyan frames over two long-lived substreams of every connection.
//!
//! ```text
//!   driver ── send ──▶ SendQueue ──▶ Handler ══ /banyan/control/1 ══▶ the peer's Handler
//!     ▲                (shared)         │    ══ /banyan/data/1    ══▶        │
//!     └──────────── Inbox ◀── Report ───┘                                    ▼  its Inbox
//! ```
//!
//! Each side opens its own outbound substream of a lane when it first has something to send there;
//! inbound substreams are only read. Neither way leads through the swarm's task: what is sent goes
//! straight into the queue of a connection, what is received straight into the inbox, so that the
//! cost of a chunk is that of moving it.
//!
//! Decides what waits, what is dropped and when a connection has lost sync. What the messages mean,
//! and who is to blame for one that means nothing, is left to the driver.

mod behaviour;
mod handler;
mod protocol;
mod queue;
mod reader;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};

use banyan_wire::{DecodeError, Message, PeerId};

pub(crate) use behaviour::Behaviour;
pub(crate) use protocol::Lane;

/// Limits of one connection's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Most bytes of chunks and headers that wait for one connection; at the limit the newest is
    /// dropped and counted. Default 4 MiB: 3 s, the core's `forward_ttl`, at 10 Mbit/s.
    pub max_data_bytes: usize,
    /// Most bytes of control messages that wait for one connection; at the limit the connection is
    /// closed, because a control message is never dropped. Default 1 MiB, a guess.
    pub max_control_bytes: usize,
    /// Most control messages that wait for one connection, as above. Default 4096, a guess.
    pub max_control_frames: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            max_data_bytes: 4 * 1024 * 1024,
            max_control_bytes: 1024 * 1024,
            max_control_frames: 4096,
        }
    }
}

/// What a connection has to say to the driver.
#[derive(Debug)]
pub(crate) enum Report {
    /// Messages, in the order of their substream, each with the tag of its broadcast.
    Received { peer: PeerId, messages: Vec<(u64, Message)> },
    /// The send queue changed by enough to matter.
    Queue { peer: PeerId, queued_bytes: usize, dropped_messages: u32 },
    /// The peer sent bytes that are no message.
    Undecodable { peer: PeerId, error: DecodeError },
}

/// Where all connections report to. Bounded: while it is full, connections are not read.
pub(crate) type Inbox = futures::channel::mpsc::Receiver<Report>;

/// Bytes and frames of all connections since the node started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: [AtomicU64; 2],
    received: [AtomicU64; 2],
    dropped: AtomicU64,
    unknown: AtomicU64,
    undecodable: AtomicU64,
}

impl Counters {
    pub(crate) fn sent(&self, lane: Lane) -> u64 {
        self.sent[lane.index()].load(Ordering::Relaxed)
    }

    pub(crate) fn received(&self, lane: Lane) -> u64 {
        self.received[lane.index()].load(Ordering::Relaxed)
    }

    /// Data messages that expired or did not fit into their queue.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Messages only a newer version knows.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Frames that broke the wire contract.
    pub(crate) fn undecodable(&self) -> u64 {
        self.undecodable.load(Ordering::Relaxed)
    }

    fn add(counter: &AtomicU64, amount: usize) {
        if amount > 0 {
            counter.fetch_add(amount as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
