//! Capacity mixes: how many stripes a node takes (I) and how many children it may have (C).
//!
//! | name | I | C | from |
//! |---|---|---|---|
//! | `16x18` | 16 | 18 | the SplitStream paper; any two numbers |
//! | `unbounded` | K | 4,096 | its "no bound" |
//! | `dxd` | own stripe, each other with probability ½ | I | the paper |
//! | `gnutella` | max(1, min(down/20k, 16)) | min(up/20k, 32) | the paper's rule over `GNUTELLA` |
//! | `home2026` | K | ⌊promised share of up / stripe rate⌋ | `HOME` |
//! | `64:0.2 16:0.3 4:0.5` | K | each with its share | a scenario's own |
//!
//! Links are made to fit: a node that has C from its mix gets the upload that promises it. The
//! source is not part of a mix.

use anyhow::{Context, Result, bail, ensure};

use crate::dice::Dice;
use crate::scenario::Scenario;
use crate::world::Seat;

/// Bandwidths in bits per second, down and up, with shares: **synthetic**. Made so that, as in the
/// paper's trace, about 90 % reach I = 16 at 20 kbit/s a stripe and about 6.9 slots a node are
/// spare; the classes are those of 2001 (modem, ISDN, DSL, cable, T1, T3).
const GNUTELLA: [(f64, u64, u64); 8] = [
    (0.04, 56_000, 33_600),
    (0.05, 128_000, 128_000),
    (0.18, 640_000, 128_000),
    (0.08, 1_000_000, 256_000),
    (0.06, 1_500_000, 384_000),
    (0.07, 1_544_000, 480_000),
    (0.30, 3_000_000, 1_000_000),
    (0.22, 45_000_000, 45_000_000),
];
/// Home links of 2026, down and up, with shares. A guess, no source: rounded tariffs of DSL, cable,
/// fixed wireless and fibre.
const HOME: [(f64, u64, u64); 6] = [
    (0.10, 16_000_000, 2_000_000),
    (0.20, 50_000_000, 10_000_000),
    (0.20, 100_000_000, 20_000_000),
    (0.20, 250_000_000, 40_000_000),
    (0.15, 500_000_000, 50_000_000),
    (0.15, 1_000_000_000, 500_000_000),
];
/// Bits per second of a stripe in the paper's Gnutella setting.
const PAPER_STRIPE: u64 = 20_000;
/// Children where there is no bound.
const UNBOUNDED: u32 = 4_096;
/// Download over what the wanted stripes need. A guess: downloads are rarely the narrow side.
const ROOM_BELOW: u64 = 4;

/// How capacities are drawn.
#[derive(Clone, Debug, PartialEq)]
enum Draw {
    Fixed { wanted: u32, capacity: u32 },
    Dxd,
    Rates { classes: &'static [(f64, u64, u64)], is_paper: bool },
    List(Vec<(f64, u32)>),
}

/// A capacity mix.
#[derive(Clone, Debug)]
pub struct Mix {
    draw: Draw,
    stripes: u32,
    stripe_rate: u64,
    promised: f64,
}

impl Mix {
    /// The mix of this name.
    ///
    /// # Errors
    /// Says what is wrong with the name.
    pub fn new(name: &str, scenario: &Scenario) -> Result<Self> {
        let stripes = scenario.broadcast.stripes;
        let draw = match name {
            "unbounded" => Draw::Fixed { wanted: stripes, capacity: UNBOUNDED },
            "dxd" => Draw::Dxd,
            "gnutella" => Draw::Rates { classes: &GNUTELLA, is_paper: true },
            "home2026" => Draw::Rates { classes: &HOME, is_paper: false },
            list if list.contains(':') => Draw::List(list_of(list)?),
            pair => {
                let unknown = || format!("population.capacity = \"{pair}\" is no mix");
                let (wanted, capacity) = pair.split_once('x').with_context(unknown)?;
                let number = |text: &str| text.trim().parse().with_context(unknown);
                Draw::Fixed { wanted: number(wanted)?, capacity: number(capacity)? }
            }
        };
        if let Draw::Fixed { wanted, .. } = &draw
            && *wanted > stripes
        {
            bail!(
                "population.capacity = \"{name}\": more stripes wanted than the {stripes} there are"
            );
        }
        let stripe_rate = (scenario.broadcast.stream_rate / u64::from(stripes)).max(1);
        Ok(Self { draw, stripes, stripe_rate, promised: scenario.links.promised })
    }

