//! Reads Matroska and WebM (RFC 9559) as they come, from a file or live.
//!
//! Decides which elements are looked at: the header, tracks and blocks. Where clusters and segments
//! end is never asked, so it does not matter whether they say so. Of what is damaged the rest of the
//! cluster is lost: reading goes on at the next one.
//!
//! Blocks say when a picture is shown but not when it is decoded; [`reorder`] finds that out. Times
//! are mostly in milliseconds: sound is counted in samples instead, and pictures in steps where the
//! track says how long one is, as long as the two agree.

mod block;
mod ebml;
mod reorder;
mod tracks;

use banyan_wire::MediaTime;
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use self::ebml::{MAX_HEADER, NotEbml, child, unsigned};
use self::reorder::Reorder;
use crate::error::{DemuxError, Failure};
use crate::es::MAX_ACCESS_UNIT;
use crate::programme::{Programme, rescale};
use crate::renditions::Renditions;
use crate::timeline::Timeline;
use crate::ts::demux::{DemuxStats, Event};

/// Ids of elements, RFC 9559 section 5.1.
mod id {
    pub(super) const EBML: u32 = 0x1a45_dfa3;
    pub(super) const DOC_TYPE: u32 = 0x4282;
    pub(super) const SEGMENT: u32 = 0x1853_8067;
    pub(super) const INFO: u32 = 0x1549_a966;
    pub(super) const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
    pub(super) const TRACKS: u32 = 0x1654_ae6b;
    pub(super) const CLUSTER: u32 = 0x1f43_b675;
    pub(super) const TIMESTAMP: u32 = 0xe7;
    pub(super) const SIMPLE_BLOCK: u32 = 0xa3;
    pub(super) const BLOCK_GROUP: u32 = 0xa0;
    pub(super) const BLOCK: u32 = 0xa1;
    // Skipped, however long.
    pub(super) const CUES: u32 = 0x1c53_bb6b;
    pub(super) const ATTACHMENTS: u32 = 0x1941_a469;
    pub(super) const VOID: u32 = 0xec;
}

/// Longest head, description of the segment, and list of tracks.
const MAX_HEAD: u64 = 4 << 10;
const MAX_INFO: u64 = 64 << 10;
const MAX_TRACK_LIST: u64 = 1 << 20;

/// Longest block; a longer one is skipped.
const MAX_BLOCK: u64 = (MAX_ACCESS_UNIT + (64 << 10)) as u64;

/// Longest element of an unknown kind that is skipped; behind a longer one the next cluster is
/// looked for.
const MAX_UNKNOWN: u64 = 16 << 20;

/// Bytes of input within which the tracks must be listed.
const TRACKS_LIMIT: u64 = 64 << 20;

/// Bytes taken at once, so that no more than a block and a little are held.
const PART: usize = 64 << 10;

/// Reads a stream of Matroska or WebM.
///
/// Push bytes of any length, then drain the events.
#[derive(Debug)]
pub struct MatroskaDemuxer {
    buffer: BytesMut,
    /// Bytes still to be skipped.
    skip: u64,
    /// The next cluster is looked for.
    is_lost: bool,
    seen: u64,
    has_head: bool,
    /// Nanoseconds of a unit of time.
    scale: u64,
    /// Of the cluster, in the segment's units.
    time: i64,
    tracks: Vec<LiveTrack>,
    programme: Programme,
    failure: Failure,
}

/// One track that is carried.
#[derive(Debug)]
struct LiveTrack {
    number: u64,
    is_video: bool,
    step: u64,
    delay: u64,
    prefix: Bytes,
    reorder: Reorder,
    /// A picture whose time those after it are counted from.
    grid: Option<i64>,
    sound: Option<SoundClock>,
}

/// Time counted in samples.
#[derive(Clone, Copy, Debug)]
struct SoundClock {
    from: i64,
    samples: i64,
    rate: u32,
}

impl SoundClock {
    fn now(self) -> i64 {
        self.from.saturating_add(rescale(self.samples, self.rate))
    }
}

impl Default for MatroskaDemuxer {
    fn default() -> Self {
        Self::with_timeline(Timeline::default(), Renditions::default())
    }
}

