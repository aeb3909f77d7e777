//! Sample descriptions: how a track is coded, and how its samples become access units.
//!
//! Decides which sample entries are carried and what the others are called. Pictures change from
//! length-prefixed NAL units to a byte stream with its parameter sets inside, AAC gets ADTS headers;
//! the coded bytes stay as they are.

use banyan_wire::{Codec, Track};
use bytes::Bytes;

use super::boxes::{Boxes, Fields, FoundBox, child};
use super::{Converted, blank_track};
use crate::aac::AacConfig;
use crate::access_unit::Priority;
use crate::h264::{self, DELIMITER, LONG_START_CODE, ParameterSets, nal_type};

/// A track's description, and how to convert its samples.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) format: Format,
    pub(crate) track: Track,
}

/// How samples are stored.
#[derive(Debug)]
pub(crate) enum Format {
    /// NAL units, each after its length in so many bytes (1 to 4).
    Avc { length_size: usize, sets: Bytes },
    /// Raw AAC frames.
    Aac(AacConfig),
    /// Whole frames of another kind of sound.
    Frames,
}

/// Bytes of a sample entry before its boxes, for pictures and for sound.
const VISUAL_LEN: usize = 78;
const SOUND_LEN: usize = 28;

/// Reads the first sample description of an `stbl` box; the name of its codec if it is not carried.
pub(super) fn read(table: &Bytes, is_video: bool) -> Result<Entry, String> {
    let unknown = || "of an unknown codec".to_owned();
    let descriptions =
        child(table, b"stsd").and_then(|body| (body.len() > 8).then(|| body.slice(8..)));
    let FoundBox { name, body } =
        descriptions.and_then(|body| Boxes::new(body).next()).ok_or_else(unknown)?;
    let entry = match &name {
        b"avc1" | b"avc3" if is_video => read_avc(&body),
        b"mp4a" if !is_video => return read_mp4a(&body),
        b".mp3" | b"ms\0U" if !is_video => read_sound(&body, Codec::Mp3),
        b"ac-3" if !is_video => read_sound(&body, Codec::Ac3),
        _ => return Err(codec_name(name)),
    };
    entry.ok_or_else(unknown)
}

fn codec_name(name: [u8; 4]) -> String {
    let known = match &name {
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => "hevc",
        b"vvc1" | b"vvi1" => "vvc",
        b"av01" => "av1",
        b"vp08" => "vp8",
        b"vp09" => "vp9",
        b"mp4v" => "mpeg-4 part 2",
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" => "prores",
        b"jpeg" | b"mjpa" | b"mjpb" => "motion jpeg",
        b"encv" | b"enca" => "encrypted",
        b"ec-3" => "e-ac-3",
        b"Opus" => "opus",
        b"fLaC" => "flac",
        b"alac" => "alac",
        b"sowt" | b"twos" | b"lpcm" | b"ipcm" => "pcm",
        other => return other.escape_ascii().to_string(),
    };
    known.to_owned()
}

fn read_avc(body: &Bytes) -> Option<Entry> {
    let mut fields = Fields::new(body);
    fields.skip(24)?;
    let (width, height) = (fields.u16()?, fields.u16()?);
    let config = child(&body.slice(VISUAL_LEN.min(body.len())..), b"avcC")?;
    let mut entry = avc(&config)?;
    if (entry.track.width, entry.track.height) == (0, 0) {
        (entry.track.width, entry.track.height) = (width, height);
    }
    Some(entry)
}

/// H.264 as an AVCDecoderConfigurationRecord describes it (ISO/IEC 14496-15, 5.3.3.1).
pub(crate) fn avc(config: &[u8]) -> Option<Entry> {
    let mut fields = Fields::new(config);
    fields.skip(4)?;
    let length_size = usize::from(fields.u8()? & 3) + 1;
    let mut sets = ParameterSets::default();
    // Five bits count the sequence parameter sets, eight the picture parameter sets.
    for mask in [0x1f, 0xff] {
        let Some(count) = fields.u8() else { break };
        for _ in 0..count & mask {
            let Some(nal) = fields.u16().and_then(|len| fields.bytes(usize::from(len))) else {
                break;
            };
            sets.keep(nal);
        }
    }
    let mut track = blank_track(Codec::H264);
    track.config = sets.annex_b();
    (track.width, track.height) = sets.size();
    let format = Format::Avc { length_size, sets: track.config.clone() };
    Some(Entry { format, track })
}

