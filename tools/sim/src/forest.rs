//! The forest as nodes tell it: who is whose parent, in tables that all checkers and metrics read.
//!
//! Decides nothing. A row for each node that ever was; dead nodes keep theirs, without a parent.

use crate::node::Index;

/// In place of a parent where there is none.
pub const NOBODY: Index = Index::MAX;
/// The source's index.
pub const SOURCE: Index = 0;

/// All trees.
#[derive(Debug)]
pub struct Forest {
    stripes: usize,
    parents: Vec<Index>,
    staying: Vec<u16>,
    leaving: Vec<u16>,
    wants: Vec<u64>,
    roles: Vec<u64>,
    capacities: Vec<u32>,
    live: Vec<bool>,
    started_at: Vec<u64>,
    has_roles: bool,
}

impl Forest {
    /// No nodes yet.
    #[must_use]
    pub const fn new(stripes: usize) -> Self {
        Self {
            stripes,
            parents: Vec::new(),
            staying: Vec::new(),
            leaving: Vec::new(),
            wants: Vec::new(),
            roles: Vec::new(),
            capacities: Vec::new(),
            live: Vec::new(),
            started_at: Vec::new(),
            has_roles: false,
        }
    }

    /// Adds the next node, which may have `capacity` children and wants the stripes of `wants`.
    pub(crate) fn add(&mut self, capacity: u32, wants: u64) {
        self.parents.extend(std::iter::repeat_n(NOBODY, self.stripes));
        self.staying.extend(std::iter::repeat_n(0, self.stripes));
        self.leaving.extend(std::iter::repeat_n(0, self.stripes));
        self.wants.push(wants);
        self.roles.push(0);
        self.capacities.push(capacity);
        self.live.push(false);
        self.started_at.push(0);
    }

    /// The node at `index` comes into the world.
    pub(crate) fn start(&mut self, now: u64, index: Index) {
        self.live[index as usize] = true;
        self.started_at[index as usize] = now;
    }

    /// A node is gone.
    pub(crate) fn remove(&mut self, node: Index) {
        self.live[node as usize] = false;
        let row = self.row(node);
        self.parents[row.clone()].fill(NOBODY);
        self.staying[row.clone()].fill(0);
        self.leaving[row].fill(0);
    }

    pub(crate) fn set_parent(&mut self, node: Index, stripe: u8, parent: Option<Index>) {
        let cell = self.cell(node, usize::from(stripe));
        self.parents[cell] = parent.unwrap_or(NOBODY);
    }

    pub(crate) fn set_children(&mut self, node: Index, stripe: u8, staying: u32, leaving: u32) {
        let cell = self.cell(node, usize::from(stripe));
        self.staying[cell] = u16::try_from(staying).unwrap_or(u16::MAX);
        self.leaving[cell] = u16::try_from(leaving).unwrap_or(u16::MAX);
    }

    pub(crate) fn set_wants(&mut self, node: Index, stripes: u64, roles: u64) {
        self.wants[node as usize] = stripes;
        self.roles[node as usize] = roles;
        self.has_roles |= roles != 0;
    }

    /// K.
    #[must_use]
    pub const fn stripes(&self) -> usize {
        self.stripes
    }

    /// Nodes that ever were.
    #[must_use]
    pub fn len(&self) -> Index {
        Index::try_from(self.live.len()).expect("fewer than 2^32 nodes")
    }

    /// Whether there has been no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Whether `node` is in the world.
    #[must_use]
    pub fn is_live(&self, node: Index) -> bool {
        self.live.get(node as usize).copied().unwrap_or(false)
    }

