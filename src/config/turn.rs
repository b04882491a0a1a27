//! The relay's settings.
//!
//! In: what people have set. Out: what `confab-turn` starts with, and how clients are told to reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use confab_turn::credentials::{Credentials, Secret};
use confab_turn::machine::RelayAddress;
use confab_turn::net;
use confab_turn::policy::Cidr;
use confab_turn::quota::Limits;

use super::Config;

/// Bytes in a megabit.
const MEGABIT: u64 = 1_000_000 / 8;

/// The port of STUN and TURN (RFC 8656 section 18).
const PORT: u16 = 3478;

/// Where the relay listens on UDP and TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// On the standard port of the media address. It relays to this server's media and to nothing
    /// else: who asked for calls has not asked for a relay to the internet.
    Auto,
    /// As somebody has decided.
    At(Vec<SocketAddr>),
}

/// Everything that can be set of the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) listen: Listen,
    pub(crate) tls_listen: Vec<SocketAddr>,
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) host: Option<String>,
    pub(crate) relay_ips: Vec<IpAddr>,
    pub(crate) relay_ports: RangeInclusive<u16>,
    pub(crate) realm: String,
    pub(crate) secret: Option<String>,
    pub(crate) users: Vec<(String, String)>,
    pub(crate) allow: Vec<Cidr>,
    pub(crate) deny: Vec<Cidr>,
    pub(crate) max_allocations: u32,
    pub(crate) max_user_allocations: u32,
    pub(crate) max_address_allocations: u32,
    pub(crate) max_unauthenticated: u32,
    pub(crate) max_user_mbits: u32,
}

impl Default for Turn {
    fn default() -> Self {
        let net = net::Config::default();
        Turn {
            listen: Listen::Auto,
            tls_listen: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            host: None,
            relay_ips: Vec::new(),
            relay_ports: net.ports,
            realm: net.realm,
            secret: None,
            users: Vec::new(),
            allow: net.allow,
            deny: net.deny,
            max_allocations: net.limits.allocations,
            max_user_allocations: net.limits.allocations_per_user,
            max_address_allocations: net.limits.allocations_per_address,
            max_unauthenticated: net.limits.unauthenticated_answers,
            max_user_mbits: (net.limits.bytes_per_second_per_user / MEGABIT) as u32,
        }
    }
}

impl Config {
    /// Whether the relay is on beside the SFU.
    pub(crate) fn has_turn(&self) -> bool {
        self.turn.listen != Listen::At(Vec::new()) || !self.turn.tls_listen.is_empty()
    }

    /// The addresses at which the relay's clients come to media workers: where both are told to listen.
    pub(crate) fn shared_udp(&self) -> Vec<SocketAddr> {
        let sfu = self.sfu(&[]);
        let workers = (0..sfu.workers).map(|n| sfu.bind_address(n));
        let listen = self.turn_listen();
        workers
            .filter(|worker| listen.iter().any(|at| is_covered(*worker, *at)))
            .collect()
    }

    fn turn_listen(&self) -> Vec<SocketAddr> {
        match &self.turn.listen {
            Listen::At(listen) => listen.clone(),
            // Sockets of the relay are of one family each.
            Listen::Auto if self.media_listen == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => vec![
                (Ipv4Addr::UNSPECIFIED, PORT).into(),
                (Ipv6Addr::UNSPECIFIED, PORT).into(),
            ],
            Listen::Auto => vec![(self.media_listen, PORT).into()],
        }
    }

