//! Sample entries of pictures: `avc1`, `hvc1`, `av01` and `vp09`.
//!
//! Decides that parameter sets stand in the entry and not in the samples, which is what all players
//! take; Apple's take nothing else for H.265.

use std::fmt::Write as _;

use banyan_wire::{MAX_CODEC_CONFIG, Track};
use bytes::Bytes;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitReader, ByteReader};

use super::{Setup, video_timescale};
use crate::annexb::nal_units;
use crate::cmaf::boxes::{put_box, put_full_box, put_u16, put_u32};
use crate::hevc::Sps;
use crate::vp9;

/// Types of parameter sets, Rec. ITU-T H.264 table 7-1 and H.265 table 7-1: an entry lists them by type.
const H264_SPS: u8 = 7;
const H264_PPS: u8 = 8;
const HEVC_VPS: u8 = 32;
const HEVC_SPS: u8 = 33;
const HEVC_PPS: u8 = 34;

/// Most parameter sets of one type in an entry: what `avcC` can count.
const MAX_SETS: usize = 31;

fn h264_kind(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & 0x1f)
}

fn hevc_kind(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| (header >> 1) & 0x3f)
}

/// The parameter sets of one type: those in the unit, else those of the configuration.
fn sets_of(
    kind: u8,
    kind_of: fn(&[u8]) -> u8,
    track: &Track,
    first: Option<&[u8]>,
) -> Option<Vec<Bytes>> {
    let find = |data: &[u8]| {
        let mut found: Vec<Bytes> = Vec::new();
        let mut len = 0;
        for nal in nal_units(data).filter(|nal| kind_of(nal) == kind) {
            len += nal.len();
            if len > MAX_CODEC_CONFIG || found.len() == MAX_SETS {
                break;
            }
            if !found.iter().any(|known| known == nal) {
                found.push(Bytes::copy_from_slice(nal));
            }
        }
        found
    };
    let sets = first.map(find).filter(|sets| !sets.is_empty());
    let sets = sets.unwrap_or_else(|| find(&track.config));
    (!sets.is_empty()).then_some(sets)
}

pub(super) fn h264(track: &Track, first: Option<&[u8]>) -> Option<Setup> {
    let sps_sets = sets_of(H264_SPS, h264_kind, track, first)?;
    let pps_sets = sets_of(H264_PPS, h264_kind, track, first)?;
    let sps = sps_sets.first()?;
    let [profile, constraints, level] = *sps.get(1..4)?.first_chunk()?;
    let parsed =
        SeqParameterSet::from_bits(BitReader::new(ByteReader::skipping_h264_header(&sps[..])))
            .ok()?;
    let size = parsed.pixel_dimensions().map_or((0, 0), |(width, height)| {
        (u16::try_from(width).unwrap_or(0), u16::try_from(height).unwrap_or(0))
    });
    let size = if size == (0, 0) { (track.width, track.height) } else { size };
    let mut record = vec![1, profile, constraints, level, 0xff];
    record.push(0xe0 | u8::try_from(sps_sets.len()).unwrap_or(0));
    sps_sets.iter().for_each(|set| put_set(&mut record, set));
    record.push(u8::try_from(pps_sets.len()).unwrap_or(0));
    pps_sets.iter().for_each(|set| put_set(&mut record, set));
    // Baseline, main and extended say nothing of colours: they have no choice.
    if !matches!(profile, 66 | 77 | 88) {
        let chroma = &parsed.chroma_info;
        let format = u8::try_from(chroma.chroma_format.to_u32()).unwrap_or(1);
        record.extend([
            0xfc | (format & 3),
            0xf8 | (chroma.bit_depth_luma_minus8 & 7),
            0xf8 | (chroma.bit_depth_chroma_minus8 & 7),
            0,
        ]);
    }
    Some(Setup {
        entry: visual_entry(*b"avc1", size, |out| {
            put_box(out, *b"avcC", |out| out.extend(&record));
        }),
        codec: format!("avc1.{profile:02x}{constraints:02x}{level:02x}"),
        timescale: video_timescale(),
        size,
        sets: [sps_sets, pps_sets].concat(),
    })
}

fn put_set(out: &mut Vec<u8>, set: &[u8]) {
    put_u16(out, u16::try_from(set.len()).unwrap_or(0));
    out.extend_from_slice(set);
}

