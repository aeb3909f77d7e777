//! From the bytes of a live stream to generations.
//!
//! Decides what happens when the bytes stop for a while: what is there is sent on as a shorter
//! generation, so that viewers are not kept waiting for the rest.

use std::time::Duration;

use banyan_media::{Demuxer, Event};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::Failure;
use crate::input::{Item, Reading};

/// Silence after which a generation is cut where it is: two of the usual length.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pieces that may wait for the cutter; at the limit the reader waits.
pub(super) const PIECES: usize = 64;

/// What a live reader hands on.
#[derive(Debug)]
pub(super) enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// The encoder went away; another, or the same, may come.
    Gap,
}

/// Demuxes pieces until there are no more, and sends what comes of them.
pub(super) async fn run(
    mut pieces: mpsc::Receiver<Piece>,
    reading: Reading,
    items: mpsc::Sender<Item>,
) {
    let mut demuxer = Demuxer::sniffing().with_renditions(reading.renditions);
    let mut builder = reading.builder();
    let mut has_units = false;
    loop {
        let piece = match tokio::time::timeout(PATIENCE, pieces.recv()).await {
            Ok(piece) => piece,
            Err(_) if has_units => {
                has_units = false;
                while let Some(generation) = builder.flush() {
                    if items.send(Item::Generation(generation)).await.is_err() {
                        return;
                    }
                }
                continue;
            }
            Err(_) => pieces.recv().await,
        };
        let is_over = piece.is_none();
        let result = match piece {
            Some(Piece::Bytes(bytes)) => demuxer.push(&bytes),
            Some(Piece::Gap) | None => demuxer.finish(),
        };
        let mut cut = Vec::new();
        while let Some(event) = demuxer.poll() {
            cut.extend(event.notice().map(Item::Notice));
            match event {
                Event::Tracks(tracks) => {
                    builder.set_tracks(&tracks);
                    cut.push(Item::Tracks(tracks));
                }
                Event::AccessUnit(unit) => {
                    has_units = true;
                    cut.extend(builder.push(unit).map(Item::Generation));
                }
                Event::Skipped { .. } | Event::SkippedTrack { .. } | Event::Discontinuity | _ => {}
            }
        }
        if let Err(error) = result {
            cut.push(Item::Failed(Failure::from(error)));
        } else if is_over {
            cut.extend(std::iter::from_fn(|| builder.flush()).map(Item::Generation));
        }
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
