//! The names of things: broadcasts, peers, stripes, generations, chunks, and the 256-bit key space.
//!
//! Decides how names are derived and compared. Who routes by them is left to `banyan-core`.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::DecodeError;

/// Most stripes a broadcast may have. Bounded so that a set of stripes fits a `u64`.
pub const MAX_STRIPES: u8 = 64;

/// One live programme, named by its source's Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BroadcastId(pub [u8; 32]);

impl BroadcastId {
    /// The first eight bytes, which stand for the broadcast in frames between two of its peers.
    #[must_use]
    pub const fn tag(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// One peer, named by the Ed25519 public key of its transport identity.
///
/// The libp2p peer id of the same key is the identity multihash of its protobuf form, 38 bytes,
/// so the two names carry the same information. Peers with other kinds of keys are not part of
/// any forest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

impl PeerId {
    /// The bytes of the libp2p peer id: identity multihash (0x00, 36) of the protobuf public key
    /// (field 1 = Ed25519, field 2 = 32 bytes).
    #[must_use]
    pub fn to_libp2p_bytes(&self) -> [u8; 38] {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&LIBP2P_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        bytes
    }

    /// Reads a libp2p peer id.
    ///
    /// # Errors
    /// [`DecodeError::PeerId`] where it is not the identity multihash of an Ed25519 key.
    pub fn from_libp2p_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let key = bytes.strip_prefix(&LIBP2P_PREFIX).ok_or(DecodeError::PeerId)?;
        Ok(Self(key.try_into().map_err(|_| DecodeError::PeerId)?))
    }

    /// Where the peer stands in the key space of libp2p-kad: SHA-256 of its libp2p peer id.
    #[must_use]
    pub fn kademlia_key(&self) -> Key {
        Key(Sha256::digest(self.to_libp2p_bytes()).into())
    }
}

const LIBP2P_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// A point of the 256-bit key space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// XOR distance, the metric of Kademlia. Distances to one key are all different, so "closer to
    /// the key" is a total order over peers.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Distance {
        let mut bytes = self.0;
        for (byte, other) in bytes.iter_mut().zip(other.0) {
            *byte ^= other;
        }
        Distance(bytes)
    }

    /// The top `stripes.digit_bits()` bits, as a stripe.
    #[must_use]
    pub const fn digit(&self, stripes: StripeCount) -> StripeId {
        let bits = stripes.digit_bits();
        if bits == 0 { StripeId(0) } else { StripeId(self.0[0] >> (8 - bits)) }
    }

    /// The key with its digit replaced.
    #[must_use]
    pub const fn with_digit(mut self, stripe: StripeId, stripes: StripeCount) -> Self {
        let bits = stripes.digit_bits();
        if bits > 0 {
            let mask = 0xff_u8 >> bits;
            self.0[0] = (self.0[0] & mask) | (stripe.0 << (8 - bits));
        }
        self
    }
}

/// How far two keys are apart; big-endian, so that the order of bytes is the order of distances.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance(pub [u8; 32]);

/// Names a stripe of its broadcast: 0 … K − 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StripeId(pub u8);

impl StripeId {
    /// As an index into a table of the broadcast's stripes.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// K, the number of stripes: a power of two from 1 to [`MAX_STRIPES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StripeCount(u8);

impl StripeCount {
    /// The default K, as in the SplitStream paper.
    pub const DEFAULT: Self = Self(16);
    /// One stripe: a single tree.
    pub const ONE: Self = Self(1);

    /// Checks `count`; `None` unless it is a power of two from 1 to [`MAX_STRIPES`].
    #[must_use]
    pub const fn new(count: u32) -> Option<Self> {
        if count.is_power_of_two() && count <= MAX_STRIPES as u32 {
            #[expect(clippy::cast_possible_truncation, reason = "bounded by MAX_STRIPES")]
            let count = count as u8;
            Some(Self(count))
        } else {
            None
        }
    }

    /// K.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }

    /// K, as the length of a table.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "K is at least 1")]
    pub const fn len(self) -> usize {
        self.0 as usize
    }

    /// log2 K: the bits of a digit.
    #[must_use]
    pub const fn digit_bits(self) -> u32 {
        self.0.trailing_zeros()
    }

    /// Whether `stripe` is one of the broadcast's.
    #[must_use]
    pub const fn contains(self, stripe: StripeId) -> bool {
        stripe.0 < self.0
    }

    /// All stripes, in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = StripeId> + ExactSizeIterator {
        (0..self.0).map(StripeId)
    }
}

/// The key of a stripe: SHA-256 of (broadcast, s, n) for the least n whose digit is s.
///
/// Everyone can compute it; its digit is s; and because it is a SHA-256 of known bytes, stock
/// libp2p-kad, which hashes whatever it is asked for, can look it up ([`stripe_key_preimage`]).
/// Expected number of hashes: K.
#[must_use]
pub fn stripe_key(broadcast: &BroadcastId, stripe: StripeId, stripes: StripeCount) -> Key {
    Key(Sha256::digest(stripe_key_preimage(broadcast, stripe, stripes)).into())
}

