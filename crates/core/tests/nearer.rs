//! A peer at rest and those that are nearer to it than its parents: whom it asks for a shorter way,
//! what it does when the answer is no, and whom it takes itself.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod alone;

use std::time::Duration;

use banyan_core::{Config, Input, Instant, Output, Peer};
use banyan_wire::{
    BroadcastId, Contact, Coordinate, Message, PeerId, Reason, Roles, Standing, Start, StripeCount,
    StripeId,
};
use bytes::Bytes;

use alone::{Alone, ME};

const SOURCE: PeerId = PeerId([1; 32]);
const FAR: PeerId = PeerId([2; 32]);
const NEAR: PeerId = PeerId([3; 32]);

fn stripes() -> StripeCount {
    StripeCount::new(4).unwrap()
}

fn contact(peer: PeerId) -> Contact {
    Contact {
        peer,
        roles: if peer == SOURCE { Roles::NONE } else { Roles(0b1111) },
        capacity: 64,
        addresses: vec![Bytes::from_static(b"somewhere")],
        is_source: peer == SOURCE,
        class: 7,
        coordinate: None,
    }
}

/// A viewer whose every plain request is granted by whoever it asks, 100 ms behind the source or, by
/// the source, at once.
struct Viewer {
    peer: Peer,
    broadcast: BroadcastId,
    now: Instant,
    sent: Vec<(PeerId, Message)>,
    /// Free slots of each tree, as its parents say.
    spare: u32,
}

impl Viewer {
    fn new(upload: u64, proximity: bool, known: &[PeerId]) -> Self {
        let mut config = Config { upload, ..Config::default() };
        config.forest.proximity = proximity;
        let addresses = vec![Bytes::from_static(b"here")];
        let (peer, broadcast) = alone::viewer(config, addresses, stripes(), contact(SOURCE));
        let mut viewer = Self { peer, broadcast, now: Instant::ZERO, sent: Vec::new(), spare: 100 };
        let contacts = known.iter().map(|peer| contact(*peer)).collect();
        viewer.tell(Input::Contacts { contacts });
        viewer.wait(Duration::from_secs(2));
        viewer
    }

    fn hear(&mut self, peer: PeerId, message: Message) {
        self.tell(Input::Received { peer, message });
    }

    /// A connection comes up, on which round trips take so long.
    fn meet(&mut self, peer: PeerId, millis: u64) {
        self.tell(Input::Connected { peer });
        let (contact, broadcast) = (contact(peer), self.broadcast);
        self.hear(
            peer,
            Message::Hello { broadcast, contact, manifest_sequence: 1, is_reply: true },
        );
        self.tell(Input::RoundTrip { peer, rtt: Duration::from_millis(millis) });
    }

    fn accept(&mut self, from: PeerId, stripe: StripeId) {
        let standing = self.standing(from);
        self.hear(from, Message::Accept { stripe, standing });
    }

    /// Of a hundred peers; a tree has `self.spare` slots free.
    fn standing(&self, from: PeerId) -> Standing {
        let is_source = from == SOURCE;
        Standing {
            depth: u32::from(!is_source),
            grandparent: (!is_source).then(|| contact(SOURCE)),
            population: 100,
            ancestors: Vec::new(),
            is_orphan: false,
            spare: self.spare,
            class: 7,
            is_open: false,
            is_grandparent_open: false,
            delay: if is_source { 0 } else { 100 },
        }
    }

    /// Waits until it asks for a shorter way.
    fn wait_until_asked(&mut self) -> (PeerId, StripeId, u32) {
        for _ in 0..60 {
            self.wait(Duration::from_millis(100));
            let asked = self.asked();
            assert!(asked.len() < 2, "one at a time: {asked:?}");
            if let Some(asked) = asked.first() {
                return *asked;
            }
        }
        panic!("nobody was asked in six seconds");
    }

    /// Whom it has asked for shorter ways since this was asked last: stripe and longest delay.
    fn asked(&mut self) -> Vec<(PeerId, StripeId, u32)> {
        let asked =
            std::mem::take(&mut self.sent).into_iter().filter_map(|(to, message)| match message {
                Message::Attach { stripe, within, .. } => Some((to, stripe, within?)),
                _ => None,
            });
        asked.collect()
    }

    fn parents(&self) -> Vec<Option<PeerId>> {
        self.peer.snapshot().stripes.iter().map(|stripe| stripe.parent).collect()
    }
}

impl Alone for Viewer {
    fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    fn now(&mut self) -> &mut Instant {
        &mut self.now
    }

