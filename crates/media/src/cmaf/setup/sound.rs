//! Sample entries of sound: `mp4a`, `ac-3` and `Opus`.
//!
//! Decides which entry and name each codec gets. Frames are not looked into further than their
//! headers.

use banyan_wire::{Codec, Track};

use super::Setup;
use crate::aac::AacConfig;
use crate::audio::FrameHeader;
use crate::cmaf::boxes::{put_box, put_full_box, put_u16, put_u32};

/// Opus is always timed at 48 kHz (RFC 7845).
const OPUS_RATE: u32 = 48_000;

/// What an `esds` box calls a codec (ISO/IEC 14496-1, table 5).
const OBJECT_AAC: u8 = 0x40;
const OBJECT_MPEG2_AUDIO: u8 = 0x69;
const OBJECT_MPEG1_AUDIO: u8 = 0x6b;

pub(super) fn aac(track: &Track, first: Option<&[u8]>) -> Option<Setup> {
    let in_band = first.and_then(AacConfig::read_adts);
    let config = in_band.or_else(|| AacConfig::read(&track.config))?;
    let bytes = config.to_bytes();
    let object_type = bytes.first()? >> 3;
    let channels = if config.channels() == 0 { track.channels } else { config.channels() };
    Some(Setup {
        entry: audio_entry(*b"mp4a", channels, config.rate(), |out| {
            put_esds(out, OBJECT_AAC, &bytes);
        }),
        codec: format!("mp4a.40.{object_type}"),
        timescale: config.rate(),
        size: (0, 0),
        sets: Vec::new(),
    })
}

pub(super) fn mpeg(track: &Track, first: &[u8]) -> Option<Setup> {
    let header = FrameHeader::read(Codec::Mp3, first)?;
    // Two bits name the version; MPEG-1 is the highest.
    let is_mpeg1 = first.get(1).is_some_and(|byte| byte & 0x18 == 0x18);
    let object = if is_mpeg1 { OBJECT_MPEG1_AUDIO } else { OBJECT_MPEG2_AUDIO };
    let channels = if header.channels == 0 { track.channels } else { header.channels };
    Some(Setup {
        entry: audio_entry(*b"mp4a", channels, header.rate, |out| put_esds(out, object, &[])),
        codec: format!("mp4a.{object:02x}"),
        timescale: header.rate,
        size: (0, 0),
        sets: Vec::new(),
    })
}

pub(super) fn ac3(track: &Track, first: &[u8]) -> Option<Setup> {
    let header = FrameHeader::read(Codec::Ac3, first)?;
    let [_, _, _, _, b4, b5, b6, _] = *first.first_chunk()?;
    let mode = b6 >> 5;
    // The low frequency flag stands behind fields that depend on the mode.
    let full = [2, 1, 2, 3, 3, 4, 4, 5].get(usize::from(mode)).copied().unwrap_or(2);
    let low_frequency = u32::from(header.channels > full);
    let fields = u32::from(b4 >> 6) << 22
        | u32::from(b5 >> 3) << 17
        | u32::from(b5 & 7) << 14
        | u32::from(mode) << 11
        | low_frequency << 10
        | u32::from((b4 & 0x3f) >> 1) << 5;
    let [_, record @ ..] = fields.to_be_bytes();
    let channels = if header.channels == 0 { track.channels } else { header.channels };
    Some(Setup {
        entry: audio_entry(*b"ac-3", channels, header.rate, |out| {
            put_box(out, *b"dac3", |out| out.extend(record));
        }),
        codec: "ac-3".to_owned(),
        timescale: header.rate,
        size: (0, 0),
        sets: Vec::new(),
    })
}

pub(super) fn opus(track: &Track) -> Option<Setup> {
    let header = track.config.strip_prefix(b"OpusHead")?;
    let [_, channels, skip0, skip1, r0, r1, r2, r3, gain0, gain1, family] =
        *header.first_chunk()?;
    let table = header.get(11..)?;
    // Families other than 0 have a table: two counts and a place for each channel.
    let table = if family == 0 { &[] } else { table.get(..2 + usize::from(channels))? };
    let mut record = vec![0, channels, skip1, skip0, r3, r2, r1, r0, gain1, gain0, family];
    record.extend_from_slice(table);
    Some(Setup {
        entry: audio_entry(*b"Opus", channels, OPUS_RATE, |out| {
            put_box(out, *b"dOps", |out| out.extend(&record));
        }),
        codec: "opus".to_owned(),
        timescale: OPUS_RATE,
        size: (0, 0),
        sets: Vec::new(),
    })
}

/// How many samples at 48 kHz a packet holds (RFC 6716, 3.1).
pub(super) fn opus_samples(packet: &[u8]) -> Option<u32> {
    let [toc, rest @ ..] = packet else { return None };
    let config = toc >> 3;
    let frame = match config {
        0..=11 => *[480, 960, 1920, 2880].get(usize::from(config & 3))?,
        12..=15 => *[480, 960].get(usize::from(config & 1))?,
        _ => *[120, 240, 480, 960].get(usize::from(config & 3))?,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    // A packet holds 120 ms at most.
    Some(frame * frames).filter(|samples| (1..=5760).contains(samples))
}

fn audio_entry(
    name: [u8; 4],
    channels: u8,
    rate: u32,
    config: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut out = Vec::new();
    put_box(&mut out, name, |out| {
        out.extend([0; 6]);
        // The first of the track's data references.
        put_u16(out, 1);
        out.extend([0; 8]);
        put_u16(out, u16::from(channels));
        put_u16(out, 16);
        put_u32(out, 0);
        // Rates that 16 bits do not hold are left to the codec.
        put_u32(out, u16::try_from(rate).map_or(0, |rate| u32::from(rate) << 16));
        config(out);
    });
    out
}

/// The descriptors of ISO/IEC 14496-1, each with its tag and a length of one byte: a channel table
/// makes a configuration of some 60 bytes at most.
fn put_esds(out: &mut Vec<u8>, object: u8, config: &[u8]) {
    let descriptor = |tag: u8, body: &[u8]| {
        let mut out = vec![tag, u8::try_from(body.len().min(127)).unwrap_or(0)];
        out.extend(body.iter().take(127));
        out
    };
    // An audio stream, whose buffer and rates are not told.
    let mut decoder = vec![object, 0x15];
    decoder.extend([0; 11]);
    if !config.is_empty() {
        decoder.extend(descriptor(5, config));
    }
    let mut stream = vec![0, 0, 0];
    stream.extend(descriptor(4, &decoder));
    // Predefined: as in MP4 files.
    stream.extend(descriptor(6, &[2]));
    put_full_box(out, *b"esds", 0, 0, |out| out.extend(descriptor(3, &stream)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opus_packets_have_the_lengths_of_the_standard() {
        // CELT fullband 20 ms: one frame, two, three.
        assert_eq!(opus_samples(&[31 << 3]), Some(960));
        assert_eq!(opus_samples(&[31 << 3 | 1]), Some(1920));
        assert_eq!(opus_samples(&[31 << 3 | 3, 3]), Some(2880));
        // SILK wideband 60 ms, hybrid 10 ms, CELT 2.5 ms.
        assert_eq!(opus_samples(&[11 << 3]), Some(2880));
        assert_eq!(opus_samples(&[12 << 3]), Some(480));
        assert_eq!(opus_samples(&[16 << 3]), Some(120));
        for wrong in [&[][..], &[31 << 3 | 3], &[31 << 3 | 3, 0], &[31 << 3 | 3, 63]] {
            assert_eq!(opus_samples(wrong), None, "{wrong:?}");
        }
    }
}
