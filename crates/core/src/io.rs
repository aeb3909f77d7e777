//! The border of the core: what it is told, and what it asks for.
//!
//! Decides nothing. Drain [`Output`]s after every call into [`Peer`](crate::Peer); the order of
//! outputs is the order in which they are to be carried out.

use std::time::Duration;

use bytes::Bytes;

use banyan_wire::{Contact, GenerationId, Manifest, Message, PeerId, Roles, StripeId};

use crate::Instant;

/// What happened.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once, on its way into the core")]
pub enum Input {
    /// The first connection with `peer` is up, whoever dialled.
    Connected {
        /// The remote peer.
        peer: PeerId,
    },
    /// A connection asked for by [`Output::Connect`] did not come about.
    ConnectFailed {
        /// The peer that could not be reached.
        peer: PeerId,
    },
    /// The last connection with `peer` is gone.
    Disconnected {
        /// The remote peer.
        peer: PeerId,
    },
    /// `peer` sent a message for this broadcast.
    Received {
        /// The sender.
        peer: PeerId,
        /// What it sent.
        message: Message,
    },
    /// The driver's send queue towards `peer` moved: the core's only view of congestion.
    SendQueue {
        /// The receiver of the queue.
        peer: PeerId,
        /// Bytes still in it.
        queued_bytes: usize,
        /// Messages dropped since the last report because they expired or the queue was full.
        expired_messages: u32,
    },
    /// The driver measured a round trip.
    RoundTrip {
        /// The remote peer.
        peer: PeerId,
        /// Its round-trip time.
        rtt: Duration,
    },
    /// Peers of the broadcast that were found elsewhere: in the directory, or named in a URI.
    Contacts {
        /// They may be stale; the core verifies nothing but their form.
        contacts: Vec<Contact>,
    },
    /// The addresses at which others can reach this peer changed.
    Addresses {
        /// Binary multiaddrs.
        addresses: Vec<Bytes>,
    },
    /// The driver has lost its patience with `peer`: it sent bytes that are no message.
    Undecodable {
        /// The sender. It is treated as any other peer in breach.
        peer: PeerId,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send `message`. Dropped unsent after `expires_at`; the driver counts the drop in
    /// [`Input::SendQueue`].
    Send {
        /// The receiver; connected, or the message is dropped.
        to: PeerId,
        /// What to send.
        message: Message,
        /// When it has become useless; `None` for control messages, which do not expire.
        expires_at: Option<Instant>,
    },
    /// Connect to a peer. Answered by [`Input::Connected`] or [`Input::ConnectFailed`].
    Connect {
        /// Whom, and where.
        contact: Contact,
    },
    /// Close all connections with `peer`, after what is queued for it has been sent.
    Disconnect {
        /// The remote peer.
        peer: PeerId,
        /// Why; for the log, and whether to refuse it for a while.
        reason: DisconnectReason,
    },
    /// Whether the connection with `peer` is in use. One that is not may be closed when idle; at
    /// first none is.
    Keep {
        /// The remote peer.
        peer: PeerId,
        /// In use.
        keep: bool,
    },
    /// Something the application may want to know.
    Event(Event),
}

/// Why the core wants a connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// We leave the broadcast.
    Leaving,
    /// The peer broke the protocol; it is to be refused for a while.
    Violation(Violation),
}

/// How a peer broke the protocol. The peer's fault, never our caller's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Violation {
    /// Bytes that are no message.
    Undecodable,
    /// A header or manifest whose signature does not verify.
    Forged,
    /// A chunk that is not what the source signed.
    ForgedChunk,
    /// A stripe, a layout or a broadcast that is not the broadcast's.
    Mismatch,
    /// A generation so far from the live edge that it can only be made up or replayed.
    Replayed,
    /// A message its sender has no business to send.
    Unexpected,
}

impl Violation {
    /// Short name, as in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Forged => "forged",
            Self::ForgedChunk => "forged_chunk",
            Self::Mismatch => "mismatch",
            Self::Replayed => "replayed",
            Self::Unexpected => "unexpected",
        }
    }
}

/// What became true.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A (newer) manifest is known.
    Manifest(Manifest),
    /// Every stripe has a parent for the first time.
    Joined {
        /// Stripes with a parent.
        stripes: u8,
        /// The primary stripes.
        roles: Roles,
    },
    /// The primary stripes changed.
    Roles(Roles),
    /// A stripe's parent changed.
    Parent {
        /// The stripe.
        stripe: StripeId,
        /// The new parent, or `None` for an orphan.
        parent: Option<PeerId>,
    },
    /// The number of children in a tree changed.
    Children {
        /// The stripe.
        stripe: StripeId,
        /// How many there are.
        count: usize,
        /// How many of them are only served until they have found another parent.
        leaving: usize,
    },
    /// The estimated upload changed.
    Upload {
        /// The new budget, in bits per second.
        budget: u64,
        /// Chunk streams of one stripe that it bears.
        capacity: u32,
    },
    /// The stripes this peer wants changed.
    Wanted(Roles),
    /// A generation's playout deadline: what there is of it.
    Generation(Playout),
    /// What viewers had in time since the last such event; the source's only.
    Audience(Audience),
    /// A peer broke the protocol.
    Violation {
        /// Who.
        peer: PeerId,
        /// How.
        violation: Violation,
    },
    /// The source has ended the broadcast and everything due has been played.
    Ended,
    /// Nothing has come on any stripe for [`source_timeout`](crate::Config::source_timeout).
    SourceLost,
}

/// How many descriptions viewers had at their playout deadlines, during some seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Viewers that counted, about: who moved in the trees may be in it twice.
    pub viewers: u32,
    /// `counts[m]`: generations, over all of them, of which m descriptions had come by themselves.
    /// Up to K + 1 entries; those that are not there are 0.
    pub counts: Vec<u32>,
}

impl Audience {
    /// The mean number of descriptions; `None` where nobody said anything.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let total: f64 = self.counts.iter().copied().map(f64::from).sum();
        let weighed = self.counts.iter().zip(0_u32..);
        let sum: f64 = weighed.map(|(count, m)| f64::from(*count) * f64::from(m)).sum();
        (total > 0.0).then(|| sum / total)
    }
}

/// A generation at its playout deadline.
#[derive(Clone, Debug, PartialEq)]
pub struct Playout {
    /// The generation.
    pub generation: GenerationId,
    /// Stripes whose description was here whole.
    pub received: u8,
    /// Those of them that had come by themselves, nothing of them rebuilt here or asked for.
    pub arrived: u8,
    /// K.
    pub stripes: u8,
    /// The layers' bytes, base first; `None` for a layer that could not be rebuilt.
    pub layers: Vec<Option<Bytes>>,
    /// Whether it begins with a random access picture.
    pub is_random_access: bool,
    /// From the source's emission to this deadline, as far as this peer's clock can tell: relative
    /// to the fastest generation seen.
    pub lag: Duration,
}

impl Playout {
    /// Layers there are.
    #[must_use]
    pub fn layers_rebuilt(&self) -> usize {
        self.layers.iter().take_while(|layer| layer.is_some()).count()
    }

    /// Whether at least the base layer is there.
    #[must_use]
    pub fn is_playable(&self) -> bool {
        self.layers_rebuilt() > 0
    }

    /// Whether all layers are there.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.layers.is_empty() && self.layers_rebuilt() == self.layers.len()
    }
}
