//! A UDP socket that somebody else reads: the media plane's, where one port is all there is.
//!
//! In: nothing; its datagrams are handed over. Out: runs of datagrams to one client. It is not
//! registered with the runtime, or each packet of a call would wake the relay too.

use std::io;
use std::net::{IpAddr, SocketAddr};

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
        confab_sockets::fragments::allow_fragments(&socket)?;
        Ok(SharedSocket {
            state,
            address: socket.local_addr()?,
            socket,
        })
    }

    /// Whether a client has come to this one. An IPv6 wildcard is for both families here.
    pub(super) fn is_of(&self, client: &Client) -> bool {
        let is_both = self.address.is_ipv6() && self.address.ip().is_unspecified();
        let server = client.server;
        serves(self.address, server) || is_both && server.port() == self.address.port()
    }

    /// Sends a run of datagrams. What the kernel does not take is lost, like any datagram.
    pub(super) fn send(&self, client: &Client, segment_size: usize, bytes: &[u8]) {
        let from = self.address.ip().is_unspecified();
        let from = from.then(|| self.disguised(client.server.ip()));
        let to = SocketAddr::new(self.disguised(client.address.ip()), client.address.port());
        let transmit = |transmit: &Transmit<'_>| {
            let socket = UdpSockRef::from(&self.socket);
            self.state.try_send(socket, transmit)
        };
        for bytes in datagram::pieces(&self.state, segment_size, bytes) {
            let _ = datagram::send_run(transmit, from, to, segment_size, bytes);
        }
    }

    /// An address as this socket has it: one of IPv6 knows those of IPv4 in disguise (RFC 4291 section
    /// 2.5.5.2).
    fn disguised(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) if self.address.is_ipv6() => ip.to_ipv6_mapped().into(),
            ip => ip,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::client::Transport;

    #[test]
    fn a_socket_for_both_families_answers_each() {
        let bound = UdpSocket::bind("[::]:0").unwrap();
        bound.set_nonblocking(true).unwrap();
        let port = bound.local_addr().unwrap().port();
        let shared = SharedSocket::new(bound).unwrap();
        for ip in ["127.0.0.1", "::1"] {
            let peer = UdpSocket::bind((ip, 0)).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let client = Client {
                transport: Transport::Udp,
                server: SocketAddr::new(ip.parse().unwrap(), port),
                address: peer.local_addr().unwrap(),
            };
            assert!(shared.is_of(&client));
            shared.send(&client, 4, b"pong");
            let mut buffer = [0; 8];
            let (len, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&b"pong"[..], client.server));
        }
    }
}
