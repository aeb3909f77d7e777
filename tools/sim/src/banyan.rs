//! Banyan's own peer in the world: the machine the network runs, every message through the wire
//! format.
//!
//! Decides how the world's indices become peer ids, and what the source publishes. Frames of data
//! are the same at every hop, so all nodes share one copy of each; that is what lets ten thousand
//! stores fit in memory.

mod book;

use std::rc::Rc;

use bytes::Bytes;

use banyan_coding::redundancy::Redundancy;
use banyan_coding::{Layer, description_length};
use banyan_core::{Event, Input, Instant, Output, Peer, Playout, Role, Setup};
use banyan_wire::{Message, PeerId, Roles, StripeCount, frame};

use crate::node::{Action, Gauges, Happening, Index, Node};
use crate::world::Seat;

pub use book::Book;

/// A peer and what the adapter remembers of it.
#[derive(Debug)]
pub struct Banyan {
    book: Rc<Book>,
    peer: Peer,
    index: Index,
    redundancy: Redundancy,
    is_source: bool,
    roles: Roles,
    wanted: Roles,
    /// For each stripe, one more than the newest generation of which a chunk has come.
    heads: Vec<u64>,
}

impl Banyan {
    /// Makes the node for a seat.
    ///
    /// # Errors
    /// Says what the core finds wrong with the configuration.
    pub fn new(book: &Rc<Book>, seat: &Seat, now: Instant) -> anyhow::Result<Self> {
        let is_source = seat.index == crate::forest::SOURCE;
        let contact = book.contact(seat.index);
        let mut config = book.config.clone();
        book.note(seat.index, seat.capacity);
        config.upload = u64::from(seat.capacity) * book.stripe_rate;
        if seat.wanted > 0 && seat.wanted < u32::from(book.stripes.value()) {
            config.download = u64::from(seat.wanted) * book.stripe_rate;
        }
        let setup = Setup {
            broadcast: book.key.broadcast(),
            peer: contact.peer,
            role: if is_source { Role::Source(book.key.clone()) } else { Role::Viewer },
            addresses: if seat.is_dialable { contact.addresses } else { Vec::new() },
            config,
        };
        let peer = Peer::new(setup, now, book.seed_of(seat.index))?;
        let wanted = if is_source { Roles::NONE } else { book.all() };
        let heads = vec![0; book.stripes.len()];
        let book = Rc::clone(book);
        let (index, redundancy) = (seat.index, book.redundancy());
        Ok(Self { book, peer, index, redundancy, is_source, roles: Roles::NONE, wanted, heads })
    }

    /// The machine itself, for tests.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    fn start(&mut self, now: Instant, contacts: &[Index]) {
        if self.is_source || self.book.has_manifest {
            self.peer.set_manifest(now, self.book.manifest.clone());
        }
        if !contacts.is_empty() {
            let contacts = contacts.iter().map(|index| self.book.contact(*index)).collect();
            self.peer.handle(now, Input::Contacts { contacts });
        }
    }

    fn receive(&mut self, now: Instant, from: Index, framed: Bytes, out: &mut Actions) {
        let peer = self.book.peer_id(from);
        let message = decode(&framed);
        if self.is_late(now, &message) {
            return;
        }
        if let Message::Chunk { id, .. } = &message {
            let head = &mut self.heads[id.stripe.index()];
            if *head <= id.generation.0 {
                *head = id.generation.0 + 1;
                let (stripe, generation) = (id.stripe.0, id.generation.0);
                out.push(Action::Arrived { stripe, generation });
            }
        }
        self.peer.handle(now, Input::Received { peer, message });
    }

    /// Whether a message is data of a description that comes too late for us. Where we are meant to
    /// have children nothing does: what is late there is late for all below, and a share of
    /// descriptions would not stay the share it is set to.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are control")]
    fn is_late(&self, now: Instant, message: &Message) -> bool {
        let (stripe, generation) = match message {
            Message::Header(header) => (header.stripe, header.commitment.generation),
            Message::Chunk { id, .. } => (id.stripe, id.generation),
            _ => return false,
        };
        !self.roles.contains(stripe)
            && self.book.is_late(now.as_micros(), self.index, stripe, generation.0)
    }

    fn drain(&mut self, out: &mut Actions) {
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Send { to, message, expires_at } => {
                    let (framed, bytes) = self.book.encode(&message);
                    out.push(Action::Send {
                        to: self.book.index_of(&to),
                        kind: message.name(),
                        is_request: is_request(&message),
                        message: framed,
                        bytes,
                        expires_at,
                    });
                }
                Output::Connect { contact } => {
                    out.push(Action::Connect { to: self.book.index_of(&contact.peer) });
                }
                Output::Disconnect { peer, .. } => {
                    out.push(Action::Disconnect { peer: self.book.index_of(&peer) });
                }
                Output::Keep { peer, keep } => {
                    out.push(Action::Keep { peer: self.book.index_of(&peer), keep });
                }
                Output::Event(event) => self.tell(event, out),
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the world measures no others")]
    fn tell(&mut self, event: Event, out: &mut Actions) {
        match event {
            Event::Parent { stripe, parent } => {
                let parent = parent.map(|peer: PeerId| self.book.index_of(&peer));
                out.push(Action::Parent { stripe: stripe.0, parent });
            }
            Event::Children { stripe, count, leaving } => {
                let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                let staying = small(count.saturating_sub(leaving));
                out.push(Action::Children { stripe: stripe.0, staying, leaving: small(leaving) });
            }
            Event::Roles(roles) | Event::Joined { roles, .. } => {
                self.roles = roles;
                out.push(self.wants());
            }
            Event::Wanted(wanted) => {
                self.wanted = wanted;
                out.push(self.wants());
            }
            Event::Generation(playout) => out.push(played(&playout)),
            Event::Audience(audience) => self.redundancy.on_reception(&audience.counts),
            _ => {}
        }
    }

    const fn wants(&self) -> Action<Bytes> {
        Action::Wants { stripes: self.wanted.0, roles: self.roles.0 }
    }
}

