//! Transport stream → tracks and access units.
//!
//! Decides which programme and which of its streams are carried (of several pictures, that is
//! [`crate::renditions`]'s), when enough is known of them to
//! announce them, and what is said about the rest. Finding packets is left to [`super::packets`],
//! cutting units to [`crate::es`], time to [`crate::timeline`].
//!
//! ```text
//!  bytes ─▶ packets ─▶ PAT, PMT ─▶ the first programme with video, else with sound
//!              └─────▶ streams ──▶ framers ──▶ timeline ──▶ held until announced ─▶ events
//! ```

use std::collections::{BTreeSet, VecDeque};

use banyan_wire::{MAX_TRACKS, Track, TrackId};
use mpeg2ts_reader::packet::Packet;

use super::PACKET_LEN;
use super::packets::{PROBE_LIMIT, Packetizer};
use super::psi::{self, Content, SectionBuffer, StreamEntry, TABLE_PAT, TABLE_PMT};
use super::stream::Stream;
use crate::access_unit::AccessUnit;
use crate::error::{DemuxError, Failure};
use crate::es::Framed;
use crate::held::Held;
use crate::renditions::{self, Renditions};
use crate::timeline::{Timeline, TrackClock};

/// Streams reported as skipped; further ones are skipped silently.
const MAX_SKIPPED: usize = 64;

/// Bytes of input within which an announced stream of pictures must show its parameter sets: a minute at
/// 8 Mbit/s.
const PARAMETER_SETS_LIMIT: usize = 64 << 20;

/// What a demuxer found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The programme's tracks, in the order of their ids: before the first unit, and whenever they
    /// change. At most [`MAX_TRACKS`].
    Tracks(Vec<Track>),
    /// The next unit, in the order of the input. Within a track, `dts` grows.
    AccessUnit(AccessUnit),
    /// A stream of the programme that is not carried; said once per stream.
    Skipped {
        /// Its stream type in the PMT.
        stream_type: u8,
        /// Its packets' PID.
        pid: u16,
        /// What it is, or why it is not carried.
        reason: &'static str,
    },
    /// A track of MP4 or Matroska that is not carried; said once per track.
    SkippedTrack {
        /// Its number in the container.
        number: u64,
        /// What it is, or why it is not carried.
        reason: String,
    },
    /// The input's clock jumped, as when an encoder restarts or a file begins again. Media time goes
    /// on as if it had not.
    Discontinuity,
}

impl Event {
    /// A line for the user, of events that are worth one.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        match self {
            Self::Skipped { stream_type, pid, reason } => Some(format!(
                "the stream of type {stream_type:#04x} (pid {pid}) is skipped: {reason}"
            )),
            Self::SkippedTrack { number, reason } => {
                Some(format!("track {number} is skipped: {reason}"))
            }
            Self::Tracks(_) | Self::AccessUnit(_) | Self::Discontinuity => None,
        }
    }
}

/// Damage seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DemuxStats {
    /// Times that packets of a carried stream were missing.
    pub gaps: u64,
    /// Access units dropped because part of them was missing or senseless.
    pub dropped_units: u64,
}

impl DemuxStats {
    /// The sum of both.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            gaps: self.gaps + other.gaps,
            dropped_units: self.dropped_units + other.dropped_units,
        }
    }
}

/// Reads a transport stream.
///
/// Push bytes of any length, then drain the events; the queue of events is as long as what was
/// pushed and not drained.
///
/// ```
/// # fn main() -> Result<(), banyan_media::DemuxError> {
/// let mut demuxer = banyan_media::TsDemuxer::new();
/// # let input: [&[u8]; 0] = [];
/// for bytes in input {
///     demuxer.push(bytes)?;
///     while let Some(event) = demuxer.poll() {
///         println!("{event:?}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct TsDemuxer {
    packets: Packetizer,
    pat: SectionBuffer,
    programmes: Vec<Programme>,
    /// The PMT's PID of the chosen programme.
    chosen: Option<u16>,
    streams: Vec<Stream>,
    timeline: Timeline,
    /// Bytes of packets since the last programme was chosen, or since the start.
    probed: usize,
    /// Events before the first announcement.
    held: Held,
    announced: Vec<Track>,
    is_announced: bool,
    renditions: Renditions,
    /// Pictures that are not carried beside the others.
    left_out: Vec<TrackId>,
    events: VecDeque<Event>,
    skipped: BTreeSet<(u16, u8)>,
    /// Damage of streams that are gone.
    past: DemuxStats,
    /// By track id, where the time of the last stream that had it stopped.
    clocks: [TrackClock; MAX_TRACKS],
    failure: Failure,
}

