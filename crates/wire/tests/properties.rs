//! Whatever a peer may say survives the way over the wire, and fits the frame it travels in.

use banyan_wire::frame::{Frame, LENGTH_BYTES, MAX_CONTROL_FRAME, MAX_DATA_FRAME};
use banyan_wire::frame::{decode, split_frame};
use banyan_wire::{
    BroadcastKey, ChunkId, Codec, Contact, Coordinate, GenerationId, GoodbyeReason, Hash, Idle,
    Join, LayerLayout, Layout, MAX_ADDRESS, MAX_ADDRESSES, MAX_ANCESTORS, MAX_CANDIDATES,
    MAX_CHUNK_LENGTH, MAX_CHUNKS, MAX_CLASS, MAX_CODEC_CONFIG, MAX_CONTACTS, MAX_COORDINATE,
    MAX_COUNTS, MAX_ERROR, MAX_HOPS, MAX_IDLE, MAX_LANGUAGE, MAX_LAYERS, MAX_TITLE, MAX_TRACKS,
    Manifest, Message, Overlay, PeerId, Reason, Reception, Rendition, Report, Roles, Sealed,
    SignedManifest, Standing, Start, StripeCount, StripeId, Track, TrackId,
};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Random messages of each kind.
const CASES: u32 = 128;

