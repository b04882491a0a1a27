//! Why an offer is refused: one sentence for a person, one stable code for a program.

use std::fmt;

use crate::types::Mid;

/// Most characters of the offer's own text that an error repeats.
const MAX_QUOTE: usize = 60;

/// Which m-line an error speaks of. Displays as `m-line 2 (video, mid "cam")`; the number counts
/// from 0, as `sdpMLineIndex` does in a browser.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineName {
    /// Position in the offer, from 0.
    pub index: usize,
    /// The `<media>` of the m-line: `audio`, `video`, `application`, …
    pub media: String,
    /// Its `a=mid`, if it has a usable one. Apart, as errors are moved about and it may be long.
    pub mid: Option<Box<Mid>>,
}

impl fmt::Display for LineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m-line {} ({}", self.index, quote(&self.media))?;
        match &self.mid {
            Some(mid) => write!(f, ", mid \"{mid}\")"),
            None => f.write_str(", no mid)"),
        }
    }
}

/// An offer, or an ICE restart fragment, that the server refuses. Nothing has changed on the
/// connection when one of these is returned.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SdpError {
    /// Larger than [`MAX_SDP_BYTES`](crate::peer::sdp::MAX_SDP_BYTES).
    #[error("the SDP has {bytes} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More m-lines than [`MAX_LINES`](crate::negotiated::MAX_LINES).
    #[error("the offer has {lines} m-lines, more than the {limit} that are accepted")]
    TooManyLines {
        /// How many it has.
        lines: usize,
        /// The limit.
        limit: usize,
    },
    /// More of something on one m-line than is accepted.
    #[error("{line} has {count} {what}, more than the {limit} that are accepted")]
    TooMany {
        /// The m-line.
        line: LineName,
        /// What there is too much of.
        what: &'static str,
        /// How many it has.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Not SDP at all.
    #[error("this is not SDP: {0}; send the client's offer unchanged")]
    Syntax(String),
    /// An m-line whose `a=mid` is none.
    #[error("{0} has an a=mid that is not a token of at most 64 characters")]
    BadMid(LineName),
    /// Two m-lines of the same name.
    #[error("{line} has the mid of m-line {first}; every m-line needs its own")]
    DuplicateMid {
        /// The second of the two.
        line: LineName,
        /// Index of the first.
        first: usize,
    },
    /// One SSRC on two m-lines.
    #[error("{line} claims SSRC {ssrc}, which another m-line has")]
    DuplicateSsrc {
        /// The second of the two.
        line: LineName,
        /// The SSRC.
        ssrc: u32,
    },
    /// One header extension id with two meanings in the BUNDLE group, so that a packet could not
    /// be understood before its m-line is known.
    #[error(
        "{line} gives header extension id {id} another meaning than an m-line it is bundled with"
    )]
    ExtensionConflict {
        /// The second of the two.
        line: LineName,
        /// The id.
        id: u8,
    },
    /// ICE credentials are missing or not as RFC 8839 section 5.4 has them.
    #[error("{0}")]
    Credentials(&'static str),
    /// No fingerprint, or none that can be read.
    #[error("{0} has no a=fingerprint of sha-256, sha-384 or sha-512")]
    NoFingerprint(LineName),
    /// No role in DTLS, or another than the connection has.
    #[error(
        "{line} offers a=setup:{setup}; offer actpass, active or passive, and later actpass or \
         the role that the connection has"
    )]
    Setup {
        /// The m-line.
        line: LineName,
        /// What it offered.
        setup: String,
    },
    /// Both sides are ICE-lite: nobody would make checks.
    #[error("the offer is ICE-lite, and so is the server; a client must be a full ICE agent")]
    IceLite,
    /// RTP and RTCP on separate ports.
    #[error("{0} has no a=rtcp-mux, which the server requires")]
    NoRtcpMux(LineName),
    /// The m-line is not on the transport of the others.
    #[error(
        "{0} is not in the first a=group:BUNDLE with the m-lines that are served; the server needs \
         all media on one transport"
    )]
    NotBundled(LineName),
    /// Not audio or video, or not over DTLS-SRTP.
    #[error("{line} is over {proto}; the server has audio and video over UDP/TLS/RTP/SAVPF only")]
    UnsupportedMedia {
        /// The m-line.
        line: LineName,
        /// `<proto>`.
        proto: String,
    },
    /// The server handles none of the m-line's codecs.
    #[error("{line} offers {offered}, none of which the server handles; it handles {handled}")]
    NoCommonCodec {
        /// The m-line.
        line: LineName,
        /// The codec names it has.
        offered: String,
        /// The codec names the server has for that kind.
        handled: &'static str,
    },
    /// An offer to publish by, and by nothing else, that has nothing to publish.
    #[error(
        "the offer has no m-line on which the client sends, so nothing can be published by it; \
         offer sendonly audio or video"
    )]
    NothingToPublish,
    /// An offer to receive by, and by nothing else, that receives nothing.
    #[error(
        "the offer has no m-line on which the client receives, so nothing can be sent by it; \
         offer recvonly audio or video"
    )]
    NothingToReceive,
    /// A first offer in which every m-line is absent or stopped.
    #[error("the offer has no active audio or video m-line")]
    NothingOffered,
    /// The client may neither send nor receive.
    #[error("you may neither publish nor subscribe here")]
    NotAllowed,
    /// A later offer with fewer m-lines.
    #[error(
        "the offer has {now} m-lines but the last one had {before}; stop an m-line, do not remove it"
    )]
    LinesVanished {
        /// How many there were.
        before: usize,
        /// How many there are.
        now: usize,
    },
    /// A later offer that makes another m-line of a live one.
    #[error("{line} was {before} before; an m-line may change its media or mid only once stopped")]
    LineChanged {
        /// As it is now.
        line: LineName,
        /// As it was.
        before: LineName,
    },
    /// A later offer with another certificate.
    #[error(
        "the DTLS fingerprint is not that of this connection; make a new connection to change it"
    )]
    FingerprintChanged,
    /// An ICE restart before there was anything to restart.
    #[error("there is no connection whose ICE could be restarted")]
    NotConnected,
}

