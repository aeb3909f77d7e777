//! The way of a JOIN: towards the stripe key, hop by hop, until somebody in the tree can help.
//!
//! ```text
//!   joiner ─▶ a native of the stripe ── ACCEPT: it has room, and is the parent
//!                                    ─▶ … up, while nobody below has room …
//!                                    ─▶ … down, after the least deep free slot …
//!   joiner ◀─ JOIN-FOUND ◀──────────── back the same way
//!   joiner ── ATTACH ─▶ the parent that was found
//! ```
//!
//! A hop hands a JOIN to a contact that has the stripe as its digit and comes before the hop in the
//! tree's order (for a hop that is not native, all of them do); a hop that is native intercepts it,
//! as in Scribe, whether it has a parent yet or not: its own JOIN is on its way. The answer goes
//! back along the path, so that a joiner needs no connection but the one with its parent.

use banyan_wire::{Contact, MAX_HOPS, Message, PeerId, Reason, Roles, Start, StripeId};
use rand::RngExt;

use crate::overlay::Context;
use crate::overlay::splitstream::{SplitStream, request_of};
use crate::overlay::tree::{Child, Request, Search};
use crate::{Instant, Violation};

/// Natives among which a leaf draws the first hop of a JOIN, so that not all joiners ask the same.
const FIRST_HOP_CHOICE: usize = 3;
/// Failed searches after which the source is asked.
const PATIENCE: u32 = 2;
/// Rounds of asking for contacts before a native that knows nobody before it turns to the source.
const MAX_LOOKUPS: u32 = 3;
/// Natives asked in one round.
const LOOKUP_WIDTH: usize = 2;

/// A JOIN for one stripe. On the wire, those that go the same way are one message
/// ([`Links`](crate::links::Links) sees to that), and are taken apart where they arrive.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub(super) stripe: StripeId,
    pub(super) nonce: u32,
    pub(super) joiner: Contact,
    pub(super) idle: Option<u32>,
    pub(super) is_descending: bool,
    pub(super) path: Vec<PeerId>,
    pub(super) lost: Option<PeerId>,
    pub(super) start: Start,
    pub(super) is_entitled: bool,
}

impl Join {
    /// Those of a message.
    pub(super) fn each(message: banyan_wire::Join) -> impl Iterator<Item = Self> {
        message.stripes.iter().map(move |stripe| Self {
            stripe,
            nonce: message.nonce,
            joiner: message.joiner.clone(),
            idle: message.idle,
            is_descending: message.is_descending,
            path: message.path.clone(),
            lost: message.lost,
            start: message.start,
            is_entitled: message.is_entitled,
        })
    }

    fn into_message(self) -> Message {
        Message::Join(banyan_wire::Join {
            stripes: Roles::one(self.stripe),
            nonce: self.nonce,
            joiner: self.joiner,
            idle: self.idle,
            is_descending: self.is_descending,
            path: self.path,
            lost: self.lost,
            start: self.start,
            is_entitled: self.is_entitled,
        })
    }
}

impl SplitStream {
    /// Sends a JOIN for `stripe` towards its key.
    pub(super) fn seek(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        if cx.local.is_source || !cx.local.wanted.contains(stripe) {
            return;
        }
        if self.look_up(cx, stripe) {
            return;
        }
        let Some(hop) = self.first_hop(cx, stripe) else {
            self.tree(stripe).tried.clear();
            self.tree(stripe).rest(cx);
            return;
        };
        let nonce = self.next_nonce(stripe);
        let request = self.request(cx, stripe);
        let join = Join {
            stripe,
            nonce,
            joiner: cx.local.contact(),
            idle: request.idle,
            is_descending: false,
            path: vec![cx.local.peer],
            lost: self.trees[stripe.index()].lost_to_tell(),
            start: (cx.resume)(stripe),
            is_entitled: request.is_entitled,
        };
        let give_up_at = cx.now + cx.links.patience(cx.config.join_timeout);
        self.tree(stripe).request = request;
        let asked = self.tree(stripe).take_asked(cx.now);
        self.tree(stripe).search = Search::Seeking { nonce, give_up_at, hop: hop.peer, asked };
        cx.reach(&hop, join.into_message());
    }

    /// A name for the next attempt in `stripe`: one it has not had, but others may, so that their JOINs
    /// can travel together.
    fn next_nonce(&mut self, stripe: StripeId) -> u32 {
        let newest = self.nonce;
        let tree = self.tree(stripe);
        let nonce = if tree.nonce == newest { newest.wrapping_add(1) } else { newest };
        tree.nonce = nonce;
        self.nonce = nonce;
        nonce
    }

