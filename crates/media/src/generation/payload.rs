//! The bytes of a layer: a list of access units, each with its place in the generation.
//!
//! Decides the format. All numbers are LEB128: seven bits a byte, the low ones first, the high bit set
//! in all bytes but the last, in the shortest form, at most 64 bits. *Signed* numbers are mapped to
//! 0, −1, 1, −2, 2 … ↦ 0, 1, 2, 3, 4 … ("zigzag") before.
//!
//! ```text
//! layer = version      1 byte, 1
//!         count        number: how many units follow
//!         unit × count
//!
//! unit  = place        number: position in the generation. In the first unit of the layer the
//!                      position itself; in others its distance from the one before, at least 1
//!         track        1 byte, below 8
//!         flags        1 byte: bit 0 random access; bits 1–2 priority (0 key, 1 audio,
//!                      2 reference, 3 droppable); bits 3–7 zero
//!         dts          signed number, ticks of 90 kHz: in the first unit of the layer the time
//!                      itself, in others its distance from the one before
//!         delay        signed number: pts − dts
//!         length       number: how many bytes follow
//!         data         the unit's bytes
//! ```
//!
//! Nothing follows the last unit. A layer without units is the two bytes `01 00`. Times lie within
//! ±2⁵⁶ ticks, delays within ±2³². Units of a layer are found in the order of their places, which
//! is how layers are merged again: see [`merge_layers`](crate::merge_layers).

use banyan_wire::{MAX_TRACKS, MediaTime, TrackId};
use bytes::{Buf, Bytes};

use super::{MAX_GENERATION_BYTES, MAX_GENERATION_UNITS};
use crate::access_unit::{AccessUnit, Priority};
use crate::bits::write_leb128;
use crate::error::PayloadError;

/// The format described in the [module documentation](self).
const VERSION: u8 = 1;

/// Times are within this many ticks of zero.
const MAX_TIME: i64 = 1 << 56;

/// A unit's `pts` is within this many ticks of its `dts`.
const MAX_DELAY: i64 = 1 << 32;

/// Shortest encoding of a unit: six fields of one byte.
const MIN_UNIT_LEN: usize = 6;

/// What a layer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most units.
    pub max_units: usize,
    /// Longest unit, in bytes.
    pub max_unit_bytes: usize,
}

impl Default for Limits {
    /// What a generation may hold.
    fn default() -> Self {
        Self { max_units: MAX_GENERATION_UNITS, max_unit_bytes: MAX_GENERATION_BYTES }
    }
}

/// Writes units as a layer. Their places must grow.
pub fn encode<'a>(units: impl Iterator<Item = (u32, &'a AccessUnit)>) -> Bytes {
    let mut count = 0u64;
    let mut body = Vec::new();
    let mut last_place = 0;
    let mut last_dts = 0i64;
    for (place, unit) in units {
        debug_assert!(count == 0 || place > last_place, "places must grow");
        let dts = unit.dts.0.clamp(-MAX_TIME, MAX_TIME);
        let delay = unit.pts.0.saturating_sub(unit.dts.0).clamp(-MAX_DELAY, MAX_DELAY);
        let flags = u8::from(unit.random_access) | priority_bits(unit.priority) << 1;
        write_leb128(u64::from(place.wrapping_sub(last_place)), &mut body);
        body.push(unit.track.0);
        body.push(flags);
        write_leb128(zigzag(dts - last_dts), &mut body);
        write_leb128(zigzag(delay), &mut body);
        // A length in memory fits.
        write_leb128(u64::try_from(unit.data.len()).unwrap_or(0), &mut body);
        body.extend_from_slice(&unit.data);
        count += 1;
        last_place = place;
        last_dts = dts;
    }
    let mut out = vec![VERSION];
    write_leb128(count, &mut out);
    out.extend(body);
    out.into()
}

