//! A small deterministic world of peers: virtual time, fixed link delays, every message through
//! the wire format, invariants checked after every step.
//!
//! For tests of `banyan-core` alone. It has no bandwidth, no loss and no address translation.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::large_enum_variant,
    reason = "test support"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use banyan_coding::{
    Layer,
    thresholds::{priority, single},
};
use banyan_core::{Config, Event, Input, Instant, Output, Peer, Playout, Role, Setup, Snapshot};
use banyan_wire::{
    BroadcastKey, Contact, GenerationId, Manifest, Message, Overlay, PeerId, Roles, SignedManifest,
    StripeCount, frame,
};

/// Time from a peer's silent death to the end of its connections.
const DETECTION: Duration = Duration::from_secs(4);

/// What is to happen.
#[derive(Debug)]
enum Happening {
    Input(PeerId, Input),
    Wake(PeerId),
    Publish,
    Dial { from: PeerId, to: PeerId },
}

/// One peer and what it has told the application.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) peer: Peer,
    pub(crate) played: Vec<Playout>,
    pub(crate) events: Vec<(Instant, Event)>,
    wake_at: Option<Instant>,
    links: BTreeSet<PeerId>,
    /// Links opened since the node was added.
    pub(crate) links_opened: usize,
}

/// The world.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: BTreeMap<PeerId, Node>,
    pub(crate) source: PeerId,
    queue: BTreeMap<(Instant, u64), Happening>,
    sequence: u64,
    key: BroadcastKey,
    config: Config,
    overlay: Overlay,
    stripes: StripeCount,
    publishing_until: Option<Instant>,
    pub(crate) published: u64,
    steps_at_once: u32,
    /// Data messages that arrive are changed by this, if set.
    pub(crate) tamper: Option<fn(PeerId, &mut Message)>,
}

pub(crate) const STREAM_RATE: u64 = 1_600_000;
const PAYLOAD: usize = 20_000;

impl World {
    /// A world with a source that has `source_capacity` slots, and nobody else.
    pub(crate) fn new(overlay: Overlay, stripes: u32, source_capacity: u32) -> Self {
        let key = BroadcastKey::from_seed(&[7; 32]);
        let stripes = StripeCount::new(stripes).unwrap();
        let source = peer_id(0);
        let mut world = Self {
            now: Instant::ZERO,
            nodes: BTreeMap::new(),
            source,
            queue: BTreeMap::new(),
            sequence: 0,
            key: key.clone(),
            config: Config::default(),
            overlay,
            stripes,
            publishing_until: None,
            published: 0,
            steps_at_once: 0,
            tamper: None,
        };
        world.add(source, Role::Source(key), source_capacity);
        let manifest = world.manifest(1, None);
        world.with(source, |peer, now| peer.set_manifest(now, manifest));
        world
    }

    pub(crate) fn stripe_rate(&self) -> u64 {
        STREAM_RATE / u64::from(self.stripes.value())
    }

    fn manifest(&self, sequence: u64, ended_at: Option<GenerationId>) -> SignedManifest {
        let manifest = Manifest {
            broadcast: self.key.broadcast(),
            sequence,
            title: "a test".into(),
            stripes: self.stripes,
            overlay: self.overlay,
            stripe_rate: self.stripe_rate(),
            generation_millis: 500,
            tracks: Vec::new(),
            source: contact(self.source),
            created_at: 0,
            ended_at,
        };
        SignedManifest::sign(manifest, &self.key).unwrap()
    }

    fn add(&mut self, id: PeerId, role: Role, capacity: u32) {
        let mut config = self.config.clone();
        config.upload = u64::from(capacity) * self.stripe_rate();
        let setup = Setup {
            broadcast: self.key.broadcast(),
            peer: id,
            role,
            addresses: vec![Bytes::from_static(b"somewhere")],
            config,
        };
        let peer = Peer::new(setup, self.now, id.0).unwrap();
        let node = Node {
            peer,
            played: Vec::new(),
            events: Vec::new(),
            wake_at: None,
            links: BTreeSet::new(),
            links_opened: 0,
        };
        self.nodes.insert(id, node);
        self.drain(id);
    }

    /// Adds a viewer that knows `introducer`.
    pub(crate) fn join(&mut self, n: u32, capacity: u32, introducer: PeerId) -> PeerId {
        let id = peer_id(n);
        self.add(id, Role::Viewer, capacity);
        let contacts = vec![contact(introducer)];
        self.at(self.now, Happening::Input(id, Input::Contacts { contacts }));
        id
    }

