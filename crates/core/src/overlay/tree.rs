//! One stripe's tree as this peer sees it: at most one parent, some children, and a search.
//!
//! ```text
//!             a JOIN is sent                    found, or a candidate is known
//!   Resting ──────────────────▶ Seeking ─────────────────────────────────▶ Attaching
//!    ▲  ▲                         │                                        │    │  ▲
//!    │  └──── failed, silent ─────┤             refused, or slow to answer: the next candidate
//!    ├─────── accepted at once ───┘                                        │    │
//!    ├──────────────────────── no candidate left ──────────────────────────┘    │
//!    └──────────────────────────────── accepted ────────────────────────────────┘
//! ```
//!
//! The search and the parent are independent: a peer that has a parent may look for a better one
//! and lets go of the old one only when the new one has accepted (make before break). Likewise a
//! child that must give way keeps being served until it has found its new place, or for
//! [`HANDOVER`]. Departure from SplitStream, where an orphan is cut off at once.
//!
//! Decides how edges come and go. Whom to ask and whom to take is left to the policies.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

use rand::RngExt;

use banyan_wire::{
    Contact, MAX_ANCESTORS, Message, PeerId, Reason, Report, Roles, Standing, Start, StripeId,
};

use crate::overlay::{Action, Context};
use crate::{Event, Instant};

/// How long a child that must give way is still served. A guess: a JOIN, a connection and an
/// ATTACH with one retry each.
pub(crate) const HANDOVER: Duration = Duration::from_secs(4);
/// Candidates remembered for one search. At the limit the rest is dropped.
const MAX_ALTERNATIVES: usize = 8;
/// Peers not to be asked again in one search.
const MAX_TRIED: usize = 16;
/// Candidates asked at the same time.
const MAX_ASKED: usize = 3;
/// How long a newcomer waits for each round trip before it asks another candidate as well.
const NO_HURRY: Duration = Duration::from_millis(300);
/// Failed searches after which whom we lost is no news: all who could be asked for a sign of life were.
const LOST_TOLD: u32 = 3;
/// Doublings of the wait after failed searches, 2⁴ × 50 ms is 0.8 s; and after so many failures
/// that supply must be short, 3 s.
const MAX_DOUBLINGS: u32 = 4;
const CHRONIC: u32 = 12;
const CHRONIC_DOUBLINGS: u32 = 6;

/// By how many milliseconds our delay must have changed for the children to be told, at least.
const DELAY_STEP: u32 = 20;

/// Names remembered of a child's reports.
const MAX_NAMED: usize = 16;

/// What a child has to do with a peer of its subtree, the surest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Knows {
    /// Nothing, as far as we were told.
    Not,
    /// It named it once.
    Named,
    /// It names it now.
    Names,
    /// It is the peer.
    Is,
}

impl Child {
    /// How it is likely to reach `peer`.
    pub(crate) fn knows(&self, peer: &PeerId) -> Knows {
        if self.contact.peer == *peer {
            Knows::Is
        } else if named_in(&self.report).any(|other| other == peer) {
            Knows::Names
        } else if self.named.contains(peer) {
            Knows::Named
        } else {
            Knows::Not
        }
    }

    /// What it says of its subtree now: all that was counted on before is in it.
    pub(crate) fn on_report(&mut self, report: Report) {
        self.report = Report { members: report.members.max(1), ..report };
        self.promised = (0, Instant::ZERO);
        self.note_names();
    }

    /// One free slot less, until the next report.
    pub(crate) fn claim(&mut self) {
        self.report.free_slots = self.report.free_slots.saturating_sub(1);
    }

    /// The same for somebody who may not come: until `until` at the latest.
    pub(crate) fn promise(&mut self, until: Instant) {
        self.claim();
        self.promised = (self.promised.0 + 1, until);
    }

