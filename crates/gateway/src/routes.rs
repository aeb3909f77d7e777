//! Which path gives what.
//!
//! Decides the paths, the methods, and the one line that everything else is answered with. What the
//! answers hold is left to [`crate::live`], [`crate::hls`], [`crate::state`] and [`crate::metrics`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::hls;
use crate::hub::LiveHub;
use crate::live::{self, Clients};
use crate::metrics;
use crate::state::{State, StateProvider, StateReport};

/// How long a request waits for the peer to show itself, before it gets 503.
const STATE_TIMEOUT: Duration = Duration::from_secs(5);

/// A player, and what else there is. Loads nothing from elsewhere.
const PAGE: &str = include_str!("page.html");

/// The page is all of its scripts and styles, and speaks with this gateway only.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; connect-src 'self'; media-src 'self' blob:; img-src data:";

/// What a gateway shows.
#[derive(Clone)]
pub struct Face {
    /// The programme.
    pub live: Arc<LiveHub>,
    /// The peer.
    pub state: StateProvider,
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Face").field("live", &self.live).finish_non_exhaustive()
    }
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) live: Arc<LiveHub>,
    pub(crate) clients: Clients,
    /// True once the gateway is to stop.
    pub(crate) stop: watch::Receiver<bool>,
    state: StateProvider,
}

pub(crate) fn router(face: Face, stop: watch::Receiver<bool>) -> Router {
    let Face { live, state } = face;
    Router::new()
        .route("/", get(async || page()))
        .route("/live.ts", get(live::serve))
        .route("/live.m3u8", get(hls::variants))
        .route("/live/{name}", get(hls::serve))
        .route("/api/state", get(report))
        .route("/api/events", get(async || not_yet("the stream of events")))
        .route("/metrics", get(measure))
        .fallback(async || not_found())
        .method_not_allowed_fallback(async || {
            let allow = [(header::ALLOW, "GET, HEAD")];
            (StatusCode::METHOD_NOT_ALLOWED, allow, line("only GET and HEAD"))
        })
        .with_state(App { live, clients: Clients::new(), stop, state })
}

/// What is answered where there is nothing.
pub(crate) fn not_found() -> impl IntoResponse + use<> {
    (StatusCode::NOT_FOUND, line("not found: see / for what there is"))
}

fn page() -> Response {
    let policy = (header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    ([kind, policy, (header::CACHE_CONTROL, "no-cache")], PAGE).into_response()
}

/// A body of one line.
pub(crate) fn line(text: &str) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{text}\n"))
}

fn not_yet(what: &str) -> Response {
    let text = format!("not in this version: {what}, use /live.ts");
    (StatusCode::NOT_IMPLEMENTED, line(&text)).into_response()
}

async fn report(Shared(app): Shared<App>) -> Response {
    let Some(state) = app.state().await else { return no_state() };
    match serde_json::to_string(&StateReport::from(&state)) {
        Ok(json) => fresh("application/json", json),
        Err(error) => broken(&error),
    }
}

async fn measure(Shared(app): Shared<App>) -> Response {
    let Some(state) = app.state().await else { return no_state() };
    match metrics::encode(&state, app.clients.count()) {
        Ok(text) => fresh(metrics::CONTENT_TYPE, text),
        Err(error) => broken(&error),
    }
}

impl App {
    async fn state(&self) -> Option<State> {
        timeout(STATE_TIMEOUT, (self.state)()).await.ok().flatten()
    }
}

fn fresh(content_type: &'static str, body: String) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

fn no_state() -> Response {
    let text = "the peer does not answer: it is starting, stopping or busy";
    (StatusCode::SERVICE_UNAVAILABLE, line(text)).into_response()
}

/// Writing text into memory failed. It cannot, but a page is no reason to panic.
fn broken(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "an answer could not be written");
    (StatusCode::INTERNAL_SERVER_ERROR, line("the answer could not be written")).into_response()
}
