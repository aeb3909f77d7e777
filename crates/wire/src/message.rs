//! What peers of a broadcast say to each other, as domain types.
//!
//! Decides the vocabulary. The bytes are [`frame`](crate::frame)'s; when to say what, and what to
//! do on hearing it, is left to `banyan-core`.

use bytes::Bytes;

use crate::{
    BroadcastId, ChunkId, DescriptionHeader, GenerationId, PeerId, Roles, SignedManifest, StripeId,
};

/// Most addresses of one contact.
pub const MAX_ADDRESSES: usize = 4;
/// Longest address (binary multiaddr), in bytes.
pub const MAX_ADDRESS: usize = 160;
/// Most contacts in one message: three for each of 16 digits.
pub const MAX_CONTACTS: usize = 48;
/// Most hops a JOIN may take before it is given up. Depth 4 serves 40,000 peers at fan-out 16, and
/// a JOIN goes at most once up and once down.
pub const MAX_HOPS: usize = 24;
/// Most ancestors listed in a standing.
pub const MAX_ANCESTORS: usize = 64;
/// Most candidates of a redirect.
pub const MAX_CANDIDATES: usize = 8;
/// Most idle peers, and most movable and willing ones, named in a report.
pub const MAX_IDLE: usize = 4;
/// Most counts of a reception: one for each number of descriptions from 0 to 64.
pub const MAX_COUNTS: usize = 65;
/// Highest capacity class.
pub const MAX_CLASS: u8 = 15;
/// Largest number in a coordinate: two seconds, longer than any way on earth that carries a stream.
pub const MAX_COORDINATE: u16 = 20_000;
/// Largest error of a coordinate: all of it.
pub const MAX_ERROR: u16 = 1_000;

/// How to reach a peer, and what it offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Who.
    pub peer: PeerId,
    /// Its primary stripes. Empty for the source, which is the root of every tree.
    pub roles: Roles,
    /// Chunk streams of one stripe it can upload, over all stripes.
    pub capacity: u32,
    /// Where it listens, as binary multiaddrs; may be empty for a peer that cannot be dialled.
    pub addresses: Vec<Bytes>,
    /// Whether it is the source.
    pub is_source: bool,
    /// Its capacity class: the higher, the earlier in the order of its trees. At most
    /// [`MAX_CLASS`]. Fixed while the peer has children that depend on it.
    pub class: u8,
    /// Where it is; `None` while it does not know.
    pub coordinate: Option<Coordinate>,
}

/// A place among the peers, by which round trips are estimated: two of them are as far apart as their
/// places in the plane, and both heights besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coordinate {
    /// Place in the plane, in tenths of a millisecond of round trip. At most [`MAX_COORDINATE`] in
    /// either direction.
    pub x: i32,
    /// The other axis, likewise.
    pub y: i32,
    /// Height above the plane, likewise: what every way to the peer takes longer. At most
    /// [`MAX_COORDINATE`].
    pub height: u32,
    /// By how much, in thousandths, distances from it are usually wrong. At most [`MAX_ERROR`].
    pub error: u16,
}

/// Where a new parent starts to push a stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the newest generation that begins with a random access picture.
    Live,
    /// At this chunk: everything before it is already here.
    At(GenerationId, u16),
}

/// What a parent tells about its own place in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Hops from the source to the parent: 0 where the parent is the source.
    pub depth: u32,
    /// The parent's own parent, to turn to when the parent is lost.
    pub grandparent: Option<Contact>,
    /// Peers in the broadcast as the source knows it. Exact up to 2 K; above, a power of two at or
    /// below it, so that large audiences do not make it change all the time.
    pub population: u32,
    /// The parent's ancestors, nearest first, in overlays that guard against loops by paths.
    pub ancestors: Vec<PeerId>,
    /// Whether the parent itself waits for a parent.
    pub is_orphan: bool,
    /// Free slots in the whole tree as the source counts them, rounded down to four significant bits.
    pub spare: u32,
    /// The parent's capacity class.
    pub class: u8,
    /// Whether the parent has room for a native: a free slot, or a child that gives way to one.
    pub is_open: bool,
    /// Whether the grandparent has.
    pub is_grandparent_open: bool,
    /// Milliseconds from the source to the parent along the tree, as the round trips on the way say.
    pub delay: u32,
}

