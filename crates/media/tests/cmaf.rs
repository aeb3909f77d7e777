//! Fragmented MP4: what is promised of each fragment, and that ffmpeg decodes it bit by bit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use banyan_media::{AccessUnit, CmafMuxer, Fragment, GenerationBuilder, Priority};
use banyan_wire::{Codec, MediaTime, Rendition, Track, TrackId};
use bytes::Bytes;
use common::{CLIPS, read_mp4};

const PART: Duration = Duration::from_millis(280);

fn generations(units: Vec<AccessUnit>) -> Vec<Vec<AccessUnit>> {
    let mut builder = GenerationBuilder::default();
    let mut done: Vec<_> = units.into_iter().filter_map(|unit| builder.push(unit)).collect();
    done.extend(builder.flush());
    done.into_iter().map(|generation| generation.units).collect()
}

fn mux(tracks: &[Track], generations: &[Vec<AccessUnit>]) -> Vec<Fragment> {
    let mut muxer = CmafMuxer::new(PART, 8);
    muxer.set_tracks(tracks);
    generations.iter().flat_map(|units| muxer.push(units)).collect()
}

fn concatenate(fragments: &[Fragment]) -> Vec<u8> {
    let mut file = fragments[0].init.data.to_vec();
    fragments.iter().for_each(|fragment| file.extend_from_slice(&fragment.data));
    file
}

#[test]
fn fragments_follow_each_other_and_are_as_long_as_they_say() {
    for clip in CLIPS {
        let (tracks, units) = read_mp4(clip);
        let pictures = units.iter().filter(|unit| unit.priority.is_video()).count();
        let keys = units.iter().filter(|unit| unit.priority == Priority::Key).count();
        let fragments = mux(&tracks, &generations(units));
        assert_eq!(fragments.iter().map(|fragment| fragment.pictures).sum::<usize>(), pictures);
        assert_eq!(fragments.iter().filter(|fragment| fragment.is_independent).count(), keys);
        assert!(fragments[0].is_independent && fragments[0].is_discontinuous);
        assert!(fragments[1..].iter().all(|fragment| !fragment.is_discontinuous));
        assert!(fragments.iter().all(|fragment| fragment.init == fragments[0].init));
        assert!(fragments.iter().all(|fragment| fragment.duration <= 280 * 90));
        for pair in fragments.windows(2) {
            let hole = pair[1].start - (pair[0].start + pair[0].duration);
            assert!(hole.abs() <= 1, "{hole} ticks");
        }
    }
}

#[test]
fn the_codecs_are_named_as_players_ask_for_them() {
    let (tracks, units) = read_mp4(CLIPS[0]);
    let fragments = mux(&tracks, &generations(units));
    let init = &fragments[0].init;
    assert_eq!(init.codecs, "avc1.64001e,mp4a.40.2");
    assert_eq!((init.width, init.height), (854, 480));
}

#[test]
fn nothing_is_written_before_a_picture_that_can_be_decoded() {
    let (tracks, units) = read_mp4(CLIPS[0]);
    let generations = generations(units);
    let key = generations[1..].iter().position(|units| units[0].priority == Priority::Key).unwrap();
    assert!(key > 0);
    let mut muxer = CmafMuxer::new(PART, 1);
    assert!(muxer.push(&generations[1]).is_empty(), "no tracks are known");
    muxer.set_tracks(&tracks);
    for units in &generations[1..=key] {
        assert!(muxer.push(units).is_empty());
    }
    let first = &muxer.push(&generations[key + 1])[0];
    assert!(first.is_independent);
    assert_eq!(first.start / 90_000, 0);
}

