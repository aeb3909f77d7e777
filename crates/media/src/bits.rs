//! Reads headers bit by bit, and writes the numbers of varying length that several formats share.
//!
//! Decides nothing. Reading past the end gives `None`, never a made-up bit. Headers of H.264 and
//! H.265 have bytes to be skipped and numbers of their own: those are left to `h264-reader`.

/// Reads bits from the high one of each byte on.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits, at most 32; `None` past the end.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// The next bits, at most eight.
    pub(crate) fn u8(&mut self, count: u32) -> Option<u8> {
        u8::try_from(self.take(count)?).ok()
    }

    /// The next bit.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.take(1).map(|bit| bit == 1)
    }

    /// How many bits have been read.
    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    /// Goes to a bit, counted from the start.
    pub(crate) const fn seek(&mut self, at: usize) {
        self.at = at;
    }
}

/// Writes a number in LEB128, in the shortest form: seven bits a byte, the low ones first, the high
/// bit set in all bytes but the last.
pub(crate) fn write_leb128(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_high_one_first_and_end_where_the_bytes_end() {
        let mut bits = BitReader::new(&[0b1010_0000, 0xff]);
        assert_eq!((bits.take(3), bits.flag(), bits.u8(8)), (Some(5), Some(false), Some(0x0f)));
        assert_eq!((bits.position(), bits.take(5), bits.take(32)), (12, None, None));
    }
}
