//! The node's task: one loop between the swarm, the data plane, the application and the clock.
//!
//! Decides nothing about a broadcast. After every call into a peer machine its outputs are drained
//! and carried out in order; the machine alone says when it wants to be called again.

mod errands;
mod loops;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use banyan_coding::Layer;
use banyan_core::{Input, Peer, Role, Setup, Snapshot};
use banyan_wire::frame::Frame;
use banyan_wire::{Contact, GenerationId, GoodbyeReason, Message, PeerId, SignedManifest};
use libp2p::Multiaddr;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::events::{self, EventReceiver};
use crate::host::{Host, Tally};
use crate::link::{Inbox, Lane, Report};
use crate::member::{Leaving, Member};
use crate::node::{JoinError, JoinRequest, NodeConfig, NodeEvent, PublishError, Stopped};
use crate::{address, identity};

/// How long the last words to a broadcast may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the application asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Join {
        request: Box<JoinRequest>,
        via: Vec<(PeerId, Multiaddr)>,
        reply: oneshot::Sender<Result<EventReceiver, JoinError>>,
    },
    AddBootstrap {
        peers: Vec<(PeerId, Multiaddr)>,
    },
    Publish {
        tag: u64,
        layers: Vec<Layer>,
        is_random_access: bool,
        reply: oneshot::Sender<Result<GenerationId, PublishError>>,
    },
    SetManifest {
        tag: u64,
        manifest: Box<SignedManifest>,
    },
    Snapshot {
        tag: u64,
        reply: oneshot::Sender<Snapshot>,
    },
    Leave {
        tag: u64,
        reply: Option<oneshot::Sender<()>>,
    },
    /// The application has dropped a membership.
    Abandoned,
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// The node's task.
pub(crate) struct Driver {
    host: Host,
    members: BTreeMap<u64, Member>,
    inbox: Inbox,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<NodeEvent>,
    /// As listened on and as announced, for handles to read.
    addresses: watch::Sender<Vec<Multiaddr>>,
    listening: Vec<Multiaddr>,
    external: Vec<Multiaddr>,
    announces_listening: bool,
    /// Whether addresses of this machine alone are announced too: it listens nowhere else.
    announces_loopback: bool,
    shutdown: Option<oneshot::Sender<()>>,
}

impl Driver {
    pub(crate) fn new(
        host: Host,
        inbox: Inbox,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<NodeEvent>,
        addresses: watch::Sender<Vec<Multiaddr>>,
    ) -> Self {
        Self {
            host,
            members: BTreeMap::new(),
            inbox,
            commands,
            events,
            addresses,
            listening: Vec::new(),
            external: Vec::new(),
            announces_listening: true,
            announces_loopback: true,
            shutdown: None,
        }
    }

    // ---- Addresses --------------------------------------------------------------------------

    /// Says which addresses others are told.
    pub(crate) fn set_announced(&mut self, config: &NodeConfig) {
        for address in &config.external {
            self.host.swarm.active().add_external_address(address.clone());
        }
        self.external = config.external.clone();
        self.announces_listening = config.announce_listen_addresses;
        self.announces_loopback = config.listen.iter().all(address::is_loopback);
        self.on_addresses();
    }

    pub(crate) fn on_listen_address(&mut self, address: Multiaddr) {
        if self.listening.contains(&address) {
            return;
        }
        tracing::debug!(%address, "listening");
        if self.announces(&address) {
            self.host.swarm.active().add_external_address(address.clone());
        }
        self.listening.push(address);
        self.on_addresses();
    }

    /// Whether an address this node listens on is told to others.
    fn announces(&self, address: &Multiaddr) -> bool {
        self.announces_listening
            && address::is_specified(address)
            && (self.announces_loopback || !address::is_loopback(address))
    }

    fn on_expired_address(&mut self, address: &Multiaddr) {
        self.listening.retain(|other| other != address);
        self.host.swarm.active().remove_external_address(address);
        self.on_addresses();
    }

