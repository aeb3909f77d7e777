//! A low rendition is made, and the broadcast goes on without it.

use std::path::PathBuf;

use banyan_media::{Arrived, Generation, RenditionSwitch, low_track};

use super::*;
use crate::input::{self, Input, Reading};

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/bbb_480p24_30s_h264_aac.mp4");

#[test]
fn the_low_rendition_keeps_the_whole_within_its_bound() {
    for (video, sound) in [(1_500_000, 128_000), (5_000_000, 128_000), (1_200_000, 64_000)] {
        let low = Rates { video, sound }.low();
        let coded = video * 16 / 13 + (low + sound) * 16 / 6;
        assert!(coded * 100 <= (video + sound) * 156, "{video} {sound} {low}");
        assert!(low * 100 >= video * 6 && low * 100 <= video * 9);
    }
    assert_eq!(Rates { video: 100_000, sound: 128_000 }.low(), 64_000);
}

#[test]
fn the_low_picture_is_smaller_than_the_full_one() {
    let heights = [1, 144, 240, 360, 480, 720, 1080, 2160].map(|full| (full, low_height(full)));
    assert!(heights[1..].iter().all(|(full, low)| low < full && low % 2 == 0), "{heights:?}");
    assert_eq!((low_height(480), low_height(1080)), (240, 360));
}

/// The clip as pieces, with what `program` makes of it.
async fn run(program: &'static str) -> Vec<Item> {
    let reading = Reading { max_duration: Duration::ZERO, ..Reading::default() };
    let input = input::open(&Input::File(PathBuf::from(CLIP)), reading).await.expect("a clip");
    let rates = input.totals.as_ref().map(input::Totals::rates);
    let mut output = start_with(program, input, rates);
    let mut items = Vec::new();
    while let Some(item) = output.items.recv().await {
        items.push(item);
    }
    items
}

fn split(items: Vec<Item>) -> (Vec<Track>, Vec<Generation>, Vec<String>) {
    let (mut tracks, mut generations, mut notices) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Tracks(found) => tracks = found,
            Item::Generation(generation) => generations.push(generation),
            Item::Notice(notice) => notices.push(notice),
            Item::Failed(failure) => panic!("{failure}"),
        }
    }
    (tracks, generations, notices)
}

fn times(generation: &Generation, track: TrackId) -> Vec<i64> {
    let of = generation.units.iter().filter(|unit| unit.track == track);
    let mut times: Vec<_> = of.map(|unit| unit.pts.0).collect();
    times.sort_unstable();
    times
}

#[tokio::test]
async fn every_picture_has_a_low_one_and_who_goes_to_and_fro_misses_nothing() {
    if std::process::Command::new(PROGRAM).arg("-version").output().is_err() {
        eprintln!("SKIPPED: the low rendition needs ffmpeg on the path");
        return;
    }
    let (tracks, generations, notices) = split(run(PROGRAM).await);
    assert_eq!(notices, Vec::<String>::new());
    let low = low_track(&tracks).expect("a low rendition");
    let full = tracks.iter().find(|track| track.codec.is_video()).expect("a picture").id;
    let described = tracks.iter().find(|track| track.id == low).expect("it is listed");
    assert_eq!((described.width, described.height), (428, 240));
    let mut pictures = (0, 0);
    for generation in &generations {
        pictures.0 += times(generation, full).len();
        pictures.1 += times(generation, low).len();
    }
    assert_eq!(pictures, (720, 720));
    // A viewer that goes to and fro between them misses nothing and sees nothing twice.
    let mut switch = RenditionSwitch::new();
    switch.set_tracks(&tracks);
    let mut shown = Vec::new();
    for (n, generation) in (0..).zip(&generations) {
        let is_all = n % 3 == 0;
        let mut units = generation.units.clone();
        units.retain(|unit| is_all || unit.track != full);
        let arrived = if is_all { Arrived::All } else { Arrived::Base };
        let units = switch.show(units, arrived, generation.random_access).units;
        shown.extend(units.into_iter().filter(|unit| unit.track == full).map(|unit| unit.pts.0));
    }
    shown.sort_unstable();
    let mut all: Vec<_> = generations.iter().flat_map(|one| times(one, full)).collect();
    all.sort_unstable();
    assert_eq!(shown, all);
    let bytes = |track| -> usize {
        let units = generations.iter().flat_map(|generation| &generation.units);
        units.filter(|unit| unit.track == track).map(|unit| unit.data.len()).sum()
    };
    let share = bytes(low) * 100 / bytes(full);
    assert!((2..=11).contains(&share), "the low rendition has {share} % of the full one's bytes");
    // An end of the input, and a key of the full pictures soon after another, may leave a short one.
    let begun = generations.iter().filter(|generation| generation.random_access).count();
    assert!(begun + 1 >= generations.len(), "{begun} of {}", generations.len());
}

#[tokio::test]
async fn without_the_encoder_the_broadcast_goes_on() {
    // The first is not there, the second ends at once, the third takes nothing.
    for program in ["banyan-no-such-program", "false", "true"] {
        let (tracks, generations, notices) = split(run(program).await);
        assert_eq!(low_track(&tracks), None);
        let full = tracks.iter().find(|track| track.codec.is_video()).expect("a picture").id;
        let pictures: usize = generations.iter().map(|one| times(one, full).len()).sum();
        assert_eq!(pictures, 720, "{program}");
        assert!(notices.first().is_some_and(|notice| notice.contains("goes on without")));
    }
}
