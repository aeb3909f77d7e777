//! A clip: pristine pictures, and the same as an encoder would send them live.
//!
//! Decides how clips are encoded: as OBS does by default (x264 `veryfast`, constant bit rate, a key
//! picture every two seconds, three B-pictures), with a low rendition whose key pictures come every half
//! second, at the same times as the full ones. How much of it arrives is left to [`super::scheme`].
//!
//! ```text
//!   a file, or a generator ─▶ pictures.y4m ─▶ full and low pictures, sound ─▶ demuxer ─▶ generations
//!                                  │
//!                                  └─▶ every K-th picture by itself, K times (polyphase)
//! ```

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use banyan_media::{AccessUnit, Demuxer, Event, Generation, GenerationBuilder};
use banyan_wire::{MediaTime, Rendition, Track, TrackId};

use super::ffmpeg::{self, words};
use crate::units::Bitrate;

/// Height of the low rendition; its width follows.
const LOW_HEIGHT: u32 = 240;
/// Bits per second of sound.
pub(crate) const SOUND: &str = "128k";
/// What the K descriptions of polyphase may take together, as a multiple of the full rendition's
/// rate: about what ladder takes, so that the two are compared at one price.
pub(crate) const POLYPHASE_SHARE: f64 = 1.5;

/// File of the pristine pictures.
pub(crate) const PICTURES: &str = "pictures.y4m";
const FULL: &str = "full.ts";
const LOW: &str = "low.ts";

/// Pictures as from a hand-held camera: a slow zoom that shakes, sensor noise, and a ticker below.
const CAMERA: &str = "[0:v]crop=854:480:x='213+200*sin(n/11)':y='120+110*sin(n/7)',\
    noise=alls=10:allf=t:all_seed=7[scene];\
    [1:v]crop=854:64:0:200,scroll=horizontal=-0.012[ticker];\
    [scene][ticker]overlay=0:416,format=yuv420p[out]";
const CAMERA_INPUTS: &str = "-f lavfi -i \
    mandelbrot=size=1280x720:rate=30:start_scale=2.5:end_scale=0.0008:end_pts=900:maxiter=300 \
    -f lavfi -i testsrc2=size=854x480:rate=30";

/// Where a clip's pictures come from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A file that ffmpeg reads.
    File(PathBuf),
    /// Made by ffmpeg: fast motion and noise, with a ticker.
    Camera,
}

/// How a clip is encoded.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How much of it.
    pub(crate) seconds: u32,
    /// Rate of the full rendition.
    pub(crate) rate: Bitrate,
    /// Rate of the low one.
    pub(crate) low: Bitrate,
    /// K of the polyphase encodings.
    pub(crate) polyphase: Vec<u8>,
}

/// Pictures, and their encodings.
#[derive(Debug)]
pub(crate) struct Clip {
    pub(crate) name: String,
    /// Where its files are.
    pub(crate) directory: PathBuf,
    pub(crate) pictures: Pictures,
    /// The full rendition and the sound.
    pub(crate) full: Encoded,
    /// The same and the low rendition.
    pub(crate) ladder: Encoded,
    /// For each K of polyphase, K streams of pictures without sound.
    pub(crate) polyphase: Vec<Vec<Encoded>>,
    /// Bytes of the full rendition.
    pub(crate) full_bytes: u64,
    /// Bytes of the low rendition.
    pub(crate) low_bytes: u64,
    /// Bytes of the sound.
    pub(crate) sound_bytes: u64,
}

/// The pristine pictures, in a file of their own.
#[derive(Clone, Debug)]
pub(crate) struct Pictures {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Pictures per second, as a fraction.
    pub(crate) rate: (u32, u32),
    pub(crate) count: u32,
}

/// A stream as a publisher has it.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) tracks: Vec<Track>,
    pub(crate) generations: Vec<Generation>,
    /// The `pts` at which the clip's first picture is shown.
    pub(crate) origin: MediaTime,
}

impl Origin {
    /// A name for tables.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => {
                path.file_stem().unwrap_or_default().to_string_lossy().chars().take(16).collect()
            }
            Self::Camera => "camera".to_owned(),
        }
    }

    fn inputs(&self) -> Result<Vec<String>> {
        match self {
            Self::File(path) => Ok(vec!["-i".to_owned(), absolute(path)?]),
            Self::Camera => {
                let mut inputs = words(CAMERA_INPUTS);
                inputs.extend(["-filter_complex".to_owned(), CAMERA.to_owned()]);
                Ok(inputs)
            }
        }
    }

    fn sound(&self) -> Result<Vec<String>> {
        match self {
            Self::File(path) => Ok(vec!["-i".to_owned(), absolute(path)?]),
            Self::Camera => Ok(words("-f lavfi -i anoisesrc=color=pink:seed=7:sample_rate=48000")),
        }
    }
}

