//! MB/s of source bytes, beside what the Reed–Solomon library does on the same shards when it is
//! called directly. Decoding is with as many data shards lost as the code can bear.

use std::hint::black_box;

use banyan_coding::{Assembler, Encoded, Layer, chunk_length_for, encode};
use banyan_wire::{StripeCount, StripeId};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

const KIB: usize = 1024;

fn coding(criterion: &mut Criterion) {
    for shard in [4 * KIB, 64 * KIB] {
        one_layer(criterion, shard);
        two_layers(criterion, shard);
        library(criterion, shard);
    }
}

fn one_layer(criterion: &mut Criterion, shard: usize) {
    let layers = [layer(13, shard)];
    measure(criterion, &format!("RS(16,13) {} KiB", shard / KIB), shard, &layers);
}

/// A quarter of each description is the base.
fn two_layers(criterion: &mut Criterion, shard: usize) {
    let layers = [layer(11, shard / 4), layer(13, shard - shard / 4)];
    measure(criterion, &format!("RS(16,11+13) {} KiB", shard / KIB), shard, &layers);
}

fn measure(criterion: &mut Criterion, name: &str, shard: usize, layers: &[Layer]) {
    let chunk_length = chunk_length_for(shard);
    let bytes: usize = layers.iter().map(|layer| layer.data.len()).sum();
    let encoded = encode(StripeCount::DEFAULT, chunk_length, layers).expect("valid");
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| encode(StripeCount::DEFAULT, chunk_length, black_box(layers)));
    });
    for (what, lost) in [("decode, 3 data shards lost", 0..3), ("decode, no data lost", 13..16)] {
        let assembler = without(&encoded, lost);
        group.bench_function(what, |bencher| {
            bencher
                .iter(|| (0..layers.len()).map(|l| assembler.layer(l)).collect::<Option<Vec<_>>>());
        });
    }
    let assembler = without(&encoded, 0..3);
    group.bench_function("regenerate one data shard", |bencher| {
        bencher.iter(|| assembler.regenerate(StripeId(1)));
    });
    group.bench_function("rebuild everything", |bencher| bencher.iter(|| assembler.rebuild()));
    group.bench_function("insert 13 descriptions", |bencher| {
        bencher.iter(|| without(&encoded, 13..16));
    });
    group.finish();
}

/// What a copy-free use of the library could reach: whole shards, results left in its memory.
fn library(criterion: &mut Criterion, shard: usize) {
    let data: Vec<Bytes> = (0..13).map(|seed| bytes(seed, shard)).collect();
    let mut encoder = ReedSolomonEncoder::new(13, 3, shard).expect("valid");
    for shard in &data {
        encoder.add_original_shard(shard).expect("valid");
    }
    let parity: Vec<Vec<u8>> =
        encoder.encode().expect("valid").recovery_iter().map(<[u8]>::to_vec).collect();

    let name = format!("reed-solomon-simd (16,13) {} KiB", shard / KIB);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(13 * shard as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            for shard in &data {
                encoder.add_original_shard(shard).expect("valid");
            }
            black_box(encoder.encode().expect("valid").recovery(0).map(<[u8]>::len))
        });
    });
    let mut decoder = ReedSolomonDecoder::new(13, 3, shard).expect("valid");
    group.bench_function("decode, 3 data shards lost", |bencher| {
        bencher.iter(|| {
            for (index, shard) in data.iter().enumerate().skip(3) {
                decoder.add_original_shard(index, shard).expect("valid");
            }
            for (index, shard) in parity.iter().enumerate() {
                decoder.add_recovery_shard(index, shard).expect("valid");
            }
            black_box(decoder.decode().expect("valid").restored_original(0).map(<[u8]>::len))
        });
    });
    group.finish();
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

fn layer(threshold: u8, shard: usize) -> Layer {
    Layer { threshold, data: bytes(u64::from(threshold), usize::from(threshold) * shard) }
}

fn bytes(seed: u64, length: usize) -> Bytes {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

criterion_group!(benches, coding);
criterion_main!(benches);
