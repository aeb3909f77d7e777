//! How fast a coded stream is, so that peers can tell how many children they bear.
//!
//! Decides when the manifest's stripe rate is worth changing: seldom, because every change moves
//! the capacity of every peer.

use std::collections::VecDeque;

use banyan_media::Generation;
use banyan_wire::{MediaTime, StripeCount};

/// Programme over which the rate is averaged: ten key picture intervals of two seconds.
const WINDOW_TICKS: i64 = 20 * MediaTime::HZ;
/// Programme seen before a first estimate counts.
const SETTLED_TICKS: i64 = 2 * MediaTime::HZ;
/// Added to the average, in percent: headers, hashes and the transport.
const MARGIN_PERCENT: u64 = 5;

/// Bits per second of one stripe, from the generations published lately.
#[derive(Debug, Default)]
pub(crate) struct RateEstimate {
    window: VecDeque<(i64, u64)>,
    ticks: i64,
    bytes: u64,
    announced: u64,
}

impl RateEstimate {
    /// Begins with a rate that is known already.
    pub(crate) fn known(rate: u64) -> Self {
        Self { announced: rate, ..Self::default() }
    }

    /// Takes note of a generation, whose descriptions have `bytes` each. Returns the rate to announce, where that has changed by
    /// more than a quarter.
    pub(crate) fn note(&mut self, generation: &Generation, bytes: u64) -> Option<u64> {
        let ticks = generation.duration.clamp(0, WINDOW_TICKS);
        self.window.push_back((ticks, bytes));
        self.ticks += ticks;
        self.bytes += bytes;
        while self.ticks > WINDOW_TICKS
            && let Some((ticks, bytes)) = self.window.pop_front()
        {
            self.ticks -= ticks;
            self.bytes -= bytes;
        }
        if self.ticks < SETTLED_TICKS {
            return None;
        }
        let rate = stripe_rate(self.bytes, self.ticks);
        let is_far = rate * 4 > self.announced * 5 || rate * 4 < self.announced * 3;
        is_far.then(|| {
            self.announced = rate;
            rate
        })
    }
}

/// The rate of a stripe that carries `bytes` in `ticks` of programme, margin included.
pub(crate) fn stripe_rate(bytes: u64, ticks: i64) -> u64 {
    let ticks = u64::try_from(ticks).unwrap_or(1).max(1);
    let hz = MediaTime::HZ.unsigned_abs();
    let rate = u128::from(bytes) * 8 * u128::from(hz) / u128::from(ticks);
    let with_margin = rate * u128::from(100 + MARGIN_PERCENT) / 100;
    u64::try_from(with_margin).unwrap_or(u64::MAX)
}

/// The rate of the whole coded stream.
pub(crate) fn coded_rate(stripe_rate: u64, stripes: StripeCount) -> u64 {
    stripe_rate.saturating_mul(u64::from(stripes.value()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(millis: i64) -> Generation {
        let duration = millis * 90;
        let start = MediaTime(0);
        Generation { random_access: true, start, duration, units: Vec::new() }
    }

    #[test]
    fn a_steady_stream_is_announced_once() {
        let mut rate = RateEstimate::default();
        let announced: Vec<u64> =
            (0..100).filter_map(|_| rate.note(&generation(500), 1_000)).collect();
        // 1,000 bytes in half a second, and the margin.
        assert_eq!(announced, [16_000 * 105 / 100]);
    }

    #[test]
    fn a_stream_that_doubles_is_announced_again() {
        let mut rate = RateEstimate::known(16_800);
        assert!((0..60).all(|_| rate.note(&generation(500), 1_000).is_none()));
        let announced: Vec<u64> =
            (0..60).filter_map(|_| rate.note(&generation(500), 2_000)).collect();
        assert!(!announced.is_empty() && announced.len() <= 4, "{announced:?}");
        assert!(announced.is_sorted());
    }

    #[test]
    fn generations_without_duration_do_no_harm() {
        let mut rate = RateEstimate::default();
        for _ in 0..1000 {
            assert_eq!(rate.note(&generation(0), 1), None);
        }
    }
}
