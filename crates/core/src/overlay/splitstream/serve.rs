//! Taking children and moving them: ATTACH, push-down, and what a change of capacity costs.
//!
//! The paper's rule is attach first, then reject (SOSP 2003, §4.3): a full parent takes a native
//! newcomer and lets go of a child in its stead. Departure: the child that must go is a leaf if there
//! is one, else the native farthest from the key, and it is told to go below the newcomer, which
//! comes before it and has room, so that no search follows.

use std::collections::btree_map::Entry;
use std::time::Duration;

use banyan_wire::{Contact, MAX_CANDIDATES, Message, PeerId, Reason, Start, StripeId};

use crate::Instant;
use crate::local::class_of;
use crate::overlay::splitstream::SplitStream;
use crate::overlay::tree::Request;
use crate::overlay::{Action, Context, Overlay, Tree};

/// Joiners in a row that do not come, after which it is believed that they cannot.
const NO_SHOWS: u32 = 2;
/// Between two looks for children that are dead.
const ROLL_CALL_INTERVAL: Duration = Duration::from_secs(2);
/// How long a free slot below counts as taken for somebody who was told of it: a connection, an ATTACH
/// and the report that it has come.
const PROMISED_FOR: Duration = Duration::from_millis(1500);
/// Silence after which a child is asked for a sign of life.
const SILENT_AFTER: Duration = Duration::from_millis(500);

/// A child that was asked for a sign of life, and has given none yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    /// When it is not counted on any more; `None` once that has passed.
    doubt_at: Option<Instant>,
    /// When it is taken for dead.
    dead_at: Instant,
}

impl Suspect {
    pub(super) fn next_at(&self) -> Instant {
        self.doubt_at.unwrap_or(self.dead_at).min(self.dead_at)
    }
}

impl SplitStream {
    /// A peer asks to be our child.
    pub(super) fn on_attach(
        &mut self,
        cx: &mut Context<'_>,
        stripe: StripeId,
        child: Contact,
        request: Request,
        start: Start,
        lost: Option<PeerId>,
    ) {
        self.suspect(cx, stripe, lost);
        let is_orphan = lost.is_some();
        let from = child.peer;
        if !self.can_serve(cx.local, stripe) {
            let reason =
                if cx.local.roles.contains(stripe) { Reason::Orphan } else { Reason::RoleChange };
            let candidates = self.way_up(cx, stripe);
            cx.send(from, Message::Redirect { stripe, reason, candidates });
            return;
        }
        let is_native = child.roles.contains(stripe);
        if self.tree(stripe).is_parent(&from) || (is_native && !cx.local.is_above(&child, stripe)) {
            let candidates = self.way_up(cx, stripe);
            cx.send(from, Message::Redirect { stripe, reason: Reason::Loop, candidates });
            return;
        }
        if request.within.is_some_and(|within| !self.is_shorter_way(cx, stripe, &child, within)) {
            // It has a parent: no room is made for it, and none is looked for.
            let (reason, candidates) = (Reason::Full, Vec::new());
            cx.send(from, Message::Redirect { stripe, reason, candidates });
            return;
        }
        if self.trees[stripe.index()].reserved.contains_key(&from) {
            self.no_shows = 0;
        }
        let tree = &self.trees[stripe.index()];
        let has_place = tree.children.get(&from).is_some_and(|child| child.leaves_by.is_none())
            || tree.reserved.contains_key(&from);
        if !has_place && self.free_here(cx.local, cx.config, stripe) == 0 {
            let victim = if is_native {
                self.victim(cx, stripe, &child, is_orphan)
            } else {
                let yielding = self.yielding_child(stripe).filter(|_| request.is_entitled);
                yielding.or_else(|| self.late_child(stripe).filter(|_| is_orphan))
            };
            let Some(victim) = victim else {
                self.call_roll(cx);
                let candidates = self.room_elsewhere(cx, stripe, &from);
                cx.send(from, Message::Redirect { stripe, reason: Reason::Full, candidates });
                return;
            };
            let candidates = if is_native {
                // The newcomer has room below it, and its old place may be free.
                let mut candidates = vec![child.clone()];
                candidates.extend(self.slot_to_tell_of(cx, stripe, &[victim]));
                candidates.extend(self.way_up(cx, stripe));
                candidates
            } else {
                Vec::new()
            };
            self.note_loss(cx, stripe, &victim);
            self.tree(stripe).hand_over(cx, victim, Reason::Replaced, candidates);
        }
        let report = self.implied(cx.local, &child, stripe, request);
        let standing = self.standing(cx, stripe);
        let before =
            self.trees[stripe.index()].children.get(&from).map_or(0, |child| child.report.slots);
        self.shortages[stripe.index()].ledger.account(cx.now, &child, before, report.slots);
        let levelled = self.leveller(cx, stripe, before, &report.movable);
        // What is to go at once is not served what is past.
        let start = if levelled.is_some() { (cx.resume)(stripe) } else { start };
        self.tree(stripe).take_child(cx, child, report, start, standing);
        if cx.local.is_source {
            self.shortages[stripe.index()].served(&from);
        }
        if let Some((role, idle)) = levelled {
            self.ask_to_serve(cx, stripe, role, &idle, false);
        }
        self.update_reports(cx);
    }

