//! FLV, as a file has it and as RTMP carries it → tracks and access units.
//!
//! Decides where a tag ends, when enough is known of picture and sound to announce them, and how
//! times in milliseconds become media time. The headers of a tag are read in [`tag`], samples are
//! converted as those of other files ([`crate::sample`]), jumps of the clock are left to
//! [`crate::timeline`].
//!
//! ```text
//!  bytes ─▶ tags ─▶ configuration ─▶ track
//!             └───▶ samples ──▶ units ──▶ timeline ──▶ held until announced ─▶ events
//! ```

mod tag;

use std::collections::VecDeque;

use banyan_wire::{Codec, MediaTime, Track, TrackId};
use bytes::{Buf, Bytes, BytesMut};

use self::tag::{Body, Content, Tag};
use crate::access_unit::AccessUnit;
use crate::audio::FrameHeader;
use crate::error::{DemuxError, Failure};
use crate::es::MAX_ACCESS_UNIT;
use crate::held::Held;
use crate::sample::{self, Described};
use crate::timeline::{Timeline, TrackClock};
use crate::ts::demux::{DemuxStats, Event};

/// Longest body of a tag: an access unit and its headers. A longer one is skipped.
const MAX_TAG: usize = MAX_ACCESS_UNIT + 1024;

/// Longest file header; nine bytes are usual.
const MAX_FILE_HEADER: u32 = 1024;

/// Bytes of tags within which a picture must show its configuration: the first key picture and the
/// sound before it.
const PROBE_LIMIT: usize = 8 << 20;

/// How far a time in whole milliseconds may be from the one counted in samples, in ticks.
const ROUNDING: i64 = 2 * TICKS_PER_MILLI;

const TICKS_PER_MILLI: i64 = MediaTime::HZ / 1000;
const FILE_HEADER_LEN: usize = 9;
const TAG_HEADER_LEN: usize = 11;
/// After every tag, and after the file header, comes the length of what was before.
const BACK_POINTER_LEN: usize = 4;

/// Reads an FLV stream: of a file, a pipe, or the media messages of an RTMP connection.
///
/// Push bytes of any length, then drain the events. Pictures come as Annex B byte streams and AAC as
/// ADTS frames, as from the other readers.
#[derive(Debug, Default)]
pub struct FlvDemuxer {
    buffer: BytesMut,
    framing: Framing,
    video: Stream,
    audio: Stream,
    /// Sound is on its way, as far as the stream says.
    expects_audio: bool,
    timeline: Timeline,
    millis: Option<i64>,
    /// Bytes of tags before the announcement.
    probed: usize,
    held: Held,
    announced: Vec<Track>,
    is_announced: bool,
    events: VecDeque<Event>,
    unsupported_video: Option<&'static str>,
    has_skipped_audio: bool,
    stats: DemuxStats,
    failure: Failure,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Default)]
enum Framing {
    /// A file header.
    #[default]
    Start,
    /// Nothing of interest, for so many bytes.
    Skip(usize),
    /// A tag.
    Tag,
}

/// Picture or sound.
#[derive(Debug, Default)]
struct Stream {
    entry: Option<Described>,
    clock: TrackClock,
    samples: SampleClock,
    /// A tag of it has been seen.
    is_seen: bool,
}

/// Time of sound, counted in samples: milliseconds are too coarse for frames of 21⅓ of them.
#[derive(Debug, Default)]
struct SampleClock {
    from: i64,
    samples: i64,
    rate: i64,
}

impl SampleClock {
    /// The time of a frame that is stamped `ticks` and has so many samples.
    fn place(&mut self, ticks: i64, samples: u32, rate: u32) -> i64 {
        let rate = i64::from(rate.max(1));
        let expected = self.from + self.samples * MediaTime::HZ / rate;
        if self.rate != rate || (ticks - expected).abs() > ROUNDING {
            *self = Self { from: ticks, samples: i64::from(samples), rate };
            return ticks;
        }
        self.samples += i64::from(samples);
        expected
    }
}

impl FlvDemuxer {
    /// Creates a demuxer that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A demuxer whose time goes on from that of others.
    pub(crate) fn with_timeline(timeline: Timeline) -> Self {
        Self { timeline, ..Self::default() }
    }

    /// Gives the timeline up, for the stream that comes next.
    pub(crate) fn take_timeline(&mut self) -> Timeline {
        self.timeline.end();
        std::mem::take(&mut self.timeline)
    }

