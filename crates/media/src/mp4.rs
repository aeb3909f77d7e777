//! Reads the tracks and access units of an MP4 or QuickTime file.
//!
//! Decides which tracks are carried and in which order their units come: by `dts` over all tracks,
//! as a live source would send them. Only the file's index is held in memory; samples are read
//! when their turn comes. Boxes are walked in [`boxes`], sample tables in [`tables`], sample
//! descriptions in [`entry`].
//!
//! Edit lists are followed as far as they say when a track begins, which is what keeps sound and
//! picture together. Departure from ISO/IEC 14496-12: later edits are ignored, the track plays
//! through.

mod boxes;
pub(crate) mod entry;
mod tables;

use std::io::{Read, Seek, SeekFrom};

use banyan_wire::{Codec, MAX_TRACKS, MediaTime, Rendition, Track, TrackId};
use bytes::Bytes;

use self::boxes::{Boxes, Fields, child};
use self::entry::{Entry, Format};
use self::tables::{Sample, SampleTable};
use crate::access_unit::{AccessUnit, Priority};
use crate::error::Mp4Error;
use crate::es::MAX_ACCESS_UNIT;
use crate::probe::{self, Container, SNIFF_LEN};

/// Longest index (`moov` box) that is read: ten hours of 60 pictures a second take about 40 MiB.
const MAX_INDEX: u64 = 256 << 20;

/// Boxes at the top of a file that are looked at to find the index.
const MAX_TOP_BOXES: usize = 4096;

/// Reads an MP4 file as tracks and access units.
///
/// Pictures come as Annex B byte streams, each with a delimiter, those that can be started at with
/// their parameter sets; AAC comes as ADTS frames. The first unit's `dts` is 0.
#[derive(Debug)]
pub struct Mp4Reader<R> {
    input: R,
    file_len: u64,
    tracks: Vec<Track>,
    skipped: Vec<String>,
    readers: Vec<TrackReader>,
    /// What makes a track's time media time.
    offset: i64,
    /// Where the last unit ends.
    end: i64,
}

/// One track, and where reading it stands.
#[derive(Debug)]
struct TrackReader {
    id: TrackId,
    format: Format,
    timescale: u32,
    /// Taken from every time, in the track's units: where the edit list says the track begins.
    media_start: i64,
    /// Added to every time, in ticks: how long the edit list says nothing is shown before.
    delay: i64,
    /// Taken from every decode time, in the track's units: makes room for negative offsets.
    reorder: i64,
    table: SampleTable,
    next: Option<Sample>,
    last_dts: Option<i64>,
}

impl<R: Read + Seek> Mp4Reader<R> {
    /// Reads a file's index.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not MP4, or has no video track that is carried.
    pub fn open(mut input: R) -> Result<Self, Mp4Error> {
        let file_len = input.seek(SeekFrom::End(0))?;
        let index = read_index(&mut input, file_len)?;
        if child(&index, b"mvex").is_some() {
            return Err(Mp4Error::Unsupported("fragmented mp4"));
        }
        if child(&index, b"cmov").is_some() {
            return Err(Mp4Error::Unsupported("a compressed index"));
        }
        let movie_timescale =
            child(&index, b"mvhd").and_then(|body| timescale(&body)).unwrap_or(1000);

        let mut reader = Self {
            input,
            file_len,
            tracks: Vec::new(),
            skipped: Vec::new(),
            readers: Vec::new(),
            offset: 0,
            end: 0,
        };
        let mut unsupported_video = None;
        for body in Boxes::new(index).filter(|found| found.name == *b"trak").map(|found| found.body)
        {
            reader.add_track(&body, movie_timescale, &mut unsupported_video)?;
        }
        if !reader.tracks.iter().any(|track| track.codec.is_video()) {
            return Err(unsupported_video
                .map_or(Mp4Error::NoVideo, |codec| Mp4Error::UnsupportedVideo { codec }));
        }
        let starts = reader.readers.iter().filter_map(TrackReader::next_dts);
        reader.offset = starts.min().map_or(0, i64::wrapping_neg);
        Ok(reader)
    }

