//! Brings the two renditions of a programme onto one line of decode times, in order.
//!
//! Decides where a picture of the low rendition stands beside those of the full one: the same
//! picture has the same decode time in both, whichever of the two reorders its pictures and whichever
//! comes first. Where a generation ends is left to [`super::GenerationBuilder`], which sees units in
//! that order.
//!
//! ```text
//!   full   pts  K0       P4       b2       b1 …        moved by 0: the longer delay is its own
//!          dts  -2       -1       0        1
//!   low    pts  K0   P1   P2   P3 …                     moved by 2
//!          dts  -2   -1   0    1
//! ```
//!
//! A rendition that lags is waited for, but not for ever ([`MAX_LAG_LOW`], [`MAX_LAG_FULL`]). What
//! comes later still is dropped up to the next picture it can be decoded from.

use banyan_wire::{MediaTime, TrackId};

use super::{MAX_GENERATION_BYTES, MAX_GENERATION_UNITS};
use crate::access_unit::AccessUnit;

/// How far the low rendition may be behind the rest of the programme, in ticks: an encoder that makes
/// it from the full one takes a few hundred milliseconds. It bounds the delay it costs, too.
const MAX_LAG_LOW: i64 = MediaTime::HZ;

/// How far the full rendition may be behind, in ticks. Longer, because a programme without it is
/// a poor one.
const MAX_LAG_FULL: i64 = 3 * MediaTime::HZ;

/// Pictures of both renditions this close together, in ticks, are the same one: 2 ms, a quarter of a
/// picture at 120 a second.
const SAME: i64 = MediaTime::HZ / 500;

/// Longest reordering that is evened out, in ticks.
const MAX_DELAY: i64 = 8 * MediaTime::HZ;

/// A step back of more than this, in ticks, is a clock that ran back; a shorter one is evened out.
const MAX_BACKSTEP: i64 = 8 * MediaTime::HZ;

/// Sorts the units of a programme in two renditions.
#[derive(Debug)]
pub(crate) struct Aligner {
    low: TrackId,
    full_lane: Lane,
    low_lane: Lane,
    waiting: Vec<AccessUnit>,
    bytes: usize,
    /// The first and the newest time since the clock last ran back.
    span: Option<(MediaTime, MediaTime)>,
    /// What was given on is not after this.
    released: Option<MediaTime>,
}

/// What is known of one rendition.
#[derive(Debug, Default)]
struct Lane {
    /// From decoding to showing its key pictures, in ticks.
    delay: i64,
    last: Option<MediaTime>,
    /// Pictures are missing: nothing makes sense before a key.
    needs_key: bool,
}

impl Aligner {
    /// Creates one for a programme whose track `low` is the low rendition.
    pub(crate) fn new(low: TrackId) -> Self {
        Self {
            low,
            full_lane: Lane::default(),
            low_lane: Lane::default(),
            waiting: Vec::new(),
            bytes: 0,
            span: None,
            released: None,
        }
    }

    /// Takes the next unit and gives all that are in order now, sorted: by time; of pictures of the
    /// same time the one decoding can begin with first.
    pub(crate) fn push(&mut self, mut unit: AccessUnit) -> Vec<AccessUnit> {
        let mut out = Vec::new();
        if unit.priority.is_video() {
            if self.ran_back(&unit) {
                out = self.flush();
                self.forget();
            }
            let Some(placed) = self.place(unit) else { return out };
            unit = placed;
        }
        if self.bytes + unit.data.len() > MAX_GENERATION_BYTES
            || self.waiting.len() >= MAX_GENERATION_UNITS
        {
            out.extend(self.flush());
        }
        let (_, newest) = self.span.get_or_insert((unit.dts, unit.dts));
        *newest = unit.dts.max(*newest);
        self.bytes += unit.data.len();
        self.waiting.push(unit);
        if let Some(frontier) = self.frontier() {
            out.extend(self.release(frontier));
        }
        out
    }

    /// Gives all that is held, sorted.
    pub(crate) fn flush(&mut self) -> Vec<AccessUnit> {
        self.release(MediaTime(i64::MAX))
    }

    fn lane(&mut self, unit: &AccessUnit) -> &mut Lane {
        if unit.track == self.low { &mut self.low_lane } else { &mut self.full_lane }
    }

    fn ran_back(&mut self, unit: &AccessUnit) -> bool {
        let dts = unit.dts;
        self.lane(unit).last.is_some_and(|last| last.0.saturating_sub(dts.0) > MAX_BACKSTEP)
    }

