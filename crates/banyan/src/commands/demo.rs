//! `banyan demo`: a whole broadcast on this machine, over real connections.
//!
//! Decides what a demonstration shows: the forest is built first, then a clip is streamed through
//! it in real time, and at the end a table says what every viewer got and what the source sent.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use banyan_core::{Config, Event, Role, Snapshot};
use banyan_media::Generation;
use banyan_net::{Identity, JoinRequest, Membership, Node, NodeConfig, NodeHandle};
use banyan_wire::{BroadcastKey, MediaTime, Overlay, Track};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::cli::{Demo, LayeringArg, RedundancyArg, Upload};
use crate::commands::publish::{Source, SourceSetup, mbit};
use crate::commands::{multiaddr, say, seed_of};
use crate::error::{Failure, Outcome};
use crate::eventlog::Played;
use crate::face::HttpFace;
use crate::input::{self, Input, Item, Reading, complete_at};
use crate::player::Player;
use crate::signals;

/// The clip that is streamed unless another is named. Big Buck Bunny, (c) 2008 Blender Foundation,
/// CC BY 3.0; see `assets/NOTE.md`.
const CLIP: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../assets/bbb_480p24_30s_h264_aac.mp4"
));
/// Every node's upload, as a multiple of the coded stream: two children per stripe for the source,
/// and as much for every viewer.
const UPLOAD: u64 = 2;
/// Between one viewer's start and the next.
const STAGGER: Duration = Duration::from_millis(40);
/// Multiples of the coded stream the source may send: two children for each stripe, and one more
/// in one stripe of ten.
const MOST: f64 = 2.1;
/// How long the forest may take to become complete.
const BUILD: Duration = Duration::from_secs(60);
/// After the last generation, for viewers to play it.
const LINGER: Duration = Duration::from_secs(3);
/// Where the picture is served unless something else is asked for.
const DEFAULT_HTTP: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);

pub(super) async fn run(options: Demo) -> Outcome {
    let (path, _clip) = clip(options.input.clone())?;
    let mut input = input::open(&Input::File(path), Reading::default()).await?;
    let totals = input.totals.clone().unwrap_or_default();
    let http = face(options.http)?;

    // The rate of the file is known, so both kinds of upload can be given as multiples of it.
    let node = Node::start(node_config(options.seed, 0, Vec::new(), true)).await?;
    let key = BroadcastKey::from_seed(&seed_of(options.seed, 1));
    let setup = SourceSetup {
        title: "banyan demo".into(),
        overlay: Overlay::SplitStream,
        stripes: options.stripes,
        layering: LayeringArg::Ladder,
        redundancy: RedundancyArg::Auto,
        upload: Upload { rate: u64::MAX, is_estimated: false },
        seed: Some(seed_of(options.seed, 2)),
    };
    let mut source = Source::start(&node, key, setup, Some(&totals)).await?;
    let rate = source.coded_rate();
    let mut stage = Stage::new(&options, http.as_ref());
    stage.note(&format!(
        "a source and {} viewers, {} stripes, {:.2} Mbit/s coded; each may upload {UPLOAD} x that",
        options.viewers,
        options.stripes.value(),
        mbit(rate)
    ));
    let mut viewers = Vec::new();
    for n in 0..options.viewers {
        let face = if n == 0 { http.as_ref().map(|http| http.hub.clone()) } else { None };
        let via = node.listen_addresses();
        viewers.push(
            Viewer::start(
                &options,
                n,
                rate * UPLOAD,
                source.membership.broadcast(),
                via,
                face,
                &totals.tracks,
            )
            .await?,
        );
        stage.building(&viewers);
        sleep(STAGGER).await;
    }

    let result = tokio::select! {
        result = broadcast(&mut source, &mut input.items, &mut stage, &viewers, &node, http.as_ref(), options.duration) => result,
        () = signals::interrupted() => Ok(0),
    };
    let coded_bytes = match result {
        Ok(bytes) => bytes,
        Err(failure) => {
            stage.done();
            return Err(failure);
        }
    };
    source.end().await;
    let _ = timeout(LINGER * 2, async {
        for viewer in &viewers {
            let mut reports = viewer.reports.clone();
            drop(reports.wait_for(|report| report.has_ended).await);
        }
    })
    .await;
    stage.done();
    let snapshot = source.membership.snapshot().await?;
    let reports: Vec<Report> =
        viewers.iter().map(|viewer| viewer.reports.borrow().clone()).collect();
    let verdict = table(&source, &snapshot, coded_bytes, &reports, options.stripes.value());
    for viewer in viewers {
        drop(viewer.stop);
        drop(viewer.task.await);
    }
    source.membership.leave().await;
    node.shutdown().await;
    verdict
}

