//! Redundancy that follows the audience: from what viewers had in time to the thresholds of the next
//! generation.
//!
//! ```text
//!   counts of viewers ──▶ smoothed ──▶ (1 − ε) p + ε · uniform ──▶ optimise ──▶ at most one up, ──▶ k
//!   lengths of layers ──▶ smoothed ───────────────────────────────────▲         any number down
//! ```
//!
//! Decides how fast what is heard is believed, what never happens (a base that fewer descriptions than
//! its floor promises cannot give back), what redundancy is worth, and what to do while nothing is
//! heard: the constants of [`thresholds`]. Time is counted in generations. Integers only.
//!
//! What counts as having been there in time is `banyan-core`'s; where the thresholds go is the
//! publisher's.

use std::fmt;

use banyan_wire::StripeCount;

use crate::optimise::{Candidate, MAX_LAYERS, Problem, coded_length, optimise};
use crate::thresholds;

/// Generations after which what was heard weighs half: 4 s of 500 ms, two periods of reports. A
/// guess: shorter follows single reports, longer is behind an evening's congestion.
pub const HALF_LIFE: u32 = 8;
/// Generations without a word from the audience after which its state counts as unknown: 30 s of
/// 500 ms, some periods of reports of the deepest forest.
pub const LAPSE: u32 = 60;
/// Of a thousand viewers so many are taken to have any number of descriptions, each as likely as
/// another: those who came since, and those whose reports are lost. More would buy the base a
/// threshold that nobody needs: with 20 it was 8 of 16 in a calm broadcast.
const UNIFORM_PERMILLE: u64 = 5;
/// A generation without the base is nothing, or a picture that stands still; one with the base alone
/// only looks worse. So the base is worth three times what everything else is. A guess.
const BASE_GAIN: u32 = 3;
const FULL_GAIN: u32 = 1;
/// All viewers' uplinks carry the redundancy: once more the bytes of the source are worth full quality
/// in one generation of so many. With 20 a single layer has the threshold that was measured to be
/// best, or one below it, at each rate of loss from 2 to 20 % (see [`thresholds`]).
const GENERATIONS_PER_SOURCE: u64 = 20;
/// Coded ÷ source that a calm broadcast may cost, in thousandths; bounds the floor of the base. With
/// what pads shards of small generations it stays within 1.2.
const CALM_PERMILLE: u64 = 1_195;
/// Generations over which lengths of layers are smoothed: some groups of pictures.
const LENGTH_MEMORY: u64 = 32;

/// 1 in smoothed shares.
const ONE: u64 = 1 << 24;
/// 2^(−1 ÷ [`HALF_LIFE`]), in 65,536ths.
const KEEP: u64 = 60_097;
/// Lengths are smoothed with so many binary places, and cut off where that would overflow.
const LENGTH_BITS: u32 = 8;
const MAX_LENGTH: u64 = 1 << 32;

/// How many times the bytes of the source: 1.25 is five bytes sent for four of programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(u32);

impl Ratio {
    /// 1: no redundancy.
    pub const ONE: Self = Self(1_000);

    /// From thousandths.
    #[must_use]
    pub const fn from_permille(permille: u32) -> Self {
        Self(permille)
    }

    /// In thousandths.
    #[must_use]
    pub const fn permille(self) -> u32 {
        self.0
    }

    /// So many coded bytes for so many of the source, rounded down; `None` of no source.
    #[must_use]
    pub fn of(coded: u64, source: u64) -> Option<Self> {
        let permille = u128::from(coded) * 1_000;
        let permille = permille.checked_div(u128::from(source))?;
        Some(Self(u32::try_from(permille).unwrap_or(u32::MAX)))
    }

    /// So many times `bytes`.
    #[must_use]
    pub fn times(self, bytes: u64) -> u64 {
        let product = u128::from(bytes) * u128::from(self.0) / 1_000;
        u64::try_from(product).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

/// What the layers hold, as far as redundancy is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// One layer.
    Single,
    /// Sound and key pictures, then the rest.
    Priority,
    /// Sound and the low rendition, then the full one.
    Ladder,
}

impl Plan {
    /// The thresholds used while nothing is known of the audience, and for good where redundancy is
    /// fixed: those of [`thresholds`].
    #[must_use]
    pub fn defaults(self, stripes: StripeCount) -> Vec<u8> {
        match self {
            Self::Single => vec![thresholds::single(stripes)],
            Self::Priority => thresholds::priority(stripes).to_vec(),
            Self::Ladder => thresholds::ladder(stripes).to_vec(),
        }
    }