#[test]
fn an_unknown_configuration_is_waited_for_but_not_for_ever() {
    let (mut tracks, units) = read_mp4(CLIPS[0]);
    let is_sound = |unit: &AccessUnit| !unit.priority.is_video();
    tracks.iter_mut().for_each(|track| track.config = Bytes::new());
    let with_sound = generations(units.clone());
    assert_eq!(mux(&tracks, &with_sound)[0].init.codecs, "avc1.64001e,mp4a.40.2");
    let silent: Vec<AccessUnit> = units.into_iter().filter(|unit| !is_sound(unit)).collect();
    let fragments = mux(&tracks, &generations(silent));
    assert_eq!(fragments[0].init.codecs, "avc1.64001e");
    assert!(fragments[0].is_independent);
}

#[test]
fn a_lost_generation_and_a_clock_set_anew_are_discontinuities() {
    let (tracks, units) = read_mp4(CLIPS[0]);
    let generations = generations(units);
    let mut muxer = CmafMuxer::new(PART, 1);
    muxer.set_tracks(&tracks);
    let flags = |fragments: Vec<Fragment>| -> Vec<(bool, i64, i64)> {
        fragments.iter().map(|f| (f.is_discontinuous, f.start, f.duration)).collect()
    };
    let first = flags(muxer.push(&generations[0]));
    let second = flags(muxer.push(&generations[2]));
    assert!(second[0].0 && !second[1].0);
    assert_eq!(second[0].1 - (first[1].1 + first[1].2), 500 * 90, "time goes on");
    let again = flags(muxer.push(&generations[0]));
    assert!(again[0].0);
    let at = again[0].1 - (second[1].1 + second[1].2);
    assert!((0..9000).contains(&at), "what is written goes on at once: {at}");
    let mut later = generations[1].clone();
    later.iter_mut().for_each(|unit| {
        unit.pts = unit.pts + 90_000 * 3600;
        unit.dts = unit.dts + 90_000 * 3600;
    });
    let later = flags(muxer.push(&later));
    assert!(later[0].0 && later[0].1 - (again[1].1 + again[1].2) < 9000);
}

#[test]
fn sound_goes_on_without_pictures_and_the_last_picture_is_held() {
    let (tracks, units) = read_mp4(CLIPS[0]);
    let mut generations = generations(units);
    // The last five pictures of the first generation, and all of the second, are lost.
    let mut seen = 0;
    generations[0].retain(|unit| {
        seen += usize::from(unit.priority.is_video());
        !unit.priority.is_video() || seen <= 7
    });
    generations[1].retain(|unit| !unit.priority.is_video());
    let fragments = mux(&tracks, &generations[..3]);
    let first: Vec<_> = fragments.iter().take_while(|f| f.pictures > 0).collect();
    let pictures: usize = first.iter().map(|fragment| fragment.pictures).sum();
    let end = first.last().unwrap().start + first.last().unwrap().duration;
    assert_eq!((pictures, end - first[0].start), (7, 500 * 90));
    assert!(fragments[1..].iter().all(|fragment| !fragment.is_discontinuous));
    let silent: Vec<_> = fragments.iter().filter(|fragment| fragment.pictures == 0).collect();
    assert!(!silent.is_empty() && silent.iter().all(|fragment| !fragment.is_independent));
}

#[test]
fn a_lower_rendition_steps_in_where_it_can_be_decoded() {
    let (tracks, units) = read_mp4(CLIPS[0]);
    let (small_tracks, small_units) = read_mp4(CLIPS[1]);
    let mut low = small_tracks[0].clone();
    assert!(low.codec.is_video());
    low.id = TrackId(7);
    low.rendition = Rendition::Low;
    let key = small_units.iter().find(|unit| unit.priority == Priority::Key).unwrap();
    let generations = generations(units);
    let is_key = |units: &&Vec<AccessUnit>| units.iter().any(|unit| unit.priority == Priority::Key);
    let mut starts = generations.iter().filter(is_key);
    let (full, lost) = (starts.next().unwrap(), starts.next().unwrap());
    let picture = lost.iter().find(|unit| unit.priority == Priority::Key).unwrap();
    let mut lost: Vec<AccessUnit> =
        lost.iter().filter(|unit| !unit.priority.is_video()).cloned().collect();
    lost.push(AccessUnit { track: low.id, pts: picture.pts, dts: picture.dts, ..key.clone() });
    lost.sort_by_key(|unit| unit.dts);
    let tracks = [tracks.as_slice(), &[low]].concat();
    let fragments = mux(&tracks, &[full.clone(), lost, starts.next().unwrap().clone()]);
    let mut inits: Vec<(u16, bool)> =
        fragments.iter().map(|f| (f.init.width, f.is_discontinuous)).collect();
    inits.dedup_by_key(|(width, _)| *width);
    assert_eq!(inits, [(854, true), (1920, true), (854, true)]);
}

