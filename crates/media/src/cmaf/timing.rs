//! When each sample is decoded, and how long it lasts.
//!
//! Decides what happens where samples are missing. A sample lasts until the next of its track; the
//! last of a generation as long as is usual, or until the sound of the generation ends, if that
//! shows that pictures are missing behind it. So a player never comes to a hole within a generation.
//!
//! ```text
//!   sound    a a a a a a a a a a │ a a a a
//!   picture  K  R  D  R  ×  ×  × │ K  R           × did not arrive
//!            └──┴──┴──┴─────────▶│                the last one before is shown for longer
//! ```

use banyan_wire::MediaTime;

/// Longest time a sample may last, in 90 kHz ticks: what is further away is another stretch.
pub(super) const MAX_STEP: i64 = 10 * MediaTime::HZ;

/// Longest hole in the sound that is filled where a generation begins, in 90 kHz ticks: 100 ms.
/// Chromium stops at holes of two frames. A file that is looped makes such.
const MAX_FILL: i64 = MediaTime::HZ / 10;

/// How long a picture lasts while nothing is known of the next, in 90 kHz ticks: 40 ms.
const FIRST_STEP: i64 = MediaTime::HZ / 25;

/// The clock of one track.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    timescale: i64,
    /// How long the last sample lasts where it does not say so, in its ticks: the last step seen.
    step: i64,
    is_video: bool,
    /// When the last sample began.
    last: Option<i64>,
    /// When it is thought to end.
    end: Option<i64>,
}

/// A sample's place, in the track's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) decode: i64,
    pub(super) duration: u32,
}

impl Clock {
    pub(super) fn new(timescale: u32, is_video: bool) -> Self {
        let mut clock = Self {
            timescale: i64::from(timescale.max(1)),
            step: 0,
            is_video,
            last: None,
            end: None,
        };
        clock.step = clock.scale(FIRST_STEP);
        clock
    }

    /// A time of 90 kHz in the track's ticks.
    pub(super) fn scale(&self, time: i64) -> i64 {
        if self.timescale == MediaTime::HZ {
            return time;
        }
        let hz = i128::from(MediaTime::HZ);
        let scaled = (i128::from(time) * i128::from(self.timescale) + hz / 2).div_euclid(hz);
        i64::try_from(scaled).unwrap_or(i64::MAX)
    }

    /// The track's ticks as a time of 90 kHz.
    pub(super) fn unscale(&self, ticks: i64) -> i64 {
        let scaled = i128::from(ticks) * i128::from(MediaTime::HZ) / i128::from(self.timescale);
        i64::try_from(scaled).unwrap_or(i64::MAX)
    }

    /// From the thought end of the last sample to `time`, both of 90 kHz; `None` before any.
    pub(super) fn gap(&self, time: i64) -> Option<i64> {
        self.end.map(|end| time.saturating_sub(self.unscale(end)))
    }

    /// Whether a sample of `time` cannot stand behind the last one. Sound that is a little early is
    /// moved; a picture cannot be.
    pub(super) fn is_behind(&self, time: i64) -> bool {
        let slack = if self.is_video { 0 } else { self.slack() };
        time < 0 || self.last.is_some_and(|last| self.scale(time) + slack <= last)
    }

    /// When the last sample is thought to end, in 90 kHz.
    pub(super) fn end(&self) -> Option<i64> {
        self.end.map(|end| self.unscale(end))
    }

    /// Usual duration of a picture, in 90 kHz.
    pub(super) fn step(&self) -> i64 {
        self.unscale(self.step)
    }

    /// Sound this near to where it is expected, in its ticks, stands there: a third of a frame of AAC.
    const fn slack(&self) -> i64 {
        self.timescale / 150
    }

