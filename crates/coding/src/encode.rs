//! From layers to descriptions.
//!
//! Decides the bytes of every chunk, and how long chunks should be.

use banyan_wire::{DecodeError, LayerLayout, Layout, MAX_CHUNK_LENGTH, MAX_CHUNKS, StripeCount};
use bytes::Bytes;

use crate::Layer;
use crate::code::ColumnCoder;

/// A generation, coded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Its layers and its chunk length.
    pub layout: Layout,
    /// The chunks of each description: `chunks[stripe][index]`.
    pub chunks: Vec<Vec<Bytes>>,
}

/// Why a generation could not be coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The layers or the chunk length are outside the limits of [`Layout::new`].
    #[error("the layers make no layout")]
    Layout(#[from] DecodeError),
    /// A layer is longer than its length field can say.
    #[error("a layer of {0} bytes")]
    LayerLength(usize),
}

/// Codes a generation into K descriptions, one for each stripe, cut into chunks.
///
/// Data chunks are slices of the layer's own bytes wherever those suffice, so they cost nothing
/// and keep the layer alive; only the layer's end is copied, to pad it. Parity chunks own their
/// bytes. With a threshold of 1 all descriptions share the same chunks.
///
/// # Errors
/// [`EncodeError`] where there is no such layout.
pub fn encode(
    stripes: StripeCount,
    chunk_length: u32,
    layers: &[Layer],
) -> Result<Encoded, EncodeError> {
    let spans = layers.iter().map(|layer| {
        let length = u32::try_from(layer.data.len())
            .map_err(|_| EncodeError::LayerLength(layer.data.len()))?;
        Ok(LayerLayout { threshold: layer.threshold, length })
    });
    let layout = Layout::new(stripes, chunk_length, spans.collect::<Result<_, EncodeError>>()?)?;

    let mut chunks: Vec<Vec<Bytes>> =
        stripes.iter().map(|_| Vec::with_capacity(layout.chunk_count())).collect();
    for (index, layer) in layers.iter().enumerate() {
        let threshold = usize::from(layer.threshold);
        let shard_length = layout.shard_length(index);
        let mut coder = ColumnCoder::new(threshold, stripes.len());
        for span in layout.chunks_of_layer(index).filter_map(|chunk| layout.chunk_span(chunk)) {
            let data: Vec<Bytes> = (0..threshold)
                .map(|shard| padded(&layer.data, shard * shard_length + span.offset, span.length))
                .collect();
            let parity = coder.parity(&data);
            for (description, chunk) in chunks.iter_mut().zip(data.into_iter().chain(parity)) {
                description.push(chunk);
            }
        }
    }
    Ok(Encoded { layout, chunks })
}

/// `length` bytes of `data` from `start` on, with zeros where it has ended.
fn padded(data: &Bytes, start: usize, length: usize) -> Bytes {
    let end = start + length;
    if end <= data.len() {
        return data.slice(start..end);
    }
    if start >= data.len() {
        return Bytes::from_static(&ZEROS[..length]);
    }
    let mut chunk = Vec::with_capacity(length);
    chunk.extend_from_slice(&data[start..]);
    chunk.resize(length, 0);
    chunk.into()
}

static ZEROS: [u8; MAX_CHUNK_LENGTH as usize] = [0; MAX_CHUNK_LENGTH as usize];

/// Bytes of one description of `layers`, header not counted: what [`chunk_length_for`] asks for,
/// before there is a layout.
#[must_use]
pub fn description_length(layers: &[Layer]) -> usize {
    let shard = |layer: &Layer| {
        layer.data.len().div_ceil(usize::from(layer.threshold).max(1)).next_multiple_of(2)
    };
    layers.iter().map(shard).sum()
}

/// A chunk length for descriptions of about `description_length` bytes: an eighth of it, as a
/// multiple of 64, from 1 KiB to 8 KiB.
///
/// A peer forwards chunk by chunk, so each hop adds the time of one chunk, not of a description;
/// with eight a tree ten hops deep has its last chunk after little more than two description
/// times instead of ten. More of them would gain little and cost each its 32-byte hash in the
/// header, its frame and its turn through every queue, hence the floor: at 1 KiB that is about
/// 4 %. The ceiling is for narrow uplinks: 8 KiB hold one of 2 Mbit/s for 33 ms, and that is how
/// long anything more urgent may have to wait.
///
/// Above the 8 MiB where that would be more chunks than a description may have (one stripe, more
/// than 130 Mbit/s), chunks grow past 8 KiB.
#[must_use]
pub fn chunk_length_for(description_length: usize) -> u32 {
    let length = description_length
        .div_ceil(CHUNKS)
        .clamp(SHORTEST, LONGEST)
        // Each layer may end in a broken chunk, hence the allowance.
        .max(description_length.div_ceil(MAX_CHUNKS - banyan_wire::MAX_LAYERS))
        .next_multiple_of(GRAIN);
    u32::try_from(length).unwrap_or(MAX_CHUNK_LENGTH).min(MAX_CHUNK_LENGTH)
}

