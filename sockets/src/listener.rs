//! TCP listeners.
//!
//! In: connections. Out: a task for each, within limits in total and for each address. Whatever a
//! connection is made to wait for happens in its own task, so that a stalled one delays nobody. What
//! a listener serves is up to who opens it, so that several protocols can share one.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cidr::Cidr;
use crate::subscriber::{Crowd, Tally, is_neighbour, share_of_proxy, subscriber};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How long to wait after the system has refused a connection, most likely for want of descriptors.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that the kernel may hold unsent: what is beyond waits in our queue, where it can be
/// dropped when it is old. 100 ms at 5 Mbit/s.
const MAX_UNSENT: u32 = 64 * 1024;

/// Whom a listener at an IPv6 address is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Families {
    /// IPv6 alone, at `[::]` too: IPv4 has a listener of its own.
    OfAddress,
    /// IPv4 too at `[::]`.
    Both,
}

/// Binds a TCP socket that clients connect to.
///
/// # Errors
/// When the address is not ours or the port is taken.
pub fn bind(address: SocketAddr, families: Families) -> io::Result<std::net::TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(families == Families::OfAddress)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many connections there may be, and are. Listeners may share them.
#[derive(Debug)]
pub struct ConnectionLimit {
    max: u32,
    /// Whether one address of a private network may have most of it.
    trusts_neighbours: bool,
    /// Whose addresses may too.
    trusted: Vec<Cidr>,
    /// All of them together are in `total`.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    tally: Tally,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    address: IpAddr,
    keeper: Arc<ConnectionLimit>,
}

impl ConnectionLimit {
    /// At most `max` in total, and a tenth of that from one address; the addresses of one IPv6
    /// subscriber count as one, and all of a site may have four times as many.
    #[must_use]
    pub fn new(max: u32) -> Self {
        ConnectionLimit {
            max,
            trusts_neighbours: false,
            trusted: Vec::new(),
            open: Mutex::default(),
        }
    }

    /// The same, but an address of this machine or of a private network may have nine tenths of them, as
    /// a reverse proxy there speaks for everybody.
    #[must_use]
    pub fn behind_proxies(max: u32) -> Self {
        ConnectionLimit {
            trusts_neighbours: true,
            ..ConnectionLimit::new(max)
        }
    }

    /// The same, but one of these addresses may have nine tenths of them too.
    #[must_use]
    pub fn trusting(self, trusted: Vec<Cidr>) -> Self {
        ConnectionLimit { trusted, ..self }
    }

    /// Whether an address speaks for many.
    fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_trusted = self.trusted.iter().any(|range| range.contains(address));
        is_trusted || (self.trusts_neighbours && is_neighbour(subscriber(address)))
    }

    /// A place for a connection from there, if there is one left.
    #[must_use]
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = self.open();
        let max = match self.is_proxy(address) {
            true => share_of_proxy(self.max as usize),
            false => self.max.div_ceil(10) as usize,
        };
        if open.total >= self.max || open.tally.check(address, max).is_err() {
            return None;
        }
        open.total += 1;
        open.tally.add(address);
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
        open.tally.remove(self.address);
    }
}

/// Those who have come and have not said yet what they want, which costs them nothing: at most so many.
/// Nobody new is refused. Whoever is the first to go of the [`Crowd`] has to go instead.
#[derive(Debug)]
pub struct Lobby {
    max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    /// Whoever is taken out is told by the end of its sender.
    crowd: Crowd<oneshot::Sender<()>>,
}

/// Somebody's place in a [`Lobby`]; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    number: u64,
    lobby: Arc<Lobby>,
    taken: oneshot::Receiver<()>,
}

impl Lobby {
    /// For at most `max` who wait, one at the least.
    #[must_use]
    pub fn new(max: usize) -> Lobby {
        Lobby {
            max: max.max(1),
            waiting: Mutex::default(),
        }
    }

    /// A place for somebody who comes from there.
    #[must_use]
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Seat {
        let (told, taken) = oneshot::channel();
        let mut waiting = self.waiting();
        waiting.last += 1;
        let number = waiting.last;
        waiting.crowd.insert(number, address, told);
        if waiting.crowd.len() > self.max
            && let Some((first, _)) = waiting.crowd.first_to_go()
        {
            waiting.crowd.remove(first);
        }
        Seat {
            number,
            lobby: self.clone(),
            taken,
        }
    }

