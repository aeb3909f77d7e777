//! The verified chunk store: everything in it was signed by the source.
//!
//! ```text
//!   header ── verify ──▶ generation known ── chunk ── verify ──▶ stored ──▶ forwarded, played
//!                 └─▶ refused                    └─▶ refused
//! ```
//!
//! Decides what is genuine, what is late and what is forgotten. Whom a chunk goes on to is left to
//! [`forward`](crate::forward); when a generation is played, to [`playout`](crate::playout).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use banyan_coding::Assembler;
use banyan_wire::{
    BroadcastId, ChunkId, DescriptionHeader, GenerationId, Sealed, Start, StripeCount, StripeId,
    Verifier, chunk_hash,
};

use crate::{Instant, Violation};

/// Most generations held, whatever the retention: 64 of 500 ms are 32 s.
const MAX_GENERATIONS: usize = 64;
/// Most payload bytes held: 16 s of a 25 Mbit/s programme and its redundancy. At the limit the
/// oldest generation goes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What became of a header or chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insert {
    /// Genuine and new.
    New,
    /// Genuine, but here already.
    Duplicate,
    /// Of a generation that was forgotten: late, or replayed. Never forwarded.
    Stale,
    /// A chunk whose header is not here; normal after its header expired in a queue.
    Headless,
    /// Not what the source signed.
    Refused(Violation),
}

/// One generation, as far as it is here.
#[derive(Debug)]
pub(crate) struct Stored {
    /// One for each stripe whose header is here.
    headers: Vec<Option<Arc<DescriptionHeader>>>,
    /// The header that was verified first; all others must share its commitment and signature.
    first: Arc<DescriptionHeader>,
    pub(crate) assembler: Assembler,
    pub(crate) first_arrival: Instant,
    bytes: usize,
}

impl Stored {
    pub(crate) fn emitted_at(&self) -> u64 {
        self.first.commitment.emitted_at
    }

    pub(crate) fn is_random_access(&self) -> bool {
        self.first.commitment.is_random_access
    }

    pub(crate) fn layer_count(&self) -> usize {
        self.first.commitment.layout.layers().len()
    }

    pub(crate) fn header(&self, stripe: StripeId) -> Option<&Arc<DescriptionHeader>> {
        self.headers.get(stripe.index())?.as_ref()
    }

    pub(crate) fn chunk(&self, stripe: StripeId, index: usize) -> Option<Bytes> {
        self.assembler.chunk(stripe, index).cloned()
    }

    pub(crate) fn chunk_count(&self) -> usize {
        self.first.commitment.layout.chunk_count()
    }

    /// The first chunk of `stripe` that is not here; the chunk count where all are.
    fn first_missing(&self, stripe: StripeId) -> u16 {
        let missing = (0..self.chunk_count()).find(|index| !self.assembler.has(stripe, *index));
        u16::try_from(missing.unwrap_or_else(|| self.chunk_count())).unwrap_or(u16::MAX)
    }
}

/// The newest generations.
#[derive(Debug)]
pub(crate) struct Store {
    broadcast: BroadcastId,
    verifier: Verifier,
    stripes: StripeCount,
    generations: BTreeMap<GenerationId, Stored>,
    /// Everything below was forgotten.
    floor: GenerationId,
    bytes: usize,
    /// For each stripe, the newest generation of which a header is here.
    heads: Vec<Option<GenerationId>>,
}

impl Store {
    pub(crate) fn new(broadcast: BroadcastId, verifier: Verifier, stripes: StripeCount) -> Self {
        Self {
            broadcast,
            verifier,
            stripes,
            generations: BTreeMap::new(),
            floor: GenerationId(0),
            bytes: 0,
            heads: vec![None; stripes.len()],
        }
    }

