//! A low rendition for an input that has none: `--ladder auto`.
//!
//! Decides what the low rendition is like, when the encoder is started and given up, and that the
//! broadcast never depends on it: full pictures and sound go on whatever becomes of it. Running it is
//! left to [`encoder`], where its key pictures go to [`keys`], bringing the two renditions together to
//! [`GenerationBuilder`].
//!
//! ```text
//!   input ─ single pictures ─┬───────────────────────────▶ generation builder ─▶ publisher
//!                            └─ full pictures ─▶ ffmpeg ─ low pictures ─▲
//! ```

mod encoder;
mod keys;

use std::collections::VecDeque;
use std::time::Duration;

use banyan_media::{AccessUnit, GenerationBuilder};
use banyan_wire::{Codec, MAX_TRACKS, MediaTime, Rendition, Track, TrackId};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use self::encoder::{Encoder, Made, Shape, ticks};
use self::keys::Keys;
use crate::input::{ITEMS, Item, OpenInput};

/// The program that makes the low rendition.
const PROGRAM: &str = "ffmpeg";
/// How far the low rendition may be behind the full one, in ticks. The builder waits a second.
const MAX_LAG: i64 = MediaTime::HZ * 4 / 5;
/// How long it may be further behind before the encoder is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Before the encoder is started again, the first time; doubled each time up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// An encoder that ran this long was a good one: the next wait is the first again.
const GOOD_RUN: Duration = Duration::from_secs(30);
/// Silence after which a generation is cut where it is, as the cutter of live inputs does.
const SILENCE: Duration = Duration::from_secs(1);
/// How long the encoder may take to finish at the end of the input.
const FINISH: Duration = Duration::from_secs(5);
/// Programme over which the full rendition's rate is measured before the encoder starts, in ticks.
const MEASURED: i64 = MediaTime::HZ;
/// Pictures that may be in the encoder; older ones are forgotten.
const MAX_FED: usize = 1024;

/// Bits per second of pictures and of sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) video: u64,
    pub(crate) sound: u64,
}

impl Rates {
    /// The rate of the low rendition: what keeps the coded stream at 1.55 × the bytes with
    /// thresholds of 6 and 13 of 16, between 6 and 9 % of the full pictures', and at least
    /// 64 kbit/s: below, a small picture with two keys a second is no picture (measured: 30 dB at 64,
    /// 28 dB at 45 kbit/s). Where sound is more than a tenth of the stream, the whole may be 1.6 ×.
    pub(crate) fn low(self) -> u64 {
        let Self { video, sound } = self;
        let room = (155 * (video + sound)).saturating_sub(123 * video + 267 * sound) / 267;
        room.clamp(video * 6 / 100, video * 9 / 100).max(64_000)
    }
}

/// Adds a low rendition to what an input gives, piece by piece. `rates` are those of the input where
/// they are known already.
pub(crate) fn start(input: OpenInput, rates: Option<Rates>) -> OpenInput {
    start_with(PROGRAM, input, rates)
}

fn start_with(program: &'static str, input: OpenInput, rates: Option<Rates>) -> OpenInput {
    let (out, items) = mpsc::channel(ITEMS);
    let stage = Stage {
        program,
        out,
        builder: GenerationBuilder::default(),
        holds: false,
        tracks: Vec::new(),
        meter: Meter { known: rates, ..Meter::default() },
        run: None,
        wait: FIRST_RETRY,
        not_before: Instant::now(),
        is_patient: input.needs_pacing,
    };
    tokio::spawn(stage.run(input.items));
    OpenInput { items, needs_pacing: input.needs_pacing, totals: input.totals }
}

/// The publisher does not listen any more.
#[derive(Debug)]
struct Gone;

#[derive(Debug)]
struct Stage {
    program: &'static str,
    out: mpsc::Sender<Item>,
    builder: GenerationBuilder,
    /// The builder has something.
    holds: bool,
    /// The input's.
    tracks: Vec<Track>,
    meter: Meter,
    run: Option<Run>,
    wait: Duration,
    not_before: Instant,
    /// The input can wait for the encoder, as a file can.
    is_patient: bool,
}

/// One life of the encoder.
#[derive(Debug)]
struct Run {
    encoder: Encoder,
    keys: Keys,
    began: Instant,
    /// The picture it began with; those shown before refer to what it has not seen.
    from: MediaTime,
    /// What it was fed: by which ticks it is known again, and when it is really shown.
    fed: VecDeque<(i64, MediaTime)>,
    id: TrackId,
    /// The low track, once it is known.
    track: Option<Track>,
    full_at: MediaTime,
    low_at: MediaTime,
    needs_key: bool,
    behind_since: Option<Instant>,
}

