//! SplitStream: K trees, each peer interior in one of them.
//!
//! Follows Castro et al., "SplitStream: high-bandwidth multicast in cooperative environments"
//! (SOSP 2003): stripe keys that differ in their first digit, Scribe-style JOINs that are routed
//! towards the key and intercepted by the first peer that can help, push-down where a parent is
//! full. Departures, with reasons:
//!
//! - **Only natives have children.** A peer serves a stripe only if it is a primary one of its, so
//!   disjointness holds by construction and no foreign edge needs a loop check. The paper lets
//!   spare capacity serve any stripe; half of its edges are such (splitstream.md §3.1).
//! - **Heap order instead of prefixes.** A native's parent is of a higher capacity class than itself,
//!   or of the same and closer to the stripe key (`Rank`); push-down keeps that order, so native
//!   edges cannot close a loop, without path vectors, and the strong are near the root.
//! - **Free slots are counted up the tree** instead of searched for by depth-first anycast.
//! - **Roles change.** A stripe that has run out of slots is given a new native: a joiner, or a
//!   peer whose own stripe can spare it, which then serves that stripe instead of its first one.
//! - **Natives move up** where a leaf, or nobody, has a place above their parent.
//!
//! Decides roles and edges. This file has the state and what happens over time; the paths of JOINs
//! are in `join`, taking and moving children in `serve`, what parents and children tell each other
//! in `account`, who serves which stripe in `roles`, and who is asked to in `supply`.

mod account;
mod join;
mod ledger;
mod nearer;
mod roles;
mod serve;
mod supply;

use std::collections::BTreeMap;
use std::mem;

use banyan_wire::{Contact, Message, PeerId, Reason, Roles, Standing, StripeCount, StripeId};
use rand::RngExt;

use crate::local::{Local, share};
use crate::overlay::splitstream::account::Told;
use crate::overlay::splitstream::join::Join;
use crate::overlay::splitstream::roles::Appointment;
use crate::overlay::splitstream::serve::Suspect;
use crate::overlay::splitstream::supply::Shortage;
use crate::overlay::tree::{Accepted, Request, Search};
use crate::overlay::{Context, Overlay, Tree};
use crate::watch::Silence;
use crate::{Config, Event, Instant, Violation};

/// Natives kept ready as parents.
const STANDBY: usize = 4;

/// Peers without room after which a JOIN is sent, by whoever has lost its parent.
const MAX_REFUSALS: u32 = 2;

/// The policy's state.
#[derive(Debug)]
pub(crate) struct SplitStream {
    trees: Vec<Tree>,
    told: Vec<Told>,
    population: u32,
    /// At the source: when so many peers were last counted, if ever.
    populated_at: Option<Instant>,
    has_joined: bool,
    /// Until when no role is exchanged for another; `None` once that has passed.
    held_until: Option<Instant>,
    /// The stripe to take as a primary one when the last child of the one given up is gone.
    vacating_for: Option<StripeId>,
    /// When roles beyond the bound are looked at; `None` while there are none.
    review_at: Option<Instant>,
    /// At the source: for each stripe, the free slots its peers were told of.
    spare: Vec<u32>,
    /// At the source: for each stripe, who waits for a slot.
    shortages: Vec<Shortage>,
    /// At the source: who was appointed, and until when nothing need be heard of it.
    appointed: Vec<(PeerId, Instant)>,
    /// At the source: those among them whose move cost many others', and until when.
    costly: Vec<(PeerId, Instant)>,
    /// At the source: stripes in which it takes one child more than usual.
    extended: Roles,
    /// At the source: when slots that are lacking are looked for again.
    supply_at: Option<Instant>,
    /// When better places are looked for next.
    improve_at: Option<Instant>,
    nonce: u32,
    /// Children that were asked for a sign of life.
    suspects: BTreeMap<PeerId, Suspect>,
    /// Joiners that were told to come and did not, since one last came.
    no_shows: u32,
    /// Whether joiners are dialled that are told to come, because some could not dial us.
    dials_joiners: bool,
    /// When children may be asked for a sign of life again.
    roll_call_at: Instant,
    /// Natives that were asked for a shorter way and said no, and until when they are not asked again.
    turned_down: Vec<(PeerId, Instant)>,
    /// Looks for a shorter way to leave out after the next no, and those to be left out still.
    patience: u32,
    looks_left_out: u32,
}

