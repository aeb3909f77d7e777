//! A look at the first bytes of an input: which reader, and what to say if there is none.
//!
//! Decides by signatures alone and reads nothing further; whether the container can really be
//! carried is found out by its reader.

use std::fmt;

/// How many bytes from the start [`sniff`] makes the best use of.
pub const SNIFF_LEN: usize = 1024;

/// What an input is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// An MPEG transport stream.
    MpegTs,
    /// MP4 or QuickTime, a file or fragments.
    Mp4,
    /// Matroska or WebM.
    Matroska,
    /// FLV.
    Flv,
    /// None of them; the hint says what it looks like.
    Unknown(Hint),
}

/// What an input that cannot be read looks like. Its `Display` is a sentence for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hint {
    /// No byte at all.
    Empty,
    /// A Matroska file.
    Matroska,
    /// A WebM file.
    WebM,
    /// A Flash video file.
    Flv,
    /// An AVI file.
    Avi,
    /// An Ogg file.
    Ogg,
    /// A WAV file.
    Wav,
    /// An MPEG program stream, as on DVDs.
    ProgramStream,
    /// An H.264 or H.265 byte stream without a container.
    RawVideo,
    /// An MPEG audio or ADTS stream without a container.
    RawAudio,
    /// A playlist of a stream that is somewhere else.
    Playlist,
    /// An MP4 file.
    Mp4,
    /// A transport stream after all, or bytes much like one.
    MpegTs,
    /// Text.
    Text,
    /// Nothing known.
    Nothing,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Empty => return f.write_str("there is no data"),
            Self::Text => return f.write_str("this is text"),
            Self::Nothing => return f.write_str("its format is not known"),
            Self::Playlist => {
                return f.write_str(
                    "this is a playlist; fetch its stream with: \
                     ffmpeg -i URL -c copy -f mpegts -",
                );
            }
            Self::MpegTs => {
                return f.write_str("this looks like a transport stream with damaged packets");
            }
            Self::Matroska => "a Matroska file",
            Self::WebM => "a WebM file",
            Self::Flv => "an FLV file",
            Self::Avi => "an AVI file",
            Self::Ogg => "an Ogg file",
            Self::Wav => "a WAV file",
            Self::ProgramStream => "an MPEG program stream",
            Self::RawVideo => "a video stream without a container",
            Self::RawAudio => "an audio stream without a container",
            Self::Mp4 => "an MP4 file",
        };
        write!(f, "this is {what}; convert with: ffmpeg -i IN -c copy -f mpegts OUT.ts")
    }
}

/// Says what an input is by its first bytes; [`SNIFF_LEN`] of them are enough, fewer are allowed.
#[must_use]
pub fn sniff(head: &[u8]) -> Container {
    if is_mp4(head) {
        return Container::Mp4;
    }
    // A stream cut anywhere may begin like something else, so many sync bytes beat a signature;
    // of a short head, one sync byte proves less than one.
    let hint = hint(head);
    let is_lone_packet = || hint == Hint::Nothing && is_transport_stream(head, 1);
    if is_transport_stream(head, 4) || is_lone_packet() {
        Container::MpegTs
    } else if matches!(hint, Hint::Matroska | Hint::WebM) {
        Container::Matroska
    } else if hint == Hint::Flv {
        Container::Flv
    } else {
        Container::Unknown(hint)
    }
}

/// What the bytes look like, for an error message: [`sniff`] without the choice of a reader.
pub(crate) fn looks_like(head: &[u8]) -> Hint {
    match sniff(head) {
        Container::MpegTs => Hint::MpegTs,
        Container::Mp4 => Hint::Mp4,
        Container::Matroska => Hint::Matroska,
        Container::Flv => Hint::Flv,
        Container::Unknown(hint) => hint,
    }
}

