//! How a generation is signed once, so that every chunk of every description can be checked.
//!
//! ```text
//!   signature ── commitment: broadcast, generation, time, layout, root
//!                                                                  │
//!                                                    ┌─────────────┴─────────────┐
//!                                              node(0..K/2)                node(K/2..K)
//!                                               …        …                        …
//!                              description s = H(0, s, n, chunk hashes)
//!                                               │
//!                              chunk hashes = H(chunk 0), H(chunk 1), …
//! ```
//!
//! H is BLAKE3. A header carries the chunk hashes of its description and the Merkle proof from
//! there to the root; whoever verifies one header has the root, and so verifies the other K − 1
//! headers without another signature check. The chunks themselves carry no proof.
//!
//! The idea of one signature for a block and a hash tree below it is that of Wong and Lam
//! ("Digital signatures for flows and multicasts", 1998). Departure: the leaves are descriptions,
//! not packets, so the proof is paid once per description.

use crate::layout::Layout;
use crate::signature::{BroadcastKey, Signature, Verifier};
use crate::{BroadcastId, DecodeError, GenerationId, StripeId};

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

const SIGNING_CONTEXT: &[u8] = b"banyan/generation/1";

/// What the source signs about one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// The generation.
    pub generation: GenerationId,
    /// When the source finished it: microseconds of the source's clock since the Unix epoch. It
    /// never goes back, not even when a source starts again with its key.
    pub emitted_at: u64,
    /// Whether it begins with a random access picture, so that playback may begin with it.
    pub is_random_access: bool,
    /// Its layers and chunks.
    pub layout: Layout,
    /// The Merkle root over its K descriptions.
    pub root: Hash,
}

impl Commitment {
    /// The bytes that are signed. PROTOCOL.md gives them field by field.
    #[must_use]
    pub fn signed_bytes(&self, broadcast: &BroadcastId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(160);
        bytes.extend_from_slice(SIGNING_CONTEXT);
        bytes.extend_from_slice(&broadcast.0);
        bytes.extend_from_slice(&self.generation.0.to_be_bytes());
        bytes.extend_from_slice(&self.emitted_at.to_be_bytes());
        bytes.push(u8::from(self.is_random_access));
        bytes.push(self.layout.stripes().value());
        bytes.extend_from_slice(&self.layout.chunk_length().to_be_bytes());
        for layer in self.layout.layers() {
            bytes.push(layer.threshold);
            bytes.extend_from_slice(&layer.length.to_be_bytes());
        }
        bytes.extend_from_slice(&self.root);
        bytes
    }
}

/// The head of one description: what it belongs to, and what proves its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptionHeader {
    /// The stripe the description travels in.
    pub stripe: StripeId,
    /// The generation, as signed; its root is what `chunk_hashes` and `proof` lead to.
    pub commitment: Commitment,
    /// One hash for each chunk of this description.
    pub chunk_hashes: Vec<Hash>,
    /// The log2 K siblings on the way from this description to the root, leaf upwards.
    pub proof: Vec<Hash>,
    /// The source's signature over the commitment.
    pub signature: Signature,
}

impl DescriptionHeader {
    /// Checks the source's signature. That the hashes lead to the root holds already: the root is
    /// computed from them ([`root_of`]), here and when a header is decoded.
    ///
    /// # Errors
    /// [`DecodeError::Signature`].
    pub fn verify(&self, broadcast: &BroadcastId, verifier: &Verifier) -> Result<(), DecodeError> {
        verifier.verify(&self.commitment.signed_bytes(broadcast), &self.signature)
    }

    /// Checks one chunk of this description.
    ///
    /// # Errors
    /// [`DecodeError::OutOfRange`] past the last chunk, [`DecodeError::ChunkLength`] where it is
    /// not as long as the layout says, [`DecodeError::Hash`] where it is not what was signed.
    pub fn verify_chunk(&self, index: u16, payload: &[u8]) -> Result<(), DecodeError> {
        let index = usize::from(index);
        let out_of_range = DecodeError::OutOfRange { what: "chunk index" };
        let span = self.commitment.layout.chunk_span(index).ok_or(out_of_range)?;
        if span.length != payload.len() {
            return Err(DecodeError::ChunkLength(payload.len()));
        }
        let expected = self.chunk_hashes.get(index).ok_or(out_of_range)?;
        if chunk_hash(payload) == *expected { Ok(()) } else { Err(DecodeError::Hash) }
    }
}

