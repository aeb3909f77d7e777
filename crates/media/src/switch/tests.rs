//! What a viewer may count on, whatever arrives.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use banyan_wire::Codec;
use bytes::Bytes;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::*;
use crate::generation::layers::{Layering, merge_layers, split_layers};
use crate::generation::{Generation, GenerationBuilder};

const FULL: TrackId = TrackId(0);
const SOUND: TrackId = TrackId(1);
const LOW: TrackId = TrackId(2);
/// Ticks of a picture at 25 a second.
const STEP: i64 = 3600;

fn track(id: TrackId, codec: Codec, rendition: Rendition) -> Track {
    Track {
        id,
        codec,
        width: if rendition == Rendition::Low { 426 } else { 854 },
        height: 0,
        sample_rate: 0,
        channels: 0,
        language: String::new(),
        rendition,
        config: Bytes::new(),
    }
}

fn tracks() -> Vec<Track> {
    vec![
        track(FULL, Codec::H264, Rendition::Full),
        track(SOUND, Codec::Aac, Rendition::Full),
        track(LOW, Codec::H264, Rendition::Low),
    ]
}

/// A picture that says in its bytes which one of its chain it is.
fn picture(track: TrackId, place: u16, dts: i64, pts: i64, priority: Priority) -> AccessUnit {
    AccessUnit {
        track,
        pts: MediaTime(pts * STEP),
        dts: MediaTime(dts * STEP),
        random_access: priority == Priority::Key,
        priority,
        data: Bytes::copy_from_slice(&[&[track.0][..], &place.to_be_bytes()].concat()),
    }
}

fn place(unit: &AccessUnit) -> (u8, u16) {
    let [track, high, low] = unit.data[..] else { unreachable!("made above") };
    (track, u16::from_be_bytes([high, low]))
}

/// Full pictures in closed GOPs of `minis` groups of a reference and three others that are decoded
/// after it and shown before it; sound; and low pictures in order, with a key where the full one has
/// one and at every group's start that `low_key` names.
fn programme(gops: i64, minis: i64, low_key: impl Fn(i64) -> bool) -> Vec<Generation> {
    // Where every picture before it has been shown, when this one is decoded.
    programme_with(gops, minis, |place| place % 4 == 1 && low_key(place / 4))
}

/// The same with low keys at the named places of the full rendition's order of decoding.
fn programme_with(gops: i64, minis: i64, low_key: impl Fn(i64) -> bool) -> Vec<Generation> {
    let gop = 1 + 4 * minis;
    let mut units = Vec::new();
    for at in 0..gops {
        let begin = at * gop;
        let mut order = vec![0];
        for mini in 0..minis {
            order.extend([4, 2, 1, 3].map(|shown| mini * 4 + shown));
        }
        for (place, shown) in (0u16..).zip(order) {
            let dts = begin + i64::from(place);
            let priority = match (place, shown % 2) {
                (0, _) => Priority::Key,
                (_, 0) => Priority::Reference,
                _ => Priority::Droppable,
            };
            units.push(picture(FULL, place, dts - 2, begin + shown, priority));
            let sound = picture(SOUND, 0, dts - 2, dts - 2, Priority::Audio);
            units.push(AccessUnit { random_access: true, ..sound });
            let place = i64::from(place);
            let is_key = place == 0 || low_key(place);
            let priority = if is_key { Priority::Key } else { Priority::Reference };
            units.push(picture(LOW, 0, dts, dts, priority));
        }
    }
    // Places in the chains of the low rendition.
    let mut chain = 0;
    for unit in units.iter_mut().filter(|unit| unit.track == LOW) {
        chain = if unit.random_access { 0 } else { chain + 1 };
        unit.data = Bytes::copy_from_slice(&[&[LOW.0][..], &u16::to_be_bytes(chain)].concat());
    }
    let mut builder = GenerationBuilder::default();
    builder.set_tracks(&tracks());
    let mut out: Vec<_> = units.into_iter().filter_map(|unit| builder.push(unit)).collect();
    out.extend(std::iter::from_fn(|| builder.flush()));
    out
}

fn show(switch: &mut RenditionSwitch, generation: &Generation, layers: usize) -> Shown {
    let split = split_layers(generation, Layering::Ladder { low: LOW });
    let arrived: Vec<_> =
        split.into_iter().enumerate().map(|(at, layer)| (at < layers).then_some(layer)).collect();
    let units = merge_layers(&arrived).unwrap();
    switch.show(units, Arrived::of(&arrived), generation.random_access)
}

