//! Links over real transports: frames in order and whole, and what is refused.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::cast_possible_truncation, reason = "patterns may wrap")]
#![expect(clippy::wildcard_enum_match_arm, reason = "one event is waited for")]

use std::convert::Infallible;
use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use banyan_wire::frame::{Frame, MAX_CONTROL_FRAME, MAX_DATA_FRAME};
use banyan_wire::{
    ChunkId, DecodeError, GenerationId, MAX_CHUNK_LENGTH, Message, PeerId, Roles, StripeId,
};
use bytes::Bytes;
use futures::{AsyncWriteExt as _, FutureExt as _, StreamExt as _};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, FullyNegotiatedOutbound,
    SubstreamProtocol,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol, SwarmEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::time::Instant;

use super::{Behaviour, Inbox, Lane, LinkConfig, Report};
use crate::identity;

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const TAG: u64 = 7;

// ---- Between two of our own -------------------------------------------------------------------

#[tokio::test]
async fn messages_of_both_lanes_arrive_whole_and_in_order_over_quic() {
    messages_of_both_lanes_arrive_whole_and_in_order(QUIC).await;
}

#[tokio::test]
async fn messages_of_both_lanes_arrive_whole_and_in_order_over_tcp() {
    messages_of_both_lanes_arrive_whole_and_in_order(TCP).await;
}

async fn messages_of_both_lanes_arrive_whole_and_in_order(transport: &str) {
    const COUNT: u16 = 300;
    let (mut alice, mut bob) = connected(transport).await;
    let longest = MAX_CHUNK_LENGTH as usize;
    for index in 0..COUNT {
        let length = [1, 1000, longest][usize::from(index) % 3];
        let roles = Roles(u64::from(index));
        alice.send(bob.peer, &Message::FindContacts { digits: roles }, None);
        alice.send(bob.peer, &chunk(index, length), None);
    }
    let (mut control, mut data) = (Vec::new(), Vec::new());
    while control.len() + data.len() < usize::from(COUNT) * 2 {
        let Report::Received { peer, messages } = bob.report(&mut alice).await else { continue };
        assert_eq!(peer, alice.peer);
        for (tag, message) in messages {
            assert_eq!(tag, TAG);
            if message.is_data() { data.push(message) } else { control.push(message) }
        }
    }
    for index in 0..COUNT {
        let length = [1, 1000, longest][usize::from(index) % 3];
        let roles = Roles(u64::from(index));
        assert_eq!(control[usize::from(index)], Message::FindContacts { digits: roles });
        assert_eq!(data[usize::from(index)], chunk(index, length));
    }
    let counters = (alice.swarm.behaviour().counters(), bob.swarm.behaviour().counters());
    for lane in Lane::BOTH {
        assert_eq!(counters.0.sent(lane), counters.1.received(lane));
    }
    assert!(counters.0.sent(Lane::Data) > u64::from(COUNT) * u64::from(MAX_CHUNK_LENGTH) / 3);
}

#[tokio::test]
async fn both_sides_send_over_one_connection() {
    let (mut alice, mut bob) = connected(QUIC).await;
    alice.send(bob.peer, &chunk(1, 10), None);
    assert_eq!(bob.messages(&mut alice).await, [(TAG, chunk(1, 10))]);
    bob.send(alice.peer, &chunk(2, 10), None);
    assert_eq!(alice.messages(&mut bob).await, [(TAG, chunk(2, 10))]);
}

#[tokio::test]
async fn expired_data_is_dropped_and_counted_and_the_rest_arrives() {
    let (mut alice, mut bob) = connected(QUIC).await;
    let past = Instant::now();
    for index in 0..5 {
        alice.send(bob.peer, &chunk(index, 100), Some(past));
    }
    alice.send(bob.peer, &chunk(5, 100), Some(past + Duration::from_secs(3600)));
    assert_eq!(bob.messages(&mut alice).await, [(TAG, chunk(5, 100))]);
    let mut dropped = 0;
    while dropped < 5 {
        if let Report::Queue { peer, dropped_messages, .. } = alice.report(&mut bob).await {
            assert_eq!(peer, bob.peer);
            dropped += dropped_messages;
        }
    }
    assert_eq!(dropped, 5);
    assert_eq!(alice.swarm.behaviour().counters().dropped(), 5);
}

