//! The border between the world and what runs in it.
//!
//! ```text
//!   world ── Happening ──▶ Node ── Action ──▶ world
//! ```
//!
//! A [`Node`] is a sans-IO machine: Banyan's own peer ([`crate::banyan`]) or a baseline
//! ([`crate::baseline`]). The world gives it time, links and losses and knows nothing of its protocol;
//! checkers and metrics see only the edges it tells of, so that all overlays are measured alike.

use std::fmt::Debug;
use std::time::Duration;

use banyan_core::Instant;

/// A node's place in the world's tables, from 0. The source is 0; an index is never used again.
pub type Index = u32;

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum Happening<M> {
    /// First of all: the node is in the world and knows these others. The list is what a directory
    /// (or, for a baseline, a substrate that stands already) would have given it.
    Start {
        /// Whom it knows; may be empty for the source.
        contacts: Vec<Index>,
    },
    /// A connection is up, whoever asked for it.
    Connected {
        /// The other end.
        peer: Index,
    },
    /// A connection asked for did not come about.
    ConnectFailed {
        /// Who was dialled.
        peer: Index,
    },
    /// A connection is gone: the other closed it, or died and the transport noticed.
    Disconnected {
        /// The other end.
        peer: Index,
    },
    /// A message arrived.
    Received {
        /// The sender.
        from: Index,
        /// What it sent.
        message: M,
    },
    /// The round trip to a connected peer, as its transport measured it.
    RoundTrip {
        /// The other end.
        peer: Index,
        /// Round-trip time.
        rtt: Duration,
    },
    /// The send queue towards a peer moved.
    SendQueue {
        /// The receiver of the queue.
        peer: Index,
        /// Bytes still in it.
        queued_bytes: usize,
        /// Data messages dropped from it since the last report, because they expired.
        expired: u32,
    },
    /// The instant the node asked to be woken at has come.
    Timeout,
    /// To the source only: the programme goes on; publish the next piece of it.
    Publish {
        /// Its number, from 0.
        number: u64,
    },
    /// The user leaves: say goodbye. The node is taken out of the world once its actions are done.
    Leave,
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum Action<M> {
    /// Send a message over an existing connection; dropped where there is none.
    Send {
        /// The receiver.
        to: Index,
        /// What to send.
        message: M,
        /// Its length on the wire, frame included.
        bytes: u32,
        /// Its name, for counting by kind.
        kind: &'static str,
        /// Whether it is a request in the sense of SplitStream's node stress: what has to be
        /// handled so that somebody finds a place in a tree (JOIN, ATTACH, anycast and their like;
        /// no answers, no keep-alives, no data).
        is_request: bool,
        /// For data: when it has become useless. `None` marks control traffic.
        expires_at: Option<Instant>,
    },
    /// Connect; answered by `Connected` or `ConnectFailed`. Costs at least one round trip.
    Connect {
        /// Whom.
        to: Index,
    },
    /// Close the connection after what is queued.
    Disconnect {
        /// The other end.
        peer: Index,
    },
    /// Whether the connection is in use. Connections that neither end uses are closed when idle.
    Keep {
        /// The other end.
        peer: Index,
        /// In use.
        keep: bool,
    },
    /// Tells that a stripe's parent changed.
    Parent {
        /// The stripe.
        stripe: u8,
        /// The new parent; `None` for an orphan.
        parent: Option<Index>,
    },
    /// Tells that the number of children in a stripe changed: those that are to stay, and those
    /// that are only served until they have found another parent.
    Children {
        /// The stripe.
        stripe: u8,
        /// Children that are to stay.
        staying: u32,
        /// Others that are still served.
        leaving: u32,
    },
    /// Tells which stripes the node wants and which are its primary ones, as bit sets.
    Wants {
        /// Wanted stripes.
        stripes: u64,
        /// Primary stripes.
        roles: u64,
    },
    /// Tells what there was of one generation at its playout deadline (viewers only).
    Played {
        /// Generation, from 0 where the broadcast began.
        generation: u64,
        /// Descriptions complete in time.
        received: u8,
        /// Layers that could be rebuilt.
        layers: u8,
        /// Layers there are.
        layers_total: u8,
        /// Time from the fastest arrival to playout.
        lag: Duration,
    },
    /// Tells how a generation that is published is coded.
    Coded {
        /// Bytes of its layers.
        source: u64,
        /// Bytes of all its descriptions.
        coded: u64,
        /// Descriptions that give each layer back, base first.
        thresholds: Vec<u8>,
    },
    /// Tells that one piece of one stripe arrived for the first time.
    Arrived {
        /// The stripe.
        stripe: u8,
        /// Generation, from 0 where the broadcast began.
        generation: u64,
    },
}

/// What is to be known of a node besides what it tells by actions; taken at sampling instants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Peers it knows.
    pub contacts: u32,
    /// Most children it may have, over all stripes.
    pub capacity: u32,
    /// A breach of the protocol by others that it has counted so far.
    pub violations: u64,
    /// Descriptions it has rebuilt for its children so far.
    pub regenerated: u64,
    /// Bytes of programme it holds.
    pub store_bytes: u64,
    /// What it takes the size of the audience to be; 0 where it does not know.
    pub population: u32,
    /// Where it takes itself to be: two axes and a height, in tenths of a millisecond of round trip;
    /// `None` where it does not know.
    pub place: Option<(i32, i32, u32)>,
}

/// A machine that the world can run.
pub trait Node: Debug {
    /// What its kind sends to each other.
    type Message: Clone + Debug;

    /// Handles what happened; actions are appended in the order in which they are to be done.
    fn handle(
        &mut self,
        now: Instant,
        happening: Happening<Self::Message>,
        actions: &mut Vec<Action<Self::Message>>,
    );

    /// When it wants a [`Happening::Timeout`] next. Asked after every call of `handle`.
    fn wake_at(&self) -> Option<Instant>;

    /// What it measures of itself.
    fn gauges(&self) -> Gauges;

    /// Checks the node's own invariants.
    ///
    /// # Errors
    /// Says which one is broken.
    fn check(&self) -> Result<(), String>;
}
