//! Sample descriptions: how a track is coded.
//!
//! Decides which sample entries are carried and what the others are called. How samples become
//! access units is left to [`crate::sample`].

use banyan_wire::Codec;
use bytes::Bytes;

use super::boxes::{Boxes, Fields, FoundBox, child};
use crate::opus;
use crate::sample::{self, Described};

/// Bytes of a sample entry before its boxes, for pictures and for sound.
const VISUAL_LEN: usize = 78;
const SOUND_LEN: usize = 28;

/// Reads the first sample description of an `stbl` box; the name of its codec if it is not carried.
pub(super) fn read(table: &Bytes, is_video: bool) -> Result<Described, String> {
    let unknown = || "of an unknown codec".to_owned();
    let descriptions =
        child(table, b"stsd").and_then(|body| (body.len() > 8).then(|| body.slice(8..)));
    let FoundBox { name, body } =
        descriptions.and_then(|body| Boxes::new(body).next()).ok_or_else(unknown)?;
    let entry = match &name {
        b"avc1" | b"avc3" if is_video => {
            read_video(&body, b"avcC").and_then(|(record, size)| sample::avc(&record, size))
        }
        b"hvc1" | b"hev1" if is_video => {
            read_video(&body, b"hvcC").and_then(|(record, size)| sample::hevc(&record, size))
        }
        b"av01" if is_video => {
            read_video(&body, b"av1C").and_then(|(record, size)| sample::av1(&record, size))
        }
        // Version and flags stand before the record.
        b"vp09" if is_video => read_video(&body, b"vpcC")
            .map(|(record, size)| sample::vp9(record.get(4..).unwrap_or(&[]), size)),
        b"mp4a" if !is_video => return read_mp4a(&body),
        b"Opus" if !is_video => read_sound_fields(&body)
            .and_then(|(_, _, boxes)| opus::head_of_box(&child(&boxes, b"dOps")?))
            .and_then(|head| sample::opus(&head)),
        b".mp3" | b"ms\0U" if !is_video => read_sound(&body, Codec::Mp3),
        b"ac-3" if !is_video => read_sound(&body, Codec::Ac3),
        _ => return Err(codec_name(name)),
    };
    entry.ok_or_else(|| format!("{} without a description", codec_name(name)))
}

fn codec_name(name: [u8; 4]) -> String {
    let known = match &name {
        b"avc1" | b"avc3" => "h264",
        b"hvc1" | b"hev1" => "hevc",
        b"av01" => "av1",
        b"vp09" => "vp9",
        b"Opus" => "opus",
        b"dvh1" | b"dvhe" => "dolby vision",
        b"vvc1" | b"vvi1" => "vvc",
        b"vp08" => "vp8",
        b"mp4v" => "mpeg-4 part 2",
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" => "prores",
        b"jpeg" | b"mjpa" | b"mjpb" => "motion jpeg",
        b"encv" | b"enca" => "encrypted",
        b"ec-3" => "e-ac-3",
        b"fLaC" => "flac",
        b"alac" => "alac",
        b"sowt" | b"twos" | b"lpcm" | b"ipcm" => "pcm",
        other => return other.escape_ascii().to_string(),
    };
    known.to_owned()
}

/// The codec's record in a visual entry, and the size the entry says.
fn read_video(body: &Bytes, record: &[u8; 4]) -> Option<(Bytes, (u16, u16))> {
    let mut fields = Fields::new(body);
    fields.skip(24)?;
    let size = (fields.u16()?, fields.u16()?);
    let record = child(&body.slice(VISUAL_LEN.min(body.len())..), record)?;
    Some((record, size))
}

