//! By which names a server may be asked whose rooms are open (DNS rebinding).
//!
//! In: the `Host` header. Out: whether the request is served. Whoever runs a page can have its name lead
//! to this machine a moment later, and the browser then takes the server for that page's own. No page has
//! an address for its name, or a name that nobody can register, so those are served whatever they are; of
//! others, only those that the server has been told to be its own, or has a certificate for.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::Problem;
use crate::protocol::{ErrorCode, shortened};

/// Under these nobody registers names for everybody: RFC 6761, RFC 6762, RFC 8375, and what ICANN has set
/// aside for private use in 2024.
const LOCAL: [&str; 5] = ["localhost", "test", "local", "home.arpa", "internal"];

/// The names of this server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Names(Vec<String>);

impl Names {
    /// Host names, or places such as `https://host[:port]/path`.
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Names {
        let hosts = names.into_iter().map(|name| {
            let place = name.split_once("://").map_or(&*name, |(_, place)| place);
            let authority = place.split('/').next().unwrap_or_default();
            host(authority).to_ascii_lowercase()
        });
        Names(hosts.collect())
    }

    /// The host that is asked for, if it may be some other page's name.
    fn foreign<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let host = asked(headers)?;
        let is_own = self.0.iter().any(|own| own.eq_ignore_ascii_case(host));
        (!is_own && is_public(host)).then_some(host)
    }
}

/// The host in the `Host` header; none if there is no such header. One that is no text is public.
fn asked(headers: &HeaderMap) -> Option<&str> {
    let authority = headers.get(header::HOST)?;
    Some(host(authority.to_str().unwrap_or("?.?")))
}

/// The host of `host[:port]`.
pub(super) fn host(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether a host is a name that somebody may have registered.
fn is_public(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let is_under = |local: &str| {
        let rest = host.strip_suffix(local);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    host.contains('.') && host.parse::<IpAddr>().is_err() && !LOCAL.into_iter().any(is_under)
}

/// Refuses what comes by a foreign name, while rooms are open.
pub(super) async fn known(State(app): State<App>, request: Request, next: Next) -> Response {
    if app.auth.is_open()
        && let Some(host) = app.names.foreign(request.headers())
        && !app.certificates.is_some_and(|shown| shown.name(host))
    {
        let text = format!(
            "This server does not know that it is called {:?}; open it by its address, or set \
             `http.public_url`.",
            shortened(host)
        );
        let status = StatusCode::MISDIRECTED_REQUEST;
        return Problem::new(status, ErrorCode::NotAllowed, text).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
    use super::*;

    #[test]
    fn only_addresses_and_names_of_its_own_are_taken() {
        let names = Names::new([
            "https://call.example.org:8443/calls".to_owned(),
            "Other.example.org".to_owned(),
        ]);
        for (host, is_foreign) in [
            ("127.0.0.1:8080", false),
            ("192.0.2.7", false),
            ("[::1]:8080", false),
            ("[2001:db8::1]", false),
            ("localhost:8080", false),
            ("a.localhost", false),
            ("office", false),
            ("pi.local", false),
            ("PI.Local.:8080", false),
            ("call.office.internal", false),
            ("home.arpa", false),
            ("pi.home.arpa", false),
            ("call.test", false),
            ("evillocal.org", true),
            ("my.arpa", true),
            ("evilhome.arpa", true),
            ("local.evil.org", true),
            ("call.example.org", false),
            ("CALL.example.org.:80", false),
            ("other.example.org:1", false),
            ("evil.example.org", true),
            ("evil.example.org:8080", true),
            ("call.example.org.evil.org", true),
            ("127.0.0.1.evil.org:8080", true),
            ("localhost.evil.org", true),
            ("1.2.3", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            assert_eq!(names.foreign(&headers).is_some(), is_foreign, "{host}");
        }
        let mut garbled = HeaderMap::new();
        garbled.insert(
            header::HOST,
            axum::http::HeaderValue::from_bytes(b"\xff").unwrap(),
        );
        assert!(names.foreign(&garbled).is_some());
        assert!(names.foreign(&HeaderMap::new()).is_none());
    }
}