impl SplitStream {
    pub(crate) fn new(stripes: StripeCount) -> Self {
        Self {
            trees: stripes.iter().map(Tree::new).collect(),
            told: stripes.iter().map(|_| Told::default()).collect(),
            // Until somebody says otherwise: enough for one role each.
            population: u32::from(stripes.value()),
            populated_at: None,
            has_joined: false,
            held_until: None,
            vacating_for: None,
            review_at: None,
            spare: vec![0; stripes.len()],
            shortages: stripes.iter().map(|_| Shortage::default()).collect(),
            appointed: Vec::new(),
            costly: Vec::new(),
            extended: Roles::NONE,
            supply_at: None,
            improve_at: None,
            nonce: 0,
            suspects: BTreeMap::new(),
            no_shows: 0,
            dials_joiners: false,
            roll_call_at: Instant::ZERO,
            turned_down: Vec::new(),
            patience: 0,
            looks_left_out: 0,
        }
    }

    fn tree(&mut self, stripe: StripeId) -> &mut Tree {
        &mut self.trees[stripe.index()]
    }

    /// Slots in use over all trees.
    fn used(&self) -> u32 {
        self.trees.iter().fold(0, |sum, tree| sum.saturating_add(tree.used()))
    }

    /// Slots free for `stripe` at this peer itself.
    fn free_here(&self, local: &Local, config: &Config, stripe: StripeId) -> u32 {
        let free = local.capacity.saturating_sub(self.used());
        if local.is_source {
            let used = self.trees[stripe.index()].used();
            let share = (local.capacity / u32::from(local.stripes.value())).max(1);
            let extra = u32::from(self.extended.contains(stripe));
            free.min((config.source_fanout.min(share) + extra).saturating_sub(used))
        } else {
            free
        }
    }

    /// Whether this peer may have children in `stripe`: the source always, others as natives that
    /// hang in the tree in heap order, or not yet: whoever joins them then waits with them.
    fn can_serve(&self, local: &Local, stripe: StripeId) -> bool {
        if local.is_source {
            return true;
        }
        local.roles.contains(stripe)
            && self.trees[stripe.index()]
                .parent
                .as_ref()
                .is_none_or(|parent| local.is_below(&parent.contact, stripe))
    }

    /// Whether only a parent that comes before us may be ours in `stripe`: as long as we are native,
    /// and while anybody is served by us still, who may be on the way from there to the root.
    fn is_ordered(&self, local: &Local, stripe: StripeId) -> bool {
        local.roles.contains(stripe) || !self.trees[stripe.index()].children.is_empty()
    }

