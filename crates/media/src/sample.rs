//! How files store what they carry: codec configurations and samples, whichever file it is.
//!
//! Decides how a sample of MP4 or Matroska becomes an access unit. NAL units change from
//! length-prefixed ones to a byte stream with its parameter sets inside, OBUs get their sizes, AAC
//! gets ADTS headers; the coded bytes stay as they are. Finding samples is left to [`crate::mp4`] and
//! [`crate::matroska`].

use banyan_wire::{Codec, Rendition, Track, TrackId};
use bytes::Bytes;

use crate::aac::AacConfig;
use crate::access_unit::Priority;
use crate::annexb::LONG_START_CODE;
use crate::audio::FrameHeader;
use crate::nal::{NalCodec, ParameterSets, Role};
use crate::{av1, opus, vp9};

/// How the samples of a track are stored.
#[derive(Debug)]
pub(crate) enum Format {
    /// NAL units, each after its length.
    Nal(Nal),
    /// OBUs.
    Av1(av1::Stream),
    /// Frames and superframes of VP9; what the last key frame said, and whether that was new.
    Vp9 { format: Option<vp9::Format>, is_changed: bool },
    /// Raw AAC frames.
    Aac(AacConfig),
    /// Whole frames or packets of another kind of sound.
    Frames(Codec),
}

/// NAL units, each after its length.
#[derive(Debug)]
pub(crate) struct Nal {
    /// Bytes of a length: 1 to 4.
    length_size: usize,
    sets: ParameterSets,
    /// The sets as a byte stream.
    config: Bytes,
    is_changed: bool,
}

/// Most NAL units of one sample; one with more is senseless. A picture of 2160p in many small slices
/// has some hundreds.
const MAX_NALS: usize = 8192;

/// A track's format and description; the description has neither id nor language yet.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) format: Format,
    pub(crate) track: Track,
}

/// A sample as an access unit's bytes.
#[derive(Debug)]
pub(crate) struct Converted {
    pub(crate) random_access: bool,
    pub(crate) priority: Priority,
    pub(crate) data: Bytes,
}

/// Reads an AVCDecoderConfigurationRecord. `size` is what the file says of the pictures.
pub(crate) fn avc(record: &[u8], size: (u16, u16)) -> Option<Described> {
    let mut fields = record.get(4..)?;
    let length_size = usize::from(take(&mut fields)? & 3) + 1;
    let mut sets = ParameterSets::new(NalCodec::H264);
    // Five bits count the sequence parameter sets, eight the picture parameter sets.
    for mask in [0x1f, 0xff] {
        let Some(count) = take(&mut fields) else { break };
        for _ in 0..count & mask {
            let Some(nal) = take_nal(&mut fields) else { break };
            sets.keep(nal);
        }
    }
    Some(nal(length_size, sets, size))
}

/// Reads an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1).
pub(crate) fn hevc(record: &[u8], size: (u16, u16)) -> Option<Described> {
    let mut fields = record.get(21..)?;
    let length_size = usize::from(take(&mut fields)? & 3) + 1;
    let mut sets = ParameterSets::new(NalCodec::Hevc);
    for _ in 0..take(&mut fields).unwrap_or(0) {
        // The type of these NAL units stands in each of them, too.
        let (Some(_), Some(high), Some(low)) =
            (take(&mut fields), take(&mut fields), take(&mut fields))
        else {
            break;
        };
        for _ in 0..u16::from_be_bytes([high, low]) {
            let Some(nal) = take_nal(&mut fields) else { break };
            sets.keep(nal);
        }
    }
    Some(nal(length_size, sets, size))
}

fn take(fields: &mut &[u8]) -> Option<u8> {
    let (first, rest) = fields.split_first()?;
    *fields = rest;
    Some(*first)
}

fn take_nal<'a>(fields: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = fields.split_first_chunk::<2>()?;
    let (nal, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    *fields = rest;
    Some(nal)
}

fn nal(length_size: usize, sets: ParameterSets, size: (u16, u16)) -> Described {
    let config = sets.annex_b();
    let mut track = Track { config: config.clone(), ..blank_track(sets.codec().codec()) };
    (track.width, track.height) = if sets.size() == (0, 0) { size } else { sets.size() };
    let format = Format::Nal(Nal { length_size, sets, config, is_changed: false });
    Described { format, track }
}

/// Reads an AV1CodecConfigurationRecord.
pub(crate) fn av1(record: &[u8], size: (u16, u16)) -> Option<Described> {
    let stream = av1::Stream::new(record)?;
    let mut track = Track { config: stream.record(), ..blank_track(Codec::Av1) };
    (track.width, track.height) = if stream.size() == (0, 0) { size } else { stream.size() };
    Some(Described { format: Format::Av1(stream), track })
}

/// VP9, with the VPCodecConfigurationRecord if there is one.
pub(crate) fn vp9(record: &[u8], size: (u16, u16)) -> Described {
    let config = if record.len() == vp9::RECORD_LEN { record } else { &[] };
    let config = Bytes::copy_from_slice(config);
    let track = Track { config, width: size.0, height: size.1, ..blank_track(Codec::Vp9) };
    Described { format: Format::Vp9 { format: None, is_changed: false }, track }
}

