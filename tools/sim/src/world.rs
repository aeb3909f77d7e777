//! The world: virtual time, and what happens to whom.
//!
//! ```text
//!   queue, wakes ──▶ step ──▶ Node::handle ──▶ actions ──▶ transport ──▶ queue
//!                                                 └──▶ forest, tally, screens, checks
//! ```
//!
//! One thread, one clock in microseconds: the same nodes, scenario and seed give the same steps,
//! and [`World::trace`] is a hash over them. Decides the order of steps and who is in the world;
//! what a message costs is `transport`'s, who comes and goes is [`crate::population`]'s.

mod connections;
pub mod latency;
mod links;
mod machines;
mod nat;
mod queue;
mod transport;
mod wakes;

use banyan_core::Instant;

use crate::check::{Breach, Checks, Rule};
use crate::dice::Dice;
use crate::forest::{Forest, SOURCE};
use crate::measure::coding::Coded;
use crate::measure::screens::{Screens, Shown};
use crate::measure::tally::Tally;
use crate::node::{Action, Happening, Index, Node};
use crate::scenario::Scenario;

use connections::Connections;
use latency::Latency;
use links::Links;
use machines::{Machines, Work};
use nat::Nat;
use queue::Queue;
use transport::{Event, Partition};
use wakes::Wakes;

/// Wake-ups of one node at one instant after which time counts as standing still.
const MAX_SPINS: u32 = 1_000;
/// Events that may wait; further ones mean that something multiplies.
const MAX_EVENTS: usize = 200_000_000;

/// What a node is given on its way into the world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seat {
    /// Its index.
    pub index: Index,
    /// Children it may have, over all stripes.
    pub capacity: u32,
    /// How many stripes its downlink takes.
    pub wanted: u32,
    /// Upload in bits per second; 0 for infinite.
    pub up: u64,
    /// Download in bits per second; 0 for infinite.
    pub down: u64,
    /// Whether somebody can dial it. Said by the world.
    pub is_dialable: bool,
}

/// A world of nodes. The [module documentation](self) draws how it works.
#[derive(Debug)]
pub struct World<N: Node> {
    now: u64,
    nodes: Vec<Option<Box<N>>>,
    /// When nodes died without a word; the end of time for all others.
    died_at: Vec<u64>,
    spins: Vec<(u64, u32)>,
    live: u32,
    queue: Queue<Event<N::Message>>,
    wakes: Wakes,
    actions: Vec<Action<N::Message>>,
    connections: Connections,
    links: Links,
    nat: Nat,
    machines: Machines,
    partition: Option<Partition>,
    detection: u64,
    idle_timeout: u64,
    dial_timeout: u64,
    loss: f64,
    losses: Dice,
    published_at: Vec<u64>,
    steps: u64,
    trace: u64,
    /// Distances.
    pub latency: Latency,
    /// Who is whose parent.
    pub forest: Forest,
    /// What was sent.
    pub tally: Tally,
    /// What was seen.
    pub screens: Screens,
    /// How each generation was coded, where the overlay tells.
    pub coding: Vec<Coded>,
    /// What must hold.
    pub checks: Checks,
}

