//! Every decoder of untrusted bytes as a plain function of bytes.
//!
//! ```text
//!   corpus/, regressions/ ──▶ tests/replay.rs ──── as they are and mutated ──┐
//!                                                                            ├─▶ TARGETS ─▶ the crates
//!   corpus/ ──────────────▶ fuzz_targets/ ───────── guided by coverage ──────┘
//! ```
//!
//! Decides what is fed to what, which properties must hold whatever the bytes are, and how much
//! memory an input may take. A target returns if they hold and panics if not; an input that is refused
//! is as good as one that is understood. Where inputs come from is left to `tests/replay.rs` and to
//! libFuzzer.

mod coding;
mod media;
mod peer;
mod pieces;
mod script;
mod viewer;
mod wire;

use banyan_media::Demuxer;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A decoder of untrusted bytes, and what it may cost.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As on the command line, and of its folders in `corpus` and `regressions`.
    pub name: &'static str,
    /// Takes an input. Panics where a property does not hold.
    pub run: fn(&[u8]),
    /// Bounds the memory in use at a time.
    pub memory: Memory,
    /// Whether inputs are long and slow: the replay gives it a third of its inputs.
    pub is_slow: bool,
}

/// A bound on the memory an input takes at a time, what the target needs for its own checks included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes, whatever the input.
    pub fixed: u64,
    /// Bytes for each byte of the input.
    pub per_byte: u64,
}

impl Memory {
    /// What an input of `length` bytes may take.
    #[must_use]
    pub const fn allowance(self, length: usize) -> u64 {
        self.fixed + self.per_byte * length as u64
    }
}

/// All of them. A new demuxer or reader of files is one more line.
///
/// The fixed part of a bound is the decoder's own buffers; the rest follows from the densest input: two
/// bytes of protobuf may stand for an empty contact of 104, six of a layer for an access unit of 64, and a
/// list that grows is held twice for a moment.
pub const TARGETS: [Target; 15] = [
    quick("wire_control", wire::control, 16 * KIB, 80),
    quick("wire_data", wire::data, 16 * KIB, 64),
    quick("wire_manifest", wire::manifest, 16 * KIB, 64),
    quick("wire_names", wire::names, 16 * KIB, 64),
    quick("coding_chunks", coding::chunks, MIB, 256),
    slow("coding_recovery", coding::recovery, 2 * MIB, 64),
    quick("media_layer", media::layer, 16 * KIB, 64),
    quick("media_merge", media::merge, 16 * KIB, 64),
    quick("media_sniff", media::sniff_head, 16 * KIB, 16),
    slow("media_ts", |input| media::live(Demuxer::ts, input), 256 * KIB, 64),
    slow("media_live", |input| media::live(Demuxer::sniffing, input), 256 * KIB, 64),
    slow("media_flv", |input| media::live(Demuxer::flv, input), 256 * KIB, 64),
    slow("media_mp4", media::mp4, 64 * KIB, 32),
    slow("viewer", viewer::run, 256 * KIB, 64),
    slow("core_peer", peer::run, 512 * KIB, 128),
];

/// Gives `input` to the target of that name.
///
/// # Panics
/// If there is none, or a property of it does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("a program under fuzz_targets names a target of the table");
    (target.run)(input);
}

const fn quick(name: &'static str, run: fn(&[u8]), fixed: u64, per_byte: u64) -> Target {
    Target { name, run, memory: Memory { fixed, per_byte }, is_slow: false }
}

const fn slow(name: &'static str, run: fn(&[u8]), fixed: u64, per_byte: u64) -> Target {
    Target { name, run, memory: Memory { fixed, per_byte }, is_slow: true }
}
