//! The same payload over gossipsub: every peer in one mesh, whole messages, signed.
//!
//! Decides nothing of gossipsub: its defaults, with signatures required. The payload of a
//! generation is published at once, as Banyan's source does, in messages of 16 KiB.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, Event, IdentTopic, MessageAuthenticity, PublishError, ValidationMode,
};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::Outcome;
use crate::meter::{Machine, process_cpu};
use crate::payload::{GENERATION, Noise};

const TOPIC: &str = "bench";
/// As in reference/peers.md B0.
const MESSAGE: usize = 16 * 1024;
/// From the last dial to the window: three heartbeats, so that the mesh has settled.
const SETTLE: Duration = Duration::from_secs(3);
/// Streaming before the window.
const WARM_UP: u64 = 2;
/// From the start or the end of the window to the next tick.
const MARGIN: Duration = Duration::from_millis(100);
/// Messages that may wait for the publisher: two ticks at 40 Mbit/s.
const QUEUE: usize = 512;

/// What gossipsub runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Quic,
    Tcp,
}

/// Counters of all nodes.
#[derive(Debug, Default)]
struct Counters {
    delivered: AtomicU64,
    refused: AtomicU64,
}

/// Measures a mesh of `peers` for `seconds`, with `tick_bytes` in each generation.
pub(crate) async fn measure(
    transport: Transport,
    tick_bytes: usize,
    peers: u32,
    seconds: u64,
) -> Result<Outcome> {
    let topic = IdentTopic::new(TOPIC);
    let counters = Arc::new(Counters::default());
    let mut nodes = Vec::new();
    let mut addresses: Vec<Multiaddr> = Vec::new();
    let (publish, messages) = mpsc::channel(QUEUE);
    let mut source = Some(messages);
    for _ in 0..peers {
        let mut swarm = swarm(transport)?;
        swarm.behaviour_mut().subscribe(&topic)?;
        let address = match transport {
            Transport::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
            Transport::Tcp => "/ip4/127.0.0.1/tcp/0",
        };
        swarm.listen_on(address.parse()?)?;
        let own = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        for other in &addresses {
            swarm.dial(other.clone())?;
        }
        addresses.push(own);
        let counters = Arc::clone(&counters);
        nodes.push(tokio::spawn(run(swarm, topic.clone(), source.take(), counters)));
    }
    tokio::time::sleep(SETTLE).await;

    let mut noise = Noise::new();
    let mut ticks = tokio::time::interval(GENERATION);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stream = async |count: u64| -> Result<()> {
        for _ in 0..count {
            ticks.tick().await;
            let mut rest = tick_bytes;
            while rest > 0 {
                let message = noise.take(rest.min(MESSAGE));
                rest -= message.len();
                publish.send(message).await.context("the publisher has stopped")?;
            }
        }
        tokio::time::sleep(GENERATION - MARGIN).await;
        Ok(())
    };
    stream(WARM_UP).await?;
    let began = Instant::now();
    let (cpu, machine) = (process_cpu(), Machine::now()?);
    let delivered = counters.delivered.load(Ordering::Relaxed);
    let count = seconds * 1000 / u64::try_from(GENERATION.as_millis())?;
    stream(count).await?;
    let elapsed = began.elapsed();
    let cpu = process_cpu() - cpu;
    let window = Machine::now()?.since(&machine);
    let delivered = counters.delivered.load(Ordering::Relaxed) - delivered;
    for node in nodes {
        ensure!(!node.is_finished(), "a gossipsub node has stopped");
        node.abort();
    }
    let refused = counters.refused.load(Ordering::Relaxed);
    ensure!(refused == 0, "gossipsub refused to publish {refused} messages");
    Ok(Outcome {
        cpu,
        needed: count * tick_bytes as u64 * u64::from(peers - 1),
        delivered,
        loopback: window.loopback,
        drop_rate: window.drop_rate(),
        other_cores: window.other_cores(cpu, elapsed),
        ..Outcome::default()
    })
}

/// Drives one node; the one with `messages` publishes them.
async fn run(
    mut swarm: Swarm<Behaviour>,
    topic: IdentTopic,
    mut messages: Option<mpsc::Receiver<Bytes>>,
    counters: Arc<Counters>,
) {
    loop {
        let next = async {
            match &mut messages {
                Some(messages) => messages.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(Event::Message { message, .. }) = event {
                    counters.delivered.fetch_add(message.data.len() as u64, Ordering::Relaxed);
                }
            }
            message = next => {
                let Some(message) = message else { return };
                let published = swarm.behaviour_mut().publish(topic.clone(), message.to_vec());
                // Where only some queues are full, the message is published all the same.
                if matches!(published, Err(ref error) if !matches!(error, PublishError::Duplicate)) {
                    counters.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

fn swarm(transport: Transport) -> Result<Swarm<Behaviour>> {
    let builder = SwarmBuilder::with_new_identity().with_tokio();
    let idle = Duration::from_secs(60);
    let swarm = match transport {
        Transport::Quic => builder
            .with_quic()
            .with_behaviour(behaviour)
            .map_err(|error| anyhow!("{error}"))?
            .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(idle))
            .build(),
        Transport::Tcp => builder
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )?
            .with_behaviour(behaviour)
            .map_err(|error| anyhow!("{error}"))?
            .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(idle))
            .build(),
    };
    Ok(swarm)
}

fn behaviour(
    key: &libp2p::identity::Keypair,
) -> Result<Behaviour, Box<dyn std::error::Error + Send + Sync>> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .max_transmit_size(4 * MESSAGE)
        .build()?;
    Ok(Behaviour::new(MessageAuthenticity::Signed(key.clone()), config)?)
}
