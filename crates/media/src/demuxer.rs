//! One face for all live inputs.
//!
//! Decides which demuxer a live byte stream gets. In this version all of stdin, UDP and TCP carry a
//! transport stream, so there is one; files are left to [`crate::Mp4Reader`].

use crate::error::DemuxError;
use crate::renditions::Renditions;
use crate::ts::demux::{DemuxStats, Event, TsDemuxer};

/// Reads a live byte stream.
#[derive(Debug)]
#[non_exhaustive]
pub enum Demuxer {
    /// An MPEG transport stream.
    Ts(Box<TsDemuxer>),
}

impl Demuxer {
    /// Creates a demuxer for a transport stream.
    #[must_use]
    pub fn ts() -> Self {
        Self::Ts(Box::default())
    }

    /// Creates a demuxer for a transport stream that looks for renditions of the programme as told.
    #[must_use]
    pub fn ts_with_renditions(renditions: Renditions) -> Self {
        Self::Ts(Box::new(TsDemuxer::with_renditions(renditions)))
    }

    /// Takes the next bytes; see [`TsDemuxer::push`].
    ///
    /// # Errors
    ///
    /// If the input cannot be carried.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DemuxError> {
        match self {
            Self::Ts(demuxer) => demuxer.push(bytes),
        }
    }

    /// The next event; drain after every [`push`](Self::push) and [`finish`](Self::finish).
    #[must_use]
    pub fn poll(&mut self) -> Option<Event> {
        match self {
            Self::Ts(demuxer) => demuxer.poll(),
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
        }
    }

    /// How much of the input was damaged.
    #[must_use]
    pub fn stats(&self) -> DemuxStats {
        match self {
            Self::Ts(demuxer) => demuxer.stats(),
        }
    }
}