    /// Stripes with a parent.
    fn held(&self) -> u32 {
        let held = self.trees.iter().filter(|tree| tree.parent.is_some()).count();
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    /// A parent told its standing: the source may have counted the audience anew.
    fn on_standing(&mut self, cx: &mut Context<'_>) {
        let parents = self.trees.iter().filter_map(|tree| tree.parent.as_ref());
        let population = parents.map(|parent| parent.standing.population).max().unwrap_or(0);
        if population == 0 || population == self.population {
            return;
        }
        self.population = population;
        self.watch_excess(cx);
        // What was refused for want of a role may be granted now.
        for tree in self.trees.iter_mut().filter(|tree| tree.parent.is_none()) {
            if let Search::Resting { retry_at: Some(at) } = &mut tree.search {
                *at = (*at).min(cx.now + cx.config.retry_delay);
                tree.attempts = 0;
            }
        }
    }

    // ---- Parents ----------------------------------------------------------------------------

    fn on_accept(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        stripe: StripeId,
        standing: Standing,
    ) {
        if !self.is_fit(cx, from, stripe, &standing) {
            cx.send(from, Message::Detach { stripe });
            if self.tree(stripe).is_asking(&from) {
                self.on_no_answer(cx, stripe, from);
            }
            return;
        }
        if self.tree(stripe).is_content() {
            self.patience = 0;
        }
        match self.tree(stripe).on_accept(cx, from, standing) {
            Accepted::Unwanted => return,
            // It has forgotten what we reported.
            Accepted::Again => self.begin_account(cx, stripe),
            Accepted::New => {
                self.begin_account(cx, stripe);
                self.serve_parked(cx, stripe);
            }
        }
        self.on_standing(cx);
        self.tell_children(cx, stripe);
        if !self.has_joined && self.held() >= cx.local.wanted.len() {
            self.has_joined = true;
            cx.emit(Event::Joined { stripes: cx.local.stripes.value(), roles: cx.local.roles });
        }
        self.update_reports(cx);
    }

    /// Whether `from`, which accepts us, may be our parent: we, or it, may have changed class since
    /// it was asked.
    fn is_fit(
        &self,
        cx: &Context<'_>,
        from: PeerId,
        stripe: StripeId,
        standing: &Standing,
    ) -> bool {
        if self.trees[stripe.index()].children.contains_key(&from) {
            // It has come to us since we asked it.
            return false;
        }
        let is_source = cx.view.source().is_some_and(|source| source.peer == from);
        is_source
            || !self.is_ordered(cx.local, stripe)
            || cx.local.order.rank(&from, standing.class, stripe) < cx.local.own_rank(stripe)
    }

    /// A candidate said no, or the parent wants to be rid of us.
    fn on_redirect(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        stripe: StripeId,
        reason: Reason,
        candidates: Vec<Contact>,
    ) {
        cx.view.hear_of(cx.now, candidates.iter().cloned());
        let is_parent = self.tree(stripe).is_parent(&from);
        let is_asked = self.tree(stripe).is_asking(&from);
        if is_asked {
            if self.on_turned_down(cx.now, stripe, &from) {
                return;
            }
            self.tree(stripe).stop_asking(&from);
            if is_parent && matches!(reason, Reason::Loop | Reason::RoleChange | Reason::Orphan) {
                self.lose_parent(cx, stripe);
                return;
            }
            if !matches!(self.tree(stripe).search, Search::Seeking { .. }) {
                self.on_refusal(cx, stripe, candidates);
            }
        } else if is_parent {
            let is_over = self.tree(stripe).parent.as_mut().map(|parent| &mut parent.is_over);
            let was_over = is_over.is_some_and(|is_over| mem::replace(is_over, true));
            // An orphan is nobody's child: it does not serve us.
            if was_over || reason == Reason::Orphan {
                self.lose_parent(cx, stripe);
                return;
            }
            // It goes on serving us until we have found another parent.
            self.tree(stripe).reset_search();
            self.tree(stripe).mark_tried(from);
            if !cx.config.forest.make_before_break {
                self.tree(stripe).lose_parent(cx);
                self.tell_children(cx, stripe);
            }
            self.attach_or_seek(cx, stripe, candidates);
        }
    }

    /// Whom we asked has no room. Where the next has none either, a JOIN finds what there is, and lets
    /// the source know if there is nothing.
    fn on_refusal(&mut self, cx: &mut Context<'_>, stripe: StripeId, candidates: Vec<Contact>) {
        let tree = self.tree(stripe);
        tree.refusals += 1;
        if tree.refusals >= MAX_REFUSALS && tree.is_orphaned() {
            self.seek(cx, stripe);
        } else {
            self.attach_or_seek(cx, stripe, candidates);
        }
    }

    /// Asks the first of `candidates` that may be our parent, or looks for another by JOIN.
    fn attach_or_seek(&mut self, cx: &mut Context<'_>, stripe: StripeId, candidates: Vec<Contact>) {
        if !cx.local.wanted.contains(stripe) {
            return;
        }
        let is_ordered = self.is_ordered(cx.local, stripe);
        let fits = |contact: &Contact| !is_ordered || cx.local.is_below(contact, stripe);
        let mut candidates: Vec<Contact> = candidates.into_iter().filter(fits).collect();
        // The source is for natives, and for those who have nobody.
        let has_time = self.trees[stripe.index()].parent.is_some() || candidates.len() > 1;
        if !is_ordered && has_time {
            candidates.retain(|contact| !contact.is_source);
        }
        let request = self.request(cx, stripe);
        if !self.tree(stripe).attach(cx, request, candidates) {
            self.seek(cx, stripe);
        }
    }

    /// The parent of `stripe` is gone: turn to the grandparent, then to other natives.
    fn lose_parent(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        let Some(lost) = self.tree(stripe).lose_parent(cx) else { return };
        self.tell_children(cx, stripe);
        self.tree(stripe).stop_asking(&lost.contact.peer);
        if self.tree(stripe).is_on_its_way() {
            // It had told us to go, and we are on our way.
            self.update_reports(cx);
            return;
        }
        self.tree(stripe).stop_searching();
        self.tree(stripe).mark_tried(lost.contact.peer);
        let candidates = self.successors(cx, stripe, lost.standing.grandparent);
        self.attach_or_seek(cx, stripe, candidates);
        self.update_reports(cx);
    }

    /// The parent may be dead: looks for another before that is certain.
    fn doubt_parent(&mut self, cx: &mut Context<'_>, stripe: StripeId, doubted: PeerId) {
        let tree = self.tree(stripe);
        if !cx.config.forest.make_before_break || !tree.is_parent(&doubted) || tree.is_on_its_way()
        {
            return;
        }
        let grandparent = tree.parent.as_ref().and_then(|p| p.standing.grandparent.clone());
        tree.reset_search();
        tree.mark_tried(doubted);
        tree.lost = Some(doubted);
        let candidates = self.successors(cx, stripe, grandparent);
        self.attach_or_seek(cx, stripe, candidates);
    }

    /// Where several parents do not answer, children may not either.
    fn fear_more(&mut self, cx: &mut Context<'_>) {
        let doubted = |tree: &Tree| tree.lost.filter(|lost| tree.is_parent(lost));
        let mut doubted = self.trees.iter().filter_map(doubted);
        let first = doubted.next();
        if doubted.any(|other| Some(other) != first) {
            self.call_roll(cx);
        }
    }

    /// Whom we turn to when the parent is lost: the grandparent, then other natives.
    fn successors(
        &self,
        cx: &Context<'_>,
        stripe: StripeId,
        grandparent: Option<Contact>,
    ) -> Vec<Contact> {
        if !cx.config.forest.standby {
            return Vec::new();
        }
        grandparent.into_iter().chain(self.standby(cx, stripe)).collect()
    }

    /// Natives of `stripe` that could be our parent, known before one is needed: those we are
    /// connected with first, because they are alive.
    fn standby(&self, cx: &Context<'_>, stripe: StripeId) -> Vec<Contact> {
        let is_ordered = self.is_ordered(cx.local, stripe);
        let natives = cx.view.natives(stripe).into_iter();
        let mut fit: Vec<&Contact> =
            natives.filter(|contact| !is_ordered || cx.local.is_below(contact, stripe)).collect();
        fit.sort_by_key(|contact| !cx.links.is_connected(&contact.peer));
        fit.into_iter().take(STANDBY).cloned().collect()
    }

    /// The search of `stripe` got no answer from `peer`.
    fn on_no_answer(&mut self, cx: &mut Context<'_>, stripe: StripeId, peer: PeerId) {
        if self.on_turned_down(cx.now, stripe, &peer) {
            return;
        }
        self.tree(stripe).mark_tried(peer);
        if self.tree(stripe).stop_asking(&peer) {
            self.attach_or_seek(cx, stripe, Vec::new());
        }
    }

    /// Looks for a better place: natives that hang below one that has a leaf, or nothing, in its
    /// stead above it, move up there.
    fn improve(&mut self, cx: &mut Context<'_>) {
        let interval = cx.config.improve_interval;
        let jitter = interval.mul_f64(0.5 * cx.rng.random::<f64>());
        self.improve_at = Some(cx.now + interval + jitter);
        self.update_class(cx);
        self.look_nearer(cx);
        for stripe in cx.local.roles.iter() {
            let tree = &self.trees[stripe.index()];
            let Some(parent) = &tree.parent else { continue };
            if !parent.standing.is_grandparent_open || !is_resting(tree) {
                continue;
            }
            let above = parent.standing.grandparent.clone();
            let Some(above) = above.filter(|above| cx.local.is_below(above, stripe)) else {
                continue;
            };
            // Not all of those below one peer at once.
            if cx.rng.random_range(0..2) == 0 {
                let request = self.request(cx, stripe);
                self.tree(stripe).reset_search();
                self.tree(stripe).attach(cx, request, [above]);
            }
        }
    }
}

/// What a child asks for. Until it reports, what a native brings is taken for granted, and that all of
/// it is free if it says that it has no children yet.
fn request_of(child: &Contact, stripe: StripeId, idle: Option<u32>, is_entitled: bool) -> Request {
    let is_native = child.roles.contains(stripe);
    let slots = if is_native { share(child.capacity, child.roles.len()) } else { 0 };
    let free = if idle == Some(0) { slots } else { 0 };
    Request { idle, is_entitled, slots: (slots, free), within: None }
}

fn is_resting(tree: &Tree) -> bool {
    matches!(tree.search, Search::Resting { retry_at: None })
}

impl Overlay for SplitStream {
    fn start(&mut self, cx: &mut Context<'_>) {
        if cx.local.is_source {
            return;
        }
        if cx.local.capacity > 0 && cx.local.roles.is_empty() {
            self.set_roles(cx, Roles::one(cx.local.first_role()));
        }
        self.update_class(cx);
        self.improve_at = Some(cx.now + cx.config.improve_interval);
        // The own stripe first: its supply is what others will look for.
        let natives = cx.local.roles;
        for stripe in natives.iter() {
            self.seek(cx, stripe);
        }
        for stripe in cx.local.wanted.iter().filter(|stripe| !natives.contains(*stripe)) {
            self.seek(cx, stripe);
        }
    }

