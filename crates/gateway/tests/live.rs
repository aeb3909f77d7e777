//! The live stream over HTTP. Time is tokio's and paused: it goes on when nobody has anything to do.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use banyan_gateway::{MAX_CLIENTS, TRACKS_TIMEOUT};
use banyan_media::{AccessUnit, DemuxStats, Event, TsDemuxer};
use banyan_wire::{Codec, Track};
use bytes::Bytes;
use common::{Answer, ask, clip, push, read_all, send, serve, viewer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};

/// The units of a stream, which has to be without damage.
fn demux(stream: &[u8]) -> Vec<AccessUnit> {
    let mut demuxer = TsDemuxer::new();
    demuxer.push(stream).unwrap();
    demuxer.finish().unwrap();
    let mut units = Vec::new();
    while let Some(event) = demuxer.poll() {
        if let Event::AccessUnit(unit) = event {
            units.push(unit);
        }
    }
    assert_eq!(demuxer.stats(), DemuxStats::default());
    units
}

/// The bytes of each track's units.
fn payloads<'a>(
    tracks: &[Track],
    units: impl Iterator<Item = &'a AccessUnit> + Clone,
) -> Vec<Vec<Bytes>> {
    let of_track = |track: &Track| {
        let units = units.clone().filter(|unit| unit.track == track.id);
        units.map(|unit| unit.data.clone()).collect()
    };
    tracks.iter().map(of_track).collect()
}

#[tokio::test(start_paused = true)]
async fn a_player_gets_the_programme_from_the_newest_key_on() {
    let (tracks, generations) = clip();
    let served = serve(None);
    served.hub.set_tracks(tracks.clone());
    let key = (1..generations.len()).find(|at| generations[*at].random_access).unwrap();
    let joined = key + 3;
    generations[..joined].iter().for_each(|generation| push(&served.hub, generation));

    let start = Instant::now();
    let mut player = send(served.addr, "GET", "/live.ts").await;
    let player = tokio::spawn(async move { read_all(&mut player).await });
    for generation in &generations[joined..] {
        sleep(Duration::from_millis(500)).await;
        push(&served.hub, generation);
    }
    served.hub.end();
    let answer = Answer::parse(&player.await.unwrap(), false);
    assert_eq!((answer.status, answer.is_whole), (200, true));
    assert_eq!(answer.header("content-type"), "video/mp2t");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let units = demux(&answer.body);
    assert!(units.iter().find(|unit| unit.priority.is_video()).unwrap().random_access);
    let sent = generations[key..].iter().flat_map(|generation| &generation.units);
    assert!(payloads(&tracks, units.iter()) == payloads(&tracks, sent));
    // At the pace of the programme, not faster.
    let left = generations.len() - joined;
    let wall = start.elapsed().as_millis();
    assert!(wall.abs_diff(left as u128 * 500) < 1000, "{wall} ms for {left} generations");

    let late = ask(served.addr, "GET", "/live.ts").await;
    assert_eq!((late.status, late.text()), (410, "the broadcast is over\n"));
}

#[tokio::test(start_paused = true)]
async fn a_player_that_does_not_read_holds_up_nobody_and_is_moved_on() {
    let (tracks, generations) = clip();
    let served = serve(None);
    served.hub.set_tracks(tracks.clone());
    push(&served.hub, &generations[0]);

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let mut stalled = socket.connect(served.addr).await.unwrap();
    stalled.write_all(b"GET /live.ts HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut steady = send(served.addr, "GET", "/live.ts").await;
    let steady = tokio::spawn(async move { read_all(&mut steady).await });

    for generation in &generations[1..] {
        sleep(Duration::from_millis(500)).await;
        push(&served.hub, generation);
    }
    served.hub.end();
    let whole = Answer::parse(&steady.await.unwrap(), false);
    assert!(whole.is_whole);
    let sent = generations.iter().flat_map(|generation| &generation.units);
    assert!(payloads(&tracks, demux(&whole.body).iter()) == payloads(&tracks, sent));

    // It wakes up, and finds what the system held for it and the end of the programme.
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while !bytes.ends_with(b"\r\n0\r\n\r\n") {
        let count = stalled.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "closed before the end");
        bytes.extend_from_slice(&buffer[..count]);
    }
    let parts = Answer::parse(&bytes, false);
    assert!(parts.is_whole && parts.body.len() < whole.body.len() * 3 / 4);
    let found = demux(&parts.body);
    let last = generations.last().unwrap().units.last().unwrap();
    assert!(found.iter().any(|unit| unit.data == last.data));
}

