//! One face for all live inputs.
//!
//! Decides nothing but that transport streams and FLV are handled alike; files are left to
//! [`crate::Mp4Reader`].

use crate::error::DemuxError;
use crate::flv::FlvDemuxer;
use crate::ts::demux::{DemuxStats, Event, TsDemuxer};

/// Reads a live byte stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum Demuxer {
    /// An MPEG transport stream.
    Ts(Box<TsDemuxer>),
    /// FLV, as RTMP carries it too.
    Flv(Box<FlvDemuxer>),
}

impl Demuxer {
    /// Creates a demuxer for a transport stream.
    #[must_use]
    pub fn ts() -> Self {
        Self::Ts(Box::default())
    }

    /// Creates a demuxer for an FLV stream.
    #[must_use]
    pub fn flv() -> Self {
        Self::Flv(Box::default())
    }

    /// Takes the next bytes; see [`TsDemuxer::push`].
    ///
    /// # Errors
    ///
    /// If the input cannot be carried.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DemuxError> {
        match self {
            Self::Ts(demuxer) => demuxer.push(bytes),
            Self::Flv(demuxer) => demuxer.push(bytes),
        }
    }

    /// The next event; drain after every [`push`](Self::push) and [`finish`](Self::finish).
    #[must_use]
    pub fn poll(&mut self) -> Option<Event> {
        match self {
            Self::Ts(demuxer) => demuxer.poll(),
            Self::Flv(demuxer) => demuxer.poll(),
        }
    }

    /// Says that the stream ends here; see [`TsDemuxer::finish`].
    ///
    /// # Errors
    ///
    /// If the whole input was not a stream that can be carried.
    pub fn finish(&mut self) -> Result<(), DemuxError> {
        match self {
            Self::Ts(demuxer) => demuxer.finish(),
            Self::Flv(demuxer) => demuxer.finish(),
        }
    }

    /// How much of the input was damaged.
    #[must_use]
    pub fn stats(&self) -> DemuxStats {
        match self {
            Self::Ts(demuxer) => demuxer.stats(),
            Self::Flv(demuxer) => demuxer.stats(),
        }
    }
}
