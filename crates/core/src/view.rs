//! The routing view: which peers of the broadcast we know, by digit.
//!
//! ```text
//!   digit row    several contacts for each of the K digits of the role id
//!   own digit    more of them: the peers a native edge can lead to, some of which come before us
//!   unsorted     peers whose role is not known yet (introducers, relays)
//!   the source   always
//! ```
//!
//! The digit row is what makes interior-node-disjointness hold over Kademlia: a hop to a contact of
//! the row fixes the whole first digit, which ordinary k-buckets do not (one bit a hop).
//!
//! Decides who is worth remembering. Who is asked for what is left to the overlay policies; the
//! contacts come from hellos, from lists peers exchange, and from the directory.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::seq::IteratorRandom;
use rand_chacha::ChaCha12Rng;

use banyan_wire::{Contact, MAX_CONTACTS, PeerId, Roles, StripeCount, StripeId};

use crate::Instant;
use crate::local::{Order, Rank};

/// Contacts kept for each digit. At the limit the worst makes room (see [`View::insert`]).
/// Three give redundancy against churn; the fourth is for the newcomer that proves fresher.
const ROW_LIMIT: usize = 4;
/// Contacts kept for digits that are our own. A guess: two expected levels of natives.
const OWN_DIGIT_LIMIT: usize = 16;
/// Contacts of our own digits that come before us, as long as they are known: the parents we could
/// turn to. Others of the digit make room for them.
const STANDBY: usize = 4;
/// Contacts kept whose roles are not known.
const UNSORTED_LIMIT: usize = 16;
/// Contacts handed out for one digit of several.
const SHARED_PER_DIGIT: usize = 3;
/// Contacts handed out where only one digit was asked for.
const SHARED_OF_ONE: usize = 16;
/// Failed attempts in a row after which a contact is forgotten.
const MAX_FAILURES: u8 = 2;

/// What is known of one peer.
#[derive(Clone, Debug)]
struct Entry {
    contact: Contact,
    /// Heard from itself, not by hearsay.
    is_first_hand: bool,
    rtt: Option<Duration>,
    seen_at: Instant,
    failures: u8,
}

/// The peers of the broadcast this peer knows.
#[derive(Debug)]
pub(crate) struct View {
    stripes: StripeCount,
    order: Order,
    own: Roles,
    class: u8,
    me: PeerId,
    entries: BTreeMap<PeerId, Entry>,
    source: Option<PeerId>,
}

impl View {
    pub(crate) fn new(me: PeerId, stripes: StripeCount, order: Order) -> Self {
        let (own, class, entries) = (Roles::NONE, 0, BTreeMap::new());
        Self { stripes, order, own, class, me, entries, source: None }
    }

    /// Our own roles and class: the digits of the roles are kept in more detail.
    pub(crate) fn set_own(&mut self, roles: Roles, class: u8) {
        (self.own, self.class) = (roles, class);
    }

    /// Whether `contact` comes before us in the order of `stripe`.
    fn is_before_us(&self, contact: &Contact, stripe: StripeId) -> bool {
        let ours: Rank = self.order.rank(&self.me, self.class, stripe);
        self.order.rank_of(contact, stripe) < ours
    }

    /// Remembers a contact. Hearsay never overwrites what a peer said of itself. Where a digit is
    /// full, the entry with the most failures, then the oldest hearsay, makes room; if there is
    /// none such, hearsay is ignored and a first-hand contact replaces the longest unseen.
    pub(crate) fn insert(&mut self, now: Instant, contact: Contact, is_first_hand: bool) {
        if contact.peer == self.me {
            return;
        }
        if contact.is_source {
            // Only the manifest says who the source is; see `set_source`.
            if self.source != Some(contact.peer) {
                return;
            }
        }
        if let Some(entry) = self.entries.get_mut(&contact.peer) {
            if is_first_hand || !entry.is_first_hand {
                entry.contact = merge_addresses(contact, &entry.contact);
                entry.is_first_hand |= is_first_hand;
                entry.seen_at = now;
            }
            if is_first_hand {
                entry.failures = 0;
            }
            return;
        }
        if !contact.is_source && !self.make_room(&contact, is_first_hand) {
            return;
        }
        let entry = Entry { is_first_hand, rtt: None, seen_at: now, failures: 0, contact };
        self.entries.insert(entry.contact.peer, entry);
    }

    /// Remembers contacts by hearsay.
    pub(crate) fn hear_of(&mut self, now: Instant, contacts: impl IntoIterator<Item = Contact>) {
        for contact in contacts {
            self.insert(now, contact, false);
        }
    }

    /// Remembers the source, from a verified manifest.
    pub(crate) fn set_source(&mut self, now: Instant, contact: Contact) {
        self.source = Some(contact.peer);
        let contact = Contact { is_source: true, roles: Roles::NONE, ..contact };
        self.insert(now, contact, true);
    }

