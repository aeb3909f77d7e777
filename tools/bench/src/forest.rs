//! `forest`: the trees of a real swarm beside those of the simulator, for the same capacities.
//!
//! ```text
//!   capacities ─┬─▶ nodes over QUIC on loopback ─▶ snapshots ─▶ Shape ─┐
//!               └─▶ banyan_sim::run, 1 ms apart ─▶ result ────▶ Shape ─┴─▶ side by side
//! ```
//!
//! Decides when a swarm is looked at (some seconds after it was complete, with nobody on the move),
//! that the simulated one is looked at when it is as old, and how far the two may differ. Viewers
//! of the same capacities come in the same order in both; their names differ, and so do the trees,
//! but not their shape.

mod shape;

use std::time::Duration;

use anyhow::{Result, ensure};
use banyan_sim::population::Population;
use banyan_sim::result::{Outcome, RunResult};
use banyan_sim::run::{Name, run};
use banyan_sim::scenario::{LatencyModel, Scenario, Span};
use banyan_wire::StripeCount;

use crate::meter::{self, Machine, process_cpu};
use crate::payload::{GENERATION, Layering, Plan};
use crate::report::{Column, Report};
use crate::swarm::ours::{Load, Swarm};
use crate::units::{Bitrate, as_f64};
use shape::{Shape, figures};

/// From the complete forest to the look at it: improvements come every 3 s.
const REST: Duration = Duration::from_secs(8);
/// After this long without a settled forest it is looked at as it is.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);
/// How long viewers that are interior in two trees are watched on, for the note about them.
const WATCH: Duration = Duration::from_secs(15);
/// Incomplete viewers that are described.
const DESCRIBED: usize = 2;
/// Between two samples of the simulator: how exactly it knows when somebody was complete.
const SAMPLE: Span = Span::millis(100);
/// Between any two simulated peers. A guess at a busy loopback.
const ONE_WAY: Span = Span::millis(1);

/// How far the mean depths may be apart: a guess.
const GOAL_DEPTH: f64 = 0.25;

/// Settings of the bench.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Viewers, besides the source.
    #[arg(long, default_value_t = 128)]
    viewers: u32,
    /// Children they may have, with shares, or one of the simulator's mixes such as 16x24.
    #[arg(long, default_value = "64:0.15 24:0.45 8:0.4")]
    capacity: String,
    /// Milliseconds between two arrivals.
    #[arg(long, default_value_t = 50)]
    pause: u64,
    /// Rate of the coded stream; low, because all peers share this machine.
    #[arg(long, default_value = "200kbit")]
    rate: Bitrate,
    /// Publish nothing: the trees alone, where a machine is too slow for the chunks of all.
    #[arg(long)]
    silent: bool,
    /// Capacities are drawn from it, and what the simulator draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One swarm, real and simulated.
struct Pair {
    swarm: Shape,
    simulated: Shape,
    /// For both: seconds from the last arrival to the complete forest.
    completion: [Option<f64>; 2],
    /// For both: the median and the largest number of seconds a viewer took to have all stripes.
    viewers: [(f64, f64); 2],
    /// Viewers that never had all stripes while the swarm was built, in words.
    incomplete: Vec<String>,
    /// When both were looked at, from the start of the source.
    age: Duration,
    /// From then on until nobody was interior in two trees, if that came about.
    disjoint_after: Option<Duration>,
    /// Cores that the swarm kept busy while it was built and looked at, and that others did.
    cores: [f64; 2],
    mean_capacity: f64,
}

