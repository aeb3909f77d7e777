//! The bare stream: one long-lived `libp2p-stream` for each child, bytes in, bytes out.
//!
//! Decides what counts as bare: QUIC with the windows Banyan uses and no other protocol; the relay
//! reads a chunk and queues it, uncopied, for a task per child that writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Stream, StreamProtocol, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder};
use libp2p_stream::{Behaviour, Control};
use tokio::sync::mpsc;

use super::{CHUNK, Feed, Progress, Ticks};
use crate::payload::Noise;
use crate::roles::{Ask, Asks, Sample, Say, say};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/banyan-bench/bare/1");
/// Chunks that may wait for a child: the 4 MiB of Banyan's send queue.
const QUEUE: usize = 4 * 1024 * 1024 / CHUNK;
/// Children that may wait for the first chunk. `libp2p-stream` loses streams that are not accepted
/// at once.
const MAX_CHILDREN: usize = 64;
/// Bytes a child reads at once.
const READ: usize = 64 * 1024;

/// Where and how this process is reached, and how it reaches others.
struct Endpoint {
    control: Control,
    address: Multiaddr,
}

impl Endpoint {
    /// Listens on loopback, and drives the swarm in a task of its own.
    async fn start(via: Option<&Multiaddr>) -> Result<Self> {
        let mut swarm = swarm()?;
        let control = swarm.behaviour().new_control();
        swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with(Protocol::P2p(*swarm.local_peer_id()));
            }
        };
        if let Some(via) = via {
            swarm.dial(via.clone())?;
        }
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Ok(Self { control, address })
    }
}

pub(super) async fn source(feed: Feed) -> Result<()> {
    let mut endpoint = Endpoint::start(None).await?;
    let mut incoming = endpoint.control.accept(PROTOCOL)?;
    say(&Say::Ready(vec![endpoint.address.to_string()]))?;
    let (_, mut stream) = incoming.next().await.context("no relay")?;
    let mut asks = Asks::new();
    while !matches!(asks.next().await?, Some(Ask::Begin) | None) {}
    let mut ticks = Ticks::new(feed);
    let mut noise = Noise::new();
    loop {
        tokio::select! {
            ask = asks.next() => match ask? {
                Some(Ask::Mark) => say(&Say::Sample(Sample::now()?))?,
                Some(Ask::Credit(received)) => ticks.on_credit(received),
                Some(Ask::Begin) => {}
                None => return Ok(()),
            },
            () = ticks.next() => {
                for _ in 0..feed.tick_bytes / CHUNK {
                    stream.write_all(&noise.take(CHUNK)).await?;
                }
                stream.flush().await?;
            }
        }
    }
}

pub(super) async fn relay(_: Feed, via: &[String]) -> Result<()> {
    let via = parse(via)?;
    let mut endpoint = Endpoint::start(Some(&via)).await?;
    let mut incoming = endpoint.control.accept(PROTOCOL)?;
    let mut upstream = open(&mut endpoint.control, &via).await?;
    say(&Say::Ready(vec![endpoint.address.to_string()]))?;
    let sent = Arc::new(AtomicU64::new(0));
    let children = Arc::new(AtomicU64::new(0));
    let (adopt, mut adopted) = mpsc::channel::<mpsc::Sender<Bytes>>(MAX_CHILDREN);
    let counters = (Arc::clone(&sent), Arc::clone(&children));
    tokio::spawn(async move {
        let mut queues: Vec<mpsc::Sender<Bytes>> = Vec::new();
        loop {
            let mut chunk = BytesMut::zeroed(CHUNK);
            let read = upstream.read_exact(&mut chunk);
            if read.await.is_err() {
                return;
            }
            while let Ok(queue) = adopted.try_recv() {
                queues.push(queue);
            }
            let chunk = chunk.freeze();
            for queue in &queues {
                // A child that is gone no longer takes any.
                drop(queue.send(chunk.clone()).await);
            }
        }
    });
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            let (queue, chunks) = mpsc::channel(QUEUE);
            tokio::spawn(write(stream, chunks, Arc::clone(&counters.0)));
            if adopt.send(queue).await.is_err() {
                return;
            }
            counters.1.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut asks = Asks::new();
    while let Some(ask) = asks.next().await? {
        if matches!(ask, Ask::Mark) {
            let sent = sent.load(Ordering::Relaxed);
            let children = children.load(Ordering::Relaxed);
            say(&Say::Sample(Sample { sent, framed: sent, children, ..Sample::now()? }))?;
        }
    }
    Ok(())
}

pub(super) async fn children(feed: Feed, via: &[String], count: u32) -> Result<()> {
    let via = parse(via)?;
    let mut received = Vec::new();
    for _ in 0..count {
        let mut endpoint = Endpoint::start(Some(&via)).await?;
        let mut stream = open(&mut endpoint.control, &via).await?;
        let bytes = Arc::new(AtomicU64::new(0));
        received.push(Arc::clone(&bytes));
        tokio::spawn(async move {
            let mut buffer = vec![0; READ];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                bytes.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
    }
    say(&Say::Ready(Vec::new()))?;
    let mut asks = Asks::new();
    let mut progress = Progress::default();
    let mut look = tokio::time::interval(Progress::INTERVAL);
    loop {
        tokio::select! {
            ask = asks.next() => match ask? {
                Some(Ask::Mark) => say(&Say::Sample(Sample::now()?))?,
                Some(Ask::Begin | Ask::Credit(_)) => {}
                None => return Ok(()),
            },
            _ = look.tick(), if feed.is_saturated => {
                let least = received.iter().map(|bytes| bytes.load(Ordering::Relaxed)).min();
                progress.tell(least.unwrap_or(0), feed)?;
            }
        }
    }
}

async fn write(mut stream: Stream, mut chunks: mpsc::Receiver<Bytes>, sent: Arc<AtomicU64>) {
    while let Some(chunk) = chunks.recv().await {
        if stream.write_all(&chunk).await.is_err() {
            return;
        }
        sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if chunks.is_empty() && stream.flush().await.is_err() {
            return;
        }
    }
}

/// Opens a stream once the connection is up.
async fn open(control: &mut Control, via: &Multiaddr) -> Result<Stream> {
    let Some(Protocol::P2p(peer)) = via.iter().last() else {
        anyhow::bail!("{via} names no peer");
    };
    open_to(control, peer).await
}

async fn open_to(control: &mut Control, peer: PeerId) -> Result<Stream> {
    let stream = control.open_stream(peer, PROTOCOL).await;
    stream.with_context(|| format!("opening a stream to {peer}"))
}

fn parse(via: &[String]) -> Result<Multiaddr> {
    Ok(via.first().context("no address")?.parse()?)
}

fn swarm() -> Result<Swarm<Behaviour>> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic_config(|mut quic| {
            quic.max_idle_timeout = 4_000;
            quic.keep_alive_interval = Duration::from_millis(1_300);
            quic.max_stream_data = 512 * 1024;
            quic.max_connection_data = 1024 * 1024;
            quic
        })
        .with_behaviour(|_| Behaviour::new())?
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    Ok(swarm)
}