    fn make_room(&mut self, newcomer: &Contact, is_first_hand: bool) -> bool {
        let class = self.class(newcomer.roles);
        let limit = match class {
            None => UNSORTED_LIMIT,
            Some(digit) if self.own.contains(digit) => OWN_DIGIT_LIMIT,
            Some(_) => ROW_LIMIT,
        };
        let members = || {
            self.entries.values().filter(|entry| {
                !entry.contact.is_source && self.class(entry.contact.roles) == class
            })
        };
        if members().count() < limit {
            return true;
        }
        let worst = members()
            .filter(|entry| is_first_hand || entry.failures > 0)
            .max_by_key(|e| (e.failures, !e.is_first_hand, std::cmp::Reverse(e.seen_at)))
            .map(|entry| entry.contact.peer);
        let worst = worst.or_else(|| self.after_us(newcomer, class?));
        match worst {
            Some(worst) => self.entries.remove(&worst).is_some(),
            None => false,
        }
    }

    /// A contact of our own digit that may go because it comes after us, for a newcomer that comes
    /// before us while few do.
    fn after_us(&self, newcomer: &Contact, digit: StripeId) -> Option<PeerId> {
        if !self.own.contains(digit) || !self.is_before_us(newcomer, digit) {
            return None;
        }
        let natives = || self.entries.values().filter(|entry| entry.contact.roles.contains(digit));
        let before = natives().filter(|entry| self.is_before_us(&entry.contact, digit)).count();
        if before >= STANDBY {
            return None;
        }
        let after = natives().filter(|entry| !self.is_before_us(&entry.contact, digit));
        after.max_by_key(|entry| !entry.is_first_hand).map(|entry| entry.contact.peer)
    }

    /// The first role, by which a contact is filed.
    fn class(&self, roles: Roles) -> Option<StripeId> {
        roles.iter().find(|stripe| self.stripes.contains(*stripe))
    }

    /// The round trip to `peer`, as the transport measured it; of those known it is remembered beyond
    /// the connection.
    pub(crate) fn set_rtt(&mut self, peer: &PeerId, rtt: Duration) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.rtt = Some(rtt);
        }
    }

    /// Notes that `peer` could not be reached or did not answer; forgets it after
    /// [`MAX_FAILURES`]. The source is never forgotten.
    pub(crate) fn on_failure(&mut self, peer: &PeerId) {
        let is_source = self.source == Some(*peer);
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.failures = entry.failures.saturating_add(1);
            if entry.failures >= MAX_FAILURES && !is_source {
                self.entries.remove(peer);
            }
        }
    }

    /// Forgets a peer that left.
    pub(crate) fn remove(&mut self, peer: &PeerId) {
        if self.source != Some(*peer) {
            self.entries.remove(peer);
        }
    }

    pub(crate) fn contact(&self, peer: &PeerId) -> Option<&Contact> {
        self.entries.get(peer).map(|entry| &entry.contact)
    }

    pub(crate) fn source(&self) -> Option<&Contact> {
        self.contact(self.source.as_ref()?)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All contacts but the source, in a fixed order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.entries.values().map(|entry| &entry.contact).filter(|contact| !contact.is_source)
    }

    /// Contacts that have `stripe` as a primary one, nearest by round trip first; those without a
    /// measurement after them.
    pub(crate) fn natives(&self, stripe: StripeId) -> Vec<&Contact> {
        let mut natives: Vec<&Entry> = self
            .entries
            .values()
            .filter(|entry| entry.contact.roles.contains(stripe) && !entry.contact.is_source)
            .collect();
        natives.sort_by_key(|e| (e.failures, e.rtt.unwrap_or(Duration::MAX), e.contact.peer));
        natives.into_iter().map(|entry| &entry.contact).collect()
    }

    /// The digits for which no contact is known.
    pub(crate) fn missing_digits(&self) -> Roles {
        let mut missing = Roles::NONE;
        self.stripes.iter().for_each(|stripe| missing.insert(stripe));
        for entry in self.entries.values() {
            missing.0 &= !entry.contact.roles.0;
        }
        missing
    }

    /// What to tell `asker`, who wants contacts for `digits`: at most three random ones for each,
    /// or sixteen of one digit that is asked for alone; then some without a role; in all
    /// [`MAX_CONTACTS`].
    pub(crate) fn share(
        &self,
        digits: Roles,
        asker: &PeerId,
        rng: &mut ChaCha12Rng,
    ) -> Vec<Contact> {
        let mut shared: BTreeMap<PeerId, Contact> = BTreeMap::new();
        let healthy = |entry: &&Entry| {
            entry.failures == 0
                && entry.contact.peer != *asker
                && !entry.contact.is_source
                && !entry.contact.addresses.is_empty()
        };
        let share = if digits.len() == 1 { SHARED_OF_ONE } else { SHARED_PER_DIGIT };
        for digit in digits.iter().filter(|digit| self.stripes.contains(*digit)) {
            let pool = self.entries.values().filter(healthy);
            let natives = pool.filter(|entry| entry.contact.roles.contains(digit));
            for entry in natives.sample(rng, share) {
                if shared.len() < MAX_CONTACTS {
                    shared.insert(entry.contact.peer, entry.contact.clone());
                }
            }
        }
        let roleless = |entry: &&Entry| entry.contact.roles.is_empty() && entry.is_first_hand;
        for entry in self.entries.values().filter(healthy).filter(roleless).take(SHARED_PER_DIGIT) {
            if shared.len() < MAX_CONTACTS {
                shared.insert(entry.contact.peer, entry.contact.clone());
            }
        }
        shared.into_values().collect()
    }
}

