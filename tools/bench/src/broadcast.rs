//! A broadcast's peers as this process runs them: a source, viewers, and what they count.
//!
//! Decides identities, addresses and upload budgets, all of them fixed, so that a bench sets up the
//! same thing every time. Everything listens on loopback, over QUIC.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use banyan_core::{Config, Event, Role, Snapshot};
use banyan_net::{
    Identity, JoinRequest, Membership, Multiaddr, Node, NodeConfig, NodeHandle, NodeStats,
};
use banyan_wire::{BroadcastKey, Contact, GenerationId, Manifest, Overlay, Roles, SignedManifest};
use libp2p::multiaddr::Protocol;
use tokio::sync::{mpsc, oneshot};

use crate::payload::{GENERATION, Noise, Plan};
use crate::units::Bitrate;

/// The source's identity; viewers count on from here.
pub(crate) const SOURCE: u32 = 0;
/// Snapshots that may be asked for at the same time.
const REQUESTS: usize = 4;

/// What is broadcast, and how.
#[derive(Clone, Debug)]
pub(crate) struct Programme {
    key: BroadcastKey,
    overlay: Overlay,
    plan: Plan,
}

/// The source and its node.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) node: NodeHandle,
    membership: Membership,
    plan: Plan,
    noise: Noise,
}

/// Any other peer and its node.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    pub(crate) node: NodeHandle,
    requests: mpsc::Sender<oneshot::Sender<Snapshot>>,
    watched: Arc<Mutex<Watched>>,
}

/// What a peer went through.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// When it asked to join.
    pub(crate) began: Instant,
    /// From there to the manifest.
    pub(crate) manifest: Option<Duration>,
    /// To a parent on every stripe.
    pub(crate) joined: Option<Duration>,
    /// To the first generation that could be played.
    pub(crate) playing: Option<Duration>,
    /// Generations at their playout deadline.
    pub(crate) playouts: Vec<Played>,
}

/// A generation at its playout deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Played {
    pub(crate) generation: GenerationId,
    /// Programme bytes of the layers there were.
    pub(crate) bytes: u64,
    pub(crate) is_full: bool,
}

impl Programme {
    pub(crate) fn new(overlay: Overlay, plan: Plan) -> Self {
        Self { key: BroadcastKey::from_seed(&[7; 32]), overlay, plan }
    }

    /// Starts the source and gives it the manifest.
    pub(crate) async fn start_source(&self, upload: Bitrate) -> Result<Source> {
        let mut config = node_config(SOURCE);
        config.is_dht_server = true;
        let node = Node::start(config).await.context("starting the source")?;
        let membership =
            node.join(self.request(Role::Source(self.key.clone()), SOURCE, upload, &[])).await?;
        membership.set_manifest(self.manifest(&node)?).await?;
        Ok(Source { node, membership, plan: self.plan.clone(), noise: Noise::new() })
    }

    /// Starts a peer that knows nothing but `via`.
    pub(crate) async fn start_viewer(
        &self,
        index: u32,
        role: Role,
        upload: Bitrate,
        via: &[Multiaddr],
    ) -> Result<Viewer> {
        let node = Node::start(node_config(index)).await.context("starting a viewer")?;
        let began = Instant::now();
        let membership = node.join(self.request(role, index, upload, via)).await?;
        let watched = Arc::new(Mutex::new(Watched::new(began)));
        let (requests, asked) = mpsc::channel(REQUESTS);
        tokio::spawn(watch(membership, asked, Arc::clone(&watched)));
        Ok(Viewer { node, requests, watched })
    }

    fn request(&self, role: Role, index: u32, upload: Bitrate, via: &[Multiaddr]) -> JoinRequest {
        JoinRequest {
            broadcast: self.key.broadcast(),
            role,
            config: Config { upload: upload.0, ..Config::default() },
            via: via.to_vec(),
            seed: Some(seed_of(index)),
        }
    }

