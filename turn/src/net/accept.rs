//! The doors that streams come through: TCP and TLS listeners.
//!
//! In: connections. Out: a task for each, within bounds in total and for each address. A TLS handshake
//! happens in the connection's own task, so that a stalled one delays nobody.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::stream::{self, StreamEvent};
use crate::client::{Client, Transport};
use crate::limit::subscriber;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How long to wait after the system has refused a connection, most likely for want of descriptors.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// How long a TLS handshake may take.
const MAX_HANDSHAKE: Duration = Duration::from_secs(10);

/// Bytes that the kernel may hold unsent: what is beyond waits in our queue, where it can be
/// dropped when it is old. 100 ms at 5 Mbit/s.
const MAX_UNSENT: u32 = 64 * 1024;

/// Binds a TCP socket that clients connect to.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many connections there may be, and are.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    max: u32,
    /// By address; all of them together are in `total`.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// A connection's place; given back when dropped.
struct Place {
    address: IpAddr,
    keeper: Arc<Doorkeeper>,
}

impl Doorkeeper {
    /// At most `max` in total, and a tenth of that from one address.
    pub(super) fn new(max: u32) -> Self {
        Doorkeeper {
            max,
            open: Mutex::default(),
        }
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let (address, mut open) = (subscriber(address), self.open());
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        if open.total >= self.max || of_address >= self.max.div_ceil(10) {
            return None;
        }
        open.total += 1;
        open.by_address.insert(address, of_address + 1);
        Some(Place {
            address,
            keeper: self.clone(),
        })
    }

    /// The lock is held over a few instructions that cannot panic.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.keeper.open();
        open.total -= 1;
        let left = open.by_address.get_mut(&self.address).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            open.by_address.remove(&self.address);
        }
    }
}

/// Serves all connections to a listener; with TLS, if there is an acceptor for it.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    keeper: Arc<Doorkeeper>,
    inbox: mpsc::Sender<StreamEvent>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                // What is over the limit is closed at once.
                if let Some(place) = keeper.admit(address.ip()) {
                    let (tls, inbox) = (tls.clone(), inbox.clone());
                    connections.spawn(async move {
                        let ended = serve(stream, address, tls, &inbox).await;
                        tracing::debug!(%address, %ended, "a TURN stream has ended");
                        drop(place);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a TURN connection could not be accepted");
                sleep(REFUSAL_PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    inbox: &mpsc::Sender<StreamEvent>,
) -> stream::Ended {
    let server = match stream.local_addr() {
        Ok(server) => server,
        Err(error) => return error.into(),
    };
    let client = Client {
        transport: Transport::Stream,
        server,
        address,
    };
    // Both are for latency; without them it still works.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT);
    let Some(tls) = tls else {
        return stream::serve(stream, client, inbox).await;
    };
    match timeout(MAX_HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream::serve(stream, client, inbox).await,
        Ok(Err(error)) => error.into(),
        Err(_) => stream::Ended::Idle,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn places_are_limited_in_total_and_by_address_and_given_back() {
        let keeper = Arc::new(Doorkeeper::new(30));
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut places: Vec<Place> = (0..3).map(|_| keeper.admit(address(0)).unwrap()).collect();
        assert!(keeper.admit(address(0)).is_none(), "a tenth of them");
        places.extend((1..=27).map(|n| keeper.admit(address(n)).unwrap()));
        assert!(keeper.admit(address(99)).is_none(), "all of them");
        places.pop();
        assert!(keeper.admit(address(99)).is_some());
        places.clear();
        assert!(keeper.open().total == 0 && keeper.open().by_address.is_empty());
    }
}
