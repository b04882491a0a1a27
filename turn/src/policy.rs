//! Which peers may be relayed to (ABUSE: a TURN server is no proxy into its own network).
//!
//! In: a peer's address. Out: relay, hand to our own media plane, or deny. By default only the
//! public internet and this server's own media addresses are peers. An address that stands for
//! another (IPv4-mapped, IPv4-compatible, NAT64, 6to4, Teredo) is judged as both.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use confab_sockets::cidr::{Cidr, CidrError};

/// IPv4 that is not the public internet (IANA's special-purpose registry, RFC 6890, and multicast,
/// RFC 5771). 169.254.0.0/16 has the clouds' metadata services; 240.0.0.0/4 ends in broadcast.
const DENIED_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure's metadata and host service
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The IPv6 that is the public internet: global unicast (RFC 4291 section 2.4) and the well-known
/// NAT64 prefix (RFC 6052 section 2.1). All else, loopback and link-local among it, is denied.
const PUBLIC_V6: [(Ipv6Addr, u8); 2] = [
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3),
    (NAT64, NAT64_PREFIX),
];

/// What is not public in it (RFC 6890): protocol assignments with Teredo, 6to4, documentation.
const DENIED_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// NAT64's well-known prefix (RFC 6052 section 2.1).
const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
/// Its length in bits.
const NAT64_PREFIX: u8 = 96;

/// What is to be done with packets to and from a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Relay them.
    Relay,
    /// Relay them; the peer is this server's own media plane.
    OwnMedia,
    /// Relay them if the peer is an allocation of this server's: it is at an address of its own, and
    /// whatever else listens there counts on nobody from outside.
    OwnHost,
    /// Refuse them.
    Deny,
}

/// The rules. What `deny` holds is denied even if `allow` holds it too; what `allow` holds is
/// relayed to even if it is denied by default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerPolicy {
    /// Ranges that are peers although they are not public.
    pub allow: Vec<Cidr>,
    /// Ranges that are no peers.
    pub deny: Vec<Cidr>,
    /// This server's media addresses, each with its port: peers wherever they are.
    pub own_media: HashSet<SocketAddr>,
    /// Addresses of this server itself, on which nothing is a peer but its own allocations and media, and
    /// what `allow` holds.
    pub own_addresses: HashSet<IpAddr>,
    /// The ports on which this TURN server listens, no peers either way: relaying to them would make
    /// loops.
    pub own_ports: HashSet<u16>,
}

impl PeerPolicy {
    /// What is to be done with packets to and from `peer`.
    #[must_use]
    pub fn verdict(&self, peer: SocketAddr) -> Verdict {
        if self.own_media.contains(&peer) {
            return Verdict::OwnMedia;
        }
        if peer.port() == 0 || !self.allows(peer.ip()) {
            return Verdict::Deny;
        }
        if !self.is_own_host(peer.ip()) {
            return Verdict::Relay;
        }
        if self.own_ports.contains(&peer.port()) {
            return Verdict::Deny;
        }
        match self.allow.iter().any(|range| range.contains(peer.ip())) {
            true => Verdict::Relay,
            false => Verdict::OwnHost,
        }
    }

    /// Whether there can be a peer at `address`, whatever its port: what a permission asks.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        self.allows(address) || self.own_media.iter().any(|own| own.ip() == address)
    }

    /// The addresses of this server's media.
    #[must_use]
    pub fn media_ips(&self) -> HashSet<IpAddr> {
        self.own_media.iter().map(SocketAddr::ip).collect()
    }

    fn is_own_host(&self, address: IpAddr) -> bool {
        let is_media = |form| self.own_media.iter().any(|media| media.ip() == form);
        Forms::of(address).any(|form| self.own_addresses.contains(&form) || is_media(form))
    }

    /// Whether the address, and all it stands for, may be relayed to.
    fn allows(&self, address: IpAddr) -> bool {
        Forms::of(address).all(|form| {
            let within = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(form));
            !within(&self.deny) && (within(&self.allow) || is_public(form))
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !DENIED_V4.iter().any(|&range| is_within(v4, range)),
        IpAddr::V6(v6) => {
            PUBLIC_V6.iter().any(|&range| is_within(v6, range))
                && !DENIED_V6.iter().any(|&range| is_within(v6, range))
        }
    }
}

fn is_within(address: impl Into<IpAddr>, (network, prefix): (impl Into<IpAddr>, u8)) -> bool {
    Cidr::new(network.into(), prefix).contains(address.into())
}

/// An address and the IPv4 addresses that it stands for.
struct Forms;

impl Forms {
    fn of(address: IpAddr) -> impl Iterator<Item = IpAddr> {
        let embedded = match address {
            IpAddr::V4(_) => [None, None],
            IpAddr::V6(v6) => Self::embedded(v6),
        };
        std::iter::once(address).chain(embedded.into_iter().flatten().map(IpAddr::V4))
    }

