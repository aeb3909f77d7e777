//! Damage, noise and malice: nothing panics, nothing grows without bound, good parts come through.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Cursor;

use banyan_media::{
    AccessUnit, DemuxError, Event, GenerationBuilder, Hint, Layering, Mp4Error, Mp4Reader, Pacer,
    TsDemuxer, TsMuxer, merge_layers, sniff, split_layers,
};
use banyan_wire::{MediaTime, Track};
use bytes::Bytes;
use common::{CLIPS, demux, mux, of_track, read_mp4, sort_events};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// The small clip as a transport stream.
fn stream() -> (Vec<Track>, Vec<AccessUnit>, Vec<u8>) {
    let (tracks, units) = read_mp4(CLIPS[1]);
    let stream = mux(&tracks, &units);
    (tracks, units, stream)
}

fn pid(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1f, packet[2]])
}

#[test]
fn a_lost_packet_costs_one_access_unit_only() {
    let (tracks, units, stream) = stream();
    let packets: Vec<&[u8]> = stream.chunks(188).collect();
    for track in &tracks {
        let sent = of_track(&units, track);
        let own = (0..packets.len())
            .filter(|at| pid(packets[*at]) == 0x100 + u16::from(track.id.0))
            .filter(|at| packets[*at][3] & 0x10 != 0);
        // Without the first unit's parameters there is no track, so it is spared. Every 17th packet,
        // and all of some units, so that starts, middles and ends are met.
        let starts = |at: &usize| packets[*at][1] & 0x40 != 0;
        let second = own.clone().filter(starts).nth(1).unwrap();
        let own = own.filter(|at| *at >= second).enumerate();
        for (_, lost) in own.filter(|(n, _)| n % 17 == 3 || *n < 130) {
            let rest: Vec<u8> = packets
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != lost)
                .flat_map(|(_, packet)| packet.iter().copied())
                .collect();
            let (_, found) = sort_events(demux(&rest, 10_000));
            let found = of_track(&found, track);
            assert_eq!(found.len(), sent.len() - 1, "packet {lost} of {:?}", track.id);
            // What came through came through whole.
            let mut sent = sent.iter();
            assert!(found.iter().all(|unit| sent.any(|sent| sent.data == unit.data)));
        }
    }
}

#[test]
fn random_damage_to_a_stream_never_panics_nor_stops_it() {
    let (_, units, stream) = stream();
    for seed in 0..400u64 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let from = rng.random_range(0..stream.len() / 2);
        let mut input = stream[from..from + stream.len() / 4].to_vec();
        for _ in 0..rng.random_range(1..200) {
            damage(&mut input, &mut rng);
        }
        // Then all is well. Twice, since the tables at the start may be cut off by what is before.
        input.extend_from_slice(&stream);
        input.extend_from_slice(&stream);
        let mut demuxer = TsDemuxer::new();
        let mut found = 0;
        for part in input.chunks(rng.random_range(1..5000)) {
            // Damage may fake an input that is not carried, but a checksum is in the way of that.
            demuxer.push(part).unwrap();
            while let Some(event) = demuxer.poll() {
                if let Event::AccessUnit(unit) = event {
                    assert!(unit.data.len() <= banyan_media::MAX_ACCESS_UNIT + 5000);
                    found += 1;
                }
            }
        }
        demuxer.finish().unwrap();
        found += std::iter::from_fn(|| demuxer.poll()).count();
        assert!(found + 12 >= units.len(), "seed {seed}: {found} of {}", units.len());
    }
}

fn damage(input: &mut Vec<u8>, rng: &mut ChaCha12Rng) {
    if input.len() < 1000 {
        return;
    }
    let at = rng.random_range(0..input.len() - 600);
    match rng.random_range(0..6) {
        0 => input[at] ^= 1 << rng.random_range(0..8),
        1 => rng.fill(&mut input[at..at + 8]),
        // The heads of packets deserve special care.
        2 => {
            let at = at / 188 * 188;
            rng.fill(&mut input[at + 1..at + 12]);
        }
        3 => drop(input.drain(at..at + 188)),
        4 => drop(input.drain(at..at + rng.random_range(1..600))),
        _ => {
            let len = rng.random_range(1..300);
            let noise: Vec<u8> = (0..len).map(|_| rng.random()).collect();
            input.splice(at..at, noise);
        }
    }
}

