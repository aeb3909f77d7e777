//! Which share of the descriptions should give a layer back.
//!
//! The figures are of 16 descriptions and scaled to K; they were measured on one clip of H.264
//! (15 two-second groups of pictures, real coder, random losses), so directions are safe and
//! decimals are not. Where the audience tells what it receives,
//! [`redundancy`](crate::redundancy) takes their place.

use banyan_wire::StripeCount;

/// The threshold where the whole generation is one layer: ⌈13/16 K⌉.
///
/// Measured, independent losses: RS(16, 13) costs 1.23 × the bytes and gives 45.9 dB at 2 % and
/// 45.7 dB at 5 %, within 0.2 dB of every other code tried; RS(16, 12) at 1.33 × is better by that
/// much only from 5 % on.
///
/// K = 1 gives 1. For K = 4 rounding up would leave no parity at all, so it gives 3: 1.33 ×, the
/// rate of RS(16, 12). K = 2 gives 2, no parity: surviving a lost stripe there means sending
/// everything twice, which is for the caller to ask for.
#[must_use]
pub const fn single(stripes: StripeCount) -> u8 {
    let threshold = sixteenths(13, stripes);
    if stripes.value() >= 4 { at_most(threshold, stripes.value() - 1) } else { threshold }
}

/// The thresholds of two layers from one rendition: sound and key pictures at ⌈11/16 K⌉,
/// everything else as [`single`].
///
/// Three quarters of the bits of a usual stream are one chain of references, so all pictures but
/// the key pictures share a threshold: the optimum at every loss rate from 2 to 20 % put them on
/// one level, and sound on that level or one below. Lowering only sound and key pictures makes
/// "nothing seen or heard" rarer by orders of magnitude for a few per cent of bytes.
///
/// K = 1 gives \[1, 1\]; K = 2 gives \[1, 2\]: sound and key pictures in both stripes, the rest
/// split; K = 4 gives \[3, 3\].
#[must_use]
pub const fn priority(stripes: StripeCount) -> [u8; 2] {
    let base = sixteenths(11, stripes);
    let base = if stripes.value() >= 2 { at_most(base, stripes.value() - 1) } else { base };
    [base, single(stripes)]
}

/// The thresholds of two renditions: sound and the low one at ⌈6/16 K⌉, the full one as
/// [`single`].
///
/// Measured: 240p at 120 kbit/s with sound below, 1.5 Mbit/s above, cost 1.51 × the bytes; 6 of 16
/// descriptions give 35.9 dB at the full frame rate and no freeze, 13 give everything.
#[must_use]
pub const fn ladder(stripes: StripeCount) -> [u8; 2] {
    [sixteenths(6, stripes), single(stripes)]
}

/// ⌈share/16 K⌉.
const fn sixteenths(share: u8, stripes: StripeCount) -> u8 {
    // At most ⌈16/16 · 64⌉; the product needs more than a byte.
    let exact = (share as u16 * stripes.value() as u16).div_ceil(16);
    #[expect(clippy::cast_possible_truncation, reason = "share is at most 16, so at most K")]
    let threshold = exact as u8;
    threshold
}

const fn at_most(value: u8, limit: u8) -> u8 {
    if value < limit { value } else { limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_the_measured_shares_and_sensible_for_few_stripes() {
        let table: Vec<_> = (0..=6)
            .map(|bits| StripeCount::new(1 << bits).expect("a power of two"))
            .map(|stripes| (stripes.value(), single(stripes), priority(stripes), ladder(stripes)))
            .collect();
        assert_eq!(
            table,
            [
                (1, 1, [1, 1], [1, 1]),
                (2, 2, [1, 2], [1, 2]),
                (4, 3, [3, 3], [2, 3]),
                (8, 7, [6, 7], [3, 7]),
                (16, 13, [11, 13], [6, 13]),
                (32, 26, [22, 26], [12, 26]),
                (64, 52, [44, 52], [24, 52]),
            ]
        );
    }
}
