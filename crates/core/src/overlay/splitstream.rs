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
//! - **Heap order instead of prefixes.** A native's parent is closer to the stripe key than itself
//!   (`Rank`); push-down keeps that order, so native edges cannot close a loop, without path vectors.
//! - **Free slots are counted up the tree** instead of searched for by depth-first anycast.
//! - **Roles change.** A stripe that has run out of slots is given a new native: a joiner, or a
//!   peer without children, which then serves that stripe instead of its first one.
//!
//! Decides roles and edges. This file has the state and what happens over time; the paths of JOINs
//! are in `join`, taking and moving children in `serve`, and who serves which stripe in `roles`.

mod join;
mod roles;
mod serve;

use std::collections::BTreeMap;

use banyan_wire::{
    Contact, MAX_IDLE, Message, PeerId, Reason, Report, Roles, Standing, StripeCount, StripeId,
};

use crate::local::Local;
use crate::overlay::tree::{Accepted, HANDOVER, Search};
use crate::overlay::{Context, Overlay, Tree};
use crate::watch::Silence;
use crate::{Event, Instant, Violation};

/// What a tree's parent was told, and when more may be said.
#[derive(Debug, Default)]
struct Told {
    report: Option<Report>,
    due: Option<Instant>,
    last_at: Instant,
}

/// The policy's state.
#[derive(Debug)]
pub(crate) struct SplitStream {
    trees: Vec<Tree>,
    told: Vec<Told>,
    population: u32,
    has_joined: bool,
    /// Until when no role is exchanged for another; `None` once that has passed.
    held_until: Option<Instant>,
    /// When one role too many is given up.
    shed_at: Option<Instant>,
    /// At the source: for each stripe, the free slots its peers were told of.
    spare: Vec<u32>,
    /// At the source: for each stripe, until when an appointment is given time to take effect.
    appointed: Vec<Instant>,
    nonce: u32,
    /// Children said to be dead, and until when they may prove to be alive.
    suspects: BTreeMap<PeerId, Instant>,
}

