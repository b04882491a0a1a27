//! The transport half of an SDP: ICE credentials and candidates (RFC 8839), DTLS fingerprints
//! and roles (RFC 8842).

use crate::api::SdpError;
use crate::path::{Candidate, Protocol};
use crate::peer::dtls::Role;
use crate::peer::ice::Credentials;
use crate::types::Ssrc;

/// Lengths of `ice-ufrag` and `ice-pwd` (RFC 8839 section 5.4).
const UFRAG_LEN: std::ops::RangeInclusive<usize> = 4..=256;
const PWD_LEN: std::ops::RangeInclusive<usize> = 22..=256;
/// Type preferences of our candidates, instead of the 126 of RFC 8445 section 5.1.2.2: a higher one after
/// each ICE restart, so that a client prefers any path that works now, TCP too, to what it had before. For
/// a pair the lower of two preferences counts most (section 6.1.2.3): ours are below that which
/// libwebrtc gives TCP (80, `ICE_TYPE_PREFERENCE_PRFLX_TCP`), to decide, and above that of relays (2), which
/// come last in any case.
const FIRST_PREFERENCE: u32 = 10;
const LAST_PREFERENCE: u32 = 79;
/// Local preference of a TCP candidate (RFC 6544 section 4.2): that of the passive side of a host
/// candidate, and below it 13 bits that tell addresses apart. Any UDP candidate has a higher one.
const PASSIVE_PREFERENCE: u16 = 4;
const OTHER_BITS: u32 = 13;
const MAX_OTHER_PREFERENCE: u16 = (1 << OTHER_BITS) - 1;

/// The client's credentials, from its `a=ice-ufrag` and `a=ice-pwd`.
pub(super) fn credentials(ufrag: Option<&str>, pwd: Option<&str>) -> Result<Credentials, SdpError> {
    let is_ice = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    let ufrag = ufrag.ok_or(SdpError::Credentials("there is no a=ice-ufrag"))?;
    let pwd = pwd.ok_or(SdpError::Credentials("there is no a=ice-pwd"))?;
    if !UFRAG_LEN.contains(&ufrag.len()) || !is_ice(ufrag) {
        return Err(SdpError::Credentials(
            "the a=ice-ufrag is not 4 to 256 letters, digits, + or /",
        ));
    }
    if !PWD_LEN.contains(&pwd.len()) || !is_ice(pwd) {
        return Err(SdpError::Credentials(
            "the a=ice-pwd is not 22 to 256 letters, digits, + or /",
        ));
    }
    Ok(Credentials {
        ufrag: ufrag.to_owned(),
        pwd: pwd.to_owned(),
    })
}

/// Our role in DTLS, as the client's `a=setup` has it (RFC 8842 section 5.3), which a connection
/// keeps; `None` when there is no such role, or it would change. Where the client leaves the choice
/// to us we are the server: the first flight is then the client's, who knows best when it can send.
pub(super) fn role(setup: &str, before: Option<Role>) -> Option<Role> {
    let asked = match setup {
        "actpass" => return Some(before.unwrap_or(Role::Server)),
        "active" => Role::Server,
        "passive" => Role::Client,
        _ => return None,
    };
    (before.is_none() || before == Some(asked)).then_some(asked)
}

/// The value of `a=setup` that says our role.
pub(super) fn setup(role: Role) -> &'static str {
    match role {
        Role::Client => "active",
        Role::Server => "passive",
    }
}

/// The server's side of the transport, and where fresh random values come from.
pub struct Local<'a> {
    /// What SDP says of our certificate: `sha-256 AB:CD:…`.
    pub fingerprint: &'a str,
    /// Where the client can reach us, the best first.
    pub candidates: &'a [Candidate],
    /// Gives a random SSRC that the connection does not use yet.
    pub new_ssrc: &'a mut dyn FnMut() -> Ssrc,
    /// Gives new random credentials; called for the first offer and for each ICE restart.
    pub new_credentials: &'a mut dyn FnMut() -> Credentials,
}

