//! One face for all live inputs.
//!
//! Decides by its first bytes which demuxer a live byte stream gets, and that after an end another
//! stream may follow, of the same container or another: its time goes on where the last one ended.
//! Files whose index stands at the end are left to [`crate::Mp4Reader`].

use crate::error::DemuxError;
use crate::flv::FlvDemuxer;
use crate::matroska::MatroskaDemuxer;
use crate::mp4::live::Mp4Demuxer;
use crate::probe::{Container, SNIFF_LEN, sniff};
use crate::renditions::Renditions;
use crate::timeline::Timeline;
use crate::ts::demux::{DemuxStats, Event, TsDemuxer};

/// First bytes that tell the containers that begin with their name.
const SHORT_SNIFF_LEN: usize = 64;

/// Reads a live byte stream of any container that is carried live: MPEG transport streams,
/// fragmented MP4 (and files whose index stands in front), Matroska and WebM, FLV.
///
/// Push bytes of any length, then drain the events; the queue of events is as long as what was
/// pushed and not drained.
#[derive(Debug)]
pub struct Demuxer {
    inner: Inner,
    /// The stream has ended; with the next byte another one begins.
    is_ended: bool,
    /// Damage of the streams before, but for transport streams: theirs go on.
    past: DemuxStats,
    renditions: Renditions,
}

#[derive(Debug)]
enum Inner {
    /// Which container it is, has to be seen. Of a transport stream before, the demuxer.
    Sniffing {
        head: Vec<u8>,
        before: Option<Box<TsDemuxer>>,
        timeline: Timeline,
    },
    Ts(Box<TsDemuxer>),
    Mp4(Box<Mp4Demuxer>),
    Matroska(Box<MatroskaDemuxer>),
    Flv(Box<FlvDemuxer>),
}

/// Does the same with whichever demuxer it is.
macro_rules! each {
    ($inner:expr, $name:ident => $what:expr, else $else:expr) => {
        match $inner {
            Inner::Sniffing { .. } => $else,
            Inner::Ts($name) => $what,
            Inner::Mp4($name) => $what,
            Inner::Matroska($name) => $what,
            Inner::Flv($name) => $what,
        }
    };
}

impl Demuxer {
    /// Creates a demuxer that finds out which container it is given.
    #[must_use]
    pub fn sniffing() -> Self {
        Self::new(Inner::Sniffing { head: Vec::new(), before: None, timeline: Timeline::default() })
    }

    /// Creates a demuxer for a transport stream.
    #[must_use]
    pub fn ts() -> Self {
        Self::new(Inner::Ts(Box::default()))
    }

    /// Creates a demuxer for an FLV stream.
    #[must_use]
    pub fn flv() -> Self {
        Self::new(Inner::Flv(Box::default()))
    }

    fn new(inner: Inner) -> Self {
        Self {
            inner,
            is_ended: false,
            past: DemuxStats::default(),
            renditions: Renditions::default(),
        }
    }

    /// Looks for renditions of the programme as told. For a demuxer that has taken nothing yet.
    #[must_use]
    pub fn with_renditions(mut self, renditions: Renditions) -> Self {
        self.renditions = renditions;
        if let Inner::Ts(demuxer) = &mut self.inner {
            **demuxer = TsDemuxer::with_renditions(renditions);
        }
        self
    }