    /// The relay's part, with this process's own media addresses, none of them if it runs alone, and
    /// where TLS is listened on for it.
    pub(crate) fn turn(&self, media: &[SocketAddr], tls: &[SocketAddr]) -> net::Config {
        let turn = &self.turn;
        let users = turn.users.iter().map(|(username, password)| Credentials {
            username: username.clone(),
            password: password.clone(),
        });
        let (listen, deny) = match &turn.listen {
            Listen::At(_) => (self.turn_listen(), turn.deny.clone()),
            Listen::Auto if media.is_empty() => (Vec::new(), turn.deny.clone()),
            Listen::Auto => (self.turn_listen(), everything()),
        };
        let (shared, shared_tcp) = match media.is_empty() {
            true => (Vec::new(), Vec::new()),
            false => (self.shared_udp(), self.media_tcp()),
        };
        let is_shared = |at: &SocketAddr| shared.iter().any(|media| is_covered(*media, *at));
        let own_udp = listen.iter().filter(|address| !is_shared(address));
        // A shared listener with TLS takes plain TURN too.
        let is_at_door = |address: &SocketAddr| {
            self.tls.shared && (turn.listen == Listen::Auto || self.tls.listen.contains(address))
        };
        let own_tcp = listen.iter();
        let is_taken = |at: &SocketAddr| shared_tcp.iter().any(|tcp| is_covered(*tcp, *at));
        let own_tcp = own_tcp.filter(|at| !is_taken(at) && !is_at_door(at));
        net::Config {
            udp: own_udp.copied().collect(),
            tcp: own_tcp.copied().collect(),
            handed_in: [tls, &shared].concat(),
            relays: self.relay_addresses(),
            ports: turn.relay_ports.clone(),
            realm: turn.realm.clone(),
            secret: turn.secret.as_deref().map(Secret::new),
            users: users.collect(),
            allow: turn.allow.clone(),
            deny,
            own_media: self.media_addresses(media).collect(),
            limits: Limits {
                allocations: turn.max_allocations,
                allocations_per_user: turn.max_user_allocations,
                allocations_per_address: turn.max_address_allocations,
                unauthenticated_answers: turn.max_unauthenticated,
                bytes_per_second_per_user: MEGABIT * u64::from(turn.max_user_mbits),
                ..Limits::default()
            },
            ..net::Config::default()
        }
    }

    /// The addresses relayed from, with their names outside.
    pub(crate) fn relay_addresses(&self) -> Vec<RelayAddress> {
        let set = &self.turn.relay_ips;
        let of_family = |v4: bool| self.own_ips.iter().find(|ip| ip.is_ipv4() == v4).copied();
        let media: Vec<IpAddr> = match self.media_listen {
            _ if !set.is_empty() => Vec::new(),
            all if all.is_unspecified() => {
                [true, false].into_iter().filter_map(of_family).collect()
            }
            one => vec![one],
        };
        let public = |bind: IpAddr| {
            let mut public = self.public_ips.iter();
            let of_family = public.find(|ip| ip.is_ipv4() == bind.is_ipv4());
            of_family.copied().unwrap_or(bind)
        };
        let binds = set.iter().copied().chain(media);
        binds
            .map(|bind| RelayAddress {
                bind,
                public: public(bind),
            })
            .collect()
    }

    /// How clients are told to reach a relay that listens there, and there over TLS, where it does so
    /// without TLS too if the port is shared.
    pub(crate) fn relay_urls(&self, addresses: &net::Addresses, tls: &[SocketAddr]) -> Vec<String> {
        let ways = [
            ("turn", "udp", &addresses.udp[..]),
            ("turn", "tcp", &addresses.tcp),
            ("turn", "tcp", if self.tls.shared { tls } else { &[] }),
            ("turns", "tcp", tls),
        ];
        let urls = ways.into_iter().flat_map(|(scheme, transport, addresses)| {
            let host = match scheme {
                "turns" => self.turn.host.as_ref().or(self.certified_name()),
                _ => self.turn.host.as_ref(),
            };
            let places = addresses.iter();
            let places = places.filter_map(move |&address| self.told(host, address));
            places.map(move |place| format!("{scheme}:{place}?transport={transport}"))
        });
        urls.collect()
    }

    /// A name that is in the relay's certificate, if that is an automatic one.
    fn certified_name(&self) -> Option<&String> {
        let names = self.tls.acme.domains.first();
        names.filter(|_| self.turn.tls_certificate.is_none())
    }

