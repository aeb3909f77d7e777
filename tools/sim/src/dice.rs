//! Everything random in the world: one named generator, and the few shapes that are drawn from it.
//!
//! Decides no parameters. Children are seeded from the parent by a name, so that one more draw in
//! one place changes nothing in another.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A generator of one purpose.
#[derive(Clone, Debug)]
pub struct Dice {
    rng: ChaCha8Rng,
}

impl Dice {
    /// The generator for `purpose` in the run of `seed`.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mixed = purpose.bytes().fold(mix(seed), |hash, byte| mix(hash ^ u64::from(byte)));
        Self { rng: ChaCha8Rng::seed_from_u64(mixed) }
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// From 0 up to but not including 1.
    pub fn unit(&mut self) -> f64 {
        self.rng.random()
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// From 0 up to but not including `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    /// Normal, mean 0 and deviation 1 (Box and Muller; the second of the pair is not used, so that
    /// each draw takes the same from the generator).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Log-normal, by its median and the deviation of its logarithm.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// Exponential, by its mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// An index into `weights`, drawn by weight; the last where rounding leaves a rest.
    pub fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut left = self.unit() * weights.clone().sum::<f64>();
        let mut last = 0;
        for (index, weight) in weights.enumerate() {
            last = index;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// Takes up to `count` of `items` at random, in random order, to the end of the slice, and
    /// returns them.
    pub fn draw<'a, T>(&mut self, items: &'a mut [T], count: usize) -> &'a [T] {
        let count = count.min(items.len());
        let rest = items.len() - count;
        for end in (rest..items.len()).rev() {
            let chosen = self.below(end + 1);
            items.swap(chosen, end);
        }
        &items[rest..]
    }
}

/// Spreads 64 bits over 64 bits (the finaliser of `SplitMix64`).
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_do_not_share_draws() {
        assert_ne!(Dice::new(1, "links").bits(), Dice::new(1, "churn").bits());
        assert_eq!(Dice::new(1, "links").bits(), Dice::new(1, "links").bits());
    }

    #[test]
    fn shapes_have_their_middles() {
        let mut dice = Dice::new(3, "test");
        let mut values: Vec<f64> = (0..9_999).map(|_| dice.lognormal(60.0, 1.0)).collect();
        values.sort_by(f64::total_cmp);
        assert!((55.0..65.0).contains(&values[4_999]));
        let mean = (0..9_999).map(|_| dice.exponential(8.0)).sum::<f64>() / 9_999.0;
        assert!((7.6..8.4).contains(&mean));
    }

    #[test]
    fn what_is_drawn_is_drawn_once() {
        let mut items: Vec<u32> = (0..50).collect();
        let mut drawn = Dice::new(5, "test").draw(&mut items, 20).to_vec();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 20);
    }
}
