//! One viewer, to which a test plays all others: what it is given, and how time passes for it.

use std::time::Duration;

use banyan_core::{Input, Instant, Peer, Role, Setup};
use banyan_wire::{
    BroadcastId, BroadcastKey, Contact, Manifest, Overlay, PeerId, SignedManifest, StripeCount,
};
use bytes::Bytes;

/// The viewer.
pub(crate) const ME: PeerId = PeerId([7; 32]);

/// A viewer that knows the manifest of a broadcast of `source`, and nobody else.
pub(crate) fn viewer(
    config: banyan_core::Config,
    addresses: Vec<Bytes>,
    stripes: StripeCount,
    source: Contact,
) -> (Peer, BroadcastId) {
    let key = BroadcastKey::from_seed(&[9; 32]);
    let (broadcast, now) = (key.broadcast(), Instant::ZERO);
    let setup = Setup { broadcast, peer: ME, role: Role::Viewer, addresses, config };
    let manifest = Manifest {
        broadcast,
        sequence: 1,
        title: String::new(),
        stripes,
        overlay: Overlay::SplitStream,
        stripe_rate: 100_000,
        generation_millis: 500,
        tracks: Vec::new(),
        source,
        created_at: 0,
        ended_at: None,
    };
    let mut peer = Peer::new(setup, now, [0; 32]).unwrap();
    peer.set_manifest(now, SignedManifest::sign(manifest, &key).unwrap());
    (peer, broadcast)
}

/// A test's view of it.
pub(crate) trait Alone {
    fn peer(&mut self) -> &mut Peer;
    fn now(&mut self) -> &mut Instant;
    /// Takes, and answers, what it does.
    fn drain(&mut self);

    fn tell(&mut self, input: Input) {
        let now = *self.now();
        self.peer().handle(now, input);
        self.drain();
    }

    fn wait(&mut self, time: Duration) {
        let end = *self.now() + time;
        while let Some(at) = self.peer().poll_timeout().filter(|at| *at <= end) {
            let now = (*self.now()).max(at);
            *self.now() = now;
            self.peer().handle_timeout(now);
            self.drain();
        }
        *self.now() = end;
    }
}
