//! Who comes, what they can and what they know.
//!
//! Decides capacities ([`capacity`]), session lengths and contacts. When they come and go is put on
//! the agenda of [`crate::run`]; here is only how long, how many and whom.

pub mod capacity;

use anyhow::Result;

use crate::dice::Dice;
use crate::forest::SOURCE;
use crate::node::Index;
use crate::scenario::{Churn, Knowledge, Population as Settings, Scenario, Sessions};
use crate::world::Seat;
use crate::world::latency::Latency;
use capacity::Mix;

/// Tries to find a random member that is not known yet.
const TRIES: usize = 8;

/// The audience.
#[derive(Debug)]
pub struct Population {
    settings: Settings,
    mix: Mix,
    source: Seat,
    capacities: Dice,
    sessions: Dice,
    contacts: Dice,
    /// Live viewers, and each one's place among them.
    live: Vec<Index>,
    places: Vec<u32>,
    /// Live viewers that somebody can dial, by digit.
    pools: Vec<Vec<Index>>,
    /// Each node's digit and place in its pool.
    pooled: Vec<Option<(u8, u32)>>,
    next: Index,
}

impl Population {
    /// The audience of a run.
    ///
    /// # Errors
    /// Says which capacity mix is unknown.
    pub fn new(scenario: &Scenario, seed: u64) -> Result<Self> {
        let settings = scenario.population.clone();
        let mix = Mix::new(&settings.capacity, scenario)?;
        let stripes = scenario.broadcast.stripes;
        let capacity = settings.source_capacity.unwrap_or(2 * stripes);
        let source = Seat { capacity, wanted: 0, ..mix.link(capacity, stripes) };
        Ok(Self {
            settings,
            mix,
            source,
            capacities: Dice::new(seed, "capacities"),
            sessions: Dice::new(seed, "sessions"),
            contacts: Dice::new(seed, "contacts"),
            live: Vec::new(),
            places: Vec::new(),
            pools: vec![Vec::new(); stripes as usize],
            pooled: Vec::new(),
            next: SOURCE,
        })
    }

    /// The next node's seat; the first is the source's.
    pub fn seat(&mut self) -> Seat {
        let index = self.next;
        self.next += 1;
        self.places.push(u32::MAX);
        self.pooled.push(None);
        let seat = if index == SOURCE { self.source } else { self.mix.draw(&mut self.capacities) };
        Seat { index, ..seat }
    }

    /// A viewer has come; others are told of it under `digit` if it can be dialled.
    pub fn came(&mut self, index: Index, digit: u8, is_dialable: bool) {
        self.places[index as usize] = place_of(self.live.len());
        self.live.push(index);
        if is_dialable {
            let pool = &mut self.pools[usize::from(digit)];
            self.pooled[index as usize] = Some((digit, place_of(pool.len())));
            pool.push(index);
        }
    }

    /// A viewer is gone.
    pub fn went(&mut self, index: Index) {
        let place = std::mem::replace(&mut self.places[index as usize], u32::MAX);
        if place == u32::MAX {
            return;
        }
        self.live.swap_remove(place as usize);
        if let Some(moved) = self.live.get(place as usize) {
            self.places[*moved as usize] = place;
        }
        if let Some((digit, place)) = self.pooled[index as usize].take() {
            let pool = &mut self.pools[usize::from(digit)];
            pool.swap_remove(place as usize);
            if let Some(moved) = pool.get(place as usize) {
                self.pooled[*moved as usize] = Some((digit, place));
            }
        }
    }

    /// The live viewers, in no order that means anything.
    #[must_use]
    pub fn live(&self) -> &[Index] {
        &self.live
    }

    /// Whom the newcomer `index` is told.
    pub fn contacts(&mut self, index: Index, latency: &Latency) -> Vec<Index> {
        let mut contacts = match self.settings.knowledge {
            Knowledge::Introduced => self.introducers(index),
            Knowledge::Routed => self.row(index, latency),
        };
        contacts.push(SOURCE);
        contacts
    }

    fn introducers(&mut self, index: Index) -> Vec<Index> {
        let wanted = self.settings.introducers as usize;
        let mut contacts = Vec::new();
        let total: usize = self.pools.iter().map(Vec::len).sum();
        for _ in 0..wanted * TRIES {
            if contacts.len() >= wanted || total == 0 {
                break;
            }
            let mut chosen = self.contacts.below(total);
            for pool in &self.pools {
                if let Some(member) = pool.get(chosen) {
                    if *member != index && !contacts.contains(member) {
                        contacts.push(*member);
                    }
                    break;
                }
                chosen -= pool.len();
            }
        }
        contacts
    }