    /// An address as clients know it: by this name, or with the public address.
    fn told(&self, host: Option<&String>, listening: SocketAddr) -> Option<String> {
        let (ip, port) = (listening.ip(), listening.port());
        match host {
            Some(host) => match host.parse() {
                Ok(ip) => Some(SocketAddr::new(ip, port).to_string()),
                Err(_) => Some(format!("{host}:{port}")),
            },
            None => {
                let relays = self.relay_addresses();
                let is_here = |relay: &RelayAddress| match ip.is_unspecified() {
                    true => relay.bind.is_ipv4() == ip.is_ipv4(),
                    false => relay.bind == ip,
                };
                let public = relays.into_iter().find(is_here).map(|relay| relay.public);
                let known = public.or(Some(ip).filter(|ip| !ip.is_unspecified()))?;
                Some(SocketAddr::new(known, port).to_string())
            }
        }
    }

    /// The name or address that clients are told for TURN over TLS at a listener, without its port.
    pub(crate) fn told_host(&self, listening: SocketAddr) -> Option<String> {
        match self.turn.host.as_ref().or(self.certified_name()) {
            Some(host) => Some(host.clone()),
            None => {
                let place: SocketAddr = self.told(None, listening)?.parse().ok()?;
                Some(place.ip().to_string())
            }
        }
    }

    /// The addresses that media goes to, as clients and as this machine know them.
    pub(crate) fn media_addresses(&self, media: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
        let named = media.iter().flat_map(|address| {
            let ips = self.public_ips.iter().chain(&self.own_ips);
            ips.map(|&ip| SocketAddr::new(ip, address.port()))
        });
        let bound = media.iter().copied().filter(|a| !a.ip().is_unspecified());
        named.chain(bound)
    }

    /// Where workers accept connections.
    fn media_tcp(&self) -> Vec<SocketAddr> {
        let sfu = self.sfu(&[]);
        let workers = 0..sfu.workers;
        let listen = workers.filter_map(|n| sfu.tcp_bind_address(n, sfu.bind_address(n)));
        listen.collect()
    }
}

/// Whether a socket of media that is bound there takes what comes to that address of the relay.
/// An IPv6 wildcard takes media of both families.
fn is_covered(media: SocketAddr, relay: SocketAddr) -> bool {
    let is_both = media.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    media == relay || is_both && relay.ip().is_unspecified() && media.port() == relay.port()
}

