//! Depth-first search through a tree, as Scribe's anycast does it.
//!
//! Children come before the node itself: a node is asked what it can do only when all its children
//! have been met, then its parent is. The lists of those met and those to be met travel with the
//! message; because a parent enters all its children at once, one child that fails hands over to
//! the next without going back (SOSP'03, 4.4).

use crate::node::Index;

use super::message::Search;

impl Search {
    /// A search of `orphan` for these stripes that has met nobody.
    pub(crate) const fn new(orphan: Index, stripes: u64, childless: u64) -> Self {
        Self { orphan, stripes, childless, visited: Vec::new(), to_visit: Vec::new() }
    }

    /// The lowest stripe looked for; the only one, where trees of stripes are searched.
    pub(crate) fn stripe(&self) -> u8 {
        u8::try_from(self.stripes.trailing_zeros()).expect("at most 64")
    }

    /// Meets a node. Returns whether its children are done with, so that it is its own turn.
    pub(crate) fn enter(&mut self, node: Index, mut children: Vec<Index>) -> bool {
        if self.visited.contains(&node) {
            return true;
        }
        self.visited.push(node);
        children.retain(|child| *child != self.orphan && !self.visited.contains(child));
        if children.is_empty() {
            return true;
        }
        self.to_visit.push(node);
        self.to_visit.extend(children);
        false
    }

    /// Who is next, given the parent of the node where the search is.
    pub(crate) fn next(&mut self, parent: Option<Index>) -> Option<Index> {
        let met = |node: &Index| self.visited.contains(node) || self.visited.len() >= MAX_VISITED;
        self.to_visit.pop().or_else(|| parent.filter(|parent| !met(parent)))
    }
}

/// A search that has met so many is given up. A guess: a hundred times what a search needs.
const MAX_VISITED: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_come_before_their_parent() {
        let mut search = Search::new(9, 1, 0);
        assert!(!search.enter(1, vec![2, 3, 9]));
        assert_eq!(search.next(Some(7)), Some(3));
        assert!(search.enter(3, vec![]));
        // A sibling is next, not the parent: it handed its list over.
        assert_eq!(search.next(Some(1)), Some(2));
        assert!(search.enter(2, vec![]));
        assert_eq!(search.next(Some(1)), Some(1));
        assert!(search.enter(1, vec![2, 3]));
        assert_eq!(search.next(Some(7)), Some(7));
    }

    #[test]
    fn a_search_ends_at_the_root() {
        let mut search = Search::new(9, 1, 0);
        assert!(search.enter(1, vec![]));
        assert_eq!(search.next(None), None);
    }
}
