//! A broadcast to 16 viewers over TCP, Noise and Yamux: the same promises as over QUIC.

use anyhow::Result;
use banyan_integration_tests::{Entry, TCP, everybody_plays_everything};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_viewers_that_start_from_the_source_play_everything_over_tcp() -> Result<()> {
    everybody_plays_everything(16, TCP, Entry::Source, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_viewers_find_the_broadcast_in_the_directory_over_tcp() -> Result<()> {
    everybody_plays_everything(16, TCP, Entry::Relay, 4).await
}
