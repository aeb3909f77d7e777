//! A client, driven by hand: no sockets, no clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::BufReader;

use banyan_media::{
    AccessUnit, DemuxStats, Event, Generation, GenerationBuilder, Mp4Reader, PACKET_LEN, Priority,
    TsDemuxer,
};
use banyan_wire::{Codec, MediaTime, Rendition, TrackId};

use super::*;

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/bbb_480p24_30s_h264_aac.mp4");
/// The length of a generation of the clip.
const STEP: Duration = Duration::from_millis(500);

fn clip() -> (Vec<Track>, Vec<Generation>) {
    let mut reader = Mp4Reader::open(BufReader::new(File::open(CLIP).unwrap())).unwrap();
    let mut builder = GenerationBuilder::default();
    let mut generations = Vec::new();
    while let Some(unit) = reader.next_access_unit().unwrap() {
        generations.extend(builder.push(unit));
    }
    generations.extend(builder.flush());
    assert!(generations.len() > 50);
    (reader.tracks().to_vec(), generations)
}

fn hub(tracks: Vec<Track>) -> Arc<LiveHub> {
    let hub = Arc::new(LiveHub::new());
    hub.set_tracks(tracks);
    hub
}

fn push(hub: &LiveHub, generation: &Generation) {
    hub.push(Arc::new(generation.units.clone()), generation.random_access);
}

/// Generations that each hold one picture of this length, at these times.
fn pictures(times: impl IntoIterator<Item = i64>, len: usize) -> Vec<Vec<AccessUnit>> {
    let picture = |dts: i64| AccessUnit {
        track: TrackId(0),
        pts: MediaTime(dts),
        dts: MediaTime(dts),
        random_access: true,
        priority: Priority::Key,
        data: vec![0; len].into(),
    };
    times.into_iter().map(|dts| vec![picture(dts)]).collect()
}

fn picture_hub() -> Arc<LiveHub> {
    hub(vec![Track {
        id: TrackId(0),
        codec: Codec::H264,
        width: 16,
        height: 16,
        sample_rate: 0,
        channels: 0,
        language: String::new(),
        rendition: Rendition::Full,
        config: Bytes::new(),
    }])
}

/// What there is at `now`, and why no more.
fn drain(client: &mut Client, now: Duration) -> (Vec<u8>, Step) {
    let mut out = Vec::new();
    for _ in 0..100_000 {
        match client.step(now) {
            Step::Send(bytes) => out.extend_from_slice(&bytes),
            step @ (Step::Wait(_) | Step::End(_)) => return (out, step),
        }
    }
    panic!("there is no end to what is due");
}

/// All until the stream ends, or waits for news.
fn drain_in_time(client: &mut Client, mut now: Duration) -> (Vec<u8>, Step) {
    let mut out = Vec::new();
    loop {
        let (bytes, step) = drain(client, now);
        out.extend(bytes);
        match step {
            Step::Wait(Some(due)) => now = due,
            step @ (Step::Wait(None) | Step::End(_) | Step::Send(_)) => return (out, step),
        }
    }
}

fn demux(stream: &[u8]) -> (Vec<Vec<Track>>, Vec<AccessUnit>, DemuxStats) {
    let mut demuxer = TsDemuxer::new();
    demuxer.push(stream).unwrap();
    demuxer.finish().unwrap();
    let (mut tracks, mut units) = (Vec::new(), Vec::new());
    while let Some(event) = demuxer.poll() {
        match event {
            Event::Tracks(found) => tracks.push(found),
            Event::AccessUnit(unit) => units.push(unit),
            Event::Skipped { .. } | Event::Discontinuity | _ => {}
        }
    }
    (tracks, units, demuxer.stats())
}

/// Asserts that a stream holds these generations, without damage.
#[track_caller]
fn assert_holds(stream: &[u8], tracks: &[Track], generations: &[Generation], with_times: bool) {
    let (_, found, stats) = demux(stream);
    assert_eq!(stats, DemuxStats::default());
    let sent: Vec<_> =
        generations.iter().flat_map(|generation| generation.units.iter().cloned()).collect();
    let start = |units: &[AccessUnit]| units.iter().map(|unit| unit.dts.0).min().unwrap();
    let (found_start, sent_start) = (start(&found), start(&sent));
    for track in tracks {
        let of_track = |units: &[AccessUnit], start: i64| -> Vec<_> {
            let units = units.iter().filter(|unit| unit.track == track.id);
            let time = |time: MediaTime| with_times.then_some(time.0 - start);
            units.map(|unit| (time(unit.dts), time(unit.pts), unit.data.clone())).collect()
        };
        let (found, sent) = (of_track(&found, found_start), of_track(&sent, sent_start));
        assert_eq!(found.len(), sent.len(), "units of {:?}", track.codec);
        assert!(found == sent, "units of {:?}", track.codec);
    }
    let picture = found.iter().find(|unit| unit.priority.is_video()).unwrap();
    assert!(picture.random_access);
}

