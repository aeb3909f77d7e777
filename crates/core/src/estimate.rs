//! How much this peer can upload, where nobody has said so: a guess that follows the transport.
//!
//! ```text
//!   every second: what was handed to the driver, and whose send queue stood all the while
//!
//!     most children's queues stand, 3 s on end  ──▶ fall to 95 % of what was drained
//!     many children say that we lag, within 5 s ──▶ fall by 15 %
//!     few do either, the slots are in use, 10 s ──▶ grow by a quarter, up to the last bottleneck
//!     anything else                             ──▶ stay
//! ```
//!
//! A queue stands where its least length over a second is long: a burst comes and goes, a
//! bottleneck's queue does not empty (the idea of CoDel, Nichols and Jacobson, ACM Queue 2012). One
//! slow child has a standing queue of its own and says nothing about us, so children must agree.
//! While they stand, what was drained is what the uplink gives. The transport buffers out of sight of
//! those queues (QUIC: half a megabyte for each child), and a child leaves before that is full: with a
//! probe for what we have and it has not, which counts as well. After a fall the bottleneck is
//! remembered and exceeded only after a wait that doubles with every vain attempt.
//!
//! Decides the budget from which the capacity follows. What to do with children that do not fit any
//! more is left to the overlay policy.

use std::collections::BTreeMap;
use std::time::Duration;

use banyan_wire::PeerId;

use crate::Instant;

/// Between two looks. Longer than a generation, so that a burst has time to leave.
const WINDOW: Duration = Duration::from_secs(1);
/// A window that took longer is void: the machine slept.
const MAX_WINDOW: Duration = Duration::from_secs(5);
/// A queue that never was shorter for a whole window stands: the step in which the driver reports.
const STANDING_BYTES: u64 = 32 * 1024;
/// Congested windows on end before the estimate falls, at least. A guess: longer than a child's first
/// burst.
const FALL_WINDOWS: u32 = 3;
/// And at most, where so little is drained that the steps of the driver's reports blur it.
const MAX_FALL_WINDOWS: u32 = 6;
/// Windows after a fall in which nothing is concluded: children are on their way elsewhere. A guess.
const SETTLE_WINDOWS: u32 = 3;
/// Windows in use, without congestion, before it grows. A guess.
const GROW_WINDOWS: u32 = 10;
/// As many where that exceeds a bottleneck once met: small excess takes long to fill what the
/// transport buffers. A guess.
const EXCEED_WINDOWS: u32 = 60;
/// For so many windows a child's word that we lag counts; longer than it takes most of them to
/// notice. A guess.
const LAG_WINDOWS: u8 = 5;
/// What is left of the estimate when many children say that we lag: how much too high it is, they
/// cannot tell. A guess.
const LAG_PERCENT: u64 = 85;
/// What of the drained rate is promised again. The rest empties the queues. A guess.
const HEADROOM_PERCENT: u64 = 95;
/// It falls to this or less, or not at all: so that the error of one measurement after the other
/// does not wear it down.
const FALL_PERCENT: u64 = 92;
/// The slots count as in use above this. All of them in use can look like 71 %: the source announces
/// a new stripe rate when the programme is a quarter below, and adds 5 %.
const USED_PERCENT: u64 = 70;
/// It grows no further. A guess: who has more says so.
const MAX_UPLOAD: u64 = 1_000_000_000;
/// How long the estimate stays below a bottleneck once it was met; doubles with every attempt that
/// meets it again. A guess.
const FIRST_WAIT: Duration = Duration::from_secs(120);
/// The longest such wait. A guess.
const MAX_WAIT: Duration = Duration::from_secs(1920);

/// Headers and chunks handed to the driver since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handed {
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

impl Handed {
    /// Adds `count` messages of `length` bytes.
    pub(crate) const fn add(&mut self, length: usize, count: u64) {
        self.bytes += length as u64 * count;
        self.messages += count;
    }
}

/// The estimate of one peer's upload. The [module documentation](self) says how it moves.
#[derive(Debug)]
pub(crate) struct Estimator {
    /// In bits per second.
    estimate: u64,
    /// What the capacity in force follows from. It takes the estimate's value when that falls, and
    /// when it has grown by a child.
    budget: u64,
    /// Those that are not empty, or were not a moment ago: at most one for each connection.
    queues: BTreeMap<PeerId, Queue>,
    window: Window,
    /// Windows to pass over.
    unsettled: u32,
    congested: Span,
    in_use: Span,
    bottleneck: Option<Bottleneck>,
}

/// A send queue within the window.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    bytes: u64,
    /// At the window's beginning.
    before: u64,
    least: u64,
    has_expired: bool,
    /// Windows for which its owner's word still counts.
    lags: u8,
}

impl Queue {
    const fn is_standing(&self) -> bool {
        // What is too short to be reported can still be too old to be sent.
        self.least >= STANDING_BYTES || (self.has_expired && self.least > 0)
    }

