//! One stream of the chosen programme: packets → PES → framer.
//!
//! Decides what a missing packet damages. A counter that jumps says only that packets are missing;
//! whether they were part of the open unit is told from the packet before the gap: if that one ended
//! its PES packet, the open unit is whole and only the next one is lost.

use banyan_wire::{Codec, Track, TrackId};
use mpeg2ts_reader::packet::Packet;
use mpeg2ts_reader::pes::{PesContents, PesHeader, PtsDts};

use super::psi::StreamEntry;
use super::{PACKET_LEN, SYNC};
use crate::es::audio::AudioFramer;
use crate::es::opus::OpusFramer;
use crate::es::video::VideoFramer;
use crate::es::{Framed, Stamp};
use crate::nal::NalCodec;
use crate::timeline::TrackClock;
use crate::{opus, sample};

/// A stream that is carried.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: TrackId,
    pub(crate) entry: StreamEntry,
    pub(crate) clock: TrackClock,
    /// Known once the stream showed its parameters.
    pub(crate) track: Option<Track>,
    codec: Codec,
    framer: Framer,
    pes: Pes,
    continuity: Option<u8>,
    /// The last packet was the last of its PES packet.
    is_between: bool,
    gaps: u64,
}

#[derive(Debug)]
enum Framer {
    Video(Box<VideoFramer>),
    Audio(Box<AudioFramer>),
    Opus(Box<OpusFramer>),
}

/// Does the same with whichever framer it is.
macro_rules! each {
    ($framer:expr, $name:ident => $what:expr) => {
        match $framer {
            Framer::Video($name) => $what,
            Framer::Audio($name) => $what,
            Framer::Opus($name) => $what,
        }
    };
}

/// The PES packet that is being received.
#[derive(Debug)]
enum Pes {
    /// None, or one whose start was not seen.
    Waiting,
    /// Its header, as far as it came: at most 264 bytes and a packet.
    Header(Vec<u8>),
    /// Its payload. A length is known for sound, but seldom for pictures.
    Payload { left: Option<usize> },
}

/// Bytes of a PES header up to and with the length of its optional part.
const PES_FIXED_LEN: usize = 9;

impl Stream {
    pub(crate) fn new(id: TrackId, codec: Codec, entry: StreamEntry) -> Self {
        let framer = match NalCodec::of(codec) {
            Some(codec) => Framer::Video(Box::new(VideoFramer::new(codec))),
            None if codec == Codec::Opus => Framer::Opus(Box::default()),
            None => Framer::Audio(Box::new(AudioFramer::new(codec))),
        };
        Self {
            id,
            entry,
            clock: TrackClock::default(),
            track: None,
            codec,
            framer,
            pes: Pes::Waiting,
            continuity: None,
            is_between: true,
            gaps: 0,
        }
    }

    pub(crate) const fn is_video(&self) -> bool {
        self.codec.is_video()
    }

    pub(crate) const fn codec(&self) -> Codec {
        self.codec
    }

    /// Times packets were missing.
    pub(crate) const fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Units dropped because of damage.
    pub(crate) fn dropped(&self) -> u64 {
        each!(&self.framer, framer => framer.dropped())
    }

    /// One packet of the stream.
    pub(crate) fn on_packet(&mut self, bytes: &[u8; PACKET_LEN]) {
        debug_assert_eq!(bytes[0], SYNC);
        let packet = Packet::new(bytes);
        if packet.adaptation_field().is_some_and(|field| field.discontinuity_indicator()) {
            // The counter may start anew.
            self.continuity = None;
        }
        let Some(payload) = packet.payload() else { return };
        let counter = packet.continuity_counter().count();
        if let Some(last) = self.continuity.replace(counter) {
            if counter == last {
                // A packet may be sent twice.
                return;
            }
            if counter != (last + 1) & 0x0f {
                self.on_gap();
            }
        }
        if packet.payload_unit_start_indicator() {
            self.pes = Pes::Header(Vec::new());
        }
        self.on_payload(payload);
        self.is_between = match self.pes {
            Pes::Payload { left: Some(0) } => true,
            Pes::Waiting | Pes::Header(_) | Pes::Payload { .. } => stuffing(bytes) > 0,
        };
    }

    /// Packets are missing.
    fn on_gap(&mut self) {
        self.gaps += 1;
        match &mut self.framer {
            Framer::Video(framer) if self.is_between => framer.flush(),
            Framer::Video(framer) => framer.discard(),
            Framer::Audio(framer) => framer.discard(),
            Framer::Opus(framer) => framer.discard(),
        }
        self.pes = Pes::Waiting;
    }

    fn on_payload(&mut self, payload: &[u8]) {
        match &mut self.pes {
            Pes::Waiting => {}
            Pes::Payload { left: None } => self.feed(payload),
            Pes::Payload { left: Some(left) } => {
                let payload = payload.get(..*left).unwrap_or(payload);
                *left -= payload.len();
                self.feed(payload);
            }
            Pes::Header(header) => {
                header.extend_from_slice(payload);
                let header = std::mem::take(header);
                self.on_header(header);
            }
        }
    }

