//! The limits and waits of a peer, checked once at construction.

use std::time::Duration;

use thiserror::Error;

/// Tunables of one peer in one broadcast. The defaults are tuned for home links of 5 to 100 Mbit/s
/// with round trips of up to 200 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Upload budget in bits per second; children are taken as long as it lasts. 0 makes a peer
    /// that serves nobody. Default 5 Mbit/s: a guess at a home uplink.
    pub upload: u64,
    /// Whether `upload` is only a guess to start from, and the budget follows what the transport
    /// achieves. Default: no, it is what may be used.
    pub estimates_upload: bool,
    /// Download in bits per second: as many stripes are wanted as it takes, one at least. Default:
    /// no bound, so all of them.
    pub download: u64,
    /// From a generation's fastest arrival to its playout. Larger: safer; smaller: more live.
    /// Default 1 s: depth 4 at 40 ms links and one repair of a lost parent fit in.
    pub playout_delay: Duration,
    /// How long generations stay in the store, to serve children that attach late. At the limit
    /// the oldest is dropped. Default 8 s.
    pub retention: Duration,
    /// After this long unsent, a chunk is dropped from a send queue. Default 2 s: a second more than
    /// `playout_delay`.
    pub forward_ttl: Duration,
    /// How long a stripe may lag behind the others before its parent is probed, while its usual lag is
    /// not known; then half of this to four times as much. Default 300 ms: a few hops more than the
    /// fastest stripe took.
    pub stall_after: Duration,
    /// How much longer than the round trip a parent may take to answer a probe, 0 being assumed of a
    /// round trip that is not known. Default 300 ms.
    pub probe_timeout: Duration,
    /// How long a parent that is an orphan itself is waited for. Default 1.5 s.
    pub orphan_patience: Duration,
    /// How long the answer to a JOIN may take. Default 1 s: eight hops of 100 ms and a margin.
    pub join_timeout: Duration,
    /// How long a connection and the answer to an ATTACH may take. Default 2 s.
    pub attach_timeout: Duration,
    /// First wait after a failed JOIN; doubles up to 16 times this, with jitter. Default 50 ms.
    pub retry_delay: Duration,
    /// Between reports to a parent that say nothing urgent. Default 300 ms.
    pub report_interval: Duration,
    /// Between exchanges of contacts with a random neighbour. Default 15 s.
    pub refresh_interval: Duration,
    /// Silence on all stripes after which the source counts as lost. Default 15 s.
    pub source_timeout: Duration,
    /// Children per stripe the source takes at most, if its upload allows. Default 2 (DESIGN.md
    /// §3: no rendezvous peer's death takes a stripe from everyone). Where a tree has no slot left
    /// and nobody to add one, the source takes up to K ÷ 10 children more over all stripes.
    pub source_fanout: u32,
    /// How long a candidate parent is waited for, beyond the round trip, before the next one is asked
    /// as well; longer where answers usually take longer. Default 200 ms.
    pub hedge_after: Duration,
    /// Between looks for a better place in the trees. Default 3 s.
    pub improve_interval: Duration,
    /// What the forest does past the paper.
    pub forest: Forest,
}

/// What the forest does past the SplitStream paper. All of it is on by default; each can be switched
/// off to measure its worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Forest {
    /// Peers whose stripe has slots to spare take the primary stripe that lacks them. Off: the
    /// primary stripe is the digit of the Kademlia key, for good.
    pub role_change: bool,
    /// Where no peer can change its role, one with a free slot serves a second stripe rather than
    /// leave somebody without it. Off: invariant 1 holds even where supply does not suffice.
    pub second_roles: bool,
    /// The order of a tree puts stronger peers first. Off: it is that of the keys alone.
    pub capacity_order: bool,
    /// Parents to turn to are kept ready and several are asked at a time. Off: whoever loses its
    /// parent sends a JOIN.
    pub standby: bool,
    /// While supply is short, those who upload less have fewer stripes. Off: whoever comes late
    /// has.
    pub fair_shares: bool,
    /// A child that must give way is served until it has another parent. Off: it is cut off at
    /// once, as in the paper.
    pub make_before_break: bool,
    /// Natives move up where there is room for them above their parent.
    pub improvement: bool,
    /// Peers know by coordinates who is near them: these are kept, turned to first, and moved to.
    /// Off: nearness is known only of those we have been connected with.
    pub proximity: bool,
}

impl Default for Forest {
    fn default() -> Self {
        Self {
            role_change: true,
            second_roles: true,
            capacity_order: true,
            standby: true,
            fair_shares: true,
            make_before_break: true,
            improvement: true,
            proximity: true,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upload: 5_000_000,
            estimates_upload: false,
            download: u64::MAX,
            playout_delay: Duration::from_millis(1000),
            retention: Duration::from_secs(8),
            forward_ttl: Duration::from_secs(2),
            stall_after: Duration::from_millis(300),
            probe_timeout: Duration::from_millis(300),
            orphan_patience: Duration::from_millis(1500),
            join_timeout: Duration::from_secs(1),
            attach_timeout: Duration::from_secs(2),
            retry_delay: Duration::from_millis(50),
            report_interval: Duration::from_millis(300),
            refresh_interval: Duration::from_secs(15),
            source_timeout: Duration::from_secs(15),
            source_fanout: 2,
            hedge_after: Duration::from_millis(200),
            improve_interval: Duration::from_secs(3),
            forest: Forest::default(),
        }
    }
}

/// A relation between settings that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A duration that must not be zero is.
    #[error("`{0}` must not be zero")]
    Zero(&'static str),
    /// The store would forget what is still to be played.
    #[error("`retention` must be longer than `playout_delay`")]
    RetentionTooShort,
    /// The source would feed nobody.
    #[error("`source_fanout` must be at least 1")]
    NoFanout,
    /// The broadcast id is not a public key.
    #[error("the broadcast id is not an Ed25519 public key")]
    Broadcast,
}

impl Config {
    /// Checks the relations between settings.
    ///
    /// # Errors
    /// [`ConfigError`] names the first one that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let durations = [
            (self.playout_delay, "playout_delay"),
            (self.forward_ttl, "forward_ttl"),
            (self.stall_after, "stall_after"),
            (self.probe_timeout, "probe_timeout"),
            (self.orphan_patience, "orphan_patience"),
            (self.join_timeout, "join_timeout"),
            (self.attach_timeout, "attach_timeout"),
            (self.retry_delay, "retry_delay"),
            (self.report_interval, "report_interval"),
            (self.refresh_interval, "refresh_interval"),
            (self.source_timeout, "source_timeout"),
            (self.hedge_after, "hedge_after"),
            (self.improve_interval, "improve_interval"),
        ];
        if let Some((_, name)) = durations.iter().find(|(duration, _)| duration.is_zero()) {
            return Err(ConfigError::Zero(name));
        }
        if self.retention <= self.playout_delay {
            return Err(ConfigError::RetentionTooShort);
        }
        if self.source_fanout == 0 {
            return Err(ConfigError::NoFanout);
        }
        Ok(())
    }
}
