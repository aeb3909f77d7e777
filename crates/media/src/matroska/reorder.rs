//! When a picture is decoded, where only is said when it is shown.
//!
//! Decides by the rule of H.264 and H.265: pictures come in the order they are decoded, and no more
//! than a certain number of them are held back. So the times of decoding are the times of showing,
//! sorted, and that number of pictures earlier.
//!
//! ```text
//!   shown:    0 4 2 1 3 8 6 5 7           as they come; two are held back
//!   decoded: -2 -1 0 1 2 3 4 5 6
//! ```

use banyan_wire::MediaTime;

/// Pictures held back where the stream does not say: B-pictures that others refer to.
pub(super) const USUAL_DEPTH: usize = 2;

/// Most pictures that are held back.
const MAX_DEPTH: usize = 16;

/// A step further than this, in ticks, begins anew.
const MAX_STEP: i64 = 10 * MediaTime::HZ;

/// The step before anything tells it, in ticks: one picture at 25 a second.
const DEFAULT_STEP: i64 = MediaTime::HZ / 25;

/// The times of the pictures that are held back.
#[derive(Debug, Default)]
pub(super) struct Reorder {
    /// In order: as many as are held back.
    held: Vec<i64>,
    last: Option<i64>,
    depth: usize,
}

impl Reorder {
    /// When the next picture is decoded. `step` is the time from one picture to the next, or 0.
    pub(super) fn place(&mut self, pts: i64, step: i64, depth: usize) -> i64 {
        let is_far = |last: i64| pts.saturating_sub(last).saturating_abs() > MAX_STEP;
        if self.last.is_none_or(is_far) {
            self.last = None;
            self.held.clear();
            self.depth = depth.min(MAX_DEPTH);
            let step = if (1..MediaTime::HZ).contains(&step) { step } else { DEFAULT_STEP };
            let count = i64::try_from(self.depth).unwrap_or(0);
            self.held.extend((1..=count).rev().map(|at| pts.saturating_sub(at * step)));
        }
        let at = self.held.partition_point(|held| *held <= pts);
        self.held.insert(at, pts);
        let first = self.held.first().copied().unwrap_or(pts);
        // A picture shown before one that was decoded earlier says that more are held back.
        if self.last.is_some_and(|last| first <= last) && self.depth < MAX_DEPTH {
            self.depth += 1;
        }
        while self.held.len() > self.depth {
            self.held.remove(0);
        }
        let dts = self.last.map_or(first, |last| first.max(last.saturating_add(1)));
        self.last = Some(dts);
        dts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(pts: &[i64], depth: usize) -> Vec<i64> {
        let mut reorder = Reorder::default();
        pts.iter().map(|pts| reorder.place(pts * 3600, 3600, depth)).collect()
    }

    #[test]
    fn pictures_are_decoded_in_even_steps_before_they_are_shown() {
        let shown = [0, 4, 2, 1, 3, 8, 6, 5, 7, 9];
        let decoded = place(&shown, 2);
        assert_eq!(decoded, (-2..8).map(|at| at * 3600).collect::<Vec<_>>());
        assert_eq!(place(&[0, 1, 2], 0), [0, 3600, 7200]);
    }

    #[test]
    fn uneven_steps_stay_what_they_are() {
        assert_eq!(place(&[0, 10, 5, 40, 20], 1), [-3600, 0, 18_000, 36_000, 72_000]);
    }

    #[test]
    fn a_depth_that_was_too_low_grows_once() {
        let shown = [0, 4, 2, 1, 3, 8, 6, 5, 7, 12, 10, 9, 11];
        let decoded = place(&shown, 0);
        assert!(decoded.windows(2).all(|pair| pair[0] < pair[1]));
        // From then on nothing is shown before it is decoded.
        let late: Vec<_> =
            shown.iter().zip(&decoded).skip(5).filter(|(pts, dts)| **pts * 3600 < **dts).collect();
        assert!(late.is_empty(), "{late:?}");
    }

    #[test]
    fn a_jump_begins_anew_and_absurd_times_do_no_harm() {
        assert_eq!(place(&[0, 1, 1000, 1001], 1), [-3600, 0, 999 * 3600, 1000 * 3600]);
        let mut reorder = Reorder::default();
        for pts in [i64::MIN, i64::MAX, 0, -1, i64::MAX, i64::MIN, 5] {
            for _ in 0..20 {
                reorder.place(pts, i64::MAX, usize::MAX);
                assert!(reorder.held.len() <= MAX_DEPTH);
            }
        }
    }
}
