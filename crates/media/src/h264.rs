//! What must be known of H.264 to carry it: where NAL units are, parameter sets, how pictures start.
//!
//! Decides nothing about access units; [`crate::es::video`] cuts them with what is read here. Slices
//! are never decoded: only their first few numbers are read.

use std::collections::BTreeMap;

use banyan_wire::MAX_CODEC_CONFIG;
use bytes::Bytes;
use h264_reader::nal::sps::{FrameMbsFlags, SeqParameterSet};
use h264_reader::rbsp::{BitRead, BitReader, ByteReader};
use memchr::memmem;

/// NAL unit types, Rec. ITU-T H.264 table 7-1, as far as they matter here.
pub(crate) mod nal_type {
    pub(crate) const SLICE: u8 = 1;
    pub(crate) const SLICE_PARTITION_A: u8 = 2;
    pub(crate) const SLICE_PARTITION_B: u8 = 3;
    pub(crate) const SLICE_PARTITION_C: u8 = 4;
    pub(crate) const IDR_SLICE: u8 = 5;
    pub(crate) const SEI: u8 = 6;
    pub(crate) const SPS: u8 = 7;
    pub(crate) const PPS: u8 = 8;
    pub(crate) const AUD: u8 = 9;
    pub(crate) const PREFIX: u8 = 14;
    pub(crate) const RESERVED_18: u8 = 18;
    pub(crate) const AUXILIARY_SLICE: u8 = 19;
    pub(crate) const SLICE_EXTENSION: u8 = 20;
    pub(crate) const SLICE_EXTENSION_3D: u8 = 21;
}

/// An access unit delimiter that allows any kind of slice, with its start code.
pub(crate) const DELIMITER: [u8; 6] = [0, 0, 0, 1, nal_type::AUD, 0xf0];

/// The start code before a NAL unit that begins an access unit or is a parameter set.
pub(crate) const LONG_START_CODE: [u8; 4] = [0, 0, 0, 1];

const START_CODE: [u8; 3] = [0, 0, 1];

/// Bytes of a NAL unit that [`SliceHead::read`] may need: five numbers of at most 63 bits.
pub(crate) const SLICE_HEAD_LEN: usize = 48;

/// Longest parameter set that is kept. x264's are about 30 bytes; scaling matrices make 300.
const MAX_PARAMETER_SET: usize = 1024;

/// Type of the NAL unit that starts with `header`.
pub(crate) const fn kind(header: u8) -> u8 {
    header & 0x1f
}

/// Importance of the NAL unit that starts with `header`: 0 if nothing is predicted from it.
pub(crate) const fn ref_idc(header: u8) -> u8 {
    (header >> 5) & 3
}

/// Position of the next three-byte start code at or after `from`.
pub(crate) fn find_start_code(data: &[u8], from: usize) -> Option<usize> {
    let rest = data.get(from..)?;
    memmem::find(rest, &START_CODE).map(|at| from + at)
}

/// The NAL units of an Annex B byte stream, without start codes and trailing zeros.
pub(crate) fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut next = find_start_code(data, 0).map(|at| at + START_CODE.len());
    std::iter::from_fn(move || {
        let start = next?;
        let end = find_start_code(data, start);
        next = end.map(|at| at + START_CODE.len());
        let mut nal = data.get(start..end.unwrap_or(data.len()))?;
        while let [rest @ .., 0] = nal {
            nal = rest;
        }
        Some(nal)
    })
    .filter(|nal| !nal.is_empty())
}

/// Whether an access unit brings a sequence parameter set along.
pub(crate) fn has_sps(data: &[u8]) -> bool {
    // Parameter sets stand before the first slice: no need to look further.
    nal_units(data)
        .map(|nal| kind(first(nal)))
        .take_while(|kind| !matches!(*kind, nal_type::SLICE..=nal_type::IDR_SLICE))
        .any(|kind| kind == nal_type::SPS)
}

/// Whether an access unit starts with a delimiter.
pub(crate) fn starts_with_delimiter(data: &[u8]) -> bool {
    nal_units(data.get(..16).unwrap_or(data)).next().is_some_and(|nal| kind(first(nal)) == 9)
}

fn first(nal: &[u8]) -> u8 {
    nal.first().copied().unwrap_or(0)
}

/// Whether an SEI NAL unit announces a recovery point: a picture decoding may start at.
pub(crate) fn has_recovery_point(nal: &[u8]) -> bool {
    const RECOVERY_POINT: u32 = 6;
    // Emulation prevention bytes may sit inside a payload but not in the short numbers before it,
    // so that at worst a later message of the same NAL unit is missed.
    let mut rest = nal.get(1..).unwrap_or(&[]);
    let number = |rest: &mut &[u8]| -> Option<u32> {
        let mut value = 0u32;
        loop {
            let (byte, tail) = rest.split_first()?;
            *rest = tail;
            value = value.checked_add(u32::from(*byte))?;
            if *byte != 0xff {
                return Some(value);
            }
        }
    };
    while rest.len() > 2 {
        let (Some(kind), Some(len)) = (number(&mut rest), number(&mut rest)) else { return false };
        if kind == RECOVERY_POINT {
            return true;
        }
        let Some(tail) = usize::try_from(len).ok().and_then(|len| rest.get(len..)) else {
            return false;
        };
        rest = tail;
    }
    false
}

/// The sequence and picture parameter sets seen last, by their ids.
#[derive(Debug, Default)]
pub(crate) struct ParameterSets {
    // At most 32 and 256 entries: the ids the standard allows.
    sps: BTreeMap<u8, Sps>,
    pps: BTreeMap<u8, Pps>,
}

#[derive(Debug)]
struct Sps {
    nal: Bytes,
    frame_num_bits: u32,
    frames_only: bool,
    separate_planes: bool,
    size: (u16, u16),
}

