//! What is to be done and when, in order of time; at one instant, in order of being noted.

use std::collections::BTreeMap;

use crate::node::Index;

/// Something to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// All first viewers come at once.
    Curtain,
    /// A newcomer comes.
    Newcomer,
    /// A newcomer comes, and the next after it.
    Steady,
    /// A viewer's session ends; a newcomer replaces it if it was churn that ended it.
    Go { index: Index, is_graceful: bool, is_replaced: bool },
    /// The scenario's event of this number.
    Event(usize),
    /// The source publishes.
    Publish,
    /// The forest is looked at.
    Sample,
}

/// The agenda.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    items: BTreeMap<(u64, u64), Item>,
    noted: u64,
    /// Items still to come that bring somebody into the world.
    arrivals: usize,
}

impl Agenda {
    pub(super) fn note(&mut self, at: u64, item: Item) {
        self.arrivals += usize::from(brings(item));
        self.items.insert((at, self.noted), item);
        self.noted += 1;
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.items.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next item if it is due by `now`.
    pub(super) fn pop(&mut self, now: u64) -> Option<Item> {
        let entry = self.items.first_entry().filter(|entry| entry.key().0 <= now)?;
        let item = entry.remove();
        self.arrivals -= usize::from(brings(item));
        Some(item)
    }

    pub(super) const fn expects_arrivals(&self) -> bool {
        self.arrivals > 0
    }
}

const fn brings(item: Item) -> bool {
    matches!(item, Item::Curtain | Item::Newcomer | Item::Steady)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_and_not_before_their_time() {
        let mut agenda = Agenda::default();
        agenda.note(5, Item::Publish);
        agenda.note(3, Item::Newcomer);
        agenda.note(5, Item::Sample);
        assert_eq!((agenda.next_at(), agenda.expects_arrivals()), (Some(3), true));
        assert_eq!(agenda.pop(2), None);
        let order: Vec<Item> = std::iter::from_fn(|| agenda.pop(9)).collect();
        assert_eq!(order, [Item::Newcomer, Item::Publish, Item::Sample]);
        assert!(!agenda.expects_arrivals());
    }
}
