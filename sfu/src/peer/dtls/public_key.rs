//! The public key of a peer's certificate, and the signatures that prove who owns it.
//!
//! In: a certificate in DER, of which nothing but the key is read: the fingerprint in the SDP
//! vouches for the rest (RFC 8827 section 6.5). Out: whether a signature is by its owner.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use p224::ecdsa::signature::hazmat::PrehashVerifier;

use super::error::DtlsError;

/// Smallest RSA modulus, in bytes: 2048 bits.
const MIN_RSA_MODULUS: usize = 256;
/// Largest RSA modulus, in bytes: 8192 bits, what `aws-lc-rs` verifies.
const MAX_RSA_MODULUS: usize = 1024;

/// `ecdsa_secp256r1_sha256`, with which we sign.
pub(super) const ECDSA_SECP256R1_SHA256: u16 = 0x0403;

/// The signatures that we verify (RFC 8446 section 4.2.3), best first. In DTLS 1.2 an ECDSA scheme
/// names the hash function alone, and the curve is that of the key (RFC 8422 section 5.1.1).
pub(super) const SCHEMES: [u16; 13] = [
    ECDSA_SECP256R1_SHA256,
    0x0503, // ecdsa_secp384r1_sha384
    0x0603, // ecdsa_secp521r1_sha512
    0x0807, // ed25519
    0x0804, // rsa_pss_rsae_sha256
    0x0805,
    0x0806,
    0x0809, // rsa_pss_pss_sha256
    0x080a,
    0x080b,
    0x0401, // rsa_pkcs1_sha256
    0x0501,
    0x0601,
];

/// DER tags (X.690 section 8).
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const BIT_STRING: u8 = 0x03;
    pub(super) const OID: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    /// The version of a certificate (RFC 5280 section 4.1).
    pub(super) const VERSION: u8 = 0xa0;
}

/// Algorithms and curves of keys (RFC 3279, RFC 5480, RFC 8410), as DER has them.
mod oid {
    pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    pub(super) const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
    pub(super) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    pub(super) const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    pub(super) const P224: &[u8] = &[0x2b, 0x81, 4, 0, 33];
    pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    pub(super) const P384: &[u8] = &[0x2b, 0x81, 4, 0, 34];
    pub(super) const P521: &[u8] = &[0x2b, 0x81, 4, 0, 35];
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Rsa,
    RsaPss,
    P224,
    P256,
    P384,
    P521,
    Ed25519,
}

/// The key of a certificate.
pub(super) struct PublicKey {
    kind: Kind,
    /// A point, or an RSAPublicKey (RFC 8017 appendix A.1.1).
    bytes: Vec<u8>,
}

impl PublicKey {
    /// That of a certificate in DER.
    pub(super) fn of_certificate(der: &[u8]) -> Result<Self, DtlsError> {
        let unreadable = DtlsError::UnsupportedCertificate("it is not X.509");
        let found = SubjectPublicKey::find(der).ok_or(unreadable)?;
        let kind = match (found.algorithm, found.parameter) {
            (oid::RSA, _) => Kind::Rsa,
            (oid::RSA_PSS, _) => Kind::RsaPss,
            (oid::EC, Some(oid::P224)) => Kind::P224,
            (oid::EC, Some(oid::P256)) => Kind::P256,
            (oid::EC, Some(oid::P384)) => Kind::P384,
            (oid::EC, Some(oid::P521)) => Kind::P521,
            (oid::EC, _) => {
                return Err(DtlsError::UnsupportedCertificate("its curve is unknown"));
            }
            (oid::ED25519, _) => Kind::Ed25519,
            _ => {
                return Err(DtlsError::UnsupportedCertificate(
                    "its key is of another kind",
                ));
            }
        };
        if matches!(kind, Kind::Rsa | Kind::RsaPss) {
            let modulus = rsa_modulus(found.key).ok_or(DtlsError::UnsupportedCertificate(
                "its RSA key cannot be read",
            ))?;
            if modulus.len() < MIN_RSA_MODULUS {
                return Err(DtlsError::UnsupportedCertificate(
                    "its RSA key is too short",
                ));
            }
            if modulus.len() > MAX_RSA_MODULUS {
                return Err(DtlsError::UnsupportedCertificate("its RSA key is too long"));
            }
        }
        Ok(PublicKey {
            kind,
            bytes: found.key.to_vec(),
        })
    }

    /// Whether a suite of ECDHE_RSA is for it, and not one of ECDHE_ECDSA.
    pub(super) fn is_rsa(&self) -> bool {
        matches!(self.kind, Kind::Rsa | Kind::RsaPss)
    }