    fn on_message(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        message: Message,
    ) -> Result<(), Violation> {
        match message {
            Message::Join(joins) => {
                for join in Join::each(joins) {
                    self.on_join(cx, from, join)?;
                }
            }
            Message::JoinFound { stripe, nonce, parent, path } => {
                self.on_join_found(cx, stripe, nonce, parent, path);
            }
            Message::JoinFailed { stripe, nonce, reason, path } => {
                self.on_join_failed(cx, from, stripe, nonce, reason, path);
            }
            Message::Attach { stripe, child, idle, start, lost, is_entitled, within } => {
                if child.peer != from {
                    return Err(Violation::Mismatch);
                }
                let request = request_of(&child, stripe, idle, is_entitled);
                let request = Request { within, ..request };
                self.on_attach(cx, stripe, child, request, start, lost);
            }
            Message::Accept { stripe, standing } => self.on_accept(cx, from, stripe, standing),
            Message::Redirect { stripe, reason, candidates } => {
                self.on_redirect(cx, from, stripe, reason, candidates);
            }
            Message::Detach { stripe } => {
                self.note_loss(cx, stripe, &from);
                self.tree(stripe).drop_child(cx, &from);
                self.finish_vacating(cx);
                self.update_reports(cx);
            }
            Message::Report(report) => self.on_report(cx, from, report),
            Message::Status { stripe, standing } => self.on_status(cx, from, stripe, standing),
            Message::Adopt { stripe, peer, role, is_second } => {
                if !cx.local.stripes.contains(role) {
                    return Err(Violation::Mismatch);
                }
                self.on_adopt(cx, from, stripe, Appointment { peer, role, is_second });
            }
            Message::Hello { .. }
            | Message::Goodbye { .. }
            | Message::Manifest(_)
            | Message::FindContacts { .. }
            | Message::Contacts { .. }
            | Message::Probe { .. }
            | Message::ProbeReply { .. }
            | Message::Header(_)
            | Message::Reception(_)
            | Message::Moved { .. }
            | Message::Chunk { .. } => {}
        }
        Ok(())
    }