    fn forget(&mut self) {
        self.full_lane = Lane::default();
        self.low_lane = Lane::default();
        self.span = None;
        self.released = None;
    }

    /// Moves a picture to its place; `None` if it came too late.
    fn place(&mut self, mut unit: AccessUnit) -> Option<AccessUnit> {
        if unit.random_access {
            let delay = unit.pts.0.saturating_sub(unit.dts.0).clamp(0, MAX_DELAY);
            self.lane(&unit).delay = delay;
        }
        let longest = self.full_lane.delay.max(self.low_lane.delay);
        let released = self.released;
        let lane = self.lane(&unit);
        let mut dts = MediaTime(unit.dts.0.saturating_sub(longest - lane.delay));
        let last = lane.last;
        dts = self.twin(&unit, dts).unwrap_or(dts);
        if let Some(last) = last.filter(|last| *last >= dts) {
            dts = MediaTime(last.0.saturating_add(1));
        }
        let lane = self.lane(&unit);
        lane.last = Some(dts);
        lane.needs_key |= released.is_some_and(|released| dts < released);
        let is_in_time = released.is_none_or(|released| dts >= released);
        if lane.needs_key && !(unit.random_access && is_in_time) {
            return None;
        }
        lane.needs_key = false;
        unit.dts = dts;
        Some(unit)
    }

    /// The time of the same picture in the other rendition, if that is known.
    fn twin(&self, unit: &AccessUnit, dts: MediaTime) -> Option<MediaTime> {
        let is_low = unit.track == self.low;
        let other = if is_low { &self.full_lane } else { &self.low_lane };
        let pictures = self
            .waiting
            .iter()
            .filter(|other| other.priority.is_video() && (other.track == self.low) != is_low);
        pictures
            .map(|other| other.dts)
            .chain(other.last)
            .find(|other| other.0.abs_diff(dts.0) <= SAME.unsigned_abs())
    }

    /// Up to which time nothing more is expected.
    fn frontier(&self) -> Option<MediaTime> {
        let (first, newest) = self.span?;
        let expected = |lane: &Lane, max_lag: i64| {
            let last = lane.last.unwrap_or_else(|| MediaTime(first.0.saturating_sub(1)));
            (newest.0.saturating_sub(last.0) <= max_lag).then_some(last)
        };
        let full = expected(&self.full_lane, MAX_LAG_FULL);
        let low = expected(&self.low_lane, MAX_LAG_LOW);
        Some(full.into_iter().chain(low).min().unwrap_or(newest))
    }

