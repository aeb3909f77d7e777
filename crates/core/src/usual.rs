//! What is usual for a time that is measured again and again: its mean and how far it strays.
//!
//! Follows RFC 6298, section 2, with its weights of 1/8 and 1/4. Departure: nothing is added for the
//! granularity of the clock; floors and ceilings are the callers'.

use std::time::Duration;

/// Mean and deviation; of nothing, both are zero.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usual {
    mean: Duration,
    deviation: Duration,
}

impl Usual {
    /// As after one measurement, of which it is not known how far it strays.
    pub(crate) fn of(first: Duration) -> Self {
        Self { mean: first, deviation: first / 2 }
    }

    /// Another measurement.
    pub(crate) fn note(&mut self, time: Duration) {
        let off = time.abs_diff(self.mean);
        self.deviation = (self.deviation * 3 + off) / 4;
        self.mean = (self.mean * 7 + time) / 8;
    }

    /// What it hardly ever exceeds: the mean and four deviations.
    pub(crate) fn bound(&self) -> Duration {
        self.mean + self.deviation * 4
    }
}