    /// The budget where none is given: 1.35, and 1.55 for two renditions.
    #[must_use]
    pub const fn default_budget(self) -> Ratio {
        match self {
            Self::Single | Self::Priority => Ratio(1_350),
            Self::Ladder => Ratio(1_550),
        }
    }

    const fn gains(self) -> &'static [u32] {
        match self {
            Self::Single => &[BASE_GAIN + FULL_GAIN],
            Self::Priority | Self::Ladder => &[BASE_GAIN, FULL_GAIN],
        }
    }

    /// The highest thresholds, however calm the broadcast is: those of the base are its floor.
    ///
    /// - Everything above the base: ⌈14/16 K⌉, so that two lost descriptions of 16, one death at the
    ///   top of two trees, cost nothing before anybody has reported them.
    /// - The base of one rendition: ⌈12/16 K⌉, or the next that keeps a calm broadcast within
    ///   1.2 × the source (where the base is most of the bytes, as in one layer, that is ⌈14/16 K⌉ too).
    /// - The low rendition: ⌈6/16 K⌉, for those who have few stripes.
    ///
    /// Below K = 8 there is no room for any of this and the defaults are the ceilings.
    fn ceilings(self, stripes: StripeCount, lengths: &[u64]) -> Vec<u8> {
        let sixteenths =
            |share: u32| u8::try_from((share * u32::from(stripes.value())).div_ceil(16));
        let (Ok(least), Ok(calm)) = (sixteenths(12), sixteenths(14)) else {
            return self.defaults(stripes);
        };
        if stripes.value() < 8 {
            return self.defaults(stripes);
        }
        match self {
            Self::Single => vec![calm],
            Self::Ladder => vec![thresholds::ladder(stripes)[0], calm],
            Self::Priority => {
                let source = lengths.iter().fold(0_u64, |sum, length| sum.saturating_add(*length));
                let most = u128::from(source) * u128::from(CALM_PERMILLE) / 1_000;
                let cost = |base: u8| cost(stripes, lengths, &[base, calm]);
                let fits = |base: &u8| u128::from(cost(*base)) <= most;
                vec![(least..calm).find(fits).unwrap_or(calm), calm]
            }
        }
    }
}

/// Chooses the thresholds of each generation. The [module documentation](self) draws how.
///
/// ```
/// use banyan_coding::redundancy::{Plan, Redundancy};
/// use banyan_wire::StripeCount;
///
/// let plan = Plan::Priority;
/// let mut redundancy = Redundancy::adaptive(StripeCount::DEFAULT, plan, plan.default_budget());
/// // Nobody has said anything yet.
/// assert_eq!(redundancy.thresholds(&[10_000, 30_000]), [11, 13]);
/// // All hundred viewers have had 16 of 16 for some generations.
/// let mut counts = [0; 17];
/// counts[16] = 400;
/// redundancy.on_reception(&counts);
/// assert_eq!(redundancy.thresholds(&[10_000, 30_000]), [12, 14]);
/// ```
#[derive(Clone, Debug)]
pub struct Redundancy {
    stripes: StripeCount,
    plan: Plan,
    /// `None` where the thresholds are fixed.
    budget: Option<Ratio>,
    /// Smoothed share of viewers that had 0, 1, … K descriptions, in parts of [`ONE`]; empty while
    /// nothing is known.
    shares: Vec<u64>,
    /// Generations since the audience was heard.
    silent_for: u32,
    /// Smoothed lengths of the layers.
    lengths: Vec<u64>,
    current: Vec<u8>,
}

impl Redundancy {
    /// Thresholds that follow the audience, for at most `budget` times the bytes of the source, on
    /// the average of some groups of pictures. A budget below what the floors take is exceeded:
    /// 1.15 for one layer, up to 1.2 for a base and the rest, about 1.35 for two renditions.
    #[must_use]
    pub fn adaptive(stripes: StripeCount, plan: Plan, budget: Ratio) -> Self {
        Self { budget: Some(budget), ..Self::fixed(stripes, plan) }
    }

