//! Blocks: which track, when, and the frames that share one.
//!
//! Decides that a block whose lengths lie is none.

use bytes::Bytes;

use super::ebml::read_number;

/// Most frames of one block: their number is a byte.
const MAX_FRAMES: usize = 256;

/// A block without its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) track: u64,
    /// Relative to the cluster, in the segment's units.
    pub(super) time: i16,
}

/// Reads a block (RFC 9559, 10); `None` if it makes no sense.
pub(super) fn read(block: &Bytes) -> Option<(Head, Vec<Bytes>)> {
    let (track, len) = read_number(block).ok()??;
    let (head, body) = block.get(len..)?.split_first_chunk::<3>()?;
    let [t0, t1, flags] = *head;
    let head = Head { track: track?, time: i16::from_be_bytes([t0, t1]) };
    let sizes = match flags >> 1 & 3 {
        0 => return Some((head, vec![block.slice_ref(body)])),
        lacing => read_sizes(lacing, body)?,
    };
    let (mut rest, sizes) = sizes;
    let mut frames = Vec::with_capacity(sizes.len() + 1);
    for size in sizes {
        let (frame, tail) = rest.split_at_checked(size)?;
        frames.push(block.slice_ref(frame));
        rest = tail;
    }
    // What is left is the last one's.
    frames.push(block.slice_ref(rest));
    Some((head, frames))
}

/// The sizes of all laced frames but the last, and where the frames begin.
fn read_sizes(lacing: u8, body: &[u8]) -> Option<(&[u8], Vec<usize>)> {
    const XIPH: u8 = 1;
    const FIXED: u8 = 2;

    let (count, mut rest) = body.split_first()?;
    // The number of frames is one more.
    let count = usize::from(*count).min(MAX_FRAMES - 1);
    let mut sizes: Vec<usize> = Vec::with_capacity(count);
    if lacing == FIXED {
        let size = rest.len() / (count + 1);
        if size * (count + 1) != rest.len() {
            return None;
        }
        sizes.resize(count, size);
        return Some((rest, sizes));
    }
    for _ in 0..count {
        let size = if lacing == XIPH {
            let mut size = 0;
            loop {
                let (byte, tail) = rest.split_first()?;
                rest = tail;
                size += usize::from(*byte);
                if *byte != 0xff {
                    break size;
                }
            }
        } else {
            let (number, len) = read_number(rest).ok()??;
            rest = rest.get(len..)?;
            let number = i64::try_from(number?).ok()?;
            match sizes.last() {
                None => usize::try_from(number).ok()?,
                // A difference: as many bits below as above zero.
                Some(last) => {
                    let bias = (1i64 << (7 * u32::try_from(len).ok()? - 1)) - 1;
                    let size = i64::try_from(*last).ok()?.checked_add(number - bias)?;
                    usize::try_from(size).ok()?
                }
            }
        };
        sizes.push(size);
    }
    Some((rest, sizes))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn frames(block: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (_, frames) = read(&Bytes::copy_from_slice(block))?;
        Some(frames.into_iter().map(|frame| frame.to_vec()).collect())
    }

    #[test]
    fn a_block_without_lacing_is_one_frame() {
        let (head, found) = read(&Bytes::from_static(&[0x81, 0xff, 0xfe, 0x80, 1, 2])).unwrap();
        assert_eq!(head, Head { track: 1, time: -2 });
        assert_eq!(found, [&[1u8, 2][..]]);
    }

    #[test]
    fn laced_frames_come_apart() {
        let expected = Some(vec![vec![1; 3], vec![2; 5], vec![3; 4]]);
        let data = [[1; 3].as_slice(), &[2; 5], &[3; 4]].concat();
        let block = |flags: u8, sizes: &[u8]| [&[0x81, 0, 0, flags, 2], sizes, &data].concat();
        assert_eq!(frames(&block(2, &[3, 5])), expected);
        // Sizes 3, then two more: 63 is zero.
        assert_eq!(frames(&block(6, &[0x83, 0x80 | 65])), expected);
        let fixed = [&[0x81, 0, 0, 4, 1][..], &[1, 2, 3, 4]].concat();
        assert_eq!(frames(&fixed), Some(vec![vec![1, 2], vec![3, 4]]));
        let long = [&[0x81, 0, 0, 2, 1, 255, 1][..], &[7; 256], &[8]].concat();
        assert_eq!(frames(&long), Some(vec![vec![7; 256], vec![8]]));
    }

    #[test]
    fn lacing_that_lies_is_no_block() {
        assert_eq!(frames(&[0x81, 0, 0, 2, 2, 3, 5, 1]), None);
        assert_eq!(frames(&[0x81, 0, 0, 6, 2, 0x81, 0x80, 1]), None);
        assert_eq!(frames(&[0x81, 0, 0, 4, 1, 1, 2, 3]), None);
        assert_eq!(frames(&[0x81, 0, 0]), None);
        assert_eq!(frames(&[]), None);
    }
}
