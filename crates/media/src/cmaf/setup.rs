//! What an init segment says of one track: its sample entry, its codec's name, its clock.
//!
//! Decides how each codec is named and configured, and how an access unit becomes a sample: parameter
//! sets and ADTS headers are left out, NAL units get their length in front. When a sample is shown
//! is left to [`super::timing`].

mod sound;
mod video;

use banyan_wire::{Codec, MediaTime, Track};
use bytes::Bytes;

use crate::aac::ADTS_LEN;
use crate::annexb::nal_units;
use crate::nal::{NalCodec, Role};

/// How a track's samples are coded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// The sample entry, a box.
    pub(super) entry: Vec<u8>,
    /// The codec's name after RFC 6381.
    pub(super) codec: String,
    /// Ticks per second: for sound its sample rate, so that nothing is rounded.
    pub(super) timescale: u32,
    /// In pixels; zeros for sound, or where not known.
    pub(super) size: (u16, u16),
    /// The parameter sets in the entry, which samples therefore leave out.
    pub(super) sets: Vec<Bytes>,
}

impl Setup {
    /// Describes a track by its configuration and the first unit that decoding can begin with, as
    /// far as they are there. `None` if they do not say enough.
    ///
    /// What stands in the unit counts: the configuration travels another way and may be newer or
    /// older.
    pub(super) fn new(track: &Track, first: Option<&[u8]>) -> Option<Self> {
        match track.codec {
            Codec::H264 => video::h264(track, first),
            Codec::Hevc => video::hevc(track, first),
            Codec::Av1 => video::av1(track),
            Codec::Vp9 => video::vp9(track, first),
            Codec::Aac => sound::aac(track, first),
            Codec::Mp3 => sound::mpeg(track, first?),
            Codec::Ac3 => sound::ac3(track, first?),
            Codec::Opus => sound::opus(track),
            _ => None,
        }
    }

    /// Appends a unit's sample; nothing where no sample is left.
    pub(super) fn put_sample(&self, codec: Codec, data: &[u8], out: &mut Vec<u8>) {
        match codec {
            Codec::H264 => self.put_nal_units(data, NalCodec::H264, out),
            Codec::Hevc => self.put_nal_units(data, NalCodec::Hevc, out),
            Codec::Aac => out.extend_from_slice(without_adts(data)),
            Codec::Av1 | Codec::Vp9 | Codec::Mp3 | Codec::Ac3 | Codec::Opus | _ => {
                out.extend_from_slice(data);
            }
        }
    }

    fn put_nal_units(&self, data: &[u8], codec: NalCodec, out: &mut Vec<u8>) {
        for nal in nal_units(data) {
            if codec.role(nal) == Role::Delimiter || self.sets.iter().any(|set| set == nal) {
                continue;
            }
            // An access unit has some megabytes at most.
            let len = u32::try_from(nal.len()).unwrap_or(0);
            out.extend(len.to_be_bytes());
            out.extend_from_slice(nal);
        }
    }
}

/// How long a frame of sound lasts, in samples; `None` for pictures and what is no frame.
pub(super) fn samples(codec: Codec, data: &[u8]) -> Option<u32> {
    if codec == Codec::Opus {
        return sound::opus_samples(data);
    }
    crate::audio::FrameHeader::read(codec, data).map(|header| header.samples)
}

/// Ticks per second of pictures.
fn video_timescale() -> u32 {
    u32::try_from(MediaTime::HZ).unwrap_or(90_000)
}

fn without_adts(frame: &[u8]) -> &[u8] {
    // A checksum of two bytes may follow the header.
    let has_checksum = frame.get(1).is_some_and(|byte| byte & 1 == 0);
    let len = if has_checksum { ADTS_LEN + 2 } else { ADTS_LEN };
    frame.get(len..).unwrap_or_default()
}