/// Shows a programme of which each generation has as many layers as `arrived` says.
fn play(programme: &[Generation], arrived: &[usize]) -> Vec<Shown> {
    let mut switch = RenditionSwitch::new();
    switch.set_tracks(&tracks());
    let mut out = Vec::new();
    for (generation, layers) in programme.iter().zip(arrived) {
        let shown = show(&mut switch, generation, *layers);
        for unit in &shown.units {
            let known = switch.tracks().iter().find(|track| track.id == unit.track).unwrap();
            if unit.priority.is_video() {
                let expected =
                    if place(unit).0 == LOW.0 { Rendition::Low } else { Rendition::Full };
                assert_eq!((known.rendition, shown.rendition), (expected, Some(expected)));
            }
        }
        assert_eq!(switch.tracks().len(), 2);
        out.push(shown);
    }
    out
}

fn pictures(shown: &[Shown]) -> impl Iterator<Item = &AccessUnit> {
    shown.iter().flat_map(|shown| &shown.units).filter(|unit| unit.priority.is_video())
}

fn renditions(shown: &[Shown]) -> Vec<Option<Rendition>> {
    shown.iter().map(|shown| shown.rendition).collect()
}

/// Every picture follows the one before it in its chain, or begins one; times never run back.
fn check(shown: &[Shown]) {
    let mut last: Option<(u8, u16)> = None;
    let mut dts = MediaTime(i64::MIN);
    let mut seen = BTreeSet::new();
    for unit in pictures(shown) {
        let (track, place) = place(unit);
        assert!(place == 0 || last == Some((track, place - 1)), "{last:?} then {track} {place}");
        if last.is_some_and(|(before, _)| before != track) {
            assert!(unit.random_access);
            assert!(seen.last().is_none_or(|until| unit.pts > *until), "time runs back");
        }
        last = Some((track, place));
        assert!(unit.dts > dts);
        dts = unit.dts;
        assert!(seen.insert(unit.pts), "a picture is shown twice");
    }
    for one in shown {
        let first = one.units.iter().find(|unit| unit.priority.is_video());
        assert_eq!(one.random_access, first.is_some_and(|unit| unit.random_access));
    }
}

#[test]
fn whatever_arrives_every_picture_shown_can_be_decoded_and_time_never_runs_back() {
    let programmes = [
        programme(6, 12, |_| true),
        programme(6, 12, |group| group > 0 && group % 3 == 0),
        programme(20, 3, |_| false),
        programme(3, 40, |group| group % 7 == 1),
    ];
    let mut rng = ChaCha12Rng::seed_from_u64(7);
    for round in 0..400 {
        let programme = &programmes[round % programmes.len()];
        let worst = rng.next_u32() % 3;
        let arrived: Vec<usize> = programme
            .iter()
            .map(|_| if rng.random_bool(0.5) { 2 } else { (rng.next_u32() % (worst + 1)) as usize })
            .collect();
        let shown = play(programme, &arrived);
        check(&shown);
        // Sound comes with the first layer, once and without exception.
        for ((generation, shown), layers) in programme.iter().zip(&shown).zip(&arrived) {
            let sound = |units: &[AccessUnit]| {
                units.iter().filter(|unit| unit.track == SOUND).cloned().collect::<Vec<_>>()
            };
            let expected = if *layers > 0 { sound(&generation.units) } else { Vec::new() };
            assert_eq!(sound(&shown.units), expected);
        }
    }
}

#[test]
fn with_a_low_key_in_every_generation_the_first_layer_is_enough_for_every_picture() {
    let programme = programme(6, 12, |group| group > 0 && group % 3 == 0);
    let count: i64 = 6 * 49;
    let mut rng = ChaCha12Rng::seed_from_u64(8);
    for _ in 0..200 {
        let arrived: Vec<usize> =
            programme.iter().map(|_| if rng.random_bool(0.6) { 2 } else { 1 }).collect();
        let shown = play(&programme, &arrived);
        check(&shown);
        let times: BTreeSet<_> = pictures(&shown).map(|unit| unit.pts.0 / STEP).collect();
        assert!(times.into_iter().eq(0..count), "{arrived:?}");
    }
}

#[test]
fn pictures_that_cross_a_low_key_hold_the_last_one_no_longer_than_they_are_reordered() {
    let programme = programme_with(6, 12, |place| place % 10 == 0);
    let count: i64 = 6 * 49;
    let mut rng = ChaCha12Rng::seed_from_u64(9);
    for _ in 0..200 {
        let arrived: Vec<usize> =
            programme.iter().map(|_| if rng.random_bool(0.6) { 2 } else { 1 }).collect();
        let shown = play(&programme, &arrived);
        check(&shown);
        let times: BTreeSet<_> = pictures(&shown).map(|unit| unit.pts.0 / STEP).collect();
        assert_eq!((times.first(), times.last()), (Some(&0), Some(&(count - 1))));
        let longest = times.iter().zip(times.iter().skip(1)).map(|(a, b)| b - a).max();
        assert!(longest <= Some(4), "{longest:?} with {arrived:?}");
    }
}