    /// What to say of ourselves to whom we ask for a place.
    pub(super) fn request(&self, cx: &Context<'_>, stripe: StripeId) -> Request {
        let is_entitled = cx.config.forest.fair_shares && self.held() < cx.local.entitlement();
        let is_native = cx.local.roles.contains(stripe);
        let idle = if is_native { self.movable(cx, stripe) } else { self.offer(cx) };
        let idle = idle.map(|idle| idle.children);
        request_of(&cx.local.contact(), stripe, idle, is_entitled)
    }

    /// A native that knows nobody before it first asks other natives whom they know: whoever comes
    /// first in the order would else be looked for at the source by all those near it. Returns
    /// whether the search waits for that.
    fn look_up(&mut self, cx: &mut Context<'_>, stripe: StripeId) -> bool {
        let tree = &self.trees[stripe.index()];
        if !cx.local.roles.contains(stripe) || tree.lookups >= MAX_LOOKUPS || tree.parent.is_some()
        {
            return false;
        }
        let natives = cx.view.natives(stripe);
        if natives.iter().any(|contact| cx.local.is_below(contact, stripe)) {
            return false;
        }
        let skipped = tree.lookups as usize * LOOKUP_WIDTH;
        let asked: Vec<Contact> =
            natives.into_iter().skip(skipped).take(LOOKUP_WIDTH).cloned().collect();
        if asked.is_empty() {
            return false;
        }
        for contact in asked {
            cx.reach(&contact, Message::FindContacts { digits: Roles::one(stripe) });
        }
        // Two round trips of 100 ms: a connection and the answer.
        let retry_at = Some(cx.now + cx.config.retry_delay * 4);
        let tree = self.tree(stripe);
        tree.lookups += 1;
        tree.search = Search::Resting { retry_at };
        true
    }

    /// Whom to hand our own JOIN to: a native of the stripe (the first in the order of those that
    /// come before us, if we are native ourselves); where none is known, anybody connected; after
    /// some failures, and where nobody else is left, the source.
    fn first_hop(&mut self, cx: &mut Context<'_>, stripe: StripeId) -> Option<Contact> {
        let tree = &self.trees[stripe.index()];
        let is_new = |contact: &&Contact| {
            !tree.tried.contains(&contact.peer)
                && !tree.children.contains_key(&contact.peer)
                && !tree.is_parent(&contact.peer)
        };
        let source = cx.view.source().cloned();
        if tree.is_lost && tree.attempts > PATIENCE && source.is_some() {
            return source;
        }
        let natives = cx.view.natives(stripe).into_iter().filter(is_new);
        if self.is_ordered(cx.local, stripe) {
            let before = natives.filter(|contact| cx.local.is_below(contact, stripe));
            let first = before.min_by_key(|contact| cx.local.order.rank_of(contact, stripe));
            return first.cloned().or(source);
        }
        let mut natives: Vec<&Contact> = natives.collect();
        natives.sort_by_key(|contact| !cx.links.is_connected(&contact.peer));
        natives.truncate(FIRST_HOP_CHOICE);
        if !natives.is_empty() {
            let choice = cx.rng.random_range(0..natives.len());
            return Some(natives[choice].clone());
        }
        let connected = cx.view.iter().filter(is_new);
        let introducer =
            connected.filter(|c| cx.links.is_connected(&c.peer)).min_by_key(|contact| {
                // Whoever has a parent in the stripe is most likely to know the way.
                contact.roles.is_empty()
            });
        introducer.cloned().or(source)
    }

    /// A JOIN came by.
    pub(super) fn on_join(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        join: Join,
    ) -> Result<(), Violation> {
        if join.path.last() != Some(&from) || join.path.first() != Some(&join.joiner.peer) {
            return Err(Violation::Mismatch);
        }
        if join.joiner.peer == cx.local.peer || join.path.contains(&cx.local.peer) {
            self.fail_join(cx, join, Reason::Loop);
            return Ok(());
        }
        if join.path.len() >= MAX_HOPS {
            self.fail_join(cx, join, Reason::NoRoute);
            return Ok(());
        }
        cx.view.insert(cx.now, join.joiner.clone(), false);
        self.suspect(cx, join.stripe, join.lost);
        if join.is_descending && self.tree(join.stripe).is_parent(&from) {
            self.note_claimed(join.stripe);
        }
        if self.can_serve(cx.local, join.stripe) {
            self.place(cx, join);
        } else {
            self.route(cx, join);
        }
        Ok(())
    }

