//! Damage, noise and malice in every container and codec that is read as it comes.
//!
//! The streams that are damaged come from ffmpeg; where there is none, these tests say so and pass.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use banyan_media::{
    AccessUnit, Demuxer, Event, GenerationBuilder, Layering, MAX_ACCESS_UNIT, MatroskaDemuxer,
    Mp4Demuxer, TsMuxer, merge_layers, split_layers,
};
use banyan_wire::{MAX_CODEC_CONFIG, MAX_TRACKS};
use common::{ffmpeg, is_missing};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

const SOURCE: [&str; 8] = [
    "-f",
    "lavfi",
    "-i",
    "testsrc2=size=160x90:rate=25:duration=1",
    "-f",
    "lavfi",
    "-i",
    "sine=frequency=440:sample_rate=48000:duration=1",
];

const FRAGMENTS: [&str; 5] =
    ["-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof", "-"];

/// A second of every codec, in containers that can carry it.
fn streams() -> Vec<(&'static str, Vec<u8>)> {
    let h264 = ["-c:v", "libx264", "-g", "10", "-c:a", "aac"];
    let hevc = ["-c:v", "libx265", "-x265-params", "log-level=none:keyint=10", "-c:a", "libopus"];
    let av1 = ["-c:v", "libsvtav1", "-preset", "12", "-g", "10", "-c:a", "libopus"];
    let vp9 = ["-c:v", "libvpx-vp9", "-cpu-used", "8", "-g", "10", "-c:a", "libopus"];
    let make = |codecs: &[&str], container: &[&str]| ffmpeg(&[&SOURCE, codecs, container].concat());
    let matroska = ["-f", "matroska", "-live", "1", "-"];
    vec![
        ("hevc and opus in ts", make(&hevc, &["-f", "mpegts", "-"])),
        ("h264 and aac in fragments", make(&h264, &FRAGMENTS)),
        ("hevc and opus in fragments", make(&hevc, &FRAGMENTS)),
        ("av1 and opus in fragments", make(&av1, &FRAGMENTS)),
        ("vp9 and opus in fragments", make(&vp9, &FRAGMENTS)),
        ("h264 and aac in matroska", make(&h264, &matroska)),
        ("hevc and opus in matroska", make(&hevc, &matroska)),
        ("av1 and opus in matroska", make(&av1, &matroska)),
        ("vp9 and opus in webm", make(&vp9, &["-f", "webm", "-"])),
    ]
}

/// Damages a stream in places of all kinds, those at its start more often.
fn damage(stream: &mut Vec<u8>, rng: &mut ChaCha12Rng) {
    let span = if rng.random_bool(0.5) { 3000.min(stream.len()) } else { stream.len() };
    if span < 100 {
        return;
    }
    let at = rng.random_range(0..span - 50);
    match rng.random_range(0..8) {
        0 | 1 => stream[at] ^= 1 << rng.random_range(0..8),
        2 => rng.fill(&mut stream[at..at + 4]),
        3 => stream[at..at + 4].copy_from_slice(&[0xff; 4]),
        4 => stream[at..at + 4].copy_from_slice(&[0; 4]),
        5 => drop(stream.drain(at..at + rng.random_range(1..50))),
        6 => {
            let part = stream[at..at + 40].to_vec();
            stream.splice(at..at, part);
        }
        _ => stream.truncate(stream.len() - rng.random_range(0..50)),
    }
}

/// Takes what a demuxer gives through all that follows it.
struct Sink {
    muxer: Option<TsMuxer>,
    builder: GenerationBuilder,
    out: Vec<u8>,
    units: usize,
}

impl Sink {
    fn take(&mut self, event: Event) {
        match event {
            Event::Tracks(tracks) => {
                assert!((1..=MAX_TRACKS).contains(&tracks.len()));
                assert!(tracks.iter().all(|track| track.config.len() <= MAX_CODEC_CONFIG));
                match &mut self.muxer {
                    Some(muxer) => muxer.set_tracks(&tracks),
                    None => self.muxer = Some(TsMuxer::new(&tracks)),
                }
            }
            Event::AccessUnit(unit) => {
                self.units += 1;
                self.check(&unit);
                self.muxer.as_mut().unwrap().write(&unit, &mut self.out);
                self.out.clear();
                if let Some(generation) = self.builder.push(unit) {
                    let layers = split_layers(&generation, Layering::Priority);
                    let layers: Vec<_> = layers.into_iter().map(Some).collect();
                    assert_eq!(merge_layers(&layers), Ok(generation.units));
                }
            }
            event @ (Event::Skipped { .. }
            | Event::SkippedTrack { .. }
            | Event::Discontinuity
            | _) => assert!(event.notice().is_none_or(|line| !line.contains('\n'))),
        }
    }

