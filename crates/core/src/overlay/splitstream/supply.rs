//! Supply, as the source sees it: which stripe is short of slots, and who is to serve it.
//!
//! ```text
//!   reports ──▶ free slots, idle and willing peers of every tree ─┐
//!   JOINs that found no slot ──▶ who waits, and for how long ─────┴─▶ ADOPT, down the tree
//! ```
//!
//! A joiner that has found no slot for a while is *waiting*. Its JOIN is parked until a slot turns
//! up or its patience is about to end. For those who wait the source finds slots, in this order: a
//! joiner that is idle, a peer reported as idle, or a native of a richer tree takes the role, the one
//! that costs fewest moves; where that has not helped for a while, the source takes one child more
//! than usual, or a peer reported as willing serves the stripe besides its own. Slots that were
//! promised count until they should have shown, so that one shortage is not answered twice.
//!
//! All trees need as many slots, so moves level them: a peer goes from one to another only if that
//! leaves the poorer of the two richer than it was. Counted is the capacity of natives, which their
//! children's comings and goings do not change.
//!
//! Decides whom to appoint. Whether one may be, it says itself ([`roles`](super::roles)).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use banyan_wire::{Contact, Idle, MAX_IDLE, Message, PeerId, Reason, Report, StripeId};

use crate::Instant;
use crate::local::{Local, share};
use crate::overlay::splitstream::SplitStream;
use crate::overlay::splitstream::join::Join;
use crate::overlay::splitstream::ledger::Ledger;
use crate::overlay::splitstream::roles::Appointment;
use crate::overlay::tree::{Child, Knows, Request, forget_named, nothing_of};
use crate::overlay::{Context, Tree};

/// Joiners counted as waiting for one stripe. At the limit further ones are not counted.
const MAX_WAITING: usize = 1024;
/// How long a joiner must have come back before it counts: slots that have just become free are
/// being reported still. In a small broadcast nothing is far away, and it counts at once.
const MATURITY: Duration = Duration::from_millis(300);
/// How long a joiner that does not come back counts.
const WAITING_FOR: Duration = Duration::from_secs(5);
/// How long slots that were promised are waited for: down the tree, the role, and reports back.
const PROMISE: Duration = Duration::from_millis(1500);
/// The same in a broadcast of at most 2 K peers.
const PROMISE_SMALL: Duration = Duration::from_secs(1);
/// How much longer, where children have to move before.
const VACATING: Duration = Duration::from_millis(1500);
/// How long a stripe must have been short before somebody serves it besides its own.
/// Longer than it takes to heal when many have died.
const SECOND_AFTER: Duration = Duration::from_secs(10);
/// The same in a broadcast of at most 2 K peers, where slots divide least.
const SECOND_AFTER_SMALL: Duration = Duration::from_secs(3);
/// How long a tree's free slots are believed in before as many JOINs may look for them again.
const CREDIT_INTERVAL: Duration = Duration::from_secs(1);
/// The part of the audience for whom slots are kept ready beyond what it needs while trees heal: places
/// are asked for twice then.
const HEALING_MARGIN: i64 = 16;
/// Between two looks for slots while some are lacking.
const SUPPLY_INTERVAL: Duration = Duration::from_millis(100);
/// How long somebody has served a stripe too many before another is appointed for it: newcomers may
/// have come for it already. Nobody lacks anything meanwhile.
const RELIEF_AFTER: Duration = Duration::from_secs(1);
/// Between two looks for somebody to relieve those.
const RELIEF_INTERVAL: Duration = Duration::from_millis(400);
/// How long a stripe must have been short before peers are appointed that have many children, and
/// for how many peers of the broadcast one of those may be under way besides the first.
const COSTLY_AFTER: Duration = Duration::from_secs(1);
const COSTLY_EACH: u32 = 100;
/// Children whose move is no reason to wait for a cheaper peer.
const CHEAP: u32 = 2;
/// JOINs kept for one stripe until a slot turns up. At the limit the next one fails at once.
const MAX_PARKED: usize = 64;
/// Appointments in answer to one JOIN.
const MAX_APPOINTED: usize = 8;

