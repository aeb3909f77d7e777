//! The `--events` file: one JSON object a line, `{"t": seconds since start, "event": name, …}`.
//!
//! Decides names and fields, as DESIGN.md §8 lists them; once released they are never renamed.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use banyan_core::{Event, Playout, Snapshot};
use banyan_net::NodeStats;
use banyan_wire::Rendition;
use serde_json::{Map, Value, json};

use crate::error::{Failure, Outcome};

/// Writes events; to nowhere where no file was asked for.
#[derive(Debug)]
pub(crate) struct EventLog {
    file: Option<io::LineWriter<File>>,
    start: Instant,
}

impl EventLog {
    pub(crate) fn open(path: Option<&Path>) -> Outcome<Self> {
        let open = |path: &Path| {
            File::create(path).map(io::LineWriter::new).map_err(|error| {
                Failure::failed(format!("cannot write events to {}: {error}", path.display()))
            })
        };
        Ok(Self { file: path.map(open).transpose()?, start: Instant::now() })
    }

    /// When the log was opened: the origin of `t`.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    pub(crate) fn write(&mut self, event: &str, fields: Value) {
        let Some(file) = &mut self.file else { return };
        let mut line = Map::new();
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of one process")]
        line.insert("t".into(), json!(millis as f64 / 1000.0));
        line.insert("event".into(), json!(event));
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        if let Err(error) = writeln!(file, "{}", Value::Object(line)) {
            tracing::warn!(%error, "the events file cannot be written any more");
            self.file = None;
        }
    }

    /// Writes what the core says, as far as it is among the documented events.
    pub(crate) fn core(&mut self, broadcast: &str, event: &Event) {
        match event {
            Event::Joined { stripes, roles } => {
                let primary: Vec<u8> = roles.iter().map(|stripe| stripe.0).collect();
                let fields =
                    json!({ "broadcast": broadcast, "stripes": stripes, "primary": primary });
                self.write("joined", fields);
            }
            Event::Parent { stripe, parent } => {
                let parent = parent.map(|parent| parent.to_string());
                self.write("parent", json!({ "stripe": stripe.0, "parent": parent }));
            }
            Event::Children { stripe, count, leaving } => {
                let fields = json!({ "stripe": stripe.0, "count": count, "leaving": leaving });
                self.write("children", fields);
            }
            Event::Upload { budget, capacity } => {
                self.write("upload", json!({ "budget": budget, "capacity": capacity }));
            }
            Event::Audience(audience) => {
                let fields = json!({ "viewers": audience.viewers, "in_time": audience.counts });
                self.write("audience", fields);
            }
            Event::Manifest(_)
            | Event::Roles(_)
            | Event::Generation(_)
            | Event::Wanted(_)
            | Event::Violation { .. }
            | Event::Ended
            | Event::SourceLost
            | _ => {}
        }
    }

    /// Writes what was played of a generation, and in which rendition its pictures are shown.
    pub(crate) fn generation(&mut self, playout: &Playout, shown: Option<Rendition>) {
        let fields = json!({
            "id": playout.generation.0,
            "received": playout.received,
            "stripes": playout.stripes,
            "layers": playout.layers_rebuilt(),
            "layers_total": playout.layers.len(),
            "played": playout.is_playable(),
            "rendition": shown.map(Rendition::name),
            "lag_ms": u64::try_from(playout.lag.as_millis()).unwrap_or(u64::MAX),
        });
        self.write("generation", fields);
    }

    /// Writes the last line, at exit.
    pub(crate) fn summary(
        &mut self,
        played: &Played,
        snapshot: Option<&Snapshot>,
        net: &NodeStats,
    ) {
        let stats = snapshot.map(|snapshot| snapshot.stats.clone()).unwrap_or_default();
        let interior: Vec<u8> = snapshot
            .map(|snapshot| snapshot.interior_stripes().iter().map(|s| s.0).collect())
            .unwrap_or_default();
        let fields = json!({
            "startup_ms": played.startup_ms,
            "generations_played": played.played,
            "generations_missed": played.missed,
            "generations_full": played.full,
            "media_bytes_sent": net.media_bytes_sent,
            "media_bytes_received": net.media_bytes_received,
            "control_bytes_sent": net.control_bytes_sent,
            "control_bytes_received": net.control_bytes_received,
            "duplicate_bytes_received": stats.duplicate_bytes_received,
            "repaired_chunks": stats.repaired_chunks,
            "regenerated_descriptions": stats.regenerated_descriptions,
            "forged_chunks": stats.forged_chunks,
            "interior_stripes": interior,
        });
        self.write("summary", fields);
    }
}

/// What a viewer has played so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Played {
    /// Generations of which at least the base layer was played.
    pub(crate) played: u64,
    /// Generations of which nothing was.
    pub(crate) missed: u64,
    /// Generations played whole.
    pub(crate) full: u64,
    /// From the start of the process to the first picture.
    pub(crate) startup_ms: Option<u64>,
    /// Of the last generation.
    pub(crate) lag_ms: u64,
    /// Least number of descriptions of any generation so far.
    pub(crate) fewest_descriptions: Option<u8>,
    /// What is shown of the last generation's pictures.
    pub(crate) rendition: Option<Rendition>,
}

impl Played {
    pub(crate) fn note(
        &mut self,
        playout: &Playout,
        shown: Option<Rendition>,
        since_start: std::time::Duration,
    ) {
        self.rendition = shown;
        if playout.is_playable() {
            self.played += 1;
            let elapsed = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
            self.startup_ms.get_or_insert(elapsed);
        } else {
            self.missed += 1;
        }
        if playout.is_full() {
            self.full += 1;
        }
        self.lag_ms = u64::try_from(playout.lag.as_millis()).unwrap_or(u64::MAX);
        let fewest = self.fewest_descriptions.unwrap_or(u8::MAX).min(playout.received);
        self.fewest_descriptions = Some(fewest);
    }
}
