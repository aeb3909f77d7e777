//! Playout: when each generation is due, and what there is of it then.
//!
//! ```text
//!             a random access generation can be rebuilt            the end was reached
//!   Waiting ───────────────────────────────────────────▶ Playing ─────────────────────▶ Done
//!                                                         │    ▲
//!                                                         └────┘ each generation at its deadline
//! ```
//!
//! A generation's deadline is its emission time on the source's clock plus an anchor, fixed when
//! playback begins: the fastest delivery seen plus the playout delay. A stall of the source moves
//! emissions, and with them the deadlines. A viewer that finds itself further behind the newest
//! generation than anything is kept begins anew. Where generations come complete but late twice in a row,
//! the anchor moves.
//! Where they are whole long before, for ten seconds, it comes back by a tenth of a generation each: see
//! [`slack`].
//!
//! Decides deadlines. What a generation's bytes mean is left to `banyan-media`.

mod slack;

use std::time::Duration;

use banyan_wire::GenerationId;

use crate::store::{Store, Stored};
use crate::{Config, Instant, Playout};
use slack::Slack;

/// Time the other stripes are given once a part of the first generation can be rebuilt; no more than
/// it takes until all of it can. A guess: one round trip to a parent on another continent.
const START_GRACE: Duration = Duration::from_millis(250);
/// Added to an anchor that proved too tight.
const RE_ANCHOR_MARGIN: Duration = Duration::from_millis(150);
/// Late generations in a row after which the anchor moves.
const LATE_LIMIT: u32 = 2;

/// The part of the playout delay that generations are to be early, for bad moments.
const KEPT_SLACK: f64 = 0.5;
/// How much faster than the programme an anchor that is too late comes back.
const CATCH_UP: u32 = 10;

/// Missing generations that are reported one by one; a larger gap is skipped in one step, so that
/// no numbering a source may come up with keeps a viewer counting.
const MAX_GAP: u64 = 64;

/// The state of playback. The [module documentation](self) draws its transitions.
#[derive(Debug)]
pub(crate) enum State {
    /// Nothing playable has come.
    Waiting {
        /// First generation that could be rebuilt, and until when the rest of it is waited for.
        ready: Option<(GenerationId, Instant)>,
    },
    /// Generations are played in order.
    Playing {
        /// The next one.
        next: GenerationId,
        /// Deadline minus emission time, in microseconds; may be negative.
        anchor: i64,
    },
    /// The last generation was played.
    Done,
}

/// Playback of one broadcast.
#[derive(Debug)]
pub(crate) struct Playback {
    state: State,
    /// Least (arrival − emission) seen, in microseconds.
    fastest: Option<i64>,
    late_in_a_row: u32,
    slack: Slack,
    /// Emission times of the first and the newest generation, to tell when a missing one was due.
    interval: Duration,
    end: Option<GenerationId>,
    end_known_at: Option<Instant>,
}