/// Reads a layer. The units' data are parts of `layer`, not copies: they keep all of it in memory.
///
/// # Errors
///
/// If the bytes are anything but a layer within the limits.
pub fn decode(layer: Bytes, limits: Limits) -> Result<Vec<(u32, AccessUnit)>, PayloadError> {
    let mut rest = layer;
    let version = read_byte(&mut rest, "version")?;
    if version != VERSION {
        return Err(PayloadError::Version(version));
    }
    let count = read_number(&mut rest, "count")?;
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= limits.max_units)
        .ok_or(PayloadError::TooManyUnits { found: count, limit: limits.max_units })?;
    if count > rest.len() / MIN_UNIT_LEN {
        return Err(PayloadError::Truncated("units"));
    }
    let mut units: Vec<(u32, AccessUnit)> = Vec::with_capacity(count);
    for _ in 0..count {
        let unit = read_unit(&mut rest, units.last(), limits)?;
        units.push(unit);
    }
    if rest.is_empty() { Ok(units) } else { Err(PayloadError::TrailingBytes(rest.len())) }
}

fn read_unit(
    rest: &mut Bytes,
    last: Option<&(u32, AccessUnit)>,
    limits: Limits,
) -> Result<(u32, AccessUnit), PayloadError> {
    let place = u32::try_from(read_number(rest, "place")?).ok();
    let place = match last {
        None => place,
        Some((last, _)) => {
            place.filter(|distance| *distance > 0).and_then(|distance| last.checked_add(distance))
        }
    };
    let place = place.ok_or(PayloadError::OutOfRange("place"))?;

    let track = read_byte(rest, "track")?;
    if usize::from(track) >= MAX_TRACKS {
        return Err(PayloadError::OutOfRange("track"));
    }
    let flags = read_byte(rest, "flags")?;
    if flags >= 1 << 3 {
        return Err(PayloadError::OutOfRange("flags"));
    }
    let last_dts = last.map_or(0, |(_, last)| last.dts.0);
    let dts = unzigzag(read_number(rest, "dts")?)
        .checked_add(last_dts)
        .filter(|dts| (-MAX_TIME..=MAX_TIME).contains(dts))
        .ok_or(PayloadError::OutOfRange("dts"))?;
    let delay = Some(unzigzag(read_number(rest, "delay")?))
        .filter(|delay| (-MAX_DELAY..=MAX_DELAY).contains(delay))
        .ok_or(PayloadError::OutOfRange("delay"))?;

    let found = read_number(rest, "length")?;
    let len = usize::try_from(found)
        .ok()
        .filter(|len| *len <= limits.max_unit_bytes)
        .ok_or(PayloadError::UnitTooLong { found, limit: limits.max_unit_bytes })?;
    if len > rest.len() {
        return Err(PayloadError::Truncated("data"));
    }
    let unit = AccessUnit {
        track: TrackId(track),
        pts: MediaTime(dts + delay),
        dts: MediaTime(dts),
        random_access: flags & 1 == 1,
        priority: priority_from(flags >> 1),
        data: rest.split_to(len),
    };
    Ok((place, unit))
}

const fn priority_bits(priority: Priority) -> u8 {
    match priority {
        Priority::Key => 0,
        Priority::Audio => 1,
        Priority::Reference => 2,
        Priority::Droppable => 3,
    }
}