    /// The lock is held over a search that cannot panic.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Returns when the place has been given to somebody else. May be asked again after that.
    pub async fn taken(&mut self) {
        if !self.taken.is_terminated() {
            // Nothing is ever sent.
            let _ = (&mut self.taken).await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lobby.waiting().crowd.remove(self.number);
    }
}

/// Accepts all connections to a listener, and lets each one that has a place be served in a task of
/// its own, to which its place belongs. Does not end; when it is dropped, so are the connections.
pub async fn accept<F>(
    listener: TcpListener,
    keeper: Arc<ConnectionLimit>,
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
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    #[test]
    fn places_are_limited_in_total_and_by_address_and_given_back() {
        let keeper = Arc::new(ConnectionLimit::new(30));
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut places: Vec<Place> = (0..3).map(|_| keeper.admit(address(0)).unwrap()).collect();
        assert!(keeper.admit(address(0)).is_none(), "a tenth of them");
        places.extend((1..=27).map(|n| keeper.admit(address(n)).unwrap()));
        assert!(keeper.admit(address(99)).is_none(), "all of them");
        places.pop();
        assert!(keeper.admit(address(99)).is_some());
        places.clear();
        assert!(keeper.open().total == 0 && keeper.open().tally.is_empty());
    }

    #[test]
    fn one_site_leaves_places_for_others_however_many_networks_it_has() {
        let keeper = Arc::new(ConnectionLimit::new(100));
        let address = |site: u16, line: u16| IpAddr::from([0x2001, 0xdb8, site, line, 0, 0, 0, 1]);
        let places: Vec<_> = (0..200)
            .filter_map(|n| keeper.admit(address(0, n)))
            .collect();
        assert_eq!(places.len(), 40);
        assert!(keeper.admit(address(1, 0)).is_some());
    }

    #[test]
    fn a_proxy_nearby_may_have_most_places() {
        let keeper = Arc::new(ConnectionLimit::behind_proxies(30));
        for (address, expected) in [
            ("127.0.0.1", 27),
            ("10.1.2.3", 27),
            ("::1", 27),
            ("fd00::1", 27),
            ("::ffff:192.168.0.1", 27),
            ("192.0.2.1", 3),
            ("2001:db8::1", 3),
        ] {
            let address = address.parse().unwrap();
            let places: Vec<_> = (0..40).filter_map(|_| keeper.admit(address)).collect();
            assert_eq!(places.len(), expected, "{address}");
        }
    }

    #[test]
    fn a_trusted_proxy_may_have_most_places_wherever_it_is() {
        let trusted = vec!["192.0.2.0/24".parse().unwrap()];
        let keeper = Arc::new(ConnectionLimit::new(30).trusting(trusted));
        for (address, expected) in [("192.0.2.7", 27), ("::ffff:192.0.2.8", 27), ("10.0.0.1", 3)] {
            let address = address.parse().unwrap();
            let places: Vec<_> = (0..40).filter_map(|_| keeper.admit(address)).collect();
            assert_eq!(places.len(), expected, "{address}");
        }
    }

    /// Whether it has to go.
    fn is_taken(seat: &mut Seat) -> bool {
        seat.taken.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn who_floods_a_lobby_drives_out_itself_and_nobody_new_is_refused() {
        let lobby = Arc::new(Lobby::new(10));
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut slow = lobby.enter(address(1));
        let mut flood: Vec<Seat> = (0..100).map(|_| lobby.enter(address(2))).collect();
        assert!(!is_taken(&mut slow), "it was first, but has one place");
        let gone = flood
            .iter_mut()
            .filter_map(|seat| is_taken(seat).then_some(()));
        assert_eq!(gone.count(), 91);
        assert!(!is_taken(&mut flood[99]), "the newest is in");
        let mut next = lobby.enter(address(3));
        assert!(
            !is_taken(&mut next) && is_taken(&mut flood[91]),
            "the oldest of them goes"
        );
        drop((slow, next, flood));
        assert!(lobby.waiting().crowd.is_empty());
    }

    #[tokio::test]
    async fn whose_place_is_taken_is_told() {
        let lobby = Arc::new(Lobby::new(1));
        let mut first = lobby.enter(IpAddr::from([192, 0, 2, 1]));
        let _second = lobby.enter(IpAddr::from([192, 0, 2, 2]));
        first.taken().await;
        first.taken().await;
    }
}
