//! FLV in: the same units as from the file they come from, whatever the clock and the bytes do.
//!
//! Streams are written by a muxer of this test's own; ffmpeg's are read where it is installed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use banyan_media::{AccessUnit, DemuxError, Event, FlvDemuxer};
use banyan_wire::{Codec, Track};
use common::{CLIPS, from_zero, of_track, read_mp4, sort_events};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const SCRIPT: u8 = 18;

#[test]
fn a_stream_gives_the_units_of_the_file_it_came_from() {
    for clip in CLIPS {
        let (tracks, units) = read_mp4(clip);
        let stream = flv(&tracks, &units, 0);
        for part in [stream.len(), 1009, 7] {
            let (found_tracks, found) = sort_events(demux(&stream, part));
            assert_eq!(found_tracks, tracks, "{clip}");
            assert_same(&from_zero(&found), &units, &tracks);
        }
    }
}

#[test]
fn what_ffmpeg_writes_gives_the_units_of_the_file() {
    for clip in CLIPS {
        let command = ["-v", "error", "-nostdin", "-i", clip, "-c", "copy", "-f", "flv", "-"];
        let Ok(output) = std::process::Command::new("ffmpeg").args(command).output() else {
            eprintln!("SKIPPED: what_ffmpeg_writes_gives_the_units_of_the_file needs ffmpeg");
            return;
        };
        let (tracks, units) = read_mp4(clip);
        let (found_tracks, found) = sort_events(demux(&output.stdout, 4096));
        assert_eq!(found_tracks.len(), tracks.len());
        assert_eq!(found_tracks[0].config, tracks[0].config);
        assert_same(&from_zero(&found), &units, &tracks);
    }
}

#[test]
fn sound_is_timed_by_its_samples_though_its_stamps_are_in_milliseconds() {
    let (tracks, units) = read_mp4(CLIPS[0]);
    let (_, found) = sort_events(demux(&flv(&tracks, &units, 0), 4096));
    let sound = of_track(&found, &tracks[1]);
    assert!(sound.len() > 1000);
    // 1024 samples of 48 kHz are 1920 ticks.
    assert!(sound.windows(2).all(|pair| pair[1].dts - pair[0].dts == 1920));
}

#[test]
fn the_wrap_of_milliseconds_after_49_days_goes_unnoticed() {
    let (tracks, units) = read_mp4(CLIPS[1]);
    let events = demux(&flv(&tracks, &units, u32::MAX - 999), 4096);
    assert!(!events.contains(&Event::Discontinuity));
    let (_, found) = sort_events(events);
    assert_same(&from_zero(&found), &units, &tracks);
}

#[test]
fn other_parameter_sets_in_midstream_are_announced_before_their_pictures() {
    let (tracks, units) = read_mp4(CLIPS[1]);
    let (other_tracks, other_units) = read_mp4(CLIPS[0]);
    let mut stream = flv(&tracks, &units, 0);
    // The same connection goes on: no second file header.
    stream.extend_from_slice(&flv(&other_tracks, &other_units[..50], 3000)[13..]);
    let events = demux(&stream, 4096);
    let announced: Vec<usize> = events
        .iter()
        .enumerate()
        .filter_map(|(at, event)| matches!(event, Event::Tracks(_)).then_some(at))
        .collect();
    let last = *announced.last().unwrap();
    assert!(matches!(&events[last], Event::Tracks(tracks) if *tracks == other_tracks));
    let after = events[last..].iter().filter(|event| matches!(event, Event::AccessUnit(_))).count();
    assert!((49..=50).contains(&after), "{after}");
}

#[test]
fn a_stream_that_says_it_has_no_sound_is_not_kept_waiting_for_it() {
    let (tracks, units) = read_mp4(CLIPS[1]);
    let pictures = of_track(&units, &tracks[0]);
    let mut stream = flv(&tracks[..1], &pictures[..3], 0);
    let script =
        tag(SCRIPT, 0, b"\x02\x00\x0aonMetaData\x08\0\0\0\x01\0\x0cvideocodecid\0\0\0\x09");
    stream.splice(13..13, script);
    let mut demuxer = FlvDemuxer::new();
    demuxer.push(&stream).unwrap();
    assert!(matches!(demuxer.poll(), Some(Event::Tracks(found)) if found.len() == 1));
}

#[test]
fn a_tag_longer_than_any_picture_is_passed_over_without_being_held() {
    let (tracks, units) = read_mp4(CLIPS[1]);
    let stream = flv(&tracks, &units, 0);
    let mut demuxer = FlvDemuxer::new();
    demuxer.push(&stream).unwrap();
    let before = std::iter::from_fn(|| demuxer.poll()).count();
    let long = 15_000_000u32.to_be_bytes();
    demuxer.push(&[VIDEO, long[1], long[2], long[3], 0, 0, 0, 0, 0, 0, 0]).unwrap();
    for _ in 0..15 {
        demuxer.push(&vec![0xaa; 1_000_000]).unwrap();
    }
    demuxer.push(&[0; 4]).unwrap();
    demuxer.push(&stream[13..]).unwrap();
    let after = std::iter::from_fn(|| demuxer.poll())
        .filter(|event| matches!(event, Event::AccessUnit(_)))
        .count();
    assert_eq!(demuxer.stats().dropped_units, 1);
    assert!(before > 0 && after == units.len(), "{after}");
}