impl Stage {
    async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        let result = self.forward(&mut items).await;
        if result.is_ok() {
            drop(self.end().await);
        }
    }

    async fn forward(&mut self, items: &mut mpsc::Receiver<Item>) -> Result<(), Gone> {
        loop {
            let is_behind = self.run.as_mut().is_some_and(Run::is_behind);
            let give_up_at = self.run.as_ref().and_then(|run| run.behind_since);
            let give_up_at = give_up_at.map(|since| since + PATIENCE);
            tokio::select! {
                item = items.recv(), if !(is_behind && self.is_patient) => match item {
                    Some(Item::Tracks(tracks)) => self.on_tracks(tracks).await?,
                    Some(Item::Generation(piece)) => {
                        for unit in piece.units {
                            self.on_unit(unit).await?;
                        }
                    }
                    Some(item) => self.send(item).await?,
                    None => return Ok(()),
                },
                made = next(self.run.as_mut()) => self.on_made(made).await?,
                () = sleep_until(give_up_at.unwrap_or_else(Instant::now)), if give_up_at.is_some() => {
                    self.give_up("it cannot keep up; lower the input's size or rate").await?;
                }
                () = sleep(SILENCE), if self.holds => self.cut().await?,
            }
        }
    }

    /// The input has ended: takes what the encoder still has.
    async fn end(&mut self) -> Result<(), Gone> {
        if let Some(run) = &mut self.run {
            run.encoder.finish();
        }
        let over = Instant::now() + FINISH;
        while let Some(run) = &mut self.run {
            tokio::select! {
                made = run.encoder.next() => match made {
                    Made::Ended(_) => self.run = None,
                    made @ (Made::Track(_) | Made::Unit(_)) => self.on_made(made).await?,
                },
                () = sleep_until(over) => self.run = None,
            }
        }
        self.cut().await
    }

    async fn on_tracks(&mut self, tracks: Vec<Track>) -> Result<(), Gone> {
        let video = |tracks: &[Track]| tracks.iter().find(|track| track.codec.is_video()).cloned();
        // Another picture needs another encoder; other sound does not.
        if video(&tracks) != video(&self.tracks) && self.run.take().is_some() {
            self.cut().await?;
        }
        self.tracks = tracks;
        self.tell().await
    }

    async fn on_unit(&mut self, unit: AccessUnit) -> Result<(), Gone> {
        self.meter.note(&unit);
        let is_video = self.tracks.iter().any(|t| t.id == unit.track && t.codec.is_video());
        if is_video {
            if self.run.is_none() && unit.random_access {
                self.begin(&unit).await?;
            }
            if self.run.as_mut().is_some_and(|run| !run.feed(&unit)) {
                self.give_up("it takes no more pictures").await?;
            }
        }
        self.push(unit).await
    }

    /// Starts the encoder with this picture, if it is time to.
    async fn begin(&mut self, unit: &AccessUnit) -> Result<(), Gone> {
        let (Some(rates), true) = (self.meter.rates(), Instant::now() >= self.not_before) else {
            return Ok(());
        };
        let used = |id: TrackId| self.tracks.iter().any(|track| track.id == id);
        let id = (0u8..).take(MAX_TRACKS).map(TrackId).find(|id| !used(*id));
        let full = self.tracks.iter().find(|track| track.id == unit.track).cloned();
        let (Some(id), Some(full)) = (id, full) else { return Ok(()) };
        let shape = Shape { height: low_height(full.height), rate: rates.low() };
        match Encoder::start(self.program, &full, shape) {
            Ok(encoder) => {
                tracing::info!(?shape, "the low rendition begins");
                // What came before is cut off, so that the renditions begin together.
                self.cut().await?;
                self.run = Some(Run {
                    encoder,
                    keys: Keys::default(),
                    began: Instant::now(),
                    from: unit.pts,
                    fed: VecDeque::new(),
                    id,
                    track: None,
                    full_at: unit.dts,
                    low_at: unit.dts,
                    needs_key: true,
                    behind_since: None,
                });
                self.expect();
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.give_up("there is no ffmpeg on the PATH: install it").await
            }
            Err(error) => self.give_up(&format!("it cannot be started: {error}")).await,
        }
    }

    async fn on_made(&mut self, made: Made) -> Result<(), Gone> {
        let Some(run) = &mut self.run else { return Ok(()) };
        match made {
            Made::Track(track) => {
                let track = Track { id: run.id, rendition: Rendition::Low, ..track };
                run.track = Some(track);
                self.tell().await
            }
            Made::Unit(unit) => match run.recognise(unit) {
                Some(unit) => self.push(unit).await,
                None => Ok(()),
            },
            Made::Ended(complaint) => {
                let complaint = complaint.unwrap_or_else(|| "it has ended".to_owned());
                self.give_up(&complaint).await
            }
        }
    }

    /// Goes on without the encoder, for a while.
    async fn give_up(&mut self, why: &str) -> Result<(), Gone> {
        let ran = self.run.take().map(|run| run.began.elapsed());
        if ran.is_some_and(|ran| ran >= GOOD_RUN) {
            self.wait = FIRST_RETRY;
        }
        self.not_before = Instant::now() + self.wait;
        let line = format!(
            "the low rendition is not made (ffmpeg: {why}); the broadcast goes on without it, the \
             next attempt is in {} s",
            self.wait.as_secs()
        );
        self.wait = (self.wait * 2).min(LONGEST_RETRY);
        self.send(Item::Notice(line)).await?;
        if ran.is_some() {
            self.cut().await?;
            self.tell().await?;
        }
        Ok(())
    }

    /// Tells the tracks there are now.
    async fn tell(&mut self) -> Result<(), Gone> {
        let low = self.run.as_ref().and_then(|run| run.track.clone());
        let tracks = self.tracks.iter().cloned().chain(low).collect();
        self.expect();
        self.send(Item::Tracks(tracks)).await
    }

    /// Makes the builder expect the low rendition, or not: as soon as the encoder runs, before anything
    /// is known of its track.
    fn expect(&mut self) {
        let low = self.run.as_ref().map(|run| Track {
            id: run.id,
            codec: Codec::H264,
            width: 0,
            height: 0,
            sample_rate: 0,
            channels: 0,
            language: String::new(),
            rendition: Rendition::Low,
            config: Bytes::new(),
        });
        let tracks: Vec<Track> = self.tracks.iter().cloned().chain(low).collect();
        self.builder.set_tracks(&tracks);
    }

    async fn push(&mut self, unit: AccessUnit) -> Result<(), Gone> {
        self.holds = true;
        match self.builder.push(unit) {
            Some(generation) => self.send(Item::Generation(generation)).await,
            None => Ok(()),
        }
    }

    /// Sends all that is collected.
    async fn cut(&mut self) -> Result<(), Gone> {
        self.holds = false;
        while let Some(generation) = self.builder.flush() {
            self.send(Item::Generation(generation)).await?;
        }
        self.expect();
        Ok(())
    }

    async fn send(&mut self, item: Item) -> Result<(), Gone> {
        let waited = Instant::now();
        self.out.send(item).await.map_err(|_| Gone)?;
        // The encoder is not to blame for the publisher's pace.
        if let Some(since) = self.run.as_mut().and_then(|run| run.behind_since.as_mut()) {
            *since += waited.elapsed();
        }
        Ok(())
    }
}

