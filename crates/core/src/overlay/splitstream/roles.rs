//! Who serves which stripe: the first role, taking another, giving one up.
//!
//! ```text
//!   digit of the Kademlia key ──▶ native ──┬── asked to serve a stripe that is short ─▶ vacating
//!                                    ▲     │   (its own has slots to spare)                │
//!                                    │     └── asked, and nobody can change: native twice  │
//!                                    └──────────────── the last child is gone ─────────────┘
//! ```
//!
//! Random digits leave some stripes short (at 16 × 16 and N = 100 by 16 % of their edges;
//! splitstream.md §2.5), so a stripe that has run out of slots is given a new native. The source
//! sees that first, being the root of every tree ([`supply`](super::supply)), and appoints a peer that is
//! idle: one that may have another primary stripe, or has one that can be given up because it has no
//! children there, or they find room elsewhere in a tree with slots to spare. Such a peer vacates its
//! old stripe before it takes the new one, so that it is interior in one tree at every moment.
//!
//! Where no peer is idle (supply is short, or does not divide: 63 peers of capacity 20 need 3.05
//! natives in each of 16 stripes), a peer with a free slot serves a further stripe, and so does an
//! audience of fewer peers than stripes that has just grown. Roles beyond the bound are given up as
//! soon as they are not needed. (SAAR gives newcomers the stripe with the least supply; so does the
//! source with those natives that come to it first. Other peers keep their first role until supply
//! has run out somewhere.)

use std::time::Duration;

use banyan_wire::{Contact, Idle, PeerId, Reason, Roles, StripeId};
use rand::RngExt;

use crate::Event;
use crate::local::share;
use crate::overlay::splitstream::SplitStream;
use crate::overlay::{Action, Context};

/// How long a role is kept before it may be exchanged for another: long enough for the children it
/// was taken for to come.
const ROLE_HOLD: Duration = Duration::from_millis(600);
/// Between looks at roles beyond the bound; down to half of it at random, so that stripes do not lose
/// all their natives at once.
const REVIEW_INTERVAL: Duration = Duration::from_millis(400);

/// Roles beyond the bound of one peer where there are at least as many peers as stripes. At the limit
/// it is not willing to take another.
const MAX_EXCESS: usize = 3;

/// Who is asked to take which stripe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appointment {
    pub(super) peer: PeerId,
    pub(super) role: StripeId,
    /// Besides its primary one.
    pub(super) is_second: bool,
}

impl SplitStream {
    /// What this peer would bring, and leave, if it took `stripe` as a primary one; `None` if it
    /// cannot.
    pub(super) fn idle(&self, cx: &Context<'_>, stripe: StripeId) -> Option<Idle> {
        if cx.local.roles.contains(stripe) { None } else { self.offer(cx) }
    }

    /// The same, for any stripe that is not a primary one.
    pub(super) fn offer(&self, cx: &Context<'_>) -> Option<Idle> {
        let local = &*cx.local;
        let is_barred = local.is_source
            || !cx.config.forest.role_change
            || local.capacity == 0
            || self.vacating_for.is_some()
            || self.excess(cx) > 0;
        if is_barred {
            return None;
        }
        let roles = local.roles.len();
        let (role, slots, children) = if self.has_room_for_role(cx) {
            let free = local.capacity.saturating_sub(self.used());
            (None, share(local.capacity, roles + 1).min(free), 0)
        } else {
            let role = self.spare_role(cx)?;
            (Some(role), share(local.capacity, roles), self.trees[role.index()].used())
        };
        (slots > 0).then_some(Idle { peer: local.peer, role, slots, children })
    }

    /// What this peer would bring to another stripe than `stripe`, of which it is a native.
    pub(super) fn movable(&self, cx: &Context<'_>, stripe: StripeId) -> Option<Idle> {
        self.offer(cx).filter(|offer| self.is_named_in(cx, offer, stripe))
    }

    /// Whether the tree of `stripe` is where we are named as movable: the one we would leave, or the
    /// first we serve.
    pub(super) fn is_named_in(&self, cx: &Context<'_>, offer: &Idle, stripe: StripeId) -> bool {
        offer.role.or_else(|| cx.local.roles.iter().next()) == Some(stripe)
    }

