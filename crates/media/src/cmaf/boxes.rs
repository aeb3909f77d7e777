//! Writing boxes: the nested `length, name, body` of ISO/IEC 14496-12.
//!
//! Decides nothing but the framing. What stands in a box is left to [`super::init`] and
//! [`super::fragment`].

/// Appends a box whose body is what `body` appends.
pub(super) fn put_box(out: &mut Vec<u8>, name: [u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(name);
    body(out);
    // A generation is at most some megabytes.
    let len = u32::try_from(out.len() - start).unwrap_or(0);
    patch(out, start, len);
}

/// Appends a box whose body begins with a version and flags.
pub(super) fn put_full_box(
    out: &mut Vec<u8>,
    name: [u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    put_box(out, name, |out| {
        put_u32(out, u32::from(version) << 24 | (flags & 0x00ff_ffff));
        body(out);
    });
}

/// Overwrites the four bytes at `at`, which have been written before.
pub(super) fn patch(out: &mut [u8], at: usize, value: u32) {
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_be_bytes());
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_be_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_be_bytes());
}

/// A count of what was bounded before it came here.
pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    put_u32(out, u32::try_from(count).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_says_how_long_it_is_with_all_it_holds() {
        let mut out = vec![9];
        put_box(&mut out, *b"outr", |out| {
            put_full_box(out, *b"innr", 1, 0x20000, |out| put_u16(out, 7));
        });
        let expected = b"\x09\0\0\0\x16outr\0\0\0\x0einnr\x01\x02\0\0\0\x07";
        assert_eq!(out, expected);
    }
}