impl SplitStream {
    pub(crate) fn new(stripes: StripeCount) -> Self {
        Self {
            trees: stripes.iter().map(Tree::new).collect(),
            told: stripes.iter().map(|_| Told::default()).collect(),
            // Until somebody says otherwise: enough for one role each.
            population: u32::from(stripes.value()),
            has_joined: false,
            held_until: None,
            shed_at: None,
            spare: vec![0; stripes.len()],
            appointed: vec![Instant::ZERO; stripes.len()],
            nonce: 0,
            suspects: BTreeMap::new(),
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
    fn free_here(&self, local: &Local, config: &crate::Config, stripe: StripeId) -> u32 {
        let free = local.capacity.saturating_sub(self.used());
        if local.is_source {
            let used = self.trees[stripe.index()].used();
            let share = (local.capacity / u32::from(local.stripes.value())).max(1);
            free.min(config.source_fanout.min(share).saturating_sub(used))
        } else {
            free
        }
    }

    /// Whether this peer may have children in `stripe`: the source always, others as natives that
    /// hang in the tree in heap order.
    fn can_serve(&self, local: &Local, stripe: StripeId) -> bool {
        if local.is_source {
            return true;
        }
        local.roles.contains(stripe)
            && self.trees[stripe.index()]
                .parent
                .as_ref()
                .is_some_and(|parent| is_in_order(local, &parent.contact, &local.peer, stripe))
    }

    /// What our children in `stripe` are told. The population is passed on as this tree's parent
    /// said it: a mixture of what several trees say would go round in circles.
    fn standing(&self, cx: &Context<'_>, stripe: StripeId) -> Standing {
        let tree = &self.trees[stripe.index()];
        let told = tree.parent.as_ref().map(|p| (p.standing.population, p.standing.spare));
        let ours = (self.population, self.spare[stripe.index()]);
        let (population, spare) = told.unwrap_or(ours);
        tree.standing(cx, population, spare, false)
    }

    fn tell_children(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        let standing = self.standing(cx, stripe);
        self.tree(stripe).tell_children(cx, standing);
    }

    // ---- Reports ----------------------------------------------------------------------------

    /// What there is to say about our subtree of `stripe`.
    fn report(&self, cx: &Context<'_>, stripe: StripeId) -> Report {
        let tree = &self.trees[stripe.index()];
        let mut free_slots = 0_u32;
        let mut free_depth = u32::MAX;
        if self.can_serve(cx.local, stripe) {
            let here = self.free_here(cx.local, cx.config, stripe);
            if here > 0 {
                (free_slots, free_depth) = (here, 0);
            }
        }
        let mut idle = Vec::new();
        if self.is_idle(cx, stripe) {
            idle.push(cx.local.peer);
        }
        for child in tree.committed() {
            if child.free_slots > 0 {
                free_slots = free_slots.saturating_add(child.free_slots);
                free_depth = free_depth.min(child.free_depth.saturating_add(1));
            }
            idle.extend(child.idle.iter().take(MAX_IDLE - idle.len().min(MAX_IDLE)));
        }
        let members = tree.members_below().saturating_add(1);
        let free_depth = if free_slots == 0 { 0 } else { free_depth };
        Report { stripe, free_slots, free_depth, members, idle }
    }

    /// Sees to it that the parents are told what changed: at once where slots ran out or became
    /// free again, else at most once in a report interval.
    fn update_reports(&mut self, cx: &mut Context<'_>) {
        if cx.local.is_source {
            self.update_population(cx);
            self.update_spare(cx);
            return;
        }
        for stripe in cx.local.stripes.iter() {
            let Some(parent) = self.trees[stripe.index()].parent.as_ref().map(|p| p.contact.peer)
            else {
                self.told[stripe.index()] = Told::default();
                continue;
            };
            let report = self.report(cx, stripe);
            let told = &mut self.told[stripe.index()];
            if told.report.as_ref() == Some(&report) {
                told.due = None;
                continue;
            }
            let was_free = told.report.as_ref().is_some_and(|report| report.free_slots > 0);
            let is_urgent = told.report.is_none() || was_free != (report.free_slots > 0);
            let next_at = told.last_at + cx.config.report_interval;
            if is_urgent || cx.now >= next_at {
                *told = Told { report: Some(report.clone()), due: None, last_at: cx.now };
                cx.send(parent, Message::Report(report));
            } else {
                told.due = Some(next_at);
            }
        }
    }

    /// At the source: counts the peers, which are members of every tree. Exact up to 2 K, then the
    /// power of two below, so that a large audience does not change it all the time.
    fn update_population(&mut self, cx: &mut Context<'_>) {
        let members = self.trees.iter().map(Tree::members_below).max().unwrap_or(0);
        let exact = 2 * u32::from(cx.local.stripes.value());
        let population = if members <= exact { members } else { 1 << members.ilog2() };
        if population != self.population {
            self.population = population;
            for stripe in cx.local.stripes.iter() {
                self.tell_children(cx, stripe);
            }
        }
    }

    /// At the source: counts the free slots of every tree; tells of changes at most once
    /// in a report interval.
    fn update_spare(&mut self, cx: &mut Context<'_>) {
        for stripe in cx.local.stripes.iter() {
            let free = self.report(cx, stripe).free_slots;
            let spare = rounded(free);
            let told = &mut self.told[stripe.index()];
            if spare == self.spare[stripe.index()] {
                told.due = None;
                continue;
            }
            let next_at = told.last_at + cx.config.report_interval;
            if cx.now < next_at {
                told.due = Some(next_at);
                continue;
            }
            (told.last_at, told.due) = (cx.now, None);
            self.spare[stripe.index()] = spare;
            self.tell_children(cx, stripe);
        }
    }

    fn on_report(&mut self, cx: &mut Context<'_>, from: PeerId, report: Report) {
        if let Some(child) = self.tree(report.stripe).children.get_mut(&from) {
            child.free_slots = report.free_slots;
            child.free_depth = report.free_depth;
            child.members = report.members.max(1);
            child.idle = report.idle;
        }
        self.update_reports(cx);
    }

    fn on_status(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        stripe: StripeId,
        standing: Standing,
    ) {
        let Some(parent) = &mut self.tree(stripe).parent else { return };
        if parent.contact.peer != from {
            return;
        }
        parent.standing = standing;
        self.on_standing(cx);
        self.tell_children(cx, stripe);
        self.update_reports(cx);
    }

    /// A parent told its standing: the source may have counted the audience anew.
    fn on_standing(&mut self, cx: &mut Context<'_>) {
        let parents = self.trees.iter().filter_map(|tree| tree.parent.as_ref());
        let population = parents.map(|parent| parent.standing.population).max().unwrap_or(0);
        if population == 0 || population == self.population {
            return;
        }
        self.population = population;
        self.update_shedding(cx);
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
        if self.tree(stripe).on_accept(cx, from, standing) == Accepted::Unwanted {
            return;
        }
        self.told[stripe.index()] = Told::default();
        self.on_standing(cx);
        self.tell_children(cx, stripe);
        if !self.has_joined && self.trees.iter().all(|tree| tree.parent.is_some()) {
            self.has_joined = true;
            cx.emit(Event::Joined { stripes: cx.local.stripes.value(), roles: cx.local.roles });
        }
        self.update_reports(cx);
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
        for candidate in &candidates {
            cx.view.insert(cx.now, candidate.clone(), false);
        }
        let is_parent = self.tree(stripe).is_parent(&from);
        let is_asked = matches!(
            &self.tree(stripe).search,
            Search::Attaching { candidate, .. } if candidate.peer == from
        );
        if is_parent && !is_asked {
            // It goes on serving us until we have found another parent.
            self.tree(stripe).reset_search();
            self.tree(stripe).mark_tried(from);
            self.attach_or_seek(cx, stripe, candidates);
        } else if is_asked {
            if is_parent && matches!(reason, Reason::Loop | Reason::RoleChange | Reason::Orphan) {
                self.lose_parent(cx, stripe);
                return;
            }
            let mut next = candidates;
            next.extend(self.tree(stripe).take_alternatives());
            self.attach_or_seek(cx, stripe, next);
        }
    }

    /// Asks the first of `candidates` that may be our parent, or looks for another by JOIN.
    fn attach_or_seek(&mut self, cx: &mut Context<'_>, stripe: StripeId, candidates: Vec<Contact>) {
        let local = &*cx.local;
        let is_native = local.roles.contains(stripe);
        let fits = |contact: &Contact| {
            contact.is_source || !is_native || is_in_order(local, contact, &local.peer, stripe)
        };
        let candidates: Vec<Contact> = candidates.into_iter().filter(fits).collect();
        let is_idle = self.is_idle(cx, stripe);
        if !self.tree(stripe).attach(cx, is_idle, candidates) {
            self.seek(cx, stripe);
        }
    }

    /// The parent of `stripe` is gone: turn to the grandparent, then to other natives.
    fn lose_parent(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        let Some(lost) = self.tree(stripe).lose_parent(cx) else { return };
        self.tell_children(cx, stripe);
        let is_under_way = match &self.tree(stripe).search {
            Search::Resting { .. } => false,
            Search::Seeking { hop, .. } => *hop != lost.contact.peer,
            Search::Attaching { candidate, .. } => candidate.peer != lost.contact.peer,
        };
        if is_under_way {
            // It had told us to go, and we are on our way.
            self.update_reports(cx);
            return;
        }
        self.tree(stripe).reset_search();
        self.tree(stripe).mark_tried(lost.contact.peer);
        let standby = cx.view.natives(stripe).into_iter().take(2).cloned();
        let candidates = lost.standing.grandparent.into_iter().chain(standby).collect();
        self.attach_or_seek(cx, stripe, candidates);
        self.update_reports(cx);
    }

    /// The search of `stripe` got no answer from `peer`.
    fn on_no_answer(&mut self, cx: &mut Context<'_>, stripe: StripeId, peer: PeerId) {
        self.tree(stripe).mark_tried(peer);
        let next = self.tree(stripe).take_alternatives();
        self.attach_or_seek(cx, stripe, next.into());
    }
}

/// Whether `parent` may have the native `child` below it: the source always may, others if they
/// come first in the order of the tree.
fn is_in_order(local: &Local, parent: &Contact, child: &PeerId, stripe: StripeId) -> bool {
    parent.is_source || local.rank(&parent.peer, stripe) < local.rank(child, stripe)
}

/// Rounded down to four significant bits, so that small changes of large numbers are not told.
const fn rounded(count: u32) -> u32 {
    let dropped = (u32::BITS - count.leading_zeros()).saturating_sub(4);
    count >> dropped << dropped
}

impl Overlay for SplitStream {
    fn start(&mut self, cx: &mut Context<'_>) {
        if cx.local.is_source {
            return;
        }
        if cx.local.capacity > 0 && cx.local.roles.is_empty() {
            self.set_roles(cx, Roles::one(cx.local.first_role()));
        }
        // The own stripe first: its supply is what others will look for.
        let natives: Vec<StripeId> = cx.local.roles.iter().collect();
        let rest = cx.local.stripes.iter().filter(|stripe| !natives.contains(stripe));
        for stripe in natives.iter().copied().chain(rest.collect::<Vec<_>>()) {
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
            Message::Join(join) => self.on_join(cx, from, join)?,
            Message::JoinFound { stripe, nonce, parent, path } => {
                self.on_join_found(cx, stripe, nonce, parent, path);
            }
            Message::JoinFailed { stripe, nonce, reason, path } => {
                self.on_join_failed(cx, from, stripe, nonce, reason, path);
            }
            Message::Attach { stripe, child, is_idle, start, lost } => {
                if child.peer != from {
                    return Err(Violation::Mismatch);
                }
                self.on_attach(cx, stripe, child, is_idle, start, lost);
            }
            Message::Accept { stripe, standing } => self.on_accept(cx, from, stripe, standing),
            Message::Redirect { stripe, reason, candidates } => {
                self.on_redirect(cx, from, stripe, reason, candidates);
            }
            Message::Detach { stripe } => {
                self.tree(stripe).drop_child(cx, &from);
                self.update_reports(cx);
            }
            Message::Report(report) => self.on_report(cx, from, report),
            Message::Status { stripe, standing } => self.on_status(cx, from, stripe, standing),
            Message::Adopt { stripe, peer } => self.on_adopt(cx, from, stripe, peer),
            Message::Hello { .. }
            | Message::Goodbye { .. }
            | Message::Manifest(_)
            | Message::FindContacts { .. }
            | Message::Contacts { .. }
            | Message::Probe { .. }
            | Message::ProbeReply { .. }
            | Message::Header(_)
            | Message::Chunk { .. } => {}
        }
        Ok(())
    }

    fn on_contact(&mut self, cx: &mut Context<'_>, contact: &Contact) {
        for stripe in cx.local.stripes.iter() {
            let tree = self.tree(stripe);
            if let Some(child) = tree.children.get_mut(&contact.peer) {
                child.contact = contact.clone();
                let is_misplaced = contact.roles.contains(stripe)
                    && !is_in_order(cx.local, &cx.local.contact(), &contact.peer, stripe);
                if is_misplaced && child.leaves_by.is_none() {
                    // A leaf took the role and comes before us: it is on its way up already.
                    child.leaves_by = Some(cx.now + HANDOVER);
                }
            }
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
        self.suspects.remove(&peer);
    }

    fn on_peer_gone(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        self.suspects.remove(&peer);
        for stripe in cx.local.stripes.iter() {
            self.tree(stripe).drop_child(cx, &peer);
            if self.tree(stripe).is_parent(&peer) {
                self.lose_parent(cx, stripe);
            }
        }
        self.on_unreachable(cx, peer);
        self.update_reports(cx);
    }

    fn on_unreachable(&mut self, cx: &mut Context<'_>, peer: PeerId) {
        for stripe in cx.local.stripes.iter() {
            let is_concerned = match &self.tree(stripe).search {
                Search::Resting { .. } => false,
                Search::Seeking { hop, .. } => *hop == peer,
                Search::Attaching { candidate, .. } => candidate.peer == peer,
            };
            if is_concerned {
                self.on_no_answer(cx, stripe, peer);
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
            Silence::Dead => {
                cx.view.remove(&parent);
                // Whoever does not answer for one stripe is not asked for the others either.
                for stripe in cx.local.stripes.iter() {
                    if self.tree(stripe).is_parent(&parent) {
                        cx.send(parent, Message::Detach { stripe });
                        self.lose_parent(cx, stripe);
                    }
                }
            }
            Silence::Starved => {
                cx.send(parent, Message::Detach { stripe });
                self.lose_parent(cx, stripe);
            }
            Silence::Forgotten => {
                let contact = self.tree(stripe).parent.as_ref().map(|p| p.contact.clone());
                self.tree(stripe).reset_search();
                self.attach_or_seek(cx, stripe, contact.into_iter().collect());
            }
        }
    }

    fn on_capacity(&mut self, cx: &mut Context<'_>) {
        self.adjust_to_capacity(cx);
        self.update_reports(cx);
    }

    fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        for stripe in cx.local.stripes.iter() {
            self.tree(stripe).expire(cx);
            match &self.tree(stripe).search {
                Search::Resting { retry_at: Some(at) } if *at <= cx.now => self.seek(cx, stripe),
                Search::Seeking { hop, give_up_at, .. } if *give_up_at <= cx.now => {
                    let hop = *hop;
                    self.on_no_answer(cx, stripe, hop);
                }
                Search::Attaching { candidate, give_up_at, .. } if *give_up_at <= cx.now => {
                    let candidate = candidate.peer;
                    cx.view.on_failure(&candidate);
                    self.on_no_answer(cx, stripe, candidate);
                }
                Search::Resting { .. } | Search::Seeking { .. } | Search::Attaching { .. } => {}
            }
        }
        let dead: Vec<PeerId> =
            self.suspects.iter().filter(|(_, by)| **by <= cx.now).map(|(peer, _)| *peer).collect();
        for peer in dead {
            cx.view.remove(&peer);
            self.on_peer_gone(cx, peer);
        }
        if self.held_until.is_some_and(|until| until <= cx.now) {
            self.held_until = None;
        }
        if self.shed_at.is_some_and(|at| at <= cx.now) {
            self.shed_role(cx);
        }
        self.update_reports(cx);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let trees = self.trees.iter().filter_map(Tree::poll_timeout);
        let reports = self.told.iter().filter_map(|told| told.due);
        let suspects = self.suspects.values().copied();
        let roles = self.shed_at.into_iter().chain(self.held_until);
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

    fn is_using(&self, peer: &PeerId) -> bool {
        self.trees.iter().any(|tree| tree.is_using(peer))
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
                let me = &local.contact();
                if !is_in_order(local, me, &child.contact.peer, stripe) {
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