    /// Bytes by which it has grown, in the steps of the reports: in between nothing is known.
    const fn growth(&self) -> i64 {
        let steps = (self.bytes / STANDING_BYTES).cast_signed();
        (steps - (self.before / STANDING_BYTES).cast_signed()) * STANDING_BYTES.cast_signed()
    }
}

/// The window that runs.
#[derive(Debug, Default)]
struct Window {
    since: Instant,
    /// As of its beginning.
    handed: Handed,
    /// Messages that expired in it.
    expired: u64,
    /// Bytes by which the queues of connections had grown that went away in it.
    growth: i64,
}

/// Windows of one kind on end.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    windows: u32,
    bytes: u64,
    time: Duration,
}

impl Span {
    fn add(&mut self, bytes: u64, time: Duration) {
        self.windows += 1;
        self.bytes += bytes;
        self.time += time;
    }

    /// In bits per second.
    fn rate(&self) -> u64 {
        let bits = u128::from(self.bytes) * 8_000_000;
        u64::try_from(bits / self.time.as_micros().max(1)).unwrap_or(u64::MAX)
    }
}

/// The bottleneck that was met last.
#[derive(Clone, Copy, Debug)]
struct Bottleneck {
    /// The estimate that fits through it.
    rate: u64,
    /// Not exceeded before.
    retry_at: Instant,
    wait: Duration,
}

/// What the children's queues say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// The uplink is full: most queues stand.
    Congested,
    /// The uplink is full: a quarter of the children say so.
    Lagging,
    /// Some queues stand: neither is certain.
    Mixed,
    /// Few queues stand and few children complain, if any.
    Clear,
}

impl Estimator {
    /// Begins with a guess, in bits per second.
    pub(crate) fn new(now: Instant, guess: u64) -> Self {
        Self {
            estimate: guess,
            budget: guess,
            queues: BTreeMap::new(),
            window: Window { since: now, ..Window::default() },
            unsettled: 0,
            congested: Span::default(),
            in_use: Span::default(),
            bottleneck: None,
        }
    }

    /// Bits per second that may be promised to children.
    pub(crate) const fn budget(&self) -> u64 {
        self.budget
    }

    /// The send queue towards `peer` has this length now.
    pub(crate) fn on_queue(&mut self, peer: PeerId, queued_bytes: usize, expired_messages: u32) {
        let queue = self.queues.entry(peer).or_default();
        queue.bytes = queued_bytes as u64;
        queue.least = queue.least.min(queue.bytes);
        queue.has_expired |= expired_messages > 0;
        self.window.expired += u64::from(expired_messages);
    }

    /// A child lacks what we have had for a while.
    pub(crate) fn on_lag(&mut self, peer: PeerId) {
        self.queues.entry(peer).or_default().lags = LAG_WINDOWS;
    }

