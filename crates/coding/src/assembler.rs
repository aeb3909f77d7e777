//! One generation coming together: chunks in, in any order; layers and missing descriptions out.
//!
//! Decides what can be rebuilt and rebuilds it. It takes chunks on trust: hashes are checked
//! before, by `banyan-wire`. When a layer is due, and who is sent what, is left to `banyan-core`.
//!
//! Columns are independent code words, so each is decodable by itself. To rebuild a layer,
//! columns that a common set of at least `threshold` descriptions covers are decoded in one call;
//! with whole descriptions lost, the usual case, that is one call a layer.

use banyan_wire::{Layout, StripeId};
use bytes::Bytes;

use crate::Encoded;
use crate::code::{ColumnCoder, recover};

/// The chunks of one generation that are at hand.
///
/// Holds at most one payload for each chunk of the layout, so memory is bounded by K descriptions;
/// the tables of a description are made when its first chunk comes. Nothing is cached: each call
/// of [`layer`](Self::layer) and its like that has to decode does so again.
#[derive(Clone, Debug)]
pub struct Assembler {
    layout: Layout,
    chunk_count: usize,
    /// One for each stripe.
    descriptions: Vec<Description>,
    /// For each column, the stripes whose chunk is here.
    columns: Vec<StripeSet>,
    /// For each layer, how many of its columns cannot be decoded yet.
    undecodable: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
struct Description {
    /// Empty until the first chunk comes, then one for each column.
    chunks: Vec<Option<Bytes>>,
    received: usize,
}

/// Bit s stands for stripe s, which is also shard s.
type StripeSet = u64;

/// A set of columns decoded in one call.
struct Batch {
    /// Stripes whose chunk is here in every column of the batch.
    common: StripeSet,
    columns: Vec<usize>,
}

impl Assembler {
    /// Begins a generation of which nothing is at hand. Layers of no bytes are there already.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let chunk_count = layout.chunk_count();
        Self {
            chunk_count,
            descriptions: vec![Description::default(); layout.stripes().len()],
            columns: vec![0; chunk_count],
            undecodable: (0..layout.layers().len())
                .map(|layer| layout.chunks_of_layer(layer).len())
                .collect(),
            layout,
        }
    }

    /// Keeps chunk `index` of the description of `stripe`; says whether it was new.
    ///
    /// A chunk that is here already, that the layout does not have, or that is not as long as the
    /// layout says is dropped, and the answer is `false`.
    pub fn insert(&mut self, stripe: StripeId, index: usize, chunk: Bytes) -> bool {
        let (Some(description), Some(span)) =
            (self.descriptions.get_mut(stripe.index()), self.layout.chunk_span(index))
        else {
            return false;
        };
        if chunk.len() != span.length {
            return false;
        }
        if description.chunks.is_empty() {
            description.chunks.resize(self.chunk_count, None);
        }
        let slot = &mut description.chunks[index];
        if slot.is_some() {
            return false;
        }
        *slot = Some(chunk);
        description.received += 1;
        let column = &mut self.columns[index];
        *column |= 1 << stripe.0;
        if column.count_ones() == u32::from(self.layout.layers()[span.layer].threshold) {
            self.undecodable[span.layer] -= 1;
        }
        true
    }

    /// What the generation looks like.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Chunk `index` of the description of `stripe`, where it is here.
    #[must_use]
    pub fn chunk(&self, stripe: StripeId, index: usize) -> Option<&Bytes> {
        self.descriptions.get(stripe.index())?.chunks.get(index)?.as_ref()
    }

    /// Whether chunk `index` of the description of `stripe` is here.
    #[must_use]
    pub fn has(&self, stripe: StripeId, index: usize) -> bool {
        self.chunk(stripe, index).is_some()
    }

    /// How many chunks of the description of `stripe` are here.
    #[must_use]
    pub fn chunks_of(&self, stripe: StripeId) -> usize {
        self.descriptions.get(stripe.index()).map_or(0, |description| description.received)
    }

    /// Whether the whole description of `stripe` is here. `false` for a stripe there is not.
    #[must_use]
    pub fn is_description_complete(&self, stripe: StripeId) -> bool {
        self.layout.stripes().contains(stripe) && self.chunks_of(stripe) == self.chunk_count
    }