    /// Somebody lost `lost` and takes it for dead. If it is our child, no JOIN is handed to it any
    /// more, and it is asked for a sign of life: a dead child would hold its slot, and swallow what
    /// is sent after its free ones, until the transport notices.
    pub(super) fn suspect(&mut self, cx: &mut Context<'_>, stripe: StripeId, lost: Option<PeerId>) {
        let Some(lost) = lost else { return };
        let Some(child) = self.tree(stripe).children.get_mut(&lost) else { return };
        child.is_doubted = true;
        let patience = cx.links.patience(cx.config.probe_timeout);
        self.ask_for_sign(cx, stripe, lost, cx.links.grace(), patience);
    }

    /// Asks a child for a sign of life. If none comes within the round trip and `grace`, it is not
    /// counted on; if none within `patience`, it is forgotten.
    fn ask_for_sign(
        &mut self,
        cx: &mut Context<'_>,
        stripe: StripeId,
        child: PeerId,
        grace: Duration,
        patience: Duration,
    ) {
        if let Entry::Vacant(suspect) = self.suspects.entry(child) {
            let answer_at = cx.now + cx.links.rtt(&child);
            let doubt_at = Some(answer_at + grace);
            suspect.insert(Suspect { doubt_at, dead_at: answer_at + patience });
            cx.send(child, Message::Probe { stripe });
        }
    }

    /// A child that has not given the sign of life it was asked for: an orphan gets its place.
    pub(super) fn late_child(&self, stripe: StripeId) -> Option<PeerId> {
        let mut children = self.trees[stripe.index()].committed();
        children.find(|child| self.is_late(&child.contact.peer)).map(|child| child.contact.peer)
    }

    fn is_late(&self, child: &PeerId) -> bool {
        self.suspects.get(child).is_some_and(|suspect| suspect.doubt_at.is_none())
    }

    /// Whether a child has yet to give the sign of life it was asked for.
    pub(super) fn has_suspect(&self, stripe: StripeId) -> bool {
        let tree = &self.trees[stripe.index()];
        tree.committed().any(|child| self.suspects.contains_key(&child.contact.peer))
    }

    /// Children that have not given the sign of life they were asked for: the late are not counted
    /// on, the very late are dead.
    pub(super) fn judge_suspects(&mut self, cx: &mut Context<'_>) {
        let (mut late, mut dead) = (Vec::new(), Vec::new());
        for (peer, suspect) in &mut self.suspects {
            if suspect.dead_at <= cx.now {
                dead.push(*peer);
            } else if suspect.doubt_at.is_some_and(|at| at <= cx.now) {
                suspect.doubt_at = None;
                late.push(*peer);
                doubt(&mut self.trees, peer, true);
            }
        }
        for peer in late {
            for stripe in cx.local.stripes.iter() {
                if self.trees[stripe.index()].children.contains_key(&peer) {
                    self.serve_parked_native(cx, stripe);
                }
            }
        }
        for peer in dead {
            cx.view.remove(&peer);
            self.part_with(cx, &peer);
            self.on_peer_gone(cx, peer);
        }
    }