impl Clip {
    /// Takes what is wanted of the clip and encodes it, in a directory of its own below `directory`.
    pub(crate) fn make(origin: &Origin, directory: &Path, settings: &Settings) -> Result<Self> {
        let Settings { seconds, rate, low, polyphase } = settings;
        let name = origin.name();
        let directory = directory.join(&name);
        fs::create_dir_all(&directory).context("making a directory for the clip")?;
        let map = match origin {
            Origin::File(_) => "0:v:0",
            Origin::Camera => "[out]",
        };
        let mut arguments = origin.inputs()?;
        arguments.extend(words(&format!(
            "-map {map} -t {seconds} -an -pix_fmt yuv420p -f yuv4mpegpipe {PICTURES}"
        )));
        ffmpeg::run(&directory, &arguments).with_context(|| format!("reading the clip {name}"))?;
        let pictures = Pictures::read(&directory.join(PICTURES))?;

        let mut arguments = words(&format!("-i {PICTURES}"));
        arguments.extend(origin.sound()?);
        arguments.extend(words(&format!("-map 0:v -map 1:a:0 -t {seconds}")));
        arguments.extend(video_options(*rate, 2.0, 3));
        arguments.extend(words(&format!("-c:a aac -b:a {SOUND} -ac 2 -ar 48000 -f mpegts {FULL}")));
        arguments.extend(words(&format!("-map 0:v -t {seconds} -vf scale=-2:{LOW_HEIGHT}")));
        // No B-pictures: it is small, and who has to fall back on it should not wait.
        arguments.extend(video_options(*low, 0.5, 0));
        arguments.extend(words(&format!("-f mpegts {LOW}")));
        ffmpeg::run(&directory, &arguments).with_context(|| format!("encoding the clip {name}"))?;
        let (tracks, units) = demux(&directory.join(FULL))?;
        let (low_tracks, low_units) = demux(&directory.join(LOW))?;
        let bytes = |units: &[AccessUnit], is_video: bool| {
            let of = units.iter().filter(|unit| unit.priority.is_video() == is_video);
            of.map(|unit| unit.data.len() as u64).sum()
        };
        let (full_bytes, sound_bytes) = (bytes(&units, true), bytes(&units, false));
        let low_bytes = bytes(&low_units, true);
        let full = Encoded::new(tracks.clone(), units.clone())?;
        let ladder = beside((tracks, units), (low_tracks, low_units))?;

        let polyphase = polyphase
            .iter()
            .map(|count| make_polyphase(&directory, &pictures, *rate, *count))
            .collect::<Result<_>>()?;
        Ok(Self {
            full,
            ladder,
            full_bytes,
            low_bytes,
            sound_bytes,
            name,
            directory,
            pictures,
            polyphase,
        })
    }

    /// Bytes of what a source without any code would send: the full pictures and the sound.
    pub(crate) const fn source_bytes(&self) -> u64 {
        self.full_bytes + self.sound_bytes
    }
}

impl Encoded {
    fn new(tracks: Vec<Track>, units: Vec<AccessUnit>) -> Result<Self> {
        let origin = first_shown(&tracks, &units)?;
        let mut builder = GenerationBuilder::default();
        builder.set_tracks(&tracks);
        let mut generations: Vec<_> =
            units.into_iter().filter_map(|unit| builder.push(unit)).collect();
        generations.extend(std::iter::from_fn(|| builder.flush()));
        Ok(Self { tracks, generations, origin })
    }
}

/// A programme in two renditions, as a publisher makes it of one: the low pictures are a track of
/// their own, on the timeline of the full ones.
fn beside(
    (mut tracks, mut units): (Vec<Track>, Vec<AccessUnit>),
    (low_tracks, low_units): (Vec<Track>, Vec<AccessUnit>),
) -> Result<Encoded> {
    let late = first_shown(&low_tracks, &low_units)? - first_shown(&tracks, &units)?;
    let low = low_tracks.into_iter().next().context("there is no low rendition")?;
    let id = TrackId(u8::try_from(tracks.len())?);
    tracks.push(Track { id, rendition: Rendition::Low, ..low });
    units.extend(low_units.into_iter().map(|unit| AccessUnit {
        track: id,
        pts: unit.pts + -late,
        dts: unit.dts + -late,
        ..unit
    }));
    units.sort_by_key(|unit| unit.dts);
    Encoded::new(tracks, units)
}

/// When the first full picture is shown.
fn first_shown(tracks: &[Track], units: &[AccessUnit]) -> Result<MediaTime> {
    let full = full_track(tracks).context("the encoded clip has no pictures")?;
    let shown = units.iter().filter(|unit| unit.track == full).map(|unit| unit.pts);
    shown.min().context("the encoded clip has no pictures")
}

