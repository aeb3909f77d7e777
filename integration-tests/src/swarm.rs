//! A source and its viewers, each a node of its own on this machine.
//!
//! Decides what a synthetic programme is: random bytes at about 1 Mbit/s in two layers, half a
//! second each, coded as a real one is.

use std::time::Duration;

use anyhow::{Context as _, Result};
use banyan_coding::{Layer, description_length, thresholds};
use banyan_core::{Config, Role, Snapshot};
use banyan_net::{Identity, JoinRequest, Multiaddr, Node, NodeConfig, NodeHandle};
use banyan_wire::{
    BroadcastId, BroadcastKey, Contact, GenerationId, Manifest, Overlay, PeerId, Roles,
    SignedManifest, StripeCount,
};
use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use tokio::time::{MissedTickBehavior, interval};

use crate::member::{Log, Member};
use crate::{LOOK, within};

/// Bytes of one generation's two layers, before coding: half a second at 1 Mbit/s.
const LAYER_BYTES: [usize; 2] = [15_000, 47_500];
/// The pace of the input.
const CADENCE: Duration = Duration::from_millis(500);
/// Every so many generations begin with a random access picture.
const RANDOM_ACCESS_EVERY: u64 = 4;
/// Every viewer's upload, as a multiple of the coded stream.
const UPLOAD: u64 = 2;
/// Whom viewers start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The source.
    Source,
    /// A node of the directory that is no member of the broadcast.
    Relay,
}

/// What a swarm is made from.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// How many viewers.
    pub viewers: u8,
    /// Where every node listens.
    pub listen: &'static str,
    /// Whom they start from.
    pub entry: Entry,
    /// Limits and waits of every peer; uploads are set by the swarm.
    pub config: Config,
    /// All identities and decisions follow from it.
    pub seed: u8,
}

/// A broadcast and everybody in it.
#[derive(Debug)]
pub struct Swarm {
    /// The source.
    pub source: Member,
    /// The viewers.
    pub viewers: Vec<Member>,
    /// Whom they start from.
    pub via: Vec<Multiaddr>,
    /// What was published, in order.
    pub published: Vec<Vec<Layer>>,
    /// Bytes of it with redundancy.
    pub coded_bytes: u64,
    /// Attachments to the source before the first generation.
    attachments_before: usize,
    options: SwarmConfig,
    key: BroadcastKey,
    manifest: Manifest,
    rng: ChaCha12Rng,
    _relay: Option<NodeHandle>,
}

impl Swarm {
    /// Starts the source alone.
    ///
    /// # Errors
    /// Where a node does not start.
    pub async fn source(options: SwarmConfig) -> Result<Self> {
        let relay = match options.entry {
            Entry::Source => None,
            Entry::Relay => Some(start(&options, 1, &[], true).await?),
        };
        let bootstrap = relay.as_ref().map(NodeHandle::listen_addresses).unwrap_or_default();
        let node = start(&options, 0, &bootstrap, true).await?;
        let via = relay.as_ref().unwrap_or(&node).listen_addresses();
        let key = BroadcastKey::from_seed(&[options.seed; 32]);
        let request = JoinRequest {
            broadcast: key.broadcast(),
            role: Role::Source(key.clone()),
            config: Config { upload: 1_000_000_000, ..options.config.clone() },
            via: Vec::new(),
            seed: Some([options.seed; 32]),
        };
        let addresses = node.listen_addresses();
        let manifest = Manifest {
            broadcast: key.broadcast(),
            sequence: 1,
            title: "integration".to_owned(),
            stripes: StripeCount::DEFAULT,
            overlay: Overlay::SplitStream,
            stripe_rate: stripe_rate(),
            generation_millis: 500,
            tracks: Vec::new(),
            source: Contact {
                peer: node.local_peer(),
                roles: Roles::NONE,
                capacity: 0,
                addresses: addresses.iter().map(|a| Bytes::from(a.to_vec())).collect(),
                is_source: true,
                class: 0,
                coordinate: None,
            },
            created_at: 0,
            ended_at: None,
        };
        let source = Member::start(node, request).await?;
        source.set_manifest(SignedManifest::sign(manifest.clone(), &key)?)?;
        Ok(Self {
            source,
            viewers: Vec::new(),
            via,
            published: Vec::new(),
            coded_bytes: 0,
            attachments_before: 0,
            rng: ChaCha12Rng::from_seed([options.seed; 32]),
            options,
            key,
            manifest,
            _relay: relay,
        })
    }

    /// Starts the source and all viewers.
    ///
    /// # Errors
    /// Where a node does not start.
    pub async fn start(options: SwarmConfig) -> Result<Self> {
        let mut swarm = Self::source(options).await?;
        swarm.join().await?;
        Ok(swarm)
    }

