//! `banyan-bench`: what Banyan costs, beside what others cost, measured in one run.
//!
//! ```text
//!   relay    CPU of one relaying peer     against a bare libp2p QUIC stream
//!   swarm    CPU and bytes of 9 peers     against gossipsub
//!   memory   RSS of one viewer
//!   join     connections and time it takes to join 64 peers
//!   forest   the trees of 128 viewers     against those of the simulator
//!   coding   speed of the code            against the bare Reed–Solomon library
//!   quality  what viewers see             against striping and temporal polyphase
//! ```
//!
//! Decides the command line. A yardstick is a ratio of two things measured under the same load, so
//! it holds on any machine; figures of a busy machine are still to be taken with care, and every
//! bench says how busy it was.

mod broadcast;
mod coding;
mod forest;
mod join;
mod memory;
mod meter;
mod payload;
mod quality;
mod relay;
mod report;
mod roles;
mod swarm;
mod units;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Side-by-side yardsticks.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Also write what was found to this file: Markdown if it ends in .md, JSON if in .json, else the
    /// table. May be given more than once.
    #[arg(long, global = true, value_name = "FILE")]
    out: Vec<PathBuf>,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// CPU of one relaying peer against a bare libp2p QUIC stream.
    Relay(relay::Options),
    /// CPU and bytes of a whole swarm against gossipsub.
    Swarm(swarm::Options),
    /// Memory of one viewer.
    Memory(memory::Options),
    /// Connections and time it takes to join a swarm.
    Join(join::Options),
    /// The forest of a swarm against that of the simulator; fails where they differ.
    Forest(forest::Options),
    /// Speed of the code against the bare Reed–Solomon library.
    Coding(coding::Options),
    /// What viewers see of the descriptions that arrive, for several ways of making them.
    Quality(quality::Options),
    /// A process of another bench.
    #[command(hide = true)]
    Role {
        /// What it is, in JSON.
        role: String,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let is_strict = matches!(arguments.bench, Bench::Forest(_));
    let report = match arguments.bench {
        Bench::Relay(options) => relay::measure(options).await?,
        Bench::Swarm(options) => swarm::measure(options).await?,
        Bench::Memory(options) => memory::measure(options).await?,
        Bench::Join(options) => join::measure(options).await?,
        Bench::Forest(options) => forest::measure(options).await?,
        Bench::Coding(options) => coding::measure(&options)?,
        Bench::Quality(options) => quality::measure(&options)?,
        Bench::Role { role } => return roles::run(&role).await,
    };
    report.print(arguments.json);
    for path in &arguments.out {
        report.save(path)?;
    }
    ensure!(!is_strict || report.is_met(), "a goal was missed");
    Ok(())
}
