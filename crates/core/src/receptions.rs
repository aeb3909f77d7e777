//! What viewers had in time, on its way up to the source.
//!
//! ```text
//!   viewer ── RECEPTION: its own counts and its children's ──▶ parent in one tree ──▶ … ──▶ source
//! ```
//!
//! A viewer counts, for every generation at its playout deadline, the descriptions that had come by
//! themselves. What was rebuilt here from the others does not count, nor does what had to be asked for:
//! both are there because the redundancy sufficed, or because it did not, and a source that took
//! either for arrivals would lower the redundancy until everybody leaned on them. What a parent
//! rebuilt and pushed in time does count: for its children it is an arrival like any other.
//!
//! Every count goes up once, in the tree of a primary stripe of whoever made it, and is pooled there
//! with what others say in that tree; trees have no loops, so nothing goes round. Nothing is kept for
//! longer than a period at any hop: what a child said last is passed on once, and is gone with it.
//!
//! **How much a liar weighs.** A child is believed as many viewers as it last reported members, and of
//! each of them twice the generations that come in a period. Whatever a subtree claims, the source lets
//! no tree weigh more than twice the one in the middle, so in even trees a liar moves 2 of K + 1 parts
//! of the whole, and at worst makes the source spend its budget of redundancy. PeerCast has one tree and
//! no reports: there a liar is believed as many viewers as [`MAX_UNREPORTED`], and only the budget
//! bounds what comes of it.
//!
//! Decides who is told what when. Which thresholds follow is [`banyan_coding::redundancy`]'s.

use std::collections::BTreeMap;
use std::time::Duration;

use banyan_wire::{Message, Overlay, PeerId, Reception, StripeCount, StripeId};

use crate::links::Links;
use crate::local::Local;
use crate::overlay::Tree;
use crate::{Audience, Event, Instant, Output, Violation};

/// From the first thing there is to say to saying it: some generations, so that a message of some
/// 30 bytes is worth its frame.
const PERIOD: Duration = Duration::from_secs(2);
/// From hearing a child to passing it on, other children having spoken meanwhile: all viewers play at
/// about the same instants, and hops that each waited for their own period would all just miss it.
const GATHER: Duration = Duration::from_millis(300);
/// Children whose counts are held. At the limit those of further ones are ignored; more than a peer
/// serves can only come from children that came and went within a period.
const MAX_HEARD: usize = 1024;

/// Viewers a child is believed where the overlay reports no members.
const MAX_UNREPORTED: u32 = 4096;

/// What there is to say.
#[derive(Debug)]
pub(crate) struct Receptions {
    stripes: StripeCount,
    /// Most generations that a viewer may count in a period.
    most: u64,
    /// Whether children report how many members their subtrees have.
    has_reports: bool,
    own: Pool,
    heard: BTreeMap<(StripeId, PeerId), Pool>,
    due: Option<Instant>,
    said_at: Option<Instant>,
    last: Audience,
}

/// Counts of some viewers.
#[derive(Clone, Debug, Default)]
struct Pool {
    viewers: u64,
    counts: Vec<u64>,
}

impl Pool {
    fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        self.viewers += other.viewers;
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// Makes it weigh at most `most` generations, of the same shares.
    fn limit(&mut self, most: u64) {
        let total = self.total();
        if total <= most {
            return;
        }
        for count in &mut self.counts {
            let share = u128::from(*count) * u128::from(most) / u128::from(total);
            *count = u64::try_from(share).unwrap_or(u64::MAX);
        }
    }

    fn audience(&self) -> Audience {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Audience {
            viewers: narrow(self.viewers),
            counts: self.counts.iter().copied().map(narrow).collect(),
        }
    }
}

impl Receptions {
    /// Nothing counted yet; a generation comes every `interval`.
    pub(crate) fn new(stripes: StripeCount, interval: Duration, overlay: Overlay) -> Self {
        let generations = PERIOD.as_micros() / interval.as_micros().max(1) + 1;
        Self {
            stripes,
            most: u64::try_from(generations * 2).unwrap_or(u64::MAX),
            has_reports: overlay != Overlay::PeerCast,
            own: Pool::default(),
            heard: BTreeMap::new(),
            due: None,
            said_at: None,
            last: Audience::default(),
        }
    }

