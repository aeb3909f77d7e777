//! What connections do: handshakes, messages in order, losses, idle and silent ends, partitions.
//!
//! Modelled on QUIC: a handshake of one round trip; messages of one class (control, data) between
//! two nodes arrive in the order they were sent; a lost one comes a round trip and 25 ms later and
//! holds up those behind it; a peer that dies without a word is missed after the idle time-out.

use std::time::Duration;

use super::World;
use super::connections::{Connection, Connections, Link, State};
use super::links::Sent;
use super::machines::Work;
use crate::node::{Action, Happening, Index, Node};

/// What a loss costs besides a round trip: the peer's delay of acknowledgements in RFC 9002.
const RECOVERY: u64 = 25_000;
/// Steps of a send queue that are told to the node.
const QUEUE_STEP: u32 = 64 * 1024;

/// What waits in the queue.
#[derive(Debug)]
pub(super) enum Event<M> {
    /// A message is at the receiver's access link, or past it.
    Arrive(Delivery<M>),
    /// A dial reaches its target.
    Dial { from: Index, to: Index, dialled_at: u64 },
    /// A dial is given up.
    DialFails { from: Index, to: Index },
    /// The dialler's handshake is done.
    Established { link: Link },
    /// One end is told of a connection it has.
    Connected { link: Link, end: usize },
    /// Both ends have measured the round trip.
    RoundTrip { link: Link },
    /// One end hears that the connection is gone.
    Closed { link: Link, end: usize },
    /// Both ends miss each other.
    Broken { link: Link },
    /// A send queue is to be reported.
    Report { link: Link, end: usize },
    /// A send queue that was reported may be empty now.
    Drained { link: Link, end: usize },
    /// Whether anybody has used the connection.
    Idle { link: Link },
    /// A core has had time for what is due at a node.
    Due { node: Index, happening: Happening<M> },
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Delivery<M> {
    link: Link,
    /// The sender's end.
    end: usize,
    departs: u64,
    /// Bytes for the downlink; 0 once past it.
    bytes: u32,
    is_data: bool,
    is_request: bool,
    message: M,
}

/// Some nodes cut off from the others.
#[derive(Debug)]
pub(super) struct Partition {
    /// Whether each node is on the far side; later ones are not.
    far: Vec<bool>,
    heals_at: u64,
}

impl Partition {
    fn divides(&self, a: Index, b: Index) -> bool {
        let side = |node: Index| self.far.get(node as usize).copied().unwrap_or(false);
        side(a) != side(b)
    }
}

impl<N: Node> World<N> {
    pub(super) fn happen(&mut self, event: Event<N::Message>) {
        match event {
            Event::Arrive(delivery) => self.arrive(delivery),
            Event::Dial { from, to, dialled_at } => self.answer(from, to, dialled_at),
            Event::DialFails { from, to } => {
                self.hand(from, Happening::ConnectFailed { peer: to }, Work::Little);
            }
            Event::Established { link } => self.up(link, 0),
            Event::Connected { link, end } => {
                if let Some(connection) = self.connections.get(link)
                    && connection.ends[end].state == State::Up
                {
                    let (node, peer) = nodes(connection, end);
                    self.hand(node, Happening::Connected { peer }, Work::Little);
                }
            }
            Event::RoundTrip { link } => self.tell_round_trip(link),
            Event::Closed { link, end } => self.end(link, end),
            Event::Broken { link } => {
                self.end(link, 0);
                self.end(link, 1);
            }
            Event::Report { link, end } => {
                if let Some(connection) = self.connections.get(link) {
                    connection.ends[end].is_reporting = false;
                    self.report(link, end);
                }
            }
            Event::Drained { link, end } => {
                if let Some(connection) = self.connections.get(link) {
                    connection.ends[end].is_draining = false;
                    self.report(link, end);
                }
            }
            Event::Idle { link } => self.check_idle(link),
            Event::Due { node, happening } => self.tell(node, happening),
        }
    }

    // ---- Handshakes -------------------------------------------------------------------------