/// Builds the swarm, looks at it, and builds it again in the simulator.
pub(crate) async fn measure(options: Options) -> Result<Report> {
    let pair = compare(&options).await?;
    let title = format!(
        "forest: {} viewers, capacity {} (mean {:.1}), stream {}, 16 stripes, one process, \
         loopback, against the simulator with links of {ONE_WAY}",
        options.viewers,
        options.capacity,
        pair.mean_capacity,
        if options.silent { "silent".to_owned() } else { options.rate.to_string() }
    );
    let columns = ["swarm", "simulator", "ratio"].map(|name| Column { name, decimals: 2 });
    let mut report = Report::new(title, &columns);
    let mut row = |name, ours: Option<f64>, theirs: Option<f64>| {
        let ratio = ours.zip(theirs).filter(|(_, theirs)| *theirs > 0.0);
        report.row(name, vec![ours, theirs, ratio.map(|(ours, theirs)| ours / theirs)]);
    };
    for (name, ours, theirs) in figures(&pair.swarm, &pair.simulated) {
        row(name, Some(ours), Some(theirs));
    }
    let [ours, theirs] = pair.completion;
    row("seconds from the last arrival to the complete forest", ours, theirs);
    let [ours, theirs] = pair.viewers;
    row("seconds of a viewer to all stripes, median", Some(ours.0), Some(theirs.0));
    row("seconds of a viewer to all stripes, most", Some(ours.1), Some(theirs.1));

    report.goal("mean depths apart, as a share", pair.depths_apart(), GOAL_DEPTH);
    report.goal("viewers interior in 2 trees or more, difference", pair.overlaps_apart(), 0.0);
    report.goal("(viewer, stripe) pairs without a way to the source, either", pair.orphans(), 0.0);
    report.note(format!("mean/largest depth by tree, swarm:     {}", pair.swarm.trees()));
    report.note(format!("mean/largest depth by tree, simulator: {}", pair.simulated.trees()));
    if pair.swarm.overlapping() > 0 {
        report.note(match pair.disjoint_after {
            Some(after) => format!("the swarm was disjoint {:.1} s later", after.as_secs_f64()),
            None => format!("the swarm was still not disjoint {WATCH:?} later"),
        });
    }
    if !pair.incomplete.is_empty() {
        let late = pair.incomplete.len();
        report.note(format!("{late} viewers lacked a stripe 20 s after the last arrival"));
    }
    for viewer in pair.incomplete.iter().take(DESCRIBED) {
        report.note(viewer);
    }
    let (age, [own, others]) = (pair.age.as_secs_f64(), pair.cores);
    report.note(format!("both looked at {age:.1} s after the source began"));
    report.note(format!(
        "the swarm kept {own:.2} cores busy, others {others:.2}; load {}",
        meter::load()
    ));
    Ok(report)
}

impl Pair {
    fn depths_apart(&self) -> f64 {
        (self.swarm.mean / self.simulated.mean - 1.0).abs()
    }

    fn overlaps_apart(&self) -> f64 {
        as_f64(self.swarm.overlapping().abs_diff(self.simulated.overlapping()))
    }

    fn orphans(&self) -> f64 {
        as_f64(self.swarm.orphans + self.simulated.orphans)
    }
}

async fn compare(options: &Options) -> Result<Pair> {
    let stripes = StripeCount::DEFAULT;
    let plan = Plan::for_coded_rate(options.rate, Layering::Priority, stripes);
    let mut scenario = scenario(options, &plan);
    let seats = seats(&scenario, options.seed)?;
    let upload = |capacity: &u32| Bitrate(u64::from(*capacity) * plan.stripe_rate().0);
    let uploads: Vec<Bitrate> = seats.iter().map(upload).collect();
    ensure!(uploads.len() > 1, "a swarm has a source and at least one viewer");

    let pause = Duration::from_millis(options.pause);
    let (machine, cpu) = (Machine::now()?, process_cpu());
    let (source, viewers) = (uploads[0], uploads[1..].to_vec());
    let load = Load { source, viewers, pause, is_silent: options.silent };
    let mut swarm = Swarm::build_of(&plan, &load).await?;
    swarm.stream_for(REST).await?;
    let shape = settled(&mut swarm, stripes.len()).await?;
    let (age, arrival) = (swarm.age(), swarm.arrival);
    let cpu = process_cpu() - cpu;
    let others = Machine::now()?.since(&machine).other_cores(cpu, age);
    let disjoint_after = disjoint(&mut swarm, &shape, age).await?;
    let is_complete = swarm.viewers.iter().all(|viewer| viewer.watched().joined.is_some());
    let completion = is_complete.then(|| (swarm.build - arrival).as_secs_f64());
    let joined = swarm.viewers.iter().filter_map(|viewer| viewer.watched().joined);
    let mut joined: Vec<f64> = joined.map(|joined| joined.as_secs_f64()).collect();
    joined.sort_by(f64::total_cmp);
    let median = joined.get(joined.len() / 2).copied().unwrap_or(f64::NAN);
    let incomplete = std::mem::take(&mut swarm.incomplete);
    swarm.stop().await;

    scenario.population.arrive_over = Span(arrival);
    scenario.world.duration = Span(age);
    let result = simulate(&scenario, options.seed)?;
    let simulated = &result.build;
    let after = simulated.complete_after.map(|after| (after - arrival.as_secs_f64()).max(0.0));
    let capacity: u64 = seats[1..].iter().copied().map(u64::from).sum();
    Ok(Pair {
        swarm: shape,
        simulated: Shape::simulated(&result.forest),
        completion: [completion, after],
        viewers: [
            (median, joined.last().copied().unwrap_or(f64::NAN)),
            (simulated.node_complete.median(), simulated.node_complete.max()),
        ],
        incomplete,
        age,
        disjoint_after,
        cores: [cpu.as_secs_f64() / age.as_secs_f64(), others],
        mean_capacity: as_f64(capacity) / f64::from(options.viewers),
    })
}