    /// The plan's [defaults](Plan::defaults), whatever is heard.
    #[must_use]
    pub fn fixed(stripes: StripeCount, plan: Plan) -> Self {
        Self {
            stripes,
            plan,
            budget: None,
            shares: Vec::new(),
            silent_for: 0,
            lengths: Vec::new(),
            current: plan.defaults(stripes),
        }
    }

    /// What viewers had in time since the last call: `counts[m]` generations with m descriptions,
    /// over all viewers. Entries past K count as K; where all are 0, nothing was heard.
    ///
    /// Halves the weight of everything before for each [`HALF_LIFE`] generations since.
    pub fn on_reception(&mut self, counts: &[u32]) {
        let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        if total == 0 || self.budget.is_none() {
            return;
        }
        let mut heard = vec![0; self.stripes.len() + 1];
        for (m, count) in counts.iter().enumerate() {
            heard[m.min(self.stripes.len())] += u64::from(*count) * ONE / total;
        }
        if self.shares.is_empty() {
            self.shares = heard;
        } else {
            let keep = (0..self.silent_for).fold(1 << 16, |keep, _| (keep * KEEP) >> 16);
            for (share, heard) in self.shares.iter_mut().zip(heard) {
                *share = (*share * keep + heard * ((1 << 16) - keep)) >> 16;
            }
        }
        self.silent_for = 0;
    }

    /// The thresholds of the next generation, one for each layer; to be called once for each, with
    /// the bytes of its layers before coding.
    ///
    /// They rise by at most 1 from one generation to the next, and fall at once as far as they must.
    /// Always 1 … K, and in order.
    pub fn thresholds(&mut self, lengths: &[usize]) -> Vec<u8> {
        let Some(budget) = self.budget else { return self.current.clone() };
        self.note_lengths(lengths);
        self.silent_for = self.silent_for.saturating_add(1);
        if self.silent_for > LAPSE {
            self.shares.clear();
        }
        let ceilings = self.plan.ceilings(self.stripes, &self.lengths);
        let source = self.lengths.iter().fold(0_u64, |sum, length| sum.saturating_add(*length));
        let budget = budget.times(source);
        let target = if self.shares.is_empty() {
            self.affordable_defaults(&ceilings, budget)
        } else {
            self.optimum(&ceilings, budget, source)
        };
        let steps = self.current.iter().zip(target).zip(ceilings);
        self.current = steps.map(|((now, next), ceiling)| next.min(now + 1).min(ceiling)).collect();
        self.current.clone()
    }

    /// The thresholds that [`thresholds`](Self::thresholds) gave last.
    #[must_use]
    pub fn current(&self) -> &[u8] {
        &self.current
    }

    /// The most the stream may come to, coded ÷ source: the budget, or what fixed thresholds or the
    /// floors take where that is more. What is planned by it bears whatever is chosen later.
    #[must_use]
    pub fn bound(&self, lengths: &[u64]) -> Ratio {
        let source = lengths.iter().fold(0_u64, |sum, length| sum.saturating_add(*length));
        let least = match self.budget {
            Some(_) => self.plan.ceilings(self.stripes, lengths),
            None => self.current.clone(),
        };
        let least = Ratio::of(cost(self.stripes, lengths, &least), source).unwrap_or(Ratio::ONE);
        self.budget.map_or(least, |budget| budget.max(least))
    }

    /// Keeps a decaying mean of the layers' lengths; the first ones count in full.
    fn note_lengths(&mut self, lengths: &[usize]) {
        let layers = self.current.len().min(MAX_LAYERS);
        let is_first = self.lengths.is_empty();
        self.lengths.resize(layers, 0);
        for (place, mean) in self.lengths.iter_mut().enumerate() {
            let length = lengths.get(place).copied().unwrap_or(0) as u64;
            let length = length.min(MAX_LENGTH) << LENGTH_BITS;
            *mean = if is_first {
                length
            } else {
                (*mean * (LENGTH_MEMORY - 1) + length) / LENGTH_MEMORY
            };
        }
    }

