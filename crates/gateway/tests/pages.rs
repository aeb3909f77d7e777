//! What is answered, besides the live stream.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use banyan_gateway::{Gateway, State};
use common::{Answer, ask, read_all, serve, viewer};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

#[tokio::test]
async fn the_state_is_what_the_snapshot_says() {
    let served = serve(Some(viewer()));
    let answer = ask(served.addr, "GET", "/api/state").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    let name = |byte: &str| byte.repeat(32);
    let expected = json!({
        "broadcast": name("ab"),
        "peer": name("cd"),
        "role": "viewer",
        "title": "a \"quoted\" title",
        "overlay": "splitstream",
        "ended": false,
        "stripes": [
            {
                "stripe": 0,
                "primary": true,
                "parent": name("02"),
                "depth": 3,
                "rooted": true,
                "children": [name("04"), name("05")],
                "leaving": 1,
                "head": 77,
            },
            {
                "stripe": 1,
                "primary": false,
                "parent": null,
                "depth": 0,
                "rooted": false,
                "children": [],
                "leaving": 0,
                "head": null,
            },
        ],
        "roles": [0],
        "upload": { "budget": 6_500_000, "estimated": true },
        "capacity": 6,
        "used": 3,
        "interior_stripes": [0],
        "population": 24,
        "connections": 9,
        "contacts": 11,
        "net": { "connections_now": 12, "connections_opened": 30, "dials": 31 },
        "bytes": {
            "media_sent": 2001,
            "media_received": 2002,
            "control_sent": 2003,
            "control_received": 2004,
            "chunks_sent": 1005,
            "chunks_received": 1002,
            "duplicate_received": 1003,
            "store": 123_456,
        },
        "counters": {
            "chunks_received": 1001,
            "chunks_sent": 1004,
            "chunks_skipped": 1006,
            "expired_messages": 1007,
            "stale_messages": 1008,
            "headless_chunks": 1009,
            "forged_chunks": 1010,
            "repaired_chunks": 1011,
            "regenerated_descriptions": 1012,
            "control_messages_sent": 1013,
            "overlay_messages_received": 1014,
        },
        "violations": { "forged": 7, "replayed": 8 },
        "redundancy": {
            "thresholds": [1, 2],
            "source_bytes": 1000,
            "coded_bytes": 1250,
            "viewers": 3,
            "in_time": [0, 1, 5],
        },
        "playback": {
            "generations_played": 41,
            "generations_missed": 42,
            "generations_full": 40,
            "startup_ms": 1500,
            "last_lag_ms": 2250,
            "rendition": "full",
        },
    });
    let found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_source_without_a_manifest_has_a_state() {
    let mut state = viewer();
    state.snapshot.is_source = true;
    state.snapshot.manifest = None;
    state.snapshot.stripes.clear();
    let served = serve(Some(state));
    let answer = ask(served.addr, "GET", "/api/state").await;
    let found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(found["role"], "source");
    assert_eq!(found["title"], serde_json::Value::Null);
    assert_eq!(found["stripes"], json!([]));
}

/// The families with their types, and the samples. Asserts the rules of the format on the way.
fn parse_metrics(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
    let lines = text.strip_suffix("# EOF\n").unwrap();
    let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let mut helped = String::new();
    let mut family = (String::new(), String::new());
    for line in lines.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next().unwrap(), words.next().unwrap()) {
            ("#", "HELP") => {
                helped = words.next().unwrap().to_owned();
                assert!(words.next().is_some_and(|help| !help.is_empty()), "{line}");
            }
            ("#", "TYPE") => {
                family = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
                assert_eq!(family.0, helped, "{line}");
                assert_eq!(families.insert(family.0.clone(), family.1.clone()), None, "{line}");
            }
            ("#", "UNIT") => {
                assert_eq!(words.next().unwrap(), family.0);
                assert!(family.0.ends_with(&format!("_{}", words.next().unwrap())), "{line}");
            }
            (sample, value) => {
                assert_ne!(sample, "#", "{line}");
                let name = sample.split('{').next().unwrap();
                let suffix = if family.1 == "counter" { "_total" } else { "" };
                assert_eq!(name, format!("{}{suffix}", family.0), "{line}");
                assert!(name.starts_with("banyan_"), "{line}");
                let value = value.parse().unwrap();
                assert_eq!(samples.insert(sample.to_owned(), value), None, "{line}");
            }
        }
    }
    (families, samples)
}

