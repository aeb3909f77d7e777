//! Who serves which stripe: the first role, taking another, giving one up.
//!
//! Every peer begins with the digit of its Kademlia key. Random digits leave some stripes short (at
//! 16 × 16 and N = 100 by 16 % of their edges; splitstream.md §2.5), so a stripe that has run out of
//! slots is given a new native. The source sees that first, being the root of every tree, and
//! appoints one at a time: the joiner that found no slot, if it is idle, else an idle peer of the
//! tree. Idle is who may have another primary stripe, or has one that can be given up: without
//! children, or with a few that find room elsewhere in a tree with slots to spare. (SAAR gives newcomers the stripe with the least supply; this
//! does so only where supply has run out, so that most peers keep their first role.)

use std::time::Duration;

use banyan_wire::{Contact, Message, PeerId, Reason, Roles, StripeId};
use rand::RngExt;

use crate::Event;
use crate::overlay::splitstream::{SplitStream, is_in_order};
use crate::overlay::{Action, Context};

/// How long a role without children is kept before it may be exchanged for another: long enough
/// for the children it was taken for to come.
const ROLE_HOLD: Duration = Duration::from_secs(2);
/// Longest wait before a role too many is given up; drawn at random, so that stripes do not lose
/// all their natives at once.
const SHED_JITTER: Duration = Duration::from_millis(600);

impl SplitStream {
    /// Whether this peer could take `stripe` as a primary one.
    pub(super) fn is_idle(&self, cx: &Context<'_>, stripe: StripeId) -> bool {
        if cx.local.is_source || cx.local.roles.contains(stripe) {
            return false;
        }
        if cx.local.capacity <= self.used() {
            return false;
        }
        self.has_room_for_role(cx) || self.spare_role(cx).is_some()
    }

    fn has_room_for_role(&self, cx: &Context<'_>) -> bool {
        cx.local.roles.len() < cx.local.max_roles(self.population)
    }

    /// A role that can be given up without loss, held for a while: one without children, or one
    /// whose few children find room elsewhere in its tree.
    fn spare_role(&self, cx: &Context<'_>) -> Option<StripeId> {
        if self.held_until.is_some() {
            return None;
        }
        let free = cx.local.capacity.saturating_sub(self.used());
        let is_expendable = |stripe: &StripeId| {
            let tree = &self.trees[stripe.index()];
            let spare = tree.parent.as_ref().map_or(0, |parent| parent.standing.spare);
            tree.used() == 0 || spare > free.saturating_add(tree.used())
        };
        let used = |stripe: &StripeId| self.trees[stripe.index()].used();
        cx.local.roles.iter().filter(is_expendable).min_by_key(used)
    }

    pub(super) fn set_roles(&mut self, cx: &mut Context<'_>, roles: Roles) {
        if roles == cx.local.roles {
            return;
        }
        cx.local.roles = roles;
        cx.view.set_own_roles(roles);
        cx.actions.push(Action::Announce);
        cx.emit(Event::Roles(roles));
    }

    /// Takes `stripe` as a primary one, giving up a spare role where the bound asks for it.
    pub(super) fn adopt(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        if !self.has_room_for_role(cx) {
            let Some(spare) = self.spare_role(cx) else { return };
            self.give_up(cx, spare);
        }
        let mut roles = cx.local.roles;
        roles.insert(stripe);
        self.set_roles(cx, roles);
        self.held_until = Some(cx.now + ROLE_HOLD);
        let parent = self.tree(stripe).parent.as_ref().map(|parent| parent.contact.clone());
        let stays = parent.filter(|parent| is_in_order(cx.local, parent, &cx.local.peer, stripe));
        self.tree(stripe).reset_search();
        match stays {
            // The announcement tells it that we are native now.
            Some(_) => self.tell_children(cx, stripe),
            None => self.seek(cx, stripe),
        }
        self.update_reports(cx);
    }

    /// At the source: asks somebody idle in the tree to serve `stripe`. Returns whether there was
    /// anybody to ask.
    pub(super) fn appoint(&mut self, cx: &mut Context<'_>, stripe: StripeId) -> bool {
        let tree = &self.trees[stripe.index()];
        let candidates: Vec<(PeerId, PeerId)> = tree
            .committed()
            .flat_map(|child| child.idle.iter().map(|idle| (child.contact.peer, *idle)))
            .collect();
        if candidates.is_empty() {
            return false;
        }
        let (child, peer) = candidates[cx.rng.random_range(0..candidates.len())];
        cx.send(child, Message::Adopt { stripe, peer });
        true
    }

    /// An appointment comes down the tree: ours, or to be passed on.
    pub(super) fn on_adopt(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        stripe: StripeId,
        peer: PeerId,
    ) {
        if !self.tree(stripe).is_parent(&from) {
            return;
        }
        if peer == cx.local.peer {
            if self.is_idle(cx, stripe) {
                self.adopt(cx, stripe);
            }
            return;
        }
        let below = self.tree(stripe).committed().find(|child| child.idle.contains(&peer));
        if let Some(child) = below.map(|child| child.contact.peer) {
            cx.send(child, Message::Adopt { stripe, peer });
        }
    }

    /// The bound on roles may have changed with the population.
    pub(super) fn update_shedding(&mut self, cx: &mut Context<'_>) {
        let bound = cx.local.max_roles(self.population);
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
        if cx.local.roles.len() <= cx.local.max_roles(self.population) {
            return;
        }
        let children = |stripe: &StripeId| self.trees[stripe.index()].children.len();
        let Some(stripe) = cx.local.roles.iter().min_by_key(children) else { return };
        self.give_up(cx, stripe);
        self.update_shedding(cx);
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
