//! What waits to be written to one connection. Shared by whoever sends and the connection's task.
//!
//! Decides what is dropped: data that has expired or does not fit, never a control message and
//! never a frame whose first byte is written.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use banyan_wire::frame::Frame;
use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::{Lane, LinkConfig};

/// The queues of one connection.
#[derive(Debug)]
pub(crate) struct SendQueue {
    state: Mutex<State>,
    task: AtomicWaker,
    is_kept: AtomicBool,
    is_corked: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    waiting: [VecDeque<Waiting>; 2],
    /// Bytes waiting or half written, by lane.
    bytes: [usize; 2],
    dropped: u32,
    is_closing: bool,
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    expires_at: Option<Instant>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits.
    Queued,
    /// The queue is full of data that is still in time, or the connection is closing.
    Dropped,
    /// A control message does not fit: the connection is beyond help.
    Overflow,
}

/// The state of the queues at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    /// Whether a frame waits, by lane.
    pub(crate) has_waiting: [bool; 2],
    /// Bytes not yet written, both lanes.
    pub(crate) bytes: usize,
    /// Whether the connection is to be closed once everything is written.
    pub(crate) is_closing: bool,
}

impl SendQueue {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self {
            state: Mutex::default(),
            task: AtomicWaker::new(),
            is_kept: AtomicBool::new(is_kept),
            is_corked: AtomicBool::new(false),
        }
    }

    /// Appends a frame. The connection's task learns of it when it is [uncorked](Self::uncork).
    pub(crate) fn push(
        &self,
        lane: Lane,
        frame: Frame,
        expires_at: Option<Instant>,
        config: &LinkConfig,
    ) -> Pushed {
        let mut state = self.lock();
        if state.is_closing {
            return Pushed::Dropped;
        }
        let length = frame.len();
        match lane {
            Lane::Control => {
                let is_full = state.waiting[lane.index()].len() >= config.max_control_frames
                    || state.bytes[lane.index()] + length > config.max_control_bytes;
                if is_full {
                    return Pushed::Overflow;
                }
            }
            Lane::Data if state.bytes[lane.index()] + length > config.max_data_bytes => {
                // Whoever reads too slowly holds mostly what is too late already.
                state.drop_expired(lane, Instant::now());
                if state.bytes[lane.index()] + length > config.max_data_bytes {
                    state.dropped = state.dropped.saturating_add(1);
                    return Pushed::Dropped;
                }
            }
            Lane::Data => {}
        }
        state.bytes[lane.index()] += length;
        state.waiting[lane.index()].push_back(Waiting { frame, expires_at });
        Pushed::Queued
    }

    /// Takes note that the task is to be woken; returns whether that is new.
    pub(crate) fn cork(&self) -> bool {
        !self.is_corked.swap(true, Ordering::Relaxed)
    }

    /// Wakes the connection's task.
    pub(crate) fn uncork(&self) {
        self.is_corked.store(false, Ordering::Relaxed);
        self.task.wake();
    }

    /// Takes the next frame that is still of use. Its bytes count until [`written`](Self::written).
    pub(crate) fn pop(&self, lane: Lane, now: Instant) -> Option<Frame> {
        let mut state = self.lock();
        state.drop_expired(lane, now);
        state.waiting[lane.index()].pop_front().map(|waiting| waiting.frame)
    }

    /// Takes note that `bytes` are on their way.
    pub(crate) fn written(&self, lane: Lane, bytes: usize) {
        let mut state = self.lock();
        let queued = &mut state.bytes[lane.index()];
        *queued = queued.saturating_sub(bytes);
    }

    pub(crate) fn level(&self) -> Level {
        let state = self.lock();
        Level {
            has_waiting: [!state.waiting[0].is_empty(), !state.waiting[1].is_empty()],
            bytes: state.bytes[0] + state.bytes[1],
            is_closing: state.is_closing,
        }
    }

    /// Messages dropped since this was last asked.
    pub(crate) fn take_dropped(&self) -> u32 {
        std::mem::take(&mut self.lock().dropped)
    }

    /// Closes the connection once everything is written; nothing more is taken.
    pub(crate) fn close(&self) {
        self.lock().is_closing = true;
        self.task.wake();
    }

    /// Whether the connection is to stay open while nothing moves.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }

    pub(crate) fn set_kept(&self, is_kept: bool) {
        if self.is_kept.swap(is_kept, Ordering::Relaxed) != is_kept {
            self.task.wake();
        }
    }

    /// Says whom to wake when something changes.
    pub(crate) fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_expired(&mut self, lane: Lane, now: Instant) {
        let waiting = &mut self.waiting[lane.index()];
        while let Some(front) = waiting.front() {
            if front.expires_at.is_none_or(|expires_at| now < expires_at) {
                return;
            }
            self.bytes[lane.index()] -= front.frame.len();
            self.dropped = self.dropped.saturating_add(1);
            waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn frame(length: usize) -> Frame {
        Frame { head: Bytes::from(vec![0; 10]), payload: Bytes::from(vec![0; length - 10]) }
    }

    fn config() -> LinkConfig {
        LinkConfig { max_data_bytes: 250, max_control_bytes: 250, max_control_frames: 3 }
    }

    #[test]
    fn data_that_does_not_fit_is_dropped_and_counted() {
        let queue = SendQueue::new(false);
        for _ in 0..2 {
            assert_eq!(queue.push(Lane::Data, frame(100), None, &config()), Pushed::Queued);
        }
        assert_eq!(queue.push(Lane::Data, frame(100), None, &config()), Pushed::Dropped);
        assert_eq!(queue.take_dropped(), 1);
        assert_eq!(queue.level().bytes, 200);
    }

    #[test]
    fn expired_data_makes_room_and_is_never_written() {
        let queue = SendQueue::new(false);
        let now = Instant::now();
        for _ in 0..2 {
            queue.push(Lane::Data, frame(100), Some(now), &config());
        }
        let later = now + Duration::from_secs(60);
        assert_eq!(queue.push(Lane::Data, frame(90), Some(later), &config()), Pushed::Queued);
        assert_eq!(queue.pop(Lane::Data, now).map(|frame| frame.len()), Some(90));
        assert_eq!(queue.take_dropped(), 2);
    }

    #[test]
    fn control_messages_are_never_dropped_but_bounded() {
        let queue = SendQueue::new(false);
        for _ in 0..2 {
            assert_eq!(queue.push(Lane::Control, frame(100), None, &config()), Pushed::Queued);
        }
        assert_eq!(queue.push(Lane::Control, frame(100), None, &config()), Pushed::Overflow);
        assert_eq!(queue.push(Lane::Control, frame(11), None, &config()), Pushed::Queued);
        assert_eq!(queue.push(Lane::Control, frame(11), None, &config()), Pushed::Overflow);
    }

    #[test]
    fn a_frame_counts_until_its_last_byte_is_written() {
        let queue = SendQueue::new(false);
        queue.push(Lane::Data, frame(100), None, &config());
        assert!(queue.pop(Lane::Data, Instant::now()).is_some());
        assert_eq!(queue.level().bytes, 100);
        queue.written(Lane::Data, 100);
        assert_eq!(queue.level().bytes, 0);
    }
}
