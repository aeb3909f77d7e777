//! The world of one run with its audience, its agenda and its meter.

use anyhow::Result;
use banyan_core::Instant;

use super::Cast;
use super::agenda::{Agenda, Item};
use crate::check::Breach;
use crate::forest::SOURCE;
use crate::measure::survey::Survey;
use crate::measure::{Meter, seconds};
use crate::node::Index;
use crate::population::Population;
use crate::scenario::{Deed, Event, Scenario, Who};
use crate::world::{Seat, World};

/// Between two reports of progress, in microseconds of the world.
const SLICE: u64 = 50_000;
/// How long after an event samples stay dense.
const DENSE: u64 = 10_000_000;

/// How far a run is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Seconds of the world.
    pub at: f64,
    /// Where it ends at the latest.
    pub end: f64,
    /// Live viewers.
    pub viewers: u32,
    /// Share of them that had all stripes in the last sample.
    pub complete: f64,
    /// Steps taken.
    pub steps: u64,
    /// Events that wait.
    pub waiting: usize,
}

/// A run under way.
#[derive(Debug)]
pub(super) struct Stage<'a, C: Cast> {
    scenario: &'a Scenario,
    cast: C,
    pub(super) world: World<C::Node>,
    pub(super) meter: Meter,
    population: Population,
    agenda: Agenda,
    /// Seats of those that come at once.
    seats: Vec<Seat>,
    end: u64,
    dense_until: u64,
    /// When the forest is looked at next.
    sample_at: u64,
    publish_until: u64,
}

impl<'a, C: Cast> Stage<'a, C> {
    pub(super) fn new(scenario: &'a Scenario, seed: u64, cast: C) -> Result<Self> {
        let end = scenario.world.duration.micros();
        let broadcast = &scenario.broadcast;
        let from = broadcast.publish_from.micros();
        let publish_until = broadcast.publish_for.map_or(end, |span| from + span.micros());
        let mut stage = Self {
            scenario,
            cast,
            world: World::new(scenario, seed),
            meter: Meter::new(&scenario.check),
            population: Population::new(scenario, seed)?,
            agenda: Agenda::default(),
            seats: Vec::new(),
            end,
            dense_until: 0,
            sample_at: 0,
            publish_until,
        };
        let source = stage.reserve();
        if scenario.population.arrive_over.0.is_zero() {
            // They are known to each other, and to the source, before any of them says anything.
            stage.seats = (0..scenario.population.nodes).map(|_| stage.reserve()).collect();
        }
        let node = stage.cast.make(&source, Instant::ZERO)?;
        let contacts = stage.cast.contacts(SOURCE, &stage.world.latency).unwrap_or_default();
        stage.world.start(SOURCE, node, contacts);
        stage.plan(from);
        Ok(stage)
    }

    /// Notes everything that is known beforehand.
    fn plan(&mut self, publish_from: u64) {
        let population = &self.scenario.population;
        let at = population.arrive_at.micros();
        if population.arrive_over.0.is_zero() {
            self.agenda.note(at, Item::Curtain);
        } else {
            for _ in 0..population.nodes {
                let after = self.population.within(population.arrive_over.micros());
                self.agenda.note(at + after, Item::Newcomer);
            }
        }
        if population.joins_per_second > 0.0 {
            let after = self.population.until_next(population.joins_per_second);
            self.agenda.note(at + after, Item::Steady);
        }
        for (number, event) in self.scenario.events.iter().enumerate() {
            self.agenda.note(event.at.micros(), Item::Event(number));
        }
        if publish_from < self.publish_until {
            self.agenda.note(publish_from, Item::Publish);
        }
        self.sample_after(self.scenario.measure.sample.micros());
    }

