//! One node's tables, and where they send a key next.
//!
//! ```text
//!   Pastry     key within the leaf set's range ─▶ numerically closest leaf
//!              otherwise ─▶ the table's entry that lengthens the common prefix
//!              none      ─▶ whoever shares as much and is numerically closer
//!   KBuckets   the contact closest to the key by XOR, if closer than this node
//! ```
//!
//! Tables start from the contacts the world gives ([`super::ring`]), lose whom a connection failed
//! to and gain from rows that nodes show each other. When to ask for rows, and what travels along
//! the routes, is decided by others.

use std::time::Duration;

use banyan_core::Instant;
use serde::Deserialize;

use crate::node::Index;

use super::SOURCE;
use super::key::Key;

/// What the tables look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// Rows of one contact per digit, and a leaf set: what the trees are made for.
    Pastry,
    /// Kademlia's binary buckets of at most `size` contacts: the ablation.
    KBuckets {
        /// Contacts per bucket; Kademlia has 20, R/Kademlia 8.
        size: usize,
    },
}

/// The tables of one node.
#[derive(Clone, Debug)]
pub(crate) struct Routing {
    seed: u64,
    bits: u32,
    me: Index,
    key: Key,
    table: Table,
    /// Those found dead lately: rows of others still name them.
    fallen: Vec<(Index, Instant)>,
}

#[derive(Clone, Debug)]
enum Table {
    Pastry {
        /// Row after row, one place per digit; [`NOBODY`] where it is empty.
        cells: Vec<Index>,
        /// Nearest first, by the way from this node with growing keys.
        right: Vec<Index>,
        /// The same the other way round.
        left: Vec<Index>,
    },
    KBuckets {
        size: usize,
        /// Common prefix in bits and contact, in that order.
        entries: Vec<(u8, Index)>,
    },
}

impl Routing {
    pub(crate) fn new(seed: u64, bits: u32, shape: Shape, me: Index) -> Self {
        let table = match shape {
            Shape::Pastry => {
                Table::Pastry { cells: Vec::new(), right: Vec::new(), left: Vec::new() }
            }
            Shape::KBuckets { size } => Table::KBuckets { size, entries: Vec::new() },
        };
        let key = Key::of_node(seed, me);
        Self { seed, bits, me, key, table, fallen: Vec::new() }
    }

    /// Learns of a node. An occupied place is kept: whoever gave the first contacts chose them by
    /// proximity. Returns whether the neighbourhood changed, and with it perhaps who is a root.
    pub(crate) fn insert(&mut self, index: Index) -> bool {
        if index == self.me
            || index == SOURCE
            || self.fallen.iter().any(|&(fallen, _)| fallen == index)
        {
            return false;
        }
        let (seed, key, bits) = (self.seed, self.key, self.bits);
        let other = Key::of_node(seed, index);
        match &mut self.table {
            Table::Pastry { cells, right, left } => {
                fill_cell(cells, key.prefix(other, bits), other, bits, index);
                let clockwise = |leaf: Index| key.clockwise_to(Key::of_node(seed, leaf));
                let counter = |leaf: Index| Key::of_node(seed, leaf).clockwise_to(key);
                let on_right = insert_leaf(right, index, clockwise);
                insert_leaf(left, index, counter) || on_right
            }
            Table::KBuckets { size, entries } => {
                let bucket = u8::try_from(key.prefix(other, 1)).expect("at most 128");
                let start = entries.partition_point(|&(shared, _)| shared < bucket);
                let end = entries.partition_point(|&(shared, _)| shared <= bucket);
                let room = end - start < *size;
                let is_new = entries[start..end].iter().all(|&(_, known)| known != index);
                if room && is_new {
                    entries.insert(end, (bucket, index));
                }
                room && is_new
            }
        }
    }

    /// Learns of a node by hearsay. It may be dead: it fills a hole in the table at most. Returns
    /// whether it would be a neighbour and so is worth asking.
    pub(crate) fn hear(&mut self, index: Index) -> bool {
        if index == self.me || self.fallen.iter().any(|&(fallen, _)| fallen == index) {
            return false;
        }
        if index == SOURCE || self.is_candidate(index) {
            return index != SOURCE;
        }
        let (other, bits) = (Key::of_node(self.seed, index), self.bits);
        if let Table::Pastry { cells, .. } = &mut self.table {
            fill_cell(cells, self.key.prefix(other, bits), other, bits, index);
        }
        false
    }

