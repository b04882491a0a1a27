//! Whether UDP arrives, as our own STUN and, if asked for, one elsewhere tell.
//!
//! In: the addresses that clients are told, and the ports. Out: whether packets to them come here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

use super::addresses;
use super::finding::Finding;
use super::ports::{Bound, Port, Running, Transport};
use crate::addresses::takes;
use crate::stun;

/// How long a name server is waited for.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Settings of UDP ports that are asked, and whether a running server answers STUN there.
const ASKED: [(&str, bool); 3] = [
    ("media.port", false),
    ("stun.listen", true),
    ("turn.listen", true),
];

/// What came of asking one address that clients are told.
#[derive(Clone, Copy, Debug)]
struct Way {
    setting: &'static str,
    asked: SocketAddr,
    /// Whether the address is of this machine.
    is_local: bool,
    /// From where its STUN saw us come, if any answer came.
    seen: Option<IpAddr>,
    /// Whether that is an address of this machine.
    saw_us: bool,
}

/// Asks the first UDP port of each kind at each address that clients are told: those that are free
/// answer themselves for as long as that takes, those of a running server through it.
pub(crate) async fn ways(
    addresses: &addresses::Facts,
    ports: &[(Port, Bound)],
    running: Running,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (setting, answers_when_running) in ASKED {
        let is_it = |(port, _): &&(Port, Bound)| {
            port.setting == setting && port.transport == Transport::Udp
        };
        let Some((port, bound)) = ports.iter().find(is_it) else {
            continue;
        };
        let mut address = port.address;
        let mut responder = None;
        match bound {
            Bound::Free => {
                let Ok(socket) = UdpSocket::bind(address).await else {
                    continue;
                };
                address = socket.local_addr().unwrap_or(address);
                responder = Some(tokio::spawn(confab_turn::serve(socket)));
            }
            Bound::Taken if running != Running::No && answers_when_running => {}
            _ => continue,
        }
        for &ip in &addresses.told {
            let asked = SocketAddr::new(ip, address.port());
            if ip.is_unspecified() || !takes(address.ip(), ip) {
                continue;
            }
            let seen = ask_from_here(asked).await.map(|seen| seen.ip());
            findings.push(judge_way(&Way {
                setting,
                asked,
                is_local: addresses.is_local(ip),
                seen,
                saw_us: seen.is_some_and(|ip| addresses.is_local(ip)),
            }));
        }
        if let Some(responder) = responder {
            responder.abort();
        }
    }
    findings
}

async fn ask_from_here(server: SocketAddr) -> Option<SocketAddr> {
    let socket = UdpSocket::bind((any(server), 0)).await.ok()?;
    stun::ask(&socket, server).await
}

