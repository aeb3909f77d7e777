//! Between domain types and the generated protobuf types; every limit of PROTOCOL.md is checked
//! on the way in.
//!
//! The generated types do not leave this file and [`frame`](crate::frame).

use bytes::Bytes;
use prost::Message as _;

use crate::description::{Commitment, DescriptionHeader, Hash, root_of};
use crate::generated as pb;
use crate::layout::{LayerLayout, Layout, MAX_CHUNKS, MAX_LAYERS};
use crate::manifest::{MAX_TITLE, Manifest, Overlay};
use crate::media::{Codec, MAX_CODEC_CONFIG, MAX_LANGUAGE, MAX_TRACKS, Rendition, Track, TrackId};
use crate::message::{
    Contact, Coordinate, GoodbyeReason, Idle, Join, MAX_ADDRESS, MAX_ADDRESSES, MAX_ANCESTORS,
    MAX_CANDIDATES, MAX_CLASS, MAX_CONTACTS, MAX_COORDINATE, MAX_COUNTS, MAX_ERROR, MAX_HOPS,
    MAX_IDLE, Message, Reason, Reception, Report, Standing, Start,
};
use crate::{
    BroadcastId, ChunkId, DecodeError, GenerationId, MAX_STRIPES, PeerId, Roles, SignedManifest,
    StripeCount, StripeId,
};

type Result<T> = std::result::Result<T, DecodeError>;

// ---- Scalars and lists ------------------------------------------------------------------------

fn stripe(value: u32) -> Result<StripeId> {
    u8::try_from(value)
        .ok()
        .filter(|stripe| *stripe < MAX_STRIPES)
        .map(StripeId)
        .ok_or(DecodeError::Stripe(value))
}

/// A set of stripes that is not empty.
fn some_stripes(bits: u64) -> Result<Roles> {
    if bits == 0 { Err(DecodeError::Missing { what: "stripes" }) } else { Ok(Roles(bits)) }
}

fn peer(bytes: &[u8]) -> Result<PeerId> {
    Ok(PeerId(bytes.try_into().map_err(|_| DecodeError::PeerId)?))
}

fn optional_peer(bytes: &[u8]) -> Result<Option<PeerId>> {
    if bytes.is_empty() { Ok(None) } else { peer(bytes).map(Some) }
}

fn broadcast(bytes: &[u8]) -> Result<BroadcastId> {
    Ok(BroadcastId(bytes.try_into().map_err(|_| DecodeError::BroadcastId)?))
}

fn required<T>(value: Option<T>, what: &'static str) -> Result<T> {
    value.ok_or(DecodeError::Missing { what })
}

fn list<T, U>(
    items: Vec<T>,
    limit: usize,
    what: &'static str,
    read: impl Fn(T) -> Result<U>,
) -> Result<Vec<U>> {
    if items.len() > limit {
        return Err(DecodeError::TooMany { what });
    }
    items.into_iter().map(read).collect()
}

fn narrow<T: TryFrom<u32>>(value: u32, what: &'static str) -> Result<T> {
    T::try_from(value).map_err(|_| DecodeError::OutOfRange { what })
}

fn hashes(bytes: &[u8], limit: usize, what: &'static str) -> Result<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(DecodeError::Length { what });
    }
    if hashes.len() > limit {
        return Err(DecodeError::TooMany { what });
    }
    Ok(hashes.to_vec())
}

fn bytes_of(peer: &PeerId) -> Bytes {
    Bytes::copy_from_slice(&peer.0)
}

fn path_of(path: &[PeerId]) -> Vec<Bytes> {
    path.iter().map(bytes_of).collect()
}

fn path(path: Vec<Bytes>) -> Result<Vec<PeerId>> {
    list(path, MAX_HOPS, "hops", |bytes| peer(&bytes))
}

// ---- Contacts and standings -------------------------------------------------------------------

fn class(value: u32) -> Result<u8> {
    let class: u8 = narrow(value, "capacity class")?;
    if class > MAX_CLASS {
        return Err(DecodeError::OutOfRange { what: "capacity class" });
    }
    Ok(class)
}