/// Packets that say that the clock jumps.
fn discontinuities(stream: &[u8]) -> usize {
    let packets = stream.chunks(PACKET_LEN);
    packets.filter(|packet| packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x80 != 0).count()
}

fn second_key(generations: &[Generation]) -> usize {
    (1..generations.len()).find(|at| generations[*at].random_access).unwrap()
}

fn newest_key(generations: &[Generation]) -> usize {
    generations.iter().rposition(|generation| generation.random_access).unwrap()
}

#[test]
fn a_client_that_joins_mid_stream_starts_at_a_random_access_picture() {
    let (tracks, generations) = clip();
    let key = second_key(&generations);
    let joined = key + 3;
    let hub = hub(tracks.clone());
    generations[..joined].iter().for_each(|generation| push(&hub, generation));

    let mut client = Client::new(Arc::clone(&hub));
    let (mut stream, step) = drain(&mut client, Duration::from_secs(100));
    assert_eq!(step, Step::Wait(None));
    assert_holds(&stream, &tracks, &generations[key..joined], true);

    let mut now = Duration::from_secs(100);
    for generation in &generations[joined..] {
        push(&hub, generation);
        stream.extend(drain(&mut client, now).0);
        now += STEP;
    }
    hub.end();
    let (rest, step) = drain_in_time(&mut client, now);
    stream.extend(rest);
    assert_eq!(step, Step::End(End::Over));
    assert_holds(&stream, &tracks, &generations[key..], true);
    assert_eq!((discontinuities(&stream), client.skips()), (0, 0));
}

#[test]
fn after_the_first_burst_a_generation_goes_out_at_its_pace() {
    let (tracks, generations) = clip();
    let hub = hub(tracks);
    push(&hub, &generations[0]);
    let mut client = Client::new(Arc::clone(&hub));
    assert!(!drain(&mut client, Duration::ZERO).0.is_empty());
    push(&hub, &generations[1]);
    let mut sizes = Vec::new();
    for tick in 0..5 {
        sizes.push(drain(&mut client, Duration::from_millis(700 + 100 * tick)).0.len());
    }
    assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
    assert!(sizes[0] < sizes.iter().sum::<usize>() / 2, "{sizes:?}");
    assert_eq!(drain(&mut client, Duration::from_millis(1250)).1, Step::Wait(None));
}

#[test]
fn a_stalled_client_is_moved_on_and_holds_up_nobody() {
    let (tracks, generations) = clip();
    let hub = hub(tracks.clone());
    let mut steady = Client::new(Arc::clone(&hub));
    let mut stalled = Client::new(Arc::clone(&hub));
    push(&hub, &generations[0]);
    let mut now = Duration::ZERO;
    let mut whole = drain(&mut steady, now).0;
    let mut parts = drain(&mut stalled, now).0;
    let edge = 45;
    for generation in &generations[1..edge] {
        push(&hub, generation);
        whole.extend(drain(&mut steady, now).0);
        now += STEP;
    }
    whole.extend(drain_in_time(&mut steady, now).0);
    assert_holds(&whole, &tracks, &generations[..edge], true);

    let key = newest_key(&generations[..edge]);
    assert!(key > 1);
    parts.extend(drain(&mut stalled, now).0);
    assert_eq!((stalled.skips(), steady.skips()), (1, 0));
    let kept: Vec<_> = [&generations[..1], &generations[key..edge]].concat();
    assert_holds(&parts, &tracks, &kept, false);
    assert_eq!(discontinuities(&parts), 1);
}

#[test]
fn a_client_moved_on_within_a_generation_gets_the_rest_of_it() {
    let (tracks, generations) = clip();
    let hub = hub(tracks.clone());
    let mut client = Client::new(Arc::clone(&hub));
    push(&hub, &generations[0]);
    let mut stream = drain(&mut client, Duration::ZERO).0;
    push(&hub, &generations[1]);
    stream.extend(drain(&mut client, Duration::ZERO).0);
    generations[2..40].iter().for_each(|generation| push(&hub, generation));
    stream.extend(drain(&mut client, STEP * 38).0);
    assert_eq!(client.skips(), 1);
    let kept: Vec<_> =
        [&generations[..2], &generations[newest_key(&generations[..40])..40]].concat();
    assert_holds(&stream, &tracks, &kept, false);
}

