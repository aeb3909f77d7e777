//! The directory: what is stored, and what is found from a third node.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use banyan_wire::{BroadcastKey, Manifest, Overlay, StripeCount};

use futures::StreamExt as _;
use libp2p::Swarm;
use libp2p::swarm::SwarmEvent;

use super::*;
use crate::swarm::{self, Behaviour, BehaviourEvent};
use crate::{Identity, NodeConfig};

fn kad() -> Kademlia {
    kademlia(Identity::generate().keypair().public().to_peer_id(), kad::Mode::Server)
}

fn manifest(key: &BroadcastKey, sequence: u64) -> SignedManifest {
    let manifest = Manifest {
        broadcast: key.broadcast(),
        sequence,
        title: String::new(),
        stripes: StripeCount::DEFAULT,
        overlay: Overlay::SplitStream,
        stripe_rate: 0,
        generation_millis: 500,
        tracks: Vec::new(),
        source: address::bare_contact(Identity::generate().peer(), &[]),
        created_at: 0,
        ended_at: None,
    };
    SignedManifest::sign(manifest, key).unwrap()
}

fn put(kad: &mut Kademlia, key: RecordKey, value: Vec<u8>) {
    let source = Identity::generate().keypair().public().to_peer_id();
    let record = Record { publisher: Some(source), ..Record::new(key, value) };
    let connection = ConnectionId::new_unchecked(1);
    store(kad, InboundRequest::PutRecord { source, connection, record: Some(record) });
}

fn stored(kad: &mut Kademlia, broadcast: &BroadcastId) -> Option<u64> {
    let key = manifest_key(broadcast);
    let record = kad.store_mut().get(&key)?;
    Some(verified(&key, &record.value).unwrap().manifest().sequence)
}

#[test]
fn a_signed_manifest_is_stored_and_the_highest_version_counts() {
    let key = BroadcastKey::from_seed(&[1; 32]);
    let broadcast = key.broadcast();
    let mut kad = kad();
    for (sequence, expected) in [(2, 2), (1, 2), (2, 2), (5, 5)] {
        put(&mut kad, manifest_key(&broadcast), manifest(&key, sequence).to_record());
        assert_eq!(stored(&mut kad, &broadcast), Some(expected));
    }
    let record = kad.store_mut().get(&manifest_key(&broadcast)).unwrap().into_owned();
    assert_eq!(record.publisher, None);
    assert!(record.expires.unwrap() <= Instant::now() + RECORD_TTL);
}

#[test]
fn forged_and_foreign_records_are_refused() {
    let key = BroadcastKey::from_seed(&[1; 32]);
    let other = BroadcastKey::from_seed(&[2; 32]);
    let broadcast = key.broadcast();
    let mut kad = kad();
    let mut forged = manifest(&key, 1).to_record();
    *forged.last_mut().unwrap() ^= 1;
    put(&mut kad, manifest_key(&broadcast), forged);
    put(&mut kad, manifest_key(&broadcast), manifest(&other, 1).to_record());
    put(&mut kad, manifest_key(&broadcast), b"nonsense".to_vec());
    put(&mut kad, members_key(&broadcast), manifest(&key, 1).to_record());
    put(&mut kad, RecordKey::new(b"/elsewhere/"), manifest(&key, 1).to_record());
    assert_eq!(kad.store_mut().records().count(), 0);
}

#[test]
fn members_are_stored_with_addresses_that_lead_somewhere() {
    let broadcast = BroadcastKey::from_seed(&[1; 32]).broadcast();
    let provider = Identity::generate().keypair().public().to_peer_id();
    let mut kad = kad();
    let good: Multiaddr = "/ip4/192.0.2.1/udp/1/quic-v1".parse().unwrap();
    let mut addresses: Vec<Multiaddr> = vec!["/memory/7".parse().unwrap(); 100];
    addresses.extend(vec![good.clone(); 100]);
    for key in [members_key(&broadcast), manifest_key(&broadcast)] {
        let record = ProviderRecord::new(key, provider, addresses.clone());
        store(&mut kad, InboundRequest::AddProvider { record: Some(record) });
    }
    assert!(kad.store_mut().providers(&manifest_key(&broadcast)).is_empty());
    let providers = kad.store_mut().providers(&members_key(&broadcast));
    assert_eq!(providers.len(), 1);
    assert_eq!(providers[0].addresses, vec![good; MAX_ADDRESSES]);
}

