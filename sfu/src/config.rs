//! The settings of the media plane, and the bounds it keeps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::path::Candidate;

/// Most peers on one worker. At 20 packets a second and direction, the least a call sends, this is
/// the packet rate one core can do at all.
pub const DEFAULT_MAX_PEERS: usize = 5_000;

/// The first worker's UDP port when nothing is configured.
pub const DEFAULT_PORT: u16 = 7000;

/// Where TCP connections with media are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TcpPort {
    /// On the port that UDP has.
    #[default]
    AsUdp,
    /// From this port upward.
    From(u16),
    /// Nowhere.
    Off,
}

/// How the media plane is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many workers, at least 1.
    pub workers: usize,
    /// The address the media sockets are bound to. An IPv6 wildcard takes both families.
    pub listen: IpAddr,
    /// The first worker's UDP port; the others follow upward.
    pub port: u16,
    /// The first worker's TCP port; the others follow upward.
    pub tcp_port: TcpPort,
    /// Where somebody else accepts connections, and hands those with media over
    /// ([`crate::net::tcp_dispatcher::TcpDispatcher`]). Clients are told of these addresses too.
    pub shared_tcp: Vec<SocketAddr>,
    /// The addresses told to clients. When empty, the address listened on.
    pub public_ips: Vec<IpAddr>,
    /// What is told in place of a wildcard address: this machine's own addresses, the best first.
    pub own_ips: Vec<IpAddr>,
    /// Most peers on one worker; an offer over it is refused as `overloaded`.
    pub max_peers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: DEFAULT_PORT,
            tcp_port: TcpPort::AsUdp,
            shared_tcp: Vec::new(),
            public_ips: Vec::new(),
            own_ips: Vec::new(),
            max_peers: DEFAULT_MAX_PEERS,
        }
    }
}

impl Config {
    /// Where one worker's socket is bound.
    #[must_use]
    pub fn bind_address(&self, worker: usize) -> SocketAddr {
        SocketAddr::new(self.listen, nth_port(self.port, worker))
    }

    /// Where one worker accepts connections, if it does; its socket is bound to `udp`.
    #[must_use]
    pub fn tcp_bind_address(&self, worker: usize, udp: SocketAddr) -> Option<SocketAddr> {
        let port = match self.tcp_port {
            TcpPort::AsUdp => udp.port(),
            TcpPort::From(first) => nth_port(first, worker),
            TcpPort::Off => return None,
        };
        Some(SocketAddr::new(self.listen, port))
    }

    /// What a client is told of a worker bound to these addresses: where datagrams can be sent to
    /// comes first.
    #[must_use]
    pub fn candidates(&self, udp: SocketAddr, tcp: Option<SocketAddr>) -> Vec<Candidate> {
        let udp = self.public(udp).into_iter().map(Candidate::udp);
        let tcp = tcp.map(|bound| self.public(bound)).unwrap_or_default();
        let shared = self
            .shared_tcp
            .iter()
            .flat_map(|&at| self.public_shared(at));
        let tcp = tcp.into_iter().chain(shared).map(Candidate::tcp);
        udp.chain(tcp).collect()
    }

    /// How clients reach a dispatcher that is not ours, and takes connections of its own family alone.
    fn public_shared(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        let is_reached = |ip: &SocketAddr| ip.is_ipv4() == bound.is_ipv4();
        let is_any = bound.ip().is_unspecified() && !self.listen.is_unspecified();
        match self.public_ips.is_empty() && is_any {
            true => vec![SocketAddr::new(self.listen, bound.port())],
            false => self.public(bound),
        }
        .into_iter()
        .filter(is_reached)
        .collect()
    }

    fn public(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        let ips = match (&self.public_ips[..], bound.ip().is_unspecified()) {
            ([], false) => return vec![bound],
            ([], true) => self.own_ips.iter(),
            (public, _) => public.iter(),
        };
        let takes_both = bound.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        ips.filter(|ip| {
            takes_both || !self.public_ips.is_empty() || ip.is_ipv4() == bound.is_ipv4()
        })
        .map(|&ip| SocketAddr::new(ip, bound.port()))
        .collect()
    }
}

