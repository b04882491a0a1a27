//! The certificate that TURN over TLS is served with.
//!
//! In: PEM files. Out: what `rustls` needs, or a sentence that names the file that is wrong.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::config::Error;

/// Reads a certificate chain and its key, both PEM.
///
/// # Errors
/// When a file cannot be read, has nothing of the kind in it, or the two do not belong together.
pub fn tls_from_files(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let wrong = |path: &Path, reason: String| Error::Certificate {
        path: path.display().to_string(),
        reason,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "there is no certificate in it".into()));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, e.to_string()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            let config = config.with_no_client_auth();
            config.with_single_cert(chain, key_der)
        })
        .map_err(|error| wrong(certificate, error.to_string()))?;
    Ok(Arc::new(config))
}