    fn on_addresses(&mut self) {
        let all = self.external.iter().chain(&self.listening);
        let local = self.host.local;
        self.addresses
            .send_replace(all.map(|address| address::with_peer(address.clone(), &local)).collect());
        let addresses = self.contact_addresses();
        for tag in self.members.keys() {
            let addresses = addresses.clone();
            self.host.answers.push_back((*tag, Input::Addresses { addresses }));
        }
    }

    fn contact_addresses(&self) -> Vec<bytes::Bytes> {
        let mut announced = self.external.clone();
        if self.announces_listening {
            announced.extend(self.listening.iter().filter(|a| address::is_specified(a)).cloned());
        }
        address::for_contact(&announced)
    }

    pub(crate) fn add_bootstrap(&mut self, peers: Vec<(PeerId, Multiaddr)>) {
        let now = Instant::now();
        for (peer, address) in peers {
            if peer != self.host.local {
                self.host.bootstrap.add(now, peer, address);
            }
        }
    }

    // ---- Commands ---------------------------------------------------------------------------

    fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Join { request, via, reply } => {
                // An application that has stopped waiting has abandoned the membership.
                drop(reply.send(self.join(now, *request, via)));
            }
            Command::AddBootstrap { peers } => self.add_bootstrap(peers),
            Command::Publish { tag, layers, is_random_access, reply } => {
                let published = match self.members.get_mut(&tag) {
                    Some(member) => {
                        let at = self.host.clock.to_core(now);
                        let published = member.peer.publish(at, &layers, is_random_access);
                        published.map_err(PublishError::from)
                    }
                    None => Err(Stopped.into()),
                };
                self.drain(now, tag);
                drop(reply.send(published));
            }
            Command::SetManifest { tag, manifest } => self.set_manifest(now, tag, *manifest),
            Command::Snapshot { tag, reply } => {
                if let Some(member) = self.members.get(&tag) {
                    drop(reply.send(member.peer.snapshot()));
                }
            }
            Command::Leave { tag, reply } => self.leave(now, tag, reply),
            // Only wakes the driver, which looks for itself.
            Command::Abandoned => {}
            Command::Shutdown { reply } => {
                self.shutdown = Some(reply);
                let tags: Vec<u64> = self.members.keys().copied().collect();
                for tag in tags {
                    self.leave(now, tag, None);
                }
            }
        }
    }

    fn join(
        &mut self,
        now: Instant,
        request: JoinRequest,
        via: Vec<(PeerId, Multiaddr)>,
    ) -> Result<EventReceiver, JoinError> {
        let broadcast = request.broadcast;
        let tag = broadcast.tag();
        if self.shutdown.is_some() {
            return Err(Stopped.into());
        }
        if self.members.contains_key(&tag) {
            return Err(JoinError::AlreadyJoined);
        }
        let is_source = matches!(request.role, Role::Source(_));
        let setup = Setup {
            broadcast,
            peer: self.host.local,
            role: request.role,
            addresses: self.contact_addresses(),
            config: request.config,
        };
        let seed = request.seed.unwrap_or_else(identity::random_seed);
        let peer = Peer::new(setup, self.host.clock.to_core(now), seed)?;
        let (sender, receiver) = events::queue();
        self.members.insert(tag, Member::new(broadcast, is_source, peer, sender, now));
        let contacts = introducers(&via, self.host.local);
        self.add_bootstrap(via);
        if !contacts.is_empty() {
            self.tell(now, tag, Input::Contacts { contacts });
        }
        Ok(receiver)
    }

    fn set_manifest(&mut self, now: Instant, tag: u64, manifest: SignedManifest) {
        let Some(member) = self.members.get_mut(&tag) else { return };
        if manifest.manifest().broadcast != member.broadcast {
            return;
        }
        if member.is_source {
            member.errands.manifest = Some(manifest.clone());
            member.errands.is_published = false;
            member.errands.hurry(now);
        }
        member.peer.set_manifest(self.host.clock.to_core(now), manifest);
        self.drain(now, tag);
    }

    fn leave(&mut self, now: Instant, tag: u64, reply: Option<oneshot::Sender<()>>) {
        let Some(member) = self.members.get_mut(&tag) else { return };
        if let Some(leaving) = &mut member.leaving {
            leaving.reply = leaving.reply.take().or(reply);
            return;
        }
        member.leaving = Some(Leaving { until: now + LEAVE_TIMEOUT, reply });
        member.errands.due = None;
        Self::withdraw(&mut self.host, member);
        member.peer.leave(self.host.clock.to_core(now));
        self.drain(now, tag);
    }

    /// Ends a membership. Connections nobody else uses become idle.
    fn remove(&mut self, tag: u64) {
        let Some(mut member) = self.members.remove(&tag) else { return };
        let peers: Vec<PeerId> = member.known.union(&member.kept).copied().collect();
        for peer in peers {
            self.host.forget(&mut member, peer);
        }
        if member.leaving.is_none() {
            Self::withdraw(&mut self.host, &member);
        }
        if let Some(Leaving { reply: Some(reply), .. }) = member.leaving {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(());
        }
    }

    /// Removes the memberships whose last words are said, and those nobody holds any more.
    fn finish_leaving(&mut self, now: Instant) {
        let done = |member: &Member| match &member.leaving {
            Some(leaving) => member.known.is_empty() || now >= leaving.until,
            None => member.events.is_abandoned(),
        };
        let done: Vec<u64> =
            self.members.iter().filter(|(_, member)| done(member)).map(|(tag, _)| *tag).collect();
        for tag in done {
            self.remove(tag);
        }
    }

    // ---- The machines -----------------------------------------------------------------------

    /// One call into a machine, then its outputs.
    fn tell(&mut self, now: Instant, tag: u64, input: Input) {
        let Some(member) = self.members.get_mut(&tag) else { return };
        member.peer.handle(self.host.clock.to_core(now), input);
        drain(&mut self.host, member, now);
        member.due = member.peer.poll_timeout();
    }

    fn drain(&mut self, now: Instant, tag: u64) {
        let Some(member) = self.members.get_mut(&tag) else { return };
        drain(&mut self.host, member, now);
        member.due = member.peer.poll_timeout();
    }

    /// Tells `input` to every machine that knows `peer`; returns whether any does.
    fn tell_knowing(&mut self, now: Instant, peer: &PeerId, input: impl Fn() -> Input) -> bool {
        let mut is_known = false;
        for member in self.members.values_mut() {
            if member.known.contains(peer) {
                is_known = true;
                member.peer.handle(self.host.clock.to_core(now), input());
                drain(&mut self.host, member, now);
                member.due = member.peer.poll_timeout();
            }
        }
        is_known
    }

    // ---- The data plane ---------------------------------------------------------------------

    fn on_report(&mut self, now: Instant, report: Report) {
        match report {
            Report::Received { peer, messages } => self.on_messages(now, peer, messages),
            Report::Queue { peer, queued_bytes, dropped_messages } => {
                let expired_messages = dropped_messages;
                self.tell_knowing(now, &peer, || Input::SendQueue {
                    peer,
                    queued_bytes,
                    expired_messages,
                });
            }
            Report::Undecodable { peer, error } => {
                tracing::debug!(peer = %format_args!("{peer:.8}"), %error, "undecodable message");
                if !self.tell_knowing(now, &peer, || Input::Undecodable { peer }) {
                    self.host.expel(peer);
                }
            }
        }
    }

    fn on_messages(&mut self, now: Instant, peer: PeerId, messages: Vec<(u64, Message)>) {
        if !self.host.is_heard(&peer) {
            return;
        }
        let at = self.host.clock.to_core(now);
        let mut messages = messages.into_iter().peekable();
        while let Some((tag, message)) = messages.next() {
            let member = self.members.get_mut(&tag);
            let is_member =
                |member: &&mut Member| member.leaving.is_none() || member.known.contains(&peer);
            let Some(member) = member.filter(is_member) else {
                self.on_stray(peer, tag, &message);
                continue;
            };
            if let Some(connected) = self.host.introduce(member, peer) {
                member.peer.handle(at, connected);
                drain(&mut self.host, member, now);
            }
            // Nearly always all messages of a batch are for one broadcast.
            let mut next = Some(message);
            while let Some(message) = next {
                member.peer.handle(at, Input::Received { peer, message });
                drain(&mut self.host, member, now);
                next = messages.next_if(|(other, _)| *other == tag).map(|(_, message)| message);
            }
            member.due = member.peer.poll_timeout();
        }
    }

    /// A message for a broadcast this node is no peer of.
    fn on_stray(&mut self, peer: PeerId, tag: u64, message: &Message) {
        Tally::count(&self.host.tally.strays);
        if matches!(message, Message::Hello { .. }) {
            let goodbye = Message::Goodbye { reason: GoodbyeReason::NotAMember };
            let frame = Frame::encode(tag, &goodbye);
            self.host.swarm.link().send(&peer, Lane::Control, frame, None);
        }
    }

    fn on_unreachable(&mut self, now: Instant, peer: PeerId, error: &libp2p::swarm::DialError) {
        let text = cause(error);
        if let Some(unreachable) = self.host.bootstrap.on_failed(now, &peer, text) {
            tracing::debug!(error = unreachable.error, "no bootstrap peer can be reached");
            let event = NodeEvent::BootstrapUnreachable {
                tried: unreachable.tried,
                error: unreachable.error,
            };
            // Where nobody has read the last sixteen of these, one more says nothing new.
            drop(self.events.try_send(event));
        }
        self.give_up_or_retry(peer);
    }

    /// A dial has failed, or a connection has gone before a machine could use it.
    fn give_up_or_retry(&mut self, peer: PeerId) {
        for member in self.members.values_mut() {
            let Some(untried) = member.wanted.remove(&peer) else { continue };
            if !untried.is_empty() && self.host.dial(peer, untried).is_ok() {
                member.wanted.insert(peer, Vec::new());
            } else {
                self.host.answers.push_back((member.tag, Input::ConnectFailed { peer }));
            }
        }
    }

    /// The first or a further connection with `peer` is up.
    fn on_connection(&mut self, peer: PeerId) {
        let tally = &self.host.tally;
        Tally::count(&tally.connections_established);
        Tally::count(&tally.connections_now);
        self.host.on_connected(&peer);
        for member in self.members.values_mut() {
            if member.wanted.contains_key(&peer)
                && let Some(answer) = self.host.introduce(member, peer)
            {
                self.host.answers.push_back((member.tag, answer));
            }
        }
    }

    /// A connection with `peer` is gone, perhaps the last.
    fn on_connection_closed(&mut self, now: Instant, peer: PeerId, is_last: bool) {
        self.host.tally.connections_now.fetch_sub(1, Ordering::Relaxed);
        if !is_last {
            return;
        }
        // What it said before it went is still on its way.
        self.drain_inbox(now);
        self.host.on_disconnected(now, &peer);
        for member in self.members.values_mut() {
            if self.host.forget(member, peer) {
                self.host.answers.push_back((member.tag, Input::Disconnected { peer }));
            }
        }
        self.give_up_or_retry(peer);
    }
}