    /// A peer is taken for dead and forgotten in all trees. It may only be late: it is told, so that it
    /// does not count on us for ever.
    pub(super) fn part_with(&mut self, cx: &mut Context<'_>, peer: &PeerId) {
        for stripe in cx.local.stripes.iter() {
            if self.trees[stripe.index()].is_parent(peer) {
                cx.send(*peer, Message::Detach { stripe });
            }
            self.note_loss(cx, stripe, peer);
            if self.tree(stripe).drop_child(cx, peer) {
                let (reason, candidates) = (Reason::Orphan, Vec::new());
                cx.send(*peer, Message::Redirect { stripe, reason, candidates });
            }
        }
    }

    /// A child gave a sign of life.
    pub(super) fn clear(&mut self, peer: &PeerId) {
        if self.suspects.remove(peer).is_some() {
            doubt(&mut self.trees, peer, false);
        }
    }

    /// Where several joiners in a row were told to come and did not, they cannot dial us: we dial
    /// them from then on. If that does not help, and nobody else is served either, the slots we report
    /// are none.
    pub(super) fn doubt_reach(&mut self, cx: &mut Context<'_>) {
        self.dials_joiners |= self.no_shows >= NO_SHOWS;
        let is_alone = self.trees.iter().all(|tree| tree.children.is_empty());
        if self.no_shows >= 2 * NO_SHOWS && is_alone && !cx.local.is_source {
            self.no_shows = 0;
            cx.actions.push(Action::Unreachable);
        }
    }

    /// Somebody needs a slot here, and there is none: children that have been silent for a while are
    /// asked for a sign of life, all of them at most once in [`ROLL_CALL_INTERVAL`]. After a mass death
    /// a slot in four may be held by the dead, until the transport notices.
    pub(super) fn call_roll(&mut self, cx: &mut Context<'_>) {
        if cx.now < self.roll_call_at {
            return;
        }
        self.roll_call_at = cx.now + ROLL_CALL_INTERVAL;
        let is_silent =
            |peer: &PeerId| cx.links.heard_at(peer).unwrap_or_default() + SILENT_AFTER <= cx.now;
        let children = self
            .trees
            .iter()
            .flat_map(|tree| tree.committed().map(|child| (tree.stripe, child.contact.peer)));
        let silent: Vec<_> = children.filter(|(_, peer)| is_silent(peer)).collect();
        for (stripe, peer) in silent {
            // It may only be busy: nobody misses it yet.
            let patience = cx.links.patience(cx.config.probe_timeout);
            self.ask_for_sign(cx, stripe, peer, patience, patience * 2);
        }
    }

    /// The child that makes room for a native newcomer, if any: one that may be dead, a leaf, or the
    /// last native in the order if the newcomer comes before it.
    pub(super) fn victim(
        &self,
        cx: &Context<'_>,
        stripe: StripeId,
        newcomer: &Contact,
        is_orphan: bool,
    ) -> Option<PeerId> {
        if newcomer.capacity == 0 {
            return None;
        }
        if let Some(late) = self.late_child(stripe).filter(|_| is_orphan) {
            return Some(late);
        }
        if let Some(leaf) = self.leaf(stripe) {
            return Some(leaf);
        }
        let tree = &self.trees[stripe.index()];
        let rank = |contact| cx.local.order.rank_of(contact, stripe);
        let last = tree.committed().max_by_key(|child| rank(&child.contact))?;
        (rank(newcomer) < rank(&last.contact)).then_some(last.contact.peer)
    }

    /// A leaf here: it gives way to a native.
    pub(super) fn leaf(&self, stripe: StripeId) -> Option<PeerId> {
        let mut children = self.trees[stripe.index()].committed();
        let leaf = children.find(|child| !child.contact.roles.contains(stripe));
        leaf.map(|child| child.contact.peer)
    }

    /// A leaf here that has more stripes than it is owed.
    pub(super) fn yielding_child(&self, stripe: StripeId) -> Option<PeerId> {
        let tree = &self.trees[stripe.index()];
        let yielding = tree
            .committed()
            .filter(|child| !child.contact.roles.contains(stripe) && child.report.yielding > 0);
        yielding
            .min_by_key(|child| (child.contact.capacity, child.contact.peer))
            .map(|c| c.contact.peer)
    }