    pub(super) fn dial(&mut self, from: Index, to: Index) {
        if let Some((link, end)) = self.connections.find(from, to) {
            let state = self.connections.get(link).map(|c| c.ends[end].state);
            if state == Some(State::Up) {
                self.queue.push(self.now, Event::Connected { link, end });
                return;
            }
        }
        let exists = from != to && (to as usize) < self.nodes.len();
        if !exists || !self.nat.can_dial(from, to) || self.is_divided(from, to) {
            self.queue.push(self.now + self.dial_timeout, Event::DialFails { from, to });
            return;
        }
        let at = self.now + self.latency.one_way(from, to) + self.latency.jitter();
        self.queue.push(at, Event::Dial { from, to, dialled_at: self.now });
    }

    /// A dial has reached `to`.
    fn answer(&mut self, from: Index, to: Index, dialled_at: u64) {
        let is_there = |node: Index| self.nodes[node as usize].is_some();
        if !is_there(from) {
            return;
        }
        if !is_there(to) || self.is_divided(from, to) {
            let at = (dialled_at + self.dial_timeout).max(self.now);
            self.queue.push(at, Event::DialFails { from, to });
            return;
        }
        if let Some((link, end)) = self.connections.find(to, from) {
            let is_open = |c: &Connection| c.ends.iter().all(|end| end.state != State::Gone);
            if self.connections.get(link).is_some_and(|c| is_open(c)) {
                // Both dialled; the first to arrive won.
                return;
            }
            // `from` has closed it and dialled anew: `to` hears of both, in order.
            self.end(link, end);
        }
        if let Some((link, end)) = self.connections.find(from, to) {
            self.end(link, end);
        }
        let one_way = self.latency.one_way(from, to);
        let link = self.connections.open(from, to, one_way, self.now);
        // The dialler waits for the other's part of the handshake.
        let answered = self.machines.take(self.now, to, Work::Handshake);
        let established = answered + one_way + self.latency.jitter();
        if let Some(connection) = self.connections.get(link) {
            connection.is_watched = true;
            connection.answered_after = answered - self.now;
            // Nothing reaches the dialler before its handshake is done.
            connection.ends[1].arrives_at = [established; 2];
        }
        self.queue.push(established, Event::Established { link });
        self.queue.push(established + 2 * one_way, Event::RoundTrip { link });
        self.queue.push_in_order(self.now + self.idle_timeout, Event::Idle { link });
        self.up(link, 1);
    }

    fn up(&mut self, link: Link, end: usize) {
        let Some(connection) = self.connections.get(link) else {
            return;
        };
        if connection.ends[end].state != State::Pending {
            return;
        }
        connection.ends[end].state = State::Up;
        let (node, peer) = nodes(connection, end);
        let age = self.now - self.forest.started_at(node);
        self.tally.connected(node, age, end == 0);
        // The other end has done its part before it answered.
        let work = if end == 0 { Work::Handshake } else { Work::Little };
        self.hand(node, Happening::Connected { peer }, work);
    }

    fn tell_round_trip(&mut self, link: Link) {
        for end in [0, 1] {
            let Some(connection) = self.connections.get(link) else {
                return;
            };
            if connection.ends[end].state == State::Up {
                let (_, peer) = nodes(connection, end);
                let node = connection.ends[end].node;
                let rtt = 2 * connection.one_way + connection.answered_after;
                let rtt = Duration::from_micros(rtt);
                self.hand(node, Happening::RoundTrip { peer, rtt }, Work::Little);
            }
        }
    }

    // ---- Ends -------------------------------------------------------------------------------

    /// A node closes a connection, after what is queued.
    pub(super) fn disconnect(&mut self, node: Index, peer: Index) {
        let Some((link, end)) = self.connections.find(node, peer) else {
            return;
        };
        let Some(connection) = self.connections.get(link) else {
            return;
        };
        let [control, data] = connection.ends[end].arrives_at;
        let at = control.max(data).max(self.now + connection.one_way);
        self.connections.end_gone(link, end);
        self.queue.push(at, Event::Closed { link, end: 1 - end });
    }

    /// A node has died: its peers will miss it.
    pub(super) fn cut_off(&mut self, node: Index) {
        let of: Vec<(Link, usize)> =
            self.connections.of(node).map(|(_, link, end)| (link, end)).collect();
        for (link, end) in of {
            self.connections.end_gone(link, end);
            self.queue.push(self.now + self.detection, Event::Closed { link, end: 1 - end });
        }
    }

