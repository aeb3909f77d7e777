//! What must be known of VP9 to carry it: the frames of a superframe, and what they say first.
//!
//! Decides which frames can be begun with and which can be left out. Frames are never decoded.
//!
//! Leaving a frame out is more than not to refer to it: unless a frame is coded to resist losses, it
//! takes probabilities, segments and motion vectors from the frame decoded before it, whichever that
//! is. So only what an encoder made to resist losses and replaces no reference can be left out.

use crate::access_unit::Priority;
use crate::bits::BitReader;

/// What is known of a frame by its uncompressed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    is_key: bool,
    is_alone: bool,
    /// Of a key frame.
    format: Option<Format>,
}

/// What a key frame says of the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) size: (u16, u16),
    profile: u8,
    bit_depth: u8,
    /// As a VPCodecConfigurationRecord counts: 1 is 4:2:0 with its samples between the lines.
    chroma: u8,
    is_full_range: bool,
}

impl Format {
    /// A VPCodecConfigurationRecord. Its level is the one for the size of the pictures, at the higher
    /// of the rates that a level of this size allows; of colours it says nothing.
    pub(crate) fn record(self) -> [u8; RECORD_LEN] {
        const LEVELS: [(u32, u8); 7] = [
            (73_728, 11),
            (245_760, 21),
            (552_960, 30),
            (983_040, 31),
            (2_228_224, 41),
            (8_912_896, 52),
            (u32::MAX, 62),
        ];
        const UNSPECIFIED: u8 = 2;

        let (width, height) = self.size;
        let samples = u32::from(width) * u32::from(height);
        let level =
            LEVELS.iter().find(|(most, _)| samples <= *most).map_or(62, |(_, level)| *level);
        let range = u8::from(self.is_full_range);
        let depth = self.bit_depth << 4 | self.chroma << 1 | range;
        [self.profile, level, depth, UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, 0, 0]
    }
}

/// Bytes of a VPCodecConfigurationRecord without initialisation data, which VP9 has none of.
pub(crate) const RECORD_LEN: usize = 8;

impl Frame {
    /// Reads an uncompressed header (VP9 bitstream specification, 6.2) up to the reference frames it
    /// replaces.
    fn read(frame: &[u8]) -> Option<Self> {
        let mut bits = BitReader::new(frame);
        if bits.take(2)? != 2 {
            return None;
        }
        let profile = bits.u8(1)? | bits.u8(1)? << 1;
        if profile == 3 && bits.flag()? {
            return None;
        }
        let other = Self { is_key: false, is_alone: false, format: None };
        if bits.flag()? {
            return Some(other);
        }
        let is_inter = bits.flag()?;
        let is_shown = bits.flag()?;
        let is_resilient = bits.flag()?;
        if !is_inter {
            if bits.take(24)? != 0x49_83_42 {
                return None;
            }
            let (bit_depth, chroma, is_full_range) = read_colours(&mut bits, profile)?;
            let (width, height) = (bits.take(16)? + 1, bits.take(16)? + 1);
            let size = u16::try_from(width).ok().zip(u16::try_from(height).ok());
            let format =
                size.map(|size| Format { size, profile, bit_depth, chroma, is_full_range });
            return Some(Self { is_key: is_shown, format, ..other });
        }
        let is_intra_only = !is_shown && bits.flag()?;
        if !is_resilient || is_intra_only {
            return Some(other);
        }
        // Whether contexts are reset is not said by frames that resist losses.
        Some(Self { is_alone: bits.take(8)? == 0 && is_shown, ..other })
    }
}

