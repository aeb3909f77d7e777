//! What must be known of AV1 to carry it: the OBUs of a temporal unit, and what they say first.
//!
//! Decides which temporal units can be begun with and which nobody refers to. Frames are never
//! decoded: their headers are read up to the reference frames they replace. Departure from the AV1
//! bitstream specification: of several operating points no choice is made, all layers are carried.

use banyan_wire::MAX_CODEC_CONFIG;
use bytes::Bytes;

use crate::access_unit::Priority;
use crate::bits::{BitReader, write_leb128};

/// OBU types, AV1 specification 6.2.2, as far as they matter here.
mod obu_type {
    pub(super) const SEQUENCE_HEADER: u8 = 1;
    pub(super) const TEMPORAL_DELIMITER: u8 = 2;
    pub(super) const FRAME_HEADER: u8 = 3;
    pub(super) const FRAME: u8 = 6;
    pub(super) const TILE_LIST: u8 = 8;
    pub(super) const PADDING: u8 = 15;
}

/// Bytes of an AV1CodecConfigurationRecord before its OBUs.
const RECORD_LEN: usize = 4;

/// Most OBUs of one temporal unit; one with more is senseless.
const MAX_OBUS: usize = 8192;

/// One OBU.
#[derive(Clone, Copy, Debug)]
struct Obu<'a> {
    kind: u8,
    /// Its header: one byte, or two with an extension.
    header: &'a [u8],
    payload: &'a [u8],
    /// All of it as it stands in the stream.
    whole: &'a [u8],
    has_size: bool,
}

/// Takes the next OBU off a buffer; `None` at its end, or if it claims too much.
fn next_obu<'a>(rest: &mut &'a [u8]) -> Option<Obu<'a>> {
    let whole = *rest;
    let first = *whole.first()?;
    let (kind, has_extension, has_size) = (first >> 3 & 0xf, first & 4 != 0, first & 2 != 0);
    let is_forbidden = first & 0x80 != 0;
    let (header, mut body) = whole.split_at_checked(if has_extension { 2 } else { 1 })?;
    let len = if has_size { read_leb128(&mut body)? } else { body.len() };
    let (payload, tail) = body.split_at_checked(len)?;
    *rest = tail;
    let whole = whole.get(..whole.len() - tail.len())?;
    (!is_forbidden).then_some(Obu { kind, header, payload, whole, has_size })
}

fn read_leb128(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for at in 0..8 {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok().filter(|value| u32::try_from(*value).is_ok());
        }
    }
    None
}

impl Obu<'_> {
    /// Appends the OBU with its size.
    fn write(&self, out: &mut Vec<u8>) {
        if self.has_size {
            out.extend_from_slice(self.whole);
            return;
        }
        let (first, extension) = self.header.split_first().unwrap_or((&0, &[]));
        out.push(first | 2);
        out.extend_from_slice(extension);
        // A length in memory fits.
        write_leb128(u64::try_from(self.payload.len()).unwrap_or(0), out);
        out.extend_from_slice(self.payload);
    }

    /// The temporal and spatial layer it belongs to.
    fn layer(&self) -> (u8, u8) {
        self.header.get(1).map_or((0, 0), |extension| (extension >> 5, extension >> 3 & 3))
    }
}

/// What a sequence header says, as far as frame headers cannot be read without it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sequence {
    size: (u16, u16),
    is_reduced: bool,
    has_equal_intervals: bool,
    /// Bits of a presentation time and of a removal time, if frames have them.
    timing: Option<(u32, u32)>,
    /// Of each operating point: its layers, and whether frames have a removal time for it.
    points: Vec<(u32, bool)>,
    /// Bits of a frame's number, if frames have one.
    frame_id_bits: Option<u32>,
    /// 0: no, 1: yes, 2: each frame says.
    screen_content: u32,
    integer_motion: u32,
    order_hint_bits: u32,
}