type Actions = Vec<Action<Bytes>>;

impl Node for Banyan {
    type Message = Bytes;

    fn handle(&mut self, now: Instant, happening: Happening<Bytes>, actions: &mut Actions) {
        let id = |index: Index| self.book.peer_id(index);
        match happening {
            Happening::Start { contacts } => self.start(now, &contacts),
            Happening::Connected { peer } => {
                let peer = id(peer);
                self.peer.handle(now, Input::Connected { peer });
            }
            Happening::ConnectFailed { peer } => {
                let peer = id(peer);
                self.peer.handle(now, Input::ConnectFailed { peer });
            }
            Happening::Disconnected { peer } => {
                let peer = id(peer);
                self.peer.handle(now, Input::Disconnected { peer });
            }
            Happening::Received { from, message } => self.receive(now, from, message, actions),
            Happening::RoundTrip { peer, rtt } => {
                let peer = id(peer);
                self.peer.handle(now, Input::RoundTrip { peer, rtt });
            }
            Happening::SendQueue { peer, queued_bytes, expired } => {
                let (peer, expired_messages) = (id(peer), expired);
                self.peer.handle(now, Input::SendQueue { peer, queued_bytes, expired_messages });
            }
            Happening::Timeout => self.peer.handle_timeout(now),
            Happening::Publish { number } => {
                let starts = number.is_multiple_of(self.book.random_access_every);
                let layers = self.book.layers(number, &mut self.redundancy);
                actions.push(coded(&layers, self.book.stripes));
                self.peer.publish(now, &layers, starts).expect("the source has its manifest");
            }
            Happening::Leave => self.peer.leave(now),
        }
        self.drain(actions);
    }

    fn wake_at(&self) -> Option<Instant> {
        self.peer.poll_timeout()
    }

    fn gauges(&self) -> Gauges {
        let snapshot = self.peer.snapshot();
        Gauges {
            contacts: u32::try_from(snapshot.contacts).unwrap_or(u32::MAX),
            capacity: snapshot.capacity,
            violations: snapshot.stats.violations.values().sum(),
            regenerated: snapshot.stats.regenerated_descriptions,
            store_bytes: snapshot.store_bytes as u64,
            population: snapshot.population,
            place: snapshot.coordinate.map(|at| (at.x, at.y, at.height)),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.peer.check_invariants()
    }
}

/// What SplitStream's node stress counts: what has to be handled so that somebody finds a place.
const fn is_request(message: &Message) -> bool {
    matches!(message, Message::Join(_) | Message::Attach { .. })
}

fn played(playout: &Playout) -> Action<Bytes> {
    let count = |layers: usize| u8::try_from(layers).unwrap_or(u8::MAX);
    Action::Played {
        generation: playout.generation.0,
        received: playout.received,
        layers: count(playout.layers_rebuilt()),
        // A generation of which nothing came has no layers that anybody knows of.
        layers_total: count(playout.layers.len().max(1)),
        lag: playout.lag,
    }
}

fn coded(layers: &[Layer], stripes: StripeCount) -> Action<Bytes> {
    Action::Coded {
        source: layers.iter().map(|layer| layer.data.len() as u64).sum(),
        coded: (description_length(layers) * stripes.len()) as u64,
        thresholds: layers.iter().map(|layer| layer.threshold).collect(),
    }
}

fn decode(framed: &Bytes) -> Message {
    let body = framed.slice(frame::LENGTH_BYTES..);
    frame::decode(body).expect("what the peer encodes can be decoded").1
}
