//! What a run leaves behind: one JSON file for each run, the same for every overlay.
//!
//! Decides names and units of what is kept. Who measures it is [`crate::measure`]; tables for
//! people are [`table`], pages are [`crate::report`]. Times are seconds of the world's clock unless
//! a name says otherwise; sizes are bytes; shares are 0 to 1.

pub mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that is kept of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunResult {
    /// The scenario's name: its file without the ending.
    pub scenario: String,
    /// What the scenario is about.
    pub about: String,
    /// Which variant of it; empty where it has none.
    pub variant: String,
    /// The overlay that ran.
    pub overlay: String,
    /// The seed everything random came from.
    pub seed: u64,
    /// Viewers the population starts with.
    pub nodes: u32,
    /// K.
    pub stripes: u8,
    /// The scenario as it was run, inheritance and variant applied.
    pub spec: serde_json::Value,
    /// How the run ended.
    pub outcome: Outcome,
    /// Hash over (time, node, kind) of every step: equal for equal runs.
    pub trace: String,
    /// What the run cost the machine.
    pub cost: Cost,
    /// The world it ran in.
    pub world: WorldResult,
    /// How the forest came about.
    pub build: Build,
    /// The forest at the end of the run.
    pub forest: ForestResult,
    /// What was said, and to whom.
    pub traffic: Traffic,
    /// What viewers saw.
    pub playback: Playback,
    /// Each event of the scenario and what followed.
    pub events: Vec<EventResult>,
    /// Coded over source bytes of the whole run; absent where the overlay tells nothing of coding.
    #[serde(default)]
    pub coded_ratio: Option<f64>,
    /// Samples over time.
    pub series: Vec<Sample>,
    /// What the checkers found.
    pub checks: Vec<CheckResult>,
    /// Every number above by a flat name, for `[expect]` and for tables.
    pub metrics: BTreeMap<String, f64>,
    /// The goals of the scenario and whether they were met.
    pub expectations: Vec<ExpectResult>,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum Outcome {
    /// Its time was up, or everybody was complete where the scenario stops then.
    #[default]
    Finished,
    /// A checker that may not fail did.
    Failed {
        /// When, in microseconds.
        at_micros: u64,
        /// At which node.
        node: u32,
        /// What was broken.
        what: String,
    },
}

/// What a run cost the machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds on the wall.
    pub wall: f64,
    /// Seconds of the world.
    pub simulated: f64,
    /// Steps taken.
    pub steps: u64,
    /// Steps for each second on the wall.
    pub steps_per_second: f64,
    /// Most memory the process had, if the system tells. Runs in parallel share it.
    pub peak_memory: Option<u64>,
}

/// The world: distances and capacities.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorldResult {
    /// One-way delays of random pairs, in milliseconds, without queues and losses.
    pub latency_ms: Distribution,
    /// Children a node may have.
    pub capacity: Distribution,
    /// Stripes a node wants.
    pub wanted: Distribution,
    /// Supply over demand: capacities over wanted stripes, the source's supply included.
    pub resource_index: f64,
    /// Share of the time of shared machines' cores that they worked, what waits for them at the end
    /// included; 0 where there are none.
    #[serde(default)]
    pub machine_load: f64,
    /// The longest that anything waited for a core, in seconds.
    #[serde(default)]
    pub machine_wait_max: f64,
}

/// How the forest came about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Build {
    /// From the start of the world to the first sample in which every live viewer had all its
    /// stripes all the way from the source.
    pub complete_after: Option<f64>,
    /// For each viewer: from its start to the first sample in which it had all stripes.
    pub node_complete: Distribution,
    /// Viewers of the end, older than ten seconds, that never had all stripes.
    pub never_complete: u32,
    /// From a viewer's start to the playout of its first picture.
    pub first_picture: Distribution,
    /// Connections a node dialled that came up during its first ten seconds.
    pub connections_opened: Distribution,
    /// Those others dialled, in the same time.
    #[serde(default)]
    pub connections_accepted: Distribution,
}

