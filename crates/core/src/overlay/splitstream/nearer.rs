//! Shorter ways: a peer that is at rest moves to a native that brings a stripe sooner.
//!
//! ```text
//!   the delay of a stripe here = its parent's, as that says, and half a round trip to it
//!
//!   child ── ATTACH, within so many ms ─▶ a native that is clearly nearer than the parent
//!         ◀─ ACCEPT: a slot is free, and its own delay is within that
//!         ◀─ REDIRECT: no, and nothing else follows; it is not asked again for a while
//! ```
//!
//! A native does the same in its own tree, with those that come before it; all below it gain, so a
//! native looks there first, and a leaf gives way to it as to any native.
//!
//! The tree that is left has a free slot for the one that was taken, so supply is what it was.
//!
//! Decides when whom to ask, and who is taken so. How edges change is left to
//! [`tree`](crate::overlay::tree).

use std::time::Duration;

use banyan_wire::{Contact, PeerId, StripeId};

use crate::Instant;
use crate::overlay::Context;
use crate::overlay::splitstream::{SplitStream, is_resting};
use crate::overlay::tree::Request;

/// How much sooner a stripe must come to be worth a move.
const WORTH: Duration = Duration::from_millis(10);
/// And which part of the last hop's round trip must be saved: one in so many.
const PART: u32 = 3;
/// Of how many peers the tree must have a slot free for one.
const PLENTY: u32 = 16;
/// Looks for better places that are left out after a native said no, at most. After each no they are
/// twice as many.
const MAX_LEFT_OUT: u32 = 8;
/// How long a native that said no is not asked again. Its children come and go in minutes.
const TURNED_DOWN_FOR: Duration = Duration::from_secs(60);
/// Natives that said no of whom that is remembered. At the limit the oldest is forgotten.
const MAX_TURNED_DOWN: usize = 128;

/// A move that would shorten a way.
struct Move {
    stripe: StripeId,
    to: Contact,
    /// Round trip saved on the last hop.
    saved: Duration,
    /// The longest delay the new parent may have, in milliseconds.
    within: u32,
}

impl SplitStream {
    /// Asks for one shorter way, if all is at rest and there may be one.
    pub(super) fn look_nearer(&mut self, cx: &mut Context<'_>) {
        let is_settled = self.has_joined && self.trees.iter().all(is_resting);
        if !cx.config.forest.proximity || !is_settled {
            return;
        }
        self.looks_left_out = self.looks_left_out.saturating_sub(1);
        if self.looks_left_out > 0 {
            return;
        }
        self.turned_down.retain(|(_, until)| *until > cx.now);
        let native = cx.local.roles.iter().find_map(|stripe| self.shorter_way(cx, stripe));
        let leaves = cx.local.wanted.iter().filter(|stripe| !cx.local.roles.contains(*stripe));
        let leaf = || {
            let ways = leaves.filter_map(|stripe| self.shorter_way(cx, stripe));
            ways.max_by_key(|way| way.saved)
        };
        let Some(best) = native.or_else(leaf) else { return };
        let request = Request { within: Some(best.within), ..self.request(cx, best.stripe) };
        let tree = self.tree(best.stripe);
        tree.reset_search();
        tree.attach(cx, request, [best.to]);
    }

    /// The nearest native of `stripe`, if it is clearly nearer than our parent.
    fn shorter_way(&self, cx: &Context<'_>, stripe: StripeId) -> Option<Move> {
        let tree = &self.trees[stripe.index()];
        let parent = tree.parent.as_ref().filter(|parent| !parent.is_over)?;
        if parent.contact.is_source || parent.standing.is_orphan || !self.has_plenty(stripe) {
            return None;
        }
        let is_ordered = self.is_ordered(cx.local, stripe);
        let far = cx.links.distance(&parent.contact.peer)?;
        let is_new = |contact: &&Contact| {
            contact.peer != parent.contact.peer
                && !tree.children.contains_key(&contact.peer)
                && (!is_ordered || cx.local.is_below(contact, stripe))
                && !self.turned_down.iter().any(|(peer, _)| *peer == contact.peer)
        };
        let to = cx.view.natives(stripe).into_iter().find(is_new)?;
        let near = cx.distance(to)?;
        let saved = far.checked_sub(near)?;
        if saved < WORTH * 2 || saved < far / PART {
            return None;
        }
        let ours = Duration::from_millis(u64::from(parent.standing.delay)) + far / 2;
        let within = ours.checked_sub(near / 2 + WORTH)?;
        let within = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        Some(Move { stripe, to: to.clone(), saved, within })
    }

    /// Whether the tree has slots to spare: a move takes one before it leaves another, and who has no
    /// parent at all goes first.
    fn has_plenty(&self, stripe: StripeId) -> bool {
        self.told_spare(stripe) > self.population / PLENTY
    }

    /// Whether `child` may come that has a parent, if our delay is within what it says.
    pub(super) fn is_shorter_way(
        &self,
        cx: &Context<'_>,
        stripe: StripeId,
        child: &Contact,
        within: u32,
    ) -> bool {
        let tree = &self.trees[stripe.index()];
        let has_room = self.free_here(cx.local, cx.config, stripe) > 0
            || (child.roles.contains(stripe) && child.capacity > 0 && self.leaf(stripe).is_some());
        (cx.local.is_source || tree.is_rooted())
            && has_room
            && self.parked(stripe) == 0
            && tree.delay(cx) <= within
    }

    /// A native that was asked for a shorter way said no, or nothing: the parent we have does.
    /// Returns whether that is what it was asked for.
    pub(super) fn on_turned_down(&mut self, now: Instant, stripe: StripeId, by: &PeerId) -> bool {
        if !self.trees[stripe.index()].is_content() {
            return false;
        }
        if self.turned_down.len() >= MAX_TURNED_DOWN {
            self.turned_down.remove(0);
        }
        self.turned_down.push((*by, now + TURNED_DOWN_FOR));
        self.tree(stripe).stop_searching();
        self.patience = (self.patience * 2).clamp(1, MAX_LEFT_OUT);
        self.looks_left_out = self.patience;
        true
    }
}
