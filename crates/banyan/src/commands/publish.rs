//! `banyan publish`: an input becomes a broadcast.
//!
//! Decides when the URI is printed (once the node listens and a file has proved readable, before
//! anything of a live input has come), when the manifest changes, and how a broadcast ends: viewers
//! are told the last generation and are given time to play it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use banyan_coding::redundancy::{self, Redundancy};
use banyan_coding::{Layer, description_length};
use banyan_core::{Audience, Config, Event, Role};
use banyan_media::{Generation, Layering, Renditions, low_track, split_layers};
use banyan_net::{JoinRequest, Membership, Node, NodeHandle};
use banyan_wire::{
    BroadcastKey, BroadcastUri, Contact, GenerationId, Manifest, MediaTime, Overlay, Roles,
    SignedManifest, StripeCount, Track,
};
use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cli::{LadderArg, LayeringArg, Publish, RedundancyArg, Upload};
use crate::commands::{URI_ADDRESSES, dialable, key_seed, node_config, say, seed_of};
use crate::error::{Failure, Outcome};
use crate::eventlog::{EventLog, Played};
use crate::face::HttpFace;
use crate::input::{self, Item, OpenInput, Reading, Totals, complete_at};
use crate::ladder;
use crate::player::Player;
use crate::rate::{RateEstimate, coded_rate, stripe_rate};
use crate::signals;

/// How long the node stays after the last generation, for viewers to get it: their playout delay
/// and one repair.
const LINGER: Duration = Duration::from_millis(2500);

pub(super) async fn run(options: Publish) -> Outcome {
    let upload = options.upload();
    if upload.rate == 0 {
        return Err(Failure::usage(
            "an upload of 0 reaches nobody: give --upload at least the rate of the stream, and a \
             quarter more for redundancy",
        ));
    }
    let mut log = EventLog::open(options.common.events.as_deref())?;
    let plan = Plan::of(options.ladder, options.layering)?;
    let reading = Reading { repeat: options.repeat, ..plan.reading };
    let mut input = input::open(&options.input, reading).await?;
    plan.check(input.totals.as_ref())?;
    if plan.makes_low {
        let rates = input.totals.as_ref().map(Totals::rates);
        if let (Some(totals), Some(rates)) = (&mut input.totals, rates) {
            totals.add_low(rates.low());
        }
        input = ladder::start(input, rates);
    }
    let http = options.http.map(HttpFace::start).transpose()?;
    let node = Node::start(node_config(&options.common, true)?).await?;
    let key = BroadcastKey::from_seed(&key_seed(options.key.as_deref(), options.common.seed)?);
    let setup = SourceSetup {
        title: options.title.clone(),
        overlay: options.overlay,
        stripes: stripe_count(options.stripes, options.overlay)?,
        layering: plan.layering,
        redundancy: options.redundancy,
        upload,
        seed: options.common.seed.map(|seed| seed_of(seed, 2)),
    };
    let mut source = Source::start(&node, key, setup, input.totals.as_ref()).await?;
    let uri = source.uri(&node);
    say(&uri.to_string());
    log.write("uri", serde_json::json!({ "uri": uri.to_string() }));
    if let Some(http) = &http {
        eprintln!("state and picture: http://{}/", http.address);
    }

    let mut player = Player::new(http.as_ref().map(|http| http.hub.clone()), None);
    let result = tokio::select! {
        result = feed(&mut source, input, &mut player, http.as_ref(), &node, &mut log) => result,
        () = signals::interrupted() => Ok(()),
        () = signals::elapsed(options.duration) => Ok(()),
    };
    let has_published = source.published > 0;
    source.end().await;
    if has_published {
        tokio::select! {
            () = tokio::time::sleep(LINGER) => {}
            () = signals::interrupted() => {}
        }
    }
    player.finish()?;
    log.summary(
        &Played::default(),
        source.membership.snapshot().await.ok().as_ref(),
        &node.stats(),
    );
    source.membership.leave().await;
    node.shutdown().await;
    result
}

