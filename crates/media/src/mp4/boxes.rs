//! Boxes: the nested `length, name, body` of ISO/IEC 14496-12.
//!
//! Decides nothing. A box that claims to be longer than what holds it ends where that ends. Bodies
//! are parts of one buffer, never copies.

use bytes::{Buf, Bytes};

/// A box in memory.
#[derive(Debug)]
pub(super) struct FoundBox {
    pub(super) name: [u8; 4],
    pub(super) body: Bytes,
}

/// The boxes that stand one after the other in a body.
#[derive(Debug)]
pub(super) struct Boxes(Bytes);

impl Boxes {
    pub(super) fn new(body: Bytes) -> Self {
        Self(body)
    }
}

impl Iterator for Boxes {
    type Item = FoundBox;

    fn next(&mut self) -> Option<FoundBox> {
        if self.0.len() < 8 {
            return None;
        }
        let mut head = [0; 16];
        for (to, from) in head.iter_mut().zip(&self.0) {
            *to = *from;
        }
        let left = u64::try_from(self.0.len()).unwrap_or(u64::MAX);
        let (name, header_len, len) = read_header(head, left);
        let len = usize::try_from(len.min(left)).ok()?;
        let header_len = usize::try_from(header_len).ok()?;
        if len < header_len {
            return None;
        }
        let mut body = self.0.split_to(len);
        body.advance(header_len);
        Some(FoundBox { name, body })
    }
}

/// Reads a box's header: name, length of the header, length of the box. `left` is how much there is,
/// which is the length of a box that does not say.
pub(super) fn read_header(head: [u8; 16], left: u64) -> ([u8; 4], u64, u64) {
    let [s0, s1, s2, s3, n0, n1, n2, n3, long @ ..] = head;
    let name = [n0, n1, n2, n3];
    match u32::from_be_bytes([s0, s1, s2, s3]) {
        0 => (name, 8, left),
        1 => (name, 16, u64::from_be_bytes(long)),
        len => (name, 8, u64::from(len)),
    }
}

/// The first box of that name in a body.
pub(super) fn child(body: &Bytes, name: &[u8; 4]) -> Option<Bytes> {
    Boxes::new(body.clone()).find(|found| found.name == *name).map(|found| found.body)
}

/// Reads the fields of a body one after the other.
#[derive(Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// The version of a full box; its flags are skipped.
    pub(super) fn version(&mut self) -> Option<u8> {
        self.take::<4>().map(|[version, ..]| version)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn skip(&mut self, len: usize) -> Option<()> {
        self.bytes(len).map(|_| ())
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    /// What has not been read.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_ends_where_its_holder_ends() {
        let body = Bytes::from_static(b"\0\0\0\x0afreeab\xff\xff\xff\xffmoovcd");
        let found: Vec<_> = Boxes::new(body).map(|found| (found.name, found.body)).collect();
        assert_eq!(
            found,
            [(*b"free", Bytes::from_static(b"ab")), (*b"moov", Bytes::from_static(b"cd"))]
        );
    }

    #[test]
    fn a_box_shorter_than_its_header_ends_the_walk() {
        assert_eq!(Boxes::new(Bytes::from_static(b"\0\0\0\x04freeabcd")).count(), 0);
        let long = Bytes::from_static(b"\0\0\0\x01free\0\0\0\0\0\0\0\x12ab");
        assert_eq!(child(&long, b"free"), Some(Bytes::from_static(b"ab")));
    }
}
