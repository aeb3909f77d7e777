//! MPEG transport streams (ISO/IEC 13818-1): in, out, and at which pace.

pub(crate) mod demux;
pub(crate) mod mux;
pub(crate) mod pacer;
pub(crate) mod packets;
pub(crate) mod psi;
pub(crate) mod stream;

/// Bytes of a transport packet.
pub const PACKET_LEN: usize = 188;

/// The byte every packet starts with.
pub(crate) const SYNC: u8 = 0x47;