    /// Outside the tree, a leaf of it, or nowhere in it yet: hand the JOIN on.
    fn route(&mut self, cx: &mut Context<'_>, join: Join) {
        let stripe = join.stripe;
        let is_native = cx.local.roles.contains(stripe);
        let unvisited = |contact: &&Contact| {
            !join.path.contains(&contact.peer) && contact.peer != join.joiner.peer
        };
        let closer = |contact: &&Contact| !is_native || cx.local.is_below(contact, stripe);
        let natives = cx.view.natives(stripe);
        let mut natives: Vec<&Contact> =
            natives.into_iter().filter(unvisited).filter(closer).collect();
        natives.sort_by_key(|contact| !cx.links.is_connected(&contact.peer));
        let parent = self.trees[stripe.index()].parent.as_ref().map(|parent| &parent.contact);
        let parent = parent.filter(unvisited);
        let native = natives.first().copied();
        let next = parent.or(native).or_else(|| cx.view.source().filter(unvisited));
        match next.cloned() {
            Some(next) => hand_on(cx, join, &next),
            None => self.fail_join(cx, join, Reason::NoRoute),
        }
    }

    /// In the tree: take the joiner, or say where there is room.
    pub(super) fn place(&mut self, cx: &mut Context<'_>, join: Join) {
        if join.joiner.roles.contains(join.stripe) {
            self.place_native(cx, join);
        } else {
            self.place_leaf(cx, join);
        }
    }

    /// A native goes as high as the order lets it: leaves and later natives make room.
    fn place_native(&mut self, cx: &mut Context<'_>, join: Join) {
        let stripe = join.stripe;
        if !cx.local.is_above(&join.joiner, stripe) {
            return self.hand_up(cx, join);
        }
        if self.free_here(cx.local, cx.config, stripe) > 0
            || self.victim(cx, stripe, &join.joiner, join.lost.is_some()).is_some()
        {
            return self.found(cx, join);
        }
        // All children are natives that come first: below one of them, the smallest subtree.
        let tree = &self.trees[stripe.index()];
        let below = tree
            .sound()
            .filter(|child| child.contact.roles.contains(stripe))
            .filter(|child| !join.path.contains(&child.contact.peer))
            .filter(|child| {
                let order = &cx.local.order;
                order.rank_of(&child.contact, stripe) < order.rank_of(&join.joiner, stripe)
            })
            .min_by_key(|child| {
                (child.report.free_slots == 0, child.report.members, child.contact.peer)
            });
        match below.map(|child| child.contact.clone()) {
            Some(child) => hand_on(cx, join, &child),
            // It will be known soon.
            None if self.has_suspect(stripe) => self.park(cx, join),
            None => self.fail_join(cx, join, Reason::Full),
        }
    }

    /// A leaf goes where a slot is free: here, below, or further up. One that is entitled to more
    /// than it has also goes where somebody has more than that.
    fn place_leaf(&mut self, cx: &mut Context<'_>, mut join: Join) {
        let stripe = join.stripe;
        let is_direct = join.path.len() == 1;
        if self.free_here(cx.local, cx.config, stripe) > 0
            || (join.is_entitled && self.yielding_child(stripe).is_some())
            || (is_direct && join.lost.is_some() && self.late_child(stripe).is_some())
        {
            return self.found(cx, join);
        }
        let below = match self.claim_slot_below(stripe, &join.path, Child::claim) {
            None if join.is_entitled => self.claim_yielding_below(stripe, &join.path),
            free => free,
        };
        if let Some(child) = below {
            join.is_descending = true;
            return hand_on(cx, join, &child);
        }
        self.call_roll(cx);
        if join.is_descending {
            // Somebody was quicker. Its next try will find the counts corrected.
            return self.fail_join(cx, join, Reason::Full);
        }
        if !cx.local.is_source && !self.may_hand_up(cx, stripe) {
            return self.park(cx, join);
        }
        self.hand_up(cx, join);
    }

    /// The child with the least deep free slot, which `claim` counts as taken.
    pub(super) fn claim_slot_below(
        &mut self,
        stripe: StripeId,
        visited: &[PeerId],
        claim: impl FnOnce(&mut Child),
    ) -> Option<Contact> {
        let child = self
            .tree(stripe)
            .children
            .values_mut()
            .filter(|child| child.leaves_by.is_none() && !child.is_doubted)
            .filter(|child| child.report.free_slots > 0)
            .filter(|child| !visited.contains(&child.contact.peer))
            .min_by_key(|child| (child.report.free_depth, u32::MAX - child.report.free_slots))?;
        claim(child);
        Some(child.contact.clone())
    }

    /// A native child below which somebody has more stripes than it is owed; that one counts as
    /// gone until the next report.
    fn claim_yielding_below(&mut self, stripe: StripeId, visited: &[PeerId]) -> Option<Contact> {
        let child = self
            .tree(stripe)
            .children
            .values_mut()
            .filter(|child| child.leaves_by.is_none() && !child.is_doubted)
            .filter(|child| child.contact.roles.contains(stripe))
            .filter(|child| child.report.yielding > 0 && !visited.contains(&child.contact.peer))
            .max_by_key(|child| child.report.yielding)?;
        child.report.yielding -= 1;
        Some(child.contact.clone())
    }

