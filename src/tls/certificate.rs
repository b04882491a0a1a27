//! The certificate of a listener.
//!
//! In: where it comes from, and the time. Out: what `rustls` serves, replaced while it is served; what
//! is to be said of one that runs out; and, to an authority that asks, the proof that its names lead
//! here (RFC 8737).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::source::{CertificateError, Served, Source, Validity};

/// By its name in the handshake, an authority that wants to see the answer to its challenge (RFC 8737
/// section 6.2).
pub(super) const CHALLENGE: &[u8] = b"acme-tls/1";

/// How often files are looked at for a renewed certificate. Those who renew do it days ahead.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How often a complaint is repeated.
const COMPLAIN_EVERY: Duration = Duration::from_secs(DAY);

/// How long before its end a certificate should have been replaced: most are a month before.
const SOON: Duration = Duration::from_secs(7 * DAY);

const DAY: u64 = 86_400;

/// A certificate that is served, and replaced when there is a newer one.
#[derive(Debug)]
pub(crate) struct Certificate {
    source: Source,
    current: RwLock<Served>,
    /// Answers to an authority's challenges, by host name.
    answers: Mutex<HashMap<String, Arc<CertifiedKey>>>,
    /// Somebody wants files to be looked at now.
    asked: Notify,
}

impl Certificate {
    /// # Errors
    /// When there is none, or it cannot be used.
    pub(crate) fn new(source: Source) -> Result<Self, CertificateError> {
        let current = RwLock::new(source.load()?);
        Ok(Certificate {
            source,
            current,
            answers: Mutex::default(),
            asked: Notify::new(),
        })
    }

    /// Where it comes from.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// When the one that is served now runs out.
    pub(crate) fn expiry(&self) -> SystemTime {
        self.current().validity.until
    }

    /// Sees to it that a newer one is served once there is one, and complains of one that runs out.
    /// Does not end.
    pub(crate) async fn keep(&self) {
        let renew = async {
            match &self.source {
                Source::Automatic(automatic) => automatic.keep(self).await,
                Source::Files { .. } | Source::SelfSigned(_) => self.follow().await,
            }
        };
        tokio::join!(renew, self.complain());
    }

    /// Takes renewed files over as they come, and makes the next self-signed one in time. Does not
    /// end. Files that cannot be used are logged, and the certificate stays what it was.
    async fn follow(&self) {
        let mut seen = self.source.written();
        loop {
            // It does not matter which of the two it was.
            let _ = timeout(LOOK_EVERY, self.asked.notified()).await;
            let written = self.source.written();
            let is_due = self.current().validity.renewal() <= SystemTime::now();
            let is_ours = matches!(self.source, Source::SelfSigned(_));
            if written != seen || (is_due && is_ours) {
                self.renew();
                seen = written;
            }
        }
    }

    /// Looks for renewed files now.
    pub(crate) fn look_again(&self) {
        self.asked.notify_one();
    }

    fn renew(&self) {
        match self.source.load() {
            Ok(renewed) => {
                self.replace(renewed);
                tracing::info!("the TLS certificate has been renewed");
            }
            Err(error) => {
                tracing::warn!(%error, "the renewed TLS certificate cannot be used; the old one stays");
            }
        }
    }

    /// Serves another one from now on.
    pub(super) fn replace(&self, renewed: Served) {
        // The lock is held over an assignment, which cannot panic.
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = renewed;
    }

    pub(super) fn current(&self) -> RwLockReadGuard<'_, Served> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What answers an authority that asks for a host name; empty once it has asked.
    pub(super) fn answers(&self) -> MutexGuard<'_, HashMap<String, Arc<CertifiedKey>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn complain(&self) {
        loop {
            let validity = self.current().validity;
            if let Some(complaint) = complaint(SystemTime::now(), validity) {
                tracing::warn!("{} {complaint}", self.source);
            }
            tokio::time::sleep(COMPLAIN_EVERY).await;
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // An authority offers nothing else (RFC 8737 section 3).
        let mut offered = hello.alpn().into_iter().flatten();
        if offered.next() == Some(CHALLENGE) && offered.next().is_none() {
            let name = hello.server_name()?.to_ascii_lowercase();
            return self.answers().get(&name).cloned();
        }
        Some(self.current().key.clone())
    }
}

/// What is to be said of a certificate, if anything.
fn complaint(now: SystemTime, validity: Validity) -> Option<String> {
    let days = |from: SystemTime, to: SystemTime| {
        to.duration_since(from).unwrap_or_default().as_secs() / DAY
    };
    if now < validity.from {
        let days = days(now, validity.from);
        return Some(format!(
            "is not valid yet, for {days} days more: clients refuse it; is this machine's clock right?"
        ));
    }
    if now >= validity.until {
        let days = days(validity.until, now);
        return Some(format!(
            "has expired {days} days ago: clients refuse it; renew it"
        ));
    }
    let is_soon = now + SOON >= validity.until;
    let days = days(now, validity.until);
    is_soon.then(|| format!("expires in {days} days and has not been renewed"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use rustls::pki_types::CertificateDer;

    use super::*;
    use crate::tls::testing::Files;

    fn served(certificate: &Certificate) -> CertificateDer<'static> {
        certificate.current().key.cert[0].clone()
    }

    #[test]
    fn what_runs_out_or_is_not_valid_is_complained_of() {
        let day = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(DAY) * n as u32;
        let validity = Validity {
            from: day(100),
            until: day(190),
        };
        for (now, words) in [
            (97, Some("is not valid yet, for 3 days more")),
            (100, None),
            (182, None),
            (185, Some("expires in 5 days")),
            (190, Some("has expired 0 days ago")),
            (193, Some("has expired 3 days ago")),
        ] {
            let said = complaint(day(now), validity);
            assert_eq!(said.is_some(), words.is_some(), "{now}: {said:?}");
            let words = words.unwrap_or_default();
            assert!(said.unwrap_or_default().contains(words), "{now}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn renewed_files_are_served_and_broken_ones_are_not() {
        let files = Files::new("renewed");
        let certificate = Certificate::new(files.source()).unwrap();
        let first = served(&certificate);
        let following = certificate.follow();
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
        let second = served(&certificate);
        std::thread::sleep(Duration::from_millis(50));
        files.write();
        certificate.look_again();
        tokio::select! {
            () = &mut following => {}
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
        assert_ne!(served(&certificate), second, "at once, when asked");
    }
}
