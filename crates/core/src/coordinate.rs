//! Where this peer is among the others, so that it can tell who is near without asking.
//!
//! ```text
//!   a round trip, the neighbour's coordinate ──▶ a step towards it or away from it ──▶ ours
//!   two coordinates ──▶ an estimate of the round trip between their peers
//! ```
//!
//! Follows Dabek et al., "Vivaldi: a decentralized network coordinate system" (SIGCOMM 2004): a plane
//! for the world, a height for what every way to a peer takes longer (its access link), and steps
//! that are the longer the less is known here and the more there. Departures:
//!
//! - **Steps are bounded**, by [`MAX_STEP`] and by one for each neighbour in a round, so that one who
//!   lies, or whose round trip was a slow machine's, moves us little. A round trip is the least of
//!   the last four, which leaves out queues (Ledlie et al., "Network coordinates in the wild", NSDI
//!   2007, take a low percentile).
//! - **A weak pull to the middle** keeps all of them from drifting away together (Ledlie et al.).
//! - **What is below [`NOISE`] is no error**: between neighbours in a house half a millisecond more or
//!   less says nothing.
//!
//! Only the four basic operations and square roots are used, which are exact to the bit everywhere.
//!
//! Decides where we are, and how far two peers are from each other. What a liar wins by a false
//! coordinate is preference: whom to prefer for being near is left to the view and the policies,
//! which never rely on it.

use std::time::Duration;

use banyan_wire::{Coordinate, MAX_COORDINATE, MAX_ERROR, Message};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use crate::Instant;
use crate::links::Links;
use crate::local::Local;
use crate::view::View;

/// The weights of the paper, c_c and c_e (§3.4): how far a step goes, and how fast the error follows.
const STEP: f64 = 0.25;
const ERROR_STEP: f64 = 0.25;
/// Longest step of one sample, in milliseconds. A guess: six of them cross an ocean.
const MAX_STEP: f64 = 25.0;
/// Least error of anybody's coordinate: who says less of its own is not believed.
const MIN_ERROR: f64 = 0.05;
/// Round trips are not known better than this, in milliseconds.
const NOISE: f64 = 4.0;
/// Longest round trip that is believed, in milliseconds.
const MAX_RTT: f64 = 2_000.0;
/// Distance from the middle, in milliseconds, at which the pull to it is one part in one of the
/// distance; it grows with the square. Ledlie et al. use 256 for samples; here it is once a round.
const PULL: f64 = 600.0;
/// The height a peer begins with, and the least there is, in milliseconds.
const MIN_HEIGHT: f64 = 0.1;
/// Numbers of a coordinate for each millisecond.
const SCALE: f64 = 10.0;
/// Error above which a coordinate says nothing of distances. A guess.
const MAX_USEFUL: u16 = 500;

/// Between two rounds of samples, at first and when the place is known.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(5);
/// Error below which it is known.
const KNOWN: f64 = 0.25;

/// Where a peer is that does not say so: where all begin.
const ANYWHERE: Coordinate = Coordinate { x: 0, y: 0, height: 0, error: MAX_ERROR };

/// How far we must have moved from what the neighbours know to tell them, in the unit of a coordinate,
/// at least; of a place that is wrong by a tenth, twice as far.
const TOLD_WITHIN: u32 = 100;
/// Between two such messages at most; at first as long as a round, then twice as long each time.
const MAX_TELL_INTERVAL: Duration = Duration::from_secs(64);

/// This peer's place. The [module documentation](self) says more.
#[derive(Debug)]
pub(crate) struct Place {
    x: f64,
    y: f64,
    height: f64,
    error: f64,
    /// Whether a sample was taken; before that nothing is said.
    is_known: bool,
    /// What the neighbours were told last.
    told: Option<Coordinate>,
    /// When they may be told again, and how long it is from then on.
    tell_at: Instant,
    tell_interval: Duration,
    due: Instant,
}