/// One entry of the PAT.
#[derive(Debug)]
struct Programme {
    pmt_pid: u16,
    sections: SectionBuffer,
    streams: Option<Vec<StreamEntry>>,
}

impl TsDemuxer {
    /// Creates a demuxer that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a demuxer whose time goes on from that of another.
    pub(crate) fn with_timeline(timeline: Timeline, renditions: Renditions) -> Self {
        Self { timeline, renditions, ..Self::default() }
    }

    /// Gives the timeline up, for the stream that comes next.
    pub(crate) fn take_timeline(&mut self) -> Timeline {
        self.timeline.end();
        std::mem::take(&mut self.timeline)
    }

    /// Creates one that looks for renditions of the programme as told.
    #[must_use]
    pub fn with_renditions(renditions: Renditions) -> Self {
        Self { renditions, ..Self::default() }
    }

    /// Takes the next bytes of the stream; they may start and end anywhere.
    ///
    /// # Errors
    ///
    /// If the input turns out not to be a stream that can be carried. There is no going on from it:
    /// every later call gives the same error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DemuxError> {
        // In parts, so that the copy made to find packets stays short.
        for part in bytes.chunks(64 << 10) {
            self.failure.check()?;
            self.packets.push(part);
            let result = self.take_packets();
            self.failure.note(result)?;
        }
        self.failure.check()
    }

    /// Says that the stream ends here, which completes the last access unit.
    ///
    /// # Errors
    ///
    /// If the whole input was not a stream that can be carried.
    pub fn finish(&mut self) -> Result<(), DemuxError> {
        self.failure.check()?;
        self.packets.finish();
        let mut result = self.take_packets();
        if result.is_ok() {
            for index in 0..self.streams.len() {
                if let Some(stream) = self.streams.get_mut(index) {
                    stream.flush();
                }
                self.drain_stream(index);
            }
            self.announce(true);
            result = self.verdict();
        }
        self.failure.note(result)
    }

    /// The next event; drain after every [`push`](Self::push) and [`finish`](Self::finish).
    #[must_use]
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How much of the input was damaged.
    #[must_use]
    pub fn stats(&self) -> DemuxStats {
        self.streams.iter().fold(self.past, |sum, stream| DemuxStats {
            gaps: sum.gaps + stream.gaps(),
            dropped_units: sum.dropped_units + stream.dropped(),
        })
    }

    /// What is wrong if the stream ends here.
    fn verdict(&self) -> Result<(), DemuxError> {
        if self.is_announced {
            return Ok(());
        }
        if !self.packets.was_locked() {
            return Err(DemuxError::NotTransportStream { looks_like: self.packets.looks_like() });
        }
        if self.chosen.is_some() {
            return Err(self.not_described());
        }
        if self.programmes.iter().all(|programme| programme.streams.is_none()) {
            return Err(DemuxError::NoProgramme);
        }
        Err(self.nothing_carried())
    }

    /// The error for programmes of which nothing is carried.
    fn nothing_carried(&self) -> DemuxError {
        let mut entries = self.programmes.iter().flat_map(|programme| &programme.streams).flatten();
        let codec = entries.find_map(|entry| match entry.content {
            Content::Video(codec) => Some(codec),
            Content::Carried(_) | Content::Other(_) => None,
        });
        codec.map_or(DemuxError::NothingCarried, |codec| DemuxError::UnsupportedVideo { codec })
    }

    /// The error for a chosen programme whose streams do not say how they are coded.
    fn not_described(&self) -> DemuxError {
        let video = self.streams.iter().find(|stream| stream.is_video());
        video.map_or(DemuxError::NothingCarried, |stream| DemuxError::NoParameterSets {
            codec: stream.codec().name(),
        })
    }

    fn take_packets(&mut self) -> Result<(), DemuxError> {
        loop {
            // A copy of 188 bytes frees the borrow; it costs next to nothing.
            let Some(packet) = self.packets.next()?.copied() else { return Ok(()) };
            self.on_packet(&packet)?;
        }
    }

    fn on_packet(&mut self, bytes: &[u8; PACKET_LEN]) -> Result<(), DemuxError> {
        let packet = Packet::new(bytes);
        if !self.is_announced {
            self.probed += PACKET_LEN;
            self.check_limits()?;
        }
        // A packet known to be damaged is a missing one: its PID may be wrong, too.
        if packet.transport_error_indicator() {
            return Ok(());
        }
        let pid = u16::from(packet.pid());
        if let Some(index) = self.streams.iter().position(|stream| stream.entry.pid == pid) {
            self.on_stream_packet(index, bytes);
        } else if pid == 0 {
            self.on_pat_packet(&packet)?;
        } else if let Some(index) = self.programmes.iter().position(|known| known.pmt_pid == pid) {
            self.on_pmt_packet(index, &packet)?;
        }
        Ok(())
    }

    fn check_limits(&mut self) -> Result<(), DemuxError> {
        if self.chosen.is_some() {
            if self.probed > PROBE_LIMIT {
                self.announce(true);
            }
            if !self.is_announced && self.probed > PARAMETER_SETS_LIMIT {
                return Err(self.not_described());
            }
        } else if self.probed > PROBE_LIMIT {
            return self.verdict();
        }
        Ok(())
    }

    fn on_pat_packet(&mut self, packet: &Packet<'_>) -> Result<(), DemuxError> {
        let Some(payload) = packet.payload() else { return Ok(()) };
        let mut listed = None;
        self.pat.push(payload, packet.payload_unit_start_indicator(), |section| {
            if section.table == TABLE_PAT {
                listed = Some(psi::read_pat(section.body));
            }
        });
        let Some(listed) = listed else { return Ok(()) };
        // Keep what is known of programmes that stay.
        let mut known = std::mem::take(&mut self.programmes);
        for (_, pmt_pid) in listed {
            if self.programmes.iter().any(|programme| programme.pmt_pid == pmt_pid) {
                continue;
            }
            let same = known.iter().position(|programme| programme.pmt_pid == pmt_pid);
            self.programmes.push(same.map_or_else(
                || Programme { pmt_pid, sections: SectionBuffer::default(), streams: None },
                |at| known.swap_remove(at),
            ));
        }
        // A chosen programme that is gone plays on until there is another one.
        let is_gone = |chosen: u16| self.programmes.iter().all(|other| other.pmt_pid != chosen);
        if self.chosen.is_some_and(is_gone) {
            self.chosen = None;
            self.choose()?;
        }
        Ok(())
    }

    fn on_pmt_packet(&mut self, index: usize, packet: &Packet<'_>) -> Result<(), DemuxError> {
        let (Some(payload), Some(programme)) = (packet.payload(), self.programmes.get_mut(index))
        else {
            return Ok(());
        };
        let mut listed = None;
        programme.sections.push(payload, packet.payload_unit_start_indicator(), |section| {
            if section.table == TABLE_PMT {
                listed = Some(psi::read_pmt(section.body));
            }
        });
        if listed.is_none() || listed == programme.streams {
            return Ok(());
        }
        let pmt_pid = programme.pmt_pid;
        programme.streams = listed;
        if let Some(chosen) = self.chosen
            && (chosen == pmt_pid || self.renditions == Renditions::AllProgrammes)
        {
            self.rebuild_streams(chosen);
        } else if self.chosen.is_none() {
            self.choose()?;
        }
        Ok(())
    }

    /// Chooses the first programme with video that is carried, or once all are known and none has any
    /// video, the first with sound.
    fn choose(&mut self) -> Result<(), DemuxError> {
        let is_carried = |entry: &StreamEntry| matches!(entry.content, Content::Carried(_));
        let is_video = |entry: &StreamEntry| match entry.content {
            Content::Carried(codec) => codec.is_video(),
            Content::Video(_) | Content::Other(_) => false,
        };
        let is_other_video = |entry: &StreamEntry| matches!(entry.content, Content::Video(_));
        let find = |wanted: &dyn Fn(&StreamEntry) -> bool| {
            self.programmes.iter().find(|programme| {
                programme.streams.as_ref().is_some_and(|streams| streams.iter().any(wanted))
            })
        };
        let are_known = self.programmes.iter().all(|programme| programme.streams.is_some());
        let found = match find(&is_video) {
            // A programme that has pictures is not carried without them.
            None if are_known && find(&is_other_video).is_none() => find(&is_carried),
            found => found,
        };
        if let Some(programme) = found {
            let pmt_pid = programme.pmt_pid;
            self.chosen = Some(pmt_pid);
            self.probed = 0;
            self.rebuild_streams(pmt_pid);
            return Ok(());
        }
        // Once announced, a programme may come back: wait.
        if !self.is_announced && are_known {
            return Err(self.nothing_carried());
        }
        Ok(())
    }

    /// Follows a programme's new list of streams. Streams that stay keep their state and id.
    fn rebuild_streams(&mut self, pmt_pid: u16) {
        let (chosen, others): (Vec<_>, Vec<_>) =
            self.programmes.iter().partition(|programme| programme.pmt_pid == pmt_pid);
        let entries = |programmes: Vec<&Programme>| -> Vec<StreamEntry> {
            programmes.iter().filter_map(|programme| programme.streams.clone()).flatten().collect()
        };
        let mut listed = entries(chosen);
        if self.renditions == Renditions::AllProgrammes {
            let is_video = |entry: &StreamEntry| matches!(entry.content, Content::Carried(codec) if codec.is_video());
            listed.extend(entries(others).into_iter().filter(is_video));
        }
        for index in 0..self.streams.len() {
            let is_gone = self.streams.get(index).is_some_and(|old| !listed.contains(&old.entry));
            if is_gone {
                if let Some(stream) = self.streams.get_mut(index) {
                    stream.flush();
                }
                self.drain_stream(index);
            }
            if let Some(stream) = self.streams.get(index).filter(|_| is_gone)
                && let Some(clock) = self.clocks.get_mut(usize::from(stream.id.0))
            {
                *clock = stream.clock.handed_on();
                let id = stream.id;
                self.held.forget(id);
            }
        }
        let past = self.stats();
        self.streams.retain(|stream| listed.contains(&stream.entry));
        for entry in listed {
            let codec = match entry.content {
                Content::Carried(codec) => codec,
                Content::Video(reason) | Content::Other(reason) => {
                    self.skip(&entry, reason);
                    continue;
                }
            };
            if self.streams.iter().any(|stream| stream.entry.pid == entry.pid) {
                continue;
            }
            match self.free_id() {
                Some(id) => {
                    let mut stream = Stream::new(id, codec, entry);
                    if let Some(clock) = self.clocks.get(usize::from(id.0)) {
                        stream.clock = *clock;
                    }
                    self.streams.push(stream);
                }
                None => self.skip(&entry, "more tracks than are carried"),
            }
        }
        let left = self.streams.iter().fold((0, 0), |(gaps, dropped), stream| {
            (gaps + stream.gaps(), dropped + stream.dropped())
        });
        self.past = DemuxStats {
            gaps: past.gaps.saturating_sub(left.0),
            dropped_units: past.dropped_units.saturating_sub(left.1),
        };
        if self.is_announced {
            self.announce_changes();
        }
    }

    /// The lowest id no stream has.
    fn free_id(&self) -> Option<TrackId> {
        (0u8..)
            .take(MAX_TRACKS)
            .map(TrackId)
            .find(|id| self.streams.iter().all(|stream| stream.id != *id))
    }

    fn skip(&mut self, entry: &StreamEntry, reason: &'static str) {
        let is_known = self.skipped.contains(&(entry.pid, entry.stream_type));
        if is_known || self.skipped.len() >= MAX_SKIPPED {
            return;
        }
        self.skipped.insert((entry.pid, entry.stream_type));
        let event = Event::Skipped { stream_type: entry.stream_type, pid: entry.pid, reason };
        self.events.push_back(event);
    }

    fn on_stream_packet(&mut self, index: usize, bytes: &[u8; PACKET_LEN]) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if Packet::new(bytes).transport_scrambling_control().is_scrambled() {
            let entry = stream.entry.clone();
            self.skip(&entry, "scrambled");
            return;
        }
        stream.on_packet(bytes);
        self.drain_stream(index);
    }

    /// Puts what a stream has completed in its place.
    fn drain_stream(&mut self, index: usize) {
        loop {
            let Some(stream) = self.streams.get_mut(index) else { return };
            let is_changed = stream.refresh_track();
            if is_changed && self.is_announced {
                self.announce_changes();
            }
            let Some(stream) = self.streams.get_mut(index) else { return };
            let Some(framed) = stream.poll() else { break };
            let Framed { stamp, random_access, priority, data } = framed;
            // Before its parameters are known, nothing of a stream can be decoded.
            let Some(own) = &stream.track else { continue };
            // Nor is it of use while its id still stands for a track of another kind.
            let is_own = |track: &Track| track.id == own.id && track.codec == own.codec;
            if self.is_announced && !self.announced.iter().any(is_own) {
                continue;
            }
            let Some(placed) = self.timeline.place(&mut stream.clock, stamp) else { continue };
            let unit = AccessUnit {
                track: stream.id,
                pts: placed.pts,
                dts: placed.dts,
                random_access,
                priority,
                data,
            };
            if placed.jumped {
                self.emit(Event::Discontinuity);
            }
            self.emit(Event::AccessUnit(unit));
        }
        if !self.is_announced {
            self.announce(false);
        }
    }

    fn emit(&mut self, event: Event) {
        if matches!(&event, Event::AccessUnit(unit) if self.left_out.contains(&unit.track)) {
            return;
        }
        if self.is_announced {
            self.events.push_back(event);
        } else {
            self.held.push(event);
        }
    }

    /// Announces the tracks for the first time if all are known, or if time is up and video is.
    fn announce(&mut self, is_time_up: bool) {
        if self.is_announced {
            return;
        }
        let is_known = |stream: &Stream| stream.track.is_some();
        let needs_video = self.streams.iter().any(Stream::is_video);
        let is_enough = |stream: &Stream| is_known(stream) && stream.is_video() == needs_video;
        if !self.streams.iter().any(is_enough) {
            return;
        }
        if is_time_up || self.held.is_late() || self.streams.iter().all(is_known) {
            self.is_announced = true;
            self.announce_changes();
            for event in self.held.take() {
                self.emit(event);
            }
        }
    }

    fn announce_changes(&mut self) {
        let mut tracks: Vec<Track> =
            self.streams.iter().filter_map(|stream| stream.track.clone()).collect();
        tracks.sort_by_key(|track| track.id);
        self.left_out = renditions::assign(&mut tracks, self.renditions);
        for id in self.left_out.clone() {
            let entry = self.streams.iter().find(|stream| stream.id == id);
            if let Some(entry) = entry.map(|stream| stream.entry.clone()) {
                self.skip(&entry, renditions::LEFT_OUT);
            }
        }
        // Without the picture that belongs to it, keep what was said until there is one again.
        let needs_video = self.streams.iter().any(Stream::is_video);
        let is_enough = |track: &Track| track.codec.is_video() == needs_video;
        if tracks != self.announced && tracks.iter().any(is_enough) {
            self.announced.clone_from(&tracks);
            self.events.push_back(Event::Tracks(tracks));
        }
    }
}
