//! The transport half of an SDP: ICE credentials and candidates (RFC 8839), DTLS fingerprints
//! and roles (RFC 8842).

use std::net::SocketAddr;

use super::error::OfferError;
use crate::peer::ice::Credentials;
use crate::types::Ssrc;

/// Lengths of `ice-ufrag` and `ice-pwd` (RFC 8839 section 5.4).
const UFRAG_LEN: std::ops::RangeInclusive<usize> = 4..=256;
const PWD_LEN: std::ops::RangeInclusive<usize> = 22..=256;
/// Type preference of a host candidate (RFC 8445 section 5.1.2.2).
const HOST_PREFERENCE: u32 = 126;

/// The client's credentials, from its `a=ice-ufrag` and `a=ice-pwd`.
pub(super) fn credentials(
    ufrag: Option<&str>,
    pwd: Option<&str>,
) -> Result<Credentials, OfferError> {
    let is_ice = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    let ufrag = ufrag.ok_or(OfferError::Credentials("there is no a=ice-ufrag"))?;
    let pwd = pwd.ok_or(OfferError::Credentials("there is no a=ice-pwd"))?;
    if !UFRAG_LEN.contains(&ufrag.len()) || !is_ice(ufrag) {
        return Err(OfferError::Credentials(
            "the a=ice-ufrag is not 4 to 256 letters, digits, + or /",
        ));
    }
    if !PWD_LEN.contains(&pwd.len()) || !is_ice(pwd) {
        return Err(OfferError::Credentials(
            "the a=ice-pwd is not 22 to 256 letters, digits, + or /",
        ));
    }
    Ok(Credentials {
        ufrag: ufrag.to_owned(),
        pwd: pwd.to_owned(),
    })
}

/// The server's side of the transport, and where fresh random values come from.
pub struct Local<'a> {
    /// What SDP says of our certificate: `sha-256 AB:CD:…`.
    pub fingerprint: &'a str,
    /// The UDP addresses at which the client can reach us, the best first.
    pub candidates: &'a [SocketAddr],
    /// Gives a random SSRC that the connection does not use yet.
    pub new_ssrc: &'a mut dyn FnMut() -> Ssrc,
    /// Gives new random credentials; called for the first offer and for each ICE restart.
    pub new_credentials: &'a mut dyn FnMut() -> Credentials,
}

/// The values of `a=candidate` for our addresses: host, UDP, component 1
/// (RFC 8839 section 5.1, priority of RFC 8445 section 5.1.2.1).
pub(super) fn candidates(addresses: &[SocketAddr]) -> impl Iterator<Item = String> + '_ {
    addresses.iter().zip(0u16..).map(|(address, place)| {
        let local_preference = u32::from(u16::MAX - place);
        let priority = (HOST_PREFERENCE << 24) | (local_preference << 8) | (256 - 1);
        format!(
            "{foundation} 1 udp {priority} {ip} {port} typ host",
            foundation = u32::from(place) + 1,
            ip = address.ip(),
            port = address.port(),
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
    fn candidate_lines_fall_in_priority() {
        let addresses = [
            "192.0.2.1:7000".parse().unwrap(),
            "[2001:db8::1]:7001".parse().unwrap(),
        ];
        let lines: Vec<_> = candidates(&addresses).collect();
        assert_eq!(
            lines,
            [
                "1 1 udp 2130706431 192.0.2.1 7000 typ host",
                "2 1 udp 2130706175 2001:db8::1 7001 typ host",
            ]
        );
    }
}
