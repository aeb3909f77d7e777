//! The same scenario and seed give the same run, step by step.

use banyan_sim::result::RunResult;
use banyan_sim::run::{Name, run};
use banyan_sim::scenario::{Churn, LatencyModel, Mode, Scenario, Sessions, Span};

#[test]
fn the_same_seed_gives_the_same_trace() {
    let (first, second) = (played(7), played(7));
    assert!(first.cost.steps > 10_000, "something happens: {} steps", first.cost.steps);
    assert_eq!(first.trace, second.trace);
    assert_eq!(first.cost.steps, second.cost.steps);
    let kinds = |run: &RunResult| {
        let kinds = run.traffic.kinds.iter();
        kinds.map(|kind| (kind.kind.clone(), kind.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&first), kinds(&second));
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(played(7).trace, played(8).trace);
}

#[test]
fn baselines_repeat_themselves_as_well() {
    for kind in ["paper", "freepastry"] {
        let once = || {
            let mut scenario = scenario();
            scenario.overlay.kind = kind.into();
            scenario.population.churn = None;
            run(&scenario, &Name::default(), &mut |_| {}).expect("a valid scenario").trace
        };
        assert_eq!(once(), once(), "{kind}");
    }
}

fn played(seed: u64) -> RunResult {
    let name = Name { seed, ..Name::default() };
    run(&scenario(), &name, &mut |_| {}).expect("a valid scenario")
}

/// Everything random at once: places, jitter, losses, links, churn.
fn scenario() -> Scenario {
    let mut scenario = Scenario::default();
    scenario.world.duration = Span::seconds(12);
    scenario.latency.model = LatencyModel::Regions;
    scenario.latency.jitter = Span::millis(1);
    scenario.latency.loss = 0.01;
    scenario.nat.cone = 0.2;
    scenario.nat.hole_punching = 0.5;
    scenario.population.nodes = 60;
    scenario.population.capacity = "32:0.4 16:0.5 0:0.1".into();
    scenario.population.churn = Some(Churn {
        sessions: Sessions::Lognormal,
        session: Span::seconds(8),
        sigma: 1.0,
        off: Span::seconds(1),
        graceful: 0.5,
        from: Span::seconds(2),
        until: None,
    });
    // What is asked here is whether runs repeat, breaches included.
    for mode in [
        &mut scenario.check.node,
        &mut scenario.check.acyclic,
        &mut scenario.check.capacity,
        &mut scenario.check.disjoint,
        &mut scenario.check.liveness,
    ] {
        *mode = Mode::Count;
    }
    scenario
}