impl MatroskaDemuxer {
    /// Creates a demuxer that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a demuxer whose time goes on from that of another.
    pub(crate) fn with_timeline(timeline: Timeline, renditions: Renditions) -> Self {
        Self {
            buffer: BytesMut::new(),
            skip: 0,
            is_lost: false,
            seen: 0,
            has_head: false,
            scale: DEFAULT_SCALE,
            time: 0,
            tracks: Vec::new(),
            programme: Programme::new(timeline, renditions),
            failure: Failure::default(),
        }
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
            self.seen = self.seen.saturating_add(u64::try_from(part.len()).unwrap_or(0));
            self.buffer.extend_from_slice(part);
            let mut result = Ok(true);
            while let Ok(true) = result {
                result = self.step();
            }
            if result.is_ok() && self.tracks.is_empty() && self.seen > TRACKS_LIMIT {
                result = Err(NO_TRACKS);
            }
            self.failure.note(result.map(|_| ()))?;
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
        let result = if self.programme.has_begun() {
            Ok(())
        } else if self.tracks.is_empty() {
            Err(NO_TRACKS)
        } else {
            Err(DemuxError::Malformed("the matroska stream has no frames that can be decoded"))
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

    /// Goes on by one element; `false` if more bytes are needed.
    fn step(&mut self) -> Result<bool, DemuxError> {
        if self.skip > 0 {
            let len = usize::try_from(self.skip).unwrap_or(usize::MAX).min(self.buffer.len());
            self.buffer.advance(len);
            self.skip -= u64::try_from(len).unwrap_or(0);
            return Ok(self.skip == 0);
        }
        if self.is_lost {
            return Ok(self.find_cluster());
        }
        let header = match ebml::read_header(&self.buffer) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(false),
            Err(NotEbml) => {
                self.lose();
                return Ok(true);
            }
        };
        if !self.has_head && header.id != id::EBML {
            return Err(DemuxError::Malformed("the matroska stream has no head"));
        }
        let limit = match header.id {
            id::SEGMENT | id::CLUSTER => {
                self.buffer.advance(header.len);
                self.time = 0;
                return Ok(true);
            }
            id::EBML => MAX_HEAD,
            id::INFO => MAX_INFO,
            id::TRACKS => MAX_TRACK_LIST,
            id::TIMESTAMP => 8,
            id::SIMPLE_BLOCK | id::BLOCK_GROUP => MAX_BLOCK,
            id => {
                self.buffer.advance(header.len);
                let is_known = matches!(id, id::CUES | id::ATTACHMENTS | id::VOID);
                match header.size.filter(|size| is_known || *size <= MAX_UNKNOWN) {
                    Some(size) => self.skip = size,
                    None => self.lose(),
                }
                return Ok(true);
            }
        };
        let Some(size) = header.size else {
            self.lose();
            return Ok(true);
        };
        if size > limit {
            if matches!(header.id, id::SIMPLE_BLOCK | id::BLOCK_GROUP) && size <= MAX_UNKNOWN {
                self.programme.note_dropped();
                self.skip = size;
                self.buffer.advance(header.len);
            } else if header.id == id::TRACKS || header.id == id::EBML {
                return Err(DemuxError::Malformed("the head of the matroska stream is too long"));
            } else {
                self.lose();
            }
            return Ok(true);
        }
        // At most a block and its header are waited for.
        let len = usize::try_from(size).unwrap_or(0);
        if self.buffer.len() < header.len + len {
            return Ok(false);
        }
        self.buffer.advance(header.len);
        let body = self.buffer.split_to(len).freeze();
        self.on_element(header.id, &body)?;
        Ok(true)
    }

    fn on_element(&mut self, id: u32, body: &Bytes) -> Result<(), DemuxError> {
        match id {
            id::EBML => {
                let kind = child(body, id::DOC_TYPE).map(ebml::text);
                if !matches!(kind.as_deref(), Some("matroska" | "webm")) {
                    return Err(DemuxError::Malformed("the input is ebml, but not matroska"));
                }
                self.has_head = true;
                self.scale = DEFAULT_SCALE;
            }
            id::INFO => {
                let scale = child(body, id::TIMESTAMP_SCALE).and_then(unsigned);
                // A second is more than anybody uses.
                self.scale = scale.unwrap_or(DEFAULT_SCALE).clamp(1, 1_000_000_000);
            }
            id::TRACKS => self.on_tracks(body)?,
            id::TIMESTAMP => {
                let time = unsigned(body).and_then(|time| i64::try_from(time).ok());
                self.time = time.unwrap_or(0);
            }
            id::BLOCK_GROUP => {
                if let Some(block) = child(body, id::BLOCK) {
                    self.on_block(&body.slice_ref(block));
                }
            }
            _ => self.on_block(body),
        }
        Ok(())
    }

    fn on_tracks(&mut self, body: &[u8]) -> Result<(), DemuxError> {
        // Another list begins another programme.
        self.programme.clear();
        self.tracks.clear();
        for entry in tracks::read(body) {
            let number = entry.number;
            let described = match entry.described {
                Ok(described) => described,
                Err(reason) => {
                    self.programme.skip(number, entry.is_video, reason);
                    continue;
                }
            };
            if self.programme.add(described, number, entry.language).is_some() {
                self.tracks.push(LiveTrack {
                    number,
                    is_video: entry.is_video,
                    step: entry.step,
                    delay: entry.delay,
                    prefix: entry.prefix,
                    reorder: Reorder::default(),
                    grid: None,
                    sound: None,
                });
            }
        }
        self.programme.check()
    }

    fn on_block(&mut self, block: &Bytes) {
        let Some((head, frames)) = block::read(block) else {
            self.programme.note_dropped();
            return;
        };
        let index = self.tracks.iter().position(|track| track.number == head.track);
        let Some(index) = index else { return };
        let time = self.time.saturating_add(i64::from(head.time));
        let mut pts = None;
        for frame in frames {
            let Some(track) = self.tracks.get_mut(index) else { return };
            if frame.is_empty() || frame.len() > MAX_ACCESS_UNIT {
                self.programme.note_dropped();
                continue;
            }
            let frame = if track.prefix.is_empty() {
                frame
            } else {
                [&track.prefix[..], &frame].concat().into()
            };
            // Of laced frames only the first has a time; the others follow it.
            let step = ticks(1, track.step);
            let begin = match pts {
                None => ticks(time, self.scale).saturating_sub(ticks(1, track.delay)),
                Some(last) => i64::saturating_add(last, step),
            };
            let Some(format) = self.programme.format(index) else { return };
            let (shown, decoded) = if track.is_video {
                let depth = format.reorder_depth().unwrap_or(reorder::USUAL_DEPTH);
                let shown = track.place_picture(begin, ticks(1, self.scale));
                (shown, track.reorder.place(shown, step, depth))
            } else {
                let unit = ticks(1, self.scale);
                let at = track.place_sound(begin, pts.is_some(), unit, format.duration(&frame));
                (at, at)
            };
            pts = Some(shown);
            self.programme.push(index, shown.max(decoded), decoded, frame);
        }
    }

    /// The rest of the cluster makes no sense.
    fn lose(&mut self) {
        self.programme.note_dropped();
        self.is_lost = true;
        // What could not be read is not looked at again.
        self.buffer.advance(1.min(self.buffer.len()));
    }

    /// Looks for a cluster, or a new head; `false` if there is none in what is buffered.
    fn find_cluster(&mut self) -> bool {
        let find = |id: u32| memmem::find(&self.buffer, &id.to_be_bytes());
        let found = [find(id::CLUSTER), find(id::EBML)].into_iter().flatten().min();
        match found {
            Some(at) => {
                self.buffer.advance(at);
                self.is_lost = false;
                true
            }
            None => {
                // An id may be cut in two.
                let keep = self.buffer.len().min(MAX_HEADER);
                self.buffer.advance(self.buffer.len() - keep);
                false
            }
        }
    }
}

impl LiveTrack {
    /// When a picture is shown: as counted in steps, while that is what its time says.
    fn place_picture(&mut self, begin: i64, unit: i64) -> i64 {
        let step = ticks(1, self.step);
        // Where steps are as short as the rounding, nothing can be told.
        if step < unit.saturating_mul(4).max(1) || step > MediaTime::HZ {
            return begin;
        }
        let grid = *self.grid.get_or_insert(begin);
        let nanos = i128::from(begin.saturating_sub(grid)) * 100_000 / 9;
        let count = (nanos + i128::from(self.step) / 2).div_euclid(i128::from(self.step));
        let counted = i64::try_from(count).map_or(i64::MAX, |count| ticks(count, self.step));
        let counted = grid.saturating_add(counted);
        if counted.saturating_sub(begin).saturating_abs() <= unit.saturating_add(1) {
            return counted;
        }
        self.grid = Some(begin);
        begin
    }

