//! Access units → a transport stream for players.
//!
//! Decides the clock: the programme clock reference says a unit's `dts`, and the timestamps in the
//! packets are [`DELAY`] later, so nothing is ever due before it can have arrived. References go out
//! every [`PCR_INTERVAL`] of stream time whether or not there are pictures: measured, VLC and
//! mpv otherwise report late buffers. Pacing the bytes is left to [`super::pacer`].
//!
//! ```text
//!   stream time   0 ms        40           80          100         120
//!                 PAT PMT PCR unit … PCR … unit PCR … PAT PMT … unit PCR
//! ```

use banyan_wire::{Codec, MediaTime, Track, TrackId};

use super::psi::{write_pat, write_pmt};
use super::{PACKET_LEN, SYNC};
use crate::access_unit::AccessUnit;
use crate::annexb::find_start_code;
use crate::nal::NalCodec;
use crate::opus;

/// How far the timestamps are behind the clock references, in ticks: 700 ms.
///
/// ffmpeg's default (`-muxdelay 0.7`), and enough for the bits of a large intra picture to arrive
/// and for sound that the source interleaved late. It costs a player that much of delay at most:
/// players that buffer by their own rules ignore it.
pub const DELAY: i64 = MediaTime::HZ * 7 / 10;

/// Longest stretch of stream time without a clock reference, in ticks: 40 ms, as DVB recommends
/// (ETSI TS 101 154, 4.1.5.3). ISO/IEC 13818-1 allows 100.
const PCR_INTERVAL: i64 = MediaTime::HZ / 25;

/// A picture's packet carries a reference if the last one is at least this old, in ticks: 10 ms.
const PCR_SPACING: i64 = MediaTime::HZ / 100;

/// Longest stretch of stream time without the programme's tables, in ticks: 100 ms (ETSI TR 101
/// 290 lets 500 ms pass; a player that joins waits for them).
const TABLES_INTERVAL: i64 = MediaTime::HZ / 10;

/// A step forwards longer than this, in ticks, is a jump: 1 s. Up to it, references fill the gap.
const MAX_GAP: i64 = MediaTime::HZ;

/// Times beyond this are cut to it: 400 000 years, and no sum overflows.
const MAX_TIME: i64 = 1 << 60;

const TRANSPORT_STREAM_ID: u16 = 1;
const PROGRAMME: u16 = 1;
const PMT_PID: u16 = 0x1000;
const FIRST_PID: u16 = 0x100;
const NULL_PID: u16 = 0x1fff;

/// Whether a transport stream can carry a codec. AV1 and VP9 have no place in it that players know:
/// [`TsMuxer`] leaves their tracks out.
#[must_use]
pub const fn ts_carries(codec: Codec) -> bool {
    matches!(codec, Codec::H264 | Codec::Hevc | Codec::Aac | Codec::Mp3 | Codec::Ac3 | Codec::Opus)
}

/// Writes one programme as a transport stream. Tracks that it cannot carry ([`ts_carries`]) are left
/// out.
///
/// Give it the units of all tracks in the order of their `dts`, roughly. Its output is a pure
/// function of its input.
#[derive(Debug)]
pub struct TsMuxer {
    streams: Vec<Stream>,
    pmt_version: u8,
    pat_counter: u8,
    pmt_counter: u8,
    /// The last clock reference.
    clock: Option<i64>,
    /// When the tables went out last.
    tables_at: Option<i64>,
}

#[derive(Debug)]
struct Stream {
    track: Track,
    pid: u16,
    counter: u8,
    last_dts: Option<i64>,
}

/// What the adaptation field of a packet says.
#[derive(Clone, Copy, Debug, Default)]
struct Adaptation {
    clock: Option<i64>,
    is_random_access: bool,
    is_discontinuity: bool,
}

impl TsMuxer {
    /// Creates a muxer for a programme of these tracks.
    #[must_use]
    pub fn new(tracks: &[Track]) -> Self {
        let mut muxer = Self {
            streams: Vec::new(),
            pmt_version: 0,
            pat_counter: 0,
            pmt_counter: 0,
            clock: None,
            tables_at: None,
        };
        muxer.replace_streams(tracks);
        muxer
    }

