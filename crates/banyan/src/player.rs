//! From generations at their deadline to pictures that can be shown.
//!
//! Decides where pictures go, and that a gap between generations is one in the picture. Which access
//! units still make sense after a loss, and which rendition is shown, is left to
//! [`RenditionSwitch`]; what a recording looks like, to [`crate::output`].

use std::path::Path;
use std::sync::Arc;

use banyan_core::Playout;
use banyan_gateway::LiveHub;
use banyan_media::{Arrived, Generation, RenditionSwitch, Shown, merge_layers};
use banyan_wire::{GenerationId, Rendition, Track};

use crate::error::Outcome;
use crate::output::Output;

/// Where pictures go.
#[derive(Debug)]
pub(crate) struct Player {
    hub: Option<Arc<LiveHub>>,
    output: Option<Output>,
    switch: RenditionSwitch,
    /// The tracks that were told to where pictures go.
    told: Vec<Track>,
    /// The generation after the last one that was due.
    next: Option<GenerationId>,
}

impl Player {
    pub(crate) fn new(hub: Option<Arc<LiveHub>>, output: Option<&Path>) -> Self {
        Self {
            hub,
            output: output.map(Output::new),
            switch: RenditionSwitch::new(),
            told: Vec::new(),
            next: None,
        }
    }

    /// Says what the generations that follow are made of.
    pub(crate) fn set_tracks(&mut self, tracks: &[Track]) {
        self.switch.set_tracks(tracks);
        self.tell_tracks();
    }

    /// Passes on what there is of a generation. Returns the rendition whose pictures are shown, if
    /// any is.
    ///
    /// # Errors
    /// [`Failure`](crate::Failure) where the output file cannot be written.
    pub(crate) fn play(&mut self, playout: &Playout) -> Outcome<Option<Rendition>> {
        if self.next.is_some_and(|next| playout.generation != next) {
            self.switch.skip();
        }
        self.next = Some(playout.generation.next());
        let (units, arrived) = match merge_layers(&playout.layers) {
            Ok(units) => (units, Arrived::of(&playout.layers)),
            Err(error) => {
                // The source signed it, so it is the source's fault; playback goes on without.
                tracing::warn!(generation = playout.generation.0, %error, "unreadable generation");
                (Vec::new(), Arrived::Nothing)
            }
        };
        let shown = self.switch.show(units, arrived, playout.is_random_access);
        self.pass_on(shown)
    }

    /// Passes on a generation that is whole, as the source has it.
    ///
    /// # Errors
    /// [`Failure`](crate::Failure) where the output file cannot be written.
    pub(crate) fn play_whole(&mut self, generation: Generation) -> Outcome<Option<Rendition>> {
        let random_access = generation.random_access;
        let shown = self.switch.show(generation.units, Arrived::All, random_access);
        self.pass_on(shown)
    }

    fn pass_on(&mut self, shown: Shown) -> Outcome<Option<Rendition>> {
        self.tell_tracks();
        if let Some(output) = &mut self.output {
            output.write(&shown.units)?;
        }
        if let Some(hub) = &self.hub {
            hub.push(Arc::new(shown.units), shown.random_access);
        }
        Ok(shown.rendition)
    }

    /// Tells the tracks that are shown, where they have changed.
    fn tell_tracks(&mut self) {
        let tracks = self.switch.tracks();
        if self.told == tracks {
            return;
        }
        self.told = tracks.to_vec();
        if let Some(hub) = &self.hub {
            hub.set_tracks(self.told.clone());
        }
        if let Some(output) = &mut self.output {
            output.set_tracks(&self.told);
        }
    }

    /// Closes everything whole.
    ///
    /// # Errors
    /// [`Failure`](crate::Failure)(crate::Failure) where the output file cannot be written to its end.
    pub(crate) fn finish(&mut self) -> Outcome {
        if let Some(hub) = &self.hub {
            hub.end();
        }
        self.output.take().map_or(Ok(()), Output::finish)
    }
}
