//! The library's kernels, with a shorter way to where the erasures are.
//!
//! Decides how the erasure locator is evaluated, and nothing else: the code words are the library's.
//!
//! A decoder needs, for each shard i, the product of (i − j) over all missing shards j, as a
//! logarithm: a sum. The library takes it for all 65,536 elements of the field at once, by two
//! Walsh transforms: 0.2 to 0.8 ms a call, measured, whatever it is given. Here there are at most
//! 128 places, so the sums are taken as they stand. What is missing is a few shards, or everything
//! but a few: then the sum is over those few and its sign is changed, for the logarithms of all
//! elements but zero add up to a multiple of 65,535, which is nothing.

use reed_solomon_simd::engine::{
    DefaultEngine, Engine, GF_MODULUS, GF_ORDER, GfElement, ShardsRefMut, tables,
};

/// Places a code word of 64 shards can take: data and parity, each rounded up to a power of two.
pub(crate) const PLACES: usize = 128;

/// The fastest kernels of this machine, for code words of at most [`PLACES`].
#[derive(Default)]
pub(crate) struct FewShards(DefaultEngine);

impl Engine for FewShards {
    fn fft(
        &self,
        data: &mut ShardsRefMut<'_>,
        pos: usize,
        size: usize,
        truncated_size: usize,
        skew_delta: usize,
    ) {
        self.0.fft(data, pos, size, truncated_size, skew_delta);
    }

    fn ifft(
        &self,
        data: &mut ShardsRefMut<'_>,
        pos: usize,
        size: usize,
        truncated_size: usize,
        skew_delta: usize,
    ) {
        self.0.ifft(data, pos, size, truncated_size, skew_delta);
    }

    fn mul(&self, x: &mut [[u8; 64]], log_m: GfElement) {
        self.0.mul(x, log_m);
    }

    /// Turns marks of what is missing into logarithms, in the first [`PLACES`] only: a decoder of
    /// at most 64 shards looks at no other, and marks all others alike.
    fn eval_poly(erasures: &mut [GfElement; GF_ORDER], _truncated_size: usize) {
        let log = &tables::get_exp_log().log;
        let (places, rest) = erasures.split_at_mut(PLACES);
        let are_others_missing = rest.first() == Some(&1);
        debug_assert!(rest.iter().all(|mark| *mark == u16::from(are_others_missing)));
        let mut rare = [0; PLACES];
        let mut count = 0;
        for (place, mark) in (0usize..).zip(places.iter()) {
            if (*mark == 1) != are_others_missing {
                rare[count] = place;
                count += 1;
            }
        }
        for (place, value) in (0usize..).zip(places.iter_mut()) {
            // A shard is no factor of its own.
            let others = rare[..count].iter().filter(|other| **other != place);
            let sum: u32 = others.map(|other| u32::from(log[place ^ other])).sum();
            let sum = sum % u32::from(GF_MODULUS);
            let sum = if are_others_missing { u32::from(GF_MODULUS) - sum } else { sum };
            *value = GfElement::try_from(sum).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The library's way, as its decoders mark what is missing.
    fn assert_same(marks: [GfElement; GF_ORDER], places: usize) {
        let (mut ours, mut theirs) = (Box::new(marks), Box::new(marks));
        FewShards::eval_poly(&mut ours, GF_ORDER);
        DefaultEngine::eval_poly(&mut theirs, GF_ORDER);
        for place in 0..places {
            // 0 and 65,535 are the same power.
            let power = |log: GfElement| log % GF_MODULUS;
            assert_eq!(power(ours[place]), power(theirs[place]), "place {place}");
        }
    }

    #[test]
    fn the_locator_is_the_library_s_at_every_place() {
        let mut state = 1u64;
        for case in 0..40 {
            let mut marks = [0; GF_ORDER];
            for mark in &mut marks[..PLACES] {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *mark = u16::from(state >> 60 < case / 4);
            }
            if case % 2 == 1 {
                marks[PLACES..].fill(1);
            }
            assert_same(marks, PLACES);
        }
    }
}
