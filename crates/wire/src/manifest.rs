//! The manifest: what a source says about its broadcast, signed, in versions.
//!
//! A source signs a new version whenever something changes (the stripe rate, the tracks, the
//! end); the one with the highest sequence number counts. It travels down the trees and lies in
//! the directory. Who believes it is decided here; what follows from it, in `banyan-core`.

use bytes::Bytes;

use crate::convert::{decode_manifest, encode_manifest};
use crate::signature::{BroadcastKey, Signature, Verifier};
use crate::{BroadcastId, Contact, DecodeError, GenerationId, StripeCount, Track};

/// Longest title, in bytes of UTF-8.
pub const MAX_TITLE: usize = 200;
/// Longest signed manifest, in bytes: fits a DHT record, whose default limit is 16 KiB.
pub const MAX_MANIFEST: usize = 12 * 1024;

const SIGNING_CONTEXT: &[u8] = b"banyan/manifest/1";

/// Which policy decides who is whose parent and child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overlay {
    /// K trees over Kademlia, each peer interior in one of them (Castro et al., SOSP 2003).
    #[default]
    SplitStream,
    /// One tree, built by redirects (Deshpande et al., Stanford TR 2002-21).
    PeerCast,
}

impl Overlay {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SplitStream => "splitstream",
            Self::PeerCast => "peercast",
        }
    }
}

/// The description of a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Whose manifest it is.
    pub broadcast: BroadcastId,
    /// Version; the highest counts.
    pub sequence: u64,
    /// For people. At most [`MAX_TITLE`] bytes.
    pub title: String,
    /// K.
    pub stripes: StripeCount,
    /// The overlay policy all peers of the broadcast run.
    pub overlay: Overlay,
    /// Bits per second of one stripe, coding included; 0 while the source does not know it yet.
    pub stripe_rate: u64,
    /// Longest generation, in milliseconds of programme.
    pub generation_millis: u32,
    /// The programme's tracks; empty while the input has not been seen.
    pub tracks: Vec<Track>,
    /// Where the source can be reached.
    pub source: Contact,
    /// When the broadcast began, in seconds since the Unix epoch.
    pub created_at: u64,
    /// Set once the broadcast is over: one more than its last generation.
    pub ended_at: Option<GenerationId>,
}

/// A manifest together with the bytes and the signature it came as, so that it can be passed on
/// exactly as the source made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    manifest: Manifest,
    bytes: Bytes,
    signature: Signature,
}

impl SignedManifest {
    /// Signs `manifest` as the source.
    ///
    /// # Errors
    /// [`DecodeError`] where it breaks a limit that its readers will check, or is not the key's.
    pub fn sign(manifest: Manifest, key: &BroadcastKey) -> Result<Self, DecodeError> {
        if manifest.broadcast != key.broadcast() {
            return Err(DecodeError::BroadcastId);
        }
        let bytes = encode_manifest(&manifest);
        let signature = key.sign(&signed_bytes(&bytes));
        let signed = Self::verify(bytes, signature)?;
        Ok(signed)
    }

    /// Reads and verifies bytes from outside; the signing key is the broadcast id within.
    ///
    /// # Errors
    /// [`DecodeError`] where they are too long, not a manifest, or not signed by their broadcast.
    pub fn verify(bytes: Bytes, signature: Signature) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(DecodeError::Length { what: "manifest" });
        }
        let manifest = decode_manifest(&bytes)?;
        Verifier::new(&manifest.broadcast)?.verify(&signed_bytes(&bytes), &signature)?;
        Ok(Self { manifest, bytes, signature })
    }

    /// The manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The signed bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The signature over them.
    #[must_use]
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The form it has in the directory: the signature, then the bytes.
    #[must_use]
    pub fn to_record(&self) -> Vec<u8> {
        [&self.signature[..], &self.bytes].concat()
    }

    /// Reads what [`to_record`](Self::to_record) made.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn from_record(record: &[u8]) -> Result<Self, DecodeError> {
        let (signature, bytes) =
            record.split_first_chunk().ok_or(DecodeError::Length { what: "manifest record" })?;
        if bytes.len() > MAX_MANIFEST {
            return Err(DecodeError::Length { what: "manifest" });
        }
        Self::verify(Bytes::copy_from_slice(bytes), *signature)
    }
}

fn signed_bytes(bytes: &[u8]) -> Vec<u8> {
    [SIGNING_CONTEXT, bytes].concat()
}