impl Place {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            x: 0.0,
            y: 0.0,
            height: MIN_HEIGHT,
            error: 1.0,
            is_known: false,
            told: None,
            tell_at: now,
            tell_interval: FIRST_INTERVAL,
            due: now + FIRST_INTERVAL,
        }
    }

    /// When the next round of samples is due.
    pub(crate) const fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// Takes what is known of the neighbours if that is due, and tells them where we are if that is
    /// not where they think.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        local: &mut Local,
        view: &mut View,
        links: &mut Links,
        rng: &mut ChaCha12Rng,
    ) {
        if now < self.due {
            return;
        }
        let news = self.round(now, links.distances(), rng);
        local.coordinate = self.coordinate();
        view.set_place(local.coordinate);
        if let Some(coordinate) = news {
            for peer in links.peers().copied().collect::<Vec<_>>() {
                links.send(peer, Message::Moved { coordinate });
            }
        }
    }

    /// A round: each of the neighbours once. Who does not say where it is may be anywhere. Returns
    /// the coordinate if the neighbours are to be told of it.
    fn round(
        &mut self,
        now: Instant,
        neighbours: impl Iterator<Item = (Option<Coordinate>, Duration)>,
        rng: &mut ChaCha12Rng,
    ) -> Option<Coordinate> {
        for (theirs, rtt) in neighbours {
            self.sample(&theirs.unwrap_or(ANYWHERE), rtt, rng);
        }
        let distance = norm(self.x, self.y);
        let pull = 1.0 - (distance / PULL).min(1.0) * (distance / PULL).min(1.0);
        (self.x, self.y) = (self.x * pull, self.y * pull);
        self.due = now + if self.error < KNOWN { INTERVAL } else { FIRST_INTERVAL };
        let ours = self.coordinate()?;
        let within = TOLD_WITHIN.max(u32::from(ours.error) * 2);
        let is_news =
            |told| moved(&told, &ours) > within || told.error > ours.error.saturating_mul(2);
        let tells = now >= self.tell_at && self.told.is_none_or(is_news);
        if tells {
            self.told = Some(ours);
            self.tell_at = now + self.tell_interval;
            self.tell_interval = (self.tell_interval * 2).min(MAX_TELL_INTERVAL);
        }
        tells.then_some(ours)
    }

    /// The neighbours were told of `coordinate` with something else.
    pub(crate) fn note_told(&mut self, coordinate: Option<Coordinate>) {
        self.told = coordinate.or(self.told);
    }

    /// Where we are; `None` before the first sample.
    pub(crate) fn coordinate(&self) -> Option<Coordinate> {
        self.is_known.then(|| Coordinate {
            x: rounded(self.x),
            y: rounded(self.y),
            height: rounded(self.height).unsigned_abs(),
            error: thousandths(self.error),
        })
    }

    /// One round trip to a neighbour that says it is there.
    fn sample(&mut self, theirs: &Coordinate, rtt: Duration, rng: &mut ChaCha12Rng) {
        let rtt = rtt.as_secs_f64() * 1000.0;
        if rtt > MAX_RTT {
            return;
        }
        self.is_known = true;
        let (x, y) = (self.x - f64::from(theirs.x) / SCALE, self.y - f64::from(theirs.y) / SCALE);
        let heights = self.height + f64::from(theirs.height) / SCALE;
        let flat = norm(x, y);
        let distance = flat + heights;
        let off = rtt - distance;
        let their_error = (f64::from(theirs.error) / f64::from(MAX_ERROR)).max(MIN_ERROR);
        let weight = self.error / (self.error + their_error);
        let wrong = ((off.abs() - NOISE / 2.0).max(0.0) / rtt.max(NOISE)).min(1.0);
        let keep = ERROR_STEP * weight;
        self.error = (wrong * keep + self.error * (1.0 - keep)).clamp(MIN_ERROR, 1.0);
        let step = (STEP * weight * off).clamp(-MAX_STEP, MAX_STEP);
        // Two in the same place go apart in any direction.
        let (x, y, flat) = if flat > 0.001 { (x, y, flat) } else { any_direction(rng) };
        let whole = flat + heights;
        self.x = within(self.x + step * x / whole);
        self.y = within(self.y + step * y / whole);
        self.height = within(self.height + step * heights / whole).max(MIN_HEIGHT);
    }
}

/// How long a round trip between the peers of two coordinates is likely to take; `None` where one of
/// the two is too vague to say.
pub(crate) fn estimate(a: &Coordinate, b: &Coordinate) -> Option<Duration> {
    let says = a.error <= MAX_USEFUL && b.error <= MAX_USEFUL;
    says.then(|| Duration::from_micros(u64::from(between(a, b)) * 100))
}

/// The distance of two coordinates in their own unit.
fn between(a: &Coordinate, b: &Coordinate) -> u32 {
    whole(flat(a, b)).saturating_add(a.height).saturating_add(b.height)
}

/// How far it is from one coordinate of a peer to another of the same.
fn moved(a: &Coordinate, b: &Coordinate) -> u32 {
    whole(flat(a, b)).saturating_add(a.height.abs_diff(b.height))
}

fn flat(a: &Coordinate, b: &Coordinate) -> f64 {
    norm(f64::from(a.x) - f64::from(b.x), f64::from(a.y) - f64::from(b.y))
}

fn norm(x: f64, y: f64) -> f64 {
    (x * x + y * y).sqrt()
}

/// A vector of about a millisecond.
fn any_direction(rng: &mut ChaCha12Rng) -> (f64, f64, f64) {
    let (x, y) = (rng.random::<f64>() - 0.5, rng.random::<f64>() - 0.5);
    let length = norm(x, y).max(0.001);
    (x / length, y / length, 1.0)
}

/// A number of milliseconds that a coordinate can say.
fn within(millis: f64) -> f64 {
    let most = f64::from(MAX_COORDINATE) / SCALE;
    millis.clamp(-most, most)
}

#[expect(clippy::cast_possible_truncation, reason = "within the bounds of a coordinate")]
fn rounded(millis: f64) -> i32 {
    (within(millis) * SCALE).round() as i32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and at most the square root of two times the largest coordinate"
)]
const fn whole(length: f64) -> u32 {
    length as u32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an error is between 0 and 1"
)]
fn thousandths(error: f64) -> u16 {
    (error * f64::from(MAX_ERROR)).round() as u16
}

#[cfg(test)]
mod tests;
