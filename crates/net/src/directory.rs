//! The directory: signed manifests and members of broadcasts in a Kademlia of Banyan's own.
//!
//! | record | key | value |
//! |---|---|---|
//! | manifest | `/banyan/manifest/` + broadcast id | [`SignedManifest::to_record`] |
//! | members | `/banyan/members/` + broadcast id | provider records: up to 20 peers and where they are |
//!
//! The directory only *finds* a broadcast; nothing here is on the way of media. Every manifest is
//! verified before it is stored, and again when it is read. Peers that only watch take part as
//! clients: they ask and are listed as members, but answer nobody, which keeps the connections of a
//! large audience few.
//!
//! Decides what is stored and for how long, and who enters the routing table. When to publish and
//! to look up is left to the driver.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use banyan_wire::{BroadcastId, Contact, MAX_ADDRESSES, MAX_CONTACTS, SignedManifest};
use libp2p::core::Endpoint;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig, RecordStore as _};
use libp2p::kad::{
    self, BucketInserts, GetProvidersOk, GetRecordOk, InboundRequest, ProviderRecord, QueryId,
    QueryResult, Quorum, Record, RecordKey, StoreInserts,
};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ConnectionId, NetworkBehaviour as _, StreamProtocol};
use libp2p::{Multiaddr, PeerId, identify};

use crate::{address, identity};

const KAD_PROTOCOL: StreamProtocol = StreamProtocol::new("/banyan/kad/1");
const MANIFEST_PREFIX: &[u8] = b"/banyan/manifest/";
const MEMBERS_PREFIX: &[u8] = b"/banyan/members/";

/// How long records outlive the last word of their publisher.
const RECORD_TTL: Duration = Duration::from_secs(30 * 60);
/// Between two publications of a record that did not change: three may be lost.
const REFRESH_INTERVAL: Duration = Duration::from_secs(8 * 60);
/// A look-up that takes longer is of no use to somebody who waits for a picture.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest message: a manifest of 12 KiB beside 20 contacts.
const MAX_PACKET: usize = 32 * 1024;
/// Longest record, in bytes: a manifest and its signature.
const MAX_RECORD: usize = banyan_wire::MAX_MANIFEST + 64;
/// Broadcasts a node keeps records of. At the limit new ones are not stored.
const MAX_RECORDS: usize = 1024;
/// Verified copies of a manifest after which a look-up asks no further.
const ENOUGH_COPIES: usize = 3;
/// Queries under way. At the limit no more are started.
const MAX_QUERIES: usize = 64;
/// Entries of one bucket of the routing table, as libp2p-kad has it.
const BUCKET_SIZE: usize = 20;

type Kademlia = kad::Behaviour<MemoryStore>;

/// Makes the protocol of the directory.
pub(crate) fn kademlia(peer: PeerId, mode: kad::Mode) -> Kademlia {
    let mut config = kad::Config::new(KAD_PROTOCOL);
    config
        .set_query_timeout(QUERY_TIMEOUT)
        .set_record_ttl(Some(RECORD_TTL))
        .set_provider_record_ttl(Some(RECORD_TTL))
        .set_publication_interval(Some(REFRESH_INTERVAL))
        .set_provider_publication_interval(Some(REFRESH_INTERVAL))
        .set_replication_interval(None)
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_kbucket_inserts(BucketInserts::Manual)
        // The periodic bootstrap opens dozens of connections every time.
        .set_periodic_bootstrap_interval(None)
        .set_max_packet_size(MAX_PACKET);
    let store = MemoryStoreConfig {
        max_records: MAX_RECORDS,
        max_value_bytes: MAX_RECORD,
        max_providers_per_key: BUCKET_SIZE,
        max_provided_keys: MAX_RECORDS,
    };
    let store = MemoryStore::with_config(peer, store);
    let mut kad = Kademlia::with_config(peer, store, config);
    kad.set_mode(Some(mode));
    kad
}

/// What came of the queries.
#[derive(Debug)]
pub(crate) enum Found {
    /// A verified manifest; better ones may follow.
    Manifest(Box<SignedManifest>),
    /// Some members of a broadcast.
    Members { broadcast: BroadcastId, contacts: Vec<Contact> },
    /// A manifest was stored somewhere, or nowhere.
    Published { broadcast: BroadcastId, is_stored: bool },
    /// This node is listed as a member.
    Provided { broadcast: BroadcastId },
}

/// The queries under way.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    queries: Vec<(QueryId, Query)>,
}

#[derive(Debug)]
enum Query {
    Manifest { broadcast: BroadcastId, best: u64, copies: usize },
    Members { broadcast: BroadcastId, seen: BTreeSet<PeerId> },
    Publish { broadcast: BroadcastId },
    Provide { broadcast: BroadcastId },
}

impl Directory {
    /// Stores a manifest here and with the nodes closest to its key.
    pub(crate) fn publish(&mut self, kad: &mut Kademlia, manifest: &SignedManifest) {
        let broadcast = manifest.manifest().broadcast;
        let record = Record::new(manifest_key(&broadcast), manifest.to_record());
        match kad.put_record(record, Quorum::One) {
            Ok(id) => self.add(kad, id, Query::Publish { broadcast }),
            Err(error) => tracing::warn!(%error, "cannot store the manifest"),
        }
    }

