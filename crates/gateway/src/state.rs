//! `GET /api/state`: a peer and its place in the forest, as JSON.
//!
//! Decides the names of the fields, which are not renamed once released. How the numbers come
//! about is left to `banyan-core` and to whoever provides a [`State`].

use std::collections::BTreeMap;
use std::sync::Arc;

use banyan_core::{Snapshot, StripeSnapshot};
use banyan_wire::Rendition;
use futures::future::BoxFuture;
use serde::Serialize;

/// Gives the state of the peer, or `None` if there is none to show. Asked for every request of
/// `/api/state` and `/metrics`; an answer that takes more than five seconds counts as none.
pub type StateProvider = Arc<dyn Fn() -> BoxFuture<'static, Option<State>> + Send + Sync>;

/// A peer at one moment, as those who run it know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its place in the broadcast.
    pub snapshot: Snapshot,
    /// Its node's connections and traffic.
    pub net: NetState,
    /// What it played.
    pub playback: PlaybackState,
}

/// What a node's network did since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetState {
    /// Connections at this moment.
    pub connections_now: u64,
    /// Connections that came up, in either direction.
    pub connections_opened: u64,
    /// Dials begun.
    pub dials: u64,
    /// Bytes of headers, chunks and their frames sent.
    pub media_bytes_sent: u64,
    /// Bytes of headers, chunks and their frames received.
    pub media_bytes_received: u64,
    /// Bytes of control messages sent.
    pub control_bytes_sent: u64,
    /// Bytes of control messages received.
    pub control_bytes_received: u64,
}

/// What a viewer played. All zero for a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaybackState {
    /// Generations of which at least the base layer was there in time.
    pub generations_played: u64,
    /// Generations that could not be played.
    pub generations_missed: u64,
    /// Generations that were there with all layers.
    pub generations_full: u64,
    /// From the join to the first generation played, in milliseconds; `None` before.
    pub startup_ms: Option<u64>,
    /// From the source's emission of the last generation to its playout, in milliseconds; `None`
    /// before.
    pub last_lag_ms: Option<u64>,
    /// The rendition whose pictures are shown; `None` for a source, and while none can be.
    pub rendition: Option<Rendition>,
}

/// The JSON of `/api/state`. Names of peers and broadcasts are 64 hexadecimal digits, stripes and
/// generations are numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateReport {
    /// The broadcast.
    pub broadcast: String,
    /// The peer.
    pub peer: String,
    /// `source` or `viewer`.
    pub role: Role,
    /// The broadcast's title; `null` before the manifest is known.
    pub title: Option<String>,
    /// Its overlay policy; `null` before the manifest is known.
    pub overlay: Option<&'static str>,
    /// Whether the source has said that the broadcast is over.
    pub ended: bool,
    /// One for each stripe, in order; empty before the manifest is known.
    pub stripes: Vec<StripeReport>,
    /// The peer's primary stripes.
    pub roles: Vec<u8>,
    /// Its upload budget.
    pub upload: UploadReport,
    /// Chunk streams of one stripe that it may upload.
    pub capacity: u32,
    /// Chunk streams of one stripe that it uploads: to children, and to peers that are leaving.
    pub used: usize,
    /// The stripes in which it has children.
    pub interior_stripes: Vec<u8>,
    /// Peers of the broadcast, as the source counts them.
    pub population: u32,
    /// Peers of the broadcast that it is connected with.
    pub connections: usize,
    /// Peers of the broadcast that it knows.
    pub contacts: usize,
    /// Its node's connections, of this broadcast or not.
    pub net: NetReport,
    /// Traffic and memory.
    pub bytes: BytesReport,
    /// Chunks and messages since the start.
    pub counters: CountersReport,
    /// Breaches of the protocol by others, by kind; kinds that did not occur are left out.
    pub violations: BTreeMap<&'static str, u64>,
    /// How the programme is protected, and what comes of it.
    pub redundancy: RedundancyReport,
    /// What was played.
    pub playback: PlaybackReport,
}

