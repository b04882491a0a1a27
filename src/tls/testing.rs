//! What the tests of this module share.
#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::path::PathBuf;

use super::source::Source;

/// A directory with a certificate and its key; removed when dropped.
pub(super) struct Files(pub(super) PathBuf);

impl Files {
    pub(super) fn new(name: &str) -> Files {
        let name = format!("confab-tls-{name}-{}", std::process::id());
        let files = Files(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&files.0).unwrap();
        files.write();
        files
    }

    pub(super) fn write(&self) {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        std::fs::write(self.certificate(), made.cert.pem()).unwrap();
        std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.0.join("chain.pem")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    pub(super) fn source(&self) -> Source {
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
