//! What the kernel says was used: processor time, memory, bytes on the loopback interface.
//!
//! Decides where figures come from. What they are divided by is left to the benches.
//!
//! CPU is `CLOCK_PROCESS_CPUTIME_ID`: user and system time of all threads, to the nanosecond. On
//! loopback the kernel delivers a packet within the sender's system call, so the kernel's share of
//! receiving is booked on the sender: the same for every system measured here.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::units::ratio;

/// Ticks of `/proc/stat` per second; 100 on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// Processor time this process has used.
pub(crate) fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Processor time the children of this process used, those that have been waited for.
pub(crate) fn children_cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    // The name in parentheses may hold blanks; the times are the 16th and 17th field.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = rest
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(Duration::from_secs_f64(ticks / TICKS))
}

/// Processor time all processes of this machine have used, on all cores.
fn machine_cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<f64> =
        line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum::<f64>();
    Ok(Duration::from_secs_f64(busy / TICKS))
}

/// Memory of this process, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: u64,
    /// The most that ever was.
    pub(crate) peak: u64,
}

/// Memory of this process.
pub(crate) fn memory() -> Result<Memory> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kilobytes.map_or(0, |kilobytes| kilobytes * 1024)
    };
    Ok(Memory { resident: field("VmRSS:"), peak: field("VmHWM:") })
}

/// Bytes that have gone over the loopback interface, IP headers included.
///
/// Packets that the kernel hands over in one piece (GSO) count one set of headers.
fn loopback_bytes() -> Result<u64> {
    let table = fs::read_to_string("/proc/net/dev").context("reading /proc/net/dev")?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let sent = line.and_then(|line| line.split_whitespace().nth(8)?.parse().ok());
    sent.context("/proc/net/dev does not list lo")
}

/// UDP datagrams received, and those dropped because a socket's receive buffer was full. A GSO
/// batch that the kernel keeps in one piece counts as one.
fn datagrams() -> Result<(u64, u64)> {
    let table = fs::read_to_string("/proc/net/snmp").context("reading /proc/net/snmp")?;
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, values) = lines.next().zip(lines.next()).context("no UDP counters")?;
    let fields = || names.split_whitespace().zip(values.split_whitespace());
    let field = |wanted| {
        let value = fields().find(|(name, _)| *name == wanted).map(|(_, value)| value.parse());
        value.and_then(Result::ok).unwrap_or(0)
    };
    Ok((field("InDatagrams"), field("RcvbufErrors")))
}

/// The load average of the last minute, as the kernel prints it.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

/// The machine's and the loopback's counters at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    cpu: Duration,
    loopback: u64,
    datagrams: (u64, u64),
}

/// What happened on the machine between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Processor time of all programs.
    cpu: Duration,
    /// Bytes over loopback.
    pub(crate) loopback: u64,
    /// UDP datagrams that arrived, and those that found no room.
    datagrams: (u64, u64),
}

impl Machine {
    pub(crate) fn now() -> Result<Self> {
        Ok(Self { cpu: machine_cpu()?, loopback: loopback_bytes()?, datagrams: datagrams()? })
    }

    /// From `earlier` to this.
    pub(crate) fn since(&self, earlier: &Self) -> Window {
        Window {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            loopback: self.loopback.saturating_sub(earlier.loopback),
            datagrams: (
                self.datagrams.0.saturating_sub(earlier.datagrams.0),
                self.datagrams.1.saturating_sub(earlier.datagrams.1),
            ),
        }
    }
}

impl Window {
    /// Share of datagrams that found no room in their socket's receive buffer.
    pub(crate) fn drop_rate(&self) -> f64 {
        let (received, dropped) = self.datagrams;
        ratio(dropped, (received + dropped).max(1))
    }

    /// Cores that others kept busy, given what was ours.
    pub(crate) fn other_cores(&self, own: Duration, elapsed: Duration) -> f64 {
        self.cpu.saturating_sub(own).as_secs_f64() / elapsed.as_secs_f64()
    }
}
