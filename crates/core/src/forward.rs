//! Forwarding: every chunk that is new goes at once to the children of its stripe.
//!
//! Decides what is pushed to whom and for how long it is worth sending. Whose child anybody is, is
//! the overlay policy's; queues and their expiry are the driver's, which reports how full they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use banyan_wire::{ChunkId, DescriptionHeader, GenerationId, Message, PeerId, Start, StripeId};

use crate::links::Links;
use crate::store::Store;
use crate::{Config, Instant};

/// Bytes that may wait in the send queue of one child. At the limit its new chunks are skipped: a
/// slow child loses its own stripe and slows nobody else.
const MAX_QUEUED_BYTES: usize = 2 * 1024 * 1024;

/// Who is pushed which stripe.
#[derive(Debug, Default)]
pub(crate) struct Forwarder {
    children: BTreeMap<StripeId, Vec<PeerId>>,
    chunks_skipped: u64,
}

impl Forwarder {
    /// Starts to push `stripe` to `child`: what is here from `start` on, then whatever is new.
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
    ) {
        let children = self.children.entry(stripe).or_default();
        if !children.contains(&child) {
            children.push(child);
        }
        let expires_at = now + config.forward_ttl;
        let (first, first_chunk) = store.first_to_push(stripe, start);
        for (generation, stored) in store.iter().filter(|(generation, _)| *generation >= first) {
            let Some(header) = stored.header(stripe) else { continue };
            links.send_data(child, Message::Header(DescriptionHeader::clone(header)), expires_at);
            let skip = if generation == first { usize::from(first_chunk) } else { 0 };
            for index in skip..stored.chunk_count() {
                if let Some(payload) = stored.chunk(stripe, index) {
                    let id = chunk_id(generation, stripe, index);
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
        &self,
        now: Instant,
        header: &Arc<DescriptionHeader>,
        from: Option<&PeerId>,
        links: &mut Links,
        config: &Config,
    ) {
        for child in self.children_of(header.stripe, from) {
            let message = Message::Header(DescriptionHeader::clone(header));
            links.send_data(*child, message, now + config.forward_ttl);
        }
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
        sent
    }

    /// Chunks not sent because a child's queue was full.
    pub(crate) fn chunks_skipped(&self) -> u64 {
        self.chunks_skipped
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

pub(crate) fn chunk_id(generation: GenerationId, stripe: StripeId, index: usize) -> ChunkId {
    let index = u16::try_from(index).expect("a description has at most MAX_CHUNKS chunks");
    ChunkId { generation, stripe, index }
}
