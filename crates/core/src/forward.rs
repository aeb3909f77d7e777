//! Forwarding: every chunk that is new goes at once to the children of its stripe.
//!
//! Decides what is pushed to whom and for how long it is worth sending. Whose child anybody is, is
//! the overlay policy's; queues and their expiry are the driver's, which reports how full they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use banyan_wire::{ChunkId, DescriptionHeader, GenerationId, Message, PeerId, Start, StripeId};

use crate::estimate::Handed;
use crate::links::Links;
use crate::store::Store;
use crate::{Config, Instant};

/// Bytes that may wait in the send queue of one child. At the limit its new chunks are skipped: a
/// slow child loses its own stripe and slows nobody else.
const MAX_QUEUED_BYTES: usize = 2 * 1024 * 1024;

/// How far the uplink may be behind for a new child to be sent what is past as well: one generation.
const MAX_BACKLOG: Duration = Duration::from_millis(500);

/// Who is pushed which stripe.
#[derive(Debug, Default)]
pub(crate) struct Forwarder {
    children: BTreeMap<StripeId, Vec<PeerId>>,
    chunks_skipped: u64,
    handed: Handed,
}

impl Forwarder {
    /// Starts to push `stripe` to `child`: what is here from `start` on, then whatever is new.
    /// `upload` is our budget in bits per second.
    #[expect(clippy::too_many_arguments, reason = "the kernel's parts, lent by the session")]
    pub(crate) fn serve(
        &mut self,
        now: Instant,
        child: PeerId,
        stripe: StripeId,
        start: Start,
        store: &Store,
        links: &mut Links,
        config: &Config,
        upload: u64,
    ) {
        let children = self.children.entry(stripe).or_default();
        if children.contains(&child) {
            // It is being served: what it lacks is in its queue, or expired there. Pushing that again
            // would only make the queue longer.
            return;
        }
        children.push(child);
        let expires_at = now + config.forward_ttl;
        // Where the uplink is behind already, what is past would only delay what is to come, for
        // everybody.
        let is_behind = links.backlog(upload) > MAX_BACKLOG;
        let start = match (is_behind, store.newest()) {
            (true, Some(newest)) => Start::At(newest, 0),
            _ => start,
        };
        let (first, first_chunk) = store.first_to_push(now, stripe, start);
        for (generation, stored) in store.iter().filter(|(generation, _)| *generation >= first) {
            let Some(header) = stored.header(stripe) else { continue };
            let length = header_length(header);
            links.send_data(child, Message::Header(DescriptionHeader::clone(header)), expires_at);
            self.handed.add(length, 1);
            let skip = if generation == first { usize::from(first_chunk) } else { 0 };
            for index in skip..stored.chunk_count() {
                if let Some(payload) = stored.chunk(stripe, index) {
                    let id = chunk_id(generation, stripe, index);
                    self.handed.add(payload.len(), 1);
                    links.send_data(child, Message::Chunk { id, payload }, expires_at);
                }
            }
        }
    }

    /// Stops pushing `stripe` to `child`.
    pub(crate) fn stop(&mut self, child: &PeerId, stripe: StripeId) {
        if let Some(children) = self.children.get_mut(&stripe) {
            children.retain(|other| other != child);
        }
    }

    /// Stops pushing anything to `peer`.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        for children in self.children.values_mut() {
            children.retain(|other| other != peer);
        }
    }

    /// The stripes that are pushed to somebody.
    pub(crate) fn stripes_served(&self) -> impl Iterator<Item = StripeId> {
        self.children.iter().filter(|(_, children)| !children.is_empty()).map(|(stripe, _)| *stripe)
    }

    pub(crate) fn forward_header(
        &mut self,
        now: Instant,
        header: &Arc<DescriptionHeader>,
        from: Option<&PeerId>,
        links: &mut Links,
        config: &Config,
    ) {
        let mut sent = 0;
        for child in self.children_of(header.stripe, from) {
            let message = Message::Header(DescriptionHeader::clone(header));
            links.send_data(*child, message, now + config.forward_ttl);
            sent += 1;
        }
        self.handed.add(header_length(header), sent);
    }

    /// Returns to how many children the chunk went.
    pub(crate) fn forward_chunk(
        &mut self,
        now: Instant,
        id: ChunkId,
        payload: &Bytes,
        from: Option<&PeerId>,
        links: &mut Links,
        config: &Config,
    ) -> u64 {
        let (mut sent, mut skipped) = (0, 0);
        for child in self.children_of(id.stripe, from) {
            if links.queued_bytes(child) > MAX_QUEUED_BYTES {
                skipped += 1;
                continue;
            }
            let message = Message::Chunk { id, payload: payload.clone() };
            links.send_data(*child, message, now + config.forward_ttl);
            sent += 1;
        }
        self.chunks_skipped += skipped;
        self.handed.add(payload.len(), sent);
        sent
    }

    /// Chunks not sent because a child's queue was full.
    pub(crate) fn chunks_skipped(&self) -> u64 {
        self.chunks_skipped
    }

    /// What was handed to the driver so far.
    pub(crate) fn handed(&self) -> Handed {
        self.handed
    }

    /// How many stripes each child is sent.
    pub(crate) fn streams(&self) -> BTreeMap<PeerId, u32> {
        let mut streams = BTreeMap::new();
        for child in self.children.values().flatten() {
            *streams.entry(*child).or_default() += 1;
        }
        streams
    }

    fn children_of<'a>(
        &'a self,
        stripe: StripeId,
        from: Option<&'a PeerId>,
    ) -> impl Iterator<Item = &'a PeerId> {
        let children = self.children.get(&stripe).map_or(&[][..], Vec::as_slice);
        children.iter().filter(move |child| Some(*child) != from)
    }
}

/// About the bytes of a header on the wire: its hashes and signature.
fn header_length(header: &DescriptionHeader) -> usize {
    32 * (header.chunk_hashes.len() + header.proof.len()) + 160
}

pub(crate) fn chunk_id(generation: GenerationId, stripe: StripeId, index: usize) -> ChunkId {
    let index = u16::try_from(index).expect("a description has at most MAX_CHUNKS chunks");
    ChunkId { generation, stripe, index }
}