    /// Whether the node would be a neighbour and is none.
    fn is_candidate(&self, index: Index) -> bool {
        let other = Key::of_node(self.seed, index);
        match &self.table {
            Table::Pastry { right, left, .. } => {
                let is_nearer = |leaves: &[Index], way: &dyn Fn(Key) -> u128| {
                    let reach = leaves.last().map(|&last| way(Key::of_node(self.seed, last)));
                    let is_within = reach.is_none_or(|reach| way(other) < reach);
                    (is_within || leaves.len() < LEAVES) && !leaves.contains(&index)
                };
                is_nearer(right, &|key| self.key.clockwise_to(key))
                    || is_nearer(left, &|key| key.clockwise_to(self.key))
            }
            Table::KBuckets { size, entries } => {
                let bucket = u8::try_from(self.key.prefix(other, 1)).expect("at most 128");
                let start = entries.partition_point(|&(shared, _)| shared < bucket);
                let end = entries.partition_point(|&(shared, _)| shared <= bucket);
                let bucket = &entries[start..end];
                bucket.len() < *size && bucket.iter().all(|&(_, known)| known != index)
            }
        }
    }

    /// Learns of a node by its own word, which counts for more than its having been found dead.
    pub(crate) fn meet(&mut self, index: Index) -> bool {
        self.fallen.retain(|&(fallen, _)| fallen != index);
        self.insert(index)
    }

    /// Forgets a node that cannot be reached, for [`QUARANTINE`] even against others' rows. Returns
    /// whether it was a neighbour.
    pub(crate) fn remove(&mut self, now: Instant, index: Index) -> bool {
        self.fallen.retain(|&(_, since)| now.since(since) < QUARANTINE);
        if index == SOURCE || self.fallen.iter().any(|&(fallen, _)| fallen == index) {
            return false;
        }
        self.fallen.push((index, now));
        match &mut self.table {
            Table::Pastry { cells, right, left } => {
                cells.iter_mut().filter(|cell| **cell == index).for_each(|cell| *cell = NOBODY);
                let before = right.len() + left.len();
                right.retain(|&leaf| leaf != index);
                left.retain(|&leaf| leaf != index);
                right.len() + left.len() < before
            }
            Table::KBuckets { entries, .. } => {
                let before = entries.len();
                entries.retain(|&(_, known)| known != index);
                entries.len() < before
            }
        }
    }

    /// The next hop towards a key; `None` where this node is the closest it knows.
    pub(crate) fn next_hop(&self, key: Key) -> Option<Index> {
        match &self.table {
            Table::Pastry { cells, right, left } => {
                let within = |leaves: &[Index], way: fn(Key, Key) -> u128| {
                    leaves.last().is_some_and(|&last| {
                        way(self.key, key) <= way(self.key, Key::of_node(self.seed, last))
                    })
                };
                let counter = |from: Key, to: Key| to.clockwise_to(from);
                if within(right, Key::clockwise_to) || within(left, counter) {
                    return self.closest(right.iter().chain(left).copied(), key);
                }
                let row = self.key.prefix(key, self.bits);
                let row_start = usize::try_from(row).expect("few rows") << self.bits;
                let column = row_start + key.digit(row, self.bits);
                if let Some(&next) = cells.get(column)
                    && next != NOBODY
                {
                    return Some(next);
                }
                let known = cells.iter().chain(right).chain(left).copied();
                let as_long = known.filter(|&index| {
                    index != NOBODY && Key::of_node(self.seed, index).prefix(key, self.bits) >= row
                });
                self.closest(as_long, key)
            }
            Table::KBuckets { entries, .. } => {
                self.closest(entries.iter().map(|&(_, index)| index), key)
            }
        }
    }

