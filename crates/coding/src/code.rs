//! The Reed–Solomon code over one column, or over several columns at once.
//!
//! Decides which code words exist: systematic, over GF(2¹⁶), as `reed-solomon-simd` makes them
//! (Leopard; Lin, Al-Naffouri, Han and Chung, 2016). The wire format depends on it bit by bit:
//! `proto/vectors/coding.json` pins its output. Two cases are ours: threshold 1 is repetition,
//! threshold K has no parity.
//!
//! The code works on 16-bit symbols, byte j of each half of a 64-byte block, so columns of whole
//! blocks may be laid end to end and decoded as one. The assembler does so, for each call has to find
//! out anew where the erasures are ([`crate::engine`]). A column that is not whole blocks must come
//! last.

use bytes::Bytes;
use reed_solomon_simd::ReedSolomonEncoder;
use reed_solomon_simd::rate::{DefaultRateDecoder, RateDecoder as _};

use crate::engine::FewShards;

/// Makes the parity of columns that share a code.
pub(crate) struct ColumnCoder {
    threshold: usize,
    stripes: usize,
    /// Kept from column to column for its working memory.
    encoder: Option<ReedSolomonEncoder>,
}

impl ColumnCoder {
    /// A coder for layers with `threshold` of `stripes` descriptions. Costs nothing until used.
    pub(crate) const fn new(threshold: usize, stripes: usize) -> Self {
        Self { threshold, stripes, encoder: None }
    }

    /// The chunks of stripes `threshold … K − 1`, from those of stripes `0 … threshold − 1`, which
    /// are of one length, even and not 0.
    pub(crate) fn parity(&mut self, data: &[Bytes]) -> Vec<Bytes> {
        assert_eq!(data.len(), self.threshold, "one chunk of each data shard");
        let parity = self.stripes - self.threshold;
        if parity == 0 {
            return Vec::new();
        }
        if self.threshold == 1 {
            return vec![data[0].clone(); parity];
        }
        let length = data[0].len();
        let encoder = match &mut self.encoder {
            Some(encoder) => {
                encoder.reset(self.threshold, parity, length).expect(VALID);
                encoder
            }
            none => {
                none.insert(ReedSolomonEncoder::new(self.threshold, parity, length).expect(VALID))
            }
        };
        for chunk in data {
            encoder.add_original_shard(chunk).expect("chunks of a column have one length");
        }
        let result = encoder.encode().expect("all data shards were added");
        result.recovery_iter().map(Bytes::copy_from_slice).collect()
    }
}

/// Gives back the data shards that are not among `shards`, as (shard, bytes).
///
/// `shards` are any `threshold` different shards of the `stripes`, as (shard, bytes), all of
/// `length` bytes, even and not 0. `threshold` is more than 1 and less than `stripes`.
pub(crate) fn recover<T: AsRef<[u8]>>(
    threshold: usize,
    stripes: usize,
    length: usize,
    shards: impl IntoIterator<Item = (usize, T)>,
) -> Vec<(usize, Bytes)> {
    let engine = FewShards::default();
    let mut decoder =
        DefaultRateDecoder::new(threshold, stripes - threshold, length, engine, None).expect(VALID);
    for (shard, bytes) in shards {
        let added = match shard.checked_sub(threshold) {
            None => decoder.add_original_shard(shard, bytes),
            Some(parity) => decoder.add_recovery_shard(parity, bytes),
        };
        added.expect("shards are different, below K and of one length");
    }
    let result = decoder.decode().expect("as many shards as the threshold");
    result
        .restored_original_iter()
        .map(|(shard, bytes)| (shard, Bytes::copy_from_slice(bytes)))
        .collect()
}

const VALID: &str = "2 … 64 shards of an even length are supported";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coding_column_by_column_is_coding_whole_shards() {
        // Two whole columns of 256 bytes and a last one of every even length that fits.
        for (threshold, stripes) in [(13, 16), (6, 16), (2, 4), (3, 4), (26, 32), (33, 64)] {
            for tail in [2, 30, 62, 64, 66, 100, 254] {
                let data: Vec<Bytes> = (0..threshold)
                    .map(|shard| (0..512 + tail).map(|i| byte(shard, i)).collect::<Vec<_>>().into())
                    .collect();
                let mut coder = ColumnCoder::new(threshold, stripes);
                let whole = coder.parity(&data);
                let mut joined = vec![Vec::new(); stripes - threshold];
                for column in [0..256, 256..512, 512..512 + tail] {
                    let column: Vec<_> = data.iter().map(|s| s.slice(column.clone())).collect();
                    for (joined, chunk) in joined.iter_mut().zip(coder.parity(&column)) {
                        joined.extend_from_slice(&chunk);
                    }
                }
                assert_eq!(whole, joined, "RS({stripes}, {threshold}), tail of {tail}");

                // And as whole shards they are decoded.
                let parity =
                    joined.iter().enumerate().map(|(p, bytes)| (threshold + p, &bytes[..]));
                let kept = data.iter().enumerate().map(|(shard, bytes)| (shard, &bytes[..]));
                // The last ones: as few data shards as can be.
                let shards = kept.chain(parity).skip(stripes - threshold);
                for (shard, bytes) in recover(threshold, stripes, 512 + tail, shards) {
                    assert_eq!(bytes, data[shard]);
                }
            }
        }
    }

    fn byte(shard: usize, index: usize) -> u8 {
        let [byte, ..] = (shard * 31 + index * 7 + index / 256 * 13).to_le_bytes();
        byte
    }
}
