//! What the demuxers of file formats have in common: samples of known tracks → events.
//!
//! Decides when tracks are announced, and that units of a track come after its description. Times
//! become media time on one timeline, as those of a transport stream do. Finding samples is left to
//! [`crate::mp4::live`] and [`crate::matroska`].

use std::collections::{BTreeMap, VecDeque};

use banyan_wire::{MAX_TRACKS, MediaTime, Track, TrackId};
use bytes::Bytes;

use crate::access_unit::AccessUnit;
use crate::error::{DemuxError, sound_not_carried};
use crate::renditions::{self, Renditions};
use crate::sample::{Described, Format};
use crate::timeline::{Timeline, TrackClock};
use crate::ts::demux::{DemuxStats, Event};

/// Tracks reported as skipped; further ones are skipped silently.
const MAX_SKIPPED: usize = 64;

/// The programme of a stream in a file format.
#[derive(Debug, Default)]
pub(crate) struct Programme {
    streams: Vec<Stream>,
    timeline: Timeline,
    /// The clocks of tracks that are gone, by id: others that take the id go on where they stopped.
    /// At most as many as there may be tracks.
    clocks: BTreeMap<TrackId, TrackClock>,
    renditions: Renditions,
    /// Pictures that are not carried beside the others.
    left_out: Vec<TrackId>,
    announced: Vec<Track>,
    /// What was announced is of tracks that are gone.
    is_stale: bool,
    events: VecDeque<Event>,
    skipped: Vec<(u64, String)>,
    unsupported_video: Option<String>,
    dropped: u64,
}

#[derive(Debug)]
struct Stream {
    /// What the container calls it.
    number: u64,
    track: Track,
    format: Format,
    clock: TrackClock,
    is_described: bool,
}

impl Programme {
    /// A programme whose time goes on from that of others, and that looks for renditions as told.
    pub(crate) fn new(timeline: Timeline, renditions: Renditions) -> Self {
        Self { timeline, renditions, ..Self::default() }
    }

    /// Gives the timeline up, for the stream that comes next.
    pub(crate) fn take_timeline(&mut self) -> Timeline {
        self.timeline.end();
        std::mem::take(&mut self.timeline)
    }

    /// Forgets all tracks: others follow.
    pub(crate) fn clear(&mut self) {
        let clocks = self.streams.drain(..).map(|stream| (stream.track.id, stream.clock));
        self.clocks.extend(clocks);
        self.is_stale = true;
        self.unsupported_video = None;
    }

    /// Adds a track and gives its place; `None` if there are too many.
    pub(crate) fn add(
        &mut self,
        described: Described,
        number: u64,
        language: String,
    ) -> Option<usize> {
        let Described { format, mut track } = described;
        let id = u8::try_from(self.streams.len()).ok().filter(|id| usize::from(*id) < MAX_TRACKS);
        let Some(id) = id else {
            self.skip(
                number,
                false,
                format!("{} (more tracks than are carried)", track.codec.name()),
            );
            return None;
        };
        track.id = TrackId(id);
        track.language = language;
        let is_described = format.is_described();
        let clock =
            self.clocks.remove(&track.id).map_or_else(TrackClock::default, TrackClock::handed_on);
        self.streams.push(Stream { number, track, format, clock, is_described });
        Some(usize::from(id))
    }

    /// Says that a track is not carried.
    pub(crate) fn skip(&mut self, number: u64, is_video: bool, reason: String) {
        if is_video && self.unsupported_video.is_none() {
            self.unsupported_video = Some(reason.clone());
        }
        let reason = if is_video { reason } else { sound_not_carried(&reason) };
        let is_known = self.skipped.iter().any(|known| *known == (number, reason.clone()));
        if is_known || self.skipped.len() >= MAX_SKIPPED {
            return;
        }
        self.skipped.push((number, reason.clone()));
        self.events.push_back(Event::SkippedTrack { number, reason });
    }