/// A number of a coordinate: within bounds, because a place that is nowhere on earth is no mistake.
fn axis(value: i32) -> Result<i32> {
    if value.unsigned_abs() > u32::from(MAX_COORDINATE) {
        return Err(DecodeError::OutOfRange { what: "coordinate" });
    }
    Ok(value)
}

fn coordinate(message: pb::Coordinate) -> Result<Coordinate> {
    if message.height > u32::from(MAX_COORDINATE) {
        return Err(DecodeError::OutOfRange { what: "coordinate" });
    }
    let error: u16 = narrow(message.error, "coordinate's error")?;
    if error > MAX_ERROR {
        return Err(DecodeError::OutOfRange { what: "coordinate's error" });
    }
    Ok(Coordinate { x: axis(message.x)?, y: axis(message.y)?, height: message.height, error })
}

fn coordinate_of(coordinate: &Coordinate) -> pb::Coordinate {
    pb::Coordinate {
        x: coordinate.x,
        y: coordinate.y,
        height: coordinate.height,
        error: u32::from(coordinate.error),
    }
}

fn contact(message: pb::Contact) -> Result<Contact> {
    let addresses = list(message.addresses, MAX_ADDRESSES, "addresses", |address| {
        if address.is_empty() || address.len() > MAX_ADDRESS {
            return Err(DecodeError::Length { what: "address" });
        }
        // A copy, so that a contact kept for minutes does not keep a whole read buffer alive.
        Ok(Bytes::copy_from_slice(&address))
    })?;
    Ok(Contact {
        peer: peer(&message.peer)?,
        roles: Roles(message.roles),
        capacity: message.capacity,
        addresses,
        is_source: message.is_source,
        class: class(message.class)?,
        coordinate: message.coordinate.map(coordinate).transpose()?,
    })
}

fn contact_of(contact: &Contact) -> pb::Contact {
    pb::Contact {
        peer: bytes_of(&contact.peer),
        roles: contact.roles.0,
        capacity: contact.capacity,
        addresses: contact.addresses.clone(),
        is_source: contact.is_source,
        class: u32::from(contact.class),
        coordinate: contact.coordinate.as_ref().map(coordinate_of),
    }
}

fn standing(message: pb::Standing) -> Result<Standing> {
    Ok(Standing {
        depth: message.depth,
        grandparent: message.grandparent.map(contact).transpose()?,
        population: message.population,
        ancestors: list(message.ancestors, MAX_ANCESTORS, "ancestors", |bytes| peer(&bytes))?,
        is_orphan: message.is_orphan,
        spare: message.spare,
        class: class(message.class)?,
        is_open: message.is_open,
        is_grandparent_open: message.is_grandparent_open,
        delay: message.delay,
    })
}

fn standing_of(standing: &Standing) -> pb::Standing {
    pb::Standing {
        depth: standing.depth,
        grandparent: standing.grandparent.as_ref().map(contact_of),
        population: standing.population,
        ancestors: path_of(&standing.ancestors),
        is_orphan: standing.is_orphan,
        spare: standing.spare,
        class: u32::from(standing.class),
        is_open: standing.is_open,
        is_grandparent_open: standing.is_grandparent_open,
        delay: standing.delay,
    }
}

// ---- Codes ------------------------------------------------------------------------------------

/// A closed set of codes, in one table for both directions. Codes are never reused.
macro_rules! codes {
    ($read:ident, $write:ident, $type:ident, $what:literal, { $($code:literal => $variant:ident),+ $(,)? }) => {
        fn $read(code: u32) -> Result<$type> {
            match code {
                $($code => Ok($type::$variant),)+
                _ => Err(DecodeError::UnknownCode { what: $what, code }),
            }
        }

        const fn $write(value: $type) -> u32 {
            match value {
                $($type::$variant => $code,)+
            }
        }
    };
}

codes!(reason, reason_of, Reason, "reason", {
    1 => Full, 2 => Exhausted, 3 => Loop, 4 => NoRoute, 5 => Replaced,
    6 => Leaving, 7 => RoleChange, 8 => Orphan, 9 => TooSlow,
});
codes!(goodbye, goodbye_of, GoodbyeReason, "goodbye reason", {
    1 => NotAMember, 2 => Leaving, 3 => Violation, 4 => Full,
});
codes!(overlay, overlay_of, Overlay, "overlay", { 1 => SplitStream, 2 => PeerCast });
codes!(codec, codec_of, Codec, "codec", {
    1 => H264, 2 => Aac, 3 => Mp3, 4 => Ac3, 5 => Hevc, 6 => Av1, 7 => Vp9, 8 => Opus,
});
codes!(rendition, rendition_of, Rendition, "rendition", { 0 => Full, 1 => Low });

