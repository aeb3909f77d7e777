//! Cuts an Opus stream into packets: each stands behind a control header that says its length.
//!
//! Decides where packets are and, for those the container gives no timestamp, when they sound. What
//! does not follow the packet before is looked for where the container's next packet begins.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

use super::audio::Clock;
use super::{Framed, Marks, Stamp};
use crate::opus;

/// One Opus stream of a transport stream.
#[derive(Debug, Default)]
pub(crate) struct OpusFramer {
    buffer: BytesMut,
    marks: Marks,
    /// The buffer starts with a control header.
    is_locked: bool,
    clock: Option<Clock>,
    ready: VecDeque<Framed>,
    dropped: u64,
}

impl OpusFramer {
    /// A PES packet begins, and a control header with it.
    pub(crate) fn begin(&mut self, stamp: Option<Stamp>) {
        if !self.is_locked {
            self.reset();
            self.is_locked = true;
        }
        self.marks.push(self.buffer.len(), stamp);
    }

    /// More bytes of the packet.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.is_locked {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        while self.step() {}
    }

    /// The stream ends here. Whole packets are out already.
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

    /// Packets dropped so far.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn reset(&mut self) {
        self.buffer.clear();
        self.marks.clear();
        self.is_locked = false;
    }

    /// Takes one packet off the buffer; `false` if there is not enough of it.
    fn step(&mut self) -> bool {
        let (header, len) = match opus::read_control_header(&self.buffer) {
            Ok(Some(found)) => found,
            Ok(None) => return false,
            Err(opus::NoHeader) => {
                self.discard();
                return false;
            }
        };
        if self.buffer.len() < header + len {
            return false;
        }
        let stamp = self.marks.take(0);
        self.buffer.advance(header);
        let data = self.buffer.split_to(len).freeze();
        self.marks.advance(header + len);
        let Some(samples) = opus::samples(&data) else {
            self.dropped += 1;
            return true;
        };
        if let Some(stamp) = stamp {
            self.clock = Some(Clock::new(stamp.pts, opus::RATE));
        }
        let stamp = self.clock.as_mut().map(|clock| clock.advance(samples));
        self.ready.push_back(Framed::sound(stamp, data));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(fill: u8) -> Vec<u8> {
        let mut out = Vec::new();
        opus::write_control_header(300, &mut out);
        out.push(0xfc);
        out.extend([fill; 299]);
        out
    }

    fn stamp(ticks: u64) -> Option<Stamp> {
        Some(Stamp { pts: ticks, dts: ticks })
    }

    fn drain(framer: &mut OpusFramer) -> Vec<(Option<Stamp>, u8)> {
        std::iter::from_fn(|| framer.poll()).map(|unit| (unit.stamp, unit.data[1])).collect()
    }

    #[test]
    fn packets_follow_each_other_in_time_however_they_are_cut() {
        let mut framer = OpusFramer::default();
        framer.begin(stamp(900));
        for byte in [packet(1), packet(2)].concat() {
            framer.push(&[byte]);
        }
        assert_eq!(drain(&mut framer), [(stamp(900), 1), (stamp(2700), 2)]);
    }

    #[test]
    fn after_damage_the_next_packet_of_the_container_is_waited_for() {
        let mut framer = OpusFramer::default();
        framer.begin(stamp(900));
        framer.push(&packet(1)[..50]);
        framer.discard();
        framer.push(&packet(2));
        framer.begin(stamp(5000));
        framer.push(&packet(3));
        assert_eq!(drain(&mut framer), [(stamp(5000), 3)]);
        assert_eq!(framer.dropped(), 1);
    }

    #[test]
    fn noise_is_not_hoarded() {
        let mut framer = OpusFramer::default();
        for fill in 0..=255 {
            framer.begin(None);
            framer.push(&[0x7f, 0xe0]);
            for _ in 0..100 {
                framer.push(&[fill; 1000]);
            }
            assert!(framer.buffer.len() < opus::MAX_PACKET + 2000);
        }
    }
}
