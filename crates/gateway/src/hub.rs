//! The newest stretch of the programme, shared by all who watch it.
//!
//! Decides what is kept: the newest GOP, so that a new client starts at once, and what a slow client
//! may still have to come; and beside them what [`crate::hls`] serves, whose limits stand there. There is one copy for all clients; each has a place in it, so a client
//! costs the hub nothing and is never waited for. What a client does when its place is
//! gone is left to [`crate::client`].
//!
//! ```text
//!                      newest key                 next
//!   ── dropped ── │ K  .  .  .  K  .  .  .  .  .  │
//!                   ▲ first          ▲ a client   ▲ a client that waits
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use banyan_media::{AccessUnit, CmafMuxer, ts_carries};
use banyan_wire::{Codec, Track};
use tokio::sync::watch;

use crate::hls::window::{self as hls, MAX_PART};

/// Most bytes of access units kept: half a minute at 8 Mbit/s. Past it the oldest generation goes,
/// and if that was where the newest GOP began, new clients wait for the next. A generation that
/// is larger is not kept at all.
pub const MAX_HELD_BYTES: usize = 32 << 20;

/// Most generations kept, for GOPs of many tiny ones: two minutes at the default length.
pub const MAX_HELD_GENERATIONS: usize = 256;

/// Generations a client may be behind before it is moved on: about ten seconds. A guess: longer than
/// the hiccups of a home network, shorter than a viewer's patience.
pub(crate) const MAX_BEHIND: u64 = 20;

/// What the viewers of one process watch: give it generations as they are due for playout.
#[derive(Debug)]
pub struct LiveHub {
    window: Mutex<Window>,
    /// Only for who pushes.
    muxer: Mutex<CmafMuxer>,
    segments: Mutex<hls::Window>,
    news: watch::Sender<()>,
}

/// Whether there is something to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The tracks are not known yet.
    Unknown,
    /// The tracks are known.
    Live,
    /// The broadcast is over.
    Over,
}

/// One generation in the window.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) tracks: Arc<[Track]>,
    pub(crate) units: Arc<Vec<AccessUnit>>,
    random_access: bool,
    bytes: usize,
}

/// A place to start at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The newest generation that begins with random access.
    pub(crate) at: u64,
    /// One past the newest generation.
    pub(crate) edge: u64,
}

/// What is at a place in the window.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A generation, and how many follow it.
    Held { entry: Entry, edge: u64 },
    /// Nothing yet.
    Ahead,
    /// Nothing, and nothing will come.
    Over,
    /// The generation is no longer kept.
    Gone,
}

#[derive(Debug, Default)]
struct Window {
    tracks: Option<Arc<[Track]>>,
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: u64,
    bytes: usize,
    newest_key: Option<u64>,
    is_over: bool,
}