/// The bytes whose SHA-256 is the stripe's key: the broadcast id, s, n as four bytes big-endian.
#[must_use]
pub fn stripe_key_preimage(
    broadcast: &BroadcastId,
    stripe: StripeId,
    stripes: StripeCount,
) -> [u8; 37] {
    let mut bytes = [0; 37];
    bytes[..32].copy_from_slice(&broadcast.0);
    bytes[32] = stripe.0;
    let mut n: u32 = 0;
    loop {
        bytes[33..].copy_from_slice(&n.to_be_bytes());
        // A digit has at most six bits, so 2^32 misses in a row do not happen; wrapping keeps the
        // loop defined all the same.
        if Key(Sha256::digest(bytes).into()).digit(stripes) == stripe || !stripes.contains(stripe) {
            return bytes;
        }
        n = n.wrapping_add(1);
    }
}

/// The set of a peer's primary stripes: one, or up to ⌈K/N⌉ where a broadcast has N < K peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Roles(pub u64);

impl Roles {
    /// No primary stripe: the peer is a leaf everywhere.
    pub const NONE: Self = Self(0);

    /// One primary stripe.
    #[must_use]
    pub const fn one(stripe: StripeId) -> Self {
        Self(1 << (stripe.0 & 63))
    }

    /// Whether `stripe` is primary.
    #[must_use]
    pub const fn contains(self, stripe: StripeId) -> bool {
        self.0 & Self::one(stripe).0 != 0
    }

    /// Adds a primary stripe.
    pub const fn insert(&mut self, stripe: StripeId) {
        self.0 |= Self::one(stripe).0;
    }

    /// Gives one up.
    pub const fn remove(&mut self, stripe: StripeId) {
        self.0 &= !Self::one(stripe).0;
    }

    /// How many there are.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The primary stripes, lowest first.
    pub fn iter(self) -> impl Iterator<Item = StripeId> {
        (0..MAX_STRIPES).map(StripeId).filter(move |stripe| self.contains(*stripe))
    }
}

/// Names a generation: they are numbered from 0 in the order the source makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GenerationId(pub u64);

impl GenerationId {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Names a chunk: the smallest unit that is sent, requested or listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId {
    /// Its generation.
    pub generation: GenerationId,
    /// The stripe whose description it is part of.
    pub stripe: StripeId,
    /// Its place in the description, from 0.
    pub index: u16,
}

macro_rules! hex_name {
    ($type:ty, $error:expr) => {
        impl fmt::Display for $type {
            /// All 64 hexadecimal digits; `{:.8}` gives the first eight.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digits = f.precision().unwrap_or(64);
                for (index, byte) in self.0.iter().enumerate() {
                    if index * 2 + 1 < digits {
                        write!(f, "{byte:02x}")?;
                    } else if index * 2 < digits {
                        write!(f, "{:x}", byte >> 4)?;
                    }
                }
                Ok(())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:.8})", stringify!($type), self)
            }
        }

        impl FromStr for $type {
            type Err = DecodeError;

            /// Reads 64 hexadecimal digits.
            fn from_str(text: &str) -> Result<Self, DecodeError> {
                let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| $error)?;
                let mut bytes = [0; 32];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    let high = char::from(pair[0]).to_digit(16).ok_or($error)?;
                    let low = char::from(pair[1]).to_digit(16).ok_or($error)?;
                    *byte = u8::try_from(high << 4 | low).map_err(|_| $error)?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

hex_name!(BroadcastId, DecodeError::BroadcastId);
hex_name!(PeerId, DecodeError::PeerId);
hex_name!(Key, DecodeError::Key);

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distance({:.8})", Key(self.0))
    }
}

impl fmt::Display for StripeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for StripeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stripe_key_carries_its_stripe_as_its_digit_for_every_count() {
        let broadcast = BroadcastId([7; 32]);
        for bits in 0..=6 {
            let stripes = StripeCount::new(1 << bits).expect("a power of two");
            for stripe in stripes.iter() {
                assert_eq!(stripe_key(&broadcast, stripe, stripes).digit(stripes), stripe);
            }
        }
    }

    #[test]
    fn only_powers_of_two_up_to_64_count_stripes() {
        let valid: Vec<u32> = (0..200).filter(|n| StripeCount::new(*n).is_some()).collect();
        assert_eq!(valid, [1, 2, 4, 8, 16, 32, 64]);
    }

    #[test]
    fn replacing_the_digit_keeps_every_other_bit() {
        let stripes = StripeCount::DEFAULT;
        let key = Key([0xab; 32]).with_digit(StripeId(3), stripes);
        assert_eq!(key.digit(stripes), StripeId(3));
        assert_eq!(key.0[0] & 0x0f, 0x0b);
        assert_eq!(key.0[1..], [0xab; 31]);
    }

    #[test]
    fn names_survive_a_round_trip_through_text() {
        let mut broadcast = BroadcastId([0; 32]);
        broadcast.0.iter_mut().zip((0..).step_by(7)).for_each(|(byte, n)| *byte = n);
        assert_eq!(broadcast.to_string().parse::<BroadcastId>(), Ok(broadcast));
        assert_eq!(format!("{broadcast:.8}"), "00070e15");
        assert_eq!("zz".parse::<BroadcastId>(), Err(DecodeError::BroadcastId));
    }

    #[test]
    fn a_peer_id_and_its_libp2p_form_carry_the_same_key() {
        let peer = PeerId([9; 32]);
        assert_eq!(PeerId::from_libp2p_bytes(&peer.to_libp2p_bytes()), Ok(peer));
        assert_eq!(PeerId::from_libp2p_bytes(&[0; 38]), Err(DecodeError::PeerId));
    }
}
