//! Many peers in one deterministic world: the promises of the overlays.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod world;

use std::time::Duration;

use banyan_core::{Event, Input, Playout, Violation};
use banyan_wire::{BroadcastId, Message, Overlay, PeerId, StripeId};

use world::{World, peer_id};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn swarm(overlay: Overlay, stripes: u32, viewers: u32, capacity: u32) -> World {
    let mut world = World::new(overlay, stripes, 2 * stripes);
    let source = world.source;
    for n in 1..=viewers {
        world.join(n, capacity, source);
        world.run(Duration::from_millis(20));
    }
    world.run_until(seconds(30), "a complete forest", World::is_complete);
    world
}

fn assert_disjoint(world: &World) {
    for (id, snapshot) in world.viewers() {
        let interior = snapshot.interior_stripes();
        assert!(interior.len() <= 1, "{id:.8} is interior in {interior:?}\n{}", world.describe());
    }
}

fn full(played: &[Playout]) -> usize {
    played.iter().filter(|playout| playout.is_full()).count()
}

#[test]
fn splitstream_gives_every_viewer_every_stripe_and_one_interior_role() {
    for viewers in [16, 24, 40, 100] {
        let mut world = swarm(Overlay::SplitStream, 16, viewers, 32);
        world.run(seconds(8));
        assert!(world.is_complete(), "{}", world.describe());
        assert_disjoint(&world);
    }
}

#[test]
fn fewer_viewers_than_stripes_share_the_roles_out() {
    for viewers in 1..16 {
        let mut world = swarm(Overlay::SplitStream, 16, viewers, 48);
        world.run(seconds(10));
        assert!(world.is_complete(), "{}", world.describe());
        let bound = 16_u32.div_ceil(viewers);
        for (_, snapshot) in world.viewers() {
            assert!(snapshot.interior_stripes().len() <= bound as usize, "{}", world.describe());
        }
    }
}

#[test]
fn viewers_of_a_complete_forest_play_every_generation_in_full_with_all_stripes() {
    let mut world = swarm(Overlay::SplitStream, 16, 24, 32);
    world.run(seconds(8));
    world.publish_for(seconds(10));
    world.run(seconds(14));
    world.end();
    world.run(seconds(5));
    for (id, node) in &world.nodes {
        if *id == world.source {
            continue;
        }
        assert_eq!(node.played.len() as u64, world.published, "{id:.8}");
        for playout in &node.played {
            assert_eq!((playout.received, playout.is_full()), (16, true), "{id:.8} {playout:?}");
        }
        assert!(node.events.iter().any(|(_, event)| *event == Event::Ended));
        let stats = node.peer.snapshot().stats;
        assert_eq!(stats.headless_chunks + stats.stale_messages, 0);
    }
}

#[test]
fn the_source_sends_at_most_a_tenth_more_than_twice_the_coded_stream() {
    let mut world = swarm(Overlay::SplitStream, 16, 24, 32);
    world.run(seconds(8));
    world.publish_for(seconds(10));
    world.run(seconds(12));
    let source = world.snapshot(world.source).stats;
    let viewer = world.snapshot(peer_id(1)).stats;
    // The tenth is for children that come, and are served beside those whose place they take.
    assert!(10 * source.chunk_bytes_sent <= 21 * viewer.chunk_bytes_received);
}

#[test]
fn a_viewer_that_joins_mid_stream_plays_within_a_second() {
    let mut world = swarm(Overlay::SplitStream, 16, 30, 32);
    world.publish_for(seconds(20));
    world.run(seconds(6));
    let joined_at = world.now;
    let late = world.join(1000, 32, peer_id(3));
    world.run_until(seconds(5), "the first picture", |world| !world.nodes[&late].played.is_empty());
    let startup = world.now.since(joined_at);
    assert!(startup <= Duration::from_millis(1500), "took {startup:?}");
    world.run(seconds(10));
    let played = &world.nodes[&late].played;
    assert!(played.iter().all(Playout::is_playable), "{played:?}");
    assert!(played[0].is_random_access);
}

