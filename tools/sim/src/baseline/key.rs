//! Keys on the ring, and the small dice with which baselines decide.
//!
//! A node's key is a pure function of the seed and its index, so that any machine can place any
//! other without being told. Which key is *close* to which depends on the shape of the table and is
//! decided in [`super::routing`].

use crate::node::Index;

/// A place on the ring of 2^128: of a node or of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub u128);

impl Key {
    /// The key of the node `index` in the world with this seed.
    #[must_use]
    pub fn of_node(seed: u64, index: Index) -> Self {
        Self::hash(seed, 0x6e6f_6465 << 32 | u64::from(index))
    }

    /// The key of the channel, from which the stripes' keys are made.
    pub(crate) fn of_channel(seed: u64) -> Self {
        Self::hash(seed, 0x6368_616e_6e65_6c00)
    }

    /// The key of the spare capacity group.
    pub(crate) fn of_spare_group(seed: u64) -> Self {
        Self::hash(seed, 0x7370_6172_6500_0000)
    }

    /// This key with its first `bits` bits overwritten: stripe keys differ in the first digit
    /// (SOSP'03).
    pub(crate) fn with_first_digit(self, digit: u8, bits: u32) -> Self {
        let rest = self.0 << bits >> bits;
        Self(u128::from(digit) << (128 - bits) | rest)
    }

    /// This key with its second digit set to the middle one.
    pub(crate) fn with_middling_second_digit(self, bits: u32) -> Self {
        let mask = ((1u128 << bits) - 1) << (128 - 2 * bits);
        Self(self.0 & !mask | 1u128 << (127 - bits))
    }

    /// The digit of `bits` bits in this row, from the most significant one.
    #[must_use]
    pub fn digit(self, row: u32, bits: u32) -> usize {
        let shift = (row * bits).min(127);
        let digit = (self.0 << shift) >> (128 - bits);
        usize::try_from(digit).expect("a digit has few bits")
    }

    /// How many leading digits of `bits` bits two keys have in common.
    #[must_use]
    pub const fn prefix(self, other: Self, bits: u32) -> u32 {
        (self.0 ^ other.0).leading_zeros() / bits
    }

    /// The way from here to `other` with growing keys.
    #[must_use]
    pub const fn clockwise_to(self, other: Self) -> u128 {
        other.0.wrapping_sub(self.0)
    }

    /// The shorter way to `other`: Pastry's distance.
    #[must_use]
    pub fn ring_distance(self, other: Self) -> u128 {
        self.clockwise_to(other).min(other.clockwise_to(self))
    }

    /// Kademlia's distance.
    #[must_use]
    pub const fn xor_distance(self, other: Self) -> u128 {
        self.0 ^ other.0
    }

    fn hash(seed: u64, what: u64) -> Self {
        let mut dice = Dice::new(mix(seed) ^ mix(what.wrapping_add(0x9e37_79b9_7f4a_7c15)));
        Self(u128::from(dice.draw()) << 64 | u128::from(dice.draw()))
    }
}

/// SplitMix64: eight bytes of state, because there is one in each of 40,000 nodes.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 to `end` - 1; 0 where `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u128::try_from(end).expect("a length fits");
        let scaled = (u128::from(self.draw()) * end) >> 64;
        usize::try_from(scaled).expect("smaller than a length")
    }

    /// One of them, if there are any.
    pub(crate) fn pick<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        let at = self.below(among.len());
        among.get(at).copied()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// A number of parts per million, for spreading timers.
    pub(crate) fn millionths(&mut self) -> u32 {
        u32::try_from(self.below(1_000_000)).expect("below a million")
    }
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripe_keys_differ_in_the_first_digit_only() {
        let channel = Key::of_channel(7);
        let stripe = channel.with_first_digit(0xb, 4);
        assert_eq!(stripe.digit(0, 4), 0xb);
        assert_eq!(stripe.digit(1, 4), channel.digit(1, 4));
        assert_eq!(stripe.with_middling_second_digit(4).digit(1, 4), 8);
        assert_eq!(stripe.with_middling_second_digit(4).digit(0, 4), 0xb);
    }

    #[test]
    fn the_ring_has_no_end() {
        let (low, high) = (Key(3), Key(u128::MAX - 1));
        assert_eq!(low.ring_distance(high), 5);
        assert_eq!(high.clockwise_to(low), 5);
    }

    #[test]
    fn equal_seeds_give_equal_keys_and_others_do_not() {
        assert_eq!(Key::of_node(1, 9), Key::of_node(1, 9));
        assert_ne!(Key::of_node(1, 9), Key::of_node(2, 9));
        assert_ne!(Key::of_node(1, 9), Key::of_node(1, 10));
    }
}
