//! What `hostile.json` holds: frames that break the contract, each in one way, written byte by byte
//! so that nothing here depends on the encoder under test.

use banyan_wire::{BroadcastKey, DecodeError};
use serde::{Deserialize, Serialize};

use crate::describe::Hex;

/// Bytes and the error they deserve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hostile {
    /// What is wrong.
    pub(crate) name: String,
    /// How the bytes begin.
    pub(crate) bytes: Hex,
    /// One byte that follows, many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) then: Option<Fill>,
    /// The error's name.
    pub(crate) error: String,
    /// The field or list it names, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) what: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fill {
    byte: u8,
    times: usize,
}

impl Hostile {
    /// All the bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes.0.clone();
        if let Some(fill) = self.then {
            bytes.resize(bytes.len() + fill.times, fill.byte);
        }
        bytes
    }

    /// Asserts that `found` is the error that is named.
    pub(crate) fn assert_deserves(&self, found: Option<DecodeError>) {
        let text = found.map(|error| format!("{error:?}")).unwrap_or_default();
        let name = text.split([' ', '(']).next().unwrap_or_default();
        let what = text.split_once("what: \"").and_then(|(_, rest)| rest.split('"').next());
        assert_eq!((name, what), (self.error.as_str(), self.what.as_deref()), "{}", self.name);
    }
}

/// Writes protobuf.
#[derive(Clone, Default)]
struct Pb(Vec<u8>);

impl Pb {
    fn new() -> Self {
        Self::default()
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn varint(mut self, mut value: u64) -> Self {
        while value > 0x7f {
            let [low, ..] = value.to_le_bytes();
            self.0.push(low | 0x80);
            value >>= 7;
        }
        let [low, ..] = value.to_le_bytes();
        self.0.push(low);
        self
    }

    fn int(self, field: u64, value: u64) -> Self {
        self.varint(field << 3).varint(value)
    }

    fn fixed(self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | 1).raw(&value.to_le_bytes())
    }

    fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2).varint(bytes.len() as u64).raw(bytes)
    }

    fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    fn times(self, times: usize, write: impl Fn(Self) -> Self) -> Self {
        (0..times).fold(self, |message, _| write(message))
    }
}

const TAG: u64 = 0x8a88_e3dd_7409_f195;
const SEED: [u8; 32] = [1; 32];

// Fields of the envelope.
const HELLO: u64 = 2;
const GOODBYE: u64 = 3;
const MANIFEST: u64 = 4;
const FIND_CONTACTS: u64 = 5;
const CONTACTS: u64 = 6;
const JOIN: u64 = 7;
const JOIN_FOUND: u64 = 8;
const JOIN_FAILED: u64 = 9;
const ATTACH: u64 = 10;
const ACCEPT: u64 = 11;
const REDIRECT: u64 = 12;
const DETACH: u64 = 13;
const REPORT: u64 = 14;
const STATUS: u64 = 15;
const ADOPT: u64 = 16;
const PROBE: u64 = 17;
const PROBE_REPLY: u64 = 18;
const RECEPTION: u64 = 21;
const MOVED: u64 = 22;
const HEADER: u64 = 19;
const CHUNK: u64 = 20;

fn envelope(field: u64, message: &Pb) -> Pb {
    Pb::new().fixed(1, TAG).message(field, message)
}

/// A frame around `head` and a payload that ends in `fill` zeros.
fn frame(head: &Pb, payload: &[u8], fill: usize) -> Vec<u8> {
    let length = u32::try_from(2 + head.0.len() + payload.len() + fill).expect("short");
    // Heads whose end is part of the fill count it too; chunks, whose payload it is, do not.
    let head_length = u16::try_from(head.0.len()).expect("short");
    [&length.to_be_bytes()[..], &head_length.to_be_bytes(), &head.0, payload].concat()
}

fn case(name: &str, bytes: Vec<u8>, error: &str, what: Option<&str>) -> Hostile {
    Hostile {
        name: name.into(),
        bytes: Hex(bytes),
        then: None,
        error: error.into(),
        what: what.map(Into::into),
    }
}

/// A frame with one message and no payload.
fn says(name: &str, field: u64, message: &Pb, error: &str, what: Option<&str>) -> Hostile {
    case(name, frame(&envelope(field, message), &[], 0), error, what)
}