    /// Goes on with other tracks: the next unit is preceded by tables of a new version. Does nothing
    /// if the tracks are the same.
    pub fn set_tracks(&mut self, tracks: &[Track]) {
        let carried = tracks.iter().filter(|track| ts_carries(track.codec));
        if self.streams.iter().map(|stream| &stream.track).eq(carried) {
            return;
        }
        self.replace_streams(tracks);
        self.pmt_version = (self.pmt_version + 1) & 0x1f;
        self.tables_at = None;
    }

    fn replace_streams(&mut self, tracks: &[Track]) {
        let old = std::mem::take(&mut self.streams);
        for track in tracks.iter().filter(|track| ts_carries(track.codec)) {
            let pid = FIRST_PID + u16::from(track.id.0);
            let same = old.iter().find(|stream| stream.pid == pid);
            self.streams.push(Stream {
                track: track.clone(),
                pid,
                counter: same.map_or(0, |same| same.counter),
                last_dts: same.and_then(|same| same.last_dts),
            });
        }
    }

    /// Says that the next unit does not follow the last one, as after a seek: the clock starts anew.
    pub fn discontinue(&mut self) {
        if self.clock.is_some() {
            self.clock = Some(i64::MIN);
        }
    }

    /// Appends a unit's packets to `out`, and what is due before them. A unit of a track that was not
    /// named is left out.
    pub fn write(&mut self, unit: &AccessUnit, out: &mut Vec<u8>) {
        let Some(index) = self.find(unit.track) else { return };
        let dts = unit.dts.0.clamp(-MAX_TIME, MAX_TIME);
        self.advance(index, dts, out);
        let is_key_picture = unit.random_access && self.is_video(index);
        if is_key_picture && self.tables_at != Some(dts) {
            self.write_tables(dts, out);
        }

        let has_clock = self.streams.get(index).is_some_and(|stream| stream.pid == self.pcr_pid())
            && self.clock.is_some_and(|clock| dts.saturating_sub(clock) >= PCR_SPACING);
        if has_clock {
            self.clock = Some(dts);
        }
        let adaptation = Adaptation {
            clock: has_clock.then_some(dts),
            is_random_access: unit.random_access,
            is_discontinuity: false,
        };
        if let Some(stream) = self.streams.get_mut(index) {
            stream.last_dts = Some(dts);
            stream.write_unit(unit, adaptation, out);
        }
    }

    fn find(&self, track: TrackId) -> Option<usize> {
        self.streams.iter().position(|stream| stream.track.id == track)
    }

    fn is_video(&self, index: usize) -> bool {
        self.streams.get(index).is_some_and(|stream| stream.track.codec.is_video())
    }

    /// The first video track's packets carry the clock.
    fn pcr_pid(&self) -> u16 {
        let video = self.streams.iter().find(|stream| stream.track.codec.is_video());
        video.or_else(|| self.streams.first()).map_or(NULL_PID, |stream| stream.pid)
    }

    /// Brings the clock up to `dts`, with all that is due until then.
    fn advance(&mut self, index: usize, dts: i64, out: &mut Vec<u8>) {
        let Some(mut clock) = self.clock.filter(|clock| !self.is_jump(index, *clock, dts)) else {
            let is_discontinuity = self.clock.is_some();
            self.clock = Some(dts);
            self.write_tables(dts, out);
            self.write_clock(dts, is_discontinuity, out);
            return;
        };
        loop {
            let clock_due = clock + PCR_INTERVAL;
            let tables_due = self.tables_at.map_or(clock, |at| at + TABLES_INTERVAL);
            if clock_due.min(tables_due) > dts {
                break;
            }
            if tables_due <= clock_due {
                self.write_tables(tables_due, out);
            } else {
                clock = clock_due;
                self.write_clock(clock, false, out);
            }
        }
        self.clock = Some(clock);
        if self.tables_at.is_none() {
            self.write_tables(clock, out);
        }
    }

