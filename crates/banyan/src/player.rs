//! From generations at their deadline to pictures that can be shown.
//!
//! Decides where pictures go, and that a gap between generations is one in the picture. Which access
//! units still make sense after a loss, and which rendition is shown, is left to
//! [`RenditionSwitch`].

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use banyan_core::Playout;
use banyan_gateway::LiveHub;
use banyan_media::{
    AccessUnit, Arrived, Generation, Priority, RenditionSwitch, Shown, TsMuxer, merge_layers,
};
use banyan_wire::{GenerationId, Rendition, Track};

use crate::error::{Failure, Outcome};

/// Where pictures go.
#[derive(Debug)]
pub(crate) struct Player {
    hub: Option<Arc<LiveHub>>,
    output: Option<TsOutput>,
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
            output: output.map(TsOutput::new),
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
    /// [`Failure`] where the output file cannot be written.
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
    /// [`Failure`] where the output file cannot be written.
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
    /// [`Failure`] where the output file cannot be written to its end.
    pub(crate) fn finish(&mut self) -> Outcome {
        if let Some(hub) = &self.hub {
            hub.end();
        }
        self.output.take().map_or(Ok(()), TsOutput::finish)
    }
}

/// A transport stream in a file or on stdout. The file is made with the first picture, so that a
/// broadcast that is not found leaves none behind.
#[derive(Debug)]
struct TsOutput {
    path: PathBuf,
    sink: Option<Sink>,
    muxer: Option<TsMuxer>,
    packets: Vec<u8>,
    has_begun: bool,
}

#[derive(Debug)]
enum Sink {
    File(File),
    Stdout,
}

impl TsOutput {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            sink: None,
            muxer: None,
            packets: Vec::new(),
            has_begun: false,
        }
    }

    fn set_tracks(&mut self, tracks: &[Track]) {
        match &mut self.muxer {
            Some(muxer) => muxer.set_tracks(tracks),
            None => self.muxer = Some(TsMuxer::new(tracks)),
        }
    }

    fn write(&mut self, units: &[AccessUnit]) -> Outcome {
        let Some(muxer) = &mut self.muxer else { return Ok(()) };
        // A file begins with a picture that can be decoded.
        let begin = if self.has_begun {
            0
        } else {
            match units.iter().position(|unit| unit.priority == Priority::Key) {
                Some(position) => position,
                None => return Ok(()),
            }
        };
        self.has_begun = true;
        self.packets.clear();
        for unit in &units[begin..] {
            muxer.write(unit, &mut self.packets);
        }
        let path = self.path.display();
        let result = match &mut self.sink {
            Some(Sink::File(file)) => file.write_all(&self.packets),
            Some(Sink::Stdout) => write_stdout(&self.packets),
            None if self.path == Path::new("-") => {
                self.sink = Some(Sink::Stdout);
                write_stdout(&self.packets)
            }
            None => File::create(&self.path).and_then(|mut file| {
                file.write_all(&self.packets)?;
                self.sink = Some(Sink::File(file));
                Ok(())
            }),
        };
        result.map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                Failure::failed("the player has closed the pipe")
            } else {
                Failure::failed(format!("cannot write {path}: {error}"))
            }
        })
    }

    fn finish(self) -> Outcome {
        match self.sink {
            Some(Sink::File(file)) => file.sync_all().map_err(|error| {
                Failure::failed(format!("cannot write {}: {error}", self.path.display()))
            }),
            Some(Sink::Stdout) | None => Ok(()),
        }
    }
}

fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}
