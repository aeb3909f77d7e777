//! Datagrams that carry a transport stream, plain or in RTP, to one address or to a group.
//!
//! Decides who the encoder is where nobody connects: whoever sends a transport stream first, until
//! it has been silent for a while. Also binds the sockets of SRT.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use banyan_media::{Container, PACKET_LEN, sniff};
use bytes::{Bytes, BytesMut};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::error::{Failure, Outcome};
use crate::input::cutter::Format;
use crate::input::live::{READ, cannot_listen};
use crate::input::options::Udp;
use crate::input::session::{BUSY, Door, Over, Session};
use crate::input::{Item, Reading};

/// Silence after which another sender may take the encoder's place. Encoders send every frame of
/// sound, and one that was started again should not have to wait.
const SILENCE: Duration = Duration::from_millis(250);

/// Bytes that are held of a sender that waits for the place: a second and more at 8 Mbit/s. At the limit
/// it is refused, and what was held of it is dropped.
const MAX_WAITING: usize = 1 << 20;

/// What a datagram takes beside its bytes, roughly: short ones count as well.
const DATAGRAM: usize = 64;

/// What the system is asked to hold of datagrams that have not been read: four seconds at 8 Mbit/s,
/// key pictures come in bursts. The system may give less.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Receives datagrams, from one sender at a time.
pub(super) async fn udp(udp: &Udp, reading: Reading, items: mpsc::Sender<Item>) -> Outcome {
    let socket = bind("udp", &udp.address, udp.interface).await?;
    let door = Door::open(reading, items);
    tokio::spawn(async move {
        let mut receiver = Receiver { door: door.clone(), sender: None, waiting: None };
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ);
            let silence = silent_until(receiver.take_over_at());
            tokio::select! {
                // Silence is what is left when nothing has arrived.
                biased;
                () = door.closed() => return,
                () = receiver.cut_off() => receiver.end().await,
                received = socket.recv_buf_from(&mut buffer) => match received {
                    Ok((_, from)) => {
                        let datagram = buffer.split().freeze();
                        if receiver.on_datagram(Instant::now(), from, datagram).await.is_err() {
                            return;
                        }
                    }
                    // Such as "port unreachable" for something sent earlier; the next may arrive.
                    Err(error) => tracing::debug!(%error, "a datagram could not be received"),
                },
                () = silence => if receiver.take_over(Instant::now()).await.is_err() {
                    return;
                },
            }
        }
    });
    Ok(())
}

async fn silent_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Receiver {
    door: Door,
    sender: Option<Sender>,
    /// Who comes next, if the sender is silent.
    waiting: Option<Waiting>,
}

struct Sender {
    from: SocketAddr,
    last: Instant,
    session: Session,
}

/// A sender that may be the same encoder, started again: what it sends first is worth keeping.
struct Waiting {
    from: SocketAddr,
    datagrams: Vec<Bytes>,
    bytes: usize,
}

impl Receiver {
    async fn on_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: Bytes,
    ) -> Result<(), Over> {
        let payload = unwrap_rtp(datagram);
        if let Some(sender) = self.sender.as_mut().filter(|sender| sender.from == from) {
            sender.last = now;
            if let Some(waiting) = self.waiting.take() {
                self.door.refuse(name(waiting.from), BUSY);
            }
            return sender.session.send(payload).await;
        }
        self.hold(from, payload);
        if self.sender.as_ref().is_none_or(|sender| now - sender.last >= SILENCE) {
            self.take_over(now).await?;
        }
        Ok(())
    }

    /// Keeps what somebody sends who has not got the place.
    fn hold(&mut self, from: SocketAddr, payload: Bytes) {
        match &mut self.waiting {
            Some(waiting) if waiting.from != from => self.door.refuse(name(from), BUSY),
            Some(waiting) if waiting.bytes + payload.len() + DATAGRAM > MAX_WAITING => {
                self.waiting = None;
                self.door.refuse(name(from), BUSY);
            }
            Some(waiting) => {
                waiting.bytes += payload.len() + DATAGRAM;
                waiting.datagrams.push(payload);
            }
            None if begins_stream(&payload) => {
                let bytes = payload.len();
                self.waiting = Some(Waiting { from, datagrams: vec![payload], bytes });
            }
            None => self.door.refuse(name(from), "what it sends is no MPEG transport stream"),
        }
    }

    /// When the sender will have been silent for so long that whoever waits may take its place.
    fn take_over_at(&self) -> Option<Instant> {
        let sender = self.sender.as_ref().filter(|_| self.waiting.is_some())?;
        Some(sender.last + SILENCE)
    }

    /// Gives the place to who waits for it.
    async fn take_over(&mut self, now: Instant) -> Result<(), Over> {
        let Some(waiting) = self.waiting.take() else { return Ok(()) };
        self.end().await;
        if let Some(mut session) = self.door.enter(name(waiting.from), Format::Ts).await {
            for datagram in waiting.datagrams {
                session.send(datagram).await?;
            }
            self.sender = Some(Sender { from: waiting.from, last: now, session });
        }
        Ok(())
    }

    /// Returns once the sender is not to be listened to any more.
    async fn cut_off(&mut self) {
        match &mut self.sender {
            Some(sender) => sender.session.cut_off().await,
            None => std::future::pending().await,
        }
    }

    async fn end(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.session.end().await;
        }
    }
}

