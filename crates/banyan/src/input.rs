//! What a publisher can read from, as a stream of tracks and generations.
//!
//! ```text
//!   stdin ──────── thread ─┐
//!   tcp:// ── tasks ─┐     │
//!   rtmp:// ─ tasks ─┤     ├─ pieces ─▶ cutter: demuxer, splice, generation builder ─ items ─▶ publisher
//!   srt:// ── task ──┼─ door                                                      ▲
//!   udp:// ── task ──┘                                                            │
//!   file ── thread: reader, generation builder ───────────────────────────────────┘
//! ```
//!
//! Decides which inputs there are, and that an encoder may stall, end and come back: what has
//! come is sent on, and the timeline continues. Containers are `banyan-media`'s.

mod cutter;
mod file;
mod live;
pub mod options;
mod rtmp;
mod session;
mod splice;
mod srt;
#[cfg(test)]
mod tests_live;
mod udp;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use banyan_media::{DEFAULT_MAX_DURATION, Generation, GenerationBuilder, Renditions};
use banyan_wire::Track;
use tokio::sync::mpsc;

use crate::error::{Failure, Outcome};

pub(crate) use file::{FileInput, Totals, complete_at};

/// Generations that may wait for the publisher; at the limit the reader waits.
pub(crate) const ITEMS: usize = 8;

/// Where a programme comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A stream on stdin: MPEG-TS, fragmented MP4, Matroska, WebM or FLV.
    Stdin,
    /// A file: `.ts`, `.mp4`, `.mkv` or `.webm`.
    File(PathBuf),
    /// Datagrams of an MPEG transport stream, plain or in RTP.
    Udp(options::Udp),
    /// A connection that brings a stream as on stdin, accepted at HOST:PORT.
    Tcp(String),
    /// An SRT caller that brings the same.
    Srt(options::Srt),
    /// An RTMP publisher.
    Rtmp(options::Rtmp),
}

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::File(PathBuf::from(text)));
        };
        match scheme {
            "udp" | "rtp" => options::Udp::read(rest).map(Self::Udp),
            "tcp" => options::tcp(rest).map(Self::Tcp),
            "srt" => options::Srt::read(rest).map(Self::Srt),
            "rtmp" => options::Rtmp::read(rest).map(Self::Rtmp),
            "rtmps" => Err("rtmps:// is not in this version: use rtmp://, or srt:// with a \
                            passphrase where others can listen"
                .to_owned()),
            _ => Err(format!(
                "{scheme}:// is no input: use -, a .ts, .mp4, .mkv or .webm file, rtmp://HOST:PORT/APP/KEY, \
                 srt://HOST:PORT, udp://HOST:PORT or tcp://HOST:PORT"
            )),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("stdin"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Udp(udp) => write!(f, "udp://{}", udp.address),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            // Without what is secret.
            Self::Srt(srt) => write!(f, "srt://{}", srt.address),
            Self::Rtmp(rtmp) => write!(f, "rtmp://{}/{}", rtmp.address, rtmp.app),
        }
    }
}

/// What an input gives.
#[derive(Debug)]
pub(crate) enum Item {
    /// The programme's tracks: first of all, and again when they change.
    Tracks(Vec<Track>),
    /// The next stretch of the programme.
    Generation(Generation),
    /// Something worth a line to the user.
    Notice(String),
    /// The input cannot go on.
    Failed(Failure),
}

/// An open input. It has ended when the channel has.
#[derive(Debug)]
pub(crate) struct OpenInput {
    pub(crate) items: mpsc::Receiver<Item>,
    /// Whether the items come as fast as they can be read, and have to be paced.
    pub(crate) needs_pacing: bool,
    /// Of a file, what it amounts to.
    pub(crate) totals: Option<Totals>,
}

/// How an input is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Start a file over when it ends.
    pub(crate) repeat: bool,
    /// Where a low rendition is looked for.
    pub(crate) renditions: Renditions,
    /// Longest generation; zero gives every picture as soon as it is there.
    pub(crate) max_duration: Duration,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            repeat: false,
            renditions: Renditions::default(),
            max_duration: DEFAULT_MAX_DURATION,
        }
    }
}

impl Reading {
    fn builder(&self) -> GenerationBuilder {
        GenerationBuilder::new(self.max_duration)
    }
}

/// Opens an input. Files are looked through first, so that what is wrong with them is said before
/// anything is sent.
///
/// # Errors
/// [`Failure`] says in one line what cannot be read, and why.
pub(crate) async fn open(input: &Input, reading: Reading) -> Outcome<OpenInput> {
    if reading.repeat && !matches!(input, Input::File(_)) {
        return Err(Failure::usage("--loop is for files only"));
    }
    let (sender, items) = mpsc::channel(ITEMS);
    let mut totals = None;
    match input {
        Input::File(path) => {
            let file = FileInput::open(path)?;
            totals = Some(file.totals(reading.renditions)?);
            file.start(reading, sender);
        }
        Input::Stdin => live::stdin(reading, sender),
        Input::Udp(udp) => udp::udp(udp, reading, sender).await?,
        Input::Tcp(address) => live::tcp(address, reading, sender).await?,
        Input::Srt(srt) => srt::srt(srt, reading, sender).await?,
        Input::Rtmp(rtmp) => rtmp::rtmp(rtmp, reading, sender).await?,
    }
    let needs_pacing = matches!(input, Input::File(_));
    Ok(OpenInput { items, needs_pacing, totals })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_told_apart_by_their_form() {
        assert_eq!("-".parse(), Ok(Input::Stdin));
        assert_eq!("a/b.ts".parse(), Ok(Input::File("a/b.ts".into())));
        for text in [
            "udp://127.0.0.1:9000",
            "tcp://[::1]:9000",
            "srt://0.0.0.0:9000",
            "rtmp://127.0.0.1:1935/live",
        ] {
            let input: Input = text.parse().expect(text);
            assert_eq!(input.to_string(), text);
        }
        let secret: Input = "rtmp://127.0.0.1:1935/live/abc".parse().expect("an input");
        assert_eq!(secret.to_string(), "rtmp://127.0.0.1:1935/live");
    }

    #[test]
    fn what_is_no_input_is_told_what_is_one() {
        let error = |text: &str| text.parse::<Input>().expect_err(text);
        assert!(error("rtmps://127.0.0.1/app/key").contains("not in this version"));
        assert!(error("http://example.org/a.ts").contains("is no input"));
        assert!(error("udp://9000").contains("needs a host and a port"));
    }
}
