//! What Banyan is compared with: SplitStream as its paper has it, and as FreePastry runs it.
//!
//! ```text
//!   Ring ── contacts ──▶ Routing ── next hop ──▶ Scribe's trees ──▶ Paper | Freepastry
//!                                                     └──▶ packets, keep-alives, Parent/Children
//! ```
//!
//! The world makes one [`Blueprint`] for an overlay and from it the nodes and the [`Ring`]:
//!
//! ```
//! use std::sync::Arc;
//! use banyan_sim::baseline::{Blueprint, Config, Kind};
//!
//! let config = Config { kind: Kind::Paper, ..Config::default() };
//! let blueprint = Arc::new(Blueprint::new(config, 7)?);
//! let mut ring = blueprint.ring();
//! ring.extend(1..=100);
//! let node = blueprint.build(1);
//! // What to hand over with `Happening::Start`; the closure is the way to a peer, in any unit.
//! let contacts = ring.contacts(1, |_peer| 0);
//! # assert!(contacts.len() > 20);
//! # Ok::<(), banyan_sim::baseline::ConfigError>(())
//! ```
//!
//! Index 0 is the source. It is on no ring and takes no children: it feeds the stripes' roots,
//! which tell of it as their parent. A node that starts later than [`Config::settled`] tells those
//! in its tables of itself; one that starts by then is taken to be in everybody's tables already,
//! so the ring must hold all of them when the first contacts are asked for.
//!
//! What is left out: Pastry's own join, its probing of distances, replication of roots, and
//! anything about bandwidth below the number of children.

use std::sync::Arc;

use crate::node::Index;

mod beat;
mod config;
mod data;
mod freepastry;
mod key;
mod links;
mod machine;
mod message;
mod mix;
mod paper;
mod ring;
mod routing;
mod scribe;
mod search;
mod spare;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;

pub use config::{Config, ConfigError, Kind, Timings};
pub use key::Key;
pub use machine::Baseline;
pub use message::{Message, Search};
pub use mix::Mix;
pub use ring::Ring;
pub use routing::Shape;

/// What the nodes of one overlay are made from: configuration, seed and the groups' keys.
#[derive(Clone, Debug)]
pub struct Blueprint {
    pub(crate) config: Config,
    pub(crate) seed: u64,
    /// Bits per digit.
    pub(crate) bits: u32,
    /// The stripes' keys, then the spare capacity group's.
    pub(crate) keys: Vec<Key>,
}

impl Blueprint {
    /// Draws the groups' keys.
    ///
    /// # Errors
    /// Where the configuration contradicts itself.
    pub fn new(config: Config, seed: u64) -> Result<Self, ConfigError> {
        if !config.stripes.is_power_of_two() || !(2..=64).contains(&config.stripes) {
            return Err(ConfigError::Stripes);
        }
        if matches!(config.mix, Mix::Uniform { wants, .. } if wants == 0 || wants > config.stripes)
            || (config.mix == Mix::Gnutella && config.stripes < 16)
        {
            return Err(ConfigError::Wants);
        }
        if config.shape == (Shape::KBuckets { size: 0 }) {
            return Err(ConfigError::BucketSize);
        }
        let bits = config.stripes.trailing_zeros();
        let channel = match config.kind {
            // The class comment of FreePastry wants the second digit in the middle, so that the
            // closest node shares the first; its code does not do it.
            Kind::Paper => Key::of_channel(seed).with_middling_second_digit(bits),
            Kind::Freepastry => Key::of_channel(seed),
        };
        let stripes = (0..config.stripes).map(|stripe| channel.with_first_digit(stripe, bits));
        let keys = stripes.chain([Key::of_spare_group(seed)]).collect();
        Ok(Self { config, seed, bits, keys })
    }

    /// The substrate, empty.
    #[must_use]
    pub const fn ring(&self) -> Ring {
        Ring::new(self.seed, self.bits, self.config.shape, self.config.sample)
    }

    /// A node with the wants and the capacity that the mix gives it. Index 0 is the source.
    #[must_use]
    pub fn build(self: &Arc<Self>, index: Index) -> Baseline {
        let (wants, capacity) = self.config.mix.draw(self.seed, self.bits, index);
        self.build_with(index, wants, capacity)
    }

    /// A node that wants the stripes of a bit set and takes `capacity` children.
    #[must_use]
    pub fn build_with(self: &Arc<Self>, index: Index, wants: u64, capacity: u32) -> Baseline {
        let (wants, capacity) = match index {
            SOURCE => (0, u32::from(self.config.stripes)),
            _ => (wants, capacity),
        };
        Baseline::new(self, index, wants, capacity)
    }
}

/// The index of the source.
pub(crate) const SOURCE: Index = 0;
