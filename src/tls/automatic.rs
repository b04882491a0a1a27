//! Certificates that an authority makes: when one is asked for, and where they are kept.
//!
//! In: the settings, the time, what `acme.rs` gets. Out: a certificate that is served before the last
//! one runs out, and a folder from which it is served again after a restart. Whatever fails is logged
//! and tried again; the server goes on with what it has.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use tokio::time::{sleep, timeout};

use super::acme::{self, AcmeError};
use super::certificate::Certificate;
use super::source::{CertificateError, Served, from_files, self_signed};

/// Longest wait before the time is looked at again, which may have been set meanwhile.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// How long an attempt may take: the authority looks at the server from several places, and some
/// take their time.
const MAX_ATTEMPT: Duration = Duration::from_secs(5 * 60);

/// When it is tried again that the authority was not reached, and the longest such wait. Each is twice
/// the last one.
const UNREACHED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60 * 60));

/// The same for what it has refused: Let's Encrypt takes 5 failed validations of a name in an hour.
const REFUSED: (Duration, Duration) = (
    Duration::from_secs(10 * 60),
    Duration::from_secs(6 * 60 * 60),
);

/// Certificates of an authority (ACME, RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Automatic {
    /// The host names, in lower case; at least one.
    pub(crate) domains: Vec<String>,
    /// The mail address that the authority is told.
    pub(crate) contact: Option<String>,
    /// The address of the authority's directory.
    pub(crate) directory: String,
    /// The certificate that the directory's own comes from, if no system knows it.
    pub(crate) directory_ca: Option<PathBuf>,
    /// Where account and certificate are kept.
    pub(crate) folder: PathBuf,
}

impl Automatic {
    /// What is served first: the certificate that is kept if it is still good, else one of our own.
    pub(super) fn load(&self) -> Result<Served, CertificateError> {
        if let Some(path) = &self.directory_ca {
            CertificateDer::from_pem_file(path).map_err(|error| CertificateError::File {
                path: path.clone(),
                content: "the certificate of the authority that http.acme_directory is to show",
                reason: error.to_string(),
            })?;
        }
        let folder = self.own_folder();
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder);
        made.map_err(|source| CertificateError::Folder {
            path: folder.clone(),
            source,
        })?;
        let path = self.path("certificate.pem");
        match path.exists().then(|| from_files(&path, &path)) {
            Some(Ok(kept)) if self.is_good(&kept) => return Ok(kept),
            Some(Ok(_)) => {
                tracing::info!(path = %path.display(), "the kept certificate is not good any more");
            }
            Some(Err(error)) => tracing::warn!(%error, "the kept certificate cannot be used"),
            None => {}
        }
        Ok(Served {
            is_provisional: true,
            ..self_signed(&self.domains)?
        })
    }

    /// Whether it is valid now, for each of the names.
    fn is_good(&self, served: &Served) -> bool {
        let is_for = |domain: &String| {
            let parsed = ParsedCertificate::try_from(served.key.cert.first()?).ok()?;
            let name = ServerName::try_from(domain.as_str()).ok()?;
            verify_server_name(&parsed, &name).ok()
        };
        let is_for_all = self.domains.iter().all(|domain| is_for(domain).is_some());
        is_for_all && served.validity.has(SystemTime::now())
    }

    /// Has the certificate renewed in time. Does not end.
    pub(super) async fn keep(&self, certificate: &Certificate) {
        if certificate.current().is_provisional {
            tracing::warn!(
                domains = ?self.domains, directory = self.directory,
                "there is no certificate yet: until the authority has made one, a self-signed one \
                 is served, which browsers warn of"
            );
        }
        let (mut failures, mut earliest) = (0, SystemTime::UNIX_EPOCH);
        loop {
            wait_until(due(certificate).max(earliest)).await;
            let attempt = timeout(MAX_ATTEMPT, self.renew(certificate)).await;
            certificate.answers().clear();
            match attempt.unwrap_or(Err(AcmeError::TooSlow(MAX_ATTEMPT))) {
                Ok(()) => {
                    failures = 0;
                    earliest = earliest_again(SystemTime::now(), certificate.expiry());
                }
                Err(error) => {
                    let pause = pause(failures, error.is_refusal());
                    failures += 1;
                    tracing::warn!(
                        "cannot get a certificate for {} from {}: {error}; it is tried again in {} s",
                        self.domains.join(", "),
                        self.directory,
                        pause.as_secs()
                    );
                    sleep(pause).await;
                }
            }
        }
    }

    async fn renew(&self, certificate: &Certificate) -> Result<(), AcmeError> {
        let pem = acme::obtain(self, certificate).await?;
        let path = self.path("unproven.pem");
        let folder = |source| AcmeError::Folder {
            path: path.clone(),
            source,
        };
        write(&path, pem.as_bytes()).map_err(folder)?;
        let made = from_files(&path, &path)?;
        if !self.is_good(&made) {
            return Err(AcmeError::NotGood);
        }
        // What was kept before is not lost to what is worse.
        std::fs::rename(&path, self.path("certificate.pem")).map_err(folder)?;
        let days = made.validity.until.duration_since(SystemTime::now());
        let days = days.unwrap_or_default().as_secs() / 86_400;
        certificate.replace(made);
        tracing::info!(domains = ?self.domains, days, "the authority has made a certificate, served from now on");
        Ok(())
    }

    /// A file of this authority's.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.own_folder().join(name)
    }

    /// Each authority has its own, so that a certificate from one for tests is never served for real.
    fn own_folder(&self) -> PathBuf {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        };
        let (_, place) = self.directory.split_once("://").unwrap_or_default();
        self.folder
            .join(place.chars().map(plain).collect::<String>())
    }
}

/// When the next certificate is to be asked for.
fn due(certificate: &Certificate) -> SystemTime {
    let current = certificate.current();
    match current.is_provisional {
        true => SystemTime::UNIX_EPOCH,
        false => current.validity.renewal(),
    }
}

/// When the one after a new certificate may be asked for, whatever its dates say: by a clock that is
/// wrong it may be due at once, again and again.
fn earliest_again(now: SystemTime, expiry: SystemTime) -> SystemTime {
    now + expiry.duration_since(now).unwrap_or_default() / 2
}

async fn wait_until(due: SystemTime) {
    while let Ok(left) = due.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        sleep(left.min(MAX_WAIT)).await;
    }
}

/// How long to wait after so many failures and another one.
fn pause(failures: u32, is_refusal: bool) -> Duration {
    let (first, longest) = if is_refusal { REFUSED } else { UNREACHED };
    let doubled = first.checked_mul(2_u32.saturating_pow(failures));
    doubled.unwrap_or(longest).min(longest)
}

/// Writes a file that nobody else can read: the whole of it, or nothing.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests;