/// A frame whose message ends in a bytes field of `times` zeros.
fn says_long(
    name: &str,
    field: u64,
    begin: Pb,
    last: u64,
    times: usize,
    (error, what): (&str, &str),
) -> Hostile {
    let begin = begin.varint(last << 3 | 2).varint(times as u64);
    let head = Pb::new()
        .fixed(1, TAG)
        .varint(field << 3 | 2)
        .varint((begin.0.len() + times) as u64)
        .raw(&begin.0);
    let head_length = u16::try_from(head.0.len() + times).expect("below 64 KiB");
    let length = u32::from(head_length) + 2;
    let bytes = [&length.to_be_bytes()[..], &head_length.to_be_bytes(), &head.0].concat();
    Hostile { then: Some(Fill { byte: 0, times }), ..case(name, bytes, error, Some(what)) }
}

fn contact() -> Pb {
    Pb::new().bytes(1, &[2; 32]).fixed(2, 1).int(3, 16)
}

fn standing() -> Pb {
    Pb::new().int(1, 3).int(3, 20)
}

/// A coordinate with one number out of bounds.
fn moved(name: &str, field: u64, value: u64, what: &'static str) -> Hostile {
    let coordinate = Pb::new().int(field, value);
    says(name, MOVED, &Pb::new().message(1, &coordinate), "OutOfRange", Some(what))
}

fn stripe(value: u64) -> Pb {
    Pb::new().int(1, value)
}

// ---- Frames and heads -------------------------------------------------------------------------

fn frames() -> Vec<Hostile> {
    let head = |name: &str, head: Pb| case(name, frame(&head, &[], 0), "Malformed", None);
    let over =
        |name: &str, length: u32| case(name, length.to_be_bytes().to_vec(), "FrameTooLong", None);
    let cut = |name: &str, bytes: &[u8]| case(name, bytes.to_vec(), "FrameTruncated", None);
    vec![
        over("a frame one byte too long", 40 * 1024 + 1),
        over("a frame of 4 GiB", u32::MAX),
        cut("a frame of nothing", &[0, 0, 0, 0]),
        cut("a frame of one byte", &[0, 0, 0, 1, 0]),
        cut("a head longer than its frame", &[0, 0, 0, 3, 0, 2, 9]),
        cut("a head of 65,535 bytes in a frame of two", &[0, 0, 0, 2, 0xff, 0xff]),
        head("garbage", Pb::new().raw(&[0xff; 16])),
        head("a head that ends inside a number", Pb::new().raw(&[9, 1, 2, 3])),
        head("a field that ends past the head", Pb::new().raw(&[0x12, 0x7f, 0])),
        head("a number of eleven bytes", Pb::new().raw(&[8]).raw(&[0x80; 10]).raw(&[1])),
        head("a tag that is no fixed64", Pb::new().int(1, 7)),
        head("a hello that is a number", Pb::new().int(HELLO, 7)),
        head("field number 0", Pb::new().int(0, 7)),
        head("a group that never ends", Pb::new().raw(&[0x9b, 6, 0x9b, 6, 0x9b, 6])),
        head("a stripe that is bytes", envelope(PROBE, &Pb::new().bytes(1, &[0; 4]))),
        case("an empty head", frame(&Pb::new(), &[], 0), "UnknownMessage", None),
        case(
            "an envelope without a message",
            frame(&Pb::new().fixed(1, TAG), &[], 0),
            "UnknownMessage",
            None,
        ),
        says("a message of a later version", 99, &stripe(3), "UnknownMessage", None),
        case(
            "a message of a later version, with a payload",
            frame(&envelope(99, &stripe(3)), &[1, 2, 3], 0),
            "UnknownMessage",
            None,
        ),
        case(
            "a payload after a control message",
            frame(&envelope(PROBE, &stripe(3)), &[0], 0),
            "UnexpectedPayload",
            None,
        ),
        case(
            "a payload after a header",
            frame(&envelope(HEADER, &header(&Head::default())), &[0], 0),
            "UnexpectedPayload",
            None,
        ),
    ]
}

// ---- Neighbours -------------------------------------------------------------------------------

