//! Which pages may talk to this server: its own, and those of configured origins (RFC 6454).

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use super::host::host;

/// The origins that are allowed besides the server's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Origins {
    allowed: Vec<String>,
}

impl Origins {
    /// `scheme://host[:port]` each.
    pub(crate) fn new(allowed: Vec<String>) -> Origins {
        Origins { allowed }
    }

    /// Whether a request may come from where its `Origin` header says. Programs that are not
    /// browsers send none, and no page can leave it out.
    pub(crate) fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        if self.allowed.iter().any(|a| a.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
        let (Some(host), Some((_, page_host))) = (host, origin.split_once("://")) else {
            return false;
        };
        page_host.eq_ignore_ascii_case(host) || (is_loopback(page_host) && is_loopback(host))
    }
}

/// Whether `host[:port]` is this machine: a page served from another port of it is its user's own.
fn is_loopback(authority: &str) -> bool {
    let host = host(authority);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;

    #[test]
    fn only_the_servers_own_pages_and_those_configured_may_talk_to_it() {
        let origins = Origins::new(vec!["https://app.example.org".into()]);
        let table = [
            (Some("http://127.0.0.1:8080"), "127.0.0.1:8080", true),
            (Some("https://call.example.org"), "call.example.org", true),
            (Some("https://CALL.example.org"), "call.example.org", true),
            (Some("https://app.example.org"), "call.example.org", true),
            (Some("http://localhost:3000"), "127.0.0.1:8080", true),
            (Some("http://[::1]:3000"), "localhost:8080", true),
            (None, "call.example.org", true),
            (Some("https://evil.example.org"), "call.example.org", false),
            (Some("http://localhost:3000"), "call.example.org", false),
            (Some("https://evil.example.org"), "127.0.0.1:8080", false),
            (Some("http://127.0.0.1.evil.org"), "127.0.0.1:8080", false),
            (Some("https://app.example.org.evil.org"), "x", false),
            (Some("null"), "127.0.0.1:8080", false),
            (Some(""), "127.0.0.1:8080", false),
        ];
        for (origin, host, allowed) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(origins.allow(&headers), allowed, "{origin:?} to {host}");
        }
    }
}
