//! `GET /live.m3u8` and what it leads to: the programme as HLS, in low latency (RFC 8216bis).
//!
//! ```text
//!   /live.m3u8             the variant there is, with its codecs
//!   /live/media.m3u8       its segments and parts; waits for `_HLS_msn` and `_HLS_part`
//!   /live/init-0.mp4       what segments of one kind begin with
//!   /live/20.m4s           a segment
//!   /live/20.3.m4s         a part of it; the next one is waited for
//! ```
//!
//! Decides what is answered, and how long a request may wait. `/live.m3u8` is the playlist of
//! playlists because Safari and hls.js want to know the codecs before they load anything; players
//! that want nothing of the kind follow it as well. Segments are sent part by part and each is
//! looked for when it is due, so that a slow player holds none that is gone: its answer breaks off.
//! Ranges are not served: an answer is always whole.

pub(crate) mod playlist;
pub(crate) mod window;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use tokio::time::timeout;

use self::window::{Found, MAX_SEGMENT, Reload, Window};
use crate::hub::LiveHub;
use crate::live::{TRACKS_TIMEOUT, live_headers, unavailable};
use crate::routes::{App, line, not_found};
use crate::server::stopped;

/// How long a request waits for a part that was announced, before it gets 503: three target
/// durations (RFC 8216bis, 6.2.5.2).
const RELOAD_TIMEOUT: Duration = MAX_SEGMENT.saturating_mul(3);

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const SEGMENT: &str = "video/mp4";

/// What the path of a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Media,
    Init(u64),
    Segment(u64),
    Part(u64, usize),
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        if name == "media.m3u8" {
            return Some(Self::Media);
        }
        if let Some(number) = name.strip_prefix("init-") {
            return Some(Self::Init(number_of(number.strip_suffix(".mp4")?)?));
        }
        let name = name.strip_suffix(".m4s")?;
        match name.split_once('.') {
            Some((sequence, part)) => {
                Some(Self::Part(number_of(sequence)?, usize::try_from(number_of(part)?).ok()?))
            }
            None => Some(Self::Segment(number_of(name)?)),
        }
    }
}

/// A number as playlists write it: digits, and no zero in front of others.
fn number_of(text: &str) -> Option<u64> {
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

/// What a player that reloads waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Directives {
    sequence: Option<u64>,
    part: Option<usize>,
}

impl Directives {
    /// Reads a query. Whatever is not for us is ignored, as RFC 8216bis says of `_HLS_` names that
    /// are not known.
    fn parse(query: &str) -> Result<Self, &'static str> {
        let mut directives = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "_HLS_msn" if directives.sequence.is_none() => {
                    let number = number_of(value).ok_or("_HLS_msn is not a number")?;
                    directives.sequence = Some(number);
                }
                "_HLS_part" if directives.part.is_none() => {
                    let number = number_of(value).and_then(|part| usize::try_from(part).ok());
                    directives.part = Some(number.ok_or("_HLS_part is not a number")?);
                }
                "_HLS_msn" | "_HLS_part" => return Err("a directive is given twice"),
                _ => {}
            }
        }
        if directives.part.is_some() && directives.sequence.is_none() {
            return Err("_HLS_part needs _HLS_msn");
        }
        Ok(directives)
    }
}

/// `/live.m3u8`.
pub(crate) async fn variants(Shared(app): Shared<App>) -> Response {
    match begun(&app).await {
        Ok(()) => playlist(app.live.hls(playlist::multivariant)),
        Err(answer) => answer,
    }
}

/// `/live/…`.
pub(crate) async fn serve(
    Shared(app): Shared<App>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    match Name::parse(&name) {
        Some(Name::Media) => media(&app, query.as_deref().unwrap_or_default()).await,
        Some(Name::Init(number)) => {
            app.live.hls(|window| window.init(number)).map_or_else(gone, bytes)
        }
        Some(Name::Segment(sequence)) => segment(&app, sequence),
        Some(Name::Part(sequence, at)) => part(&app, sequence, at).await,
        None => (live_headers(), not_found()).into_response(),
    }
}

async fn media(app: &App, query: &str) -> Response {
    let directives = match Directives::parse(query) {
        Ok(directives) => directives,
        Err(reason) => return bad_request(reason),
    };
    if let Err(answer) = begun(app).await {
        return answer;
    }
    if let Some(sequence) = directives.sequence {
        let found =
            wait(app, RELOAD_TIMEOUT, |window| match window.reload(sequence, directives.part) {
                Reload::Wait => None,
                found @ (Reload::Ready | Reload::TooFar) => Some(found),
            });
        match found.await {
            Some(Reload::Ready) => {}
            Some(Reload::TooFar | Reload::Wait) => {
                return bad_request("_HLS_msn or _HLS_part is too far ahead of the broadcast");
            }
            None => return unavailable("nothing has come for a while: try again"),
        }
    }
    playlist(app.live.hls(playlist::media))
}

