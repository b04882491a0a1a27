//! A worker's UDP socket: datagrams in and out in batches.
//!
//! `quinn-udp` receives many datagrams a call (and several coalesced into one buffer, GRO) and sends
//! a run of equal datagrams in one (GSO), where the kernel can.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::outbox::Run;

/// Kernel buffer asked for in each direction, in bytes: 50 ms of a gigabit, so that a burst to or
/// from many peers is not lost while the worker does something else. The system may give less
/// (`net.core.rmem_max`, `net.core.wmem_max`).
pub const SOCKET_BUFFER: usize = 6 * 1024 * 1024;

/// Room for one receive, in bytes: what GRO can coalesce.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// A bound socket.
#[derive(Debug)]
pub struct Socket {
    io: UdpSocket,
    address: SocketAddr,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
}

/// What one send did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// It is the kernel's now.
    Done,
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
    pub fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        if address.is_ipv6() {
            // An IPv4 wildcard has a socket of its own.
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
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
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
    pub async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Waits until there is room to send.
    ///
    /// # Errors
    /// When the runtime is stopping.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Receives what is there, up to one batch, and gives each datagram to `handle`, with the address it
    /// is from and ours that it was sent to. Returns whether there may be more.
    pub fn receive(&mut self, mut handle: impl FnMut(SocketAddr, SocketAddr, &mut [u8])) -> bool {
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
            let mut to = self.address;
            if let Some(ip) = meta.dst_ip.filter(|_| to.ip().is_unspecified()) {
                to.set_ip(ip);
            }
            for datagram in bytes.chunks_mut(meta.stride.max(1)) {
                handle(meta.addr, to, datagram);
            }
        }
        count == self.metas.len()
    }

    /// Sends a run of datagrams.
    pub fn send(&self, run: &Run, bytes: &[u8]) -> Sent {
        let segments = bytes.len().div_ceil(run.segment_size.max(1));
        let max = self.state.max_gso_segments().max(1);
        if segments > max {
            // No offload here, or a run longer than it takes.
            for chunk in bytes.chunks(run.segment_size * max) {
                match self.send_one(run, chunk) {
                    Sent::Done => {}
                    other => return other,
                }
            }
            return Sent::Done;
        }
        self.send_one(run, bytes)
    }

    fn send_one(&self, run: &Run, contents: &[u8]) -> Sent {
        let transmit = Transmit {
            destination: run.destination.address(),
            ecn: None,
            contents,
            segment_size: (contents.len() > run.segment_size).then_some(run.segment_size),
            src_ip: None,
        };
        let sent = self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send(UdpSockRef::from(&self.io), &transmit)
        });
        match sent {
            Ok(()) => Sent::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
            Err(_) => Sent::Failed,
        }
    }
}
