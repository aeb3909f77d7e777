//! Cuts an H.264 or H.265 byte stream into access units.
//!
//! Decides where pictures begin: at a delimiter, else at the first NAL unit after a picture that can
//! only belong to the next one, else at a slice that says it is the first. Two fields of one
//! interlaced frame of H.264 stay together; of H.265 each field is a picture. What a NAL unit is, is
//! left to [`crate::nal`]. Departure from Rec. ITU-T H.264 7.4.1.2.4: other differences between slice
//! headers are not looked at, so a stream that has no delimiters *and* sends the slices of a picture
//! in arbitrary order is cut wrongly; no encoder for broadcast makes one.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

use super::{Framed, MAX_ACCESS_UNIT, Marks, Stamp};
use crate::access_unit::Priority;
use crate::annexb::{find_start_code, nal_units};
use crate::h264::Field;
use crate::nal::{NalCodec, ParameterSets, Role, SLICE_HEAD_LEN};

/// One elementary stream of H.264 or H.265.
#[derive(Debug)]
pub(crate) struct VideoFramer {
    codec: NalCodec,
    /// Starts with the open unit, once there is one.
    buffer: BytesMut,
    marks: Marks,
    /// Where the search for start codes goes on.
    scanned: usize,
    open: Option<Open>,
    sets: ParameterSets,
    /// The sets changed, as of the unit that is the so many-th.
    changed_from: Option<u64>,
    /// Units completed, and those of them that were taken.
    completed: u64,
    taken: u64,
    ready: VecDeque<Framed>,
    dropped: u64,
}

/// The access unit that is being collected.
#[derive(Debug, Default)]
struct Open {
    stamp: Option<Stamp>,
    /// A slice was seen.
    has_picture: bool,
    /// Where the next unit begins, if the next slice belongs to another picture.
    boundary: Option<usize>,
    /// A delimiter stands at the boundary.
    delimited: bool,
    /// The picture is a field whose other half has not been seen.
    half: Option<Field>,
    random_access: bool,
    is_reference: bool,
}

impl VideoFramer {
    pub(crate) fn new(codec: NalCodec) -> Self {
        Self {
            codec,
            buffer: BytesMut::new(),
            marks: Marks::default(),
            scanned: 0,
            open: None,
            sets: ParameterSets::new(codec),
            changed_from: None,
            completed: 0,
            taken: 0,
            ready: VecDeque::new(),
            dropped: 0,
        }
    }

    /// A PES packet begins.
    pub(crate) fn begin(&mut self, stamp: Option<Stamp>) {
        self.marks.push(self.buffer.len(), stamp);
    }

