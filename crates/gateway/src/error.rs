//! Why there is no gateway.
//!
//! Decides the words. What comes of them, an exit code or another port, is left to the caller.

use std::io;
use std::net::SocketAddr;

/// Why a gateway cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// Somebody else listens there.
    #[error("cannot serve on {addr}: the port is taken: choose another with --http")]
    AddrInUse {
        /// Where it was to serve.
        addr: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot serve on {addr}: {source}")]
    Bind {
        /// Where it was to serve.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl GatewayError {
    pub(crate) fn bind(addr: SocketAddr, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            Self::AddrInUse { addr }
        } else {
            Self::Bind { addr, source }
        }
    }
}
