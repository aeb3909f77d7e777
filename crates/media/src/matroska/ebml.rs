//! EBML: the elements of Matroska, `id, size, body` (RFC 8794).
//!
//! Decides nothing. Elements that claim to be longer than what holds them end where that ends.

/// The header of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// With the marker bits, as in the tables of RFC 9559.
    pub(super) id: u32,
    /// Bytes of the header itself.
    pub(super) len: usize,
    /// Bytes of the body; `None` if it does not say.
    pub(super) size: Option<u64>,
}

/// Longest header: four bytes of id, eight of size.
pub(super) const MAX_HEADER: usize = 12;

/// Reads an element's header. `Ok(None)` if it is cut off, `Err` if it is none.
pub(super) fn read_header(bytes: &[u8]) -> Result<Option<Header>, NotEbml> {
    let Some(first) = bytes.first() else { return Ok(None) };
    let id_len = usize::try_from(first.leading_zeros()).unwrap_or(8) + 1;
    if id_len > 4 {
        return Err(NotEbml);
    }
    let Some((id, rest)) = bytes.split_at_checked(id_len) else { return Ok(None) };
    let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    match read_number(rest) {
        Ok(Some((size, size_len))) => Ok(Some(Header { id, len: id_len + size_len, size })),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a number of variable length, and its length in bytes. All ones mean that it is not known.
pub(super) fn read_number(bytes: &[u8]) -> Result<Option<(Option<u64>, usize)>, NotEbml> {
    let Some(first) = bytes.first() else { return Ok(None) };
    let len = usize::try_from(first.leading_zeros()).unwrap_or(8) + 1;
    if len > 8 {
        return Err(NotEbml);
    }
    let Some(digits) = bytes.get(..len) else { return Ok(None) };
    let value = digits.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    let bits = 7 * u32::try_from(len).unwrap_or(8);
    let mask = (1u64 << bits) - 1;
    let value = value & mask;
    Ok(Some(((value != mask).then_some(value), len)))
}

/// The bytes are no EBML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotEbml;

/// The elements in a body, as far as it makes sense.
pub(super) fn elements(mut rest: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let header = read_header(rest).ok()??;
        let body = rest.get(header.len..)?;
        let len = header.size.and_then(|size| usize::try_from(size).ok()).unwrap_or(body.len());
        let (body, tail) = body.split_at(len.min(body.len()));
        rest = tail;
        Some((header.id, body))
    })
}

/// The first element of that id in a body.
pub(super) fn child(body: &[u8], id: u32) -> Option<&[u8]> {
    elements(body).find_map(|(found, body)| (found == id).then_some(body))
}

/// An unsigned integer.
pub(super) fn unsigned(body: &[u8]) -> Option<u64> {
    (body.len() <= 8).then(|| body.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// A floating point number, as a whole one.
pub(super) fn rounded_float(body: &[u8]) -> Option<u32> {
    let value = match body.len() {
        4 => f64::from(f32::from_be_bytes(body.try_into().ok()?)),
        8 => f64::from_be_bytes(body.try_into().ok()?),
        _ => return None,
    };
    // The range is checked, so nothing is cut off.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    (0.0..=4e9).contains(&value).then(|| value.round() as u32)
}

/// A text, without the zeros that may follow it.
pub(super) fn text(body: &[u8]) -> String {
    let end = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
    String::from_utf8_lossy(body.get(..end).unwrap_or(&[])).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_whole_or_not_at_all() {
        let header = |id, len, size| Ok(Some(Header { id, len, size }));
        assert_eq!(read_header(&[0xa3, 0x85, 1]), header(0xa3, 2, Some(5)));
        assert_eq!(
            read_header(&[0x1a, 0x45, 0xdf, 0xa3, 0x40, 2]),
            header(0x1a45_dfa3, 6, Some(2))
        );
        assert_eq!(
            read_header(&[0x1f, 0x43, 0xb6, 0x75, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            header(0x1f43_b675, 12, None)
        );
        assert_eq!(read_header(&[0xa3, 0xff]), header(0xa3, 2, None));
        for part in [&[][..], &[0x1a, 0x45], &[0xa3], &[0xa3, 0x40]] {
            assert_eq!(read_header(part), Ok(None));
        }
        assert_eq!(read_header(&[0x08]), Err(NotEbml));
        assert_eq!(read_header(&[0xa3, 0]), Err(NotEbml));
    }

    #[test]
    fn an_element_ends_where_its_holder_ends() {
        let body = [0xd7, 0x81, 7, 0x83, 0x90, 1];
        let found: Vec<_> = elements(&body).collect();
        assert_eq!(found, [(0xd7, &[7][..]), (0x83, &[1])]);
        assert_eq!(child(&body, 0x83), Some(&[1][..]));
    }

    #[test]
    fn numbers_are_read_in_any_length() {
        assert_eq!(
            (unsigned(&[]), unsigned(&[1, 0]), unsigned(&[0; 9])),
            (Some(0), Some(256), None)
        );
        assert_eq!(rounded_float(&48_000f32.to_be_bytes()), Some(48_000));
        assert_eq!(rounded_float(&44_100f64.to_be_bytes()), Some(44_100));
        assert_eq!((rounded_float(&f64::NAN.to_be_bytes()), rounded_float(&[1])), (None, None));
        assert_eq!(text(b"V_AV1\0\0"), "V_AV1");
    }
}
