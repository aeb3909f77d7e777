//! The face of a peer on its own machine: HTTP for players, people and monitoring.
//!
//! ```text
//!   generations ─▶ LiveHub ─┬▶ one Client per player ──▶ GET /live.ts
//!                           └▶ segments and parts ─────▶ GET /live.m3u8, /live/…, the page at /
//!   snapshots ──▶ StateProvider ─┬─▶ StateReport ──────▶ GET /api/state
//!                                └─▶ OpenMetrics text ─▶ GET /metrics
//! ```
//!
//! Decides what is served, to how many, and what happens to those who are too slow. The peer is left
//! to `banyan-core` and what drives it: this crate is handed generations and a closure that gives
//! a snapshot, and knows no network but its own listener. How a transport stream or MP4 is
//! written and paced is left to `banyan-media`.
//!
//! Everything from outside is hostile: only GET and HEAD, every wait has a deadline and every
//! resource a limit with a name.
//!
//! ```no_run
//! # async fn example(snapshot: banyan_core::Snapshot) -> Result<(), banyan_gateway::GatewayError> {
//! use std::sync::Arc;
//!
//! use banyan_gateway::{Face, Gateway, LiveHub, NetState, PlaybackState, State};
//!
//! let live = Arc::new(LiveHub::new());
//! let state = Arc::new(move || -> futures::future::BoxFuture<'static, Option<State>> {
//!     let (net, playback) = (NetState::default(), PlaybackState::default());
//!     let state = State { snapshot: snapshot.clone(), net, playback };
//!     Box::pin(async move { Some(state) })
//! });
//! let gateway = Gateway::bind(([127, 0, 0, 1], 8080).into())?;
//! gateway.serve(Face { live, state }).await;
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod hls;
mod hub;
mod live;
mod metrics;
mod routes;
mod server;
mod stall;
mod state;

pub use error::GatewayError;
pub use hls::window::MAX_SEGMENT_BYTES;
pub use hub::{LiveHub, MAX_HELD_BYTES, MAX_HELD_GENERATIONS};
pub use live::{MAX_CLIENTS, TRACKS_TIMEOUT};
pub use routes::Face;
pub use server::{Gateway, MAX_CONNECTIONS};
pub use state::{
    BytesReport, CountersReport, NetReport, NetState, PlaybackReport, PlaybackState, Role, State,
    StateProvider, StateReport, StripeReport,
};