    /// Whether this peer could serve `stripe` besides its primary one.
    pub(super) fn is_willing(&self, cx: &Context<'_>, stripe: StripeId) -> bool {
        cx.config.forest.second_roles
            && !cx.local.is_source
            && !cx.local.roles.contains(stripe)
            && self.excess(cx) < self.max_excess(cx)
            && self.vacating_for.is_none()
            && self.used() < cx.local.capacity
    }

    fn has_room_for_role(&self, cx: &Context<'_>) -> bool {
        cx.local.roles.len() < cx.local.max_roles(self.population)
    }

    /// Roles beyond the bound.
    fn excess(&self, cx: &Context<'_>) -> usize {
        let bound = cx.local.max_roles(self.population);
        cx.local.roles.len().saturating_sub(bound) as usize
    }

    /// How many of them there may be: any number, where so few peers are left that one strong one may
    /// have to carry most.
    fn max_excess(&self, cx: &Context<'_>) -> usize {
        let stripes = u32::from(cx.local.stripes.value());
        if self.population < stripes { stripes as usize } else { MAX_EXCESS }
    }

    /// Slots that go when we give up `stripe`, if that is a role beyond the bound: the others are
    /// those with the most children.
    pub(super) fn relief(&self, cx: &Context<'_>, stripe: StripeId) -> u32 {
        let excess = self.excess(cx);
        if excess == 0 || !cx.local.roles.contains(stripe) {
            return 0;
        }
        let used = |stripe: &StripeId| (self.trees[stripe.index()].used(), *stripe);
        let before = cx.local.roles.iter().filter(|other| used(other) < used(&stripe)).count();
        if before < excess { share(cx.local.capacity, cx.local.roles.len()) } else { 0 }
    }

    /// Slots this peer has in the tree of `stripe`, used there or free.
    fn slots_held(&self, cx: &Context<'_>, stripe: StripeId) -> u32 {
        let free = cx.local.capacity.saturating_sub(self.used());
        free.saturating_add(self.trees[stripe.index()].used())
    }

    /// A role that can be given up without loss, held for a while: one without children, or one
    /// whose children find room elsewhere in its tree.
    fn spare_role(&self, cx: &Context<'_>) -> Option<StripeId> {
        if self.held_until.is_some() { None } else { self.expendable_role(cx) }
    }

    /// The same, held for however short a time.
    fn expendable_role(&self, cx: &Context<'_>) -> Option<StripeId> {
        let used = |stripe: &StripeId| self.trees[stripe.index()].used();
        let is_expendable =
            |stripe: &StripeId| used(stripe) == 0 || self.is_dispensable(cx, *stripe);
        cx.local.roles.iter().filter(is_expendable).min_by_key(used)
    }

    /// Whether the tree of `stripe` has more free slots than go with us, our children placed.
    fn is_dispensable(&self, cx: &Context<'_>, stripe: StripeId) -> bool {
        self.told_spare(stripe) > self.slots_held(cx, stripe)
    }

    /// Free slots of the whole tree of `stripe`, as our parent there says; 0 where nobody does.
    pub(super) fn told_spare(&self, stripe: StripeId) -> u32 {
        let tree = self.trees.get(stripe.index());
        tree.and_then(|tree| tree.parent.as_ref()).map_or(0, |parent| parent.standing.spare)
    }

    pub(super) fn set_roles(&mut self, cx: &mut Context<'_>, roles: Roles) {
        if roles == cx.local.roles {
            return;
        }
        cx.local.roles = roles;
        cx.view.set_own(roles, cx.local.class);
        cx.actions.push(Action::Announce);
        cx.emit(Event::Roles(roles));
    }

    /// Takes `stripe` as a primary one, giving up a spare role where the bound asks for it: at once
    /// where that one has no children, else when the last of them has another parent.
    pub(super) fn adopt(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        if !self.has_room_for_role(cx) {
            let Some(spare) = self.spare_role(cx) else { return };
            self.give_up(cx, spare);
            if !self.trees[spare.index()].children.is_empty() {
                self.vacating_for = Some(stripe);
                self.update_reports(cx);
                return;
            }
        }
        self.take_role(cx, stripe);
    }