    /// Starts the viewers.
    ///
    /// # Errors
    /// Where a node does not start.
    pub async fn join(&mut self) -> Result<()> {
        for n in 0..self.options.viewers {
            // Through the bootstrap addresses alone: nothing else is told to a viewer.
            let number = n + 2;
            let node = start(&self.options, number, &[], false).await?;
            let config = self.options.config.clone();
            let request = join_request(self.broadcast(), &config, self.via.clone(), number);
            self.viewers.push(Member::start(node, request).await?);
        }
        Ok(())
    }

    /// The broadcast.
    #[must_use]
    pub fn broadcast(&self) -> BroadcastId {
        self.key.broadcast()
    }

    /// The manifest as it is now.
    ///
    /// # Errors
    /// Never, for a manifest that was told once.
    pub fn manifest(&self) -> Result<SignedManifest> {
        Ok(SignedManifest::sign(self.manifest.clone(), &self.key)?)
    }

    /// The viewers' states at this moment.
    ///
    /// # Errors
    /// Where a node has stopped.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::new();
        for viewer in &self.viewers {
            snapshots.push(viewer.snapshot().await?);
        }
        Ok(snapshots)
    }

    /// Looks at all viewers until what there is passes `test`; returns them as they are then.
    ///
    /// # Panics
    /// With a picture of the forest, if that does not come about within a minute.
    pub async fn until(&self, what: &str, test: impl Fn(&[Snapshot]) -> bool) -> Vec<Snapshot> {
        let looking = async {
            let mut look = interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                look.tick().await;
                let snapshots = self.snapshots().await.expect("all nodes run");
                if test(&snapshots) {
                    return snapshots;
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), looking).await {
            Ok(snapshots) => snapshots,
            Err(_) => panic!("waited a minute for {what}\n{}", self.describe().await),
        }
    }

    /// Publishes this many further generations, each when the input has it.
    ///
    /// # Errors
    /// Where the source has stopped.
    pub async fn publish(&mut self, count: u32) -> Result<()> {
        if self.published.is_empty() {
            self.attachments_before = self.attachments_to_source();
        }
        let mut pace = interval(CADENCE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..count {
            pace.tick().await;
            self.publish_one().await?;
        }
        Ok(())
    }

    /// Publishes one generation, now.
    ///
    /// # Errors
    /// Where the source has stopped.
    pub async fn publish_one(&mut self) -> Result<GenerationId> {
        let layers = self.next_layers();
        let number = self.published.len() as u64;
        self.coded_bytes += (description_length(&layers) * StripeCount::DEFAULT.len()) as u64;
        self.published.push(layers.clone());
        let is_random_access = number.is_multiple_of(RANDOM_ACCESS_EVERY);
        let id = self.source.publish(layers, is_random_access).await?;
        assert_eq!(id, GenerationId(number));
        Ok(id)
    }

    /// Ends the broadcast and waits until all viewers have played it to the end.
    ///
    /// # Errors
    /// Where the source has stopped.
    pub async fn end(&mut self) -> Result<()> {
        self.manifest.sequence += 1;
        self.manifest.ended_at = Some(GenerationId(self.published.len() as u64));
        self.source.set_manifest(SignedManifest::sign(self.manifest.clone(), &self.key)?)?;
        for viewer in &self.viewers {
            viewer.said("the end", |log| log.has_ended).await;
        }
        Ok(())
    }

    /// Every viewer played every generation, in order, all layers, byte for byte.
    ///
    /// # Panics
    /// Naming who did not, and what.
    pub fn assert_played_in_full(&self) {
        for (n, viewer) in self.viewers.iter().enumerate() {
            let log = viewer.log();
            let played: Vec<u64> = log.played.iter().map(|playout| playout.generation.0).collect();
            let expected: Vec<u64> = (0..self.published.len() as u64).collect();
            assert_eq!(played, expected, "viewer {n} played other generations than there were");
            for (playout, layers) in log.played.iter().zip(&self.published) {
                let received = playout.received;
                assert!(
                    playout.is_full(),
                    "viewer {n} had {} of {} layers of generation {}, {received} descriptions",
                    playout.layers_rebuilt(),
                    layers.len(),
                    playout.generation.0,
                );
                let same =
                    playout.layers.iter().zip(layers).all(|(a, b)| a.as_ref() == Some(&b.data));
                assert!(
                    same,
                    "viewer {n} played other bytes than generation {}",
                    playout.generation.0
                );
            }
        }
    }

    /// The source sent the coded stream at most twice, K ÷ 10 stripes once more (the slots it adds
    /// where a tree has none left), and to each peer that attached to it while it streamed at most
    /// one stripe more: what the store keeps is pushed to a new child, and a child
    /// that makes room is served until it has found its new place.
    ///
    /// # Errors
    /// Where the source has stopped.
    ///
    /// # Panics
    /// With what it sent.
    pub async fn assert_source_sent_about_twice(&self) -> Result<()> {
        let sent = self.source.snapshot().await?.stats.chunk_bytes_sent;
        let late = self.attachments_to_source() - self.attachments_before;
        let stripe = self.coded_bytes / u64::from(StripeCount::DEFAULT.value());
        let extended = u64::from(StripeCount::DEFAULT.value()) / 10;
        let limit = 2 * self.coded_bytes + (late as u64 + extended) * stripe;
        eprintln!(
            "the source sent {sent} bytes of chunks; at most {limit} with \
             {late} attachments to it while it streamed"
        );
        assert!(sent <= limit, "the source sent {sent} bytes of chunks, more than {limit}");
        Ok(())
    }

    fn attachments_to_source(&self) -> usize {
        let parents =
            |log: &Log| log.parents.iter().filter(|(_, p)| *p == self.source.peer).count();
        self.viewers.iter().map(|viewer| parents(&viewer.log())).sum()
    }

    /// Nobody has blamed anybody but `attackers`.
    ///
    /// # Panics
    /// Naming who did.
    pub fn assert_only_blamed(&self, attackers: &[PeerId]) {
        for member in self.viewers.iter().chain([&self.source]) {
            for (peer, violation) in member.log().violations {
                let is_honest = !attackers.contains(&peer);
                assert!(!is_honest, "{:.8} blames {peer:.8} for {violation:?}", member.peer);
            }
        }
    }

    /// The forest as text, one line for the source and for each viewer.
    pub async fn describe(&self) -> String {
        let mut lines = Vec::new();
        for (n, member) in [&self.source].into_iter().chain(&self.viewers).enumerate() {
            let Ok(s) = member.snapshot().await else {
                lines.push(format!("{n:>3} stopped"));
                continue;
            };
            let interior: Vec<String> = s
                .stripes
                .iter()
                .filter(|tree| !tree.children.is_empty() || tree.leaving > 0)
                .map(|t| {
                    let parent =
                        t.parent.map_or_else(|| "nobody".to_owned(), |p| format!("{p:.8}"));
                    format!("{}:{}+{} under {parent}", t.stripe, t.children.len(), t.leaving)
                })
                .collect();
            lines.push(format!(
                "{n:>3} {:.8} rooted {:>2} of {:>2}, roles {:?}, interior {interior:?}, \
                 {} connections, {} contacts, {} peers",
                member.peer,
                s.rooted_stripes(),
                s.stripes.len(),
                s.roles,
                s.connections,
                s.contacts,
                s.population,
            ));
        }
        lines.join("\n")
    }

    fn next_layers(&mut self) -> Vec<Layer> {
        let thresholds = thresholds::priority(StripeCount::DEFAULT);
        let mut layer = |length: usize, threshold| {
            let mut data = vec![0; length];
            self.rng.fill_bytes(&mut data);
            Layer { threshold, data: data.into() }
        };
        LAYER_BYTES.into_iter().zip(thresholds).map(|(length, t)| layer(length, t)).collect()
    }
}

