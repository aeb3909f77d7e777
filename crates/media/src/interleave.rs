//! Puts the samples of several tracks into the order of their times.
//!
//! Decides how long one track waits for another. Fragments bring the tracks one after the other, a
//! second or more of each; what is cut into generations has to come as it is played.

use std::collections::VecDeque;

use banyan_wire::MediaTime;

/// How much of one track may wait for the others, in ticks: a fragment as long as the longest GOP
/// that encoders make by default. A track that lets others wait longer is not waited for until it
/// comes again.
const MAX_SPAN: i64 = 10 * MediaTime::HZ;

/// Bytes and items that may wait; past either, the earliest go on.
const MAX_BYTES: usize = 32 << 20;
const MAX_ITEMS: usize = 65_536;

/// Things of several tracks that wait for each other.
#[derive(Debug)]
pub(crate) struct Interleaver<T> {
    queues: Vec<Queue<T>>,
    bytes: usize,
    items: usize,
}

#[derive(Debug)]
struct Queue<T> {
    /// With their decode times and lengths in bytes.
    items: VecDeque<(i64, usize, T)>,
    is_late: bool,
}

impl<T> Interleaver<T> {
    /// Creates an interleaver of so many tracks.
    pub(crate) fn new(tracks: usize) -> Self {
        let queue = || Queue { items: VecDeque::new(), is_late: false };
        Self { queues: std::iter::repeat_with(queue).take(tracks).collect(), bytes: 0, items: 0 }
    }

    /// Adds the next item of a track.
    pub(crate) fn push(&mut self, index: usize, dts: i64, len: usize, item: T) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        queue.is_late = false;
        queue.items.push_back((dts, len, item));
        self.bytes += len;
        self.items += 1;
    }

    /// The earliest item, if no other track can have an earlier one, or if all are to come: with the
    /// place of its track.
    pub(crate) fn pop(&mut self, is_all: bool) -> Option<(usize, T)> {
        let waits = self.queues.iter().any(|queue| queue.items.is_empty() && !queue.is_late);
        if waits && !is_all {
            let is_full = self.bytes > MAX_BYTES || self.items > MAX_ITEMS;
            if !is_full && self.span() <= MAX_SPAN {
                return None;
            }
            for queue in &mut self.queues {
                queue.is_late |= queue.items.is_empty();
            }
        }
        let front = |queue: &Queue<T>| queue.items.front().map(|(dts, ..)| *dts);
        let earliest =
            self.queues.iter().enumerate().filter_map(|(at, queue)| Some((front(queue)?, at)));
        let (_, index) = earliest.min()?;
        let (_, len, item) = self.queues.get_mut(index)?.items.pop_front()?;
        self.bytes -= len;
        self.items -= 1;
        Some((index, item))
    }

    /// The longest stretch of time that waits in one track.
    fn span(&self) -> i64 {
        let span = |queue: &Queue<T>| match (queue.items.front(), queue.items.back()) {
            (Some((first, ..)), Some((last, ..))) => last.saturating_sub(*first),
            _ => 0,
        };
        self.queues.iter().map(span).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(line: &mut Interleaver<i64>, is_all: bool) -> Vec<(usize, i64)> {
        std::iter::from_fn(|| line.pop(is_all)).collect()
    }

    #[test]
    fn tracks_that_come_one_after_the_other_go_on_side_by_side() {
        let mut line = Interleaver::new(2);
        for dts in [0, 40, 80] {
            line.push(0, dts, 1, dts);
        }
        assert_eq!(drain(&mut line, false), []);
        for dts in [10, 30, 50] {
            line.push(1, dts, 1, dts);
        }
        assert_eq!(drain(&mut line, false), [(0, 0), (1, 10), (1, 30), (0, 40), (1, 50)]);
        assert_eq!(drain(&mut line, true), [(0, 80)]);
    }

    #[test]
    fn a_silent_track_is_waited_for_once() {
        let mut line = Interleaver::new(2);
        let mut first = None;
        for dts in (0..3_000_000).step_by(3600) {
            line.push(0, dts, 1, dts);
            let found = drain(&mut line, false);
            assert!(first.is_none() || !found.is_empty(), "waits again at {dts}");
            if !found.is_empty() {
                first.get_or_insert(dts);
            }
        }
        assert!(first.is_some_and(|first| first <= MAX_SPAN + 3600));
        line.push(1, 3_000_000, 1, 5);
        line.push(0, 3_000_000, 1, 6);
        // Both are there: each waits for the other again.
        assert_eq!(drain(&mut line, false), [(0, 6)]);
        assert_eq!(drain(&mut line, true), [(1, 5)]);
    }

    #[test]
    fn no_more_bytes_wait_than_the_limit() {
        let mut line = Interleaver::new(2);
        for dts in 0..100 {
            line.push(0, dts, 1 << 20, dts);
            drain(&mut line, false);
            assert!(line.bytes <= MAX_BYTES);
        }
        let mut line = Interleaver::new(2);
        for _ in 0..2 * MAX_ITEMS {
            line.push(0, 0, 1, 0);
            drain(&mut line, false);
            assert!(line.items <= MAX_ITEMS);
        }
    }
}
