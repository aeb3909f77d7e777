//! What redundancy a broadcast had, and how soon it followed what befell the audience.

use crate::measure::{ratio, seconds};
use crate::result::EventResult;

/// How one generation was coded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coded {
    /// When it was published.
    pub at: u64,
    /// Bytes of its layers.
    pub source: u64,
    /// Bytes of all its descriptions.
    pub coded: u64,
    /// Descriptions that give each layer back, base first.
    pub thresholds: Vec<u8>,
}

/// Coded over source of all of them; `None` of nothing.
#[must_use]
pub fn coded_ratio(generations: &[Coded]) -> Option<f64> {
    let source: u64 = generations.iter().map(|of| of.source).sum();
    let coded: u64 = generations.iter().map(|of| of.coded).sum();
    (source > 0).then(|| ratio(coded, source))
}

/// Writes what was sent from an event at `at` on into its result.
pub(super) fn close(coding: &[Coded], at: u64, result: &mut EventResult) {
    let after = &coding[coding.partition_point(|of| of.at < at)..];
    result.coded_ratio = coded_ratio(after);
    let Some(last) = after.last() else { return };
    result.thresholds.clone_from(&last.thresholds);
    let followed = after.iter().find(|of| of.thresholds.last() == last.thresholds.last());
    result.followed_after = followed.map(|of| seconds(of.at - at));
    result.highest_base = after.iter().filter_map(|of| of.thresholds.first().copied()).max();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_followed_when_the_threshold_of_its_end_is_first_used() {
        let generation = |at, full| Coded { at, source: 10, coded: 12, thresholds: vec![6, full] };
        let coding = [generation(1, 14), generation(2, 14), generation(3, 12), generation(4, 12)];
        let mut result = EventResult::default();
        close(&coding, 2, &mut result);
        assert_eq!(result.thresholds, [6, 12]);
        assert_eq!(result.highest_base, Some(6));
        assert!(result.followed_after.is_some_and(|after| (after - 1e-6).abs() < 1e-12));
        assert!(result.coded_ratio.is_some_and(|ratio| (ratio - 1.2).abs() < 1e-9));
        close(&coding, 5, &mut result);
        assert_eq!(result.coded_ratio, None);
    }
}
