//! What parents and children of a tree tell each other about it.
//!
//! ```text
//!   child  ── REPORT: free slots, members, who is idle ──▶ parent ──▶ … ──▶ source
//!   parent ── STATUS: depth, grandparent, population, free slots of the tree ──▶ children
//! ```
//!
//! Decides what is worth saying and when: what others wait for at once, all else at most once in a
//! report interval, and what only one stripe in trouble would ask for more seldom still. What
//! follows from it is left to `join`, `roles` and `supply`.

use std::time::Duration;

use banyan_wire::{Idle, MAX_IDLE, Message, PeerId, Report, Standing, StripeId};

use crate::Instant;
use crate::local::share;
use crate::overlay::splitstream::SplitStream;
use crate::overlay::splitstream::supply::cheapest;
use crate::overlay::tree::{forget_named, nothing_of};
use crate::overlay::{Context, Tree};

/// Report intervals between reports that only say who is idle or willing.
const PATIENT: u32 = 3;

/// How long fewer peers than before must have been counted to be believed: longer than it takes to heal.
const SHRINK_AFTER: Duration = Duration::from_secs(15);
/// How many times as often is reported in a broadcast of at most 2 K peers.
const SMALL_HURRY: u32 = 4;

/// What a tree's parent was told, and when more may be said.
#[derive(Debug, Default)]
pub(super) struct Told {
    report: Option<Report>,
    pub(super) due: Option<Instant>,
    last_at: Instant,
}

impl SplitStream {
    /// What our children in `stripe` are told. The population is passed on as this tree's parent
    /// said it: a mixture of what several trees say would go round in circles.
    pub(super) fn standing(&self, cx: &Context<'_>, stripe: StripeId) -> Standing {
        let tree = &self.trees[stripe.index()];
        let told = tree.parent.as_ref().map(|p| (p.standing.population, p.standing.spare));
        let ours = (self.population, self.spare[stripe.index()]);
        let (population, spare) = told.unwrap_or(ours);
        let is_open = cx.config.forest.improvement && self.is_open(cx, stripe);
        Standing { is_open, ..tree.standing(cx, population, spare, false) }
    }

    /// Whether there is room here for a native from further down: a free slot, or a leaf.
    fn is_open(&self, cx: &Context<'_>, stripe: StripeId) -> bool {
        self.can_serve(cx.local, stripe)
            && (self.free_here(cx.local, cx.config, stripe) > 0 || self.leaf(stripe).is_some())
    }

    pub(super) fn tell_children(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        if self.trees[stripe.index()].children.is_empty() {
            return;
        }
        let standing = self.standing(cx, stripe);
        self.tree(stripe).tell_children(cx, standing);
    }

    /// What there is to say about our subtree of `stripe`; `offer` is [`offer`](Self::offer), the same for all stripes.
    fn subtree(&self, cx: &Context<'_>, stripe: StripeId, offer: Option<Idle>) -> Report {
        let tree = &self.trees[stripe.index()];
        let is_native = cx.local.roles.contains(stripe);
        let is_movable = |offer: &Idle| self.is_named_in(cx, offer, stripe);
        let mut report = nothing_of(stripe);
        if self.can_serve(cx.local, stripe) {
            report.free_slots = self.free_here(cx.local, cx.config, stripe);
        }
        if is_native {
            report.slots = share(cx.local.capacity, cx.local.roles.len());
        }
        report.idle.extend(offer.filter(|_| !is_native));
        report.idle.extend(self.parked_idle(cx.local, stripe));
        report.movable.extend(offer.filter(is_movable));
        if report.idle.is_empty() && self.is_willing(cx, stripe) {
            report.willing.push(cx.local.peer);
        }
        report.waiting = self.parked(stripe);
        report.relief = self.relief(cx, stripe);
        report.yielding = u32::from(self.is_yielding(cx, stripe));
        for (child, is_doubted) in tree.committed().map(|child| (&child.report, child.is_doubted)) {
            report.members = report.members.saturating_add(child.members);
            report.waiting = report.waiting.saturating_add(child.waiting);
            report.slots = report.slots.saturating_add(child.slots);
            report.relief = report.relief.saturating_add(child.relief);
            if is_doubted {
                continue;
            }
            if child.free_slots > 0 {
                let depth = child.free_depth.saturating_add(1);
                let is_first = report.free_slots == 0;
                report.free_depth = if is_first { depth } else { report.free_depth.min(depth) };
                report.free_slots = report.free_slots.saturating_add(child.free_slots);
            }
            report.yielding = report.yielding.saturating_add(child.yielding);
            report.idle.extend(&child.idle);
            report.movable.extend(&child.movable);
            let room = MAX_IDLE.saturating_sub(report.willing.len());
            report.willing.extend(child.willing.iter().take(room));
        }
        report.idle = cheapest(report.idle);
        report.movable = cheapest(report.movable);
        report
    }

