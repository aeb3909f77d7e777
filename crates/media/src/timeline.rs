//! From 33-bit timestamps that wrap and jump to a [`MediaTime`] that does neither.
//!
//! Decides what is a gap, what is a jump, and where the programme goes on after one. All streams of a
//! programme share one timeline, so that sound and picture stay together.
//!
//! ```text
//!   raw:   … 8.0  9.0 10.0 | 0.0  1.0 …      an encoder restarts, a file begins again
//!   epoch:      A     A    |    B             B's offset joins it to the end of A
//!   media: … 8.0  9.0 10.0 | 10.0 11.0 …
//! ```
//!
//! Streams do not jump at the same packet: for a while, a unit may be of either epoch. It is put
//! where it follows its own track best.

use banyan_wire::MediaTime;

use crate::es::Stamp;

/// A step further than this, in ticks, is a jump; a shorter one forwards is a gap in the programme.
/// Ten seconds: ffmpeg's `-dts_delta_threshold` has the same default.
const MAX_STEP: i64 = 10 * MediaTime::HZ;

/// A step back by no more than this, in ticks, is an encoder's sloppiness and not a jump.
const MAX_BACKSTEP: i64 = MediaTime::HZ / 2;

/// A picture is shown at most this long after it is decoded, in ticks: 16 pictures of reordering
/// at 2 pictures a second.
const MAX_REORDER: i64 = 8 * MediaTime::HZ;

/// Step after a unit when nothing tells how long it lasts, in ticks: one picture at 25 a second.
const DEFAULT_STEP: i64 = MediaTime::HZ / 25;

const WRAP: i64 = 1 << 33;

/// The clock of one programme.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    current: Option<Epoch>,
    previous: Option<Epoch>,
    latest: Option<i64>,
    /// Where the stream before ended: nothing of this one comes before it.
    floor: Option<i64>,
}

/// A stretch of input without jumps.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// Last raw time seen in it, unrolled.
    last: i64,
    /// What makes raw time media time.
    offset: i64,
}

/// What a timeline remembers of one track.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrackClock {
    last: Option<Placed>,
    step: Option<i64>,
}

impl TrackClock {
    /// The clock of a track that takes this one's name: it goes on where this one stopped.
    pub(crate) const fn handed_on(self) -> Self {
        Self { step: None, ..self }
    }
}

/// Where a unit is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) pts: MediaTime,
    pub(crate) dts: MediaTime,
    /// The input's clock jumped here.
    pub(crate) jumped: bool,
}

impl Epoch {
    /// The unrolled time nearest to the last one, if it is near.
    fn near(self, raw: u64) -> Option<i64> {
        let raw = i64::try_from(raw).ok()?;
        let step = (raw - self.last).rem_euclid(WRAP);
        let step = if step >= WRAP / 2 { step - WRAP } else { step };
        (step.abs() <= MAX_STEP).then_some(self.last + step)
    }
}

impl Timeline {
    /// Puts a unit in its place. One without a timestamp follows the one before it; `None` if there
    /// is none before it.
    pub(crate) fn place(&mut self, track: &mut TrackClock, stamp: Option<Stamp>) -> Option<Placed> {
        let mut placed = match stamp {
            Some(stamp) => self.place_stamped(track, stamp),
            None => {
                let last = track.last?;
                let step = track.step.unwrap_or(DEFAULT_STEP);
                Placed { pts: last.pts + step, dts: last.dts + step, jumped: false }
            }
        };
        let last = track.last.map(|last| last.dts).or_else(|| self.floor.map(MediaTime));
        if let Some(last) = last {
            let step = placed.dts - last;
            if step <= 0 {
                placed.dts = last + 1;
                placed.pts = placed.pts.max(placed.dts);
            } else if step < MediaTime::HZ && !placed.jumped {
                track.step = Some(step);
            }
        }
        track.last = Some(placed);
        let latest = self.latest.get_or_insert(placed.dts.0);
        *latest = placed.dts.0.max(*latest);
        Some(placed)
    }

