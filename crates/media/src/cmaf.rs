//! Access units → fragmented MP4, as browsers, HLS players and recordings take it (CMAF).
//!
//! ```text
//!   generations   K R R R │ R R R R │ K R R R │ … other parameter sets … │ K R R R
//!   fragments     [ ][ ]    [ ][ ]    [ ][ ]                               [ ][ ]
//!   init          ▲ written with the first                                 ▲ another one
//! ```
//!
//! Decides which tracks are written, when a new init segment is due, and where fragments are cut. One
//! video track is written: the full rendition, or where a stretch does not have it, another. An init
//! segment is never written before the configuration of every track is known: without the sound's,
//! Chromium refuses it. How samples are timed is left to [`timing`], boxes to the modules below. Who
//! plays it, and what a playlist says, is left to others.

mod boxes;
mod fragment;
mod init;
mod setup;
mod timing;

use std::sync::Arc;
use std::time::Duration;

use banyan_wire::{MediaTime, Rendition, Track, TrackId};
use bytes::Bytes;

use self::fragment::{Run, Sample, flags};
pub use self::init::Init;
use self::setup::{Setup, samples};
use self::timing::{Clock, MAX_STEP, Placed};
use crate::access_unit::AccessUnit;

/// A hole in all tracks longer than this, in ticks, makes a fragment discontinuous: 100 ms, which
/// players jump over by themselves.
const MAX_HOLE: i64 = MediaTime::HZ / 10;

/// Generations that wait for a track whose configuration is not known, before the others go on
/// without it: four seconds at the default length.
const MAX_WAIT: u32 = 8;

/// Times beyond this are cut to it: no sum overflows.
const MAX_TIME: i64 = 1 << 60;

/// Writes a programme as fragmented MP4.
///
/// Give it the units of whole generations. Its output is a pure function of its input. The time it
/// writes begins with zero and goes on where the source's clock is set anew.
#[derive(Debug)]
pub struct CmafMuxer {
    max_fragment: i64,
    max_sound_tracks: usize,
    tracks: Vec<Track>,
    streams: Vec<Stream>,
    init: Option<Arc<Init>>,
    /// Added to the source's time.
    offset: i64,
    /// The programme goes on here, in the time that is written.
    end: i64,
    /// Generations since a track's configuration was missed.
    waited: Option<u32>,
    sequence: u32,
}

/// A stretch of the programme that can be appended to an init segment.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// What has to come before it; the same one as long as nothing changes.
    pub init: Arc<Init>,
    /// Whether it does not go on where the one before ended: time is missing, the source's clock was
    /// set anew, or the init segment is another. True for the first.
    pub is_discontinuous: bool,
    /// Whether decoding can begin with it.
    pub is_independent: bool,
    /// When it begins, in ticks since the first one.
    pub start: i64,
    /// How many ticks it lasts: at least one.
    pub duration: i64,
    /// Pictures in it.
    pub pictures: usize,
    /// Its bytes: `styp`, `moof` and `mdat`.
    pub data: Bytes,
}

#[derive(Debug)]
struct Stream {
    track: Track,
    number: u32,
    setup: Setup,
    clock: Clock,
    /// How much later than decoded the first picture is shown. Decode times are moved by it, so that
    /// a stretch begins with the time of its picture.
    delay: i64,
}

impl CmafMuxer {
    /// Creates a muxer of fragments no longer than `max_fragment`, and at least one picture long.
    /// `max_sound_tracks` is how many tracks of sound are written: browsers take one.
    #[must_use]
    pub fn new(max_fragment: Duration, max_sound_tracks: usize) -> Self {
        let micros = i64::try_from(max_fragment.as_micros().min(3_600_000_000)).unwrap_or(0);
        Self {
            max_fragment: MediaTime::from_micros(micros).0.max(1),
            max_sound_tracks,
            tracks: Vec::new(),
            streams: Vec::new(),
            init: None,
            offset: 0,
            end: 0,
            waited: None,
            sequence: 0,
        }
    }

    /// Says what the units that follow are made of. It shows where a picture can be started at.
    pub fn set_tracks(&mut self, tracks: &[Track]) {
        if self.tracks != tracks {
            self.tracks = tracks.to_vec();
            self.waited = None;
        }
    }

