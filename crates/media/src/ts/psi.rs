//! Programme tables: PAT and PMT, read and written.
//!
//! Decides which stream types are carried, and what the others are called in messages. Which
//! programme is chosen is left to [`super::demux`].

use banyan_wire::{Codec, Track};
use bytes::Bytes;
use mpeg2ts_reader::mpegts_crc::sum32;

use crate::opus;

/// Table ids.
pub(crate) const TABLE_PAT: u8 = 0;
pub(crate) const TABLE_PMT: u8 = 2;

/// Programmes of a PAT that are looked at; further ones are ignored.
const MAX_PROGRAMMES: usize = 64;

/// Streams of a PMT that are looked at; further ones are ignored.
const MAX_STREAMS: usize = 64;

/// Collects a table's sections from packet payloads: at most one section of 4 KiB.
#[derive(Debug, Default)]
pub(crate) struct SectionBuffer {
    buffer: Vec<u8>,
    is_open: bool,
}

/// A section that passed its checksum.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section<'a> {
    pub(crate) table: u8,
    /// Of a PAT the stream, of a PMT the programme.
    pub(crate) id: u16,
    pub(crate) body: &'a [u8],
}

impl SectionBuffer {
    /// A payload of the table's packets. `on_section` gets every section that is now complete, valid
    /// and in force.
    pub(crate) fn push(
        &mut self,
        payload: &[u8],
        is_start: bool,
        mut on_section: impl FnMut(Section<'_>),
    ) {
        if is_start {
            let Some((pointer, rest)) = payload.split_first() else { return };
            let Some((tail, begin)) = rest.split_at_checked(usize::from(*pointer)) else {
                self.forget();
                return;
            };
            if self.is_open {
                self.buffer.extend_from_slice(tail);
                self.take_sections(&mut on_section);
            }
            self.forget();
            self.is_open = true;
            self.buffer.extend_from_slice(begin);
        } else if self.is_open {
            self.buffer.extend_from_slice(payload);
        }
        self.take_sections(&mut on_section);
    }

    /// A packet is missing.
    pub(crate) fn forget(&mut self) {
        self.buffer.clear();
        self.is_open = false;
    }

    fn take_sections(&mut self, on_section: &mut impl FnMut(Section<'_>)) {
        loop {
            let [table, high, low, ..] = *self.buffer else { return };
            if table == 0xff {
                // Stuffing up to the end of the packet.
                self.forget();
                return;
            }
            let len = 3 + (usize::from(high & 0x0f) << 8 | usize::from(low));
            let Some(section) = self.buffer.get(..len) else { return };
            if let Some(section) = parse_section(section) {
                on_section(section);
            }
            self.buffer.drain(..len);
        }
    }
}

fn parse_section(bytes: &[u8]) -> Option<Section<'_>> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    let [table, syntax, _, id_high, id_low, version, ..] = *head;
    let (body, _) = rest.split_last_chunk::<4>()?;
    let is_in_force = syntax & 0x80 != 0 && version & 1 == 1;
    let id = u16::from_be_bytes([id_high, id_low]);
    (is_in_force && sum32(bytes) == 0).then_some(Section { table, id, body })
}

/// The programmes a PAT lists: number and PMT's PID.
pub(crate) fn read_pat(body: &[u8]) -> Vec<(u16, u16)> {
    let (entries, _) = body.as_chunks::<4>();
    entries
        .iter()
        .map(|[n0, n1, p0, p1]| {
            (u16::from_be_bytes([*n0, *n1]), u16::from_be_bytes([*p0, *p1]) & 0x1fff)
        })
        // Programme 0 is the network's table.
        .filter(|(number, _)| *number != 0)
        .take(MAX_PROGRAMMES)
        .collect()
}

/// One stream of a programme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEntry {
    pub(crate) pid: u16,
    pub(crate) stream_type: u8,
    pub(crate) content: Content,
    pub(crate) language: String,
    /// What the tables say of how the stream is coded: of Opus the identification header.
    pub(crate) config: Bytes,
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Something that is carried.
    Carried(Codec),
    /// Pictures that are not.
    Video(&'static str),
    /// Anything else that is not.
    Other(&'static str),
}

/// The streams a PMT lists.
pub(crate) fn read_pmt(body: &[u8]) -> Vec<StreamEntry> {
    let mut streams = Vec::new();
    let Some((head, rest)) = body.split_first_chunk::<4>() else { return streams };
    let mut rest = rest.get(length(head[2], head[3])..).unwrap_or(&[]);
    while let Some((head, tail)) = rest.split_first_chunk::<5>() {
        let [stream_type, pid_high, pid_low, len_high, len_low] = *head;
        let (info, tail) = tail.split_at_checked(length(len_high, len_low)).unwrap_or((tail, &[]));
        if streams.len() < MAX_STREAMS {
            streams.push(StreamEntry {
                pid: u16::from_be_bytes([pid_high, pid_low]) & 0x1fff,
                stream_type,
                content: classify(stream_type, info),
                language: language(info),
                config: opus_head(info).unwrap_or_default(),
            });
        }
        rest = tail;
    }
    streams
}

fn length(high: u8, low: u8) -> usize {
    usize::from(high & 0x0f) << 8 | usize::from(low)
}

fn descriptors(mut info: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [tag, len, rest @ ..] = info else { return None };
        let (body, rest) = rest.split_at_checked(usize::from(*len))?;
        info = rest;
        Some((*tag, body))
    })
}