impl<N: Node> World<N> {
    /// An empty world.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let Scenario { world, broadcast, .. } = scenario;
        Self {
            now: 0,
            nodes: Vec::new(),
            died_at: Vec::new(),
            spins: Vec::new(),
            live: 0,
            queue: Queue::default(),
            wakes: Wakes::default(),
            actions: Vec::new(),
            connections: Connections::default(),
            links: Links::new(&scenario.links),
            nat: Nat::new(&scenario.nat, seed),
            machines: Machines::new(&scenario.machine),
            partition: None,
            detection: world.detection.micros(),
            idle_timeout: world.idle_timeout.micros(),
            dial_timeout: world.dial_timeout.micros(),
            loss: scenario.latency.loss,
            losses: Dice::new(seed, "losses"),
            published_at: Vec::new(),
            steps: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            latency: Latency::new(&scenario.latency, seed),
            forest: Forest::new(broadcast.stripes as usize),
            tally: Tally::default(),
            screens: Screens::default(),
            coding: Vec::new(),
            checks: Checks::new(&scenario.check),
        }
    }

    // ---- Who is in it -----------------------------------------------------------------------

    /// Makes the place for the next node: distances, link and tables. [`start`](Self::start)
    /// fills it.
    pub fn reserve(&mut self, seat: &Seat) {
        debug_assert_eq!(seat.index, self.forest.len(), "indices are given in order");
        self.nodes.push(None);
        self.died_at.push(u64::MAX);
        self.spins.push((0, 0));
        self.connections.add();
        self.links.add(seat.up, seat.down);
        self.nat.add();
        self.machines.add();
        self.latency.add();
        let all = u64::MAX >> (64 - self.forest.stripes());
        let wants = if seat.index == SOURCE { 0 } else { all };
        self.forest.add(seat.capacity, wants);
        self.tally.add();
        self.screens.add();
    }

    /// Puts a node into its place and tells it whom it knows.
    pub fn start(&mut self, index: Index, node: N, contacts: Vec<Index>) {
        self.nodes[index as usize] = Some(Box::new(node));
        self.forest.start(self.now, index);
        if index != SOURCE {
            self.live += 1;
        }
        self.checks.set_viewers(self.now, self.live);
        self.tell(index, Happening::Start { contacts });
    }

    /// A node dies without a word.
    pub fn kill(&mut self, index: Index) {
        if self.nodes[index as usize].is_none() {
            return;
        }
        self.died_at[index as usize] = self.now;
        self.cut_off(index);
        self.take_out(index);
    }

    /// A node says goodbye and is gone.
    pub fn leave(&mut self, index: Index) {
        if self.nodes[index as usize].is_none() {
            return;
        }
        self.tell(index, Happening::Leave);
        let peers: Vec<Index> = self.connections.of(index).map(|(peer, _, _)| peer).collect();
        for peer in peers {
            self.disconnect(index, peer);
        }
        self.take_out(index);
    }

    fn take_out(&mut self, index: Index) {
        if let Some(node) = self.nodes[index as usize].take() {
            let gauges = node.gauges();
            self.tally.gone(&gauges);
        }
        self.tally.lived += self.now - self.forest.started_at(index);
        self.wakes.set(index, None);
        self.links.clear(index);
        self.forest.remove(index);
        self.live -= 1;
        self.checks.set_viewers(self.now, self.live);
        self.note(index, 0xdead);
    }

    /// The source publishes the next generation.
    pub fn publish(&mut self) {
        let number = self.published_at.len() as u64;
        self.published_at.push(self.now);
        self.tally.due += u64::from(self.live) * self.forest.stripes() as u64;
        self.tell(SOURCE, Happening::Publish { number });
    }

    // ---- Time -------------------------------------------------------------------------------

    /// Lets time pass until `end`.
    ///
    /// # Errors
    /// The [`Breach`] of a checker that may not fail.
    pub fn run_until(&mut self, end: u64) -> Result<(), Breach> {
        while self.step(end) {
            self.checks.look_at_loops(self.now, &self.forest);
            if let Some(breach) = self.checks.fatal() {
                return Err(breach.clone());
            }
        }
        self.now = end;
        self.checks.fatal().map_or(Ok(()), |breach| Err(breach.clone()))
    }

    /// Takes the next step, if there is one up to `end`.
    fn step(&mut self, end: u64) -> bool {
        let event_at = self.queue.next_at().unwrap_or(u64::MAX);
        if let Some((at, node)) = self.wakes.next()
            && at < event_at
        {
            if at > end {
                return false;
            }
            self.now = self.now.max(at);
            self.wakes.set(node, None);
            self.count_spin(node);
            self.machines.set_waking(node, true);
            self.hand(node, Happening::Timeout, Work::Timer);
            return true;
        }
        if event_at > end {
            return false;
        }
        let Some((at, event)) = self.queue.pop() else {
            return false;
        };
        self.now = self.now.max(at);
        self.happen(event);
        if self.queue.len() > MAX_EVENTS {
            self.checks.breach(Rule::Queues, self.now, SOURCE, || "too many events wait".into());
        }
        true
    }

    fn count_spin(&mut self, node: Index) {
        let (at, count) = &mut self.spins[node as usize];
        *count = if *at == self.now { *count + 1 } else { 0 };
        *at = self.now;
        if *count > MAX_SPINS {
            self.checks.breach(Rule::Queues, self.now, node, || {
                "time stands still: it wakes again and again".into()
            });
        }
    }

    /// Something is due at a node: it is told when a core has time for it.
    fn hand(&mut self, index: Index, happening: Happening<N::Message>, work: Work) {
        let at = self.machines.take(self.now, index, work);
        if at > self.now {
            self.queue.push(at, Event::Due { node: index, happening });
        } else {
            self.tell(index, happening);
        }
    }

    /// Something happens to a node; its actions are carried out and its edges checked.
    fn tell(&mut self, index: Index, happening: Happening<N::Message>) {
        let Some(node) = &mut self.nodes[index as usize] else {
            return;
        };
        let mut actions = std::mem::take(&mut self.actions);
        let kind = kind_of(&happening);
        if matches!(happening, Happening::Timeout) {
            self.machines.set_waking(index, false);
        }
        node.handle(Instant::from_micros(self.now), happening, &mut actions);
        let wake_at = node.wake_at().map(|at| at.as_micros().max(self.now));
        if self.checks.is_on(Rule::Node)
            && let Err(broken) = node.check()
        {
            self.checks.breach(Rule::Node, self.now, index, || broken);
        }
        self.wakes.set(index, wake_at.filter(|_| !self.machines.is_waking(index)));
        self.note(index, kind);
        self.perform(index, &mut actions);
        self.actions = actions;
    }

    fn perform(&mut self, index: Index, actions: &mut Vec<Action<N::Message>>) {
        let (mut edges, mut has_children) = (0_u64, false);
        for action in actions.drain(..) {
            match action {
                Action::Send { .. } => self.send(index, action),
                Action::Connect { to } => self.dial(index, to),
                Action::Disconnect { peer } => self.disconnect(index, peer),
                Action::Keep { peer, keep } => self.keep(index, peer, keep),
                Action::Parent { stripe, parent } => {
                    self.forest.set_parent(index, stripe, parent);
                    edges |= 1 << stripe;
                }
                Action::Children { stripe, staying, leaving } => {
                    self.forest.set_children(index, stripe, staying, leaving);
                    has_children = true;
                }
                Action::Wants { stripes, roles } => self.forest.set_wants(index, stripes, roles),
                Action::Played { generation, received, layers, layers_total, lag: _ } => {
                    let lag = self.age(generation);
                    let shown = Shown { received, layers, layers_total, lag };
                    self.screens.played(self.now, index, shown);
                }
                Action::Coded { source, coded, thresholds } => {
                    self.coding.push(Coded { at: self.now, source, coded, thresholds });
                }
                Action::Arrived { stripe: _, generation } => {
                    if let Some(age) = self.age(generation) {
                        self.tally.arrived += 1;
                        self.tally.arrival.add(age);
                    }
                }
            }
        }
        while edges != 0 {
            let stripe = edges.trailing_zeros();
            edges &= edges - 1;
            self.checks.edge(self.now, &self.forest, index, stripe.try_into().unwrap_or(u8::MAX));
        }
        if has_children {
            self.checks.children(self.now, &self.forest, index);
        }
    }

    /// Time since a generation was published.
    fn age(&self, generation: u64) -> Option<u64> {
        let at = self.published_at.get(usize::try_from(generation).ok()?)?;
        Some(self.now - at)
    }

    /// Adds a step to the trace (FNV-1a over its three words).
    fn note(&mut self, node: Index, kind: u64) {
        self.steps += 1;
        for word in [self.now, u64::from(node), kind] {
            self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }

    // ---- What it shows ----------------------------------------------------------------------

    /// Microseconds since the beginning.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Steps taken.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Hash over (time, node, kind) of every step so far.
    #[must_use]
    pub const fn trace(&self) -> u64 {
        self.trace
    }

    /// Live viewers.
    #[must_use]
    pub const fn viewers(&self) -> u32 {
        self.live
    }

    /// Generations published.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published_at.len() as u64
    }

    /// Connections of a node.
    #[must_use]
    pub fn connections(&self, node: Index) -> usize {
        self.connections.count(node)
    }

    /// The node at `index`, if it is in the world.
    #[must_use]
    pub fn node(&self, index: Index) -> Option<&N> {
        self.nodes.get(index as usize)?.as_deref()
    }

    /// Whether somebody can dial `node`.
    #[must_use]
    pub fn is_dialable(&self, node: Index) -> bool {
        self.nat.is_dialable(node)
    }

    /// The share of the time of all shared machines' cores that they worked; 0 where there are none.
    #[must_use]
    pub fn machine_load(&self) -> f64 {
        self.machines.load(self.now)
    }

    /// Microseconds that the longest wait for a core took.
    #[must_use]
    pub const fn longest_wait(&self) -> u64 {
        self.machines.longest_wait()
    }

    /// Events that wait, for progress.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}

/// A number for the trace.
const fn kind_of<M>(happening: &Happening<M>) -> u64 {
    match happening {
        Happening::Start { .. } => 1,
        Happening::Connected { .. } => 2,
        Happening::ConnectFailed { .. } => 3,
        Happening::Disconnected { .. } => 4,
        Happening::Received { from, .. } => 5 | (*from as u64) << 8,
        Happening::RoundTrip { .. } => 6,
        Happening::SendQueue { .. } => 7,
        Happening::Timeout => 8,
        Happening::Publish { .. } => 9,
        Happening::Leave => 10,
    }
}
