//! What an application sees of a node: start it, join broadcasts, hear what happens.
//!
//! Decides what a start needs and when it has succeeded: every listen address is bound before
//! [`Node::start`] returns. Everything after that is the driver's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use banyan_coding::Layer;
use banyan_core::{Config, ConfigError, Event, Role, Snapshot};
use banyan_wire::{BroadcastId, GenerationId, PeerId, SignedManifest};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::driver::{Command, Driver};
use crate::events::EventReceiver;
use crate::host::{Clock, Host, Tally};
use crate::link::{Lane, LinkConfig};
use crate::listen::{StartError, listen};
use crate::swarm::{self, GatedSwarm};
use crate::{Identity, address};

/// Commands that may wait for the driver; at the limit callers wait.
const COMMAND_CAPACITY: usize = 64;
/// Events about the node that may wait; at the limit further ones are dropped, as they repeat.
const EVENT_CAPACITY: usize = 16;
/// What a node is made from. The defaults are tuned for a viewer at home.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Who the node is.
    pub identity: Identity,
    /// Where it listens: `/ip4/0.0.0.0/udp/4001/quic-v1`, `/ip4/0.0.0.0/tcp/4001`. Port 0 lets the
    /// system choose; none at all makes a node that only dials. Default: QUIC on any IPv4
    /// interface, at a port the system chooses.
    pub listen: Vec<Multiaddr>,
    /// Further addresses at which it can be reached, such as a forwarded port. Default none.
    pub external: Vec<Multiaddr>,
    /// Whether listen addresses are told to others as ways to reach this node. Right on the same
    /// machine, in a local network and for public addresses; behind a NAT, name `external` ones
    /// instead. Default true.
    pub announce_listen_addresses: bool,
    /// Peers to start from, each ending in `/p2p/<peer id>`. Default none.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether the node stores records of the directory and answers queries. Sources and relays
    /// should; viewers should not, because then nobody but their neighbours connects to them,
    /// which keeps the connections of a large audience few. Default false.
    pub is_dht_server: bool,
    /// Limits of the queues towards each peer.
    pub link: LinkConfig,
    /// Most connections dialled by others; at the limit further ones are refused. Default 256.
    pub max_inbound: u32,
    /// Most connections dialled by this node; at the limit dials fail. Default 128.
    pub max_outbound: u32,
    /// Most connections in either direction that are still being set up. Default 64.
    pub max_pending: u32,
    /// After this long out of use a connection is closed. Default 15 s: the look-ups of a join ask
    /// the same peers several times.
    pub idle_timeout: Duration,
}

impl NodeConfig {
    /// The defaults, for this identity.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            listen: vec![any_quic()],
            external: Vec::new(),
            announce_listen_addresses: true,
            bootstrap: Vec::new(),
            is_dht_server: false,
            link: LinkConfig::default(),
            max_inbound: 256,
            max_outbound: 128,
            max_pending: 64,
            idle_timeout: Duration::from_secs(15),
        }
    }
}

/// Why a broadcast was not joined.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The node is a peer of it already.
    #[error("this node has joined the broadcast already")]
    AlreadyJoined,
    /// The configuration does not hold together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A peer to start from is not named in full.
    #[error("{0} is no address of a peer: it must end in /p2p/<peer id>")]
    Via(Multiaddr),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a generation was not published.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The peer refused it.
    #[error(transparent)]
    Refused(#[from] banyan_core::PublishError),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The node has stopped, or the broadcast has been left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the node has stopped")]
pub struct Stopped;

/// What happened to the node, apart from its broadcasts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// None of the peers to start from can be reached. The node goes on trying; it says so again
    /// only after one has answered in between.
    BootstrapUnreachable {
        /// The addresses that were dialled.
        tried: Vec<Multiaddr>,
        /// What went wrong last.
        error: String,
    },
}

