//! The ports that the server listens on.
//!
//! In: the settings, and what binding each port comes to. Out: whether a server that starts gets its
//! ports, or which server has them.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use super::finding::Finding;
use crate::config::Config;

/// Ports below it are privileged (`net.ipv4.ip_unprivileged_port_start` at its default).
const FIRST_UNPRIVILEGED: u16 = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// One port that the server wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Port {
    pub(crate) setting: &'static str,
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
}

/// What binding it comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Bound {
    Free,
    Taken,
    Denied,
    /// No interface has the address.
    NotHere,
    Failed(String),
}

/// The server that runs here with these settings, as far as it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Running {
    No,
    /// It takes new calls.
    Ready,
    /// It is about to end.
    Stopping,
}

impl Port {
    /// Binds the port and lets go of it.
    pub(crate) fn try_bind(&self) -> Bound {
        let bound = match self.transport {
            Transport::Udp => UdpSocket::bind(self.address).map(drop),
            Transport::Tcp => TcpListener::bind(self.address).map(drop),
        };
        bound.map_or_else(|error| Bound::from(&error), |()| Bound::Free)
    }

    /// Where a program on this machine reaches it.
    pub(crate) fn reached_at(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }

    fn name(&self) -> String {
        let transport = match self.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        };
        format!("{transport} {}", self.address)
    }
}

impl From<&io::Error> for Bound {
    fn from(error: &io::Error) -> Bound {
        match error.kind() {
            ErrorKind::AddrInUse => Bound::Taken,
            ErrorKind::PermissionDenied => Bound::Denied,
            ErrorKind::AddrNotAvailable => Bound::NotHere,
            _ => Bound::Failed(error.to_string()),
        }
    }
}

/// All that the server will bind with these settings, in the order of the settings. Ports that the
/// relay shares with media or pages are listed once.
pub(crate) fn wanted(config: &Config) -> Vec<Port> {
    let mut ports = Vec::new();
    let mut want = |setting, transport, address| {
        ports.push(Port {
            setting,
            transport,
            address,
        });
    };
    want("http.listen", Transport::Tcp, config.http_listen);
    // Settings that contradict each other are a finding of the certificates.
    let listeners = config.tls_doors(true).unwrap_or_default();
    for listener in &listeners {
        let setting = match listener.http {
            true => "http.tls_listen",
            false => "turn.tls_listen",
        };
        want(setting, Transport::Tcp, listener.address);
    }
    let sfu = config.sfu(&[]);
    let media: Vec<SocketAddr> = (0..sfu.workers).map(|n| sfu.bind_address(n)).collect();
    for &address in &media {
        want("media.port", Transport::Udp, address);
    }
    for (worker, &udp) in media.iter().enumerate() {
        if let Some(address) = sfu.tcp_bind_address(worker, udp) {
            want("media.tcp_port", Transport::Tcp, address);
        }
    }
    if let Some(address) = config.stun_listen {
        want("stun.listen", Transport::Udp, address);
    }
    if config.has_turn() {
        let turn = config.turn(&media, &[]);
        for address in turn.udp {
            want("turn.listen", Transport::Udp, address);
        }
        for address in turn.tcp {
            want("turn.listen", Transport::Tcp, address);
        }
        for relay in turn.relays {
            want("turn.relay_ips", Transport::Udp, (relay.bind, 0).into());
        }
    }
    ports
}

