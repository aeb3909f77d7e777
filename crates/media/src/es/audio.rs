//! Cuts a sound stream into frames.
//!
//! Decides where frames are and, for those the container gives no timestamp, when they sound: each
//! begins when the one before it ends. A frame that does not follow the one before is looked for
//! by its sync word, and believed where a packet begins or another frame follows it.

use std::collections::VecDeque;

use banyan_wire::{Codec, MediaTime};
use bytes::{Buf, Bytes, BytesMut};

use super::{Framed, Marks, Stamp};
use crate::aac::AacConfig;
use crate::audio::{FrameHeader, HEADER_LEN};

/// One sound stream.
#[derive(Debug)]
pub(crate) struct AudioFramer {
    codec: Codec,
    buffer: BytesMut,
    marks: Marks,
    /// The next frame is expected at the start of the buffer.
    is_locked: bool,
    clock: Option<Clock>,
    format: Option<Format>,
    format_changed: bool,
    ready: VecDeque<Framed>,
    dropped: u64,
}

/// What does not change from frame to frame, most of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Samples per second.
    pub(crate) rate: u32,
    /// Channels; 0 if no frame said.
    pub(crate) channels: u8,
    /// For AAC the AudioSpecificConfig, else empty.
    pub(crate) config: Bytes,
}

/// Time counted in samples, so that rounding does not add up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    from: u64,
    samples: u64,
    rate: u32,
}

impl Clock {
    /// A clock that shows `from`, in raw ticks.
    pub(super) const fn new(from: u64, rate: u32) -> Self {
        Self { from, samples: 0, rate }
    }

    /// What the clock shows; then it goes on by so many samples.
    pub(super) fn advance(&mut self, samples: u32) -> Stamp {
        let now = self.now();
        self.samples += u64::from(samples);
        now
    }

    fn now(self) -> Stamp {
        let ticks = self.samples * MediaTime::HZ.unsigned_abs() / u64::from(self.rate);
        let pts = self.from.wrapping_add(ticks) & ((1 << 33) - 1);
        Stamp { pts, dts: pts }
    }
}

impl AudioFramer {
    pub(crate) fn new(codec: Codec) -> Self {
        Self {
            codec,
            buffer: BytesMut::new(),
            marks: Marks::default(),
            is_locked: false,
            clock: None,
            format: None,
            format_changed: false,
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
        while self.step() {}
    }

    /// The stream ends here. Whole frames are out already: what is left is part of one.
    pub(crate) fn flush(&mut self) {
        self.reset();
    }

    /// Bytes are missing here.
    pub(crate) fn discard(&mut self) {
        if !self.buffer.is_empty() {
            self.dropped += 1;
        }
        self.reset();
        self.clock = None;
    }

    pub(crate) fn poll(&mut self) -> Option<Framed> {
        self.ready.pop_front()
    }

    /// The format of the last frame, if it changed since the last call.
    pub(crate) fn take_changed_format(&mut self) -> Option<&Format> {
        if std::mem::take(&mut self.format_changed) { self.format.as_ref() } else { None }
    }

    /// Frames dropped so far.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn reset(&mut self) {
        self.buffer.clear();
        self.marks.clear();
        self.is_locked = false;
    }

    /// Takes one frame, or some rubbish, off the buffer; `false` if there is not enough to tell.
    fn step(&mut self) -> bool {
        if self.buffer.len() < HEADER_LEN {
            return false;
        }
        let Some(header) = FrameHeader::read(self.codec, &self.buffer) else {
            if self.is_locked {
                self.dropped += 1;
                self.is_locked = false;
            }
            // Every frame begins with this byte.
            let sync = if self.codec == Codec::Ac3 { 0x0b } else { 0xff };
            let rest = self.buffer.get(1..).unwrap_or(&[]);
            let skip = memchr::memchr(sync, rest).map_or(self.buffer.len(), |at| at + 1);
            self.skip(skip);
            return true;
        };
        if self.buffer.len() < header.len {
            return false;
        }
        if !self.is_locked && !self.marks.begins_at(0) {
            let Some(next) = self.buffer.get(header.len..header.len + HEADER_LEN) else {
                return false;
            };
            if FrameHeader::read(self.codec, next).is_none() {
                self.skip(1);
                return true;
            }
        }
        self.is_locked = true;
        self.take_frame(header);
        true
    }

