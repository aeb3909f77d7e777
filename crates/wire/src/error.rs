//! Why bytes from outside were refused.

use thiserror::Error;

/// A breach of the wire contract. Each says which rule; none says who is to blame, which is known
/// only to whoever read the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame's length exceeds what its substream allows.
    #[error("frame of {length} bytes exceeds the limit of {limit}")]
    FrameTooLong {
        /// Bytes announced.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The frame is shorter than its own head.
    #[error("frame ends inside its head")]
    FrameTruncated,
    /// The head is not a valid protobuf message.
    #[error("frame head is not a valid message")]
    Malformed,
    /// The envelope carries no message this version knows.
    #[error("envelope carries no known message")]
    UnknownMessage,
    /// A message came on a substream that does not carry it.
    #[error("message does not belong on this substream")]
    WrongSubstream,
    /// A payload came with a message that has none.
    #[error("frame carries a payload its message does not have")]
    UnexpectedPayload,
    /// A chunk came empty or longer than any chunk may be.
    #[error("chunk payload of {0} bytes is empty or too long")]
    ChunkLength(usize),
    /// Not a broadcast id.
    #[error("broadcast id is not 32 bytes (64 hexadecimal digits)")]
    BroadcastId,
    /// Not the id of an Ed25519 peer.
    #[error("peer id is not that of an Ed25519 key")]
    PeerId,
    /// Not a key.
    #[error("key is not 32 bytes (64 hexadecimal digits)")]
    Key,
    /// A stripe at or above 64.
    #[error("stripe {0} is out of range")]
    Stripe(u32),
    /// K is not a power of two from 1 to 64.
    #[error("{0} is no stripe count: it must be a power of two from 1 to 64")]
    StripeCount(u32),
    /// A list is longer than its limit.
    #[error("list of {what} exceeds its limit")]
    TooMany {
        /// What it lists.
        what: &'static str,
    },
    /// A field is longer than its limit, or not of its fixed length.
    #[error("{what} has an invalid length")]
    Length {
        /// The field.
        what: &'static str,
    },
    /// A required field is absent.
    #[error("{what} is missing")]
    Missing {
        /// The field.
        what: &'static str,
    },
    /// A number is outside its range.
    #[error("{what} is out of range")]
    OutOfRange {
        /// The field.
        what: &'static str,
    },
    /// A code for a codec, an overlay or a reason that this version does not know.
    #[error("{what} {code} is not known to this version")]
    UnknownCode {
        /// What the code stands for.
        what: &'static str,
        /// The code.
        code: u32,
    },
    /// A signature does not verify.
    #[error("signature does not verify")]
    Signature,
    /// A chunk or a proof does not lead to the signed root.
    #[error("hash does not lead to the signed root")]
    Hash,
    /// A URI that is not a broadcast's.
    #[error("{0}")]
    Uri(&'static str),
}
