//! What the integration tests share: the clips, and the ways through the crate.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};

use banyan_media::{AccessUnit, Demuxer, Event, Mp4Reader, TsDemuxer, TsMuxer};
use banyan_wire::Track;

/// Both clips of the repository.
pub(crate) const CLIPS: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/bbb_480p24_30s_h264_aac.mp4"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/bbb_1080p60_2s_h264_aac.mp4"),
];

/// The tracks and units of an MP4 file.
pub(crate) fn read_mp4(path: &str) -> (Vec<Track>, Vec<AccessUnit>) {
    let mut reader = Mp4Reader::open(BufReader::new(File::open(path).unwrap())).unwrap();
    let mut units = Vec::new();
    while let Some(unit) = reader.next_access_unit().unwrap() {
        units.push(unit);
    }
    (reader.tracks().to_vec(), units)
}

/// A transport stream of these units.
pub(crate) fn mux(tracks: &[Track], units: &[AccessUnit]) -> Vec<u8> {
    let mut muxer = TsMuxer::new(tracks);
    let mut out = Vec::new();
    for unit in units {
        muxer.write(unit, &mut out);
    }
    out
}

/// The events of a transport stream that is pushed in parts of this length.
pub(crate) fn demux(stream: &[u8], part: usize) -> Vec<Event> {
    let mut demuxer = TsDemuxer::new();
    let mut events = Vec::new();
    for bytes in stream.chunks(part) {
        demuxer.push(bytes).unwrap();
        events.extend(std::iter::from_fn(|| demuxer.poll()));
    }
    demuxer.finish().unwrap();
    events.extend(std::iter::from_fn(|| demuxer.poll()));
    events
}

/// The events of a stream of whichever container, pushed in parts of this length.
pub(crate) fn demux_any(stream: &[u8], part: usize) -> Vec<Event> {
    let mut demuxer = Demuxer::sniffing();
    let mut events = Vec::new();
    for bytes in stream.chunks(part) {
        demuxer.push(bytes).unwrap();
        events.extend(std::iter::from_fn(|| demuxer.poll()));
    }
    demuxer.finish().unwrap();
    events.extend(std::iter::from_fn(|| demuxer.poll()));
    events
}

/// The last tracks and all units among events.
pub(crate) fn sort_events(events: Vec<Event>) -> (Vec<Track>, Vec<AccessUnit>) {
    let (mut tracks, mut units) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::Tracks(found) => tracks = found,
            Event::AccessUnit(unit) => units.push(unit),
            Event::Skipped { .. } | Event::SkippedTrack { .. } | Event::Discontinuity | _ => {}
        }
    }
    (tracks, units)
}

/// The units of one track.
pub(crate) fn of_track(units: &[AccessUnit], track: &Track) -> Vec<AccessUnit> {
    units.iter().filter(|unit| unit.track == track.id).cloned().collect()
}

/// The same programme, moved in time so that it starts at zero.
pub(crate) fn from_zero(units: &[AccessUnit]) -> Vec<AccessUnit> {
    let start = units.iter().map(|unit| unit.dts).min().unwrap_or_default();
    let moved = |unit: &AccessUnit| AccessUnit {
        pts: unit.pts + -start.0,
        dts: unit.dts + -start.0,
        ..unit.clone()
    };
    units.iter().map(moved).collect()
}

/// What ffmpeg prints, after checking that it prints nothing to complain about.
pub(crate) fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    ffmpeg_at("error", arguments)
}

/// The same, where complaints below a level are allowed.
fn ffmpeg_at(level: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", level, "-nostdin"])
        // An encoder of AV1 talks past ffmpeg.
        .env("SVT_LOG", "1")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaints.is_empty(), "{arguments:?}: {complaints}");
    output.stdout
}

/// Whether there is no ffmpeg on the path; then it says so.
pub(crate) fn is_missing(test: &str) -> bool {
    let is_there = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !is_there {
        eprintln!("SKIPPED: {test} needs ffmpeg on the path");
    }
    !is_there
}

/// Hash of every decoded frame of a stream, without the times, which may be moved.
pub(crate) fn frame_hashes(path: &str, map: &str) -> Vec<String> {
    frame_hashes_at("error", path, map)
}

/// The same, where complaints below a level are allowed.
pub(crate) fn frame_hashes_at(level: &str, path: &str, map: &str) -> Vec<String> {
    let printed = ffmpeg_at(level, &["-i", path, "-map", map, "-f", "framemd5", "-"]);
    let hashes: Vec<String> = String::from_utf8(printed)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit(',').next().unwrap().trim().to_owned())
        .collect();
    assert!(!hashes.is_empty());
    hashes
}

/// Writes a file and gives its path.
pub(crate) fn write(directory: &Path, name: &str, bytes: &[u8]) -> String {
    let path = directory.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}