#[test]
fn every_kind_of_message_survives_a_round_trip() {
    let kinds = kinds();
    assert_eq!(kinds.len(), 21);
    for (name, messages) in kinds {
        let result = runner().run(&(any::<u64>(), messages), |(tag, message)| {
            prop_assert_eq!(message.name(), name);
            let bytes = bytes_of(tag, &message);
            let mut buffer = BytesMut::from(&bytes[..]);
            let body = split_frame(&mut buffer, limit_of(&message));
            let body = body.expect("within the limit").expect("complete");
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(body.len() + LENGTH_BYTES, bytes.len());
            let decoded = decode(body).expect("what may be said can be read");
            prop_assert_eq!(&decoded, &(tag, message));
            // The encoding has one form, so that vectors can pin it.
            prop_assert_eq!(bytes_of(decoded.0, &decoded.1), bytes);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn the_largest_message_of_each_kind_fits_its_frame() {
    for message in largest() {
        let bytes = bytes_of(u64::MAX, &message);
        let length = bytes.len() - LENGTH_BYTES;
        assert!(length <= limit_of(&message), "{} takes {length} bytes", message.name());
        let mut buffer = BytesMut::from(&bytes[..]);
        let body = split_frame(&mut buffer, limit_of(&message)).expect("fits").expect("complete");
        assert_eq!(decode(body), Ok((u64::MAX, message)));
    }
}

#[test]
fn unknown_fields_are_skipped_wherever_they_stand() {
    // Field 100, a varint; field 101, bytes; both after a probe and inside it.
    let inner = [&[8, 3][..], &[0xa0, 6, 7], &[0xaa, 6, 2, 1, 1]].concat();
    let length = u8::try_from(inner.len()).expect("short");
    let head = [&[0x8a, 1, length][..], &inner, &[0xa0, 6, 9]].concat();
    let head_length = u8::try_from(head.len()).expect("short");
    let body = [&[0, head_length][..], &head].concat();
    assert_eq!(decode(body.into()), Ok((0, Message::Probe { stripe: StripeId(3) })));
}

// ---- Strategies -------------------------------------------------------------------------------

fn runner() -> TestRunner {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

fn kinds() -> Vec<(&'static str, BoxedStrategy<Message>)> {
    let goodbyes = select(vec![
        GoodbyeReason::NotAMember,
        GoodbyeReason::Leaving,
        GoodbyeReason::Violation,
        GoodbyeReason::Full,
    ]);
    vec![
        ("hello", hello().boxed()),
        ("goodbye", goodbyes.prop_map(|reason| Message::Goodbye { reason }).boxed()),
        ("manifest", manifest().prop_map(Message::Manifest).boxed()),
        ("find_contacts", roles().prop_map(|digits| Message::FindContacts { digits }).boxed()),
        (
            "contacts",
            list(contact(), MAX_CONTACTS)
                .prop_map(|contacts| Message::Contacts { contacts })
                .boxed(),
        ),
        ("join", join().prop_map(Message::Join).boxed()),
        (
            "join_found",
            (stripe(), any::<u32>(), contact(), list(peer(), MAX_HOPS))
                .prop_map(|(stripe, nonce, parent, path)| Message::JoinFound {
                    stripe,
                    nonce,
                    parent,
                    path,
                })
                .boxed(),
        ),
        (
            "join_failed",
            (stripe(), any::<u32>(), reason(), list(peer(), MAX_HOPS))
                .prop_map(|(stripe, nonce, reason, path)| Message::JoinFailed {
                    stripe,
                    nonce,
                    reason,
                    path,
                })
                .boxed(),
        ),
        (
            "attach",
            (
                stripe(),
                contact(),
                any::<Option<u32>>(),
                start(),
                prop::option::of(peer()),
                (any::<bool>(), any::<Option<u32>>()),
            )
                .prop_map(|(stripe, child, idle, start, lost, (is_entitled, within))| {
                    Message::Attach { stripe, child, idle, start, lost, is_entitled, within }
                })
                .boxed(),
        ),
        (
            "accept",
            (stripe(), standing())
                .prop_map(|(stripe, standing)| Message::Accept { stripe, standing })
                .boxed(),
        ),
        (
            "redirect",
            (stripe(), reason(), list(contact(), MAX_CANDIDATES))
                .prop_map(|(stripe, reason, candidates)| Message::Redirect {
                    stripe,
                    reason,
                    candidates,
                })
                .boxed(),
        ),
        ("detach", stripe().prop_map(|stripe| Message::Detach { stripe }).boxed()),
        ("report", report().prop_map(Message::Report).boxed()),
        (
            "status",
            (stripe(), standing())
                .prop_map(|(stripe, standing)| Message::Status { stripe, standing })
                .boxed(),
        ),
        (
            "adopt",
            (stripe(), peer(), stripe(), any::<bool>())
                .prop_map(|(stripe, peer, role, is_second)| Message::Adopt {
                    stripe,
                    peer,
                    role,
                    is_second,
                })
                .boxed(),
        ),
        ("probe", stripe().prop_map(|stripe| Message::Probe { stripe }).boxed()),
        (
            "probe_reply",
            (stripe(), any::<bool>(), generation())
                .prop_map(|(stripe, is_orphan, head)| Message::ProbeReply {
                    stripe,
                    is_orphan,
                    head,
                })
                .boxed(),
        ),
        (
            "reception",
            (stripe(), any::<u32>(), list(any::<u32>(), MAX_COUNTS))
                .prop_map(|(stripe, viewers, counts)| {
                    Message::Reception(Reception { stripe, viewers, counts })
                })
                .boxed(),
        ),
        ("moved", coordinate().prop_map(|coordinate| Message::Moved { coordinate }).boxed()),
        ("header", header().boxed()),
        ("chunk", chunk().boxed()),
    ]
}

/// Up to `limit` items, the limit included.
fn list<S: Strategy>(items: S, limit: usize) -> impl Strategy<Value = Vec<S::Value>> {
    prop::collection::vec(items, 0..=limit)
}

fn bytes(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), length).prop_map(Bytes::from)
}

fn stripe() -> impl Strategy<Value = StripeId> {
    (0..64_u8).prop_map(StripeId)
}

fn peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 32]>().prop_map(PeerId)
}

fn roles() -> impl Strategy<Value = Roles> {
    any::<u64>().prop_map(Roles)
}

fn generation() -> impl Strategy<Value = GenerationId> {
    prop_oneof![0..1000_u64, any::<u64>()].prop_map(GenerationId)
}

fn contact() -> impl Strategy<Value = Contact> {
    let addresses = list(bytes(1..=MAX_ADDRESS), MAX_ADDRESSES);
    let rest = (0..=MAX_CLASS, prop::option::of(coordinate()));
    (peer(), roles(), any::<u32>(), addresses, any::<bool>(), rest).prop_map(
        |(peer, roles, capacity, addresses, is_source, (class, coordinate))| Contact {
            peer,
            roles,
            capacity,
            addresses,
            is_source,
            class,
            coordinate,
        },
    )
}

fn coordinate() -> impl Strategy<Value = Coordinate> {
    let most = i32::from(MAX_COORDINATE);
    (-most..=most, -most..=most, 0..=u32::from(MAX_COORDINATE), 0..=MAX_ERROR)
        .prop_map(|(x, y, height, error)| Coordinate { x, y, height, error })
}

fn hello() -> impl Strategy<Value = Message> {
    (any::<[u8; 32]>(), contact(), any::<u64>(), any::<bool>()).prop_map(
        |(broadcast, contact, manifest_sequence, is_reply)| Message::Hello {
            broadcast: banyan_wire::BroadcastId(broadcast),
            contact,
            manifest_sequence,
            is_reply,
        },
    )
}

fn reason() -> impl Strategy<Value = Reason> {
    select(vec![
        Reason::Full,
        Reason::Exhausted,
        Reason::Loop,
        Reason::NoRoute,
        Reason::Replaced,
        Reason::Leaving,
        Reason::RoleChange,
        Reason::Orphan,
        Reason::TooSlow,
    ])
}

fn start() -> impl Strategy<Value = Start> {
    let at =
        (generation(), any::<u16>()).prop_map(|(generation, chunk)| Start::At(generation, chunk));
    prop_oneof![Just(Start::Live), at]
}

fn standing() -> impl Strategy<Value = Standing> {
    let ancestors = list(peer(), MAX_ANCESTORS);
    (
        any::<u32>(),
        prop::option::of(contact()),
        any::<u32>(),
        ancestors,
        any::<bool>(),
        any::<u32>(),
        (0..=MAX_CLASS, any::<bool>(), any::<bool>(), any::<u32>()),
    )
        .prop_map(|(depth, grandparent, population, ancestors, is_orphan, spare, rest)| {
            Standing {
                depth,
                grandparent,
                population,
                ancestors,
                is_orphan,
                spare,
                class: rest.0,
                is_open: rest.1,
                is_grandparent_open: rest.2,
                delay: rest.3,
            }
        })
}

fn join() -> impl Strategy<Value = Join> {
    let path = list(peer(), MAX_HOPS);
    (
        1..=u64::MAX,
        any::<u32>(),
        contact(),
        any::<Option<u32>>(),
        any::<bool>(),
        path,
        prop::option::of(peer()),
        (start(), any::<bool>()),
    )
        .prop_map(|(stripes, nonce, joiner, idle, is_descending, path, lost, rest)| Join {
            stripes: Roles(stripes),
            nonce,
            joiner,
            idle,
            is_descending,
            path,
            lost,
            start: rest.0,
            is_entitled: rest.1,
        })
}

fn report() -> impl Strategy<Value = Report> {
    let idle = || {
        let idle = (peer(), prop::option::of(stripe()), any::<u32>(), any::<u32>());
        let idle =
            idle.prop_map(|(peer, role, slots, children)| Idle { peer, role, slots, children });
        list(idle, MAX_IDLE)
    };
    (stripe(), any::<[u32; 7]>(), idle(), list(peer(), MAX_IDLE), idle()).prop_map(
        |(stripe, counts, idle, willing, movable)| {
            let [free_slots, free_depth, members, yielding, waiting, slots, relief] = counts;
            Report {
                stripe,
                free_slots,
                free_depth,
                members,
                idle,
                willing,
                yielding,
                waiting,
                movable,
                slots,
                relief,
            }
        },
    )
}

fn count() -> impl Strategy<Value = StripeCount> {
    (0..=6_u32).prop_map(|bits| StripeCount::new(1 << bits).expect("a power of two"))
}

fn track() -> impl Strategy<Value = Track> {
    use Codec::{Aac, Ac3, Av1, H264, Hevc, Mp3, Opus, Vp9};
    let codec = select(vec![H264, Hevc, Av1, Vp9, Aac, Mp3, Ac3, Opus]);
    let kind = (codec, select(vec![Rendition::Full, Rendition::Low]));
    let language = "[a-z]{0,16}";
    let config = bytes(0..=64_usize);
    (any::<u8>(), kind, any::<[u16; 2]>(), any::<u32>(), any::<u8>(), language, config).prop_map(
        |(id, (codec, rendition), [width, height], sample_rate, channels, language, config)| {
            Track {
                id: TrackId(id),
                codec,
                width,
                height,
                sample_rate,
                channels,
                language,
                rendition,
                config,
            }
        },
    )
}

fn manifest() -> impl Strategy<Value = SignedManifest> {
    let overlay = select(vec![Overlay::SplitStream, Overlay::PeerCast]);
    let tracks = list(track(), MAX_TRACKS);
    let fixed = (any::<[u8; 32]>(), any::<u64>(), ".{0,50}", count(), overlay, any::<u64>());
    let rest = (1..=60_000_u32, tracks, contact(), any::<u64>(), prop::option::of(generation()));
    (fixed, rest).prop_map(|(fixed, rest)| {
        let (seed, sequence, title, stripes, overlay, stripe_rate) = fixed;
        let (generation_millis, tracks, source, created_at, ended_at) = rest;
        let key = BroadcastKey::from_seed(&seed);
        let manifest = Manifest {
            broadcast: key.broadcast(),
            sequence,
            title,
            stripes,
            overlay,
            stripe_rate,
            generation_millis,
            tracks,
            source,
            created_at,
            ended_at,
        };
        SignedManifest::sign(manifest, &key).expect("within the limits")
    })
}

fn layout() -> impl Strategy<Value = Layout> {
    let layers = prop::collection::vec((0.0..1.0_f64, 0..20_000_u32), 1..=MAX_LAYERS);
    let grains = 4..=u64::from(MAX_CHUNK_LENGTH / 64);
    (count(), grains, layers).prop_filter_map(
        "more chunks than allowed",
        |(count, grains, mut l)| {
            l.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            let threshold = |share: f64| {
                let k =
                    (1..=count.value()).find(|k| f64::from(*k) >= share * f64::from(count.value()));
                k.unwrap_or(1)
            };
            let layers = l
                .into_iter()
                .map(|(share, length)| LayerLayout { threshold: threshold(share), length });
            Layout::new(count, u32::try_from(grains * 64).ok()?, layers.collect()).ok()
        },
    )
}

fn header() -> impl Strategy<Value = Message> {
    let rest = (generation(), any::<u64>(), any::<bool>(), any::<[u8; 32]>(), any::<u8>());
    (layout(), rest).prop_map(|(layout, (generation, emitted_at, is_random_access, seed, pick))| {
        let stripes = layout.stripes();
        let hash = |stripe: u8, index: usize| -> Hash {
            let mut hash = seed;
            hash[0] ^= stripe;
            hash[1] ^= index.to_le_bytes()[0];
            hash
        };
        let hashes = stripes
            .iter()
            .map(|stripe| (0..layout.chunk_count()).map(|index| hash(stripe.0, index)).collect())
            .collect();
        let sealed = Sealed::new(generation, emitted_at, is_random_access, layout, hashes);
        let signature = [&seed[..], &seed].concat().try_into().expect("64 bytes");
        Message::Header(sealed.header(StripeId(pick % stripes.value()), signature))
    })
}

fn chunk() -> impl Strategy<Value = Message> {
    let payload = prop_oneof![bytes(1..=300_usize), bytes(MAX_CHUNK_LENGTH as usize)];
    (generation(), stripe(), any::<u16>(), payload).prop_map(
        |(generation, stripe, index, payload)| Message::Chunk {
            id: ChunkId { generation, stripe, index },
            payload,
        },
    )
}

// ---- The largest ------------------------------------------------------------------------------

fn largest() -> Vec<Message> {
    let most = i32::from(MAX_COORDINATE);
    let height = u32::from(MAX_COORDINATE);
    let coordinate = Coordinate { x: -most, y: -most, height, error: MAX_ERROR };
    let contact = Contact {
        peer: PeerId([0xff; 32]),
        roles: Roles(u64::MAX),
        capacity: u32::MAX,
        addresses: vec![Bytes::from(vec![0xff; MAX_ADDRESS]); MAX_ADDRESSES],
        is_source: true,
        class: MAX_CLASS,
        coordinate: Some(coordinate),
    };
    let (stripe, nonce, path) = (StripeId(63), u32::MAX, vec![contact.peer; MAX_HOPS]);
    let standing = Standing {
        depth: u32::MAX,
        grandparent: Some(contact.clone()),
        population: u32::MAX,
        ancestors: vec![contact.peer; MAX_ANCESTORS],
        is_orphan: true,
        spare: u32::MAX,
        class: MAX_CLASS,
        is_open: true,
        is_grandparent_open: true,
        delay: u32::MAX,
    };
    let id = ChunkId { generation: GenerationId(u64::MAX), stripe, index: u16::MAX };
    vec![
        Message::Hello {
            broadcast: banyan_wire::BroadcastId([0xff; 32]),
            contact: contact.clone(),
            manifest_sequence: u64::MAX,
            is_reply: true,
        },
        Message::Contacts { contacts: vec![contact.clone(); MAX_CONTACTS] },
        Message::Join(Join {
            stripes: Roles(u64::MAX),
            nonce,
            joiner: contact.clone(),
            idle: Some(u32::MAX),
            is_descending: true,
            path: path.clone(),
            lost: Some(contact.peer),
            start: Start::At(GenerationId(u64::MAX), u16::MAX),
            is_entitled: true,
        }),
        Message::JoinFound { stripe, nonce, parent: contact.clone(), path },
        Message::Redirect {
            stripe,
            reason: Reason::TooSlow,
            candidates: vec![contact.clone(); MAX_CANDIDATES],
        },
        Message::Status { stripe, standing },
        Message::Manifest(largest_manifest(contact)),
        largest_header(),
        Message::Chunk { id, payload: vec![0xff; MAX_CHUNK_LENGTH as usize].into() },
    ]
}

/// As many tracks as the manifest's own limit leaves room for.
fn largest_manifest(source: Contact) -> SignedManifest {
    let key = BroadcastKey::from_seed(&[1; 32]);
    let track = Track {
        id: TrackId(255),
        codec: Codec::Ac3,
        width: u16::MAX,
        height: u16::MAX,
        sample_rate: u32::MAX,
        channels: u8::MAX,
        language: "a".repeat(MAX_LANGUAGE),
        rendition: Rendition::Low,
        config: vec![0xff; MAX_CODEC_CONFIG].into(),
    };
    let manifest = Manifest {
        broadcast: key.broadcast(),
        sequence: u64::MAX,
        title: "a".repeat(MAX_TITLE),
        stripes: StripeCount::DEFAULT,
        overlay: Overlay::PeerCast,
        stripe_rate: u64::MAX,
        generation_millis: 60_000,
        tracks: vec![track; 2],
        source,
        created_at: u64::MAX,
        ended_at: Some(GenerationId(u64::MAX)),
    };
    SignedManifest::sign(manifest, &key).expect("within the limits")
}

fn largest_header() -> Message {
    let stripes = StripeCount::new(64).expect("a power of two");
    // Seven empty layers cost bytes and no chunks.
    let mut layers = vec![LayerLayout { threshold: 64, length: 0 }; MAX_LAYERS - 1];
    layers.push(LayerLayout { threshold: 64, length: 64 * 256 * 1024 });
    let layout = Layout::new(stripes, 256, layers).expect("exactly at the limits");
    assert_eq!(layout.chunk_count(), MAX_CHUNKS);
    let hashes = vec![vec![[0xff; 32]; MAX_CHUNKS]; 64];
    let sealed = Sealed::new(GenerationId(u64::MAX), u64::MAX, true, layout, hashes);
    Message::Header(sealed.header(StripeId(63), [0xff; 64]))
}

fn bytes_of(tag: u64, message: &Message) -> Vec<u8> {
    let frame = Frame::encode(tag, message);
    [frame.head, frame.payload].concat()
}

const fn limit_of(message: &Message) -> usize {
    if message.is_data() { MAX_DATA_FRAME } else { MAX_CONTROL_FRAME }
}

#[test]
fn the_same_seed_gives_the_same_messages() {
    let draw = || {
        let mut runner = runner();
        join().new_tree(&mut runner).expect("nothing is filtered").current()
    };
    assert_eq!(draw(), draw());
}