#[test]
fn no_units_do_harm() {
    let (tracks, units) = read_mp4(CLIPS[1]);
    let times = [i64::MIN, i64::MAX, 0, -1, 1 << 40, i64::MIN + 1, 5, -(1 << 56)];
    let mut muxer = CmafMuxer::new(PART, 8);
    muxer.set_tracks(&tracks);
    for (at, units) in generations(units).iter().cycle().take(64).enumerate() {
        let mut units = units.clone();
        for (unit, index) in units.iter_mut().zip(0..) {
            if (index + at) % 3 != 0 {
                unit.pts = MediaTime(times[(at + index) % times.len()]);
                unit.dts = MediaTime(times[(at * index + 1) % times.len()]);
            }
            if (index + at) % 5 == 4 {
                unit.data = unit.data.slice(..unit.data.len().min((at + index) % 9));
            }
        }
        for fragment in muxer.push(&units) {
            assert!(fragment.duration >= 1 && fragment.start >= 0);
        }
    }
    for codec in [Codec::H264, Codec::Hevc, Codec::Av1, Codec::Vp9, Codec::Aac, Codec::Opus] {
        for config in
            [&[][..], &[0], &[0, 0, 1, 0x67], b"OpusHead\x01\x02\x00\x00\x00\x00\x00", &[0xff; 40]]
        {
            let odd = Track { codec, config: Bytes::copy_from_slice(config), ..tracks[0].clone() };
            let mut muxer = CmafMuxer::new(PART, 8);
            muxer.set_tracks(&[odd]);
            let data = Bytes::copy_from_slice(config);
            let unit = AccessUnit {
                track: tracks[0].id,
                pts: MediaTime(0),
                dts: MediaTime(0),
                random_access: true,
                priority: if codec.is_video() { Priority::Key } else { Priority::Audio },
                data,
            };
            muxer.push(&[unit]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let quiet = ["-v", "error"];
    let mut command = Command::new(program);
    let output = command.args(quiet).args(arguments).stdin(Stdio::null()).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{arguments:?}: {complaints}");
    output.stdout
}

fn is_missing(test: &str) -> bool {
    let is_there = ["ffmpeg", "ffprobe"]
        .iter()
        .all(|program| Command::new(program).arg("-version").output().is_ok());
    if !is_there {
        eprintln!("SKIPPED: {test} needs ffmpeg and ffprobe on the path");
    }
    !is_there
}

/// Whether this ffmpeg can make a test's input.
fn lacks_encoder(test: &str, encoder: &str) -> bool {
    let encoders = String::from_utf8(run("ffmpeg", &["-hide_banner", "-encoders"])).unwrap();
    let is_there = encoders.split_whitespace().any(|word| word == encoder);
    if !is_there {
        eprintln!("SKIPPED: {test} for {encoder}, which this ffmpeg does not have");
    }
    !is_there
}

/// Hash of every decoded frame, without the times, which may be moved.
fn frame_hashes(path: &str, map: &str) -> Vec<String> {
    let printed = run("ffmpeg", &["-i", path, "-map", map, "-f", "framemd5", "-"]);
    let lines = String::from_utf8(printed).unwrap();
    let hash = |line: &str| line.rsplit(',').next().unwrap().trim().to_owned();
    let hashes: Vec<String> =
        lines.lines().filter(|line| !line.starts_with('#')).map(hash).collect();
    assert!(!hashes.is_empty());
    hashes
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> String {
    let path = directory.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The packets of one stream of an MP4 file, as units: where ffprobe says they are.
fn packets(path: &str, map: &str, track: &Track) -> Vec<AccessUnit> {
    let file = std::fs::read(path).unwrap();
    let entries = ["-show_entries", "packet=pts,dts,size,pos,flags:stream=time_base"];
    let printed = [&["-select_streams", map][..], &entries, &["-of", "csv=p=1", path]].concat();
    let printed = String::from_utf8(run("ffprobe", &printed)).unwrap();
    let base = printed.lines().find_map(|line| line.strip_prefix("stream,1/")).unwrap();
    let base: i64 = base.trim().parse().unwrap();
    let unit = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |at: usize| fields[at].parse::<i64>().unwrap();
        let place = usize::try_from(number(4)).unwrap();
        let data = &file[place..place + usize::try_from(number(3)).unwrap()];
        let is_key = fields[5].starts_with('K');
        AccessUnit {
            track: track.id,
            pts: MediaTime(number(1) * 90_000 / base),
            dts: MediaTime(number(2) * 90_000 / base),
            random_access: is_key,
            priority: match (track.codec.is_video(), is_key) {
                (false, _) => Priority::Audio,
                (true, true) => Priority::Key,
                (true, false) => Priority::Reference,
            },
            data: if track.codec == Codec::Hevc {
                annex_b(data)
            } else {
                Bytes::copy_from_slice(data)
            },
        }
    };
    printed.lines().filter(|line| line.starts_with("packet,")).map(unit).collect()
}

fn annex_b(mut sample: &[u8]) -> Bytes {
    let mut out = Vec::new();
    while let Some((len, rest)) = sample.split_first_chunk::<4>() {
        let (nal, rest) = rest.split_at(usize::try_from(u32::from_be_bytes(*len)).unwrap());
        out.extend([0, 0, 0, 1]);
        out.extend_from_slice(nal);
        sample = rest;
    }
    out.into()
}

/// What a box of this name holds.
fn find_box(path: &str, name: &[u8]) -> Bytes {
    let file = std::fs::read(path).unwrap();
    let at = file.windows(4).position(|bytes| bytes == name).unwrap();
    let len = u32::from_be_bytes(file[at - 4..at].try_into().unwrap());
    Bytes::copy_from_slice(&file[at + 4..at - 4 + usize::try_from(len).unwrap()])
}

fn track(id: u8, codec: Codec, config: Bytes) -> Track {
    let (width, height) = if codec.is_video() { (320, 240) } else { (0, 0) };
    let (sample_rate, channels) = if codec.is_video() { (0, 0) } else { (48_000, 2) };
    let (language, rendition) = (String::new(), Rendition::Full);
    Track {
        id: TrackId(id),
        codec,
        width,
        height,
        sample_rate,
        channels,
        language,
        rendition,
        config,
    }
}

#[test]
fn h264_and_aac_decode_to_the_pictures_and_the_sound_of_the_file() {
    if is_missing("h264_and_aac_decode_to_the_pictures_and_the_sound_of_the_file") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for clip in CLIPS {
        let (tracks, units) = read_mp4(clip);
        let fragments = mux(&tracks, &generations(units));
        let path = write(directory.path(), "muxed.mp4", &concatenate(&fragments));
        let expected = frame_hashes(clip, "0:v");
        assert_eq!(frame_hashes(&path, "0:v"), expected, "{clip}");
        // Both start with the encoder's silence; how much of it is cut off differs.
        let (sound, source) = (frame_hashes(&path, "0:a"), frame_hashes(clip, "0:a"));
        assert!(sound.ends_with(&source[source.len() / 2..]), "{clip}");
        // A player may begin with any independent fragment.
        let later = fragments.iter().rposition(|fragment| fragment.is_independent).unwrap();
        let path = write(directory.path(), "later.mp4", &concatenate(&fragments[later..]));
        let pictures = frame_hashes(&path, "0:v");
        assert!(expected.ends_with(&pictures), "{clip}");
    }
}

#[test]
fn other_codecs_of_sound_decode_bit_by_bit() {
    if is_missing("other_codecs_of_sound_decode_bit_by_bit") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (codec, name) in [("ac3", "ac-3"), ("libmp3lame", "mp4a.6b")] {
        let source = directory.path().join("source.mp4").to_str().unwrap().to_owned();
        run("ffmpeg", &["-y", "-i", CLIPS[1], "-c:v", "copy", "-ac", "2", "-c:a", codec, &source]);
        let (tracks, units) = read_mp4(&source);
        let fragments = mux(&tracks, &generations(units));
        assert!(fragments[0].init.codecs.ends_with(name), "{}", fragments[0].init.codecs);
        let path = write(directory.path(), "muxed.mp4", &concatenate(&fragments));
        let (sound, expected) = (frame_hashes(&path, "0:a"), frame_hashes(&source, "0:a"));
        assert!(sound.ends_with(&expected[expected.len() / 2..]), "{codec}");
    }
}

#[test]
fn hevc_av1_and_vp9_with_opus_decode_bit_by_bit() {
    const TEST: &str = "hevc_av1_and_vp9_with_opus_decode_bit_by_bit";
    if is_missing(TEST) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let hevc = ["-c:v", "libx265", "-x265-params", "keyint=48:repeat-headers=1:log-level=none"];
    let av1 = ["-c:v", "libsvtav1", "-preset", "10", "-g", "48"];
    let vp9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-g", "48"];
    let codecs: [(Codec, &[&str], &str); 3] = [
        (Codec::Hevc, &hevc, "hvc1.1.6.L60.90"),
        (Codec::Av1, &av1, "av01.0.00M.08"),
        (Codec::Vp9, &vp9, "vp09.00.21.08"),
    ];
    for (codec, options, name) in codecs {
        if lacks_encoder(TEST, options[1]) || lacks_encoder(TEST, "libopus") {
            continue;
        }
        let source = directory.path().join("source.mp4").to_str().unwrap().to_owned();
        let picture = ["-y", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=24:duration=4"];
        let sound = ["-f", "lavfi", "-i", "sine=sample_rate=48000:duration=4", "-ac", "2"];
        let rest = ["-pix_fmt", "yuv420p", "-c:a", "libopus", "-strict", "-2", &source];
        // Some encoders say on stderr what they do, whatever they are told.
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "quiet"]).args(picture).args(sound).args(options).args(rest);
        assert!(command.stdin(Stdio::null()).output().unwrap().status.success());

        let config = if codec == Codec::Av1 { find_box(&source, b"av1C") } else { Bytes::new() };
        let head = Bytes::from_static(b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0");
        let tracks = [track(0, codec, config), track(1, Codec::Opus, head)];
        let mut units = packets(&source, "v", &tracks[0]);
        units.extend(packets(&source, "a", &tracks[1]));
        units.sort_by_key(|unit| unit.dts);
        let fragments = mux(&tracks, &generations(units));
        assert_eq!(fragments[0].init.codecs, format!("{name},opus"));
        let path = write(directory.path(), "muxed.mp4", &concatenate(&fragments));
        assert_eq!(frame_hashes(&path, "0:v"), frame_hashes(&source, "0:v"), "{codec:?}");
        let (sound, expected) = (frame_hashes(&path, "0:a"), frame_hashes(&source, "0:a"));
        // What is cut off at the start differs, and all frames with it; but not how many there are.
        assert!(sound.len().abs_diff(expected.len()) <= 2, "{codec:?}");
    }
}
