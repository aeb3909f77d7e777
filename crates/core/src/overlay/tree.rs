//! One stripe's tree as this peer sees it: at most one parent, some children, and a search.
//!
//! ```text
//!             a JOIN is sent                    found, or a candidate is known
//!   Resting ──────────────────▶ Seeking ─────────────────────────────────▶ Attaching
//!    ▲  ▲                         │                                        │    │  ▲
//!    │  └──── failed, silent ─────┘                        refused: the next candidate
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
use std::time::Duration;

use rand::RngExt;

use banyan_wire::{Contact, MAX_ANCESTORS, Message, PeerId, Reason, Standing, Start, StripeId};

use crate::overlay::{Action, Context};
use crate::{Event, Instant};

/// How long a child that must give way is still served. A guess: a JOIN, a connection and an
/// ATTACH with one retry each.
pub(crate) const HANDOVER: Duration = Duration::from_secs(4);
/// Candidates remembered for one search. At the limit the rest is dropped.
const MAX_ALTERNATIVES: usize = 8;
/// Peers not to be asked again in one search.
const MAX_TRIED: usize = 16;

/// Who serves us.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    pub(crate) contact: Contact,
    pub(crate) standing: Standing,
    pub(crate) since: Instant,
}

/// Whom we serve, and what it says of its subtree.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) contact: Contact,
    pub(crate) free_slots: u32,
    pub(crate) free_depth: u32,
    pub(crate) members: u32,
    pub(crate) idle: Vec<PeerId>,
    /// It has been told to find another parent and is served until then at the latest.
    pub(crate) leaves_by: Option<Instant>,
}