impl Run {
    /// Feeds a picture; `false` if the encoder is stuck.
    fn feed(&mut self, unit: &AccessUnit) -> bool {
        self.full_at = self.full_at.max(unit.dts);
        if unit.pts < self.from {
            return true;
        }
        let is_key = self.keys.is_key(unit);
        let Some(known_by) = self.encoder.feed(unit, is_key) else { return false };
        if self.fed.len() >= MAX_FED {
            self.fed.pop_front();
        }
        self.fed.push_back((known_by, unit.pts));
        true
    }

    /// Gives a picture that was made its real time and its track; `None` if it cannot be used.
    fn recognise(&mut self, unit: AccessUnit) -> Option<AccessUnit> {
        let ticks = ticks(unit.pts);
        let found = self.fed.iter().find(|(known_by, _)| *known_by == ticks).map(|(_, pts)| *pts);
        let Some(pts) = found else {
            self.needs_key = true;
            return None;
        };
        // They come in the order they are shown.
        self.fed.retain(|(_, other)| *other > pts);
        self.low_at = self.low_at.max(pts);
        if self.needs_key && !unit.random_access {
            return None;
        }
        self.needs_key = false;
        Some(AccessUnit { track: self.id, pts, dts: pts, ..unit })
    }

    /// Whether the low rendition is too far behind; remembers since when.
    fn is_behind(&mut self) -> bool {
        let is_behind = self.full_at - self.low_at > MAX_LAG;
        self.behind_since = match self.behind_since {
            _ if !is_behind => None,
            since => since.or_else(|| Some(Instant::now())),
        };
        is_behind
    }
}

/// The encoder's news; never, without one.
async fn next(run: Option<&mut Run>) -> Made {
    match run {
        Some(run) => run.encoder.next().await,
        None => std::future::pending().await,
    }
}

/// The rate of what comes in.
#[derive(Debug, Default)]
struct Meter {
    known: Option<Rates>,
    video_bytes: u64,
    sound_bytes: u64,
    span: Option<(MediaTime, MediaTime)>,
}

impl Meter {
    fn note(&mut self, unit: &AccessUnit) {
        if self.known.is_some() {
            return;
        }
        let (_, last) = self.span.get_or_insert((unit.dts, unit.dts));
        *last = unit.dts.max(*last);
        let bytes = unit.data.len() as u64;
        if unit.priority.is_video() {
            self.video_bytes += bytes;
        } else {
            self.sound_bytes += bytes;
        }
    }

    /// The rates, once enough has been seen.
    fn rates(&mut self) -> Option<Rates> {
        if let (None, Some((first, last))) = (self.known, self.span)
            && last - first >= MEASURED
        {
            let ticks = (last - first).unsigned_abs();
            let rate = |bytes: u64| bytes * 8 * MediaTime::HZ.unsigned_abs() / ticks;
            self.known =
                Some(Rates { video: rate(self.video_bytes), sound: rate(self.sound_bytes) });
        }
        self.known
    }
}

/// The height of the low picture beside a full one of this height.
fn low_height(full: u16) -> u16 {
    match full {
        1..=240 => (full / 4 * 2).max(2),
        0 | 241..=480 => 240,
        _ => 360,
    }
}

#[cfg(test)]
mod tests;