    /// Takes the next bytes of the stream; they may start and end anywhere.
    ///
    /// # Errors
    ///
    /// If the input turns out not to be a stream that can be carried. There is no going on from it:
    /// every later call gives the same error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DemuxError> {
        // In parts, so that no more than one tag and one part are held.
        for part in bytes.chunks(64 << 10) {
            self.failure.check()?;
            self.buffer.extend_from_slice(part);
            let result = self.take_tags();
            self.failure.note(result)?;
        }
        self.failure.check()
    }

    /// Says that the stream ends here. What is pushed next begins with a file header again.
    ///
    /// # Errors
    ///
    /// If the whole input was not a stream that can be carried.
    pub fn finish(&mut self) -> Result<(), DemuxError> {
        self.failure.check()?;
        self.buffer.clear();
        self.framing = Framing::Start;
        self.announce(true);
        let result = if self.is_announced { Ok(()) } else { Err(self.verdict()) };
        self.failure.note(result)
    }

    /// The next event; drain after every [`push`](Self::push) and [`finish`](Self::finish).
    #[must_use]
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How much of the input was damaged. There are no gaps: FLV comes over what loses nothing.
    #[must_use]
    pub fn stats(&self) -> DemuxStats {
        self.stats
    }

    /// Why nothing can be announced.
    fn verdict(&self) -> DemuxError {
        match self.unsupported_video {
            Some(codec) => DemuxError::UnsupportedVideo { codec },
            None if self.video.is_seen => {
                let codec = self.video.entry.as_ref().map_or("video", |it| it.track.codec.name());
                DemuxError::NoParameterSets { codec }
            }
            None => DemuxError::NothingCarried,
        }
    }

    fn take_tags(&mut self) -> Result<(), DemuxError> {
        loop {
            match self.framing {
                Framing::Start => {
                    let Some(head) = self.buffer.first_chunk::<FILE_HEADER_LEN>() else {
                        return Ok(());
                    };
                    let [f, l, v, version, flags, len @ ..] = *head;
                    let len = u32::from_be_bytes(len);
                    if [f, l, v, version] != *b"FLV\x01" {
                        return Err(DemuxError::Malformed("it does not begin with a file header"));
                    }
                    let rest = usize::try_from(len).ok().filter(|_| len <= MAX_FILE_HEADER);
                    let rest = rest.and_then(|len| len.checked_sub(FILE_HEADER_LEN));
                    let rest = rest.ok_or(DemuxError::Malformed("its file header is absurd"))?;
                    self.expects_audio |= flags & 0x04 != 0;
                    self.buffer.advance(FILE_HEADER_LEN);
                    self.framing = Framing::Skip(rest + BACK_POINTER_LEN);
                }
                Framing::Skip(0) => self.framing = Framing::Tag,
                Framing::Skip(len) => {
                    let skipped = len.min(self.buffer.len());
                    self.buffer.advance(skipped);
                    self.framing = Framing::Skip(len - skipped);
                    if skipped < len {
                        return Ok(());
                    }
                }
                Framing::Tag => {
                    if !self.take_tag()? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes one tag; `false` if it is not whole.
    fn take_tag(&mut self) -> Result<bool, DemuxError> {
        const AUDIO: u8 = 8;
        const VIDEO: u8 = 9;
        const SCRIPT: u8 = 18;
        let Some(head) = self.buffer.first_chunk::<TAG_HEADER_LEN>() else { return Ok(false) };
        let [kind, l0, l1, l2, t0, t1, t2, t_high, ..] = *head;
        let kind = match kind {
            AUDIO | VIDEO | SCRIPT => kind,
            // Bit 5 says that the tag is encrypted.
            _ if kind & 0x1f == kind & 0x3f => {
                return Err(DemuxError::Malformed("a tag is of no known type"));
            }
            _ => return Err(DemuxError::Malformed("its tags are encrypted")),
        };
        let len = usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).unwrap_or(usize::MAX);
        if len > MAX_TAG {
            self.stats.dropped_units += 1;
            self.framing = Framing::Skip(TAG_HEADER_LEN + len + BACK_POINTER_LEN);
            return Ok(true);
        }
        if self.buffer.len() < TAG_HEADER_LEN + len + BACK_POINTER_LEN {
            return Ok(false);
        }
        let millis = self.unroll(u32::from_be_bytes([t_high, t0, t1, t2]));
        self.buffer.advance(TAG_HEADER_LEN);
        let body = self.buffer.split_to(len).freeze();
        self.buffer.advance(BACK_POINTER_LEN);
        match kind {
            AUDIO => self.on_audio(&body, millis),
            VIDEO => self.on_video(&body, millis)?,
            _ => self.on_script(&body),
        }
        if !self.is_announced {
            self.probed += len;
            self.announce(self.probed > PROBE_LIMIT);
            if !self.is_announced && self.probed > PROBE_LIMIT {
                return Err(self.verdict());
            }
        }
        Ok(true)
    }

    /// Milliseconds that do not wrap, unlike those of a tag, which do after 49 days.
    fn unroll(&mut self, raw: u32) -> i64 {
        let unrolled = match self.millis {
            None => i64::from(raw),
            Some(last) => {
                let step = (i64::from(raw) - last).rem_euclid(1 << 32);
                last + if step >= 1 << 31 { step - (1 << 32) } else { step }
            }
        };
        self.millis = Some(unrolled);
        unrolled
    }

    fn on_script(&mut self, body: &[u8]) {
        // Encoders name the codec of the sound in their first metadata, if there is sound.
        let has = |name: &[u8]| memchr::memmem::find(body, name).is_some();
        if has(b"onMetaData") && !has(b"audiocodecid") && !self.audio.is_seen {
            self.expects_audio = false;
        }
    }

    fn on_video(&mut self, body: &[u8], millis: i64) -> Result<(), DemuxError> {
        let Some(Tag { content, body }) = tag::read_video(body) else {
            self.stats.dropped_units += 1;
            return Ok(());
        };
        if body == Body::Nothing && matches!(content, Content::Known(_)) {
            return Ok(());
        }
        self.video.is_seen = true;
        match body {
            Body::Config(config) => match read_config(content, config) {
                Ok(Some(entry)) => self.describe(VIDEO_ID, entry),
                Ok(None) => self.stats.dropped_units += 1,
                Err(codec) => self.unsupported_video = Some(codec),
            },
            Body::Frame { delay, data } => self.on_sample(VIDEO_ID, content, (millis, delay), data),
            Body::Nothing => {
                if let Content::Other(codec) = content
                    && codec != "a command"
                {
                    self.unsupported_video = Some(codec);
                }
            }
        }
        // One that was good may be followed by another that is not: it is waited for the next.
        match self.unsupported_video {
            Some(codec) if self.video.entry.is_none() => {
                Err(DemuxError::UnsupportedVideo { codec })
            }
            _ => Ok(()),
        }
    }

    fn on_audio(&mut self, body: &[u8], millis: i64) {
        let Some(Tag { content, body }) = tag::read_audio(body) else {
            self.stats.dropped_units += 1;
            return;
        };
        self.audio.is_seen = true;
        self.expects_audio = true;
        let found = match (content, body) {
            (_, Body::Config(config)) => read_config(content, config),
            // These describe themselves, and frames of another kind may follow.
            (Content::Known(codec @ (Codec::Mp3 | Codec::Ac3)), Body::Frame { data, .. }) => {
                Ok(read_frame(codec, data))
            }
            (Content::Other(codec), _) => Err(codec),
            _ => Ok(None),
        };
        match found {
            Ok(Some(entry)) => self.describe(AUDIO_ID, entry),
            Ok(None) => {}
            Err(codec) => {
                self.expects_audio = self.audio.entry.is_some();
                if !std::mem::replace(&mut self.has_skipped_audio, true) {
                    let (number, reason) = (u64::from(AUDIO_ID.0), codec.to_owned());
                    self.events.push_back(Event::SkippedTrack { number, reason });
                }
            }
        }
        if let Body::Frame { data, .. } = body {
            self.on_sample(AUDIO_ID, content, (millis, 0), data);
        }
    }

    /// Takes over what a stream says of itself.
    fn describe(&mut self, id: TrackId, mut entry: Described) {
        entry.track.id = id;
        let stream = if id == VIDEO_ID { &mut self.video } else { &mut self.audio };
        let is_new = stream.entry.as_ref().is_none_or(|known| known.track != entry.track);
        stream.entry = Some(entry);
        if is_new && self.is_announced {
            self.announce_changes();
        }
    }

    /// A sample that is decoded at so many milliseconds, and shown so many later.
    fn on_sample(
        &mut self,
        id: TrackId,
        content: Content,
        (millis, delay): (i64, i32),
        data: &[u8],
    ) {
        let stream = if id == VIDEO_ID { &mut self.video } else { &mut self.audio };
        // Before its configuration is known, nothing of a stream can be decoded.
        let Some(Described { format, track }) = &mut stream.entry else { return };
        if content != Content::Known(track.codec) {
            return;
        }
        let mut dts = millis.saturating_mul(TICKS_PER_MILLI);
        if let Some((samples, rate)) = format.duration(data) {
            dts = stream.samples.place(dts, samples, rate);
        }
        let Some(unit) = format.convert(Bytes::copy_from_slice(data)) else {
            self.stats.dropped_units += 1;
            return;
        };
        let is_changed = format.refresh(track);
        if !format.is_described() {
            return;
        }
        let pts = dts.saturating_add(i64::from(delay.max(0)) * TICKS_PER_MILLI);
        let Some(placed) = self.timeline.place_at(&mut stream.clock, pts, dts) else { return };
        if is_changed && self.is_announced {
            self.announce_changes();
        }
        if placed.jumped {
            self.emit(Event::Discontinuity);
        }
        self.emit(Event::AccessUnit(AccessUnit {
            track: id,
            pts: placed.pts,
            dts: placed.dts,
            random_access: unit.random_access,
            priority: unit.priority,
            data: unit.data,
        }));
    }

    fn emit(&mut self, event: Event) {
        if self.is_announced {
            self.events.push_back(event);
        } else {
            self.held.push(event);
        }
    }

    /// Whether enough is known of the pictures that they can be decoded.
    fn is_described(&self) -> bool {
        self.video.entry.as_ref().is_some_and(|entry| entry.format.is_described())
    }

    /// Announces the tracks for the first time if all are known, or if time is up and video is.
    fn announce(&mut self, is_time_up: bool) {
        if self.is_announced || !self.is_described() {
            return;
        }
        if is_time_up || self.held.is_late() || self.audio.entry.is_some() || !self.expects_audio {
            self.is_announced = true;
            self.announce_changes();
            self.events.append(&mut self.held.take());
        }
    }

    fn announce_changes(&mut self) {
        let entries = [&self.video.entry, &self.audio.entry];
        let tracks: Vec<Track> =
            entries.into_iter().flatten().map(|entry| entry.track.clone()).collect();
        if tracks != self.announced {
            self.announced.clone_from(&tracks);
            self.events.push_back(Event::Tracks(tracks));
        }
    }
}

const VIDEO_ID: TrackId = TrackId(0);
const AUDIO_ID: TrackId = TrackId(1);

/// What a configuration describes: `None` if it makes no sense, the codec's name if that is not
/// carried.
fn read_config(content: Content, config: &[u8]) -> Result<Option<Described>, &'static str> {
    const UNKNOWN_SIZE: (u16, u16) = (0, 0);
    // That of VP9 comes with the version and flags of its box.
    const VPCC: usize = 4;
    match content {
        Content::Known(Codec::H264) => Ok(sample::avc(config, UNKNOWN_SIZE)),
        Content::Known(Codec::Hevc) => Ok(sample::hevc(config, UNKNOWN_SIZE)),
        Content::Known(Codec::Av1) => Ok(sample::av1(config, UNKNOWN_SIZE)),
        Content::Known(Codec::Vp9) => {
            Ok(Some(sample::vp9(config.get(VPCC..).unwrap_or_default(), UNKNOWN_SIZE)))
        }
        Content::Known(Codec::Opus) => Ok(sample::opus(config)),
        Content::Known(Codec::Aac) => {
            sample::aac(config).map(Some).ok_or("a kind of aac that adts cannot carry")
        }
        // Their frames say it all.
        Content::Known(Codec::Mp3 | Codec::Ac3) => Ok(None),
        Content::Known(codec) => Err(codec.name()),
        Content::Other(codec) => Err(codec),
    }
}

/// What a whole frame of sound says of its stream.
fn read_frame(codec: Codec, frame: &[u8]) -> Option<Described> {
    let header = FrameHeader::read(codec, frame)?;
    Some(sample::frames(codec, header.channels, header.rate))
}
