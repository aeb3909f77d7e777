//! Nodes on this machine: starting, joining, finding, ending.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::future::Future;

use banyan_core::Config;
use banyan_wire::frame::Frame;
use banyan_wire::{
    BroadcastKey, Contact, GoodbyeReason, Manifest, Message, Overlay, Roles, StripeCount,
};
use bytes::Bytes;
use futures::StreamExt as _;
use libp2p::Swarm;
use libp2p::swarm::SwarmEvent;

use super::*;
use crate::link::{Inbox, Report};
use crate::swarm::Behaviour;

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";

// ---- Starting ---------------------------------------------------------------------------------

#[tokio::test]
async fn a_taken_port_is_a_start_error_that_says_what_to_do() {
    for transport in [QUIC, TCP] {
        let first = Node::start(config(transport)).await.unwrap();
        let mut taken = first.listen_addresses().remove(0);
        taken.pop();
        let error = Node::start(config(&taken.to_string())).await.unwrap_err();
        assert!(matches!(error, StartError::AddressInUse(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&taken.to_string()) && text.contains("--listen"), "{text}");
    }
}

#[tokio::test]
async fn an_address_this_node_cannot_use_is_a_start_error() {
    for address in ["/ip4/127.0.0.1/udp/0", "/ip4/127.0.0.1/tcp/0/ws", "/memory/1"] {
        let error = Node::start(config(address)).await.unwrap_err();
        assert!(matches!(error, StartError::Unsupported(_)), "{error:?}");
    }
    let error = Node::start(config("/ip4/192.0.2.1/tcp/0")).await.unwrap_err();
    assert!(matches!(error, StartError::AddressNotAvailable(_)), "{error:?}");
    let mut config = config(QUIC);
    config.bootstrap = vec![QUIC.parse().unwrap()];
    let error = Node::start(config).await.unwrap_err();
    assert!(matches!(error, StartError::Bootstrap(_)), "{error:?}");
}

#[tokio::test]
async fn listen_addresses_name_real_ports_interfaces_and_the_peer() {
    let node = Node::start(config("/ip4/0.0.0.0/udp/0/quic-v1")).await.unwrap();
    let addresses = node.listen_addresses();
    assert!(!addresses.is_empty());
    for full in addresses {
        let (peer, address) = address::split_peer(&full).unwrap();
        assert_eq!(peer, node.local_peer());
        assert!(address::is_specified(&address), "{address}");
        assert!(!address.to_string().contains("/udp/0/"), "{address}");
    }
}

#[tokio::test]
async fn peers_to_start_from_that_are_not_there_are_reported_once_all_have_failed() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let nobody = address::with_peer(address, &Identity::generate().peer());
    let node = Node::start(config(QUIC)).await.unwrap();
    let broadcast = BroadcastKey::from_seed(&[1; 32]).broadcast();
    let _membership = node.join(viewer(broadcast, vec![nobody.clone()])).await.unwrap();
    let event = within(node.next_event()).await.unwrap();
    let NodeEvent::BootstrapUnreachable { tried, error } = event;
    assert_eq!(tried, [nobody]);
    assert!(!error.is_empty());
}

#[tokio::test]
async fn a_broadcast_is_joined_once_and_only_with_full_addresses() {
    let node = Node::start(config(QUIC)).await.unwrap();
    let broadcast = BroadcastKey::from_seed(&[1; 32]).broadcast();
    let bare: Multiaddr = QUIC.parse().unwrap();
    let refused = node.join(viewer(broadcast, vec![bare.clone()])).await;
    assert_eq!(refused.unwrap_err(), JoinError::Via(bare));
    let first = node.join(viewer(broadcast, vec![])).await.unwrap();
    let again = node.join(viewer(broadcast, vec![])).await;
    assert_eq!(again.unwrap_err(), JoinError::AlreadyJoined);
    within(first.leave()).await;
    assert!(node.join(viewer(broadcast, vec![])).await.is_ok());
}

#[tokio::test]
async fn a_dropped_membership_is_forgotten() {
    let node = Node::start(config(QUIC)).await.unwrap();
    let broadcast = BroadcastKey::from_seed(&[1; 32]).broadcast();
    drop(node.join(viewer(broadcast, vec![])).await.unwrap());
    assert!(node.join(viewer(broadcast, vec![])).await.is_ok());
}

