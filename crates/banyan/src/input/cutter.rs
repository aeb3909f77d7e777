//! From the bytes of live encoders to generations.
//!
//! Decides what happens when the bytes stop for a while (what is there is sent on as a shorter
//! generation, so that viewers are not kept waiting for the rest), when an encoder is cut off, and
//! that another one continues the programme. Who may connect is decided in [`super::session`].

use std::time::Duration;

use banyan_media::{Demuxer, Event, GenerationBuilder};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::error::Failure;
use crate::input::splice::Splice;
use crate::input::{Item, Reading};

/// Silence after which a generation is cut where it is: two of the usual length.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time without a picture or sound after which an encoder is cut off, so that a connection that is
/// dead, or never was any good, does not keep others out. Key pictures come more often than that.
const STALL: Duration = Duration::from_secs(10);
/// Pieces that may wait for the cutter; at the limit the reader waits.
pub(super) const PIECES: usize = 64;

/// What a live reader hands on.
#[derive(Debug)]
pub(super) enum Piece {
    /// An encoder begins.
    Begin(Begin),
    /// Its next bytes.
    Bytes(Bytes),
    /// It went away; another, or the same, may come.
    End,
}

/// What is known of an encoder before its first byte.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) format: Format,
    /// Told why the encoder is cut off, if it is. Without it, an input that cannot be carried is the
    /// end of the broadcast.
    pub(super) verdict: Option<oneshot::Sender<String>>,
}

/// What an encoder sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Whatever its first bytes say.
    Any,
    /// An MPEG transport stream.
    Ts,
    /// FLV.
    Flv,
}

/// Cuts pieces until there are no more, and sends what comes of them.
pub(super) async fn run(
    mut pieces: mpsc::Receiver<Piece>,
    reading: Reading,
    items: mpsc::Sender<Item>,
) {
    let mut cutter = Cutter::new(reading);
    loop {
        let piece = match cutter.poll_timeout() {
            None => Some(pieces.recv().await),
            Some(at) => tokio::select! {
                piece = pieces.recv() => Some(piece),
                () = sleep_until(at) => None,
            },
        };
        let now = Instant::now();
        let is_over = matches!(piece, Some(None));
        let cut = match piece {
            Some(Some(Piece::Begin(begin))) => cutter.begin(now, begin),
            Some(Some(Piece::Bytes(bytes))) => cutter.push(now, &bytes),
            Some(Some(Piece::End) | None) => cutter.end(),
            None => cutter.handle_timeout(now),
        };
        for item in cut {
            let is_failure = matches!(item, Item::Failed(_));
            if items.send(item).await.is_err() || is_failure {
                return;
            }
        }
        if is_over {
            return;
        }
    }
}

/// The programme, whoever sends it.
struct Cutter {
    encoder: Option<Encoder>,
    splice: Splice,
    reading: Reading,
    builder: GenerationBuilder,
    /// The builder has something.
    has_units: bool,
}

/// Who sends it now.
struct Encoder {
    demuxer: Demuxer,
    /// It has sent something.
    has_begun: bool,
    verdict: Option<oneshot::Sender<String>>,
    /// When its last unit came, or it began.
    last_unit: Instant,
}

impl Cutter {
    fn new(reading: Reading) -> Self {
        Self {
            encoder: None,
            splice: Splice::default(),
            reading,
            builder: reading.builder(),
            has_units: false,
        }
    }

    fn begin(&mut self, now: Instant, Begin { format, verdict }: Begin) -> Vec<Item> {
        let cut = self.end();
        self.splice.begin();
        let demuxer = match format {
            Format::Any => Demuxer::sniffing(),
            Format::Ts => Demuxer::ts(),
            Format::Flv => Demuxer::flv(),
        };
        let demuxer = demuxer.with_renditions(self.reading.renditions);
        self.encoder = Some(Encoder { demuxer, has_begun: false, verdict, last_unit: now });
        cut
    }

    fn push(&mut self, now: Instant, bytes: &[u8]) -> Vec<Item> {
        let mut cut = Vec::new();
        // What still comes of an encoder that was cut off is of no interest.
        let Some(encoder) = &mut self.encoder else { return cut };
        encoder.has_begun |= !bytes.is_empty();
        let result = encoder.demuxer.push(bytes);
        if self.drain(&mut cut) > 0
            && let Some(encoder) = &mut self.encoder
        {
            encoder.last_unit = now;
        }
        if let Err(error) = result {
            self.cut_off(&error.to_string(), &mut cut);
        }
        cut
    }

    /// The encoder is gone: all it sent is sent on.
    fn end(&mut self) -> Vec<Item> {
        let mut cut = Vec::new();
        let Some(encoder) = &mut self.encoder else { return cut };
        // One that sent nothing at all, such as somebody who looks for open ports, is no error.
        let is_stdin = encoder.verdict.is_none();
        let result = if encoder.has_begun || is_stdin { encoder.demuxer.finish() } else { Ok(()) };
        self.drain(&mut cut);
        if let Err(error) = result {
            self.cut_off(&error.to_string(), &mut cut);
        } else {
            self.close(&mut cut);
        }
        cut
    }