    /// Plays to the end. The inner result is the breach that ended it early.
    pub(super) fn play(&mut self, progress: &mut dyn FnMut(&Moment)) -> Result<Result<(), Breach>> {
        while self.world.now() < self.end {
            let next = self.agenda.next_at().unwrap_or(self.end).min(self.end);
            let until = next.min(self.world.now() + SLICE);
            if let Err(breach) = self.world.run_until(until) {
                return Ok(Err(breach));
            }
            progress(&self.moment());
            while let Some(item) = self.agenda.pop(self.world.now()) {
                self.carry_out(item)?;
                if item == Item::Sample && self.is_done() {
                    return Ok(Ok(()));
                }
            }
        }
        // The end is looked at as well, and what the last sample found counts.
        self.meter.sample(&mut self.world);
        Ok(self.world.checks.fatal().map_or(Ok(()), |breach| Err(breach.clone())))
    }

    fn is_done(&self) -> bool {
        self.scenario.world.until_complete
            && !self.agenda.expects_arrivals()
            && self.meter.is_complete()
    }

    fn moment(&self) -> Moment {
        Moment {
            at: seconds(self.world.now()),
            end: seconds(self.end),
            viewers: self.world.viewers(),
            complete: self.meter.last().map_or(0.0, |sample| sample.complete),
            steps: self.world.steps(),
            waiting: self.world.waiting(),
        }
    }

    fn carry_out(&mut self, item: Item) -> Result<()> {
        let now = self.world.now();
        match item {
            Item::Curtain => {
                let seats = std::mem::take(&mut self.seats);
                seats.iter().try_for_each(|seat| self.enter(seat))?;
            }
            Item::Newcomer => {
                let seat = self.reserve();
                self.enter(&seat)?;
            }
            Item::Steady => {
                let seat = self.reserve();
                self.enter(&seat)?;
                let rate = self.scenario.population.joins_per_second;
                let after = self.population.until_next(rate);
                self.agenda.note(now + after, Item::Steady);
            }
            Item::Go { index, is_graceful, is_replaced } => {
                self.go(index, is_graceful, is_replaced);
            }
            Item::Event(number) => self.carry_out_event(&self.scenario.events[number]),
            Item::Publish => {
                self.world.publish();
                let next = now + self.scenario.broadcast.generation.micros();
                if next < self.publish_until {
                    self.agenda.note(next, Item::Publish);
                }
            }
            // An event moves the next sample forward; what was noted before it is void.
            Item::Sample if now == self.sample_at => {
                self.meter.sample(&mut self.world);
                let measure = &self.scenario.measure;
                let is_dense = now < self.dense_until;
                let after = if is_dense { measure.sample_after_event } else { measure.sample };
                self.sample_after(after.micros());
            }
            Item::Sample => {}
        }
        Ok(())
    }

    // ---- Coming -----------------------------------------------------------------------------

    fn reserve(&mut self) -> Seat {
        let mut seat = self.population.seat();
        self.world.reserve(&seat);
        seat.is_dialable = self.world.is_dialable(seat.index);
        if seat.index != SOURCE {
            let digit = self.cast.digit(seat.index);
            self.population.came(seat.index, digit, seat.is_dialable);
            self.cast.came(seat.index);
        }
        seat
    }

    fn enter(&mut self, seat: &Seat) -> Result<()> {
        let now = self.world.now();
        let node = self.cast.make(seat, Instant::from_micros(now))?;
        let contacts = match self.cast.contacts(seat.index, &self.world.latency) {
            Some(contacts) => contacts,
            None => self.population.contacts(seat.index, &self.world.latency),
        };
        self.world.start(seat.index, node, contacts);
        self.meter.disturbed(now);
        if let Some(churn) = &self.scenario.population.churn {
            // Sessions of those that were there before are drawn anew where churn begins.
            let begins = churn.from.micros().max(now);
            let ends = begins.saturating_add(self.population.session(churn));
            let is_graceful = self.population.is_graceful(churn);
            if ends < churn.until.map_or(self.end, crate::scenario::Span::micros) {
                let index = seat.index;
                self.agenda.note(ends, Item::Go { index, is_graceful, is_replaced: true });
            }
        }
        Ok(())
    }

    // ---- Going ------------------------------------------------------------------------------