// ---- Manifest ---------------------------------------------------------------------------------

fn track(message: pb::Track) -> Result<Track> {
    if message.config.len() > MAX_CODEC_CONFIG {
        return Err(DecodeError::Length { what: "codec configuration" });
    }
    if message.language.len() > MAX_LANGUAGE {
        return Err(DecodeError::Length { what: "language" });
    }
    Ok(Track {
        id: TrackId(narrow(message.id, "track id")?),
        codec: codec(message.codec)?,
        width: narrow(message.width, "picture width")?,
        height: narrow(message.height, "picture height")?,
        sample_rate: message.sample_rate,
        channels: narrow(message.channels, "channels")?,
        language: message.language,
        rendition: rendition(message.rendition)?,
        config: Bytes::copy_from_slice(&message.config),
    })
}

fn track_of(track: &Track) -> pb::Track {
    pb::Track {
        id: u32::from(track.id.0),
        codec: codec_of(track.codec),
        width: u32::from(track.width),
        height: u32::from(track.height),
        sample_rate: track.sample_rate,
        channels: u32::from(track.channels),
        language: track.language.clone(),
        rendition: rendition_of(track.rendition),
        config: track.config.clone(),
    }
}

pub(crate) fn decode_manifest(bytes: &[u8]) -> Result<Manifest> {
    let message = pb::Manifest::decode(bytes).map_err(|_| DecodeError::Malformed)?;
    if message.title.len() > MAX_TITLE {
        return Err(DecodeError::Length { what: "title" });
    }
    if !(1..=60_000).contains(&message.generation_millis) {
        return Err(DecodeError::OutOfRange { what: "generation duration" });
    }
    let stripes = StripeCount::new(message.stripes);
    Ok(Manifest {
        broadcast: broadcast(&message.broadcast)?,
        sequence: message.sequence,
        title: message.title,
        stripes: stripes.ok_or(DecodeError::StripeCount(message.stripes))?,
        overlay: overlay(message.overlay)?,
        stripe_rate: message.stripe_rate,
        generation_millis: message.generation_millis,
        tracks: list(message.tracks, MAX_TRACKS, "tracks", track)?,
        source: contact(required(message.source, "source")?)?,
        created_at: message.created_at,
        ended_at: message.ended_at.map(GenerationId),
    })
}

pub(crate) fn encode_manifest(manifest: &Manifest) -> Bytes {
    let message = pb::Manifest {
        broadcast: Bytes::copy_from_slice(&manifest.broadcast.0),
        sequence: manifest.sequence,
        title: manifest.title.clone(),
        stripes: u32::from(manifest.stripes.value()),
        overlay: overlay_of(manifest.overlay),
        stripe_rate: manifest.stripe_rate,
        generation_millis: manifest.generation_millis,
        tracks: manifest.tracks.iter().map(track_of).collect(),
        source: Some(contact_of(&manifest.source)),
        created_at: manifest.created_at,
        ended_at: manifest.ended_at.map(|generation| generation.0),
    };
    message.encode_to_vec().into()
}

fn signed_manifest(message: pb::SignedManifest) -> Result<SignedManifest> {
    let length = DecodeError::Length { what: "signature" };
    let signature = message.signature.as_ref().try_into().map_err(|_| length)?;
    SignedManifest::verify(Bytes::copy_from_slice(&message.manifest), signature)
}

// ---- Descriptions -----------------------------------------------------------------------------