#[tokio::test]
async fn a_queue_that_grows_is_reported_and_so_is_that_it_is_empty_again() {
    let (mut alice, mut bob) = connected(QUIC).await;
    // Far more than the windows of the transport take at once.
    for index in 0..200 {
        alice.send(bob.peer, &chunk(index, MAX_CHUNK_LENGTH as usize), None);
    }
    let mut levels = Vec::new();
    while levels.last() != Some(&0) {
        if let Report::Queue { queued_bytes, dropped_messages, .. } = alice.report(&mut bob).await {
            assert_eq!(dropped_messages, 0);
            levels.push(queued_bytes);
        }
        // Read all that has come, as the driver would.
        while bob.inbox.next().now_or_never().flatten().is_some() {}
    }
    assert!(levels.iter().any(|level| *level > 100_000), "{levels:?}");
}

#[tokio::test]
async fn what_is_queued_is_sent_before_the_connection_is_closed() {
    let (mut alice, mut bob) = connected(QUIC).await;
    for index in 0..50 {
        alice.send(bob.peer, &chunk(index, 10_000), None);
    }
    alice.swarm.behaviour_mut().close(&bob.peer);
    assert!(!alice.swarm.behaviour().is_open(&bob.peer));
    let mut received = 0;
    while received < 50 {
        received += bob.messages(&mut alice).await.len();
    }
    within(async {
        loop {
            tokio::select! {
                event = bob.swarm.select_next_some() => {
                    if let SwarmEvent::ConnectionClosed { .. } = event { break }
                }
                _ = alice.swarm.select_next_some() => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_blocked_peer_does_not_get_in_again() {
    let (mut alice, mut bob) = connected(QUIC).await;
    let address = alice.swarm.listeners().next().unwrap().clone();
    alice.swarm.behaviour_mut().block(bob.peer, Duration::from_secs(60));
    alice.swarm.behaviour_mut().close(&bob.peer);
    let name = *alice.swarm.local_peer_id();
    within(async {
        let mut is_dialled = false;
        loop {
            tokio::select! {
                event = bob.swarm.select_next_some() => match event {
                    SwarmEvent::ConnectionClosed { .. } if !is_dialled => {
                        is_dialled = true;
                        bob.swarm.dial(address.clone().with_p2p(name).unwrap()).unwrap();
                    }
                    _ => {}
                },
                event = alice.swarm.select_next_some() => {
                    if let SwarmEvent::IncomingConnectionError { .. } = event { break }
                }
            }
        }
    })
    .await;
    assert!(!alice.swarm.behaviour().is_open(&bob.peer));
}

// ---- Between us and somebody who sends what he likes ------------------------------------------

#[tokio::test]
async fn an_oversized_frame_is_reported_and_ends_the_connection() {
    for (lane, limit) in [(Lane::Control, MAX_CONTROL_FRAME), (Lane::Data, MAX_DATA_FRAME)] {
        let length = u32::try_from(limit + 1).unwrap();
        let mut victim = attack(lane, length.to_be_bytes().to_vec()).await;
        let error = victim.undecodable().await;
        assert_eq!(error, DecodeError::FrameTooLong { length: limit + 1, limit });
        victim.closed().await;
    }
}

#[tokio::test]
async fn garbage_is_reported_and_what_follows_is_still_read() {
    let good = chunk(1, 100);
    let garbage: [&[u8]; 4] = [
        // Shorter than its own head.
        &[0, 0, 0, 1, 9],
        &[0, 0, 0, 3, 0, 200, 1],
        // No protobuf.
        &[0, 0, 0, 6, 0, 4, 0xff, 0xff, 0xff, 0xff],
        // A control message where chunks belong.
        &Frame::encode(TAG, &Message::FindContacts { digits: Roles(1) }).head,
    ];
    let expected = [
        DecodeError::FrameTruncated,
        DecodeError::FrameTruncated,
        DecodeError::Malformed,
        DecodeError::WrongSubstream,
    ];
    for (bytes, expected) in garbage.into_iter().zip(expected) {
        let mut victim = attack(Lane::Data, [bytes, &raw(&good)].concat()).await;
        assert_eq!(victim.undecodable().await, expected);
        assert_eq!(victim.messages().await, [(TAG, good.clone())]);
    }
}

#[tokio::test]
async fn a_message_of_a_newer_version_is_skipped_and_counted() {
    // An envelope with a tag, and no message this version knows.
    let newer = [0, 0, 0, 11, 0, 9, 9, 7, 0, 0, 0, 0, 0, 0, 0];
    let good = Message::FindContacts { digits: Roles(5) };
    let mut victim = attack(Lane::Control, [&newer[..], &raw(&good)].concat()).await;
    assert_eq!(victim.messages().await, [(TAG, good)]);
    assert_eq!(victim.end.swarm.behaviour().counters().unknown(), 1);
    assert_eq!(victim.end.swarm.behaviour().counters().undecodable(), 0);
}

#[tokio::test]
async fn a_frame_in_many_pieces_is_put_together() {
    let messages: Vec<Message> = (0..40).map(|index| chunk(index, 5_000)).collect();
    let bytes = messages.iter().map(raw).collect::<Vec<_>>().concat();
    let mut victim = attack_in_pieces(Lane::Data, bytes, 777).await;
    let mut received = Vec::new();
    while received.len() < messages.len() {
        received.extend(victim.messages().await.into_iter().map(|(_, message)| message));
    }
    assert_eq!(received, messages);
}

// ---- Helpers ----------------------------------------------------------------------------------

fn chunk(index: u16, length: usize) -> Message {
    let payload = (0..length).map(|byte| (byte as u8).wrapping_mul(31) ^ index as u8);
    let id = ChunkId { generation: GenerationId(3), stripe: StripeId(1), index };
    Message::Chunk { id, payload: payload.collect::<Vec<u8>>().into() }
}

fn raw(message: &Message) -> Vec<u8> {
    let frame = Frame::encode(TAG, message);
    [frame.head, frame.payload].concat()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes no 30 s")
}

struct End {
    swarm: Swarm<Behaviour>,
    inbox: Inbox,
    peer: PeerId,
}

impl End {
    fn new() -> Self {
        let (behaviour, inbox) = Behaviour::new(LinkConfig::default());
        let swarm = swarm(behaviour);
        let peer = identity::from_libp2p(swarm.local_peer_id()).unwrap();
        Self { swarm, inbox, peer }
    }

    fn send(&mut self, to: PeerId, message: &Message, expires_at: Option<Instant>) {
        let lane = if message.is_data() { Lane::Data } else { Lane::Control };
        let frame = Frame::encode(TAG, message);
        self.swarm.behaviour_mut().send(&to, lane, frame, expires_at);
        self.swarm.behaviour_mut().flush();
    }

    async fn report(&mut self, other: &mut Self) -> Report {
        within(async {
            loop {
                tokio::select! {
                    report = self.inbox.next() => return report.unwrap(),
                    _ = self.swarm.select_next_some() => {}
                    _ = other.swarm.select_next_some() => {}
                }
            }
        })
        .await
    }

    async fn messages(&mut self, other: &mut Self) -> Vec<(u64, Message)> {
        loop {
            if let Report::Received { messages, .. } = self.report(other).await {
                return messages;
            }
        }
    }
}

fn swarm<B: NetworkBehaviour>(behaviour: B) -> Swarm<B> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

async fn listening<B: NetworkBehaviour>(swarm: &mut Swarm<B>, address: &str) -> Multiaddr {
    swarm.listen_on(address.parse().unwrap()).unwrap();
    within(async {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                return address;
            }
        }
    })
    .await
}

async fn connect<A: NetworkBehaviour, B: NetworkBehaviour>(
    listener: &mut Swarm<A>,
    dialler: &mut Swarm<B>,
    address: &str,
) {
    let address = listening(listener, address).await;
    dialler.dial(address).unwrap();
    within(async {
        let (mut one, mut other) = (false, false);
        while !one || !other {
            tokio::select! {
                event = listener.select_next_some() => {
                    one |= matches!(event, SwarmEvent::ConnectionEstablished { .. });
                }
                event = dialler.select_next_some() => {
                    other |= matches!(event, SwarmEvent::ConnectionEstablished { .. });
                }
            }
        }
    })
    .await;
}

async fn connected(address: &str) -> (End, End) {
    let (mut alice, mut bob) = (End::new(), End::new());
    connect(&mut alice.swarm, &mut bob.swarm, address).await;
    (alice, bob)
}

struct Victim {
    end: End,
    attacker: Swarm<Attacker>,
}

async fn attack(lane: Lane, bytes: Vec<u8>) -> Victim {
    let piece = bytes.len();
    attack_in_pieces(lane, bytes, piece).await
}

async fn attack_in_pieces(lane: Lane, bytes: Vec<u8>, piece: usize) -> Victim {
    let mut end = End::new();
    let mut attacker = swarm(Attacker { lane, bytes: bytes.into(), piece });
    connect(&mut end.swarm, &mut attacker, QUIC).await;
    Victim { end, attacker }
}

impl Victim {
    async fn report(&mut self) -> Report {
        within(async {
            loop {
                tokio::select! {
                    report = self.end.inbox.next() => return report.unwrap(),
                    _ = self.end.swarm.select_next_some() => {}
                    _ = self.attacker.select_next_some() => {}
                }
            }
        })
        .await
    }

    async fn undecodable(&mut self) -> DecodeError {
        match self.report().await {
            Report::Undecodable { error, .. } => error,
            other => panic!("{other:?}"),
        }
    }

    async fn messages(&mut self) -> Vec<(u64, Message)> {
        match self.report().await {
            Report::Received { messages, .. } => messages,
            other => panic!("{other:?}"),
        }
    }

    async fn closed(&mut self) {
        within(async {
            loop {
                tokio::select! {
                    event = self.end.swarm.select_next_some() => {
                        if let SwarmEvent::ConnectionClosed { .. } = event { return }
                    }
                    _ = self.attacker.select_next_some() => {}
                }
            }
        })
        .await;
    }
}

/// Opens one substream and writes bytes to it.
struct Attacker {
    lane: Lane,
    bytes: Bytes,
    piece: usize,
}

struct AttackHandler {
    lane: Lane,
    bytes: Bytes,
    piece: usize,
    is_asked: bool,
    writing: Option<futures::future::BoxFuture<'static, Infallible>>,
}

impl NetworkBehaviour for Attacker {
    type ConnectionHandler = AttackHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: libp2p::PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<AttackHandler, ConnectionDenied> {
        unreachable!("attackers dial")
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: libp2p::PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<AttackHandler, ConnectionDenied> {
        Ok(AttackHandler {
            lane: self.lane,
            bytes: self.bytes.clone(),
            piece: self.piece,
            is_asked: false,
            writing: None,
        })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: libp2p::PeerId,
        _: ConnectionId,
        event: Infallible,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        Poll::Pending
    }
}

impl ConnectionHandler for AttackHandler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(StreamProtocol::new("/attack/1")), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Infallible>> {
        if !self.is_asked {
            self.is_asked = true;
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(self.lane.protocol()), ()),
            });
        }
        if let Some(writing) = &mut self.writing
            && let Poll::Ready(never) = writing.poll_unpin(cx)
        {
            match never {}
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        if let ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
            protocol: mut stream,
            ..
        }) = event
        {
            let (bytes, piece) = (self.bytes.clone(), self.piece);
            self.writing = Some(
                async move {
                    for piece in bytes.chunks(piece) {
                        // The victim may have heard enough by now.
                        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    // Kept open: its end would be one more thing to notice.
                    let _stream = stream;
                    std::future::pending().await
                }
                .boxed(),
            );
        }
    }
}