/// Publishes all that an input gives.
async fn feed(
    source: &mut Source,
    mut input: OpenInput,
    player: &mut Player,
    http: Option<&HttpFace>,
    node: &NodeHandle,
    log: &mut EventLog,
) -> Outcome {
    let broadcast = source.membership.broadcast().to_string();
    let mut origin: Option<(Instant, MediaTime)> = None;
    let mut tick = interval(Duration::from_millis(500));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            item = input.items.recv() => match item {
                None => return Ok(()),
                Some(Item::Tracks(tracks)) => {
                    player.set_tracks(&tracks);
                    source.set_tracks(tracks).await?;
                }
                Some(Item::Generation(generation)) => {
                    if input.needs_pacing {
                        let (began, first) =
                            *origin.get_or_insert_with(|| (Instant::now(), generation.start));
                        sleep_until(began + complete_at(&generation, first)).await;
                    }
                    source.publish(&generation).await?;
                    player.play_whole(generation)?;
                }
                Some(Item::Notice(notice)) => eprintln!("banyan: {notice}"),
                Some(Item::Failed(failure)) => return Err(failure),
            },
            event = source.membership.next_event() => match event {
                Some(Event::Violation { peer, violation }) => {
                    tracing::warn!(peer = %format_args!("{peer:.8}"), kind = violation.name(), "breach");
                }
                Some(event) => {
                    log.core(&broadcast, &event);
                    source.on_event(&event);
                }
                None => return Err(Failure::failed("the node has stopped")),
            },
            _ = tick.tick() => if let Some(http) = http
                && let Ok(snapshot) = source.membership.snapshot().await
            {
                http.show(snapshot, &node.stats(), &Played::default());
            },
        }
    }
}

/// Where a low rendition comes from, and the layering that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    reading: Reading,
    layering: LayeringArg,
    /// The publisher makes the low rendition.
    makes_low: bool,
    /// The low rendition was asked for, so that its absence is worth a word.
    is_expected: bool,
}

impl Plan {
    fn of(ladder: Option<LadderArg>, layering: Option<LayeringArg>) -> Outcome<Self> {
        match (ladder, layering) {
            (
                Some(LadderArg::Auto | LadderArg::Input),
                Some(LayeringArg::Priority | LayeringArg::Single),
            ) => {
                return Err(Failure::usage(
                    "a low rendition is of use with --layering ladder only: leave --layering out, \
                     or --ladder",
                ));
            }
            (Some(LadderArg::Off), Some(LayeringArg::Ladder)) => {
                return Err(Failure::usage(
                    "--layering ladder needs a low rendition, and --ladder off leaves it out: use \
                     --ladder auto to make one",
                ));
            }
            _ => {}
        }
        let renditions = match (ladder, layering) {
            (Some(LadderArg::Input), _) => Renditions::AllProgrammes,
            (Some(LadderArg::Auto | LadderArg::Off), _)
            | (None, Some(LayeringArg::Priority | LayeringArg::Single)) => Renditions::One,
            (None, Some(LayeringArg::Ladder) | None) => Renditions::Programme,
        };
        let makes_low = ladder == Some(LadderArg::Auto);
        let mut reading = Reading { renditions, ..Reading::default() };
        if makes_low {
            // The encoder gets each picture as soon as it is there.
            reading.max_duration = Duration::ZERO;
        }
        let is_expected = !makes_low
            && (ladder == Some(LadderArg::Input) || layering == Some(LayeringArg::Ladder));
        let layering = layering.unwrap_or(LayeringArg::Ladder);
        Ok(Self { reading, layering, makes_low, is_expected })
    }

    /// Whether a file has what was asked for.
    fn check(&self, totals: Option<&Totals>) -> Outcome {
        let is_missing = totals.is_some_and(|totals| low_track(&totals.tracks).is_none());
        if self.is_expected && is_missing {
            return Err(Failure::failed(
                "the input has one rendition: send a second, smaller picture with it, or use \
                 --ladder auto to have one made",
            ));
        }
        Ok(())
    }
}