#[tokio::test]
async fn the_metrics_are_open_metrics() {
    let served = serve(Some(viewer()));
    let answer = ask(served.addr, "GET", "/metrics").await;
    assert_eq!(answer.status, 200);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), kind);
    let (families, samples) = parse_metrics(answer.text());
    assert!(families.values().all(|kind| kind == "counter" || kind == "gauge"));
    for (name, value) in [
        ("banyan_chunks_received_total", 1001.0),
        ("banyan_chunks_sent_total", 1004.0),
        ("banyan_chunks_received_bytes_total", 1002.0),
        ("banyan_chunks_sent_bytes_total", 1005.0),
        ("banyan_duplicates_received_bytes_total", 1003.0),
        ("banyan_forged_chunks_total", 1010.0),
        ("banyan_stale_messages_total", 1008.0),
        ("banyan_regenerated_descriptions_total", 1012.0),
        ("banyan_generations_played_total", 41.0),
        ("banyan_generations_missed_total", 42.0),
        ("banyan_generations_full_total", 40.0),
        ("banyan_connections_opened_total", 30.0),
        ("banyan_violations_total{kind=\"forged\"}", 7.0),
        ("banyan_violations_total{kind=\"replayed\"}", 8.0),
        ("banyan_stripes_rooted", 1.0),
        ("banyan_children", 2.0),
        ("banyan_interior_stripes", 1.0),
        ("banyan_connections", 12.0),
        ("banyan_upload_bits_per_second", 6_500_000.0),
        ("banyan_upload_estimated", 1.0),
        ("banyan_capacity", 6.0),
        ("banyan_population", 24.0),
        ("banyan_store_bytes", 123_456.0),
        ("banyan_playout_lag_seconds", 2.25),
        ("banyan_startup_seconds", 1.5),
        ("banyan_live_clients", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
}

#[tokio::test]
async fn what_is_not_known_yet_is_no_metric() {
    let mut state = viewer();
    state.playback = banyan_gateway::PlaybackState::default();
    state.snapshot.stats.violations.clear();
    let served = serve(Some(state));
    let answer = ask(served.addr, "GET", "/metrics").await;
    let (_, samples) = parse_metrics(answer.text());
    assert!(!samples.contains_key("banyan_playout_lag_seconds"));
    assert!(!samples.keys().any(|name| name.starts_with("banyan_violations")));
}

#[track_caller]
fn assert_line(answer: &Answer, status: u16, text: &str) {
    assert_eq!(answer.status, status);
    assert_eq!(answer.text(), format!("{text}\n"));
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert!(answer.is_whole);
}

#[tokio::test]
async fn without_a_peer_there_is_no_state() {
    let served = serve(None::<State>);
    for path in ["/api/state", "/metrics"] {
        let answer = ask(served.addr, "GET", path).await;
        assert_line(&answer, 503, "the peer does not answer: it is starting, stopping or busy");
    }
}

#[tokio::test]
async fn other_paths_and_methods_get_one_line() {
    let served = serve(Some(viewer()));
    let addr = served.addr;
    let events = ask(addr, "GET", "/api/events").await;
    assert_line(&events, 501, "not in this version: the stream of events, use /live.ts");
    for path in [
        "/nothing",
        "/live.ts/",
        "/live/",
        "/live/x",
        "/live/1.m4s/2",
        "/live/%00",
        "/api",
        "//",
        "/../etc/passwd",
        "/%00",
    ] {
        let unknown = ask(addr, "GET", path).await;
        assert_line(&unknown, 404, "not found: see / for what there is");
    }
    for path in ["/", "/live.ts", "/live.m3u8", "/live/0.m4s", "/api/state", "/metrics"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"] {
            let refused = ask(addr, method, path).await;
            assert_line(&refused, 405, "only GET and HEAD");
            assert_eq!(refused.header("allow"), "GET, HEAD");
        }
    }
    for path in ["/", "/api/state", "/metrics"] {
        let head = ask(addr, "HEAD", path).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        let get = ask(addr, "GET", path).await;
        assert_eq!(head.header("content-length"), get.header("content-length"));
    }
}

#[tokio::test]
async fn the_page_plays_by_itself_and_loads_nothing_from_elsewhere() {
    let served = serve(Some(viewer()));
    let page = ask(served.addr, "GET", "/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; "));
    for word in ["<video", "MediaSource", "/live.m3u8", "/live.ts", "/api/state", "/metrics"] {
        assert!(page.text().contains(word), "{word}");
    }
    let mut links = page.text().match_indices("://").map(|(at, _)| &page.text()[at - 5..at + 20]);
    assert!(links.all(|link| link.contains("www.w3.org/2000")), "a name space is no link");
}

#[tokio::test]
async fn a_taken_port_says_what_to_do() {
    let served = serve(None);
    let error = Gateway::bind(served.addr).unwrap_err();
    let expected =
        format!("cannot serve on {}: the port is taken: choose another with --http", served.addr);
    assert_eq!(error.to_string(), expected);
    let error = Gateway::bind(([192, 0, 2, 1], 0).into()).unwrap_err();
    assert!(error.to_string().starts_with("cannot serve on 192.0.2.1:0: "), "{error}");
}

#[tokio::test]
async fn garbage_does_no_harm() {
    let served = serve(Some(viewer()));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let requests: [&[u8]; 7] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\r\n",
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ];
    for request in requests {
        let mut stream = TcpStream::connect(served.addr).await.unwrap();
        // It may be closed before all is written.
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let bytes = read_all(&mut stream).await;
        let status = bytes.split(|byte| *byte == b' ').nth(1);
        assert!(status.is_none_or(|status| status.starts_with(b"4")), "{status:?}");
    }
    assert_eq!(ask(served.addr, "GET", "/api/state").await.status, 200);
}