    /// Puts a unit in its place by times that have more than 33 bits and may be negative.
    pub(crate) fn place_at(
        &mut self,
        track: &mut TrackClock,
        pts: i64,
        dts: i64,
    ) -> Option<Placed> {
        let raw = |ticks: i64| ticks.rem_euclid(WRAP).unsigned_abs();
        self.place(track, Some(Stamp { pts: raw(pts), dts: raw(dts) }))
    }

    /// The stream ends here: another one, with tracks and a clock of its own, goes on behind it.
    pub(crate) fn end(&mut self) {
        self.current = None;
        self.previous = None;
        self.floor = self.latest;
        self.latest = self.latest.map(|latest| latest + DEFAULT_STEP);
    }

    fn place_stamped(&mut self, track: &TrackClock, stamp: Stamp) -> Placed {
        let (dts, jumped) = match self.find(track, stamp.dts) {
            Some(dts) => (dts, false),
            None => self.jump(track, stamp.dts),
        };
        let reorder = (i64::try_from(stamp.pts).unwrap_or(0)
            - i64::try_from(stamp.dts).unwrap_or(0))
        .rem_euclid(WRAP);
        let reorder = if reorder > MAX_REORDER { 0 } else { reorder };
        Placed { pts: MediaTime(dts + reorder), dts: MediaTime(dts), jumped }
    }

