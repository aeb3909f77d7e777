//! Many die at once: what the others lose, and for how long.

use banyan_sim::run::{Name, run};
use banyan_sim::scenario::{Mode, Scenario, load};

/// Every checker on, on a world of 200 viewers with an eighth more slots than wishes.
#[test]
fn a_quarter_of_the_viewers_dies_and_the_others_are_whole_within_fifteen_seconds() {
    for_each_seed("16x18", |metric, seed| {
        assert!(metric("all_back") <= 15.0, "seed {seed}: back after {}", metric("all_back"));
        let base = metric("event_continuity_base");
        assert!(base >= 0.99, "seed {seed}: {base} of the generations after the deaths");
        assert!(metric("complete") >= 1.0, "seed {seed}: {}", metric("complete"));
    });
}

#[test]
fn no_picture_stops_when_a_quarter_dies_and_six_of_sixteen_descriptions_are_one() {
    for_each_seed("16x18-ladder", |metric, seed| {
        let freezes = metric("event_freezes");
        assert!(freezes < 1.0, "seed {seed}: {freezes} pictures stood still");
    });
}

/// Runs a variant of `mass-failure.toml` with 200 viewers, and shows its metrics by name.
fn for_each_seed(variant: &str, judge: impl Fn(&dyn Fn(&str) -> f64, u64)) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/mass-failure.toml");
    let variants = load(path.as_ref()).expect("a scenario of the repository");
    let variant = variants.into_iter().find(|other| other.name == variant).expect("is there");
    let mut scenario: Scenario = variant.scenario;
    scenario.population.nodes = 200;
    scenario.check.liveness = Mode::Count;
    for seed in [1, 2] {
        let name = Name { scenario: "deaths".into(), seed, ..Name::default() };
        let result = run(&scenario, &name, &mut |_| {}).expect("a valid scenario");
        judge(&|name| result.metrics.get(name).copied().unwrap_or(f64::NAN), seed);
    }
}