    fn drain(&mut self) {
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Connect { contact } if contact.peer == NEAR => self.meet(NEAR, 10),
                Output::Connect { contact } => self.meet(contact.peer, 200),
                Output::Send { to, message, .. } => {
                    let asks_for = match &message {
                        Message::Join(join) => join.stripes,
                        Message::Attach { stripe, within: None, .. } => Roles::one(*stripe),
                        _ => Roles::NONE,
                    };
                    self.sent.push((to, message));
                    for stripe in asks_for.iter() {
                        self.accept(to, stripe);
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn a_leaf_at_rest_moves_to_a_native_that_is_clearly_nearer() {
    let mut leaf = Viewer::new(0, true, &[FAR]);
    assert_eq!(leaf.parents(), [Some(FAR); 4]);
    leaf.meet(NEAR, 10);
    leaf.asked();
    let (to, stripe, within) = leaf.wait_until_asked();
    // 100 ms to the far parent and 100 ms from there; 5 ms from the near one, and 10 ms to be worth it.
    assert_eq!((to, within), (NEAR, 185));
    leaf.accept(NEAR, stripe);
    assert_eq!(leaf.parents().iter().filter(|parent| **parent == Some(NEAR)).count(), 1);
    assert!(leaf.sent.contains(&(FAR, Message::Detach { stripe })), "the old parent is told");
}

#[test]
fn who_is_refused_a_shorter_way_stays_where_it_is_and_does_not_ask_the_same_again() {
    let mut leaf = Viewer::new(0, true, &[FAR]);
    leaf.meet(NEAR, 10);
    leaf.asked();
    let (near, stripe, _) = leaf.wait_until_asked();
    let (reason, candidates) = (Reason::Full, Vec::new());
    leaf.hear(near, Message::Redirect { stripe, reason, candidates });
    leaf.wait(Duration::from_secs(50));
    let searches = |message: &Message| matches!(message, Message::Join(_) | Message::Attach { .. });
    assert!(!leaf.sent.iter().any(|(_, message)| searches(message)), "{:?}", leaf.sent);
    assert_eq!(leaf.parents(), [Some(FAR); 4]);
    leaf.wait(Duration::from_secs(40));
    assert_eq!(leaf.asked().len(), 1, "in a minute there may be room");
}

#[test]
fn where_slots_are_few_they_are_left_to_those_who_have_no_parent() {
    let mut leaf = Viewer::new(0, true, &[FAR]);
    leaf.meet(NEAR, 10);
    for (spare, moves) in [(6, false), (7, true)] {
        leaf.spare = spare;
        for stripe in stripes().iter() {
            let standing = leaf.standing(FAR);
            leaf.hear(FAR, Message::Status { stripe, standing });
        }
        leaf.asked();
        leaf.wait(Duration::from_secs(30));
        assert_eq!(!leaf.asked().is_empty(), moves, "{spare} slots for a hundred peers");
    }
}

#[test]
fn who_does_not_answer_costs_a_leaf_nothing() {
    let mut leaf = Viewer::new(0, true, &[FAR]);
    leaf.meet(NEAR, 10);
    leaf.asked();
    leaf.wait(Duration::from_secs(30));
    assert_eq!(leaf.asked().len(), 1);
    assert_eq!(leaf.parents(), [Some(FAR); 4]);
}

#[test]
fn where_nearness_is_not_cared_for_nobody_moves_for_it() {
    let mut leaf = Viewer::new(0, false, &[FAR]);
    leaf.meet(NEAR, 10);
    leaf.asked();
    leaf.wait(Duration::from_secs(60));
    assert_eq!(leaf.asked(), []);
    assert_eq!(leaf.peer.snapshot().coordinate, None);
}

#[test]
fn a_native_takes_those_for_whom_it_is_a_shorter_way_and_looks_for_no_room_for_others() {
    let mut native = Viewer::new(5_000_000, true, &[]);
    let stripe = ME.kademlia_key().digit(stripes());
    assert_eq!(native.parents(), [Some(SOURCE); 4]);
    let child = PeerId([8; 32]);
    native.meet(child, 30);
    let leaf = Contact { roles: Roles::NONE, ..contact(child) };
    let attach = |within| Message::Attach {
        stripe,
        child: leaf.clone(),
        idle: None,
        start: Start::Live,
        lost: None,
        is_entitled: false,
        within: Some(within),
    };
    // The source is 200 ms of round trip away.
    native.hear(child, attach(99));
    let (reason, candidates) = (Reason::Full, Vec::new());
    let refusal = (child, Message::Redirect { stripe, reason, candidates });
    assert!(native.sent.contains(&refusal), "{:?}", native.sent);
    native.hear(child, attach(100));
    let accepted = native.sent.iter().find_map(|(to, message)| match message {
        Message::Accept { standing, .. } if *to == child => Some(standing.delay),
        _ => None,
    });
    assert_eq!(accepted, Some(100));
}

#[test]
fn neighbours_are_told_of_a_place_that_has_changed_and_contacts_carry_it() {
    let mut leaf = Viewer::new(0, true, &[FAR]);
    let there = Coordinate { x: 300, y: 400, height: 20, error: 60 };
    leaf.hear(FAR, Message::Moved { coordinate: there });
    leaf.wait(Duration::from_secs(20));
    let moved = leaf.sent.iter().filter(|(_, message)| matches!(message, Message::Moved { .. }));
    let moved = moved.count();
    assert!((1..12).contains(&moved), "{moved} messages to two neighbours in 20 s");
    let ours = leaf.peer.snapshot().coordinate.unwrap();
    leaf.sent.clear();
    leaf.hear(FAR, Message::FindContacts { digits: Roles(0b1111) });
    let told = leaf.sent.iter().find_map(|(_, message)| match message {
        Message::Contacts { contacts } => {
            contacts.iter().find(|contact| contact.peer == ME)?.coordinate
        }
        _ => None,
    });
    assert_eq!(told, Some(ours));
}