#[test]
fn the_full_rendition_is_left_at_once_and_gone_back_to_at_its_key() {
    use Rendition::{Full, Low};
    // Four generations a GOP.
    let programme = programme(2, 12, |group| group > 0 && group % 3 == 0);
    assert_eq!(programme.len(), 8);
    let shown = play(&programme, &[2, 2, 1, 2, 2, 2, 0, 1]);
    let expected = [Full, Full, Low, Low, Full, Full].map(Some);
    assert_eq!(renditions(&shown), [&expected[..], &[None, Some(Low)]].concat());
    let all = play(&programme, &[2; 8]);
    assert_eq!(renditions(&all), [Some(Full); 8]);
    assert_eq!(pictures(&all).count(), 98);
}

#[test]
fn a_newcomer_begins_with_the_low_rendition_if_that_comes_first() {
    let programme = programme(2, 12, |group| group > 0 && group % 3 == 0);
    let shown = play(&programme[1..], &[2; 7]);
    let (low, full) = (Some(Rendition::Low), Some(Rendition::Full));
    assert_eq!(renditions(&shown), [low, low, low, full, full, full, full]);
    assert!(shown[0].random_access);
}

#[test]
fn missing_generations_break_the_chain() {
    let programme = programme(2, 12, |_| false);
    let mut switch = RenditionSwitch::new();
    switch.set_tracks(&tracks());
    assert_eq!(show(&mut switch, &programme[0], 2).rendition, Some(Rendition::Full));
    switch.skip();
    let shown = show(&mut switch, &programme[2], 2);
    assert_eq!(shown.rendition, None);
    assert!(shown.units.iter().all(|unit| !unit.priority.is_video()));
}

#[test]
fn a_source_that_starts_again_is_shown_again() {
    let programme = programme(6, 12, |_| false);
    let mut switch = RenditionSwitch::new();
    switch.set_tracks(&tracks());
    for generation in &programme {
        show(&mut switch, generation, 2);
    }
    switch.skip();
    assert_eq!(show(&mut switch, &programme[0], 2).rendition, Some(Rendition::Full));
}

#[test]
fn a_low_rendition_that_comes_and_goes_leaves_the_full_one_alone() {
    let programme = programme(2, 12, |_| true);
    let mut switch = RenditionSwitch::new();
    switch.set_tracks(&tracks()[..2]);
    let full_only = |generation: &Generation| {
        let mut generation = generation.clone();
        generation.units.retain(|unit| unit.track != LOW);
        generation
    };
    let first = full_only(&programme[0]);
    let shown = switch.show(first.units.clone(), Arrived::All, true);
    assert_eq!((shown.units, shown.rendition), (first.units, Some(Rendition::Full)));
    switch.set_tracks(&tracks());
    assert_eq!(show(&mut switch, &programme[1], 2).rendition, Some(Rendition::Full));
    assert_eq!(show(&mut switch, &programme[2], 1).rendition, Some(Rendition::Low));
    assert_eq!(switch.tracks()[0].width, 426);
    switch.set_tracks(&tracks()[..2]);
    assert_eq!(switch.tracks()[0].width, 854);
    let next = full_only(&programme[3]);
    assert_eq!(switch.show(next.units, Arrived::All, false).rendition, None);
}

mod one_rendition {
    use super::*;

    fn unit(at: i64, pts: i64, priority: Priority) -> AccessUnit {
        let track = if priority == Priority::Audio { SOUND } else { FULL };
        picture(track, 0, at, pts, priority)
    }

    fn switch() -> RenditionSwitch {
        let mut switch = RenditionSwitch::new();
        switch.set_tracks(&tracks()[..2]);
        assert_eq!(switch.tracks(), &tracks()[..2]);
        switch
    }

    fn all() -> Vec<AccessUnit> {
        use Priority::{Audio, Droppable, Key, Reference};
        vec![
            unit(0, 2, Key),
            unit(1, 0, Droppable),
            unit(2, 2, Audio),
            unit(3, 3, Reference),
            unit(4, 4, Droppable),
        ]
    }

    #[test]
    fn after_a_loss_sound_and_keys_are_shown_until_a_whole_generation_begins_with_a_key() {
        let mut switch = switch();
        let kinds =
            |shown: Shown| shown.units.iter().map(|unit| unit.priority).collect::<Vec<Priority>>();
        let few = [Priority::Key, Priority::Audio];
        assert_eq!(kinds(switch.show(all(), Arrived::Base, true)), few);
        assert_eq!(kinds(switch.show(all(), Arrived::All, false)), few);
        let shown = switch.show(all(), Arrived::All, true);
        assert_eq!(shown.rendition, Some(Rendition::Full));
        // The picture shown before the key refers to what is not there.
        assert_eq!(shown.units.len(), 4);
        assert_eq!(switch.show(all(), Arrived::All, false).units.len(), 4);
        assert_eq!(kinds(switch.show(all(), Arrived::Base, true)), few);
        assert_eq!(kinds(switch.show(all(), Arrived::All, false)), few);
    }
}
