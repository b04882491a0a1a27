//! The addresses that clients are told: this machine's own, and what NAT makes of them.
//!
//! In: what is set, the interfaces of this machine, and the answers of STUN servers if somebody wants
//! them asked. Out: the settings with the addresses in them that a wildcard and `auto` stand for, and
//! again whenever these change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

use crate::config::Config;
use crate::stun;

/// Most own addresses that clients are told. Each client checks each from each of its own, one check
/// in 50 ms (RFC 8445 section 14.2), so that more would delay calls more than they help.
const MAX_OWN: usize = 8;

/// How often it is looked whether the addresses are others: a third of the time for which a call waits
/// for who is lost.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often STUN servers are asked again: home connections change their address at most once a day,
/// and the servers are other people's.
pub(crate) const ASK_EVERY: Duration = Duration::from_secs(60);

/// How long a name server is waited for.
const LOOK_UP: Duration = Duration::from_secs(5);

/// What the names of interfaces begin with behind which there are only containers and virtual machines
/// of this one (Docker, Podman, libvirt, LXC, Kubernetes).
const VIRTUAL: [&str; 15] = [
    "docker", "br-", "veth", "virbr", "vnet", "podman", "cni", "lxc", "lxdbr", "incusbr",
    "flannel", "cali", "cilium", "kube", "vboxnet",
];

/// Why it cannot be said where clients are to send media.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// A wildcard, on a machine with nothing that it could stand for.
    #[error(
        "media.listen is {0}, for which clients are told this machine's addresses, but no interface \
         that is up has one of that family; set media.listen to an address of this machine"
    )]
    NoInterface(IpAddr),
    /// Clients would be told what nothing listens on.
    #[error(
        "media.public_ips has no address of the family that media.listen ({0}) takes; add one, or \
         set media.listen to [::] for both families"
    )]
    WrongFamily(IpAddr),
    /// STUN was of no use.
    #[error(
        "media.public_ips is auto, but no STUN server has said which address this machine has \
         outside: {0}; set media.public_ips to that address, or media.stun_servers to servers that \
         can be reached over UDP"
    )]
    NotFoundOutside(String),
}

/// What an address is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
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

impl Kind {
    pub(crate) fn of(ip: IpAddr) -> Kind {
        match ip {
            ip if ip.is_unspecified() => Kind::Unspecified,
            ip if ip.is_loopback() => Kind::Loopback,
            ip if ip.is_multicast() => Kind::NotUnicast,
            IpAddr::V4(ip) if ip.is_broadcast() => Kind::NotUnicast,
            IpAddr::V4(ip) if ip.is_private() => Kind::Private,
            IpAddr::V4(ip) if ip.is_link_local() => Kind::LinkLocal,
            IpAddr::V4(ip) if ip.is_documentation() => Kind::Documentation,
            // 100.64.0.0/10
            IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64 => {
                Kind::CarrierNat
            }
            IpAddr::V6(ip) if ip.is_unique_local() => Kind::Private,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Kind::LinkLocal,
            IpAddr::V6(ip) if ip.segments()[..2] == [0x2001, 0xdb8] => Kind::Documentation,
            _ => Kind::Public,
        }
    }

    /// Where it stands among this machine's addresses, if clients elsewhere can send to it at all.
    fn rank(self) -> Option<u8> {
        match self {
            Kind::Public | Kind::Documentation => Some(0),
            Kind::Private => Some(1),
            Kind::CarrierNat => Some(2),
            Kind::Loopback => Some(3),
            Kind::Unspecified | Kind::LinkLocal | Kind::NotUnicast => None,
        }
    }
}

/// An address of an interface that is up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Local {
    pub(crate) interface: String,
    pub(crate) ip: IpAddr,
}

impl Local {
    fn of(interface: InterfaceAddress) -> Option<Local> {
        let is_up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
        let address = interface
            .address
            .filter(|_| interface.flags.contains(is_up))?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let ip = v4.or_else(|| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())))?;
        Some(Local {
            interface: interface.interface_name,
            ip,
        })
    }

    fn is_virtual(&self) -> bool {
        VIRTUAL.iter().any(|name| self.interface.starts_with(name))
    }
}

