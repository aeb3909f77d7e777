//! Inputs that were once good, damaged.
//!
//! Decides the kinds of damage. None of them knows a format; half of them keep the length, so that frames
//! and boxes stay whole and the damage reaches what is in them.

use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

/// Longest input that comes of it; longer ones are cut.
const MAX_LENGTH: usize = 32 << 10;

/// Numbers at which fields are off by one, overflow, or ask for everything.
const BOUNDARIES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Makes inputs of seeds. The same name and seeds give the same inputs.
pub(crate) struct Mutator<'a> {
    seeds: &'a [Vec<u8>],
    rng: ChaCha12Rng,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(name: &str, seeds: &'a [Vec<u8>]) -> Self {
        let mut seed = [0; 32];
        for (byte, letter) in seed.iter_mut().zip(name.bytes()) {
            *byte = letter;
        }
        Self { seeds, rng: ChaCha12Rng::from_seed(seed) }
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.seeds.choose(&mut self.rng).cloned().unwrap_or_default();
        // Mostly little damage: much of it ends at the first check.
        let times = 1 << self.rng.random_range(0..4);
        for _ in 0..self.rng.random_range(1..=times) {
            self.damage(&mut input);
        }
        input.truncate(MAX_LENGTH);
        input
    }

    fn damage(&mut self, input: &mut Vec<u8>) {
        let length = input.len();
        if length == 0 {
            input.push(self.rng.random());
            return;
        }
        let at = self.place(length);
        let end = (at + self.span()).min(length);
        match self.rng.random_range(0..14) {
            0..=2 => input[at] ^= 1 << self.rng.random_range(0..8),
            3 => input[at] = self.rng.random(),
            4 => input[at] = input[at].wrapping_add([1, 0xff][self.rng.random_range(0..2)]),
            5 => input[at..end].fill([0, 0xff, 0x80][self.rng.random_range(0..3)]),
            6 | 7 => self.boundary(input, at),
            8 => input.truncate(at),
            9 => drop(input.drain(at..end)),
            10 => {
                let copied = input[at..end].to_vec();
                let times = self.rng.random_range(1..4);
                drop(input.splice(at..at, copied.repeat(times)));
            }
            11 => {
                let noise: Vec<u8> = (at..end).map(|_| self.rng.random()).collect();
                drop(input.splice(at..at, noise));
            }
            12 => {
                // The head of one, the tail of another.
                let other = self.seeds.choose(&mut self.rng).cloned().unwrap_or_default();
                let from = self.rng.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                // A part goes elsewhere.
                let moved: Vec<u8> = input.drain(at..end).collect();
                let to = self.rng.random_range(0..=input.len());
                drop(input.splice(to..to, moved));
            }
        }
    }

    /// Writes a number at which something may go wrong, as wide as fields are.
    fn boundary(&mut self, input: &mut [u8], at: usize) {
        let left = (input.len() - at) as u64;
        let number = match self.rng.random_range(0..4) {
            0 => left.wrapping_add_signed(self.rng.random_range(-9..=1)),
            _ => *BOUNDARIES.choose(&mut self.rng).unwrap(),
        };
        let width = [1, 2, 3, 4, 8][self.rng.random_range(0..5)];
        let bytes = number.to_be_bytes();
        for (place, byte) in input[at..].iter_mut().zip(&bytes[8 - width..]) {
            *place = *byte;
        }
    }

    /// Where the damage is: anywhere, but a third of it in the first bytes, where heads are.
    fn place(&mut self, length: usize) -> usize {
        let end = if self.rng.random_range(0..3) == 0 { length.min(48) } else { length };
        self.rng.random_range(0..end)
    }

    /// How many bytes it takes: mostly few, now and then a transport packet.
    fn span(&mut self) -> usize {
        match self.rng.random_range(0..8) {
            0 => 188,
            1 => self.rng.random_range(1..600),
            _ => self.rng.random_range(1..16),
        }
    }
}
