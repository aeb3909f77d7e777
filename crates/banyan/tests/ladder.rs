//! Two renditions from an encoder to the screen, through the real code: a transport stream with two
//! pictures, coded with thresholds of 6 and 13 of 16, of which random descriptions arrive.
//!
//! The judge is ffmpeg; where it is not installed, these tests say so and pass.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::path::Path;
use std::process::{Command, Stdio};

use banyan_coding::{Assembler, Layer, encode, thresholds};
use banyan_media::{
    Arrived, Event, Generation, GenerationBuilder, Layering, RenditionSwitch, Renditions,
    TsDemuxer, TsMuxer, low_track, merge_layers, split_layers,
};
use banyan_wire::{Rendition, StripeCount, Track};
use bytes::Bytes;
use tempfile::TempDir;

const SECONDS: usize = 12;
const PICTURES: usize = SECONDS * 24;
/// Ticks of a picture.
const STEP: i64 = 3750;

/// Splits one picture in two, and encodes both. `$0` stands for what differs.
const TWO: &str = "-filter_complex [0:v]split[a][b];[b]scale=-2:240[c] -map [a] -map [c] -map 0:a \
                   -c:v libx264 -preset veryfast -sc_threshold 0 -b:v:0 1200k -b:v:1 110k -c:a aac";

fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("SKIPPED: ffmpeg is not installed");
    }
    found
}

/// Runs ffmpeg, which has nothing to complain about.
fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    let output = command.args(["-v", "error", "-nostdin", "-y"]).args(arguments).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaints.is_empty(), "{arguments:?}: {complaints}");
    output.stdout
}

/// A programme that ffmpeg makes of the clip, with these options beside those of [`TWO`].
fn programme(options: &str) -> (Vec<Track>, Vec<Generation>) {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets");
    let clip = clip.join("bbb_480p24_30s_h264_aac.mp4");
    let seconds = SECONDS.to_string();
    let mut arguments = vec!["-t", &seconds, "-i", clip.to_str().unwrap()];
    arguments.extend(TWO.split_whitespace().chain(options.split_whitespace()));
    arguments.extend(["-f", "mpegts", "-"]);
    let stream = ffmpeg(&arguments);
    cut(&stream, Renditions::Programme)
}

fn cut(stream: &[u8], renditions: Renditions) -> (Vec<Track>, Vec<Generation>) {
    let mut demuxer = TsDemuxer::with_renditions(renditions);
    let mut builder = GenerationBuilder::default();
    let (mut tracks, mut generations) = (Vec::new(), Vec::new());
    for part in stream.chunks(1316).map(Some).chain([None]) {
        match part {
            Some(part) => demuxer.push(part).unwrap(),
            None => demuxer.finish().unwrap(),
        }
        while let Some(event) = demuxer.poll() {
            match event {
                Event::Tracks(found) => {
                    builder.set_tracks(&found);
                    tracks = found;
                }
                Event::AccessUnit(unit) => generations.extend(builder.push(unit)),
                Event::Skipped { .. } | Event::Discontinuity | _ => {}
            }
        }
    }
    generations.extend(std::iter::from_fn(|| builder.flush()));
    (tracks, generations)
}

/// A small generator of random numbers, the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }
}

/// What comes back of a generation from `count` of its 16 descriptions, whichever.
fn carry(
    generation: &Generation,
    tracks: &[Track],
    count: usize,
    random: &mut Random,
) -> Vec<Option<Bytes>> {
    let stripes = StripeCount::DEFAULT;
    let low = low_track(tracks).unwrap();
    let layers = split_layers(generation, Layering::Ladder { low }).into_iter();
    let layers: Vec<_> = layers
        .zip(thresholds::ladder(stripes))
        .map(|(data, threshold)| Layer { threshold, data })
        .collect();
    let encoded = encode(stripes, 2048, &layers).unwrap();
    let mut left: Vec<_> = encoded.layout.stripes().iter().collect();
    let mut assembler = Assembler::new(encoded.layout.clone());
    for _ in 0..count {
        let stripe = left.swap_remove(random.below(left.len()));
        for (index, chunk) in encoded.chunks[stripe.index()].iter().enumerate() {
            assembler.insert(stripe, index, chunk.clone());
        }
    }
    (0..layers.len()).map(|layer| assembler.layer(layer)).collect()
}

/// What a viewer gets to see, as a transport stream, and which rendition that is.
fn watch(
    tracks: &[Track],
    generations: &[Generation],
    mut received: impl FnMut(&mut Random) -> usize,
) -> (Vec<u8>, Vec<Option<Rendition>>) {
    let mut random = Random(42);
    let mut switch = RenditionSwitch::new();
    switch.set_tracks(tracks);
    let mut muxer = TsMuxer::new(switch.tracks());
    let (mut stream, mut renditions) = (Vec::new(), Vec::new());
    for generation in generations {
        let count = received(&mut random);
        let layers = carry(generation, tracks, count, &mut random);
        let units = merge_layers(&layers).unwrap();
        let shown = switch.show(units, Arrived::of(&layers), generation.random_access);
        muxer.set_tracks(switch.tracks());
        for unit in &shown.units {
            muxer.write(unit, &mut stream);
        }
        renditions.push(shown.rendition);
    }
    (stream, renditions)
}

/// Time and hash of every picture that ffmpeg decodes, without a complaint.
fn decode(directory: &TempDir, stream: &[u8]) -> Vec<(i64, String)> {
    let path = directory.path().join("shown.ts");
    std::fs::write(&path, stream).unwrap();
    let path = path.to_str().unwrap();
    ffmpeg(&["-i", path, "-f", "null", "-"]);
    // Scaled for the hash only; the times are the stream's.
    let printed = ffmpeg(&[
        "-copyts",
        "-i",
        path,
        "-map",
        "0:v",
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "1:90000",
        "-f",
        "framemd5",
        "-",
    ]);
    let fields = |line: &str| {
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        (fields[2].parse().unwrap(), fields[5].to_owned())
    };
    let text = String::from_utf8(printed).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(fields).collect()
}

