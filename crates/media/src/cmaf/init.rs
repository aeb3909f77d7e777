//! The init segment: `ftyp` and `moov`, which say what fragments are made of.
//!
//! Decides the boxes, which hold no samples: all tables are empty and `mvex` announces fragments. What
//! a codec's configuration says is left to [`super::setup`].

use banyan_wire::Track;
use bytes::Bytes;

use super::boxes::{put_box, put_full_box, put_u16, put_u32, put_u64};
use super::setup::Setup;

/// The identity, as 16.16 and 2.30 fixed point numbers.
const MATRIX: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];

/// Ticks per second of the movie header, in which nothing is measured.
const MOVIE_TIMESCALE: u32 = 1000;

/// What the fragments that go with it are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// The bytes of the init segment.
    pub data: Bytes,
    /// Its codecs after RFC 6381, separated by commas: what players want to know in advance.
    pub codecs: String,
    /// Picture width in pixels; 0 without pictures, or where it is not known.
    pub width: u16,
    /// Picture height in pixels; 0 without pictures, or where it is not known.
    pub height: u16,
}

impl Init {
    /// Describes these tracks. They are numbered from 1.
    pub(super) fn new<'a>(tracks: impl Iterator<Item = (&'a Track, &'a Setup)> + Clone) -> Self {
        let mut data = Vec::with_capacity(1024);
        put_box(&mut data, *b"ftyp", |out| {
            out.extend(b"iso6");
            put_u32(out, 0);
            for brand in [b"iso6", b"cmfc", b"mp41"] {
                out.extend(brand);
            }
        });
        put_box(&mut data, *b"moov", |out| {
            put_movie_header(out, u32::try_from(tracks.clone().count()).unwrap_or(0) + 1);
            for ((track, setup), number) in tracks.clone().zip(1..) {
                put_track(out, number, track, setup);
            }
            put_box(out, *b"mvex", |out| {
                for (_, number) in tracks.clone().zip(1u32..) {
                    put_full_box(out, *b"trex", 0, 0, |out| {
                        // Sample description 1; no defaults.
                        for value in [number, 1, 0, 0, 0] {
                            put_u32(out, value);
                        }
                    });
                }
            });
        });
        let codecs: Vec<&str> = tracks.clone().map(|(_, setup)| setup.codec.as_str()).collect();
        let mut sizes = tracks.map(|(_, setup)| setup.size);
        let (width, height) = sizes.find(|size| *size != (0, 0)).unwrap_or_default();
        Self { data: data.into(), codecs: codecs.join(","), width, height }
    }
}

fn put_movie_header(out: &mut Vec<u8>, next_number: u32) {
    put_full_box(out, *b"mvhd", 0, 0, |out| {
        // Made and changed at no time, without an end.
        for value in [0, 0, MOVIE_TIMESCALE, 0] {
            put_u32(out, value);
        }
        // Normal speed and volume.
        put_u32(out, 0x0001_0000);
        put_u16(out, 0x0100);
        out.extend([0; 10]);
        for value in MATRIX {
            put_u32(out, value);
        }
        out.extend([0; 24]);
        put_u32(out, next_number);
    });
}

fn put_track(out: &mut Vec<u8>, number: u32, track: &Track, setup: &Setup) {
    let is_video = track.codec.is_video();
    let (width, height) = setup.size;
    put_box(out, *b"trak", |out| {
        // Enabled, part of the movie.
        put_full_box(out, *b"tkhd", 0, 3, |out| {
            for value in [0, 0, number, 0, 0, 0, 0] {
                put_u32(out, value);
            }
            put_u32(out, 0);
            put_u16(out, if is_video { 0 } else { 0x0100 });
            put_u16(out, 0);
            for value in MATRIX {
                put_u32(out, value);
            }
            for length in [width, height] {
                put_u32(out, u32::from(length) << 16);
            }
        });
        put_box(out, *b"mdia", |out| {
            put_full_box(out, *b"mdhd", 0, 0, |out| {
                for value in [0, 0, setup.timescale, 0] {
                    put_u32(out, value);
                }
                put_u16(out, language(&track.language));
                put_u16(out, 0);
            });
            put_full_box(out, *b"hdlr", 0, 0, |out| {
                put_u32(out, 0);
                out.extend(if is_video { b"vide" } else { b"soun" });
                out.extend([0; 12]);
                // A name, which may be empty.
                out.push(0);
            });
            put_box(out, *b"minf", |out| put_media_information(out, is_video, &setup.entry));
        });
    });
}

fn put_media_information(out: &mut Vec<u8>, is_video: bool, entry: &[u8]) {
    if is_video {
        put_full_box(out, *b"vmhd", 0, 1, |out| put_u64(out, 0));
    } else {
        put_full_box(out, *b"smhd", 0, 0, |out| put_u32(out, 0));
    }
    put_box(out, *b"dinf", |out| {
        put_full_box(out, *b"dref", 0, 0, |out| {
            put_u32(out, 1);
            // The samples stand in the same file.
            put_full_box(out, *b"url ", 0, 1, |_| {});
        });
    });
    put_box(out, *b"stbl", |out| {
        put_full_box(out, *b"stsd", 0, 0, |out| {
            put_u32(out, 1);
            out.extend(entry);
        });
        for name in [b"stts", b"stsc", b"stco"] {
            put_full_box(out, *name, 0, 0, |out| put_u32(out, 0));
        }
        put_full_box(out, *b"stsz", 0, 0, |out| put_u64(out, 0));
    });
}

/// Three letters, five bits each; `und` for anything else.
fn language(tag: &str) -> u16 {
    let letters = match tag.as_bytes() {
        [a, b, c] if tag.bytes().all(|letter| letter.is_ascii_lowercase()) => [*a, *b, *c],
        _ => *b"und",
    };
    letters.iter().fold(0, |packed, letter| packed << 5 | u16::from(letter - 0x60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_that_are_none_are_undetermined() {
        assert_eq!(language("eng"), 0x15c7);
        for odd in ["", "de", "ENG", "e\u{301}g", "four"] {
            assert_eq!(language(odd), 0x55c4, "{odd}");
        }
    }
}