    /// More bytes of the packet.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.scan(false);
        if self.buffer.len() > MAX_ACCESS_UNIT {
            self.discard();
        }
    }

    /// The stream ends here, or is known to be whole up to here: closes the open unit.
    pub(crate) fn flush(&mut self) {
        self.scan(true);
        self.close(self.buffer.len());
        self.reset();
    }

    /// Bytes are missing here: the open unit is damaged.
    pub(crate) fn discard(&mut self) {
        if !self.buffer.is_empty() {
            self.dropped += 1;
        }
        self.reset();
    }

    pub(crate) fn poll(&mut self) -> Option<Framed> {
        let framed = self.ready.pop_front()?;
        self.taken += 1;
        Some(framed)
    }

    /// The parameter sets, if they changed since the last call. Those of a unit that has not been
    /// taken yet wait until the units before it have been.
    pub(crate) fn take_changed_sets(&mut self) -> Option<&ParameterSets> {
        self.changed_from.take_if(|from| *from <= self.taken).map(|_| &self.sets)
    }

    /// Units dropped so far.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn reset(&mut self) {
        self.buffer.clear();
        self.marks.clear();
        self.scanned = 0;
        self.open = None;
    }

    fn scan(&mut self, is_end: bool) {
        loop {
            let Some(code) = find_start_code(&self.buffer, self.scanned) else {
                // A start code may be cut in two.
                self.scanned = self.scanned.max(self.buffer.len().saturating_sub(2));
                break;
            };
            let available = self.buffer.len() - code;
            if available < 4 || (available < 4 + SLICE_HEAD_LEN && !is_end) {
                self.scanned = code;
                break;
            }
            self.scanned = code + 3;
            self.on_nal(code);
        }
        if self.open.is_none() {
            // Nothing before a unit is of use.
            let keep = self.scanned.min(self.buffer.len());
            // A zero byte may belong to the start code that comes next.
            self.drop_front(keep.saturating_sub(1));
        }
    }

    /// A NAL unit begins with the three-byte start code at `code`.
    fn on_nal(&mut self, code: usize) {
        let Some(nal) = self.buffer.get(code + 3..) else { return };
        let role = self.codec.role(nal);
        // The zero byte of a long start code belongs to the NAL unit after it, unless it is the last
        // byte of the packet before.
        let has_zero = code > 0 && self.buffer.get(code - 1) == Some(&0);
        let start = if has_zero && !self.marks.begins_at(code) { code - 1 } else { code };

        match role {
            Role::Slice => self.on_slice(start, code),
            Role::Part => {
                if let Some(open) = &mut self.open {
                    open.boundary = None;
                    open.delimited = false;
                }
            }
            Role::Delimiter | Role::ParameterSet | Role::Message | Role::Prefix => {
                let Some(open) = &mut self.open else {
                    self.start_unit(start);
                    return;
                };
                if open.has_picture {
                    open.boundary.get_or_insert(start);
                    open.delimited |= role == Role::Delimiter;
                }
            }
            Role::Other => {}
        }
    }

    fn on_slice(&mut self, start: usize, code: usize) {
        // The sets in front of this slice are needed to read it; in a unit without a picture yet
        // they are all of what is collected, else they stand behind the boundary.
        let (sets_from, is_waiting) = match &self.open {
            Some(open) => {
                (open.boundary.unwrap_or(0), !open.has_picture || open.boundary.is_some())
            }
            None => (0, false),
        };
        let recovery_point = is_waiting && self.read_sets(sets_from, start);

        let Some(nal) = self.buffer.get(code + 3..) else { return };
        let head = self.sets.slice_head(nal);
        match &self.open {
            None if !head.starts_picture => {
                self.dropped += 1;
                return;
            }
            None => self.start_unit(start),
            Some(open) if open.has_picture => {
                let is_second_field = match (open.half, head.field) {
                    (Some(half), Some(field)) => half.pairs_with(field),
                    _ => false,
                };
                if (head.starts_picture || open.delimited) && !is_second_field {
                    let cut = open.boundary.unwrap_or(start);
                    self.close(cut);
                    self.start_unit(0);
                } else if let Some(open) = &mut self.open {
                    if head.starts_picture {
                        open.half = None;
                    }
                    open.boundary = None;
                    open.delimited = false;
                }
            }
            Some(_) => {}
        }
        if let Some(open) = &mut self.open {
            if !open.has_picture {
                open.has_picture = true;
                open.half = head.field;
                open.random_access = recovery_point;
            }
            open.random_access |= head.is_entry;
            open.is_reference |= head.is_reference;
        }
    }

    /// Keeps the parameter sets between two places; says whether a recovery point is announced.
    fn read_sets(&mut self, from: usize, to: usize) -> bool {
        let mut recovery_point = false;
        let mut is_changed = false;
        for nal in nal_units(self.buffer.get(from..to).unwrap_or(&[])) {
            match self.codec.role(nal) {
                Role::ParameterSet => is_changed |= self.sets.keep(nal),
                Role::Message => recovery_point |= self.codec.has_recovery_point(nal),
                Role::Slice | Role::Part | Role::Delimiter | Role::Prefix | Role::Other => {}
            }
        }
        if is_changed {
            // The open unit, if it has its picture, is of the sets before.
            let is_open = self.open.as_ref().is_some_and(|open| open.has_picture);
            let from = self.completed + u64::from(is_open);
            self.changed_from.get_or_insert(from);
        }
        recovery_point
    }

    /// Begins a unit at `at`, forgetting what is before it.
    fn start_unit(&mut self, at: usize) {
        self.drop_front(at);
        self.open = Some(Open { stamp: self.marks.take(0), ..Open::default() });
    }

    /// Ends the open unit at `at`.
    fn close(&mut self, at: usize) {
        let data = self.buffer.split_to(at).freeze();
        self.moved(at);
        let Some(open) = self.open.take().filter(|open| open.has_picture) else { return };
        let priority = if open.random_access {
            Priority::Key
        } else if open.is_reference {
            Priority::Reference
        } else {
            Priority::Droppable
        };
        let random_access = open.random_access;
        self.completed += 1;
        self.ready.push_back(Framed { stamp: open.stamp, random_access, priority, data });
    }

    fn drop_front(&mut self, len: usize) {
        self.buffer.advance(len);
        self.moved(len);
    }

    fn moved(&mut self, len: usize) {
        self.marks.advance(len);
        self.scanned = self.scanned.saturating_sub(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A NAL unit long enough that its head can be read at once.
    fn nal(header: u8, body: u8) -> Vec<u8> {
        let mut out = vec![0, 0, 0, 1, header, body];
        out.extend([0x55; SLICE_HEAD_LEN]);
        out
    }

    const FIRST_SLICE: u8 = 0x9a;
    const LATER_SLICE: u8 = 0x5a;

    fn stamp(ticks: u64) -> Option<Stamp> {
        Some(Stamp { pts: ticks, dts: ticks })
    }

    fn drain(framer: &mut VideoFramer) -> Vec<Framed> {
        std::iter::from_fn(|| framer.poll()).collect()
    }

    #[test]
    fn a_packet_with_three_pictures_gives_three_units() {
        let (key, reference, droppable) =
            (nal(0x65, FIRST_SLICE), nal(0x41, FIRST_SLICE), nal(0x01, FIRST_SLICE));
        let mut framer = VideoFramer::new(NalCodec::H264);
        framer.begin(stamp(7));
        framer.push(&[key.clone(), reference.clone(), droppable.clone()].concat());
        framer.flush();
        let units = drain(&mut framer);
        assert_eq!(
            units.iter().map(|unit| unit.priority).collect::<Vec<_>>(),
            [Priority::Key, Priority::Reference, Priority::Droppable]
        );
        assert_eq!(units.iter().map(|unit| unit.stamp).collect::<Vec<_>>(), [stamp(7), None, None]);
        assert_eq!(
            units.iter().map(|unit| unit.data.to_vec()).collect::<Vec<_>>(),
            [key, reference, droppable]
        );
    }

    #[test]
    fn a_unit_spread_byte_by_byte_over_packets_comes_out_whole() {
        let delimiter = NalCodec::H264.delimiter().to_vec();
        let first = [delimiter.clone(), nal(0x65, FIRST_SLICE), nal(0x65, LATER_SLICE)].concat();
        let second = [delimiter, nal(0x41, FIRST_SLICE)].concat();
        let mut framer = VideoFramer::new(NalCodec::H264);
        framer.begin(stamp(1));
        for byte in &first {
            framer.push(&[*byte]);
        }
        framer.begin(stamp(2));
        for byte in &second {
            framer.push(&[*byte]);
        }
        framer.flush();
        let units = drain(&mut framer);
        assert_eq!(units.len(), 2);
        assert_eq!((units[0].data.to_vec(), units[0].stamp), (first, stamp(1)));
        assert_eq!((units[1].data.to_vec(), units[1].stamp), (second, stamp(2)));
    }

    #[test]
    fn a_timestamp_belongs_to_the_unit_that_begins_in_its_packet() {
        let first = nal(0x65, FIRST_SLICE);
        let second = nal(0x41, FIRST_SLICE);
        let mut framer = VideoFramer::new(NalCodec::H264);
        framer.begin(stamp(1));
        framer.push(&first[..20]);
        framer.begin(stamp(2));
        framer.push(&first[20..]);
        framer.push(&second);
        framer.flush();
        let stamps: Vec<_> = drain(&mut framer).into_iter().map(|unit| unit.stamp).collect();
        assert_eq!(stamps, [stamp(1), stamp(2)]);
    }

    #[test]
    fn a_recovery_point_can_be_started_at() {
        let mut stream = vec![0, 0, 0, 1, 0x06, 6, 1, 0xc0, 0x80];
        stream.extend(nal(0x41, FIRST_SLICE));
        let mut framer = VideoFramer::new(NalCodec::H264);
        framer.begin(stamp(1));
        framer.push(&stream);
        framer.flush();
        let units = drain(&mut framer);
        assert_eq!(
            (units.len(), units[0].random_access, units[0].priority),
            (1, true, Priority::Key)
        );
    }

    #[test]
    fn a_discarded_unit_takes_no_neighbour_with_it() {
        let mut framer = VideoFramer::new(NalCodec::H264);
        framer.begin(stamp(1));
        framer.push(&nal(0x65, FIRST_SLICE));
        framer.begin(stamp(2));
        framer.push(&nal(0x41, FIRST_SLICE));
        framer.discard();
        framer.begin(stamp(3));
        framer.push(&nal(0x41, FIRST_SLICE));
        framer.flush();
        let stamps: Vec<_> = drain(&mut framer).into_iter().map(|unit| unit.stamp).collect();
        assert_eq!(stamps, [stamp(1), stamp(3)]);
        assert_eq!(framer.dropped(), 1);
    }

    #[test]
    fn a_stream_that_never_starts_a_picture_is_not_hoarded() {
        let mut framer = VideoFramer::new(NalCodec::H264);
        framer.begin(None);
        for _ in 0..1000 {
            framer.push(&[0xab; 10_000]);
            assert!(framer.buffer.len() < 20_000);
        }
        framer.push(&nal(0x65, FIRST_SLICE));
        for _ in 0..1000 {
            framer.push(&[0xab; 10_000]);
            assert!(framer.buffer.len() <= MAX_ACCESS_UNIT + 10_000);
        }
    }
}