    /// Verifies and keeps a header.
    pub(crate) fn insert_header(&mut self, now: Instant, header: DescriptionHeader) -> Insert {
        let commitment = &header.commitment;
        let generation = commitment.generation;
        if commitment.layout.stripes() != self.stripes || !self.stripes.contains(header.stripe) {
            return Insert::Refused(Violation::Mismatch);
        }
        if generation < self.floor {
            return Insert::Stale;
        }
        match self.generations.get(&generation).map(|stored| &stored.first) {
            Some(first)
                if first.commitment == header.commitment && first.signature == header.signature => {
            }
            Some(_) | None => {
                if header.verify(&self.broadcast, &self.verifier).is_err() {
                    return Insert::Refused(Violation::Forged);
                }
            }
        }
        let stripe = header.stripe;
        let header = Arc::new(header);
        let stored = self.generations.entry(generation).or_insert_with(|| Stored {
            headers: vec![None; self.stripes.len()],
            assembler: Assembler::new(header.commitment.layout.clone()),
            first: Arc::clone(&header),
            first_arrival: now,
            bytes: 0,
        });
        if stored.first.commitment != header.commitment {
            // The source signed two versions of a generation. The first one here counts: mixing
            // them would rebuild neither.
            return Insert::Refused(Violation::Mismatch);
        }
        let slot = &mut stored.headers[stripe.index()];
        if slot.is_some() {
            return Insert::Duplicate;
        }
        *slot = Some(header);
        let head = &mut self.heads[stripe.index()];
        *head = (*head).max(Some(generation));
        Insert::New
    }

    /// Verifies and keeps a chunk.
    pub(crate) fn insert_chunk(&mut self, id: ChunkId, payload: Bytes) -> Insert {
        if !self.stripes.contains(id.stripe) {
            return Insert::Refused(Violation::Mismatch);
        }
        if id.generation < self.floor {
            return Insert::Stale;
        }
        let Some(stored) = self.generations.get_mut(&id.generation) else {
            return Insert::Headless;
        };
        let Some(header) = stored.headers.get(id.stripe.index()).and_then(Option::as_ref) else {
            return Insert::Headless;
        };
        if stored.assembler.has(id.stripe, usize::from(id.index)) {
            return Insert::Duplicate;
        }
        if header.verify_chunk(id.index, &payload).is_err() {
            return Insert::Refused(Violation::ForgedChunk);
        }
        stored.bytes += payload.len();
        self.bytes += payload.len();
        stored.assembler.insert(id.stripe, usize::from(id.index), payload);
        Insert::New
    }

    /// Keeps a generation of our own: the source's.
    pub(crate) fn insert_own(
        &mut self,
        now: Instant,
        headers: Vec<DescriptionHeader>,
        chunks: Vec<Vec<Bytes>>,
    ) {
        let headers: Vec<_> = headers.into_iter().map(|header| Some(Arc::new(header))).collect();
        let Some(first) = headers.first().cloned().flatten() else { return };
        let generation = first.commitment.generation;
        let mut assembler = Assembler::new(first.commitment.layout.clone());
        let mut bytes = 0;
        for (stripe, chunks) in self.stripes.iter().zip(chunks) {
            for (index, chunk) in chunks.into_iter().enumerate() {
                bytes += chunk.len();
                assembler.insert(stripe, index, chunk);
            }
        }
        self.bytes += bytes;
        self.heads.fill(Some(generation));
        let stored = Stored { headers, first, assembler, first_arrival: now, bytes };
        self.generations.insert(generation, stored);
    }