    /// The end of a connection has come for one of its nodes.
    fn end(&mut self, link: Link, end: usize) {
        let Some(connection) = self.connections.get(link) else {
            return;
        };
        let (node, peer) = nodes(connection, end);
        if self.connections.end_gone(link, end) {
            self.hand(node, Happening::Disconnected { peer }, Work::Little);
        }
    }

    pub(super) fn keep(&mut self, node: Index, peer: Index, keep: bool) {
        let Some((link, end)) = self.connections.find(node, peer) else {
            return;
        };
        let now = self.now;
        let Some(connection) = self.connections.get(link) else {
            return;
        };
        connection.ends[end].keep = keep;
        if !keep && !connection.ends[1 - end].keep && !connection.is_watched {
            connection.is_watched = true;
            self.queue.push_in_order(now + self.idle_timeout, Event::Idle { link });
        }
    }

    fn check_idle(&mut self, link: Link) {
        let (now, timeout) = (self.now, self.idle_timeout);
        let Some(connection) = self.connections.get(link) else {
            return;
        };
        connection.is_watched = false;
        if connection.ends.iter().any(|end| end.keep) {
            return;
        }
        let due = connection.used_at + timeout;
        if due > now {
            connection.is_watched = true;
            self.queue.push(due, Event::Idle { link });
            return;
        }
        self.end(link, 0);
        self.end(link, 1);
    }

    // ---- Partitions -------------------------------------------------------------------------

    /// Cuts `far` off from all others for `span`.
    pub fn divide(&mut self, far: &[Index], span: u64) {
        let mut sides = vec![false; self.nodes.len()];
        for node in far {
            sides[*node as usize] = true;
        }
        let partition = Partition { far: sides, heals_at: self.now + span };
        if span > self.detection {
            for node in far {
                let divided = |(peer, _, _): &(Index, Link, usize)| partition.divides(*node, *peer);
                for (_, link, _) in self.connections.of(*node).filter(divided) {
                    self.queue.push(self.now + self.detection, Event::Broken { link });
                }
            }
        }
        self.partition = Some(partition);
    }

    fn is_divided(&self, a: Index, b: Index) -> bool {
        self.partition.as_ref().is_some_and(|p| p.heals_at > self.now && p.divides(a, b))
    }

    // ---- Messages ---------------------------------------------------------------------------

    pub(super) fn send(&mut self, from: Index, action: Action<N::Message>) {
        let Action::Send { to, message, bytes, kind, is_request, expires_at } = action else {
            return;
        };
        let found = self.connections.find(from, to);
        let Some((link, end)) = found.filter(|(link, end)| {
            self.connections.get(*link).is_some_and(|c| c.ends[*end].state == State::Up)
        }) else {
            self.tally.undelivered += 1;
            return;
        };
        let is_data = expires_at.is_some();
        let charged = self.links.charged(bytes);
        let departs = match expires_at {
            None => self.links.send_control(self.now, from, charged),
            Some(expires_at) => {
                let packed = Connections::pack(link, end);
                let expires_at = expires_at.as_micros();
                match self.links.send_data(self.now, from, packed, charged, expires_at) {
                    Sent::At(departs) => departs,
                    Sent::Expired => {
                        self.tally.expired += 1;
                        self.drop_data(link, end);
                        return;
                    }
                    Sent::Overflow => {
                        self.tally.overflowed += 1;
                        self.drop_data(link, end);
                        return;
                    }
                }
            }
        };
        self.tally.sent(kind, is_data, bytes, charged, from == crate::forest::SOURCE);
        let extra = self.links.extra(from, to, charged);
        let at = self.arrival(link, end, departs + extra, is_data);
        if is_data && departs > self.now {
            self.enqueue(from, link, end, charged);
        }
        let bytes = charged;
        let delivery = Delivery { link, end, departs, bytes, is_data, is_request, message };
        self.queue.push(at, Event::Arrive(delivery));
    }

