//! From counters to a result: everything a run measured, and the flat names of its metrics.

use std::collections::BTreeMap;

use crate::dice::Dice;
use crate::forest::SOURCE;
use crate::measure::coding::coded_ratio;
use crate::measure::structure::{of, structure};
use crate::measure::{Meter, YOUNG, ratio, seconds};
use crate::node::{Index, Node};
use crate::result::{Build, Distribution, ExpectResult, Playback, RunResult, Traffic, WorldResult};
use crate::scenario::{Expect, Scenario};
use crate::world::World;

impl Meter {
    /// Writes what was measured into `result`.
    pub fn summarise<N: Node>(
        mut self,
        world: &World<N>,
        scenario: &Scenario,
        seed: u64,
        result: &mut RunResult,
    ) {
        self.close_event(world);
        result.world = world_result(world, scenario, seed);
        result.build = self.build(world);
        result.forest = structure(world);
        result.traffic = traffic(world, scenario);
        result.playback = playback(world);
        result.checks = world.checks.results();
        result.events = self.events.into_iter().map(|watched| watched.result).collect();
        result.series = self.series;
        result.coded_ratio = coded_ratio(&world.coding);
        result.metrics = metrics(result);
        let measured = |expect: &Expect| measure(expect, &result.metrics);
        result.expectations = scenario.expect.iter().map(measured).collect();
    }

    fn build<N: Node>(&self, world: &World<N>) -> Build {
        let forest = &world.forest;
        let nodes = (0..).zip(&self.complete_at);
        let times = nodes.filter_map(|(node, at)| Some((*at)? - forest.started_at(node)));
        let is_late = |node: &Index| {
            forest.started_at(*node) + YOUNG < world.now()
                && self.complete_at.get(*node as usize).is_none_or(Option::is_none)
        };
        let never = forest.viewers().filter(is_late).count();
        Build {
            complete_after: self.all_complete_at.map(seconds),
            node_complete: Distribution::of(times.map(seconds).collect()),
            never_complete: u32::try_from(never).unwrap_or(u32::MAX),
            first_picture: Distribution::of(world.screens.first_pictures(forest)),
            connections_opened: of(world.tally.opened.iter().skip(1).copied()),
            connections_accepted: of(world.tally.accepted.iter().skip(1).copied()),
        }
    }
}

fn world_result<N: Node>(world: &World<N>, scenario: &Scenario, seed: u64) -> WorldResult {
    let forest = &world.forest;
    let mut dice = Dice::new(seed, "pairs");
    let nodes = forest.len() as usize;
    let mut pick = || Index::try_from(dice.below(nodes)).unwrap_or(SOURCE);
    let pairs = if nodes > 1 { scenario.measure.pairs } else { 0 };
    let delays = (0..pairs).map(|_| seconds(world.latency.one_way(pick(), pick())) * 1e3);
    let all = || 1..forest.len();
    let supply: u64 = (0..forest.len()).map(|node| u64::from(forest.capacity(node))).sum();
    let demand: u64 = all().map(|node| u64::from(forest.wanted(node))).sum();
    WorldResult {
        latency_ms: Distribution::of(delays.collect()),
        capacity: of(all().map(|node| forest.capacity(node))),
        wanted: of(all().map(|node| forest.wanted(node))),
        resource_index: ratio(supply, demand.max(1)),
        machine_load: world.machine_load(),
        machine_wait_max: seconds(world.longest_wait()),
    }
}

