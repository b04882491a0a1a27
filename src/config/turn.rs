//! The relay's settings.
//!
//! In: what people have set. Out: what `confab-turn` starts with.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
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

/// Everything that can be set of the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) tls_listen: Vec<SocketAddr>,
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) relay_ips: Vec<IpAddr>,
    pub(crate) relay_ports: RangeInclusive<u16>,
    pub(crate) realm: String,
    pub(crate) secret: Option<String>,
    /// Names and passwords.
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
            listen: net.udp,
            tls_listen: net.tls,
            tls_certificate: None,
            tls_key: None,
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
    /// Whether the relay is on.
    pub(crate) fn has_turn(&self) -> bool {
        !self.turn.listen.is_empty() || !self.turn.tls_listen.is_empty()
    }

    /// The relay's part, with this process's own media addresses.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub(crate) fn turn(&self, media: &[SocketAddr]) -> Result<net::Config, net::Error> {
        let turn = &self.turn;
        let tls_config = match (&turn.tls_certificate, &turn.tls_key) {
            (Some(certificate), Some(key)) => Some(net::tls_from_files(certificate, key)?),
            _ => None,
        };
        let own = |secret: &String| Secret::new(secret);
        let users = turn.users.iter().map(|(username, password)| Credentials {
            username: username.clone(),
            password: password.clone(),
        });
        Ok(net::Config {
            udp: turn.listen.clone(),
            tcp: turn.listen.clone(),
            tls: turn.tls_listen.clone(),
            tls_config,
            relays: self.relay_addresses(),
            ports: turn.relay_ports.clone(),
            realm: turn.realm.clone(),
            secret: turn.secret.as_ref().map(own),
            users: users.collect(),
            allow: turn.allow.clone(),
            deny: turn.deny.clone(),
            own_media: self.media_addresses(media),
            limits: Limits {
                allocations: turn.max_allocations,
                allocations_per_user: turn.max_user_allocations,
                allocations_per_address: turn.max_address_allocations,
                unauthenticated_answers: turn.max_unauthenticated,
                bytes_per_second_per_user: MEGABIT * u64::from(turn.max_user_mbits),
                ..Limits::default()
            },
            ..net::Config::default()
        })
    }

    fn relay_addresses(&self) -> Vec<RelayAddress> {
        let set = &self.turn.relay_ips;
        let media = Some(self.media_listen).filter(|ip| set.is_empty() && !ip.is_unspecified());
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

    /// The addresses that media goes to, as clients and as this machine know them.
    fn media_addresses(&self, media: &[SocketAddr]) -> HashSet<SocketAddr> {
        let named = media.iter().flat_map(|address| {
            let ips = self.public_ips.iter();
            ips.map(|&ip| SocketAddr::new(ip, address.port()))
        });
        let bound = media.iter().copied().filter(|a| !a.ip().is_unspecified());
        named.chain(bound).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn config() -> Config {
        let mut config = Config::default();
        config.turn.listen = vec!["0.0.0.0:3478".parse().unwrap()];
        config.turn.secret = Some("0123456789abcdef".into());
        config
    }

    #[test]
    fn the_relay_is_off_until_it_has_an_address() {
        assert!(!Config::default().has_turn());
        assert!(config().has_turn());
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
            ("0.0.0.0", &[], &["203.0.113.7"], &[]),
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
            let relays = config.turn(&[]).unwrap().relays;
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
        let own = config.turn(&bound).unwrap().own_media;
        assert_eq!(own, expected.map(address).into());
    }
}
