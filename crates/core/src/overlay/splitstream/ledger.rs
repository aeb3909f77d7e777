//! Slots of one tree that are not what the reports say: to come, to go, or gone for a moment.
//!
//! ```text
//!   a peer is appointed ──▶ promised ──▶ its slots are reported, or time is over
//!   a native dies ──▶ all slots below it are gone ──▶ healing ──▶ they are reported again, elsewhere
//! ```
//!
//! Which slots a report brings cannot be told; those that come are taken for the oldest of what is
//! expected, those that had gone first. Where news of the return is faster than news of the loss, what
//! came unexpected is remembered for as long.
//!
//! Decides what is believed, and until when. What is done about it is left to
//! [`supply`](super::supply).

use std::time::Duration;

use banyan_wire::Contact;

use crate::Instant;
use crate::local::share;

/// How long the slots of a subtree that has lost its top are expected back with it. Orphans have new
/// parents after one second, and nearly all after two (mass-failure.toml).
const HEALING: Duration = Duration::from_millis(2500);

/// Slots, and until when they are believed in.
type Until = (u32, Instant);

/// Slots of somebody who was appointed.
#[derive(Clone, Copy, Debug)]
struct Promise {
    slots: u32,
    /// Those that have not come yet, as far as that can be told.
    outstanding: u32,
    until: Instant,
}

/// The ledger of one tree, kept by the source.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    promises: Vec<Promise>,
    /// Slots that are to go, because their peer was appointed elsewhere.
    drained: Vec<Until>,
    /// Slots that went with the top of their subtree.
    healing: Vec<Until>,
    /// Slots that came of themselves: their loss may not be known yet.
    found: Vec<Until>,
}

impl Ledger {
    /// Somebody with so many slots was asked to serve the stripe.
    pub(super) fn promise(&mut self, now: Instant, slots: u32, until: Instant) {
        self.promises.retain(|promise| promise.until > now);
        self.promises.push(Promise { slots, outstanding: slots, until });
    }

    /// Somebody with so many slots was asked to leave.
    pub(super) fn drain(&mut self, now: Instant, slots: u32, until: Instant) {
        believe(&mut self.drained, now, slots, until);
    }

    /// The subtree of `child` was said to have `before` slots, and now says that it has `slots`.
    pub(super) fn account(&mut self, now: Instant, child: &Contact, before: u32, slots: u32) {
        if slots >= before {
            self.gain(now, slots - before);
        } else {
            self.lose(now, before - slots, share(child.capacity, child.roles.len()));
        }
    }

    fn gain(&mut self, now: Instant, slots: u32) {
        let mut left = settle(self.healing.iter_mut().map(|(slots, _)| slots), slots);
        left = settle(self.promises.iter_mut().map(|promise| &mut promise.outstanding), left);
        believe(&mut self.found, now, left, now + HEALING);
    }

    /// A subtree is gone, or a part of it: all its slots but those of its top, `own`, come back.
    fn lose(&mut self, now: Instant, slots: u32, own: u32) {
        self.found.retain(|(_, until)| *until > now);
        let found = self.found.iter_mut().map(|(slots, _)| slots);
        let healing = settle(found, slots.saturating_sub(own));
        believe(&mut self.healing, now, healing, now + HEALING);
    }

    /// Slots that were promised.
    pub(super) fn promised(&self, now: Instant) -> u32 {
        self.sum_promises(now, |promise| promise.slots)
    }

    /// Those among them that have not come yet.
    pub(super) fn outstanding(&self, now: Instant) -> u32 {
        self.sum_promises(now, |promise| promise.outstanding)
    }

    /// Slots that are to go.
    pub(super) fn drained(&self, now: Instant) -> u32 {
        sum(&self.drained, now)
    }

    /// Slots that are expected back.
    pub(super) fn healing(&self, now: Instant) -> u32 {
        sum(&self.healing, now)
    }

    fn sum_promises(&self, now: Instant, slots: impl Fn(&Promise) -> u32) -> u32 {
        let live = self.promises.iter().filter(|promise| promise.until > now);
        live.fold(0, |sum, promise| sum.saturating_add(slots(promise)))
    }
}

/// Adds what is believed in until `until`, if it is anything, and forgets what no longer is.
fn believe(list: &mut Vec<Until>, now: Instant, slots: u32, until: Instant) {
    list.retain(|(slots, until)| *slots > 0 && *until > now);
    if slots > 0 {
        list.push((slots, until));
    }
}

/// The slots whose time is not over.
fn sum(list: &[Until], now: Instant) -> u32 {
    let live = list.iter().filter(|(_, until)| *until > now);
    live.fold(0, |sum, (slots, _)| sum.saturating_add(*slots))
}

/// Takes so many slots off `counts`, the first first. Returns how many are left.
fn settle<'a>(counts: impl Iterator<Item = &'a mut u32>, slots: u32) -> u32 {
    counts.fold(slots, |left, count| {
        let taken = left.min(*count);
        *count -= taken;
        left - taken
    })
}

#[cfg(test)]
mod tests {
    use banyan_wire::{PeerId, Roles, StripeId};

    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn native(capacity: u32) -> Contact {
        Contact {
            peer: PeerId([7; 32]),
            roles: Roles::one(StripeId(0)),
            capacity,
            addresses: Vec::new(),
            is_source: false,
            class: 0,
            coordinate: None,
        }
    }

    #[test]
    fn what_hung_below_a_lost_top_is_expected_back_but_for_its_own_slots() {
        let mut ledger = Ledger::default();
        ledger.account(NOW, &native(18), 180, 0);
        assert_eq!(ledger.healing(NOW), 162);
        ledger.account(NOW, &native(18), 0, 54);
        assert_eq!(ledger.healing(NOW), 108);
        assert_eq!(ledger.healing(NOW + HEALING), 0);
    }

    #[test]
    fn the_loss_of_a_native_that_had_none_below_it_is_a_loss() {
        let mut ledger = Ledger::default();
        ledger.account(NOW, &native(18), 90, 72);
        assert_eq!(ledger.healing(NOW), 0);
    }

    #[test]
    fn what_came_back_before_its_loss_was_known_is_not_expected_again() {
        let mut ledger = Ledger::default();
        ledger.account(NOW, &native(18), 0, 36);
        ledger.account(NOW, &native(18), 90, 0);
        assert_eq!(ledger.healing(NOW), 72 - 36);
    }

    #[test]
    fn slots_that_come_are_those_expected_back_and_then_those_promised() {
        let mut ledger = Ledger::default();
        ledger.promise(NOW, 18, NOW + HEALING);
        ledger.account(NOW, &native(18), 36, 0);
        ledger.account(NOW, &native(18), 0, 28);
        assert_eq!((ledger.healing(NOW), ledger.outstanding(NOW)), (0, 8));
        assert_eq!(ledger.promised(NOW), 18);
        assert_eq!(ledger.promised(NOW + HEALING), 0);
    }
}
