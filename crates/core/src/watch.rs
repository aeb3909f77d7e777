//! The failure detector: a stripe that falls silent while others flow.
//!
//! ```text
//!          a generation is here for longer than the stripe usually takes, and the stripe lacks it
//!   Fine ─────────────────────────────────────────────▶ Probing ──▶ no answer: Doubtful, then Dead
//!    ▲                                                    │
//!    └──────── chunks of the stripe, or a new parent ─────┤
//!             the parent lacks it as well, or is slow     └────────▶ patience, then Starved
//! ```
//!
//! The data is the clock: its own silence tells within a second what heartbeats would tell in many.
//! A parent that lacks the stripe itself is waited for, because the peers below a lost one all
//! fall silent together and only the topmost need repair (CoopNet's rule; other-systems.md §3.1).
//!
//! Decides when a parent has failed. What follows is left to the overlay policy.

mod lag;

use std::time::Duration;

use banyan_wire::{GenerationId, PeerId, StripeId};

use crate::links::MAX_PATIENCE;
use crate::store::Store;
use crate::watch::lag::Lag;
use crate::{Config, Instant};

/// Between two parents left for being slow. It may be our own downlink that is, and then leaving
/// helps nobody.
const SLOW_INTERVAL: Duration = Duration::from_secs(5);
/// How much longer than an orphan a slow parent is waited for: its uplink may only be catching up,
/// and a new parent has to as well.
const SLOW_PATIENCE: u32 = 4;
/// Between looks while no generation is here.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// What is the matter with a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It has not answered as soon as it could have.
    Doubtful,
    /// It does not answer.
    Dead,
    /// It answers, and lacks the stripe itself or has it wait in its queue for longer than our
    /// patience.
    Starved,
}

/// What to do about a stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send the parent a probe.
    Probe {
        /// The stripe.
        stripe: StripeId,
        /// Its parent.
        parent: PeerId,
    },
    /// Tell the policy.
    Report {
        /// The stripe.
        stripe: StripeId,
        /// Its parent.
        parent: PeerId,
        /// What is the matter.
        silence: Silence,
    },
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Fine,
    Probing {
        parent: PeerId,
        /// `None` once the policy has been told.
        doubt_at: Option<Instant>,
        /// When the answer of one that is not busy could be here.
        answer_at: Instant,
        give_up_at: Instant,
        since: Instant,
    },
    /// The parent answered that it lacks the stripe; ask again until patience ends.
    Waiting { parent: PeerId, probe_at: Instant, since: Instant, is_slow: bool },
}

impl State {
    /// When the parent that was asked should have answered.
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Probing { doubt_at, give_up_at, .. } => Some(doubt_at.unwrap_or(*give_up_at)),
            Self::Fine | Self::Waiting { .. } => None,
        }
    }

    fn probing(
        now: Instant,
        parent: PeerId,
        rtt: Duration,
        [grace, patience]: [Duration; 2],
        since: Instant,
    ) -> Self {
        // From then on the policy may look for another parent, before it lets go of the one it has.
        let doubt_at = Some(now + rtt + grace);
        let answer_at = now + rtt;
        let give_up_at = answer_at + patience;
        Self::Probing { parent, doubt_at, answer_at, give_up_at, since }
    }
}

/// Watches the stripes of one peer.
#[derive(Debug)]
pub(crate) struct Watch {
    states: Vec<State>,
    lags: Vec<Lag>,
    next_check: Instant,
    /// Of each stripe, who was last taken for dead, and when its answer could have been here.
    given_up: Vec<Option<(PeerId, Instant)>>,
    /// When the next parent may be left for being slow.
    slow_at: Instant,
}

impl Watch {
    pub(crate) fn new(stripes: usize) -> Self {
        Self {
            states: vec![State::Fine; stripes],
            lags: vec![Lag::default(); stripes],
            next_check: Instant::ZERO,
            given_up: vec![None; stripes],
            slow_at: Instant::ZERO,
        }
    }