/// The search for a parent. The [module documentation](self) draws its transitions.
#[derive(Clone, Debug)]
pub(crate) enum Search {
    /// None under way; due again at the instant, if ever.
    Resting { retry_at: Option<Instant> },
    /// A JOIN is on its way.
    Seeking { nonce: u32, give_up_at: Instant, hop: PeerId },
    /// A candidate was asked.
    Attaching { candidate: Contact, give_up_at: Instant, alternatives: VecDeque<Contact> },
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
    /// Failed searches in a row.
    pub(crate) attempts: u32,
    /// Peers that did not help in this search.
    pub(crate) tried: Vec<PeerId>,
    pub(crate) children: BTreeMap<PeerId, Child>,
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
            attempts: 0,
            tried: Vec::new(),
            children: BTreeMap::new(),
            reserved: BTreeMap::new(),
            told: None,
        }
    }

    pub(crate) fn is_interior(&self) -> bool {
        self.committed().next().is_some()
    }

    pub(crate) fn is_parent(&self, peer: &PeerId) -> bool {
        self.parent.as_ref().is_some_and(|parent| parent.contact.peer == *peer)
    }

    /// Children that are to stay.
    pub(crate) fn committed(&self) -> impl Iterator<Item = &Child> {
        self.children.values().filter(|child| child.leaves_by.is_none())
    }

    /// Slots in use: children that are to stay, and places kept.
    pub(crate) fn used(&self) -> u32 {
        let used = self.committed().count() + self.reserved.len();
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    /// Peers in our subtree, ourselves not counted.
    pub(crate) fn members_below(&self) -> u32 {
        self.committed().fold(0, |sum, child| sum.saturating_add(child.members))
    }

    /// Whether the way up ends at the source, as far as we were told.
    pub(crate) fn is_rooted(&self) -> bool {
        self.parent.as_ref().is_some_and(|parent| !parent.standing.is_orphan)
    }

    /// Whether the connection with `peer` serves this tree.
    pub(crate) fn is_using(&self, peer: &PeerId) -> bool {
        let searched = match &self.search {
            Search::Resting { .. } => false,
            Search::Seeking { hop, .. } => hop == peer,
            Search::Attaching { candidate, .. } => candidate.peer == *peer,
        };
        searched
            || self.is_parent(peer)
            || self.children.contains_key(peer)
            || self.reserved.contains_key(peer)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let search = match &self.search {
            Search::Resting { retry_at } => *retry_at,
            Search::Seeking { give_up_at, .. } | Search::Attaching { give_up_at, .. } => {
                Some(*give_up_at)
            }
        };
        let leaving = self.children.values().filter_map(|child| child.leaves_by).min();
        let reserved = self.reserved.values().min().copied();
        [search, leaving, reserved].into_iter().flatten().min()
    }

    // ---- Upwards --------------------------------------------------------------------------

    /// Starts over: nobody counts as tried.
    pub(crate) fn reset_search(&mut self) {
        self.tried.clear();
        self.attempts = 0;
    }

    pub(crate) fn mark_tried(&mut self, peer: PeerId) {
        if self.tried.len() >= MAX_TRIED {
            self.tried.remove(0);
        }
        self.tried.push(peer);
    }

    /// Waits before the next search: the retry delay, doubled for every failure up to 16 times,
    /// and up to half as much again at random so that orphans do not come in step.
    pub(crate) fn rest(&mut self, cx: &mut Context<'_>) {
        let delay = cx.config.retry_delay * (1 << self.attempts.min(4));
        let jitter = delay.mul_f64(0.5 * cx.rng.random::<f64>());
        self.attempts = self.attempts.saturating_add(1);
        self.search = Search::Resting { retry_at: Some(cx.now + delay + jitter) };
    }

    /// Asks the best of `candidates` to become our parent, and remembers the others. Returns
    /// whether there was anybody to ask.
    pub(crate) fn attach(
        &mut self,
        cx: &mut Context<'_>,
        is_idle: bool,
        candidates: impl IntoIterator<Item = Contact>,
    ) -> bool {
        let me = cx.local.peer;
        let mut alternatives: VecDeque<Contact> = VecDeque::new();
        for candidate in candidates {
            let eligible = candidate.peer != me
                && !self.children.contains_key(&candidate.peer)
                && !self.tried.contains(&candidate.peer)
                && !alternatives.iter().any(|other| other.peer == candidate.peer);
            if eligible && alternatives.len() < MAX_ALTERNATIVES {
                alternatives.push_back(candidate);
            }
        }
        let Some(candidate) = alternatives.pop_front() else { return false };
        self.mark_tried(candidate.peer);
        let start = (cx.resume)(self.stripe);
        let child = cx.local.contact();
        let (stripe, lost) = (self.stripe, self.lost);
        cx.reach(&candidate, Message::Attach { stripe, child, is_idle, start, lost });
        let give_up_at = cx.now + cx.config.attach_timeout;
        self.search = Search::Attaching { candidate, give_up_at, alternatives };
        true
    }

    /// The candidates left after the one that was asked said no, or nothing.
    pub(crate) fn take_alternatives(&mut self) -> VecDeque<Contact> {
        match &mut self.search {
            Search::Attaching { alternatives, .. } => std::mem::take(alternatives),
            Search::Resting { .. } | Search::Seeking { .. } => VecDeque::new(),
        }
    }

    /// A candidate accepted us.
    pub(crate) fn on_accept(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        standing: Standing,
    ) -> Accepted {
        let awaited =
            matches!(&self.search, Search::Attaching { candidate, .. } if candidate.peer == from);
        if self.is_parent(&from) {
            if let Some(parent) = &mut self.parent {
                parent.standing = standing;
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
        let Search::Attaching { candidate, .. } = &self.search else { return Accepted::Unwanted };
        let parent = Parent { contact: candidate.clone(), standing, since: cx.now };
        if let Some(old) = self.parent.replace(parent) {
            cx.send(old.contact.peer, Message::Detach { stripe: self.stripe });
        }
        self.settle();
        cx.emit(Event::Parent { stripe: self.stripe, parent: Some(from) });
        Accepted::New
    }

    fn settle(&mut self) {
        self.lost = None;
        self.reset_search();
        self.search = Search::Resting { retry_at: None };
    }

    /// Forgets the parent. Returns it, for its standing.
    pub(crate) fn lose_parent(&mut self, cx: &mut Context<'_>) -> Option<Parent> {
        let parent = self.parent.take()?;
        self.lost = Some(parent.contact.peer);
        cx.emit(Event::Parent { stripe: self.stripe, parent: None });
        Some(parent)
    }

    // ---- Downwards ------------------------------------------------------------------------

    /// Takes a child, or takes it again.
    pub(crate) fn take_child(
        &mut self,
        cx: &mut Context<'_>,
        contact: Contact,
        is_idle: bool,
        start: Start,
        standing: Standing,
    ) {
        let peer = contact.peer;
        self.reserved.remove(&peer);
        // So that all children have been told the same: what they are told later is compared with
        // what they were told last.
        self.tell_children(cx, standing.clone());
        let idle = if is_idle { vec![peer] } else { Vec::new() };
        let child =
            Child { contact, free_slots: 0, free_depth: 0, members: 1, idle, leaves_by: None };
        let is_new = self.children.insert(peer, child).is_none();
        cx.send(peer, Message::Accept { stripe: self.stripe, standing });
        cx.actions.push(Action::Serve { child: peer, stripe: self.stripe, start });
        if is_new {
            cx.emit(Event::Children { stripe: self.stripe, count: self.children.len() });
        }
    }

    /// Tells a child to find another parent. It is served until it has one, or for [`HANDOVER`].
    pub(crate) fn hand_over(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        reason: Reason,
        candidates: Vec<Contact>,
    ) {
        if let Some(child) = self.children.get_mut(&peer) {
            child.leaves_by = Some(cx.now + HANDOVER);
            cx.send(peer, Message::Redirect { stripe: self.stripe, reason, candidates });
        }
    }

    /// Forgets a child. Returns whether it was one.
    pub(crate) fn drop_child(&mut self, cx: &mut Context<'_>, peer: &PeerId) -> bool {
        self.reserved.remove(peer);
        if self.children.remove(peer).is_none() {
            return false;
        }
        cx.actions.push(Action::Stop { child: *peer, stripe: self.stripe });
        cx.emit(Event::Children { stripe: self.stripe, count: self.children.len() });
        true
    }

    /// Forgets places nobody came for and children whose time is over. Returns whether anything
    /// changed.
    pub(crate) fn expire(&mut self, cx: &mut Context<'_>) -> bool {
        let places = self.reserved.len();
        self.reserved.retain(|_, until| *until > cx.now);
        let over: Vec<PeerId> = self
            .children
            .iter()
            .filter(|(_, child)| child.leaves_by.is_some_and(|by| by <= cx.now))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in &over {
            self.drop_child(cx, peer);
        }
        !over.is_empty() || places != self.reserved.len()
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
        }
    }

    /// Tells all children our standing if it is not what they were told last.
    pub(crate) fn tell_children(&mut self, cx: &mut Context<'_>, standing: Standing) {
        if self.told.as_ref() == Some(&standing) {
            return;
        }
        for child in self.children.keys() {
            cx.links
                .send(*child, Message::Status { stripe: self.stripe, standing: standing.clone() });
        }
        self.told = Some(standing);
    }
}
