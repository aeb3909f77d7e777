//! The peers a node starts from, and the attempts to reach one of them.
//!
//! Decides when they are dialled (at once, and again with doubling waits while none answers) and
//! when all of them count as out of reach. What to do then is left to the application.

use std::collections::BTreeMap;
use std::time::Duration;

use banyan_wire::PeerId;
use libp2p::Multiaddr;
use tokio::time::Instant;

use crate::address;

/// Most bootstrap peers; more are ignored.
const MAX_PEERS: usize = 64;
/// Most addresses of one of them.
const MAX_ADDRESSES: usize = 8;

/// Doubling waits: 1, 2, 4 … 30 s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(30);

    pub(crate) fn after(&mut self, now: Instant) -> Instant {
        let due = now + self.next;
        self.next = (self.next * 2).min(Self::MAX);
        due
    }
}

/// The peers to start from.
#[derive(Debug, Default)]
pub(crate) struct Bootstrap {
    peers: BTreeMap<PeerId, Entry>,
    backoff: Backoff,
    due: Option<Instant>,
    is_reported: bool,
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<Multiaddr>,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Dialling,
    Connected,
    Failed,
}

/// None of the peers to start from could be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreachable {
    pub(crate) tried: Vec<Multiaddr>,
    pub(crate) error: String,
}

impl Bootstrap {
    /// Adds a peer, to be dialled at once.
    pub(crate) fn add(&mut self, now: Instant, peer: PeerId, address: Multiaddr) {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            return;
        }
        let entry = self
            .peers
            .entry(peer)
            .or_insert_with(|| Entry { addresses: Vec::new(), state: State::Idle });
        if entry.addresses.len() < MAX_ADDRESSES && !entry.addresses.contains(&address) {
            entry.addresses.push(address);
            if matches!(entry.state, State::Failed) {
                entry.state = State::Idle;
            }
        }
        self.due = Some(now);
        self.is_reported = false;
    }

    /// When [`take_due`](Self::take_due) next has something.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The peers to dial now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = None;
        let idle = self
            .peers
            .iter_mut()
            .filter(|(_, entry)| matches!(entry.state, State::Idle | State::Failed));
        idle.map(|(peer, entry)| {
            entry.state = State::Dialling;
            (*peer, entry.addresses.clone())
        })
        .collect()
    }

    /// Whether `peer` is one of them.
    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Takes note of a connection; returns whether it is with one of them.
    pub(crate) fn on_connected(&mut self, peer: &PeerId) -> bool {
        let Some(entry) = self.peers.get_mut(peer) else { return false };
        entry.state = State::Connected;
        self.backoff = Backoff::default();
        self.due = None;
        self.is_reported = false;
        true
    }

    /// Takes note of the end of one; returns whether it was with one of them.
    pub(crate) fn on_disconnected(&mut self, peer: &PeerId) -> bool {
        let Some(entry) = self.peers.get_mut(peer) else { return false };
        entry.state = State::Idle;
        true
    }

    /// Takes note of a failed dial; says so the first time that none is left.
    pub(crate) fn on_failed(
        &mut self,
        now: Instant,
        peer: &PeerId,
        error: String,
    ) -> Option<Unreachable> {
        let entry = self.peers.get_mut(peer)?;
        if !matches!(entry.state, State::Dialling) {
            return None;
        }
        entry.state = State::Failed;
        if !self.peers.values().all(|entry| matches!(entry.state, State::Failed)) {
            return None;
        }
        self.due = Some(self.backoff.after(now));
        let is_news = !std::mem::replace(&mut self.is_reported, true);
        is_news.then(|| Unreachable {
            tried: self
                .peers
                .iter()
                .flat_map(|(peer, entry)| {
                    entry.addresses.iter().map(|a| address::with_peer(a.clone(), peer))
                })
                .collect(),
            error,
        })
    }

    /// Dials again, for a node that has lost everybody.
    pub(crate) fn retry(&mut self, now: Instant) {
        let is_busy = self
            .peers
            .values()
            .any(|entry| matches!(entry.state, State::Dialling | State::Connected));
        if !is_busy && self.due.is_none() && !self.peers.is_empty() {
            self.due = Some(self.backoff.after(now));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn unreachable_is_said_once_and_dials_go_on() {
        let [alice, bob] = [1, 2].map(|seed| crate::Identity::from_seed([seed; 32]).peer());
        let now = Instant::now();
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let mut bootstrap = Bootstrap::default();
        bootstrap.add(now, alice, address.clone());
        bootstrap.add(now, bob, address);
        assert_eq!(bootstrap.take_due(now).len(), 2);
        assert_eq!(bootstrap.on_failed(now, &alice, "refused".into()), None);
        let unreachable = bootstrap.on_failed(now, &bob, "timed out".into()).unwrap();
        assert_eq!(unreachable.tried.len(), 2);
        assert_eq!(unreachable.error, "timed out");

        let due = bootstrap.poll_timeout().unwrap();
        assert!(bootstrap.take_due(now).is_empty());
        assert_eq!(bootstrap.take_due(due).len(), 2);
        assert_eq!(bootstrap.on_failed(due, &alice, "refused".into()), None);
        assert_eq!(bootstrap.on_failed(due, &bob, "refused".into()), None);
        assert!(bootstrap.poll_timeout().unwrap() - due > due - now);

        bootstrap.on_connected(&alice);
        assert_eq!(bootstrap.poll_timeout(), None);
    }
}