    /// The best thresholds for what is known; the cheapest there are where the budget bears none.
    fn optimum(&self, ceilings: &[u8], budget: u64, source: u64) -> Vec<u8> {
        let anybody = ONE * UNIFORM_PERMILLE / 1_000 / (self.stripes.len() as u64 + 1);
        let counts: Vec<u32> = self
            .shares
            .iter()
            .map(|share| share * (1_000 - UNIFORM_PERMILLE) / 1_000 + anybody)
            .map(|share| u32::try_from(share).unwrap_or(u32::MAX))
            .collect();
        let layers: Vec<Candidate> = self
            .lengths
            .iter()
            .zip(self.plan.gains())
            .zip(ceilings)
            .map(|((length, gain), ceiling)| Candidate {
                length: *length,
                gain: *gain,
                ceiling: *ceiling,
            })
            .collect();
        let problem = Problem {
            stripes: self.stripes,
            layers: &layers,
            counts: &counts,
            budget,
            bytes_per_gain: source.saturating_mul(GENERATIONS_PER_SOURCE),
        };
        optimise(&problem).unwrap_or_else(|| ceilings.to_vec())
    }

    /// The defaults, less protected as far as the budget asks for it: the last layer first.
    fn affordable_defaults(&self, ceilings: &[u8], budget: u64) -> Vec<u8> {
        let mut chosen = self.plan.defaults(self.stripes);
        for place in (0..chosen.len()).rev() {
            while cost(self.stripes, &self.lengths, &chosen) > budget
                && chosen[place] < ceilings[place]
            {
                chosen[place] += 1;
            }
        }
        chosen
    }
}

