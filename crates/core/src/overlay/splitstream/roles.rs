//! Who serves which stripe: the first role, taking another, giving one up.
//!
//! ```text
//!   digit of the Kademlia key ──▶ native ──┬── asked to serve a stripe that is short ─▶ vacating
//!                                    ▲     │   (its own has slots to spare)                │
//!                                    │     └── asked, and nobody can change: native twice   │
//!                                    └──────────────── the last child is gone ──────────────┘
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
//! natives in each of 16 stripes), a peer with a free slot serves a second stripe until it is not
//! needed any more. (SAAR gives newcomers the stripe with the least supply; this changes roles only
//! where supply has run out, so that most peers keep their first.)

use std::time::Duration;

use banyan_wire::{Contact, Idle, PeerId, Reason, Roles, StripeId};
use rand::RngExt;

use crate::Event;
use crate::overlay::splitstream::SplitStream;
use crate::overlay::{Action, Context};

/// How long a role is kept before it may be exchanged for another: long enough for the children it
/// was taken for to come.
const ROLE_HOLD: Duration = Duration::from_secs(2);
/// Longest wait before a role too many is given up; drawn at random, so that stripes do not lose
/// all their natives at once.
const SHED_JITTER: Duration = Duration::from_millis(600);

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
            || self.vacating_for.is_some();
        if is_barred {
            return None;
        }
        let free = local.capacity.saturating_sub(self.used());
        let (role, slots, children) = if self.has_room_for_role(cx) {
            (None, free, 0)
        } else {
            let role = self.spare_role(cx)?;
            let children = self.trees[role.index()].used();
            (Some(role), free.saturating_add(children), children)
        };
        (slots > 0).then_some(Idle { peer: local.peer, role, slots, children })
    }

    /// Whether this peer could serve `stripe` besides its primary one.
    pub(super) fn is_willing(&self, cx: &Context<'_>, stripe: StripeId) -> bool {
        cx.config.forest.second_roles
            && !cx.local.is_source
            && !cx.local.roles.contains(stripe)
            && self.second.is_none()
            && self.vacating_for.is_none()
            && self.used() < cx.local.capacity
    }

    /// The bound on roles, the second one included.
    fn max_roles(&self, cx: &Context<'_>) -> u32 {
        cx.local.max_roles(self.population) + u32::from(self.second.is_some())
    }

    fn has_room_for_role(&self, cx: &Context<'_>) -> bool {
        cx.local.roles.len() < self.max_roles(cx)
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
        let free = cx.local.capacity.saturating_sub(self.used());
        self.told_spare(stripe) > free.saturating_add(self.trees[stripe.index()].used())
    }

    /// Free slots of the whole tree of `stripe`, as our parent there says; 0 where nobody does.
    fn told_spare(&self, stripe: StripeId) -> u32 {
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
        peer: PeerId,
        is_second: bool,
    ) {
        if !self.tree(stripe).is_parent(&from) {
            return;
        }
        if peer != cx.local.peer {
            self.pass_on_adopt(cx, stripe, peer, is_second);
        } else if self.idle(cx, stripe).is_some() {
            self.adopt(cx, stripe);
        } else if is_second && self.is_willing(cx, stripe) {
            self.second = Some(stripe);
            self.improve_at = Some(cx.now + ROLE_HOLD);
            self.take_role(cx, stripe);
        }
    }

    /// The bound on roles may have changed with the population.
    pub(super) fn update_shedding(&mut self, cx: &mut Context<'_>) {
        let bound = self.max_roles(cx);
        if cx.local.roles.len() > bound {
            // Those without children go at once: that costs nobody anything.
            let mut roles = cx.local.roles;
            for stripe in cx.local.roles.iter() {
                if roles.len() > bound && self.trees[stripe.index()].used() == 0 {
                    roles.remove(stripe);
                }
            }
            self.set_roles(cx, roles);
        }
        if cx.local.roles.len() <= bound {
            self.shed_at = None;
        } else if self.shed_at.is_none() {
            let jitter = SHED_JITTER.mul_f64(cx.rng.random::<f64>());
            self.shed_at = Some(cx.now + jitter);
        }
    }

    /// Gives up the primary stripe with the fewest children; they are handed to our parent there.
    pub(super) fn shed_role(&mut self, cx: &mut Context<'_>) {
        self.shed_at = None;
        if cx.local.roles.len() <= self.max_roles(cx) {
            return;
        }
        let children = |stripe: &StripeId| self.trees[stripe.index()].children.len();
        let Some(stripe) = cx.local.roles.iter().min_by_key(children) else { return };
        self.give_up(cx, stripe);
        self.update_shedding(cx);
        self.update_reports(cx);
    }

    /// A role beyond the bound is given up as soon as one is not needed: it has no children, or they
    /// find room elsewhere. Until then somebody idle below is asked to take one over.
    pub(super) fn review_second(&mut self, cx: &mut Context<'_>) {
        if self.second.is_none() || self.held_until.is_some() {
            return;
        }
        let expendable = self.expendable_role(cx);
        // Those who serve one stripe together must not all think that the others do.
        let goes = cx.rng.random_range(0..3) == 0;
        if let Some(stripe) =
            expendable.filter(|stripe| goes || self.trees[stripe.index()].used() == 0)
        {
            self.give_up(cx, stripe);
            self.update_reports(cx);
            return;
        }
        let may_move =
            |idle: &Idle| idle.role.is_none_or(|role| self.told_spare(role) >= idle.slots);
        let trees = cx.local.roles.iter().map(|stripe| &self.trees[stripe.index()]);
        let below = trees.flat_map(|tree| {
            let idle = tree.committed().flat_map(|child| child.idle.iter());
            idle.map(|idle| (tree.stripe, *idle))
        });
        let relief = below.filter(|(_, idle)| may_move(idle));
        if let Some((stripe, idle)) = relief.min_by_key(|(_, idle)| (idle.children, idle.peer)) {
            self.pass_on_adopt(cx, stripe, idle.peer, false);
        }
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
        if cx.local.roles.len() <= cx.local.max_roles(self.population) {
            // Whichever is left is the primary one.
            self.second = None;
        }
    }
}
