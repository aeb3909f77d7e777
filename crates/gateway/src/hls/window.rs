//! The newest stretch of the programme as HLS has it: segments made of parts.
//!
//! Decides where segments are cut, what is listed and what is kept. A part is muxed once and is one
//! copy for all players. What a playlist looks like is left to
//! [`mod@super::playlist`].
//!
//! ```text
//!            kept, not listed     listed                  open
//!   dropped │ 12 │ 13 │ 14 │ 15 │ 16 │ 17 │ 18 │ 19 │ 20.0 20.1 20.2 │ 20.3 is hinted at
//! ```
//!
//! A segment goes from one picture that can be started at to the next, or is cut at [`MAX_SEGMENT`].
//! Whether it is complete shows only when the next begins.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use banyan_media::{Fragment, Init};
use banyan_wire::MediaTime;
use bytes::Bytes;

/// Longest part that is made of pictures shorter than that. A generation of half a second makes two:
/// players stay three parts behind the newest.
pub(crate) const MAX_PART: Duration = Duration::from_millis(280);

/// Longest segment, and the target duration that playlists state for good.
pub(crate) const MAX_SEGMENT: Duration = Duration::from_secs(4);

/// A segment does not end at a picture that can be started at before this: some sources make only
/// such pictures, and sound can be started at anywhere.
const MIN_SEGMENT: Duration = Duration::from_secs(1);

/// What playlists list at least, once there is so much: four target durations, one more than RFC
/// 8216 asks for.
const LISTED: Duration = Duration::from_secs(16);

/// What is kept: what is listed, and as long again for those who have an older playlist.
const KEPT: Duration = Duration::from_secs(36);

/// Most bytes of segments kept: 36 s at 15 Mbit/s. Past it the oldest go early; the newest, which
/// lasts four seconds at most, stays.
pub const MAX_SEGMENT_BYTES: usize = 64 << 20;

/// Most parts kept, for sources that make tiny generations.
const MAX_PARTS: usize = 2048;

/// The newest segments.
#[derive(Debug, Default)]
pub(crate) struct Window {
    segments: VecDeque<Segment>,
    next_sequence: u64,
    /// Segments before this one are not listed.
    first_listed: u64,
    init_number: u64,
    bytes: usize,
    parts: usize,
    /// In ticks.
    longest_part: i64,
    is_over: bool,
}

/// A segment, complete or not.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) init: Arc<Init>,
    /// In the name of its init segment.
    pub(crate) init_number: u64,
    /// Whether it does not go on where the one before ended.
    pub(crate) is_discontinuous: bool,
    /// Discontinuities up to this segment.
    pub(crate) discontinuities: u64,
    /// When it was at the edge, as the wall clock says.
    pub(crate) date: SystemTime,
    pub(crate) parts: Vec<Part>,
    /// Where the part that is next belongs, in ticks since the first one ever.
    start: i64,
}

/// A part of a segment.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) data: Bytes,
    /// In ticks.
    pub(crate) duration: i64,
    pub(crate) is_independent: bool,
    pub(crate) pictures: usize,
}

/// What is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The bytes.
    Here(Bytes),
    /// The next part, which will be there soon, or another instead.
    Next,
    /// No longer there, or never.
    Not,
}

/// Whether a playlist holds what a player waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// It does, or it never will.
    Ready,
    /// It will.
    Wait,
    /// It is further ahead than a player may ask for.
    TooFar,
}

impl Segment {
    /// In ticks.
    pub(crate) fn duration(&self) -> i64 {
        self.parts.iter().map(|part| part.duration).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.data.len()).sum()
    }

    pub(crate) fn pictures(&self) -> usize {
        self.parts.iter().map(|part| part.pictures).sum()
    }
}

