//! What baselines say to each other, how long it is and by which name it is counted.
//!
//! Lengths are estimates, for no bytes are made: 20 for a frame, 44 for a node's identity with an
//! address, 4 for what names a group. They matter for the share of control traffic only.

use crate::node::Index;

/// A group: the number of a stripe, or the number of stripes for the spare capacity group.
pub(crate) type Group = u8;

/// A message between two nodes of the same baseline.
#[derive(Clone, Debug)]
pub enum Message {
    /// Scribe's JOIN, from the one who wants a parent: routed, or sent to a sibling by an orphan.
    Join {
        /// Where.
        group: Group,
    },
    /// The sender is the receiver's parent from now on.
    Accept {
        /// Where.
        group: Group,
        /// The receiver's ancestors, as far as they are kept.
        path: Vec<Index>,
    },
    /// The sender is not, or no longer, the receiver's parent.
    Orphaned {
        /// Where.
        group: Group,
        /// The sender's children that share a digit with the stripe.
        siblings: Vec<Index>,
    },
    /// The sender is no longer the receiver's child, or (the source's) no longer feeds it.
    Leave {
        /// Where.
        group: Group,
    },
    /// The sender leaves for good.
    Bye,
    /// The receiver's ancestors have changed.
    Path {
        /// Where.
        group: Group,
        /// As far as they are kept.
        path: Vec<Index>,
    },
    /// Keep-alive along the edges of the trees, as bit sets of groups.
    Beat {
        /// Where the sender is the receiver's parent.
        parent: u128,
        /// Where the sender is the receiver's child.
        child: u128,
    },
    /// One step of an anycast through the spare capacity group.
    Spare(Box<Search>),
    /// A member of the spare capacity group takes the receiver in.
    Adopt {
        /// The stripes, each with the receiver's ancestors there.
        stripes: Vec<(Group, Vec<Index>)>,
        /// Whether the anycast is over.
        is_done: bool,
    },
    /// An anycast found nobody for these stripes.
    Exhausted {
        /// Those still lacked, as a bit set.
        stripes: u64,
    },
    /// One step of an anycast through a stripe's tree for a leaf that gives up its place.
    Place(Box<Search>),
    /// The sender gives its place among the receiver's children to another.
    Swap {
        /// Where.
        group: Group,
        /// Who takes the place.
        orphan: Index,
    },
    /// FreePastry: a subscription on its way, routed at first and searching the tree later.
    Subscribe(Box<Search>),
    /// FreePastry: a child asks to be confirmed.
    Refresh {
        /// Where.
        group: Group,
    },
    /// The source looks for a stripe's root.
    Locate {
        /// Which stripe.
        stripe: u8,
        /// Hops so far.
        hops: u8,
    },
    /// The sender is that root.
    Root {
        /// Of which stripe.
        stripe: u8,
    },
    /// A packet from the source on its way to the root.
    Inject {
        /// Which stripe.
        stripe: u8,
        /// Its number, from 0.
        number: u64,
        /// Hops so far.
        hops: u8,
    },
    /// A packet from parent to child.
    Data {
        /// Which stripe.
        stripe: u8,
        /// Its number, from 0.
        number: u64,
    },
    /// Rows of a routing table.
    Exchange {
        /// Whether the sender wants some in return.
        is_request: bool,
        /// Nodes the sender knows.
        contacts: Vec<Index>,
    },
}

/// A depth-first search through a tree, carried along.
#[derive(Clone, Debug)]
pub struct Search {
    /// Who wants a place.
    pub(crate) orphan: Index,
    /// Which stripes it lacks, as a bit set.
    pub(crate) stripes: u64,
    /// Those of them in which it has no children.
    pub(crate) childless: u64,
    /// Who was met.
    pub(crate) visited: Vec<Index>,
    /// Who is to be met, the next one last.
    pub(crate) to_visit: Vec<Index>,
}

