//! Where the certificate of a listener comes from.
//!
//! In: PEM files, the names for one that is made on the spot, or those that an authority is to make one
//! for. Out: a key that `rustls` serves and how long it is valid, or a sentence that names the file
//! that is wrong.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode;

use super::automatic::Automatic;

/// How long a certificate of our own making is valid.
const SELF_SIGNED_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// How far the clock of a client may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(86_400);

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        key: PathBuf,
    },
    /// Made at the start, for these host names and addresses.
    SelfSigned(Vec<String>),
    /// Asked of a certificate authority.
    Automatic(Automatic),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Files { certificate, .. } => {
                write!(f, "the certificate in {}", certificate.display())
            }
            Source::SelfSigned(_) => f.write_str("the self-signed certificate"),
            Source::Automatic(automatic) => {
                write!(f, "the certificate for {}", automatic.domains.join(", "))
            }
        }
    }
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file is missing, or there is nothing of use in it.
    #[error("cannot use {} for TLS: {reason}; it must be a PEM file with {content}", path.display())]
    File {
        path: PathBuf,
        content: &'static str,
        reason: String,
    },
    /// The two are not a pair.
    #[error(
        "the key in {} does not belong to the certificate in {}; set both files of one certificate",
        key.display(), certificate.display()
    )]
    NotAPair { certificate: PathBuf, key: PathBuf },
    /// None can be made.
    #[error(
        "cannot make a certificate for {names:?}: {source}; set http.tls_certificate and http.tls_key"
    )]
    SelfSigned {
        names: Vec<String>,
        source: MakeError,
    },
    /// Certificates cannot be kept.
    #[error(
        "cannot keep certificates in {}: {source}; choose another folder with http.acme_folder",
        path.display()
    )]
    Folder { path: PathBuf, source: io::Error },
}

/// Why a certificate of our own cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    /// It has a name that none can have.
    #[error(transparent)]
    Params(#[from] rcgen::Error),
    /// `rustls` does not take it.
    #[error(transparent)]
    Unusable(#[from] rustls::Error),
}

/// A certificate and its key, as they are served.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) validity: Validity,
    /// Whether it only stands in for one that an authority has not made yet.
    pub(crate) is_provisional: bool,
}

impl Served {
    /// Whether it is for this host, a name or an address.
    pub(crate) fn names(&self, host: &str) -> bool {
        self.key.cert.first().is_some_and(|leaf| is_for(leaf, host))
    }
}

/// Whether browsers take a certificate for this host, a name or an address.
pub(crate) fn is_for(leaf: &CertificateDer<'_>, host: &str) -> bool {
    let leaf = ParsedCertificate::try_from(leaf).ok();
    let name = ServerName::try_from(host).ok();
    let both = leaf.zip(name);
    both.is_some_and(|(leaf, name)| verify_server_name(&leaf, &name).is_ok())
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Validity {
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
}

impl Validity {
    fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = x509_cert::Certificate::from_der(certificate).map_err(|e| e.to_string())?;
        let validity = parsed.tbs_certificate().validity();
        Ok(Validity {
            from: validity.not_before.to_system_time(),
            until: validity.not_after.to_system_time(),
        })
    }

    pub(super) fn has(&self, now: SystemTime) -> bool {
        (self.from..self.until).contains(&now)
    }

    /// When it is time for the next one: a third of its life before its end, as Let's Encrypt advises.
    pub(super) fn renewal(&self) -> SystemTime {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        self.until - life / 3
    }
}

impl Source {
    /// Reads or makes it.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub(crate) fn load(&self) -> Result<Served, CertificateError> {
        match self {
            Source::Files { certificate, key } => from_files(certificate, key),
            Source::SelfSigned(names) => self_signed(names),
            Source::Automatic(automatic) => automatic.load(),
        }
    }

    /// When the files were written last, as far as the system tells.
    pub(super) fn written(&self) -> [Option<SystemTime>; 2] {
        let of = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
        match self {
            Source::Files { certificate, key } => [of(certificate), of(key)],
            Source::SelfSigned(_) | Source::Automatic(_) => [None, None],
        }
    }
}

