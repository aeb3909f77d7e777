//! The substrate as it stands before the forest: who is on the ring, and whom a node has in its
//! tables.
//!
//! The world owns one [`Ring`], enters nodes as they come and strikes them out as they go, and asks
//! it for the contacts it hands over with `Happening::Start`. What the nodes make of them later is
//! theirs ([`super::routing`]).
//!
//! Departure: Pastry's own join, which collects the rows along one route, is not played. A newcomer
//! is given the tables at once and pays for telling those in them.

use crate::node::Index;

use super::SOURCE;
use super::key::{Dice, Key};
use super::routing::{LEAVES, Shape};

/// All nodes that are up, in the order of their keys. The source is never among them: it feeds the
/// roots and takes no place in the trees.
#[derive(Clone, Debug)]
pub struct Ring {
    seed: u64,
    bits: u32,
    shape: Shape,
    sample: usize,
    nodes: Vec<(Key, Index)>,
}

impl Ring {
    /// An empty ring. `bits` is the length of a digit; of each column of a table, `sample` nodes
    /// are looked at for the nearest one.
    #[must_use]
    pub const fn new(seed: u64, bits: u32, shape: Shape, sample: usize) -> Self {
        Self { seed, bits, shape, sample, nodes: Vec::new() }
    }

    /// Enters many nodes, which must not be on the ring yet, at the price of one sort.
    pub fn extend(&mut self, indices: impl IntoIterator<Item = Index>) {
        let seed = self.seed;
        let newcomers = indices.into_iter().filter(|&index| index != SOURCE);
        self.nodes.extend(newcomers.map(|index| (Key::of_node(seed, index), index)));
        self.nodes.sort_unstable();
    }

    /// Enters one node. The source is passed over.
    pub fn insert(&mut self, index: Index) {
        let node = (Key::of_node(self.seed, index), index);
        if index != SOURCE
            && let Err(at) = self.nodes.binary_search(&node)
        {
            self.nodes.insert(at, node);
        }
    }

