//! Scribe: trees made of the routes from the members to a group's root.
//!
//! ```text
//!   join(g)  ── next hop towards g ──▶  in the tree?  ─ no ─▶ becomes a forwarder, joins itself
//!                                            └─ either way it takes the child and stops the JOIN
//!   nobody is closer to g  ─▶  this node is the root
//! ```
//!
//! A tree is the union of the routes from the members to the group's key: reverse path forwarding.
//! A JOIN therefore travels one hop, whoever gets it being in the tree from then on.
//!
//! Here are the edges, the paths to the root and the root's change of hands. Whom to take, whom to
//! refuse and where an orphan goes is decided by the policies ([`super::paper`],
//! [`super::freepastry`]); keep-alives are in [`super::beat`].

use std::sync::Arc;
use std::time::Duration;

use banyan_core::Instant;

use crate::node::{Action, Index};

use super::key::{Dice, Key};
use super::links::{Cx, Links};
use super::message::{Group, Message};
use super::routing::Routing;
use super::tree::{Child, Quest, Tree};
use super::{Blueprint, Kind, SOURCE};

/// A node's part in all trees.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) plan: Arc<Blueprint>,
    pub(crate) me: Index,
    /// The stripe whose key begins as this node's does.
    pub(crate) own: Group,
    pub(crate) wants: u64,
    /// Most children over all stripes.
    pub(crate) capacity: u32,
    /// Children over all stripes.
    pub(crate) kids: u32,
    pub(crate) dice: Dice,
    pub(crate) links: Links,
    pub(crate) routing: Routing,
    /// One per stripe, then the spare capacity group.
    pub(crate) trees: Vec<Tree>,
    /// How long this node follows nobody who fell.
    pub(crate) lease: Duration,
    /// The earliest deadline there may be.
    pub(crate) wake: Instant,
    /// Groups whose edges have changed since the world was told.
    changed: u128,
}

impl Member {
    pub(crate) fn new(plan: &Arc<Blueprint>, me: Index, wants: u64, capacity: u32) -> Self {
        let config = &plan.config;
        let key = Key::of_node(plan.seed, me);
        let mut dice = Dice::new(plan.seed ^ u64::from(me).wrapping_mul(0xd6e8_feb8_6659_fd93));
        let lease = config.timings.lease;
        let lease = lease + lease * dice.millionths() / 1_000_000;
        let own = u8::try_from(key.digit(0, plan.bits)).expect("at most 64 stripes");
        Self {
            me,
            own,
            wants,
            capacity,
            kids: 0,
            dice,
            lease,
            links: Links::new(config.packet_bytes, config.lifetime),
            routing: Routing::new(plan.seed, plan.bits, config.shape, me),
            trees: vec![Tree::default(); plan.keys.len()],
            wake: NEVER,
            changed: 0,
            plan: Arc::clone(plan),
        }
    }

    pub(crate) fn tree(&self, group: Group) -> &Tree {
        &self.trees[usize::from(group)]
    }

    pub(crate) fn tree_mut(&mut self, group: Group) -> &mut Tree {
        &mut self.trees[usize::from(group)]
    }