    fn check(&self, unit: &AccessUnit) {
        // Parameter sets and headers may come on top.
        assert!(unit.data.len() <= MAX_ACCESS_UNIT + 10_000);
        assert!(unit.pts >= unit.dts);
    }
}

/// Pushes a stream in parts of any length, and then another; gives how many units came.
fn run(streams: &[&[u8]], rng: &mut ChaCha12Rng) -> usize {
    let mut demuxer = Demuxer::sniffing();
    let (builder, out) = (GenerationBuilder::default(), Vec::new());
    let mut sink = Sink { muxer: None, builder, out, units: 0 };
    'streams: for stream in streams {
        let mut rest = *stream;
        while !rest.is_empty() {
            let (part, tail) = rest.split_at(rng.random_range(1..=rest.len().min(9000)));
            rest = tail;
            if let Err(error) = demuxer.push(part) {
                let line = error.to_string();
                assert!(!line.is_empty() && !line.contains('\n'));
                break 'streams;
            }
            while let Some(event) = demuxer.poll() {
                sink.take(event);
            }
        }
        let result = demuxer.finish();
        while let Some(event) = demuxer.poll() {
            sink.take(event);
        }
        if result.is_err() {
            break;
        }
    }
    sink.units
}

#[test]
fn damaged_streams_never_panic_whatever_they_carry() {
    if is_missing("damaged_streams_never_panic_whatever_they_carry") {
        return;
    }
    for (name, stream) in streams() {
        let mut rng = ChaCha12Rng::seed_from_u64(0);
        let whole = run(&[&stream], &mut rng);
        assert!(whole > 60, "{name}: {whole}");
        let mut survived = 0;
        for seed in 0..150 {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let mut damaged = stream.clone();
            for _ in 0..rng.random_range(1..8) {
                damage(&mut damaged, &mut rng);
            }
            // Another stream behind it is not harmed.
            let units = run(&[&damaged, &stream], &mut rng);
            survived += usize::from(units >= whole);
        }
        assert!(survived > 15, "{name}: {survived}");
    }
}

#[test]
fn streams_cut_short_anywhere_never_panic() {
    if is_missing("streams_cut_short_anywhere_never_panic") {
        return;
    }
    for (_, stream) in streams() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let early = (0..1500).step_by(7);
        for end in early.chain((1500..stream.len()).step_by(2997)) {
            run(&[&stream[..end.min(stream.len())]], &mut rng);
        }
    }
}

#[test]
fn noise_behind_a_plausible_start_never_panics() {
    let heads: [&[u8]; 5] = [
        b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff",
        b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm\x18\x53\x80\x67\xff\x16\x54\xae\x6b\x40\xff\xae\xbf",
        b"\0\0\0\x14ftypisom\0\0\0\0isom\0\0\x01\0moov\0\0\0\xf8trak\0\0\0\xf0mdia",
        b"\0\0\0\x14ftypiso5\0\0\0\0iso5\0\0\x01\0moof\0\0\0\xf8traf\0\0\0\x10tfhd",
        b"\0\0\0\x08free\0\0\0\0mdat",
    ];
    for seed in 0..6000u64 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let len = rng.random_range(0..3000);
        // Few bits set, so that lengths are small and things fit into each other.
        let noise: Vec<u8> = (0..len)
            .map(|_| rng.random::<u8>() & rng.random::<u8>() & rng.random::<u8>())
            .collect();
        let head = heads[rng.random_range(0..heads.len())];
        run(&[&[head, &noise].concat(), &noise], &mut rng);
        let (mut mp4, mut matroska) = (Mp4Demuxer::new(), MatroskaDemuxer::new());
        let _ = mp4.push(&noise).and_then(|()| mp4.finish());
        let _ = matroska.push(&noise).and_then(|()| matroska.finish());
    }
}