    /// When a frame of sound is heard: as counted, while that is what its time says.
    fn place_sound(
        &mut self,
        begin: i64,
        follows: bool,
        unit: i64,
        duration: Option<(u32, u32)>,
    ) -> i64 {
        let Some((samples, rate)) = duration.filter(|(_, rate)| *rate > 0) else {
            self.sound = None;
            return begin;
        };
        let counted = self.sound.filter(|clock| clock.rate == rate).map(SoundClock::now);
        // Times are rounded, by some to the unit below.
        let is_near = |now: i64| {
            follows || now.saturating_sub(begin).saturating_abs() <= unit.saturating_add(1)
        };
        let mut clock = match (self.sound, counted) {
            (Some(clock), Some(now)) if is_near(now) => clock,
            _ => SoundClock { from: begin, samples: 0, rate },
        };
        let now = clock.now();
        clock.samples = clock.samples.saturating_add(i64::from(samples));
        self.sound = Some(clock);
        now
    }
}

/// The unit of time where nothing is said, in nanoseconds.
const DEFAULT_SCALE: u64 = 1_000_000;

const NO_TRACKS: DemuxError = DemuxError::Malformed("the matroska stream lists no tracks");

/// So many units of so many nanoseconds, in ticks to the nearest.
fn ticks(count: i64, nanos: u64) -> i64 {
    let nanos = i128::from(count) * i128::from(nanos);
    let limit = 1i64 << 56;
    let ticks = nanos.saturating_mul(9).saturating_add(50_000).div_euclid(100_000);
    i64::try_from(ticks).unwrap_or(if ticks < 0 { -limit } else { limit }).clamp(-limit, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_become_the_nearest_ticks() {
        assert_eq!(ticks(33, 1_000_000), 2970);
        assert_eq!(ticks(1, 41_708_333), 3754);
        assert_eq!(ticks(-1, 6_500_000), -585);
        assert_eq!(ticks(i64::MAX, u64::MAX), 1 << 56);
    }

    const HEAD: &[u8] =
        b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm\x18\x53\x80\x67\xff\x1f\x43\xb6\x75\xff";

    #[test]
    fn no_element_is_hoarded_whatever_it_claims() {
        // Blocks, a group, something unknown, tables: each with a size of its own.
        for (element, is_refused) in [
            (&b"\xa3\x10\x3f\xff\xff"[..], false),
            (b"\xa3\x10\xff\xff\xf0", false),
            (b"\xa0\x08\x7f\xff\xff\xf0", false),
            (b"\xbf\x01\xff\xff\xff\xff\xff\xff\xfe", false),
            (b"\xa3\xff", false),
            (b"\x15\x49\xa9\x66\x10\xff\xff\xf0", false),
            (b"\x16\x54\xae\x6b\x10\xff\xff\xf0", true),
        ] {
            let mut demuxer = MatroskaDemuxer::new();
            let mut result = demuxer.push(&[HEAD, element].concat());
            for _ in 0..200 {
                result = result.and_then(|()| demuxer.push(&[0xab; 100_000]));
                assert!(demuxer.buffer.len() <= 17 << 20);
                if !is_refused {
                    assert!(demuxer.buffer.len() <= MAX_ACCESS_UNIT + (256 << 10));
                }
            }
            assert_eq!(result.is_err(), is_refused, "{element:?}");
        }
    }

    #[test]
    fn a_stream_without_tracks_is_given_up() {
        let mut demuxer = MatroskaDemuxer::new();
        assert_eq!(demuxer.push(HEAD), Ok(()));
        let found = (0..2000).find_map(|_| demuxer.push(&[0; 64 << 10]).err());
        assert_eq!(found, Some(NO_TRACKS));
        assert_eq!(demuxer.push(HEAD), Err(NO_TRACKS));
    }

    fn track() -> LiveTrack {
        LiveTrack {
            number: 1,
            is_video: false,
            step: 0,
            delay: 0,
            prefix: Bytes::new(),
            reorder: Reorder::default(),
            grid: None,
            sound: None,
        }
    }

    #[test]
    fn sound_is_counted_while_the_times_agree_and_follows_them_when_they_do_not() {
        let mut track = track();
        let mut place =
            |millis: i64| track.place_sound(millis * 90, false, 90, Some((1024, 48_000)));
        assert_eq!([0, 21, 43, 64].map(&mut place), [0, 1920, 3840, 5760]);
        assert_eq!([1000, 1021].map(&mut place), [90_000, 91_920]);
    }

    #[test]
    fn pictures_are_counted_while_the_times_agree_and_follow_them_when_they_do_not() {
        let mut track = LiveTrack { step: 41_666_667, ..track() };
        let mut place = |millis: i64| track.place_picture(millis * 90, 90);
        // 24 a second; shown in another order; then one is late, and those after it.
        assert_eq!([0, 42, 125, 83, 167].map(&mut place), [0, 3750, 11_250, 7500, 15_000]);
        assert_eq!([220, 262].map(&mut place), [19_800, 23_550]);
        assert_eq!(track.place_picture(i64::MAX, 90), i64::MAX);
        track.step = 0;
        assert_eq!(track.place_picture(90, 90), 90);
    }
}
