//! What H.264 and H.265 have in common: both are NAL units in access units, with parameter sets.
//!
//! Decides what each NAL unit means for the access unit it stands in. Cutting a byte stream is left
//! to [`crate::es::video`], reading the samples of files to [`crate::sample`], and the bits of each
//! of the two to [`crate::h264`] and [`crate::hevc`].

use std::collections::BTreeMap;

use banyan_wire::{Codec, MAX_CODEC_CONFIG};
use bytes::Bytes;

use crate::annexb::{LONG_START_CODE, nal_units};
use crate::{h264, hevc};

/// Longest parameter set that is kept. x264's are about 30 bytes; scaling matrices make 300.
pub(crate) const MAX_PARAMETER_SET: usize = 1024;

/// Bytes of a NAL unit that [`ParameterSets::slice_head`] may need: five numbers of at most 63 bits.
pub(crate) const SLICE_HEAD_LEN: usize = 48;

/// A video codec made of NAL units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NalCodec {
    H264,
    Hevc,
}

/// What a NAL unit means for its access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A slice of the picture: its head tells whether it is the first.
    Slice,
    /// Another part of the picture.
    Part,
    /// An access unit delimiter.
    Delimiter,
    /// A parameter set.
    ParameterSet,
    /// Supplemental information about what follows.
    Message,
    /// Anything else that stands before a picture.
    Prefix,
    /// Anything that tells nothing.
    Other,
}

/// What the first slice of a picture says: enough to tell pictures and their importance apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceHead {
    /// Whether the slice is the first of its picture.
    pub(crate) starts_picture: bool,
    /// For a picture that is one field of an interlaced frame: which frame, and which field.
    pub(crate) field: Option<h264::Field>,
    /// Whether decoding can begin with the picture.
    pub(crate) is_entry: bool,
    /// Whether others may be predicted from the picture.
    pub(crate) is_reference: bool,
}

impl NalCodec {
    /// The codec, if it is one of the two.
    pub(crate) const fn of(codec: Codec) -> Option<Self> {
        match codec {
            Codec::H264 => Some(Self::H264),
            Codec::Hevc => Some(Self::Hevc),
            Codec::Av1 | Codec::Vp9 | Codec::Aac | Codec::Mp3 | Codec::Ac3 | Codec::Opus | _ => {
                None
            }
        }
    }

    pub(crate) const fn codec(self) -> Codec {
        match self {
            Self::H264 => Codec::H264,
            Self::Hevc => Codec::Hevc,
        }
    }

    /// An access unit delimiter that allows any kind of slice, with its start code.
    pub(crate) const fn delimiter(self) -> &'static [u8] {
        match self {
            Self::H264 => &h264::DELIMITER,
            Self::Hevc => &hevc::DELIMITER,
        }
    }

    /// What a NAL unit is.
    pub(crate) fn role(self, nal: &[u8]) -> Role {
        match self {
            Self::H264 => h264::role(nal),
            Self::Hevc => hevc::role(nal),
        }
    }

    /// Whether an access unit brings a sequence parameter set along.
    pub(crate) fn has_sps(self, unit: &[u8]) -> bool {
        // Parameter sets stand before the first slice: no need to look further.
        nal_units(unit)
            .take_while(|nal| !matches!(self.role(nal), Role::Slice | Role::Part))
            .any(|nal| self.is_sps(nal))
    }

    /// Whether a NAL unit is a sequence parameter set.
    pub(crate) fn is_sps(self, nal: &[u8]) -> bool {
        match self {
            Self::H264 => h264::is_sps(nal),
            Self::Hevc => hevc::is_sps(nal),
        }
    }

    /// Whether an access unit starts with a delimiter.
    pub(crate) fn starts_with_delimiter(self, unit: &[u8]) -> bool {
        let start = unit.get(..16).unwrap_or(unit);
        nal_units(start).next().is_some_and(|nal| self.role(nal) == Role::Delimiter)
    }

    /// Whether a message announces a recovery point: a picture decoding may begin with.
    pub(crate) fn has_recovery_point(self, nal: &[u8]) -> bool {
        let header = match self {
            Self::H264 => 1,
            Self::Hevc => 2,
        };
        nal.get(header..).is_some_and(has_recovery_point)
    }
}

