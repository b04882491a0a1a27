//! The UDP sockets that clients send to.
//!
//! In: datagrams, each with who has sent it. Out: runs of datagrams to one client, from the address
//! that it knows.

use std::io;
use std::net::SocketAddr;
use std::task::Waker;

use super::datagram::{self, Batch, DatagramSocket};
use crate::client::{Client, Transport};

/// Kernel buffer asked for in each direction, in bytes: 50 ms of a gigabit. The system may give less
/// (`net.core.rmem_max`, `net.core.wmem_max`).
const SOCKET_BUFFER: usize = 6 * 1024 * 1024;

/// A listening UDP socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: DatagramSocket,
    address: SocketAddr,
}

/// Binds a UDP socket that clients send to.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = datagram::unbound(address)?;
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
        let address = socket.local_addr()?;
        Ok(Listener {
            // A relayed datagram may be longer than the path's MTU.
            socket: DatagramSocket::new(socket, false, waker)?,
            address,
        })
    }

    /// Whether a client has come to this one.
    pub(super) fn is_of(&self, client: &Client) -> bool {
        serves(self.address, client.server)
    }

    /// Receives what is there, up to one batch.
    pub(super) fn receive(&self, batch: &mut Batch, mut handle: impl FnMut(&Client, &[u8])) {
        let received = self.socket.receive(batch, |arrival, datagram| {
            let ip = arrival.to.unwrap_or(self.address.ip());
            let client = Client {
                transport: Transport::Udp,
                server: SocketAddr::new(ip, self.address.port()),
                address: arrival.from,
            };
            handle(&client, datagram);
        });
        // An answer that has met a closed port is no concern of ours.
        drop(received);
    }

    /// Sends a run of datagrams. What the kernel does not take is lost, like any datagram.
    pub(super) fn send(&self, client: &Client, segment_size: usize, bytes: &[u8]) {
        let from = self.address.ip().is_unspecified();
        let from = from.then_some(client.server.ip());
        for bytes in self.socket.pieces(segment_size, bytes) {
            let _ = self.socket.send(from, client.address, segment_size, bytes);
        }
    }
}

/// Whether what is sent to an address comes to a socket that is bound like this.
pub(super) fn serves(bound: SocketAddr, address: SocketAddr) -> bool {
    let is_same = bound.ip() == address.ip() || bound.ip().is_unspecified();
    is_same && bound.port() == address.port() && bound.is_ipv4() == address.is_ipv4()
}
