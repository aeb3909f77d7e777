//! Scenarios: what is to happen in a run, as TOML.
//!
//! ```text
//!   file ── base = "other.toml" ──▶ merged ── [[variant]] ──▶ one Scenario for each variant
//! ```
//!
//! Decides names, defaults and what is valid. What the parts mean to the world is with those who
//! read them. Unknown names are refused: a misspelt limit must not pass for the default.

mod file;
mod span;

use serde::{Deserialize, Serialize};

pub use file::{Variant, load};
pub use span::Span;

/// One run, but for its seed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What it is about, in a sentence.
    pub about: String,
    /// Time and transport.
    pub world: World,
    /// Distances.
    pub latency: Latency,
    /// Access links.
    pub links: Links,
    /// Who can be dialled.
    pub nat: Nat,
    /// Machines that nodes share.
    pub machine: Machine,
    /// Who comes and goes.
    pub population: Population,
    /// The programme.
    pub broadcast: Broadcast,
    /// Who decides the edges.
    pub overlay: Overlay,
    /// What is done to the world.
    #[serde(rename = "event")]
    pub events: Vec<Event>,
    /// What must hold.
    pub check: Check,
    /// What is looked at.
    pub measure: Measure,
    /// Goals.
    pub expect: Vec<Expect>,
}

/// Time and transport.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct World {
    /// When the run ends.
    pub duration: Span,
    /// Whether it ends earlier, once all live viewers have all stripes.
    pub until_complete: bool,
    /// From a silent death to the end of its connections: QUIC's idle time-out.
    pub detection: Span,
    /// After this long without traffic a connection that neither end keeps is closed.
    pub idle_timeout: Span,
    /// How long a dial that reaches nobody takes to fail.
    pub dial_timeout: Span,
}

impl Default for World {
    fn default() -> Self {
        Self {
            duration: Span::seconds(60),
            until_complete: false,
            detection: Span::seconds(4),
            idle_timeout: Span::seconds(15),
            dial_timeout: Span::seconds(2),
        }
    }
}

/// How distances come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyModel {
    /// Every message takes `one_way`.
    Constant,
    /// Each pair has a delay between `min` and `max`, the same in both directions.
    Uniform,
    /// Regions, scatter and heavy-tailed access delays: see [`crate::world::latency`].
    Regions,
}

/// Distances.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    /// The model.
    pub model: LatencyModel,
    /// For `constant`.
    pub one_way: Span,
    /// For `uniform`.
    pub min: Span,
    /// For `uniform`.
    pub max: Span,
    /// Median of the log-normal delay added to each message; 0 for none.
    pub jitter: Span,
    /// Deviation of its logarithm.
    pub jitter_sigma: f64,
    /// Probability that a message is lost once and sent again.
    pub loss: f64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            model: LatencyModel::Constant,
            one_way: Span::millis(40),
            min: Span::millis(10),
            max: Span::millis(80),
            jitter: Span::ZERO,
            jitter_sigma: 1.0,
            loss: 0.0,
        }
    }
}

/// Access links. Without `enabled` they are infinitely fast, as in the SplitStream paper.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// Whether rates count.
    pub enabled: bool,
    /// Share of an upload that its capacity promises away; the rest is headroom. A guess.
    pub promised: f64,
    /// Most bytes of data that wait at one uplink; further ones are dropped.
    pub queue: u64,
    /// Bytes that UDP, IP and QUIC add to each started packet of 1,200 bytes. 28 for the first
    /// two, about 25 for a short QUIC header, its tag and a stream frame.
    pub overhead: u32,
}

impl Default for Links {
    fn default() -> Self {
        Self { enabled: true, promised: 0.8, queue: 4 * 1024 * 1024, overhead: 53 }
    }
}

/// Address translation. Shares that do not add up to 1 are scaled.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nat {
    /// Share of viewers that all can dial.
    pub open: f64,
    /// Share that can be dialled with luck.
    pub cone: f64,
    /// Share that can only dial.
    pub symmetric: f64,
    /// Probability that a peer can dial a `cone`; drawn once for each pair.
    pub hole_punching: f64,
}

impl Default for Nat {
    fn default() -> Self {
        Self { open: 1.0, cone: 0.0, symmetric: 0.0, hole_punching: 0.0 }
    }
}

