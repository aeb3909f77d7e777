//! Odd streams: each is carried right, or refused in one line that says what to do.
//!
//! Where there is no `ffmpeg` on the path, these tests say so and pass.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::io::Cursor;

use banyan_media::{
    AccessUnit, Container, Demuxer, Event, GenerationBuilder, Mp4Error, Mp4Reader, Priority, sniff,
};
use banyan_wire::{Codec, Track};
use common::{
    CLIPS, demux_any, ffmpeg, frame_hashes, frame_hashes_at, is_missing, mux, of_track,
    sort_events, write,
};

/// Pictures to encode.
const PICTURES: [&str; 4] = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=2"];
/// A tone to encode.
const TONE: [&str; 4] = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=2"];
/// As a live encoder sends MP4.
const FRAGMENTS: [&str; 5] =
    ["-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof", "-"];
/// Every container of live streams.
const CONTAINERS: [&[&str]; 3] = [&["-f", "mpegts", "-"], &FRAGMENTS, &["-f", "matroska", "-"]];

/// The tracks as announced, and the units, of what ffmpeg makes of its options.
fn carried(options: &[&[&str]]) -> (Vec<Track>, Vec<AccessUnit>) {
    sort_events(demux_any(&ffmpeg(&options.concat()), 3000))
}

/// What is said of a stream that is not carried.
fn refusal(stream: &[u8]) -> String {
    let mut demuxer = Demuxer::sniffing();
    demuxer.push(stream).and_then(|()| demuxer.finish()).unwrap_err().to_string()
}

#[test]
fn a_variable_rate_of_pictures_keeps_its_times() {
    if is_missing("a_variable_rate_of_pictures_keeps_its_times") {
        return;
    }
    // A picture now and then: 0, 3, 4, 9, 12, 16 …
    let select = ["-vf", "select='not(mod(n,3))+not(mod(n,4))'", "-vsync", "vfr"];
    let encode = ["-c:v", "libx264", "-g", "10", "-bf", "2"];
    let shown: Vec<i64> =
        (0..50).filter(|at| at % 3 == 0 || at % 4 == 0).map(|at| at * 3600).collect();
    for container in CONTAINERS {
        let (tracks, units) = carried(&[&PICTURES, &select, &encode, container]);
        assert_eq!(tracks.len(), 1);
        let mut times: Vec<i64> = units.iter().map(|unit| unit.pts.0).collect();
        times.sort_unstable();
        let first = times[0];
        assert_eq!(times.iter().map(|at| at - first).collect::<Vec<_>>(), shown, "{container:?}");
    }
}

#[test]
fn sound_alone_is_a_programme() {
    if is_missing("sound_alone_is_a_programme") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for codec in ["aac", "libopus"] {
        for container in CONTAINERS {
            let (tracks, units) = carried(&[&TONE, &["-c:a", codec], container]);
            assert_eq!(tracks.len(), 1);
            assert!(!tracks[0].codec.is_video());
            assert!(units.len() > 90, "{} in {container:?}", units.len());
            let mut builder = GenerationBuilder::default();
            let mut generations: Vec<_> =
                units.iter().cloned().filter_map(|unit| builder.push(unit)).collect();
            generations.extend(builder.flush());
            assert!(generations.iter().all(|generation| generation.random_access));
            let path = write(directory.path(), "out.ts", &mux(&tracks, &units));
            assert!(frame_hashes(&path, "0:a").len() > 90);
        }
        let file = directory.path().join("a.mp4").to_str().unwrap().to_owned();
        ffmpeg(&[&TONE[..], &["-c:a", codec, "-y", &file]].concat());
        let reader = Mp4Reader::open(std::fs::File::open(&file).unwrap()).unwrap();
        assert_eq!(reader.tracks().len(), 1);
    }
}

#[test]
fn several_tracks_of_sound_are_carried_with_their_languages() {
    if is_missing("several_tracks_of_sound_are_carried_with_their_languages") {
        return;
    }
    let input = [&PICTURES[..], &TONE, &TONE].concat();
    let options = [
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "2",
        "-c:v",
        "libx264",
        "-c:a:0",
        "aac",
        "-c:a:1",
        "libopus",
        "-metadata:s:a:0",
        "language=fin",
        "-metadata:s:a:1",
        "language=deu",
    ];
    for container in CONTAINERS {
        let (tracks, units) = carried(&[&input, &options, container]);
        let found: Vec<_> =
            tracks.iter().map(|track| (track.codec, track.language.as_str())).collect();
        let german = if container.contains(&"matroska") { "ger" } else { "deu" };
        assert_eq!(found[0].0, Codec::H264);
        assert_eq!(found[1], (Codec::Aac, "fin"));
        assert!(found[2].0 == Codec::Opus && ["deu", german].contains(&found[2].1), "{found:?}");
        // What comes is in the order of time, but for a little.
        let mut latest = units[0].dts;
        for unit in &units {
            assert!(latest - unit.dts < 90_000, "{container:?}");
            latest = latest.max(unit.dts);
        }
        assert!(tracks.iter().all(|track| of_track(&units, track).len() >= 50));
    }
}