    /// Writes a generation. Gives nothing before the tracks are known and a picture can be decoded.
    pub fn push(&mut self, units: &[AccessUnit]) -> Vec<Fragment> {
        let is_new = self.update_streams(units);
        let Some(init) = self.init.clone() else { return Vec::new() };
        let is_discontinuous = self.set_clocks(units, is_new) || is_new;
        let pieces = self.cut(units);
        let mut fragments = Vec::new();
        for piece in pieces {
            let Some(fragment) = self.write(piece, &init) else { continue };
            fragments.push(fragment);
        }
        if let Some(first) = fragments.first_mut() {
            first.is_discontinuous = is_discontinuous;
        }
        fragments
    }

    /// The tracks to write a generation of: one of pictures, and sound.
    fn choose(&self, units: &[AccessUnit]) -> Vec<&Track> {
        let has_units = |track: &Track| units.iter().any(|unit| unit.track == track.id);
        let can_begin = |track: &Track| {
            let first = units.iter().find(|unit| unit.track == track.id);
            first.is_some_and(|unit| unit.random_access)
        };
        let videos = || self.tracks.iter().filter(|track| track.codec.is_video());
        let current = videos().find(|track| {
            self.streams.iter().any(|stream| stream.track.id == track.id) && has_units(track)
        });
        let full = videos().find(|track| track.rendition == Rendition::Full && can_begin(track));
        let video = full.or(current).or_else(|| videos().find(|track| can_begin(track)));
        let sound = self.tracks.iter().filter(|track| !track.codec.is_video());
        video.into_iter().chain(sound.take(self.max_sound_tracks)).collect()
    }

    /// Brings the streams up to what the units are made of, where that can be done. Returns whether
    /// there is another init segment.
    fn update_streams(&mut self, units: &[AccessUnit]) -> bool {
        let has_video = self.tracks.iter().any(|track| track.codec.is_video());
        self.waited = self.waited.map(|waited| waited.saturating_add(1));
        let chosen: Vec<Track> = self.choose(units).into_iter().cloned().collect();
        let video = chosen.iter().find(|track| track.codec.is_video());
        let first = video.and_then(|track| units.iter().find(|unit| unit.track == track.id));
        // Another init segment makes players wait for a picture to start at.
        if has_video && !first.is_some_and(|unit| unit.random_access) {
            return false;
        }
        let mut streams = Vec::new();
        let mut is_complete = true;
        for track in chosen {
            let first = units.iter().find(|unit| unit.track == track.id && unit.random_access);
            let known = self.streams.iter().find(|stream| stream.track.id == track.id);
            let known = known.filter(|stream| stream.track.codec == track.codec);
            let setup = Setup::new(&track, first.map(|unit| &unit.data[..]))
                .or_else(|| known.map(|stream| stream.setup.clone()));
            let Some(setup) = setup else {
                is_complete = false;
                continue;
            };
            let number = u32::try_from(streams.len()).unwrap_or(0) + 1;
            let clock = Clock::new(setup.timescale, track.codec.is_video());
            let delay = first.filter(|_| track.codec.is_video());
            let delay =
                delay.map_or(0, |unit| unit.pts.0.saturating_sub(unit.dts.0).clamp(0, MAX_STEP));
            streams.push(Stream { track, number, setup, clock, delay });
        }
        if !is_complete && *self.waited.get_or_insert(0) < MAX_WAIT {
            return false;
        }
        let lacks_video = has_video && !streams.iter().any(|stream| stream.track.codec.is_video());
        if streams.is_empty() || lacks_video {
            return false;
        }
        let init = Init::new(streams.iter().map(|stream| (&stream.track, &stream.setup)));
        let is_same = self.init.as_deref() == Some(&init);
        let ids = |streams: &[Stream]| -> Vec<TrackId> {
            streams.iter().map(|stream| stream.track.id).collect()
        };
        if is_same && ids(&streams) == ids(&self.streams) {
            return false;
        }
        self.streams = streams;
        self.init = Some(Arc::new(init));
        true
    }