/// Bytes of all descriptions.
fn cost(stripes: StripeCount, lengths: &[u64], thresholds: &[u8]) -> u64 {
    let layers = lengths.iter().zip(thresholds);
    layers.fold(0, |sum: u64, (length, threshold)| {
        sum.saturating_add(coded_length(stripes, *length, *threshold))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_time_of;

    const SIXTEEN: StripeCount = StripeCount::DEFAULT;
    /// Sound and key pictures are a little more than a quarter of a usual stream.
    const LENGTHS: [usize; 2] = [27_000, 73_000];

    /// What viewers say of so many generations where each description is late with `lost` ÷ 100.
    fn heard(lost: u32) -> Vec<u32> {
        in_time_of(100_000.0, lost)
    }

    /// Lets `generations` pass, with a report after every fourth.
    fn pass(redundancy: &mut Redundancy, generations: u32, counts: &[u32]) -> Vec<Vec<u8>> {
        let each = |n| {
            if n % 4 == 0 {
                redundancy.on_reception(counts);
            }
            redundancy.thresholds(&LENGTHS)
        };
        (0..generations).map(each).collect()
    }

    fn ratio(thresholds: &[u8]) -> Ratio {
        let lengths = LENGTHS.map(|length| length as u64);
        Ratio::of(cost(SIXTEEN, &lengths, thresholds), 100_000).expect("there is a source")
    }

    fn priority(permille: u32) -> Redundancy {
        Redundancy::adaptive(SIXTEEN, Plan::Priority, Ratio::from_permille(permille))
    }

    #[test]
    fn without_a_word_from_viewers_the_measured_constants_hold() {
        for plan in [Plan::Single, Plan::Priority, Plan::Ladder] {
            let mut redundancy = Redundancy::adaptive(SIXTEEN, plan, plan.default_budget());
            let base = if plan == Plan::Ladder { 15_000 } else { 27_000 };
            for _ in 0..200 {
                let chosen = redundancy.thresholds(&[base, 100_000 - base]);
                assert_eq!(chosen, plan.defaults(SIXTEEN));
            }
        }
    }

    #[test]
    fn a_calm_broadcast_costs_at_most_a_fifth_more_than_its_source() {
        for plan in [Plan::Single, Plan::Priority] {
            // From a little sound to nothing but sound.
            for base in [0, 10_000, 27_000, 50_000, 80_000, 100_000] {
                let lengths = match plan {
                    Plan::Single => vec![100_000],
                    Plan::Priority | Plan::Ladder => vec![base, 100_000 - base],
                };
                let mut redundancy = Redundancy::adaptive(SIXTEEN, plan, Ratio(1_350));
                let mut last = Vec::new();
                for _ in 0..30 {
                    redundancy.on_reception(&heard(1));
                    last = redundancy.thresholds(&lengths);
                }
                let lengths: Vec<u64> = lengths.iter().map(|length| *length as u64).collect();
                let coded = cost(SIXTEEN, &lengths, &last);
                assert!(coded <= 120_000, "{plan:?}, base {base}: {last:?} is {coded} of 100,000");
            }
        }
    }

    #[test]
    fn what_is_lost_is_made_up_for_within_the_budget_and_given_up_again_in_a_calm() {
        let mut redundancy = priority(1_700);
        pass(&mut redundancy, 100, &heard(1));
        let calm = redundancy.current().to_vec();
        assert_eq!(calm, [12, 14]);
        let storm = pass(&mut redundancy, 24, &heard(15));
        let at = storm.iter().position(|k| k[1] <= 10).expect("it follows within 12 s");
        assert!(at <= 12, "after {at} generations");
        let last = storm.last().expect("there are some");
        assert!(last[0] <= 9 && ratio(last) <= Ratio(1_700), "{last:?}");
        let after = pass(&mut redundancy, 120, &heard(1));
        assert_eq!(after.last(), Some(&calm));
    }

    #[test]
    fn a_tight_budget_protects_the_base_first() {
        let mut redundancy = priority(1_350);
        let storm = pass(&mut redundancy, 60, &heard(15));
        let last = storm.last().expect("there are some");
        assert!(last[0] <= 10, "{last:?}");
        assert!(ratio(last) <= Ratio(1_350), "{last:?}");
    }

    #[test]
    fn a_poor_minority_is_not_forgotten() {
        let mut counts = vec![0; 17];
        (counts[6], counts[16]) = (5, 95);
        let mut redundancy = priority(1_700);
        let last = pass(&mut redundancy, 40, &counts).pop().expect("there are some");
        assert_eq!(last, [6, 14]);
    }

    #[test]
    fn thresholds_rise_by_one_a_generation_and_fall_at_once() {
        let mut redundancy = priority(2_000);
        redundancy.on_reception(&heard(30));
        let low = redundancy.thresholds(&LENGTHS);
        assert!(low[1] <= 9, "{low:?}");
        // Nobody loses anything any more, and everything before is forgotten.
        redundancy.silent_for = 1_000;
        redundancy.on_reception(&heard(0));
        let rising = pass(&mut redundancy, 10, &heard(0));
        for (n, pair) in rising.windows(2).enumerate() {
            assert!(pair[1].iter().zip(&pair[0]).all(|(next, now)| *next <= now + 1), "{n}");
        }
        assert_eq!(rising.last().map(Vec::as_slice), Some(&[12, 14][..]));
    }

    #[test]
    fn an_audience_that_falls_silent_is_taken_to_be_unknown_again() {
        let mut redundancy = priority(2_000);
        redundancy.on_reception(&heard(30));
        redundancy.thresholds(&LENGTHS);
        for _ in 0..LAPSE + 10 {
            redundancy.thresholds(&LENGTHS);
        }
        assert_eq!(redundancy.current(), [11, 13]);
    }

    #[test]
    fn fixed_redundancy_hears_nobody() {
        let mut redundancy = Redundancy::fixed(SIXTEEN, Plan::Ladder);
        assert!(pass(&mut redundancy, 20, &heard(40)).iter().all(|k| k == &[6, 13]));
        assert_eq!(redundancy.bound(&[0, 13_000]), Ratio(1_000 * 16 / 13));
    }

    #[test]
    fn a_budget_below_the_floors_does_not_lower_them() {
        let mut redundancy = priority(1_000);
        assert_eq!(redundancy.thresholds(&LENGTHS), [12, 14]);
        for lost in [0, 50, 100] {
            let chosen = pass(&mut redundancy, 50, &heard(lost));
            assert!(chosen.iter().all(|k| k[0] <= 12 && k[1] <= 14), "{lost} % lost");
        }
        let lengths = LENGTHS.map(|length| length as u64);
        assert_eq!(redundancy.bound(&lengths), ratio(&[12, 14]));
    }

    #[test]
    fn the_half_life_is_what_it_says() {
        let kept = (0..HALF_LIFE).fold(1_u64 << 16, |keep, _| (keep * KEEP) >> 16);
        assert!(kept.abs_diff(1 << 15) < 16, "{kept}");
    }
}
