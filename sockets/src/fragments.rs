//! Datagrams that are longer than a path takes.
//!
//! In: a socket, or an address. Out: a socket whose datagrams IP may fragment; how large a packet reaches
//! the address whole, as far as the kernel knows.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6DontFrag;
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};

/// Lets IP fragment what is longer than a path takes: here, and with IPv4 on the way (RFC 8085 section
/// 3.2). Without it such datagrams vanish where no ICMP comes back. To be called after `quinn-udp` has
/// taken the socket, which forbids it.
///
/// # Errors
/// When the kernel knows nothing of it.
pub fn allow_fragments(socket: &UdpSocket) -> io::Result<()> {
    if socket.local_addr()?.is_ipv6() {
        sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT)?;
        setsockopt(socket, Ipv6DontFrag, &false)?;
    }
    // An IPv6 socket may have IPv4 clients.
    sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?;
    Ok(())
}

/// The largest IP packet in bytes, its header included, that reaches an address whole from an address of
/// ours: the MTU of the route, or less where a router has told so.
///
/// # Errors
/// When there is no route.
pub fn path_mtu(from: IpAddr, to: SocketAddr) -> io::Result<usize> {
    let to = SocketAddr::new(to.ip().to_canonical(), to.port());
    let from = match (from.to_canonical(), to) {
        (from, _) if !from.is_unspecified() => from,
        (_, SocketAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (_, SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(to)?;
    let mtu = match to {
        SocketAddr::V4(_) => sockopt::ip_mtu(&socket)?,
        SocketAddr::V6(_) => sockopt::ipv6_mtu(&socket)?,
    };
    Ok(usize::try_from(mtu).unwrap_or(usize::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_allowed_of_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            // As quinn-udp leaves it.
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE).unwrap();
            let is_v6 = socket.local_addr().unwrap().is_ipv6();
            if is_v6 {
                sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE).unwrap();
                setsockopt(&socket, Ipv6DontFrag, &true).unwrap();
            }
            allow_fragments(&socket).unwrap();
            let v4 = sockopt::ip_mtu_discover(&socket).unwrap();
            assert_eq!(v4, Ipv4PathMtuDiscovery::DONT, "{address}");
            if is_v6 {
                let v6 = sockopt::ipv6_mtu_discover(&socket).unwrap();
                assert_eq!(v6, Ipv6PathMtuDiscovery::DONT, "{address}");
                let forbids = nix::sys::socket::getsockopt(&socket, Ipv6DontFrag).unwrap();
                assert!(!forbids, "{address}");
            }
        }
    }

    #[test]
    fn the_loopback_has_one_mtu_whatever_family_the_address_is_written_in() {
        let mtu = |from: &str, to: &str| path_mtu(from.parse().unwrap(), to.parse().unwrap());
        let expected = mtu("127.0.0.1", "127.0.0.1:9").unwrap();
        assert!(expected >= 1500);
        for (from, to) in [
            ("0.0.0.0", "127.0.0.1:9"),
            ("::", "127.0.0.1:9"),
            ("::", "[::ffff:127.0.0.1]:9"),
            ("::", "[::1]:9"),
            ("::1", "[::1]:9"),
        ] {
            // Linux counts IPv6's header by itself beyond 65,535 bytes.
            let found = mtu(from, to).unwrap();
            assert!(found.abs_diff(expected) <= 1, "{from} {to}: {found}");
        }
    }
}
