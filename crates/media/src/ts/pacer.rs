//! When the bytes of a stream go out, so that a player over HTTP gets them as it plays them.
//!
//! Decides by the `dts` of what is queued and by one anchor: the first unit and the moment it was
//! asked for. A source that stops and goes on, or whose clock jumps, moves the anchor. Time is
//! given by the caller, as a distance from an origin of its choice.

use std::collections::VecDeque;
use std::time::Duration;

use banyan_wire::MediaTime;
use bytes::Bytes;

use crate::error::PacerFull;

/// Most bytes that wait: half a minute at 16 Mbit/s. Past it, [`Pacer::push`] refuses.
const MAX_QUEUED: usize = 64 << 20;

/// A step of media time further than this, in ticks, moves the anchor: 2 s.
const MAX_STEP: i64 = 2 * MediaTime::HZ;

/// Lateness above which the anchor moves, so that what follows is smooth again and not hurried.
/// A guess: about one generation.
const MAX_LATENESS: Duration = Duration::from_millis(500);

/// A queue that releases bytes at the pace of their media time.
#[derive(Debug)]
pub struct Pacer {
    head_start: Duration,
    queue: VecDeque<Queued>,
    queued: usize,
    last_dts: Option<MediaTime>,
    /// When media time 0 would be due, in microseconds since the caller's origin.
    anchor: Option<i64>,
}

#[derive(Debug)]
struct Queued {
    bytes: Bytes,
    dts: MediaTime,
    /// The anchor is to be set anew by this one.
    is_jump: bool,
}

impl Pacer {
    /// Creates a pacer that releases the first `head_start` of the stream at once, to fill the
    /// player's buffer.
    #[must_use]
    pub const fn new(head_start: Duration) -> Self {
        Self { head_start, queue: VecDeque::new(), queued: 0, last_dts: None, anchor: None }
    }

    /// Queues the bytes of a unit, due `dts` after the first one's.
    ///
    /// # Errors
    ///
    /// If more than 64 MiB wait; the bytes are not queued. A caller that hears it should end the
    /// stream or take what is due.
    pub fn push(&mut self, bytes: Bytes, dts: MediaTime) -> Result<(), PacerFull> {
        if self.queued.saturating_add(bytes.len()) > MAX_QUEUED {
            return Err(PacerFull { limit: MAX_QUEUED });
        }
        let is_jump = self.last_dts.is_some_and(|last| {
            dts.0.saturating_sub(last.0).unsigned_abs() > MAX_STEP.unsigned_abs()
        });
        self.last_dts = Some(dts);
        self.queued += bytes.len();
        self.queue.push_back(Queued { bytes, dts, is_jump });
        Ok(())
    }