    /// Takes the role for which another was vacated, once nobody is served there any more.
    pub(super) fn finish_vacating(&mut self, cx: &mut Context<'_>) {
        let Some(stripe) = self.vacating_for else { return };
        let is_left = |tree: &crate::overlay::Tree| {
            !tree.children.is_empty() && !cx.local.roles.contains(tree.stripe)
        };
        if !self.trees.iter().any(is_left) {
            self.vacating_for = None;
            self.take_role(cx, stripe);
        }
    }

    fn take_role(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        self.want(cx, stripe);
        let mut roles = cx.local.roles;
        roles.insert(stripe);
        self.set_roles(cx, roles);
        self.held_until = Some(cx.now + ROLE_HOLD);
        let parent = self.tree(stripe).parent.as_ref();
        let stays = parent.is_some_and(|parent| cx.local.is_below(&parent.contact, stripe));
        self.tree(stripe).stop_searching();
        if stays {
            // The announcement tells it that we are native now.
            self.tell_children(cx, stripe);
        } else {
            self.seek(cx, stripe);
        }
        self.update_reports(cx);
    }

    /// A primary stripe is always wanted; where the download takes no more, another gives way.
    fn want(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        if cx.local.wanted.contains(stripe) {
            return;
        }
        cx.local.wanted.insert(stripe);
        let native = cx.local.roles;
        let other = cx.local.wanted.iter().find(|s| *s != stripe && !native.contains(*s));
        if let Some(other) = other {
            cx.local.wanted.remove(other);
            self.tree(other).stop_searching();
            if let Some(parent) = self.tree(other).lose_parent(cx) {
                cx.send(parent.contact.peer, banyan_wire::Message::Detach { stripe: other });
            }
            self.tree(other).lost = None;
        }
        let wanted = cx.local.wanted;
        cx.emit(Event::Wanted(wanted));
    }

    /// An appointment comes down the tree: ours, or to be passed on.
    pub(super) fn on_adopt(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        stripe: StripeId,
        appointment: Appointment,
    ) {
        if !self.tree(stripe).is_parent(&from) {
            return;
        }
        let Appointment { peer, role, is_second } = appointment;
        self.note_appointed(stripe, &peer);
        if peer != cx.local.peer {
            self.pass_on_adopt(cx, stripe, appointment);
        } else if self.idle(cx, role).is_some() {
            self.adopt(cx, role);
        } else if is_second && self.is_willing(cx, role) {
            self.take_role(cx, role);
        }
        self.watch_excess(cx);
    }

    /// Sees whether there are roles beyond the bound: that may have changed with the population.
    pub(super) fn watch_excess(&mut self, cx: &mut Context<'_>) {
        if self.excess(cx) == 0 {
            self.review_at = None;
        } else if self.review_at.is_none() {
            let jitter = REVIEW_INTERVAL.mul_f64(0.5 * cx.rng.random::<f64>());
            self.review_at = Some(cx.now + REVIEW_INTERVAL / 2 + jitter);
        }
    }

    /// A role beyond the bound is given up as soon as one is not needed: it has no children, or they
    /// find room elsewhere. Until then the source looks for somebody to take one over.
    pub(super) fn review_roles(&mut self, cx: &mut Context<'_>) {
        self.review_at = None;
        if self.held_until.is_some() {
            return self.watch_excess(cx);
        }
        // Those without children go at once: that costs nobody anything.
        for stripe in cx.local.roles.iter() {
            if self.excess(cx) > 0 && self.trees[stripe.index()].used() == 0 {
                self.give_up(cx, stripe);
            }
        }
        // Those who serve one stripe together must not all think that the others do.
        let goes = cx.rng.random_range(0..3) == 0;
        if goes
            && self.excess(cx) > 0
            && let Some(stripe) = self.expendable_role(cx)
        {
            self.give_up(cx, stripe);
        }
        self.watch_excess(cx);
        self.update_reports(cx);
    }

    /// Gives up a primary stripe. Its children are handed over.
    fn give_up(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        let up: Vec<Contact> = self.way_up(cx, stripe);
        let peers: Vec<PeerId> =
            self.tree(stripe).committed().map(|child| child.contact.peer).collect();
        for peer in peers {
            self.tree(stripe).hand_over(cx, peer, Reason::RoleChange, up.clone());
        }
        self.tree(stripe).reserved.clear();
        let mut roles = cx.local.roles;
        roles.remove(stripe);
        self.set_roles(cx, roles);
    }
}