/// A forest at one moment. Only live nodes count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ForestResult {
    /// When.
    pub at: f64,
    /// Live viewers.
    pub viewers: u32,
    /// Share of them with all wanted stripes rooted.
    pub complete: f64,
    /// (Viewer, wanted stripe) pairs that are not rooted.
    pub orphans: u64,
    /// Viewers by the number of stripes they have rooted: index 0 to K.
    pub rooted_histogram: Vec<u32>,
    /// Depth of rooted (viewer, stripe) pairs: index is hops from the source.
    pub depth_histogram: Vec<u64>,
    /// Their mean.
    pub depth_mean: f64,
    /// Their largest.
    pub depth_max: u32,
    /// For each stripe the mean and the largest depth.
    pub depth_by_stripe: Vec<(f64, u32)>,
    /// Viewers by the number of trees in which they are interior: 0, 1, 2, 3 or more.
    pub interior_histogram: [u32; 4],
    /// Children of a viewer over all trees.
    pub out_degree: Distribution,
    /// Children of the source over all trees.
    pub source_children: u32,
    /// Share of edges from a parent that has the stripe among its primary ones; absent where the
    /// overlay tells no roles.
    pub native_edges: Option<f64>,
    /// Children that live nodes may have, the source included.
    pub supply: u64,
    /// Stripes that live viewers want.
    pub demand: u64,
    /// Free slots of live viewers.
    pub spare: u64,
    /// Children a live viewer may have over all trees.
    #[serde(default)]
    pub capacities: Distribution,
    /// For each viewer: stripes it loses if that other viewer dies whose death costs it most.
    pub worst_loss: Distribution,
    /// For each pair of a viewer and one of its ancestors: stripes the one loses with the other.
    pub single_loss: Distribution,
    /// For each stripe: largest delay over the tree against the largest of a direct message.
    pub rmd: Vec<f64>,
    /// For each stripe: mean delay over the tree against the mean of a direct message.
    pub rad: Vec<f64>,
    /// Mean round trip between a viewer and its parents, in seconds.
    #[serde(default)]
    pub parent_rtt: f64,
    /// How wrong round trips are that viewers estimate by their coordinates, for pairs drawn at
    /// random, as parts of the round trip.
    #[serde(default)]
    pub distance_error: Distribution,
    /// Connections of a live viewer.
    pub connections: Distribution,
    /// Peers a live viewer knows.
    pub contacts: Distribution,
    /// What live viewers take the audience to be, against what it is.
    pub population_error: Distribution,
}

/// What was said.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Requests handled by each node that ever was, as SplitStream counts node stress.
    pub requests: Distribution,
    /// (Requests, nodes) pairs in classes of doubling width; the first is exactly 0.
    pub requests_histogram: Vec<(u64, u32)>,
    /// Requests handled by the viewer that handled most: the source sees what is left over of a crowd.
    #[serde(default)]
    pub busiest_viewer: u32,
    /// Messages by kind.
    pub kinds: Vec<KindCount>,
    /// Control bytes over all bytes, transport overhead included.
    pub control_share: f64,
    /// Control messages sent per node and second.
    pub control_rate: f64,
    /// Data messages dropped because they expired in a queue.
    pub expired: u64,
    /// Data messages dropped at a full queue.
    pub overflowed: u64,
    /// Messages that were lost once and came late.
    pub recovered: u64,
    /// Messages to nodes that had died, or over connections that were gone.
    pub undelivered: u64,
    /// Bytes the source sent, against those of one coded stream since it began.
    pub source_factor: f64,
    /// Breaches of the protocol that nodes counted.
    pub violations: u64,
    /// Descriptions rebuilt for children.
    pub regenerated: u64,
}

/// Messages of one kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KindCount {
    /// Its name.
    pub kind: String,
    /// Whether it is data.
    pub is_data: bool,
    /// How many were sent.
    pub messages: u64,
    /// Their bytes, frames included, without transport overhead.
    pub bytes: u64,
}

/// What viewers saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Playback {
    /// Generations that came to their deadline at a viewer, since that viewer's first picture.
    pub played: u64,
    /// Share of them with at least the base layer.
    pub continuity_base: f64,
    /// Share of them with all layers.
    pub continuity_full: f64,
    /// Played generations by the number of descriptions that had come: index 0 to K.
    pub received_histogram: Vec<u64>,
    /// Share of viewers that had a picture and then at least one generation without.
    pub viewers_with_freeze: f64,
    /// Longest run of generations without a picture at one viewer.
    pub longest_freeze: u32,
    /// From publishing to playout.
    pub glass_to_glass: Distribution,
    /// From publishing to the first arrival of a piece of a stripe.
    pub arrival: Distribution,
    /// Pieces of stripes that arrived, against (viewers alive when they were published) x K.
    pub delivered: f64,
}

