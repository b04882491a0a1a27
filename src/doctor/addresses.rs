//! The addresses that clients are told.
//!
//! In: what is set, and the addresses of this machine. Out: whether others can send to what they are
//! told.

use std::net::IpAddr;
use std::path::Path;

use super::finding::Finding;
use crate::addresses::{Kind, locals, takes};
use crate::config::Config;

/// What is known of addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Where media is listened for.
    pub(crate) listen: Option<IpAddr>,
    /// What clients are told to send media to.
    pub(crate) told: Vec<IpAddr>,
    /// Whether that is what `media.public_ips` says.
    pub(crate) is_named: bool,
    /// Those of this machine's interfaces.
    pub(crate) local: Vec<IpAddr>,
    /// Whether pages or signaling are served on an address that others reach.
    pub(crate) is_served_to_others: bool,
    /// Whether this is a container, whose addresses mean nothing outside.
    pub(crate) in_container: bool,
}

impl Facts {
    pub(crate) fn gather(config: &Config) -> Facts {
        let tls = config.tls.listen.iter().map(|address| address.ip());
        let mut served = tls.chain([config.http_listen.ip()]);
        Facts {
            listen: Some(config.media_listen),
            told: config.announced_ips(),
            is_named: !config.public_ips.is_empty(),
            local: locals().into_iter().map(|local| local.ip).collect(),
            is_served_to_others: served.any(|ip| !ip.is_loopback()),
            // Docker and Podman leave these.
            in_container: ["/.dockerenv", "/run/.containerenv"]
                .iter()
                .any(|mark| Path::new(mark).exists()),
        }
    }

    pub(crate) fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.local.contains(&ip)
    }
}

/// Whether others can send media to what they are told.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for &ip in &facts.told {
        findings.push(judge_announced(facts, ip));
        if facts.listen.is_some_and(|listen| !takes(listen, ip)) {
            findings.push(Finding::problem(format!(
                "clients are told of {ip}, but media.listen takes no packets of its family: set \
                 media.listen to an address of that family, or to [::] for both"
            )));
        }
    }
    findings.extend(ipv6_unannounced(facts));
    findings
}

fn judge_announced(facts: &Facts, ip: IpAddr) -> Finding {
    let is_local = facts.is_local(ip);
    let is_public = |other: &&IpAddr| match Kind::of(**other) {
        Kind::Public => true,
        // In a laboratory.
        Kind::Documentation => facts.is_local(**other),
        _ => false,
    };
    let has_public = facts.told.iter().any(|other| is_public(&other));
    match Kind::of(ip) {
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
        Kind::Private | Kind::CarrierNat if has_public => Finding::ok(format!(
            "clients are told {ip} too, for those in the same network"
        )),
        Kind::Private if facts.in_container && is_local => Finding::problem(format!(
            "clients are told {ip}, an address of this container that only its host reaches: set \
             media.public_ips to the host's address and publish the media ports (UDP and TCP) \
             under the same numbers, or run the container with --network host"
        )),
        Kind::Private => Finding::warning(format!(
            "clients are told {ip}, a private address: only those in the same network reach it; \
             for others set media.public_ips to the address that NAT forwards from, or to auto"
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

fn ipv6_unannounced(facts: &Facts) -> Option<Finding> {
    let told = &facts.told;
    let reaches_others = told.iter().any(|&ip| Kind::of(ip) == Kind::Public);
    if !reaches_others || told.iter().any(IpAddr::is_ipv6) {
        return None;
    }
    let is_public_v6 = |ip: &&IpAddr| ip.is_ipv6() && Kind::of(**ip) == Kind::Public;
    let ip = facts.local.iter().find(is_public_v6)?;
    let public_ips = match facts.is_named {
        true => format!(" and add {ip} to media.public_ips"),
        false => String::new(),
    };
    Some(Finding::warning(format!(
        "this machine has {ip}, but clients are told of IPv4 alone, which some mobile networks \
         only have through a translator: set media.listen to [::]{public_ips}"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::super::finding::Level;
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn facts(listen: &str, public: &[&str]) -> Facts {
        let listen: IpAddr = listen.parse().unwrap();
        let told = match public.is_empty() {
            true => vec![listen],
            false => ips(public),
        };
        Facts {
            listen: Some(listen),
            told,
            is_named: !public.is_empty(),
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
        facts.told = ips(&["10.1.1.1"]);
        assert_eq!(judge(&facts)[0].level, Level::Warning);
    }

    #[test]
    fn a_private_address_beside_a_public_one_is_well() {
        let mut facts = facts("0.0.0.0", &["8.8.4.4", "10.0.0.5"]);
        facts.is_named = false;
        let findings = judge(&facts);
        assert!(
            findings.iter().all(|f| f.level == Level::Ok),
            "{findings:?}"
        );
        assert!(findings[1].text.contains("in the same network"));
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
        facts.is_named = false;
        assert!(judge(&facts)[1].text.ends_with("set media.listen to [::]"));
    }
}