    fn on_header(&mut self, header: Vec<u8>) {
        let optional = header.get(PES_FIXED_LEN - 1).map(|len| usize::from(*len));
        let end = PES_FIXED_LEN + optional.unwrap_or(0);
        let (true, Some((head, payload))) = (optional.is_some(), header.split_at_checked(end))
        else {
            self.pes = Pes::Header(header);
            return;
        };
        let Some(stamp) = read_stamp(head) else {
            self.pes = Pes::Waiting;
            return;
        };
        // Counted from behind the length field.
        let len = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let mut left = (len > 0).then(|| (len + 6).saturating_sub(end));
        let payload = left.and_then(|left| payload.get(..left)).unwrap_or(payload);
        if let Some(left) = &mut left {
            *left -= payload.len();
        }
        self.pes = Pes::Payload { left };
        each!(&mut self.framer, framer => framer.begin(stamp));
        self.feed(payload);
    }

    fn feed(&mut self, payload: &[u8]) {
        each!(&mut self.framer, framer => framer.push(payload));
    }

    /// There are no more packets.
    pub(crate) fn flush(&mut self) {
        each!(&mut self.framer, framer => framer.flush());
        self.pes = Pes::Waiting;
    }

    pub(crate) fn poll(&mut self) -> Option<Framed> {
        each!(&mut self.framer, framer => framer.poll())
    }

    /// Takes over what the stream says of itself; `true` if the track is now another one.
    pub(crate) fn refresh_track(&mut self) -> bool {
        let mut track = Track {
            id: self.id,
            language: self.entry.language.clone(),
            ..sample::blank_track(self.codec)
        };
        match &mut self.framer {
            Framer::Video(framer) => {
                let Some(sets) = framer.take_changed_sets().filter(|sets| sets.is_complete())
                else {
                    return false;
                };
                (track.width, track.height) = sets.size();
                track.config = sets.annex_b();
            }
            Framer::Audio(framer) => {
                let Some(format) = framer.take_changed_format() else { return false };
                track.sample_rate = format.rate;
                track.channels = format.channels;
                track.config = format.config.clone();
            }
            // The tables have said everything.
            Framer::Opus(_) => {
                track.sample_rate = opus::RATE;
                track.channels = opus::read_channels(&self.entry.config).unwrap_or(0);
                track.config = self.entry.config.clone();
            }
        }
        let is_new = self.track.as_ref() != Some(&track);
        self.track = Some(track);
        is_new
    }
}

/// The timestamps of a whole PES header: `None` if it is none, `Some(None)` if it has none.
fn read_stamp(header: &[u8]) -> Option<Option<Stamp>> {
    let PesContents::Parsed(Some(fields)) = PesHeader::from_bytes(header)?.contents() else {
        return None;
    };
    let stamp = match fields.pts_dts() {
        Ok(PtsDts::PtsOnly(Ok(pts))) => Some(Stamp { pts: pts.value(), dts: pts.value() }),
        Ok(PtsDts::Both { pts: Ok(pts), dts: Ok(dts) }) => {
            Some(Stamp { pts: pts.value(), dts: dts.value() })
        }
        // Present but damaged, or not present.
        Ok(_) | Err(_) => None,
    };
    Some(stamp)
}

/// Stuffing bytes in a packet's adaptation field: only the last packet of a PES packet needs them.
fn stuffing(packet: &[u8; PACKET_LEN]) -> usize {
    let [_, _, _, control, len, rest @ ..] = packet;
    if control & 0x20 == 0 {
        return 0;
    }
    let Some(field) = rest.get(..usize::from(*len)) else { return 0 };
    let Some((flags, fields)) = field.split_first() else {
        // A field of length 0 is one byte of stuffing.
        return 1;
    };
    let mut used = 0;
    let mut optional = |flag: u8, len: usize| {
        if flags & flag != 0 {
            used += len;
        }
    };
    optional(0x10, 6);
    optional(0x08, 6);
    optional(0x04, 1);
    for flag in [0x02, 0x01] {
        if flags & flag != 0 {
            used += 1 + usize::from(fields.get(used).copied().unwrap_or(0));
        }
    }
    fields.len().saturating_sub(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuffing_is_what_no_field_uses() {
        let mut packet = [0xff; PACKET_LEN];
        packet[..4].copy_from_slice(&[SYNC, 0, 0, 0x10]);
        assert_eq!(stuffing(&packet), 0);
        packet[3] = 0x30;
        packet[4] = 0;
        assert_eq!(stuffing(&packet), 1);
        // A clock reference and nothing else, then the same and three bytes.
        packet[4..6].copy_from_slice(&[7, 0x10]);
        assert_eq!(stuffing(&packet), 0);
        packet[4] = 10;
        assert_eq!(stuffing(&packet), 3);
        // Private data of four bytes.
        packet[4..7].copy_from_slice(&[8, 0x02, 4]);
        assert_eq!(stuffing(&packet), 2);
    }
}