/// Machines that nodes share, as in a test of a real swarm. All costs are guesses, of the order that a
/// profile of a swarm on two cores shows; both ends of a message are charged to its receiver.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Machine {
    /// Nodes on each machine, in the order in which they come, the source first. 0: each node has a
    /// machine of its own, which is never busy.
    pub nodes: u32,
    /// Cores of a machine.
    pub cores: u32,
    /// CPU time of a control message: two passes through QUIC and its cryptography.
    pub per_message: Span,
    /// The same of a message of data.
    pub per_chunk: Span,
    /// Of a wake-up.
    pub per_timer: Span,
    /// Of each end of a handshake: key exchange, a signature and its verification.
    pub per_handshake: Span,
}

impl Default for Machine {
    fn default() -> Self {
        let micros = |micros| Span(std::time::Duration::from_micros(micros));
        Self {
            nodes: 0,
            cores: 2,
            per_message: micros(40),
            per_chunk: micros(60),
            per_timer: micros(10),
            per_handshake: micros(1_000),
        }
    }
}

/// What newcomers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// Some random live members and the source, as the directory tells.
    Introduced,
    /// Some contacts for each digit, as if the routing substrate stood already.
    Routed,
}

/// Who comes and goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Population {
    /// Viewers of the beginning.
    pub nodes: u32,
    /// Capacities: `"16x18"`, `"unbounded"`, `"dxd"`, `"gnutella"`, `"home2026"`, or a list such
    /// as `"64:0.2 16:0.3 4:0.5"` (capacity and share); see [`crate::population::capacity`].
    pub capacity: String,
    /// Children the source may have; 2 K where absent.
    pub source_capacity: Option<u32>,
    /// The first viewers come spread over this time; at once where it is zero.
    pub arrive_over: Span,
    /// When the first viewers begin to come.
    pub arrive_at: Span,
    /// Further viewers come at this rate, for each second.
    pub joins_per_second: f64,
    /// What newcomers know.
    pub knowledge: Knowledge,
    /// Random members told to the introduced.
    pub introducers: u32,
    /// Contacts for each digit told to the routed.
    pub per_digit: u32,
    /// The routed are told the nearest of this many; random ones where it is 0.
    pub nearest_of: u32,
    /// Whether newcomers have the manifest from the directory.
    pub has_manifest: bool,
    /// Coming and going.
    pub churn: Option<Churn>,
}

impl Default for Population {
    fn default() -> Self {
        Self {
            nodes: 100,
            capacity: "16x18".into(),
            source_capacity: None,
            arrive_over: Span::ZERO,
            arrive_at: Span::ZERO,
            joins_per_second: 0.0,
            knowledge: Knowledge::Introduced,
            introducers: 3,
            per_digit: 3,
            nearest_of: 0,
            has_manifest: false,
            churn: None,
        }
    }
}

/// Shape of session lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sessions {
    /// By their mean.
    Exponential,
    /// By their median and `sigma`.
    Lognormal,
}

/// Coming and going. Who goes is replaced by a newcomer, so that the audience stays about as large.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// Shape of session lengths.
    pub sessions: Sessions,
    /// Their mean or median.
    pub session: Span,
    /// Deviation of the logarithm of log-normal sessions.
    #[serde(default = "one")]
    pub sigma: f64,
    /// Mean of the exponential time until the newcomer comes.
    #[serde(default)]
    pub off: Span,
    /// Share that says goodbye; the others die without a word.
    #[serde(default = "half")]
    pub graceful: f64,
    /// When it begins.
    #[serde(default)]
    pub from: Span,
    /// When it ends; at the end of the run where absent.
    pub until: Option<Span>,
}

const fn one() -> f64 {
    1.0
}

const fn half() -> f64 {
    0.5
}

/// What the layers of a generation hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// Sound and key pictures from 11 of 16 descriptions, the rest from 13.
    #[default]
    Priority,
    /// Sound and a low rendition from 6 of 16 descriptions, the full one from 13.
    Ladder,
}

/// The programme.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Broadcast {
    /// K.
    pub stripes: u32,
    /// Bits per second of the whole coded stream.
    pub stream_rate: u64,
    /// One generation's programme.
    pub generation: Span,
    /// Every so many generations begin with a picture that can be shown alone.
    pub random_access_every: u64,
    /// Bytes of payload that stand for one description; links are charged with the stream's rate.
    /// Up to 1 KiB is one chunk, whatever the rate; 8 KiB give eight, as real streams have.
    pub payload: u32,
    /// What its layers hold.
    pub coding: Coding,
    /// Most bytes that are coded for one of programme, where thresholds follow the audience; where
    /// absent they are fixed.
    pub redundancy: Option<f64>,
    /// When publishing begins.
    pub publish_from: Span,
    /// How long it goes on; to the end where absent, not at all where it is zero.
    pub publish_for: Option<Span>,
}