    /// Rebuilds what is missing of `stripes` in a generation all of whose layers can be decoded,
    /// and keeps it. Returns, for each stripe that was incomplete, the chunks that are new.
    ///
    /// The rebuilt chunks are hashed to the root again and compared with the signed one: a source
    /// whose parity does not follow from its data cannot make us forward what it did not sign.
    pub(crate) fn complete(
        &mut self,
        generation: GenerationId,
        stripes: &[StripeId],
    ) -> Option<Vec<(StripeId, Vec<usize>)>> {
        let stored = self.generations.get_mut(&generation)?;
        let rebuilt = stored.assembler.rebuild()?;
        let hashes = rebuilt.chunks.iter().map(|c| c.iter().map(|c| chunk_hash(c)).collect());
        let first = &stored.first.commitment;
        let sealed = Sealed::new(
            generation,
            first.emitted_at,
            first.is_random_access,
            first.layout.clone(),
            hashes.collect(),
        );
        if sealed.commitment() != first {
            return None;
        }
        let signature = stored.first.signature;
        let mut completed = Vec::new();
        for stripe in stripes {
            let Some(chunks) = rebuilt.chunks.get(stripe.index()) else { continue };
            let mut new = Vec::new();
            for (index, chunk) in chunks.iter().enumerate() {
                if stored.assembler.insert(*stripe, index, chunk.clone()) {
                    stored.bytes += chunk.len();
                    self.bytes += chunk.len();
                    new.push(index);
                }
            }
            if new.is_empty() {
                continue;
            }
            let slot = &mut stored.headers[stripe.index()];
            if slot.is_none() {
                *slot = Some(Arc::new(sealed.header(*stripe, signature)));
            }
            completed.push((*stripe, new));
        }
        Some(completed)
    }

    /// Forgets what is older than `retention`, and what is above the limits of number and size.
    pub(crate) fn forget(&mut self, now: Instant, retention: Duration) {
        loop {
            let is_too_much = self.bytes > MAX_BYTES || self.generations.len() > MAX_GENERATIONS;
            let Some(entry) = self.generations.first_entry() else { return };
            if !is_too_much && entry.get().first_arrival + retention >= now {
                return;
            }
            let (generation, stored) = entry.remove_entry();
            self.bytes -= stored.bytes;
            self.floor = generation.next();
        }
    }

    /// K.
    pub(crate) fn stripes(&self) -> StripeCount {
        self.stripes
    }

    pub(crate) fn get(&self, generation: GenerationId) -> Option<&Stored> {
        self.generations.get(&generation)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (GenerationId, &Stored)> {
        self.generations.iter().map(|(generation, stored)| (*generation, stored))
    }

    pub(crate) fn newest(&self) -> Option<GenerationId> {
        self.generations.keys().next_back().copied()
    }

    /// The newest generation of which `stripe` has a header.
    pub(crate) fn head(&self, stripe: StripeId) -> Option<GenerationId> {
        self.heads.get(stripe.index()).copied().flatten()
    }

    /// Payload bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// From where a new parent of `stripe` should push: the first gap in what is not older than
    /// `since`, or live where nothing is here at all.
    pub(crate) fn resume_point(&self, stripe: StripeId, since: Option<GenerationId>) -> Start {
        let mut generations = self
            .generations
            .iter()
            .filter(|(generation, _)| since.is_none_or(|s| **generation >= s));
        let gap = generations.find_map(|(generation, stored)| {
            let missing =
                if stored.header(stripe).is_some() { stored.first_missing(stripe) } else { 0 };
            (usize::from(missing) < stored.chunk_count() || stored.header(stripe).is_none())
                .then_some(Start::At(*generation, missing))
        });
        match (gap, self.newest()) {
            (Some(gap), _) => gap,
            (None, Some(newest)) => Start::At(newest.next(), 0),
            (None, None) => Start::Live,
        }
    }

    /// The generation at which pushing from `start` begins, given what is here.
    pub(crate) fn first_to_push(&self, stripe: StripeId, start: Start) -> (GenerationId, u16) {
        match start {
            Start::At(generation, chunk) => (generation, chunk),
            Start::Live => {
                let mut held =
                    self.generations.iter().rev().filter(|(_, g)| g.header(stripe).is_some());
                let entry = held.find(|(_, stored)| stored.is_random_access());
                let newest = self.newest().unwrap_or_default();
                (entry.map_or(newest, |(generation, _)| *generation), 0)
            }
        }
    }
}
