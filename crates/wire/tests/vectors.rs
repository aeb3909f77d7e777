//! The wire format is what `proto/vectors` says: whoever changes a byte of it notices here. To write
//! the files anew, after a change that is meant: `cargo test -p banyan-wire --test vectors --
//! --ignored`. (`coding.json` is `banyan-coding`'s.)

use std::path::PathBuf;

use banyan_wire::frame::{Frame, MAX_CONTROL_FRAME, MAX_DATA_FRAME, decode, split_frame};
use banyan_wire::{
    BroadcastId, BroadcastKey, BroadcastUri, DecodeError, GenerationId, Key, Message, PeerId,
    Sealed, SignedManifest, StripeCount, StripeId, Verifier, chunk_hash, stripe_key,
    stripe_key_preimage,
};
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[path = "vectors/describe.rs"]
mod describe;
#[path = "vectors/hostile.rs"]
mod hostile;

use describe::{
    Hex, Said, SaidContact, SaidLayer, SaidManifest, SaidStanding, SaidStart, SaidTrack,
};
use hostile::Hostile;

// ---- valid.json -------------------------------------------------------------------------------

const VALID: &str = "Valid frames. frame: what is on the substream, length field included; tag: \
    the broadcast's tag as a hexadecimal number; message: what it says, with the field names of \
    banyan.proto, sets of stripes as lists, codes by their names in PROTOCOL.md, payloads, ids and \
    hashes as hexadecimal digits. An encoder that writes fields in the order of their numbers and \
    leaves defaults out gives the same bytes; a decoder takes them in any order. records: what is \
    stored in the directory. uris: text and what it names.";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Valid {
    about: String,
    frames: Vec<ValidFrame>,
    records: Vec<ValidRecord>,
    uris: Vec<ValidUri>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ValidFrame {
    name: String,
    tag: Hex,
    message: Said,
    frame: Hex,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ValidRecord {
    seed: Hex,
    manifest: SaidManifest,
    record: Hex,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ValidUri {
    text: String,
    broadcast: Hex,
    via: Vec<String>,
    /// Whether the text is how the URI is written; others are only read.
    is_canonical: bool,
}

#[test]
fn valid_frames_are_what_the_committed_vectors_say() {
    assert_eq!(read::<Valid>("valid.json"), valid(), "the wire format changed");
}

#[test]
fn valid_frames_decode_to_what_they_say_and_encode_to_the_same_bytes() {
    for case in read::<Valid>("valid.json").frames {
        let message = case.message.build();
        let tag = u64::from_be_bytes(case.tag.0.try_into().expect("eight bytes"));
        assert_eq!(encoded(tag, &message), case.frame, "{}", case.name);

        let limit = if message.is_data() { MAX_DATA_FRAME } else { MAX_CONTROL_FRAME };
        let mut buffer = BytesMut::from(&case.frame.0[..]);
        let body = split_frame(&mut buffer, limit).expect("within the limit").expect("complete");
        assert!(buffer.is_empty(), "{}", case.name);
        assert_eq!(decode(body), Ok((tag, message)), "{}", case.name);
    }
}

#[test]
fn every_kind_of_message_and_every_reason_has_a_vector() {
    let frames = read::<Valid>("valid.json").frames;
    let mut kinds: Vec<&str> = frames.iter().map(|case| case.message.build().name()).collect();
    kinds.dedup();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 19);
    let reasons = frames.iter().filter(|case| matches!(case.message, Said::Redirect { .. }));
    assert_eq!(reasons.count(), describe::reasons().count());
}

#[test]
fn records_and_uris_survive_both_ways() {
    let valid = read::<Valid>("valid.json");
    for case in valid.records {
        let signed = case.manifest.sign(&case.seed);
        assert_eq!(Hex(signed.to_record()), case.record);
        assert_eq!(SignedManifest::from_record(&case.record.0), Ok(signed));
    }
    for case in valid.uris {
        let uri: BroadcastUri = case.text.parse().expect("a URI");
        assert_eq!((Hex::from(uri.broadcast.0), &uri.via), (case.broadcast, &case.via));
        assert_eq!(uri.to_string() == case.text, case.is_canonical, "{}", case.text);
    }
}

fn valid() -> Valid {
    let tag = Hex::from(source().broadcast().tag().to_be_bytes());
    let frames = messages().into_iter().map(|(name, message)| {
        let frame = encoded(source().broadcast().tag(), &message.build());
        ValidFrame { name: name.into(), tag: tag.clone(), message, frame }
    });
    let records = [manifest(), small_manifest()].map(|manifest| {
        let record = Hex(manifest.sign(&SOURCE.into()).to_record());
        ValidRecord { seed: SOURCE.into(), manifest, record }
    });
    Valid { about: VALID.into(), frames: frames.collect(), records: records.into(), uris: uris() }
}

fn uris() -> Vec<ValidUri> {
    let broadcast = source().broadcast();
    let via = ["/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooWEXAMPLE", "/dns/example.org/tcp/4001"];
    let uri = |text: String, via: &[&str], is_canonical: bool| ValidUri {
        text,
        broadcast: broadcast.0.into(),
        via: via.iter().map(|via| (*via).to_owned()).collect(),
        is_canonical,
    };
    vec![
        uri(format!("banyan:{broadcast}"), &[], true),
        uri(format!("banyan:{broadcast}?via={}", via[0]), &via[..1], true),
        uri(format!("banyan:{broadcast}?via={}&via={}", via[0], via[1]), &via, true),
        uri(format!(" banyan:{broadcast}?name=x&via={}&via=\n", via[1]), &via[1..], false),
        uri(format!("banyan:{}?", broadcast.to_string().to_uppercase()), &[], false),
    ]
}

fn messages() -> Vec<(&'static str, Said)> {
    let broadcast = Hex::from(source().broadcast().0);
    let mut messages = vec![
        (
            "the first words of a peer that knows nothing yet",
            Said::Hello {
                broadcast: broadcast.clone(),
                contact: SaidContact { roles: Vec::new(), capacity: 0, ..contact(2, 0, 0) },
                manifest_sequence: 0,
                is_reply: false,
            },
        ),
        (
            "a hello in reply",
            Said::Hello {
                broadcast,
                contact: contact(3, 5, 2),
                manifest_sequence: 2,
                is_reply: true,
            },
        ),
        ("a full manifest", signed(manifest())),
        ("a manifest before the input is known", signed(small_manifest())),
        (
            "a request for contacts of every digit of 16",
            Said::FindContacts { digits: (0..16).collect() },
        ),
        ("a request for contacts of the last of 64", Said::FindContacts { digits: vec![63] }),
        (
            "three contacts",
            Said::Contacts { contacts: vec![contact(2, 5, 1), contact(3, 9, 2), source_contact()] },
        ),
        ("no contacts", Said::Contacts { contacts: Vec::new() }),
        (
            "a join as its joiner sends it",
            Said::Join {
                stripe: 5,
                nonce: 1,
                joiner: contact(2, 5, 1),
                is_idle: false,
                is_descending: false,
                path: vec![peer(2)],
                lost: None,
            },
        ),
        (
            "a join of an orphan on its way down",
            Said::Join {
                stripe: 0,
                nonce: 4_000_000_000,
                joiner: contact(2, 5, 0),
                is_idle: true,
                is_descending: true,
                path: vec![peer(2), peer(3), peer(4)],
                lost: Some(peer(5)),
            },
        ),
        (
            "a parent was found",
            Said::JoinFound { stripe: 5, nonce: 1, parent: contact(4, 5, 1), path: vec![peer(2)] },
        ),
        (
            "a parent was found, at the end of the way back",
            Said::JoinFound { stripe: 5, nonce: 1, parent: source_contact(), path: Vec::new() },
        ),
        (
            "no parent was found",
            Said::JoinFailed {
                stripe: 5,
                nonce: 1,
                reason: "exhausted".into(),
                path: vec![peer(2), peer(3)],
            },
        ),
        (
            "an attach at the live edge",
            Said::Attach {
                stripe: 15,
                child: contact(2, 15, 1),
                is_idle: false,
                start: SaidStart::Live,
                lost: None,
            },
        ),
        (
            "an attach at the first chunk of the first generation",
            Said::Attach {
                stripe: 0,
                child: contact(2, 15, 1),
                is_idle: true,
                start: SaidStart::At { generation: 0, chunk: 0 },
                lost: None,
            },
        ),
        (
            "an attach that resumes after a lost parent",
            Said::Attach {
                stripe: 3,
                child: contact(2, 15, 1),
                is_idle: true,
                start: SaidStart::At { generation: 1_234_567, chunk: 11 },
                lost: Some(peer(9)),
            },
        ),
        ("an accept by the source", Said::Accept { stripe: 5, standing: root_standing() }),
        ("an accept by an interior peer", Said::Accept { stripe: 5, standing: standing() }),
        ("a detach", Said::Detach { stripe: 63 }),
        (
            "a report of a leaf that is idle",
            Said::Report {
                stripe: 5,
                free_slots: 0,
                free_depth: 0,
                members: 1,
                idle: vec![peer(2)],
            },
        ),
        (
            "a report of a subtree",
            Said::Report {
                stripe: 5,
                free_slots: 37,
                free_depth: 2,
                members: 4_096,
                idle: vec![peer(2), peer(3), peer(4), peer(5)],
            },
        ),
        ("a status", Said::Status { stripe: 5, standing: standing() }),
        (
            "a status of an orphan in an overlay that lists ancestors",
            Said::Status {
                stripe: 0,
                standing: SaidStanding {
                    grandparent: None,
                    ancestors: vec![peer(3), peer(4)],
                    is_orphan: true,
                    ..root_standing()
                },
            },
        ),
        ("an adopt", Said::Adopt { stripe: 5, peer: peer(2) }),
        ("a probe", Said::Probe { stripe: 5 }),
        (
            "a probe's reply",
            Said::ProbeReply { stripe: 5, is_orphan: false, head: 9_007_199_254_740_991 },
        ),
        (
            "a reply of an orphan that holds nothing",
            Said::ProbeReply { stripe: 0, is_orphan: true, head: 0 },
        ),
    ];
    for reason in describe::goodbyes() {
        messages.push(("a goodbye", Said::Goodbye { reason: reason.into() }));
    }
    for (index, reason) in describe::reasons().enumerate() {
        let candidates = [contact(2, 5, 1), contact(3, 9, 0)].into_iter().take(index % 3).collect();
        messages
            .push(("a redirect", Said::Redirect { stripe: 5, reason: reason.into(), candidates }));
    }
    messages.extend(headers());
    messages.extend([
        (
            "the first chunk",
            Said::Chunk { generation: 0, stripe: 0, index: 0, payload: Hex(vec![0xab]) },
        ),
        (
            "a chunk",
            Said::Chunk {
                generation: 1_234_567,
                stripe: 15,
                index: 1_023,
                payload: Hex((0..=255).collect()),
            },
        ),
    ]);
    messages
}

/// Headers with no proof, of two layers of which one is empty, and of 64 stripes.
fn headers() -> Vec<(&'static str, Said)> {
    let cases: [(_, u32, &[SaidLayer], u8); 3] = [
        ("the header of a single stripe", 1, &[SaidLayer { threshold: 1, length: 300 }], 0),
        (
            "a header of 16 stripes, two layers",
            16,
            &[
                SaidLayer { threshold: 11, length: 0 },
                SaidLayer { threshold: 13, length: 13 * 300 + 1 },
            ],
            5,
        ),
        ("a header of 64 stripes", 64, &[SaidLayer { threshold: 52, length: 1 }], 63),
    ];
    cases
        .into_iter()
        .map(|(name, stripes, layers, stripe)| {
            let layout = describe::layout(stripes, 256, layers);
            let hashes = layout.stripes().iter().map(|stripe| {
                let chunks = 0..u8::try_from(layout.chunk_count()).expect("a few");
                chunks.map(|index| chunk_hash(&[stripe.0, index])).collect()
            });
            let hashes = hashes.collect();
            let sealed = Sealed::new(GenerationId(7), 3_500_000, stripes > 1, layout, hashes);
            let header = sealed.header(StripeId(stripe), sealed.sign(&source()));
            (name, Said::of_header(&header))
        })
        .collect()
}

fn signed(manifest: SaidManifest) -> Said {
    let signature = (*manifest.sign(&SOURCE.into()).signature()).into();
    Said::Manifest { seed: SOURCE.into(), manifest, signature }
}

fn manifest() -> SaidManifest {
    SaidManifest {
        broadcast: source().broadcast().0.into(),
        sequence: 2,
        title: "Straßenmusik, live".into(),
        stripes: 16,
        overlay: "splitstream".into(),
        stripe_rate: 312_500,
        generation_millis: 500,
        tracks: vec![
            SaidTrack {
                id: 0,
                codec: "h264".into(),
                width: 1_920,
                height: 1_080,
                sample_rate: 0,
                channels: 0,
                language: String::new(),
                config: Hex(vec![0, 0, 0, 1, 0x67, 0x64, 0, 0x28, 0, 0, 0, 1, 0x68, 0xee]),
            },
            SaidTrack {
                id: 1,
                codec: "aac".into(),
                width: 0,
                height: 0,
                sample_rate: 48_000,
                channels: 2,
                language: "deu".into(),
                config: Hex(vec![0x11, 0x90]),
            },
        ],
        source: source_contact(),
        created_at: 1_767_225_600,
        ended_at: Some(1_200),
    }
}

fn small_manifest() -> SaidManifest {
    SaidManifest {
        sequence: 1,
        title: String::new(),
        stripes: 1,
        overlay: "peercast".into(),
        stripe_rate: 0,
        tracks: Vec::new(),
        ended_at: None,
        ..manifest()
    }
}

fn root_standing() -> SaidStanding {
    SaidStanding {
        depth: 0,
        grandparent: None,
        population: 0,
        ancestors: Vec::new(),
        is_orphan: false,
        spare: 0,
    }
}

fn standing() -> SaidStanding {
    SaidStanding {
        depth: 2,
        grandparent: Some(contact(4, 5, 2)),
        population: 1_024,
        ancestors: Vec::new(),
        is_orphan: false,
        spare: 352,
    }
}

fn contact(seed: u8, stripe: u8, addresses: usize) -> SaidContact {
    SaidContact {
        peer: peer(seed),
        roles: vec![stripe],
        capacity: 16,
        addresses: ADDRESSES.iter().take(addresses).map(Hex::from).collect(),
        is_source: false,
    }
}

fn source_contact() -> SaidContact {
    SaidContact { roles: Vec::new(), capacity: 40, is_source: true, ..contact(10, 0, 2) }
}

/// `/ip4/192.0.2.1/udp/4001/quic-v1` and `/dns4/example.org/tcp/4001`.
const ADDRESSES: [&[u8]; 2] =
    [&[4, 192, 0, 2, 1, 0x91, 2, 0x0f, 0xa1, 0xcd, 3], b"\x36\x0bexample.org\x06\x0f\xa1"];

/// The source's seed.
const SOURCE: [u8; 32] = [1; 32];

fn source() -> BroadcastKey {
    BroadcastKey::from_seed(&SOURCE)
}

/// The public key of a seed that repeats one byte.
fn peer(seed: u8) -> Hex {
    BroadcastKey::from_seed(&[seed; 32]).broadcast().0.into()
}

fn encoded(tag: u64, message: &Message) -> Hex {
    let frame = Frame::encode(tag, message);
    assert_eq!(frame.len(), frame.head.len() + frame.payload.len());
    Hex([frame.head, frame.payload].concat())
}

// ---- hostile.json -----------------------------------------------------------------------------

const HOSTILE: &str = "Frames that break the contract, each in one way. bytes: what is on the \
    substream, length field included; then: a byte that follows so many times. error: the rule \
    that is broken, as named in PROTOCOL.md; what: the field or list. records: the same for \
    records of the directory. uris: texts that name no broadcast.";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HostileFile {
    about: String,
    frames: Vec<Hostile>,
    records: Vec<Hostile>,
    uris: Vec<String>,
}

#[test]
fn hostile_bytes_are_what_the_committed_vectors_say() {
    assert_eq!(read::<HostileFile>("hostile.json"), hostile_file());
}

#[test]
fn hostile_frames_give_exactly_the_error_they_deserve() {
    for case in read::<HostileFile>("hostile.json").frames {
        case.assert_deserves(received(&case.bytes()).err());
    }
}

#[test]
fn hostile_records_and_uris_are_refused() {
    let file = read::<HostileFile>("hostile.json");
    for case in file.records {
        case.assert_deserves(SignedManifest::from_record(&case.bytes()).err());
    }
    for text in file.uris {
        let refused = text.parse::<BroadcastUri>();
        assert!(matches!(refused, Err(DecodeError::Uri(_))), "{text}");
    }
}

/// What a receiver makes of the only frame in `bytes`. Both substreams have the same limit.
fn received(bytes: &[u8]) -> Result<(u64, Message), DecodeError> {
    assert_eq!(MAX_CONTROL_FRAME, MAX_DATA_FRAME);
    let mut buffer = BytesMut::from(bytes);
    let body = split_frame(&mut buffer, MAX_DATA_FRAME)?.expect("a complete frame");
    assert!(buffer.is_empty(), "one frame");
    decode(body)
}

fn hostile_file() -> HostileFile {
    let id = source().broadcast().to_string();
    let uris = [
        String::new(),
        id.clone(),
        "banyan:".into(),
        format!("banyan:{}", &id[1..]),
        format!("banyan:{id}0"),
        format!("banyan:{}g", &id[1..]),
        format!("banyan://{id}"),
        format!("Banyan:{id}"),
        format!("banyan:{id}#via=/dns/example.org/tcp/1"),
        format!("banyan:{}é", &id[2..]),
    ];
    HostileFile {
        about: HOSTILE.into(),
        frames: hostile::cases(),
        records: hostile::records(),
        uris: uris.into(),
    }
}

// ---- keys.json --------------------------------------------------------------------------------

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
    stripe_keys.extend([0, 31, 63].map(|s| stripe_key_of(first, 64, StripeId(s))));
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

// ---- description.json -------------------------------------------------------------------------

const DESCRIPTION: &str = "One signed generation of four stripes, from payload to header. layers \
    and chunks: the case \"two layers, in full\" of coding.json. chunk_hashes: BLAKE3 of each chunk, \
    by stripe. leaves, nodes, root: the Merkle tree over the four descriptions. signed_bytes: what \
    the key of seed signs. headers: for each stripe its proof and the frame it travels in, with the \
    broadcast's tag. forged_headers: frames that decode, but whose signature does not verify. \
    forged_chunks: payloads of chunk 0 of stripe 0 that are refused.";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    about: String,
    seed: Hex,
    broadcast: Hex,
    generation: u64,
    emitted_at: u64,
    is_random_access: bool,
    stripes: u32,
    chunk_length: u32,
    layers: Vec<SaidLayer>,
    chunks: Vec<Vec<Hex>>,
    chunk_hashes: Vec<Vec<Hex>>,
    leaves: Vec<Hex>,
    nodes: Vec<Hex>,
    root: Hex,
    signed_bytes: Hex,
    signature: Hex,
    headers: Vec<Header>,
    forged_headers: Vec<ForgedHeader>,
    forged_chunks: Vec<ForgedChunk>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    stripe: u8,
    proof: Vec<Hex>,
    frame: Hex,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ForgedHeader {
    name: String,
    frame: Hex,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ForgedChunk {
    name: String,
    payload: Hex,
    error: String,
}

#[derive(Deserialize)]
struct CodingFile {
    cases: Vec<CodingCase>,
}

#[derive(Deserialize)]
struct CodingCase {
    name: String,
    #[serde(default)]
    chunks: Vec<Vec<Hex>>,
}

#[test]
fn a_description_is_what_the_committed_vectors_say() {
    assert_eq!(read::<Description>("description.json"), description(), "the format changed");
}

#[test]
fn committed_headers_prove_the_committed_chunks_and_nothing_else() {
    let case = read::<Description>("description.json");
    let broadcast = source().broadcast();
    let verifier = Verifier::new(&broadcast).expect("a key");
    let header_of = |frame: &Hex| match received(&frame.0) {
        Ok((tag, Message::Header(header))) if tag == broadcast.tag() => header,
        other => panic!("{other:?} is no header"),
    };
    for (header, chunks) in case.headers.iter().zip(&case.chunks) {
        let header = header_of(&header.frame);
        assert_eq!(Hex::from(header.commitment.signed_bytes(&broadcast)), case.signed_bytes);
        assert_eq!(Hex::from(header.commitment.root), case.root);
        assert_eq!(header.verify(&broadcast, &verifier), Ok(()));
        for (index, chunk) in (0..).zip(chunks) {
            assert_eq!(header.verify_chunk(index, &chunk.0), Ok(()));
        }
    }
    for forged in &case.forged_headers {
        let refused = header_of(&forged.frame).verify(&broadcast, &verifier);
        assert_eq!(refused, Err(DecodeError::Signature), "{}", forged.name);
    }
    let header = header_of(&case.headers[0].frame);
    for forged in &case.forged_chunks {
        let error = header.verify_chunk(0, &forged.payload.0).expect_err(&forged.name);
        assert_eq!(format!("{error:?}").split('(').next(), Some(&*forged.error));
    }
}

/// Writes the tree out by hand, so that `Sealed` is checked against the text of PROTOCOL.md.
fn description() -> Description {
    let mut cases = read::<CodingFile>("coding.json").cases.into_iter();
    let case = cases.find(|case| case.name == "two layers, in full").expect("it is there");
    let chunks = case.chunks;
    let layers =
        vec![SaidLayer { threshold: 2, length: 100 }, SaidLayer { threshold: 3, length: 700 }];
    let hash_all =
        |chunks: &Vec<Hex>| chunks.iter().map(|chunk| chunk_hash(&chunk.0)).collect::<Vec<_>>();
    let hashes: Vec<_> = chunks.iter().map(hash_all).collect();
    let leaf = |(stripe, hashes): (u8, &Vec<[u8; 32]>)| {
        let count = u32::try_from(hashes.len()).expect("a few").to_be_bytes();
        chunk_hash(&[&[0, stripe][..], &count, &hashes.concat()].concat())
    };
    let leaves: Vec<[u8; 32]> = (0..).zip(&hashes).map(leaf).collect();
    let node =
        |left: &[u8; 32], right: &[u8; 32]| chunk_hash(&[&[1][..], &left[..], &right[..]].concat());
    let nodes = [node(&leaves[0], &leaves[1]), node(&leaves[2], &leaves[3])];
    let root = node(&nodes[0], &nodes[1]);

    let layout = describe::layout(4, 256, &layers);
    let sealed = Sealed::new(GenerationId(7), 3_500_000, true, layout, hashes.clone());
    assert_eq!(sealed.commitment().root, root, "the tree is as PROTOCOL.md draws it");
    let broadcast = source().broadcast();
    let signed_bytes = [
        &b"banyan/generation/1"[..],
        &broadcast.0,
        &7_u64.to_be_bytes(),
        &3_500_000_u64.to_be_bytes(),
        &[1, 4],
        &256_u32.to_be_bytes(),
        &[2],
        &100_u32.to_be_bytes(),
        &[3],
        &700_u32.to_be_bytes(),
        &root,
    ]
    .concat();
    assert_eq!(sealed.commitment().signed_bytes(&broadcast), signed_bytes);
    let signature = source().sign(&signed_bytes);
    let header_of = |stripe: u8| sealed.header(StripeId(stripe), signature);
    let header = |stripe: u8| Header {
        stripe,
        proof: header_of(stripe).proof.iter().map(Hex::from).collect(),
        frame: encoded(broadcast.tag(), &Message::Header(header_of(stripe))),
    };
    let hexes = |hashes: &[[u8; 32]]| hashes.iter().map(Hex::from).collect::<Vec<_>>();
    Description {
        about: DESCRIPTION.into(),
        seed: SOURCE.into(),
        broadcast: broadcast.0.into(),
        generation: 7,
        emitted_at: 3_500_000,
        is_random_access: true,
        stripes: 4,
        chunk_length: 256,
        chunk_hashes: hashes.iter().map(|hashes| hexes(hashes)).collect(),
        leaves: hexes(&leaves),
        nodes: hexes(&nodes),
        root: root.into(),
        signed_bytes: signed_bytes.into(),
        signature: signature.into(),
        headers: (0..4).map(header).collect(),
        forged_headers: forged_headers(&sealed, signature),
        forged_chunks: forged_chunks(&chunks[0][0].0),
        layers,
        chunks,
    }
}

fn forged_headers(sealed: &Sealed, signature: [u8; 64]) -> Vec<ForgedHeader> {
    let tag = source().broadcast().tag();
    let forge = |name: &str, change: &dyn Fn(&mut banyan_wire::DescriptionHeader)| {
        let mut header = sealed.header(StripeId(1), signature);
        change(&mut header);
        ForgedHeader { name: name.into(), frame: encoded(tag, &Message::Header(header)) }
    };
    let layers = |second: u32| {
        [SaidLayer { threshold: 2, length: 100 }, SaidLayer { threshold: 3, length: second }]
    };
    vec![
        forge("another generation", &|header| header.commitment.generation = GenerationId(8)),
        forge("another time", &|header| header.commitment.emitted_at += 1),
        forge("no random access", &|header| header.commitment.is_random_access = false),
        forge("another stripe", &|header| header.stripe = StripeId(0)),
        forge("a longer layer", &|header| {
            header.commitment.layout = describe::layout(4, 256, &layers(702));
        }),
        forge("longer chunks", &|header| {
            header.commitment.layout = describe::layout(4, 320, &layers(700));
        }),
        forge("a chunk's hash changed", &|header| header.chunk_hashes[0][0] ^= 1),
        forge("the proof changed", &|header| header.proof[1][31] ^= 1),
        forge("the signature changed", &|header| header.signature[0] ^= 1),
    ]
}

fn forged_chunks(chunk: &[u8]) -> Vec<ForgedChunk> {
    let forged = |name: &str, payload: Vec<u8>, error: &str| ForgedChunk {
        name: name.into(),
        payload: Hex(payload),
        error: error.into(),
    };
    let mut flipped = chunk.to_vec();
    flipped[9] ^= 0x80;
    let [longer, shorter] = [[chunk, &[0]].concat(), chunk[1..].to_vec()];
    vec![
        forged("one bit flipped", flipped, "Hash"),
        forged("one byte short", shorter, "ChunkLength"),
        forged("one byte more", longer, "ChunkLength"),
    ]
}

// ---- The files --------------------------------------------------------------------------------

#[test]
#[ignore = "writes the vectors"]
fn write_the_vectors() {
    write("valid.json", &valid());
    write("hostile.json", &hostile_file());
    write("keys.json", &keys());
    write("description.json", &description());
}

fn write(name: &str, file: &impl Serialize) {
    let mut text = serde_json::to_string_pretty(file).expect("serialises");
    text.push('\n');
    std::fs::write(path(name), text).expect("proto/vectors is there");
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(path(name)).expect("the vectors are committed");
    serde_json::from_str(&text).expect("valid vectors")
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto/vectors").join(name)
}

#[test]
fn an_incomplete_frame_is_waited_for() {
    for case in read::<Valid>("valid.json").frames {
        for length in 0..case.frame.0.len() {
            let mut buffer = BytesMut::from(&case.frame.0[..length]);
            assert_eq!(split_frame(&mut buffer, MAX_DATA_FRAME), Ok(None), "{}", case.name);
            assert_eq!(buffer.len(), length, "nothing is taken");
        }
        let twice = [&case.frame.0[..], &case.frame.0].concat();
        let mut buffer = BytesMut::from(&twice[..]);
        let split = [(); 3].map(|()| split_frame(&mut buffer, MAX_DATA_FRAME));
        let body = Ok(Some(Bytes::copy_from_slice(&case.frame.0[4..])));
        assert_eq!(split, [body.clone(), body, Ok(None)], "{}", case.name);
    }
}
