//! Track entries of Matroska: how a track is coded, and what was taken off its frames.
//!
//! Decides which codecs are carried and what the others are called.

use banyan_wire::Codec;
use bytes::Bytes;

use super::ebml::{child, elements, rounded_float, text, unsigned};
use crate::sample::{self, Described};

/// Ids of elements, RFC 9559 section 5.1.4.
mod id {
    pub(super) const ENTRY: u32 = 0xae;
    pub(super) const NUMBER: u32 = 0xd7;
    pub(super) const KIND: u32 = 0x83;
    pub(super) const CODEC: u32 = 0x86;
    pub(super) const CODEC_PRIVATE: u32 = 0x63a2;
    pub(super) const LANGUAGE: u32 = 0x22_b59c;
    pub(super) const DEFAULT_DURATION: u32 = 0x23_e383;
    pub(super) const CODEC_DELAY: u32 = 0x56aa;
    pub(super) const VIDEO: u32 = 0xe0;
    pub(super) const WIDTH: u32 = 0xb0;
    pub(super) const HEIGHT: u32 = 0xba;
    pub(super) const AUDIO: u32 = 0xe1;
    pub(super) const RATE: u32 = 0xb5;
    pub(super) const CHANNELS: u32 = 0x9f;
    pub(super) const ENCODINGS: u32 = 0x6d80;
    pub(super) const ENCODING: u32 = 0x6240;
    pub(super) const COMPRESSION: u32 = 0x5034;
    pub(super) const ALGORITHM: u32 = 0x4254;
    pub(super) const SETTINGS: u32 = 0x4255;
    pub(super) const ENCRYPTION: u32 = 0x5035;
}

/// A track entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) is_video: bool,
    pub(super) language: String,
    /// From one frame to the next, in nanoseconds; 0 if it does not say.
    pub(super) step: u64,
    /// Taken from every time, in nanoseconds.
    pub(super) delay: u64,
    /// What every frame begins with and the file leaves out.
    pub(super) prefix: Bytes,
    /// The track, or what it holds that is not carried.
    pub(super) described: Result<Described, String>,
}

/// The entries of pictures and sound among the tracks.
pub(super) fn read(tracks: &[u8]) -> Vec<Entry> {
    elements(tracks)
        .filter(|(id, _)| *id == id::ENTRY)
        .filter_map(|(_, body)| entry(body))
        .collect()
}

fn entry(body: &[u8]) -> Option<Entry> {
    let number = |id| child(body, id).and_then(unsigned);
    let is_video = match number(id::KIND)? {
        1 => true,
        2 => false,
        _ => return None,
    };
    let (prefix, described) = match prefix(body) {
        Ok(prefix) => (prefix, describe(body, is_video)),
        Err(reason) => (Bytes::new(), Err(reason)),
    };
    let language = child(body, id::LANGUAGE).map(text).unwrap_or_default();
    let is_known = language.len() == 3 && language != "und";
    let is_code = is_known && language.bytes().all(|byte| byte.is_ascii_lowercase());
    Some(Entry {
        number: number(id::NUMBER)?,
        is_video,
        language: if is_code { language } else { String::new() },
        step: number(id::DEFAULT_DURATION).unwrap_or(0),
        delay: number(id::CODEC_DELAY).unwrap_or(0),
        prefix,
        described,
    })
}

/// What the file leaves out of every frame; an error for anything else it does to them.
fn prefix(entry: &[u8]) -> Result<Bytes, String> {
    const HEADER_STRIPPING: u64 = 3;

    let mut prefix = Bytes::new();
    let encodings = child(entry, id::ENCODINGS).unwrap_or(&[]);
    for (_, encoding) in elements(encodings).filter(|(id, _)| *id == id::ENCODING) {
        if child(encoding, id::ENCRYPTION).is_some() {
            return Err("encrypted".to_owned());
        }
        let Some(compression) = child(encoding, id::COMPRESSION) else { continue };
        let algorithm = child(compression, id::ALGORITHM).and_then(unsigned).unwrap_or(0);
        if algorithm != HEADER_STRIPPING || !prefix.is_empty() {
            return Err("compressed by the container".to_owned());
        }
        prefix = Bytes::copy_from_slice(child(compression, id::SETTINGS).unwrap_or(&[]));
    }
    Ok(prefix)
}

