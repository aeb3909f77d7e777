//! Metrics over time: samples of the forest, and what followed each event.
//!
//! Decides what is looked at when; [`survey`] looks. Truth, not belief: a stripe is rooted at a
//! viewer if the way up over live nodes ends at the source, whatever anybody takes for alive.

pub mod coding;
pub mod histogram;
pub mod screens;
pub mod structure;
pub mod summary;
pub mod survey;
pub mod tally;

use crate::check::Rule;
use crate::forest::Forest;
use crate::node::{Index, Node};
use crate::result::{EventResult, Sample};
use crate::scenario::Check;
use crate::world::World;
use screens::Shows;
use survey::Survey;

/// Viewers younger than this do not count for minima: they are still joining.
const YOUNG: u64 = 10_000_000;

/// What was known of an event when it happened.
#[derive(Clone, Debug)]
struct Watched {
    at: u64,
    result: EventResult,
    shows: Shows,
    lost: f64,
    /// Viewers that lived then: only those have to have everything back.
    until: Index,
}

/// Counters at the last sample.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    shows: Shows,
    control: u64,
    data: u64,
    requests: u64,
}

/// Everything that is measured over time.
#[derive(Debug)]
pub struct Meter {
    survey: Survey,
    series: Vec<Sample>,
    events: Vec<Watched>,
    before: Before,
    /// For each node: when it was first seen with all its stripes.
    complete_at: Vec<Option<u64>>,
    /// For each node: when it was last seen with all its stripes, or started.
    whole_at: Vec<u64>,
    all_complete_at: Option<u64>,
    last_at: u64,
    /// Stripe-seconds lost for each live viewer, since the beginning.
    lost: f64,
    bound: u64,
    disturbed_at: u64,
}

impl Meter {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(check: &Check) -> Self {
        Self {
            survey: Survey::default(),
            series: Vec::new(),
            events: Vec::new(),
            before: Before::default(),
            complete_at: Vec::new(),
            whole_at: Vec::new(),
            all_complete_at: None,
            last_at: 0,
            lost: 0.0,
            bound: check.bound.micros(),
            disturbed_at: 0,
        }
    }

    /// The world was disturbed, and will be left alone from `until` on.
    pub fn disturbed(&mut self, until: u64) {
        self.disturbed_at = self.disturbed_at.max(until);
    }

    /// An event has happened: what follows is its.
    pub fn event<N: Node>(&mut self, world: &World<N>, name: String, victims: u32) {
        self.close_event(world);
        self.survey.look(&world.forest);
        let viewers = world.viewers();
        let wanted = self.survey.wanted.max(1);
        let result = EventResult {
            name,
            at: seconds(world.now()),
            victims,
            viewers,
            rooted_after: ratio(self.survey.rooted, wanted),
            outage: vec![None; world.forest.stripes()],
            least_rooted: u8::MAX,
            ..EventResult::default()
        };
        let (shows, lost) = (world.screens.shows, self.lost);
        let until = world.forest.len();
        self.events.push(Watched { at: world.now(), result, shows, lost, until });
    }

    /// Looks at the forest.
    pub fn sample<N: Node>(&mut self, world: &mut World<N>) {
        self.survey.look(&world.forest);
        let now = world.now();
        self.note_nodes(&world.forest, now);
        self.check_liveness(world);
        let missing = self.survey.wanted - self.survey.rooted;
        let viewers = world.viewers();
        let passed = seconds(now - self.last_at);
        self.lost += ratio(missing, u64::from(viewers.max(1))) * passed;
        self.last_at = now;
        if missing == 0 && viewers > 0 && self.all_complete_at.is_none() {
            self.all_complete_at = Some(now);
        }
        self.follow_event(now, &world.forest);
        let sample = self.sampled(world);
        self.series.push(sample);
    }

