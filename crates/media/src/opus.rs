//! What must be known of Opus to carry it: the identification header, how long a packet sounds, and
//! how a transport stream wraps packets.
//!
//! Decides nothing about the sound. Layouts of channels are those of RFC 7845, mapping families 0
//! and 1; a transport stream has a number for each of them.

use bytes::Bytes;

/// Samples per second that Opus counts in, whatever the input had.
pub(crate) const RATE: u32 = 48_000;

/// Longest packet that is carried: 120 ms of eight channels stay far below.
pub(crate) const MAX_PACKET: usize = 64 << 10;

const MAGIC: &[u8] = b"OpusHead";

/// Streams, coupled ones and the channel of each output, for one to eight channels (RFC 7845,
/// 5.1.1.2: the order of Vorbis).
const LAYOUTS: [(u8, u8, &[u8]); 8] = [
    (1, 0, &[0]),
    (1, 1, &[0, 1]),
    (2, 1, &[0, 2, 1]),
    (2, 2, &[0, 1, 2, 3]),
    (3, 2, &[0, 4, 1, 2, 3]),
    (4, 2, &[0, 4, 1, 2, 3, 5]),
    (4, 3, &[0, 4, 1, 2, 3, 5, 6]),
    (5, 3, &[0, 6, 1, 2, 3, 4, 5, 7]),
];

/// The identification header for a number of channels, 1 to 8.
pub(crate) fn head(channels: u8) -> Option<Bytes> {
    let (streams, coupled, mapping) = *LAYOUTS.get(usize::from(channels.checked_sub(1)?))?;
    let mut out = MAGIC.to_vec();
    out.extend([1, channels, 0, 0]);
    out.extend(RATE.to_le_bytes());
    out.extend([0, 0]);
    if channels <= 2 {
        out.push(0);
    } else {
        out.extend([1, streams, coupled]);
        out.extend_from_slice(mapping);
    }
    Some(out.into())
}

/// The identification header of a `dOps` box: the same fields, high bytes first.
pub(crate) fn head_of_box(body: &[u8]) -> Option<Bytes> {
    let [0, channels, s0, s1, r0, r1, r2, r3, g0, g1, family, mapping @ ..] = body else {
        return None;
    };
    let mut out = MAGIC.to_vec();
    out.extend([1, *channels, *s1, *s0, *r3, *r2, *r1, *r0, *g1, *g0, *family]);
    if *family != 0 {
        out.extend_from_slice(mapping.get(..2 + usize::from(*channels))?);
    }
    read_channels(&out).map(|_| out.into())
}

/// The channels of an identification header; `None` if it is none.
pub(crate) fn read_channels(head: &[u8]) -> Option<u8> {
    let fields = head.strip_prefix(MAGIC)?;
    let [version, channels, _, _, _, _, _, _, _, _, family, mapping @ ..] = fields else {
        return None;
    };
    let is_whole = *family == 0 && *channels <= 2
        || *family != 0 && mapping.len() >= 2 + usize::from(*channels);
    (version >> 4 == 0 && *channels > 0 && is_whole).then_some(*channels)
}

/// Samples of a packet (RFC 6716, 3.1); `None` if it is none.
pub(crate) fn samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        config @ 0..12 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..16 => [480, 960][usize::from(config & 1)],
        config => 120 << (config & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let samples = frame * frames;
    // No packet is longer than 120 ms.
    (1..=5760).contains(&samples).then_some(samples)
}

/// The number a transport stream has for the layout of a header; `None` if it has none.
pub(crate) fn layout_code(head: &[u8]) -> Option<u8> {
    let channels = read_channels(head)?;
    let expected = self::head(channels)?;
    // Behind the gain: family and mapping.
    let of = |head: &[u8]| head.get(MAGIC.len() + 10..).map(<[u8]>::to_vec);
    (of(head)? == of(&expected)?).then_some(channels)
}

