//! A UDP socket of the worker: datagrams in and out in batches.
//!
//! `quinn-udp` receives many datagrams a call (and several coalesced into one buffer, GRO) and sends
//! a run of equal datagrams in one (GSO), where the kernel can. It also tells which of our addresses a
//! datagram came to, so that the answer comes from there.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::task::{Context, Poll, Waker};

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Room for one receive, in bytes: what GRO can coalesce.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Room for what one receive brings; one serves all sockets.
#[derive(Debug)]
pub(super) struct Batch {
    buffers: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Batch {
            buffers: (0..BATCH_SIZE).map(|_| vec![0; RECEIVE_BUFFER]).collect(),
            metas: vec![RecvMeta::default(); BATCH_SIZE],
        }
    }
}

/// Where a datagram came from, and to which of our addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) from: SocketAddr,
    pub(super) to: Option<IpAddr>,
}

#[derive(Debug)]
pub(super) struct DatagramSocket {
    /// Watched for what comes alone: a socket of tokio's would wake us for room after each datagram
    /// that has gone too.
    pub(super) io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    waker: Waker,
}

/// Makes a socket for an address, not yet bound to it.
pub(super) fn unbound(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl DatagramSocket {
    /// Takes a bound socket over; within a tokio runtime. `waker` is woken when there is something
    /// to receive.
    pub(super) fn new(socket: UdpSocket, dont_fragment: bool, waker: Waker) -> io::Result<Self> {
        // This forbids fragments.
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        if !dont_fragment {
            confab_sockets::fragments::allow_fragments(&socket)?;
        }
        leave_out_details(&socket)?;
        #[expect(
            deprecated,
            reason = "what follows it is unsafe, for types that do not own what they refer to"
        )]
        let io = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(DatagramSocket { io, state, waker })
    }

    /// Receives what is there, up to one batch, and gives each datagram to `handle`. Wakes its waker
    /// if there may be more.
    ///
    /// # Errors
    /// When an earlier datagram could not be delivered; the socket itself is well.
    pub(super) fn receive(
        &self,
        batch: &mut Batch,
        mut handle: impl FnMut(Arrival, &[u8]),
    ) -> io::Result<()> {
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(&mut []));
        for (slice, buffer) in slices.iter_mut().zip(&mut batch.buffers) {
            *slice = IoSliceMut::new(buffer);
        }
        let mut count = 0;
        let received = self.io.try_io(Interest::READABLE, |socket| {
            let socket = UdpSockRef::from(socket);
            count = self.state.recv(socket, &mut slices, &mut batch.metas)?;
            // Fewer than there is room for is all there is: no need to ask once more. What comes
            // from now on makes the socket ready again.
            match count < BATCH_SIZE {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(()),
            }
        });
        let is_drained = received
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if !is_drained || self.is_ready() {
            self.waker.wake_by_ref();
        }
        for (meta, buffer) in batch.metas.iter().zip(&batch.buffers).take(count) {
            let arrival = Arrival {
                from: meta.addr,
                to: meta.dst_ip,
            };
            match buffer.get(..meta.len) {
                // `chunks` would leave out an empty one.
                Some([]) => handle(arrival, &[]),
                Some(bytes) => bytes
                    .chunks(meta.stride.max(1))
                    .for_each(|datagram| handle(arrival, datagram)),
                None => {}
            }
        }
        match is_drained {
            true => Ok(()),
            false => received,
        }
    }

    /// Whether there is something to receive; the waker is woken when there is.
    fn is_ready(&self) -> bool {
        let mut context = Context::from_waker(&self.waker);
        matches!(self.io.poll_read_ready(&mut context), Poll::Ready(Ok(_)))
    }

    /// Cuts a run of such segments into what [`send`](Self::send) takes at once.
    pub(super) fn pieces<'a>(
        &self,
        segment_size: usize,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        pieces(&self.state, segment_size, bytes)
    }

    /// Sends datagrams of `segment_size` bytes, but for the last which may be shorter. What the
    /// kernel has no room for is lost.
    ///
    /// # Errors
    /// When an earlier datagram could not be delivered, which is told in place of sending these.
    pub(super) fn send(
        &self,
        from: Option<IpAddr>,
        to: SocketAddr,
        segment_size: usize,
        bytes: &[u8],
    ) -> io::Result<()> {
        let transmit = |transmit: &Transmit<'_>| {
            let socket = UdpSockRef::from(self.io.get_ref());
            self.state.try_send(socket, transmit)
        };
        send_run(transmit, from, to, segment_size, bytes)
    }
}

/// Has the kernel tell with each datagram only what is asked for: not its traffic class, and not which
/// of our addresses it has come to where there is but one.
fn leave_out_details(socket: &UdpSocket) -> io::Result<()> {
    let address = socket.local_addr()?;
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_recvtos(socket, false)?,
        SocketAddr::V6(_) => sockopt::set_ipv6_recvtclass(socket, false)?,
    }
    if !address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &false)?,
            SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &false)?,
        }
    }
    Ok(())
}

/// Cuts a run of such segments into what [`send_run`] takes at once.
pub(super) fn pieces<'a>(
    state: &UdpSocketState,
    segment_size: usize,
    bytes: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let most = segment_size.max(1) * state.max_gso_segments().max(1);
    // `chunks` would leave out an empty datagram.
    let empty = bytes.is_empty().then_some(bytes);
    empty.into_iter().chain(bytes.chunks(most))
}

/// Has `transmit` send datagrams of `segment_size` bytes, but for the last which may be shorter. What
/// the kernel has no room for is lost.
///
/// # Errors
/// When an earlier datagram could not be delivered, which is told in place of sending these.
pub(super) fn send_run(
    transmit: impl Fn(&Transmit<'_>) -> io::Result<()>,
    from: Option<IpAddr>,
    to: SocketAddr,
    segment_size: usize,
    bytes: &[u8],
) -> io::Result<()> {
    let send = |contents: &[u8]| {
        let sent = transmit(&Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: (contents.len() > segment_size).then_some(segment_size),
            src_ip: from,
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    };
    let sent = send(bytes);
    let refused = sent.as_ref().err().and_then(io::Error::raw_os_error);
    if bytes.len() > segment_size && matches!(refused, Some(libc::EMSGSIZE | libc::EINVAL)) {
        // The kernel does not segment what is longer than the path's MTU.
        for datagram in bytes.chunks(segment_size) {
            let _ = send(datagram);
        }
        return Ok(());
    }
    sent
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;
    use confab_sockets::ready::ReadySet;

    #[tokio::test]
    async fn datagrams_longer_than_the_mtu_are_sent_one_by_one() {
        let ready = ReadySet::new();
        let bound = unbound("127.0.0.1:0".parse().unwrap()).unwrap();
        bound
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let socket = DatagramSocket::new(bound.into(), false, ready.add(1)).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = peer.local_addr().unwrap();
        // Together they are more than an IP packet holds.
        let bytes = [vec![1; 40_000], vec![2; 40_000]].concat();
        socket.send(None, to, 40_000, &bytes).unwrap();
        let mut buffer = vec![0; 65_536];
        for n in 1..=2 {
            let len = peer.recv(&mut buffer).unwrap();
            assert!(len == 40_000 && buffer[..len].iter().all(|&b| b == n));
        }
    }
}