pub(super) fn from_files(certificate: &Path, key: &Path) -> Result<Served, CertificateError> {
    let wrong = |path: &Path, content, reason: String| CertificateError::File {
        path: path.into(),
        content,
        reason,
    };
    let no_chain = |reason| wrong(certificate, "the certificate chain", reason);
    let no_key = |reason| wrong(key, "the private key", reason);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&read(certificate).map_err(no_chain)?)
            .collect::<Result<_, _>>()
            .map_err(|error| no_chain(error.to_string()))?;
    let Some(first) = chain.first() else {
        return Err(no_chain("there is no certificate in it".into()));
    };
    let validity = Validity::of(first);
    let key_der = PrivateKeyDer::from_pem_slice(&read(key).map_err(no_key)?)
        .map_err(|_| no_key("there is no private key in it".into()))?;
    let certified = CertifiedKey::from_der(chain, key_der, &aws_lc_rs::default_provider());
    let certified = certified.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => CertificateError::NotAPair {
            certificate: certificate.into(),
            key: key.into(),
        },
        rustls::Error::InvalidCertificate(reason) => no_chain(reason.to_string()),
        error => no_key(error.to_string()),
    })?;
    Ok(Served {
        key: certified.into(),
        validity: validity.map_err(no_chain)?,
        is_provisional: false,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error: io::Error| error.to_string())
}

/// A certificate of our own making.
pub(super) fn self_signed(names: &[String]) -> Result<Served, CertificateError> {
    let now = SystemTime::now();
    let validity = Validity {
        from: now - CLOCK_SKEW,
        until: now + SELF_SIGNED_LIFETIME,
    };
    let made = || {
        let mut params = CertificateParams::new(names)?;
        params.not_before = validity.from.into();
        params.not_after = validity.until.into();
        certify(params)
    };
    let key = made().map_err(|source| CertificateError::SelfSigned {
        names: names.to_vec(),
        source,
    })?;
    Ok(Served {
        key: key.into(),
        validity,
        is_provisional: false,
    })
}

/// Signs a certificate with its own key.
pub(super) fn certify(params: CertificateParams) -> Result<CertifiedKey, MakeError> {
    let key = KeyPair::generate()?;
    let chain = vec![params.self_signed(&key)?.der().clone()];
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    // Without a look at whether both belong together, which does not take the critical extension of
    // an answer to an authority.
    let key = aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(CertifiedKey::new(chain, key))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use super::*;
    use crate::tls::testing::Files;

    #[test]
    fn what_is_wrong_with_the_files_is_said_in_a_sentence() {
        let (files, others) = (Files::new("wrong"), Files::new("others"));
        let (certificate, key) = (files.certificate(), files.key());
        let nowhere = PathBuf::from("/nowhere/chain.pem");
        for (certificate, key, words) in [
            (
                &nowhere,
                &key,
                "cannot use /nowhere/chain.pem for TLS: No such file",
            ),
            (
                &certificate,
                &nowhere,
                "cannot use /nowhere/chain.pem for TLS: No such file",
            ),
            (
                &key,
                &key,
                "there is no certificate in it; it must be a PEM file with the certificate",
            ),
            (
                &certificate,
                &certificate,
                "no private key in it; it must be a PEM file with the private",
            ),
            (
                &certificate,
                &others.key(),
                "does not belong to the certificate in",
            ),
        ] {
            let error = from_files(certificate, key).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_next_is_asked_for_when_a_third_of_a_life_is_left() {
        let day = |n| SystemTime::UNIX_EPOCH + Duration::from_secs(86_400) * n;
        let validity = Validity {
            from: day(10),
            until: day(100),
        };
        assert_eq!(validity.renewal(), day(70));
        assert!(validity.has(day(10)) && !validity.has(day(9)) && !validity.has(day(100)));
    }

    #[test]
    fn a_certificate_of_our_own_has_names_and_addresses() {
        let names = ["call.example.org", "192.0.2.1", "::1"].map(String::from);
        assert!(self_signed(&names).unwrap().validity.has(SystemTime::now()));
        let error = self_signed(&["\u{e9}".into()]).unwrap_err().to_string();
        assert!(error.contains("http.tls_certificate"), "{error}");
    }
}
