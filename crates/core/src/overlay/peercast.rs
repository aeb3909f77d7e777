//! PeerCast: one tree, built by redirects.
//!
//! Follows Deshpande, Bawa and Garcia-Molina, "Streaming live media over peers" (Stanford TR
//! 2002-21), as far as its abstract and other-systems.md §2.1 give it: a newcomer asks the source;
//! whoever has room accepts, whoever has none redirects to one of its children, in turn
//! (round robin, which keeps the tree balanced); a peer that leaves sends its children to its
//! parent ("grandfather"); one whose parent dies asks its grandparent, then the source.
//! Departure: loops are kept out by listing the ancestors in ACCEPT and STATUS.
//!
//! Decides parent and children of the single tree.

use banyan_wire::{
    Contact, MAX_CANDIDATES, Message, PeerId, Reason, Standing, StripeCount, StripeId,
};

use crate::local::Local;
use crate::overlay::tree::{Accepted, Request, Search, nothing_of};
use crate::overlay::{Context, Overlay, Tree};
use crate::watch::Silence;
use crate::{Event, Instant, Violation};

/// The policy's state: the trees (one for each stripe; the paper has one) and whose turn it is.
#[derive(Debug)]
pub(crate) struct PeerCast {
    trees: Vec<Tree>,
    /// The child that was redirected to last.
    turn: Option<PeerId>,
    has_joined: bool,
}

impl PeerCast {
    pub(crate) fn new(stripes: StripeCount) -> Self {
        let trees = stripes.iter().map(Tree::new).collect();
        Self { trees, turn: None, has_joined: false }
    }

    fn used(&self) -> u32 {
        self.trees.iter().fold(0, |sum, tree| sum.saturating_add(tree.used()))
    }

    /// Looks for a parent: `first`, then the source.
    fn search(&mut self, cx: &mut Context<'_>, stripe: StripeId, first: Vec<Contact>) {
        if cx.local.is_source {
            return;
        }
        let tree = &mut self.trees[stripe.index()];
        let candidates = first.into_iter().chain(cx.view.source().cloned());
        if !tree.attach(cx, Request::default(), candidates.collect::<Vec<_>>()) {
            tree.tried.clear();
            tree.rest(cx);
        }
    }

    fn on_attach(
        &mut self,
        cx: &mut Context<'_>,
        stripe: StripeId,
        child: Contact,
        start: banyan_wire::Start,
    ) {
        let from = child.peer;
        let has_room = self.used() < cx.local.capacity;
        let standing = self.trees[stripe.index()].standing(cx, self.population(), 0, true);
        let tree = &mut self.trees[stripe.index()];
        let is_ancestor = tree.is_parent(&from) || standing.ancestors.contains(&from);
        let is_child = tree.children.get(&from).is_some_and(|child| child.leaves_by.is_none());
        if is_ancestor || (!cx.local.is_source && !tree.is_rooted()) {
            let reason = if is_ancestor { Reason::Loop } else { Reason::Orphan };
            let candidates = cx.view.source().cloned().into_iter().collect();
            cx.send(from, Message::Redirect { stripe, reason, candidates });
        } else if is_child || has_room {
            tree.take_child(cx, child, nothing_of(stripe), start, standing);
        } else {
            let candidates = self.next_in_turn(stripe);
            cx.send(from, Message::Redirect { stripe, reason: Reason::Full, candidates });
        }
    }

    /// The children, beginning after the one whose turn it was last.
    fn next_in_turn(&mut self, stripe: StripeId) -> Vec<Contact> {
        let children = &self.trees[stripe.index()].children;
        let after = |peer: &&PeerId| self.turn.is_none_or(|turn| **peer > turn);
        let first = children.keys().position(|peer| after(&peer)).unwrap_or(0);
        let in_turn = children.values().cycle().skip(first).take(children.len());
        let candidates: Vec<Contact> =
            in_turn.take(MAX_CANDIDATES).map(|child| child.contact.clone()).collect();
        self.turn = candidates.first().map(|contact| contact.peer);
        candidates
    }

    fn lose_parent(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        let lost = self.trees[stripe.index()].lose_parent(cx);
        self.tell_children(cx, stripe);
        let grandparent = lost.and_then(|parent| parent.standing.grandparent);
        self.trees[stripe.index()].reset_search();
        self.search(cx, stripe, grandparent.into_iter().collect());
    }

    fn tell_children(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        let standing = self.trees[stripe.index()].standing(cx, self.population(), 0, true);
        self.trees[stripe.index()].tell_children(cx, standing);
    }

    /// Our way to the source is `standing`'s: there must be neither us nor a child of ours on it.
    fn is_loop(&self, cx: &Context<'_>, stripe: StripeId, standing: &Standing) -> bool {
        let tree = &self.trees[stripe.index()];
        standing
            .ancestors
            .iter()
            .any(|peer| *peer == cx.local.peer || tree.children.contains_key(peer))
    }

    fn on_accept(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        stripe: StripeId,
        standing: Standing,
    ) {
        if self.is_loop(cx, stripe, &standing) {
            cx.send(from, Message::Detach { stripe });
            self.trees[stripe.index()].stop_asking(&from);
            self.search(cx, stripe, Vec::new());
            return;
        }
        if self.trees[stripe.index()].on_accept(cx, from, standing) == Accepted::Unwanted {
            return;
        }
        self.tell_children(cx, stripe);
        if !self.has_joined && self.trees.iter().all(|tree| tree.parent.is_some()) {
            self.has_joined = true;
            let stripes = cx.local.stripes.value();
            cx.emit(Event::Joined { stripes, roles: cx.local.roles });
        }
    }

