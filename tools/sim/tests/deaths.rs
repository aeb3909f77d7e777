//! Many die at once: what the others lose, and for how long.

use banyan_sim::run::{Name, run};
use banyan_sim::scenario::{Mode, Scenario, load};

/// Every checker on, on a world of 200 viewers with an eighth more slots than wishes.
#[test]
fn a_quarter_of_the_viewers_dies_and_no_picture_stops_and_all_is_whole_within_fifteen_seconds() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/mass-failure.toml");
    let variants = load(path.as_ref()).expect("a scenario of the repository");
    let variant =
        variants.into_iter().find(|variant| variant.name == "16x18-ladder").expect("is there");
    let mut scenario: Scenario = variant.scenario;
    scenario.population.nodes = 200;
    scenario.check.liveness = Mode::Count;
    for seed in [1, 2] {
        let name = Name { scenario: "deaths".into(), seed, ..Name::default() };
        let result = run(&scenario, &name, &mut |_| {}).expect("a valid scenario");
        let metric = |name: &str| result.metrics.get(name).copied().unwrap_or(f64::NAN);
        assert!(metric("all_back") <= 15.0, "seed {seed}: back after {}", metric("all_back"));
        let freezes = metric("event_freezes");
        assert!(freezes < 1.0, "seed {seed}: {freezes} pictures stood still");
        assert!(metric("complete") >= 1.0, "seed {seed}: {}", metric("complete"));
    }
}
