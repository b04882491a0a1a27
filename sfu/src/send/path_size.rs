//! How large a datagram reaches a client whole.
//!
//! In: which path is selected, and what the kernel knows of its MTU. Out: the limit that packets keep to by
//! leaving out what they can do without. What is longer all the same is sent in IP fragments (RFC 8085
//! section 3.2), and the log says so once for each path.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::path::Path;

/// The MTU of a path that nothing is known of, bytes: Ethernet's.
const ETHERNET: usize = 1500;

/// Headers of IP (RFC 791, RFC 8200) and UDP (RFC 768), bytes.
const IPV4_UDP: usize = 20 + 8;
const IPV6_UDP: usize = 40 + 8;

/// The least datagrams that any path takes whole, bytes: an ICMP message that tells of less is not believed.
/// Of IPv4 it is what every host can reassemble (RFC 1122 section 3.3.2), of IPv6 what every link carries
/// (RFC 8200 section 5).
const LEAST_IPV4: usize = 576;
const LEAST_IPV6: usize = 1280;

/// What a relay puts around a packet for its client, bytes: a Data indication with an IPv4 address
/// (RFC 8656 section 11.6). A channel takes 4.
const RELAYED: usize = 36;

/// How often the kernel is asked anew: it forgets what routers have told it after ten minutes.
const INTERVAL: Duration = Duration::from_secs(30);

/// How large a datagram may be on the path that is selected.
#[derive(Debug)]
pub(crate) struct PathSize {
    path: Option<Path>,
    limit: usize,
    /// Whether the log has told of packets that are too long.
    is_logged: bool,
    next_measure: Option<Instant>,
}

impl Default for PathSize {
    fn default() -> Self {
        PathSize {
            path: None,
            limit: ETHERNET - IPV6_UDP,
            is_logged: false,
            next_measure: None,
        }
    }
}

impl PathSize {
    /// Begins with what is likely of a path that has been selected.
    pub(crate) fn select(&mut self, path: Path) {
        if self.path != Some(path) {
            *self = PathSize {
                path: Some(path),
                limit: limit(path, None),
                ..PathSize::default()
            };
        }
    }

    /// Takes what the kernel says of the MTU of a path, in bytes.
    pub(crate) fn set_mtu(&mut self, path: Path, mtu: usize) {
        if self.path == Some(path) {
            self.limit = limit(path, Some(mtu));
        }
    }

    /// The path to measure, if that is due.
    pub(crate) fn poll_measure(&mut self, now: Instant) -> Option<Path> {
        let path = self.path.filter(|path| matches!(path, Path::Udp(_)))?;
        let is_due = self.next_measure.is_none_or(|due| now >= due);
        if is_due {
            self.next_measure = Some(now + INTERVAL);
        }
        is_due.then_some(path)
    }

    /// The most bytes of a datagram that arrives whole.
    #[must_use]
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether it is the first packet on this path that is too long.
    pub(super) fn is_first_long(&mut self) -> bool {
        !std::mem::replace(&mut self.is_logged, true)
    }
}

fn limit(path: Path, mtu: Option<usize>) -> usize {
    match path {
        _ if path.is_of_stream() => usize::MAX,
        Path::Udp(pair) => datagram(pair.remote, mtu.unwrap_or(ETHERNET)),
        // Of the client's own path to the relay nothing is known here.
        _ => ETHERNET - IPV6_UDP - RELAYED,
    }
}

fn datagram(to: SocketAddr, mtu: usize) -> usize {
    match to.ip().to_canonical() {
        IpAddr::V4(_) => mtu.max(LEAST_IPV4) - IPV4_UDP,
        IpAddr::V6(_) => mtu.max(LEAST_IPV6) - IPV6_UDP,
    }
}

#[cfg(test)]
mod tests {
    use confab_sockets::memory::Relayed;

    use super::*;
    use crate::path::ConnectionId;

    #[test]
    fn each_way_has_its_limit() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let relayed = |is_of_stream| Path::Relayed {
            relay: address("192.0.2.1:1"),
            media: address("192.0.2.2:2"),
            through: Relayed {
                allocation: 1,
                is_of_stream,
            },
        };
        let tcp = Path::Tcp {
            connection: ConnectionId(1),
            address: address("192.0.2.1:1"),
        };
        let v4 = Path::from(address("192.0.2.1:1"));
        let mapped = Path::from(address("[::ffff:192.0.2.1]:1"));
        let v6 = Path::from(address("[2001:db8::1]:1"));
        for (path, mtu, expected) in [
            (v4, None, 1472),
            (v4, Some(1500), 1472),
            (v4, Some(1280), 1252),
            (v4, Some(65_536), 65_508),
            (v4, Some(0), 548),
            (mapped, Some(1400), 1372),
            (v6, None, 1452),
            (v6, Some(1400), 1352),
            (v6, Some(576), 1232),
            (relayed(false), None, 1416),
            (relayed(true), None, usize::MAX),
            (tcp, None, usize::MAX),
        ] {
            let mut size = PathSize::default();
            size.select(path);
            if let Some(mtu) = mtu {
                size.set_mtu(path, mtu);
            }
            assert_eq!(size.limit(), expected, "{path} {mtu:?}");
        }
    }

    #[test]
    fn a_path_is_measured_when_it_is_selected_and_every_half_minute() {
        let start = Instant::now();
        let [one, other] = [1, 2].map(|port| Path::from(SocketAddr::from(([192, 0, 2, 1], port))));
        let mut size = PathSize::default();
        assert_eq!(size.poll_measure(start), None, "there is none");
        size.select(one);
        assert_eq!(size.poll_measure(start), Some(one));
        size.set_mtu(one, 1400);
        assert!(size.is_first_long() && !size.is_first_long());
        size.select(one);
        assert_eq!((size.limit(), size.poll_measure(start)), (1372, None));
        size.select(other);
        assert_eq!((size.limit(), size.is_first_long()), (1472, true));
        size.set_mtu(one, 1280);
        assert_eq!(size.limit(), 1472, "of the former path");
        assert_eq!(size.poll_measure(start), Some(other));
        assert_eq!(size.poll_measure(start + INTERVAL), Some(other));
    }
}
