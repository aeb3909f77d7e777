//! The data plane of all connections, as the swarm sees it.
//!
//! Decides which of several connections with a peer is used for sending (the oldest), and refuses
//! peers that have no Ed25519 key or are blocked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use banyan_wire::PeerId;
use banyan_wire::frame::Frame;
use futures::channel::mpsc;
use libp2p::Multiaddr;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, ToSwarm,
};
use thiserror::Error;
use tokio::time::Instant;

use super::handler::{Close, Handler};
use super::queue::{Pushed, SendQueue};
use super::{Counters, Inbox, Lane, LinkConfig};
use crate::identity;

/// Reports that may wait, besides one of each connection.
const INBOX_CAPACITY: usize = 64;
/// Most peers refused at a time; at the limit the one due first is let in again.
const MAX_BLOCKED: usize = 256;

/// The data plane.
#[derive(Debug)]
pub(crate) struct Behaviour {
    config: LinkConfig,
    inbox: mpsc::Sender<super::Report>,
    counters: Arc<Counters>,
    /// Connections in the order in which they came up.
    peers: HashMap<PeerId, Peer>,
    /// Connections whose establishment the swarm has not yet confirmed.
    pending: Vec<(ConnectionId, Arc<SendQueue>)>,
    blocked: BTreeMap<PeerId, Instant>,
    closing: VecDeque<(libp2p::PeerId, ConnectionId)>,
    /// Queues with something new in them, whose tasks are still to be told.
    corked: Vec<Arc<SendQueue>>,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Peer {
    connections: Vec<(ConnectionId, Arc<SendQueue>)>,
    is_kept: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It waits for its turn.
    Queued,
    /// It was dropped: the queue is full, or being emptied before the connection is closed.
    Dropped,
    /// There is no connection, or its queue of control messages overflowed and it is being closed.
    NotConnected,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, Error)]
enum Refused {
    #[error("the peer has no Ed25519 identity")]
    Identity,
    #[error("the peer broke the protocol a moment ago")]
    Blocked,
}

impl Behaviour {
    pub(crate) fn new(config: LinkConfig) -> (Self, Inbox) {
        let (sender, inbox) = mpsc::channel(INBOX_CAPACITY);
        let behaviour = Self {
            config,
            inbox: sender,
            counters: Arc::default(),
            peers: HashMap::new(),
            pending: Vec::new(),
            blocked: BTreeMap::new(),
            closing: VecDeque::new(),
            corked: Vec::new(),
            waker: None,
        };
        (behaviour, inbox)
    }

    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Queues a frame towards `peer`. It leaves with the next [`flush`](Self::flush), so that a
    /// batch of chunks wakes each connection once.
    pub(crate) fn send(
        &mut self,
        peer: &PeerId,
        lane: Lane,
        frame: Frame,
        expires_at: Option<Instant>,
    ) -> Sent {
        let Some((id, queue)) = self.peers.get(peer).and_then(|peer| peer.connections.first())
        else {
            return Sent::NotConnected;
        };
        let pushed = queue.push(lane, frame, expires_at, &self.config);
        if queue.cork() {
            self.corked.push(Arc::clone(queue));
        }
        match pushed {
            Pushed::Queued => Sent::Queued,
            Pushed::Dropped => Sent::Dropped,
            Pushed::Overflow => {
                let id = *id;
                tracing::debug!(peer = %format_args!("{peer:.8}"), "control queue overflowed");
                self.close_now(peer, id);
                Sent::NotConnected
            }
        }
    }

    /// Lets everything queued since the last time leave.
    pub(crate) fn flush(&mut self) {
        for queue in self.corked.drain(..) {
            queue.uncork();
        }
    }

