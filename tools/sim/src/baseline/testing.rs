//! A small world for this module's own tests: fixed delays in a plane, no losses, no queues.
//!
//! What the tests assert is the protocol; how it fares on real networks is for the simulator.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed, and its worlds are small"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use banyan_core::Instant;

use super::key::Dice;
use super::links::Cx;
use super::scribe::Member;
use super::{Baseline, Blueprint, Config, Key, Message, Ring, SOURCE};
use crate::node::{Action, Happening, Index, Node};

pub(super) struct World {
    pub(super) plan: Arc<Blueprint>,
    pub(super) now: Instant,
    pub(super) nodes: Vec<Option<Baseline>>,
    /// Parents by node and stripe, as told.
    pub(super) parents: Vec<Vec<Option<Index>>>,
    /// Requests each node has received.
    pub(super) requests: Vec<u64>,
    /// Messages by kind.
    pub(super) kinds: BTreeMap<&'static str, u64>,
    /// First arrivals by packet number.
    pub(super) arrived: BTreeMap<u64, u64>,
    /// Edges told of that closed a loop.
    pub(super) loops: u64,
    /// Whether every node is checked after everything that happens to it.
    pub(super) is_checked: bool,
    ring: Ring,
    links: Vec<BTreeSet<Index>>,
    places: Vec<(f64, f64)>,
    due: BinaryHeap<Reverse<(Instant, u64, Slot)>>,
    happenings: Vec<Option<Happening<Message>>>,
    free: Vec<usize>,
    woken: Vec<Option<Instant>>,
    count: u64,
}

/// Which node an entry of the queue is for, and where its happening lies; `None` for a wake-up.
type Slot = (Index, Option<usize>);

/// How long a dead connection goes unnoticed.
const NOTICE: Duration = Duration::from_secs(1);

impl World {
    /// `count` viewers and a source, all started at once.
    pub(super) fn new(config: Config, count: Index, seed: u64) -> Self {
        let plan = Arc::new(Blueprint::new(config, seed).unwrap());
        let mut ring = plan.ring();
        ring.extend(1..=count);
        let mut dice = Dice::new(seed);
        let mut unit = || f64::from(dice.millionths()) / 1e6;
        let nodes = count as usize + 1;
        let mut world = Self {
            now: Instant::ZERO,
            nodes: (0..=count).map(|index| Some(plan.build(index))).collect(),
            parents: vec![vec![None; usize::from(config.stripes)]; nodes],
            requests: vec![0; nodes],
            kinds: BTreeMap::new(),
            arrived: BTreeMap::new(),
            loops: 0,
            is_checked: count <= 1_000,
            ring,
            links: vec![BTreeSet::new(); nodes],
            places: (0..nodes).map(|_| (unit(), unit())).collect(),
            due: BinaryHeap::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            woken: vec![None; nodes],
            count: 0,
            plan,
        };
        for index in 0..=count {
            let contacts = world.contacts(index);
            world.at(Duration::ZERO, index, Happening::Start { contacts });
        }
        world
    }

    fn contacts(&self, index: Index) -> Vec<Index> {
        self.ring.contacts(index, |peer| self.delay(index, peer).as_micros() as u64)
    }

    /// From 1 ms to 100 ms, one way.
    fn delay(&self, from: Index, to: Index) -> Duration {
        let (a, b) = (self.places[from as usize], self.places[to as usize]);
        Duration::from_micros(1_000 + ((a.0 - b.0).hypot(a.1 - b.1) * 70_000.0) as u64)
    }