/// Whether the server gets them.
pub(crate) fn judge(ports: &[(Port, Bound)], running: Running) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(match running {
        Running::No => None,
        Running::Ready => Some(Finding::ok("a server runs here and takes new calls")),
        Running::Stopping => Some(Finding::warning(
            "a server runs here, but it is stopping and takes no new calls: start it again once it \
             has ended",
        )),
    });
    findings.extend(contradictions(ports));
    let good = |bound: &Bound| match bound {
        Bound::Free => true,
        Bound::Taken => running != Running::No,
        _ => false,
    };
    let mut rest = ports;
    while let Some((port, bound)) = rest.first() {
        let alike = |(other, came): &&(Port, Bound)| {
            other.setting == port.setting && other.transport == port.transport && came == bound
        };
        let run = rest.iter().take_while(alike).count();
        let is_missing =
            running != Running::No && *bound == Bound::Free && port.address.port() != 0;
        findings.push(match good(bound) {
            true if is_missing => missing(port, run - 1),
            true => well(port, run - 1, bound),
            false => Finding::problem(wrong(port, bound)),
        });
        rest = &rest[if good(bound) { run } else { 1 }..];
    }
    findings
}

fn well(port: &Port, more: usize, bound: &Bound) -> Finding {
    let (setting, name) = (port.setting, port.name());
    if setting == "turn.relay_ips" {
        return Finding::ok(format!("{setting}: relayed from {}", port.address.ip()));
    }
    let more = and_more(more);
    Finding::ok(match bound {
        Bound::Free => format!("{setting}: {name}{more} can be had"),
        _ => format!("{setting}: {name}{more}, as the running server has it"),
    })
}

/// The running server has other settings.
fn missing(port: &Port, more: usize) -> Finding {
    Finding::warning(format!(
        "{}: {}{} is free, although a server runs here: it was started with other settings; \
         restart it, or give the doctor the same",
        port.setting,
        port.name(),
        and_more(more)
    ))
}

fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

fn wrong(port: &Port, bound: &Bound) -> String {
    let (setting, name) = (port.setting, port.name());
    let number = port.address.port();
    let all = match port.transport {
        Transport::Udp => "-lunp",
        Transport::Tcp => "-ltnp",
    };
    match bound {
        Bound::Taken => format!(
            "{setting}: {name} is taken by another program; `ss {all} 'sport = :{number}'` names \
             it: stop it, or choose another port"
        ),
        Bound::Denied if number < FIRST_UNPRIVILEGED => format!(
            "{setting}: {name} is below {FIRST_UNPRIVILEGED}, and this user may not have it: give \
             the program CAP_NET_BIND_SERVICE (AmbientCapabilities= of systemd), or choose a higher \
             port"
        ),
        Bound::NotHere => format!(
            "{setting}: {name} cannot be had, as no interface of this machine has {}: `ip address` \
             lists those it has; behind NAT, listen on one of them and set media.public_ips to the \
             outside one",
            port.address.ip()
        ),
        Bound::Failed(reason) => {
            format!("{setting}: {name} cannot be had: {reason}; choose another address")
        }
        Bound::Denied | Bound::Free => format!(
            "{setting}: {name} is refused by the system: look for a security policy (SELinux, \
             seccomp), or choose another port"
        ),
    }
}

