//! Messages as `valid.json` describes them: field by field, in JSON.

use banyan_wire::{
    BroadcastId, BroadcastKey, ChunkId, Codec, Commitment, Contact, Coordinate, DescriptionHeader,
    GenerationId, GoodbyeReason, Hash, Idle, Join, LayerLayout, Layout, Manifest, Message, Overlay,
    PeerId, Reason, Reception, Rendition, Report, Roles, Signature, SignedManifest, Standing,
    Start, StripeCount, StripeId, Track, TrackId, root_of,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes, written as hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let byte = |pair: &[u8]| {
            let [high, low] = pair else { return None };
            u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
        };
        let bytes = text.as_bytes().chunks(2).map(byte).collect::<Option<_>>();
        bytes.map(Self).ok_or_else(|| D::Error::custom("not hexadecimal digits"))
    }
}

impl<T: AsRef<[u8]>> From<T> for Hex {
    fn from(bytes: T) -> Self {
        Self(bytes.as_ref().to_vec())
    }
}

impl Hex {
    fn array<const N: usize>(&self) -> [u8; N] {
        self.0.as_slice().try_into().expect("the vectors give fixed fields their length")
    }

    fn peer(&self) -> PeerId {
        PeerId(self.array())
    }
}

/// One message. Fields are named as in `banyan.proto`, sets of stripes are lists, codes are named
/// as in PROTOCOL.md, and an absent field is `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Said {
    Hello {
        broadcast: Hex,
        contact: SaidContact,
        manifest_sequence: u64,
        is_reply: bool,
    },
    Goodbye {
        reason: String,
    },
    Manifest {
        /// The source's secret, so that the signature can be made as well as checked.
        seed: Hex,
        manifest: SaidManifest,
        signature: Hex,
    },
    FindContacts {
        digits: Vec<u8>,
    },
    Contacts {
        contacts: Vec<SaidContact>,
    },
    Join {
        stripes: Vec<u8>,
        nonce: u32,
        joiner: SaidContact,
        idle: Option<u32>,
        is_descending: bool,
        path: Vec<Hex>,
        lost: Option<Hex>,
        start: SaidStart,
        is_entitled: bool,
    },
    JoinFound {
        stripe: u8,
        nonce: u32,
        parent: SaidContact,
        path: Vec<Hex>,
    },
    JoinFailed {
        stripe: u8,
        nonce: u32,
        reason: String,
        path: Vec<Hex>,
    },
    Attach {
        stripe: u8,
        child: SaidContact,
        idle: Option<u32>,
        start: SaidStart,
        lost: Option<Hex>,
        is_entitled: bool,
        within: Option<u32>,
    },
    Accept {
        stripe: u8,
        standing: SaidStanding,
    },
    Redirect {
        stripe: u8,
        reason: String,
        candidates: Vec<SaidContact>,
    },
    Detach {
        stripe: u8,
    },
    Report {
        stripe: u8,
        free_slots: u32,
        free_depth: u32,
        members: u32,
        idle: Vec<SaidIdle>,
        willing: Vec<Hex>,
        yielding: u32,
        waiting: u32,
        movable: Vec<SaidIdle>,
        slots: u32,
        relief: u32,
    },
    Status {
        stripe: u8,
        standing: SaidStanding,
    },
    Adopt {
        stripe: u8,
        peer: Hex,
        role: u8,
        is_second: bool,
    },
    Probe {
        stripe: u8,
    },
    ProbeReply {
        stripe: u8,
        is_orphan: bool,
        head: u64,
    },
    Reception {
        stripe: u8,
        viewers: u32,
        counts: Vec<u32>,
    },
    Moved {
        coordinate: SaidCoordinate,
    },
    Header {
        generation: u64,
        stripe: u8,
        /// K; on the wire it is said by the length of the proof.
        stripes: u32,
        emitted_at: u64,
        is_random_access: bool,
        chunk_length: u32,
        layers: Vec<SaidLayer>,
        chunk_hashes: Vec<Hex>,
        proof: Vec<Hex>,
        signature: Hex,
        /// Where hashes and proof lead; not on the wire.
        root: Hex,
    },
    Chunk {
        generation: u64,
        stripe: u8,
        index: u16,
        payload: Hex,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SaidContact {
    pub(crate) peer: Hex,
    pub(crate) roles: Vec<u8>,
    pub(crate) capacity: u32,
    pub(crate) addresses: Vec<Hex>,
    pub(crate) is_source: bool,
    pub(crate) class: u8,
    pub(crate) coordinate: Option<SaidCoordinate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SaidCoordinate {
    pub(crate) x: i32,
    pub(crate) y: i32,
    pub(crate) height: u32,
    pub(crate) error: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SaidIdle {
    pub(crate) peer: Hex,
    pub(crate) role: Option<u8>,
    pub(crate) slots: u32,
    pub(crate) children: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SaidStanding {
    pub(crate) depth: u32,
    pub(crate) grandparent: Option<SaidContact>,
    pub(crate) population: u32,
    pub(crate) ancestors: Vec<Hex>,
    pub(crate) is_orphan: bool,
    pub(crate) spare: u32,
    pub(crate) class: u8,
    pub(crate) is_open: bool,
    pub(crate) is_grandparent_open: bool,
    pub(crate) delay: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SaidStart {
    Live,
    At { generation: u64, chunk: u16 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SaidLayer {
    pub(crate) threshold: u8,
    pub(crate) length: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SaidManifest {
    pub(crate) broadcast: Hex,
    pub(crate) sequence: u64,
    pub(crate) title: String,
    pub(crate) stripes: u32,
    pub(crate) overlay: String,
    pub(crate) stripe_rate: u64,
    pub(crate) generation_millis: u32,
    pub(crate) tracks: Vec<SaidTrack>,
    pub(crate) source: SaidContact,
    pub(crate) created_at: u64,
    pub(crate) ended_at: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SaidTrack {
    pub(crate) id: u8,
    pub(crate) codec: String,
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) sample_rate: u32,
    pub(crate) channels: u8,
    pub(crate) language: String,
    pub(crate) rendition: String,
    pub(crate) config: Hex,
}

const REASONS: [(&str, Reason); 9] = [
    ("full", Reason::Full),
    ("exhausted", Reason::Exhausted),
    ("loop", Reason::Loop),
    ("no_route", Reason::NoRoute),
    ("replaced", Reason::Replaced),
    ("leaving", Reason::Leaving),
    ("role_change", Reason::RoleChange),
    ("orphan", Reason::Orphan),
    ("too_slow", Reason::TooSlow),
];
const GOODBYES: [(&str, GoodbyeReason); 4] = [
    ("not_a_member", GoodbyeReason::NotAMember),
    ("leaving", GoodbyeReason::Leaving),
    ("violation", GoodbyeReason::Violation),
    ("full", GoodbyeReason::Full),
];
const OVERLAYS: [(&str, Overlay); 2] =
    [("splitstream", Overlay::SplitStream), ("peercast", Overlay::PeerCast)];
const CODECS: [(&str, Codec); 8] = [
    ("h264", Codec::H264),
    ("aac", Codec::Aac),
    ("mp3", Codec::Mp3),
    ("ac3", Codec::Ac3),
    ("hevc", Codec::Hevc),
    ("av1", Codec::Av1),
    ("vp9", Codec::Vp9),
    ("opus", Codec::Opus),
];
const RENDITIONS: [(&str, Rendition); 2] = [("full", Rendition::Full), ("low", Rendition::Low)];

/// The names of all reasons, in the order of their codes.
pub(crate) fn reasons() -> impl Iterator<Item = &'static str> {
    REASONS.iter().map(|(name, _)| *name)
}

/// The names of all goodbye reasons, in the order of their codes.
pub(crate) fn goodbyes() -> impl Iterator<Item = &'static str> {
    GOODBYES.iter().map(|(name, _)| *name)
}

fn named<T: Copy>(table: &[(&str, T)], name: &str) -> T {
    table.iter().find(|(other, _)| *other == name).expect("the vectors use known names").1
}

fn peers(path: &[Hex]) -> Vec<PeerId> {
    path.iter().map(Hex::peer).collect()
}

fn roles(stripes: &[u8]) -> Roles {
    let mut roles = Roles::NONE;
    stripes.iter().for_each(|stripe| roles.insert(StripeId(*stripe)));
    roles
}

fn hashes(hashes: &[Hex]) -> Vec<Hash> {
    hashes.iter().map(Hex::array).collect()
}

impl SaidContact {
    fn build(&self) -> Contact {
        Contact {
            peer: self.peer.peer(),
            roles: roles(&self.roles),
            capacity: self.capacity,
            addresses: self.addresses.iter().map(|address| address.0.clone().into()).collect(),
            is_source: self.is_source,
            class: self.class,
            coordinate: self.coordinate.map(|coordinate| coordinate.build()),
        }
    }
}

impl SaidCoordinate {
    const fn build(self) -> Coordinate {
        Coordinate { x: self.x, y: self.y, height: self.height, error: self.error }
    }
}

impl SaidStanding {
    fn build(&self) -> Standing {
        Standing {
            depth: self.depth,
            grandparent: self.grandparent.as_ref().map(SaidContact::build),
            population: self.population,
            ancestors: peers(&self.ancestors),
            is_orphan: self.is_orphan,
            spare: self.spare,
            class: self.class,
            is_open: self.is_open,
            is_grandparent_open: self.is_grandparent_open,
            delay: self.delay,
        }
    }
}

impl SaidIdle {
    fn build(&self) -> Idle {
        let role = self.role.map(StripeId);
        Idle { peer: self.peer.peer(), role, slots: self.slots, children: self.children }
    }
}

impl SaidStart {
    fn build(&self) -> Start {
        match self {
            Self::Live => Start::Live,
            Self::At { generation, chunk } => Start::At(GenerationId(*generation), *chunk),
        }
    }
}

impl SaidManifest {
    fn build(&self) -> Manifest {
        Manifest {
            broadcast: BroadcastId(self.broadcast.array()),
            sequence: self.sequence,
            title: self.title.clone(),
            stripes: StripeCount::new(self.stripes).expect("a power of two up to 64"),
            overlay: named(&OVERLAYS, &self.overlay),
            stripe_rate: self.stripe_rate,
            generation_millis: self.generation_millis,
            tracks: self.tracks.iter().map(SaidTrack::build).collect(),
            source: self.source.build(),
            created_at: self.created_at,
            ended_at: self.ended_at.map(GenerationId),
        }
    }

    /// Signs with the key of `seed`.
    pub(crate) fn sign(&self, seed: &Hex) -> SignedManifest {
        let key = BroadcastKey::from_seed(&seed.array());
        SignedManifest::sign(self.build(), &key).expect("the vectors' manifests are valid")
    }
}

impl SaidTrack {
    fn build(&self) -> Track {
        Track {
            id: TrackId(self.id),
            codec: named(&CODECS, &self.codec),
            width: self.width,
            height: self.height,
            sample_rate: self.sample_rate,
            channels: self.channels,
            language: self.language.clone(),
            rendition: named(&RENDITIONS, &self.rendition),
            config: self.config.0.clone().into(),
        }
    }
}

impl Said {
    /// The message that is described.
    pub(crate) fn build(&self) -> Message {
        match self {
            Self::Hello { broadcast, contact, manifest_sequence, is_reply } => Message::Hello {
                broadcast: BroadcastId(broadcast.array()),
                contact: contact.build(),
                manifest_sequence: *manifest_sequence,
                is_reply: *is_reply,
            },
            Self::Goodbye { reason } => Message::Goodbye { reason: named(&GOODBYES, reason) },
            Self::Manifest { seed, manifest, signature } => {
                let signed = manifest.sign(seed);
                assert_eq!(*signed.signature(), signature.array::<64>(), "Ed25519 has one answer");
                Message::Manifest(signed)
            }
            Self::FindContacts { digits } => Message::FindContacts { digits: roles(digits) },
            Self::Contacts { contacts } => {
                Message::Contacts { contacts: contacts.iter().map(SaidContact::build).collect() }
            }
            Self::Join {
                stripes,
                nonce,
                joiner,
                idle,
                is_descending,
                path,
                lost,
                start,
                is_entitled,
            } => Message::Join(Join {
                stripes: roles(stripes),
                nonce: *nonce,
                joiner: joiner.build(),
                idle: *idle,
                is_descending: *is_descending,
                path: peers(path),
                lost: lost.as_ref().map(Hex::peer),
                start: start.build(),
                is_entitled: *is_entitled,
            }),
            Self::JoinFound { stripe, nonce, parent, path } => Message::JoinFound {
                stripe: StripeId(*stripe),
                nonce: *nonce,
                parent: parent.build(),
                path: peers(path),
            },
            Self::JoinFailed { stripe, nonce, reason, path } => Message::JoinFailed {
                stripe: StripeId(*stripe),
                nonce: *nonce,
                reason: named(&REASONS, reason),
                path: peers(path),
            },
            Self::Attach { stripe, child, idle, start, lost, is_entitled, within } => {
                Message::Attach {
                    stripe: StripeId(*stripe),
                    child: child.build(),
                    idle: *idle,
                    start: start.build(),
                    lost: lost.as_ref().map(Hex::peer),
                    is_entitled: *is_entitled,
                    within: *within,
                }
            }
            Self::Accept { stripe, standing } => {
                Message::Accept { stripe: StripeId(*stripe), standing: standing.build() }
            }
            Self::Redirect { stripe, reason, candidates } => Message::Redirect {
                stripe: StripeId(*stripe),
                reason: named(&REASONS, reason),
                candidates: candidates.iter().map(SaidContact::build).collect(),
            },
            Self::Detach { stripe } => Message::Detach { stripe: StripeId(*stripe) },
            Self::Report {
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
            } => Message::Report(Report {
                stripe: StripeId(*stripe),
                free_slots: *free_slots,
                free_depth: *free_depth,
                members: *members,
                idle: idle.iter().map(SaidIdle::build).collect(),
                willing: peers(willing),
                yielding: *yielding,
                waiting: *waiting,
                movable: movable.iter().map(SaidIdle::build).collect(),
                slots: *slots,
                relief: *relief,
            }),
            Self::Status { stripe, standing } => {
                Message::Status { stripe: StripeId(*stripe), standing: standing.build() }
            }
            Self::Adopt { stripe, peer, role, is_second } => Message::Adopt {
                stripe: StripeId(*stripe),
                peer: peer.peer(),
                role: StripeId(*role),
                is_second: *is_second,
            },
            Self::Probe { stripe } => Message::Probe { stripe: StripeId(*stripe) },
            Self::ProbeReply { stripe, is_orphan, head } => Message::ProbeReply {
                stripe: StripeId(*stripe),
                is_orphan: *is_orphan,
                head: GenerationId(*head),
            },
            Self::Reception { stripe, viewers, counts } => Message::Reception(Reception {
                stripe: StripeId(*stripe),
                viewers: *viewers,
                counts: counts.clone(),
            }),
            Self::Moved { coordinate } => Message::Moved { coordinate: coordinate.build() },
            Self::Header { .. } => Message::Header(self.header()),
            Self::Chunk { generation, stripe, index, payload } => Message::Chunk {
                id: ChunkId {
                    generation: GenerationId(*generation),
                    stripe: StripeId(*stripe),
                    index: *index,
                },
                payload: payload.0.clone().into(),
            },
        }
    }

    fn header(&self) -> DescriptionHeader {
        let Self::Header {
            generation,
            stripe,
            stripes,
            emitted_at,
            is_random_access,
            chunk_length,
            layers,
            chunk_hashes,
            proof,
            signature,
            root,
        } = self
        else {
            panic!("only headers are asked for");
        };
        let (stripe, chunk_hashes, proof) =
            (StripeId(*stripe), hashes(chunk_hashes), hashes(proof));
        let computed = root_of(stripe, &chunk_hashes, &proof);
        assert_eq!(root.array::<32>(), computed, "the described root is where the proof leads");
        DescriptionHeader {
            stripe,
            commitment: Commitment {
                generation: GenerationId(*generation),
                emitted_at: *emitted_at,
                is_random_access: *is_random_access,
                layout: layout(*stripes, *chunk_length, layers),
                root: computed,
            },
            chunk_hashes,
            proof,
            signature: signature.array::<64>() as Signature,
        }
    }

    /// Describes a header.
    pub(crate) fn of_header(header: &DescriptionHeader) -> Self {
        let commitment = &header.commitment;
        let layout = &commitment.layout;
        let layer =
            |layer: &LayerLayout| SaidLayer { threshold: layer.threshold, length: layer.length };
        Self::Header {
            generation: commitment.generation.0,
            stripe: header.stripe.0,
            stripes: u32::from(layout.stripes().value()),
            emitted_at: commitment.emitted_at,
            is_random_access: commitment.is_random_access,
            chunk_length: layout.chunk_length(),
            layers: layout.layers().iter().map(layer).collect(),
            chunk_hashes: header.chunk_hashes.iter().map(Hex::from).collect(),
            proof: header.proof.iter().map(Hex::from).collect(),
            signature: header.signature.into(),
            root: commitment.root.into(),
        }
    }
}

/// The layout of a description.
pub(crate) fn layout(stripes: u32, chunk_length: u32, layers: &[SaidLayer]) -> Layout {
    let stripes = StripeCount::new(stripes).expect("a power of two up to 64");
    let layers = layers
        .iter()
        .map(|layer| LayerLayout { threshold: layer.threshold, length: layer.length })
        .collect();
    Layout::new(stripes, chunk_length, layers).expect("the vectors' layouts are valid")
}
