//! What goes in comes out: through files, transport streams, generations and layers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use banyan_media::{
    AccessUnit, Container, Event, GenerationBuilder, Layering, Mp4Reader, Priority, TsMuxer,
    merge_layers, sniff, split_layers,
};
use banyan_wire::{Codec, MediaTime, TrackId};
use common::{CLIPS, demux, from_zero, mux, of_track, read_mp4, sort_events};

#[test]
fn an_mp4_file_is_read_in_full() {
    let expected = [
        // Pictures, frames of sound, size, rate of pictures.
        (720, 1408, (854, 480), 3750),
        (120, 95, (1920, 1080), 1500),
    ];
    for (clip, (pictures, frames, size, step)) in CLIPS.into_iter().zip(expected) {
        let head = std::fs::read(clip).unwrap();
        assert_eq!(sniff(&head[..1024]), Container::Mp4);
        let (tracks, units) = read_mp4(clip);
        assert_eq!(tracks.len(), 2);
        assert_eq!((tracks[0].codec, tracks[1].codec), (Codec::H264, Codec::Aac));
        assert_eq!((tracks[0].width, tracks[0].height), size);
        assert_eq!((tracks[1].sample_rate, tracks[1].channels), (48_000, 6));
        let video = of_track(&units, &tracks[0]);
        let audio = of_track(&units, &tracks[1]);
        assert_eq!(video.len(), pictures);
        assert!(audio.len().abs_diff(frames) <= 2);
        assert!(video.windows(2).all(|pair| pair[1].dts - pair[0].dts == step));
        assert!(audio.windows(2).all(|pair| pair[1].dts - pair[0].dts == 1920));
        assert!(video[0].random_access && video[0].priority == Priority::Key);
        assert!(units.windows(2).all(|pair| pair[0].dts <= pair[1].dts));
        assert_eq!(units[0].dts, MediaTime(0));
    }
}

#[test]
fn sound_and_picture_start_as_far_apart_as_with_ffmpeg() {
    // First pts of picture minus first pts of sound in the output of `ffmpeg -c copy -f mpegts`.
    for (clip, apart) in CLIPS.into_iter().zip([133_500 - 131_580, 129_000 - 127_080]) {
        let (tracks, units) = read_mp4(clip);
        let first = |at: usize| of_track(&units, &tracks[at])[0].pts;
        assert_eq!(first(0) - first(1), apart, "{clip}");
    }
}

#[test]
fn a_transport_stream_gives_back_what_was_muxed() {
    for clip in CLIPS {
        let (tracks, units) = read_mp4(clip);
        let stream = mux(&tracks, &units);
        assert!(stream.len().is_multiple_of(188));
        for part in [188, 1316, 100, 1_000_000] {
            let (found_tracks, found) = sort_events(demux(&stream, part));
            assert_eq!(found_tracks, tracks);
            let (found, units) = (from_zero(&found), from_zero(&units));
            for track in &tracks {
                let (found, sent) = (of_track(&found, track), of_track(&units, track));
                assert_eq!(found.len(), sent.len());
                for (found, sent) in found.iter().zip(&sent) {
                    assert_eq!(found, sent);
                }
            }
        }
    }
}

#[test]
fn a_second_pass_through_the_muxer_gives_the_same_bytes() {
    let (tracks, units) = read_mp4(CLIPS[1]);
    let stream = mux(&tracks, &units);
    let (tracks, mut units) = sort_events(demux(&stream, 1316));
    units.sort_by_key(|unit| (unit.dts, unit.track));
    let units = from_zero(&units);
    assert!(mux(&tracks, &units) == stream);
}

