//! Connections: opened when there is something to say, kept while a tree edge needs them.
//!
//! What does not go out for want of a connection waits for it; what cannot go out at all is handed
//! back. Whether a vanished peer matters is decided by others.
//!
//! Departure: Pastry sends datagrams, here a hop to a stranger costs a connection first. Nodes of
//! the paper pay nothing for that; all overlays of this simulator do.

use std::collections::BTreeMap;
use std::time::Duration;

use banyan_core::Instant;

use crate::node::{Action, Index};

use super::message::Message;

/// What a call may use: the time, and where actions go.
#[derive(Debug)]
pub(crate) struct Cx<'a> {
    pub(crate) now: Instant,
    pub(crate) actions: &'a mut Vec<Action<Message>>,
}

/// The connections of one node.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    links: BTreeMap<Index, Link>,
    waiting: Vec<(Index, Message)>,
    packet_bytes: u32,
    lifetime: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    is_up: bool,
    is_dialled: bool,
    /// Tree edges that run over it.
    uses: u16,
}

impl Links {
    /// No connections. Packets have `packet_bytes` and are worth sending for `lifetime`.
    pub(crate) const fn new(packet_bytes: u32, lifetime: Duration) -> Self {
        Self { links: BTreeMap::new(), waiting: Vec::new(), packet_bytes, lifetime }
    }

    /// Sends, connecting first where need be. A packet is not worth a connection and is dropped.
    pub(crate) fn send(&mut self, cx: &mut Cx<'_>, to: Index, message: Message) {
        let link = self.links.entry(to).or_default();
        if link.is_up {
            emit(cx, to, message, self.packet_bytes, self.lifetime);
            return;
        }
        if matches!(message, Message::Data { .. }) {
            return;
        }
        if !link.is_dialled {
            link.is_dialled = true;
            cx.actions.push(Action::Connect { to });
        }
        self.waiting.push((to, message));
    }

    /// Handles a connection that came up.
    pub(crate) fn on_connected(&mut self, cx: &mut Cx<'_>, peer: Index) {
        let link = self.links.entry(peer).or_default();
        (link.is_up, link.is_dialled) = (true, false);
        if link.uses > 0 {
            cx.actions.push(Action::Keep { peer, keep: true });
        }
        for (to, message) in self.take_waiting(peer) {
            emit(cx, to, message, self.packet_bytes, self.lifetime);
        }
    }

    /// Handles a connection that did not come up or went away; returns what could not be sent.
    pub(crate) fn on_gone(&mut self, peer: Index) -> Vec<(Index, Message)> {
        if let Some(link) = self.links.get_mut(&peer) {
            (link.is_up, link.is_dialled) = (false, false);
            if link.uses == 0 {
                self.links.remove(&peer);
            }
        }
        self.take_waiting(peer)
    }

    /// A tree edge runs over the connection from now on.
    pub(crate) fn hold(&mut self, cx: &mut Cx<'_>, peer: Index) {
        let link = self.links.entry(peer).or_default();
        link.uses += 1;
        if link.uses == 1 && link.is_up {
            cx.actions.push(Action::Keep { peer, keep: true });
        }
    }

    /// A tree edge no longer does.
    pub(crate) fn release(&mut self, cx: &mut Cx<'_>, peer: Index) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.uses = link.uses.saturating_sub(1);
        if link.uses == 0 && link.is_up {
            cx.actions.push(Action::Keep { peer, keep: false });
        } else if link.uses == 0 && !link.is_dialled {
            self.links.remove(&peer);
        }
    }

    /// Whether a tree edge runs over the connection.
    pub(crate) fn is_held(&self, peer: Index) -> bool {
        self.links.get(&peer).is_some_and(|link| link.uses > 0)
    }

    /// Those to whom tree edges run.
    pub(crate) fn held(&self) -> Vec<Index> {
        let held = self.links.iter().filter(|(_, link)| link.uses > 0);
        held.map(|(&peer, _)| peer).collect()
    }

    /// All tree edges there are.
    pub(crate) fn uses(&self) -> u32 {
        self.links.values().map(|link| u32::from(link.uses)).sum()
    }

    fn take_waiting(&mut self, peer: Index) -> Vec<(Index, Message)> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        self.waiting.extract_if(.., |(to, _)| *to == peer).collect()
    }
}

fn emit(cx: &mut Cx<'_>, to: Index, message: Message, packet_bytes: u32, lifetime: Duration) {
    cx.actions.push(Action::Send {
        to,
        bytes: message.bytes(packet_bytes),
        kind: message.kind(),
        is_request: message.is_request(),
        expires_at: message.is_data().then(|| cx.now + lifetime),
        message,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_go_out_waits_and_is_handed_back_when_the_call_fails() {
        let mut actions = Vec::new();
        let mut cx = Cx { now: Instant::ZERO, actions: &mut actions };
        let mut links = Links::new(100, Duration::from_secs(1));
        links.send(&mut cx, 4, Message::Join { group: 1 });
        links.send(&mut cx, 4, Message::Bye);
        assert_eq!(links.on_gone(4).len(), 2);
        assert!(matches!(actions[..], [Action::Connect { to: 4 }]));
    }

    #[test]
    fn a_connection_is_kept_while_an_edge_needs_it() {
        let mut actions = Vec::new();
        let mut cx = Cx { now: Instant::ZERO, actions: &mut actions };
        let mut links = Links::new(100, Duration::from_secs(1));
        links.on_connected(&mut cx, 4);
        links.hold(&mut cx, 4);
        links.hold(&mut cx, 4);
        links.release(&mut cx, 4);
        assert!(links.is_held(4));
        links.release(&mut cx, 4);
        assert!(!links.is_held(4));
        assert!(matches!(
            actions[..],
            [Action::Keep { keep: true, .. }, Action::Keep { keep: false, .. }]
        ));
    }
}
