//! Small forests under random blows: whatever the timing, every checker holds, and once the world
//! is left alone everybody gets everything there is room for.
//!
//! A seed decides all: K, how many peers, their capacities, distances, losses, and what is done to
//! them when. `BANYAN_SEEDS=500` tries that many new ones; every seed of `seeds.txt` is tried first.

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

#[test]
fn every_checker_holds_for_every_seed_that_once_failed() {
    let lines = include_str!("seeds.txt").lines();
    let seeds = lines.map(|line| line.split('#').next().unwrap_or("").trim());
    let seeds = seeds.filter(|seed| !seed.is_empty());
    all_hold(seeds.map(|seed| seed.parse().expect("a seed is a number")));
}

#[test]
fn every_checker_holds_whatever_is_done_to_small_forests() {
    let count = std::env::var("BANYAN_SEEDS").ok().and_then(|text| text.parse().ok());
    all_hold(FIRST_SEED..FIRST_SEED + count.unwrap_or(DEFAULT_SEEDS));
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

/// Whether one primary stripe each is enough: a greedy sharing-out of the peers among the stripes,
/// the strongest first, gives each half as much again as it needs, so that deaths leave enough.
fn divides(result: &RunResult) -> bool {
    let percentiles = &result.world.capacity.percentiles;
    let peers = result.world.capacity.count;
    let Some(last) = percentiles.len().checked_sub(1) else { return false };
    let mut stripes = vec![0.0; result.stripes as usize];
    for peer in (0..peers).rev() {
        let place =
            usize::try_from(peer).expect("small") * last / usize::try_from(peers).expect("small");
        if let Some(least) = stripes.iter_mut().min_by(|a: &&mut f64, b| a.total_cmp(b)) {
            *least += percentiles[place];
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 64")]
    let needed = peers as f64 * 1.5;
    peers >= u64::from(result.stripes) && stripes.iter().all(|slots| *slots >= needed)
}

/// Whether what the live can give is clearly more than what they want (DESIGN.md, section 9: a
/// resource index of 1.05; small forests are harder, since a slot more or less is some per cent).
fn is_supplied(result: &RunResult) -> bool {
    result.forest.supply * 10 >= result.forest.demand * 12
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
