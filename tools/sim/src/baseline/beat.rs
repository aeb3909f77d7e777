//! Keep-alives along the trees' edges, and rows of tables between neighbours.
//!
//! Scribe's parents send heartbeats that packets make superfluous; in SOSP'03 both ends send them,
//! every 30 s: by its child's a parent learns that it may enter the spare capacity group again. One
//! message carries all edges between two nodes; an edge that only one end believes in is ended by
//! it.
//!
//! Departure: parents beat twice per silence that counts as death, not once, so that one late
//! heartbeat orphans nobody.

use banyan_core::Instant;

use crate::node::Index;

use super::links::Cx;
use super::message::{Group, Message};
use super::scribe::Member;

impl Member {
    /// Beats to parents and to those children who heard nothing else.
    pub(crate) fn beat(&mut self, cx: &mut Cx<'_>) {
        let interval = self.plan.config.timings.beat;
        let mut edges: Vec<(Index, u128, u128)> = Vec::new();
        for group in self.groups() {
            let tree = self.tree(group);
            if cx.now.since(tree.spread) >= interval {
                edges.extend(tree.children.iter().map(|child| (child.index, 1 << group, 0)));
            }
            edges.extend(tree.parent.map(|parent| (parent, 0, 1 << group)));
        }
        edges.sort_unstable();
        for peer in edges.chunk_by(|one, other| one.0 == other.0) {
            let parent = peer.iter().fold(0, |set, edge| set | edge.1);
            let child = peer.iter().fold(0, |set, edge| set | edge.2);
            self.send(cx, peer[0].0, Message::Beat { parent, child });
        }
    }

    /// Handles a keep-alive: edges that this node knows are refreshed, others ended.
    pub(crate) fn on_beat(&mut self, cx: &mut Cx<'_>, from: Index, parent: u128, child: u128) {
        let now = cx.now;
        for group in self.groups() {
            if parent >> group & 1 == 1 {
                let tree = self.tree_mut(group);
                if tree.parent == Some(from) {
                    tree.heard = now;
                } else if !tree.quest.is_asking(from) {
                    self.send(cx, from, Message::Leave { group });
                }
            }
            if child >> group & 1 == 1 {
                let mut children = self.tree_mut(group).children.iter_mut();
                if let Some(known) = children.find(|known| known.index == from) {
                    known.heard = now;
                } else {
                    self.send(cx, from, Message::Orphaned { group, siblings: Vec::new() });
                }
            }
        }
    }

    /// Drops children that have been silent for as long as makes a parent dead.
    pub(crate) fn drop_silent_children(&mut self, cx: &mut Cx<'_>) {
        let limit = self.plan.config.timings.silence;
        for group in self.groups() {
            let silent = |heard: Instant| cx.now.since(heard) >= limit;
            let children = self.tree(group).children.iter();
            let gone: Vec<Index> =
                children.filter(|child| silent(child.heard)).map(|child| child.index).collect();
            for child in gone {
                self.drop_child(cx, group, child);
                self.prune(cx, group);
            }
        }
    }

    /// The groups whose parents have been silent for too long, and when to look again.
    pub(crate) fn silent_parents(&self, now: Instant) -> (Vec<Group>, Option<Instant>) {
        let limit = self.plan.config.timings.silence;
        let mut silent = Vec::new();
        let mut next = None;
        for group in self.groups() {
            let tree = self.tree(group);
            if tree.parent.is_some() {
                let due = tree.heard + limit;
                if due <= now {
                    silent.push(group);
                } else {
                    next = Some(next.map_or(due, |earlier: Instant| earlier.min(due)));
                }
            }
        }
        (silent, next)
    }

    /// Asks the neighbours and one other for rows.
    pub(crate) fn exchange(&mut self, cx: &mut Cx<'_>) {
        let contacts = self.routing.contacts();
        let far = self.dice.pick(&contacts);
        let [right, left] = self.routing.neighbours();
        for peer in
            [right, left.filter(|_| left != right), far.filter(|_| far != right && far != left)]
        {
            self.ask_for_rows(cx, peer);
        }
    }

    /// Repairs the neighbourhood as Pastry does: the farthest live leaf on a side knows who is
    /// next.
    pub(crate) fn mend_neighbourhood(&mut self, cx: &mut Cx<'_>) {
        let [right, left] = self.routing.rims();
        for rim in [right, left.filter(|_| left != right)] {
            self.ask_for_rows(cx, rim);
        }
    }

    /// Tells all in the tables that this node is there: the last step of joining Pastry.
    pub(crate) fn announce(&mut self, cx: &mut Cx<'_>) {
        for peer in self.routing.contacts() {
            self.send(cx, peer, Message::Exchange { is_request: false, contacts: Vec::new() });
        }
    }

    fn ask_for_rows(&mut self, cx: &mut Cx<'_>, peer: Option<Index>) {
        if let Some(peer) = peer {
            self.send(cx, peer, Message::Exchange { is_request: true, contacts: Vec::new() });
        }
    }

    /// Handles rows, or the wish for some. Returns whether the neighbourhood has changed.
    pub(crate) fn on_exchange(
        &mut self,
        cx: &mut Cx<'_>,
        from: Index,
        is_request: bool,
        contacts: &[Index],
    ) -> bool {
        let is_changed = self.routing.meet(from);
        for &contact in contacts {
            if self.routing.hear(contact) {
                self.ask_for_rows(cx, Some(contact));
            }
        }
        if is_request {
            let contacts = self.routing.rows_for(from);
            self.send(cx, from, Message::Exchange { is_request: false, contacts });
        }
        is_changed
    }
}