impl Window {
    /// Adds the fragments of a generation, which has just come.
    pub(crate) fn push(&mut self, fragments: Vec<Fragment>, now: SystemTime) {
        let total = fragments.iter().map(|fragment| fragment.duration).sum();
        // The end of what has just come is the edge, as if it had been filmed now.
        let began = now.checked_sub(duration(total)).unwrap_or(now);
        let first = fragments.first().map_or(0, |fragment| fragment.start);
        for fragment in fragments {
            let since = duration(fragment.start - first);
            self.push_part(fragment, began.checked_add(since).unwrap_or(began));
        }
        self.drop_old();
    }

    /// Says that nothing will follow.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The segments that a playlist lists, the last of which may be open.
    pub(crate) fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        self.segments.iter().filter(|segment| segment.sequence >= self.first_listed)
    }

    /// Whether a segment is complete: one follows it, or nothing will.
    pub(crate) fn is_complete(&self, segment: &Segment) -> bool {
        self.is_over || segment.sequence + 1 < self.next_sequence
    }

    /// The longest part there has been, or [`MAX_PART`]: what a playlist states may not shrink.
    pub(crate) fn part_target(&self) -> Duration {
        duration(self.longest_part).max(MAX_PART)
    }

    /// The place of the next part, unless it starts a segment.
    pub(crate) fn next_part(&self) -> Option<(u64, usize)> {
        let open = self.segments.back().filter(|_| !self.is_over)?;
        Some((open.sequence, open.parts.len()))
    }

    /// Whether a playlist holds that segment, or that part of it.
    pub(crate) fn reload(&self, sequence: u64, part: Option<usize>) -> Reload {
        /// Segments, and parts, that a player may ask for in advance: RFC 8216bis, 6.2.5.2.
        const MAX_ADVANCE: u64 = 2;
        const MAX_PART_ADVANCE: usize = 16;

        let Some(open) = self.segments.back() else { return Reload::Wait };
        if sequence.saturating_sub(open.sequence) > MAX_ADVANCE {
            return Reload::TooFar;
        }
        let have = if sequence == open.sequence { open.parts.len() } else { 0 };
        if part.is_some_and(|part| part > have + MAX_PART_ADVANCE) && sequence >= open.sequence {
            return Reload::TooFar;
        }
        let is_here = sequence < open.sequence
            || sequence == open.sequence && part.is_some_and(|part| part < open.parts.len());
        if is_here || self.is_over { Reload::Ready } else { Reload::Wait }
    }

    pub(crate) fn part(&self, sequence: u64, part: usize) -> Found {
        let Some(segment) = self.segment(sequence) else { return Found::Not };
        match segment.parts.get(part) {
            Some(part) => Found::Here(part.data.clone()),
            None if self.next_part() == Some((sequence, part)) => Found::Next,
            None => Found::Not,
        }
    }

    /// The length of a complete segment.
    pub(crate) fn segment_len(&self, sequence: u64) -> Option<usize> {
        let segment = self.segment(sequence).filter(|segment| self.is_complete(segment))?;
        Some(segment.len())
    }

    pub(crate) fn init(&self, number: u64) -> Option<Bytes> {
        let segment = self.segments.iter().find(|segment| segment.init_number == number)?;
        Some(segment.init.data.clone())
    }

    fn segment(&self, sequence: u64) -> Option<&Segment> {
        let first = self.segments.front()?.sequence;
        self.segments.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    fn push_part(&mut self, fragment: Fragment, date: SystemTime) {
        let is_new = self.segments.back().is_none_or(|open| {
            let passed = open.duration();
            fragment.is_discontinuous
                || fragment.is_independent && passed >= ticks(MIN_SEGMENT)
                || passed + fragment.duration > ticks(MAX_SEGMENT)
        });
        if is_new {
            self.begin(&fragment, date);
        }
        self.longest_part = self.longest_part.max(fragment.duration);
        self.bytes += fragment.data.len();
        self.parts += 1;
        if let Some(open) = self.segments.back_mut() {
            open.parts.push(Part {
                data: fragment.data,
                duration: fragment.duration,
                is_independent: fragment.is_independent,
                pictures: fragment.pictures,
            });
        }
    }

    fn begin(&mut self, fragment: &Fragment, date: SystemTime) {
        let last = self.segments.back();
        let is_discontinuous = last.is_some() && fragment.is_discontinuous;
        if last.is_some_and(|last| last.init != fragment.init) {
            self.init_number += 1;
        }
        // Dates follow the programme, which knows no jitter, and start anew where it does.
        let follows = last.filter(|_| !is_discontinuous).and_then(|last| {
            last.date.checked_add(duration(fragment.start.saturating_sub(last.start)))
        });
        let least = last.and_then(|last| last.date.checked_add(duration(last.duration())));
        let segment = Segment {
            sequence: self.next_sequence,
            init: Arc::clone(&fragment.init),
            init_number: self.init_number,
            is_discontinuous,
            discontinuities: last.map_or(0, |last| last.discontinuities)
                + u64::from(is_discontinuous),
            date: follows.unwrap_or_else(|| least.map_or(date, |least| date.max(least))),
            parts: Vec::new(),
            start: fragment.start,
        };
        self.next_sequence += 1;
        self.segments.push_back(segment);
    }

    fn drop_old(&mut self) {
        let mut newer = 0;
        for segment in self.segments.iter().rev() {
            if newer >= ticks(LISTED) {
                self.first_listed = self.first_listed.max(segment.sequence + 1);
                break;
            }
            newer += segment.duration();
        }
        let mut kept: i64 = self.segments.iter().map(Segment::duration).sum();
        while self.segments.len() > 1 {
            let Some(oldest) = self.segments.front() else { break };
            let (passed, bytes, parts) = (oldest.duration(), oldest.len(), oldest.parts.len());
            if kept - passed < ticks(KEPT)
                && self.bytes <= MAX_SEGMENT_BYTES
                && self.parts <= MAX_PARTS
            {
                break;
            }
            kept -= passed;
            self.bytes -= bytes;
            self.parts -= parts;
            self.first_listed = self.first_listed.max(oldest.sequence + 1);
            self.segments.pop_front();
        }
    }
}