fn everything() -> Vec<Cidr> {
    let all = ["0.0.0.0/0", "::/0"].iter();
    all.filter_map(|all| all.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use confab_turn::policy::{PeerPolicy, Verdict};

    use super::*;

    fn config() -> Config {
        let mut config = Config::default();
        config.turn.listen = Listen::At(vec!["0.0.0.0:3478".parse().unwrap()]);
        config.turn.secret = Some("0123456789abcdef".into());
        config
    }

    #[test]
    fn the_relay_is_on_unless_it_is_switched_off() {
        assert!(Config::default().has_turn() && config().has_turn());
        let mut off = config();
        off.turn.listen = Listen::At(Vec::new());
        assert!(!off.has_turn());
        off.turn.tls_listen = vec!["0.0.0.0:443".parse().unwrap()];
        assert!(off.has_turn());
    }

    #[test]
    fn nobody_decided_on_a_relay_so_it_serves_calls_alone() {
        let media: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        let auto = Config::default().turn(&[media], &[]);
        assert_eq!(auto.udp, ["127.0.0.1:3478".parse().unwrap()]);
        assert_eq!(auto.tcp, auto.udp);
        let policy = PeerPolicy {
            allow: auto.allow,
            deny: auto.deny,
            own_media: auto.own_media,
            ..PeerPolicy::default()
        };
        for (peer, verdict) in [
            ("127.0.0.1:7000", Verdict::OwnMedia),
            ("127.0.0.1:7001", Verdict::Deny),
            ("8.8.8.8:53", Verdict::Deny),
            ("[2606:4700::1111]:53", Verdict::Deny),
        ] {
            assert_eq!(policy.verdict(peer.parse().unwrap()), verdict, "{peer}");
        }
        assert!(Config::default().turn(&[], &[]).udp.is_empty());
        assert_eq!(config().turn(&[media], &[]).deny, []);
    }

    #[test]
    fn clients_are_told_every_way_to_the_relay_by_its_public_name() {
        let mut config = config();
        config.turn.relay_ips = ["10.0.0.5", "2001:db8::5"]
            .map(|ip| ip.parse().unwrap())
            .into();
        config.public_ips = vec!["203.0.113.7".parse().unwrap()];
        let list = |addresses: &[&str]| -> Vec<SocketAddr> {
            addresses.iter().map(|a| a.parse().unwrap()).collect()
        };
        let addresses = net::Addresses {
            udp: list(&["0.0.0.0:3478", "[::]:3478"]),
            tcp: list(&["10.0.0.5:3479"]),
        };
        let tls = list(&["192.0.2.9:443"]);
        assert_eq!(
            config.relay_urls(&addresses, &tls),
            [
                "turn:203.0.113.7:3478?transport=udp",
                "turn:[2001:db8::5]:3478?transport=udp",
                "turn:203.0.113.7:3479?transport=tcp",
                "turns:192.0.2.9:443?transport=tcp",
            ]
        );
        config.turn.host = Some("turn.example.org".into());
        let named = config.relay_urls(&addresses, &tls);
        assert_eq!(named[3], "turns:turn.example.org:443?transport=tcp");
        config.tls.acme.domains = vec!["call.example.org".into(), "other.example.org".into()];
        assert_eq!(config.relay_urls(&addresses, &tls)[3], named[3]);
        let host = config.turn.host.take();
        let certified = config.relay_urls(&addresses, &tls);
        assert_eq!(certified[2], "turn:203.0.113.7:3479?transport=tcp");
        assert_eq!(certified[3], "turns:call.example.org:443?transport=tcp");
        config.turn.host = host;
        config.tls.shared = true;
        let shared = config.relay_urls(&addresses, &tls);
        assert_eq!(shared[3], "turn:turn.example.org:443?transport=tcp");
        assert_eq!(shared[4], named[3]);
    }

    #[test]
    fn relay_addresses_have_the_public_name_of_their_family() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (listen, relay_ips, public_ips, expected) in [
            (
                "127.0.0.1",
                &[][..],
                &[][..],
                &[("127.0.0.1", "127.0.0.1")][..],
            ),
            (
                "0.0.0.0",
                &["10.0.0.5", "2001:db8::5"],
                &["203.0.113.7"],
                &[("10.0.0.5", "203.0.113.7"), ("2001:db8::5", "2001:db8::5")],
            ),
        ] {
            let mut config = config();
            config.media_listen = ip(listen);
            config.turn.relay_ips = relay_ips.iter().map(|text| ip(text)).collect();
            config.public_ips = public_ips.iter().map(|text| ip(text)).collect();
            let relays = config.turn(&[], &[]).relays;
            let got: Vec<_> = relays.iter().map(|r| (r.bind, r.public)).collect();
            let expected: Vec<_> = expected.iter().map(|(a, b)| (ip(a), ip(b))).collect();
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn our_media_is_a_peer_under_each_of_its_names() {
        let mut config = config();
        config.public_ips = vec!["203.0.113.7".parse().unwrap()];
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let bound = [address("0.0.0.0:7000"), address("10.0.0.5:7001")];
        let expected = ["203.0.113.7:7000", "203.0.113.7:7001", "10.0.0.5:7001"];
        let own = config.turn(&bound, &[]).own_media;
        assert_eq!(own, expected.map(address).into());
    }
}
