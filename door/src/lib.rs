//! The doors that connections come through: TCP listeners.
//!
//! In: connections. Out: a task for each, within bounds in total and for each address. Whatever a
//! connection is made to wait for happens in its own task, so that a stalled one delays nobody. What
//! is behind a door is up to who opens it, so that several protocols can share one.

use std::convert::Infallible;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

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
    /// Whether one address of a private network may have all of it.
    trusts_neighbours: bool,
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
            trusts_neighbours: false,
            open: Mutex::default(),
        }
    }

    /// The same, but an address of this machine or of a private network may have all of them, as a
    /// reverse proxy there speaks for everybody.
    #[must_use]
    pub fn behind_proxies(max: u32) -> Self {
        Doorkeeper {
            trusts_neighbours: true,
            ..Doorkeeper::new(max)
        }
    }

    /// A place for a connection from there, if there is one left.
    #[must_use]
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let (address, mut open) = (subscriber(address), self.open());
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        let max_of_address = match self.trusts_neighbours && is_neighbour(address) {
            true => self.max,
            false => self.max.div_ceil(10),
        };
        if open.total >= self.max || of_address >= max_of_address {
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

/// What one subscriber line has: an IPv4 address, or an IPv6 /64 (RFC 6177 section 2).
#[must_use]
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (!0 << 64))),
        v4 => v4,
    }
}

/// Whether it is of this machine or of a private network (RFC 1918, RFC 4193). A line's address counts
/// as its network.
fn is_neighbour(subscriber: IpAddr) -> bool {
    match subscriber {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => {
            // The line of ::1.
            v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

/// Accepts all connections to a listener, and lets each one that has a place be served in a task of
/// its own, to which its place belongs. Does not end; when it is dropped, so are the connections.
pub async fn accept<F>(
    listener: TcpListener,
    keeper: Arc<Doorkeeper>,
    serve: impl Fn(TcpStream, SocketAddr, Place) -> F,
) -> Infallible
where
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
                    connections.spawn(serve(stream, address, place));
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

    #[test]
    fn a_proxy_nearby_may_have_all_places() {
        let keeper = Arc::new(Doorkeeper::behind_proxies(30));
        for (address, expected) in [
            ("127.0.0.1", 30),
            ("10.1.2.3", 30),
            ("::1", 30),
            ("fd00::1", 30),
            ("::ffff:192.168.0.1", 30),
            ("192.0.2.1", 3),
            ("2001:db8::1", 3),
        ] {
            let address = address.parse().unwrap();
            let places: Vec<_> = (0..40).filter_map(|_| keeper.admit(address)).collect();
            assert_eq!(places.len(), expected, "{address}");
        }
    }

    #[test]
    fn addresses_of_one_line_are_one_subscriber() {
        for (a, b, same) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(subscriber(a) == subscriber(b), same, "{a} {b}");
        }
    }
}
