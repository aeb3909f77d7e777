//! Access links: how long a message takes to leave a node and to enter another.
//!
//! ```text
//!   data     waits behind data, first come first served, on the sender's uplink
//!   control  has its own substream: it waits behind control alone, but takes its share of the link
//! ```
//!
//! The downlink's serialisation counts where it is the slower of the two; what arrives while it is
//! busy waits. Bytes between the access links are free: the assumption of the SplitStream paper,
//! and the one this leaves out is a crowded backbone.

use std::collections::VecDeque;

use crate::node::Index;
use crate::scenario::Links as Settings;

/// Payload of one packet, for the overhead.
const PACKET: u32 = 1_200;

/// One node's link.
#[derive(Clone, Debug, Default)]
struct Link {
    /// Bits per second; 0 for infinite.
    up: u64,
    down: u64,
    data_free_at: u64,
    control_free_at: u64,
    down_free_at: u64,
    /// Data that has not left: (when it will have, over which end of a connection, bytes).
    waiting: VecDeque<(u64, u64, u32)>,
}

/// What came of handing data to an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It will have left at this microsecond.
    At(u64),
    /// It would have begun to leave after its expiry.
    Expired,
    /// The queue is full.
    Overflow,
}

/// All access links.
#[derive(Debug)]
pub(crate) struct Links {
    enabled: bool,
    limit: u64,
    overhead: u32,
    links: Vec<Link>,
}

impl Links {
    pub(crate) fn new(settings: &Settings) -> Self {
        let Settings { enabled, queue, overhead, promised: _ } = *settings;
        Self { enabled, limit: queue, overhead, links: Vec::new() }
    }

    /// Gives the next node a link of these rates in bits per second.
    pub(crate) fn add(&mut self, up: u64, down: u64) {
        let (up, down) = if self.enabled { (up, down) } else { (0, 0) };
        self.links.push(Link { up, down, ..Link::default() });
    }

    /// Bytes on the wire for a message of `bytes`.
    pub(crate) fn charged(&self, bytes: u32) -> u32 {
        bytes.saturating_add(self.overhead * bytes.div_ceil(PACKET))
    }

    /// Sends control: when it will have left.
    pub(crate) fn send_control(&mut self, now: u64, from: Index, bytes: u32) -> u64 {
        let link = &mut self.links[from as usize];
        let takes = serialisation(bytes, link.up);
        link.control_free_at = link.control_free_at.max(now) + takes;
        link.data_free_at = link.data_free_at.max(now) + takes;
        link.control_free_at
    }

    /// Sends data over the end `end` of a connection.
    pub(crate) fn send_data(
        &mut self,
        now: u64,
        from: Index,
        end: u64,
        bytes: u32,
        expires_at: u64,
    ) -> Sent {
        let link = &mut self.links[from as usize];
        let begins = link.data_free_at.max(now);
        if begins >= expires_at {
            return Sent::Expired;
        }
        // Microseconds times bits per second.
        let backlog = u128::from(begins - now) * u128::from(link.up) / 8_000_000;
        if backlog > u128::from(self.limit) {
            return Sent::Overflow;
        }
        let departs = begins + serialisation(bytes, link.up);
        link.data_free_at = departs;
        if departs > now {
            link.waiting.push_back((departs, end, bytes));
        }
        Sent::At(departs)
    }

    /// The next data that has left `node` by `now`: over which end, and how much.
    pub(crate) fn next_departed(&mut self, now: u64, node: Index) -> Option<(u64, u32)> {
        let waiting = &mut self.links[node as usize].waiting;
        let (_, end, bytes) = *waiting.front().filter(|(departs, _, _)| *departs <= now)?;
        waiting.pop_front();
        Some((end, bytes))
    }

    /// When the data that waits at `node` will have left.
    pub(crate) fn drained_at(&self, node: Index) -> u64 {
        self.links[node as usize].waiting.back().map_or(0, |(departs, _, _)| *departs)
    }

    /// What the slower of two links adds: serialisation counts once.
    pub(crate) fn extra(&self, from: Index, to: Index, bytes: u32) -> u64 {
        let up = serialisation(bytes, self.links[from as usize].up);
        serialisation(bytes, self.links[to as usize].down).saturating_sub(up)
    }

    /// A message is at the receiver's link: `None` if it may enter, or when its turn will come.
    pub(crate) fn enter(&mut self, now: u64, to: Index, bytes: u32, is_data: bool) -> Option<u64> {
        let link = &mut self.links[to as usize];
        let takes = serialisation(bytes, link.down);
        let begins = link.down_free_at.max(now);
        link.down_free_at = begins + takes;
        (is_data && begins > now).then_some(begins)
    }

    /// Forgets what waits at a node that is gone.
    pub(crate) fn clear(&mut self, node: Index) {
        self.links[node as usize].waiting = VecDeque::new();
    }
}

fn serialisation(bytes: u32, rate: u64) -> u64 {
    // At least a microsecond, so that no two messages have the same turn.
    let takes = (u64::from(bytes) * 8_000_000).checked_div(rate);
    takes.map_or(0, |takes| takes.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(up: u64, down: u64) -> Links {
        let mut links = Links::new(&Settings { queue: 10_000, ..Settings::default() });
        links.add(up, down);
        links.add(up, down);
        links
    }

    #[test]
    fn data_waits_behind_data_and_control_does_not() {
        let mut links = links(8_000_000, 0);
        assert_eq!(links.send_data(0, 0, 1, 1_000, 9_999), Sent::At(1_000));
        assert_eq!(links.send_data(0, 0, 1, 1_000, 9_999), Sent::At(2_000));
        assert_eq!(links.send_control(0, 0, 100), 100);
        assert_eq!(
            links.send_data(0, 0, 1, 1_000, 9_999),
            Sent::At(3_100),
            "control took its share"
        );
    }

    #[test]
    fn data_that_would_begin_too_late_is_not_sent() {
        let mut links = links(8_000_000, 0);
        assert_eq!(links.send_data(0, 0, 1, 5_000, 100), Sent::At(5_000));
        assert_eq!(links.send_data(0, 0, 1, 1, 5_000), Sent::Expired);
        assert_eq!(links.send_data(0, 0, 1, 9_000, 5_001), Sent::At(14_000));
        assert_eq!(links.send_data(0, 0, 1, 1, 99_999), Sent::Overflow);
        assert_eq!(links.next_departed(5_000, 0), Some((1, 5_000)));
        assert_eq!(links.next_departed(5_000, 0), None);
    }

    #[test]
    fn what_arrives_at_a_busy_downlink_waits_its_turn() {
        let mut links = links(0, 8_000_000);
        assert_eq!(links.enter(0, 1, 1_000, true), None);
        assert_eq!(links.enter(400, 1, 1_000, true), Some(1_000));
        assert_eq!(links.enter(500, 1, 100, false), None, "control does not wait");
        assert_eq!(links.enter(2_100, 1, 1_000, true), None);
        assert_eq!(links.extra(0, 1, 1_000), 1_000);
    }

    #[test]
    fn infinite_links_take_no_time() {
        let mut links = links(0, 0);
        assert_eq!(links.send_data(7, 0, 1, u32::MAX, 8), Sent::At(7));
        assert_eq!(links.send_control(7, 0, u32::MAX), 7);
    }
}
