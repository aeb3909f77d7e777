//! Reads MP4 as it comes: fragmented MP4 and CMAF, and files whose index stands in front.
//!
//! Decides what is held of a stream that cannot be sought in: the index, the table of one fragment,
//! one sample, and the samples of a track that is ahead of the others. A sample is taken when the
//! stream comes to it; one the stream has passed already is lost. A whole file's samples are found by
//! its index, which has to come before them.
//!
//! ```text
//!  bytes ─▶ moov ─▶ tracks ────────────┐
//!        ─▶ moof ─▶ where samples are ─┤
//!        ─▶ mdat ──────────────────────┴─▶ samples ─▶ in the order of time ─▶ programme ─▶ events
//! ```

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::boxes::{self, Boxes, child};
use super::fragment::{self, Defaults};
use super::tables::{Sample, SampleTable};
use super::{TrackHeader, entry, timescale};
use crate::error::{DemuxError, Failure, Mp4Error};
use crate::es::MAX_ACCESS_UNIT;
use crate::interleave::Interleaver;
use crate::programme::{Programme, rescale};
use crate::renditions::Renditions;
use crate::timeline::Timeline;
use crate::ts::demux::{DemuxStats, Event};

/// Longest index that is read from a stream: a file of two hours has one of about 6 MiB.
const MAX_INDEX: u64 = 16 << 20;

/// Longest table of one fragment.
const MAX_FRAGMENT_TABLE: u64 = 4 << 20;

/// Bytes taken at once, so that no more than a sample and a little are held.
const PART: usize = 64 << 10;

/// Reads a stream of MP4.
///
/// Push bytes of any length, then drain the events.
#[derive(Debug, Default)]
pub struct Mp4Demuxer {
    buffer: BytesMut,
    /// Where in the stream the buffer starts.
    at: u64,
    state: State,
    tracks: Vec<LiveTrack>,
    defaults: Vec<Defaults>,
    /// Samples of the last fragment, in the order of their places.
    pending: VecDeque<Pending>,
    /// The last fragment brought samples of every track.
    is_whole: bool,
    has_media: bool,
    line: Option<Interleaver<(i64, i64, Bytes)>>,
    programme: Programme,
    failure: Failure,
}

/// Where in the stream of boxes we are.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before the header of a box.
    #[default]
    Header,
    /// In a box that is kept whole; it ends there.
    Keep { name: [u8; 4], header_len: u64, end: u64 },
    /// In a box of samples; it ends there, or where the stream does.
    Media { end: Option<u64> },
    /// In a box of no interest.
    Skip { end: u64 },
}

/// One track.
#[derive(Debug)]
struct LiveTrack {
    /// Its name in fragments.
    number: u32,
    timescale: u32,
    media_start: i64,
    delay: i64,
    /// Taken from every decode time, in the track's units: the most negative offset so far.
    reorder: i64,
    /// Where the last fragment ended, in the track's units.
    end: i64,
    /// Samples the index lists.
    table: Option<SampleTable>,
    next: Option<Sample>,
}

/// A sample that is to come.
#[derive(Debug)]
struct Pending {
    track: usize,
    sample: Sample,
}

impl Mp4Demuxer {
    /// Creates a demuxer that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a demuxer whose time goes on from that of another.
    pub(crate) fn with_timeline(timeline: Timeline, renditions: Renditions) -> Self {
        Self { programme: Programme::new(timeline, renditions), ..Self::default() }
    }

    pub(crate) fn take_timeline(&mut self) -> Timeline {
        self.programme.take_timeline()
    }