    /// Strikes one node out.
    pub fn remove(&mut self, index: Index) {
        if let Ok(at) = self.nodes.binary_search(&(Key::of_node(self.seed, index), index)) {
            self.nodes.remove(at);
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nobody is there.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whom `index` has in its tables, itself on the ring or not. `proximity` is the way to another
    /// node in any unit; a constant gives tables without a sense of place.
    ///
    /// Pastry fills each place with a near one of all nodes that fit it (SOSP'03).
    /// Departure: among a sample of them. Sixteen come within a few per cent of all (Gummadi 2003);
    /// but the larger the sample, the more nodes share one contact, and the more JOINs that one
    /// turns away.
    #[must_use]
    pub fn contacts(&self, index: Index, proximity: impl Fn(Index) -> u64) -> Vec<Index> {
        let me = Key::of_node(self.seed, index);
        let mut dice = Dice::new(self.seed ^ u64::from(index).rotate_left(32));
        let mut contacts = match self.shape {
            Shape::Pastry => self.leaves(me, index),
            Shape::KBuckets { .. } => Vec::new(),
        };
        let (bits, per_column) = match self.shape {
            Shape::Pastry => (self.bits, 1),
            Shape::KBuckets { size } => (1, size),
        };
        for row in 0..128 / bits {
            if self.siblings(me, row, bits).len() <= 1 {
                break;
            }
            for digit in 0..1usize << bits {
                if digit != me.digit(row, bits) {
                    let column = self.span(me, row, bits, digit);
                    self.choose(column, per_column, &proximity, &mut dice, &mut contacts);
                }
            }
        }
        let mut known = Vec::with_capacity(contacts.len());
        for contact in contacts {
            if contact != index && !known.contains(&contact) {
                known.push(contact);
            }
        }
        known
    }

    /// The nodes whose keys share `row` digits with `me`.
    fn siblings(&self, me: Key, row: u32, bits: u32) -> &[(Key, Index)] {
        let shared = row * bits;
        if shared == 0 {
            return &self.nodes;
        }
        let low = me.0 >> (128 - shared) << (128 - shared);
        self.between(low, low | (u128::MAX >> shared))
    }

    /// The nodes whose keys share `row` digits with `me` and have `digit` next.
    fn span(&self, me: Key, row: u32, bits: u32, digit: usize) -> &[(Key, Index)] {
        let shared = row * bits;
        let head = if shared == 0 { 0 } else { me.0 >> (128 - shared) << (128 - shared) };
        let digit = u128::try_from(digit).expect("a digit is small");
        let low = head | digit << (128 - shared - bits);
        let rest = u128::MAX.checked_shr(shared + bits).unwrap_or(0);
        self.between(low, low | rest)
    }

    fn between(&self, low: u128, high: u128) -> &[(Key, Index)] {
        let start = self.nodes.partition_point(|(key, _)| key.0 < low);
        let end = self.nodes.partition_point(|(key, _)| key.0 <= high);
        &self.nodes[start..end]
    }

    fn leaves(&self, me: Key, index: Index) -> Vec<Index> {
        let count = self.nodes.len();
        let place = self.nodes.partition_point(|node| *node < (me, index));
        let reach = LEAVES.min(count);
        let around = (0..=2 * reach).map(|step| place + count - reach + step);
        around.filter_map(|at| self.nodes.get(at % count.max(1))).map(|&(_, leaf)| leaf).collect()
    }

    fn choose(
        &self,
        column: &[(Key, Index)],
        wanted: usize,
        proximity: &impl Fn(Index) -> u64,
        dice: &mut Dice,
        chosen: &mut Vec<Index>,
    ) {
        let drawn = self.sample.max(2 * wanted);
        let mut sample: Vec<Index> = if column.len() <= drawn {
            column.iter().map(|&(_, index)| index).collect()
        } else {
            let mut places: Vec<usize> = (0..drawn).map(|_| dice.below(column.len())).collect();
            places.sort_unstable();
            places.dedup();
            places.into_iter().map(|at| column[at].1).collect()
        };
        dice.shuffle(&mut sample);
        if wanted == 1 {
            chosen.extend(sample.into_iter().min_by_key(|&index| proximity(index)));
        } else {
            sample.sort_by_key(|&index| proximity(index));
            chosen.extend(sample.into_iter().take(wanted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(shape: Shape, count: Index) -> Ring {
        let mut ring = Ring::new(5, 4, shape, 16);
        ring.extend(0..=count);
        ring
    }

    #[test]
    fn the_source_is_not_on_the_ring() {
        assert_eq!(ring(Shape::Pastry, 50).len(), 50);
        assert!(!ring(Shape::Pastry, 50).contacts(3, |_| 0).contains(&SOURCE));
    }

    #[test]
    fn a_node_knows_every_first_digit() {
        let contacts = ring(Shape::Pastry, 500).contacts(1, |_| 0);
        let mut digits: Vec<usize> =
            contacts.iter().map(|&index| Key::of_node(5, index).digit(0, 4)).collect();
        digits.sort_unstable();
        digits.dedup();
        assert_eq!(digits.len(), 16);
    }

    #[test]
    fn a_column_takes_the_nearest_of_its_sample() {
        let ring = ring(Shape::Pastry, 100);
        let near = |index: Index| u64::from(index.abs_diff(40));
        let contacts = ring.contacts(40, near);
        let own = Key::of_node(5, 40).digit(0, 4);
        let digit = (own + 1) % 16;
        let column = ring.span(Key::of_node(5, 40), 0, 4, digit);
        let best = column.iter().map(|&(_, index)| near(index)).min();
        assert!(column.len() <= 16);
        let known = contacts.iter().filter(|&&i| Key::of_node(5, i).digit(0, 4) == digit);
        assert_eq!(known.map(|&index| near(index)).min(), best);
    }

    #[test]
    fn who_left_is_nobodys_contact() {
        let mut ring = ring(Shape::KBuckets { size: 8 }, 200);
        ring.remove(17);
        assert!((1..=200).all(|index| !ring.contacts(index, |_| 0).contains(&17)));
        ring.insert(17);
        assert_eq!(ring.len(), 200);
    }
}
