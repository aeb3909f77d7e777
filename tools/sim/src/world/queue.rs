//! What is still to come, in order of time; at one instant, in order of being queued.
//!
//! Keys are small and stand in a heap; what they stand for lies still in a slab, so that millions
//! of events are sifted by moving 16 bytes each.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Bits of the key for the place in the slab.
const PLACE_BITS: u32 = 32;
/// Bits of the key for the sequence number.
const SEQUENCE_BITS: u32 = 48;

/// Events by time and sequence.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// Time, sequence number and place in the slab, packed.
    heap: BinaryHeap<Reverse<u128>>,
    /// Keys that came in order: what waits for one and the same span needs no heap.
    lane: VecDeque<u128>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            lane: VecDeque::new(),
            slots: Vec::new(),
            free: Vec::new(),
            sequence: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Queues `event` for the microsecond `at`.
    pub(crate) fn push(&mut self, at: u64, event: E) {
        let key = self.store(at, event);
        self.heap.push(Reverse(key));
    }

    /// As [`push`](Self::push), for events that all wait for the same span.
    pub(crate) fn push_in_order(&mut self, at: u64, event: E) {
        let key = self.store(at, event);
        if self.lane.back().is_none_or(|last| *last < key) {
            self.lane.push_back(key);
        } else {
            self.heap.push(Reverse(key));
        }
    }

    fn store(&mut self, at: u64, event: E) -> u128 {
        let place = if let Some(place) = self.free.pop() {
            self.slots[place as usize] = Some(event);
            place
        } else {
            self.slots.push(Some(event));
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 events wait")
        };
        let sequence = u128::from(self.sequence);
        self.sequence += 1;
        let key = u128::from(at) << (SEQUENCE_BITS + PLACE_BITS);
        key | sequence << PLACE_BITS | u128::from(place)
    }

    /// When the next event is due.
    pub(crate) fn next_at(&self) -> Option<u64> {
        let heap = self.heap.peek().map(|Reverse(key)| *key);
        let next = [heap, self.lane.front().copied()].into_iter().flatten().min();
        next.map(time_of)
    }

    /// Takes the next event.
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        let heap = self.heap.peek().map_or(u128::MAX, |Reverse(key)| *key);
        let lane = self.lane.front().copied().unwrap_or(u128::MAX);
        let key = if lane < heap { self.lane.pop_front()? } else { self.heap.pop()?.0 };
        #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are wanted")]
        let place = key as u32;
        let event = self.slots[place as usize].take().expect("a key has its event");
        self.free.push(place);
        Some((time_of(key), event))
    }

    /// Events that wait.
    pub(crate) fn len(&self) -> usize {
        self.heap.len() + self.lane.len()
    }
}

fn time_of(key: u128) -> u64 {
    u64::try_from(key >> (SEQUENCE_BITS + PLACE_BITS)).expect("48 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_instant_come_in_the_order_they_were_queued() {
        let mut queue = Queue::default();
        for (at, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b'), (0, 'z')] {
            queue.push(at, name);
        }
        let order: Vec<(u64, char)> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(0, 'z'), (1, 'a'), (1, 'b'), (5, 'c'), (5, 'd')]);
        assert_eq!((queue.len(), queue.slots.len()), (0, 5));
        queue.push_in_order(9, 'x');
        queue.push_in_order(8, 'y');
        queue.push(8, 'z');
        assert_eq!(queue.slots.len(), 5, "places are used again");
        assert_eq!(queue.next_at(), Some(8));
        let order: Vec<(u64, char)> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(8, 'y'), (8, 'z'), (9, 'x')]);
    }
}
