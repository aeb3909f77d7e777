//! Connections with other peers, and what waits for them.
//!
//! Decides when a connection is asked for, what is dropped when it does not come, and which JOINs
//! travel together. Dialling itself is left to the driver; what is said, to the rest of the core.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use banyan_wire::{Contact, Coordinate, Join, Message, PeerId};

use crate::usual::Usual;
use crate::{Instant, Output};

/// Messages that wait for one connection. At the limit the newest is dropped: its sender has a
/// timer for the answer.
const MAX_WAITING: usize = 32;
/// Connections asked for at the same time. At the limit further messages are dropped.
const MAX_CONNECTING: usize = 64;
/// Outputs looked through for a JOIN with which another can travel: those of one event are drained
/// together, and hardly ever more.
const MAX_MERGED_OVER: usize = 64;
/// The round trip of a connection on which none was measured yet: between continents.
const UNKNOWN_RTT: Duration = Duration::from_millis(200);

/// Round trips of which the least is taken for the distance to a peer.
const RTTS: usize = 4;

/// The least grace for an answer: what a peer that is not busy takes.
const LEAST_GRACE: Duration = Duration::from_millis(50);
/// Longest wait for an answer, beyond the round trip, however late answers usually are: who answers
/// late on purpose keeps us from missing others for so long.
pub(crate) const MAX_PATIENCE: Duration = Duration::from_secs(2);

/// One established connection.
#[derive(Debug, Default)]
struct Link {
    has_sent_hello: bool,
    is_kept: bool,
    queued_bytes: usize,
    /// When something was received last.
    heard_at: Instant,
    /// The round trips measured last, the newest first.
    rtts: [Option<Duration>; RTTS],
    /// Where the peer says it is.
    coordinate: Option<Coordinate>,
}

impl Link {
    /// The least of the last round trips: what is more was a queue, or a machine that was busy.
    fn least_rtt(&self) -> Option<Duration> {
        self.rtts.iter().flatten().min().copied()
    }
}

/// All connections of this peer in this broadcast, and the outputs that wait to be drained.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<PeerId, Link>,
    connecting: BTreeMap<PeerId, Vec<Message>>,
    outputs: VecDeque<Output>,
    control_messages_sent: u64,
    /// How much longer than the round trip answers take.
    lateness: Usual,
    /// Bytes that wait in all send queues.
    queued_bytes: usize,
}

