//! Before the trees are joined: who is asked for contacts, and how long their answers are waited for.
//!
//! ```text
//!   the manifest is known ──▶ members are known? ──▶ up to three are asked ─┬─▶ somebody is known for
//!                             nobody, for 300 ms ─────────────┐             │   every stripe: join
//!                                                             ▼             ▼
//!                              the source is asked ◀── answers that are not enough, or too late
//!                                        └─▶ its answer, or too late: join with what there is
//! ```
//!
//! A crowd that joined without this would look for every stripe at the source.
//!
//! Decides when a newcomer joins. Whom it asks for which stripe then is left to the overlay policy.

use std::collections::BTreeMap;
use std::time::Duration;

use banyan_wire::{Contact, Message, PeerId};
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha12Rng;

use crate::Instant;
use crate::links::Links;
use crate::view::View;

/// Longest wait for somebody to ask.
const CONTACTS_WAIT: Duration = Duration::from_millis(300);
/// Longest wait for the contacts of those who were asked: a connection and the answer, at round trips
/// of 200 ms.
const ANSWER_WAIT: Duration = Duration::from_millis(700);
/// Members that are asked.
const ASKED: usize = 3;

/// The state of a newcomer. The [module documentation](self) draws it.
#[derive(Debug)]
pub(crate) struct Introduction {
    /// When no more is waited for; `None` once the trees are being joined.
    until: Option<Instant>,
    /// Who was asked, and whether its answer is waited for still.
    asked: BTreeMap<PeerId, bool>,
}

impl Introduction {
    pub(crate) fn new(now: Instant) -> Self {
        Self { until: Some(now + CONTACTS_WAIT), asked: BTreeMap::new() }
    }

    /// When [`is_over`](Self::is_over) has to be asked again, if ever.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.until
    }

    /// The trees are being joined.
    pub(crate) fn end(&mut self) {
        self.until = None;
    }

    /// Members may have become known: asks some of them, connected ones first, unless somebody is
    /// known for every stripe.
    pub(crate) fn look_around(
        &mut self,
        now: Instant,
        view: &View,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        if self.until.is_none() {
            return;
        }
        if view.missing_digits().is_empty() {
            self.until = Some(now);
            return;
        }
        let room = ASKED.saturating_sub(self.asked.len());
        let is_new = |contact: &&Contact| !self.asked.contains_key(&contact.peer);
        let (near, far): (Vec<&Contact>, Vec<&Contact>) =
            view.iter().filter(is_new).partition(|contact| links.is_connected(&contact.peer));
        let near = near.into_iter().sample(rng, room);
        let far = far.into_iter().sample(rng, room - near.len());
        for contact in near.into_iter().chain(far) {
            self.ask(now, contact, view, links);
        }
    }

    /// Somebody told its contacts.
    pub(crate) fn on_answer(&mut self, now: Instant, from: &PeerId, view: &View) {
        if self.until.is_none() {
            return;
        }
        if let Some(is_awaited) = self.asked.get_mut(from) {
            *is_awaited = false;
        }
        let is_answered = !self.asked.values().any(|is_awaited| *is_awaited);
        if is_answered || view.missing_digits().is_empty() {
            self.until = Some(now);
        }
    }

    /// Whether it is time to join the trees. Where nobody is known for some stripe still, the source
    /// is asked before.
    pub(crate) fn is_over(&mut self, now: Instant, view: &View, links: &mut Links) -> bool {
        if self.until.is_none_or(|until| now < until) {
            return false;
        }
        let source = view.source().filter(|source| !self.asked.contains_key(&source.peer));
        match source.filter(|_| !view.missing_digits().is_empty()) {
            Some(source) => {
                self.ask(now, source, view, links);
                false
            }
            None => true,
        }
    }

    fn ask(&mut self, now: Instant, contact: &Contact, view: &View, links: &mut Links) {
        links.reach(contact, Message::FindContacts { digits: view.missing_digits() });
        self.asked.insert(contact.peer, true);
        self.until = Some(now + ANSWER_WAIT);
    }
}
