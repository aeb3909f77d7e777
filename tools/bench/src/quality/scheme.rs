//! Ways of making descriptions of a programme, and what arrives of them.
//!
//! Decides what each way sends and what a viewer gets back from the descriptions it received, through
//! the coder that broadcasts use. What is shown of it is left to [`super::viewer`].

use anyhow::{Result, ensure};
use banyan_coding::{Assembler, Encoded, Layer, chunk_length_for, description_length, encode};
use banyan_media::{Generation, Layering, payload, split_layers};
use banyan_wire::StripeCount;
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Which descriptions of each generation arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pattern {
    /// This many, others in each generation.
    Some(u8),
    /// This many, the same in every generation: whole trees are gone.
    Same(u8),
    /// Each is lost with this probability, independently.
    Loss(f64),
}

impl Pattern {
    /// How many arrive, where that is fixed.
    pub(crate) const fn count(self) -> Option<u8> {
        match self {
            Self::Some(count) | Self::Same(count) => Some(count),
            Self::Loss(_) => None,
        }
    }
}

/// Draws what arrives. The same seed gives the same to every scheme of as many descriptions, and
/// more descriptions are always a superset of fewer.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pattern: Pattern,
    random: ChaCha8Rng,
    /// Position of each description in the order in which they arrive.
    ranks: Vec<u8>,
}

/// A programme ready to be sent.
#[derive(Debug)]
pub(crate) struct Coded {
    generations: Vec<Sent>,
    descriptions: u8,
    /// Bytes of all chunks of all descriptions.
    pub(crate) bytes: u64,
}

#[derive(Debug)]
struct Sent {
    layers: Vec<Bytes>,
    /// `None`: description d is layer d.
    encoded: Option<Encoded>,
    is_random_access: bool,
}

/// What a viewer has of a generation at its deadline.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) layers: Vec<Option<Bytes>>,
    pub(crate) is_random_access: bool,
}

impl Arrivals {
    pub(crate) fn new(pattern: Pattern, descriptions: u8, seed: u64) -> Self {
        let mut arrivals = Self {
            pattern,
            random: ChaCha8Rng::seed_from_u64(seed),
            ranks: (0..descriptions).collect(),
        };
        arrivals.shuffle();
        arrivals
    }

    /// For each description of the next generation, whether it arrives.
    pub(crate) fn next(&mut self) -> Vec<bool> {
        match self.pattern {
            Pattern::Some(count) => {
                self.shuffle();
                self.ranks.iter().map(|rank| *rank < count).collect()
            }
            Pattern::Same(count) => self.ranks.iter().map(|rank| *rank < count).collect(),
            Pattern::Loss(loss) => {
                (0..self.ranks.len()).map(|_| self.random.random::<f64>() >= loss).collect()
            }
        }
    }

    /// Fisher and Yates.
    fn shuffle(&mut self) {
        for end in (1..self.ranks.len()).rev() {
            self.ranks.swap(end, self.random.random_range(0..=end));
        }
    }
}

impl Coded {
    /// Layers with a Reed–Solomon code each, as a broadcast sends them.
    pub(crate) fn with_code(
        generations: &[Generation],
        layering: Layering,
        thresholds: &[u8],
        stripes: StripeCount,
    ) -> Result<Self> {
        let sent = generations.iter().map(|generation| {
            let layers = split_layers(generation, layering);
            ensure!(layers.len() == thresholds.len(), "a threshold for each layer");
            let coded: Vec<Layer> = layers
                .iter()
                .zip(thresholds)
                .map(|(data, threshold)| Layer { threshold: *threshold, data: data.clone() })
                .collect();
            let chunk_length = chunk_length_for(description_length(&coded));
            let encoded = Some(encode(stripes, chunk_length, &coded)?);
            Ok(Sent { layers, encoded, is_random_access: generation.random_access })
        });
        Self::new(sent.collect::<Result<_>>()?, stripes.value())
    }

    /// No code: access units are dealt out, one description after the other.
    pub(crate) fn striped(generations: &[Generation], descriptions: u8) -> Result<Self> {
        let mut dealt = 0u64;
        let sent = generations.iter().map(|generation| {
            let mut hands = vec![Vec::new(); usize::from(descriptions)];
            for (place, unit) in (0u32..).zip(&generation.units) {
                hands[usize::try_from(dealt % u64::from(descriptions))?].push((place, unit));
                dealt += 1;
            }
            let layers = hands.into_iter().map(|hand| payload::encode(hand.into_iter())).collect();
            Ok(Sent { layers, encoded: None, is_random_access: generation.random_access })
        });
        Self::new(sent.collect::<Result<_>>()?, descriptions)
    }

    fn new(generations: Vec<Sent>, descriptions: u8) -> Result<Self> {
        let bytes = generations.iter().map(Sent::bytes).sum();
        Ok(Self { generations, descriptions, bytes })
    }