fn neighbours() -> Vec<Hostile> {
    let hello = |contact: &Pb| Pb::new().bytes(1, &[7; 32]).message(2, contact);
    let address = |length: usize| hello(&contact().bytes(4, &vec![4; length]));
    let code = ("UnknownCode", Some("goodbye reason"));
    vec![
        says(
            "a hello without a contact",
            HELLO,
            &Pb::new().bytes(1, &[7; 32]),
            "Missing",
            Some("contact"),
        ),
        says(
            "a hello without a broadcast",
            HELLO,
            &Pb::new().message(2, &contact()),
            "BroadcastId",
            None,
        ),
        says(
            "a broadcast id of 31 bytes",
            HELLO,
            &Pb::new().bytes(1, &[7; 31]).message(2, &contact()),
            "BroadcastId",
            None,
        ),
        says("a peer id of 33 bytes", HELLO, &hello(&Pb::new().bytes(1, &[2; 33])), "PeerId", None),
        says("a contact without a peer", HELLO, &hello(&Pb::new().int(3, 1)), "PeerId", None),
        says(
            "five addresses",
            HELLO,
            &hello(&contact().times(5, |contact| contact.bytes(4, &[4, 127, 0, 0, 1]))),
            "TooMany",
            Some("addresses"),
        ),
        says("an empty address", HELLO, &address(0), "Length", Some("address")),
        says("an address of 161 bytes", HELLO, &address(161), "Length", Some("address")),
        says("a goodbye without a reason", GOODBYE, &Pb::new(), code.0, code.1),
        says("a goodbye for a fifth reason", GOODBYE, &Pb::new().int(1, 5), code.0, code.1),
        says("digits as a varint", FIND_CONTACTS, &Pb::new().int(1, 0xffff), "Malformed", None),
        says(
            "49 contacts",
            CONTACTS,
            &Pb::new().times(49, |contacts| contacts.message(1, &contact())),
            "TooMany",
            Some("contacts"),
        ),
        says(
            "a contact of nothing among others",
            CONTACTS,
            &Pb::new().message(1, &contact()).message(1, &Pb::new()),
            "PeerId",
            None,
        ),
    ]
}

// ---- The manifest -----------------------------------------------------------------------------

/// A valid manifest's bytes, with `change` appended: in protobuf the last value of a field counts.
fn manifest(change: &Pb) -> Pb {
    let key = BroadcastKey::from_seed(&SEED).broadcast();
    Pb::new()
        .bytes(1, &key.0)
        .int(2, 1)
        .bytes(3, b"hostile")
        .int(4, 16)
        .int(5, 1)
        .int(7, 500)
        .message(9, &contact())
        .int(10, 1_700_000_000)
        .raw(&change.0)
}

fn signature(manifest: &Pb, seed: &[u8; 32]) -> [u8; 64] {
    let context = b"banyan/manifest/1";
    BroadcastKey::from_seed(seed).sign(&[context, &manifest.0[..]].concat())
}

fn signed(manifest: &Pb, signature: &[u8]) -> Pb {
    Pb::new().bytes(1, &manifest.0).bytes(2, signature)
}

