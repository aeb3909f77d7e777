//! Banyan's relay: PeerCast with one stripe, where upload budgets leave one possible tree.
//!
//! The source can serve one child, the relay all of them, a child none: so the relay hangs below
//! the source and the children below the relay. Decides the budgets; the rest is the system's.

use anyhow::{Context as _, Result};
use banyan_core::Role;
use banyan_net::Multiaddr;
use banyan_wire::Overlay;
use std::time::Duration;

use super::{Feed, Progress, Ticks};
use crate::broadcast::{Programme, Viewer};
use crate::payload::Plan;
use crate::roles::{Ask, Asks, Sample, Say, say};
use crate::units::Bitrate;

/// How long a peer may take to find its parent.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);
/// The relay's place among the identities; children follow.
const RELAY: u32 = 1;

pub(super) async fn source(feed: Feed) -> Result<()> {
    let plan = Plan::plain(feed.tick_bytes);
    let upload = upload_for(&plan, 1);
    let mut source = Programme::new(Overlay::PeerCast, plan).start_source(upload).await?;
    say(&Say::Ready(source.addresses().iter().map(Multiaddr::to_string).collect()))?;
    let mut asks = Asks::new();
    while !matches!(asks.next().await?, Some(Ask::Begin) | None) {}
    let mut ticks = Ticks::new(feed);
    loop {
        tokio::select! {
            ask = asks.next() => match ask? {
                Some(Ask::Mark) => say(&Say::Sample(Sample::now()?))?,
                Some(Ask::Credit(received)) => ticks.on_credit(received),
                Some(Ask::Begin) => {}
                None => return Ok(()),
            },
            () = ticks.next() => {
                source.publish(true).await?;
            }
        }
    }
}

pub(super) async fn relay(feed: Feed, via: &[String], children: u32) -> Result<()> {
    let plan = Plan::plain(feed.tick_bytes);
    let upload = upload_for(&plan, children);
    let programme = Programme::new(Overlay::PeerCast, plan);
    let relay = programme.start_viewer(RELAY, Role::Relay, upload, &parse(via)?).await?;
    relay.joined(JOIN_TIMEOUT).await.context("the relay found no parent")?;
    say(&Say::Ready(relay.node.listen_addresses().iter().map(Multiaddr::to_string).collect()))?;
    let mut asks = Asks::new();
    while let Some(ask) = asks.next().await? {
        if matches!(ask, Ask::Mark) {
            say(&Say::Sample(sample(&relay).await?))?;
        }
    }
    Ok(())
}

pub(super) async fn children(feed: Feed, via: &[String], count: u32) -> Result<()> {
    let programme = Programme::new(Overlay::PeerCast, Plan::plain(feed.tick_bytes));
    let via = parse(via)?;
    let mut children = Vec::new();
    for index in 0..count {
        // Any upload below one stripe is none.
        let child = programme.start_viewer(RELAY + 1 + index, Role::Relay, Bitrate(0), &via);
        children.push(child.await?);
    }
    for child in &children {
        child.joined(JOIN_TIMEOUT).await.context("a child found no parent")?;
    }
    say(&Say::Ready(Vec::new()))?;
    let mut asks = Asks::new();
    let mut progress = Progress::default();
    let mut look = tokio::time::interval(Progress::INTERVAL);
    loop {
        tokio::select! {
            ask = asks.next() => match ask? {
                Some(Ask::Mark) => say(&Say::Sample(Sample::now()?))?,
                Some(Ask::Begin | Ask::Credit(_)) => {}
                None => return Ok(()),
            },
            _ = look.tick(), if feed.is_saturated => {
                let mut least = u64::MAX;
                for child in &children {
                    least = least.min(child.snapshot().await?.stats.chunk_bytes_received);
                }
                progress.tell(least, feed)?;
            }
        }
    }
}

async fn sample(relay: &Viewer) -> Result<Sample> {
    // First of all, so that the measuring itself is not measured.
    let sample = Sample::now()?;
    let snapshot = relay.snapshot().await?;
    let children = snapshot.stripes.first().map_or(0, |stripe| stripe.children.len());
    Ok(Sample {
        sent: snapshot.stats.chunk_bytes_sent,
        framed: relay.stats().media_bytes_sent,
        received: snapshot.stats.chunk_bytes_received,
        lost: snapshot.stats.chunks_skipped + relay.stats().dropped_messages,
        children: children as u64,
        stored: snapshot.store_bytes as u64,
        ..sample
    })
}

/// An upload budget for so many children, and not for one more.
fn upload_for(plan: &Plan, children: u32) -> Bitrate {
    plan.stripe_rate().times(f64::from(children) + 0.5)
}

fn parse(addresses: &[String]) -> Result<Vec<Multiaddr>> {
    Ok(addresses.iter().map(|address| address.parse()).collect::<Result<_, _>>()?)
}