/// An event of the scenario and what followed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EventResult {
    /// Its name, or what it does.
    pub name: String,
    /// When.
    pub at: f64,
    /// Nodes it took out of the world, or cut off.
    pub victims: u32,
    /// Live viewers just after.
    pub viewers: u32,
    /// Stripes rooted, of all wanted by live viewers, just after.
    pub rooted_after: f64,
    /// From the event until in this stripe every viewer that survived had it back, for each
    /// stripe; absent where that did not happen before the next event or the end.
    pub outage: Vec<Option<f64>>,
    /// Until every stripe was back everywhere.
    pub all_back: Option<f64>,
    /// Stripe-seconds lost until the next event or the end, per live viewer.
    pub stripe_seconds_lost: f64,
    /// Least share of stripes that any live viewer had rooted in any sample after it.
    pub least_rooted: u8,
    /// Largest share of viewers that lacked one and the same stripe in any sample after it.
    pub worst_stripe_loss: f64,
    /// Continuity of base quality from here to the next event or the end.
    pub continuity_base: f64,
    /// The same for full quality.
    pub continuity_full: f64,
    /// Generations without a picture from here on, over all viewers.
    pub freezes: u64,
    /// Coded over source bytes from here on; absent where the overlay tells nothing of coding.
    #[serde(default)]
    pub coded_ratio: Option<f64>,
    /// Thresholds of the last generation before the next event or the end, base first.
    #[serde(default)]
    pub thresholds: Vec<u8>,
    /// Until the last layer's threshold was first what it is then.
    #[serde(default)]
    pub followed_after: Option<f64>,
    /// Most descriptions that any generation from here on needed for its base.
    #[serde(default)]
    pub highest_base: Option<u8>,
}

/// One moment of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: f64,
    /// Live viewers.
    pub viewers: u32,
    /// Share with all wanted stripes rooted.
    pub complete: f64,
    /// Mean number of stripes rooted.
    pub rooted_mean: f64,
    /// Least number of stripes rooted at any viewer older than ten seconds.
    pub rooted_min: u8,
    /// Mean depth.
    pub depth_mean: f64,
    /// Largest depth.
    pub depth_max: u32,
    /// Generations at their deadline since the sample before.
    pub played: u64,
    /// Of these, with at least the base layer.
    pub base: u64,
    /// Of these, with all layers.
    pub full: u64,
    /// Control bytes sent since the sample before.
    pub control_bytes: u64,
    /// Data bytes sent since the sample before.
    pub data_bytes: u64,
    /// Requests handled since the sample before.
    pub requests: u64,
    /// Connections at this moment.
    pub connections: u64,
}

/// What one checker found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckResult {
    /// Its name.
    pub name: String,
    /// `fail`, `count` or `off`.
    pub mode: String,
    /// Breaches.
    pub breaches: u64,
    /// The first of them.
    pub first: Option<String>,
}

/// A goal and whether it was met.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExpectResult {
    /// The goal.
    pub goal: String,
    /// The metric it bounds.
    pub metric: String,
    /// What was measured; absent where it could not be.
    pub value: Option<f64>,
    /// At most this.
    pub max: Option<f64>,
    /// At least this.
    pub min: Option<f64>,
    /// Whether the value is there and within its bounds.
    pub is_met: bool,
    /// Whether a miss makes the run fail.
    pub is_required: bool,
}

/// A set of numbers, kept as its percentiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// How many there are. All else is 0 where there are none.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The 0th, 1st, … 100th percentile; empty where there are none.
    pub percentiles: Vec<f64>,
    /// The 99.9th.
    pub p999: f64,
}

impl Distribution {
    /// From the numbers themselves.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        values.sort_by(f64::total_cmp);
        let count = values.len();
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let mean = values.iter().sum::<f64>() / count as f64;
        let rank = |thousandth: usize| values[(thousandth * (count - 1) + 500) / 1000];
        Self {
            count: count as u64,
            mean,
            percentiles: (0..=100).map(|percent| rank(percent * 10)).collect(),
            p999: rank(999),
        }
    }

    /// The `percent`-th percentile; 0 of none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        self.percentiles.get(percent).copied().unwrap_or(0.0)
    }

    /// The smallest.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.percentile(0)
    }

    /// The middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The largest.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.percentile(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let distribution = Distribution::of((0..=1000).rev().map(f64::from).collect());
        assert_eq!(distribution.count, 1001);
        assert!((distribution.mean - 500.0).abs() < 1e-9);
        assert!((distribution.percentile(99) - 990.0).abs() < 1e-9);
        assert!((distribution.p999 - 999.0).abs() < 1e-9);
        assert!((distribution.max() - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn no_numbers_have_no_percentiles() {
        let distribution = Distribution::of(Vec::new());
        assert_eq!(distribution, Distribution::default());
        assert!(distribution.max().abs() < 1e-9);
    }

    #[test]
    fn a_result_survives_its_file() {
        let result = RunResult { seed: 7, outcome: Outcome::Finished, ..RunResult::default() };
        let text = serde_json::to_string(&result).expect("plain data");
        let read: RunResult = serde_json::from_str(&text).expect("what was written");
        assert_eq!(read.seed, 7);
    }
}
