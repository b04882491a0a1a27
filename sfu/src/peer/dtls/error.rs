//! Why an association is over, in words for people, in a code for programs, and in the alert that
//! tells the peer (RFC 5246 section 7.2).

use crate::api::DtlsFailure;

use super::HANDSHAKE_TIMEOUT;

/// Why an association is over. All are final.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DtlsError {
    /// The peer's certificate is not the one its SDP promised.
    #[error("the DTLS certificate matches no a=fingerprint of the peer's SDP")]
    FingerprintMismatch,
    /// The peer has none, or will not show it.
    #[error("the peer showed no DTLS certificate, so its a=fingerprint cannot be checked")]
    NoCertificate,
    /// Not X.509, or a key of a kind or size that is not served.
    #[error(
        "the DTLS certificate is unusable: {0}; RSA of 2048 to 8192 bits, P-224, P-256, P-384, \
         P-521 and Ed25519 are served"
    )]
    UnsupportedCertificate(&'static str),
    /// The peer does not own the key of its certificate, or something on the way alters packets.
    #[error("the signature in the peer's {0} is wrong")]
    BadSignature(&'static str),
    /// The two sides have not seen the same handshake.
    #[error("the peer's Finished message is wrong: something has altered the DTLS handshake")]
    BadFinished,
    /// The peer did not offer a profile of [`SrtpProfile`](crate::srtp::SrtpProfile).
    #[error(
        "no common SRTP profile: the peer offers {0}; SRTP_AEAD_AES_256_GCM, SRTP_AEAD_AES_128_GCM \
         and SRTP_AES128_CM_HMAC_SHA1_80 are served"
    )]
    NoSrtpProfile(String),
    /// Nothing in common to encrypt with.
    #[error(
        "no common DTLS cipher suite: ECDHE with AES-GCM or ChaCha20-Poly1305 is served, a server \
         with an ECDSA certificate"
    )]
    NoCipherSuite,
    /// Nothing in common to agree on keys with.
    #[error("no common DTLS group: X25519, P-256, P-384 and P-521 are served")]
    NoGroup,
    /// The peer cannot verify our signature.
    #[error("the peer does not verify ecdsa_secp256r1_sha256, with which our certificate signs")]
    NoSignatureScheme,
    /// Older than 1.2, or newer only.
    #[error("the peer does not speak DTLS 1.2")]
    Version,
    /// A message that cannot be read.
    #[error("the peer's {0} message is malformed")]
    Malformed(&'static str),
    /// A message that reads well, and says what must not be.
    #[error("the peer's {0} message has a value that it must not have")]
    IllegalParameter(&'static str),
    /// A server's answer to a question that it was not asked.
    #[error("the peer's ServerHello has an extension that it was not asked for")]
    UnsupportedExtension,
    /// A message that has no place where it came.
    #[error("a DTLS handshake message of type {0} came out of turn")]
    UnexpectedMessage(u8),
    /// The peer has given up.
    #[error("the peer ended the DTLS handshake with the alert {name} ({0})", name = alert_name(*.0))]
    PeerAlert(u8),
    /// Too slow, or gone.
    #[error("the DTLS handshake did not finish within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    HandshakeTimeout,
    /// We could not make a certificate.
    #[error("cannot generate a DTLS certificate: {0}")]
    Certificate(String),
    /// The cryptographic library refuses what it must be able to do.
    #[error("the cryptographic library failed in a DTLS handshake")]
    Crypto,
}

impl DtlsError {
    /// What the client is told of it on another path.
    pub(crate) fn failure(&self) -> DtlsFailure {
        match self {
            DtlsError::FingerprintMismatch => DtlsFailure::WrongCertificate,
            DtlsError::NoCertificate => DtlsFailure::NoCertificate,
            DtlsError::UnsupportedCertificate(_) => DtlsFailure::UnsupportedCertificate,
            DtlsError::NoSrtpProfile(_) => DtlsFailure::NoSrtpProfile,
            DtlsError::NoCipherSuite
            | DtlsError::NoGroup
            | DtlsError::NoSignatureScheme
            | DtlsError::Version => DtlsFailure::NoCipherSuite,
            DtlsError::PeerAlert(_) => DtlsFailure::Refused,
            DtlsError::HandshakeTimeout => DtlsFailure::Timeout,
            _ => DtlsFailure::Protocol,
        }
    }

    /// Whether it says of the peer what does not change: then somebody should hear of it soon. What
    /// is merely wrong may be anybody's.
    pub(super) fn is_verdict(&self) -> bool {
        !matches!(
            self,
            DtlsError::Malformed(_)
                | DtlsError::IllegalParameter(_)
                | DtlsError::UnsupportedExtension
                | DtlsError::UnexpectedMessage(_)
        )
    }

    /// The alert that tells the peer; `None` where it would not help it or would help an attacker.
    pub(super) fn alert(&self) -> Option<u8> {
        Some(match self {
            DtlsError::FingerprintMismatch => alert::BAD_CERTIFICATE,
            DtlsError::UnsupportedCertificate(_) => alert::UNSUPPORTED_CERTIFICATE,
            // RFC 5246 section 7.4.6: certificate_required came with TLS 1.3.
            DtlsError::NoCertificate
            | DtlsError::NoSrtpProfile(_)
            | DtlsError::NoCipherSuite
            | DtlsError::NoGroup
            | DtlsError::NoSignatureScheme => alert::HANDSHAKE_FAILURE,
            DtlsError::BadSignature(_) | DtlsError::BadFinished => alert::DECRYPT_ERROR,
            DtlsError::Version => alert::PROTOCOL_VERSION,
            DtlsError::Malformed(_) => alert::DECODE_ERROR,
            DtlsError::IllegalParameter(_) => alert::ILLEGAL_PARAMETER,
            DtlsError::UnexpectedMessage(_) => alert::UNEXPECTED_MESSAGE,
            DtlsError::Certificate(_) | DtlsError::Crypto => alert::INTERNAL_ERROR,
            DtlsError::UnsupportedExtension => alert::UNSUPPORTED_EXTENSION,
            DtlsError::PeerAlert(_) | DtlsError::HandshakeTimeout => return None,
        })
    }
}

/// Levels and numbers of alerts (RFC 5246 section 7.2).
pub(super) mod alert {
    pub(crate) const WARNING: u8 = 1;
    pub(crate) const FATAL: u8 = 2;

    pub(crate) const CLOSE_NOTIFY: u8 = 0;
    pub(crate) const UNEXPECTED_MESSAGE: u8 = 10;
    pub(crate) const HANDSHAKE_FAILURE: u8 = 40;
    pub(crate) const BAD_CERTIFICATE: u8 = 42;
    pub(crate) const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub(crate) const ILLEGAL_PARAMETER: u8 = 47;
    pub(crate) const DECODE_ERROR: u8 = 50;
    pub(crate) const DECRYPT_ERROR: u8 = 51;
    pub(crate) const PROTOCOL_VERSION: u8 = 70;
    pub(crate) const INTERNAL_ERROR: u8 = 80;
    pub(crate) const UNSUPPORTED_EXTENSION: u8 = 110;

    /// The number of an alert after which nothing comes: it is fatal, or says that the peer leaves.
    pub(crate) fn that_ends(body: &[u8]) -> Option<u8> {
        match *body {
            [level, number] if level == FATAL || number == CLOSE_NOTIFY => Some(number),
            _ => None,
        }
    }
}

/// The name of an alert that a peer may send (RFC 5246 section 7.2, RFC 8446 section 6).
fn alert_name(number: u8) -> &'static str {
    match number {
        alert::CLOSE_NOTIFY => "close_notify",
        alert::UNEXPECTED_MESSAGE => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        alert::HANDSHAKE_FAILURE => "handshake_failure",
        alert::BAD_CERTIFICATE => "bad_certificate",
        alert::UNSUPPORTED_CERTIFICATE => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        alert::ILLEGAL_PARAMETER => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        alert::DECODE_ERROR => "decode_error",
        alert::DECRYPT_ERROR => "decrypt_error",
        alert::PROTOCOL_VERSION => "protocol_version",
        71 => "insufficient_security",
        alert::INTERNAL_ERROR => "internal_error",
        90 => "user_canceled",
        109 => "missing_extension",
        alert::UNSUPPORTED_EXTENSION => "unsupported_extension",
        116 => "certificate_required",
        _ => "unknown",
    }
}