fn describe(entry: &[u8], is_video: bool) -> Result<Described, String> {
    let codec = child(entry, id::CODEC).map(text).unwrap_or_default();
    let private = child(entry, id::CODEC_PRIVATE).unwrap_or(&[]);
    let of = |holder, id| child(entry, holder).and_then(|body| child(body, id));
    let pixels =
        |id| of(id::VIDEO, id).and_then(unsigned).and_then(|size| u16::try_from(size).ok());
    let size = (pixels(id::WIDTH).unwrap_or(0), pixels(id::HEIGHT).unwrap_or(0));
    let rate = of(id::AUDIO, id::RATE).and_then(rounded_float).unwrap_or(8000);
    let channels = of(id::AUDIO, id::CHANNELS).and_then(unsigned);
    let channels = channels.map_or(1, |channels| u8::try_from(channels).unwrap_or(0));
    let found = match codec.as_str() {
        "V_MPEG4/ISO/AVC" if is_video => sample::avc(private, size),
        "V_MPEGH/ISO/HEVC" if is_video => sample::hevc(private, size),
        "V_AV1" if is_video => sample::av1(private, size),
        // What WebM keeps there is not the record of MP4.
        "V_VP9" if is_video => Some(sample::vp9(&[], size)),
        "A_AAC" if !is_video => sample::aac(private),
        "A_OPUS" if !is_video => sample::opus(private),
        "A_MPEG/L1" | "A_MPEG/L2" | "A_MPEG/L3" if !is_video => {
            Some(sample::frames(Codec::Mp3, channels, rate))
        }
        "A_AC3" if !is_video => Some(sample::frames(Codec::Ac3, channels, rate)),
        _ => return Err(codec_name(&codec)),
    };
    found.ok_or_else(|| format!("{} of a kind that is not carried", codec_name(&codec)))
}

fn codec_name(codec: &str) -> String {
    let known = match codec {
        "V_MPEG4/ISO/AVC" => "h264",
        "V_MPEGH/ISO/HEVC" => "hevc",
        "V_AV1" => "av1",
        "V_VP8" => "vp8",
        "V_MPEG1" => "mpeg-1 video",
        "V_MPEG2" => "mpeg-2 video",
        "V_MPEG4/ISO/SP" | "V_MPEG4/ISO/ASP" | "V_MPEG4/ISO/AP" => "mpeg-4 part 2",
        "V_MPEGI/ISO/VVC" => "vvc",
        "V_MJPEG" => "motion jpeg",
        "V_PRORES" => "prores",
        "V_FFV1" => "ffv1",
        "V_THEORA" => "theora",
        "V_UNCOMPRESSED" => "uncompressed video",
        "V_MS/VFW/FOURCC" => "video of the old windows kind",
        "A_AAC" => "aac",
        "A_OPUS" => "opus",
        "A_EAC3" => "e-ac-3",
        "A_TRUEHD" => "truehd",
        "A_VORBIS" => "vorbis",
        "A_FLAC" => "flac",
        "A_ALAC" => "alac",
        _ if codec.starts_with("A_DTS") => "dts",
        _ if codec.starts_with("A_PCM") => "pcm",
        // Whatever it says, it says it in one short line.
        _ => return codec.chars().filter(|char| char.is_ascii_graphic()).take(40).collect(),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn element(id: u32, body: &[u8]) -> Vec<u8> {
        let id = id.to_be_bytes();
        let id = id.into_iter().skip_while(|byte| *byte == 0);
        let size = 0x4000 | u16::try_from(body.len()).unwrap();
        id.chain(size.to_be_bytes()).chain(body.iter().copied()).collect()
    }

    fn sound(codec: &str, more: &[u8]) -> Entry {
        let body = [
            element(id::NUMBER, &[2]),
            element(id::KIND, &[2]),
            element(id::CODEC, codec.as_bytes()),
            more.to_vec(),
        ];
        entry(&body.concat()).unwrap()
    }

    #[test]
    fn what_was_stripped_is_known_and_other_compression_is_refused() {
        let stripped = [element(id::ALGORITHM, &[3]), element(id::SETTINGS, b"\x0b\x77")].concat();
        let encodings = |compression: &[u8]| {
            let compression = element(id::COMPRESSION, compression);
            element(id::ENCODINGS, &element(id::ENCODING, &compression))
        };
        let found = sound("A_AC3", &encodings(&stripped));
        assert_eq!(found.prefix, b"\x0b\x77".as_slice());
        assert!(found.described.is_ok());
        // The default algorithm is zlib.
        let found = sound("A_AC3", &encodings(&[]));
        assert_eq!(found.described.unwrap_err(), "compressed by the container");
    }

    #[test]
    fn codecs_that_are_not_carried_are_named() {
        for (codec, name) in [
            ("A_EAC3", "e-ac-3"),
            ("A_PCM/INT/LIT", "pcm"),
            ("A_DTS/LOSSLESS", "dts"),
            ("A_NEW\n\x1b[31m", "A_NEW[31m"),
            ("A_AAC", "aac of a kind that is not carried"),
        ] {
            assert_eq!(sound(codec, &[]).described.unwrap_err(), name);
        }
    }

    #[test]
    fn languages_are_codes_of_three_letters_or_none() {
        let language = |text: &[u8]| sound("A_AC3", &element(id::LANGUAGE, text)).language;
        assert_eq!(language(b"fin"), "fin");
        assert_eq!((language(b"und"), language(b"x"), language(b"\xff\0a")), Default::default());
    }
}