fn traffic<N: Node>(world: &World<N>, scenario: &Scenario) -> Traffic {
    let tally = &world.tally;
    let gauges = || world.forest.viewers().filter_map(|node| Some(world.node(node)?.gauges()));
    let living = world.forest.viewers().map(|node| world.now() - world.forest.started_at(node));
    let lived = seconds(tally.lived + living.sum::<u64>());
    let programme = seconds(world.published() * scenario.broadcast.generation.micros());
    let coded = scenario.broadcast.stream_rate as f64 / 8.0 * programme;
    let all = tally.control_bytes + tally.data_bytes;
    Traffic {
        requests: of(tally.requests.iter().copied()),
        requests_histogram: doubling(&tally.requests),
        busiest_viewer: tally.requests.iter().skip(1).copied().max().unwrap_or(0),
        kinds: tally.kinds(),
        control_share: ratio(tally.control_bytes, all.max(1)),
        control_rate: tally.control_messages as f64 / lived.max(1e-6),
        expired: tally.expired,
        overflowed: tally.overflowed,
        recovered: tally.recovered,
        undelivered: tally.undelivered,
        source_factor: if coded > 0.0 { tally.source_bytes as f64 / coded } else { 0.0 },
        violations: tally.violations + gauges().map(|gauges| gauges.violations).sum::<u64>(),
        regenerated: tally.regenerated + gauges().map(|gauges| gauges.regenerated).sum::<u64>(),
    }
}

fn playback<N: Node>(world: &World<N>) -> Playback {
    Playback {
        arrival: world.tally.arrival.distribution(),
        delivered: ratio(world.tally.arrived, world.tally.due.max(1)),
        ..world.screens.result()
    }
}

/// (Upper end of the class, count): 0, 1, 2, 4, 8 …
fn doubling(values: &[u32]) -> Vec<(u64, u32)> {
    let mut classes: BTreeMap<u64, u32> = BTreeMap::new();
    for value in values {
        let class = if *value == 0 { 0 } else { u64::from(*value).next_power_of_two() };
        *classes.entry(class).or_default() += 1;
    }
    classes.into_iter().collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX).max(1))
}

/// Every number by a flat name. What was not measured is left out.
fn metrics(result: &RunResult) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let mut put = |name: &str, value: f64| {
        metrics.insert(name.to_owned(), value);
    };
    let RunResult { build, forest, traffic, playback, .. } = result;
    if let Some(after) = build.complete_after {
        put("complete_after", after);
    }
    put("resource_index", result.world.resource_index);
    put("machine_load", result.world.machine_load);
    put("machine_wait_max", result.world.machine_wait_max);
    put("never_complete", f64::from(build.never_complete));
    put("complete", forest.complete);
    put("orphans", ratio(forest.orphans, 1));
    put("depth_mean", forest.depth_mean);
    put("depth_max", f64::from(forest.depth_max));
    let interior = forest.interior_histogram.map(f64::from);
    let all: f64 = interior.iter().sum();
    put("disjoint_share", (interior[0] + interior[1]) / all.max(1.0));
    put("rmd_worst", forest.rmd.iter().copied().fold(0.0, f64::max));
    put("rad_worst", forest.rad.iter().copied().fold(0.0, f64::max));
    put("rad_mean", mean(&forest.rad));
    put("parent_rtt", forest.parent_rtt);
    if let Some(native) = forest.native_edges {
        put("native_edges", native);
    }
    put("requests_mean", traffic.requests.mean);
    put("requests_median", traffic.requests.median());
    put("requests_max", traffic.requests.max());
    put("requests_max_viewer", f64::from(traffic.busiest_viewer));
    put("requests_max_over_mean", traffic.requests.max() / traffic.requests.mean.max(1e-9));
    put("control_share", traffic.control_share);
    put("control_rate", traffic.control_rate);
    put("source_factor", traffic.source_factor);
    put("violations", ratio(traffic.violations, 1));
    if playback.played > 0 {
        put("continuity_base", playback.continuity_base);
        put("continuity_full", playback.continuity_full);
        put("viewers_with_freeze", playback.viewers_with_freeze);
        put("longest_freeze", f64::from(playback.longest_freeze));
    }
    put("delivered", playback.delivered);
    for (name, distribution) in [
        ("first_picture", &build.first_picture),
        ("node_complete", &build.node_complete),
        ("glass_to_glass", &playback.glass_to_glass),
        ("arrival", &playback.arrival),
        ("connections_opened", &build.connections_opened),
        ("connections_accepted", &build.connections_accepted),
        ("distance_error", &forest.distance_error),
        ("connections", &forest.connections),
        ("contacts", &forest.contacts),
        ("worst_loss", &forest.worst_loss),
        ("single_loss", &forest.single_loss),
        ("out_degree", &forest.out_degree),
    ] {
        if distribution.count > 0 {
            put(&format!("{name}_mean"), distribution.mean);
            put(&format!("{name}_median"), distribution.median());
            put(&format!("{name}_p99"), distribution.percentile(99));
            put(&format!("{name}_max"), distribution.max());
        }
    }
    event_metrics(result, &mut put);
    if let Some(ratio) = result.coded_ratio {
        put("coded_ratio", ratio);
    }
    put("steps", ratio(result.cost.steps, 1));
    put("steps_per_second", result.cost.steps_per_second);
    put("wall", result.cost.wall);
    for check in &result.checks {
        put(&format!("breaches_{}", check.name), ratio(check.breaches, 1));
    }
    metrics
}