/// What a peer is to its broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It injects the broadcast.
    Source,
    /// It watches, and passes on.
    Viewer,
}

/// A peer's upload budget, from which its capacity follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UploadReport {
    /// In bits per second.
    pub budget: u64,
    /// Whether it is estimated from what the transport achieves, not given.
    pub estimated: bool,
}

/// One tree, as the peer sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StripeReport {
    /// The stripe's number.
    pub stripe: u8,
    /// Whether it is one of the peer's primary stripes.
    pub primary: bool,
    /// Who serves it; `null` for the source and for orphans.
    pub parent: Option<String>,
    /// Hops from the source; 0 for the source and for orphans.
    pub depth: u32,
    /// Whether the way up ends at the source.
    pub rooted: bool,
    /// Whom it is served to.
    pub children: Vec<String>,
    /// Peers it is served to besides, until they have found another parent.
    pub leaving: usize,
    /// The newest generation of which the peer holds something.
    pub head: Option<u64>,
}

/// A node's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NetReport {
    /// At this moment.
    pub connections_now: u64,
    /// That came up, in either direction.
    pub connections_opened: u64,
    /// Dials begun.
    pub dials: u64,
}

/// Traffic since the start, and memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BytesReport {
    /// Headers, chunks and their frames sent by the node.
    pub media_sent: u64,
    /// Headers, chunks and their frames received by the node.
    pub media_received: u64,
    /// Control messages sent by the node.
    pub control_sent: u64,
    /// Control messages received by the node.
    pub control_received: u64,
    /// Payload of chunks handed on to children.
    pub chunks_sent: u64,
    /// Payload of genuine new chunks.
    pub chunks_received: u64,
    /// Payload of genuine chunks that were here already.
    pub duplicate_received: u64,
    /// Payload in the store at this moment.
    pub store: usize,
}

/// Chunks and messages since the start, as in [`banyan_core::Stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CountersReport {
    /// Genuine new chunks.
    pub chunks_received: u64,
    /// Chunks handed on to children.
    pub chunks_sent: u64,
    /// Chunks not sent because a child's queue was full.
    pub chunks_skipped: u64,
    /// Messages that expired unsent in a queue.
    pub expired_messages: u64,
    /// Headers and chunks of forgotten generations.
    pub stale_messages: u64,
    /// Chunks whose header had not come.
    pub headless_chunks: u64,
    /// Chunks that were not what the source signed.
    pub forged_chunks: u64,
    /// Chunks that came by request.
    pub repaired_chunks: u64,
    /// Descriptions rebuilt here from the others.
    pub regenerated_descriptions: u64,
    /// Control messages sent.
    pub control_messages_sent: u64,
    /// Overlay messages handled.
    pub overlay_messages_received: u64,
}

/// Redundancy, and what viewers have of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedundancyReport {
    /// Descriptions that give each layer of the newest generation back, base first; empty before
    /// the first generation.
    pub thresholds: Vec<u8>,
    /// Bytes of the generations in the store before coding.
    pub source_bytes: u64,
    /// The same with all their descriptions: over `source_bytes`, the coded ratio.
    pub coded_bytes: u64,
    /// Viewers that said last what they had in time: at the source of the whole audience, elsewhere
    /// of this peer and those that say it through it.
    pub viewers: u32,
    /// `in_time[m]`: generations of which they had m descriptions in time; places at the end may
    /// be missing.
    pub in_time: Vec<u32>,
}

/// What was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PlaybackReport {
    /// Generations of which at least the base layer was played.
    pub generations_played: u64,
    /// Generations that could not be played.
    pub generations_missed: u64,
    /// Generations that were played with all layers.
    pub generations_full: u64,
    /// From the join to the first generation played, in milliseconds; `null` before.
    pub startup_ms: Option<u64>,
    /// From the source's emission to playout, of the last generation, in milliseconds; `null`
    /// before.
    pub last_lag_ms: Option<u64>,
    /// The rendition whose pictures are shown: `full`, `low`, or `null` where none are.
    pub rendition: Option<&'static str>,
}

