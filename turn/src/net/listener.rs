//! The UDP sockets that clients send to: datagrams in and out in batches.
//!
//! `quinn-udp` receives many datagrams a call (and several coalesced into one buffer, GRO) and sends
//! a run of equal datagrams in one (GSO), where the kernel can. It also tells which of our addresses a
//! datagram came to, so that the answer comes from there.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::outbox::Run;
use crate::client::{Client, Transport};

/// Kernel buffer asked for in each direction, in bytes: 50 ms of a gigabit. The system may give less
/// (`net.core.rmem_max`, `net.core.wmem_max`).
const SOCKET_BUFFER: usize = 6 * 1024 * 1024;

/// Room for one receive, in bytes: what GRO can coalesce.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// A listening UDP socket.
#[derive(Debug)]
pub(super) struct Listener {
    io: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
    waker: Waker,
}

/// Room for what one receive brings; one serves all listeners.
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

/// Binds a UDP socket that clients send to.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // Less than asked for is no reason not to start.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl Listener {
    /// Takes a bound socket over; within a tokio runtime. `waker` is woken when there is something
    /// to receive.
    pub(super) fn new(socket: std::net::UdpSocket, waker: Waker) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let address = socket.local_addr()?;
        // `quinn-udp` forbids fragmentation; a relayed datagram may be longer than the path's MTU.
        let fragmented = match address {
            SocketAddr::V4(_) => sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::WANT),
            SocketAddr::V6(_) => {
                sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::WANT)
            }
        };
        fragmented?;
        Ok(Listener {
            io: UdpSocket::from_std(socket)?,
            state,
            address,
            waker,
        })
    }

    /// The address it is bound to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Receives what is there, up to one batch, and gives each datagram to `handle`. Wakes itself
    /// if there may be more.
    pub(super) fn receive(&self, batch: &mut Batch, mut handle: impl FnMut(&Client, &[u8])) {
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(&mut []));
        for (slice, buffer) in slices.iter_mut().zip(&mut batch.buffers) {
            *slice = IoSliceMut::new(buffer);
        }
        let received = self.io.try_io(Interest::READABLE, || {
            self.state
                .recv(UdpSockRef::from(&self.io), &mut slices, &mut batch.metas)
        });
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut context = Context::from_waker(&self.waker);
                if let Poll::Ready(Ok(())) = self.io.poll_recv_ready(&mut context) {
                    self.waker.wake_by_ref();
                }
                return;
            }
            // An earlier answer met a closed port; the socket itself is well.
            Err(_) => 0,
        };
        for (meta, buffer) in batch.metas.iter().zip(&batch.buffers).take(count) {
            let Some(bytes) = buffer.get(..meta.len) else {
                continue;
            };
            let client = Client {
                transport: Transport::Udp,
                server: SocketAddr::new(
                    meta.dst_ip.unwrap_or(self.address.ip()),
                    self.address.port(),
                ),
                address: meta.addr,
            };
            for datagram in bytes.chunks(meta.stride.max(1)) {
                handle(&client, datagram);
            }
        }
        self.waker.wake_by_ref();
    }

    /// Sends a run of datagrams. What the kernel does not take is lost, like any datagram.
    pub(super) fn send(&self, run: &Run, bytes: &[u8]) {
        let most = run.segment_size * self.state.max_gso_segments().max(1);
        for contents in bytes.chunks(most) {
            let transmit = Transmit {
                destination: run.client.address,
                ecn: None,
                contents,
                segment_size: (contents.len() > run.segment_size).then_some(run.segment_size),
                src_ip: self
                    .address
                    .ip()
                    .is_unspecified()
                    .then_some(run.client.server.ip()),
            };
            let _ = self.io.try_io(Interest::WRITABLE, || {
                self.state.try_send(UdpSockRef::from(&self.io), &transmit)
            });
        }
    }
}
