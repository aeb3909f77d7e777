//! The geometry of a coded generation: layers, shards, columns, and which chunk holds what.
//!
//! ```text
//!                 layer 0                     layer 1
//!            column 0   column 1    column 2   column 3   column 4
//! stripe 0  │ chunk 0 │ chunk 1 │  chunk 2  │ chunk 3  │ chunk 4 │   one description
//! stripe 1  │ chunk 0 │ chunk 1 │  chunk 2  │ chunk 3  │ chunk 4 │
//!   …            any threshold(0)        any threshold(1) chunks of
//! stripe K-1     chunks of a column give it back          a column …
//! ```
//!
//! Layer l of `length` bytes is padded with zeros to `threshold` equal shards and coded into K of
//! them; shard s goes into stripe s. Shards are cut into chunks of `chunk_length`; a chunk never
//! spans two layers, so each column is a code word of its own. Coding itself is `banyan-coding`'s.

use crate::{DecodeError, StripeCount};

/// Most layers of a generation. DESIGN.md §6 needs two or three.
pub const MAX_LAYERS: usize = 8;
/// Longest chunk, in bytes. Larger ones would hold up a narrow uplink: at 2 Mbit/s this one
/// already takes 65 ms.
pub const MAX_CHUNK_LENGTH: u32 = 16 * 1024;
/// Shortest chunk length, in bytes. Shorter ones would cost more in hashes than they carry.
pub const MIN_CHUNK_LENGTH: u32 = 256;
/// Most chunks of one description.
pub const MAX_CHUNKS: usize = 1024;
/// Most bytes of one generation, all layers together: 500 ms at 250 Mbit/s.
pub const MAX_GENERATION_BYTES: usize = 16 * 1024 * 1024;
/// Chunk lengths and shard lengths are multiples of this: the code works on 16-bit symbols, in
/// blocks of 64 bytes.
const CHUNK_GRAIN: u32 = 64;

/// One layer: which share of the descriptions gives it back, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerLayout {
    /// k_l: how many descriptions, any of the K, give the layer back. 1 … K.
    pub threshold: u8,
    /// Bytes of the layer before coding. May be 0: the layer then has no chunks.
    pub length: u32,
}

/// A generation's layers and its chunk length. Valid by construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    stripes: StripeCount,
    chunk_length: u32,
    layers: Vec<LayerLayout>,
}

/// Where a chunk of a description lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSpan {
    /// Its layer.
    pub layer: usize,
    /// Its first byte within the shard of that layer.
    pub offset: usize,
    /// Its bytes.
    pub length: usize,
}

impl Layout {
    /// Checks and keeps a layout.
    ///
    /// # Errors
    /// [`DecodeError`] where a limit of this module is exceeded, a threshold is not in 1 … K,
    /// thresholds decrease from one layer to the next, or the chunk length is not a multiple of
    /// 64 within its bounds.
    pub fn new(
        stripes: StripeCount,
        chunk_length: u32,
        layers: Vec<LayerLayout>,
    ) -> Result<Self, DecodeError> {
        if layers.is_empty() || layers.len() > MAX_LAYERS {
            return Err(DecodeError::TooMany { what: "layers" });
        }
        if !(MIN_CHUNK_LENGTH..=MAX_CHUNK_LENGTH).contains(&chunk_length)
            || !chunk_length.is_multiple_of(CHUNK_GRAIN)
        {
            return Err(DecodeError::OutOfRange { what: "chunk length" });
        }
        let mut least = 1;
        let mut total = 0_usize;
        for layer in &layers {
            if layer.threshold < least || layer.threshold > stripes.value() {
                return Err(DecodeError::OutOfRange { what: "layer threshold" });
            }
            least = layer.threshold;
            total = total.saturating_add(layer.length as usize);
        }
        if total > MAX_GENERATION_BYTES {
            return Err(DecodeError::OutOfRange { what: "generation length" });
        }
        let layout = Self { stripes, chunk_length, layers };
        if layout.chunk_count() > MAX_CHUNKS {
            return Err(DecodeError::TooMany { what: "chunks" });
        }
        Ok(layout)
    }

