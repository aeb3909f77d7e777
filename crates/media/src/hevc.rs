//! What must be known of H.265 to carry it: kinds of NAL unit, parameter sets, how pictures start.
//!
//! Decides which pictures can be begun with and which are predicted from. Access units are cut
//! elsewhere. Of slices only the first bit is read.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use bytes::Bytes;
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, ByteReader};

use crate::nal::{Role, SliceHead, replace};

/// NAL unit types, Rec. ITU-T H.265 table 7-1, as far as they matter here.
mod nal_type {
    pub(super) const RASL_R: u8 = 9;
    pub(super) const RESERVED_R15: u8 = 15;
    pub(super) const BLA_W_LP: u8 = 16;
    pub(super) const CRA: u8 = 21;
    pub(super) const LAST_PICTURE: u8 = 31;
    pub(super) const VPS: u8 = 32;
    pub(super) const SPS: u8 = 33;
    pub(super) const PPS: u8 = 34;
    pub(super) const AUD: u8 = 35;
    pub(super) const PREFIX_SEI: u8 = 39;
    pub(super) const RESERVED_41: u8 = 41;
    pub(super) const RESERVED_44: u8 = 44;
    pub(super) const UNSPECIFIED_48: u8 = 48;
    pub(super) const UNSPECIFIED_55: u8 = 55;
}

/// An access unit delimiter that allows any kind of slice, with its start code.
pub(crate) const DELIMITER: [u8; 7] = [0, 0, 0, 1, nal_type::AUD << 1, 1, 0x50];

const HEADER_LEN: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// Type, layer and temporal layer of a NAL unit; `None` if it is too short to say.
fn header(nal: &[u8]) -> Option<(u8, u8, u8)> {
    let [b0, b1, ..] = *nal else { return None };
    Some(((b0 >> 1) & 0x3f, (b0 & 1) << 5 | b1 >> 3, (b1 & 7).saturating_sub(1)))
}

/// What a NAL unit is.
pub(crate) fn role(nal: &[u8]) -> Role {
    match header(nal) {
        None => Role::Other,
        // Pictures of further layers (scalable, multi-view) belong to the one of the first layer.
        Some((0..=nal_type::LAST_PICTURE, 1.., _)) => Role::Part,
        Some((_, 1.., _)) => Role::Other,
        Some((kind, 0, _)) => match kind {
            0..=nal_type::RASL_R | nal_type::BLA_W_LP..=nal_type::CRA => Role::Slice,
            nal_type::AUD => Role::Delimiter,
            nal_type::VPS | nal_type::SPS | nal_type::PPS => Role::ParameterSet,
            nal_type::PREFIX_SEI => Role::Message,
            nal_type::RESERVED_41..=nal_type::RESERVED_44
            | nal_type::UNSPECIFIED_48..=nal_type::UNSPECIFIED_55 => Role::Prefix,
            _ => Role::Other,
        },
    }
}

/// Whether a NAL unit is a sequence parameter set.
pub(crate) fn is_sps(nal: &[u8]) -> bool {
    matches!(header(nal), Some((nal_type::SPS, 0, _)))
}

/// The video, sequence and picture parameter sets seen last, by their ids.
#[derive(Debug, Default)]
pub(crate) struct ParameterSets {
    // At most 16, 16 and 64 entries: the ids the standard allows.
    vps: BTreeMap<u8, (Bytes, ())>,
    sps: BTreeMap<u8, (Bytes, Sps)>,
    /// With the id of the sequence parameter set each refers to.
    pps: BTreeMap<u8, (Bytes, u8)>,
}

/// What a sequence parameter set says, as far as it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sps {
    id: u8,
    vps: u8,
    /// Profile, tier and level of the whole stream, as they stand in the set.
    pub(crate) profile: [u8; 12],
    /// The highest temporal layer there may be.
    pub(crate) last_layer: u8,
    /// Whether all temporal layers can be left or entered anywhere.
    pub(crate) is_nested: bool,
    /// 0 to 3: none, 4:2:0, 4:2:2, 4:4:4.
    pub(crate) chroma: u8,
    /// Bits of a sample above eight.
    pub(crate) depth_luma: u8,
    pub(crate) depth_chroma: u8,
    /// Width and height in pixels, cropped.
    pub(crate) size: (u16, u16),
    reorder_depth: usize,
}

impl Sps {
    /// Reads a sequence parameter set; `None` if it makes no sense.
    pub(crate) fn read(nal: &[u8]) -> Option<Self> {
        let mut bits = BitReader::new(ByteReader::skipping_bytes(nal, HEADER_LEN));
        read_sps(&mut bits).ok().flatten()
    }
}