impl LiveHub {
    /// Creates a hub whose broadcast has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            window: Mutex::default(),
            // Browsers take one track of sound.
            muxer: Mutex::new(CmafMuxer::new(MAX_PART, 1)),
            segments: Mutex::default(),
            news: watch::Sender::new(()),
        }
    }

    /// Says what the generations that follow are made of. Nothing is served before. An empty list
    /// is ignored, as is one that changes nothing.
    pub fn set_tracks(&self, tracks: Vec<Track>) {
        let mut window = self.lock();
        if tracks.is_empty() || window.tracks.as_deref() == Some(tracks.as_slice()) {
            return;
        }
        window.tracks = Some(tracks.into());
        drop(window);
        self.news.send_replace(());
    }

    /// Adds the units of the next generation; `random_access` says whether it begins with a picture
    /// to start at. Generations that are missing are simply not pushed.
    ///
    /// Never waits. Ignored without units, before the tracks are known and after the end.
    pub fn push(&self, units: Arc<Vec<AccessUnit>>, random_access: bool) {
        let mut window = self.lock();
        let Some(tracks) = window.tracks.clone() else { return };
        let bytes = units.iter().map(|unit| unit.data.len()).sum();
        if window.is_over || units.is_empty() || bytes > MAX_HELD_BYTES {
            return;
        }
        window.push(Entry {
            tracks: Arc::clone(&tracks),
            units: Arc::clone(&units),
            random_access,
            bytes,
        });
        drop(window);
        self.push_segments(&tracks, &units);
        self.news.send_replace(());
    }

    /// Muxes a generation once for all players of HLS. They do not wait for that.
    fn push_segments(&self, tracks: &[Track], units: &[AccessUnit]) {
        let mut muxer = self.muxer.lock().unwrap_or_else(PoisonError::into_inner);
        muxer.set_tracks(tracks);
        let fragments = muxer.push(units);
        self.segments().push(fragments, SystemTime::now());
    }

    /// Says that nothing will follow: clients get what there is, then their streams end.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.segments().end();
        self.news.send_replace(());
    }

    pub(crate) fn status(&self) -> Status {
        let window = self.lock();
        match &window.tracks {
            _ if window.is_over => Status::Over,
            Some(_) => Status::Live,
            None => Status::Unknown,
        }
    }

    /// A codec of the programme that a transport stream does not carry.
    pub(crate) fn beyond_ts(&self) -> Option<Codec> {
        let window = self.lock();
        let mut codecs = window.tracks.iter().flat_map(|tracks| tracks.iter()).map(|t| t.codec);
        codecs.find(|codec| !ts_carries(*codec))
    }

    /// What HLS serves.
    pub(crate) fn segments(&self) -> MutexGuard<'_, hls::Window> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told of every change. The receiver lives no longer than the hub.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Where a client should start, unless there is nothing to start at.
    pub(crate) fn start(&self) -> Option<Start> {
        let window = self.lock();
        let at = window.newest_key.filter(|key| *key >= window.first)?;
        Some(Start { at, edge: window.edge() })
    }

    /// One past the newest generation.
    pub(crate) fn edge(&self) -> u64 {
        self.lock().edge()
    }

    pub(crate) fn at(&self, place: u64) -> Place {
        let window = self.lock();
        let Some(index) = place.checked_sub(window.first) else { return Place::Gone };
        let entry = usize::try_from(index).ok().and_then(|index| window.entries.get(index));
        match entry {
            Some(entry) => Place::Held { entry: entry.clone(), edge: window.edge() },
            None if window.is_over => Place::Over,
            None => Place::Ahead,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        // Nothing that can panic runs under the lock; and a window is fit for use at any moment.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LiveHub {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    fn edge(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn push(&mut self, entry: Entry) {
        if entry.random_access {
            self.newest_key = Some(self.edge());
        }
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
        // No client needs what lies before the newest GOP and is further behind than it may be.
        let behind = self.edge().saturating_sub(MAX_BEHIND);
        let needed_from = self.newest_key.map_or(behind, |key| key.min(behind));
        while self.first < needed_from
            || self.bytes > MAX_HELD_BYTES
            || self.entries.len() > MAX_HELD_GENERATIONS
        {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes;
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use banyan_media::Priority;
    use banyan_wire::{Codec, MediaTime, Rendition, TrackId};
    use bytes::Bytes;

    use super::*;

    fn track(id: u8) -> Track {
        Track {
            id: TrackId(id),
            codec: Codec::Aac,
            width: 0,
            height: 0,
            sample_rate: 48_000,
            channels: 2,
            language: String::new(),
            rendition: Rendition::Full,
            config: Bytes::new(),
        }
    }

    fn units(len: usize) -> Arc<Vec<AccessUnit>> {
        Arc::new(vec![AccessUnit {
            track: TrackId(0),
            pts: MediaTime(0),
            dts: MediaTime(0),
            random_access: true,
            priority: Priority::Audio,
            data: Bytes::from(vec![0; len]),
        }])
    }

    fn hub() -> LiveHub {
        let hub = LiveHub::new();
        hub.set_tracks(vec![track(0)]);
        hub
    }

    fn is_gone(hub: &LiveHub, place: u64) -> bool {
        matches!(hub.at(place), Place::Gone)
    }

    #[test]
    fn nothing_is_live_before_the_tracks_and_after_the_end() {
        let hub = LiveHub::new();
        assert_eq!(hub.status(), Status::Unknown);
        hub.push(units(1), true);
        hub.set_tracks(Vec::new());
        assert_eq!((hub.status(), hub.start()), (Status::Unknown, None));
        hub.set_tracks(vec![track(0)]);
        assert_eq!((hub.status(), hub.start()), (Status::Live, None));
        hub.end();
        hub.push(units(1), true);
        assert_eq!((hub.status(), hub.edge()), (Status::Over, 0));
        assert!(matches!(hub.at(0), Place::Over));
    }

    #[test]
    fn a_client_starts_at_the_newest_generation_with_random_access() {
        let hub = hub();
        hub.push(units(1), false);
        assert_eq!(hub.start(), None);
        for at in 1..=7 {
            hub.push(units(1), at % 3 == 0);
        }
        assert_eq!(hub.start(), Some(Start { at: 6, edge: 8 }));
    }

    #[test]
    fn a_long_gop_is_kept_from_its_start() {
        let hub = hub();
        for at in 0..100 {
            hub.push(units(1), at == 10);
        }
        assert_eq!(hub.start(), Some(Start { at: 10, edge: 100 }));
        assert!(is_gone(&hub, 9) && !is_gone(&hub, 10));
        hub.push(units(1), true);
        assert!(is_gone(&hub, 80) && !is_gone(&hub, 81));
    }

    #[test]
    fn an_endless_gop_and_a_fat_one_are_bounded() {
        let hub = hub();
        for at in 0..1000 {
            hub.push(units(1), at == 0);
        }
        assert_eq!(hub.lock().entries.len(), MAX_HELD_GENERATIONS);
        assert_eq!(hub.start(), None);
        for at in 0..10 {
            hub.push(units(MAX_HELD_BYTES / 4), at == 0);
        }
        assert_eq!(hub.lock().bytes, MAX_HELD_BYTES);
        let edge = hub.edge();
        hub.push(units(MAX_HELD_BYTES + 1), true);
        assert_eq!(hub.edge(), edge);
    }

    #[test]
    fn every_change_is_news() {
        let hub = hub();
        let mut news = hub.news();
        hub.set_tracks(vec![track(0)]);
        assert!(!news.has_changed().is_ok_and(|changed| changed));
        hub.set_tracks(vec![track(1)]);
        assert!(news.has_changed().is_ok_and(|changed| changed));
        news.borrow_and_update();
        hub.push(units(1), true);
        assert!(news.has_changed().is_ok_and(|changed| changed));
    }
}