fn manifests() -> Vec<Hostile> {
    let refused = |name: &str, change: Pb, error: &str, what: Option<&str>| {
        let manifest = manifest(&change);
        let signature = signature(&manifest, &SEED);
        says(name, MANIFEST, &signed(&manifest, &signature), error, what)
    };
    let track = || Pb::new().int(2, 1);
    let good = manifest(&Pb::new());
    let good_signature = signature(&good, &SEED);
    let forged = |name: &str, manifest: &Pb, signature: &[u8]| {
        says(name, MANIFEST, &signed(manifest, signature), "Signature", None)
    };
    let mut flipped = good_signature;
    flipped[40] ^= 1;
    // The neutral point as the key: with R neutral and s = 0 it "signs" anything, unless checked
    // strictly.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let neutral_manifest = manifest(&Pb::new().bytes(1, &neutral));
    let mut neutral_signature = [0; 64];
    neutral_signature[0] = 1;
    vec![
        says(
            "a signature of 63 bytes",
            MANIFEST,
            &signed(&good, &good_signature[1..]),
            "Length",
            Some("signature"),
        ),
        says(
            "a manifest without a signature",
            MANIFEST,
            &Pb::new().bytes(1, &good.0),
            "Length",
            Some("signature"),
        ),
        says_long(
            "a manifest of 12,289 bytes",
            MANIFEST,
            Pb::new().bytes(2, &good_signature),
            1,
            12 * 1024 + 1,
            ("Length", "manifest"),
        ),
        says(
            "a manifest of nothing",
            MANIFEST,
            &signed(&Pb::new(), &good_signature),
            "OutOfRange",
            Some("generation duration"),
        ),
        says(
            "a manifest that is no protobuf",
            MANIFEST,
            &signed(&Pb::new().raw(&[0xff; 9]), &good_signature),
            "Malformed",
            None,
        ),
        forged("a signature with one bit flipped", &good, &flipped),
        forged("a signature by another key", &good, &signature(&good, &[2; 32])),
        forged(
            "a manifest changed after it was signed",
            &manifest(&Pb::new().int(2, 2)),
            &good_signature,
        ),
        forged(
            "a signature over the manifest without its context",
            &good,
            &BroadcastKey::from_seed(&SEED).sign(&good.0),
        ),
        forged("a malleable signature: s + L", &good, &plus_order(good_signature)),
        forged("a key of small order", &neutral_manifest, &neutral_signature),
        refused(
            "a broadcast id that is no point",
            Pb::new().bytes(1, &NO_POINT),
            "BroadcastId",
            None,
        ),
        refused(
            "a manifest's broadcast id of 33 bytes",
            Pb::new().bytes(1, &[1; 33]),
            "BroadcastId",
            None,
        ),
        refused("no stripes", Pb::new().int(4, 0), "StripeCount", None),
        refused("three stripes", Pb::new().int(4, 3), "StripeCount", None),
        refused("128 stripes", Pb::new().int(4, 128), "StripeCount", None),
        refused("an overlay nobody knows", Pb::new().int(5, 9), "UnknownCode", Some("overlay")),
        refused(
            "generations of no time",
            Pb::new().int(7, 0),
            "OutOfRange",
            Some("generation duration"),
        ),
        refused(
            "generations of more than a minute",
            Pb::new().int(7, 60_001),
            "OutOfRange",
            Some("generation duration"),
        ),
        refused("a title of 201 bytes", Pb::new().bytes(3, &[b'a'; 201]), "Length", Some("title")),
        refused("a title that is not UTF-8", Pb::new().bytes(3, &[0xc3, 0x28]), "Malformed", None),
        refused(
            "nine tracks",
            Pb::new().times(9, |pb| pb.message(8, &track())),
            "TooMany",
            Some("tracks"),
        ),
        refused(
            "track 256",
            Pb::new().message(8, &track().int(1, 256)),
            "OutOfRange",
            Some("track id"),
        ),
        refused(
            "a codec nobody knows",
            Pb::new().message(8, &Pb::new().int(2, 9)),
            "UnknownCode",
            Some("codec"),
        ),
        refused(
            "a track without a codec",
            Pb::new().message(8, &Pb::new()),
            "UnknownCode",
            Some("codec"),
        ),
        refused(
            "a picture 65,536 wide",
            Pb::new().message(8, &track().int(3, 65_536)),
            "OutOfRange",
            Some("picture width"),
        ),
        refused(
            "a picture 65,536 high",
            Pb::new().message(8, &track().int(4, 65_536)),
            "OutOfRange",
            Some("picture height"),
        ),
        refused(
            "256 channels",
            Pb::new().message(8, &track().int(6, 256)),
            "OutOfRange",
            Some("channels"),
        ),
        refused(
            "a rendition nobody knows",
            Pb::new().message(8, &track().int(9, 2)),
            "UnknownCode",
            Some("rendition"),
        ),
        refused(
            "a language of 17 bytes",
            Pb::new().message(8, &track().bytes(7, &[b'a'; 17])),
            "Length",
            Some("language"),
        ),
        refused(
            "a codec configuration of 4,097 bytes",
            Pb::new().message(8, &track().bytes(8, &[0; 4_097])),
            "Length",
            Some("codec configuration"),
        ),
        says("a manifest without a source", MANIFEST, &sourceless(), "Missing", Some("source")),
    ]
}

/// 32 bytes that are not a point of the curve: there is no x for y = 2.
const NO_POINT: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 2;
    bytes
};

fn sourceless() -> Pb {
    let key = BroadcastKey::from_seed(&SEED).broadcast();
    let manifest = Pb::new().bytes(1, &key.0).int(4, 16).int(5, 1).int(7, 500);
    let signature = signature(&manifest, &SEED);
    signed(&manifest, &signature)
}

