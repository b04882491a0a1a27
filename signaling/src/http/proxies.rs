//! Whom a request comes from where reverse proxies stand in between.
//!
//! In: where its connection comes from, and what it says of those before that. Out: the address that limits
//! count. Whoever sends a request can write `X-Forwarded-For` as well, so that only what trusted proxies
//! have added to it counts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};
use confab_sockets::cidr::Cidr;

/// Each proxy adds the address that its connection came from at the end.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The reverse proxies that are trusted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Proxies(Arc<[Cidr]>);

impl Proxies {
    /// Those of these ranges.
    pub(crate) fn new(ranges: Vec<Cidr>) -> Proxies {
        Proxies(ranges.into())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    /// Who has sent a request that has come from `peer`: the last on its way that is no trusted proxy.
    pub(super) fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut caller = peer.to_canonical();
        let lines = headers.get_all(FORWARDED_FOR).into_iter().rev();
        // What is no text is no address either.
        let mut entries = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
        while self.trusts(caller)
            && let Some(before) = entries.next().and_then(address)
        {
            caller = before;
        }
        caller
    }
}

/// An address, as some proxies write it with a port.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    let with_port = || entry.parse().ok().map(|address: SocketAddr| address.ip());
    let address = bare.parse().ok().or_else(with_port);
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_caller_is_the_last_that_is_no_trusted_proxy() {
        let ranges = ["127.0.0.1", "10.1.0.0/16", "2001:db8::/32"].map(|range| range.parse());
        let proxies = Proxies::new(ranges.into_iter().map(Result::unwrap).collect());
        for (peer, lines, caller) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            // Nobody has been told to trust it.
            ("192.0.2.1", &["203.0.113.1"], "192.0.2.1"),
            ("10.2.0.1", &["203.0.113.1"], "10.2.0.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.1"], "203.0.113.1"),
            ("::ffff:127.0.0.1", &["203.0.113.1"], "203.0.113.1"),
            ("2001:db8::7", &["2001:db9::1"], "2001:db9::1"),
            // What the client has written itself is before what the proxy adds.
            ("127.0.0.1", &["198.51.100.1, 203.0.113.1"], "203.0.113.1"),
            ("127.0.0.1", &["198.51.100.1", "203.0.113.1"], "203.0.113.1"),
            ("127.0.0.1", &["10.1.0.1,203.0.113.1"], "203.0.113.1"),
            ("127.0.0.1", &["203.0.113.1, 10.1.0.1"], "203.0.113.1"),
            (
                "127.0.0.1",
                &["203.0.113.1", "10.1.0.1 ,10.1.0.2"],
                "203.0.113.1",
            ),
            ("127.0.0.1", &["10.1.0.1"], "10.1.0.1"),
            ("127.0.0.1", &["203.0.113.1:4711"], "203.0.113.1"),
            ("127.0.0.1", &["[2001:db9::1]:4711"], "2001:db9::1"),
            ("127.0.0.1", &["[2001:db9::1]"], "2001:db9::1"),
            ("127.0.0.1", &["::ffff:203.0.113.1"], "203.0.113.1"),
            ("127.0.0.1", &["unknown"], "127.0.0.1"),
            ("127.0.0.1", &[""], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.1, evil, 10.1.0.1"], "10.1.0.1"),
            ("127.0.0.1", &["203.0.113.1", "\u{e4}"], "127.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                let value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
                headers.append(FORWARDED_FOR, value);
            }
            let found = proxies.caller(peer.parse().unwrap(), &headers);
            assert_eq!(found, caller.parse::<IpAddr>().unwrap(), "{peer} {lines:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_static("203.0.113.1"));
        let nobody = Proxies::default().caller([127, 0, 0, 1].into(), &headers);
        assert_eq!(nobody, IpAddr::from([127, 0, 0, 1]));
    }
}