    /// Lists this node as a member, from now on.
    pub(crate) fn provide(&mut self, kad: &mut Kademlia, broadcast: BroadcastId) {
        match kad.start_providing(members_key(&broadcast)) {
            Ok(id) => self.add(kad, id, Query::Provide { broadcast }),
            Err(error) => tracing::warn!(%error, "cannot list this node as a member"),
        }
    }

    /// Lets this node's records of a broadcast run out.
    pub(crate) fn withdraw(kad: &mut Kademlia, broadcast: &BroadcastId) {
        kad.stop_providing(&members_key(broadcast));
        kad.remove_record(&manifest_key(broadcast));
    }

    /// Asks for the manifest and for members of a broadcast, unless that is under way.
    pub(crate) fn look_up(&mut self, kad: &mut Kademlia, broadcast: BroadcastId) {
        let is_under_way = self.queries.iter().any(|(_, query)| {
            matches!(query, Query::Manifest { broadcast: other, .. }
                | Query::Members { broadcast: other, .. } if *other == broadcast)
        });
        if is_under_way {
            return;
        }
        let id = kad.get_record(manifest_key(&broadcast));
        self.add(kad, id, Query::Manifest { broadcast, best: 0, copies: 0 });
        let id = kad.get_providers(members_key(&broadcast));
        self.add(kad, id, Query::Members { broadcast, seen: BTreeSet::new() });
    }

    /// Whether anybody is there to ask.
    pub(crate) fn has_peers(kad: &mut Kademlia) -> bool {
        kad.kbuckets().any(|bucket| bucket.num_entries() > 0)
    }

    /// Takes a node that has said what it speaks into the routing table, if it is of the directory
    /// and there is room. Returns whether it was.
    pub(crate) fn on_identified(
        kad: &mut Kademlia,
        peer: PeerId,
        info: &identify::Info,
        is_local: bool,
    ) -> bool {
        if !info.protocols.contains(&KAD_PROTOCOL) {
            kad.remove_peer(&peer);
            return false;
        }
        let known = {
            let Some(bucket) = kad.kbucket(peer) else { return false };
            let entry = bucket.iter().find(|entry| *entry.node.key.preimage() == peer);
            // Inserting into a full bucket would make libp2p-kad dial its oldest entry.
            if entry.is_none() && bucket.num_entries() >= BUCKET_SIZE {
                return false;
            }
            entry.map_or(0, |entry| entry.node.value.len())
        };
        let usable = info.listen_addrs.iter().filter_map(without_peer).filter(|address| {
            address::is_specified(address) && (is_local || !address::is_loopback(address))
        });
        let mut is_inserted = known > 0;
        for address in usable.take(MAX_ADDRESSES.saturating_sub(known)) {
            is_inserted |= kad.add_address(&peer, address) == kad::RoutingUpdate::Success;
        }
        is_inserted
    }

    /// Handles what the protocol says.
    pub(crate) fn on_event(&mut self, kad: &mut Kademlia, event: kad::Event) -> Vec<Found> {
        match event {
            kad::Event::InboundRequest { request } => {
                store(kad, request);
                Vec::new()
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                let Some(index) = self.queries.iter().position(|(other, _)| *other == id) else {
                    return Vec::new();
                };
                let found = self.queries[index].1.on_progress(kad, id, result);
                if step.last {
                    self.queries.swap_remove(index);
                }
                found.into_iter().collect()
            }
            kad::Event::RoutingUpdated { .. }
            | kad::Event::UnroutablePeer { .. }
            | kad::Event::RoutablePeer { .. }
            | kad::Event::PendingRoutablePeer { .. }
            | kad::Event::ModeChanged { .. } => Vec::new(),
        }
    }

    fn add(&mut self, kad: &mut Kademlia, id: QueryId, query: Query) {
        if self.queries.len() >= MAX_QUERIES {
            self.queries.retain(|(id, _)| kad.query(id).is_some());
        }
        if self.queries.len() >= MAX_QUERIES {
            if let Some(mut query) = kad.query_mut(&id) {
                query.finish();
            }
            return;
        }
        self.queries.push((id, query));
    }
}

