//! The certificate of a door.
//!
//! In: PEM files, or the names for one that is made on the spot. Out: what `rustls` serves, renewed
//! when the files are, or a sentence that names the file that is wrong.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// How often files are looked at for a renewed certificate. Those who renew do it days ahead.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long a certificate of our own making is valid.
const SELF_SIGNED_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// How far the clock of a client may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(86_400);

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// PEM files.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Made at the start, for these host names and addresses.
    SelfSigned(Vec<String>),
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
        source: rcgen::Error,
    },
    /// `rustls` does not take what was made.
    #[error("cannot use the self-signed certificate: {0}")]
    Unusable(rustls::Error),
}

/// A certificate that is served, and replaced when its files are.
#[derive(Debug)]
pub(crate) struct Certificate {
    source: Source,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// # Errors
    /// When there is none, or it cannot be used.
    pub(crate) fn new(source: Source) -> Result<Self, CertificateError> {
        let current = RwLock::new(Arc::new(source.load()?));
        Ok(Certificate { source, current })
    }

    /// Takes renewed files over as they come. Does not end. Files that cannot be used are logged,
    /// and the certificate stays what it was.
    pub(crate) async fn follow_files(&self) {
        let mut seen = self.source.written();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let written = self.source.written();
            if written != seen {
                self.renew();
                seen = written;
            }
        }
    }

    fn renew(&self) {
        match self.source.load() {
            Ok(renewed) => {
                // The lock is held over an assignment, which cannot panic.
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(renewed);
                tracing::info!("the TLS certificate has been renewed");
            }
            Err(error) => {
                tracing::warn!(%error, "the renewed TLS certificate cannot be used; the old one stays");
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.clone())
    }
}

impl Source {
    /// Reads or makes it.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub(crate) fn load(&self) -> Result<CertifiedKey, CertificateError> {
        match self {
            Source::Files { certificate, key } => from_files(certificate, key),
            Source::SelfSigned(names) => self_signed(names),
        }
    }

    /// When the files were written last, as far as the system tells.
    fn written(&self) -> [Option<SystemTime>; 2] {
        let of = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
        match self {
            Source::Files { certificate, key } => [of(certificate), of(key)],
            Source::SelfSigned(_) => [None, None],
        }
    }
}

fn from_files(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
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
    if chain.is_empty() {
        return Err(no_chain("there is no certificate in it".into()));
    }
    let key_der = PrivateKeyDer::from_pem_slice(&read(key).map_err(no_key)?)
        .map_err(|_| no_key("there is no private key in it".into()))?;
    CertifiedKey::from_der(chain, key_der, &aws_lc_rs::default_provider()).map_err(|error| {
        match error {
            rustls::Error::InconsistentKeys(_) => CertificateError::NotAPair {
                certificate: certificate.into(),
                key: key.into(),
            },
            rustls::Error::InvalidCertificate(reason) => no_chain(reason.to_string()),
            error => no_key(error.to_string()),
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error: io::Error| error.to_string())
}

fn self_signed(names: &[String]) -> Result<CertifiedKey, CertificateError> {
    let made = || {
        let mut params = CertificateParams::new(names)?;
        let now = SystemTime::now();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + SELF_SIGNED_LIFETIME).into();
        let key = KeyPair::generate()?;
        Ok((params.self_signed(&key)?, key))
    };
    let (certificate, key) = made().map_err(|source| CertificateError::SelfSigned {
        names: names.to_vec(),
        source,
    })?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let chain = vec![certificate.der().clone()];
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(CertificateError::Unusable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A directory with a certificate and its key; removed when dropped.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str) -> Files {
            let name = format!("confab-tls-{name}-{}", std::process::id());
            let files = Files(std::env::temp_dir().join(name));
            std::fs::create_dir_all(&files.0).unwrap();
            files.write();
            files
        }

        fn write(&self) {
            let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
            std::fs::write(self.certificate(), made.cert.pem()).unwrap();
            std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
        }

        fn certificate(&self) -> PathBuf {
            self.0.join("chain.pem")
        }

        fn key(&self) -> PathBuf {
            self.0.join("key.pem")
        }

        fn source(&self) -> Source {
            Source::Files {
                certificate: self.certificate(),
                key: self.key(),
            }
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn served(certificate: &Certificate) -> CertificateDer<'static> {
        certificate.current.read().unwrap().cert[0].clone()
    }

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

    #[tokio::test(start_paused = true)]
    async fn renewed_files_are_served_and_broken_ones_are_not() {
        let files = Files::new("renewed");
        let certificate = Certificate::new(files.source()).unwrap();
        let first = served(&certificate);
        let following = certificate.follow_files();
        tokio::pin!(following);
        for (change, is_renewed) in [
            ((|_| {}) as fn(&Files), false),
            (|files| std::fs::write(files.key(), "half").unwrap(), false),
            (|files| files.write(), true),
        ] {
            // Clocks of file systems are coarse.
            std::thread::sleep(Duration::from_millis(50));
            change(&files);
            tokio::select! {
                () = &mut following => {}
                () = tokio::time::sleep(2 * LOOK_EVERY) => {}
            }
            assert_eq!(served(&certificate) != first, is_renewed);
        }
    }

    #[test]
    fn a_certificate_of_our_own_has_names_and_addresses() {
        let names = ["call.example.org", "192.0.2.1", "::1"].map(String::from);
        assert!(Certificate::new(Source::SelfSigned(names.into())).is_ok());
        let error = self_signed(&["\u{e9}".into()]).unwrap_err().to_string();
        assert!(error.contains("http.tls_certificate"), "{error}");
    }
}
