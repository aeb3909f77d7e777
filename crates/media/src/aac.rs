//! What configures AAC: the AudioSpecificConfig of files, the ADTS header of streams.
//!
//! Decides which kinds of AAC can be carried as ADTS. A layout of channels that has no number, as 5.1
//! from some encoders, stands in a table (`program_config_element`): in files within the
//! configuration, in streams within frames. It is put into every frame, so that a viewer may join at
//! any.

use bytes::Bytes;

use crate::bits::BitReader;

/// Samples per second by index, ISO/IEC 14496-3 table 1.18.
pub(crate) const RATES: [u32; 13] =
    [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];

/// Bytes of an ADTS header without a checksum.
pub(crate) const ADTS_LEN: usize = 7;

/// Identifies a channel table among the elements of a frame: three bits.
const ID_PCE: u32 = 5;

/// How the frames of a track are coded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AacConfig {
    object_type: u8,
    rate_index: u8,
    /// The number of a layout of channels; 0 if a table describes it.
    layout: u8,
    table: Option<ChannelTable>,
}

/// A table of channels, without its comment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ChannelTable {
    bits: Bits,
    channels: u8,
}

impl AacConfig {
    /// Reads an AudioSpecificConfig; `None` for kinds of AAC that ADTS cannot carry.
    pub(crate) fn read(config: &[u8]) -> Option<Self> {
        let mut bits = BitReader::new(config);
        let mut object_type = bits.u8(5)?;
        let rate_index = bits.u8(4)?;
        let layout = bits.u8(4)?;
        // Explicit SBR and parametric stereo: the config goes on with the core's object type. ADTS
        // carries the core; decoders find the rest by themselves.
        if matches!(object_type, 5 | 29) {
            // Index 15 means that the rate itself follows.
            if bits.u8(4)? == 15 {
                return None;
            }
            object_type = bits.u8(5)?;
        }
        // Frames of 960 samples, or a core coder below: not in ADTS.
        let is_short = bits.take(1)? == 1;
        let has_core = bits.take(1)? == 1;
        bits.take(1)?;
        let table = if layout == 0 { Some(ChannelTable::read(&mut bits)?) } else { None };
        let fits = (1..=4).contains(&object_type)
            && usize::from(rate_index) < RATES.len()
            && layout <= 7
            && !is_short
            && !has_core;
        fits.then_some(Self { object_type, rate_index, layout, table })
    }

    /// What an ADTS frame says; `None` if it is none, or leaves the layout of channels to an earlier
    /// frame.
    pub(crate) fn read_adts(frame: &[u8]) -> Option<Self> {
        let [_, b1, b2, b3, ..] = *frame else { return None };
        let layout = (b2 & 1) << 2 | b3 >> 6;
        let table = if layout == 0 {
            let checksum = if b1 & 1 == 0 { 2 } else { 0 };
            let mut bits = BitReader::new(frame.get(ADTS_LEN + checksum..)?);
            if bits.take(3)? != ID_PCE {
                return None;
            }
            Some(ChannelTable::read(&mut bits)?)
        } else {
            None
        };
        Some(Self { object_type: (b2 >> 6) + 1, rate_index: (b2 >> 2) & 0xf, layout, table })
    }

    /// Samples per second.
    pub(crate) fn rate(&self) -> u32 {
        RATES.get(usize::from(self.rate_index)).copied().unwrap_or(48000)
    }

    /// Channels.
    pub(crate) fn channels(&self) -> u8 {
        match (&self.table, self.layout) {
            (Some(table), _) => table.channels,
            (None, 7) => 8,
            (None, layout) => layout,
        }
    }

    /// The AudioSpecificConfig in its shortest form.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut out = Bits::default();
        out.put(u32::from(self.object_type), 5);
        out.put(u32::from(self.rate_index), 4);
        out.put(u32::from(self.layout), 4);
        out.put(0, 3);
        if let Some(table) = &self.table {
            table.write(&mut out);
        }
        out.bytes.into()
    }

    /// A frame with an ADTS header in front; `None` if it is too long for one.
    pub(crate) fn to_adts(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut table = Bits::default();
        if let Some(found) = &self.table {
            table.put(ID_PCE, 3);
            found.write(&mut table);
        }
        let len = ADTS_LEN + table.bytes.len() + frame.len();
        let len = u16::try_from(len).ok().filter(|len| *len < 1 << 13)?;
        // Thirteen bits, over three bytes: two, eight, three.
        let [_, top] = (len >> 11).to_be_bytes();
        let [_, middle] = (len >> 3).to_be_bytes();
        let [_, low] = (len << 5).to_be_bytes();
        let mut out = Vec::with_capacity(usize::from(len));
        out.extend([
            0xff,
            // MPEG-4, layer 0, no checksum.
            0xf1,
            (self.object_type - 1) << 6 | self.rate_index << 2 | self.layout >> 2,
            (self.layout & 3) << 6 | top,
            middle,
            // Then "variable rate" as buffer fullness.
            low | 0x1f,
            0xfc,
        ]);
        out.extend(table.bytes);
        out.extend_from_slice(frame);
        Some(out)
    }
}