    /// Counts promised slots as free again if it is time. Returns whether there were any.
    fn lapse(&mut self, now: Instant) -> bool {
        let (slots, until) = self.promised;
        let is_over = slots > 0 && until <= now;
        if is_over {
            self.report.free_slots = self.report.free_slots.saturating_add(slots);
            self.promised.0 = 0;
        }
        is_over
    }

    /// Remembers whom the reports name.
    pub(crate) fn note_names(&mut self) {
        for peer in named_in(&self.report) {
            self.named.retain(|other| other != peer);
            self.named.push(*peer);
        }
        let old = self.named.len().saturating_sub(MAX_NAMED);
        self.named.drain(..old);
    }
}

/// Who serves us.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    pub(crate) contact: Contact,
    pub(crate) standing: Standing,
    pub(crate) since: Instant,
    /// It wants to be rid of us, and serves us for a while yet.
    pub(crate) is_over: bool,
}

/// Whom we serve, and what it says of its subtree.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) contact: Contact,
    /// Its last report, or what its request implied, less what we have counted on since.
    pub(crate) report: Report,
    /// Free slots of that report which others were told of, and when they are counted as free again:
    /// who is told of a slot may go elsewhere, and then nobody else would say that it is free.
    promised: (u32, Instant),
    /// Whom its reports named last, the newest last: an appointment made before the newest report
    /// still finds its way.
    named: Vec<PeerId>,
    /// It has been told to find another parent and is served until then at the latest.
    pub(crate) leaves_by: Option<Instant>,
    /// It may be dead: nobody is sent to it, or below it, until it gives a sign of life.
    pub(crate) is_doubted: bool,
}

/// The search for a parent. The [module documentation](self) draws its transitions.
#[derive(Clone, Debug)]
pub(crate) enum Search {
    /// None under way; due again at the instant, if ever.
    Resting { retry_at: Option<Instant> },
    /// A JOIN is on its way; those asked before it may still answer.
    Seeking { nonce: u32, give_up_at: Instant, hop: PeerId, asked: Vec<Asked> },
    /// Candidates were asked.
    Attaching(Attaching),
}

/// A candidate that was asked, and the end of our patience.
pub(crate) type Asked = (Contact, Instant);

/// Candidates that were asked, and others to be asked next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attaching {
    /// At most [`MAX_ASKED`].
    asked: Vec<Asked>,
    /// When the next alternative is asked as well.
    hedge_at: Option<Instant>,
    alternatives: VecDeque<Contact>,
}

/// What a peer says of itself when it asks for a parent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Request {
    pub(crate) idle: Option<u32>,
    pub(crate) is_entitled: bool,
    /// Slots a native brings; 0 for a leaf. And how many of them are free as far as the parent knows.
    pub(crate) slots: (u32, u32),
    /// Set where it has a parent and wants a shorter way: the longest delay, in milliseconds, that
    /// another may have.
    pub(crate) within: Option<u32>,
}

/// No search, and none due.
const IDLE_SEARCH: Search = Search::Resting { retry_at: None };

/// What is known of a subtree that has said nothing: its top is a member.
pub(crate) const fn nothing_of(stripe: StripeId) -> Report {
    Report {
        stripe,
        free_slots: 0,
        free_depth: 0,
        members: 1,
        idle: Vec::new(),
        willing: Vec::new(),
        yielding: 0,
        waiting: 0,
        movable: Vec::new(),
        slots: 0,
        relief: 0,
    }
}

/// Whom a report names.
fn named_in(report: &Report) -> impl Iterator<Item = &PeerId> {
    let roles = report.idle.iter().chain(&report.movable);
    roles.map(|idle| &idle.peer).chain(&report.willing)
}

/// `peer` is not to be counted on any more by what `report` said, until it is named again.
pub(crate) fn forget_named(report: &mut Report, peer: &PeerId) {
    report.idle.retain(|idle| idle.peer != *peer);
    report.movable.retain(|idle| idle.peer != *peer);
    report.willing.retain(|other| other != peer);
}

