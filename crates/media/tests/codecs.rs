//! Every codec in every container: what comes out decodes to the very frames that went in.
//!
//! ```text
//!  ffmpeg ─▶ container ─▶ Demuxer ─▶ generations ─▶ layers ─▶ merge ─▶ container ─▶ ffmpeg
//!     └───────────────────────── hashes of all frames ─────────────────────────────────┘
//! ```
//!
//! Where there is no `ffmpeg` on the path, these tests say so and pass.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use banyan_media::{
    AccessUnit, GenerationBuilder, Layering, Priority, merge_layers, split_layers, ts_carries,
};
use banyan_wire::{Codec, Track};
use common::{demux_any, ffmpeg, frame_hashes, is_missing, mux, of_track, sort_events, write};

/// Pictures of every kind of motion, and a tone.
const SOURCE: [&str; 8] = [
    "-f",
    "lavfi",
    "-i",
    "testsrc2=size=320x180:rate=25:duration=2",
    "-f",
    "lavfi",
    "-i",
    "sine=frequency=440:sample_rate=48000:duration=2",
];

/// How ffmpeg makes pictures of a codec, and what they come out as.
struct Video {
    name: &'static str,
    codec: Codec,
    options: &'static [&'static str],
    containers: &'static [&'static str],
}

const VIDEO: [Video; 8] = [
    Video {
        name: "h264, closed GOPs, B-pictures that others refer to",
        codec: Codec::H264,
        options: &["-c:v", "libx264", "-g", "25", "-bf", "3"],
        containers: &["mpegts", "mp4", "fmp4", "late fmp4", "cmaf", "matroska"],
    },
    Video {
        name: "h264, open GOPs",
        codec: Codec::H264,
        options: &["-c:v", "libx264", "-g", "25", "-bf", "3", "-x264-params", "open-gop=1"],
        containers: &["mpegts", "mp4", "fmp4", "matroska"],
    },
    Video {
        name: "h264, coded as fields",
        codec: Codec::H264,
        options: &["-c:v", "libx264", "-g", "25", "-x264-params", "interlaced=1"],
        containers: &["mpegts", "mp4", "fmp4", "matroska"],
    },
    Video {
        name: "hevc, open GOPs",
        codec: Codec::Hevc,
        options: &[
            "-c:v",
            "libx265",
            "-g",
            "25",
            "-x265-params",
            "log-level=none:keyint=25:min-keyint=25:open-gop=1:bframes=4:b-pyramid=1",
        ],
        containers: &["mpegts", "mp4", "fmp4", "matroska"],
    },
    Video {
        name: "hevc, 10 bit, temporal layers",
        codec: Codec::Hevc,
        options: &[
            "-c:v",
            "libx265",
            "-pix_fmt",
            "yuv420p10le",
            "-tag:v",
            "hvc1",
            "-x265-params",
            "log-level=none:keyint=25:temporal-layers=1",
        ],
        containers: &["mpegts", "mp4", "fmp4", "matroska"],
    },
    Video {
        name: "av1",
        codec: Codec::Av1,
        options: &["-c:v", "libsvtav1", "-preset", "10", "-g", "25"],
        containers: &["mp4", "fmp4", "matroska", "webm"],
    },
    Video {
        name: "av1, 10 bit",
        codec: Codec::Av1,
        options: &["-c:v", "libsvtav1", "-preset", "10", "-g", "25", "-pix_fmt", "yuv420p10le"],
        containers: &["mp4", "fmp4", "matroska"],
    },
    Video {
        name: "vp9",
        codec: Codec::Vp9,
        options: &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "25"],
        containers: &["mp4", "fmp4", "matroska", "webm"],
    },
];

/// How ffmpeg makes sound of a codec.
const SOUND: [(Codec, &str, &[&str]); 5] = [
    (Codec::Aac, "aac", &["mpegts", "mp4", "fmp4", "late fmp4", "matroska"]),
    (Codec::Mp3, "libmp3lame", &["mpegts", "mp4", "fmp4", "matroska"]),
    (Codec::Mp3, "mp2", &["mpegts", "matroska"]),
    (Codec::Ac3, "ac3", &["mpegts", "mp4", "late fmp4", "matroska"]),
    (Codec::Opus, "libopus", &["mpegts", "mp4", "fmp4", "matroska", "webm"]),
];

/// Puts what is in a file into a container, without coding it anew.
fn contain(source: &str, container: &str) -> Vec<u8> {
    let options: &[&str] = match container {
        "fmp4" => &["-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof", "-"],
        // With edit lists, which the other kind has not.
        "late fmp4" => {
            &["-f", "mp4", "-movflags", "frag_keyframe+delay_moov+default_base_moof", "-"]
        }
        "cmaf" => &["-f", "mp4", "-movflags", "+cmaf+frag_keyframe+separate_moof", "-"],
        "mp4" => &["-f", "mp4", "-y"],
        // As a live stream has it: nothing is written afterwards.
        "matroska" => &["-f", "matroska", "-live", "1", "-"],
        "webm" => &["-f", "webm", "-live", "1", "-"],
        other => &["-f", other, "-"],
    };
    let copied = ["-i", source, "-map", "0", "-c", "copy"];
    if container != "mp4" {
        return ffmpeg(&[&copied, options].concat());
    }
    // Its index is written last and put first: that needs a file.
    let file = format!("{source}.first.mp4");
    ffmpeg(&[&copied, options, &["-movflags", "+faststart", &file]].concat());
    std::fs::read(&file).unwrap()
}

