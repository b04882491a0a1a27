//! The addresses that clients are told.
//!
//! In: what is set, and the addresses of this machine. Out: whether others can send to what they are
//! told.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::finding::Finding;
use crate::config::Config;

/// What is known of addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Where media is listened for.
    pub(crate) listen: Option<IpAddr>,
    /// `media.public_ips`.
    pub(crate) public: Vec<IpAddr>,
    /// Those of this machine's interfaces.
    pub(crate) local: Vec<IpAddr>,
    /// Whether pages or signaling are served on an address that others reach.
    pub(crate) is_served_to_others: bool,
    /// Whether this is a container, whose addresses mean nothing outside.
    pub(crate) in_container: bool,
}

/// What an address is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Unspecified,
    Loopback,
    /// Of one link only.
    LinkLocal,
    /// RFC 1918, RFC 4193.
    Private,
    /// Between a carrier's NAT and its customers (RFC 6598).
    CarrierNat,
    /// For examples (RFC 5737, RFC 3849).
    Documentation,
    /// To nobody, or to many.
    NotUnicast,
    Public,
}

impl Facts {
    pub(crate) fn gather(config: &Config) -> Facts {
        let tls = config.tls.listen.iter().map(|address| address.ip());
        let mut served = tls.chain([config.http_listen.ip()]);
        Facts {
            listen: Some(config.media_listen),
            public: config.public_ips.clone(),
            local: local_addresses(),
            is_served_to_others: served.any(|ip| !ip.is_loopback()),
            // Docker and Podman leave these.
            in_container: ["/.dockerenv", "/run/.containerenv"]
                .iter()
                .any(|mark| Path::new(mark).exists()),
        }
    }

    /// What clients are told to send media to.
    pub(crate) fn told(&self) -> Vec<IpAddr> {
        match self.public.is_empty() {
            true => self.listen.into_iter().collect(),
            false => self.public.clone(),
        }
    }

    pub(crate) fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.local.contains(&ip)
    }
}

/// The addresses of all interfaces; none if the system does not tell.
fn local_addresses() -> Vec<IpAddr> {
    let ip = |address: SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())))
    };
    let interfaces = getifaddrs().into_iter().flatten();
    interfaces
        .filter_map(|interface| interface.address.and_then(ip))
        .collect()
}

fn kind(ip: IpAddr) -> Kind {
    match ip {
        ip if ip.is_unspecified() => Kind::Unspecified,
        ip if ip.is_loopback() => Kind::Loopback,
        ip if ip.is_multicast() => Kind::NotUnicast,
        IpAddr::V4(ip) if ip.is_broadcast() => Kind::NotUnicast,
        IpAddr::V4(ip) if ip.is_private() => Kind::Private,
        IpAddr::V4(ip) if ip.is_link_local() => Kind::LinkLocal,
        IpAddr::V4(ip) if ip.is_documentation() => Kind::Documentation,
        // 100.64.0.0/10
        IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64 => Kind::CarrierNat,
        IpAddr::V6(ip) if ip.is_unique_local() => Kind::Private,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Kind::LinkLocal,
        IpAddr::V6(ip) if ip.segments()[..2] == [0x2001, 0xdb8] => Kind::Documentation,
        _ => Kind::Public,
    }
}

/// Whether others can send media to what they are told.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for ip in facts.told() {
        findings.push(judge_told(facts, ip));
        if facts.listen.is_some_and(|listen| !takes(listen, ip)) {
            findings.push(Finding::problem(format!(
                "clients are told of {ip}, but media.listen takes no packets of its family: set \
                 media.listen to an address of that family, or to :: for both"
            )));
        }
    }
    findings.extend(ipv6_untold(facts));
    findings
}

fn judge_told(facts: &Facts, ip: IpAddr) -> Finding {
    let is_local = facts.is_local(ip);
    match kind(ip) {
        Kind::Unspecified => Finding::problem(format!(
            "clients are told to send media to {ip}, which is no place: set media.public_ips to \
             the address they reach this machine at, or media.listen to one"
        )),
        Kind::Loopback if facts.is_served_to_others => Finding::problem(format!(
            "others can open the page, but are told to send media to {ip}, which is their own \
             machine: set media.listen to an address of this machine, or to 0.0.0.0 and \
             media.public_ips to the address they reach"
        )),
        Kind::Loopback => Finding::ok(format!(
            "clients are told {ip}: calls are between browsers on this machine"
        )),
        Kind::LinkLocal | Kind::NotUnicast => Finding::problem(format!(
            "clients are told to send media to {ip}, which they cannot: set media.public_ips to \
             the address they reach this machine at"
        )),
        Kind::Documentation if !is_local => Finding::problem(format!(
            "clients are told to send media to {ip}, an address for examples that nobody has: set \
             media.public_ips to your own"
        )),
        Kind::Private if facts.in_container && is_local => Finding::problem(format!(
            "clients are told {ip}, an address of this container that only its host reaches: set \
             media.public_ips to the host's address and publish the media ports (UDP and TCP) \
             under the same numbers, or run the container with --network host"
        )),
        Kind::Private => Finding::warning(format!(
            "clients are told {ip}, a private address: only those in the same network reach it; \
             for others set media.public_ips to the address that NAT forwards from"
        )),
        Kind::CarrierNat => Finding::warning(format!(
            "clients are told {ip}, an address behind a carrier's NAT or of a VPN: only those in \
             the same network reach it, and no port can be forwarded to it from outside; for \
             others this server needs a public address"
        )),
        Kind::Public | Kind::Documentation if is_local => {
            Finding::ok(format!("clients are told {ip}, an address of this machine"))
        }
        Kind::Public | Kind::Documentation => Finding::ok(format!(
            "clients are told {ip}, which is not on this machine: whatever has it must forward \
             the ports below, under the same numbers"
        )),
    }
}