/// Settings that want the same port.
fn contradictions(ports: &[(Port, Bound)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (n, (port, _)) in ports.iter().enumerate() {
        let same = |(other, _): &&(Port, Bound)| {
            other.transport == port.transport && meet(other.address, port.address)
        };
        if let Some((other, _)) = ports[..n].iter().find(same) {
            findings.push(Finding::problem(format!(
                "{} and {} both want {}: choose another for one of them",
                other.setting,
                port.setting,
                port.name()
            )));
        }
    }
    findings
}

/// Whether one socket keeps the other from being bound. Port 0 is any that is free.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    let is_same_ip = a.ip() == b.ip()
        || a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified());
    a.port() != 0 && a.port() == b.port() && is_same_ip
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::super::finding::Level;
    use super::*;

    fn port(setting: &'static str, transport: Transport, address: &str) -> Port {
        Port {
            setting,
            transport,
            address: address.parse().unwrap(),
        }
    }

    #[test]
    fn every_port_of_the_settings_is_wanted_once() {
        let mut config = Config {
            media_workers: 2,
            ..Config::default()
        };
        let names = |config: &Config| -> Vec<String> {
            let ports = wanted(config).into_iter();
            ports
                .map(|p| format!("{} {}", p.setting, p.name()))
                .collect()
        };
        assert_eq!(
            names(&config),
            [
                "http.listen TCP 127.0.0.1:8080",
                "media.port UDP 127.0.0.1:7000",
                "media.port UDP 127.0.0.1:7001",
                "media.tcp_port TCP 127.0.0.1:7000",
                "media.tcp_port TCP 127.0.0.1:7001",
                "turn.listen UDP 127.0.0.1:3478",
                "turn.listen TCP 127.0.0.1:3478",
                "turn.relay_ips UDP 127.0.0.1:0",
            ]
        );
        let shared = "127.0.0.1:7000".parse().unwrap();
        config.turn.listen = crate::config::Listen::At(vec![shared]);
        let shared = names(&config);
        assert!(!shared.iter().any(|name| name.starts_with("turn.listen")));
    }

    #[test]
    fn each_reason_has_its_advice() {
        let udp = port("media.port", Transport::Udp, "192.0.2.1:443");
        for (bound, running, level, words) in [
            (Bound::Free, Running::No, Level::Ok, "can be had"),
            (Bound::Taken, Running::Ready, Level::Ok, "running server"),
            (Bound::Free, Running::Ready, Level::Warning, "restart it"),
            (
                Bound::Taken,
                Running::No,
                Level::Problem,
                "ss -lunp 'sport = :443'",
            ),
            (
                Bound::Denied,
                Running::No,
                Level::Problem,
                "CAP_NET_BIND_SERVICE",
            ),
            (
                Bound::NotHere,
                Running::Ready,
                Level::Problem,
                "no interface of this machine has 192.0.2.1",
            ),
            (
                Bound::Failed("why".into()),
                Running::No,
                Level::Problem,
                "why",
            ),
        ] {
            let findings = judge(&[(udp.clone(), bound)], running);
            let last = findings.last().unwrap();
            assert_eq!(last.level, level, "{last:?}");
            assert!(last.text.contains(words), "{last:?}");
        }
        assert_eq!(judge(&[], Running::Stopping)[0].level, Level::Warning);
    }

    #[test]
    fn ports_of_many_workers_take_one_line_and_problems_one_each() {
        let of = |n: u16| {
            port(
                "media.port",
                Transport::Udp,
                &format!("127.0.0.1:{}", 7000 + n),
            )
        };
        let ports = [
            (of(0), Bound::Free),
            (of(1), Bound::Free),
            (of(2), Bound::Taken),
            (of(3), Bound::Taken),
            (of(4), Bound::Free),
        ];
        let levels: Vec<_> = judge(&ports, Running::No).iter().map(|f| f.level).collect();
        let expected = [Level::Ok, Level::Problem, Level::Problem, Level::Ok];
        assert_eq!(levels, expected);
        assert!(
            judge(&ports, Running::No)[0]
                .text
                .contains("7000 and 1 more")
        );
    }

    #[test]
    fn two_settings_cannot_have_one_port() {
        let web = port("http.listen", Transport::Tcp, "127.0.0.1:7000");
        for (other, count) in [
            (port("media.tcp_port", Transport::Tcp, "0.0.0.0:7000"), 1),
            (port("media.tcp_port", Transport::Tcp, "[::1]:7000"), 0),
            (port("media.port", Transport::Udp, "127.0.0.1:7000"), 0),
        ] {
            let ports = [(web.clone(), Bound::Free), (other, Bound::Free)];
            assert_eq!(contradictions(&ports).len(), count);
        }
    }

    #[test]
    fn a_taken_port_is_seen() {
        let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap().to_string();
        let port = port("media.port", Transport::Udp, &address);
        assert_eq!(port.try_bind(), Bound::Taken);
        drop(holder);
        assert_eq!(port.try_bind(), Bound::Free);
    }
}