/// Builds the forest, then streams. Returns the bytes of the coded stream.
async fn broadcast(
    source: &mut Source,
    items: &mut tokio::sync::mpsc::Receiver<Item>,
    stage: &mut Stage,
    viewers: &[Viewer],
    node: &NodeHandle,
    http: Option<&HttpFace>,
    duration: Option<Duration>,
) -> Outcome<u64> {
    let built = async {
        while !viewers.iter().all(|viewer| viewer.reports.borrow().is_settled()) {
            stage.building(viewers);
            sleep(Duration::from_millis(100)).await;
        }
    };
    let began = Instant::now();
    timeout(BUILD, built)
        .await
        .map_err(|_| Failure::failed("the forest did not become complete within a minute"))?;
    stage.note(&format!("the forest is complete after {:.1} s", began.elapsed().as_secs_f64()));

    let began = Instant::now();
    let mut first: Option<MediaTime> = None;
    let mut coded_bytes = 0;
    let mut tick = interval(Duration::from_millis(500));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(item) = items.recv().await {
        let generation: Generation = match item {
            Item::Generation(generation) => generation,
            Item::Failed(failure) => return Err(failure),
            Item::Tracks(_) | Item::Notice(_) => continue,
        };
        let start = *first.get_or_insert(generation.start);
        let due = began + complete_at(&generation, start);
        if duration.is_some_and(|duration| due > began + duration) {
            break;
        }
        source.listen_until(due).await;
        coded_bytes += source.publish(&generation).await?;
        let snapshot = source.membership.snapshot().await?;
        stage.streaming(viewers, &snapshot, coded_bytes, began.elapsed());
        if let Some(http) = http {
            let report = viewers[0].reports.borrow().clone();
            if let Some(snapshot) = report.snapshot {
                http.show(snapshot, &node.stats(), &report.played);
            }
        }
    }
    Ok(coded_bytes)
}

/// The clip's file; the one that is built in is written to a temporary one.
fn clip(input: Option<PathBuf>) -> Outcome<(PathBuf, Option<tempfile::NamedTempFile>)> {
    if let Some(path) = input {
        return Ok((path, None));
    }
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(CLIP)?;
    Ok((file.path().to_owned(), Some(file)))
}

/// The HTTP face. Where nobody asked for an address, a taken port is no reason to stop.
fn face(asked: Option<SocketAddr>) -> Outcome<Option<HttpFace>> {
    match asked {
        Some(address) => HttpFace::start(address).map(Some),
        None => Ok(HttpFace::start(DEFAULT_HTTP.into()).ok()),
    }
}

fn node_config(
    seed: u64,
    n: u64,
    bootstrap: Vec<banyan_net::Multiaddr>,
    is_dht_server: bool,
) -> NodeConfig {
    let mut config = NodeConfig::new(Identity::from_seed(seed_of(seed, 1000 + n)));
    config.listen = vec![multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")];
    config.bootstrap = bootstrap;
    config.is_dht_server = is_dht_server;
    config
}

/// What a viewer says of itself.
#[derive(Clone, Debug, Default)]
struct Report {
    snapshot: Option<Snapshot>,
    played: Played,
    has_ended: bool,
}

impl Report {
    fn has_joined(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| snapshot.manifest.is_some())
    }

    fn rooted(&self) -> usize {
        self.snapshot.as_ref().map_or(0, Snapshot::rooted_stripes)
    }

    fn is_complete(&self) -> bool {
        let stripes = self.snapshot.as_ref().map_or(usize::MAX, |s| s.stripes.len());
        stripes > 0 && self.rooted() == stripes
    }

    /// Complete, and nobody on the way to another place.
    fn is_settled(&self) -> bool {
        self.is_complete()
            && self.snapshot.as_ref().is_some_and(|s| s.stripes.iter().all(|t| t.leaving == 0))
    }

    fn interior(&self) -> usize {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.interior_stripes().len())
    }
}

/// One viewer: a node of its own, and the task that listens to it.
struct Viewer {
    reports: watch::Receiver<Report>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Viewer {
    async fn start(
        options: &Demo,
        n: u32,
        upload: u64,
        broadcast: banyan_wire::BroadcastId,
        via: Vec<banyan_net::Multiaddr>,
        hub: Option<std::sync::Arc<banyan_gateway::LiveHub>>,
        tracks: &[Track],
    ) -> Outcome<Self> {
        let n = u64::from(n) + 1;
        let node = Node::start(node_config(options.seed, n, via.clone(), false)).await?;
        let request = JoinRequest {
            broadcast,
            role: Role::Viewer,
            config: Config { upload, ..Config::default() },
            via,
            seed: Some(seed_of(options.seed, 2000 + n)),
        };
        let membership = node.join(request).await?;
        let mut player = Player::new(hub, None);
        player.set_tracks(tracks);
        let (sender, reports) = watch::channel(Report::default());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(view(node, membership, player, sender, stopped));
        Ok(Self { reports, stop, task })
    }
}

/// Listens to a viewer and tells what it sees, twice a second and whenever it plays.
async fn view(
    node: NodeHandle,
    mut membership: Membership,
    mut player: Player,
    reports: watch::Sender<Report>,
    mut stopped: oneshot::Receiver<()>,
) {
    let start = Instant::now();
    let mut tick = interval(Duration::from_millis(200));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = membership.next_event() => match event {
                Some(Event::Generation(playout)) => {
                    let shown = player.play(&playout).unwrap_or_else(|failure| {
                        tracing::warn!(%failure, "a viewer cannot play");
                        None
                    });
                    reports.send_modify(|report| {
                        report.played.note(&playout, shown, start.elapsed());
                    });
                }
                Some(Event::Ended) => reports.send_modify(|report| report.has_ended = true),
                Some(_) => {}
                None => break,
            },
            _ = tick.tick() => if let Ok(snapshot) = membership.snapshot().await {
                reports.send_modify(|report| report.snapshot = Some(snapshot));
            },
            _ = &mut stopped => break,
        }
    }
    membership.leave().await;
    node.shutdown().await;
}