    /// The place of a raw time in one of the epochs.
    fn find(&mut self, track: &TrackClock, raw: u64) -> Option<i64> {
        let expected = track.last.map(|last| last.dts.0);
        let fit = |epoch: &Option<Epoch>| {
            let epoch = (*epoch)?;
            let raw = epoch.near(raw)?;
            let step = expected.map_or(0, |expected| raw + epoch.offset - expected);
            (step >= -MAX_BACKSTEP).then_some((step.abs(), raw, epoch.offset))
        };
        let current = fit(&self.current);
        let previous = fit(&self.previous);
        let is_previous = match (current, previous) {
            (Some((current, ..)), Some((previous, ..))) => previous < current,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let (found, epoch) =
            if is_previous { (previous, &mut self.previous) } else { (current, &mut self.current) };
        let (_, raw, offset) = found?;
        if let Some(epoch) = epoch {
            epoch.last = raw;
        }
        Some(raw + offset)
    }

    /// Begins an epoch with a unit of this raw time. The first one begins with the raw time itself.
    fn jump(&mut self, track: &TrackClock, raw: u64) -> (i64, bool) {
        let raw = i64::try_from(raw).unwrap_or(0);
        let Some(latest) = self.latest else {
            self.current = Some(Epoch { last: raw, offset: 0 });
            return (raw, false);
        };
        // The track goes on where it stopped, or where the others are if it stopped long before.
        let dts = match track.last {
            Some(last) if latest - last.dts.0 <= MAX_STEP => {
                last.dts.0 + track.step.unwrap_or(DEFAULT_STEP)
            }
            _ => latest,
        };
        self.previous = self.current;
        self.current = Some(Epoch { last: raw, offset: dts - raw });
        (dts, true)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn at(ticks: i64) -> Option<Stamp> {
        let raw = u64::try_from(ticks.rem_euclid(WRAP)).unwrap();
        Some(Stamp { pts: raw, dts: raw })
    }

    fn dts(placed: Option<Placed>) -> (i64, bool) {
        let placed = placed.unwrap();
        (placed.dts.0, placed.jumped)
    }

    #[test]
    fn a_track_that_takes_anothers_name_goes_on_where_it_stopped() {
        let mut line = Timeline::default();
        let mut track = TrackClock::default();
        let mut last = 0;
        for step in 0..10 {
            last = dts(line.place(&mut track, at(step * 3600))).0;
        }
        let mut successor = track.handed_on();
        let first = dts(line.place(&mut successor, at(0))).0;
        assert!(first > last && first <= last + DEFAULT_STEP, "{first} after {last}");
    }

    #[test]
    fn a_wrap_goes_unnoticed() {
        let mut line = Timeline::default();
        let mut track = TrackClock::default();
        let start = WRAP - 9000;
        for step in 0..10 {
            let time = start + step * 3600;
            assert_eq!(dts(line.place(&mut track, at(time))), (time, false));
        }
    }

    #[test]
    fn reordering_survives_the_wrap() {
        let mut line = Timeline::default();
        let mut track = TrackClock::default();
        let stamp = Stamp { pts: 100, dts: u64::try_from(WRAP - 200).unwrap() };
        let placed = line.place(&mut track, Some(stamp)).unwrap();
        assert_eq!(placed.pts - placed.dts, 300);
    }

    #[test]
    fn a_restart_joins_the_end_and_keeps_sound_and_picture_together() {
        let mut line = Timeline::default();
        let (mut video, mut audio) = (TrackClock::default(), TrackClock::default());
        for step in 0..50 {
            line.place(&mut video, at(900_000 + step * 3600));
            line.place(&mut audio, at(900_000 + step * 3600));
        }
        // The picture restarts first; two more frames of sound are of the time before.
        let end = 900_000 + 50 * 3600;
        assert_eq!(dts(line.place(&mut video, at(0))), (end, true));
        assert_eq!(dts(line.place(&mut audio, at(end))), (end, false));
        assert_eq!(dts(line.place(&mut video, at(3600))), (end + 3600, false));
        assert_eq!(dts(line.place(&mut audio, at(end + 3600))), (end + 3600, false));
        assert_eq!(dts(line.place(&mut audio, at(7200))), (end + 7200, false));
    }

    #[test]
    fn a_short_loop_is_a_jump_too() {
        let mut line = Timeline::default();
        let mut track = TrackClock::default();
        for step in 0..50 {
            line.place(&mut track, at(step * 3600));
        }
        assert_eq!(dts(line.place(&mut track, at(0))), (50 * 3600, true));
    }

    #[test]
    fn another_stream_goes_on_behind_the_one_that_ended() {
        let mut line = Timeline::default();
        let mut track = TrackClock::default();
        line.place(&mut track, at(900_000));
        line.end();
        // A clock of its own, as near as it may be; the sound begins a little before the picture.
        let (mut video, mut audio) = (TrackClock::default(), TrackClock::default());
        assert_eq!(dts(line.place(&mut video, at(890_000))), (903_600, true));
        assert_eq!(dts(line.place(&mut audio, at(888_000))), (901_600, false));
        assert_eq!(dts(line.place(&mut audio, at(889_920))), (903_520, false));
        line.end();
        let mut audio = TrackClock::default();
        assert_eq!(dts(line.place(&mut video, at(0))), (907_200, true));
        assert_eq!(dts(line.place(&mut audio, at(-90_000))), (903_601, false));
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let mut line = Timeline::default();
        let mut track = TrackClock::default();
        line.place(&mut track, at(0));
        assert_eq!(dts(line.place(&mut track, at(450_000))), (450_000, false));
        assert_eq!(dts(line.place(&mut track, at(450_000 + 20 * 90_000))), (453_600, true));
    }

    #[test]
    fn time_never_stands_still_or_runs_back() {
        let mut line = Timeline::default();
        let mut track = TrackClock::default();
        let mut last = i64::MIN;
        let mut raw = 1u64;
        for _ in 0..10_000 {
            raw =
                raw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let stamp = Stamp { pts: (raw >> 3) & 0x1_ffff_ffff, dts: raw >> 31 };
            let placed = line.place(&mut track, (raw & 1 == 0).then_some(stamp));
            let Some(placed) = placed else { continue };
            assert!(placed.dts.0 > last && placed.pts >= placed.dts);
            last = placed.dts.0;
        }
    }
}
