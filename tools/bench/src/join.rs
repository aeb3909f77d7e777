//! `join`: what it takes to join a swarm that is there, and what its peers hold at rest.
//!
//! Decides when a swarm is at rest (all connections out of use have timed out) and when a joiner's
//! connections are counted: some seconds after it has all stripes, so that look-ups that come late
//! are counted too.

use std::time::Duration;

use anyhow::{Context as _, Result};
use banyan_core::Role;
use banyan_wire::StripeCount;

use crate::broadcast::{Viewer, Watched};
use crate::meter;
use crate::payload::{Layering, Plan};
use crate::report::{Column, Report};
use crate::swarm::ours::Swarm;
use crate::units::{Bitrate, as_f64, ratio};

/// Between two peers of the swarm that start.
const PAUSE: Duration = Duration::from_millis(100);
/// `NodeConfig::idle_timeout` and a margin.
const REST: Duration = Duration::from_secs(18);
/// Between two joiners, and from the last one to the count.
const AFTER_JOIN: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(50);
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);
const UPLOAD: f64 = 1.25;

const GOAL_OPENED: f64 = 40.0;
const GOAL_RESTING: f64 = 64.0;
/// Median and worst startup of DESIGN.md §9, in seconds, for links of 40 ms.
const GOAL_STARTUP: f64 = 1.0;
const GOAL_WORST: f64 = 3.0;

/// When a joiner reached something, from its request to join.
type Milestone = fn(&Watched) -> Option<Duration>;

/// Settings of the bench.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Peers of the swarm that is joined, the source included.
    #[arg(long, default_value_t = 64)]
    peers: u32,
    /// Joiners, one after the other.
    #[arg(long, default_value_t = 5)]
    joiners: u32,
    /// Rate of the coded stream; low, because all peers share this machine.
    #[arg(long, default_value = "1Mbit")]
    rate: Bitrate,
}

/// Builds a swarm, lets it rest, and sends joiners in.
pub(crate) async fn measure(options: Options) -> Result<Report> {
    let plan = Plan::for_coded_rate(options.rate, Layering::Priority, StripeCount::DEFAULT);
    let mut swarm = Swarm::build(&plan, options.peers, PAUSE).await?;
    let members = opened(&swarm.viewers);
    swarm.stream_for(REST).await?;
    let resting: Vec<u64> = std::iter::once(swarm.source.stats().connections_now)
        .chain(swarm.viewers.iter().map(|viewer| viewer.stats().connections_now))
        .collect();

    let via = swarm.source.addresses();
    let mut joiners = Vec::new();
    for index in 0..options.joiners {
        let upload = options.rate.times(UPLOAD);
        let programme = swarm.programme.clone();
        let joiner =
            programme.start_viewer(options.peers + index, Role::Viewer, upload, &via).await?;
        let mut waited = Duration::ZERO;
        while joiner.watched().playing.is_none() && waited < JOIN_TIMEOUT {
            swarm.stream_for(LOOK).await?;
            waited += LOOK;
        }
        joiners.push(joiner);
        swarm.stream_for(AFTER_JOIN).await?;
    }
    let opened_by_joiners = opened(&joiners);
    let watched: Vec<Watched> = joiners.iter().map(Viewer::watched).collect();

    let title = format!(
        "join: {} joiners into a swarm of {} peers, {} coded, one process, loopback",
        options.joiners, options.peers, options.rate
    );
    let columns = ["least", "median", "mean", "most"].map(|name| Column { name, decimals: 2 });
    let mut report = Report::new(title, &columns);
    report.row("connections opened by a joiner", spread(&opened_by_joiners)?);
    report.row("connections opened by a member while the swarm was built", spread(&members)?);
    report.row("connections of a member at rest", spread(&resting)?);
    let mut playing = Vec::new();
    let milestones: [(&str, Milestone); 3] = [
        ("seconds to the manifest", |watched| watched.manifest),
        ("seconds to a parent on every stripe", |watched| watched.joined),
        ("seconds to the first playable generation", |watched| watched.playing),
    ];
    for (name, milestone) in milestones {
        let millis = watched.iter().map(|watched| {
            let reached = milestone(watched).with_context(|| format!("no joiner's {name}"))?;
            Ok(u64::try_from(reached.as_millis())?)
        });
        let millis = millis.collect::<Result<Vec<_>>>()?;
        let seconds = spread(&millis)?.into_iter().map(|cell| cell.map(|cell| cell / 1e3));
        playing = seconds.collect();
        report.row(name, playing.clone());
    }
    let most = |values: &[u64]| values.iter().copied().max().map_or(f64::NAN, as_f64);
    report.goal("most connections opened by a joiner", most(&opened_by_joiners), GOAL_OPENED);
    report.goal("most connections of a member at rest", most(&resting), GOAL_RESTING);
    let startup = |index: usize| playing.get(index).copied().flatten().unwrap_or(f64::NAN);
    report.goal("median seconds to the first picture", startup(1), GOAL_STARTUP);
    report.goal("most seconds to the first picture", startup(3), GOAL_WORST);
    report.goal("members that never had all stripes", as_f64(swarm.incomplete.len() as u64), 0.0);
    for viewer in swarm.incomplete {
        report.note(viewer);
    }
    report.note("startup goals are for links of 40 ms; these links have none to speak of");
    report.note(format!("a random access generation every 2 s; load {}", meter::load()));
    Ok(report)
}

fn opened(viewers: &[Viewer]) -> Vec<u64> {
    viewers.iter().map(|viewer| viewer.stats().connections_established_total).collect()
}

/// Least, median, mean and most.
fn spread(values: &[u64]) -> Result<Vec<Option<f64>>> {
    let mut values = values.to_vec();
    values.sort_unstable();
    let (least, most) = values.first().zip(values.last()).context("nothing was measured")?;
    let mean = ratio(values.iter().sum(), values.len() as u64);
    let median = values[values.len() / 2];
    Ok(vec![Some(as_f64(*least)), Some(as_f64(median)), Some(mean), Some(as_f64(*most))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_least_median_mean_and_most() {
        let spread = spread(&[9, 1, 2]).expect("there are values");
        assert_eq!(spread, [Some(1.0), Some(2.0), Some(4.0), Some(9.0)]);
    }
}