#[test]
fn parameter_sets_that_change_are_announced_before_the_first_unit_they_are_for() {
    if is_missing("parameter_sets_that_change_are_announced_before_the_first_unit_they_are_for") {
        return;
    }
    for encoder in ["libx264", "libx265"] {
        let encode = |size: &str| {
            let source = format!("testsrc2=size={size}:rate=25:duration=1");
            let quiet = ["-x265-params", "log-level=none"];
            let quiet: &[&str] = if encoder == "libx265" { &quiet } else { &[] };
            let input = ["-f", "lavfi", "-i", &source, "-c:v", encoder];
            ffmpeg(&[&input, quiet, &["-f", "mpegts", "-"]].concat())
        };
        let stream = [encode("320x180"), encode("640x360")].concat();
        let (mut width, mut seen) = (0, Vec::new());
        for event in demux_any(&stream, 1316) {
            match event {
                Event::Tracks(tracks) => width = tracks[0].width,
                Event::AccessUnit(_) => seen.push(width),
                Event::Skipped { .. } | Event::SkippedTrack { .. } | Event::Discontinuity | _ => {}
            }
        }
        let expected: Vec<u16> = std::iter::repeat_n(320, 25).chain([640; 25]).collect();
        assert_eq!(seen, expected, "{encoder}");
    }
}

#[test]
fn an_open_gop_that_is_joined_at_shows_no_picture_that_refers_to_what_is_missing() {
    if is_missing("an_open_gop_that_is_joined_at_shows_no_picture_that_refers_to_what_is_missing") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let h264 = ["-c:v", "libx264", "-g", "25", "-bf", "3", "-x264-params", "open-gop=1"];
    let params = "log-level=none:keyint=25:min-keyint=25:open-gop=1:bframes=4";
    let hevc = ["-c:v", "libx265", "-x265-params", params];
    for encode in [&h264[..], &hevc] {
        let source = directory.path().join("source.ts").to_str().unwrap().to_owned();
        ffmpeg(&[&PICTURES[..], encode, &["-y", &source]].concat());
        let expected = frame_hashes(&source, "0:v");
        let (tracks, units) = sort_events(demux_any(&std::fs::read(&source).unwrap(), 1316));
        let join = units.iter().rposition(|unit| unit.priority == Priority::Key).unwrap();
        assert!(join > 0, "{encode:?} has one key picture only");
        let from = units[join].pts;
        let rest = &units[join..];
        assert!(rest.iter().any(|unit| unit.pts < from), "{encode:?} has no leading pictures");
        // A viewer that joins here leaves out what is shown before the picture it joins at.
        let shown: Vec<_> = rest.iter().filter(|unit| unit.pts >= from).cloned().collect();
        let joined = write(directory.path(), "joined.ts", &mux(&tracks, &shown));
        // What H.264 says of pictures that were left out, its decoder notes; no picture suffers.
        let level = if encode.contains(&"libx264") { "fatal" } else { "error" };
        let found = frame_hashes_at(level, &joined, "0:v");
        assert_eq!(found, expected[expected.len() - shown.len()..], "{encode:?}");
    }
}

#[test]
fn pictures_nobody_refers_to_can_be_left_out_without_a_trace() {
    if is_missing("pictures_nobody_refers_to_can_be_left_out_without_a_trace") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let params = "log-level=none:keyint=25:bframes=4";
    let layers = "log-level=none:keyint=25:bframes=4:temporal-layers=1";
    let encoders: [&[&str]; 3] = [
        &["-c:v", "libx264", "-bf", "3"],
        &["-c:v", "libx265", "-x265-params", params],
        &["-c:v", "libx265", "-x265-params", layers],
    ];
    for encode in encoders {
        let source = directory.path().join("source.ts").to_str().unwrap().to_owned();
        ffmpeg(&[&PICTURES[..], encode, &["-y", &source]].concat());
        let all = frame_hashes(&source, "0:v");
        let (tracks, units) = sort_events(demux_any(&std::fs::read(&source).unwrap(), 1316));
        let mut shown: Vec<_> = units.iter().collect();
        shown.sort_by_key(|unit| unit.pts);
        let is_kept = |unit: &AccessUnit| unit.priority != Priority::Droppable;
        let expected: Vec<_> = shown
            .iter()
            .zip(&all)
            .filter(|(unit, _)| is_kept(unit))
            .map(|(_, hash)| hash.clone())
            .collect();
        assert!(expected.len() < all.len(), "{encode:?} has nothing to drop");
        let kept: Vec<_> = units.iter().filter(|unit| is_kept(unit)).cloned().collect();
        let path = write(directory.path(), "kept.ts", &mux(&tracks, &kept));
        assert_eq!(frame_hashes(&path, "0:v"), expected, "{encode:?}");
    }
}