impl ParameterSets {
    /// See [`crate::nal::ParameterSets::keep`].
    pub(crate) fn keep(&mut self, nal: &[u8]) -> bool {
        let Some((kind, 0, _)) = header(nal) else { return false };
        let mut bits = BitReader::new(ByteReader::skipping_bytes(nal, HEADER_LEN));
        match kind {
            nal_type::VPS if nal.len() > 4 => match bits.read::<4, u8>("vps id") {
                Ok(id) => replace(&mut self.vps, id, nal, ()),
                Err(_) => false,
            },
            nal_type::SPS if !self.sps.values().any(|(known, _)| known == nal) => {
                Sps::read(nal).is_some_and(|sps| replace(&mut self.sps, sps.id, nal, sps))
            }
            nal_type::PPS => {
                let (Ok(id @ 0..64), Ok(sps @ 0..16)) =
                    (bits.read_ue("pps id"), bits.read_ue("sps id"))
                else {
                    return false;
                };
                let (Ok(id), Ok(sps)) = (u8::try_from(id), u8::try_from(sps)) else { return false };
                replace(&mut self.pps, id, nal, sps)
            }
            _ => false,
        }
    }

    /// Whether a picture can be decoded with what is known.
    pub(crate) fn is_complete(&self) -> bool {
        self.pps.values().any(|(_, sps)| {
            self.sps.get(sps).is_some_and(|(_, sps)| self.vps.contains_key(&sps.vps))
        })
    }

    /// Width and height in pixels; zeros where not known.
    pub(crate) fn size(&self) -> (u16, u16) {
        self.sps.values().next().map_or((0, 0), |(_, sps)| sps.size)
    }

    /// See [`crate::nal::ParameterSets::reorder_depth`].
    pub(crate) fn reorder_depth(&self) -> Option<usize> {
        self.sps.values().next().map(|(_, sps)| sps.reorder_depth)
    }

    /// All sets, in the order they have to be sent in.
    pub(crate) fn nals(&self) -> impl Iterator<Item = &Bytes> {
        let vps = self.vps.values().map(|(nal, ())| nal);
        let sps = self.sps.values().map(|(nal, _)| nal);
        vps.chain(sps).chain(self.pps.values().map(|(nal, _)| nal))
    }

    /// See [`crate::nal::ParameterSets::slice_head`].
    pub(crate) fn slice_head(&self, nal: &[u8]) -> SliceHead {
        let (kind, _, layer) = header(nal).unwrap_or_default();
        // Even types below the entry points are not referred to by pictures of their own temporal
        // layer; only in the highest one is there nobody else who might.
        let is_alone = kind < nal_type::RESERVED_R15 && kind.is_multiple_of(2);
        let last_layer = self.sps.values().map(|(_, sps)| sps.last_layer).max();
        SliceHead {
            starts_picture: nal.get(2).is_none_or(|byte| byte & 0x80 != 0),
            field: None,
            is_entry: (nal_type::BLA_W_LP..=nal_type::CRA).contains(&kind),
            is_reference: !(is_alone && last_layer.is_some_and(|last| layer >= last)),
        }
    }
}