fn header(message: pb::DescriptionHeader) -> Result<DescriptionHeader> {
    let stripe = stripe(message.stripe)?;
    let proof = hashes(&message.proof, 6, "proof")?;
    // A proof has log2 K steps, so its length is how a header says K.
    let stripes = StripeCount::new(1 << proof.len()).ok_or(DecodeError::StripeCount(0))?;
    if !stripes.contains(stripe) {
        return Err(DecodeError::Stripe(u32::from(stripe.0)));
    }
    let layers = list(message.layers, MAX_LAYERS, "layers", |layer| {
        let threshold = narrow(layer.threshold, "layer threshold")?;
        Ok(LayerLayout { threshold, length: layer.length })
    })?;
    let layout = Layout::new(stripes, message.chunk_length, layers)?;
    let chunk_hashes = hashes(&message.chunk_hashes, MAX_CHUNKS, "chunk hashes")?;
    if chunk_hashes.len() != layout.chunk_count() {
        return Err(DecodeError::Length { what: "chunk hashes" });
    }
    let length = DecodeError::Length { what: "signature" };
    Ok(DescriptionHeader {
        stripe,
        commitment: Commitment {
            generation: GenerationId(message.generation),
            emitted_at: message.emitted_at,
            is_random_access: message.is_random_access,
            layout,
            root: root_of(stripe, &chunk_hashes, &proof),
        },
        chunk_hashes,
        proof,
        signature: message.signature.as_ref().try_into().map_err(|_| length)?,
    })
}

fn header_of(header: &DescriptionHeader) -> pb::DescriptionHeader {
    let commitment = &header.commitment;
    let layers = commitment.layout.layers().iter();
    pb::DescriptionHeader {
        generation: commitment.generation.0,
        stripe: u32::from(header.stripe.0),
        emitted_at: commitment.emitted_at,
        is_random_access: commitment.is_random_access,
        chunk_length: commitment.layout.chunk_length(),
        layers: layers
            .map(|layer| pb::Layer { threshold: u32::from(layer.threshold), length: layer.length })
            .collect(),
        chunk_hashes: header.chunk_hashes.concat().into(),
        proof: header.proof.concat().into(),
        signature: Bytes::copy_from_slice(&header.signature),
    }
}

// ---- Messages ---------------------------------------------------------------------------------

fn idle(message: pb::Idle) -> Result<Idle> {
    Ok(Idle {
        peer: peer(&message.peer)?,
        role: message.role.map(stripe).transpose()?,
        slots: message.slots,
        children: message.children,
    })
}

fn idle_of(idle: &Idle) -> pb::Idle {
    pb::Idle {
        peer: bytes_of(&idle.peer),
        role: idle.role.map(|role| u32::from(role.0)),
        slots: idle.slots,
        children: idle.children,
    }
}

fn start(message: Option<pb::Start>) -> Result<Start> {
    match message {
        Some(pb::Start { generation: Some(generation), chunk }) => {
            Ok(Start::At(GenerationId(generation), narrow(chunk, "chunk index")?))
        }
        Some(pb::Start { generation: None, .. }) | None => Ok(Start::Live),
    }
}

fn start_of(start: Start) -> pb::Start {
    match start {
        Start::Live => pb::Start { generation: None, chunk: 0 },
        Start::At(generation, chunk) => {
            pb::Start { generation: Some(generation.0), chunk: u32::from(chunk) }
        }
    }
}