/// Sends units through generations and layers, as a broadcast does.
fn broadcast(units: Vec<AccessUnit>) -> Vec<AccessUnit> {
    let mut builder = GenerationBuilder::default();
    let mut generations: Vec<_> = units.into_iter().filter_map(|unit| builder.push(unit)).collect();
    generations.extend(builder.flush());
    let mut merged = Vec::new();
    for generation in generations {
        let layers = split_layers(&generation, Layering::Priority);
        let layers: Vec<_> = layers.into_iter().map(Some).collect();
        merged.extend(merge_layers(&layers).unwrap());
    }
    merged
}

/// A file that ffmpeg can decode, with one track.
fn contain_units(directory: &Path, track: &Track, units: &[AccessUnit]) -> String {
    let units = of_track(units, track);
    match track.codec {
        // A delimiter before each temporal unit is all that such a file adds.
        Codec::Av1 => {
            let stream: Vec<u8> =
                units.iter().flat_map(|unit| [&[0x12, 0], &unit.data[..]].concat()).collect();
            write(directory, "out.obu", &stream)
        }
        Codec::Vp9 => {
            let mut stream = b"DKIF\0\0\x20\0VP90".to_vec();
            stream.extend(track.width.to_le_bytes());
            stream.extend(track.height.to_le_bytes());
            stream.extend([90_000u32, 1, 0, 0].map(u32::to_le_bytes).concat());
            for unit in units {
                stream.extend(u32::try_from(unit.data.len()).unwrap().to_le_bytes());
                stream.extend(unit.pts.0.to_le_bytes());
                stream.extend(&unit.data);
            }
            write(directory, "out.ivf", &stream)
        }
        Codec::H264 | Codec::Hevc | Codec::Aac | Codec::Mp3 | Codec::Ac3 | Codec::Opus | _ => {
            assert!(ts_carries(track.codec));
            write(directory, "out.ts", &mux(std::slice::from_ref(track), &units))
        }
    }
}

/// What holds of the units of every stream.
fn check_times(track: &Track, units: &[AccessUnit], what: &str) {
    let units = of_track(units, track);
    assert!(units.windows(2).all(|pair| pair[0].dts < pair[1].dts), "{what}");
    assert!(units.iter().all(|unit| unit.dts <= unit.pts), "{what}");
    assert!(units[0].random_access, "{what}");
}

#[test]
fn pictures_of_every_codec_come_out_of_every_container_bit_by_bit() {
    if is_missing("pictures_of_every_codec_come_out_of_every_container_bit_by_bit") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for video in VIDEO {
        let source = directory.path().join("source.mp4").to_str().unwrap().to_owned();
        let output = ["-an", "-y", &source];
        ffmpeg(&[&SOURCE, video.options, &output].concat());
        let expected = frame_hashes(&source, "0:v");
        assert_eq!(expected.len(), 50, "{}", video.name);
        for container in video.containers {
            let what = format!("{} in {container}", video.name);
            let stream = contain(&source, container);
            let (tracks, units) = sort_events(demux_any(&stream, 1000));
            assert_eq!(tracks.len(), 1, "{what}");
            let track = &tracks[0];
            assert_eq!((track.codec, track.width, track.height), (video.codec, 320, 180), "{what}");
            assert!(!track.config.is_empty(), "{what}");
            check_times(track, &units, &what);
            let keys = units.iter().filter(|unit| unit.priority == Priority::Key).count();
            assert!((2..=3).contains(&keys), "{what}: {keys} keys");
            let path = contain_units(directory.path(), track, &broadcast(units));
            assert_eq!(frame_hashes(&path, "0:v"), expected, "{what}");
        }
    }
}

#[test]
fn sound_of_every_codec_comes_out_of_every_container_bit_by_bit() {
    if is_missing("sound_of_every_codec_comes_out_of_every_container_bit_by_bit") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (codec, encoder, containers) in SOUND {
        let source = directory.path().join("source.nut").to_str().unwrap().to_owned();
        let output = ["-vn", "-ac", "2", "-c:a", encoder, "-y", &source];
        ffmpeg(&[&SOURCE[..], &output].concat());
        let expected = frame_hashes(&source, "0:a");
        for container in containers {
            let what = format!("{encoder} in {container}");
            let stream = contain(&source, container);
            let (tracks, units) = sort_events(demux_any(&stream, 1000));
            assert_eq!(tracks.len(), 1, "{what}");
            let track = &tracks[0];
            let found = (track.codec, track.sample_rate, track.channels);
            assert_eq!(found, (codec, 48_000, 2), "{what}");
            check_times(track, &units, &what);
            let step = units[1].dts - units[0].dts;
            assert!(units.windows(2).all(|pair| pair[1].dts - pair[0].dts == step), "{what}");
            let path = contain_units(directory.path(), track, &broadcast(units));
            // How much of the encoder's silence at the start and the end is cut off, differs.
            let found = frame_hashes(&path, "0:a");
            let middle = &expected[expected.len() / 4..expected.len() * 3 / 4];
            assert!(found.windows(middle.len()).any(|part| part == middle), "{what}");
        }
    }
}