    /// Takes the next bytes; see [`TsDemuxer::push`].
    ///
    /// # Errors
    ///
    /// If the input cannot be carried.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DemuxError> {
        if self.is_ended && !bytes.is_empty() {
            self.begin_anew();
        }
        let Inner::Sniffing { head, .. } = &mut self.inner else {
            return each!(&mut self.inner, demuxer => demuxer.push(bytes), else Ok(()));
        };
        let missing = SNIFF_LEN.saturating_sub(head.len());
        let (first, rest) = bytes.split_at(missing.min(bytes.len()));
        head.extend_from_slice(first);
        let is_named = head.len() >= SHORT_SNIFF_LEN
            && matches!(sniff(head), Container::Mp4 | Container::Matroska | Container::Flv);
        if head.len() < SNIFF_LEN && !is_named {
            return Ok(());
        }
        self.decide()?;
        each!(&mut self.inner, demuxer => demuxer.push(rest), else Ok(()))
    }

    /// The next event; drain after every [`push`](Self::push) and [`finish`](Self::finish).
    #[must_use]
    pub fn poll(&mut self) -> Option<Event> {
        each!(&mut self.inner, demuxer => demuxer.poll(), else None)
    }

    /// Says that the stream ends here; see [`TsDemuxer::finish`]. Once its events are drained,
    /// another stream may follow.
    ///
    /// # Errors
    ///
    /// If the whole input was not a stream that can be carried.
    pub fn finish(&mut self) -> Result<(), DemuxError> {
        if self.is_ended {
            return Ok(());
        }
        self.decide()?;
        each!(&mut self.inner, demuxer => demuxer.finish(), else Ok(()))?;
        self.is_ended = true;
        Ok(())
    }

    /// How much of the input was damaged.
    #[must_use]
    pub fn stats(&self) -> DemuxStats {
        let now = each!(&self.inner, demuxer => demuxer.stats(), else DemuxStats::default());
        self.past.plus(now)
    }

    /// Goes over to the demuxer for what the first bytes look like.
    fn decide(&mut self) -> Result<(), DemuxError> {
        let Inner::Sniffing { head, before, timeline } = &mut self.inner else { return Ok(()) };
        let (head, before) = (std::mem::take(head), before.take());
        let timeline = std::mem::take(timeline);
        let container = sniff(&head);
        // The demuxer of transport streams knows what to say of anything that is unknown.
        let is_ts = matches!(container, Container::MpegTs | Container::Unknown(_));
        let (before, timeline) = match before {
            Some(mut before) if !is_ts => {
                self.past = self.past.plus(before.stats());
                (None, before.take_timeline())
            }
            before => (before, timeline),
        };
        let renditions = self.renditions;
        self.inner = match container {
            Container::Mp4 => Inner::Mp4(Box::new(Mp4Demuxer::with_timeline(timeline, renditions))),
            Container::Matroska => {
                Inner::Matroska(Box::new(MatroskaDemuxer::with_timeline(timeline, renditions)))
            }
            Container::Flv => Inner::Flv(Box::new(FlvDemuxer::with_timeline(timeline))),
            Container::MpegTs | Container::Unknown(_) => {
                let anew = || Box::new(TsDemuxer::with_timeline(timeline, renditions));
                Inner::Ts(before.unwrap_or_else(anew))
            }
        };
        each!(&mut self.inner, demuxer => demuxer.push(&head), else Ok(()))
    }

    /// Gets ready for another stream.
    fn begin_anew(&mut self) {
        self.is_ended = false;
        let stats = each!(&self.inner, demuxer => demuxer.stats(), else DemuxStats::default());
        let next = |timeline| Inner::Sniffing { head: Vec::new(), before: None, timeline };
        let inner = std::mem::replace(&mut self.inner, next(Timeline::default()));
        self.inner = match inner {
            Inner::Ts(before) => Inner::Sniffing {
                head: Vec::new(),
                before: Some(before),
                timeline: Timeline::default(),
            },
            Inner::Mp4(mut demuxer) => {
                self.past = self.past.plus(stats);
                next(demuxer.take_timeline())
            }
            Inner::Flv(mut demuxer) => {
                self.past = self.past.plus(stats);
                next(demuxer.take_timeline())
            }
            Inner::Matroska(mut demuxer) => {
                self.past = self.past.plus(stats);
                next(demuxer.take_timeline())
            }
            sniffing @ Inner::Sniffing { .. } => sniffing,
        };
    }
}
