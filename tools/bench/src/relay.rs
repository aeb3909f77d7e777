//! `relay`: what it costs one peer to hand a stream on to its children, against a bare stream.
//!
//! ```text
//!   process 1      process 2        process 3
//!   source ──────▶ relay ═════════▶ children, 8 of them
//!                  ▲ its CPU is measured, nobody else's
//! ```
//!
//! Both systems move the same chunks at the same ticks over libp2p's QUIC with the same windows. The
//! bare one is a `libp2p-stream` for each child and nothing else: no verification, no store, no
//! control traffic. Decides what is compared; the two relays are in [`ours`] and [`bare`].

mod bare;
mod ours;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;

use crate::meter::Machine;
use crate::payload::GENERATION;
use crate::report::{Column, Report};
use crate::roles::{self, Ask, Process, Sample, Say};
use crate::units::{Bitrate, as_f64, megabytes, per_gigabyte};

/// Chunk length of a K = 1 stream from 1 Mbit/s on: the longest `banyan-coding` makes.
pub(crate) const CHUNK: usize = 8 * 1024;
/// From the first tick to the measured window. It begins, and so ends, 100 ms before a tick, when
/// everything sent earlier has long arrived.
const WARM_UP: Duration = Duration::from_millis(1_900);
/// Ticks a saturated source may be ahead of the slowest child.
const WINDOW: u64 = 2;
/// Without progress for this long a saturated source goes on all the same: chunks may be lost.
const STALL: Duration = Duration::from_millis(300);
/// The first goal, and the one of DESIGN.md §9.
const GOAL_NOW: f64 = 1.5;
const GOAL_LATER: f64 = 1.25;

/// How the stream is fed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Feed {
    /// Payload bytes of a tick, a whole number of chunks.
    pub(crate) tick_bytes: usize,
    /// Whether the next tick waits for the receivers instead of the clock.
    pub(crate) is_saturated: bool,
}

/// A process of this bench.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Role {
    /// Whether it is Banyan's or the bare stream's.
    is_ours: bool,
    part: Part,
    feed: Feed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Source,
    Relay { via: Vec<String>, children: u32 },
    Children { via: Vec<String>, count: u32 },
}

/// Settings of the bench.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Children of the relay.
    #[arg(long, default_value_t = 8)]
    children: u32,
    /// Rate of the stream.
    #[arg(long, default_value = "10Mbit")]
    rate: Bitrate,
    /// Length of a measured window.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Windows of each system, taken in turn.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// As fast as it goes, two ticks in flight, instead of paced.
    #[arg(long)]
    saturated: bool,
}

/// What a relay used in all windows.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    cpu: Duration,
    sent: u64,
    framed: u64,
    lost: u64,
    elapsed: Duration,
    peak: u64,
}

impl Used {
    fn add(&mut self, before: &Sample, after: &Sample, elapsed: Duration) {
        self.cpu += after.cpu - before.cpu;
        self.sent += after.sent - before.sent;
        self.framed += after.framed - before.framed;
        self.lost += after.lost - before.lost;
        self.elapsed += elapsed;
        self.peak = self.peak.max(after.memory.peak);
    }
}

/// Measures both and compares them.
pub(crate) async fn measure(options: Options) -> Result<Report> {
    let chunks = (options.rate.bytes_in(GENERATION) / CHUNK).max(1);
    let feed = Feed { tick_bytes: chunks * CHUNK, is_saturated: options.saturated };
    let mut used = [Used::default(); 2];
    let mut ratios = Vec::new();
    let mut others = Vec::new();
    for _ in 0..options.rounds.max(1) {
        let mut costs = [0.0; 2];
        for (is_ours, index) in [(false, 0), (true, 1)] {
            let (one, other_cores) = one_window(is_ours, feed, options).await?;
            costs[index] = per_gigabyte(one.cpu, one.sent);
            let all = &mut used[index];
            all.cpu += one.cpu;
            all.sent += one.sent;
            all.framed += one.framed;
            all.lost += one.lost;
            all.elapsed += one.elapsed;
            all.peak = all.peak.max(one.peak);
            others.push(format!("{other_cores:.2}"));
        }
        ratios.push(format!("{:.2}", costs[1] / costs[0]));
    }
    let how = if options.saturated { "saturated".to_owned() } else { format!("{}", options.rate) };
    let title = format!(
        "relay: 1 relay, {} children, {how}, ticks of {chunks} chunks of {CHUNK} bytes, {} x {} s",
        options.children, options.rounds, options.seconds
    );
    let columns = [
        Column { name: "CPU-s/GB sent", decimals: 2 },
        Column { name: "% of a core", decimals: 1 },
        Column { name: "MB/s sent", decimals: 1 },
        Column { name: "stream bytes/payload", decimals: 4 },
        Column { name: "chunks lost", decimals: 0 },
        Column { name: "peak RSS MB", decimals: 1 },
    ];
    let mut report = Report::new(title, &columns);
    for (name, one) in ["bare libp2p QUIC stream", "banyan"].into_iter().zip(&used) {
        let seconds = one.elapsed.as_secs_f64();
        report.row(
            name,
            vec![
                Some(per_gigabyte(one.cpu, one.sent)),
                Some(one.cpu.as_secs_f64() / seconds * 100.0),
                Some(megabytes(one.sent) / seconds),
                Some(as_f64(one.framed) / as_f64(one.sent)),
                Some(as_f64(one.lost)),
                Some(megabytes(one.peak)),
            ],
        );
    }
    let [bare, ours] = used.map(|one| per_gigabyte(one.cpu, one.sent));
    report.goal("relay CPU, banyan / bare (now)", ours / bare, GOAL_NOW);
    report.goal("relay CPU, banyan / bare (later)", ours / bare, GOAL_LATER);
    report.note(format!("ratio of each round: {}", ratios.join(", ")));
    report.note("CPU of the relay's process alone; GB of payload sent to children");
    report.note(format!(
        "cores other programs kept busy in each window: {}; load now {}",
        others.join(", "),
        crate::meter::load()
    ));
    Ok(report)
}

