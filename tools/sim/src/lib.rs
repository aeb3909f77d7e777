//! A deterministic discrete-event world in which overlays are built, broken and measured.
//!
//! ```text
//!   scenario ──▶ run ──▶ world of nodes ──▶ measure, check ──▶ result ──▶ table, report
//! ```
//!
//! The nodes are Banyan's own peers ([`banyan`]), the machines the network runs, or baselines. The
//! world gives them virtual time, distances, access links, losses and deaths, and measures all of
//! them alike by the edges they tell of. The same scenario and seed give the same run, step by step.

pub mod banyan;
pub mod baseline;
pub mod check;
pub mod dice;
pub mod forest;
pub mod measure;
pub mod node;
pub mod population;
pub mod progress;
pub mod report;
pub mod result;
pub mod run;
pub mod scenario;
pub mod world;
