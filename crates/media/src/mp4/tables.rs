//! The sample tables of a track: where each sample is, and when.
//!
//! Decides nothing about the samples' content. The tables stay as they are in the file and are read
//! entry by entry, so they take no memory beyond the file's index, whatever they claim to hold.

use bytes::{Buf, Bytes};

use super::boxes::{Fields, child};
use crate::error::Mp4Error;

/// One sample of a track. Times are in the track's units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Where it is in the file.
    pub(super) at: u64,
    /// Bytes: at least one.
    pub(super) len: u32,
    pub(super) dts: i64,
    /// From `dts` to when it is shown.
    pub(super) offset: i64,
    pub(super) duration: i64,
}

/// All samples of a track, in decoding order.
#[derive(Debug)]
pub(super) struct SampleTable {
    tables: Tables,
    cursor: Tables,
    dts: i64,
    duration: Run,
    composition: Run,
    /// The chunk the next sample is in, from 1.
    chunk: u32,
    chunk_at: u64,
    left_in_chunk: u32,
    samples_per_chunk: u32,
}

/// A value and how many more samples have it.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    left: u32,
    value: u32,
}

/// What is left of each table's entries.
#[derive(Clone, Debug)]
struct Tables {
    durations: Bytes,
    compositions: Bytes,
    sizes: Sizes,
    chunk_runs: Bytes,
    chunks: Bytes,
    are_chunks_long: bool,
}

#[derive(Clone, Debug)]
enum Sizes {
    Same { len: u32, left: u32 },
    Each(Bytes),
}

impl SampleTable {
    /// Reads an `stbl` box.
    pub(super) fn read(table: &Bytes) -> Result<Self, Mp4Error> {
        let required = |name: &[u8; 4]| {
            entries(table, name).ok_or(Mp4Error::Malformed("a sample table is missing"))
        };
        if child(table, b"stz2").is_some() {
            return Err(Mp4Error::Unsupported("a compact table of sample sizes"));
        }
        let sizes = child(table, b"stsz").and_then(|body| read_sizes(&body));
        let (chunks, are_chunks_long) = match entries(table, b"co64") {
            Some(chunks) => (chunks, true),
            None => (required(b"stco")?, false),
        };
        let tables = Tables {
            durations: required(b"stts")?,
            compositions: entries(table, b"ctts").unwrap_or_default(),
            sizes: sizes.ok_or(Mp4Error::Malformed("a table of sample sizes is missing"))?,
            chunk_runs: required(b"stsc")?,
            chunks,
            are_chunks_long,
        };
        let mut table = Self {
            cursor: tables.clone(),
            tables,
            dts: 0,
            duration: Run::default(),
            composition: Run::default(),
            chunk: 0,
            chunk_at: 0,
            left_in_chunk: 0,
            samples_per_chunk: 0,
        };
        table.rewind();
        Ok(table)
    }

    /// Goes back to the first sample.
    pub(super) fn rewind(&mut self) {
        self.cursor = self.tables.clone();
        self.dts = 0;
        self.duration = Run::default();
        self.composition = Run::default();
        self.chunk = 0;
        self.left_in_chunk = 0;
        self.samples_per_chunk = 0;
    }

    /// How far decode times have to move back so that nothing is shown before it is decoded.
    pub(super) fn reorder(&self) -> i64 {
        let (offsets, _) = self.tables.compositions.as_chunks::<8>();
        let lowest = offsets
            .iter()
            .map(|[.., o0, o1, o2, o3]| i64::from(i32::from_be_bytes([*o0, *o1, *o2, *o3])));
        lowest.min().unwrap_or(0).min(0).saturating_neg()
    }

    /// The next sample that has any bytes. A table that ends early ends the track.
    pub(super) fn next(&mut self) -> Option<Sample> {
        loop {
            let sample = self.advance()?;
            if sample.len > 0 {
                return Some(sample);
            }
        }
    }

    fn advance(&mut self) -> Option<Sample> {
        let len = match &mut self.cursor.sizes {
            Sizes::Same { left: 0, .. } => return None,
            Sizes::Same { len, left } => {
                *left -= 1;
                *len
            }
            Sizes::Each(sizes) => next_u32(sizes)?,
        };
        if self.left_in_chunk == 0 {
            self.next_chunk()?;
        }
        self.left_in_chunk -= 1;
        let at = self.chunk_at;
        self.chunk_at = at.checked_add(u64::from(len))?;

        let duration = i64::from(self.duration.next(&mut self.cursor.durations));
        // Offsets are signed in version 1 of the table, and taken so in version 0, as by others.
        let offset = self.composition.next(&mut self.cursor.compositions).cast_signed();
        let dts = self.dts;
        self.dts = dts.checked_add(duration)?;
        Some(Sample { at, len, dts, offset: i64::from(offset), duration })
    }

