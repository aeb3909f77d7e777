//! The body of one FLV tag, which is also that of an RTMP message of sound or pictures.
//!
//! Decides how the headers are read: those of Adobe's FLV 10.1 (annex E), and those of Enhanced
//! RTMP v2, which name codecs by four letters. What a codec's bytes mean, and what is carried, is
//! left to [`crate::flv`].

use banyan_wire::Codec;

/// What a tag holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    pub(super) content: Content,
    pub(super) body: Body<'a>,
}

/// How it is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A codec that has a name on the wire.
    Known(Codec),
    /// Another, by its lower-case name.
    Other(&'static str),
}

/// What there is for a demuxer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// The codec's configuration, as a box of an MP4 file has it.
    Config(&'a [u8]),
    /// One picture or frame of sound, shown so many milliseconds after it is decoded.
    Frame { delay: i32, data: &'a [u8] },
    /// Nothing: an end of sequence, metadata, or a track beside the first.
    Nothing,
}

/// Packet types of Enhanced RTMP; those of pictures and of sound agree where both have one.
mod packet {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    /// Pictures that are shown when they are decoded.
    pub(super) const CODED_FRAMES_X: u8 = 3;
    pub(super) const MULTITRACK_AUDIO: u8 = 5;
    pub(super) const MULTITRACK_VIDEO: u8 = 6;
    pub(super) const MODIFIER: u8 = 7;
}

/// Kinds of multitrack bodies.
mod multitrack {
    pub(super) const ONE_TRACK: u8 = 0;
    pub(super) const MANY_TRACKS: u8 = 1;
    pub(super) const MANY_CODECS: u8 = 2;
}

/// Most modifiers in front of a packet; nobody is known to send more than one.
const MAX_MODIFIERS: usize = 8;

/// Reads a tag of pictures; `None` if it is cut short.
pub(super) fn read_video(tag: &[u8]) -> Option<Tag<'_>> {
    const COMMAND: u8 = 5;
    let mut rest = Rest(tag);
    let first = rest.u8()?;
    if first & 0x80 != 0 {
        // A command frame holds one byte of no interest here.
        if (first >> 4) & 7 == COMMAND {
            return Some(Tag { content: Content::Other("a command"), body: Body::Nothing });
        }
        return read_enhanced(first & 0xf, rest, packet::MULTITRACK_VIDEO);
    }
    let content = match first & 0xf {
        7 => Content::Known(Codec::H264),
        // Not of the specification, but widely sent before there was a better way.
        12 => Content::Known(Codec::Hevc),
        2 => Content::Other("sorenson h263"),
        3 | 6 => Content::Other("screen video"),
        4 | 5 => Content::Other("vp6"),
        _ => Content::Other("unknown"),
    };
    if first >> 4 == COMMAND {
        return Some(Tag { content, body: Body::Nothing });
    }
    let body = match content {
        Content::Known(_) => {
            let kind = rest.u8()?;
            let delay = rest.i24()?;
            match kind {
                0 => Body::Config(rest.0),
                1 => Body::Frame { delay, data: rest.0 },
                _ => Body::Nothing,
            }
        }
        Content::Other(_) => Body::Nothing,
    };
    Some(Tag { content, body })
}

/// Reads a tag of sound; `None` if it is cut short.
pub(super) fn read_audio(tag: &[u8]) -> Option<Tag<'_>> {
    const ENHANCED: u8 = 9;
    let mut rest = Rest(tag);
    let first = rest.u8()?;
    let content = match first >> 4 {
        ENHANCED => return read_enhanced(first & 0xf, rest, packet::MULTITRACK_AUDIO),
        10 => Content::Known(Codec::Aac),
        2 | 14 => Content::Known(Codec::Mp3),
        0 | 3 => Content::Other("pcm"),
        1 => Content::Other("adpcm"),
        4..=6 => Content::Other("nellymoser"),
        7 | 8 => Content::Other("g.711"),
        11 => Content::Other("speex"),
        _ => Content::Other("unknown"),
    };
    let body = match content {
        Content::Known(Codec::Aac) => match rest.u8()? {
            0 => Body::Config(rest.0),
            1 => Body::Frame { delay: 0, data: rest.0 },
            _ => Body::Nothing,
        },
        Content::Known(_) => Body::Frame { delay: 0, data: rest.0 },
        Content::Other(_) => Body::Nothing,
    };
    Some(Tag { content, body })
}

