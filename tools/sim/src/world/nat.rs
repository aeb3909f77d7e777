//! Who can dial whom.
//!
//! | class | can be dialled |
//! |---|---|
//! | open | by all |
//! | cone | by those whose hole punching succeeds, drawn once for each pair |
//! | symmetric | by nobody; it only dials |
//!
//! Connections that exist carry both ways. Relays of circuits are left out: what cannot be dialled
//! cannot be a parent here, which is the harder case.

use crate::dice::{Dice, mix};
use crate::node::Index;
use crate::scenario::Nat as Settings;

/// A node's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Open,
    Cone,
    Symmetric,
}

/// The classes of all nodes.
#[derive(Debug)]
pub(crate) struct Nat {
    shares: [f64; 3],
    hole_punching: f64,
    salt: u64,
    classes: Vec<Class>,
    dice: Dice,
}

impl Nat {
    pub(crate) fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            shares: [settings.open, settings.cone, settings.symmetric],
            hole_punching: settings.hole_punching,
            salt: mix(seed ^ 0x6e61_7421),
            classes: Vec::new(),
            dice: Dice::new(seed, "nat"),
        }
    }

    /// Gives the next node a class. The first is the source, which is open.
    pub(crate) fn add(&mut self) {
        let class = match self.dice.weighted(self.shares.iter().copied()) {
            _ if self.classes.is_empty() => Class::Open,
            0 => Class::Open,
            1 => Class::Cone,
            _ => Class::Symmetric,
        };
        self.classes.push(class);
    }

    /// Whether somebody can dial `node`.
    pub(crate) fn is_dialable(&self, node: Index) -> bool {
        match self.classes[node as usize] {
            Class::Open => true,
            Class::Cone => self.hole_punching > 0.0,
            Class::Symmetric => false,
        }
    }

    /// Whether `from` can dial `to`.
    pub(crate) fn can_dial(&self, from: Index, to: Index) -> bool {
        match self.classes[to as usize] {
            Class::Open => true,
            Class::Cone => {
                let pair = u64::from(from.min(to)) << 32 | u64::from(from.max(to));
                #[expect(clippy::cast_precision_loss, reason = "53 bits of luck are enough")]
                let luck = (mix(pair ^ self.salt) >> 11) as f64 / (1_u64 << 53) as f64;
                luck < self.hole_punching
            }
            Class::Symmetric => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialable(open: f64, cone: f64, symmetric: f64, hole_punching: f64) -> usize {
        let mut nat = Nat::new(&Settings { open, cone, symmetric, hole_punching }, 1);
        (0..1_000).for_each(|_| nat.add());
        assert!(nat.is_dialable(0), "the source is open");
        (1..1_000).filter(|to| nat.can_dial(0, *to)).count()
    }

    #[test]
    fn only_open_nodes_and_lucky_cones_can_be_dialled() {
        assert_eq!(dialable(1.0, 0.0, 0.0, 0.0), 999);
        assert_eq!(dialable(0.0, 0.0, 1.0, 1.0), 0);
        assert_eq!(dialable(0.0, 1.0, 0.0, 0.0), 0);
        assert!((400..600).contains(&dialable(0.0, 1.0, 0.0, 0.5)));
    }
}