impl Sequence {
    /// Reads a sequence header (5.5.1) up to what is needed here.
    fn read(payload: &[u8]) -> Option<Self> {
        let mut bits = BitReader::new(payload);
        bits.take(3 + 1)?;
        let is_reduced = bits.flag()?;
        let mut has_equal_intervals = false;
        let mut model = None;
        let mut points = Vec::new();
        if is_reduced {
            bits.take(5)?;
            points.push((0, false));
        } else {
            if bits.flag()? {
                bits.take(32)?;
                bits.take(32)?;
                has_equal_intervals = bits.flag()?;
                if has_equal_intervals {
                    skip_uvlc(&mut bits)?;
                }
                if bits.flag()? {
                    let delay = bits.take(5)? + 1;
                    bits.take(32)?;
                    let removal = bits.take(5)? + 1;
                    let presentation = bits.take(5)? + 1;
                    model = Some((delay, presentation, removal));
                }
            }
            let has_display_delay = bits.flag()?;
            let count = bits.take(5)? + 1;
            for _ in 0..count {
                let layers = bits.take(12)?;
                if bits.take(5)? > 7 {
                    bits.take(1)?;
                }
                let mut has_model = false;
                if let Some((delay, ..)) = model {
                    has_model = bits.flag()?;
                    if has_model {
                        bits.take(delay)?;
                        bits.take(delay)?;
                        bits.take(1)?;
                    }
                }
                if has_display_delay && bits.flag()? {
                    bits.take(4)?;
                }
                points.push((layers, has_model));
            }
        }
        let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
        let (width, height) = (bits.take(width_bits)?, bits.take(height_bits)?);
        let mut frame_id_bits = None;
        if !is_reduced && bits.flag()? {
            let delta = bits.take(4)? + 2;
            frame_id_bits = Some(bits.take(3)? + delta + 1);
        }
        // Superblocks of 128, filters of intra pictures and of their edges.
        bits.take(3)?;
        let (mut screen_content, mut integer_motion, mut order_hint_bits) = (2, 2, 0);
        if !is_reduced {
            bits.take(4)?;
            let has_order_hint = bits.flag()?;
            if has_order_hint {
                bits.take(2)?;
            }
            screen_content = if bits.flag()? { 2 } else { bits.take(1)? };
            if screen_content > 0 {
                integer_motion = if bits.flag()? { 2 } else { bits.take(1)? };
            }
            if has_order_hint {
                order_hint_bits = bits.take(3)? + 1;
            }
        }
        let size = (u16::try_from(width + 1).ok()?, u16::try_from(height + 1).ok()?);
        Some(Self {
            size,
            is_reduced,
            has_equal_intervals,
            timing: model.map(|(_, presentation, removal)| (presentation, removal)),
            points,
            frame_id_bits,
            screen_content,
            integer_motion,
            order_hint_bits,
        })
    }
}

fn skip_uvlc(bits: &mut BitReader<'_>) -> Option<()> {
    let mut zeros = 0;
    while !bits.flag()? {
        zeros += 1;
    }
    if zeros < 32 {
        bits.take(zeros)?;
    }
    Some(())
}

/// What a frame does to those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// Decoding can begin with it, and it is shown at once.
    Key,
    /// Others may refer to it.
    Reference,
    /// Nobody can.
    Alone,
}

impl Frame {
    /// Reads a frame header (5.9.2) up to the reference frames it replaces.
    fn read(obu: &Obu<'_>, sequence: &Sequence) -> Option<Self> {
        const KEY: u32 = 0;
        const INTRA_ONLY: u32 = 2;
        const SWITCH: u32 = 3;

        let mut bits = BitReader::new(obu.payload);
        if sequence.is_reduced {
            return Some(Self::Key);
        }
        if bits.flag()? {
            // It shows a frame from before, which may be a key frame that replaces all others.
            return Some(Self::Reference);
        }
        let kind = bits.take(2)?;
        let is_shown = bits.flag()?;
        if is_shown {
            if let (Some((presentation, _)), false) =
                (sequence.timing, sequence.has_equal_intervals)
            {
                bits.take(presentation)?;
            }
        } else {
            bits.take(1)?;
        }
        if kind == KEY && is_shown {
            return Some(Self::Key);
        }
        if kind == SWITCH {
            return Some(Self::Reference);
        }
        let is_resilient = bits.flag()?;
        bits.take(1)?;
        let has_screen_content = match sequence.screen_content {
            2 => bits.flag()?,
            fixed => fixed == 1,
        };
        if has_screen_content && sequence.integer_motion == 2 {
            bits.take(1)?;
        }
        if let Some(len) = sequence.frame_id_bits {
            bits.take(len)?;
        }
        bits.take(1)?;
        bits.take(sequence.order_hint_bits)?;
        if !(is_resilient || matches!(kind, KEY | INTRA_ONLY)) {
            bits.take(3)?;
        }
        if let Some((_, removal)) = sequence.timing
            && bits.flag()?
        {
            let (temporal, spatial) = obu.layer();
            for (layers, has_model) in &sequence.points {
                let is_in =
                    *layers == 0 || layers >> temporal & 1 == 1 && layers >> (spatial + 8) & 1 == 1;
                if *has_model && is_in {
                    bits.take(removal)?;
                }
            }
        }
        let replaced = bits.take(8)?;
        // Numbered frames are missed by their numbers, even those nobody refers to.
        let is_alone = replaced == 0 && is_shown && sequence.frame_id_bits.is_none();
        Some(if is_alone { Self::Alone } else { Self::Reference })
    }
}