/// Reads an AudioSpecificConfig; `None` for kinds of AAC that ADTS cannot carry.
pub(crate) fn aac(config: &[u8]) -> Option<Described> {
    let config = AacConfig::read(config)?;
    let track = Track {
        sample_rate: config.rate(),
        channels: config.channels(),
        config: config.to_bytes(),
        ..blank_track(Codec::Aac)
    };
    Some(Described { format: Format::Aac(config), track })
}

/// Reads an identification header of Opus.
pub(crate) fn opus(head: &[u8]) -> Option<Described> {
    let channels = opus::read_channels(head)?;
    let config = Bytes::copy_from_slice(head.get(..21 + usize::from(channels)).unwrap_or(head));
    let track = Track { channels, sample_rate: opus::RATE, config, ..blank_track(Codec::Opus) };
    Some(Described { format: Format::Frames(Codec::Opus), track })
}

/// Sound whose frames say all there is to say.
pub(crate) fn frames(codec: Codec, channels: u8, sample_rate: u32) -> Described {
    let track = Track { channels, sample_rate, ..blank_track(codec) };
    Described { format: Format::Frames(codec), track }
}

/// The description of a track of which nothing but its codec is known.
pub(crate) fn blank_track(codec: Codec) -> Track {
    Track {
        id: TrackId(0),
        codec,
        width: 0,
        height: 0,
        sample_rate: 0,
        channels: 0,
        language: String::new(),
        rendition: Rendition::Full,
        config: Bytes::new(),
    }
}

impl Format {
    /// A sample as an access unit; `None` if it makes no sense.
    pub(crate) fn convert(&mut self, sample: Bytes) -> Option<Converted> {
        let sound = |data| Converted { random_access: true, priority: Priority::Audio, data };
        let picture =
            |priority, data| Converted { random_access: priority == Priority::Key, priority, data };
        match self {
            Self::Nal(nal) => nal.convert(&sample),
            Self::Av1(stream) => {
                stream.convert(&sample).map(|unit| picture(unit.priority, unit.data))
            }
            Self::Vp9 { format, is_changed } => {
                let (priority, found) = vp9::read(&sample)?;
                if found.is_some() && found != *format {
                    *format = found;
                    *is_changed = true;
                }
                Some(picture(priority, sample))
            }
            Self::Aac(config) => Some(sound(config.to_adts(&sample)?.into())),
            Self::Frames(Codec::Opus) => opus::samples(&sample).map(|_| sound(sample)),
            Self::Frames(_) => Some(sound(sample)),
        }
    }

    /// Brings a track's description up to what the samples say; `true` if that changed it.
    pub(crate) fn refresh(&mut self, track: &mut Track) -> bool {
        let before = track.clone();
        match self {
            Self::Nal(nal) => {
                if std::mem::take(&mut nal.is_changed) {
                    track.config = nal.config.clone();
                    if nal.sets.size() != (0, 0) {
                        (track.width, track.height) = nal.sets.size();
                    }
                }
            }
            Self::Av1(stream) => {
                if stream.take_changed() {
                    track.config = stream.record();
                    (track.width, track.height) = stream.size();
                }
            }
            Self::Vp9 { format, is_changed } => {
                if let (true, Some(format)) = (std::mem::take(is_changed), *format) {
                    // The file's own record says more, as long as it is of these pictures.
                    if track.config.is_empty() || (track.width, track.height) != format.size {
                        track.config = Bytes::copy_from_slice(&format.record());
                    }
                    (track.width, track.height) = format.size;
                }
            }
            Self::Aac(_) | Self::Frames(_) => {}
        }
        *track != before
    }

    /// How many pictures may be decoded before one that is shown before them; `None` if the track
    /// does not say.
    pub(crate) fn reorder_depth(&self) -> Option<usize> {
        match self {
            Self::Nal(nal) => nal.sets.reorder_depth(),
            Self::Av1(_) | Self::Vp9 { .. } | Self::Aac(_) | Self::Frames(_) => Some(0),
        }
    }

    /// How long a sample of sound is heard, as samples and their rate; `None` if it does not say.
    pub(crate) fn duration(&self, sample: &[u8]) -> Option<(u32, u32)> {
        match self {
            Self::Aac(config) => Some((1024, config.rate())),
            Self::Frames(Codec::Opus) => Some((opus::samples(sample)?, opus::RATE)),
            Self::Frames(codec) => {
                FrameHeader::read(*codec, sample).map(|header| (header.samples, header.rate))
            }
            Self::Nal(_) | Self::Av1(_) | Self::Vp9 { .. } => None,
        }
    }

    /// Whether enough is known of the track that its samples can be decoded.
    pub(crate) fn is_described(&self) -> bool {
        match self {
            Self::Nal(nal) => nal.sets.is_complete(),
            Self::Av1(stream) => stream.size() != (0, 0),
            Self::Vp9 { .. } | Self::Aac(_) | Self::Frames(_) => true,
        }
    }
}