    /// When a message that leaves at `departs` reaches the other end.
    fn arrival(&mut self, link: Link, end: usize, departs: u64, is_data: bool) -> u64 {
        let jitter = self.latency.jitter();
        let is_lost = self.losses.chance(self.loss);
        let now = self.now;
        let Some(connection) = self.connections.get(link) else {
            return departs;
        };
        connection.used_at = connection.used_at.max(departs);
        let mut at = departs + connection.one_way + jitter;
        if is_lost {
            at += 2 * connection.one_way + RECOVERY;
            self.tally.recovered += 1;
        }
        let (from, to) = nodes(connection, end);
        if let Some(partition) = &self.partition
            && partition.heals_at > now
            && partition.divides(from, to)
        {
            // Sent again and again until it gets through, if the connection lasts that long.
            at = at.max(partition.heals_at + connection.one_way + RECOVERY);
        }
        let latest = &mut connection.ends[end].arrives_at[usize::from(is_data)];
        *latest = at.max(*latest);
        *latest
    }

    fn arrive(&mut self, mut delivery: Delivery<N::Message>) {
        let Delivery { link, end, departs, bytes, is_data, is_request, .. } = delivery;
        let Some(connection) = self.connections.get(link) else {
            self.tally.undelivered += 1;
            return;
        };
        let (from, to) = nodes(connection, end);
        let is_up = connection.ends[1 - end].state == State::Up;
        if !is_up || self.died_at[from as usize] < departs {
            self.tally.undelivered += 1;
            return;
        }
        if bytes > 0
            && let Some(at) = self.links.enter(self.now, to, bytes, is_data)
        {
            delivery.bytes = 0;
            let latest = &mut connection.ends[end].arrives_at[1];
            *latest = at.max(*latest);
            self.queue.push(at, Event::Arrive(delivery));
            return;
        }
        if is_request {
            self.tally.requested(to);
        }
        let work = if is_data { Work::Chunk } else { Work::Message };
        self.hand(to, Happening::Received { from, message: delivery.message }, work);
    }

    // ---- Send queues ------------------------------------------------------------------------

    /// Data waits at `from`: brings what waits at its link up to date, and reports a crossing.
    fn enqueue(&mut self, from: Index, link: Link, end: usize, bytes: u32) {
        self.settle(from);
        let Some(connection) = self.connections.get(link) else {
            return;
        };
        let end_of = &mut connection.ends[end];
        end_of.queued += bytes;
        if end_of.queued / QUEUE_STEP > end_of.reported {
            self.report_soon(link, end);
        }
    }

    fn drop_data(&mut self, link: Link, end: usize) {
        if let Some(connection) = self.connections.get(link) {
            connection.ends[end].expired += 1;
            self.report_soon(link, end);
        }
    }

    fn report_soon(&mut self, link: Link, end: usize) {
        let now = self.now;
        if let Some(connection) = self.connections.get(link)
            && !std::mem::replace(&mut connection.ends[end].is_reporting, true)
        {
            self.queue.push(now, Event::Report { link, end });
        }
    }

    fn report(&mut self, link: Link, end: usize) {
        let Some(connection) = self.connections.get(link) else {
            return;
        };
        let (node, peer) = nodes(connection, end);
        self.settle(node);
        let Some(connection) = self.connections.get(link) else {
            return;
        };
        let end_of = &mut connection.ends[end];
        let (queued, expired) = (end_of.queued, std::mem::take(&mut end_of.expired));
        let step = queued / QUEUE_STEP;
        let is_news = step > end_of.reported || expired > 0 || (queued == 0 && end_of.reported > 0);
        if is_news {
            end_of.reported = step;
        }
        if queued > 0 && end_of.reported > 0 && !std::mem::replace(&mut end_of.is_draining, true) {
            // It is empty when the last of it has left; more may have come by then.
            let at = self.links.drained_at(node).max(self.now + 1);
            self.queue.push(at, Event::Drained { link, end });
        }
        if is_news {
            let queued_bytes = queued as usize;
            self.hand(node, Happening::SendQueue { peer, queued_bytes, expired }, Work::Little);
        }
    }

    /// Takes what has left `node` off its send queues.
    fn settle(&mut self, node: Index) {
        while let Some((packed, left)) = self.links.next_departed(self.now, node) {
            if let Some((connection, end)) = self.connections.unpack(packed) {
                let queued = &mut connection.ends[end].queued;
                *queued = queued.saturating_sub(left);
            }
        }
    }
}

const fn nodes(connection: &Connection, end: usize) -> (Index, Index) {
    (connection.ends[end].node, connection.ends[1 - end].node)
}
