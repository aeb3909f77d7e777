//! What the peer machines of a node share: its connections, the directory and the clock.
//!
//! Decides how an [`Output`] is carried out: one exhaustive match. When is left to the driver.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use banyan_core::{DisconnectReason, Input, Output};
use banyan_wire::{Contact, PeerId};
use libp2p::Multiaddr;
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use tokio::time::Instant;

use crate::bootstrap::Bootstrap;
use crate::directory::Directory;
use crate::link::{Counters, Lane};
use crate::member::Member;
use crate::swarm::GatedSwarm;
use crate::{NodeConfig, address, identity};

/// How long a peer that broke the protocol is refused.
const REFUSE_FOR: Duration = Duration::from_secs(60);

/// What the machines share.
pub(crate) struct Host {
    pub(crate) local: PeerId,
    /// A node of the directory stays with those it started from, so that it stays part of it.
    is_dht_server: bool,
    pub(crate) swarm: GatedSwarm,
    pub(crate) directory: Directory,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) clock: Clock,
    pub(crate) tally: Arc<Tally>,
    /// What machines are to be told next.
    pub(crate) answers: VecDeque<(u64, Input)>,
    /// How many machines know a peer.
    users: BTreeMap<PeerId, usize>,
    /// How many machines want its connections kept.
    keepers: BTreeMap<PeerId, usize>,
    /// Peers whose connections are being closed: what they still say is not heard.
    parting: BTreeSet<PeerId>,
}

/// The node's clock: the core's is the time since the node started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn to_core(self, instant: Instant) -> banyan_core::Instant {
        let since = instant.saturating_duration_since(self.0);
        banyan_core::Instant::ZERO + since
    }

    pub(crate) fn to_tokio(self, instant: banyan_core::Instant) -> Instant {
        // An instant that far away never comes; the clamp keeps the sum from overflowing.
        let since = instant.since(banyan_core::Instant::ZERO).min(Duration::from_secs(1 << 32));
        self.0 + since
    }
}

/// Counters of the node, read from any task.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) link: Arc<Counters>,
    pub(crate) connections_established: AtomicU64,
    pub(crate) connections_now: AtomicU64,
    pub(crate) dials: AtomicU64,
    pub(crate) strays: AtomicU64,
}