/// A time in ticks; none of those that are negative.
pub(crate) fn duration(ticks: i64) -> Duration {
    Duration::from_micros(u64::try_from(MediaTime(ticks).as_micros()).unwrap_or(0))
}

fn ticks(duration: Duration) -> i64 {
    MediaTime::from_micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 9)).0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fragment of these milliseconds.
    pub(crate) fn fragment(start: i64, len: i64, is_independent: bool) -> Fragment {
        let init = Init {
            data: Bytes::from_static(b"init"),
            codecs: "avc1.64001e,mp4a.40.2".to_owned(),
            width: 854,
            height: 480,
        };
        Fragment {
            init: Arc::new(init),
            is_discontinuous: false,
            is_independent,
            start: start * 90,
            duration: len * 90,
            pictures: 6,
            data: Bytes::from(vec![0; 1000]),
        }
    }

    /// A window of generations of half a second, four to a GOP.
    pub(crate) fn window(generations: i64) -> Window {
        let mut window = Window::default();
        for at in 0..generations {
            let parts =
                [fragment(at * 500, 250, at % 4 == 0), fragment(at * 500 + 250, 250, false)];
            let end = at * 500_000 + 500_000;
            let now = SystemTime::UNIX_EPOCH + Duration::from_micros(end.unsigned_abs());
            window.push(parts.into(), now);
        }
        window
    }

    fn sequences(window: &Window) -> Vec<u64> {
        window.listed().map(|segment| segment.sequence).collect()
    }

    #[test]
    fn segments_begin_where_a_picture_can_be_started_at() {
        let window = window(9);
        let segments: Vec<_> = window.listed().collect();
        assert_eq!(segments.iter().map(|s| s.parts.len()).collect::<Vec<_>>(), [8, 8, 2]);
        assert!(segments.iter().all(|segment| segment.parts[0].is_independent));
        assert!(window.is_complete(segments[1]) && !window.is_complete(segments[2]));
        let dates: Vec<_> = segments.iter().map(|segment| segment.date).collect();
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(dates, [at(0), at(2), at(4)]);
    }

    #[test]
    fn what_is_listed_and_what_is_kept_have_their_lengths() {
        let window = window(400);
        assert_eq!(sequences(&window), (92..100).collect::<Vec<_>>());
        assert_eq!(window.segments.front().map(|segment| segment.sequence), Some(82));
        assert!(window.segment_len(82).is_some() && window.segment_len(81).is_none());
    }

    #[test]
    fn a_long_gop_is_cut_and_short_ones_are_joined() {
        let mut long = Window::default();
        for at in 0..60 {
            long.push(vec![fragment(at * 250, 250, at == 0)], SystemTime::UNIX_EPOCH);
        }
        let mut durations: Vec<i64> = long.listed().map(Segment::duration).collect();
        durations.pop();
        assert!(durations.iter().all(|duration| *duration == ticks(MAX_SEGMENT)), "{durations:?}");
        let mut short = Window::default();
        for at in 0..40 {
            short.push(vec![fragment(at * 250, 250, true)], SystemTime::UNIX_EPOCH);
        }
        assert!(short.listed().all(|segment| segment.duration() == ticks(MIN_SEGMENT)));
    }

    #[test]
    fn a_discontinuity_begins_a_segment_and_is_counted() {
        let mut window = window(2);
        let mut other = fragment(5000, 250, false);
        other.is_discontinuous = true;
        window.push(vec![other.clone()], SystemTime::UNIX_EPOCH);
        let mut init = Init::clone(&other.init);
        init.width = 1;
        other.init = Arc::new(init);
        window.push(vec![other], SystemTime::UNIX_EPOCH);
        let found: Vec<_> = window
            .listed()
            .map(|s| (s.sequence, s.is_discontinuous, s.discontinuities, s.init_number))
            .collect();
        assert_eq!(found, [(0, false, 0, 0), (1, true, 1, 0), (2, true, 2, 1)]);
        assert!(window.init(0).is_some() && window.init(1).is_some() && window.init(2).is_none());
        let dates: Vec<_> = window.listed().map(|segment| segment.date).collect();
        assert!(dates.windows(2).all(|pair| pair[0] < pair[1]), "dates go on: {dates:?}");
    }

    #[test]
    fn bytes_and_parts_are_bounded() {
        let mut window = Window::default();
        for at in 0..100 {
            let mut fat = fragment(at * 1000, 1000, true);
            fat.data = Bytes::from(vec![0; MAX_SEGMENT_BYTES / 8]);
            window.push(vec![fat], SystemTime::UNIX_EPOCH);
            assert!(window.bytes <= MAX_SEGMENT_BYTES);
        }
        let first = sequences(&window).first().copied();
        assert_eq!(first, window.segments.front().map(|segment| segment.sequence));
        for at in 0..10_000 {
            window.push(vec![fragment(100_000 + at, 1, true)], SystemTime::UNIX_EPOCH);
        }
        assert!(window.parts <= MAX_PARTS + 1000);
    }

    #[test]
    fn a_reload_waits_for_exactly_what_is_next() {
        let mut window = window(5);
        assert_eq!(window.next_part(), Some((1, 2)));
        assert_eq!(window.reload(0, None), Reload::Ready);
        assert_eq!(window.reload(0, Some(999)), Reload::Ready, "it means the next segment's first");
        assert_eq!(window.reload(1, Some(1)), Reload::Ready);
        assert_eq!(window.reload(1, Some(2)), Reload::Wait);
        assert_eq!(window.reload(1, None), Reload::Wait);
        assert_eq!(window.reload(3, Some(0)), Reload::Wait);
        assert_eq!(window.reload(4, None), Reload::TooFar);
        assert_eq!(window.reload(u64::MAX, None), Reload::TooFar);
        assert_eq!(window.reload(1, Some(usize::MAX)), Reload::TooFar);
        assert_eq!((window.part(1, 2), window.part(1, 3)), (Found::Next, Found::Not));
        window.end();
        assert_eq!(window.reload(1, Some(2)), Reload::Ready);
        assert_eq!((window.part(1, 2), window.next_part()), (Found::Not, None));
    }
}
