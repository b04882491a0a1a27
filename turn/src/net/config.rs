//! What the server is set to do, and why it cannot.
//!
//! In: settings as people write them. Out: those of the protocol, and one sentence for whoever has to
//! change something.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use nix::ifaddrs::getifaddrs;

use crate::credentials::{Credentials, Secret};
use crate::machine::RelayAddress;
use crate::policy::Cidr;
use crate::ports::DEFAULT_PORTS;
use crate::quota::Limits;

/// The settings of a server. Everything has a default but where to listen, the relay addresses and
/// who may use them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients send datagrams. An IPv6 address is for IPv6 alone, `[::]` too.
    pub udp: Vec<SocketAddr>,
    /// Where clients connect.
    pub tcp: Vec<SocketAddr>,
    /// Where somebody else accepts connections, and hands them in with
    /// [`Handle::serve`](super::Handle::serve): these are this server too, and not relayed to.
    pub handed_in: Vec<SocketAddr>,
    /// The relay addresses: one, or one of each family.
    pub relays: Vec<RelayAddress>,
    /// The ports of relay addresses.
    pub ports: RangeInclusive<u16>,
    /// What the users belong to; clients show it to nobody.
    pub realm: String,
    /// What time-limited credentials are minted with.
    pub secret: Option<Secret>,
    /// Users whose passwords do not expire.
    pub users: Vec<Credentials>,
    /// Peers that may be relayed to although they are not on the public internet.
    pub allow: Vec<Cidr>,
    /// Peers that may not be relayed to.
    pub deny: Vec<Cidr>,
    /// This server's media addresses, which may be relayed to wherever they are.
    pub own_media: HashSet<SocketAddr>,
    /// What users, addresses and all together may have.
    pub limits: Limits,
    /// TCP streams open at once, and at most a tenth of them from one address; those handed in are
    /// counted where they are accepted.
    pub max_connections: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            udp: Vec::new(),
            tcp: Vec::new(),
            handed_in: Vec::new(),
            relays: Vec::new(),
            ports: DEFAULT_PORTS,
            realm: "confab".into(),
            secret: None,
            users: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            own_media: HashSet::new(),
            limits: Limits::default(),
            max_connections: 10_000,
        }
    }
}

/// Why a server cannot start, or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listening address cannot be had.
    #[error(
        "cannot listen for TURN on {transport} {address}: {source}; choose another address, or stop \
         what has it"
    )]
    Listen {
        /// UDP or TCP.
        transport: &'static str,
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A relay address is not this machine's.
    #[error(
        "cannot relay from {address}: {source}; the relay address must be one of this machine's, and \
         what it is called outside is set apart from it"
    )]
    Relay {
        /// Which.
        address: IpAddr,
        /// What the system says.
        source: io::Error,
    },
    /// There is none, or several of a family, or a wildcard.
    #[error(
        "the relay needs one address of this machine, or one IPv4 and one IPv6 address; set are {0:?}"
    )]
    RelayAddresses(Vec<IpAddr>),
    /// An address and its public one must be of one family.
    #[error("the relay address {bind} cannot be called {public} outside: that is another family")]
    PublicFamily {
        /// The address.
        bind: IpAddr,
        /// What it is to be called.
        public: IpAddr,
    },
    /// There is nowhere to listen.
    #[error("TURN has no address to listen on; set one for UDP, TCP or TLS")]
    NoListener,
    /// Nobody could use it.
    #[error("nobody can use TURN; set the shared secret or a user")]
    NoUser,
    /// It cannot be an open relay either.
    #[error("the TURN shared secret and passwords must not be empty")]
    EmptySecret,
    /// There are no relay ports.
    #[error("the relay ports {0:?} are none; the first must not be above the last")]
    NoPorts(RangeInclusive<u16>),
    /// Nobody accepts connections any more.
    #[error("the TURN server cannot go on: what accepts its connections has failed")]
    Listener,
    /// A socket that was fine is not any more.
    #[error("the TURN server cannot go on: {0}")]
    Io(#[from] io::Error),
}