mod tag {
    pub(super) const REGISTRATION: u8 = 0x05;
    pub(super) const LANGUAGE: u8 = 0x0a;
    pub(super) const TELETEXT: u8 = 0x56;
    pub(super) const SUBTITLES: u8 = 0x59;
    pub(super) const AC3: u8 = 0x6a;
    pub(super) const EAC3: u8 = 0x7a;
    pub(super) const DTS: u8 = 0x7b;
    /// Of the standard's extensions: the next byte says which one.
    pub(super) const EXTENSION: u8 = 0x7f;
    /// Among extensions: how Opus is laid out.
    pub(super) const OPUS: u8 = 0x80;
}

/// Why sound of a kind is not carried, and what to do.
macro_rules! sound {
    ($kind:literal) => {
        Content::Other(concat!(
            $kind,
            " is not carried; convert with: ffmpeg -i IN -c:v copy -c:a aac -f mpegts OUT.ts"
        ))
    };
}

fn classify(stream_type: u8, info: &[u8]) -> Content {
    match stream_type {
        0x1b => Content::Carried(Codec::H264),
        0x24 => Content::Carried(Codec::Hevc),
        0x0f => Content::Carried(Codec::Aac),
        0x03 | 0x04 => Content::Carried(Codec::Mp3),
        0x81 => Content::Carried(Codec::Ac3),
        0x01 => Content::Video("mpeg-1 video"),
        0x02 => Content::Video("mpeg-2 video"),
        0x10 => Content::Video("mpeg-4 part 2"),
        0x21 => Content::Video("jpeg 2000"),
        0x25 => Content::Other("a further layer of hevc"),
        0x33 => Content::Video("vvc"),
        0x42 | 0xd2 => Content::Video("avs"),
        0xd1 => Content::Video("dirac"),
        0xea => Content::Video("vc-1"),
        0xdb => Content::Video("encrypted h264"),
        0x11 => sound!("latm aac"),
        0x1c => sound!("raw aac"),
        0x80 => sound!("pcm"),
        0x82 | 0x85 | 0x8a => sound!("dts"),
        0x83 => sound!("truehd"),
        0x86 => Content::Other("splice information"),
        0x84 | 0x87 => sound!("e-ac-3"),
        0x06 => classify_private(info),
        _ => Content::Other("data"),
    }
}

