//! A generation whose chunks come in any order, some not at all, some not as they should be.
//!
//! ```text
//!   script = K, chunk length, layers (threshold, length) …, then what arrives, to the end
//! ```
//!
//! Decides how bytes become a layout and a sequence of chunks. Hashes are checked before chunks come to
//! the code, so [`chunks`] stands for a source that signs nonsense, [`recovery`] for one that does not.

use banyan_coding::{Assembler, Layer, encode};
use banyan_wire::{LayerLayout, Layout, MAX_LAYERS, StripeCount, StripeId};
use bytes::Bytes;

use crate::script::Script;

/// Most bytes of a layer: more would cost the fuzzer time and show it nothing new.
const MAX_LAYER: u32 = 20_000;
/// Most chunks that arrive, for the same reason.
const MAX_ARRIVALS: usize = 400;
/// Longest chunk that arrives; the longest a layout here may have is shorter.
const MAX_CHUNK: usize = 5000;

/// Any layout, any chunks: nothing panics, and what comes out is as long as the layout says.
pub(crate) fn chunks(input: &[u8]) {
    let mut script = Script::new(input);
    let Some(layout) = layout(&mut script) else { return };
    let mut assembler = Assembler::new(layout.clone());
    let zeros = Bytes::from_static(&[0; MAX_CHUNK]);
    let mut kept = 0;
    for _ in 0..MAX_ARRIVALS {
        if script.is_empty() {
            break;
        }
        let stripe = StripeId(script.byte());
        let index = usize::from(script.byte()) % (layout.chunk_count() + 2);
        // Mostly of the right length, so that it is not refused.
        let length = match script.byte() {
            wrong @ 0..16 => usize::from(wrong) * 300,
            _ => layout.chunk_span(index).map_or(1, |span| span.length),
        };
        let stripe =
            if stripe.0 < 240 { StripeId(stripe.0 % layout.stripes().value()) } else { stripe };
        let is_new = !assembler.has(stripe, index);
        let mut chunk = zeros.slice(..length.min(MAX_CHUNK)).to_vec();
        if let Some(first) = chunk.first_mut() {
            *first = script.byte();
        }
        let is_kept = assembler.insert(stripe, index, chunk.into());
        assert!(is_new || !is_kept, "the first chunk of a place stays");
        kept += usize::from(is_kept);
    }
    let counted: usize = layout.stripes().iter().map(|stripe| assembler.chunks_of(stripe)).sum();
    assert_eq!(counted, kept);
    check_layers(&assembler);
    let rebuilt = assembler.rebuild();
    assert_eq!(rebuilt.is_some(), assembler.is_decodable());
    if let Some(rebuilt) = rebuilt {
        for chunks in &rebuilt.chunks {
            check_description(&layout, chunks);
        }
    }
    let stripe = layout.stripes().iter().next_back().unwrap_or(StripeId(0));
    if let Some(chunks) = assembler.regenerate(stripe) {
        check_description(&layout, &chunks);
    }
    assert_eq!(assembler.regenerate(StripeId(u8::MAX)), None);
}

/// Chunks as the source made them: enough of them give every layer back, bit for bit, and too few give
/// none.
pub(crate) fn recovery(input: &[u8]) {
    let mut script = Script::new(input);
    let Some(layout) = layout(&mut script) else { return };
    let mut state = 1_u32;
    let mut random_byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let layers: Vec<Layer> = layout
        .layers()
        .iter()
        .map(|layer| Layer {
            threshold: layer.threshold,
            data: (0..layer.length).map(|_| random_byte()).collect(),
        })
        .collect();
    let encoded = encode(layout.stripes(), layout.chunk_length(), &layers)
        .expect("a layout that is valid can be coded");
    assert_eq!(encoded.layout, layout);

    let mut assembler = Assembler::new(layout.clone());
    let mut insert = |stripe: u8, index: usize| {
        let stripe = StripeId(stripe % layout.stripes().value());
        if let Some(chunk) = encoded.chunks.get(stripe.index()).and_then(|list| list.get(index)) {
            assembler.insert(stripe, index, chunk.clone());
        }
    };
    for _ in 0..MAX_ARRIVALS {
        if script.is_empty() {
            break;
        }
        let (stripe, what) = (script.byte(), script.byte());
        if what < 128 {
            // A whole description, as trees bring it.
            (0..layout.chunk_count()).for_each(|index| insert(stripe, index));
        } else {
            insert(stripe, usize::from(what - 128) % layout.chunk_count().max(1));
        }
    }
    check_layers(&assembler);
    for (index, layer) in layers.iter().enumerate() {
        let has_enough = layout.chunks_of_layer(index).all(|chunk| {
            let here = layout.stripes().iter().filter(|stripe| assembler.has(*stripe, chunk));
            here.count() >= usize::from(layer.threshold)
        });
        let expected = has_enough.then_some(&layer.data);
        assert_eq!(assembler.layer(index).as_ref(), expected, "layer {index}");
    }
    if assembler.is_decodable() {
        assert_eq!(assembler.rebuild().as_ref(), Some(&encoded));
        for (stripe, chunks) in layout.stripes().iter().zip(&encoded.chunks) {
            assert_eq!(assembler.regenerate(stripe).as_ref(), Some(chunks), "stripe {stripe}");
        }
    }
}

fn check_layers(assembler: &Assembler) {
    let layers = assembler.layout().layers();
    for (index, layer) in layers.iter().enumerate() {
        let rebuilt = assembler.layer(index);
        assert_eq!(rebuilt.is_some(), assembler.is_layer_decodable(index));
        assert!(rebuilt.is_none_or(|bytes| bytes.len() == layer.length as usize));
    }
    assert_eq!(assembler.layer(layers.len()), None);
}

fn check_description(layout: &Layout, chunks: &[Bytes]) {
    assert_eq!(chunks.len(), layout.chunk_count());
    for (index, chunk) in chunks.iter().enumerate() {
        assert_eq!(layout.chunk_span(index).map(|span| span.length), Some(chunk.len()));
    }
}

/// The layout a script begins with; `None` where there is no such layout.
fn layout(script: &mut Script<'_>) -> Option<Layout> {
    let stripes = StripeCount::new(1 << (script.byte() % 7))?;
    let chunk_length = u32::from(script.byte() % 64) * 64 + 256;
    let count = usize::from(script.byte()) % (MAX_LAYERS + 1);
    let layers = (0..count)
        .map(|_| LayerLayout {
            threshold: script.byte(),
            length: u32::from(script.word()) % MAX_LAYER,
        })
        .collect();
    Layout::new(stripes, chunk_length, layers).ok()
}