/// What the source knows of one stripe's shortage.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    /// When each joiner first, and last, found no slot.
    waiting: BTreeMap<PeerId, (Instant, Instant)>,
    /// Slots that are to come or to go.
    pub(super) ledger: Ledger,
    /// Since when there have been fewer slots than peers.
    behind_since: Option<Instant>,
    /// Since when natives have served the stripe who have one too many.
    lent_since: Option<Instant>,
    /// Since when slots have been lacking without a pause.
    short_since: Option<Instant>,
    /// JOINs that may go on towards the source: of how many free slots, how many are left, and until
    /// when that is believed.
    credit: (u32, u32, Instant),
    /// JOINs that wait here, and until when.
    parked: VecDeque<(Join, Instant)>,
}

impl Shortage {
    fn note(&mut self, now: Instant, joiner: PeerId) {
        self.waiting.retain(|_, (_, last)| *last + WAITING_FOR > now);
        if self.waiting.len() < MAX_WAITING || self.waiting.contains_key(&joiner) {
            self.waiting.entry(joiner).or_insert((now, now)).1 = now;
        }
    }

    /// Slots that are lacking: one for each that waits, here or `below`, without those promised.
    fn lacking(&self, now: Instant, maturity: Duration, below: u32) -> u32 {
        // Who found a slot elsewhere does not come back to say so.
        let waits = |(first, last): &&(Instant, Instant)| {
            *first + maturity <= now && *last + WAITING_FOR > now
        };
        let mature = self.waiting.values().filter(waits).count();
        let mature = u32::try_from(mature).unwrap_or(u32::MAX).saturating_add(below);
        mature.saturating_sub(self.ledger.outstanding(now))
    }

    fn is_chronic(&self, now: Instant, after: Duration) -> bool {
        self.short_since.is_some_and(|since| since + after <= now)
    }

    /// A joiner is in the tree.
    pub(super) fn served(&mut self, joiner: &PeerId) {
        self.waiting.remove(joiner);
    }
}

impl SplitStream {
    /// At the source: the tree has no free slot for a joiner.
    pub(super) fn on_exhausted(&mut self, cx: &mut Context<'_>, join: Join) {
        let stripe = join.stripe;
        self.shortages[stripe.index()].note(cx.now, join.joiner.peer);
        self.park(cx, join);
        self.supply(cx, stripe);
    }

    /// At the source: finds slots for those who wait, as far as there are any.
    fn supply(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        if self.shortages[stripe.index()].ledger.drained(cx.now) > 0 {
            // Those whose parent has just gone elsewhere are on their way to the slots it left.
            self.look_again(cx.now + SUPPLY_INTERVAL);
            return;
        }
        for _ in 0..MAX_APPOINTED {
            if self.lacking(cx, stripe) == 0 || !self.appoint(cx, stripe) {
                break;
            }
        }
        if self.needs_relief(cx, stripe) && self.appoint(cx, stripe) {
            // Whether that has helped shows in a while.
            self.shortages[stripe.index()].lent_since = Some(cx.now);
        }
        let is_short = self.lacking(cx, stripe) > 0;
        note_since(&mut self.shortages[stripe.index()].short_since, is_short, cx.now);
        let after = if self.is_small(cx) { SECOND_AFTER_SMALL } else { SECOND_AFTER };
        if self.shortages[stripe.index()].is_chronic(cx.now, after) {
            if self.extend(cx, stripe) {
                self.serve_parked(cx, stripe);
            } else {
                self.appoint_willing(cx, stripe);
            }
        }
        if self.lacking(cx, stripe) > 0 {
            self.look_again(cx.now + SUPPLY_INTERVAL);
        } else if self.needs_relief(cx, stripe) {
            self.look_again(cx.now + RELIEF_INTERVAL);
        }
    }