    fn at(&mut self, delay: Duration, index: Index, happening: Happening<Message>) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.happenings.push(None);
            self.happenings.len() - 1
        });
        self.happenings[place] = Some(happening);
        self.count += 1;
        self.due.push(Reverse((self.now + delay, self.count, (index, Some(place)))));
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(&Reverse((at, _, (index, place)))) = self.due.peek() {
            if at > end {
                break;
            }
            self.due.pop();
            self.now = at;
            let happening = match place {
                Some(place) => {
                    self.free.push(place);
                    self.happenings[place].take().unwrap()
                }
                None if self.woken[index as usize] == Some(at) => {
                    self.woken[index as usize] = None;
                    Happening::Timeout
                }
                None => continue,
            };
            self.happen(index, happening);
        }
        self.now = end;
    }

    fn happen(&mut self, index: Index, happening: Happening<Message>) {
        let links = &self.links[index as usize];
        if matches!(&happening, Happening::Received { from, .. } if !links.contains(from)) {
            return;
        }
        let happening = if let Happening::Connected { peer } = happening {
            self.connect(index, peer)
        } else {
            happening
        };
        if let Happening::Received { message, .. } = &happening
            && message.is_request()
        {
            self.requests[index as usize] += 1;
        }
        let Some(node) = self.nodes[index as usize].as_mut() else { return };
        let mut actions = Vec::new();
        node.handle(self.now, happening, &mut actions);
        if self.is_checked
            && let Err(broken) = node.check()
        {
            panic!("{index} at {:?}: {broken}\n{node:?}", self.now);
        }
        let wake = node.wake_at();
        for action in actions {
            self.act(index, action);
        }
        if let Some(wake) = wake
            && self.woken[index as usize] != Some(wake)
        {
            self.woken[index as usize] = Some(wake);
            self.count += 1;
            self.due.push(Reverse((wake.max(self.now), self.count, (index, None))));
            self.woken[index as usize] = Some(wake.max(self.now));
        }
    }

    /// Completes a call of `index`, seen at its end.
    fn connect(&mut self, index: Index, peer: Index) -> Happening<Message> {
        if self.links[index as usize].contains(&peer) {
            return Happening::Connected { peer };
        }
        if self.nodes[peer as usize].is_none() {
            return Happening::ConnectFailed { peer };
        }
        self.links[index as usize].insert(peer);
        self.links[peer as usize].insert(index);
        self.happen(peer, Happening::Connected { peer: index });
        Happening::Connected { peer }
    }

    fn act(&mut self, index: Index, action: Action<Message>) {
        match action {
            Action::Send { to, message, kind, .. } => {
                *self.kinds.entry(kind).or_default() += 1;
                if self.links[index as usize].contains(&to) {
                    let delay = self.delay(index, to);
                    self.at(delay, to, Happening::Received { from: index, message });
                }
            }
            Action::Connect { to } => {
                let delay = self.delay(index, to) * 2;
                self.at(delay, index, Happening::Connected { peer: to });
            }
            Action::Parent { stripe, parent } => {
                self.parents[index as usize][usize::from(stripe)] = parent;
                self.loops += u64::from(self.is_checked && self.is_in_loop(index, stripe));
            }
            Action::Arrived { generation, .. } => *self.arrived.entry(generation).or_default() += 1,
            Action::Disconnect { .. }
            | Action::Keep { .. }
            | Action::Children { .. }
            | Action::Wants { .. }
            | Action::Coded { .. }
            | Action::Played { .. } => {}
        }
    }

    /// Publishes once a second for so many seconds, from this number on.
    pub(super) fn publish(&mut self, from: u64, seconds: u64) {
        for number in from..from + seconds {
            self.happen(SOURCE, Happening::Publish { number });
            self.run(Duration::from_secs(1));
        }
    }

    /// Kills a node without a word.
    pub(super) fn kill(&mut self, index: Index) {
        self.nodes[index as usize] = None;
        self.ring.remove(index);
        for peer in std::mem::take(&mut self.links[index as usize]) {
            self.links[peer as usize].remove(&index);
            self.at(NOTICE, peer, Happening::Disconnected { peer: index });
        }
    }

    /// Lets a node go in good order.
    pub(super) fn leave(&mut self, index: Index) {
        self.happen(index, Happening::Leave);
        self.run(Duration::from_millis(200));
        self.kill(index);
    }

    /// Brings one more node up; it knows whom the ring names and nobody knows it.
    pub(super) fn arrive(&mut self) -> Index {
        let index = Index::try_from(self.nodes.len()).unwrap();
        self.nodes.push(Some(self.plan.build(index)));
        self.parents.push(vec![None; usize::from(self.plan.config.stripes)]);
        self.requests.push(0);
        self.links.push(BTreeSet::new());
        self.places.push((0.5, 0.5));
        self.woken.push(None);
        self.ring.insert(index);
        let contacts = self.contacts(index);
        self.at(Duration::ZERO, index, Happening::Start { contacts });
        index
    }

    pub(super) fn viewers(&self) -> impl Iterator<Item = Index> {
        (1..self.nodes.len() as Index).filter(|&index| self.nodes[index as usize].is_some())
    }

    pub(super) fn key(&self, index: Index) -> Key {
        Key::of_node(self.plan.seed, index)
    }

    /// Hops to the source; `None` for whoever has no way there.
    pub(super) fn depth(&self, index: Index, stripe: usize) -> Option<usize> {
        let mut at = index;
        for depth in 0..self.nodes.len() {
            if at == SOURCE {
                return Some(depth);
            }
            self.nodes[at as usize].as_ref()?;
            at = self.parents[at as usize][stripe]?;
        }
        None
    }

    fn is_in_loop(&self, index: Index, stripe: u8) -> bool {
        let up = |at: Index| self.parents[at as usize][usize::from(stripe)];
        let mut above = std::iter::successors(up(index), |&at| up(at)).take(self.nodes.len());
        above.any(|at| at == index)
    }

    /// What the forest looks like.
    pub(super) fn forest(&self) -> Forest {
        let mut forest = Forest::default();
        let stripes = usize::from(self.plan.config.stripes);
        let mut inner: Vec<u64> = vec![0; self.nodes.len()];
        for index in self.viewers() {
            let wants = self.plan.config.mix.draw(self.plan.seed, self.plan.bits, index).0;
            for stripe in (0..stripes).filter(|stripe| wants >> stripe & 1 == 1) {
                match self.depth(index, stripe) {
                    Some(depth) => {
                        forest.edges += 1;
                        forest.depths += depth;
                        forest.deepest = forest.deepest.max(depth);
                    }
                    None => forest.lacking += 1,
                }
            }
            for stripe in 0..stripes {
                if let Some(parent) = self.parents[index as usize][stripe]
                    && parent != SOURCE
                {
                    inner[parent as usize] |= 1 << stripe;
                    let digit = self.key(parent).digit(0, self.plan.bits);
                    forest.native += usize::from(digit == stripe);
                    forest.foreign += usize::from(digit != stripe);
                }
            }
        }
        for index in self.viewers() {
            let own = self.key(index).digit(0, self.plan.bits);
            let stripes = inner[index as usize];
            let place = (stripes.count_ones() as usize).min(3);
            forest.interior[place] += 1;
            forest.strangers += (stripes & !(1 << own)).count_ones() as usize;
            forest.natives += (stripes >> own & 1) as usize;
        }
        forest
    }

    /// Mean, median and greatest number of requests received per viewer.
    pub(super) fn stress(&self) -> (f64, u64, u64) {
        let mut requests: Vec<u64> = self.viewers().map(|i| self.requests[i as usize]).collect();
        requests.sort_unstable();
        let sum: u64 = requests.iter().sum();
        let count = requests.len();
        (sum as f64 / count as f64, requests[count / 2], requests[count - 1])
    }
}

