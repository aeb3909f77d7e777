//! What encoders and files feed in, and what a source puts into layers.
//!
//! Decides what must hold of every demuxer and reader; one that is added needs a line in
//! [`crate::TARGETS`] and nothing here.

use std::collections::BTreeMap;
use std::io::Cursor;

use banyan_media::payload::{self, Limits};
use banyan_media::{
    AccessUnit, Container, Demuxer, Event, Generation, GenerationBuilder, Hint, Layering,
    MAX_ACCESS_UNIT, MAX_GENERATION_BYTES, MAX_GENERATION_UNITS, Mp4Reader, Priority, SNIFF_LEN,
    merge_layers, sniff, split_layers,
};
use banyan_wire::{MAX_TRACKS, MediaTime, Track, TrackId};
use bytes::Bytes;

use crate::pieces::pieces;
use crate::script::Script;

/// What a unit may be longer than the limit: parameter sets that are put before it, a delimiter.
const HEADROOM: usize = 8 * 1024;
/// Units read of a file. A file of this size has no more, unless its tables lie.
const MAX_UNITS: usize = 20_000;

/// One layer. The format has one form for a list of units, so what decodes encodes to the same bytes.
pub(crate) fn layer(input: &[u8]) {
    let layer = Bytes::copy_from_slice(input);
    let Ok(units) = payload::decode(layer.clone(), Limits::default()) else { return };
    assert!(units.len() <= MAX_GENERATION_UNITS);
    let places = units.iter().map(|(place, _)| place);
    assert!(places.is_sorted_by(|one, next| one < next), "places grow");
    let encoded = payload::encode(units.iter().map(|(place, unit)| (*place, unit)));
    assert_eq!(encoded, layer, "a layer has one form");
}

/// The layers of a generation, some of them lost.
pub(crate) fn merge(input: &[u8]) {
    let layers = layers(&mut Script::new(input));
    let held: usize = layers.iter().flatten().map(Bytes::len).sum();
    if let Ok(units) = merge_layers(&layers) {
        let carried: usize = units.iter().map(|unit| unit.data.len()).sum();
        assert!(carried <= held, "units are parts of their layers");
    }
}

/// The layers a script holds: how many and which are lost, then each with its length, the last one to
/// the end.
pub(crate) fn layers(script: &mut Script<'_>) -> Vec<Option<Bytes>> {
    let shape = script.byte();
    let count = shape % 4;
    let lost = shape >> 4;
    let mut layers = Vec::new();
    for index in 0..=count {
        let bytes = if index == count {
            script.rest()
        } else {
            let length = usize::from(script.word());
            script.bytes(length)
        };
        layers.push((lost & 1 << index == 0).then(|| Bytes::copy_from_slice(bytes)));
    }
    layers
}

/// The first bytes of an input. What stands behind them does not matter.
pub(crate) fn sniff_head(input: &[u8]) {
    let container = sniff(input);
    if input.len() > SNIFF_LEN {
        // More is not promised to say more, but may not be refused.
        let _ = sniff(input.get(..SNIFF_LEN).unwrap_or(input));
    }
    if let Container::Unknown(hint) = container {
        assert!(!hint.to_string().is_empty());
        assert_eq!(hint == Hint::Empty, input.is_empty());
    }
}

/// A live stream, in pieces and as a whole: the pieces make no difference.
pub(crate) fn live(make: fn() -> Demuxer, input: &[u8]) {
    let in_pieces = demux(make(), pieces(input));
    let at_once = demux(make(), std::iter::once(input));
    assert_eq!(in_pieces, at_once, "where a stream is cut changes what it says");
    let (events, error) = in_pieces;
    assert!(error.is_none_or(|error| !error.is_empty()));
    let mut order = Order::default();
    let mut builder = GenerationBuilder::default();
    for event in events {
        match event {
            Event::Tracks(tracks) => order.set_tracks(&tracks),
            Event::AccessUnit(unit) => {
                order.check(&unit);
                if let Some(generation) = builder.push(unit) {
                    check_generation(&generation);
                }
            }
            Event::Skipped { reason, .. } => assert!(!reason.is_empty()),
            Event::Discontinuity | _ => {}
        }
    }
    if let Some(generation) = builder.flush() {
        check_generation(&generation);
    }
}

/// All events, and the sentence of the error, if one ended the stream.
fn demux<'a>(
    mut demuxer: Demuxer,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Event>, Option<String>) {
    let mut events = Vec::new();
    let mut error = None;
    for piece in pieces {
        error = demuxer.push(piece).err();
        events.extend(std::iter::from_fn(|| demuxer.poll()));
        if error.is_some() {
            break;
        }
    }
    let at_end = demuxer.finish().err();
    assert!(error.is_none() || error == at_end, "an error stays");
    events.extend(std::iter::from_fn(|| demuxer.poll()));
    let _ = demuxer.stats();
    (events, at_end.map(|error| error.to_string()))
}

/// An MP4 file.
pub(crate) fn mp4(input: &[u8]) {
    let mut reader = match Mp4Reader::open(Cursor::new(input)) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let mut order = Order::default();
    order.set_tracks(reader.tracks());
    let mut read = |reader: &mut Mp4Reader<_>| {
        for _ in 0..MAX_UNITS {
            let Ok(Some(unit)) = reader.next_access_unit() else { break };
            assert!(unit.pts >= unit.dts);
            order.check(&unit);
        }
    };
    read(&mut reader);
    // Time goes on.
    reader.rewind();
    read(&mut reader);
}

/// What is promised of the units of a programme.
#[derive(Debug, Default)]
struct Order {
    tracks: BTreeMap<TrackId, Track>,
    last: BTreeMap<TrackId, MediaTime>,
}

impl Order {
    fn set_tracks(&mut self, tracks: &[Track]) {
        assert!((1..=MAX_TRACKS).contains(&tracks.len()));
        assert!(tracks.is_sorted_by(|one, next| one.id < next.id), "in the order of their ids");
        self.tracks = tracks.iter().map(|track| (track.id, track.clone())).collect();
    }

    fn check(&mut self, unit: &AccessUnit) {
        assert!(unit.data.len() <= MAX_ACCESS_UNIT + HEADROOM);
        let track = self.tracks.get(&unit.track).expect("a unit is of a track that was announced");
        assert_eq!(track.codec.is_video(), unit.priority.is_video());
        if unit.priority == Priority::Audio {
            assert!(unit.random_access && unit.dts <= unit.pts);
        }
        let last = self.last.insert(unit.track, unit.dts);
        assert!(last.is_none_or(|last| last < unit.dts), "time grows within a track");
    }
}

/// A generation keeps its limits, and its layers give it back.
fn check_generation(generation: &Generation) {
    assert!(!generation.units.is_empty() && generation.duration >= 0);
    assert!(generation.units.len() <= MAX_GENERATION_UNITS);
    let bytes: usize = generation.units.iter().map(|unit| unit.data.len()).sum();
    assert!(bytes <= MAX_GENERATION_BYTES + MAX_ACCESS_UNIT);
    for layering in [Layering::Single, Layering::Priority] {
        let layers: Vec<_> = split_layers(generation, layering).into_iter().map(Some).collect();
        assert_eq!(merge_layers(&layers).as_ref(), Ok(&generation.units));
    }
}
