//! The overlay boundary: who is whose parent and child is a policy, everything else is the kernel.
//!
//! A policy is a deterministic state machine: events in, outputs and [`Action`]s out, time and
//! randomness as arguments. The kernel (the rest of this crate) has the links, the store, the
//! forwarding, the failure detector and playout, which all policies share.
//!
//! Decides what policies are told and may ask for. Each policy is a file of its own.

use std::fmt::Debug;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;

use banyan_wire::{Contact, Message, Overlay as Kind, PeerId, Start, StripeCount, StripeId};

use crate::links::Links;
use crate::local::Local;
use crate::view::View;
use crate::watch::Silence;
use crate::{Config, Event, Instant, Output};

mod peercast;
mod splitstream;
mod tree;

pub(crate) use tree::Tree;

/// What a policy asks of the kernel, besides sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Push a stripe to a child.
    Serve {
        /// The child.
        child: PeerId,
        /// The stripe.
        stripe: StripeId,
        /// From where.
        start: Start,
    },
    /// Stop pushing it.
    Stop {
        /// The child that was.
        child: PeerId,
        /// The stripe.
        stripe: StripeId,
    },
    /// Our own contact changed: tell the neighbours.
    Announce,
    /// Nobody seems to be able to dial us: we have no slots for a while.
    Unreachable,
}

/// What a policy sees of the kernel while it handles one event.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) config: &'a Config,
    pub(crate) local: &'a mut Local,
    pub(crate) view: &'a mut View,
    pub(crate) links: &'a mut Links,
    pub(crate) rng: &'a mut ChaCha12Rng,
    pub(crate) actions: &'a mut Vec<Action>,
    /// For each stripe, from where a new parent should push.
    pub(crate) resume: &'a dyn Fn(StripeId) -> Start,
}

impl Context<'_> {
    pub(crate) fn send(&mut self, to: PeerId, message: Message) {
        self.links.send(to, message);
    }

    pub(crate) fn reach(&mut self, contact: &Contact, message: Message) {
        self.links.reach(contact, message);
    }

    /// The round trip to a contact: measured, or as the coordinates say.
    pub(crate) fn distance(&self, contact: &Contact) -> Option<Duration> {
        self.links.distance(&contact.peer).or_else(|| self.view.distance_to(contact))
    }

    pub(crate) fn emit(&mut self, event: Event) {
        self.links.push(Output::Event(event));
    }
}

/// A policy. Messages the kernel does not handle itself come here.
pub(crate) trait Overlay: Debug + Send {
    /// The broadcast is known and contacts may be: begin.
    fn start(&mut self, cx: &mut Context<'_>);
    /// A peer sent one of the overlay messages. `Err` names a breach of the protocol.
    fn on_message(
        &mut self,
        cx: &mut Context<'_>,
        from: PeerId,
        message: Message,
    ) -> Result<(), crate::Violation>;
    /// A peer said hello: its roles or capacity may have changed.
    fn on_contact(&mut self, cx: &mut Context<'_>, contact: &Contact);
    /// A peer answered a probe.
    fn on_alive(&mut self, _peer: PeerId) {}
    /// The connection with a peer is gone.
    fn on_peer_gone(&mut self, cx: &mut Context<'_>, peer: PeerId);
    /// A connection asked for did not come about.
    fn on_unreachable(&mut self, cx: &mut Context<'_>, peer: PeerId);
    /// The failure detector doubts the parent of a stripe, and asks it for a sign of life.
    fn on_doubt(&mut self, _cx: &mut Context<'_>, _stripe: StripeId) {}
    /// The failure detector found something the matter with a parent.
    fn on_silence(
        &mut self,
        cx: &mut Context<'_>,
        stripe: StripeId,
        parent: PeerId,
        silence: Silence,
    );
    /// Our capacity changed.
    fn on_capacity(&mut self, cx: &mut Context<'_>);
    /// Does what is due.
    fn handle_timeout(&mut self, cx: &mut Context<'_>);
    /// When [`handle_timeout`](Self::handle_timeout) has work next.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Leaves: children are handed over, parents are told.
    fn leave(&mut self, cx: &mut Context<'_>);
    /// The trees, one for each stripe.
    fn trees(&self) -> &[Tree];
    /// The peers whose connections serve something, sorted.
    fn users(&self) -> Vec<PeerId> {
        let mut users = Vec::new();
        self.trees().iter().for_each(|tree| tree.users(&mut users));
        users.sort_unstable();
        users.dedup();
        users
    }
    /// Peers of the broadcast, as the source said last.
    fn population(&self) -> u32;
    /// What must always hold; tests and the simulator call it after every step.
    fn check_invariants(&self, local: &Local) -> Result<(), String>;
}

/// Makes the policy a manifest names.
#[expect(clippy::wildcard_enum_match_arm, reason = "a decoded manifest names no other")]
pub(crate) fn build(kind: Kind, stripes: StripeCount) -> Box<dyn Overlay> {
    match kind {
        Kind::PeerCast => Box::new(peercast::PeerCast::new(stripes)),
        _ => Box::new(splitstream::SplitStream::new(stripes)),
    }
}