/// The forest once every viewer has every stripe and nobody is on the way to another place.
async fn settled(swarm: &mut Swarm, stripes: usize) -> Result<Shape> {
    let give_up_at = swarm.age() + SETTLE_TIMEOUT;
    loop {
        let shape = Shape::of(&swarm.snapshots().await?, stripes);
        if shape.is_settled() || swarm.age() > give_up_at {
            return Ok(shape);
        }
        swarm.stream_for(LOOK).await?;
    }
}

/// How long after its `age` the swarm has nobody interior in two trees; `None` after [`WATCH`].
async fn disjoint(swarm: &mut Swarm, shape: &Shape, age: Duration) -> Result<Option<Duration>> {
    let mut overlapping = shape.overlapping();
    while overlapping > 0 {
        if swarm.age() > age + WATCH {
            return Ok(None);
        }
        swarm.stream_for(LOOK).await?;
        let snapshots = swarm.snapshots().await?;
        overlapping = Shape::of(&snapshots, shape.by_stripe.len()).overlapping();
    }
    Ok(Some(swarm.age() - age))
}

/// The swarm as the simulator is told of it.
fn scenario(options: &Options, plan: &Plan) -> Scenario {
    let stripes = plan.stripes().value();
    let mut scenario = Scenario::default();
    scenario.latency.model = LatencyModel::Constant;
    scenario.latency.one_way = ONE_WAY;
    scenario.links.enabled = false;
    scenario.population.nodes = options.viewers;
    scenario.population.capacity.clone_from(&options.capacity);
    scenario.broadcast.stripes = stripes.into();
    scenario.broadcast.stream_rate = plan.stripe_rate().0 * u64::from(stripes);
    scenario.broadcast.generation = Span(GENERATION);
    scenario.broadcast.publish_for = options.silent.then_some(Span::ZERO);
    scenario.measure.sample = SAMPLE;
    scenario
}

/// Children everybody may have, the source first, in the order in which they come.
fn seats(scenario: &Scenario, seed: u64) -> Result<Vec<u32>> {
    let mut population = Population::new(scenario, seed)?;
    let seats: Vec<_> = (0..=scenario.population.nodes).map(|_| population.seat()).collect();
    let takes_all = seats[1..].iter().all(|seat| seat.wanted == scenario.broadcast.stripes);
    ensure!(takes_all, "the real viewers want all stripes; choose a mix in which all do");
    Ok(seats.iter().map(|seat| seat.capacity).collect())
}

fn simulate(scenario: &Scenario, seed: u64) -> Result<RunResult> {
    let name = Name { scenario: "forest".to_owned(), variant: String::new(), seed };
    let result = run(scenario, &name, &mut |_| {})?;
    let is_finished = result.outcome == Outcome::Finished;
    ensure!(is_finished, "the simulated swarm broke an invariant: {:?}", result.outcome);
    Ok(result)
}