    /// Whether we, a leaf of `stripe`, have more stripes than our upload entitles us to. Only those
    /// who upload less than they take can.
    fn is_yielding(&self, cx: &Context<'_>, stripe: StripeId) -> bool {
        cx.config.forest.fair_shares
            && cx.local.entitlement() < cx.local.wanted.len()
            && !cx.local.roles.contains(stripe)
            && self.held() > cx.local.entitlement()
    }

    /// Sees to it that the parents are told what changed: at once where slots ran out or became
    /// free again, else at most once in a report interval.
    pub(super) fn update_reports(&mut self, cx: &mut Context<'_>) {
        if cx.local.is_source {
            self.update_population(cx);
            self.update_spare(cx);
            return;
        }
        let offer = self.offer(cx);
        for stripe in cx.local.stripes.iter() {
            self.update_report(cx, stripe, offer);
        }
    }

    pub(super) fn update_report(
        &mut self,
        cx: &mut Context<'_>,
        stripe: StripeId,
        offer: Option<Idle>,
    ) {
        if cx.config.forest.improvement {
            // Whether we are open is part of our standing.
            self.tell_children(cx, stripe);
        }
        let Some(parent) = self.trees[stripe.index()].parent.as_ref().map(|p| p.contact.peer)
        else {
            self.told[stripe.index()] = Told::default();
            return;
        };
        let report = self.subtree(cx, stripe, offer);
        let pace = self.pace(cx);
        let told = &mut self.told[stripe.index()];
        let Some(last) = &told.report else { return };
        if *last == report {
            told.due = None;
            return;
        }
        let is_urgent = (last.free_slots > 0) != (report.free_slots > 0)
            || (last.waiting > 0) != (report.waiting > 0)
            || (last.relief > 0) != (report.relief > 0);
        let says_little = last.free_slots == report.free_slots
            && last.members == report.members
            && last.yielding == report.yielding
            && last.waiting == report.waiting
            && last.slots == report.slots
            && last.relief == report.relief
            && last.willing.is_empty() == report.willing.is_empty()
            && last.movable.is_empty() == report.movable.is_empty();
        let intervals = if says_little { PATIENT } else { 1 };
        let next_at = told.last_at + pace * intervals;
        if is_urgent || cx.now >= next_at {
            *told = Told { report: Some(report.clone()), due: None, last_at: cx.now };
            cx.send(parent, Message::Report(report));
        } else {
            told.due = Some(next_at);
        }
    }

    /// Between two reports. In a small broadcast there are few, and each change weighs much.
    fn pace(&self, cx: &Context<'_>) -> Duration {
        let hurry = if self.is_small(cx) { SMALL_HURRY } else { 1 };
        cx.config.report_interval / hurry
    }

    /// The parent in `stripe` appointed `peer`, and does not count on it any more. If `peer` is to be
    /// had all the same, after it could not take the role, the parent is told of it anew.
    pub(super) fn note_appointed(&mut self, stripe: StripeId, peer: &PeerId) {
        if let Some(report) = &mut self.told[stripe.index()].report {
            forget_named(report, peer);
        }
    }

