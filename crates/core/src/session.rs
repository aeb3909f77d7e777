//! A peer's part in a broadcast whose manifest is known: the kernel around the overlay policy.
//!
//! Decides how the parts feed each other: what arrives goes to the store; what is new there goes to
//! the children and to playback; what the failure detector and the peers say goes to the policy, and
//! what the policy asks for is carried out. The parts do not know each other.

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use banyan_coding::{EncodeError, Layer, chunk_length_for, description_length, encode};
use banyan_wire::{
    BroadcastKey, Contact, GenerationId, MAX_CONTACTS, Message, PeerId, Roles, Sealed,
    SignedManifest, Start, StripeId, Verifier, chunk_hash,
};
use rand::seq::IteratorRandom;

use crate::coordinate::Place;
use crate::estimate::Estimator;
use crate::forward::{Forwarder, chunk_id};
use crate::introduction::Introduction;
use crate::links::Links;
use crate::local::{Local, all_of};
use crate::overlay::{self, Action, Context, Overlay};
use crate::playout::{Due, Playback};
use crate::receptions::Receptions;
use crate::store::{Insert, Store, Stored};
use crate::view::View;
use crate::watch::{Step, Watch};
use crate::{Config, Event, Instant, Output, Role, Stats, StripeSnapshot, Violation};

/// Assumed rate of a whole coded stream while the source does not know it: a 720p programme with
/// its redundancy. Only the first second of a broadcast is planned by it.
const ASSUMED_STREAM_RATE: u64 = 4_000_000;
/// Most children a peer takes, whatever its upload bears: a connection costs about 100 KB.
const MAX_CHILDREN: u64 = 512;
/// Generation numbers kept for each second between two starts of a source: its first number is this
/// times the time of its manifest, so that a source that starts again with its key never uses a
/// number twice. Twice what 500 ms generations use.
const NUMBERS_PER_SECOND: u64 = 4;
/// Between two messages to a peer that pushes what we did not ask for.
const DETACH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a peer that nobody could dial offers no slots before it tries again. A router may have
/// opened a port meanwhile; those who try in vain lose a second each.
const UNREACHABLE_FOR: Duration = Duration::from_secs(120);
/// Between requests for contacts while some digit has none.
const URGENT_REFRESH: Duration = Duration::from_secs(1);

/// A peer's part in a broadcast. The [module documentation](self) says more.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) manifest: SignedManifest,
    pub(crate) local: Local,
    pub(crate) view: View,
    pub(crate) store: Store,
    pub(crate) forwarder: Forwarder,
    pub(crate) overlay: Box<dyn Overlay>,
    /// `None` where the upload is given.
    estimator: Option<Estimator>,
    /// `None` where nearness is not cared for.
    place: Option<Place>,
    watch: Watch,
    playback: Playback,
    pub(crate) receptions: Receptions,
    introduction: Introduction,
    refresh_at: Instant,
    next_generation: GenerationId,
    /// Added to our clock for emission times: those go on growing when a source starts again.
    epoch: u64,
    last_data_at: Instant,
    has_lost_source: bool,
    ends_at: Option<Instant>,
    has_ended: bool,
    detached_at: BTreeMap<PeerId, Instant>,
    /// Until when nobody is believed to be able to dial us.
    unreachable_until: Option<Instant>,
}

impl Session {
    pub(crate) fn new(
        now: Instant,
        manifest: SignedManifest,
        peer: PeerId,
        role: &Role,
        addresses: Vec<Bytes>,
        verifier: Verifier,
        config: &Config,
    ) -> Self {
        let description = manifest.manifest();
        let (broadcast, stripes) = (description.broadcast, description.stripes);
        let is_source = matches!(role, Role::Source(_));
        let local = Local::new(broadcast, peer, is_source, stripes, addresses);
        let mut view = View::new(peer, stripes, local.order.clone());
        if !is_source {
            view.set_source(now, description.source.clone());
        }
        let interval = Duration::from_millis(u64::from(description.generation_millis));
        Self {
            overlay: overlay::build(description.overlay, stripes),
            local,
            view,
            store: Store::new(broadcast, verifier, stripes),
            forwarder: Forwarder::default(),
            estimator: config.estimates_upload.then(|| Estimator::new(now, config.upload)),
            place: config.forest.proximity.then(|| Place::new(now)),
            watch: Watch::new(stripes.len()),
            playback: Playback::new(interval),
            receptions: Receptions::new(stripes, interval, description.overlay),
            introduction: Introduction::new(now),
            refresh_at: now + config.refresh_interval,
            next_generation: GenerationId(
                description.created_at.saturating_mul(NUMBERS_PER_SECOND),
            ),
            epoch: description.created_at.saturating_mul(1_000_000),
            last_data_at: now,
            has_lost_source: false,
            ends_at: None,
            has_ended: false,
            detached_at: BTreeMap::new(),
            unreachable_until: None,
            manifest,
        }
    }