    fn take_frame(&mut self, header: FrameHeader) {
        let stamp = self.marks.take(0);
        if let Some(stamp) = stamp {
            self.clock = Some(Clock::new(stamp.pts, header.rate));
        }
        if let Some(clock) = &mut self.clock
            && clock.rate != header.rate
        {
            *clock = Clock::new(clock.now().pts, header.rate);
        }
        let stamp = self.clock.as_mut().map(|clock| clock.advance(header.samples));
        let data = self.buffer.split_to(header.len).freeze();
        self.marks.advance(header.len);
        self.note_format(header, &data);
        self.ready.push_back(Framed::sound(stamp, data));
    }

    fn note_format(&mut self, header: FrameHeader, frame: &[u8]) {
        let config = if self.codec == Codec::Aac { AacConfig::read_adts(frame) } else { None };
        let format = match (config, &self.format) {
            (Some(config), _) => {
                Format { rate: header.rate, channels: config.channels(), config: config.to_bytes() }
            }
            // Of AAC, an earlier frame may have said how many channels there are.
            (None, Some(known)) if header.channels == 0 && known.rate == header.rate => return,
            (None, _) => {
                Format { rate: header.rate, channels: header.channels, config: Bytes::new() }
            }
        };
        if self.format.as_ref() != Some(&format) {
            self.format = Some(format);
            self.format_changed = true;
        }
    }

    fn skip(&mut self, len: usize) {
        self.buffer.advance(len);
        self.marks.advance(len);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn frame(fill: u8) -> Vec<u8> {
        AacConfig::read(&[0x11, 0x90]).unwrap().to_adts(&[fill; 100]).unwrap()
    }

    fn stamp(ticks: u64) -> Option<Stamp> {
        Some(Stamp { pts: ticks, dts: ticks })
    }

    fn drain(framer: &mut AudioFramer) -> Vec<(Option<Stamp>, Vec<u8>)> {
        std::iter::from_fn(|| framer.poll()).map(|unit| (unit.stamp, unit.data.to_vec())).collect()
    }

    #[test]
    fn frames_of_one_packet_follow_each_other_in_time() {
        let mut framer = AudioFramer::new(Codec::Aac);
        framer.begin(stamp(900));
        framer.push(&[frame(1), frame(2), frame(3)].concat());
        assert_eq!(
            drain(&mut framer),
            [(stamp(900), frame(1)), (stamp(2820), frame(2)), (stamp(4740), frame(3))]
        );
    }

    #[test]
    fn a_frame_over_two_packets_keeps_the_first_timestamp() {
        let mut framer = AudioFramer::new(Codec::Aac);
        framer.begin(stamp(900));
        framer.push(&frame(1)[..50]);
        framer.begin(stamp(5000));
        framer.push(&[&frame(1)[50..], &frame(2)].concat());
        assert_eq!(drain(&mut framer), [(stamp(900), frame(1)), (stamp(5000), frame(2))]);
    }

    #[test]
    fn rubbish_between_frames_is_skipped() {
        let mut framer = AudioFramer::new(Codec::Aac);
        framer.begin(stamp(0));
        framer.push(&[frame(1), vec![0xff, 0xf1, 0xff, 0, 9], frame(2), frame(3)].concat());
        let found: Vec<_> = drain(&mut framer).into_iter().map(|(_, data)| data).collect();
        // The third needs no follower: it stands where the second ends.
        assert_eq!(found, [frame(1), frame(2), frame(3)]);
        assert_eq!(framer.dropped(), 1);
    }

    #[test]
    fn noise_is_not_hoarded() {
        let mut framer = AudioFramer::new(Codec::Aac);
        for round in 0..1000u32 {
            let noise: Vec<u8> =
                (0..5000u32).map(|at| at.wrapping_mul(round * 7 + 3).to_le_bytes()[1]).collect();
            framer.push(&noise);
            assert!(framer.buffer.len() <= 8191 + HEADER_LEN + 5000);
        }
    }
}
