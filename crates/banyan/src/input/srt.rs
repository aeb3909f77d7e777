//! SRT (draft-sharabayko-srt): a listener that takes one caller at a time.
//!
//! Decides who may call, and what is said of those who may not: encoders show a refusal badly, some
//! as "connecting" for ever. The protocol itself is sapflow-srt's, without a socket; this file is
//! the only one that names it.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use sapflow_srt::crypto::{CryptoConfig, KeySize};
use sapflow_srt::packet::{Control, ControlPacket, Extension, HandshakeKind, Packet};
use sapflow_srt::{Config, ConnId, Event, Listener, RejectCode};
use subtle::ConstantTimeEq as _;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::error::{Failure, Outcome};
use crate::input::cutter::Format;
use crate::input::options::Srt;
use crate::input::session::{BUSY, Door, Over, Session};
use crate::input::udp;
use crate::input::{Item, Reading};

/// Longest datagram of SRT.
const MAX_DATAGRAM: usize = 1500;
/// Datagrams that are taken before what they brought is handed on.
const BURST: usize = 64;
/// Callers at once: one that is served, and some that are being told why they are not.
const MAX_CALLERS: usize = 16;

/// Codes of refusals that libsrt calls SRT_REJX_FORBIDDEN and SRT_REJX_CONFLICT.
const FORBIDDEN: RejectCode = RejectCode(1403);
const CONFLICT: RejectCode = RejectCode(1409);

/// Listens for callers.
pub(super) async fn srt(srt: &Srt, reading: Reading, items: mpsc::Sender<Item>) -> Outcome {
    let crypto = crypto(srt, key_size(srt.key_len))?;
    let socket = udp::bind("srt", &srt.address, None).await?;
    let config = Config {
        latency: srt.latency,
        max_connections: MAX_CALLERS,
        require_encryption: crypto.is_some(),
        crypto,
        ..Config::default()
    };
    let door = Door::open(reading, items);
    let server = Server {
        options: srt.clone(),
        listener: Listener::new(config, std::time::Instant::now()),
        door,
        caller: None,
        wished_key: None,
        data: BytesMut::new(),
    };
    tokio::spawn(server.run(socket));
    Ok(())
}

struct Server {
    options: Srt,
    listener: Listener,
    door: Door,
    caller: Option<Caller>,
    /// Key length of the caller that is being answered.
    wished_key: Option<KeySize>,
    /// What the caller sent since it was last handed on.
    data: BytesMut,
}

struct Caller {
    id: ConnId,
    session: Session,
}

/// Why the server does something.
enum Wake {
    Readable(io::Result<()>),
    Due,
    CutOff,
    Over,
}

impl Server {
    async fn run(mut self, socket: UdpSocket) {
        loop {
            let wake = self.wait(&socket).await;
            match wake {
                Wake::Readable(Ok(())) => self.receive(&socket),
                Wake::Readable(Err(error)) => tracing::debug!(%error, "the socket has an error"),
                Wake::Due => {}
                Wake::CutOff => self.hang_up().await,
                Wake::Over => return,
            }
            self.listener.handle_timeout(std::time::Instant::now());
            if self.handle_events().await.is_err() {
                return;
            }
            self.transmit(&socket).await;
        }
    }

