//! `description.json`: one generation's hashes, tree, signature and headers.

use banyan_wire::{
    DecodeError, DescriptionHeader, GenerationId, Message, Sealed, StripeId, Verifier, chunk_hash,
};
use serde::{Deserialize, Serialize};

use crate::describe::{self, Hex, SaidLayer};
use crate::{SOURCE, encoded, read, received, source, write};

const DESCRIPTION: &str = "One signed generation of four stripes, from payload to header. layers \
    and chunks: the case \"two layers, in full\" of coding.json. chunk_hashes: BLAKE3 of each chunk, \
    by stripe. leaves, nodes, root: the Merkle tree over the four descriptions. signed_bytes: what \
    the key of seed signs. headers: for each stripe its proof and the frame it travels in, with the \
    broadcast's tag. forged_headers: frames that decode, but whose signature does not verify. \
    forged_chunks: payloads of chunk 0 of stripe 0 that are refused.";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    about: String,
    seed: Hex,
    broadcast: Hex,
    generation: u64,
    emitted_at: u64,
    is_random_access: bool,
    stripes: u32,
    chunk_length: u32,
    layers: Vec<SaidLayer>,
    chunks: Vec<Vec<Hex>>,
    chunk_hashes: Vec<Vec<Hex>>,
    leaves: Vec<Hex>,
    nodes: Vec<Hex>,
    root: Hex,
    signed_bytes: Hex,
    signature: Hex,
    headers: Vec<Header>,
    forged_headers: Vec<ForgedHeader>,
    forged_chunks: Vec<ForgedChunk>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    stripe: u8,
    proof: Vec<Hex>,
    frame: Hex,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ForgedHeader {
    name: String,
    frame: Hex,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ForgedChunk {
    name: String,
    payload: Hex,
    error: String,
}

#[derive(Deserialize)]
struct CodingFile {
    cases: Vec<CodingCase>,
}

#[derive(Deserialize)]
struct CodingCase {
    name: String,
    #[serde(default)]
    chunks: Vec<Vec<Hex>>,
}

#[test]
fn a_description_is_what_the_committed_vectors_say() {
    assert_eq!(read::<Description>("description.json"), description(), "the format changed");
}

#[test]
fn committed_headers_prove_the_committed_chunks_and_nothing_else() {
    let case = read::<Description>("description.json");
    let broadcast = source().broadcast();
    let verifier = Verifier::new(&broadcast).expect("a key");
    let header_of = |frame: &Hex| match received(&frame.0) {
        Ok((tag, Message::Header(header))) if tag == broadcast.tag() => header,
        other => panic!("{other:?} is no header"),
    };
    for (header, chunks) in case.headers.iter().zip(&case.chunks) {
        let header = header_of(&header.frame);
        assert_eq!(Hex::from(header.commitment.signed_bytes(&broadcast)), case.signed_bytes);
        assert_eq!(Hex::from(header.commitment.root), case.root);
        assert_eq!(header.verify(&broadcast, &verifier), Ok(()));
        for (index, chunk) in (0..).zip(chunks) {
            assert_eq!(header.verify_chunk(index, &chunk.0), Ok(()));
        }
    }
    for forged in &case.forged_headers {
        let refused = header_of(&forged.frame).verify(&broadcast, &verifier);
        assert_eq!(refused, Err(DecodeError::Signature), "{}", forged.name);
    }
    let header = header_of(&case.headers[0].frame);
    for forged in &case.forged_chunks {
        let error = header.verify_chunk(0, &forged.payload.0).expect_err(&forged.name);
        assert_eq!(format!("{error:?}").split('(').next(), Some(&*forged.error));
    }
}

/// Writes the tree out by hand, so that `Sealed` is checked against the text of PROTOCOL.md.
fn description() -> Description {
    let mut cases = read::<CodingFile>("coding.json").cases.into_iter();
    let case = cases.find(|case| case.name == "two layers, in full").expect("it is there");
    let chunks = case.chunks;
    let layers =
        vec![SaidLayer { threshold: 2, length: 100 }, SaidLayer { threshold: 3, length: 700 }];
    let hash_all =
        |chunks: &Vec<Hex>| chunks.iter().map(|chunk| chunk_hash(&chunk.0)).collect::<Vec<_>>();
    let hashes: Vec<_> = chunks.iter().map(hash_all).collect();
    let leaf = |(stripe, hashes): (u8, &Vec<[u8; 32]>)| {
        let count = u32::try_from(hashes.len()).expect("a few").to_be_bytes();
        chunk_hash(&[&[0, stripe][..], &count, &hashes.concat()].concat())
    };
    let leaves: Vec<[u8; 32]> = (0..).zip(&hashes).map(leaf).collect();
    let node =
        |left: &[u8; 32], right: &[u8; 32]| chunk_hash(&[&[1][..], &left[..], &right[..]].concat());
    let nodes = [node(&leaves[0], &leaves[1]), node(&leaves[2], &leaves[3])];
    let root = node(&nodes[0], &nodes[1]);

    let layout = describe::layout(4, 256, &layers);
    let sealed = Sealed::new(GenerationId(7), 3_500_000, true, layout, hashes.clone());
    assert_eq!(sealed.commitment().root, root, "the tree is as PROTOCOL.md draws it");
    let broadcast = source().broadcast();
    let signed_bytes = [
        &b"banyan/generation/1"[..],
        &broadcast.0,
        &7_u64.to_be_bytes(),
        &3_500_000_u64.to_be_bytes(),
        &[1, 4],
        &256_u32.to_be_bytes(),
        &[2],
        &100_u32.to_be_bytes(),
        &[3],
        &700_u32.to_be_bytes(),
        &root,
    ]
    .concat();
    assert_eq!(sealed.commitment().signed_bytes(&broadcast), signed_bytes);
    let signature = source().sign(&signed_bytes);
    let header_of = |stripe: u8| sealed.header(StripeId(stripe), signature);
    let header = |stripe: u8| Header {
        stripe,
        proof: header_of(stripe).proof.iter().map(Hex::from).collect(),
        frame: encoded(broadcast.tag(), &Message::Header(header_of(stripe))),
    };
    let hexes = |hashes: &[[u8; 32]]| hashes.iter().map(Hex::from).collect::<Vec<_>>();
    Description {
        about: DESCRIPTION.into(),
        seed: SOURCE.into(),
        broadcast: broadcast.0.into(),
        generation: 7,
        emitted_at: 3_500_000,
        is_random_access: true,
        stripes: 4,
        chunk_length: 256,
        chunk_hashes: hashes.iter().map(|hashes| hexes(hashes)).collect(),
        leaves: hexes(&leaves),
        nodes: hexes(&nodes),
        root: root.into(),
        signed_bytes: signed_bytes.into(),
        signature: signature.into(),
        headers: (0..4).map(header).collect(),
        forged_headers: forged_headers(&sealed, signature),
        forged_chunks: forged_chunks(&chunks[0][0].0),
        layers,
        chunks,
    }
}

fn forged_headers(sealed: &Sealed, signature: [u8; 64]) -> Vec<ForgedHeader> {
    let tag = source().broadcast().tag();
    let forge = |name: &str, change: &dyn Fn(&mut DescriptionHeader)| {
        let mut header = sealed.header(StripeId(1), signature);
        change(&mut header);
        ForgedHeader { name: name.into(), frame: encoded(tag, &Message::Header(header)) }
    };
    let layers = |second: u32| {
        [SaidLayer { threshold: 2, length: 100 }, SaidLayer { threshold: 3, length: second }]
    };
    vec![
        forge("another generation", &|header| header.commitment.generation = GenerationId(8)),
        forge("another time", &|header| header.commitment.emitted_at += 1),
        forge("no random access", &|header| header.commitment.is_random_access = false),
        forge("another stripe", &|header| header.stripe = StripeId(0)),
        forge("a longer layer", &|header| {
            header.commitment.layout = describe::layout(4, 256, &layers(702));
        }),
        forge("longer chunks", &|header| {
            header.commitment.layout = describe::layout(4, 320, &layers(700));
        }),
        forge("a chunk's hash changed", &|header| header.chunk_hashes[0][0] ^= 1),
        forge("the proof changed", &|header| header.proof[1][31] ^= 1),
        forge("the signature changed", &|header| header.signature[0] ^= 1),
    ]
}

fn forged_chunks(chunk: &[u8]) -> Vec<ForgedChunk> {
    let forged = |name: &str, payload: Vec<u8>, error: &str| ForgedChunk {
        name: name.into(),
        payload: Hex(payload),
        error: error.into(),
    };
    let mut flipped = chunk.to_vec();
    flipped[9] ^= 0x80;
    let [longer, shorter] = [[chunk, &[0]].concat(), chunk[1..].to_vec()];
    vec![
        forged("one bit flipped", flipped, "Hash"),
        forged("one byte short", shorter, "ChunkLength"),
        forged("one byte more", longer, "ChunkLength"),
    ]
}

pub(crate) fn write_description() {
    write("description.json", &description());
}
