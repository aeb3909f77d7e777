//! `GET /live.ts`: the programme as a transport stream over HTTP.
//!
//! Decides who is admitted and which headers they get, and runs one [`Client`] for each. When bytes
//! go out is left to that client, a reader that has stalled to [`crate::stall`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::{Client, End, Step};
use crate::hub::{LiveHub, Status};
use crate::routes::{App, line};
use crate::server::stopped;

/// Most clients of the live stream at a time; further ones get 503.
pub const MAX_CLIENTS: usize = 64;

/// How long a request waits for the broadcast to begin, before it gets 503.
pub const TRACKS_TIMEOUT: Duration = Duration::from_secs(5);

/// Who watches.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    places: Arc<Semaphore>,
}

impl Clients {
    pub(crate) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_CLIENTS)) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        MAX_CLIENTS - self.places.available_permits()
    }
}

/// An admitted client with all it needs to go on by itself.
#[derive(Debug)]
struct Live {
    client: Client,
    news: watch::Receiver<()>,
    stop: watch::Receiver<bool>,
    origin: Instant,
    _place: OwnedSemaphorePermit,
}

pub(crate) async fn serve(Shared(app): Shared<App>, method: Method) -> Response {
    let hub = Arc::clone(&app.live);
    let Ok(place) = Arc::clone(&app.clients.places).try_acquire_owned() else {
        return unavailable(&format!("{MAX_CLIENTS} clients are watching: try again later"));
    };
    match wait_for_tracks(&hub, app.stop.clone()).await {
        Status::Live => {}
        Status::Unknown => return unavailable("the broadcast has not begun: try again"),
        Status::Over => {
            return (StatusCode::GONE, live_headers(), line("the broadcast is over"))
                .into_response();
        }
    }
    if let Some(codec) = hub.beyond_ts() {
        let name = codec.name();
        let text = format!("a transport stream does not carry {name}: use /live.m3u8");
        return (StatusCode::NOT_ACCEPTABLE, live_headers(), line(&text)).into_response();
    }
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let live = Live {
            news: hub.news(),
            client: Client::new(hub),
            stop: app.stop.clone(),
            origin: Instant::now(),
            _place: place,
        };
        Body::from_stream(stream::unfold(live, |mut live| async {
            let bytes = live.next().await?;
            Some((Ok::<_, Infallible>(bytes), live))
        }))
    };
    let mut headers = live_headers();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("video/mp2t"));
    (headers, body).into_response()
}

impl Live {
    /// The next bytes, once they are due; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if *self.stop.borrow() {
                return None;
            }
            self.news.borrow_and_update();
            let due = match self.client.step(self.origin.elapsed()) {
                Step::Send(bytes) => return Some(bytes),
                Step::Wait(due) => due,
                Step::End(end) => {
                    let skips = self.client.skips();
                    match end {
                        End::Over => tracing::debug!(skips, "a live stream is over"),
                        End::TooSlow => tracing::info!(skips, "a client is too slow: closed"),
                    }
                    return None;
                }
            };
            // A pause is bounded so that no time a source makes up can overflow the clock.
            let idle = self.origin.elapsed() + IDLE;
            let until = self.origin + due.map_or(idle, |due| due.min(idle));
            tokio::select! {
                // The client holds the hub, so news do not end.
                _ = self.news.changed() => {}
                () = sleep_until(until) => {}
                () = stopped(&mut self.stop) => return None,
            }
        }
    }
}

/// Longest pause in which a stream looks at neither the hub nor the clock.
const IDLE: Duration = Duration::from_secs(3600);

async fn wait_for_tracks(hub: &LiveHub, mut stop: watch::Receiver<bool>) -> Status {
    let mut news = hub.news();
    let known = async { while hub.status() == Status::Unknown && news.changed().await.is_ok() {} };
    tokio::select! {
        _ = timeout(TRACKS_TIMEOUT, known) => {}
        () = stopped(&mut stop) => {}
    }
    hub.status()
}

/// What every answer of the live stream says: pages of other origins may play it, nobody may keep
/// it.
pub(crate) fn live_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    ])
}

/// 503, and when to ask again.
pub(crate) fn unavailable(text: &str) -> Response {
    let retry = [(header::RETRY_AFTER, "2")];
    (StatusCode::SERVICE_UNAVAILABLE, live_headers(), retry, line(text)).into_response()
}
