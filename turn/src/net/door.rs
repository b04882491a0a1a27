//! The doors that streams come through: TCP listeners.
//!
//! In: connections. Out: a task for each, within bounds in total and for each address. Whatever a
//! connection is made to wait for happens in its own task, so that a stalled one delays nobody. What
//! is behind a door is up to who opens it, so that TLS and other protocols can share it with TURN.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::limit::subscriber;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How long to wait after the system has refused a connection, most likely for want of descriptors.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that the kernel may hold unsent: what is beyond waits in our queue, where it can be
/// dropped when it is old. 100 ms at 5 Mbit/s.
const MAX_UNSENT: u32 = 64 * 1024;

/// Binds a TCP socket that clients connect to. An IPv6 address is for IPv6 alone, `[::]` too.
///
/// # Errors
/// When the system does not give the address.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
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

/// How many connections there may be, and are. Doors may share one.
#[derive(Debug)]
pub struct Doorkeeper {
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
#[derive(Debug)]
pub struct Place {
    address: IpAddr,
    keeper: Arc<Doorkeeper>,
}

impl Doorkeeper {
    /// At most `max` in total, and a tenth of that from one address; the addresses of one IPv6
    /// subscriber count as one.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Doorkeeper {
            max,
            open: Mutex::default(),
        }
    }

    /// A place for a connection from there, if there is one left.
    #[must_use]
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
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

/// Accepts all connections to a listener, and lets each one that has a place be served in a task of
/// its own. Does not end; when it is dropped, so are the connections.
pub async fn accept<F>(
    listener: TcpListener,
    keeper: Arc<Doorkeeper>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
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
                    // Both are for latency; without them it still works.
                    let _ = stream.set_nodelay(true);
                    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT);
                    let served = serve(stream, address);
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(REFUSAL_PAUSE).await;
            }
        }
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
