//! Millions of durations in little memory: counts in steps of a millisecond.

use crate::result::Distribution;

/// Longest duration told apart, in milliseconds.
const LIMIT: usize = 60_000;

/// Durations by the millisecond.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u64,
}

impl Histogram {
    /// Adds a duration in microseconds.
    pub(crate) fn add(&mut self, micros: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; LIMIT + 1];
        }
        let millis = usize::try_from(micros / 1_000).unwrap_or(LIMIT).min(LIMIT);
        self.counts[millis] += 1;
        self.count += 1;
        self.sum += micros;
    }

    /// The distribution, in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub fn distribution(&self) -> Distribution {
        if self.count == 0 {
            return Distribution::default();
        }
        let mut wanted: Vec<u64> =
            (0..=100).map(|p| (p * 10 * (self.count - 1) + 500) / 1000).collect();
        wanted.push((999 * (self.count - 1) + 500) / 1000);
        let rank = |wanted: u64| {
            let mut seen = 0;
            let place = self.counts.iter().position(|count| {
                seen += count;
                seen > wanted
            });
            place.unwrap_or(LIMIT) as f64 / 1_000.0
        };
        let mut values: Vec<f64> = wanted.into_iter().map(rank).collect();
        let p999 = values.pop().unwrap_or_default();
        let mean = self.sum as f64 / self.count as f64 / 1e6;
        Distribution { count: self.count, mean, percentiles: values, p999 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_the_millisecond() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.distribution(), Distribution::default());
        (0..=1_000).for_each(|millis| histogram.add(millis * 1_000 + 300));
        let distribution = histogram.distribution();
        assert!((distribution.median() - 0.5).abs() < 1e-9);
        assert!((distribution.percentile(99) - 0.99).abs() < 1e-9);
        assert!((distribution.p999 - 0.999).abs() < 1e-9);
        assert!((distribution.mean - 0.5003).abs() < 1e-9);
    }
}