    pub(super) fn hand_up(&mut self, cx: &mut Context<'_>, join: Join) {
        if cx.local.is_source {
            return self.on_exhausted(cx, join);
        }
        match &self.trees[join.stripe.index()].parent {
            Some(parent) if !join.path.contains(&parent.contact.peer) => {
                let parent = parent.contact.clone();
                hand_on(cx, join, &parent);
            }
            Some(_) => self.fail_join(cx, join, Reason::NoRoute),
            None => self.route(cx, join),
        }
    }

    /// There is a place here. A joiner that asked us itself is taken at once; for one whose JOIN
    /// was handed on to us the place is kept until it comes.
    pub(super) fn found(&mut self, cx: &mut Context<'_>, join: Join) {
        let (stripe, nonce) = (join.stripe, join.nonce);
        if join.path.len() == 1 {
            let request = request_of(&join.joiner, stripe, join.idle, join.is_entitled);
            return self.on_attach(cx, stripe, join.joiner, request, join.start, join.lost);
        }
        if !join.joiner.roles.contains(stripe) && self.free_here(cx.local, cx.config, stripe) > 0 {
            let until = place_until(cx);
            self.tree(stripe).reserved.insert(join.joiner.peer, until);
        }
        if self.dials_joiners {
            cx.links.connect(&join.joiner);
        }
        let mut path = join.path;
        let Some(next) = path.pop() else { return };
        let parent = cx.local.contact();
        cx.send(next, Message::JoinFound { stripe, nonce, parent, path });
    }

    pub(super) fn fail_join(&mut self, cx: &mut Context<'_>, join: Join, reason: Reason) {
        let mut path = join.path;
        let Some(next) = path.pop() else { return };
        let (stripe, nonce) = (join.stripe, join.nonce);
        cx.send(next, Message::JoinFailed { stripe, nonce, reason, path });
    }

    /// A parent was found, for us or for somebody whose JOIN went through here.
    pub(super) fn on_join_found(
        &mut self,
        cx: &mut Context<'_>,
        stripe: StripeId,
        nonce: u32,
        parent: Contact,
        mut path: Vec<PeerId>,
    ) {
        if let Some(next) = path.pop() {
            cx.send(next, Message::JoinFound { stripe, nonce, parent, path });
            return;
        }
        let is_ours =
            matches!(self.tree(stripe).search, Search::Seeking { nonce: n, .. } if n == nonce);
        if !is_ours {
            return;
        }
        let ours = self.tree(stripe).parent.as_ref();
        if ours.is_some_and(|ours| ours.contact.peer == parent.peer && !ours.is_over) {
            // The best place is the one we have.
            self.tree(stripe).stop_searching();
            return;
        }
        // A reply may name anybody; who the source is, only the manifest says.
        let parent = Contact { is_source: is_source(cx, &parent.peer), ..parent };
        cx.view.insert(cx.now, parent.clone(), false);
        self.tree(stripe).tried.retain(|peer| *peer != parent.peer);
        self.attach_or_seek(cx, stripe, vec![parent]);
    }

    /// No parent was found, for us or for somebody whose JOIN went through here.
    pub(super) fn on_join_failed(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        stripe: StripeId,
        nonce: u32,
        reason: Reason,
        mut path: Vec<PeerId>,
    ) {
        if let Some(next) = path.pop() {
            cx.send(next, Message::JoinFailed { stripe, nonce, reason, path });
            return;
        }
        let Search::Seeking { nonce: ours, .. } = self.tree(stripe).search else { return };
        if ours != nonce {
            return;
        }
        if reason == Reason::Exhausted && self.idle(cx, stripe).is_some() {
            self.adopt(cx, stripe);
            return;
        }
        // Where all slots are taken, the source knows no better than others.
        self.tree(stripe).is_lost = reason != Reason::Full;
        if matches!(reason, Reason::NoRoute | Reason::Loop) {
            self.tree(stripe).mark_tried(from);
        }
        self.tree(stripe).rest(cx);
    }
}

/// Hands a JOIN on, with ourselves added to its path.
fn hand_on(cx: &mut Context<'_>, mut join: Join, next: &Contact) {
    join.path.push(cx.local.peer);
    cx.reach(next, join.into_message());
}

fn is_source(cx: &Context<'_>, peer: &PeerId) -> bool {
    cx.view.source().is_some_and(|source| source.peer == *peer)
}

/// Until when a place is kept for a joiner: the way back, a connection and its ATTACH.
fn place_until(cx: &Context<'_>) -> Instant {
    cx.now + cx.config.join_timeout + cx.config.attach_timeout
}