const fn priority_from(bits: u8) -> Priority {
    match bits {
        0 => Priority::Key,
        1 => Priority::Audio,
        2 => Priority::Reference,
        _ => Priority::Droppable,
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn read_number(rest: &mut Bytes, field: &'static str) -> Result<u64, PayloadError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = read_byte(rest, field)?;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has one bit left; a last byte of zero would be superfluous.
        if (shift == 63 && bits > 1) || (shift > 0 && byte == 0) {
            return Err(PayloadError::BadNumber(field));
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(PayloadError::BadNumber(field))
}

fn read_byte(rest: &mut Bytes, field: &'static str) -> Result<u8, PayloadError> {
    if rest.is_empty() { Err(PayloadError::Truncated(field)) } else { Ok(rest.get_u8()) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn unit(track: u8, dts: i64, priority: Priority, data: &'static [u8]) -> AccessUnit {
        AccessUnit {
            track: TrackId(track),
            pts: MediaTime(dts + 2),
            dts: MediaTime(dts),
            random_access: priority == Priority::Key,
            priority,
            data: Bytes::from_static(data),
        }
    }

    fn decode_default(bytes: &[u8]) -> Result<Vec<(u32, AccessUnit)>, PayloadError> {
        decode(Bytes::copy_from_slice(bytes), Limits::default())
    }

    #[test]
    fn the_format_is_what_the_documentation_says() {
        let units = [
            unit(0, 100, Priority::Key, b"abc"),
            unit(1, 99, Priority::Audio, b""),
            unit(0, 400, Priority::Droppable, b"d"),
        ];
        let layer = encode([(0, &units[0]), (1, &units[1]), (200, &units[2])].into_iter());
        let expected = [
            1, 3, // version, count
            0, 0, 0b001, 0xc8, 0x01, 4, 3, b'a', b'b', b'c', //
            1, 1, 0b010, 1, 4, 0, //
            0xc7, 0x01, 0, 0b110, 0xda, 0x04, 4, 1, b'd',
        ];
        assert_eq!(layer, expected.as_slice());
        let [first, second, third] = units;
        assert_eq!(decode_default(&expected), Ok(vec![(0, first), (1, second), (200, third)]));
        assert_eq!(encode(std::iter::empty()), [1, 0].as_slice());
        assert_eq!(decode_default(&[1, 0]), Ok(vec![]));
    }

    #[test]
    fn hostile_bytes_give_the_error_they_deserve() {
        use PayloadError as E;
        let long = [0xffu8; 10];
        let cases: [(&[u8], E); 14] = [
            (&[], E::Truncated("version")),
            (&[2, 0], E::Version(2)),
            (&[1], E::Truncated("count")),
            (&[1, 0x80, 0], E::BadNumber("count")),
            (&[&[1], long.as_slice()].concat(), E::BadNumber("count")),
            (&[1, 0xff, 0x7f], E::TooManyUnits { found: 16383, limit: 4096 }),
            (&[1, 2, 0, 0, 0, 0, 0, 0], E::Truncated("units")),
            (&[1, 1, 0, 8, 0, 0, 0, 0], E::OutOfRange("track")),
            (&[1, 1, 0, 0, 8, 0, 0, 0], E::OutOfRange("flags")),
            (&[1, 1, 0, 0, 0, 0, 0, 1], E::Truncated("data")),
            (&[1, 1, 0, 0, 0, 0, 0, 0, 9], E::TrailingBytes(1)),
            (&[1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], E::OutOfRange("place")),
            (
                &[1, 1, 0, 0, 0, 0, 0, 0x81, 0x80, 0x80, 0x04],
                E::UnitTooLong { found: (8 << 20) + 1, limit: 8 << 20 },
            ),
            (
                &[1, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0],
                E::OutOfRange("dts"),
            ),
        ];
        for (bytes, error) in cases {
            assert_eq!(decode_default(bytes), Err(error), "{bytes:02x?}");
        }
    }

    #[test]
    fn data_are_shared_and_not_copied() {
        let one = unit(0, 0, Priority::Key, b"0123456789");
        let layer = encode([(0, &one)].into_iter());
        let range = layer.as_ptr_range();
        let units = decode(layer, Limits::default()).unwrap();
        assert!(range.contains(&units[0].1.data.as_ptr()));
    }

    #[test]
    fn times_beyond_the_range_are_brought_into_it() {
        let extreme = AccessUnit {
            pts: MediaTime(i64::MAX),
            dts: MediaTime(i64::MIN),
            ..unit(0, 0, Priority::Key, b"")
        };
        let other = AccessUnit { dts: MediaTime(i64::MAX), ..extreme.clone() };
        let layer = encode([(0, &extreme), (1, &other)].into_iter());
        let units = decode(layer, Limits::default()).unwrap();
        assert_eq!(units[0].1.dts, MediaTime(-MAX_TIME));
        assert_eq!(units[1].1.dts, MediaTime(MAX_TIME));
    }
}