/// Everything of a generation's headers but the signature: made by the source to sign, and by a
/// peer that has rebuilt the generation to regenerate a missing description.
#[derive(Clone, Debug)]
pub struct Sealed {
    commitment: Commitment,
    chunk_hashes: Vec<Vec<Hash>>,
    /// Levels of the hash tree, leaves first.
    levels: Vec<Vec<Hash>>,
}

impl Sealed {
    /// Hashes the K descriptions of a generation. `chunk_hashes` has one list for each stripe.
    #[must_use]
    pub fn new(
        generation: GenerationId,
        emitted_at: u64,
        is_random_access: bool,
        layout: Layout,
        chunk_hashes: Vec<Vec<Hash>>,
    ) -> Self {
        assert_eq!(chunk_hashes.len(), layout.stripes().len(), "one list of hashes per stripe");
        let leaves: Vec<Hash> = layout
            .stripes()
            .iter()
            .zip(&chunk_hashes)
            .map(|(stripe, hashes)| leaf_hash(stripe, hashes))
            .collect();
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            levels.push(level.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect());
        }
        let root = levels[levels.len() - 1][0];
        let commitment = Commitment { generation, emitted_at, is_random_access, layout, root };
        Self { commitment, chunk_hashes, levels }
    }

    /// What there is to sign.
    #[must_use]
    pub const fn commitment(&self) -> &Commitment {
        &self.commitment
    }

    /// Signs as the source.
    #[must_use]
    pub fn sign(&self, key: &BroadcastKey) -> Signature {
        key.sign(&self.commitment.signed_bytes(&key.broadcast()))
    }

    /// The header of one description under `signature`.
    #[must_use]
    pub fn header(&self, stripe: StripeId, signature: Signature) -> DescriptionHeader {
        let mut index = stripe.index();
        let mut proof = Vec::with_capacity(self.levels.len() - 1);
        for level in &self.levels[..self.levels.len() - 1] {
            proof.push(level[index ^ 1]);
            index /= 2;
        }
        DescriptionHeader {
            stripe,
            commitment: self.commitment.clone(),
            chunk_hashes: self.chunk_hashes[stripe.index()].clone(),
            proof,
            signature,
        }
    }
}

/// The hash of a chunk's payload.
#[must_use]
pub fn chunk_hash(payload: &[u8]) -> Hash {
    *blake3::hash(payload).as_bytes()
}

/// The root that a description's hashes and proof lead to.
#[must_use]
pub fn root_of(stripe: StripeId, chunk_hashes: &[Hash], proof: &[Hash]) -> Hash {
    let mut hash = leaf_hash(stripe, chunk_hashes);
    let mut index = stripe.index();
    for sibling in proof {
        hash = if index.is_multiple_of(2) {
            node_hash(&hash, sibling)
        } else {
            node_hash(sibling, &hash)
        };
        index /= 2;
    }
    hash
}

