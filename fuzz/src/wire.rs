//! What peers send and people paste: frames of both substreams, manifests, URIs and names.
//!
//! Decides what must hold of everything that decodes. What a peer makes of a message is left to
//! [`crate::peer`].

use std::fmt::{Debug, Display};
use std::str::FromStr;

use banyan_wire::frame::{Frame, LENGTH_BYTES, MAX_CONTROL_FRAME, MAX_DATA_FRAME};
use banyan_wire::frame::{decode, split_frame};
use banyan_wire::{
    BroadcastId, BroadcastKey, BroadcastUri, DescriptionHeader, Key, MAX_CHUNK_LENGTH,
    MAX_MANIFEST, MAX_TITLE, MAX_TRACKS, MAX_VIA, Manifest, Message, PeerId, SignedManifest,
};
use bytes::{Bytes, BytesMut};

use crate::pieces::pieces;

/// Signs what the corpus says it signed: the key of `proto/vectors`.
pub(crate) const SEED: [u8; 32] = [1; 32];

/// What stands before a manifest when it is signed (PROTOCOL.md).
const MANIFEST_CONTEXT: &[u8] = b"banyan/manifest/1";
/// Bytes of a signature, which lead a record.
const SIGNATURE_BYTES: usize = 64;

/// The bytes of a control substream.
pub(crate) fn control(input: &[u8]) {
    for message in substream(input, MAX_CONTROL_FRAME) {
        check_message(&message, MAX_CONTROL_FRAME);
    }
}

/// The bytes of a data substream; chunks are verified by the header before them.
pub(crate) fn data(input: &[u8]) {
    let mut header: Option<DescriptionHeader> = None;
    for message in substream(input, MAX_DATA_FRAME) {
        check_message(&message, MAX_DATA_FRAME);
        if let (Message::Chunk { id, payload }, Some(header)) = (&message, &header)
            && header.verify_chunk(id.index, payload).is_ok()
        {
            let layout = &header.commitment.layout;
            let span = layout.chunk_span(usize::from(id.index)).expect("a verified chunk has one");
            assert_eq!(span.length, payload.len(), "a verified chunk is as long as its place");
        }
        if let Message::Header(found) = message {
            check_header(&found);
            header = Some(found);
        }
    }
}

/// The messages of a substream that is received piece by piece, until it loses its frames.
fn substream(input: &[u8], limit: usize) -> Vec<Message> {
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    for piece in pieces(input) {
        buffer.extend_from_slice(piece);
        loop {
            match split_frame(&mut buffer, limit) {
                Ok(Some(body)) => messages.extend(decode(body).ok().map(|(_, message)| message)),
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
        assert!(buffer.len() < LENGTH_BYTES + limit, "a complete frame stays in the buffer");
    }
    messages
}

/// What was decoded can be said again, within the limits, and then means the same.
fn check_message(message: &Message, limit: usize) {
    assert!(!message.name().is_empty());
    let frame = Frame::encode(7, message);
    assert!(frame.len() <= LENGTH_BYTES + limit, "{} grew beyond its limit", message.name());
    let bytes = [&frame.head[..], &frame.payload].concat();
    let body = Bytes::from(bytes).slice(LENGTH_BYTES..);
    let (tag, again) = decode(body).expect("what was encoded decodes");
    assert_eq!((tag, &again), (7, message));
    let twice = Frame::encode(7, &again);
    assert!(twice.head == frame.head && twice.payload == frame.payload, "one form for one message");
}

fn check_header(header: &DescriptionHeader) {
    let layout = &header.commitment.layout;
    assert_eq!(header.chunk_hashes.len(), layout.chunk_count());
    assert!(layout.stripes().contains(header.stripe));
    assert!(layout.chunk_length() <= MAX_CHUNK_LENGTH);
    let lengths = (0..layout.chunk_count()).filter_map(|at| layout.chunk_span(at));
    let length: usize = lengths.map(|span| span.length).sum();
    assert_eq!(length, layout.description_length(), "chunks tile the description");
}

/// A record of the directory. Few inputs are signed, so its bytes are also read as if they were.
pub(crate) fn manifest(input: &[u8]) {
    if let Ok(signed) = SignedManifest::from_record(input) {
        assert_eq!(signed.to_record(), input, "a record is passed on as it came");
        check_manifest(signed.manifest());
    }
    let bytes = input.get(SIGNATURE_BYTES..).unwrap_or_default();
    let key = BroadcastKey::from_seed(&SEED);
    let signature = key.sign(&[MANIFEST_CONTEXT, bytes].concat());
    if let Ok(signed) = SignedManifest::verify(Bytes::copy_from_slice(bytes), signature) {
        check_manifest(signed.manifest());
        // Signed anew it may have fewer bytes, as unknown fields are gone, but says the same.
        let again = SignedManifest::sign(signed.manifest().clone(), &key);
        let again = again.expect("what was read can be signed");
        assert_eq!(again.manifest(), signed.manifest());
        assert_eq!(SignedManifest::from_record(&again.to_record()), Ok(again));
    }
}

fn check_manifest(manifest: &Manifest) {
    assert!(manifest.title.len() <= MAX_TITLE && manifest.tracks.len() <= MAX_TRACKS);
    let size: usize = manifest.tracks.iter().map(|track| track.config.len()).sum();
    assert!(size <= MAX_MANIFEST);
}

/// The URI of a broadcast, and the names of broadcasts, peers and keys.
pub(crate) fn names(input: &[u8]) {
    if let Ok(peer) = PeerId::from_libp2p_bytes(input) {
        assert_eq!(peer.to_libp2p_bytes(), input);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(uri) = text.parse::<BroadcastUri>() {
        assert!(uri.via.len() <= MAX_VIA);
        assert_eq!(uri.to_string().parse(), Ok(uri));
    }
    name::<BroadcastId>(text);
    name::<PeerId>(text);
    name::<Key>(text);
}

fn name<T: FromStr + Display>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(name) = text.parse::<T>() {
        assert_eq!(name.to_string(), text.to_ascii_lowercase());
    }
}
