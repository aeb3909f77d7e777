//! Headers of sound frames: AAC in ADTS, MPEG audio layers I to III, AC-3.
//!
//! Decides how long a frame is and how long it sounds. Cutting a stream into frames is left to
//! [`crate::es::audio`].

use banyan_wire::Codec;

use crate::aac::{ADTS_LEN, RATES};

/// Bytes that [`FrameHeader::read`] needs to see.
pub(crate) const HEADER_LEN: usize = 8;

/// What a frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The frame with its header, in bytes: at least one, at most 8191.
    pub(crate) len: usize,
    /// Samples per channel.
    pub(crate) samples: u32,
    /// Samples per second: never zero.
    pub(crate) rate: u32,
    /// Channels; 0 where the frame has to say.
    pub(crate) channels: u8,
}

impl FrameHeader {
    /// Reads the header of a frame of `codec`; `None` if the bytes are no such header.
    pub(crate) fn read(codec: Codec, head: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER_LEN] = head.get(..HEADER_LEN)?.try_into().ok()?;
        match codec {
            Codec::Aac => adts(head),
            Codec::Mp3 => mpeg(head),
            Codec::Ac3 => ac3(head),
            Codec::H264 | _ => None,
        }
    }
}

fn adts(head: &[u8; HEADER_LEN]) -> Option<FrameHeader> {
    let [b0, b1, b2, b3, b4, b5, b6, _] = *head;
    // Twelve bits of sync word, any version, layer 0.
    if b0 != 0xff || b1 & 0xf6 != 0xf0 {
        return None;
    }
    let rate_index = (b2 >> 2) & 0xf;
    let rate = *RATES.get(usize::from(rate_index))?;
    let channels = (b2 & 1) << 2 | b3 >> 6;
    let len = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
    let header_len = if b1 & 1 == 0 { ADTS_LEN + 2 } else { ADTS_LEN };
    if len <= header_len {
        return None;
    }
    let blocks = u32::from(b6 & 3) + 1;
    let channels = if channels == 7 { 8 } else { channels };
    Some(FrameHeader { len, samples: 1024 * blocks, rate, channels })
}