    /// The spare capacity group's number.
    pub(crate) fn spare(&self) -> Group {
        self.plan.config.stripes
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = Group> + use<> {
        0..u8::try_from(self.trees.len()).expect("at most 65 groups")
    }

    pub(crate) fn stripes(&self) -> impl Iterator<Item = Group> + use<> {
        0..self.plan.config.stripes
    }

    /// The stripes whose trees fit, as a bit set.
    pub(crate) fn stripes_where(&self, fits: impl Fn(&Tree) -> bool) -> u64 {
        let fitting = self.stripes().filter(|&stripe| fits(self.tree(stripe)));
        fitting.fold(0, |set, stripe| set | 1 << stripe)
    }

    /// The children in a group.
    pub(crate) fn children(&self, group: Group) -> Vec<Index> {
        self.tree(group).children.iter().map(|child| child.index).collect()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.kids >= self.capacity
    }

    pub(crate) fn send(&mut self, cx: &mut Cx<'_>, to: Index, message: Message) {
        self.links.send(cx, to, message);
    }

    /// Its primary stripe, as a bit set.
    pub(crate) const fn role(&self) -> u64 {
        if self.me == SOURCE { 0 } else { 1 << self.own }
    }

    /// Asks to be woken at `at` or earlier.
    pub(crate) fn wake_by(&mut self, at: Instant) {
        self.wake = self.wake.min(at);
    }

    /// The next hop of a group's key.
    pub(crate) fn next_hop(&self, group: Group) -> Option<Index> {
        self.routing.next_hop(self.plan.keys[usize::from(group)])
    }

    /// Digits that a node shares with a group's key.
    pub(crate) fn prefix(&self, index: Index, group: Group) -> u32 {
        let key = self.plan.keys[usize::from(group)];
        Key::of_node(self.plan.seed, index).prefix(key, self.plan.bits)
    }

    /// The children that share at least a digit with the stripe, `but` one.
    pub(crate) fn native_children(&self, group: Group, but: Index) -> Vec<Index> {
        let children = self.tree(group).children.iter().map(|child| child.index);
        children.filter(|&child| child != but && self.prefix(child, group) > 0).collect()
    }

    /// Sets out for a parent along the route, or becomes the root where nobody is closer.
    pub(crate) fn join(&mut self, cx: &mut Cx<'_>, group: Group) {
        match self.next_hop(group) {
            Some(hop) => self.ask(cx, group, hop),
            None => self.become_root(cx, group),
        }
    }

    /// Asks one node to be the parent.
    pub(crate) fn ask(&mut self, cx: &mut Cx<'_>, group: Group, candidate: Index) {
        let until = cx.now + self.plan.config.timings.join;
        self.tree_mut(group).quest = Quest::Joining { candidate, until };
        self.wake_by(until);
        self.send(cx, candidate, Message::Join { group });
    }

    /// Takes the root's place. A parent it had is left: what is above it would be below it.
    pub(crate) fn become_root(&mut self, cx: &mut Cx<'_>, group: Group) {
        if self.tree(group).is_root {
            return;
        }
        self.leave_parent(cx, group);
        let tree = self.tree_mut(group);
        tree.is_root = true;
        tree.quest = Quest::Idle;
        self.changed |= 1 << group;
        self.set_path(cx, group, Vec::new());
    }

    /// Gives the root's place up. The source hears of it when it sends the next packet here.
    pub(crate) fn resign(&mut self, group: Group) {
        let tree = self.tree_mut(group);
        (tree.is_root, tree.is_fed) = (false, false);
        self.changed |= 1 << group;
    }

    /// Has a parent from now on. It had none.
    pub(crate) fn attach(
        &mut self,
        cx: &mut Cx<'_>,
        group: Group,
        parent: Index,
        path: Vec<Index>,
    ) {
        self.links.hold(cx, parent);
        let now = cx.now;
        let tree = self.tree_mut(group);
        tree.parent = Some(parent);
        tree.quest = Quest::Idle;
        tree.heard = now;
        (tree.is_root, tree.is_fed) = (false, false);
        self.changed |= 1 << group;
        self.wake_by(now + self.plan.config.timings.silence);
        self.set_path(cx, group, path);
    }

    /// Has no parent any more, who knows of it already.
    pub(crate) fn detach(&mut self, cx: &mut Cx<'_>, group: Group) {
        if let Some(parent) = self.tree_mut(group).parent.take() {
            self.links.release(cx, parent);
            self.changed |= 1 << group;
        }
    }

    /// Has no parent any more and says so.
    pub(crate) fn leave_parent(&mut self, cx: &mut Cx<'_>, group: Group) {
        if let Some(parent) = self.tree(group).parent {
            self.send(cx, parent, Message::Leave { group });
            self.detach(cx, group);
        }
    }

    /// Has a child from now on; it is not told yet.
    pub(crate) fn adopt(&mut self, cx: &mut Cx<'_>, group: Group, child: Index) {
        let heard = cx.now;
        if let Some(known) = self.tree_mut(group).children.iter_mut().find(|c| c.index == child) {
            known.heard = heard;
            return;
        }
        self.links.hold(cx, child);
        self.tree_mut(group).children.push(Child { index: child, heard });
        self.changed |= 1 << group;
        if group != self.spare() {
            self.kids += 1;
        }
    }

    /// Has this child no longer; it is not told. Returns whether it was one.
    pub(crate) fn drop_child(&mut self, cx: &mut Cx<'_>, group: Group, child: Index) -> bool {
        let children = &mut self.tree_mut(group).children;
        let Some(at) = children.iter().position(|known| known.index == child) else {
            return false;
        };
        children.swap_remove(at);
        self.links.release(cx, child);
        self.changed |= 1 << group;
        if group != self.spare() {
            self.kids -= 1;
        }
        true
    }

    /// Tells a child that it is one.
    pub(crate) fn accept(&mut self, cx: &mut Cx<'_>, group: Group, child: Index) {
        let path = self.path_to_tell(group, child);
        self.send(cx, child, Message::Accept { group, path });
    }

    /// What this child is to know of its ancestors.
    pub(crate) fn path_to_tell(&self, group: Group, child: Index) -> Vec<Index> {
        self.path_for(group, child, &self.tree(group).path)
    }

    /// Leaves the tree where nobody here needs it; the parent then does the same.
    pub(crate) fn prune(&mut self, cx: &mut Cx<'_>, group: Group) {
        if !self.tree(group).is_needed() {
            self.leave_parent(cx, group);
            let tree = self.tree_mut(group);
            tree.quest = Quest::Idle;
            tree.path = Vec::new();
        }
    }

    /// Takes note of the ancestors and tells the children what this changes for them.
    pub(crate) fn set_path(&mut self, cx: &mut Cx<'_>, group: Group, path: Vec<Index>) {
        let old = std::mem::replace(&mut self.tree_mut(group).path, path);
        for at in 0..self.tree(group).children.len() {
            let child = self.tree(group).children[at].index;
            let path = self.path_for(group, child, &self.tree(group).path);
            if path != self.path_for(group, child, &old) {
                self.send(cx, child, Message::Path { group, path });
            }
        }
    }

    /// What a child is to know of its ancestors where `path` is what this node knows of its own.
    ///
    /// A cycle needs an edge whose parent does not share a longer prefix with the stripe than the
    /// child does (SOSP'03): the paper's kind keeps the ancestors up to the highest such edge and
    /// none above. FreePastry keeps them all.
    fn path_for(&self, group: Group, child: Index, path: &[Index]) -> Vec<Index> {
        let is_kept = match self.plan.config.kind {
            Kind::Paper => {
                let ours = self.prefix(self.me, group);
                group != self.spare() && (!path.is_empty() || ours <= self.prefix(child, group))
            }
            Kind::Freepastry => true,
        };
        if is_kept {
            std::iter::once(self.me).chain(path.iter().copied()).collect()
        } else {
            Vec::new()
        }
    }

    /// Whether this node may be below `other` in a tree. Above the highest ancestor kept, prefixes
    /// grow with every hop: who is there shares more than that ancestor.
    pub(crate) fn may_be_below(&self, group: Group, other: Index) -> bool {
        let tree = self.tree(group);
        let top = tree.path.last().copied().unwrap_or(self.me);
        tree.parent == Some(other)
            || tree.path.contains(&other)
            || (self.plan.config.kind == Kind::Paper
                && !tree.is_root
                && self.prefix(other, group) > self.prefix(top, group))
    }

    /// Forgets a peer that is gone. Returns the groups in which it was the parent.
    pub(crate) fn lose(&mut self, cx: &mut Cx<'_>, peer: Index) -> Vec<Group> {
        let mut orphaned = Vec::new();
        if !self.links.is_held(peer) && peer != SOURCE {
            return orphaned;
        }
        for group in self.groups() {
            if peer == SOURCE && self.tree(group).is_fed {
                self.tree_mut(group).is_fed = false;
                self.changed |= 1 << group;
            }
            if self.tree(group).parent == Some(peer) {
                self.detach(cx, group);
                orphaned.push(group);
            }
            if self.drop_child(cx, group, peer) {
                self.prune(cx, group);
            }
        }
        orphaned
    }

    /// Notes that the source has found this root.
    pub(crate) fn be_fed(&mut self, group: Group, is_fed: bool) {
        self.tree_mut(group).is_fed = is_fed;
        self.changed |= 1 << group;
    }

    /// The roots this node holds and should not: somebody is closer to the key.
    pub(crate) fn usurped(&self) -> Vec<Group> {
        let roots = self.groups().filter(|&group| self.tree(group).is_root);
        roots.filter(|&group| self.next_hop(group).is_some()).collect()
    }

    /// Tells the world which edges have changed.
    pub(crate) fn report(&mut self, cx: &mut Cx<'_>) {
        let changed = std::mem::take(&mut self.changed);
        if changed == 0 {
            return;
        }
        for stripe in self.stripes().filter(|stripe| changed >> stripe & 1 == 1) {
            let tree = self.tree_mut(stripe);
            let parent = if tree.is_root && tree.is_fed { Some(SOURCE) } else { tree.parent };
            let staying = u32::try_from(tree.children.len()).expect("bounded by the audience");
            let told = std::mem::replace(&mut tree.told, (parent, staying));
            if told.0 != parent {
                cx.actions.push(Action::Parent { stripe, parent });
            }
            if told.1 != staying {
                cx.actions.push(Action::Children { stripe, staying, leaving: 0 });
            }
        }
    }

    /// A duration between once and twice `base`.
    pub(crate) fn spread(&mut self, base: Duration) -> Duration {
        base + base * self.dice.millionths() / 1_000_000
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let counted: usize = self.stripes().map(|stripe| self.tree(stripe).children.len()).sum();
        let edges: usize =
            self.trees.iter().map(|t| t.children.len() + usize::from(t.parent.is_some())).sum();
        if u32::try_from(counted) != Ok(self.kids) {
            return Err(format!("{counted} children counted as {}", self.kids));
        }
        if self.kids > self.capacity {
            return Err(format!("{} children for a capacity of {}", self.kids, self.capacity));
        }
        let roots_fed = usize::try_from(self.links.uses()).unwrap_or(usize::MAX);
        if self.me != SOURCE && roots_fed != edges {
            return Err(format!("{edges} edges over connections held for {roots_fed}"));
        }
        for (group, tree) in self.trees.iter().enumerate() {
            if tree.is_root && tree.parent.is_some() {
                return Err(format!("the root of {group} has a parent"));
            }
            if tree.is_attached() && tree.quest != Quest::Idle {
                return Err(format!("attached in {group} and looking: {:?}", tree.quest));
            }
            if tree.parent.is_some_and(|parent| tree.has_child(parent)) {
                return Err(format!("its parent is its child in {group}"));
            }
        }
        Ok(())
    }
}

/// Later than anything.
pub(crate) const NEVER: Instant = Instant::from_micros(u64::MAX);
