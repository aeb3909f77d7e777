//! Movie fragments: where the samples of a `moof` box are, and when.
//!
//! Decides how many samples of one fragment are looked at. What is in them is left to
//! [`super::live`].

use bytes::Bytes;

use super::boxes::{Boxes, Fields, child};
use super::tables::Sample;

/// Most samples of one fragment; further ones are left out. A minute of eight tracks has about
/// 25,000.
pub(super) const MAX_SAMPLES: usize = 65_536;

/// Tracks that are looked at, in the index and in a fragment.
const MAX_TRACKS: usize = 256;

/// What a track's fragments need not say of each sample.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults {
    pub(super) number: u32,
    duration: u32,
    len: u32,
}

/// One track's part of a fragment.
#[derive(Debug)]
pub(super) struct Run {
    /// The track, as fragments call it.
    pub(super) number: u32,
    /// When the first sample is decoded, in the track's units; `None`: when the last one ended.
    pub(super) start: Option<i64>,
    /// Times count from the start.
    pub(super) samples: Vec<Sample>,
}

/// The defaults of every track: the `trex` boxes of an `mvex` box.
pub(super) fn read_defaults(extends: &Bytes) -> Vec<Defaults> {
    let read = |body: &Bytes| {
        let mut fields = Fields::new(body);
        fields.version()?;
        let number = fields.u32()?;
        fields.u32()?;
        Some(Defaults { number, duration: fields.u32()?, len: fields.u32()? })
    };
    Boxes::new(extends.clone())
        .filter(|found| found.name == *b"trex")
        .filter_map(|found| read(&found.body))
        .take(MAX_TRACKS)
        .collect()
}

/// The runs of a `moof` box that begins at `at`. A run that makes no sense is left out.
pub(super) fn read(body: &Bytes, at: u64, defaults: &[Defaults]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut room = MAX_SAMPLES;
    // Where the data of the track before ended: there the next begins if nothing else is said.
    let mut end = at;
    let parts = Boxes::new(body.clone()).filter(|found| found.name == *b"traf");
    for part in parts.take(MAX_TRACKS) {
        if let Some(run) = read_track(&part.body, at, &mut end, defaults, &mut room) {
            runs.push(run);
        }
    }
    runs
}

fn read_track(
    body: &Bytes,
    moof_at: u64,
    end: &mut u64,
    defaults: &[Defaults],
    room: &mut usize,
) -> Option<Run> {
    let header = child(body, b"tfhd")?;
    let mut fields = Fields::new(&header);
    let flags = fields.u32()?;
    let number = fields.u32()?;
    let known = defaults.iter().find(|known| known.number == number).copied().unwrap_or_default();
    let base = if flags & 1 != 0 {
        fields.u64()?
    } else if flags & 0x02_0000 != 0 {
        moof_at
    } else {
        *end
    };
    if flags & 2 != 0 {
        fields.u32()?;
    }
    let duration = if flags & 8 != 0 { fields.u32()? } else { known.duration };
    let len = if flags & 0x10 != 0 { fields.u32()? } else { known.len };

    let start = child(body, b"tfdt").and_then(|body| {
        let mut fields = Fields::new(&body);
        match fields.version()? {
            1 => i64::try_from(fields.u64()?).ok(),
            _ => fields.u32().map(i64::from),
        }
    });
    let mut run = Run { number, start, samples: Vec::new() };
    let (mut dts, mut next) = (0i64, base);
    for found in Boxes::new(body.clone()).filter(|found| found.name == *b"trun") {
        let mut fields = Fields::new(&found.body);
        let flags = fields.u32()?;
        let count = fields.u32()?;
        if flags & 1 != 0 {
            let offset = fields.u32()?.cast_signed();
            next = base.checked_add_signed(i64::from(offset))?;
        }
        if flags & 4 != 0 {
            fields.u32()?;
        }
        for _ in 0..count {
            if *room == 0 {
                break;
            }
            let duration = if flags & 0x100 != 0 { fields.u32()? } else { duration };
            let len = if flags & 0x200 != 0 { fields.u32()? } else { len };
            if flags & 0x400 != 0 {
                fields.u32()?;
            }
            // Signed in version 1, and taken so in version 0, as by others.
            let offset = if flags & 0x800 != 0 { fields.u32()?.cast_signed() } else { 0 };
            let (offset, duration) = (i64::from(offset), i64::from(duration));
            *room -= 1;
            if len > 0 {
                run.samples.push(Sample { at: next, len, dts, offset, duration });
            }
            next = next.checked_add(u64::from(len))?;
            dts = dts.checked_add(duration)?;
        }
    }
    *end = next;
    Some(run)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn full(name: &[u8; 4], flags: u32, numbers: &[u32]) -> Vec<u8> {
        let body: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        boxed(name, &[flags.to_be_bytes().as_slice(), &body].concat())
    }

    fn boxed(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(8 + body.len()).unwrap();
        [&len.to_be_bytes(), name.as_slice(), body].concat()
    }

    #[test]
    fn samples_lie_where_their_runs_say() {
        let first = [
            full(b"tfhd", 0x02_0008, &[1, 512]),
            full(b"tfdt", 0x0100_0000, &[0, 900]),
            full(b"trun", 0xa01, &[2, 100, 7, 5, 8, 0u32.wrapping_sub(3)]),
            full(b"trun", 0x200, &[1, 9]),
        ];
        // Without a base: behind the track before.
        let second = [full(b"tfhd", 0, &[2]), full(b"trun", 0, &[2])];
        let body = [boxed(b"traf", &first.concat()), boxed(b"traf", &second.concat())].concat();
        let defaults = [Defaults { number: 2, duration: 1024, len: 20 }];
        let runs = read(&body.into(), 1000, &defaults);
        let sample = |at, len, dts, offset, duration| Sample { at, len, dts, offset, duration };
        assert_eq!((runs[0].number, runs[0].start), (1, Some(900)));
        assert_eq!(
            runs[0].samples,
            [
                sample(1100, 7, 0, 5, 512),
                sample(1107, 8, 512, -3, 512),
                sample(1115, 9, 1024, 0, 512)
            ]
        );
        assert_eq!((runs[1].number, runs[1].start), (2, None));
        assert_eq!(
            runs[1].samples,
            [sample(1124, 20, 0, 0, 1024), sample(1144, 20, 1024, 0, 1024)]
        );
    }

    #[test]
    fn a_run_that_claims_too_much_is_cut_at_the_limit() {
        let part = [full(b"tfhd", 0x10, &[1, 1]), full(b"trun", 0, &[u32::MAX])].concat();
        let body = [boxed(b"traf", &part), boxed(b"traf", &part)].concat();
        let runs = read(&body.into(), 0, &[]);
        assert_eq!(runs.iter().map(|run| run.samples.len()).sum::<usize>(), MAX_SAMPLES);
    }
}
