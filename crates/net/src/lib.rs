//! The libp2p driver: runs `banyan_core::Peer` over real connections.
//!
//! ```text
//!   application ◀── events ───┐
//!       │ commands            │
//!       ▼                     │
//!   ┌ Driver, one task ───────┴──────────────────────────┐
//!   │  Peer, Peer …    one for each broadcast, sans-IO   │
//!   │  Directory       manifests and members, on kad     │
//!   │  Swarm           connections, identify, ping, kad  │
//!   └──────┬─────────────────────────────────▲───────────┘
//!          ▼ send queues                     │ inbox
//!     one task for each connection: frames in, frames out
//! ```
//!
//! The only crate that knows libp2p. It decides how bytes move and how peers find each other; whom
//! to talk to, and about what, is left to `banyan-core`. Every queue has a limit, named where the
//! queue is.
//!
//! No NAT traversal yet: a peer is reached at the addresses it listens on, or those it was told to
//! announce.

mod address;
mod bootstrap;
mod directory;
mod driver;
mod events;
mod host;
mod identity;
mod link;
mod listen;
mod member;
mod node;
mod swarm;

pub use identity::{Identity, IdentityError, load_or_create_seed, random_seed};
pub use libp2p::Multiaddr;
pub use libp2p::multiaddr::Protocol;
pub use link::LinkConfig;
pub use listen::StartError;
pub use node::{
    JoinError, JoinRequest, Membership, Node, NodeConfig, NodeEvent, NodeHandle, NodeStats,
    PublishError, Stopped,
};