/// The addresses of all interfaces that are up; none if the system does not tell.
pub(crate) fn locals() -> Vec<Local> {
    getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(Local::of)
        .collect()
}

/// Whether a socket there takes packets of that family. An IPv6 wildcard takes media of both.
pub(crate) fn takes(listen: IpAddr, ip: IpAddr) -> bool {
    listen == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || listen.is_ipv4() == ip.is_ipv4()
}

/// What a wildcard stands for on a machine with these addresses, of which those in `main` are where
/// the way to the internet begins: public ones first, those that lead to this machine's own containers
/// last, and none of loopback unless there is nothing else.
fn stands_for(wildcard: IpAddr, locals: &[Local], main: &[IpAddr]) -> Vec<IpAddr> {
    let mut ranked: Vec<_> = locals
        .iter()
        .filter(|local| takes(wildcard, local.ip))
        .filter_map(|local| {
            let rank = Kind::of(local.ip).rank()?;
            let is_loopback = local.ip.is_loopback();
            let place = (
                local.is_virtual(),
                rank,
                !main.contains(&local.ip),
                local.ip.is_ipv6(),
            );
            Some(((is_loopback, place), local.ip))
        })
        .collect();
    ranked.sort_by_key(|(place, _)| *place);
    let has_others = ranked.iter().any(|(_, ip)| !ip.is_loopback());
    let mut ips: Vec<IpAddr> = Vec::new();
    for (_, ip) in ranked {
        if !(has_others && ip.is_loopback() || ips.contains(&ip)) {
            ips.push(ip);
        }
    }
    ips.truncate(MAX_OWN);
    ips
}

