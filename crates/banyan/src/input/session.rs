//! One encoder at a time.
//!
//! Decides that a second encoder is refused while there is one, what is said of those that are
//! refused or cut off, and how often. How they connect is left to the inputs.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::input::cutter::{self, Begin, Format, PIECES, Piece};
use crate::input::{Item, Reading};

/// Refusals come in floods where somebody tries again and again: so many lines at once, then one
/// in so long, with the number of those that were not told.
const MAX_REFUSALS: u32 = 8;
const REFUSAL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a newcomer waits for the one before it to be gone: an encoder that comes back at once
/// may be faster than the end of its old connection.
const GRACE: Duration = Duration::from_secs(1);

/// Why a second encoder is not let in, as its user should read it.
pub(super) const BUSY: &str = "another encoder is connected; stop it first";

/// Lets encoders in.
#[derive(Clone, Debug)]
pub(super) struct Door {
    items: mpsc::Sender<Item>,
    pieces: mpsc::Sender<Piece>,
    place: Arc<Semaphore>,
    refusals: Arc<Mutex<Refusals>>,
}

#[derive(Debug)]
struct Refusals {
    /// Lines that may be told at once.
    left: u32,
    /// When there was last one more.
    since: Instant,
    untold: u64,
}

/// The encoder that was let in. Whoever has it must [end](Self::end) it.
#[derive(Debug)]
pub(super) struct Session {
    name: String,
    door: Door,
    /// Until it was told.
    verdict: Option<oneshot::Receiver<String>>,
    _place: OwnedSemaphorePermit,
}

/// The publisher has ended: there is nothing to read for any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over;

impl Door {
    /// Opens the door to a cutter, which sends what it cuts to `items`.
    pub(super) fn open(reading: Reading, items: mpsc::Sender<Item>) -> Self {
        let (pieces, receiver) = mpsc::channel(PIECES);
        tokio::spawn(cutter::run(receiver, reading, items.clone()));
        let place = Arc::new(Semaphore::new(1));
        let refusals = Refusals { left: MAX_REFUSALS, since: Instant::now(), untold: 0 };
        Self { items, pieces, place, refusals: Arc::new(Mutex::new(refusals)) }
    }

    /// Whether an encoder is in.
    pub(super) fn is_busy(&self) -> bool {
        self.place.available_permits() == 0
    }

    /// Lets `name` in, unless somebody is and stays.
    pub(super) async fn enter(&self, name: String, format: Format) -> Option<Session> {
        let place = timeout(GRACE, Arc::clone(&self.place).acquire_owned()).await.ok()?.ok()?;
        let (sender, verdict) = oneshot::channel();
        let begin = Begin { format, verdict: Some(sender) };
        self.pieces.send(Piece::Begin(begin)).await.ok()?;
        tracing::info!(encoder = name, "connected");
        Some(Session { name, door: self.clone(), verdict: Some(verdict), _place: place })
    }

    /// Says that `name` was refused, and why.
    pub(super) fn refuse(&self, name: impl Display, reason: impl Display) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.left < MAX_REFUSALS && refusals.since.elapsed() >= REFUSAL_INTERVAL {
            refusals.left += 1;
            refusals.since = Instant::now();
        }
        if refusals.left == 0 {
            refusals.untold += 1;
            tracing::debug!(%name, %reason, "refused");
            return;
        }
        if refusals.left == MAX_REFUSALS {
            refusals.since = Instant::now();
        }
        refusals.left -= 1;
        let more = match std::mem::take(&mut refusals.untold) {
            0 => String::new(),
            untold => format!(" (and {untold} more before)"),
        };
        drop(refusals);
        self.say(format!("{name} was refused: {reason}{more}"));
    }

    /// Returns once the publisher has ended.
    pub(super) async fn closed(&self) {
        self.items.closed().await;
    }

    fn say(&self, line: String) {
        // Where the publisher is behind with its work, a line to the user must not hold up a reader.
        if let Err(mpsc::error::TrySendError::Full(Item::Notice(line))) =
            self.items.try_send(Item::Notice(line))
        {
            tracing::warn!("{line}");
        }
    }
}

impl Session {
    /// Hands bytes on; waits while the cutter is behind.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), Over> {
        self.door.pieces.send(Piece::Bytes(bytes)).await.map_err(|_| Over)
    }

    /// Returns once the encoder is not to be listened to any more, and has said why.
    pub(super) async fn cut_off(&mut self) {
        if let Some(reason) = self.verdict().await {
            let name = &self.name;
            self.door.say(format!("{name} was cut off: {reason}; waiting for another encoder"));
        } else {
            // The cutter has ended, and so does everything.
            self.door.closed().await;
        }
    }

    /// The encoder has gone.
    pub(super) async fn end(mut self) {
        tracing::info!(encoder = self.name, "gone; waiting for another");
        if self.door.pieces.send(Piece::End).await.is_err() {
            return;
        }
        // What the end brought to light is said before the next encoder is let in.
        if let Some(reason) = self.verdict().await {
            let name = &self.name;
            self.door.say(format!("{name} sent nothing of use: {reason}"));
        }
    }

    /// What the cutter says; `None` if it has nothing to say any more.
    async fn verdict(&mut self) -> Option<String> {
        let reason = self.verdict.as_mut()?.await.ok();
        self.verdict = None;
        reason
    }
}
