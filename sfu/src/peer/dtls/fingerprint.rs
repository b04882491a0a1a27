//! The `a=fingerprint` attribute of SDP (RFC 8122 section 5): which certificate a peer will show.
//!
//! In: its text, and the certificate that DTLS brought. Out: whether they belong together.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

/// A hash function of `a=fingerprint` that we accept. SHA-1 and MD5 are not among them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(super) fn digest(self, der: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, der)
    }
}

/// The value of an `a=fingerprint` attribute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fingerprint {
    hash: Hash,
    digest: Vec<u8>,
}

impl Fingerprint {
    /// That of a certificate in DER.
    pub(super) fn of(hash: Hash, der: &[u8]) -> Self {
        Fingerprint {
            hash,
            digest: hash.digest(der).as_ref().to_vec(),
        }
    }

    /// Whether it is that of a certificate in DER.
    pub(super) fn matches(&self, der: &[u8]) -> bool {
        self.hash.digest(der).as_ref() == self.digest
    }
}

/// The text is not a fingerprint that we can check.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the fingerprint is not `sha-256`, `sha-384` or `sha-512` and its colon-separated digest")]
pub struct InvalidFingerprint;

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    /// From `sha-256 4A:AD:…`, as it stands behind `a=fingerprint:`.
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let (name, digest) = text.trim().split_once(' ').ok_or(InvalidFingerprint)?;
        let (hash, len) = match name.to_ascii_lowercase().as_str() {
            "sha-256" => (Hash::Sha256, 32),
            "sha-384" => (Hash::Sha384, 48),
            "sha-512" => (Hash::Sha512, 64),
            _ => return Err(InvalidFingerprint),
        };
        let digest: Vec<u8> = digest
            .trim()
            .split(':')
            .map(|octet| match octet.as_bytes() {
                [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                    u8::from_str_radix(octet, 16).map_err(|_| InvalidFingerprint)
                }
                _ => Err(InvalidFingerprint),
            })
            .collect::<Result<_, _>>()?;
        if digest.len() != len {
            return Err(InvalidFingerprint);
        }
        Ok(Fingerprint { hash, digest })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.hash {
            Hash::Sha256 => "sha-256",
            Hash::Sha384 => "sha-384",
            Hash::Sha512 => "sha-512",
        })?;
        for (i, octet) in self.digest.iter().enumerate() {
            write!(f, "{}{octet:02X}", if i == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}