impl Links {
    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        self.links.contains_key(peer)
    }

    /// Something came from `peer`.
    pub(crate) fn note_heard(&mut self, now: Instant, peer: &PeerId) {
        if let Some(link) = self.links.get_mut(peer) {
            link.heard_at = now;
        }
    }

    /// When something came from `peer` last; `None` where there is no connection.
    pub(crate) fn heard_at(&self, peer: &PeerId) -> Option<Instant> {
        self.links.get(peer).map(|link| link.heard_at)
    }

    pub(crate) fn set_rtt(&mut self, peer: &PeerId, rtt: Duration) {
        if let Some(link) = self.links.get_mut(peer) {
            link.rtts.rotate_right(1);
            link.rtts[0] = Some(rtt);
        }
    }

    /// The peer says where it is.
    pub(crate) fn set_coordinate(&mut self, peer: &PeerId, coordinate: Option<Coordinate>) {
        if let Some(link) = self.links.get_mut(peer) {
            link.coordinate = coordinate.or(link.coordinate);
        }
    }

    /// How far away the neighbours are, and where they say they are.
    pub(crate) fn distances(&self) -> impl Iterator<Item = (Option<Coordinate>, Duration)> {
        self.links.values().filter_map(|link| Some((link.coordinate, link.least_rtt()?)))
    }

    /// How far away `peer` is, if that was measured: the least of the last round trips.
    pub(crate) fn distance(&self, peer: &PeerId) -> Option<Duration> {
        self.links.get(peer).and_then(Link::least_rtt)
    }

    /// The round trip to `peer` as it was measured, if it was.
    pub(crate) fn measured_rtt(&self, peer: &PeerId) -> Option<Duration> {
        self.links.get(peer).and_then(|link| link.rtts[0])
    }

    /// How long an answer of `peer` takes on its way; a cautious guess where nothing was measured.
    pub(crate) fn rtt(&self, peer: &PeerId) -> Duration {
        self.measured_rtt(peer).unwrap_or(UNKNOWN_RTT)
    }

    /// An answer came so long after it could have.
    pub(crate) fn note_answer(&mut self, late: Duration) {
        self.lateness.note(late);
    }

    /// How long, beyond the round trip, an answer may take before it is missed: what is usual, on this
    /// machine and by these peers.
    pub(crate) fn grace(&self) -> Duration {
        self.lateness.bound().max(LEAST_GRACE)
    }

    /// The same for an answer without which a peer is taken for dead: `least`, or longer where answers
    /// are usually as late, and at most [`MAX_PATIENCE`].
    pub(crate) fn patience(&self, least: Duration) -> Duration {
        self.grace().max(least).min(MAX_PATIENCE.max(least))
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &PeerId> {
        self.links.keys()
    }

    /// Queues a control message for a connected peer; drops it for any other.
    pub(crate) fn send(&mut self, to: PeerId, message: Message) {
        if self.is_connected(&to) && !self.add_to_waiting(&to, &message) {
            self.control_messages_sent += 1;
            self.outputs.push_back(Output::Send { to, message, expires_at: None });
        }
    }

    /// Adds a JOIN to one that has yet to leave for the same peer, if they can travel together. Returns
    /// whether it did.
    fn add_to_waiting(&mut self, to: &PeerId, message: &Message) -> bool {
        let Message::Join(_) = message else { return false };
        self.outputs.iter_mut().rev().take(MAX_MERGED_OVER).any(|output| {
            let Output::Send { to: other, message: waiting, .. } = output else { return false };
            other == to && merge(waiting, message)
        })
    }

    /// Queues a data message for a connected peer.
    pub(crate) fn send_data(&mut self, to: PeerId, message: Message, expires_at: Instant) {
        if self.is_connected(&to) {
            self.outputs.push_back(Output::Send { to, message, expires_at: Some(expires_at) });
        }
    }

    /// Queues a message for a peer, asking for a connection first where there is none.
    pub(crate) fn reach(&mut self, contact: &Contact, message: Message) {
        if self.is_connected(&contact.peer) {
            self.send(contact.peer, message);
            return;
        }
        if let Some(waiting) = self.connecting.get_mut(&contact.peer) {
            let is_merged = waiting.iter_mut().any(|waiting| merge(waiting, &message));
            if !is_merged && waiting.len() < MAX_WAITING {
                waiting.push(message);
            }
            return;
        }
        self.connect_with(contact, vec![message]);
    }

    /// Asks for a connection, with nothing to say yet.
    pub(crate) fn connect(&mut self, contact: &Contact) {
        if !self.is_connected(&contact.peer) && !self.connecting.contains_key(&contact.peer) {
            self.connect_with(contact, Vec::new());
        }
    }

    fn connect_with(&mut self, contact: &Contact, waiting: Vec<Message>) {
        if self.connecting.len() < MAX_CONNECTING {
            self.connecting.insert(contact.peer, waiting);
            self.outputs.push_back(Output::Connect { contact: contact.clone() });
        }
    }

    /// A connection is up. Says hello if we asked for it; the messages that waited follow.
    pub(crate) fn on_connected(&mut self, peer: PeerId, hello: impl FnOnce() -> Message) {
        self.links.entry(peer).or_default();
        if let Some(waiting) = self.connecting.remove(&peer) {
            self.send_hello(peer, hello);
            for message in waiting {
                self.send(peer, message);
            }
        }
    }

    /// Says hello unless that was done on this connection.
    pub(crate) fn send_hello(&mut self, peer: PeerId, hello: impl FnOnce() -> Message) {
        if let Some(link) = self.links.get_mut(&peer)
            && !link.has_sent_hello
        {
            link.has_sent_hello = true;
            self.send(peer, hello());
        }
    }

    /// Forgets a connection that did not come about. Returns whether it was asked for here.
    pub(crate) fn on_connect_failed(&mut self, peer: &PeerId) -> bool {
        self.connecting.remove(peer).is_some()
    }

    /// Forgets a connection. Returns whether there was one.
    pub(crate) fn on_disconnected(&mut self, peer: &PeerId) -> bool {
        let link = self.links.remove(peer);
        let queued = link.as_ref().map_or(0, |link| link.queued_bytes);
        self.queued_bytes = self.queued_bytes.saturating_sub(queued);
        link.is_some()
    }

    pub(crate) fn set_queued(&mut self, peer: &PeerId, bytes: usize) {
        if let Some(link) = self.links.get_mut(peer) {
            self.queued_bytes = self.queued_bytes.saturating_sub(link.queued_bytes) + bytes;
            link.queued_bytes = bytes;
        }
    }

    /// How long an uplink of `upload` bits per second takes for all that waits in send queues.
    pub(crate) fn backlog(&self, upload: u64) -> Duration {
        let micros = self.queued_bytes as u128 * 8_000_000 / u128::from(upload.max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    pub(crate) fn queued_bytes(&self, peer: &PeerId) -> usize {
        self.links.get(peer).map_or(0, |link| link.queued_bytes)
    }

    /// Tells the driver which connections are in use, where that changed. `used` is sorted.
    pub(crate) fn update_keeps(&mut self, used: &[PeerId]) {
        for (peer, link) in &mut self.links {
            let keep = used.binary_search(peer).is_ok();
            if keep != link.is_kept {
                link.is_kept = keep;
                self.outputs.push_back(Output::Keep { peer: *peer, keep });
            }
        }
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Whether anything waits to be drained.
    pub(crate) fn has_outputs(&self) -> bool {
        !self.outputs.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn control_messages_sent(&self) -> u64 {
        self.control_messages_sent
    }
}

/// Adds the stripes of a JOIN to those of another, if nothing else tells them apart.
fn merge(waiting: &mut Message, message: &Message) -> bool {
    let (Message::Join(waiting), Message::Join(other)) = (waiting, message) else { return false };
    let are_alike = *other == Join { stripes: other.stripes, ..waiting.clone() };
    if are_alike {
        waiting.stripes.0 |= other.stripes.0;
    }
    are_alike
}

#[cfg(test)]
mod tests {
    use banyan_wire::{Roles, Start, StripeId};

    use super::*;

    fn contact(n: u8) -> Contact {
        Contact {
            peer: PeerId([n; 32]),
            roles: Roles::NONE,
            capacity: 0,
            addresses: Vec::new(),
            is_source: false,
            class: 0,
            coordinate: None,
        }
    }

    fn join(stripe: u8, nonce: u32) -> Message {
        let joiner = contact(1);
        Message::Join(Join {
            stripes: Roles::one(StripeId(stripe)),
            nonce,
            path: vec![joiner.peer],
            joiner,
            idle: Some(0),
            is_descending: false,
            lost: None,
            start: Start::Live,
            is_entitled: false,
        })
    }

    /// To whom, and for how many stripes, JOINs leave.
    fn joins(links: &mut Links) -> Vec<(PeerId, u32)> {
        let mut joins = Vec::new();
        while let Some(output) = links.pop() {
            if let Output::Send { to, message: Message::Join(join), .. } = output {
                joins.push((to, join.stripes.len()));
            }
        }
        joins
    }

    #[test]
    fn joins_to_one_peer_that_differ_in_nothing_but_the_stripe_are_one_message() {
        let mut links = Links::default();
        let (near, far) = (contact(2), contact(3));
        links.on_connected(near.peer, || Message::Detach { stripe: StripeId(0) });
        for stripe in 0..16 {
            let hop = if stripe % 2 == 0 { &near } else { &far };
            links.reach(hop, join(stripe, 1));
            links.send(near.peer, Message::Probe { stripe: StripeId(stripe) });
        }
        assert_eq!(joins(&mut links), [(near.peer, 8)]);
        links.on_connected(far.peer, || Message::Detach { stripe: StripeId(0) });
        assert_eq!(joins(&mut links), [(far.peer, 8)], "those that waited for a connection, too");
    }

    #[test]
    fn joins_of_different_attempts_or_that_have_left_are_not_merged() {
        let mut links = Links::default();
        let hop = contact(2);
        links.on_connected(hop.peer, || Message::Detach { stripe: StripeId(0) });
        links.reach(&hop, join(1, 1));
        links.reach(&hop, join(2, 2));
        assert_eq!(joins(&mut links), [(hop.peer, 1), (hop.peer, 1)]);
        links.reach(&hop, join(3, 2));
        assert_eq!(joins(&mut links), [(hop.peer, 1)]);
    }

    #[test]
    fn answers_are_waited_for_longer_where_they_are_usually_late_but_not_for_ever() {
        let least = Duration::from_millis(300);
        let mut links = Links::default();
        assert_eq!(links.patience(least), least);
        for _ in 0..8 {
            links.note_answer(Duration::from_millis(900));
        }
        assert!(links.patience(least) > Duration::from_millis(900), "{:?}", links.patience(least));
        for _ in 0..8 {
            links.note_answer(Duration::from_secs(9));
        }
        assert_eq!(links.patience(least), MAX_PATIENCE);
    }
}
