//! `keys.json`: how names and keys are derived.

use banyan_wire::{
    BroadcastId, BroadcastKey, DecodeError, Key, PeerId, StripeCount, StripeId, stripe_key,
    stripe_key_preimage,
};
use serde::{Deserialize, Serialize};

use crate::describe::Hex;
use crate::{SOURCE, read, write};

const KEYS: &str = "Names and keys. broadcasts and peers are the Ed25519 public keys of the given \
    seeds. stripe_keys: key = SHA-256(preimage), preimage = broadcast, stripe, n as four bytes \
    big-endian, n the least for which the top log2 K bits of the key are the stripe. peers: \
    kademlia_key = SHA-256(libp2p_id); first_roles: the primary stripe it begins with, for K = 2, \
    4, 8, 16, 32, 64. distances: role_id = kademlia_key with its top log2 K bits set to the stripe; \
    distance = role_id XOR stripe key; the peers of one stripe are in the order of their distance, \
    so that each may be a native parent of those after it.";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Keys {
    about: String,
    broadcasts: Vec<BroadcastKeys>,
    stripe_keys: Vec<StripeKey>,
    peers: Vec<PeerKeys>,
    distances: Vec<RoleDistance>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BroadcastKeys {
    seed: Hex,
    broadcast: Hex,
    tag: Hex,
    manifest_record_key: Hex,
    members_record_key: Hex,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StripeKey {
    broadcast: Hex,
    stripes: u32,
    stripe: u8,
    n: u32,
    preimage: Hex,
    key: Hex,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PeerKeys {
    seed: Hex,
    peer: Hex,
    libp2p_id: Hex,
    libp2p_text: String,
    kademlia_key: Hex,
    first_roles: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RoleDistance {
    broadcast: Hex,
    stripes: u32,
    stripe: u8,
    peer: Hex,
    role_id: Hex,
    distance: Hex,
}

#[test]
fn keys_are_what_the_committed_vectors_say() {
    assert_eq!(read::<Keys>("keys.json"), keys(), "names are derived differently");
}

#[test]
fn a_stripe_key_is_the_first_one_with_its_digit() {
    for case in read::<Keys>("keys.json").stripe_keys {
        let stripes = count(case.stripes);
        let (_, n) = case.preimage.0.split_last_chunk::<4>().expect("37 bytes");
        assert_eq!(u32::from_be_bytes(*n), case.n);
        let key: [u8; 32] = case.key.0.try_into().expect("32 bytes");
        assert_eq!(Key(key).digit(stripes), StripeId(case.stripe));
    }
}

#[test]
fn a_peer_id_is_read_back_from_its_libp2p_form() {
    for case in read::<Keys>("keys.json").peers {
        let peer = PeerId::from_libp2p_bytes(&case.libp2p_id.0).expect("an Ed25519 key");
        assert_eq!(Hex::from(peer.0), case.peer);
        for length in 0..38 {
            let cut = PeerId::from_libp2p_bytes(&case.libp2p_id.0[..length]);
            assert_eq!(cut, Err(DecodeError::PeerId));
        }
    }
}

fn keys() -> Keys {
    let seeds = [SOURCE, [77; 32]];
    let broadcasts = seeds.map(|seed| BroadcastKey::from_seed(&seed).broadcast());
    let [first, second] = broadcasts;
    let mut stripe_keys = Vec::new();
    for (broadcast, stripes) in [(first, 1), (first, 2), (first, 4), (first, 16), (second, 16)] {
        stripe_keys.extend(count(stripes).iter().map(|s| stripe_key_of(broadcast, stripes, s)));
    }
    stripe_keys.extend([0, 31, 42, 63].map(|s| stripe_key_of(first, 64, StripeId(s))));
    let distances = [(16, 5), (16, 0), (1, 0), (64, 42)];
    Keys {
        about: KEYS.into(),
        broadcasts: seeds.into_iter().zip(broadcasts).map(broadcast_keys).collect(),
        stripe_keys,
        peers: (2..10).map(peer_keys).collect(),
        distances: distances.into_iter().flat_map(|(k, s)| distances_of(first, k, s)).collect(),
    }
}

fn broadcast_keys((seed, broadcast): ([u8; 32], BroadcastId)) -> BroadcastKeys {
    BroadcastKeys {
        seed: seed.into(),
        broadcast: broadcast.0.into(),
        tag: broadcast.tag().to_be_bytes().into(),
        manifest_record_key: [b"/banyan/manifest/", &broadcast.0[..]].concat().into(),
        members_record_key: [b"/banyan/members/", &broadcast.0[..]].concat().into(),
    }
}

fn stripe_key_of(broadcast: BroadcastId, stripes: u32, stripe: StripeId) -> StripeKey {
    let preimage = stripe_key_preimage(&broadcast, stripe, count(stripes));
    let [.., a, b, c, d] = preimage;
    StripeKey {
        broadcast: broadcast.0.into(),
        stripes,
        stripe: stripe.0,
        n: u32::from_be_bytes([a, b, c, d]),
        preimage: preimage.into(),
        key: stripe_key(&broadcast, stripe, count(stripes)).0.into(),
    }
}

fn peer_keys(seed: u8) -> PeerKeys {
    let peer = PeerId(BroadcastKey::from_seed(&[seed; 32]).broadcast().0);
    let digit = |bits: u32| peer.kademlia_key().digit(count(1 << bits)).0;
    PeerKeys {
        seed: [seed; 32].into(),
        peer: peer.0.into(),
        libp2p_id: peer.to_libp2p_bytes().into(),
        libp2p_text: base58(&peer.to_libp2p_bytes()),
        kademlia_key: peer.kademlia_key().0.into(),
        first_roles: (1..=6).map(digit).collect(),
    }
}

fn distances_of(broadcast: BroadcastId, stripes: u32, stripe: u8) -> Vec<RoleDistance> {
    let key = stripe_key(&broadcast, StripeId(stripe), count(stripes));
    let peers = (2..10).map(|seed| PeerId(BroadcastKey::from_seed(&[seed; 32]).broadcast().0));
    let mut peers: Vec<_> = peers
        .map(|peer| {
            let role_id = peer.kademlia_key().with_digit(StripeId(stripe), count(stripes));
            (role_id.distance(&key), role_id, peer)
        })
        .collect();
    peers.sort_unstable();
    peers
        .into_iter()
        .map(|(distance, role_id, peer)| RoleDistance {
            broadcast: broadcast.0.into(),
            stripes,
            stripe,
            peer: peer.0.into(),
            role_id: role_id.0.into(),
            distance: distance.0.into(),
        })
        .collect()
}

/// The text of a libp2p peer id: base 58, digits as Bitcoin has them.
fn base58(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    // Least significant first.
    let mut digits: Vec<u8> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = u8::try_from(carry % 58).expect("below 58");
            carry /= 58;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 58).expect("below 58"));
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).map(|_| 0);
    let digits = zeros.chain(digits.into_iter().rev());
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn count(stripes: u32) -> StripeCount {
    StripeCount::new(stripes).expect("a power of two up to 64")
}

pub(crate) fn write_keys() {
    write("keys.json", &keys());
}
