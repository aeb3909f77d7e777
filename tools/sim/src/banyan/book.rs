//! What all peers of one world share: names, the manifest, the programme, frames of data.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};

use banyan_coding::redundancy::{Plan, Ratio, Redundancy};
use banyan_coding::{Layer, thresholds};
use banyan_core::{Config, class_of};
use banyan_wire::{
    BroadcastKey, Contact, GenerationId, Manifest, Message, Overlay, PeerId, Roles, SignedManifest,
    StripeCount, StripeId, frame::Frame,
};

use crate::dice::mix;
use crate::forest::SOURCE;
use crate::node::Index;
use crate::scenario::{Coding, Deed, Event, Knowledge, Scenario, Span};

/// Generations whose frames are kept: more than any store holds.
const GENERATIONS_KEPT: u64 = 64;
/// `/ip4/192.0.2.1/udp/4001/quic-v1`, as long as a real address.
const ADDRESS: &[u8] = &[4, 192, 0, 2, 1, 0x91, 2, 0x0f, 0xa1, 0xcd, 3];

/// Salt of what is late.
const LATENESS: u64 = 0x1a7e;

/// Names a frame of data: generation, stripe, and the chunk's place or `None` for the header.
type FrameName = (u64, u8, Option<u16>);

/// What peers share. One for each world.
#[derive(Debug)]
pub struct Book {
    seed: u64,
    pub(super) key: BroadcastKey,
    pub(super) manifest: SignedManifest,
    pub(super) stripes: StripeCount,
    pub(super) stripe_rate: u64,
    pub(super) config: Config,
    pub(super) has_manifest: bool,
    pub(super) random_access_every: u64,
    coding: Coding,
    redundancy: Option<Ratio>,
    /// When which share of the descriptions, in 2³² parts, begins to be late for leaves.
    impairments: Vec<(u64, u64)>,
    /// Payload bytes of a description, and what they stand for.
    payload: u64,
    nominal: u64,
    /// Whether contacts say which stripe is their primary one.
    tells_digits: bool,
    digits: RefCell<Vec<StripeId>>,
    /// Children each peer can have, as far as peers were made.
    capacities: RefCell<Vec<u32>>,
    frames: RefCell<BTreeMap<FrameName, Bytes>>,
}

impl Book {
    /// The book of a run.
    ///
    /// # Errors
    /// Names a switch that the core does not have, or a value that does not fit it.
    pub fn new(scenario: &Scenario, overlay: Overlay, seed: u64) -> Result<Self> {
        let broadcast = &scenario.broadcast;
        let stripes = StripeCount::new(broadcast.stripes).context("K is a power of two")?;
        let stripe_rate = (broadcast.stream_rate / u64::from(stripes.value())).max(1);
        let key = BroadcastKey::from_seed(&words(seed, 1));
        let mut config = Config::default();
        for (name, value) in &scenario.overlay.switches {
            set(&mut config, name, value)?;
        }
        let millis = broadcast.generation.micros() / 1_000;
        let manifest = Manifest {
            broadcast: key.broadcast(),
            sequence: 1,
            title: String::from("a simulated broadcast"),
            stripes,
            overlay,
            stripe_rate,
            generation_millis: u32::try_from(millis)?,
            tracks: Vec::new(),
            source: Contact {
                peer: peer_id(seed, SOURCE),
                roles: Roles::NONE,
                capacity: 0,
                addresses: vec![Bytes::from_static(ADDRESS)],
                is_source: true,
                class: 0,
                coordinate: None,
            },
            created_at: 0,
            ended_at: None::<GenerationId>,
        };
        let is_routed = scenario.population.knowledge == Knowledge::Routed;
        Ok(Self {
            seed,
            manifest: SignedManifest::sign(manifest, &key)?,
            key,
            stripes,
            stripe_rate,
            config,
            has_manifest: is_routed || scenario.population.has_manifest,
            random_access_every: broadcast.random_access_every,
            coding: broadcast.coding,
            redundancy: broadcast.redundancy.map(ratio_of),
            impairments: impairments(scenario),
            payload: u64::from(broadcast.payload),
            nominal: stripe_rate * broadcast.generation.micros() / 8_000_000,
            tells_digits: is_routed,
            digits: RefCell::default(),
            capacities: RefCell::default(),
            frames: RefCell::default(),
        })
    }