/// Bit depth, sampling of chroma, and whether all values are used.
fn read_colours(bits: &mut BitReader<'_>, profile: u8) -> Option<(u8, u8, bool)> {
    const SRGB: u32 = 7;
    const FULL: u8 = 3;

    let bit_depth = match profile {
        0 | 1 => 8,
        _ if bits.flag()? => 12,
        _ => 10,
    };
    if bits.take(3)? == SRGB {
        if profile & 1 == 1 {
            bits.take(1)?;
        }
        return Some((bit_depth, FULL, true));
    }
    let is_full_range = bits.flag()?;
    let chroma = if profile & 1 == 1 {
        let (x, y) = (bits.flag()?, bits.flag()?);
        bits.take(1)?;
        match (x, y) {
            (true, true) => 1,
            (true, false) => 2,
            (false, _) => FULL,
        }
    } else {
        1
    };
    Some((bit_depth, chroma, is_full_range))
}

/// The frames of a superframe (Annex B), or the one frame there is; `None` if the sizes lie.
fn frames(unit: &[u8]) -> Option<Vec<&[u8]>> {
    let last = *unit.last()?;
    if last & 0xe0 != 0xc0 {
        return Some(vec![unit]);
    }
    let (count, size_len) = (usize::from(last & 7) + 1, usize::from(last >> 3 & 3) + 1);
    let index_len = 2 + count * size_len;
    let start = unit.len().checked_sub(index_len)?;
    let (mut data, index) = unit.split_at_checked(start)?;
    if index.first() != Some(&last) {
        return Some(vec![unit]);
    }
    let mut out = Vec::with_capacity(count);
    for size in index.get(1..index_len - 1)?.chunks(size_len) {
        let size = size.iter().rev().fold(0usize, |size, byte| size << 8 | usize::from(*byte));
        let (frame, rest) = data.split_at_checked(size)?;
        if !frame.is_empty() {
            out.push(frame);
        }
        data = rest;
    }
    Some(out)
}

/// What a unit is worth, and what a key frame says; `None` if it makes no sense.
pub(crate) fn read(unit: &[u8]) -> Option<(Priority, Option<Format>)> {
    let frames: Vec<Frame> = frames(unit)?.into_iter().map(Frame::read).collect::<Option<_>>()?;
    let first = frames.first()?;
    let priority = if first.is_key {
        Priority::Key
    } else if frames.iter().all(|frame| frame.is_alone) {
        Priority::Droppable
    } else {
        Priority::Reference
    };
    Some((priority, first.format))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Profile 0, shown, 320x180.
    const KEY: [u8; 10] = [0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0b, 0x36, 0x00];

    fn priority(unit: &[u8]) -> Option<Priority> {
        read(unit).map(|(priority, _)| priority)
    }

    #[test]
    fn a_key_frame_says_its_size() {
        let key = &KEY;
        let (priority, format) = read(key).unwrap();
        assert_eq!((priority, format.unwrap().size), (Priority::Key, (320, 180)));
        assert_eq!(format.unwrap().record(), [0, 11, 0x82, 2, 2, 2, 0, 0]);
    }

    #[test]
    fn only_a_frame_that_resists_losses_and_replaces_nothing_can_be_left_out() {
        // Inter, shown; then with error resilience; then it replaces a reference.
        assert_eq!(priority(&[0x86, 0, 0]), Some(Priority::Reference));
        assert_eq!(priority(&[0x87, 0, 0]), Some(Priority::Droppable));
        assert_eq!(priority(&[0x87, 1, 0]), Some(Priority::Reference));
        // Shows a frame from before.
        assert_eq!(priority(&[0x88]), Some(Priority::Reference));
    }

    #[test]
    fn a_superframe_is_worth_as_much_as_its_best_frame() {
        let index = [0xc1, 10, 3, 0xc1];
        let unit = [&KEY[..], &[0x84, 1, 0], &index].concat();
        assert_eq!(priority(&unit), Some(Priority::Key));
        let index = [0xc1, 3, 3, 0xc1];
        let unit = [&[0x87, 0, 0, 0x87, 1, 0][..], &index].concat();
        assert_eq!(priority(&unit), Some(Priority::Reference));
        let lying = [0xc1, 200, 3, 0xc1];
        assert_eq!(priority(&[&KEY[..], &lying].concat()), None);
        assert_eq!(priority(&[]), None);
        assert_eq!(priority(&[0x40, 1, 2]), None);
    }
}
