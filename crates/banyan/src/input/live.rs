//! Live inputs that are plain byte streams: stdin and connections.
//!
//! Decides what is listened to, and that an encoder that goes away may come back. What the bytes
//! mean is left to the cutter, who may connect to [`super::session`].

use std::io::Read;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::error::{Failure, Outcome};
use crate::input::cutter::{self, Begin, Format, PIECES, Piece};
use crate::input::session::{BUSY, Door, Session};
use crate::input::{Item, Reading};

/// Bytes read at once.
pub(super) const READ: usize = 64 * 1024;
/// Wait after a connection could not be accepted, as when the system has no more file handles.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Reads stdin to its end.
pub(super) fn stdin(reading: Reading, items: mpsc::Sender<Item>) {
    pipe(std::io::stdin(), reading, items);
}

/// Reads a pipe to its end. In a thread of its own: a read of stdin cannot be cancelled.
pub(super) fn pipe(
    mut pipe: impl Read + Send + 'static,
    reading: Reading,
    items: mpsc::Sender<Item>,
) {
    let (sender, pieces) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let begin = Begin { format: Format::Any, verdict: None };
        if sender.blocking_send(Piece::Begin(begin)).is_err() {
            return;
        }
        let mut buffer = vec![0; READ];
        loop {
            match pipe.read(&mut buffer) {
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

/// Accepts connections at `address`, one at a time.
pub(super) async fn tcp(address: &str, reading: Reading, items: mpsc::Sender<Item>) -> Outcome {
    let listener = listen("tcp", address).await?;
    let door = Door::open(reading, items);
    tokio::spawn(async move {
        while let Some((stream, name)) = accept(&listener, &door).await {
            match door.enter(name.clone(), Format::Any).await {
                Some(session) => drop(tokio::spawn(read(stream, session))),
                None => door.refuse(name, BUSY),
            }
        }
    });
    Ok(())
}

/// Reads a connection until it ends or is cut off.
async fn read(mut stream: TcpStream, mut session: Session) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        tokio::select! {
            read = stream.read_buf(&mut buffer) => match read {
                Ok(0) | Err(_) => return session.end().await,
                Ok(_) => {
                    if session.send(buffer.split().freeze()).await.is_err() {
                        return;
                    }
                }
            },
            () = session.cut_off() => return session.end().await,
        }
    }
}

/// Listens for connections.
pub(super) async fn listen(scheme: &str, address: &str) -> Outcome<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| cannot_listen(scheme, address, &error))
}

/// The next connection and what its encoder is called; `None` once the publisher has ended.
pub(super) async fn accept(listener: &TcpListener, door: &Door) -> Option<(TcpStream, String)> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = door.closed() => return None,
        };
        match accepted {
            Ok((stream, from)) => return Some((stream, format!("the encoder at {from}"))),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

pub(super) fn cannot_listen(scheme: &str, address: &str, error: &std::io::Error) -> Failure {
    let hint = if error.kind() == std::io::ErrorKind::AddrInUse {
        ": the port is taken: choose another"
    } else {
        ""
    };
    Failure::failed(format!("cannot listen on {scheme}://{address}: {error}{hint}"))
}
