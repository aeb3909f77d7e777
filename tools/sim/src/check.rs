//! Checkers: what must hold after every step, and what is done where it does not.
//!
//! Safety is checked where it may have changed: on the edges a step touched, so that a check costs
//! the depth of a tree, not the size of the world. Liveness is looked at when the forest is sampled
//! ([`crate::measure`]). What a node checks of itself is its own ([`crate::node::Node::check`]).

use std::collections::VecDeque;

use crate::forest::{Forest, SOURCE};
use crate::node::Index;
use crate::result::CheckResult;
use crate::scenario::{Check as Settings, Mode};

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A node's own invariants.
    Node,
    /// No tree has a loop.
    Acyclic,
    /// Staying children are at most the capacity.
    Capacity,
    /// A viewer is interior in at most its share of trees.
    Disjoint,
    /// Time goes on: no node wakes again and again in one instant.
    Queues,
    /// Orphans find a parent in time.
    Liveness,
}

const RULES: [(Rule, &str); 6] = [
    (Rule::Node, "node"),
    (Rule::Acyclic, "acyclic"),
    (Rule::Capacity, "capacity"),
    (Rule::Disjoint, "disjoint"),
    (Rule::Queues, "queues"),
    (Rule::Liveness, "liveness"),
];

/// A breach that ends the run.
#[derive(Clone, Debug)]
pub struct Breach {
    /// When, in microseconds.
    pub at: u64,
    /// At which node.
    pub node: Index,
    /// Which rule, and how it is broken.
    pub what: String,
}

/// All checkers.
#[derive(Debug)]
pub struct Checks {
    modes: [Mode; 6],
    counts: [u64; 6],
    firsts: [Option<String>; 6],
    loop_grace: u64,
    /// Loops that were seen: when they become breaches, at which node, in which stripe.
    loops: VecDeque<(u64, Index, u8)>,
    max_interior: Option<u32>,
    grace: u64,
    /// How many viewers there were: (when, how many), fewest last within `grace`.
    fewest: VecDeque<(u64, u32)>,
    breach: Option<Breach>,
}

