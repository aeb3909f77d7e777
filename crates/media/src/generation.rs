//! Groups access units into generations: what is coded, sent and played out together.
//!
//! Decides where a generation ends. How one becomes bytes is left to [`payload`], which units go
//! into which layer to [`layers`], how two renditions are brought together to [`align`], and how much
//! redundancy they get to `banyan-coding`.
//!
//! ```text
//!   dts      0          500         1000  1250 (key)      1750
//!            ├───────────┼───────────┼─────┼───────────────┼──
//!   picture  K R D R D R │ R D R D R │ R D │ K R D R D R D │
//!   sound    a  a  a  a  │ a  a  a   │ a  a│  a  a  a  a   │
//! ```

mod align;
pub(crate) mod layers;
pub mod payload;

use std::collections::VecDeque;
use std::time::Duration;

use banyan_wire::{MediaTime, Rendition, Track, TrackId};

use self::align::Aligner;
use crate::access_unit::AccessUnit;

/// Longest stretch of a programme in one generation, by default.
pub const DEFAULT_MAX_DURATION: Duration = Duration::from_millis(500);

/// Most bytes of access units in one generation; a larger one is cut early.
pub const MAX_GENERATION_BYTES: usize = 8 << 20;

/// Most access units in one generation; a larger one is cut early.
///
/// Half a second of eight tracks has about 400.
pub const MAX_GENERATION_UNITS: usize = 4096;

/// Units that are coded together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Whether decoding the picture can start with it: its first picture is one to start at, in at
    /// least one of the renditions. Without video: always.
    pub random_access: bool,
    /// The `dts` of its first picture, or without video of its first unit.
    pub start: MediaTime,
    /// Ticks from its start to the start of the next; never negative. Of the last one: a guess.
    pub duration: i64,
    /// At least one unit, in the order of their `dts`; units of the same `dts` as they came.
    pub units: Vec<AccessUnit>,
}

/// Cuts a sequence of access units into generations.
///
/// A picture that can be started at begins one, as does the first picture that would make one longer
/// than the limit. Sound goes with the pictures of the same time; what comes after its picture was
/// cut off goes into the next generation. Sound whose picture does not come is cut at twice the limit.
///
/// Of a programme in two renditions, a picture of either that can be started at begins one. The same
/// picture is in the same generation in both: the decode times of one are moved earlier, so that
/// pictures shown at the same time have the same. The low rendition is waited for as long as it is
/// less than a second behind; what comes later is dropped up to its next key picture.
#[derive(Debug)]
pub struct GenerationBuilder {
    aligner: Option<(TrackId, Aligner)>,
    /// Cut, and not given yet.
    ready: VecDeque<Generation>,
    max_duration: i64,
    units: Vec<AccessUnit>,
    bytes: usize,
    /// Of the first and the last picture collected.
    video: Option<(MediaTime, MediaTime)>,
    /// The last step between two pictures, or frames of a programme without pictures.
    step: i64,
    has_video: bool,
}

impl GenerationBuilder {
    /// Creates a builder of generations no longer than `max_duration`, and at least one picture long.
    #[must_use]
    pub fn new(max_duration: Duration) -> Self {
        let micros = i64::try_from(max_duration.as_micros().min(3_600_000_000)).unwrap_or(0);
        Self {
            aligner: None,
            ready: VecDeque::new(),
            max_duration: MediaTime::from_micros(micros).0,
            units: Vec::new(),
            bytes: 0,
            video: None,
            step: 0,
            has_video: false,
        }
    }

    /// Says what the units that follow belong to. Only needed for a programme in two renditions;
    /// what is held of them is cut off where that changes.
    pub fn set_tracks(&mut self, tracks: &[Track]) {
        let low = low_track(tracks);
        if low == self.aligner.as_ref().map(|(low, _)| *low) {
            return;
        }
        self.settle();
        // Sound that comes first belongs to the first picture.
        self.has_video |= low.is_some();
        self.aligner = low.map(|low| (low, Aligner::new(low)));
    }