    /// How many whole descriptions are here: 0 … K.
    #[must_use]
    pub fn complete_descriptions(&self) -> u8 {
        let stripes = self.layout.stripes().iter();
        stripes.map(|stripe| u8::from(self.is_description_complete(stripe))).sum()
    }

    /// Whether [`layer`](Self::layer) would give the layer. Cheap. `false` for one there is not.
    #[must_use]
    pub fn is_layer_decodable(&self, layer: usize) -> bool {
        self.undecodable.get(layer) == Some(&0)
    }

    /// Whether every layer is decodable, so that every description can be regenerated. Cheap.
    #[must_use]
    pub fn is_decodable(&self) -> bool {
        self.undecodable.iter().all(|columns| *columns == 0)
    }

    /// Rebuilds a layer; `None` until enough chunks of each of its columns are here.
    ///
    /// With all data chunks here this is one copy, and none at all where the first chunk holds
    /// the layer; otherwise some 400 MB/s, and a few tens of microseconds for each batch of columns
    /// decoded.
    #[must_use]
    pub fn layer(&self, layer: usize) -> Option<Bytes> {
        let length = self.layout.layers().get(layer)?.length as usize;
        let shards = self.data_shards(layer)?;
        match shards.first().and_then(|shard| shard.first()) {
            None => Some(Bytes::new()),
            Some(first) if first.len() >= length => Some(first.slice(..length)),
            Some(_) => {
                let mut bytes = Vec::with_capacity(length);
                for chunk in shards.iter().flatten() {
                    let missing = length - bytes.len();
                    bytes.extend_from_slice(&chunk[..chunk.len().min(missing)]);
                }
                Some(bytes.into())
            }
        }
    }

    /// The description of `stripe`, its missing chunks computed, bit for bit as the source made
    /// them; `None` while a layer it misses chunks of cannot be decoded.
    ///
    /// Costs a decode, and for a parity shard an encode, of each layer it misses chunks of. For
    /// several descriptions [`rebuild`](Self::rebuild) is cheaper.
    #[must_use]
    pub fn regenerate(&self, stripe: StripeId) -> Option<Vec<Bytes>> {
        let description = self.descriptions.get(stripe.index())?;
        let mut chunks = Vec::with_capacity(self.chunk_count);
        for layer in 0..self.layout.layers().len() {
            let range = self.layout.chunks_of_layer(layer);
            let own = description.chunks.get(range.clone()).unwrap_or_default();
            if own.len() == range.len() && own.iter().all(Option::is_some) {
                chunks.extend(own.iter().flatten().cloned());
                continue;
            }
            let shards = self.data_shards(layer)?;
            if let Some(shard) = shards.get(stripe.index()) {
                chunks.extend_from_slice(shard);
                continue;
            }
            let mut coder = ColumnCoder::new(shards.len(), self.descriptions.len());
            for (place, index) in range.enumerate() {
                chunks.push(match self.chunk(stripe, index) {
                    Some(chunk) => chunk.clone(),
                    None => coder
                        .parity(&column(&shards, place))
                        .swap_remove(stripe.index() - shards.len()),
                });
            }
        }
        Some(chunks)
    }

    /// All K descriptions, those at hand as they are and the others as
    /// [`regenerate`](Self::regenerate) gives them; `None` until every layer decodes.
    ///
    /// One decode and one encode of each layer that misses anything, however many descriptions
    /// are missing.
    #[must_use]
    pub fn rebuild(&self) -> Option<Encoded> {
        if !self.is_decodable() {
            return None;
        }
        let mut chunks: Vec<Vec<Bytes>> =
            self.descriptions.iter().map(|_| Vec::with_capacity(self.chunk_count)).collect();
        for layer in 0..self.layout.layers().len() {
            let shards = self.data_shards(layer)?;
            let mut coder = ColumnCoder::new(shards.len(), self.descriptions.len());
            for (place, index) in self.layout.chunks_of_layer(layer).enumerate() {
                let mut word = column(&shards, place);
                let parity = shards.len()..self.descriptions.len();
                if self.columns[index] & set_of(parity.clone()) == set_of(parity.clone()) {
                    word.extend(parity.filter_map(|s| self.descriptions[s].chunks[index].clone()));
                } else {
                    word.extend(coder.parity(&word));
                }
                for (description, chunk) in chunks.iter_mut().zip(word) {
                    description.push(chunk);
                }
            }
        }
        Some(Encoded { layout: self.layout.clone(), chunks })
    }

