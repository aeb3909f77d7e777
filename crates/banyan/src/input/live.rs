//! Live inputs: stdin, datagrams, connections.
//!
//! Decides what is listened to, and that an encoder that goes away may come back. What the bytes
//! mean is left to the cutter.

use std::io::Read as _;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

use crate::error::{Failure, Outcome};
use crate::input::cutter::{self, PIECES, Piece};
use crate::input::{Item, Reading};

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// Reads stdin to its end. In a thread of its own: a read of stdin cannot be cancelled.
pub(super) fn stdin(reading: Reading, items: mpsc::Sender<Item>) {
    let (sender, pieces) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0; READ];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    let bytes = Bytes::copy_from_slice(&buffer[..length]);
                    if sender.blocking_send(Piece::Bytes(bytes)).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "stdin cannot be read any more");
                    return;
                }
            }
        }
    });
    tokio::spawn(cutter::run(pieces, reading, items));
}

/// Receives datagrams at `address`, whoever sends them.
pub(super) async fn udp(address: &str, reading: Reading, items: mpsc::Sender<Item>) -> Outcome {
    let socket =
        UdpSocket::bind(address).await.map_err(|error| cannot_listen("udp", address, &error))?;
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ);
            match socket.recv_buf(&mut buffer).await {
                Ok(_) => {
                    if sender.send(Piece::Bytes(buffer.split().freeze())).await.is_err() {
                        return;
                    }
                }
                // Such as "port unreachable" for something sent earlier; the next may arrive.
                Err(error) => tracing::debug!(%error, "a datagram could not be received"),
            }
        }
    });
    tokio::spawn(cutter::run(pieces, reading, items));
    Ok(())
}

/// Accepts one connection after the other at `address`.
pub(super) async fn tcp(address: &str, reading: Reading, items: mpsc::Sender<Item>) -> Outcome {
    let listener =
        TcpListener::bind(address).await.map_err(|error| cannot_listen("tcp", address, &error))?;
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, from)) = listener.accept().await else { continue };
            tracing::info!(%from, "the encoder has connected");
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(READ);
                match stream.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {
                        if sender.send(Piece::Bytes(buffer.split().freeze())).await.is_err() {
                            return;
                        }
                    }
                }
            }
            tracing::info!(%from, "the encoder has gone; waiting for another");
            if sender.send(Piece::Gap).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(cutter::run(pieces, reading, items));
    Ok(())
}

fn cannot_listen(scheme: &str, address: &str, error: &std::io::Error) -> Failure {
    let hint = if error.kind() == std::io::ErrorKind::AddrInUse {
        ": the port is taken: choose another"
    } else {
        ""
    };
    Failure::failed(format!("cannot listen on {scheme}://{address}: {error}{hint}"))
}
