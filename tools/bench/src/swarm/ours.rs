//! A whole Banyan swarm in this process.
//!
//! Decides upload budgets and the measured window: it begins and ends 100 ms before a tick, when
//! everything published earlier has long arrived, so that bytes can be held against generations.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use banyan_core::{Role, Snapshot};
use banyan_net::NodeStats;
use banyan_wire::{GenerationId, Overlay};
use tokio::time::{Interval, MissedTickBehavior};

use super::Outcome;
use crate::broadcast::{Programme, SOURCE, Source, Viewer};
use crate::meter::{Machine, process_cpu};
use crate::payload::{GENERATION, Plan};
use crate::units::{Bitrate, ratio};

/// How long the forest may take to be complete once the last peer has started.
const BUILD_TIMEOUT: Duration = Duration::from_secs(20);
/// Ticks from the complete forest to the window: look-ups and hand-overs settle.
const WARM_UP: u64 = 8;
/// Ticks after it, so that its last generation reaches playout.
const AFTERMATH: u64 = 4;
/// From the start or the end of the window to the next tick.
const MARGIN: Duration = Duration::from_millis(100);
/// A source that keeps two children per stripe (DESIGN.md §9: at most 2.1 × the coded stream).
const SOURCE_UPLOAD: f64 = 2.1;
/// What a viewer uploads of what it downloads: slack for the source's share and more.
const VIEWER_UPLOAD: f64 = 1.25;
/// Generations from one random access picture to the next.
const GOP: u64 = 4;

/// An outcome, and what only our own counters tell.
#[derive(Clone, Debug)]
pub(crate) struct Detail {
    pub(crate) outcome: Outcome,
    generations: u64,
    full: u64,
    played: u64,
    duplicates: u64,
    repaired: u64,
    dropped: u64,
    interior: usize,
    deepest: u32,
    source_media: u64,
    build: Duration,
    slowest: Duration,
    viewers: u64,
    /// Viewers that never had all stripes, in words.
    pub(crate) incomplete: Vec<String>,
}

impl Detail {
    /// It in a sentence.
    pub(crate) fn text(&self) -> String {
        format!(
            "banyan: forest complete after {:.2} s (slowest viewer {:.2} s), depth {}, at most {} \
             interior stripes per viewer; of {} generations {} played, {} in full; source sent {:.2} x the coded stream; \
             {} duplicate bytes, {} chunks repaired, {} messages dropped",
            self.build.as_secs_f64(),
            self.slowest.as_secs_f64(),
            self.deepest,
            self.interior,
            self.generations,
            self.played,
            self.full,
            ratio(self.source_media * self.viewers, self.outcome.coded),
            self.duplicates,
            self.repaired,
            self.dropped,
        )
    }
}

/// All peers' counters at one moment.
struct Mark {
    at: Instant,
    cpu: Duration,
    machine: Machine,
    source: NodeStats,
    viewers: Vec<NodeStats>,
    snapshots: Vec<Snapshot>,
}

/// Who comes, and what they carry.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The source's upload.
    pub(crate) source: Bitrate,
    /// Each viewer's.
    pub(crate) viewers: Vec<Bitrate>,
    /// Between two arrivals.
    pub(crate) pause: Duration,
    /// Whether nothing is published, ever.
    pub(crate) is_silent: bool,
}

/// A swarm whose forest is complete.
pub(crate) struct Swarm {
    pub(crate) source: Source,
    pub(crate) viewers: Vec<Viewer>,
    pub(crate) programme: Programme,
    ticks: Interval,
    published: u64,
    is_silent: bool,
    began: Instant,
    /// From the start of the source to that of the last viewer.
    pub(crate) arrival: Duration,
    /// From the start of the source to the last parent of the last viewer.
    pub(crate) build: Duration,
    /// Viewers that never had all stripes, in words.
    pub(crate) incomplete: Vec<String>,
}