#[derive(Debug)]
struct Pps {
    nal: Bytes,
    sps: u8,
}

impl ParameterSets {
    /// Keeps a parameter set; other NAL units, and sets that make no sense, are ignored. Says
    /// whether anything changed.
    pub(crate) fn keep(&mut self, nal: &[u8]) -> bool {
        if nal.len() > MAX_PARAMETER_SET {
            return false;
        }
        match kind(first(nal)) {
            nal_type::SPS => self.keep_sps(nal),
            nal_type::PPS => self.keep_pps(nal),
            _ => false,
        }
    }

    fn keep_sps(&mut self, nal: &[u8]) -> bool {
        if self.sps.values().any(|known| known.nal == nal) {
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
        let sps = Sps {
            nal: Bytes::copy_from_slice(nal),
            frame_num_bits: u32::from(parsed.log2_max_frame_num()),
            frames_only: matches!(parsed.frame_mbs_flags, FrameMbsFlags::Frames),
            separate_planes: parsed.chroma_info.separate_colour_plane_flag,
            size,
        };
        self.sps.insert(parsed.id().id(), sps);
        true
    }

    fn keep_pps(&mut self, nal: &[u8]) -> bool {
        let mut bits = BitReader::new(ByteReader::skipping_h264_header(nal));
        let (Ok(id), Ok(sps)) = (bits.read_ue("pps id"), bits.read_ue("sps id")) else {
            return false;
        };
        let (Ok(id), Ok(sps @ 0..32)) = (u8::try_from(id), u8::try_from(sps)) else { return false };
        if self.pps.get(&id).is_some_and(|known| known.nal == nal) {
            return false;
        }
        self.pps.insert(id, Pps { nal: Bytes::copy_from_slice(nal), sps });
        true
    }

    /// Whether a picture can be decoded with what is known.
    pub(crate) fn is_complete(&self) -> bool {
        self.pps.values().any(|pps| self.sps.contains_key(&pps.sps))
    }

    /// Width and height in pixels; zeros where not known.
    pub(crate) fn size(&self) -> (u16, u16) {
        self.sps.values().next().map_or((0, 0), |sps| sps.size)
    }

    /// All sets as an Annex B byte stream. Sets that would make it longer than a track's
    /// configuration may be are left out.
    pub(crate) fn annex_b(&self) -> Bytes {
        let mut out = Vec::new();
        let sets =
            self.sps.values().map(|sps| &sps.nal).chain(self.pps.values().map(|pps| &pps.nal));
        for nal in sets {
            if out.len() + LONG_START_CODE.len() + nal.len() <= MAX_CODEC_CONFIG {
                out.extend_from_slice(&LONG_START_CODE);
                out.extend_from_slice(nal);
            }
        }
        out.into()
    }
}

/// The first numbers of a slice header: enough to tell pictures apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceHead {
    /// Whether the slice is the first of its picture.
    pub(crate) starts_picture: bool,
    /// For a picture that is one field of an interlaced frame: which frame, and which field.
    pub(crate) field: Option<Field>,
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

impl SliceHead {
    /// Reads the head of a slice NAL unit; what cannot be read counts as a frame's first slice.
    pub(crate) fn read(nal: &[u8], sets: &ParameterSets) -> Self {
        let nal = nal.get(..SLICE_HEAD_LEN).unwrap_or(nal);
        let mut bits = BitReader::new(ByteReader::skipping_h264_header(nal));
        let starts_picture = bits.read_ue("first_mb_in_slice").map_or(true, |first| first == 0);
        let field = if starts_picture { read_field(&mut bits, sets) } else { None };
        Self { starts_picture, field }
    }
}

fn read_field(bits: &mut impl BitRead, sets: &ParameterSets) -> Option<Field> {
    bits.read_ue("slice_type").ok()?;
    let pps = u8::try_from(bits.read_ue("pic_parameter_set_id").ok()?).ok()?;
    let sps = sets.sps.get(&sets.pps.get(&pps)?.sps)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nal_units_are_found_between_short_and_long_start_codes() {
        let stream = [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x65, 0x88];
        let found: Vec<&[u8]> = nal_units(&stream).collect();
        assert_eq!(found, [&[0x09, 0xf0][..], &[0x67, 1, 2], &[0x65, 0x88]]);
        assert!(has_sps(&stream));
        assert!(starts_with_delimiter(&stream));
        assert!(!has_sps(&[0, 0, 1, 0x65, 0x88, 0, 0, 1, 0x67]));
    }

    #[test]
    fn a_recovery_point_is_found_behind_other_messages() {
        assert!(has_recovery_point(&[0x06, 5, 2, 9, 9, 6, 1, 0xc0, 0x80]));
        assert!(!has_recovery_point(&[0x06, 5, 2, 6, 1, 0x80]));
        assert!(!has_recovery_point(&[0x06, 5, 0xff, 0xff, 0xff]));
    }

    #[test]
    fn a_slice_that_begins_its_picture_is_told_from_one_that_goes_on() {
        let sets = ParameterSets::default();
        // ue(0) is the bit 1; ue(1) the bits 010.
        assert!(SliceHead::read(&[0x41, 0x9a], &sets).starts_picture);
        assert!(!SliceHead::read(&[0x41, 0x5a], &sets).starts_picture);
    }

    #[test]
    fn absurd_parameter_sets_are_ignored() {
        let mut sets = ParameterSets::default();
        assert!(!sets.keep(&[0x67]));
        assert!(!sets.keep(&[0x67, 0xff, 0xff, 0xff, 0xff, 0xff]));
        assert!(!sets.keep(&[0x68, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!sets.keep(&vec![0x67; MAX_PARAMETER_SET + 1]));
        assert!(!sets.is_complete());
    }
}