/// The AV1 of one track.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The sequence header as an OBU with its size; empty until one was seen.
    header: Bytes,
    sequence: Option<Sequence>,
    record: [u8; RECORD_LEN],
    is_changed: bool,
}

/// A temporal unit as it travels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) priority: Priority,
    pub(crate) data: Bytes,
}

impl Stream {
    /// Reads an AV1CodecConfigurationRecord; `None` if it is none. It need not hold a sequence
    /// header: then the first key frame has to.
    pub(crate) fn new(record: &[u8]) -> Option<Self> {
        let (head, mut obus) = record.split_first_chunk::<RECORD_LEN>()?;
        // The marker bit and version 1.
        if head[0] != 0x81 {
            return None;
        }
        let mut stream =
            Self { header: Bytes::new(), sequence: None, record: *head, is_changed: false };
        while let Some(obu) = next_obu(&mut obus) {
            stream.note_sequence(&obu);
        }
        stream.is_changed = false;
        Some(stream)
    }

    /// Width and height in pixels; zeros where not known.
    pub(crate) fn size(&self) -> (u16, u16) {
        self.sequence.as_ref().map_or((0, 0), |sequence| sequence.size)
    }

    /// The AV1CodecConfigurationRecord, with the sequence header as last seen.
    pub(crate) fn record(&self) -> Bytes {
        let header =
            if RECORD_LEN + self.header.len() <= MAX_CODEC_CONFIG { &self.header[..] } else { &[] };
        [&self.record, header].concat().into()
    }

    /// Whether the sequence header changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    fn note_sequence(&mut self, obu: &Obu<'_>) {
        if obu.kind != obu_type::SEQUENCE_HEADER {
            return;
        }
        let mut header = Vec::with_capacity(obu.whole.len() + 1);
        obu.write(&mut header);
        let Some(sequence) = Sequence::read(obu.payload).filter(|_| header != self.header) else {
            return;
        };
        // Profile, level and tier, depth: as the header has them, for one that joins later.
        if let Some(head) = record_head(obu.payload, self.record) {
            self.record = head;
        }
        self.header = header.into();
        self.sequence = Some(sequence);
        self.is_changed = true;
    }

    /// A temporal unit as it travels: every OBU with its size, no delimiters, a key frame with its
    /// sequence header. `None` if it makes no sense or holds no frame.
    pub(crate) fn convert(&mut self, sample: &Bytes) -> Option<Unit> {
        let mut obus = Vec::new();
        let mut rest: &[u8] = sample;
        let mut is_clean = true;
        while !rest.is_empty() {
            let obu = next_obu(&mut rest)?;
            let is_idle = matches!(
                obu.kind,
                obu_type::TEMPORAL_DELIMITER | obu_type::TILE_LIST | obu_type::PADDING
            );
            is_clean &= obu.has_size && !is_idle;
            if obus.len() >= MAX_OBUS {
                return None;
            }
            if !is_idle {
                obus.push(obu);
            }
        }
        let mut frames = Vec::new();
        let mut has_sequence = false;
        for obu in &obus {
            self.note_sequence(obu);
            has_sequence |= obu.kind == obu_type::SEQUENCE_HEADER;
            if matches!(obu.kind, obu_type::FRAME | obu_type::FRAME_HEADER) {
                let known = self.sequence.as_ref();
                let frame = known.and_then(|sequence| Frame::read(obu, sequence));
                frames.push(frame.unwrap_or(Frame::Reference));
            }
        }
        let priority = match frames.as_slice() {
            [] => return None,
            [Frame::Key, ..] if has_sequence || !self.header.is_empty() => Priority::Key,
            frames if frames.iter().all(|frame| *frame == Frame::Alone) => Priority::Droppable,
            _ => Priority::Reference,
        };
        let needs_header = priority == Priority::Key && !has_sequence;
        if is_clean && !needs_header {
            return Some(Unit { priority, data: sample.clone() });
        }
        let mut data = Vec::with_capacity(sample.len() + self.header.len() + 4 * obus.len());
        if needs_header {
            data.extend_from_slice(&self.header);
        }
        for obu in &obus {
            obu.write(&mut data);
        }
        Some(Unit { priority, data: data.into() })
    }
}