/// Whether a socket there takes packets of that family. An IPv6 wildcard takes media of both.
fn takes(listen: IpAddr, ip: IpAddr) -> bool {
    listen == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || listen.is_ipv4() == ip.is_ipv4()
}

fn ipv6_untold(facts: &Facts) -> Option<Finding> {
    let told = facts.told();
    let reaches_others = told.iter().any(|&ip| kind(ip) == Kind::Public);
    if !reaches_others || told.iter().any(IpAddr::is_ipv6) {
        return None;
    }
    let is_public_v6 = |ip: &&IpAddr| ip.is_ipv6() && kind(**ip) == Kind::Public;
    let ip = facts.local.iter().find(is_public_v6)?;
    Some(Finding::warning(format!(
        "this machine has {ip}, but clients are told of IPv4 alone, which some mobile networks \
         only have through a translator: set media.listen to :: and add {ip} to media.public_ips"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::finding::Level;
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn facts(listen: &str, public: &[&str]) -> Facts {
        Facts {
            listen: Some(listen.parse().unwrap()),
            public: ips(public),
            local: ips(&["127.0.0.1", "10.0.0.5", "8.8.4.4", "198.51.100.2"]),
            is_served_to_others: true,
            in_container: false,
        }
    }

    #[test]
    fn what_clients_are_told_must_lead_here() {
        for (listen, public, level, words) in [
            (
                "0.0.0.0",
                &[][..],
                Level::Problem,
                "is no place: set media.public_ips",
            ),
            ("127.0.0.1", &[], Level::Problem, "their own machine"),
            ("10.0.0.5", &[], Level::Warning, "private address"),
            ("0.0.0.0", &["100.127.0.1"], Level::Warning, "carrier's NAT"),
            (
                "0.0.0.0",
                &["169.254.1.1"],
                Level::Problem,
                "which they cannot",
            ),
            (
                "0.0.0.0",
                &["224.0.0.1"],
                Level::Problem,
                "which they cannot",
            ),
            ("0.0.0.0", &["203.0.113.7"], Level::Problem, "for examples"),
            ("0.0.0.0", &["198.51.100.2"], Level::Ok, "of this machine"),
            ("0.0.0.0", &["100.128.0.1"], Level::Ok, "must forward"),
            ("8.8.4.4", &[], Level::Ok, "an address of this machine"),
        ] {
            let findings = judge(&facts(listen, public));
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!(findings[0].level, level, "{listen} {public:?}");
            assert!(findings[0].text.contains(words), "{findings:?}");
        }
    }

    #[test]
    fn loopback_is_well_while_nobody_else_is_served() {
        let mut facts = facts("127.0.0.1", &[]);
        facts.is_served_to_others = false;
        assert_eq!(judge(&facts)[0].level, Level::Ok);
    }

    #[test]
    fn addresses_of_a_container_are_of_no_use_outside() {
        let mut facts = facts("10.0.0.5", &[]);
        facts.in_container = true;
        let findings = judge(&facts);
        assert_eq!(findings[0].level, Level::Problem);
        assert!(findings[0].text.contains("--network host"), "{findings:?}");
        facts.public = ips(&["10.1.1.1"]);
        assert_eq!(judge(&facts)[0].level, Level::Warning);
    }

    #[test]
    fn families_must_fit() {
        let findings = judge(&facts("0.0.0.0", &["8.8.8.8", "2606:4700::1"]));
        let problems: Vec<_> = findings
            .iter()
            .filter(|f| f.level == Level::Problem)
            .collect();
        assert_eq!(problems.len(), 1, "{findings:?}");
        assert!(problems[0].text.contains("2606:4700::1, but media.listen"));
        let both = judge(&facts("::", &["8.8.8.8", "2606:4700::1"]));
        assert!(both.iter().all(|f| f.level == Level::Ok), "{both:?}");
    }

    #[test]
    fn ipv6_that_nobody_is_told_of_is_a_pity() {
        let mut facts = facts("0.0.0.0", &["8.8.4.4"]);
        facts.local.extend(ips(&["fe80::1", "fd00::2"]));
        assert_eq!(judge(&facts).len(), 1);
        facts.local.extend(ips(&["2606:4700::1"]));
        let findings = judge(&facts);
        assert_eq!(findings[1].level, Level::Warning);
        assert!(
            findings[1]
                .text
                .contains("add 2606:4700::1 to media.public_ips")
        );
    }
}