#[test]
fn the_silent_death_of_an_interior_peer_costs_no_viewer_a_generation() {
    for victim in 1..=8 {
        let mut world = swarm(Overlay::SplitStream, 16, 32, 32);
        world.run(seconds(6));
        world.publish_for(seconds(20));
        world.run(seconds(4));
        let victims = world.viewers().filter(|(_, s)| !s.interior_stripes().is_empty());
        let victim = victims.map(|(id, _)| id).nth(victim).unwrap();
        world.kill(victim);
        world.run(seconds(12));
        // Twenty generations of half a second follow a death; four of them are 2 s.
        let short = |node: &world::Node| node.played.iter().filter(|p| p.received < 16).count();
        let worst = world.nodes.values().map(short).max().unwrap();
        eprintln!("victim {victim:.8}: worst viewer lacked a stripe for {worst} generations");
        assert!(worst <= 4, "a stripe was away for {worst} generations");
        for (id, node) in &world.nodes {
            let missed: Vec<_> = node.played.iter().filter(|p| !p.is_playable()).collect();
            assert!(missed.is_empty(), "{id:.8} missed {missed:?}");
            assert!(*id == world.source || node.played.len() > 20);
        }
        assert_disjoint(&world);
    }
}

#[test]
fn a_goodbye_costs_nobody_a_full_generation() {
    let mut world = swarm(Overlay::SplitStream, 16, 32, 32);
    world.run(seconds(6));
    world.publish_for(seconds(16));
    world.run(seconds(4));
    let leaver = world.viewers().find(|(_, s)| !s.interior_stripes().is_empty()).unwrap().0;
    world.leave(leaver);
    world.run(seconds(10));
    for (id, node) in &world.nodes {
        assert_eq!(full(&node.played), node.played.len(), "{id:.8}");
    }
    assert!(world.is_complete());
}

#[test]
fn a_quarter_dying_at_once_is_repaired() {
    let mut world = swarm(Overlay::SplitStream, 16, 80, 32);
    world.run(seconds(6));
    world.publish_for(seconds(30));
    world.run(seconds(4));
    for n in 1..=20 {
        world.kill(peer_id(n * 4));
    }
    world.run_until(seconds(12), "all stripes back", World::is_complete);
    world.run(seconds(6));
    assert_disjoint(&world);
}

#[test]
fn viewers_without_upload_are_leaves_everywhere() {
    let mut world = swarm(Overlay::SplitStream, 16, 24, 40);
    let source = world.source;
    let poor = world.join(500, 0, source);
    world.run_until(seconds(10), "a complete forest", World::is_complete);
    let snapshot = world.snapshot(poor);
    assert!(snapshot.roles.is_empty() && snapshot.interior_stripes().is_empty());
}

#[test]
fn peercast_builds_one_tree_within_capacity_and_heals_it() {
    let mut world = swarm(Overlay::PeerCast, 1, 40, 3);
    world.publish_for(seconds(40));
    world.run(seconds(5));
    let interior = world.viewers().filter(|(_, s)| !s.interior_stripes().is_empty());
    let victims: Vec<PeerId> = interior.map(|(id, _)| id).take(2).collect();
    world.kill(victims[0]);
    world.leave(victims[1]);
    world.run_until(seconds(15), "one tree again", World::is_complete);
    world.run(seconds(6));
    for (id, node) in world.nodes.iter().filter(|(id, _)| **id != world.source) {
        let last = node.played.last().unwrap();
        assert!(last.is_full(), "{id:.8} plays again: {last:?}");
    }
}

#[test]
fn peercast_and_splitstream_really_differ() {
    let single = swarm(Overlay::PeerCast, 1, 30, 3);
    let depth = |world: &World| {
        world.viewers().flat_map(|(_, s)| s.stripes).map(|tree| tree.depth).max().unwrap()
    };
    let forest = swarm(Overlay::SplitStream, 16, 30, 48);
    assert!(
        depth(&single) > depth(&forest),
        "{} {}\n{}",
        depth(&single),
        depth(&forest),
        forest.describe()
    );
    let interior =
        |world: &World| world.viewers().filter(|(_, s)| !s.interior_stripes().is_empty()).count();
    assert!(interior(&forest) > interior(&single), "a forest makes use of everybody's upload");
}

#[test]
fn forged_chunks_are_refused_counted_and_never_forwarded() {
    const LIAR: u32 = 10;
    fn forge(from: PeerId, message: &mut Message) {
        if from == peer_id(LIAR)
            && let Message::Chunk { payload, .. } = message
        {
            let mut bytes = payload.to_vec();
            bytes[0] ^= 1;
            *payload = bytes.into();
        }
    }
    let mut world = swarm(Overlay::SplitStream, 16, 32, 32);
    world.run(seconds(6));
    assert!(!world.snapshot(peer_id(LIAR)).interior_stripes().is_empty(), "{}", world.describe());
    world.tamper = Some(forge);
    world.publish_for(seconds(12));
    world.run(seconds(16));
    let mut refused = 0;
    for (id, node) in world.nodes.iter().filter(|(id, _)| **id != peer_id(LIAR)) {
        let stats = node.peer.snapshot().stats;
        refused += stats.forged_chunks;
        for (_, event) in &node.events {
            if let Event::Violation { peer, violation } = event {
                assert_eq!(*peer, peer_id(LIAR), "nobody honest is blamed");
                assert_eq!(*violation, Violation::ForgedChunk);
            }
        }
        assert!(node.played.iter().all(Playout::is_playable), "{id:.8}");
    }
    assert!(refused > 0);
}