    async fn wait(&mut self, socket: &UdpSocket) -> Wake {
        let due = self.listener.poll_timeout();
        let timeout = async {
            match due {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let cut_off = async {
            match &mut self.caller {
                Some(caller) => caller.session.cut_off().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = socket.readable() => Wake::Readable(ready),
            () = timeout => Wake::Due,
            () = cut_off => Wake::CutOff,
            () = self.door.closed() => Wake::Over,
        }
    }

    /// Takes what has arrived.
    fn receive(&mut self, socket: &UdpSocket) {
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..BURST {
            let Ok((length, from)) = socket.try_recv_from(&mut buffer) else { return };
            let datagram = &buffer[..length];
            if let Some(wished) = wished_key(datagram) {
                self.wished_key = Some(wished);
            }
            self.listener.handle_datagram(std::time::Instant::now(), from, datagram);
            // Whoever wants to connect is answered before the next datagram, which may be another's.
            if self.wished_key.is_some() {
                return;
            }
        }
    }

    async fn handle_events(&mut self) -> Result<(), Over> {
        while let Some(event) = self.listener.poll_event() {
            match event {
                Event::Connect { id, peer, stream_id } => {
                    self.on_connect(id, peer, &stream_id).await;
                }
                Event::Data { id, payload } => {
                    if self.is_caller(id) {
                        self.data.extend_from_slice(&payload);
                    }
                }
                Event::Closed { id, stats, .. } => {
                    if self.is_caller(id) {
                        self.hand_on().await?;
                        tracing::info!(
                            lost = stats.lost,
                            dropped = stats.dropped,
                            retransmitted = stats.retransmitted,
                            "the caller has hung up"
                        );
                        self.hang_up().await;
                    }
                }
            }
        }
        self.wished_key = None;
        self.hand_on().await
    }

    async fn on_connect(&mut self, id: ConnId, peer: SocketAddr, stream_id: &[u8]) {
        let is_ours = self
            .options
            .stream_id
            .as_ref()
            .is_none_or(|ours| bool::from(ours.bytes().ct_eq(stream_id)));
        if !is_ours || self.door.is_busy() {
            self.listener.reject(id, if is_ours { CONFLICT } else { FORBIDDEN });
            return;
        }
        // As with libsrt, the caller decides how long the key is.
        let size = self.wished_key.unwrap_or_else(|| key_size(self.options.key_len));
        let Ok(crypto) = crypto(&self.options, size) else { return };
        if !self.listener.accept_with_crypto(id, std::time::Instant::now(), crypto) {
            return;
        }
        match self.door.enter(format!("the SRT caller at {peer}"), Format::Any).await {
            Some(session) => self.caller = Some(Caller { id, session }),
            None => self.listener.close(id, std::time::Instant::now()),
        }
    }

    fn is_caller(&self, id: ConnId) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.id == id)
    }

    /// Hands on what the caller sent.
    async fn hand_on(&mut self) -> Result<(), Over> {
        let data = self.data.split().freeze();
        match &mut self.caller {
            Some(caller) if !data.is_empty() => caller.session.send(data).await,
            _ => Ok(()),
        }
    }

    /// Ends the call, from whichever side.
    async fn hang_up(&mut self) {
        if let Some(Caller { id, session }) = self.caller.take() {
            self.listener.close(id, std::time::Instant::now());
            session.end().await;
        }
    }

    async fn transmit(&mut self, socket: &UdpSocket) {
        while let Some((to, datagram)) = self.listener.poll_transmit() {
            // All refusals pass here, also those that the protocol knows by itself.
            if let Some(code) = refusal(&datagram) {
                let reason = explain(code, self.options.passphrase.is_some());
                self.door.refuse(format_args!("the SRT caller at {to}"), reason);
            }
            // What is lost is asked for, or sent, again.
            if let Err(error) = socket.send_to(&datagram, to).await {
                tracing::debug!(%error, %to, "a datagram could not be sent");
            }
        }
    }
}

fn key_size(len: u8) -> KeySize {
    if len == 32 { KeySize::Aes256 } else { KeySize::Aes128 }
}

fn crypto(options: &Srt, size: KeySize) -> Outcome<Option<CryptoConfig>> {
    let passphrase = options.passphrase.as_ref().map(|passphrase| passphrase.bytes().to_vec());
    let config = passphrase.map(|passphrase| CryptoConfig::new(passphrase, size)).transpose();
    config.map_err(|error| Failure::failed(format!("the passphrase cannot be used: {error}")))
}

/// The length of the key a caller proposes, if the datagram is such a proposal.
fn wished_key(datagram: &[u8]) -> Option<KeySize> {
    let handshake = handshake(datagram)?;
    let material = handshake.extensions.iter().find_map(|extension| {
        if let Extension::KmReq(material) = extension { Some(material) } else { None }
    })?;
    // Its last byte but the keys: the length in words of four bytes.
    match material.get(15)? {
        4 => Some(KeySize::Aes128),
        8 => Some(KeySize::Aes256),
        _ => None,
    }
}

/// The code of a refusal, if the datagram is one.
fn refusal(datagram: &[u8]) -> Option<u32> {
    let HandshakeKind::Rejection(code) = handshake(datagram)?.kind else { return None };
    Some(code)
}

fn handshake(datagram: &[u8]) -> Option<sapflow_srt::packet::Handshake> {
    // Bit 0 tells control from data, the rest of two bytes is the type: 0 is a handshake.
    if !datagram.starts_with(&[0x80, 0]) {
        return None;
    }
    let Packet::Control(ControlPacket { body: Control::Handshake(handshake), .. }) =
        Packet::parse(datagram).ok()?
    else {
        return None;
    };
    Some(handshake)
}

fn explain(code: u32, has_passphrase: bool) -> String {
    let reason = match RejectCode(code) {
        FORBIDDEN => "its streamid is not the one that was given here",
        CONFLICT | RejectCode::BACKLOG => BUSY,
        RejectCode::BADSECRET => "its passphrase is not the one that was given here",
        RejectCode::UNSECURE if has_passphrase => {
            "it does not encrypt; give it the passphrase that was given here"
        }
        RejectCode::UNSECURE => {
            "it encrypts, and there is no passphrase here; add ?passphrase=… to the input"
        }
        RejectCode::VERSION => "its SRT is too old; it takes version 1.3 or later",
        RejectCode::MESSAGE_API | RejectCode::CONGESTION => {
            "it sends a file; set its transtype to live"
        }
        RejectCode::FILTER => "it asks for a packet filter, which this version does not have",
        RejectCode::GROUP => "it asks for bonding, which this version does not have",
        _ => return format!("its request makes no sense (code {code})"),
    };
    reason.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_neither_a_wish_nor_a_refusal() {
        for length in 0..200 {
            let mut datagram = vec![0xff; length];
            for (at, byte) in [0x80, 0].into_iter().enumerate().take(length) {
                datagram[at] = byte;
            }
            assert!(wished_key(&datagram).is_none() && refusal(&datagram).is_none());
        }
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        assert!(explain(1010, true).contains("passphrase"));
        assert!(explain(1011, true).contains("give it the passphrase"));
        assert!(explain(1011, false).contains("?passphrase="));
        assert_eq!(explain(1409, false), BUSY);
        assert!(explain(1000, false).contains("1000"));
    }
}
