//! The local HTTP face of a running command.
//!
//! Decides what state it shows and how fresh that is: as of the last second or less. What it looks
//! like is the gateway's.

use std::net::SocketAddr;
use std::sync::Arc;

use banyan_core::Snapshot;
use banyan_gateway::{Face, Gateway, LiveHub, NetState, PlaybackState, State};
use banyan_net::NodeStats;
use futures::FutureExt as _;
use tokio::sync::watch;

use crate::error::Outcome;
use crate::eventlog::Played;

/// Shows a command's state over HTTP, once it is told one.
#[derive(Debug)]
pub(crate) struct HttpFace {
    pub(crate) hub: Arc<LiveHub>,
    pub(crate) address: SocketAddr,
    state: watch::Sender<Option<State>>,
}

impl HttpFace {
    /// Serves at `address`.
    ///
    /// # Errors
    /// [`Failure`](crate::Failure) says what is wrong with the address.
    pub(crate) fn start(address: SocketAddr) -> Outcome<Self> {
        let gateway = Gateway::bind(address)?;
        let address = gateway.local_addr();
        let hub = Arc::new(LiveHub::new());
        let (state, states) = watch::channel(None);
        let provider = Arc::new(move || {
            let latest: Option<State> = states.borrow().clone();
            async move { latest }.boxed()
        });
        tokio::spawn(gateway.serve(Face { live: Arc::clone(&hub), state: provider }));
        Ok(Self { hub, address, state })
    }

    /// Shows this from now on.
    pub(crate) fn show(&self, snapshot: Snapshot, net: &NodeStats, played: &Played) {
        let net = NetState {
            connections_now: net.connections_now,
            connections_opened: net.connections_established_total,
            dials: net.dials_total,
            media_bytes_sent: net.media_bytes_sent,
            media_bytes_received: net.media_bytes_received,
            control_bytes_sent: net.control_bytes_sent,
            control_bytes_received: net.control_bytes_received,
        };
        let playback = PlaybackState {
            generations_played: played.played,
            generations_missed: played.missed,
            generations_full: played.full,
            startup_ms: played.startup_ms,
            last_lag_ms: (played.played > 0).then_some(played.lag_ms),
            rendition: played.rendition,
        };
        self.state.send_replace(Some(State { snapshot, net, playback }));
    }
}