/// Port 0 asks the system for any free port, for every worker.
fn nth_port(first: u16, worker: usize) -> u16 {
    match first {
        0 => 0,
        first => first.saturating_add(u16::try_from(worker).unwrap_or(u16::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Protocol;

    #[test]
    fn every_worker_has_its_own_port_and_clients_hear_of_the_public_addresses() {
        let mut config = Config {
            port: 7000,
            ..Config::default()
        };
        let bound = config.bind_address(2);
        assert_eq!(bound, "127.0.0.1:7002".parse().expect("an address"));
        assert_eq!(config.candidates(bound, None), [Candidate::udp(bound)]);
        assert_eq!(config.tcp_bind_address(2, bound), Some(bound));
        config.tcp_port = TcpPort::Off;
        assert_eq!(config.tcp_bind_address(2, bound), None);
        config.tcp_port = TcpPort::From(4430);
        let tcp = config.tcp_bind_address(2, bound).expect("it is on");
        assert_eq!(tcp, "127.0.0.1:4432".parse().expect("an address"));
        config.public_ips = vec!["192.0.2.1".parse().expect("an address")];
        assert_eq!(
            config.candidates(bound, Some(tcp)),
            [
                Candidate::udp("192.0.2.1:7002".parse().expect("an address")),
                Candidate::tcp("192.0.2.1:4432".parse().expect("an address")),
            ]
        );
    }

    #[test]
    fn in_place_of_a_wildcard_clients_hear_of_this_machines_addresses() {
        let own = ["192.0.2.1", "2001:db8::1", "10.0.0.5"];
        for (listen, public, expected) in [
            ("0.0.0.0", &[][..], &["192.0.2.1:7000", "10.0.0.5:7000"][..]),
            (
                "::",
                &[],
                &["192.0.2.1:7000", "[2001:db8::1]:7000", "10.0.0.5:7000"],
            ),
            ("0.0.0.0", &["203.0.113.7"], &["203.0.113.7:7000"]),
            ("10.0.0.5", &[], &["10.0.0.5:7000"]),
        ] {
            let ips = |ips: &[&str]| -> Vec<IpAddr> {
                ips.iter()
                    .map(|ip| ip.parse().expect("an address"))
                    .collect()
            };
            let config = Config {
                listen: listen.parse().expect("an address"),
                own_ips: ips(&own),
                public_ips: ips(public),
                ..Config::default()
            };
            let bound = config.bind_address(0);
            for (protocol, tcp) in [(Protocol::Udp, None), (Protocol::Tcp, Some(bound))] {
                let told = config.candidates(bound, tcp).into_iter();
                let told = told.filter(|c| c.protocol == protocol);
                let told: Vec<String> = told.map(|c| c.address.to_string()).collect();
                assert_eq!(told, expected, "{listen}");
            }
        }
    }

    #[test]
    fn clients_hear_of_a_shared_door_as_it_is_reached_from_outside() {
        let bound: SocketAddr = "10.0.0.5:7000".parse().expect("an address");
        for (public_ips, shared, expected) in [
            (&[][..], "10.0.0.6:443", &["10.0.0.6:443"][..]),
            (&[], "0.0.0.0:443", &["10.0.0.5:443"]),
            (&[], "[::]:443", &[]),
            (
                &["192.0.2.1", "2001:db8::1"],
                "0.0.0.0:443",
                &["192.0.2.1:443"],
            ),
            (
                &["192.0.2.1", "2001:db8::1"],
                "[::]:443",
                &["[2001:db8::1]:443"],
            ),
        ] {
            let config = Config {
                listen: bound.ip(),
                shared_tcp: vec![shared.parse().expect("an address")],
                public_ips: public_ips
                    .iter()
                    .map(|ip| ip.parse().expect("an address"))
                    .collect(),
                ..Config::default()
            };
            let told = config.candidates(bound, None).into_iter();
            let told = told.filter(|c| c.protocol == Protocol::Tcp);
            let told: Vec<String> = told.map(|c| c.address.to_string()).collect();
            assert_eq!(told, expected, "{shared}");
        }
    }
}