/// Reads a message; `payload` is what followed the head in its frame.
pub(crate) fn message(message: pb::envelope::Message, payload: Bytes) -> Result<Message> {
    use pb::envelope::Message as Pb;
    if let Pb::Chunk(message) = message {
        if payload.is_empty() || payload.len() > crate::MAX_CHUNK_LENGTH as usize {
            return Err(DecodeError::ChunkLength(payload.len()));
        }
        let id = ChunkId {
            generation: GenerationId(message.generation),
            stripe: stripe(message.stripe)?,
            index: narrow(message.index, "chunk index")?,
        };
        return Ok(Message::Chunk { id, payload });
    }
    if !payload.is_empty() {
        return Err(DecodeError::UnexpectedPayload);
    }
    Ok(match message {
        Pb::Chunk(_) => return Err(DecodeError::UnknownMessage),
        Pb::Hello(message) => Message::Hello {
            broadcast: broadcast(&message.broadcast)?,
            contact: contact(required(message.contact, "contact")?)?,
            manifest_sequence: message.manifest_sequence,
            is_reply: message.is_reply,
        },
        Pb::Goodbye(message) => Message::Goodbye { reason: goodbye(message.reason)? },
        Pb::Manifest(message) => Message::Manifest(signed_manifest(message)?),
        Pb::FindContacts(message) => Message::FindContacts { digits: Roles(message.digits) },
        Pb::Contacts(message) => Message::Contacts {
            contacts: list(message.contacts, MAX_CONTACTS, "contacts", contact)?,
        },
        Pb::Join(message) => Message::Join(Join {
            stripes: some_stripes(message.stripes)?,
            nonce: message.nonce,
            joiner: contact(required(message.joiner, "joiner")?)?,
            idle: message.idle,
            is_descending: message.is_descending,
            path: path(message.path)?,
            lost: optional_peer(&message.lost)?,
            start: start(message.start)?,
            is_entitled: message.is_entitled,
        }),
        Pb::JoinFound(message) => Message::JoinFound {
            stripe: stripe(message.stripe)?,
            nonce: message.nonce,
            parent: contact(required(message.parent, "parent")?)?,
            path: path(message.path)?,
        },
        Pb::JoinFailed(message) => Message::JoinFailed {
            stripe: stripe(message.stripe)?,
            nonce: message.nonce,
            reason: reason(message.reason)?,
            path: path(message.path)?,
        },
        Pb::Attach(message) => Message::Attach {
            stripe: stripe(message.stripe)?,
            child: contact(required(message.child, "child")?)?,
            idle: message.idle,
            start: start(message.start)?,
            lost: optional_peer(&message.lost)?,
            is_entitled: message.is_entitled,
            within: message.within,
        },
        Pb::Accept(message) => Message::Accept {
            stripe: stripe(message.stripe)?,
            standing: standing(required(message.standing, "standing")?)?,
        },
        Pb::Redirect(message) => Message::Redirect {
            stripe: stripe(message.stripe)?,
            reason: reason(message.reason)?,
            candidates: list(message.candidates, MAX_CANDIDATES, "candidates", contact)?,
        },
        Pb::Detach(message) => Message::Detach { stripe: stripe(message.stripe)? },
        Pb::Report(message) => Message::Report(Report {
            stripe: stripe(message.stripe)?,
            free_slots: message.free_slots,
            free_depth: message.free_depth,
            members: message.members,
            idle: list(message.idle, MAX_IDLE, "idle peers", idle)?,
            willing: list(message.willing, MAX_IDLE, "willing peers", |bytes| peer(&bytes))?,
            yielding: message.yielding,
            waiting: message.waiting,
            movable: list(message.movable, MAX_IDLE, "movable peers", idle)?,
            slots: message.slots,
            relief: message.relief,
        }),
        Pb::Status(message) => Message::Status {
            stripe: stripe(message.stripe)?,
            standing: standing(required(message.standing, "standing")?)?,
        },
        Pb::Adopt(message) => Message::Adopt {
            stripe: stripe(message.stripe)?,
            peer: peer(&message.peer)?,
            role: stripe(message.role)?,
            is_second: message.is_second,
        },
        Pb::Probe(message) => Message::Probe { stripe: stripe(message.stripe)? },
        Pb::ProbeReply(message) => Message::ProbeReply {
            stripe: stripe(message.stripe)?,
            is_orphan: message.is_orphan,
            head: GenerationId(message.head),
        },
        Pb::Moved(message) => {
            Message::Moved { coordinate: coordinate(required(message.coordinate, "coordinate")?)? }
        }
        Pb::Reception(message) => Message::Reception(Reception {
            stripe: stripe(message.stripe)?,
            viewers: message.viewers,
            counts: list(message.counts, MAX_COUNTS, "counts", Ok)?,
        }),
        Pb::Header(message) => Message::Header(header(message)?),
    })
}