#[test]
fn temporal_units_of_av1_that_nobody_refers_to_can_be_left_out_without_a_trace() {
    let test = "temporal_units_of_av1_that_nobody_refers_to_can_be_left_out_without_a_trace";
    if is_missing(test) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let encode = ["-c:v", "libsvtav1", "-preset", "10", "-g", "25", "-f", "matroska", "-"];
    let (_, units) = carried(&[&PICTURES, &encode]);
    let file = |name: &str, units: &[&AccessUnit]| {
        let stream: Vec<u8> =
            units.iter().flat_map(|unit| [&[0x12, 0], &unit.data[..]].concat()).collect();
        frame_hashes(&write(directory.path(), name, &stream), "0:v")
    };
    let all = file("all.obu", &units.iter().collect::<Vec<_>>());
    assert_eq!(all.len(), units.len());
    let is_kept = |unit: &AccessUnit| unit.priority != Priority::Droppable;
    let kept: Vec<_> = units.iter().filter(|unit| is_kept(unit)).collect();
    let expected: Vec<_> = units
        .iter()
        .zip(&all)
        .filter(|(unit, _)| is_kept(unit))
        .map(|(_, hash)| hash.clone())
        .collect();
    assert_eq!(file("kept.obu", &kept), expected);
    assert!(kept.len() < units.len(), "nothing to drop");
}

#[test]
fn video_that_is_not_carried_is_named_with_what_to_do() {
    if is_missing("video_that_is_not_carried_is_named_with_what_to_do") {
        return;
    }
    let cases: [(&[&str], &[&str], &str); 4] = [
        (&["-c:v", "mpeg2video"], &["-f", "mpegts", "-"], "mpeg-2 video"),
        (&["-c:v", "mpeg2video"], &["-f", "matroska", "-"], "mpeg-2 video"),
        (&["-c:v", "libvpx"], &["-f", "webm", "-"], "vp8"),
        (&["-c:v", "mpeg4"], &FRAGMENTS, "mpeg-4 part 2"),
    ];
    for (codec, container, name) in cases {
        let said = refusal(&ffmpeg(&[&PICTURES[..], codec, container].concat()));
        assert!(said.contains(name), "{said}");
        assert!(said.contains("convert with: ffmpeg") && !said.contains('\n'), "{said}");
    }
}

#[test]
fn sound_that_is_not_carried_is_left_out_and_named_with_what_to_do() {
    if is_missing("sound_that_is_not_carried_is_left_out_and_named_with_what_to_do") {
        return;
    }
    let transport = ["-f", "mpegts", "-"];
    let matroska = ["-f", "matroska", "-"];
    let cases: [(&[&str], &[&str], &str); 6] = [
        (&["-c:a", "eac3"], &transport, "e-ac-3"),
        (&["-c:a", "eac3"], &matroska, "e-ac-3"),
        (&["-c:a", "dca", "-strict", "-2"], &transport, "dts"),
        (&["-c:a", "dca", "-strict", "-2"], &matroska, "dts"),
        (&["-c:a", "pcm_s16le"], &matroska, "pcm"),
        (&["-c:a", "alac"], &FRAGMENTS, "alac"),
    ];
    for (sound, container, name) in cases {
        let input = [&PICTURES[..], &TONE, &["-c:v", "libx264", "-ac", "2"]].concat();
        let stream = ffmpeg(&[&input, sound, container].concat());
        let events = demux_any(&stream, 3000);
        let notices: Vec<_> = events.iter().filter_map(Event::notice).collect();
        assert!(notices.len() == 1 && notices[0].contains(name), "{name}: {notices:?}");
        assert!(notices[0].contains("convert with: ffmpeg"), "{notices:?}");
        let (tracks, units) = sort_events(events);
        assert_eq!((tracks.len(), tracks[0].codec), (1, Codec::H264));
        assert_eq!(units.len(), 50);
    }
}