#[test]
fn packets_of_noise_never_panic() {
    let (_, _, stream) = stream();
    for seed in 0..60u64 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut input = stream[..188 * 40].to_vec();
        for _ in 0..4000 {
            let mut packet = [0u8; 188];
            rng.fill(&mut packet[..]);
            packet[0] = 0x47;
            packet[1] = packet[1] & 0x40 | 0x01;
            packet[2] &= 1;
            packet[3] &= 0x3f;
            if rng.random_bool(0.5) {
                // A plausible start of a PES packet.
                packet[3] &= 0x1f;
                packet[4..10].copy_from_slice(&[0, 0, 1, 0xe0, 0, 0]);
                packet[10] = 0x80;
                packet[12] &= 0x1f;
            }
            if rng.random_bool(0.3) {
                let at = rng.random_range(20..180);
                packet[at..at + 4].copy_from_slice(&[0, 0, 1, rng.random()]);
            }
            input.extend(packet);
        }
        let events = demux(&input, 10_000);
        let mut muxer = None;
        let mut builder = GenerationBuilder::default();
        let mut out = Vec::new();
        for event in events {
            match event {
                Event::Tracks(tracks) => muxer = Some(TsMuxer::new(&tracks)),
                Event::AccessUnit(unit) => {
                    muxer.as_mut().unwrap().write(&unit, &mut out);
                    if let Some(generation) = builder.push(unit) {
                        let layers = split_layers(&generation, Layering::Priority);
                        let layers: Vec<_> = layers.into_iter().map(Some).collect();
                        assert_eq!(merge_layers(&layers), Ok(generation.units));
                    }
                }
                Event::Skipped { .. } | Event::Discontinuity | _ => {}
            }
        }
        assert!(out.len().is_multiple_of(188));
    }
}

#[test]
fn inputs_that_are_no_transport_stream_say_what_they_are() {
    let push = |bytes: &[u8]| {
        let mut demuxer = TsDemuxer::new();
        demuxer.push(bytes).and_then(|()| demuxer.finish()).unwrap_err()
    };
    let not = |looks_like| DemuxError::NotTransportStream { looks_like };
    assert_eq!(push(&[]), not(Hint::Empty));
    assert_eq!(push(&std::fs::read(CLIPS[1]).unwrap()), not(Hint::Mp4));
    assert_eq!(push(&[b"FLV\x01", [0x46; 200].as_slice()].concat()), not(Hint::Flv));
    assert_eq!(push(b"hello"), not(Hint::Text));

    let (_, _, stream) = stream();
    let without = |unwanted: u16| -> Vec<u8> {
        stream.chunks(188).filter(|packet| pid(packet) != unwanted).flatten().copied().collect()
    };
    assert_eq!(push(&without(0)), DemuxError::NoProgramme);
    assert_eq!(push(&without(0x1000)), DemuxError::NoProgramme);
    assert_eq!(push(&without(0x100)), DemuxError::NoParameterSets { codec: "h264" });
    // The error stays.
    let mut demuxer = TsDemuxer::new();
    let many = without(0).repeat(3);
    assert_eq!(demuxer.push(&many), Err(DemuxError::NoProgramme));
    assert_eq!(demuxer.push(&stream), Err(DemuxError::NoProgramme));
    assert_eq!(demuxer.poll(), None);
}