fn leaf_hash(stripe: StripeId, chunk_hashes: &[Hash]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[0, stripe.0]);
    hasher.update(&u32::try_from(chunk_hashes.len()).unwrap_or(u32::MAX).to_be_bytes());
    for hash in chunk_hashes {
        hasher.update(hash);
    }
    *hasher.finalize().as_bytes()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    *blake3::hash(&bytes).as_bytes()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::StripeCount;
    use crate::layout::LayerLayout;

    /// A sealed generation whose chunk i of stripe s is filled with the byte s + i.
    pub(crate) fn sealed(stripes: StripeCount) -> (Sealed, Vec<Vec<Vec<u8>>>) {
        let layers = vec![LayerLayout { threshold: 1, length: 700 }];
        let layout = Layout::new(stripes, 256, layers).expect("valid");
        let chunks: Vec<Vec<Vec<u8>>> = stripes
            .iter()
            .map(|stripe| {
                (0..layout.chunk_count())
                    .map(|index| layout.chunk_span(index).expect("within the count"))
                    .zip(stripe.0..)
                    .map(|(span, byte)| vec![byte; span.length])
                    .collect()
            })
            .collect();
        let hashes =
            chunks.iter().map(|chunks| chunks.iter().map(|c| chunk_hash(c)).collect()).collect();
        (Sealed::new(GenerationId(5), 77, true, layout, hashes), chunks)
    }

    #[test]
    fn every_chunk_of_every_description_verifies_under_one_signature() {
        let key = BroadcastKey::from_seed(&[1; 32]);
        let verifier = Verifier::new(&key.broadcast()).expect("a key");
        for bits in 0..=6 {
            let stripes = StripeCount::new(1 << bits).expect("a power of two");
            let (sealed, chunks) = sealed(stripes);
            let signature = sealed.sign(&key);
            for stripe in stripes.iter() {
                let header = sealed.header(stripe, signature);
                assert_eq!(
                    root_of(stripe, &header.chunk_hashes, &header.proof),
                    header.commitment.root
                );
                assert_eq!(header.verify(&key.broadcast(), &verifier), Ok(()));
                for (index, chunk) in (0..).zip(&chunks[stripe.index()]) {
                    assert_eq!(header.verify_chunk(index, chunk), Ok(()));
                }
            }
        }
    }

    #[test]
    fn no_field_of_the_commitment_can_be_changed_unnoticed() {
        let key = BroadcastKey::from_seed(&[1; 32]);
        let verifier = Verifier::new(&key.broadcast()).expect("a key");
        let (sealed, _) = sealed(StripeCount::DEFAULT);
        let honest = sealed.header(StripeId(3), sealed.sign(&key));
        let layers = vec![LayerLayout { threshold: 2, length: 700 }];
        let forgeries: [fn(&mut Commitment); 5] = [
            |c| c.generation = GenerationId(6),
            |c| c.emitted_at += 1,
            |c| c.is_random_access = false,
            |c| c.root[0] ^= 1,
            |c| {
                c.layout =
                    Layout::new(c.layout.stripes(), 512, c.layout.layers().to_vec()).expect("valid")
            },
        ];
        for forge in forgeries {
            let mut header = honest.clone();
            forge(&mut header.commitment);
            assert_eq!(header.verify(&key.broadcast(), &verifier), Err(DecodeError::Signature));
        }
        let mut header = honest.clone();
        header.commitment.layout = Layout::new(StripeCount::DEFAULT, 256, layers).expect("valid");
        assert_eq!(header.verify(&key.broadcast(), &verifier), Err(DecodeError::Signature));
        let other = BroadcastKey::from_seed(&[2; 32]).broadcast();
        assert_eq!(honest.verify(&other, &verifier), Err(DecodeError::Signature));
    }

    #[test]
    fn a_description_cannot_pass_for_that_of_another_stripe() {
        let (sealed, _) = sealed(StripeCount::DEFAULT);
        let header = sealed.header(StripeId(3), [0; 64]);
        let root = root_of(StripeId(2), &header.chunk_hashes, &header.proof);
        assert_ne!(root, header.commitment.root);
    }

    #[test]
    fn a_changed_or_cut_chunk_is_refused() {
        let (sealed, chunks) = sealed(StripeCount::ONE);
        let header = sealed.header(StripeId(0), [0; 64]);
        let mut chunk = chunks[0][0].clone();
        chunk[9] ^= 1;
        assert_eq!(header.verify_chunk(0, &chunk), Err(DecodeError::Hash));
        assert_eq!(header.verify_chunk(0, &chunk[1..]), Err(DecodeError::ChunkLength(255)));
        let last = DecodeError::OutOfRange { what: "chunk index" };
        assert_eq!(header.verify_chunk(3, &chunk), Err(last));
    }
}