    /// Whom a leaf may ask that found no room here: children with free slots below them, then our
    /// parent.
    fn room_elsewhere(
        &mut self,
        cx: &Context<'_>,
        stripe: StripeId,
        asker: &PeerId,
    ) -> Vec<Contact> {
        let mut candidates: Vec<Contact> = Vec::new();
        while candidates.len() < 2 {
            let mut visited: Vec<PeerId> = candidates.iter().map(|contact| contact.peer).collect();
            visited.push(*asker);
            match self.slot_to_tell_of(cx, stripe, &visited) {
                Some(child) => candidates.push(child),
                None => break,
            }
        }
        if candidates.is_empty() && !cx.local.is_source {
            candidates = self.way_up(cx, stripe);
        }
        candidates
    }

    /// A child with a free slot below it that somebody may take who is told of it.
    fn slot_to_tell_of(
        &mut self,
        cx: &Context<'_>,
        stripe: StripeId,
        visited: &[PeerId],
    ) -> Option<Contact> {
        let until = cx.now + PROMISED_FOR;
        self.claim_slot_below(stripe, visited, |child| child.promise(until))
    }

    /// Our own parent and grandparent: who may take our children when we cannot.
    pub(super) fn way_up(&self, cx: &Context<'_>, stripe: StripeId) -> Vec<Contact> {
        let parent = self.trees[stripe.index()].parent.as_ref();
        let grandparent = parent.and_then(|parent| parent.standing.grandparent.clone());
        let mut up: Vec<Contact> =
            parent.map(|parent| parent.contact.clone()).into_iter().collect();
        up.extend(grandparent);
        if up.is_empty() {
            up.extend(cx.view.source().cloned());
        }
        up.truncate(MAX_CANDIDATES);
        up
    }

    /// The class follows the capacity while nobody hangs below us: edges were made by it.
    pub(super) fn update_class(&mut self, cx: &mut Context<'_>) {
        let class = if cx.config.forest.capacity_order { class_of(cx.local.capacity) } else { 0 };
        let is_free = |tree: &Tree| tree.children.is_empty() && tree.reserved.is_empty();
        if class == cx.local.class || !self.trees.iter().all(is_free) {
            return;
        }
        cx.local.class = class;
        cx.view.set_own(cx.local.roles, class);
        cx.actions.push(Action::Announce);
        for stripe in cx.local.roles.iter() {
            let parent = self.trees[stripe.index()].parent.as_ref();
            if parent.is_some_and(|parent| !cx.local.is_below(&parent.contact, stripe)) {
                self.tree(stripe).reset_search();
                self.seek(cx, stripe);
            }
        }
    }

    /// Our capacity changed: children beyond it are handed over, leaves first; a peer with none
    /// gives up its roles, one that has some again takes its first.
    pub(super) fn adjust_to_capacity(&mut self, cx: &mut Context<'_>) {
        for tree in &mut self.trees {
            tree.reserved.clear();
        }
        let mut excess = self.used().saturating_sub(cx.local.capacity);
        for stripe in cx.local.stripes.iter() {
            if excess == 0 {
                break;
            }
            let up = self.way_up(cx, stripe);
            let tree = self.tree(stripe);
            let mut peers: Vec<(bool, PeerId)> = tree
                .committed()
                .map(|child| (child.contact.roles.contains(stripe), child.contact.peer))
                .collect();
            peers.sort_unstable();
            for (_, peer) in peers {
                if excess == 0 {
                    break;
                }
                tree.hand_over(cx, peer, Reason::Full, up.clone());
                excess -= 1;
            }
        }
        if cx.local.is_source {
            return;
        }
        self.update_class(cx);
        if cx.local.capacity == 0 {
            self.set_roles(cx, banyan_wire::Roles::NONE);
        } else if cx.local.roles.is_empty() {
            let first = cx.local.first_role();
            self.adopt(cx, first);
        }
    }
}

/// Whether to count on `peer`, in whatever tree it is a child.
fn doubt(trees: &mut [Tree], peer: &PeerId, is_doubted: bool) {
    for child in trees.iter_mut().filter_map(|tree| tree.children.get_mut(peer)) {
        child.is_doubted = is_doubted;
    }
}
