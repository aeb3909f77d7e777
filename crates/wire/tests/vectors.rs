//! The wire format is what `proto/vectors` says: whoever changes a byte of it notices here. To write
//! the files anew, after a change that is meant: `cargo test -p banyan-wire --test vectors --
//! --ignored`. (`coding.json` is `banyan-coding`'s.)

use std::path::PathBuf;

use banyan_wire::frame::{Frame, MAX_CONTROL_FRAME, MAX_DATA_FRAME, decode, split_frame};
use banyan_wire::{
    BroadcastKey, BroadcastUri, DecodeError, GenerationId, Message, Sealed, SignedManifest,
    StripeId, chunk_hash,
};
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[path = "vectors/describe.rs"]
mod describe;
#[path = "vectors/description.rs"]
mod description;
#[path = "vectors/hostile.rs"]
mod hostile;
#[path = "vectors/keys.rs"]
mod keys;

use describe::{
    Hex, Said, SaidContact, SaidCoordinate, SaidIdle, SaidLayer, SaidManifest, SaidStanding,
    SaidStart, SaidTrack,
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
    assert_eq!(kinds.len(), 21);
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
                contact: SaidContact {
                    roles: Vec::new(),
                    capacity: 0,
                    class: 0,
                    ..contact(2, 0, 0)
                },
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
                stripes: vec![5],
                nonce: 1,
                joiner: contact(2, 5, 1),
                idle: None,
                is_descending: false,
                path: vec![peer(2)],
                lost: None,
                start: SaidStart::Live,
                is_entitled: true,
            },
        ),
        (
            "joins of a newcomer that go the same way",
            Said::Join {
                stripes: vec![0, 4, 15, 63],
                nonce: 1,
                joiner: contact(2, 5, 1),
                idle: Some(0),
                is_descending: false,
                path: vec![peer(2), peer(3)],
                lost: None,
                start: SaidStart::Live,
                is_entitled: false,
            },
        ),
        (
            "a join of an orphan on its way down",
            Said::Join {
                stripes: vec![0],
                nonce: 4_000_000_000,
                joiner: contact(2, 5, 0),
                idle: Some(0),
                is_descending: true,
                path: vec![peer(2), peer(3), peer(4)],
                lost: Some(peer(5)),
                start: SaidStart::At { generation: 77, chunk: 3 },
                is_entitled: false,
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
                idle: None,
                start: SaidStart::Live,
                lost: None,
                is_entitled: false,
                within: None,
            },
        ),
        (
            "an attach at the first chunk of the first generation",
            Said::Attach {
                stripe: 0,
                child: contact(2, 15, 1),
                idle: Some(3),
                start: SaidStart::At { generation: 0, chunk: 0 },
                lost: None,
                is_entitled: true,
                within: None,
            },
        ),
        (
            "an attach that resumes after a lost parent",
            Said::Attach {
                stripe: 3,
                child: contact(2, 15, 1),
                idle: Some(3),
                start: SaidStart::At { generation: 1_234_567, chunk: 11 },
                lost: Some(peer(9)),
                is_entitled: false,
                within: None,
            },
        ),
        (
            "an attach of one that has a parent and wants a shorter way",
            Said::Attach {
                stripe: 3,
                child: SaidContact { coordinate: Some(corner()), ..contact(2, 15, 1) },
                idle: None,
                start: SaidStart::Live,
                lost: None,
                is_entitled: false,
                within: Some(85),
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
                idle: vec![idle(2, None)],
                willing: Vec::new(),
                yielding: 1,
                waiting: 0,
                movable: Vec::new(),
                slots: 0,
                relief: 0,
            },
        ),
        (
            "a report of a subtree",
            Said::Report {
                stripe: 5,
                free_slots: 37,
                free_depth: 2,
                members: 4_096,
                idle: vec![idle(2, None), idle(3, Some(0)), idle(4, Some(15)), idle(5, Some(63))],
                willing: vec![peer(6), peer(7)],
                yielding: 300,
                waiting: 12,
                movable: vec![idle(8, Some(5)), idle(9, None)],
                slots: 4_300,
                relief: 20,
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
        ("an adopt", Said::Adopt { stripe: 5, peer: peer(2), role: 5, is_second: false }),
        (
            "an adopt of another stripe",
            Said::Adopt { stripe: 5, peer: peer(2), role: 63, is_second: false },
        ),
        (
            "an adopt of a second role",
            Said::Adopt { stripe: 5, peer: peer(2), role: 5, is_second: true },
        ),
        ("a probe", Said::Probe { stripe: 5 }),
        (
            "a probe's reply",
            Said::ProbeReply { stripe: 5, is_orphan: false, head: 9_007_199_254_740_991 },
        ),
        (
            "a reply of an orphan that holds nothing",
            Said::ProbeReply { stripe: 0, is_orphan: true, head: 0 },
        ),
        (
            "what three viewers had of four generations each",
            Said::Reception {
                stripe: 5,
                viewers: 3,
                counts: vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 9],
            },
        ),
        ("a reception of nobody", Said::Reception { stripe: 0, viewers: 0, counts: Vec::new() }),
        ("the most a reception can say", {
            Said::Reception { stripe: 63, viewers: u32::MAX, counts: vec![u32::MAX; 65] }
        }),
        ("a peer that is somewhere else now", Said::Moved { coordinate: place() }),
        ("the farthest coordinate", Said::Moved { coordinate: corner() }),
        (
            "the middle of the plane",
            Said::Moved { coordinate: SaidCoordinate { x: 0, y: 0, height: 0, error: 0 } },
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
                rendition: "full".into(),
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
                rendition: "full".into(),
                config: Hex(vec![0x11, 0x90]),
            },
            SaidTrack {
                id: 2,
                codec: "hevc".into(),
                width: 426,
                height: 240,
                sample_rate: 0,
                channels: 0,
                language: String::new(),
                rendition: "low".into(),
                config: Hex(vec![0, 0, 0, 1, 0x40, 1, 0, 0, 0, 1, 0x42, 1, 0, 0, 0, 1, 0x44, 1]),
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
        class: 0,
        is_open: true,
        is_grandparent_open: false,
        delay: 0,
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
        class: 5,
        is_open: false,
        is_grandparent_open: true,
        delay: 85,
    }
}

fn idle(seed: u8, role: Option<u8>) -> SaidIdle {
    SaidIdle { peer: peer(seed), role, slots: 16, children: u32::from(seed) - 2 }
}

fn contact(seed: u8, stripe: u8, addresses: usize) -> SaidContact {
    SaidContact {
        peer: peer(seed),
        roles: vec![stripe],
        capacity: 16,
        addresses: ADDRESSES.iter().take(addresses).map(Hex::from).collect(),
        is_source: false,
        class: 5,
        coordinate: (seed > 2).then(place),
    }
}

const fn place() -> SaidCoordinate {
    SaidCoordinate { x: -412, y: 1_297, height: 43, error: 118 }
}

const fn corner() -> SaidCoordinate {
    SaidCoordinate { x: -20_000, y: 20_000, height: 20_000, error: 1_000 }
}

fn source_contact() -> SaidContact {
    SaidContact { roles: Vec::new(), capacity: 40, class: 0, is_source: true, ..contact(10, 0, 2) }
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

// ---- The files --------------------------------------------------------------------------------

#[test]
#[ignore = "writes the vectors"]
fn write_the_vectors() {
    write("valid.json", &valid());
    write("hostile.json", &hostile_file());
    keys::write_keys();
    description::write_description();
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