impl SdpError {
    /// The stable code that goes with the sentence: `bad_sdp` (breaks a rule of SDP),
    /// `unsupported_sdp` (fine, but not for this server) or `not_allowed`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            SdpError::TooLarge { .. }
            | SdpError::TooManyLines { .. }
            | SdpError::TooMany { .. }
            | SdpError::Syntax(_)
            | SdpError::BadMid(_)
            | SdpError::DuplicateMid { .. }
            | SdpError::DuplicateSsrc { .. }
            | SdpError::ExtensionConflict { .. }
            | SdpError::Credentials(_)
            | SdpError::NothingOffered
            | SdpError::LinesVanished { .. }
            | SdpError::LineChanged { .. } => "bad_sdp",
            SdpError::NoFingerprint(_)
            | SdpError::Setup { .. }
            | SdpError::IceLite
            | SdpError::NoRtcpMux(_)
            | SdpError::NotBundled(_)
            | SdpError::UnsupportedMedia { .. }
            | SdpError::NoCommonCodec { .. }
            | SdpError::NothingToPublish
            | SdpError::NothingToReceive
            | SdpError::FingerprintChanged
            | SdpError::NotConnected => "unsupported_sdp",
            SdpError::NotAllowed => "not_allowed",
        }
    }
}

/// A piece of the offer's text, short and printable, for use in a sentence.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_QUOTE)
        .collect();
    if quoted.len() < text.trim_end().len() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_short_and_printable() {
        assert_eq!(quote("opus"), "opus");
        assert_eq!(quote("a\r\nb"), "ab…");
        assert!(quote(&"x".repeat(1000)).chars().count() <= MAX_QUOTE + 1);
    }
}