    /// Whether someone who fell less than `lease` ago was closer to the key than this node:
    /// FreePastry takes over nobody's keys before their lease is out.
    pub(crate) fn is_leased(&self, now: Instant, key: Key, lease: Duration) -> bool {
        self.fallen.iter().any(|&(index, since)| {
            now.since(since) < lease
                && self.distance(Key::of_node(self.seed, index), key) < self.distance(self.key, key)
        })
    }

    /// What to show a node that asks: the neighbourhood, and the row it shares with this node.
    pub(crate) fn rows_for(&self, asker: Index) -> Vec<Index> {
        let shared = self.key.prefix(Key::of_node(self.seed, asker), self.bits);
        let mut rows = match &self.table {
            Table::Pastry { cells, right, left } => {
                let start = usize::try_from(shared).expect("few rows") << self.bits;
                let end = (start + (1 << self.bits)).min(cells.len());
                let row = cells.get(start..end).unwrap_or_default();
                let known = row.iter().chain(right).chain(left).copied();
                known.filter(|&index| index != NOBODY).collect::<Vec<Index>>()
            }
            Table::KBuckets { entries, .. } => {
                // The deepest buckets are the neighbourhood, the last in the list.
                let start = entries.len().saturating_sub(SHOWN);
                entries[start..].iter().map(|&(_, index)| index).collect()
            }
        };
        rows.sort_unstable();
        rows.dedup();
        rows.retain(|&index| index != asker);
        rows
    }

    /// Whom to ask for rows now and then: the nearest on both sides.
    pub(crate) fn neighbours(&self) -> [Option<Index>; 2] {
        match &self.table {
            Table::Pastry { right, left, .. } => [right.first().copied(), left.first().copied()],
            Table::KBuckets { entries, .. } => {
                let mut deepest = entries.iter().rev().map(|&(_, index)| index);
                [deepest.next(), deepest.next()]
            }
        }
    }

    /// The rims of the leaf set: who can name those beyond it.
    pub(crate) fn rims(&self) -> [Option<Index>; 2] {
        match &self.table {
            Table::Pastry { right, left, .. } => [right.last().copied(), left.last().copied()],
            Table::KBuckets { .. } => self.neighbours(),
        }
    }

    /// Everybody in the tables, each once.
    pub(crate) fn contacts(&self) -> Vec<Index> {
        let mut contacts: Vec<Index> = match &self.table {
            Table::Pastry { cells, right, left } => {
                let known = cells.iter().chain(right).chain(left).copied();
                known.filter(|&index| index != NOBODY).collect()
            }
            Table::KBuckets { entries, .. } => entries.iter().map(|&(_, index)| index).collect(),
        };
        contacts.sort_unstable();
        contacts.dedup();
        contacts
    }

    /// The closest to the key of these, if closer than this node.
    fn closest(&self, among: impl Iterator<Item = Index>, key: Key) -> Option<Index> {
        // The source is on no ring and nothing is delivered to it.
        let mut best = match self.me {
            SOURCE => (u128::MAX, self.key),
            _ => (self.distance(self.key, key), self.key),
        };
        let mut next = None;
        for index in among {
            let other = Key::of_node(self.seed, index);
            // Two nodes may be equally far on either side: the smaller key decides.
            let rank = (self.distance(other, key), other);
            if rank < best {
                best = rank;
                next = Some(index);
            }
        }
        next
    }

    fn distance(&self, from: Key, to: Key) -> u128 {
        match self.table {
            Table::Pastry { .. } => from.ring_distance(to),
            Table::KBuckets { .. } => from.xor_distance(to),
        }
    }
}

/// Enters a node in its row, if the place for its next digit is empty.
fn fill_cell(cells: &mut Vec<Index>, row: u32, key: Key, bits: u32, index: Index) {
    let start = usize::try_from(row).expect("few rows") << bits;
    if cells.len() < start + (1 << bits) {
        cells.resize(start + (1 << bits), NOBODY);
    }
    let cell = &mut cells[start + key.digit(row, bits)];
    if *cell == NOBODY {
        *cell = index;
    }
}