    fn on_contact(&mut self, cx: &mut Context<'_>, contact: &Contact) {
        for stripe in cx.local.stripes.iter() {
            self.tree(stripe).on_child_contact(cx, contact);
            if contact.roles.contains(stripe) && !cx.local.is_above(contact, stripe) {
                // A leaf took the role and comes before us: it is on its way up already.
                self.tree(stripe).let_go(cx, &contact.peer);
            }
            let tree = self.tree(stripe);
            let Some(parent) = &mut tree.parent else { continue };
            if parent.contact.peer == contact.peer && !contact.is_source {
                let was_native = parent.contact.roles.contains(stripe);
                parent.contact = contact.clone();
                if was_native && !contact.roles.contains(stripe) {
                    // It will tell us as well; who hears first, acts.
                    tree.reset_search();
                    self.seek(cx, stripe);
                }
            }
        }
    }

    fn on_alive(&mut self, peer: PeerId) {
        self.clear(&peer);
        for tree in self.trees.iter_mut().filter(|tree| tree.is_parent(&peer)) {
            if tree.lost == Some(peer) {
                // It was doubted without cause.
                tree.lost = None;
                tree.stop_searching();
            }
        }
    }

    fn on_peer_gone(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        self.suspects.remove(&peer);
        for stripe in cx.local.stripes.iter() {
            self.note_loss(cx, stripe, &peer);
            self.tree(stripe).drop_child(cx, &peer);
            if self.tree(stripe).is_parent(&peer) {
                self.lose_parent(cx, stripe);
            }
        }
        self.on_unreachable(cx, peer);
        self.finish_vacating(cx);
        self.update_reports(cx);
    }