impl Default for Broadcast {
    fn default() -> Self {
        Self {
            stripes: 16,
            stream_rate: 1_600_000,
            generation: Span::millis(500),
            random_access_every: 4,
            payload: 64,
            coding: Coding::default(),
            redundancy: None,
            publish_from: Span::ZERO,
            publish_for: None,
        }
    }
}

/// Who decides the edges.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overlay {
    /// `banyan`, `banyan-peercast`, or a baseline by its name.
    pub kind: String,
    /// Its settings, by its own names.
    pub switches: toml::Table,
}

impl Default for Overlay {
    fn default() -> Self {
        Self { kind: "banyan".into(), switches: toml::Table::new() }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// They die without a word.
    Kill,
    /// They say goodbye.
    Leave,
    /// They are cut off from all others for a while.
    Partition,
    /// Newcomers come.
    Join,
    /// From here on, `share` of the descriptions come too late for those that are leaves in their
    /// trees; Banyan's own overlays only.
    Impair,
    /// Nothing: measuring begins anew.
    Mark,
}

/// To whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Random viewers.
    #[default]
    Random,
    /// The one child of the source in `stripe` that has the largest subtree.
    Topmost,
    /// Viewers with the most children.
    Busiest,
}

/// Something that is done to the world at an instant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When.
    pub at: Span,
    /// What.
    #[serde(rename = "do")]
    pub deed: Deed,
    /// To whom.
    #[serde(default)]
    pub who: Who,
    /// To this share of the live viewers; for `impair`: this share of the descriptions.
    pub share: Option<f64>,
    /// To this many.
    pub count: Option<u32>,
    /// For `topmost`.
    #[serde(default)]
    pub stripe: u8,
    /// For `partition`: how long. For `join` and `leave`: spread over this time.
    #[serde(default, rename = "for")]
    pub span: Span,
    /// Its name in the results.
    #[serde(default)]
    pub name: String,
}

/// What a breach of a checker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It ends the run as failed.
    Fail,
    /// It is counted.
    Count,
    /// Nobody looks.
    Off,
}

impl Mode {
    /// As in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Count => "count",
            Self::Off => "off",
        }
    }
}

/// What must hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// Each node's own invariants, after every step of it.
    pub node: Mode,
    /// No tree has a loop.
    pub acyclic: Mode,
    /// How long a loop may last. It may be one of beliefs alone: a child that was cut off does not
    /// know until it is told.
    pub loop_grace: Span,
    /// Staying children are at most the capacity.
    pub capacity: Mode,
    /// A viewer is interior in at most its share of trees.
    pub disjoint: Mode,
    /// That share; ⌈K / viewers⌉ where absent, viewers being the fewest within `grace`.
    pub max_interior: Option<u32>,
    /// How long a share may outlast a smaller audience.
    pub grace: Span,
    /// Queues stay within their bounds.
    pub queues: Mode,
    /// No orphan outlives `bound` once the world has been left alone that long.
    pub liveness: Mode,
    /// That bound.
    pub bound: Span,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            node: Mode::Fail,
            acyclic: Mode::Fail,
            loop_grace: Span::ZERO,
            capacity: Mode::Fail,
            disjoint: Mode::Fail,
            max_interior: None,
            grace: Span::seconds(30),
            queues: Mode::Fail,
            liveness: Mode::Count,
            bound: Span::seconds(10),
        }
    }
}

/// What is looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measure {
    /// Between two samples.
    pub sample: Span,
    /// Between two samples during the first ten seconds after an event.
    pub sample_after_event: Span,
    /// Random pairs whose delays give the latency distribution.
    pub pairs: u32,
}

impl Default for Measure {
    fn default() -> Self {
        Self { sample: Span::seconds(1), sample_after_event: Span::millis(100), pairs: 20_000 }
    }
}

/// A goal: bounds of one metric.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// In words.
    pub goal: String,
    /// The metric's name in [`RunResult::metrics`](crate::result::RunResult::metrics).
    pub metric: String,
    /// At most this.
    pub max: Option<f64>,
    /// At least this.
    pub min: Option<f64>,
    /// Whether a miss fails the run.
    #[serde(default)]
    pub required: bool,
}