    /// Takes the next bytes of the stream; they may start and end anywhere.
    ///
    /// # Errors
    ///
    /// If the input turns out not to be a stream that can be carried. There is no going on from it:
    /// every later call gives the same error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DemuxError> {
        for part in bytes.chunks(PART) {
            self.failure.check()?;
            self.buffer.extend_from_slice(part);
            let result = self.advance();
            self.failure.note(result)?;
        }
        self.failure.check()
    }

    /// Says that the stream ends here.
    ///
    /// # Errors
    ///
    /// If the whole input was not a stream that can be carried.
    pub fn finish(&mut self) -> Result<(), DemuxError> {
        self.failure.check()?;
        self.release(true);
        let result = if self.programme.has_begun() {
            Ok(())
        } else if self.tracks.is_empty() && self.has_media {
            Err(DemuxError::IndexAtEnd)
        } else if self.tracks.is_empty() {
            Err(DemuxError::Malformed("the mp4 stream has no index (no moov box)"))
        } else {
            Err(DemuxError::Malformed("the mp4 stream has no samples that can be decoded"))
        };
        self.failure.note(result)
    }

    /// The next event; drain after every [`push`](Self::push) and [`finish`](Self::finish).
    #[must_use]
    pub fn poll(&mut self) -> Option<Event> {
        self.programme.poll()
    }

    /// How much of the input was damaged.
    #[must_use]
    pub fn stats(&self) -> DemuxStats {
        self.programme.stats()
    }

    /// Goes as far as the bytes at hand allow.
    fn advance(&mut self) -> Result<(), DemuxError> {
        loop {
            let goes_on = match self.state {
                State::Header => self.on_header()?,
                State::Keep { name, header_len, end } => {
                    let Some(mut body) = self.take_until(end) else { return Ok(()) };
                    body.advance(usize::try_from(header_len).unwrap_or(0).min(body.len()));
                    self.state = State::Header;
                    let start = end - header_len - u64::try_from(body.len()).unwrap_or(0);
                    self.on_box(name, &body, start)?;
                    true
                }
                State::Media { end } => self.on_media(end),
                State::Skip { end } => self.skip_to(end),
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Reads the header of the next box; `false` if there is not enough of it.
    fn on_header(&mut self) -> Result<bool, DemuxError> {
        let mut head = [0; 16];
        for (to, from) in head.iter_mut().zip(&self.buffer) {
            *to = *from;
        }
        let is_long = head.starts_with(&[0, 0, 0, 1]);
        if self.buffer.len() < if is_long { 16 } else { 8 } {
            return Ok(false);
        }
        let is_open = head.starts_with(&[0; 4]);
        let (name, header_len, len) = boxes::read_header(head, 0);
        if !is_open && len < header_len {
            return Err(DemuxError::Malformed(
                "a box of the mp4 stream is shorter than its header",
            ));
        }
        let end = self.at.checked_add(len).filter(|_| !is_open);
        let limit = match &name {
            b"moov" => Some(MAX_INDEX),
            b"moof" => Some(MAX_FRAGMENT_TABLE),
            _ => None,
        };
        self.state = match (limit, end) {
            (Some(limit), Some(end)) if len <= limit => State::Keep { name, header_len, end },
            (Some(_), _) => {
                return Err(DemuxError::Malformed("a table of the mp4 stream is absurdly long"));
            }
            (None, end) if name == *b"mdat" => {
                if self.tracks.is_empty() {
                    // What is here is listed by an index that is still to come, or never will.
                    self.has_media = true;
                    if len > u64::from(u32::MAX >> 8) {
                        return Err(DemuxError::IndexAtEnd);
                    }
                }
                self.drop_front(usize::try_from(header_len).unwrap_or(0));
                State::Media { end }
            }
            (None, Some(end)) => State::Skip { end },
            (None, None) => {
                return Err(DemuxError::Malformed("a box of the mp4 stream has no length"));
            }
        };
        Ok(true)
    }

    fn on_box(&mut self, name: [u8; 4], body: &Bytes, start: u64) -> Result<(), DemuxError> {
        match &name {
            b"moov" => self.on_index(body),
            _ => {
                self.on_fragment(body, start);
                Ok(())
            }
        }
    }

    fn on_index(&mut self, index: &Bytes) -> Result<(), DemuxError> {
        // Another index begins another programme; what waits belongs to the one before.
        self.release(true);
        self.programme.clear();
        self.tracks.clear();
        self.pending.clear();
        let extends = child(index, b"mvex");
        if self.has_media && extends.is_none() {
            return Err(DemuxError::IndexAtEnd);
        }
        self.defaults = extends.map(|body| fragment::read_defaults(&body)).unwrap_or_default();
        let movie_timescale =
            child(index, b"mvhd").and_then(|body| timescale(&body)).unwrap_or(1000);
        let tracks = Boxes::new(index.clone()).filter(|found| found.name == *b"trak");
        for body in tracks.map(|found| found.body) {
            let malformed = |error| match error {
                Mp4Error::Malformed(what) | Mp4Error::Unsupported(what) => {
                    DemuxError::Malformed(what)
                }
                Mp4Error::Io(_)
                | Mp4Error::NotMp4 { .. }
                | Mp4Error::Fragmented
                | Mp4Error::UnsupportedVideo { .. }
                | Mp4Error::NothingCarried => {
                    DemuxError::Malformed("a track of the mp4 stream makes no sense")
                }
            };
            let header = TrackHeader::read(&body, movie_timescale).map_err(malformed)?;
            let Some(header) = header else { continue };
            let number = u64::from(header.number);
            let described = match entry::read(&header.table, header.is_video) {
                Ok(described) => described,
                Err(reason) => {
                    self.programme.skip(number, header.is_video, reason);
                    continue;
                }
            };
            let mut table = SampleTable::read(&header.table).map_err(malformed)?;
            if self.programme.add(described, number, header.language).is_none() {
                continue;
            }
            let next = table.next();
            self.tracks.push(LiveTrack {
                number: header.number,
                timescale: header.timescale,
                media_start: header.media_start,
                delay: header.delay,
                reorder: table.reorder(),
                end: 0,
                table: Some(table),
                next,
            });
        }
        self.line = Some(Interleaver::new(self.programme.len()));
        self.is_whole = false;
        self.programme.check()
    }

    fn on_fragment(&mut self, body: &Bytes, start: u64) {
        // Samples of the fragment before that did not come never will.
        for _ in 0..self.pending.len() {
            self.programme.note_dropped();
        }
        self.pending.clear();
        let mut found = vec![false; self.tracks.len()];
        for run in fragment::read(body, start, &self.defaults) {
            let at = self.tracks.iter().position(|track| track.number == run.number);
            let Some((at, track)) = at.and_then(|at| Some((at, self.tracks.get_mut(at)?))) else {
                continue;
            };
            let begin = run.start.unwrap_or(track.end);
            for mut sample in run.samples {
                sample.dts = sample.dts.saturating_add(begin);
                track.end = sample.dts.saturating_add(sample.duration);
                track.reorder = track.reorder.max(sample.offset.saturating_neg());
                self.pending.push_back(Pending { track: at, sample });
                if let Some(found) = found.get_mut(at) {
                    *found = true;
                }
            }
        }
        self.is_whole = found.iter().all(|is_there| *is_there);
        self.pending.make_contiguous().sort_by_key(|pending| pending.sample.at);
    }

    /// Takes the samples of a media box as they come; `false` if more bytes are needed.
    fn on_media(&mut self, end: Option<u64>) -> bool {
        let is_over = |at: u64| end.is_some_and(|end| at >= end);
        while let Some((track, at, len)) = self.next_place() {
            if is_over(at) {
                break;
            }
            let size = usize::try_from(len).unwrap_or(usize::MAX);
            if at < self.at || size > MAX_ACCESS_UNIT {
                // The stream is past it, or it is longer than anything that is carried.
                self.drop_sample(track);
                continue;
            }
            if !self.skip_to(at) {
                return false;
            }
            if self.buffer.len() < size {
                return false;
            }
            let Some(sample) = self.take_sample(track) else { continue };
            let data = self.buffer.split_to(size).freeze();
            self.at = self.at.saturating_add(u64::from(len));
            self.on_sample(track, &sample, data);
        }
        if self.pending.is_empty() {
            self.release(self.is_whole);
        }
        match end {
            Some(end) => self.skip_to(end),
            None => {
                self.drop_front(self.buffer.len());
                false
            }
        }
    }

    /// The track, place and length of the sample that comes first in the stream.
    fn next_place(&self) -> Option<(usize, u64, u32)> {
        let listed = self.tracks.iter().enumerate().filter_map(|(at, track)| {
            track.next.as_ref().map(|sample| (sample.at, at, sample.len))
        });
        let pending =
            self.pending.front().map(|next| (next.sample.at, next.track, next.sample.len));
        listed.chain(pending).min().map(|(at, track, len)| (track, at, len))
    }

    /// Takes that sample off its list.
    fn take_sample(&mut self, track: usize) -> Option<Sample> {
        let listed = self.tracks.get(track).and_then(|track| track.next.as_ref());
        let pending = self.pending.front().filter(|next| next.track == track);
        let is_listed = match (listed, pending) {
            (Some(listed), Some(pending)) => listed.at <= pending.sample.at,
            (listed, _) => listed.is_some(),
        };
        if is_listed {
            let track = self.tracks.get_mut(track)?;
            let sample = track.next.take();
            track.next = track.table.as_mut().and_then(SampleTable::next);
            sample
        } else {
            self.pending.pop_front().map(|next| next.sample)
        }
    }

    /// Gives up a sample. An index that lists one that cannot be had is of no more use: without this,
    /// a table could claim four billion of them here.
    fn drop_sample(&mut self, track: usize) {
        self.programme.note_dropped();
        match self.tracks.get_mut(track) {
            Some(track) if track.next.is_some() => {
                track.table = None;
                track.next = None;
            }
            _ => drop(self.take_sample(track)),
        }
    }

    fn on_sample(&mut self, index: usize, sample: &Sample, data: Bytes) {
        let (Some(track), Some(line)) = (self.tracks.get(index), &mut self.line) else { return };
        let ticks = |time: i64| {
            let time = time.saturating_sub(track.media_start);
            rescale(time, track.timescale).saturating_add(track.delay)
        };
        let dts = ticks(sample.dts.saturating_sub(track.reorder));
        let pts = ticks(sample.dts.saturating_add(sample.offset)).max(dts);
        line.push(index, dts, data.len(), (pts, dts, data));
        self.release(false);
    }

    /// Passes on what need not wait.
    fn release(&mut self, is_all: bool) {
        let Some(line) = &mut self.line else { return };
        while let Some((index, (pts, dts, data))) = line.pop(is_all) {
            self.programme.push(index, pts, dts, data);
        }
    }

    /// The bytes up to a place, once they are there.
    fn take_until(&mut self, end: u64) -> Option<Bytes> {
        let len = usize::try_from(end.saturating_sub(self.at)).ok()?;
        if self.buffer.len() < len {
            return None;
        }
        self.at = end;
        Some(self.buffer.split_to(len).freeze())
    }

    /// Drops bytes up to a place; `false` if it has not been reached. Ends the box it ends.
    fn skip_to(&mut self, to: u64) -> bool {
        let len = usize::try_from(to.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let is_reached = self.buffer.len() >= len;
        self.drop_front(len.min(self.buffer.len()));
        let end = match self.state {
            State::Skip { end } | State::Media { end: Some(end) } => Some(end),
            State::Header | State::Keep { .. } | State::Media { end: None } => None,
        };
        if is_reached && end == Some(to) {
            self.state = State::Header;
        }
        is_reached
    }

    fn drop_front(&mut self, len: usize) {
        let len = len.min(self.buffer.len());
        self.buffer.advance(len);
        self.at = self.at.saturating_add(u64::try_from(len).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(8 + body.len()).unwrap_or(0);
        [&len.to_be_bytes(), name.as_slice(), body].concat()
    }

    #[test]
    fn boxes_of_no_interest_and_of_unknown_samples_are_not_hoarded() {
        for head in [&b"\x10\0\0\0free"[..], b"\0\0\0\x01skip\0\0\x01\0\0\0\0\0", b"\0\0\0\0mdat"] {
            let mut demuxer = Mp4Demuxer::new();
            assert_eq!(demuxer.push(head), Ok(()));
            for _ in 0..100 {
                assert_eq!(demuxer.push(&[7; 100_000]), Ok(()));
                assert!(demuxer.buffer.len() <= PART);
            }
        }
    }

    #[test]
    fn tables_that_are_absurdly_long_are_refused_before_they_come() {
        for head in [&b"\x10\0\0\0moov"[..], b"\x10\0\0\0moof", b"\0\0\0\0moov", b"\0\0\0\x05free"]
        {
            let mut demuxer = Mp4Demuxer::new();
            assert!(matches!(demuxer.push(head), Err(DemuxError::Malformed(_))), "{head:?}");
            assert!(demuxer.push(&[0; 100]).is_err(), "the error stays");
        }
    }

    #[test]
    fn a_stream_without_an_index_or_with_one_that_comes_too_late_says_so() {
        let finish = |stream: &[u8]| {
            let mut demuxer = Mp4Demuxer::new();
            demuxer.push(stream).and_then(|()| demuxer.finish())
        };
        let kind = boxed(b"ftyp", b"isom\0\0\0\0");
        assert!(matches!(finish(&kind), Err(DemuxError::Malformed(_))));
        let media = boxed(b"mdat", &[1; 100]);
        assert_eq!(finish(&[kind.clone(), media.clone()].concat()), Err(DemuxError::IndexAtEnd));
        let index = boxed(b"moov", &[]);
        assert_eq!(finish(&[media, index.clone()].concat()), Err(DemuxError::IndexAtEnd));
        assert_eq!(finish(&[kind, index].concat()), Err(DemuxError::NothingCarried));
        // A film whose index is behind gigabytes is not waited for.
        assert_eq!(finish(b"\x40\0\0\0mdat"), Err(DemuxError::IndexAtEnd));
    }
}
