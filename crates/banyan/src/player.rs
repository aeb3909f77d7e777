//! From generations at their deadline to pictures that can be shown.
//!
//! Decides which access units still make sense after a loss: a picture whose reference was lost
//! decodes to garbage, often without an error, so after a loss only sound and key pictures are
//! passed on until a whole generation begins with a random access picture again. What a recording
//! looks like is left to [`crate::output`].

use std::path::Path;
use std::sync::Arc;

use banyan_core::Playout;
use banyan_gateway::LiveHub;
use banyan_media::{AccessUnit, Priority, merge_layers};
use banyan_wire::{MediaTime, Track};

use crate::error::Outcome;
use crate::output::Output;

/// Where pictures go.
#[derive(Debug)]
pub(crate) struct Player {
    hub: Option<Arc<LiveHub>>,
    output: Option<Output>,
    tracks: Vec<Track>,
    /// Pictures that refer to others can be decoded.
    is_whole: bool,
    /// Presentation time of the picture playback resumed with; pictures before it refer to what
    /// is not there.
    resumed_at: Option<MediaTime>,
}

impl Player {
    pub(crate) fn new(hub: Option<Arc<LiveHub>>, output: Option<&Path>) -> Self {
        Self {
            hub,
            output: output.map(Output::new),
            tracks: Vec::new(),
            is_whole: false,
            resumed_at: None,
        }
    }

    pub(crate) fn set_tracks(&mut self, tracks: &[Track]) {
        if self.tracks != tracks {
            self.tracks = tracks.to_vec();
            if let Some(hub) = &self.hub {
                hub.set_tracks(self.tracks.clone());
            }
            if let Some(output) = &mut self.output {
                output.set_tracks(&self.tracks);
            }
        }
    }

    /// Passes on what there is of a generation.
    ///
    /// # Errors
    /// [`Failure`](crate::Failure) where the output file cannot be written.
    pub(crate) fn play(&mut self, playout: &Playout) -> Outcome {
        let units = match merge_layers(&playout.layers) {
            Ok(units) => units,
            Err(error) => {
                // The source signed it, so it is the source's fault; playback goes on without.
                tracing::warn!(generation = playout.generation.0, %error, "unreadable generation");
                Vec::new()
            }
        };
        self.pass_on(units, playout.is_full(), playout.is_random_access)
    }

    /// Passes on access units of one generation; `is_full` if none is missing.
    pub(crate) fn pass_on(
        &mut self,
        units: Vec<AccessUnit>,
        is_full: bool,
        is_random_access: bool,
    ) -> Outcome {
        if is_random_access && is_full && !self.is_whole {
            self.is_whole = true;
            let first = units.iter().find(|unit| unit.priority == Priority::Key);
            self.resumed_at = first.map(|unit| unit.pts);
        }
        if !is_full {
            self.is_whole = false;
        }
        let (is_whole, resumed_at) = (self.is_whole, self.resumed_at);
        let makes_sense = |unit: &AccessUnit| match unit.priority {
            Priority::Key | Priority::Audio => true,
            Priority::Reference | Priority::Droppable => {
                is_whole && resumed_at.is_none_or(|from| unit.pts >= from)
            }
        };
        let units: Vec<AccessUnit> = units.into_iter().filter(makes_sense).collect();
        if let Some(output) = &mut self.output {
            output.write(&units)?;
        }
        if let Some(hub) = &self.hub {
            hub.push(Arc::new(units), is_random_access);
        }
        Ok(())
    }

    /// Closes everything whole.
    ///
    /// # Errors
    /// [`Failure`](crate::Failure) where the output file cannot be written to its end.
    pub(crate) fn finish(&mut self) -> Outcome {
        if let Some(hub) = &self.hub {
            hub.end();
        }
        self.output.take().map_or(Ok(()), Output::finish)
    }
}
