//! One peer of one broadcast: the machine the network and the simulator both run.
//!
//! ```text
//!   commands, Input ──▶ Peer ──▶ Output                 drain after every call, to `None`
//!                        │
//!                        ├─ links      connections and what waits for them
//!                        └─ session    from the first manifest on:
//!                             view, store, forwarder, watch, playback, overlay policy
//! ```
//!
//! Decides which part handles what, and what happens before the manifest is known. What each part
//! does is left to the part; sockets, clocks and codecs to the callers.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use thiserror::Error;

use banyan_coding::{EncodeError, Layer};
use banyan_wire::{
    BroadcastId, BroadcastKey, Contact, GenerationId, GoodbyeReason, Message, PeerId, Roles,
    SignedManifest, Verifier,
};

use crate::links::Links;
use crate::session::Session;
use crate::store::{Store, Stored};
use crate::{
    Audience, Config, ConfigError, DisconnectReason, Event, Input, Instant, Output, Snapshot,
    Stats, Violation,
};

/// Contacts kept before the manifest is known. At the limit further ones are ignored.
const MAX_INTRODUCERS: usize = 32;
/// How long changes in the use of connections are gathered: far shorter than any idle time-out.
const SETTLE_AFTER: Duration = Duration::from_millis(200);
/// Introducers asked at the same time.
const INTRODUCERS_AT_ONCE: usize = 3;

/// What a peer is there for.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each peer")]
pub enum Role {
    /// It injects the broadcast, and has its key.
    Source(BroadcastKey),
    /// It watches.
    Viewer,
    /// It lends its upload and plays nothing.
    Relay,
}

/// What a peer is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// This peer's name.
    pub peer: PeerId,
    /// What it is there for.
    pub role: Role,
    /// Where others can reach it, as binary multiaddrs.
    pub addresses: Vec<Bytes>,
    /// Its limits and waits.
    pub config: Config,
}

/// Why a generation was not published.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// This peer is not the source.
    #[error("only the source publishes")]
    NotTheSource,
    /// The source has no manifest yet.
    #[error("a manifest must be set before the first generation")]
    NoManifest,
    /// The generation cannot be coded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// One peer of one broadcast.
///
/// After every call, drain [`poll_output`](Self::poll_output) to `None` and note
/// [`poll_timeout`](Self::poll_timeout):
///
/// ```
/// use banyan_core::{Config, Instant, Peer, Role, Setup};
/// use banyan_wire::{BroadcastKey, PeerId};
///
/// let broadcast = BroadcastKey::from_seed(&[1; 32]).broadcast();
/// let (peer, addresses, config) = (PeerId([2; 32]), Vec::new(), Config::default());
/// let setup = Setup { broadcast, peer, role: Role::Viewer, addresses, config };
/// let mut peer = Peer::new(setup, Instant::ZERO, [0; 32])?;
/// peer.handle_timeout(Instant::ZERO);
/// while let Some(output) = peer.poll_output() {
///     // send, connect, disconnect, tell the application …
/// #   drop(output);
/// }
/// # Ok::<(), banyan_core::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Peer {
    broadcast: BroadcastId,
    peer: PeerId,
    role: Role,
    config: Config,
    addresses: Vec<Bytes>,
    verifier: Verifier,
    rng: ChaCha12Rng,
    links: Links,
    /// Whom to ask for the manifest; the one asked longest ago comes first.
    introducers: VecDeque<Contact>,
    ask_at: Option<Instant>,
    /// When to say which connections are in use, if that may have changed.
    settle_at: Option<Instant>,
    session: Option<Session>,
    stats: Stats,
    has_left: bool,
}

impl Peer {
    /// Makes a peer. It does nothing before it is told of contacts, or given a manifest.
    ///
    /// # Errors
    /// [`ConfigError`] where the configuration is not valid or the broadcast id is no public key.
    pub fn new(setup: Setup, now: Instant, seed: [u8; 32]) -> Result<Self, ConfigError> {
        setup.config.validate()?;
        let verifier = Verifier::new(&setup.broadcast).map_err(|_| ConfigError::Broadcast)?;
        Ok(Self {
            broadcast: setup.broadcast,
            peer: setup.peer,
            role: setup.role,
            config: setup.config,
            addresses: setup.addresses,
            verifier,
            rng: ChaCha12Rng::from_seed(seed),
            links: Links::default(),
            introducers: VecDeque::new(),
            ask_at: Some(now),
            settle_at: None,
            session: None,
            stats: Stats::default(),
            has_left: false,
        })
    }

    // ---- Commands ---------------------------------------------------------------------------

    /// Tells a version of the manifest: the source's own, or one found in the directory. Older
    /// versions, and versions that change K or the overlay, are ignored.
    pub fn set_manifest(&mut self, now: Instant, manifest: SignedManifest) {
        self.take_manifest(now, manifest, None);
        self.settle(now);
    }