/// Adds the order of the base point to s: the same signature to a verifier that is not strict.
fn plus_order(mut signature: [u8; 64]) -> [u8; 64] {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let [low, high] = (u16::from(*byte) + u16::from(order) + carry).to_le_bytes();
        *byte = low;
        carry = u16::from(high);
    }
    signature
}

// ---- The forest -------------------------------------------------------------------------------

fn forest() -> Vec<Hostile> {
    let peers = |pb: Pb, field: u64, count: usize| pb.times(count, |pb| pb.bytes(field, &[3; 32]));
    let stripes = |stripes: u64| Pb::new().fixed(1, stripes).int(2, 5);
    let join = || stripes(1).message(3, &contact());
    let reason = ("UnknownCode", Some("reason"));
    let attach = || Pb::new().message(2, &contact());
    vec![
        says(
            "a join for no stripe",
            JOIN,
            &stripes(0).message(3, &contact()),
            "Missing",
            Some("stripes"),
        ),
        says("a join without a joiner", JOIN, &stripes(1), "Missing", Some("joiner")),
        says("a path of 25 hops", JOIN, &peers(join(), 6, 25), "TooMany", Some("hops")),
        says("a hop of 31 bytes", JOIN, &join().bytes(6, &[3; 31]), "PeerId", None),
        says("an empty hop", JOIN, &join().bytes(6, &[]), "PeerId", None),
        says("a lost parent of five bytes", JOIN, &join().bytes(7, &[3; 5]), "PeerId", None),
        says(
            "a join-found without a parent",
            JOIN_FOUND,
            &Pb::new().int(2, 5),
            "Missing",
            Some("parent"),
        ),
        says(
            "a way back of 25 hops",
            JOIN_FOUND,
            &peers(Pb::new().message(3, &contact()), 4, 25),
            "TooMany",
            Some("hops"),
        ),
        says(
            "a join-failed without a reason",
            JOIN_FAILED,
            &Pb::new().int(2, 5),
            reason.0,
            reason.1,
        ),
        says(
            "a join-failed for a tenth reason",
            JOIN_FAILED,
            &Pb::new().int(3, 10),
            reason.0,
            reason.1,
        ),
        says("an attach without a child", ATTACH, &Pb::new(), "Missing", Some("child")),
        says("an attach for stripe 300", ATTACH, &attach().int(1, 300), "Stripe", None),
        says(
            "a start at chunk 65,536",
            ATTACH,
            &attach().message(4, &Pb::new().int(1, 7).int(2, 65_536)),
            "OutOfRange",
            Some("chunk index"),
        ),
        says("an attach that lost 64 bytes", ATTACH, &attach().bytes(5, &[3; 64]), "PeerId", None),
        says("an accept without a standing", ACCEPT, &stripe(3), "Missing", Some("standing")),
        says(
            "65 ancestors",
            ACCEPT,
            &Pb::new().message(2, &peers(standing(), 4, 65)),
            "TooMany",
            Some("ancestors"),
        ),
        says(
            "a grandparent without a peer",
            ACCEPT,
            &Pb::new().message(2, &standing().message(2, &Pb::new())),
            "PeerId",
            None,
        ),
        says("a status without a standing", STATUS, &stripe(3), "Missing", Some("standing")),
        says("a redirect without a reason", REDIRECT, &stripe(3), reason.0, reason.1),
        says(
            "nine candidates",
            REDIRECT,
            &Pb::new().int(2, 1).times(9, |pb| pb.message(3, &contact())),
            "TooMany",
            Some("candidates"),
        ),
        says(
            "a detach for stripe 4,294,967,295",
            DETACH,
            &stripe(u64::from(u32::MAX)),
            "Stripe",
            None,
        ),
        says(
            "five idle peers",
            REPORT,
            &stripe(3).times(5, |pb| pb.message(5, &peers(Pb::new(), 1, 1))),
            "TooMany",
            Some("idle peers"),
        ),
        says(
            "five movable peers",
            REPORT,
            &stripe(3).times(5, |pb| pb.message(9, &peers(Pb::new(), 1, 1))),
            "TooMany",
            Some("movable peers"),
        ),
        says(
            "an idle peer without a name",
            REPORT,
            &stripe(3).message(5, &Pb::new()),
            "PeerId",
            None,
        ),
        says(
            "five willing ones",
            REPORT,
            &peers(stripe(3), 6, 5),
            "TooMany",
            Some("willing peers"),
        ),
        says(
            "a capacity class of 16",
            REDIRECT,
            &Pb::new().int(2, 1).message(3, &contact().int(6, 16)),
            "OutOfRange",
            Some("capacity class"),
        ),
        says("a peer that moved nowhere", MOVED, &Pb::new(), "Missing", Some("coordinate")),
        moved("a peer too far to the east", 1, 40_002, "coordinate"),
        moved("a peer too far to the west", 1, 40_001, "coordinate"),
        moved("a peer as far to the north as a number goes", 2, u64::from(u32::MAX), "coordinate"),
        moved("a height of more than two seconds", 3, 20_001, "coordinate"),
        moved("an error of more than everything", 4, 1_001, "coordinate's error"),
        moved("an error of 65,536 thousandths", 4, 65_536, "coordinate's error"),
        says(
            "a contact out of this world",
            REDIRECT,
            &Pb::new().int(2, 1).message(3, &contact().message(7, &Pb::new().int(1, 40_002))),
            "OutOfRange",
            Some("coordinate"),
        ),
        says("an adopt without a peer", ADOPT, &stripe(3), "PeerId", None),
        says("an adopt of stripe 64", ADOPT, &peers(stripe(3), 2, 1).int(4, 64), "Stripe", None),
        says("a probe for stripe 64", PROBE, &stripe(64), "Stripe", None),
        says("a reception for stripe 64", RECEPTION, &stripe(64), "Stripe", None),
        says(
            "a reception of 66 counts",
            RECEPTION,
            &Pb::new().bytes(3, &[1; 66]),
            "TooMany",
            Some("counts"),
        ),
        says("a probe-reply for stripe 255", PROBE_REPLY, &stripe(255), "Stripe", None),
    ]
}