#[tokio::test]
async fn nothing_hangs_once_the_node_has_stopped() {
    let node = Node::start(config(QUIC)).await.unwrap();
    let broadcast = BroadcastKey::from_seed(&[1; 32]).broadcast();
    let mut membership = node.join(viewer(broadcast, vec![])).await.unwrap();
    within(node.shutdown()).await;
    assert_eq!(within(membership.next_event()).await, None);
    assert_eq!(within(membership.snapshot()).await.unwrap_err(), Stopped);
    assert_eq!(within(node.next_event()).await, None);
    within(membership.leave()).await;
    within(node.shutdown()).await;
}

// ---- Between nodes ----------------------------------------------------------------------------

#[tokio::test]
async fn a_hello_for_a_broadcast_of_others_is_answered_with_not_a_member() {
    let node = Node::start(config(QUIC)).await.unwrap();
    let broadcast = BroadcastKey::from_seed(&[1; 32]).broadcast();
    let mut stranger = Stranger::new();
    stranger.dial(&node).await;
    let contact = address::bare_contact(stranger.peer, &[]);
    let hello = Message::Hello { broadcast, contact, manifest_sequence: 0, is_reply: false };
    let find = Message::FindContacts { digits: Roles::NONE };
    // Only the hello is answered.
    stranger.send(&node, broadcast.tag(), &find);
    stranger.send(&node, broadcast.tag(), &hello);
    let goodbye = Message::Goodbye { reason: GoodbyeReason::NotAMember };
    assert_eq!(stranger.messages().await, [(broadcast.tag(), goodbye)]);
    assert_eq!(node.stats().stray_messages, 2);
}

#[tokio::test]
async fn a_viewer_finds_a_broadcast_through_a_node_that_is_no_member() {
    let key = BroadcastKey::from_seed(&[2; 32]);
    let relay = Node::start(server(QUIC)).await.unwrap();
    let via = relay.listen_addresses();

    let mut config = server(QUIC);
    config.bootstrap = via.clone();
    let source = Node::start(config).await.unwrap();
    let publisher = source.join(publisher(&key, vec![])).await.unwrap();
    publisher.set_manifest(manifest(&key, &source, 1)).await.unwrap();

    let viewer_node = Node::start(self::config(QUIC)).await.unwrap();
    let mut membership = viewer_node.join(viewer(key.broadcast(), via)).await.unwrap();
    let event = within(membership.next_event()).await.unwrap();
    let Event::Manifest(found) = event else { panic!("{event:?}") };
    assert_eq!(found, *manifest(&key, &source, 1).manifest());
}

#[tokio::test]
async fn what_the_source_publishes_a_viewer_plays_over_quic() {
    what_the_source_publishes_a_viewer_plays(QUIC).await;
}

#[tokio::test]
async fn what_the_source_publishes_a_viewer_plays_over_tcp() {
    what_the_source_publishes_a_viewer_plays(TCP).await;
}

async fn what_the_source_publishes_a_viewer_plays(transport: &str) {
    let key = BroadcastKey::from_seed(&[3; 32]);
    let source = Node::start(server(transport)).await.unwrap();
    let publisher = source.join(publisher(&key, vec![])).await.unwrap();
    publisher.set_manifest(manifest(&key, &source, 1)).await.unwrap();

    let node = Node::start(config(transport)).await.unwrap();
    let via = source.listen_addresses();
    let mut membership = node.join(viewer(key.broadcast(), via)).await.unwrap();
    let data = Bytes::from(vec![0x5a; 100_000]);
    let layers = vec![Layer { threshold: 13, data: data.clone() }];
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    within(async {
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    publisher.publish(layers.clone(), true).await.unwrap();
                }
                event = membership.next_event() => {
                    if let Event::Generation(playout) = event.unwrap() && playout.is_full() {
                        assert_eq!(playout.layers[0].as_ref(), Some(&data));
                        break;
                    }
                }
            }
        }
    })
    .await;
    let snapshot = membership.snapshot().await.unwrap();
    assert_eq!(snapshot.manifest.map(|manifest| manifest.sequence), Some(1));
    let (sent, received) = (source.stats(), node.stats());
    assert!(sent.media_bytes_sent > 100_000 && received.media_bytes_received > 100_000);
    assert!(sent.control_bytes_received > 0 && received.control_bytes_sent > 0);
    assert_eq!(received.undecodable_messages + sent.undecodable_messages, 0);
    within(membership.leave()).await;
    within(node.shutdown()).await;
    within(publisher.leave()).await;
}