impl Playback {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            state: State::Waiting { ready: None },
            fastest: None,
            late_in_a_row: 0,
            slack: Slack::default(),
            interval,
            end: None,
            end_known_at: None,
        }
    }

    /// The oldest generation still of use here.
    pub(crate) fn next(&self) -> Option<GenerationId> {
        match self.state {
            State::Playing { next, .. } => Some(next),
            State::Waiting { .. } | State::Done => None,
        }
    }

    /// The manifest says where the broadcast ends.
    pub(crate) fn set_end(&mut self, now: Instant, end: Option<GenerationId>) {
        self.end = end;
        if end.is_some() && self.end_known_at.is_none() {
            self.end_known_at = Some(now);
        }
        if end.is_none() {
            self.end_known_at = None;
        }
    }

    /// A generation's first header arrived.
    pub(crate) fn on_arrival(&mut self, now: Instant, emitted_at: u64) {
        let delay = signed(now.as_micros()).saturating_sub(signed(emitted_at));
        self.fastest = Some(self.fastest.map_or(delay, |fastest| fastest.min(delay)));
    }

    /// A chunk of `generation` arrived.
    pub(crate) fn on_progress(
        &mut self,
        now: Instant,
        generation: GenerationId,
        stored: &Stored,
        config: &Config,
    ) {
        match &mut self.state {
            State::Waiting { ready } => {
                if ready.is_none() && stored.is_random_access() && is_decodable(stored) {
                    *ready = Some((generation, now + START_GRACE));
                }
                if let Some((first, until)) = ready
                    && *first == generation
                    && stored.assembler.is_decodable()
                {
                    *until = now.min(*until);
                }
            }
            State::Playing { next, anchor } => {
                if generation >= *next && stored.assembler.is_decodable() {
                    self.slack.on_whole(now, generation);
                }
                // Too late, but whole: the anchor was too tight.
                if generation.next() == *next && is_decodable(stored) {
                    let deadline = signed(stored.emitted_at()).saturating_add(*anchor);
                    let late = signed(now.as_micros()).saturating_sub(deadline);
                    if late > 0 && late < micros(config.retention) {
                        self.late_in_a_row += 1;
                        if self.late_in_a_row >= LATE_LIMIT {
                            *anchor = anchor.saturating_add(late + micros(RE_ANCHOR_MARGIN));
                            self.late_in_a_row = 0;
                            self.slack.clear();
                        }
                    }
                }
            }
            State::Done => {}
        }
    }

    /// When [`poll`](Self::poll) next has something, as far as can be told.
    pub(crate) fn poll_timeout(&self, store: &Store, config: &Config) -> Option<Instant> {
        match &self.state {
            State::Waiting { ready: Some((generation, until)) } => {
                Some(self.start_at(*generation, *until, store, config))
            }
            State::Waiting { ready: None } => self.give_up_at(config),
            State::Playing { next, anchor } => {
                if self.end.is_some_and(|end| *next >= end) {
                    return Some(Instant::ZERO);
                }
                let due = self.deadline(*next, *anchor, store);
                match (due, self.give_up_at(config)) {
                    (Some(due), _) => Some(due),
                    (None, give_up) => give_up,
                }
            }
            State::Done => None,
        }
    }

    /// The next generation whose deadline has passed, in order; call until `None`.
    pub(crate) fn poll(&mut self, now: Instant, store: &Store, config: &Config) -> Option<Due> {
        loop {
            match &self.state {
                State::Waiting { ready: Some((generation, until)) } => {
                    let start = self.start_at(*generation, *until, store, config);
                    if now < start {
                        return None;
                    }
                    let Some((first, stored)) = self.first(now, *generation, store, config) else {
                        // Forgotten while we waited; wait for another.
                        self.state = State::Waiting { ready: None };
                        return None;
                    };
                    let emitted_at = signed(stored.emitted_at());
                    let anchor = signed(start.as_micros()).saturating_sub(emitted_at);
                    self.slack.clear();
                    self.state = State::Playing { next: first, anchor };
                }
                State::Waiting { ready: None } => {
                    if self.give_up_at(config).is_some_and(|at| now >= at) {
                        self.state = State::Done;
                        return Some(Due::End);
                    }
                    return None;
                }
                State::Playing { next, anchor } => {
                    let (next, anchor) = (*next, *anchor);
                    if is_far_behind(now, anchor, store, config) {
                        self.state = State::Waiting { ready: None };
                        return None;
                    }
                    if self.end.is_some_and(|end| next >= end) {
                        self.state = State::Done;
                        return Some(Due::End);
                    }
                    let skipped =
                        store.iter().find(|(held, _)| *held >= next).map(|(held, _)| held);
                    if let Some(held) = skipped.filter(|held| held.0 - next.0 > MAX_GAP) {
                        self.state = State::Playing { next: held, anchor };
                        continue;
                    }
                    let Some(deadline) = self.deadline(next, anchor, store) else {
                        if self.give_up_at(config).is_some_and(|at| now >= at) {
                            self.state = State::Done;
                            return Some(Due::End);
                        }
                        return None;
                    };
                    if now < deadline {
                        return None;
                    }
                    let playout = self.playout(next, anchor, store);
                    self.slack.on_played(next, deadline);
                    let anchor = anchor - self.catch_up(anchor, config);
                    self.state = State::Playing { next: next.next(), anchor };
                    if playout.is_playable() {
                        self.late_in_a_row = 0;
                    }
                    return Some(Due::Generation(playout));
                }
                State::Done => return None,
            }
        }
    }

    /// By how many microseconds the anchor comes back: no further than the playout delay asks for.
    fn catch_up(&mut self, anchor: i64, config: &Config) -> i64 {
        let kept = micros(config.playout_delay.mul_f64(KEPT_SLACK));
        let natural =
            self.fastest.map(|fastest| fastest.saturating_add(micros(config.playout_delay)));
        let excess = natural.map_or(0, |natural| anchor.saturating_sub(natural));
        let step =
            excess.min(self.slack.least() - kept).min(micros(self.interval / CATCH_UP)).max(0);
        self.slack.on_advance(step);
        step
    }

    fn playout(&self, generation: GenerationId, anchor: i64, store: &Store) -> Playout {
        let stored = store.get(generation);
        let stripes = store.stripes().value();
        let lag = anchor.saturating_sub(self.fastest.unwrap_or(anchor));
        Playout {
            generation,
            received: stored.map_or(0, |stored| stored.assembler.complete_descriptions()),
            arrived: stored.map_or(0, Stored::arrived),
            stripes,
            layers: stored.map_or_else(Vec::new, |stored| {
                (0..stored.layer_count()).map(|layer| stored.assembler.layer(layer)).collect()
            }),
            is_random_access: stored.is_some_and(Stored::is_random_access),
            lag: Duration::from_micros(u64::try_from(lag).unwrap_or(0)),
        }
    }

    /// What playback begins with: `ready`, or the newest that can be rebuilt by now of those that
    /// would be due already, so that a viewer that took long to join does not stay behind.
    fn first<'a>(
        &self,
        now: Instant,
        ready: GenerationId,
        store: &'a Store,
        config: &Config,
    ) -> Option<(GenerationId, &'a Stored)> {
        let held = store.iter().rev().take_while(|(held, _)| *held > ready);
        let is_entry = |stored: &Stored| stored.is_random_access() && is_decodable(stored);
        let is_due = |stored: &Stored| self.natural(stored, config).is_some_and(|due| due <= now);
        let mut later = held.filter(|(_, stored)| is_entry(stored) && is_due(stored));
        later.next().or_else(|| Some((ready, store.get(ready)?)))
    }

    /// When a generation is due that took no longer than the fastest, after the playout delay.
    fn natural(&self, stored: &Stored, config: &Config) -> Option<Instant> {
        let delay = self.fastest?.saturating_add(micros(config.playout_delay));
        Some(instant(signed(stored.emitted_at()).saturating_add(delay)))
    }

    /// When playback begins, given the generation that was ready first and until when its rest is
    /// waited for.
    fn start_at(
        &self,
        generation: GenerationId,
        until: Instant,
        store: &Store,
        config: &Config,
    ) -> Instant {
        let natural = store.get(generation).and_then(|stored| self.natural(stored, config));
        natural.map_or(until, |natural| natural.max(until))
    }

    /// When `generation` is due. One that never arrived is due when it would have been, judging by
    /// the next one that did; `None` while there is none.
    fn deadline(&self, generation: GenerationId, anchor: i64, store: &Store) -> Option<Instant> {
        if let Some(stored) = store.get(generation) {
            return Some(instant(signed(stored.emitted_at()).saturating_add(anchor)));
        }
        let (later, stored) = store.iter().find(|(later, _)| *later > generation)?;
        let missed = i64::try_from(later.0 - generation.0).unwrap_or(i64::MAX);
        let back = micros(self.interval).saturating_mul(missed);
        let due = signed(stored.emitted_at()).saturating_add(anchor).saturating_sub(back);
        Some(instant(due))
    }

    /// When to stop waiting for the rest of a broadcast that has ended.
    fn give_up_at(&self, config: &Config) -> Option<Instant> {
        self.end_known_at.map(|known| known + config.playout_delay + config.playout_delay)
    }
}

/// Whether the newest generation would be played later than anything is kept: then playback began
/// with something that was replayed, or the source's clock has jumped. It begins anew.
fn is_far_behind(now: Instant, anchor: i64, store: &Store, config: &Config) -> bool {
    store.newest().and_then(|newest| store.get(newest)).is_some_and(|stored| {
        let due = instant(signed(stored.emitted_at()).saturating_add(anchor));
        due > now + config.retention + config.playout_delay
    })
}

/// What [`Playback::poll`] gives.
#[derive(Debug, PartialEq)]
pub(crate) enum Due {
    /// A generation at its deadline.
    Generation(Playout),
    /// The broadcast is over.
    End,
}

fn is_decodable(stored: &Stored) -> bool {
    stored.assembler.is_layer_decodable(0)
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn instant(micros: i64) -> Instant {
    Instant::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests;