    /// Says why the encoder is not listened to any more.
    fn cut_off(&mut self, reason: &str, cut: &mut Vec<Item>) {
        let verdict = self.encoder.as_mut().and_then(|encoder| encoder.verdict.take());
        self.close(cut);
        match verdict {
            // The reader may have noticed by itself that it is over, and says so.
            Some(verdict) => drop(verdict.send(reason.to_owned())),
            None => cut.push(Item::Failed(Failure::failed(reason))),
        }
    }

    fn close(&mut self, cut: &mut Vec<Item>) {
        self.encoder = None;
        let mut units = Vec::new();
        self.splice.release(&mut units);
        cut.extend(units.into_iter().filter_map(|unit| self.builder.push(unit)).map(generation));
        cut.extend(std::iter::from_fn(|| self.builder.flush()).map(generation));
        self.has_units = false;
    }

    fn handle_timeout(&mut self, now: Instant) -> Vec<Item> {
        let mut cut = Vec::new();
        let Some(encoder) = &self.encoder else { return cut };
        let silence = now - encoder.last_unit;
        if self.has_units && silence >= PATIENCE {
            cut.extend(std::iter::from_fn(|| self.builder.flush()).map(generation));
            self.has_units = false;
        }
        if silence >= STALL && encoder.verdict.is_some() {
            let seconds = STALL.as_secs();
            self.cut_off(&format!("no picture and no sound came for {seconds} s"), &mut cut);
        }
        cut
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let encoder = self.encoder.as_ref()?;
        let cut = self.has_units.then(|| encoder.last_unit + PATIENCE);
        let stall = encoder.verdict.is_some().then(|| encoder.last_unit + STALL);
        cut.into_iter().chain(stall).min()
    }

    /// Takes what the demuxer found; says how many units.
    fn drain(&mut self, cut: &mut Vec<Item>) -> usize {
        let mut count = 0;
        let mut units = Vec::new();
        while let Some(event) = self.encoder.as_mut().and_then(|it| it.demuxer.poll()) {
            cut.extend(event.notice().map(Item::Notice));
            match event {
                Event::Tracks(tracks) => {
                    self.builder.set_tracks(&tracks);
                    self.splice.set_tracks(tracks.iter().map(|track| track.id));
                    cut.push(Item::Tracks(tracks));
                }
                Event::AccessUnit(unit) => {
                    count += 1;
                    self.splice.push(unit, &mut units);
                    for unit in units.drain(..) {
                        self.has_units = true;
                        cut.extend(self.builder.push(unit).map(generation));
                    }
                }
                Event::Skipped { .. } | Event::SkippedTrack { .. } | Event::Discontinuity | _ => {}
            }
        }
        count
    }
}

const fn generation(generation: banyan_media::Generation) -> Item {
    Item::Generation(generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_that_sends_no_picture_is_cut_off_and_stdin_is_not() {
        let now = Instant::now();
        let mut cutter = Cutter::new(Reading::default());
        let (verdict, mut told) = oneshot::channel();
        assert!(cutter.begin(now, Begin { format: Format::Ts, verdict: Some(verdict) }).is_empty());
        // Slowly, byte by byte: that is no sign of life.
        for second in 0..10 {
            cutter.push(now + Duration::from_secs(second), b"G");
        }
        assert_eq!(cutter.poll_timeout(), Some(now + STALL));
        assert!(cutter.handle_timeout(now + STALL).is_empty(), "the broadcast goes on");
        assert_eq!(told.try_recv(), Ok("no picture and no sound came for 10 s".to_owned()));
        assert_eq!(cutter.poll_timeout(), None);
        cutter.begin(now, Begin { format: Format::Any, verdict: None });
        assert_eq!(cutter.poll_timeout(), None);
    }

    #[test]
    fn garbage_is_the_end_of_its_encoder_only() {
        let now = Instant::now();
        let mut cutter = Cutter::new(Reading::default());
        let (verdict, mut told) = oneshot::channel();
        cutter.begin(now, Begin { format: Format::Any, verdict: Some(verdict) });
        let garbage = [&b"FLV\x01\x05\0\0\0\x09"[..], &[b'x'; 5000]].concat();
        assert!(cutter.push(now, &garbage).is_empty());
        assert!(told.try_recv().is_ok_and(|reason| reason.contains("damaged")));
        assert!(cutter.push(now, b"and more").is_empty());
        let (verdict, mut told) = oneshot::channel();
        cutter.begin(now, Begin { format: Format::Any, verdict: Some(verdict) });
        cutter.push(now, &[b'x'; 4000]);
        assert!(cutter.end().is_empty());
        assert!(told.try_recv().is_ok_and(|reason| reason.contains("transport stream")));
    }

    #[test]
    fn garbage_on_stdin_is_a_failure() {
        let now = Instant::now();
        for bytes in [b"".as_slice(), b"no stream at all"] {
            let mut cutter = Cutter::new(Reading::default());
            cutter.begin(now, Begin { format: Format::Any, verdict: None });
            cutter.push(now, bytes);
            assert!(matches!(cutter.end()[..], [Item::Failed(_)]), "{bytes:?}");
        }
    }
}