    /// Says that there are no more tracks.
    ///
    /// # Errors
    ///
    /// If none is carried, or none of the pictures that there are.
    pub(crate) fn check(&self) -> Result<(), DemuxError> {
        let has_video = self.streams.iter().any(|stream| stream.track.codec.is_video());
        match &self.unsupported_video {
            Some(codec) if !has_video => Err(DemuxError::UnsupportedTrack { codec: codec.clone() }),
            _ if self.streams.is_empty() => Err(DemuxError::NothingCarried),
            _ => Ok(()),
        }
    }

    /// How many tracks there are.
    pub(crate) const fn len(&self) -> usize {
        self.streams.len()
    }

    /// How the samples of a track are stored.
    pub(crate) fn format(&self, index: usize) -> Option<&Format> {
        self.streams.get(index).map(|stream| &stream.format)
    }

    /// The next sample of a track, with its times in ticks.
    pub(crate) fn push(&mut self, index: usize, pts: i64, dts: i64, sample: Bytes) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let Some(converted) = stream.format.convert(sample) else {
            self.dropped += 1;
            return;
        };
        let is_changed = stream.format.refresh(&mut stream.track);
        let was_described = stream.is_described;
        stream.is_described = stream.format.is_described();
        if !stream.is_described {
            // Nothing of it can be decoded yet.
            return;
        }
        let is_new = self.announced.is_empty() || self.is_stale || is_changed || !was_described;
        let Some(placed) = self.timeline.place_at(&mut stream.clock, pts, dts) else { return };
        let track = stream.track.id;
        if is_new {
            self.announce();
        }
        if placed.jumped {
            self.events.push_back(Event::Discontinuity);
        }
        if self.left_out.contains(&track) {
            return;
        }
        self.events.push_back(Event::AccessUnit(AccessUnit {
            track,
            pts: placed.pts,
            dts: placed.dts,
            random_access: converted.random_access,
            priority: converted.priority,
            data: converted.data,
        }));
    }

    fn announce(&mut self) {
        self.is_stale = false;
        let described = self.streams.iter().filter(|stream| stream.is_described);
        let mut tracks: Vec<Track> = described.map(|stream| stream.track.clone()).collect();
        self.left_out = renditions::assign(&mut tracks, self.renditions);
        let left_out =
            self.streams.iter().filter(|stream| self.left_out.contains(&stream.track.id));
        for number in left_out.map(|stream| stream.number).collect::<Vec<_>>() {
            self.skip(number, true, renditions::LEFT_OUT.to_owned());
        }
        if tracks != self.announced {
            self.announced.clone_from(&tracks);
            self.events.push_back(Event::Tracks(tracks));
        }
    }

    /// Says that something of the stream was dropped.
    pub(crate) const fn note_dropped(&mut self) {
        self.dropped += 1;
    }

    pub(crate) fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether any unit has come.
    pub(crate) const fn has_begun(&self) -> bool {
        !self.announced.is_empty()
    }

    pub(crate) const fn stats(&self) -> DemuxStats {
        DemuxStats { gaps: 0, dropped_units: self.dropped }
    }
}

/// From a fraction of a second to ticks, to the nearest as ffmpeg rounds, kept far from overflow.
pub(crate) fn rescale(time: i64, timescale: u32) -> i64 {
    let (time, scale) = (i128::from(time), i128::from(timescale.max(1)));
    let ticks = (time * i128::from(MediaTime::HZ) * 2 + scale).div_euclid(scale * 2);
    let limit = 1i64 << 56;
    i64::try_from(ticks).unwrap_or(if ticks < 0 { -limit } else { limit }).clamp(-limit, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_the_nearest_tick() {
        assert_eq!(rescale(512, 12_288), 3750);
        assert_eq!(rescale(1024, 44_100), 2090);
        assert_eq!(rescale(-1024, 48_000), -1920);
        assert_eq!(rescale(i64::MAX, 1), 1 << 56);
    }
}
