//! `coding`: how fast generations are coded and put together, beside the bare Reed–Solomon library on
//! the same bytes.
//!
//! ```text
//!   ours      a generation's layers ─▶ chunks of K descriptions      chunks ─▶ layers
//!   library   whole shards of each layer ─▶ parity                   shards ─▶ the lost ones
//! ```
//!
//! Decides the generations and what is lost of them. The two are measured in turn, on one thread, in
//! its own processor time, so that a busy machine slows both; a ratio is that of medians.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, ensure};
use banyan_coding::thresholds;
use banyan_coding::{Assembler, Encoded, Layer, chunk_length_for, description_length, encode};
use banyan_wire::StripeCount;
use bytes::Bytes;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use rustix::time::{ClockId, clock_gettime};

use crate::payload::{GENERATION, Noise};
use crate::report::{Column, Report};
use crate::units::Bitrate;

/// K.
const STRIPES: StripeCount = StripeCount::DEFAULT;
/// The base's share of a programme: sound and key pictures, or sound and the low rendition.
const BASE_SHARE: f64 = 0.15;
/// A sample is of as many calls as take this long.
const SAMPLE: Duration = Duration::from_millis(2);
/// What decoding may take, as a multiple of the library's time.
const DECODE_GOAL: f64 = 1.25;
/// What encoding may take.
const ENCODE_GOAL: f64 = 1.5;

/// Settings of the bench.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Rates of the programme before coding.
    #[arg(long, value_delimiter = ',', default_value = "1.5Mbit,5Mbit,20Mbit")]
    rates: Vec<Bitrate>,
    /// Samples of each figure.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    samples: u32,
}

/// One generation and what is lost of it.
struct Case {
    layers: Vec<Layer>,
    encoded: Encoded,
    /// 13 descriptions, the first data shards lost.
    worst: Assembler,
    /// All data shards.
    whole: Assembler,
}

/// The library's work on one layer.
struct LibraryLayer {
    shards: Vec<Bytes>,
    parity: Vec<Bytes>,
    /// How many of the first shards are lost.
    lost: usize,
    encoder: ReedSolomonEncoder,
    decoder: ReedSolomonDecoder,
}

/// Measures every generation.
pub(crate) fn measure(options: &Options) -> Result<Report> {
    let title = format!(
        "coding: generations of {} ms, K = {}, {} samples; MB/s of programme on one core",
        GENERATION.as_millis(),
        STRIPES.value(),
        options.samples
    );
    let columns = [
        Column { name: "kB", decimals: 1 },
        Column { name: "encode us", decimals: 0 },
        Column { name: "encode MB/s", decimals: 0 },
        Column { name: "library's", decimals: 0 },
        Column { name: "encode x", decimals: 2 },
        Column { name: "decode us", decimals: 0 },
        Column { name: "decode MB/s", decimals: 0 },
        Column { name: "the library's", decimals: 0 },
        Column { name: "decode x", decimals: 2 },
        Column { name: "none lost us", decimals: 0 },
        Column { name: "rebuild us", decimals: 0 },
    ];
    let mut report = Report::new(title, &columns);
    let (mut encoding, mut decoding) = (0.0f64, 0.0f64);
    let schemes = [
        ("single", vec![thresholds::single(STRIPES)]),
        ("priority", thresholds::priority(STRIPES).to_vec()),
        ("ladder", thresholds::ladder(STRIPES).to_vec()),
    ];
    for rate in &options.rates {
        for (name, thresholds) in &schemes {
            let case = Case::new(*rate, thresholds)?;
            let mut library = case.library()?;
            let bytes = case.layers.iter().map(|layer| layer.data.len()).sum::<usize>() as f64;
            let mut second = case.library()?;
            let count = case.layers.len();
            let [encode_ours, encode_theirs, decode_ours, decode_theirs, whole, rebuild] = in_turn(
                options.samples,
                [
                    &mut || drop(black_box(case.encode())),
                    &mut || library.iter_mut().for_each(LibraryLayer::encode),
                    &mut || (0..count).for_each(|l| drop(black_box(case.worst.layer(l)))),
                    &mut || second.iter_mut().for_each(LibraryLayer::decode),
                    &mut || (0..count).for_each(|l| drop(black_box(case.whole.layer(l)))),
                    &mut || drop(black_box(case.worst.rebuild())),
                ],
            );
            let speed = |time: f64| Some(bytes / time / 1e6);
            let micros = |time: f64| Some(time * 1e6);
            encoding = encoding.max(encode_ours / encode_theirs);
            decoding = decoding.max(decode_ours / decode_theirs);
            report.row(
                format!("{name} {rate}"),
                vec![
                    Some(bytes / 1e3),
                    micros(encode_ours),
                    speed(encode_ours),
                    speed(encode_theirs),
                    Some(encode_ours / encode_theirs),
                    micros(decode_ours),
                    speed(decode_ours),
                    speed(decode_theirs),
                    Some(decode_ours / decode_theirs),
                    micros(whole),
                    micros(rebuild),
                ],
            );
        }
    }
    report.goal("encoding, time of the library's", encoding, ENCODE_GOAL);
    report.goal("decoding, time of the library's", decoding, DECODE_GOAL);
    report.note("x: our time as a multiple of the library's");
    report
        .note("decode: 3 of 16 descriptions lost, all of them data; rebuild: all 16 from those 13");
    report.note(
        "library: whole shards, its coders kept from call to call, results left in its memory",
    );
    Ok(report)
}