    fn next_chunk(&mut self) -> Option<()> {
        // A chunk without samples would be one too many; a run of them must end.
        while self.left_in_chunk == 0 {
            self.chunk = self.chunk.checked_add(1)?;
            self.chunk_at = if self.cursor.are_chunks_long {
                self.cursor.chunks.try_get_u64().ok()?
            } else {
                u64::from(next_u32(&mut self.cursor.chunks)?)
            };
            // A run: first chunk, samples per chunk, sample description.
            while let Some([first, count, _]) = peek_run(&self.cursor.chunk_runs)
                && first <= self.chunk
            {
                self.samples_per_chunk = count;
                self.cursor.chunk_runs.advance(12);
            }
            self.left_in_chunk = self.samples_per_chunk;
        }
        Some(())
    }
}

impl Run {
    /// The next sample's value: of this run, of the next, or when there are no more, of the last.
    fn next(&mut self, runs: &mut Bytes) -> u32 {
        while self.left == 0 {
            let (Some(left), Some(value)) = (next_u32(runs), next_u32(runs)) else {
                return self.value;
            };
            *self = Self { left, value };
        }
        self.left -= 1;
        self.value
    }
}

fn next_u32(entries: &mut Bytes) -> Option<u32> {
    entries.try_get_u32().ok()
}

fn peek_run(runs: &Bytes) -> Option<[u32; 3]> {
    let mut fields = Fields::new(runs);
    Some([fields.u32()?, fields.u32()?, fields.u32()?])
}

/// The entries of a full box that begins with their number. The number is not needed: the entries
/// end where the box ends. One that says less than it has is believed, for boxes may be padded.
fn entries(table: &Bytes, name: &[u8; 4]) -> Option<Bytes> {
    let body = child(table, name)?;
    let mut fields = Fields::new(&body);
    fields.version()?;
    let count = usize::try_from(fields.u32()?).ok()?;
    let size = match name {
        b"stsc" => 12,
        b"stco" => 4,
        _ => 8,
    };
    let len = count.saturating_mul(size).min(fields.rest().len());
    Some(body.slice(8..8 + len))
}

fn read_sizes(body: &Bytes) -> Option<Sizes> {
    let mut fields = Fields::new(body);
    fields.version()?;
    let (len, count) = (fields.u32()?, fields.u32()?);
    if len > 0 {
        return Some(Sizes::Same { len, left: count });
    }
    let bytes = usize::try_from(count).ok()?.saturating_mul(4).min(fields.rest().len());
    Some(Sizes::Each(body.slice(12..12 + bytes)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn full_box(name: &[u8; 4], numbers: &[u32]) -> Vec<u8> {
        let len = u32::try_from(12 + 4 * numbers.len()).unwrap();
        let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
        len.to_be_bytes().into_iter().chain(*name).chain([0; 4]).chain(numbers).collect()
    }

    fn table(boxes: &[(&[u8; 4], &[u32])]) -> Bytes {
        boxes.iter().flat_map(|(name, numbers)| full_box(name, numbers)).collect::<Vec<_>>().into()
    }

    #[test]
    fn samples_are_found_in_their_chunks() {
        let bytes = table(&[
            (b"stts", &[2, 2, 10, 1, 20]),
            (b"ctts", &[2, 1, 5, 2, 0u32.wrapping_sub(3)]),
            (b"stsz", &[0, 3, 7, 8, 9]),
            (b"stsc", &[2, 1, 2, 1, 2, 1, 1]),
            (b"stco", &[2, 100, 500]),
        ]);
        let mut samples = SampleTable::read(&bytes).unwrap();
        assert_eq!(samples.reorder(), 3);
        for _ in 0..2 {
            let all: Vec<_> = std::iter::from_fn(|| samples.next()).collect();
            let sample = |at, len, dts, offset, duration| Sample { at, len, dts, offset, duration };
            assert_eq!(
                all,
                [sample(100, 7, 0, 5, 10), sample(107, 8, 10, -3, 10), sample(500, 9, 20, -3, 20),]
            );
            samples.rewind();
        }
    }

    #[test]
    fn tables_that_claim_too_much_end_where_they_end() {
        let bytes = table(&[
            (b"stts", &[u32::MAX, u32::MAX, u32::MAX]),
            (b"stsz", &[0, u32::MAX, 7, 8]),
            (b"stsc", &[u32::MAX, 1, u32::MAX, 1]),
            (b"stco", &[u32::MAX, 100]),
        ]);
        let mut samples = SampleTable::read(&bytes).unwrap();
        assert_eq!(std::iter::from_fn(|| samples.next()).count(), 2);
    }

    #[test]
    fn chunks_without_samples_end_the_track() {
        let bytes = table(&[
            (b"stts", &[0]),
            (b"stsz", &[5, 100]),
            (b"stsc", &[1, 1, 0, 1]),
            (b"stco", &[3, 1, 2, 3]),
        ]);
        assert_eq!(SampleTable::read(&bytes).unwrap().next(), None);
    }

    #[test]
    fn a_missing_table_is_an_error() {
        let bytes = table(&[(b"stts", &[0]), (b"stsc", &[0]), (b"stco", &[0])]);
        assert!(matches!(SampleTable::read(&bytes), Err(Mp4Error::Malformed(_))));
    }
}
