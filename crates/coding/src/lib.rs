//! Multiple-description coding of a generation: layers → K descriptions → chunks, and back from
//! any subset of the chunks, in any order.
//!
//! ```text
//!   layer 0, k₀ = 2 of 4            layer 1, k₁ = 3 of 4
//!   ┌──────┬──────┐                 ┌──────┬──────┬──────┐
//!   │ d0   │ d1   │                 │ d0   │ d1   │ d2 ░░│  ░ zero padding
//!   └──┬───┴──┬───┘                 └──┬───┴──┬───┴──┬───┘
//!      ▼      ▼  RS(4, 2)              ▼      ▼      ▼  RS(4, 3)
//!     d0     d1     p0     p1         d0     d1     d2     p0
//!      │      │      │      │          │      │      │      │
//!   stripe 0  1      2      3       stripe 0  1      2      3
//! ```
//!
//! A description is, for each layer, one shard of it, cut into chunks; any k_l descriptions give
//! layer l back, so quality grows with their number, whichever they are. The code is systematic:
//! data shards come first and are the layer's own bytes. The chunks at the same place of all
//! descriptions, a *column*, are a code word of their own, so a lost chunk is made good by any
//! other chunk of its column and never costs the rest of its description.
//!
//! Decides the code and what is rebuilt from what. Where a chunk lies is
//! [`banyan_wire::Layout`]'s to say; what a layer holds is left to whoever publishes; hashes and
//! signatures to `banyan-wire`, when to rebuild to `banyan-core`. Pure functions over bytes: no
//! clock, no randomness, no I/O, and the same input gives the same bytes on every machine.
//!
//! ```
//! use banyan_coding::{Assembler, Layer, encode};
//! use banyan_wire::StripeCount;
//!
//! let layers = [
//!     Layer { threshold: 6, data: "sound and a small picture".into() },
//!     Layer { threshold: 13, data: "the full picture".into() },
//! ];
//! let encoded = encode(StripeCount::DEFAULT, 1024, &layers)?;
//!
//! // Descriptions 4 … 9 arrive, the others do not.
//! let mut assembler = Assembler::new(encoded.layout.clone());
//! for stripe in encoded.layout.stripes().iter().skip(4).take(6) {
//!     for (index, chunk) in encoded.chunks[stripe.index()].iter().enumerate() {
//!         assembler.insert(stripe, index, chunk.clone());
//!     }
//! }
//! assert_eq!(assembler.layer(0), Some(layers[0].data.clone()));
//! assert_eq!(assembler.layer(1), None);
//! # Ok::<(), banyan_coding::EncodeError>(())
//! ```
//!
//! The scheme is the MD-FEC of Puri and Ramchandran (1999) as CoopNet used it, with few layers in
//! place of a graded prefix.
//!
//! Departure: break-points are the caller's, one threshold a layer. H.264 as encoders make it is
//! not embedded, and measured on it a fine grading loses against one or two thresholds.

mod assembler;
mod code;
mod encode;
mod engine;
pub mod optimise;
pub mod redundancy;
#[cfg(test)]
mod testing;
pub mod thresholds;

pub use assembler::Assembler;
pub use encode::{EncodeError, Encoded, chunk_length_for, description_length, encode};

/// One layer of a generation before coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// k: how many descriptions, any of the K, give it back. 1 … K, and not below that of the
    /// layer before it.
    pub threshold: u8,
    /// Its bytes. May be empty: the layer then has no chunks and is always at hand.
    pub data: bytes::Bytes,
}
