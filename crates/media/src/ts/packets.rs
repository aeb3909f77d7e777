//! Finds the packets in a byte stream that may start, or be damaged, anywhere.
//!
//! Decides where packets are and when the input is no transport stream. What is in a packet is left
//! to [`super::demux`].

use super::{PACKET_LEN, SYNC};
use crate::error::DemuxError;
use crate::probe::{self, Hint, SNIFF_LEN};

/// Bytes without a run of packets after which an input is given up.
pub(crate) const PROBE_LIMIT: usize = 2 << 20;

/// The same, for an input whose first bytes are known to be something else.
const EARLY_LIMIT: usize = 64 << 10;

/// Sync bytes in a row that prove a stream at first, and after a loss of sync.
const FIRST_RUN: usize = 5;
const LATER_RUN: usize = 3;

/// Cuts bytes into packets.
#[derive(Debug, Default)]
pub(crate) struct Packetizer {
    buffer: Vec<u8>,
    at: usize,
    is_locked: bool,
    was_locked: bool,
    is_end: bool,
    skipped: usize,
    head: Vec<u8>,
}

impl Packetizer {
    /// More bytes. Take all packets before the next call: what is not taken is kept.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.head.len() < SNIFF_LEN {
            let missing = SNIFF_LEN - self.head.len();
            self.head.extend_from_slice(bytes.get(..missing).unwrap_or(bytes));
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// There are no more bytes: what is left proves itself.
    pub(crate) fn finish(&mut self) {
        self.is_end = true;
    }

    /// Whether any packet was found.
    pub(crate) const fn was_locked(&self) -> bool {
        self.was_locked
    }

    /// What the input looks like if it is no transport stream.
    pub(crate) fn looks_like(&self) -> Hint {
        probe::looks_like(&self.head)
    }

    /// The next packet. It starts with the sync byte.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8; PACKET_LEN]>, DemuxError> {
        if self.is_locked {
            self.check_lock();
        }
        if !self.is_locked && !self.search()? {
            return Ok(None);
        }
        let rest = self.buffer.get(self.at..).unwrap_or(&[]);
        let Some(packet) = rest.first_chunk::<PACKET_LEN>() else { return Ok(None) };
        self.at += PACKET_LEN;
        Ok(Some(packet))
    }

    /// Steps over a packet whose sync byte alone is damaged; else gives up the lock.
    fn check_lock(&mut self) {
        let is_sync = |at: usize| self.buffer.get(at).is_none_or(|byte| *byte == SYNC);
        if is_sync(self.at) {
            return;
        }
        if self.at + PACKET_LEN < self.buffer.len() && is_sync(self.at + PACKET_LEN) {
            self.at += PACKET_LEN;
        } else {
            self.is_locked = false;
        }
    }

    /// Looks for a run of sync bytes; `false` if there is none in what is buffered.
    fn search(&mut self) -> Result<bool, DemuxError> {
        let run = if self.was_locked { LATER_RUN } else { FIRST_RUN };
        let span = (run - 1) * PACKET_LEN + 1;
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or(&[]);
            let Some(step) = memchr::memchr(SYNC, rest) else {
                self.skip(rest.len());
                break;
            };
            let candidate = rest.get(step..).unwrap_or(&[]);
            let is_whole = candidate.len() >= span;
            if !is_whole && !self.is_end {
                // Wait for more; nothing before the candidate is of use.
                self.skip(step);
                break;
            }
            let is_run = candidate.iter().step_by(PACKET_LEN).take(run).all(|byte| *byte == SYNC);
            if is_run && candidate.len() >= PACKET_LEN {
                self.skip(step);
                self.is_locked = true;
                self.was_locked = true;
                return Ok(true);
            }
            self.check_packet_size()?;
            self.skip(step + 1);
        }
        self.check_limits()?;
        Ok(false)
    }

    fn skip(&mut self, len: usize) {
        self.at += len;
        self.skipped += len;
    }

    fn check_limits(&self) -> Result<(), DemuxError> {
        if self.was_locked {
            return Ok(());
        }
        let looks_like = self.looks_like();
        let is_unknown = matches!(looks_like, Hint::Nothing | Hint::MpegTs);
        let limit = if is_unknown { PROBE_LIMIT } else { EARLY_LIMIT };
        if self.skipped > limit {
            Err(DemuxError::NotTransportStream { looks_like })
        } else {
            Ok(())
        }
    }

    /// Packets of another size have sync bytes, too.
    fn check_packet_size(&self) -> Result<(), DemuxError> {
        if self.was_locked || self.skipped > 0 {
            return Ok(());
        }
        for size in [192u16, 204] {
            let step = usize::from(size);
            let is_run = |start: usize| {
                let syncs = self.head.iter().skip(start).step_by(step);
                syncs.len() >= FIRST_RUN && syncs.clone().all(|byte| *byte == SYNC)
            };
            if (0..step).any(is_run) {
                return Err(DemuxError::PacketSize(size));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn packets(count: u8) -> Vec<u8> {
        (0..count)
            .flat_map(|index| {
                let mut packet = vec![index; PACKET_LEN];
                packet[0] = SYNC;
                packet
            })
            .collect()
    }

    fn indices(packetizer: &mut Packetizer) -> Vec<u8> {
        let mut found = Vec::new();
        while let Some(packet) = packetizer.next().unwrap() {
            found.push(packet[1]);
        }
        found
    }

    #[test]
    fn a_stream_that_starts_inside_a_packet_is_found() {
        let mut packetizer = Packetizer::default();
        packetizer.push(&packets(8)[100..]);
        assert_eq!(indices(&mut packetizer), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn bytes_in_the_middle_cost_no_packet_but_their_own() {
        let mut stream = packets(7);
        stream.extend([0xaa; 77]);
        stream.extend(packets(6));
        let mut packetizer = Packetizer::default();
        let mut found = Vec::new();
        for part in stream.chunks(61) {
            packetizer.push(part);
            found.extend(indices(&mut packetizer));
        }
        assert_eq!(found, [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_damaged_sync_byte_costs_one_packet() {
        let mut stream = packets(9);
        stream[6 * PACKET_LEN] = 0;
        let mut packetizer = Packetizer::default();
        packetizer.push(&stream);
        assert_eq!(indices(&mut packetizer), [0, 1, 2, 3, 4, 5, 7, 8]);
    }

    #[test]
    fn packets_of_another_size_are_named() {
        for size in [192u16, 204] {
            let mut stream = vec![0u8; usize::from(size) * 50];
            stream.iter_mut().skip(4).step_by(usize::from(size)).for_each(|byte| *byte = SYNC);
            let mut packetizer = Packetizer::default();
            packetizer.push(&stream);
            assert_eq!(packetizer.next(), Err(DemuxError::PacketSize(size)));
        }
    }

    #[test]
    fn an_input_without_packets_is_given_up() {
        let mut packetizer = Packetizer::default();
        let mut given = 0;
        let error = loop {
            packetizer.push(&[0x81; 10_000]);
            given += 10_000;
            if let Err(error) = packetizer.next() {
                break error;
            }
            assert!(packetizer.buffer.len() < 30_000 && given <= PROBE_LIMIT + 10_000);
        };
        assert_eq!(error, DemuxError::NotTransportStream { looks_like: Hint::Nothing });
    }

    #[test]
    fn a_short_stream_is_found_at_its_end() {
        let mut packetizer = Packetizer::default();
        packetizer.push(&packets(2));
        assert_eq!(packetizer.next(), Ok(None));
        packetizer.finish();
        assert_eq!(indices(&mut packetizer), [0, 1]);
    }
}