    /// The tracks that are carried, in the order of their ids; at least one is video.
    #[must_use]
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// What the tracks that are not carried hold.
    #[must_use]
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Reads the next unit; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is cut short.
    pub fn next_access_unit(&mut self) -> Result<Option<AccessUnit>, Mp4Error> {
        loop {
            let next = self
                .readers
                .iter_mut()
                .filter_map(|reader| Some((reader.next_dts()?, reader)))
                .min_by_key(|(dts, reader)| (*dts, reader.id));
            let Some((_, reader)) = next else { return Ok(None) };
            let Some((sample, pts, dts)) = reader.take() else { return Ok(None) };
            let data = read_sample(&mut self.input, self.file_len, &sample)?;
            // A sample that makes no sense costs one unit.
            let Some(unit) = reader.format.convert(data) else { continue };
            let dts = dts.saturating_add(self.offset);
            let dts = reader.last_dts.map_or(dts, |last| dts.max(last.saturating_add(1)));
            let pts = pts.saturating_add(self.offset).max(dts);
            reader.last_dts = Some(dts);
            let duration = rescale(sample.duration, reader.timescale);
            self.end = self.end.max(dts.saturating_add(duration));
            return Ok(Some(AccessUnit {
                track: reader.id,
                pts: MediaTime(pts),
                dts: MediaTime(dts),
                random_access: unit.random_access,
                priority: unit.priority,
                data: unit.data,
            }));
        }
    }

    /// Goes back to the start. Time goes on: the first unit follows the last one that was read.
    pub fn rewind(&mut self) {
        for reader in &mut self.readers {
            reader.table.rewind();
            reader.next = reader.table.next();
        }
        let start = self.readers.iter().filter_map(TrackReader::next_dts).min().unwrap_or(0);
        self.offset = self.end.saturating_sub(start);
    }

    fn add_track(
        &mut self,
        body: &Bytes,
        movie_timescale: u32,
        unsupported_video: &mut Option<String>,
    ) -> Result<(), Mp4Error> {
        let Some(media) = child(body, b"mdia") else { return Ok(()) };
        let handler = child(&media, b"hdlr").and_then(|body| body.get(8..12).map(<[u8]>::to_vec));
        let is_video = match handler.as_deref() {
            Some(b"vide") => true,
            Some(b"soun") => false,
            _ => return Ok(()),
        };
        let header = child(&media, b"mdhd").ok_or(Mp4Error::Malformed("a track has no header"))?;
        let timescale =
            timescale(&header).ok_or(Mp4Error::Malformed("a track has no time scale"))?;
        let table = child(&media, b"minf")
            .and_then(|info| child(&info, b"stbl"))
            .ok_or(Mp4Error::Malformed("a track has no sample table"))?;
        let Entry { format, mut track } = match entry::read(&table, is_video) {
            Ok(entry) => entry,
            Err(codec) => {
                if is_video && unsupported_video.is_none() {
                    *unsupported_video = Some(codec.clone());
                }
                self.skipped.push(codec);
                return Ok(());
            }
        };
        let id = u8::try_from(self.tracks.len()).ok().filter(|id| usize::from(*id) < MAX_TRACKS);
        let Some(id) = id.map(TrackId) else {
            self.skipped.push(format!("{} (more tracks than are carried)", track.codec.name()));
            return Ok(());
        };
        track.id = id;
        track.language = language(&header);
        let (media_start, delay) = child(body, b"edts")
            .and_then(|edits| child(&edits, b"elst"))
            .map_or((0, 0), |list| track_start(&list, movie_timescale));
        let mut table = SampleTable::read(&table)?;
        let next = table.next();
        self.readers.push(TrackReader {
            id,
            format,
            timescale,
            media_start,
            delay,
            reorder: table.reorder(),
            table,
            next,
            last_dts: None,
        });
        self.tracks.push(track);
        Ok(())
    }
}

