//! A broadcast to 32 viewers over QUIC: everybody gets everything, and the source sends it twice.

use anyhow::Result;
use banyan_core::Config;
use banyan_integration_tests::{
    Entry, QUIC, Swarm, SwarmConfig, alone, is_complete, is_disjoint, is_settled,
};

/// Eight seconds.
const GENERATIONS: u32 = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_viewers_that_start_from_the_source_play_everything_over_quic() -> Result<()> {
    everybody_plays_everything(Entry::Source, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_viewers_find_the_broadcast_in_the_directory_over_quic() -> Result<()> {
    everybody_plays_everything(Entry::Relay, 2).await
}

async fn everybody_plays_everything(entry: Entry, seed: u8) -> Result<()> {
    let _alone = alone().await;
    let config = Config::default();
    let options = SwarmConfig { viewers: 32, listen: QUIC, entry, config, seed };
    let mut swarm = Swarm::start(options).await?;
    let forest = swarm.until("16 stripes everywhere, one interior role each", is_settled).await;
    assert!(forest.iter().all(|snapshot| snapshot.rooted_stripes() == 16));

    swarm.publish(GENERATIONS).await?;
    let forest = swarm.snapshots().await?;
    assert!(is_complete(&forest) && is_disjoint(&forest), "{}", swarm.describe().await);
    swarm.end().await?;
    swarm.assert_played_in_full();
    swarm.assert_only_blamed(&[]);
    swarm.assert_source_sent_at_most_twice().await
}