    fn look_again(&mut self, at: Instant) {
        self.supply_at = Some(self.supply_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// At the source: sees whether slots have begun, or ceased, to be lacking.
    pub(super) fn watch_supply(&mut self, cx: &Context<'_>, stripe: StripeId) {
        if self.lacking(cx, stripe) == 0 {
            self.shortages[stripe.index()].short_since = None;
        }
        let slots = self
            .free_slots(cx, stripe)
            .saturating_add(self.shortages[stripe.index()].ledger.promised(cx.now));
        let is_behind = self.missing(stripe) > slots;
        let is_lent = self.relief_below(stripe) > 0;
        let shortage = &mut self.shortages[stripe.index()];
        let is_new = is_behind && shortage.behind_since.is_none();
        note_since(&mut shortage.behind_since, is_behind, cx.now);
        note_since(&mut shortage.lent_since, is_lent, cx.now);
        if is_new {
            self.look_again(cx.now + MATURITY);
        }
        if is_lent {
            self.look_again(cx.now + RELIEF_AFTER);
        }
        if self.supply_at.is_none() && self.is_wanting(cx, stripe) {
            self.supply_at = Some(cx.now);
        }
    }

    /// At the source: looks again where slots are lacking still.
    pub(super) fn supply_all(&mut self, cx: &mut Context<'_>) {
        self.supply_at = None;
        for stripe in cx.local.stripes.iter() {
            if self.is_wanting(cx, stripe) {
                self.supply(cx, stripe);
            }
        }
    }

    /// Keeps a JOIN for the next slot, for as long as its joiner waits for an answer: at the source,
    /// and at natives whose tree has no free slot at all, so that not all who wait ask the source.
    pub(super) fn park(&mut self, cx: &mut Context<'_>, join: Join) {
        let until = cx.now + parked_for(cx);
        let parked = &mut self.shortages[join.stripe.index()].parked;
        parked.retain(|(other, _)| other.joiner.peer != join.joiner.peer);
        if parked.len() >= MAX_PARKED {
            return self.fail_join(cx, join, Reason::Full);
        }
        let stripe = join.stripe;
        parked.push_back((join, until));
        if !cx.local.is_source {
            let offer = self.offer(cx);
            self.update_report(cx, stripe, offer);
        }
    }

    /// Places JOINs that are parked, as far as there are slots.
    pub(super) fn serve_parked(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        // Each once: one that finds no slot all the same is parked again.
        for _ in 0..self.shortages[stripe.index()].parked.len() {
            let is_full = self.is_tree_full(cx.local, stripe);
            if is_full && !self.has_slot(cx, stripe, &[]) {
                return;
            }
            let Some((join, _)) = self.shortages[stripe.index()].parked.pop_front() else { return };
            if is_full && !self.has_slot(cx, stripe, &join.path) {
                // The slot is where it came from; its next try finds it.
                self.fail_join(cx, join, Reason::Full);
            } else {
                self.place(cx, join);
            }
        }
    }

    /// Places a native whose JOIN is parked: a child may have to make room.
    pub(super) fn serve_parked_native(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        let parked = &mut self.shortages[stripe.index()].parked;
        let is_native = |(join, _): &(Join, Instant)| join.joiner.roles.contains(stripe);
        let place = parked.iter().position(is_native);
        if let Some((join, _)) = place.and_then(|place| parked.remove(place)) {
            self.place(cx, join);
        }
    }

    /// Whether the source says that there is no free slot in the tree.
    pub(super) fn is_tree_full(&self, local: &Local, stripe: StripeId) -> bool {
        let parent = &self.trees[stripe.index()].parent;
        local.is_source || parent.as_ref().is_some_and(|parent| parent.standing.spare == 0)
    }

    /// Whether a JOIN that found no slot below may go further up: as many as there are free slots in
    /// the tree, in a while. The others wait here, where a slot may turn up as well.
    pub(super) fn may_hand_up(&mut self, cx: &Context<'_>, stripe: StripeId) -> bool {
        // Without a parent we wait with it: our own JOIN is on its way.
        let Some(parent) = &self.trees[stripe.index()].parent else { return false };
        let spare = parent.standing.spare;
        let (of, left, until) = &mut self.shortages[stripe.index()].credit;
        if cx.now >= *until || spare > *of {
            (*of, *left, *until) = (spare, spare, cx.now + CREDIT_INTERVAL);
        }
        let may = *left > 0 && spare > 0;
        *left = left.saturating_sub(1);
        may
    }

    pub(super) fn parked(&self, stripe: StripeId) -> u32 {
        u32::try_from(self.shortages[stripe.index()].parked.len()).unwrap_or(u32::MAX)
    }

    /// Those whose JOINs are parked here and who could take the role.
    pub(super) fn parked_idle(
        &self,
        local: &Local,
        stripe: StripeId,
    ) -> impl Iterator<Item = Idle> {
        let parked = self.shortages[stripe.index()].parked.iter().map(|(join, _)| join);
        let others = parked.filter(move |join| !join.joiner.roles.contains(stripe));
        others.filter_map(move |join| self.implied_idle(local, &join.joiner, stripe, join.idle))
    }

    /// Whether there is a free slot here, or below a child that is not among `visited`.
    fn has_slot(&self, cx: &Context<'_>, stripe: StripeId, visited: &[PeerId]) -> bool {
        let is_open =
            |child: &Child| child.report.free_slots > 0 && !visited.contains(&child.contact.peer);
        self.free_here(cx.local, cx.config, stripe) > 0
            || self.trees[stripe.index()].sound().any(is_open)
    }

    /// Tells joiners that have waited long enough.
    pub(super) fn expire_parked(&mut self, cx: &mut Context<'_>) {
        for stripe in cx.local.stripes.iter() {
            let parked = &mut self.shortages[stripe.index()].parked;
            let over = parked.iter().take_while(|(_, until)| *until <= cx.now).count();
            let over: Vec<_> = parked.drain(..over).collect();
            for (join, _) in over {
                self.fail_join(cx, join, Reason::Full);
            }
        }
    }

    pub(super) fn parked_until(&self) -> Option<Instant> {
        self.shortages.iter().filter_map(|s| s.parked.front()).map(|(_, until)| *until).min()
    }

    /// At the source: slots that are lacking for those who wait, or, where that has been so for a
    /// while, for those who are in other trees and not yet in this one.
    pub(super) fn lacking(&self, cx: &Context<'_>, stripe: StripeId) -> u32 {
        let maturity = if self.is_small(cx) { Duration::ZERO } else { MATURITY };
        let below = self.trees[stripe.index()].sum_below(|report| report.waiting);
        let shortage = &self.shortages[stripe.index()];
        let waiting = shortage.lacking(cx.now, maturity, below);
        let is_behind = shortage.behind_since.is_some_and(|since| since + MATURITY <= cx.now);
        if waiting == 0 && !is_behind {
            return 0;
        }
        // Where some wait already, the others that will are counted in; slots that are free will be
        // found.
        let missing = self.missing(stripe).saturating_sub(shortage.ledger.outstanding(cx.now));
        let lacking = waiting.max(missing).saturating_sub(self.free_slots(cx, stripe));
        let healing = shortage.ledger.healing(cx.now);
        if healing == 0 {
            return lacking;
        }
        // Those who are missing come with what hangs below them: only what is lacking then as well is
        // lacking now.
        let own = self.free_here(cx.local, cx.config, stripe) + self.trees[stripe.index()].used();
        let slots = self.supply_to_come(cx, stripe) + i64::from(own);
        let members = i64::from(self.members());
        let short = (members + members / HEALING_MARGIN).saturating_sub(slots);
        lacking.min(u32::try_from(short).unwrap_or(0))
    }

    /// Whether the tree an idle peer would leave is better off without it than `stripe` is now, so
    /// that moves level the trees and come to an end. What is in doubt speaks against a move: slots
    /// that are to go may be gone already, and those to come may have come.
    fn may_move(&self, cx: &Context<'_>, idle: &Idle, stripe: StripeId) -> bool {
        let role = role_left(cx.local, idle);
        role.is_none_or(|role| {
            let drained = i64::from(self.shortages[role.index()].ledger.drained(cx.now));
            let there = self.supply_of(role) - drained;
            there - self.supply_to_come(cx, stripe) > i64::from(idle.slots)
        })
    }

    /// At the source: slots of a tree, without those of natives to be relieved. All trees need as
    /// many.
    fn supply_of(&self, stripe: StripeId) -> i64 {
        let have = self.trees[stripe.index()].sum_below(|report| report.slots);
        i64::from(have) - i64::from(self.relief_below(stripe))
    }

    /// The same with those that are promised, and those expected back.
    fn supply_to_come(&self, cx: &Context<'_>, stripe: StripeId) -> i64 {
        let shortage = &self.shortages[stripe.index()];
        let to_come =
            shortage.ledger.promised(cx.now).saturating_add(shortage.ledger.healing(cx.now));
        self.supply_of(stripe) + i64::from(to_come)
    }

    /// At the source: whether a native that serves a stripe too many has done so for a while, and
    /// cannot just give this one up.
    fn needs_relief(&self, cx: &Context<'_>, stripe: StripeId) -> bool {
        let since = self.shortages[stripe.index()].lent_since;
        since.is_some_and(|since| since + RELIEF_AFTER <= cx.now)
            && self.supply_to_come(cx, stripe) < i64::from(self.population.max(1))
    }

    /// At the source: slots of natives that serve the stripe only until others can.
    fn relief_below(&self, stripe: StripeId) -> u32 {
        self.trees[stripe.index()].sum_below(|report| report.relief)
    }

    /// At the source: whether anybody has to be found for the stripe.
    fn is_wanting(&self, cx: &Context<'_>, stripe: StripeId) -> bool {
        self.lacking(cx, stripe) > 0 || self.needs_relief(cx, stripe)
    }

    /// What a request for a parent implies of a subtree that has not reported yet.
    pub(super) fn implied(
        &self,
        local: &Local,
        contact: &Contact,
        stripe: StripeId,
        request: Request,
    ) -> Report {
        let named = self.implied_idle(local, contact, stripe, request.idle).into_iter().collect();
        let nobody = Vec::new();
        let (idle, movable) =
            if contact.roles.contains(stripe) { (nobody, named) } else { (named, nobody) };
        let (slots, free_slots) = request.slots;
        Report { free_slots, idle, movable, slots, ..nothing_of(stripe) }
    }

    /// What a contact implies that could take a stripe at the cost of so many moves, and says so in
    /// the tree of `stripe`: it gives up a role unless it may have more.
    fn implied_idle(
        &self,
        local: &Local,
        contact: &Contact,
        stripe: StripeId,
        children: Option<u32>,
    ) -> Option<Idle> {
        let children = children?;
        let (roles, peer) = (contact.roles, contact.peer);
        let is_full = roles.len() >= local.max_roles(self.population);
        let role = if roles.contains(stripe) { Some(stripe) } else { roles.iter().next() };
        let role = role.filter(|_| is_full);
        let shares = if is_full { roles.len() } else { roles.len() + 1 };
        Some(Idle { peer, role, slots: share(contact.capacity, shares), children })
    }

    pub(super) fn is_small(&self, cx: &Context<'_>) -> bool {
        self.population <= 2 * u32::from(cx.local.stripes.value())
    }

    /// How often a peer has been appointed, to whatever stripe, without a word of it yet.
    fn asked(&self, now: Instant, peer: &PeerId) -> usize {
        self.appointed.iter().filter(|(other, until)| other == peer && *until > now).count()
    }

    /// Whether an idle peer has hardly any children, or leaves a tree that has plenty of room for them.
    fn is_cheap(&self, cx: &Context<'_>, idle: &Idle) -> bool {
        let role = role_left(cx.local, idle);
        let has_plenty = role.is_none_or(|role| {
            let drained = self.shortages[role.index()].ledger.drained(cx.now);
            self.free_slots(cx, role) >= drained.saturating_add(idle.slots.saturating_mul(2))
        });
        has_plenty || idle.children <= CHEAP
    }

    /// Peers that were appointed at the cost of many moves, of late.
    fn costly(&self, cx: &Context<'_>) -> u32 {
        let live = self.costly.iter().filter(|(_, until)| *until > cx.now).count();
        u32::try_from(live).unwrap_or(u32::MAX)
    }

    /// One role is exchanged at a time; who may have several is asked for as many.
    fn may_ask(&self, cx: &Context<'_>, idle: &Idle) -> bool {
        let most = if idle.role.is_some() { 1 } else { cx.local.max_roles(self.population) };
        self.asked(cx.now, &idle.peer) < most as usize
    }

    /// Peers that are in some tree and not in that of `stripe`: its own, or others that have yet to
    /// find their way here.
    fn missing(&self, stripe: StripeId) -> u32 {
        self.members().saturating_sub(self.trees[stripe.index()].members_below())
    }

    /// Peers that are in some tree.
    fn members(&self) -> u32 {
        self.trees.iter().map(Tree::members_below).max().unwrap_or(0)
    }

    /// At the source: a child goes, with all below it.
    pub(super) fn note_loss(&mut self, cx: &Context<'_>, stripe: StripeId, child: &PeerId) {
        let child = self.trees[stripe.index()].children.get(child);
        let is_counted = |child: &&Child| cx.local.is_source && child.leaves_by.is_none();
        if let Some(child) = child.filter(is_counted) {
            let ledger = &mut self.shortages[stripe.index()].ledger;
            ledger.account(cx.now, &child.contact, child.report.slots, 0);
        }
    }

    fn promise(&mut self, cx: &Context<'_>, stripe: StripeId, idle: &Idle) {
        let first = if self.is_small(cx) { PROMISE_SMALL } else { PROMISE };
        let until = cx.now + first + if idle.children > 0 { VACATING } else { Duration::ZERO };
        believe(&mut self.appointed, cx.now, idle.peer, until);
        self.shortages[stripe.index()].ledger.promise(cx.now, idle.slots.max(1), until);
        if let Some(role) = role_left(cx.local, idle) {
            self.shortages[role.index()].ledger.drain(cx.now, idle.slots, until);
        }
    }

    /// Asks an idle peer to serve `stripe`: one whose JOIN is parked here, one of the tree, or a
    /// native of another tree that has slots to spare. Returns whether there was one.
    fn appoint(&mut self, cx: &mut Context<'_>, stripe: StripeId) -> bool {
        let shortage = &self.shortages[stripe.index()];
        // Those who cost more than a few moves are not taken before others could have come, and few
        // at a time: what they leave behind looks like a shortage until it has settled.
        let since = shortage.short_since.into_iter().chain(shortage.lent_since).min();
        let is_ripe = since.is_some_and(|since| since + COSTLY_AFTER <= cx.now)
            && self.costly(cx) <= self.population / COSTLY_EACH;
        let waiting = self.parked_idle(cx.local, stripe).map(|idle| (stripe, idle));
        let below = self.trees[stripe.index()].sound();
        let below = below.flat_map(|child| child.report.idle.iter().map(|idle| (stripe, *idle)));
        let others = self.trees.iter().filter(|tree| tree.stripe != stripe);
        let others = others.flat_map(|tree| {
            let movable = tree.sound().flat_map(|child| child.report.movable.iter());
            movable.map(|idle| (tree.stripe, *idle))
        });
        let cheapest = waiting
            .chain(below)
            .chain(others)
            .filter(|(_, idle)| is_ripe || self.is_cheap(cx, idle))
            .filter(|(_, idle)| self.may_ask(cx, idle) && self.may_move(cx, idle, stripe))
            .min_by_key(|(_, idle)| (self.asked(cx.now, &idle.peer), cost(idle)));
        let Some((tree, idle)) = cheapest else { return false };
        if !self.is_cheap(cx, &idle) {
            believe(&mut self.costly, cx.now, idle.peer, cx.now + PROMISE + VACATING);
        }
        self.ask_to_serve(cx, tree, stripe, &idle, false);
        true
    }

    /// At the source: the stripe that a native which comes for `stripe`, and serves nobody yet, is to
    /// take instead: the one that has the fewest slots, if it has far fewer. `counted` of its slots are
    /// counted there already.
    pub(super) fn leveller(
        &self,
        cx: &Context<'_>,
        stripe: StripeId,
        counted: u32,
        movable: &[Idle],
    ) -> Option<(StripeId, Idle)> {
        if !cx.local.is_source {
            return None;
        }
        let is_bound = |idle: &&Idle| idle.children == 0 && idle.role.is_some();
        let idle = movable.iter().find(is_bound).filter(|idle| self.may_ask(cx, idle))?;
        let others = cx.local.stripes.iter().filter(|other| *other != stripe);
        let to_come = |other: &StripeId| self.supply_to_come(cx, *other);
        let least = others.min_by_key(to_come)?;
        let have = self.supply_of(stripe) + i64::from(idle.slots) - i64::from(counted);
        (2 * (have - to_come(&least)) >= 3 * i64::from(idle.slots)).then_some((least, *idle))
    }

    /// At the source: asks a peer that the reports of `tree` name to take `role`, and counts on it.
    pub(super) fn ask_to_serve(
        &mut self,
        cx: &mut Context<'_>,
        tree: StripeId,
        role: StripeId,
        idle: &Idle,
        is_second: bool,
    ) {
        self.promise(cx, role, idle);
        self.pass_on_adopt(cx, tree, Appointment { peer: idle.peer, role, is_second });
    }

    /// Asks willing peers of the tree to serve `stripe` besides their own.
    fn appoint_willing(&mut self, cx: &mut Context<'_>, stripe: StripeId) {
        let lacking = self.lacking(cx, stripe) as usize;
        let tree = &self.trees[stripe.index()];
        let willing = tree.sound().flat_map(|child| child.report.willing.iter().copied());
        let willing: Vec<PeerId> = willing.take(lacking.min(MAX_APPOINTED)).collect();
        for peer in willing {
            let idle = Idle { peer, role: None, slots: 1, children: 0 };
            self.ask_to_serve(cx, stripe, stripe, &idle, true);
        }
    }

    /// Answers the JOIN for the role of a peer that is appointed, if that is parked here; else hands
    /// the appointment down the tree of `stripe`, to the child that named the peer. It is not named
    /// again by that report.
    pub(super) fn pass_on_adopt(
        &mut self,
        cx: &mut Context<'_>,
        stripe: StripeId,
        appointment: Appointment,
    ) {
        let Appointment { peer, role, is_second } = appointment;
        if let Some(shortage) = self.shortages.get_mut(role.index()) {
            let parked = &mut shortage.parked;
            let place = parked.iter().position(|(join, _)| join.joiner.peer == peer);
            if let Some((join, _)) = place.and_then(|place| parked.remove(place)) {
                return self.fail_join(cx, join, Reason::Exhausted);
            }
        }
        let children = self.tree(stripe).children.values_mut();
        let children = children.filter(|child| child.leaves_by.is_none());
        let Some(child) = children.max_by_key(|child| child.knows(&peer)) else { return };
        if child.knows(&peer) == Knows::Not {
            return;
        }
        forget_named(&mut child.report, &peer);
        let child = child.contact.peer;
        cx.send(child, Message::Adopt { stripe, peer, role, is_second });
    }

    /// Takes one child more than usual in `stripe`, if the upload allows; in at most K ÷ 10 stripes.
    fn extend(&mut self, cx: &Context<'_>, stripe: StripeId) -> bool {
        let most = u32::from(cx.local.stripes.value()) / 10;
        if self.extended.contains(stripe) || self.extended.len() >= most {
            return false;
        }
        self.extended.insert(stripe);
        let has_room = self.free_here(cx.local, cx.config, stripe) > 0;
        if !has_room {
            self.extended.remove(stripe);
        }
        has_room
    }
}

/// How long a JOIN is parked: its joiner waits for the answer, and that has a way to go.
fn parked_for(cx: &Context<'_>) -> Duration {
    cx.config.join_timeout.mul_f64(0.3)
}

/// Adds what is believed in until `until`, and forgets what no longer is.
fn believe(list: &mut Vec<(PeerId, Instant)>, now: Instant, what: PeerId, until: Instant) {
    list.retain(|(_, until)| *until > now);
    list.push((what, until));
}

/// The stripe an idle peer gives up, if any; what is no stripe of the broadcast is none.
fn role_left(local: &Local, idle: &Idle) -> Option<StripeId> {
    idle.role.filter(|role| local.stripes.contains(*role))
}

/// What it costs to move an idle peer: its children, then the slots it does not bring.
const fn cost(idle: &Idle) -> (u32, u32, PeerId) {
    (idle.children, u32::MAX - idle.slots, idle.peer)
}

/// Keeps since when something has been so without a pause.
fn note_since(since: &mut Option<Instant>, is_so: bool, now: Instant) {
    *since = if is_so { since.or(Some(now)) } else { None };
}

/// The idle peers to name in a report: those that cost least to move.
pub(super) fn cheapest(mut idle: Vec<Idle>) -> Vec<Idle> {
    idle.sort_by_key(cost);
    idle.truncate(MAX_IDLE);
    idle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joiner_that_does_not_come_back_is_not_counted_any_more() {
        let mut shortage = Shortage::default();
        let lacking =
            |shortage: &Shortage, at: Duration| shortage.lacking(Instant::ZERO + at, MATURITY, 0);
        shortage.note(Instant::ZERO, PeerId([1; 32]));
        shortage.note(Instant::ZERO, PeerId([2; 32]));
        assert_eq!(lacking(&shortage, Duration::ZERO), 0, "they have just come");
        assert_eq!(lacking(&shortage, MATURITY), 2);
        shortage.note(Instant::ZERO + Duration::from_secs(1), PeerId([2; 32]));
        assert_eq!(lacking(&shortage, WAITING_FOR), 1, "the first has found a slot elsewhere");
        assert_eq!(lacking(&shortage, WAITING_FOR + Duration::from_secs(1)), 0);
    }
}
