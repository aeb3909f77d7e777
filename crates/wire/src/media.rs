//! What the manifest says about the programme: its tracks and their codecs.
//!
//! Decides the names of codecs on the wire and the limits of a track's description. What the bytes
//! of a codec mean is left to `banyan-media`, the only crate that knows one.

use bytes::Bytes;

/// Most tracks a programme may have.
pub const MAX_TRACKS: usize = 8;
/// Longest codec configuration of one track, in bytes.
pub const MAX_CODEC_CONFIG: usize = 4096;
/// Longest language tag of a track, in bytes.
pub const MAX_LANGUAGE: usize = 16;

/// Media time: ticks of 90 kHz since an origin the source chose; never wraps.
///
/// The clock of pictures and sound. It says nothing about when bytes travel: that is
/// `banyan_core::Instant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MediaTime(pub i64);

impl MediaTime {
    /// Ticks per second.
    pub const HZ: i64 = 90_000;

    /// The time `micros` microseconds after the origin.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros * 9 / 100)
    }

    /// Microseconds since the origin.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0 * 100 / 9
    }
}

impl std::ops::Sub for MediaTime {
    type Output = i64;

    /// Ticks from `rhs` to `self`.
    fn sub(self, rhs: Self) -> i64 {
        self.0 - rhs.0
    }
}

impl std::ops::Add<i64> for MediaTime {
    type Output = Self;

    fn add(self, ticks: i64) -> Self {
        Self(self.0 + ticks)
    }
}

/// Names a track within its broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u8);

/// How a track's access units are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// ITU-T H.264, access units as an Annex B byte stream.
    H264,
    /// ITU-T H.265, access units as an Annex B byte stream.
    Hevc,
    /// AV1; access units are temporal units of OBUs that have a size field, without temporal
    /// delimiters.
    Av1,
    /// VP9; access units are frames, or superframes where a frame is not shown by itself.
    Vp9,
    /// MPEG-4 AAC; access units are ADTS frames.
    Aac,
    /// MPEG-1/2 audio, layers I to III; access units are whole frames.
    Mp3,
    /// ATSC A/52 (AC-3); access units are sync frames.
    Ac3,
    /// Opus (RFC 6716); access units are packets.
    Opus,
}

impl Codec {
    /// Whether the track carries pictures.
    #[must_use]
    pub const fn is_video(self) -> bool {
        matches!(self, Self::H264 | Self::Hevc | Self::Av1 | Self::Vp9)
    }

    /// Short lower-case name, as in logs and in `/api/state`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Hevc => "hevc",
            Self::Av1 => "av1",
            Self::Vp9 => "vp9",
            Self::Aac => "aac",
            Self::Mp3 => "mp3",
            Self::Ac3 => "ac3",
            Self::Opus => "opus",
        }
    }
}

/// Which of the pictures of one programme a track holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Rendition {
    /// The programme as it is meant to be seen; and all sound.
    #[default]
    Full,
    /// The same pictures at the same times, smaller: shown where the full ones did not arrive.
    Low,
}

impl Rendition {
    /// Short lower-case name, as in events and in `/api/state`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Low => "low",
        }
    }
}

/// One elementary stream of the programme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Its name in access units.
    pub id: TrackId,
    /// How its access units are coded.
    pub codec: Codec,
    /// Picture width in pixels; 0 for sound, or where it is not known.
    pub width: u16,
    /// Picture height in pixels; 0 for sound, or where it is not known.
    pub height: u16,
    /// Samples per second; 0 for pictures.
    pub sample_rate: u32,
    /// Sound channels; 0 for pictures.
    pub channels: u8,
    /// ISO 639-2 language, or empty.
    pub language: String,
    /// Which of the pictures it holds.
    pub rendition: Rendition,
    /// Codec configuration out of band: for H.264 and H.265 the parameter sets as Annex B, for AV1
    /// the AV1CodecConfigurationRecord (what an `av1C` box holds), for VP9 the same of a `vpcC` box
    /// without the box's version and flags, or empty, for AAC the AudioSpecificConfig, for Opus the
    /// identification header of RFC 7845, else empty. At most [`MAX_CODEC_CONFIG`] bytes.
    pub config: Bytes,
}