    /// Whether a unit is too far from the clock to belong to the same stretch of time. One that is
    /// late is not: sound may be interleaved behind the picture.
    fn is_jump(&self, index: usize, clock: i64, dts: i64) -> bool {
        let gap = dts.saturating_sub(clock);
        let last = self.streams.get(index).and_then(|stream| stream.last_dts);
        gap > MAX_GAP || (gap < -DELAY && last.is_some_and(|last| dts < last))
    }

    fn write_tables(&mut self, now: i64, out: &mut Vec<u8>) {
        let tracks: Vec<(u16, Track)> =
            self.streams.iter().map(|stream| (stream.pid, stream.track.clone())).collect();
        let pat = write_pat(TRANSPORT_STREAM_ID, PROGRAMME, PMT_PID);
        write_section(0, &mut self.pat_counter, &pat, out);
        let pmt = write_pmt(PROGRAMME, self.pmt_version, self.pcr_pid(), &tracks);
        write_section(PMT_PID, &mut self.pmt_counter, &pmt, out);
        self.tables_at = Some(now);
    }

    /// A packet with nothing but a clock reference.
    fn write_clock(&mut self, clock: i64, is_discontinuity: bool, out: &mut Vec<u8>) {
        let pid = self.pcr_pid();
        let Some(stream) = self.streams.iter().find(|stream| stream.pid == pid) else { return };
        let adaptation =
            Adaptation { clock: Some(clock), is_random_access: false, is_discontinuity };
        // Without a payload, the counter stays at the last packet's.
        let [high, low] = pid.to_be_bytes();
        out.extend([SYNC, high, low, 0x20 | (stream.counter.wrapping_sub(1) & 0x0f)]);
        adaptation.write(PACKET_LEN - 4, out);
    }
}

impl Adaptation {
    /// Bytes of the field, with its length.
    const fn len(self) -> usize {
        if self.clock.is_some() {
            8
        } else if self.is_random_access || self.is_discontinuity {
            2
        } else {
            0
        }
    }

    /// Writes the field, stuffed to `len` bytes, which is [`Self::len`] or more.
    fn write(self, len: usize, out: &mut Vec<u8>) {
        let end = out.len() + len;
        if len > 0 {
            // At most 183.
            out.push(u8::try_from(len - 1).unwrap_or(0));
        }
        if len > 1 {
            let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
            out.push(
                flag(self.is_discontinuity, 0x80)
                    | flag(self.is_random_access, 0x40)
                    | flag(self.clock.is_some(), 0x10),
            );
        }
        if let Some(clock) = self.clock {
            // 33 bits, six reserved, nine of a 27 MHz remainder that is always zero here.
            let [_, _, bytes @ ..] = ((wrap(clock) << 15) | 0x7e00).to_be_bytes();
            out.extend(bytes);
        }
        out.resize(end, 0xff);
    }
}

impl Stream {
    fn write_unit(&mut self, unit: &AccessUnit, adaptation: Adaptation, out: &mut Vec<u8>) {
        let mut front = Vec::with_capacity(128);
        let data = match (NalCodec::of(self.track.codec), self.track.codec) {
            (Some(codec), _) => complete_picture(codec, unit, &self.track, &mut front),
            (None, Codec::Opus) => {
                opus::write_control_header(unit.data.len(), &mut front);
                &unit.data
            }
            (None, _) => &unit.data,
        };
        let mut head = self.pes_header(unit, front.len() + data.len());
        head.extend(front);
        let mut adaptation = adaptation;
        let mut parts = [head.as_slice(), data];
        let mut is_start = true;
        loop {
            let left = parts[0].len() + parts[1].len();
            let payload = left.min(PACKET_LEN - 4 - adaptation.len());
            let field = PACKET_LEN - 4 - payload;
            let [high, low] = self.pid.to_be_bytes();
            let start = if is_start { 0x40 } else { 0 };
            let control = if field > 0 { 0x30 } else { 0x10 };
            out.extend([SYNC, high | start, low, control | self.counter]);
            self.counter = (self.counter + 1) & 0x0f;
            adaptation.write(field, out);
            let mut room = payload;
            for part in &mut parts {
                let (now, later) = part.split_at(room.min(part.len()));
                out.extend_from_slice(now);
                room -= now.len();
                *part = later;
            }
            if left == payload {
                return;
            }
            is_start = false;
            adaptation = Adaptation::default();
        }
    }