/// What an ACCEPT meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// A new parent.
    New,
    /// The parent we have, again.
    Again,
    /// Nobody we (still) want; it was told so.
    Unwanted,
}

/// One tree. The [module documentation](self) says more.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) stripe: StripeId,
    pub(crate) parent: Option<Parent>,
    /// The parent that was lost last, until there is another; said to those who may have it as a
    /// child, so that they look after it.
    pub(crate) lost: Option<PeerId>,
    pub(crate) search: Search,
    /// The name of the last JOIN that was sent for it.
    pub(crate) nonce: u32,
    /// Failed searches in a row.
    pub(crate) attempts: u32,
    /// Whether the searches failed for want of a way, not of a slot.
    pub(crate) is_lost: bool,
    /// Times contacts were asked for, for want of one to hand a JOIN to.
    pub(crate) lookups: u32,
    /// What was said of ourselves in the last request for a parent.
    pub(crate) request: Request,
    /// Peers that had no room, in this search.
    pub(crate) refusals: u32,
    /// Peers that did not help in this search.
    pub(crate) tried: Vec<PeerId>,
    pub(crate) children: BTreeMap<PeerId, Child>,
    /// Children that have been told to find another parent.
    leaving: usize,
    /// Places kept for joiners that were told to come.
    pub(crate) reserved: BTreeMap<PeerId, Instant>,
    told: Option<Standing>,
}

impl Tree {
    pub(crate) fn new(stripe: StripeId) -> Self {
        Self {
            stripe,
            parent: None,
            lost: None,
            search: Search::Resting { retry_at: None },
            nonce: 0,
            attempts: 0,
            is_lost: true,
            lookups: 0,
            refusals: 0,
            request: Request::default(),
            tried: Vec::new(),
            children: BTreeMap::new(),
            leaving: 0,
            reserved: BTreeMap::new(),
            told: None,
        }
    }

    /// Whether it has children that are to stay.
    pub(crate) fn is_interior(&self) -> bool {
        self.children.len() > self.leaving
    }

    pub(crate) fn is_parent(&self, peer: &PeerId) -> bool {
        self.parent.as_ref().is_some_and(|parent| parent.contact.peer == *peer)
    }

    /// Children that are to stay.
    pub(crate) fn committed(&self) -> impl Iterator<Item = &Child> {
        self.children.values().filter(|child| child.leaves_by.is_none())
    }

    /// Those of them that can be counted on.
    pub(crate) fn sound(&self) -> impl Iterator<Item = &Child> {
        self.committed().filter(|child| !child.is_doubted)
    }

