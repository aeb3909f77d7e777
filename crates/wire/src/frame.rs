//! Frames: how messages follow each other on a substream.
//!
//! ```text
//!   length: u32 BE │ head length: u16 BE │ head: protobuf Envelope │ payload
//!                  └──────────────── `length` bytes ───────────────────────┘
//! ```
//!
//! The payload of a chunk stands outside protobuf, so it is neither copied when it is sent nor when
//! it is received: it stays the `Bytes` it came as. Reading and writing are left to `banyan-net`
//! and to the simulator.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::{DecodeError, Message, convert, generated as pb};

/// Longest control frame, its length field not counted. The largest message is a list of 48
/// contacts with four addresses each.
pub const MAX_CONTROL_FRAME: usize = 40 * 1024;
/// Longest data frame, its length field not counted. The largest message is a header of 1,024
/// chunk hashes.
pub const MAX_DATA_FRAME: usize = 40 * 1024;
/// Bytes of the length field.
pub const LENGTH_BYTES: usize = 4;

const HEAD_LENGTH_BYTES: usize = 2;

/// A message ready to be written: `head`, then `payload`.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Length field, head length and head.
    pub head: Bytes,
    /// The chunk's bytes; empty for all other messages.
    pub payload: Bytes,
}

impl Frame {
    /// Frames `message` for the broadcast of `tag`.
    #[must_use]
    pub fn encode(tag: u64, message: &Message) -> Self {
        let envelope =
            pb::Envelope { broadcast_tag: tag, message: Some(convert::message_of(message)) };
        let payload = if let Message::Chunk { payload, .. } = message {
            payload.clone()
        } else {
            Bytes::new()
        };
        let head_length = envelope.encoded_len();
        let length = HEAD_LENGTH_BYTES + head_length + payload.len();
        let mut head = BytesMut::with_capacity(LENGTH_BYTES + HEAD_LENGTH_BYTES + head_length);
        head.put_u32(u32::try_from(length).expect("messages are bounded far below 4 GiB"));
        head.put_u16(u16::try_from(head_length).expect("heads are bounded below 64 KiB"));
        envelope.encode(&mut head).expect("the buffer grows as needed");
        Self { head: head.freeze(), payload }
    }

    /// Bytes on the substream.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// Never: a frame has at least its length field.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// Takes the next frame's body off the front of `buffer`, or `None` until it is complete.
///
/// # Errors
/// [`DecodeError::FrameTooLong`] as soon as the length field says more than `limit`: nothing is
/// buffered for such a frame, and the substream is of no further use.
pub fn split_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, DecodeError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(DecodeError::FrameTooLong { length, limit });
    }
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Reads a frame's body: the broadcast's tag and the message.
///
/// # Errors
/// [`DecodeError`] for whatever breaks PROTOCOL.md; the message is then to be ignored and its
/// sender to be held to account. [`DecodeError::UnknownMessage`] alone may be a newer version's.
pub fn decode(mut body: Bytes) -> Result<(u64, Message), DecodeError> {
    if body.len() < HEAD_LENGTH_BYTES {
        return Err(DecodeError::FrameTruncated);
    }
    let head_length = usize::from(body.get_u16());
    if body.len() < head_length {
        return Err(DecodeError::FrameTruncated);
    }
    let head = body.split_to(head_length);
    let envelope = pb::Envelope::decode(head).map_err(|_| DecodeError::Malformed)?;
    let message = envelope.message.ok_or(DecodeError::UnknownMessage)?;
    Ok((envelope.broadcast_tag, convert::message(message, body)?))
}