impl TrackReader {
    /// When the next sample is decoded, in ticks, before the reader's offset.
    fn next_dts(&self) -> Option<i64> {
        self.next.as_ref().map(|sample| self.to_ticks(sample.dts.saturating_sub(self.reorder)))
    }

    /// The next sample, with its times in ticks.
    fn take(&mut self) -> Option<(Sample, i64, i64)> {
        let sample = self.next.take()?;
        self.next = self.table.next();
        let dts = self.to_ticks(sample.dts.saturating_sub(self.reorder));
        let pts = self.to_ticks(sample.dts.saturating_add(sample.offset));
        Some((sample, pts, dts))
    }

    fn to_ticks(&self, time: i64) -> i64 {
        rescale(time.saturating_sub(self.media_start), self.timescale).saturating_add(self.delay)
    }
}

/// Reads the `moov` box.
fn read_index<R: Read + Seek>(input: &mut R, file_len: u64) -> Result<Bytes, Mp4Error> {
    input.rewind()?;
    let mut head = Vec::new();
    input.by_ref().take(u64::try_from(SNIFF_LEN).unwrap_or(0)).read_to_end(&mut head)?;
    if probe::sniff(&head) != Container::Mp4 {
        return Err(Mp4Error::NotMp4 { looks_like: probe::looks_like(&head) });
    }
    let mut at = 0u64;
    for _ in 0..MAX_TOP_BOXES {
        let left = file_len.saturating_sub(at);
        if left < 8 {
            break;
        }
        input.seek(SeekFrom::Start(at))?;
        let mut head = [0; 16];
        let known = head.get_mut(..if left < 16 { 8 } else { 16 });
        input.read_exact(known.unwrap_or_default())?;
        let (name, header_len, len) = boxes::read_header(head, left);
        if len < header_len || len > left {
            return Err(Mp4Error::Malformed("a box is longer than the file"));
        }
        match &name {
            b"moov" if len > MAX_INDEX => {
                return Err(Mp4Error::Malformed("its index is absurdly long"));
            }
            b"moov" => {
                input.seek(SeekFrom::Start(at + header_len))?;
                // No more than the file holds is allocated, as `len` is within it.
                let mut index = Vec::new();
                input.by_ref().take(len - header_len).read_to_end(&mut index)?;
                return Ok(index.into());
            }
            b"moof" | b"styp" => return Err(Mp4Error::Unsupported("fragmented mp4")),
            _ => at += len,
        }
    }
    Err(Mp4Error::Malformed("it has no index (no moov box)"))
}

fn read_sample<R: Read + Seek>(
    input: &mut R,
    file_len: u64,
    sample: &Sample,
) -> Result<Vec<u8>, Mp4Error> {
    let len = u64::from(sample.len);
    if sample.at.checked_add(len).is_none_or(|end| end > file_len) {
        return Err(Mp4Error::Malformed("a sample lies beyond the end of the file"));
    }
    let size = usize::try_from(sample.len).ok().filter(|len| *len <= MAX_ACCESS_UNIT);
    let size = size.ok_or(Mp4Error::Malformed("a sample is longer than 4 MiB"))?;
    input.seek(SeekFrom::Start(sample.at))?;
    let mut data = vec![0; size];
    input.read_exact(&mut data)?;
    Ok(data)
}

/// The time scale of an `mvhd` or `mdhd` box: never zero.
fn timescale(body: &Bytes) -> Option<u32> {
    let mut fields = Fields::new(body);
    let version = fields.version()?;
    fields.skip(if version == 1 { 16 } else { 8 })?;
    fields.u32().filter(|scale| *scale > 0)
}

/// The language of an `mdhd` box: three letters in fifteen bits.
fn language(body: &Bytes) -> String {
    let mut fields = Fields::new(body);
    let packed = fields.version().and_then(|version| {
        fields.skip(if version == 1 { 16 + 4 + 8 } else { 8 + 4 + 4 })?;
        fields.u16()
    });
    let letters = packed.map(|packed| {
        [10, 5, 0].map(|shift| u8::try_from((packed >> shift) & 0x1f).unwrap_or(0) + 0x60)
    });
    letters
        .filter(|letters| letters.iter().all(u8::is_ascii_lowercase) && letters != b"und")
        .and_then(|letters| String::from_utf8(letters.to_vec()).ok())
        .unwrap_or_default()
}