/// Chunks a description is meant to have.
const CHUNKS: usize = 8;
const SHORTEST: usize = 1024;
const LONGEST: usize = 8 * 1024;
/// [`Layout`] takes only multiples of it.
const GRAIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(threshold: u8, length: usize) -> Layer {
        Layer { threshold, data: (0..length).map(|i| i.to_le_bytes()[0] | 1).collect() }
    }

    #[test]
    fn data_chunks_are_the_layer_itself_and_only_its_end_is_copied() {
        let layer = layer(4, 4 * 1024 + 1);
        let encoded =
            encode(StripeCount::DEFAULT, 512, std::slice::from_ref(&layer)).expect("fits");
        let own = layer.data.as_ptr_range();
        let flags: Vec<Vec<bool>> = encoded.chunks[..4]
            .iter()
            .map(|chunks| chunks.iter().map(|chunk| own.contains(&chunk.as_ptr())).collect())
            .collect();
        assert_eq!(
            flags,
            [[true, true, true], [true, true, true], [true, true, true], [true, false, false]]
        );
        let joined: Vec<u8> = encoded.chunks[..4].iter().flatten().flatten().copied().collect();
        assert_eq!(joined[..layer.data.len()], layer.data);
        assert!(joined[layer.data.len()..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn threshold_one_shares_the_same_bytes_and_threshold_k_has_no_parity() {
        let stripes = StripeCount::new(4).expect("a power of two");
        let encoded = encode(stripes, 256, &[layer(1, 600), layer(4, 600)]).expect("fits");
        for chunks in &encoded.chunks {
            for (chunk, first) in chunks[..3].iter().zip(&encoded.chunks[0]) {
                assert_eq!(chunk.as_ptr(), first.as_ptr());
            }
        }
        let joined: Vec<u8> =
            encoded.chunks.iter().flat_map(|chunks| &chunks[3..]).flatten().copied().collect();
        assert_eq!(joined, layer(4, 600).data);
    }

    #[test]
    fn every_chunk_is_as_long_as_the_layout_says() {
        for lengths in [[0, 0], [1, 0], [0, 1], [1, 1], [5_000, 12_345], [65_536, 3]] {
            let layers = [layer(11, lengths[0]), layer(13, lengths[1])];
            let Encoded { layout, chunks } =
                encode(StripeCount::DEFAULT, 256, &layers).expect("fits");
            assert_eq!(layout.description_length(), description_length(&layers));
            for description in chunks {
                let lengths: Vec<_> = description.iter().map(Bytes::len).collect();
                let spans = (0..layout.chunk_count()).filter_map(|index| layout.chunk_span(index));
                assert_eq!(lengths, spans.map(|span| span.length).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn layers_that_make_no_layout_are_refused() {
        let refused = |layers: &[Layer], chunk_length| {
            assert!(encode(StripeCount::DEFAULT, chunk_length, layers).is_err());
        };
        refused(&[], 1024);
        refused(&[layer(0, 1)], 1024);
        refused(&[layer(17, 1)], 1024);
        refused(&[layer(2, 1), layer(1, 1)], 1024);
        refused(&[layer(1, 1)], 1000);
        refused(&[layer(1, 1), layer(1, banyan_wire::MAX_GENERATION_BYTES)], 1024);
    }

    #[test]
    fn chunk_lengths_are_valid_and_give_about_eight_chunks() {
        assert_eq!(chunk_length_for(0), 1024);
        assert_eq!(chunk_length_for(8 * 1024 + 1), 1088);
        assert_eq!(chunk_length_for(16_400), 2112);
        assert_eq!(chunk_length_for(60_000), 7552);
        assert_eq!(chunk_length_for(1 << 20), 8192);
        assert_eq!(chunk_length_for(usize::MAX), MAX_CHUNK_LENGTH);
        for length in (0..16 * 1024 * 1024 - 64 * 1024).step_by(9_973) {
            let length = u32::try_from(length).expect("16 MiB");
            let layers = vec![LayerLayout { threshold: 1, length }];
            let chunk_length = chunk_length_for(length as usize);
            assert!(Layout::new(StripeCount::ONE, chunk_length, layers).is_ok(), "{length}");
        }
    }
}