async fn one_window(is_ours: bool, feed: Feed, options: Options) -> Result<(Used, f64)> {
    let role = |part| roles::Role::Relay(Role { is_ours, part, feed });
    let (mut source, via) = Process::start(&role(Part::Source)).await?;
    let part = Part::Relay { via, children: options.children };
    let (mut relay, via) = Process::start(&role(part)).await?;
    let part = Part::Children { via, count: options.children };
    let (mut children, _) = Process::start(&role(part)).await?;

    source.ask(Ask::Begin).await?;
    children.ask(Ask::Begin).await?;
    pump(&mut source, &mut children, feed, WARM_UP).await?;
    let began = Instant::now();
    let machine = Machine::now()?;
    let before = relay.mark().await?;
    let others_before = source.mark().await?.cpu + children.mark().await?.cpu;
    pump(&mut source, &mut children, feed, Duration::from_secs(options.seconds)).await?;
    let after = relay.mark().await?;
    let elapsed = began.elapsed();
    let window = Machine::now()?.since(&machine);
    let others = source.mark().await?.cpu + children.mark().await?.cpu - others_before;
    ensure!(
        after.children == u64::from(options.children),
        "the relay has {} children, not {}",
        after.children,
        options.children
    );
    for process in [children, relay, source] {
        process.end().await?;
    }
    let mut used = Used::default();
    used.add(&before, &after, elapsed);
    Ok((used, window.other_cores(used.cpu + others, elapsed)))
}

/// Lets the stream run; a saturated one needs its receivers' progress passed on.
async fn pump(
    source: &mut Process,
    children: &mut Process,
    feed: Feed,
    duration: Duration,
) -> Result<()> {
    let sleep = tokio::time::sleep(duration);
    if !feed.is_saturated {
        sleep.await;
        return Ok(());
    }
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            () = &mut sleep => return Ok(()),
            said = children.hear() => {
                if let Say::Progress(ticks) = said? {
                    source.ask(Ask::Credit(ticks)).await?;
                }
            }
        }
    }
}

/// Plays a role to its end.
pub(crate) async fn run(role: Role) -> Result<()> {
    let Role { is_ours, part, feed } = role;
    match (part, is_ours) {
        (Part::Source, true) => ours::source(feed).await,
        (Part::Relay { via, children }, true) => ours::relay(feed, &via, children).await,
        (Part::Children { via, count }, true) => ours::children(feed, &via, count).await,
        (Part::Source, false) => bare::source(feed).await,
        (Part::Relay { via, .. }, false) => bare::relay(feed, &via).await,
        (Part::Children { via, count }, false) => bare::children(feed, &via, count).await,
    }
}

/// When a source's next tick is due.
#[derive(Debug)]
struct Ticks {
    feed: Feed,
    clock: tokio::time::Interval,
    sent: u64,
    credit: u64,
    last_credit: Instant,
}

impl Ticks {
    fn new(feed: Feed) -> Self {
        let mut clock = tokio::time::interval(GENERATION);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { feed, clock, sent: 0, credit: 0, last_credit: Instant::now() }
    }

    fn on_credit(&mut self, ticks: u64) {
        self.credit = self.credit.max(ticks);
        self.last_credit = Instant::now();
    }

    /// Waits for the next tick. May be dropped and called again.
    async fn next(&mut self) {
        if !self.feed.is_saturated {
            self.clock.tick().await;
            return;
        }
        if self.sent >= self.credit + WINDOW {
            tokio::time::sleep_until((self.last_credit + STALL).into()).await;
            self.credit = self.sent;
            self.last_credit = Instant::now();
        }
        self.sent += 1;
    }
}

/// Ticks that all receivers have whole, told to the bench whenever they become more.
#[derive(Debug, Default)]
struct Progress {
    told: u64,
}

impl Progress {
    /// How often receivers are looked at.
    const INTERVAL: Duration = Duration::from_millis(2);

    fn tell(&mut self, least_received: u64, feed: Feed) -> Result<()> {
        let ticks = least_received / (feed.tick_bytes as u64);
        if ticks > self.told {
            self.told = ticks;
            roles::say(&Say::Progress(ticks))?;
        }
        Ok(())
    }
}
