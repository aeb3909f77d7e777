//! As many viewers as stripes: there is one way to share the stripes out, and it is found.
//!
//! Real swarms of sixteen on a busy machine stayed for minutes with one peer interior in two trees;
//! each cause of that is a seed here.

use banyan_sim::run::{Name, run};
use banyan_sim::scenario::{LatencyModel, Mode, Scenario, Span};

#[test]
fn sixteen_viewers_on_a_lan_serve_one_of_sixteen_stripes_each() {
    everybody_serves_one(&[1, 2, 7, 12, 16, 21], [1, 2, 0], 100);
}

#[test]
fn sixteen_viewers_at_home_serve_one_of_sixteen_stripes_each() {
    everybody_serves_one(&[1, 2, 7, 12, 16, 21], [10, 60, 5], 2_000);
}

/// Answers come so late that peers are taken for dead, and are not.
#[test]
fn sixteen_viewers_that_answer_late_serve_one_of_sixteen_stripes_each() {
    everybody_serves_one(&[2, 3, 6, 8, 12, 14, 18, 19], [5, 200, 60], 2_000);
}

/// The least and the largest delay, jitter, and the time of the arrivals are in milliseconds.
fn everybody_serves_one(seeds: &[u64], [least, most, jitter]: [u64; 3], arrivals: u64) {
    for &seed in seeds {
        let mut scenario = Scenario::default();
        scenario.world.duration = Span::seconds(40);
        scenario.latency.model = LatencyModel::Uniform;
        scenario.latency.min = Span::millis(least);
        scenario.latency.max = Span::millis(most);
        scenario.latency.jitter = Span::millis(jitter);
        scenario.links.enabled = false;
        scenario.population.nodes = 16;
        scenario.population.capacity = "16x32".into();
        scenario.population.arrive_over = Span::millis(arrivals);
        scenario.population.has_manifest = true;
        scenario.broadcast.publish_for = Some(Span::ZERO);
        // While the audience is smaller than the number of stripes they share several.
        scenario.check.disjoint = Mode::Count;
        let name = Name { scenario: "sixteen".into(), seed, ..Name::default() };
        let result = run(&scenario, &name, &mut |_| {}).expect("a valid scenario");
        let forest = &result.forest;
        assert_eq!(forest.orphans, 0, "seed {seed}: {:?}", forest.rooted_histogram);
        assert_eq!(result.metrics.get("disjoint_share"), Some(&1.0), "seed {seed}");
    }
}
