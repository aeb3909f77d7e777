//! Containers and codecs: the only crate of Banyan that knows any.
//!
//! ```text
//!  live bytes ─▶ Demuxer ──┐                                         ┌─▶ TsMuxer ─▶ Pacer ─▶ player
//!                          ├─▶ access units ─▶ GenerationBuilder     ├─▶ CmafMuxer ─▶ browser, file
//!  file ──────▶ Mp4Reader ─┘                        │          merge_layers
//!                                              split_layers          ▲
//!                                                   └── layers ── … ─┘
//! ```
//!
//! A source cuts its input into [`AccessUnit`]s, groups them into [`Generation`]s and hands the layers
//! of each on as bytes; a viewer makes access units of the layers that arrived, chooses what of them
//! makes sense ([`RenditionSwitch`]), and makes a transport stream of those. Container packets never travel.
//!
//! Everything here is bytes in, values out: no task, no socket, no clock. Everything that comes from
//! outside is hostile: no input panics, every buffer has a limit, and an input that cannot be carried
//! gives one error that says what it is and what to do. Redundancy, the network and HTTP are left to
//! other crates.

mod aac;
mod access_unit;
mod annexb;
mod audio;
mod av1;
mod bits;
mod cmaf;
mod demuxer;
mod error;
mod es;
mod flv;
mod generation;
mod h264;
mod held;
mod hevc;
mod interleave;
mod matroska;
mod mp4;
mod nal;
mod opus;
mod probe;
mod programme;
mod renditions;
mod sample;
mod switch;
mod timeline;
mod ts;
mod vp9;

pub use access_unit::{AccessUnit, Priority};
pub use cmaf::{CmafMuxer, Fragment, Init};
pub use demuxer::Demuxer;
pub use error::{DemuxError, Mp4Error, PacerFull, PayloadError};
pub use es::MAX_ACCESS_UNIT;
pub use flv::FlvDemuxer;
pub use generation::layers::{Layering, merge_layers, split_layers};
pub use generation::payload;
pub use generation::{
    DEFAULT_MAX_DURATION, Generation, GenerationBuilder, MAX_GENERATION_BYTES,
    MAX_GENERATION_UNITS, low_track,
};
pub use matroska::MatroskaDemuxer;
pub use mp4::Mp4Reader;
pub use mp4::live::Mp4Demuxer;
pub use probe::{Container, Hint, SNIFF_LEN, sniff};
pub use renditions::Renditions;
pub use switch::{Arrived, RenditionSwitch, Shown};
pub use ts::PACKET_LEN;
pub use ts::demux::{DemuxStats, Event, TsDemuxer};
pub use ts::mux::{DELAY, TsMuxer, ts_carries};
pub use ts::pacer::Pacer;
