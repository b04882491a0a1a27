//! The listeners with TLS: one port for pages, WebSockets and TURN, and for media if it is shared.
//!
//! In: connections to the addresses that are set. Out: streams for signaling and for the relay,
//! neither of which knows of certificates, or of the other. What a client wants is told by what it
//! says in the handshake (ALPN), or else by the first byte after it. On a shared port the first bytes
//! of a connection tell before that whether it is TLS at all: plain TURN and ICE-TCP go their ways.

mod acme;
mod automatic;
mod certificate;
mod listener;
mod opening;
mod source;
#[cfg(test)]
mod testing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) use automatic::Automatic;
use certificate::Certificate;
pub(crate) use listener::Behind;
pub(crate) use listener::Limits;
use listener::{ListenError, TlsListener};
pub(crate) use source::{Served, Source, is_for};

use crate::parts::Parts;

/// What one listener is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// Whether pages and signaling are behind it.
    pub(crate) http: bool,
    /// Whether the relay is.
    pub(crate) turn: bool,
    /// Whether TURN and media come in without TLS too.
    pub(crate) shared: bool,
    pub(crate) source: Source,
}

/// All listeners, which have their addresses.
#[derive(Debug)]
pub(crate) struct TlsListeners {
    listeners: Vec<(Plan, TlsListener)>,
    /// Each is there once, however many listeners show it.
    certificates: Vec<Arc<Certificate>>,
}

impl TlsListeners {
    /// Takes the addresses.
    ///
    /// # Errors
    /// When one cannot be had, or a certificate cannot be used.
    pub(crate) fn bind(plans: Vec<Plan>) -> Result<TlsListeners, ListenError> {
        let mut listeners = Vec::new();
        let mut certificates: Vec<Arc<Certificate>> = Vec::new();
        for plan in plans {
            let known = certificates.iter().find(|c| *c.source() == plan.source);
            let certificate = match known {
                Some(known) => known.clone(),
                None => {
                    let new = Arc::new(Certificate::new(plan.source.clone())?);
                    certificates.push(new.clone());
                    new
                }
            };
            let listener = TlsListener::bind(&plan, certificate)?;
            listeners.push((plan, listener));
        }
        Ok(TlsListeners {
            listeners,
            certificates,
        })
    }

    /// Where pages are served.
    pub(crate) fn http(&self) -> Vec<SocketAddr> {
        self.addresses(|plan| plan.http)
    }

    /// Where TURN is served.
    pub(crate) fn turn(&self) -> Vec<SocketAddr> {
        self.addresses(|plan| plan.turn)
    }

    fn addresses(&self, is_one: fn(&Plan) -> bool) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter().filter(|(plan, _)| is_one(plan));
        listeners.map(|(_, listener)| listener.address()).collect()
    }

    /// Tells metrics when the certificates run out.
    pub(crate) fn expiries(&self) -> Arc<Expiries> {
        let listeners = self.listeners.iter();
        Arc::new(Expiries(
            listeners
                .map(|(_, d)| (d.address(), d.certificate()))
                .collect(),
        ))
    }

    /// Lets clients through, in tasks of their own.
    pub(crate) fn open(self, all: &Behind, limits: &Limits, parts: &mut Parts) {
        for certificate in self.certificates {
            parts.add("the watch over a certificate", async move {
                certificate.keep().await;
                // One that does not change needs none.
                std::future::pending().await
            });
        }
        for (plan, listener) in self.listeners {
            let address = listener.address();
            let behind = all.clone().only(&plan);
            let Plan {
                http, turn, shared, ..
            } = plan;
            tracing::info!(%address, http, turn, shared, "TLS listens");
            if matches!(plan.source, Source::SelfSigned(_)) {
                tracing::warn!(
                    %address,
                    "the certificate is self-signed, so browsers warn of it and take it for pages \
                     once you tell them to, and never for TURN; for real use, set \
                     http.acme_domains to your host name, or http.tls_certificate and http.tls_key \
                     to a certificate for it"
                );
            }
            let limits = limits.clone();
            parts.add_fallible("TLS", listener.open(behind, limits));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Expiries(Vec<(SocketAddr, Arc<Certificate>)>);

impl Expiries {
    /// Has each look for a newer one now.
    pub(crate) fn look_again(&self) {
        for (_, certificate) in &self.0 {
            certificate.look_again();
        }
    }
}

impl confab_signaling::Certificates for Expiries {
    fn expiries(&self) -> Vec<(SocketAddr, SystemTime)> {
        let listeners = self.0.iter();
        listeners
            .map(|(at, certificate)| (*at, certificate.expiry()))
            .collect()
    }

    fn name(&self, host: &str) -> bool {
        let mut listeners = self.0.iter();
        listeners.any(|(_, certificate)| certificate.current().names(host))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

    use confab_signaling::Certificates;

    use super::*;

    #[test]
    fn doors_are_called_what_their_certificates_are_for() {
        let files = testing::Files::new("named");
        let files = Arc::new(Certificate::new(files.source()).unwrap());
        let names = ["*.example.org", "192.0.2.1"].map(String::from).into();
        let made = Arc::new(Certificate::new(Source::SelfSigned(names)).unwrap());
        let at: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let shown = Expiries(vec![(at, files), (at, made)]);
        for (host, is_named) in [
            ("localhost", true),
            ("call.example.org", true),
            ("CALL.example.org", true),
            ("192.0.2.1", true),
            ("example.org", false),
            ("evil.org", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(shown.name(host), is_named, "{host}");
        }
    }
}
