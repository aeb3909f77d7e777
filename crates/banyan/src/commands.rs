//! The commands, and what they share: making a node, printing addresses.

mod demo;
mod publish;
mod relay;
mod watch;

use std::path::Path;

use banyan_net::{
    Identity, Multiaddr, NodeConfig, NodeHandle, Protocol, load_or_create_seed, random_seed,
};

use crate::cli::{Command, Common};
use crate::error::{Failure, Outcome};

/// Runs a command to its end.
///
/// # Errors
/// [`Failure`]: one line for the user, and the exit code.
pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Demo(options) => demo::run(options).await,
        Command::Publish(options) => publish::run(options).await,
        Command::Watch(options) => watch::run(options).await,
        Command::Relay(options) => relay::run(options).await,
        Command::List(_) => Err(Failure::usage(
            "list is not in this version: a broadcast is watched by the URI that publish prints",
        )),
    }
}

/// Addresses a URI names at most.
const URI_ADDRESSES: usize = 6;

/// The node of a command.
fn node_config(common: &Common, is_dht_server: bool) -> Outcome<NodeConfig> {
    let seed = match (&common.identity, common.seed) {
        (Some(path), _) => load_or_create_seed(path)?,
        (None, Some(seed)) => seed_of(seed, 0),
        (None, None) => random_seed(),
    };
    let mut config = NodeConfig::new(Identity::from_seed(seed));
    config.listen = if common.listen.is_empty() {
        ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"].map(multiaddr).into()
    } else {
        common.listen.clone()
    };
    config.external.clone_from(&common.external);
    config.bootstrap.clone_from(&common.bootstrap);
    config.is_dht_server = is_dht_server;
    Ok(config)
}

/// Where a node can be reached, QUIC first: it is dialled in this order.
fn dialable(node: &NodeHandle) -> Vec<Multiaddr> {
    let mut addresses = node.listen_addresses();
    addresses.sort_by_key(|address| !address.iter().any(|part| part == Protocol::QuicV1));
    addresses
}

/// The key file's seed, or a new one.
fn key_seed(path: Option<&Path>, seed: Option<u64>) -> Outcome<[u8; 32]> {
    match (path, seed) {
        (Some(path), _) => Ok(load_or_create_seed(path)?),
        (None, Some(seed)) => Ok(seed_of(seed, 1)),
        (None, None) => Ok(random_seed()),
    }
}

/// A 32-byte seed from a small number, different for each purpose.
fn seed_of(seed: u64, purpose: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&purpose.to_be_bytes());
    bytes
}

fn multiaddr(text: &str) -> Multiaddr {
    text.parse().expect("a literal address of this program")
}

/// Reads the `via` addresses of a URI.
fn via(uri: &banyan_wire::BroadcastUri) -> Outcome<Vec<Multiaddr>> {
    uri.via
        .iter()
        .map(|via| {
            via.parse()
                .map_err(|_| Failure::usage(format!("the URI's via={via} is not a multiaddr")))
        })
        .collect()
}

/// Prints a line on stdout: the URI of a broadcast, an address of a relay, a row of a table.
#[expect(clippy::print_stdout, reason = "what a command is asked for goes to stdout")]
fn say(line: &str) {
    println!("{line}");
}
