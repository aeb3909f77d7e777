//! Addresses: which are dialled, which are told to others, and their bytes and text.
//!
//! Decides nothing about whether an address works; that is found out by dialling it.

use banyan_wire::{Contact, MAX_ADDRESS, MAX_ADDRESSES, PeerId, Roles};
use bytes::Bytes;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::identity;

/// Splits `/…/p2p/<peer>` into the peer and the address that leads to it. `None` where the end is
/// missing, is not that of an Ed25519 peer, or nothing this node can dial stands before it.
pub(crate) fn split_peer(address: &Multiaddr) -> Option<(PeerId, Multiaddr)> {
    let mut address = address.clone();
    let Some(Protocol::P2p(peer)) = address.pop() else {
        return None;
    };
    let peer = identity::from_libp2p(&peer)?;
    is_dialable(&address).then_some((peer, address))
}

/// Appends `/p2p/<peer>`.
pub(crate) fn with_peer(address: Multiaddr, peer: &PeerId) -> Multiaddr {
    match identity::to_libp2p(peer) {
        Some(peer) => address.with(Protocol::P2p(peer)),
        None => address,
    }
}

/// The addresses of a contact that can be dialled. Bytes that are no multiaddr, transports this
/// node does not have and names of another peer are skipped.
pub(crate) fn of_contact(contact: &Contact) -> Vec<Multiaddr> {
    let addresses = contact.addresses.iter().take(MAX_ADDRESSES);
    addresses
        .filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok())
        .filter_map(|mut address| {
            if let Some(Protocol::P2p(peer)) = address.iter().last() {
                if identity::from_libp2p(&peer) != Some(contact.peer) {
                    return None;
                }
                address.pop();
            }
            is_dialable(&address).then_some(address)
        })
        .collect()
}

/// A contact of which nothing is known but where it is.
pub(crate) fn bare_contact(peer: PeerId, addresses: &[Multiaddr]) -> Contact {
    Contact {
        peer,
        roles: Roles::NONE,
        capacity: 0,
        addresses: to_bytes(addresses.iter()),
        is_source: false,
        class: 0,
        coordinate: None,
    }
}

/// The few of `addresses` that go into a contact: QUIC first, and those of this machine alone only
/// where there are no others.
pub(crate) fn for_contact(addresses: &[Multiaddr]) -> Vec<Bytes> {
    let mut chosen: Vec<&Multiaddr> = addresses.iter().filter(|a| is_dialable(a)).collect();
    if chosen.iter().any(|address| !is_loopback(address)) {
        chosen.retain(|address| !is_loopback(address));
    }
    chosen.sort_by_key(|address| !is_quic(address));
    to_bytes(chosen.into_iter())
}

/// Whether this node has the transport: DNS or IP, then QUIC or TCP, and nothing after it.
pub(crate) fn is_dialable(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let host = matches!(
        parts.next(),
        Some(
            Protocol::Ip4(_)
                | Protocol::Ip6(_)
                | Protocol::Dns(_)
                | Protocol::Dns4(_)
                | Protocol::Dns6(_)
        )
    );
    let transport = match parts.next() {
        Some(Protocol::Tcp(_)) => true,
        Some(Protocol::Udp(_)) => matches!(parts.next(), Some(Protocol::QuicV1)),
        _ => false,
    };
    host && transport && parts.next().is_none()
}

/// Whether the address is of no use to other machines.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// Whether the address is one that can be told to others at all.
pub(crate) fn is_specified(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified(),
        // Link-local addresses need the zone of the machine that uses them.
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
        _ => true,
    }
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::QuicV1))
}

fn to_bytes<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> Vec<Bytes> {
    addresses
        .map(|address| Bytes::from(address.to_vec()))
        .filter(|bytes| !bytes.is_empty() && bytes.len() <= MAX_ADDRESS)
        .take(MAX_ADDRESSES)
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_bootstrap_address_needs_a_peer_and_a_transport() {
        let peer = identity::Identity::generate().peer();
        let bare = address("/ip4/127.0.0.1/udp/4001/quic-v1");
        assert_eq!(split_peer(&bare), None);
        let full = with_peer(bare.clone(), &peer);
        assert_eq!(split_peer(&full), Some((peer, bare)));
        assert_eq!(split_peer(&with_peer(address("/ip4/127.0.0.1/udp/1"), &peer)), None);
        assert_eq!(split_peer(&with_peer(Multiaddr::empty(), &peer)), None);
    }

    #[test]
    fn a_contact_leads_to_no_other_peer_and_no_other_transport() {
        let peer = identity::Identity::generate().peer();
        let other = identity::Identity::generate().peer();
        let good = address("/dns/example.org/tcp/4001");
        let contact = Contact {
            addresses: vec![
                Bytes::from_static(b"not a multiaddr"),
                with_peer(address("/ip4/10.0.0.1/tcp/1"), &other).to_vec().into(),
                address("/ip4/10.0.0.1/tcp/1/ws").to_vec().into(),
                with_peer(good.clone(), &peer).to_vec().into(),
            ],
            ..bare_contact(peer, &[])
        };
        assert_eq!(of_contact(&contact), [good]);
    }

    #[test]
    fn others_are_told_reachable_addresses_and_quic_first() {
        let addresses = [
            address("/ip4/127.0.0.1/udp/1/quic-v1"),
            address("/ip4/192.0.2.1/tcp/1"),
            address("/ip4/192.0.2.1/udp/1/quic-v1"),
        ];
        let told = for_contact(&addresses);
        assert_eq!(told, [&addresses[2], &addresses[1]].map(|a| Bytes::from(a.to_vec())));
        assert_eq!(for_contact(&addresses[..1]).len(), 1);
    }
}