    /// The parent in `stripe` sent somebody after one of the free slots we reported, and counts on one
    /// less until it hears of us.
    pub(super) fn note_claimed(&mut self, stripe: StripeId) {
        if let Some(report) = &mut self.told[stripe.index()].report {
            report.free_slots = report.free_slots.saturating_sub(1);
        }
    }

    /// A new parent takes for granted what the request for it said.
    pub(super) fn begin_account(&mut self, cx: &Context<'_>, stripe: StripeId) {
        let request = self.trees[stripe.index()].request;
        let report = Some(self.implied(cx.local, &cx.local.contact(), stripe, request));
        self.told[stripe.index()] = Told { report, due: None, last_at: Instant::ZERO };
    }

    /// At the source: counts the peers, which are members of every tree. Exact up to 2 K, then the
    /// power of two below, so that a large audience does not change it all the time.
    fn update_population(&mut self, cx: &mut Context<'_>) {
        let members = self.trees.iter().map(Tree::members_below).max().unwrap_or(0);
        let exact = 2 * u32::from(cx.local.stripes.value());
        let population = if members <= exact { members } else { 1 << members.ilog2() };
        // Subtrees that have lost their top are not counted until they hang again.
        let is_believed = population >= self.population
            || self.populated_at.is_none_or(|at| at + SHRINK_AFTER <= cx.now);
        if !is_believed {
            return;
        }
        self.populated_at = Some(cx.now);
        if population != self.population {
            self.population = population;
            for stripe in cx.local.stripes.iter() {
                self.tell_children(cx, stripe);
            }
        }
    }

    /// At the source: free slots of a tree.
    pub(super) fn free_slots(&self, cx: &Context<'_>, stripe: StripeId) -> u32 {
        let here = self.free_here(cx.local, cx.config, stripe);
        let below = self.trees[stripe.index()].free_below();
        here.saturating_add(below)
    }

    /// At the source: counts the free slots of every tree.
    fn update_spare(&mut self, cx: &mut Context<'_>) {
        let pace = self.pace(cx);
        for stripe in cx.local.stripes.iter() {
            self.serve_parked(cx, stripe);
            self.watch_supply(cx, stripe);
            let spare = rounded(self.free_slots(cx, stripe));
            let told = &mut self.told[stripe.index()];
            if spare == self.spare[stripe.index()] {
                told.due = None;
                continue;
            }
            let next_at = told.last_at + pace * PATIENT;
            // Those who wait for a slot hear of one at once.
            let is_urgent = (spare > 0) != (self.spare[stripe.index()] > 0);
            if !is_urgent && cx.now < next_at {
                told.due = Some(next_at);
                continue;
            }
            (told.last_at, told.due) = (cx.now, None);
            self.spare[stripe.index()] = spare;
            self.tell_children(cx, stripe);
        }
    }

    pub(super) fn on_report(&mut self, cx: &mut Context<'_>, from: PeerId, report: Report) {
        let stripe = report.stripe;
        if let Some(child) = self.trees[stripe.index()].children.get_mut(&from) {
            let (before, slots) = (child.report.slots, report.slots);
            self.shortages[stripe.index()].ledger.account(cx.now, &child.contact, before, slots);
            child.on_report(report);
        }
        self.serve_parked(cx, stripe);
        self.update_reports(cx);
    }

    pub(super) fn on_status(
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
        parent.contact.class = standing.class;
        parent.standing = standing;
        self.on_standing(cx);
        self.tell_children(cx, stripe);
        self.serve_parked(cx, stripe);
        self.update_reports(cx);
    }
}

/// Rounded down to four significant bits, so that small changes of large numbers are not told.
const fn rounded(count: u32) -> u32 {
    let dropped = (u32::BITS - count.leading_zeros()).saturating_sub(4);
    count >> dropped << dropped
}
