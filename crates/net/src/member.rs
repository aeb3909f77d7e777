//! One broadcast's peer machine and what the driver keeps beside it.

use std::collections::{BTreeMap, BTreeSet};

use banyan_core::{Event, Peer};
use banyan_wire::frame::Frame;
use banyan_wire::{BroadcastId, ChunkId, Message, PeerId, SignedManifest};
use libp2p::Multiaddr;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

use crate::bootstrap::Backoff;
use crate::events::EventSender;

/// A broadcast this node is a peer of.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) broadcast: BroadcastId,
    pub(crate) tag: u64,
    pub(crate) is_source: bool,
    pub(crate) peer: Peer,
    /// When the machine has work, as it last said.
    pub(crate) due: Option<banyan_core::Instant>,
    /// Peers it was told are connected.
    pub(crate) known: BTreeSet<PeerId>,
    /// Peers it asked for and has had no answer about, with addresses not yet tried.
    pub(crate) wanted: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Peers whose connections it wants kept.
    pub(crate) kept: BTreeSet<PeerId>,
    pub(crate) events: EventSender,
    pub(crate) errands: Errands,
    pub(crate) leaving: Option<Leaving>,
    pub(crate) span: Span,
    last_chunk: Option<(ChunkId, Frame)>,
}

/// A machine that has said goodbye, while its last words are on their way.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// When it is waited for no longer.
    pub(crate) until: Instant,
    /// Whom to tell.
    pub(crate) reply: Option<oneshot::Sender<()>>,
}

/// What is to be done in the directory.
#[derive(Debug)]
pub(crate) struct Errands {
    /// When to try next; `None` once everything is done, or while there is nobody to ask.
    pub(crate) due: Option<Instant>,
    pub(crate) backoff: Backoff,
    /// The source's manifest, and whether the directory has it.
    pub(crate) manifest: Option<SignedManifest>,
    pub(crate) is_published: bool,
    pub(crate) is_provided: bool,
    /// A viewer looks for others until it has a parent on every stripe.
    pub(crate) has_manifest: bool,
    pub(crate) is_joined: bool,
}

impl Errands {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            due: Some(now),
            backoff: Backoff::default(),
            manifest: None,
            is_published: false,
            is_provided: false,
            has_manifest: false,
            is_joined: false,
        }
    }

    /// Tries again at once, and then from the shortest wait.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.backoff = Backoff::default();
        self.due = Some(now);
    }
}

impl Member {
    pub(crate) fn new(
        broadcast: BroadcastId,
        is_source: bool,
        peer: Peer,
        events: EventSender,
        now: Instant,
    ) -> Self {
        Self {
            broadcast,
            tag: broadcast.tag(),
            is_source,
            peer,
            due: Some(banyan_core::Instant::ZERO),
            known: BTreeSet::new(),
            wanted: BTreeMap::new(),
            kept: BTreeSet::new(),
            events,
            errands: Errands::new(now),
            leaving: None,
            span: tracing::debug_span!("broadcast", id = %format_args!("{broadcast:.8}")),
            last_chunk: None,
        }
    }

    /// Frames a message. A chunk goes to many children in a row and is framed once for them.
    pub(crate) fn frame(&mut self, message: &Message) -> Frame {
        let Message::Chunk { id, payload } = message else {
            return Frame::encode(self.tag, message);
        };
        if let Some((last, frame)) = &self.last_chunk
            && last == id
            && frame.payload.as_ptr() == payload.as_ptr()
            && frame.payload.len() == payload.len()
        {
            return frame.clone();
        }
        let frame = Frame::encode(self.tag, message);
        self.last_chunk = Some((*id, frame.clone()));
        frame
    }

    /// Takes note of what an event means for the directory, and passes it on.
    pub(crate) fn emit(&mut self, now: Instant, event: Event) {
        self.errands.has_manifest |= matches!(event, Event::Manifest(_));
        if matches!(event, Event::Joined { .. }) && !self.errands.is_joined {
            self.errands.is_joined = true;
            self.errands.hurry(now);
        }
        self.events.send(event);
    }

    /// Whether the directory has nothing more to give or to take.
    pub(crate) fn is_settled(&self) -> bool {
        let errands = &self.errands;
        if self.is_source {
            errands.is_provided && (errands.is_published || errands.manifest.is_none())
        } else {
            errands.is_provided && errands.has_manifest && errands.is_joined
        }
    }
}
