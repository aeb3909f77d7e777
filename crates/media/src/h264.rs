//! What must be known of H.264 to carry it: kinds of NAL unit, parameter sets, how pictures start.
//!
//! Decides which pictures can be begun with and which are predicted from. Access units are cut
//! elsewhere. Slices are never decoded: only their first few numbers are read.

use std::collections::BTreeMap;

use bytes::Bytes;
use h264_reader::nal::sps::{FrameMbsFlags, SeqParameterSet};
use h264_reader::rbsp::{BitRead, BitReader, ByteReader};

use crate::nal::{Role, SliceHead, replace};

/// NAL unit types, Rec. ITU-T H.264 table 7-1, as far as they matter here.
mod nal_type {
    pub(super) const SLICE: u8 = 1;
    pub(super) const SLICE_PARTITION_A: u8 = 2;
    pub(super) const SLICE_PARTITION_B: u8 = 3;
    pub(super) const SLICE_PARTITION_C: u8 = 4;
    pub(super) const IDR_SLICE: u8 = 5;
    pub(super) const SEI: u8 = 6;
    pub(super) const SPS: u8 = 7;
    pub(super) const PPS: u8 = 8;
    pub(super) const AUD: u8 = 9;
    pub(super) const PREFIX: u8 = 14;
    pub(super) const RESERVED_18: u8 = 18;
    pub(super) const AUXILIARY_SLICE: u8 = 19;
    pub(super) const SLICE_EXTENSION: u8 = 20;
    pub(super) const SLICE_EXTENSION_3D: u8 = 21;
}

/// An access unit delimiter that allows any kind of slice, with its start code.
pub(crate) const DELIMITER: [u8; 6] = [0, 0, 0, 1, nal_type::AUD, 0xf0];

/// Type of the NAL unit that starts with `header`.
const fn kind(header: u8) -> u8 {
    header & 0x1f
}

/// What a NAL unit is.
pub(crate) fn role(nal: &[u8]) -> Role {
    match kind(first(nal)) {
        nal_type::SLICE | nal_type::SLICE_PARTITION_A | nal_type::IDR_SLICE => Role::Slice,
        nal_type::SLICE_PARTITION_B
        | nal_type::SLICE_PARTITION_C
        | nal_type::AUXILIARY_SLICE
        | nal_type::SLICE_EXTENSION
        | nal_type::SLICE_EXTENSION_3D => Role::Part,
        nal_type::AUD => Role::Delimiter,
        nal_type::SPS | nal_type::PPS => Role::ParameterSet,
        nal_type::SEI => Role::Message,
        nal_type::PREFIX..=nal_type::RESERVED_18 => Role::Prefix,
        _ => Role::Other,
    }
}

/// Whether a NAL unit is a sequence parameter set.
pub(crate) fn is_sps(nal: &[u8]) -> bool {
    kind(first(nal)) == nal_type::SPS
}

fn first(nal: &[u8]) -> u8 {
    nal.first().copied().unwrap_or(0)
}

/// The sequence and picture parameter sets seen last, by their ids.
#[derive(Debug, Default)]
pub(crate) struct ParameterSets {
    // At most 32 and 256 entries: the ids the standard allows.
    sps: BTreeMap<u8, (Bytes, Sps)>,
    /// With the id of the sequence parameter set each refers to.
    pps: BTreeMap<u8, (Bytes, u8)>,
}

#[derive(Debug)]
struct Sps {
    frame_num_bits: u32,
    frames_only: bool,
    separate_planes: bool,
    size: (u16, u16),
    reorder_depth: Option<usize>,
}

impl ParameterSets {
    /// See [`crate::nal::ParameterSets::keep`].
    pub(crate) fn keep(&mut self, nal: &[u8]) -> bool {
        match kind(first(nal)) {
            nal_type::SPS => self.keep_sps(nal),
            nal_type::PPS => self.keep_pps(nal),
            _ => false,
        }
    }

