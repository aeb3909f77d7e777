//! The programme that is streamed: pseudo-random bytes, cut into layers as a publisher would.
//!
//! Decides how large the layers of a generation are, so that the coded stream has the rate that was
//! asked for.

use std::time::Duration;

use banyan_coding::{Layer, chunk_length_for, description_length, thresholds};
use banyan_wire::StripeCount;
use bytes::Bytes;
use clap::ValueEnum;

use crate::units::Bitrate;

/// Programme in one generation: the default of `banyan publish`.
pub(crate) const GENERATION: Duration = Duration::from_millis(500);
/// Share of sound and key pictures in the programme's bytes. A guess: one key picture in two
/// seconds is about a tenth of a usual stream at 2 Mbit/s, its sound another twentieth.
const BASE_SHARE: f64 = 0.15;
/// Bytes of noise; payloads are slices of it, so that making them costs nothing.
const NOISE: usize = 8 * 1024 * 1024;
/// Payloads begin at odd places, so that no two in a row are the same.
const STRIDE: usize = 65_537;

/// How a generation is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layering {
    /// Sound and key pictures, then everything else: what `banyan publish` does.
    Priority,
    /// One layer.
    Single,
}

/// The layers of every generation, as thresholds and lengths.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    layers: Vec<(u8, usize)>,
    stripes: StripeCount,
}

impl Plan {
    /// Layers whose coded form, all K descriptions together, has the rate `coded`.
    pub(crate) fn for_coded_rate(coded: Bitrate, layering: Layering, stripes: StripeCount) -> Self {
        let k = f64::from(stripes.value());
        let shares = match layering {
            Layering::Single => vec![(thresholds::single(stripes), 1.0)],
            Layering::Priority => {
                let [base, rest] = thresholds::priority(stripes);
                vec![(base, BASE_SHARE), (rest, 1.0 - BASE_SHARE)]
            }
        };
        let overhead: f64 =
            shares.iter().map(|(threshold, share)| share * k / f64::from(*threshold)).sum();
        let media = coded.times(1.0 / overhead);
        let layers = shares
            .into_iter()
            .map(|(threshold, share)| (threshold, media.times(share).bytes_in(GENERATION)));
        Self { layers: layers.collect(), stripes }
    }

    /// One layer of `length` bytes in one stripe: nothing but the payload.
    pub(crate) fn plain(length: usize) -> Self {
        Self { layers: vec![(1, length)], stripes: StripeCount::ONE }
    }

    /// The stripes of the broadcast.
    pub(crate) const fn stripes(&self) -> StripeCount {
        self.stripes
    }

    /// The layers of one generation.
    pub(crate) fn generation(&self, noise: &mut Noise) -> Vec<Layer> {
        let layer = |(threshold, length): &(u8, usize)| Layer {
            threshold: *threshold,
            data: noise.take(*length),
        };
        self.layers.iter().map(layer).collect()
    }

    /// Bytes of programme in a generation.
    pub(crate) fn media_bytes(&self) -> usize {
        self.layers.iter().map(|(_, length)| length).sum()
    }

    /// Chunk bytes of all K descriptions of a generation.
    pub(crate) fn coded_bytes(&self) -> usize {
        self.description_length() * self.stripes.len()
    }

    /// Bits per second of one stripe, as the manifest says.
    pub(crate) fn stripe_rate(&self) -> Bitrate {
        let per_second = 1.0 / GENERATION.as_secs_f64();
        Bitrate(self.description_length() as u64 * 8).times(per_second)
    }

    /// Bytes of one chunk.
    pub(crate) fn chunk_length(&self) -> u32 {
        chunk_length_for(self.description_length())
    }

    fn description_length(&self) -> usize {
        let layer = |(threshold, length): &(u8, usize)| Layer {
            threshold: *threshold,
            data: Bytes::from(vec![0; *length]),
        };
        description_length(&self.layers.iter().map(layer).collect::<Vec<_>>())
    }
}

/// An endless supply of bytes that do not compress.
#[derive(Clone, Debug)]
pub(crate) struct Noise {
    bytes: Bytes,
    next: usize,
}

impl Noise {
    pub(crate) fn new() -> Self {
        // xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators".
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut bytes = Vec::with_capacity(NOISE);
        while bytes.len() < NOISE {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        Self { bytes: bytes.into(), next: 0 }
    }

    /// The next `length` bytes; at most [`NOISE`].
    pub(crate) fn take(&mut self, length: usize) -> Bytes {
        let length = length.min(NOISE);
        if self.next + length > NOISE {
            self.next %= STRIDE;
        }
        let start = self.next.min(NOISE - length);
        self.next += length.max(STRIDE);
        self.bytes.slice(start..start + length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coded_stream_has_the_rate_that_was_asked_for() {
        for layering in [Layering::Priority, Layering::Single] {
            let plan = Plan::for_coded_rate(Bitrate(10_000_000), layering, StripeCount::DEFAULT);
            let coded = plan.coded_bytes();
            assert!((624_900..625_200).contains(&coded), "{layering:?}: {coded}");
            assert!(plan.media_bytes() < coded);
        }
    }

    #[test]
    fn a_plain_plan_adds_nothing() {
        let plan = Plan::plain(76 * 8192);
        assert_eq!((plan.media_bytes(), plan.coded_bytes()), (76 * 8192, 76 * 8192));
        assert_eq!(plan.chunk_length(), 8192);
    }

    #[test]
    fn noise_never_runs_out() {
        let mut noise = Noise::new();
        for _ in 0..100 {
            assert_eq!(noise.take(NOISE / 3).len(), NOISE / 3);
        }
        assert_eq!(noise.take(NOISE).len(), NOISE);
    }
}