    fn release(&mut self, frontier: MediaTime) -> Vec<AccessUnit> {
        let waiting = std::mem::take(&mut self.waiting);
        let (mut now, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|unit| unit.dts <= frontier);
        self.waiting = later;
        self.bytes = self.waiting.iter().map(|unit| unit.data.len()).sum();
        now.sort_by_key(|unit| (unit.dts, !(unit.priority.is_video() && unit.random_access)));
        let last_picture = now.iter().rev().find(|unit| unit.priority.is_video());
        self.released = self.released.max(last_picture.map(|unit| unit.dts));
        now
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::access_unit::Priority;

    const FULL: TrackId = TrackId(0);
    const LOW: TrackId = TrackId(1);
    /// Ticks of a picture at 25 a second.
    const STEP: i64 = 3600;

    fn picture(track: TrackId, dts: i64, pts: i64, is_key: bool) -> AccessUnit {
        AccessUnit {
            track,
            pts: MediaTime(pts * STEP),
            dts: MediaTime(dts * STEP),
            random_access: is_key,
            priority: if is_key { Priority::Key } else { Priority::Reference },
            data: Bytes::from_static(&[0; 10]),
        }
    }

    /// Pictures of a rendition that reorders none and has a key every `gop`.
    fn low(at: i64, gop: i64) -> AccessUnit {
        picture(LOW, at, at, at % gop == 0)
    }

    fn all(units: impl IntoIterator<Item = AccessUnit>) -> Vec<(TrackId, i64)> {
        let mut aligner = Aligner::new(LOW);
        let mut out: Vec<_> = units.into_iter().flat_map(|unit| aligner.push(unit)).collect();
        out.extend(aligner.flush());
        out.iter().map(|unit| (unit.track, unit.dts.0 / STEP)).collect()
    }

    #[test]
    fn the_same_picture_has_the_same_decode_time_in_both_renditions() {
        // Shown in the order 0 1 2 …, decoded two pictures before that.
        let full = (0..20).map(|at| picture(FULL, at - 2, at, at == 0));
        let units: Vec<_> =
            full.flat_map(|unit| [unit.clone(), low(unit.pts.0 / STEP, 5)]).collect();
        let mut aligner = Aligner::new(LOW);
        let mut out: Vec<_> = units.into_iter().flat_map(|unit| aligner.push(unit)).collect();
        out.extend(aligner.flush());
        assert_eq!(out.len(), 40);
        for pair in out.chunks(2) {
            assert_eq!((pair[0].dts, pair[0].pts), (pair[1].dts, pair[1].pts));
            assert_eq!(pair[0].pts - pair[0].dts, 2 * STEP);
        }
        assert!(out.is_sorted_by_key(|unit| unit.dts));
    }

    #[test]
    fn a_rendition_that_lags_is_waited_for() {
        let full = (0..40).map(|at| picture(FULL, at, at, at % 20 == 0));
        // Ten pictures of 40 ms behind.
        let units = full.flat_map(|unit| {
            let at = unit.dts.0 / STEP;
            [Some(unit), (at >= 10).then(|| low(at - 10, 10))].into_iter().flatten()
        });
        let out = all(units);
        assert!(out.is_sorted_by_key(|(_, at)| *at), "{out:?}");
        assert_eq!(out.iter().filter(|(track, _)| *track == LOW).count(), 30);
    }

    #[test]
    fn a_rendition_that_stops_holds_nothing_up_and_resumes_at_a_key() {
        let full = (0..100).map(|at| picture(FULL, at, at, at % 20 == 0));
        let mut aligner = Aligner::new(LOW);
        let mut held = 0;
        let mut out = Vec::new();
        for unit in full {
            let at = unit.dts.0 / STEP;
            out.extend(aligner.push(unit));
            if !(20..65).contains(&at) {
                out.extend(aligner.push(low(at, 10)));
            }
            held = held.max(aligner.waiting.len());
        }
        out.extend(aligner.flush());
        assert!(held <= 26, "{held} held");
        let times: Vec<_> =
            out.iter().filter(|unit| unit.track == LOW).map(|unit| unit.dts.0 / STEP).collect();
        assert_eq!(out.iter().filter(|unit| unit.track == FULL).count(), 100);
        assert_eq!(times.len(), 20 + 35, "it came back in time: nothing of it is lost");
        assert!(out.is_sorted_by_key(|unit| unit.dts));
    }

    #[test]
    fn what_comes_too_late_is_dropped_up_to_a_key() {
        let mut aligner = Aligner::new(LOW);
        let mut out = Vec::new();
        for at in 0..60 {
            out.extend(aligner.push(picture(FULL, at, at, at == 0)));
        }
        // A second behind and more; then it catches up.
        for at in 0..60 {
            out.extend(aligner.push(low(at, 20)));
        }
        for at in 60..70 {
            out.extend(aligner.push(picture(FULL, at, at, false)));
            out.extend(aligner.push(low(at, 20)));
        }
        out.extend(aligner.flush());
        let first = out.iter().find(|unit| unit.track == LOW);
        assert_eq!(first.map(|unit| (unit.dts.0 / STEP, unit.random_access)), Some((60, true)));
        assert_eq!(out.iter().filter(|unit| unit.track == FULL).count(), 70);
    }

    #[test]
    fn absurd_times_lose_no_full_picture_for_good_and_do_no_harm() {
        let mut aligner = Aligner::new(LOW);
        let times = [i64::MIN, i64::MAX, 0, -1, i64::MAX, i64::MIN, 5];
        for (track, at) in times.iter().flat_map(|at| [(FULL, *at), (LOW, *at)]) {
            for pts in [i64::MIN, i64::MAX, at] {
                let unit = AccessUnit {
                    pts: MediaTime(pts),
                    dts: MediaTime(at),
                    ..picture(track, 0, 0, true)
                };
                aligner.push(unit);
            }
        }
        aligner.flush();
        assert_eq!(aligner.bytes, 0);
        let out: Vec<_> = aligner.push(picture(FULL, 1, 1, true));
        let out: Vec<_> = out.into_iter().chain(aligner.flush()).collect();
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn times_a_few_ticks_apart_are_the_same_picture() {
        let mut off = low(5, 5);
        off.dts = off.dts + 3;
        off.pts = off.pts + 3;
        let mut aligner = Aligner::new(LOW);
        aligner.push(picture(FULL, 5, 5, false));
        let out = aligner.push(off);
        assert_eq!(out.iter().map(|unit| unit.track).collect::<Vec<_>>(), [LOW, FULL]);
        assert_eq!(out[0].dts, out[1].dts);
    }
}
