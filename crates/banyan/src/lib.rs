//! Banyan for people and for embedders: the commands behind the `banyan` binary, as functions.
//!
//! Decides what a command line means, what is printed where, and when a command has failed. How a
//! broadcast works is left to the crates below: `banyan-media` reads and writes containers,
//! `banyan-net` runs the peers, `banyan-gateway` shows them.

pub mod cli;
pub mod commands;
mod error;
mod eventlog;
mod face;
pub mod input;
mod ladder;
mod output;
mod player;
mod rate;
mod signals;

pub use error::{Failure, Outcome};