impl ChannelTable {
    /// Reads a table, behind its identifier (ISO/IEC 14496-3, 4.4.1.1).
    fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        let start = bits.position();
        // Tag, object type, sample rate.
        bits.take(4 + 2 + 4)?;
        // Elements in front, at the sides, in the back; of low frequency, of data, for coupling.
        let [front, side, back] = [bits.take(4)?, bits.take(4)?, bits.take(4)?];
        let [low, data, coupling] = [bits.take(2)?, bits.take(3)?, bits.take(4)?];
        // Down-mixes to one channel, to two, by a matrix.
        for len in [4, 4, 3] {
            if bits.take(1)? == 1 {
                bits.take(len)?;
            }
        }
        let mut channels = 0;
        for _ in 0..front + side + back {
            let is_pair = bits.take(1)? == 1;
            bits.take(4)?;
            channels += if is_pair { 2 } else { 1 };
        }
        for _ in 0..low {
            bits.take(4)?;
            channels += 1;
        }
        for _ in 0..data {
            bits.take(4)?;
        }
        for _ in 0..coupling {
            bits.take(5)?;
        }
        let end = bits.position();
        let mut copy = Bits::default();
        bits.seek(start);
        while bits.position() < end {
            copy.put(bits.take(1)?, 1);
        }
        Some(Self { bits: copy, channels })
    }

    /// Writes the table and a comment of no length.
    fn write(&self, out: &mut Bits) {
        let mut bits = BitReader::new(&self.bits.bytes);
        for _ in 0..self.bits.len {
            out.put(bits.take(1).unwrap_or(0), 1);
        }
        out.align();
        out.put(0, 8);
    }
}

/// Bits in the order they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    /// Appends the low `count` bits of a value.
    fn put(&mut self, value: u32, count: u32) {
        for at in (0..count).rev() {
            if self.len.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if value >> at & 1 == 1
                && let Some(last) = self.bytes.last_mut()
            {
                *last |= 0x80 >> (self.len % 8);
            }
            self.len += 1;
        }
    }

    fn align(&mut self) {
        self.len = self.bytes.len() * 8;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// 5.1 as ffmpeg's encoder describes it, comment and all.
    const WITH_TABLE: [u8; 13] =
        [0x11, 0x80, 0x04, 0xc8, 0x44, 0x00, 0x20, 0x00, 0xc4, 0x03, b'L', b'a', b'v'];

    #[test]
    fn a_frame_says_of_itself_what_its_configuration_said() {
        for config in [&[0x11, 0x90][..], &[0x12, 0x10], &[0x12, 0x38], &WITH_TABLE] {
            let config = AacConfig::read(config).unwrap();
            let frame = config.to_adts(&[1, 2, 3]).unwrap();
            assert!(frame.ends_with(&[1, 2, 3]));
            assert_eq!(AacConfig::read_adts(&frame).unwrap(), config);
            assert_eq!(AacConfig::read(&config.to_bytes()).unwrap(), config);
        }
    }

    #[test]
    fn a_table_of_channels_is_counted_and_loses_its_comment() {
        let config = AacConfig::read(&WITH_TABLE).unwrap();
        assert_eq!((config.channels(), config.rate()), (6, 48000));
        assert_eq!(config.to_bytes(), [&WITH_TABLE[..9], &[0]].concat());
    }

    #[test]
    fn a_frame_too_long_for_its_header_is_refused() {
        let config = AacConfig::read(&[0x11, 0x90]).unwrap();
        assert!(config.to_adts(&[0; 8184]).is_some());
        assert!(config.to_adts(&[0; 8185]).is_none());
    }

    #[test]
    fn kinds_of_aac_that_adts_cannot_carry_are_refused() {
        assert_eq!(AacConfig::read(&[]), None);
        assert_eq!(AacConfig::read(&[0x11]), None);
        // xHE-AAC (42) escapes to object type 31; a table cut short; frames of 960 samples.
        assert_eq!(AacConfig::read(&[0xf9, 0x50, 0]), None);
        assert_eq!(AacConfig::read(&[0x11, 0x80, 0x04, 0xc8]), None);
        assert_eq!(AacConfig::read(&[0x11, 0x94]), None);
        // HE-AAC: 24 kHz core, SBR to 48 kHz, AAC-LC inside.
        let he = AacConfig::read(&[0x2b, 0x11, 0x88, 0x00]).unwrap();
        assert_eq!((he.rate(), he.to_bytes()), (24000, Bytes::from_static(&[0x13, 0x10])));
    }
}