/// The shape of all trees together.
#[derive(Debug, Default)]
pub(super) struct Forest {
    /// Wanted stripes that reach the source, and those that do not.
    pub(super) edges: usize,
    pub(super) lacking: usize,
    /// Sum and maximum of hops to the source.
    pub(super) depths: usize,
    pub(super) deepest: usize,
    /// Edges under parents whose key begins as the stripe's does, and others.
    pub(super) native: usize,
    pub(super) foreign: usize,
    /// Nodes interior in 0, 1, 2 and more stripes.
    pub(super) interior: [usize; 4],
    /// Interior places of nodes native to the stripe, and of others.
    pub(super) natives: usize,
    pub(super) strangers: usize,
}

/// A node of `capacity` among 200 others, connected to all of them, and what comes of what is done
/// with it.
pub(super) struct Lone {
    pub(super) member: Member,
    pub(super) actions: Vec<Action<Message>>,
}

impl Lone {
    pub(super) fn new(config: Config, capacity: u32) -> Self {
        let plan = Arc::new(Blueprint::new(config, 5).unwrap());
        let mut ring = plan.ring();
        ring.extend(1..=200);
        let mut lone =
            Self { member: Member::new(&plan, 1, 0xffff, capacity), actions: Vec::new() };
        for peer in ring.contacts(1, |_| 0) {
            lone.member.routing.insert(peer);
        }
        for peer in 0..=200 {
            lone.with(|member, cx| member.links.on_connected(cx, peer));
        }
        lone.actions.clear();
        lone
    }

    pub(super) fn with<T>(&mut self, call: impl FnOnce(&mut Member, &mut Cx<'_>) -> T) -> T {
        call(&mut self.member, &mut Cx { now: Instant::ZERO, actions: &mut self.actions })
    }

    /// What was sent since it was last asked: receiver and kind.
    pub(super) fn said(&mut self) -> Vec<(Index, &'static str)> {
        let sent = |action| match action {
            Action::Send { to, kind, .. } => Some((to, kind)),
            Action::Connect { .. }
            | Action::Disconnect { .. }
            | Action::Keep { .. }
            | Action::Parent { .. }
            | Action::Children { .. }
            | Action::Wants { .. }
            | Action::Played { .. }
            | Action::Arrived { .. }
            | Action::Coded { .. } => None,
        };
        self.actions.drain(..).filter_map(sent).collect()
    }

    /// The `nth` other node that shares exactly this many digits with the key of a stripe.
    pub(super) fn sharing(&self, stripe: u8, digits: u32, nth: usize) -> Index {
        let mut fitting = (2..=200).filter(|&index| self.member.prefix(index, stripe) == digits);
        fitting.nth(nth).unwrap()
    }
}