/// Reads what follows the first byte of an enhanced tag: of several tracks, the first.
fn read_enhanced(mut kind: u8, mut rest: Rest<'_>, multitrack_kind: u8) -> Option<Tag<'_>> {
    for _ in 0..MAX_MODIFIERS {
        if kind != packet::MODIFIER {
            break;
        }
        // Its length less one, in one byte or, where that is full, in two more.
        let len = match rest.u8()? {
            0xff => usize::from(rest.u16()?),
            len => usize::from(len),
        };
        rest.take(len + 1)?;
        kind = rest.u8()? & 0xf;
    }
    if kind != multitrack_kind {
        let content = four_letters(rest.four()?);
        return Some(Tag { content, body: enhanced_body(kind, content, rest)? });
    }
    let types = rest.u8()?;
    let (layout, kind) = (types >> 4, types & 0xf);
    let shared = match layout {
        multitrack::ONE_TRACK | multitrack::MANY_TRACKS => Some(four_letters(rest.four()?)),
        multitrack::MANY_CODECS => None,
        _ => return Some(Tag { content: Content::Other("unknown"), body: Body::Nothing }),
    };
    loop {
        let content = match shared {
            Some(content) => content,
            None => four_letters(rest.four()?),
        };
        let track = rest.u8()?;
        let data = match layout {
            multitrack::ONE_TRACK => Rest(std::mem::take(&mut rest.0)),
            _ => {
                let len = rest.u24()?;
                Rest(rest.take(len)?)
            }
        };
        if track == 0 {
            return Some(Tag { content, body: enhanced_body(kind, content, data)? });
        }
        if rest.0.is_empty() {
            return Some(Tag { content, body: Body::Nothing });
        }
    }
}

fn enhanced_body(kind: u8, content: Content, mut rest: Rest<'_>) -> Option<Body<'_>> {
    Some(match kind {
        packet::SEQUENCE_START => Body::Config(rest.0),
        packet::CODED_FRAMES => {
            let has_delay = matches!(content, Content::Known(Codec::H264 | Codec::Hevc));
            let delay = if has_delay { rest.i24()? } else { 0 };
            Body::Frame { delay, data: rest.0 }
        }
        packet::CODED_FRAMES_X => Body::Frame { delay: 0, data: rest.0 },
        _ => Body::Nothing,
    })
}

fn four_letters(name: [u8; 4]) -> Content {
    match &name {
        b"avc1" => Content::Known(Codec::H264),
        b"hvc1" => Content::Known(Codec::Hevc),
        b"av01" => Content::Known(Codec::Av1),
        b"vp09" => Content::Known(Codec::Vp9),
        b"mp4a" => Content::Known(Codec::Aac),
        b".mp3" => Content::Known(Codec::Mp3),
        b"ac-3" => Content::Known(Codec::Ac3),
        b"Opus" => Content::Known(Codec::Opus),
        b"vp08" => Content::Other("vp8"),
        b"vvc1" => Content::Other("vvc"),
        b"ec-3" => Content::Other("e-ac-3"),
        b"fLaC" => Content::Other("flac"),
        _ => Content::Other("unknown"),
    }
}

/// What has not been read of a tag.
#[derive(Clone, Copy, Debug)]
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn u24(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes([0, self.u8()?, self.u8()?, self.u8()?])).ok()
    }

    fn i24(&mut self) -> Option<i32> {
        // The sign comes with the shift.
        Some(i32::from_be_bytes([self.u8()?, self.u8()?, self.u8()?, 0]) >> 8)
    }

    fn four(&mut self) -> Option<[u8; 4]> {
        Some([self.u8()?, self.u8()?, self.u8()?, self.u8()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H264: Content = Content::Known(Codec::H264);
    const HEVC: Content = Content::Known(Codec::Hevc);

    fn frame(delay: i32, data: &[u8]) -> Body<'_> {
        Body::Frame { delay, data }
    }

    #[test]
    fn tags_of_both_generations_are_read() {
        let video: [(&[u8], Content, Body<'_>); 7] = [
            (&[0x17, 0, 0, 0, 0, 1, 2], H264, Body::Config(&[1, 2])),
            (&[0x27, 1, 0, 0, 80, 9], H264, frame(80, &[9])),
            (&[0x27, 1, 0xff, 0xff, 0xfe, 9], H264, frame(-2, &[9])),
            (&[0x17, 2, 0, 0, 0], H264, Body::Nothing),
            (b"\x91hvc1\0\0\x28\x09", HEVC, frame(40, &[9])),
            (b"\x93hvc1\x09", HEVC, frame(0, &[9])),
            (b"\x90av01\x81", Content::Known(Codec::Av1), Body::Config(&[0x81])),
        ];
        for (tag, content, body) in video {
            assert_eq!(read_video(tag), Some(Tag { content, body }), "{tag:?}");
        }
        let audio: [(&[u8], Content, Body<'_>); 5] = [
            (&[0xaf, 0, 0x11, 0x90], Content::Known(Codec::Aac), Body::Config(&[0x11, 0x90])),
            (&[0xaf, 1, 5], Content::Known(Codec::Aac), frame(0, &[5])),
            (&[0x2f, 0xff, 0xfb], Content::Known(Codec::Mp3), frame(0, &[0xff, 0xfb])),
            (b"\x91Opus\xfc", Content::Known(Codec::Opus), frame(0, &[0xfc])),
            (&[0xb2, 1], Content::Other("speex"), Body::Nothing),
        ];
        for (tag, content, body) in audio {
            assert_eq!(read_audio(tag), Some(Tag { content, body }), "{tag:?}");
        }
    }

    #[test]
    fn of_several_tracks_the_first_is_taken() {
        let one = |track: u8| [b"\x96\x01avc1".as_slice(), &[track, 0, 0, 7, 9]].concat();
        assert_eq!(read_video(&one(0)), Some(Tag { content: H264, body: frame(7, &[9]) }));
        assert_eq!(read_video(&one(1)), Some(Tag { content: H264, body: Body::Nothing }));
        let many = b"\x96\x21hvc1\x01\0\0\x04\0\0\0\x05avc1\0\0\0\x04\0\0\x03\x06";
        assert_eq!(read_video(many), Some(Tag { content: H264, body: frame(3, &[6]) }));
    }

    #[test]
    fn modifiers_are_passed_over() {
        let tag = b"\x97\x02\xaa\xbb\xcc\x01avc1\0\0\x05\x09";
        assert_eq!(read_video(tag), Some(Tag { content: H264, body: frame(5, &[9]) }));
    }

    #[test]
    fn a_tag_cut_anywhere_is_none_or_less_and_never_a_panic() {
        let tags: [&[u8]; 4] = [
            b"\x97\x02\xaa\xbb\xcc\x01avc1\0\0\x05\x09",
            b"\x96\x21hvc1\x01\0\0\x04\0\0\0\x05avc1\0\0\0\x04\0\0\x03\x06",
            b"\x97\xff\xff\xff",
            &[0x17, 1, 0, 0, 80, 9],
        ];
        for tag in tags {
            for len in 0..tag.len() {
                for read in [read_video, read_audio] {
                    assert!(read(&tag[..len]).is_none_or(|read| read.body != Body::Config(tag)));
                }
            }
            assert_eq!(read_video(&tag[..1]), None);
        }
    }
}