pub(crate) fn message_of(message: &Message) -> pb::envelope::Message {
    use pb::envelope::Message as Pb;
    match message {
        Message::Hello { broadcast, contact, manifest_sequence, is_reply } => {
            Pb::Hello(pb::Hello {
                broadcast: Bytes::copy_from_slice(&broadcast.0),
                contact: Some(contact_of(contact)),
                manifest_sequence: *manifest_sequence,
                is_reply: *is_reply,
            })
        }
        Message::Goodbye { reason } => Pb::Goodbye(pb::Goodbye { reason: goodbye_of(*reason) }),
        Message::Manifest(signed) => Pb::Manifest(pb::SignedManifest {
            manifest: signed.bytes().clone(),
            signature: Bytes::copy_from_slice(signed.signature()),
        }),
        Message::FindContacts { digits } => Pb::FindContacts(pb::FindContacts { digits: digits.0 }),
        Message::Contacts { contacts } => {
            Pb::Contacts(pb::Contacts { contacts: contacts.iter().map(contact_of).collect() })
        }
        Message::Join(join) => Pb::Join(pb::Join {
            stripes: join.stripes.0,
            nonce: join.nonce,
            joiner: Some(contact_of(&join.joiner)),
            idle: join.idle,
            is_descending: join.is_descending,
            path: path_of(&join.path),
            lost: join.lost.as_ref().map(bytes_of).unwrap_or_default(),
            start: Some(start_of(join.start)),
            is_entitled: join.is_entitled,
        }),
        Message::JoinFound { stripe, nonce, parent, path } => Pb::JoinFound(pb::JoinFound {
            stripe: u32::from(stripe.0),
            nonce: *nonce,
            parent: Some(contact_of(parent)),
            path: path_of(path),
        }),
        Message::JoinFailed { stripe, nonce, reason, path } => Pb::JoinFailed(pb::JoinFailed {
            stripe: u32::from(stripe.0),
            nonce: *nonce,
            reason: reason_of(*reason),
            path: path_of(path),
        }),
        Message::Attach { stripe, child, idle, start, lost, is_entitled, within } => {
            Pb::Attach(pb::Attach {
                stripe: u32::from(stripe.0),
                child: Some(contact_of(child)),
                idle: *idle,
                start: Some(start_of(*start)),
                lost: lost.as_ref().map(bytes_of).unwrap_or_default(),
                is_entitled: *is_entitled,
                within: *within,
            })
        }
        Message::Accept { stripe, standing } => Pb::Accept(pb::Accept {
            stripe: u32::from(stripe.0),
            standing: Some(standing_of(standing)),
        }),
        Message::Redirect { stripe, reason, candidates } => Pb::Redirect(pb::Redirect {
            stripe: u32::from(stripe.0),
            reason: reason_of(*reason),
            candidates: candidates.iter().map(contact_of).collect(),
        }),
        Message::Detach { stripe } => Pb::Detach(pb::Detach { stripe: u32::from(stripe.0) }),
        Message::Report(report) => Pb::Report(pb::Report {
            stripe: u32::from(report.stripe.0),
            free_slots: report.free_slots,
            free_depth: report.free_depth,
            members: report.members,
            idle: report.idle.iter().map(idle_of).collect(),
            willing: path_of(&report.willing),
            yielding: report.yielding,
            waiting: report.waiting,
            movable: report.movable.iter().map(idle_of).collect(),
            slots: report.slots,
            relief: report.relief,
        }),
        Message::Status { stripe, standing } => Pb::Status(pb::Status {
            stripe: u32::from(stripe.0),
            standing: Some(standing_of(standing)),
        }),
        Message::Adopt { stripe, peer, role, is_second } => Pb::Adopt(pb::Adopt {
            stripe: u32::from(stripe.0),
            peer: bytes_of(peer),
            is_second: *is_second,
            role: u32::from(role.0),
        }),
        Message::Probe { stripe } => Pb::Probe(pb::Probe { stripe: u32::from(stripe.0) }),
        Message::ProbeReply { stripe, is_orphan, head } => Pb::ProbeReply(pb::ProbeReply {
            stripe: u32::from(stripe.0),
            is_orphan: *is_orphan,
            head: head.0,
        }),
        Message::Reception(reception) => Pb::Reception(pb::Reception {
            stripe: u32::from(reception.stripe.0),
            viewers: reception.viewers,
            counts: reception.counts.clone(),
        }),
        Message::Moved { coordinate } => {
            Pb::Moved(pb::Moved { coordinate: Some(coordinate_of(coordinate)) })
        }
        Message::Header(header) => Pb::Header(header_of(header)),
        Message::Chunk { id, .. } => Pb::Chunk(pb::Chunk {
            generation: id.generation.0,
            stripe: u32::from(id.stripe.0),
            index: u32::from(id.index),
        }),
    }
}