/// Private data says by its descriptors what it is.
fn classify_private(info: &[u8]) -> Content {
    for (tag, body) in descriptors(info) {
        match (tag, body) {
            (tag::AC3, _) | (tag::REGISTRATION, [b'A', b'C', b'-', b'3', ..]) => {
                return Content::Carried(Codec::Ac3);
            }
            (tag::EAC3, _) | (tag::REGISTRATION, [b'E', b'A', b'C', b'3', ..]) => {
                return sound!("e-ac-3");
            }
            (tag::DTS, _) | (tag::REGISTRATION, [b'D', b'T', b'S', _, ..]) => return sound!("dts"),
            (tag::REGISTRATION, [b'B', b'S', b'S', b'D', ..]) => return sound!("pcm"),
            (tag::REGISTRATION, [b'H', b'E', b'V', b'C', ..]) => {
                return Content::Carried(Codec::Hevc);
            }
            (tag::REGISTRATION, [b'A', b'V', b'0', b'1', ..]) => return Content::Video("av1"),
            (tag::REGISTRATION, [b'V', b'P', b'0', b'9', ..]) => return Content::Video("vp9"),
            (tag::REGISTRATION, [b'O', b'p', b'u', b's', ..]) => {
                return if opus_head(info).is_some() {
                    Content::Carried(Codec::Opus)
                } else {
                    sound!("opus of an unusual layout of channels")
                };
            }
            (tag::TELETEXT, _) => return Content::Other("teletext"),
            (tag::SUBTITLES, _) => return Content::Other("subtitles"),
            _ => {}
        }
    }
    Content::Other("private data")
}

/// The identification header of Opus, if a descriptor says how many channels there are.
fn opus_head(info: &[u8]) -> Option<Bytes> {
    descriptors(info).find_map(|(tag, body)| match (tag, body) {
        (tag::EXTENSION, [tag::OPUS, channels, ..]) => opus::head(*channels),
        _ => None,
    })
}

fn language(info: &[u8]) -> String {
    descriptors(info)
        .find_map(|(tag, body)| (tag == tag::LANGUAGE).then(|| body.first_chunk::<3>())?)
        .filter(|code| code.iter().all(u8::is_ascii_alphabetic))
        .and_then(|code| String::from_utf8(code.to_vec()).ok())
        .unwrap_or_default()
}

/// A PAT of one programme.
pub(crate) fn write_pat(stream_id: u16, programme: u16, pmt_pid: u16) -> Vec<u8> {
    let mut body = programme.to_be_bytes().to_vec();
    body.extend((0xe000 | pmt_pid).to_be_bytes());
    write_section(TABLE_PAT, stream_id, 0, &body)
}

/// A PMT; every track comes with its PID. For at most eight tracks it is below 200 bytes.
pub(crate) fn write_pmt(
    programme: u16,
    version: u8,
    pcr_pid: u16,
    tracks: &[(u16, Track)],
) -> Vec<u8> {
    let mut body = (0xe000 | pcr_pid).to_be_bytes().to_vec();
    body.extend([0xf0, 0]);
    for (pid, track) in tracks {
        let mut info = Vec::new();
        if let (Some(code), 3) =
            (track.language.as_bytes().first_chunk::<3>(), track.language.len())
        {
            info.extend([tag::LANGUAGE, 4]);
            info.extend(code);
            info.push(0);
        }
        let registration = match track.codec {
            Codec::Ac3 => b"AC-3",
            Codec::Hevc => b"HEVC",
            Codec::Opus => b"Opus",
            Codec::H264 | Codec::Av1 | Codec::Vp9 | Codec::Aac | Codec::Mp3 | _ => &[0; 4],
        };
        if registration != &[0; 4] {
            info.extend([tag::REGISTRATION, 4]);
            info.extend(registration);
        }
        if track.codec == Codec::Opus {
            // A layout without a number is taken for the usual one of as many channels.
            let code = opus::layout_code(&track.config).unwrap_or(track.channels);
            info.extend([tag::EXTENSION, 2, tag::OPUS, code]);
        }
        body.push(stream_type(track));
        body.extend((0xe000 | pid).to_be_bytes());
        // At most sixteen bytes of descriptors.
        body.extend([0xf0, u8::try_from(info.len()).unwrap_or(0)]);
        body.extend(info);
    }
    write_section(TABLE_PMT, programme, version, &body)
}

fn stream_type(track: &Track) -> u8 {
    match track.codec {
        Codec::H264 => 0x1b,
        Codec::Hevc => 0x24,
        Codec::Aac => 0x0f,
        // The lower sample rates are those of MPEG-2.
        Codec::Mp3 if (1..32_000).contains(&track.sample_rate) => 0x04,
        Codec::Mp3 => 0x03,
        Codec::Ac3 => 0x81,
        Codec::Opus | Codec::Av1 | Codec::Vp9 | _ => 0x06,
    }
}