#[test]
fn a_file_of_fragments_is_left_to_the_demuxer_and_one_with_its_index_in_front_is_a_stream() {
    let test =
        "a_file_of_fragments_is_left_to_the_demuxer_and_one_with_its_index_in_front_is_a_stream";
    if is_missing(test) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let fragmented = ffmpeg(&[&["-i", CLIPS[1], "-c", "copy"], &FRAGMENTS[..]].concat());
    assert_eq!(sniff(&fragmented[..1024]), Container::Mp4);
    let error = Mp4Reader::open(Cursor::new(&fragmented)).unwrap_err();
    assert!(matches!(error, Mp4Error::Fragmented));

    let path = directory.path().join("a.mp4").to_str().unwrap().to_owned();
    ffmpeg(&["-i", CLIPS[1], "-c", "copy", "-movflags", "+faststart", "-y", &path]);
    let in_front = std::fs::read(&path).unwrap();
    ffmpeg(&["-i", CLIPS[1], "-c", "copy", "-y", &path]);
    let at_end = std::fs::read(&path).unwrap();
    // The same units, whichever way they are read.
    let (tracks, units) = common::read_mp4(&path);
    for stream in [&fragmented, &in_front] {
        let (found_tracks, found) = sort_events(demux_any(stream, 7777));
        assert_eq!(found_tracks, tracks);
        for track in &tracks {
            let data = |units: &[AccessUnit]| -> Vec<_> {
                of_track(units, track).into_iter().map(|unit| (unit.priority, unit.data)).collect()
            };
            assert_eq!(data(&found), data(&units));
        }
    }
    let said = refusal(&at_end);
    assert!(said.contains("index behind its pictures") && said.contains("ffmpeg"), "{said}");
}

#[test]
fn another_stream_in_another_container_goes_on_where_the_last_one_ended() {
    if is_missing("another_stream_in_another_container_goes_on_where_the_last_one_ended") {
        return;
    }
    let streams: Vec<Vec<u8>> = [0, 1, 2, 0, 2, 1, 1]
        .into_iter()
        .map(|at| ffmpeg(&[&["-i", CLIPS[1], "-c", "copy"], CONTAINERS[at]].concat()))
        .collect();
    let mut demuxer = Demuxer::sniffing();
    let mut units = Vec::new();
    let mut jumps = 0;
    for stream in &streams {
        for part in stream.chunks(20_000) {
            demuxer.push(part).unwrap();
        }
        demuxer.finish().unwrap();
        for event in std::iter::from_fn(|| demuxer.poll()) {
            match event {
                Event::AccessUnit(unit) => units.push(unit),
                Event::Discontinuity => jumps += 1,
                Event::Tracks(_) | Event::Skipped { .. } | Event::SkippedTrack { .. } | _ => {}
            }
        }
    }
    assert_eq!(jumps, streams.len() - 1);
    let tracks: BTreeSet<_> = units.iter().map(|unit| unit.track).collect();
    for track in tracks {
        let own: Vec<_> = units.iter().filter(|unit| unit.track == track).collect();
        assert!(own.windows(2).all(|pair| (1..20_000).contains(&(pair[1].dts - pair[0].dts))));
    }
}

#[test]
fn a_stream_of_matroska_that_was_damaged_goes_on_at_the_next_cluster() {
    if is_missing("a_stream_of_matroska_that_was_damaged_goes_on_at_the_next_cluster") {
        return;
    }
    let encode =
        ["-c:v", "libx264", "-g", "10", "-f", "matroska", "-cluster_time_limit", "200", "-"];
    let mut stream = ffmpeg(&[&PICTURES[..], &encode].concat());
    let clusters: Vec<usize> = (0..stream.len() - 4)
        .filter(|at| stream[*at..].starts_with(&[0x1f, 0x43, 0xb6, 0x75]))
        .collect();
    assert!(clusters.len() > 3);
    let (_, whole) = sort_events(demux_any(&stream, 1000));
    // The id of the first block in the second cluster.
    let at = clusters[1] + stream[clusters[1]..].iter().position(|byte| *byte == 0xa3).unwrap();
    stream[at] = 0;
    let (_, left) = sort_events(demux_any(&stream, 1000));
    assert!(left.len() < whole.len() && left.len() * 3 > whole.len() * 2, "{}", left.len());
    assert_eq!(left.last().map(|unit| &unit.data), whole.last().map(|unit| &unit.data));
}
