//! Whom a newcomer turns to first: the members it knows, then those that they know, and the source
//! last, which a crowd would drown.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod alone;

use std::time::Duration;

use banyan_core::{Config, Input, Instant, Output, Peer};
use banyan_wire::{Contact, Message, PeerId, Roles, Standing, StripeCount, StripeId};
use bytes::Bytes;

use alone::{Alone, ME};

const SOURCE: PeerId = PeerId([1; 32]);
const INTRODUCER: PeerId = PeerId([2; 32]);

fn contact(peer: PeerId, roles: Roles) -> Contact {
    let addresses = vec![Bytes::from_static(b"somewhere")];
    Contact {
        peer,
        roles,
        capacity: 32,
        addresses,
        is_source: peer == SOURCE,
        class: 6,
        coordinate: None,
    }
}

/// A viewer that was given the manifest and `known`, and says what it does.
struct Newcomer {
    peer: Peer,
    now: Instant,
    dialled: Vec<PeerId>,
    /// To whom JOINs were sent, and for which stripes.
    joins: Vec<(PeerId, Roles)>,
}

impl Newcomer {
    fn new(known: Vec<Contact>) -> Self {
        let source = contact(SOURCE, Roles::NONE);
        let (peer, _) = alone::viewer(Config::default(), Vec::new(), StripeCount::DEFAULT, source);
        let (dialled, joins) = (Vec::new(), Vec::new());
        let mut newcomer = Self { peer, now: Instant::ZERO, dialled, joins };
        newcomer.tell(Input::Contacts { contacts: known });
        newcomer
    }
}

impl Alone for Newcomer {
    fn peer(&mut self) -> &mut Peer {
        &mut self.peer
    }

    fn now(&mut self) -> &mut Instant {
        &mut self.now
    }

    fn drain(&mut self) {
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Connect { contact } => self.dialled.push(contact.peer),
                Output::Send { to, message: Message::Join(join), .. } => {
                    self.joins.push((to, join.stripes));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn who_knows_a_member_asks_it_and_then_those_that_it_knows_but_not_the_source() {
    let mut newcomer = Newcomer::new(vec![contact(INTRODUCER, Roles::one(StripeId(3)))]);
    newcomer.wait(Duration::from_millis(600));
    assert_eq!(newcomer.dialled, [INTRODUCER]);
    newcomer.tell(Input::Connected { peer: INTRODUCER });
    let natives = |n: u8| contact(PeerId([100 + n; 32]), Roles::one(StripeId(n)));
    let contacts = (0..16).map(natives).collect();
    let message = Message::Contacts { contacts };
    newcomer.tell(Input::Received { peer: INTRODUCER, message });
    let joins = newcomer.joins.iter().map(|(to, _)| to);
    let asked: Vec<PeerId> = newcomer.dialled[1..].iter().chain(joins).copied().collect();
    assert!(asked.len() >= 15, "every stripe is looked for: {asked:?}");
    // As a native, nobody comes before it but the source, perhaps.
    assert!(asked.iter().filter(|peer| **peer == SOURCE).count() <= 1, "{asked:?}");
}

#[test]
fn who_knows_nobody_asks_the_source_for_contacts_and_then_for_all_stripes_in_one_message() {
    let mut newcomer = Newcomer::new(Vec::new());
    newcomer.wait(Duration::from_millis(500));
    assert_eq!(newcomer.dialled, [SOURCE]);
    newcomer.tell(Input::Connected { peer: SOURCE });
    assert!(newcomer.joins.is_empty());
    newcomer
        .tell(Input::Received { peer: SOURCE, message: Message::Contacts { contacts: vec![] } });
    let [(to, stripes)] = newcomer.joins[..] else { panic!("{:?}", newcomer.joins) };
    assert_eq!((to, stripes.len()), (SOURCE, 16));
}

#[test]
fn members_that_do_not_answer_do_not_hold_a_newcomer_up() {
    let mut newcomer = Newcomer::new(vec![contact(INTRODUCER, Roles::one(StripeId(3)))]);
    newcomer.wait(Duration::from_millis(1_500));
    newcomer.tell(Input::Connected { peer: SOURCE });
    let joins: Vec<PeerId> = newcomer.joins.iter().map(|(to, _)| *to).collect();
    assert!(joins.contains(&SOURCE), "{:?}", newcomer.dialled);
}

#[test]
fn a_place_that_is_granted_late_is_taken_by_who_has_none_but_not_one_that_nobody_asked_for() {
    let mut newcomer = Newcomer::new(vec![contact(INTRODUCER, Roles::one(StripeId(3)))]);
    newcomer.tell(Input::Connected { peer: INTRODUCER });
    let native = |n: u8| contact(PeerId([100 + n; 32]), Roles::one(StripeId(n)));
    let message = Message::Contacts { contacts: (0..16).map(native).collect() };
    newcomer.tell(Input::Received { peer: INTRODUCER, message });
    // It is a leaf of this one.
    let stripe = StripeId((ME.kademlia_key().digit(StripeCount::DEFAULT).0 + 1) % 16);
    let (asked, stranger) = (native(stripe.0).peer, PeerId([200; 32]));
    newcomer.tell(Input::Connected { peer: asked });
    newcomer.tell(Input::Connected { peer: stranger });
    assert!(newcomer.joins.contains(&(asked, Roles::one(stripe))), "{:?}", newcomer.joins);
    // Longer than it waits for the answer.
    newcomer.wait(Duration::from_millis(1_100));
    let asks_another = |(to, stripes): &(PeerId, Roles)| *to != asked && stripes.contains(stripe);
    assert!(newcomer.joins.iter().any(asks_another), "{:?}", newcomer.joins);
    let mut accepts = |peer| {
        let standing = Standing {
            depth: 1,
            grandparent: None,
            population: 100,
            ancestors: Vec::new(),
            is_orphan: false,
            spare: 9,
            class: 6,
            is_open: false,
            is_grandparent_open: false,
            delay: 0,
        };
        newcomer.tell(Input::Received { peer, message: Message::Accept { stripe, standing } });
        newcomer.peer.snapshot().stripes[stripe.index()].parent
    };
    assert_eq!(accepts(stranger), None);
    assert_eq!(accepts(asked), Some(asked));
}
