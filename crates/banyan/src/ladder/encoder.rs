//! One run of the program that makes the low rendition: `ffmpeg`, fed and read through pipes.
//!
//! Decides its arguments, how it is told where key pictures go, and that nobody waits for it: what
//! waits for it and from it is bounded. When it is started, and what becomes of a broadcast without
//! it, is left to [`super`].
//!
//! Key pictures are told by the time: the encoder makes one where the ticks of a picture are even, and
//! all other pictures get odd ones. That is exact, needs no agreement on rates or counts, and works for
//! every codec that ffmpeg decodes.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use banyan_media::{AccessUnit, DELAY, Demuxer, Event, TsMuxer};
use banyan_wire::{MediaTime, Track};
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Pictures that may wait to be taken by the encoder; at the limit it counts as stuck.
const WAITING: usize = 512;
/// Events that may wait to be taken from it; at the limit it has to wait.
const MADE: usize = 256;
/// Bytes read from it at once.
const READ: usize = 64 * 1024;
/// Longest line of its complaints that is kept, in bytes.
const MAX_LINE: u64 = 400;

/// What the low rendition is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Of the picture, in pixels; the width follows.
    pub(super) height: u16,
    /// In bits per second.
    pub(super) rate: u64,
}

/// What comes of the encoder.
#[derive(Debug)]
pub(super) enum Made {
    /// The track it makes.
    Track(Track),
    /// A picture, with the ticks it was fed with, as a transport stream carries them.
    Unit(AccessUnit),
    /// It has ended; with its last complaint, if it made one.
    Ended(Option<String>),
}

/// A running encoder. It is killed when dropped.
#[derive(Debug)]
pub(super) struct Encoder {
    _child: Child,
    muxer: TsMuxer,
    input: Option<mpsc::Sender<Bytes>>,
    made: mpsc::Receiver<Made>,
}

impl Encoder {
    /// Starts one for pictures of this track.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub(super) fn start(program: &str, track: &Track, shape: Shape) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments(shape))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("its pipes are missing"));
        };
        let (input, mut fed) = mpsc::channel::<Bytes>(WAITING);
        tokio::spawn(async move {
            while let Some(bytes) = fed.recv().await {
                if stdin.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let complaint = Arc::new(Mutex::new(None));
        let complaints = tokio::spawn(listen(stderr, Arc::clone(&complaint)));
        let (sender, made) = mpsc::channel(MADE);
        tokio::spawn(async move {
            read(stdout, &sender).await;
            drop(complaints.await);
            let last = complaint.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(sender.send(Made::Ended(last)).await);
        });
        let muxer = TsMuxer::new(std::slice::from_ref(track));
        Ok(Self { _child: child, muxer, input: Some(input), made })
    }

    /// Feeds a picture, to be made a key or not. Returns the ticks by which it is known again, or
    /// `None` if the encoder is stuck.
    pub(super) fn feed(&mut self, unit: &AccessUnit, is_key: bool) -> Option<i64> {
        let pts = MediaTime(if is_key { unit.pts.0 & !1 } else { unit.pts.0 | 1 });
        // Never after the time it is shown.
        let dts = MediaTime(unit.dts.0.saturating_sub(2));
        let marked = AccessUnit { pts, dts, ..unit.clone() };
        let mut packets = Vec::new();
        self.muxer.write(&marked, &mut packets);
        let input = self.input.as_ref()?;
        input.try_send(packets.into()).ok().map(|()| ticks(MediaTime(pts.0.saturating_add(DELAY))))
    }

    /// Says that no picture follows.
    pub(super) fn finish(&mut self) {
        self.input = None;
    }

    /// What it makes next.
    pub(super) async fn next(&mut self) -> Made {
        self.made.recv().await.unwrap_or(Made::Ended(None))
    }
}

/// The 33 bits of a time that a transport stream carries.
pub(super) fn ticks(time: MediaTime) -> i64 {
    time.0 & ((1 << 33) - 1)
}

fn arguments(shape: Shape) -> Vec<String> {
    let Shape { height, rate } = shape;
    let most = rate * 5 / 4;
    // Half a second, so that a key picture does not take another generation's share.
    let buffer = rate / 2;
    format!(
        "-hide_banner -nostdin -v error \
         -threads 2 -probesize 1000000 -analyzeduration 1 -copyts -f mpegts -i pipe:0 \
         -map 0:v:0 -an -sn -dn -vf scale=-2:{height} -pix_fmt yuv420p \
         -fps_mode passthrough -enc_time_base 1:90000 \
         -c:v libx264 -preset veryfast -tune zerolatency -profile:v main -threads 1 \
         -g 100000 -sc_threshold 0 -force_key_frames expr:1-mod(round(t*90000),2) \
         -b:v {rate} -maxrate {most} -bufsize {buffer} \
         -muxdelay 0 -muxpreload 0 -mpegts_copyts 1 -flush_packets 1 -f mpegts pipe:1"
    )
    .split_whitespace()
    .map(str::to_owned)
    .collect()
}

/// Reads what the encoder makes, to its end.
async fn read(mut stdout: impl tokio::io::AsyncRead + Unpin, made: &mpsc::Sender<Made>) {
    let mut demuxer = Demuxer::ts();
    let mut buffer = vec![0; READ];
    loop {
        let length = stdout.read(&mut buffer).await.unwrap_or(0);
        let result = match buffer.get(..length) {
            Some(bytes) if length > 0 => demuxer.push(bytes),
            _ => demuxer.finish(),
        };
        while let Some(event) = demuxer.poll() {
            let news = match event {
                Event::Tracks(tracks) => tracks.into_iter().next().map(Made::Track),
                Event::AccessUnit(unit) => Some(Made::Unit(unit)),
                Event::Skipped { .. } | Event::Discontinuity | _ => None,
            };
            if let Some(news) = news
                && made.send(news).await.is_err()
            {
                return;
            }
        }
        if length == 0 || result.is_err() {
            return;
        }
    }
}

/// Keeps the last line of what the encoder complains about.
async fn listen(stderr: impl tokio::io::AsyncRead + Unpin, last: Arc<Mutex<Option<String>>>) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stderr).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).trim().to_owned();
                if !text.is_empty() {
                    tracing::debug!(line = text, "ffmpeg");
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                }
            }
        }
    }
}
