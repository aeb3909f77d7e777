//! Somebody who sends what the test likes: connections and substreams, and nothing that minds them.
//!
//! Decides nothing. Bytes are written as they are given; frames that come in are decoded, so that
//! a test can await the answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use banyan_net::Multiaddr;
use banyan_wire::frame::{Frame, MAX_DATA_FRAME, decode, split_frame};
use banyan_wire::{Message, PeerId};
use bytes::BytesMut;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, StreamExt as _};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, Stream, StreamProtocol, SubstreamProtocol, SwarmEvent, ToSwarm,
};
use libp2p::{SwarmBuilder, noise, tcp, yamux};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::within;

/// Which substream bytes go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Everything but media.
    Control,
    /// Headers and chunks.
    Data,
}

const PROTOCOLS: [StreamProtocol; 2] =
    [StreamProtocol::new("/banyan/control/1"), StreamProtocol::new("/banyan/data/1")];

/// What comes back.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A connection is up.
    Connected(PeerId),
    /// The last connection is gone.
    Closed(PeerId),
    /// A dial came to nothing, or was refused.
    Failed,
    /// A message, with the tag of its broadcast.
    Message(PeerId, u64, Box<Message>),
}

/// A handle to somebody who sends what he is told.
#[derive(Debug)]
pub struct Raw {
    /// His name.
    pub peer: PeerId,
    /// Where he listens, his name at the end.
    pub address: Multiaddr,
    commands: UnboundedSender<Command>,
    heard: UnboundedReceiver<Heard>,
}

#[derive(Debug)]
enum Command {
    Dial(Multiaddr),
    Send(PeerId, Lane, Vec<u8>),
}

impl Raw {
    /// Starts, with a name of his own.
    ///
    /// # Errors
    /// Where he cannot listen.
    pub async fn start() -> Result<Self> {
        let (sender, heard) = unbounded_channel();
        let behaviour = Behaviour { links: HashMap::new(), heard: sender.clone() };
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
            .with_quic()
            .with_behaviour(|_| behaviour)?
            .build();
        let local = *swarm.local_peer_id();
        let peer = name_of(&local).context("the key is Ed25519")?;
        swarm.listen_on(crate::QUIC.parse()?)?;
        let listening = async {
            loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                    return address;
                }
            }
        };
        let address =
            within("an address", listening).await.with(libp2p::multiaddr::Protocol::P2p(local));
        let (commands, mut commanded) = unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => {
                        let Some(said) = heard_of(event) else { continue };
                        if let Heard::Closed(peer) = &said {
                            swarm.behaviour_mut().links.remove(peer);
                        }
                        if sender.send(said).is_err() {
                            return;
                        }
                    }
                    command = commanded.recv() => match command {
                        Some(Command::Dial(address)) => {
                            if swarm.dial(address).is_err() {
                                drop(sender.send(Heard::Failed));
                            }
                        }
                        Some(Command::Send(peer, lane, bytes)) => {
                            if let Some(lanes) = swarm.behaviour().links.get(&peer) {
                                // The connection may be gone by now.
                                drop(lanes[lane as usize].send(bytes));
                            }
                        }
                        None => return,
                    },
                }
            }
        });
        Ok(Self { peer, address, commands, heard })
    }

    /// Dials; the answer is [`Heard::Connected`] or [`Heard::Failed`].
    pub fn dial(&self, address: &Multiaddr) {
        self.command(Command::Dial(address.clone()));
    }

    /// Sends a message as it should be sent.
    pub fn send(&self, to: PeerId, tag: u64, message: &Message) {
        let frame = Frame::encode(tag, message);
        let lane = if message.is_data() { Lane::Data } else { Lane::Control };
        self.send_bytes(to, lane, [frame.head, frame.payload].concat());
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&self, to: PeerId, lane: Lane, bytes: Vec<u8>) {
        self.command(Command::Send(to, lane, bytes));
    }

    /// Waits until he hears what `pick` takes; everything before it is dropped.
    ///
    /// # Panics
    /// If that does not come.
    pub async fn hears<T>(&mut self, what: &str, pick: impl Fn(Heard) -> Option<T>) -> T {
        let listening = async {
            loop {
                let heard = self.heard.recv().await.expect("he does not stop");
                if let Some(picked) = pick(heard) {
                    return picked;
                }
            }
        };
        within(what, listening).await
    }

    fn command(&self, command: Command) {
        assert!(self.commands.send(command).is_ok(), "he does not stop");
    }
}

