//! What can be wrong with an input, one enum per thing that reads.
//!
//! Decides the sentences a user reads. A damaged stretch inside a good input is never an error: the
//! demuxer drops the unit it hits and goes on.

use crate::probe::Hint;

/// Why a live byte stream cannot be carried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DemuxError {
    /// Neither a run of transport packets was found nor the start of another container.
    #[error(
        "the input is neither an MPEG transport stream nor fragmented MP4 nor Matroska: {looks_like}"
    )]
    NotTransportStream {
        /// What its first bytes look like instead.
        looks_like: Hint,
    },
    /// A transport stream with longer packets: 192 bytes (Blu-ray, AVCHD) or 204 (with parity).
    #[error(
        "transport packets of {0} bytes are not carried, only of 188; \
         convert with: ffmpeg -i IN -c copy -f mpegts OUT.ts"
    )]
    PacketSize(u16),
    /// Transport packets, but no programme table in the first stretch of them.
    #[error("the transport stream describes no programme (no PAT and PMT were found)")]
    NoProgramme,
    /// There are programmes, but no picture this version carries.
    #[error("the programme's video is {codec}, which this version does not carry; {CONVERT_VIDEO}")]
    UnsupportedVideo {
        /// The codec that was found, as a lower-case name.
        codec: &'static str,
    },
    /// There is video, but of a codec this version does not carry in this container.
    #[error("the input's video is {codec}, which this version does not carry; {CONVERT_VIDEO}")]
    UnsupportedTrack {
        /// The codec that was found.
        codec: String,
    },
    /// There is neither video nor sound that is carried.
    #[error("the input has neither video nor sound that this version carries; {CONVERT_VIDEO}")]
    NothingCarried,
    /// A stream of pictures is announced, but its parameter sets never came.
    #[error(
        "the programme's {codec} stream has no parameter sets, so nothing of it can be decoded"
    )]
    NoParameterSets {
        /// The stream's codec.
        codec: &'static str,
    },
    /// An MP4 file whose index is at its end, which cannot be read as it comes.
    #[error(
        "the mp4 input has its index behind its pictures, so it can be read only as a file; \
         as a stream, send it with: ffmpeg -i IN -c copy -f mpegts -"
    )]
    IndexAtEnd,
    /// The container makes no sense.
    #[error("the input is damaged or cut short: {0}")]
    Malformed(&'static str),
}

/// The error a demuxer has ended with, if it has: every later call gives the same.
#[derive(Debug, Default)]
pub(crate) struct Failure(Option<DemuxError>);

impl Failure {
    /// The error there was.
    pub(crate) fn check(&self) -> Result<(), DemuxError> {
        self.0.clone().map_or(Ok(()), Err)
    }

    /// Remembers the error of a result, and gives the result back.
    pub(crate) fn note(&mut self, result: Result<(), DemuxError>) -> Result<(), DemuxError> {
        if let Err(error) = &result {
            self.0 = Some(error.clone());
        }
        result
    }
}

/// Why an MP4 file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Mp4Error {
    /// The file could not be read.
    #[error("the file cannot be read")]
    Io(#[from] std::io::Error),
    /// The file is not MP4.
    #[error("the file is not an MP4 file: {looks_like}")]
    NotMp4 {
        /// What its first bytes look like instead.
        looks_like: Hint,
    },
    /// A box says it is longer than what holds it, or a table is shorter than it says.
    #[error("the mp4 file is damaged or cut short: {0}")]
    Malformed(&'static str),
    /// The file is fragmented MP4: read it with [`crate::Demuxer`].
    #[error("the file is fragmented mp4, which is read as a stream")]
    Fragmented,
    /// Something this version does not do.
    #[error("{0} is not supported; convert with: ffmpeg -i IN -c copy -f mpegts OUT.ts")]
    Unsupported(&'static str),
    /// Video, but of a codec this version does not carry.
    #[error("the file's video is {codec}, which this version does not carry; {CONVERT_VIDEO}")]
    UnsupportedVideo {
        /// The codec that was found, as a lower-case name.
        codec: String,
    },
    /// There is neither video nor sound that is carried.
    #[error("the file has neither video nor sound that this version carries; {CONVERT_VIDEO}")]
    NothingCarried,
}

/// Why the bytes of a layer are not a list of access units.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The first byte names a format this version does not know.
    #[error("layer format {0} is not known")]
    Version(u8),
    /// The bytes end inside a field.
    #[error("the layer ends inside its {0}")]
    Truncated(&'static str),
    /// Bytes follow the last access unit.
    #[error("{0} bytes follow the last access unit of the layer")]
    TrailingBytes(usize),
    /// A number is longer than 64 bits, or not in its shortest form.
    #[error("the {0} is not a valid number")]
    BadNumber(&'static str),
    /// A field holds a value it may not have.
    #[error("the {0} is out of range")]
    OutOfRange(&'static str),
    /// More access units than the limit.
    #[error("{found} access units in one layer, more than {limit}")]
    TooManyUnits {
        /// How many the layer holds.
        found: u64,
        /// How many are allowed.
        limit: usize,
    },
    /// An access unit longer than the limit.
    #[error("an access unit of {found} bytes, more than {limit}")]
    UnitTooLong {
        /// How long it is.
        found: u64,
        /// How long it may be.
        limit: usize,
    },
    /// Two layers hold a unit of the same place in the generation.
    #[error("two layers hold access unit {0}")]
    Duplicate(u32),
}

/// The pacer's queue is full: its client takes the stream slower than real time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {limit} bytes wait to be released")]
pub struct PacerFull {
    /// The limit, in bytes.
    pub limit: usize,
}

/// What to do about a codec that is not carried.
const CONVERT_VIDEO: &str = "convert with: ffmpeg -i IN -c:v libx264 -c:a aac -f mpegts OUT.ts";

/// What to say of sound that is left out.
pub(crate) fn sound_not_carried(codec: &str) -> String {
    format!("{codec}; to have it, convert with: ffmpeg -i IN -c:v copy -c:a aac OUT.mkv")
}