impl Pictures {
    /// Reads the head of a YUV4MPEG2 file; its length gives the number of pictures.
    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).context("opening the clip's pictures")?;
        let length = file.metadata()?.len();
        let mut head = Vec::new();
        BufReader::new(file).read_until(b'\n', &mut head)?;
        let text = String::from_utf8_lossy(&head);
        let field = |tag: char| text.split_whitespace().find_map(|word| word.strip_prefix(tag));
        let number = |tag| field(tag).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let (width, height) = (number('W'), number('H'));
        let rate = field('F').and_then(|text| text.split_once(':'));
        let rate = rate.and_then(|(n, d)| Some((n.parse().ok()?, d.parse().ok()?)));
        let Some(rate @ (1.., 1..)) = rate else { bail!("the clip has no frame rate") };
        ensure!(width > 0 && height > 0, "the clip has no pictures");
        let (w, h) = (u64::from(width), u64::from(height));
        // Each picture: a line `FRAME`, full luma, two chroma planes of half the size.
        let picture = 6 + w * h + 2 * (w.div_ceil(2) * h.div_ceil(2));
        let count = u32::try_from((length - head.len() as u64) / picture)?;
        ensure!(count > 0, "the clip has no pictures");
        Ok(Self { width, height, rate, count })
    }

    /// Time of one picture in ticks.
    pub(crate) fn period(&self) -> f64 {
        MediaTime::HZ as f64 * f64::from(self.rate.1) / f64::from(self.rate.0)
    }

    /// Pictures per second.
    pub(crate) fn per_second(&self) -> f64 {
        f64::from(self.rate.0) / f64::from(self.rate.1)
    }

    /// How long the clip is.
    pub(crate) fn seconds(&self) -> f64 {
        f64::from(self.count) / self.per_second()
    }
}

/// Constant bit rate, a key picture every `key` seconds, at most `b` B-pictures in a row.
fn video_options(rate: Bitrate, key: f64, b: u8) -> Vec<String> {
    let bits = rate.0;
    words(&format!(
        "-c:v libx264 -preset veryfast -b:v {bits} -maxrate {bits} -bufsize {bits} -bf {b} \
         -g 9999 -sc_threshold 0 -threads 1 -force_key_frames expr:gte(t,n_forced*{key})"
    ))
}

/// Every `count`-th picture encoded by itself, `count` times.
fn make_polyphase(
    directory: &Path,
    pictures: &Pictures,
    rate: Bitrate,
    count: u8,
) -> Result<Vec<Encoded>> {
    let each = rate.times(POLYPHASE_SHARE / f64::from(count));
    (0..count)
        .map(|phase| {
            let path = format!("phase-{phase}-of-{count}.ts");
            let mut arguments = words(&format!("-i {PICTURES} -vf"));
            arguments.push(format!("select='eq(mod(n,{count}),{phase})'"));
            arguments.extend(words("-vsync passthrough"));
            arguments.extend(video_options(each, 2.0, 3));
            arguments.extend(words(&format!("-f mpegts {path}")));
            ffmpeg::run(directory, &arguments).context("encoding for polyphase")?;
            let (tracks, units) = demux(&directory.join(path))?;
            let mut encoded = Encoded::new(tracks, units)?;
            // Its first picture is the clip's picture `phase`.
            #[expect(clippy::cast_possible_truncation, reason = "a few pictures' time in ticks")]
            let late = (f64::from(phase) * pictures.period()).round() as i64;
            encoded.origin = encoded.origin + -late;
            Ok(encoded)
        })
        .collect()
}

/// The tracks and units of a transport stream.
fn demux(path: &Path) -> Result<(Vec<Track>, Vec<AccessUnit>)> {
    let bytes = fs::read(path).context("reading the encoded clip")?;
    let mut demuxer = Demuxer::ts();
    let (mut tracks, mut units) = (Vec::new(), Vec::new());
    let mut drain = |demuxer: &mut Demuxer| -> Result<()> {
        while let Some(event) = demuxer.poll() {
            match event {
                Event::Tracks(found) => tracks = found,
                Event::AccessUnit(unit) => units.push(unit),
                other @ (Event::Skipped { .. } | Event::Discontinuity | _) => {
                    bail!("the encoded clip is not as it should be: {other:?}")
                }
            }
        }
        Ok(())
    };
    for part in bytes.chunks(64 << 10) {
        demuxer.push(part)?;
        drain(&mut demuxer)?;
    }
    demuxer.finish()?;
    drain(&mut demuxer)?;
    Ok((tracks, units))
}

fn absolute(path: &Path) -> Result<String> {
    let path = path.canonicalize().with_context(|| format!("no clip at {}", path.display()))?;
    Ok(path.to_string_lossy().into_owned())
}

/// The track that pictures are shown under.
pub(crate) fn full_track(tracks: &[Track]) -> Option<TrackId> {
    let is_full = |track: &&Track| track.codec.is_video() && track.rendition == Rendition::Full;
    tracks.iter().find(is_full).map(|track| track.id)
}
