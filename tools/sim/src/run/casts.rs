//! Who plays: the nodes of each overlay, made for their seats.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use banyan_core::Instant;
use banyan_wire::Overlay;
use serde::Deserialize;

use crate::banyan::{Banyan, Book};
use crate::baseline::{Baseline, Blueprint, Config, Kind, Ring, Shape, Timings};
use crate::dice::Dice;
use crate::forest::SOURCE;
use crate::node::{Index, Node};
use crate::scenario::{Scenario, Span};
use crate::world::Seat;
use crate::world::latency::Latency;

/// Newcomers entered into the ring one by one; more are entered at the price of one sort.
const ONE_BY_ONE: usize = 64;

/// Makes the nodes of one overlay.
pub trait Cast {
    /// What it makes.
    type Node: Node;

    /// Makes the node for a seat. Indices come in order.
    ///
    /// # Errors
    /// Says what is wrong with the scenario's switches.
    fn make(&mut self, seat: &Seat, now: Instant) -> Result<Self::Node>;

    /// The digit by which others know `index`: where it stands in their routing tables.
    fn digit(&self, index: Index) -> u8;

    /// A node has a seat.
    fn came(&mut self, _: Index) {}

    /// A node is gone.
    fn went(&mut self, _: Index) {}

    /// Whom a newcomer knows, where the overlay has a substrate of its own.
    fn contacts(&mut self, _: Index, _: &Latency) -> Option<Vec<Index>> {
        None
    }
}

/// Banyan's own peers.
#[derive(Debug)]
pub(super) struct BanyanCast {
    book: Rc<Book>,
}

impl BanyanCast {
    pub(super) fn new(scenario: &Scenario, overlay: Overlay, seed: u64) -> Result<Self> {
        Ok(Self { book: Rc::new(Book::new(scenario, overlay, seed)?) })
    }
}

impl Cast for BanyanCast {
    type Node = Banyan;

    fn make(&mut self, seat: &Seat, now: Instant) -> Result<Banyan> {
        Banyan::new(&self.book, seat, now)
    }

    fn digit(&self, index: Index) -> u8 {
        self.book.digit(index).0
    }
}

/// Switches of the baselines, as a scenario names them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Switches {
    shape: Option<Shape>,
    sample: Option<usize>,
    hears_transport: Option<bool>,
    join: Option<Span>,
    subscribe: Option<Span>,
    anycast: Option<Span>,
    batch: Option<Span>,
    retry: Option<Span>,
    beat: Option<Span>,
    silence: Option<Span>,
    exchange: Option<Span>,
    lease: Option<Span>,
    relocate: Option<Span>,
}

impl Switches {
    fn timings(&self, kind: Kind) -> Timings {
        let or = |span: Option<Span>, default: Duration| span.map_or(default, |span| span.0);
        let given = Timings::of(kind);
        Timings {
            join: or(self.join, given.join),
            subscribe: or(self.subscribe, given.subscribe),
            anycast: or(self.anycast, given.anycast),
            batch: or(self.batch, given.batch),
            retry: or(self.retry, given.retry),
            beat: or(self.beat, given.beat),
            silence: or(self.silence, given.silence),
            exchange: or(self.exchange, given.exchange),
            lease: or(self.lease, given.lease),
            relocate: or(self.relocate, given.relocate),
        }
    }
}

/// A baseline and the ring it stands on.
#[derive(Debug)]
pub(super) struct BaselineCast {
    blueprint: Arc<Blueprint>,
    ring: Ring,
    /// Nodes that are not on the ring yet.
    waiting: Vec<Index>,
    wants: Dice,
    stripes: u8,
}

impl BaselineCast {
    pub(super) fn new(scenario: &Scenario, kind: Kind, seed: u64) -> Result<Self> {
        let table = scenario.overlay.switches.clone();
        let switches: Switches = table.try_into().context("overlay.switches")?;
        let defaults = match kind {
            Kind::Paper => Config::default(),
            Kind::Freepastry => Config::freepastry(),
        };
        let broadcast = &scenario.broadcast;
        let stripes = u8::try_from(broadcast.stripes)?;
        let micros = broadcast.generation.micros();
        let packet = broadcast.stream_rate / u64::from(stripes) * micros / 8_000_000;
        let config = Config {
            kind,
            stripes,
            shape: switches.shape.unwrap_or(defaults.shape),
            sample: switches.sample.unwrap_or(defaults.sample),
            packet_bytes: u32::try_from(packet)?,
            settled: scenario.population.arrive_at.0,
            hears_transport: switches.hears_transport.unwrap_or(defaults.hears_transport),
            timings: switches.timings(kind),
            ..defaults
        };
        let blueprint = Arc::new(Blueprint::new(config, seed)?);
        let (ring, wants) = (blueprint.ring(), Dice::new(seed, "wants"));
        Ok(Self { blueprint, ring, waiting: Vec::new(), wants, stripes })
    }

    /// The own stripe, which a node has to forward, and random others.
    fn wants(&mut self, own: u8, count: u32) -> u64 {
        let mut others: Vec<u8> = (0..self.stripes).filter(|other| *other != own).collect();
        let others = self.wants.draw(&mut others, (count as usize).saturating_sub(1));
        others.iter().fold(1 << own, |wants, other| wants | 1 << other)
    }
}

impl Cast for BaselineCast {
    type Node = Baseline;

    fn make(&mut self, seat: &Seat, _: Instant) -> Result<Baseline> {
        if seat.index == SOURCE {
            return Ok(self.blueprint.build(SOURCE));
        }
        let wants = self.wants(self.digit(seat.index), seat.wanted);
        Ok(self.blueprint.build_with(seat.index, wants, seat.capacity))
    }

    fn digit(&self, index: Index) -> u8 {
        let key = crate::baseline::Key::of_node(self.blueprint.seed, index);
        u8::try_from(key.digit(0, self.blueprint.bits)).unwrap_or(0)
    }

    fn came(&mut self, index: Index) {
        self.waiting.push(index);
    }

    fn went(&mut self, index: Index) {
        self.waiting.retain(|waiting| *waiting != index);
        self.ring.remove(index);
    }

    fn contacts(&mut self, index: Index, latency: &Latency) -> Option<Vec<Index>> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.len() > ONE_BY_ONE {
            self.ring.extend(waiting);
        } else {
            waiting.into_iter().for_each(|index| self.ring.insert(index));
        }
        Some(self.ring.contacts(index, |peer| latency.one_way(index, peer)))
    }
}
