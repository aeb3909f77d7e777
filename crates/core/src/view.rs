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

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use rand::seq::IteratorRandom;
use rand_chacha::ChaCha12Rng;

use banyan_wire::{Contact, Coordinate, MAX_CONTACTS, PeerId, Roles, StripeCount, StripeId};

use crate::Instant;
use crate::coordinate::estimate;
use crate::local::{Order, Rank};

/// Contacts kept for each digit. At the limit the worst makes room (see [`View::insert`]).
/// Three give redundancy against churn; the fourth is for the newcomer that proves fresher.
const ROW_LIMIT: usize = 4;
/// Contacts kept for digits that are our own. A guess: two expected levels of natives.
const OWN_DIGIT_LIMIT: usize = 16;
/// Contacts of our own digits that come before us, as long as they are known: the parents we could
/// turn to. Others of the digit make room for them.
const STANDBY: usize = 4;
/// How much nearer a newcomer must be than the farthest of those kept for being near.
const CLEARLY: Duration = Duration::from_millis(8);
/// Contacts kept whose roles are not known.
const UNSORTED_LIMIT: usize = 16;
/// Contacts handed out for one digit of several.
const SHARED_PER_DIGIT: usize = 3;
/// Contacts handed out where only one digit was asked for.
const SHARED_OF_ONE: usize = 16;
/// One in so many contacts that are handed out is chosen for being near the asker; the others are
/// drawn at random, which keeps views mixed.
const NEAR_SHARE: usize = 3;
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
    /// Where we are, if that is known and cared for.
    place: Option<Coordinate>,
    entries: BTreeMap<PeerId, Entry>,
    source: Option<PeerId>,
}

impl View {
    pub(crate) fn new(me: PeerId, stripes: StripeCount, order: Order) -> Self {
        let (own, class, entries) = (Roles::NONE, 0, BTreeMap::new());
        Self { stripes, order, own, class, me, place: None, entries, source: None }
    }

    /// Our own roles and class: the digits of the roles are kept in more detail.
    pub(crate) fn set_own(&mut self, roles: Roles, class: u8) {
        (self.own, self.class) = (roles, class);
    }

    /// Where we are: contacts that are near are kept before others from now on.
    pub(crate) const fn set_place(&mut self, place: Option<Coordinate>) {
        self.place = place;
    }

