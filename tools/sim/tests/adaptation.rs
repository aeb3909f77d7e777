//! Redundancy that follows what the audience receives, from its screens back to the source.

use std::path::Path;

use banyan_sim::result::RunResult;
use banyan_sim::run::{Name, run};
use banyan_sim::scenario::load;

/// Seconds in which the source has followed: 24 generations.
const FOLLOWED: f64 = 12.0;

/// Seeds of each variant: with one, a single description that came late to one of the viewers would
/// decide.
const SEEDS: u64 = 3;

/// Runs a variant of `adaptation.toml` with twenty viewers.
fn results(variant: &str) -> Vec<RunResult> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/adaptation.toml");
    let variants = load(&path).expect("a scenario of the repository");
    let variant = variants.into_iter().find(|other| other.name == variant).expect("is there");
    let mut scenario = variant.scenario;
    scenario.population.nodes = 20;
    let result = |seed| {
        let name = Name { scenario: "adaptation".into(), seed, ..Name::default() };
        run(&scenario, &name, &mut |_| {}).expect("a valid scenario")
    };
    (1..=SEEDS).map(result).collect()
}

/// A metric of a phase, of each seed: 2 is calm, 3 the beginning of the storm, 4 the storm, 6 calm
/// again.
fn each(results: &[RunResult], number: u32, what: &str) -> Vec<f64> {
    let name = format!("phase_{number}_{what}");
    results.iter().map(|run| run.metrics.get(&name).copied().unwrap_or(f64::NAN)).collect()
}

/// Its mean.
fn phase(results: &[RunResult], number: u32, what: &str) -> f64 {
    each(results, number, what).iter().sum::<f64>() / f64::from(u32::try_from(SEEDS).expect("few"))
}

#[test]
fn the_source_follows_its_audience_into_a_storm_and_out_again() {
    let adaptive = results("adaptive-1.7");
    let fixed = results("fixed");
    for calm in [2, 6] {
        let ratio = phase(&adaptive, calm, "coded_ratio");
        assert!(ratio <= 1.2, "phase {calm} costs {ratio}");
        let full = phase(&adaptive, calm, "full");
        assert!(full >= 0.998, "phase {calm}: {full} in full");
    }
    let followed = phase(&adaptive, 3, "followed");
    assert!(followed <= FOLLOWED, "followed after {followed} s");
    let (storm, before) = (phase(&adaptive, 4, "full"), phase(&fixed, 4, "full"));
    assert!(storm >= 0.98 && before <= 0.9, "full: {storm}, with fixed thresholds {before}");
    let base = phase(&adaptive, 4, "base");
    assert!(base >= 0.998, "base: {base}");
    let ratio = phase(&adaptive, 4, "coded_ratio");
    assert!(ratio <= 1.7, "the storm costs {ratio}");
    for number in 1..=6 {
        let base = each(&adaptive, number, "highest_base");
        let holds = base.iter().all(|base| *base <= 14.0);
        assert!(holds, "phase {number}: a base needs {base:?} of 16 descriptions");
    }
}

#[test]
fn the_low_rendition_needs_six_of_sixteen_whatever_happens() {
    let adaptive = results("ladder-adaptive-1.55");
    for number in 1..=6 {
        let base = each(&adaptive, number, "highest_base");
        let holds = base.iter().all(|base| *base <= 6.0);
        assert!(holds, "phase {number}: the low rendition needs {base:?} of 16");
        let shown = phase(&adaptive, number, "base");
        assert!(shown >= 0.999, "phase {number}: {shown} with a picture");
    }
    let ratio = phase(&adaptive, 4, "coded_ratio");
    assert!(ratio <= 1.55, "the storm costs {ratio}");
}
