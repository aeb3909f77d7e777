//! The events on their way to the application: a bounded queue that never blocks the driver.
//!
//! An application that does not keep up loses generations, oldest first: a late picture is worth
//! nothing. What is lost is counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use banyan_core::Event;
use tokio::sync::Notify;

/// Most events that wait.
const MAX_EVENTS: usize = 1024;
/// Most generations among them: 16 s of 500 ms each.
const MAX_GENERATIONS: usize = 32;

/// Makes a queue: the end that is filled, and the end that is read.
pub(crate) fn queue() -> (EventSender, EventReceiver) {
    let shared = Arc::new(Shared::default());
    (EventSender(Arc::clone(&shared)), EventReceiver(shared))
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    generations: usize,
    dropped: u64,
    is_over: bool,
}

/// The driver's end. Dropping it ends the stream of events.
#[derive(Debug)]
pub(crate) struct EventSender(Arc<Shared>);

/// The application's end.
#[derive(Debug)]
pub(crate) struct EventReceiver(Arc<Shared>);

impl EventSender {
    /// Appends an event. Never waits.
    pub(crate) fn send(&self, event: Event) {
        let mut state = self.0.lock();
        if is_generation(&event) {
            if state.generations >= MAX_GENERATIONS {
                state.drop_oldest_generation();
            }
            state.generations += 1;
        } else if state.events.len() >= MAX_EVENTS && !state.drop_oldest_generation() {
            // Nobody has read a thousand events: the oldest tells of a state long gone.
            state.events.pop_front();
            state.dropped += 1;
        }
        state.events.push_back(event);
        drop(state);
        self.0.changed.notify_one();
    }

    /// Whether the application has dropped its end.
    pub(crate) fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_one();
    }
}

impl EventReceiver {
    /// Waits for the next event; `None` once there are no more.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            {
                let mut state = self.0.lock();
                if let Some(event) = state.events.pop_front() {
                    if is_generation(&event) {
                        state.generations -= 1;
                    }
                    return Some(event);
                }
                if state.is_over {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }

    /// Events lost so far because they were not read in time.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_oldest_generation(&mut self) -> bool {
        let Some(index) = self.events.iter().position(is_generation) else { return false };
        self.events.remove(index);
        self.generations -= 1;
        self.dropped += 1;
        true
    }
}

const fn is_generation(event: &Event) -> bool {
    matches!(event, Event::Generation(_))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use banyan_core::Playout;
    use banyan_wire::GenerationId;

    use super::*;

    fn generation(id: u64) -> Event {
        Event::Generation(Playout {
            generation: GenerationId(id),
            received: 0,
            arrived: 0,
            stripes: 16,
            layers: Vec::new(),
            is_random_access: false,
            lag: Duration::ZERO,
        })
    }

    #[tokio::test]
    async fn late_generations_are_dropped_oldest_first_and_everything_else_stays() {
        let (sender, mut receiver) = queue();
        sender.send(Event::SourceLost);
        for id in 0..MAX_GENERATIONS as u64 + 2 {
            sender.send(generation(id));
        }
        sender.send(Event::Ended);
        drop(sender);
        assert_eq!(receiver.dropped(), 2);
        assert_eq!(receiver.next().await, Some(Event::SourceLost));
        assert_eq!(receiver.next().await, Some(generation(2)));
        for _ in 0..MAX_GENERATIONS - 1 {
            assert!(receiver.next().await.is_some());
        }
        assert_eq!(receiver.next().await, Some(Event::Ended));
        assert_eq!(receiver.next().await, None);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_whatever_the_events_are() {
        let (sender, receiver) = queue();
        for _ in 0..MAX_EVENTS + 5 {
            sender.send(Event::SourceLost);
        }
        assert_eq!(receiver.dropped(), 5);
    }
}
