//! The access unit: what the rest of the system moves, and how much each one matters.
//!
//! Decides the order of importance. What the bytes of a codec mean is left to [`crate::es`]'s
//! framers and to [`crate::sample`], which set the priority; what a layer holds is left to
//! [`crate::generation`].

use banyan_wire::{MediaTime, TrackId};
use bytes::Bytes;

/// One coded picture, or one frame of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// The track it belongs to.
    pub track: TrackId,
    /// When it is shown or heard.
    pub pts: MediaTime,
    /// When it is decoded: the order of units within a track. Never after `pts` in a sound stream.
    pub dts: MediaTime,
    /// Whether decoding can start here: an intra or recovery point picture that begins anew; always
    /// true for sound.
    pub random_access: bool,
    /// How much is lost without it.
    pub priority: Priority,
    /// The coded bytes, in the form that [`banyan_wire::Codec`] says.
    pub data: Bytes,
}

/// How much is lost without an access unit, the worst loss first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A random access picture with its parameter sets: nothing decodes until the next one.
    Key,
    /// Sound.
    Audio,
    /// A picture others are predicted from, B-pictures included: losing one spoils the pictures up
    /// to the next key, often without the decoder noticing.
    Reference,
    /// A picture nothing is predicted from: losing it costs exactly that picture.
    Droppable,
}

impl Priority {
    /// Whether the unit is a picture.
    #[must_use]
    pub const fn is_video(self) -> bool {
        !matches!(self, Self::Audio)
    }
}