fn any(server: SocketAddr) -> IpAddr {
    match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn judge_way(way: &Way) -> Finding {
    let Way { setting, asked, .. } = way;
    match (way.seen, way.is_local) {
        (Some(seen), true) if !way.saw_us => Finding::warning(format!(
            "{setting}: STUN at UDP {asked} answers, but sees this machine as {seen}: something in \
             between changes addresses, such as a proxy of Docker; run without it (--network host)"
        )),
        (Some(_), true) => Finding::ok(format!("{setting}: STUN at UDP {asked} answers")),
        (Some(_), false) => Finding::ok(format!(
            "{setting}: STUN at UDP {asked} answers, through whatever has that address"
        )),
        (None, true) => Finding::problem(format!(
            "{setting}: no answer from STUN at UDP {asked}, an address of this machine: its \
             firewall drops the packets; let UDP port {} in (`nft list ruleset` shows the rules)",
            asked.port()
        )),
        (None, false) => Finding::warning(format!(
            "{setting}: no answer from STUN at UDP {asked}, asked from here: nothing forwards the \
             port to this machine, or what does lets no packets of its own side back in, as many \
             routers do; open /check.html in a browser in another network to see"
        )),
    }
}

/// Asks a STUN server elsewhere which address it sees.
pub(crate) async fn outside(addresses: &addresses::Facts, server: &str) -> Finding {
    let found = match timeout(LOOK_UP, lookup_host(server)).await {
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(_) => Err("the name server does not answer".into()),
    };
    // Clients are mostly told of IPv4; what they are told of first is compared.
    let told = &addresses.told;
    let wants_ipv4 = told.first().is_none_or(IpAddr::is_ipv4);
    let found = found.and_then(|found| {
        let family = found.filter(|address| address.is_ipv4() == wants_ipv4);
        family
            .last()
            .ok_or_else(|| "it has no address of the family that clients are told".into())
    });
    match found {
        Ok(address) => {
            let seen = ask_from_here(address).await;
            judge_outside(server, told, seen.map(|seen| seen.ip()))
        }
        Err(reason) => Finding::warning(format!(
            "cannot ask --stun {server}: {reason}; give a STUN server as HOST:PORT"
        )),
    }
}

fn judge_outside(server: &str, told: &[IpAddr], seen: Option<IpAddr>) -> Finding {
    let Some(seen) = seen else {
        return Finding::warning(format!(
            "no answer from STUN at {server}: it is not there, or UDP does not leave this network \
             or come back"
        ));
    };
    if told.contains(&seen) {
        Finding::ok(format!(
            "{server} sees this machine as {seen}, which clients are told"
        ))
    } else if told.iter().all(IpAddr::is_loopback) {
        Finding::ok(format!(
            "{server} sees this machine as {seen}; to let others in, set media.public_ips to that"
        ))
    } else {
        let told: Vec<_> = told.iter().map(IpAddr::to_string).collect();
        Finding::problem(format!(
            "{server} sees this machine as {seen}, but clients are told {}: set media.public_ips \
             to {seen}, unless all clients are in this machine's own network",
            told.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn silence_is_a_problem_where_no_router_explains_it() {
        let other = "172.17.0.1";
        for (is_local, seen, saw_us, level, words) in [
            (true, Some("10.0.0.5"), true, Level::Ok, "answers"),
            (
                true,
                Some(other),
                false,
                Level::Warning,
                "sees this machine as 172.17.0.1",
            ),
            (false, Some(other), false, Level::Ok, "through whatever"),
            (true, None, false, Level::Problem, "let UDP port 7000 in"),
            (false, None, false, Level::Warning, "in another network"),
        ] {
            let finding = judge_way(&Way {
                setting: "media.port",
                asked: "203.0.113.7:7000".parse().unwrap(),
                is_local,
                seen: seen.map(|ip| ip.parse().unwrap()),
                saw_us,
            });
            assert_eq!(finding.level, level);
            assert!(finding.text.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn what_the_outside_sees_should_be_what_clients_are_told() {
        for (told, seen, level, words) in [
            (
                "8.8.4.4",
                Some("8.8.4.4"),
                Level::Ok,
                "which clients are told",
            ),
            ("127.0.0.1", Some("8.8.4.4"), Level::Ok, "to let others in"),
            (
                "10.0.0.5",
                Some("8.8.4.4"),
                Level::Problem,
                "public_ips to 8.8.4.4, unless",
            ),
            ("10.0.0.5", None, Level::Warning, "no answer"),
        ] {
            let seen = seen.map(|ip| ip.parse().unwrap());
            let finding = judge_outside("stun.example.org:3478", &[told.parse().unwrap()], seen);
            assert_eq!(finding.level, level);
            assert!(finding.text.contains(words), "{finding:?}");
        }
    }

    #[tokio::test]
    async fn a_free_port_answers_for_itself_and_another_programs_is_left_alone() {
        let addresses = addresses::Facts {
            listen: Some(Ipv4Addr::LOCALHOST.into()),
            told: vec![Ipv4Addr::LOCALHOST.into()],
            ..addresses::Facts::default()
        };
        let port = Port {
            setting: "media.port",
            transport: Transport::Udp,
            address: "127.0.0.1:0".parse().unwrap(),
        };
        let free = [(port.clone(), Bound::Free)];
        let findings = ways(&addresses, &free, Running::No).await;
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Ok);
        let taken = [(port, Bound::Taken)];
        assert!(ways(&addresses, &taken, Running::No).await.is_empty());
    }
}