/// Keeps the [`LEAVES`] nearest; returns whether the newcomer is among them.
fn insert_leaf(leaves: &mut Vec<Index>, index: Index, way: impl Fn(Index) -> u128) -> bool {
    let far = way(index);
    let place = leaves.partition_point(|&leaf| way(leaf) < far);
    if place == LEAVES || leaves.get(place) == Some(&index) {
        return false;
    }
    leaves.insert(place, index);
    leaves.truncate(LEAVES);
    true
}

/// Leaves on either side: SplitStream runs with a leaf set of 16 (SOSP'03).
pub(crate) const LEAVES: usize = 8;

/// How long nobody is believed who names a node found dead. A guess: two rounds of exchanges.
const QUARANTINE: Duration = Duration::from_secs(60);

/// Contacts shown out of binary buckets: as many as a Pastry node shows at most.
const SHOWN: usize = 32;

/// Marks an empty place.
const NOBODY: Index = Index::MAX;

#[cfg(test)]
mod tests {
    use super::super::ring::Ring;
    use super::*;

    fn standing(shape: Shape, count: Index) -> Vec<Routing> {
        let mut ring = Ring::new(3, 4, shape, 16);
        ring.extend(1..=count);
        let build = |index| {
            let mut routing = Routing::new(3, 4, shape, index);
            for contact in ring.contacts(index, |_| 0) {
                routing.insert(contact);
            }
            routing
        };
        (0..=count).map(build).collect()
    }

    /// The way of a key, ending where it is delivered.
    fn route(nodes: &[Routing], from: Index, key: Key) -> Vec<Index> {
        let mut way = vec![from];
        while let Some(next) = nodes[way[way.len() - 1] as usize].next_hop(key) {
            way.push(next);
            assert!(way.len() < 20, "{way:?}");
        }
        way
    }

    #[test]
    fn every_route_ends_at_the_closest_node() {
        for shape in [Shape::Pastry, Shape::KBuckets { size: 8 }] {
            let nodes = standing(shape, 400);
            for number in 0..16 {
                let key = Key::of_channel(9).with_first_digit(number, 4);
                let root = (1..=400)
                    .min_by_key(|&index| nodes[1].distance(Key::of_node(3, index), key))
                    .expect("somebody");
                for from in 0..=400 {
                    assert_eq!(route(&nodes, from, key).last(), Some(&root), "{shape:?}");
                }
            }
        }
    }

    #[test]
    fn pastry_fixes_the_whole_digit_in_the_first_hop_and_buckets_do_not() {
        let foreign_second_hops = |shape| {
            let nodes = standing(shape, 400);
            let key = Key::of_channel(9).with_first_digit(5, 4).with_middling_second_digit(4);
            let ways = (1..=400).map(|from| route(&nodes, from, key));
            ways.filter(|way| way.get(1).is_some_and(|&hop| Key::of_node(3, hop).digit(0, 4) != 5))
                .count()
        };
        assert_eq!(foreign_second_hops(Shape::Pastry), 0);
        assert!(foreign_second_hops(Shape::KBuckets { size: 8 }) > 40);
    }

    #[test]
    fn who_fell_is_not_learnt_again_at_once() {
        let mut routing = Routing::new(3, 4, Shape::Pastry, 1);
        assert!(routing.insert(2));
        assert!(routing.remove(Instant::ZERO, 2));
        assert!(!routing.insert(2));
        assert!(routing.contacts().is_empty());
        let later = Instant::ZERO + QUARANTINE;
        assert!(!routing.remove(later, 7));
        assert!(routing.insert(2));
    }

    #[test]
    fn a_fallen_root_is_not_followed_before_its_lease_is_out() {
        let mut nodes = standing(Shape::Pastry, 100);
        let key = Key::of_channel(9).with_first_digit(5, 4);
        let root = *route(&nodes, 0, key).last().expect("somebody");
        let now = Instant::from_micros(1);
        let lease = Duration::from_secs(20);
        for node in nodes.iter_mut().filter(|node| node.me != root) {
            node.remove(now, root);
        }
        let heir = *route(&nodes, 0, key).last().expect("somebody");
        assert!(nodes[heir as usize].is_leased(now, key, lease));
        assert!(!nodes[heir as usize].is_leased(now + lease, key, lease));
    }
}
