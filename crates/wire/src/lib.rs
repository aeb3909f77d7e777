//! The wire contract of Banyan in Rust: ids, stripe keys, manifests, descriptions and messages as
//! domain types, and the bounded decoding of bytes nobody vouches for.
//!
//! Decides what may be said and how it looks in bytes, as `proto/PROTOCOL.md` lays it down, and
//! who signs what. When to say it is left to `banyan-core`, moving the bytes to `banyan-net`.
//! Nothing here blocks, reads a clock or keeps state.

mod convert;
mod description;
mod error;
pub mod frame;
mod id;
mod layout;
mod manifest;
mod media;
mod message;
mod signature;
mod uri;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#[path = "generated/banyan.v1.rs"]
mod generated;

pub use description::{Commitment, DescriptionHeader, Hash, Sealed, chunk_hash, root_of};
pub use error::DecodeError;
pub use id::{
    BroadcastId, ChunkId, Distance, GenerationId, Key, MAX_STRIPES, PeerId, Roles, StripeCount,
    StripeId, stripe_key, stripe_key_preimage,
};
pub use layout::{
    ChunkSpan, LayerLayout, Layout, MAX_CHUNK_LENGTH, MAX_CHUNKS, MAX_GENERATION_BYTES, MAX_LAYERS,
    MIN_CHUNK_LENGTH,
};
pub use manifest::{MAX_MANIFEST, MAX_TITLE, Manifest, Overlay, SignedManifest};
pub use media::{
    Codec, MAX_CODEC_CONFIG, MAX_LANGUAGE, MAX_TRACKS, MediaTime, Rendition, Track, TrackId,
};
pub use message::{
    Contact, Coordinate, GoodbyeReason, Idle, Join, MAX_ADDRESS, MAX_ADDRESSES, MAX_ANCESTORS,
    MAX_CANDIDATES, MAX_CLASS, MAX_CONTACTS, MAX_COORDINATE, MAX_COUNTS, MAX_ERROR, MAX_HOPS,
    MAX_IDLE, Message, Reason, Reception, Report, Standing, Start,
};
pub use signature::{BroadcastKey, Signature, Verifier};
pub use uri::{BroadcastUri, MAX_VIA};