fn mpeg(head: &[u8; HEADER_LEN]) -> Option<FrameHeader> {
    const V1_L1: [u16; 14] = [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448];
    const V1_L2: [u16; 14] = [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];
    const V1_L3: [u16; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const V2_L1: [u16; 14] = [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256];
    const V2_L23: [u16; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

    let [b0, b1, b2, b3, ..] = *head;
    if b0 != 0xff || b1 & 0xe0 != 0xe0 {
        return None;
    }
    let divisor = match (b1 >> 3) & 3 {
        0b11 => 1, // MPEG-1
        0b10 => 2, // MPEG-2
        0b00 => 4, // MPEG-2.5
        _ => return None,
    };
    let layer = 4 - ((b1 >> 1) & 3);
    let bitrates = match (divisor, layer) {
        (_, 4) => return None,
        (1, 1) => V1_L1,
        (1, 2) => V1_L2,
        (1, _) => V1_L3,
        (_, 1) => V2_L1,
        _ => V2_L23,
    };
    // Index 0 is the free format, whose frames do not say how long they are.
    let bitrate = u32::from(*bitrates.get(usize::from(b2 >> 4).checked_sub(1)?)?) * 1000;
    let rate = [44100, 48000, 32000].get(usize::from((b2 >> 2) & 3))? / divisor;
    let padding = u32::from((b2 >> 1) & 1);
    let samples = match layer {
        1 => 384,
        3 if divisor > 1 => 576,
        _ => 1152,
    };
    let len = if layer == 1 {
        (12 * bitrate / rate + padding) * 4
    } else {
        samples / 8 * bitrate / rate + padding
    };
    let len = usize::try_from(len).ok().filter(|len| *len > HEADER_LEN)?;
    let channels = if b3 >> 6 == 3 { 1 } else { 2 };
    Some(FrameHeader { len, samples, rate, channels })
}

fn ac3(head: &[u8; HEADER_LEN]) -> Option<FrameHeader> {
    const BITRATES: [u32; 19] =
        [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];
    const CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];

    let [b0, b1, _, _, b4, b5, b6, b7] = *head;
    // Streams of a bsid above 10 are E-AC-3, whose headers differ.
    if (b0, b1) != (0x0b, 0x77) || b5 >> 3 > 10 {
        return None;
    }
    let rate = *[48000, 44100, 32000].get(usize::from(b4 >> 6))?;
    let code = b4 & 0x3f;
    let bitrate = *BITRATES.get(usize::from(code >> 1))?;
    let words = match rate {
        48000 => 2 * bitrate,
        44100 => 320 * bitrate / 147 + u32::from(code & 1),
        _ => 3 * bitrate,
    };
    let mode = b6 >> 5;
    // Between the mode and the low frequency flag stand two bits for each of: a centre channel,
    // a surround channel, plain stereo.
    let mut skipped = 0;
    if mode & 1 == 1 && mode != 1 {
        skipped += 2;
    }
    if mode & 4 == 4 {
        skipped += 2;
    }
    if mode == 2 {
        skipped += 2;
    }
    let low_frequency = (u16::from_be_bytes([b6, b7]) >> (12 - skipped)) & 1 == 1;
    let channels = CHANNELS.get(usize::from(mode))? + u8::from(low_frequency);
    let len = usize::try_from(words * 2).ok()?;
    Some(FrameHeader { len, samples: 1536, rate, channels })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::aac::AacConfig;

    #[test]
    fn an_adts_header_reads_back_as_written() {
        let config = AacConfig::read(&[0x11, 0x90]).unwrap();
        for payload in [1, 300, 1017, 8184] {
            let frame = config.to_adts(&vec![0; payload]).unwrap();
            let read = FrameHeader::read(Codec::Aac, &frame).unwrap();
            assert_eq!((read.len, read.samples), (payload + ADTS_LEN, 1024));
            assert_eq!((read.rate, read.channels), (48000, 2));
        }
    }

    #[test]
    fn mpeg_audio_frames_have_the_lengths_of_the_standard() {
        let read = |head| FrameHeader::read(Codec::Mp3, head).unwrap();
        // Layer III, 128 kbit/s, 44.1 kHz, joint stereo, then the same with padding.
        assert_eq!(read(&[0xff, 0xfb, 0x90, 0x64, 0, 0, 0, 0]).len, 417);
        assert_eq!(read(&[0xff, 0xfb, 0x92, 0x64, 0, 0, 0, 0]).len, 418);
        // Layer II, 192 kbit/s, 48 kHz; MPEG-2 layer III, 64 kbit/s, 22.05 kHz, mono.
        assert_eq!(read(&[0xff, 0xfd, 0xa4, 0x04, 0, 0, 0, 0]).len, 576);
        let low = read(&[0xff, 0xf3, 0x80, 0xc4, 0, 0, 0, 0]);
        assert_eq!((low.len, low.samples, low.rate, low.channels), (208, 576, 22050, 1));
        assert_eq!(FrameHeader::read(Codec::Mp3, &[0xff, 0xfb, 0x00, 0x64, 0, 0, 0, 0]), None);
    }

    #[test]
    fn ac3_frames_have_the_lengths_of_the_standard() {
        // 48 kHz, 384 kbit/s, 3/2 with low frequency channel.
        let head = [0x0b, 0x77, 0, 0, 0x1c, 0x40, 0xe1, 0];
        let read = FrameHeader::read(Codec::Ac3, &head).unwrap();
        assert_eq!((read.len, read.samples, read.rate, read.channels), (1536, 1536, 48000, 6));
        // E-AC-3 is something else.
        let head = [0x0b, 0x77, 0, 0, 0x1c, 0x80, 0xe1, 0];
        assert_eq!(FrameHeader::read(Codec::Ac3, &head), None);
    }
}