    /// The next bytes, if they are due at `now`. Call until it gives `None`.
    #[must_use]
    pub fn poll(&mut self, now: Duration) -> Option<Bytes> {
        let first = self.queue.front()?;
        let now = micros(now);
        let media = media_micros(first.dts);
        match self.anchor {
            None => self.anchor = Some(now.saturating_sub(media)),
            // What was before the jump is out, so this one follows at once.
            Some(_) if first.is_jump => {
                self.anchor =
                    Some(now.saturating_sub(media).saturating_add(micros(self.head_start)));
            }
            Some(anchor) => {
                let late = now.saturating_sub(self.due(anchor, first.dts));
                if late > micros(MAX_LATENESS) {
                    self.anchor = Some(anchor.saturating_add(late));
                }
            }
        }
        let is_due = self.anchor.is_some_and(|anchor| self.due(anchor, first.dts) <= now);
        if !is_due {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.queued -= next.bytes.len();
        Some(next.bytes)
    }

    /// When to call [`poll`](Self::poll) next; `None` if nothing waits. It may be in the past.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let first = self.queue.front()?;
        let due = match self.anchor {
            Some(anchor) if !first.is_jump => self.due(anchor, first.dts),
            _ => 0,
        };
        Some(Duration::from_micros(u64::try_from(due).unwrap_or(0)))
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn queued_bytes(&self) -> usize {
        self.queued
    }

    fn due(&self, anchor: i64, dts: MediaTime) -> i64 {
        anchor.saturating_add(media_micros(dts)).saturating_sub(micros(self.head_start))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Microseconds, without the overflow that absurd times would cause.
fn media_micros(time: MediaTime) -> i64 {
    MediaTime(time.0.clamp(i64::MIN / 128, i64::MAX / 128)).as_micros()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn pacer_with(dts_ms: &[i64], head_start: Duration) -> Pacer {
        let mut pacer = Pacer::new(head_start);
        for dts in dts_ms {
            push(&mut pacer, *dts);
        }
        pacer
    }

    fn push(pacer: &mut Pacer, dts_ms: i64) {
        let bytes = Bytes::from(dts_ms.to_string());
        pacer.push(bytes, MediaTime::from_micros(dts_ms * 1000)).unwrap();
    }

    fn due(pacer: &mut Pacer, now: Duration) -> Vec<Bytes> {
        std::iter::from_fn(|| pacer.poll(now)).collect()
    }

    #[test]
    fn bytes_go_out_at_the_pace_of_their_time() {
        let mut pacer = pacer_with(&[500, 540, 580], Duration::ZERO);
        assert_eq!(due(&mut pacer, ms(9000)), ["500"]);
        assert_eq!(pacer.next_due(), Some(ms(9040)));
        assert_eq!(due(&mut pacer, ms(9039)), [""; 0]);
        assert_eq!(due(&mut pacer, ms(9040)), ["540"]);
        assert_eq!(due(&mut pacer, ms(9100)), ["580"]);
        assert_eq!((pacer.next_due(), pacer.queued_bytes()), (None, 0));
    }

    #[test]
    fn a_head_start_fills_the_buffer_of_the_player() {
        let mut pacer = pacer_with(&[0, 100, 200, 300], ms(200));
        assert_eq!(due(&mut pacer, ms(1000)), ["0", "100", "200"]);
        assert_eq!(pacer.next_due(), Some(ms(1100)));
    }

    #[test]
    fn after_a_stall_the_stream_goes_on_smoothly() {
        let mut pacer = pacer_with(&[0], Duration::ZERO);
        assert_eq!(due(&mut pacer, ms(0)), ["0"]);
        push(&mut pacer, 40);
        push(&mut pacer, 80);
        // Three seconds late: the next one is not hurried.
        assert_eq!(due(&mut pacer, ms(3040)), ["40"]);
        assert_eq!(pacer.next_due(), Some(ms(3080)));
    }

    #[test]
    fn a_jump_of_the_clock_neither_blocks_nor_floods() {
        let mut pacer = pacer_with(&[0, 40, 90_000, 90_040, 10, 50], Duration::ZERO);
        assert_eq!(due(&mut pacer, ms(0)), ["0"]);
        assert_eq!(due(&mut pacer, ms(40)), ["40", "90000"]);
        assert_eq!(due(&mut pacer, ms(80)), ["90040", "10"]);
        assert_eq!(due(&mut pacer, ms(120)), ["50"]);
    }

    #[test]
    fn absurd_times_do_no_harm() {
        let mut pacer = Pacer::new(Duration::MAX);
        for dts in [i64::MIN, i64::MAX, 0] {
            pacer.push(Bytes::new(), MediaTime(dts)).unwrap();
        }
        for now in [Duration::MAX, Duration::ZERO, ms(1)] {
            let _ = due(&mut pacer, now);
            let _ = pacer.next_due();
        }
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut pacer = Pacer::new(Duration::ZERO);
        let bytes = Bytes::from(vec![0; MAX_QUEUED / 2]);
        pacer.push(bytes.clone(), MediaTime(0)).unwrap();
        pacer.push(bytes.clone(), MediaTime(0)).unwrap();
        assert_eq!(pacer.push(bytes, MediaTime(0)), Err(PacerFull { limit: MAX_QUEUED }));
    }
}