    /// All stripes.
    pub(super) fn all(&self) -> Roles {
        Roles(u64::MAX >> (64 - self.stripes.len()))
    }

    pub(super) fn peer_id(&self, index: Index) -> PeerId {
        peer_id(self.seed, index)
    }

    #[expect(clippy::unused_self, reason = "the book is where names are looked up")]
    pub(super) const fn index_of(&self, peer: &PeerId) -> Index {
        let [.., a, b, c, d] = peer.0;
        Index::from_be_bytes([a, b, c, d])
    }

    /// What a peer draws its randomness from.
    pub(super) fn seed_of(&self, index: Index) -> [u8; 32] {
        words(self.seed, u64::from(index) << 8 | 2)
    }

    /// The digit of a peer's Kademlia key: the stripe that is its primary one at first.
    pub fn digit(&self, index: Index) -> StripeId {
        let mut digits = self.digits.borrow_mut();
        while digits.len() <= index as usize {
            let next = Index::try_from(digits.len()).expect("an index came before");
            digits.push(self.peer_id(next).kademlia_key().digit(self.stripes));
        }
        digits[index as usize]
    }

    /// A peer is made.
    pub(super) fn note(&self, index: Index, capacity: u32) {
        let mut capacities = self.capacities.borrow_mut();
        if capacities.len() <= index as usize {
            capacities.resize(index as usize + 1, 0);
        }
        capacities[index as usize] = capacity;
    }

    /// How others know `index` before they have spoken with it.
    pub(super) fn contact(&self, index: Index) -> Contact {
        let is_source = index == SOURCE;
        let roles = if self.tells_digits && !is_source {
            Roles::one(self.digit(index))
        } else {
            Roles::NONE
        };
        let addresses = vec![Bytes::from_static(ADDRESS)];
        let known = self.capacities.borrow().get(index as usize).copied();
        let capacity = known.filter(|_| self.tells_digits && !is_source).unwrap_or(0);
        let class = if self.config.forest.capacity_order { class_of(capacity) } else { 0 };
        Contact {
            peer: self.peer_id(index),
            roles,
            capacity,
            addresses,
            is_source,
            class,
            coordinate: None,
        }
    }

    /// The layers of a generation, with the thresholds of its coding; together one description is
    /// `payload` bytes. Of a ladder the low rendition is a fifth: 190 kbit/s with sound from 6
    /// descriptions, 1.5 Mbit/s from 13.
    ///
    /// The bytes of a layer are the same whatever `redundancy` makes of its threshold.
    pub(super) fn layers(&self, number: u64, redundancy: &mut Redundancy) -> [Layer; 2] {
        let ([base, full], parts) = match self.coding {
            Coding::Priority => (thresholds::priority(self.stripes), 3),
            Coding::Ladder => (thresholds::ladder(self.stripes), 5),
        };
        let shard = (self.payload / parts).max(2).next_multiple_of(2);
        let rest = self.payload.saturating_sub(shard).max(2);
        let length = |threshold: u8, shard: u64| shard * u64::from(threshold);
        let lengths = [length(base, shard), length(full, rest)];
        let chosen = redundancy
            .thresholds(&lengths.map(|length| usize::try_from(length).unwrap_or(usize::MAX)));
        let layer = |place: usize, default: u8, salt: u64| {
            let (length, threshold) = (lengths[place], chosen.get(place).copied());
            let threshold = threshold.unwrap_or(default);
            let bytes = (0..length).map(|at| mix(number << 20 ^ at << 1 ^ salt).to_le_bytes()[0]);
            Layer { threshold, data: bytes.collect::<Vec<u8>>().into() }
        };
        [layer(0, base, 0), layer(1, full, 1)]
    }

