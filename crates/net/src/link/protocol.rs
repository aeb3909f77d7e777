//! The two protocols of the data plane and their negotiation.

use std::convert::Infallible;
use std::future::{Ready, ready};

use banyan_wire::frame::{MAX_CONTROL_FRAME, MAX_DATA_FRAME};
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade};
use libp2p::swarm::{Stream, StreamProtocol};

/// Which of the two substreams a message travels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Everything but media: in order, never dropped.
    Control,
    /// Headers and chunks: in order, dropped when late.
    Data,
}

impl Lane {
    pub(crate) const BOTH: [Self; 2] = [Self::Control, Self::Data];

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    pub(crate) const fn protocol(self) -> StreamProtocol {
        match self {
            Self::Control => StreamProtocol::new("/banyan/control/1"),
            Self::Data => StreamProtocol::new("/banyan/data/1"),
        }
    }

    pub(crate) const fn max_frame(self) -> usize {
        match self {
            Self::Control => MAX_CONTROL_FRAME,
            Self::Data => MAX_DATA_FRAME,
        }
    }

    /// Bytes of a fresh read buffer: control messages are small and few, and a peer at rest holds
    /// dozens of connections; chunks are slices of their buffer, so larger ones cost less.
    pub(crate) const fn read_buffer(self) -> usize {
        match self {
            Self::Control => 4 * 1024,
            Self::Data => 64 * 1024,
        }
    }
}

/// Accepts either lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accept;

impl UpgradeInfo for Accept {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        Lane::BOTH.map(Lane::protocol)
    }
}

impl InboundUpgrade<Stream> for Accept {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        let lane = if protocol == Lane::Data.protocol() { Lane::Data } else { Lane::Control };
        ready(Ok((lane, stream)))
    }
}

/// Opens one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open(pub(crate) Lane);

impl UpgradeInfo for Open {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 1];

    fn protocol_info(&self) -> Self::InfoIter {
        [self.0.protocol()]
    }
}

impl OutboundUpgrade<Stream> for Open {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}
