//! What `--output` writes: a transport stream, or fragmented MP4 where the name ends in `.mp4`.
//!
//! Decides the container by the name, and when a file is made: with the first picture, so that a
//! broadcast that is not found leaves none behind. Which pictures make sense is left to
//! [`crate::player`], what a container looks like to `banyan-media`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use banyan_media::{AccessUnit, CmafMuxer, Init, Priority, TsMuxer, ts_carries};
use banyan_wire::{Codec, MAX_TRACKS, Track};

use crate::error::{Failure, Outcome};

/// Longest fragment of a recording. A generation makes one.
const MAX_FRAGMENT: Duration = Duration::from_secs(2);

/// A recording in a file, or a stream on stdout.
#[derive(Debug)]
pub(crate) enum Output {
    /// A transport stream.
    Ts(TsOutput),
    /// Fragmented MP4.
    Mp4(Mp4Output),
}

impl Output {
    /// Creates an output that has written nothing yet.
    pub(crate) fn new(path: &Path) -> Self {
        let is_mp4 =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mp4"));
        if is_mp4 { Self::Mp4(Mp4Output::new(path)) } else { Self::Ts(TsOutput::new(path)) }
    }

    pub(crate) fn set_tracks(&mut self, tracks: &[Track]) {
        match self {
            Self::Ts(output) => output.set_tracks(tracks),
            Self::Mp4(output) => output.muxer.set_tracks(tracks),
        }
    }

    /// Writes the units of a generation.
    ///
    /// # Errors
    /// [`Failure`] where the file cannot be written, or its container does not carry the programme.
    pub(crate) fn write(&mut self, units: &[AccessUnit]) -> Outcome {
        match self {
            Self::Ts(output) => output.write(units),
            Self::Mp4(output) => output.write(units),
        }
    }

    /// Closes the file whole.
    ///
    /// # Errors
    /// [`Failure`] where the file cannot be written to its end.
    pub(crate) fn finish(self) -> Outcome {
        match self {
            Self::Ts(output) => output.sink.finish(),
            Self::Mp4(output) => output.sink.finish(),
        }
    }
}

/// A file that is made when something is written, or stdout.
#[derive(Debug)]
struct Sink {
    path: PathBuf,
    file: Option<File>,
}

impl Sink {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None }
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome {
        let result =
            if self.path == Path::new("-") { write_stdout(bytes) } else { self.write_file(bytes) };
        result.map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                Failure::failed("the player has closed the pipe")
            } else {
                self.failure(&error)
            }
        })
    }

    fn write_file(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::create(&self.path)?),
        };
        file.write_all(bytes)
    }

    fn finish(self) -> Outcome {
        let Some(file) = &self.file else { return Ok(()) };
        file.sync_all().map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::failed(format!("cannot write {}: {error}", self.path.display()))
    }
}

/// A transport stream.
#[derive(Debug)]
pub(crate) struct TsOutput {
    sink: Sink,
    muxer: Option<TsMuxer>,
    /// A codec of the programme that a transport stream does not carry.
    beyond: Option<Codec>,
    packets: Vec<u8>,
    has_begun: bool,
    /// The programme has pictures.
    has_video: bool,
}

impl TsOutput {
    fn new(path: &Path) -> Self {
        Self {
            sink: Sink::new(path),
            muxer: None,
            beyond: None,
            packets: Vec::new(),
            has_begun: false,
            has_video: false,
        }
    }

    fn set_tracks(&mut self, tracks: &[Track]) {
        self.has_video = tracks.iter().any(|track| track.codec.is_video());
        let mut codecs = tracks.iter().map(|track| track.codec);
        self.beyond = codecs.find(|codec| !ts_carries(*codec));
        match &mut self.muxer {
            Some(muxer) => muxer.set_tracks(tracks),
            None => self.muxer = Some(TsMuxer::new(tracks)),
        }
    }

    fn write(&mut self, units: &[AccessUnit]) -> Outcome {
        if let Some(codec) = self.beyond {
            return Err(Failure::failed(format!(
                "a transport stream does not carry {}: use --output FILE.mp4",
                codec.name()
            )));
        }
        let Some(muxer) = &mut self.muxer else { return Ok(()) };
        // A file begins with a picture that can be decoded, if there are pictures.
        let begin = if self.has_begun || !self.has_video {
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
        self.sink.write(&self.packets)
    }
}

/// Fragmented MP4: what has been written can be played, whatever happens then.
#[derive(Debug)]
pub(crate) struct Mp4Output {
    sink: Sink,
    muxer: CmafMuxer,
    path: PathBuf,
    init: Option<Arc<Init>>,
    files: u32,
}

impl Mp4Output {
    fn new(path: &Path) -> Self {
        Self {
            sink: Sink::new(path),
            muxer: CmafMuxer::new(MAX_FRAGMENT, MAX_TRACKS),
            path: path.to_owned(),
            init: None,
            files: 1,
        }
    }

