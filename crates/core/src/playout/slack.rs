//! How much earlier than it is shown each generation is there, and so how much lag is of no use.
//!
//! A viewer that joined in a crowd, or was late for a while, has an anchor for bad times. Where every
//! generation of the last ten seconds was whole long before its deadline, [`Playback`](super::Playback)
//! shows the next ones a tenth faster until the lag is what the delay asks for. Nothing is skipped.
//! The idea is that of adaptive playout (Ramjee et al., INFOCOM 1994), for which the measured delays
//! decide too.
//!
//! Decides how much may go. When it goes, and how far, is left to the playback.

use std::collections::VecDeque;

use banyan_wire::GenerationId;

use super::signed;
use crate::Instant;

/// Generations that must have had slack: ten seconds of the usual length.
const WINDOW: usize = 20;
/// Generations remembered as whole before their turn; the oldest is forgotten beyond, and counts as
/// one without slack.
const MAX_WHOLE: usize = 64;

/// The slack of the generations played last.
#[derive(Debug, Default)]
pub(super) struct Slack {
    /// Generations that are whole and yet to be played, and since when.
    whole: VecDeque<(GenerationId, Instant)>,
    /// Microseconds from being whole to the deadline, the newest last; 0 where it was not whole.
    window: VecDeque<i64>,
}

impl Slack {
    /// A generation has become whole. Only the first time counts.
    pub(super) fn on_whole(&mut self, now: Instant, generation: GenerationId) {
        if self.whole.iter().any(|(known, _)| *known == generation) {
            return;
        }
        if self.whole.len() >= MAX_WHOLE {
            self.whole.pop_front();
        }
        self.whole.push_back((generation, now));
    }

    /// A generation is played, at its deadline.
    pub(super) fn on_played(&mut self, generation: GenerationId, deadline: Instant) {
        let whole = self.whole.iter().find(|(known, _)| *known == generation);
        let slack = whole.map_or(0, |(_, at)| {
            signed(deadline.as_micros()).saturating_sub(signed(at.as_micros())).max(0)
        });
        self.whole.retain(|(known, _)| *known > generation);
        self.window.push_back(slack);
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
    }

    /// Microseconds that every generation of the window was early; 0 before the window is full.
    pub(super) fn least(&self) -> i64 {
        if self.window.len() < WINDOW {
            return 0;
        }
        self.window.iter().copied().min().unwrap_or(0)
    }

    /// Deadlines are `step` microseconds earlier from now on.
    pub(super) fn on_advance(&mut self, step: i64) {
        for slack in &mut self.window {
            *slack = slack.saturating_sub(step);
        }
    }

    /// What was measured says nothing any more.
    pub(super) fn clear(&mut self) {
        self.window.clear();
    }
}