    fn manifest(&self, node: &NodeHandle) -> Result<SignedManifest> {
        let addresses = node.listen_addresses().into_iter().map(|mut address| {
            if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
                address.pop();
            }
            address.to_vec().into()
        });
        let source = Contact {
            peer: node.local_peer(),
            roles: Roles::NONE,
            capacity: 0,
            addresses: addresses.collect(),
            is_source: true,
            class: 0,
            coordinate: None,
        };
        let manifest = Manifest {
            broadcast: self.key.broadcast(),
            sequence: 1,
            title: "bench".to_owned(),
            stripes: self.plan.stripes(),
            overlay: self.overlay,
            stripe_rate: self.plan.stripe_rate().0,
            generation_millis: u32::try_from(GENERATION.as_millis())?,
            tracks: Vec::new(),
            source,
            created_at: 0,
            ended_at: None,
        };
        Ok(SignedManifest::sign(manifest, &self.key)?)
    }
}

impl Source {
    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        self.node.listen_addresses()
    }

    pub(crate) fn stats(&self) -> NodeStats {
        self.node.stats()
    }

    /// Sends out the next generation.
    pub(crate) async fn publish(&mut self, is_random_access: bool) -> Result<GenerationId> {
        let layers = self.plan.generation(&mut self.noise);
        Ok(self.membership.publish(layers, is_random_access).await?)
    }

    pub(crate) async fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.membership.snapshot().await?)
    }
}

impl Viewer {
    pub(crate) fn stats(&self) -> NodeStats {
        self.node.stats()
    }

    pub(crate) async fn snapshot(&self) -> Result<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(reply).await.ok().context("a viewer has stopped")?;
        answer.await.context("a viewer has stopped")
    }

    pub(crate) fn watched(&self) -> Watched {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until every stripe has a parent.
    pub(crate) async fn joined(&self, timeout: Duration) -> Result<()> {
        let began = Instant::now();
        while self.watched().joined.is_none() {
            if began.elapsed() > timeout {
                let snapshot = self.snapshot().await?;
                let (rooted, stripes) = (snapshot.rooted_stripes(), snapshot.stripes.len());
                bail!("a peer has {rooted} of {stripes} stripes after {timeout:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Watched {
    fn new(began: Instant) -> Self {
        Self { began, manifest: None, joined: None, playing: None, playouts: Vec::new() }
    }

    fn on_event(&mut self, event: &Event) {
        let since = self.began.elapsed();
        if matches!(event, Event::Manifest(_)) {
            self.manifest.get_or_insert(since);
        } else if matches!(event, Event::Joined { .. }) {
            self.joined.get_or_insert(since);
        } else if let Event::Generation(playout) = event {
            if playout.is_playable() {
                self.playing.get_or_insert(since);
            }
            let layers = playout.layers.iter().flatten();
            self.playouts.push(Played {
                generation: playout.generation,
                bytes: layers.map(|layer| layer.len() as u64).sum(),
                is_full: playout.is_full(),
            });
        }
    }
}

async fn watch(
    mut membership: Membership,
    mut asked: mpsc::Receiver<oneshot::Sender<Snapshot>>,
    watched: Arc<Mutex<Watched>>,
) {
    loop {
        tokio::select! {
            event = membership.next_event() => {
                let Some(event) = event else { return };
                watched.lock().unwrap_or_else(PoisonError::into_inner).on_event(&event);
            }
            reply = asked.recv() => {
                let Some(reply) = reply else { return };
                let Ok(snapshot) = membership.snapshot().await else { return };
                drop(reply.send(snapshot));
            }
        }
    }
}

fn node_config(index: u32) -> NodeConfig {
    let mut config = NodeConfig::new(Identity::from_seed(seed_of(index)));
    let address = Multiaddr::empty()
        .with(Protocol::Ip4(std::net::Ipv4Addr::LOCALHOST))
        .with(Protocol::Udp(0))
        .with(Protocol::QuicV1);
    config.listen = vec![address];
    config
}

fn seed_of(index: u32) -> [u8; 32] {
    let mut seed = [0x5e; 32];
    seed[..4].copy_from_slice(&index.to_be_bytes());
    seed
}
