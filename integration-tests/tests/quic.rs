//! A broadcast to 32 viewers over QUIC: everybody gets everything, and the source sends it twice.

use anyhow::Result;
use banyan_integration_tests::{Entry, QUIC, everybody_plays_everything};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_viewers_that_start_from_the_source_play_everything_over_quic() -> Result<()> {
    everybody_plays_everything(32, QUIC, Entry::Source, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_viewers_find_the_broadcast_in_the_directory_over_quic() -> Result<()> {
    everybody_plays_everything(32, QUIC, Entry::Relay, 2).await
}
