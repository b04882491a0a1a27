//! A worker's UDP socket: datagrams in and out in batches.
//!
//! `quinn-udp` receives many datagrams a call (and several coalesced into one buffer, GRO) and sends
//! a run of equal datagrams in one (GSO), where the kernel can.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::path::UdpPair;
use crate::send::outbox::Run;

/// Kernel buffer asked for in each direction, in bytes: 50 ms of a gigabit, so that a burst to or
/// from many peers is not lost while the worker does something else. The system may give less
/// (`net.core.rmem_max`, `net.core.wmem_max`).
pub const SOCKET_BUFFER: usize = 6 * 1024 * 1024;

/// Room for one receive, in bytes: what GRO can coalesce.
const RECEIVE_BUFFER: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Socket {
    io: UdpSocket,
    address: SocketAddr,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
}

/// What one send did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// It is the kernel's now.
    Done,
    /// It is, one by one: together the kernel did not take datagrams that are longer than the path takes.
    Apart,
    /// The kernel's buffer is full.
    Full,
    /// The destination cannot be sent to; nothing to be done about it.
    Failed,
}

impl Socket {
    /// Binds a socket.
    ///
    /// # Errors
    /// When the address is not ours or the port is taken.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        if address.is_ipv6() {
            // A wildcard is for both families.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        // Less than asked for is no reason not to start.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&address.into())?;
        Ok(socket.into())
    }

    /// Takes a bound socket over; within a tokio runtime.
    ///
    /// # Errors
    /// When the runtime or the kernel refuses it.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        confab_sockets::fragments::allow_fragments(&socket)?;
        Ok(Socket {
            address: socket.local_addr()?,
            io: UdpSocket::from_std(socket)?,
            state,
            buffers: (0..BATCH_SIZE).map(|_| vec![0; RECEIVE_BUFFER]).collect(),
            metas: vec![RecvMeta::default(); BATCH_SIZE],
        })
    }

    /// Waits until there is something to receive.
    ///
    /// # Errors
    /// When the runtime is stopping.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Waits until there is room to send.
    ///
    /// # Errors
    /// When the runtime is stopping.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Receives what is there, up to one batch, and gives each datagram to `handle`, with its ends and
    /// our address that it was sent to. Returns whether there may be more.
    pub(crate) fn receive(
        &mut self,
        mut handle: impl FnMut(UdpPair, SocketAddr, &mut [u8]),
    ) -> bool {
        let mut slices: Vec<IoSliceMut<'_>> = self
            .buffers
            .iter_mut()
            .map(|buffer| IoSliceMut::new(buffer))
            .collect();
        let received = self.io.try_io(Interest::READABLE, || {
            self.state
                .recv(UdpSockRef::from(&self.io), &mut slices, &mut self.metas)
        });
        // An ICMP error of an earlier send is reported here too, and means nothing to us.
        let count = match received {
            Ok(count) => count,
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        };
        for (meta, buffer) in self.metas.iter().zip(&mut self.buffers).take(count) {
            let Some(bytes) = buffer.get_mut(..meta.len) else {
                continue;
            };
            // A socket for both families has IPv4 addresses in disguise.
            let is_any = self.address.ip().is_unspecified();
            let local = meta.dst_ip.filter(|_| is_any);
            let pair = UdpPair {
                remote: SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port()),
                local: local.map(|ip| ip.to_canonical()),
            };
            let mut to = self.address;
            to.set_ip(pair.local.unwrap_or(to.ip()));
            for datagram in bytes.chunks_mut(meta.stride.max(1)) {
                handle(pair, to, datagram);
            }
        }
        count == self.metas.len()
    }

    /// The largest IP packet in bytes that reaches an address whole, as far as the kernel knows.
    ///
    /// # Errors
    /// When there is no route.
    pub(crate) fn path_mtu(&self, to: SocketAddr) -> io::Result<usize> {
        confab_sockets::fragments::path_mtu(self.address.ip(), to)
    }

    /// Sends a run of datagrams, from the address of ours that the client knows.
    pub(crate) fn send(&self, pair: UdpPair, run: &Run, bytes: &[u8]) -> Sent {
        let segments = bytes.len().div_ceil(run.segment_size.max(1));
        let max = self.state.max_gso_segments().max(1);
        if segments > max {
            // No offload here, or a run longer than it takes.
            let mut outcome = Sent::Done;
            for chunk in bytes.chunks(run.segment_size * max) {
                match self.send_piece(pair, run, chunk) {
                    Sent::Done => {}
                    Sent::Apart => outcome = Sent::Apart,
                    other => return other,
                }
            }
            return outcome;
        }
        self.send_piece(pair, run, bytes)
    }

    /// Sends what the kernel takes at once, or one by one what it does not.
    fn send_piece(&self, pair: UdpPair, run: &Run, contents: &[u8]) -> Sent {
        match self.send_one(pair, run, contents) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
            // The path has become narrower than was known when the run was made.
            Err(_) if contents.len() > run.segment_size => {
                // What finds no room now is lost, as it would be on the way.
                let sent = contents
                    .chunks(run.segment_size)
                    .filter(|datagram| self.send_one(pair, run, datagram).is_ok());
                match sent.count() {
                    0 => Sent::Failed,
                    _ => Sent::Apart,
                }
            }
            Err(_) => Sent::Failed,
            Ok(()) => Sent::Done,
        }
    }

    fn send_one(&self, pair: UdpPair, run: &Run, contents: &[u8]) -> io::Result<()> {
        let disguised = |ip| disguised(self.address, ip);
        let transmit = Transmit {
            destination: SocketAddr::new(disguised(pair.remote.ip()), pair.remote.port()),
            ecn: None,
            contents,
            segment_size: (contents.len() > run.segment_size).then_some(run.segment_size),
            src_ip: pair.local.map(disguised),
        };
        self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send(UdpSockRef::from(&self.io), &transmit)
        })
    }
}