impl Nal {
    fn convert(&mut self, sample: &[u8]) -> Option<Converted> {
        let codec = self.sets.codec();
        let nals = split_nals(codec, sample, self.length_size)?;
        for (_, nal) in nals.iter().filter(|(role, _)| *role == Role::ParameterSet) {
            self.is_changed |= self.sets.keep(nal);
        }
        if self.is_changed {
            self.config = self.sets.annex_b();
        }
        let has = |wanted: Role| nals.iter().any(|(role, _)| *role == wanted);
        let slices = || nals.iter().filter(|(role, _)| *role == Role::Slice);
        slices().next()?;
        let (mut is_entry, mut is_reference) = (false, false);
        for (_, nal) in slices() {
            let head = self.sets.slice_head(nal);
            is_entry |= head.is_entry;
            is_reference |= head.is_reference;
        }
        // The file's own table of samples to start at is not asked: a viewer has only the pictures.
        let random_access = is_entry
            || nals
                .iter()
                .any(|(role, nal)| *role == Role::Message && codec.has_recovery_point(nal));
        let has_sps = has(Role::ParameterSet) && nals.iter().any(|(_, nal)| codec.is_sps(nal));

        let extra = self.config.len() + 4 * nals.len() + codec.delimiter().len();
        let mut data = Vec::with_capacity(sample.len() + extra);
        let mut rest = nals.as_slice();
        match rest {
            [(Role::Delimiter, delimiter), tail @ ..] => {
                data.extend(LONG_START_CODE);
                data.extend_from_slice(delimiter);
                rest = tail;
            }
            _ => data.extend_from_slice(codec.delimiter()),
        }
        if random_access && !has_sps {
            data.extend_from_slice(&self.config);
        }
        for (role, nal) in rest {
            // Parameter sets take the long start code, other NAL units the short one.
            let is_set = *role == Role::ParameterSet;
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
}

/// The NAL units of a sample with their roles; `None` if a length leads beyond its end.
fn split_nals(codec: NalCodec, sample: &[u8], length_size: usize) -> Option<Vec<(Role, &[u8])>> {
    let mut nals = Vec::new();
    let mut rest = sample;
    while !rest.is_empty() {
        let (len, tail) = rest.split_at_checked(length_size)?;
        let len = len.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte));
        let (nal, tail) = tail.split_at_checked(len)?;
        if nals.len() >= MAX_NALS {
            return None;
        }
        if !nal.is_empty() {
            nals.push((codec.role(nal), nal));
        }
        rest = tail;
    }
    Some(nals)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn h264(length_size: usize, sample: &'static [u8], config: &'static [u8]) -> Option<Converted> {
        let sets = ParameterSets::new(NalCodec::H264);
        let config = Bytes::from_static(config);
        Nal { length_size, sets, config, is_changed: false }.convert(sample)
    }

    #[test]
    fn a_key_picture_gets_delimiter_and_parameter_sets() {
        let sample = &[0, 0, 0, 2, 0x65, 0x88, 0, 0, 0, 2, 0x65, 0x77];
        let unit = h264(4, sample, &[0, 0, 0, 1, 0x67, 9]).unwrap();
        let expected =
            [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 0, 1, 0x67, 9, 0, 0, 1, 0x65, 0x88, 0, 0, 1, 0x65, 0x77];
        assert_eq!(unit.data, expected.as_slice());
        assert_eq!((unit.random_access, unit.priority), (true, Priority::Key));
    }

    #[test]
    fn other_pictures_get_a_delimiter_only() {
        let unit = h264(2, &[0, 2, 0x01, 0x9a], &[0, 0, 0, 1, 0x67, 9]).unwrap();
        assert_eq!(unit.data, [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 1, 0x01, 0x9a].as_slice());
        assert_eq!((unit.random_access, unit.priority), (false, Priority::Droppable));
    }

    #[test]
    fn a_sample_whose_lengths_lie_is_no_unit() {
        assert!(h264(4, &[0, 0, 0, 9, 0x65], &[]).is_none());
        assert!(h264(4, &[0, 0], &[]).is_none());
        assert!(h264(4, &[], &[]).is_none());
        static MANY: [u8; 40_000] = [1; 40_000];
        assert!(h264(1, &MANY, &[]).is_none());
    }

    #[test]
    fn a_record_cut_short_gives_what_there_is() {
        assert!(avc(&[1, 100, 0, 30], (0, 0)).is_none());
        let found = avc(&[1, 100, 0, 30, 0xff, 0xe1, 0, 9, 0x67], (320, 180)).unwrap();
        assert_eq!((found.track.width, found.track.height), (320, 180));
        assert!(found.track.config.is_empty());
        assert!(hevc(&[1; 21], (0, 0)).is_none());
        assert!(hevc(&[0xff; 60], (0, 0)).is_some());
    }

    #[test]
    fn a_packet_of_opus_that_is_none_is_no_unit() {
        let mut format = opus(&opus::head(2).unwrap()).unwrap().format;
        assert!(format.convert(Bytes::from_static(&[0xfc, 1, 2])).is_some());
        assert!(format.convert(Bytes::new()).is_none());
        assert_eq!(format.duration(&[0xfc]), Some((960, 48_000)));
    }
}
