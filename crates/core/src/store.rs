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
use banyan_coding::optimise::coded_length;
use banyan_wire::{
    BroadcastId, ChunkId, DescriptionHeader, GenerationId, LayerLayout, Roles, Sealed, Start,
    StripeCount, StripeId, Verifier, chunk_hash,
};

use crate::{Instant, Violation};

/// Most generations held, whatever the retention: 64 of 500 ms are 32 s.
const MAX_GENERATIONS: usize = 64;
/// Most payload bytes held: 16 s of a 25 Mbit/s programme and its redundancy. At the limit the
/// oldest generation goes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A header emitted this long before the newest one here can only be a replay: nobody keeps a
/// generation for a tenth of it.
const REPLAY_HORIZON: Duration = Duration::from_secs(120);

/// How far behind the newest a newcomer begins, where there is a choice: with that it can play as soon
/// as it has enough stripes, half a second before what comes live is due.
const HEAD_START: Duration = Duration::from_millis(500);
/// And how far at most: what is older is not worth its bytes.
const MAX_HEAD_START: Duration = Duration::from_millis(1500);

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
    /// Stripes of which something did not come by itself.
    helped: Roles,
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

    /// Descriptions that came whole and by themselves.
    pub(crate) fn arrived(&self) -> u8 {
        let stripes = self.first.commitment.layout.stripes();
        let came = |stripe: &StripeId| {
            !self.helped.contains(*stripe) && self.assembler.is_description_complete(*stripe)
        };
        u8::try_from(stripes.iter().filter(came).count()).unwrap_or(u8::MAX)
    }

    /// Something of `stripe` was rebuilt here, or had to be asked for.
    pub(crate) fn note_help(&mut self, stripe: StripeId) {
        self.helped.insert(stripe);
    }

    /// Bytes of the layers, and of all descriptions of them, without headers.
    pub(crate) fn lengths(&self) -> (u64, u64) {
        let layout = &self.first.commitment.layout;
        let coded = |layer: &LayerLayout| {
            coded_length(layout.stripes(), u64::from(layer.length), layer.threshold)
        };
        let layers = layout.layers();
        let source = layers.iter().map(|layer| u64::from(layer.length)).sum();
        (source, layers.iter().map(coded).sum())
    }

    /// The layers' thresholds.
    pub(crate) fn thresholds(&self) -> Vec<u8> {
        self.first.commitment.layout.layers().iter().map(|layer| layer.threshold).collect()
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

    /// Verifies and keeps a header. One emitted more than `retention` before the newest here is
    /// stale, so that an old generation, genuine as it is, cannot pass for the live edge.
    pub(crate) fn insert_header(
        &mut self,
        now: Instant,
        header: DescriptionHeader,
        retention: Duration,
    ) -> Insert {
        let commitment = &header.commitment;
        let generation = commitment.generation;
        if commitment.layout.stripes() != self.stripes || !self.stripes.contains(header.stripe) {
            return Insert::Refused(Violation::Mismatch);
        }
        let age = self.newest_emission().saturating_sub(commitment.emitted_at);
        if u128::from(age) > REPLAY_HORIZON.as_micros() {
            return Insert::Refused(Violation::Replayed);
        }
        if generation < self.floor || u128::from(age) > retention.as_micros() {
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
            helped: Roles::NONE,
        });
        if stored.first.commitment != header.commitment {
            // The source signed two versions of a generation. The first one here counts: mixing
            // them would rebuild neither. Whoever passed the other on is not to blame.
            return Insert::Duplicate;
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
        let stored =
            Stored { headers, first, assembler, first_arrival: now, bytes, helped: Roles::NONE };
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
            stored.note_help(*stripe);
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
            let newest = self.newest_emission();
            let Some(entry) = self.generations.first_entry() else { return };
            let age = newest.saturating_sub(entry.get().emitted_at());
            let is_old = u128::from(age) > retention.as_micros()
                || entry.get().first_arrival + retention < now;
            if !is_too_much && !is_old {
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

    /// When the newest generation here was emitted, on the source's clock.
    fn newest_emission(&self) -> u64 {
        self.generations.values().next_back().map_or(0, Stored::emitted_at)
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

    /// The generation at which pushing from `start` begins, given what is here. For somebody who has
    /// nothing yet: the newest one to begin with, or the one before where that leaves less than a
    /// [`HEAD_START`] and the one before is not much older.
    pub(crate) fn first_to_push(
        &self,
        now: Instant,
        stripe: StripeId,
        start: Start,
    ) -> (GenerationId, u16) {
        if let Start::At(generation, chunk) = start {
            return (generation, chunk);
        }
        let held = self.generations.iter().rev();
        let mut entries =
            held.filter(|(_, g)| g.header(stripe).is_some() && g.is_random_access()).peekable();
        let newest = entries.peek().map(|(generation, _)| **generation);
        let is_behind = |stored: &Stored| stored.first_arrival + HEAD_START <= now;
        let is_near = |stored: &Stored| stored.first_arrival + MAX_HEAD_START > now;
        let entry = entries
            .find(|(_, stored)| is_behind(stored))
            .filter(|(_, stored)| is_near(stored))
            .map(|(generation, _)| *generation);
        (entry.or(newest).or_else(|| self.newest()).unwrap_or_default(), 0)
    }
}

#[cfg(test)]
mod tests {
    use banyan_coding::{Layer, encode};
    use banyan_wire::BroadcastKey;

    use super::*;

    const RETENTION: Duration = Duration::from_secs(8);

    fn key() -> BroadcastKey {
        BroadcastKey::from_seed(&[1; 32])
    }

    fn store() -> Store {
        let broadcast = key().broadcast();
        let verifier = Verifier::new(&broadcast).expect("a key");
        Store::new(broadcast, verifier, StripeCount::DEFAULT)
    }

    /// The headers and chunks of a generation emitted `seconds` after the broadcast began.
    fn generation(id: u64, seconds: u64) -> (Vec<DescriptionHeader>, Vec<Vec<Bytes>>) {
        let layers = [Layer { threshold: 11, data: vec![7; 9000].into() }];
        let coded = encode(StripeCount::DEFAULT, 256, &layers).expect("valid layers");
        let hashes = coded.chunks.iter().map(|c| c.iter().map(|c| chunk_hash(c)).collect());
        let emitted_at = seconds * 1_000_000;
        let sealed =
            Sealed::new(GenerationId(id), emitted_at, true, coded.layout, hashes.collect());
        let signature = sealed.sign(&key());
        let headers = StripeCount::DEFAULT.iter().map(|s| sealed.header(s, signature)).collect();
        (headers, coded.chunks)
    }

    #[test]
    fn an_old_generation_does_not_pass_for_the_live_edge_however_genuine_it_is() {
        let mut store = store();
        let (live, _) = generation(1000, 500);
        let (old, _) = generation(980, 490);
        let (ancient, _) = generation(2, 1);
        assert_eq!(store.insert_header(Instant::ZERO, live[0].clone(), RETENTION), Insert::New);
        assert_eq!(store.insert_header(Instant::ZERO, old[0].clone(), RETENTION), Insert::Stale);
        let refused = Insert::Refused(Violation::Replayed);
        assert_eq!(store.insert_header(Instant::ZERO, ancient[0].clone(), RETENTION), refused);
    }

    #[test]
    fn what_was_replayed_to_a_newcomer_is_forgotten_when_the_live_edge_comes() {
        let mut store = store();
        let (old, _) = generation(2, 1);
        assert_eq!(store.insert_header(Instant::ZERO, old[0].clone(), RETENTION), Insert::New);
        let (live, _) = generation(1000, 500);
        assert_eq!(store.insert_header(Instant::ZERO, live[0].clone(), RETENTION), Insert::New);
        store.forget(Instant::ZERO, RETENTION);
        assert!(store.get(GenerationId(2)).is_none() && store.get(GenerationId(1000)).is_some());
    }

    #[test]
    fn a_chunk_needs_its_header_and_a_header_its_signature() {
        let mut store = store();
        let (headers, chunks) = generation(5, 1);
        let id = ChunkId { generation: GenerationId(5), stripe: StripeId(3), index: 0 };
        assert_eq!(store.insert_chunk(id, chunks[3][0].clone()), Insert::Headless);
        let mut forged = headers[3].clone();
        forged.signature[0] ^= 1;
        let refused = Insert::Refused(Violation::Forged);
        assert_eq!(store.insert_header(Instant::ZERO, forged, RETENTION), refused);
        let header = headers[3].clone();
        assert_eq!(store.insert_header(Instant::ZERO, header, RETENTION), Insert::New);
        let refused = Insert::Refused(Violation::ForgedChunk);
        assert_eq!(store.insert_chunk(id, chunks[4][0].slice(1..)), refused);
        assert_eq!(store.insert_chunk(id, chunks[3][0].clone()), Insert::New);
        assert_eq!(store.insert_chunk(id, chunks[3][0].clone()), Insert::Duplicate);
    }

    #[test]
    fn a_rebuilt_description_is_the_one_the_source_made() {
        let mut store = store();
        let (headers, chunks) = generation(5, 1);
        for stripe in (0..13).map(StripeId) {
            let header = headers[stripe.index()].clone();
            store.insert_header(Instant::ZERO, header, RETENTION);
            for (index, chunk) in (0..).zip(&chunks[stripe.index()]) {
                let id = ChunkId { generation: GenerationId(5), stripe, index };
                assert_eq!(store.insert_chunk(id, chunk.clone()), Insert::New);
            }
        }
        let missing = store.complete(GenerationId(5), &[StripeId(15)]).expect("can be rebuilt");
        assert_eq!(missing, [(StripeId(15), (0..chunks[15].len()).collect::<Vec<_>>())]);
        let stored = store.get(GenerationId(5)).expect("here");
        assert_eq!(
            stored.header(StripeId(15)).map(|h| DescriptionHeader::clone(h)),
            Some(headers[15].clone())
        );
        assert_eq!(stored.chunk(StripeId(15), 0), Some(chunks[15][0].clone()));
    }

    #[test]
    fn a_newcomer_begins_half_a_second_back_and_never_much_further() {
        let mut store = store();
        let at = |millis: u64| Instant::from_micros(millis * 1_000);
        for (id, millis) in [(1, 0), (2, 500), (3, 1_000)] {
            let (headers, _) = generation(id, id);
            store.insert_header(at(millis), headers[0].clone(), RETENTION);
        }
        let first = |now| store.first_to_push(at(now), StripeId(0), Start::Live).0;
        assert_eq!(first(1_100), GenerationId(2));
        assert_eq!(first(1_500), GenerationId(3));
        assert_eq!(first(9_000), GenerationId(3), "what is old is not made older");
        let given = Start::At(GenerationId(7), 3);
        assert_eq!(store.first_to_push(at(1_100), StripeId(0), given), (GenerationId(7), 3));
    }

    #[test]
    fn the_store_resumes_at_its_first_gap() {
        let mut store = store();
        assert_eq!(store.resume_point(StripeId(0), None), Start::Live);
        let (headers, chunks) = generation(5, 1);
        store.insert_header(Instant::ZERO, headers[0].clone(), RETENTION);
        let id = ChunkId { generation: GenerationId(5), stripe: StripeId(0), index: 0 };
        store.insert_chunk(id, chunks[0][0].clone());
        assert_eq!(store.resume_point(StripeId(0), None), Start::At(GenerationId(5), 1));
        assert_eq!(store.resume_point(StripeId(1), None), Start::At(GenerationId(5), 0));
        let next = Some(GenerationId(6));
        assert_eq!(store.resume_point(StripeId(0), next), Start::At(GenerationId(6), 0));
    }
}