/// Counters of a node since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Connections that came up, in either direction.
    pub connections_established_total: u64,
    /// Connections at this moment.
    pub connections_now: u64,
    /// Dials begun.
    pub dials_total: u64,
    /// Bytes of headers, chunks and their frames sent.
    pub media_bytes_sent: u64,
    /// Bytes of headers, chunks and their frames received.
    pub media_bytes_received: u64,
    /// Bytes of control messages sent; those of libp2p's own protocols are not counted.
    pub control_bytes_sent: u64,
    /// Bytes of control messages received.
    pub control_bytes_received: u64,
    /// Headers and chunks that expired unsent or did not fit into their queue.
    pub dropped_messages: u64,
    /// Messages received that only a newer version knows.
    pub unknown_messages: u64,
    /// Frames received that broke the wire contract.
    pub undecodable_messages: u64,
    /// Messages received for broadcasts this node is no peer of.
    pub stray_messages: u64,
}

/// A libp2p node. Made by [`start`](Self::start); lives in the task behind its [`NodeHandle`].
#[derive(Clone, Copy, Debug)]
pub struct Node;

/// A running node. Clones are handles to the same one; it stops, without farewell, when all of them
/// and all memberships are dropped.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    local: PeerId,
    commands: mpsc::Sender<Command>,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    events: Arc<Mutex<mpsc::Receiver<NodeEvent>>>,
    tally: Arc<Tally>,
}

/// What is to be joined.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// What this node is there for.
    pub role: Role,
    /// The limits and waits of its peer.
    pub config: Config,
    /// Peers to start from, each ending in `/p2p/<peer id>`; members of the broadcast or not.
    pub via: Vec<Multiaddr>,
    /// The seed of the peer's decisions; `None` for one from the system's randomness.
    pub seed: Option<[u8; 32]>,
}

/// This node's part in a broadcast. Dropping it leaves without farewell.
#[derive(Debug)]
pub struct Membership {
    broadcast: BroadcastId,
    commands: mpsc::Sender<Command>,
    events: EventReceiver,
}

impl Node {
    /// Binds all listen addresses and starts the node's task on the current tokio runtime.
    ///
    /// # Errors
    /// [`StartError`], in one line that says what to change.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(config: NodeConfig) -> Result<NodeHandle, StartError> {
        let local = config.identity.peer();
        let mut bootstrap = Vec::new();
        for full in &config.bootstrap {
            let peer =
                address::split_peer(full).ok_or_else(|| StartError::Bootstrap(full.clone()))?;
            bootstrap.push(peer);
        }
        let (mut swarm, inbox) = swarm::build(&config).map_err(StartError::Transport)?;
        let bound = listen(&mut swarm, &config.listen).await?;
        let (command_sender, commands) = mpsc::channel(COMMAND_CAPACITY);
        let (event_sender, events) = mpsc::channel(EVENT_CAPACITY);
        let (address_sender, addresses) = watch::channel(Vec::new());
        let host = Host::new(&config, GatedSwarm::new(swarm), Clock::start());
        let tally = Arc::clone(&host.tally);
        let mut driver = Driver::new(host, inbox, commands, event_sender, address_sender);
        driver.set_announced(&config);
        for address in bound {
            driver.on_listen_address(address);
        }
        driver.add_bootstrap(bootstrap);
        tokio::spawn(driver.run());
        Ok(NodeHandle {
            local,
            commands: command_sender,
            addresses,
            events: Arc::new(Mutex::new(events)),
            tally,
        })
    }
}

impl NodeHandle {
    /// The node's name.
    #[must_use]
    pub const fn local_peer(&self) -> PeerId {
        self.local
    }