fn write_section(table: u8, id: u16, version: u8, body: &[u8]) -> Vec<u8> {
    // Five more bytes of header and four of checksum count as well.
    let len = u16::try_from(body.len() + 9).unwrap_or(0) & 0x0fff;
    let mut out = vec![table];
    out.extend((0xb000 | len).to_be_bytes());
    out.extend(id.to_be_bytes());
    out.extend([0xc1 | (version & 0x1f) << 1, 0, 0]);
    out.extend(body);
    let checksum = sum32(&out);
    out.extend(checksum.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use banyan_wire::{Rendition, TrackId};

    fn read(
        sections: &mut SectionBuffer,
        payload: &[u8],
        is_start: bool,
    ) -> Vec<(u8, u16, Vec<u8>)> {
        let mut found = Vec::new();
        sections.push(payload, is_start, |section| {
            found.push((section.table, section.id, section.body.to_vec()));
        });
        found
    }

    fn track(codec: Codec, language: &str) -> Track {
        Track {
            id: TrackId(0),
            codec,
            width: 0,
            height: 0,
            sample_rate: 48_000,
            channels: 2,
            language: language.to_owned(),
            rendition: Rendition::Full,
            config: Bytes::new(),
        }
    }

    #[test]
    fn the_pat_has_the_bytes_ffmpeg_writes() {
        let expected = [
            0x00, 0xb0, 0x0d, 0x00, 0x01, 0xc1, 0x00, 0x00, 0x00, 0x01, 0xf0, 0x00, 0x2a, 0xb1,
            0x04, 0xb2,
        ];
        assert_eq!(write_pat(1, 1, 0x1000), expected);
    }

    #[test]
    fn tables_read_back_as_written() {
        let tracks = [
            (0x100, track(Codec::H264, "")),
            (0x101, track(Codec::Aac, "fin")),
            (0x102, track(Codec::Ac3, "")),
        ];
        let mut payload = vec![0];
        payload.extend(write_pmt(1, 3, 0x100, &tracks));
        let found = read(&mut SectionBuffer::default(), &payload, true);
        assert_eq!(found.len(), 1);
        let streams = read_pmt(&found[0].2);
        assert_eq!(
            streams.iter().map(|stream| (stream.pid, stream.content)).collect::<Vec<_>>(),
            [
                (0x100, Content::Carried(Codec::H264)),
                (0x101, Content::Carried(Codec::Aac)),
                (0x102, Content::Carried(Codec::Ac3)),
            ]
        );
        assert_eq!(streams[1].language, "fin");
    }

    #[test]
    fn a_pmt_of_eight_tracks_stays_short() {
        for codec in [Codec::Ac3, Codec::Hevc, Codec::Opus] {
            let tracks: Vec<_> = (0..8).map(|at| (0x100 + at, track(codec, "fin"))).collect();
            assert!(write_pmt(1, 0, 0x100, &tracks).len() < 200);
        }
    }

    #[test]
    fn a_section_over_two_packets_is_joined() {
        let section = write_pat(1, 7, 0x1000);
        let mut sections = SectionBuffer::default();
        assert!(read(&mut sections, &[&[0], &section[..9]].concat(), true).is_empty());
        let found = read(&mut sections, &[&section[9..], &[0xff; 20]].concat(), false);
        assert_eq!(found.len(), 1);
        assert_eq!(read_pat(&found[0].2), [(7, 0x1000)]);
    }

    #[test]
    fn a_damaged_section_is_ignored() {
        let mut payload = vec![0];
        payload.extend(write_pat(1, 1, 0x1000));
        payload[11] ^= 1;
        assert!(read(&mut SectionBuffer::default(), &payload, true).is_empty());
    }

    #[test]
    fn private_streams_are_known_by_their_descriptors() {
        assert_eq!(classify(0x06, &[0x6a, 1, 0]), Content::Carried(Codec::Ac3));
        assert_eq!(classify(0x06, b"\x05\x04HEVC"), Content::Carried(Codec::Hevc));
        let opus = b"\x05\x04Opus\x7f\x02\x80\x02";
        assert_eq!(classify(0x06, opus), Content::Carried(Codec::Opus));
        assert_eq!(opus_head(opus), opus::head(2));
        assert!(matches!(classify(0x06, b"\x05\x04Opus\x7f\x02\x80\x81"), Content::Other(_)));
        assert_eq!(classify(0x06, &[0x05, 200, 1]), Content::Other("private data"));
    }
}