/// The codec's name (ISO/IEC 14496-15, annex E.3), from its profile, tier and level.
fn hevc_name(profile: [u8; 12]) -> String {
    let [head, c0, c1, c2, c3, constraints @ .., level] = profile;
    let space = ["", "A", "B", "C"].get(usize::from(head >> 6)).copied().unwrap_or("");
    let tier = if head & 0x20 == 0 { 'L' } else { 'H' };
    let compatible = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
    let mut name = format!("hvc1.{space}{}.{compatible:X}.{tier}{level}", head & 0x1f);
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in constraints.iter().take(used) {
        // Writing into a string does not fail.
        let _ = write!(name, ".{byte:X}");
    }
    name
}

pub(super) fn hevc(track: &Track, first: Option<&[u8]>) -> Option<Setup> {
    let sets =
        [HEVC_VPS, HEVC_SPS, HEVC_PPS].map(|kind| (kind, sets_of(kind, hevc_kind, track, first)));
    let sps = sets.iter().find(|(kind, _)| *kind == HEVC_SPS)?.1.as_ref()?.first()?;
    let parsed = Sps::read(sps)?;
    let mut record = vec![1];
    record.extend(parsed.profile);
    record.extend([
        // No least spatial segmentation, no kind of parallelism told.
        0xf0,
        0x00,
        0xfc,
        0xfc | (parsed.chroma & 3),
        0xf8 | (parsed.depth_luma & 7),
        0xf8 | (parsed.depth_chroma & 7),
        // No average frame rate; lengths of four bytes.
        0,
        0,
        ((parsed.last_layer + 1) & 7) << 3 | u8::from(parsed.is_nested) << 2 | 3,
    ]);
    record.push(3);
    let mut all = Vec::new();
    for (kind, found) in sets {
        let found = found?;
        // All sets of this type are here.
        record.push(0x80 | kind);
        put_u16(&mut record, u16::try_from(found.len()).unwrap_or(0));
        found.iter().for_each(|set| put_set(&mut record, set));
        all.extend(found);
    }
    Some(Setup {
        entry: visual_entry(*b"hvc1", parsed.size, |out| {
            put_box(out, *b"hvcC", |out| out.extend(&record));
        }),
        codec: hevc_name(parsed.profile),
        timescale: video_timescale(),
        size: parsed.size,
        sets: all,
    })
}

pub(super) fn av1(track: &Track) -> Option<Setup> {
    let [_, head, flags, _] = *track.config.first_chunk()?;
    let (profile, level) = (head >> 5, head & 0x1f);
    let tier = if flags & 0x80 == 0 { 'M' } else { 'H' };
    let depth = match (flags & 0x40 != 0, flags & 0x20 != 0) {
        (false, _) => 8,
        (true, false) => 10,
        (true, true) => 12,
    };
    let size = (track.width, track.height);
    Some(Setup {
        entry: visual_entry(*b"av01", size, |out| {
            put_box(out, *b"av1C", |out| out.extend_from_slice(&track.config));
        }),
        codec: format!("av01.{profile}.{level:02}{tier}.{depth:02}"),
        timescale: video_timescale(),
        size,
        sets: Vec::new(),
    })
}

pub(super) fn vp9(track: &Track, first: Option<&[u8]>) -> Option<Setup> {
    let key = first.and_then(|first| vp9::read(first)?.1);
    let record = match key {
        _ if !track.config.is_empty() => track.config.to_vec(),
        Some(key) => key.record().to_vec(),
        None => return None,
    };
    let [profile, level, format] = *record.first_chunk()?;
    let size = key.map_or((track.width, track.height), |key| key.size);
    Some(Setup {
        entry: visual_entry(*b"vp09", size, |out| {
            put_full_box(out, *b"vpcC", 1, 0, |out| out.extend(&record));
        }),
        codec: format!("vp09.{profile:02}.{level:02}.{:02}", format >> 4),
        timescale: video_timescale(),
        size,
        sets: Vec::new(),
    })
}

fn visual_entry(name: [u8; 4], size: (u16, u16), config: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put_box(&mut out, name, |out| {
        out.extend([0; 6]);
        // The first of the track's data references.
        put_u16(out, 1);
        out.extend([0; 16]);
        put_u16(out, size.0);
        put_u16(out, size.1);
        // 72 dots per inch, both ways.
        put_u32(out, 0x0048_0000);
        put_u32(out, 0x0048_0000);
        put_u32(out, 0);
        // One picture a sample, no name, colours of 24 bits, no palette.
        put_u16(out, 1);
        out.extend([0; 32]);
        put_u16(out, 0x0018);
        put_u16(out, 0xffff);
        config(out);
    });
    out
}