impl Config {
    /// Whether the settings make sense together.
    ///
    /// # Errors
    /// When they do not, saying what to change.
    pub fn check(&self) -> Result<(), Error> {
        if self.udp.is_empty() && self.tcp.is_empty() && self.handed_in.is_empty() {
            return Err(Error::NoListener);
        }
        if self.secret.is_none() && self.users.is_empty() {
            return Err(Error::NoUser);
        }
        if self.users.iter().any(|user| user.password.is_empty()) {
            return Err(Error::EmptySecret);
        }
        if self.ports.is_empty() {
            return Err(Error::NoPorts(self.ports.clone()));
        }
        for relay in &self.relays {
            let (bind, public) = (relay.bind, relay.public);
            if bind.is_ipv4() != public.is_ipv4() {
                return Err(Error::PublicFamily { bind, public });
            }
        }
        let binds: Vec<IpAddr> = self.relays.iter().map(|relay| relay.bind).collect();
        let v4 = binds.iter().filter(|bind| bind.is_ipv4()).count();
        let is_wildcard = binds.iter().any(IpAddr::is_unspecified);
        if binds.is_empty() || v4 > 1 || binds.len() - v4 > 1 || is_wildcard {
            return Err(Error::RelayAddresses(binds));
        }
        Ok(())
    }

    /// All addresses that are this machine, given those that it listens on: other programs listen on it
    /// too.
    pub(super) fn own_addresses(&self, listening: &[SocketAddr]) -> HashSet<IpAddr> {
        let listening = listening.iter().map(SocketAddr::ip);
        let relays = self.relays.iter().flat_map(|r| [r.bind, r.public]);
        let loopback = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ];
        let own = listening.chain(relays).chain(interfaces()).chain(loopback);
        own.collect()
    }
}

/// The addresses of this machine, as far as the system tells.
pub(super) fn interfaces() -> impl Iterator<Item = IpAddr> {
    getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    fn good() -> Config {
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        Config {
            udp: vec![SocketAddr::new(address, 0)],
            relays: vec![RelayAddress {
                bind: address,
                public: address,
            }],
            secret: Some(Secret::new("north")),
            ..Config::default()
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        assert!(good().check().is_ok());
        let relay = |bind: &str, public: &str| RelayAddress {
            bind: bind.parse().unwrap(),
            public: public.parse().unwrap(),
        };
        for (change, words) in [
            (
                (|c| c.udp.clear()) as fn(&mut Config),
                "no address to listen",
            ),
            (|c| c.secret = None, "nobody can use"),
            (
                |c| {
                    c.users = vec![Credentials {
                        username: "a".into(),
                        password: String::new(),
                    }];
                },
                "must not be empty",
            ),
            (
                #[allow(clippy::reversed_empty_ranges, reason = "it is what is refused")]
                |c| c.ports = 9..=8,
                "9..=8",
            ),
            (|c| c.relays.clear(), "[]"),
        ] {
            let mut config = good();
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        for (relays, words) in [
            (vec![relay("127.0.0.1", "::1")], "another family"),
            (vec![relay("0.0.0.0", "1.2.3.4")], "0.0.0.0"),
            (
                vec![relay("127.0.0.1", "1.2.3.4"); 2],
                "127.0.0.1, 127.0.0.1",
            ),
        ] {
            let error = Config { relays, ..good() }.check().unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        let both = vec![relay("127.0.0.1", "1.2.3.4"), relay("::1", "::1")];
        assert!(
            Config {
                relays: both,
                ..good()
            }
            .check()
            .is_ok()
        );
    }

    #[test]
    fn every_address_of_the_machine_is_its_own() {
        for listening in ["0.0.0.0:3478", "127.0.0.2:3478"] {
            let own = good().own_addresses(&[listening.parse().unwrap()]);
            for address in ["127.0.0.1", "::1"] {
                assert!(own.contains(&address.parse().unwrap()), "{address}");
            }
        }
    }
}