/// Whether the messages of an SEI NAL unit, without its header, announce a recovery point. Both
/// codecs give it the same number.
fn has_recovery_point(mut rest: &[u8]) -> bool {
    const RECOVERY_POINT: u32 = 6;
    // Emulation prevention bytes may sit inside a payload but not in the short numbers before it,
    // so that at worst a later message of the same NAL unit is missed.
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

/// The parameter sets of a stream that were seen last.
#[derive(Debug)]
pub(crate) enum ParameterSets {
    H264(h264::ParameterSets),
    Hevc(hevc::ParameterSets),
}

impl ParameterSets {
    pub(crate) fn new(codec: NalCodec) -> Self {
        match codec {
            NalCodec::H264 => Self::H264(h264::ParameterSets::default()),
            NalCodec::Hevc => Self::Hevc(hevc::ParameterSets::default()),
        }
    }

    pub(crate) const fn codec(&self) -> NalCodec {
        match self {
            Self::H264(_) => NalCodec::H264,
            Self::Hevc(_) => NalCodec::Hevc,
        }
    }

    /// Keeps a parameter set; other NAL units, and sets that make no sense, are ignored. Says
    /// whether anything changed.
    pub(crate) fn keep(&mut self, nal: &[u8]) -> bool {
        nal.len() <= MAX_PARAMETER_SET
            && match self {
                Self::H264(sets) => sets.keep(nal),
                Self::Hevc(sets) => sets.keep(nal),
            }
    }

    /// Whether a picture can be decoded with what is known.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::H264(sets) => sets.is_complete(),
            Self::Hevc(sets) => sets.is_complete(),
        }
    }

    /// Width and height in pixels; zeros where not known.
    pub(crate) fn size(&self) -> (u16, u16) {
        match self {
            Self::H264(sets) => sets.size(),
            Self::Hevc(sets) => sets.size(),
        }
    }

    /// How many pictures may be decoded before one that is shown before them; `None` if the sets do
    /// not say.
    pub(crate) fn reorder_depth(&self) -> Option<usize> {
        match self {
            Self::H264(sets) => sets.reorder_depth(),
            Self::Hevc(sets) => sets.reorder_depth(),
        }
    }

    /// All sets as a byte stream. Sets that would make it longer than a track's configuration may
    /// be are left out.
    pub(crate) fn annex_b(&self) -> Bytes {
        match self {
            Self::H264(sets) => annex_b(sets.nals()),
            Self::Hevc(sets) => annex_b(sets.nals()),
        }
    }

    /// Reads the head of a slice; what cannot be read counts as a frame's first slice.
    pub(crate) fn slice_head(&self, nal: &[u8]) -> SliceHead {
        let nal = nal.get(..SLICE_HEAD_LEN).unwrap_or(nal);
        match self {
            Self::H264(sets) => sets.slice_head(nal),
            Self::Hevc(sets) => sets.slice_head(nal),
        }
    }
}

fn annex_b<'a>(nals: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let mut out = Vec::new();
    for nal in nals {
        if out.len() + LONG_START_CODE.len() + nal.len() <= MAX_CODEC_CONFIG {
            out.extend_from_slice(&LONG_START_CODE);
            out.extend_from_slice(nal);
        }
    }
    out.into()
}

/// Keeps a set under its id; says whether it is another one than before.
pub(crate) fn replace<T>(map: &mut BTreeMap<u8, (Bytes, T)>, id: u8, nal: &[u8], value: T) -> bool {
    if map.get(&id).is_some_and(|(known, _)| known == nal) {
        return false;
    }
    map.insert(id, (Bytes::copy_from_slice(nal), value));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_point_is_found_behind_other_messages() {
        let found = |nal: &[u8]| NalCodec::H264.has_recovery_point(nal);
        assert!(found(&[0x06, 5, 2, 9, 9, 6, 1, 0xc0, 0x80]));
        assert!(!found(&[0x06, 5, 2, 6, 1, 0x80]));
        assert!(!found(&[0x06, 5, 0xff, 0xff, 0xff]));
        assert!(NalCodec::Hevc.has_recovery_point(&[0x4e, 0x01, 6, 1, 0xc0, 0x80]));
    }

    #[test]
    fn parameter_sets_and_delimiters_are_found_in_front_of_the_picture_only() {
        let stream = [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x65, 0x88];
        assert!(NalCodec::H264.has_sps(&stream));
        assert!(NalCodec::H264.starts_with_delimiter(&stream));
        assert!(!NalCodec::H264.has_sps(&[0, 0, 1, 0x65, 0x88, 0, 0, 1, 0x67]));
        let stream =
            [NalCodec::Hevc.delimiter(), &[0, 0, 1, 0x42, 1, 1, 0, 0, 1, 0x26, 1]].concat();
        assert!(NalCodec::Hevc.has_sps(&stream));
        assert!(NalCodec::Hevc.starts_with_delimiter(&stream));
        assert!(!NalCodec::Hevc.has_sps(&[0, 0, 1, 0x26, 1, 0x80, 0, 0, 1, 0x42, 1]));
    }

    #[test]
    fn absurd_parameter_sets_are_ignored() {
        for (codec, first) in [(NalCodec::H264, [0x67, 0x68]), (NalCodec::Hevc, [0x42, 0x44])] {
            let mut sets = ParameterSets::new(codec);
            for header in first {
                assert!(!sets.keep(&[header]));
                assert!(!sets.keep(&[header, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
                assert!(!sets.keep(&vec![header; MAX_PARAMETER_SET + 1]));
            }
            assert!(!sets.keep(&[first[0], 0xff, 0xff, 0xff, 0xff, 0xff]));
            assert!(!sets.is_complete());
        }
    }
}