// ---- The data plane ---------------------------------------------------------------------------

/// A header of K = 4, one layer of one chunk; valid but for what a case changes.
struct Head {
    stripe: u64,
    chunk_length: u64,
    layers: Vec<(u64, u64)>,
    hashes: usize,
    proof: usize,
    signature: usize,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            stripe: 1,
            chunk_length: 256,
            layers: vec![(2, 100)],
            hashes: 32,
            proof: 64,
            signature: 64,
        }
    }
}

fn header(head: &Head) -> Pb {
    let layers = head.layers.iter();
    layers
        .fold(
            Pb::new()
                .int(1, 7)
                .int(2, head.stripe)
                .int(3, 3_500_000)
                .int(4, 1)
                .int(5, head.chunk_length),
            |pb, (threshold, length)| pb.message(6, &Pb::new().int(1, *threshold).int(2, *length)),
        )
        .bytes(7, &vec![8; head.hashes])
        .bytes(8, &vec![9; head.proof])
        .bytes(9, &vec![5; head.signature])
}

fn data() -> Vec<Hostile> {
    let refused = |name: &str, head: Head, error: &str, what: Option<&str>| {
        says(name, HEADER, &header(&head), error, what)
    };
    let layers = |name: &str, layers: &[(u64, u64)], error: &str, what: &str| {
        let head = Head { layers: layers.to_vec(), ..Head::default() };
        says(name, HEADER, &header(&head), error, Some(what))
    };
    let chunk_length = |name: &str, chunk_length: u64| {
        let head = Head { chunk_length, ..Head::default() };
        says(name, HEADER, &header(&head), "OutOfRange", Some("chunk length"))
    };
    let chunk = |stripe: u64, index: u64| {
        envelope(CHUNK, &Pb::new().int(1, 7).int(2, stripe).int(3, index))
    };
    let (times, head) = (16 * 1024 + 1, chunk(1, 0));
    let too_long = case("a chunk of 16,385 bytes", frame(&head, &[], times), "ChunkLength", None);
    vec![
        refused(
            "a proof of seven hashes",
            Head { proof: 7 * 32, ..Head::default() },
            "TooMany",
            Some("proof"),
        ),
        refused(
            "a proof of 63 bytes",
            Head { proof: 63, ..Head::default() },
            "Length",
            Some("proof"),
        ),
        refused("a header for stripe 64", Head { stripe: 64, ..Head::default() }, "Stripe", None),
        refused("stripe 4 of 4", Head { stripe: 4, ..Head::default() }, "Stripe", None),
        refused(
            "stripe 1 of 1",
            Head { proof: 0, layers: vec![(1, 100)], ..Head::default() },
            "Stripe",
            None,
        ),
        layers("no layers", &[], "TooMany", "layers"),
        layers("nine layers", &[(2, 10); 9], "TooMany", "layers"),
        layers("a threshold of 0", &[(0, 100)], "OutOfRange", "layer threshold"),
        layers("a threshold above K", &[(5, 100)], "OutOfRange", "layer threshold"),
        layers("a threshold of 258", &[(258, 100)], "OutOfRange", "layer threshold"),
        layers("thresholds that decrease", &[(3, 50), (2, 50)], "OutOfRange", "layer threshold"),
        layers(
            "a generation of more than 16 MiB",
            &[(4, 16 << 20), (4, 1)],
            "OutOfRange",
            "generation length",
        ),
        layers("a layer of 4 GiB", &[(4, u64::from(u32::MAX))], "OutOfRange", "generation length"),
        layers("1,025 chunks", &[(1, 256 * 1024 + 2)], "TooMany", "chunks"),
        chunk_length("a chunk length of 0", 0),
        chunk_length("a chunk length of 192", 192),
        chunk_length("a chunk length of 300", 300),
        chunk_length("a chunk length of 16,448", 16_448),
        refused(
            "a chunk hash too few",
            Head { layers: vec![(2, 514)], ..Head::default() },
            "Length",
            Some("chunk hashes"),
        ),
        refused(
            "a chunk hash too many",
            Head { hashes: 64, ..Head::default() },
            "Length",
            Some("chunk hashes"),
        ),
        refused(
            "chunk hashes of 33 bytes",
            Head { hashes: 33, ..Head::default() },
            "Length",
            Some("chunk hashes"),
        ),
        says_long(
            "1,025 chunk hashes",
            HEADER,
            Pb::new().int(5, 256).message(6, &Pb::new().int(1, 1).int(2, 100)).bytes(9, &[5; 64]),
            7,
            1_025 * 32,
            ("TooMany", "chunk hashes"),
        ),
        refused(
            "a header's signature of 65 bytes",
            Head { signature: 65, ..Head::default() },
            "Length",
            Some("signature"),
        ),
        refused(
            "a header without a signature",
            Head { signature: 0, ..Head::default() },
            "Length",
            Some("signature"),
        ),
        case("a chunk of no bytes", frame(&chunk(1, 0), &[], 0), "ChunkLength", None),
        Hostile { then: Some(Fill { byte: 0, times }), ..too_long },
        case("chunk 65,536", frame(&chunk(1, 65_536), &[1], 0), "OutOfRange", Some("chunk index")),
        case("a chunk of stripe 64", frame(&chunk(64, 0), &[1], 0), "Stripe", None),
    ]
}

/// All hostile frames.
pub(crate) fn cases() -> Vec<Hostile> {
    [frames(), neighbours(), manifests(), forest(), data()].concat()
}

/// Hostile records of the directory.
pub(crate) fn records() -> Vec<Hostile> {
    let good = manifest(&Pb::new());
    let record = |signature: &[u8], manifest: &Pb| [signature, &manifest.0[..]].concat();
    let signature = signature(&good, &SEED);
    let mut flipped = signature;
    flipped[0] ^= 1;
    vec![
        case("an empty record", Vec::new(), "Length", Some("manifest record")),
        case("a record of 63 bytes", vec![0; 63], "Length", Some("manifest record")),
        case(
            "a record of a signature alone",
            signature.to_vec(),
            "OutOfRange",
            Some("generation duration"),
        ),
        case("a record with a forged signature", record(&flipped, &good), "Signature", None),
        case(
            "a record cut short",
            record(&signature, &Pb(good.0[..good.0.len() - 6].to_vec())),
            "Signature",
            None,
        ),
        Hostile {
            then: Some(Fill { byte: 0, times: 12 * 1024 + 1 }),
            ..case("a record of 12,353 bytes", signature.to_vec(), "Length", Some("manifest"))
        },
    ]
}