    /// Whether its owner has signed the message.
    pub(super) fn verifies(&self, scheme: u16, message: &[u8], signed: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match (self.kind, scheme) {
            (Kind::P224, 0x0403 | 0x0503 | 0x0603) => {
                return self.verifies_p224(scheme, message, signed).is_some();
            }
            (Kind::P256, 0x0403) => &signature::ECDSA_P256_SHA256_ASN1,
            (Kind::P256, 0x0503) => &signature::ECDSA_P256_SHA384_ASN1,
            (Kind::P256, 0x0603) => &signature::ECDSA_P256_SHA512_ASN1,
            (Kind::P384, 0x0403) => &signature::ECDSA_P384_SHA256_ASN1,
            (Kind::P384, 0x0503) => &signature::ECDSA_P384_SHA384_ASN1,
            (Kind::P384, 0x0603) => &signature::ECDSA_P384_SHA512_ASN1,
            (Kind::P521, 0x0403) => &signature::ECDSA_P521_SHA256_ASN1,
            (Kind::P521, 0x0503) => &signature::ECDSA_P521_SHA384_ASN1,
            (Kind::P521, 0x0603) => &signature::ECDSA_P521_SHA512_ASN1,
            (Kind::Ed25519, 0x0807) => &signature::ED25519,
            (Kind::Rsa, 0x0401) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, 0x0501) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, 0x0601) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Kind::Rsa, 0x0804) | (Kind::RsaPss, 0x0809) => &signature::RSA_PSS_2048_8192_SHA256,
            (Kind::Rsa, 0x0805) | (Kind::RsaPss, 0x080a) => &signature::RSA_PSS_2048_8192_SHA384,
            (Kind::Rsa, 0x0806) | (Kind::RsaPss, 0x080b) => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, &self.bytes)
            .verify(message, signed)
            .is_ok()
    }

    /// As [`PublicKey::verifies`], for the curve that `aws-lc-rs` does not have.
    fn verifies_p224(&self, scheme: u16, message: &[u8], signed: &[u8]) -> Option<()> {
        let hash = match scheme {
            0x0403 => &digest::SHA256,
            0x0503 => &digest::SHA384,
            _ => &digest::SHA512,
        };
        let key = p224::ecdsa::VerifyingKey::from_sec1_bytes(&self.bytes).ok()?;
        let signed = p224::ecdsa::Signature::from_der(signed).ok()?;
        let digest = digest::digest(hash, message);
        key.verify_prehash(digest.as_ref(), &signed).ok()
    }
}

/// What a certificate says of its key (RFC 5280 section 4.1).
struct SubjectPublicKey<'a> {
    algorithm: &'a [u8],
    /// Its first one, if that is an OID: a curve.
    parameter: Option<&'a [u8]>,
    key: &'a [u8],
}

impl<'a> SubjectPublicKey<'a> {
    fn find(certificate: &'a [u8]) -> Option<Self> {
        let (certificate, _) = expect(tag::SEQUENCE, certificate)?;
        let (mut rest, _) = expect(tag::SEQUENCE, certificate)?;
        if let Some((_, after)) = expect(tag::VERSION, rest) {
            rest = after;
        }
        (_, rest) = expect(tag::INTEGER, rest)?; // serial number
        for _ in ["signature", "issuer", "validity", "subject"] {
            (_, rest) = expect(tag::SEQUENCE, rest)?;
        }
        let (info, _) = expect(tag::SEQUENCE, rest)?;
        let (algorithm, key) = expect(tag::SEQUENCE, info)?;
        let (algorithm, parameters) = expect(tag::OID, algorithm)?;
        let (key, _) = expect(tag::BIT_STRING, key)?;
        // No bits of the last byte are unused.
        let (&0, key) = key.split_first()? else {
            return None;
        };
        Some(SubjectPublicKey {
            algorithm,
            parameter: expect(tag::OID, parameters).map(|(oid, _)| oid),
            key,
        })
    }
}

/// The modulus of an RSAPublicKey, without leading zeros.
fn rsa_modulus(key: &[u8]) -> Option<&[u8]> {
    let (key, _) = expect(tag::SEQUENCE, key)?;
    let (modulus, _) = expect(tag::INTEGER, key)?;
    let zeros = modulus.iter().take_while(|&&byte| byte == 0).count();
    modulus.get(zeros..)
}

/// The contents of the first element, which must have that tag, and what follows it.
fn expect(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Up to three bytes: a handshake has no longer certificates.
        0x81..=0x83 => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = len
                .iter()
                .fold(0, |len, &byte| len << 8 | usize::from(byte));
            (len, rest)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(len)
}