/// Carries out what a machine wants done.
fn drain(host: &mut Host, member: &mut Member, now: Instant) {
    while let Some(output) = member.peer.poll_output() {
        host.carry_out(member, now, output);
    }
}

/// The peers to start from, as contacts of whom nothing more is known.
fn introducers(via: &[(PeerId, Multiaddr)], local: PeerId) -> Vec<Contact> {
    let mut peers: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
    for (peer, address) in via {
        if *peer != local {
            peers.entry(*peer).or_default().push(address.clone());
        }
    }
    peers.iter().map(|(peer, addresses)| address::bare_contact(*peer, addresses)).collect()
}

/// Why a dial failed, in a few words: the innermost cause of the last address that was tried.
fn cause(error: &libp2p::swarm::DialError) -> String {
    use libp2p::TransportError;
    use libp2p::swarm::DialError;
    let DialError::Transport(errors) = error else { return one_line(&error.to_string()) };
    let Some((_, TransportError::Other(error))) = errors.last() else {
        return "the address cannot be dialled".to_owned();
    };
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    one_line(&innermost.to_string())
}

/// The last item of a list that libp2p spreads over several lines.
fn one_line(text: &str) -> String {
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("unreachable");
    last.trim().trim_start_matches("- ").trim_end_matches([')', ']', ':', ' ']).to_owned()
}
