//! Chooses, generation by generation, what a viewer shows of what arrived.
//!
//! Decides which access units still make sense: a picture whose reference is missing decodes to
//! garbage, often without an error, so pictures are passed on only in a chain that began with one
//! decoding can begin with. Of a programme in two renditions it decides which one is shown; both come
//! out as one video track, whose size and configuration change at the switch. Which layers arrive is
//! left to the coding and the network, what becomes of the units to muxers.
//!
//! ```text
//!   layers arrived    both   both   base   base   both   both   none   base
//!   begins with key   F L     L      L      L      L     F L     L      L
//!   shown             full   full   low    low    low    full   ─      low
//! ```
//!
//! The full rendition is gone back to at its next key picture, the low one is gone to at its own:
//! a source that sends one in every generation lets nobody freeze who has the first layer.
//!
//! Where pictures are decoded before others that are shown earlier, the last one shown may be later
//! than the key picture of the other rendition that comes next. Its first pictures are then needed for
//! those that follow, but their time is over: they are shown within a tick each, right after it.

use banyan_wire::{MediaTime, Rendition, Track, TrackId};

use crate::access_unit::{AccessUnit, Priority};
use crate::generation::low_track;

/// A key picture this much before what was shown, in ticks, is of a new timeline: the source has
/// started again.
const NEW_TIMELINE: i64 = 8 * MediaTime::HZ;

/// How far pictures of the other rendition may have been shown already, in ticks, to go over to it:
/// more than any encoder reorders at 25 pictures a second.
const MAX_OVERLAP: i64 = MediaTime::HZ / 2;

/// How much of a generation arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arrived {
    /// Not even the first layer, or nothing that can be read.
    Nothing,
    /// The first layer, and perhaps more, but not all.
    Base,
    /// All layers.
    All,
}

impl Arrived {
    /// Of layers, which are there.
    #[must_use]
    pub fn of<T>(layers: &[Option<T>]) -> Self {
        match layers {
            [] | [None, ..] => Self::Nothing,
            layers if layers.iter().all(Option::is_some) => Self::All,
            _ => Self::Base,
        }
    }
}

/// What is shown of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The units, in order, all of tracks in [`RenditionSwitch::tracks`].
    pub units: Vec<AccessUnit>,
    /// Whether a player that has seen nothing can begin with it.
    pub random_access: bool,
    /// The rendition whose pictures are shown in full; `None` where they are not decodable, so that
    /// there is only sound and, of one rendition, key pictures.
    pub rendition: Option<Rendition>,
}

/// A viewer's choice of what to show.
///
/// ```
/// use banyan_media::{Arrived, RenditionSwitch};
///
/// let mut switch = RenditionSwitch::new();
/// switch.set_tracks(&[]);
/// let shown = switch.show(Vec::new(), Arrived::All, true);
/// assert!(shown.units.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct RenditionSwitch {
    announced: Vec<Track>,
    shown: Vec<Track>,
    pair: Option<Pair>,
    chain: Option<Chain>,
    /// Whether the tracks that are shown are those of the low rendition.
    is_low: bool,
    /// The last presentation time of a picture that was shown.
    shown_until: Option<MediaTime>,
    /// Pictures of the chain up to this time were shown in the other rendition.
    overlap: Option<Overlap>,
}

/// Pictures whose time is over when their rendition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Overlap {
    /// What the other rendition showed last.
    until: MediaTime,
    /// How many were moved behind it.
    moved: i64,
}

impl Overlap {
    /// Moves a picture behind what was shown, a tick behind the one before.
    fn place(&mut self, pts: MediaTime) -> MediaTime {
        if pts > self.until {
            return pts;
        }
        self.moved += 1;
        self.until + self.moved
    }
}

/// The tracks of a programme in two renditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    full: TrackId,
    low: TrackId,
}

/// Pictures that refer to others can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chain {
    rendition: Rendition,
    /// Presentation time of the picture it began with; pictures before it refer to what is not
    /// there.
    from: Option<MediaTime>,
}

impl RenditionSwitch {
    /// Creates one that has shown nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what the generations that follow are made of.
    pub fn set_tracks(&mut self, tracks: &[Track]) {
        if self.announced == tracks {
            return;
        }
        self.announced = tracks.to_vec();
        let pair = low_track(tracks).and_then(|low| {
            let is_full =
                |track: &&Track| track.codec.is_video() && track.rendition == Rendition::Full;
            Some(Pair { full: tracks.iter().find(is_full)?.id, low })
        });
        if pair != self.pair {
            // The low rendition may come and go beside a full one that goes on.
            self.chain = self.chain.filter(|chain| chain.rendition == Rendition::Full);
            self.is_low &= pair.is_some();
        }
        self.pair = pair;
        self.describe();
    }

    /// The tracks of what is shown: those that were announced, but for one video track in place of
    /// the two renditions. It has the full one's id.
    #[must_use]
    pub fn tracks(&self) -> &[Track] {
        &self.shown
    }

    /// Says that generations are missing here altogether.
    pub fn skip(&mut self) {
        self.chain = None;
    }

