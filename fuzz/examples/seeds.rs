//! Writes the part of the corpus that follows from the vectors of `proto` and from the coder, anew: after
//! the wire changes, `cargo run -p banyan-fuzz --example seeds`.
//!
//! Decides which inputs these are. Those of containers come from an encoder: see README.md. What a fuzzer
//! found stands beside them and is left alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use banyan_coding::{Layer, encode};
use banyan_media::{AccessUnit, Generation, Layering, Priority, split_layers};
use banyan_wire::frame::{Frame, LENGTH_BYTES};
use banyan_wire::{
    BroadcastKey, ChunkId, Contact, GenerationId, MediaTime, Message, PeerId, Roles, Sealed,
    Standing, Start, StripeCount, StripeId, TrackId, chunk_hash,
};
use bytes::Bytes;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Vectors of hostile bytes that are longer are tests of limits, not seeds.
const MAX_SEED: usize = 2048;

fn main() -> Result<()> {
    wire()?;
    coding()?;
    layers()?;
    peer()
}

fn write(target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let folder = Path::new(ROOT).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes).with_context(|| format!("writing {target}/{name}"))
}

// ---- wire -------------------------------------------------------------------------------------

fn wire() -> Result<()> {
    let valid = vectors("valid.json")?;
    let hostile = vectors("hostile.json")?;
    for frame in list(&valid, "frames") {
        let bytes = hex(&frame["frame"]);
        let kind = frame["message"]["kind"].as_str().unwrap_or_default();
        let target = if matches!(kind, "header" | "chunk") { "wire_data" } else { "wire_control" };
        write(target, &slug(&frame["name"]), &bytes)?;
    }
    let late = ["TooMany", "OutOfRange", "Missing", "Length"];
    for frame in list(&hostile, "frames") {
        let bytes = hex(&frame["bytes"]);
        let is_late = late.contains(&frame["error"].as_str().unwrap_or_default());
        if is_late && frame["then"].is_null() && bytes.len() <= MAX_SEED / 8 {
            write("wire_control", &format!("hostile-{}", slug(&frame["name"])), &bytes)?;
        }
    }
    for (index, record) in list(&valid, "records").iter().enumerate() {
        write("wire_manifest", &format!("record-{index}"), &hex(&record["record"]))?;
    }
    for (index, uri) in list(&valid, "uris").iter().enumerate() {
        let text = uri["text"].as_str().unwrap_or_default();
        write("wire_names", &format!("uri-{index}"), text.as_bytes())?;
    }
    write("wire_names", "id", "8a".repeat(32).as_bytes())?;
    write("wire_names", "peer", &PeerId([7; 32]).to_libp2p_bytes())?;

    // A whole description, as it travels.
    let mut stream = Vec::new();
    for message in description(&generation(7)?, StripeId(1)) {
        stream.extend(frame(&message));
    }
    write("wire_data", "description", &stream)
}

fn vectors(file: &str) -> Result<Value> {
    let path = Path::new(ROOT).join("../proto/vectors").join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap_or_default();
    let pairs = digits.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// A name as that of a file.
fn slug(name: &Value) -> String {
    let name = name.as_str().unwrap_or_default().to_lowercase();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.chars().take(48).collect()
}

// ---- coding -----------------------------------------------------------------------------------

fn coding() -> Result<()> {
    // K = 16, chunks of 1 KiB, two layers; then K = 4 and one layer, K = 64, K = 1.
    let heads: [(&str, &[u8]); 5] = [
        ("two-layers", &[4, 12, 2, 6, 0x10, 0, 13, 0x20, 1]),
        ("one-layer", &[2, 0, 1, 3, 0x08, 0x11]),
        ("empty-layers", &[4, 4, 3, 6, 0, 0, 8, 0, 0, 13, 1, 0]),
        ("many", &[6, 0, 2, 20, 0x30, 0, 50, 0x40, 7]),
        ("no-coding", &[0, 63, 1, 1, 0x11, 0x11]),
    ];
    for (name, head) in heads {
        let whole: Vec<u8> = (0..14).rev().flat_map(|stripe| [stripe, 0]).collect();
        write("coding_recovery", name, &[head, &whole].concat())?;
        let scattered: Vec<u8> = (0_u8..200).flat_map(|n| [n, 128 + n / 7 % 100]).collect();
        write("coding_recovery", &format!("{name}-scattered"), &[head, &scattered].concat())?;
        let chunks = (0_u8..=255).flat_map(|n| [n, n / 16, 99, n]);
        write("coding_chunks", name, &[head, &chunks.collect::<Vec<_>>()].concat())?;
    }
    Ok(())
}

// ---- media ------------------------------------------------------------------------------------

/// A generation of pictures and sound whose bytes mean something to the muxer.
fn programme(from: i64) -> Generation {
    const KEY: &[u8] = b"\0\0\0\x01\x09\x10\0\0\0\x01\x67\x42\xc0\x0a\xdc\0\0\0\x01\x68\xce\x0f\xc8\0\0\x01\x65\x88\x84";
    const PICTURE: &[u8] = b"\0\0\0\x01\x09\x30\0\0\x01\x41\x9a\x02\x03";
    const SOUND: &[u8] = b"\xff\xf1\x4c\x80\x01\x7f\xfc\x21\x10\x04\x60";
    let unit = |track: u8, at: i64, priority, data: &'static [u8]| AccessUnit {
        track: TrackId(track),
        pts: MediaTime(from + at * 3600 + i64::from(1 - track) * 7200),
        dts: MediaTime(from + at * 3600),
        random_access: track == 1 || priority == Priority::Key,
        priority,
        data: Bytes::from_static(data),
    };
    let units = (0..10)
        .flat_map(|at| {
            let (priority, data) = match at {
                0 => (Priority::Key, KEY),
                _ if at % 2 == 0 => (Priority::Reference, PICTURE),
                _ => (Priority::Droppable, PICTURE),
            };
            [unit(0, at, priority, data), unit(1, at, Priority::Audio, SOUND)]
        })
        .collect();
    Generation { random_access: true, start: MediaTime(from), duration: 36_000, units }
}

