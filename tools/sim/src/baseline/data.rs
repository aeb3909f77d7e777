//! The way of a packet: from the source to the stripe's root, from there down the tree.
//!
//! In Scribe a publisher routes to the root and may cache its address. The source looks for the
//! roots when it starts and again now and then; a packet for a stripe whose root it does not know,
//! or that meets one that is none any more, is routed. The new root answers, and the cache is right
//! again.

use banyan_core::Instant;

use crate::node::{Action, Index};

use super::SOURCE;
use super::links::Cx;
use super::message::{Group, Message};
use super::scribe::Member;

/// What the source knows of the roots.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    roots: Vec<Option<Index>>,
    /// When each is looked for next.
    locate_at: Vec<Instant>,
}

impl Feed {
    pub(crate) fn new(stripes: u8) -> Self {
        let stripes = usize::from(stripes);
        Self { roots: vec![None; stripes], locate_at: vec![Instant::ZERO; stripes] }
    }

    /// Looks for the roots that are due.
    pub(crate) fn locate(&mut self, member: &mut Member, cx: &mut Cx<'_>) {
        let timings = member.plan.config.timings;
        for (stripe, (root, at)) in member.stripes().zip(self.roots.iter().zip(&mut self.locate_at))
        {
            if *at <= cx.now {
                *at = cx.now + if root.is_some() { timings.relocate } else { timings.retry };
                if let Some(hop) = member.next_hop(stripe) {
                    member.send(cx, hop, Message::Locate { stripe, hops: 1 });
                }
            }
            member.wake_by(*at);
        }
    }

    /// Handles a root that made itself known. The one before is told that it is fed no longer.
    pub(crate) fn on_root(
        &mut self,
        member: &mut Member,
        cx: &mut Cx<'_>,
        from: Index,
        stripe: Group,
    ) {
        let known = &mut self.roots[usize::from(stripe)];
        if *known == Some(from) {
            return;
        }
        let before = known.replace(from);
        self.locate_at[usize::from(stripe)] = cx.now + member.plan.config.timings.relocate;
        member.links.hold(cx, from);
        if let Some(before) = before {
            member.send(cx, before, Message::Leave { group: stripe });
            member.links.release(cx, before);
        } else {
            cx.actions.push(Action::Children { stripe, staying: 1, leaving: 0 });
        }
    }

    /// Forgets a root that is gone and looks for the next one at once.
    pub(crate) fn on_gone(&mut self, member: &mut Member, cx: &mut Cx<'_>, peer: Index) {
        for (stripe, root) in member.stripes().zip(&mut self.roots) {
            if *root == Some(peer) {
                *root = None;
                self.locate_at[usize::from(stripe)] = cx.now;
                member.links.release(cx, peer);
                cx.actions.push(Action::Children { stripe, staying: 0, leaving: 0 });
            }
        }
        self.locate(member, cx);
    }

    /// Sends one packet per stripe on its way.
    pub(crate) fn publish(&self, member: &mut Member, cx: &mut Cx<'_>, number: u64) {
        for (stripe, root) in member.stripes().zip(&self.roots) {
            let (to, hops) = match root {
                Some(root) => (Some(*root), 0),
                None => (member.next_hop(stripe), 1),
            };
            if let Some(to) = to {
                member.send(cx, to, Message::Inject { stripe, number, hops });
            }
        }
    }
}

impl Member {
    /// Handles the source's search for a root: it passes on or, the root, makes itself known.
    pub(crate) fn on_locate(&mut self, cx: &mut Cx<'_>, stripe: Group, hops: u8) {
        if self.passes_on(cx, stripe, hops) {
            if let Some(hop) = self.next_hop(stripe) {
                self.send(cx, hop, Message::Locate { stripe, hops: hops + 1 });
            }
        } else if self.tree(stripe).is_root {
            self.be_fed(stripe, true);
            self.send(cx, SOURCE, Message::Root { stripe });
        }
    }

    /// Handles a packet on its way to the root.
    pub(crate) fn on_inject(&mut self, cx: &mut Cx<'_>, stripe: Group, number: u64, hops: u8) {
        if self.passes_on(cx, stripe, hops) {
            if let Some(hop) = self.next_hop(stripe) {
                self.send(cx, hop, Message::Inject { stripe, number, hops: hops + 1 });
            }
        } else if self.tree(stripe).is_root {
            if hops > 0 {
                self.send(cx, SOURCE, Message::Root { stripe });
            }
            if !self.tree(stripe).is_fed {
                self.be_fed(stripe, true);
            }
            self.spread_packet(cx, stripe, number);
        }
    }

    /// Whether the root is elsewhere. Where it is here, this node takes its place, if the lease of
    /// whoever had it is out.
    fn passes_on(&mut self, cx: &mut Cx<'_>, stripe: Group, hops: u8) -> bool {
        if self.tree(stripe).is_root {
            return false;
        }
        if self.next_hop(stripe).is_some() {
            return hops < MAX_HOPS;
        }
        if !self.is_leased(cx, stripe) {
            self.become_root(cx, stripe);
        }
        false
    }

    /// Whether a group's key still belongs to one who fell.
    pub(crate) fn is_leased(&self, cx: &Cx<'_>, group: Group) -> bool {
        let key = self.plan.keys[usize::from(group)];
        self.routing.is_leased(cx.now, key, self.lease)
    }

    /// Handles a packet from another node of the tree. Who is not the parent is told so.
    pub(crate) fn on_data(&mut self, cx: &mut Cx<'_>, from: Index, stripe: Group, number: u64) {
        let now = cx.now;
        let tree = self.tree_mut(stripe);
        if tree.parent == Some(from) {
            tree.heard = now;
        } else if !tree.quest.is_asking(from) {
            self.send(cx, from, Message::Leave { group: stripe });
        }
        self.spread_packet(cx, stripe, number);
    }

    /// Takes a packet, if it is new, and hands it to the children.
    fn spread_packet(&mut self, cx: &mut Cx<'_>, stripe: Group, number: u64) {
        let tree = &mut self.trees[usize::from(stripe)];
        if !tree.arrivals.insert(number) {
            return;
        }
        tree.spread = cx.now;
        cx.actions.push(Action::Arrived { stripe, generation: number });
        for child in &tree.children {
            self.links.send(cx, child.index, Message::Data { stripe, number });
        }
    }
}

/// More than any route has; what has gone so far goes in a circle.
const MAX_HOPS: u8 = 32;