/// Why a request was not granted, or an edge was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No slot is free; the candidates may have one.
    Full,
    /// Nobody in the tree has a free slot.
    Exhausted,
    /// The edge would close a loop or break the order.
    Loop,
    /// No way to the tree is known.
    NoRoute,
    /// A newcomer takes the place.
    Replaced,
    /// The sender leaves the broadcast.
    Leaving,
    /// The sender is no longer interior in this tree.
    RoleChange,
    /// The sender has no parent in this tree.
    Orphan,
    /// The child does not take what it is sent.
    TooSlow,
}

/// A parting word before a connection is closed, or in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GoodbyeReason {
    /// The sender is not a peer of this broadcast.
    NotAMember,
    /// The sender leaves it.
    Leaving,
    /// The receiver broke the protocol.
    Violation,
    /// The sender has as many peers as it bears.
    Full,
}

/// JOINs on their way towards one stripe or several: as long as they go the same way, and differ in
/// nothing else, they are one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The trees to join; one at least.
    pub stripes: Roles,
    /// The joiner's name for this attempt.
    pub nonce: u32,
    /// Who wants to join. It is native of a stripe that is among its roles.
    pub joiner: Contact,
    /// Whether the joiner could take each of the stripes as a primary one: how many children of its
    /// would have to move then.
    pub idle: Option<u32>,
    /// Whether the message is on its way down, to a node said to have room.
    pub is_descending: bool,
    /// Who handed it on, the joiner first. At most [`MAX_HOPS`].
    pub path: Vec<PeerId>,
    /// The parent that the joiner lost and takes for dead.
    pub lost: Option<PeerId>,
    /// From where it wants the stripe: the first hop may take it as a child at once.
    pub start: Start,
    /// Whether it has fewer stripes than its upload entitles it to.
    pub is_entitled: bool,
}

/// A peer that could take a stripe as a primary one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Who.
    pub peer: PeerId,
    /// The primary stripe it would give up; `None` where it may have one more.
    pub role: Option<StripeId>,
    /// Slots it would bring.
    pub slots: u32,
    /// Children that would have to move.
    pub children: u32,
}

/// A child's account of its subtree, itself included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The tree.
    pub stripe: StripeId,
    /// Slots that are free for leaves.
    pub free_slots: u32,
    /// Hops below the child to the nearest of them.
    pub free_depth: u32,
    /// Peers.
    pub members: u32,
    /// Some peers that could take this stripe as a primary one, those that cost least to move.
    /// At most [`MAX_IDLE`].
    pub idle: Vec<Idle>,
    /// Some peers that could serve it besides their primary one. At most [`MAX_IDLE`].
    pub willing: Vec<PeerId>,
    /// Leaves that have more stripes than their upload entitles them to.
    pub yielding: u32,
    /// Joiners that wait for a slot.
    pub waiting: u32,
    /// Some natives that could take another stripe, those that cost least to move; the role they
    /// would give up is this one, or none. At most [`MAX_IDLE`].
    pub movable: Vec<Idle>,
    /// The capacity of natives, a native of several stripes counting in equal parts.
    pub slots: u32,
    /// That of natives among them that serve this stripe beyond their bound, until others can.
    pub relief: u32,
}

/// How many descriptions viewers had at their playout deadlines, since the sender last said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reception {
    /// The tree it goes up: a primary one of the sender's.
    pub stripe: StripeId,
    /// Viewers that counted, the sender perhaps among them.
    pub viewers: u32,
    /// `counts[m]`: generations of which m descriptions were there. At most [`MAX_COUNTS`]; those
    /// that are left out are 0.
    pub counts: Vec<u32>,
}