    /// Sets the clocks for a generation. Returns whether it does not follow the last one.
    fn set_clocks(&mut self, units: &[AccessUnit], is_new: bool) -> bool {
        let mut starts = Vec::new();
        for stream in &self.streams {
            let first = units.iter().find(|unit| unit.track == stream.track.id);
            if let Some(first) = first {
                starts.push((stream, stream.time(first).saturating_add(self.offset)));
            }
        }
        let Some(start) = starts.iter().map(|(_, start)| *start).min() else { return false };
        let is_behind = starts.iter().any(|(stream, start)| stream.clock.is_behind(*start));
        let hole = if is_new {
            start.saturating_sub(self.end)
        } else {
            starts.iter().filter_map(|(stream, start)| stream.clock.gap(*start)).min().unwrap_or(0)
        };
        // Streams that are new have nothing behind them: they are measured by the whole.
        let is_behind = is_behind || is_new && hole < 0;
        let is_first = self.sequence == 0;
        if !is_behind && !is_first && hole <= MAX_STEP {
            let usual = self.streams.iter().map(|stream| 2 * stream.clock.step()).min();
            return hole > MAX_HOLE.max(usual.unwrap_or(0));
        }
        // The source's clock was set anew: what is written goes on.
        self.offset = self.offset.saturating_add(self.end.saturating_sub(start));
        self.offset = self.offset.clamp(-2 * MAX_TIME, 2 * MAX_TIME);
        for stream in &mut self.streams {
            stream.clock = Clock::new(stream.setup.timescale, stream.track.codec.is_video());
        }
        true
    }

    /// Places the units of a generation in time, and shares them out among fragments.
    fn cut(&mut self, units: &[AccessUnit]) -> Vec<Vec<Timed>> {
        let offset = self.offset;
        let sound_until = |streams: &[Stream]| {
            let of_sound = |unit: &&AccessUnit| {
                let stream = streams.iter().find(|stream| stream.track.id == unit.track);
                stream.is_some_and(|stream| !stream.track.codec.is_video())
            };
            units.iter().filter(of_sound).map(|unit| unit.dts.0).max()
        };
        // In the time pictures are decoded in.
        let until = sound_until(&self.streams).unwrap_or(i64::MIN / 2).max(-MAX_TIME);
        let mut timed: Vec<Vec<Timed>> = Vec::new();
        for stream in &mut self.streams {
            let own: Vec<&AccessUnit> =
                units.iter().filter(|unit| unit.track == stream.track.id).collect();
            let times: Vec<(i64, Option<u32>)> = own
                .iter()
                .map(|unit| {
                    let samples = samples(stream.track.codec, &unit.data);
                    (stream.time(unit).saturating_add(offset), samples)
                })
                .collect();
            let until = until.saturating_add(stream.delay).saturating_add(offset);
            let placed = stream.clock.place(&times, until);
            let of_unit = |(unit, placed): (&&AccessUnit, Placed)| Timed {
                number: stream.number,
                unit: (*unit).clone(),
                placed,
                begins: stream.clock.unscale(placed.decode),
                ends: stream.clock.unscale(placed.decode + i64::from(placed.duration)),
            };
            timed.push(own.iter().zip(placed).map(of_unit).collect());
        }
        let ends = self.streams.iter().filter_map(|stream| stream.clock.end());
        self.end = ends.max().unwrap_or(self.end);
        share(timed, self.max_fragment)
    }

