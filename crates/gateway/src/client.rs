//! One player's way through the programme: what it gets next, and when.
//!
//! Decides where it starts, that it gets at once what there is and the rest at the pace of the
//! programme, and what happens if it does not keep up. Bytes in, bytes out: time is an argument,
//! sockets and tasks are left to [`crate::live`].
//!
//! ```text
//!   Waiting ──▶ Burst: the newest GOP, at once ──▶ Paced: each generation from its arrival on,
//!      ▲            ▲                                 │     at the pace of its dts
//!      │            └── too far behind: to the newest random access ──┤
//!      └──────────────── its place is gone, and no such ──────────────┘
//! ```
//!
//! A client waits for generations, never a generation for a client: what it has not taken stays in
//! the hub, and one that is moved on leaves out what lies between. The timestamps of what is left
//! out, or never came, are the muxer's business.

use std::sync::Arc;
use std::time::Duration;

use banyan_media::{Pacer, TsMuxer};
use banyan_wire::Track;
use bytes::{Bytes, BytesMut};

use crate::hub::{Entry, LiveHub, MAX_BEHIND, Place};

/// Small pieces that are due together are joined up to this, in bytes.
const PIECE: usize = 64 << 10;

/// How long a client may go without catching up, from where it was first moved on. A guess.
const MAX_LAGGING: Duration = Duration::from_secs(30);

/// What to do for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send these bytes, then ask again.
    Send(Bytes),
    /// Ask again when the hub has news, or at this time.
    Wait(Option<Duration>),
    /// Close the stream.
    End(End),
}

/// Why a stream is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The broadcast is over, and all of it has been sent.
    Over,
    /// The client has been too slow for too long.
    TooSlow,
}

/// One client of the live stream.
#[derive(Debug)]
pub(crate) struct Client {
    hub: Arc<LiveHub>,
    stream: Option<Stream>,
    /// Queue of the generation being sent: never more than one.
    pacer: Pacer,
    position: Option<Position>,
    /// When it was first moved on without having caught up since.
    lagging_since: Option<Duration>,
    skips: u64,
}

#[derive(Debug)]
struct Stream {
    tracks: Arc<[Track]>,
    muxer: TsMuxer,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    next: u64,
    /// What lies before it goes out at once.
    burst_until: u64,
}

impl Client {
    /// Creates a client that has got nothing yet.
    pub(crate) const fn new(hub: Arc<LiveHub>) -> Self {
        Self {
            hub,
            stream: None,
            pacer: Pacer::new(Duration::ZERO),
            position: None,
            lagging_since: None,
            skips: 0,
        }
    }

    /// What to do at `now`, a time since an origin of the caller's choice.
    pub(crate) fn step(&mut self, now: Duration) -> Step {
        if self.lagging_since.is_some_and(|since| now.saturating_sub(since) > MAX_LAGGING) {
            return Step::End(End::TooSlow);
        }
        loop {
            if let Some(bytes) = self.take_due(now) {
                return Step::Send(bytes);
            }
            let waits = self.pacer.next_due();
            let Some(mut position) = self.position else {
                match self.begin() {
                    Some(position) => self.position = Some(position),
                    None => return self.wait_to_begin(),
                }
                continue;
            };
            if self.is_overdue(position)
                && let Some(start) = self.hub.start().filter(|start| start.at > position.next)
            {
                let rest = self.take_rest();
                self.move_on(now);
                self.position = Some(Position { next: start.at, burst_until: start.edge });
                match rest {
                    Some(rest) => return Step::Send(rest),
                    None => continue,
                }
            }
            if waits.is_some() {
                return Step::Wait(waits);
            }
            match self.hub.at(position.next) {
                Place::Held { entry, edge } => {
                    let is_burst = position.next < position.burst_until;
                    position.next += 1;
                    self.position = Some(position);
                    if position.next == edge {
                        self.lagging_since = None;
                    }
                    if let Some(bytes) = self.mux(&entry, is_burst) {
                        return Step::Send(bytes);
                    }
                }
                Place::Ahead => return Step::Wait(None),
                Place::Over => return Step::End(End::Over),
                Place::Gone => {
                    self.move_on(now);
                    self.position = None;
                }
            }
        }
    }

    /// How often it was moved on.
    pub(crate) const fn skips(&self) -> u64 {
        self.skips
    }

    fn begin(&self) -> Option<Position> {
        let start = self.hub.start()?;
        Some(Position { next: start.at, burst_until: start.edge })
    }

    fn wait_to_begin(&mut self) -> Step {
        // That there is nothing to start at is not its fault.
        self.lagging_since = None;
        match self.hub.at(self.hub.edge()) {
            Place::Over => Step::End(End::Over),
            Place::Ahead | Place::Gone | Place::Held { .. } => Step::Wait(None),
        }
    }

    /// Whether more waits for it than may. What was there when it started does not count: that GOP
    /// may be long.
    fn is_overdue(&self, position: Position) -> bool {
        let from = position.next.max(position.burst_until);
        self.hub.edge().saturating_sub(from) > MAX_BEHIND
    }

    fn move_on(&mut self, now: Duration) {
        self.skips += 1;
        self.lagging_since.get_or_insert(now);
        self.pacer = Pacer::new(Duration::ZERO);
        if let Some(stream) = &mut self.stream {
            stream.muxer.discontinue();
        }
    }

    fn take_due(&mut self, now: Duration) -> Option<Bytes> {
        let first = self.pacer.poll(now)?;
        if first.len() >= PIECE {
            return Some(first);
        }
        let mut piece = BytesMut::from(first);
        while piece.len() < PIECE
            && let Some(more) = self.pacer.poll(now)
        {
            piece.extend_from_slice(&more);
        }
        Some(piece.freeze())
    }

    /// What is in the pacer, due or not: without it, packets would be missing from the stream.
    fn take_rest(&mut self) -> Option<Bytes> {
        let mut rest = BytesMut::new();
        // At the end of time all is due.
        while let Some(more) = self.pacer.poll(Duration::MAX) {
            rest.extend_from_slice(&more);
        }
        (!rest.is_empty()).then(|| rest.freeze())
    }

    /// Writes a generation: to be sent at once, or into the pacer.
    fn mux(&mut self, entry: &Entry, is_burst: bool) -> Option<Bytes> {
        let stream = self.stream.get_or_insert_with(|| Stream {
            tracks: Arc::clone(&entry.tracks),
            muxer: TsMuxer::new(&entry.tracks),
        });
        if !Arc::ptr_eq(&stream.tracks, &entry.tracks) {
            stream.muxer.set_tracks(&entry.tracks);
            stream.tracks = Arc::clone(&entry.tracks);
        }
        let mut bytes = Vec::new();
        for unit in entry.units.iter() {
            stream.muxer.write(unit, &mut bytes);
            // Bytes of a unit whose track is not known are not there at all.
            if !is_burst && !bytes.is_empty() {
                // Full only if the units are absurdly many and small. Then this is their end.
                let result = self.pacer.push(std::mem::take(&mut bytes).into(), unit.dts);
                if let Err(error) = result {
                    tracing::warn!(%error, "a generation is cut short for a client");
                    break;
                }
            }
        }
        (!bytes.is_empty()).then(|| bytes.into())
    }
}

#[cfg(test)]
mod tests;