    fn go(&mut self, index: Index, is_graceful: bool, is_replaced: bool) {
        if !self.world.forest.is_live(index) {
            return;
        }
        let now = self.world.now();
        if is_graceful {
            self.world.leave(index);
        } else {
            self.world.kill(index);
        }
        self.population.went(index);
        self.cast.went(index);
        self.meter.disturbed(now);
        if is_replaced && let Some(churn) = &self.scenario.population.churn {
            let after = self.population.absence(churn);
            self.agenda.note(now + after, Item::Newcomer);
        }
    }

    // ---- Events -----------------------------------------------------------------------------

    fn carry_out_event(&mut self, event: &Event) {
        let now = self.world.now();
        let span = event.span.micros();
        let count = self.count(event);
        let victims = match event.deed {
            Deed::Kill | Deed::Leave | Deed::Partition => self.choose(event, count),
            Deed::Join | Deed::Impair | Deed::Mark => Vec::new(),
        };
        match event.deed {
            Deed::Kill => victims.iter().for_each(|index| self.go(*index, false, false)),
            Deed::Leave => {
                for index in &victims {
                    let after = self.population.within(span);
                    let go = Item::Go { index: *index, is_graceful: true, is_replaced: false };
                    self.agenda.note(now + after, go);
                }
                self.meter.disturbed(now + span);
            }
            Deed::Partition => {
                self.world.divide(&victims, span);
                self.meter.disturbed(now + span);
            }
            Deed::Join => {
                for _ in 0..count {
                    let after = self.population.within(span);
                    self.agenda.note(now + after, Item::Newcomer);
                }
            }
            // The book knows when impairments begin.
            Deed::Impair | Deed::Mark => {}
        }
        let name = if event.name.is_empty() { name_of(event) } else { event.name.clone() };
        let victims = u32::try_from(victims.len()).unwrap_or(u32::MAX);
        self.meter.event(&self.world, name, victims);
        self.dense_until = now + DENSE;
        self.sample_after(self.scenario.measure.sample_after_event.micros());
    }

    fn sample_after(&mut self, span: u64) {
        self.sample_at = self.world.now() + span;
        self.agenda.note(self.sample_at, Item::Sample);
    }

    fn count(&self, event: &Event) -> usize {
        if let Some(count) = event.count {
            return count as usize;
        }
        let Some(share) = event.share else { return 1 };
        let viewers = f64::from(self.world.viewers());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of the audience"
        )]
        let count = (viewers * share).round() as usize;
        count
    }

    fn choose(&mut self, event: &Event, count: usize) -> Vec<Index> {
        match event.who {
            Who::Random => {
                let mut live = self.population.live().to_vec();
                live.sort_unstable();
                self.population.some_of(&mut live, count)
            }
            Who::Topmost => self.topmost(event.stripe).into_iter().collect(),
            Who::Busiest => {
                let forest = &self.world.forest;
                let mut viewers: Vec<Index> = forest.viewers().collect();
                viewers.sort_by_key(|node| std::cmp::Reverse(forest.children(*node)));
                viewers.truncate(count);
                viewers
            }
        }
    }

    /// The child of the source with the most viewers below it.
    fn topmost(&self, stripe: u8) -> Option<Index> {
        let (forest, stripe) = (&self.world.forest, usize::from(stripe));
        let mut survey = Survey::default();
        survey.look(forest);
        let mut tops: Vec<Index> =
            forest.viewers().filter_map(|node| survey.top(forest, node, stripe)).collect();
        tops.sort_unstable();
        let largest = tops.chunk_by(|a, b| a == b).max_by_key(|of| of.len())?;
        largest.first().copied()
    }
}

fn name_of(event: &Event) -> String {
    let deed = match event.deed {
        Deed::Kill => "kill",
        Deed::Leave => "leave",
        Deed::Partition => "partition",
        Deed::Join => "join",
        Deed::Impair => "impair",
        Deed::Mark => "mark",
    };
    let who = match event.who {
        Who::Random => "",
        Who::Topmost => " topmost",
        Who::Busiest => " busiest",
    };
    format!("{deed}{who}")
}
