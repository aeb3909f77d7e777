//! `swarm`: what a whole swarm costs in one process, against gossipsub with the same payload.
//!
//! Decides what is compared and which figures from elsewhere stand beside it. The two swarms are in
//! [`ours`] and [`gossip`].

pub(crate) mod gossip;
pub(crate) mod ours;

use std::time::Duration;

use anyhow::Result;

use crate::meter::{self, Machine};
use crate::payload::{GENERATION, Layering, Plan};
use crate::report::{Column, Report};
use crate::units::{Bitrate, per_gigabyte, ratio};
use banyan_wire::StripeCount;
use gossip::Transport;

/// How long the loopback is listened to before anything runs, to see what others do there.
const SILENCE: Duration = Duration::from_secs(1);
const GOAL_NOW: f64 = 15.0;
const GOAL_LATER: f64 = 10.0;
const GOAL_WIRE: f64 = 1.03;

/// Measured on another day by other programs (reference/peers.md B0): system, CPU-s/GB, wire.
const ELSEWHERE: [(&str, f64, Option<f64>); 6] = [
    ("moq-relay 0.17.10, star", 10.1, Some(1.0)),
    ("iroh-gossip 0.101, 16 KiB", 16.4, Some(1.004)),
    ("FreePastry SplitStream, in the clear", 14.5, Some(1.0)),
    ("peercast-yt star, in the clear", 4.4, Some(1.0)),
    ("gossipsub 0.56 TCP, 16 KiB", 87.0, Some(6.9)),
    ("PeerStreamer at 2 Mbit/s, in the clear", 79.0, None),
];

/// Settings of the bench.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Peers, the source included.
    #[arg(long, default_value_t = 9)]
    pub(crate) peers: u32,
    /// Rate of the coded stream, all stripes together.
    #[arg(long, default_value = "10Mbit")]
    rate: Bitrate,
    /// Length of the measured window.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Length of each of gossipsub's windows; 0 leaves gossipsub out.
    #[arg(long, default_value_t = 8)]
    gossipsub_seconds: u64,
    /// How generations are laid out.
    #[arg(long, value_enum, default_value = "priority")]
    layering: Layering,
}

/// What a swarm used, and what came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Processor time of all peers.
    pub(crate) cpu: Duration,
    /// Programme bytes that all receivers together should have got.
    pub(crate) needed: u64,
    /// Programme bytes they got, each counted once per receiver.
    pub(crate) delivered: u64,
    /// Coded bytes that all receivers together should have got; 0 where nothing is coded.
    pub(crate) coded: u64,
    /// Media and control bytes on the streams; 0 where they cannot be counted.
    pub(crate) framed: u64,
    /// Of those, control.
    pub(crate) control: u64,
    /// Bytes over loopback, everybody's.
    pub(crate) loopback: u64,
    /// Share of UDP datagrams dropped at full receive buffers.
    pub(crate) drop_rate: f64,
    /// Cores that other programs kept busy.
    pub(crate) other_cores: f64,
}

/// Measures ours, then gossipsub over either transport.
pub(crate) async fn measure(options: Options) -> Result<Report> {
    let plan = Plan::for_coded_rate(options.rate, options.layering, StripeCount::DEFAULT);
    let quiet = Machine::now()?;
    tokio::time::sleep(SILENCE).await;
    let noise = Machine::now()?.since(&quiet).loopback;

    let detail = ours::measure(&plan, options.peers, options.seconds).await?;
    let ours = detail.outcome;
    let mut rows = vec![("banyan, splitstream, QUIC", ours)];
    if options.gossipsub_seconds > 0 {
        let systems = [
            ("gossipsub 0.57, QUIC, 16 KiB", Transport::Quic),
            ("gossipsub 0.57, TCP+Noise+yamux, 16 KiB", Transport::Tcp),
        ];
        for (name, transport) in systems {
            let seconds = options.gossipsub_seconds;
            let outcome =
                gossip::measure(transport, plan.media_bytes(), options.peers, seconds).await?;
            rows.push((name, outcome));
        }
    }

    let media = Bitrate(plan.media_bytes() as u64 * 8).times(1.0 / GENERATION.as_secs_f64());
    let title = format!(
        "swarm: {} peers in one process, coded stream {} in 16 stripes (programme {media}, {:?}), \
         chunks of {} bytes, {} s",
        options.peers,
        options.rate,
        options.layering,
        plan.chunk_length(),
        options.seconds,
    );
    let columns = [
        Column { name: "CPU-s/GB programme", decimals: 2 },
        Column { name: "CPU-s/GB coded", decimals: 2 },
        Column { name: "delivered %", decimals: 2 },
        Column { name: "frames/coded", decimals: 4 },
        Column { name: "control %", decimals: 3 },
        Column { name: "lo/coded", decimals: 3 },
        Column { name: "lo/programme", decimals: 3 },
        Column { name: "UDP drops %", decimals: 2 },
        Column { name: "others' cores", decimals: 2 },
    ];
    let mut report = Report::new(title, &columns);
    for (name, outcome) in &rows {
        report.row(*name, cells(outcome));
    }
    for (name, cpu, wire) in ELSEWHERE {
        let cells = vec![Some(cpu), None, None, None, None, None, wire, None, None];
        report.row(format!("  elsewhere: {name}"), cells);
    }
    let cost = per_gigabyte(ours.cpu, ours.delivered);
    report.goal("CPU-s per GB of programme (now)", cost, GOAL_NOW);
    report.goal("CPU-s per GB of programme (later)", cost, GOAL_LATER);
    report.goal("bytes in frames / coded stream", ratio(ours.framed, ours.coded), GOAL_WIRE);
    if let Some((_, gossip)) = rows.get(1) {
        let theirs = per_gigabyte(gossip.cpu, gossip.delivered);
        report.goal("CPU per GB, banyan / gossipsub QUIC", cost / theirs, 1.0);
    }
    report.note("CPU of the whole process: source, all viewers, libp2p, measuring");
    report.note("GB of programme: bytes of layers that reached playout, each once per viewer");
    report.note(detail.text());
    for viewer in detail.incomplete {
        report.note(viewer);
    }
    report.note(
        "lo: bytes at IP level from /proc/net/dev, everybody's; a GSO batch counts one set of \
         headers, so QUIC's true figure is up to 2 % higher; to keep others' bytes out: unshare -n \
         sh -c 'ip link set lo up; banyan-bench swarm'",
    );
    report.note(
        "UDP drops: packets (GSO batches count once) that found their socket's buffer full, and \
         were sent again by QUIC",
    );
    report.note(format!("lo before the run: {noise} bytes in {SILENCE:?}; load {}", meter::load()));
    report.note("elsewhere: reference/peers.md B0, 9 nodes at 10 Mbit/s of payload unless said");
    Ok(report)
}

fn cells(outcome: &Outcome) -> Vec<Option<f64>> {
    let some = |bytes: u64, value: f64| (bytes > 0).then_some(value);
    let Outcome { coded, framed, .. } = *outcome;
    vec![
        Some(per_gigabyte(outcome.cpu, outcome.delivered)),
        some(coded, per_gigabyte(outcome.cpu, coded)),
        Some(ratio(outcome.delivered, outcome.needed) * 100.0),
        some(coded, ratio(framed, coded)),
        some(framed, ratio(outcome.control, framed) * 100.0),
        some(coded, ratio(outcome.loopback, coded)),
        Some(ratio(outcome.loopback, outcome.needed)),
        Some(outcome.drop_rate * 100.0),
        Some(outcome.other_cores),
    ]
}