/// A contact without addresses (its peer dialled us and listens nowhere it knows of) keeps those
/// known before.
fn merge_addresses(mut newer: Contact, older: &Contact) -> Contact {
    if newer.addresses.is_empty() {
        newer.addresses.clone_from(&older.addresses);
    }
    newer
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rand::SeedableRng;

    use super::*;

    const ME: PeerId = PeerId([0xff; 32]);

    fn view() -> View {
        let order = Order::new(&banyan_wire::BroadcastId([3; 32]), StripeCount::DEFAULT);
        View::new(ME, StripeCount::DEFAULT, order)
    }

    fn contact(n: u8, stripe: u8) -> Contact {
        Contact {
            peer: PeerId([n; 32]),
            roles: Roles::one(StripeId(stripe)),
            capacity: 16,
            addresses: vec![Bytes::from_static(b"address")],
            is_source: false,
            class: 5,
        }
    }

    #[test]
    fn a_digit_row_is_bounded_whatever_is_offered() {
        let mut view = view();
        for n in 0..200 {
            view.insert(Instant::ZERO, contact(n, 3), n % 2 == 0);
        }
        assert_eq!(view.natives(StripeId(3)).len(), ROW_LIMIT);
        let mut roleless = contact(0, 0);
        roleless.roles = Roles::NONE;
        for n in 0..200 {
            roleless.peer = PeerId([n; 32]);
            view.insert(Instant::ZERO, roleless.clone(), true);
        }
        assert!(view.len() <= ROW_LIMIT + UNSORTED_LIMIT);
    }

    #[test]
    fn peers_that_come_before_us_are_kept_in_a_full_row_of_our_own_digit() {
        let mut view = view();
        let digit = StripeId(3);
        view.set_own(Roles::one(digit), 5);
        let mut all: Vec<_> = (0..200).map(|n| contact(n, 3)).collect();
        all.sort_by_key(|contact| view.order.rank_of(contact, digit));
        view.me = all[100].peer;
        let (before, after): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|contact| view.is_before_us(contact, digit));
        for contact in after.iter().chain(&before) {
            view.insert(Instant::ZERO, contact.clone(), false);
        }
        let natives = view.natives(digit);
        assert_eq!(natives.len(), OWN_DIGIT_LIMIT);
        let kept = natives.iter().filter(|contact| view.is_before_us(contact, digit)).count();
        assert_eq!(kept, STANDBY);
    }

    #[test]
    fn hearsay_never_overwrites_what_a_peer_said_of_itself() {
        let mut view = view();
        view.insert(Instant::ZERO, contact(1, 3), true);
        view.insert(Instant::ZERO, contact(1, 9), false);
        assert!(view.natives(StripeId(9)).is_empty());
        view.insert(Instant::ZERO, contact(1, 9), true);
        assert_eq!(view.natives(StripeId(9)).len(), 1);
    }

    #[test]
    fn nobody_but_the_manifest_names_the_source() {
        let mut view = view();
        let mut liar = contact(1, 3);
        liar.is_source = true;
        view.insert(Instant::ZERO, liar, true);
        assert_eq!(view.source(), None);
        view.set_source(Instant::ZERO, contact(2, 3));
        assert_eq!(view.source().map(|source| source.peer), Some(PeerId([2; 32])));
        for _ in 0..9 {
            view.on_failure(&PeerId([2; 32]));
        }
        assert!(view.source().is_some(), "the source is never forgotten");
    }

    #[test]
    fn unreachable_contacts_are_forgotten_and_not_handed_out() {
        let mut view = view();
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        view.insert(Instant::ZERO, contact(1, 3), true);
        assert_eq!(view.share(Roles::one(StripeId(3)), &ME, &mut rng).len(), 1);
        view.on_failure(&PeerId([1; 32]));
        assert!(view.share(Roles::one(StripeId(3)), &ME, &mut rng).is_empty());
        view.on_failure(&PeerId([1; 32]));
        assert_eq!(view.len(), 0);
    }
}