    /// Where the node listens, each address ending in `/p2p/<peer id>`. Wildcards are expanded to
    /// the addresses of this machine; external addresses come first.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.addresses.borrow().clone()
    }

    /// Adds peers to start from, each ending in `/p2p/<peer id>`, and dials them.
    ///
    /// # Errors
    /// [`JoinError::Via`] names the first that is not one; none is added then.
    pub async fn add_bootstrap(&self, peers: &[Multiaddr]) -> Result<(), JoinError> {
        let peers = split_all(peers)?;
        self.commands.send(Command::AddBootstrap { peers }).await.map_err(|_| Stopped)?;
        Ok(())
    }

    /// Becomes a peer of a broadcast.
    ///
    /// # Errors
    /// [`JoinError`]. That nobody answers is no error: see [`next_event`](Self::next_event).
    pub async fn join(&self, request: JoinRequest) -> Result<Membership, JoinError> {
        let broadcast = request.broadcast;
        let via = split_all(&request.via)?;
        let (reply, answer) = oneshot::channel();
        let command = Command::Join { request: Box::new(request), via, reply };
        self.commands.send(command).await.map_err(|_| Stopped)?;
        let events = answer.await.map_err(|_| Stopped)??;
        Ok(Membership { broadcast, commands: self.commands.clone(), events })
    }

    /// Waits for the next event about the node; `None` once it has stopped. Clones of the handle
    /// share the events.
    pub async fn next_event(&self) -> Option<NodeEvent> {
        self.events.lock().await.recv().await
    }

    /// The counters at this moment.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        let tally = &self.tally;
        let link = &tally.link;
        NodeStats {
            connections_established_total: tally.connections_established.load(Ordering::Relaxed),
            connections_now: tally.connections_now.load(Ordering::Relaxed),
            dials_total: tally.dials.load(Ordering::Relaxed),
            media_bytes_sent: link.sent(Lane::Data),
            media_bytes_received: link.received(Lane::Data),
            control_bytes_sent: link.sent(Lane::Control),
            control_bytes_received: link.received(Lane::Control),
            dropped_messages: link.dropped(),
            unknown_messages: link.unknown(),
            undecodable_messages: link.undecodable(),
            stray_messages: tally.strays.load(Ordering::Relaxed),
        }
    }

    /// Leaves all broadcasts and stops. Takes at most a second or so.
    pub async fn shutdown(&self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Shutdown { reply }).await.is_ok() {
            // An error means that the task is gone, which is what was wanted.
            drop(answer.await);
        }
    }
}

impl Membership {
    /// The broadcast.
    #[must_use]
    pub const fn broadcast(&self) -> BroadcastId {
        self.broadcast
    }

    /// Waits for the next event; `None` once the broadcast was left or the node has stopped.
    ///
    /// An application that does not keep up loses events rather than hold up the node: generations
    /// beyond 32, oldest first, and beyond 1,024 of all others; see
    /// [`dropped_events`](Self::dropped_events).
    pub async fn next_event(&mut self) -> Option<Event> {
        self.events.next().await
    }

    /// Events lost because they were not read in time.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.events.dropped()
    }

    /// Source only: sends a generation out.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was sent then.
    pub async fn publish(
        &self,
        layers: Vec<Layer>,
        is_random_access: bool,
    ) -> Result<GenerationId, PublishError> {
        let tag = self.broadcast.tag();
        let (reply, answer) = oneshot::channel();
        self.command(Command::Publish { tag, layers, is_random_access, reply }).await?;
        answer.await.map_err(|_| Stopped)?
    }

    /// Source only: tells everyone, and the directory, a new version of the manifest.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn set_manifest(&self, manifest: SignedManifest) -> Result<(), Stopped> {
        let tag = self.broadcast.tag();
        self.command(Command::SetManifest { tag, manifest: Box::new(manifest) }).await
    }

    /// The state of this node's peer at this moment.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn snapshot(&self) -> Result<Snapshot, Stopped> {
        let tag = self.broadcast.tag();
        let (reply, answer) = oneshot::channel();
        self.command(Command::Snapshot { tag, reply }).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// Leaves: children are handed over, everybody is told. Returns once the last words are sent,
    /// after a second at most.
    pub async fn leave(self) {
        let tag = self.broadcast.tag();
        let (reply, answer) = oneshot::channel();
        if self.command(Command::Leave { tag, reply: Some(reply) }).await.is_ok() {
            drop(answer.await);
        }
    }

    async fn command(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // Only a hint: where the queue is full, the driver is awake and notices by itself.
        drop(self.commands.try_send(Command::Abandoned));
    }
}

fn any_quic() -> Multiaddr {
    Multiaddr::empty()
        .with(Protocol::Ip4(std::net::Ipv4Addr::UNSPECIFIED))
        .with(Protocol::Udp(0))
        .with(Protocol::QuicV1)
}

fn split_all(peers: &[Multiaddr]) -> Result<Vec<(PeerId, Multiaddr)>, JoinError> {
    peers
        .iter()
        .map(|full| address::split_peer(full).ok_or_else(|| JoinError::Via(full.clone())))
        .collect()
}

#[cfg(test)]
mod tests;