    /// Adds the next unit; gives the generation before it, if the unit begins a new one. Of two
    /// renditions, there may be several at once: the next calls give the others.
    pub fn push(&mut self, unit: AccessUnit) -> Option<Generation> {
        match &mut self.aligner {
            Some((_, aligner)) => {
                for unit in aligner.push(unit) {
                    let done = self.add(unit);
                    self.ready.extend(done);
                }
            }
            None => {
                let done = self.add(unit);
                self.ready.extend(done);
            }
        }
        self.ready.pop_front()
    }

    /// Gives what is collected, at the end of the input or where it is interrupted. Call it until
    /// `None`: of two renditions, more than one generation may be held.
    pub fn flush(&mut self) -> Option<Generation> {
        self.settle();
        self.ready.pop_front()
    }

    /// Cuts all that is held.
    fn settle(&mut self) {
        let held = self.aligner.as_mut().map(|(_, aligner)| aligner.flush());
        for unit in held.into_iter().flatten() {
            let done = self.add(unit);
            self.ready.extend(done);
        }
        let done = self.cut(None);
        self.ready.extend(done);
    }

    /// Adds a unit that is in order.
    fn add(&mut self, unit: AccessUnit) -> Option<Generation> {
        let is_video = unit.priority.is_video();
        self.has_video |= is_video;
        let is_full = self.bytes + unit.data.len() > MAX_GENERATION_BYTES
            || self.units.len() >= MAX_GENERATION_UNITS;
        let is_due = if is_video {
            // Of two renditions, the second key of the same time begins nothing.
            let begins =
                unit.random_access && self.video.is_some_and(|(first, _)| unit.dts != first);
            begins || self.is_over(unit.dts)
        } else if self.has_video {
            self.is_ahead(unit.dts)
        } else {
            self.is_over(unit.dts)
        };
        let done = if !self.units.is_empty() && (is_full || is_due) {
            self.cut(Some((unit.dts, is_full && !is_due)))
        } else {
            None
        };
        if is_video || !self.has_video {
            let (first, last) = self.video.get_or_insert((unit.dts, unit.dts));
            *first = unit.dts.min(*first);
            if unit.dts > *last {
                self.step = unit.dts.0.saturating_sub(last.0).min(MediaTime::HZ);
                *last = unit.dts;
            }
        }
        self.bytes += unit.data.len();
        self.units.push(unit);
        done
    }

    /// Whether a unit of this time is too far from the start, or before it.
    fn is_over(&self, dts: MediaTime) -> bool {
        self.video.is_some_and(|(first, last)| {
            dts.0.saturating_sub(first.0) >= self.max_duration || dts < last
        })
    }

    /// Whether sound of this time is so far ahead that its picture is not coming. Sound that leads
    /// waits, but not for ever: the camera may have stopped.
    fn is_ahead(&self, dts: MediaTime) -> bool {
        let first = self.video.map(|(first, _)| first);
        let start = first.or_else(|| self.units.first().map(|unit| unit.dts));
        start.is_some_and(|start| dts.0.saturating_sub(start.0) >= self.max_duration * 2)
    }

    /// Ends the generation before a unit of this time; all of it if it is forced, else what lies
    /// before that time.
    fn cut(&mut self, next: Option<(MediaTime, bool)>) -> Option<Generation> {
        let (mut now, mut later) = (std::mem::take(&mut self.units), Vec::new());
        let end = match (next, self.video) {
            (Some((end, _)), _) => end,
            (None, Some((_, last))) => MediaTime(last.0.saturating_add(self.step)),
            (None, None) => now.last()?.dts,
        };
        // Sound of the time after the cut waits for its picture. Not if the clock ran back: then all
        // would wait.
        if let (Some((end, false)), Some((_, last))) = (next, self.video)
            && end > last
        {
            (now, later) =
                now.into_iter().partition(|unit| unit.priority.is_video() || unit.dts < end);
        }
        let start = self.video.take().map(|(first, _)| first);
        self.bytes = later.iter().map(|unit| unit.data.len()).sum();
        self.units = later;
        now.sort_by_key(|unit| unit.dts);
        let start = start.or_else(|| now.first().map(|unit| unit.dts))?;
        // The first picture decides; sound may stand before it.
        let random_access = now
            .iter()
            .find(|unit| unit.priority.is_video())
            .map_or(!self.has_video, |unit| unit.random_access);
        let duration = end.0.saturating_sub(start.0).max(0);
        Some(Generation { random_access, start, duration, units: now })
    }
}