    fn on_unreachable(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        for stripe in cx.local.stripes.iter() {
            if self.tree(stripe).is_asking(&peer) {
                self.on_no_answer(cx, stripe, peer);
            }
        }
    }

    fn on_doubt(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        let Some(parent) = &self.trees[stripe.index()].parent else { return };
        let (lost, grandparent) = (parent.contact.peer, parent.standing.grandparent.clone());
        let is_ordered = self.is_ordered(cx.local, stripe);
        let successors = self.successors(cx, stripe, grandparent);
        let fits = |contact: &&Contact| contact.peer != lost && (is_ordered || !contact.is_source);
        // A connection is the longer part of what it takes to attach.
        if let Some(next) = successors.iter().find(fits) {
            cx.links.connect(next);
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
            Silence::Doubtful => {
                self.doubt_parent(cx, stripe, parent);
                self.fear_more(cx);
            }
            Silence::Dead => {
                cx.view.remove(&parent);
                // Whoever does not answer for one stripe is not asked for the others either, and
                // takes nothing.
                self.part_with(cx, &parent);
                for stripe in cx.local.stripes.iter() {
                    if self.tree(stripe).is_parent(&parent) {
                        self.lose_parent(cx, stripe);
                    }
                }
            }
            Silence::Starved => {
                cx.send(parent, Message::Detach { stripe });
                self.lose_parent(cx, stripe);
            }
        }
    }

