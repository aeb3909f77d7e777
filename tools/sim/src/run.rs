//! One run: a scenario and a seed become a result.
//!
//! Decides which overlay runs, and carries out the agenda: arrivals, departures, events,
//! generations, samples. What happens between two of its items is the world's.

mod agenda;
mod casts;
mod stage;

use std::time::Instant as Clock;

use anyhow::{Result, bail};
use banyan_wire::Overlay;

use crate::baseline::Kind;
use crate::check::Breach;
use crate::result::{Cost, Outcome, RunResult};
use crate::scenario::Scenario;
use casts::{BanyanCast, BaselineCast};
use stage::Stage;

pub use casts::Cast;
pub use stage::Moment;

/// Which run it is.
#[derive(Clone, Debug, Default)]
pub struct Name {
    /// The scenario's name.
    pub scenario: String,
    /// The variant's.
    pub variant: String,
    /// The seed.
    pub seed: u64,
}

/// Runs a scenario; `progress` is told of it every now and then.
///
/// # Errors
/// Says what in the scenario does not fit the overlay. A broken invariant is no error but the
/// result's outcome.
pub fn run(
    scenario: &Scenario,
    name: &Name,
    progress: &mut dyn FnMut(&Moment),
) -> Result<RunResult> {
    let banyan = |overlay| BanyanCast::new(scenario, overlay, name.seed);
    let baseline = |kind| BaselineCast::new(scenario, kind, name.seed);
    match scenario.overlay.kind.as_str() {
        "banyan" => perform(scenario, name, banyan(Overlay::SplitStream)?, progress),
        "banyan-peercast" => perform(scenario, name, banyan(Overlay::PeerCast)?, progress),
        "paper" => perform(scenario, name, baseline(Kind::Paper)?, progress),
        "freepastry" => perform(scenario, name, baseline(Kind::Freepastry)?, progress),
        other => bail!(
            "overlay.kind = \"{other}\": there are banyan, banyan-peercast, paper and freepastry"
        ),
    }
}

/// Runs a scenario with the nodes of `cast`.
///
/// # Errors
/// As [`run`].
pub fn perform<C: Cast>(
    scenario: &Scenario,
    name: &Name,
    cast: C,
    progress: &mut dyn FnMut(&Moment),
) -> Result<RunResult> {
    let clock = Clock::now();
    let mut stage = Stage::new(scenario, name.seed, cast)?;
    let outcome = match stage.play(progress)? {
        Ok(()) => Outcome::Finished,
        Err(Breach { at, node, what }) => Outcome::Failed { at_micros: at, node, what },
    };
    let mut result = RunResult {
        scenario: name.scenario.clone(),
        about: scenario.about.clone(),
        variant: name.variant.clone(),
        overlay: scenario.overlay.kind.clone(),
        seed: name.seed,
        nodes: scenario.population.nodes,
        stripes: u8::try_from(scenario.broadcast.stripes)?,
        spec: serde_json::to_value(scenario)?,
        outcome,
        trace: format!("{:016x}", stage.world.trace()),
        ..RunResult::default()
    };
    let wall = clock.elapsed().as_secs_f64();
    let steps = stage.world.steps();
    result.cost = Cost {
        wall,
        simulated: crate::measure::seconds(stage.world.now()),
        steps,
        steps_per_second: crate::measure::ratio(steps, 1) / wall.max(1e-6),
        peak_memory: peak_memory(),
    };
    stage.meter.summarise(&stage.world, scenario, name.seed, &mut result);
    Ok(result)
}

/// Most memory the process had, where the system tells.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
