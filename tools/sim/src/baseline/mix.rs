//! Who wants how many stripes and takes how many children: the mixes of SOSP'03.

use serde::Deserialize;

use super::key::{Dice, Key};
use crate::node::Index;

/// How wants and capacities are spread over an audience. `x` by `y` means: x stripes wanted, y
/// children at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mix {
    /// Everybody alike: 16x16, 16x18, 16x32.
    Uniform {
        /// Stripes wanted.
        wants: u8,
        /// Most children.
        capacity: u32,
    },
    /// All stripes and no bound on children: 16xNB.
    Unbounded,
    /// The own stripe and each other with probability one half; as many children as stripes.
    Halved,
    /// The bandwidths of Gnutella's nodes at 20 kbit/s per stripe.
    Gnutella,
}

impl Mix {
    /// Draws one node's wanted stripes, as a bit set, and its capacity. The stripe whose key begins
    /// as the node's does is always wanted: the node has to forward it.
    #[must_use]
    pub fn draw(self, seed: u64, bits: u32, index: Index) -> (u64, u32) {
        let own = Key::of_node(seed, index).digit(0, bits);
        let mut dice = Dice::new(seed ^ u64::from(index).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut others: Vec<usize> = (0..1usize << bits).filter(|&other| other != own).collect();
        let every = u64::MAX >> (64 - (1u32 << bits));
        dice.shuffle(&mut others);
        let some = |count: usize| {
            let chosen = others.iter().take(count.saturating_sub(1));
            chosen.fold(1u64 << own, |stripes, &other| stripes | 1 << other)
        };
        match self {
            Self::Uniform { wants, capacity } => (some(usize::from(wants)), capacity),
            Self::Unbounded => (every, u32::MAX),
            Self::Halved => {
                let wanted = every & dice.draw() | 1 << own;
                (wanted, wanted.count_ones())
            }
            Self::Gnutella => {
                let class = dice.below(100);
                let found = GNUTELLA.iter().find(|&&(below, ..)| class < below);
                let &(_, stripes, capacity) = found.expect("the last class reaches 100");
                (some(stripes), capacity)
            }
        }
    }
}

/// Percentile, stripes, children. The trace itself is not printed in the paper: these four classes
/// are made to give its two figures, 90 % of nodes with all stripes and 6.9 spare children per
/// node.
const GNUTELLA: [(usize, usize, u32); 4] = [(5, 2, 1), (10, 6, 6), (39, 16, 6), (100, 16, 32)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gnutella_has_the_papers_spare_capacity() {
        let draws: Vec<(u64, u32)> = (1..=10_000).map(|i| Mix::Gnutella.draw(1, 4, i)).collect();
        let all = draws.iter().filter(|(wants, _)| wants.count_ones() == 16).count();
        let spare: i64 = draws.iter().map(|&(w, c)| i64::from(c) - i64::from(w.count_ones())).sum();
        assert!((8_800..9_200).contains(&all), "{all}");
        assert!((64_000..74_000).contains(&spare), "{spare}");
    }

    #[test]
    fn the_own_stripe_is_always_wanted() {
        for mix in [Mix::Uniform { wants: 3, capacity: 3 }, Mix::Halved, Mix::Gnutella] {
            for index in 1..200 {
                let (wants, _) = mix.draw(4, 4, index);
                assert_eq!(wants >> Key::of_node(4, index).digit(0, 4) & 1, 1);
            }
        }
        assert_eq!(Mix::Uniform { wants: 3, capacity: 3 }.draw(4, 4, 9).0.count_ones(), 3);
        assert_eq!(Mix::Unbounded.draw(4, 4, 9), (0xffff, u32::MAX));
    }
}