    fn embedded(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
        let bits = v6.to_bits();
        let at = |shift: u32| Ipv4Addr::from_bits((bits >> shift) as u32);
        match v6.segments() {
            // The unspecified address and loopback have that form, and are not.
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None, None],
            // IPv4-compatible (RFC 4291 section 2.5.5.1), IPv4-mapped (2.5.5.2).
            [0, 0, 0, 0, 0, 0 | 0xffff, ..] => [Some(at(0)), None],
            // IPv4-translated (RFC 2765 section 2.1).
            [0, 0, 0, 0, 0xffff, 0, ..] => [Some(at(0)), None],
            _ if is_within(v6, (NAT64, NAT64_PREFIX)) => [Some(at(0)), None],
            // 6to4 (RFC 3056 section 2).
            [0x2002, ..] => [Some(at(80)), None],
            // Teredo's server, and its client inverted (RFC 4380 section 4).
            [0x2001, 0, ..] => [Some(at(64)), Some(Ipv4Addr::from_bits(!(bits as u32)))],
            _ => [None, None],
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    fn verdict(policy: &PeerPolicy, address: &str) -> Verdict {
        policy.verdict(SocketAddr::new(address.parse().unwrap(), 5000))
    }

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_the_public_internet_is_relayed_to() {
        for (address, expected) in [
            ("8.8.8.8", Verdict::Relay),
            ("1.1.1.1", Verdict::Relay),
            ("100.63.255.255", Verdict::Relay),
            ("100.128.0.0", Verdict::Relay),
            ("172.15.255.255", Verdict::Relay),
            ("172.32.0.0", Verdict::Relay),
            ("223.255.255.255", Verdict::Relay),
            ("2a00:1450:4001::1", Verdict::Relay),
            ("2606:4700::1", Verdict::Relay),
            ("64:ff9b::8.8.8.8", Verdict::Relay),
            ("0.0.0.0", Verdict::Deny),
            ("0.255.0.1", Verdict::Deny),
            ("10.0.0.1", Verdict::Deny),
            ("100.64.0.1", Verdict::Deny),
            ("100.127.255.255", Verdict::Deny),
            ("127.0.0.1", Verdict::Deny),
            ("127.255.255.254", Verdict::Deny),
            ("168.63.129.16", Verdict::Deny),
            ("169.254.169.254", Verdict::Deny),
            ("172.16.0.1", Verdict::Deny),
            ("172.31.255.255", Verdict::Deny),
            ("192.0.0.8", Verdict::Deny),
            ("192.0.2.1", Verdict::Deny),
            ("192.88.99.1", Verdict::Deny),
            ("192.168.1.1", Verdict::Deny),
            ("198.18.0.1", Verdict::Deny),
            ("198.19.255.255", Verdict::Deny),
            ("198.51.100.1", Verdict::Deny),
            ("203.0.113.1", Verdict::Deny),
            ("224.0.0.1", Verdict::Deny),
            ("239.255.255.255", Verdict::Deny),
            ("240.0.0.1", Verdict::Deny),
            ("255.255.255.255", Verdict::Deny),
            ("::", Verdict::Deny),
            ("::1", Verdict::Deny),
            ("fe80::1", Verdict::Deny),
            ("fec0::1", Verdict::Deny),
            ("fc00::1", Verdict::Deny),
            ("fd00:ec2::254", Verdict::Deny),
            ("ff02::1", Verdict::Deny),
            ("100::1", Verdict::Deny),
            ("64:ff9b:1::1", Verdict::Deny),
            ("2001:db8::1", Verdict::Deny),
            ("2001:2::1", Verdict::Deny),
            ("3fff::1", Verdict::Deny),
            ("4000::1", Verdict::Deny),
        ] {
            assert_eq!(
                verdict(&PeerPolicy::default(), address),
                expected,
                "{address}"
            );
        }
    }

    #[test]
    fn another_spelling_of_a_denied_address_is_denied() {
        // All of IPv6 is allowed, so that only the IPv4 address within it can deny.
        let policy = PeerPolicy {
            allow: cidrs(&["::/0"]),
            ..PeerPolicy::default()
        };
        for (address, expected) in [
            ("::ffff:127.0.0.1", Verdict::Deny),
            ("::ffff:10.1.2.3", Verdict::Deny),
            ("::ffff:169.254.169.254", Verdict::Deny),
            ("::ffff:8.8.8.8", Verdict::Relay),
            ("::127.0.0.1", Verdict::Deny),
            ("::192.168.0.1", Verdict::Deny),
            ("::ffff:0:127.0.0.1", Verdict::Deny),
            ("64:ff9b::127.0.0.1", Verdict::Deny),
            ("64:ff9b::10.0.0.1", Verdict::Deny),
            ("64:ff9b::169.254.169.254", Verdict::Deny),
            ("2002:7f00:1::1", Verdict::Deny),
            ("2002:a9fe:a9fe::", Verdict::Deny),
            ("2002:808:808::1", Verdict::Relay),
            // Teredo: a private server; a public one with the client 127.0.0.1, then 8.8.8.8.
            ("2001:0:7f00:1:0:0:f7f7:f7f7", Verdict::Deny),
            ("2001:0:808:808:0:0:80ff:fffe", Verdict::Deny),
            ("2001:0:808:808:0:0:f7f7:f7f7", Verdict::Relay),
        ] {
            assert_eq!(verdict(&policy, address), expected, "{address}");
        }
        for address in ["::ffff:8.8.8.8", "::8.8.8.8", "2002:808:808::1"] {
            let default = PeerPolicy::default();
            assert_eq!(verdict(&default, address), Verdict::Deny, "{address}");
        }
    }

    #[test]
    fn deny_beats_allow_beats_the_default() {
        let policy = PeerPolicy {
            allow: cidrs(&["10.0.0.0/8", "fd00::/8", "127.0.0.1", "::1"]),
            deny: cidrs(&["10.9.0.0/16", "8.8.8.8", "2606:4700::/32"]),
            ..PeerPolicy::default()
        };
        for (address, expected) in [
            ("10.1.2.3", Verdict::Relay),
            ("64:ff9b::10.1.2.3", Verdict::Relay),
            ("10.9.2.3", Verdict::Deny),
            ("64:ff9b::10.9.2.3", Verdict::Deny),
            ("fd12::1", Verdict::Relay),
            ("127.0.0.1", Verdict::Relay),
            ("127.0.0.2", Verdict::Deny),
            ("::1", Verdict::Relay),
            ("8.8.8.8", Verdict::Deny),
            ("64:ff9b::8.8.8.8", Verdict::Deny),
            ("8.8.4.4", Verdict::Relay),
            ("2606:4700::1", Verdict::Deny),
            ("192.168.0.1", Verdict::Deny),
        ] {
            assert_eq!(verdict(&policy, address), expected, "{address}");
        }
    }

    #[test]
    fn our_own_media_is_a_peer_by_exact_address_and_port() {
        let policy = PeerPolicy {
            own_media: ["10.0.0.5:7000".parse().unwrap()].into(),
            ..PeerPolicy::default()
        };
        for (peer, expected) in [
            ("10.0.0.5:7000", Verdict::OwnMedia),
            ("10.0.0.5:7001", Verdict::Deny),
            ("10.0.0.6:7000", Verdict::Deny),
            ("[::ffff:10.0.0.5]:7000", Verdict::Deny),
        ] {
            assert_eq!(policy.verdict(peer.parse().unwrap()), expected, "{peer}");
        }
        assert!(policy.permits("10.0.0.5".parse().unwrap()));
        assert!(!policy.permits("10.0.0.6".parse().unwrap()));
    }

    #[test]
    fn the_servers_own_ports_are_no_peers_even_if_allowed() {
        let policy = PeerPolicy {
            allow: cidrs(&["0.0.0.0/0", "::/0"]),
            own_addresses: ["8.8.8.8".parse().unwrap(), "127.0.0.1".parse().unwrap()].into(),
            own_ports: [3478, 443].into(),
            ..PeerPolicy::default()
        };
        for (peer, expected) in [
            ("8.8.8.8:3478", Verdict::Deny),
            ("8.8.8.8:443", Verdict::Deny),
            ("127.0.0.1:3478", Verdict::Deny),
            ("[::ffff:8.8.8.8]:3478", Verdict::Deny),
            ("[64:ff9b::8.8.8.8]:3478", Verdict::Deny),
            ("8.8.8.8:50000", Verdict::Relay),
            ("8.8.4.4:3478", Verdict::Relay),
            ("8.8.4.4:0", Verdict::Deny),
        ] {
            assert_eq!(policy.verdict(peer.parse().unwrap()), expected, "{peer}");
        }
    }

    #[test]
    fn other_services_of_this_host_are_no_peers_unless_allowed() {
        let mut policy = PeerPolicy {
            own_addresses: ["8.8.8.8".parse().unwrap(), "2600::1".parse().unwrap()].into(),
            own_ports: [3478].into(),
            own_media: ["9.9.9.9:7000".parse().unwrap()].into(),
            ..PeerPolicy::default()
        };
        for (peer, expected) in [
            ("8.8.8.8:22", Verdict::OwnHost),
            ("8.8.8.8:50000", Verdict::OwnHost),
            ("[2600::1]:6379", Verdict::OwnHost),
            ("[64:ff9b::8.8.8.8]:22", Verdict::OwnHost),
            ("8.8.8.8:3478", Verdict::Deny),
            ("9.9.9.9:7000", Verdict::OwnMedia),
            ("9.9.9.9:9090", Verdict::OwnHost),
            ("8.8.4.4:22", Verdict::Relay),
        ] {
            assert_eq!(policy.verdict(peer.parse().unwrap()), expected, "{peer}");
        }
        policy.allow = cidrs(&["8.8.8.8"]);
        let service = "8.8.8.8:22".parse().unwrap();
        assert_eq!(policy.verdict(service), Verdict::Relay);
        policy.deny = cidrs(&["8.8.8.0/24"]);
        assert_eq!(policy.verdict(service), Verdict::Deny);
    }
}
