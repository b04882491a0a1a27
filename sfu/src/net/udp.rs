//! A worker's UDP socket: datagrams in and out in batches, each of a pair of addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use confab_sockets::batch::Message;
use confab_sockets::fragments;
use confab_sockets::runs::Runs;
use confab_sockets::udp::{self, Buffers, Sender, Sent, disguised};

use crate::path::{Path, UdpPair};
use crate::send::outbox::Destination;

#[derive(Debug)]
pub(crate) struct Socket {
    io: udp::Socket,
    address: SocketAddr,
    buffers: Buffers,
    sender: Sender,
}

impl Socket {
    /// Takes a bound socket over; within a tokio runtime.
    ///
    /// # Errors
    /// When the runtime or the kernel refuses it.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Socket {
            address: socket.local_addr()?,
            io: udp::Socket::new(socket, false)?,
            buffers: Buffers::default(),
            sender: Sender::default(),
        })
    }

    /// Waits until there is something to receive.
    ///
    /// # Errors
    /// When the runtime is stopping.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Receives what is there, up to one batch, and gives each datagram to `handle`, with its ends and
    /// our address that it was sent to. Returns whether there may be more.
    pub(crate) fn receive(
        &mut self,
        mut handle: impl FnMut(UdpPair, SocketAddr, &mut [u8]),
    ) -> bool {
        let bound = self.address;
        let received = self.io.receive(&mut self.buffers, |arrival, datagram| {
            // A socket for both families has IPv4 addresses in disguise.
            let local = arrival.to.filter(|_| bound.ip().is_unspecified());
            let pair = UdpPair {
                remote: SocketAddr::new(arrival.from.ip().to_canonical(), arrival.from.port()),
                local: local.map(|ip| ip.to_canonical()),
            };
            let to = SocketAddr::new(pair.local.unwrap_or(bound.ip()), bound.port());
            // An empty one is of no protocol.
            if !datagram.is_empty() {
                handle(pair, to, datagram);
            }
        });
        // An ICMP error of an earlier send is reported here too, and means nothing to us.
        received.unwrap_or(true)
    }

    /// The largest IP packet in bytes that reaches an address whole, as far as the kernel knows.
    ///
    /// # Errors
    /// When there is no route.
    pub(crate) fn path_mtu(&self, to: SocketAddr) -> io::Result<usize> {
        fragments::path_mtu(self.address.ip(), to)
    }

    /// Sends runs from the one with the number `first` on, up to the next that goes another way than over
    /// UDP, each from the address of ours that the client knows. When the kernel's buffer is full it waits
    /// for room: to drop here would only move the loss. Tells `handle_sent` of how many in a row what has
    /// become.
    pub(crate) fn send(
        &mut self,
        runs: &Runs<Destination>,
        first: usize,
        mut handle_sent: impl FnMut(Range<usize>, Sent),
    ) {
        let bound = self.address;
        let disguised = |ip: IpAddr| disguised(bound, ip);
        let message = |index| {
            let (run, bytes) = runs.get(first + index)?;
            let Path::Udp(pair) = run.destination.path else {
                return None;
            };
            Some(Message {
                to: SocketAddr::new(disguised(pair.remote.ip()), pair.remote.port()),
                from: pair.local.map(disguised),
                segment_size: run.segment_size,
                bytes,
            })
        };
        let socket = self.io.get_ref();
        let wait = |error: &io::Error| {
            let is_full = error.kind() == io::ErrorKind::WouldBlock;
            if is_full {
                udp::wait_for_room(socket);
            }
            is_full
        };
        self.sender.send(socket, message, wait, |range, sent| {
            handle_sent(first + range.start..first + range.end, sent);
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use std::time::Duration;

    use tokio::net::UdpSocket;

    use super::*;

    /// Sends datagrams of so many bytes, and returns what has become of them.
    fn send(socket: &mut Socket, pair: UdpPair, len: usize, bytes: &[u8]) -> Sent {
        let mut runs = Runs::default();
        for datagram in bytes.chunks(len) {
            let destination = Destination {
                path: Path::Udp(pair),
                is_picture: false,
            };
            runs.push(destination, len, |buffer| {
                buffer.copy_from_slice(datagram);
                Some(len)
            });
        }
        let mut fates = Vec::new();
        socket.send(&runs, 0, |range, sent| {
            fates.extend(range.map(|_| sent));
        });
        fates[0]
    }

    /// What a socket that is bound to a wildcard answers to a client that sends to each of these
    /// addresses, and from where.
    async fn answers(wildcard: &str, places: &[&str]) {
        let bound = udp::bind(wildcard.parse().unwrap(), true).unwrap();
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
            assert_eq!(send(&mut socket, pair, 4, b"pongpong"), Sent::Done);
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