    /// The live nodes but the source.
    pub fn viewers(&self) -> impl Iterator<Item = Index> + '_ {
        (1..self.len()).filter(|node| self.live[*node as usize])
    }

    /// The parent of `node` in a stripe, or [`NOBODY`].
    #[must_use]
    pub fn parent(&self, node: Index, stripe: usize) -> Index {
        self.parents[self.cell(node, stripe)]
    }

    /// Children that are to stay.
    #[must_use]
    pub fn staying(&self, node: Index, stripe: usize) -> u32 {
        u32::from(self.staying[self.cell(node, stripe)])
    }

    /// Children that are to stay, over all stripes.
    #[must_use]
    pub fn children(&self, node: Index) -> u32 {
        self.staying[self.row(node)].iter().copied().map(u32::from).sum()
    }

    /// Children that are only served until they have found another parent, over all stripes.
    #[must_use]
    pub fn leaving(&self, node: Index) -> u32 {
        self.leaving[self.row(node)].iter().copied().map(u32::from).sum()
    }

    /// In how many trees `node` has children that are to stay.
    #[must_use]
    pub fn interior(&self, node: Index) -> u32 {
        self.staying[self.row(node)].iter().map(|count| u32::from(*count > 0)).sum()
    }

    /// Whether `node` wants a stripe.
    #[must_use]
    pub fn wants(&self, node: Index, stripe: usize) -> bool {
        self.wants[node as usize] >> stripe & 1 == 1
    }

    /// How many stripes `node` wants.
    #[must_use]
    pub fn wanted(&self, node: Index) -> u32 {
        self.wants[node as usize].count_ones()
    }

    /// Whether a stripe is a primary one of `node`.
    #[must_use]
    pub fn is_native(&self, node: Index, stripe: usize) -> bool {
        self.roles[node as usize] >> stripe & 1 == 1
    }

    /// Whether the overlay tells of primary stripes at all.
    #[must_use]
    pub const fn has_roles(&self) -> bool {
        self.has_roles
    }

    /// Children `node` may have.
    #[must_use]
    pub fn capacity(&self, node: Index) -> u32 {
        self.capacities[node as usize]
    }

    /// When `node` came into the world, in microseconds.
    #[must_use]
    pub fn started_at(&self, node: Index) -> u64 {
        self.started_at[node as usize]
    }

    /// Whether the way up from `node` comes back to it. At most as many steps as there are nodes.
    #[must_use]
    pub fn is_in_loop(&self, node: Index, stripe: usize) -> bool {
        let mut at = self.parent(node, stripe);
        for _ in 0..self.len() {
            if at == node {
                return true;
            }
            if at == NOBODY || at == SOURCE {
                return false;
            }
            at = self.parent(at, stripe);
        }
        // It ends in a loop that `node` is not part of; whoever closed that was told so.
        false
    }

    fn row(&self, node: Index) -> std::ops::Range<usize> {
        let start = node as usize * self.stripes;
        start..start + self.stripes
    }

    const fn cell(&self, node: Index, stripe: usize) -> usize {
        node as usize * self.stripes + stripe
    }
}

/// A forest of `parents` (node, stripe, parent) for tests; every node wants everything.
#[cfg(test)]
pub(crate) fn planted(nodes: u32, stripes: usize, parents: &[(Index, u8, Index)]) -> Forest {
    let mut forest = Forest::new(stripes);
    for node in 0..nodes {
        forest.add(16, (1 << stripes) - 1);
        forest.start(0, node);
    }
    for (node, stripe, parent) in parents {
        forest.set_parent(*node, *stripe, Some(*parent));
        let staying = forest.staying(*parent, usize::from(*stripe)) + 1;
        forest.set_children(*parent, *stripe, staying, 0);
    }
    forest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_found_from_each_of_its_nodes() {
        let mut forest = planted(5, 2, &[(1, 0, 0), (2, 0, 1), (3, 0, 2), (4, 0, 3)]);
        assert!((1..5).all(|node| !forest.is_in_loop(node, 0)));
        forest.set_parent(2, 0, Some(3));
        let found: Vec<Index> = (1..5).filter(|node| forest.is_in_loop(*node, 0)).collect();
        assert_eq!(found, [2, 3]);
    }

    #[test]
    fn the_dead_have_neither_parents_nor_children() {
        let mut forest = planted(3, 1, &[(1, 0, 0), (2, 0, 1)]);
        forest.remove(1);
        assert_eq!((forest.parent(1, 0), forest.children(1)), (NOBODY, 0));
        assert_eq!(forest.parent(2, 0), 1, "the child has not heard of it");
        assert_eq!(forest.viewers().collect::<Vec<_>>(), [2]);
    }
}