#[test]
fn what_cannot_be_carried_is_named() {
    let header = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".as_slice();
    let cases: [(Vec<u8>, DemuxError); 4] = [
        (
            [header, &tag(VIDEO, 0, b"\x24\x01\x02")].concat(),
            DemuxError::UnsupportedVideo { codec: "vp6" },
        ),
        ([header, &tag(77, 0, b"?")].concat(), DemuxError::Malformed("a tag is of no known type")),
        (b"GIF89a GIF89a".to_vec(), DemuxError::Malformed("it does not begin with a file header")),
        ([header, &tag(AUDIO, 0, b"\xaf\x01\x02")].concat(), DemuxError::NothingCarried),
    ];
    for (stream, expected) in cases {
        let mut demuxer = FlvDemuxer::new();
        let result = demuxer.push(&stream).and_then(|()| demuxer.finish());
        assert_eq!(result, Err(expected.clone()));
        assert_eq!(demuxer.push(b"FLV"), Err(expected), "there is no going on");
    }
}

#[test]
fn random_damage_never_panics_nor_grows_what_is_held() {
    let (tracks, units) = read_mp4(CLIPS[1]);
    let stream = flv(&tracks, &units, 0);
    for seed in 0..200u64 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut input = stream[..200_000].to_vec();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(13..input.len() - 16);
            match rng.random_range(0..3) {
                0 => input[at] ^= 1 << rng.random_range(0..8),
                1 => rng.fill(&mut input[at..at + 12]),
                _ => drop(input.drain(at..at + 3)),
            }
        }
        let mut demuxer = FlvDemuxer::new();
        for part in input.chunks(1500) {
            if demuxer.push(part).is_err() {
                break;
            }
            while demuxer.poll().is_some() {}
        }
        drop(demuxer.finish());
    }
}

/// The same bytes and priorities, at times a millisecond apart at most.
fn assert_same(found: &[AccessUnit], units: &[AccessUnit], tracks: &[Track]) {
    for track in tracks {
        let (found, units) = (of_track(found, track), of_track(units, track));
        assert_eq!(found.len(), units.len(), "{:?}", track.codec);
        for (found, unit) in found.iter().zip(&units) {
            assert_eq!(found.data, unit.data);
            assert_eq!((found.priority, found.random_access), (unit.priority, unit.random_access));
            for (found, expected) in [(found.dts, unit.dts), (found.pts, unit.pts)] {
                assert!((found - expected).abs() <= 180, "{found:?} for {expected:?}");
            }
        }
    }
}

fn demux(stream: &[u8], part: usize) -> Vec<Event> {
    let mut demuxer = FlvDemuxer::new();
    let mut events = Vec::new();
    for bytes in stream.chunks(part) {
        demuxer.push(bytes).unwrap();
        events.extend(std::iter::from_fn(|| demuxer.poll()));
    }
    demuxer.finish().unwrap();
    events.extend(std::iter::from_fn(|| demuxer.poll()));
    events
}

// ---- A muxer ----------------------------------------------------------------------------------

/// An FLV stream of these units that starts at `start` milliseconds.
fn flv(tracks: &[Track], units: &[AccessUnit], start: u32) -> Vec<u8> {
    let mut out = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    for track in tracks {
        let (kind, body) = match track.codec {
            Codec::H264 => (VIDEO, [&[0x17, 0, 0, 0, 0], avcc(&track.config).as_slice()].concat()),
            Codec::Aac | _ => (AUDIO, [&[0xaf, 0], track.config.as_ref()].concat()),
        };
        out.extend(tag(kind, start, &body));
    }
    for unit in units {
        let millis = u32::try_from((unit.dts.0 + 45) / 90).unwrap().wrapping_add(start);
        let delay = u32::try_from((unit.pts - unit.dts + 45) / 90).unwrap().to_be_bytes();
        let body = if unit.priority.is_video() {
            let first = if unit.random_access { 0x17 } else { 0x27 };
            let mut body = vec![first, 1, delay[1], delay[2], delay[3]];
            for nal in nals(&unit.data).filter(|nal| !matches!(nal[0] & 0x1f, 7..=9)) {
                body.extend(u32::try_from(nal.len()).unwrap().to_be_bytes());
                body.extend_from_slice(nal);
            }
            body
        } else {
            // Without its ADTS header, and without the table of channels one clip has behind it.
            let has_table = unit.data[2] & 1 == 0 && unit.data[3] >> 6 == 0;
            [&[0xaf, 1], &unit.data[if has_table { 16 } else { 7 }..]].concat()
        };
        out.extend(tag(if unit.priority.is_video() { VIDEO } else { AUDIO }, millis, &body));
    }
    out
}

fn tag(kind: u8, millis: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let time = millis.to_be_bytes();
    let mut out = vec![kind, len[1], len[2], len[3], time[1], time[2], time[3], time[0], 0, 0, 0];
    out.extend_from_slice(body);
    out.extend(u32::try_from(body.len() + 11).unwrap().to_be_bytes());
    out
}

/// The configuration record of parameter sets.
fn avcc(sets: &[u8]) -> Vec<u8> {
    let of_kind =
        |kind: u8| -> Vec<&[u8]> { nals(sets).filter(|nal| nal[0] & 0x1f == kind).collect() };
    let mut out = vec![1, 100, 0, 31, 0xff];
    for (sets, count_bits) in [(of_kind(7), 0xe0), (of_kind(8), 0)] {
        out.push(u8::try_from(sets.len()).unwrap() | count_bits);
        for nal in sets {
            out.extend(u16::try_from(nal.len()).unwrap().to_be_bytes());
            out.extend_from_slice(nal);
        }
    }
    out
}

fn nals(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(at, _)| at).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([stream.len()]).collect();
    starts.into_iter().zip(ends).map(move |(start, end)| {
        let mut nal = &stream[start + 3..end];
        while let [rest @ .., 0] = nal {
            nal = rest;
        }
        nal
    })
}
