//! An input in pieces, as a socket delivers it.
//!
//! Decides how long the pieces are: the input's own last bytes say, so the same input is always cut in
//! the same way, a mutation elsewhere leaves the cuts as they are, and any file is an input as it is.

/// Bytes at the end of an input that say how it is cut.
const SEED_BYTES: usize = 4;

/// Cuts `input`. The longest pieces are of 4 KiB, most are far shorter.
pub(crate) fn pieces(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let seed = input.last_chunk::<SEED_BYTES>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let mut state = seed;
    let mut rest = input;
    std::iter::from_fn(move || {
        // A linear congruential generator; its high bits are the good ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let longest = 1 << (state >> 28).min(12);
        let length = 1 + (state >> 8) as usize % longest;
        let piece = rest.split_off(..length.min(rest.len()))?;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_input_in_order() {
        let input: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        assert!(pieces(&input).count() > 5);
        assert_eq!(pieces(&input).collect::<Vec<_>>().concat(), input);
        assert_eq!(pieces(&[]).count(), 0);
    }
}
