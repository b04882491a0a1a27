//! Who a client is to the server: the five-tuple (RFC 8656 section 2).

use std::net::SocketAddr;

/// How a client reaches the server. TLS is a stream like TCP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// Datagrams, which may be lost, repeated and forged.
    Udp,
    /// TCP, or TLS over it.
    Stream,
}

/// The two ends of a client's path to the server. At any time no two clients have the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Client {
    /// How it comes.
    pub transport: Transport,
    /// The server's address that it comes to.
    pub server: SocketAddr,
    /// The address that it comes from.
    pub address: SocketAddr,
}

impl Client {
    /// Whether it comes over a stream.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.transport == Transport::Stream
    }
}
