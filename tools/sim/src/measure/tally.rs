//! Counters the world keeps while it runs.

use crate::measure::histogram::Histogram;
use crate::node::{Gauges, Index};
use crate::result::KindCount;

/// Connections count as opened for a join if they come up this long after a node's start.
const JOINING: u64 = 10_000_000;

/// Messages of one kind.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    is_data: bool,
    messages: u64,
    bytes: u64,
}

/// What was sent, and to whom.
#[derive(Debug, Default)]
pub struct Tally {
    kinds: Vec<Kind>,
    /// Requests handled by each node that ever was.
    pub requests: Vec<u32>,
    /// Connections each dialled that came up during its first ten seconds.
    pub opened: Vec<u32>,
    /// Those others dialled, in the same time.
    pub accepted: Vec<u32>,
    /// Requests handled, over all nodes.
    pub requests_total: u64,
    /// Control bytes, transport overhead included.
    pub control_bytes: u64,
    /// Data bytes, transport overhead included.
    pub data_bytes: u64,
    /// Control messages.
    pub control_messages: u64,
    /// Bytes the source sent.
    pub source_bytes: u64,
    /// Data dropped because it expired.
    pub expired: u64,
    /// Data dropped at a full queue.
    pub overflowed: u64,
    /// Messages that were lost once.
    pub recovered: u64,
    /// Messages that reached nobody.
    pub undelivered: u64,
    /// Node-microseconds lived by viewers that are gone.
    pub lived: u64,
    /// Breaches counted by nodes that are gone.
    pub violations: u64,
    /// Descriptions rebuilt by nodes that are gone.
    pub regenerated: u64,
    /// From publishing to the first arrival of pieces, in ms.
    pub arrival: Histogram,
    /// Pieces that arrived.
    pub arrived: u64,
    /// Pieces that should: K for each viewer alive when a generation was published.
    pub due: u64,
}

impl Tally {
    /// Makes room for the next node.
    pub(crate) fn add(&mut self) {
        self.requests.push(0);
        self.opened.push(0);
        self.accepted.push(0);
    }

    /// A node is gone; what it counted stays.
    pub(crate) fn gone(&mut self, gauges: &Gauges) {
        self.violations += gauges.violations;
        self.regenerated += gauges.regenerated;
    }

    /// A message is sent: `bytes` framed, `charged` on the link.
    pub(crate) fn sent(
        &mut self,
        kind: &'static str,
        is_data: bool,
        bytes: u32,
        charged: u32,
        is_source: bool,
    ) {
        let known = self.kinds.iter_mut().find(|known| std::ptr::eq(known.name, kind));
        let kind = if let Some(known) = known {
            known
        } else {
            // The same name may stand at two addresses; `kinds` adds those up.
            self.kinds.push(Kind { name: kind, is_data, messages: 0, bytes: 0 });
            self.kinds.last_mut().expect("just pushed")
        };
        kind.messages += 1;
        kind.bytes += u64::from(bytes);
        if is_data {
            self.data_bytes += u64::from(charged);
        } else {
            self.control_bytes += u64::from(charged);
            self.control_messages += 1;
        }
        if is_source {
            self.source_bytes += u64::from(charged);
        }
    }

    /// A node handles a request.
    pub(crate) fn requested(&mut self, node: Index) {
        self.requests[node as usize] += 1;
        self.requests_total += 1;
    }

    /// A node was told of a connection, `age` microseconds after its start.
    pub(crate) fn connected(&mut self, node: Index, age: u64, has_dialled: bool) {
        if age <= JOINING {
            let counts = if has_dialled { &mut self.opened } else { &mut self.accepted };
            counts[node as usize] += 1;
        }
    }

    /// Messages by kind, the most bytes first.
    #[must_use]
    pub fn kinds(&self) -> Vec<KindCount> {
        let mut kinds: Vec<KindCount> = Vec::new();
        for kind in &self.kinds {
            if let Some(known) = kinds.iter_mut().find(|known| known.kind == kind.name) {
                known.messages += kind.messages;
                known.bytes += kind.bytes;
                continue;
            }
            let Kind { name, is_data, messages, bytes } = *kind;
            kinds.push(KindCount { kind: name.to_owned(), is_data, messages, bytes });
        }
        kinds.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.kind.cmp(&b.kind)));
        kinds
    }
}
