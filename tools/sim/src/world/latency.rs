//! How far apart nodes are.
//!
//! ```text
//!   one way = hub to hub  +  scatter within the regions  +  access delay of both ends
//! ```
//!
//! Synthetic network coordinates: regions, a plane within each, and a "height" for every node, as
//! in Vivaldi (Dabek et al., SIGCOMM 2004), log-normal and so with a heavy tail. No transit-stub
//! topology: GT-ITM flatters whoever looks for near neighbours (Gummadi et al., SIGCOMM 2003), and
//! the best-known figures of SplitStream rest on one.
//!
//! Decides the delay of a pair, which never changes, and the jitter of a message. Queues and losses
//! are added by [`crate::world`].

use crate::dice::{Dice, mix};
use crate::node::Index;
use crate::scenario::{Latency as Settings, LatencyModel};

/// A region of the world.
#[derive(Debug)]
struct Region {
    /// Share of the audience. A guess: an audience of everywhere, home links of 2026.
    share: f64,
    /// Deviation along each axis of the plane, in ms one way. A guess, by the size of the region.
    scatter: f64,
    /// Round trips to the regions' hubs in ms, in the order of [`REGIONS`]: rounded from figures
    /// operators publish for their backbones (New York – London 72, London – Singapore 170, Los
    /// Angeles – Tokyo 105 …); the less travelled ones are guesses of ±20 %.
    hubs: [f64; 8],
}

/// America east, west and south; Europe west and east; Asia south and east; Oceania.
const REGIONS: [Region; 8] = [
    Region {
        share: 0.18,
        scatter: 6.0,
        hubs: [4.0, 62.0, 115.0, 76.0, 110.0, 195.0, 165.0, 205.0],
    },
    Region {
        share: 0.10,
        scatter: 6.0,
        hubs: [62.0, 4.0, 170.0, 138.0, 170.0, 215.0, 105.0, 145.0],
    },
    Region {
        share: 0.10,
        scatter: 10.0,
        hubs: [115.0, 170.0, 8.0, 190.0, 220.0, 300.0, 265.0, 300.0],
    },
    Region {
        share: 0.24,
        scatter: 5.0,
        hubs: [76.0, 138.0, 190.0, 4.0, 38.0, 120.0, 225.0, 260.0],
    },
    Region {
        share: 0.10,
        scatter: 11.0,
        hubs: [110.0, 170.0, 220.0, 38.0, 8.0, 100.0, 180.0, 250.0],
    },
    Region {
        share: 0.09,
        scatter: 10.0,
        hubs: [195.0, 215.0, 300.0, 120.0, 100.0, 8.0, 110.0, 150.0],
    },
    Region {
        share: 0.14,
        scatter: 9.0,
        hubs: [165.0, 105.0, 265.0, 225.0, 180.0, 110.0, 6.0, 120.0],
    },
    Region {
        share: 0.05,
        scatter: 12.0,
        hubs: [205.0, 145.0, 300.0, 260.0, 250.0, 150.0, 120.0, 8.0],
    },
];
/// Median access delay in ms one way: DSL, cable and fibre mixed. A guess.
const ACCESS_MEDIAN: f64 = 4.0;
/// Deviation of its logarithm: one node in a hundred is beyond 32 ms. A guess.
const ACCESS_SIGMA: f64 = 0.9;
/// Longest access delay in ms: beyond lie satellites, which have no place here.
const ACCESS_MAX: f64 = 250.0;

/// Where a node is.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    region: u8,
    x: f32,
    y: f32,
    access: f32,
}

/// Distances between the nodes of a world.
#[derive(Debug)]
pub struct Latency {
    model: LatencyModel,
    least: u64,
    range: u64,
    jitter: f64,
    sigma: f64,
    salt: u64,
    places: Vec<Place>,
    dice: Dice,
    jitters: Dice,
}