/// Puts the control header of a transport stream before a packet, as the mapping registered as `Opus`
/// has it. Nothing is trimmed.
pub(crate) fn write_control_header(len: usize, out: &mut Vec<u8>) {
    out.extend([0x7f, 0xe0]);
    let mut left = len;
    while left >= 0xff {
        out.push(0xff);
        left -= 0xff;
    }
    out.push(u8::try_from(left).unwrap_or(0));
}

/// Reads a control header: its length, and that of the packet behind it. `Ok(None)` if it is cut
/// off, `Err` if there is none.
pub(crate) fn read_control_header(bytes: &[u8]) -> Result<Option<(usize, usize)>, NoHeader> {
    let [b0, rest @ ..] = bytes else { return Ok(None) };
    if *b0 != 0x7f {
        return Err(NoHeader);
    }
    let [b1, ..] = rest else { return Ok(None) };
    if b1 & 0xe0 != 0xe0 {
        return Err(NoHeader);
    }
    let mut at = 2;
    let mut len = 0;
    loop {
        let Some(byte) = bytes.get(at) else { return Ok(None) };
        at += 1;
        len += usize::from(*byte);
        if len > MAX_PACKET {
            return Err(NoHeader);
        }
        if *byte != 0xff {
            break;
        }
    }
    // How much is to be cut off at the start and the end.
    for flag in [0x10, 0x08] {
        if b1 & flag != 0 {
            at += 2;
        }
    }
    if b1 & 0x04 != 0 {
        let Some(extension) = bytes.get(at) else { return Ok(None) };
        at += 1 + usize::from(*extension);
    }
    if len == 0 { Err(NoHeader) } else { Ok(Some((at, len))) }
}

/// The bytes are no control header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoHeader;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn headers_of_every_layout_read_back_and_have_their_number() {
        for channels in 1..=8 {
            let head = head(channels).unwrap();
            assert_eq!(
                (read_channels(&head), layout_code(&head)),
                (Some(channels), Some(channels))
            );
        }
        assert_eq!((head(0), head(9), read_channels(b"OpusHead")), (None, None, None));
        // Another order of channels has no number.
        let mut odd = head(6).unwrap().to_vec();
        odd.swap(22, 23);
        assert_eq!((read_channels(&odd), layout_code(&odd)), (Some(6), None));
    }

    #[test]
    fn the_header_of_a_file_is_turned_round() {
        let found = head_of_box(&[0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]).unwrap();
        assert_eq!(found, b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0".as_slice());
        assert_eq!(head_of_box(&[0, 6, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 1, 4, 2]), None);
        assert_eq!(head_of_box(&[1, 2]), None);
    }

    #[test]
    fn a_packet_says_how_long_it_sounds() {
        // 20 ms of CELT, two of 60 ms of SILK, three of 2.5 ms, none, too many.
        assert_eq!(samples(&[0xfc]), Some(960));
        assert_eq!(samples(&[0x19]), Some(5760));
        assert_eq!(samples(&[0xe3, 3]), Some(360));
        assert_eq!((samples(&[0xe3, 0]), samples(&[0x1b, 60]), samples(&[])), (None, None, None));
    }

    #[test]
    fn control_headers_read_back_as_written() {
        for len in [1, 254, 255, 256, 1275, 5000] {
            let mut out = Vec::new();
            write_control_header(len, &mut out);
            assert_eq!(read_control_header(&out), Ok(Some((out.len(), len))));
            assert_eq!(read_control_header(&out[..out.len() - 1]), Ok(None));
        }
        // With both trims and an extension of one byte.
        let full = [0x7f, 0xfc, 10, 1, 2, 3, 4, 1, 9];
        assert_eq!(read_control_header(&full), Ok(Some((9, 10))));
        assert_eq!(read_control_header(&[0x80]), Err(NoHeader));
        assert_eq!(read_control_header(&[0x7f, 0]), Err(NoHeader));
        assert_eq!(read_control_header(&[0x7f, 0xe0, 0]), Err(NoHeader));
    }
}
