//! One node's place in one group: a parent, children, and how it looks for a parent.
//!
//! Plain state. What leads from one to the next is Scribe's ([`super::scribe`]) and the policies'.

use banyan_core::Instant;

use crate::node::Index;

/// A node's state in one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// It wants the group for itself; otherwise it is there for its children's sake.
    pub(crate) is_member: bool,
    /// It is the rendezvous: no parent, fed by the source.
    pub(crate) is_root: bool,
    /// The source has found this root.
    pub(crate) is_fed: bool,
    pub(crate) parent: Option<Index>,
    /// Ancestors from the parent upwards, as far as the kind of baseline keeps them.
    pub(crate) path: Vec<Index>,
    pub(crate) children: Vec<Child>,
    pub(crate) quest: Quest,
    /// When the parent was last heard of.
    pub(crate) heard: Instant,
    /// When something was last sent down to all children.
    pub(crate) spread: Instant,
    pub(crate) arrivals: Arrivals,
    /// What the world was last told.
    pub(crate) told: (Option<Index>, u32),
}

/// A child and when it was last heard of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Child {
    pub(crate) index: Index,
    pub(crate) heard: Instant,
}

/// How a node without a parent looks for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Quest {
    /// It does not: it has a parent, is the root or wants none.
    #[default]
    Idle,
    /// It has asked this node.
    Joining { candidate: Index, until: Instant },
    /// It waits for the spare capacity group.
    Seeking,
    /// It searches the stripe's tree for a leaf that makes room.
    Placing { until: Instant },
    /// FreePastry: a subscription is on its way, the so-many-th.
    Subscribing { until: Instant, tries: u8 },
    /// All failed; it tries anew at this instant.
    Waiting { until: Instant },
}

impl Quest {
    /// Whether this node's answer is awaited.
    pub(crate) fn is_asking(self, peer: Index) -> bool {
        matches!(self, Self::Joining { candidate, .. } if candidate == peer)
    }
}

impl Tree {
    /// Whether the node is part of the tree, attached or not.
    pub(crate) fn is_in(&self) -> bool {
        self.is_needed() || self.is_root || self.parent.is_some()
    }

    /// Whether anybody here wants what the tree carries.
    pub(crate) fn is_needed(&self) -> bool {
        self.is_member || !self.children.is_empty()
    }

    /// Whether it has a parent or needs none.
    pub(crate) const fn is_attached(&self) -> bool {
        self.is_root || self.parent.is_some()
    }

    pub(crate) fn has_child(&self, index: Index) -> bool {
        self.children.iter().any(|child| child.index == index)
    }

    /// When the quest has to be looked after, if ever.
    pub(crate) const fn due(&self) -> Option<Instant> {
        match self.quest {
            Quest::Idle | Quest::Seeking => None,
            Quest::Joining { until, .. }
            | Quest::Placing { until }
            | Quest::Subscribing { until, .. }
            | Quest::Waiting { until } => Some(until),
        }
    }
}

/// Which packets came already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrivals {
    /// One above the highest number seen.
    next: u64,
    /// Bit n stands for `next - 1 - n`.
    recent: u64,
}

impl Arrivals {
    /// Notes a packet; returns whether it is new. What is more than 64 packets late counts as old.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        if number >= self.next {
            let ahead = number - self.next + 1;
            self.recent =
                u32::try_from(ahead).map_or(0, |by| self.recent.checked_shl(by).unwrap_or(0));
            self.recent |= 1;
            self.next = number + 1;
            return true;
        }
        let behind = self.next - 1 - number;
        let is_new = behind < 64 && self.recent >> behind & 1 == 0;
        if is_new {
            self.recent |= 1 << behind;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_new_once() {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.insert(5));
        assert!(!arrivals.insert(5));
        assert!(arrivals.insert(3));
        assert!(!arrivals.insert(3));
        assert!(arrivals.insert(200));
        assert!(!arrivals.insert(5));
        assert!(arrivals.insert(199));
    }
}