    /// Slots in use: children that are to stay, and places kept.
    pub(crate) fn used(&self) -> u32 {
        let used = self.children.len() - self.leaving + self.reserved.len();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    /// Peers in our subtree, ourselves not counted.
    pub(crate) fn members_below(&self) -> u32 {
        self.sum_below(|report| report.members)
    }

    /// Free slots below, as far as they can be counted on.
    pub(crate) fn free_below(&self) -> u32 {
        self.sound().fold(0, |sum, child| sum.saturating_add(child.report.free_slots))
    }

    /// The sum of what the children that are to stay report.
    pub(crate) fn sum_below(&self, count: impl Fn(&Report) -> u32) -> u32 {
        self.committed().fold(0, |sum, child| sum.saturating_add(count(&child.report)))
    }

    /// Whether the way up ends at the source, as far as we were told.
    pub(crate) fn is_rooted(&self) -> bool {
        self.parent.as_ref().is_some_and(|parent| !parent.standing.is_orphan)
    }

    /// Whether the connection with `peer` serves this tree.
    pub(crate) fn is_using(&self, peer: &PeerId) -> bool {
        self.is_asking(peer)
            || self.is_parent(peer)
            || self.children.contains_key(peer)
            || self.reserved.contains_key(peer)
    }

    /// Whether an answer of `peer` is waited for.
    pub(crate) fn is_asking(&self, peer: &PeerId) -> bool {
        let is_hop = matches!(&self.search, Search::Seeking { hop, .. } if hop == peer);
        is_hop || self.asked().iter().any(|(candidate, _)| candidate.peer == *peer)
    }

    /// Candidates whose answers are waited for.
    fn asked(&self) -> &[Asked] {
        match &self.search {
            Search::Resting { .. } => &[],
            Search::Seeking { asked, .. } => asked,
            Search::Attaching(attaching) => &attaching.asked,
        }
    }

    /// Ends the search, but for what those asked may still answer.
    pub(crate) fn take_asked(&mut self, now: Instant) -> Vec<Asked> {
        let mut asked = match mem::replace(&mut self.search, IDLE_SEARCH) {
            Search::Resting { .. } => Vec::new(),
            Search::Seeking { asked, .. } => asked,
            Search::Attaching(attaching) => attaching.asked,
        };
        asked.retain(|(_, until)| *until > now);
        asked
    }

    /// Whether anybody's answer is waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        match &self.search {
            Search::Resting { .. } => false,
            Search::Seeking { .. } => true,
            Search::Attaching(attaching) => !attaching.asked.is_empty(),
        }
    }

    /// Whether it waits for the answer of one that is to be its parent, and not only may be.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.request.within.is_none() && self.is_waiting()
    }

    /// Whether it has a parent that does, and waits for the answer of one that may be nearer.
    pub(crate) fn is_content(&self) -> bool {
        self.request.within.is_some()
            && self.is_waiting()
            && self.parent.as_ref().is_some_and(|parent| !parent.is_over)
    }

    /// Every peer whose connection serves this tree.
    pub(crate) fn users(&self, users: &mut Vec<PeerId>) {
        users.extend(self.parent.iter().map(|parent| parent.contact.peer));
        users.extend(self.children.keys().chain(self.reserved.keys()));
        users.extend(self.asked().iter().map(|(candidate, _)| candidate.peer));
        if let Search::Seeking { hop, .. } = &self.search {
            users.push(*hop);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let search = match &self.search {
            Search::Resting { retry_at } => *retry_at,
            Search::Seeking { give_up_at, .. } => Some(*give_up_at),
            Search::Attaching(attaching) => {
                let given_up = attaching.asked.iter().map(|(_, at)| *at).min();
                given_up.into_iter().chain(attaching.hedge_at).min()
            }
        };
        let leaving = if self.leaving == 0 {
            None
        } else {
            self.children.values().filter_map(|child| child.leaves_by).min()
        };
        let reserved = self.reserved.values().min().copied();
        let promised = self.children.values().map(|child| child.promised);
        let promised = promised.filter(|(slots, _)| *slots > 0).map(|(_, until)| until).min();
        [search, leaving, reserved, promised].into_iter().flatten().min()
    }

    // ---- Upwards --------------------------------------------------------------------------

    /// Starts over: nobody counts as tried.
    pub(crate) fn reset_search(&mut self) {
        self.tried.clear();
        self.attempts = 0;
        self.is_lost = true;
        self.lookups = 0;
        self.refusals = 0;
    }

    pub(crate) fn mark_tried(&mut self, peer: PeerId) {
        if self.tried.len() >= MAX_TRIED {
            self.tried.remove(0);
        }
        self.tried.push(peer);
    }

    /// Waits before the next search: the retry delay, doubled for every failure up to a limit,
    /// and up to half as much again at random so that orphans do not come in step.
    pub(crate) fn rest(&mut self, cx: &mut Context<'_>) {
        let most = if self.attempts < CHRONIC { MAX_DOUBLINGS } else { CHRONIC_DOUBLINGS };
        let delay = cx.config.retry_delay * (1 << self.attempts.min(most));
        let jitter = delay.mul_f64(0.5 * cx.rng.random::<f64>());
        self.attempts = self.attempts.saturating_add(1);
        self.search = Search::Resting { retry_at: Some(cx.now + delay + jitter) };
    }

    /// Asks the best of `candidates` to become our parent, and remembers the others. Whoever was
    /// asked before and has not answered may still accept. Returns whether an answer is waited for.
    pub(crate) fn attach(
        &mut self,
        cx: &mut Context<'_>,
        request: Request,
        candidates: impl IntoIterator<Item = Contact>,
    ) -> bool {
        let mut attaching = match mem::replace(&mut self.search, IDLE_SEARCH) {
            Search::Attaching(attaching) => attaching,
            Search::Resting { .. } => Attaching::default(),
            Search::Seeking { asked, .. } => Attaching { asked, ..Attaching::default() },
        };
        let me = cx.local.peer;
        let known = mem::take(&mut attaching.alternatives);
        for candidate in candidates.into_iter().chain(known) {
            let eligible = candidate.peer != me
                && !self.children.contains_key(&candidate.peer)
                && !self.tried.contains(&candidate.peer)
                && !attaching.alternatives.iter().any(|other| other.peer == candidate.peer);
            if eligible && attaching.alternatives.len() < MAX_ALTERNATIVES {
                attaching.alternatives.push_back(candidate);
            }
        }
        self.ask(cx, request, &mut attaching);
        if attaching.asked.is_empty() {
            return false;
        }
        self.search = Search::Attaching(attaching);
        true
    }

    /// Asks the first alternative, if there is one.
    fn ask(&mut self, cx: &mut Context<'_>, request: Request, attaching: &mut Attaching) {
        attaching.hedge_at = None;
        let Some(candidate) = attaching.alternatives.pop_front() else { return };
        self.mark_tried(candidate.peer);
        self.request = request;
        let start = (cx.resume)(self.stripe);
        let Request { idle, is_entitled, within, .. } = request;
        let (stripe, child, lost) = (self.stripe, cx.local.contact(), self.lost_to_tell());
        let attach = Message::Attach { stripe, child, idle, start, lost, is_entitled, within };
        cx.reach(&candidate, attach);
        let asked = candidate.peer;
        attaching.asked.push((candidate, cx.now + cx.config.attach_timeout));
        if cx.config.forest.standby {
            // A connection takes a round trip of its own.
            let trips = if cx.links.is_connected(&asked) { 1 } else { 2 };
            let grace = cx.links.grace().clamp(cx.config.hedge_after, cx.config.join_timeout);
            let usual = cx.links.rtt(&asked) * trips + grace;
            let patience = if self.lost.is_some() { usual } else { usual.max(NO_HURRY * trips) };
            attaching.hedge_at = Some(cx.now + patience);
        }
    }

    /// Whether it had a parent, and has none. Only then is there haste: a newcomer has time, and a
    /// place kept for it in vain is missed by others.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.parent.is_none() && self.lost.is_some()
    }

    /// The lost parent, for those who are asked for a place: they look after it, and send nobody there
    /// meanwhile. Not for ever: if it lives, the free slots may be below it.
    pub(crate) fn lost_to_tell(&self) -> Option<PeerId> {
        self.lost.filter(|_| self.attempts < LOST_TOLD)
    }

    /// Whether those an orphan has asked take their time, and there is nobody else to ask.
    pub(crate) fn is_at_a_loss(&self, now: Instant) -> bool {
        let Search::Attaching(attaching) = &self.search else { return false };
        let is_last = attaching.alternatives.is_empty() || attaching.asked.len() >= MAX_ASKED;
        self.is_orphaned() && is_last && attaching.hedge_at.is_some_and(|at| at <= now)
    }

    /// Asks the next alternative as well where those asked take their time, and gives up on those
    /// that took too long. Returns the latter.
    pub(crate) fn hedge(&mut self, cx: &mut Context<'_>, request: Request) -> Vec<PeerId> {
        let Search::Attaching(attaching) = &mut self.search else { return Vec::new() };
        let now = cx.now;
        let silent = attaching.asked.iter().filter(|(_, at)| *at <= now);
        let silent: Vec<PeerId> = silent.map(|(candidate, _)| candidate.peer).collect();
        if silent.is_empty()
            && attaching.hedge_at.is_some_and(|at| at <= now)
            && let Search::Attaching(mut attaching) = mem::replace(&mut self.search, IDLE_SEARCH)
        {
            attaching.hedge_at = None;
            if attaching.asked.len() < MAX_ASKED {
                self.ask(cx, request, &mut attaching);
            }
            self.search = Search::Attaching(attaching);
        }
        silent
    }

    /// No more is to be expected of `peer`. Returns whether nobody is left to wait for.
    pub(crate) fn stop_asking(&mut self, peer: &PeerId) -> bool {
        match &mut self.search {
            Search::Resting { .. } => {}
            Search::Seeking { hop, asked, .. } => {
                asked.retain(|(candidate, _)| candidate.peer != *peer);
                if hop == peer {
                    // What is left of those asked is no reason to wait.
                    let (asked, hedge_at) = (mem::take(asked), Some(Instant::ZERO));
                    let is_over = asked.is_empty();
                    let attaching = Attaching { asked, hedge_at, ..Attaching::default() };
                    self.search = if is_over { IDLE_SEARCH } else { Search::Attaching(attaching) };
                }
            }
            Search::Attaching(attaching) => {
                attaching.asked.retain(|(candidate, _)| candidate.peer != *peer);
            }
        }
        !self.is_waiting()
    }

    /// Ends a search that is not needed any more.
    pub(crate) fn stop_searching(&mut self) {
        self.reset_search();
        self.search = IDLE_SEARCH;
    }

    /// A candidate accepted us.
    pub(crate) fn on_accept(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        standing: Standing,
    ) -> Accepted {
        // Who took long has a place for us all the same, and whoever is asked next may take as long.
        let is_late = self.parent.is_none() && self.tried.contains(&from);
        let awaited = self.is_asking(&from) || is_late;
        if self.is_parent(&from) {
            if let Some(parent) = &mut self.parent {
                parent.contact.class = standing.class;
                parent.standing = standing;
                parent.is_over = false;
            }
            if awaited {
                self.settle();
            }
            return Accepted::Again;
        }
        if !awaited {
            // We had given up, but `from` now counts us among its children: free that slot.
            cx.send(from, Message::Detach { stripe: self.stripe });
            return Accepted::Unwanted;
        }
        let asked = self.asked().iter().find(|(asked, _)| asked.peer == from).map(|(c, _)| c);
        let asked = asked.or_else(|| cx.view.contact(&from)).cloned();
        let unknown = || Contact {
            peer: from,
            roles: Roles::one(self.stripe),
            capacity: 0,
            addresses: Vec::new(),
            is_source: false,
            class: 0,
            coordinate: None,
        };
        let mut contact = asked.unwrap_or_else(unknown);
        contact.class = standing.class;
        let parent = Parent { contact, standing, since: cx.now, is_over: false };
        if let Some(old) = self.parent.replace(parent) {
            cx.send(old.contact.peer, Message::Detach { stripe: self.stripe });
        }
        self.settle();
        cx.emit(Event::Parent { stripe: self.stripe, parent: Some(from) });
        Accepted::New
    }

    fn settle(&mut self) {
        self.lost = None;
        self.stop_searching();
    }

    /// Forgets the parent. Returns it, for its standing.
    pub(crate) fn lose_parent(&mut self, cx: &mut Context<'_>) -> Option<Parent> {
        let parent = self.parent.take()?;
        self.lost = Some(parent.contact.peer);
        cx.emit(Event::Parent { stripe: self.stripe, parent: None });
        Some(parent)
    }

    // ---- Downwards ------------------------------------------------------------------------

    /// Takes a child, or takes it again. `report` is what its request implies.
    pub(crate) fn take_child(
        &mut self,
        cx: &mut Context<'_>,
        contact: Contact,
        report: Report,
        start: Start,
        standing: Standing,
    ) {
        let peer = contact.peer;
        self.reserved.remove(&peer);
        // So that all children have been told the same: what they are told later is compared with
        // what they were told last.
        self.tell_children(cx, standing.clone());
        let mut child = Child {
            contact,
            report,
            promised: (0, Instant::ZERO),
            named: Vec::new(),
            leaves_by: None,
            is_doubted: false,
        };
        child.note_names();
        let before = self.counts();
        if self.children.insert(peer, child).is_some_and(|old| old.leaves_by.is_some()) {
            self.leaving -= 1;
        }
        cx.send(peer, Message::Accept { stripe: self.stripe, standing });
        cx.actions.push(Action::Serve { child: peer, stripe: self.stripe, start });
        self.emit_counts(cx, before);
    }

    /// A child says anew who it is. One that has become native is told where there is room, which
    /// leaves are not.
    pub(crate) fn on_child_contact(&mut self, cx: &mut Context<'_>, contact: &Contact) {
        let Some(child) = self.children.get_mut(&contact.peer) else { return };
        let is_native = |contact: &Contact| contact.roles.contains(self.stripe);
        let is_new = is_native(contact) && !is_native(&child.contact);
        child.contact = contact.clone();
        if let Some(standing) = self.told.clone().filter(|_| is_new) {
            let stripe = self.stripe;
            cx.links.send(contact.peer, Message::Status { stripe, standing });
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.children.len(), self.leaving)
    }

    /// Tells how many children there are, if that is not `before`.
    fn emit_counts(&self, cx: &mut Context<'_>, before: (usize, usize)) {
        let (count, leaving) = self.counts();
        if (count, leaving) != before {
            cx.emit(Event::Children { stripe: self.stripe, count, leaving });
        }
    }

    /// Tells a child to find another parent. It is served until it has one, or for [`HANDOVER`]; not
    /// at all where a child is cut off before it has made a new link, as in the paper.
    pub(crate) fn hand_over(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        reason: Reason,
        candidates: Vec<Contact>,
    ) {
        let before = self.counts();
        if let Some(child) = self.children.get_mut(&peer) {
            self.leaving += usize::from(child.leaves_by.is_none());
            child.leaves_by = Some(cx.now + HANDOVER);
            cx.send(peer, Message::Redirect { stripe: self.stripe, reason, candidates });
            if cx.config.forest.make_before_break {
                self.emit_counts(cx, before);
            } else {
                self.drop_child(cx, &peer);
            }
        }
    }

    /// A child is on its way to another parent already: it is served until then.
    pub(crate) fn let_go(&mut self, cx: &mut Context<'_>, peer: &PeerId) {
        let before = self.counts();
        if let Some(child) = self.children.get_mut(peer)
            && child.leaves_by.is_none()
        {
            self.leaving += 1;
            child.leaves_by = Some(cx.now + HANDOVER);
            self.emit_counts(cx, before);
        }
    }

    /// Forgets a child. Returns whether it was one.
    pub(crate) fn drop_child(&mut self, cx: &mut Context<'_>, peer: &PeerId) -> bool {
        self.reserved.remove(peer);
        let before = self.counts();
        let Some(child) = self.children.remove(peer) else { return false };
        self.leaving -= usize::from(child.leaves_by.is_some());
        cx.actions.push(Action::Stop { child: *peer, stripe: self.stripe });
        self.emit_counts(cx, before);
        true
    }

    /// Counts slots below as free again that nobody took who was told of them. Returns whether there
    /// were any.
    pub(crate) fn lapse(&mut self, now: Instant) -> bool {
        let mut any = false;
        for child in self.children.values_mut() {
            any |= child.lapse(now);
        }
        any
    }

    /// Forgets places nobody came for, and children whose time is over. Returns for how many of the
    /// places it may be that nobody could come: who is connected could have, and went elsewhere.
    pub(crate) fn expire(&mut self, cx: &mut Context<'_>) -> u32 {
        let over = self.reserved.iter().filter(|(_, until)| **until <= cx.now);
        let lapsed = over.filter(|(peer, _)| !cx.links.is_connected(peer)).count();
        self.reserved.retain(|_, until| *until > cx.now);
        let over: Vec<PeerId> = self
            .children
            .iter()
            .filter(|(_, child)| child.leaves_by.is_some_and(|by| by <= cx.now))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in over {
            self.drop_child(cx, &peer);
            // Told a second time, it knows that it is not served any more.
            let (stripe, reason, candidates) = (self.stripe, Reason::Full, Vec::new());
            cx.send(peer, Message::Redirect { stripe, reason, candidates });
        }
        u32::try_from(lapsed).unwrap_or(u32::MAX)
    }

    /// What to tell a child about our place. `population` and `spare` as the source says; with
    /// `lists_ancestors`, the whole way up.
    pub(crate) fn standing(
        &self,
        cx: &Context<'_>,
        population: u32,
        spare: u32,
        lists_ancestors: bool,
    ) -> Standing {
        if cx.local.is_source {
            return Standing {
                depth: 0,
                grandparent: None,
                population,
                ancestors: Vec::new(),
                is_orphan: false,
                spare,
                class: cx.local.class,
                is_open: false,
                is_grandparent_open: false,
                delay: 0,
            };
        }
        let mut ancestors = Vec::new();
        if let Some(parent) = self.parent.as_ref().filter(|_| lists_ancestors) {
            ancestors.push(parent.contact.peer);
            ancestors.extend(parent.standing.ancestors.iter().take(MAX_ANCESTORS - 1));
        }
        Standing {
            depth: self.parent.as_ref().map_or(0, |p| p.standing.depth.saturating_add(1)),
            grandparent: self.parent.as_ref().map(|parent| parent.contact.clone()),
            population,
            ancestors,
            is_orphan: !self.is_rooted(),
            spare,
            class: cx.local.class,
            is_open: false,
            is_grandparent_open: self.parent.as_ref().is_some_and(|p| p.standing.is_open),
            delay: self.delay(cx),
        }
    }

    /// Milliseconds from the source to us along the tree: those to the parent, and half a round trip.
    /// What the children were told stands until it is known to have changed by more than a little.
    pub(crate) fn delay(&self, cx: &Context<'_>) -> u32 {
        let told = self.told.as_ref().map_or(0, |told| told.delay);
        let parent = self.parent.as_ref().filter(|_| cx.config.forest.proximity);
        let known = parent.and_then(|parent| Some((parent, cx.distance(&parent.contact)?)));
        let Some((parent, rtt)) = known else { return told };
        let half = u32::try_from(rtt.as_millis() / 2).unwrap_or(u32::MAX);
        let delay = parent.standing.delay.saturating_add(half);
        if told.abs_diff(delay) <= (told / 4).max(DELAY_STEP) { told } else { delay }
    }

    /// Tells all children our standing if it is not what they were told last; natives only, where
    /// nothing else changed than where there is room: to leaves that means nothing.
    pub(crate) fn tell_children(&mut self, cx: &mut Context<'_>, standing: Standing) {
        let Some(told) = &self.told else {
            self.told = Some(standing);
            return;
        };
        if *told == standing {
            return;
        }
        let room = Standing {
            spare: standing.spare,
            is_open: standing.is_open,
            is_grandparent_open: standing.is_grandparent_open,
            ..told.clone()
        };
        let concerns_all = room != standing;
        for (peer, child) in &self.children {
            if concerns_all || child.contact.roles.contains(self.stripe) {
                let (stripe, standing) = (self.stripe, standing.clone());
                cx.links.send(*peer, Message::Status { stripe, standing });
            }
        }
        self.told = Some(standing);
    }
}
