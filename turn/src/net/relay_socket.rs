//! A relay address's socket, which peers send to.
//!
//! In: datagrams, and ICMP errors for those that were sent. Out: datagrams to peers, without
//! fragmentation if the client asked for that.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::task::Waker;

use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
    sockopt::{Ipv4RecvErr, Ipv6RecvErr},
};

use confab_sockets::batch::Message;
use confab_sockets::udp::{Buffers, Sender, unbound};

use super::datagram::DatagramSocket;
use crate::machine::Icmp;

/// Errors taken at once.
const MAX_ERRORS: usize = 32;

/// Room for the control messages of one error, in bytes: a `sock_extended_err` and an address.
const CONTROL_LEN: usize = 256;

/// How often a send is tried: each time, an error for an earlier one may be told instead.
const MAX_ATTEMPTS: usize = 4;

/// A bound relay socket.
#[derive(Debug)]
pub(super) struct RelaySocket(DatagramSocket);

/// What a relay socket has received.
pub(super) enum Received<'a> {
    /// A datagram of a peer.
    Datagram(SocketAddr, &'a [u8]),
    /// An ICMP error for a datagram to a peer.
    Error(SocketAddr, Icmp),
}

impl RelaySocket {
    /// Binds a socket; within a tokio runtime. `waker` is woken when there is something to receive.
    pub(super) fn bind(address: SocketAddr, dont_fragment: bool, waker: Waker) -> io::Result<Self> {
        let socket = unbound(address, false)?;
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, Ipv4RecvErr, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, Ipv6RecvErr, &true)?,
        }
        socket.bind(&address.into())?;
        let socket = DatagramSocket::new(socket.into(), dont_fragment, waker)?;
        Ok(RelaySocket(socket))
    }

    /// Receives what is there, up to one batch.
    pub(super) fn receive(&self, buffers: &mut Buffers, mut handle: impl FnMut(Received<'_>)) {
        let received = self.0.receive(buffers, |arrival, datagram| {
            handle(Received::Datagram(arrival.from, datagram));
        });
        if received.is_err() {
            self.receive_errors(&mut handle);
        }
    }

    /// Sends datagrams of `segment_size` bytes, but for the last which may be shorter. What the
    /// kernel does not take is lost, like any datagram.
    pub(super) fn send(
        &self,
        sender: &mut Sender,
        to: SocketAddr,
        segment_size: usize,
        bytes: &[u8],
        mut handle: impl FnMut(Received<'_>),
    ) {
        let message = Message {
            to,
            from: None,
            segment_size,
            bytes,
        };
        let mut attempts = 0;
        let try_again = |error: &io::Error| {
            attempts += 1;
            let may_be_of_another = error.kind() != io::ErrorKind::WouldBlock;
            attempts < MAX_ATTEMPTS && may_be_of_another && self.receive_errors(&mut handle)
        };
        let only = |index| (index == 0).then_some(message);
        sender.send(self.0.get_ref(), only, try_again, |_, _| {});
    }

    /// Takes ICMP errors from the socket's queue; whether there were any.
    fn receive_errors(&self, handle: &mut impl FnMut(Received<'_>)) -> bool {
        let mut found = false;
        for _ in 0..MAX_ERRORS {
            let Some(error) = self.receive_error() else {
                break;
            };
            found = true;
            if let Some((peer, icmp)) = error {
                handle(Received::Error(peer, icmp));
            }
        }
        found
    }

    /// The next error in the queue; it may be none of ICMP's.
    fn receive_error(&self) -> Option<Option<(SocketAddr, Icmp)>> {
        let (mut payload, mut control) = ([0; 1], [0; CONTROL_LEN]);
        let mut slices = [IoSliceMut::new(&mut payload)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(
            self.0.get_ref().as_raw_fd(),
            &mut slices,
            Some(&mut control),
            flags,
        );
        let message = message.ok()?;
        // Where the datagram was to go.
        let peer = message.address.and_then(|address| {
            let v4 = address
                .as_sockaddr_in()
                .map(|v4| SocketAddr::V4((*v4).into()));
            v4.or_else(|| {
                address
                    .as_sockaddr_in6()
                    .map(|v6| SocketAddr::V6((*v6).into()))
            })
        });
        let error = message.cmsgs().ok()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(error, _) => Some(error),
            ControlMessageOwned::Ipv6RecvErr(error, _) => Some(error),
            _ => None,
        });
        let icmp = error.and_then(|error| {
            let exceeds_mtu = match error.ee_origin {
                SO_EE_ORIGIN_ICMP => (error.ee_type, error.ee_code) == (3, 4),
                SO_EE_ORIGIN_ICMP6 => error.ee_type == 2,
                _ => return None,
            };
            Some(Icmp {
                kind: error.ee_type,
                code: error.ee_code,
                mtu: if exceeds_mtu { error.ee_info } else { 0 },
            })
        });
        Some(peer.zip(icmp))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use std::time::Duration;

    use tokio::net::UdpSocket;

    use super::*;
    use confab_sockets::ready::ReadySet;

    #[tokio::test]
    async fn a_closed_port_is_reported_with_its_address() {
        let ready = ReadySet::new();
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let closed = std::net::UdpSocket::bind(loopback).unwrap();
            let peer = closed.local_addr().unwrap();
            drop(closed);
            let address = loopback.parse().unwrap();
            let socket = RelaySocket::bind(address, true, ready.add(0)).unwrap();
            let mut errors = Vec::new();
            for _ in 0..3 {
                socket.send(&mut Sender::default(), peer, 5, b"hello", |received| {
                    if let Received::Error(peer, icmp) = received {
                        errors.push((peer, icmp.kind, icmp.code, icmp.mtu));
                    }
                });
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let (kind, code) = if peer.is_ipv4() { (3, 3) } else { (1, 4) };
            assert_eq!(errors, [(peer, kind, code, 0); 2]);
        }
    }

    #[tokio::test]
    async fn everything_that_came_is_received() {
        let ready = ReadySet::new();
        let address = "127.0.0.1:0".parse().unwrap();
        let socket = RelaySocket::bind(address, false, ready.add(1)).unwrap();
        let to = socket.0.get_ref().local_addr().unwrap();
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut buffers, mut seen) = (Buffers::default(), 0);
        for n in 0..100_usize {
            peer.send_to(&vec![n as u8; n], to).unwrap();
        }
        while seen < 100 {
            assert_eq!(ready.next().await, 1);
            socket.receive(&mut buffers, |received| {
                let Received::Datagram(from, bytes) = received else {
                    panic!("no errors here");
                };
                assert_eq!(from, peer.local_addr().unwrap());
                assert_eq!(bytes, vec![seen as u8; seen]);
                seen += 1;
            });
        }
    }

    #[tokio::test]
    async fn a_run_arrives_as_the_datagrams_it_is() {
        let ready = ReadySet::new();
        let address = "127.0.0.1:0".parse().unwrap();
        let socket = RelaySocket::bind(address, false, ready.add(1)).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let bytes: Vec<u8> = (0..150_u32).map(|n| n as u8 / 10).collect();
        let to = peer.local_addr().unwrap();
        let sender = &mut Sender::default();
        socket.send(sender, to, 10, &bytes[..145], |_| panic!("no errors here"));
        let mut buffer = [0; 100];
        for n in 0..15 {
            let len = peer.recv(&mut buffer).await.unwrap();
            assert_eq!(buffer[..len], vec![n; if n == 14 { 5 } else { 10 }]);
        }
    }
}