    /// Where the source's thresholds come from.
    pub(super) fn redundancy(&self) -> Redundancy {
        let plan = match self.coding {
            Coding::Priority => Plan::Priority,
            Coding::Ladder => Plan::Ladder,
        };
        match self.redundancy {
            Some(budget) => Redundancy::adaptive(self.stripes, plan, budget),
            None => Redundancy::fixed(self.stripes, plan),
        }
    }

    /// Whether a description comes too late for `index`, a leaf in its tree.
    pub(super) fn is_late(
        &self,
        now: u64,
        index: Index,
        stripe: StripeId,
        generation: u64,
    ) -> bool {
        let begun = self.impairments.partition_point(|(at, _)| *at <= now);
        let Some((_, share)) = begun.checked_sub(1).and_then(|last| self.impairments.get(last))
        else {
            return false;
        };
        let name = mix(u64::from(index) << 8 | u64::from(stripe.0)) ^ generation;
        mix(mix(self.seed ^ LATENESS) ^ name) >> 32 < *share
    }

    /// The frame of a message and what it weighs on the wire.
    pub(super) fn encode(&self, message: &Message) -> (Bytes, u32) {
        let Some((name, payload)) = name_of(message) else {
            let framed = self.frame(message);
            let bytes = framed.len();
            return (framed, u32::try_from(bytes).unwrap_or(u32::MAX));
        };
        let mut frames = self.frames.borrow_mut();
        let framed = match frames.get(&name) {
            Some(known) if payload.is_none_or(|payload| known.ends_with(payload)) => known.clone(),
            Some(_) => self.frame(message),
            None => {
                let framed = self.frame(message);
                let oldest = name.0.saturating_sub(GENERATIONS_KEPT);
                while frames.first_key_value().is_some_and(|((first, ..), _)| *first < oldest) {
                    frames.pop_first();
                }
                frames.insert(name, framed.clone());
                framed
            }
        };
        debug_assert_eq!(framed, self.frame(message), "data is the same at every hop");
        let payload = payload.map_or(0, |payload| payload.len() as u64);
        let weight = framed.len() as u64 - payload + payload * self.nominal / self.payload;
        (framed, u32::try_from(weight).unwrap_or(u32::MAX))
    }

    fn frame(&self, message: &Message) -> Bytes {
        let Frame { head, payload } = Frame::encode(self.key.broadcast().tag(), message);
        let framed = if payload.is_empty() {
            head
        } else {
            let mut framed = BytesMut::with_capacity(head.len() + payload.len());
            framed.extend_from_slice(&head);
            framed.extend_from_slice(&payload);
            framed.freeze()
        };
        debug_assert_eq!(&super::decode(&framed), message, "messages survive the wire");
        framed
    }
}

/// A ratio as people write it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked on loading")]
fn ratio_of(ratio: f64) -> Ratio {
    Ratio::from_permille((ratio * 1000.0).round() as u32)
}