    /// Codes, signs, stores and pushes a generation.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was sent then, and the generation's number is used by the next.
    pub fn publish(
        &mut self,
        now: Instant,
        layers: &[Layer],
        is_random_access: bool,
    ) -> Result<GenerationId, PublishError> {
        let Role::Source(key) = &self.role else { return Err(PublishError::NotTheSource) };
        let session = self.session.as_mut().ok_or(PublishError::NoManifest)?;
        let generation = session.publish(
            now,
            key,
            layers,
            is_random_access,
            &self.config,
            &mut self.links,
            &mut self.stats,
        )?;
        Ok(generation)
    }

    /// Leaves: children are handed over, parents and neighbours are told. Drain the outputs, send
    /// them, and drop the peer.
    pub fn leave(&mut self, now: Instant) {
        if self.has_left {
            return;
        }
        if let Some(session) = &mut self.session {
            session.leave(now, &self.config, &mut self.links, &mut self.rng);
        }
        let peers: Vec<PeerId> = self.links.peers().copied().collect();
        for peer in peers {
            self.links.send(peer, Message::Goodbye { reason: GoodbyeReason::Leaving });
            self.links.push(Output::Disconnect { peer, reason: DisconnectReason::Leaving });
        }
        self.has_left = true;
    }

    // ---- Inputs -----------------------------------------------------------------------------

