//! What a demuxer keeps between a stream's first unit and the announcement of its tracks.
//!
//! Decides how much is held back, and how long is too long. When enough is known of the tracks to
//! announce them, is left to the demuxers.

use std::collections::VecDeque;

use banyan_wire::{MediaTime, TrackId};

use crate::ts::demux::Event;

/// Bytes of units held back until the tracks are announced; past it, the oldest are dropped.
const MAX_HELD: usize = 8 << 20;

/// How long the picture waits for streams of sound that show nothing, in ticks.
const HOLD_TIME: i64 = MediaTime::HZ;

/// Events held back until the tracks are announced.
#[derive(Debug, Default)]
pub(crate) struct Held {
    events: VecDeque<Event>,
    bytes: usize,
    /// Of the first unit that was ever held.
    from: Option<MediaTime>,
}

impl Held {
    pub(crate) fn push(&mut self, event: Event) {
        if let Event::AccessUnit(unit) = &event {
            self.bytes += unit.data.len();
            self.from.get_or_insert(unit.dts);
        }
        self.events.push_back(event);
        while self.bytes > MAX_HELD {
            if let Some(Event::AccessUnit(unit)) = self.events.pop_front() {
                self.bytes -= unit.data.len();
            }
        }
    }

    /// Whether the units that are held are of a longer time than anybody is waited for.
    pub(crate) fn is_late(&self) -> bool {
        let last = self.events.iter().rev().find_map(|event| match event {
            Event::AccessUnit(unit) => Some(unit.dts),
            Event::Tracks(_)
            | Event::Skipped { .. }
            | Event::SkippedTrack { .. }
            | Event::Discontinuity => None,
        });
        match (self.from, last) {
            (Some(first), Some(last)) => last - first > HOLD_TIME,
            _ => false,
        }
    }

    /// Drops what is held of a track that will not be announced.
    pub(crate) fn forget(&mut self, id: TrackId) {
        self.events.retain(|event| !matches!(event, Event::AccessUnit(unit) if unit.track == id));
        let length = |event: &Event| {
            if let Event::AccessUnit(unit) = event { unit.data.len() } else { 0 }
        };
        self.bytes = self.events.iter().map(length).sum();
    }

    /// Gives all that is held, in order.
    pub(crate) fn take(&mut self) -> VecDeque<Event> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }
}
