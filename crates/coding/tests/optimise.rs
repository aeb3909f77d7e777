//! The optimiser against all thresholds there are.

use banyan_coding::optimise::{Candidate, MAX_LAYERS, Problem, coded_length, optimise};
use banyan_wire::StripeCount;
use proptest::prelude::*;

fn stripes() -> impl Strategy<Value = StripeCount> {
    (0_u32..=4).prop_map(|bits| StripeCount::new(1 << bits).expect("a power of two"))
}

/// Layers that may be empty, worth nothing, or bound to a low threshold.
fn layers() -> impl Strategy<Value = Vec<Candidate>> {
    let length = prop_oneof![Just(0), 1_u64..40, 1_u64..100_000];
    let layer = (length, 0_u32..5, 1_u8..=16).prop_map(|(length, gain, ceiling)| Candidate {
        length,
        gain,
        ceiling,
    });
    prop::collection::vec(layer, 1..=MAX_LAYERS)
}

/// Distributions: anything, nobody, everybody at one number, two kinds of viewers.
fn counts() -> impl Strategy<Value = Vec<u32>> {
    let at = |places: Vec<(usize, u32)>| {
        let mut counts = vec![0; 17];
        places.into_iter().for_each(|(place, count)| counts[place] = count);
        counts
    };
    prop_oneof![
        prop::collection::vec(0_u32..1_000, 0..20),
        Just(Vec::new()),
        (0_usize..=16, 1_u32..9).prop_map(move |one| at(vec![one])),
        ((0_usize..=16, 1_u32..9), (0_usize..=16, 1_u32..900))
            .prop_map(move |(one, other)| at(vec![one, other])),
    ]
}

/// Everything that keeps the order and the ceilings.
fn all(problem: &Problem<'_>) -> Vec<Vec<u8>> {
    let mut prefixes = vec![Vec::new()];
    for layer in problem.layers {
        let ceiling = layer.ceiling.min(problem.stripes.value());
        let extend = |prefix: Vec<u8>| {
            let first = prefix.last().copied().unwrap_or(1);
            (first..=ceiling).map(move |k| [prefix.clone(), vec![k]].concat())
        };
        prefixes = prefixes.into_iter().flat_map(extend).collect();
    }
    prefixes
}

fn bytes(problem: &Problem<'_>, thresholds: &[u8]) -> u64 {
    let layers = problem.layers.iter().zip(thresholds);
    layers.map(|(layer, k)| coded_length(problem.stripes, layer.length, *k)).sum()
}

/// The objective, times the audience and the bytes a unit of gain is worth.
fn worth(problem: &Problem<'_>, thresholds: &[u8]) -> i128 {
    let counts: Vec<u32> = problem.counts.iter().take(problem.stripes.len() + 1).copied().collect();
    let at_least =
        |k: u8| counts.iter().skip(usize::from(k)).map(|count| i128::from(*count)).sum::<i128>();
    let gains = problem.layers.iter().zip(thresholds);
    let gain: i128 = gains.map(|(layer, k)| i128::from(layer.gain) * at_least(*k)).sum();
    gain * i128::from(problem.bytes_per_gain)
        - i128::from(bytes(problem, thresholds)) * at_least(0).max(1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_thresholds_within_the_budget_are_better(
        stripes in stripes(),
        layers in layers(),
        counts in counts(),
        tightness in 0_u64..=300,
        bytes_per_gain in prop_oneof![Just(0), 1_u64..1_000_000, Just(1 << 50)],
    ) {
        let source: u64 = layers.iter().map(|layer| layer.length).sum();
        // From nothing, which fits nothing, to three times the source.
        let budget = source * tightness / 100;
        let problem = Problem { stripes, layers: &layers, counts: &counts, budget, bytes_per_gain };
        let affordable: Vec<_> =
            all(&problem).into_iter().filter(|ks| bytes(&problem, ks) <= budget).collect();
        let best = affordable.iter().map(|ks| worth(&problem, ks)).max();
        let chosen = optimise(&problem);
        prop_assert_eq!(chosen.as_ref().map(|ks| worth(&problem, ks)), best);
        if let Some(chosen) = chosen {
            prop_assert!(affordable.contains(&chosen), "{chosen:?} is not among the possible ones");
            let cheapest = affordable.iter().filter(|ks| Some(worth(&problem, ks)) == best);
            let cheapest = cheapest.map(|ks| bytes(&problem, ks)).min();
            prop_assert_eq!(Some(bytes(&problem, &chosen)), cheapest);
        }
    }
}