fn name(from: SocketAddr) -> String {
    format!("the sender at {from}")
}

/// Whether a datagram holds at least one packet, or parts of two that are cut as packets are.
fn begins_stream(payload: &[u8]) -> bool {
    payload.len() >= PACKET_LEN && sniff(payload) == Container::MpegTs
}

/// The transport packets of an RTP packet (RFC 3550, 5.1; RFC 2250), or the datagram as it is.
///
/// A transport packet begins with 0x47, which is no version of RTP, so the two cannot be mixed up.
fn unwrap_rtp(datagram: Bytes) -> Bytes {
    const MPEG_TS: u8 = 33;
    const FIXED_LEN: usize = 12;
    let Some([first, second]) = datagram.first_chunk().copied() else { return datagram };
    if first >> 6 != 2 || second & 0x7f != MPEG_TS {
        return datagram;
    }
    let mut start = FIXED_LEN + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        // An extension: two bytes of no interest, its length in words, and so many words.
        let Some([_, _, high, low]) = datagram.get(start..).and_then(<[u8]>::first_chunk).copied()
        else {
            return Bytes::new();
        };
        start += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    }
    let padding = if first & 0x20 == 0 { 0 } else { datagram.last().copied().unwrap_or(0) };
    let end = datagram.len().saturating_sub(usize::from(padding));
    if start <= end { datagram.slice(start..end) } else { Bytes::new() }
}

/// Binds a socket that can take a burst, and joins the group if the address is one.
pub(super) async fn bind(
    scheme: &str,
    address: &str,
    interface: Option<IpAddr>,
) -> Outcome<UdpSocket> {
    let mut found =
        lookup_host(address).await.map_err(|error| cannot_listen(scheme, address, &error))?;
    let resolved = found.next().ok_or_else(|| {
        Failure::failed(format!("cannot listen on {scheme}://{address}: no such host"))
    })?;
    socket(resolved, interface).map_err(|error| cannot_listen(scheme, address, &error))
}

fn socket(address: SocketAddr, interface: Option<IpAddr>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        tracing::debug!(%error, "the receive buffer stays as it is");
    }
    let group = address.ip().is_multicast().then(|| address.ip());
    if group.is_some() {
        // Several programs may listen to a group.
        socket.set_reuse_address(true)?;
    }
    // Bound to the group, a socket gets nothing else that comes to the port; not all systems can.
    let local = match group {
        Some(IpAddr::V4(_)) if cfg!(windows) => (Ipv4Addr::UNSPECIFIED, address.port()).into(),
        _ => address,
    };
    socket.bind(&local.into())?;
    match (group, interface) {
        (Some(IpAddr::V4(group)), Some(IpAddr::V4(interface))) => {
            socket.join_multicast_v4(&group, &interface)?;
        }
        (Some(IpAddr::V4(group)), None) => {
            socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
        }
        // IPv6 names interfaces by number: udp://[ff02::1%2]:5000.
        (Some(IpAddr::V6(group)), None) => {
            let scope = if let SocketAddr::V6(address) = address { address.scope_id() } else { 0 };
            socket.join_multicast_v6(&group, scope)?;
        }
        (Some(_), Some(_)) => {
            return Err(io::Error::other(
                "localaddr must be an IPv4 address, and so must the group",
            ));
        }
        (None, _) => {}
    }
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtp_is_taken_off_and_nothing_else() {
        let packet = [&[0x47][..], &[0; 187]].concat();
        let fixed = [0x80, 33, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        let rtp =
            |head: &[u8], tail: &[u8]| unwrap_rtp([head, packet.as_slice(), tail].concat().into());
        assert_eq!(rtp(&fixed, &[]), packet);
        assert_eq!(rtp(&[], &[]), packet, "a plain datagram");
        // One contributing source, an extension of one word, three bytes of padding.
        let mut head = fixed.to_vec();
        head[0] = 0xb1;
        head.extend([0, 0, 0, 9, 0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
        assert_eq!(rtp(&head, &[0, 0, 3]), packet);
        // Another payload type is no transport stream.
        let mut other = fixed;
        other[1] = 96;
        assert_eq!(rtp(&other, &[]).len(), 12 + 188);
    }

    #[test]
    fn rtp_that_lies_about_its_length_is_empty() {
        for bytes in [&[0x8f, 33, 0][..], &[0xa0, 33, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200]] {
            assert!(unwrap_rtp(Bytes::copy_from_slice(bytes)).is_empty());
        }
        let mut extended = [0; 16];
        (extended[0], extended[1], extended[14], extended[15]) = (0x90, 33, 0xff, 0xff);
        assert!(unwrap_rtp(Bytes::copy_from_slice(&extended)).is_empty());
    }
}
