//! Byte streams of NAL units (Annex B of H.264 and of H.265): where units begin and end.
//!
//! Decides nothing about what a unit is; that is left to [`crate::nal`].

use memchr::memmem;

/// The start code before a NAL unit that begins an access unit or is a parameter set.
pub(crate) const LONG_START_CODE: [u8; 4] = [0, 0, 0, 1];

const START_CODE: [u8; 3] = [0, 0, 1];

/// Position of the next three-byte start code at or after `from`.
pub(crate) fn find_start_code(data: &[u8], from: usize) -> Option<usize> {
    let rest = data.get(from..)?;
    memmem::find(rest, &START_CODE).map(|at| from + at)
}

/// The NAL units of a byte stream, without start codes and trailing zeros.
pub(crate) fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut next = find_start_code(data, 0).map(|at| at + START_CODE.len());
    std::iter::from_fn(move || {
        let start = next?;
        let end = find_start_code(data, start);
        next = end.map(|at| at + START_CODE.len());
        let mut nal = data.get(start..end.unwrap_or(data.len()))?;
        while let [rest @ .., 0] = nal {
            nal = rest;
        }
        Some(nal)
    })
    .filter(|nal| !nal.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nal_units_are_found_between_short_and_long_start_codes() {
        let stream = [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x65, 0x88];
        let found: Vec<&[u8]> = nal_units(&stream).collect();
        assert_eq!(found, [&[0x09, 0xf0][..], &[0x67, 1, 2], &[0x65, 0x88]]);
    }
}