/// The track that holds the low rendition beside a full one, if there is one.
#[must_use]
pub fn low_track(tracks: &[Track]) -> Option<TrackId> {
    let find = |rendition: Rendition| {
        let mut video = tracks.iter().filter(|track| track.codec.is_video());
        video.find(|track| track.rendition == rendition).map(|track| track.id)
    };
    find(Rendition::Full).and_then(|_| find(Rendition::Low))
}

impl Default for GenerationBuilder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_DURATION)
    }
}

#[cfg(test)]
mod tests {
    use banyan_wire::TrackId;
    use bytes::Bytes;

    use super::*;
    use crate::access_unit::Priority;

    fn unit(dts_ms: i64, priority: Priority) -> AccessUnit {
        AccessUnit {
            track: TrackId(u8::from(priority == Priority::Audio)),
            pts: MediaTime(dts_ms * 90),
            dts: MediaTime(dts_ms * 90),
            random_access: matches!(priority, Priority::Key | Priority::Audio),
            priority,
            data: Bytes::from_static(&[0; 10]),
        }
    }

    fn cut(units: impl IntoIterator<Item = AccessUnit>) -> Vec<Generation> {
        let mut builder = GenerationBuilder::default();
        let mut out: Vec<_> = units.into_iter().filter_map(|unit| builder.push(unit)).collect();
        out.extend(builder.flush());
        assert_eq!(builder.flush(), None);
        out
    }

    fn times(generation: &Generation) -> Vec<i64> {
        generation.units.iter().map(|unit| unit.dts.0 / 90).collect()
    }

    #[test]
    fn no_generation_is_longer_than_its_limit() {
        let out = cut((0..100)
            .map(|at| unit(at * 40, if at == 0 { Priority::Key } else { Priority::Reference })));
        assert_eq!(out.len(), 8);
        assert!(out.iter().all(|generation| generation.duration <= 520 * 90));
        assert_eq!(out.iter().filter(|generation| generation.random_access).count(), 1);
        for pair in out.windows(2) {
            assert_eq!(pair[0].start + pair[0].duration, pair[1].start);
        }
    }

    #[test]
    fn a_key_picture_begins_a_generation() {
        let out = cut([
            unit(0, Priority::Key),
            unit(40, Priority::Reference),
            unit(80, Priority::Key),
            unit(120, Priority::Droppable),
        ]);
        assert_eq!(out.iter().map(times).collect::<Vec<_>>(), [[0, 40], [80, 120]]);
        assert!(out.iter().all(|generation| generation.random_access));
    }