    /// Whether everybody had everything in the last sample.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.series.last().is_some_and(|last| last.viewers > 0)
            && self.survey.rooted == self.survey.wanted
    }

    /// The last sample, for progress.
    #[must_use]
    pub fn last(&self) -> Option<&Sample> {
        self.series.last()
    }

    fn sampled<N: Node>(&mut self, world: &World<N>) -> Sample {
        let (shows, tally) = (world.screens.shows, &world.tally);
        let before = std::mem::replace(
            &mut self.before,
            Before {
                shows,
                control: tally.control_bytes,
                data: tally.data_bytes,
                requests: tally.requests_total,
            },
        );
        let viewers = world.viewers();
        let connections: usize = world.forest.viewers().map(|node| world.connections(node)).sum();
        Sample {
            at: seconds(world.now()),
            viewers,
            complete: ratio(u64::from(self.survey.complete), u64::from(viewers.max(1))),
            rooted_mean: ratio(self.survey.rooted, u64::from(viewers.max(1))),
            rooted_min: self.least_rooted(&world.forest, world.now()),
            depth_mean: ratio(self.survey.depth_sum, self.survey.rooted.max(1)),
            depth_max: self.survey.depth_max,
            played: shows.played - before.shows.played,
            base: shows.base - before.shows.base,
            full: shows.full - before.shows.full,
            control_bytes: tally.control_bytes - before.control,
            data_bytes: tally.data_bytes - before.data,
            requests: tally.requests_total - before.requests,
            connections: connections as u64,
        }
    }

    fn note_nodes(&mut self, forest: &Forest, now: u64) {
        self.complete_at.resize(forest.len() as usize, None);
        self.whole_at.resize(forest.len() as usize, 0);
        for node in forest.viewers() {
            let whole_at = &mut self.whole_at[node as usize];
            *whole_at = (*whole_at).max(forest.started_at(node));
            if u32::from(self.survey.by_node[node as usize]) == forest.wanted(node) {
                self.whole_at[node as usize] = now;
                self.complete_at[node as usize].get_or_insert(now);
            }
        }
    }

    fn least_rooted(&self, forest: &Forest, now: u64) -> u8 {
        let old = forest.viewers().filter(|node| forest.started_at(*node) + YOUNG <= now);
        old.map(|node| self.survey.by_node[node as usize]).min().unwrap_or(0)
    }

    /// Once the world has been left alone for the bound, nobody may lack anything for as long.
    fn check_liveness<N: Node>(&self, world: &mut World<N>) {
        let now = world.now();
        if !world.checks.is_on(Rule::Liveness) || now < self.disturbed_at + self.bound {
            return;
        }
        let World { forest, checks, .. } = world;
        for node in forest.viewers() {
            let since = self.whole_at[node as usize];
            if since + self.bound < now {
                let rooted = self.survey.by_node[node as usize];
                checks.breach(Rule::Liveness, now, node, || {
                    let wanted = forest.wanted(node);
                    format!("{rooted} of {wanted} stripes since {:.3} s", seconds(since))
                });
            }
        }
    }

    fn follow_event(&mut self, now: u64, forest: &Forest) {
        let Some(event) = self.events.last_mut() else {
            return;
        };
        let survivors = forest.viewers().take_while(|node| *node < event.until);
        let least = survivors.map(|node| self.survey.by_node[node as usize]).min();
        let result = &mut event.result;
        result.least_rooted = result.least_rooted.min(least.unwrap_or(u8::MAX));
        let lacking = self.survey.lacking(forest, event.until);
        for (stripe, (lacks, viewers)) in lacking.into_iter().enumerate() {
            let share = ratio(lacks, viewers.max(1));
            result.worst_stripe_loss = result.worst_stripe_loss.max(share);
            if lacks == 0 {
                result.outage[stripe].get_or_insert_with(|| seconds(now - event.at));
            }
        }
    }

    fn close_event<N: Node>(&mut self, world: &World<N>) {
        let Some(Watched { at, result, shows, lost, .. }) = self.events.last_mut() else {
            return;
        };
        let after = world.screens.shows;
        let played = (after.played - shows.played).max(1);
        result.continuity_base = ratio(after.base - shows.base, played);
        result.continuity_full = ratio(after.full - shows.full, played);
        result.freezes = (after.played - shows.played) - (after.base - shows.base);
        result.stripe_seconds_lost = self.lost - *lost;
        coding::close(&world.coding, *at, result);
        let longest = result.outage.iter().copied().collect::<Option<Vec<f64>>>();
        result.all_back = longest.map(|all| all.into_iter().fold(0.0, f64::max));
    }
}

/// Microseconds in seconds.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) const fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// A share or a mean of counts.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) const fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