impl Message {
    /// The name it is counted by.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Join { .. } => "join",
            Self::Accept { .. } => "accept",
            Self::Orphaned { .. } => "orphaned",
            Self::Leave { .. } => "leave",
            Self::Bye => "bye",
            Self::Path { .. } => "path",
            Self::Beat { .. } => "beat",
            Self::Spare(_) => "anycast",
            Self::Adopt { .. } => "adopt",
            Self::Exhausted { .. } => "exhausted",
            Self::Place(_) => "place",
            Self::Swap { .. } => "swap",
            Self::Subscribe(_) => "subscribe",
            Self::Refresh { .. } => "refresh",
            Self::Locate { .. } => "locate",
            Self::Root { .. } => "root",
            Self::Inject { .. } => "inject",
            Self::Data { .. } => "data",
            Self::Exchange { .. } => "exchange",
        }
    }

    /// Whether it is one of the messages of SplitStream's node stress. With no bound on children
    /// the paper counts 16.9 per node, one for each JOIN of 16 stripes and of the spare capacity
    /// group: so answers are not among them.
    pub(crate) const fn is_request(&self) -> bool {
        match self {
            Self::Join { .. } | Self::Spare(_) | Self::Place(_) | Self::Subscribe(_) => true,
            Self::Accept { .. }
            | Self::Orphaned { .. }
            | Self::Leave { .. }
            | Self::Bye
            | Self::Path { .. }
            | Self::Beat { .. }
            | Self::Adopt { .. }
            | Self::Exhausted { .. }
            | Self::Swap { .. }
            | Self::Refresh { .. }
            | Self::Locate { .. }
            | Self::Root { .. }
            | Self::Inject { .. }
            | Self::Data { .. }
            | Self::Exchange { .. } => false,
        }
    }

    /// Whether it is programme, and soon useless.
    pub(crate) const fn is_data(&self) -> bool {
        matches!(self, Self::Inject { .. } | Self::Data { .. })
    }

    /// Its length on the wire, with `packet` bytes of programme in each packet.
    pub(crate) fn bytes(&self, packet: u32) -> u32 {
        let nodes = match self {
            Self::Accept { path: nodes, .. }
            | Self::Orphaned { siblings: nodes, .. }
            | Self::Path { path: nodes, .. }
            | Self::Exchange { contacts: nodes, .. } => nodes.len(),
            Self::Spare(search) | Self::Place(search) | Self::Subscribe(search) => {
                1 + search.visited.len() + search.to_visit.len()
            }
            Self::Adopt { stripes, .. } => stripes.iter().map(|(_, path)| path.len()).sum(),
            Self::Swap { .. } => 1,
            Self::Join { .. }
            | Self::Leave { .. }
            | Self::Bye
            | Self::Beat { .. }
            | Self::Exhausted { .. }
            | Self::Refresh { .. }
            | Self::Locate { .. }
            | Self::Root { .. }
            | Self::Inject { .. }
            | Self::Data { .. } => 0,
        };
        let rest = match self {
            Self::Beat { .. } => 16,
            Self::Spare(_) | Self::Place(_) | Self::Subscribe(_) => 16,
            Self::Adopt { .. } | Self::Exhausted { .. } => 8,
            Self::Inject { .. } | Self::Data { .. } => packet.saturating_add(12),
            Self::Bye | Self::Exchange { .. } => 0,
            Self::Join { .. }
            | Self::Accept { .. }
            | Self::Orphaned { .. }
            | Self::Leave { .. }
            | Self::Path { .. }
            | Self::Swap { .. }
            | Self::Refresh { .. }
            | Self::Locate { .. }
            | Self::Root { .. } => 4,
        };
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        FRAME.saturating_add(rest).saturating_add(nodes.saturating_mul(NODE))
    }
}

/// A frame's head: type, length and what a connection adds.
const FRAME: u32 = 20;

/// A node named in a message: an identity of 32 bytes and an address.
const NODE: u32 = 44;
