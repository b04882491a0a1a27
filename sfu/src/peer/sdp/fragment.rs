//! `trickle-ice-sdpfrag` bodies (RFC 8840 section 9), by which WHIP and WHEP restart ICE
//! (RFC 9725 section 4.3.3).

use super::transport::{candidates, credentials};
use crate::api::SdpError;
use crate::negotiated::Section;
use crate::path::Candidate;
use crate::peer::ice::Credentials;
use crate::types::Mid;

/// Largest fragment that is read, in bytes: credentials and some hundred candidates.
const MAX_FRAGMENT_BYTES: usize = 16 * 1024;

/// The credentials in a fragment; bundled m-lines all have the same, so the first count.
pub(super) fn parse(fragment: &str) -> Result<Credentials, SdpError> {
    if fragment.len() > MAX_FRAGMENT_BYTES {
        return Err(SdpError::TooLarge {
            bytes: fragment.len(),
            limit: MAX_FRAGMENT_BYTES,
        });
    }
    let value = |attribute| {
        let mut values = fragment
            .lines()
            .filter_map(|line| line.strip_prefix(attribute));
        values.next().map(str::trim)
    };
    credentials(value("a=ice-ufrag:"), value("a=ice-pwd:"))
}

/// The fragment to answer with: the BUNDLE group, and its first m-line with the name that the client
/// gives it.
pub(super) fn write(
    bundle: &[Mid],
    first: Option<(&Section, Option<Mid>)>,
    ice: &Credentials,
    paths: &[Candidate],
    restarts: u32,
) -> String {
    let mut lines = vec!["a=ice-lite".to_owned(), "a=ice-options:trickle".to_owned()];
    if !bundle.is_empty() {
        let mids: Vec<_> = bundle.iter().map(Mid::as_str).collect();
        lines.push(format!("a=group:BUNDLE {}", mids.join(" ")));
    }
    if let Some((section, mid)) = first {
        let formats: Vec<_> = section
            .payloads
            .iter()
            .map(|payload| payload.payload_type.to_string())
            .collect();
        lines.push(format!(
            "m={} 9 UDP/TLS/RTP/SAVPF {}",
            section.kind,
            formats.join(" ")
        ));
        lines.extend(mid.map(|mid| format!("a=mid:{mid}")));
    }
    lines.push(format!("a=ice-ufrag:{}", ice.ufrag));
    lines.push(format!("a=ice-pwd:{}", ice.pwd));
    lines.extend(candidates(paths, restarts).map(|candidate| format!("a=candidate:{candidate}")));
    lines.push("a=end-of-candidates\r\n".to_owned());
    lines.join("\r\n")
}
