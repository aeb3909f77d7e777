//! Generations of 500 ms, coded and put together: MB/s of programme on one core, and how long one
//! takes. Beside each stands the Reed–Solomon library called directly on whole shards of the same
//! layers. `banyan-bench coding` measures the two in turn and prints their ratio.
//!
//! Decoding is with three descriptions lost, all of them data: as many as 13 of 16 can bear. "Low
//! rendition only" is with ten lost, of which no data shard of the base is left.

use std::hint::black_box;
use std::time::Duration;

use banyan_coding::{
    Assembler, Encoded, Layer, chunk_length_for, description_length, encode, thresholds,
};
use banyan_wire::{StripeCount, StripeId};
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

const STRIPES: StripeCount = StripeCount::DEFAULT;
/// Bits per second of a programme before coding.
const RATES: [(&str, usize); 3] =
    [("1.5 Mbit", 1_500_000), ("5 Mbit", 5_000_000), ("20 Mbit", 20_000_000)];
/// Generations per second.
const PER_SECOND: usize = 2;
/// One byte in this many is of the base: sound and key pictures, or sound and a low rendition.
const BASE: usize = 7;
/// Descriptions lost.
const LOST: u8 = STRIPES.value() - thresholds::single(STRIPES);

fn coding(criterion: &mut Criterion) {
    for (rate, bits) in RATES {
        let bytes = bits / 8 / PER_SECOND;
        let base = bytes / BASE;
        let [key, rest] = thresholds::priority(STRIPES);
        let [low, full] = thresholds::ladder(STRIPES);
        let generations = [
            ("single", vec![layer(thresholds::single(STRIPES), bytes)]),
            ("priority", vec![layer(key, base), layer(rest, bytes - base)]),
            ("ladder", vec![layer(low, base), layer(full, bytes - base)]),
        ];
        for (name, layers) in generations {
            let mut group = criterion.benchmark_group(format!("{name} {rate}"));
            group.throughput(Throughput::Bytes(bytes as u64));
            ours(&mut group, &layers);
            library(&mut group, &layers);
            if name == "ladder" {
                let encoded = encoded(&layers);
                let assembler = without(&encoded, 0..STRIPES.value() - low);
                group.throughput(Throughput::Bytes(base as u64));
                group.bench_function("decode, low rendition only", |bencher| {
                    bencher.iter(|| assembler.layer(0));
                });
            }
            group.finish();
        }
    }
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, layers: &[Layer]) {
    let encoded = encoded(layers);
    let chunk_length = encoded.layout.chunk_length();
    group.bench_function("encode", |bencher| {
        bencher.iter(|| encode(STRIPES, chunk_length, black_box(layers)));
    });
    for (what, lost) in [("decode, data lost", 0..LOST), ("decode, none lost", 0..0)] {
        let assembler = without(&encoded, lost);
        group.bench_function(what, |bencher| {
            bencher
                .iter(|| (0..layers.len()).map(|l| assembler.layer(l)).collect::<Option<Vec<_>>>());
        });
    }
    let assembler = without(&encoded, 0..LOST);
    group.bench_function("regenerate one data shard", |bencher| {
        bencher.iter(|| assembler.regenerate(StripeId(1)));
    });
    group.bench_function("rebuild everything", |bencher| bencher.iter(|| assembler.rebuild()));
    group.bench_function("insert 13 descriptions", |bencher| {
        bencher.iter(|| without(&encoded, 0..LOST));
    });
}

/// What a copy-free use of the library could reach: whole shards, coders kept from call to call,
/// results left in their memory.
fn library(group: &mut BenchmarkGroup<'_, WallTime>, layers: &[Layer]) {
    let mut coders: Vec<_> = layers.iter().map(LibraryLayer::new).collect();
    group.bench_function("encode, library", |bencher| {
        bencher.iter(|| coders.iter_mut().for_each(LibraryLayer::encode));
    });
    group.bench_function("decode, data lost, library", |bencher| {
        bencher.iter(|| coders.iter_mut().for_each(LibraryLayer::decode));
    });
}

struct LibraryLayer {
    shards: Vec<Vec<u8>>,
    parity: Vec<Vec<u8>>,
    encoder: ReedSolomonEncoder,
    decoder: ReedSolomonDecoder,
}

impl LibraryLayer {
    fn new(layer: &Layer) -> Self {
        let threshold = usize::from(layer.threshold);
        let length = layer.data.len().div_ceil(threshold).next_multiple_of(2);
        let mut padded = layer.data.to_vec();
        padded.resize(threshold * length, 0);
        let shards: Vec<Vec<u8>> = padded.chunks(length).map(<[u8]>::to_vec).collect();
        let parity = STRIPES.len() - threshold;
        let mut encoder = ReedSolomonEncoder::new(threshold, parity, length).expect("valid");
        let decoder = ReedSolomonDecoder::new(threshold, parity, length).expect("valid");
        for shard in &shards {
            encoder.add_original_shard(shard).expect("valid");
        }
        let parity = encoder.encode().expect("valid").recovery_iter().map(<[u8]>::to_vec).collect();
        Self { shards, parity, encoder, decoder }
    }

    fn encode(&mut self) {
        for shard in &self.shards {
            self.encoder.add_original_shard(shard).expect("valid");
        }
        black_box(self.encoder.encode().expect("valid").recovery(0).map(<[u8]>::len));
    }

    fn decode(&mut self) {
        for (index, shard) in self.shards.iter().enumerate().skip(usize::from(LOST)) {
            self.decoder.add_original_shard(index, shard).expect("valid");
        }
        for (index, shard) in self.parity.iter().enumerate().take(usize::from(LOST)) {
            self.decoder.add_recovery_shard(index, shard).expect("valid");
        }
        let restored = self.decoder.decode().expect("valid");
        black_box(restored.restored_original(0).map(<[u8]>::len));
    }
}

fn encoded(layers: &[Layer]) -> Encoded {
    encode(STRIPES, chunk_length_for(description_length(layers)), layers).expect("valid")
}

fn without(encoded: &Encoded, lost: std::ops::Range<u8>) -> Assembler {
    let mut assembler = Assembler::new(encoded.layout.clone());
    for stripe in encoded.layout.stripes().iter().filter(|stripe| !lost.contains(&stripe.0)) {
        for (index, chunk) in encoded.chunks[stripe.index()].iter().enumerate() {
            assembler.insert(stripe, index, chunk.clone());
        }
    }
    assembler
}

fn layer(threshold: u8, length: usize) -> Layer {
    Layer { threshold, data: bytes(u64::from(threshold), length) }
}

fn bytes(seed: u64, length: usize) -> Bytes {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = coding
}
criterion_main!(benches);