    /// Whether the connections with `peer` stay open while nothing moves.
    pub(crate) fn set_kept(&mut self, peer: &PeerId, is_kept: bool) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.is_kept = is_kept;
            for (_, queue) in &peer.connections {
                queue.set_kept(is_kept);
            }
        }
    }

    /// Closes the connections with `peer` once what is queued has been written.
    pub(crate) fn close(&self, peer: &PeerId) {
        if let Some(peer) = self.peers.get(peer) {
            for (_, queue) in &peer.connections {
                queue.close();
            }
        }
    }

    /// Refuses new connections with `peer` for a while.
    pub(crate) fn block(&mut self, peer: PeerId, duration: Duration) {
        let now = Instant::now();
        self.blocked.retain(|_, until| now < *until);
        if self.blocked.len() >= MAX_BLOCKED
            && let Some(first) = self.blocked.iter().min_by_key(|(_, until)| **until)
        {
            let first = *first.0;
            self.blocked.remove(&first);
        }
        self.blocked.insert(peer, now + duration);
    }

    /// Whether there is a connection that takes messages.
    pub(crate) fn is_open(&self, peer: &PeerId) -> bool {
        self.peers
            .get(peer)
            .and_then(|peer| peer.connections.first())
            .is_some_and(|(_, queue)| !queue.level().is_closing)
    }

    fn is_blocked(&self, peer: &PeerId) -> bool {
        self.blocked.get(peer).is_some_and(|until| Instant::now() < *until)
    }

    fn handler(
        &mut self,
        id: ConnectionId,
        peer: libp2p::PeerId,
    ) -> Result<Handler, ConnectionDenied> {
        let peer =
            identity::from_libp2p(&peer).ok_or_else(|| ConnectionDenied::new(Refused::Identity))?;
        if self.is_blocked(&peer) {
            return Err(ConnectionDenied::new(Refused::Blocked));
        }
        let is_kept = self.peers.get(&peer).is_some_and(|peer| peer.is_kept);
        let queue = Arc::new(SendQueue::new(is_kept));
        self.pending.push((id, Arc::clone(&queue)));
        Ok(Handler::new(peer, queue, self.inbox.clone(), Arc::clone(&self.counters)))
    }

    fn close_now(&mut self, peer: &PeerId, id: ConnectionId) {
        let Some(peer) = identity::to_libp2p(peer) else { return };
        if !self.closing.contains(&(peer, id)) {
            self.closing.push_back((peer, id));
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn take_pending(&mut self, id: ConnectionId) -> Option<Arc<SendQueue>> {
        let index = self.pending.iter().position(|(pending, _)| *pending == id)?;
        Some(self.pending.swap_remove(index).1)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(id, peer)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<libp2p::PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let peer = peer.as_ref().and_then(identity::from_libp2p);
        if peer.is_some_and(|peer| self.is_blocked(&peer)) {
            return Err(ConnectionDenied::new(Refused::Blocked));
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(id, peer)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let queue = self.take_pending(event.connection_id);
                let peer = identity::from_libp2p(&event.peer_id);
                if let (Some(queue), Some(peer)) = (queue, peer) {
                    let peer = self.peers.entry(peer).or_default();
                    peer.connections.push((event.connection_id, queue));
                }
            }
            FromSwarm::ConnectionClosed(event) => {
                let Some(name) = identity::from_libp2p(&event.peer_id) else { return };
                if let Some(peer) = self.peers.get_mut(&name) {
                    peer.connections.retain(|(id, _)| *id != event.connection_id);
                    if peer.connections.is_empty() {
                        self.peers.remove(&name);
                    }
                }
            }
            FromSwarm::DialFailure(event) => drop(self.take_pending(event.connection_id)),
            FromSwarm::ListenFailure(event) => drop(self.take_pending(event.connection_id)),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: libp2p::PeerId,
        connection: ConnectionId,
        close: Close,
    ) {
        tracing::debug!(%peer, ?close, "closing a connection");
        self.closing.push_back((peer, connection));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        if let Some((peer_id, connection)) = self.closing.pop_front() {
            let connection = CloseConnection::One(connection);
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