/// An address as a socket that is bound there has it: an IPv6 socket knows those of IPv4 in disguise
/// (RFC 4291 section 2.5.5.2).
#[must_use]
pub(crate) fn disguised(bound: SocketAddr, ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if bound.is_ipv6() => ip.to_ipv6_mapped().into(),
        ip => ip,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::path::Path;

    #[tokio::test]
    async fn a_run_that_the_kernel_does_not_take_leaves_one_by_one() {
        let bound = Socket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let socket = Socket::new(bound).unwrap();
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let pair = UdpPair {
            remote: to,
            local: None,
        };
        let mut buffer = vec![0; 65_536];
        // The second is more together than an IP packet holds.
        for (len, sent) in [(1000, Sent::Done), (40_000, Sent::Apart)] {
            let bytes = [vec![1; len], vec![2; len]].concat();
            let run = Run::of(Path::Udp(pair), len, bytes.len());
            socket.writable().await.unwrap();
            assert_eq!(socket.send(pair, &run, &bytes), sent);
            for n in 1..=2 {
                let received = receiver.recv(&mut buffer).unwrap();
                assert!(received == len && buffer[..len].iter().all(|&b| b == n));
            }
        }
        let run = Run::of(Path::Udp(pair), 65_535, 65_535);
        assert_eq!(socket.send(pair, &run, &[0; 65_535]), Sent::Failed);
        assert!(socket.path_mtu(to).unwrap() >= 1500);
    }

    /// What a socket that is bound to a wildcard answers to a client that sends to each of these
    /// addresses, and from where.
    async fn answers(wildcard: &str, places: &[&str]) {
        let bound = Socket::bind(wildcard.parse().unwrap()).unwrap();
        let mut socket = Socket::new(bound).unwrap();
        for place in places {
            let place: IpAddr = place.parse().unwrap();
            let client = UdpSocket::bind(SocketAddr::new(place, 0)).await.unwrap();
            let at = SocketAddr::new(place, socket.address.port());
            client.send_to(b"ping", at).await.unwrap();
            socket.readable().await.unwrap();
            let mut ends = Vec::new();
            socket.receive(|pair, to, _| ends.push((pair, to)));
            let [(pair, to)] = ends[..] else {
                panic!("{ends:?}");
            };
            assert_eq!(pair.remote, client.local_addr().unwrap());
            assert_eq!((pair.local, to), (Some(place), at));
            let run = Run::of(Path::Udp(pair), 4, 8);
            assert_eq!(socket.send(pair, &run, b"pongpong"), Sent::Done);
            let mut buffer = [0; 8];
            let answer = client.recv_from(&mut buffer);
            let (len, from) = tokio::time::timeout(Duration::from_secs(10), answer)
                .await
                .unwrap()
                .unwrap();
            assert_eq!((&buffer[..len], from), (&b"pong"[..], at));
        }
    }

    #[tokio::test]
    async fn clients_are_answered_from_the_address_they_have_sent_to() {
        // Without being told, the kernel answers 127.0.0.2 from 127.0.0.1.
        answers("0.0.0.0:0", &["127.0.0.1", "127.0.0.2"]).await;
    }

    #[tokio::test]
    async fn one_socket_serves_both_families() {
        answers("[::]:0", &["127.0.0.1", "::1", "127.0.0.3"]).await;
    }
}