    fn write(&mut self, piece: Vec<Timed>, init: &Arc<Init>) -> Option<Fragment> {
        let mut runs: Vec<Run> = Vec::new();
        let has_video = self.streams.iter().any(|stream| stream.track.codec.is_video());
        // Pictures say when it begins, where it has any.
        let is_picture = |timed: &&Timed| timed.unit.priority.is_video();
        let pictures: Vec<&Timed> = piece.iter().filter(is_picture).collect();
        let of_time = |begins: Option<i64>, ends: Option<i64>| begins.zip(ends);
        let (start, end) = of_time(
            pictures.first().map(|first| first.begins),
            pictures.last().map(|last| last.ends),
        )
        .or_else(|| {
            let begins = piece.iter().map(|timed| timed.begins).min();
            of_time(begins, piece.iter().map(|timed| timed.ends).max())
        })?;
        let is_independent = pictures.first().map_or(!has_video, |first| first.unit.random_access);
        let pictures = pictures.len();
        for timed in piece {
            let Some(stream) = self.streams.iter().find(|stream| stream.number == timed.number)
            else {
                continue;
            };
            let index = match runs.iter().position(|run| run.number == timed.number) {
                Some(index) => index,
                None => {
                    runs.push(Run {
                        number: timed.number,
                        decode_time: u64::try_from(timed.placed.decode).unwrap_or(0),
                        samples: Vec::new(),
                        data: Vec::new(),
                    });
                    runs.len() - 1
                }
            };
            let Some(run) = runs.get_mut(index) else { continue };
            let before = run.data.len();
            stream.setup.put_sample(stream.track.codec, &timed.unit.data, &mut run.data);
            run.samples.push(Sample {
                duration: timed.placed.duration,
                composition: stream.composition(&timed.unit),
                len: run.data.len() - before,
                flags: flags(timed.unit.random_access, timed.unit.priority),
            });
        }
        self.sequence = self.sequence.wrapping_add(1);
        Some(Fragment {
            init: Arc::clone(init),
            is_discontinuous: false,
            is_independent,
            start,
            duration: end.saturating_sub(start).max(1),
            pictures,
            data: fragment::write(self.sequence, &runs),
        })
    }
}

/// A unit with its place in time.
#[derive(Clone, Debug)]
struct Timed {
    number: u32,
    unit: AccessUnit,
    placed: Placed,
    begins: i64,
    ends: i64,
}

impl Stream {
    /// When a unit is decoded, in the source's time; sound when it is heard.
    fn time(&self, unit: &AccessUnit) -> i64 {
        let time = if self.track.codec.is_video() { unit.dts } else { unit.pts };
        time.0.clamp(-MAX_TIME, MAX_TIME).saturating_add(self.delay)
    }

    fn composition(&self, unit: &AccessUnit) -> i32 {
        if self.track.codec.is_video() {
            let shown = unit.pts.0.saturating_sub(unit.dts.0).saturating_sub(self.delay);
            i32::try_from(shown.clamp(-MAX_STEP, MAX_STEP)).unwrap_or(0)
        } else {
            0
        }
    }
}

/// Shares the samples of each track out among fragments of about the same length, none longer than
/// `max` unless one sample is.
fn share(tracks: Vec<Vec<Timed>>, max: i64) -> Vec<Vec<Timed>> {
    let is_video =
        |track: &&Vec<Timed>| track.first().is_some_and(|timed| timed.unit.priority.is_video());
    let main = tracks.iter().find(is_video).or_else(|| tracks.iter().find(|t| !t.is_empty()));
    let Some(main) = main else { return Vec::new() };
    let cuts = cuts(main, max);
    let mut pieces: Vec<Vec<Timed>> = vec![Vec::new(); cuts.len() + 1];
    for timed in tracks.into_iter().flatten() {
        let index = cuts.partition_point(|cut| *cut <= timed.begins);
        if let Some(piece) = pieces.get_mut(index) {
            piece.push(timed);
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// The times at which a track is cut.
fn cuts(main: &[Timed], max: i64) -> Vec<i64> {
    let (Some(first), Some(last)) = (main.first(), main.last()) else { return Vec::new() };
    let total = last.ends.saturating_sub(first.begins).max(1);
    let least = total / max + i64::from(total % max != 0);
    let most = i64::try_from(main.len()).unwrap_or(i64::MAX);
    let at = |count: i64| -> Vec<i64> {
        let mut cuts = Vec::new();
        let mut piece = 0;
        for timed in main {
            let passed = timed.begins.saturating_sub(first.begins);
            let now = passed.saturating_mul(count) / total;
            if now > piece {
                piece = now;
                cuts.push(timed.begins);
            }
        }
        cuts
    };
    let fits = |cuts: &[i64]| {
        let bounds = [&[first.begins], cuts, &[last.ends]].concat();
        bounds.windows(2).all(|pair| pair[1] - pair[0] <= max)
    };
    // Pictures of odd lengths may need a piece or two more than the sum of them says.
    let count = (least..=least.saturating_add(4).min(most)).find(|count| fits(&at(*count)));
    at(count.unwrap_or_else(|| least.min(most)))
}
