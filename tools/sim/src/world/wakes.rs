//! When each node wants to be woken: one entry for each, moved when it changes its mind.
//!
//! A heap with a table of places. Entries in the event queue would go stale by the million, because
//! nodes bring their timers forward all the time.

/// No place: the node sleeps until something happens to it.
const NOWHERE: u32 = u32::MAX;

/// One wake-up for each node at most.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    /// (Microsecond, node), least first.
    heap: Vec<(u64, u32)>,
    /// Node to place in the heap.
    places: Vec<u32>,
}

impl Wakes {
    /// Sets or clears the wake-up of `node`.
    pub(crate) fn set(&mut self, node: u32, at: Option<u64>) {
        if self.places.len() <= node as usize {
            self.places.resize(node as usize + 1, NOWHERE);
        }
        let place = self.places[node as usize];
        match (at, place) {
            (None, NOWHERE) => {}
            (None, place) => self.remove(place as usize),
            (Some(at), NOWHERE) => {
                self.heap.push((at, node));
                self.note(self.heap.len() - 1);
                self.rise(self.heap.len() - 1);
            }
            (Some(at), place) => {
                let place = place as usize;
                let before = std::mem::replace(&mut self.heap[place].0, at);
                if at < before {
                    self.rise(place);
                } else if at > before {
                    self.sink(place);
                }
            }
        }
    }

    /// The next wake-up and whose it is.
    pub(crate) fn next(&self) -> Option<(u64, u32)> {
        self.heap.first().copied()
    }

    fn remove(&mut self, place: usize) {
        let (_, node) = self.heap.swap_remove(place);
        self.places[node as usize] = NOWHERE;
        if place < self.heap.len() {
            self.note(place);
            self.rise(place);
            self.sink(place);
        }
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let above = (place - 1) / 2;
            if self.heap[above] <= self.heap[place] {
                break;
            }
            self.swap(above, place);
            place = above;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let below = place * 2 + 1;
            let Some(left) = self.heap.get(below) else {
                break;
            };
            let least = match self.heap.get(below + 1) {
                Some(right) if right < left => below + 1,
                Some(_) | None => below,
            };
            if self.heap[place] <= self.heap[least] {
                break;
            }
            self.swap(place, least);
            place = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn note(&mut self, place: usize) {
        let node = self.heap[place].1;
        self.places[node as usize] = u32::try_from(place).expect("fewer than 2^32 nodes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn the_next_wake_up_is_always_the_earliest_that_was_set() {
        let mut wakes = Wakes::default();
        let mut model = vec![None; 40];
        let mut dice = Dice::new(1, "wakes");
        for _ in 0..5_000 {
            let node = dice.below(40);
            let at = dice.chance(0.8).then(|| dice.bits() % 1000);
            wakes.set(u32::try_from(node).expect("small"), at);
            model[node] = at;
            let expected = (0..).zip(&model).filter_map(|(node, at)| Some(((*at)?, node))).min();
            assert_eq!(wakes.next(), expected);
            assert_eq!(wakes.heap.len(), model.iter().flatten().count());
        }
    }
}
