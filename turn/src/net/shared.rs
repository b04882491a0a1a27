//! A UDP socket that somebody else reads: the media plane's, where one port is all there is.
//!
//! In: nothing; its datagrams are handed over. Out: runs of datagrams to one client. It is not
//! registered with the runtime, or each packet of a call would wake the relay too.

use std::io;
use std::net::SocketAddr;

use confab_sockets::batch::Message;
use confab_sockets::runs::Runs;
use confab_sockets::udp::{Sender, disguised};

use super::listener::serves;
use crate::client::Client;

/// A socket to send from.
#[derive(Debug)]
pub(super) struct SharedSocket {
    socket: std::net::UdpSocket,
    address: SocketAddr,
}

impl SharedSocket {
    /// Takes a handle to a bound socket that does not block.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        // A relayed datagram may be longer than the path's MTU; and the media plane, whose socket it is,
        // wants it so too.
        confab_sockets::fragments::allow_fragments(&socket)?;
        Ok(SharedSocket {
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

    /// Sends runs from the one with the number `first` on, up to the next that is not for a client of this
    /// one; returns that one's number.
    pub(super) fn send(&self, sender: &mut Sender, runs: &Runs<Client>, first: usize) -> usize {
        send(sender, &self.socket, self.address, runs, first, |client| {
            self.is_of(client)
        })
    }
}

/// Sends runs from the one with the number `first` on, up to the next that is not for a client of this
/// socket, each from the address that its client knows; returns that one's number. What the kernel does not
/// take is lost, like any datagram.
pub(super) fn send(
    sender: &mut Sender,
    socket: &std::net::UdpSocket,
    bound: SocketAddr,
    runs: &Runs<Client>,
    first: usize,
    is_of: impl Fn(&Client) -> bool,
) -> usize {
    let message = |index| {
        let (run, bytes) = runs.get(first + index)?;
        let client = Some(&run.destination).filter(|client| is_of(client))?;
        let from = disguised(bound, client.server.ip());
        let to = disguised(bound, client.address.ip());
        Some(Message {
            to: SocketAddr::new(to, client.address.port()),
            from: bound.ip().is_unspecified().then_some(from),
            segment_size: run.segment_size,
            bytes,
        })
    };
    let mut next = first;
    sender.send(
        socket,
        message,
        |_| false,
        |range, _| {
            next = first + range.end;
        },
    );
    next
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
            let mut runs = Runs::default();
            runs.append(|buffer| {
                buffer.extend_from_slice(b"pong");
                Some(client)
            });
            assert_eq!(shared.send(&mut Sender::default(), &runs, 0), 1);
            let mut buffer = [0; 8];
            let (len, from) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&b"pong"[..], client.server));
        }
    }
}