#[tokio::test(start_paused = true)]
async fn a_player_that_never_reads_is_cut_off() {
    let (tracks, generations) = clip();
    let served = serve(Some(viewer()));
    served.hub.set_tracks(tracks);
    push(&served.hub, &generations[0]);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let mut stalled = socket.connect(served.addr).await.unwrap();
    stalled.write_all(b"GET /live.ts HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    for generation in generations.iter().cycle().take(150) {
        sleep(Duration::from_millis(500)).await;
        push(&served.hub, generation);
    }
    let metrics = ask(served.addr, "GET", "/metrics").await;
    assert!(metrics.text().contains("\nbanyan_live_clients 0.0\n"), "{}", metrics.text());
}

#[tokio::test(start_paused = true)]
async fn before_the_broadcast_begins_a_player_is_asked_to_try_again() {
    let served = serve(None);
    for method in ["GET", "HEAD"] {
        let start = Instant::now();
        let answer = ask(served.addr, method, "/live.ts").await;
        assert!(start.elapsed() >= TRACKS_TIMEOUT);
        assert_eq!((answer.status, answer.header("retry-after")), (503, "2"));
        let text = if method == "GET" { "the broadcast has not begun: try again\n" } else { "" };
        assert_eq!(answer.text(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_player_that_is_early_waits_for_the_broadcast() {
    let (tracks, generations) = clip();
    let served = serve(None);
    let mut early = send(served.addr, "GET", "/live.ts").await;
    let early = tokio::spawn(async move { read_all(&mut early).await });
    sleep(TRACKS_TIMEOUT / 2).await;
    served.hub.set_tracks(tracks);
    sleep(TRACKS_TIMEOUT).await;
    push(&served.hub, &generations[0]);
    sleep(Duration::from_secs(1)).await;
    served.hub.end();
    let answer = Answer::parse(&early.await.unwrap(), false);
    assert_eq!((answer.status, answer.is_whole), (200, true));
    assert_eq!(demux(&answer.body).len(), generations[0].units.len());
}

#[tokio::test(start_paused = true)]
async fn head_tells_the_headers_and_takes_no_place() {
    let (tracks, _) = clip();
    let served = serve(Some(viewer()));
    served.hub.set_tracks(tracks);
    let head = ask(served.addr, "HEAD", "/live.ts").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), "video/mp2t");
    let metrics = ask(served.addr, "GET", "/metrics").await;
    assert!(metrics.text().contains("\nbanyan_live_clients 0.0\n"));
}

#[tokio::test(start_paused = true)]
async fn one_client_too_many_is_refused_until_another_leaves() {
    let (tracks, generations) = clip();
    let served = serve(None);
    served.hub.set_tracks(tracks);
    push(&served.hub, &generations[0]);
    let mut players = Vec::new();
    for _ in 0..MAX_CLIENTS {
        let mut player = send(served.addr, "GET", "/live.ts").await;
        let mut first = [0; 1];
        player.read_exact(&mut first).await.unwrap();
        players.push(player);
    }
    let refused = ask(served.addr, "GET", "/live.ts").await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.text(), "64 clients are watching: try again later\n");
    assert_eq!(ask(served.addr, "GET", "/").await.status, 200);
    players.pop();
    sleep(Duration::from_secs(1)).await;
    let mut player = send(served.addr, "GET", "/live.ts").await;
    let mut line = [0; 15];
    player.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 200 OK");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_open_streams() {
    let (tracks, generations) = clip();
    let served = serve(None);
    served.hub.set_tracks(tracks);
    push(&served.hub, &generations[0]);
    let mut player = send(served.addr, "GET", "/live.ts").await;
    let mut idle = tokio::net::TcpStream::connect(served.addr).await.unwrap();
    let player = tokio::spawn(async move { read_all(&mut player).await });
    sleep(Duration::from_secs(3)).await;
    served.stop.send(()).unwrap();
    served.task.await.unwrap();
    let answer = Answer::parse(&player.await.unwrap(), false);
    assert_eq!((answer.status, answer.is_whole), (200, true));
    assert_eq!(demux(&answer.body).len(), generations[0].units.len());
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(tokio::net::TcpStream::connect(served.addr).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn no_connection_outlives_the_gateway() {
    let (tracks, generations) = clip();
    let served = serve(None);
    served.hub.set_tracks(tracks);
    push(&served.hub, &generations[0]);
    let mut player = send(served.addr, "GET", "/live.ts").await;
    player.read_exact(&mut [0; 15]).await.unwrap();
    served.task.abort();
    let answer = read_all(&mut player).await;
    assert!(!answer.ends_with(b"0\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn what_no_transport_stream_carries_is_said_with_the_way_out() {
    let (mut tracks, generations) = clip();
    for codec in [Codec::Av1, Codec::Vp9] {
        let served = serve(None);
        tracks[0].codec = codec;
        served.hub.set_tracks(tracks.clone());
        push(&served.hub, &generations[0]);
        let answer = ask(served.addr, "GET", "/live.ts").await;
        let text = format!("a transport stream does not carry {}: use /live.m3u8\n", codec.name());
        assert_eq!((answer.status, answer.text()), (406, text.as_str()));
    }
}