#[test]
fn a_client_that_never_catches_up_is_closed() {
    let hub = picture_hub();
    let mut client = Client::new(Arc::clone(&hub));
    let mut ended = None;
    // Two pictures a second, keys seldom, of which it takes one every two seconds.
    for (at, units) in pictures((0..1000).map(|at| at * 45_000), 1000).into_iter().enumerate() {
        hub.push(Arc::new(units), at % 10 == 0);
        let now = STEP * u32::try_from(at).unwrap();
        if at % 4 == 3
            && let Step::End(end) = client.step(now)
        {
            ended = Some((end, now));
            break;
        }
    }
    let (end, now) = ended.unwrap();
    assert_eq!(end, End::TooSlow);
    assert!(now > MAX_LAGGING && now < MAX_LAGGING * 2, "{now:?}");
}

#[test]
fn a_client_that_catches_up_after_each_stall_stays() {
    let hub = picture_hub();
    let mut client = Client::new(Arc::clone(&hub));
    for (at, units) in pictures((0..1000).map(|at| at * 45_000), 1000).into_iter().enumerate() {
        hub.push(Arc::new(units), at % 10 == 0);
        if at % 50 == 49 {
            let (_, step) = drain(&mut client, STEP * u32::try_from(at).unwrap());
            assert_eq!(step, Step::Wait(None));
        }
    }
    assert_eq!(client.skips(), 19);
}

#[test]
fn a_long_gop_is_no_reason_to_be_moved_on() {
    let hub = picture_hub();
    for (at, units) in pictures((0..100).map(|at| at * 45_000), 1000).into_iter().enumerate() {
        hub.push(Arc::new(units), at == 0);
    }
    let mut client = Client::new(Arc::clone(&hub));
    let (stream, step) = drain(&mut client, Duration::ZERO);
    assert_eq!((step, client.skips()), (Step::Wait(None), 0));
    assert!(stream.len() > 100 * 1000);
}

#[test]
fn only_a_gap_in_time_is_marked_as_a_discontinuity() {
    // Every third one is missing; then half a minute is.
    let times = (0..30).filter(|at| at % 3 != 2).map(|at| at * 45_000);
    let hub = picture_hub();
    let mut client = Client::new(Arc::clone(&hub));
    let mut stream = Vec::new();
    let mut now = Duration::ZERO;
    for units in pictures(times.chain([30 * MediaTime::HZ]), 1000) {
        hub.push(Arc::new(units), true);
        stream.extend(drain_in_time(&mut client, now).0);
        now += STEP;
        assert_eq!(discontinuities(&stream), usize::from(now == STEP * 21));
    }
}

#[test]
fn new_tracks_give_new_tables() {
    let (mut tracks, generations) = clip();
    let hub = hub(tracks.clone());
    let key = newest_key(&generations);
    push(&hub, &generations[0]);
    let mut client = Client::new(Arc::clone(&hub));
    let mut stream = drain(&mut client, Duration::ZERO).0;
    tracks[1].language = "fin".to_owned();
    hub.set_tracks(tracks.clone());
    generations[key..].iter().for_each(|generation| push(&hub, generation));
    stream.extend(drain_in_time(&mut client, STEP).0);
    let (announced, ..) = demux(&stream);
    assert_ne!(announced.first(), Some(&tracks));
    assert_eq!(announced.last(), Some(&tracks));
}

#[test]
fn a_client_waits_for_the_first_random_access() {
    let hub = picture_hub();
    let mut client = Client::new(Arc::clone(&hub));
    assert_eq!(client.step(Duration::ZERO), Step::Wait(None));
    for (at, units) in pictures((0..10).map(|at| at * 45_000), 10).into_iter().enumerate() {
        hub.push(Arc::new(units), at == 9);
        assert_eq!(drain(&mut client, STEP).0.is_empty(), at < 9);
    }
    hub.end();
    assert_eq!(client.step(STEP), Step::End(End::Over));
    assert_eq!(Client::new(Arc::new(LiveHub::new())).step(STEP), Step::Wait(None));
}

#[test]
fn absurd_times_do_no_harm() {
    let hub = picture_hub();
    let mut client = Client::new(Arc::clone(&hub));
    let times = [i64::MIN, i64::MAX, 0, -1, 1 << 40, i64::MIN + 1, i64::MAX - 1];
    let mut now = Duration::ZERO;
    for generation in pictures(times, 10) {
        let units: Vec<_> = generation.into_iter().chain(pictures(times, 5).concat()).collect();
        hub.push(Arc::new(units), true);
        drain(&mut client, now);
        now += Duration::from_secs(1 << 33);
    }
    // A source whose time runs ahead by hours is not followed: its next key is.
    for units in pictures((0..30).map(|at| at * 150_000), 10) {
        hub.push(Arc::new(units), true);
        drain(&mut client, now);
    }
    assert!(client.skips() > 0);
}
