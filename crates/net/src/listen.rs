//! Binding listen addresses, and saying in one line why that failed.
//!
//! Decides when a node listens: once every address is bound, not when it was asked for.

use std::io;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, TransportError};
use thiserror::Error;

use crate::address;
use crate::swarm::Behaviour;

/// How long all listen addresses together may take to be bound.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a node did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another program listens there.
    #[error("cannot listen on {0}: address already in use: choose another with --listen")]
    AddressInUse(Multiaddr),
    /// The system does not let this program listen there.
    #[error("cannot listen on {0}: permission denied: ports below 1024 are reserved")]
    PermissionDenied(Multiaddr),
    /// This machine does not have the address.
    #[error("cannot listen on {0}: this machine has no such address")]
    AddressNotAvailable(Multiaddr),
    /// The address is not one to listen on.
    #[error(
        "cannot listen on {0}: not /ip4/…/udp/…/quic-v1 or /ip4/…/tcp/… (or the same with ip6)"
    )]
    Unsupported(Multiaddr),
    /// The system refused for another reason.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: Multiaddr,
        /// What the system said.
        error: io::Error,
    },
    /// A peer to start from is not named in full.
    #[error("{0} is no bootstrap address: it must end in /p2p/<peer id>")]
    Bootstrap(Multiaddr),
    /// A transport could not be made.
    #[error("cannot set up the network: {0}")]
    Transport(String),
}

/// Binds `addresses` and waits until each is, because libp2p reports part of what can go wrong
/// later. Returns what they turned out to be.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
pub(crate) async fn listen(
    swarm: &mut Swarm<Behaviour>,
    addresses: &[Multiaddr],
) -> Result<Vec<Multiaddr>, StartError> {
    let mut waiting: Vec<(ListenerId, Multiaddr)> = Vec::new();
    // All of them before the first is bound, or the probe of [::] would find our own 0.0.0.0.
    for address in addresses {
        if !address::is_dialable(address) {
            return Err(StartError::Unsupported(address.clone()));
        }
        probe(address).map_err(|error| listen_error(address, error))?;
    }
    for address in addresses {
        let id = swarm.listen_on(address.clone()).map_err(|error| match error {
            TransportError::MultiaddrNotSupported(_) => StartError::Unsupported(address.clone()),
            TransportError::Other(error) => listen_error(address, error),
        })?;
        waiting.push((id, address.clone()));
    }
    let mut bound = Vec::new();
    let deadline = tokio::time::sleep(LISTEN_TIMEOUT);
    tokio::pin!(deadline);
    while let Some((_, first)) = waiting.first() {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            () = &mut deadline => {
                return Err(listen_error(first, io::ErrorKind::TimedOut.into()));
            }
        };
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                bound.push(address);
                waiting.retain(|(id, _)| *id != listener_id);
            }
            SwarmEvent::ListenerError { listener_id, error }
            | SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                if let Some((_, address)) = waiting.iter().find(|(id, _)| *id == listener_id) {
                    return Err(listen_error(address, error));
                }
            }
            // Nobody knows yet that this node listens.
            _ => {}
        }
    }
    // A wildcard stands for several addresses, which come one after the other.
    while let Some(SwarmEvent::NewListenAddr { address, .. }) =
        swarm.select_next_some().now_or_never()
    {
        bound.push(address);
    }
    Ok(bound)
}

/// Binds and unbinds an address: libp2p buries what the system says under layers that cannot be
/// seen through, and shares TCP ports with other programs that share theirs.
fn probe(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: std::net::IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) => std::net::TcpListener::bind((ip, port)).map(drop),
        Some(Protocol::Udp(port)) => std::net::UdpSocket::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

fn listen_error(address: &Multiaddr, error: io::Error) -> StartError {
    let address = address.clone();
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        StartError::AddressInUse(address)
    } else if kind == io::ErrorKind::PermissionDenied {
        StartError::PermissionDenied(address)
    } else if kind == io::ErrorKind::AddrNotAvailable {
        StartError::AddressNotAvailable(address)
    } else {
        StartError::Listen { address, error }
    }
}
