//! The URI of a broadcast: `banyan:<broadcast id>?via=<multiaddr>&via=…`.
//!
//! Decides its text form. Whether an address can be dialled is left to `banyan-net`.

use std::fmt;
use std::str::FromStr;

use crate::{BroadcastId, DecodeError};

/// Most `via` addresses of a URI; more are ignored.
pub const MAX_VIA: usize = 16;

/// Names a broadcast and some peers to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroadcastUri {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// Multiaddrs, each ending in `/p2p/<peer id>`, as text.
    pub via: Vec<String>,
}

impl fmt::Display for BroadcastUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "banyan:{}", self.broadcast)?;
        for (index, via) in self.via.iter().enumerate() {
            write!(f, "{}via={via}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl FromStr for BroadcastUri {
    type Err = DecodeError;

    /// Reads a URI. Parameters other than `via` are ignored, so that later versions may add some.
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let rest = text
            .trim()
            .strip_prefix("banyan:")
            .ok_or(DecodeError::Uri("a broadcast URI begins with \"banyan:\""))?;
        let (id, query) = rest.split_once('?').unwrap_or((rest, ""));
        let broadcast = id.parse().map_err(|_| {
            DecodeError::Uri("a broadcast URI names its broadcast by 64 hexadecimal digits")
        })?;
        let via = query
            .split('&')
            .filter_map(|parameter| parameter.strip_prefix("via="))
            .filter(|via| !via.is_empty())
            .take(MAX_VIA)
            .map(str::to_owned)
            .collect();
        Ok(Self { broadcast, via })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_survives_a_round_trip_through_text() {
        let uri = BroadcastUri {
            broadcast: BroadcastId([0xab; 32]),
            via: vec!["/ip4/192.0.2.1/udp/4001/quic-v1".into(), "/dns/example.org/tcp/1".into()],
        };
        assert_eq!(uri.to_string().parse(), Ok(uri));
    }

    #[test]
    fn a_wrong_uri_is_refused_with_what_is_wrong() {
        let not_ours = "http://example.org".parse::<BroadcastUri>();
        assert!(not_ours.expect_err("refused").to_string().contains("banyan:"));
        let short = "banyan:abcd?via=/ip4/1.2.3.4".parse::<BroadcastUri>();
        assert!(short.expect_err("refused").to_string().contains("64 hexadecimal"));
        assert!("banyan:é".parse::<BroadcastUri>().is_err());
    }
}
