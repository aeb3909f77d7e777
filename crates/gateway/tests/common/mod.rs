//! What the integration tests share: a gateway with its hub, and an HTTP client of a few lines.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::sync::Arc;

use banyan_core::{Audience, Snapshot, Stats, StripeSnapshot, Violation};
use banyan_gateway::{Face, Gateway, LiveHub, NetState, PlaybackState, State};
use banyan_media::{Generation, GenerationBuilder, Mp4Reader};
use banyan_wire::{
    BroadcastId, Contact, GenerationId, Manifest, Overlay, PeerId, Rendition, Roles, StripeCount,
    StripeId, Track,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Half a minute of H.264 with B-pictures, and AAC.
pub(crate) const CLIP: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/bbb_480p24_30s_h264_aac.mp4");

/// The tracks and generations of a clip.
pub(crate) fn clip() -> (Vec<Track>, Vec<Generation>) {
    let mut reader = Mp4Reader::open(BufReader::new(File::open(CLIP).unwrap())).unwrap();
    let mut builder = GenerationBuilder::default();
    let mut generations = Vec::new();
    while let Some(unit) = reader.next_access_unit().unwrap() {
        generations.extend(builder.push(unit));
    }
    generations.extend(builder.flush());
    (reader.tracks().to_vec(), generations)
}

/// Gives the hub a generation.
pub(crate) fn push(hub: &LiveHub, generation: &Generation) {
    hub.push(Arc::new(generation.units.clone()), generation.random_access);
}

/// A gateway that serves.
pub(crate) struct Served {
    pub(crate) addr: SocketAddr,
    pub(crate) hub: Arc<LiveHub>,
    pub(crate) task: JoinHandle<()>,
    pub(crate) stop: oneshot::Sender<()>,
}

/// Serves a state on any free port.
pub(crate) fn serve(state: Option<State>) -> Served {
    let gateway = Gateway::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addr = gateway.local_addr();
    let hub = Arc::new(LiveHub::new());
    let face = Face {
        live: Arc::clone(&hub),
        state: Arc::new(move || {
            let state = state.clone();
            Box::pin(async move { state })
        }),
    };
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(gateway.serve_until(face, async move { drop(stopped.await) }));
    Served { addr, hub, task, stop }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the body was there to its end.
    pub(crate) is_whole: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Reads an answer from all that came on a connection.
    pub(crate) fn parse(bytes: &[u8], is_head: bool) -> Self {
        let end = bytes.windows(4).position(|at| at == b"\r\n\r\n").unwrap();
        let head = str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let rest = &bytes[end + 4..];
        let is_chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
        let (body, is_whole) = if is_chunked && !is_head {
            dechunk(rest)
        } else {
            let len = headers.get("content-length").map(|len| len.parse().unwrap());
            (rest.to_vec(), is_head || len == Some(rest.len()))
        };
        Self { status, headers, body, is_whole }
    }
}

/// The chunks of a body, and whether the last one was there.
pub(crate) fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|at| at == b"\r\n") else { return (body, false) };
        let len = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if len == 0 {
            return (body, rest == b"\r\n");
        }
        let now = len.min(rest.len());
        body.extend_from_slice(&rest[..now]);
        if now + 2 > rest.len() {
            return (body, false);
        }
        rest = &rest[now + 2..];
    }
}

/// Opens a connection and sends a request.
pub(crate) async fn send(addr: SocketAddr, method: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: banyan\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads a connection to its end, however it ends.
pub(crate) async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

/// Asks once.
pub(crate) async fn ask(addr: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = send(addr, method, path).await;
    Answer::parse(&read_all(&mut stream).await, method == "HEAD")
}

/// A name.
pub(crate) const fn peer(at: u8) -> PeerId {
    PeerId([at; 32])
}

/// A viewer of two stripes, one of them an orphan, with a number for everything.
pub(crate) fn viewer() -> State {
    let contact = Contact {
        peer: peer(1),
        roles: Roles::NONE,
        capacity: 32,
        addresses: Vec::new(),
        is_source: true,
        class: 0,
        coordinate: None,
    };
    let manifest = Manifest {
        broadcast: BroadcastId([0xab; 32]),
        sequence: 3,
        title: "a \"quoted\" title".to_owned(),
        stripes: StripeCount::new(2).unwrap(),
        overlay: Overlay::SplitStream,
        stripe_rate: 1_000_000,
        generation_millis: 500,
        tracks: Vec::new(),
        source: contact,
        created_at: 1,
        ended_at: None,
    };
    let stats = Stats {
        chunks_received: 1001,
        chunk_bytes_received: 1002,
        duplicate_bytes_received: 1003,
        chunks_sent: 1004,
        chunk_bytes_sent: 1005,
        chunks_skipped: 1006,
        expired_messages: 1007,
        stale_messages: 1008,
        headless_chunks: 1009,
        forged_chunks: 1010,
        repaired_chunks: 1011,
        regenerated_descriptions: 1012,
        control_messages_sent: 1013,
        overlay_messages_received: 1014,
        violations: BTreeMap::from([(Violation::Forged, 7), (Violation::Replayed, 8)]),
    };
    let rooted = StripeSnapshot {
        stripe: StripeId(0),
        is_primary: true,
        parent: Some(peer(2)),
        depth: 3,
        is_rooted: true,
        children: vec![peer(4), peer(5)],
        leaving: 1,
        head: Some(GenerationId(77)),
    };
    let orphan = StripeSnapshot {
        stripe: StripeId(1),
        is_primary: false,
        parent: None,
        depth: 0,
        is_rooted: false,
        children: Vec::new(),
        leaving: 0,
        head: None,
    };
    State {
        snapshot: Snapshot {
            broadcast: manifest.broadcast,
            peer: peer(0xcd),
            is_source: false,
            manifest: Some(manifest),
            roles: Roles::one(StripeId(0)),
            upload: 6_500_000,
            is_upload_estimated: true,
            capacity: 6,
            wanted: Roles::one(StripeId(0)),
            population: 24,
            stripes: vec![rooted, orphan],
            coordinate: None,
            connections: 9,
            contacts: 11,
            audience: Audience { viewers: 3, counts: vec![0, 1, 5] },
            thresholds: vec![1, 2],
            source_bytes: 1_000,
            coded_bytes: 1_250,
            store_bytes: 123_456,
            stats,
        },
        net: NetState {
            connections_now: 12,
            connections_opened: 30,
            dials: 31,
            media_bytes_sent: 2001,
            media_bytes_received: 2002,
            control_bytes_sent: 2003,
            control_bytes_received: 2004,
        },
        playback: PlaybackState {
            generations_played: 41,
            generations_missed: 42,
            generations_full: 40,
            startup_ms: Some(1500),
            last_lag_ms: Some(2250),
            rendition: Some(Rendition::Full),
        },
    }
}