async fn part(app: &App, sequence: u64, at: usize) -> Response {
    let found = wait(app, RELOAD_TIMEOUT, |window| match window.part(sequence, at) {
        Found::Next => None,
        found @ (Found::Here(_) | Found::Not) => Some(found),
    });
    match found.await {
        Some(Found::Here(data)) => bytes(data),
        Some(Found::Not | Found::Next) => gone(),
        None => unavailable("nothing has come for a while: try again"),
    }
}

fn segment(app: &App, sequence: u64) -> Response {
    let Some(len) = app.live.hls(|window| window.segment_len(sequence)) else { return gone() };
    let parts = stream::unfold((Arc::clone(&app.live), 0, 0), move |(hub, at, sent)| async move {
        if sent == len {
            return None;
        }
        match hub.hls(|window| window.part(sequence, at)) {
            Found::Here(data) => {
                let sent = sent + data.len();
                Some((Ok(data), (hub, at + 1, sent)))
            }
            Found::Next | Found::Not => {
                tracing::info!(sequence, "a player is too slow for a segment: cut off");
                Some((Err(io::Error::other("the segment is gone")), (hub, at, len)))
            }
        }
    });
    let mut headers = segment_headers();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    (headers, Body::from_stream(parts)).into_response()
}

/// Waits for the first segment.
async fn begun(app: &App) -> Result<(), Response> {
    let is_there = wait(app, TRACKS_TIMEOUT, |window| {
        (!window.is_empty() || window.is_over()).then_some(!window.is_empty())
    });
    match is_there.await {
        Some(true) => Ok(()),
        Some(false) => {
            let text = line("the broadcast is over");
            Err((StatusCode::GONE, live_headers(), text).into_response())
        }
        None => Err(unavailable("the broadcast has not begun: try again")),
    }
}

/// Asks at every change of the window until there is an answer, the time is up, or the gateway stops.
async fn wait<T>(
    app: &App,
    limit: Duration,
    mut ask: impl FnMut(&Window) -> Option<T>,
) -> Option<T> {
    let mut news = app.live.news();
    let mut stop = app.stop.clone();
    let answer = async {
        loop {
            news.borrow_and_update();
            if let Some(answer) = app.live.hls(&mut ask) {
                return Some(answer);
            }
            if news.changed().await.is_err() {
                return None;
            }
        }
    };
    tokio::select! {
        answer = timeout(limit, answer) => answer.ok().flatten(),
        () = stopped(&mut stop) => None,
    }
}

impl LiveHub {
    /// Looks at the segments.
    fn hls<T>(&self, look: impl FnOnce(&Window) -> T) -> T {
        look(&self.segments())
    }
}

fn playlist(text: String) -> Response {
    let mut headers = live_headers();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PLAYLIST));
    (headers, text).into_response()
}

fn bytes(data: Bytes) -> Response {
    (segment_headers(), data).into_response()
}

fn segment_headers() -> HeaderMap {
    let mut headers = live_headers();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SEGMENT));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    headers
}

fn gone() -> Response {
    let text = line("not found: the playlist does not list it, or no longer");
    (StatusCode::NOT_FOUND, live_headers(), text).into_response()
}

fn bad_request(reason: &str) -> Response {
    (StatusCode::BAD_REQUEST, live_headers(), line(reason)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_playlists_write_them() {
        assert_eq!(Name::parse("media.m3u8"), Some(Name::Media));
        assert_eq!(Name::parse("init-12.mp4"), Some(Name::Init(12)));
        assert_eq!(Name::parse("0.m4s"), Some(Name::Segment(0)));
        assert_eq!(Name::parse("20.3.m4s"), Some(Name::Part(20, 3)));
        for wrong in [
            "",
            ".m4s",
            "m4s",
            "-1.m4s",
            "+1.m4s",
            "01.m4s",
            "1..m4s",
            "1.2.3.m4s",
            "1.m4s.",
            "٣.m4s",
            "99999999999999999999.m4s",
            "init-.mp4",
            "init-1.m4s",
            "media.m3u8x",
        ] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn directives_are_read_and_absurd_ones_refused() {
        let parsed = Directives::parse("a=b&_HLS_part=3&x&_HLS_msn=20&_HLS_skip=YES");
        assert_eq!(parsed, Ok(Directives { sequence: Some(20), part: Some(3) }));
        assert_eq!(Directives::parse(""), Ok(Directives::default()));
        for wrong in [
            "_HLS_msn=",
            "_HLS_msn=-1",
            "_HLS_msn=1e3",
            "_HLS_msn=99999999999999999999",
            "_HLS_part=1",
            "_HLS_msn=1&_HLS_part=x",
            "_HLS_msn=1&_HLS_msn=1",
            "_HLS_msn=%31",
        ] {
            assert!(Directives::parse(wrong).is_err(), "{wrong}");
        }
    }
}