fn name_of(peer: &libp2p::PeerId) -> Option<PeerId> {
    PeerId::from_libp2p_bytes(&peer.to_bytes()).ok()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
fn heard_of(event: SwarmEvent<Infallible>) -> Option<Heard> {
    match event {
        SwarmEvent::ConnectionEstablished { peer_id, .. } => {
            Some(Heard::Connected(name_of(&peer_id)?))
        }
        SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
            Some(Heard::Closed(name_of(&peer_id)?))
        }
        SwarmEvent::OutgoingConnectionError { .. } => Some(Heard::Failed),
        _ => None,
    }
}

// ---- The behaviour ----------------------------------------------------------------------------

type Lanes = [UnboundedSender<Vec<u8>>; 2];

struct Behaviour {
    links: HashMap<PeerId, Lanes>,
    heard: UnboundedSender<Heard>,
}

struct Handler {
    peer: PeerId,
    heard: UnboundedSender<Heard>,
    /// What is to be written, until its substream is open.
    waiting: [Option<UnboundedReceiver<Vec<u8>>>; 2],
    asked: usize,
    work: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// Either lane in, one lane out.
#[derive(Clone, Debug)]
struct Protocols(Vec<StreamProtocol>);

impl UpgradeInfo for Protocols {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl Behaviour {
    fn handler(&mut self, peer: &libp2p::PeerId) -> Result<Handler, ConnectionDenied> {
        let peer = name_of(peer)
            .ok_or_else(|| ConnectionDenied::new(std::io::Error::other("not Ed25519")))?;
        let (control, controls) = unbounded_channel();
        let (data, datas) = unbounded_channel();
        self.links.insert(peer, [control, data]);
        Ok(Handler {
            peer,
            heard: self.heard.clone(),
            waiting: [Some(controls), Some(datas)],
            asked: 0,
            work: FuturesUnordered::new(),
        })
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(&peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(&peer)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: libp2p::PeerId, _: ConnectionId, e: Infallible) {
        match e {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        Poll::Pending
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = usize;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(Protocols(PROTOCOLS.to_vec()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Protocols, usize, Infallible>> {
        if self.asked < PROTOCOLS.len() {
            let lane = self.asked;
            self.asked += 1;
            let protocol = Protocols(vec![PROTOCOLS[lane].clone()]);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(protocol, lane),
            });
        }
        while let Poll::Ready(Some(())) = self.work.poll_next_unpin(cx) {}
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocols, Protocols, (), usize>) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: lane,
            }) => {
                if let Some(bytes) = self.waiting[lane].take() {
                    self.work.push(write(stream, bytes).boxed());
                }
            }
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: stream,
                ..
            }) => self.work.push(read(stream, self.peer, self.heard.clone()).boxed()),
            _ => {}
        }
    }
}

/// Writes what there is to write. The substream stays open: its end would be one more thing to
/// notice.
async fn write(mut stream: Stream, mut bytes: UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = bytes.recv().await {
        // The other side may have heard enough by now.
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn read(mut stream: Stream, peer: PeerId, heard: UnboundedSender<Heard>) {
    let mut buffer = BytesMut::new();
    let mut piece = vec![0; 16 * 1024];
    while let Ok(length) = stream.read(&mut piece).await {
        if length == 0 {
            return;
        }
        buffer.extend_from_slice(&piece[..length]);
        while let Ok(Some(body)) = split_frame(&mut buffer, MAX_DATA_FRAME) {
            let Ok((tag, message)) = decode(body) else { continue };
            if heard.send(Heard::Message(peer, tag, Box::new(message))).is_err() {
                return;
            }
        }
    }
}