impl Tally {
    pub(crate) fn new(link: Arc<Counters>) -> Self {
        Self {
            link,
            connections_established: AtomicU64::new(0),
            connections_now: AtomicU64::new(0),
            dials: AtomicU64::new(0),
            strays: AtomicU64::new(0),
        }
    }

    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Host {
    pub(crate) fn new(config: &NodeConfig, mut swarm: GatedSwarm, clock: Clock) -> Self {
        let counters = swarm.link().counters();
        Self {
            local: config.identity.peer(),
            is_dht_server: config.is_dht_server,
            swarm,
            directory: Directory::default(),
            bootstrap: Bootstrap::default(),
            clock,
            tally: Arc::new(Tally::new(counters)),
            answers: VecDeque::new(),
            users: BTreeMap::new(),
            keepers: BTreeMap::new(),
            parting: BTreeSet::new(),
        }
    }

    /// Carries out one output of a machine.
    pub(crate) fn carry_out(&mut self, member: &mut Member, now: Instant, output: Output) {
        match output {
            Output::Send { to, message, expires_at } => {
                let lane = if message.is_data() { Lane::Data } else { Lane::Control };
                let frame = member.frame(&message);
                let expires_at = expires_at.map(|instant| self.clock.to_tokio(instant));
                let sent = self.swarm.link().send(&to, lane, frame, expires_at);
                tracing::trace!(
                    parent: &member.span,
                    peer = %format_args!("{to:.8}"),
                    message = message.name(),
                    ?sent,
                    "send"
                );
            }
            Output::Connect { contact } => self.connect(member, &contact),
            Output::Disconnect { peer, reason } => self.disconnect(member, peer, reason),
            Output::Keep { peer, keep } => self.keep(member, peer, keep),
            Output::Event(event) => member.emit(now, event),
        }
    }

    /// Tells a machine that a peer is connected, if it does not know. Returns what to tell it.
    pub(crate) fn introduce(&mut self, member: &mut Member, peer: PeerId) -> Option<Input> {
        member.wanted.remove(&peer);
        if !member.known.insert(peer) {
            return None;
        }
        *self.users.entry(peer).or_default() += 1;
        Some(Input::Connected { peer })
    }

    /// Makes a machine forget a peer. Returns whether it knew it.
    pub(crate) fn forget(&mut self, member: &mut Member, peer: PeerId) -> bool {
        self.keep(member, peer, false);
        let is_known = member.known.remove(&peer);
        if is_known {
            decrement(&mut self.users, peer);
        }
        is_known
    }

    /// Whether what `peer` says is still heard.
    pub(crate) fn is_heard(&self, peer: &PeerId) -> bool {
        !self.parting.contains(peer)
    }

    /// A connection with `peer` is up.
    pub(crate) fn on_connected(&mut self, peer: &PeerId) {
        let is_bootstrap = self.bootstrap.on_connected(peer);
        if !self.is_heard(peer) {
            // A further one, while the others are being closed.
            self.swarm.link().close(peer);
        }
        if self.keepers.contains_key(peer) || (is_bootstrap && self.is_dht_server) {
            self.swarm.link().set_kept(peer, true);
        }
    }

    /// The last connection with `peer` is gone.
    pub(crate) fn on_disconnected(&mut self, now: Instant, peer: &PeerId) {
        self.parting.remove(peer);
        let is_bootstrap = self.bootstrap.on_disconnected(peer);
        if is_bootstrap && self.is_dht_server {
            self.bootstrap.retry(now);
        }
    }

    /// Closes all connections with a peer that broke the protocol, and refuses it for a while.
    pub(crate) fn expel(&mut self, peer: PeerId) {
        tracing::debug!(peer = %format_args!("{peer:.8}"), "refusing a peer that broke the protocol");
        self.swarm.link().block(peer, REFUSE_FOR);
        self.part(peer);
    }

    /// Dials a peer; says what went wrong where that is known at once.
    pub(crate) fn dial(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    ) -> Result<(), DialError> {
        let Some(name) = identity::to_libp2p(&peer) else {
            return Err(DialError::NoAddresses);
        };
        let options = DialOpts::peer_id(name)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            .build();
        self.swarm.active().dial(options)?;
        Tally::count(&self.tally.dials);
        Ok(())
    }

    fn connect(&mut self, member: &mut Member, contact: &Contact) {
        let peer = contact.peer;
        if self.swarm.link().is_open(&peer) && self.is_heard(&peer) {
            self.introduce(member, peer);
            self.answers.push_back((member.tag, Input::Connected { peer }));
            return;
        }
        if peer == self.local || !self.is_heard(&peer) {
            self.answers.push_back((member.tag, Input::ConnectFailed { peer }));
            return;
        }
        let addresses = address::of_contact(contact);
        match self.dial(peer, addresses.clone()) {
            Ok(()) => drop(member.wanted.insert(peer, Vec::new())),
            // Somebody else dials already, perhaps elsewhere: the addresses wait for how that ends.
            Err(DialError::DialPeerConditionFalse(_)) => {
                member.wanted.insert(peer, addresses);
            }
            Err(error) => {
                tracing::debug!(
                    parent: &member.span,
                    peer = %format_args!("{peer:.8}"),
                    %error,
                    "cannot dial"
                );
                self.answers.push_back((member.tag, Input::ConnectFailed { peer }));
            }
        }
    }

    fn disconnect(&mut self, member: &mut Member, peer: PeerId, reason: DisconnectReason) {
        tracing::debug!(
            parent: &member.span,
            peer = %format_args!("{peer:.8}"),
            ?reason,
            "disconnect"
        );
        member.wanted.remove(&peer);
        match reason {
            DisconnectReason::Violation(_) => self.expel(peer),
            DisconnectReason::Leaving if self.is_shared(member, &peer) => {
                // Other broadcasts go on over the same connection.
                if self.forget(member, peer) {
                    self.answers.push_back((member.tag, Input::Disconnected { peer }));
                }
            }
            DisconnectReason::Leaving => self.part(peer),
        }
    }

    fn part(&mut self, peer: PeerId) {
        self.swarm.link().close(&peer);
        if identity::to_libp2p(&peer).is_some_and(|name| self.swarm.is_connected(&name)) {
            self.parting.insert(peer);
        }
    }

    fn is_shared(&self, member: &Member, peer: &PeerId) -> bool {
        let own = usize::from(member.known.contains(peer));
        self.users.get(peer).is_some_and(|users| *users > own)
    }

    fn keep(&mut self, member: &mut Member, peer: PeerId, keep: bool) {
        let is_change = if keep { member.kept.insert(peer) } else { member.kept.remove(&peer) };
        if !is_change {
            return;
        }
        if keep {
            *self.keepers.entry(peer).or_default() += 1;
        } else {
            decrement(&mut self.keepers, peer);
        }
        let is_kept = self.keepers.contains_key(&peer)
            || (self.is_dht_server && self.bootstrap.contains(&peer));
        self.swarm.link().set_kept(&peer, is_kept);
    }
}

fn decrement(counts: &mut BTreeMap<PeerId, usize>, peer: PeerId) {
    if let Some(count) = counts.get_mut(&peer) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&peer);
        }
    }
}
