//! A swarm whose machine is too slow for it: everything comes late, and in the end everything comes.

use banyan_sim::result::RunResult;
use banyan_sim::run::{Name, run};
use banyan_sim::scenario::{LatencyModel, Mode, Scenario, Span};

#[test]
fn a_crowd_on_one_busy_core_is_whole_and_serves_one_stripe_each() {
    for seed in [1, 2, 3] {
        let result = played(seed, 1);
        let metric = |name| result.metrics.get(name).copied().unwrap_or(f64::NAN);
        assert!(metric("machine_wait_max") > 0.1, "the core is busy: {:?}", result.world);
        assert!(metric("complete") >= 1.0, "seed {seed}: {}", metric("complete"));
        assert!(metric("disjoint_share") >= 1.0, "seed {seed}: {}", metric("disjoint_share"));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_on_a_busy_machine() {
    assert_eq!(played(7, 1).trace, played(7, 1).trace);
}

#[test]
fn more_cores_are_waited_for_less() {
    let longest = |cores| played(7, cores).world.machine_wait_max;
    let [one, two, many] = [1, 2, 64].map(longest);
    assert!(one > two && two > many, "{one} s, {two} s and {many} s");
}

/// Thirty-two viewers and the source on one machine, all of them at once.
fn played(seed: u64, cores: u32) -> RunResult {
    let mut scenario = Scenario::default();
    scenario.world.duration = Span::seconds(30);
    scenario.latency.model = LatencyModel::Constant;
    scenario.latency.one_way = Span::millis(1);
    scenario.links.enabled = false;
    scenario.population.nodes = 32;
    scenario.population.capacity = "16x24".into();
    scenario.population.has_manifest = true;
    scenario.machine.nodes = 33;
    scenario.machine.cores = cores;
    // While nobody knows yet how many they are, they share several.
    scenario.check.disjoint = Mode::Count;
    let name = Name { scenario: "busy".into(), seed, ..Name::default() };
    run(&scenario, &name, &mut |_| {}).expect("a valid scenario")
}
