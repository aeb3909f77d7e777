//! Files: MP4, transport streams, Matroska and WebM.
//!
//! Decides how a file is told to be one or another (by its first bytes, never by its name), what
//! it amounts to, and how it starts over.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use banyan_media::{
    AccessUnit, Container, Demuxer, Event, Generation, GenerationBuilder, Mp4Error, Mp4Reader,
    Priority, Renditions, SNIFF_LEN, low_track, sniff,
};
use banyan_wire::{MediaTime, Track};
use tokio::sync::mpsc;

use crate::error::{Failure, Outcome};
use crate::input::{Item, Reading};
use crate::ladder::Rates;

/// Bytes of a file that are looked through for its rate. Later ones are estimated
/// while they are sent.
const LOOKED_THROUGH: u64 = 256 * 1024 * 1024;

/// What a file amounts to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Its tracks.
    pub(crate) tracks: Vec<Track>,
    /// Generations looked through.
    pub(crate) generations: u64,
    /// Their length, in ticks.
    pub(crate) ticks: i64,
    /// Bytes of their sound.
    pub(crate) sound_bytes: u64,
    /// Bytes of the full rendition's key pictures.
    pub(crate) key_bytes: u64,
    /// Bytes of its other pictures.
    pub(crate) other_bytes: u64,
    /// Bytes of the low rendition.
    pub(crate) low_bytes: u64,
}

impl Totals {
    /// Bits per second of pictures and of sound.
    pub(crate) fn rates(&self) -> Rates {
        let ticks = self.ticks.unsigned_abs().max(1);
        let rate = |bytes: u64| bytes.saturating_mul(8 * MediaTime::HZ.unsigned_abs()) / ticks;
        Rates { video: rate(self.key_bytes + self.other_bytes), sound: rate(self.sound_bytes) }
    }

    /// Counts in a low rendition of this rate, in bits per second.
    pub(crate) fn add_low(&mut self, rate: u64) {
        let ticks = self.ticks.unsigned_abs();
        self.low_bytes += rate.saturating_mul(ticks) / (8 * MediaTime::HZ.unsigned_abs());
    }

    fn note(&mut self, unit: &AccessUnit) {
        let is_low = low_track(&self.tracks) == Some(unit.track);
        let sum = match unit.priority {
            Priority::Audio => &mut self.sound_bytes,
            Priority::Key | Priority::Reference | Priority::Droppable if is_low => {
                &mut self.low_bytes
            }
            Priority::Key => &mut self.key_bytes,
            Priority::Reference | Priority::Droppable => &mut self.other_bytes,
        };
        *sum += unit.data.len() as u64;
    }

    fn bytes(&self) -> u64 {
        self.sound_bytes + self.key_bytes + self.other_bytes + self.low_bytes
    }
}

/// A file that can be read.
#[derive(Debug)]
pub(crate) struct FileInput {
    path: PathBuf,
    container: Container,
}

impl FileInput {
    /// Looks at a file's first bytes.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let mut head = vec![0; SNIFF_LEN];
        let mut file = open(path)?;
        let mut length = 0;
        while length < head.len() {
            match file.read(&mut head[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) => return Err(cannot_read(path, &error)),
            }
        }
        let container = sniff(&head[..length]);
        match &container {
            Container::Unknown(hint) => Err(Failure::failed(format!("{}: {hint}", path.display()))),
            Container::MpegTs | Container::Mp4 | Container::Matroska | Container::Flv => {
                Ok(Self { path: path.to_owned(), container })
            }
        }
    }

    /// Reads the file once, for its tracks and its rate.
    pub(crate) fn totals(&self, renditions: Renditions) -> Outcome<Totals> {
        let mut totals = Totals::default();
        let reading = Reading { renditions, ..Reading::default() };
        self.read(reading, &mut |item| {
            match item {
                Item::Tracks(tracks) => totals.tracks = tracks,
                Item::Generation(generation) => {
                    totals.generations += 1;
                    totals.ticks += generation.duration;
                    generation.units.iter().for_each(|unit| totals.note(unit));
                    return totals.bytes() < LOOKED_THROUGH;
                }
                Item::Notice(_) | Item::Failed(_) => {}
            }
            true
        })?;
        if totals.generations == 0 {
            return Err(Failure::failed(format!(
                "{}: there is nothing to play",
                self.path.display()
            )));
        }
        Ok(totals)
    }

    /// Reads the file in a thread of its own, as fast as it is taken.
    pub(crate) fn start(self, reading: Reading, items: mpsc::Sender<Item>) {
        std::thread::spawn(move || {
            let result = self.read(reading, &mut |item| items.blocking_send(item).is_ok());
            if let Err(failure) = result {
                // Nobody listens any more: then nobody has to know.
                drop(items.blocking_send(Item::Failed(failure)));
            }
        });
    }

    /// Reads the file, for ever with `repeat`, until `take` says that it is enough.
    fn read(&self, reading: Reading, take: &mut dyn FnMut(Item) -> bool) -> Outcome {
        let file = BufReader::new(open(&self.path)?);
        let result = match self.container {
            Container::Mp4 => read_mp4(file, reading, take),
            Container::MpegTs | Container::Matroska | Container::Flv | Container::Unknown(_) => {
                read_stream(file, reading, take)
            }
        };
        result.map_err(|error| Failure::Failed(error.context(self.path.display().to_string())))
    }
}

