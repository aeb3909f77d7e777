//! Small forests under random blows: whatever the timing, every checker holds, and once the world
//! is left alone everybody gets everything there is room for.
//!
//! A seed decides all: K, how many peers, their capacities, distances, losses, and what is done to
//! them when. `BANYAN_SEEDS=500` tries that many new ones, `BANYAN_SEEDS=1231..1232` those alone;
//! every seed of `seeds.txt` is tried first.

use std::ops::Range;

use banyan_sim::dice::Dice;
use banyan_sim::result::{ForestResult, Outcome, RunResult};
use banyan_sim::run::{Name, run};
use banyan_sim::scenario::{Deed, Event, LatencyModel, Mode, Scenario, Span, Who};

/// New seeds tried where nothing else is said: about a minute in a development build.
const DEFAULT_SEEDS: u64 = 24;
/// The first of them.
const FIRST_SEED: u64 = 1_000;
/// When the last blow falls.
const LAST_BLOW: u64 = 20_000;
/// When the run ends, in milliseconds: after the last blow, time to heal and to be found healed.
const END: u64 = 50_000;
/// Slots for each wish, where there have to be enough (DESIGN.md, section 9: a resource index of 1.05;
/// small forests are harder, since a slot more or less is some per cent).
const CLEARLY_MORE: f64 = 1.2;
/// Children of the source in each stripe.
const SOURCE_FANOUT: f64 = 2.0;

#[test]
fn every_checker_holds_for_every_seed_that_once_failed() {
    let lines = include_str!("seeds.txt").lines();
    let seeds = lines.map(|line| line.split('#').next().unwrap_or("").trim());
    let seeds = seeds.filter(|seed| !seed.is_empty());
    all_hold(seeds.map(|seed| seed.parse().expect("a seed is a number")));
}

#[test]
fn every_checker_holds_whatever_is_done_to_small_forests() {
    let seeds = match std::env::var("BANYAN_SEEDS") {
        Ok(text) => seeds_of(&text).expect("BANYAN_SEEDS is a number, or two as in 1231..1232"),
        Err(_) => FIRST_SEED..FIRST_SEED + DEFAULT_SEEDS,
    };
    all_hold(seeds);
}

/// So many seeds, or those from one to below another.
fn seeds_of(text: &str) -> Option<Range<u64>> {
    match text.split_once("..") {
        Some((first, end)) => Some(first.parse().ok()?..end.parse().ok()?),
        None => Some(FIRST_SEED..FIRST_SEED + text.parse::<u64>().ok()?),
    }
}

/// Plays the forests of `seeds`, and says of all that failed how: the seed first.
fn all_hold(seeds: impl Iterator<Item = u64>) {
    let failures: Vec<String> = seeds.filter_map(|seed| holds(seed).err()).collect();
    assert!(failures.is_empty(), "{} forests failed:\n{}", failures.len(), failures.join("\n"));
}

fn holds(seed: u64) -> Result<(), String> {
    let scenario = scenario(seed);
    let name = Name { scenario: "small".into(), seed, ..Name::default() };
    let result = run(&scenario, &name, &mut |_| {}).map_err(|error| format!("{seed}: {error}"))?;
    if let Outcome::Failed { what, .. } = &result.outcome {
        return Err(format!("seed {seed}: {what} [{}]", describe(&scenario)));
    }
    if let Some(first) = disjointness(&result).filter(|_| divides(&result)) {
        return Err(format!("seed {seed}: {first} [{}]", describe(&scenario)));
    }
    let ForestResult { orphans, supply, demand, .. } = result.forest;
    if orphans > 0 && is_supplied(&result) {
        let place = describe(&scenario);
        return Err(format!(
            "seed {seed}: {orphans} orphans at the end, {supply} slots for {demand} wishes [{place}]"
        ));
    }
    Ok(())
}

/// The first breach of disjointness, if there was one.
fn disjointness(result: &RunResult) -> Option<String> {
    let check = result.checks.iter().find(|check| check.name == "disjoint")?;
    (check.breaches > 0).then(|| format!("disjoint: {:?}", check.first))
}

/// Whether one primary stripe each is enough for those who are left: a greedy sharing-out of them
/// among the stripes, the strongest first, gives each clearly more than it needs.
fn divides(result: &RunResult) -> bool {
    let viewers = result.forest.viewers;
    viewers >= u32::from(result.stripes) && poorest(result) >= f64::from(viewers) * CLEARLY_MORE
}