    /// The data shards of a layer, chunk by chunk: `[shard][place within the layer]`.
    fn data_shards(&self, layer: usize) -> Option<Vec<Vec<Bytes>>> {
        if !self.is_layer_decodable(layer) {
            return None;
        }
        let threshold = usize::from(self.layout.layers()[layer].threshold);
        let range = self.layout.chunks_of_layer(layer);
        let mut shards: Vec<Vec<Option<Bytes>>> = self.descriptions[..threshold]
            .iter()
            .map(|description| match description.chunks.get(range.clone()) {
                Some(chunks) => chunks.to_vec(),
                None => vec![None; range.len()],
            })
            .collect();
        if threshold == 1 {
            // Repetition: the chunk of any stripe will do.
            for (chunk, index) in shards[0].iter_mut().zip(range) {
                let stripe = self.columns[index].trailing_zeros() as usize;
                chunk.clone_from(&self.descriptions[stripe].chunks[index]);
            }
        } else {
            for batch in self.batches(layer) {
                for (shard, bytes) in self.recover(threshold, &batch) {
                    let mut start = 0;
                    for index in &batch.columns {
                        let end = start + self.chunk_length(*index);
                        shards[shard][index - range.start]
                            .get_or_insert_with(|| bytes.slice(start..end));
                        start = end;
                    }
                }
            }
        }
        shards.into_iter().map(|shard| shard.into_iter().collect()).collect()
    }

    /// The columns of a decodable layer that miss a data chunk, in as few batches as one pass
    /// finds. Columns of a batch ascend, so that the broken one at the layer's end comes last, as
    /// the code wants it.
    fn batches(&self, layer: usize) -> Vec<Batch> {
        let threshold = u32::from(self.layout.layers()[layer].threshold);
        let data = set_of(0..threshold as usize);
        let mut batches: Vec<Batch> = Vec::new();
        for index in self.layout.chunks_of_layer(layer) {
            let present = self.columns[index];
            if present & data == data {
                continue;
            }
            let fitting =
                batches.iter_mut().find(|b| (b.common & present).count_ones() >= threshold);
            match fitting {
                Some(batch) => {
                    batch.common &= present;
                    batch.columns.push(index);
                }
                None => batches.push(Batch { common: present, columns: vec![index] }),
            }
        }
        batches
    }

    /// The data shards that are not common to the columns of `batch`, those columns end to end.
    fn recover(&self, threshold: usize, batch: &Batch) -> Vec<(usize, Bytes)> {
        let length = batch.columns.iter().map(|index| self.chunk_length(*index)).sum();
        let mut sources = Vec::with_capacity(threshold);
        let mut joined = Vec::with_capacity(length * threshold);
        // Data shards come first, so none that is in every column is computed.
        let common = (0..self.descriptions.len()).filter(|shard| batch.common & (1 << *shard) != 0);
        for shard in common.take(threshold) {
            sources.push(shard);
            let chunks = &self.descriptions[shard].chunks;
            for chunk in batch.columns.iter().filter_map(|index| chunks[*index].as_ref()) {
                joined.extend_from_slice(chunk);
            }
        }
        let shards = sources.into_iter().zip(joined.chunks_exact(length));
        recover(threshold, self.descriptions.len(), length, shards)
    }

    fn chunk_length(&self, index: usize) -> usize {
        self.layout.chunk_span(index).map_or(0, |span| span.length)
    }
}

/// The data chunks at `place` of each shard.
fn column(shards: &[Vec<Bytes>], place: usize) -> Vec<Bytes> {
    shards.iter().map(|shard| shard[place].clone()).collect()
}

/// The stripes of a range that ends at 64 or before.
fn set_of(stripes: std::ops::Range<usize>) -> StripeSet {
    stripes.fold(0, |set, stripe| set | 1 << stripe)
}