impl From<&State> for StateReport {
    fn from(state: &State) -> Self {
        let State { snapshot, net, playback } = state;
        let manifest = snapshot.manifest.as_ref();
        let stats = &snapshot.stats;
        let uploads = snapshot.stripes.iter().map(|stripe| stripe.children.len() + stripe.leaving);
        Self {
            broadcast: snapshot.broadcast.to_string(),
            peer: snapshot.peer.to_string(),
            role: if snapshot.is_source { Role::Source } else { Role::Viewer },
            title: manifest.map(|manifest| manifest.title.clone()),
            overlay: manifest.map(|manifest| manifest.overlay.name()),
            ended: manifest.is_some_and(|manifest| manifest.ended_at.is_some()),
            stripes: snapshot.stripes.iter().map(StripeReport::from).collect(),
            roles: snapshot.roles.iter().map(|stripe| stripe.0).collect(),
            upload: UploadReport {
                budget: snapshot.upload,
                estimated: snapshot.is_upload_estimated,
            },
            capacity: snapshot.capacity,
            used: uploads.sum(),
            interior_stripes: snapshot.interior_stripes().iter().map(|stripe| stripe.0).collect(),
            population: snapshot.population,
            connections: snapshot.connections,
            contacts: snapshot.contacts,
            net: NetReport {
                connections_now: net.connections_now,
                connections_opened: net.connections_opened,
                dials: net.dials,
            },
            bytes: BytesReport {
                media_sent: net.media_bytes_sent,
                media_received: net.media_bytes_received,
                control_sent: net.control_bytes_sent,
                control_received: net.control_bytes_received,
                chunks_sent: stats.chunk_bytes_sent,
                chunks_received: stats.chunk_bytes_received,
                duplicate_received: stats.duplicate_bytes_received,
                store: snapshot.store_bytes,
            },
            counters: CountersReport {
                chunks_received: stats.chunks_received,
                chunks_sent: stats.chunks_sent,
                chunks_skipped: stats.chunks_skipped,
                expired_messages: stats.expired_messages,
                stale_messages: stats.stale_messages,
                headless_chunks: stats.headless_chunks,
                forged_chunks: stats.forged_chunks,
                repaired_chunks: stats.repaired_chunks,
                regenerated_descriptions: stats.regenerated_descriptions,
                control_messages_sent: stats.control_messages_sent,
                overlay_messages_received: stats.overlay_messages_received,
            },
            violations: stats
                .violations
                .iter()
                .map(|(kind, count)| (kind.name(), *count))
                .collect(),
            redundancy: RedundancyReport {
                thresholds: snapshot.thresholds.clone(),
                source_bytes: snapshot.source_bytes,
                coded_bytes: snapshot.coded_bytes,
                viewers: snapshot.audience.viewers,
                in_time: snapshot.audience.counts.clone(),
            },
            playback: PlaybackReport {
                generations_played: playback.generations_played,
                generations_missed: playback.generations_missed,
                generations_full: playback.generations_full,
                startup_ms: playback.startup_ms,
                last_lag_ms: playback.last_lag_ms,
                rendition: playback.rendition.map(Rendition::name),
            },
        }
    }
}

impl From<&StripeSnapshot> for StripeReport {
    fn from(stripe: &StripeSnapshot) -> Self {
        Self {
            stripe: stripe.stripe.0,
            primary: stripe.is_primary,
            parent: stripe.parent.map(|parent| parent.to_string()),
            depth: stripe.depth,
            rooted: stripe.is_rooted,
            children: stripe.children.iter().map(ToString::to_string).collect(),
            leaving: stripe.leaving,
            head: stripe.head.map(|head| head.0),
        }
    }
}