fn assert_no_gap(shown: &[(i64, String)]) {
    for pair in shown.windows(2) {
        let step = pair[1].0 - pair[0].0;
        assert!((STEP - 1..=STEP + 1).contains(&step), "{} follows {}", pair[1].0, pair[0].0);
    }
}

fn sound(directory: &TempDir) -> Vec<u8> {
    let path = directory.path().join("shown.ts");
    ffmpeg(&["-i", path.to_str().unwrap(), "-map", "0:a", "-c", "copy", "-f", "adts", "-"])
}

#[test]
fn any_six_descriptions_give_every_picture_and_thirteen_give_the_full_ones() {
    if !has_ffmpeg() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (tracks, generations) = programme("-bf 0 -g:v:0 24 -g:v:1 12");
    let sizes: Vec<_> = tracks.iter().map(|track| (track.height, track.rendition)).collect();
    assert_eq!(sizes[..2], [(480, Rendition::Full), (240, Rendition::Low)]);
    assert!(generations.iter().all(|generation| generation.random_access));
    assert_eq!(generations.len(), SECONDS * 2);

    let (whole, renditions) = watch(&tracks, &generations, |_| 16);
    assert!(renditions.iter().all(|shown| *shown == Some(Rendition::Full)));
    let whole = decode(&directory, &whole);
    let whole_sound = sound(&directory);
    assert_eq!(whole.len(), PICTURES);
    assert_no_gap(&whole);

    let (enough, _) = watch(&tracks, &generations, |random| 13 + random.below(4));
    assert_eq!(decode(&directory, &enough), whole, "13 and more: bit for bit the full pictures");

    let counts = [6, 8, 12, 13, 16];
    let (some, renditions) = watch(&tracks, &generations, |random| counts[random.below(5)]);
    assert!(renditions.contains(&Some(Rendition::Full)), "{renditions:?}");
    assert!(renditions.contains(&Some(Rendition::Low)), "{renditions:?}");
    assert!(!renditions.contains(&None), "{renditions:?}");
    let shown = decode(&directory, &some);
    assert_eq!(shown.len(), PICTURES, "the full frame rate");
    assert_no_gap(&shown);
    assert_eq!(sound(&directory), whole_sound, "sound is never interrupted");
    // Where the full rendition is shown, its pictures are the very ones.
    for (generation, rendition) in generations.iter().zip(&renditions) {
        let begin = (generation.start - generations[0].start) / STEP;
        let place = usize::try_from(begin).unwrap();
        assert_eq!(shown[place] == whole[place], *rendition == Some(Rendition::Full), "{place}");
    }

    let (least, renditions) = watch(&tracks, &generations, |_| 6);
    assert!(renditions.iter().all(|shown| *shown == Some(Rendition::Low)));
    assert_eq!(decode(&directory, &least).len(), PICTURES);
}

#[test]
fn with_reordered_pictures_what_is_shown_still_decodes_and_time_never_runs_back() {
    if !has_ffmpeg() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // The full rendition is decoded two pictures before it is shown, the low one at once; below a
    // key of both there is no going over.
    let (tracks, generations) = programme("-g 24 -bf:v:0 3 -bf:v:1 0");
    let (all, _) = watch(&tracks, &generations, |_| 16);
    assert_eq!(decode(&directory, &all).len(), PICTURES);
    let counts = [6, 13, 13, 16, 16];
    let (some, renditions) = watch(&tracks, &generations, |random| counts[random.below(5)]);
    assert!(renditions.contains(&Some(Rendition::Low)), "{renditions:?}");
    let shown = decode(&directory, &some);
    assert!(shown.windows(2).all(|pair| pair[0].0 < pair[1].0), "time runs back");
    assert!(shown.len() > PICTURES / 2, "{}", shown.len());
    // At keys of both, there is no gap: with all or only the base for whole GOPs, nothing is missing.
    let mut at = 0;
    let (gops, renditions) = watch(&tracks, &generations, |_| {
        at += 1;
        if (at - 1) / 4 % 2 == 0 { 16 } else { 6 }
    });
    assert!(!renditions.contains(&None), "{renditions:?}");
    let shown = decode(&directory, &gops);
    assert_eq!(shown.len(), PICTURES);
    assert_no_gap(&shown);
}

#[test]
fn another_programme_is_a_rendition_only_where_it_is_asked_for() {
    if !has_ffmpeg() {
        return;
    }
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets");
    let clip = clip.join("bbb_480p24_30s_h264_aac.mp4");
    let mut arguments = vec!["-t", "4", "-i", clip.to_str().unwrap()];
    arguments.extend(TWO.split_whitespace());
    arguments.extend(["-map", "0:a", "-bf", "0", "-g", "24"]);
    arguments.extend(["-program", "st=0:st=2", "-program", "st=1:st=3", "-f", "mpegts", "-"]);
    let stream = ffmpeg(&arguments);
    let (tracks, _) = cut(&stream, Renditions::Programme);
    assert_eq!((tracks.len(), low_track(&tracks)), (2, None));
    let (tracks, generations) = cut(&stream, Renditions::AllProgrammes);
    assert_eq!(tracks.len(), 3, "the other programme's sound is ignored: {tracks:?}");
    let low = low_track(&tracks).unwrap();
    let low_units = generations.iter().flat_map(|generation| &generation.units);
    assert_eq!(low_units.filter(|unit| unit.track == low).count(), 96);
}
