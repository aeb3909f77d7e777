//! How the source learns what viewers have in time.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

use std::time::Duration;

use banyan_core::{Audience, Event, Input, Violation};
use banyan_wire::{Message, Overlay, PeerId, Reception, StripeId};

#[expect(dead_code, reason = "what only other tests of this world use")]
mod world;

use world::World;

const VIEWERS: u32 = 20;

/// A broadcast that has gone on for a while.
fn broadcast(overlay: Overlay, stripes: u32, capacity: u32) -> World {
    let mut world = World::new(overlay, stripes, 2 * stripes);
    for n in 1..=VIEWERS {
        let source = world.source;
        world.join(n, capacity, source);
        world.run(Duration::from_millis(50));
    }
    world.run_until(Duration::from_secs(60), "a complete forest", World::is_complete);
    world.publish_for(Duration::from_secs(120));
    world.run(Duration::from_secs(14));
    world
}

fn audiences(world: &World) -> Vec<Audience> {
    let events = world.nodes[&world.source].events.iter();
    let audience = events.filter_map(|(_, event)| match event {
        Event::Audience(audience) => Some(audience.clone()),
        _ => None,
    });
    audience.collect()
}

fn total<'a>(audiences: impl IntoIterator<Item = &'a Audience>) -> u64 {
    let counts = audiences.into_iter().flat_map(|audience| &audience.counts);
    counts.map(|count| u64::from(*count)).sum()
}

/// Generations of which one description was there.
fn ones(audience: &Audience) -> u32 {
    audience.counts.get(1).copied().unwrap_or(0)
}

/// Generations at their deadlines, over all viewers.
fn played(world: &World) -> u64 {
    world.nodes.values().map(|node| node.played.len() as u64).sum()
}

/// A child of the source's, the tree it is one in, and the source.
fn child_of_source(world: &World) -> (PeerId, StripeId) {
    let stripes = world.snapshot(world.source).stripes;
    let served = stripes.iter().find(|stripe| !stripe.children.is_empty());
    let stripe = served.expect("the source serves somebody");
    (stripe.children[0], stripe.stripe)
}

fn say(world: &mut World, from: PeerId, reception: Reception) {
    let message = Message::Reception(reception);
    let source = world.source;
    world.inject(source, Input::Received { peer: from, message });
}

#[test]
fn every_generation_of_every_viewer_reaches_the_source_once() {
    for (overlay, stripes, capacity) in
        [(Overlay::SplitStream, 16, 32), (Overlay::SplitStream, 4, 8), (Overlay::PeerCast, 1, 2)]
    {
        let world = broadcast(overlay, stripes, capacity);
        let audiences = audiences(&world);
        let (heard, played) = (total(&audiences), played(&world));
        assert!(heard <= played, "{overlay:?}: {heard} of {played}");
        // What is still on its way: some periods of 2 s and hops of them, of 14 s.
        assert!(heard * 10 >= played * 5, "{overlay:?}: {heard} of {played}");
        let last = audiences.last().expect("the source has heard");
        // Who moved, or spoke twice within somebody's period, may be in it twice.
        assert!((VIEWERS / 2..VIEWERS * 3 / 2).contains(&last.viewers), "{last:?}");
        let whole = last.counts.get(stripes as usize).copied().unwrap_or(0);
        assert!(u64::from(whole) * 10 >= total([last]) * 9, "nothing is lost here: {last:?}");
        assert_eq!(world.snapshot(world.source).audience, *last);
    }
}

#[test]
fn what_a_child_claims_has_bounded_weight() {
    let mut world = broadcast(Overlay::SplitStream, 16, 32);
    let honest = audiences(&world).last().map_or(0, |last| total([last]));
    let (child, stripe) = child_of_source(&world);
    let before = audiences(&world).len();
    let lie = Reception { stripe, viewers: u32::MAX, counts: vec![0, u32::MAX] };
    for _ in 0..50 {
        say(&mut world, child, lie.clone());
    }
    world.run(Duration::from_secs(5));
    let after = audiences(&world);
    let lied: u64 = after[before..].iter().map(|of| u64::from(ones(of))).sum();
    assert!(lied > 0, "it is a child and is heard");
    assert!(lied * 5 <= honest, "{lied} against {honest}");
}

#[test]
fn who_is_no_child_is_not_heard_and_too_many_counts_are_a_breach() {
    let mut world = broadcast(Overlay::SplitStream, 16, 32);
    let (child, stripe) = child_of_source(&world);
    let children = world.snapshot(world.source).stripes[stripe.index()].children.clone();
    let stranger = world.viewers().map(|(id, _)| id).find(|id| !children.contains(id));
    let stranger = stranger.expect("not everybody is a child of the source");
    let source = world.source;
    world.inject(source, Input::Connected { peer: stranger });
    let before = audiences(&world).len();
    say(&mut world, stranger, Reception { stripe, viewers: 1, counts: vec![0, 7] });
    world.run(Duration::from_secs(5));
    assert!(audiences(&world)[before..].iter().all(|of| ones(of) == 0));
    say(&mut world, child, Reception { stripe, viewers: 1, counts: vec![1; 18] });
    world.run(Duration::from_millis(10));
    let violations = world.snapshot(source).stats.violations;
    assert_eq!(violations.get(&Violation::Mismatch), Some(&1));
}

#[test]
fn what_a_lost_child_said_is_counted_once_and_no_more() {
    let mut world = broadcast(Overlay::SplitStream, 16, 32);
    let (child, stripe) = child_of_source(&world);
    let before = audiences(&world).len();
    say(&mut world, child, Reception { stripe, viewers: 1, counts: vec![0, 3] });
    world.run(Duration::from_millis(10));
    world.kill(child);
    world.run(Duration::from_secs(10));
    let counted: u32 = audiences(&world)[before..].iter().map(ones).sum();
    assert!((1..=3).contains(&counted), "{counted}");
}
