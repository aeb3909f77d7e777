//! The listener: takes connections, speaks HTTP/1 on each, ends them.
//!
//! Decides limits and deadlines of connections, and that none outlives the gateway. What is
//! answered is left to [`crate::routes`].
//!
//! Departure: `axum::serve` would do, but its connections go on after it is dropped, and it sets no
//! deadline for request heads.

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::error::GatewayError;
use crate::routes::{Face, router};
use crate::stall::StallGuard;

/// Most connections at a time; further ones wait to be accepted.
pub const MAX_CONNECTIONS: usize = 128;

/// Time for a request's head, and for the next request on a connection. Hyper's default.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of a request's head, and of an answer that waits in memory besides its last part.
const MAX_BUFFER: usize = 64 << 10;

/// Bytes that the system may hold for a client. What lies there is late for a slow client, and out of
/// our hands: about a second at 4 Mbit/s, and 40 Mbit/s over a round trip of 100 ms.
const SEND_BUFFER: u32 = 512 << 10;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// Time that connections get to end by themselves at a shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// Pause after the system refused a connection, as when file descriptors have run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A gateway that has its port, and does not serve yet.
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Gateway {
    /// Takes the port. Port 0 takes any that is free.
    ///
    /// # Errors
    ///
    /// If the port is taken, or the address is not this machine's.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O.
    pub fn bind(addr: SocketAddr) -> Result<Self, GatewayError> {
        let listen = || {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // On Windows it would let others take the port as well.
            #[cfg(not(windows))]
            socket.set_reuseaddr(true)?;
            socket.set_send_buffer_size(SEND_BUFFER)?;
            socket.bind(addr)?;
            let listener = socket.listen(BACKLOG)?;
            let addr = listener.local_addr()?;
            Ok(Self { listener, addr })
        };
        listen().map_err(|error| GatewayError::bind(addr, error))
    }

    /// Where it serves; with the port it got, if port 0 was asked for.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until dropped; then all connections are closed.
    pub async fn serve(self, face: Face) {
        self.serve_until(face, pending()).await;
    }

    /// Serves until `shutdown` is ready: then live streams end, requests that are being answered get
    /// two seconds, and all connections are closed. Dropping it closes them at once.
    pub async fn serve_until(self, face: Face, shutdown: impl Future<Output = ()> + Send) {
        let (stop, stopped) = watch::channel(false);
        let router = router(face, stopped.clone());
        let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                (stream, permit) = accept(&self.listener, &limit) => {
                    let (router, stopped) = (router.clone(), stopped.clone());
                    connections.spawn(async move {
                        serve_connection(stream, router, stopped).await;
                        drop(permit);
                    });
                }
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                }
            }
        }
        drop(self.listener);
        stop.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(GRACE, ended).await.is_err() {
            tracing::debug!(left = connections.len(), "connections are cut off");
        }
    }
}

/// The next connection, once there is room for one. May be dropped without harm.
async fn accept(
    listener: &TcpListener,
    limit: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = Arc::clone(limit).acquire_owned().await else {
            return pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Waits until the gateway stops.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that it is gone, which is the same.
    drop(stop.wait_for(|stop| *stop).await);
}

async fn serve_connection(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    // A picture that is due should not wait for the next.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let io = TokioIo::new(StallGuard::new(stream));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(io, TowerToHyperService::new(router));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke");
    }
}