#[tokio::test]
async fn a_peer_that_dies_without_a_word_is_noticed() {
    // In a runtime of its own, which ends as a killed process does: without a farewell.
    let victim = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let node = victim.spawn(Node::start(config(QUIC))).await.unwrap().unwrap();
    let mut survivor = Stranger::new();
    survivor.dial(&node).await;
    victim.shutdown_background();
    let mut survivor = survivor.swarm;
    within(async {
        loop {
            if let SwarmEvent::ConnectionClosed { num_established, .. } =
                survivor.select_next_some().await
            {
                assert_eq!(num_established, 0);
                break;
            }
        }
    })
    .await;
}

// ---- Helpers ----------------------------------------------------------------------------------

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes no 30 s")
}

fn config(listen: &str) -> NodeConfig {
    let mut config = NodeConfig::new(Identity::generate());
    config.listen = vec![listen.parse().unwrap()];
    config
}

fn server(listen: &str) -> NodeConfig {
    NodeConfig { is_dht_server: true, ..config(listen) }
}

fn viewer(broadcast: BroadcastId, via: Vec<Multiaddr>) -> JoinRequest {
    JoinRequest { broadcast, role: Role::Viewer, config: Config::default(), via, seed: None }
}

fn publisher(key: &BroadcastKey, via: Vec<Multiaddr>) -> JoinRequest {
    let config = Config { upload: 1_000_000_000, ..Config::default() };
    let role = Role::Source(key.clone());
    JoinRequest { broadcast: key.broadcast(), role, config, via, seed: None }
}

fn manifest(key: &BroadcastKey, source: &NodeHandle, sequence: u64) -> SignedManifest {
    let addresses: Vec<Multiaddr> = source
        .listen_addresses()
        .iter()
        .filter_map(|full| Some(address::split_peer(full)?.1))
        .collect();
    let contact = address::bare_contact(source.local_peer(), &addresses);
    let manifest = Manifest {
        broadcast: key.broadcast(),
        sequence,
        title: "a test".to_owned(),
        stripes: StripeCount::DEFAULT,
        overlay: Overlay::SplitStream,
        stripe_rate: 500_000,
        generation_millis: 100,
        tracks: Vec::new(),
        source: Contact { is_source: true, capacity: 1000, ..contact },
        created_at: 0,
        ended_at: None,
    };
    SignedManifest::sign(manifest, key).unwrap()
}

/// Somebody who speaks the protocol but runs no driver.
struct Stranger {
    swarm: Swarm<Behaviour>,
    inbox: Inbox,
    peer: PeerId,
}

impl Stranger {
    fn new() -> Self {
        let config = config(QUIC);
        let peer = config.identity.peer();
        let (swarm, inbox) = swarm::build(&config).unwrap();
        Self { swarm, inbox, peer }
    }

    async fn dial(&mut self, node: &NodeHandle) {
        self.swarm.dial(node.listen_addresses().remove(0)).unwrap();
        within(async {
            loop {
                if let SwarmEvent::ConnectionEstablished { .. } =
                    self.swarm.select_next_some().await
                {
                    break;
                }
            }
        })
        .await;
    }

    fn send(&mut self, node: &NodeHandle, tag: u64, message: &Message) {
        let frame = Frame::encode(tag, message);
        let link = &mut self.swarm.behaviour_mut().link;
        link.send(&node.local_peer(), Lane::Control, frame, None);
        link.flush();
    }

    async fn messages(&mut self) -> Vec<(u64, Message)> {
        within(async {
            loop {
                tokio::select! {
                    report = self.inbox.next() => {
                        if let Some(Report::Received { messages, .. }) = report {
                            return messages;
                        }
                    }
                    _ = self.swarm.select_next_some() => {}
                }
            }
        })
        .await
    }
}
