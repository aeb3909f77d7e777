//! One look at the forest: who has which stripe all the way from the source, and how deep.
//!
//! Each node is visited once for each stripe: ways up are remembered, so that a look costs the
//! number of edges.

use crate::forest::{Forest, NOBODY, SOURCE};
use crate::node::Index;

/// Depth of a node whose way up was not followed yet.
const UNKNOWN: u16 = u16::MAX;
/// Depth of a node whose way up does not end at the source.
const ADRIFT: u16 = u16::MAX - 1;
/// Depth of a node on the way that is being followed: to meet it again is to be in a loop.
const VISITED: u16 = u16::MAX - 2;

/// What was seen in the last look. Only live viewers count.
#[derive(Debug, Default)]
pub struct Survey {
    /// For each stripe and node the depth; `stripe * nodes + node`.
    depths: Vec<u16>,
    nodes: usize,
    way: Vec<Index>,
    /// Stripes rooted at each node.
    pub by_node: Vec<u8>,
    /// Viewers with all wanted stripes rooted.
    pub complete: u32,
    /// (Viewer, wanted stripe) pairs.
    pub wanted: u64,
    /// Those of them that are rooted.
    pub rooted: u64,
    /// Sum of their depths.
    pub depth_sum: u64,
    /// The largest of them.
    pub depth_max: u32,
}

impl Survey {
    /// Looks.
    pub fn look(&mut self, forest: &Forest) {
        self.nodes = forest.len() as usize;
        self.depths.clear();
        self.depths.resize(self.nodes * forest.stripes(), UNKNOWN);
        self.by_node.clear();
        self.by_node.resize(self.nodes, 0);
        (self.wanted, self.rooted, self.depth_sum, self.depth_max) = (0, 0, 0, 0);
        for stripe in 0..forest.stripes() {
            self.look_at(forest, stripe);
        }
        let is_complete =
            |node: &Index| u32::from(self.by_node[*node as usize]) == forest.wanted(*node);
        let complete = forest.viewers().filter(is_complete).count();
        self.complete = u32::try_from(complete).unwrap_or(u32::MAX);
    }

    fn look_at(&mut self, forest: &Forest, stripe: usize) {
        let row = stripe * self.nodes;
        self.depths[row] = 0;
        for node in forest.viewers() {
            let depth = self.follow(forest, stripe, node);
            if !forest.wants(node, stripe) {
                continue;
            }
            self.wanted += 1;
            if depth < VISITED {
                self.rooted += 1;
                self.by_node[node as usize] += 1;
                self.depth_sum += u64::from(depth);
                self.depth_max = self.depth_max.max(u32::from(depth));
            }
        }
    }

    /// The depth of `node`, or [`ADRIFT`].
    fn follow(&mut self, forest: &Forest, stripe: usize, node: Index) -> u16 {
        let row = stripe * self.nodes;
        let mut at = node;
        let mut depth = loop {
            let known = self.depths[row + at as usize];
            match known {
                UNKNOWN => {}
                VISITED => break ADRIFT,
                known => break known,
            }
            self.depths[row + at as usize] = VISITED;
            self.way.push(at);
            let parent = forest.parent(at, stripe);
            if parent == NOBODY || !forest.is_live(parent) {
                break ADRIFT;
            }
            at = parent;
        };
        while let Some(below) = self.way.pop() {
            if depth < VISITED {
                depth += 1;
            }
            self.depths[row + below as usize] = depth;
        }
        depth
    }

    /// Hops from the source to `node`, if the stripe is rooted there.
    #[must_use]
    pub fn depth(&self, node: Index, stripe: usize) -> Option<u32> {
        let depth = self.depths[stripe * self.nodes + node as usize];
        (depth < VISITED).then(|| u32::from(depth))
    }

    /// For each stripe: the viewers before `until` that lack it, and how many want it.
    #[must_use]
    pub fn lacking(&self, forest: &Forest, until: Index) -> Vec<(u64, u64)> {
        let count = |stripe: usize| {
            let viewers = forest.viewers().take_while(|node| *node < until);
            viewers.filter(|node| forest.wants(*node, stripe)).fold((0, 0), |(lack, all), node| {
                (lack + u64::from(self.depth(node, stripe).is_none()), all + 1)
            })
        };
        (0..forest.stripes()).map(count).collect()
    }

    /// The child of the source above `node`, if the stripe is rooted there.
    #[must_use]
    pub fn top(&self, forest: &Forest, node: Index, stripe: usize) -> Option<Index> {
        let mut at = node;
        for _ in 0..self.depth(node, stripe)? {
            let parent = forest.parent(at, stripe);
            if parent == SOURCE {
                return Some(at);
            }
            at = parent;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::planted;

    #[test]
    fn only_ways_that_end_at_the_source_count() {
        // 1 and 2 hang from the source; 3 and 4 from each other; 5 from nobody; 6 from the dead 7.
        let edges = [(1, 0, 0), (2, 0, 1), (3, 0, 4), (4, 0, 3), (6, 0, 7), (7, 0, 0)];
        let mut forest = planted(8, 1, &edges);
        forest.remove(7);
        let mut survey = Survey::default();
        survey.look(&forest);
        let depths: Vec<Option<u32>> = (1..7).map(|node| survey.depth(node, 0)).collect();
        assert_eq!(depths, [Some(1), Some(2), None, None, None, None]);
        assert_eq!((survey.complete, survey.wanted, survey.rooted), (2, 6, 2));
        assert_eq!(survey.lacking(&forest, 4), [(1, 3)]);
        assert_eq!((survey.top(&forest, 2, 0), survey.top(&forest, 6, 0)), (Some(1), None));
    }
}