/// A message between two peers of a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// First on a connection, and again when the sender's contact changes.
    Hello {
        /// The whole id behind the envelope's tag.
        broadcast: BroadcastId,
        /// The sender.
        contact: Contact,
        /// The manifest version the sender holds; 0 for none.
        manifest_sequence: u64,
        /// Whether it answers a hello.
        is_reply: bool,
    },
    /// Last on a connection.
    Goodbye {
        /// Why.
        reason: GoodbyeReason,
    },
    /// A version of the manifest.
    Manifest(SignedManifest),
    /// Asks for contacts.
    FindContacts {
        /// The stripes for which contacts are wanted that have them as a primary one.
        digits: Roles,
    },
    /// Answers [`FindContacts`](Self::FindContacts).
    Contacts {
        /// At most [`MAX_CONTACTS`].
        contacts: Vec<Contact>,
    },
    /// Towards a stripe's tree, from hop to hop.
    Join(Join),
    /// Back the way a JOIN came: a parent was found and keeps a place.
    JoinFound {
        /// The tree.
        stripe: StripeId,
        /// The joiner's name for the attempt.
        nonce: u32,
        /// Whom to attach to.
        parent: Contact,
        /// The way back that is left to go, next hop last.
        path: Vec<PeerId>,
    },
    /// Back the way a JOIN came: no parent was found.
    JoinFailed {
        /// The tree.
        stripe: StripeId,
        /// The joiner's name for the attempt.
        nonce: u32,
        /// Why.
        reason: Reason,
        /// The way back that is left to go, next hop last.
        path: Vec<PeerId>,
    },
    /// Asks the receiver to become the sender's parent.
    Attach {
        /// The tree.
        stripe: StripeId,
        /// The sender.
        child: Contact,
        /// Whether the sender could take the stripe as a primary one, as in [`Join`].
        idle: Option<u32>,
        /// From where it wants the stripe.
        start: Start,
        /// The parent that the sender lost and takes for dead.
        lost: Option<PeerId>,
        /// Whether the sender has fewer stripes than its upload entitles it to.
        is_entitled: bool,
        /// Set where the sender has a parent and looks for a shorter way: it comes only if a slot is
        /// free, and the receiver's own delay is at most this, in milliseconds.
        within: Option<u32>,
    },
    /// Grants an [`Attach`](Self::Attach); chunks follow.
    Accept {
        /// The tree.
        stripe: StripeId,
        /// The parent's place in it.
        standing: Standing,
    },
    /// Refuses an [`Attach`](Self::Attach), or tells a child that it is one no more.
    Redirect {
        /// The tree.
        stripe: StripeId,
        /// Why.
        reason: Reason,
        /// Whom to ask instead, best first. At most [`MAX_CANDIDATES`].
        candidates: Vec<Contact>,
    },
    /// The sender is the receiver's child no more.
    Detach {
        /// The tree.
        stripe: StripeId,
    },
    /// From child to parent, when it changes.
    Report(Report),
    /// From parent to children, when it changes.
    Status {
        /// The tree.
        stripe: StripeId,
        /// The parent's place in it.
        standing: Standing,
    },
    /// From the source down a tree: a peer is asked to take a stripe as a primary one.
    Adopt {
        /// The tree whose reports named the peer.
        stripe: StripeId,
        /// Who is asked.
        peer: PeerId,
        /// Which stripe it is to take.
        role: StripeId,
        /// Whether it is to serve that one besides its primary one.
        is_second: bool,
    },
    /// From child to a parent that has fallen silent, or from parent to a child said to be dead.
    Probe {
        /// The tree.
        stripe: StripeId,
    },
    /// Answers a [`Probe`](Self::Probe).
    ProbeReply {
        /// The tree.
        stripe: StripeId,
        /// Whether the parent waits for a parent itself.
        is_orphan: bool,
        /// The newest generation of which it holds chunks of the stripe.
        head: GenerationId,
    },
    /// From child to parent, every few seconds, in one tree.
    Reception(Reception),
    /// The sender's coordinate is another one than it said last, by more than a little.
    Moved {
        /// Where it is.
        coordinate: Coordinate,
    },
    /// The head of a description; its chunks follow.
    Header(DescriptionHeader),
    /// A chunk.
    Chunk {
        /// Its name.
        id: ChunkId,
        /// Its bytes: 1 … [`MAX_CHUNK_LENGTH`](crate::MAX_CHUNK_LENGTH).
        payload: Bytes,
    },
}

impl Message {
    /// Whether the message travels on the data substream.
    #[must_use]
    pub const fn is_data(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Chunk { .. })
    }

    /// Short name, as in logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Goodbye { .. } => "goodbye",
            Self::Manifest(_) => "manifest",
            Self::FindContacts { .. } => "find_contacts",
            Self::Contacts { .. } => "contacts",
            Self::Join(_) => "join",
            Self::JoinFound { .. } => "join_found",
            Self::JoinFailed { .. } => "join_failed",
            Self::Attach { .. } => "attach",
            Self::Accept { .. } => "accept",
            Self::Redirect { .. } => "redirect",
            Self::Detach { .. } => "detach",
            Self::Report(_) => "report",
            Self::Status { .. } => "status",
            Self::Adopt { .. } => "adopt",
            Self::Probe { .. } => "probe",
            Self::ProbeReply { .. } => "probe_reply",
            Self::Reception(_) => "reception",
            Self::Moved { .. } => "moved",
            Self::Header(_) => "header",
            Self::Chunk { .. } => "chunk",
        }
    }
}
