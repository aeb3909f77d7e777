//! HLS over HTTP. Time is tokio's and paused, but where a real player plays.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use banyan_gateway::TRACKS_TIMEOUT;
use banyan_media::Generation;
use common::{Answer, CLIP, Served, ask, clip, push, read_all, send, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};

const MEDIA: &str = "/live/media.m3u8";

/// A part or a segment as a playlist lists it.
#[derive(Clone, Debug, PartialEq)]
struct Piece {
    uri: String,
    duration: f64,
    is_independent: bool,
}

/// What a playlist says.
#[derive(Debug, Default)]
struct Playlist {
    sequence: u64,
    discontinuities: u64,
    target: f64,
    part_target: f64,
    parts: Vec<Piece>,
    segments: Vec<Piece>,
    inits: Vec<String>,
    dates: Vec<String>,
    breaks: usize,
    hint: Option<String>,
    is_over: bool,
}

fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = line.split_once(&format!("{name}="))?;
    value.split(',').next().map(|value| value.trim_matches('"'))
}

fn parse(text: &str) -> Playlist {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("#EXTM3U"));
    let mut playlist = Playlist::default();
    let mut duration = None;
    for line in lines {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXT-X-MEDIA-SEQUENCE" => playlist.sequence = value.parse().unwrap(),
            "#EXT-X-DISCONTINUITY-SEQUENCE" => playlist.discontinuities = value.parse().unwrap(),
            "#EXT-X-TARGETDURATION" => playlist.target = value.parse().unwrap(),
            "#EXT-X-PART-INF" => {
                playlist.part_target = attribute(line, "PART-TARGET").unwrap().parse().unwrap();
            }
            "#EXT-X-SERVER-CONTROL" => {
                assert_eq!(attribute(line, "CAN-BLOCK-RELOAD"), Some("YES"));
                let hold_back: f64 = attribute(line, "PART-HOLD-BACK").unwrap().parse().unwrap();
                assert!(hold_back >= 0.84);
            }
            "#EXT-X-MAP" => playlist.inits.push(attribute(line, "URI").unwrap().to_owned()),
            "#EXT-X-PART" => playlist.parts.push(Piece {
                uri: attribute(line, "URI").unwrap().to_owned(),
                duration: attribute(line, "DURATION").unwrap().parse().unwrap(),
                is_independent: attribute(line, "INDEPENDENT") == Some("YES"),
            }),
            "#EXTINF" => duration = Some(value.trim_end_matches(',').parse().unwrap()),
            "#EXT-X-PRELOAD-HINT" => {
                playlist.hint = Some(attribute(line, "URI").unwrap().to_owned())
            }
            "#EXT-X-PROGRAM-DATE-TIME" => playlist.dates.push(value.to_owned()),
            "#EXT-X-DISCONTINUITY" => playlist.breaks += 1,
            "#EXT-X-ENDLIST" => playlist.is_over = true,
            "#EXT-X-VERSION" => assert_eq!(value, "6"),
            _ => playlist.segments.push(Piece {
                uri: line.to_owned(),
                duration: duration.take().expect("an address follows its duration"),
                is_independent: false,
            }),
        }
    }
    playlist
}