    #[test]
    fn sound_goes_with_the_pictures_of_its_time() {
        let out = cut([
            unit(0, Priority::Key),
            unit(0, Priority::Audio),
            unit(490, Priority::Audio),
            unit(510, Priority::Audio),
            unit(400, Priority::Reference),
            unit(500, Priority::Reference),
            unit(530, Priority::Audio),
        ]);
        let expected = [vec![0, 0, 400, 490], vec![500, 510, 530]];
        assert_eq!(out.iter().map(times).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn sound_goes_on_when_the_picture_stops() {
        let pictures = (0..10).map(|at| unit(at * 40, Priority::Reference));
        let out = cut(pictures.chain((0..200).map(|at| unit(at * 20, Priority::Audio))));
        assert!(out.iter().all(|generation| generation.units.len() < 70), "{out:?}");
        assert!(out.iter().all(|generation| generation.duration <= 1000 * 90));
        assert_eq!(out.iter().map(|generation| generation.units.len()).sum::<usize>(), 210);
    }

    #[test]
    fn a_programme_without_pictures_is_cut_by_its_sound() {
        let out = cut((0..50).map(|at| unit(at * 21, Priority::Audio)));
        assert_eq!(out.len(), 3);
        assert!(out.iter().all(|generation| generation.random_access));
    }

    /// A programme in two renditions: full pictures shown two after they are decoded with a key every
    /// `full_gop`, low ones in order with a key every `low_gop`, `lag` pictures later in the input.
    fn two_renditions(count: i64, full_gop: i64, low_gop: i64, lag: i64) -> Vec<AccessUnit> {
        let picture = |track, at: i64, reorder: i64, gop: i64| AccessUnit {
            track: TrackId(track),
            pts: MediaTime(at * 3600),
            dts: MediaTime((at - reorder) * 3600),
            ..unit(0, if at % gop == 0 { Priority::Key } else { Priority::Reference })
        };
        let mut units = Vec::new();
        for at in 0..count + lag {
            if at < count {
                units.push(picture(0, at, 2, full_gop));
                units.push(unit(at * 40 - 80, Priority::Audio));
            }
            if at >= lag {
                units.push(picture(2, at - lag, 0, low_gop));
            }
        }
        units
    }

    fn cut_two(units: Vec<AccessUnit>) -> Vec<Generation> {
        let track = |id: u8, rendition| Track {
            id: TrackId(id),
            codec: banyan_wire::Codec::H264,
            width: 0,
            height: 0,
            sample_rate: 0,
            channels: 0,
            language: String::new(),
            rendition,
            config: Bytes::new(),
        };
        let mut builder = GenerationBuilder::default();
        builder.set_tracks(&[track(0, Rendition::Full), track(2, Rendition::Low)]);
        let mut out: Vec<_> = units.into_iter().filter_map(|unit| builder.push(unit)).collect();
        out.extend(std::iter::from_fn(|| builder.flush()));
        out
    }

    #[test]
    fn the_same_picture_is_in_the_same_generation_in_both_renditions() {
        for lag in [0, 3, 20] {
            let units = two_renditions(200, 50, 10, lag);
            let count = units.len();
            let out = cut_two(units);
            assert_eq!(out.iter().map(|generation| generation.units.len()).sum::<usize>(), count);
            assert_eq!(out.len(), 20, "a generation for each low key, none twice");
            for generation in &out {
                let shown = |track: u8| -> Vec<MediaTime> {
                    let of = generation.units.iter().filter(|unit| unit.track == TrackId(track));
                    of.map(|unit| unit.pts).collect()
                };
                assert_eq!(shown(0), shown(2));
                assert_eq!(shown(0).len(), 10);
                assert!(generation.random_access);
                assert_eq!(generation.duration, 400 * 90);
                assert!(generation.units.is_sorted_by_key(|unit| unit.dts));
            }
            for pair in out.windows(2) {
                assert_eq!(pair[0].start + pair[0].duration, pair[1].start);
            }
        }
    }

    #[test]
    fn a_key_of_the_low_rendition_is_one_decoding_can_begin_with() {
        let out = cut_two(two_renditions(100, 100, 25, 0));
        let starts: Vec<_> = out
            .iter()
            .filter(|generation| generation.random_access)
            .map(|generation| generation.units[0].track)
            .collect();
        assert_eq!(starts, [TrackId(0), TrackId(2), TrackId(2), TrackId(2)]);
        assert!(out.iter().all(|generation| generation.duration <= 520 * 90));
    }

    #[test]
    fn a_low_rendition_that_ends_costs_nothing_of_the_full_one() {
        let mut units = two_renditions(200, 50, 10, 5);
        units.retain(|unit| unit.track != TrackId(2) || unit.pts.0 < 100 * 3600);
        let out = cut_two(units);
        let full = out.iter().flat_map(|generation| &generation.units);
        assert_eq!(full.filter(|unit| unit.track == TrackId(0)).count(), 200);
        assert!(out.iter().all(|generation| generation.duration <= 520 * 90));
    }

    #[test]
    fn too_many_bytes_cut_early() {
        let mut large = unit(0, Priority::Reference);
        large.data = Bytes::from(vec![0; MAX_GENERATION_BYTES / 2]);
        let out = cut((0..5).map(|at| AccessUnit { dts: MediaTime(at), ..large.clone() }));
        assert_eq!(
            out.iter().map(|generation| generation.units.len()).collect::<Vec<_>>(),
            [2, 2, 1]
        );
    }

    #[test]
    fn absurd_times_do_no_harm() {
        let times = [i64::MIN, i64::MAX, 0, -1, i64::MAX, i64::MIN];
        let units = times
            .iter()
            .map(|at| AccessUnit { dts: MediaTime(*at), ..unit(0, Priority::Droppable) });
        let out = cut(units);
        assert_eq!(out.iter().map(|generation| generation.units.len()).sum::<usize>(), 6);
        assert!(out.iter().all(|generation| generation.duration >= 0));
    }
}