/// What a viewer asks its node for.
#[must_use]
pub fn join_request(
    broadcast: BroadcastId,
    config: &Config,
    via: Vec<Multiaddr>,
    number: u8,
) -> JoinRequest {
    let upload = UPLOAD * stripe_rate() * u64::from(StripeCount::DEFAULT.value());
    let config = Config { upload, ..config.clone() };
    JoinRequest { broadcast, role: Role::Viewer, config, via, seed: Some([number; 32]) }
}

/// Everybody has all stripes, from the source.
#[must_use]
pub fn is_complete(snapshots: &[Snapshot]) -> bool {
    snapshots.iter().all(|s| !s.stripes.is_empty() && s.rooted_stripes() == s.stripes.len())
}

/// Nobody is interior in more than one tree.
#[must_use]
pub fn is_disjoint(snapshots: &[Snapshot]) -> bool {
    snapshots.iter().all(|s| s.interior_stripes().len() <= 1)
}

/// Complete, disjoint, and nobody on the way to another place.
#[must_use]
pub fn is_settled(snapshots: &[Snapshot]) -> bool {
    is_complete(snapshots)
        && is_disjoint(snapshots)
        && snapshots.iter().all(|s| s.stripes.iter().all(|tree| tree.leaving == 0))
}

/// Bits per second of one stripe, coding included.
fn stripe_rate() -> u64 {
    let thresholds = thresholds::priority(StripeCount::DEFAULT);
    let layers: Vec<Layer> = LAYER_BYTES
        .into_iter()
        .zip(thresholds)
        .map(|(length, threshold)| Layer { threshold, data: vec![0; length].into() })
        .collect();
    description_length(&layers) as u64 * 8 * 2
}

async fn start(
    options: &SwarmConfig,
    number: u8,
    bootstrap: &[Multiaddr],
    is_dht_server: bool,
) -> Result<NodeHandle> {
    let mut seed = [options.seed; 32];
    seed[0] = number;
    let mut config = NodeConfig::new(Identity::from_seed(seed));
    config.listen = vec![options.listen.parse().context("a literal address")?];
    config.bootstrap = bootstrap.to_vec();
    config.is_dht_server = is_dht_server;
    Ok(within("a node to start", Node::start(config)).await?)
}
