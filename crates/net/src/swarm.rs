//! The libp2p swarm: transports, protocols and their limits, and the gate that keeps it quiet.
//!
//! Decides how connections come about and when they count as dead. Which connections are wanted is
//! left to the driver and, behind it, to `banyan-core`.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::Stream as _;
use futures::task::AtomicWaker;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::upgrade::Version;
use libp2p::kad::store::MemoryStore;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Swarm, SwarmBuilder, identify, kad, noise, ping, tcp, yamux};

use crate::link::{self, Inbox};
use crate::{NodeConfig, directory};

/// What this node tells of itself to identify.
const PROTOCOL: &str = "/banyan/1";
const AGENT: &str = concat!("banyan/", env!("CARGO_PKG_VERSION"));
/// Enough for 40 Mbit/s over 100 ms; larger windows let chunks grow old inside the transport
/// (measured: ten times the memory per stalled child, and more CPU).
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Silence after which a QUIC connection is dead; three keep-alives must be lost in a row.
const QUIC_IDLE_TIMEOUT_MILLIS: u32 = 4_000;
const QUIC_KEEP_ALIVE: Duration = Duration::from_millis(1_300);
/// TCP notices no silent peer by itself: a ping that goes unanswered for this long ends it.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Connections with one peer: two, for when both dial at once. One would let each side refuse the
/// other's.
const MAX_CONNECTIONS_PER_PEER: u32 = 2;
/// Messages towards connection tasks that may wait in the swarm; the data plane sends none.
const NOTIFY_BUFFER: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");

/// All protocols of a connection. The limits come first: what they refuse, nobody else sees.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(crate) link: link::Behaviour,
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// Builds the swarm and the inbox of its data plane.
pub(crate) fn build(config: &NodeConfig) -> Result<(Swarm<Behaviour>, Inbox), String> {
    let (link, inbox) = link::Behaviour::new(config.link);
    let limits = ConnectionLimits::default()
        .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER))
        .with_max_established_incoming(Some(config.max_inbound))
        .with_max_established_outgoing(Some(config.max_outbound))
        .with_max_pending_incoming(Some(config.max_pending))
        .with_max_pending_outgoing(Some(config.max_pending));
    let mode = if config.is_dht_server { kad::Mode::Server } else { kad::Mode::Client };
    let swarm = SwarmBuilder::with_existing_identity(config.identity.keypair())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| error.to_string())?
        .with_quic_config(|mut quic| {
            quic.max_idle_timeout = QUIC_IDLE_TIMEOUT_MILLIS;
            quic.keep_alive_interval = QUIC_KEEP_ALIVE;
            quic.max_stream_data = STREAM_WINDOW;
            quic.max_connection_data = CONNECTION_WINDOW;
            quic
        })
        .with_dns()
        .map_err(|error| error.to_string())?
        .with_behaviour(|key| {
            let peer = key.public().to_peer_id();
            Behaviour {
                limits: connection_limits::Behaviour::new(limits),
                link,
                kad: directory::kademlia(peer, mode),
                identify: identify::Behaviour::new(
                    identify::Config::new(PROTOCOL.to_owned(), key.public())
                        .with_agent_version(AGENT.to_owned()),
                ),
                ping: ping::Behaviour::new(
                    ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
                ),
            }
        })
        .map_err(|error| error.to_string())?
        .with_swarm_config(|swarm| {
            swarm
                .with_idle_connection_timeout(config.idle_timeout)
                .with_smart_dial()
                .with_notify_handler_buffer_size(NOTIFY_BUFFER)
                // Saves a round trip on every substream. Who does not speak a protocol is known
                // from identify, and shows at the latest when the substream is reset.
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .build();
    Ok((swarm, inbox))
}

/// A swarm that is polled only when it has something to do.
///
/// The driver's task wakes for every batch of chunks, which never concern the swarm; polling all its
/// protocols each time would cost more than the chunks do.
pub(crate) struct GatedSwarm {
    swarm: Swarm<Behaviour>,
    gate: Arc<Gate>,
    waker: Waker,
}

struct Gate {
    is_woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl GatedSwarm {
    pub(crate) fn new(swarm: Swarm<Behaviour>) -> Self {
        let gate = Arc::new(Gate { is_woken: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&gate));
        Self { swarm, gate, waker }
    }

    /// The swarm, for calls that give it something to do.
    pub(crate) fn active(&mut self) -> &mut Swarm<Behaviour> {
        self.gate.is_woken.store(true, Ordering::Release);
        &mut self.swarm
    }

    /// The directory's protocol, for calls that give it something to do.
    pub(crate) fn kad(&mut self) -> &mut kad::Behaviour<MemoryStore> {
        &mut self.active().behaviour_mut().kad
    }

    /// The data plane. It wakes the swarm by itself in the rare case that concerns it.
    pub(crate) fn link(&mut self) -> &mut link::Behaviour {
        &mut self.swarm.behaviour_mut().link
    }

    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<SwarmEvent<BehaviourEvent>> {
        self.gate.task.register(cx.waker());
        if !self.gate.is_woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        match Pin::new(&mut self.swarm).poll_next(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Some(event)) => {
                self.gate.is_woken.store(true, Ordering::Release);
                Poll::Ready(event)
            }
            // A swarm never ends.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Deref for GatedSwarm {
    type Target = Swarm<Behaviour>;

    fn deref(&self) -> &Swarm<Behaviour> {
        &self.swarm
    }
}