    fn on_capacity(&mut self, cx: &mut Context<'_>) {
        self.adjust_to_capacity(cx);
        self.update_reports(cx);
    }

    fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        for stripe in cx.local.stripes.iter() {
            self.no_shows += self.tree(stripe).expire(cx);
            if self.tree(stripe).lapse(cx.now) {
                self.serve_parked(cx, stripe);
            }
            if matches!(self.tree(stripe).search, Search::Attaching(_)) {
                let request = self.request(cx, stripe);
                if self.tree(stripe).is_at_a_loss(cx.now) {
                    // A JOIN besides; what those who were asked say still counts.
                    self.seek(cx, stripe);
                }
                for silent in self.tree(stripe).hedge(cx, request) {
                    cx.view.on_failure(&silent);
                    self.on_no_answer(cx, stripe, silent);
                }
            }
            match &self.tree(stripe).search {
                Search::Resting { retry_at: Some(at) } if *at <= cx.now => self.seek(cx, stripe),
                Search::Seeking { hop, give_up_at, .. } if *give_up_at <= cx.now => {
                    let hop = *hop;
                    self.on_no_answer(cx, stripe, hop);
                }
                Search::Resting { .. } | Search::Seeking { .. } | Search::Attaching(_) => {}
            }
        }
        self.judge_suspects(cx);
        if self.held_until.is_some_and(|until| until <= cx.now) {
            self.held_until = None;
        }
        if self.review_at.is_some_and(|at| at <= cx.now) {
            self.review_roles(cx);
        }
        self.doubt_reach(cx);
        self.finish_vacating(cx);
        if self.supply_at.is_some_and(|at| at <= cx.now) {
            self.supply_all(cx);
        }
        self.expire_parked(cx);
        if self.improve_at.is_some_and(|at| at <= cx.now) {
            self.improve(cx);
        }
        self.update_reports(cx);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let trees = self.trees.iter().filter_map(Tree::poll_timeout);
        let reports = self.told.iter().filter_map(|told| told.due);
        let suspects = self.suspects.values().map(Suspect::next_at);
        let roles = self
            .review_at
            .into_iter()
            .chain(self.held_until)
            .chain(self.improve_at)
            .chain(self.parked_until())
            .chain(self.supply_at);
        trees.chain(reports).chain(suspects).chain(roles).min()
    }

    fn leave(&mut self, cx: &mut Context<'_>) {
        for stripe in cx.local.stripes.iter() {
            let up = self.way_up(cx, stripe);
            let tree = self.tree(stripe);
            let children: Vec<PeerId> = tree.children.keys().copied().collect();
            for child in children {
                tree.hand_over(cx, child, Reason::Leaving, up.clone());
            }
            if let Some(parent) = tree.parent.take() {
                cx.send(parent.contact.peer, Message::Detach { stripe });
            }
        }
    }

    fn trees(&self) -> &[Tree] {
        &self.trees
    }

    fn population(&self) -> u32 {
        self.population
    }

    fn check_invariants(&self, local: &Local) -> Result<(), String> {
        if self.used() > local.capacity {
            return Err(format!(
                "{} slots in use exceed the capacity {}",
                self.used(),
                local.capacity
            ));
        }
        for tree in &self.trees {
            let stripe = tree.stripe;
            if !local.is_source && tree.is_interior() && !local.roles.contains(stripe) {
                return Err(format!("interior in stripe {stripe}, which is not primary"));
            }
            for child in tree.committed().filter(|child| child.contact.roles.contains(stripe)) {
                if !local.is_above(&child.contact, stripe) {
                    return Err(format!("a native child in stripe {stripe} is out of order"));
                }
            }
            if tree.parent.as_ref().is_some_and(|p| tree.children.contains_key(&p.contact.peer)) {
                return Err(format!("the parent in stripe {stripe} is a child"));
            }
        }
        Ok(())
    }
}
