//! A UDP socket that somebody else reads: the media plane's, where one port is all there is.
//!
//! In: nothing; its datagrams are handed over. Out: runs of datagrams to one client. It is not
//! registered with the runtime, or each packet of a call would wake the relay too.

use std::io;
use std::net::SocketAddr;

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

use super::datagram;
use super::listener::serves;
use crate::client::Client;

/// A socket to send from.
#[derive(Debug)]
pub(super) struct SharedSocket {
    socket: std::net::UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
}

impl SharedSocket {
    /// Takes a handle to a bound socket that does not block.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // A relayed datagram may be longer than the path's MTU; and the media plane, whose socket it is,
        // wants it so too.
        confab_sockets::allow_fragments(&socket)?;
        Ok(SharedSocket {
            state,
            address: socket.local_addr()?,
            socket,
        })
    }

    /// Whether a client has come to this one.
    pub(super) fn is_of(&self, client: &Client) -> bool {
        serves(self.address, client.server)
    }

    /// Sends a run of datagrams. What the kernel does not take is lost, like any datagram.
    pub(super) fn send(&self, client: &Client, segment_size: usize, bytes: &[u8]) {
        let from = self.address.ip().is_unspecified();
        let from = from.then_some(client.server.ip());
        let transmit = |transmit: &Transmit<'_>| {
            let socket = UdpSockRef::from(&self.socket);
            self.state.try_send(socket, transmit)
        };
        for bytes in datagram::pieces(&self.state, segment_size, bytes) {
            let _ = datagram::send_run(transmit, from, client.address, segment_size, bytes);
        }
    }
}