    /// Chooses from the units of the next generation. `random_access` is what the source says of it.
    ///
    /// Sound is always shown. Of one rendition, key pictures are, too; all others only after a whole
    /// generation that began with a key, while generations are whole.
    pub fn show(
        &mut self,
        mut units: Vec<AccessUnit>,
        arrived: Arrived,
        random_access: bool,
    ) -> Shown {
        let Some(pair) = self.pair else { return self.show_only(units, arrived, random_access) };
        let chain = self.choose(pair, &units, arrived);
        if chain != self.chain {
            let from = chain.and_then(|chain| chain.from);
            let until = self.shown_until.filter(|until| {
                from.is_some_and(|from| from <= *until && !is_new_timeline(from, *until))
            });
            self.overlap = until.map(|until| Overlap { until, moved: 0 });
        }
        self.chain = chain;
        let shown = chain.map(|chain| match chain.rendition {
            Rendition::Low => pair.low,
            Rendition::Full | _ => pair.full,
        });
        let from = chain.and_then(|chain| chain.from);
        let overlap = &mut self.overlap;
        units.retain_mut(|unit| {
            if !unit.priority.is_video() {
                return true;
            }
            let is_shown = Some(unit.track) == shown && from.is_none_or(|from| unit.pts >= from);
            unit.track = pair.full;
            if let Some(overlap) = overlap.as_mut().filter(|_| is_shown) {
                unit.pts = overlap.place(unit.pts);
            }
            is_shown
        });
        if let Some(chain) = chain {
            self.is_low = chain.rendition == Rendition::Low;
            self.describe();
        }
        let pictures = || units.iter().filter(|unit| unit.priority.is_video());
        self.shown_until = pictures().map(|unit| unit.pts).chain(self.shown_until).max();
        let random_access = pictures().next().is_some_and(|unit| unit.random_access);
        Shown { units, random_access, rendition: chain.map(|chain| chain.rendition) }
    }

    /// The choice where there is one rendition only.
    fn show_only(
        &mut self,
        mut units: Vec<AccessUnit>,
        arrived: Arrived,
        random_access: bool,
    ) -> Shown {
        let is_full = arrived == Arrived::All;
        if random_access && is_full && self.chain.is_none() {
            let first = units.iter().find(|unit| unit.priority == Priority::Key);
            let from = first.map(|unit| unit.pts);
            self.chain = Some(Chain { rendition: Rendition::Full, from });
        }
        if !is_full {
            self.chain = None;
        }
        let chain = self.chain;
        units.retain(|unit| match unit.priority {
            Priority::Key | Priority::Audio => true,
            Priority::Reference | Priority::Droppable => {
                chain.is_some_and(|chain| chain.from.is_none_or(|from| unit.pts >= from))
            }
        });
        Shown { units, random_access, rendition: chain.map(|chain| chain.rendition) }
    }

    /// The chain the next generation is shown in, of two renditions.
    fn choose(&mut self, pair: Pair, units: &[AccessUnit], arrived: Arrived) -> Option<Chain> {
        let first = |track: TrackId| {
            units.iter().find(|unit| unit.priority.is_video() && unit.track == track)
        };
        let (full, low) = (first(pair.full), first(pair.low));
        // Where the source has only low pictures, they are better than none.
        let has_full = arrived == Arrived::All && (full.is_some() || low.is_none());
        let has_low = arrived >= Arrived::Base;
        let chain = self.chain;
        let goes_on = |rendition: Rendition| chain.filter(|chain| chain.rendition == rendition);
        if has_full {
            let begins = full.and_then(|unit| self.begin(Rendition::Full, unit));
            if let Some(chain) = goes_on(Rendition::Full).or(begins) {
                return Some(chain);
            }
        }
        if has_low {
            let begins = low.and_then(|unit| self.begin(Rendition::Low, unit));
            return goes_on(Rendition::Low).or(begins);
        }
        None
    }

    /// A new chain, if decoding can begin with this picture and time does not run far back with it.
    fn begin(&self, rendition: Rendition, first: &AccessUnit) -> Option<Chain> {
        let is_in_time = self.shown_until.is_none_or(|until| {
            until.0.saturating_sub(first.pts.0) <= MAX_OVERLAP || is_new_timeline(first.pts, until)
        });
        let begins = first.random_access && is_in_time;
        begins.then_some(Chain { rendition, from: Some(first.pts) })
    }

    /// Makes the list of tracks that are shown.
    fn describe(&mut self) {
        let Some(pair) = self.pair else {
            self.shown.clone_from(&self.announced);
            return;
        };
        let source = if self.is_low { pair.low } else { pair.full };
        let source = self.announced.iter().find(|track| track.id == source).cloned();
        self.shown = self
            .announced
            .iter()
            .filter(|track| track.id != pair.low)
            .map(|track| match &source {
                Some(source) if track.id == pair.full => Track { id: pair.full, ..source.clone() },
                _ => track.clone(),
            })
            .collect();
    }
}

/// Whether a picture is so much before what was shown that time began anew.
const fn is_new_timeline(pts: MediaTime, until: MediaTime) -> bool {
    until.0.saturating_sub(pts.0) > NEW_TIMELINE
}

#[cfg(test)]
mod tests;