/// The progress on stderr: a bar on a terminal, a line now and then elsewhere.
struct Stage {
    bar: Option<ProgressBar>,
    viewers: usize,
    said_at: Option<Instant>,
}

impl Stage {
    fn new(options: &Demo, http: Option<&HttpFace>) -> Self {
        if let Some(http) = http {
            eprintln!("watch: http://{}/", http.address);
        }
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        Self { bar, viewers: options.viewers as usize, said_at: None }
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn progress(&mut self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
            bar.tick();
        } else if self.said_at.is_none_or(|at| at.elapsed() >= Duration::from_secs(3)) {
            self.said_at = Some(Instant::now());
            eprintln!("{text}");
        }
    }

    fn building(&mut self, viewers: &[Viewer]) {
        let count = |test: fn(&Report) -> bool| {
            viewers.iter().filter(|viewer| test(&viewer.reports.borrow())).count()
        };
        let rooted: usize = viewers.iter().map(|viewer| viewer.reports.borrow().rooted()).sum();
        self.progress(format!(
            "building: {} of {} viewers joined, {} complete, {rooted} stripes in place",
            count(Report::has_joined),
            self.viewers,
            count(Report::is_complete),
        ));
    }

    fn streaming(
        &mut self,
        viewers: &[Viewer],
        source: &Snapshot,
        coded_bytes: u64,
        elapsed: Duration,
    ) {
        let reports: Vec<Report> = viewers.iter().map(|v| v.reports.borrow().clone()).collect();
        let complete = reports.iter().filter(|report| report.is_complete()).count();
        let interior = reports.iter().filter(|report| report.interior() > 0).count();
        let most = reports.iter().map(Report::interior).max().unwrap_or(0);
        let fewest = reports.iter().filter_map(|r| r.played.fewest_descriptions).min();
        self.progress(format!(
            "streaming {:.0} s: {complete} of {} viewers complete, {interior} interior (in at most \
             {most} tree each), source uploads {:.2} x the coded stream, at least {} descriptions \
             per generation",
            elapsed.as_secs_f64(),
            self.viewers,
            multiple(source, coded_bytes),
            fewest.map_or_else(|| "-".to_owned(), |fewest| fewest.to_string()),
        ));
    }

    fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn multiple(source: &Snapshot, coded_bytes: u64) -> f64 {
    source.stats.chunk_bytes_sent as f64 / coded_bytes.max(1) as f64
}

/// Prints what came of it.
///
/// # Errors
/// [`Failure`] where a viewer did not get everything.
fn table(
    source: &Source,
    snapshot: &Snapshot,
    coded_bytes: u64,
    reports: &[Report],
    stripes: u8,
) -> Outcome {
    say(
        "viewer    primary  interior in  children  depth  played  full  missed  least descriptions",
    );
    let published = source.published;
    let mut good = 0;
    for (n, report) in reports.iter().enumerate() {
        let Some(s) = &report.snapshot else { continue };
        let primary: Vec<String> = s.roles.iter().map(|stripe| stripe.to_string()).collect();
        let children: usize = s.stripes.iter().map(|stripe| stripe.children.len()).sum();
        let depth = s.stripes.iter().map(|stripe| stripe.depth).max().unwrap_or(0);
        let interior = s.interior_stripes().len();
        let trees = if interior == 1 { "tree" } else { "trees" };
        let fewest = report.played.fewest_descriptions.unwrap_or(0);
        say(&format!(
            "{:>6}  {:>9}  {interior:>5} {trees:<5}  {children:>8}  {depth:>5}  {:>6}  {:>4}  {:>6}  {fewest:>9} of {stripes}",
            n + 1,
            primary.join(","),
            report.played.played,
            report.played.full,
            report.played.missed,
        ));
        let bound = usize::from(stripes).div_ceil(reports.len().min(usize::from(stripes)).max(1));
        let is_whole = report.played.full == published && fewest == stripes;
        good += usize::from(is_whole && interior <= bound);
    }
    let multiple = multiple(snapshot, coded_bytes);
    say(&format!(
        "{good} of {} viewers played all {published} generations with all {stripes} stripes, \
         interior in as few trees as they should be",
        reports.len()
    ));
    say(&format!(
        "the source sent {multiple:.2} x the coded stream to serve {} viewers ({})",
        reports.len(),
        if multiple <= MOST {
            "at most 2.1 x, as promised"
        } else {
            "more than the 2.1 x promised"
        },
    ));
    if good == reports.len() && multiple <= MOST {
        return Ok(());
    }
    Err(Failure::failed("not every promise of the demo was kept; is this machine very busy?"))
}