    fn pes_header(&self, unit: &AccessUnit, payload: usize) -> Vec<u8> {
        let index = self.track.id.0 & 0x0f;
        let stream_id = match self.track.codec {
            Codec::H264 | Codec::Hevc => 0xe0 | index,
            Codec::Aac | Codec::Mp3 => 0xc0 | index,
            Codec::Ac3 | Codec::Opus | Codec::Av1 | Codec::Vp9 | _ => 0xbd,
        };
        let has_dts = unit.dts != unit.pts;
        let stamps = if has_dts { 10 } else { 5 };
        // Three bytes of flags and length count as well. Pictures have no limit: their length is 0.
        let len = if self.track.codec.is_video() { 0 } else { payload + 3 + stamps };
        let [len_high, len_low] = u16::try_from(len).unwrap_or(0).to_be_bytes();
        let mut out = vec![0, 0, 1, stream_id, len_high, len_low];
        // The data begins with an access unit.
        out.push(0x84);
        if has_dts {
            out.extend([0xc0, 10]);
            out.extend(stamp(0x31, unit.pts));
            out.extend(stamp(0x11, unit.dts));
        } else {
            out.extend([0x80, 5]);
            out.extend(stamp(0x21, unit.pts));
        }
        out
    }
}

/// Puts in front what a transport stream wants of a picture: a delimiter, and before a picture to
/// start at, parameter sets. Returns the rest of the unit's bytes.
fn complete_picture<'a>(
    codec: NalCodec,
    unit: &'a AccessUnit,
    track: &Track,
    front: &mut Vec<u8>,
) -> &'a [u8] {
    let mut data: &[u8] = &unit.data;
    let has_delimiter = codec.starts_with_delimiter(data);
    if !has_delimiter {
        front.extend_from_slice(codec.delimiter());
    }
    if unit.random_access && !track.config.is_empty() && !codec.has_sps(data) {
        if has_delimiter {
            // The delimiter has to stay first.
            let first = find_start_code(data, 0).unwrap_or(0);
            let end = find_start_code(data, first + 3).unwrap_or(data.len());
            let (delimiter, rest) = data.split_at(end);
            front.extend_from_slice(delimiter);
            data = rest;
        }
        front.extend_from_slice(&track.config);
    }
    data
}

/// A timestamp with its prefix and marker bits.
fn stamp(prefix: u8, time: MediaTime) -> [u8; 5] {
    let ticks = wrap(time.0.wrapping_add(DELAY));
    let [_, _, _, b4, b3, b2, b1, b0] = ticks.to_be_bytes();
    [
        prefix | (b4 & 1) << 3 | (b3 >> 5) & 0x06,
        b3 << 2 | b2 >> 6,
        b2 << 2 | (b1 >> 6) & 0x02 | 1,
        b1 << 1 | b0 >> 7,
        b0 << 1 | 1,
    ]
}

/// The 33 bits that a transport stream has for a time.
fn wrap(ticks: i64) -> u64 {
    (ticks & ((1 << 33) - 1)).unsigned_abs()
}

/// A section in as many packets as it needs: mostly one.
fn write_section(pid: u16, counter: &mut u8, section: &[u8], out: &mut Vec<u8>) {
    let [high, low] = pid.to_be_bytes();
    let (first, rest) = section.split_at(section.len().min(PACKET_LEN - 5));
    let mut start = |flag: u8, out: &mut Vec<u8>| {
        out.extend([SYNC, high | flag, low, 0x10 | *counter]);
        *counter = (*counter + 1) & 0x0f;
        out.len() + PACKET_LEN - 4
    };
    let end = start(0x40, out);
    // Nothing stands before the section.
    out.push(0);
    out.extend_from_slice(first);
    out.resize(end, 0xff);
    for part in rest.chunks(PACKET_LEN - 4) {
        let end = start(0, out);
        out.extend_from_slice(part);
        out.resize(end, 0xff);
    }
}