    /// Begins: capacity, contacts, then the policy.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        self.local.capacity = self.capacity(config);
        self.choose_stripes(config, links, rng);
        self.playback.set_end(now, self.manifest.manifest().ended_at);
        self.update_end(now, config);
        if self.local.is_source {
            self.start(now, config, links, rng);
            return;
        }
        // Those that introduced us hear what we are, and are asked whom else they know.
        self.announce(links);
        self.introduction.look_around(now, &self.view, links, rng);
    }

    /// Contacts are known from elsewhere: the directory, or whoever introduced us.
    pub(crate) fn on_contacts(
        &mut self,
        now: Instant,
        contacts: Vec<Contact>,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        self.view.hear_of(now, contacts);
        self.introduction.look_around(now, &self.view, links, rng);
    }

    /// Bits per second of one stripe.
    fn stripe_rate(&self) -> u64 {
        let manifest = self.manifest.manifest();
        let assumed = ASSUMED_STREAM_RATE / u64::from(manifest.stripes.value());
        if manifest.stripe_rate == 0 { assumed.max(1) } else { manifest.stripe_rate }
    }

    /// The upload budget in bits per second, given or estimated.
    pub(crate) fn upload(&self, config: &Config) -> u64 {
        self.estimator.as_ref().map_or(config.upload, Estimator::budget)
    }

    /// Children our upload bears: ⌊upload ÷ stripe rate⌋; none while nobody can come.
    fn capacity(&self, config: &Config) -> u32 {
        if self.unreachable_until.is_some() {
            return 0;
        }
        let children = (self.upload(config) / self.stripe_rate()).min(MAX_CHILDREN);
        u32::try_from(children).unwrap_or(u32::MAX)
    }

    /// The upload or what a child takes of it changed: the policy and the neighbours learn what
    /// follows.
    fn update_capacity(
        &mut self,
        now: Instant,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        let capacity = self.capacity(config);
        if capacity != self.local.capacity {
            self.local.capacity = capacity;
            self.with_overlay(now, config, links, rng, |overlay, cx| overlay.on_capacity(cx));
            self.announce(links);
        }
    }

    /// Lets the estimate of our upload follow what happened in the last second.
    fn estimate(
        &mut self,
        now: Instant,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        let stream_rate = self.stripe_rate();
        let Some(estimator) = &mut self.estimator else { return };
        if now < estimator.poll_timeout() {
            return;
        }
        let (handed, streams) = (self.forwarder.handed(), self.forwarder.streams());
        if estimator.handle_timeout(now, handed, &streams, stream_rate) {
            let budget = estimator.budget();
            self.update_capacity(now, config, links, rng);
            let capacity = self.local.capacity;
            links.push(Output::Event(Event::Upload { budget, capacity }));
        }
    }

    pub(crate) fn on_queue(&mut self, peer: PeerId, queued_bytes: usize, expired_messages: u32) {
        if let Some(estimator) = &mut self.estimator {
            estimator.on_queue(peer, queued_bytes, expired_messages);
        }
    }

    /// Wants as many stripes as the download takes: our own, and others at random.
    fn choose_stripes(&mut self, config: &Config, links: &mut Links, rng: &mut ChaCha12Rng) {
        let takes = usize::try_from(config.download / self.stripe_rate()).unwrap_or(usize::MAX);
        if self.local.is_source || takes >= self.local.stripes.len() {
            return;
        }
        let own = self.local.first_role();
        let others = self.local.stripes.iter().filter(|stripe| *stripe != own);
        let mut wanted = Roles::one(own);
        for stripe in others.sample(rng, takes.max(1) - 1) {
            wanted.insert(stripe);
        }
        self.local.wanted = wanted;
        links.push(Output::Event(Event::Wanted(wanted)));
    }

    pub(crate) fn hello(&self, is_reply: bool) -> Message {
        Message::Hello {
            broadcast: self.local.broadcast,
            contact: self.local.contact(),
            manifest_sequence: self.manifest.manifest().sequence,
            is_reply,
        }
    }

    /// Tells all neighbours what we are now.
    pub(crate) fn announce(&mut self, links: &mut Links) {
        if let Some(place) = &mut self.place {
            place.note_told(self.local.coordinate);
        }
        for peer in links.peers().copied().collect::<Vec<_>>() {
            links.send(peer, self.hello(true));
        }
    }

    // ---- The source -------------------------------------------------------------------------

    #[expect(clippy::too_many_arguments, reason = "the kernel's parts, lent by the peer")]
    pub(crate) fn publish(
        &mut self,
        now: Instant,
        key: &BroadcastKey,
        layers: &[Layer],
        is_random_access: bool,
        config: &Config,
        links: &mut Links,
        stats: &mut Stats,
    ) -> Result<GenerationId, EncodeError> {
        let stripes = self.local.stripes;
        let coded = encode(stripes, chunk_length_for(description_length(layers)), layers)?;
        let generation = self.next_generation;
        self.next_generation = generation.next();
        let hashes = coded.chunks.iter().map(|c| c.iter().map(|c| chunk_hash(c)).collect());
        let sealed = Sealed::new(
            generation,
            self.epoch.saturating_add(now.as_micros()),
            is_random_access,
            coded.layout,
            hashes.collect(),
        );
        let signature = sealed.sign(key);
        let headers = stripes.iter().map(|stripe| sealed.header(stripe, signature)).collect();
        self.store.insert_own(now, headers, coded.chunks);
        self.store.forget(now, config.retention);
        for stripe in stripes.iter() {
            self.push_header(now, generation, stripe, None, config, links);
        }
        // Chunk by chunk over all stripes, so that none of them waits for another.
        let chunks = self.store.get(generation).map_or(0, Stored::chunk_count);
        for index in 0..chunks {
            for stripe in stripes.iter() {
                self.push_chunk(now, generation, stripe, index, None, config, links, stats);
            }
        }
        Ok(generation)
    }

    // ---- The data plane ---------------------------------------------------------------------

    #[expect(clippy::too_many_arguments, reason = "the kernel's parts, lent by the peer")]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller sorts data from control")]
    pub(crate) fn on_data(
        &mut self,
        now: Instant,
        from: PeerId,
        message: Message,
        plays: bool,
        config: &Config,
        links: &mut Links,
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        if self.local.is_source {
            // Nobody has business to push to the source.
            return Err(Violation::Unexpected);
        }
        match message {
            Message::Header(header) => {
                let (generation, stripe) = (header.commitment.generation, header.stripe);
                let is_first = self.store.get(generation).is_none();
                match self.store.insert_header(now, header, config.retention) {
                    Insert::New => {}
                    Insert::Duplicate | Insert::Headless => return Ok(()),
                    Insert::Stale => {
                        stats.stale_messages += 1;
                        return Ok(());
                    }
                    Insert::Refused(violation) => return Err(violation),
                }
                if is_first {
                    self.watch.wake(now);
                    self.store.forget(now, config.retention);
                    if let Some(stored) = self.store.get(generation) {
                        self.playback.on_arrival(now, stored.emitted_at());
                    }
                }
                if let Some(stored) = self.store.get(generation) {
                    self.watch.on_header(stripe, now.since(stored.first_arrival));
                }
                self.refuse_unasked(now, from, stripe, links);
                self.push_header(now, generation, stripe, Some(&from), config, links);
            }
            Message::Chunk { id, payload } => {
                let length = payload.len() as u64;
                match self.store.insert_chunk(id, payload) {
                    Insert::New => {}
                    Insert::Duplicate => {
                        stats.duplicate_bytes_received += length;
                        return Ok(());
                    }
                    Insert::Stale => {
                        stats.stale_messages += 1;
                        return Ok(());
                    }
                    Insert::Headless => {
                        stats.headless_chunks += 1;
                        return Ok(());
                    }
                    Insert::Refused(violation) => return Err(violation),
                }
                stats.chunks_received += 1;
                stats.chunk_bytes_received += length;
                self.last_data_at = now;
                self.has_lost_source = false;
                let index = usize::from(id.index);
                self.push_chunk(
                    now,
                    id.generation,
                    id.stripe,
                    index,
                    Some(&from),
                    config,
                    links,
                    stats,
                );
                if plays && let Some(stored) = self.store.get(id.generation) {
                    self.playback.on_progress(now, id.generation, stored, config);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A peer that pushes a stripe without being its parent is told to stop; what it sent is
    /// genuine and kept.
    fn refuse_unasked(&mut self, now: Instant, from: PeerId, stripe: StripeId, links: &mut Links) {
        let tree = &self.overlay.trees()[stripe.index()];
        if tree.is_using(&from) && !tree.children.contains_key(&from) {
            return;
        }
        let last = self.detached_at.get(&from).copied();
        if last.is_none_or(|last| now >= last + DETACH_INTERVAL) {
            self.detached_at.insert(from, now);
            links.send(from, Message::Detach { stripe });
        }
    }

    fn push_header(
        &mut self,
        now: Instant,
        generation: GenerationId,
        stripe: StripeId,
        from: Option<&PeerId>,
        config: &Config,
        links: &mut Links,
    ) {
        let header = self.store.get(generation).and_then(|stored| stored.header(stripe));
        if let Some(header) = header.map(Arc::clone) {
            self.forwarder.forward_header(now, &header, from, links, config);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the kernel's parts, lent by the peer")]
    fn push_chunk(
        &mut self,
        now: Instant,
        generation: GenerationId,
        stripe: StripeId,
        index: usize,
        from: Option<&PeerId>,
        config: &Config,
        links: &mut Links,
        stats: &mut Stats,
    ) {
        let payload = self.store.get(generation).and_then(|stored| stored.chunk(stripe, index));
        if let Some(payload) = payload {
            let id = chunk_id(generation, stripe, index);
            let sent = self.forwarder.forward_chunk(now, id, &payload, from, links, config);
            stats.chunks_sent += sent;
            stats.chunk_bytes_sent += sent * payload.len() as u64;
        }
    }

    /// Rebuilds descriptions that have run dry and pushes them to the children waiting for them
    /// (DESIGN.md §7, second defence): whoever can rebuild a generation can make any description
    /// of it, proof and signature included.
    fn regenerate(&mut self, now: Instant, config: &Config, links: &mut Links, stats: &mut Stats) {
        let served: Vec<StripeId> = self.forwarder.stripes_served().collect();
        if served.is_empty() {
            return;
        }
        let is_due = |stored: &Stored| {
            stored.first_arrival + config.stall_after <= now
                && stored.first_arrival + config.stall_after * 4 > now
                && stored.assembler.is_decodable()
                && served.iter().any(|s| !stored.assembler.is_description_complete(*s))
        };
        let due: Vec<GenerationId> = self
            .store
            .iter()
            .filter(|(_, stored)| is_due(stored))
            .map(|(generation, _)| generation)
            .collect();
        for generation in due {
            let Some(missing) = self.store.complete(generation, &served) else { continue };
            for (stripe, chunks) in missing {
                stats.regenerated_descriptions += 1;
                self.push_header(now, generation, stripe, None, config, links);
                for index in chunks {
                    self.push_chunk(now, generation, stripe, index, None, config, links, stats);
                }
            }
        }
    }

    // ---- The control plane ------------------------------------------------------------------

    pub(crate) fn on_hello(
        &mut self,
        now: Instant,
        contact: Contact,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        self.view.insert(now, contact.clone(), true);
        links.set_coordinate(&contact.peer, contact.coordinate);
        if let Some(rtt) = links.distance(&contact.peer) {
            self.view.set_rtt(&contact.peer, rtt);
        }
        self.introduction.look_around(now, &self.view, links, rng);
        self.with_overlay(now, config, links, rng, |overlay, cx| overlay.on_contact(cx, &contact));
    }

    #[expect(clippy::too_many_arguments, reason = "the kernel's parts, lent by the peer")]
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are the policy's")]
    pub(crate) fn on_message(
        &mut self,
        now: Instant,
        from: PeerId,
        message: Message,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        if stripe_of(&message).is_some_and(|stripe| !self.local.stripes.contains(stripe)) {
            return Err(Violation::Mismatch);
        }
        match message {
            Message::FindContacts { digits } => {
                let mut contacts = self.view.share(digits, &from, rng);
                let ours = self.local.contact();
                if !ours.is_source && contacts.len() < MAX_CONTACTS {
                    contacts.push(ours);
                }
                links.send(from, Message::Contacts { contacts });
            }
            Message::Contacts { contacts } => {
                self.view.hear_of(now, contacts);
                self.introduction.on_answer(now, &from, &self.view);
                self.start_if_introduced(now, config, links, rng);
            }
            Message::Reception(reception) => {
                let tree = &self.overlay.trees()[reception.stripe.index()];
                let is_source = self.local.is_source;
                self.receptions.on_message(now, from, &reception, tree, is_source)?;
            }
            Message::Moved { coordinate } => {
                links.set_coordinate(&from, Some(coordinate));
                self.view.set_coordinate(&from, coordinate);
            }
            Message::Probe { stripe } => self.on_probe(now, from, stripe, config, links),
            Message::ProbeReply { stripe, is_orphan, head } => {
                self.overlay.on_alive(from);
                let store = &self.store;
                let late = self.watch.on_reply(now, from, stripe, is_orphan, head, store, config);
                if let Some(late) = late {
                    links.note_answer(late);
                }
            }
            message => {
                stats.overlay_messages_received += 1;
                if let Message::Redirect { stripe, .. } = &message {
                    // Whatever it says, it lives.
                    self.overlay.on_alive(from);
                    self.watch.on_sign_of_life(from, *stripe);
                }
                let mut result = Ok(());
                self.with_overlay(now, config, links, rng, |overlay, cx| {
                    result = overlay.on_message(cx, from, message);
                });
                result?;
            }
        }
        Ok(())
    }

    fn on_probe(
        &mut self,
        now: Instant,
        from: PeerId,
        stripe: StripeId,
        config: &Config,
        links: &mut Links,
    ) {
        let tree = &self.overlay.trees()[stripe.index()];
        if !tree.children.contains_key(&from) && !tree.is_parent(&from) {
            // It takes us for its parent, and is mistaken.
            let (reason, candidates) = (banyan_wire::Reason::Orphan, Vec::new());
            links.send(from, Message::Redirect { stripe, reason, candidates });
            return;
        }
        let is_orphan = !self.local.is_source && !tree.is_rooted();
        let head = self.store.head(stripe).unwrap_or_default();
        links.send(from, Message::ProbeReply { stripe, is_orphan, head });
        let newest = self.store.newest().and_then(|newest| self.store.get(newest));
        let flows =
            newest.is_some_and(|newest| now < newest.first_arrival + config.stall_after * 2);
        let is_ours_late = self.store.newest().is_none_or(|newest| head.next() < newest);
        if let Some(estimator) = &mut self.estimator
            && !is_orphan
            && flows
            && !is_ours_late
        {
            // It lacks what we have: the way between us is slow.
            estimator.on_lag(from);
        }
    }

    pub(crate) fn on_unreachable(
        &mut self,
        now: Instant,
        peer: PeerId,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        self.view.on_failure(&peer);
        self.with_overlay(now, config, links, rng, |overlay, cx| overlay.on_unreachable(cx, peer));
    }

    pub(crate) fn on_gone(
        &mut self,
        now: Instant,
        peer: PeerId,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        self.forwarder.forget(&peer);
        if let Some(estimator) = &mut self.estimator {
            estimator.forget(&peer);
        }
        self.detached_at.remove(&peer);
        self.with_overlay(now, config, links, rng, |overlay, cx| overlay.on_peer_gone(cx, peer));
    }

    pub(crate) fn update_manifest(
        &mut self,
        now: Instant,
        manifest: SignedManifest,
        from: Option<PeerId>,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        let (ours, theirs) = (self.manifest.manifest(), manifest.manifest());
        let is_newer = theirs.sequence > ours.sequence
            && theirs.stripes == ours.stripes
            && theirs.overlay == ours.overlay;
        if !is_newer {
            return;
        }
        self.manifest = manifest;
        for peer in links.peers().copied().filter(|peer| Some(*peer) != from).collect::<Vec<_>>() {
            links.send(peer, Message::Manifest(self.manifest.clone()));
        }
        let manifest = self.manifest.manifest().clone();
        if !self.local.is_source {
            self.view.set_source(now, manifest.source.clone());
        }
        self.playback.set_end(now, manifest.ended_at);
        self.update_end(now, config);
        self.update_capacity(now, config, links, rng);
        links.push(Output::Event(Event::Manifest(manifest)));
    }

    fn update_end(&mut self, now: Instant, config: &Config) {
        let is_over = self.manifest.manifest().ended_at.is_some();
        self.ends_at = is_over.then(|| now + config.playout_delay * 2);
    }

    pub(crate) fn leave(
        &mut self,
        now: Instant,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        self.with_overlay(now, config, links, rng, |overlay, cx| overlay.leave(cx));
    }

    // ---- Time -------------------------------------------------------------------------------

    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        role: &Role,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
        stats: &mut Stats,
    ) {
        self.start_if_introduced(now, config, links, rng);
        if self.unreachable_until.is_some_and(|until| until <= now) {
            self.unreachable_until = None;
            self.update_capacity(now, config, links, rng);
        }
        if self.overlay.poll_timeout().is_some_and(|at| at <= now) {
            self.with_overlay(now, config, links, rng, |overlay, cx| overlay.handle_timeout(cx));
        }
        if !self.local.is_source && self.watch.poll_timeout() <= now {
            let trees = self.overlay.trees();
            let parent_of = |stripe: StripeId| {
                let parent = trees[stripe.index()].parent.as_ref()?;
                let peer = parent.contact.peer;
                Some((peer, parent.since, links.rtt(&peer)))
            };
            let waits = [links.grace(), links.patience(config.probe_timeout)];
            let steps = self.watch.check(now, &self.store, config, waits, parent_of);
            self.take_steps(now, steps, config, links, rng);
            self.regenerate(now, config, links, stats);
            self.check_source(now, config, links);
        }
        if self.refresh_at <= now {
            self.refresh(now, config, links, rng);
        }
        self.estimate(now, config, links, rng);
        if let Some(place) = &mut self.place {
            place.handle_timeout(now, &mut self.local, &mut self.view, links, rng);
        }
        self.receptions.handle_timeout(now, &self.local, self.overlay.trees(), links);
        self.play(now, role, config, links);
    }

    pub(crate) fn poll_timeout(&self, role: &Role, config: &Config) -> Option<Instant> {
        let playout = match role {
            Role::Viewer => self.playback.poll_timeout(&self.store, config),
            Role::Relay => self.ends_at.filter(|_| !self.has_ended),
            Role::Source(_) => None,
        };
        let watch = (!self.local.is_source).then(|| self.watch.poll_timeout());
        let estimate = self.estimator.as_ref().map(Estimator::poll_timeout);
        let due = [
            self.introduction.poll_timeout(),
            self.unreachable_until,
            self.overlay.poll_timeout(),
            watch,
            playout,
            estimate,
            self.place.as_ref().map(Place::poll_timeout),
            self.receptions.poll_timeout(),
        ];
        due.into_iter().flatten().chain([self.refresh_at]).min()
    }

    fn start_if_introduced(
        &mut self,
        now: Instant,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        if self.introduction.is_over(now, &self.view, links) {
            self.start(now, config, links, rng);
        }
    }

    fn start(&mut self, now: Instant, config: &Config, links: &mut Links, rng: &mut ChaCha12Rng) {
        self.introduction.end();
        self.with_overlay(now, config, links, rng, |overlay, cx| overlay.start(cx));
    }

    fn play(&mut self, now: Instant, role: &Role, config: &Config, links: &mut Links) {
        if self.has_ended {
            return;
        }
        match role {
            Role::Viewer => {
                while let Some(due) = self.playback.poll(now, &self.store, config) {
                    match due {
                        Due::Generation(playout) => {
                            self.receptions.note(now, playout.arrived);
                            links.push(Output::Event(Event::Generation(playout)));
                        }
                        Due::End => {
                            self.has_ended = true;
                            links.push(Output::Event(Event::Ended));
                        }
                    }
                }
            }
            Role::Relay => {
                if self.ends_at.is_some_and(|at| at <= now) {
                    self.has_ended = true;
                    links.push(Output::Event(Event::Ended));
                }
            }
            Role::Source(_) => {}
        }
    }

    fn check_source(&mut self, now: Instant, config: &Config, links: &mut Links) {
        let is_silent = now > self.last_data_at + config.source_timeout;
        let is_cut_off = !self.overlay.trees().iter().any(overlay::Tree::is_rooted);
        if is_silent && is_cut_off && !self.has_lost_source && !self.has_ended {
            self.has_lost_source = true;
            links.push(Output::Event(Event::SourceLost));
        }
        if !is_cut_off {
            // Silence counts from when the way to the source was lost.
            self.last_data_at = self.last_data_at.max(now);
        }
    }

    /// Exchanges contacts with a random neighbour; soon again while some digit has none.
    fn refresh(&mut self, now: Instant, config: &Config, links: &mut Links, rng: &mut ChaCha12Rng) {
        let missing = self.view.missing_digits();
        let is_orphan =
            |tree: &overlay::Tree| tree.parent.is_none() && self.local.wanted.contains(tree.stripe);
        let has_orphans = self.overlay.trees().iter().any(is_orphan);
        let is_urgent = !missing.is_empty() && has_orphans;
        self.refresh_at = now + if is_urgent { URGENT_REFRESH } else { config.refresh_interval };
        if self.local.is_source {
            return;
        }
        if let Some(peer) = links.peers().choose(rng).copied() {
            let digits = if is_urgent { missing } else { all_of(self.local.stripes) };
            links.send(peer, Message::FindContacts { digits });
        }
    }

    fn take_steps(
        &mut self,
        now: Instant,
        steps: Vec<Step>,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        for step in steps {
            match step {
                Step::Probe { stripe, parent } => {
                    links.send(parent, Message::Probe { stripe });
                    self.with_overlay(now, config, links, rng, |overlay, cx| {
                        overlay.on_doubt(cx, stripe);
                    });
                }
                Step::Report { stripe, parent, silence } => {
                    self.with_overlay(now, config, links, rng, |overlay, cx| {
                        overlay.on_silence(cx, stripe, parent, silence);
                    });
                }
            }
        }
    }

    // ---- The policy -------------------------------------------------------------------------

    /// Runs the policy on one event, and carries out what it asks for.
    fn with_overlay(
        &mut self,
        now: Instant,
        config: &Config,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
        run: impl FnOnce(&mut dyn Overlay, &mut Context<'_>),
    ) {
        let mut actions = Vec::new();
        let next = self.playback.next();
        let store = &self.store;
        let resume = |stripe: StripeId| -> Start { store.resume_point(stripe, next) };
        let mut cx = Context {
            now,
            config,
            local: &mut self.local,
            view: &mut self.view,
            links,
            rng,
            actions: &mut actions,
            resume: &resume,
        };
        run(self.overlay.as_mut(), &mut cx);
        for action in actions {
            match action {
                Action::Serve { child, stripe, start } => {
                    let upload = self.upload(config);
                    let store = &self.store;
                    self.forwarder.serve(now, child, stripe, start, store, links, config, upload);
                }
                Action::Stop { child, stripe } => self.forwarder.stop(&child, stripe),
                Action::Announce => self.announce(links),
                Action::Unreachable => {
                    self.unreachable_until = Some(now + UNREACHABLE_FOR);
                    self.update_capacity(now, config, links, rng);
                }
            }
        }
    }

    pub(crate) fn stripes(&self) -> Vec<StripeSnapshot> {
        let snapshot = |tree| StripeSnapshot::of(tree, &self.local, &self.store);
        self.overlay.trees().iter().map(snapshot).collect()
    }
}

/// The stripe a control message is about; the last, where it is about several.
fn stripe_of(message: &Message) -> Option<StripeId> {
    match message {
        Message::Join(join) => join.stripes.iter().last(),
        Message::Report(report) => Some(report.stripe),
        Message::Reception(reception) => Some(reception.stripe),
        Message::JoinFound { stripe, .. }
        | Message::JoinFailed { stripe, .. }
        | Message::Attach { stripe, .. }
        | Message::Accept { stripe, .. }
        | Message::Redirect { stripe, .. }
        | Message::Detach { stripe }
        | Message::Status { stripe, .. }
        | Message::Adopt { stripe, .. }
        | Message::Probe { stripe }
        | Message::ProbeReply { stripe, .. } => Some(*stripe),
        Message::Hello { .. }
        | Message::Goodbye { .. }
        | Message::Manifest(_)
        | Message::FindContacts { .. }
        | Message::Contacts { .. }
        | Message::Moved { .. }
        | Message::Header(_)
        | Message::Chunk { .. } => None,
    }
}