/// The first box of an MP4 file has one of few names.
fn is_mp4(head: &[u8]) -> bool {
    const FIRST: [&[u8; 4]; 9] =
        [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"pnot"];
    head.get(4..8).is_some_and(|name| FIRST.iter().any(|first| first.as_slice() == name))
}

/// Some offset below 188 has the sync byte, as has every 188th byte after it: `proof` times at least.
fn is_transport_stream(head: &[u8], proof: usize) -> bool {
    [188, 192, 204].into_iter().any(|size| {
        (0..size.min(head.len())).any(|start| {
            let mut syncs = head.iter().skip(start).step_by(size);
            let seen = syncs.len();
            // With little proof, the stream must at least start with a packet.
            seen >= proof && (proof > 1 || start == 0) && syncs.all(|byte| *byte == 0x47)
        })
    })
}

fn hint(head: &[u8]) -> Hint {
    let riff = |kind: &[u8]| head.starts_with(b"RIFF") && head.get(8..12) == Some(kind);
    if head.is_empty() {
        Hint::Empty
    } else if head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
        let early = head.get(..64).unwrap_or(head);
        if early.windows(4).any(|word| word == b"webm") { Hint::WebM } else { Hint::Matroska }
    } else if head.starts_with(b"FLV\x01") {
        Hint::Flv
    } else if riff(b"AVI ") {
        Hint::Avi
    } else if riff(b"WAVE") {
        Hint::Wav
    } else if head.starts_with(b"OggS") {
        Hint::Ogg
    } else if head.starts_with(b"#EXTM3U") {
        Hint::Playlist
    } else if head.starts_with(&[0, 0, 1, 0xba]) {
        Hint::ProgramStream
    } else if head.starts_with(&[0, 0, 1]) || head.starts_with(&[0, 0, 0, 1]) {
        Hint::RawVideo
    } else if head.starts_with(b"ID3")
        || matches!(head, [0xff, second, ..] if second & 0xe0 == 0xe0 && *second != 0xff)
    {
        Hint::RawAudio
    } else if is_text(head) {
        Hint::Text
    } else {
        Hint::Nothing
    }
}

fn is_text(head: &[u8]) -> bool {
    let head = head.get(..256).unwrap_or(head);
    head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_stream_is_found_from_any_start() {
        let mut stream = Vec::new();
        for index in 0..6u8 {
            stream.push(0x47);
            stream.extend([index; 187]);
        }
        assert_eq!(sniff(&stream), Container::MpegTs);
        assert_eq!(sniff(&stream[77..]), Container::MpegTs);
        assert_eq!(sniff(&stream[..188]), Container::MpegTs);
    }

    #[test]
    fn an_mp4_file_is_known_by_its_first_box() {
        assert_eq!(sniff(b"\0\0\0\x20ftypisom"), Container::Mp4);
        assert_eq!(sniff(b"\0\0\0\x08wide"), Container::Mp4);
    }

    #[test]
    fn matroska_is_known_by_its_head() {
        let head = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x88matroska";
        assert_eq!(sniff(head), Container::Matroska);
        let head = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm";
        assert_eq!((sniff(head), looks_like(head)), (Container::Matroska, Hint::Matroska));
    }

    #[test]
    fn other_formats_get_a_helpful_hint() {
        let cases: [(&[u8], Hint); 6] = [
            (b"", Hint::Empty),
            (b"RIFF\x10\0\0\0AVI LIST", Hint::Avi),
            (b"OggS\0\x02", Hint::Ogg),
            (b"\0\0\0\x01\x67\x64\0\x1f", Hint::RawVideo),
            (b"hello, world\n", Hint::Text),
            (&[0x80, 0x81, 0x82, 0x90], Hint::Nothing),
        ];
        for (head, hint) in cases {
            assert_eq!(sniff(head), Container::Unknown(hint), "{head:?}");
        }
        assert_eq!(
            Hint::Avi.to_string(),
            "this is an AVI file; convert with: ffmpeg -i IN -c copy -f mpegts OUT.ts"
        );
    }
}
