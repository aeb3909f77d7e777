//! Machines that several nodes share: what happens to a node waits for a core.
//!
//! ```text
//!   what is due at a node ──▶ first come, first served on the cores ──▶ the node is told
//! ```
//!
//! A real swarm on one machine answers late where a simulated one does not, and a protocol that is in
//! haste may thrive here and break there. Left out are caches, the scheduler's slices and priorities,
//! and what a kernel does for its packets.
//!
//! Decides when a node comes to handle what is due. What that is stays with [`crate::world`].

use crate::node::Index;
use crate::scenario::Machine as Settings;

/// What a core has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Nothing worth counting, in its turn.
    Little,
    /// A control message.
    Message,
    /// A message of data.
    Chunk,
    /// Something a node wanted to be woken for.
    Timer,
    /// One end of a handshake.
    Handshake,
}

/// All machines.
#[derive(Debug)]
pub(crate) struct Machines {
    settings: Settings,
    /// When each core of each machine is free.
    free_at: Vec<u64>,
    /// When each node will have handled what was handed to it.
    done_at: Vec<u64>,
    /// Whether each node's wake-up waits for a core.
    is_waking: Vec<bool>,
    /// Microseconds that cores have worked, or will have.
    worked: u64,
    /// The longest wait for a core.
    longest: u64,
}

impl Machines {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            free_at: Vec::new(),
            done_at: Vec::new(),
            is_waking: Vec::new(),
            worked: 0,
            longest: 0,
        }
    }

    const fn is_on(&self) -> bool {
        self.settings.nodes > 0
    }

    /// Places the next node: machines are filled one after the other.
    pub(crate) fn add(&mut self) {
        if !self.is_on() {
            return;
        }
        self.done_at.push(0);
        self.is_waking.push(false);
        let machines = self.done_at.len().div_ceil(self.settings.nodes as usize);
        self.free_at.resize(machines * self.settings.cores as usize, 0);
    }

    /// When `node` will have handled what is due now and takes so much work; now where no machines
    /// are shared.
    pub(crate) fn take(&mut self, now: u64, node: Index, work: Work) -> u64 {
        if !self.is_on() {
            return now;
        }
        let node = node as usize;
        let cores = self.settings.cores as usize;
        let first = node / self.settings.nodes as usize * cores;
        let cores = &mut self.free_at[first..first + cores];
        let takes = match work {
            Work::Little => 0,
            Work::Message => self.settings.per_message.micros(),
            Work::Chunk => self.settings.per_chunk.micros(),
            Work::Timer => self.settings.per_timer.micros(),
            Work::Handshake => self.settings.per_handshake.micros(),
        };
        let mut begins = now;
        if takes > 0
            && let Some(core) = cores.iter_mut().min()
        {
            begins = now.max(*core);
            *core = begins + takes;
            self.worked += takes;
            self.longest = self.longest.max(begins - now);
        }
        // A node does one thing after the other.
        let done = (begins + takes).max(self.done_at[node]);
        self.done_at[node] = done;
        done
    }

    /// Notes whether the wake-up of `node` waits for a core.
    pub(crate) fn set_waking(&mut self, node: Index, is_waking: bool) {
        if let Some(waking) = self.is_waking.get_mut(node as usize) {
            *waking = is_waking;
        }
    }

    /// Whether it does: until it has been woken, what it wants to be woken for may be past.
    pub(crate) fn is_waking(&self, node: Index) -> bool {
        self.is_waking.get(node as usize).copied().unwrap_or(false)
    }

    /// The share of all cores' time up to `now` that they worked, what waits for them included; 0
    /// without machines.
    pub(crate) fn load(&self, now: u64) -> f64 {
        crate::measure::ratio(self.worked, (now * self.free_at.len() as u64).max(1))
    }

    /// The longest wait for a core, in microseconds.
    pub(crate) const fn longest_wait(&self) -> u64 {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Span;

    fn machines(nodes: u32, cores: u32, add: usize) -> Machines {
        let mut machines = Machines::new(&Settings {
            nodes,
            cores,
            per_message: Span::millis(1),
            per_handshake: Span::millis(5),
            ..Settings::default()
        });
        (0..add).for_each(|_| machines.add());
        machines
    }

    #[test]
    fn without_machines_nothing_waits() {
        let mut machines = machines(0, 1, 9);
        assert_eq!((0..9).map(|n| machines.take(7, n, Work::Handshake)).max(), Some(7));
        assert_eq!((machines.load(9), machines.longest_wait()), (0.0, 0));
    }

    #[test]
    fn what_more_than_the_cores_have_to_do_waits_its_turn() {
        let mut machines = machines(8, 2, 8);
        let done: Vec<u64> = (0..5).map(|n| machines.take(0, n, Work::Message)).collect();
        assert_eq!(done, [1_000, 1_000, 2_000, 2_000, 3_000]);
        assert_eq!(machines.longest_wait(), 2_000);
        assert_eq!(machines.take(10_000, 0, Work::Message), 11_000, "they have been idle since");
    }

    #[test]
    fn a_node_handles_what_is_due_in_order_whatever_it_takes() {
        let mut machines = machines(2, 2, 2);
        assert_eq!(machines.take(0, 0, Work::Handshake), 5_000);
        assert_eq!(machines.take(0, 0, Work::Message), 5_000, "another core, but not before");
        assert_eq!(machines.take(0, 0, Work::Little), 5_000);
    }

    #[test]
    fn machines_do_not_wait_for_each_other() {
        let mut machines = machines(2, 1, 3);
        assert_eq!(machines.take(0, 0, Work::Message), 1_000);
        assert_eq!(machines.take(0, 1, Work::Message), 2_000);
        assert_eq!(machines.take(0, 2, Work::Message), 1_000);
    }
}