    fn on_redirect(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        stripe: StripeId,
        candidates: Vec<Contact>,
    ) {
        let tree = &mut self.trees[stripe.index()];
        if tree.is_parent(&from) {
            // It serves us until we have another; ask those it names.
            tree.reset_search();
            self.search(cx, stripe, candidates);
        } else if tree.is_asking(&from) {
            tree.stop_asking(&from);
            self.search(cx, stripe, candidates);
        }
    }
}

impl Overlay for PeerCast {
    fn start(&mut self, cx: &mut Context<'_>) {
        for stripe in cx.local.stripes.iter() {
            self.search(cx, stripe, Vec::new());
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all others belong to other overlays")]
    fn on_message(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        message: Message,
    ) -> Result<(), Violation> {
        match message {
            Message::Attach { stripe, child, start, .. } => {
                if child.peer != from {
                    return Err(Violation::Mismatch);
                }
                self.on_attach(cx, stripe, child, start);
            }
            Message::Accept { stripe, standing } => self.on_accept(cx, from, stripe, standing),
            Message::Redirect { stripe, candidates, .. } => {
                self.on_redirect(cx, from, stripe, candidates);
            }
            Message::Detach { stripe } => {
                self.trees[stripe.index()].drop_child(cx, &from);
            }
            Message::Status { stripe, standing } => {
                if !self.trees[stripe.index()].is_parent(&from) {
                    return Ok(());
                }
                if self.is_loop(cx, stripe, &standing) {
                    cx.send(from, Message::Detach { stripe });
                    self.lose_parent(cx, stripe);
                    return Ok(());
                }
                if let Some(parent) = &mut self.trees[stripe.index()].parent {
                    parent.standing = standing;
                }
                self.tell_children(cx, stripe);
            }
            // Of the other overlay, and harmless.
            _ => {}
        }
        Ok(())
    }

    fn on_contact(&mut self, _: &mut Context<'_>, contact: &Contact) {
        for tree in &mut self.trees {
            if let Some(child) = tree.children.get_mut(&contact.peer) {
                child.contact = contact.clone();
            }
        }
    }

    fn on_peer_gone(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        for stripe in cx.local.stripes.iter() {
            self.trees[stripe.index()].drop_child(cx, &peer);
            if self.trees[stripe.index()].is_parent(&peer) {
                self.lose_parent(cx, stripe);
            }
        }
        self.on_unreachable(cx, peer);
    }

    fn on_unreachable(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        for stripe in cx.local.stripes.iter() {
            let tree = &mut self.trees[stripe.index()];
            if tree.is_asking(&peer) && tree.stop_asking(&peer) {
                self.search(cx, stripe, Vec::new());
            }
        }
    }

    fn on_silence(
        &mut self,
        cx: &mut Context<'_>,
        stripe: StripeId,
        parent: PeerId,
        silence: Silence,
    ) {
        match silence {
            Silence::Doubtful => {}
            Silence::Dead | Silence::Starved => {
                cx.send(parent, Message::Detach { stripe });
                self.lose_parent(cx, stripe);
            }
        }
    }

    fn on_capacity(&mut self, cx: &mut Context<'_>) {
        let mut excess = self.used().saturating_sub(cx.local.capacity);
        for stripe in cx.local.stripes.iter() {
            let tree = &mut self.trees[stripe.index()];
            let last: Vec<PeerId> = tree.committed().map(|child| child.contact.peer).collect();
            for peer in last.into_iter().rev() {
                if excess == 0 {
                    return;
                }
                let parent = tree.parent.as_ref().map(|parent| parent.contact.clone());
                let up = parent.into_iter().chain(cx.view.source().cloned()).collect();
                tree.hand_over(cx, peer, Reason::Full, up);
                excess -= 1;
            }
        }
    }

    fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        for stripe in cx.local.stripes.iter() {
            let tree = &mut self.trees[stripe.index()];
            tree.expire(cx);
            for silent in tree.hedge(cx, Request::default()) {
                cx.view.on_failure(&silent);
                if tree.stop_asking(&silent) {
                    self.search(cx, stripe, Vec::new());
                    break;
                }
            }
            let tree = &mut self.trees[stripe.index()];
            if matches!(&tree.search, Search::Resting { retry_at: Some(at) } if *at <= cx.now) {
                self.search(cx, stripe, Vec::new());
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.trees.iter().filter_map(Tree::poll_timeout).min()
    }

    fn leave(&mut self, cx: &mut Context<'_>) {
        for tree in &mut self.trees {
            let parent = tree.parent.as_ref().map(|parent| parent.contact.clone());
            let up: Vec<Contact> =
                parent.iter().cloned().chain(cx.view.source().cloned()).collect();
            let children: Vec<PeerId> = tree.children.keys().copied().collect();
            for child in children {
                tree.hand_over(cx, child, Reason::Leaving, up.clone());
            }
            if let Some(parent) = parent {
                cx.send(parent.peer, Message::Detach { stripe: tree.stripe });
            }
        }
    }

    fn trees(&self) -> &[Tree] {
        &self.trees
    }

    fn population(&self) -> u32 {
        0
    }

    fn check_invariants(&self, local: &Local) -> Result<(), String> {
        if self.used() > local.capacity {
            return Err(format!("{} children exceed the capacity {}", self.used(), local.capacity));
        }
        let ours = |tree: &&Tree| {
            tree.parent.as_ref().is_some_and(|p| tree.children.contains_key(&p.contact.peer))
        };
        self.trees
            .iter()
            .find(ours)
            .map_or(Ok(()), |tree| Err(format!("the parent in stripe {} is a child", tree.stripe)))
    }
}