/// The worst over all events, where they say anything.
fn event_metrics(result: &RunResult, put: &mut impl FnMut(&str, f64)) {
    let events = || result.events.iter();
    if result.events.is_empty() {
        return;
    }
    let all_back: Option<Vec<f64>> = events().map(|event| event.all_back).collect();
    if let Some(all_back) = all_back {
        put("all_back", all_back.into_iter().fold(0.0, f64::max));
    }
    let most = |of: fn(&crate::result::EventResult) -> f64| events().map(of).fold(0.0, f64::max);
    put("stripe_seconds_lost", most(|event| event.stripe_seconds_lost));
    put("worst_stripe_loss", most(|event| event.worst_stripe_loss));
    put("event_freezes", most(|event| ratio(event.freezes, 1)));
    let least = |of: fn(&crate::result::EventResult) -> f64| events().map(of).fold(1.0, f64::min);
    put("event_continuity_base", least(|event| event.continuity_base));
    put("event_continuity_full", least(|event| event.continuity_full));
    for (number, event) in (1..).zip(events()) {
        let mut put_of = |what: &str, value: Option<f64>| {
            if let Some(value) = value {
                put(&format!("phase_{number}_{what}"), value);
            }
        };
        put_of("coded_ratio", event.coded_ratio);
        put_of("base", event.coded_ratio.map(|_| event.continuity_base));
        put_of("full", event.coded_ratio.map(|_| event.continuity_full));
        put_of("followed", event.followed_after);
        put_of("highest_base", event.highest_base.map(f64::from));
    }
    put("rooted_after", least(|event| event.rooted_after));
    let rooted = events().map(|event| event.least_rooted).min().unwrap_or(0);
    put("least_rooted", f64::from(rooted));
}

fn measure(expect: &Expect, metrics: &BTreeMap<String, f64>) -> ExpectResult {
    let value = metrics.get(&expect.metric).copied();
    let is_met = value.is_some_and(|value| {
        expect.max.is_none_or(|max| value <= max) && expect.min.is_none_or(|min| value >= min)
    });
    ExpectResult {
        goal: expect.goal.clone(),
        metric: expect.metric.clone(),
        value,
        max: expect.max,
        min: expect.min,
        is_met,
        is_required: expect.required,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_classed_by_doubling() {
        assert_eq!(doubling(&[0, 1, 2, 3, 4, 5, 0]), [(0, 2), (1, 1), (2, 1), (4, 2), (8, 1)]);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let expect = Expect { metric: "luck".into(), max: Some(1.0), ..Expect::default() };
        assert!(!measure(&expect, &BTreeMap::new()).is_met);
        let metrics = BTreeMap::from([(String::from("luck"), 0.5)]);
        assert!(measure(&expect, &metrics).is_met);
        let expect = Expect { min: Some(0.6), ..expect };
        assert!(!measure(&expect, &metrics).is_met);
    }
}
