//! Connections: who has one with whom, and what each end knows of it.
//!
//! ```text
//!   end:  Pending ──▶ Up ──▶ Gone        a slot is used again once both ends are gone
//! ```
//!
//! Decides nothing: when ends come up and go is [`crate::world`]'s. Slots carry a count of their
//! uses, so that events for a connection that is gone find out.

use crate::node::Index;

/// A connection, by its slot and the slot's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    slot: u32,
    uses: u32,
}

/// What a node knows of its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// The handshake is under way.
    #[default]
    Pending,
    /// It was told of the connection.
    Up,
    /// It closed it, was told of its end, or is dead.
    Gone,
}

/// One end.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    pub(crate) node: Index,
    pub(crate) state: State,
    /// Whether the node uses the connection.
    pub(crate) keep: bool,
    /// When the latest message from this end arrives at the other: control, data.
    pub(crate) arrives_at: [u64; 2],
    /// Data that waits to leave.
    pub(crate) queued: u32,
    /// Its class when the node was last told.
    pub(crate) reported: u32,
    /// Data dropped since then.
    pub(crate) expired: u32,
    /// Whether a report is on its way to the node.
    pub(crate) is_reporting: bool,
    /// Whether its end is waited for, to be reported.
    pub(crate) is_draining: bool,
}

/// A connection of two nodes: the dialler's end, then the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection {
    uses: u32,
    pub(crate) ends: [End; 2],
    /// Microseconds from one end to the other.
    pub(crate) one_way: u64,
    /// Microseconds that the handshake waited for a core of the one who was dialled.
    pub(crate) answered_after: u64,
    pub(crate) used_at: u64,
    /// Whether an idle check is queued.
    pub(crate) is_watched: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Connection>,
    free: Vec<u32>,
    /// For each node: (peer, slot, end), by peer.
    of: Vec<Vec<(Index, u32, u8)>>,
}

impl Connections {
    /// Makes room for the next node.
    pub(crate) fn add(&mut self) {
        self.of.push(Vec::new());
    }

    /// Makes a connection whose ends are pending.
    pub(crate) fn open(&mut self, dialler: Index, other: Index, one_way: u64, now: u64) -> Link {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Connection::default());
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 connections")
        });
        let connection = &mut self.slots[slot as usize];
        let uses = connection.uses + 1;
        let end = |node| End { node, ..End::default() };
        let ends = [end(dialler), end(other)];
        *connection = Connection { uses, ends, one_way, used_at: now, ..Connection::default() };
        self.insert(dialler, other, slot, 0);
        self.insert(other, dialler, slot, 1);
        Link { slot, uses }
    }

    /// The connection `node` has with `peer`, and which end is its own.
    pub(crate) fn find(&self, node: Index, peer: Index) -> Option<(Link, usize)> {
        let of = &self.of[node as usize];
        let place = of.binary_search_by_key(&peer, |(peer, _, _)| *peer).ok()?;
        let (_, slot, end) = of[place];
        Some((Link { slot, uses: self.slots[slot as usize].uses }, usize::from(end)))
    }

    /// A connection that is still there.
    pub(crate) fn get(&mut self, link: Link) -> Option<&mut Connection> {
        self.slots.get_mut(link.slot as usize).filter(|connection| connection.uses == link.uses)
    }

    /// The end as one number, and back.
    pub(crate) const fn pack(link: Link, end: usize) -> u64 {
        (link.slot as u64) << 33 | (link.uses as u64 & 0xffff_ffff) << 1 | end as u64
    }

    /// The connection behind [`pack`](Self::pack), if it is still there, and the end.
    pub(crate) fn unpack(&mut self, packed: u64) -> Option<(&mut Connection, usize)> {
        let slot = usize::try_from(packed >> 33).ok()?;
        let uses = packed >> 1 & 0xffff_ffff;
        let connection = self.slots.get_mut(slot)?;
        (u64::from(connection.uses) & 0xffff_ffff == uses)
            .then_some((connection, usize::from(packed & 1 == 1)))
    }

    /// An end is gone; the slot is free once both are. Returns whether this end was up.
    pub(crate) fn end_gone(&mut self, link: Link, end: usize) -> bool {
        let Some(connection) = self.get(link) else {
            return false;
        };
        let before = std::mem::replace(&mut connection.ends[end].state, State::Gone);
        if before == State::Gone {
            return false;
        }
        let (node, peer) = (connection.ends[end].node, connection.ends[1 - end].node);
        let both = connection.ends[1 - end].state == State::Gone;
        let of = &mut self.of[node as usize];
        if let Ok(place) = of.binary_search_by_key(&peer, |(peer, _, _)| *peer)
            && of[place].1 == link.slot
        {
            of.remove(place);
        }
        if both {
            // The next use has another number; events of this one find nothing.
            self.slots[link.slot as usize].uses += 1;
            self.free.push(link.slot);
        }
        before == State::Up
    }

    /// The connections of `node`: peer, connection and own end.
    pub(crate) fn of(&self, node: Index) -> impl Iterator<Item = (Index, Link, usize)> + '_ {
        self.of[node as usize].iter().map(|(peer, slot, end)| {
            let uses = self.slots[*slot as usize].uses;
            (*peer, Link { slot: *slot, uses }, usize::from(*end))
        })
    }

    /// How many connections `node` has.
    pub(crate) fn count(&self, node: Index) -> usize {
        self.of[node as usize].len()
    }

    fn insert(&mut self, node: Index, peer: Index, slot: u32, end: u8) {
        let of = &mut self.of[node as usize];
        match of.binary_search_by_key(&peer, |(peer, _, _)| *peer) {
            Ok(place) => of[place] = (peer, slot, end),
            Err(place) => of.insert(place, (peer, slot, end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_once_both_ends_are_gone() {
        let mut connections = Connections::default();
        (0..3).for_each(|_| connections.add());
        let first = connections.open(0, 1, 40, 0);
        connections.get(first).expect("there").ends[0].state = State::Up;
        assert_eq!(connections.find(1, 0), Some((first, 1)));
        assert!(connections.end_gone(first, 0));
        assert!(!connections.end_gone(first, 0), "it is gone already");
        assert_eq!((connections.count(0), connections.count(1)), (0, 1));
        assert!(!connections.end_gone(first, 1), "it was never up");
        let packed = Connections::pack(first, 1);
        let second = connections.open(1, 2, 40, 0);
        assert_eq!(second.slot, first.slot);
        assert!(connections.get(first).is_none() && connections.unpack(packed).is_none());
        let packed = Connections::pack(second, 1);
        assert_eq!(connections.unpack(packed).map(|(c, end)| c.ends[end].node), Some(2));
    }
}
