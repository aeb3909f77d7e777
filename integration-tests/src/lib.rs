//! Whole broadcasts over real connections, in one process: the harness of `tests/`.
//!
//! ```text
//!   test ── publish, wait, assert ──▶ Swarm
//!                                      ├─ Member   the source: a node and a task that listens to it
//!                                      ├─ Member … the viewers
//!                                      └─ a relay, where a broadcast is found by the directory alone
//!   hostile test ──▶ Raw     substreams driven by hand: any bytes, to anybody
//! ```
//!
//! Waits are for states and events, bounded only so that a hang becomes a failure. The one clock
//! is the interval at which an input delivers its generations.

mod member;
mod raw;
mod swarm;

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use banyan_core::Config;
use tokio::sync::{Mutex, MutexGuard};

pub use member::{Log, Member};
pub use raw::{Heard, Lane, Raw};
pub use swarm::{Entry, Swarm, SwarmConfig, is_complete, is_disjoint, is_settled, join_request};

/// QUIC on this machine, at a port the system chooses.
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
/// TCP on this machine, at a port the system chooses.
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";

/// What the transports are tested with: eight seconds.
const GENERATIONS: u32 = 16;

/// How long a generation is waited for. What is promised here is that everything comes; how soon, on a
/// machine that has dozens of peers to run, is left to the benchmarks.
pub const PLAYOUT_DELAY: Duration = Duration::from_secs(4);

/// Between two looks at a state of which no event tells.
const LOOK: Duration = Duration::from_millis(50);

/// Awaits `future`; a minute means that it never comes.
///
/// # Panics
/// After the minute, with `what` was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(output) => output,
        Err(_) => panic!("waited a minute for {what}"),
    }
}

/// Keeps the swarms of one test binary from running at the same time: each wants all cores.
pub async fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    ONE_AT_A_TIME.lock().await
}

/// The promise of every transport: a forest of `viewers` becomes complete and disjoint, everybody
/// plays everything in full, nobody is blamed, and the source sends the stream at most twice.
///
/// # Errors
/// Where a node stopped or could not start.
///
/// # Panics
/// With the part of the promise that was not kept.
pub async fn everybody_plays_everything(
    viewers: u8,
    listen: &'static str,
    entry: Entry,
    seed: u8,
) -> Result<()> {
    let _alone = alone().await;
    let config = Config { playout_delay: PLAYOUT_DELAY, ..Config::default() };
    let options = SwarmConfig { viewers, listen, entry, config, seed };
    let mut swarm = Swarm::start(options).await?;
    let forest = swarm.until("16 stripes everywhere, one interior role each", is_settled).await;
    assert!(forest.iter().all(|snapshot| snapshot.rooted_stripes() == 16));

    swarm.publish(GENERATIONS).await?;
    let forest = swarm.snapshots().await?;
    assert!(is_complete(&forest) && is_disjoint(&forest), "{}", swarm.describe().await);
    swarm.end().await?;
    swarm.assert_played_in_full();
    swarm.assert_only_blamed(&[]);
    swarm.assert_source_sent_about_twice().await
}