// ---- Between three nodes ----------------------------------------------------------------------

#[tokio::test]
async fn a_third_node_finds_the_manifest_and_a_member_with_its_address() {
    let key = BroadcastKey::from_seed(&[1; 32]);
    let broadcast = key.broadcast();
    let mut relay = Node::new(true);
    let mut source = Node::new(true);
    let mut viewer = Node::new(false);
    let address = relay.listen().await;
    let source_address = source.listen().await;
    source.swarm.add_external_address(source_address.clone());
    source.swarm.dial(address.clone()).unwrap();
    viewer.swarm.dial(address).unwrap();

    let (mut is_published, mut is_provided) = (false, false);
    let (mut manifest_found, mut member_found) = (None, None);
    let mut is_publishing = false;
    let search = async {
        while manifest_found.is_none() || member_found.is_none() {
            let found = tokio::select! {
                found = relay.next() => found,
                found = source.next() => found,
                found = viewer.next() => found,
            };
            for found in found {
                match found {
                    Found::Published { is_stored, .. } => {
                        is_published = is_stored;
                        is_publishing = is_stored;
                    }
                    Found::Provided { .. } => is_provided = true,
                    Found::Manifest(manifest) => manifest_found = Some(manifest),
                    Found::Members { contacts, .. } => member_found = contacts.into_iter().next(),
                }
            }
            if !is_publishing && Directory::has_peers(source.kad()) {
                is_publishing = true;
                let Node { swarm, directory } = &mut source;
                let kad = &mut swarm.behaviour_mut().kad;
                directory.publish(kad, &manifest(&key, 3));
                directory.provide(kad, broadcast);
            }
            let is_ready = is_published && is_provided && Directory::has_peers(viewer.kad());
            // That it is provided says only that the relay was told: it may be asked too early.
            if is_ready && viewer.directory.queries.is_empty() {
                let Node { swarm, directory } = &mut viewer;
                directory.look_up(&mut swarm.behaviour_mut().kad, broadcast);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), search).await.expect("it takes no 30 s");
    assert_eq!(manifest_found.unwrap().manifest().sequence, 3);
    let member = member_found.unwrap();
    assert_eq!(identity::to_libp2p(&member.peer), Some(*source.swarm.local_peer_id()));
    assert_eq!(address::of_contact(&member), [source_address]);
}

struct Node {
    swarm: Swarm<Behaviour>,
    directory: Directory,
}

impl Node {
    fn new(is_dht_server: bool) -> Self {
        let config = NodeConfig { is_dht_server, ..NodeConfig::new(Identity::generate()) };
        let (swarm, _) = swarm::build(&config).unwrap();
        Self { swarm, directory: Directory::default() }
    }

    fn kad(&mut self) -> &mut Kademlia {
        &mut self.swarm.behaviour_mut().kad
    }

    async fn listen(&mut self) -> Multiaddr {
        self.swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = self.swarm.select_next_some().await {
                return address;
            }
        }
    }

    async fn next(&mut self) -> Vec<Found> {
        let event = self.swarm.select_next_some().await;
        let kad = &mut self.swarm.behaviour_mut().kad;
        if let SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) = event {
            return self.directory.on_event(kad, event);
        }
        if let SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
            peer_id,
            info,
            ..
        })) = event
        {
            Directory::on_identified(kad, peer_id, &info, true);
        }
        Vec::new()
    }
}
