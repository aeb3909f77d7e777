//! The sans-IO peer: routing view, overlay policies, forwarding, chunk store, failure detection and
//! playout of one broadcast.
//!
//! ```text
//!   Input, commands ──▶ Peer ──▶ Output        time and a seed come in as arguments
//! ```
//!
//! Decides everything a peer does. No socket, runtime, clock, thread or hash-ordered map: the same
//! inputs give the same outputs, byte for byte. Moving bytes is left to `banyan-net` (and the
//! simulator), what the bytes of the programme mean to `banyan-media`.

mod config;
mod coordinate;
mod estimate;
mod forward;
mod introduction;
mod io;
mod links;
mod local;
mod overlay;
mod peer;
mod playout;
mod receptions;
mod session;
mod snapshot;
mod store;
mod time;
mod usual;
mod view;
mod watch;

pub use config::{Config, ConfigError, Forest};
pub use io::{Audience, DisconnectReason, Event, Input, Output, Playout, Violation};
pub use local::class_of;
pub use peer::{Peer, PublishError, Role, Setup};
pub use snapshot::{Snapshot, Stats, StripeSnapshot};
pub use time::Instant;