impl Swarm {
    /// A source with room for two children per stripe and viewers that are all alike: see
    /// [`Self::build_of`].
    pub(crate) async fn build(plan: &Plan, peers: u32, pause: Duration) -> Result<Self> {
        ensure!(peers >= 2, "a swarm has a source and at least one viewer");
        let coded = plan.stripe_rate().times(f64::from(plan.stripes().value()));
        let viewers = vec![coded.times(VIEWER_UPLOAD); peers as usize - 1];
        let load = Load { source: coded.times(SOURCE_UPLOAD), viewers, pause, is_silent: false };
        Self::build_of(plan, &load).await
    }

    /// Starts all peers, streams, and waits for the last parent.
    pub(crate) async fn build_of(plan: &Plan, load: &Load) -> Result<Self> {
        let began = Instant::now();
        let programme = Programme::new(Overlay::SplitStream, plan.clone());
        let source = programme.start_source(load.source).await?;
        let mut ticks = tokio::time::interval(GENERATION);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swarm = Self {
            source,
            viewers: Vec::new(),
            programme,
            ticks,
            published: 0,
            is_silent: load.is_silent,
            began,
            arrival: Duration::ZERO,
            build: Duration::ZERO,
            incomplete: Vec::new(),
        };
        let via = swarm.source.addresses();
        for (index, upload) in (SOURCE + 1..).zip(&load.viewers) {
            let viewer = swarm.programme.start_viewer(index, Role::Viewer, *upload, &via).await?;
            swarm.viewers.push(viewer);
            swarm.stream_for(load.pause).await?;
        }
        swarm.arrival = began.elapsed();
        let give_up_at = Instant::now() + BUILD_TIMEOUT;
        while swarm.viewers.iter().any(|viewer| viewer.watched().joined.is_none()) {
            if Instant::now() > give_up_at {
                swarm.incomplete = swarm.incomplete_viewers().await?;
                break;
            }
            swarm.stream_for(Duration::from_millis(20)).await?;
        }
        swarm.build = began.elapsed();
        Ok(swarm)
    }

    /// Since its source was started.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Everybody as they are now, the source first.
    pub(crate) async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let mut snapshots = vec![self.source.snapshot().await?];
        for viewer in &self.viewers {
            snapshots.push(viewer.snapshot().await?);
        }
        Ok(snapshots)
    }

    /// Says which viewers never had all stripes, and who could have served those they lack.
    async fn incomplete_viewers(&self) -> Result<Vec<String>> {
        let snapshots = self.snapshots().await?;
        let mut incomplete = Vec::new();
        for (viewer, snapshot) in self.viewers.iter().zip(&snapshots[1..]) {
            if viewer.watched().joined.is_some() {
                continue;
            }
            let mut text = format!("viewer {:.8} never had all stripes", snapshot.peer);
            for stripe in snapshot.stripes.iter().filter(|stripe| !stripe.is_rooted) {
                let stripe = stripe.stripe;
                let serves = |peer: &&Snapshot| peer.is_source || peer.roles.contains(stripe);
                let servers: Vec<String> = snapshots.iter().filter(serves).map(slots).collect();
                text += &format!("; lacks {}; there serve {}", stripe.0, servers.join(" "));
            }
            incomplete.push(text);
        }
        Ok(incomplete)
    }

    /// Publishes what is due within `duration`.
    pub(crate) async fn stream_for(&mut self, duration: Duration) -> Result<()> {
        let end = tokio::time::Instant::now() + duration;
        if self.is_silent {
            tokio::time::sleep_until(end).await;
            return Ok(());
        }
        while tokio::time::timeout_at(end, self.ticks.tick()).await.is_ok() {
            self.publish().await?;
        }
        Ok(())
    }

    async fn publish(&mut self) -> Result<GenerationId> {
        let is_random_access = self.published.is_multiple_of(GOP);
        self.published += 1;
        self.source.publish(is_random_access).await
    }

    /// Publishes `count` generations; returns [`MARGIN`] before the next is due.
    async fn stream_ticks(&mut self, count: u64) -> Result<Range<GenerationId>> {
        let mut range: Option<Range<GenerationId>> = None;
        for _ in 0..count {
            self.ticks.tick().await;
            let generation = self.publish().await?;
            let start = range.map_or(generation, |range| range.start);
            range = Some(start..generation.next());
        }
        tokio::time::sleep(GENERATION - MARGIN).await;
        range.context("no generation was published")
    }

    async fn mark(&self) -> Result<Mark> {
        let (at, cpu, machine) = (Instant::now(), process_cpu(), Machine::now()?);
        let mut snapshots = Vec::new();
        for viewer in &self.viewers {
            snapshots.push(viewer.snapshot().await?);
        }
        Ok(Mark {
            at,
            cpu,
            machine,
            source: self.source.stats(),
            viewers: self.viewers.iter().map(Viewer::stats).collect(),
            snapshots,
        })
    }

    pub(crate) async fn stop(self) {
        for viewer in &self.viewers {
            viewer.node.shutdown().await;
        }
        self.source.node.shutdown().await;
    }
}