#[test]
fn generations_and_layers_give_back_every_unit_in_order() {
    for clip in CLIPS {
        let (_, units) = read_mp4(clip);
        for layering in [Layering::Single, Layering::Priority] {
            let mut builder = GenerationBuilder::default();
            let mut generations: Vec<_> =
                units.iter().cloned().filter_map(|unit| builder.push(unit)).collect();
            generations.extend(builder.flush());
            assert!(generations[0].random_access);
            let mut merged: Vec<AccessUnit> = Vec::new();
            for pair in generations.windows(2) {
                assert_eq!(pair[0].start + pair[0].duration, pair[1].start);
                assert!(pair[0].duration <= 45_000);
            }
            for generation in &generations {
                let layers = split_layers(generation, layering);
                assert_eq!(layers.len(), layering.layers());
                let layers: Vec<_> = layers.into_iter().map(Some).collect();
                let units = merge_layers(&layers).unwrap();
                assert_eq!(units, generation.units);
                let keys = units.iter().filter(|unit| unit.priority == Priority::Key);
                assert_eq!(keys.count(), usize::from(generation.random_access));
                merged.extend(units);
            }
            let mut sorted = units.clone();
            let order = |unit: &AccessUnit| (unit.dts, unit.track);
            sorted.sort_by_key(order);
            merged.sort_by_key(order);
            assert_eq!(merged, sorted);
        }
    }
}

#[test]
fn a_rewound_file_goes_on_in_time() {
    let mut reader = Mp4Reader::open(std::fs::File::open(CLIPS[1]).unwrap()).unwrap();
    let mut last = [None; 2];
    for _ in 0..3 {
        let mut count = 0;
        while let Some(unit) = reader.next_access_unit().unwrap() {
            let last = &mut last[usize::from(unit.track.0)];
            assert!(last.is_none_or(|last: MediaTime| unit.dts > last && unit.dts - last < 9000));
            *last = Some(unit.dts);
            count += 1;
        }
        assert!(count > 200);
        reader.rewind();
    }
    assert!(last[0].unwrap() > MediaTime(5 * MediaTime::HZ));
}

/// Packets of a transport stream with their PIDs.
fn packets(stream: &[u8]) -> impl Iterator<Item = (usize, u16, &[u8])> {
    stream
        .chunks(188)
        .enumerate()
        .map(|(index, packet)| (index, u16::from_be_bytes([packet[1] & 0x1f, packet[2]]), packet))
}

/// The clock reference of a packet, in ticks, and whether the clock is said to jump.
fn clock(packet: &[u8]) -> Option<(i64, bool)> {
    let has_clock = packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x10 != 0;
    let bytes: [u8; 4] = packet[6..10].try_into().unwrap();
    let base = i64::from(u32::from_be_bytes(bytes)) << 1 | i64::from(packet[10] >> 7);
    has_clock.then_some((base, packet[5] & 0x80 != 0))
}

#[test]
fn clock_references_and_tables_come_often_enough() {
    for clip in CLIPS {
        let (tracks, mut units) = read_mp4(clip);
        // Sound alone for a while, then pictures: the clock must not depend on them.
        units.retain(|unit| unit.track != tracks[0].id || unit.dts.0 % 180_000 < 45_000);
        let stream = mux(&tracks, &units);
        let (mut last, mut last_tables, mut references) = (None, None, 0);
        let mut counters = std::collections::BTreeMap::new();
        for (_, pid, packet) in packets(&stream) {
            assert_eq!(packet[0], 0x47);
            let has_payload = packet[3] & 0x10 != 0;
            let counter = packet[3] & 0x0f;
            if let Some(last) = counters.insert(pid, counter) {
                let step = u8::from(has_payload);
                assert_eq!(counter, (last + step) & 0x0f, "continuity of {pid:x}");
            }
            if pid == 0 {
                if let (Some(last), Some(tables)) = (last, last_tables) {
                    // The clock was read up to one interval before.
                    assert!(last - tables <= 9000 + 3600);
                }
                last_tables = last;
            }
            if let Some((now, is_jump)) = clock(packet) {
                assert!(!is_jump);
                assert!(last.is_none_or(|last| now > last && now - last <= 3600));
                last = Some(now);
                references += 1;
            }
        }
        assert!(references > 50);
    }
}