impl Checks {
    /// Checkers as a scenario wants them.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let Settings { node, acyclic, capacity, disjoint, queues, liveness, .. } = *settings;
        Self {
            modes: [node, acyclic, capacity, disjoint, queues, liveness],
            counts: [0; 6],
            firsts: [const { None }; 6],
            loop_grace: settings.loop_grace.micros(),
            loops: VecDeque::new(),
            max_interior: settings.max_interior,
            grace: settings.grace.micros(),
            fewest: VecDeque::new(),
            breach: None,
        }
    }

    /// Whether anybody looks at `rule`.
    #[must_use]
    pub const fn is_on(&self, rule: Rule) -> bool {
        !matches!(self.modes[rule as usize], Mode::Off)
    }

    /// A rule is broken.
    pub(crate) fn breach(
        &mut self,
        rule: Rule,
        at: u64,
        node: Index,
        what: impl FnOnce() -> String,
    ) {
        let place = rule as usize;
        let mode = self.modes[place];
        if mode == Mode::Off {
            return;
        }
        self.counts[place] += 1;
        if self.firsts[place].is_none() {
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let seconds = at as f64 / 1e6;
            let text = format!("{seconds:.6} s, node {node}: {}", what());
            if mode == Mode::Fail && self.breach.is_none() {
                let what = format!("{}: {text}", RULES[place].1);
                self.breach = Some(Breach { at, node, what });
            }
            self.firsts[place] = Some(text);
        }
    }

    /// The breach that ends the run, if there was one.
    #[must_use]
    pub const fn fatal(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    /// The audience is now this large.
    pub(crate) fn set_viewers(&mut self, now: u64, viewers: u32) {
        while self.fewest.back().is_some_and(|(_, before)| *before >= viewers) {
            self.fewest.pop_back();
        }
        self.fewest.push_back((now, viewers));
        self.forget(now);
    }

    fn forget(&mut self, now: u64) {
        // An audience counts until `grace` after it has changed to the next.
        while self.fewest.get(1).is_some_and(|(changed, _)| changed + self.grace < now) {
            self.fewest.pop_front();
        }
    }

    /// In how many trees a viewer may be interior.
    fn share(&mut self, now: u64, stripes: usize) -> u32 {
        if let Some(share) = self.max_interior {
            return share;
        }
        self.forget(now);
        let viewers = self.fewest.front().map_or(1, |(_, viewers)| (*viewers).max(1));
        u32::try_from(stripes).unwrap_or(u32::MAX).div_ceil(viewers)
    }

    /// A node's parent in a stripe has changed.
    pub(crate) fn edge(&mut self, now: u64, forest: &Forest, node: Index, stripe: u8) {
        if self.is_on(Rule::Acyclic) && forest.is_in_loop(node, usize::from(stripe)) {
            self.loops.push_back((now + self.loop_grace, node, stripe));
            self.look_at_loops(now, forest);
        }
    }

    /// Loops that outlast their grace are breaches.
    pub(crate) fn look_at_loops(&mut self, now: u64, forest: &Forest) {
        while let Some((due, node, stripe)) = self.loops.front().copied() {
            if due > now {
                break;
            }
            self.loops.pop_front();
            if forest.is_in_loop(node, usize::from(stripe)) {
                self.breach(Rule::Acyclic, now, node, || format!("stripe {stripe} has a loop"));
            }
        }
    }

    /// A node's children have changed.
    pub(crate) fn children(&mut self, now: u64, forest: &Forest, node: Index) {
        let (children, capacity) = (forest.children(node), forest.capacity(node));
        if children > capacity {
            self.breach(Rule::Capacity, now, node, || {
                format!("{children} children where {capacity} may stay")
            });
        }
        if node == SOURCE || !self.is_on(Rule::Disjoint) {
            return;
        }
        let interior = forest.interior(node);
        if interior > 1 {
            let share = self.share(now, forest.stripes());
            if interior > share {
                self.breach(Rule::Disjoint, now, node, || {
                    format!("interior in {interior} trees where {share} are its share")
                });
            }
        }
    }

    /// What was found.
    #[must_use]
    pub fn results(&self) -> Vec<CheckResult> {
        let found = |(rule, name): (Rule, &str)| CheckResult {
            name: name.to_owned(),
            mode: self.modes[rule as usize].name().to_owned(),
            breaches: self.counts[rule as usize],
            first: self.firsts[rule as usize].clone(),
        };
        RULES.into_iter().map(found).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forest::planted;
    use crate::scenario::Span;

    #[test]
    fn a_loop_ends_the_run() {
        let mut checks = Checks::new(&Settings::default());
        let forest = planted(3, 1, &[(1, 0, 2), (2, 0, 1)]);
        checks.edge(7, &forest, 1, 0);
        let breach = checks.fatal().expect("a loop");
        assert_eq!((breach.at, breach.node), (7, 1));
        assert!(breach.what.starts_with("acyclic"));
    }

    #[test]
    fn a_loop_that_does_not_outlast_its_grace_is_none() {
        let settings = Settings { loop_grace: Span::seconds(1), ..Settings::default() };
        let mut checks = Checks::new(&settings);
        let mut forest = planted(3, 1, &[(1, 0, 2), (2, 0, 1)]);
        checks.edge(0, &forest, 1, 0);
        checks.look_at_loops(999_999, &forest);
        assert!(checks.fatal().is_none());
        forest.set_parent(2, 0, None);
        checks.look_at_loops(1_000_000, &forest);
        assert!(checks.fatal().is_none());
        forest.set_parent(2, 0, Some(1));
        checks.edge(2_000_000, &forest, 2, 0);
        checks.look_at_loops(3_000_000, &forest);
        assert!(checks.fatal().is_some());
    }

    #[test]
    fn counted_breaches_do_not_end_the_run() {
        let mut checks = Checks::new(&Settings { disjoint: Mode::Count, ..Settings::default() });
        let forest = planted(4, 2, &[(2, 0, 1), (3, 1, 1)]);
        checks.set_viewers(0, 3);
        checks.children(0, &forest, 1);
        checks.children(0, &forest, 1);
        assert!(checks.fatal().is_none());
        assert_eq!(checks.results()[3].breaches, 2);
    }

    #[test]
    fn a_share_outlasts_the_small_audience_it_came_from_by_the_grace() {
        let settings = Settings { grace: Span::seconds(30), ..Settings::default() };
        let mut checks = Checks::new(&settings);
        checks.set_viewers(0, 4);
        assert_eq!(checks.share(1_000_000, 16), 4);
        checks.set_viewers(2_000_000, 100);
        assert_eq!(checks.share(3_000_000, 16), 4);
        assert_eq!(checks.share(32_000_001, 16), 1);
        checks.set_viewers(33_000_000, 8);
        assert_eq!(checks.share(99_000_000, 16), 2);
    }
}
