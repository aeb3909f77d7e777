//! Where the low rendition gets its key pictures.
//!
//! Decides at which of the full rendition's pictures the encoder begins anew: at its key pictures, and
//! between them often enough that every generation begins with one. How the encoder is told is left
//! to [`super::encoder`].
//!
//! A viewer goes from the full pictures to the low ones between two pictures in the order of decoding.
//! Nothing is missing and nothing comes twice only if all decoded before are shown before all decoded
//! after, so only such places are used:
//!
//! ```text
//!   decoded   0  4  2  1  3 │ 8  6  5  7 │ 12 …      shown as numbered
//!                           └ key at 5    └ key at 9
//! ```

use banyan_media::AccessUnit;
use banyan_wire::MediaTime;

/// Longest stretch between keys, in ticks: a generation.
const MAX_DISTANCE: i64 = MediaTime::HZ / 2;

/// Times this close, in ticks, are the same: 2 ms.
const SAME: i64 = MediaTime::HZ / 500;

/// Chooses the key pictures of the low rendition, from the full one's in the order of decoding.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// From decoding to showing a key picture: what reordering costs.
    delay: i64,
    /// The latest presentation time so far.
    shown: Option<MediaTime>,
    last: Option<MediaTime>,
    /// Presentation time of the last place.
    place: Option<MediaTime>,
    /// Longest distance of two places so far, in ticks: encoders vary it, up to a limit of theirs.
    longest: i64,
    /// Presentation time of the next key.
    due: Option<MediaTime>,
}

impl Keys {
    /// Whether the low rendition's picture at this one's time is to be a key.
    pub(super) fn is_key(&mut self, unit: &AccessUnit) -> bool {
        if unit.random_access {
            self.delay = unit.pts.0.saturating_sub(unit.dts.0).max(0);
            self.due = None;
        }
        let next = MediaTime(unit.dts.0.saturating_add(self.delay));
        if self.shown.is_none_or(|shown| shown < MediaTime(next.0.saturating_sub(SAME))) {
            let step = self.place.map_or(0, |place| next.0.saturating_sub(place.0));
            // A longer one is a gap.
            if step <= MAX_DISTANCE / 2 {
                self.longest = self.longest.max(step);
            }
            self.place = Some(next);
            let is_late = self.last.is_none_or(|last| {
                next.0.saturating_sub(last.0).saturating_add(self.longest) > MAX_DISTANCE + SAME
            });
            if is_late {
                self.due = Some(next);
            }
        }
        self.shown = self.shown.max(Some(unit.pts));
        let is_due = self.due.is_some_and(|due| due.0.abs_diff(unit.pts.0) <= SAME.unsigned_abs());
        let is_key = unit.random_access || is_due;
        if is_key {
            self.last = Some(unit.pts);
            self.due = None;
        }
        is_key
    }
}

#[cfg(test)]
mod tests {
    use banyan_media::Priority;
    use banyan_wire::TrackId;
    use bytes::Bytes;

    use super::*;

    /// Ticks of a picture at 24 a second.
    const STEP: i64 = 3750;

    fn picture(dts: i64, pts: i64, is_key: bool) -> AccessUnit {
        AccessUnit {
            track: TrackId(0),
            pts: MediaTime(pts * STEP),
            dts: MediaTime(dts * STEP),
            random_access: is_key,
            priority: if is_key { Priority::Key } else { Priority::Reference },
            data: Bytes::new(),
        }
    }

    fn keys(units: impl IntoIterator<Item = AccessUnit>) -> Vec<i64> {
        let mut keys = Keys::default();
        let mut out: Vec<_> = units
            .into_iter()
            .filter(|unit| keys.is_key(unit))
            .map(|unit| unit.pts.0 / STEP)
            .collect();
        out.sort_unstable();
        out
    }

    #[test]
    fn without_reordering_there_is_a_key_every_half_second() {
        let found = keys((0..60).map(|at| picture(at, at, at % 48 == 0)));
        assert_eq!(found, [0, 12, 24, 36, 48]);
    }

    #[test]
    fn a_gap_in_the_programme_makes_no_more_keys() {
        let after = (500..560).map(|at| picture(at, at, false));
        let found = keys((0..10).map(|at| picture(at, at, at == 0)).chain(after));
        assert_eq!(found, [0, 500, 512, 524, 536, 548]);
    }

    #[test]
    fn with_reordering_keys_are_where_no_picture_crosses() {
        // Groups of four, of which the last is decoded first.
        let gop = |begin: i64| {
            let minis = (0..12).flat_map(|mini| [4, 2, 1, 3].map(|at| mini * 4 + at));
            let order = std::iter::once(0).chain(minis);
            (0i64..)
                .zip(order)
                .map(move |(at, shown)| picture(begin + at - 2, begin + shown, shown == 0))
        };
        let found = keys(gop(0).chain(gop(49)));
        assert!(found.iter().all(|at| *at % 49 == 0 || *at % 49 % 4 == 1), "{found:?}");
        assert!(found.windows(2).all(|pair| pair[1] - pair[0] <= 12), "{found:?}");
        assert!(found.contains(&49) && found.last() > Some(&80));
    }
}
