//! Bytes that were once a message, then damaged at random: they may mean anything, but decoding them
//! neither panics nor takes more memory than a frame of their size is worth.

use std::path::Path;

use allocation_counter::{AllocationInfo, measure};
use banyan_wire::DecodeError;
use banyan_wire::frame::{LENGTH_BYTES, MAX_CONTROL_FRAME, MAX_DATA_FRAME, decode, split_frame};
use bytes::{Bytes, BytesMut};

const MUTATIONS: u32 = 100_000;

/// Most memory at a time while a frame is decoded: a fixed part, and a multiple of the frame's size
/// class, the power of two at or above its length.
///
/// Protobuf packs lists densely: two bytes of a head may stand for an empty contact, which takes 104
/// in memory, and a growing list is copied from one allocation to another of twice the size.
const fn allowance(length: usize) -> u64 {
    4096 + 80 * length.next_power_of_two() as u64
}

#[test]
fn mutated_frames_neither_panic_nor_allocate_beyond_their_size() {
    let corpus = corpus();
    let mut random = Random(1);
    let (mut decoded, mut refused) = (0_u32, 0_u32);
    for round in 0..MUTATIONS {
        let bytes = mutate(&corpus, &mut random);
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut frames = 0;
        loop {
            let (result, cost) = receive(&mut buffer);
            match result {
                Ok(None) => break,
                Ok(Some(())) => decoded += 1,
                Err(error) => {
                    refused += 1;
                    if matches!(error, DecodeError::FrameTooLong { .. }) {
                        assert_eq!(cost.count_total, 0, "nothing is kept for a frame too long");
                        break;
                    }
                }
            }
            frames += 1;
            assert!(cost.bytes_max <= allowance(bytes.len()), "round {round}: {cost:?}");
            assert!(frames <= bytes.len(), "every frame takes some bytes");
        }
    }
    // Mutations that only ever break the frame, or never do, would test nothing.
    assert!(decoded > MUTATIONS / 10 && refused > MUTATIONS / 10, "{decoded} and {refused}");
}

#[test]
fn the_densest_lists_stay_within_the_allowance() {
    // What a list of nothing at all costs, in every message that has one: (message, list).
    let lists: [(u16, u8); 7] = [(6, 1), (7, 6), (8, 4), (9, 4), (12, 3), (14, 5), (19, 6)];
    for (message, list) in lists {
        let items = (MAX_CONTROL_FRAME - 64) / 2;
        let inner: Vec<u8> = [list << 3 | 2, 0].repeat(items);
        let length = [inner.len() & 0x7f | 0x80, inner.len() >> 7 & 0x7f | 0x80, inner.len() >> 14];
        let key = message << 3 | 2;
        let key = [(key & 0x7f) | 0x80, key >> 7].map(|byte| byte.to_le_bytes()[0]);
        let length = length.map(|byte| byte.to_le_bytes()[0]);
        let head = [&key[..], &length, &inner].concat();
        let head_length = u16::try_from(head.len()).expect("below 64 KiB").to_be_bytes();
        let body = Bytes::from([&head_length[..], &head].concat());
        assert!(body.len() <= MAX_CONTROL_FRAME);
        let allowed = allowance(body.len());
        let cost = measure(|| assert!(decode(body).is_err()));
        assert!(cost.bytes_max <= allowed, "message {message}, list {list}: {cost:?}");
    }
}

#[test]
fn a_frame_that_is_not_complete_costs_nothing() {
    for length in [0, 1, MAX_DATA_FRAME] {
        let announced = u32::try_from(length).expect("short").to_be_bytes();
        let mut buffer = BytesMut::from(&announced[..]);
        if length > 0 {
            let cost = measure(|| {
                assert_eq!(split_frame(&mut buffer, MAX_DATA_FRAME), Ok(None));
            });
            assert_eq!(cost.count_total, 0, "announcing {length} bytes takes no memory");
        }
    }
}

/// Takes one frame and decodes it.
fn receive(buffer: &mut BytesMut) -> (Result<Option<()>, DecodeError>, AllocationInfo) {
    let mut result = Ok(None);
    let cost = measure(|| {
        result = split_frame(buffer, MAX_CONTROL_FRAME)
            .and_then(|body| body.map(|body| decode(body).map(drop)).transpose());
    });
    (result, cost)
}

/// One or two frames of the corpus, damaged.
fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.pick(corpus).clone();
    for _ in 0..=random.below(2) {
        let length = bytes.len();
        // Mostly behind the length fields, where the message is.
        let skip = if random.below(4) == 0 { 0 } else { length.min(LENGTH_BYTES + 2) };
        let (at, span) = (skip + random.below(length - skip + 1), 1 + random.below(16));
        let end = length.min(at + span);
        match random.below(12) {
            // Most of them keep the frame whole and damage what is in it.
            0..=3 if at < length => bytes[at] ^= 1 << random.below(8),
            4 | 5 if at < length => bytes[at] = random.byte(),
            6 => bytes[at..end].fill(if random.below(2) == 0 { 0 } else { 0xff }),
            7 => drop(bytes.drain(at..end)),
            8 => {
                let copied = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copied));
            }
            9 => {
                let inserted: Vec<u8> = (0..span).map(|_| random.byte()).collect();
                drop(bytes.splice(at..at, inserted));
            }
            10 => {
                // The head of one, the tail of another.
                let other = random.pick(corpus);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len())..]);
            }
            _ => bytes.truncate(at),
        }
        // Mostly the lengths are put right, so that the damage reaches the message.
        if random.below(4) != 0 {
            repair(&mut bytes);
        }
        if bytes.is_empty() {
            bytes.push(random.byte());
        }
    }
    bytes
}

/// Makes the length fields fit what is there.
fn repair(bytes: &mut [u8]) {
    let Some(length) = bytes.len().checked_sub(LENGTH_BYTES + 2) else { return };
    let all = u32::try_from(length + 2).unwrap_or(u32::MAX).to_be_bytes();
    bytes[..LENGTH_BYTES].copy_from_slice(&all);
    // The head may have a payload behind it.
    let is_chunk = bytes.get(LENGTH_BYTES + 11..LENGTH_BYTES + 13) == Some(&[0xa2, 1]);
    if !is_chunk {
        let head = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        bytes[LENGTH_BYTES..LENGTH_BYTES + 2].copy_from_slice(&head);
    }
}

/// All frames of the vectors, valid and hostile.
fn corpus() -> Vec<Vec<u8>> {
    let valid = frames_of("valid.json", "frame");
    let hostile = frames_of("hostile.json", "bytes");
    assert!(valid.len() > 40 && hostile.len() > 40);
    // Valid ones more often: most of what is hostile is so early.
    [&valid[..], &valid, &valid, &hostile].concat()
}

fn frames_of(file: &str, field: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/vectors").join(file);
    let text = std::fs::read_to_string(path).expect("the vectors are committed");
    let json: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    let frames = json["frames"].as_array().expect("a list of frames");
    frames.iter().map(|frame| from_hex(frame[field].as_str().expect("digits"))).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("a hexadecimal digit");
    let byte = |pair: &[u8]| (digit(pair[0]) << 4 | digit(pair[1])).to_le_bytes()[0];
    text.as_bytes().chunks_exact(2).map(byte).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
