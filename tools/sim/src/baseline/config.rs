//! What a baseline is set up with, and the waits of its models.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::mix::Mix;
use super::routing::Shape;

/// Which baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SOSP'03: attach then reject, spare capacity group.
    Paper,
    /// FreePastry 2.x: search of the stripe's tree, leases, no spare capacity group.
    Freepastry,
}

/// What all nodes of one baseline have in common.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Which policy.
    pub kind: Kind,
    /// Stripes: a power of two from 2 to 64. A digit has as many bits as their number needs.
    pub stripes: u8,
    /// The substrate's tables.
    pub shape: Shape,
    /// How many nodes are looked at for each place in a table to find the nearest; the distances
    /// are the world's.
    pub sample: usize,
    /// Wants and capacities.
    pub mix: Mix,
    /// Bytes of programme in one packet of one stripe.
    pub packet_bytes: u32,
    /// How long a packet is worth sending.
    pub lifetime: Duration,
    /// Until when starting nodes are taken to be known to all.
    pub settled: Duration,
    /// Whether a broken connection counts as a death at once. Without, only silence and failed
    /// calls do, as in SOSP'03. FreePastry always listens to its transport.
    pub hears_transport: bool,
    /// Waits.
    pub timings: Timings,
}

/// How long things are waited for. [`Timings::of`] gives each kind's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// A JOIN's answer.
    pub join: Duration,
    /// FreePastry's subscription.
    pub subscribe: Duration,
    /// The end of an anycast.
    pub anycast: Duration,
    /// How long stripes lacked wait for others, to share an anycast.
    pub batch: Duration,
    /// The pause after all has failed; the paper's kind takes up to twice as long.
    pub retry: Duration,
    /// Between keep-alives; for FreePastry between upward subscriptions.
    pub beat: Duration,
    /// Silence after which a parent counts as dead.
    pub silence: Duration,
    /// Between exchanges of rows.
    pub exchange: Duration,
    /// How long a dead node's keys are nobody's, at least; at most twice as long.
    pub lease: Duration,
    /// Between the source's searches for roots it knows.
    pub relocate: Duration,
}

impl Timings {
    /// The waits of the paper's experiments, or of FreePastry's code, where they are given.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        let paper = Self {
            // A guess: a route of five hops and a connection for each.
            join: Duration::from_secs(5),
            // FreePastry 2.x, message time-out.
            subscribe: Duration::from_secs(15),
            // A guess: a hundred steps.
            anycast: Duration::from_secs(30),
            // A guess: most JOINs are answered by then.
            batch: Duration::from_millis(500),
            // rice.splitstream, 2003: retry timer after a drop.
            retry: Duration::from_secs(5),
            // Half of `silence`.
            beat: Duration::from_secs(15),
            // SOSP'03.
            silence: Duration::from_secs(30),
            // SOSP'03: leaf-set probes.
            exchange: Duration::from_secs(30),
            // The paper knows no lease.
            lease: Duration::ZERO,
            // A guess.
            relocate: Duration::from_secs(30),
        };
        match kind {
            Kind::Paper => paper,
            Kind::Freepastry => Self {
                // A fixed second after five failed tries.
                retry: Duration::from_secs(1),
                // Scribe's maintenance.
                beat: Duration::from_secs(180),
                // A silent parent is Pastry's affair.
                silence: Duration::from_secs(1_000_000),
                // Pastry's lease of 30 s, half of which may be over.
                lease: Duration::from_secs(15),
                ..paper
            },
        }
    }
}

impl Default for Config {
    /// 16x16 on Pastry as in SOSP'03, one packet of a 320 kbit/s programme per second and stripe.
    fn default() -> Self {
        Self {
            kind: Kind::Paper,
            stripes: 16,
            shape: Shape::Pastry,
            // PNS(16), Gummadi 2003.
            sample: 16,
            mix: Mix::Uniform { wants: 16, capacity: 16 },
            packet_bytes: 2_500,
            lifetime: Duration::from_secs(30),
            settled: Duration::ZERO,
            hears_transport: true,
            timings: Timings::of(Kind::Paper),
        }
    }
}

impl Config {
    /// FreePastry's defaults: its waits, and 24 children at most.
    #[must_use]
    pub fn freepastry() -> Self {
        Self {
            kind: Kind::Freepastry,
            mix: Mix::Uniform { wants: 16, capacity: 24 },
            timings: Timings::of(Kind::Freepastry),
            ..Self::default()
        }
    }
}

/// Why a configuration cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// `stripes` is no power of two from 2 to 64.
    Stripes,
    /// `mix` has no stripes wanted, or more than there are.
    Wants,
    /// A bucket holds nobody.
    BucketSize,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stripes => "`stripes` must be a power of two from 2 to 64",
            Self::Wants => "`mix` must want between 1 and `stripes` stripes",
            Self::BucketSize => "`shape` must have a bucket `size` above 0",
        })
    }
}

impl std::error::Error for ConfigError {}