/// The values of `a=candidate` for our addresses: host, component 1 (RFC 8839 section 5.1; RFC 6544
/// section 4.5 for TCP), after so many ICE restarts.
pub(super) fn candidates(
    candidates: &[Candidate],
    restarts: u32,
) -> impl Iterator<Item = String> + '_ {
    let type_preference = FIRST_PREFERENCE
        .saturating_add(restarts)
        .min(LAST_PREFERENCE);
    candidates
        .iter()
        .zip(0u16..)
        .map(move |(candidate, place)| {
            let (protocol, local_preference, tcptype) = match candidate.protocol {
                Protocol::Udp => ("udp", u16::MAX - place, ""),
                Protocol::Tcp => {
                    let other = MAX_OTHER_PREFERENCE.saturating_sub(place);
                    let preference = (PASSIVE_PREFERENCE << OTHER_BITS) + other;
                    ("tcp", preference, " tcptype passive")
                }
            };
            // RFC 8445 section 5.1.2.1.
            let priority = (type_preference << 24) | (u32::from(local_preference) << 8) | (256 - 1);
            format!(
                "{foundation} 1 {protocol} {priority} {ip} {port} typ host{tcptype}",
                foundation = u32::from(place) + 1,
                ip = candidate.address.ip(),
                port = candidate.address.port(),
            )
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]
mod tests {
    use super::*;

    #[test]
    fn credentials_have_their_lengths_and_alphabet() {
        let pwd = "0123456789abcdefABCD+/";
        assert!(credentials(Some("abcd"), Some(pwd)).is_ok());
        let long = "a".repeat(257);
        for (ufrag, pwd) in [
            (None, Some(pwd)),
            (Some("abcd"), None),
            (Some("abc"), Some(pwd)),
            (Some("ab:d"), Some(pwd)),
            (Some("abcd"), Some("short")),
            (Some("abcd"), Some("0123456789 bcdefABCD+/")),
            (Some(long.as_str()), Some(pwd)),
            (Some("abcd"), Some(long.as_str())),
        ] {
            let error = credentials(ufrag, pwd).unwrap_err();
            assert_eq!(error.code(), "bad_sdp");
        }
        let shown = format!("{:?}", credentials(Some("abcd"), Some(pwd)));
        assert!(!shown.contains(pwd));
    }

    #[test]
    fn the_role_follows_the_offer_and_stays() {
        let (server, client) = (Some(Role::Server), Some(Role::Client));
        for (setup, before, role) in [
            ("actpass", None, server),
            ("active", None, server),
            ("passive", None, client),
            ("holdconn", None, None),
            ("actpass", client, client),
            ("actpass", server, server),
            ("passive", client, client),
            ("active", server, server),
            ("active", client, None),
            ("passive", server, None),
        ] {
            assert_eq!(super::role(setup, before), role, "{setup} after {before:?}");
        }
    }

    #[test]
    fn candidate_lines_fall_in_priority() {
        let first = "192.0.2.1:7000".parse().unwrap();
        let second = "[2001:db8::1]:7001".parse().unwrap();
        let both = [
            Candidate::udp(first),
            Candidate::udp(second),
            Candidate::tcp(first),
            Candidate::tcp(second),
        ];
        let lines: Vec<_> = candidates(&both, 0).collect();
        assert_eq!(
            lines,
            [
                "1 1 udp 184549375 192.0.2.1 7000 typ host",
                "2 1 udp 184549119 2001:db8::1 7001 typ host",
                "3 1 tcp 178257407 192.0.2.1 7000 typ host tcptype passive",
                "4 1 tcp 178257151 2001:db8::1 7001 typ host tcptype passive",
            ]
        );
    }

    #[test]
    fn what_comes_after_a_restart_is_preferred_to_what_was_before() {
        let address = "192.0.2.1:7000".parse().unwrap();
        let both = [Candidate::udp(address), Candidate::tcp(address)];
        let priorities = |restarts| -> Vec<u32> {
            let priority = |line: String| line.split(' ').nth(3).unwrap().parse().unwrap();
            candidates(&both, restarts).map(priority).collect()
        };
        for restarts in 0..LAST_PREFERENCE - FIRST_PREFERENCE {
            let worst_after = priorities(restarts + 1)[1];
            assert!(worst_after > priorities(restarts)[0], "{restarts}");
            // What libwebrtc gives a TCP candidate of its own must not be what decides.
            assert!(priorities(restarts + 1)[0] < 80 << 24, "{restarts}");
        }
        assert_eq!(priorities(u32::MAX), priorities(69));
    }
}