    /// K.
    #[must_use]
    pub const fn stripes(&self) -> StripeCount {
        self.stripes
    }

    /// Bytes of a whole chunk; the last chunk of a shard may be shorter.
    #[must_use]
    pub const fn chunk_length(&self) -> u32 {
        self.chunk_length
    }

    /// The layers, base first.
    #[must_use]
    pub fn layers(&self) -> &[LayerLayout] {
        &self.layers
    }

    /// Bytes of one shard of `layer`: its length divided by its threshold, rounded up to an even
    /// number. 0 for an empty layer or one that does not exist.
    #[must_use]
    pub fn shard_length(&self, layer: usize) -> usize {
        self.layers.get(layer).map_or(0, |layer| {
            (layer.length as usize).div_ceil(usize::from(layer.threshold)).next_multiple_of(2)
        })
    }

    /// Bytes of one description, header not counted.
    #[must_use]
    pub fn description_length(&self) -> usize {
        (0..self.layers.len()).map(|layer| self.shard_length(layer)).sum()
    }

    /// Chunks of one description.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        (0..self.layers.len())
            .map(|layer| self.shard_length(layer).div_ceil(self.chunk_length as usize))
            .sum()
    }

    /// Where chunk `index` lies; `None` past the last one.
    #[must_use]
    pub fn chunk_span(&self, index: usize) -> Option<ChunkSpan> {
        let mut first = 0;
        for layer in 0..self.layers.len() {
            let columns = self.columns(layer);
            if index < first + columns {
                let offset = (index - first) * self.chunk_length as usize;
                let length = (self.shard_length(layer) - offset).min(self.chunk_length as usize);
                return Some(ChunkSpan { layer, offset, length });
            }
            first += columns;
        }
        None
    }

    /// The chunk indices that hold `layer`.
    #[must_use]
    pub fn chunks_of_layer(&self, layer: usize) -> std::ops::Range<usize> {
        let first = (0..layer.min(self.layers.len())).map(|layer| self.columns(layer)).sum();
        first..first + self.columns(layer)
    }

    fn columns(&self, layer: usize) -> usize {
        self.shard_length(layer).div_ceil(self.chunk_length as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(layers: &[(u8, u32)]) -> Result<Layout, DecodeError> {
        let layers =
            layers.iter().map(|&(threshold, length)| LayerLayout { threshold, length }).collect();
        Layout::new(StripeCount::DEFAULT, 1024, layers)
    }

    #[test]
    fn spans_tile_every_shard_without_gap_or_overlap() {
        let layout = layout(&[(8, 10_001), (8, 0), (13, 40_000)]).expect("valid");
        let mut end = [0; 3];
        for index in 0..layout.chunk_count() {
            let span = layout.chunk_span(index).expect("within the count");
            assert_eq!(span.offset, end[span.layer]);
            assert!(layout.chunks_of_layer(span.layer).contains(&index));
            end[span.layer] += span.length;
        }
        assert_eq!(end, [layout.shard_length(0), 0, layout.shard_length(2)]);
        assert_eq!(layout.chunk_span(layout.chunk_count()), None);
        assert_eq!(end.iter().sum::<usize>(), layout.description_length());
    }

    #[test]
    fn layouts_outside_the_limits_are_refused() {
        assert!(layout(&[]).is_err());
        assert!(layout(&[(1, 1); 9]).is_err());
        assert!(layout(&[(0, 1)]).is_err());
        assert!(layout(&[(17, 1)]).is_err());
        assert!(layout(&[(9, 1), (8, 1)]).is_err());
        assert!(layout(&[(16, u32::MAX)]).is_err());
        assert!(layout(&[(1, 2_000_000)]).is_err(), "more chunks than a description may have");
        let layers = vec![LayerLayout { threshold: 1, length: 1 }];
        for chunk_length in [0, 64, 1000, 1 << 20, u32::MAX] {
            assert!(Layout::new(StripeCount::DEFAULT, chunk_length, layers.clone()).is_err());
        }
    }
}