    /// Some of each digit: random ones, or the nearest of a sample (proximity neighbour
    /// selection, as the routing tables of Pastry have it).
    fn row(&mut self, index: Index, latency: &Latency) -> Vec<Index> {
        let wanted = self.settings.per_digit as usize;
        let sample = wanted.max(self.settings.nearest_of as usize);
        let mut contacts = Vec::new();
        for pool in &self.pools {
            let mut drawn = Vec::new();
            for _ in 0..sample * 2 {
                if drawn.len() >= sample.min(pool.len()) || pool.is_empty() {
                    break;
                }
                let member = pool[self.contacts.below(pool.len())];
                if member != index && !drawn.contains(&member) {
                    drawn.push(member);
                }
            }
            if self.settings.nearest_of > 0 {
                drawn.sort_by_key(|member| (latency.one_way(index, *member), *member));
            }
            contacts.extend(drawn.into_iter().take(wanted));
        }
        contacts
    }

    /// How long a session lasts, in microseconds.
    pub fn session(&mut self, churn: &Churn) -> u64 {
        let micros = churn.session.0.as_secs_f64() * 1e6;
        whole(match churn.sessions {
            Sessions::Exponential => self.sessions.exponential(micros),
            Sessions::Lognormal => self.sessions.lognormal(micros, churn.sigma),
        })
    }

    /// How long until somebody who has gone is replaced.
    pub fn absence(&mut self, churn: &Churn) -> u64 {
        whole(self.sessions.exponential(churn.off.0.as_secs_f64() * 1e6))
    }

    /// Whether somebody says goodbye.
    pub fn is_graceful(&mut self, churn: &Churn) -> bool {
        self.sessions.chance(churn.graceful)
    }

    /// Some of `nodes`, at random.
    pub fn some_of(&mut self, nodes: &mut [Index], count: usize) -> Vec<Index> {
        self.sessions.draw(nodes, count).to_vec()
    }

    /// An instant within `span`, at random.
    pub fn within(&mut self, span: u64) -> u64 {
        if span == 0 { 0 } else { self.sessions.bits() % span }
    }

    /// Until the next of those that come at `rate` for each second.
    pub fn until_next(&mut self, rate: f64) -> u64 {
        whole(self.sessions.exponential(1e6 / rate))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number of microseconds; what is longer than all runs may saturate"
)]
const fn whole(micros: f64) -> u64 {
    micros as u64
}

fn place_of(length: usize) -> u32 {
    u32::try_from(length).expect("fewer than 2^32 viewers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn population(knowledge: Knowledge) -> Population {
        let mut scenario = Scenario::default();
        scenario.population.knowledge = knowledge;
        let mut population = Population::new(&scenario, 1).expect("valid");
        for _ in 0..200 {
            let seat = population.seat();
            if seat.index != SOURCE {
                population.came(seat.index, u8::try_from(seat.index % 16).expect("small"), true);
            }
        }
        population
    }

    #[test]
    fn newcomers_are_told_live_members_and_the_source() {
        let mut population = population(Knowledge::Introduced);
        (1..100).for_each(|index| population.went(index));
        let latency = Latency::new(&Scenario::default().latency, 1);
        let contacts = population.contacts(150, &latency);
        assert_eq!((contacts.len(), contacts.last()), (4, Some(&SOURCE)));
        assert!(contacts[..3].iter().all(|index| (100..200).contains(index) && *index != 150));
    }

    #[test]
    fn the_routed_know_some_of_each_digit() {
        let mut population = population(Knowledge::Routed);
        let latency = Latency::new(&Scenario::default().latency, 1);
        let contacts = population.contacts(5, &latency);
        assert_eq!(contacts.len(), 16 * 3 + 1);
        for digit in 0..16 {
            assert_eq!(contacts[..48].iter().filter(|index| *index % 16 == digit).count(), 3);
        }
    }

    #[test]
    fn who_went_is_told_to_nobody() {
        let mut population = population(Knowledge::Routed);
        (1..200).filter(|index| index % 3 == 0).for_each(|index| population.went(index));
        let latency = Latency::new(&Scenario::default().latency, 1);
        let contacts = population.contacts(5, &latency);
        assert!(contacts.iter().all(|index| *index == SOURCE || index % 3 != 0));
        assert_eq!(population.live().len(), 199 - 66);
    }
}