fn read_mp4(
    file: BufReader<File>,
    reading: Reading,
    take: &mut dyn FnMut(Item) -> bool,
) -> anyhow::Result<()> {
    // Another handle on the same file; both are read from the start.
    let mut again = file.get_ref().try_clone()?;
    let mut reader = match Mp4Reader::with_renditions(file, reading.renditions) {
        Err(Mp4Error::Fragmented) => {
            again.rewind()?;
            return read_stream(BufReader::new(again), reading, take);
        }
        reader => reader?,
    };
    if !take(Item::Tracks(reader.tracks().to_vec())) {
        return Ok(());
    }
    for skipped in reader.skipped().to_vec() {
        take(Item::Notice(format!("a track is skipped: {skipped}")));
    }
    let mut builder = reading.builder();
    builder.set_tracks(reader.tracks());
    loop {
        let mut is_empty = true;
        while let Some(unit) = reader.next_access_unit()? {
            is_empty = false;
            if !push(&mut builder, unit, take) {
                return Ok(());
            }
        }
        if !reading.repeat || is_empty {
            flush(&mut builder, take);
            return Ok(());
        }
        reader.rewind();
    }
}

fn read_stream(
    mut file: BufReader<File>,
    reading: Reading,
    take: &mut dyn FnMut(Item) -> bool,
) -> anyhow::Result<()> {
    let mut demuxer = Demuxer::sniffing().with_renditions(reading.renditions);
    let mut builder = reading.builder();
    let mut buffer = vec![0; 188 * 512];
    let mut has_units = false;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            demuxer.finish()?;
        } else {
            demuxer.push(&buffer[..length])?;
        }
        while let Some(event) = demuxer.poll() {
            if let Some(notice) = event.notice()
                && !take(Item::Notice(notice))
            {
                return Ok(());
            }
            let goes_on = match event {
                Event::Tracks(tracks) => {
                    builder.set_tracks(&tracks);
                    take(Item::Tracks(tracks))
                }
                Event::AccessUnit(unit) => {
                    has_units = true;
                    push(&mut builder, unit, take)
                }
                Event::Skipped { .. } | Event::SkippedTrack { .. } | Event::Discontinuity | _ => {
                    true
                }
            };
            if !goes_on {
                return Ok(());
            }
        }
        if length == 0 {
            if !reading.repeat || !has_units {
                flush(&mut builder, take);
                return Ok(());
            }
            file.seek(SeekFrom::Start(0))?;
        }
    }
}

fn push(
    builder: &mut GenerationBuilder,
    unit: AccessUnit,
    take: &mut dyn FnMut(Item) -> bool,
) -> bool {
    builder.push(unit).is_none_or(|generation| take(Item::Generation(generation)))
}

fn flush(builder: &mut GenerationBuilder, take: &mut dyn FnMut(Item) -> bool) {
    while let Some(generation) = builder.flush() {
        if !take(Item::Generation(generation)) {
            return;
        }
    }
}

fn open(path: &Path) -> Outcome<File> {
    File::open(path).map_err(|error| cannot_read(path, &error))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot read {}: {error}", path.display()))
}

/// When a generation is complete, relative to the first one's start: its own start and duration.
pub(crate) fn complete_at(generation: &Generation, first: MediaTime) -> std::time::Duration {
    let ticks = (generation.start - first).saturating_add(generation.duration).max(0);
    std::time::Duration::from_micros(MediaTime(ticks).as_micros().unsigned_abs())
}
