//! Ed25519 keys of a broadcast: the source signs, everyone verifies.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::{BroadcastId, DecodeError};

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// The secret that makes its owner the source of a broadcast.
#[derive(Clone)]
pub struct BroadcastKey(SigningKey);

impl BroadcastKey {
    /// Makes the key of a 32-byte Ed25519 seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The broadcast this key speaks for.
    #[must_use]
    pub fn broadcast(&self) -> BroadcastId {
        BroadcastId(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for BroadcastKey {
    /// Shows whose key it is, never the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BroadcastKey({:.8})", self.broadcast())
    }
}

/// Verifies what a source signed. Keeps the decompressed key, which costs as much as a third of a
/// verification.
#[derive(Clone, Debug)]
pub struct Verifier(VerifyingKey);

impl Verifier {
    /// Reads the key a broadcast is named by.
    ///
    /// # Errors
    /// [`DecodeError::BroadcastId`] where the id is not a point of the curve.
    pub fn new(broadcast: &BroadcastId) -> Result<Self, DecodeError> {
        VerifyingKey::from_bytes(&broadcast.0).map(Self).map_err(|_| DecodeError::BroadcastId)
    }

    /// Checks `signature` over `message`, strictly: no malleable or small-order cases.
    ///
    /// # Errors
    /// [`DecodeError::Signature`].
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), DecodeError> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).map_err(|_| DecodeError::Signature)
    }
}