    /// A generation came to its deadline here with so many descriptions.
    pub(crate) fn note(&mut self, now: Instant, arrived: u8) {
        self.due.get_or_insert(now + PERIOD);
        self.own.viewers = 1;
        self.own.counts.resize(self.stripes.len() + 1, 0);
        if let Some(count) = self.own.counts.get_mut(usize::from(arrived)) {
            *count += 1;
        }
    }

    /// A child says what it and those below it had. From anybody else it is ignored.
    pub(crate) fn on_message(
        &mut self,
        now: Instant,
        from: PeerId,
        reception: &Reception,
        tree: &Tree,
        is_source: bool,
    ) -> Result<(), Violation> {
        if reception.counts.len() > self.stripes.len() + 1 {
            return Err(Violation::Mismatch);
        }
        let Some(child) = tree.children.get(&from) else { return Ok(()) };
        let name = (reception.stripe, from);
        if self.heard.len() >= MAX_HEARD && !self.heard.contains_key(&name) {
            return Ok(());
        }
        let due = self.due.get_or_insert(now + PERIOD);
        if !is_source {
            // Twice in a period at most.
            let soonest = self.said_at.map_or(Instant::ZERO, |said_at| said_at + PERIOD / 2);
            *due = (now + GATHER).max(soonest).min(*due);
        }
        let members = if self.has_reports { child.report.members.max(1) } else { MAX_UNREPORTED };
        let viewers = u64::from(reception.viewers.min(members));
        let counts = reception.counts.iter().copied().map(u64::from).collect();
        let pool = self.heard.entry(name).or_default();
        pool.add(&Pool { viewers: 0, counts });
        // Who speaks twice in a period of ours is not two.
        pool.viewers = pool.viewers.max(viewers);
        let most = pool.viewers.saturating_mul(self.most);
        pool.limit(most);
        Ok(())
    }

    /// Says what there is to say, if it is time: to the parents, or at the source to the driver.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        local: &Local,
        trees: &[Tree],
        links: &mut Links,
    ) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        self.said_at = Some(now);
        let mut pools: BTreeMap<StripeId, Pool> = BTreeMap::new();
        for ((stripe, _), pool) in std::mem::take(&mut self.heard) {
            pools.entry(stripe).or_default().add(&pool);
        }
        let mut own = std::mem::take(&mut self.own);
        own.limit(self.most);
        if local.is_source {
            self.tell_driver(pools, links);
            return;
        }
        if own.viewers > 0
            && let Some(stripe) = way_up(local, trees)
        {
            pools.entry(stripe).or_default().add(&own);
        }
        let mut all = Pool::default();
        for (stripe, pool) in pools {
            all.add(&pool);
            // Without a parent it lapses: by the time there is one it would be old.
            let parent = trees.get(stripe.index()).and_then(|tree| tree.parent.as_ref());
            if let Some(parent) = parent {
                let Audience { viewers, mut counts } = pool.audience();
                let said = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
                counts.truncate(said);
                let reception = Reception { stripe, viewers, counts };
                links.send(parent.contact.peer, Message::Reception(reception));
            }
        }
        self.last = all.audience();
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to say, if ever.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// What was said last: at the source, of the whole audience; else of this peer and those that
    /// say it through it.
    pub(crate) fn last(&self) -> &Audience {
        &self.last
    }

    /// Merges the trees at the source, none of which weighs more than twice the one in the middle.
    fn tell_driver(&mut self, pools: BTreeMap<StripeId, Pool>, links: &mut Links) {
        let mut totals: Vec<u64> = pools.values().map(Pool::total).collect();
        totals.sort_unstable();
        let middle = totals.get(totals.len().saturating_sub(1) / 2).copied().unwrap_or(0);
        let mut all = Pool::default();
        for (_, mut pool) in pools {
            pool.limit(middle.saturating_mul(2));
            all.add(&pool);
        }
        self.last = all.audience();
        links.push(Output::Event(Event::Audience(self.last.clone())));
    }
}

/// The tree in which a peer says what it had itself: that of its first primary stripe, else of any
/// stripe it has.
fn way_up(local: &Local, trees: &[Tree]) -> Option<StripeId> {
    let has_parent =
        |stripe: &StripeId| trees.get(stripe.index()).is_some_and(|tree| tree.parent.is_some());
    let first = [local.first_role()].into_iter().filter(|_| local.roles.is_empty());
    local.roles.iter().chain(first).chain(local.stripes.iter()).find(has_parent)
}