#[test]
fn a_jump_in_time_is_marked_once_and_never_runs_backwards_unmarked() {
    let (tracks, units) = read_mp4(CLIPS[1]);
    let mut muxer = TsMuxer::new(&tracks);
    let mut stream = Vec::new();
    for unit in &units {
        muxer.write(unit, &mut stream);
    }
    for unit in &units {
        let mut unit = unit.clone();
        unit.pts = unit.pts + 2_000_000;
        unit.dts = unit.dts + 2_000_000;
        muxer.write(&unit, &mut stream);
    }
    for unit in &units {
        muxer.write(unit, &mut stream);
    }
    let marks = packets(&stream).filter_map(|(_, _, packet)| clock(packet)).filter(|mark| mark.1);
    assert_eq!(marks.count(), 2);
    // The demuxer joins the three.
    let events = demux(&stream, 1316);
    let jumps = events.iter().filter(|event| matches!(event, Event::Discontinuity)).count();
    assert_eq!(jumps, 2);
    let (_, found) = sort_events(events);
    assert_eq!(found.len(), units.len() * 3);
    // One of the tracks continues exactly where it stopped, the other stays beside it.
    for track in &tracks {
        let units = of_track(&found, track);
        assert!(units.windows(2).all(|pair| (1..9000).contains(&(pair[1].dts - pair[0].dts))));
    }
}

#[test]
fn times_wrap_like_those_of_a_long_broadcast() {
    let (tracks, mut units) = read_mp4(CLIPS[1]);
    let shift = (1i64 << 33) - 90_000;
    for unit in &mut units {
        unit.pts = unit.pts + shift;
        unit.dts = unit.dts + shift;
    }
    let stream = mux(&tracks, &units);
    let events = demux(&stream, 1316);
    assert!(!events.contains(&Event::Discontinuity));
    let (_, found) = sort_events(events);
    let sent = from_zero(&of_track(&units, &tracks[0]));
    assert_eq!(from_zero(&of_track(&found, &tracks[0])), sent);
    let marked = packets(&stream).filter_map(|(_, _, packet)| clock(packet)).any(|mark| mark.1);
    assert!(!marked);
}

#[test]
fn other_tracks_in_midstream_are_announced_before_their_units() {
    let (tracks, units) = read_mp4(CLIPS[1]);
    let (pictures, sound) = units.split_at(units.len() / 2);
    let mut muxer = TsMuxer::new(&tracks[..1]);
    let mut stream = Vec::new();
    for unit in pictures {
        muxer.write(unit, &mut stream);
    }
    muxer.set_tracks(&tracks);
    for unit in sound {
        muxer.write(unit, &mut stream);
    }
    let mut known = Vec::new();
    let mut heard = 0;
    for event in demux(&stream, 188) {
        match event {
            Event::Tracks(tracks) => known.push(tracks.len()),
            Event::AccessUnit(unit) if unit.track == TrackId(1) => {
                assert_eq!(known, [1, 2]);
                heard += 1;
            }
            Event::AccessUnit(_) | Event::Skipped { .. } | Event::Discontinuity | _ => {}
        }
    }
    assert_eq!(known, [1, 2]);
    assert!(heard > 40);
}

#[test]
fn a_key_picture_without_parameter_sets_gets_them_from_the_track() {
    let (tracks, mut units) = read_mp4(CLIPS[1]);
    let config = tracks[0].config.clone();
    let first = units.iter().position(|unit| unit.priority == Priority::Key).unwrap();
    let with_sets = units[first].data.clone();
    let bare = [&with_sets[..6], &with_sets[6 + config.len()..]].concat();
    units[first].data = bare.into();
    let (_, found) = sort_events(demux(&mux(&tracks, &units), 1316));
    let found = of_track(&found, &tracks[0]);
    assert_eq!(found[0].data, with_sets);
}
