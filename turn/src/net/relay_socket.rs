//! A relay address's socket, which peers send to.
//!
//! In: datagrams, and ICMP errors for those that were sent. Out: datagrams to peers, without
//! fragmentation if the client asked for that.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, Waker};

use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt,
    sockopt::{Ipv4RecvErr, Ipv6RecvErr},
};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use tokio::net::UdpSocket;

use crate::machine::Icmp;

/// Datagrams received before other sockets have their turn.
const BUDGET: usize = 32;

/// Room for the control messages of one error, in bytes: a `sock_extended_err` and an address.
const CONTROL_LEN: usize = 256;

/// What may come between two datagrams to be sent: errors for earlier ones.
const MAX_ERRORS: usize = 8;

/// A bound relay socket.
#[derive(Debug)]
pub(super) struct RelaySocket {
    io: UdpSocket,
    waker: Waker,
}

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
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        match address {
            SocketAddr::V4(_) => {
                setsockopt(&socket, Ipv4RecvErr, &true)?;
                if dont_fragment {
                    sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
                }
            }
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                setsockopt(&socket, Ipv6RecvErr, &true)?;
                if dont_fragment {
                    sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
                }
            }
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(RelaySocket {
            io: UdpSocket::from_std(socket.into())?,
            waker,
        })
    }

    /// Receives what is there, within a budget, and gives it to `handle`. Wakes itself if there may
    /// be more.
    pub(super) fn receive(&self, buffer: &mut [u8], mut handle: impl FnMut(Received<'_>)) {
        for _ in 0..BUDGET {
            match self.io.try_recv_from(buffer) {
                Ok((len, from)) => handle(Received::Datagram(from, &buffer[..len])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut context = Context::from_waker(&self.waker);
                    match self.io.poll_recv_ready(&mut context) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Pending | Poll::Ready(Err(_)) => return,
                    }
                }
                Err(_) => {
                    self.receive_errors(&mut handle);
                }
            }
        }
        self.waker.wake_by_ref();
    }

    /// Sends a datagram. What the kernel does not take is lost, like any datagram.
    pub(super) fn send(
        &self,
        to: SocketAddr,
        payload: &[u8],
        mut handle: impl FnMut(Received<'_>),
    ) {
        for _ in 0..MAX_ERRORS {
            match self.io.try_send_to(payload, to) {
                // An error for an earlier one is told in place of sending this one.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    if !self.receive_errors(&mut handle) {
                        return;
                    }
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Takes ICMP errors from the socket's queue; whether there were any.
    fn receive_errors(&self, handle: &mut impl FnMut(Received<'_>)) -> bool {
        let mut found = false;
        for _ in 0..BUDGET {
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
        let message =
            recvmsg::<SockaddrStorage>(self.io.as_raw_fd(), &mut slices, Some(&mut control), flags);
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
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::net::ready::ReadySet;

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
                socket.io.writable().await.unwrap();
                socket.send(peer, b"hello", |received| {
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
        let to = socket.io.local_addr().unwrap();
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut buffer, mut seen) = ([0; 1500], 0);
        for n in 0..100_usize {
            peer.send_to(&vec![n as u8; n], to).unwrap();
        }
        while seen < 100 {
            assert_eq!(ready.next().await, 1);
            socket.receive(&mut buffer, |received| {
                let Received::Datagram(from, bytes) = received else {
                    panic!("no errors here");
                };
                assert_eq!(from, peer.local_addr().unwrap());
                assert_eq!(bytes, vec![seen as u8; seen]);
                seen += 1;
            });
        }
    }
}
