//! The code's output is part of the wire format: `proto/vectors/coding.json` pins it, so that a
//! library that codes differently is noticed before it is released. To write the file anew, after
//! a change that is meant: `cargo test -p banyan-coding --test vectors -- --ignored`.

use std::path::PathBuf;

use banyan_coding::{Assembler, Encoded, Layer, encode};
use banyan_wire::{StripeCount, chunk_hash};
use serde::{Deserialize, Serialize};

const ABOUT: &str = "Coding vectors. Byte i (from 0) of layer l (from 0) of every case is the top \
    byte of x(i + 1), x(0) = l, x(n + 1) = (1664525 x(n) + 1013904223) mod 2^32. descriptions: \
    BLAKE3 of the concatenated chunks of each stripe. chunks: where given, each stripe's chunks \
    in full.";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    about: String,
    cases: Vec<Case>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Case {
    name: String,
    stripes: u32,
    chunk_length: u32,
    layers: Vec<Shape>,
    descriptions: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chunks: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    threshold: u8,
    length: usize,
}

#[test]
fn the_code_gives_the_committed_vectors() {
    assert_eq!(read(), fresh(), "the wire format changed");
}

#[test]
fn committed_chunks_decode_to_their_layers() {
    for case in read().cases.iter().filter(|case| !case.chunks.is_empty()) {
        let stripes = StripeCount::new(case.stripes).expect("valid");
        let layers = layers(&case.layers);
        let layout = encode(stripes, case.chunk_length, &layers).expect("valid").layout;
        let mut assembler = Assembler::new(layout);
        for (stripe, chunks) in stripes.iter().zip(&case.chunks).rev() {
            for (index, chunk) in chunks.iter().enumerate() {
                assert!(assembler.insert(stripe, index, from_hex(chunk).into()));
            }
            for (index, layer) in layers.iter().enumerate() {
                if assembler.is_layer_decodable(index) {
                    assert_eq!(assembler.layer(index).as_ref(), Some(&layer.data), "{}", case.name);
                }
            }
        }
    }
}

#[test]
#[ignore = "writes the vectors"]
fn write_the_vectors() {
    let mut text = serde_json::to_string_pretty(&fresh()).expect("serialises");
    text.push('\n');
    std::fs::write(path(), text).expect("proto/vectors is there");
}

fn fresh() -> File {
    let mut cases = vec![
        case("two layers, in full", 4, 256, &[(2, 100), (3, 700)], true),
        case("one byte", 2, 256, &[(1, 1)], true),
        case("two stripes, both needed", 2, 256, &[(2, 9)], true),
        case("single", 16, 1024, &[(13, 40_000)], false),
        case("priority", 16, 1024, &[(11, 9_001), (13, 30_001)], false),
        case("ladder", 16, 2048, &[(6, 12_345), (13, 98_765)], false),
        case("repetition, nothing, no parity", 16, 512, &[(1, 5_000), (8, 0), (16, 5_000)], false),
    ];
    // Each relation of data and parity that the library treats in its own way.
    for (stripes, threshold) in
        [(4, 2), (4, 3), (8, 3), (8, 5), (32, 16), (32, 26), (64, 24), (64, 52)]
    {
        let name = format!("RS({stripes}, {threshold})");
        let length = 500 * usize::from(threshold) + 1;
        cases.push(case(&name, stripes, 256, &[(threshold, length)], false));
    }
    File { about: ABOUT.into(), cases }
}

fn case(
    name: &str,
    stripes: u32,
    chunk_length: u32,
    layers_of: &[(u8, usize)],
    in_full: bool,
) -> Case {
    let shapes: Vec<Shape> =
        layers_of.iter().map(|&(threshold, length)| Shape { threshold, length }).collect();
    let count = StripeCount::new(stripes).expect("valid");
    let Encoded { chunks, .. } = encode(count, chunk_length, &layers(&shapes)).expect("valid");
    let full = chunks.iter().map(|chunks| chunks.iter().map(|chunk| to_hex(chunk)).collect());
    Case {
        name: name.into(),
        stripes,
        chunk_length,
        layers: shapes,
        descriptions: chunks.iter().map(|chunks| to_hex(&chunk_hash(&chunks.concat()))).collect(),
        chunks: if in_full { full.collect() } else { Vec::new() },
    }
}

fn layers(shapes: &[Shape]) -> Vec<Layer> {
    let layer = |(seed, shape): (u32, &Shape)| {
        let mut x = seed;
        let next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            x.to_be_bytes()[0]
        };
        let data = std::iter::repeat_with(next).take(shape.length).collect();
        Layer { threshold: shape.threshold, data }
    };
    (0..).zip(shapes).map(layer).collect()
}

fn read() -> File {
    let text = std::fs::read_to_string(path()).expect("proto/vectors/coding.json is committed");
    serde_json::from_str(&text).expect("valid vectors")
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto/vectors/coding.json")
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits
        .map(|pair| {
            std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
        })
        .collect::<Option<_>>()
        .expect("hexadecimal digits")
}