/// The slots of the stripe that has fewest after such a sharing-out.
fn poorest(result: &RunResult) -> f64 {
    let mut stripes = vec![SOURCE_FANOUT; usize::from(result.stripes)];
    let capacities = &result.forest.capacities;
    let last = capacities.count.saturating_sub(1).max(1);
    for place in (0..capacities.count).rev() {
        // Of up to 101 numbers the percentiles name each.
        let percent = usize::try_from((place * 100 + last / 2) / last).expect("at most 100");
        if let Some(least) = stripes.iter_mut().min_by(|a: &&mut f64, b| a.total_cmp(b)) {
            *least += capacities.percentile(percent);
        }
    }
    stripes.into_iter().fold(f64::INFINITY, f64::min)
}

/// Whether what the live can give is clearly more than what they want.
fn is_supplied(result: &RunResult) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let (supply, demand) = (result.forest.supply as f64, result.forest.demand as f64);
    supply >= demand * CLEARLY_MORE
}

fn describe(scenario: &Scenario) -> String {
    let events = scenario.events.iter();
    let events: Vec<String> = events
        .map(|event| format!("{:?} {:?} at {} for {}", event.deed, event.who, event.at, event.span))
        .collect();
    format!(
        "K {}, {} peers of {}, up to {} + {}, loss {}, {}",
        scenario.broadcast.stripes,
        scenario.population.nodes,
        scenario.population.capacity,
        scenario.latency.max,
        scenario.latency.jitter,
        scenario.latency.loss,
        events.join(", ")
    )
}

fn scenario(seed: u64) -> Scenario {
    let mut dice = Dice::new(seed, "small forests");
    let mut scenario = Scenario::default();
    scenario.world.duration = Span::millis(END);
    scenario.broadcast.stripes = [4, 8, 16][dice.below(3)];
    // Re-ordering between connections comes from jitter far above the shortest delays.
    scenario.latency.model = LatencyModel::Uniform;
    scenario.latency.min = Span::millis(1);
    scenario.latency.max = Span::millis(5 + dice.bits() % 100);
    scenario.latency.jitter = Span::millis(dice.bits() % 20);
    scenario.latency.loss = [0.0, 0.0, 0.02][dice.below(3)];
    // Queues and congestion are other scenarios' subject; here it is the protocol.
    scenario.links.enabled = false;
    scenario.population.nodes = u32::try_from(2 + dice.bits() % 63).expect("small");
    scenario.population.arrive_over = Span::millis(dice.bits() % 6_000);
    scenario.population.capacity = capacities(&mut dice, scenario.broadcast.stripes);
    scenario.population.source_capacity = Some(2 * scenario.broadcast.stripes);
    scenario.population.has_manifest = dice.chance(0.5);
    let blows = dice.below(6);
    scenario.events = (0..blows).map(|_| blow(&mut dice)).collect();
    // Supply may run short after deaths, and then somebody must go without.
    scenario.check.liveness = Mode::Count;
    // Supply may not divide, and then somebody must serve two stripes: judged when all is known.
    scenario.check.disjoint = Mode::Count;
    scenario
}

/// Capacities around what is needed, some of them none at all.
fn capacities(dice: &mut Dice, stripes: u32) -> String {
    match dice.below(4) {
        0 => format!("{}:1", stripes + stripes / 8),
        1 => format!("{}:0.5 {}:0.4 0:0.1", 2 * stripes, stripes),
        2 => format!("{}:0.3 {}:0.4 0:0.3", 4 * stripes, stripes),
        _ => format!("{}:0.5 3:0.5", 3 * stripes),
    }
}

fn blow(dice: &mut Dice) -> Event {
    let deeds = [Deed::Kill, Deed::Kill, Deed::Leave, Deed::Join, Deed::Partition];
    let deed = deeds[dice.below(deeds.len())];
    let who = [Who::Random, Who::Topmost, Who::Busiest][dice.below(3)];
    let is_partition = deed == Deed::Partition;
    Event {
        at: Span::millis(3_000 + dice.bits() % (LAST_BLOW - 9_000)),
        deed,
        who: if is_partition { Who::Random } else { who },
        share: Some([0.05, 0.1, 0.25][dice.below(3)]),
        count: None,
        stripe: u8::try_from(dice.below(4)).expect("small"),
        span: Span::millis(500 + dice.bits() % 8_000),
        name: String::new(),
    }
}
