//! `memory`: what a viewer of a small swarm holds in memory.
//!
//! Decides that the viewer has a process of its own, so that nobody else's memory counts; all other
//! peers share a second process.

use std::time::Duration;

use anyhow::{Context as _, Result};
use banyan_core::Role as PeerRole;
use banyan_net::Multiaddr;
use banyan_wire::{Overlay, StripeCount};
use serde::{Deserialize, Serialize};

use crate::broadcast::Programme;
use crate::payload::{Layering, Plan};
use crate::report::{Column, Report};
use crate::roles::{self, Ask, Asks, Process, Sample, Say, say};
use crate::swarm::ours::Swarm;
use crate::units::{Bitrate, megabytes};

/// How long the viewer may take to find its parents.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// What it uploads, as a share of what it downloads.
const UPLOAD: f64 = 1.25;
/// In megabytes.
const GOAL: f64 = 80.0;

/// Settings of the bench.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Rate of the coded stream.
    #[arg(long, default_value = "5Mbit")]
    rate: Bitrate,
    /// Peers, the source and the viewer included.
    #[arg(long, default_value_t = 9)]
    peers: u32,
    /// How long the viewer watches.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// A process of this bench.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Everybody but the viewer.
    Others { rate: u64, peers: u32 },
    /// The viewer.
    Viewer { rate: u64, index: u32, via: Vec<String> },
}

/// Lets a viewer watch and weighs it.
pub(crate) async fn measure(options: Options) -> Result<Report> {
    let rate = options.rate.0;
    let others = Role::Others { rate, peers: options.peers.saturating_sub(1).max(2) };
    let (others, via) = Process::start(&roles::Role::Memory(others)).await?;
    let role = Role::Viewer { rate, index: options.peers, via };
    let (mut viewer, _) = Process::start(&roles::Role::Memory(role)).await?;
    let first = viewer.mark().await?;
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let sample = viewer.mark().await?;
    viewer.end().await?;
    others.end().await?;

    let title = format!(
        "memory: a viewer of {} (coded) in a swarm of {}, {} s after it joined",
        options.rate, options.peers, options.seconds
    );
    let columns = [
        Column { name: "RSS MB", decimals: 1 },
        Column { name: "peak RSS MB", decimals: 1 },
        Column { name: "RSS MB at the join", decimals: 1 },
        Column { name: "store MB", decimals: 1 },
        Column { name: "received MB", decimals: 1 },
        Column { name: "connections", decimals: 0 },
        Column { name: "% of a core", decimals: 1 },
    ];
    let mut report = Report::new(title, &columns);
    let seconds = Duration::from_secs(options.seconds).as_secs_f64();
    report.row(
        "banyan viewer",
        vec![
            Some(megabytes(sample.memory.resident)),
            Some(megabytes(sample.memory.peak)),
            Some(megabytes(first.memory.resident)),
            Some(megabytes(sample.stored)),
            Some(megabytes(sample.received)),
            Some(crate::units::as_f64(sample.connections)),
            Some((sample.cpu - first.cpu).as_secs_f64() / seconds * 100.0),
        ],
    );
    report.goal("RSS in MB", megabytes(sample.memory.resident), GOAL);
    report.note("RSS includes the program itself and this bench's tasks; no player, no gateway");
    Ok(report)
}

/// Plays a role to its end.
pub(crate) async fn run(role: Role) -> Result<()> {
    match role {
        Role::Others { rate, peers } => others(Bitrate(rate), peers).await,
        Role::Viewer { rate, index, via } => viewer(Bitrate(rate), index, &via).await,
    }
}

async fn others(rate: Bitrate, peers: u32) -> Result<()> {
    let mut swarm = Swarm::build(&plan(rate), peers, Duration::from_millis(20)).await?;
    let addresses = swarm.source.addresses();
    say(&Say::Ready(addresses.iter().map(Multiaddr::to_string).collect()))?;
    let mut asks = Asks::new();
    loop {
        swarm.stream_for(Duration::from_millis(100)).await?;
        let asked = tokio::time::timeout(Duration::ZERO, asks.next()).await;
        if matches!(asked, Ok(Ok(None) | Err(_))) {
            return Ok(());
        }
    }
}

async fn viewer(rate: Bitrate, index: u32, via: &[String]) -> Result<()> {
    let plan = plan(rate);
    let upload = rate.times(UPLOAD);
    let via: Vec<Multiaddr> = via.iter().map(|via| via.parse()).collect::<Result<_, _>>()?;
    let programme = Programme::new(Overlay::SplitStream, plan);
    let viewer = programme.start_viewer(index, PeerRole::Viewer, upload, &via).await?;
    viewer.joined(JOIN_TIMEOUT).await.context("the viewer did not join")?;
    say(&Say::Ready(Vec::new()))?;
    let mut asks = Asks::new();
    while let Some(ask) = asks.next().await? {
        if matches!(ask, Ask::Mark) {
            let snapshot = viewer.snapshot().await?;
            say(&Say::Sample(Sample {
                received: snapshot.stats.chunk_bytes_received,
                stored: snapshot.store_bytes as u64,
                connections: viewer.stats().connections_now,
                ..Sample::now()?
            }))?;
        }
    }
    Ok(())
}

fn plan(rate: Bitrate) -> Plan {
    Plan::for_coded_rate(rate, Layering::Priority, StripeCount::DEFAULT)
}