    fn keep_sps(&mut self, nal: &[u8]) -> bool {
        if self.sps.values().any(|(known, _)| known == nal) {
            return false;
        }
        let Ok(parsed) =
            SeqParameterSet::from_bits(BitReader::new(ByteReader::skipping_h264_header(nal)))
        else {
            return false;
        };
        let size = parsed.pixel_dimensions().map_or((0, 0), |(width, height)| {
            (u16::try_from(width).unwrap_or(0), u16::try_from(height).unwrap_or(0))
        });
        let restrictions =
            parsed.vui_parameters.as_ref().and_then(|vui| vui.bitstream_restrictions.as_ref());
        // The baseline profile has no B-pictures.
        let reorder_depth = match restrictions {
            Some(found) => usize::try_from(found.max_num_reorder_frames).ok(),
            None => (u8::from(parsed.profile_idc) == 66).then_some(0),
        };
        let sps = Sps {
            frame_num_bits: u32::from(parsed.log2_max_frame_num()),
            frames_only: matches!(parsed.frame_mbs_flags, FrameMbsFlags::Frames),
            separate_planes: parsed.chroma_info.separate_colour_plane_flag,
            size,
            reorder_depth,
        };
        replace(&mut self.sps, parsed.id().id(), nal, sps)
    }

    fn keep_pps(&mut self, nal: &[u8]) -> bool {
        let mut bits = BitReader::new(ByteReader::skipping_h264_header(nal));
        let (Ok(id), Ok(sps)) = (bits.read_ue("pps id"), bits.read_ue("sps id")) else {
            return false;
        };
        let (Ok(id), Ok(sps @ 0..32)) = (u8::try_from(id), u8::try_from(sps)) else { return false };
        replace(&mut self.pps, id, nal, sps)
    }

    /// Whether a picture can be decoded with what is known.
    pub(crate) fn is_complete(&self) -> bool {
        self.pps.values().any(|(_, sps)| self.sps.contains_key(sps))
    }

    /// Width and height in pixels; zeros where not known.
    pub(crate) fn size(&self) -> (u16, u16) {
        self.sps.values().next().map_or((0, 0), |(_, sps)| sps.size)
    }

    /// See [`crate::nal::ParameterSets::reorder_depth`].
    pub(crate) fn reorder_depth(&self) -> Option<usize> {
        self.sps.values().next().and_then(|(_, sps)| sps.reorder_depth)
    }

    /// All sets, in the order they have to be sent in.
    pub(crate) fn nals(&self) -> impl Iterator<Item = &Bytes> {
        self.sps.values().map(|(nal, _)| nal).chain(self.pps.values().map(|(nal, _)| nal))
    }

    /// See [`crate::nal::ParameterSets::slice_head`].
    pub(crate) fn slice_head(&self, nal: &[u8]) -> SliceHead {
        let mut bits = BitReader::new(ByteReader::skipping_h264_header(nal));
        let starts_picture = bits.read_ue("first_mb_in_slice").map_or(true, |first| first == 0);
        let header = first(nal);
        SliceHead {
            starts_picture,
            field: if starts_picture { self.read_field(&mut bits) } else { None },
            is_entry: kind(header) == nal_type::IDR_SLICE,
            // nal_ref_idc: 0 if nothing is predicted from it.
            is_reference: header & 0x60 != 0,
        }
    }

    fn read_field(&self, bits: &mut impl BitRead) -> Option<Field> {
        bits.read_ue("slice_type").ok()?;
        let pps = u8::try_from(bits.read_ue("pic_parameter_set_id").ok()?).ok()?;
        let (_, sps) = self.sps.get(&self.pps.get(&pps)?.1)?;
        if sps.frames_only {
            return None;
        }
        if sps.separate_planes {
            bits.skip(2, "colour_plane_id").ok()?;
        }
        let frame_num = bits.read_var::<u32>(sps.frame_num_bits, "frame_num").ok()?;
        if !bits.read_bit("field_pic_flag").ok()? {
            return None;
        }
        let bottom = bits.read_bit("bottom_field_flag").ok()?;
        Some(Field { frame_num, bottom })
    }
}

/// One field of an interlaced frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    frame_num: u32,
    bottom: bool,
}

impl Field {
    /// Whether the two are the halves of one frame.
    pub(crate) fn pairs_with(self, other: Self) -> bool {
        self.frame_num == other.frame_num && self.bottom != other.bottom
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_that_begins_its_picture_is_told_from_one_that_goes_on() {
        let sets = ParameterSets::default();
        // ue(0) is the bit 1; ue(1) the bits 010.
        assert!(sets.slice_head(&[0x41, 0x9a]).starts_picture);
        assert!(!sets.slice_head(&[0x41, 0x5a]).starts_picture);
        assert!(sets.slice_head(&[0x65, 0x9a]).is_entry);
        assert!(!sets.slice_head(&[0x01, 0x9a]).is_reference);
    }
}
