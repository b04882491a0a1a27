//! Our certificate, and the key that signs for it.

#![allow(
    clippy::disallowed_types,
    reason = "one key for all workers, never changed"
)]

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::error::DtlsError;
use super::fingerprint::{Fingerprint, Hash};

/// The subject of our certificate, which nobody looks at.
const COMMON_NAME: &str = "Confab";

/// Our self-signed ECDSA P-256 certificate with its key: one for all peers of a process. Cheap to
/// clone.
#[derive(Clone)]
pub struct Certificate(
    #[allow(
        clippy::disallowed_types,
        reason = "one key for all workers, never changed"
    )]
    Arc<Identity>,
);

struct Identity {
    der: Vec<u8>,
    key: EcdsaKeyPair,
    fingerprint: Fingerprint,
}

impl Certificate {
    /// A fresh certificate.
    ///
    /// # Errors
    /// When the cryptographic library cannot make one.
    pub fn generate() -> Result<Self, DtlsError> {
        let failed = |error: rcgen::Error| DtlsError::Certificate(error.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, COMMON_NAME);
        let der = params.self_signed(&key).map_err(failed)?.der().to_vec();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.serialized_der())
            .map_err(|error| DtlsError::Certificate(error.to_string()))?;
        let fingerprint = Fingerprint::of(Hash::Sha256, &der);
        Ok(Certificate(Arc::new(Identity {
            der,
            key,
            fingerprint,
        })))
    }

    /// What our SDP says behind `a=fingerprint:`; displays as `sha-256` and the digest.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.0.fingerprint
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// A signature by `ecdsa_secp256r1_sha256`.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, DtlsError> {
        let signed = self.0.key.sign(&SystemRandom::new(), message);
        Ok(signed.map_err(|_| DtlsError::Crypto)?.as_ref().to_vec())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint())
    }
}
