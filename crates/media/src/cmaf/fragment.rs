//! A fragment: `moof`, which says when each sample is shown, and `mdat`, which holds them.
//!
//! Decides the boxes. Which samples go together is left to [`super`], how long each lasts to
//! [`super::timing`].

use bytes::Bytes;

use super::boxes::{patch, put_box, put_count, put_full_box, put_u32, put_u64};
use crate::access_unit::Priority;

/// `tfhd`: data offsets count from the `moof`.
const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;

/// `trun`: an offset, and for each sample its duration, size, flags and composition offset.
const TRUN_FIELDS: u32 = 0x00_0001 | 0x00_0100 | 0x00_0200 | 0x00_0400 | 0x00_0800;

/// Sample flags: others are not needed.
const SYNC: u32 = 0x0200_0000;
/// Sample flags: others are needed, and decoding cannot begin here.
const DEPENDS: u32 = 0x0101_0000;
/// Sample flags: no other sample needs this one.
const DISPOSABLE: u32 = 0x0080_0000;

/// One sample of a fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Ticks until the next.
    pub(super) duration: u32,
    /// Ticks from decoding to showing; may be negative.
    pub(super) composition: i32,
    pub(super) len: usize,
    pub(super) flags: u32,
}

/// The samples of one track in a fragment.
#[derive(Debug)]
pub(super) struct Run {
    /// The track's number in the init segment.
    pub(super) number: u32,
    /// When the first is decoded, in the track's ticks.
    pub(super) decode_time: u64,
    pub(super) samples: Vec<Sample>,
    /// Their bytes, one after the other.
    pub(super) data: Vec<u8>,
}

/// The flags of a unit's sample.
pub(super) const fn flags(random_access: bool, priority: Priority) -> u32 {
    match (random_access, priority) {
        (true, _) => SYNC,
        (false, Priority::Droppable) => DEPENDS | DISPOSABLE,
        (false, Priority::Key | Priority::Audio | Priority::Reference) => DEPENDS,
    }
}

/// Writes a fragment. Runs without samples are left out.
pub(super) fn write(sequence: u32, runs: &[Run]) -> Bytes {
    let runs = || runs.iter().filter(|run| !run.samples.is_empty());
    let payload: usize = runs().map(|run| run.data.len()).sum();
    let described: usize = runs().map(|run| 128 + 16 * run.samples.len()).sum();
    let mut out = Vec::with_capacity(payload + described + 128);
    put_box(&mut out, *b"styp", |out| {
        out.extend(b"msdh");
        put_u32(out, 0);
        out.extend(b"msdh");
        out.extend(b"iso6");
    });
    let moof = out.len();
    let mut offsets = Vec::new();
    put_box(&mut out, *b"moof", |out| {
        put_full_box(out, *b"mfhd", 0, 0, |out| put_u32(out, sequence));
        for run in runs() {
            put_box(out, *b"traf", |out| {
                put_full_box(out, *b"tfhd", 0, DEFAULT_BASE_IS_MOOF, |out| {
                    put_u32(out, run.number);
                });
                put_full_box(out, *b"tfdt", 1, 0, |out| put_u64(out, run.decode_time));
                // Version 1: composition offsets have a sign.
                put_full_box(out, *b"trun", 1, TRUN_FIELDS, |out| {
                    put_count(out, run.samples.len());
                    offsets.push(out.len());
                    put_u32(out, 0);
                    for sample in &run.samples {
                        put_u32(out, sample.duration);
                        put_count(out, sample.len);
                        put_u32(out, sample.flags);
                        out.extend(sample.composition.to_be_bytes());
                    }
                });
            });
        }
    });
    // Behind the head of the box that follows.
    let mut offset = out.len() - moof + 8;
    for (at, run) in offsets.into_iter().zip(runs()) {
        patch(&mut out, at, u32::try_from(offset).unwrap_or(0));
        offset += run.data.len();
    }
    put_box(&mut out, *b"mdat", |out| {
        runs().for_each(|run| out.extend_from_slice(&run.data));
    });
    out.into()
}