/// K as asked for, or the overlay's own.
fn stripe_count(asked: Option<StripeCount>, overlay: Overlay) -> Outcome<StripeCount> {
    match (overlay, asked) {
        (Overlay::PeerCast, None) => Ok(StripeCount::ONE),
        (Overlay::PeerCast, Some(stripes)) if stripes != StripeCount::ONE => Err(Failure::usage(
            "--overlay peercast is a single tree: leave --stripes out, or set it to 1",
        )),
        (_, asked) => Ok(asked.unwrap_or(StripeCount::DEFAULT)),
    }
}

/// What a source is made from.
#[derive(Clone, Debug)]
pub(super) struct SourceSetup {
    pub(super) title: String,
    pub(super) overlay: Overlay,
    pub(super) stripes: StripeCount,
    pub(super) layering: LayeringArg,
    pub(super) redundancy: RedundancyArg,
    pub(super) upload: Upload,
    pub(super) seed: Option<[u8; 32]>,
}

/// What decides which layers there are and how well they are protected.
#[derive(Clone, Copy, Debug)]
struct Protection {
    layering: LayeringArg,
    redundancy: RedundancyArg,
    stripes: StripeCount,
}

impl Protection {
    /// The layers of a programme with or without a low rendition. A ladder without one is the
    /// layering by priority.
    const fn plan(self, has_low: bool) -> redundancy::Plan {
        match (self.layering, has_low) {
            (LayeringArg::Single, _) => redundancy::Plan::Single,
            (LayeringArg::Ladder, true) => redundancy::Plan::Ladder,
            (LayeringArg::Priority | LayeringArg::Ladder, _) => redundancy::Plan::Priority,
        }
    }

    /// Where the thresholds come from.
    fn redundancy(self, has_low: bool) -> Redundancy {
        let plan = self.plan(has_low);
        let budget = match self.redundancy {
            RedundancyArg::Fixed => return Redundancy::fixed(self.stripes, plan),
            RedundancyArg::Auto => plan.default_budget(),
            RedundancyArg::Budget(budget) => budget,
        };
        Redundancy::adaptive(self.stripes, plan, budget)
    }
}

/// The source of a broadcast: the peer that has its key.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) membership: Membership,
    /// Generations published.
    pub(super) published: u64,
    /// One more than the last of them.
    end: GenerationId,
    key: BroadcastKey,
    manifest: Manifest,
    protection: Protection,
    redundancy: Redundancy,
    rate: RateEstimate,
    upload: Upload,
    has_warned: bool,
}

impl Source {
    /// Becomes the source and tells the first manifest.
    pub(super) async fn start(
        node: &NodeHandle,
        key: BroadcastKey,
        setup: SourceSetup,
        totals: Option<&Totals>,
    ) -> Outcome<Self> {
        let broadcast = key.broadcast();
        let request = JoinRequest {
            broadcast,
            role: Role::Source(key.clone()),
            config: Config {
                upload: setup.upload.rate,
                estimates_upload: setup.upload.is_estimated,
                ..Config::default()
            },
            via: Vec::new(),
            seed: setup.seed,
        };
        let membership = node.join(request).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let addresses = dialable(node);
        let SourceSetup { layering, redundancy, stripes, .. } = setup;
        let protection = Protection { layering, redundancy, stripes };
        let has_low = totals.is_some_and(|totals| low_track(&totals.tracks).is_some());
        let rate = totals.map_or(0, |totals| rate_of(totals, protection));
        let manifest = Manifest {
            broadcast,
            // So that a source that starts again with its key is newer than it was.
            sequence: u64::try_from(now.as_millis()).unwrap_or(1),
            title: setup.title,
            stripes: setup.stripes,
            overlay: setup.overlay,
            stripe_rate: rate,
            generation_millis: 500,
            tracks: totals.map(|totals| totals.tracks.clone()).unwrap_or_default(),
            source: Contact {
                peer: node.local_peer(),
                roles: Roles::NONE,
                capacity: 0,
                addresses: binary(&addresses),
                is_source: true,
                class: 0,
                coordinate: None,
            },
            created_at: now.as_secs(),
            ended_at: None,
        };
        let mut source = Self {
            membership,
            published: 0,
            end: GenerationId(0),
            key,
            manifest,
            protection,
            redundancy: protection.redundancy(has_low),
            rate: RateEstimate::known(rate),
            upload: setup.upload,
            has_warned: false,
        };
        source.tell().await?;
        Ok(source)
    }