/// Reads a sequence parameter set up to how far pictures are reordered (7.3.2.2.1); `Ok(None)` if it
/// makes no sense.
fn read_sps(bits: &mut impl BitRead) -> Result<Option<Sps>, BitReaderError> {
    let vps = bits.read::<4, u8>("sps_video_parameter_set_id")?;
    let last_layer = bits.read::<3, u8>("sps_max_sub_layers_minus1")?;
    let is_nested = bits.read_bit("sps_temporal_id_nesting_flag")?;
    let profile = read_profile(bits, last_layer)?;
    let id = bits.read_ue("sps_seq_parameter_set_id")?;
    let chroma = bits.read_ue("chroma_format_idc")?;
    let is_separate = chroma == 3 && bits.read_bit("separate_colour_plane_flag")?;
    let width = bits.read_ue("pic_width_in_luma_samples")?;
    let height = bits.read_ue("pic_height_in_luma_samples")?;
    let mut window = [0; 4];
    if bits.read_bit("conformance_window_flag")? {
        for edge in &mut window {
            *edge = bits.read_ue("conf_win_offset")?;
        }
    }
    let (Ok(id @ 0..16), 0..=3) = (u8::try_from(id), chroma) else { return Ok(None) };
    // Offsets count in samples of chroma.
    let (step_x, step_y) = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let (step_x, step_y) = if is_separate { (1, 1) } else { (step_x, step_y) };
    let [left, right, top, bottom] = window.map(u64::from);
    let cropped = |whole: u32, cut: u64| {
        u64::from(whole).checked_sub(cut).and_then(|length| u16::try_from(length).ok())
    };
    let (Some(width), Some(height)) =
        (cropped(width, step_x * (left + right)), cropped(height, step_y * (top + bottom)))
    else {
        return Ok(None);
    };
    let depth_luma = bits.read_ue("bit_depth_luma_minus8")?;
    let depth_chroma = bits.read_ue("bit_depth_chroma_minus8")?;
    bits.read_ue("log2_max_pic_order_cnt_lsb_minus4")?;
    let has_each = bits.read_bit("sps_sub_layer_ordering_info_present_flag")?;
    let mut reorder = 0;
    for _ in if has_each { 0 } else { last_layer }..=last_layer {
        bits.read_ue("sps_max_dec_pic_buffering_minus1")?;
        // Of the highest layer, which comes last.
        reorder = bits.read_ue("sps_max_num_reorder_pics")?;
        bits.read_ue("sps_max_latency_increase_plus1")?;
    }
    let Ok(reorder_depth @ 0..=16) = usize::try_from(reorder) else { return Ok(None) };
    // Fields of three and of two bits repeat these in files.
    let (Ok(depth_luma @ 0..8), Ok(depth_chroma @ 0..8), Ok(chroma)) =
        (u8::try_from(depth_luma), u8::try_from(depth_chroma), u8::try_from(chroma))
    else {
        return Ok(None);
    };
    Ok(Some(Sps {
        id,
        vps,
        profile,
        last_layer,
        is_nested,
        chroma,
        depth_luma,
        depth_chroma,
        size: (width, height),
        reorder_depth,
    }))
}

/// Reads profile, tier and level of the whole stream, and skips those of temporal layers (7.3.3).
fn read_profile(bits: &mut impl BitRead, last_layer: u8) -> Result<[u8; 12], BitReaderError> {
    let mut general = [0; 12];
    for byte in &mut general {
        *byte = bits.read::<8, u8>("general profile and level")?;
    }
    let mut parts = [(false, false); 8];
    for part in parts.iter_mut().take(usize::from(last_layer)) {
        *part = (bits.read_bit("has profile")?, bits.read_bit("has level")?);
    }
    if last_layer > 0 {
        bits.skip(2 * u32::from(8 - last_layer), "reserved")?;
    }
    for (has_profile, has_level) in parts {
        let len = if has_profile { 88 } else { 0 } + if has_level { 8 } else { 0 };
        bits.skip(len, "profile and level of a temporal layer")?;
    }
    Ok(general)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of what x265 writes.
    const VPS: &[u8] = &[0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60];

    fn slice(kind: u8, layer: u8, first: bool) -> Vec<u8> {
        vec![kind << 1, layer + 1, if first { 0x80 } else { 0 }, 0]
    }

    #[test]
    fn pictures_are_told_apart_by_the_type_of_their_slices() {
        let mut sets = ParameterSets::default();
        // Before anything is known nothing may be dropped.
        assert!(sets.slice_head(&slice(0, 0, true)).is_reference);
        let sps = |last_layer| Sps { last_layer, ..Sps::default() };
        sets.sps.insert(0, (Bytes::new(), sps(1)));
        assert!(sets.slice_head(&slice(0, 0, true)).is_reference, "a lower layer");
        assert!(!sets.slice_head(&slice(0, 1, true)).is_reference);
        assert!(sets.slice_head(&slice(1, 1, true)).is_reference);
        assert!(!sets.slice_head(&slice(8, 1, true)).is_reference);
        for entry in 16..=21 {
            assert!(sets.slice_head(&slice(entry, 0, true)).is_entry);
        }
        assert!(!sets.slice_head(&slice(9, 0, true)).is_entry);
        assert!(sets.slice_head(&slice(1, 0, true)).starts_picture);
        assert!(!sets.slice_head(&slice(1, 0, false)).starts_picture);
    }

    #[test]
    fn what_belongs_to_a_further_layer_begins_nothing() {
        assert_eq!(role(&[0x02, 0x09]), Role::Part);
        assert_eq!(role(&[0x42, 0x09]), Role::Other);
        assert_eq!(role(&[0x42, 0x01]), Role::ParameterSet);
        assert_eq!(role(&[0x50, 0x01]), Role::Other, "a suffix message");
        assert_eq!(role(&[0x02]), Role::Other);
    }

    #[test]
    fn a_set_is_another_one_only_if_its_bytes_are() {
        let mut sets = ParameterSets::default();
        assert!(sets.keep(VPS));
        assert!(!sets.keep(VPS));
        assert_eq!(sets.nals().count(), 1);
        assert!(!sets.is_complete());
    }
}