    /// `peer` says where it is.
    pub(crate) fn set_coordinate(&mut self, peer: &PeerId, coordinate: Coordinate) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.contact.coordinate = Some(coordinate);
        }
    }

    /// The round trip to a contact: as it was measured, else as the coordinates say.
    fn distance(&self, entry: &Entry) -> Option<Duration> {
        entry.rtt.or_else(|| self.estimate(&entry.contact))
    }

    /// The same to one that may not be known.
    pub(crate) fn distance_to(&self, contact: &Contact) -> Option<Duration> {
        let known = self.entries.get(&contact.peer).and_then(|entry| self.distance(entry));
        known.or_else(|| self.estimate(contact))
    }

    fn estimate(&self, contact: &Contact) -> Option<Duration> {
        estimate(self.place.as_ref()?, contact.coordinate.as_ref()?)
    }

    /// Whether `contact` comes before us in the order of `stripe`.
    fn is_before_us(&self, contact: &Contact, stripe: StripeId) -> bool {
        let ours: Rank = self.order.rank(&self.me, self.class, stripe);
        self.order.rank_of(contact, stripe) < ours
    }

    /// Remembers a contact. Hearsay never overwrites what a peer said of itself. Where a digit is
    /// full, the entry with the most failures makes room; else a farther one does for one that is
    /// near, and the oldest hearsay, then the longest unseen, for one that comes first hand.
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
                entry.contact = merge(contact, &entry.contact);
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
        let failed = members().filter(|entry| entry.failures > 0).max_by_key(worth_least);
        let worst = failed.or_else(|| match class.and(self.place) {
            Some(_) => self.farther(newcomer, is_first_hand, members().collect(), limit),
            None => members().filter(|_| is_first_hand).max_by_key(worth_least),
        });
        let worst = worst.map(|entry| entry.contact.peer);
        let worst = worst.or_else(|| self.after_us(newcomer, class?));
        match worst {
            Some(worst) => self.entries.remove(&worst).is_some(),
            None => false,
        }
    }

    /// Who makes room in a full row: all but a quarter of its places are for those who are near, the
    /// others for those who were heard of last, so that a row is not of one neighbourhood, and not of
    /// one liar's friends. A newcomer takes a place of the first kind if it is clearly nearer than the
    /// farthest there, who then competes for one of the others; else one of the others if it comes
    /// first hand.
    fn farther<'a>(
        &self,
        newcomer: &Contact,
        is_first_hand: bool,
        mut members: Vec<&'a Entry>,
        limit: usize,
    ) -> Option<&'a Entry> {
        let near = limit - limit / 4;
        members.sort_by_cached_key(|entry| self.distance(entry).unwrap_or(Duration::MAX));
        let farthest = members.get(near - 1).and_then(|entry| self.distance(entry));
        let is_near = self
            .estimate(newcomer)
            .is_some_and(|new| farthest.is_none_or(|farthest| new + CLEARLY < farthest));
        if !is_near && !is_first_hand {
            return None;
        }
        let kept = if is_near && farthest.is_some() { near - 1 } else { near };
        let known =
            members.iter().take(kept).filter(|entry| self.distance(entry).is_some()).count();
        let others = members.into_iter().skip(known).filter(|entry| !self.is_needed(entry));
        others.max_by_key(worth_least)
    }

    /// Whether a contact is one of the few of our own digits that come before us.
    fn is_needed(&self, entry: &Entry) -> bool {
        let Some(digit) = self.class(entry.contact.roles).filter(|digit| self.own.contains(*digit))
        else {
            return false;
        };
        let natives = self.entries.values().filter(|entry| entry.contact.roles.contains(digit));
        self.is_before_us(&entry.contact, digit)
            && natives.filter(|entry| self.is_before_us(&entry.contact, digit)).count() <= STANDBY
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
        natives.sort_by_cached_key(|e| {
            (e.failures, self.distance(e).unwrap_or(Duration::MAX), e.contact.peer)
        });
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

    /// What to tell `asker`, who wants contacts for `digits`: at most three for each, or sixteen of
    /// one digit that is asked for alone, a third of them near it and the others random; then some
    /// without a role; in all [`MAX_CONTACTS`].
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
        let there = self.contact(asker).and_then(|contact| contact.coordinate);
        let share = if digits.len() == 1 { SHARED_OF_ONE } else { SHARED_PER_DIGIT };
        for digit in digits.iter().filter(|digit| self.stripes.contains(*digit)) {
            let pool = self.entries.values().filter(healthy);
            let natives = pool.filter(|entry| entry.contact.roles.contains(digit));
            let (mut told, others) = match &there {
                Some(there) => nearest(natives.collect(), there, share / NEAR_SHARE),
                None => (Vec::new(), natives.collect()),
            };
            let room = share - told.len();
            told.extend(others.into_iter().sample(rng, room));
            for entry in told {
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

/// By what a contact goes before others: failures, then hearsay, then how long ago it was heard of.
fn worth_least(entry: &&Entry) -> (u8, bool, Reverse<Instant>) {
    (entry.failures, !entry.is_first_hand, Reverse(entry.seen_at))
}

/// Those of `entries` that are nearest to somebody, at most so many, and the others.
fn nearest<'a>(
    mut entries: Vec<&'a Entry>,
    there: &Coordinate,
    count: usize,
) -> (Vec<&'a Entry>, Vec<&'a Entry>) {
    let far = |entry: &&Entry| {
        let at = entry.contact.coordinate.as_ref();
        at.and_then(|at| estimate(there, at)).unwrap_or(Duration::MAX)
    };
    entries.sort_by_cached_key(far);
    let others = entries.split_off(count.min(entries.len()));
    (entries, others)
}

/// A contact without addresses (its peer dialled us and listens nowhere it knows of) keeps those
/// known before; likewise where it is.
fn merge(mut newer: Contact, older: &Contact) -> Contact {
    if newer.addresses.is_empty() {
        newer.addresses.clone_from(&older.addresses);
    }
    newer.coordinate = newer.coordinate.or(older.coordinate);
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
            coordinate: None,
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

    /// A contact so many milliseconds of round trip from the middle.
    fn at(n: u8, stripe: u8, millis: i32) -> Contact {
        let coordinate = Some(Coordinate { x: millis * 10, y: 0, height: 0, error: 50 });
        Contact { coordinate, ..contact(n, stripe) }
    }

    fn in_the_middle() -> View {
        let mut view = view();
        view.set_place(Some(Coordinate { x: 0, y: 0, height: 0, error: 50 }));
        view
    }

    fn peers(contacts: &[&Contact]) -> Vec<u8> {
        contacts.iter().map(|contact| contact.peer.0[0]).collect()
    }

    #[test]
    fn natives_come_by_what_was_measured_or_estimated_and_the_unknown_last() {
        let mut view = in_the_middle();
        view.insert(Instant::ZERO, contact(1, 3), true);
        view.insert(Instant::ZERO, at(2, 3, 80), true);
        view.insert(Instant::ZERO, at(3, 3, 40), true);
        view.set_rtt(&PeerId([2; 32]), Duration::from_millis(30));
        assert_eq!(peers(&view.natives(StripeId(3))), [2, 3, 1]);
        let vague = Coordinate { x: 10, y: 0, height: 0, error: 900 };
        view.set_coordinate(&PeerId([1; 32]), vague);
        assert_eq!(peers(&view.natives(StripeId(3))), [2, 3, 1]);
    }

    #[test]
    fn a_full_row_makes_room_for_one_that_is_clearly_nearer_even_by_hearsay() {
        let mut view = in_the_middle();
        for n in 1..=4 {
            view.insert(Instant::ZERO, at(n, 3, 100 + i32::from(n)), true);
        }
        view.insert(Instant::ZERO, at(5, 3, 99), false);
        assert!(view.contact(&PeerId([5; 32])).is_none(), "hardly nearer");
        view.insert(Instant::ZERO, at(6, 3, 20), false);
        let natives = peers(&view.natives(StripeId(3)));
        assert_eq!((natives.len(), natives[0]), (ROW_LIMIT, 6));
        view.insert(Instant::ZERO, at(7, 3, 300), false);
        assert!(view.contact(&PeerId([7; 32])).is_none(), "far, and hearsay");
    }

    #[test]
    fn however_many_are_near_the_one_heard_of_last_keeps_its_place() {
        let mut view = in_the_middle();
        for n in 1..=4 {
            view.insert(Instant::ZERO, at(n, 3, 100), true);
        }
        let later = Instant::from_micros(1);
        view.insert(later, at(5, 3, 250), true);
        for n in 6..60 {
            view.insert(later, at(n, 3, 60 - i32::from(n)), false);
        }
        let natives = peers(&view.natives(StripeId(3)));
        assert_eq!(natives.len(), ROW_LIMIT);
        assert_eq!(natives.last(), Some(&5), "{natives:?}");
        view.insert(later, at(61, 3, 400), true);
        assert_eq!(peers(&view.natives(StripeId(3))).len(), ROW_LIMIT);
    }

    #[test]
    fn nearness_drives_out_nobody_that_comes_before_us_in_our_own_digit() {
        let mut view = in_the_middle();
        let digit = StripeId(3);
        view.set_own(Roles::one(digit), 5);
        let mut all: Vec<_> = (0..200).map(|n| at(n, 3, 200)).collect();
        all.sort_by_key(|contact| view.order.rank_of(contact, digit));
        view.me = all[STANDBY].peer;
        let before: Vec<PeerId> = all[..STANDBY].iter().map(|contact| contact.peer).collect();
        for (contact, nearer) in all.into_iter().zip((0..200).rev()) {
            let coordinate = Some(Coordinate { x: nearer * 10, y: 0, height: 0, error: 50 });
            view.insert(Instant::ZERO, Contact { coordinate, ..contact }, true);
        }
        assert_eq!(view.natives(digit).len(), OWN_DIGIT_LIMIT);
        assert!(before.iter().all(|peer| view.contact(peer).is_some()));
    }

    #[test]
    fn an_asker_is_told_of_one_that_is_near_it_and_of_others_at_random() {
        let mut view = in_the_middle();
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let digit = StripeId(3);
        view.set_own(Roles::one(digit), 5);
        for n in 1..=16 {
            view.insert(Instant::ZERO, at(n, 3, 20 * i32::from(n)), true);
        }
        view.insert(Instant::ZERO, at(99, 5, 331), true);
        let asker = PeerId([99; 32]);
        let digits = Roles(1 << 3 | 1 << 4);
        let mut told = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let shared = view.share(digits, &asker, &mut rng);
            assert_eq!(shared.len(), SHARED_PER_DIGIT);
            assert!(shared.iter().any(|contact| contact.peer == PeerId([16; 32])));
            told.extend(shared.iter().map(|contact| contact.peer));
        }
        assert_eq!(told.len(), 16, "everybody is told of sometimes");
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
