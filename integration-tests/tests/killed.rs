//! An interior viewer is killed while it streams: nobody misses a generation.
//!
//! The victim is a process of its own (this test binary again, told by its environment to watch)
//! and dies by SIGKILL: the kernel takes its sockets, so no close frame, no goodbye and no FIN of
//! ours leaves it. Its neighbours have only its silence to go by, as after a power cut.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use banyan_core::{Config, Snapshot};
use banyan_integration_tests::{
    Entry, QUIC, Swarm, SwarmConfig, alone, is_complete, is_disjoint, is_settled, join_request,
};
use banyan_net::{Identity, Multiaddr, Node, NodeConfig};
use banyan_wire::{BroadcastId, PeerId, StripeId};

const BROADCAST: &str = "BANYAN_TEST_VICTIM_BROADCAST";
const VIA: &str = "BANYAN_TEST_VICTIM_VIA";
const VICTIM_SEED: [u8; 32] = [0xdd; 32];
/// Published before the death: four seconds.
const BEFORE: u32 = 8;
/// Published after it: eight seconds.
const AFTER: u32 = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_silent_death_of_an_interior_viewer_costs_nobody_a_generation() -> Result<()> {
    let _alone = alone().await;
    let config = Config::default();
    let options = SwarmConfig { viewers: 24, listen: QUIC, entry: Entry::Source, config, seed: 5 };
    let mut swarm = Swarm::source(options).await?;
    let victim = Identity::from_seed(VICTIM_SEED).peer();
    // It comes first, so that it is given a tree to be interior in before anybody else is there.
    let mut process = Victim::start(&swarm)?;
    swarm.join().await?;
    let has_children = |forest: &[Snapshot]| !stripes_from(forest, &victim).is_empty();
    swarm.until("a forest with an interior victim", |f| is_settled(f) && has_children(f)).await;

    swarm.publish(BEFORE).await?;
    let forest = swarm.snapshots().await?;
    let orphaned = stripes_from(&forest, &victim);
    assert!(!orphaned.is_empty(), "the victim is no longer interior\n{}", swarm.describe().await);
    eprintln!("the victim is killed; it serves {} of {} viewers", orphaned.len(), forest.len());
    process.kill()?;

    swarm.publish(AFTER).await?;
    // The broadcast still runs: this is not the peace after its end.
    let healed = |forest: &[Snapshot]| {
        is_complete(forest) && is_disjoint(forest) && stripes_from(forest, &victim).is_empty()
    };
    swarm.until("all stripes back, none of them from the dead", healed).await;
    swarm.end().await?;

    let published = swarm.published.len();
    for (n, viewer) in swarm.viewers.iter().enumerate() {
        let log = viewer.log();
        assert_eq!(log.played.len(), published, "viewer {n}");
        let missed: Vec<_> = log.played.iter().filter(|p| !p.is_playable()).collect();
        assert!(missed.is_empty(), "viewer {n} missed {missed:?}");
        let full = log.played.iter().filter(|playout| playout.is_full()).count();
        let short = log.played.iter().filter(|playout| playout.received < 16).count();
        if short > 0 {
            eprintln!(
                "viewer {n} played {full} of {published} in full, {short} with fewer than 16"
            );
        }
    }
    swarm.assert_only_blamed(&[]);
    let forest = swarm.snapshots().await?;
    assert!(is_disjoint(&forest), "{}", swarm.describe().await);
    Ok(())
}

/// Whom `peer` serves, as its children see it: viewer and stripe.
fn stripes_from(forest: &[Snapshot], peer: &PeerId) -> Vec<(PeerId, StripeId)> {
    let trees = forest.iter().flat_map(|s| s.stripes.iter().map(|tree| (s.peer, tree)));
    trees.filter(|(_, tree)| tree.parent == Some(*peer)).map(|(p, t)| (p, t.stripe)).collect()
}

// ---- The victim -------------------------------------------------------------------------------

/// The process that is to be killed. Ends with the test, whatever happens.
struct Victim(Child);

impl Victim {
    fn start(swarm: &Swarm) -> Result<Self> {
        let via: Vec<String> = swarm.via.iter().map(ToString::to_string).collect();
        let child = Command::new(std::env::current_exe()?)
            .args(["--ignored", "--exact", "the_victim_watches_until_it_is_killed"])
            .env(BROADCAST, swarm.broadcast().to_string())
            .env(VIA, via.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    /// SIGKILL on Unix; what comes closest elsewhere.
    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        let status = self.0.wait()?;
        assert!(!status.success(), "it was to be killed, and ended by itself");
        Ok(())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may be dead already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "the other test runs it, in a process of its own"]
async fn the_victim_watches_until_it_is_killed() -> Result<()> {
    let (Ok(broadcast), Ok(via)) = (std::env::var(BROADCAST), std::env::var(VIA)) else {
        return Ok(());
    };
    let broadcast: BroadcastId = broadcast.parse().ok().context("a broadcast")?;
    let via: Vec<Multiaddr> = via.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let mut config = NodeConfig::new(Identity::from_seed(VICTIM_SEED));
    config.listen = vec![QUIC.parse()?];
    let node = Node::start(config).await?;
    let request = join_request(broadcast, &Config::default(), via, 0xdd);
    let mut membership = node.join(request).await?;
    let parent_is_gone = tokio::task::spawn_blocking(|| {
        // The test holds the other end, and sends nothing.
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
    });
    tokio::select! {
        () = async { while membership.next_event().await.is_some() {} } => Ok(()),
        _ = parent_is_gone => Ok(()),
    }
}
