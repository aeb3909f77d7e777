//! A peer among hostile ones: whatever they say, in whatever order, it keeps its invariants, and says
//! only what others can read.
//!
//! ```text
//!   script = role, then steps: what happens, whose doing it is, and the bytes it takes
//! ```
//!
//! Decides what may happen to a peer: what the driver's contract allows and no more, so nobody is heard
//! who is not connected. The messages are read from frames, so they are within the limits of the wire.

use std::collections::BTreeSet;
use std::time::Duration;

use banyan_core::{Config, Input, Instant, Output, Peer, Role, Setup};
use banyan_wire::frame::{Frame, LENGTH_BYTES, MAX_CONTROL_FRAME, MAX_DATA_FRAME, decode};
use banyan_wire::{
    BroadcastKey, Contact, Manifest, Message, Overlay, PeerId, Roles, SignedManifest, StripeCount,
};
use bytes::Bytes;

use crate::script::Script;
use crate::wire::SEED;

/// Most steps of a script.
const MAX_STEPS: usize = 400;
/// Times out at most so often in one step: more would be a timer that does not move.
const MAX_TIMEOUTS: usize = 2000;

/// The source, by the key of its name's first byte; others have other names.
const SOURCE: PeerId = PeerId([0; 32]);
const OWN: PeerId = PeerId([0x77; 32]);

pub(crate) fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let Some(mut world) = World::new(script.byte()) else { return };
    for _ in 0..MAX_STEPS {
        if script.is_empty() {
            break;
        }
        world.step(&mut script);
    }
    world.peer.leave(world.now);
    world.drain();
    assert_eq!(world.peer.poll_timeout(), None, "who has left has nothing to do");
}

struct World {
    peer: Peer,
    now: Instant,
    connected: BTreeSet<PeerId>,
    /// Whom the peer asked to be connected with.
    dialled: Vec<PeerId>,
}

impl World {
    /// What the peer is, by bits: 0 and 1 its role, 2 the overlay, 3 whether it has the manifest, 4 to 6
    /// the binary logarithm of K.
    fn new(shape: u8) -> Option<Self> {
        let key = BroadcastKey::from_seed(&SEED);
        let broadcast = key.broadcast();
        let is_source = shape & 3 == 2;
        let stripes = StripeCount::new(1 << (shape >> 4 & 7).min(6))?;
        let overlay = if shape & 4 == 0 { Overlay::SplitStream } else { Overlay::PeerCast };
        let source = if is_source { OWN } else { SOURCE };
        let manifest = Manifest {
            broadcast,
            sequence: 1,
            title: String::new(),
            stripes: if overlay == Overlay::PeerCast { StripeCount::ONE } else { stripes },
            overlay,
            stripe_rate: 100_000,
            generation_millis: 500,
            tracks: Vec::new(),
            source: contact(source, true),
            created_at: 0,
            ended_at: None,
        };
        let manifest = SignedManifest::sign(manifest, &key).expect("it keeps the limits");
        let role = match shape & 3 {
            0 | 3 => Role::Viewer,
            1 => Role::Relay,
            _ => Role::Source(key),
        };
        let config = Config { estimates_upload: shape & 128 != 0, ..Config::default() };
        let setup = Setup { broadcast, peer: OWN, role, addresses: Vec::new(), config };
        let peer = Peer::new(setup, Instant::ZERO, [3; 32]).expect("the configuration is valid");
        let mut world =
            Self { peer, now: Instant::ZERO, connected: BTreeSet::new(), dialled: Vec::new() };
        if is_source || shape & 8 == 0 {
            world.peer.set_manifest(world.now, manifest);
            world.drain();
        }
        Some(world)
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let what = script.byte();
        let who = PeerId([script.byte() % 24; 32]);
        match what % 16 {
            0 => self.connect(who),
            1 => {
                if self.connected.remove(&who) {
                    self.handle(Input::Disconnected { peer: who });
                }
            }
            2 => {
                let dialled = std::mem::take(&mut self.dialled);
                for peer in dialled {
                    if what & 16 == 0 {
                        self.connect(peer);
                    } else if !self.connected.contains(&peer) {
                        self.handle(Input::ConnectFailed { peer });
                    }
                }
            }
            3 => {
                let queued_bytes = usize::from(script.word()) * 16;
                let expired_messages = u32::from(what >> 4);
                self.handle(Input::SendQueue { peer: who, queued_bytes, expired_messages });
            }
            4 => {
                let rtt = Duration::from_millis(script.word().into());
                self.handle(Input::RoundTrip { peer: who, rtt });
            }
            5 => self.handle(Input::Contacts { contacts: vec![contact(who, false)] }),
            6 | 7 => self.wait(Duration::from_millis(script.word().into())),
            8 if what >= 0xf0 => self.handle(Input::Undecodable { peer: who }),
            _ => {
                let length = usize::from(script.word());
                let body = Bytes::copy_from_slice(script.bytes(length));
                if let Ok((_, message)) = decode(body) {
                    self.connect(who);
                    self.handle(Input::Received { peer: who, message });
                }
            }
        }
    }

    fn connect(&mut self, peer: PeerId) {
        if peer != OWN && self.connected.insert(peer) {
            self.handle(Input::Connected { peer });
        }
    }

    fn handle(&mut self, input: Input) {
        self.peer.handle(self.now, input);
        self.drain();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut left = MAX_TIMEOUTS;
        while let Some(at) = self.peer.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.peer.handle_timeout(self.now);
            self.drain();
            left -= 1;
            assert!(left > 0, "a timer that is due stays due");
        }
        self.now = end;
    }

    /// Carries out what the peer asks for, and checks it.
    fn drain(&mut self) {
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Send { message, .. } => check_sent(&message),
                Output::Connect { contact } => {
                    assert_ne!(contact.peer, OWN, "nobody dials itself");
                    self.dialled.push(contact.peer);
                }
                Output::Disconnect { peer, .. } => {
                    // The driver says so once the connection is gone.
                    if self.connected.remove(&peer) {
                        self.peer.handle(self.now, Input::Disconnected { peer });
                    }
                }
                Output::Keep { .. } | Output::Event(_) => {}
            }
        }
        if let Err(broken) = self.peer.check_invariants() {
            panic!("{broken}");
        }
    }
}

/// What a peer says keeps the limits of the wire.
fn check_sent(message: &Message) {
    let limit = if message.is_data() { MAX_DATA_FRAME } else { MAX_CONTROL_FRAME };
    let frame = Frame::encode(1, message);
    assert!(frame.len() <= LENGTH_BYTES + limit, "{} is too long to send", message.name());
    let body = Bytes::from([&frame.head[LENGTH_BYTES..], &frame.payload].concat());
    let again = decode(body).map(|(_, message)| message);
    assert_eq!(again.as_ref(), Ok(message), "what is sent can be read");
}

fn contact(peer: PeerId, is_source: bool) -> Contact {
    let roles = if is_source { Roles::NONE } else { Roles(1 << (peer.0[0] % 4)) };
    let addresses = vec![Bytes::from_static(b"somewhere")];
    Contact { peer, roles, capacity: 32, addresses, is_source, class: 5, coordinate: None }
}