async fn playlist(addr: SocketAddr, path: &str) -> Playlist {
    let answer = ask(addr, "GET", path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/vnd.apple.mpegurl");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    parse(answer.text())
}

async fn fetch(addr: SocketAddr, uri: &str) -> Answer {
    ask(addr, "GET", &format!("/live/{uri}")).await
}

/// A gateway that has these generations.
fn serve_with(generations: &[Generation]) -> Served {
    let served = serve(None);
    served.hub.set_tracks(clip().0);
    generations.iter().for_each(|generation| push(&served.hub, generation));
    served
}

/// The clip over and over, each time as an encoder that was started again.
fn endless() -> impl Iterator<Item = Generation> {
    clip().1.into_iter().cycle()
}

#[tokio::test]
async fn all_that_is_listed_can_be_fetched_and_is_what_it_says() {
    let served = serve_with(&clip().1);
    let listed = playlist(served.addr, MEDIA).await;
    assert!(listed.parts.len() > 20 && listed.segments.len() > 3);
    let total: f64 = listed.segments.iter().map(|segment| segment.duration).sum();
    assert!(total >= 12.0, "three target durations: {total}");
    for part in &listed.parts {
        assert!(part.duration <= listed.part_target, "{part:?}");
        let answer = fetch(served.addr, &part.uri).await;
        assert_eq!((answer.status, answer.is_whole), (200, true));
        assert_eq!(answer.header("content-type"), "video/mp4");
        assert_eq!(&answer.body[4..8], b"styp");
        assert_eq!(begins_with_a_key(&answer.body), part.is_independent, "{part:?}");
    }
    for segment in &listed.segments {
        assert!(segment.duration <= listed.target, "{segment:?}");
        let whole = fetch(served.addr, &segment.uri).await;
        assert_eq!((whole.status, whole.is_whole), (200, true));
        let head = ask(served.addr, "HEAD", &format!("/live/{}", segment.uri)).await;
        assert_eq!(head.header("content-length"), whole.body.len().to_string());
        let number = segment.uri.trim_end_matches(".m4s");
        let own = listed.parts.iter().filter(|part| part.uri.starts_with(&format!("{number}.")));
        let mut parts = Vec::new();
        for part in own {
            parts.extend(fetch(served.addr, &part.uri).await.body);
        }
        assert!(parts.is_empty() || parts == whole.body, "a segment is its parts");
    }
    let init = fetch(served.addr, &listed.inits[0]).await;
    assert_eq!((init.status, &init.body[4..8]), (200, &b"ftyp"[..]));
    let variants = ask(served.addr, "GET", "/live.m3u8").await;
    assert!(variants.text().contains("CODECS=\"avc1.64001e,mp4a.40.2\",RESOLUTION=854x480"));
    assert!(variants.text().ends_with("\nlive/media.m3u8\n"));
}

/// Whether the first sample of the first track is one that decoding can begin with.
fn begins_with_a_key(part: &[u8]) -> bool {
    let trun = part.windows(4).position(|name| name == b"trun").unwrap();
    // Behind the name: flags, count, offset; then duration, length and flags of the first sample.
    part[trun + 4 + 12 + 8] == 2
}

#[tokio::test]
async fn numbers_never_go_back_and_what_is_listed_stays_the_same() {
    let served = serve(None);
    served.hub.set_tracks(clip().0);
    let mut before = Playlist::default();
    let mut seen = BTreeSet::new();
    for (generation, at) in endless().take(200).zip(0..) {
        push(&served.hub, &generation);
        if at % 7 != 0 {
            continue;
        }
        let now = playlist(served.addr, MEDIA).await;
        assert!(now.sequence >= before.sequence);
        assert!(now.discontinuities >= before.discontinuities);
        assert!((now.target - 4.0).abs() < 0.001);
        let still = before.segments.iter().filter(|segment| now.segments.contains(segment)).count();
        let left = usize::try_from(now.sequence - before.sequence).unwrap();
        assert_eq!(still, before.segments.len().saturating_sub(left));
        assert!(now.dates.is_sorted(), "{:?}", now.dates);
        seen.extend(now.parts.iter().map(|part| part.uri.clone()));
        before = now;
    }
    assert!(before.sequence > 10 && before.discontinuities + before.breaks as u64 >= 2);
    let first = seen.first().unwrap();
    assert_eq!(fetch(served.addr, first).await.status, 404, "{first} is long gone");
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_waits_is_answered_when_the_part_is_there_and_not_before() {
    let generations = clip().1;
    let served = serve_with(&generations[..2]);
    let listed = playlist(served.addr, MEDIA).await;
    assert_eq!((listed.parts.len(), listed.hint.as_deref()), (4, Some("0.4.m4s")));
    let addr = served.addr;
    let reload =
        tokio::spawn(
            async move { playlist(addr, "/live/media.m3u8?_HLS_msn=0&_HLS_part=4").await },
        );
    let hinted = tokio::spawn(async move { fetch(addr, "0.4.m4s").await });
    sleep(Duration::from_secs(3)).await;
    assert!(!reload.is_finished() && !hinted.is_finished());
    push(&served.hub, &generations[2]);
    let now = reload.await.unwrap();
    assert_eq!((now.parts.len(), now.hint.as_deref()), (6, Some("0.6.m4s")));
    let hinted = hinted.await.unwrap();
    assert_eq!((hinted.status, hinted.body), (200, fetch(addr, "0.4.m4s").await.body));
    // The whole segment is there when the next one begins.
    let reload = tokio::spawn(async move { playlist(addr, "/live/media.m3u8?_HLS_msn=0").await });
    for generation in &generations[3..] {
        sleep(Duration::from_millis(500)).await;
        if playlist(addr, MEDIA).await.segments.is_empty() {
            assert!(!reload.is_finished());
        }
        push(&served.hub, generation);
    }
    assert_eq!(reload.await.unwrap().segments.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_does_not_wait_for_ever() {
    let served = serve_with(&clip().1[..2]);
    let start = Instant::now();
    for path in ["media.m3u8?_HLS_msn=0&_HLS_part=4", "media.m3u8?_HLS_msn=1", "0.4.m4s"] {
        let answer = fetch(served.addr, path).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "2"));
    }
    assert_eq!(start.elapsed().as_secs(), 36, "three target durations each");
}

#[tokio::test]
async fn absurd_queries_are_refused_at_once() {
    let served = serve_with(&clip().1[..2]);
    for query in [
        "_HLS_msn=3",
        "_HLS_msn=18446744073709551615",
        "_HLS_msn=18446744073709551616",
        "_HLS_msn=-1",
        "_HLS_msn=",
        "_HLS_msn=0x1",
        "_HLS_msn=1&_HLS_msn=1",
        "_HLS_part=1",
        "_HLS_msn=0&_HLS_part=-1",
        "_HLS_msn=0&_HLS_part=99999",
        "_HLS_msn=1&_HLS_part=99",
    ] {
        let answer = fetch(served.addr, &format!("media.m3u8?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.text().lines().count(), 1);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
    for query in ["", "a", "_HLS_skip=YES", "_HLS_other=1&&==", "_HLS_msn=0&_HLS_part=3"] {
        playlist(served.addr, &format!("{MEDIA}?{query}")).await;
    }
    for name in
        ["0.99.m4s", "7.m4s", "0.m4s", "init-1.mp4", "18446744073709551615.0.m4s", "1.0.m4s"]
    {
        let answer = fetch(served.addr, name).await;
        assert_eq!(answer.status, 404, "{name}");
        assert_eq!(answer.text(), "not found: the playlist does not list it, or no longer\n");
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_broadcast_begins_a_player_waits_a_little() {
    let served = serve(None);
    for path in ["/live.m3u8", MEDIA] {
        let start = Instant::now();
        let answer = ask(served.addr, "GET", path).await;
        assert_eq!(
            (answer.status, answer.text()),
            (503, "the broadcast has not begun: try again\n")
        );
        assert_eq!(start.elapsed().as_secs(), TRACKS_TIMEOUT.as_secs());
    }
    let addr = served.addr;
    let early = tokio::spawn(async move { playlist(addr, MEDIA).await });
    sleep(TRACKS_TIMEOUT / 2).await;
    let (tracks, generations) = clip();
    served.hub.set_tracks(tracks);
    push(&served.hub, &generations[0]);
    assert_eq!(early.await.unwrap().parts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_and_what_there_was_stays() {
    let generations = clip().1;
    let served = serve_with(&generations[..3]);
    let addr = served.addr;
    let waiting =
        tokio::spawn(
            async move { playlist(addr, "/live/media.m3u8?_HLS_msn=0&_HLS_part=6").await },
        );
    let hinted = tokio::spawn(async move { fetch(addr, "0.6.m4s").await });
    sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    served.hub.end();
    let last = waiting.await.unwrap();
    assert!(last.is_over && last.hint.is_none() && last.segments.len() == 1);
    assert_eq!(hinted.await.unwrap().status, 404);
    assert_eq!(fetch(addr, "0.m4s").await.status, 200);
    let never = serve(None);
    never.hub.end();
    assert_eq!(ask(never.addr, "GET", MEDIA).await.status, 410);
}

#[tokio::test]
async fn other_tracks_begin_anew_behind_a_discontinuity() {
    let (tracks, generations) = clip();
    let served = serve_with(&generations[..2]);
    served.hub.set_tracks(vec![tracks[0].clone()]);
    let key = (1..generations.len()).find(|at| generations[*at].random_access).unwrap();
    push(&served.hub, &generations[2]);
    push(&served.hub, &generations[key]);
    let listed = playlist(served.addr, MEDIA).await;
    assert_eq!(listed.inits, ["init-0.mp4", "init-1.mp4"]);
    assert_eq!(listed.breaks, 1);
    let [old, new] =
        [fetch(served.addr, "init-0.mp4").await, fetch(served.addr, "init-1.mp4").await];
    assert!(old.status == 200 && new.status == 200 && old.body != new.body);
}

#[tokio::test]
async fn a_slow_player_is_cut_off_and_holds_up_nobody() {
    let generations = clip().1;
    let served = serve_with(&generations);
    let listed = playlist(served.addr, MEDIA).await;
    let fat = &listed.segments[0];
    let len: usize = fetch(served.addr, &fat.uri).await.body.len();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut slow = socket.connect(served.addr).await.unwrap();
    // Many times the same segment, so that no buffer of the system holds it all.
    let request = format!("GET /live/{} HTTP/1.1\r\nhost: a\r\n\r\n", fat.uri);
    for _ in 0..40 {
        slow.write_all(request.as_bytes()).await.unwrap();
    }
    for generation in endless().take(120) {
        push(&served.hub, &generation);
        // Others are answered.
        playlist(served.addr, MEDIA).await;
    }
    assert_eq!(fetch(served.addr, &fat.uri).await.status, 404);
    let mut taken = 0;
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = slow.read(&mut buffer).await
        && count > 0
    {
        taken += count;
    }
    assert!(taken < 40 * len, "{taken} of {len} bytes 40 times");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_requests_that_wait() {
    let served = serve_with(&clip().1[..2]);
    let mut waiting = send(served.addr, "GET", "/live/0.4.m4s").await;
    let waiting = tokio::spawn(async move { read_all(&mut waiting).await });
    sleep(Duration::from_secs(1)).await;
    served.stop.send(()).unwrap();
    served.task.await.unwrap();
    assert_eq!(Answer::parse(&waiting.await.unwrap(), false).status, 503);
}

fn is_missing(test: &str) -> bool {
    let is_there = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !is_there {
        eprintln!("SKIPPED: {test} needs ffmpeg on the path");
    }
    !is_there
}

/// Hash of every decoded picture.
fn picture_hashes(input: &str) -> Vec<String> {
    let arguments = [
        "-v",
        "error",
        "-live_start_index",
        "0",
        "-i",
        input,
        "-map",
        "0:v",
        "-f",
        "framemd5",
        "-",
    ];
    let arguments: Vec<&str> = if input.starts_with("http") {
        arguments.into()
    } else {
        arguments.into_iter().filter(|word| !word.contains("live") && *word != "0").collect()
    };
    let output = Command::new("ffmpeg").args(arguments).stdin(Stdio::null()).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let hash = |line: &str| line.rsplit(',').next().unwrap().trim().to_owned();
    lines.lines().filter(|line| !line.starts_with('#')).map(hash).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_plays_the_pictures_of_the_source() {
    if is_missing("ffmpeg_plays_the_pictures_of_the_source") {
        return;
    }
    // Ten seconds of programme are there; the rest comes while it plays.
    let (_, generations) = clip();
    let key = (1..generations.len()).find(|at| generations[*at].random_access).unwrap();
    let served = serve_with(&generations[..key + 1]);
    let url = format!("http://{}/live.m3u8", served.addr);
    let player = tokio::task::spawn_blocking(move || picture_hashes(&url));
    for generation in &generations[key + 1..] {
        // ffmpeg asks for the playlist as it goes; no event says that it did.
        push(&served.hub, generation);
        tokio::task::yield_now().await;
    }
    served.hub.end();
    let played = player.await.unwrap();
    let source = picture_hashes(CLIP);
    assert!(played.len() > 240, "{} pictures", played.len());
    assert!(source.ends_with(&played), "{} of {} pictures", played.len(), source.len());
}