    /// Places the samples of a generation: the 90 kHz times at which they are decoded, and how long
    /// each lasts in the track's ticks, where it says so. `until` is how far the generation goes at
    /// least.
    pub(super) fn place(&mut self, units: &[(i64, Option<u32>)], until: i64) -> Vec<Placed> {
        let mut starts: Vec<i64> = Vec::with_capacity(units.len());
        let mut expected = self.end;
        for (time, samples) in units {
            let time = self.scale(*time);
            let start = match expected {
                Some(expected) if !self.is_video && (time - expected).abs() <= self.slack() => {
                    expected
                }
                // A small hole before a generation: its first sound is a little early, and lasts.
                Some(expected)
                    if !self.is_video
                        && starts.is_empty()
                        && (0..=self.scale(MAX_FILL)).contains(&(time - expected)) =>
                {
                    expected
                }
                _ => {
                    // Strictly rising, whatever the source says.
                    let least = starts.last().copied().or(self.last).map_or(0, |last| last + 1);
                    let most = starts.last().map_or(i64::MAX, |last| last + self.scale(MAX_STEP));
                    time.clamp(least, most.max(least))
                }
            };
            expected = samples.map(|samples| start.saturating_add(i64::from(samples)));
            starts.push(start);
        }
        if self.is_video
            && let Some(step) =
                starts.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 1).min()
        {
            self.step = step.min(MediaTime::HZ);
        }
        let mut placed = Vec::with_capacity(units.len());
        for (at, start) in starts.iter().enumerate() {
            let own = units.get(at).and_then(|(_, samples)| *samples).map(i64::from);
            let duration = match (starts.get(at + 1), own) {
                (Some(next), _) => next - start,
                (None, Some(own)) => own,
                (None, None) => self.last_duration(*start, until),
            };
            placed.push(Placed { decode: *start, duration: u32::try_from(duration).unwrap_or(1) });
        }
        if let Some(last) = placed.last() {
            self.last = Some(last.decode);
            self.end = Some(last.decode + i64::from(last.duration));
        }
        placed
    }

    /// Whole steps, until `until` is covered.
    fn last_duration(&self, start: i64, until: i64) -> i64 {
        let step = self.step.max(1);
        let missing = (self.scale(until).saturating_sub(start + step)).clamp(-1, MediaTime::HZ);
        if missing < 0 { step } else { step + (missing / step + 1) * step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(clock: &mut Clock, times: &[i64], until: i64) -> Vec<(i64, u32)> {
        let units: Vec<_> = times.iter().map(|time| (*time, None)).collect();
        clock.place(&units, until).iter().map(|placed| (placed.decode, placed.duration)).collect()
    }

    #[test]
    fn a_picture_lasts_until_the_next_and_the_last_one_as_long_as_is_usual() {
        let mut clock = Clock::new(90_000, true);
        let placed = place(&mut clock, &[0, 3000, 9000], 0);
        assert_eq!(placed, [(0, 3000), (3000, 6000), (9000, 3000)]);
        assert_eq!((clock.end(), clock.gap(12_500)), (Some(12_000), Some(500)));
    }

    #[test]
    fn a_picture_is_held_while_sound_shows_that_others_are_missing() {
        let mut clock = Clock::new(90_000, true);
        // The last sound begins at 11,000: pictures of 6,000 and 9,000 are missing.
        assert_eq!(place(&mut clock, &[0, 3000], 11_000), [(0, 3000), (3000, 9000)]);
        // Sound that begins within the last picture shows nothing.
        assert_eq!(place(&mut clock, &[12_000, 15_000], 17_999), [(12_000, 3000), (15_000, 3000)]);
    }

    #[test]
    fn sound_is_timed_in_samples_and_does_not_jitter() {
        let mut clock = Clock::new(44_100, false);
        let frames = |from: i64, at: i64| (from * 90_000 / 44_100 + at, Some(1024));
        let placed = clock.place(&[frames(0, 0), frames(1024, 1), frames(2048, -1)], 0);
        let starts: Vec<i64> = placed.iter().map(|placed| placed.decode).collect();
        assert_eq!(starts, [0, 1024, 2048]);
        // A frame is missing: the one before lasts on.
        let placed = clock.place(&[frames(3072, 0), frames(5120, 0)], 0);
        assert_eq!(placed.first(), Some(&Placed { decode: 3072, duration: 2048 }));
    }

    #[test]
    fn a_small_hole_in_the_sound_before_a_generation_is_filled() {
        let mut clock = Clock::new(48_000, false);
        clock.place(&[(0, Some(1024))], 0);
        // Of 50 ms, then of 150 ms.
        let placed = clock.place(&[(1920 + 4500, Some(1024)), (3840 + 4500, Some(1024))], 0);
        assert_eq!(placed[0], Placed { decode: 1024, duration: 1024 + 2400 });
        let placed = clock.place(&[(5760 + 4500 + 13_500, Some(1024))], 0);
        assert_eq!(placed[0].decode, 3 * 1024 + 2400 + 7200);
    }

    #[test]
    fn times_that_run_back_still_rise() {
        let mut clock = Clock::new(90_000, true);
        let placed = place(&mut clock, &[5000, 100, i64::MAX / 2, 7], 0);
        let end_of_step = 5001 + MAX_STEP;
        assert_eq!(placed[..3], [(5000, 1), (5001, 900_000), (end_of_step, 1)]);
        assert!(clock.is_behind(0) && clock.is_behind(-1) && !clock.is_behind(i64::MAX / 2));
    }
}