/// Builds a swarm, lets it settle, and measures it for `seconds`.
pub(crate) async fn measure(plan: &Plan, peers: u32, seconds: u64) -> Result<Detail> {
    let mut swarm = Swarm::build(plan, peers, Duration::from_millis(20)).await?;
    swarm.stream_ticks(WARM_UP).await?;
    let before = swarm.mark().await?;
    let count = seconds * 1000 / u64::try_from(GENERATION.as_millis())?;
    let range = swarm.stream_ticks(count).await?;
    let after = swarm.mark().await?;
    swarm.stream_ticks(AFTERMATH).await?;

    let viewers = swarm.viewers.len() as u64;
    let due = count * viewers;
    let played: Vec<_> = swarm
        .viewers
        .iter()
        .flat_map(|viewer| viewer.watched().playouts)
        .filter(|played| range.contains(&played.generation))
        .collect();
    let elapsed = after.at - before.at;
    let window = after.machine.since(&before.machine);
    let cpu = after.cpu - before.cpu;
    let sum = |field: fn(&NodeStats) -> u64| {
        let of = |mark: &Mark| field(&mark.source) + mark.viewers.iter().map(field).sum::<u64>();
        of(&after) - of(&before)
    };
    let count_snapshots = |field: fn(&Snapshot) -> u64| {
        let of = |mark: &Mark| mark.snapshots.iter().map(field).sum::<u64>();
        of(&after) - of(&before)
    };
    let control = sum(|stats| stats.control_bytes_sent);
    let outcome = Outcome {
        cpu,
        needed: due * plan.media_bytes() as u64,
        delivered: played.iter().map(|played| played.bytes).sum(),
        coded: due * plan.coded_bytes() as u64,
        framed: sum(|stats| stats.media_bytes_sent) + control,
        control,
        loopback: window.loopback,
        drop_rate: window.drop_rate(),
        other_cores: window.other_cores(cpu, elapsed),
    };
    let stripes = after.snapshots.iter().flat_map(|snapshot| &snapshot.stripes);
    let detail = Detail {
        outcome,
        generations: due,
        full: played.iter().filter(|played| played.is_full).count() as u64,
        played: played.iter().filter(|played| played.bytes > 0).count() as u64,
        duplicates: count_snapshots(|snapshot| snapshot.stats.duplicate_bytes_received),
        repaired: count_snapshots(|snapshot| snapshot.stats.repaired_chunks),
        dropped: sum(|stats| stats.dropped_messages),
        interior: after.snapshots.iter().map(|s| s.interior_stripes().len()).max().unwrap_or(0),
        deepest: stripes.map(|stripe| stripe.depth).max().unwrap_or(0),
        source_media: after.source.media_bytes_sent - before.source.media_bytes_sent,
        build: swarm.build,
        slowest: swarm.viewers.iter().filter_map(|v| v.watched().joined).max().unwrap_or_default(),
        viewers,
        incomplete: std::mem::take(&mut swarm.incomplete),
    };
    swarm.stop().await;
    Ok(detail)
}

/// Children a peer has, of those it may have, over all stripes.
fn slots(peer: &Snapshot) -> String {
    let children: usize = peer.stripes.iter().map(|stripe| stripe.children.len()).sum();
    format!("{:.8} ({children}/{})", peer.peer, peer.capacity)
}
