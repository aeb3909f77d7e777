//! How far one stripe usually is behind the fastest: how deep its tree is here, and how far away the
//! parents on the way are.
//!
//! What is usual is followed as TCP follows round trips ([`Usual`]), so that a deep stripe is not
//! taken for a silent one, and a shallow one is missed soon.
//!
//! Decides how long a stripe may be behind. What follows is left to [`watch`](super).

use std::time::Duration;

use banyan_wire::PeerId;

use crate::usual::Usual;

/// Generations after which the lag of a parent is believed to be known.
const KNOWN_AFTER: u32 = 4;
/// Added to mean and four deviations: what a queue on the way may hold up once in a while. A guess.
const MARGIN: Duration = Duration::from_millis(100);
/// What took longer was pushed to catch up, and says nothing.
const LONGEST: Duration = Duration::from_secs(2);
/// Most and least patience, as multiples of that with an unknown lag.
const MOST: u32 = 4;
const LEAST: f64 = 0.5;

/// The lag of one stripe behind its present parent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag {
    parent: Option<PeerId>,
    usual: Usual,
    count: u32,
}

impl Lag {
    /// The parent is this one now; another one's lag is not known.
    pub(super) fn follow(&mut self, parent: Option<PeerId>) {
        if parent != self.parent {
            *self = Self { parent, ..Self::default() };
        }
    }

    /// A generation came, so long after its first stripe.
    pub(super) fn note(&mut self, lag: Duration) {
        if lag > LONGEST || self.parent.is_none() {
            return;
        }
        if self.count == 0 {
            self.usual = Usual::of(lag);
        } else {
            self.usual.note(lag);
        }
        self.count = self.count.saturating_add(1);
    }

    /// How long the stripe may be behind before its parent is in doubt, given that for an unknown lag.
    pub(super) fn patience(&self, unknown: Duration) -> Duration {
        if self.count < KNOWN_AFTER {
            return unknown;
        }
        let usual = self.usual.bound() + MARGIN;
        usual.clamp(unknown.mul_f64(LEAST), unknown * MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: Duration = Duration::from_millis(300);

    fn after(lags: impl IntoIterator<Item = u64>) -> Lag {
        let mut lag = Lag::default();
        lag.follow(Some(PeerId([1; 32])));
        lags.into_iter().for_each(|millis| lag.note(Duration::from_millis(millis)));
        lag
    }

    #[test]
    fn a_deep_stripe_is_given_more_time_and_a_shallow_one_less() {
        assert!(after([600; 40]).patience(UNKNOWN) > Duration::from_millis(690));
        assert!(after([20; 40]).patience(UNKNOWN) < Duration::from_millis(160));
    }

    #[test]
    fn an_unsteady_stripe_is_given_time_for_its_unsteadiness() {
        let unsteady = after((0..40).map(|n| if n % 2 == 0 { 20 } else { 220 }));
        assert!(unsteady.patience(UNKNOWN) > Duration::from_millis(220));
    }

    #[test]
    fn patience_has_a_floor_and_a_ceiling() {
        assert_eq!(after([0; 40]).patience(UNKNOWN), UNKNOWN / 2);
        assert_eq!(after([1_900; 40]).patience(UNKNOWN), UNKNOWN * MOST);
    }

    #[test]
    fn a_new_parent_and_generations_that_were_caught_up_count_for_nothing() {
        let mut lag = after([20; 40]);
        lag.follow(Some(PeerId([2; 32])));
        assert_eq!(lag.patience(UNKNOWN), UNKNOWN);
        assert_eq!(after([5_000; 40]).patience(UNKNOWN), UNKNOWN);
    }
}
