//! The UDP sockets that clients send to.
//!
//! In: datagrams, each with who has sent it. Out: runs of datagrams to one client, from the address
//! that it knows.

use std::io;
use std::net::SocketAddr;
use std::task::Waker;

use confab_sockets::runs::Runs;
use confab_sockets::udp::{Buffers, Sender};

use super::datagram::DatagramSocket;
use super::shared::send;
use crate::client::{Client, Transport};

/// A listening UDP socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: DatagramSocket,
    address: SocketAddr,
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
    pub(super) fn receive(&self, buffers: &mut Buffers, mut handle: impl FnMut(&Client, &[u8])) {
        let received = self.socket.receive(buffers, |arrival, datagram| {
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

    /// Sends runs from the one with the number `first` on, up to the next that is not for a client of this
    /// one; returns that one's number.
    pub(super) fn send(&self, sender: &mut Sender, runs: &Runs<Client>, first: usize) -> usize {
        let socket = self.socket.get_ref();
        send(sender, socket, self.address, runs, first, |client| {
            self.is_of(client)
        })
    }
}

/// Whether what is sent to an address comes to a socket that is bound like this.
pub(super) fn serves(bound: SocketAddr, address: SocketAddr) -> bool {
    let is_same = bound.ip() == address.ip() || bound.ip().is_unspecified();
    is_same && bound.port() == address.port() && bound.is_ipv4() == address.is_ipv4()
}