    fn write(&mut self, units: &[AccessUnit]) -> Outcome {
        for fragment in self.muxer.push(units) {
            if self.init.as_deref() != Some(&fragment.init) {
                if self.init.is_some() {
                    self.begin_next()?;
                }
                self.sink.write(&fragment.init.data)?;
                self.init = Some(fragment.init);
            }
            self.sink.write(&fragment.data)?;
        }
        Ok(())
    }

    /// An MP4 file describes its tracks once: what is made of others goes into another file.
    fn begin_next(&mut self) -> Outcome {
        self.files += 1;
        let next = numbered(&self.path, self.files);
        tracing::warn!(file = %next.display(), "the programme is made of other tracks: next file");
        std::mem::replace(&mut self.sink, Sink::new(&next)).finish()
    }
}

/// `show.mp4` → `show-2.mp4`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().map(OsString::from).unwrap_or_default();
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::BufReader;

    use banyan_media::{GenerationBuilder, Mp4Reader};

    use super::*;

    const CLIP: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/bbb_1080p60_2s_h264_aac.mp4");

    fn clip() -> (Vec<Track>, Vec<Vec<AccessUnit>>) {
        let mut reader = Mp4Reader::open(BufReader::new(File::open(CLIP).unwrap())).unwrap();
        let mut builder = GenerationBuilder::default();
        let mut generations = Vec::new();
        while let Some(unit) = reader.next_access_unit().unwrap() {
            generations.extend(builder.push(unit));
        }
        generations.extend(builder.flush());
        let units = generations.into_iter().map(|generation| generation.units).collect();
        (reader.tracks().to_vec(), units)
    }

    #[test]
    fn the_container_goes_by_the_name() {
        for name in ["a.mp4", "a.MP4", "/b.ts/c.mp4"] {
            assert!(matches!(Output::new(Path::new(name)), Output::Mp4(_)), "{name}");
        }
        for name in ["a.ts", "-", "a", "a.mp4.ts", ".mp4", "a.mkv"] {
            assert!(matches!(Output::new(Path::new(name)), Output::Ts(_)), "{name}");
        }
    }

    #[test]
    fn a_recording_is_one_init_segment_and_fragments_of_whole_boxes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("show.mp4");
        let (tracks, generations) = clip();
        let mut output = Output::new(&path);
        output.set_tracks(&tracks);
        assert!(!path.exists(), "nothing has come yet");
        for units in &generations {
            output.write(units).unwrap();
        }
        output.finish().unwrap();
        let file = std::fs::read(&path).unwrap();
        let (mut rest, mut names) = (file.as_slice(), Vec::new());
        while let Some((head, _)) = rest.split_first_chunk::<8>() {
            let [l0, l1, l2, l3, name @ ..] = *head;
            names.push(String::from_utf8(name.to_vec()).unwrap());
            let len = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap();
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
        assert_eq!(names[..2], ["ftyp", "moov"]);
        assert!(names[2..].chunks(3).all(|boxes| boxes == ["styp", "moof", "mdat"]));
        assert_eq!(names.len(), 2 + 3 * generations.len());
    }

    #[test]
    fn other_tracks_go_into_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("show.mp4");
        let (tracks, generations) = clip();
        let mut output = Output::new(&path);
        output.set_tracks(&tracks);
        output.write(&generations[0]).unwrap();
        let video: Vec<Track> = tracks.into_iter().filter(|track| track.codec.is_video()).collect();
        output.set_tracks(&video);
        output.write(&generations[0]).unwrap();
        output.finish().unwrap();
        for name in ["show.mp4", "show-2.mp4"] {
            let file = std::fs::read(directory.path().join(name)).unwrap();
            assert_eq!(&file[4..8], b"ftyp", "{name}");
        }
        assert!(!directory.path().join("show-3.mp4").exists());
    }

    #[test]
    fn what_no_transport_stream_carries_is_refused_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("show.ts");
        let (mut tracks, generations) = clip();
        tracks[0].codec = Codec::Av1;
        let mut output = Output::new(&path);
        output.set_tracks(&tracks);
        let failure = output.write(&generations[0]).unwrap_err();
        let expected = "a transport stream does not carry av1: use --output FILE.mp4";
        assert_eq!(failure.to_string(), expected);
        assert!(!path.exists());
    }
}