    /// The source publishes a generation every half second for `duration`.
    pub(crate) fn publish_for(&mut self, duration: Duration) {
        self.publishing_until = Some(self.now + duration);
        self.at(self.now, Happening::Publish);
    }

    /// Ends the broadcast after what was published.
    pub(crate) fn end(&mut self) {
        let manifest = self.manifest(2, Some(GenerationId(self.published)));
        self.with(self.source, |peer, now| peer.set_manifest(now, manifest));
    }

    /// A peer dies without a word.
    pub(crate) fn kill(&mut self, id: PeerId) {
        let node = self.nodes.remove(&id).unwrap();
        for other in node.links {
            self.at(
                self.now + DETECTION,
                Happening::Input(other, Input::Disconnected { peer: id }),
            );
        }
    }

    /// A peer leaves with goodbyes.
    pub(crate) fn leave(&mut self, id: PeerId) {
        self.with(id, |peer, now| peer.leave(now));
        let node = self.nodes.remove(&id).unwrap();
        for other in node.links {
            let at = self.now + delay(id, other);
            self.at(at, Happening::Input(other, Input::Disconnected { peer: id }));
        }
    }

    /// Gives `peer` an input as if from outside.
    pub(crate) fn inject(&mut self, to: PeerId, input: Input) {
        self.at(self.now, Happening::Input(to, input));
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), happening) = entry.remove_entry();
            if at > self.now {
                self.steps_at_once = 0;
            }
            self.steps_at_once += 1;
            assert!(
                self.steps_at_once < 20_000,
                "time stands still: {happening:?}\n{}",
                self.describe()
            );
            self.now = self.now.max(at);
            self.step(happening);
        }
        self.now = end;
    }

    /// Lets time pass until `condition` holds; panics after `limit`.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) {
        let end = self.now + limit;
        while !condition(self) {
            assert!(self.now < end, "{what} did not happen within {limit:?}: {}", self.describe());
            self.run(Duration::from_millis(10));
        }
    }

    pub(crate) fn snapshot(&self, id: PeerId) -> Snapshot {
        self.nodes[&id].peer.snapshot()
    }

    pub(crate) fn viewers(&self) -> impl Iterator<Item = (PeerId, Snapshot)> {
        let viewers = self.nodes.iter().filter(|(id, _)| **id != self.source);
        viewers.map(|(id, node)| (*id, node.peer.snapshot()))
    }

    /// Whether every viewer has every stripe, all the way from the source, and nobody is on the
    /// way to another place.
    pub(crate) fn is_complete(&self) -> bool {
        let stripes = self.stripes.len();
        self.viewers().all(|(_, s)| s.stripes.len() == stripes && s.rooted_stripes() == stripes)
    }

    pub(crate) fn describe(&self) -> String {
        use std::fmt::Write;
        let mut text = format!("at {:?}\n", self.now);
        for (id, s) in self.nodes.iter().map(|(id, node)| (id, node.peer.snapshot())) {
            let missing: Vec<u8> =
                s.stripes.iter().filter(|t| !t.is_rooted).map(|t| t.stripe.0).collect();
            let interior: Vec<(u8, usize)> = s
                .stripes
                .iter()
                .filter(|t| !t.children.is_empty())
                .map(|t| (t.stripe.0, t.children.len()))
                .collect();
            let roles: Vec<u8> = s.roles.iter().map(|s| s.0).collect();
            writeln!(text, "{id:.8} pop {} roles {roles:?} cap {} interior {interior:?} missing {missing:?} links {}", s.population, s.capacity, s.connections).unwrap();
        }
        text
    }

    fn at(&mut self, at: Instant, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }

    fn step(&mut self, happening: Happening) {
        match happening {
            Happening::Input(to, input) => {
                if let Input::Received { peer, .. } = &input
                    && self.nodes.get(&to).is_some_and(|node| !node.links.contains(peer))
                {
                    return;
                }
                if let Some(node) = self.nodes.get_mut(&to) {
                    match &input {
                        Input::Connected { peer } => {
                            if !node.links.insert(*peer) {
                                return;
                            }
                            node.links_opened += 1;
                        }
                        Input::Disconnected { peer } => {
                            node.links.remove(peer);
                        }
                        _ => {}
                    }
                    self.with(to, |peer, now| peer.handle(now, input));
                }
            }
            Happening::Wake(id) => {
                if self.nodes.get(&id).is_some_and(|node| node.wake_at == Some(self.now)) {
                    self.nodes.get_mut(&id).unwrap().wake_at = None;
                    self.with(id, |peer, now| peer.handle_timeout(now));
                }
            }
            Happening::Publish => {
                self.publish();
                let next = self.now + Duration::from_millis(500);
                if self.publishing_until.is_some_and(|until| next < until) {
                    self.at(next, Happening::Publish);
                }
            }
            Happening::Dial { from, to } => {
                let back = self.now + delay(from, to);
                if self.nodes.contains_key(&to) {
                    self.at(self.now, Happening::Input(to, Input::Connected { peer: from }));
                    self.at(back, Happening::Input(from, Input::Connected { peer: to }));
                } else {
                    self.at(
                        self.now + Duration::from_secs(1),
                        Happening::Input(from, Input::ConnectFailed { peer: to }),
                    );
                }
            }
        }
    }

    fn publish(&mut self) {
        let n = self.published;
        self.published += 1;
        let data = |length, salt: u64| -> Bytes {
            (0..length).map(|i| (i as u64 * 31 + n * 7 + salt) as u8).collect::<Vec<u8>>().into()
        };
        let [base, full] = priority(self.stripes);
        assert!(full <= single(self.stripes).max(1));
        let layers = [
            Layer { threshold: base, data: data(PAYLOAD, 1) },
            Layer { threshold: full, data: data(PAYLOAD * 3, 2) },
        ];
        self.with(self.source, |peer, now| {
            peer.publish(now, &layers, n.is_multiple_of(4)).unwrap();
        });
    }

    fn with(&mut self, id: PeerId, run: impl FnOnce(&mut Peer, Instant)) {
        run(&mut self.nodes.get_mut(&id).unwrap().peer, self.now);
        self.drain(id);
    }

    fn drain(&mut self, id: PeerId) {
        loop {
            let node = self.nodes.get_mut(&id).unwrap();
            let Some(output) = node.peer.poll_output() else { break };
            match output {
                Output::Send { to, message, .. } => {
                    if node.links.contains(&to) {
                        let mut message = through_the_wire(&message);
                        if let Some(tamper) = self.tamper.filter(|_| message.is_data()) {
                            tamper(id, &mut message);
                        }
                        let input = Input::Received { peer: id, message };
                        self.at(self.now + delay(id, to), Happening::Input(to, input));
                    }
                }
                Output::Connect { contact } => {
                    let to = contact.peer;
                    if node.links.contains(&to) {
                        self.at(self.now, Happening::Input(id, Input::Connected { peer: to }));
                    } else {
                        self.at(self.now + delay(id, to), Happening::Dial { from: id, to });
                    }
                }
                Output::Disconnect { peer, .. } => {
                    node.links.remove(&peer);
                    let at = self.now + delay(id, peer);
                    self.at(at, Happening::Input(peer, Input::Disconnected { peer: id }));
                }
                Output::Keep { .. } => {}
                Output::Event(Event::Generation(playout)) => node.played.push(playout),
                Output::Event(event) => node.events.push((self.now, event)),
            }
        }
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        if let Err(broken) = node.peer.check_invariants() {
            panic!("{id:.8}: {broken}\n{}", self.describe());
        }
        let wake_at = node.peer.poll_timeout().map(|at| at.max(now));
        if wake_at != node.wake_at
            && let Some(at) = wake_at
        {
            node.wake_at = wake_at;
            self.at(at, Happening::Wake(id));
        }
    }
}

/// A name that says its number, spread over the key space by its hash.
pub(crate) fn peer_id(n: u32) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    PeerId(bytes)
}

pub(crate) fn contact(peer: PeerId) -> Contact {
    let addresses = vec![Bytes::from_static(b"somewhere")];
    Contact {
        peer,
        roles: Roles::NONE,
        capacity: 0,
        addresses,
        is_source: false,
        class: 0,
        coordinate: None,
    }
}

/// One-way delay of a pair: 10 to 60 ms, the same in both directions and in every run.
fn delay(a: PeerId, b: PeerId) -> Duration {
    let sum: u64 = a.0.iter().chain(&b.0).map(|byte| u64::from(*byte)).sum();
    Duration::from_millis(10 + sum * 7919 % 50)
}

fn through_the_wire(message: &Message) -> Message {
    let encoded = frame::Frame::encode(1, message);
    let mut buffer = BytesMut::from(&[&encoded.head[..], &encoded.payload[..]].concat()[..]);
    let body = frame::split_frame(&mut buffer, frame::MAX_DATA_FRAME).unwrap().unwrap();
    let (_, decoded) = frame::decode(body).unwrap();
    assert_eq!(&decoded, message, "every message survives the wire");
    decoded
}
