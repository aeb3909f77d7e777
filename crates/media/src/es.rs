//! Framers: the bytes of one elementary stream → its access units.
//!
//! A framer decides where a unit starts and ends, how important it is, and which timestamp of the
//! container is its own. It is fed piecewise, never holds more than [`MAX_ACCESS_UNIT`] and a little,
//! and drops what is damaged. What a 33-bit timestamp means on the long run is left to
//! [`crate::timeline`].

pub(crate) mod audio;
pub(crate) mod opus;
pub(crate) mod video;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::access_unit::Priority;

/// Longest access unit that is carried, in bytes; a longer one is dropped.
///
/// An intra picture of 2160p at studio quality stays below 2 MiB.
pub const MAX_ACCESS_UNIT: usize = 4 << 20;

/// Timestamps as a PES header has them: 33 bits of 90 kHz ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) pts: u64,
    pub(crate) dts: u64,
}

/// An access unit that has yet to get its place in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Framed {
    /// The container's timestamp, if it had one for this unit.
    pub(crate) stamp: Option<Stamp>,
    pub(crate) random_access: bool,
    pub(crate) priority: Priority,
    pub(crate) data: Bytes,
}

impl Framed {
    /// A frame of sound: decoding can begin with any.
    pub(crate) const fn sound(stamp: Option<Stamp>, data: Bytes) -> Self {
        Self { stamp, random_access: true, priority: Priority::Audio, data }
    }
}

/// Where in a framer's buffer PES packets began, and their timestamps.
///
/// A timestamp belongs to the first access unit that begins in its packet (ISO/IEC 13818-1,
/// 2.4.3.7), which need not be where the packet begins.
///
/// In the order of their places.
#[derive(Debug, Default)]
pub(crate) struct Marks(VecDeque<(usize, Option<Stamp>)>);

impl Marks {
    /// Most packets that may begin within one access unit; the oldest are forgotten.
    const MAX: usize = 1024;

    pub(crate) fn push(&mut self, at: usize, stamp: Option<Stamp>) {
        if self.0.len() >= Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back((at, stamp));
    }

    /// Whether a packet began at `at`.
    pub(crate) fn begins_at(&self, at: usize) -> bool {
        self.0.binary_search_by_key(&at, |(begin, _)| *begin).is_ok()
    }

    /// The timestamp of a unit that begins at `at`. Uses it up.
    pub(crate) fn take(&mut self, at: usize) -> Option<Stamp> {
        let mut stamp = None;
        while let Some((begin, found)) = self.0.front().copied() {
            if begin > at {
                break;
            }
            stamp = found;
            self.0.pop_front();
        }
        stamp
    }

    /// Follows the buffer when its first `len` bytes are gone.
    pub(crate) fn advance(&mut self, len: usize) {
        for (begin, _) in &mut self.0 {
            *begin = begin.saturating_sub(len);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
