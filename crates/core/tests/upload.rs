//! A source whose upload is estimated, and children whose queues say that it was guessed too high.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;

use banyan_coding::{Layer, thresholds::single};
use banyan_core::{Config, Event, Input, Instant, Output, Peer, Role, Setup};
use banyan_wire::{
    BroadcastKey, Contact, Manifest, Message, Overlay, PeerId, Roles, SignedManifest, Start,
    StripeCount, StripeId,
};

const STRIPE_RATE: u64 = 250_000;
const GUESS: u64 = 5_000_000;
const STEP: Duration = Duration::from_millis(500);

fn contact(peer: PeerId, is_source: bool) -> Contact {
    Contact {
        peer,
        roles: Roles::NONE,
        capacity: 0,
        addresses: Vec::new(),
        is_source,
        class: 0,
        coordinate: None,
    }
}

/// A source with two children in every stripe.
fn source(estimates_upload: bool) -> (Peer, [PeerId; 2]) {
    let (key, peer) = (BroadcastKey::from_seed(&[7; 32]), PeerId([1; 32]));
    let (broadcast, stripes) = (key.broadcast(), StripeCount::new(4).unwrap());
    let config = Config { upload: GUESS, estimates_upload, ..Config::default() };
    let role = Role::Source(key.clone());
    let setup = Setup { broadcast, peer, role, addresses: Vec::new(), config };
    let mut source = Peer::new(setup, Instant::ZERO, [0; 32]).unwrap();
    let manifest = Manifest {
        broadcast,
        sequence: 1,
        title: String::new(),
        stripes,
        overlay: Overlay::SplitStream,
        stripe_rate: STRIPE_RATE,
        generation_millis: 500,
        tracks: Vec::new(),
        source: contact(peer, true),
        created_at: 0,
        ended_at: None,
    };
    source.set_manifest(Instant::ZERO, SignedManifest::sign(manifest, &key).unwrap());
    let children = [PeerId([2; 32]), PeerId([3; 32])];
    for child in children {
        source.handle(Instant::ZERO, Input::Connected { peer: child });
        let mut tell = |message| {
            source.handle(Instant::ZERO, Input::Received { peer: child, message });
        };
        let contact = contact(child, false);
        tell(Message::Hello {
            broadcast,
            contact: contact.clone(),
            manifest_sequence: 1,
            is_reply: false,
        });
        for stripe in 0..4 {
            tell(Message::Attach {
                stripe: StripeId(stripe),
                child: contact.clone(),
                idle: None,
                start: Start::Live,
                lost: None,
                is_entitled: false,
                within: None,
            });
        }
    }
    (source, children)
}

/// Publishes for some seconds while the driver reports a queue towards each child. Returns what was
/// said about the upload, and the capacities that neighbours were told.
fn run(source: &mut Peer, children: &[PeerId], queued_bytes: usize) -> (Vec<(u64, u32)>, Vec<u32>) {
    let (mut uploads, mut told) = (Vec::new(), Vec::new());
    let mut now = Instant::ZERO;
    for _ in 0..16 {
        now = now + STEP;
        let layers = [Layer {
            threshold: single(StripeCount::new(4).unwrap()),
            data: Bytes::from(vec![1; 40_000]),
        }];
        source.publish(now, &layers, true).unwrap();
        for peer in children {
            let report = Input::SendQueue { peer: *peer, queued_bytes, expired_messages: 0 };
            source.handle(now, report);
        }
        source.handle_timeout(now);
        while let Some(output) = source.poll_output() {
            match output {
                Output::Event(Event::Upload { budget, capacity }) => {
                    uploads.push((budget, capacity));
                }
                Output::Send { message: Message::Hello { contact, .. }, .. } => {
                    told.push(contact.capacity);
                }
                Output::Send { .. }
                | Output::Connect { .. }
                | Output::Disconnect { .. }
                | Output::Keep { .. }
                | Output::Event(_) => {}
            }
        }
    }
    (uploads, told)
}

#[test]
fn an_estimate_that_falls_takes_the_capacity_along_and_neighbours_hear_of_it() {
    let (mut source, children) = source(true);
    assert_eq!((source.snapshot().upload, source.snapshot().capacity), (GUESS, 20));
    assert!(source.snapshot().is_upload_estimated);
    let (uploads, told) = run(&mut source, &children, 500_000);
    let snapshot = source.snapshot();
    assert!(snapshot.upload < GUESS, "{uploads:?}");
    assert_eq!(u64::from(snapshot.capacity), snapshot.upload / STRIPE_RATE);
    assert_eq!(uploads.last(), Some(&(snapshot.upload, snapshot.capacity)));
    assert_eq!(told.last(), Some(&snapshot.capacity));
    source.check_invariants().unwrap();
}

#[test]
fn queues_that_are_empty_leave_the_estimate_alone() {
    let (mut source, children) = source(true);
    let (uploads, _) = run(&mut source, &children, 0);
    assert_eq!(uploads, []);
    assert_eq!((source.snapshot().upload, source.snapshot().capacity), (GUESS, 20));
}

#[test]
fn an_upload_that_was_given_stays_whatever_the_queues_say() {
    let (mut source, children) = source(false);
    let (uploads, _) = run(&mut source, &children, 500_000);
    assert_eq!(uploads, []);
    assert_eq!((source.snapshot().upload, source.snapshot().capacity), (GUESS, 20));
    assert!(!source.snapshot().is_upload_estimated);
}