fn layers() -> Result<()> {
    let split = split_layers(&programme(90_000), Layering::Priority);
    for (index, layer) in split.iter().enumerate() {
        write("media_layer", &format!("priority-{index}"), layer)?;
    }
    write("media_layer", "empty", &[1, 0])?;
    for lost in 0..4_u8 {
        write("media_merge", &format!("lost-{lost}"), &together(&split, lost)?)?;
    }
    let later = split_layers(&programme(-90_000), Layering::Single);
    write("media_merge", "single", &together(&later, 0)?)?;
    // Pictures and sound, then three generations: whole, half, and the clock jumps back.
    for codec in 0..8_u8 {
        let mut script = vec![2, codec, 0, 1, 2, 0x11, 0x90];
        for part in [together(&split, 0)?, together(&split, 2)?, together(&later, 0)?] {
            script.extend(u16::try_from(part.len())?.to_be_bytes());
            script.extend(part);
        }
        write("viewer", &format!("codec-{codec}"), &script)?;
    }
    for (name, head) in [
        ("matroska", b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x1f\x42\x82\x84webm".as_slice()),
        ("flv", b"FLV\x01\x05\0\0\0\x09\0\0\0\0"),
        ("playlist", b"#EXTM3U\n#EXT-X-VERSION:3\n"),
        ("riff", b"RIFF\x24\0\0\0WAVEfmt "),
        ("ogg", b"OggS\0\x02"),
        ("video", b"\0\0\0\x01\x67\x42\0\x0a"),
        ("mp4", b"\0\0\0\x18ftypisom\0\0\x02\0isom"),
        ("text", b"hello"),
    ] {
        write("media_sniff", name, head)?;
    }
    let packets: Vec<u8> =
        (0..6).flat_map(|n| [&[0x47, 0, n, 0x10], [n; 184].as_slice()].concat()).collect();
    write("media_sniff", "packets", &packets)
}

/// Layers in the form of the scripts: shape, lengths, bytes.
fn together(layers: &[Bytes], lost: u8) -> Result<Vec<u8>> {
    let mut script = vec![u8::try_from(layers.len() - 1)? | lost << 4];
    for (index, layer) in layers.iter().enumerate() {
        if index + 1 < layers.len() {
            script.extend(u16::try_from(layer.len())?.to_be_bytes());
        }
        script.extend_from_slice(layer);
    }
    Ok(script)
}

// ---- peer -------------------------------------------------------------------------------------

/// A signed generation of four stripes.
struct Signed {
    sealed: Sealed,
    signature: [u8; 64],
    chunks: Vec<Vec<Bytes>>,
}

fn generation(number: u64) -> Result<Signed> {
    let layer = |threshold, length: usize| Layer {
        threshold,
        data: (0..length).map(|n| n.to_le_bytes()[0]).collect(),
    };
    let stripes = StripeCount::new(4).context("a power of two")?;
    let encoded = encode(stripes, 256, &[layer(2, 300), layer(3, 900)])?;
    let hashes = |chunks: &Vec<Bytes>| chunks.iter().map(|chunk| chunk_hash(chunk)).collect();
    let hashes = encoded.chunks.iter().map(hashes).collect();
    let key = BroadcastKey::from_seed(&[1; 32]);
    let emitted_at = 1_000_000 + number * 500_000;
    let sealed = Sealed::new(GenerationId(number), emitted_at, true, encoded.layout, hashes);
    let signature = sealed.sign(&key);
    Ok(Signed { sealed, signature, chunks: encoded.chunks })
}

/// The messages of one description.
fn description(generation: &Signed, stripe: StripeId) -> Vec<Message> {
    let header = generation.sealed.header(stripe, generation.signature);
    let id = |index| ChunkId { generation: header.commitment.generation, stripe, index };
    let chunks = generation.chunks.get(stripe.index()).into_iter().flatten();
    let chunks = (0_u16..)
        .zip(chunks)
        .map(|(index, chunk)| Message::Chunk { id: id(index), payload: chunk.clone() });
    let chunks: Vec<Message> = chunks.collect();
    std::iter::once(Message::Header(header)).chain(chunks).collect()
}

fn frame(message: &Message) -> Vec<u8> {
    let frame = Frame::encode(BroadcastKey::from_seed(&[1; 32]).broadcast().tag(), message);
    [&frame.head[..], &frame.payload].concat()
}

fn peer() -> Result<()> {
    let hear = |who: u8, message: &Message| -> Result<Vec<u8>> {
        let body = frame(message).split_off(LENGTH_BYTES);
        Ok([&[9, who], &u16::try_from(body.len())?.to_be_bytes()[..], &body].concat())
    };
    let wait = |millis: u16| [&[6, 0], &millis.to_be_bytes()[..]].concat();
    let contact = |who: u8| Contact {
        peer: PeerId([who; 32]),
        roles: if who == 0 { Roles::NONE } else { Roles(1 << (who % 4)) },
        capacity: 32,
        addresses: vec![Bytes::from_static(b"somewhere")],
        is_source: who == 0,
        class: 5,
        coordinate: None,
    };
    let standing = Standing {
        depth: 1,
        grandparent: Some(contact(0)),
        population: 9,
        ancestors: Vec::new(),
        is_orphan: false,
        spare: 4,
        class: 5,
        is_open: true,
        is_grandparent_open: true,
        delay: 40,
    };
    let broadcast = BroadcastKey::from_seed(&[1; 32]).broadcast();
    let hello = |who: u8| Message::Hello {
        broadcast,
        contact: contact(who),
        manifest_sequence: 1,
        is_reply: false,
    };

    // Viewer, relay, source; four stripes.
    for role in 0..3_u8 {
        let mut script = vec![2 << 4 | role];
        for who in 0..5 {
            script.extend(hear(who, &hello(who))?);
        }
        script.extend(wait(400));
        script.extend([2, 0]);
        for stripe in 0..4 {
            let accept = Message::Accept { stripe: StripeId(stripe), standing: standing.clone() };
            script.extend(hear(stripe, &accept)?);
            let attach = Message::Attach {
                stripe: StripeId(stripe),
                child: contact(stripe + 5),
                idle: None,
                start: Start::Live,
                lost: None,
                is_entitled: true,
                within: None,
            };
            script.extend(hear(stripe + 5, &attach)?);
        }
        for number in 1..4 {
            let generation = generation(number)?;
            for stripe in 0..4 {
                for message in description(&generation, StripeId(stripe)) {
                    script.extend(hear(stripe, &message)?);
                }
            }
            script.extend(wait(500));
        }
        script.extend([[1, 0], [1, 2]].concat());
        script.extend(wait(3000));
        write("core_peer", &format!("forest-{role}"), &script)?;
    }

    // Every message of the vectors, once with the manifest and once without, in both overlays.
    let valid = vectors("valid.json")?;
    for (name, shape) in [("all", 4 << 4), ("all-source", 2), ("unknown", 8), ("peercast", 4)] {
        let mut script = vec![shape];
        for (index, frame) in list(&valid, "frames").iter().enumerate() {
            let frame = hex(&frame["frame"]);
            let body = frame.get(LENGTH_BYTES..).unwrap_or_default();
            if body.len() > MAX_SEED / 2 {
                continue;
            }
            script.extend([9, u8::try_from(index % 20)?]);
            script.extend(u16::try_from(body.len())?.to_be_bytes());
            script.extend_from_slice(body);
            script.extend(wait(60));
        }
        write("core_peer", name, &script)?;
    }
    Ok(())
}