    /// A link that fits `capacity` children and `wanted` stripes.
    #[must_use]
    pub fn link(&self, capacity: u32, wanted: u32) -> Seat {
        let per_slot = self.stripe_rate as f64 / self.promised;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate in bits per second"
        )]
        // Somebody without children still talks.
        let up = (f64::from(capacity.max(1)) * per_slot) as u64;
        let down = u64::from(wanted.max(1)) * self.stripe_rate * ROOM_BELOW;
        Seat { index: 0, capacity, wanted, up, down, is_dialable: true }
    }

    /// The next viewer's.
    pub fn draw(&self, dice: &mut Dice) -> Seat {
        match &self.draw {
            Draw::Fixed { wanted, capacity } => self.link(*capacity, *wanted),
            Draw::Dxd => {
                let others = (1..self.stripes).filter(|_| dice.chance(0.5)).count();
                let wanted = 1 + u32::try_from(others).unwrap_or(0);
                self.link(wanted, wanted)
            }
            Draw::Rates { classes, is_paper } => {
                let (_, down, up) = classes[dice.weighted(classes.iter().map(|class| class.0))];
                if *is_paper {
                    let wanted = (down / PAPER_STRIPE).clamp(1, 16);
                    let capacity = (up / PAPER_STRIPE).min(32);
                    let small = |slots: u64| u32::try_from(slots).unwrap_or(u32::MAX);
                    self.link(small(capacity), small(wanted).min(self.stripes))
                } else {
                    self.home(up, down)
                }
            }
            Draw::List(classes) => {
                let chosen = dice.weighted(classes.iter().map(|class| class.0));
                self.link(classes[chosen].1, self.stripes)
            }
        }
    }

    fn home(&self, up: u64, down: u64) -> Seat {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a small number of slots"
        )]
        let capacity = (up as f64 * self.promised / self.stripe_rate as f64) as u32;
        Seat { index: 0, capacity, wanted: self.stripes, up, down, is_dialable: true }
    }
}

fn list_of(text: &str) -> Result<Vec<(f64, u32)>> {
    let classes = text.split_whitespace().map(|class| {
        let (capacity, share) = class.split_once(':').context("write capacity:share")?;
        Ok((share.parse()?, capacity.parse()?))
    });
    let classes: Vec<(f64, u32)> = classes
        .collect::<Result<_>>()
        .with_context(|| format!("population.capacity = \"{text}\" is no list"))?;
    ensure!(classes.iter().map(|class| class.0).sum::<f64>() > 0.0, "all shares are zero");
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(name: &str) -> Vec<Seat> {
        let mix = Mix::new(name, &Scenario::default()).expect("a mix");
        let mut dice = Dice::new(1, "test");
        (0..20_000).map(|_| mix.draw(&mut dice)).collect()
    }

    fn mean(values: impl Iterator<Item = u32>) -> f64 {
        values.map(f64::from).sum::<f64>() / 20_000.0
    }

    #[test]
    fn pairs_are_read_as_in_the_paper() {
        let seat = drawn("16x18")[0];
        assert_eq!((seat.wanted, seat.capacity), (16, 18));
        assert_eq!(seat.up, 18 * 100_000 * 10 / 8);
    }

    #[test]
    fn dxd_wants_about_half_and_gives_as_much() {
        let seats = drawn("dxd");
        assert!((8.3..8.7).contains(&mean(seats.iter().map(|seat| seat.wanted))));
        assert!(seats.iter().all(|seat| seat.wanted == seat.capacity));
    }

    #[test]
    fn gnutella_is_as_the_paper_describes_its_trace() {
        let seats = drawn("gnutella");
        let all = seats.iter().filter(|seat| seat.wanted == 16).count();
        assert!((17_500..18_600).contains(&all), "{all}");
        let spare = mean(seats.iter().map(|seat| seat.capacity))
            - mean(seats.iter().map(|seat| seat.wanted));
        assert!((6.0..7.8).contains(&spare), "{spare}");
    }

    #[test]
    fn lists_give_each_class_its_share() {
        let seats = drawn("64:0.2 16:0.3 4:0.5");
        let small = seats.iter().filter(|seat| seat.capacity == 4).count();
        assert!((9_500..10_500).contains(&small));
    }

    #[test]
    fn nonsense_is_refused() {
        for name in ["", "16", "axb", "4:", "32x16", "1:0"] {
            assert!(Mix::new(name, &Scenario::default()).is_err(), "{name}");
        }
    }
}
