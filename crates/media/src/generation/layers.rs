//! Splits a generation into layers, and puts it together from those that arrived.
//!
//! Decides which units share a layer, and with it what a viewer with few descriptions sees. A layer
//! is a [payload]; protecting it is left to `banyan-coding`.

use banyan_wire::TrackId;
use bytes::Bytes;

use super::Generation;
use super::payload::{self, Limits};
use crate::access_unit::{AccessUnit, Priority};
use crate::error::PayloadError;

/// How generations are split. The number of layers is the same for every generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Layering {
    /// One layer with everything.
    #[default]
    Single,
    /// Sound and key pictures in layer 0, all other pictures in layer 1: who gets only the first
    /// hears everything and sees a picture now and then.
    ///
    /// Reference pictures and droppable ones stay together. A finer grading does not pay, and losing
    /// one reference picture while a later one arrives spoils the picture without a trace in the
    /// decoder's log (measured).
    Priority,
    /// Sound and the low rendition in layer 0, the full rendition in layer 1: who gets only the first
    /// hears everything and sees a moving picture, a smaller one.
    Ladder {
        /// The track that holds the low rendition; see [`low_track`](crate::low_track).
        low: TrackId,
    },
}

impl Layering {
    /// How many layers a generation is split into.
    #[must_use]
    pub const fn layers(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Priority | Self::Ladder { .. } => 2,
        }
    }

    /// The layer of a unit.
    fn layer_of(self, unit: &AccessUnit) -> usize {
        match (self, unit.priority) {
            (Self::Single, _)
            | (Self::Priority, Priority::Key)
            | (Self::Priority | Self::Ladder { .. }, Priority::Audio) => 0,
            (Self::Priority, Priority::Reference | Priority::Droppable) => 1,
            (Self::Ladder { low }, Priority::Key | Priority::Reference | Priority::Droppable) => {
                usize::from(unit.track != low)
            }
        }
    }
}

/// The layers of a generation as bytes: as many as the layering has, some perhaps without a unit.
#[must_use]
pub fn split_layers(generation: &Generation, layering: Layering) -> Vec<Bytes> {
    (0..layering.layers())
        .map(|layer| {
            let units = (0u32..).zip(&generation.units);
            payload::encode(units.filter(|(_, unit)| layering.layer_of(unit) == layer))
        })
        .collect()
}

/// The units of the layers that are there, in the order they had in the generation.
///
/// # Errors
///
/// If a layer is malformed, or if two hold the same unit.
pub fn merge_layers(layers: &[Option<Bytes>]) -> Result<Vec<AccessUnit>, PayloadError> {
    let mut units = Vec::new();
    for layer in layers.iter().flatten() {
        units.extend(payload::decode(layer.clone(), Limits::default())?);
    }
    units.sort_by_key(|(place, _)| *place);
    let same = units.windows(2).find(|pair| matches!(pair, [(one, _), (other, _)] if one == other));
    if let Some([(place, _), ..]) = same {
        return Err(PayloadError::Duplicate(*place));
    }
    Ok(units.into_iter().map(|(_, unit)| unit).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use banyan_wire::{MediaTime, TrackId};

    use super::*;

    fn generation() -> Generation {
        use Priority::{Audio, Droppable, Key, Reference};
        let units = [Key, Audio, Reference, Droppable, Audio, Droppable].into_iter().zip(0i64..);
        Generation {
            random_access: true,
            start: MediaTime(0),
            duration: 6,
            units: units
                .map(|(priority, at)| AccessUnit {
                    track: TrackId(0),
                    pts: MediaTime(at),
                    dts: MediaTime(at),
                    random_access: false,
                    priority,
                    data: Bytes::copy_from_slice(&at.to_be_bytes()),
                })
                .collect(),
        }
    }

    #[test]
    fn layers_merge_into_what_was_split() {
        let generation = generation();
        let ladder = Layering::Ladder { low: TrackId(1) };
        for layering in [Layering::Single, Layering::Priority, ladder] {
            let layers = split_layers(&generation, layering);
            assert_eq!(layers.len(), layering.layers());
            let layers: Vec<_> = layers.into_iter().map(Some).collect();
            assert_eq!(merge_layers(&layers), Ok(generation.units.clone()));
        }
    }

    #[test]
    fn the_first_layer_alone_gives_sound_and_key_pictures() {
        let layers = split_layers(&generation(), Layering::Priority);
        let units = merge_layers(&[Some(layers[0].clone()), None]).unwrap();
        let priorities: Vec<_> = units.iter().map(|unit| unit.priority).collect();
        assert_eq!(priorities, [Priority::Key, Priority::Audio, Priority::Audio]);
        assert_eq!(merge_layers(&[None, None]), Ok(vec![]));
    }

    #[test]
    fn of_a_ladder_the_first_layer_alone_gives_sound_and_the_whole_low_rendition() {
        let mut generation = generation();
        let (full, low) = (TrackId(0), TrackId(2));
        for unit in &mut generation.units {
            unit.track = if unit.priority == Priority::Audio { TrackId(1) } else { full };
        }
        let twins: Vec<_> =
            generation.units.iter().filter(|unit| unit.track == full).cloned().collect();
        generation.units.extend(twins.into_iter().map(|unit| AccessUnit { track: low, ..unit }));
        let layers = split_layers(&generation, Layering::Ladder { low });
        let base = merge_layers(&[Some(layers[0].clone()), None]).unwrap();
        let count =
            |units: &[AccessUnit], track| units.iter().filter(|unit| unit.track == track).count();
        assert_eq!((base.len(), count(&base, low), count(&base, full)), (6, 4, 0));
        let rest = merge_layers(&[None, Some(layers[1].clone())]).unwrap();
        assert_eq!((rest.len(), count(&rest, full)), (4, 4));
    }

    #[test]
    fn a_layer_without_units_is_still_there() {
        let mut generation = generation();
        generation.units.truncate(2);
        let layers = split_layers(&generation, Layering::Priority);
        assert_eq!(layers[1], [1, 0].as_slice());
    }

    #[test]
    fn the_same_unit_twice_is_an_error() {
        let layer = split_layers(&generation(), Layering::Single).remove(0);
        let twice = [Some(layer.clone()), Some(layer)];
        assert_eq!(merge_layers(&twice), Err(PayloadError::Duplicate(0)));
    }
}