    /// When [`check`](Self::check) is due.
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.next_check
    }

    /// Chunks begin to flow: looks soon.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.next_check = self.next_check.min(now);
    }

    /// The header of a generation came, so long after the generation's first.
    pub(crate) fn on_header(&mut self, stripe: StripeId, lag: Duration) {
        if let Some(lags) = self.lags.get_mut(stripe.index()) {
            lags.note(lag);
        }
    }

    /// Looks at every stripe. `parent_of` gives a stripe's parent, since when it has been, and the
    /// round trip to it; `waits` are what an answer may take longer before the parent is doubted, and
    /// before it is taken for dead.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        store: &Store,
        config: &Config,
        waits: [Duration; 2],
        parent_of: impl Fn(StripeId) -> Option<(PeerId, Instant, Duration)>,
    ) -> Vec<Step> {
        // A quarter of the shortest wait: detection is late by at most that.
        let interval = config.stall_after.min(config.probe_timeout) / 4;
        self.next_check = now + interval.max(Duration::from_millis(10));
        if store.newest().is_none() {
            // Nothing flows yet, so nothing can fall silent.
            self.next_check = now + IDLE_INTERVAL;
        }
        let parents: Vec<_> = store.stripes().iter().map(parent_of).collect();
        for (lag, parent) in self.lags.iter_mut().zip(&parents) {
            lag.follow(parent.map(|(parent, ..)| parent));
        }
        let mut steps = Vec::new();
        let lacks = |stripe: StripeId| {
            let front = front(now, store, self.lags[stripe.index()].patience(config.stall_after));
            front.is_some_and(|front| store.head(stripe).is_none_or(|head| head < front))
        };
        let lagging: Vec<bool> = store.stripes().iter().map(lacks).collect();
        let most_flow = lagging.iter().filter(|lags| **lags).count() * 4 <= store.stripes().len();
        for stripe in store.stripes().iter() {
            let state = &mut self.states[stripe.index()];
            let Some((parent, since, rtt)) = parents[stripe.index()] else {
                *state = State::Fine;
                continue;
            };
            let lags = lagging[stripe.index()];
            // With one stripe there is no other to compare with: plain silence has to do.
            let newest = store.newest().and_then(|newest| store.get(newest));
            let is_silent = store.stripes().len() == 1
                && newest.is_none_or(|g| now > g.first_arrival + config.stall_after * 3);
            let is_settled = now > since + config.stall_after;
            if !((lags || is_silent) && is_settled) {
                *state = State::Fine;
                continue;
            }
            match *state {
                State::Probing { parent: probed, doubt_at, answer_at, give_up_at, since }
                    if probed == parent =>
                {
                    if now >= give_up_at {
                        *state = State::Fine;
                        self.given_up[stripe.index()] = Some((parent, answer_at));
                        steps.push(Step::Report { stripe, parent, silence: Silence::Dead });
                    } else if doubt_at.is_some_and(|at| now >= at) {
                        let doubt_at = None;
                        *state = State::Probing { parent, doubt_at, answer_at, give_up_at, since };
                        steps.push(Step::Report { stripe, parent, silence: Silence::Doubtful });
                    }
                }
                State::Waiting { parent: asked, probe_at, since, is_slow } if asked == parent => {
                    let patience = config.orphan_patience * if is_slow { SLOW_PATIENCE } else { 1 };
                    let may_leave = !is_slow || (now >= self.slow_at && most_flow);
                    if now >= since + patience && lags && may_leave {
                        if is_slow {
                            self.slow_at = now + SLOW_INTERVAL;
                        }
                        *state = State::Fine;
                        steps.push(Step::Report { stripe, parent, silence: Silence::Starved });
                    } else if now >= probe_at {
                        *state = State::probing(now, parent, rtt, waits, since);
                        steps.push(Step::Probe { stripe, parent });
                    }
                }
                State::Fine | State::Probing { .. } | State::Waiting { .. } => {
                    *state = State::probing(now, parent, rtt, waits, now);
                    steps.push(Step::Probe { stripe, parent });
                }
            }
        }
        let due = self.states.iter().filter_map(State::due).min();
        self.next_check = due.map_or(self.next_check, |due| self.next_check.min(due));
        steps
    }

    /// A parent answered otherwise than it was asked to.
    pub(crate) fn on_sign_of_life(&mut self, from: PeerId, stripe: StripeId) {
        let Some(state) = self.states.get_mut(stripe.index()) else { return };
        if matches!(state, State::Probing { parent, .. } if *parent == from) {
            *state = State::Fine;
        }
    }

    /// A parent answered a probe. Returns how much later than the round trip, if it was asked.
    #[expect(clippy::too_many_arguments, reason = "the kernel's parts, lent by the session")]
    pub(crate) fn on_reply(
        &mut self,
        now: Instant,
        from: PeerId,
        stripe: StripeId,
        is_orphan: bool,
        head: GenerationId,
        store: &Store,
        config: &Config,
    ) -> Option<Duration> {
        let state = self.states.get_mut(stripe.index())?;
        let (since, answer_at) = match *state {
            State::Probing { parent, since, answer_at, .. } if parent == from => (since, answer_at),
            State::Probing { .. } | State::Fine | State::Waiting { .. } => {
                // It was taken for dead, and is late: others may be as late.
                let given_up = self.given_up.get_mut(stripe.index())?;
                let (_, answer_at) = given_up.take_if(|(parent, _)| *parent == from)?;
                return Some(now.since(answer_at).min(MAX_PATIENCE));
            }
        };
        // It has us as a child, or it would have said so; what it has and we lack is in its queue.
        let is_slow = !is_orphan && store.head(stripe).is_none_or(|ours| ours < head);
        let probe_at = now + config.probe_timeout;
        *state = State::Waiting { parent: from, probe_at, since, is_slow };
        Some(now.since(answer_at))
    }
}

/// The newest generation that has been arriving for as long as `patience`.
fn front(now: Instant, store: &Store, patience: Duration) -> Option<GenerationId> {
    store
        .iter()
        .rev()
        .find(|(_, stored)| stored.first_arrival + patience <= now)
        .map(|(generation, _)| generation)
}

#[cfg(test)]
mod tests {
    use banyan_wire::{BroadcastKey, StripeCount, Verifier};

    use super::*;

    #[test]
    fn who_answers_after_it_was_taken_for_dead_shows_how_late_answers_are_and_only_once() {
        let broadcast = BroadcastKey::from_seed(&[1; 32]).broadcast();
        let verifier = Verifier::new(&broadcast).expect("a key");
        let store = Store::new(broadcast, verifier, StripeCount::DEFAULT);
        let (parent, stripe, config) = (PeerId([1; 32]), StripeId(3), Config::default());
        let mut watch = Watch::new(16);
        watch.given_up[3] = Some((parent, Instant::ZERO));
        let mut late = |from, seconds| {
            let now = Instant::ZERO + Duration::from_secs(seconds);
            watch.on_reply(now, from, stripe, false, GenerationId(0), &store, &config)
        };
        assert_eq!(late(PeerId([2; 32]), 1), None, "nobody asked it");
        assert_eq!(late(parent, 1), Some(Duration::from_secs(1)));
        assert_eq!(late(parent, 1), None);
        watch.given_up[3] = Some((parent, Instant::ZERO));
        let now = Instant::ZERO + Duration::from_secs(60);
        let late = watch.on_reply(now, parent, stripe, false, GenerationId(0), &store, &config);
        assert_eq!(late, Some(MAX_PATIENCE), "however late it is on purpose");
    }
}
