//! Which thresholds serve an audience best for what they cost.
//!
//! ```text
//!   maximise  Σ gain_l · P(m ≥ k_l)  −  bytes ÷ bytes_per_gain
//!   such that k_1 ≤ k_2 ≤ …,   k_l ≤ ceiling_l,   bytes = Σ K · ⌈length_l ÷ k_l⌉ ≤ budget
//! ```
//!
//! m is the number of descriptions that a viewer has in time. This is the assignment of Puri and
//! Ramchandran (1999) for a few layers of fixed size instead of an embedded stream, and it is solved
//! exactly: prefixes of the layers are extended one by one, and of those that end at the same
//! threshold only the ones are kept that no other beats in both bytes and gain (Nemhauser and
//! Ullmann, 1969). Without the budget a threshold for each layer would do; with it the prefixes
//! compete, and a hull of them (the usual Lagrangian) would miss some.
//!
//! Decides nothing about what an audience is like or what a layer is worth; that is
//! [`redundancy`](crate::redundancy)'s. Integers only, so every machine finds the same thresholds.

use banyan_wire::StripeCount;

/// Most layers that are optimised: a programme has two, and the work grows with K to this power.
pub const MAX_LAYERS: usize = 4;
/// Above so many bytes a unit of gain is worth any number of them.
const FREE: u64 = 1 << 50;

/// A layer as the optimiser sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its bytes before coding. Any unit will do, if it is the budget's.
    pub length: u64,
    /// What having it, and all layers before it, adds for a viewer; in units of the caller's.
    pub gain: u32,
    /// The highest threshold it may get; above K it is K. 0 makes the problem unsolvable.
    pub ceiling: u8,
}

/// What is to be optimised.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// K.
    pub stripes: StripeCount,
    /// The layers, base first. 1 … [`MAX_LAYERS`].
    pub layers: &'a [Candidate],
    /// How often 0, 1, … K descriptions were there in time. Entries that are missing count as 0,
    /// entries past K are ignored. Where all are 0 nothing is gained by anything.
    pub counts: &'a [u32],
    /// Most bytes of the coded generation, all K descriptions together.
    pub budget: u64,
    /// Bytes that a unit of gain for the whole audience is worth. From 2⁵⁰ on bytes are free up to
    /// the budget.
    pub bytes_per_gain: u64,
}

/// The best thresholds; `None` where none within the ceilings fit the budget, or there are no
/// layers or too many.
///
/// Among equally good ones those with the fewest bytes are taken, then the higher ones. For two
/// layers of 16 descriptions it takes microseconds.
#[must_use]
pub fn optimise(problem: &Problem<'_>) -> Option<Vec<u8>> {
    let Problem { stripes, layers, budget, .. } = *problem;
    if layers.is_empty() || layers.len() > MAX_LAYERS {
        return None;
    }
    let at_least = tails(stripes, problem.counts);
    // For each threshold the prefixes that end there; before the first layer, one that is empty.
    let mut ending: Vec<Vec<Prefix>> = vec![vec![Prefix::default()]];
    for (place, layer) in layers.iter().enumerate() {
        let ceiling = layer.ceiling.min(stripes.value());
        let mut extended = vec![Vec::new(); usize::from(stripes.value()) + 1];
        let mut open: Vec<Prefix> = ending.first().cloned().unwrap_or_default();
        for threshold in 1..=ceiling {
            let k = usize::from(threshold);
            if let Some(joining) = ending.get(k).filter(|joining| !joining.is_empty()) {
                open.extend(joining);
                keep_unbeaten(&mut open);
            }
            let bytes = coded_length(stripes, layer.length, threshold);
            let gain = u128::from(layer.gain) * u128::from(at_least[k]);
            let with = open.iter().map(|prefix| prefix.with(place, threshold, bytes, gain));
            extended[k] = with.filter(|prefix| prefix.bytes <= budget).collect();
        }
        ending = extended;
    }
    let total = at_least[0].max(1);
    let worth = |prefix: &Prefix| prefix.worth(problem.bytes_per_gain, total);
    let order = |a: &Prefix, b: &Prefix| {
        let by_worth = worth(a).cmp(&worth(b));
        by_worth.then(b.bytes.cmp(&a.bytes)).then(a.thresholds.cmp(&b.thresholds))
    };
    let best = ending.into_iter().flatten().max_by(order)?;
    Some(best.thresholds[..layers.len()].to_vec())
}

/// Bytes of all K descriptions of a layer, as [`encode`](crate::encode()) makes them.
#[must_use]
pub fn coded_length(stripes: StripeCount, length: u64, threshold: u8) -> u64 {
    let shard = length.div_ceil(u64::from(threshold.max(1)));
    let even = shard.saturating_add(shard % 2);
    even.saturating_mul(u64::from(stripes.value()))
}

