//! The settings of the media plane, and the bounds it keeps.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Most peers on one worker. At 20 packets a second and direction, the least a call sends, this is
/// the packet rate one core can do at all.
pub const DEFAULT_MAX_PEERS: usize = 5_000;

/// The first worker's UDP port when nothing is configured.
pub const DEFAULT_PORT: u16 = 7000;

/// How the media plane is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many workers, at least 1.
    pub workers: usize,
    /// The address the media sockets are bound to.
    pub listen: IpAddr,
    /// The first worker's UDP port; the others follow upward.
    pub port: u16,
    /// The addresses told to clients. When empty, the address listened on.
    pub public_ips: Vec<IpAddr>,
    /// Most peers on one worker; an offer over it is refused as `overloaded`.
    pub max_peers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: DEFAULT_PORT,
            public_ips: Vec::new(),
            max_peers: DEFAULT_MAX_PEERS,
        }
    }
}

impl Config {
    /// Where one worker's socket is bound.
    #[must_use]
    pub fn bind_address(&self, worker: usize) -> SocketAddr {
        // Port 0 asks the system for any free port, for every worker.
        let port = match self.port {
            0 => 0,
            first => first.saturating_add(u16::try_from(worker).unwrap_or(u16::MAX)),
        };
        SocketAddr::new(self.listen, port)
    }

    /// The addresses a client is told for a worker bound to `bound`.
    #[must_use]
    pub fn candidates(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        if self.public_ips.is_empty() {
            return vec![bound];
        }
        self.public_ips
            .iter()
            .map(|&ip| SocketAddr::new(ip, bound.port()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_its_own_port_and_clients_hear_of_the_public_addresses() {
        let mut config = Config {
            port: 7000,
            ..Config::default()
        };
        let bound = config.bind_address(2);
        assert_eq!(bound, "127.0.0.1:7002".parse().expect("an address"));
        assert_eq!(config.candidates(bound), [bound]);
        config.public_ips = vec!["192.0.2.1".parse().expect("an address")];
        assert_eq!(
            config.candidates(bound),
            ["192.0.2.1:7002".parse().expect("an address")]
        );
    }
}