/// Channels, sample rate, and where the boxes of a sound entry begin.
fn read_sound_fields(body: &Bytes) -> Option<(u8, u32, Bytes)> {
    let mut fields = Fields::new(body);
    fields.skip(8)?;
    // QuickTime's later versions of the entry have more fields.
    let extra = match fields.u16()? {
        1 => 16,
        2 => 36,
        _ => 0,
    };
    fields.skip(6)?;
    let channels = u8::try_from(fields.u16()?).unwrap_or(0);
    fields.skip(6)?;
    let rate = fields.u32()? >> 16;
    let boxes = body.slice((SOUND_LEN + extra).min(body.len())..);
    Some((channels, rate, boxes))
}

fn read_sound(body: &Bytes, codec: Codec) -> Option<Described> {
    let (channels, sample_rate, _) = read_sound_fields(body)?;
    Some(sample::frames(codec, channels, sample_rate))
}

/// An `mp4a` entry holds whatever its descriptors say.
fn read_mp4a(body: &Bytes) -> Result<Described, String> {
    let unknown = || "sound of an unknown kind".to_owned();
    let (_, _, boxes) = read_sound_fields(body).ok_or_else(unknown)?;
    let descriptors = child(&boxes, b"esds")
        .or_else(|| child(&boxes, b"wave").and_then(|wave| child(&wave, b"esds")))
        .ok_or_else(unknown)?;
    let (object_type, config) = read_descriptors(&descriptors).ok_or_else(unknown)?;
    match object_type {
        0x40 | 0x66..=0x68 => {
            sample::aac(config).ok_or_else(|| "a kind of aac that adts cannot carry".to_owned())
        }
        0x69 | 0x6b => read_sound(body, Codec::Mp3).ok_or_else(unknown),
        0xa5 => read_sound(body, Codec::Ac3).ok_or_else(unknown),
        0xa6 => Err("e-ac-3".to_owned()),
        0xa9 => Err("dts".to_owned()),
        0xdd => Err("vorbis".to_owned()),
        _ => Err(unknown()),
    }
}

/// The object type and the decoder's configuration of an `esds` box (ISO/IEC 14496-1, 7.2.6).
fn read_descriptors(body: &[u8]) -> Option<(u8, &[u8])> {
    const ES: u8 = 3;
    const DECODER_CONFIG: u8 = 4;
    const DECODER_SPECIFIC: u8 = 5;

    let mut fields = Fields::new(body);
    fields.version()?;
    let mut fields = Fields::new(descriptor(&mut fields, ES)?);
    fields.skip(2)?;
    let flags = fields.u8()?;
    if flags & 0x80 != 0 {
        fields.skip(2)?;
    }
    if flags & 0x40 != 0 {
        let len = fields.u8()?;
        fields.skip(usize::from(len))?;
    }
    if flags & 0x20 != 0 {
        fields.skip(2)?;
    }
    let mut fields = Fields::new(descriptor(&mut fields, DECODER_CONFIG)?);
    let object_type = fields.u8()?;
    fields.skip(12)?;
    Some((object_type, descriptor(&mut fields, DECODER_SPECIFIC).unwrap_or(&[])))
}

/// The body of the next descriptor, if it has this tag. Its length is in sevens of bits.
fn descriptor<'a>(fields: &mut Fields<'a>, tag: u8) -> Option<&'a [u8]> {
    if fields.u8()? != tag {
        return None;
    }
    let mut len = 0usize;
    for _ in 0..4 {
        let byte = fields.u8()?;
        len = len << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    // One that claims too much gets what there is.
    fields.bytes(len.min(fields.rest().len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_read_in_long_and_short_form() {
        let short = [
            0, 0, 0, 0, 3, 22, 0, 1, 0, 4, 17, 0x40, 0x15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 2,
            0x11, 0x90,
        ];
        assert_eq!(read_descriptors(&short), Some((0x40, &[0x11, 0x90][..])));
        let mut long = short.to_vec();
        long.splice(25..26, [0x80, 0x80, 0x80, 2]);
        // What holds it grows as well.
        long[5] += 3;
        long[10] += 3;
        assert_eq!(read_descriptors(&long), Some((0x40, &[0x11, 0x90][..])));
        assert_eq!(read_descriptors(&short[..12]), None);
    }
}