    /// The connection with `peer` is gone, and what was queued with it.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        if let Some(queue) = self.queues.remove(peer) {
            self.window.growth += queue.growth();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has work.
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.window.since + WINDOW
    }

    /// Ends the window, if that is due. `streams` is how many stripes each child is sent,
    /// `stream_rate` what one of them takes. Returns whether the budget changed.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        handed: Handed,
        streams: &BTreeMap<PeerId, u32>,
        stream_rate: u64,
    ) -> bool {
        if now < self.poll_timeout() {
            return false;
        }
        let stream_rate = stream_rate.max(1);
        let time = now.since(self.window.since);
        let sent =
            Span { windows: 1, bytes: handed.bytes.saturating_sub(self.window.handed.bytes), time };
        let load = self.load(streams, sent.rate());
        let drained = self.next_window(now, handed, sent.bytes);
        if time > MAX_WINDOW {
            self.restart();
            return false;
        }
        if self.unsettled > 0 {
            self.unsettled -= 1;
            return false;
        }
        match load {
            Load::Congested => {
                self.in_use = Span::default();
                self.congested.add(drained, time);
                // The error of the drained bytes is about a step for each child.
                let is_clear = self.congested.bytes >= STANDING_BYTES * 4 * streams.len() as u64;
                let least = if is_clear { FALL_WINDOWS } else { MAX_FALL_WINDOWS };
                if self.congested.windows >= least {
                    return self.fall(now, sent.rate());
                }
            }
            Load::Lagging => {
                self.queues.values_mut().for_each(|queue| queue.lags = 0);
                return self.fall_to(now, percent(self.estimate, LAG_PERCENT));
            }
            Load::Mixed => self.restart(),
            Load::Clear => {
                self.congested = Span::default();
                self.in_use.add(sent.bytes, time);
                let exceeds = self.bottleneck.is_some_and(|met| self.budget > met.rate);
                if self.in_use.windows >= if exceeds { EXCEED_WINDOWS } else { GROW_WINDOWS } {
                    return self.grow(now, stream_rate);
                }
            }
        }
        self.try_again(now, stream_rate)
    }

    /// What the queues and the children say in this window, while so many bits a second are handed
    /// to the driver.
    fn load(&self, streams: &BTreeMap<PeerId, u32>, rate: u64) -> Load {
        let (mut all, mut standing, mut lagging, mut either) = (0, 0, 0, 0);
        let (mut standing_peers, mut lagging_peers) = (0, 0);
        for (peer, count) in streams {
            let (queue, count) = (self.queues.get(peer).copied().unwrap_or_default(), *count);
            let (stands, lags) = (u64::from(queue.is_standing()), u64::from(queue.lags > 0));
            all += u64::from(count);
            standing += stands * u64::from(count);
            lagging += lags * u64::from(count);
            either += (stands | lags) * u64::from(count);
            standing_peers += stands;
            lagging_peers += lags;
        }
        // One child alone may as well be slow itself, unless most of the upload is for it.
        let is_most =
            u128::from(rate) * u128::from(standing) * 2 > u128::from(self.budget) * u128::from(all);
        let is_congested = standing * 2 >= all && (standing_peers > 1 || is_most);
        // Those that left because of it count as one stream each.
        for (_, queue) in self.queues.iter().filter(|(peer, _)| !streams.contains_key(*peer)) {
            let left = u64::from(queue.lags > 0);
            (all, lagging, either) = (all + left, lagging + left, either + left);
            lagging_peers += left;
        }
        if is_congested {
            Load::Congested
        } else if lagging * 4 >= all && lagging_peers > 1 {
            Load::Lagging
        } else if either * 8 > all {
            Load::Mixed
        } else {
            Load::Clear
        }
    }

    /// Begins the next window. Returns the bytes that left in this one, of which `sent` were new.
    fn next_window(&mut self, now: Instant, handed: Handed, sent: u64) -> u64 {
        let growth: i64 = self.queues.values().map(Queue::growth).sum();
        let window =
            std::mem::replace(&mut self.window, Window { since: now, handed, ..Window::default() });
        for queue in self.queues.values_mut() {
            let (bytes, lags) = (queue.bytes, queue.lags.saturating_sub(1));
            *queue = Queue { bytes, before: bytes, least: bytes, has_expired: false, lags };
        }
        self.queues.retain(|_, queue| queue.bytes > 0 || queue.lags > 0);
        let expired = window.expired * (handed.bytes / handed.messages.max(1));
        sent.saturating_sub(expired).saturating_add_signed(-(growth + window.growth))
    }

    fn restart(&mut self) {
        self.congested = Span::default();
        self.in_use = Span::default();
    }

    /// The uplink is full while `sent` bits a second are handed to the driver.
    fn fall(&mut self, now: Instant, sent: u64) -> bool {
        let drained = percent(self.congested.rate(), HEADROOM_PERCENT);
        // A moment in which nothing moves at all halves it: a reconnecting Wi-Fi is no bottleneck.
        self.fall_to(now, drained.max(sent.min(self.estimate) / 2))
    }

    /// Falls to `target`, if that is far enough below, and takes note of the bottleneck.
    fn fall_to(&mut self, now: Instant, target: u64) -> bool {
        self.restart();
        let falls = target <= percent(self.estimate, FALL_PERCENT);
        let wait = match self.bottleneck {
            None => FIRST_WAIT,
            Some(met) if now < met.retry_at => met.wait,
            Some(met) => (met.wait * 2).min(MAX_WAIT),
        };
        if falls {
            self.unsettled = SETTLE_WINDOWS;
            self.estimate = target;
            self.budget = self.budget.min(target);
        }
        self.bottleneck = Some(Bottleneck { rate: self.estimate, retry_at: now + wait, wait });
        falls
    }

    /// There was no congestion for a while.
    fn grow(&mut self, now: Instant, stream_rate: u64) -> bool {
        let used = self.in_use.rate();
        self.restart();
        let slots = self.budget / stream_rate * stream_rate;
        if used == 0 || used < percent(slots, USED_PERCENT) || slots == 0 {
            return false;
        }
        let mut limit = MAX_UPLOAD.max(self.estimate);
        match self.bottleneck {
            Some(met) if now < met.retry_at => limit = met.rate.max(self.estimate),
            // It has been exceeded, by children in place, and was not met: it is there no more.
            Some(met) if self.budget > met.rate => self.bottleneck = None,
            Some(_) | None => {}
        }
        // Never by more than a child beyond what children have proved, or a quarter.
        let step = self.budget.saturating_add(stream_rate.max(self.budget / 4));
        self.estimate = percent(self.estimate, 125).min(step).min(limit);
        let makes_room = self.estimate >= self.budget.saturating_add(stream_rate);
        if makes_room {
            self.budget = self.estimate;
        }
        makes_room
    }

    /// Without a child nothing is measured: where there is no room for one, one is tried from time
    /// to time.
    fn try_again(&mut self, now: Instant, stream_rate: u64) -> bool {
        let is_due = self.bottleneck.is_some_and(|met| met.retry_at <= now);
        if !is_due || self.budget >= stream_rate {
            return false;
        }
        self.estimate = stream_rate;
        self.budget = stream_rate;
        true
    }
}

fn percent(value: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
