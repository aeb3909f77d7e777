//! What viewers see: generations at their deadlines.

use crate::forest::Forest;
use crate::measure::histogram::Histogram;
use crate::node::Index;
use crate::result::Playback;

/// A generation at its deadline at one viewer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) received: u8,
    pub(crate) layers: u8,
    pub(crate) layers_total: u8,
    /// From publishing to now, in microseconds.
    pub(crate) lag: Option<u64>,
}

/// One viewer's screen.
#[derive(Clone, Copy, Debug, Default)]
struct Screen {
    first_picture_at: Option<u64>,
    frozen: u32,
    has_frozen: bool,
}

/// Counters that samples and events take differences of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shows {
    /// Generations at their deadline.
    pub played: u64,
    /// With at least the base layer.
    pub base: u64,
    /// With all layers.
    pub full: u64,
}

/// All screens.
#[derive(Debug, Default)]
pub struct Screens {
    screens: Vec<Screen>,
    /// Since the beginning.
    pub shows: Shows,
    received: Vec<u64>,
    lag: Histogram,
    longest_freeze: u32,
}

impl Screens {
    /// Makes room for the next node.
    pub(crate) fn add(&mut self) {
        self.screens.push(Screen::default());
    }

    /// A generation came to its deadline. Before the first picture nothing counts.
    pub(crate) fn played(&mut self, now: u64, node: Index, shown: Shown) {
        let screen = &mut self.screens[node as usize];
        let is_shown = shown.layers > 0;
        if screen.first_picture_at.is_none() {
            if !is_shown {
                return;
            }
            screen.first_picture_at = Some(now);
        }
        self.shows.played += 1;
        if is_shown {
            screen.frozen = 0;
            self.shows.base += 1;
        } else {
            screen.frozen += 1;
            screen.has_frozen = true;
            self.longest_freeze = self.longest_freeze.max(screen.frozen);
        }
        if is_shown && shown.layers == shown.layers_total {
            self.shows.full += 1;
        }
        let received = usize::from(shown.received);
        if self.received.len() <= received {
            self.received.resize(received + 1, 0);
        }
        self.received[received] += 1;
        if let Some(lag) = shown.lag {
            self.lag.add(lag);
        }
    }

    /// From each viewer's start to its first picture, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(crate) fn first_pictures(&self, forest: &Forest) -> Vec<f64> {
        let nodes = (0..).zip(&self.screens);
        let first = nodes.filter_map(|(node, screen)| Some((node, screen.first_picture_at?)));
        first.map(|(node, at)| (at - forest.started_at(node)) as f64 / 1e6).collect()
    }

    /// Everything, for the result; `delivered` and `arrival` are others' to fill in.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(crate) fn result(&self) -> Playback {
        let share = |count: u64| count as f64 / self.shows.played.max(1) as f64;
        let with_picture = self.screens.iter().filter(|screen| screen.first_picture_at.is_some());
        let frozen = self.screens.iter().filter(|screen| screen.has_frozen).count();
        Playback {
            played: self.shows.played,
            continuity_base: share(self.shows.base),
            continuity_full: share(self.shows.full),
            received_histogram: self.received.clone(),
            viewers_with_freeze: frozen as f64 / with_picture.count().max(1) as f64,
            longest_freeze: self.longest_freeze,
            glass_to_glass: self.lag.distribution(),
            ..Playback::default()
        }
    }
}
