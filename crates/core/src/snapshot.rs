//! What a peer shows of itself: for `/api/state`, for metrics, for tests.

use std::collections::BTreeMap;

use banyan_coding::redundancy::Ratio;
use banyan_wire::{BroadcastId, Coordinate, GenerationId, Manifest, PeerId, Roles, StripeId};

use crate::local::Local;
use crate::overlay::Tree;
use crate::store::Store;
use crate::{Audience, Violation};

/// Counters since the peer was made. They only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Genuine new chunks.
    pub chunks_received: u64,
    /// Their payload, in bytes.
    pub chunk_bytes_received: u64,
    /// Payload of genuine chunks that were here already, in bytes.
    pub duplicate_bytes_received: u64,
    /// Chunks handed to the driver for children.
    pub chunks_sent: u64,
    /// Their payload, in bytes.
    pub chunk_bytes_sent: u64,
    /// Chunks not sent because a child's queue was full.
    pub chunks_skipped: u64,
    /// Messages that expired unsent in a queue.
    pub expired_messages: u64,
    /// Headers and chunks of forgotten generations: late, or replayed. Never forwarded.
    pub stale_messages: u64,
    /// Chunks whose header had not come.
    pub headless_chunks: u64,
    /// Chunks that were not what the source signed. Never stored, never forwarded.
    pub forged_chunks: u64,
    /// Chunks that came by request, to fill holes the trees left.
    pub repaired_chunks: u64,
    /// Descriptions rebuilt here from the others, for children whose stripe had run dry.
    pub regenerated_descriptions: u64,
    /// Control messages handed to the driver.
    pub control_messages_sent: u64,
    /// JOINs, answers and other overlay messages handled.
    pub overlay_messages_received: u64,
    /// Breaches of the protocol by others, by kind.
    pub violations: BTreeMap<Violation, u64>,
}

/// One tree as its peer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeSnapshot {
    /// The stripe.
    pub stripe: StripeId,
    /// Whether it is a primary one.
    pub is_primary: bool,
    /// Who serves it.
    pub parent: Option<PeerId>,
    /// Hops from the source; 0 for the source and for orphans.
    pub depth: u32,
    /// Whether the way up ends at the source.
    pub is_rooted: bool,
    /// Whom it is served to.
    pub children: Vec<PeerId>,
    /// Peers it is served to besides, until they have found another parent.
    pub leaving: usize,
    /// The newest generation of which it holds something.
    pub head: Option<GenerationId>,
}

impl StripeSnapshot {
    pub(crate) fn of(tree: &Tree, local: &Local, store: &Store) -> Self {
        Self {
            stripe: tree.stripe,
            is_primary: local.roles.contains(tree.stripe),
            parent: tree.parent.as_ref().map(|parent| parent.contact.peer),
            depth: tree.parent.as_ref().map_or(0, |p| p.standing.depth.saturating_add(1)),
            is_rooted: local.is_source || tree.is_rooted(),
            children: tree.committed().map(|child| child.contact.peer).collect(),
            leaving: tree.children.len() - tree.committed().count(),
            head: store.head(tree.stripe),
        }
    }
}

/// A peer at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its broadcast.
    pub broadcast: BroadcastId,
    /// Its name.
    pub peer: PeerId,
    /// Whether it is the source.
    pub is_source: bool,
    /// The manifest it holds.
    pub manifest: Option<Manifest>,
    /// Its primary stripes.
    pub roles: Roles,
    /// Its upload budget in bits per second.
    pub upload: u64,
    /// Whether that is estimated, not given.
    pub is_upload_estimated: bool,
    /// Chunk streams of one stripe it may upload.
    pub capacity: u32,
    /// The stripes it wants: all its download takes.
    pub wanted: Roles,
    /// Peers of the broadcast as the source counts them; above 2 K a power of two.
    pub population: u32,
    /// One for each stripe; empty before the manifest is known.
    pub stripes: Vec<StripeSnapshot>,
    /// Where it takes itself to be; `None` while it does not know.
    pub coordinate: Option<Coordinate>,
    /// Peers of the broadcast it is connected with.
    pub connections: usize,
    /// Peers of the broadcast it knows.
    pub contacts: usize,
    /// What viewers had in time, as it was said last: at the source by the whole audience, else by
    /// this peer and those that say it through it.
    pub audience: Audience,
    /// The thresholds of the newest generation here; empty before the first.
    pub thresholds: Vec<u8>,
    /// Bytes of the generations here before coding, and of all their descriptions.
    pub source_bytes: u64,
    /// See [`source_bytes`](Self::source_bytes).
    pub coded_bytes: u64,
    /// Payload bytes in its store.
    pub store_bytes: usize,
    /// Its counters.
    pub stats: Stats,
}

impl Snapshot {
    /// The stripes in which it has children.
    #[must_use]
    pub fn interior_stripes(&self) -> Vec<StripeId> {
        let interior = self.stripes.iter().filter(|stripe| !stripe.children.is_empty());
        interior.map(|stripe| stripe.stripe).collect()
    }

    /// What the generations here take, coded, as a multiple of the source; `None` before the first.
    #[must_use]
    pub fn coded_ratio(&self) -> Option<Ratio> {
        Ratio::of(self.coded_bytes, self.source_bytes)
    }

    /// Stripes that have a parent whose way up ends at the source.
    #[must_use]
    pub fn rooted_stripes(&self) -> usize {
        self.stripes.iter().filter(|stripe| stripe.is_rooted).count()
    }
}