/// The first bytes of a record for a sequence header: profile, level and tier from it; depth and
/// sampling from the record before, where the header is not read that far.
fn record_head(payload: &[u8], before: [u8; RECORD_LEN]) -> Option<[u8; RECORD_LEN]> {
    let profile = BitReader::new(payload).u8(3)?;
    let [marker, second, third, fourth] = before;
    Some([marker, profile << 5 | second & 0x1f, third, fourth])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// 64x64, one operating point, order hints of seven bits: as libaom writes it.
    const SEQUENCE: [u8; 12] =
        [0x0a, 0x0a, 0x00, 0x00, 0x00, 0x02, 0xaf, 0xff, 0x9b, 0x5f, 0x30, 0x08];
    const RECORD: [u8; 4] = [0x81, 0x00, 0x0c, 0x00];

    fn stream() -> Stream {
        Stream::new(&[&RECORD[..], &SEQUENCE].concat()).unwrap()
    }

    #[test]
    fn a_key_frame_travels_with_its_sequence_header_and_every_obu_with_its_size() {
        let mut stream = stream();
        assert_eq!(stream.size(), (64, 64));
        // A delimiter, then a key frame without a size: type 6, shown.
        let unit = stream.convert(&Bytes::from_static(&[0x12, 0, 0x30, 0x10, 0, 0])).unwrap();
        assert_eq!(unit.priority, Priority::Key);
        assert_eq!(unit.data, [&SEQUENCE[..], &[0x32, 3, 0x10, 0, 0]].concat());
        assert!(!stream.take_changed());
        // As it is, without a copy.
        let sample: Bytes = [&SEQUENCE[..], &[0x32, 3, 0x10, 0, 0]].concat().into();
        let unit = stream.convert(&sample).unwrap();
        assert_eq!(unit.data.as_ptr(), sample.as_ptr());
    }

    #[test]
    fn a_unit_without_a_frame_or_with_lengths_that_lie_is_none() {
        let mut stream = stream();
        for sample in [&[][..], &[0x12, 0], &SEQUENCE, &[0x32, 200, 1], &[0x32, 0xff, 0xff]] {
            assert_eq!(stream.convert(&Bytes::copy_from_slice(sample)), None, "{sample:?}");
        }
        assert!(Stream::new(&[]).is_none());
        assert!(Stream::new(&[0x01, 0, 0, 0]).is_none());
    }

    #[test]
    fn what_cannot_be_read_is_never_dropped() {
        let mut stream = Stream::new(&RECORD).unwrap();
        // Not even a key frame, while there is no sequence header.
        let unit = stream.convert(&Bytes::from_static(&[0x32, 2, 0x30, 0])).unwrap();
        assert_eq!(unit.priority, Priority::Reference);
    }

    #[test]
    fn lengths_read_back_as_written() {
        for value in [0, 1, 127, 128, 300, 1 << 20] {
            let mut out = Vec::new();
            write_leb128(u64::try_from(value).unwrap_or(0), &mut out);
            let mut rest = out.as_slice();
            assert_eq!((read_leb128(&mut rest), rest), (Some(value), &[][..]));
        }
    }
}
