//! `banyan watch`: a broadcast becomes pictures.
//!
//! Decides how long a broadcast is looked for, when it counts as over or lost, and that whatever
//! was written is closed whole.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use banyan_core::{Config, Event, Role};
use banyan_net::{JoinRequest, Membership, Node, NodeEvent, NodeHandle};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cli::Watch;
use crate::commands::{node_config, seed_of, via};
use crate::error::{Failure, Outcome};
use crate::eventlog::{EventLog, Played};
use crate::face::HttpFace;
use crate::player::Player;
use crate::signals;

/// How long a broadcast is looked for.
const SEARCH: Duration = Duration::from_secs(30);
/// Where the picture is served unless something else is asked for.
const DEFAULT_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

pub(super) async fn run(options: Watch) -> Outcome {
    let mut log = EventLog::open(options.common.events.as_deref())?;
    let via = via(&options.uri)?;
    if via.is_empty() && options.common.bootstrap.is_empty() {
        return Err(Failure::usage(
            "nobody to ask for the broadcast: the URI has no via=, so give a --bootstrap",
        ));
    }
    let http = match (options.http, &options.output) {
        (None, Some(_)) => None,
        (address, _) => Some(HttpFace::start(address.unwrap_or(DEFAULT_HTTP))?),
    };
    let node = Node::start(node_config(&options.common, false)?).await?;
    let upload = options.upload();
    let request = JoinRequest {
        broadcast: options.uri.broadcast,
        role: Role::Viewer,
        config: Config {
            upload: upload.rate,
            estimates_upload: upload.is_estimated,
            playout_delay: options.delay,
            retention: Config::default().retention.max(options.delay * 2),
            ..Config::default()
        },
        via,
        seed: options.common.seed.map(|seed| seed_of(seed, 2)),
    };
    let membership = node.join(request).await?;
    if let Some(http) = &http {
        eprintln!("picture: http://{0}/    for VLC and mpv: http://{0}/live.ts", http.address);
    }
    let hub = http.as_ref().map(|http| http.hub.clone());
    let mut viewer = Viewer {
        player: Player::new(hub, options.output.as_deref()),
        membership,
        played: Played::default(),
        has_manifest: false,
    };
    let result = tokio::select! {
        result = viewer.watch(&node, http.as_ref(), &mut log) => result,
        () = signals::interrupted() => Ok(()),
        () = signals::elapsed(options.duration) => Ok(()),
    };
    let closed = viewer.player.finish();
    let snapshot = viewer.membership.snapshot().await.ok();
    log.summary(&viewer.played, snapshot.as_ref(), &node.stats());
    viewer.membership.leave().await;
    node.shutdown().await;
    result.and(closed)
}

struct Viewer {
    player: Player,
    membership: Membership,
    played: Played,
    has_manifest: bool,
}

impl Viewer {
    /// Plays until the broadcast is over.
    async fn watch(
        &mut self,
        node: &NodeHandle,
        http: Option<&HttpFace>,
        log: &mut EventLog,
    ) -> Outcome {
        let broadcast = self.membership.broadcast().to_string();
        let search_ends = Instant::now() + SEARCH;
        let mut tick = interval(Duration::from_millis(500));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.membership.next_event() => {
                    let Some(event) = event else {
                        return Err(Failure::failed("the node has stopped"));
                    };
                    log.core(&broadcast, &event);
                    if self.on_event(event, log)? {
                        return Ok(());
                    }
                }
                event = node.next_event() => match event {
                    Some(NodeEvent::BootstrapUnreachable { tried, error }) if !self.has_manifest => {
                        let tried: Vec<String> = tried.iter().map(ToString::to_string).collect();
                        return Err(Failure::failed(format!(
                            "cannot reach {}: {error}: is the publisher running, and is this the \
                             URI it printed?",
                            tried.join(" or ")
                        )));
                    }
                    Some(_) => {}
                    None => return Err(Failure::failed("the node has stopped")),
                },
                () = sleep_until(search_ends), if !self.has_manifest => {
                    return Err(Failure::failed(
                        "the broadcast was not found: nobody who was asked knows it; ask for a \
                         fresh URI",
                    ));
                }
                _ = tick.tick() => if let Some(http) = http
                    && let Ok(snapshot) = self.membership.snapshot().await
                {
                    http.show(snapshot, &node.stats(), &self.played);
                },
            }
        }
    }

    /// Handles what the peer says. Returns whether the broadcast is over.
    fn on_event(&mut self, event: Event, log: &mut EventLog) -> Outcome<bool> {
        match event {
            Event::Manifest(manifest) => {
                self.has_manifest = true;
                self.player.set_tracks(&manifest.tracks);
            }
            Event::Generation(playout) => {
                let shown = self.player.play(&playout)?;
                self.played.note(&playout, shown, log.start().elapsed());
                log.generation(&playout, shown);
            }
            Event::Ended => return Ok(true),
            Event::SourceLost => {
                return Err(Failure::failed(
                    "the source is gone: nothing has come from it for a while",
                ));
            }
            Event::Violation { peer, violation } => {
                let peer = format!("{peer:.8}");
                tracing::warn!(peer, kind = violation.name(), "a peer broke the protocol");
            }
            Event::Joined { .. }
            | Event::Roles(_)
            | Event::Parent { .. }
            | Event::Children { .. }
            | Event::Upload { .. }
            | Event::Wanted(_)
            | _ => {}
        }
        Ok(false)
    }
}