impl Case {
    fn new(rate: Bitrate, thresholds: &[u8]) -> Result<Self> {
        let length = rate.bytes_in(GENERATION);
        let base =
            if thresholds.len() > 1 { rate.times(BASE_SHARE).bytes_in(GENERATION) } else { 0 };
        let lengths = if base > 0 { vec![base, length - base] } else { vec![length] };
        let mut noise = Noise::new();
        let layers: Vec<Layer> = thresholds
            .iter()
            .zip(lengths)
            .map(|(threshold, length)| Layer { threshold: *threshold, data: noise.take(length) })
            .collect();
        let encoded = encode(STRIPES, chunk_length_for(description_length(&layers)), &layers)?;
        let lost = STRIPES.value() - thresholds::single(STRIPES);
        let (worst, whole) = (without(&encoded, 0..lost), without(&encoded, 0..0));
        let case = Self { layers, encoded, worst, whole };
        for (index, layer) in case.layers.iter().enumerate() {
            ensure!(case.worst.layer(index).as_ref() == Some(&layer.data), "decoded wrongly");
        }
        Ok(case)
    }

    fn encode(&self) -> Option<Encoded> {
        encode(STRIPES, self.encoded.layout.chunk_length(), &self.layers).ok()
    }

    fn library(&self) -> Result<Vec<LibraryLayer>> {
        let lost = usize::from(STRIPES.value() - thresholds::single(STRIPES));
        let layers = self.layers.iter().enumerate();
        layers
            .map(|(index, layer)| {
                let threshold = usize::from(layer.threshold);
                let length = self.encoded.layout.shard_length(index);
                LibraryLayer::new(&layer.data, threshold, length, lost)
            })
            .collect()
    }
}

impl LibraryLayer {
    fn new(data: &Bytes, threshold: usize, length: usize, lost: usize) -> Result<Self> {
        let mut padded = data.to_vec();
        padded.resize(threshold * length, 0);
        let shards: Vec<Bytes> = padded.chunks(length).map(Bytes::copy_from_slice).collect();
        let parity = STRIPES.len() - threshold;
        let encoder = ReedSolomonEncoder::new(threshold, parity, length)?;
        let decoder = ReedSolomonDecoder::new(threshold, parity, length)?;
        let mut layer = Self { shards, parity: Vec::new(), lost, encoder, decoder };
        for shard in &layer.shards {
            layer.encoder.add_original_shard(shard)?;
        }
        layer.parity =
            layer.encoder.encode()?.recovery_iter().map(Bytes::copy_from_slice).collect();
        layer.decode();
        Ok(layer)
    }

    fn encode(&mut self) {
        for shard in &self.shards {
            self.encoder.add_original_shard(shard).expect("shards of one length");
        }
        black_box(self.encoder.encode().expect("all shards").recovery(0).map(<[u8]>::len));
    }

    /// From as many shards as it takes: the data that are left, then parity.
    fn decode(&mut self) {
        for (index, shard) in self.shards.iter().enumerate().skip(self.lost) {
            self.decoder.add_original_shard(index, shard).expect("shards of one length");
        }
        for (index, shard) in self.parity.iter().enumerate().take(self.lost) {
            self.decoder.add_recovery_shard(index, shard).expect("shards of one length");
        }
        let restored = self.decoder.decode().expect("enough shards");
        black_box(restored.restored_original(0).map(<[u8]>::len));
    }
}

/// The medians of what one call of each takes, in seconds; they are called in turn.
fn in_turn<const N: usize>(samples: u32, mut works: [&mut dyn FnMut(); N]) -> [f64; N] {
    let calls: Vec<u32> = works
        .iter_mut()
        .map(|work| {
            let mut calls = 0;
            let began = thread_cpu();
            while thread_cpu() - began < SAMPLE {
                work();
                calls += 1;
            }
            calls
        })
        .collect();
    let mut times = vec![Vec::new(); N];
    for _ in 0..samples {
        for ((work, calls), times) in works.iter_mut().zip(&calls).zip(&mut times) {
            let began = thread_cpu();
            (0..*calls).for_each(|_| work());
            times.push((thread_cpu() - began).as_secs_f64() / f64::from(*calls));
        }
    }
    std::array::from_fn(|index| median(&mut times[index]))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// What arrives where some descriptions are lost.
fn without(encoded: &Encoded, lost: std::ops::Range<u8>) -> Assembler {
    let mut assembler = Assembler::new(encoded.layout.clone());
    for stripe in encoded.layout.stripes().iter().filter(|stripe| !lost.contains(&stripe.0)) {
        for (index, chunk) in encoded.chunks[stripe.index()].iter().enumerate() {
            assembler.insert(stripe, index, chunk.clone());
        }
    }
    assembler
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_have_the_rate_and_come_back_whole() -> Result<()> {
        for thresholds in [vec![13], vec![11, 13], vec![6, 13]] {
            let case = Case::new(Bitrate(1_500_000), &thresholds)?;
            let bytes: usize = case.layers.iter().map(|layer| layer.data.len()).sum();
            assert_eq!(bytes, 93_750);
            assert_eq!(case.worst.complete_descriptions(), 13);
            assert!(case.worst.rebuild().is_some_and(|encoded| encoded == case.encoded));
        }
        Ok(())
    }

    #[test]
    fn the_library_s_parity_is_what_is_sent() -> Result<()> {
        let case = Case::new(Bitrate(1_500_000), &[6, 13])?;
        let mut first = 0;
        for (index, library) in case.library()?.iter().enumerate() {
            let threshold = usize::from(case.layers[index].threshold);
            let chunks = case.encoded.layout.chunks_of_layer(index);
            assert_eq!(chunks.start, first);
            first = chunks.end;
            for (parity, sent) in library.parity.iter().zip(&case.encoded.chunks[threshold..]) {
                assert_eq!(parity, &sent[chunks.clone()].concat());
            }
        }
        Ok(())
    }

    #[test]
    fn the_median_is_no_outlier() {
        assert!((median(&mut [9.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
    }
}