#[test]
fn a_damaged_mp4_file_never_panics_and_says_what_is_wrong() {
    let file = std::fs::read(CLIPS[1]).unwrap();
    let moov = file.windows(4).position(|name| name == b"moov").unwrap();
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..4000u64 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut input = file.clone();
        for _ in 0..rng.random_range(1..12) {
            let at = rng.random_range(moov - 4..(moov + 7000).min(input.len() - 8));
            match rng.random_range(0..4) {
                0 => input[at] ^= 1 << rng.random_range(0..8),
                1 => rng.fill(&mut input[at..at + 4]),
                2 => input[at..at + 4].copy_from_slice(&[0xff; 4]),
                _ => input[at..at + 4].copy_from_slice(&[0; 4]),
            }
        }
        if rng.random_bool(0.2) {
            input.truncate(rng.random_range(0..input.len()));
        }
        match Mp4Reader::open(Cursor::new(input)) {
            Ok(mut reader) => {
                opened += 1;
                let mut last = [None; 8];
                for _ in 0..400 {
                    let Ok(Some(unit)) = reader.next_access_unit() else { break };
                    let last = &mut last[usize::from(unit.track.0)];
                    assert!(last.is_none_or(|last: MediaTime| unit.dts > last));
                    assert!(unit.pts >= unit.dts);
                    *last = Some(unit.dts);
                }
                reader.rewind();
                let _ = reader.next_access_unit();
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(opened > 500 && refused > 500, "{opened} opened, {refused} refused");
}

#[test]
fn a_box_that_lies_about_its_length_allocates_nothing() {
    let file = |len: u32| {
        let head = [&20u32.to_be_bytes(), b"ftyp", b"isom\0\0\0\0isom".as_slice()].concat();
        [head.as_slice(), &len.to_be_bytes(), b"moov"].concat()
    };
    for len in [u32::MAX, 1 << 30, 9, 7, 1] {
        let error = Mp4Reader::open(Cursor::new(file(len))).unwrap_err();
        assert!(matches!(error, Mp4Error::Malformed(_)), "{error}");
    }
    assert!(matches!(Mp4Reader::open(Cursor::new(file(8))).unwrap_err(), Mp4Error::NothingCarried));
}

#[test]
fn video_of_another_codec_is_named() {
    let mut file = std::fs::read(CLIPS[1]).unwrap();
    let at = file.windows(4).position(|name| name == b"avc1").unwrap();
    // The first is the brand of the file, the second the sample entry.
    let entry = at + 4 + file[at + 4..].windows(4).position(|name| name == b"avc1").unwrap();
    file[entry..entry + 4].copy_from_slice(b"vvc1");
    let error = Mp4Reader::open(Cursor::new(file)).unwrap_err();
    assert!(
        error.to_string().starts_with("the file's video is vvc, which this version does not carry")
    );
}

#[test]
fn noise_never_panics_anywhere() {
    let mut rng = ChaCha12Rng::seed_from_u64(7);
    for _ in 0..20_000 {
        let len = rng.random_range(0..300);
        let noise: Vec<u8> = (0..len).map(|_| rng.random::<u8>() & rng.random::<u8>()).collect();
        let _ = sniff(&noise);
        let _ = merge_layers(&[Some(noise.clone().into()), None, Some(noise.clone().into())]);
        let _ = Mp4Reader::open(Cursor::new(noise.clone()));
        let mut demuxer = TsDemuxer::new();
        let _ = demuxer.push(&noise);
        let _ = demuxer.finish();
    }
}

#[test]
fn a_damaged_layer_never_panics_and_never_gives_more_than_it_holds() {
    let (_, units, _) = stream();
    let mut builder = GenerationBuilder::default();
    let generation = units.into_iter().find_map(|unit| builder.push(unit)).unwrap();
    let layers = split_layers(&generation, Layering::Priority);
    for seed in 0..3000u64 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut damaged = layers.clone();
        for layer in &mut damaged {
            let mut bytes = layer.to_vec();
            // Most of a layer is data: look for trouble at its start, and cut its end.
            let at = rng.random_range(0..bytes.len().min(40));
            bytes[at] = rng.random();
            if rng.random_bool(0.3) {
                bytes.truncate(rng.random_range(0..bytes.len()));
            }
            *layer = bytes.into();
        }
        let held: usize = damaged.iter().map(Bytes::len).sum();
        let damaged: Vec<_> = damaged.into_iter().map(Some).collect();
        if let Ok(units) = merge_layers(&damaged) {
            assert!(units.iter().map(|unit| unit.data.len()).sum::<usize>() < held);
        }
    }
}

#[test]
fn absurd_units_are_muxed_without_harm() {
    let (tracks, units, _) = stream();
    let mut muxer = TsMuxer::new(&tracks);
    let mut pacer = Pacer::new(std::time::Duration::ZERO);
    let times = [i64::MIN, i64::MAX, 0, -1, 1 << 33, i64::MIN + 1, i64::MAX - 1, 45];
    for at in times.into_iter().chain(times) {
        for track in 0..=255 {
            let mut unit = units[0].clone();
            unit.track.0 = track;
            (unit.dts, unit.pts) = (MediaTime(at), MediaTime(-(at / 2)));
            unit.data = if track < 2 { vec![0; 200_000].into() } else { Bytes::new() };
            let mut out = Vec::new();
            muxer.write(&unit, &mut out);
            assert!(out.len() < 300_000 && out.len().is_multiple_of(188));
            pacer.push(out.into(), unit.dts).unwrap();
            while pacer.poll(std::time::Duration::from_secs(1 << 40)).is_some() {}
        }
    }
    muxer.set_tracks(&[]);
    let mut out = Vec::new();
    muxer.write(&units[0], &mut out);
    assert!(out.is_empty());
}