/// The addresses of this machine that the internet is reached from, if it is; nothing is sent.
fn main_addresses() -> Vec<IpAddr> {
    // To TEST-NET-1 and the documentation prefix there is no way but the default one.
    let [v4, v6] = [
        (
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        ),
        (
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)),
        ),
    ];
    let from = |(any, elsewhere): (IpAddr, IpAddr)| {
        let socket = StdUdpSocket::bind((any, 0)).ok()?;
        socket.connect((elsewhere, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    [v4, v6].into_iter().filter_map(from).collect()
}

/// What a wildcard stands for on this machine, the best first.
pub(crate) fn own(wildcard: IpAddr) -> Vec<IpAddr> {
    let mut locals = locals();
    // An IPv6 address cannot be had for the second in which it is looked for twins (RFC 4862).
    locals.retain(|local| StdUdpSocket::bind((local.ip, 0)).is_ok());
    stands_for(wildcard, &locals, &main_addresses())
}

/// The settings with this machine's own addresses, where a wildcard stands for them.
///
/// # Errors
/// When it stands for none.
pub(crate) fn with_own(config: &Config) -> Result<Config, AddressError> {
    let mut config = config.clone();
    let listen = config.media_listen;
    if listen.is_unspecified() {
        config.own_ips = own(listen);
        if config.own_ips.is_empty() {
            return Err(AddressError::NoInterface(listen));
        }
    }
    Ok(config)
}

/// The settings with this machine's own addresses and those outside, as far as they are to be found.
///
/// # Errors
/// When there are none.
pub(crate) async fn discover(config: &Config) -> Result<Config, AddressError> {
    let mut found = with_own(config)?;
    if config.finds_public_ips {
        let outside = outside(config.media_listen, &config.stun_servers).await?;
        found.add_public(&outside);
    }
    let listen = found.media_listen;
    let told = found.announced_ips();
    match told.iter().any(|ip| takes(listen, *ip)) {
        true => Ok(found),
        false => Err(AddressError::WrongFamily(listen)),
    }
}

/// Waits until these settings come to other addresses than those that were found last, and returns
/// them. What fails meanwhile leaves all as it was.
pub(crate) async fn changed(config: &Config, last: &Config) -> Config {
    let is_fixed = !config.finds_public_ips && !config.media_listen.is_unspecified();
    let mut has_failed = false;
    let mut outside = None;
    let mut asked = tokio::time::Instant::now();
    loop {
        if is_fixed {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let Ok(mut now) = with_own(config) else {
            continue;
        };
        if config.finds_public_ips {
            let is_due = asked.elapsed() >= ASK_EVERY || now.own_ips != last.own_ips;
            if is_due {
                asked = tokio::time::Instant::now();
                match self::outside(config.media_listen, &config.stun_servers).await {
                    Ok(found) => {
                        outside = Some(found);
                        has_failed = false;
                    }
                    Err(error) if !has_failed => {
                        tracing::warn!("{error}; until then clients are told what was found last");
                        has_failed = true;
                    }
                    Err(_) => {}
                }
            }
            match &outside {
                Some(outside) => now.add_public(outside),
                None => now.public_ips.clone_from(&last.public_ips),
            }
        }
        if now != *last {
            return now;
        }
    }
}

/// The addresses that STUN servers see this machine at: one of each family that media takes.
async fn outside(listen: IpAddr, servers: &[String]) -> Result<Vec<IpAddr>, AddressError> {
    let from: Vec<IpAddr> = match listen {
        IpAddr::V6(any) if any.is_unspecified() => {
            vec![Ipv4Addr::UNSPECIFIED.into(), any.into()]
        }
        one => vec![one],
    };
    let mut reasons: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for from in from {
        let mut asked: FuturesUnordered<_> = servers.iter().map(|at| ask(from, at)).collect();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(ip) => {
                    found.push(ip);
                    break;
                }
                Err(reason) => reasons.push(reason),
            }
        }
    }
    match found.is_empty() {
        true => Err(AddressError::NotFoundOutside(reasons.join(", "))),
        false => Ok(found),
    }
}

/// Asks one server, at its first address of that family.
async fn ask(from: IpAddr, server: &str) -> Result<IpAddr, String> {
    let family = if from.is_ipv4() { "IPv4" } else { "IPv6" };
    let found = match timeout(LOOK_UP, lookup_host(server)).await {
        Ok(found) => found.map_err(|error| format!("{server} is not to be found ({error})"))?,
        Err(_) => return Err(format!("the name server does not answer for {server}")),
    };
    let mut of_family = found.filter(|address| address.is_ipv4() == from.is_ipv4());
    let address = of_family.next();
    let address = address.ok_or_else(|| format!("{server} has no {family} address"))?;
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await;
    let socket = socket.map_err(|error| format!("no {family} socket to ask with ({error})"))?;
    let answer = stun::ask(&socket, address).await;
    let seen = answer.ok_or_else(|| format!("{server} does not answer over {family}"))?;
    match Kind::of(seen.ip()).rank() {
        Some(_) if !seen.ip().is_loopback() || address.ip().is_loopback() => Ok(seen.ip()),
        _ => Err(format!("{server} answers {}, which is no place", seen.ip())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn machine(addresses: &[(&str, &str)]) -> Vec<Local> {
        let local = |(interface, ip): &(&str, &str)| Local {
            interface: (*interface).into(),
            ip: ip.parse().unwrap(),
        };
        addresses.iter().map(local).collect()
    }

    #[test]
    fn a_wildcard_stands_for_what_others_reach_the_best_first() {
        let server = machine(&[
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("docker0", "172.17.0.1"),
            ("br-9f3a", "8.8.8.1"),
            ("wg0", "100.64.0.9"),
            ("eth0", "169.254.3.4"),
            ("eth0", "fe80::1"),
            ("eth1", "192.168.1.5"),
            ("eth0", "10.0.0.5"),
            ("eth0", "8.8.4.4"),
            ("eth0", "2606:4700::1"),
            ("eth0", "fd00::5"),
        ]);
        let main = ips(&["10.0.0.5"]);
        let v4 = [
            "8.8.4.4",
            "10.0.0.5",
            "192.168.1.5",
            "100.64.0.9",
            "8.8.8.1",
            "172.17.0.1",
        ];
        assert_eq!(stands_for(ips(&["0.0.0.0"])[0], &server, &main), ips(&v4));
        let both = [
            "8.8.4.4",
            "2606:4700::1",
            "10.0.0.5",
            "192.168.1.5",
            "fd00::5",
            "100.64.0.9",
            "8.8.8.1",
            "172.17.0.1",
        ];
        assert_eq!(stands_for(ips(&["::"])[0], &server, &main), ips(&both));
    }

    #[test]
    fn loopback_is_told_where_there_is_nothing_else_and_link_local_never() {
        let alone = machine(&[("lo", "127.0.0.1"), ("eth0", "fe80::1"), ("lo", "::1")]);
        for (wildcard, expected) in [
            ("0.0.0.0", &["127.0.0.1"][..]),
            ("::", &["127.0.0.1", "::1"]),
        ] {
            let wildcard = wildcard.parse().unwrap();
            assert_eq!(stands_for(wildcard, &alone, &[]), ips(expected));
        }
        let nothing = machine(&[("eth0", "fe80::1")]);
        assert!(stands_for(ips(&["0.0.0.0"])[0], &nothing, &[]).is_empty());
    }

    #[test]
    fn a_machine_with_many_addresses_tells_of_some() {
        let many: Vec<_> = (1..100).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<_> = many.iter().map(|ip| ("eth0", ip.as_str())).collect();
        let told = stands_for(ips(&["0.0.0.0"])[0], &machine(&many), &ips(&["10.0.0.77"]));
        assert_eq!(told.len(), MAX_OWN);
        assert_eq!(told[0], ips(&["10.0.0.77"])[0]);
    }

    async fn stun_server() -> String {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        tokio::spawn(confab_turn::serve(server));
        address
    }

    fn auto(servers: &[&str]) -> Config {
        Config {
            finds_public_ips: true,
            stun_servers: servers.iter().map(|&at| at.into()).collect(),
            ..Config::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_public_address_is_what_the_first_server_that_answers_says() {
        let (deaf, server) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), stun_server());
        let silent = deaf.local_addr().unwrap().to_string();
        let config = auto(&[&silent, &server.await]);
        let found = discover(&config).await.unwrap();
        assert_eq!(found.public_ips, ips(&["127.0.0.1"]));
        assert_eq!(found.announced_ips(), ips(&["127.0.0.1"]));
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_server_answers_each_is_named() {
        let deaf = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let silent = deaf.local_addr().unwrap().to_string();
        let error = discover(&auto(&[&silent, "[::1]:9"])).await.unwrap_err();
        let error = error.to_string();
        for words in [
            "media.public_ips is auto",
            &format!("{silent} does not answer over IPv4"),
            "[::1]:9 has no IPv4 address",
            "set media.public_ips to",
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[tokio::test]
    async fn what_nothing_listens_on_is_not_told() {
        let config = Config {
            media_listen: "0.0.0.0".parse().unwrap(),
            public_ips: ips(&["2606:4700::1"]),
            ..Config::default()
        };
        let error = discover(&config).await.unwrap_err();
        assert_eq!(error, AddressError::WrongFamily(config.media_listen));
        let both = Config {
            media_listen: "::".parse().unwrap(),
            ..config
        };
        assert_eq!(
            discover(&both).await.unwrap().announced_ips(),
            both.public_ips
        );
    }

    #[tokio::test(start_paused = true)]
    async fn another_address_outside_is_noticed_and_silence_changes_nothing() {
        let config = auto(&[&stun_server().await]);
        let former = Config {
            public_ips: ips(&["192.0.2.1"]),
            ..config.clone()
        };
        let now = changed(&config, &former).await;
        assert_eq!(now.public_ips, ips(&["127.0.0.1"]));

        let deaf = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let config = auto(&[&deaf.local_addr().unwrap().to_string()]);
        let former = Config {
            public_ips: former.public_ips,
            ..config.clone()
        };
        let noticed = timeout(5 * ASK_EVERY, changed(&config, &former)).await;
        assert!(noticed.is_err(), "{noticed:?}");
    }
}