    pub(super) fn uri(&self, node: &NodeHandle) -> BroadcastUri {
        let addresses = dialable(node);
        let via = addresses.iter().take(URI_ADDRESSES).map(ToString::to_string).collect();
        BroadcastUri { broadcast: self.key.broadcast(), via }
    }

    /// Bits per second of the whole coded stream, as far as it is known.
    pub(super) fn coded_rate(&self) -> u64 {
        coded_rate(self.manifest.stripe_rate, self.manifest.stripes)
    }

    /// Signs the manifest's present state as a new version.
    async fn tell(&mut self) -> Outcome {
        self.compare_rates();
        self.manifest.sequence += 1;
        let signed = SignedManifest::sign(self.manifest.clone(), &self.key)?;
        self.membership.set_manifest(signed).await?;
        Ok(())
    }

    /// Says once if the upload does not bear the coded stream.
    fn compare_rates(&mut self) {
        let rate = self.coded_rate();
        if rate <= self.upload.rate || self.has_warned {
            return;
        }
        self.has_warned = true;
        let (found, remedy) = if self.upload.is_estimated {
            (
                "the upload is estimated at",
                "lower the encoder's rate or, if it is wrong, give --upload",
            )
        } else {
            ("--upload is", "lower the encoder's rate or raise --upload")
        };
        eprintln!(
            "banyan: the coded stream is {:.1} Mbit/s and {found} {:.1}: some stripes reach nobody; \
             {remedy}",
            mbit(rate),
            mbit(self.upload.rate)
        );
    }

    /// Takes note of what concerns the source itself.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others concern viewers, or the log")]
    pub(super) fn on_event(&mut self, event: &Event) {
        match event {
            Event::Upload { budget, .. } => self.set_upload(*budget),
            Event::Audience(audience) => self.on_audience(audience),
            _ => {}
        }
    }

    /// What viewers had in time: the next thresholds follow it.
    fn on_audience(&mut self, audience: &Audience) {
        self.redundancy.on_reception(&audience.counts);
        let thresholds = self.redundancy.current();
        tracing::debug!(viewers = audience.viewers, counts = ?audience.counts, ?thresholds, "audience");
    }

    /// Takes note of events until it is time for something else.
    pub(super) async fn listen_until(&mut self, due: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(due) => return,
                event = self.membership.next_event() => match event {
                    Some(event) => self.on_event(&event),
                    None => return sleep_until(due).await,
                },
            }
        }
    }

    /// Takes note of what the uplink has turned out to bear.
    fn set_upload(&mut self, rate: u64) {
        self.upload.rate = rate;
        self.compare_rates();
    }

    pub(super) async fn set_tracks(&mut self, tracks: Vec<Track>) -> Outcome {
        if self.manifest.tracks == tracks {
            return Ok(());
        }
        let has_low = |tracks: &[Track]| low_track(tracks).is_some();
        if has_low(&tracks) != has_low(&self.manifest.tracks) {
            // Other layers: what was learned of the old ones does not tell how they do.
            self.redundancy = self.protection.redundancy(has_low(&tracks));
        }
        self.manifest.tracks = tracks;
        self.tell().await
    }

    /// Codes and sends a generation. Returns the bytes of its descriptions.
    pub(super) async fn publish(&mut self, generation: &Generation) -> Outcome<u64> {
        let low = low_track(&self.manifest.tracks);
        let layering = match (self.protection.plan(low.is_some()), low) {
            (redundancy::Plan::Single, _) => Layering::Single,
            (redundancy::Plan::Ladder, Some(low)) => Layering::Ladder { low },
            (redundancy::Plan::Priority | redundancy::Plan::Ladder, _) => Layering::Priority,
        };
        let layers = layers(generation, layering, &mut self.redundancy);
        let lengths: Vec<u64> = layers.iter().map(|layer| layer.data.len() as u64).collect();
        let planned = planned(&self.redundancy, self.manifest.stripes, &lengths);
        let description = description_length(&layers) as u64;
        if let Some(rate) = self.rate.note(generation, planned.max(description)) {
            self.manifest.stripe_rate = rate;
            self.tell().await?;
        }
        let id = self.membership.publish(layers, generation.random_access).await?;
        self.published += 1;
        self.end = id.next();
        Ok(description * u64::from(self.manifest.stripes.value()))
    }

    /// Tells everybody which generation was the last.
    pub(super) async fn end(&mut self) {
        self.manifest.ended_at = Some(self.end);
        if let Err(failure) = self.tell().await {
            tracing::debug!(%failure, "the end could not be told");
        }
    }
}