impl Query {
    fn on_progress(
        &mut self,
        kad: &mut Kademlia,
        id: QueryId,
        result: QueryResult,
    ) -> Option<Found> {
        match (self, result) {
            (
                Self::Manifest { broadcast, best, copies },
                QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))),
            ) => {
                let manifest = verified(&found.record.key, &found.record.value)
                    .filter(|manifest| manifest.manifest().broadcast == *broadcast)?;
                *copies += 1;
                if *copies >= ENOUGH_COPIES
                    && let Some(mut query) = kad.query_mut(&id)
                {
                    query.finish();
                }
                let sequence = manifest.manifest().sequence;
                (*copies == 1 || sequence > *best).then(|| {
                    *best = sequence;
                    Found::Manifest(Box::new(manifest))
                })
            }
            (
                Self::Members { broadcast, seen },
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { key, providers })),
            ) => {
                // In order, so that the limit does not depend on the order of a hash table.
                let fresh = providers.into_iter().filter(|peer| !seen.contains(peer));
                let fresh: BTreeSet<PeerId> = fresh.collect();
                let mut contacts = Vec::new();
                for peer in fresh {
                    if seen.len() >= MAX_CONTACTS {
                        break;
                    }
                    seen.insert(peer);
                    contacts.extend(member(kad, &key, peer));
                }
                (!contacts.is_empty()).then_some(Found::Members { broadcast: *broadcast, contacts })
            }
            (Self::Publish { broadcast }, QueryResult::PutRecord(result)) => {
                Some(Found::Published { broadcast: *broadcast, is_stored: result.is_ok() })
            }
            (Self::Provide { broadcast }, QueryResult::StartProviding(Ok(_))) => {
                Some(Found::Provided { broadcast: *broadcast })
            }
            _ => None,
        }
    }
}

/// Where a member is, as far as the answers to the query under way tell.
fn member(kad: &mut Kademlia, key: &RecordKey, peer: PeerId) -> Option<Contact> {
    let name = identity::from_libp2p(&peer)?;
    let stored = kad.store_mut().providers(key);
    let mut addresses: Vec<Multiaddr> = stored
        .into_iter()
        .filter(|record| record.provider == peer)
        .flat_map(|record| record.addresses)
        .collect();
    // The one door through which libp2p-kad shows the addresses that came with an answer: it thinks
    // it is asked for the sake of a dial. It changes nothing.
    let nobody = ConnectionId::new_unchecked(0);
    let told = kad.handle_pending_outbound_connection(nobody, Some(peer), &[], Endpoint::Dialer);
    addresses.extend(told.unwrap_or_default());
    let mut addresses: Vec<Multiaddr> = addresses.iter().filter_map(without_peer).collect();
    addresses.dedup();
    Some(address::bare_contact(name, &addresses))
}

/// Keeps what others store here, if it is valid.
fn store(kad: &mut Kademlia, request: InboundRequest) {
    let now = Instant::now();
    match request {
        InboundRequest::PutRecord { record: Some(mut record), source, .. } => {
            let Some(manifest) = verified(&record.key, &record.value) else {
                tracing::debug!(%source, "refused a forged or foreign record");
                return;
            };
            let stored = kad.store_mut().get(&record.key).map(|stored| stored.into_owned());
            let stored = stored.and_then(|stored| verified(&stored.key, &stored.value));
            let is_older = stored
                .is_some_and(|stored| stored.manifest().sequence > manifest.manifest().sequence);
            if is_older {
                return;
            }
            record.publisher = None;
            record.expires = Some(
                record.expires.map_or(now + RECORD_TTL, |expires| expires.min(now + RECORD_TTL)),
            );
            if let Err(error) = kad.store_mut().put(record) {
                tracing::debug!(%error, "the record store is full");
            }
        }
        InboundRequest::AddProvider { record: Some(record) } => {
            if suffix(&record.key, MEMBERS_PREFIX).is_none() {
                tracing::debug!(provider = %record.provider, "refused a foreign provider record");
                return;
            }
            let usable = record.addresses.iter().filter_map(without_peer);
            let record = ProviderRecord {
                addresses: usable.take(MAX_ADDRESSES).collect(),
                expires: Some(now + RECORD_TTL),
                ..record
            };
            if let Err(error) = kad.store_mut().add_provider(record) {
                tracing::debug!(%error, "the provider store is full");
            }
        }
        InboundRequest::FindNode { .. }
        | InboundRequest::GetProvider { .. }
        | InboundRequest::AddProvider { record: None }
        | InboundRequest::GetRecord { .. }
        | InboundRequest::PutRecord { record: None, .. } => {}
    }
}

/// The manifest of a record, if it is its broadcast's own.
fn verified(key: &RecordKey, value: &[u8]) -> Option<SignedManifest> {
    let broadcast = suffix(key, MANIFEST_PREFIX)?;
    let manifest = SignedManifest::from_record(value).ok()?;
    (manifest.manifest().broadcast == broadcast).then_some(manifest)
}

fn manifest_key(broadcast: &BroadcastId) -> RecordKey {
    RecordKey::new(&[MANIFEST_PREFIX, &broadcast.0].concat())
}

fn members_key(broadcast: &BroadcastId) -> RecordKey {
    RecordKey::new(&[MEMBERS_PREFIX, &broadcast.0].concat())
}

fn suffix(key: &RecordKey, prefix: &[u8]) -> Option<BroadcastId> {
    let id = key.as_ref().strip_prefix(prefix)?;
    Some(BroadcastId(id.try_into().ok()?))
}

/// The address without the peer it leads to; `None` if this node has no such transport.
fn without_peer(address: &Multiaddr) -> Option<Multiaddr> {
    let mut address = address.clone();
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address::is_dialable(&address).then_some(address)
}

#[cfg(test)]
mod tests;