/// Channels, sample rate, and where the boxes of a sound entry begin.
fn read_sound_fields(body: &Bytes) -> Option<(u8, u32, Bytes)> {
    let mut fields = Fields::new(body);
    fields.skip(8)?;
    // QuickTime's later versions of the entry have more fields.
    let extra = match fields.u16()? {
        1 => 16,
        2 => 36,
        _ => 0,
    };
    fields.skip(6)?;
    let channels = u8::try_from(fields.u16()?).unwrap_or(0);
    fields.skip(6)?;
    let rate = fields.u32()? >> 16;
    let boxes = body.slice((SOUND_LEN + extra).min(body.len())..);
    Some((channels, rate, boxes))
}

fn read_sound(body: &Bytes, codec: Codec) -> Option<Entry> {
    let (channels, sample_rate, _) = read_sound_fields(body)?;
    let track = Track { channels, sample_rate, ..blank_track(codec) };
    Some(Entry { format: Format::Frames, track })
}

/// An `mp4a` entry holds whatever its descriptors say.
fn read_mp4a(body: &Bytes) -> Result<Entry, String> {
    let unknown = || "sound of an unknown kind".to_owned();
    let (_, _, boxes) = read_sound_fields(body).ok_or_else(unknown)?;
    let descriptors = child(&boxes, b"esds")
        .or_else(|| child(&boxes, b"wave").and_then(|wave| child(&wave, b"esds")))
        .ok_or_else(unknown)?;
    let (object_type, config) = read_descriptors(&descriptors).ok_or_else(unknown)?;
    match object_type {
        0x40 | 0x66..=0x68 => {
            aac(config).ok_or_else(|| "a kind of aac that adts cannot carry".to_owned())
        }
        0x69 | 0x6b => read_sound(body, Codec::Mp3).ok_or_else(unknown),
        0xa5 => read_sound(body, Codec::Ac3).ok_or_else(unknown),
        0xa6 => Err("e-ac-3".to_owned()),
        0xa9 => Err("dts".to_owned()),
        0xdd => Err("vorbis".to_owned()),
        _ => Err(unknown()),
    }
}

/// AAC as an AudioSpecificConfig describes it; `None` if ADTS cannot carry it.
pub(crate) fn aac(config: &[u8]) -> Option<Entry> {
    let config = AacConfig::read(config)?;
    let mut track = blank_track(Codec::Aac);
    track.sample_rate = config.rate();
    track.channels = config.channels();
    track.config = config.to_bytes();
    Some(Entry { format: Format::Aac(config), track })
}

/// The object type and the decoder's configuration of an `esds` box (ISO/IEC 14496-1, 7.2.6).
fn read_descriptors(body: &[u8]) -> Option<(u8, &[u8])> {
    const ES: u8 = 3;
    const DECODER_CONFIG: u8 = 4;
    const DECODER_SPECIFIC: u8 = 5;

    let mut fields = Fields::new(body);
    fields.version()?;
    let mut fields = Fields::new(descriptor(&mut fields, ES)?);
    fields.skip(2)?;
    let flags = fields.u8()?;
    if flags & 0x80 != 0 {
        fields.skip(2)?;
    }
    if flags & 0x40 != 0 {
        let len = fields.u8()?;
        fields.skip(usize::from(len))?;
    }
    if flags & 0x20 != 0 {
        fields.skip(2)?;
    }
    let mut fields = Fields::new(descriptor(&mut fields, DECODER_CONFIG)?);
    let object_type = fields.u8()?;
    fields.skip(12)?;
    Some((object_type, descriptor(&mut fields, DECODER_SPECIFIC).unwrap_or(&[])))
}

/// The body of the next descriptor, if it has this tag. Its length is in sevens of bits.
fn descriptor<'a>(fields: &mut Fields<'a>, tag: u8) -> Option<&'a [u8]> {
    if fields.u8()? != tag {
        return None;
    }
    let mut len = 0usize;
    for _ in 0..4 {
        let byte = fields.u8()?;
        len = len << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    // One that claims too much gets what there is.
    fields.bytes(len.min(fields.rest().len()))
}

impl Format {
    /// A sample as an access unit; `None` if it makes no sense.
    pub(crate) fn convert(&self, sample: Vec<u8>) -> Option<Converted> {
        let sound = |data| Converted { random_access: true, priority: Priority::Audio, data };
        match self {
            Self::Avc { length_size, sets } => convert_avc(&sample, *length_size, sets),
            Self::Aac(config) => Some(sound(config.to_adts(&sample)?.into())),
            Self::Frames => Some(sound(sample.into())),
        }
    }
}