#[test]
fn a_breach_of_the_protocol_costs_its_sender_the_connection_and_nobody_else_anything() {
    let mut world = swarm(Overlay::SplitStream, 16, 20, 32);
    world.run(seconds(6));
    world.publish_for(seconds(8));
    let victim = peer_id(3);
    let neighbours = |world: &World| -> Vec<PeerId> {
        world.snapshot(victim).stripes.iter().flat_map(|tree| tree.children.clone()).collect()
    };
    let liar = neighbours(&world)[0];
    let other_broadcast = Message::Hello {
        broadcast: BroadcastId([9; 32]),
        contact: world::contact(liar),
        manifest_sequence: 0,
        is_reply: true,
    };
    let breaches = [
        (Input::Undecodable { peer: liar }, Violation::Undecodable),
        (Input::Received { peer: liar, message: other_broadcast }, Violation::Mismatch),
        (
            Input::Received { peer: liar, message: Message::Probe { stripe: StripeId(63) } },
            Violation::Mismatch,
        ),
    ];
    for (breach, expected) in breaches {
        world.run(seconds(1));
        if !neighbours(&world).contains(&liar) {
            world.inject(victim, Input::Connected { peer: liar });
        }
        world.inject(victim, breach);
        world.run(Duration::from_millis(1));
        let told = &world.nodes[&victim].events;
        let last = told.iter().rev().find_map(|(_, event)| match event {
            Event::Violation { peer, violation } => Some((*peer, *violation)),
            _ => None,
        });
        assert_eq!(last, Some((liar, expected)));
        assert!(!neighbours(&world).contains(&liar));
    }
    world.run(seconds(8));
    for (id, node) in world.nodes.iter().filter(|(id, _)| **id != world.source) {
        assert!(node.played.iter().all(Playout::is_playable), "{id:.8}");
    }
    assert!(world.is_complete(), "{}", world.describe());
}

#[test]
fn the_same_world_gives_the_same_trace() {
    let run = || {
        let mut world = swarm(Overlay::SplitStream, 16, 30, 32);
        world.publish_for(seconds(3));
        world.run(seconds(5));
        let traces = world.nodes.values().map(|node| format!("{:?}", node.events));
        (world.describe(), traces.collect::<Vec<_>>())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_joiner_opens_few_connections() {
    let mut world = swarm(Overlay::SplitStream, 16, 64, 32);
    world.run(seconds(5));
    let source = world.source;
    let before: usize = world.nodes.values().map(|node| node.links_opened).sum();
    let joiner = world.join(2000, 32, source);
    world.run_until(seconds(10), "a complete forest", World::is_complete);
    let opened = world.nodes[&joiner].links_opened;
    assert!(opened <= 40, "the joiner opened {opened}");
    let after: usize = world.nodes.values().map(|node| node.links_opened).sum();
    assert!(after - before < 80, "everybody together opened {}", after - before);
}

#[test]
fn viewers_notice_that_the_source_is_gone() {
    let mut world = swarm(Overlay::SplitStream, 16, 20, 32);
    world.publish_for(seconds(3));
    world.run(seconds(5));
    let source = world.source;
    world.kill(source);
    world.run(seconds(40));
    for (id, node) in &world.nodes {
        let noticed = node.events.iter().any(|(_, event)| *event == Event::SourceLost);
        assert!(noticed, "{id:.8}\n{}", world.describe());
    }
}

#[test]
fn a_stall_of_the_input_is_survived() {
    let mut world = swarm(Overlay::SplitStream, 16, 20, 32);
    world.publish_for(seconds(4));
    world.run(seconds(30));
    assert!(world.is_complete(), "silence of the input is no failure\n{}", world.describe());
    let viewer = peer_id(7);
    let before = world.nodes[&viewer].played.len();
    world.publish_for(seconds(4));
    world.run(seconds(7));
    let after = &world.nodes[&viewer].played[before..];
    assert_eq!(after.len(), 8);
    assert!(after.iter().all(Playout::is_full));
}
