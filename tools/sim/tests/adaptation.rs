//! Redundancy that follows what the audience receives, from its screens back to the source.

use std::path::Path;

use banyan_sim::result::RunResult;
use banyan_sim::run::{Name, run};
use banyan_sim::scenario::load;

/// Seconds in which the source has followed: 24 generations.
const FOLLOWED: f64 = 12.0;

/// Runs a variant of `adaptation.toml` with twenty viewers.
fn result(variant: &str) -> RunResult {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/adaptation.toml");
    let variants = load(&path).expect("a scenario of the repository");
    let variant = variants.into_iter().find(|other| other.name == variant).expect("is there");
    let mut scenario = variant.scenario;
    scenario.population.nodes = 20;
    let name = Name { scenario: "adaptation".into(), seed: 1, ..Name::default() };
    run(&scenario, &name, &mut |_| {}).expect("a valid scenario")
}

/// A metric of a phase: 2 is calm, 3 the beginning of the storm, 4 the storm, 6 calm again.
fn phase(result: &RunResult, number: u32, what: &str) -> f64 {
    let name = format!("phase_{number}_{what}");
    result.metrics.get(&name).copied().unwrap_or(f64::NAN)
}

#[test]
fn the_source_follows_its_audience_into_a_storm_and_out_again() {
    let adaptive = result("adaptive-1.7");
    let fixed = result("fixed");
    for calm in [2, 6] {
        let ratio = phase(&adaptive, calm, "coded_ratio");
        assert!(ratio <= 1.2, "phase {calm} costs {ratio}");
        let full = phase(&adaptive, calm, "full");
        assert!(full >= 0.999, "phase {calm}: {full} in full");
    }
    let followed = phase(&adaptive, 3, "followed");
    assert!(followed <= FOLLOWED, "followed after {followed} s");
    let (storm, before) = (phase(&adaptive, 4, "full"), phase(&fixed, 4, "full"));
    assert!(storm >= 0.98 && before <= 0.9, "full: {storm}, with fixed thresholds {before}");
    let base = phase(&adaptive, 4, "base");
    assert!(base >= 0.999, "base: {base}");
    let ratio = phase(&adaptive, 4, "coded_ratio");
    assert!(ratio <= 1.7, "the storm costs {ratio}");
    for number in 1..=6 {
        let base = phase(&adaptive, number, "highest_base");
        assert!(base <= 14.0, "phase {number}: a base needs {base} of 16 descriptions");
    }
}

#[test]
fn the_low_rendition_needs_six_of_sixteen_whatever_happens() {
    let adaptive = result("ladder-adaptive-1.55");
    for number in 1..=6 {
        let base = phase(&adaptive, number, "highest_base");
        assert!(base <= 6.0, "phase {number}: the low rendition needs {base} of 16");
        let shown = phase(&adaptive, number, "base");
        assert!(shown >= 0.999, "phase {number}: {shown} with a picture");
    }
    let ratio = phase(&adaptive, 4, "coded_ratio");
    assert!(ratio <= 1.55, "the storm costs {ratio}");
}