    /// Handles what happened. A peer's fault becomes an output, never an error.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.has_left {
            return;
        }
        match input {
            Input::Received { peer, message } if message.is_data() => {
                // The hot path: nothing of what follows below depends on it.
                self.on_data(now, peer, message);
                return;
            }
            Input::SendQueue { peer, queued_bytes, expired_messages } => {
                self.links.set_queued(&peer, queued_bytes);
                self.stats.expired_messages += u64::from(expired_messages);
                if let Some(session) = &mut self.session {
                    session.on_queue(peer, queued_bytes, expired_messages);
                }
                return;
            }
            Input::Received { peer, message } => {
                let is_news = is_news_only(&message);
                self.on_message(now, peer, message);
                if is_news {
                    return;
                }
            }
            Input::Connected { peer } => self.on_connected(peer),
            Input::ConnectFailed { peer } => self.on_connect_failed(now, peer),
            Input::Disconnected { peer } => self.on_gone(now, peer),
            Input::RoundTrip { peer, rtt } => {
                self.links.set_rtt(&peer, rtt);
                if let Some(session) = &mut self.session {
                    session.view.set_rtt(&peer, self.links.distance(&peer).unwrap_or(rtt));
                }
                return;
            }
            Input::Contacts { contacts } => self.on_contacts(now, contacts),
            Input::Addresses { addresses } => self.on_addresses(addresses),
            Input::Undecodable { peer } => self.punish(now, peer, Violation::Undecodable),
        }
        self.settle(now);
    }

    /// Does what is due. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.has_left {
            return;
        }
        match &mut self.session {
            Some(session) => session.handle_timeout(
                now,
                &self.role,
                &self.config,
                &mut self.links,
                &mut self.rng,
                &mut self.stats,
            ),
            None => self.ask_introducers(now),
        }
        self.update_keeps(now);
        if self.links.has_outputs() {
            self.settle(now);
        }
    }

    // ---- Outputs ----------------------------------------------------------------------------

    /// What to do next; drain to `None` after every call above.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.links.pop()
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has work, if ever.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.has_left {
            return None;
        }
        let due = match &self.session {
            Some(session) => session.poll_timeout(&self.role, &self.config),
            None => self.ask_at,
        };
        due.into_iter().chain(self.settle_at).min()
    }

    /// This peer at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let session = self.session.as_ref();
        let mut stats = self.stats.clone();
        stats.control_messages_sent = self.links.control_messages_sent();
        stats.chunks_skipped = session.map_or(0, |session| session.forwarder.chunks_skipped());
        let store = session.map(|session| &session.store);
        let newest = store.and_then(|store| store.get(store.newest()?));
        let held = store.into_iter().flat_map(Store::iter).map(|(_, stored)| stored.lengths());
        let (source_bytes, coded_bytes) = held.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        Snapshot {
            broadcast: self.broadcast,
            peer: self.peer,
            is_source: matches!(self.role, Role::Source(_)),
            manifest: session.map(|session| session.manifest.manifest().clone()),
            roles: session.map_or(Roles::NONE, |session| session.local.roles),
            upload: session.map_or(self.config.upload, |session| session.upload(&self.config)),
            is_upload_estimated: self.config.estimates_upload,
            capacity: session.map_or(0, |session| session.local.capacity),
            wanted: session.map_or(Roles::NONE, |session| session.local.wanted),
            population: session.map_or(0, |session| session.overlay.population()),
            stripes: session.map_or_else(Vec::new, Session::stripes),
            coordinate: session.and_then(|session| session.local.coordinate),
            connections: self.links.len(),
            contacts: session.map_or(self.introducers.len(), |session| session.view.len()),
            audience: session.map_or_else(Audience::default, |s| s.receptions.last().clone()),
            thresholds: newest.map_or_else(Vec::new, Stored::thresholds),
            source_bytes,
            coded_bytes,
            store_bytes: session.map_or(0, |session| session.store.bytes()),
            stats,
        }
    }

    /// Checks what must always hold; for tests and the simulator, after every input.
    ///
    /// # Errors
    /// Says which invariant is broken.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.session
            .as_ref()
            .map_or(Ok(()), |session| session.overlay.check_invariants(&session.local))
    }

    // ---- Connections ------------------------------------------------------------------------

    fn on_connected(&mut self, peer: PeerId) {
        let hello = self.hello(false);
        self.links.on_connected(peer, || hello);
    }

    fn on_connect_failed(&mut self, now: Instant, peer: PeerId) {
        if !self.links.on_connect_failed(&peer) {
            return;
        }
        match &mut self.session {
            Some(session) => {
                session.on_unreachable(now, peer, &self.config, &mut self.links, &mut self.rng);
            }
            None => self.ask_at = Some(now + self.config.retry_delay * 10),
        }
    }

    /// The connection with `peer` is gone, or is no good any more.
    fn on_gone(&mut self, now: Instant, peer: PeerId) {
        self.links.on_connect_failed(&peer);
        if !self.links.on_disconnected(&peer) {
            return;
        }
        if let Some(session) = &mut self.session {
            session.on_gone(now, peer, &self.config, &mut self.links, &mut self.rng);
        } else if self.ask_at.is_none() {
            self.ask_at = Some(now + self.config.retry_delay * 10);
        }
    }

    /// A breach of the protocol: counted, told, and the end of the connection.
    fn punish(&mut self, now: Instant, peer: PeerId, violation: Violation) {
        if violation == Violation::ForgedChunk {
            self.stats.forged_chunks += 1;
        }
        *self.stats.violations.entry(violation).or_default() += 1;
        self.links.push(Output::Event(Event::Violation { peer, violation }));
        self.links.send(peer, Message::Goodbye { reason: GoodbyeReason::Violation });
        let reason = DisconnectReason::Violation(violation);
        self.links.push(Output::Disconnect { peer, reason });
        if let Some(session) = &mut self.session {
            session.view.remove(&peer);
        }
        self.on_gone(now, peer);
    }

    /// Without a manifest: asks some introducers to be connected; their hellos bring it.
    fn ask_introducers(&mut self, now: Instant) {
        if self.ask_at.is_none_or(|at| now < at) {
            return;
        }
        self.ask_at = None;
        if matches!(self.role, Role::Source(_)) {
            return;
        }
        let asked = INTRODUCERS_AT_ONCE.min(self.introducers.len());
        for contact in self.introducers.iter().take(asked) {
            self.links.connect(contact);
        }
        self.introducers.rotate_left(asked);
        if asked > 0 {
            self.ask_at = Some(now + self.config.attach_timeout);
        }
    }

    // ---- Messages ---------------------------------------------------------------------------

    fn on_data(&mut self, now: Instant, peer: PeerId, message: Message) {
        let Some(session) = &mut self.session else { return };
        if !self.links.is_connected(&peer) {
            return;
        }
        let result = session.on_data(
            now,
            peer,
            message,
            matches!(self.role, Role::Viewer),
            &self.config,
            &mut self.links,
            &mut self.stats,
        );
        if let Err(violation) = result {
            self.punish(now, peer, violation);
            self.settle(now);
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are the session's")]
    fn on_message(&mut self, now: Instant, peer: PeerId, message: Message) {
        if !self.links.is_connected(&peer) {
            return;
        }
        self.links.note_heard(now, &peer);
        let result = match message {
            Message::Hello { broadcast, contact, manifest_sequence, is_reply } => {
                if broadcast != self.broadcast || contact.peer != peer {
                    Err(Violation::Mismatch)
                } else {
                    self.on_hello(now, peer, contact, manifest_sequence, is_reply);
                    Ok(())
                }
            }
            Message::Goodbye { reason } => {
                self.on_goodbye(now, peer, reason);
                Ok(())
            }
            Message::Manifest(manifest) => {
                if manifest.manifest().broadcast == self.broadcast {
                    self.take_manifest(now, manifest, Some(peer));
                    Ok(())
                } else {
                    Err(Violation::Mismatch)
                }
            }
            message => match &mut self.session {
                Some(session) => session.on_message(
                    now,
                    peer,
                    message,
                    &self.config,
                    &mut self.links,
                    &mut self.rng,
                    &mut self.stats,
                ),
                // Said by somebody who does not know yet that we know nothing.
                None => Ok(()),
            },
        };
        if let Err(violation) = result {
            self.punish(now, peer, violation);
        }
    }

    fn on_hello(
        &mut self,
        now: Instant,
        peer: PeerId,
        contact: Contact,
        manifest_sequence: u64,
        is_reply: bool,
    ) {
        if !is_reply {
            let hello = self.hello(true);
            self.links.send_hello(peer, || hello);
        }
        let Some(session) = &mut self.session else {
            self.remember_introducer(contact);
            return;
        };
        if manifest_sequence < session.manifest.manifest().sequence {
            self.links.send(peer, Message::Manifest(session.manifest.clone()));
        }
        session.on_hello(now, contact, &self.config, &mut self.links, &mut self.rng);
    }

    fn on_goodbye(&mut self, now: Instant, peer: PeerId, reason: GoodbyeReason) {
        match &mut self.session {
            Some(session) => session.view.remove(&peer),
            None => {
                if reason != GoodbyeReason::Full {
                    self.introducers.retain(|contact| contact.peer != peer);
                }
            }
        }
        self.on_gone(now, peer);
    }

    fn on_contacts(&mut self, now: Instant, contacts: Vec<Contact>) {
        if let Some(session) = &mut self.session {
            session.on_contacts(now, contacts, &mut self.links, &mut self.rng);
            return;
        }
        for contact in contacts {
            self.remember_introducer(contact);
        }
        self.ask_at = Some(now);
        self.ask_introducers(now);
    }

    /// Keeps a contact to ask for the manifest, unless it is known or there are enough.
    fn remember_introducer(&mut self, contact: Contact) {
        let is_known = self.introducers.iter().any(|known| known.peer == contact.peer);
        if contact.peer != self.peer && !is_known && self.introducers.len() < MAX_INTRODUCERS {
            self.introducers.push_back(contact);
        }
    }

    fn on_addresses(&mut self, addresses: Vec<Bytes>) {
        self.addresses = addresses;
        if let Some(session) = &mut self.session {
            session.local.set_addresses(self.addresses.clone());
            session.announce(&mut self.links);
        }
    }

    fn take_manifest(&mut self, now: Instant, manifest: SignedManifest, from: Option<PeerId>) {
        if manifest.manifest().broadcast != self.broadcast {
            return;
        }
        if let Some(session) = &mut self.session {
            session.update_manifest(
                now,
                manifest,
                from,
                &self.config,
                &mut self.links,
                &mut self.rng,
            );
            return;
        }
        let mut session = Session::new(
            now,
            manifest,
            self.peer,
            &self.role,
            self.addresses.clone(),
            self.verifier.clone(),
            &self.config,
        );
        session.view.hear_of(now, std::mem::take(&mut self.introducers));
        self.ask_at = None;
        let event = Event::Manifest(session.manifest.manifest().clone());
        self.links.push(Output::Event(event));
        session.begin(now, &self.config, &mut self.links, &mut self.rng);
        self.session = Some(session);
    }

    fn hello(&self, is_reply: bool) -> Message {
        match &self.session {
            Some(session) => session.hello(is_reply),
            None => Message::Hello {
                broadcast: self.broadcast,
                contact: Contact {
                    peer: self.peer,
                    roles: Roles::NONE,
                    capacity: 0,
                    addresses: Vec::new(),
                    is_source: matches!(self.role, Role::Source(_)),
                    class: 0,
                    coordinate: None,
                },
                manifest_sequence: 0,
                is_reply,
            },
        }
    }

    /// After an input that may have changed edges: which connections are in use will be said soon,
    /// once for all that has changed until then.
    fn settle(&mut self, now: Instant) {
        if self.session.is_some() && self.settle_at.is_none() {
            self.settle_at = Some(now + SETTLE_AFTER);
        }
    }

    fn update_keeps(&mut self, now: Instant) {
        if self.settle_at.is_some_and(|at| at <= now) {
            self.settle_at = None;
            if let Some(session) = &self.session {
                self.links.update_keeps(&session.overlay.users());
            }
        }
    }
}

/// Whether a message only brings news: what follows for the use of connections can wait for the next
/// input.
const fn is_news_only(message: &Message) -> bool {
    matches!(
        message,
        Message::Report(_)
            | Message::Status { .. }
            | Message::Contacts { .. }
            | Message::FindContacts { .. }
            | Message::Probe { .. }
            | Message::ProbeReply { .. }
            | Message::Reception(_)
            | Message::Moved { .. }
    )
}
