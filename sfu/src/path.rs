//! Paths between a worker and its clients: a protocol and an address.
//!
//! An address alone does not say where a packet is from: one client may be on UDP at the address at
//! which another, behind the same NAT, has a TCP connection; and of two connections that have the
//! same address one after the other, the second has to prove itself anew.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use confab_sockets::memory::Relayed;

/// What packets travel over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// Each in a datagram.
    Udp,
    /// Framed in a connection that the client makes (RFC 6544, RFC 4571).
    Tcp,
}

/// A TCP connection. Chosen by `net`; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub u64);

/// The two ends of datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct UdpPair {
    /// The client's address.
    pub remote: SocketAddr,
    /// Which of our addresses it sends to, and must be answered from; none on a socket that has
    /// but one.
    pub local: Option<IpAddr>,
}

/// How a client is reached, and known to come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Path {
    /// Datagrams between two addresses.
    Udp(UdpPair),
    /// A connection.
    Tcp {
        /// Which.
        connection: ConnectionId,
        /// Where it is from.
        address: SocketAddr,
    },
    /// Datagrams to and from a relay address of this process's own TURN server.
    Relayed {
        /// The relay address, behind which the client is.
        relay: SocketAddr,
        /// Which of our addresses the relay sends to.
        media: SocketAddr,
        /// The allocation there: who gets the address next is another client.
        through: Relayed,
    },
}

impl Path {
    /// The client's address, or its relay's.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        match self {
            Path::Udp(pair) => pair.remote,
            Path::Tcp { address, .. } | Path::Relayed { relay: address, .. } => address,
        }
    }

    /// Whether the client is on a TCP connection, as far as is known here: nothing is lost then, but for what
    /// is given up, and all waits for what is late.
    #[must_use]
    pub fn is_of_stream(self) -> bool {
        match self {
            Path::Udp(_) => false,
            Path::Tcp { .. } => true,
            Path::Relayed { through, .. } => through.is_of_stream,
        }
    }

    /// What packets travel over.
    #[must_use]
    pub fn protocol(self) -> Protocol {
        match self {
            Path::Udp(_) | Path::Relayed { .. } => Protocol::Udp,
            Path::Tcp { .. } => Protocol::Tcp,
        }
    }
}

impl From<SocketAddr> for Path {
    fn from(remote: SocketAddr) -> Self {
        Path::Udp(UdpPair {
            remote,
            local: None,
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Udp(UdpPair {
                remote,
                local: None,
            }) => write!(f, "UDP {remote}"),
            Path::Udp(UdpPair {
                remote,
                local: Some(local),
            }) => write!(f, "UDP {remote} at {local}"),
            Path::Tcp { address, .. } => write!(f, "TCP {address}"),
            Path::Relayed { relay, .. } => write!(f, "our relay {relay}"),
        }
    }
}

/// Where clients are told to come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Candidate {
    /// How.
    pub protocol: Protocol,
    /// To which address.
    pub address: SocketAddr,
}

impl Candidate {
    /// For datagrams.
    #[must_use]
    pub fn udp(address: SocketAddr) -> Self {
        Candidate {
            protocol: Protocol::Udp,
            address,
        }
    }

    /// For connections.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Self {
        Candidate {
            protocol: Protocol::Tcp,
            address,
        }
    }
}