/// A generation's layers, each with its threshold.
fn layers(generation: &Generation, layering: Layering, redundancy: &mut Redundancy) -> Vec<Layer> {
    let layers = split_layers(generation, layering);
    let lengths: Vec<usize> = layers.iter().map(Bytes::len).collect();
    let thresholds = redundancy.thresholds(&lengths);
    layers.into_iter().zip(thresholds).map(|(data, threshold)| Layer { threshold, data }).collect()
}

/// Bytes of a description that peers are to plan with: as many as redundancy may ever make of it.
/// Planned by what it is now, redundancy that grows because uplinks are full would fill them more.
fn planned(redundancy: &Redundancy, stripes: StripeCount, lengths: &[u64]) -> u64 {
    let source = lengths.iter().sum();
    redundancy.bound(lengths).times(source).div_ceil(u64::from(stripes.value()))
}

/// The rate of one stripe of a file.
fn rate_of(totals: &Totals, protection: Protection) -> u64 {
    let Totals { sound_bytes: sound, key_bytes: key, other_bytes: other, low_bytes: low, .. } =
        totals;
    let has_low = *low > 0;
    let lengths = match protection.plan(has_low) {
        redundancy::Plan::Single => vec![sound + key + other],
        redundancy::Plan::Priority => vec![sound + key, *other],
        redundancy::Plan::Ladder => vec![sound + low, key + other],
    };
    let bytes = planned(&protection.redundancy(has_low), protection.stripes, &lengths);
    stripe_rate(bytes, totals.ticks)
}

fn binary(addresses: &[banyan_net::Multiaddr]) -> Vec<Bytes> {
    let limit = banyan_wire::MAX_ADDRESSES;
    addresses.iter().take(limit).map(|address| Bytes::from(address.to_vec())).collect()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn mbit(rate: u64) -> f64 {
    rate as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_refused_and_the_rest_has_a_sensible_default() {
        use LadderArg::{Auto, Input, Off};
        use LayeringArg::{Ladder, Priority, Single};
        for (ladder, layering) in
            [(Auto, Single), (Auto, Priority), (Input, Priority), (Off, Ladder)]
        {
            let refused = Plan::of(Some(ladder), Some(layering));
            assert!(matches!(refused, Err(Failure::Usage(_))), "{ladder:?} {layering:?}");
        }
        let plan = |ladder, layering| Plan::of(ladder, layering).expect("no contradiction");
        let usual = plan(None, None);
        assert_eq!((usual.layering, usual.makes_low, usual.is_expected), (Ladder, false, false));
        assert_eq!(usual.reading, Reading::default());
        assert_eq!(plan(None, Some(Single)).reading.renditions, Renditions::One);
        assert_eq!(plan(Some(Off), None).reading.renditions, Renditions::One);
        assert_eq!(plan(Some(Input), None).reading.renditions, Renditions::AllProgrammes);
        let auto = plan(Some(Auto), None);
        assert!(auto.makes_low && auto.reading.max_duration == Duration::ZERO);
        let one = Totals::default();
        assert!(plan(None, Some(Ladder)).check(Some(&one)).is_err());
        assert!(auto.check(Some(&one)).is_ok() && usual.check(Some(&one)).is_ok());
    }
}