fn convert_avc(sample: &[u8], length_size: usize, sets: &[u8]) -> Option<Converted> {
    let nals = split_nals(sample, length_size)?;
    let has = |wanted: u8| nals.iter().any(|(kind, _)| *kind == wanted);
    let pictures = || {
        let slices = nal_type::SLICE..=nal_type::IDR_SLICE;
        nals.iter().filter(move |(kind, _)| slices.contains(kind)).map(|(_, nal)| nal)
    };
    pictures().next()?;
    let is_recovery =
        nals.iter().any(|(kind, nal)| *kind == nal_type::SEI && h264::has_recovery_point(nal));
    // The file's own table of samples to start at is not asked: a viewer has only the pictures.
    let random_access = has(nal_type::IDR_SLICE) || is_recovery;
    let is_reference =
        pictures().any(|nal| nal.first().is_some_and(|head| h264::ref_idc(*head) != 0));

    let mut data = Vec::with_capacity(sample.len() + sets.len() + 4 * nals.len() + DELIMITER.len());
    let mut rest = nals.as_slice();
    match rest {
        [(nal_type::AUD, delimiter), tail @ ..] => {
            data.extend(LONG_START_CODE);
            data.extend_from_slice(delimiter);
            rest = tail;
        }
        _ => data.extend(DELIMITER),
    }
    if random_access && !has(nal_type::SPS) {
        data.extend_from_slice(sets);
    }
    for (kind, nal) in rest {
        // Parameter sets take the long start code, other NAL units the short one.
        let is_set = matches!(*kind, nal_type::SPS | nal_type::PPS);
        let code = if is_set { LONG_START_CODE.as_slice() } else { &LONG_START_CODE[1..] };
        data.extend_from_slice(code);
        data.extend_from_slice(nal);
    }
    let priority = match (random_access, is_reference) {
        (true, _) => Priority::Key,
        (false, true) => Priority::Reference,
        (false, false) => Priority::Droppable,
    };
    Some(Converted { random_access, priority, data: data.into() })
}

/// The NAL units of a sample with their types; `None` if a length leads beyond its end.
fn split_nals(sample: &[u8], length_size: usize) -> Option<Vec<(u8, &[u8])>> {
    let mut nals = Vec::new();
    let mut rest = sample;
    while !rest.is_empty() {
        let (len, tail) = rest.split_at_checked(length_size)?;
        let len = len.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte));
        let (nal, tail) = tail.split_at_checked(len)?;
        if let Some(header) = nal.first() {
            nals.push((h264::kind(*header), nal));
        }
        rest = tail;
    }
    Some(nals)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_key_picture_gets_delimiter_and_parameter_sets() {
        let sample = [0, 0, 0, 2, 0x65, 0x88, 0, 0, 0, 2, 0x65, 0x77];
        let unit = convert_avc(&sample, 4, &[0, 0, 0, 1, 0x67, 9]).unwrap();
        let expected =
            [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 0, 1, 0x67, 9, 0, 0, 1, 0x65, 0x88, 0, 0, 1, 0x65, 0x77];
        assert_eq!(unit.data, expected.as_slice());
        assert_eq!((unit.random_access, unit.priority), (true, Priority::Key));
    }

    #[test]
    fn other_pictures_get_a_delimiter_only() {
        let unit = convert_avc(&[0, 2, 0x01, 0x9a], 2, &[0, 0, 0, 1, 0x67, 9]).unwrap();
        assert_eq!(unit.data, [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 1, 0x01, 0x9a].as_slice());
        assert_eq!((unit.random_access, unit.priority), (false, Priority::Droppable));
    }

    #[test]
    fn a_sample_whose_lengths_lie_is_no_unit() {
        assert!(convert_avc(&[0, 0, 0, 9, 0x65], 4, &[]).is_none());
        assert!(convert_avc(&[0, 0], 4, &[]).is_none());
        assert!(convert_avc(&[], 4, &[]).is_none());
    }

    #[test]
    fn descriptors_are_read_in_long_and_short_form() {
        let short = [
            0, 0, 0, 0, 3, 22, 0, 1, 0, 4, 17, 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 2,
            0x11, 0x90,
        ];
        assert_eq!(read_descriptors(&short), Some((0x40, &[0x11, 0x90][..])));
        let mut long = short.to_vec();
        long.splice(25..26, [0x80, 0x80, 0x80, 2]);
        // What holds it grows as well.
        long[5] += 3;
        long[10] += 3;
        assert_eq!(read_descriptors(&long), Some((0x40, &[0x11, 0x90][..])));
        assert_eq!(read_descriptors(&short[..12]), None);
    }
}