impl Latency {
    /// Distances of a run.
    #[must_use]
    pub fn new(settings: &Settings, seed: u64) -> Self {
        let (least, range) = match settings.model {
            LatencyModel::Constant => (settings.one_way.micros(), 1),
            LatencyModel::Uniform => {
                (settings.min.micros(), settings.max.micros() - settings.min.micros() + 1)
            }
            LatencyModel::Regions => (0, 1),
        };
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a jitter")]
        let jitter = settings.jitter.micros() as f64;
        Self {
            model: settings.model,
            least,
            range,
            jitter,
            sigma: settings.jitter_sigma,
            salt: mix(seed ^ 0x6c61_7465_6e63_7921),
            places: Vec::new(),
            dice: Dice::new(seed, "places"),
            jitters: Dice::new(seed, "jitter"),
        }
    }

    /// Gives the next node a place.
    pub(crate) fn add(&mut self) {
        if self.model == LatencyModel::Regions {
            let region = self.dice.weighted(REGIONS.iter().map(|region| region.share));
            let scatter = REGIONS[region].scatter;
            let access = self.dice.lognormal(ACCESS_MEDIAN, ACCESS_SIGMA).min(ACCESS_MAX);
            #[expect(clippy::cast_possible_truncation, reason = "single precision is plenty")]
            let place = Place {
                region: region as u8,
                x: (self.dice.normal() * scatter) as f32,
                y: (self.dice.normal() * scatter) as f32,
                access: access as f32,
            };
            self.places.push(place);
        }
    }

    /// Microseconds from one node to the other, or back.
    #[must_use]
    pub fn one_way(&self, a: Index, b: Index) -> u64 {
        match self.model {
            LatencyModel::Constant => self.least,
            LatencyModel::Uniform => {
                let pair = u64::from(a.min(b)) << 32 | u64::from(a.max(b));
                self.least + mix(pair ^ self.salt) % self.range
            }
            LatencyModel::Regions => self.between(a, b),
        }
    }

    fn between(&self, a: Index, b: Index) -> u64 {
        let (a, b) = (self.places[a as usize], self.places[b as usize]);
        let hubs = REGIONS[usize::from(a.region)].hubs[usize::from(b.region)] / 2.0;
        let (x, y) = (a.x - b.x, a.y - b.y);
        let millis = hubs + f64::from((x * x + y * y).sqrt() + a.access + b.access);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of milliseconds"
        )]
        let micros = (millis * 1000.0) as u64;
        micros
    }

    /// What the next message takes longer than the pair's delay.
    pub(crate) fn jitter(&mut self) -> u64 {
        if self.jitter <= 0.0 {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of microseconds"
        )]
        let micros = self.jitters.lognormal(self.jitter, self.sigma) as u64;
        // A tail without an end would let one message stand for an outage.
        micros.min(500_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_as_far_in_both_directions() {
        for model in [LatencyModel::Constant, LatencyModel::Uniform, LatencyModel::Regions] {
            let mut latency = Latency::new(&Settings { model, ..Settings::default() }, 1);
            (0..50).for_each(|_| latency.add());
            for (a, b) in (0..50).zip((0..50).rev()) {
                assert_eq!(latency.one_way(a, b), latency.one_way(b, a));
            }
        }
    }

    #[test]
    fn hubs_are_as_far_in_both_directions() {
        for (a, from) in REGIONS.iter().enumerate() {
            for (b, to) in REGIONS.iter().enumerate() {
                assert!((from.hubs[b] - to.hubs[a]).abs() < 1e-9, "{a} {b}");
            }
        }
        assert!((REGIONS.iter().map(|region| region.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn regions_have_a_heavy_tail() {
        let settings = Settings { model: LatencyModel::Regions, ..Settings::default() };
        let mut latency = Latency::new(&settings, 1);
        (0..2_000).for_each(|_| latency.add());
        let mut delays: Vec<u64> = (0..1_000).map(|n| latency.one_way(n, n + 1_000)).collect();
        delays.sort_unstable();
        assert!((30_000..110_000).contains(&delays[500]), "median {}", delays[500]);
        assert!(delays[990] > 2 * delays[500]);
    }
}