    /// What arrives of programmes that are sent side by side, each with descriptions of its own.
    pub(crate) fn receive_all(
        all: &[&Self],
        pattern: Pattern,
        seed: u64,
    ) -> Result<Vec<Vec<Received>>> {
        let descriptions = all.iter().map(|coded| coded.descriptions).sum();
        let mut arrivals = Arrivals::new(pattern, descriptions, seed);
        let mut received = vec![Vec::new(); all.len()];
        let longest = all.iter().map(|coded| coded.generations.len()).max().unwrap_or(0);
        for generation in 0..longest {
            let arrives = arrivals.next();
            let mut rest = arrives.as_slice();
            for (coded, received) in all.iter().zip(&mut received) {
                let (own, later) = rest.split_at(usize::from(coded.descriptions));
                rest = later;
                if let Some(sent) = coded.generations.get(generation) {
                    received.push(Received {
                        layers: sent.receive(own)?,
                        is_random_access: sent.is_random_access,
                    });
                }
            }
        }
        Ok(received)
    }

    /// What arrives of this one.
    #[cfg(test)]
    fn receive(&self, pattern: Pattern, seed: u64) -> Result<Vec<Received>> {
        Ok(Self::receive_all(&[self], pattern, seed)?.remove(0))
    }
}

impl Sent {
    fn bytes(&self) -> u64 {
        match &self.encoded {
            Some(encoded) => {
                let layout = &encoded.layout;
                (layout.description_length() * layout.stripes().len()) as u64
            }
            None => self.layers.iter().map(|layer| layer.len() as u64).sum(),
        }
    }

    fn receive(&self, arrives: &[bool]) -> Result<Vec<Option<Bytes>>> {
        let Some(encoded) = &self.encoded else {
            let layers = self.layers.iter().zip(arrives);
            return Ok(layers.map(|(layer, arrives)| arrives.then(|| layer.clone())).collect());
        };
        let mut assembler = Assembler::new(encoded.layout.clone());
        let stripes = encoded.layout.stripes().iter().zip(arrives);
        for (stripe, _) in stripes.filter(|(_, arrives)| **arrives) {
            for (index, chunk) in encoded.chunks[stripe.index()].iter().enumerate() {
                assembler.insert(stripe, index, chunk.clone());
            }
        }
        let layers: Vec<_> = (0..self.layers.len()).map(|layer| assembler.layer(layer)).collect();
        for (rebuilt, sent) in layers.iter().zip(&self.layers) {
            ensure!(
                rebuilt.as_ref().is_none_or(|rebuilt| rebuilt == sent),
                "a layer came back wrong"
            );
        }
        Ok(layers)
    }
}

#[cfg(test)]
mod tests {
    use banyan_media::{AccessUnit, Priority};
    use banyan_wire::{MediaTime, TrackId};

    use super::*;

    fn generation(number: u8) -> Generation {
        let unit = |place: u8| AccessUnit {
            track: TrackId(0),
            pts: MediaTime(i64::from(place)),
            dts: MediaTime(i64::from(place)),
            random_access: place == 0,
            priority: if place == 0 { Priority::Key } else { Priority::Reference },
            data: vec![number ^ place; 300].into(),
        };
        Generation {
            random_access: true,
            start: MediaTime(0),
            duration: 40,
            units: (0..40).map(unit).collect(),
        }
    }

    fn count(arrives: &[bool]) -> usize {
        arrives.iter().filter(|arrives| **arrives).count()
    }

    #[test]
    fn as_many_arrive_as_asked_and_more_are_a_superset() {
        let mut few = Arrivals::new(Pattern::Some(5), 16, 1);
        let mut many = Arrivals::new(Pattern::Some(9), 16, 1);
        let mut seen = Vec::new();
        for _ in 0..20 {
            let (few, many) = (few.next(), many.next());
            assert_eq!((count(&few), count(&many)), (5, 9));
            assert!(few.iter().zip(&many).all(|(few, many)| *many || !*few));
            seen.push(few);
        }
        seen.dedup();
        assert!(seen.len() > 10, "other ones in each generation");
        let mut same = Arrivals::new(Pattern::Same(5), 16, 1);
        assert_eq!(same.next(), same.next());
        assert_eq!(count(&Arrivals::new(Pattern::Loss(0.0), 16, 1).next()), 16);
        assert_eq!(count(&Arrivals::new(Pattern::Loss(1.0), 16, 1).next()), 0);
    }

    #[test]
    fn a_layer_arrives_from_its_threshold_on() -> Result<()> {
        let generations: Vec<_> = (0..4).map(generation).collect();
        let layering = Layering::Priority;
        let coded = Coded::with_code(&generations, layering, &[11, 13], StripeCount::DEFAULT)?;
        for (m, layers) in [(10, [false, false]), (11, [true, false]), (13, [true, true])] {
            for received in coded.receive(Pattern::Some(m), 3)? {
                let there: Vec<_> = received.layers.iter().map(Option::is_some).collect();
                assert_eq!(there, layers, "{m}");
            }
        }
        Ok(())
    }

    #[test]
    fn striping_deals_every_unit_to_one_description_and_adds_next_to_nothing() -> Result<()> {
        let generations: Vec<_> = (0..4).map(generation).collect();
        let coded = Coded::striped(&generations, 16)?;
        let all = coded.receive(Pattern::Some(16), 0)?;
        for (received, generation) in all.iter().zip(&generations) {
            assert_eq!(banyan_media::merge_layers(&received.layers)?, generation.units);
        }
        let source = 4 * 40 * 300;
        assert!((source..source * 105 / 100).contains(&coded.bytes), "{}", coded.bytes);
        Ok(())
    }
}