/// What is late from when on, in the order of time.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2³²")]
fn impairments(scenario: &Scenario) -> Vec<(u64, u64)> {
    let events = scenario.events.iter().filter(|event| event.deed == Deed::Impair);
    let share = |event: &Event| (event.share.unwrap_or(0.0) * 4_294_967_296.0) as u64;
    let mut all: Vec<(u64, u64)> = events.map(|event| (event.at.micros(), share(event))).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

/// The name of a frame of data, and a chunk's payload.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are control")]
fn name_of(message: &Message) -> Option<(FrameName, Option<&Bytes>)> {
    match message {
        Message::Header(header) => {
            Some(((header.commitment.generation.0, header.stripe.0, None), None))
        }
        Message::Chunk { id, payload } => {
            Some(((id.generation.0, id.stripe.0, Some(id.index)), Some(payload)))
        }
        _ => None,
    }
}

/// The name of a node: its order says nothing of when it came; its last bytes are the index.
fn peer_id(seed: u64, index: Index) -> PeerId {
    let mut bytes = words(seed, u64::from(index) << 8);
    bytes[28..].copy_from_slice(&index.to_be_bytes());
    PeerId(bytes)
}

fn words(seed: u64, salt: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (place, word) in bytes.chunks_exact_mut(8).zip(0..) {
        place.copy_from_slice(&mix(mix(seed ^ mix(salt)) ^ word).to_be_bytes());
    }
    bytes
}

/// Sets one field of the core's configuration by its name.
fn set(config: &mut Config, name: &str, value: &toml::Value) -> Result<()> {
    let duration = || -> Result<Duration> {
        let text = value.as_str().with_context(|| format!("switch `{name}` is a duration"))?;
        text.parse::<Span>().map(|span| span.0).map_err(anyhow::Error::msg)
    };
    let flag = || value.as_bool().with_context(|| format!("switch `{name}` is true or false"));
    let number = || value.as_integer().with_context(|| format!("switch `{name}` is a number"));
    match name {
        "playout_delay" => config.playout_delay = duration()?,
        "retention" => config.retention = duration()?,
        "forward_ttl" => config.forward_ttl = duration()?,
        "stall_after" => config.stall_after = duration()?,
        "probe_timeout" => config.probe_timeout = duration()?,
        "orphan_patience" => config.orphan_patience = duration()?,
        "join_timeout" => config.join_timeout = duration()?,
        "attach_timeout" => config.attach_timeout = duration()?,
        "retry_delay" => config.retry_delay = duration()?,
        "report_interval" => config.report_interval = duration()?,
        "refresh_interval" => config.refresh_interval = duration()?,
        "source_timeout" => config.source_timeout = duration()?,
        "hedge_after" => config.hedge_after = duration()?,
        "improve_interval" => config.improve_interval = duration()?,
        "role_change" => config.forest.role_change = flag()?,
        "second_roles" => config.forest.second_roles = flag()?,
        "capacity_order" => config.forest.capacity_order = flag()?,
        "standby" => config.forest.standby = flag()?,
        "fair_shares" => config.forest.fair_shares = flag()?,
        "make_before_break" => config.forest.make_before_break = flag()?,
        "improvement" => config.forest.improvement = flag()?,
        "proximity" => config.forest.proximity = flag()?,
        "source_fanout" => config.source_fanout = u32::try_from(number()?)?,
        _ => bail!("the core has no switch `{name}`"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_gives_back_its_index() {
        let book = Book::new(&Scenario::default(), Overlay::SplitStream, 9).expect("valid");
        for index in [0, 1, 77, 39_999] {
            assert_eq!(book.index_of(&book.peer_id(index)), index);
        }
        assert!(book.digit(500).0 < 16);
    }

    #[test]
    fn data_weighs_what_the_stream_does_and_is_kept_once() {
        let book = Book::new(&Scenario::default(), Overlay::SplitStream, 9).expect("valid");
        let id =
            banyan_wire::ChunkId { generation: GenerationId(3), stripe: StripeId(1), index: 0 };
        let message = Message::Chunk { id, payload: Bytes::from_static(&[7; 64]) };
        let (first, weight) = book.encode(&message);
        let (second, _) = book.encode(&message);
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert!((6_250..6_350).contains(&weight), "{weight}");
    }

    #[test]
    fn unknown_switches_are_refused() {
        let mut scenario = Scenario::default();
        scenario.overlay.switches.insert("retry_delay".into(), "60ms".into());
        assert!(Book::new(&scenario, Overlay::SplitStream, 1).is_ok());
        scenario.overlay.switches.insert("luck".into(), 1.into());
        assert!(Book::new(&scenario, Overlay::SplitStream, 1).is_err());
    }
}