/// For each k, how often at least k descriptions were there.
fn tails(stripes: StripeCount, counts: &[u32]) -> Vec<u64> {
    let mut at_least = vec![0; stripes.len() + 1];
    let mut sum = 0;
    for k in (0..=stripes.len()).rev() {
        sum += u64::from(counts.get(k).copied().unwrap_or(0));
        at_least[k] = sum;
    }
    at_least
}

/// Thresholds of the first layers, what they cost and what they bring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Prefix {
    bytes: u64,
    gain: u128,
    thresholds: [u8; MAX_LAYERS],
}

impl Prefix {
    fn with(&self, place: usize, threshold: u8, bytes: u64, gain: u128) -> Self {
        let mut thresholds = self.thresholds;
        thresholds[place] = threshold;
        Self { bytes: self.bytes.saturating_add(bytes), gain: self.gain + gain, thresholds }
    }

    /// What is maximised, times the audience and the bytes a gain is worth: gains are at most
    /// 4 · 2³² · 65 · 2³², so 2⁵⁰ times as much still fits.
    fn worth(&self, bytes_per_gain: u64, total: u64) -> i128 {
        let gain = i128::try_from(self.gain).unwrap_or(i128::MAX);
        let gain = gain.saturating_mul(i128::from(bytes_per_gain.min(FREE)));
        gain.saturating_sub(i128::from(self.bytes).saturating_mul(i128::from(total)))
    }
}

/// Drops every prefix that another beats in bytes and gain.
fn keep_unbeaten(prefixes: &mut Vec<Prefix>) {
    prefixes.sort_unstable_by(|a, b| {
        let by_cost = a.bytes.cmp(&b.bytes).then(b.gain.cmp(&a.gain));
        by_cost.then(b.thresholds.cmp(&a.thresholds))
    });
    let mut most = None;
    prefixes.retain(|prefix| {
        let is_better = most.is_none_or(|most| prefix.gain > most);
        if is_better {
            most = Some(prefix.gain);
        }
        is_better
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_time_of;

    const SIXTEEN: StripeCount = StripeCount::DEFAULT;

    /// Of 65,536 generations, so many had m of 16 descriptions where each is lost with
    /// `lost` ÷ 100.
    fn binomial(lost: u32) -> Vec<u32> {
        in_time_of(65_536.0, lost)
    }

    fn one_layer(lost: u32, budget: u64) -> Option<Vec<u8>> {
        let layers = [Candidate { length: 1_000_000, gain: 1, ceiling: 16 }];
        let counts = binomial(lost);
        let bytes_per_gain = 20_000_000;
        optimise(&Problem {
            stripes: SIXTEEN,
            layers: &layers,
            counts: &counts,
            budget,
            bytes_per_gain,
        })
    }

    #[test]
    fn the_more_is_lost_the_lower_the_threshold_until_the_budget_is_spent() {
        let chosen: Vec<_> = [0, 1, 5, 15].map(|lost| one_layer(lost, 2_000_000)).into();
        let wanted: Vec<_> = [16, 14, 12, 10].map(|k| Some(vec![k])).into();
        assert_eq!(chosen, wanted);
        assert_eq!(one_layer(15, 1_300_000), Some(vec![13]));
        assert_eq!(one_layer(15, 999_999), None);
    }

    #[test]
    fn a_poor_minority_gets_the_base_and_costs_the_others_little() {
        // One viewer in ten has half of the descriptions, the others have all.
        let mut counts = [0; 17];
        (counts[8], counts[16]) = (1, 9);
        let layers = [
            Candidate { length: 200, gain: 3, ceiling: 16 },
            Candidate { length: 800, gain: 1, ceiling: 16 },
        ];
        let problem = Problem {
            stripes: SIXTEEN,
            layers: &layers,
            counts: &counts,
            budget: 1_400,
            bytes_per_gain: 20_000,
        };
        assert_eq!(optimise(&problem), Some(vec![8, 16]));
    }

    #[test]
    fn what_makes_no_sense_has_no_solution() {
        let layer = Candidate { length: 1, gain: 1, ceiling: 16 };
        let solve = |layers: &[Candidate]| {
            let counts = [1];
            let (budget, bytes_per_gain) = (u64::MAX, 1);
            optimise(&Problem { stripes: SIXTEEN, layers, counts: &counts, budget, bytes_per_gain })
        };
        assert_eq!(solve(&[]), None);
        assert_eq!(solve(&[layer; MAX_LAYERS + 1]), None);
        assert_eq!(solve(&[Candidate { ceiling: 0, ..layer }]), None);
        assert_eq!(solve(&[layer, Candidate { ceiling: 0, ..layer }]), None);
    }

    #[test]
    fn numbers_of_any_size_are_borne() {
        let layer = Candidate { length: u64::MAX, gain: u32::MAX, ceiling: u8::MAX };
        let counts = [u32::MAX; 100];
        let problem = Problem {
            stripes: StripeCount::new(64).expect("a power of two"),
            layers: &[layer; 2],
            counts: &counts,
            budget: u64::MAX,
            bytes_per_gain: u64::MAX,
        };
        assert!(optimise(&problem).is_some());
    }
}
