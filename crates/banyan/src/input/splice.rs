//! Joins what one encoder sends to what the one before it sent.
//!
//! Decides where the programme goes on when an encoder comes back: each track behind its own last
//! unit, all moved by the same amount, so that nothing overlaps and sound and picture stay
//! together. Jumps within what one encoder sends are left to the demuxers.

use std::collections::{BTreeMap, VecDeque};

use banyan_media::AccessUnit;
use banyan_wire::{MediaTime, TrackId};

/// Step after a track's last unit when nothing tells how long it lasts, in ticks: one picture at
/// 25 a second.
const DEFAULT_STEP: i64 = MediaTime::HZ / 25;
/// Units that are held back until all tracks have shown where they begin; then it is decided with
/// those that have. Sound comes in a transport stream up to a second after its picture.
const MAX_HELD: usize = 256;
/// The same, in ticks.
const MAX_HELD_TIME: i64 = MediaTime::HZ;

/// The timeline of a programme that several encoders send, one after the other.
#[derive(Debug, Default)]
pub(super) struct Splice {
    /// What makes this encoder's time the programme's; not known while units are held.
    offset: Option<i64>,
    /// Where each track goes on.
    ends: BTreeMap<TrackId, End>,
    held: VecDeque<AccessUnit>,
    /// Tracks this encoder announced.
    tracks: Vec<TrackId>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    last: MediaTime,
    step: i64,
}

impl Splice {
    /// Another encoder begins. Whatever was held of the one before must have been
    /// [released](Self::release).
    pub(super) fn begin(&mut self) {
        self.held.clear();
        self.tracks.clear();
        self.offset = self.ends.is_empty().then_some(0);
    }

    /// The encoder has announced its tracks.
    pub(super) fn set_tracks(&mut self, tracks: impl Iterator<Item = TrackId>) {
        self.tracks = tracks.collect();
    }

    /// Takes the next unit; gives those that can be placed.
    pub(super) fn push(&mut self, unit: AccessUnit, out: &mut Vec<AccessUnit>) {
        if self.offset.is_some() {
            out.extend(self.place(unit));
            return;
        }
        let is_late = self.held.front().is_some_and(|first| unit.dts - first.dts > MAX_HELD_TIME);
        self.held.push_back(unit);
        let has_begun = |track: &TrackId| self.held.iter().any(|unit| unit.track == *track);
        if is_late || self.held.len() >= MAX_HELD || self.tracks.iter().all(has_begun) {
            self.release(out);
        }
    }

    /// Gives what is held: nothing more is to be waited for.
    pub(super) fn release(&mut self, out: &mut Vec<AccessUnit>) {
        if self.held.is_empty() {
            return;
        }
        let mut firsts = BTreeMap::new();
        for unit in &self.held {
            firsts.entry(unit.track).or_insert(unit.dts);
        }
        // A track the programme did not have begins where the others have ended.
        let latest = self.ends.values().map(|end| end.last.0 + end.step).max().unwrap_or(0);
        let offsets = firsts.into_iter().map(|(track, first)| match self.ends.get(&track) {
            Some(end) => end.last.0 + end.step - first.0,
            None => latest - first.0,
        });
        self.offset = offsets.max();
        for unit in std::mem::take(&mut self.held) {
            out.extend(self.place(unit));
        }
    }

    fn place(&mut self, mut unit: AccessUnit) -> Option<AccessUnit> {
        let offset = self.offset?;
        unit.dts = unit.dts + offset;
        unit.pts = unit.pts + offset;
        let end = self.ends.get(&unit.track).copied();
        let mut step = end.map_or(DEFAULT_STEP, |end| end.step);
        if let Some(end) = end {
            if unit.dts <= end.last {
                // A track that began later than was waited for.
                unit.dts = end.last + 1;
                unit.pts = unit.pts.max(unit.dts);
            } else if unit.dts - end.last < MediaTime::HZ {
                step = unit.dts - end.last;
            }
        }
        self.ends.insert(unit.track, End { last: unit.dts, step });
        Some(unit)
    }
}

#[cfg(test)]
mod tests {
    use banyan_media::Priority;
    use bytes::Bytes;

    use super::*;

    const VIDEO: TrackId = TrackId(0);
    const AUDIO: TrackId = TrackId(1);

    #[test]
    fn a_second_encoder_goes_on_behind_the_first_and_keeps_sound_and_picture_together() {
        let mut splice = Splice::default();
        let first = run(&mut splice, &[(VIDEO, 1000), (AUDIO, 1500), (VIDEO, 4600), (AUDIO, 3420)]);
        assert_eq!(first, [(VIDEO, 1000), (AUDIO, 1500), (VIDEO, 4600), (AUDIO, 3420)]);
        // The same times again: less than half a second back, and yet no overlap.
        let second =
            run(&mut splice, &[(VIDEO, 1000), (VIDEO, 4600), (AUDIO, 1500), (AUDIO, 3420)]);
        assert_eq!(second, [(VIDEO, 8200), (VIDEO, 11_800), (AUDIO, 8700), (AUDIO, 10_620)]);
    }

    #[test]
    fn the_track_that_ended_last_decides() {
        let mut splice = Splice::default();
        run(&mut splice, &[(VIDEO, 0), (AUDIO, 0), (VIDEO, 3600), (AUDIO, 9000)]);
        let second = run(&mut splice, &[(VIDEO, 0), (AUDIO, 0)]);
        assert_eq!(second, [(VIDEO, 18_000), (AUDIO, 18_000)]);
    }

    #[test]
    fn a_track_that_never_comes_is_not_waited_for_longer_than_a_second() {
        let mut splice = Splice::default();
        run(&mut splice, &[(VIDEO, 0), (AUDIO, 0)]);
        splice.begin();
        splice.set_tracks([VIDEO, AUDIO].into_iter());
        let mut out = Vec::new();
        for picture in 0..26 {
            splice.push(unit(VIDEO, picture * 3600), &mut out);
            assert!(out.is_empty());
        }
        splice.push(unit(VIDEO, 26 * 3600), &mut out);
        assert_eq!(out.len(), 27);
        // Sound from before then is put behind what there was.
        splice.push(unit(AUDIO, -9000), &mut out);
        assert_eq!(out.last().map(|unit| unit.dts), Some(MediaTime(1)));
    }

    fn run(splice: &mut Splice, units: &[(TrackId, i64)]) -> Vec<(TrackId, i64)> {
        splice.begin();
        splice.set_tracks([VIDEO, AUDIO].into_iter());
        let mut out = Vec::new();
        for (track, dts) in units {
            splice.push(unit(*track, *dts), &mut out);
        }
        splice.release(&mut out);
        out.into_iter().map(|unit| (unit.track, unit.dts.0)).collect()
    }

    fn unit(track: TrackId, dts: i64) -> AccessUnit {
        AccessUnit {
            track,
            pts: MediaTime(dts),
            dts: MediaTime(dts),
            random_access: true,
            priority: Priority::Key,
            data: Bytes::new(),
        }
    }
}