/// Where an edit list says a track begins: in its own time, and how much later than the movie, in
/// ticks.
fn track_start(list: &Bytes, movie_timescale: u32) -> (i64, i64) {
    let mut fields = Fields::new(list);
    let mut delay = 0i64;
    let (Some(version), Some(count)) = (fields.version(), fields.u32()) else { return (0, 0) };
    for _ in 0..count {
        let entry = if version == 1 {
            fields.u64().zip(fields.u64()).map(|(len, start)| (len, start.cast_signed()))
        } else {
            let entry = fields.u32().zip(fields.u32());
            entry.map(|(len, start)| (u64::from(len), i64::from(start.cast_signed())))
        };
        // The rate is of no interest.
        let (Some((len, start)), Some(())) = (entry, fields.skip(4)) else { break };
        if start >= 0 {
            return (start, delay);
        }
        let len = i64::try_from(len).unwrap_or(0);
        delay = delay.saturating_add(rescale(len, movie_timescale));
    }
    (0, delay)
}

/// From a time scale to ticks, to the nearest as ffmpeg rounds, kept far from overflow.
fn rescale(time: i64, timescale: u32) -> i64 {
    let (time, scale) = (i128::from(time), i128::from(timescale.max(1)));
    let ticks = (time * i128::from(MediaTime::HZ) * 2 + scale).div_euclid(scale * 2);
    let limit = 1i64 << 56;
    i64::try_from(ticks).unwrap_or(if ticks < 0 { -limit } else { limit }).clamp(-limit, limit)
}

/// A sample as an access unit's bytes.
#[derive(Debug)]
pub(crate) struct Converted {
    pub(crate) random_access: bool,
    pub(crate) priority: Priority,
    pub(crate) data: Bytes,
}

/// The description of a track of which nothing but its codec is known.
pub(crate) fn blank_track(codec: Codec) -> Track {
    Track {
        id: TrackId(0),
        codec,
        width: 0,
        height: 0,
        sample_rate: 0,
        channels: 0,
        language: String::new(),
        rendition: Rendition::Full,
        config: Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_the_nearest_tick() {
        assert_eq!(rescale(512, 12_288), 3750);
        assert_eq!(rescale(1024, 44_100), 2090);
        assert_eq!(rescale(-1024, 48_000), -1920);
        assert_eq!(rescale(i64::MAX, 1), 1 << 56);
    }

    #[test]
    fn an_edit_list_gives_the_start_of_its_track() {
        let entry =
            |len: u32, start: i32| [len.to_be_bytes(), start.to_be_bytes(), [0, 1, 0, 0]].concat();
        let list = |entries: &[Vec<u8>]| {
            let count = u32::try_from(entries.len()).unwrap_or(0);
            Bytes::from([vec![0; 4], count.to_be_bytes().to_vec(), entries.concat()].concat())
        };
        assert_eq!(track_start(&list(&[entry(500, 1024)]), 1000), (1024, 0));
        assert_eq!(track_start(&list(&[entry(500, -1), entry(9, 7)]), 1000), (7, 45_000));
        assert_eq!(track_start(&list(&[]), 1000), (0, 0));
        assert_eq!(
            track_start(&Bytes::from_static(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), 1),
            (0, 0)
        );
    }

    #[test]
    fn other_files_are_named() {
        let error = Mp4Reader::open(std::io::Cursor::new(b"OggS\0\x02".to_vec())).map(|_| ());
        assert_eq!(
            error.map_err(|error| error.to_string()),
            Err("the file is not an MP4 file: this is an Ogg file; convert with: \
                 ffmpeg -i IN -c copy -f mpegts OUT.ts"
                .to_owned())
        );
    }
}
